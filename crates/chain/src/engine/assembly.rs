//! One node out of its parts: rules, store, pool, marshal, agreement, channels.

use std::{
    collections::BTreeMap,
    future::Future,
    num::{NonZero, NonZeroU64, NonZeroUsize},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use commonware_broadcast::buffered;
use commonware_codec::Encode as _;
use commonware_consensus::{
    marshal::{
        self,
        core::Actor as MarshalActor,
        resolver,
        standard::{Inline, Standard},
        store::{Blocks as _, Certificates as _},
    },
    simplex::{self, types::Finalization},
    types::ViewDelta,
};
use commonware_cryptography::Signer as _;
use commonware_p2p::{
    Blocker, Channel, Provider, Receiver, Sender, max_message_size, utils::mux::prefixed,
};
use commonware_parallel::Sequential;
use commonware_runtime::{
    Blob as _, Quota,
    buffer::paged::{CacheRef, page_size},
};
use commonware_storage::archive::Identifier;
use commonware_utils::{NZU32, NZU64, NZUsize, NonZeroDuration, SystemTimeExt as _};
use futures::future::{Either, select, select_all};
use ledger::{Genesis, Height, Limits, ReadError, genesis};
use scheme::{SigningKey, Timestamp, ValidatorEpoch};
use thiserror::Error;
use tracing::info;

use super::{
    Digest, PublicKey, Runtime, Scheme,
    application::Rules,
    applier::{apply, delivery},
    archive::{FinalBlocks, FinalCertificates, newest_certificate},
    block::{ConsensusBlock, digest_of},
    certificate::Members,
    epochs::{Connections, EpochChannels, Epochs, epocher, keep_connected},
    keys, requests,
};
use crate::{
    config::{BadConfig, CHANNEL_QUOTA, NodeConfig, Timers},
    node::{NodeClock, Seats, Shared},
    store::{Commit, FinalView, Store, StoreError, Tip},
};

/// Why a node did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NotStarted {
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// The founding document makes no chain.
    #[error("the founding document cannot be used: {0}")]
    Genesis(String),
    /// The consortium begins later than this node's clock says it is.
    #[error(
        "the consortium is founded {ahead_ms} ms ahead of this node's clock; set the clock, or start the node when the time has come"
    )]
    NotYetFounded {
        /// By how many milliseconds.
        ahead_ms: u64,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store holds the chain of another consortium.
    #[error("the store holds another chain; give this node a folder of its own")]
    OtherChain,
    /// The folder has another layout.
    #[error(
        "{0} says that this node's folder was written by another release of willis than this one can read: start that release, or one that follows it"
    )]
    OtherLayout(std::path::PathBuf),
    /// The chain goes by rules of a later release.
    #[error(transparent)]
    Rules(ReadError),
    /// The store has blocks, the engine's files are gone, and the key has a seat: it may have voted.
    #[error(
        "the engine's files, with what this node voted for, are gone, and its key has a seat: under it the node might vote twice; put the files back if they are of the same moment as the store, else give the node its next key (`willis membership succeed`) and start it under that"
    )]
    VotesForgotten,
    /// The store was put back from a copy that is older than the engine's files.
    #[error(
        "the node's store ends with block {has}, but this node has applied blocks up to {applied}: the store was put back from an old copy, and the engine's files do not hold all blocks between any more; put back a newer copy, or give the node its next key (`willis membership succeed`) and start it on this store under that"
    )]
    StoreIsOld {
        /// The last block of the store.
        has: Height,
        /// The last block that was applied.
        applied: Height,
    },
    /// A peer's key or address cannot be used.
    #[error("a peer cannot be reached as configured: {0}")]
    Peer(String),
    /// The engine's own files cannot be used.
    #[error("the engine's files cannot be used: {0}")]
    Engine(String),
    /// The folder for the engine's own files cannot be used.
    #[error("the node's folder cannot be used")]
    Folder(#[source] std::io::Error),
}

/// A node before it has a network.
pub(crate) struct NodeParts {
    pub(crate) genesis: Genesis,
    pub(crate) key: SigningKey,
    pub(crate) config: NodeConfig,
    pub(crate) store: Arc<dyn Store>,
}

