//! A running node as its own services see it, and what the parts of a node share.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::{Either, select};
use ledger::{
    AdmitError, Block, BlockId, Changes, CheckError, CheckedTransaction, CutRule, EncodedBlock,
    FinalityProof, Header, Height, LeaderRotation, LeaderTerm, LeaderView, Limits, NodeSet,
    NodeSetProof, Receipt, Refusal, Settings, Tier, Transaction, TransactionId, admit,
};
use scheme::{ConsortiumId, InstitutionId, SigningKey, Timestamp, ValidatorEpoch, VerifyingKey};
use thiserror::Error;
use tokio::sync::{Notify, broadcast, watch};

use crate::{
    config::{NodeConfig, Timers},
    engine::{EngineCertificates, NotStarted},
    evidence::{BadEvidence, Evidence},
    pool::{Admission, Busy, Pool, PoolLimits, PoolUsage, Request, Source, Submitter},
    receipts::{ReceiptSigner, Told, Waiters},
    store::{FinalView, Store, StoreError, StoredBlock, Tip},
};

/// A node that runs. Clones are the same node; when the last is gone the node goes on.
#[derive(Clone)]
pub struct NodeHandle {
    shared: Arc<Shared>,
}

/// A request was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// The node keeps it and forwards it until it is final or expires.
    Kept(TransactionId),
    /// It stands on the chain already; a receipt can be had at once.
    AlreadyFinal(TransactionId),
}

impl Submitted {
    /// The transaction's id.
    pub fn id(self) -> TransactionId {
        match self {
            Self::Kept(id) | Self::AlreadyFinal(id) => id,
        }
    }
}

/// A request was not taken. Nothing was kept of it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NotSubmitted {
    /// A limit is reached. Hand the same bytes in again after a second.
    #[error("the node is busy ({0:?}); hand the same transaction in again after a second")]
    Busy(Busy),
    /// The bytes are no transaction, or a signature or a rule that needs no state does not hold.
    #[error("the transaction is not valid; build it anew")]
    Invalid(#[source] CheckError),
    /// The state of the chain speaks against it.
    #[error("the chain refuses the transaction: {0}")]
    Refused(Refusal),
    /// The node stopped taking part, so nothing that it kept would ever be sent on.
    #[error("the node stopped taking part ({0}); hand the transaction to another node")]
    Stopped(String),
    /// The node's store failed, so it takes nothing more.
    #[error("the node cannot read its store; ask another node")]
    Store(#[source] StoreError),
    /// The node's state cannot be read, so it takes nothing more.
    #[error("the node cannot read its state; ask another node")]
    State(#[source] AdmitError),
}

/// No receipt came.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoReceipt {
    /// The time is up. The transaction may still become final; sending it again is safe.
    #[error("the transaction was not final in time; it is safe to send it again")]
    TimedOut,
    /// The chain refuses the transaction.
    #[error("the chain refuses the transaction: {0}")]
    Refused(String),
    /// Too many wait at this node.
    #[error("too many callers wait at this node; ask again after a second")]
    Busy,
    /// The node's store failed.
    #[error("the node cannot read its store; ask another node")]
    Store,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The node's key.
    pub node: VerifyingKey,
    /// The validator epoch it works in.
    pub epoch: ValidatorEpoch,
    /// The last final block and the state after it.
    pub tip: Tip,
    /// Final blocks led, by hospital in the fixed order.
    pub led: Vec<Led>,
    /// How full the request pool is.
    pub pool: PoolUsage,
    /// Blocks that had to wait because their time was ahead of this node's clock. A number that
    /// grows says that a clock is wrong, which uses up one of the f faults.
    pub waits_for_clock: u64,
    /// Validations given up because the view ended first.
    pub abandoned_validations: u64,
    /// Pieces of evidence held.
    pub evidence: usize,
    /// Why the node stopped taking part, if it did.
    pub failure: Option<String>,
}

/// Why a node stopped taking part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFailure {
    /// What happened.
    pub why: String,
    /// Whether the engine could not use its own files, which another start does not mend.
    pub engine_files: bool,
}

impl From<NotStarted> for NodeFailure {
    fn from(error: NotStarted) -> Self {
        Self {
            engine_files: matches!(error, NotStarted::Engine(_)),
            why: error.to_string(),
        }
    }
}

impl From<StoreError> for NodeFailure {
    fn from(error: StoreError) -> Self {
        error.to_string().into()
    }
}

impl From<String> for NodeFailure {
    fn from(why: String) -> Self {
        let engine_files = false;
        Self { why, engine_files }
    }
}

/// How many final blocks a hospital's node led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Led {
    /// The hospital.
    pub institution: InstitutionId,
    /// Its tier.
    pub tier: Tier,
    /// Final blocks that its node led.
    pub blocks: u64,
}

/// Whether a hospital's node is in touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InTouch {
    /// The hospital.
    pub institution: InstitutionId,
    /// Whether its node was heard of lately.
    pub heard: bool,
}

/// A final block with what proves it final.
#[derive(Debug, Clone)]
pub struct FinalBlock {
    /// The block.
    pub block: Arc<Block>,
    /// The engine's certificate, which [`EngineCertificates`] checks. A block
    /// that became final only with a later one has none; the next higher block with a certificate
    /// then proves it.
    pub certificate: Option<Arc<[u8]>>,
}

/// A state with what proves that the block is final after which it is.
pub struct ProvedView {
    /// Of that block.
    pub finality: FinalityProof,
    /// The state.
    pub view: Arc<dyn FinalView>,
}

