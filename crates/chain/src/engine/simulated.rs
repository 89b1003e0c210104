//! A consortium in one process, from a seed: the same node code on a runtime, a network and disks
//! that are ours. Clock, scheduling, loss and delay all follow from the seed, so a run that found
//! something can be run again.

use std::{
    collections::BTreeMap,
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use commonware_p2p::simulated::{self, Config, Link, Network, Oracle};
use commonware_runtime::{
    Clock as _, Handle, Spawner as _, Supervisor as _,
    deterministic::{self, Context, FaultConfig, PartialWriteMode, WriteConfig},
};
use commonware_utils::{NZUsize, Probability, SystemTimeExt as _, probability};
use ledger::Genesis;
use rand_core::Rng as _;
use scheme::{SigningKey, Timestamp};

use super::{
    PublicKey,
    assembly::{
        CHANNELS, Channels, NodeParts, NotStarted, QUOTA, message_bytes, prepare_with_clock, start,
    },
    certificate::Member,
    epochs::Connections,
    faulty::{FaultyLeader, FaultyNode, Misdeed, babble, replay},
    keys,
    weather::{Exposed, Sky, Weather, WeatherCounts},
};
use crate::{
    config::NodeConfig,
    node::{NodeClock, NodeHandle, Shared},
    store::StoreError,
    store_simulated::{Fault, SimulatedDisk, SimulatedStore},
};

/// A node of a simulated consortium: its place in the list of keys, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimulatedNode(pub usize);

/// How messages travel between every two nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Links {
    /// Mean time from sending to delivery.
    pub latency: Duration,
    /// Its standard deviation.
    pub jitter: Duration,
    /// Messages lost out of a hundred.
    pub lost_percent: u8,
}

impl Default for Links {
    /// Hospitals of a region: 10 ms, 3 ms, none lost.
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(10),
            jitter: Duration::from_millis(3),
            lost_percent: 0,
        }
    }
}

/// A simulated consortium over several runs. Between two runs the power fails everywhere: what was
/// synced is there again; of what was not, in the nodes' stores as in the engine's own files, any
/// part is lost.
pub struct Simulator {
    genesis: Genesis,
    keys: Vec<SigningKey>,
    config: NodeConfig,
    disks: Vec<SimulatedDisk>,
    seed: u64,
    checkpoint: Option<deterministic::Checkpoint>,
}

impl Simulator {
    /// A consortium whose nodes have these keys.
    pub fn new(seed: u64, genesis: Genesis, keys: Vec<SigningKey>, config: NodeConfig) -> Self {
        let disks = keys.iter().map(|_| SimulatedDisk::new()).collect();
        Self {
            genesis,
            keys,
            config,
            disks,
            seed,
            checkpoint: None,
        }
    }

    /// Runs `main` in simulated time, from the founding or from where the last run's power failed.
    /// No node runs until `main` starts it. Handles of nodes must not outlive `main`.
    ///
    /// # Panics
    /// If a task panics, or `main` waits for something that cannot happen any more.
    pub fn run<F, Fut>(&mut self, main: F) -> Fut::Output
    where
        F: FnOnce(Simulation) -> Fut,
        Fut: Future,
    {
        let runner = match self.checkpoint.take() {
            Some(checkpoint) => deterministic::Runner::from(checkpoint),
            None => {
                let founded = Duration::from_millis(self.genesis.time.number());
                deterministic::Runner::new(
                    deterministic::Config::default()
                        .with_seed(self.seed)
                        .with_storage_fault_config(FaultConfig::default().write(TORN))
                        .with_start_time(SystemTime::UNIX_EPOCH + founded),
                )
            }
        };
        let (genesis, keys) = (self.genesis.clone(), self.keys.clone());
        let (config, disks) = (self.config.clone(), self.disks.clone());
        let (output, checkpoint) = runner.start_and_recover(|context| async move {
            main(Simulation::new(context, genesis, keys, config, disks).await).await
        });
        self.checkpoint = Some(checkpoint);
        for (disk, torn) in self.disks.iter().zip(1u64..) {
            // Any number will do; it has to follow from the seed only. A block's record without
            // transactions has some 1,500 bytes, so that one which was not synced is lost, torn or
            // whole.
            let kept = self.seed.wrapping_mul(0x9e37_79b9).wrapping_mul(torn) >> 7;
            disk.crash((kept % 4_096) as usize);
        }
        output
    }
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Simulator(seed {}, {} nodes)",
            self.seed,
            self.keys.len()
        )
    }
}

