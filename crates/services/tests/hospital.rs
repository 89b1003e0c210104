//! The hospital's server as its doctors, patients and IT meet it: over HTTP, beside a cloud and four
//! real nodes.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test, which plays patient and doctor"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::served::{BOUND, Served, with_nodes};
use crate::storage;
use client::{
    ClientError, CloudClient, ConsortiumClient, Endpoint, Hex, HospitalClient, IdempotencyKey,
    Members, ServiceClient, ServiceName, Submitted, SubmittedState, SystemRandom, now,
};
use futures::StreamExt;
use ledger::{KeyHash, Transaction, TransactionId};
use parties::{
    AgreedWriterEpochs, CentreKeys, Certificate, Doctor, DoctorPublicKeys, EpisodePlace, Holder,
    OwnRecord, OwnSearch, Patient, PatientEpisode, RecordDraft, StorageReceipt,
};
use rand_core::Rng;
use scheme::{
    Address, AllocationId, BlindedKeyword, ClassCode, ConsortiumId, DoctorId, HpkePrivateKey,
    IndexKey, InstitutionId, KeyVersion, Keyword, PatientKeys, Position, RootSeed, Sealing,
    SealingSecret, SectionPlan, SigningKey, Subject, Timestamp, Uid, Writer, sha256,
};
use services::{
    CLOUD_SCHEMA, CloudConfig, CloudService, ContainerStore, Database, HOSPITAL_SCHEMA,
    HospitalConfig, HospitalService, Server, serve_cloud, serve_hospital,
};

const HERE: InstitutionId = InstitutionId::new(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const IMAGING: ClassCode = ClassCode::new(5);

fn cloud_key() -> SigningKey {
    SigningKey::from_seed([40; 32])
}

fn it_key() -> SigningKey {
    SigningKey::from_seed([60; 32])
}

async fn bound() -> (Server, SocketAddr) {
    let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), None).await;
    let server = server.unwrap();
    let address = server.address().unwrap();
    (server, address)
}

fn service(
    here: ConsortiumId,
    name: ServiceName,
    address: SocketAddr,
    key: &SigningKey,
) -> ServiceClient {
    let endpoint = Endpoint::new(name, &format!("http://{address}"), None, None).unwrap();
    ServiceClient::new(here, endpoint).signing(key.clone())
}

fn status<T>(answer: Result<T, ClientError>) -> u16 {
    match answer {
        Err(ClientError::Refused(problem)) => {
            assert!(problem.detail().len() > 20, "{problem:?}");
            problem.status()
        }
        Err(other) => panic!("not a refusal: {other:?}"),
        Ok(_) => panic!("it was not refused"),
    }
}

/// Starts a cloud in a folder.
async fn start_cloud(served: &Served, folder: &Path) -> SocketAddr {
    let location = storage::records(&folder.join("cloud.sqlite"));
    let (containers, _) = storage::containers(&folder.join("cloud"));
    let database = Database::open(&location, CLOUD_SCHEMA).await.unwrap();
    let config = CloudConfig {
        spool: folder.join("cloud-spool"),
        container_bytes_max: 64 << 20,
        institution_bytes_per_day: 1 << 30,
        grace: DAY,
        tidy_every: DAY,
        rate_per_second: 1_000,
    };
    let hospitals = &served.hospitals;
    let founders = hospitals.genesis.institutions.iter().cloned();
    let service = CloudService::new(
        hospitals.consortium,
        cloud_key(),
        config,
        database,
        ContainerStore::at(&containers).unwrap(),
        served.another_client(),
        Members::new(founders, BTreeMap::new()),
    )
    .unwrap();
    let (server, address) = bound().await;
    let stop = std::future::pending();
    tokio::spawn(serve_cloud(Arc::new(service), server, stop));
    address
}

/// How a test wants its hospital.
struct Wish {
    scrub_every: Duration,
    second_store: bool,
    chain: Option<ConsortiumClient>,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            scrub_every: DAY,
            second_store: false,
            chain: None,
        }
    }
}

/// A hospital's server that runs.
struct Hospital {
    here: ConsortiumId,
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
    database: Database,
}

impl Hospital {
    async fn start(served: &Served, folder: &Path, cloud: SocketAddr, wish: Wish) -> Self {
        let here = served.hospitals.consortium;
        let hospital = served.hospitals.hospital(1);
        let location = storage::records(&folder.join("hospital.sqlite"));
        let database = Database::open(&location, HOSPITAL_SCHEMA).await.unwrap();
        let config = HospitalConfig {
            institution: HERE,
            cloud_receipt_key: cloud_key().verifying_key(),
            it: vec![("night shift".to_owned(), it_key().verifying_key())],
            writer_folder: folder.join("writer"),
            writer_epoch_life: 90 * DAY,
            second_store: wish
                .second_store
                .then(|| storage::containers(&folder.join("second")).0),
            spool: folder.join("spool"),
            scrub_bytes_per_second: 100 << 20,
            scrub_every: wish.scrub_every,
            message_life: 90 * DAY,
            tidy_every: DAY,
            rate_per_second: 1_000,
        };
        let chain = wish.chain.unwrap_or_else(|| served.another_client());
        let cloud = service(here, ServiceName::Cloud, cloud, &hospital.key);
        let service = HospitalService::new(
            here,
            hospital.key.clone(),
            config,
            database.clone(),
            chain,
            CloudClient::new(cloud),
        )
        .unwrap();
        let (server, address) = bound().await;
        let stop = std::future::pending();
        let task = tokio::spawn(serve_hospital(Arc::new(service), server, stop));
        Self {
            here,
            address,
            task,
            database,
        }
    }