/// Why a block was not filled in.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NotFilled {
    /// It is not the one that the block after it names. Who gave it is faulty.
    #[error("the block is not the one that the block after it names; take it from another node")]
    Another,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a view ended, as far as this node saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewOutcome {
    /// With a certificate that its block is final.
    Final(BlockId),
    /// With a certificate that it is skipped.
    Skipped,
}

impl NodeHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Hands in a transaction. The node keeps it, carries it to the accounting nodes and sends it
    /// again until it is final or expires. Handing in the same bytes again is safe at any time.
    ///
    /// # Errors
    /// [`NotSubmitted`] with what to do.
    pub fn submit(&self, submitter: Submitter, bytes: &[u8]) -> Result<Submitted, NotSubmitted> {
        let shared = &self.shared;
        if let Some(failure) = lock(&shared.failure).clone() {
            return Err(NotSubmitted::Stopped(failure.why));
        }
        let request = CheckedTransaction::decode(bytes, &shared.consortium);
        let request = request.map_err(NotSubmitted::Invalid)?;
        let id = request.id();
        if shared
            .store
            .position(&id)
            .map_err(NotSubmitted::Store)?
            .is_some()
        {
            return Ok(Submitted::AlreadyFinal(id));
        }
        // What is held was admitted, and may stand in a block that is agreed on and not final yet, so
        // this node's clock has no say in it any more.
        let held = lock(&shared.pool).contains(&id);
        if !held {
            match shared.judge(shared.view().as_ref(), &request) {
                Ok(()) => {}
                // It became final since the store was asked.
                Err(AdmitError::Refused(Refusal::Final(_))) => {
                    return Ok(Submitted::AlreadyFinal(id));
                }
                Err(AdmitError::Refused(refusal)) => return Err(NotSubmitted::Refused(refusal)),
                Err(unreadable) => return Err(NotSubmitted::State(unreadable)),
            }
        }
        match shared.keep(Source::Submitter(submitter), request) {
            Admission::Held | Admission::AlreadyHeld => Ok(Submitted::Kept(id)),
            Admission::Busy(busy) => Err(NotSubmitted::Busy(busy)),
        }
    }

    /// This node's receipt for a transaction, `None` if it is not final here.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn receipt(&self, transaction: &TransactionId) -> Result<Option<Receipt>, StoreError> {
        self.shared.receipt(transaction)
    }

    /// Waits until a transaction is final here, no longer than `bound`, and returns the receipt.
    ///
    /// # Errors
    /// [`NoReceipt`] with what to do.
    pub async fn wait_for_receipt(
        &self,
        transaction: &TransactionId,
        bound: Duration,
    ) -> Result<Receipt, NoReceipt> {
        // Waiting begins before looking, so that a block that becomes final in between is not missed.
        let waiting = lock(&self.shared.waiters)
            .wait(*transaction)
            .ok_or(NoReceipt::Busy)?;
        if let Some(receipt) = self.receipt(transaction).map_err(|_| NoReceipt::Store)? {
            return Ok(receipt);
        }
        match select(waiting, self.shared.clock.sleep(bound)).await {
            Either::Left((Ok(Told::Final(receipt)), _)) => Ok(receipt),
            Either::Left((Ok(Told::Refused(why)), _)) => Err(NoReceipt::Refused(why)),
            Either::Left((Err(_), _)) | Either::Right(_) => Err(NoReceipt::TimedOut),
        }
    }

    /// What the node says of itself.
    pub fn status(&self) -> Status {
        let shared = &self.shared;
        let tip = shared.view().tip().clone();
        let seats = shared.seats();
        let led = seats
            .nodes
            .nodes()
            .iter()
            .map(|node| Led {
                institution: node.institution,
                tier: node.tier,
                blocks: tip
                    .led
                    .get(node.key.as_bytes())
                    .copied()
                    .unwrap_or_default(),
            })
            .collect();
        Status {
            node: shared.key.verifying_key(),
            epoch: seats.nodes.epoch(),
            tip,
            led,
            pool: lock(&shared.pool).usage(),
            waits_for_clock: shared.waits_for_clock.load(Ordering::Relaxed),
            abandoned_validations: shared.abandoned_validations.load(Ordering::Relaxed),
            evidence: lock(&shared.evidence).len(),
            failure: lock(&shared.failure).clone().map(|failure| failure.why),
        }
    }

    /// The state after the last final block. It does not change while it is held.
    pub fn view(&self) -> Arc<dyn FinalView> {
        self.shared.view()
    }

    /// The state after the block at `height`, if that is among the last
    /// [`NodeConfig::views`] blocks since this node started.
    pub fn view_at(&self, height: Height) -> Option<Arc<dyn FinalView>> {
        lock(&self.shared.views)
            .iter()
            .rev()
            .find(|view| view.tip().height == height)
            .cloned()
    }

    /// The final block at `height`.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn block(&self, height: Height) -> Result<Option<FinalBlock>, StoreError> {
        let Some(stored) = self.shared.store.block(height)? else {
            return Ok(None);
        };
        let block = Block::decode(&stored.block, &self.shared.limits)
            .map_err(|_| StoreError::Damaged("a block"))?;
        Ok(Some(FinalBlock {
            block: Arc::new(block),
            certificate: stored.certificate.map(Into::into),
        }))
    }

    /// The final block at `height` as it is stored, for who reads its header or one transaction.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn encoded_block(&self, height: Height) -> Result<Option<EncodedBlock>, StoreError> {
        let stored = self.shared.store.block(height)?;
        Ok(stored.map(|stored| EncodedBlock::new(stored.block)))
    }

    /// A final block's bytes with its certificate, if it has one of its own.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn stored_block(&self, height: Height) -> Result<Option<StoredBlock>, StoreError> {
        self.shared.store.block(height)
    }

    /// From which height on this node has every block: above 0 while those before a snapshot are missing.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn begins_at(&self) -> Result<Height, StoreError> {
        self.shared.store.begins_at()
    }

    /// The header of the lowest block from which on this node has every block.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn first_header(&self) -> Result<Header, StoreError> {
        let read = self.header(self.shared.store.begins_at()?)?;
        Ok(read
            .ok_or(StoreError::Damaged("the chain of blocks"))?
            .header)
    }

    /// Takes the block before [`Self::begins_at`] that another node gave: the one that the first block
    /// here names.
    ///
    /// # Errors
    /// [`NotFilled`], without having written anything.
    pub fn fill(&self, stored: &StoredBlock) -> Result<Height, NotFilled> {
        let first = self.first_header()?;
        let block =
            Block::decode(&stored.block, &self.shared.limits).map_err(|_| NotFilled::Another)?;
        if block.id() != first.previous || !block.holds_its_body() {
            return Err(NotFilled::Another);
        }
        let transactions: Vec<TransactionId> = block.identified().map(|(id, _)| id).collect();
        let height = block.height();
        let store = &self.shared.store;
        store.fill(height, &block.id(), stored, &transactions)?;
        Ok(height)
    }

    /// What proves the block at `height` final, `None` if no certificate at or a little above it is
    /// here yet: the last block may have to wait for the next.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn finality(&self, height: Height) -> Result<Option<FinalityProof>, StoreError> {
        let mut headers = Vec::new();
        let mut at = height;
        while headers.len() < UNCERTIFIED_MAX {
            let Some(read) = self.header(at)? else {
                return Ok(None);
            };
            if !same_epoch(&headers, &read.header) {
                return Ok(None);
            }
            headers.push(read.header);
            if let Some(certificate) = read.certificate {
                return Ok(FinalityProof::of_run(headers, certificate));
            }
            at = at.next();
        }
        Ok(None)
    }

    /// What proves the blocks from `from` on final: as many, up to [`FinalityProof::HEADERS_MAX`], as
    /// one certificate of this node proves without reading more than some 8 MiB of blocks. `None` as of
    /// [`Self::finality`].
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn finality_from(&self, from: Height) -> Result<Option<FinalityProof>, StoreError> {
        self.finality_within(from, FINALITY_BYTES)
    }

    fn finality_within(
        &self,
        from: Height,
        bytes_max: usize,
    ) -> Result<Option<FinalityProof>, StoreError> {
        let mut headers = Vec::new();
        let mut last = None;
        let mut at = from;
        let mut bytes = 0;
        // Beyond the bound only until there is a certificate at all.
        while headers.len() < FinalityProof::HEADERS_MAX
            && (bytes < bytes_max || last.is_none())
            && let Some(read) = self.header(at)?
            && same_epoch(&headers, &read.header)
        {
            bytes += read.bytes;
            headers.push(read.header);
            if let Some(certificate) = read.certificate {
                last = Some((headers.len(), certificate));
            }
            at = at.next();
        }
        Ok(last.and_then(|(count, certificate)| {
            headers.truncate(count);
            FinalityProof::of_run(headers, certificate)
        }))
    }

    /// The newest state of which this node can prove the block final, with that proof: mostly that of the
    /// last block, or of one a little before whose certificate is here.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn proved_view(&self) -> Result<Option<ProvedView>, StoreError> {
        let recent: Vec<_> = {
            let views = lock(&self.shared.views);
            views.iter().rev().take(UNCERTIFIED_MAX).cloned().collect()
        };
        for view in recent {
            if let Some(finality) = self.finality(view.tip().height)? {
                return Ok(Some(ProvedView { finality, view }));
            }
        }
        Ok(None)
    }

    /// What leads who trusts the nodes of validator epoch `after` to those of later ones: a proof for each
    /// epoch whose nodes are not those before, lowest first, at most `most`.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn node_set_proofs(
        &self,
        after: ValidatorEpoch,
        most: usize,
    ) -> Result<Vec<NodeSetProof>, StoreError> {
        let unreadable = |error| StoreError::io("read", error);
        let view = self.view();
        let view = view.as_ref();
        let mut proofs = Vec::new();
        let changed = ledger::changed_node_sets(view).map_err(unreadable)?;
        for epoch in changed
            .into_iter()
            .filter(|epoch| *epoch > after)
            .take(most)
        {
            let Some(finality) = self.finality(self.shared.before(epoch))? else {
                // Its certificate is on its way; what comes later cannot be followed without it.
                break;
            };
            proofs.extend(NodeSetProof::new(view, epoch, finality).map_err(unreadable)?);
        }
        Ok(proofs)
    }

    fn header(&self, height: Height) -> Result<Option<ReadHeader>, StoreError> {
        let Some(stored) = self.shared.store.block(height)? else {
            return Ok(None);
        };
        let bytes = stored.block.len();
        let header = EncodedBlock::new(stored.block)
            .header()
            .map_err(|_| StoreError::Damaged("a block"))?;
        Ok(Some(ReadHeader {
            header,
            certificate: stored.certificate,
            bytes,
        }))
    }

    /// The height of a final block.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn height_of(&self, block: &BlockId) -> Result<Option<Height>, StoreError> {
        self.shared.store.height_of(block)
    }

    /// Final blocks from now on, in order. A subscriber that falls
    /// [`NodeConfig::subscription`] blocks behind is told how many it lost, and reads them by height.
    pub fn final_blocks(&self) -> FinalBlocks {
        FinalBlocks {
            receiver: self.shared.finals.subscribe(),
        }
    }

    /// Evidence of misbehaviour, oldest first, the last [`NodeConfig::evidence`] pieces.
    pub fn evidence(&self) -> Vec<Evidence> {
        lock(&self.shared.evidence).iter().cloned().collect()
    }

    /// How many pieces of evidence this node has found since it started, once they are more than
    /// `known`: whoever keeps them durably begins with 0, and reads [`Self::evidence`] each time.
    pub async fn evidence_beyond(&self, known: u64) -> u64 {
        let mut found = self.shared.evidence_found.subscribe();
        // The node that is asked holds the other end.
        match found.wait_for(|found| *found > known).await {
            Ok(found) => *found,
            Err(_) => known,
        }
    }

    /// Whether a piece of evidence from elsewhere, a file or another node, stands against a node of
    /// its validator epoch.
    ///
    /// # Errors
    /// [`BadEvidence`] if it proves nothing.
    pub fn verify_evidence(&self, evidence: &Evidence) -> Result<(), BadEvidence> {
        let shared = &self.shared;
        let nodes = ledger::node_set(shared.view().as_ref(), evidence.epoch);
        let nodes = nodes.ok().flatten().ok_or(BadEvidence)?;
        EngineCertificates::new(shared.term).verify_evidence(&shared.consortium, &nodes, evidence)
    }

    /// How the last [`NodeConfig::rounds`] views ended, as far as this node saw them end.
    pub fn views_ended(&self) -> BTreeMap<(ValidatorEpoch, LeaderView), ViewOutcome> {
        lock(&self.shared.rounds).clone()
    }

    /// The nodes of the validator epoch that this node works in.
    pub fn nodes(&self) -> NodeSet {
        self.shared.seats().nodes.clone()
    }

    /// The order in which they lead.
    pub fn rotation(&self) -> LeaderRotation {
        self.shared.seats().rotation.clone()
    }

    /// The consortium.
    pub fn consortium(&self) -> ConsortiumId {
        self.shared.consortium
    }

    /// Returns once the node stopped taking part because its store failed, or a final block turned
    /// out to be invalid, with the reason. A process then ends, so that it is started anew.
    pub async fn failed(&self) -> NodeFailure {
        loop {
            let told = self.shared.failed.notified();
            if let Some(why) = lock(&self.shared.failure).clone() {
                return why;
            }
            told.await;
        }
    }
}

