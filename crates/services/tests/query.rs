//! The query manager as a service: against real nodes, with the parties' own doctors, patients and
//! agents; across restarts, absent nodes and bounds.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test, which plays patient and doctor"
)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::served::{BOUND, with_nodes};
use crate::storage;
use client::{
    AnswerKind, Base64, CallHead, ClientError, ConsortiumClient, DoctorNote, Endpoint, Hex,
    IdempotencyKey, InboxChange, Problem, QueryClient, RequestEntry, RequestEvent, RequestState,
    RequestStatus, SendRequest, ServiceClient, ServiceName, ShortCode, SignedCall, SystemRandom,
    now,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use ledger::testing::{FourHospitals, rng};
use ledger::{KeyHash, Transaction};
use parties::{
    AnswerNote, CentreKeys, Certificate, Decision, Doctor, FamilyAgent, Patient, Reader,
    RegistrationCentre, RequestTerms, SealedNote, ServingNodes, UnsignedRequest, VerifiedRequest,
};
use rand_core::Rng;
use scheme::{
    ClassCode, ConsortiumId, DoctorId, HpkePrivateKey, InboxHandle, InstitutionId, KeyVersion,
    Keyword, RootSeed, SigningKey, Threshold, Timestamp, Uid, sha256,
};
use services::{QueryBounds, QueryConfig, QueryService, Server, serve_query};
use tokio::task::JoinHandle;

const IMAGING: ClassCode = ClassCode::new(5);
const HOUR_MS: u64 = 60 * 60 * 1000;
const PURPOSE: &str = "acute stroke, thrombectomy decision";
/// What comes at once comes well before a stream looks for itself.
const AT_ONCE: Duration = Duration::from_secs(5);

fn later(milliseconds: u64) -> Timestamp {
    Timestamp::new(now().number() + milliseconds)
}

/// Each reader has keys of its own.
static READERS: AtomicU64 = AtomicU64::new(0);

/// A query manager that runs.
struct Running {
    base: String,
    consortium: ConsortiumId,
    service: Arc<QueryService>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(
        hospitals: &FourHospitals,
        nodes: &BTreeMap<InstitutionId, String>,
        file: &Path,
        config: QueryConfig,
    ) -> Self {
        let records = storage::records(file);
        let nodes = ConsortiumClient::on_loopback(&hospitals.genesis, nodes).unwrap();
        let service = QueryService::open(config, &hospitals.genesis, &records, nodes);
        let service = Arc::new(service.await.unwrap());
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), None).await;
        let server = server.unwrap();
        let base = format!("http://{}", server.address().unwrap());
        let serving = serve_query(Arc::clone(&service), server, std::future::pending());
        Self {
            base,
            consortium: hospitals.consortium,
            service,
            task: tokio::spawn(serving),
        }
    }

    /// Ends it at once, whatever it is doing.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        // Nobody else can open the file while this process has it open.
        self.service.close().await;
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::new(ServiceName::Query, &self.base, None, None).unwrap()
    }

    fn calls(&self, key: &SigningKey) -> ServiceClient {
        ServiceClient::new(self.consortium, self.endpoint()).signing(key.clone())
    }

    fn client(&self, key: &SigningKey) -> QueryClient {
        QueryClient::new(self.calls(key))
    }
}

/// A certified doctor, with the key that signs the calls.
struct Enlisted {
    doctor: Doctor,
    certificate: Certificate,
    registration: Transaction,
}

impl Enlisted {
    fn new(hospitals: &FourHospitals, id: u64, institution: u32) -> Self {
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        let here = hospitals.consortium;
        let mut centre = RegistrationCentre::new(here, hospitals.centre.clone(), year);
        let mut rng = rng("enlisted", id);
        let key = centre.verifying_key();
        let institution = InstitutionId::new(institution);
        let doctor = Doctor::new(
            here,
            CentreKeys::founding(key),
            DoctorId::new(id),
            institution,
            &mut rng,
        );
        let subject = centre.begin_enrolment();
        let proof = doctor.prove_possession(subject);
        let enrolled = centre.certify_doctor(subject, *doctor.public_keys(), &proof, now());
        let enrolled = enrolled.unwrap();
        Self {
            doctor,
            certificate: enrolled.certificate,
            registration: enrolled.registration,
        }
    }

    fn reader(&self, hospitals: &FourHospitals) -> Reader {
        Reader::new(
            hospitals.consortium,
            CentreKeys::founding(hospitals.centre.verifying_key()),
            self.certificate.clone(),
            1,
            &mut rng("reader's keys", READERS.fetch_add(1, Ordering::Relaxed)),
        )
    }

    fn ask(
        &self,
        hospitals: &FourHospitals,
        (handle, salt): (InboxHandle, [u8; 16]),
        life_ms: u64,
    ) -> (Reader, VerifiedRequest) {
        let reader = self.reader(hospitals);
        let at = now();
        let terms = RequestTerms {
            institution: self.doctor.public_keys().institution,
            inbox: handle.commit(&hospitals.consortium, &salt),
            classes: vec![IMAGING],
            purpose: PURPOSE.into(),
            nonce: *sha256(reader.member().access_keys[0].as_bytes()).as_bytes(),
            time: at,
            not_after: Timestamp::new(at.number() + life_ms),
        };
        let request = reader.request(&self.doctor, terms, at).unwrap();
        (reader, request)
    }
}

fn patient(hospitals: &FourHospitals, number: u64) -> Patient {
    let centre = hospitals.centre.verifying_key();
    let seed = RootSeed::from_bytes([number as u8; 32]);
    let mut rng = rng("a patient's device", number);
    Patient::new(
        hospitals.consortium,
        CentreKeys::founding(centre),
        &seed,
        KeyVersion::new(0),
        &mut rng,
    )
}

