//! The query manager's HTTP interface.

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use client::{
    AddNotes, AnswerKind, AnswerRequest, Base64, ConsortiumClient, DoctorNote, Hex, NameAgent,
    NewAgentAct, OpenInbox, SaidShortCode, SendRequest, ServiceName, now,
};
use ledger::testing::FourHospitals;
use parties::{Certificate, DoctorPublicKeys, Holder, Member, RequestTerms, UnsignedRequest};
use scheme::{
    ClassCode, DoctorId, HpkePrivateKey, InboxHandle, InstitutionId, SigningKey, Subject,
    Timestamp, sha256,
};
use serde::Serialize;
use services::{DatabaseLocation, QueryConfig, QueryService, serve_query};

use crate::input::Input;
use crate::served::{Known, RUNTIME, Served, until_the_end};

static HOSPITALS: LazyLock<FourHospitals> = LazyLock::new(FourHospitals::default);

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let hospitals = &*HOSPITALS;
    let folder = tempfile::tempdir().expect("a folder");
    let records = DatabaseLocation::Sqlite(folder.path().join("query.sqlite"));
    let address = RUNTIME.block_on(async {
        // The nodes do not answer: what waits for them goes on waiting.
        let nodes = ConsortiumClient::new(&hospitals.genesis, []).expect("a founding");
        let config = QueryConfig {
            verify_again: Duration::from_secs(60 * 60),
            ..QueryConfig::default()
        };
        let service = QueryService::open(config, &hospitals.genesis, &records, nodes).await;
        let service = Arc::new(service.expect("an empty folder"));
        // Its records are there for as long as it serves.
        until_the_end(folder, |server, stopped| async move {
            serve_query(Arc::clone(&service), server, stopped).await;
            service.close().await;
        })
        .await
    });
    Served {
        address,
        consortium: hospitals.consortium,
        name: ServiceName::Query,
        paths: &[
            ("POST", "/v1/inboxes"),
            ("DELETE", "/v1/inboxes/{}"),
            ("POST", "/v1/inbox/codes"),
            ("POST", "/v1/codes"),
            ("PUT", "/v1/inbox/agent"),
            ("DELETE", "/v1/inbox/agent?handle={}"),
            ("GET", "/v1/inbox"),
            ("GET", "/v1/inbox/events"),
            ("POST", "/v1/requests"),
            ("GET", "/v1/requests/{}"),
            ("GET", "/v1/requests/{}/events"),
            ("POST", "/v1/inbox/{}/answer"),
            ("POST", "/v1/inbox/{}/note"),
            ("POST", "/v1/inboxes/{}/acts"),
            ("GET", "/v1/inbox/acts"),
            ("DELETE", "/v1/inbox/acts/{}"),
            ("GET", "/v1/openapi.json"),
        ],
    }
});

/// A patient, a doctor and an agent of this input, whom no other input knows.
struct Users {
    keys: [SigningKey; 3],
    handles: [[u8; 16]; 2],
    /// Made when it is first named: its times are of now.
    request: OnceLock<SendRequest>,
}

impl Users {
    fn of(bytes: &[u8]) -> Self {
        let seed = |number: u8| *sha256(&[&[number], bytes].concat()).as_bytes();
        let handle = |number: u8| {
            let seed = seed(number);
            *seed.first_chunk().expect("32 bytes")
        };
        Self {
            keys: [0, 1, 2].map(|number| SigningKey::from_seed(seed(number))),
            handles: [handle(3), handle(4)],
            request: OnceLock::new(),
        }
    }

    /// A request of this input's doctor that stands, as far as can be seen without asking the chain.
    fn request(&self) -> &SendRequest {
        self.request.get_or_init(|| self.new_request())
    }

    fn new_request(&self) -> SendRequest {
        let (here, salt) = (HOSPITALS.consortium, [9; 16]);
        let doctor = &self.keys[1];
        let later = |ms: u64| Timestamp::new(now().number() + ms);
        let hpke = HpkePrivateKey::derive(&[7; 32]).public_key();
        let holder = Holder::Doctor(DoctorPublicKeys {
            id: DoctorId::new(101),
            institution: InstitutionId::new(1),
            signing: doctor.verifying_key(),
            hpke,
        });
        let certificate = Certificate::issue(
            &here,
            &HOSPITALS.centre,
            Subject::new(1),
            holder,
            later(100_000_000),
        );
        let terms = RequestTerms {
            institution: InstitutionId::new(1),
            inbox: InboxHandle::new(self.handles[0]).commit(&here, &salt),
            classes: vec![ClassCode::new(4)],
            purpose: "acute stroke".to_owned(),
            nonce: self.handles[0].repeat(2).try_into().expect("32 bytes"),
            time: now(),
            not_after: later(3_600_000),
        };
        let member = Member {
            certificate,
            access_keys: vec![SigningKey::from_seed([8; 32]).verifying_key()],
            hpke_key: hpke,
        };
        let unsigned = UnsignedRequest::new(terms, vec![member]).expect("one doctor");
        let signature = unsigned.sign(&here, doctor);
        let request = unsigned.complete(vec![signature]).expect("it is signed");
        SendRequest {
            request: Base64(request.encode()),
            handle: Hex(self.handles[0]),
            salt: Hex(salt),
        }
    }
}

fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("a JSON document")
}

impl Known for Users {
    fn segment(&self, which: u8) -> String {
        match which % 5 {
            0 => Hex(self.handles[0]).to_string(),
            1 => Hex(self.handles[1]).to_string(),
            2 => Hex(*sha256(b"what an agent tells").as_bytes()).to_string(),
            3 => Hex(*sha256(&self.request().request.0).as_bytes()).to_string(),
            _ => Hex([0; 32]).to_string(),
        }
    }

    fn body(&self, which: u8) -> Vec<u8> {
        let [handle, agent] = self.handles.map(Hex);
        let note = || DoctorNote {
            doctor: Hex(*self.keys[1].verifying_key().as_bytes()),
            sealed: Base64(vec![5; 306]),
        };
        let key = Hex(*HpkePrivateKey::derive(&[7; 32]).public_key().as_bytes());
        match which % 11 {
            0 => json(&OpenInbox { handle, key }),
            1 => json(&OpenInbox { handle: agent, key }),
            2 => json(&client::InboxCode {
                handle,
                salt: Hex([9; 16]),
            }),
            3 => json(&SaidShortCode {
                code: "K7Q0-3X91".to_owned(),
            }),
            4 => json(&NameAgent { handle, agent }),
            5 => json(self.request()),
            6 => json(&AnswerRequest {
                answer: AnswerKind::Answered,
                until: Some(now().number() + 1_000_000),
                notes: vec![note()],
            }),
            7 => json(&AddNotes {
                notes: vec![note()],
            }),
            8 => json(&NewAgentAct {
                sealed: Base64(b"what an agent tells".to_vec()),
            }),
            9 => b"{}".to_vec(),
            _ => b"{\"handle\":\"\",\"key\":[[[[".to_vec(),
        }
    }

    fn key(&self, which: u8) -> &SigningKey {
        &self.keys[usize::from(which) % self.keys.len()]
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

/// Each path with each body, and stories of several calls.
pub fn seeds() -> Vec<Vec<u8>> {
    let bodies = [
        (0, 0),
        (1, 9),
        (2, 2),
        (3, 3),
        (4, 4),
        (8, 5),
        (11, 6),
        (12, 7),
        (13, 8),
    ];
    // Path, what fills its place, no query, a body, whose call it is.
    let call = |path: u8, place: Option<u8>, body: u8, key: u8| -> Vec<u8> {
        let mut call = vec![path];
        call.extend(place);
        call.extend([0, 1, body, key << 5]);
        call
    };
    let story = |calls: &[Vec<u8>]| [&[0], calls.concat().as_slice()].concat();
    let open = call(0, None, 0, 0);
    let send = call(8, None, 5, 1);
    let mut seeds = Vec::new();
    for (path, body) in bodies {
        let place = [1, 11, 12, 13].contains(&path).then_some(0);
        seeds.push(story(&[call(path, place, body, 0)]));
    }
    for path in [6, 7, 14, 16, 17, 18] {
        seeds.push(vec![0, path, 0, 0, 0]);
    }
    for (path, place) in [(1, 0), (5, 0), (9, 3), (10, 3), (15, 2)] {
        let nothing = vec![path, place, 0, 0, 0];
        seeds.push(story(&[open.clone(), nothing]));
    }
    let inbox = vec![6, 0, 0, 0];
    seeds.push(story(&[open.clone(), send.clone(), inbox.clone()]));
    seeds.push(story(&[
        open.clone(),
        send.clone(),
        vec![9, 3, 0, 0, 0x20],
        inbox.clone(),
    ]));
    seeds.push(story(&[
        open.clone(),
        send.clone(),
        vec![10, 3, 0, 0, 0x20],
    ]));
    seeds.push(story(&[
        open.clone(),
        send,
        call(11, Some(3), 6, 0),
        call(12, Some(3), 7, 0),
    ]));
    let agent = call(0, None, 1, 2);
    let act = call(13, Some(0), 8, 2);
    seeds.push(story(&[open.clone(), agent, call(4, None, 4, 0), act]));
    seeds.push(story(&[
        open.clone(),
        call(13, Some(0), 8, 2),
        vec![14, 0, 0, 0],
        vec![15, 2, 0, 0, 0],
    ]));
    seeds.push(story(&[
        open,
        call(2, None, 2, 0),
        call(3, None, 3, 1),
        inbox,
    ]));
    let plain = b"GET /v1/inbox HTTP/1.1\r\nHost: here\r\n\r\n";
    let chunked = b"POST /v1/inboxes HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    for raw in [
        plain.as_slice(),
        chunked,
        b"GET http://there/v1/inbox HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01",
    ] {
        seeds.push([&[7], raw].concat());
    }
    seeds
}
