//! The store of a node in production: log-structured trees on a local disk.
//!
//! Tags and transaction ids are random keys that are written once and looked up exactly, which is
//! what such trees are good at: a commit is one batch appended to a journal and synced, and the
//! trees are merged in the background. This is the only file that names the library; why it was
//! chosen stands in `docs/decisions/0001-storage-of-a-node.md`.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use ledger::{BlockId, Header, Height, TransactionId, View, ViewError};

use crate::store::{
    Commit, Entries, Entry, FinalView, Position, Store, StoreError, StoredBlock, Tip, check_next,
};

/// A store in a folder of its own. One process opens a folder at a time.
pub struct FjallStore {
    database: Database,
    state: Keyspace,
    blocks: Keyspace,
    certificates: Keyspace,
    heights: Keyspace,
    positions: Keyspace,
    tip: Keyspace,
    /// What a commit waits for; nothing where a crash costs only the work.
    durability: Option<PersistMode>,
    poisoned: AtomicBool,
}

/// The parts of a store, each a map of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Blocks by height.
    Blocks,
    /// Certificates by height.
    Certificates,
    /// Heights by block id.
    Heights,
    /// Places by transaction id.
    Positions,
    /// The state after the tip.
    State,
    /// The tip.
    Tip,
}

impl FjallStore {
    /// Opens the store in `folder` and creates it if there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the folder cannot be used, another process has it open, or the disk
    /// lost what it had promised to keep; [`StoreError::Damaged`] if the journal cannot be read, or
    /// what it held is not the blocks up to the tip.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_with(folder, Some(PersistMode::SyncAll))
    }

    /// Opens a store whose commits do not wait for the device, for one that is filled at once: it
    /// counts for nothing until [`Self::sync`] returned.
    pub(crate) fn open_for_filling(folder: &Path) -> Result<Self, StoreError> {
        Self::open_with(folder, None)
    }

    /// Waits until everything that was committed is on the device.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let synced = self.database.persist(PersistMode::SyncAll);
        synced.map_err(|error| StoreError::io("written", error))
    }

    /// Everything of a part in the order of its keys, as it is when this is called.
    pub(crate) fn entries(
        &self,
        part: Part,
    ) -> impl Iterator<Item = Result<Entry, StoreError>> + use<> {
        self.part(part).iter().map(owned)
    }

    /// Puts entries of a state that is installed.
    pub(crate) fn put_state(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(self.durability);
        for (key, value) in entries {
            batch.insert(&self.state, key.as_slice(), value.as_slice());
        }
        batch.commit().map_err(writing)
    }

    /// Makes the store of an installed state begin at the block after which it is the state: of those
    /// before it has the founding block alone.
    pub(crate) fn begin_at(
        &self,
        first: &Header,
        first_bytes: &[u8],
        tip: &Tip,
        block: &StoredBlock,
    ) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(self.durability);
        let (key, height) = (
            first.height.number().to_be_bytes(),
            tip.height.number().to_be_bytes(),
        );
        batch.insert(&self.blocks, key, first_bytes);
        batch.insert(&self.heights, *first.id().as_bytes(), key);
        batch.insert(&self.blocks, height, block.block.as_slice());
        if let Some(certificate) = &block.certificate {
            batch.insert(&self.certificates, height, certificate.as_slice());
        }
        batch.insert(&self.heights, *tip.block.as_bytes(), height);
        batch.insert(&self.tip, BEGIN_KEY, height);
        batch.insert(&self.tip, TIP_KEY, tip.encode());
        batch.commit().map_err(writing)
    }

    fn part(&self, part: Part) -> &Keyspace {
        match part {
            Part::Blocks => &self.blocks,
            Part::Certificates => &self.certificates,
            Part::Heights => &self.heights,
            Part::Positions => &self.positions,
            Part::State => &self.state,
            Part::Tip => &self.tip,
        }
    }

    fn open_with(folder: &Path, durability: Option<PersistMode>) -> Result<Self, StoreError> {
        let open = || {
            let database = Database::builder(folder)
                .cache_size(CACHE_BYTES)
                .max_journaling_size(JOURNAL_BYTES)
                .worker_threads(WORKERS)
                .open()?;
            let keyspace = |name: &str| {
                database.keyspace(name, || {
                    KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)
                })
            };
            Ok::<_, fjall::Error>(Self {
                state: keyspace("state")?,
                blocks: keyspace("blocks")?,
                certificates: keyspace("certificates")?,
                heights: keyspace("heights")?,
                positions: keyspace("positions")?,
                tip: keyspace("tip")?,
                durability,
                poisoned: AtomicBool::new(false),
                database,
            })
        };
        // Some bits that flip in a journal meet an assertion of the library in debug builds, and an
        // error in others. A node says in both what is the matter.
        let store = match std::panic::catch_unwind(open) {
            Ok(opened) => opened.map_err(|error| StoreError::io("opened", error))?,
            Err(_) => return Err(StoreError::Damaged("the journal")),
        };
        store.check_end()?;
        Ok(store)
    }

    /// That the tip is the last block. The library's checksum covers what a batch of the journal
    /// writes and not its place in the order of batches: a bit that flips there lets an older tip
    /// hide a newer one. What it may do to the state besides is noticed with the next final block
    /// that reads it, whose state root then does not come out.
    fn check_end(&self) -> Result<(), StoreError> {
        let tip = self.tip()?.map(|tip| tip.height.number());
        let next = tip.map_or(0, |height| height + 1);
        let held = |height: u64| self.blocks.contains_key(height.to_be_bytes());
        let last_is_there = tip.map_or(Ok(true), held).map_err(reading)?;
        if !last_is_there || held(next).map_err(reading)? {
            return Err(StoreError::Damaged("the order of the journal"));
        }
        Ok(())
    }
}