/// The channels of a node, each a sender and a receiver.
pub(crate) struct Channels<S, R, B, P> {
    pub(crate) votes: (S, R),
    pub(crate) certificates: (S, R),
    pub(crate) certificate_requests: (S, R),
    pub(crate) blocks: (S, R),
    pub(crate) backfill: (S, R),
    pub(crate) requests: (S, R),
    pub(crate) blocker: B,
    pub(crate) provider: P,
}

/// The numbers of the channels on the wire, in the order of [`Channels`].
pub(crate) const CHANNELS: [Channel; 6] = [0, 1, 2, 3, 4, 5];

/// How many messages a second a peer may send on a channel.
pub(crate) const QUOTA: Quota = Quota::per_second(NZU32!(CHANNEL_QUOTA));

/// The largest message, however many nodes there will be.
pub(crate) fn message_bytes(limits: &Limits, config: &NodeConfig) -> u32 {
    let nodes = u32::try_from(ledger::NODES_MAX).expect("a node set is bounded");
    let largest = ledger::TRANSACTION_BYTES_MAX + LENGTH_BYTES;
    let batch = KIND_BYTES + config.pool.batch_bytes.max(largest);
    max_message_size(&[
        // On a sub-channel of its validator epoch.
        prefixed(simplex::max_payload_size::<Scheme, Digest>(nodes)),
        marshal::max_payload_size::<Standard<ConsensusBlock>, Scheme>(nodes, limits),
        batch,
    ])
}

/// Puts the founding block into an empty store, or checks that it stands in a filled one, and makes
/// what the parts of the node share.
pub(crate) fn prepare<E: Runtime>(
    context: &E,
    parts: NodeParts,
) -> Result<(Arc<Shared>, ConsensusBlock), NotStarted> {
    let clock = RuntimeClock(context.child("clock"));
    prepare_with_clock(Box::new(clock), parts)
}

/// Likewise, on a clock that may go wrong.
pub(crate) fn prepare_with_clock(
    clock: Box<dyn NodeClock>,
    parts: NodeParts,
) -> Result<(Arc<Shared>, ConsensusBlock), NotStarted> {
    let settings = parts.genesis.settings;
    let unusable = |error: &dyn std::error::Error| NotStarted::Genesis(error.to_string());
    let (first, changes) = genesis(&parts.genesis).map_err(|error| unusable(&error))?;
    parts.config.check(&Timers::of(&settings))?;
    // Every voter would wait for its clock with each block, and nobody would say why.
    let drift = u64::try_from(settings.clock_drift.as_millis()).unwrap_or(u64::MAX);
    let ahead_ms = parts
        .genesis
        .time
        .number()
        .saturating_sub(clock.now().number());
    if ahead_ms > drift {
        return Err(NotStarted::NotYetFounded { ahead_ms });
    }
    let first = ConsensusBlock::new(first);
    let header = first.block().header();
    match parts.store.block(header.height)? {
        None => parts.store.commit(Commit {
            tip: &Tip {
                height: header.height,
                block: first.id(),
                state_root: header.state_root,
                time: header.time,
                led: BTreeMap::new(),
            },
            block: first.bytes(),
            certificate: None,
            transactions: &[],
            changes: &changes,
        })?,
        Some(stored) if stored.block == first.bytes() => {}
        Some(_) => return Err(NotStarted::OtherChain),
    }
    let view = parts.store.view()?.ok_or(StoreError::Damaged("the tip"))?;
    let epoch = settings.epoch_of(view.tip().height.next());
    known_rules(view.as_ref(), epoch)?;
    let seats = Seats::read(view.as_ref(), epoch, settings.leader_term)?;
    let shared = Shared::new(
        parts.genesis.consortium(),
        parts.key,
        seats,
        &settings,
        parts.config,
        parts.store,
        view,
        clock,
    );
    Ok((Arc::new(shared), first))
}

