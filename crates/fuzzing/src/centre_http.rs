//! The registration centre's HTTP interface: who enrols, officers who decide, directories, who is found.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use client::{
    Applicant, Base64, BeginEnrolment, BegunEnrolment, ConsortiumClient, DoctorApplicant,
    EncryptedDirectory, EnrolmentKeys, FindPatient, Hex, Identity, InboxCode, Pickup, Reason,
    ServiceName,
};
use ledger::testing::{FourHospitals, rng};
use parties::{CentreKeys, Patient};
use scheme::{HpkePublicKey, KeyVersion, RootSeed, Signature, SigningKey, Subject, sha256};
use serde::Serialize;
use services::{CentreConfig, CentreService, DatabaseLocation, IdentityKey, Officer, serve_centre};

use crate::input::Input;
use crate::served::{Known, RUNTIME, Served, until_the_end};

/// A centre counts what a key calls, so an input has an officer that few others have.
const OFFICERS: u16 = 512;

static HOSPITALS: LazyLock<FourHospitals> = LazyLock::new(FourHospitals::default);

fn officer(number: u16) -> SigningKey {
    SigningKey::from_seed(*sha256(&number.to_be_bytes()).as_bytes())
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let hospitals = &*HOSPITALS;
    let folder = tempfile::tempdir().expect("a folder");
    let records = DatabaseLocation::Sqlite(folder.path().join("centre.sqlite"));
    let address = RUNTIME.block_on(async {
        // The nodes do not answer: what is for the chain waits.
        let nodes = ConsortiumClient::new(&hospitals.genesis, []).expect("a founding");
        let key = IdentityKey::from_bytes([0x1d; 32]);
        let mut config = CentreConfig::new(hospitals.consortium, hospitals.centre.clone(), key);
        config.officers = (0..OFFICERS)
            .map(|number| Officer {
                name: format!("officer {number}"),
                key: officer(number).verifying_key(),
            })
            .collect();
        let service = CentreService::open(config, &records, Arc::new(nodes)).await;
        let service = Arc::new(service.expect("an empty folder"));
        // Its records are there for as long as it serves.
        until_the_end(folder, |server, stopped| async move {
            serve_centre(Arc::clone(&service), server, stopped).await;
            service.close().await;
        })
        .await
    });
    Served {
        address,
        consortium: hospitals.consortium,
        name: ServiceName::Centre,
        paths: &[
            ("POST", "/v1/enrolments"),
            ("PUT", "/v1/enrolments/{}/keys"),
            ("GET", "/v1/enrolments/{}"),
            ("GET", "/v1/enrolments/{}/events"),
            ("POST", "/v1/enrolments/{}/renewal"),
            ("POST", "/v1/pickups"),
            ("GET", "/v1/officer/enrolments"),
            ("GET", "/v1/officer/enrolments/{}"),
            ("POST", "/v1/officer/enrolments/{}/approve"),
            ("POST", "/v1/officer/enrolments/{}/refuse"),
            ("POST", "/v1/officer/enrolments/{}/make-keys"),
            ("POST", "/v1/officer/subjects/{}/revoke"),
            ("GET", "/v1/officer/outbox"),
            ("PUT", "/v1/directories"),
            ("GET", "/v1/directories"),
            ("PUT", "/v1/findable"),
            ("DELETE", "/v1/findable"),
            ("GET", "/v1/findable"),
            ("POST", "/v1/findings"),
            ("GET", "/v1/openapi.json"),
        ],
    }
});

/// Who enrols, an officer and a stranger.
struct Users {
    seed: [u8; 32],
    keys: [SigningKey; 3],
    /// The last number that the centre gave in this input.
    subject: Mutex<u64>,
}

impl Users {
    fn of(bytes: &[u8]) -> Self {
        let seed = |number: u8| *sha256(&[&[number], bytes].concat()).as_bytes();
        let number = u16::from_be_bytes([seed(1)[0], seed(1)[1]]) % OFFICERS;
        Self {
            seed: seed(3),
            keys: [
                SigningKey::from_seed(seed(0)),
                officer(number),
                SigningKey::from_seed(seed(2)),
            ],
            subject: Mutex::new(0),
        }
    }

    fn subject(&self) -> u64 {
        *self.subject.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys of a patient with their proofs for the number that the centre gave.
    fn patient(&self) -> EnrolmentKeys {
        let centre = CentreKeys::founding(HOSPITALS.centre.verifying_key());
        let seed = RootSeed::from_bytes(self.seed);
        let mut rng = rng("a patient's device", 0);
        let version = KeyVersion::new(0);
        let patient = Patient::new(HOSPITALS.consortium, centre, &seed, version, &mut rng);
        EnrolmentKeys::patient(&patient.enrol(Subject::new(self.subject())))
    }
}

fn identity() -> Identity {
    Identity {
        name: "Ada Quimby-Threlkeld".to_owned(),
        birth_date: "1951-03-08".to_owned(),
        document_kind: "passport".to_owned(),
        document_number: "PX-77-1234".to_owned(),
    }
}

fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("a JSON document")
}

