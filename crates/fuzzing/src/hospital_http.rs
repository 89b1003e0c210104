//! A hospital's server's HTTP interface, to a doctor, a patient and the hospital's IT. Its node says who the
//! doctor is; its cloud does not answer.
//!
//! A doctor may have so much of a hospital in a day and no more. What inputs used up stays used up until the
//! program ends: then the answer says so.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use client::{
    AskedPositions, Base64, CloudClient, DoctorCertificate, Endpoint, Hex, HospitalClient,
    NewChainRequest, NewColleagueMessage, NewHandover, NewPatientReceipt, NewRecord, NextAccount,
    ServiceClient, ServiceName, UsedPosition, now,
};
use ledger::Transaction;
use parties::{Certificate, CloudServer, DoctorPublicKeys, Holder};
use scheme::{Address, SigningKey, Subject, Timestamp, sha256};
use serde::Serialize;
use services::{
    Database, DatabaseLocation, HOSPITAL_SCHEMA, HospitalConfig, HospitalService, serve_hospital,
};

use crate::alone::{self, HOSPITAL, HOSPITALS};
use crate::input::Input;
use crate::served::{Known, Once, RUNTIME, Served, until_the_end};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Within which the hospital's first writer epoch is on the chain.
const BOUND: Duration = Duration::from_secs(60);
/// A point in G1: its generator.
const POINT: &str = "97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac58\
                     6c55e83ff97a1aeffb3af00adb22c6bb";

fn cloud_key() -> SigningKey {
    SigningKey::from_seed([40; 32])
}

fn it_key() -> SigningKey {
    SigningKey::from_seed([60; 32])
}

