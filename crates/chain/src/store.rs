//! What a node keeps: final blocks with their certificates, where each transaction stands, and the
//! state after the last final block.
//!
//! A store is written by one task, block after block, and read by many. Rules that every
//! implementation keeps and `tests/store_conformance.rs` checks:
//! 1. A commit is whole: block, certificate, positions of its transactions, changes and tip become
//!    visible and durable together, or none of them does.
//! 2. What [`Store::commit`] returned `Ok` for survives any crash.
//! 3. Heights come one after the other; what stands at a height is never written again, nor is the
//!    position of a transaction.
//! 4. A [`FinalView`] does not change while it is read, whatever is committed meanwhile.
//! 5. A store that failed once answers no write until it is opened anew.

use std::{collections::BTreeMap, sync::Arc};

use ledger::{BlockId, Changes, Height, StateRoot, TransactionId, View};
use scheme::{DecodeError, Decoder, Encoder, Timestamp, VerifyingKey};
use thiserror::Error;

/// Why a store did not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The device or the library failed. The node stops; it is started again once the device works.
    #[error("the store could not be {doing}")]
    Io {
        /// What was being done: "opened", "read" or "written".
        doing: &'static str,
        /// The library's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An earlier write failed, so nothing more is written before the store is opened anew.
    #[error("an earlier write to the store failed; it has to be opened anew")]
    Poisoned,
    /// The block is not the next one. The caller applied blocks out of order: a defect.
    #[error("block {offered} does not follow block {tip:?} in the store")]
    NotNext {
        /// The height of the block offered.
        offered: Height,
        /// The last height stored, `None` in an empty store.
        tip: Option<Height>,
    },
    /// A transaction of the block stands in an earlier block already: a defect of the caller.
    #[error("transaction {0:?} has a place on the chain already")]
    Rewritten(TransactionId),
    /// What was read back is not what is ever written. The store is damaged; the node is set up
    /// again as a new member with an empty store.
    #[error("the store is damaged: {0} cannot be decoded")]
    Damaged(&'static str),
}

impl StoreError {
    /// A failure of the library or device while `doing`.
    pub(crate) fn io(
        doing: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Io {
            doing,
            source: source.into(),
        }
    }
}

/// The last final block in a store and what is counted up to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    /// The block's height.
    pub height: Height,
    /// The block.
    pub block: BlockId,
    /// The root of the state after it.
    pub state_root: StateRoot,
    /// The block's time.
    pub time: Timestamp,
    /// How many final blocks each node led so far, by its key's 32 bytes. The founding block has no
    /// leader.
    pub led: BTreeMap<[u8; 32], u64>,
}

impl Tip {
    /// The tip after one more block, led by `leader`.
    pub fn next(
        &self,
        height: Height,
        block: BlockId,
        state_root: StateRoot,
        time: Timestamp,
        leader: &VerifyingKey,
    ) -> Self {
        let mut led = self.led.clone();
        *led.entry(*leader.as_bytes()).or_default() += 1;
        Self {
            height,
            block,
            state_root,
            time,
            led,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u64(self.height.number())
            .bytes(self.block.as_bytes())
            .bytes(self.state_root.as_bytes())
            .u64(self.time.number())
            .u32(u32::try_from(self.led.len()).expect("a consortium has far fewer nodes"));
        for (node, blocks) in &self.led {
            out.bytes(node).u64(*blocks);
        }
        out.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let read = || {
            let mut input = Decoder::new(bytes);
            let height = Height::new(input.u64("height")?);
            let block = BlockId::new(input.array("block id")?);
            let state_root = StateRoot::new(input.array("state root")?);
            let time = Timestamp::new(input.u64("time")?);
            let mut led = BTreeMap::new();
            for _ in 0..input.count("leaders", MAX_LEADERS)? {
                let node = input.array("node")?;
                led.insert(node, input.u64("blocks led")?);
            }
            input.finish("tip")?;
            Ok::<_, DecodeError>(Self {
                height,
                block,
                state_root,
                time,
                led,
            })
        };
        read().map_err(|_| StoreError::Damaged("the tip"))
    }
}

/// Everything that a final block brings into a store, written as one.
#[derive(Debug, Clone, Copy)]
pub struct Commit<'a> {
    /// The tip once the block is in.
    pub tip: &'a Tip,
    /// The block's bytes.
    pub block: &'a [u8],
    /// The engine's certificate that the block is final. A block that became final only through a
    /// later one has none of its own.
    pub certificate: Option<&'a [u8]>,
    /// Its transactions in their order.
    pub transactions: &'a [TransactionId],
    /// What it changes in the state.
    pub changes: &'a Changes,
}

