//! The registration centre: enrolments from the device to the chain, across restarts, and what it
//! refuses.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test, which plays patient and doctor"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::served::{BOUND, Served, with_nodes};
use crate::storage;
use client::{
    Applicant, ApplicantKind, Base64, BeginEnrolment, BegunEnrolment, CallHead, CentreClient,
    ClientError, ConsortiumClient, Decided, Decider, DoctorApplicant, EncryptedDirectory, Endpoint,
    EnrolmentKeys, EnrolmentState, EnrolmentStatus, FindPatient, IdempotencyKey, Identity,
    OfficerClient, OfficersList, PickupCode, Problem, Reason, ServiceName, SignedCall,
    SystemRandom, now,
};
use futures::StreamExt;
use ledger::testing::FourHospitals;
use ledger::{KeyHash, Settings};
use parties::{CentreKeys, Doctor, Holder, Patient};
use scheme::{
    ConsortiumId, DoctorId, InstitutionId, KeyVersion, PatientKeys, RootSeed, SigningKey, Subject,
    Timestamp, sha256,
};
use services::{
    BackupError, BackupKeys, CentreConfig, CentreError, CentreService, DatabaseLocation,
    IdentityKey, Officer, Passphrase, Rates, Server, restore_centre, serve_centre,
};

const NAME: &str = "Ada Quimby-Threlkeld";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn officer_key(number: u8) -> SigningKey {
    SigningKey::from_seed([0x0f ^ number; 32])
}

fn config(hospitals: &FourHospitals) -> CentreConfig {
    let identity_key = IdentityKey::from_bytes([0x1d; 32]);
    let mut config =
        CentreConfig::new(hospitals.consortium, hospitals.centre.clone(), identity_key);
    config.officers = (1..=2)
        .map(|number| Officer {
            name: format!("officer {number}"),
            key: officer_key(number).verifying_key(),
        })
        .collect();
    let often = Rates {
        burst: 1_000,
        interval: Duration::from_millis(1),
    };
    (config.calls, config.enrolments) = (often, often);
    config
}

/// A centre that runs.
struct Running {
    service: Arc<CentreService>,
    consortium: ConsortiumId,
    address: SocketAddr,
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start(
        config: CentreConfig,
        location: &DatabaseLocation,
        chain: ConsortiumClient,
    ) -> Self {
        let consortium = config.consortium;
        let service = CentreService::open(config, location, Arc::new(chain))
            .await
            .unwrap();
        let service = Arc::new(service);
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), None)
            .await
            .unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(serve_centre(Arc::clone(&service), server, async move {
            let _ = stopped.await;
        }));
        Self {
            service,
            consortium,
            address,
            stop,
            task,
        }
    }

    fn endpoint(&self) -> Endpoint {
        let address = format!("http://{}", self.address);
        Endpoint::new(ServiceName::Centre, &address, None, None).unwrap()
    }

    fn user(&self, account: &SigningKey) -> CentreClient {
        CentreClient::new(self.consortium, self.endpoint(), account.clone())
    }

    fn officer(&self, number: u8) -> OfficerClient {
        OfficerClient::new(self.consortium, self.endpoint(), officer_key(number))
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
        self.service.close().await;
    }

    /// A call made by hand: its Authorization header.
    fn header(
        &self,
        key: &SigningKey,
        method: &str,
        target: &str,
        once: &str,
        body: &[u8],
    ) -> String {
        let head = CallHead {
            service: ServiceName::Centre,
            method,
            target,
            idempotency_key: once,
        };
        let mut nonce = [0; 16];
        rand_core::Rng::fill_bytes(&mut SystemRandom, &mut nonce);
        SignedCall::sign(&self.consortium, key, &head, sha256(body), now(), nonce).header()
    }

    async fn send(
        &self,
        header: &str,
        method: &str,
        target: &str,
        once: &str,
        body: &[u8],
    ) -> (u16, Vec<u8>) {
        // Where the library was built for no one TLS provider, it wants to be given one.
        let _ = client::provider().as_ref().clone().install_default();
        let response = reqwest::Client::new()
            .request(
                method.parse().unwrap(),
                format!("http://{}{target}", self.address),
            )
            .header("Authorization", header)
            .header("Idempotency-Key", once)
            .header("Content-Type", "application/json")
            .body(body.to_vec())
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        (status, response.bytes().await.unwrap().to_vec())
    }
}

fn identity() -> Identity {
    Identity {
        name: NAME.into(),
        birth_date: "1951-03-08".into(),
        document_kind: "passport".into(),
        document_number: "PX-77-1234".into(),
    }
}

fn as_patient() -> BeginEnrolment {
    BeginEnrolment {
        applicant: Applicant::Patient(identity()),
        replaces: None,
    }
}

fn as_doctor(institution: u32, replaces: Option<u64>) -> BeginEnrolment {
    BeginEnrolment {
        applicant: Applicant::Doctor(DoctorApplicant {
            identity: identity(),
            licence_number: "L-4711".into(),
            institution,
        }),
        replaces,
    }
}

fn once() -> IdempotencyKey {
    IdempotencyKey::random()
}

/// A patient's device with its account key at the centre.
fn device(hospitals: &FourHospitals, number: u8) -> (Patient, SigningKey) {
    let seed = RootSeed::from_bytes([number; 32]);
    let here = hospitals.consortium;
    let centre = CentreKeys::founding(hospitals.centre.verifying_key());
    let patient = Patient::new(here, centre, &seed, KeyVersion::new(0), &mut SystemRandom);
    let keys = PatientKeys::derive(&seed, KeyVersion::new(0), &here);
    (patient, keys.accounts.key(&here, b"centre"))
}

/// Begins an enrolment and gives its keys.
async fn enrol(centre: &Running, patient: &Patient, account: &SigningKey) -> Subject {
    let user = centre.user(account);
    let begun = user.begin(&as_patient(), &once()).await.unwrap();
    let subject = Subject::new(begun.subject);
    let keys = EnrolmentKeys::patient(&patient.enrol(subject));
    let status = user.give_keys(subject, &keys, &once()).await.unwrap();
    assert_eq!(status.state, EnrolmentState::Waiting);
    subject
}