/// Who is heard of, and within which bounds: what an operator watches beside [`Status`].
impl NodeHandle {
    /// The settings that all nodes share.
    pub fn settings(&self) -> Settings {
        self.shared.settings
    }

    /// The pool's limits.
    pub fn pool_limits(&self) -> PoolLimits {
        lock(&self.shared.pool).limits().clone()
    }

    /// The nodes of the validator epoch that this node works in, and whether each is in touch: whether
    /// a vote of it was seen within four leader timers. Each node votes in each view, and a view ends
    /// within one leader timer or is skipped. This node is in touch with itself.
    pub fn in_touch(&self) -> Vec<InTouch> {
        let shared = &self.shared;
        let window = u64::try_from(shared.timers.stall.as_millis()).unwrap_or(u64::MAX);
        let since = shared.clock.now().number().saturating_sub(window);
        let seats = shared.seats();
        let me = shared.key.verifying_key();
        let seen = lock(&shared.votes_seen);
        let nodes = seats.nodes.nodes().iter();
        nodes
            .map(|node| {
                let heard = seen.get(&node.key);
                InTouch {
                    institution: node.institution,
                    heard: node.key == me || heard.is_some_and(|at| at.number() >= since),
                }
            })
            .collect()
    }
}

/// The header of a stored block, the block's certificate, and how many bytes were read for them.
struct ReadHeader {
    header: Header,
    certificate: Option<Vec<u8>>,
    bytes: usize,
}

