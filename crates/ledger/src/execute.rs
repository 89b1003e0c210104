//! The state's transition (`spec/chain.md` sections 5 and 7): what a leader proposes, and what every
//! node runs before it votes. Both go through one [`Draft`], so a proposal and its validation cannot
//! differ in what they compute.

mod effects;

use std::collections::BTreeMap;

use scheme::{Digest, Encoder, Signature, SigningKey, Timestamp, ValidatorEpoch};
use thiserror::Error;

use crate::anchoring::AnchorWindow;
use crate::block::{Block, Header, LENGTH_BYTES, summarize};
use crate::identity::{Height, LeaderView, RecordNumber, StateRoot, TransactionId};
use crate::keys;
use crate::log::RecordLog;
use crate::policy::{LeaderRotation, NodeSet, RecordsSince};
use crate::proof::StateProof;
use crate::state::{self, AnchorState, Charter, Moment, ReadError, Tip, TransactionPosition};
use crate::transaction::{Anchor, CheckError, CheckedTransaction, Transaction, check_transaction};
use crate::view::{Changes, Overlay, View, ViewError};

pub(crate) use effects::MOTIONS_OPEN_MAX;
pub use effects::Refusal;
use effects::{Setting, Slot};

/// A block that a leader made, ready to be proposed.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The block.
    pub block: Block,
    /// What it changes, the same that [`execute`] gives.
    pub changes: Changes,
    /// The candidates that this state refuses. Those for which there was no room are neither here
    /// nor in the block.
    pub refused: Vec<(TransactionId, Refusal)>,
}

/// Why no block could be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// The node does not lead in this view. It waits for its turn.
    #[error("this node does not lead in view {0}; wait for its turn")]
    NotLeader(LeaderView),
    /// The time is not after the parent's. Propose max(clock, parent + 1 ms).
    #[error("the block's time is not after its parent's; propose a later one")]
    TimeNotAfterParent,
    /// The view of the state is not that of the parent block. Lay the right layers over it.
    #[error("the state is at height {found} and the parent at {expected}; read the parent's state")]
    WrongState {
        /// The parent's height.
        expected: Height,
        /// The state's.
        found: Height,
    },
    /// The state could not be read. The node stops.
    #[error("the state could not be read")]
    Read(#[from] ReadError),
}