fn refused<T>(result: Result<T, ClientError>, status: u16) -> Problem {
    match result {
        Err(ClientError::Refused(problem)) => {
            assert_eq!(problem.status(), status, "{problem:?}");
            assert!(problem.detail().len() > 20, "{problem:?}");
            problem
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was not refused"),
    }
}

fn records(folder: &Path) -> DatabaseLocation {
    storage::records(&folder.join("centre.sqlite"))
}

fn holds(file: &Path, what: &[u8]) -> bool {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.windows(what.len()).any(|found| found == what)
}

/// Whether the database's files hold this.
fn on_disk(folder: &Path, what: &[u8]) -> bool {
    let files = storage::files(&folder.join("centre.sqlite"));
    assert!(!files.is_empty());
    files.iter().any(|file| holds(file, what))
}

fn reason(text: &str) -> Reason {
    Reason {
        reason: text.into(),
    }
}

/// A centre of a consortium whose nodes cannot be reached.
fn apart() -> (FourHospitals, ConsortiumClient) {
    let hospitals = FourHospitals::found(Settings::standard());
    let nobody = ConsortiumClient::new(&hospitals.genesis, []).unwrap();
    (hospitals, nobody)
}

fn chain(served: &Served) -> ConsortiumClient {
    ConsortiumClient::on_loopback(&served.hospitals.genesis, &served.bases).unwrap()
}

#[test]
fn a_patient_enrols_from_the_device_and_is_revoked() {
    with_nodes(|served| async move {
        let folder = tempfile::tempdir().unwrap();
        let hospitals = &served.hospitals;
        let centre =
            Running::start(config(hospitals), &records(folder.path()), chain(&served)).await;
        let (patient, account) = device(hospitals, 1);
        let user = centre.user(&account);
        let begun = user.begin(&as_patient(), &once()).await.unwrap();
        let subject = Subject::new(begun.subject);
        assert_eq!(begun.doctor, None);
        let status = user.enrolment(subject).await.unwrap();
        assert_eq!(status.state, EnrolmentState::KeysMissing);

        // Another's enrolment is not there, whoever asks and however.
        let (stranger, foreign) = device(hospitals, 2);
        let thief = centre.user(&foreign);
        refused(thief.enrolment(subject).await, 404);
        let Err(ClientError::Refused(problem)) = thief.events(subject).await.map(|_| ()) else {
            panic!("another's events")
        };
        assert_eq!(problem.status(), 404);
        let keys = EnrolmentKeys::patient(&stranger.enrol(subject));
        refused(thief.give_keys(subject, &keys, &once()).await, 404);

        // Proofs are checked at once: another's key, and a proof for another number.
        let mut mixed = patient.enrol(subject);
        mixed.search_proof = stranger.enrol(subject).search_proof;
        let keys = EnrolmentKeys::patient(&mixed);
        refused(user.give_keys(subject, &keys, &once()).await, 422);
        let moved = EnrolmentKeys::patient(&patient.enrol(Subject::new(99)));
        refused(user.give_keys(subject, &moved, &once()).await, 422);
        let keys = EnrolmentKeys::patient(&patient.enrol(subject));
        let status = user.give_keys(subject, &keys, &once()).await.unwrap();
        assert_eq!(status.state, EnrolmentState::Waiting);
        let again = user.give_keys(subject, &keys, &once()).await.unwrap();
        assert_eq!(again, status);

        // Who is no officer sees nothing, and approves nothing.
        let nobody = OfficerClient::new(centre.consortium, centre.endpoint(), account.clone());
        refused(nobody.enrolments(OfficersList::Waiting, 0, 10).await, 403);
        refused(nobody.enrolment(subject).await, 403);
        refused(nobody.approve(subject, &once()).await, 403);

        let officer = centre.officer(1);
        let page = officer
            .enrolments(OfficersList::Waiting, 0, 10)
            .await
            .unwrap();
        assert_eq!(page.enrolments.len(), 1);
        assert_eq!(page.enrolments[0].kind, ApplicantKind::Patient);
        let detail = officer.enrolment(subject).await.unwrap();
        assert_eq!(detail.applicant.unwrap().identity().name, NAME);

        let mut events = user.events(subject).await.unwrap();
        let first = events.next().await.unwrap().unwrap();
        assert_eq!(first.state, EnrolmentState::Waiting);
        let approval = once();
        let approved = officer.approve(subject, &approval).await.unwrap();
        assert!(matches!(
            approved.state,
            EnrolmentState::Approved | EnrolmentState::Registered { .. }
        ));
        let registered = tokio::time::timeout(BOUND, async {
            loop {
                let status = events.next().await.unwrap().unwrap();
                if status.state.is_settled() {
                    return status;
                }
            }
        });
        let registered = registered.await.unwrap();
        assert_eq!(user.settled(subject, BOUND).await.unwrap(), registered);
        let certificate = registered.certificate().unwrap().unwrap();
        let key = CentreKeys::founding(hospitals.centre.verifying_key());
        let holder = certificate
            .verify(&hospitals.consortium, &key, now())
            .unwrap();
        let Holder::Patient(keys) = holder else {
            panic!("a patient's certificate")
        };
        assert_eq!(**keys, patient.public_keys());
        let on_chain = served
            .client
            .agreed_key(keys.encryption.hash().into())
            .await;
        assert!(on_chain.unwrap().is_some());
        // The same call again is not another decision.
        let again = officer.approve(subject, &approval).await.unwrap();
        assert_eq!(again.subject, subject.number());

        // What the officer decided can be shown later, and to anyone.
        let detail = officer.enrolment(subject).await.unwrap();
        assert_eq!(detail.decisions.len(), 1);
        let decision = &detail.decisions[0];
        assert_eq!(decision.decided, Decided::Approved);
        assert!(matches!(&decision.by, Decider::Officer { name, .. } if name == "officer 1"));
        let evidence = decision.evidence.clone().unwrap();
        let call = evidence.verify(&hospitals.consortium).unwrap();
        assert_eq!(call.key(), officer_key(1).verifying_key());
        let mut turned = evidence.clone();
        turned.target = turned.target.replace("/1/", "/2/");
        assert!(turned.verify(&hospitals.consortium).is_err());
        let mut other = evidence;
        other.body = Base64(b"{\"reason\":1}".to_vec());
        assert!(other.verify(&hospitals.consortium).is_err());

        directories(&user, &thief).await;

        // Nothing that names the patient lies on the disk in clear.
        let on_disk = |text: &str| on_disk(folder.path(), text.as_bytes());
        assert!(!on_disk(NAME) && !on_disk("PX-77-1234"));
        assert!(on_disk("keys-missing"), "the search finds what is there");

        let why = reason("the phone was stolen");
        refused(nobody.revoke(subject, &why, &once()).await, 403);
        let revoking = officer.revoke(subject, &why, &once()).await.unwrap();
        assert!(matches!(
            revoking.state,
            EnrolmentState::Revoking | EnrolmentState::Revoked
        ));
        let revoked = user.settled(subject, BOUND).await.unwrap();
        assert_eq!(revoked.state, EnrolmentState::Revoked);
        let on_chain = served
            .client
            .agreed_key(keys.encryption.hash().into())
            .await;
        assert!(on_chain.unwrap().is_none());
        refused(officer.revoke(subject, &why, &once()).await, 409);
        refused(user.renew(subject, &once()).await, 409);
        // The directory is still read, for moving to new keys, and written no more.
        let kept = user.directory().await.unwrap();
        let next = EncryptedDirectory {
            version: kept.version + 1,
            ..kept
        };
        refused(user.keep_directory(&next, &once()).await, 403);
        let outbox = officer.outbox().await.unwrap();
        assert!(outbox.outgoing.is_empty());
        centre.stop().await;
    });
}

async fn directories(user: &CentreClient, stranger: &CentreClient) {
    refused(user.directory().await, 404);
    let directory = |version, byte| EncryptedDirectory {
        version,
        encrypted: Base64(vec![byte; 1 << 20]),
    };
    refused(
        stranger.keep_directory(&directory(1, 1), &once()).await,
        403,
    );
    refused(user.keep_directory(&directory(2, 1), &once()).await, 409);
    let kept = user
        .keep_directory(&directory(1, 1), &once())
        .await
        .unwrap();
    assert_eq!(kept.version, 1);
    // As if the answer had been lost.
    user.keep_directory(&directory(1, 1), &once())
        .await
        .unwrap();
    let problem = refused(user.keep_directory(&directory(1, 2), &once()).await, 409);
    assert!(problem.detail().contains("write version 2"), "{problem:?}");
    user.keep_directory(&directory(2, 2), &once())
        .await
        .unwrap();
    assert_eq!(user.directory().await.unwrap(), directory(2, 2));
    let long = EncryptedDirectory {
        version: 3,
        encrypted: Base64(vec![3; (1 << 20) + 1]),
    };
    refused(user.keep_directory(&long, &once()).await, 413);
    refused(stranger.directory().await, 404);
}

/// A doctor's device: keys are certified for the id that the centre gave.
async fn enrol_doctor(
    centre: &Running,
    hospitals: &FourHospitals,
    key: &SigningKey,
    begin: &BeginEnrolment,
) -> (BegunEnrolment, EnrolmentStatus) {
    let user = centre.user(key);
    let begun = user.begin(begin, &once()).await.unwrap();
    let Applicant::Doctor(applicant) = &begin.applicant else {
        panic!("a doctor")
    };
    let hpke = scheme::HpkePrivateKey::derive(key.expose_seed()).public_key();
    let keys = parties::DoctorPublicKeys {
        id: DoctorId::new(begun.doctor.unwrap()),
        institution: InstitutionId::new(applicant.institution),
        signing: key.verifying_key(),
        hpke,
    };
    let subject = Subject::new(begun.subject);
    let text = doctor_proof(subject, &keys);
    let proof = key.sign(
        scheme::Context::Certificate,
        &hospitals.consortium,
        &[&text],
    );
    let keys = EnrolmentKeys::doctor(&hpke, &proof);
    let status = user.give_keys(subject, &keys, &once()).await.unwrap();
    (begun, status)
}

/// `spec/formats.md`, M2, in the test's own words.
fn doctor_proof(subject: Subject, keys: &parties::DoctorPublicKeys) -> Vec<u8> {
    scheme::enc(&[
        b"doctor",
        &subject.number().to_be_bytes(),
        &keys.id.number().to_be_bytes(),
        &u64::from(keys.institution.number()).to_be_bytes(),
        keys.signing.as_bytes(),
        keys.hpke.as_bytes(),
    ])
}

#[test]
fn a_doctor_changes_hospitals_and_a_key_is_registered_once() {
    with_nodes(|served| async move {
        let folder = tempfile::tempdir().unwrap();
        let hospitals = &served.hospitals;
        let centre =
            Running::start(config(hospitals), &records(folder.path()), chain(&served)).await;
        let officer = centre.officer(1);
        let (old, new) = (
            SigningKey::from_seed([0xd1; 32]),
            SigningKey::from_seed([0xd2; 32]),
        );
        let (first, _) = enrol_doctor(&centre, hospitals, &old, &as_doctor(1, None)).await;
        let first_subject = Subject::new(first.subject);
        officer.approve(first_subject, &once()).await.unwrap();
        let status = centre
            .user(&old)
            .settled(first_subject, BOUND)
            .await
            .unwrap();
        let certificate = status.certificate().unwrap().unwrap();
        let Holder::Doctor(doctor) = certificate.holder_unverified() else {
            panic!("a doctor's certificate")
        };
        assert_eq!(Some(doctor.id.number()), first.doctor);

        // One that names an enrolment of the other kind, or none, revokes nothing.
        let (patient, account) = device(hospitals, 3);
        let begin = BeginEnrolment {
            replaces: Some(first.subject),
            ..as_patient()
        };
        let user = centre.user(&account);
        let begun = user.begin(&begin, &once()).await.unwrap();
        let subject = Subject::new(begun.subject);
        let keys = EnrolmentKeys::patient(&patient.enrol(subject));
        user.give_keys(subject, &keys, &once()).await.unwrap();
        refused(officer.approve(subject, &once()).await, 422);
        let why = reason("names another's enrolment: begin a new one");
        officer.refuse(subject, &why, &once()).await.unwrap();
        let status = user.enrolment(subject).await.unwrap();
        let EnrolmentState::Refused { reason: told } = status.state else {
            panic!("{status:?}")
        };
        assert_eq!(told, why.reason);

        let begin = as_doctor(2, Some(first.subject));
        let (second, _) = enrol_doctor(&centre, hospitals, &new, &begin).await;
        assert!(second.doctor > first.doctor, "an id is never given again");
        let second_subject = Subject::new(second.subject);
        officer.approve(second_subject, &once()).await.unwrap();
        let status = centre
            .user(&new)
            .settled(second_subject, BOUND)
            .await
            .unwrap();
        assert!(matches!(status.state, EnrolmentState::Registered { .. }));
        let status = centre.user(&old).enrolment(first_subject).await.unwrap();
        assert_eq!(status.state, EnrolmentState::Revoked);
        let in_force = async |key: &SigningKey| {
            let hash = KeyHash::of(&key.verifying_key());
            served.client.agreed_key(hash).await.unwrap().is_some()
        };
        assert!(!in_force(&old).await);
        assert!(in_force(&new).await);
        let detail = officer.enrolment(first_subject).await.unwrap();
        let decided: Vec<_> = detail.decisions.iter().map(|one| one.decided).collect();
        assert_eq!(decided, [Decided::Approved, Decided::Revoked]);

        // The same keys once more: the centre knows them.
        let (again, _) = enrol_doctor(&centre, hospitals, &new, &as_doctor(2, None)).await;
        let again = Subject::new(again.subject);
        refused(officer.approve(again, &once()).await, 409);

        // And those that the chain knows from elsewhere: it refuses, and says why.
        let elsewhere = served.hospitals.registration(3);
        served.submit_to_all(&elsewhere).await;
        let known = hospitals.hospital(3).doctor_key.clone();
        let (begun, _) = enrol_doctor(&centre, hospitals, &known, &as_doctor(3, None)).await;
        let subject = Subject::new(begun.subject);
        officer.approve(subject, &once()).await.unwrap();
        let status = centre.user(&known).settled(subject, BOUND).await.unwrap();
        let EnrolmentState::Refused { reason: told } = status.state else {
            panic!("{status:?}")
        };
        assert!(told.contains("the chain refuses"), "{told}");

        // An officer who is a doctor is approved by another officer.
        let own = officer_key(1);
        let (begun, _) = enrol_doctor(&centre, hospitals, &own, &as_doctor(1, None)).await;
        let subject = Subject::new(begun.subject);
        refused(officer.approve(subject, &once()).await, 403);
        centre.officer(2).approve(subject, &once()).await.unwrap();
        let status = centre.user(&own).settled(subject, BOUND).await.unwrap();
        assert!(matches!(status.state, EnrolmentState::Registered { .. }));
        centre.stop().await;
    });
}

/// The centre was killed after it had approved and before anything was on the chain.
#[test]
fn what_was_approved_is_registered_after_a_restart_and_renewed_by_its_holder_once() {
    with_nodes(|served| async move {
        let folder = tempfile::tempdir().unwrap();
        let (hospitals, location) = (&served.hospitals, records(folder.path()));
        let nobody = ConsortiumClient::new(&hospitals.genesis, []).unwrap();
        let centre = Running::start(config(hospitals), &location, nobody).await;
        let (patient, account) = device(hospitals, 4);
        let subject = enrol(&centre, &patient, &account).await;
        centre.officer(1).approve(subject, &once()).await.unwrap();
        let status = centre.user(&account).enrolment(subject).await.unwrap();
        assert_eq!(status.state, EnrolmentState::Approved);
        refused(
            centre
                .officer(1)
                .revoke(subject, &reason("too early"), &once())
                .await,
            409,
        );
        // A kill: no stop, no close.
        centre.task.abort();
        let _ = centre.task.await;

        let mut short = config(hospitals);
        short.validity = DAY;
        let centre = Running::start(short, &location, chain(&served)).await;
        let user = centre.user(&account);
        let status = user.settled(subject, BOUND).await.unwrap();
        let certificate = status.certificate().unwrap().unwrap();
        let hash = patient.public_keys().encryption.hash();
        assert!(
            served
                .client
                .agreed_key(hash.into())
                .await
                .unwrap()
                .is_some()
        );

        // Too early: an officer has to say yes.
        let asked = user.renew(subject, &once()).await.unwrap();
        let waits = |status: &EnrolmentStatus| match &status.state {
            EnrolmentState::Registered { renewal_waits, .. } => *renewal_waits,
            _ => panic!("{status:?}"),
        };
        assert!(waits(&asked));
        let officer = centre.officer(2);
        let page = officer
            .enrolments(OfficersList::Renewals, 0, 10)
            .await
            .unwrap();
        assert_eq!(page.enrolments.len(), 1);
        officer
            .refuse(
                subject,
                &reason("not yet: ask in the last quarter"),
                &once(),
            )
            .await
            .unwrap();
        assert!(!waits(&user.enrolment(subject).await.unwrap()));
        centre.stop().await;

        // A year's certificate is in the last quarter of eight years' validity.
        let mut long = config(hospitals);
        long.validity = 8 * 365 * DAY;
        let centre = Running::start(long, &location, chain(&served)).await;
        let user = centre.user(&account);
        let renewal = once();
        let renewed = user.renew(subject, &renewal).await.unwrap();
        let later = renewed.certificate().unwrap().unwrap();
        assert!(later.not_after() > certificate.not_after());
        assert_eq!(later.holder_unverified(), certificate.holder_unverified());
        let key = CentreKeys::founding(hospitals.centre.verifying_key());
        assert!(later.verify(&hospitals.consortium, &key, now()).is_ok());
        assert_eq!(user.renew(subject, &renewal).await.unwrap(), renewed);
        centre.stop().await;
        // Within the policy again, but it is the second time in a row.
        let mut longer = config(hospitals);
        longer.validity = 64 * 365 * DAY;
        let centre = Running::start(longer, &location, chain(&served)).await;
        let user = centre.user(&account);
        assert!(waits(&user.renew(subject, &once()).await.unwrap()));
        let approved = centre.officer(1).approve(subject, &once()).await.unwrap();
        assert!(!waits(&approved));
        let latest = approved.certificate().unwrap().unwrap();
        assert!(latest.not_after() > later.not_after());
        centre.stop().await;
    });
}

#[tokio::test]
async fn bad_calls_get_a_reason_and_the_same_call_is_taken_once() {
    let folder = tempfile::tempdir().unwrap();
    let (hospitals, nobody) = apart();
    let centre = Running::start(config(&hospitals), &records(folder.path()), nobody).await;
    let (_, account) = device(&hospitals, 5);
    let good = serde_json::to_vec(&as_patient()).unwrap();
    let with = |field: &str| {
        let text = String::from_utf8(good.clone()).unwrap();
        text.replacen('{', &format!("{{{field},"), 1).into_bytes()
    };
    let text = String::from_utf8(good.clone()).unwrap();
    let undated = text.replace("1951-03-08", "1951-02-30").into_bytes();
    let long = with(&format!("\"more\":\"{}\"", "x".repeat(20_000)));
    let cases: [(&str, &str, &[u8], u16); 8] = [
        ("POST", "/v1/enrolments", &with("\"more\":1"), 400),
        ("POST", "/v1/enrolments", b"", 400),
        ("POST", "/v1/enrolments", &long, 413),
        ("POST", "/v1/enrolments", &undated, 422),
        ("PUT", "/v1/enrolments/x/keys", b"{}", 404),
        ("PUT", "/v1/enrolments/7/keys", b"{\"patient\":\"!\"}", 400),
        ("GET", "/v1/enrolments", b"", 405),
        ("GET", "/v1/officer/enrolments?liste=1", b"", 400),
    ];
    for (method, target, body, expected) in cases {
        let key = if target.contains("officer") {
            officer_key(1)
        } else {
            account.clone()
        };
        let header = centre.header(&key, method, target, "k", body);
        let (status, answer) = centre.send(&header, method, target, "k", body).await;
        assert_eq!(status, expected, "{method} {target}");
        let problem: Problem = serde_json::from_slice(&answer).unwrap();
        assert!(problem.detail().len() > 20, "{problem:?}");
    }
    // Without a signature, and with one for another body.
    let (status, _) = centre.send("", "POST", "/v1/enrolments", "k", &good).await;
    assert_eq!(status, 401);
    let header = centre.header(&account, "POST", "/v1/enrolments", "k", b"{}");
    let (status, _) = centre
        .send(&header, "POST", "/v1/enrolments", "k", &good)
        .await;
    assert_eq!(status, 401);

    // Signed for another consortium, or an hour ago.
    let head = CallHead {
        service: ServiceName::Centre,
        method: "POST",
        target: "/v1/enrolments",
        idempotency_key: "k",
    };
    let elsewhere = ConsortiumId::new([9; 32]);
    let hour_ago = Timestamp::new(now().number() - 60 * 60 * 1000);
    for (consortium, time) in [(elsewhere, now()), (centre.consortium, hour_ago)] {
        let digest = sha256(&good);
        let call = SignedCall::sign(&consortium, &account, &head, digest, time, [7; 16]);
        let (status, answer) = centre
            .send(&call.header(), "POST", "/v1/enrolments", "k", &good)
            .await;
        assert_eq!(status, 401);
        let problem: Problem = serde_json::from_slice(&answer).unwrap();
        assert!(problem.detail().len() > 20, "{problem:?}");
    }

    // A recorded call is not taken again; its owner's, signed anew under the same key, has the same
    // answer.
    let header = centre.header(&account, "POST", "/v1/enrolments", "one", &good);
    let send = || centre.send(&header, "POST", "/v1/enrolments", "one", &good);
    let (status, first) = send().await;
    assert_eq!(status, 201);
    let (status, answer) = send().await;
    assert_eq!(status, 401);
    assert!(String::from_utf8_lossy(&answer).contains("received before"));
    let header = centre.header(&account, "POST", "/v1/enrolments", "one", &good);
    let (status, again) = centre
        .send(&header, "POST", "/v1/enrolments", "one", &good)
        .await;
    assert_eq!((status, &again), (201, &first));
    let begun: BegunEnrolment = serde_json::from_slice(&first).unwrap();
    assert_eq!(begun.subject, 1);

    // Four wait at most under one key.
    let user = centre.user(&account);
    for _ in 0..3 {
        user.begin(&as_patient(), &once()).await.unwrap();
    }
    let header = centre.header(&account, "POST", "/v1/enrolments", "five", &good);
    let (status, _) = centre
        .send(&header, "POST", "/v1/enrolments", "five", &good)
        .await;
    assert_eq!(status, 429);

    // The database is away: the same call is safe to send again, and says so.
    centre.service.close().await;
    let header = centre.header(&account, "GET", "/v1/enrolments/1", "", b"");
    let (status, answer) = centre
        .send(&header, "GET", "/v1/enrolments/1", "", b"")
        .await;
    assert_eq!(status, 503);
    assert!(String::from_utf8_lossy(&answer).contains("safe to send again"));
    centre.stop().await;
}

#[tokio::test]
async fn an_address_begins_few_enrolments_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (hospitals, nobody) = apart();
    let mut narrow = config(&hospitals);
    narrow.enrolments = Rates {
        burst: 2,
        interval: Duration::from_secs(60),
    };
    let centre = Running::start(narrow, &records(folder.path()), nobody).await;
    let good = serde_json::to_vec(&as_patient()).unwrap();
    for (number, expected) in [(1, 201), (2, 201), (3, 429)] {
        let key = SigningKey::from_seed([number; 32]);
        let header = centre.header(&key, "POST", "/v1/enrolments", "k", &good);
        let (status, _) = centre
            .send(&header, "POST", "/v1/enrolments", "k", &good)
            .await;
        assert_eq!(status, expected);
    }
    centre.stop().await;
}