impl std::fmt::Debug for FjallStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FjallStore")
    }
}

impl Store for FjallStore {
    fn tip(&self) -> Result<Option<Tip>, StoreError> {
        let bytes = self.tip.get(TIP_KEY).map_err(reading)?;
        bytes.map(|bytes| Tip::decode(&bytes)).transpose()
    }

    fn view(&self) -> Result<Option<Arc<dyn FinalView>>, StoreError> {
        let snapshot = self.database.snapshot();
        let Some(bytes) = snapshot.get(&self.tip, TIP_KEY).map_err(reading)? else {
            return Ok(None);
        };
        let tip = Tip::decode(&bytes)?;
        Ok(Some(Arc::new(FjallView {
            snapshot,
            state: self.state.clone(),
            tip,
        })))
    }

    fn commit(&self, commit: Commit<'_>) -> Result<(), StoreError> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(StoreError::Poisoned);
        }
        let height = commit.tip.height;
        check_next(self.tip()?.as_ref(), height)?;
        for transaction in commit.transactions {
            if self
                .positions
                .contains_key(transaction.as_bytes())
                .map_err(reading)?
            {
                return Err(StoreError::Rewritten(*transaction));
            }
        }
        let key = height.number().to_be_bytes();
        // The journal is synced before the batch becomes visible, so nothing is ever read that a
        // crash could take back.
        let mut batch = self.database.batch().durability(self.durability);
        batch.insert(&self.blocks, key, commit.block);
        if let Some(certificate) = commit.certificate {
            batch.insert(&self.certificates, key, certificate);
        }
        batch.insert(&self.heights, *commit.tip.block.as_bytes(), key);
        for (index, transaction) in (0u32..).zip(commit.transactions) {
            let position = Position { height, index };
            batch.insert(&self.positions, *transaction.as_bytes(), position.encode());
        }
        for (key, value) in commit.changes.iter() {
            match value {
                Some(value) => batch.insert(&self.state, key, value),
                None => batch.remove(&self.state, key),
            }
        }
        batch.insert(&self.tip, TIP_KEY, commit.tip.encode());
        batch.commit().map_err(|error| {
            self.poisoned.store(true, Ordering::Release);
            StoreError::io("written", error)
        })
    }

    fn block(&self, height: Height) -> Result<Option<StoredBlock>, StoreError> {
        let key = height.number().to_be_bytes();
        let Some(block) = self.blocks.get(key).map_err(reading)? else {
            return Ok(None);
        };
        let certificate = self.certificates.get(key).map_err(reading)?;
        Ok(Some(StoredBlock {
            block: block.to_vec(),
            certificate: certificate.map(|bytes| bytes.to_vec()),
        }))
    }

    fn height_of(&self, block: &BlockId) -> Result<Option<Height>, StoreError> {
        let Some(bytes) = self.heights.get(block.as_bytes()).map_err(reading)? else {
            return Ok(None);
        };
        let bytes = bytes
            .as_ref()
            .try_into()
            .map_err(|_| StoreError::Damaged("a height"))?;
        Ok(Some(Height::new(u64::from_be_bytes(bytes))))
    }

    fn position(&self, transaction: &TransactionId) -> Result<Option<Position>, StoreError> {
        let bytes = self
            .positions
            .get(transaction.as_bytes())
            .map_err(reading)?;
        bytes.map(|bytes| Position::decode(&bytes)).transpose()
    }

    fn begins_at(&self) -> Result<Height, StoreError> {
        let Some(bytes) = self.tip.get(BEGIN_KEY).map_err(reading)? else {
            return Ok(Height::new(0));
        };
        let bytes = bytes.as_ref().try_into();
        let bytes = bytes.map_err(|_| StoreError::Damaged("where the store begins"))?;
        Ok(Height::new(u64::from_be_bytes(bytes)))
    }

    fn fill(
        &self,
        height: Height,
        block: &BlockId,
        stored: &StoredBlock,
        transactions: &[TransactionId],
    ) -> Result<(), StoreError> {
        let begins = self.begins_at()?;
        if height.number() == 0 || height.next() != begins {
            return Err(StoreError::NotNext {
                offered: height,
                tip: Some(begins),
            });
        }
        let key = height.number().to_be_bytes();
        // The journal is synced with the next block that is final.
        let mut batch = self.database.batch().durability(None);
        batch.insert(&self.blocks, key, stored.block.as_slice());
        if let Some(certificate) = &stored.certificate {
            batch.insert(&self.certificates, key, certificate.as_slice());
        }
        batch.insert(&self.heights, *block.as_bytes(), key);
        for (index, transaction) in (0u32..).zip(transactions) {
            let position = Position { height, index };
            batch.insert(&self.positions, *transaction.as_bytes(), position.encode());
        }
        // With the founding block below it nothing is missing any more.
        match height.number() {
            1 => batch.remove(&self.tip, BEGIN_KEY),
            _ => batch.insert(&self.tip, BEGIN_KEY, key),
        }
        batch.commit().map_err(writing)
    }
}