/// One run of a simulated consortium.
pub struct Simulation {
    context: Context,
    genesis: Genesis,
    keys: Vec<SigningKey>,
    config: NodeConfig,
    disks: Vec<SimulatedDisk>,
    oracle: Oracle<PublicKey, Context>,
    running: BTreeMap<SimulatedNode, (Handle<()>, NodeHandle)>,
    lives: u64,
    links: BTreeMap<(SimulatedNode, SimulatedNode), ()>,
    sky: Sky,
    /// By how many ms each node's clock is ahead.
    clocks: Vec<Arc<AtomicI64>>,
}

impl Simulation {
    async fn new(
        context: Context,
        genesis: Genesis,
        keys: Vec<SigningKey>,
        config: NodeConfig,
        disks: Vec<SimulatedDisk>,
    ) -> Self {
        let everyone: Vec<PublicKey> = keys.iter().map(public).collect();
        let size = message_bytes(&genesis.settings.limits(), &config);
        let (network, oracle) = Network::new_with_peers(
            context.child("network"),
            Config {
                max_size: size,
                max_peers_per_set: NonZeroUsize::new(keys.len()).expect("there are nodes"),
                disconnect_on_block: true,
                tracked_peer_sets: NZUsize!(2),
            },
            everyone,
        )
        .await;
        network.start();
        let running = BTreeMap::new();
        let links = BTreeMap::new();
        let places = keys.iter().map(public).zip((0..).map(SimulatedNode));
        let sky = Sky::new(places.collect());
        let clocks = keys.iter().map(|_| Arc::default()).collect();
        let mut simulation = Self {
            context,
            genesis,
            keys,
            config,
            disks,
            oracle,
            running,
            lives: 0,
            links,
            sky,
            clocks,
        };
        simulation.set_links(Links::default()).await;
        simulation
    }

    /// Gives a node the store that another, which does not run, has: as when a hospital's node starts under
    /// its next key. What the engine kept stays where it is.
    ///
    /// # Panics
    /// If the other one runs.
    pub fn take_over(&mut self, node: SimulatedNode, before: SimulatedNode) {
        assert!(!self.running.contains_key(&before), "{before:?} runs");
        self.disks[node.0] = self.disks[before.0].clone();
    }

    /// Starts a node on what its disk holds.
    ///
    /// # Errors
    /// [`NotStarted`] if it cannot start.
    pub async fn start(&mut self, node: SimulatedNode) -> Result<NodeHandle, NotStarted> {
        let key = self.keys[node.0].clone();
        self.lives += 1;
        // A metric is registered once in the life of a runtime, so each life has its own labels.
        let context = self
            .context
            .child("node")
            .with_attribute("life", self.lives);
        let store = Arc::new(SimulatedStore::open(&self.disks[node.0])?);
        let parts = NodeParts {
            genesis: self.genesis.clone(),
            key: key.clone(),
            config: self.config.clone(),
            store,
        };
        let clock = WrongClock {
            context: context.child("clock"),
            ahead_ms: Arc::clone(&self.clocks[node.0]),
        };
        let (shared, first) = prepare_with_clock(Box::new(clock), parts)?;
        let control = self.oracle.control(public(&key));
        let [
            votes,
            certificates,
            certificate_requests,
            blocks,
            backfill,
            requests,
        ] = self.channels(node).await?;
        let channels = Channels {
            votes,
            certificates,
            certificate_requests,
            blocks,
            backfill,
            requests,
            blocker: control,
            provider: self.oracle.manager(),
        };
        let handle = NodeHandle::new(Arc::clone(&shared));
        let partition = format!("node-{}", node.0);
        let task = context.spawn(move |context| async move {
            let parts = Arc::clone(&shared);
            let everyone = Box::new(Everyone);
            let running = start(context, parts, first, partition, channels, everyone);
            if let Err(error) = running.await {
                shared.fail(error);
            }
        });
        self.running.insert(node, (task, handle.clone()));
        Ok(handle)
    }