/// Starts the parts of a node, whose files lie under `partition` in its runtime's storage. The returned
/// future runs until the engine stops; dropping the task it runs in stops all of them at once, as a crash
/// does.
pub(crate) async fn start<E, S, R, B, P>(
    context: E,
    shared: Arc<Shared>,
    first: ConsensusBlock,
    partition: String,
    channels: Channels<S, R, B, P>,
    connections: Box<dyn Connections>,
) -> Result<(), NotStarted>
where
    E: Runtime,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
    B: Blocker<PublicKey = PublicKey> + Sync,
    P: Provider<PublicKey = PublicKey>,
{
    let members = Members::new(Arc::clone(&shared));
    let me = keys::private(&shared.key).public_key();
    let epocher = epocher(shared.settings.epoch_blocks)?;
    let page_cache = CacheRef::new(PAGE_BYTES, PAGES);
    let timers = shared.timers.clone();
    let fetch = NonZeroDuration::new(shared.config.fetch)
        .ok_or(BadConfig("the time for fetching is not zero"))?;

    let begins_at = match has_files(&context, &partition).await? {
        true => None,
        false => where_to_begin(&shared)?,
    };
    let unusable = |error: &dyn std::error::Error| NotStarted::Engine(error.to_string());
    mark_files(&context, &partition).await?;
    let certificates = FinalCertificates::open(
        context.child("finalizations"),
        &partition,
        &page_cache,
        Arc::clone(&shared.store),
    )
    .await
    .map_err(|error| unusable(&error))?;
    let blocks = FinalBlocks::open(
        context.child("blocks"),
        &partition,
        &page_cache,
        Arc::clone(&shared.store),
        shared.limits,
    )
    .await
    .map_err(|error| unusable(&error))?;

    catch_up(&shared, &certificates, &blocks).await?;

    let (buffer, buffer_mailbox) = buffered::Engine::new(
        context.child("buffer"),
        buffered::Config {
            public_key: me.clone(),
            mailbox_size: MAILBOX,
            deque_size: BLOCKS_BUFFERED,
            priority: true,
            codec_config: shared.limits,
            peer_provider: channels.provider.clone(),
            strategy: Sequential,
        },
    );
    let resolver = resolver::p2p::init(
        context.child("backfill"),
        resolver::p2p::Config {
            public_key: me,
            peer_provider: channels.provider,
            blocker: channels.blocker.clone(),
            mailbox_size: MAILBOX,
            fetch_timeout: fetch,
            fetch_retry_delay: FETCH_RETRY,
            priority_requests: false,
            priority_responses: false,
        },
        channels.backfill,
    );
    let (marshal, mailbox, floor) = MarshalActor::init(
        context.child("marshal"),
        certificates,
        blocks,
        marshal::Config {
            provider: members.clone(),
            epocher: epocher.clone(),
            // Its own progress wins over this once there is any.
            start: match begins_at {
                Some(certificate) => marshal::Start::Floor(certificate),
                None => marshal::Start::Genesis(first.digested()),
            },
            partition_prefix: format!("{partition}-marshal"),
            mailbox_size: MAILBOX,
            view_retention: ViewDelta::new(VIEWS_RETAINED * MARSHAL_RETENTION),
            prunable_items_per_section: ITEMS_PER_SECTION,
            page_cache: page_cache.clone(),
            replay_buffer: REPLAY_BUFFER,
            key_write_buffer: WRITE_BUFFER,
            value_write_buffer: WRITE_BUFFER,
            block_codec_config: shared.limits,
            max_repair: REPAIRS,
            max_pending_acks: PENDING_ACKNOWLEDGEMENTS,
            strategy: Sequential,
        },
    )
    .await;
    // It delivers what follows this block, and would never deliver what the store lacks before.
    let has = shared.view().tip().height;
    let applied = floor
        .processed()
        .map(|processed| Height::new(processed.height().get()));
    if let Some(applied) = applied.filter(|applied| *applied > has) {
        return Err(NotStarted::StoreIsOld { has, applied });
    }
    let inline = Inline::new(
        context.child("inline"),
        Rules::new(Arc::clone(&shared)),
        mailbox.clone(),
        epocher,
    );
    let mut rng = context.child("weights");
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    let epochs = Epochs {
        shared: Arc::clone(&shared),
        members,
        application: inline,
        marshal: mailbox.clone(),
        channels: EpochChannels::divide(
            &context.child("epochs"),
            channels.votes,
            channels.certificates,
            channels.certificate_requests,
        ),
        blocker: channels.blocker,
        page_cache,
        partition,
        seed,
    };

    let (delivery, applier) = delivery(Arc::clone(&shared));
    let applying = context.child("applier").dedicated().spawn({
        let mailbox = mailbox.clone();
        move |_| applier.run(mailbox)
    });
    let carrying = context.child("requests").spawn({
        let shared = Arc::clone(&shared);
        let (sender, receiver) = channels.requests;
        move |runtime| requests::carry(runtime, shared, sender, receiver)
    });
    let connecting = context.child("connections").spawn({
        let shared = Arc::clone(&shared);
        move |_| keep_connected(shared, connections)
    });
    let buffering = buffer.start(channels.blocks);
    let ordering = marshal.start(delivery, buffer_mailbox, resolver);
    // Agreement starts last, so that everything it reports to is there, and nodes to agree with are.
    shared.wait_for_others(timers.leader).await;
    let agreeing = pin!(epochs.run(context.child("epochs")));
    let stopped = select_all([applying, carrying, connecting, buffering, ordering]);
    // A part that ends takes the node with it: half a node could vote without applying.
    match select(stopped, agreeing).await {
        Either::Left(((ended, _, _), _)) => {
            shared.fail(format!("a part of the node ended: {ended:?}"));
            Ok(())
        }
        Either::Right((ended, _)) => ended,
    }
}