impl std::fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeHandle({})", self.shared.key.verifying_key())
    }
}

/// Whether a header belongs to the validator epoch of those before it. A certificate of the next epoch is
/// by nodes that whoever asks may not know yet; the last block of each has one of its own.
fn same_epoch(headers: &[Header], next: &Header) -> bool {
    headers
        .first()
        .is_none_or(|first| first.epoch == next.epoch)
}

/// Final blocks in order.
#[derive(Debug)]
pub struct FinalBlocks {
    receiver: broadcast::Receiver<FinalBlock>,
}

/// A subscriber did not get a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoBlock {
    /// The subscriber was too slow and so many blocks were dropped; read them by height.
    #[error("{0} final blocks were dropped; read them by height")]
    Lost(u64),
    /// The node stopped.
    #[error("the node stopped")]
    Stopped,
}

impl FinalBlocks {
    /// The next final block.
    ///
    /// # Errors
    /// [`NoBlock`] with what to do.
    pub async fn next(&mut self) -> Result<FinalBlock, NoBlock> {
        self.receiver.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(lost) => NoBlock::Lost(lost),
            broadcast::error::RecvError::Closed => NoBlock::Stopped,
        })
    }
}

impl Request for Arc<CheckedTransaction> {
    fn bytes(&self) -> &[u8] {
        self.as_ref().as_bytes()
    }
}

/// What a node that starts knows of another one, or says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Presence {
    /// It runs.
    There,
    /// It heard of so many others that together they can agree on a block.
    InCompany,
}

/// Time as the node's runtime tells it.
pub(crate) trait NodeClock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Who takes part in a validator epoch.
pub(crate) struct Seats {
    pub(crate) nodes: NodeSet,
    pub(crate) rotation: LeaderRotation,
}

impl Seats {
    pub(crate) fn new(nodes: NodeSet, term: LeaderTerm) -> Self {
        Self {
            rotation: LeaderRotation::new(&nodes, term),
            nodes,
        }
    }

