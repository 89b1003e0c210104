//! `verify_store` against stores that were tampered with from outside, by the library that keeps them.

use std::{path::Path, sync::OnceLock, time::Duration};

use chain::{
    FjallStore, NodeConfig, NotVerified, Replay, SimulatedNode, Simulator, StoredBlock, Submitter,
    Unsound, Verification, verify_store,
};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use ledger::{Genesis, Height, Transaction, testing::FourHospitals};
use scheme::SigningKey;

/// The parts of a store as the library names them.
#[derive(Debug, Clone, Copy)]
enum Part {
    Blocks,
    Certificates,
    Heights,
    Positions,
    State,
    Tip,
}

/// A store past every rule of its own.
struct Opened(Database);

impl Opened {
    fn new(folder: &Path) -> Self {
        Self(
            Database::builder(folder)
                .open()
                .expect("nobody has it open"),
        )
    }

    fn part(&self, part: Part) -> Keyspace {
        let name = format!("{part:?}").to_lowercase();
        let opened = self.0.keyspace(&name, KeyspaceCreateOptions::default);
        opened.expect("a part of the store")
    }

    /// Writes what no node writes, as a fault of the disk or somebody with access does.
    fn spoil(&self, part: Part, key: &[u8], value: Option<&[u8]>) {
        let done = match value {
            Some(value) => self.part(part).insert(key, value),
            None => self.part(part).remove(key),
        };
        done.expect("an open store");
    }

    /// The first entry whose key begins so.
    fn entry(&self, part: Part, prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let found = self.part(part).prefix(prefix).next().expect("there is one");
        let (key, value) = found.into_inner().expect("readable");
        (key.to_vec(), value.to_vec())
    }
}

/// Blocks with the engine's own certificates, over several validator epochs, with records and a node
/// set that changes.
struct Chain {
    hospitals: FourHospitals,
    blocks: Vec<StoredBlock>,
}

const EPOCH_BLOCKS: u64 = 8;

fn chain() -> &'static Chain {
    static CHAIN: OnceLock<Chain> = OnceLock::new();
    CHAIN.get_or_init(|| {
        let mut settings = ledger::Settings::standard();
        settings.heartbeat = Duration::from_millis(500);
        settings.epoch_blocks = u32::try_from(EPOCH_BLOCKS).expect("small");
        let hospitals = FourHospitals::found(settings);
        let keys: Vec<SigningKey> = hospitals
            .hospitals
            .iter()
            .map(|hospital| hospital.node_key.clone())
            .collect();
        let genesis = hospitals.genesis.clone();
        let mut simulator = Simulator::new(11, genesis, keys, NodeConfig::default());
        let mut opening = hospitals.opening();
        opening.extend([
            hospitals.record(1, 1),
            hospitals.record(2, 2),
            hospitals.patient(1),
        ]);
        // The fourth hospital's node votes under another key from an early epoch on.
        opening.push(hospitals.succession(4));
        let here = &hospitals;
        let blocks = simulator.run(|mut simulation| async move {
            for number in 0..4 {
                simulation
                    .start(SimulatedNode(number))
                    .await
                    .expect("it starts");
            }
            let node = simulation.node(SimulatedNode(0)).expect("it runs").clone();
            for transaction in &opening {
                let taken = node.submit(Submitter::new(1), &Transaction::encode(transaction));
                let id = taken.expect("there is room").id();
                let bound = Duration::from_secs(60);
                node.wait_for_receipt(&id, bound)
                    .await
                    .expect("it becomes final");
            }
            let fourth = here.hospital(4).institution.id;
            let (_, next) = here.next_keys(4, 1);
            loop {
                let epoch = node.status().epoch;
                let set = ledger::node_set(node.view().as_ref(), epoch);
                let set = set.expect("readable").expect("decided");
                if set.by_key(&next.verifying_key()).is_some() {
                    break;
                }
                let following = scheme::ValidatorEpoch::new(epoch.number() + 1);
                let seat = here.seat(fourth, &next, following);
                // Refused if it stands already, or its epoch begins just now.
                let _ = node.submit(Submitter::new(1), &seat.encode());
                simulation.sleep(Duration::from_millis(200)).await;
            }
            let last = 4 * EPOCH_BLOCKS + 3;
            while node.status().tip.height.number() < last + 2 {
                simulation.sleep(Duration::from_millis(100)).await;
            }
            let block = |height| node.stored_block(Height::new(height)).expect("readable");
            let mut blocks: Vec<_> = (0..=last).map(|at| block(at).expect("final")).collect();
            // The last one with a certificate of its own.
            while blocks
                .last()
                .is_some_and(|block| block.certificate.is_none())
            {
                blocks.pop();
            }
            blocks
        });
        let folder = tempfile::tempdir().expect("a folder");
        let replay = built(&hospitals, &blocks, &folder);
        let set = |epoch| {
            let epoch = scheme::ValidatorEpoch::new(epoch);
            ledger::node_set(replay.view(), epoch)
                .expect("readable")
                .expect("decided")
        };
        let sets: Vec<_> = (0..=4).map(|epoch| set(epoch).digest()).collect();
        assert!(
            sets.windows(2).any(|pair| pair[0] != pair[1]),
            "the nodes changed"
        );
        Chain { hospitals, blocks }
    })
}