/// Applies what the engine's files hold beyond the store: all of it is final. After a crash that is a block
/// at most; more if the store was put back from a copy.
async fn catch_up<E: Runtime>(
    shared: &Shared,
    certificates: &FinalCertificates<E>,
    blocks: &FinalBlocks<E>,
) -> Result<(), NotStarted> {
    let unusable = |error: &dyn std::error::Error| NotStarted::Engine(error.to_string());
    loop {
        let next = shared.view().tip().height.next();
        let place = Identifier::Index(next.number());
        let found = blocks.get(place).await.map_err(|error| unusable(&error))?;
        let Some(block) = found else {
            return Ok(());
        };
        let place = Identifier::Index(next.number());
        let certificate = certificates.get(place).await;
        let certificate = certificate
            .map_err(|error| unusable(&error))?
            .filter(|certificate| certificate.proposal.payload == digest_of(&block.id()))
            .map(|certificate| certificate.encode().to_vec());
        apply(shared, &block, certificate).map_err(|error| unusable(&error))?;
        info!(height = %next, "applied from the engine's files what the store lacked");
    }
}

/// That this release knows the rules of a validator epoch.
pub(super) fn known_rules(view: &dyn FinalView, epoch: ValidatorEpoch) -> Result<(), NotStarted> {
    ledger::check_rules(view, epoch).map_err(|error| match error {
        ReadError::UnknownRules { .. } => NotStarted::Rules(error),
        error => StoreError::io("read", error).into(),
    })
}

/// Whether this node has run with its files under this partition.
async fn has_files<E: Runtime>(context: &E, partition: &str) -> Result<bool, NotStarted> {
    match context.scan(&mark_of(partition)).await {
        Ok(_) => Ok(true),
        Err(commonware_runtime::Error::PartitionMissing(_)) => Ok(false),
        Err(error) => Err(NotStarted::Engine(error.to_string())),
    }
}

/// Notes, durably and before anything is voted for, that it has.
async fn mark_files<E: Runtime>(context: &E, partition: &str) -> Result<(), NotStarted> {
    let unusable = |error: commonware_runtime::Error| NotStarted::Engine(error.to_string());
    let (mark, _) = context
        .open(&mark_of(partition), b"run")
        .await
        .map_err(unusable)?;
    mark.sync().await.map_err(unusable)
}

fn mark_of(partition: &str) -> String {
    format!("{partition}-run")
}

/// The newest certificate of a store: where a node begins whose files are new and whose store is not,
/// since it runs under its institution's next key, or its chain came from a backup. `None` for a store
/// that has the founding block alone.
fn where_to_begin(shared: &Shared) -> Result<Option<Finalization<Scheme, Digest>>, NotStarted> {
    let view = shared.view();
    let tip = view.tip();
    let own = shared.key.verifying_key();
    let seated = shared.seats().nodes.by_key(&own).is_some();
    if tip.height > Height::new(0) && (seated || tip.led.contains_key(own.as_bytes())) {
        return Err(NotStarted::VotesForgotten);
    }
    let found = newest_certificate(shared.store.as_ref(), tip.height, Height::new(1))?;
    Ok(found)
}

