//! What every store of a node keeps, run over both implementations. The rules are numbered in the
//! documentation of the module `store`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use chain::{
    Commit, Fault, FinalView, FjallStore, SimulatedDisk, SimulatedStore, Store, StoreError, Tip,
};
use ledger::{BlockId, Changes, Height, StateRoot, TransactionId};
use proptest::prelude::*;
use scheme::Timestamp;

/// A store that can be closed and opened again on what it kept.
trait Home {
    fn open(&self) -> Arc<dyn Store>;
}

struct Folder(tempfile::TempDir);

impl Home for Folder {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(FjallStore::open(self.0.path()).expect("a folder of our own"))
    }
}

impl Home for SimulatedDisk {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(SimulatedStore::open(self).expect("an undamaged disk"))
    }
}

/// Runs a check over both implementations.
fn on_both(check: impl Fn(&dyn Home)) {
    check(&SimulatedDisk::new());
    check(&Folder(tempfile::tempdir().expect("a temporary folder")));
}

/// A made-up block: the store does not look inside.
struct Made {
    tip: Tip,
    block: Vec<u8>,
    certificate: Option<Vec<u8>>,
    transactions: Vec<TransactionId>,
    changes: Changes,
}

impl Made {
    fn at(height: u64) -> Self {
        let byte = (height % 251) as u8;
        let mut changes = Changes::new();
        changes.put(b"height".to_vec(), height.to_be_bytes().to_vec());
        changes.put(height.to_be_bytes().to_vec(), vec![byte; 100]);
        if height >= 2 {
            changes.delete((height - 2).to_be_bytes().to_vec());
        }
        Self {
            tip: Tip {
                height: Height::new(height),
                block: BlockId::new([byte; 32]),
                state_root: StateRoot::new([byte ^ 0xff; 32]),
                time: Timestamp::new(1_000 + height),
                led: BTreeMap::from([([byte; 32], height), ([0xee; 32], 3)]),
            },
            block: vec![byte; 500],
            certificate: (height % 3 != 1).then(|| vec![byte; 90]),
            transactions: (0..3).map(|index| transaction(height, index)).collect(),
            changes,
        }
    }

    fn commit(&self, store: &dyn Store) -> Result<(), StoreError> {
        store.commit(Commit {
            tip: &self.tip,
            block: &self.block,
            certificate: self.certificate.as_deref(),
            transactions: &self.transactions,
            changes: &self.changes,
        })
    }
}

fn transaction(height: u64, index: u8) -> TransactionId {
    let mut bytes = [index; 32];
    bytes[..8].copy_from_slice(&height.to_be_bytes());
    TransactionId::new(bytes)
}

fn fill(store: &dyn Store, heights: std::ops::Range<u64>) {
    for height in heights {
        Made::at(height).commit(store).expect("the next block");
    }
}

/// Everything that a store says about blocks 0 up to `height`, against what was made.
fn assert_holds(store: &dyn Store, height: u64) {
    assert_eq!(store.tip().expect("readable"), Some(Made::at(height).tip));
    for at in 0..=height {
        let made = Made::at(at);
        let stored = store
            .block(Height::new(at))
            .expect("readable")
            .expect("kept");
        assert_eq!(stored.block, made.block);
        assert_eq!(stored.certificate, made.certificate);
        for (index, id) in made.transactions.iter().enumerate() {
            let position = store.position(id).expect("readable").expect("kept");
            assert_eq!(
                (position.height.number(), position.index as usize),
                (at, index)
            );
        }
        if at < 251 {
            assert_eq!(
                store.height_of(&made.tip.block).expect("readable"),
                Some(Height::new(at))
            );
        }
    }
    assert_eq!(
        store.block(Height::new(height + 1)).expect("readable"),
        None
    );
    assert_eq!(
        store
            .position(&transaction(height + 1, 0))
            .expect("readable"),
        None
    );
    assert_state(view(store).as_ref(), height);
}

fn assert_state(view: &dyn FinalView, height: u64) {
    assert_eq!(view.tip().height, Height::new(height));
    let get = |key: &[u8]| view.get(key).expect("readable");
    assert_eq!(get(b"height"), Some(height.to_be_bytes().to_vec()));
    assert_eq!(
        get(&height.to_be_bytes()),
        Some(vec![(height % 251) as u8; 100])
    );
    assert_eq!(
        get(&(height + 1).to_be_bytes()),
        None,
        "nothing of a later block"
    );
    if height >= 2 {
        assert_eq!(get(&(height - 2).to_be_bytes()), None, "deleted");
    }
    assert_eq!(get(b"never written"), None);
}

fn view(store: &dyn Store) -> Arc<dyn FinalView> {
    store.view().expect("readable").expect("there is a block")
}