#[tokio::test]
async fn made_keys_are_handed_over_once() {
    let folder = tempfile::tempdir().unwrap();
    let (hospitals, nobody) = apart();
    let location = records(folder.path());
    let centre = Running::start(config(&hospitals), &location, nobody).await;
    let officer_as_user = centre.user(&officer_key(1));
    let begun = officer_as_user.begin(&as_patient(), &once()).await.unwrap();
    let subject = Subject::new(begun.subject);
    refused(centre.officer(1).make_keys(subject, &once()).await, 403);
    centre.stop().await;

    let mut may = config(&hospitals);
    may.may_make_keys = true;
    let nobody = ConsortiumClient::new(&hospitals.genesis, []).unwrap();
    let centre = Running::start(may, &location, nobody).await;
    let (officer, other) = (centre.officer(1), centre.officer(2));
    // A device makes its own keys.
    let (_, account) = device(&hospitals, 6);
    let own = centre.user(&account).begin(&as_patient(), &once()).await;
    let own = Subject::new(own.unwrap().subject);
    refused(officer.make_keys(own, &once()).await, 409);

    let call = once();
    let lost = officer.make_keys(subject, &call).await.unwrap();
    // The answer is kept nowhere, and the same call makes nothing new.
    refused(officer.make_keys(subject, &call).await, 409);
    let made = officer.make_keys(subject, &once()).await.unwrap();
    assert_ne!(lost.code, made.code);
    let code = || PickupCode::parse(&made.code).unwrap();
    assert!(!on_disk(folder.path(), made.code.as_bytes()));

    let anyone = CentreClient::without_keys(centre.consortium, centre.endpoint());
    refused(anyone.pick_up(subject, code()).await.map(|_| ()), 409);
    refused(officer.approve(subject, &once()).await, 403);
    other.approve(subject, &once()).await.unwrap();
    let wrong = PickupCode::parse(&lost.code).unwrap();
    let problem = refused(anyone.pick_up(subject, wrong).await.map(|_| ()), 403);
    assert!(problem.detail().contains("4 tries"), "{problem:?}");
    let seed = anyone.pick_up(subject, code()).await.unwrap();
    refused(anyone.pick_up(subject, code()).await.map(|_| ()), 404);

    // The seed is the one whose keys were certified.
    let here = hospitals.consortium;
    let keys = PatientKeys::derive(&seed, KeyVersion::new(0), &here);
    let account = keys.accounts.key(&here, b"centre");
    let status = centre.user(&account).enrolment(subject).await.unwrap();
    assert_eq!(status.state, EnrolmentState::Approved);
    refused(officer_as_user_sees(&centre, subject).await, 404);
    let detail = other.enrolment(subject).await.unwrap();
    let decided: Vec<_> = detail.decisions.iter().map(|one| one.decided).collect();
    let expected = [Decided::KeysMade, Decided::KeysMade, Decided::Approved];
    assert_eq!(decided, expected);

    // Five wrong codes, and the keys are forgotten.
    let begun = centre
        .user(&officer_key(1))
        .begin(&as_patient(), &once())
        .await
        .unwrap();
    let subject = Subject::new(begun.subject);
    let made = officer.make_keys(subject, &once()).await.unwrap();
    other.approve(subject, &once()).await.unwrap();
    for _ in 0..5 {
        let wrong = PickupCode::random(&mut SystemRandom);
        refused(anyone.pick_up(subject, wrong).await.map(|_| ()), 403);
    }
    let right = PickupCode::parse(&made.code).unwrap();
    refused(anyone.pick_up(subject, right).await.map(|_| ()), 404);
    centre.stop().await;
}