    fn service(&self, key: &SigningKey) -> ServiceClient {
        service(self.here, ServiceName::Hospital(HERE), self.address, key)
    }

    fn client(&self, key: &SigningKey) -> HospitalClient {
        HospitalClient::new(self.service(key))
    }

    fn it(&self) -> HospitalClient {
        self.client(&it_key())
    }

    /// As a kill does: nothing is waited for.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        self.database.close().await;
    }

    /// Waits until the chain has a writer epoch of this hospital from this number on.
    async fn has_epoch(&self, number: u32) -> Writer {
        let it = self.it();
        let begun = tokio::time::timeout(BOUND, async {
            loop {
                match it.writer().await {
                    Ok((writer, _)) if writer.epoch.number() >= number => return writer,
                    _ => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        begun.await.expect("the writer epoch begins")
    }
}

/// The doctor of hospital 1, as the doctor's machine has it.
struct Author {
    doctor: Doctor,
    key: SigningKey,
    certificate: Certificate,
}

impl Author {
    /// Registered on the chain and certified.
    async fn new(served: &Served, number: u32) -> Self {
        let key = served.doctor(number).await;
        let hospitals = &served.hospitals;
        let hospital = hospitals.hospital(number);
        let institution = hospital.institution.id;
        let doctor = Doctor::from_keys(
            hospitals.consortium,
            CentreKeys::founding(hospitals.centre.verifying_key()),
            hospital.doctor,
            institution,
            (key.clone(), hospital.doctor_hpke.clone()),
            SealingSecret::from_bytes([9; 32]),
        );
        let certificate = certificate(served, *doctor.public_keys(), 90);
        Self {
            doctor,
            key,
            certificate,
        }
    }
}

fn certificate(served: &Served, keys: DoctorPublicKeys, days: u32) -> Certificate {
    let end = now().number() + (DAY * days).as_millis() as u64;
    Certificate::issue(
        &served.hospitals.consortium,
        &served.hospitals.centre,
        Subject::new(1),
        Holder::Doctor(keys),
        Timestamp::new(end),
    )
}

/// A patient with the account key at hospital 1.
struct Device {
    patient: Patient,
    account: SigningKey,
}

impl Device {
    fn new(served: &Served, number: u8) -> Self {
        let hospitals = &served.hospitals;
        let here = hospitals.consortium;
        let seed = RootSeed::from_bytes([number; 32]);
        let version = KeyVersion::new(0);
        let centre = CentreKeys::founding(hospitals.centre.verifying_key());
        let mut patient = Patient::new(here, centre, &seed, version, &mut SystemRandom);
        let holder = Holder::Patient(Box::new(patient.public_keys()));
        let end = Timestamp::new(now().number() + DAY.as_millis() as u64);
        let subject = Subject::new(u64::from(number));
        let issued = Certificate::issue(&here, &hospitals.centre, subject, holder, end);
        patient.accept_certificate(issued, now()).unwrap();
        let name = ServiceName::Hospital(HERE).to_string();
        let keys = PatientKeys::derive(&seed, version, &here);
        Self {
            patient,
            account: keys.accounts.key(&here, name.as_bytes()),
        }
    }
}

/// A record that is sealed, stored in the cloud, indexed and signed, and not yet handed in.
struct Made {
    sealing: Sealing,
    keys: Vec<IndexKey>,
    positions: Vec<(AllocationId, Position)>,
    own: OwnRecord,
    receipt: StorageReceipt,
    writer: Writer,
}

/// The chain's writer epochs, once f + 1 nodes are at the height at which this one begins.
async fn agreed_epochs(served: &Served, writer: Writer) -> AgreedWriterEpochs {
    let agreed = tokio::time::timeout(BOUND, async {
        loop {
            let epochs = served.client.writer_epochs(HERE).await.unwrap();
            match epochs.current() {
                Some((epoch, _)) if *epoch == writer.epoch => return epochs,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    agreed.await.expect("the chain has the writer epoch")
}

/// Steps 3 and 4.
async fn make(
    served: &Served,
    hospital: &HospitalClient,
    cloud: SocketAddr,
    author: &Author,
    episode: &PatientEpisode,
    words: &[Keyword],
) -> Made {
    let here = served.hospitals.consortium;
    let mut rng = SystemRandom;
    let mut plain = vec![0; 200_000];
    rng.fill_bytes(&mut plain);
    let plans = [SectionPlan {
        class: IMAGING,
        length: plain.len() as u64,
    }];
    let sealing = author.doctor.seal(episode, &plans, &mut rng).unwrap();
    let mut container = sealing.header().encode();
    let mut sealer = sealing.section(0).unwrap();
    sealer.update(&plain, &mut container).unwrap();
    sealer.finish(&mut container).unwrap();
    let digest = sha256(&container);
    let length = container.len() as u64;
    let cloud = CloudClient::new(service(here, ServiceName::Cloud, cloud, &author.key));
    let mut source = Cursor::new(container);
    let receipt = cloud
        .store(&mut source, digest, length, None, &mut |_| ())
        .await
        .unwrap();

    let (writer, _) = hospital.writer().await.unwrap();
    let epochs = agreed_epochs(served, writer).await;
    let (_, writer_key) = epochs.current().unwrap();
    let draft = author.doctor.begin_index(episode, writer, words, &mut rng);
    let raised = hospital.raise(&draft.blinded()).await.unwrap();
    let owner = &episode.keys.search;
    let (keys, ids) = draft
        .evaluate(&raised, writer_key, owner, &mut rng)
        .unwrap();
    let given = hospital.positions(&ids).await.unwrap();
    let parts = RecordDraft {
        episode,
        header: sealing.header(),
        digest,
        address: receipt.address,
        writer_key,
        keys: &keys,
        positions: &given,
        time: now(),
    };
    let own = author.doctor.sign_record(&parts, &mut rng).unwrap();
    Made {
        positions: ids.into_iter().zip(given).collect(),
        sealing,
        keys,
        own,
        receipt,
        writer,
    }
}

impl Made {
    async fn hand_in(&self, hospital: &HospitalClient) -> Result<Submitted, ClientError> {
        let own = &self.own;
        hospital
            .record(
                &own.statement,
                &own.signature,
                &self.positions,
                &self.receipt,
            )
            .await
    }
}

async fn run(client: &ConsortiumClient, search: &mut OwnSearch) {
    while let Some(question) = search.question() {
        let found = client.records(&question).await.unwrap();
        search.answer(&found).unwrap();
    }
}

fn height(submitted: &Submitted) -> u64 {
    match submitted.state {
        SubmittedState::Final { height } => height,
        ref other => panic!("not final: {other:?}"),
    }
}

/// The hospital, a doctor who is entered, and a patient with an episode.
struct Ward {
    hospital: Hospital,
    author: Author,
    client: HospitalClient,
    device: Device,
    uid: Uid,
    place: EpisodePlace,
    episode: PatientEpisode,
}

impl Ward {
    /// Steps 1 and 2, all by the interface.
    async fn open(served: &Served, folder: &Path, cloud: SocketAddr, wish: Wish) -> Self {
        let hospital = Hospital::start(served, folder, cloud, wish).await;
        let author = Author::new(served, 1).await;
        let client = hospital.client(&author.key);
        client.enter_doctor(&author.certificate).await.unwrap();
        let mut device = Device::new(served, 1);
        let uid = client.give_uid().await.unwrap();
        let patient = hospital.client(&device.account);
        patient.bind_account(&uid).await.unwrap();

        let id = author.doctor.public_keys().id;
        let found = patient.doctor(id).await.unwrap();
        let of_doctor = Certificate::decode(&found.certificate.0).unwrap();
        let hpke = author.doctor.public_keys().hpke.hash();
        let agreed = tokio::time::timeout(BOUND, async {
            loop {
                let agreed = served.client.agreed_key(KeyHash::from(hpke)).await;
                match agreed.unwrap() {
                    Some(agreed) => return agreed,
                    None => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        let agreed = agreed.await.expect("the doctor's key is in force");
        let (place, sealed) = device
            .patient
            .begin_episode(&of_doctor, &agreed, uid.clone(), now(), &mut SystemRandom)
            .unwrap();
        let mut coming = client.handover_events().await.unwrap();
        let left = patient.hand_over(&uid, id, sealed).await.unwrap();
        let event = tokio::time::timeout(BOUND, coming.next()).await.unwrap();
        let event = event.unwrap().unwrap();
        assert_eq!(event.id, left.id);
        assert_eq!(event.uid.to_string().as_bytes(), uid.as_bytes());
        let episode = author
            .doctor
            .accept_handover(&event.sealed.0, &uid, now())
            .unwrap();
        assert_eq!(client.handovers().await.unwrap(), [event]);
        client.remove_handover(left.id).await.unwrap();
        assert!(client.handovers().await.unwrap().is_empty());
        assert_eq!(status(client.remove_handover(left.id).await), 404);
        hospital.has_epoch(0).await;
        Self {
            hospital,
            author,
            client,
            device,
            uid,
            place,
            episode,
        }
    }

    async fn make(&self, served: &Served, cloud: SocketAddr, words: &[Keyword]) -> Made {
        make(
            served,
            &self.client,
            cloud,
            &self.author,
            &self.episode,
            words,
        )
        .await
    }

    /// Starts the hospital again after a kill.
    async fn restart(mut self, served: &Served, folder: &Path, cloud: SocketAddr) -> Self {
        self.hospital.kill().await;
        self.hospital = Hospital::start(served, folder, cloud, Wish::default()).await;
        self.client = self.hospital.client(&self.author.key);
        self
    }
}

fn words() -> [Keyword; 2] {
    [
        Keyword::new(b"i63.4").unwrap(),
        Keyword::new(b"thrombectomy").unwrap(),
    ]
}

/// Steps 1 to 5 by the interface: the record is final, found by its author and its patient.
#[test]
fn a_record_is_stored_found_and_its_receipt_reaches_the_patient() {
    with_nodes(|served| async move {
        let folder = tempfile::tempdir().unwrap();
        let cloud = start_cloud(&served, folder.path()).await;
        let mut ward = Ward::open(&served, folder.path(), cloud, Wish::default()).await;
        let mut made = ward.make(&served, cloud, &words()).await;
        let id = made.own.transaction;
        let taken = made.hand_in(&ward.client).await.unwrap();
        assert_eq!(taken.transaction, Hex(*id.as_bytes()));
        let mut states = ward.client.transaction_events(id).await.unwrap();
        let mut last = None;
        while let Some(state) = tokio::time::timeout(BOUND, states.next()).await.unwrap() {
            last = Some(state.unwrap());
        }
        let settled = last.unwrap();
        let recorded = height(&settled);
        let on_chain = served.client.transaction(id).await.unwrap();
        assert_eq!(on_chain.height.number(), recorded);
        served.all_reach(recorded).await;

        let here = served.hospitals.consortium;
        let keys = std::mem::take(&mut made.keys);
        let mut search = OwnSearch::new(here, made.writer, keys, id);
        run(&served.client, &mut search).await;
        assert!(search.is_found());

        let receipt = ward
            .author
            .doctor
            .receipt(&ward.episode, &made.own, &mut SystemRandom)
            .unwrap();
        let patient = ward.hospital.client(&ward.device.account);
        let mut coming = patient.receipt_events(&ward.uid).await.unwrap();
        let left = ward.client.leave_receipt(&ward.uid, receipt).await.unwrap();
        let event = tokio::time::timeout(BOUND, coming.next()).await.unwrap();
        let event = event.unwrap().unwrap();
        assert_eq!(event.id, left.id);
        let receipts = patient.receipts(&ward.uid).await.unwrap();
        assert_eq!(receipts, [event]);
        let device = &mut ward.device.patient;
        let opened = device.open_receipt(&receipts[0].sealed.0).unwrap();
        let Transaction::Record(record) = &on_chain.transaction else {
            panic!("a record");
        };
        let header = made.sealing.header();
        let mut check = device
            .check_receipt(ward.place, opened, record, made.writer, header, &words())
            .unwrap();
        run(&served.client, check.search()).await;
        device.keep_receipt(check).unwrap();
        patient.remove_receipt(left.id).await.unwrap();
        assert!(patient.receipts(&ward.uid).await.unwrap().is_empty());

        // The same record again is the same, however often; its positions are settled.
        let again = made.hand_in(&ward.client).await.unwrap();
        assert_eq!(again, settled);
        assert_eq!(ward.client.transaction_state(id).await.unwrap(), settled);
        let (allocated, _) = made.positions[0];
        let next = ward.client.positions(&[allocated]).await.unwrap();
        assert_eq!(next, [Position::new(1)]);
        // A request takes the same way.
        let Transaction::Request(request) = served.hospitals.request(1, 7) else {
            panic!("a request");
        };
        let (statement, signature) = (request.statement, request.doctor);
        let taken = ward.client.request(&statement, &signature).await.unwrap();
        let of = TransactionId::new(taken.transaction.0);
        let mut states = ward.client.transaction_events(of).await.unwrap();
        let mut last = None;
        while let Some(state) = tokio::time::timeout(BOUND, states.next()).await.unwrap() {
            last = Some(state.unwrap());
        }
        assert_eq!(
            last.unwrap(),
            ward.client.transaction_state(of).await.unwrap()
        );
        height(&ward.client.transaction_state(of).await.unwrap());
    });
}

/// Between the hospital and a node: passes everything on, but no transactions while it is closed.
#[derive(Default)]
struct Gate {
    is_open: AtomicBool,
    handed_in: Mutex<BTreeSet<Vec<u8>>>,
}

async fn gated(served: &Served, gate: &Arc<Gate>) -> ConsortiumClient {
    let mut bases = BTreeMap::new();
    for (node, base) in &served.bases {
        let (base, gate) = (base.clone(), Arc::clone(gate));
        let http = reqwest::Client::new();
        let pass = move |request: axum::extract::Request| {
            let (base, gate, http) = (base.clone(), Arc::clone(&gate), http.clone());
            async move {
                let target = request.uri().to_string();
                let method = request.method().clone();
                let body = axum::body::to_bytes(request.into_body(), 1 << 20).await;
                let body = body.unwrap();
                if target == "/v1/transactions" {
                    gate.handed_in.lock().unwrap().insert(body.to_vec());
                    if !gate.is_open.load(Ordering::SeqCst) {
                        return (503, Vec::new()).into_parts();
                    }
                }
                let answer = http.request(method, format!("{base}{target}")).body(body);
                match answer.send().await {
                    Ok(answer) => {
                        let status = answer.status().as_u16();
                        (status, answer.bytes().await.unwrap().to_vec()).into_parts()
                    }
                    Err(_) => (502, Vec::new()).into_parts(),
                }
            }
        };
        let (server, address) = bound().await;
        let router = axum::Router::new().fallback(pass);
        tokio::spawn(server.serve(router, std::future::pending()));
        bases.insert(*node, format!("http://{address}"));
    }
    ConsortiumClient::on_loopback(&served.hospitals.genesis, &bases).unwrap()
}

trait Parts {
    fn into_parts(self) -> (axum::http::StatusCode, Vec<u8>);
}

impl Parts for (u16, Vec<u8>) {
    fn into_parts(self) -> (axum::http::StatusCode, Vec<u8>) {
        (axum::http::StatusCode::from_u16(self.0).unwrap(), self.1)
    }
}

/// What was accepted while no node took it is handed in after a kill, the same bytes, and becomes
/// final; positions that were given before the kill are given to nobody after it.
#[test]
fn what_was_accepted_becomes_final_after_a_kill_byte_for_byte() {
    with_nodes(|served| async move {
        let folder = tempfile::tempdir().unwrap();
        let cloud = start_cloud(&served, folder.path()).await;
        let gate = Arc::new(Gate::default());
        gate.is_open.store(true, Ordering::SeqCst);
        let wish = Wish {
            chain: Some(gated(&served, &gate).await),
            ..Wish::default()
        };
        let ward = Ward::open(&served, folder.path(), cloud, wish).await;
        let made = ward.make(&served, cloud, &words()).await;
        let id = made.own.transaction;
        gate.is_open.store(false, Ordering::SeqCst);
        gate.handed_in.lock().unwrap().clear();
        let taken = made.hand_in(&ward.client).await.unwrap();
        assert_eq!(taken.state, SubmittedState::Pending);
        let handed_in = tokio::time::timeout(BOUND, async {
            while gate.handed_in.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        handed_in.await.unwrap();
        let (allocated, first) = made.positions[0];
        let second = ward.client.positions(&[allocated]).await.unwrap()[0];

        let ward = ward.restart(&served, folder.path(), cloud).await;
        let found = ward.client.settled(id, BOUND).await.unwrap();
        height(&found);
        let on_chain = served.client.transaction(id).await.unwrap();
        let bytes = on_chain.transaction.encode();
        assert_eq!(*gate.handed_in.lock().unwrap(), BTreeSet::from([bytes]));
        ward.hospital.has_epoch(0).await;
        let third = ward.client.positions(&[allocated]).await.unwrap()[0];
        let given = BTreeSet::from([first, second, third]);
        assert_eq!(given.len(), 3, "{given:?}");
        // It was countersigned once: handed in again it is what it was.
        assert_eq!(made.hand_in(&ward.client).await.unwrap(), found);
        // A position that was never given, and one that is final, are no position of a record.
        let (uncharted, settled) = (Position::new(7), first);
        for position in [uncharted, settled] {
            let mut other = made.own.statement.clone();
            other.time = Timestamp::new(other.time.number() + 1);
            let signature = other.sign(&served.hospitals.consortium, &ward.author.key);
            let mut positions = made.positions.clone();
            positions[0].1 = position;
            let refused = ward
                .client
                .record(&other, &signature, &positions, &made.receipt)
                .await;
            assert_eq!(status(refused), 409);
        }
    });
}

#[test]
fn the_quota_outlives_a_restart_and_a_repeated_call_counts_once() {
    with_nodes(|served| async move {
        let folder = tempfile::tempdir().unwrap();
        let cloud = start_cloud(&served, folder.path()).await;
        let ward = Ward::open(&served, folder.path(), cloud, Wish::default()).await;
        let writer = ward.hospital.has_epoch(0).await;
        let blinded = |count: usize| -> Vec<BlindedKeyword> {
            let many: Vec<_> = (0..count as u64)
                .map(|number| Keyword::new(&number.to_be_bytes()).unwrap())
                .collect();
            let draft =
                ward.author
                    .doctor
                    .begin_index(&ward.episode, writer, &many, &mut SystemRandom);
            draft.blinded()
        };
        let mut points = blinded(1_023);
        assert_eq!(points.len(), 1_024);
        let spare = blinded(60);
        let first = ward.client.raise(&points).await.unwrap();
        assert_eq!(ward.client.raise(&points).await.unwrap(), first);
        for other in &spare[..49] {
            points[0] = other.clone();
            ward.client.raise(&points).await.unwrap();
        }
        let over = ward.client.raise(&spare[50..51]).await;
        assert_eq!(status(over), 429);
        let ward = ward.restart(&served, folder.path(), cloud).await;
        ward.hospital.has_epoch(0).await;
        assert_eq!(status(ward.client.raise(&spare[51..52]).await), 429);
        // Positions are counted by themselves.
        let id = AllocationId::new([7; 32]);
        let given = ward.client.positions(&[id]).await.unwrap();
        assert_eq!(given, [Position::new(0)]);
        assert_eq!(status(ward.client.positions(&[id, id]).await), 422);
        for number in 1..8 {
            let given = ward.client.positions(&[id]).await.unwrap();
            assert_eq!(given, [Position::new(number)]);
        }
        let more = ward.client.positions(&[id]).await;
        assert_eq!(status(more), 503, "eight positions are open");
    });
}

#[test]
fn only_doctors_of_this_hospital_who_are_not_blocked_work() {
    with_nodes(|served| async move {
        let folder = tempfile::tempdir().unwrap();
        let cloud = start_cloud(&served, folder.path()).await;
        let ward = Ward::open(&served, folder.path(), cloud, Wish::default()).await;
        let hospital = &ward.hospital;
        let keys = *ward.author.doctor.public_keys();
        let other = Author::new(&served, 2).await;
        let stranger = hospital.client(&other.key);
        assert_eq!(status(stranger.give_uid().await), 403);
        assert_eq!(status(stranger.doctors(None).await), 403);
        // Another hospital's doctor, a forged certificate, another's certificate.
        assert_eq!(status(stranger.enter_doctor(&other.certificate).await), 403);
        assert_eq!(
            status(stranger.enter_doctor(&ward.author.certificate).await),
            422
        );
        let here = served.hospitals.consortium;
        let forger = SigningKey::from_seed([66; 32]);
        let (subject, end) = (Subject::new(3), ward.author.certificate.not_after());
        let forged = Certificate::issue(&here, &forger, subject, Holder::Doctor(keys), end);
        assert_eq!(status(ward.client.enter_doctor(&forged).await), 422);
        // Certified, but not on the chain.
        let unknown = SigningKey::from_seed([67; 32]);
        let unregistered = DoctorPublicKeys {
            id: DoctorId::new(4_711),
            signing: unknown.verifying_key(),
            hpke: HpkePrivateKey::derive(&[1; 32]).public_key(),
            ..keys
        };
        let unregistered = certificate(&served, unregistered, 1);
        let refused = hospital.client(&unknown).enter_doctor(&unregistered).await;
        assert_eq!(status(refused), 403);
        // An earlier certificate does not replace a later one; a later one does.
        let earlier = certificate(&served, keys, 1);
        assert_eq!(status(ward.client.enter_doctor(&earlier).await), 409);
        let later = certificate(&served, keys, 365);
        let entered = ward.client.enter_doctor(&later).await.unwrap();
        assert_eq!(entered.certificate.0, later.encode());

        assert_eq!(status(ward.client.block_doctor(keys.id).await), 403);
        let blocked = hospital.it().block_doctor(keys.id).await.unwrap();
        assert_eq!(blocked.blocked.unwrap().by, "night shift");
        let nobody = hospital.it().block_doctor(DoctorId::new(5)).await;
        assert_eq!(status(nobody), 404);
        assert_eq!(status(ward.client.give_uid().await), 403);
        assert_eq!(status(ward.client.handovers().await), 403);
        // The block is the doctor's, whatever certificate comes.
        let newest = certificate(&served, keys, 366);
        let entered = ward.client.enter_doctor(&newest).await.unwrap();
        assert!(entered.blocked.is_some());
        assert_eq!(status(ward.client.give_uid().await), 403);
        let patient = hospital.client(&ward.device.account);
        let refused = patient.hand_over(&ward.uid, keys.id, vec![1]).await;
        assert_eq!(status(refused), 404);
        let listed = patient.doctors(None).await.unwrap();
        assert_eq!((listed.doctors.len(), listed.next), (1, None));
        let after = patient.doctors(Some(keys.id)).await.unwrap();
        assert!(after.doctors.is_empty());

        let free = hospital.it().unblock_doctor(keys.id).await.unwrap();
        assert_eq!(free.blocked, None);
        ward.client.give_uid().await.unwrap();
        let deeds = hospital.it().deeds(None).await.unwrap();
        let action = format!("unblocked doctor {}", keys.id.number());
        assert_eq!((deeds.len(), &deeds[0].action), (2, &action));
        assert_eq!(deeds[1].actor, "it night shift");
        assert_eq!(status(ward.client.deeds(None).await), 403);

        // Revoked on the chain, the key does no new work once that is asked again.
        let registration = served.hospitals.registration(1);
        let revoked = served
            .hospitals
            .certificate_revocation(registration.id(&here));
        served.submit_to_all(&revoked).await;
        let ward = ward.restart(&served, folder.path(), cloud).await;
        ward.hospital.has_epoch(0).await;
        assert_eq!(status(ward.client.give_uid().await), 403);
        let raised = ward.client.positions(&[AllocationId::new([1; 32])]).await;
        assert_eq!(status(raised), 403);
    });
}

#[test]
fn a_mailbox_and_a_uid_are_their_owners() {
    with_nodes(|served| async move {
        let folder = tempfile::tempdir().unwrap();
        let cloud = start_cloud(&served, folder.path()).await;
        let ward = Ward::open(&served, folder.path(), cloud, Wish::default()).await;
        let hospital = &ward.hospital;
        let id = ward.author.doctor.public_keys().id;
        let owner = hospital.client(&ward.device.account);
        let other = hospital.client(&Device::new(&served, 2).account);
        let left = ward.client.leave_receipt(&ward.uid, vec![1, 2, 3]).await;
        let left = left.unwrap();
        // To anyone else the UID is as unknown as one that was never given.
        assert_eq!(status(other.bind_account(&ward.uid).await), 404);
        assert_eq!(status(other.receipts(&ward.uid).await), 404);
        assert_eq!(status(other.receipt_events(&ward.uid).await), 404);
        assert_eq!(status(other.remove_receipt(left.id).await), 404);
        assert_eq!(status(other.hand_over(&ward.uid, id, vec![1]).await), 404);
        assert_eq!(status(other.doctors(None).await), 403);
        let nobody = Uid::new(b"00112233445566ff").unwrap();
        assert_eq!(status(owner.receipts(&nobody).await), 404);
        assert_eq!(
            status(ward.client.leave_receipt(&nobody, vec![1]).await),
            404
        );
        assert_eq!(status(ward.client.unbind_account(&nobody).await), 404);
        let unknown = owner.hand_over(&ward.uid, DoctorId::new(9), vec![1]).await;
        assert_eq!(status(unknown), 404);
        owner.bind_account(&ward.uid).await.unwrap();

        // A lost device: a doctor frees the UID, and the next key owns it with all that waits.
        assert_eq!(status(other.unbind_account(&ward.uid).await), 403);
        ward.client.unbind_account(&ward.uid).await.unwrap();
        assert_eq!(status(owner.receipts(&ward.uid).await), 404);
        other.bind_account(&ward.uid).await.unwrap();
        assert_eq!(status(owner.bind_account(&ward.uid).await), 404);
        assert_eq!(other.receipts(&ward.uid).await.unwrap().len(), 1);
        other.remove_receipt(left.id).await.unwrap();
        // Its owner's next keys: passed on by who has it alone, as often as it is said.
        let third = hospital.client(&Device::new(&served, 3).account);
        let next = Device::new(&served, 3).account.verifying_key();
        assert_eq!(status(owner.pass_account_on(&ward.uid, &next).await), 404);
        other.pass_account_on(&ward.uid, &next).await.unwrap();
        other.pass_account_on(&ward.uid, &next).await.unwrap();
        assert_eq!(status(other.receipts(&ward.uid).await), 404);
        assert!(third.receipts(&ward.uid).await.is_ok());
        let back = Device::new(&served, 2).account.verifying_key();
        assert_eq!(status(other.pass_account_on(&ward.uid, &back).await), 404);
        let deeds = hospital.it().deeds(None).await.unwrap();
        assert_eq!(deeds[0].actor, format!("doctor {}", id.number()));
        assert!(deeds[0].action.contains("freed UID"));

        // Bounds: of a message, of a sender, of the body, of the fields.
        let long = ward.client.leave_receipt(&ward.uid, vec![0; 4_097]).await;
        assert_eq!(status(long), 413);
        assert_eq!(
            status(ward.client.leave_receipt(&ward.uid, vec![]).await),
            413
        );
        let huge = ward.client.leave_receipt(&ward.uid, vec![0; 40_000]).await;
        assert_eq!(status(huge), 413);
        for number in 0..64_u8 {
            ward.client
                .leave_receipt(&ward.uid, vec![number, 7])
                .await
                .unwrap();
        }
        let more = ward.client.leave_receipt(&ward.uid, vec![7, 8]).await;
        assert_eq!(status(more), 429);

        // What doctors say to each other is for doctors, read by whom it is for alone.
        let doctor = &ward.client;
        let sent = doctor.send_message(id, vec![4, 5, 6]).await.unwrap();
        let again = doctor.send_message(id, vec![4, 5, 6]).await.unwrap();
        assert_eq!(sent, again, "the same message counts once");
        let waiting = doctor.messages().await.unwrap();
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].from, id.number());
        assert_eq!(waiting[0].sealed.0, [4, 5, 6]);
        assert_eq!(status(other.messages().await), 403);
        assert_eq!(status(other.send_message(id, vec![1]).await), 403);
        assert_eq!(status(other.remove_message(sent.id).await), 403);
        let unknown = doctor.send_message(DoctorId::new(9), vec![1]).await;
        assert_eq!(status(unknown), 404);
        let longest = vec![7; parties::TEAM_MESSAGE_BYTES_MAX];
        doctor.send_message(id, longest.clone()).await.unwrap();
        let long = doctor.send_message(id, [longest, vec![7]].concat()).await;
        assert_eq!(status(long), 413);
        for number in 0..14_u8 {
            doctor.send_message(id, vec![number, 9]).await.unwrap();
        }
        assert_eq!(status(doctor.send_message(id, vec![99]).await), 429);
        doctor.remove_message(sent.id).await.unwrap();
        assert_eq!(status(doctor.remove_message(sent.id).await), 404);
        assert_eq!(doctor.messages().await.unwrap().len(), 15);

        let raw = hospital.service(&ward.author.key);
        let key = IdempotencyKey::random();
        let unknown = serde_json::json!({ "ids": ["00".repeat(32)], "more": 1 });
        let refused = raw
            .post::<serde_json::Value>("/v1/positions", &unknown, &key)
            .await;
        assert_eq!(status(refused), 400);
        let digits = serde_json::json!({ "ids": ["00".repeat(31)] });
        let refused = raw
            .post::<serde_json::Value>("/v1/positions", &digits, &key)
            .await;
        assert_eq!(status(refused), 400);
        for (length, expected) in [(47, 400), (0, 400), (48 * 1_025, 413), (48, 400)] {
            let refused = raw.post_bytes("/v1/raised", vec![0xff; length], &key).await;
            assert_eq!(status(refused), expected, "{length}");
        }

        hospital.database.close().await;
        let away = ward.client.handovers().await;
        assert_eq!(status(away), 503);
    });
}

fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// At a writer epoch's end the next is final on the chain before the old y's file is gone; an index of
/// the ended one is refused and says so. A server whose folder is empty begins the next.
#[test]
fn an_ended_writer_epoch_destroys_its_y() {
    with_nodes(|served| async move {
        let folder = tempfile::tempdir().unwrap();
        let cloud = start_cloud(&served, folder.path()).await;
        let ward = Ward::open(&served, folder.path(), cloud, Wish::default()).await;
        let place = folder.path().join("writer");
        let file = |number: u32| place.join(format!("writer-epoch-{number}"));
        assert_eq!(files(&place), BTreeSet::from([file(0)]));
        let made = ward.make(&served, cloud, &words()).await;
        assert_eq!(status(ward.client.end_writer_epoch().await), 403);
        let ending = ward.hospital.it().end_writer_epoch().await.unwrap();
        assert!(ending.ending);
        ward.hospital.has_epoch(1).await;
        let gone = tokio::time::timeout(BOUND, async {
            while files(&place) != BTreeSet::from([file(1)]) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        gone.await.expect("the old y is destroyed");
        let (writer, key) = ward.client.writer().await.unwrap();
        let epochs = agreed_epochs(&served, writer).await;
        assert_eq!(epochs.epochs.len(), 2);
        assert_eq!(epochs.current().unwrap(), &(writer.epoch, key));
        let refused = made.hand_in(&ward.client).await;
        let Err(ClientError::Refused(problem)) = refused else {
            panic!("a record of an ended writer epoch was taken");
        };
        assert_eq!(problem.status(), 409);
        assert!(problem.detail().contains("anew"), "{problem:?}");
        // Positions begin anew with the writer epoch, and the record with a new index is final.
        let (allocated, _) = made.positions[0];
        let given = ward.client.positions(&[allocated]).await.unwrap();
        assert_eq!(given, [Position::new(0)]);
        let anew = ward.make(&served, cloud, &words()).await;
        anew.hand_in(&ward.client).await.unwrap();
        let id = anew.own.transaction;
        height(&ward.client.settled(id, BOUND).await.unwrap());

        // The same y after a restart; with an empty folder the next writer epoch.
        let ward = ward.restart(&served, folder.path(), cloud).await;
        assert_eq!(ward.hospital.has_epoch(0).await.epoch.number(), 1);
        assert_eq!(files(&place), BTreeSet::from([file(1)]));
        ward.hospital.task.abort();
        std::fs::remove_file(file(1)).unwrap();
        let ward = ward.restart(&served, folder.path(), cloud).await;
        assert_eq!(ward.hospital.has_epoch(2).await.epoch.number(), 2);
        let deeds = ward.hospital.it().deeds(None).await.unwrap();
        assert_eq!(deeds[0].action, "ended writer epoch 0");
    });
}

/// Whoever hands in a record that is not the caller's, or without the cloud's word, is refused.
#[test]
fn a_record_needs_its_author_and_the_clouds_receipt() {
    with_nodes(|served| async move {
        let folder = tempfile::tempdir().unwrap();
        let cloud = start_cloud(&served, folder.path()).await;
        let ward = Ward::open(&served, folder.path(), cloud, Wish::default()).await;
        let made = ward.make(&served, cloud, &words()).await;
        let own = &made.own;
        let hand_in = async |statement: &scheme::RecordStatement, receipt: &StorageReceipt| {
            let signature = statement.sign(&served.hospitals.consortium, &ward.author.key);
            let positions = &made.positions;
            ward.client
                .record(statement, &signature, positions, receipt)
                .await
        };
        let mut forged = made.receipt;
        forged.length += 1;
        assert_eq!(status(hand_in(&own.statement, &forged).await), 422);
        let mut other = own.statement.clone();
        other.digest = sha256(b"another container");
        assert_eq!(status(hand_in(&other, &made.receipt).await), 422);
        let mut other = own.statement.clone();
        other.author = SigningKey::from_seed([66; 32]).verifying_key();
        assert_eq!(status(hand_in(&other, &made.receipt).await), 422);
        let signature = scheme::Signature::new([7; 64]);
        let unsigned = ward
            .client
            .record(&own.statement, &signature, &made.positions, &made.receipt)
            .await;
        assert_eq!(status(unsigned), 422);
        let none = ward
            .client
            .record(&own.statement, &own.signature, &[], &made.receipt)
            .await;
        assert_eq!(status(none), 422);
        let unknown = ward.client.transaction_state(own.transaction).await;
        assert_eq!(status(unknown), 404);
        made.hand_in(&ward.client).await.unwrap();
        // The positions are this record's from now on, so another one cannot have them.
        let mut other = own.statement.clone();
        other.time = Timestamp::new(other.time.number() + 1);
        assert_eq!(status(hand_in(&other, &made.receipt).await), 409);
        height(&ward.client.settled(own.transaction, BOUND).await.unwrap());

        // What the chain's rules refuse is refused for good, with the reason: here tags that are taken,
        // since the doctor names positions that were given for another index.
        let mut taken = own.statement.clone();
        taken.time = Timestamp::new(taken.time.number() + 2);
        let ids: Vec<_> = made.positions.iter().map(|(id, _)| *id).collect();
        let given = ward.client.positions(&ids).await.unwrap();
        let positions: Vec<_> = ids.into_iter().zip(given).collect();
        let signature = taken.sign(&served.hospitals.consortium, &ward.author.key);
        let submitted = ward
            .client
            .record(&taken, &signature, &positions, &made.receipt)
            .await
            .unwrap();
        let id = TransactionId::new(submitted.transaction.0);
        let refused = ward.client.settled(id, BOUND).await.unwrap();
        let SubmittedState::Refused { reason } = refused.state else {
            panic!("taken tags were taken again: {refused:?}");
        };
        assert!(reason.contains("build its index anew"), "{reason}");
    });
}

/// The file of a container in this store.
fn container(store: &Path, address: Address) -> PathBuf {
    let name = hex::encode(address.as_bytes());
    let (_, files) = storage::containers(store);
    files.join(&name[..2]).join(name)
}

/// What the cloud loses or alters is found, named to IT with the receipt, and restored.
#[test]
fn lost_and_altered_containers_are_found_and_restored() {
    with_nodes(|served| async move {
        let folder = tempfile::tempdir().unwrap();
        let cloud = start_cloud(&served, folder.path()).await;
        let wish = Wish {
            scrub_every: Duration::from_millis(400),
            second_store: true,
            chain: None,
        };
        let ward = Ward::open(&served, folder.path(), cloud, wish).await;
        let made = ward.make(&served, cloud, &words()).await;
        let address = made.receipt.address;
        let place = container(&folder.path().join("cloud"), address);
        let original = std::fs::read(&place).unwrap();
        made.hand_in(&ward.client).await.unwrap();
        let id = made.own.transaction;
        height(&ward.client.settled(id, BOUND).await.unwrap());
        let copy = container(&folder.path().join("second"), address);
        let copied = async || {
            let copied = tokio::time::timeout(BOUND, async {
                while std::fs::read(&copy).unwrap_or_default() != original {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
            copied.await.expect("the container is copied");
        };
        copied().await;
        assert_eq!(status(ward.client.damages().await), 403);
        assert!(ward.hospital.it().damages().await.unwrap().is_empty());

        let mut altered = original.clone();
        altered[150_000] ^= 1;
        let restored = async |lost: bool| {
            let restored = tokio::time::timeout(BOUND, async {
                loop {
                    let damages = ward.hospital.it().damages().await.unwrap();
                    let found = damages.into_iter().find(|one| one.restored.is_some());
                    if let Some(found) = found.filter(|one| one.lost == lost) {
                        return found;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
            let found = restored.await.expect("it is found and restored");
            assert_eq!(found.receipt.0.to_vec(), made.receipt.encode());
            assert_eq!(std::fs::read(&place).unwrap(), original, "{found:?}");
            found
        };
        std::fs::remove_file(&place).unwrap();
        restored(true).await;
        std::fs::write(&place, &altered).unwrap();
        let found = restored(false).await;
        assert!(found.detail.contains("the cloud"), "{found:?}");

        // A copy is read in turn as well, and made anew while the cloud has the container.
        for damage in [None, Some(&altered)] {
            match damage {
                None => std::fs::remove_file(&copy).unwrap(),
                Some(altered) => std::fs::write(&copy, altered).unwrap(),
            }
            copied().await;
        }

        // Without a copy it is named, and stays so.
        std::fs::remove_file(&copy).unwrap();
        std::fs::remove_file(&place).unwrap();
        let named = tokio::time::timeout(BOUND, async {
            loop {
                let damages = ward.hospital.it().damages().await.unwrap();
                let found = damages.into_iter().find(|one| one.restored.is_none());
                if let Some(found) = found.filter(|one| one.detail.contains("second store")) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert!(named.await.expect("it is named").lost);
    });
}