/// A bare HTTP client.
fn http() -> reqwest::Client {
    // Where the library was built for no one TLS provider, it wants to be given one.
    let _ = client::provider().as_ref().clone().install_default();
    reqwest::Client::new()
}

/// Addresses where nothing listens.
fn nobody() -> BTreeMap<InstitutionId, String> {
    (1..=4)
        .map(|number| {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            (InstitutionId::new(number), format!("http://{address}"))
        })
        .collect()
}

/// Passes everything on to a node, at an address that was chosen before.
async fn pass_on(at: SocketAddr, to: String) {
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    let http = http();
    let router = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let (http, to) = (http.clone(), to.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let url = format!("{to}{}", parts.uri);
            let sent = http.request(parts.method, url).body(body).send().await;
            let response = sent.unwrap();
            let status = response.status().as_u16();
            let status = axum::http::StatusCode::from_u16(status).unwrap();
            (status, response.bytes().await.unwrap())
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
}

type Events<T> = BoxStream<'static, Result<T, ClientError>>;

async fn next<T>(events: &mut Events<T>) -> T {
    let event = tokio::time::timeout(AT_ONCE, events.next()).await;
    event.expect("it comes at once").unwrap().unwrap()
}

async fn until_state(
    doctor: &QueryClient,
    request: &VerifiedRequest,
    state: RequestState,
) -> Vec<RequestEvent> {
    let mut seen = Vec::new();
    let take = |event: RequestEvent| {
        let found = event.state == state;
        seen.push(event);
        if found {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let followed = doctor.follow(request.commitment(), 0, BOUND, take).await;
    followed.unwrap();
    assert_eq!(seen.last().unwrap().state, state, "{seen:?}");
    let numbers: Vec<u64> = seen.iter().map(|event| event.number).collect();
    let expected: Vec<u64> = (1..=seen.len() as u64).collect();
    assert_eq!(numbers, expected, "no gap, nothing twice");
    seen
}

fn states(events: &[RequestEvent]) -> Vec<RequestState> {
    events.iter().map(|event| event.state).collect()
}

fn status_of<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> u16 {
    match answer {
        Err(ClientError::Refused(problem)) => {
            assert!(problem.detail().len() > 20, "{problem:?}");
            problem.status()
        }
        other => panic!("{other:?}"),
    }
}

/// Whether any of the database's files holds these bytes. What PostgreSQL keeps is for its operator to say.
fn held(file: &Path, what: &[u8]) -> bool {
    if storage::is_outside() {
        return false;
    }
    let folder = file.parent().unwrap();
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(what.len()).any(|window| window == what)
    })
}

async fn gone_from(file: &Path, what: &[u8]) {
    let gone = tokio::time::timeout(BOUND, async {
        while held(file, what) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    gone.await.expect("nothing of it is left in the files");
}

/// The path of the paper's interactions 5 to 11: asked, forwarded, collected, granted by a note that
/// the query manager cannot open, read by the doctor from the chain, revoked with another note.
#[test]
fn a_request_reaches_the_patient_and_the_grants_reach_the_doctor() {
    with_nodes(|served| async move {
        let hospitals = &served.hospitals;
        let here = hospitals.consortium;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("query.sqlite");
        let config = QueryConfig::default();
        let running = Running::start(hospitals, &served.bases, &file, config).await;
        let (asking, author) = (
            Enlisted::new(hospitals, 13, 1),
            Enlisted::new(hospitals, 11, 4),
        );
        let mut patient = patient(hospitals, 1);
        for transaction in [
            asking.registration.clone(),
            author.registration.clone(),
            hospitals.writer_epoch(4),
            hospitals.patient(1),
        ] {
            served.submit_to_all(&transaction).await;
        }

        // The patient's device opens its inbox, under a key that no other service sees.
        let account = patient.account_key("query");
        assert_ne!(
            account.verifying_key(),
            patient.account_key("centre").verifying_key()
        );
        let owner = running.client(&account);
        let (handle, salt) = patient.inbox();
        owner.open_inbox(handle, patient.inbox_key()).await.unwrap();
        let mut inbox_events = owner.inbox_events(0).await.unwrap();

        let (reader, request) = asking.ask(hospitals, (handle, salt), HOUR_MS);
        let id = request.commitment();
        let doctor = running.client(asking.doctor.signing());
        let sent = doctor.send(&request, handle, salt).await.unwrap();
        assert_eq!(sent.id.0, *id.digest().as_bytes());
        let mut events = doctor.request_events(id, 0).await.unwrap();
        assert_eq!(next(&mut events).await.state, RequestState::Queued);
        assert_eq!(next(&mut events).await.state, RequestState::Forwarded);
        let arrived = next(&mut inbox_events).await;
        assert_eq!(
            (arrived.id, arrived.change),
            (sent.id, InboxChange::Arrived)
        );
        gone_from(&file, PURPOSE.as_bytes()).await;

        // Sent again byte for byte it is the same one, and is not forwarded again.
        let again = doctor.send(&request, handle, salt).await.unwrap();
        assert_eq!(again.state, RequestState::Forwarded);

        // Nobody else learns that it exists: not another doctor, not another patient.
        let stranger = running.client(author.doctor.signing());
        assert_eq!(status_of(stranger.request(id, 0).await), 404);
        assert_eq!(
            status_of(stranger.request_events(id, 0).await.map(|_| ())),
            404
        );
        let answered = stranger.answer(id, AnswerKind::Declined, None, Vec::new());
        assert_eq!(status_of(answered.await), 404);
        assert_eq!(status_of(stranger.send(&request, handle, salt).await), 403);

        let content = owner.inbox().await.unwrap();
        assert_eq!(content.waiting.len(), 1);
        assert_eq!(next(&mut events).await.state, RequestState::Collected);
        let sealed = content.waiting[0].sealed.0.clone();
        let opened = patient.open_request(&sealed, now()).unwrap();
        assert_eq!(opened.as_bytes(), request.as_bytes());

        // The patient grants, and says which grant it is to the doctor alone.
        let agreed = served
            .client
            .agreed_key(KeyHash::from(author.doctor.public_keys().hpke.hash()));
        let agreed = agreed.await.unwrap().unwrap();
        let place = begin_episode(&mut patient, hospitals, &author, &agreed);
        let package = grant(&served.client, &mut patient, &opened, place).await;
        let note = AnswerNote::granted(&here, std::slice::from_ref(&package));
        let recipients = opened.note_recipients();
        let sealed_note = patient.seal_note(&note, &recipients, &mut rng("note", 0));
        let sealed_note = sealed_note.unwrap();
        let until = Some(package.entry.expiry);
        let foreign = SealedNote {
            doctor: author.doctor.public_keys().signing,
            sealed: vec![1],
        };
        let refused = owner.answer(id, AnswerKind::Answered, until, vec![foreign]);
        assert_eq!(status_of(refused.await), 422);
        let long = SealedNote {
            doctor: recipients.doctors[0].0,
            sealed: vec![1; 4 * 1024 + 1],
        };
        let refused = owner.answer(id, AnswerKind::Answered, until, vec![long]);
        assert_eq!(status_of(refused.await), 413);
        let begun = Instant::now();
        for _ in 0..2 {
            // Sent again since its answer was lost.
            let answer = owner.answer(id, AnswerKind::Answered, until, sealed_note.clone());
            assert_eq!(answer.await.unwrap().state, RequestState::Answered);
        }
        let answered = next(&mut events).await;
        assert!(begun.elapsed() < AT_ONCE);
        assert_eq!(answered.state, RequestState::Answered);
        let otherwise = owner.answer(id, AnswerKind::Declined, None, Vec::new());
        assert_eq!(status_of(otherwise.await), 409);
        assert!(owner.inbox().await.unwrap().waiting.is_empty());
        gone_from(&file, &sealed[..64]).await;

        // The doctor finds the grant that the note names, and believes the chain of it.
        let note = reader.open_note(id, &answered.note.unwrap().0).unwrap();
        let AnswerNote::Granted(gids) = note else {
            panic!("{note:?}");
        };
        let on_chain = served.client.agreed_grant(gids[0]).await.unwrap().unwrap();
        let ask = reader.ask_grant(gids[0], 0).unwrap();
        let open = |bytes: &[u8]| reader.open_grant(bytes, &request, &on_chain).ok();
        served.client.grant(&ask, open).await.unwrap();

        // Revoked: another note, sent twice and told once.
        let revoked = patient.revoke(&gids[0]).unwrap();
        served.submit_to_all(&revoked).await;
        let note = AnswerNote::Revoked(gids.clone());
        let sealed_note = patient.seal_note(&note, &recipients, &mut rng("note", 1));
        let sealed_note = sealed_note.unwrap();
        for _ in 0..2 {
            owner.add_notes(id, sealed_note.clone()).await.unwrap();
        }
        let told = next(&mut events).await;
        assert_eq!(told.state, RequestState::Note);
        assert_eq!(reader.open_note(id, &told.note.unwrap().0).unwrap(), note);

        // Who polls sees the same, from where it was.
        let status = doctor.request(id, 0).await.unwrap();
        assert_eq!(status.state, RequestState::Answered);
        use RequestState as S;
        let all = [S::Queued, S::Forwarded, S::Collected, S::Answered, S::Note];
        assert_eq!(states(&status.events), all);
        let status = doctor.request(id, 4).await.unwrap();
        assert_eq!(states(&status.events), [S::Note]);
        running.kill().await;
    });
}

fn begin_episode(
    patient: &mut Patient,
    hospitals: &FourHospitals,
    author: &Enlisted,
    agreed: &parties::AgreedKey,
) -> parties::EpisodePlace {
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    let mut centre = RegistrationCentre::new(hospitals.consortium, hospitals.centre.clone(), year);
    let subject = centre.begin_enrolment();
    let enrolled = centre
        .certify_patient(patient.enrol(subject), now())
        .unwrap();
    patient
        .accept_certificate(enrolled.certificate, now())
        .unwrap();
    let uid = Uid::new(b"P-7").unwrap();
    let rng = &mut rng("an episode", 0);
    let begun = patient.begin_episode(&author.certificate, agreed, uid, now(), rng);
    begun.unwrap().0
}

async fn grant(
    client: &ConsortiumClient,
    patient: &mut Patient,
    request: &VerifiedRequest,
    place: parties::EpisodePlace,
) -> parties::GrantPackage {
    let keys = tokio::time::timeout(BOUND, async {
        loop {
            let keys = client.node_keys().await.unwrap();
            if keys.keys.len() == 3 {
                return keys;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let keys = keys.await.unwrap();
    let epochs = client.writer_epochs(InstitutionId::new(4)).await.unwrap();
    let mut agreed = Vec::new();
    for hash in request.key_hashes() {
        agreed.extend(client.agreed_key(hash).await.unwrap());
    }
    let decision = Decision {
        episode: place,
        classes: vec![IMAGING],
        keywords: vec![Keyword::any_record()],
        not_before: now(),
        expiry: later(2 * HOUR_MS),
        threshold: Threshold::new(2).unwrap(),
    };
    let nodes = ServingNodes {
        set: &client.nodes(),
        keys: &keys,
    };
    let rng = &mut rng("a grant", 0);
    let packages = patient.answer(request, &[decision], &agreed, &[epochs], &nodes, rng);
    let package = packages.unwrap().remove(0);
    client.give(&package, 2, BOUND).await.unwrap();
    package
}

/// A query manager that is killed keeps what it took; one that reaches no node keeps it queued and goes
/// on when they answer; a doctor whose key is not in force is refused with the reason.
#[test]
fn what_was_taken_survives_absent_nodes_and_a_kill() {
    with_nodes(|served| async move {
        let hospitals = &served.hospitals;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("query.sqlite");
        let away = nobody();
        let config = QueryConfig {
            verify_again: Duration::from_millis(200),
            ..QueryConfig::default()
        };
        let running = Running::start(hospitals, &away, &file, config.clone()).await;
        let asking = Enlisted::new(hospitals, 13, 1);
        let unknown = Enlisted::new(hospitals, 14, 1);
        let registration = &asking.registration;
        served.submit_to_all(registration).await;
        let patient = patient(hospitals, 2);
        let account = patient.account_key("query");
        let owner = running.client(&account);
        let (handle, salt) = patient.inbox();
        owner.open_inbox(handle, patient.inbox_key()).await.unwrap();
        let (_, request) = asking.ask(hospitals, (handle, salt), HOUR_MS);
        let (_, hopeless) = unknown.ask(hospitals, (handle, salt), HOUR_MS);
        let (_, short) = asking.ask(hospitals, (handle, salt), 1_500);
        let doctor = running.client(asking.doctor.signing());
        for request in [&request, &short] {
            let sent = doctor.send(request, handle, salt).await.unwrap();
            assert_eq!(sent.state, RequestState::Queued);
        }
        let sent = running.client(unknown.doctor.signing());
        sent.send(&hopeless, handle, salt).await.unwrap();
        // One that is not verified in time expires, and nothing of it was forwarded.
        let seen = until_state(&doctor, &short, RequestState::Expired).await;
        assert_eq!(states(&seen), [RequestState::Queued, RequestState::Expired]);
        assert!(owner.inbox().await.unwrap().waiting.is_empty());
        running.kill().await;

        // Started again, with nodes that come back only now.
        let running = Running::start(hospitals, &away, &file, config).await;
        let doctor = running.client(asking.doctor.signing());
        let status = doctor.request(request.commitment(), 0).await.unwrap();
        assert_eq!(status.state, RequestState::Queued);
        for (id, base) in &away {
            let at = base.strip_prefix("http://").unwrap().parse().unwrap();
            pass_on(at, served.bases[id].clone()).await;
        }
        until_state(&doctor, &request, RequestState::Forwarded).await;
        let refused = running.client(unknown.doctor.signing());
        let seen = until_state(&refused, &hopeless, RequestState::Refused).await;
        let reason = seen.last().unwrap().reason.clone().unwrap();
        assert!(reason.contains("not in force"), "{reason}");
        let content = running.client(&account).inbox().await.unwrap();
        assert_eq!(content.waiting.len(), 1);
        let sealed = content.waiting[0].sealed.0.clone();
        let opened = patient.open_request(&sealed, now()).unwrap();
        assert_eq!(opened.as_bytes(), request.as_bytes());
        running.kill().await;
    });
}

/// Reminders, then the agent, across a restart; the agent answers what was asked of the patient; what
/// nobody answers expires, and a while after its end nothing is left of it.
#[test]
fn the_patient_is_reminded_then_the_agent_is_asked_then_it_expires() {
    with_nodes(|served| async move {
        let hospitals = &served.hospitals;
        let here = hospitals.consortium;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("query.sqlite");
        let config = QueryConfig {
            remind_after: Duration::from_millis(300),
            agent_after: Duration::from_millis(1_500),
            linger: Duration::from_millis(1_500),
            ..QueryConfig::default()
        };
        let running = Running::start(hospitals, &served.bases, &file, config.clone()).await;
        let (asking, author) = (
            Enlisted::new(hospitals, 13, 1),
            Enlisted::new(hospitals, 11, 4),
        );
        for transaction in [&asking.registration, &author.registration] {
            served.submit_to_all(transaction).await;
        }
        let mut patient = patient(hospitals, 3);
        let agent = FamilyAgent::new(
            here,
            CentreKeys::founding(hospitals.centre.verifying_key()),
            &mut rng("agent", 0),
        );
        let agreed = served
            .client
            .agreed_key(KeyHash::from(author.doctor.public_keys().hpke.hash()));
        let place = begin_episode(
            &mut patient,
            hospitals,
            &author,
            &agreed.await.unwrap().unwrap(),
        );
        let epochs = parties::AgreedWriterEpochs {
            institution: InstitutionId::new(4),
            epochs: Vec::new(),
        };
        let (_, sealed) = patient
            .appoint(
                place,
                &agent.offer(),
                &[IMAGING],
                later(HOUR_MS),
                &epochs,
                &mut rng("appointed", 0),
            )
            .unwrap();
        let appointed = agent.accept(&sealed).unwrap();

        let account = patient.account_key("query");
        let agents_key = SigningKey::random(&mut rng("agent's account", 0));
        let (owner, agents) = (running.client(&account), running.client(&agents_key));
        let (handle, salt) = patient.inbox();
        let agents_handle = appointed.inbox().0;
        owner.open_inbox(handle, patient.inbox_key()).await.unwrap();
        // An agent whose inbox is not open cannot be named.
        assert_eq!(
            status_of(owner.name_agent(handle, agents_handle).await),
            404
        );
        agents
            .open_inbox(agents_handle, appointed.inbox_key())
            .await
            .unwrap();
        assert_eq!(
            status_of(agents.name_agent(handle, agents_handle).await),
            404
        );
        let named = owner.name_agent(handle, agents_handle).await.unwrap();
        assert_eq!(named.agent, Some(Hex(*agents_handle.as_bytes())));

        // The agent tells the patient what it did; nobody else can, and it is the patient's alone.
        assert_eq!(status_of(owner.tell_act(agents_handle, vec![1]).await), 404);
        let stranger = SigningKey::random(&mut rng("a stranger's account", 0));
        let stranger = running.client(&stranger);
        assert_eq!(status_of(stranger.tell_act(handle, vec![1]).await), 404);
        assert_eq!(status_of(agents.tell_act(handle, vec![]).await), 413);
        assert_eq!(
            status_of(agents.tell_act(handle, vec![1; 4_097]).await),
            413
        );
        for _ in 0..2 {
            agents.tell_act(handle, vec![1, 2, 3]).await.unwrap();
        }
        let told = owner.acts().await.unwrap();
        assert_eq!(told.len(), 1, "the same act counts once");
        assert_eq!(told[0].sealed.0, [1, 2, 3]);
        assert!(agents.acts().await.unwrap().is_empty());
        agents.remove_act(told[0].id).await.unwrap();
        assert_eq!(
            owner.acts().await.unwrap().len(),
            1,
            "it is not the agent's to remove"
        );
        owner.remove_act(told[0].id).await.unwrap();
        assert!(owner.acts().await.unwrap().is_empty());
        for number in 0..64_u8 {
            agents.tell_act(handle, vec![number]).await.unwrap();
        }
        assert_eq!(status_of(agents.tell_act(handle, vec![99]).await), 429);

        let (_, request) = asking.ask(hospitals, (handle, salt), HOUR_MS);
        let doctor = running.client(asking.doctor.signing());
        doctor.send(&request, handle, salt).await.unwrap();
        until_state(&doctor, &request, RequestState::Reminded).await;
        assert!(
            agents.inbox().await.unwrap().waiting.is_empty(),
            "not yet the agent's"
        );
        let unanswered =
            agents.answer(request.commitment(), AnswerKind::Declined, None, Vec::new());
        assert_eq!(status_of(unanswered.await), 404);
        running.kill().await;

        let running = Running::start(hospitals, &served.bases, &file, config).await;
        let doctor = running.client(asking.doctor.signing());
        let (owner, agents) = (running.client(&account), running.client(&agents_key));
        let seen = until_state(&doctor, &request, RequestState::WithAgent).await;
        let reminders = states(&seen);
        let reminders = reminders
            .iter()
            .filter(|state| **state == RequestState::Reminded);
        assert!(reminders.count() <= 3);
        let mut told = owner.inbox_events(0).await.unwrap();
        assert_eq!(next(&mut told).await.change, InboxChange::Arrived);
        assert_eq!(next(&mut told).await.change, InboxChange::Reminder);

        // The agent opens what commits to the patient's inbox, and its answer ends it for both.
        let content = agents.inbox().await.unwrap();
        let opened = appointed
            .open_request(&content.waiting[0].sealed.0, now())
            .unwrap();
        assert_eq!(opened.as_bytes(), request.as_bytes());
        let declined = agents.answer(request.commitment(), AnswerKind::Declined, None, Vec::new());
        declined.await.unwrap();
        until_state(&doctor, &request, RequestState::Declined).await;
        let late = owner.answer(request.commitment(), AnswerKind::Answered, None, Vec::new());
        assert_eq!(status_of(late.await), 404);
        assert!(owner.inbox().await.unwrap().waiting.is_empty());
        let nothing = agents.add_notes(request.commitment(), Vec::new());
        assert_eq!(status_of(nothing.await), 404);

        // Without an answer: expired, and then nothing.
        owner.remove_agent(handle).await.unwrap();
        let (_, request) = asking.ask(hospitals, (handle, salt), 2_500);
        doctor.send(&request, handle, salt).await.unwrap();
        until_state(&doctor, &request, RequestState::Forwarded).await;
        let sealed = owner.inbox().await.unwrap().waiting[0].sealed.0.clone();
        let seen = until_state(&doctor, &request, RequestState::Expired).await;
        assert!(!states(&seen).contains(&RequestState::WithAgent));
        let late = owner.answer(request.commitment(), AnswerKind::Answered, None, Vec::new());
        assert_eq!(status_of(late.await), 404);
        gone_from(&file, &sealed[..64]).await;
        let forgotten = tokio::time::timeout(BOUND, async {
            while doctor.request(request.commitment(), 0).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        forgotten.await.unwrap();
        gone_from(&file, request.commitment().digest().as_bytes()).await;
        assert_eq!(
            status_of(doctor.request(request.commitment(), 0).await),
            404
        );
        // Played again it is out of its time.
        assert_eq!(status_of(doctor.send(&request, handle, salt).await), 422);
        running.kill().await;
    });
}

/// What needs no chain: who may open, replace and close which inbox.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_is_its_owners() {
    let hospitals = FourHospitals::default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("query.sqlite");
    let running = Running::start(&hospitals, &nobody(), &file, QueryConfig::default()).await;
    let [one, other] = [0, 1].map(|number| SigningKey::random(&mut rng("owner", number)));
    let handle = |byte: u8| InboxHandle::new([byte; 16]);
    let key = |byte: u8| HpkePrivateKey::derive(&[byte; 32]).public_key();
    let (owner, stranger) = (running.client(&one), running.client(&other));

    let opened = owner.open_inbox(handle(1), key(1)).await.unwrap();
    assert_eq!(owner.open_inbox(handle(1), key(1)).await.unwrap(), opened);
    assert_eq!(status_of(stranger.open_inbox(handle(1), key(2)).await), 409);
    let replaced = owner.open_inbox(handle(1), key(3)).await.unwrap();
    assert_eq!(replaced.key, Hex(*key(3).as_bytes()));
    // Of small order: what is sealed to it would be open to everyone.
    let weak = scheme::HpkePublicKey::new([0; 32]);
    assert_eq!(status_of(owner.open_inbox(handle(2), weak).await), 422);
    assert_eq!(status_of(stranger.close_inbox(handle(1)).await), 404);
    owner.close_inbox(handle(1)).await.unwrap();
    owner.close_inbox(handle(1)).await.unwrap();
    assert!(owner.inbox().await.unwrap().inboxes.is_empty());
    // Doctors still have the handle: nobody else gets what they send there.
    assert_eq!(status_of(stranger.open_inbox(handle(1), key(2)).await), 409);
    owner.open_inbox(handle(1), key(1)).await.unwrap();
    // The story: who had a patient's former keys opened the patient's former inbox again.
    assert_eq!(status_of(stranger.retire_inbox(handle(1)).await), 404);
    owner.retire_inbox(handle(1)).await.unwrap();
    owner.retire_inbox(handle(1)).await.unwrap();
    owner.close_inbox(handle(1)).await.unwrap();
    assert_eq!(status_of(owner.open_inbox(handle(1), key(1)).await), 409);
    assert!(owner.inbox().await.unwrap().inboxes.is_empty());
    owner.open_inbox(handle(9), key(1)).await.unwrap();

    for number in 2..=4 {
        owner.open_inbox(handle(number), key(1)).await.unwrap();
    }
    assert_eq!(status_of(owner.open_inbox(handle(5), key(1)).await), 429);
    owner.close_inbox(handle(4)).await.unwrap();
    owner.open_inbox(handle(5), key(1)).await.unwrap();
    assert_eq!(status_of(owner.open_inbox(handle(4), key(1)).await), 429);
    assert_eq!(owner.inbox().await.unwrap().inboxes.len(), 4);
    running.kill().await;
}

/// A short code leads whoever is told it to the inbox, for as long as the patient wants; nobody makes one for
/// another's inbox or guesses them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_guess_short_codes_or_make_one_for_anothers_inbox() {
    let hospitals = FourHospitals::default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("query.sqlite");
    let running = Running::start(&hospitals, &nobody(), &file, QueryConfig::default()).await;
    let [one, other] = [0, 1].map(|number| SigningKey::random(&mut rng("owner", number)));
    let (owner, doctor) = (running.client(&one), running.client(&other));
    let (handle, salt) = (InboxHandle::new([1; 16]), [2; 16]);
    let key = HpkePrivateKey::derive(&[1; 32]).public_key();
    assert_eq!(status_of(owner.short_code((handle, salt)).await), 404);
    owner.open_inbox(handle, key).await.unwrap();
    assert_eq!(status_of(doctor.short_code((handle, salt)).await), 404);
    let given = owner.short_code((handle, salt)).await.unwrap();
    let minutes = (given.until - now().number()) / 60_000;
    assert!((8..=10).contains(&minutes), "{minutes}");
    let code = ShortCode::parse(&given.code).unwrap();
    assert_eq!(doctor.inbox_of(code).await.unwrap(), (handle, salt));
    // The next one counts alone, and none of a closed inbox.
    let next = owner.short_code((handle, salt)).await.unwrap();
    assert_eq!(status_of(doctor.inbox_of(code).await), 404);
    let code = ShortCode::parse(&next.code).unwrap();
    assert_eq!(doctor.inbox_of(code).await.unwrap(), (handle, salt));
    owner.close_inbox(handle).await.unwrap();
    assert_eq!(status_of(doctor.inbox_of(code).await), 404);
    // Who guesses is stopped long before a guess could meet one.
    let mut guesses = 0;
    loop {
        let guess = ShortCode::random(&mut SystemRandom);
        match status_of(doctor.inbox_of(guess).await) {
            404 => guesses += 1,
            status => break assert_eq!(status, 429),
        }
        assert!(guesses < 100, "nobody stops it");
    }
    assert!(!held(&file, &[2; 16]), "the salt is kept nowhere");
    running.kill().await;
}

/// What waits in an inbox that is closed is refused, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_inbox_refuses_what_waits_in_it() {
    let hospitals = FourHospitals::default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("query.sqlite");
    let running = Running::start(&hospitals, &nobody(), &file, QueryConfig::default()).await;
    let asking = Enlisted::new(&hospitals, 13, 1);
    let patient = patient(&hospitals, 4);
    let owner = running.client(&patient.account_key("query"));
    let (handle, salt) = patient.inbox();
    owner.open_inbox(handle, patient.inbox_key()).await.unwrap();
    let (_, request) = asking.ask(&hospitals, (handle, salt), HOUR_MS);
    let doctor = running.client(asking.doctor.signing());
    doctor.send(&request, handle, salt).await.unwrap();
    let mut events = doctor
        .request_events(request.commitment(), 1)
        .await
        .unwrap();
    owner.close_inbox(handle).await.unwrap();
    let refused = next(&mut events).await;
    assert_eq!((refused.number, refused.state), (2, RequestState::Refused));
    assert!(refused.reason.unwrap().contains("closed"));
    assert!(events.next().await.is_none(), "nothing follows");
    gone_from(&file, PURPOSE.as_bytes()).await;
    let (_, another) = asking.ask(&hospitals, (handle, salt), HOUR_MS);
    assert_eq!(status_of(doctor.send(&another, handle, salt).await), 404);
    running.kill().await;
}

/// A request that does not stand, each time for one reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_does_not_stand_is_not_taken() {
    let hospitals = FourHospitals::default();
    let here = hospitals.consortium;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("query.sqlite");
    let running = Running::start(&hospitals, &nobody(), &file, QueryConfig::default()).await;
    let (asking, colleague) = (
        Enlisted::new(&hospitals, 13, 1),
        Enlisted::new(&hospitals, 14, 1),
    );
    let patient = patient(&hospitals, 5);
    let owner = running.client(&patient.account_key("query"));
    let (handle, salt) = patient.inbox();
    owner.open_inbox(handle, patient.inbox_key()).await.unwrap();
    let doctor = running.client(asking.doctor.signing());
    let calls = running.calls(asking.doctor.signing());
    let (_, request) = asking.ask(&hospitals, (handle, salt), HOUR_MS);
    let send = |bytes: &[u8], handle: InboxHandle, salt: [u8; 16]| {
        let body = SendRequest {
            request: Base64(bytes.to_vec()),
            handle: Hex(*handle.as_bytes()),
            salt: Hex(salt),
        };
        let calls = calls.clone();
        async move {
            let key = IdempotencyKey::random();
            let sent = calls.post::<RequestEntry>("/v1/requests", &body, &key);
            status_of(sent.await)
        }
    };
    let bytes = request.as_bytes();
    assert_eq!(send(&bytes[1..], handle, salt).await, 400);
    let longer = [bytes, &[0]].concat();
    assert_eq!(send(&longer, handle, salt).await, 400);
    let mut forged = bytes.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(send(&forged, handle, salt).await, 422);
    assert_eq!(send(bytes, handle, [9; 16]).await, 404);
    assert_eq!(send(bytes, InboxHandle::new([9; 16]), salt).await, 404);

    // For an inbox that nobody opened.
    let elsewhere = (InboxHandle::new([8; 16]), salt);
    let (_, lost) = asking.ask(&hospitals, elsewhere, HOUR_MS);
    assert_eq!(send(lost.as_bytes(), elsewhere.0, salt).await, 404);

    // Of an hour ago, and of the future.
    let at = |time: Timestamp| {
        let terms = RequestTerms {
            institution: InstitutionId::new(1),
            inbox: handle.commit(&here, &salt),
            classes: vec![IMAGING],
            purpose: PURPOSE.into(),
            nonce: [7; 32],
            time,
            not_after: Timestamp::new(time.number() + HOUR_MS / 2),
        };
        let member = asking.reader(&hospitals).member();
        let unsigned = UnsignedRequest::new(terms, vec![member]).unwrap();
        let signature = unsigned.sign(&here, asking.doctor.signing());
        unsigned.complete(vec![signature]).unwrap().encode()
    };
    let hour_ago = Timestamp::new(now().number() - HOUR_MS);
    assert_eq!(send(&at(hour_ago), handle, salt).await, 422);
    assert_eq!(send(&at(later(30_000)), handle, salt).await, 422);
    assert_eq!(send(&at(later(HOUR_MS)), handle, salt).await, 422);

    // A team's request is any member's to send and to follow, and nobody else's.
    let terms = request.terms().clone();
    let members = [&asking, &colleague].map(|one| one.reader(&hospitals).member());
    let unsigned = UnsignedRequest::new(terms, members.to_vec()).unwrap();
    let signatures = [&asking, &colleague].map(|one| unsigned.sign(&here, one.doctor.signing()));
    let centre = hospitals.centre.verifying_key();
    let team = unsigned.complete(signatures.to_vec()).unwrap();
    let team = team
        .verify(&here, &CentreKeys::founding(centre), now())
        .unwrap();
    let second = running.client(colleague.doctor.signing());
    second.send(&team, handle, salt).await.unwrap();
    doctor.send(&team, handle, salt).await.unwrap();
    assert!(doctor.request(team.commitment(), 0).await.is_ok());
    let third = Enlisted::new(&hospitals, 15, 1);
    let third = running.client(third.doctor.signing());
    assert_eq!(status_of(third.request(team.commitment(), 0).await), 404);
    running.kill().await;
}

/// Above each bound: refused with the reason, and nothing that was taken is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_hold() {
    let hospitals = FourHospitals::default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("query.sqlite");
    let config = QueryConfig {
        bounds: QueryBounds {
            waiting_per_inbox: 2,
            requests_per_doctor_day: 3,
            queued: 4,
            handles_per_key: 2,
            inboxes: 4,
            ..QueryBounds::default()
        },
        ..QueryConfig::default()
    };
    let running = Running::start(&hospitals, &nobody(), &file, config).await;
    let mut inboxes = Vec::new();
    for number in 6..=8 {
        let patient = patient(&hospitals, number);
        let owner = running.client(&patient.account_key("query"));
        owner
            .open_inbox(patient.inbox().0, patient.inbox_key())
            .await
            .unwrap();
        inboxes.push(patient.inbox());
    }
    let asking: Vec<_> = (20..=23)
        .map(|id| Enlisted::new(&hospitals, id, 1))
        .collect();
    let send = async |doctor: usize, inbox: usize| {
        let (_, request) = asking[doctor].ask(&hospitals, inboxes[inbox], HOUR_MS);
        let (handle, salt) = inboxes[inbox];
        let http = http_send(
            &running,
            asking[doctor].doctor.signing(),
            &request,
            handle,
            salt,
        );
        http.await
    };
    assert_eq!(send(0, 0).await, 202);
    assert_eq!(send(0, 0).await, 202);
    assert_eq!(send(0, 0).await, 429, "the inbox");
    assert_eq!(send(0, 1).await, 202);
    assert_eq!(send(0, 1).await, 429, "the doctor's day");
    assert_eq!(send(1, 1).await, 202);
    assert_eq!(send(1, 2).await, 503, "the queue");

    let key = SigningKey::random(&mut rng("owner", 9));
    let owner = running.client(&key);
    let inbox_key = HpkePrivateKey::derive(&[1; 32]).public_key();
    let handle = |byte: u8| InboxHandle::new([byte; 16]);
    owner.open_inbox(handle(1), inbox_key).await.unwrap();
    assert_eq!(status_of(owner.open_inbox(handle(2), inbox_key).await), 507);
    // Streams, of one key.
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(owner.inbox_events(0).await.unwrap());
    }
    let crowded = owner.inbox_events(0).await.map(|_| ());
    assert!(matches!(&crowded, Err(ClientError::Refused(problem)) if problem.status() == 429));
    streams.pop();
    let room = tokio::time::timeout(BOUND, async {
        while owner.inbox_events(0).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    room.await.expect("a stream that was closed makes room");
    running.kill().await;
}

/// One attempt, where the client would make several.
async fn http_send(
    running: &Running,
    key: &SigningKey,
    request: &VerifiedRequest,
    handle: InboxHandle,
    salt: [u8; 16],
) -> u16 {
    let body = serde_json::to_vec(&SendRequest {
        request: Base64(request.as_bytes().to_vec()),
        handle: Hex(*handle.as_bytes()),
        salt: Hex(salt),
    });
    let (status, _) = raw(running, key, "POST", "/v1/requests", body.unwrap()).await;
    status
}

/// A signed call as it stands, with its status and what came back.
async fn raw(
    running: &Running,
    key: &SigningKey,
    method: &str,
    target: &str,
    body: Vec<u8>,
) -> (u16, Vec<u8>) {
    let head = CallHead {
        service: ServiceName::Query,
        method,
        target,
        idempotency_key: "",
    };
    let mut nonce = [0; 16];
    SystemRandom.fill_bytes(&mut nonce);
    let call = SignedCall::sign(&running.consortium, key, &head, sha256(&body), now(), nonce);
    let response = http()
        .request(method.parse().unwrap(), format!("{}{target}", running.base))
        .header("Authorization", call.header())
        .header("Content-Type", "application/json")
        .body(body)
        .send()
        .await
        .unwrap();
    let status = response.status().as_u16();
    (status, response.bytes().await.unwrap().to_vec())
}

/// Calls that are not what a path takes, and records that cannot be reached: each a problem document.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_understood_is_refused_with_a_reason() {
    let hospitals = FourHospitals::default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("query.sqlite");
    let running = Running::start(&hospitals, &nobody(), &file, QueryConfig::default()).await;
    let key = SigningKey::random(&mut rng("owner", 0));
    let expect = async |method: &str, target: &str, body: &str, status: u16| {
        let (found, answer) = raw(&running, &key, method, target, body.into()).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(found, status, "{method} {target}: {text}");
        let problem: Problem = serde_json::from_slice(&answer).expect(&text);
        assert!(problem.detail().len() > 20, "{text}");
    };
    let id = "ab".repeat(32);
    let handle = "ab".repeat(16);
    let open = format!(r#"{{"handle":"{handle}","key":"{id}","more":1}}"#);
    expect("POST", "/v1/inboxes", &open, 400).await;
    expect("POST", "/v1/inboxes", "{", 400).await;
    expect("POST", "/v1/requests", &"x".repeat(128 * 1024 + 1), 413).await;
    let answer = format!("/v1/inbox/{id}/answer");
    expect("POST", &answer, r#"{"answer":"perhaps"}"#, 400).await;
    expect("POST", &answer, r#"{"answer":"declined"}"#, 404).await;
    expect("POST", &answer, &"x".repeat(256 * 1024), 413).await;
    expect("GET", "/v1/requests/ab", "", 404).await;
    expect("GET", &format!("/v1/requests/{id}?after=x"), "", 400).await;
    expect("GET", &format!("/v1/requests/{id}?before=1"), "", 400).await;
    expect("GET", &format!("/v1/requests/{id}"), "", 404).await;
    expect("DELETE", "/v1/inbox/agent", "", 400).await;
    expect("PATCH", "/v1/inbox", "", 405).await;
    expect("GET", "/v1/nothing", "", 404).await;
    let unsigned = ServiceClient::new(running.consortium, running.endpoint());
    assert_eq!(status_of(QueryClient::new(unsigned).inbox().await), 401);

    running.service.close().await;
    let open = format!(r#"{{"handle":"{handle}","key":"{id}"}}"#);
    expect("POST", "/v1/inboxes", &open, 503).await;
    expect("GET", "/v1/inbox", "", 503).await;
    running.kill().await;
}

/// A stream says that it lives, and ends when the service is stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_stream_is_kept_alive() {
    let hospitals = FourHospitals::default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("query.sqlite");
    let running = Running::start(&hospitals, &nobody(), &file, QueryConfig::default()).await;
    let key = SigningKey::random(&mut rng("owner", 0));
    let target = "/v1/inbox/events?after=0";
    let head = CallHead {
        service: ServiceName::Query,
        method: "GET",
        target,
        idempotency_key: "",
    };
    let call = SignedCall::sign(
        &running.consortium,
        &key,
        &head,
        sha256(b""),
        now(),
        [1; 16],
    );
    let response = http()
        .get(format!("{}{target}", running.base))
        .header("Authorization", call.header())
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut pieces = response.bytes_stream();
    let piece = tokio::time::timeout(Duration::from_secs(10), pieces.next()).await;
    let piece = piece
        .expect("a comment within ten seconds")
        .unwrap()
        .unwrap();
    assert!(piece.starts_with(b":"), "{piece:?}");
    running.kill().await;
}

#[test]
fn wire_types_refuse_unknown_fields() {
    let note = r#"{"doctor":"00","sealed":"","x":1}"#;
    assert!(serde_json::from_str::<DoctorNote>(note).is_err());
    let status = r#"{"id":"00","state":"queued","not_after":1,"events":[],"x":1}"#;
    assert!(serde_json::from_str::<RequestStatus>(status).is_err());
}