async fn officer_as_user_sees(
    centre: &Running,
    subject: Subject,
) -> Result<EnrolmentStatus, ClientError> {
    centre.user(&officer_key(1)).enrolment(subject).await
}

#[tokio::test]
async fn only_the_configuration_approves_automatically_and_it_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let (hospitals, nobody) = apart();
    let mut automatic = config(&hospitals);
    automatic.approve_automatically = true;
    let centre = Running::start(automatic, &records(folder.path()), nobody).await;
    let (patient, account) = device(&hospitals, 7);
    let subject = {
        let user = centre.user(&account);
        let begun = user.begin(&as_patient(), &once()).await.unwrap();
        let subject = Subject::new(begun.subject);
        let keys = EnrolmentKeys::patient(&patient.enrol(subject));
        user.give_keys(subject, &keys, &once()).await.unwrap();
        subject
    };
    let approved = tokio::time::timeout(BOUND, async {
        while centre
            .user(&account)
            .enrolment(subject)
            .await
            .unwrap()
            .state
            != EnrolmentState::Approved
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    approved.await.unwrap();
    let detail = centre.officer(1).enrolment(subject).await.unwrap();
    assert_eq!(detail.decisions[0].by, Decider::Configuration);
    assert_eq!(detail.decisions[0].evidence, None);
    // The chain is away: the registration waits, and an officer can see it.
    let outbox = centre.officer(1).outbox().await.unwrap();
    assert_eq!(outbox.outgoing.len(), 1);
    assert!(!outbox.outgoing[0].revokes);

    // What would revoke another certificate waits for an officer all the same.
    let (thief, foreign) = device(&hospitals, 8);
    let user = centre.user(&foreign);
    let begin = BeginEnrolment {
        replaces: Some(subject.number()),
        ..as_patient()
    };
    let begun = user.begin(&begin, &once()).await.unwrap();
    let other = Subject::new(begun.subject);
    let keys = EnrolmentKeys::patient(&thief.enrol(other));
    user.give_keys(other, &keys, &once()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let status = user.enrolment(other).await.unwrap();
    assert_eq!(status.state, EnrolmentState::Waiting);
    centre.stop().await;
}

/// Certifies a patient, and a doctor of a hospital: their keys.
async fn certified(centre: &Running, hospitals: &FourHospitals) -> (SigningKey, SigningKey, u64) {
    let (patient, account) = device(hospitals, 21);
    let subject = enrol(centre, &patient, &account).await;
    let doctor = SigningKey::from_seed([0xd7; 32]);
    let (begun, _) = enrol_doctor(centre, hospitals, &doctor, &as_doctor(2, None)).await;
    for (key, subject) in [(&account, subject), (&doctor, Subject::new(begun.subject))] {
        centre.officer(1).approve(subject, &once()).await.unwrap();
        let status = centre.user(key).settled(subject, BOUND).await.unwrap();
        assert!(matches!(status.state, EnrolmentState::Registered { .. }));
    }
    (account, doctor, begun.doctor.unwrap())
}

/// Through the centre a doctor finds who wants to be found, and nobody else; nobody learns who is
/// registered by asking, asks without end, or looks unseen.
#[test]
fn attack_look_for_patients_who_do_not_want_it_or_unseen() {
    with_nodes(|served| async move {
        let folder = tempfile::tempdir().unwrap();
        let hospitals = &served.hospitals;
        let location = records(folder.path());
        let centre = Running::start(config(hospitals), &location, chain(&served)).await;
        let (account, key, id) = certified(&centre, hospitals).await;
        let (patient, doctor) = (centre.user(&account), centre.user(&key));
        let (handle, salt) = (scheme::InboxHandle::new([0xa7; 16]), [0x5a; 16]);
        let looks = |number: &str| FindPatient {
            birth_date: "1951-03-08".into(),
            document_kind: "passport".into(),
            document_number: number.into(),
            purpose: "unconscious, stroke".into(),
        };
        // Not before the patient wants it, and then not told apart from a document of nobody.
        let hidden = refused(doctor.find(&looks("PX-77-1234")).await, 404);
        let nobody = refused(doctor.find(&looks("PX-00-0000")).await, 404);
        assert_eq!(hidden.detail(), nobody.detail());
        patient.be_findable((handle, salt)).await.unwrap();
        // However the number is typed, and only if all of it is right.
        for number in ["PX-77-1234", "px 771234"] {
            assert_eq!(doctor.find(&looks(number)).await.unwrap(), (handle, salt));
        }
        let mut other = looks("PX-77-1234");
        other.birth_date = "1951-03-09".into();
        refused(doctor.find(&other).await, 404);
        let mut silent = looks("PX-77-1234");
        silent.purpose = " ".into();
        refused(doctor.find(&silent).await, 422);
        // A patient, somebody without a certificate, and the doctor as a patient.
        refused(patient.find(&looks("PX-77-1234")).await, 403);
        let stranger = centre.user(&SigningKey::from_seed([0xd8; 32]));
        refused(stranger.find(&looks("PX-77-1234")).await, 403);
        refused(doctor.be_findable((handle, salt)).await, 403);
        refused(stranger.be_findable((handle, salt)).await, 403);
        // The patient sees who, when and why, and only the own.
        let seen = patient.findable().await.unwrap();
        assert!(seen.findable);
        assert_eq!(seen.findings.len(), 2);
        for one in &seen.findings {
            assert_eq!((one.doctor, one.institution), (id, 2));
            assert_eq!(one.purpose, "unconscious, stroke");
        }
        assert_eq!(stranger.findable().await.unwrap().findings, []);
        // Neither document nor inbox nor purpose stand in the database.
        for secret in [
            &[0xa7; 16][..],
            &[0x5a; 16],
            b"unconscious",
            b"PX-77-1234",
            b"px771234",
        ] {
            assert!(!on_disk(folder.path(), secret));
        }
        // Nobody goes through numbers: twenty looks an hour, also those that found nobody, and also those
        // at one time. Five were made.
        let calls = (0..30).map(|number| {
            let (doctor, looks) = (&doctor, looks(&number.to_string()));
            async move { doctor.find(&looks).await }
        });
        let answers = futures::future::join_all(calls).await;
        let status = |answer: &Result<_, ClientError>| match answer {
            Err(ClientError::Refused(problem)) => problem.status(),
            other => panic!("{:?}", other.as_ref().err()),
        };
        let looked = answers.iter().filter(|one| status(one) == 404).count();
        assert_eq!(looked, 15);
        assert!(answers.iter().all(|one| matches!(status(one), 404 | 429)));
        refused(doctor.find(&looks("PX-77-1234")).await, 429);
        patient.be_hidden().await.unwrap();
        assert!(!patient.findable().await.unwrap().findable);

        // What was looked for comes back with a backup.
        patient.be_findable((handle, salt)).await.unwrap();
        let passphrase = Passphrase::new("four random words here".into());
        let passphrase = passphrase.unwrap_or_else(|_| panic!());
        let file = folder.path().join("backup");
        let backed_up = centre
            .service
            .back_up(&file, &passphrase, BackupKeys::LeftOut);
        backed_up.await.unwrap();
        centre.stop().await;
        let fresh = DatabaseLocation::Sqlite(folder.path().join("fresh.sqlite"));
        restore_centre(&file, &passphrase, &fresh).await.unwrap();
        let centre = Running::start(config(hospitals), &fresh, chain(&served)).await;
        let again = centre.user(&account).findable().await.unwrap();
        assert_eq!(again.findings, seen.findings);
        assert!(again.findable);
        // After a revocation nobody is found by it.
        let detail = centre.officer(1);
        let why = reason("the words were seen by others");
        let subject = Subject::new(1);
        detail.revoke(subject, &why, &once()).await.unwrap();
        let second = SigningKey::from_seed([0xd9; 32]);
        let (begun, _) = enrol_doctor(&centre, hospitals, &second, &as_doctor(3, None)).await;
        let subject = Subject::new(begun.subject);
        detail.approve(subject, &once()).await.unwrap();
        centre.user(&second).settled(subject, BOUND).await.unwrap();
        refused(centre.user(&second).find(&looks("PX-77-1234")).await, 404);
        centre.stop().await;
    });
}

/// Where a backup is restored to: a new file, whatever it was made of, and a new database.
fn restored_to(folder: &Path) -> [DatabaseLocation; 2] {
    [
        DatabaseLocation::Sqlite(folder.join("restored.sqlite")),
        storage::records(&folder.join("restored-beside.sqlite")),
    ]
}

#[tokio::test]
async fn a_restored_backup_goes_on_and_gives_no_number_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (hospitals, nobody) = apart();
    let location = records(folder.path());
    let centre = Running::start(config(&hospitals), &location, nobody).await;
    let (patient, account) = device(&hospitals, 9);
    let subject = enrol(&centre, &patient, &account).await;
    let key = SigningKey::from_seed([0xd3; 32]);
    let (doctor, _) = enrol_doctor(&centre, &hospitals, &key, &as_doctor(2, None)).await;
    let officer = centre.officer(1);
    officer.approve(subject, &once()).await.unwrap();
    let passphrase = Passphrase::new("four random words here".into()).unwrap_or_else(|_| panic!());
    assert!(Passphrase::new("short".into()).is_err());
    let (with, without) = (folder.path().join("with"), folder.path().join("without"));
    let back_up =
        async |file: &PathBuf, keys| centre.service.back_up(file, &passphrase, keys).await;
    back_up(&with, BackupKeys::Included).await.unwrap();
    back_up(&without, BackupKeys::LeftOut).await.unwrap();
    assert!(matches!(
        back_up(&with, BackupKeys::LeftOut).await,
        Err(BackupError::File(..))
    ));
    assert!(!holds(&with, NAME.as_bytes()) && !holds(&with, b"waiting"));
    // Numbers that were given after the backup.
    let (later, _) = enrol_doctor(&centre, &hospitals, &key, &as_doctor(3, None)).await;
    let detail = officer.enrolment(subject).await.unwrap();
    centre.stop().await;

    // Another passphrase, a file that was cut or changed, a database with enrolments.
    let fresh = DatabaseLocation::Sqlite(folder.path().join("fresh.sqlite"));
    let other = Passphrase::new("four other words here".into()).unwrap_or_else(|_| panic!());
    let restored = restore_centre(&with, &other, &fresh).await;
    assert!(matches!(restored, Err(BackupError::DoesNotOpen)));
    let whole = std::fs::read(&with).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    let mut longer = whole.clone();
    longer.push(0);
    for bytes in [&whole[..whole.len() - 1], &whole[..40], &changed, &longer] {
        let file = folder.path().join("damaged");
        std::fs::write(&file, bytes).unwrap();
        let restored = restore_centre(&file, &passphrase, &fresh).await;
        assert!(matches!(restored, Err(BackupError::DoesNotOpen)));
    }
    let restored = restore_centre(&with, &passphrase, &location).await;
    assert!(matches!(restored, Err(BackupError::NotEmpty)));

    let keys = restore_centre(&without, &passphrase, &fresh).await.unwrap();
    assert!(keys.is_none());
    for (place, location) in restored_to(folder.path()).into_iter().enumerate() {
        let keys = restore_centre(&with, &passphrase, &location).await.unwrap();
        let keys = keys.unwrap();
        let mut restored = config(&hospitals);
        restored.identity_key = keys.identity;
        restored.key = keys.certification;
        assert_eq!(
            restored.key.verifying_key(),
            hospitals.centre.verifying_key()
        );
        let nobody = ConsortiumClient::new(&hospitals.genesis, []).unwrap();
        let centre = Running::start(restored, &location, nobody).await;
        let officer = centre.officer(1);
        let found = officer.enrolment(subject).await.unwrap();
        assert_eq!(found.applicant.unwrap().identity().name, NAME);
        assert_eq!(found.decisions, detail.decisions);
        assert_eq!(found.state, EnrolmentState::Approved);
        assert_eq!(officer.outbox().await.unwrap().outgoing.len(), 1);
        let key = SigningKey::from_seed([0xd4; 32]);
        let (next, _) = enrol_doctor(&centre, &hospitals, &key, &as_doctor(2, None)).await;
        assert!(next.subject > later.subject && next.doctor > later.doctor);
        assert!(next.doctor > doctor.doctor);
        let subject = Subject::new(next.subject);
        officer.approve(subject, &once()).await.unwrap();
        // A backup of what was restored.
        let next = folder.path().join(format!("next-{place}"));
        let backed_up = centre
            .service
            .back_up(&next, &passphrase, BackupKeys::LeftOut);
        backed_up.await.unwrap();
        centre.stop().await;
        let again = folder.path().join(format!("again-{place}.sqlite"));
        let again = DatabaseLocation::Sqlite(again);
        restore_centre(&next, &passphrase, &again).await.unwrap();

        let mut wrong = config(&hospitals);
        wrong.identity_key = IdentityKey::from_bytes([0x99; 32]);
        let nobody = Arc::new(ConsortiumClient::new(&hospitals.genesis, []).unwrap());
        let opened = CentreService::open(wrong, &location, nobody).await;
        assert!(matches!(opened, Err(CentreError::OtherKey)));
    }
}

#[tokio::test]
async fn a_doctors_machine_enrols_with_the_id_that_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let (hospitals, nobody) = apart();
    let centre = Running::start(config(&hospitals), &records(folder.path()), nobody).await;
    let key = SigningKey::from_seed([0xd5; 32]);
    let user = centre.user(&key);
    let begun = user.begin(&as_doctor(1, None), &once()).await.unwrap();
    let subject = Subject::new(begun.subject);
    // Keys and proof of another doctor, whose signing key did not sign the call.
    let other = Doctor::new(
        hospitals.consortium,
        CentreKeys::founding(hospitals.centre.verifying_key()),
        DoctorId::new(begun.doctor.unwrap()),
        InstitutionId::new(1),
        &mut SystemRandom,
    );
    let proof = other.prove_possession(subject);
    let keys = EnrolmentKeys::doctor(&other.public_keys().hpke, &proof);
    refused(user.give_keys(subject, &keys, &once()).await, 422);
    // The other kind's keys.
    let (patient, _) = device(&hospitals, 10);
    let keys = EnrolmentKeys::patient(&patient.enrol(subject));
    refused(user.give_keys(subject, &keys, &once()).await, 422);
    centre.stop().await;
}

