//! Pre-prepare and prepare: what the engine asks of the rules. It proposes through
//! [`ledger::propose`] and votes only for what [`ledger::execute`] accepts, both on the final state
//! with the changes of the unfinalised ancestors laid over it.
//!
//! - On leading: with requests waiting, wait for company until the cut rule says so; with none,
//!   until the heartbeat is due. A request wakes a waiting leader at once.
//! - On a proposal: it has to be its leader's, and its time near enough. A time too far ahead is
//!   waited for and never refused, because clocks differ and a verdict must not. Then the whole
//!   block is validated, and only a valid one is voted for.
//! - What cannot be decided (the store cannot be read, an ancestor cannot be had, the block's height
//!   is final already) stays pending until the engine ends the view; that is how a node abstains.
//!
//! Every future here may be dropped at any await: nothing is held across one that another needs.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use commonware_consensus::{Application, marshal::ancestry::Ancestry, simplex::types::Context};
use commonware_cryptography::Digested;
use commonware_utils::SystemTimeExt as _;
use futures::{
    StreamExt as _,
    future::{Either, pending, select},
};
use ledger::{
    Block, Changes, Cut, ExecuteError, LeaderView, Overlay, TransactionId, execute, propose,
};
use scheme::Timestamp;
use tracing::{debug, error, warn};

use super::{
    Digest, PublicKey, Runtime, Scheme, block::ConsensusBlock, elector::leader_view, keys,
};
use crate::{
    node::{Shared, lock},
    store::FinalView,
};

/// The rules as the engine's application.
#[derive(Clone)]
pub(crate) struct Rules {
    shared: Arc<Shared>,
}

impl Rules {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl<E: Runtime> Application<E> for Rules {
    type SigningScheme = Scheme;
    type Context = Context<Digest, PublicKey>;
    type Block = ConsensusBlock;
    type Input = ();

    async fn propose(
        &mut self,
        (runtime, context): (E, Self::Context),
        ancestry: impl Ancestry<ConsensusBlock>,
        (): (),
    ) -> Option<Digested<ConsensusBlock>> {
        let Some(branch) = Branch::gather(&self.shared, ancestry).await else {
            debug!("an ancestor cannot be had, so this view has no block of ours");
            return None;
        };
        let held = branch.transactions(&self.shared);
        self.wait_for_requests(&runtime, branch.parent().header().time, &held)
            .await;

        let shared = Arc::clone(&self.shared);
        let time = Timestamp::new(runtime.current().epoch_millis());
        let view = leader_view(context.round.view(), self.shared.term);
        let building = runtime
            .child("build")
            .shared(true)
            .spawn(move |_| async move { build(&shared, &branch, view, time, &held) });
        building.await.ok().flatten().map(ConsensusBlock::digested)
    }

    async fn verify(
        &mut self,
        (runtime, context): (E, Self::Context),
        mut ancestry: impl Ancestry<ConsensusBlock>,
    ) -> bool {
        let abandoned = Abandoned::new(&self.shared);
        let Some(block) = ancestry.next().await else {
            return pending().await;
        };
        let header = *block.inner().block().header();
        if header.producer != keys::verifying(&context.leader)
            || header.view != leader_view(context.round.view(), self.shared.term)
        {
            abandoned.decided();
            return false;
        }
        self.wait_for_clock(&runtime, header.time).await;

        let Some(branch) = Branch::gather(&self.shared, ancestry).await else {
            return pending().await;
        };
        let shared = Arc::clone(&self.shared);
        let block = block.inner().clone();
        let checking = runtime
            .child("check")
            .shared(true)
            .spawn(move |_| async move { check(&shared, &branch, &block) });
        match checking.await.ok().flatten() {
            Some(valid) => {
                abandoned.decided();
                valid
            }
            None => pending().await,
        }
    }
}

impl Rules {
    /// Returns when a block is to be cut. It never waits longer than the heartbeat or, with requests
    /// waiting, than the cut rule's time.
    async fn wait_for_requests<E: Runtime>(
        &self,
        runtime: &E,
        parent_time: Timestamp,
        held: &BTreeSet<TransactionId>,
    ) {
        let shared = &self.shared;
        let heartbeat = shared.timers.heartbeat;
        let entered = runtime.current();
        loop {
            // Registered before looking, so that a request that comes in between wakes it.
            let mut requested = pin!(shared.requested.notified());
            requested.as_mut().enable();
            let now = runtime.current();
            // A parent from the future must not stretch the wait beyond the leader timer.
            let idle = since(now, parent_time).max(elapsed(now, entered));
            let decision = {
                let pool = lock(&shared.pool);
                let waiting = pool.waiting(held).take(shared.cut.count as usize).count();
                let waited = pool
                    .waiting_since(held)
                    .map_or(Duration::ZERO, |at| since(now, at));
                shared.cut.decide(waiting, waited, idle, heartbeat)
            };
            let Cut::Wait(left) = decision else {
                return;
            };
            let up = pin!(runtime.sleep_until(now + left));
            if let Either::Left(_) = select(requested, up).await {
                continue;
            }
        }
    }

    /// Returns once the node's clock is no more than the drift behind `time`.
    async fn wait_for_clock<E: Runtime>(&self, runtime: &E, time: Timestamp) {
        let drift = u64::try_from(self.shared.timers.drift.as_millis()).unwrap_or(u64::MAX);
        let near = time.number().saturating_sub(drift);
        if runtime.current().epoch_millis() >= near {
            return;
        }
        let waits = self.shared.waits_for_clock.fetch_add(1, Ordering::Relaxed) + 1;
        warn!(
            waits,
            "a block's time is ahead of this node's clock; check both clocks"
        );
        let Some(deadline) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(near)) else {
            return pending().await;
        };
        runtime.sleep_until(deadline).await;
    }
}

