//! The store of a node in a simulation: memory that behaves like a disk which can crash.
//!
//! The disk is a journal and a mark up to which it was synced. A commit appends one record and
//! syncs, so between two commits a crash takes nothing. [`SimulatedDisk::arm`] makes one of the next commits fail before or after its sync; a
//! crash then keeps what was synced and an arbitrary part of what was not, so that a record may be
//! lost or torn. Opening replays the journal, drops a torn record at its end and takes damage
//! before it for what it is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use ledger::{BlockId, Height, TransactionId, View, ViewError};
use scheme::{DecodeError, Decoder, Encoder, sha256};

use crate::store::{
    Commit, Entries, FinalView, Position, Store, StoreError, StoredBlock, Tip, check_next,
};

/// When a commit on a simulated disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The record was handed to the disk and not synced: a crash may lose or tear it.
    BeforeSync,
    /// The record is durable and the writer never hears of it.
    AfterSync,
    /// There is no room: nothing is written, and the writer is told so.
    Full,
}

/// What survives a node: the bytes that were synced, and for a while those that were not.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk {
    inner: Arc<Mutex<Disk>>,
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the commit after `commits` more fail.
    pub fn arm(&self, commits: u32, fault: Fault) {
        self.lock().armed = Some((commits, fault));
    }

    /// Takes the power away: of the bytes that were not synced only the first `kept_of_unsynced`
    /// remain. Stores that were open on the disk are of no more use.
    pub fn crash(&self, kept_of_unsynced: usize) {
        let mut disk = self.lock();
        let kept = disk
            .synced
            .saturating_add(kept_of_unsynced)
            .min(disk.journal.len());
        // What remains of the unsynced bytes may be torn, so the mark stays where it is.
        disk.journal.truncate(kept);
        disk.armed = None;
        disk.generation += 1;
    }

    /// Changes one byte at rest, as a failing device does.
    pub fn flip(&self, position: usize) {
        if let Some(byte) = self.lock().journal.get_mut(position) {
            *byte ^= 1;
        }
    }

    /// A copy of what was synced so far, as a backup takes it.
    pub fn backup(&self) -> Self {
        let disk = self.lock();
        let copy = Disk {
            journal: disk.journal[..disk.synced].to_vec(),
            synced: disk.synced,
            ..Disk::default()
        };
        Self {
            inner: Arc::new(Mutex::new(copy)),
        }
    }

    /// Puts a backup in place of what is there. Stores that were open on the disk are of no more use.
    pub fn restore(&self, backup: &Self) {
        let journal = backup.lock().journal.clone();
        let mut disk = self.lock();
        disk.synced = journal.len();
        disk.journal = journal;
        disk.armed = None;
        disk.generation += 1;
    }

    /// Bytes on the disk, synced or not.
    pub fn len(&self) -> usize {
        self.lock().journal.len()
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store on a [`SimulatedDisk`].
#[derive(Debug)]
pub struct SimulatedStore {
    disk: SimulatedDisk,
    generation: u64,
    index: Arc<RwLock<Index>>,
}

impl SimulatedStore {
    /// Opens what the disk holds.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if a record before the last is not as it was written.
    pub fn open(disk: &SimulatedDisk) -> Result<Self, StoreError> {
        let mut index = Index::default();
        let mut held = disk.lock();
        let mut valid = 0;
        loop {
            let rest = &held.journal[valid..];
            let Some((record, length)) = next_record(rest) else {
                // A record that no sync covered may be torn. Anything else is damage.
                if valid < held.synced && !rest.is_empty() {
                    return Err(StoreError::Damaged("a record of the journal"));
                }
                break;
            };
            let record = Record::decode(record).map_err(|_| StoreError::Damaged("a record"))?;
            index.apply(record);
            valid += length;
        }
        held.journal.truncate(valid);
        held.synced = valid;
        let generation = held.generation;
        drop(held);
        Ok(Self {
            disk: disk.clone(),
            generation,
            index: Arc::new(RwLock::new(index)),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for SimulatedStore {
    fn tip(&self) -> Result<Option<Tip>, StoreError> {
        Ok(self.read().tip.clone())
    }

    fn view(&self) -> Result<Option<Arc<dyn FinalView>>, StoreError> {
        let Some(tip) = self.tip()? else {
            return Ok(None);
        };
        Ok(Some(Arc::new(SimulatedView {
            index: Arc::clone(&self.index),
            tip,
        })))
    }

    fn commit(&self, commit: Commit<'_>) -> Result<(), StoreError> {
        let mut index = self.write();
        let mut disk = self.disk.lock();
        if index.poisoned || disk.generation != self.generation {
            return Err(StoreError::Poisoned);
        }
        check_next(index.tip.as_ref(), commit.tip.height)?;
        if let Some(known) = commit
            .transactions
            .iter()
            .find(|id| index.positions.contains_key(id.as_bytes()))
        {
            return Err(StoreError::Rewritten(*known));
        }
        let record = Record::of(&commit);
        let bytes = framed(&record.encode());
        let failing = match &mut disk.armed {
            Some((0, fault)) => Some(*fault),
            Some((commits, _)) => {
                *commits -= 1;
                None
            }
            None => None,
        };
        if failing != Some(Fault::Full) {
            disk.journal.extend_from_slice(&bytes);
        }
        if failing != Some(Fault::BeforeSync) {
            disk.synced = disk.journal.len();
        }
        if let Some(fault) = failing {
            disk.armed = None;
            index.poisoned = true;
            let trouble = match fault {
                Fault::Full => "the simulated disk is full",
                Fault::BeforeSync | Fault::AfterSync => "the simulated disk failed",
            };
            return Err(StoreError::io("written", trouble));
        }
        drop(disk);
        index.apply(record);
        Ok(())
    }

    fn block(&self, height: Height) -> Result<Option<StoredBlock>, StoreError> {
        Ok(self.read().blocks.get(&height.number()).cloned())
    }

    fn height_of(&self, block: &BlockId) -> Result<Option<Height>, StoreError> {
        Ok(self
            .read()
            .heights
            .get(block.as_bytes())
            .copied()
            .map(Height::new))
    }

    fn position(&self, transaction: &TransactionId) -> Result<Option<Position>, StoreError> {
        Ok(self.read().positions.get(transaction.as_bytes()).copied())
    }
}

#[derive(Debug, Default)]
struct Disk {
    journal: Vec<u8>,
    synced: usize,
    armed: Option<(u32, Fault)>,
    generation: u64,
}

/// A value and the height from which it holds; `None` from where the key is deleted.
type Version = (u64, Option<Vec<u8>>);

#[derive(Debug, Default)]
struct Index {
    tip: Option<Tip>,
    blocks: BTreeMap<u64, StoredBlock>,
    heights: BTreeMap<[u8; 32], u64>,
    positions: BTreeMap<[u8; 32], Position>,
    state: BTreeMap<Vec<u8>, Vec<Version>>,
    poisoned: bool,
}

impl Index {
    fn apply(&mut self, record: Record) {
        let height = record.tip.height;
        for (key, value) in record.writes {
            self.state
                .entry(key)
                .or_default()
                .push((height.number(), value));
        }
        for (index, transaction) in (0u32..).zip(record.transactions) {
            self.positions
                .insert(transaction, Position { height, index });
        }
        self.heights
            .insert(*record.tip.block.as_bytes(), height.number());
        self.blocks.insert(
            height.number(),
            StoredBlock {
                block: record.block,
                certificate: record.certificate,
            },
        );
        self.tip = Some(record.tip);
    }
}

struct SimulatedView {
    index: Arc<RwLock<Index>>,
    tip: Tip,
}

impl View for SimulatedView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let height = self.tip.height.number();
        let version = index
            .state
            .get(key)
            .and_then(|versions| versions.iter().rev().find(|(from, _)| *from <= height));
        Ok(version.and_then(|(_, value)| value.clone()))
    }
}

impl FinalView for SimulatedView {
    fn tip(&self) -> &Tip {
        &self.tip
    }

    fn entries(&self) -> Entries<'_> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let height = self.tip.height.number();
        let mut held = Vec::new();
        for (key, versions) in &index.state {
            let version = versions.iter().rev().find(|(from, _)| *from <= height);
            if let Some((_, Some(value))) = version {
                held.push(Ok((key.clone(), value.clone())));
            }
        }
        Box::new(held.into_iter())
    }
}

struct Record {
    tip: Tip,
    block: Vec<u8>,
    certificate: Option<Vec<u8>>,
    transactions: Vec<[u8; 32]>,
    writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Record {
    fn of(commit: &Commit<'_>) -> Self {
        Self {
            tip: commit.tip.clone(),
            block: commit.block.to_vec(),
            certificate: commit.certificate.map(<[u8]>::to_vec),
            transactions: commit
                .transactions
                .iter()
                .map(|id| *id.as_bytes())
                .collect(),
            writes: commit
                .changes
                .iter()
                .map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)))
                .collect(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.var(&self.tip.encode()).var(&self.block);
        option(&mut out, self.certificate.as_deref());
        out.u32(count(self.transactions.len()));
        for transaction in &self.transactions {
            out.bytes(transaction);
        }
        out.u32(count(self.writes.len()));
        for (key, value) in &self.writes {
            out.var(key);
            option(&mut out, value.as_deref());
        }
        out.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let limit = bytes.len();
        let damaged = |_| DecodeError::Invalid {
            what: "tip",
            why: "it cannot be decoded",
        };
        let mut input = Decoder::new(bytes);
        let tip = Tip::decode(input.var("tip", limit)?).map_err(damaged)?;
        let block = input.var("block", limit)?.to_vec();
        let certificate = read_option(&mut input, limit)?;
        let mut transactions = Vec::new();
        for _ in 0..input.count("transactions", limit)? {
            transactions.push(input.array("transaction")?);
        }
        let mut writes = Vec::new();
        for _ in 0..input.count("writes", limit)? {
            let key = input.var("key", limit)?.to_vec();
            writes.push((key, read_option(&mut input, limit)?));
        }
        input.finish("record")?;
        Ok(Self {
            tip,
            block,
            certificate,
            transactions,
            writes,
        })
    }
}

fn option(out: &mut Encoder, value: Option<&[u8]>) {
    match value {
        Some(value) => out.u8(1).var(value),
        None => out.u8(0),
    };
}

fn read_option(input: &mut Decoder<'_>, limit: usize) -> Result<Option<Vec<u8>>, DecodeError> {
    match input.u8("presence")? {
        0 => Ok(None),
        _ => Ok(Some(input.var("value", limit)?.to_vec())),
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("a block's contents are bounded far below 2^32")
}

/// A record with its length and the first eight bytes of its SHA-256 before it.
fn framed(record: &[u8]) -> Vec<u8> {
    let mut out = Encoder::new();
    out.u32(count(record.len()))
        .bytes(&sha256(record).as_bytes()[..CHECK_BYTES])
        .bytes(record);
    out.finish()
}

/// The record at the start of `journal` and the bytes it takes, `None` if there is no whole one.
fn next_record(journal: &[u8]) -> Option<(&[u8], usize)> {
    let mut input = Decoder::new(journal);
    let length = input.u32("length").ok()? as usize;
    let check = input.bytes("check", CHECK_BYTES).ok()?;
    let record = input.bytes("record", length).ok()?;
    (sha256(record).as_bytes()[..CHECK_BYTES] == *check)
        .then_some((record, 4 + CHECK_BYTES + length))
}

const CHECK_BYTES: usize = 8;