/// A final block as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlock {
    /// The block's bytes.
    pub block: Vec<u8>,
    /// The engine's certificate for it, if it has one of its own.
    pub certificate: Option<Vec<u8>>,
}

/// Where a transaction stands on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The block's height.
    pub height: Height,
    /// The transaction's place in the block, from 0.
    pub index: u32,
}

/// The state after one final block. It does not change while it is held.
pub trait FinalView: View + Send + Sync {
    /// The block after which this is the state.
    fn tip(&self) -> &Tip;

    /// All of the state, its keys ascending.
    fn entries(&self) -> Entries<'_>;
}

/// A key of the state with its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Entries of a state as they are read.
pub type Entries<'a> = Box<dyn Iterator<Item = Result<Entry, StoreError>> + 'a>;

/// Durable storage of a node's chain and state; the rules are in the module's documentation.
pub trait Store: Send + Sync + 'static {
    /// The last block stored; `None` before the founding block.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    fn tip(&self) -> Result<Option<Tip>, StoreError>;

    /// The state after the last block stored; `None` before the founding block.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    fn view(&self) -> Result<Option<Arc<dyn FinalView>>, StoreError>;

    /// Writes a block and all that belongs to it. Durable once this returns `Ok`. It waits for the
    /// device, so it is called where waiting holds nobody up.
    ///
    /// # Errors
    /// [`StoreError::NotNext`] and [`StoreError::Rewritten`] without having written anything;
    /// [`StoreError::Io`] after which the store is poisoned; [`StoreError::Poisoned`].
    fn commit(&self, commit: Commit<'_>) -> Result<(), StoreError>;

    /// The block at a height.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    fn block(&self, height: Height) -> Result<Option<StoredBlock>, StoreError>;

    /// The height of a block.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    fn height_of(&self, block: &BlockId) -> Result<Option<Height>, StoreError>;

    /// Where a transaction stands.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    fn position(&self, transaction: &TransactionId) -> Result<Option<Position>, StoreError>;

    /// From which height on it has every block. Above 0 in a store that began with a snapshot, until the
    /// blocks before it are filled in; the founding block is there in any case.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    fn begins_at(&self) -> Result<Height, StoreError> {
        Ok(Height::new(0))
    }

    /// Writes the block before [`Self::begins_at`], once the caller has seen that it is the one which
    /// that names, and its transactions. It need not be durable once this returns: what a crash takes is
    /// filled in again.
    ///
    /// # Errors
    /// [`StoreError::NotNext`] without having written anything; [`StoreError::Io`].
    fn fill(
        &self,
        height: Height,
        block: &BlockId,
        stored: &StoredBlock,
        transactions: &[TransactionId],
    ) -> Result<(), StoreError> {
        let _ = (block, stored, transactions);
        let (offered, tip) = (height, None);
        Err(StoreError::NotNext { offered, tip })
    }
}

/// Checks rule 3 for the height; both implementations call it first.
pub(crate) fn check_next(tip: Option<&Tip>, offered: Height) -> Result<(), StoreError> {
    let expected = tip.map_or(0, |tip| tip.height.number() + 1);
    if offered.number() == expected {
        return Ok(());
    }
    Err(StoreError::NotNext {
        offered,
        tip: tip.map(|tip| tip.height),
    })
}

impl Position {
    pub(crate) fn encode(self) -> Vec<u8> {
        Encoder::new()
            .u64(self.height.number())
            .u32(self.index)
            .finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let read = || {
            let mut input = Decoder::new(bytes);
            let height = Height::new(input.u64("height")?);
            let index = input.u32("index")?;
            input.finish("position")?;
            Ok::<_, DecodeError>(Self { height, index })
        };
        read().map_err(|_| StoreError::Damaged("a transaction's position"))
    }
}

/// More nodes than a consortium ever has: an entry is 40 bytes, so a tip stays below 3 MB.
const MAX_LEADERS: usize = 65_536;