/// A block's ancestors from its parent down to the last final block.
struct Branch {
    /// The final state from which the branch grows; blocks may become final meanwhile.
    view: Arc<dyn FinalView>,
    /// The parent first. The last one is final.
    ancestors: Vec<ConsensusBlock>,
}

impl Branch {
    /// Walks down from the parent. `None` if an ancestor cannot be had, or the branch leaves the
    /// final chain: nothing can be built or judged there.
    async fn gather(shared: &Shared, mut ancestry: impl Ancestry<ConsensusBlock>) -> Option<Self> {
        let view = shared.view();
        let tip = view.tip().height;
        let mut ancestors = Vec::new();
        loop {
            let block = ancestry.next().await?.inner().clone();
            let height = block.block().header().height;
            if height < tip {
                return None;
            }
            let id = block.id();
            ancestors.push(block);
            if height == tip {
                return (id == view.tip().block).then_some(Self { view, ancestors });
            }
        }
    }

    fn parent(&self) -> &Block {
        self.ancestors
            .first()
            .expect("a branch has at least the parent")
            .block()
    }

    /// What unfinalised ancestors hold already.
    fn transactions(&self, shared: &Shared) -> BTreeSet<TransactionId> {
        let unfinalised = &self.ancestors[..self.ancestors.len() - 1];
        unfinalised
            .iter()
            .flat_map(|block| block.block().transactions())
            .map(|transaction| transaction.id(&shared.consortium))
            .collect()
    }

    /// The changes of the unfinalised ancestors, oldest first. `None` if one cannot be executed:
    /// no correct node voted for it.
    fn layers(&self, shared: &Shared) -> Option<Vec<Arc<Changes>>> {
        let mut layers: Vec<Arc<Changes>> = Vec::new();
        for pair in self.ancestors.windows(2).rev() {
            let [block, parent] = pair else { continue };
            let height = block.block().header().height;
            if let Some(changes) = shared.executed(height, &block.id()) {
                layers.push(changes);
                continue;
            }
            let mut state = Overlay::new(self.view.as_ref());
            for layer in &layers {
                state.push(layer);
            }
            let changes = match execute(&state, parent.block().header(), block.block()) {
                Ok(changes) => Arc::new(changes),
                Err(error) => {
                    warn!(%error, %height, "an unfinalised ancestor is not valid");
                    return None;
                }
            };
            shared.remember_executed(height, block.id(), Arc::clone(&changes));
            layers.push(changes);
        }
        Some(layers)
    }
}

/// Cuts a block.
fn build(
    shared: &Shared,
    branch: &Branch,
    view: LeaderView,
    now: Timestamp,
    held: &BTreeSet<TransactionId>,
) -> Option<ConsensusBlock> {
    let layers = branch.layers(shared)?;
    let mut state = Overlay::new(branch.view.as_ref());
    for layer in &layers {
        state.push(layer);
    }
    let parent = branch.parent().header();
    let time = now.max(Timestamp::new(parent.time.number() + 1));
    let candidates: Vec<_> = {
        let pool = lock(&shared.pool);
        let enough = CANDIDATES_PER_PLACE * shared.cut.count as usize;
        pool.waiting(held)
            .take(enough)
            .map(|(_, request)| Arc::clone(request))
            .collect()
    };
    let candidates = candidates.iter().map(AsRef::as_ref);
    match propose(&state, parent, view, time, candidates, &shared.key) {
        Ok(proposal) => {
            let block = ConsensusBlock::new(proposal.block);
            let height = block.block().header().height;
            shared.remember_executed(height, block.id(), Arc::new(proposal.changes));
            // A refusal that an unfinalised ancestor causes may yet turn out otherwise, so each is
            // judged again by the final state.
            let refused: BTreeSet<_> = proposal.refused.iter().map(|(id, _)| *id).collect();
            shared.drop_refused(&refused);
            Some(block)
        }
        Err(failure) => {
            error!(%failure, "no block could be cut");
            None
        }
    }
}

/// The verdict on a block, `None` if there can be none.
fn check(shared: &Shared, branch: &Branch, block: &ConsensusBlock) -> Option<bool> {
    let height = block.block().header().height;
    if shared.executed(height, &block.id()).is_some() {
        return Some(true);
    }
    let layers = branch.layers(shared)?;
    let mut state = Overlay::new(branch.view.as_ref());
    for layer in &layers {
        state.push(layer);
    }
    match execute(&state, branch.parent().header(), block.block()) {
        Ok(changes) => {
            shared.remember_executed(height, block.id(), Arc::new(changes));
            Some(true)
        }
        Err(ExecuteError::Invalid(invalid)) => {
            warn!(%invalid, %height, "a proposed block is not valid");
            Some(false)
        }
        Err(failure) => {
            error!(%failure, "the state could not be read, so there is no verdict");
            None
        }
    }
}

/// Counts a validation that the engine dropped before there was a verdict.
struct Abandoned {
    shared: Arc<Shared>,
    decided: bool,
}

impl Abandoned {
    fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            decided: false,
        }
    }

    fn decided(mut self) {
        self.decided = true;
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if !self.decided {
            self.shared
                .abandoned_validations
                .fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn since(now: SystemTime, at: Timestamp) -> Duration {
    Duration::from_millis(now.epoch_millis().saturating_sub(at.number()))
}

fn elapsed(now: SystemTime, from: SystemTime) -> Duration {
    now.duration_since(from).unwrap_or_default()
}

/// Requests offered for each place of a block, because some may be refused.
const CANDIDATES_PER_PLACE: usize = 2;
