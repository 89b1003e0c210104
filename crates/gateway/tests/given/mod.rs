//! What the intake's tests are given: queues, deliveries, and a destination that fails as it is told.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use gateway::intake::{
    Accepted, Delivery, DeliveryId, DeliveryKey, Destination, Intake, NewDelivery, NewFile,
    NotAccepted, NotDelivered, Pace, PatientNumber, Queue, QueueBounds, QueueError, Receipt,
    Source,
};
use record::FileName;
use tokio::sync::Notify;

/// Until what a test waits for has to come about, on a busy machine.
pub const BOUND: Duration = Duration::from_secs(60);

/// Pauses that no test waits for: 1 ms, 2 ms, then 4.
pub const QUICK: Pace = Pace {
    first: Duration::from_millis(1),
    longest: Duration::from_millis(4),
    tries_max: 3,
};

pub fn open(folder: &Path) -> Queue {
    Queue::open(folder, QueueBounds::default()).unwrap()
}

/// A delivery of one file with this text, known by its name.
pub fn give(queue: &Queue, name: &str, text: &str) -> Result<Accepted, NotAccepted> {
    let file = NewFile {
        name: FileName::new(&format!("{name}.txt")).unwrap(),
        media_type: None,
        bytes: text.as_bytes().to_vec().into(),
    };
    queue.accept(&new(name), vec![file])
}

pub fn new(name: &str) -> NewDelivery {
    NewDelivery {
        source: Source::Fhir,
        key: DeliveryKey::of(Source::Fhir, &[name.as_bytes()]),
        reference: name.to_owned(),
        patient: vec![PatientNumber::new(Some("urn:oid:1.2"), "4711").unwrap()],
    }
}

pub fn given(queue: &Queue, name: &str) -> DeliveryId {
    match give(queue, name, name).unwrap() {
        Accepted::New(id) => id,
        Accepted::Repeated(id) => panic!("{name} was there already, as {id}"),
    }
}

/// What was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    pub id: DeliveryId,
    pub source: Source,
    pub reference: String,
    /// Systems and values.
    pub patient: Vec<(String, String)>,
    /// Names and bytes.
    pub files: Vec<(String, Vec<u8>)>,
    pub tries: u32,
}

/// How a try ends.
pub enum Act {
    Take,
    Passing(&'static str),
    ForGood(&'static str),
    Panic,
    /// Never, until the gateway stops.
    Hang,
}

/// Ends each try as it was told, and takes everything after that.
#[derive(Default)]
pub struct Scripted {
    acts: Mutex<VecDeque<Act>>,
    pub got: Mutex<Vec<Got>>,
    pub tried: Notify,
}

impl Scripted {
    pub fn new(acts: impl IntoIterator<Item = Act>) -> Self {
        Self {
            acts: Mutex::new(acts.into_iter().collect()),
            ..Self::default()
        }
    }

    pub fn taken(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

impl Destination for Scripted {
    async fn deliver(&self, delivery: &Delivery) -> Result<Receipt, NotDelivered> {
        let act = self.acts.lock().unwrap().pop_front().unwrap_or(Act::Take);
        self.tried.notify_one();
        match act {
            Act::Take => {
                let number = |number: &PatientNumber| {
                    let system = number.system().unwrap_or_default().to_owned();
                    (system, number.value().to_owned())
                };
                let files = delivery.files.iter().map(|file| {
                    let bytes = fs::read(&file.path).unwrap();
                    assert_eq!(bytes.len() as u64, file.bytes);
                    (file.name.to_string(), bytes)
                });
                self.got.lock().unwrap().push(Got {
                    id: delivery.id,
                    source: delivery.source,
                    reference: delivery.reference.clone(),
                    patient: delivery.patient.iter().map(number).collect(),
                    files: files.collect(),
                    tries: delivery.tries,
                });
                Ok(Receipt(format!("record-of-{}", delivery.reference)))
            }
            Act::Passing(why) => Err(NotDelivered::Passing(why.to_owned())),
            Act::ForGood(why) => Err(NotDelivered::ForGood(why.to_owned())),
            Act::Panic => panic!("as the test wants it"),
            Act::Hang => std::future::pending().await,
        }
    }
}

/// Runs the intake until nothing waits.
pub async fn empty(queue: &Queue, destination: &Scripted) -> Result<(), QueueError> {
    let done = async {
        while queue.counts().waiting > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let run = Intake::new(queue.clone(), QUICK)
        .run(destination, done)
        .await;
    run.map(|()| assert_eq!(queue.counts().waiting, 0))
}

/// Everything that lies below a folder, but for the lock: what would be there if the machine stopped now.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The names in a folder.
pub fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub fn sample(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../samples")
        .join(path)
}