impl Known for Users {
    fn segment(&self, which: u8) -> String {
        match which % 4 {
            0 | 1 => self.subject().to_string(),
            2 => "0".to_owned(),
            _ => u64::MAX.to_string(),
        }
    }

    fn body(&self, which: u8) -> Vec<u8> {
        match which % 12 {
            0 => json(&BeginEnrolment {
                applicant: Applicant::Patient(identity()),
                replaces: None,
            }),
            1 => json(&BeginEnrolment {
                applicant: Applicant::Doctor(DoctorApplicant {
                    identity: identity(),
                    licence_number: "L-4711".to_owned(),
                    institution: 1,
                }),
                replaces: Some(self.subject()),
            }),
            2 => json(&self.patient()),
            3 => json(&Reason {
                reason: "the document is another's".to_owned(),
            }),
            4 => json(&EncryptedDirectory {
                version: 1,
                encrypted: Base64(vec![5; 300]),
            }),
            5 => json(&FindPatient {
                birth_date: "1951-03-08".to_owned(),
                document_kind: "passport".to_owned(),
                document_number: "PX-77-1234".to_owned(),
                purpose: "acute stroke".to_owned(),
            }),
            6 => json(&InboxCode {
                handle: Hex([7; 16]),
                salt: Hex([9; 16]),
            }),
            7 => json(&Pickup {
                subject: self.subject(),
                proof: Hex([3; 32]),
            }),
            8 => b"{}".to_vec(),
            9 => {
                let proof = Signature::new([4; 64]);
                json(&EnrolmentKeys::doctor(&HpkePublicKey::new([9; 32]), &proof))
            }
            10 => b"{\"applicant\":{\"patient\":[]}}".to_vec(),
            _ => Vec::new(),
        }
    }

    fn key(&self, which: u8) -> &SigningKey {
        &self.keys[usize::from(which) % self.keys.len()]
    }

    fn heard(&self, body: &[u8]) {
        if let Ok(begun) = serde_json::from_slice::<BegunEnrolment>(body) {
            *self.subject.lock().unwrap_or_else(PoisonError::into_inner) = begun.subject;
        }
    }
}

/// Calls, or bytes as they are.
pub fn run(bytes: &[u8]) {
    drop(statuses(bytes));
}

/// The status of each answer.
pub fn statuses(bytes: &[u8]) -> Vec<u16> {
    SERVED.play(&Users::of(bytes), Input::new(bytes))
}

/// Each path, and enrolments that are decided on.
pub fn seeds() -> Vec<Vec<u8>> {
    // Path, what fills its place, no query, a body, once, whose call it is.
    let call = |path: u8, place: Option<u8>, body: u8, key: u8| -> Vec<u8> {
        let mut call = vec![path];
        call.extend(place);
        call.extend([0, 1, body, key << 5 | 2 << 3]);
        call
    };
    let nothing = |path: u8, place: Option<u8>, key: u8| -> Vec<u8> {
        let mut call = vec![path];
        call.extend(place);
        call.extend([0, 0, key << 5]);
        call
    };
    let story = |calls: &[Vec<u8>]| [&[0], calls.concat().as_slice()].concat();
    let begin = call(0, None, 0, 0);
    let keys = call(1, Some(0), 2, 0);
    let mut seeds = vec![story(&[call(0, None, 1, 0)])];
    for path in [6, 12, 14, 17, 19] {
        seeds.push(story(&[nothing(path, None, path % 2)]));
        seeds.push(story(&[nothing(path, None, 1)]));
    }
    for (path, body) in [(5, 7), (13, 4), (15, 6), (16, 8), (18, 5)] {
        seeds.push(story(&[call(path, None, body, 0)]));
    }
    for path in [2, 3, 7] {
        let key = u8::from(path == 7);
        seeds.push(story(&[begin.clone(), nothing(path, Some(0), key)]));
    }
    for (path, body) in [(8, 8), (9, 3), (10, 8)] {
        let decided = call(path, Some(0), body, 1);
        seeds.push(story(&[
            begin.clone(),
            keys.clone(),
            decided,
            nothing(2, Some(0), 0),
        ]));
    }
    let approved = [begin, keys, call(8, Some(0), 8, 1)];
    for last in [
        call(11, Some(0), 3, 1),
        call(4, Some(0), 8, 0),
        call(15, None, 6, 0),
    ] {
        seeds.push(story(&[approved.as_slice(), &[last]].concat()));
    }
    seeds
}
