//! A node's HTTP interface: a consortium of one hospital, whose node runs in this process.

use std::sync::LazyLock;

use client::ServiceName;
use ledger::KeyHash;
use parties::{
    ContainerRequest, GrantPackage, GrantRequest, InTransaction, Question, SearchRequest,
    ShareRequest, WantProof,
};
use scheme::{ClassPlace, GrantId, SigningKey, Tag, ValidatorEpoch, WriterEpoch};

use crate::alone::{self, HOSPITAL, HOSPITALS};
use crate::input::Input;
use crate::served::{Known, Served};
use crate::world::WORLD;

static SERVED: LazyLock<Served> = LazyLock::new(|| Served {
    address: alone::start(),
    consortium: HOSPITALS.consortium,
    name: ServiceName::Node(HOSPITAL),
    paths: &[
        ("GET", "/v1/status"),
        ("POST", "/v1/transactions"),
        ("GET", "/v1/receipts/{}"),
        ("POST", "/v1/questions?height={}"),
        ("GET", "/v1/proofs/{}"),
        ("GET", "/v1/headers?height={}"),
        ("GET", "/v1/states/{}"),
        ("GET", "/v1/node-sets?after={}"),
        ("GET", "/v1/blocks?height={}"),
        ("GET", "/v1/motions?from={}"),
        ("GET", "/v1/final-blocks?height={}"),
        ("GET", "/v1/evidence"),
        ("GET", "/v1/grants/events?access_keys={}"),
        ("POST", "/v1/grants"),
        ("POST", "/v1/grants/read"),
        ("POST", "/v1/grants/recorded"),
        ("POST", "/v1/searches"),
        ("POST", "/v1/shares"),
        ("POST", "/v1/containers"),
        ("GET", "/v1/snapshots"),
        ("GET", "/v1/snapshot?digest={}"),
        ("GET", "/v1/openapi.json"),
    ],
});

struct Bodies {
    keys: [SigningKey; 3],
}

static BODIES: LazyLock<Bodies> = LazyLock::new(|| Bodies {
    keys: [0, 1, 2].map(|number| HOSPITALS.access_key(1, number)),
});

impl Known for Bodies {
    fn segment(&self, which: u8) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let here = &HOSPITALS.consortium;
        match which % 8 {
            0 => "0".to_owned(),
            1 => "1".to_owned(),
            2 => hex(HOSPITALS.registration(1).id(here).as_bytes()),
            3 => hex(gid().as_bytes()),
            4 => hex(&[0; 32]),
            5 => "18446744073709551615".to_owned(),
            6 => "01".to_owned(),
            _ => hex(HOSPITALS.writer_epoch(1).id(here).as_bytes()),
        }
    }

    fn body(&self, which: u8) -> Vec<u8> {
        let four = &*HOSPITALS;
        let key = &self.keys[0];
        let of = InTransaction {
            access: four.access(1, &[(0, 0)]).id(&four.consortium),
            record: four.record(1, 1).id(&four.consortium),
        };
        let height = ledger::Height::new(1);
        match which % 24 {
            0 => four.registration(1).encode(),
            1 => four.writer_epoch(1).encode(),
            2 => four.record(1, u64::from(which / 24)).encode(),
            3 => four.request(1, 1).encode(),
            4 => four.grant(1, 3_600_000).encode(),
            5 => four.access(1, &[(0, 0)]).encode(),
            6 => four.revocation(2).encode(),
            7 => four.withdrawal(1).encode(),
            8 => four.patient(1).encode(),
            9 => four.contact(1, 0).encode(),
            10 => Question::UserKey(KeyHash::of(&four.hospital(1).doctor_key.verifying_key()))
                .encode(),
            11 => Question::WriterEpochs(HOSPITAL).encode(),
            12 => Question::Grant(gid()).encode(),
            13 => Question::Records {
                institution: HOSPITAL,
                epoch: WriterEpoch::new(0),
                tags: (0..3).map(|number| Tag::new([number; 16])).collect(),
            }
            .encode(),
            14 => Question::NodeKeys(ValidatorEpoch::new(0)).encode(),
            15 => Question::CentreKeys.encode(),
            16 => Question::GrantOf(key.verifying_key()).encode(),
            17 => {
                let entry = four.grant_entry(1, 3_600_000);
                let signature = entry.sign(&four.consortium, &four.revocation_key(1));
                let grant = WORLD.grant.clone();
                GrantPackage {
                    grant,
                    entry,
                    signature,
                }
                .encode()
            }
            18 => GrantRequest::sign(&four.consortium, gid(), key).encode(),
            19 => SearchRequest::sign(&four.consortium, gid(), height, key).encode(),
            20 => {
                let classes = vec![ClassPlace::new(0)];
                ShareRequest::sign(&four.consortium, gid(), of, classes, WantProof::Yes, key)
                    .encode()
            }
            21 => ContainerRequest::sign(&four.consortium, gid(), of, key).encode(),
            22 => vec![which; 70],
            _ => Vec::new(),
        }
    }

    fn key(&self, which: u8) -> &SigningKey {
        &self.keys[usize::from(which) % self.keys.len()]
    }
}

fn gid() -> GrantId {
    GrantId::of(
        &HOSPITALS.consortium,
        &HOSPITALS.revocation_key(1).verifying_key(),
    )
}

/// Calls, or bytes as they are.
pub fn run(bytes: &[u8]) {
    drop(statuses(bytes));
}

/// The status of each answer.
pub fn statuses(bytes: &[u8]) -> Vec<u16> {
    SERVED.play(&*BODIES, Input::new(bytes))
}

/// Each path, each kind of transaction, each question.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for path in 0..23 {
        seeds.push(vec![0, path, 0, 0, 0, 0, 0x60]);
        seeds.push(vec![0, path, 4, 0, 0, 0, 0x60]);
    }
    for body in 0..10 {
        seeds.push(vec![0, 1, 0, 1, body, 0x60, 0, 0, 0, 0, 0]);
    }
    for body in 10..17 {
        seeds.push(vec![0, 3, 0, 0, 1, body, 0x60]);
    }
    for (path, body) in [(13, 17), (14, 18), (15, 19), (16, 20), (17, 21)] {
        seeds.push(vec![0, path, 0, 1, body, 0x60]);
    }
    seeds.push(b"\x07GET /v1/status HTTP/1.1\r\nHost: here\r\n\r\n".to_vec());
    seeds
}