struct FjallView {
    snapshot: Snapshot,
    state: Keyspace,
    tip: Tip,
}

impl View for FjallView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        let value = self
            .snapshot
            .get(&self.state, key)
            .map_err(ViewError::new)?;
        Ok(value.map(|value| value.to_vec()))
    }
}

impl FinalView for FjallView {
    fn tip(&self) -> &Tip {
        &self.tip
    }

    fn entries(&self) -> Entries<'_> {
        Box::new(self.snapshot.iter(&self.state).map(owned))
    }
}

fn owned(entry: fjall::Guard) -> Result<Entry, StoreError> {
    let (key, value) = entry.into_inner().map_err(reading)?;
    Ok((key.to_vec(), value.to_vec()))
}

fn reading(error: fjall::Error) -> StoreError {
    StoreError::io("read", error)
}

fn writing(error: fjall::Error) -> StoreError {
    StoreError::io("written", error)
}

/// The keys of the keyspace of the tip; the second is there while blocks before a snapshot are missing.
const TIP_KEY: &[u8] = b"tip";
const BEGIN_KEY: &[u8] = b"begin";

/// Cached blocks of the trees: 32 MiB hold the upper levels and filters of some 10^7 tags.
const CACHE_BYTES: u64 = 32 << 20;

/// Six keyspaces hold 8 MiB each at most before they are flushed: 48 MiB, of which state, blocks and
/// positions take nearly all.
const MEMTABLE_BYTES: u64 = 8 << 20;

/// The journal may hold the memtables several times over before a flush is forced: 128 MiB.
const JOURNAL_BYTES: u64 = 128 << 20;

/// Background threads for flushes and merges; a node shares its machine with a hospital's server.
const WORKERS: usize = 2;