/// The centre's key changed on the chain, and the centre starts with the next one.
#[tokio::test]
async fn what_an_earlier_key_signed_is_signed_again() {
    let folder = tempfile::tempdir().unwrap();
    let (hospitals, nobody) = apart();
    let location = records(folder.path());
    let centre = Running::start(config(&hospitals), &location, nobody).await;
    let (patient, account) = device(&hospitals, 11);
    let subject = enrol(&centre, &patient, &account).await;
    centre.officer(1).approve(subject, &once()).await.unwrap();
    centre.stop().await;

    let mut next = config(&hospitals);
    next.key = SigningKey::from_seed([0xce; 32]);
    let own = next.key.verifying_key();
    let nobody = ConsortiumClient::new(&hospitals.genesis, []).unwrap();
    let centre = Running::start(next, &location, nobody).await;
    assert_eq!(centre.service.verifying_key(), own);
    centre.stop().await;

    // The transaction's and the certificate's signatures are those of the next key.
    let holder = Holder::Patient(Box::new(patient.public_keys()));
    let here = hospitals.consortium;
    let certifier = parties::Certifier::new(here, SigningKey::from_seed([0xce; 32]), DAY);
    let registration = certifier.register(&holder).encode();
    let earlier = parties::Certifier::new(here, hospitals.centre.clone(), DAY);
    let before = earlier.register(&holder);
    assert_eq!(before.id(&here), certifier.register(&holder).id(&here));
    let signature = |bytes: &[u8]| bytes[bytes.len() - 64..].to_vec();
    let on_disk = |found: &[u8]| on_disk(folder.path(), found);
    assert!(on_disk(&signature(&registration)));
    // What PostgreSQL keeps beside its tables is for its operator to say.
    let earlier = on_disk(&signature(&before.encode()));
    assert!(!earlier || storage::is_outside(), "secure_delete");
}
