//! What users' programs read: proof files, directories, codes that people type, headers of signed calls,
//! documents in JSON.

use std::sync::LazyLock;

use client::{
    AddNotes, AnswerRequest, CallHead, CloudEntry, Directory, Hex, InboxContent, InboxEvent,
    InstitutionEntry, NameAgent, NewAgentAct, OpenInbox, PickupCode, Problem, ProofFile, Proved,
    RequestStatus, SendRequest, ServiceEntry, ServiceName, ShortCode, SignedCall,
};
use ledger::Genesis;
use ledger::testing::FourHospitals;
use scheme::{ConsortiumId, SigningKey, Timestamp, sha256};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::input::{Again, by_first_byte, seed};

const HERE: ConsortiumId = ConsortiumId::new([1; 32]);
const NOW: Timestamp = Timestamp::new(1_000_000);
const HEAD: CallHead<'static> = CallHead {
    service: ServiceName::Query,
    method: "GET",
    target: "/v1/inbox",
    idempotency_key: "",
};

/// Proof files of a consortium, whose founding is beside them.
const PROOFS: [&[u8]; 5] = [
    include_bytes!("../../../spec/vectors/proofs/access-log.proof"),
    include_bytes!("../../../spec/vectors/proofs/later-record.proof"),
    include_bytes!("../../../spec/vectors/proofs/no-such-grant.proof"),
    include_bytes!("../../../spec/vectors/proofs/record.proof"),
    include_bytes!("../../../spec/vectors/proofs/revoked-grant.proof"),
];

static FOUNDING: LazyLock<Genesis> = LazyLock::new(|| {
    let bytes = include_bytes!("../../../spec/vectors/proofs/founding");
    Genesis::decode(bytes).expect("a founding document")
});

static HOSPITALS: LazyLock<FourHospitals> = LazyLock::new(FourHospitals::default);

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A document that is read is written and read as the same; it may have been written otherwise.
fn document<T: Serialize + DeserializeOwned + PartialEq>(bytes: &[u8]) -> Option<Vec<u8>> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&read).expect("it was read");
    let again: T = serde_json::from_slice(&written).expect("it was written");
    assert!(again == read);
    Some(bytes.to_vec())
}

const TEXTS: &[(&str, Again)] = &[
    ("a proof file", |bytes| {
        Some(ProofFile::decode(bytes).ok()?.encode())
    }),
    // Votes of n - f nodes stand behind what is proved, and nobody made other votes than these.
    ("a proof", |bytes| {
        let proof = ProofFile::decode(bytes).ok()?;
        let proved = proof.check(&FOUNDING).ok()?;
        let as_before = PROOFS.iter().any(|known| {
            let known = ProofFile::decode(known).expect("a proof file");
            let known = known.check(&FOUNDING).expect("a proof");
            same(&known, &proved)
        });
        assert!(as_before, "something else is proved");
        Some(proof.encode())
    }),
    ("a header of a call", |bytes| {
        let header = text(bytes)?;
        let call = SignedCall::parse(header).ok()?;
        let again = SignedCall::parse(&call.header()).expect("its own header");
        assert!(again == call);
        let verified = call.verify(&HERE, &HEAD, NOW);
        assert!(
            verified.is_err() || call == signed(),
            "nobody signed this call"
        );
        Some(bytes.to_vec())
    }),
    ("a directory", |bytes| {
        let directory = Directory::parse(text(bytes)?, &HOSPITALS.genesis).ok()?;
        let written = directory.text().expect("it was read");
        let again = Directory::parse(&written, &HOSPITALS.genesis).expect("it was written");
        assert!(again == directory);
        for name in [ServiceName::Centre, ServiceName::Query, ServiceName::Cloud] {
            let _ = directory.endpoint(name, None);
        }
        assert!(directory.authorities().count() <= 3 + directory.institutions.len());
        Some(bytes.to_vec())
    }),
    ("a short code", |bytes| {
        let code = ShortCode::parse(text(bytes)?).ok()?;
        assert!(ShortCode::parse(&code.to_string()) == Ok(code));
        Some(bytes.to_vec())
    }),
    ("a pick-up code", |bytes| {
        let code = PickupCode::parse(text(bytes)?).ok()?;
        let again = PickupCode::parse(&code.expose()).expect("its own text");
        assert!(*again.expose() == *code.expose());
        Some(bytes.to_vec())
    }),
    ("a problem", document::<Problem>),
    ("an inbox to open", document::<OpenInbox>),
    ("a request to send", document::<SendRequest>),
    ("an answer", document::<AnswerRequest>),
    ("notes", document::<AddNotes>),
    ("an agent's name", document::<NameAgent>),
    ("an agent's act", document::<NewAgentAct>),
    ("an inbox", document::<InboxContent>),
    ("an event", document::<InboxEvent>),
    ("a request's state", document::<RequestStatus>),
    ("a founding directory's key", document::<Hex<32>>),
];