fn built(hospitals: &FourHospitals, blocks: &[StoredBlock], folder: &tempfile::TempDir) -> Replay {
    let mut replay = Replay::begin(folder.path(), &hospitals.genesis).expect("an empty folder");
    for stored in &blocks[1..] {
        let taken = replay.next(&stored.block, stored.certificate.as_deref());
        taken.expect("the next block");
    }
    replay
}

/// The chain's store, with what `spoil` does to it.
fn verified(spoil: impl FnOnce(&Opened)) -> Verification {
    let chain = chain();
    let folder = tempfile::tempdir().expect("a folder");
    built(&chain.hospitals, &chain.blocks, &folder)
        .finish()
        .expect("it ends proved");
    let store = Opened::new(folder.path());
    spoil(&store);
    store.0.persist(PersistMode::SyncAll).expect("a disk");
    drop(store);
    verify_in(folder.path(), &chain.hospitals.genesis)
}

fn verify_in(folder: &Path, genesis: &Genesis) -> Verification {
    let scratch = tempfile::tempdir().expect("a folder");
    let mut steps = 0;
    let verified = verify_store(folder, genesis, scratch.path(), &mut |_| steps += 1);
    let verified = verified.expect("a store that opens");
    assert!(steps > 0 || !verified.is_sound(), "it says how far it is");
    verified
}

fn named(found: &Verification, height: Option<u64>, what: &str) {
    let named = found
        .findings
        .iter()
        .any(|finding| finding.height == height.map(Height::new) && finding.what.contains(what));
    assert!(named, "{what} at {height:?}: {:?}", found.findings);
}

