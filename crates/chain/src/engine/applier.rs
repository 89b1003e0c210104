//! Commit: final blocks in their order, each applied once.
//!
//! The engine delivers every final block in order and at least once, and lags behind by design, so
//! what was applied before a restart is skipped. A block's changes, its bytes, its certificate and
//! the height are written in one synced commit; only then it is acknowledged. The task has a thread
//! of its own, because the disk may take its time and votes must not wait for it.

use std::sync::Arc;

use commonware_actor::Feedback;
use commonware_codec::Encode as _;
use commonware_consensus::{
    Reporter,
    marshal::{Update, core::Mailbox, standard::Standard},
};
use commonware_utils::{Acknowledgement as _, acknowledgement::Exact};
use ledger::{BlockId, Changes, EncodedBlock, Height, Overlay, TransactionId, execute};
use tokio::sync::mpsc;
use tracing::{debug, error, info};

use super::{
    Scheme,
    archive::{KEPT, PRUNED_AT_ONCE},
    block::{ConsensusBlock, digest_of, height_of},
};
use crate::{
    node::{FinalBlock, Shared},
    store::{Commit, StoreError},
};

/// The way from the engine to the applying task. Marshal holds back after a fixed number of
/// unacknowledged blocks, so the queue behind it is bounded by that number.
#[derive(Clone)]
pub(crate) struct Delivery {
    blocks: mpsc::UnboundedSender<(ConsensusBlock, Exact)>,
}

impl Reporter for Delivery {
    type Activity = Update<ConsensusBlock>;

    fn report(&mut self, update: Update<ConsensusBlock>) -> Feedback {
        let Update::Block(block, acknowledgement) = update else {
            return Feedback::Ok;
        };
        match self.blocks.send((block.inner().clone(), acknowledgement)) {
            Ok(()) => Feedback::Ok,
            Err(_) => Feedback::Closed,
        }
    }
}

/// Applies final blocks.
pub(crate) struct Applier {
    shared: Arc<Shared>,
    blocks: mpsc::UnboundedReceiver<(ConsensusBlock, Exact)>,
}

/// The two ends of the way from the engine to the store.
pub(crate) fn delivery(shared: Arc<Shared>) -> (Delivery, Applier) {
    let (sender, blocks) = mpsc::unbounded_channel();
    (Delivery { blocks: sender }, Applier { shared, blocks })
}

impl Applier {
    /// Runs until the engine stops or the store fails. After a failure nothing is acknowledged, so
    /// that the next start is given the block again.
    pub(crate) async fn run(mut self, marshal: Mailbox<Scheme, Standard<ConsensusBlock>>) {
        while let Some((block, acknowledgement)) = self.blocks.recv().await {
            let header = block.block().header();
            let tip = self.shared.view().tip().clone();
            if header.height <= tip.height {
                if let Err(failure) = applied_before(&self.shared, &block) {
                    error!(%failure, height = %header.height, "the node stops taking part");
                    self.shared
                        .fail(format!("block {}: {failure}", header.height));
                    return;
                }
                debug!(height = %header.height, "skipped a block that was applied before");
                acknowledgement.acknowledge();
                continue;
            }
            let certificate = marshal
                .get_finalization(height_of(header.height))
                .await
                .filter(|finalization| finalization.proposal.payload == digest_of(&block.id()))
                .map(|finalization| finalization.encode().to_vec());
            if let Err(failure) = apply(&self.shared, &block, certificate) {
                error!(%failure, height = %header.height, "the node stops taking part");
                self.shared
                    .fail(format!("block {}: {failure}", header.height));
                return;
            }
            acknowledgement.acknowledge();
            // What was applied stands in the store, also for peers that ask the engine for it.
            let height = header.height.number();
            if height % PRUNED_AT_ONCE == 0 && height > KEPT {
                marshal.prune(height_of(Height::new(height - KEPT)));
            }
        }
    }
}

/// That a final block at or below the tip is the one that was applied there. If not, two blocks are
/// final at one height.
fn applied_before(shared: &Shared, block: &ConsensusBlock) -> Result<(), Failure> {
    let height = block.block().header().height;
    if shared.store.height_of(&block.id())? == Some(height) {
        return Ok(());
    }
    Err(Failure::Forked(block.id()))
}

/// Writes a final block and what it changes, and tells who waits for it. It has to be the next one.
pub(super) fn apply(
    shared: &Shared,
    block: &ConsensusBlock,
    certificate: Option<Vec<u8>>,
) -> Result<(), Failure> {
    let header = block.block().header();
    let view = shared.view();
    let changes = match shared.executed(header.height, &block.id()) {
        Some(changes) => changes,
        None => Arc::new(execute_final(shared, block)?),
    };
    let transactions: Vec<TransactionId> = block
        .block()
        .transactions()
        .iter()
        .map(|transaction| transaction.id(&shared.consortium))
        .collect();
    let tip = view.tip().next(
        header.height,
        block.id(),
        header.state_root,
        header.time,
        &header.producer,
    );
    shared.store.commit(Commit {
        tip: &tip,
        block: block.bytes(),
        certificate: certificate.as_deref(),
        transactions: &transactions,
        changes: &changes,
    })?;
    let view = shared.store.view()?.ok_or(StoreError::Damaged("the tip"))?;
    info!(
        height = %header.height,
        transactions = transactions.len(),
        producer = %header.producer,
        "final"
    );
    let block = FinalBlock {
        block: block.shared(),
        certificate: certificate.map(Into::into),
    };
    shared.became_final(view, block, &transactions);
    Ok(())
}

fn execute_final(shared: &Shared, block: &ConsensusBlock) -> Result<Changes, Failure> {
    let view = shared.view();
    let parent = shared.store.block(view.tip().height)?;
    let parent = parent.ok_or(StoreError::Damaged("the chain of blocks"))?;
    let parent = EncodedBlock::new(parent.block)
        .header()
        .map_err(|_| StoreError::Damaged("a block"))?;
    execute(&Overlay::new(view.as_ref()), &parent, block.block())
        .map_err(|invalid| Failure::Invalid(invalid.to_string()))
}

/// Why a final block could not be applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Either more than f nodes are faulty or this node's software is; in both cases it must not go
    /// on as if nothing happened.
    #[error("a final block is not valid: {0}")]
    Invalid(String),
    /// As above: agreement does not hold any more.
    #[error(
        "block {0:?} is final where this node applied another one; keep this node's folder, which proves it, and ask the consortium"
    )]
    Forked(BlockId),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use ledger::testing::FourHospitals;

    use super::*;
    use crate::engine::testing::{ToyLedger, forge, node, run};

    /// The story: a final block at a height that was applied before was acknowledged whatever it was,
    /// so a fork would have passed in silence.
    #[test]
    fn another_final_block_where_one_was_applied_is_noticed() {
        run(|context| async move {
            let hospitals = FourHospitals::default();
            let shared = node(&context, &hospitals, 1);
            let mut chain = ToyLedger::new(&hospitals);
            chain.grow(&hospitals, 10, &[]);
            let (block, _) = chain.grow(&hospitals, 10, &[]);
            for block in &chain.blocks[1..] {
                apply(&shared, block, None).expect("valid");
            }
            for block in &chain.blocks {
                assert!(applied_before(&shared, block).is_ok());
            }
            let other = forge(&hospitals, &block, |header| {
                header.time = scheme::Timestamp::new(header.time.number() + 1);
            });
            let failure = applied_before(&shared, &other).expect_err("a fork");
            assert!(failure.to_string().contains("another"), "{failure}");
        });
    }
}