#[test]
fn an_empty_store_says_so() {
    on_both(|home| {
        let store = home.open();
        assert_eq!(store.tip().expect("readable"), None);
        assert!(store.view().expect("readable").is_none());
        assert_eq!(store.block(Height::new(0)).expect("readable"), None);
        assert_eq!(
            store.height_of(&BlockId::new([1; 32])).expect("readable"),
            None
        );
        assert_eq!(store.position(&transaction(0, 0)).expect("readable"), None);
    });
}

#[test]
fn what_was_committed_is_there_now_and_after_opening_again() {
    on_both(|home| {
        let store = home.open();
        fill(store.as_ref(), 0..40);
        assert_holds(store.as_ref(), 39);
        drop(store);
        let store = home.open();
        assert_holds(store.as_ref(), 39);
        fill(store.as_ref(), 40..50);
        drop(store);
        assert_holds(home.open().as_ref(), 49);
    });
}

#[test]
fn heights_come_one_after_the_other_and_nothing_is_written_twice() {
    on_both(|home| {
        let store = home.open();
        assert!(matches!(
            Made::at(1).commit(store.as_ref()),
            Err(StoreError::NotNext { tip: None, .. })
        ));
        fill(store.as_ref(), 0..5);
        for wrong in [0, 3, 4, 6, 100] {
            let refused = Made::at(wrong).commit(store.as_ref());
            assert!(
                matches!(refused, Err(StoreError::NotNext { .. })),
                "{wrong}"
            );
        }
        let mut again = Made::at(5);
        again.transactions.push(transaction(2, 1));
        let refused = again.commit(store.as_ref());
        assert!(matches!(refused, Err(StoreError::Rewritten(id)) if id == transaction(2, 1)));
        // A refused commit wrote nothing and poisoned nothing.
        assert_holds(store.as_ref(), 4);
        fill(store.as_ref(), 5..6);
        assert_holds(store.as_ref(), 5);
    });
}

#[test]
fn a_view_does_not_change_while_blocks_are_committed() {
    on_both(|home| {
        let store = home.open();
        fill(store.as_ref(), 0..3);
        let early = view(store.as_ref());
        fill(store.as_ref(), 3..20);
        let late = view(store.as_ref());
        fill(store.as_ref(), 20..30);
        assert_state(early.as_ref(), 2);
        assert_state(late.as_ref(), 19);
        assert_state(view(store.as_ref()).as_ref(), 29);
    });
}

#[test]
fn readers_see_whole_blocks_while_one_writes() {
    on_both(|home| {
        let store = home.open();
        fill(store.as_ref(), 0..1);
        std::thread::scope(|scope| {
            let reader = Arc::clone(&store);
            let reading = scope.spawn(move || {
                let mut seen = 0;
                while seen < 60 {
                    let view = view(reader.as_ref());
                    seen = view.tip().height.number();
                    assert_state(view.as_ref(), seen);
                }
            });
            fill(store.as_ref(), 1..61);
            reading.join().expect("the reader saw whole blocks");
        });
    });
}

#[test]
fn one_folder_is_opened_by_one_store_at_a_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let _held = FjallStore::open(folder.path()).expect("free");
    assert!(matches!(
        FjallStore::open(folder.path()),
        Err(StoreError::Io { .. })
    ));
}

/// What a killed process leaves is what a copy of its folder holds at any moment.
#[test]
fn a_copy_taken_without_closing_opens_with_every_committed_block() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = FjallStore::open(folder.path()).expect("a folder of our own");
    for height in 0..12 {
        fill(&store, height..height + 1);
        if height % 4 == 3 {
            let copy = tempfile::tempdir().expect("a temporary folder");
            copy_folder(folder.path(), copy.path());
            let survivor = FjallStore::open(copy.path()).expect("it recovers");
            assert_holds(&survivor, height);
        }
    }
}

/// The files of the journal in a store's folder, which hold the last blocks of a node that was killed.
fn journals(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(journals(&path));
        } else if path.extension().is_some_and(|ending| ending == "jnl") {
            found.push(path);
        }
    }
    found
}

