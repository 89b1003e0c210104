//! Studies come over once and whole: from a real Orthanc that is restarted in the middle, and from one of
//! ours that breaks off, changes and lies as it is told.
#![allow(clippy::unwrap_used, reason = "a test")]

mod given;
mod orthanc_server;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use client::{CloudEntry, Directory, Hex, Members, ServiceEntry, TlsIdentity};
use gateway::intake::{Orthanc, OrthancConfig, OrthancError, Polled, Queue, QueueBounds, Source};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use services::{Server, ServerTls};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use given::{BOUND, Scripted, empty, names, open, sample};
use orthanc_server::OrthancServer;

const SLICES: [&str; 4] = ["17106", "17136", "17166", "17196"];

fn slice(name: &str) -> Vec<u8> {
    fs::read(sample("secondary-hospital/ct-head").join(name)).unwrap()
}

fn config(address: &str, folder: &TempDir) -> OrthancConfig {
    let [user, password] = OrthancServer::USER;
    let file = folder.path().join("password");
    fs::write(&file, format!("{password}\n")).unwrap();
    let mut config = OrthancConfig::new(address);
    config.user = Some(user.to_owned());
    config.password_file = Some(file);
    config.patient_system = Some("urn:oid:1.2".to_owned());
    config
}

async fn upload(server: &OrthancServer, name: &str) {
    let [user, password] = OrthancServer::USER;
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .unwrap();
    let request = client.post(format!("{}/instances", server.address()));
    let request = request.basic_auth(user, Some(password)).body(slice(name));
    let answer = request.send().await.unwrap();
    assert!(
        answer.status().is_success(),
        "{}",
        answer.text().await.unwrap()
    );
}

