//! The cloud's HTTP interface, to a hospital whose node says who its doctor is.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use client::{Hex, Members, NewUpload, ServiceName, UploadState};
use scheme::{SigningKey, sha256};
use services::{
    CLOUD_SCHEMA, CloudConfig, CloudService, ContainerStore, Database, DatabaseLocation,
    serve_cloud,
};

use crate::alone::{self, HOSPITALS};
use crate::input::Input;
use crate::served::{Known, Once, RUNTIME, Served, until_the_end};

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let hospitals = &*HOSPITALS;
    let folder = tempfile::tempdir().expect("a folder");
    let records = DatabaseLocation::Sqlite(folder.path().join("cloud.sqlite"));
    let address = RUNTIME.block_on(async {
        let chain = alone::with_doctor().await;
        let config = CloudConfig {
            spool: folder.path().join("spool"),
            container_bytes_max: 64 << 20,
            institution_bytes_per_day: 1 << 50,
            // What inputs leave behind does not fill the disk.
            grace: Duration::from_secs(2),
            tidy_every: Duration::from_secs(1),
            rate_per_second: 1_000,
        };
        let database = Database::open(&records, CLOUD_SCHEMA).await;
        let database = database.expect("an empty folder");
        let store = ContainerStore::open(&folder.path().join("store"));
        let founders = hospitals.genesis.institutions.iter().cloned();
        let service = CloudService::new(
            hospitals.consortium,
            SigningKey::from_seed([40; 32]),
            config,
            database.clone(),
            store.expect("an empty folder"),
            chain,
            Members::new(founders, BTreeMap::new()),
        );
        let service = Arc::new(service.expect("an empty folder"));
        until_the_end(folder, |server, stopped| async move {
            serve_cloud(service, server, stopped).await;
            database.close().await;
        })
        .await
    });
    Served {
        address,
        consortium: hospitals.consortium,
        name: ServiceName::Cloud,
        paths: &[
            ("POST", "/v1/uploads"),
            ("PATCH", "/v1/uploads/{}"),
            ("GET", "/v1/uploads/{}"),
            ("GET", "/v1/containers/{}"),
            ("GET", "/v1/containers/{}/receipt"),
            ("GET", "/v1/damages"),
            ("GET", "/v1/openapi.json"),
        ],
    }
});

/// The hospital's doctor, the hospital's server and a stranger.
struct Callers {
    keys: [SigningKey; 3],
    /// The last upload that the cloud began for this input, and where its container will lie.
    begun: Mutex<([u8; 16], [u8; 32])>,
    once: Once,
}

impl Callers {
    fn of(bytes: &[u8]) -> Self {
        let hospital = HOSPITALS.hospital(1);
        Self {
            keys: [
                hospital.doctor_key.clone(),
                hospital.key.clone(),
                SigningKey::from_seed(*sha256(bytes).as_bytes()),
            ],
            begun: Mutex::default(),
            once: Once::of(bytes),
        }
    }

    fn begun(&self) -> ([u8; 16], [u8; 32]) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is stored: nothing, some bytes, a whole piece.
fn content(which: u8) -> Vec<u8> {
    let length = [0, 23, 2_048][usize::from(which % 3)];
    (0..length).map(|at: usize| at as u8).collect()
}

impl Known for Callers {
    fn segment(&self, which: u8) -> String {
        let (upload, address) = self.begun();
        match which % 4 {
            0 => Hex(upload).to_string(),
            1 => Hex(address).to_string(),
            2 => Hex([0; 16]).to_string(),
            _ => Hex([0; 32]).to_string(),
        }
    }

    fn body(&self, which: u8) -> Vec<u8> {
        let bytes = content(which);
        let upload = |digest, address| NewUpload {
            length: bytes.len() as u64,
            digest: Hex(digest),
            address,
        };
        let digest = *sha256(&bytes).as_bytes();
        let announced = match which % 12 {
            0..=2 => return bytes,
            3..=5 => upload(digest, None),
            6..=8 => upload(digest, Some(Hex(self.begun().1))),
            _ => upload([1; 32], None),
        };
        serde_json::to_vec(&announced).expect("a JSON document")
    }

    fn key(&self, which: u8) -> &SigningKey {
        &self.keys[usize::from(which) % self.keys.len()]
    }

    fn heard(&self, body: &[u8]) {
        if let Ok(state) = serde_json::from_slice::<UploadState>(body) {
            let begun = (state.upload.0, state.address.0);
            *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = begun;
        }
    }

    fn once(&self) -> String {
        self.once.next()
    }

    fn header(&self, input: &mut Input<'_>) -> &'static str {
        match input.u8() % 8 {
            0 | 1 => "Upload-Offset: 0\r\n",
            2 => "Upload-Offset: 11\r\n",
            3 => "Upload-Offset: 18446744073709551615\r\n",
            4 => "Range: bytes=0-9\r\n",
            5 => "Range: bytes=5-\r\n",
            6 => "Range: bytes=-1,3-2\r\n",
            _ => "",
        }
    }
}

/// Calls, or bytes as they are.
pub fn run(bytes: &[u8]) {
    drop(statuses(bytes));
}

/// The status of each answer.
pub fn statuses(bytes: &[u8]) -> Vec<u16> {
    SERVED.play(&Callers::of(bytes), Input::new(bytes))
}

/// Each path, and containers that are stored and read.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for path in 0..9 {
        for place in 0..2 {
            seeds.push(vec![0, path, place, 0, 0, 0, 7]);
        }
    }
    // Path, what fills its place, no query, a body, its type and whose call it is, a header.
    let begin = |body: u8, key: u8| vec![0, 0, 1, body, key << 5 | 0x10, 7];
    let send = |body: u8, key: u8| vec![1, 0, 0, 1, body, key << 5 | 4, 0];
    let story = |calls: &[Vec<u8>]| [&[0], calls.concat().as_slice()].concat();
    for content in 0..3 {
        for key in 0..3 {
            seeds.push(story(&[begin(content + 3, key), send(content, key)]));
        }
        let read = |header: u8| vec![3, 1, 0, 0, 0, header];
        let receipt = vec![4, 1, 0, 0, 0, 7];
        let stored = [begin(content + 3, 0), send(content, 0)];
        seeds.push(story(&[&stored[..], &[read(7), receipt]].concat()));
        seeds.push(story(&[&stored[..], &[read(4), read(5)]].concat()));
        seeds.push(story(
            &[&stored[..], &[read(6), begin(content + 6, 1)]].concat(),
        ));
        let state = vec![2, 0, 0, 0, 0, 7];
        seeds.push(story(&[begin(9, 0), send(content, 0), state]));
    }
    seeds.push(
        b"\x07PATCH /v1/uploads/00 HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n".to_vec(),
    );
    seeds
}
