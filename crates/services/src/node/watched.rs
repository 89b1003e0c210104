//! What a node shows to those who supervise it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chain::{FinalBlock, NodeHandle, ViewOutcome};
use client::now;
use futures::future::BoxFuture;
use ledger::{Height, LeaderView, Role, Settings, Transaction};
use parties::ShareRefusal;
use scheme::{Timestamp, ValidatorEpoch};

use super::NodeService;
use crate::watching::*;

/// Blocks over which the largest lead of a block's time is taken: more than any rotation has leaders.
const BLOCKS_COMPARED: usize = 64;

/// What a node counts since it started.
#[derive(Default)]
pub(super) struct Counts {
    transactions: Mutex<BTreeMap<&'static str, u64>>,
    /// The height up to which they are counted.
    counted: Mutex<Option<Height>>,
    /// By how many ms the times of the last blocks were ahead of the clock as they became final.
    ahead: Mutex<VecDeque<u64>>,
    skipped: Mutex<Skipped>,
    shares_given: AtomicU64,
    shares_refused: Mutex<BTreeMap<&'static str, u64>>,
}

/// Views that ended without a block.
#[derive(Default)]
struct Skipped {
    /// Those among the views that the node remembers, so that none is counted twice.
    known: BTreeSet<(ValidatorEpoch, LeaderView)>,
    count: u64,
}

impl Counts {
    /// A block became final. What a slow subscriber lost before it is read from the store.
    pub(super) fn block(&self, handle: &NodeHandle, block: &FinalBlock) {
        let header = block.block.header();
        let lead = header.time.number().saturating_sub(now().number());
        let mut ahead = lock(&self.ahead);
        ahead.push_back(lead);
        while ahead.len() > BLOCKS_COMPARED {
            ahead.pop_front();
        }
        drop(ahead);
        let mut counted = lock(&self.counted);
        let mut next = counted.map_or(header.height, Height::next);
        while next < header.height {
            // One that cannot be read is not counted: the store says so elsewhere.
            if let Ok(Some(lost)) = handle.block(next) {
                self.count(&lost);
            }
            next = next.next();
        }
        self.count(block);
        *counted = Some(header.height);
        drop(counted);
        self.views(handle);
    }

    fn count(&self, block: &FinalBlock) {
        let mut transactions = lock(&self.transactions);
        for transaction in block.block.transactions() {
            *transactions.entry(kind(transaction)).or_default() += 1;
        }
    }

    /// Counts the views that were skipped since this was called last.
    fn views(&self, handle: &NodeHandle) -> u64 {
        let ended = handle.views_ended();
        let mut skipped = lock(&self.skipped);
        // Below the first that the node remembers nothing comes any more.
        if let Some(first) = ended.keys().next() {
            skipped.known = skipped.known.split_off(first);
        }
        for (view, outcome) in ended {
            if outcome == ViewOutcome::Skipped && skipped.known.insert(view) {
                skipped.count += 1;
            }
        }
        skipped.count
    }

    pub(super) fn shares_given(&self, shares: usize) {
        let shares = u64::try_from(shares).unwrap_or(u64::MAX);
        self.shares_given.fetch_add(shares, Ordering::Relaxed);
    }

    pub(super) fn share_refused(&self, refusal: &ShareRefusal) {
        self.share_refused_for(reason(refusal));
    }

    /// The container's header could not be read, so there was nothing to give a share of.
    pub(super) fn header_unread(&self) {
        self.share_refused_for("cloud");
    }

    fn share_refused_for(&self, reason: &'static str) {
        *lock(&self.shares_refused).entry(reason).or_default() += 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kind(transaction: &Transaction) -> &'static str {
    match transaction {
        Transaction::Registration(_) => "registration",
        Transaction::WriterEpoch(_) => "writer-epoch",
        Transaction::Record(_) => "record",
        Transaction::Request(_) => "request",
        Transaction::Grant(_) => "grant",
        Transaction::Access(_) => "access",
        Transaction::Revocation(_) => "revocation",
        Transaction::Withdrawal(_) => "withdrawal",
        Transaction::CertificateRevocation(_) => "certificate-revocation",
        Transaction::Anchor(_) => "anchor",
        Transaction::NodeKey(_) => "node-key",
        Transaction::CentreKey(_) => "centre-key",
        Transaction::Motion(_) => "motion",
        Transaction::Approval(_) => "approval",
        Transaction::Succession(_) => "succession",
        Transaction::Contact(_) => "contact",
        _ => "other",
    }
}

/// The first seven are refusals as they must be, the last five say that something is broken.
fn reason(refusal: &ShareRefusal) -> &'static str {
    match refusal {
        ShareRefusal::NoSuchGrant => "no-such-grant",
        ShareRefusal::NotRecorded | ShareRefusal::NoAccess => "not-recorded",
        ShareRefusal::Revoked => "revoked",
        ShareRefusal::Expired(_) | ShareRefusal::NotYet => "not-in-time",
        ShareRefusal::NotGranted
        | ShareRefusal::NotReached
        | ShareRefusal::NoSuchClass
        | ShareRefusal::ForeignRecord => "not-granted",
        ShareRefusal::CertificateRevoked
        | ShareRefusal::CertificateEnded(_)
        | ShareRefusal::CertificateCompromised
        | ShareRefusal::InstitutionLeft(_)
        | ShareRefusal::Agent => "certificate",
        ShareRefusal::Malformed(_) | ShareRefusal::Forged => "malformed",
        ShareRefusal::Height(_) => "behind",
        ShareRefusal::NoContainer => "no-container",
        ShareRefusal::AlteredHeader | ShareRefusal::AlteredContainer => "altered",
        ShareRefusal::ForeignHeader | ShareRefusal::ForgedRecord => "forged-record",
        ShareRefusal::Store(_) => "store",
        _ => "other",
    }
}