/// Why a block was not executed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// The block is invalid: vote against it, keep it as evidence against its producer.
    #[error("the block is invalid")]
    Invalid(#[from] InvalidBlock),
    /// The view of the state is not that of the parent block. Lay the right layers over it.
    #[error("the state is at height {found} and the parent at {expected}; read the parent's state")]
    WrongState {
        /// The parent's height.
        expected: Height,
        /// The state's.
        found: Height,
    },
    /// The state could not be read, which says nothing about the block. The node stops.
    #[error("the state could not be read")]
    Read(#[from] ReadError),
}

impl From<ViewError> for ExecuteError {
    fn from(error: ViewError) -> Self {
        Self::Read(error.into())
    }
}

/// The rule that a block breaks, named as in `spec/chain.md` section 5.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidBlock {
    /// B1, without state: of another consortium.
    #[error("the block belongs to another consortium")]
    Consortium,
    /// B2, without state: height or previous hash do not continue the parent.
    #[error("the block does not continue its parent")]
    Parent,
    /// B3, without state: not later than its parent.
    #[error("the block's time is not after its parent's")]
    Time,
    /// B4, without state: size, number of transactions or Merkle root are not those of the body.
    #[error("the header's {0} is not that of the body")]
    Body(&'static str),
    /// B5, against state: larger than the settings allow.
    #[error("the block's {0} is above the chain's limit")]
    TooLarge(&'static str),
    /// B6, against state: of a validator epoch that its height does not belong to.
    #[error("the block is of validator epoch {found}, its height belongs to {expected}")]
    Epoch {
        /// The height's.
        expected: ValidatorEpoch,
        /// The header's.
        found: ValidatorEpoch,
    },
    /// B7, without state: the view is not after the parent's in the same validator epoch.
    #[error("the block's view is not after its parent's")]
    View,
    /// B8, against state: the producer is not the accounting node that leads in this view.
    #[error("the producer does not lead in the block's view")]
    NotLeader,
    /// B9, without state: the producer's signature does not stand.
    #[error("the producer's signature does not stand")]
    Signature,
    /// B10, levels 1 and 2: a transaction is wrong whatever the state.
    #[error("transaction {index} of the block is wrong")]
    Transaction {
        /// Its place in the body.
        index: u32,
        /// Why.
        source: CheckError,
    },
    /// B11, against state: the state refuses a transaction.
    #[error("transaction {index} of the block is refused")]
    Refused {
        /// Its place in the body.
        index: u32,
        /// Why.
        source: Refusal,
    },
    /// B12, against state: a due anchor is missing.
    #[error("the block lacks the anchor that is due")]
    AnchorMissing,
    /// B13, against state: an anchor is not due, not the one that is due, or not the last
    /// transaction.
    #[error("the block holds an anchor that is not due")]
    AnchorNotDue,
    /// B14, against state: the state root is not the one that comes out.
    #[error("the header's state root is not the one that the block leads to")]
    StateRoot,
}

/// Why a transaction was not admitted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// The state refuses it; tell the client why.
    #[error("the transaction is refused")]
    Refused(#[from] Refusal),
    /// The state could not be read, which says nothing about the transaction.
    #[error("the state could not be read")]
    Read(#[from] ReadError),
}

/// Makes the block that follows `parent`: the candidates in their order as far as the state takes
/// them and there is room, and the anchor if one is due. `view` is the state after `parent`;
/// `leader_view` the view in which the holder of `producer` leads.
///
/// Each candidate is checked against state only, since a [`CheckedTransaction`] passed the first two
/// levels.
///
/// # Errors
/// [`ProposeError`].
pub fn propose<'a>(
    view: &dyn View,
    parent: &Header,
    leader_view: LeaderView,
    time: Timestamp,
    candidates: impl IntoIterator<Item = &'a CheckedTransaction>,
    producer: &SigningKey,
) -> Result<Proposal, ProposeError> {
    let charter = state::charter(view)?;
    let found = state::tip(view)?.height;
    if found != parent.height {
        return Err(ProposeError::WrongState {
            expected: parent.height,
            found,
        });
    }
    if time <= parent.time {
        return Err(ProposeError::TimeNotAfterParent);
    }
    let height = parent.height.next();
    let epoch = charter.settings.epoch_of(height);
    let nodes = read_nodes(view, epoch)?;
    let leader = LeaderRotation::new(&nodes, charter.settings.leader_term);
    let leader = *leader.leader(leader_view);
    if leader.key != producer.verifying_key() {
        return Err(ProposeError::NotLeader(leader_view));
    }
    let setting = Setting {
        charter,
        nodes,
        moment: Moment { height, time },
        master: leader.institution,
    };
    let mut draft = Draft::new(view, setting)?;

    let anchor = draft.due_anchor().map(|anchor| {
        let transaction = Transaction::Anchor(anchor);
        let bytes = transaction.encode();
        (anchor, transaction, bytes)
    });
    let reserved = anchor.as_ref().map_or((0, 0), |(_, _, bytes)| {
        (1, bytes.len() as u64 + LENGTH_BYTES)
    });
    let room_count = u64::from(charter.settings.cut.count) - reserved.0;
    let room_bytes = u64::from(charter.settings.body_bytes_max) - reserved.1;

    let mut refused = Vec::new();
    let mut body = Vec::new();
    let mut encoded: Vec<Vec<u8>> = Vec::new();
    let mut size = 0;
    for candidate in candidates {
        if body.len() as u64 >= room_count {
            break;
        }
        let bytes = candidate.as_bytes();
        if size + bytes.len() as u64 + LENGTH_BYTES > room_bytes {
            continue;
        }
        match draft.apply(candidate.transaction(), candidate.id()) {
            Ok(()) => {
                size += bytes.len() as u64 + LENGTH_BYTES;
                body.push(candidate.transaction().clone());
                encoded.push(bytes.to_vec());
            }
            Err(AdmitError::Refused(refusal)) => refused.push((candidate.id(), refusal)),
            Err(AdmitError::Read(error)) => return Err(error.into()),
        }
    }
    if let Some((anchor, transaction, bytes)) = anchor {
        draft.apply_anchor(anchor);
        body.push(transaction);
        encoded.push(bytes);
    }

    let summary = summarize(&charter.consortium, encoded.iter().map(Vec::as_slice));
    let (state_root, changes) = draft.finish(summary.merkle_root)?;
    let mut header = Header {
        consortium: charter.consortium,
        height,
        epoch,
        view: leader_view,
        previous: parent.id(),
        time,
        size: u32::try_from(summary.size).expect("the body is within the settings' limit"),
        count: u32::try_from(summary.count).expect("the body is within the settings' limit"),
        merkle_root: summary.merkle_root,
        state_root,
        producer: producer.verifying_key(),
        signature: Signature::new([0; 64]),
    };
    header.sign(producer);
    Ok(Proposal {
        block: Block::new(header, body),
        changes,
        refused,
    })
}

/// The full validation that every node runs before it votes, and the changes that follow. `view` is
/// the state after `parent`.
///
/// # Errors
/// [`ExecuteError::Invalid`] with the rule that is broken; [`ExecuteError::Read`] if the state could
/// not be read, which says nothing about the block.
pub fn execute(view: &dyn View, parent: &Header, block: &Block) -> Result<Changes, ExecuteError> {
    let header = block.header();
    let charter = state::charter(view)?;
    let found = state::tip(view)?.height;
    if found != parent.height {
        return Err(ExecuteError::WrongState {
            expected: parent.height,
            found,
        });
    }
    check_header(header, parent, &charter)?;
    let nodes = read_nodes(view, header.epoch)?;
    let rotation = LeaderRotation::new(&nodes, charter.settings.leader_term);
    let leader = *rotation.leader(header.view);
    if leader.key != header.producer {
        return Err(InvalidBlock::NotLeader.into());
    }
    header.verify().map_err(|_| InvalidBlock::Signature)?;
    check_body(block, &charter)?;

    let moment = Moment {
        height: header.height,
        time: header.time,
    };
    let mut draft = Draft::new(
        view,
        Setting {
            charter,
            nodes,
            moment,
            master: leader.institution,
        },
    )?;
    let mut anchor = draft.due_anchor();
    let last = block.transactions().len().saturating_sub(1);
    for (place, transaction) in block.transactions().iter().enumerate() {
        if let Transaction::Anchor(found) = transaction {
            if place != last || anchor != Some(*found) {
                return Err(InvalidBlock::AnchorNotDue.into());
            }
            draft.apply_anchor(*found);
            anchor = None;
            continue;
        }
        let index = draft.index;
        check_transaction(transaction, &charter.consortium)
            .map_err(|source| InvalidBlock::Transaction { index, source })?;
        draft
            .apply(transaction, transaction.id(&charter.consortium))
            .map_err(|error| match error {
                AdmitError::Refused(source) => InvalidBlock::Refused { index, source }.into(),
                AdmitError::Read(error) => ExecuteError::Read(error),
            })?;
    }
    if anchor.is_some() {
        return Err(InvalidBlock::AnchorMissing.into());
    }
    let (state_root, changes) = draft.finish(header.merkle_root)?;
    if state_root != header.state_root {
        return Err(InvalidBlock::StateRoot.into());
    }
    Ok(changes)
}

/// Level 3 for one transaction: whether the state would take it in the next block at `time`. A pool
/// asks before it keeps a transaction, and tells the client why not. Levels 1 and 2 were passed by
/// making the [`CheckedTransaction`].
///
/// # Errors
/// [`AdmitError::Refused`] with the reason.
pub fn admit(
    view: &dyn View,
    transaction: &CheckedTransaction,
    time: Timestamp,
) -> Result<(), AdmitError> {
    let charter = state::charter(view)?;
    let height = state::tip(view)?.height.next();
    let nodes = read_nodes(view, charter.settings.epoch_of(height))?;
    let master = nodes.nodes()[0].institution;
    let setting = Setting {
        charter,
        nodes,
        moment: Moment { height, time },
        master,
    };
    // Where it would stand changes nothing of whether it is taken.
    let position = TransactionPosition { height, index: 0 };
    let slot = Slot {
        position,
        record: RecordNumber::new(0),
    };
    effects::of(
        view,
        &setting,
        transaction.transaction(),
        transaction.id(),
        slot,
    )
    .map(drop)
}

/// Level 2, and of level 3 what the settings say: how the header continues its parent.
fn check_header(header: &Header, parent: &Header, charter: &Charter) -> Result<(), InvalidBlock> {
    if header.consortium != charter.consortium {
        return Err(InvalidBlock::Consortium);
    }
    if header.height != parent.height.next() || header.previous != parent.id() {
        return Err(InvalidBlock::Parent);
    }
    if header.time <= parent.time {
        return Err(InvalidBlock::Time);
    }
    let expected = charter.settings.epoch_of(header.height);
    if header.epoch != expected {
        return Err(InvalidBlock::Epoch {
            expected,
            found: header.epoch,
        });
    }
    if header.epoch == parent.epoch && header.view <= parent.view {
        return Err(InvalidBlock::View);
    }
    Ok(())
}

/// That header and body belong together and keep the settings' limits.
fn check_body(block: &Block, charter: &Charter) -> Result<(), InvalidBlock> {
    let header = block.header();
    let limits = charter.settings.limits();
    if header.size > limits.body_bytes {
        return Err(InvalidBlock::TooLarge("size"));
    }
    if header.count > limits.transactions {
        return Err(InvalidBlock::TooLarge("number of transactions"));
    }
    let encoded: Vec<Vec<u8>> = block
        .transactions()
        .iter()
        .map(Transaction::encode)
        .collect();
    let summary = summarize(&charter.consortium, encoded.iter().map(Vec::as_slice));
    if summary.size != u64::from(header.size) {
        return Err(InvalidBlock::Body("size"));
    }
    if summary.count != u64::from(header.count) {
        return Err(InvalidBlock::Body("number of transactions"));
    }
    if summary.merkle_root != header.merkle_root {
        return Err(InvalidBlock::Body("Merkle root"));
    }
    Ok(())
}

/// The nodes of a validator epoch whose rules this program knows.
fn read_nodes(view: &dyn View, epoch: ValidatorEpoch) -> Result<NodeSet, ReadError> {
    state::check_rules(view, epoch)?;
    state::node_set(view, epoch)?.ok_or(ReadError::Missing { what: "node set" })
}

/// The state while a block is made or checked: the parent's, with what the block's transactions so
/// far have changed.
struct Draft<'a> {
    view: &'a dyn View,
    setting: Setting,
    /// The place of the next transaction.
    index: u32,
    accountable: BTreeMap<Vec<u8>, Vec<u8>>,
    plain: Changes,
    log: RecordLog,
    window: AnchorWindow,
    records: RecordsSince,
}

impl<'a> Draft<'a> {
    fn new(view: &'a dyn View, setting: Setting) -> Result<Self, ReadError> {
        let bytes = view
            .get(&keys::anchor_window())?
            .ok_or(ReadError::Missing {
                what: "blocks without an anchor",
            })?;
        Ok(Self {
            view,
            index: 0,
            accountable: BTreeMap::new(),
            plain: Changes::new(),
            log: RecordLog::read(view, &setting.charter.consortium)?,
            window: AnchorWindow::decode(&bytes)?,
            records: RecordsSince::None,
            setting,
        })
    }

    fn due_anchor(&self) -> Option<Anchor> {
        let Charter {
            consortium,
            settings,
            ..
        } = &self.setting.charter;
        self.window.due(
            consortium,
            settings.anchor_interval,
            self.setting.moment.time,
        )
    }

    /// Takes a transaction whole or not at all.
    fn apply(&mut self, transaction: &Transaction, id: TransactionId) -> Result<(), AdmitError> {
        let height = self.setting.moment.height;
        let position = TransactionPosition {
            height,
            index: self.index,
        };
        let slot = Slot {
            position,
            record: self.log.next(),
        };
        let effects = effects::of(self, &self.setting, transaction, id, slot)?;
        self.accountable.extend(effects.accountable);
        for (key, value) in effects.plain {
            self.plain.put(key, value);
        }
        if let Transaction::Record(_) = transaction {
            self.log.append(height, id, &mut self.plain);
            self.records = RecordsSince::Some;
        }
        self.index += 1;
        Ok(())
    }

    fn apply_anchor(&mut self, anchor: Anchor) {
        let Moment { height, time } = self.setting.moment;
        let state = AnchorState {
            anchor,
            recorded: self.setting.moment,
        };
        self.accountable.insert(keys::last_anchor(), state.encode());
        self.window.anchored(height, time);
        let id = Transaction::Anchor(anchor).id(&self.setting.charter.consortium);
        let position = TransactionPosition {
            height,
            index: self.index,
        };
        self.plain.put(keys::transaction(id), position.encode());
        self.index += 1;
    }

    /// Everything that a block changes besides its transactions, and the root.
    fn finish(mut self, merkle_root: Digest) -> Result<(StateRoot, Changes), ReadError> {
        let Charter {
            consortium,
            settings,
            ..
        } = self.setting.charter;
        let Moment { height, time } = self.setting.moment;
        self.window.push(&consortium, merkle_root, self.records);
        let mut changed = None;
        if settings.ends_epoch(height) {
            let nodes = effects::next_nodes(&self, &self.setting.nodes)?;
            let next = nodes.epoch();
            let mut out = Encoder::new();
            nodes.encode(&mut out);
            self.accountable.insert(keys::node_set(next), out.finish());
            changed = (nodes.nodes() != self.setting.nodes.nodes()).then_some(next);
        }
        let Self {
            view,
            accountable,
            plain: mut changes,
            log,
            window,
            ..
        } = self;
        changes.put(keys::anchor_window(), window.encode());
        changes.put(keys::tip(), Tip { height, time }.encode());
        let root = state::seal(view, &consortium, &accountable, Some(&log), &mut changes)?;
        if let Some(epoch) = changed {
            keep_proof(view, epoch, &mut changes)?;
        }
        Ok((root, changes))
    }
}

/// Keeps the proof of the next node set while the state is there that decided on it: by it, who trusts
/// the nodes before learns of these.
fn keep_proof(
    view: &dyn View,
    epoch: ValidatorEpoch,
    changes: &mut Changes,
) -> Result<(), ReadError> {
    let mut epochs = state::changed_node_sets(view)?;
    epochs.push(epoch);
    let proof = {
        let mut after = Overlay::new(view);
        after.push(changes);
        StateProof::new::<NodeSet>(&after, &epoch)?
    };
    changes.put(keys::node_set_proof(epoch), proof.encode());
    let mut list = Encoder::new();
    for epoch in epochs {
        list.u64(epoch.number());
    }
    changes.put(keys::changed_node_sets(), list.finish());
    Ok(())
}

impl View for Draft<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        if let Some(value) = self.accountable.get(key) {
            return Ok(Some(value.clone()));
        }
        match self.plain.read(key) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => self.view.get(key),
        }
    }
}