    /// As the state has them.
    pub(crate) fn read(
        view: &dyn FinalView,
        epoch: ValidatorEpoch,
        term: LeaderTerm,
    ) -> Result<Self, StoreError> {
        let nodes = ledger::node_set(view, epoch);
        let nodes = nodes.map_err(|error| StoreError::io("read", error))?;
        let nodes = nodes.ok_or(StoreError::Damaged("the node set"))?;
        Ok(Self::new(nodes, term))
    }
}

/// What the parts of a node share. No lock is held across an await or while another is taken.
pub(crate) struct Shared {
    pub(crate) consortium: ConsortiumId,
    pub(crate) key: SigningKey,
    seats: Mutex<Arc<Seats>>,
    /// The height up to which blocks are applied.
    applied: watch::Sender<Height>,
    /// Told with each block that may change who belongs to the consortium or where it is reached.
    membership: watch::Sender<()>,
    pub(crate) settings: Settings,
    pub(crate) cut: CutRule,
    pub(crate) term: LeaderTerm,
    pub(crate) limits: Limits,
    pub(crate) timers: Timers,
    pub(crate) config: NodeConfig,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Box<dyn NodeClock>,
    pub(crate) receipts: ReceiptSigner,
    pub(crate) pool: Mutex<Pool<TransactionId, Arc<CheckedTransaction>>>,
    /// Wakes a leader that waits for requests.
    pub(crate) requested: Notify,
    /// Wakes the task that forwards requests.
    pub(crate) submitted: Notify,
    waiters: Mutex<Waiters>,
    views: Mutex<VecDeque<Arc<dyn FinalView>>>,
    finals: broadcast::Sender<FinalBlock>,
    executed: Mutex<BTreeMap<(Height, BlockId), Arc<Changes>>>,
    evidence: Mutex<VecDeque<Evidence>>,
    /// Pieces found since this node started, those that are no longer held among them.
    evidence_found: watch::Sender<u64>,
    rounds: Mutex<BTreeMap<(ValidatorEpoch, LeaderView), ViewOutcome>>,
    /// When each node's vote was last seen, by this node's clock.
    votes_seen: Mutex<BTreeMap<VerifyingKey, Timestamp>>,
    pub(crate) waits_for_clock: AtomicU64,
    pub(crate) abandoned_validations: AtomicU64,
    failure: Mutex<Option<NodeFailure>>,
    failed: Notify,
    /// Other nodes of the set that were heard of since this node started, and whether they had heard
    /// of enough others themselves.
    heard: Mutex<BTreeMap<VerifyingKey, Presence>>,
    heard_more: Notify,
}

impl Shared {
    /// How long it is until then, by this node's clock.
    pub(crate) fn until(&self, at: Timestamp) -> Duration {
        Duration::from_millis(at.number().saturating_sub(self.clock.now().number()))
    }

    /// How long ago that was, by this node's clock.
    pub(crate) fn since(&self, at: Timestamp) -> Duration {
        Duration::from_millis(self.clock.now().number().saturating_sub(at.number()))
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        consortium: ConsortiumId,
        key: SigningKey,
        seats: Seats,
        settings: &Settings,
        config: NodeConfig,
        store: Arc<dyn Store>,
        view: Arc<dyn FinalView>,
        clock: Box<dyn NodeClock>,
    ) -> Self {
        let timers = Timers::of(settings);
        let view_height = view.tip().height;
        Self {
            receipts: ReceiptSigner::new(key.clone(), consortium),
            pool: Mutex::new(Pool::new(PoolLimits {
                expiry: config.expiry(&timers),
                ..config.pool.clone()
            })),
            waiters: Mutex::new(Waiters::new(config.waiters)),
            finals: broadcast::Sender::new(config.subscription),
            views: Mutex::new(VecDeque::from([view])),
            requested: Notify::new(),
            submitted: Notify::new(),
            executed: Mutex::default(),
            evidence: Mutex::default(),
            evidence_found: watch::Sender::new(0),
            rounds: Mutex::default(),
            votes_seen: Mutex::default(),
            waits_for_clock: AtomicU64::new(0),
            abandoned_validations: AtomicU64::new(0),
            failure: Mutex::default(),
            failed: Notify::new(),
            heard: Mutex::default(),
            heard_more: Notify::new(),
            applied: watch::Sender::new(view_height),
            membership: watch::Sender::new(()),
            seats: Mutex::new(Arc::new(seats)),
            settings: *settings,
            consortium,
            key,
            cut: settings.cut,
            term: settings.leader_term,
            limits: settings.limits(),
            timers,
            config,
            store,
            clock,
        }
    }

    /// The state after the last final block.
    pub(crate) fn view(&self) -> Arc<dyn FinalView> {
        let views = lock(&self.views);
        Arc::clone(
            views
                .back()
                .expect("the founding state is there from the start"),
        )
    }

    /// Who takes part in the validator epoch that the node works in.
    pub(crate) fn seats(&self) -> Arc<Seats> {
        Arc::clone(&lock(&self.seats))
    }

    /// Works in a validator epoch from here on.
    pub(crate) fn enter(&self, epoch: ValidatorEpoch) -> Result<Arc<Seats>, StoreError> {
        let seats = Arc::new(Seats::read(self.view().as_ref(), epoch, self.term)?);
        *lock(&self.seats) = Arc::clone(&seats);
        Ok(seats)
    }

    /// The height of the block before the first of a validator epoch; the founding block is its own.
    pub(crate) fn before(&self, epoch: ValidatorEpoch) -> Height {
        let earlier = epoch.number().checked_sub(1).map(ValidatorEpoch::new);
        earlier.map_or(Height::new(0), |earlier| self.settings.last_of(earlier))
    }