fn key(height: usize) -> [u8; 8] {
    (height as u64).to_be_bytes()
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

#[test]
fn a_node_that_did_nothing_wrong_has_a_sound_store() {
    let found = verified(|_| {});
    let last = chain().blocks.len() as u64 - 1;
    assert!(found.is_sound(), "{:?}", found.findings);
    assert_eq!(found.height.number(), last);
    assert_eq!(found.proved.number(), last);
    assert!(found.compared.expect("to the end") > 100);
    // A block without a certificate of its own is proved by a later one's.
    let without =
        (1..last).find(|height| !(height + 1).is_multiple_of(EPOCH_BLOCKS) && *height + 1 < last);
    let without = without.expect("there is one");
    let found = verified(|store| {
        store.spoil(Part::Certificates, &without.to_be_bytes(), None);
    });
    assert!(found.is_sound(), "{:?}", found.findings);
    // Of the last one nothing says that it is final.
    let found = verified(|store| store.spoil(Part::Certificates, &last.to_be_bytes(), None));
    assert!(found.is_sound() && found.proved < found.height);
}

#[test]
fn attack_alter_exchange_or_remove_blocks_in_a_nodes_store() {
    let blocks = &chain().blocks;
    let full = blocks
        .iter()
        .rposition(|block| block.block.len() > ledger::Header::BYTES + 100);
    let full = full.expect("a block with transactions");
    for at in [0, 40, 70, 100, 150, 190, 230, ledger::Header::BYTES + 20] {
        let found = verified(|store| {
            let altered = flipped(&blocks[full].block, at);
            store.spoil(Part::Blocks, &key(full), Some(&altered));
        });
        let height = Some(full as u64);
        let stopped = &found.findings[0];
        assert_eq!(
            stopped.height.map(Height::number),
            height,
            "{:?}",
            found.findings
        );
        assert!(stopped.what.contains("the block"), "{stopped:?}");
        assert_eq!(found.compared, None, "byte {at}");
        assert_eq!(found.height.number() + 1, full as u64);
    }
    let exchanged = verified(|store| {
        store.spoil(Part::Blocks, &key(9), Some(&blocks[10].block));
        store.spoil(Part::Blocks, &key(10), Some(&blocks[9].block));
    });
    named(
        &exchanged,
        Some(9),
        "the block does not continue its parent",
    );
    let missing = verified(|store| store.spoil(Part::Blocks, &key(12), None));
    named(&missing, Some(12), "the block is missing");
    let cut = verified(|store| {
        let cut = &blocks[7].block[..200];
        store.spoil(Part::Blocks, &key(7), Some(cut));
    });
    named(&cut, Some(7), "the block cannot be read");
    let founding = verified(|store| {
        let altered = flipped(&blocks[0].block, 100);
        store.spoil(Part::Blocks, &key(0), Some(&altered));
    });
    named(&founding, Some(0), "not that of the founding document");
}

/// A signature of the right leader over a block that breaks no rule is not enough: its certificate is
/// of another.
#[test]
fn attack_rewrite_the_end_of_a_chain_with_the_leaders_key() {
    let chain = chain();
    let height = chain.blocks.len() - 1;
    let found = verified(|store| {
        let stored = &chain.blocks[height].block;
        let header = ledger::EncodedBlock::new(stored.clone()).header();
        let mut header = header.expect("as it was stored");
        header.time = scheme::Timestamp::new(header.time.number() + 1);
        let leader = chain.hospitals.node_signer(&header.producer);
        let unsigned = &header.encode()[..ledger::Header::BYTES - 64];
        let context = scheme::Context::Consensus;
        header.signature = leader.sign(context, &header.consortium, &[unsigned]);
        let rewritten = [&header.encode(), &stored[ledger::Header::BYTES..]].concat();
        store.spoil(Part::Blocks, &key(height), Some(&rewritten));
    });
    named(
        &found,
        Some(height as u64),
        "the certificate does not stand",
    );
    assert!(found.proved.number() < height as u64);
    named(&found, Some(height as u64), "the state's entry");
}

#[test]
fn attack_alter_or_exchange_certificates() {
    let blocks = &chain().blocks;
    let certified: Vec<usize> = (1..blocks.len())
        .filter(|at| blocks[*at].certificate.is_some())
        .collect();
    let (one, other) = (certified[1], certified[2]);
    let of = |at: usize| blocks[at].certificate.as_deref().expect("it has one");
    for at in [0, 1, 10, 40, 50, of(one).len() - 1] {
        let found = verified(|store| {
            let altered = flipped(of(one), at);
            store.spoil(Part::Certificates, &key(one), Some(&altered));
        });
        named(&found, Some(one as u64), "the certificate does not stand");
        assert!(found.compared.is_some(), "a certificate changes no state");
    }
    let exchanged = verified(|store| {
        store.spoil(Part::Certificates, &key(one), Some(of(other)));
        store.spoil(Part::Certificates, &key(other), Some(of(one)));
    });
    named(
        &exchanged,
        Some(one as u64),
        "the certificate does not stand",
    );
    named(
        &exchanged,
        Some(other as u64),
        "the certificate does not stand",
    );
    let border = EPOCH_BLOCKS as usize - 1;
    let removed = verified(|store| store.spoil(Part::Certificates, &key(border), None));
    named(
        &removed,
        Some(border as u64),
        "has no certificate that stands",
    );
    let stray = verified(|store| {
        store.spoil(Part::Certificates, &key(blocks.len() + 5), Some(of(one)));
    });
    named(&stray, None, "where no block is");
    let founding = verified(|store| store.spoil(Part::Certificates, &key(0), Some(of(one))));
    named(&founding, Some(0), "the founding block has a certificate");
}

#[test]
fn attack_alter_remove_or_add_what_follows_from_the_blocks() {
    let last = Some(chain().blocks.len() as u64 - 1);
    // Of every kind that this chain has: accountable, indexes, and the trie's and log's own.
    let kinds = [
        "sc", "sl", "si", "sv", "su", "sn", "sw", "t", "r", "x", "w", "g", "y", "b", "a", "h", "n",
        "l", "f",
    ];
    for (removed, wrong) in [(false, "is not what the blocks give"), (true, "is missing")] {
        let mut keys = Vec::new();
        let found = verified(|store| {
            for kind in kinds {
                let (key, value) = store.entry(Part::State, kind.as_bytes());
                let value = flipped(&value, value.len() / 2);
                let value = (!removed).then_some(value.as_slice());
                store.spoil(Part::State, &key, value);
                keys.push(key);
            }
        });
        for key in &keys {
            let shown: String = key
                .iter()
                .take(40)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            named(
                &found,
                last,
                &format!("the state's entry 0x{shown} {wrong}"),
            );
        }
        assert_eq!(found.findings.len(), keys.len(), "{:?}", found.findings);
    }
    let added = verified(|store| store.spoil(Part::State, b"tx", Some(b"a tag of nobody")));
    named(&added, last, "is none of the chain's");
    for (part, what) in [
        (Part::Positions, "the place of transaction"),
        (Part::Heights, "the height of block"),
    ] {
        for (value, wrong) in [
            (None, "is missing"),
            (Some(b"nonsense".as_slice()), "is not what the blocks give"),
        ] {
            let found = verified(|store| {
                let (key, _) = store.entry(part, b"");
                store.spoil(part, &key, value);
            });
            named(&found, last, what);
            named(&found, last, wrong);
        }
    }
    let led = verified(|store| {
        let (key, value) = store.entry(Part::Tip, b"");
        let value = flipped(&value, value.len() - 1);
        store.spoil(Part::Tip, &key, Some(&value));
    });
    named(&led, last, "the entry of the last block");
}

#[test]
fn a_store_of_another_consortium_and_one_that_is_none_are_told_apart() {
    let other = FourHospitals::default();
    let folder = tempfile::tempdir().expect("a folder");
    let chain = chain();
    built(&chain.hospitals, &chain.blocks, &folder)
        .finish()
        .expect("proved");
    let found = verify_in(folder.path(), &other.genesis);
    named(&found, Some(0), "not that of the founding document");
    let scratch = tempfile::tempdir().expect("a folder");
    let verify = |folder: &Path| verify_store(folder, &other.genesis, scratch.path(), &mut |_| {});
    let empty = tempfile::tempdir().expect("a folder");
    assert!(matches!(verify(empty.path()), Err(NotVerified::NoStore)));
    assert!(matches!(
        verify(&empty.path().join("none")),
        Err(NotVerified::NoStore)
    ));
    let held = FjallStore::open(folder.path()).expect("nobody has it open");
    assert!(matches!(
        verify(folder.path()),
        Err(NotVerified::Unopened(_))
    ));
    drop(held);
}

#[test]
fn many_findings_are_counted_and_the_first_are_kept() {
    let found = verified(|store| {
        for number in 0..150u32 {
            let key = [b"t".as_slice(), &number.to_be_bytes()].concat();
            store.spoil(Part::State, &key, Some(b""));
        }
    });
    assert_eq!(found.findings.len(), Verification::FINDINGS_MAX);
    assert_eq!(found.omitted, 50);
}

/// What a restore is given may stop anywhere, be out of order, or carry a certificate of another.
#[test]
fn a_chain_is_built_anew_only_of_its_own_blocks_and_only_up_to_a_certificate() {
    let chain = chain();
    let folder = tempfile::tempdir().expect("a folder");
    let mut replay = Replay::begin(folder.path(), &chain.hospitals.genesis).expect("empty");
    let [one, two] = [&chain.blocks[1], &chain.blocks[2]];
    let early = replay.next(&two.block, two.certificate.as_deref());
    assert!(matches!(early, Err(Unsound::Invalid(_))));
    replay
        .next(&one.block, None)
        .expect("the first, whose certificate comes later");
    let again = replay.next(&one.block, one.certificate.as_deref());
    assert!(matches!(again, Err(Unsound::Invalid(_))));
    assert!(matches!(replay.finish(), Err(Unsound::Open)));
    let folder = tempfile::tempdir().expect("a folder");
    let mut replay = Replay::begin(folder.path(), &chain.hospitals.genesis).expect("empty");
    let foreign = replay.next(&one.block, Some(b"a certificate"));
    assert!(matches!(foreign, Err(Unsound::Certificate)));
}