/// Whether two proofs prove the same, whatever way they lead there.
fn same(one: &Proved, other: &Proved) -> bool {
    match (one, other) {
        (Proved::Record { id, .. }, Proved::Record { id: other, .. }) => id == other,
        (
            Proved::Grant { gid, state, .. },
            Proved::Grant {
                gid: other,
                state: theirs,
                ..
            },
        ) => gid == other && state == theirs,
        (
            Proved::AccessLog { gid, accesses, .. },
            Proved::AccessLog {
                gid: other,
                accesses: theirs,
                ..
            },
        ) => gid == other && accesses == theirs,
        // A log proves its grant's state as well.
        (
            Proved::AccessLog { gid, state, .. },
            Proved::Grant {
                gid: other,
                state: theirs,
                ..
            },
        ) => gid == other && Some(state) == theirs.as_ref(),
        _ => false,
    }
}

fn signed() -> SignedCall {
    let key = SigningKey::from_seed([2; 32]);
    SignedCall::sign(&HERE, &key, &HEAD, sha256(b""), NOW, [3; 16])
}

/// A decoder by the first byte, and what it decodes.
pub fn run(bytes: &[u8]) {
    by_first_byte(TEXTS, bytes);
}

fn directory() -> String {
    let entry = |port: u16| ServiceEntry {
        address: format!("https://services.example:{port}"),
        authority: (port == 2).then(|| "-----BEGIN CERTIFICATE-----".to_owned()),
    };
    let institutions = HOSPITALS
        .genesis
        .institutions
        .iter()
        .map(|one| InstitutionEntry {
            institution: one.id.number(),
            hospital: "http://127.0.0.1:4".to_owned(),
            node: "http://127.0.0.1:5".to_owned(),
            consensus: "127.0.0.1:6".to_owned(),
            authority: None,
        });
    let directory = Directory {
        serial: 1,
        centre: entry(1),
        query: entry(2),
        cloud: CloudEntry {
            address: "https://services.example:3".to_owned(),
            authority: None,
            receipt_key: Hex([1; 32]),
        },
        institutions: institutions.collect(),
    };
    directory.text().expect("a small one")
}

/// One of each.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for proof in PROOFS {
        seeds.push(seed(TEXTS, "a proof file", proof));
        seeds.push(seed(TEXTS, "a proof", proof));
    }
    let hex = |bytes: usize| "ab".repeat(bytes);
    let (handle, key) = (hex(16), hex(32));
    let examples = [
        ("a header of a call", signed().header()),
        ("a directory", directory()),
        ("a short code", "k7qo 3x9l".to_owned()),
        ("a pick-up code", "0123-4567-89AB-CDEF".to_owned()),
        (
            "a problem",
            serde_json::to_string(&Problem::busy("a node is busy: ask again")).expect("small"),
        ),
        (
            "an inbox to open",
            format!("{{\"handle\":\"{handle}\",\"key\":\"{key}\"}}"),
        ),
        (
            "a request to send",
            format!("{{\"request\":\"AQID\",\"handle\":\"{handle}\",\"salt\":\"{handle}\"}}"),
        ),
        (
            "an answer",
            format!(
                "{{\"answer\":\"answered\",\"until\":5,\"notes\":[{{\"doctor\":\"{key}\",\"sealed\":\"AQID\"}}]}}"
            ),
        ),
        (
            "notes",
            format!("{{\"notes\":[{{\"doctor\":\"{key}\",\"sealed\":\"AQ==\"}}]}}"),
        ),
        (
            "an agent's name",
            format!("{{\"handle\":\"{handle}\",\"agent\":\"{handle}\"}}"),
        ),
        ("an agent's act", "{\"sealed\":\"AQID\"}".to_owned()),
        ("a founding directory's key", format!("\"{key}\"")),
    ];
    for (name, example) in examples {
        seeds.push(seed(TEXTS, name, example.as_bytes()));
    }
    seeds
}
