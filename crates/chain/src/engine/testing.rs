//! One node of the toy consortium without a network, and blocks for it, for unit tests of this crate.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use commonware_runtime::{Runner as _, deterministic};
use ledger::{
    Changes, CheckedTransaction, Header, LeaderRotation, LeaderView, MemoryView, genesis, propose,
    testing::{FOUNDED, FourHospitals},
};
use scheme::Timestamp;

use super::{
    applier,
    assembly::{NodeParts, prepare},
    block::ConsensusBlock,
    faulty::resigned,
};
use crate::{
    config::NodeConfig,
    node::Shared,
    store::Store,
    store_simulated::{SimulatedDisk, SimulatedStore},
};

/// Runs a test in simulated time, from the founding of the toy consortium on.
pub(crate) fn run<F, Fut>(main: F)
where
    F: FnOnce(deterministic::Context) -> Fut,
    Fut: Future<Output = ()>,
{
    let founded = SystemTime::UNIX_EPOCH + Duration::from_millis(FOUNDED.number());
    let config = deterministic::Config::default().with_start_time(founded);
    deterministic::Runner::new(config).start(main);
}

/// The node of a hospital on an empty store.
pub(crate) fn node(
    context: &deterministic::Context,
    hospitals: &FourHospitals,
    number: u32,
) -> Arc<Shared> {
    let store = SimulatedStore::open(&SimulatedDisk::new()).expect("an empty disk");
    node_on(context, hospitals, number, Arc::new(store))
}

/// The node of a hospital on this store.
pub(crate) fn node_on(
    context: &deterministic::Context,
    hospitals: &FourHospitals,
    number: u32,
    store: Arc<dyn Store>,
) -> Arc<Shared> {
    let parts = NodeParts {
        genesis: hospitals.genesis.clone(),
        key: hospitals.hospital(number).node_key.clone(),
        config: NodeConfig::default(),
        store,
    };
    prepare(context, parts).expect("a consortium").0
}

/// Makes a block final at a node, as the engine does.
pub(crate) fn apply(shared: &Shared, block: &ConsensusBlock) {
    certify(shared, block, None);
}

/// The same with these bytes as its certificate.
pub(crate) fn certify(shared: &Shared, block: &ConsensusBlock, certificate: Option<Vec<u8>>) {
    applier::apply(shared, block, certificate).expect("the next block, and valid");
}

/// A chain of blocks, each led by the node whose turn it is, as the engine sees them.
pub(crate) struct ToyLedger {
    /// From the founding block on.
    pub(crate) blocks: Vec<ConsensusBlock>,
    state: MemoryView,
}

impl ToyLedger {
    pub(crate) fn new(hospitals: &FourHospitals) -> Self {
        let (first, changes) = genesis(&hospitals.genesis).expect("a consortium");
        let mut state = MemoryView::new();
        state.apply(&changes);
        Self {
            blocks: vec![ConsensusBlock::new(first)],
            state,
        }
    }

    /// Adds a block so many milliseconds after the last, in the view after the last one's.
    pub(crate) fn grow(
        &mut self,
        hospitals: &FourHospitals,
        after_ms: u64,
        candidates: &[CheckedTransaction],
    ) -> (ConsensusBlock, Changes) {
        let parent = *self.blocks[self.blocks.len() - 1].block().header();
        let view = LeaderView::new(parent.view.number() + 1);
        let time = Timestamp::new(parent.time.number() + after_ms);
        let key = leader_key(hospitals, view);
        let proposal =
            propose(&self.state, &parent, view, time, candidates, key).expect("its turn");
        self.state.apply(&proposal.changes);
        let block = ConsensusBlock::new(proposal.block);
        self.blocks.push(block.clone());
        (block, proposal.changes)
    }
}

/// A block with an altered header, signed anew by the leader of its view.
pub(crate) fn forge(
    hospitals: &FourHospitals,
    block: &ConsensusBlock,
    alter: impl FnOnce(&mut Header),
) -> ConsensusBlock {
    let limits = hospitals.genesis.settings.limits();
    let key = leader_key(hospitals, block.block().header().view);
    resigned(block, &limits, key, alter)
}

fn leader_key(hospitals: &FourHospitals, view: LeaderView) -> &scheme::SigningKey {
    let nodes = hospitals.genesis.node_set().expect("four hospitals");
    let rotation = LeaderRotation::new(&nodes, hospitals.genesis.settings.leader_term);
    let leader = rotation.leader(view).institution.number();
    &hospitals.hospital(leader).node_key
}