/// Opens a damaged copy of a store. It holds the first blocks and nothing of the others, or it is
/// refused with an error. Returns how many blocks it holds.
fn opens_to_a_prefix(folder: &Path, damage: impl Fn(&mut Vec<u8>), what: &str) -> Option<u64> {
    let copy = tempfile::tempdir().expect("a temporary folder");
    copy_folder(folder, copy.path());
    let journals = journals(copy.path());
    assert!(!journals.is_empty(), "a journal is there to be damaged");
    for journal in journals {
        let mut bytes = std::fs::read(&journal).expect("readable");
        damage(&mut bytes);
        std::fs::write(&journal, bytes).expect("writable");
    }
    let store = match FjallStore::open(copy.path()) {
        Ok(store) => store,
        Err(error) => {
            assert!(error.to_string().contains("store"), "{what}: {error}");
            return None;
        }
    };
    let Some(tip) = store.tip().expect("readable") else {
        return Some(0);
    };
    let height = tip.height.number();
    assert_holds(&store, height);
    if height < 11 {
        // It goes on from there.
        fill(&store, height + 1..height + 2);
        assert_holds(&store, height + 1);
    }
    Some(height + 1)
}

#[test]
fn a_damaged_journal_opens_to_a_prefix_or_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = FjallStore::open(folder.path()).expect("a folder of our own");
    fill(&store, 0..12);
    // Copied while it is open, as a killed process leaves it.
    let killed = tempfile::tempdir().expect("a temporary folder");
    copy_folder(folder.path(), killed.path());
    drop(store);
    let whole = opens_to_a_prefix(killed.path(), |_| {}, "untouched");
    assert_eq!(whole, Some(12));

    // The written part ends at the last byte that is not zero; space after it may be reserved.
    let written = journals(killed.path())
        .iter()
        .map(|path| std::fs::read(path).expect("readable"))
        .map(|bytes| bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0))
        .max()
        .expect("a journal");
    assert!(written > 10_000, "{written} bytes for twelve blocks");
    let mut held = std::collections::BTreeSet::new();
    for part in 0..16 {
        let cut = written * part / 16;
        let what = format!("cut to {cut} of {written} bytes");
        let kept = opens_to_a_prefix(killed.path(), |bytes| bytes.truncate(cut), &what);
        assert!(kept.is_none_or(|kept| kept <= 12), "{what}");
        held.insert(kept);
    }
    // Where the cut falls decides how much is kept.
    assert!(held.len() > 4, "{held:?}");
    let mut unnoticed = 0;
    for part in 0..24 {
        let at = written * part / 24 + part;
        let what = format!("bit {} of byte {at} flipped", part % 8);
        let flip = |bytes: &mut Vec<u8>| {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (part % 8);
            }
        };
        let kept = opens_to_a_prefix(killed.path(), flip, &what);
        // Where it did no harm, all twelve are there, as they were written.
        unnoticed += usize::from(kept == Some(12));
    }
    assert!(unnoticed <= 2, "{unnoticed} of 24");
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            std::fs::create_dir_all(&target).expect("writable");
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("writable");
        }
    }
}

#[test]
fn a_commit_that_failed_poisons_the_store_until_it_is_opened_anew() {
    for (fault, survives) in [(Fault::BeforeSync, false), (Fault::AfterSync, true)] {
        let disk = SimulatedDisk::new();
        let store = disk.open();
        fill(store.as_ref(), 0..4);
        disk.arm(0, fault);
        assert!(matches!(
            Made::at(4).commit(store.as_ref()),
            Err(StoreError::Io { .. })
        ));
        assert!(matches!(
            Made::at(4).commit(store.as_ref()),
            Err(StoreError::Poisoned)
        ));
        assert_holds(store.as_ref(), 3);
        disk.crash(0);
        let again = disk.open();
        let tip = if survives { 4 } else { 3 };
        assert_holds(again.as_ref(), tip);
        assert!(
            Made::at(9).commit(store.as_ref()).is_err(),
            "a store from before the crash"
        );
        fill(again.as_ref(), tip + 1..8);
        assert_holds(again.as_ref(), 7);
    }
}

#[test]
fn damage_at_rest_is_told_from_a_torn_end() {
    let disk = SimulatedDisk::new();
    fill(disk.open().as_ref(), 0..4);
    disk.flip(disk.len() / 2);
    assert!(matches!(
        SimulatedStore::open(&disk),
        Err(StoreError::Damaged(_))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Wherever a write is cut off, what was committed before is there and nothing of the rest is.
    #[test]
    fn a_torn_write_is_all_or_nothing(before in 1u64..6, kept in 0usize..2_000) {
        let disk = SimulatedDisk::new();
        let store = disk.open();
        fill(store.as_ref(), 0..before);
        let synced = disk.len();
        disk.arm(0, Fault::BeforeSync);
        prop_assert!(Made::at(before).commit(store.as_ref()).is_err());
        let whole = disk.len() - synced;
        disk.crash(kept);
        let again = disk.open();
        let tip = if kept >= whole { before } else { before - 1 };
        assert_holds(again.as_ref(), tip);
        fill(again.as_ref(), tip + 1..tip + 3);
        drop(again);
        disk.crash(0);
        assert_holds(disk.open().as_ref(), tip + 2);
    }
}