fn certificate() -> Certificate {
    let hospital = HOSPITALS.hospital(1);
    let keys = DoctorPublicKeys {
        id: hospital.doctor,
        institution: HOSPITAL,
        signing: hospital.doctor_key.verifying_key(),
        hpke: hospital.doctor_hpke.public_key(),
    };
    Certificate::issue(
        &HOSPITALS.consortium,
        &HOSPITALS.centre,
        Subject::new(1),
        Holder::Doctor(keys),
        Timestamp::new(now().number() + 100_000_000),
    )
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let hospitals = &*HOSPITALS;
    let here = hospitals.consortium;
    let folder = tempfile::tempdir().expect("a folder");
    let records = DatabaseLocation::Sqlite(folder.path().join("hospital.sqlite"));
    let address = RUNTIME.block_on(async {
        let chain = alone::with_doctor().await;
        let config = HospitalConfig {
            institution: HOSPITAL,
            cloud_receipt_key: cloud_key().verifying_key(),
            it: vec![("night shift".to_owned(), it_key().verifying_key())],
            writer_folder: folder.path().join("writer"),
            writer_epoch_life: 90 * DAY,
            second_store: None,
            spool: folder.path().join("spool"),
            scrub_bytes_per_second: 1 << 20,
            scrub_every: DAY,
            message_life: 90 * DAY,
            tidy_every: DAY,
            rate_per_second: 1_000,
        };
        let database = Database::open(&records, HOSPITAL_SCHEMA).await;
        let database = database.expect("an empty folder");
        let nobody = Endpoint::new(ServiceName::Cloud, "http://127.0.0.1:1", None, None);
        let cloud = ServiceClient::new(here, nobody.expect("a loopback address"));
        let service = HospitalService::new(
            here,
            hospitals.hospital(1).key.clone(),
            config,
            database.clone(),
            chain,
            CloudClient::new(cloud),
        );
        let service = Arc::new(service.expect("an empty folder"));
        let address = until_the_end(folder, |server, stopped| async move {
            serve_hospital(service, server, stopped).await;
            database.close().await;
        })
        .await;
        let name = ServiceName::Hospital(HOSPITAL);
        let own = Endpoint::new(name, &format!("http://{address}"), None, None);
        let own = ServiceClient::new(here, own.expect("a loopback address"));
        let doctor = own.signing(hospitals.hospital(1).doctor_key.clone());
        let doctor = HospitalClient::new(doctor);
        let entered = doctor.enter_doctor(&certificate()).await;
        entered.expect("the doctor is known");
        let begun = tokio::time::timeout(BOUND, async {
            while doctor.writer().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        begun.await.expect("a writer epoch begins");
        address
    });
    Served {
        address,
        consortium: here,
        name: ServiceName::Hospital(HOSPITAL),
        paths: &[
            ("PUT", "/v1/doctors/self"),
            ("GET", "/v1/doctors"),
            ("GET", "/v1/doctors/{}"),
            ("POST", "/v1/uids"),
            ("PUT", "/v1/uids/{}/account"),
            ("DELETE", "/v1/uids/{}/account"),
            ("PUT", "/v1/uids/{}/account/next"),
            ("POST", "/v1/handovers"),
            ("GET", "/v1/handovers"),
            ("DELETE", "/v1/handovers/{}"),
            ("GET", "/v1/handovers/events"),
            ("POST", "/v1/messages"),
            ("GET", "/v1/messages"),
            ("DELETE", "/v1/messages/{}"),
            ("POST", "/v1/receipts"),
            ("GET", "/v1/receipts?uid={}"),
            ("DELETE", "/v1/receipts/{}"),
            ("GET", "/v1/receipts/events?uid={}"),
            ("GET", "/v1/writer"),
            ("POST", "/v1/raised"),
            ("POST", "/v1/positions"),
            ("POST", "/v1/records"),
            ("POST", "/v1/requests"),
            ("GET", "/v1/transactions/{}"),
            ("GET", "/v1/transactions/{}/events"),
            ("GET", "/v1/damages"),
            ("GET", "/v1/it/deeds"),
            // Not blocking the doctor, nor ending the writer epoch: the next input would find it done.
            ("GET", "/v1/openapi.json"),
        ],
    }
});

/// A patient whom no other input knows, the hospital's doctor, and its IT.
struct Users {
    keys: [SigningKey; 3],
    /// The last UID that the hospital gave in this input.
    uid: Mutex<[u8; 8]>,
    /// The last thing that it named by an id.
    named: Mutex<String>,
    once: Once,
}

impl Users {
    fn of(bytes: &[u8]) -> Self {
        Self {
            keys: [
                SigningKey::from_seed(*sha256(bytes).as_bytes()),
                HOSPITALS.hospital(1).doctor_key.clone(),
                it_key(),
            ],
            uid: Mutex::default(),
            named: Mutex::new("0".repeat(32)),
            once: Once::of(bytes),
        }
    }

    fn uid(&self) -> Hex<8> {
        Hex(*self.uid.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("a JSON document")
}

/// A record of the doctor's that stands as far as can be seen without its container.
fn record(which: u8) -> NewRecord {
    let four = &*HOSPITALS;
    let Transaction::Record(record) = four.record(1, u64::from(which)) else {
        unreachable!("it is a record")
    };
    let cloud = CloudServer::new(four.consortium, cloud_key());
    let receipt = cloud.receipt(
        Address::new([which; 32]),
        record.statement.digest,
        200_000,
        now(),
    );
    NewRecord {
        statement: Base64(ledger::encode_record_statement(&record.statement)),
        signature: Hex(*record.doctor.as_bytes()),
        positions: vec![UsedPosition {
            id: Hex([which; 32]),
            position: u64::from(which),
        }],
        receipt: Hex(receipt.encode().try_into().expect("144 bytes")),
    }
}

impl Known for Users {
    fn segment(&self, which: u8) -> String {
        match which % 5 {
            0 => self.uid().to_string(),
            1 => {
                let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
                named.clone()
            }
            2 => HOSPITALS.hospital(1).doctor.number().to_string(),
            3 => Hex([0; 32]).to_string(),
            _ => u64::MAX.to_string(),
        }
    }

    fn body(&self, which: u8) -> Vec<u8> {
        let (uid, sealed) = (self.uid(), Base64(vec![5; 306]));
        let doctor = HOSPITALS.hospital(1).doctor.number();
        match which % 12 {
            0 => json(&DoctorCertificate {
                certificate: Base64(certificate().encode()),
            }),
            1 => json(&NewHandover {
                uid,
                doctor,
                sealed,
            }),
            2 => json(&NewColleagueMessage { doctor, sealed }),
            3 => json(&NewPatientReceipt { uid, sealed }),
            4 => json(&AskedPositions {
                ids: vec![Hex(*sha256(uid.to_string().as_bytes()).as_bytes())],
            }),
            5 => json(&AskedPositions {
                ids: vec![Hex([1; 32]); 2],
            }),
            6 => point(),
            7 => [point(), vec![0xc0; 48]].concat(),
            8 => json(&record(which / 12)),
            9 => {
                let Transaction::Request(request) = HOSPITALS.request(1, u64::from(which)) else {
                    unreachable!("it is a request")
                };
                json(&NewChainRequest {
                    statement: Base64(request.statement.encode()),
                    signature: Hex(*request.doctor.as_bytes()),
                })
            }
            10 => json(&NextAccount {
                account: Hex(*self.keys[0].verifying_key().as_bytes()),
            }),
            _ => b"{\"uid\":\"\",\"doctor\":[[[[".to_vec(),
        }
    }

    fn key(&self, which: u8) -> &SigningKey {
        &self.keys[usize::from(which) % self.keys.len()]
    }

    fn once(&self) -> String {
        self.once.next()
    }

    fn heard(&self, body: &[u8]) {
        let Ok(heard) = serde_json::from_slice::<serde_json::Value>(body) else {
            return;
        };
        let text = |name: &str| heard[name].as_str().map(str::to_owned);
        if let Some(uid) = text("uid").and_then(|uid| uid.parse::<Hex<8>>().ok()) {
            *self.uid.lock().unwrap_or_else(PoisonError::into_inner) = uid.0;
        }
        if let Some(named) = text("id").or_else(|| text("transaction")) {
            *self.named.lock().unwrap_or_else(PoisonError::into_inner) = named;
        }
    }
}

fn point() -> Vec<u8> {
    let Hex(point) = POINT.parse::<Hex<48>>().expect("96 digits");
    point.to_vec()
}

/// Calls, or bytes as they are.
pub fn run(bytes: &[u8]) {
    drop(statuses(bytes));
}

/// The status of each answer.
pub fn statuses(bytes: &[u8]) -> Vec<u16> {
    SERVED.play(&Users::of(bytes), Input::new(bytes))
}

/// Each path by each caller, and stories of several calls.
pub fn seeds() -> Vec<Vec<u8>> {
    // Path, what fills its place, no query, a body or none, whose call it is.
    let call = |path: u8, place: Option<u8>, body: Option<u8>, key: u8| -> Vec<u8> {
        let mut call = vec![path];
        call.extend(place);
        call.push(0);
        match body {
            Some(body) => call.extend([1, body]),
            None => call.push(0),
        }
        call.push(key << 5 | 0x10);
        call
    };
    let story = |calls: &[Vec<u8>]| [&[0], calls.concat().as_slice()].concat();
    let (patient, doctor, it) = (0, 1, 2);
    let mut seeds = Vec::new();
    for path in 0..30 {
        seeds.push(vec![0, path, 0, 0, 0, 0x30]);
    }
    for (path, body) in [(0, 0), (11, 2), (20, 4), (20, 5), (21, 8), (22, 9)] {
        seeds.push(story(&[call(path, None, Some(body), doctor)]));
    }
    // As bytes, not as JSON.
    seeds.push(vec![0, 19, 0, 1, 6, 0x34]);
    seeds.push(vec![0, 19, 0, 1, 7, 0x34]);
    let uid = call(3, None, None, doctor);
    let bind = call(4, Some(0), None, patient);
    let owned = [uid, bind];
    for next in [
        [call(7, None, Some(1), patient), call(8, None, None, doctor)],
        [
            call(14, None, Some(3), doctor),
            call(15, Some(0), None, patient),
        ],
        [
            call(6, Some(0), Some(10), patient),
            call(5, Some(0), None, patient),
        ],
        [
            call(14, None, Some(3), doctor),
            call(17, Some(0), None, patient),
        ],
    ] {
        seeds.push(story(&[&owned[..], &next[..]].concat()));
    }
    let message = call(11, None, Some(2), doctor);
    let gone = call(13, Some(1), None, doctor);
    seeds.push(story(&[message, call(12, None, None, doctor), gone]));
    for (path, body) in [(21, 8), (22, 9)] {
        let handed = call(path, None, Some(body), doctor);
        seeds.push(story(&[handed, call(23, Some(1), None, doctor)]));
    }
    for path in [25, 26] {
        seeds.push(story(&[call(path, None, None, it)]));
    }
    seeds.push(b"\x07GET /v1/writer HTTP/1.1\r\nHost: here\r\n\r\n".to_vec());
    seeds
}
