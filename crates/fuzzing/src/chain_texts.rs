//! What a node reads of other nodes: batches of requests, evidence, statements on snapshots, certificates.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chain::{
    EVIDENCE_BYTES_MAX, EngineCertificates, Evidence, Offence, SnapshotStatement, Tip,
    WrittenSnapshot, split_batch,
};
use ledger::testing::{FOUNDED, FourHospitals, ToyChain};
use ledger::{CertificateVerifier as _, LeaderView, NodeSet, node_set};
use scheme::{ValidatorEpoch, sha256};

use crate::input::{Again, by_first_byte, seed};

/// Requests of a batch in these tests.
const REQUEST_BYTES: usize = 1_024;

struct World {
    hospitals: FourHospitals,
    nodes: NodeSet,
    block: ledger::BlockId,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let hospitals = FourHospitals::default();
    let (nodes, block) = {
        let chain = ToyChain::new(&hospitals);
        let nodes = node_set(&chain.view, ValidatorEpoch::new(0)).expect("memory");
        (nodes.expect("the founders'"), chain.tip().id())
    };
    World {
        hospitals,
        nodes,
        block,
    }
});

const TEXTS: &[(&str, Again)] = &[
    ("a batch", |bytes| {
        let requests = split_batch(bytes, REQUEST_BYTES)?;
        let mut batch = Vec::new();
        for request in requests {
            assert!((1..=REQUEST_BYTES).contains(&request.len()));
            batch.extend_from_slice(&(request.len() as u32).to_be_bytes());
            batch.extend_from_slice(request);
        }
        Some(batch)
    }),
    ("evidence", |bytes| {
        assert!(bytes.len() <= EVIDENCE_BYTES_MAX || Evidence::decode(bytes).is_err());
        Some(Evidence::decode(bytes).ok()?.encode())
    }),
    ("pieces of evidence", |bytes| {
        let pieces = Evidence::decode_all(bytes, 8).ok()?;
        assert!(pieces.len() <= 8);
        Some(Evidence::encode_all(&pieces))
    }),
    ("a statement on a snapshot", |bytes| {
        let statement = SnapshotStatement::decode(bytes).ok()?;
        let here = &WORLD.hospitals.consortium;
        assert!(
            statement.verify(here).is_err() || bytes == signed(),
            "nobody signed it"
        );
        Some(statement.encode())
    }),
    // Nobody voted on anything.
    ("a certificate", |bytes| {
        let certificates = EngineCertificates::new(WORLD.hospitals.genesis.settings.leader_term);
        let here = &WORLD.hospitals.consortium;
        let view = LeaderView::new(1);
        let verified = certificates.verify(here, &WORLD.nodes, view, WORLD.block, bytes);
        assert!(verified.is_err(), "a certificate without votes");
        None
    }),
];

fn signed() -> Vec<u8> {
    let block = ToyChain::new(&WORLD.hospitals).tip().id();
    let tip = Tip {
        height: ledger::Height::new(0),
        block,
        state_root: ledger::StateRoot::new([1; 32]),
        time: FOUNDED,
        led: BTreeMap::new(),
    };
    let written = WrittenSnapshot {
        digest: sha256(b"a snapshot"),
        bytes: 10,
    };
    let key = &WORLD.hospitals.hospital(1).node_key;
    SnapshotStatement::sign(&WORLD.hospitals.consortium, &tip, &written, key).encode()
}

/// A decoder by the first byte, and what it decodes.
pub fn run(bytes: &[u8]) {
    by_first_byte(TEXTS, bytes);
}

/// One of each; certificates are those of proof files.
pub fn seeds() -> Vec<Vec<u8>> {
    let piece = |votes: usize| Evidence {
        offence: Offence::SkipAndCommit,
        node: WORLD.hospitals.hospital(1).institution.node,
        epoch: ValidatorEpoch::new(3),
        view: LeaderView::new(0x0102),
        votes: vec![9; votes],
    };
    let mut batch = Vec::new();
    for request in [b"one".as_slice(), &[7; 300]] {
        batch.extend_from_slice(&(request.len() as u32).to_be_bytes());
        batch.extend_from_slice(request);
    }
    let mut seeds: Vec<Vec<u8>> = [
        ("a batch", batch),
        ("evidence", piece(40).encode()),
        (
            "pieces of evidence",
            Evidence::encode_all(&[piece(1), piece(0)]),
        ),
        ("a statement on a snapshot", signed()),
    ]
    .iter()
    .map(|(name, example)| seed(TEXTS, name, example))
    .collect();
    // The last of a proof of finality: its certificate behind its length.
    let record = include_bytes!("../../../spec/vectors/proofs/record.proof");
    for at in (0..record.len()).step_by(64) {
        seeds.push([&[4], &record[at..(at + 500).min(record.len())]].concat());
    }
    seeds
}