/// Polls until something was accepted.
async fn accepted(orthanc: &mut Orthanc) -> Polled {
    let end = Instant::now() + BOUND;
    loop {
        let polled = orthanc.poll().await.unwrap();
        if polled.accepted > 0 {
            return polled;
        }
        assert!(Instant::now() < end, "nothing was accepted: {polled:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_study_of_a_real_orthanc_arrives_once_whatever_is_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("queue");
    let mut server = OrthancServer::start(1);
    // What it had before is not asked for.
    upload(&server, "17106").await;
    let queue = open(&place);
    let config = config(&server.address(), &folder);
    let mut orthanc = Orthanc::new(config.clone(), queue.clone()).unwrap();
    let first = orthanc.poll().await.unwrap();
    assert_eq!((first.accepted, first.repeated), (0, 0));

    // It is restarted before it said that the study is stable, and never says so.
    upload(&server, "17136").await;
    orthanc.poll().await.unwrap();
    server.restart();
    // So is the gateway.
    drop((orthanc, queue));
    let queue = open(&place);
    let mut orthanc = Orthanc::new(config.clone(), queue.clone()).unwrap();
    let polled = accepted(&mut orthanc).await;
    assert_eq!((polled.accepted, polled.waiting), (1, 0));

    // More of the same study is another delivery, of all that it has then.
    for name in &SLICES[2..] {
        upload(&server, name).await;
    }
    accepted(&mut orthanc).await;
    let destination = Scripted::default();
    empty(&queue, &destination).await.unwrap();
    drop((orthanc, queue));
    let queue = open(&place);
    let mut orthanc = Orthanc::new(config, queue.clone()).unwrap();
    // Stable again or not, nothing comes twice.
    server.restart();
    for _ in 0..3 {
        let polled = orthanc.poll().await.unwrap();
        assert_eq!((polled.accepted, polled.waiting), (0, 0));
    }

    let got = destination.taken();
    let bytes = |number: usize| {
        let mut bytes: Vec<_> = got[number]
            .files
            .iter()
            .map(|(_, bytes)| bytes.clone())
            .collect();
        bytes.sort();
        bytes
    };
    let expected = |names: &[&str]| {
        let mut bytes: Vec<_> = names.iter().map(|name| slice(name)).collect();
        bytes.sort();
        bytes
    };
    assert_eq!(got.len(), 2);
    assert_eq!(bytes(0), expected(&SLICES[..2]));
    assert_eq!(bytes(1), expected(&SLICES));
    assert_eq!(got[1].source, Source::Orthanc);
    assert_eq!(
        got[1].patient,
        [("urn:oid:1.2".to_owned(), "77654033".to_owned())]
    );
    assert_eq!(
        got[1].reference,
        "1.3.6.1.4.1.5962.1.1.0.0.0.1196530851.28319.0.1"
    );
    let prefix = "1.3.6.1.4.1.5962.1.1.0.0.0.1196530851.28319.0.";
    for (name, _) in &got[1].files {
        assert!(name.starts_with(prefix) && name.ends_with(".dcm"), "{name}");
    }
    assert!(names(place.join("drafts")).is_empty());
}

#[tokio::test]
async fn a_real_orthanc_is_asked_for_what_it_had_and_refuses_strangers() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(&folder.path().join("queue"));
    let server = OrthancServer::start(1);
    for name in SLICES {
        upload(&server, name).await;
    }
    let mut config = config(&server.address(), &folder);
    config.earlier_studies = true;
    fs::write(config.password_file.as_ref().unwrap(), "another").unwrap();
    let mut stranger = Orthanc::new(config.clone(), queue.clone()).unwrap();
    assert!(matches!(
        stranger.poll().await,
        Err(OrthancError::Unauthorised)
    ));
    fs::write(
        config.password_file.as_ref().unwrap(),
        OrthancServer::USER[1],
    )
    .unwrap();
    let orthanc = Orthanc::new(config, queue.clone()).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(orthanc.run(async {
        let _ = stopped.await;
    }));
    let taken = async {
        while queue.counts().waiting == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, taken).await.unwrap();
    stop.send(()).unwrap();
    tokio::time::timeout(BOUND, running).await.unwrap().unwrap();
    let destination = Scripted::default();
    empty(&queue, &destination).await.unwrap();
    let got = destination.taken();
    assert_eq!((got.len(), got[0].files.len()), (1, 4));
}

const STUDY: &str = "00000001-00000000-00000000-00000000-00000000";

/// What an Orthanc of ours has and does.
#[derive(Default)]
struct Fake {
    changes: Vec<(&'static str, String)>,
    /// Time of the last update and instances of each study, in their order.
    studies: BTreeMap<String, (String, Vec<String>)>,
    files: BTreeMap<String, Vec<u8>>,
    unstable: bool,
    /// The instance whose file breaks off in the middle.
    broken: Option<String>,
    /// The instance whose fetching changes the study.
    changing: Option<String>,
    /// By how much it says that files are longer.
    lie: u64,
    fetched: Vec<String>,
}

type Shared = Arc<Mutex<Fake>>;

fn instance(number: usize) -> String {
    format!("{number:08x}-00000000-00000000-00000000-00000001")
}

impl Fake {
    fn has(&mut self, study: &str, update: &str, instances: &[usize]) {
        let ids: Vec<String> = instances.iter().map(|number| instance(*number)).collect();
        for id in &ids {
            let bytes = id.as_bytes().repeat(1_000);
            self.files.insert(id.clone(), bytes);
        }
        self.studies
            .insert(study.to_owned(), (update.to_owned(), ids));
        self.changes.push(("StableStudy", study.to_owned()));
    }

    fn study(&self, id: &str) -> Option<Value> {
        let (update, _) = self.studies.get(id)?;
        Some(json!({
            "ID": id, "IsStable": !self.unstable, "LastUpdate": update, "Type": "Study",
            "MainDicomTags": {"StudyInstanceUID": format!("1.2.{}", &id[..8])},
            "PatientMainDicomTags": {"PatientID": " 4711 "},
        }))
    }
}

fn found(value: Option<Value>) -> Response {
    match value {
        Some(value) => Json(value).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn changes(State(fake): State<Shared>, RawQuery(query): RawQuery) -> Json<Value> {
    let fake = fake.lock().unwrap();
    let query = query.unwrap_or_default();
    let number = |name: &str| {
        let value = query.split('&').find_map(|part| part.strip_prefix(name));
        value.map(|value| value.parse::<usize>().unwrap())
    };
    let all = fake.changes.len();
    let since = number("since=").unwrap_or(all);
    let last = (since + number("limit=").unwrap_or(0)).min(all);
    let page = fake.changes.get(since..last).unwrap_or_default();
    let page: Vec<Value> = page
        .iter()
        .map(|(kind, id)| json!({"ChangeType": kind, "ID": id}))
        .collect();
    // As Orthanc does, also if it is asked for what is behind the end.
    Json(json!({"Changes": page, "Done": last >= all, "Last": last}))
}

async fn study(State(fake): State<Shared>, Path(id): Path<String>) -> Response {
    found(fake.lock().unwrap().study(&id))
}

async fn study_of(State(fake): State<Shared>, Path(id): Path<String>) -> Response {
    let fake = fake.lock().unwrap();
    let mut studies = fake.studies.iter();
    let study = studies.find(|(_, (_, instances))| instances.contains(&id));
    found(study.and_then(|(study, _)| fake.study(study)))
}

async fn instances(State(fake): State<Shared>, Path(id): Path<String>) -> Response {
    let fake = fake.lock().unwrap();
    let study = fake.studies.get(&id);
    found(study.map(|(_, instances)| {
        let each = instances.iter().enumerate().map(|(place, instance)| {
            json!({
                "ID": instance, "FileSize": fake.files[instance].len() as u64 + fake.lie,
                "IndexInSeries": place, "ParentSeries": STUDY,
                "MainDicomTags": {"SOPInstanceUID": format!("../{}", &instance[..8])},
            })
        });
        each.collect()
    }))
}

async fn file(State(fake): State<Shared>, Path(id): Path<String>) -> Response {
    let mut fake = fake.lock().unwrap();
    let Some(bytes) = fake.files.get(&id).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if fake.broken.as_ref() == Some(&id) {
        let half = Bytes::from(bytes[..bytes.len() / 2].to_vec());
        let pieces = futures::stream::iter([Ok(half), Err(std::io::Error::other("broken off"))]);
        return Body::from_stream(pieces).into_response();
    }
    if fake.changing.take_if(|changing| *changing == id).is_some() {
        fake.has(STUDY, "20261127T120009", &[1, 2, 3, 4]);
    }
    fake.fetched.push(id);
    bytes.into_response()
}

fn router(fake: Shared) -> Router {
    Router::new()
        .route("/changes", get(changes))
        .route("/studies/{id}", get(study))
        .route("/studies/{id}/instances", get(instances))
        .route("/instances/{id}/study", get(study_of))
        .route("/instances/{id}/file", get(file))
        .with_state(fake)
}

/// An Orthanc of ours, a queue, and what reads the one into the other.
struct Place {
    folder: TempDir,
    fake: Shared,
    config: OrthancConfig,
    queue: Queue,
    orthanc: Orthanc,
    serving: Serving,
}

/// Ends the server with the test.
struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Place {
    async fn new(bounds: QueueBounds, begin: impl FnOnce(&mut Fake)) -> Self {
        let fake = Shared::default();
        begin(&mut fake.lock().unwrap());
        let router = router(Arc::clone(&fake));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        let serving = Serving(serving);
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::open(&folder.path().join("queue"), bounds).unwrap();
        let mut config = config(&address, &folder);
        config.earlier_studies = true;
        let orthanc = Orthanc::new(config.clone(), queue.clone()).unwrap();
        Self {
            folder,
            fake,
            config,
            queue,
            orthanc,
            serving,
        }
    }

    /// As a later process has it.
    fn restart(self) -> Self {
        let Self {
            folder,
            fake,
            config,
            queue,
            orthanc,
            serving,
        } = self;
        drop((queue, orthanc));
        let queue = open(&folder.path().join("queue"));
        let orthanc = Orthanc::new(config.clone(), queue.clone()).unwrap();
        Self {
            folder,
            fake,
            config,
            queue,
            orthanc,
            serving,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Fake)) {
        change(&mut self.fake.lock().unwrap());
    }

    /// The names of the instances that were fetched since this was asked last.
    fn fetched(&self) -> Vec<String> {
        std::mem::take(&mut self.fake.lock().unwrap().fetched)
    }

    fn drafts(&self) -> Vec<String> {
        names(self.folder.path().join("queue/drafts"))
    }
}

fn polled(accepted: usize, repeated: usize, waiting: usize) -> Polled {
    Polled {
        accepted,
        repeated,
        waiting,
        ..Polled::default()
    }
}

#[tokio::test]
async fn an_interrupted_fetch_goes_on_behind_what_is_there() {
    let mut place = Place::new(QueueBounds::default(), |fake| {
        fake.has(STUDY, "20261127T120000", &[1, 2, 3]);
        fake.broken = Some(instance(2));
    })
    .await;
    assert!(matches!(
        place.orthanc.poll().await,
        Err(OrthancError::Away(_))
    ));
    assert_eq!(place.fetched(), [instance(1)]);
    assert_eq!(place.drafts().len(), 1);
    assert_eq!(place.queue.counts().waiting, 0);
    let mut place = place.restart();
    assert!(matches!(
        place.orthanc.poll().await,
        Err(OrthancError::Away(_))
    ));
    place.change(|fake| fake.broken = None);
    assert_eq!(place.orthanc.poll().await.unwrap(), polled(1, 0, 0));
    assert_eq!(
        place.fetched(),
        [instance(2), instance(3)],
        "the first was here"
    );
    assert!(place.drafts().is_empty());

    let destination = Scripted::default();
    empty(&place.queue, &destination).await.unwrap();
    let got = destination.taken();
    let expected = [1, 2, 3].map(|number| {
        let id = instance(number);
        (format!("{}.dcm", &id[..8]), id.as_bytes().repeat(1_000))
    });
    assert_eq!(
        got[0].files, expected,
        "in their order, under names without folders"
    );
    assert_eq!(got[0].patient[0].1, "4711");
    // The same change again, as a gateway reads it that lost its cursor.
    let cursor = place.folder.path().join("queue/orthanc.json");
    fs::remove_file(cursor).unwrap();
    let mut place = place.restart();
    assert_eq!(place.orthanc.poll().await.unwrap(), polled(0, 1, 0));
    assert!(place.fetched().is_empty());
}

#[tokio::test]
async fn a_study_that_changes_while_it_is_fetched_is_taken_when_it_is_whole() {
    let mut place = Place::new(QueueBounds::default(), |fake| {
        fake.has(STUDY, "20261127T120000", &[1, 2, 3]);
        fake.changing = Some(instance(2));
    })
    .await;
    assert_eq!(place.orthanc.poll().await.unwrap(), polled(0, 0, 1));
    assert_eq!(place.orthanc.poll().await.unwrap(), polled(1, 0, 0));
    let destination = Scripted::default();
    empty(&place.queue, &destination).await.unwrap();
    let got = destination.taken();
    assert_eq!((got.len(), got[0].files.len()), (1, 4));
    assert!(
        place.drafts().is_empty(),
        "what was fetched of the earlier state is gone"
    );
}

#[tokio::test]
async fn what_is_not_yet_taken_is_not_forgotten() {
    let bounds = QueueBounds {
        deliveries_max: 1,
        ..QueueBounds::default()
    };
    let other = STUDY.replace("00000001-", "00000002-");
    let mut place = Place::new(bounds, |fake| {
        fake.has(STUDY, "20261127T120000", &[1]);
        fake.has(&other, "20261127T120000", &[2]);
        fake.unstable = true;
        // More than a page, of which only the last names something.
        let nobody = ("UpdatedMetadata", STUDY.to_owned());
        fake.changes = vec![nobody; 250];
        fake.changes.push(("NewInstance", instance(1)));
        fake.changes.push(("NewStudy", other.clone()));
        fake.changes.push(("NewInstance", instance(99)));
    })
    .await;
    assert_eq!(place.orthanc.poll().await.unwrap(), polled(0, 0, 2));
    let mut place = place.restart();
    assert_eq!(place.orthanc.poll().await.unwrap(), polled(0, 0, 2));
    // It is stable and does not say so; the queue has room for one.
    place.queue = {
        let folder = place.folder.path().join("elsewhere");
        Queue::open(&folder, bounds).unwrap()
    };
    place.orthanc = Orthanc::new(place.config.clone(), place.queue.clone()).unwrap();
    place.change(|fake| fake.unstable = false);
    assert_eq!(place.orthanc.poll().await.unwrap(), polled(1, 0, 1));
    assert_eq!(place.orthanc.poll().await.unwrap(), polled(0, 0, 1));
    let destination = Scripted::default();
    empty(&place.queue, &destination).await.unwrap();
    assert_eq!(place.orthanc.poll().await.unwrap(), polled(1, 0, 0));
    empty(&place.queue, &destination).await.unwrap();
    assert_eq!(destination.taken().len(), 2);
    // One that was removed from Orthanc is not waited for.
    place.change(|fake| {
        let gone = STUDY.replace("00000001-", "00000003-");
        fake.changes.push(("StableStudy", gone));
    });
    assert_eq!(place.orthanc.poll().await.unwrap(), polled(0, 0, 0));
}

#[tokio::test]
async fn what_lies_or_counts_anew_takes_nothing_away() {
    let mut place = Place::new(QueueBounds::default(), |fake| {
        fake.has(STUDY, "20261127T120000", &[1]);
        fake.lie = 1;
    })
    .await;
    assert!(matches!(
        place.orthanc.poll().await,
        Err(OrthancError::Length)
    ));
    place.change(|fake| fake.lie = 0);
    assert_eq!(place.orthanc.poll().await.unwrap(), polled(1, 0, 0));
    // Another database in its place, with fewer changes than were read.
    let other = STUDY.replace("00000001-", "00000002-");
    place.change(|fake| {
        fake.changes.extend(vec![("Deleted", STUDY.to_owned()); 50]);
    });
    assert_eq!(place.orthanc.poll().await.unwrap(), polled(0, 0, 0));
    place.change(|fake| {
        fake.changes.clear();
        fake.has(&other, "20261127T120001", &[2]);
    });
    let mut place = place.restart();
    assert_eq!(place.orthanc.poll().await.unwrap(), polled(1, 0, 0));
    // An id that would lead elsewhere.
    place.change(|fake| {
        fake.changes
            .push(("StableStudy", "../tools/reset".to_owned()));
    });
    assert!(matches!(
        place.orthanc.poll().await,
        Err(OrthancError::Answer)
    ));
}

#[tokio::test]
async fn a_configuration_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(&folder.path().join("queue"));
    let new = |address: &str, change: fn(&mut OrthancConfig)| {
        let mut config = OrthancConfig::new(address);
        change(&mut config);
        Orthanc::new(config, queue.clone()).map(drop)
    };
    assert!(new("http://127.0.0.1:8042", |_| {}).is_ok());
    for address in [
        "http://10.0.0.1:8042",
        "http://localhost:8042",
        "https://pacs.example",
    ] {
        let refused = new(address, |_| {});
        assert!(
            matches!(refused, Err(OrthancError::Unencrypted)),
            "{address}"
        );
    }
    for address in ["ftp://127.0.0.1", "http://127.0.0.1/orthanc/"] {
        let refused = new(address, |_| {});
        assert!(matches!(refused, Err(OrthancError::Address)), "{address}");
    }
    let refused = new("http://127.0.0.1:8042", |config| config.poll_seconds = 0);
    assert!(matches!(refused, Err(OrthancError::Poll)));
    let refused = new("http://127.0.0.1:8042", |config| {
        config.password_file = Some(PathBuf::from("/nowhere/password"));
    });
    assert!(matches!(refused, Err(OrthancError::File(..))));
    let refused = new("https://127.0.0.1:8042", |config| {
        config.authority_file = Some(PathBuf::from(file!()).with_extension("none"));
    });
    assert!(matches!(refused, Err(OrthancError::File(..))));
    let read = |text| serde_json::from_str::<OrthancConfig>(text);
    let config = read(r#"{"address": "http://127.0.0.1:8042"}"#).unwrap();
    assert_eq!(config, OrthancConfig::new("http://127.0.0.1:8042"));
    assert!(read(r#"{"address": "http://127.0.0.1:8042", "password": "x"}"#).is_err());
}

/// An authority's certificate in PEM, and an identity of this machine's that it issued.
fn authority(folder: &TempDir) -> (String, TlsIdentity) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap().pem();
    let paths = ["own.pem", "own.key"].map(|file| folder.path().join(file));
    fs::write(&paths[0], own).unwrap();
    fs::write(&paths[1], key.serialize_pem()).unwrap();
    (authority, TlsIdentity::load(&paths[0], &paths[1]).unwrap())
}

// An Orthanc of ours behind our own TLS: Debian's ends when it is asked over its own, and hospitals put
// another server before it.
#[tokio::test]
async fn an_orthanc_that_encrypts_is_judged_by_the_configured_authority() {
    let folder = tempfile::tempdir().unwrap();
    let ((pem, identity), (other, _)) = (authority(&folder), authority(&folder));
    // Of those who show a certificate, which the gateway does not.
    let entry = || ServiceEntry {
        address: "https://127.0.0.1:1".into(),
        authority: Some(pem.clone()),
    };
    let directory = Directory {
        serial: 0,
        centre: entry(),
        query: entry(),
        cloud: CloudEntry {
            address: "https://127.0.0.1:1".into(),
            authority: None,
            receipt_key: Hex([1; 32]),
        },
        institutions: Vec::new(),
    };
    let nobody = Members::new([], BTreeMap::new());
    let tls = ServerTls::new(identity, &directory, &nobody, Vec::new()).unwrap();
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), Some(tls));
    let server = server.await.unwrap();
    let address = format!("https://{}", server.address().unwrap());
    let fake = Shared::default();
    fake.lock().unwrap().has(STUDY, "20261127T120000", &[1, 2]);
    let _serving = Serving(tokio::spawn(
        server.serve(router(fake), std::future::pending()),
    ));

    let queue = open(&folder.path().join("queue"));
    let mut config = config(&address, &folder);
    config.earlier_studies = true;
    let file = folder.path().join("authority.pem");
    config.authority_file = Some(file.clone());
    fs::write(&file, other).unwrap();
    let mut orthanc = Orthanc::new(config.clone(), queue.clone()).unwrap();
    assert!(matches!(orthanc.poll().await, Err(OrthancError::Away(_))));
    fs::write(&file, pem).unwrap();
    let mut orthanc = Orthanc::new(config.clone(), queue.clone()).unwrap();
    assert_eq!(orthanc.poll().await.unwrap(), polled(1, 0, 0));
    fs::write(&file, "no certificate").unwrap();
    let refused = Orthanc::new(config, queue).map(drop);
    assert!(matches!(refused, Err(OrthancError::Authority(_))));
}