    /// The height up to which blocks are applied, as it grows.
    pub(crate) fn applied(&self) -> watch::Receiver<Height> {
        self.applied.subscribe()
    }

    /// Changes with each block that may change who belongs to the consortium or where it is reached.
    pub(crate) fn membership_changed(&self) -> watch::Receiver<()> {
        self.membership.subscribe()
    }

    /// Puts a checked request into the pool and wakes those who wait for one.
    pub(crate) fn keep(&self, source: Source, request: CheckedTransaction) -> Admission {
        let now = self.clock.now();
        let admission = lock(&self.pool).insert(now, source, request.id(), Arc::new(request));
        if admission == Admission::Held {
            self.requested.notify_waiters();
        }
        if matches!(source, Source::Submitter(_)) {
            // The forwarding task is one; a permit is kept for it if it is busy.
            self.submitted.notify_one();
        }
        admission
    }

    pub(crate) fn receipt(
        &self,
        transaction: &TransactionId,
    ) -> Result<Option<Receipt>, StoreError> {
        let Some(position) = self.store.position(transaction)? else {
            return Ok(None);
        };
        let stored = self.store.block(position.height)?;
        let stored = stored.ok_or(StoreError::Damaged("the chain of blocks"))?;
        // The header is all that a receipt says; decoding the body would cost its points.
        let header = EncodedBlock::new(stored.block)
            .header()
            .map_err(|_| StoreError::Damaged("a block"))?;
        Ok(Some(self.receipts.sign(*transaction, &header)))
    }

    /// The changes of a block that was executed and is not final yet.
    pub(crate) fn executed(&self, height: Height, block: &BlockId) -> Option<Arc<Changes>> {
        lock(&self.executed).get(&(height, *block)).cloned()
    }

    /// Remembers the changes of a block that was executed and is not final yet.
    pub(crate) fn remember_executed(&self, height: Height, block: BlockId, changes: Arc<Changes>) {
        let mut executed = lock(&self.executed);
        executed.insert((height, block), changes);
        while executed.len() > EXECUTED_MAX {
            // The lowest are closest to being final or abandoned; they can be executed again.
            executed.pop_first();
        }
    }

    /// Everything that follows from a block being final and durable.
    pub(crate) fn became_final(
        &self,
        view: Arc<dyn FinalView>,
        block: FinalBlock,
        transactions: &[TransactionId],
    ) {
        let height = view.tip().height;
        // The pool before the view: by the new state, what is still in the pool would be refused as
        // final already.
        {
            let mut pool = lock(&self.pool);
            for transaction in transactions {
                pool.remove(transaction);
            }
        }
        {
            let mut views = lock(&self.views);
            views.push_back(view);
            while views.len() > self.config.views {
                views.pop_front();
            }
        }
        {
            let mut executed = lock(&self.executed);
            executed.retain(|(executed, _), _| *executed > height);
        }
        let header = *block.block.header();
        for transaction in transactions {
            let awaited = lock(&self.waiters).awaits(transaction);
            if awaited {
                let receipt = self.receipts.sign(*transaction, &header);
                lock(&self.waiters).tell(transaction, &Told::Final(receipt));
            }
        }
        if self.settings.ends_epoch(height) || block.block.transactions().iter().any(moves_members)
        {
            self.membership.send_replace(());
        }
        // Nobody has to subscribe.
        let _ = self.finals.send(block);
        self.applied.send_replace(height);
    }

    /// Whether the final state takes a request. What comes too late is too late by the chain's time
    /// only: a block that is agreed on and not final yet may hold it, with a time before this node's
    /// clock. What comes too early by the chain's time may be in time for the next block, so it has
    /// to be too early by the clock too.
    pub(crate) fn judge(
        &self,
        view: &dyn FinalView,
        request: &CheckedTransaction,
    ) -> Result<(), AdmitError> {
        let final_time = view.tip().time;
        match admit(view, request, final_time) {
            Err(AdmitError::Refused(_)) => admit(view, request, self.clock.now().max(final_time)),
            decided => decided,
        }
    }

    /// Lets go of requests that the final state refuses and tells who waits for them.
    pub(crate) fn drop_refused(&self, candidates: &BTreeSet<TransactionId>) {
        let view = self.view();
        for id in candidates {
            let Some(request) = lock(&self.pool).request(id).cloned() else {
                continue;
            };
            let Err(AdmitError::Refused(refusal)) = self.judge(view.as_ref(), &request) else {
                continue;
            };
            lock(&self.pool).remove(id);
            // What is final is no refusal: whoever waits for it is given its receipt.
            if !matches!(refusal, Refusal::Final(_)) {
                lock(&self.waiters).tell(id, &Told::Refused(refusal.to_string()));
            }
        }
    }

    pub(crate) fn keep_evidence(&self, evidence: Evidence) {
        let mut kept = lock(&self.evidence);
        if self.config.evidence == 0 || kept.contains(&evidence) {
            return;
        }
        kept.push_back(evidence);
        while kept.len() > self.config.evidence {
            kept.pop_front();
        }
        drop(kept);
        self.evidence_found.send_modify(|found| *found += 1);
    }

    pub(crate) fn view_ended(&self, epoch: ValidatorEpoch, view: LeaderView, outcome: ViewOutcome) {
        let mut rounds = lock(&self.rounds);
        let view = (epoch, view);
        // Finality outweighs a skip: both certificates of one view can exist only if the block
        // became final through the votes of this very view.
        let known = rounds.get(&view);
        if !matches!(
            (known, outcome),
            (Some(ViewOutcome::Final(_)), ViewOutcome::Skipped)
        ) {
            rounds.insert(view, outcome);
        }
        while rounds.len() > self.config.rounds {
            rounds.pop_first();
        }
    }