    /// Puts a faulty node into the place of one that does not run. Its blocks are on the final state of
    /// `witness`, an honest node.
    ///
    /// # Errors
    /// [`NotStarted`] if the node set cannot be used.
    pub async fn start_faulty(
        &mut self,
        node: SimulatedNode,
        misdeed: Misdeed,
        witness: &NodeHandle,
    ) -> Result<FaultyNode, NotStarted> {
        let key = self.keys[node.0].clone();
        self.lives += 1;
        let context = self
            .context
            .child("faulty")
            .with_attribute("life", self.lives);
        let acts = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&acts);
        let channels = self.channels(node).await?;
        if let Misdeed::Garbage(channel) | Misdeed::Replay(channel) = misdeed {
            let limits = self.genesis.settings.limits();
            let largest = message_bytes(&limits, &self.config) as usize;
            let mut channels = Vec::from(channels);
            let (sender, receiver) = channels.swap_remove(channel);
            context.spawn(move |context| async move {
                // The other channels stay open and silent.
                let _silent = channels;
                match misdeed {
                    Misdeed::Replay(_) => replay(context, sender, receiver, counted).await,
                    _ => babble(context, sender, receiver, largest, counted).await,
                }
            });
        } else {
            let consortium = self.genesis.consortium();
            let members = Member::new(&consortium, &witness.nodes(), &key)
                .ok_or_else(|| NotStarted::Genesis("a node's key is no point".to_owned()))?;
            let leader = FaultyLeader {
                scheme: members.scheme().clone(),
                others: self
                    .keys
                    .iter()
                    .map(public)
                    .filter(|other| *other != public(&key))
                    .collect(),
                key,
                term: self.genesis.settings.leader_term,
                limits: self.genesis.settings.limits(),
                witness: witness.clone(),
                misdeed,
                acts: counted,
            };
            let [
                votes,
                certificates,
                certificate_requests,
                blocks,
                backfill,
                requests,
            ] = channels;
            context.spawn(move |context| async move {
                let _silent = (certificates, certificate_requests, backfill, requests);
                let ((votes, _votes), (blocks, _blocks)) = (votes, blocks);
                leader.lead(context, votes, blocks).await;
            });
        }
        Ok(FaultyNode::new(acts))
    }

    async fn channels(
        &self,
        node: SimulatedNode,
    ) -> Result<[(simulated::Sender<PublicKey, Context>, Exposed); CHANNELS.len()], NotStarted>
    {
        let control = self.oracle.control(public(&self.keys[node.0]));
        let mut pairs = Vec::with_capacity(CHANNELS.len());
        for channel in CHANNELS {
            let (sender, receiver) = control
                .register(channel, QUOTA)
                .await
                .map_err(|error| NotStarted::Engine(error.to_string()))?;
            let chance = self.context.child("weather");
            let receiver = Exposed::new(receiver, self.sky.clone(), node, chance);
            pairs.push((sender, receiver));
        }
        pairs
            .try_into()
            .map_err(|_| NotStarted::Engine("a channel is missing".to_owned()))
    }

    /// Takes the power from one node in the midst of the next commit of its store, which is waited for:
    /// of that record only the first `kept_of_unsynced` bytes remain.
    pub async fn crash_in_commit(&mut self, node: SimulatedNode, kept_of_unsynced: usize) {
        if let Some((_, handle)) = self.running.get(&node) {
            let handle = handle.clone();
            self.disks[node.0].arm(0, Fault::BeforeSync);
            handle.failed().await;
        }
        self.crash(node, kept_of_unsynced);
    }

    /// Takes the power from one node: all its tasks end where they are, and of what its store did
    /// not sync only `kept_of_unsynced` bytes remain. A store syncs within a commit, so there is
    /// something that was not synced only if a fault was armed and met.
    pub fn crash(&mut self, node: SimulatedNode, kept_of_unsynced: usize) {
        if let Some((task, _)) = self.running.remove(&node) {
            task.abort();
        }
        self.disks[node.0].crash(kept_of_unsynced);
    }

    /// The node's disk, to make it fail.
    pub fn disk(&self, node: SimulatedNode) -> &SimulatedDisk {
        &self.disks[node.0]
    }

    /// The handle of a node that runs.
    pub fn node(&self, node: SimulatedNode) -> Option<&NodeHandle> {
        self.running.get(&node).map(|(_, handle)| handle)
    }

    /// The nodes that run.
    pub fn running(&self) -> impl Iterator<Item = (SimulatedNode, &NodeHandle)> {
        self.running
            .iter()
            .map(|(node, (_, handle))| (*node, handle))
    }

    /// Makes every link between two nodes like this.
    pub async fn set_links(&mut self, links: Links) {
        for one in 0..self.keys.len() {
            for other in 0..self.keys.len() {
                self.set_link(SimulatedNode(one), SimulatedNode(other), Some(links))
                    .await;
            }
        }
    }

    /// Makes every link of one node like this, to it and from it.
    pub async fn set_links_of(&mut self, node: SimulatedNode, links: Links) {
        for other in (0..self.keys.len()).map(SimulatedNode) {
            self.set_link(node, other, Some(links)).await;
            self.set_link(other, node, Some(links)).await;
        }
    }

    /// What befalls messages from now on, everywhere.
    pub fn set_weather(&self, weather: Weather) {
        self.sky.set(weather);
    }

    /// How many messages the weather and cuts befell so far.
    pub fn weather_counts(&self) -> WeatherCounts {
        self.sky.counts()
    }

    /// Lets nothing through from one node to another, until [`Simulation::heal`].
    pub fn cut(&self, from: SimulatedNode, to: SimulatedNode) {
        self.sky.cut(from, to);
    }

    /// Takes all cuts back.
    pub fn heal(&self) {
        self.sky.heal();
    }

    /// Sets a node's clock so many ms ahead of simulated time, or behind it. It runs at the same pace.
    pub fn set_clock(&self, node: SimulatedNode, ahead_ms: i64) {
        self.clocks[node.0].store(ahead_ms, Ordering::Relaxed);
    }

    /// Cuts a node off from all others.
    pub async fn isolate(&mut self, node: SimulatedNode) {
        for other in 0..self.keys.len() {
            self.set_link(node, SimulatedNode(other), None).await;
            self.set_link(SimulatedNode(other), node, None).await;
        }
    }

    /// Lets simulated time pass.
    pub async fn sleep(&self, duration: Duration) {
        self.context.sleep(duration).await;
    }

    /// Simulated time.
    pub fn now(&self) -> Timestamp {
        Timestamp::new(self.context.current().epoch_millis())
    }

    /// A number that follows from the seed.
    pub fn random(&mut self) -> u64 {
        self.context.next_u64()
    }

    async fn set_link(&mut self, from: SimulatedNode, to: SimulatedNode, links: Option<Links>) {
        if from == to {
            return;
        }
        let (sender, receiver) = (public(&self.keys[from.0]), public(&self.keys[to.0]));
        if self.links.remove(&(from, to)).is_some() {
            let removed = self
                .oracle
                .remove_link(sender.clone(), receiver.clone())
                .await;
            removed.expect("the link was added before");
        }
        let Some(links) = links else { return };
        let delivered = u64::from(100u8.saturating_sub(links.lost_percent));
        let success_rate = Probability::new(delivered, 100).expect("at most 100 of 100");
        let link = Link {
            latency: links.latency,
            jitter: links.jitter,
            success_rate,
        };
        let added = self.oracle.add_link(sender, receiver, link).await;
        added.expect("there is no such link yet");
        self.links.insert((from, to), ());
    }
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Simulation({} of {} nodes run)",
            self.running.len(),
            self.keys.len()
        )
    }
}

/// A node's clock, which may be wrong.
struct WrongClock {
    context: Context,
    ahead_ms: Arc<AtomicI64>,
}

impl NodeClock for WrongClock {
    fn now(&self) -> Timestamp {
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        Timestamp::new(
            self.context
                .current()
                .epoch_millis()
                .saturating_add_signed(ahead),
        )
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.context.sleep(duration))
    }
}

/// In a simulation each node can reach each other one, whether it belongs to the consortium or not.
struct Everyone;

impl Connections for Everyone {
    fn follow(&mut self, _: &Shared) -> Result<(), StoreError> {
        Ok(())
    }
}

fn public(key: &SigningKey) -> PublicKey {
    keys::public(&key.verifying_key()).expect("the key of a private key is a point of the curve")
}

/// When the power fails, each byte that the engine wrote and did not sync is kept or lost by itself.
const TORN: WriteConfig = WriteConfig {
    failure_rate: probability!(0.0),
    retention_rate: probability!(0.5),
    mode: PartialWriteMode::Subset,
};