/// How far the chain's time may be behind the clock: a view ends within a leader time-out or is skipped,
/// and a leader is given up after four.
fn lag_max(settings: &Settings) -> Duration {
    settings.leader_timeout * 4 + settings.clock_drift
}

fn seconds(time: Timestamp) -> f64 {
    Duration::from_millis(time.number()).as_secs_f64()
}

impl Watched for NodeService {
    fn look(&self) -> BoxFuture<'_, Look> {
        // Nothing of it waits, and nothing reads the disk.
        Box::pin(async { self.look_now() })
    }
}

impl NodeService {
    fn look_now(&self) -> Look {
        let handle = &self.handle;
        let status = handle.status();
        let settings = handle.settings();
        let (nodes, touched) = (handle.nodes(), handle.in_touch());
        let quorum = nodes.quorum().certificate();
        let heard = touched.iter().filter(|node| node.heard).count();
        let own = nodes.by_key(&status.node);
        let lag = now().number().saturating_sub(status.tip.time.number());
        let lag = Duration::from_millis(lag);
        let limits = handle.pool_limits();
        let ahead = lock(&self.counts.ahead).iter().max().copied();
        let ahead = Duration::from_millis(ahead.unwrap_or_default());

        let mut look = Look::default();
        look.checks.push(Check::of(
            "takes-part",
            status.failure.is_none(),
            match &status.failure {
                None => "the node takes part".to_owned(),
                Some(why) => format!("the node stopped taking part: {why}"),
            },
            "mend its disk and start it again; docs/operations.md has the failures",
        ));
        look.checks.push(Check::of(
            "chain",
            lag <= lag_max(&settings),
            format!(
                "block {} is {} s old; at most {} s are usual",
                status.tip.height,
                lag.as_secs(),
                lag_max(&settings).as_secs()
            ),
            "if other nodes are as far, the chain stands still: see who is away; if not, this node catches up, or does not reach them",
        ));
        look.checks.push(Check::of(
            "quorum",
            heard >= quorum,
            format!(
                "{heard} of {} nodes are in touch, and {quorum} agree on a block",
                touched.len()
            ),
            "start the nodes that are away, or see whether this machine's port for nodes is reached",
        ));

        let mut one = |sample| look.samples.push(sample);
        one(Sample::new(&NODE_HEIGHT, status.tip.height.number()));
        one(Sample::new(&NODE_BLOCK_TIME, seconds(status.tip.time)));
        one(Sample::new(&NODE_LAG, lag.as_secs_f64()));
        one(Sample::new(&NODE_LAG_MAX, lag_max(&settings).as_secs_f64()));
        one(Sample::new(&NODE_AHEAD, ahead.as_secs_f64()));
        one(Sample::new(&NODE_DRIFT, settings.clock_drift.as_secs_f64()));
        one(Sample::new(&NODE_CLOCK_WAITS, status.waits_for_clock));
        one(Sample::new(&NODE_ABANDONED, status.abandoned_validations));
        one(Sample::new(&NODE_EPOCH, status.epoch.number()));
        one(Sample::new(&NODE_VOTES, own.is_some()));
        let accounts = own.is_some_and(|node| node.tier.role() == Role::Accounting);
        one(Sample::new(&NODE_ACCOUNTS, accounts));
        one(Sample::new(&NODE_NODES, touched.len()));
        one(Sample::new(&NODE_QUORUM, quorum));
        one(Sample::new(&NODE_IN_TOUCH_NODES, heard));
        for node in &touched {
            let label = vec![Label::Institution(node.institution)];
            one(Sample::of(&NODE_IN_TOUCH, label, node.heard));
        }
        for led in &status.led {
            let label = vec![Label::Institution(led.institution)];
            one(Sample::of(&NODE_LED, label, led.blocks));
        }
        one(Sample::new(&NODE_SKIPPED, self.counts.views(handle)));
        one(Sample::new(&NODE_POOL_REQUESTS, status.pool.requests));
        one(Sample::new(&NODE_POOL_REQUESTS_MAX, limits.requests));
        one(Sample::new(&NODE_POOL_BYTES, status.pool.bytes));
        one(Sample::new(&NODE_POOL_BYTES_MAX, limits.bytes));
        for (kind, count) in &*lock(&self.counts.transactions) {
            let label = vec![Label::Text(kind)];
            one(Sample::of(&NODE_TRANSACTIONS, label, *count));
        }
        one(Sample::new(
            &NODE_GRANTS,
            self.node().map_or(0, |node| node.held()),
        ));
        let given = self.counts.shares_given.load(Ordering::Relaxed);
        one(Sample::new(&NODE_SHARES_GIVEN, given));
        // Those that say that something is broken are there from the start, so that the first counts.
        let mut refused: BTreeMap<&str, u64> = BROKEN.iter().map(|reason| (*reason, 0)).collect();
        refused.extend(lock(&self.counts.shares_refused).iter());
        for (reason, count) in refused {
            let label = vec![Label::Text(reason)];
            one(Sample::of(&NODE_SHARES_REFUSED, label, count));
        }
        let missing = lock(&self.unheld).keys_missed.len();
        one(Sample::new(&NODE_KEYS_MISSING, missing));
        one(Sample::new(&NODE_EVIDENCE, self.evidence.count()));
        one(Sample::new(&NODE_FAILED, status.failure.is_some()));
        look
    }
}

/// Reasons that say that something is broken.
const BROKEN: &[&str] = &["altered", "cloud", "forged-record", "no-container", "store"];