    /// A node that votes in this validator epoch is in touch.
    pub(crate) fn vote_seen(&self, node: VerifyingKey) {
        let now = self.clock.now();
        let seats = self.seats();
        let mut seen = lock(&self.votes_seen);
        seen.insert(node, now);
        // Nodes of earlier epochs are let go of, so that no more are kept than twice those there are.
        if seen.len() > 2 * seats.nodes.nodes().len() {
            seen.retain(|node, _| seats.nodes.by_key(node).is_some());
        }
    }

    /// Another node is there.
    pub(crate) fn heard_of(&self, node: VerifyingKey, presence: Presence) {
        if node == self.key.verifying_key() || self.seats().nodes.by_key(&node).is_none() {
            return;
        }
        let mut heard = lock(&self.heard);
        let known = heard.entry(node).or_insert(presence);
        *known = (*known).max(presence);
        self.heard_more.notify_waiters();
    }

    /// How far this node is: whether it heard of so many others that they can agree on a block.
    pub(crate) fn presence(&self) -> Presence {
        if self.present(Presence::There) {
            Presence::InCompany
        } else {
            Presence::There
        }
    }

    /// Whether so many nodes are in company that they can agree on a block now.
    pub(crate) fn all_set(&self) -> bool {
        self.present(Presence::InCompany)
    }

    fn present(&self, least: Presence) -> bool {
        let others = lock(&self.heard)
            .values()
            .filter(|presence| **presence >= least)
            .count();
        others + 1 >= self.seats().nodes.quorum().certificate()
    }

    /// Waits until so many nodes are in company that they can agree, but not longer than `bound`.
    pub(crate) async fn wait_for_others(&self, bound: Duration) {
        let mut up = self.clock.sleep(bound);
        loop {
            let mut more = pin!(self.heard_more.notified());
            more.as_mut().enable();
            if self.all_set() {
                return;
            }
            if let Either::Right(_) = select(more, &mut up).await {
                return;
            }
        }
    }

    /// The node can take part no longer.
    pub(crate) fn fail(&self, why: impl Into<NodeFailure>) {
        lock(&self.failure).get_or_insert_with(|| why.into());
        self.failed.notify_waiters();
    }
}

/// Whether a transaction can change who belongs to the consortium, or where it is reached.
fn moves_members(transaction: &Transaction) -> bool {
    matches!(
        transaction,
        Transaction::Motion(_)
            | Transaction::Approval(_)
            | Transaction::Succession(_)
            | Transaction::Contact(_)
    )
}

/// A panic while a lock is held ends the process in production; a simulation goes on to report it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Final blocks in a row without a certificate of their own. A block lacks one if the votes that made
/// it final were cast for a later block, which is rare and rarer twice in a row.
const UNCERTIFIED_MAX: usize = 64;

/// Bytes of blocks read for one run of headers: two blocks of 4 MiB, or 256 of 32 KiB, some 10 ms of a
/// disk.
const FINALITY_BYTES: usize = 8 << 20;