/// The node's clock is its runtime's.
struct RuntimeClock<E>(E);

impl<E: Runtime> NodeClock for RuntimeClock<E> {
    fn now(&self) -> Timestamp {
        Timestamp::new(self.0.current().epoch_millis())
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.0.sleep(duration))
    }
}

/// Messages between the engine's tasks: as many as a peer's burst on a channel.
pub(super) const MAILBOX: NonZeroUsize = NZUsize!(CHANNEL_QUOTA as usize);

/// Blocks kept of each peer until they are agreed on: a leader is at most a few ahead.
const BLOCKS_BUFFERED: usize = 10;

/// Views behind the last final one whose votes are kept for stragglers, in memory and in the journal.
pub(super) const VIEWS_RETAINED: u64 = 256;

/// Marshal keeps unfinished blocks this many times longer, for peers near the tip.
const MARSHAL_RETENTION: u64 = 10;

/// Missing blocks asked for at one time while catching up.
const REPAIRS: NonZeroUsize = NZUsize!(20);

/// Final blocks handed to the applying task before it acknowledged the first: at 4 MiB of body each,
/// 64 MiB.
const PENDING_ACKNOWLEDGEMENTS: NonZeroUsize = NZUsize!(16);

/// The pause before an unanswered fetch goes to another peer.
pub(super) const FETCH_RETRY: Duration = Duration::from_millis(100);

/// Pages of 4 KiB less their checksum; 2,048 of them are 8 MiB of cache.
const PAGE_BYTES: NonZero<u16> = page_size(4_096);
const PAGES: NonZeroUsize = NZUsize!(2_048);

/// Buffers of 256 KiB for each of some 15 files that are written to.
pub(super) const WRITE_BUFFER: NonZeroUsize = NZUsize!(256 << 10);
pub(super) const REPLAY_BUFFER: NonZeroUsize = NZUsize!(1 << 20);

/// Entries of one section of marshal's caches; fixed for the life of their files.
const ITEMS_PER_SECTION: NonZeroU64 = NZU64!(16_384);

/// The length before the one request of a batch that holds a single large one.
const LENGTH_BYTES: usize = 4;

/// The kind of a message on the channel of requests.
const KIND_BYTES: usize = 1;

#[cfg(test)]
mod tests {
    use ledger::testing::{FOUNDED, FourHospitals};

    use super::*;
    use crate::{
        engine::testing::run,
        store_simulated::{SimulatedDisk, SimulatedStore},
    };

    fn started(
        context: &commonware_runtime::deterministic::Context,
        alter: impl FnOnce(&mut Genesis),
    ) -> Result<(), NotStarted> {
        let hospitals = FourHospitals::default();
        let mut genesis = hospitals.genesis.clone();
        alter(&mut genesis);
        let parts = NodeParts {
            genesis,
            key: hospitals.hospital(1).node_key.clone(),
            config: NodeConfig::default(),
            store: Arc::new(SimulatedStore::open(&SimulatedDisk::new())?),
        };
        prepare(context, parts).map(drop)
    }

    /// The story: with a founding time ahead of the clocks no block came, and nothing was said at all.
    #[test]
    fn a_node_that_could_not_go_on_does_not_start() {
        run(|context| async move {
            assert!(started(&context, |_| {}).is_ok());
            let short = started(&context, |genesis| genesis.settings.epoch_blocks = 1_000);
            assert!(short.is_ok());
            let ahead = |ms| {
                started(&context, |genesis| {
                    genesis.time = Timestamp::new(FOUNDED.number() + ms);
                })
            };
            assert!(ahead(1_000).is_ok(), "within the drift");
            assert!(matches!(
                ahead(1_001),
                Err(NotStarted::NotYetFounded { ahead_ms: 1_001 })
            ));
            // Before any sum is made of them, settings are checked.
            let endless = started(&context, |genesis| {
                genesis.settings.leader_timeout = Duration::MAX;
            });
            assert!(matches!(endless, Err(NotStarted::Genesis(_))));
        });
    }
}
