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
//!   is final already, this node has applied too little yet) stays pending until the engine ends the
//!   view; that is how a node abstains.
//!
//! Every future here may be dropped at any await: nothing is held across one that another needs, and
//! what runs on another thread for it gives up before the next block that it would execute.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use commonware_consensus::{Application, marshal::ancestry::Ancestry, simplex::types::Context};
use commonware_cryptography::Digested;
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
        let time = self.shared.clock.now();
        let view = leader_view(context.round.view(), self.shared.term)?;
        let wanted = Wanted::new();
        let given_up = wanted.given_up();
        let building = runtime
            .child("build")
            .shared(true)
            .spawn(move |_| async move { build(&shared, &branch, view, time, &held, &given_up) });
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
            || Some(header.view) != leader_view(context.round.view(), self.shared.term)
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
        let wanted = Wanted::new();
        let given_up = wanted.given_up();
        let checking = runtime
            .child("check")
            .shared(true)
            .spawn(move |_| async move { check(&shared, &branch, &block, &given_up) });
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
            let idle = shared.since(parent_time).max(elapsed(now, entered));
            let decision = {
                let pool = lock(&shared.pool);
                let waiting = pool.waiting(held).take(shared.cut.count as usize).count();
                let waited = pool
                    .waiting_since(held)
                    .map_or(Duration::ZERO, |at| shared.since(at));
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
        let ahead = self
            .shared
            .until(Timestamp::new(time.number().saturating_sub(drift)));
        if ahead.is_zero() {
            return;
        }
        let waits = self.shared.waits_for_clock.fetch_add(1, Ordering::Relaxed) + 1;
        warn!(
            waits,
            "a block's time is ahead of this node's clock; check both clocks"
        );
        let Some(deadline) = runtime.current().checked_add(ahead) else {
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
    /// Walks down from the parent. `None` if an ancestor cannot be had, the branch leaves the final
    /// chain, or it is longer than what this node executes for one view: nothing can be built or
    /// judged there. A node so far behind is brought up by the task that applies final blocks.
    async fn gather(shared: &Shared, mut ancestry: impl Ancestry<ConsensusBlock>) -> Option<Self> {
        let view = shared.view();
        let tip = view.tip().height;
        let mut ancestors = Vec::new();
        let mut bytes = 0;
        loop {
            let block = ancestry.next().await?.inner().clone();
            let height = block.block().header().height;
            // The parent's height alone says how long the way is, so a long one is not begun.
            let above = height.number().checked_sub(tip.number())?;
            bytes += block.bytes().len();
            if above > BRANCH_BLOCKS_MAX || bytes > BRANCH_BYTES_MAX {
                debug!(%height, %tip, "too far behind the proposal to judge it");
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
    /// no correct node voted for it. `None` as well once nobody waits for the result.
    fn layers(&self, shared: &Shared, given_up: &AtomicBool) -> Option<Vec<Arc<Changes>>> {
        let mut layers: Vec<Arc<Changes>> = Vec::new();
        for pair in self.ancestors.windows(2).rev() {
            let [block, parent] = pair else { continue };
            let height = block.block().header().height;
            if let Some(changes) = shared.executed(height, &block.id()) {
                layers.push(changes);
                continue;
            }
            if given_up.load(Ordering::Relaxed) {
                return None;
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
    given_up: &AtomicBool,
) -> Option<ConsensusBlock> {
    let layers = branch.layers(shared, given_up)?;
    let mut state = Overlay::new(branch.view.as_ref());
    for layer in &layers {
        state.push(layer);
    }
    let parent = branch.parent().header();
    let Some(after) = parent.time.number().checked_add(1) else {
        error!("the parent's time is the last there is, so no block can follow it");
        return None;
    };
    let time = now.max(Timestamp::new(after));
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
fn check(
    shared: &Shared,
    branch: &Branch,
    block: &ConsensusBlock,
    given_up: &AtomicBool,
) -> Option<bool> {
    let height = block.block().header().height;
    if shared.executed(height, &block.id()).is_some() {
        return Some(true);
    }
    let layers = branch.layers(shared, given_up)?;
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

/// Held while a result is waited for. The engine drops what it waits for no longer; a task on a thread
/// of its own does not end with that and looks here.
struct Wanted(Arc<AtomicBool>);

impl Wanted {
    fn new() -> Self {
        Self(Arc::default())
    }

    /// Set once the result is wanted no longer.
    fn given_up(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
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

fn elapsed(now: SystemTime, from: SystemTime) -> Duration {
    now.duration_since(from).unwrap_or_default()
}

/// Requests offered for each place of a block, because some may be refused.
const CANDIDATES_PER_PLACE: usize = 2;

/// Blocks above this node's final state up to which a proposal's parent is executed for a view. A node
/// in step is a few blocks behind agreement, and at most the 16 that wait to be applied; twice that
/// leaves room for those that are agreed on meanwhile. At some 5 ms for a block of 200 transactions a
/// branch takes 160 ms, far below the certification timer.
const BRANCH_BLOCKS_MAX: u64 = 32;

/// Bytes of a branch that are held in memory for a view. At 4 MiB a block, the standard settings, the
/// count binds first (33 x 4 MiB = 132 MiB); of the largest blocks, 64 MiB each, three are held.
const BRANCH_BYTES_MAX: usize = 208 << 20;

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::atomic::AtomicUsize,
        task::{Context as TaskContext, Poll},
    };

    use commonware_consensus::{
        marshal::ancestry::from_iter,
        types::{Epoch, Round, View},
    };
    use commonware_runtime::{Clock as _, Supervisor as _};
    use futures::Stream;
    use ledger::testing::FourHospitals;

    use super::*;
    use crate::engine::testing::{ToyLedger, apply, forge, node, run};

    /// A branch that counts the blocks taken of it.
    #[derive(Clone)]
    struct Counted<A> {
        inner: A,
        taken: Arc<AtomicUsize>,
    }

    impl<A: Ancestry<ConsensusBlock>> Stream for Counted<A> {
        type Item = Digested<ConsensusBlock>;

        fn poll_next(
            mut self: Pin<&mut Self>,
            context: &mut TaskContext<'_>,
        ) -> Poll<Option<Self::Item>> {
            let next = Pin::new(&mut self.inner).poll_next(context);
            if let Poll::Ready(Some(_)) = &next {
                self.taken.fetch_add(1, Ordering::Relaxed);
            }
            next
        }
    }

    impl<A: Ancestry<ConsensusBlock>> Ancestry<ConsensusBlock> for Counted<A> {
        fn peek(&self) -> Option<&Digested<ConsensusBlock>> {
            self.inner.peek()
        }
    }

    /// The blocks from the one at `height` down to the founding block.
    fn down_from(chain: &ToyLedger, height: usize) -> impl Ancestry<ConsensusBlock> {
        let blocks = chain.blocks[..=height].iter().rev();
        from_iter(blocks.map(|block| block.clone().digested()))
    }

    /// What the engine says of the view in which this block was proposed.
    fn turn(block: &ConsensusBlock) -> Context<Digest, PublicKey> {
        let header = *block.block().header();
        Context {
            // With a term of one view both numbers of a view are the same.
            round: Round::new(Epoch::zero(), View::new(header.view.number())),
            leader: keys::public(&header.producer).expect("a node's key"),
            parent: (
                View::new(header.view.number() - 1),
                super::super::block::digest_of(&header.previous),
            ),
        }
    }

    /// The story: a node that was far behind walked from a proposal's parent down to its applied tip,
    /// held every block of the way in memory, and executed them all for one vote, also after the
    /// engine had given that vote up.
    #[test]
    fn a_node_far_behind_abstains_applies_and_votes_again() {
        run(|context| async move {
            let hospitals = FourHospitals::default();
            let shared = node(&context, &hospitals, 4);
            let mut chain = ToyLedger::new(&hospitals);
            for _ in 0..60 {
                chain.grow(&hospitals, 10, &[]);
            }
            let taken = Arc::new(AtomicUsize::new(0));
            let counted = |height| Counted {
                inner: down_from(&chain, height),
                taken: Arc::clone(&taken),
            };
            assert!(Branch::gather(&shared, counted(59)).await.is_none());
            assert_eq!(taken.swap(0, Ordering::Relaxed), 1, "the way is not begun");
            let longest = usize::try_from(BRANCH_BLOCKS_MAX).expect("small");
            assert!(
                Branch::gather(&shared, counted(longest + 1))
                    .await
                    .is_none()
            );
            taken.store(0, Ordering::Relaxed);
            let branch = Branch::gather(&shared, counted(longest)).await;
            assert_eq!(branch.expect("near enough").ancestors.len(), longest + 1);
            assert_eq!(taken.load(Ordering::Relaxed), longest + 1);

            let mut rules = Rules::new(Arc::clone(&shared));
            let last = &chain.blocks[60];
            {
                let asked = (context.child("verify"), turn(last));
                let verdict = pin!(rules.verify(asked, down_from(&chain, 60)));
                let up = pin!(context.sleep(Duration::from_secs(60)));
                let abstained = matches!(select(verdict, up).await, Either::Right(_));
                assert!(abstained, "60 blocks ahead of what is applied");
            }
            assert_eq!(shared.abandoned_validations.load(Ordering::Relaxed), 1);
            for block in &chain.blocks[1..=40] {
                apply(&shared, block);
            }
            let asked = (context.child("verify"), turn(last));
            assert!(rules.verify(asked, down_from(&chain, 60)).await);
        });
    }

    #[test]
    fn nothing_is_executed_for_a_vote_that_was_given_up() {
        run(|context| async move {
            let hospitals = FourHospitals::default();
            let shared = node(&context, &hospitals, 4);
            let mut chain = ToyLedger::new(&hospitals);
            for _ in 0..3 {
                chain.grow(&hospitals, 10, &[]);
            }
            let branch = Branch::gather(&shared, down_from(&chain, 3)).await;
            let branch = branch.expect("near enough");
            let wanted = Wanted::new();
            let given_up = wanted.given_up();
            drop(wanted);
            assert!(branch.layers(&shared, &given_up).is_none());
            let first = chain.blocks[1].block().header().height;
            assert!(shared.executed(first, &chain.blocks[1].id()).is_none());
            let wanted = Wanted::new();
            assert!(branch.layers(&shared, &wanted.given_up()).is_some());
            assert!(shared.executed(first, &chain.blocks[1].id()).is_some());
        });
    }

    /// A voter whose clock is behind waits until the block is within the drift of it, and then votes:
    /// what is valid must not depend on a clock.
    #[test]
    fn a_block_ahead_of_the_clock_is_waited_for_and_then_voted_for() {
        run(|context| async move {
            let hospitals = FourHospitals::default();
            let shared = node(&context, &hospitals, 4);
            let drift = hospitals.genesis.settings.clock_drift;
            assert_eq!(drift, Duration::from_secs(1));
            let mut chain = ToyLedger::new(&hospitals);
            chain.grow(&hospitals, 6_000, &[]);
            let block = &chain.blocks[1];
            let mut rules = Rules::new(Arc::clone(&shared));
            let asked = (context.child("verify"), turn(block));
            let mut verdict = pin!(rules.verify(asked, down_from(&chain, 1)));
            let almost = pin!(context.sleep(Duration::from_millis(4_950)));
            let waiting = matches!(select(verdict.as_mut(), almost).await, Either::Right(_));
            assert!(waiting, "1,050 ms ahead of the clock");
            assert_eq!(shared.waits_for_clock.load(Ordering::Relaxed), 1);
            let soon = pin!(context.sleep(Duration::from_millis(100)));
            match select(verdict, soon).await {
                Either::Left((valid, _)) => assert!(valid),
                Either::Right(_) => panic!("it is within the drift now"),
            }
            assert_eq!(shared.abandoned_validations.load(Ordering::Relaxed), 0);
        });
    }

    #[test]
    fn a_block_within_the_drift_is_not_waited_for_and_one_not_after_its_parent_is_refused() {
        run(|context| async move {
            let hospitals = FourHospitals::default();
            let shared = node(&context, &hospitals, 4);
            let mut chain = ToyLedger::new(&hospitals);
            chain.grow(&hospitals, 1_000, &[]);
            chain.grow(&hospitals, 10, &[]);
            let mut rules = Rules::new(Arc::clone(&shared));
            let before = context.current();
            let asked = (context.child("verify"), turn(&chain.blocks[1]));
            assert!(rules.verify(asked, down_from(&chain, 1)).await);
            assert_eq!(shared.waits_for_clock.load(Ordering::Relaxed), 0);
            assert!(elapsed(context.current(), before) < Duration::from_millis(50));

            context.sleep(Duration::from_secs(10)).await;
            let parent_time = chain.blocks[1].block().time().number();
            for time in [parent_time, parent_time - 1, 0] {
                let forged = forge(&hospitals, &chain.blocks[2], |header| {
                    header.time = Timestamp::new(time);
                });
                let branch = [&forged, &chain.blocks[1], &chain.blocks[0]]
                    .map(|block| block.clone().digested());
                let asked = (context.child("verify"), turn(&forged));
                assert!(!rules.verify(asked, from_iter(branch)).await, "{time}");
            }
            let asked = (context.child("verify"), turn(&chain.blocks[2]));
            assert!(rules.verify(asked, down_from(&chain, 2)).await);
        });
    }
}