/// Unfinalised blocks whose changes are remembered: the chain is a few blocks ahead of finality,
/// rarely on two branches. At 500 transactions of 2 KB a block changes about 1.5 MB.
const EXECUTED_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use ledger::testing::{FOUNDED, FourHospitals};

    use super::*;
    use crate::{
        engine::testing::{ToyLedger, apply, certify, node, node_on, run},
        store::{Commit, Position},
        store_simulated::{SimulatedDisk, SimulatedStore},
    };

    const US: Submitter = Submitter::new(1);

    /// The story: a block became final, the new state was published, and before the pool was cleaned
    /// the housekeeping judged what was in it: "refused, because it is final already", and the client
    /// was told that its record is lost.
    #[test]
    fn what_becomes_final_is_never_told_as_refused() {
        run(|context| async move {
            let hospitals = FourHospitals::default();
            let shared = node(&context, &hospitals, 1);
            let handle = NodeHandle::new(Arc::clone(&shared));
            let transaction = hospitals.registration(1);
            let kept = handle.submit(US, &transaction.encode()).expect("room");
            let id = kept.id();
            let mut told = lock(&shared.waiters).wait(id).expect("room");

            let mut chain = ToyLedger::new(&hospitals);
            chain.grow(&hospitals, 10, &[hospitals.checked(transaction)]);
            // The state as it is between two steps of what follows from a final block.
            let other = node(&context, &hospitals, 2);
            apply(&other, &chain.blocks[1]);
            lock(&shared.views).push_back(other.view());
            shared.drop_refused(&BTreeSet::from([id]));
            assert!(told.try_recv().is_err(), "nothing to tell yet");
            lock(&shared.views).pop_back();

            apply(&shared, &chain.blocks[1]);
            assert!(matches!(told.try_recv(), Ok(Told::Final(_))));
        });
    }

    /// A store that has not heard of a transaction when it is asked first.
    struct Late {
        inner: SimulatedStore,
        asked: AtomicU64,
    }

    impl Store for Late {
        fn tip(&self) -> Result<Option<Tip>, StoreError> {
            self.inner.tip()
        }

        fn view(&self) -> Result<Option<Arc<dyn FinalView>>, StoreError> {
            self.inner.view()
        }

        fn commit(&self, commit: Commit<'_>) -> Result<(), StoreError> {
            self.inner.commit(commit)
        }

        fn block(&self, height: Height) -> Result<Option<StoredBlock>, StoreError> {
            self.inner.block(height)
        }

        fn height_of(&self, block: &BlockId) -> Result<Option<Height>, StoreError> {
            self.inner.height_of(block)
        }

        fn position(&self, transaction: &TransactionId) -> Result<Option<Position>, StoreError> {
            if self.asked.fetch_add(1, Ordering::Relaxed) == 0 {
                return Ok(None);
            }
            self.inner.position(transaction)
        }
    }

    /// The story: between the question whether a transaction is final and the question whether the
    /// state takes it, it became final, and whoever handed it in again was told that it is refused.
    #[test]
    fn what_becomes_final_while_it_is_handed_in_again_is_final() {
        run(|context| async move {
            let hospitals = FourHospitals::default();
            let store = Late {
                inner: SimulatedStore::open(&SimulatedDisk::new()).expect("an empty disk"),
                asked: AtomicU64::new(0),
            };
            let shared = node_on(&context, &hospitals, 1, Arc::new(store));
            let transaction = hospitals.registration(1);
            let bytes = transaction.encode();
            let mut chain = ToyLedger::new(&hospitals);
            let request = hospitals.checked(transaction);
            let id = request.id();
            chain.grow(&hospitals, 10, &[request]);
            apply(&shared, &chain.blocks[1]);
            let handle = NodeHandle::new(shared);
            let again = handle.submit(US, &bytes).expect("it is final");
            assert_eq!(again, Submitted::AlreadyFinal(id));
        });
    }

    /// The story: a grant ended by a node's clock while it stood in a block that the others were about
    /// to make final; the node told its client that it is refused, and then it was final.
    #[test]
    fn what_came_in_time_is_not_refused_by_the_clock_of_a_node() {
        run(|context| async move {
            let hospitals = FourHospitals::default();
            let shared = node(&context, &hospitals, 1);
            let handle = NodeHandle::new(Arc::clone(&shared));
            let grant = hospitals.grant(1, 1_000);
            let bytes = grant.encode();
            let id = handle.submit(US, &bytes).expect("in time").id();
            let mut told = lock(&shared.waiters).wait(id).expect("room");
            shared.clock.sleep(Duration::from_secs(5)).await;

            shared.drop_refused(&BTreeSet::from([id]));
            assert!(
                told.try_recv().is_err(),
                "by the chain's time it is in time"
            );
            assert!(lock(&shared.pool).contains(&id));
            // At this node, which holds it, and at one that never heard of it.
            let other = NodeHandle::new(node(&context, &hospitals, 2));
            for handle in [&handle, &other] {
                let again = handle.submit(US, &bytes).expect("in time");
                assert_eq!(again, Submitted::Kept(id));
            }

            // Once the chain's time is past its end, it is refused, and told so.
            let mut chain = ToyLedger::new(&hospitals);
            chain.grow(&hospitals, 2_000, &[]);
            apply(&shared, &chain.blocks[1]);
            assert!(shared.view().tip().time > FOUNDED);
            shared.drop_refused(&BTreeSet::from([id]));
            assert!(matches!(told.try_recv(), Ok(Told::Refused(_))));
            assert!(!lock(&shared.pool).contains(&id));
            assert!(handle.submit(US, &bytes).is_err());
        });
    }

    /// The story: for a run of headers up to 256 whole blocks were read, which may be 1 GiB.
    #[test]
    fn a_run_of_headers_ends_where_enough_was_read() {
        run(|context| async move {
            let hospitals = FourHospitals::default();
            let shared = node(&context, &hospitals, 1);
            let mut chain = ToyLedger::new(&hospitals);
            for height in 1..=20u8 {
                let (block, _) = chain.grow(&hospitals, 10, &[]);
                // Blocks 11 to 15 became final with a later one.
                let certificate = (!(11..=15).contains(&height)).then(|| vec![height]);
                certify(&shared, &block, certificate);
            }
            let handle = NodeHandle::new(shared);
            let headers = |from, bytes_max| {
                let proof = handle.finality_within(Height::new(from), bytes_max);
                let proof = proof.expect("readable").expect("certified").encode();
                u16::from_be_bytes([proof[0], proof[1]])
            };
            // An empty block is its header, 264 bytes.
            assert_eq!(headers(1, usize::MAX), 20);
            assert_eq!(headers(1, 4 * 264), 4);
            assert_eq!(headers(1, 4 * 264 + 1), 5);
            assert_eq!(headers(1, 0), 1);
            // Without a certificate nothing is proved, so the next one is looked for.
            assert_eq!(headers(11, 2 * 264), 6);
            assert_eq!(headers(9, 4 * 264), 2);
        });
    }

    /// What the chain's time is too early for waits for the next block.
    #[test]
    fn what_comes_too_early_for_the_last_block_is_held_for_the_next() {
        run(|context| async move {
            let hospitals = FourHospitals::default();
            let shared = node(&context, &hospitals, 1);
            let handle = NodeHandle::new(Arc::clone(&shared));
            let mut chain = ToyLedger::new(&hospitals);
            let opening: Vec<_> = hospitals
                .opening()
                .into_iter()
                .map(|transaction| hospitals.checked(transaction))
                .collect();
            chain.grow(&hospitals, 10, &opening);
            apply(&shared, &chain.blocks[1]);
            // Signed 100 s after the last block, by a doctor whose clock is right.
            shared.clock.sleep(Duration::from_secs(100)).await;
            let mut statement = hospitals.statement(1, 1, 8);
            statement.time = shared.clock.now();
            let record = hospitals.sign_record(1, statement);
            let id = handle.submit(US, &record.encode()).expect("in time").id();
            shared.drop_refused(&BTreeSet::from([id]));
            assert!(lock(&shared.pool).contains(&id));
        });
    }
}
