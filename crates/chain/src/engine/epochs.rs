//! Validator epochs, one after the other. Each has an engine of its own, whose first parent is the last
//! block of the epoch before, with the votes of its own nodes and a storage partition of its own.
//!
//! - A node works in the epoch of the block after the last one that it applied. Who takes part in it
//!   stands in the state from that last block on, so a node that starts again, however late, begins
//!   where its state is.
//! - Once the epoch's last block is applied, its engine is ended, its votes are removed, and the next
//!   one starts. They are no longer needed: who lags behind is given the block and its certificate.
//! - A vote of a later epoch says that its sender is ahead: it is asked for the certificate of the last
//!   block of this one. So a node that missed many epochs climbs them one by one, each under the nodes
//!   that the one before decided on.
//! - With each block that changes who belongs to the consortium, the network is told whom to connect to.

use std::{
    future::Future,
    num::NonZeroU64,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use commonware_codec::Encode as _;
use commonware_consensus::{
    marshal::{core::Mailbox, standard::Inline, standard::Standard},
    simplex::{self, types::Certificate},
    types::{FixedEpocher, ViewDelta},
};
use commonware_p2p::{
    Blocker, Channel, Message, Receiver, Recipients, Sender,
    utils::mux::{Builder as _, MuxHandle, Muxer, SubSender},
};
use commonware_parallel::Sequential;
use commonware_runtime::{Handle, buffer::paged::CacheRef};
use commonware_utils::{NonZeroDuration, channel::mpsc, non_empty_vec};
use futures::future::{Either, select};
use ledger::{EncodedBlock, Height};
use scheme::ValidatorEpoch;
use tracing::{debug, info, warn};

use super::{
    Digest, PublicKey, Runtime, Scheme,
    application::Rules,
    archive::newest_certificate,
    assembly::{
        FETCH_RETRY, MAILBOX, NotStarted, REPLAY_BUFFER, VIEWS_RETAINED, WRITE_BUFFER, known_rules,
    },
    block::{ConsensusBlock, digest_of, height_of},
    certificate::{Members, epoch as engine_epoch, participants},
    elector::FixedRotation,
    observer::Observer,
};
use crate::{
    config::BadConfig,
    node::{Seats, Shared},
    store::StoreError,
};

/// The engine's application: the rules, with the engine's own checks around them.
pub(super) type Application<E> = Inline<E, Scheme, Rules, ConsensusBlock, FixedEpocher>;

/// The three channels on which an engine speaks, each with a sub-channel for every validator epoch.
pub(super) struct EpochChannels<S: Sender> {
    votes: MuxHandle<S>,
    certificates: MuxHandle<S>,
    certificate_requests: MuxHandle<S>,
    /// Votes of epochs in which this node does not work.
    elsewhere: mpsc::Receiver<(Channel, Message<S::PublicKey>)>,
}

impl<S: Sender<PublicKey = PublicKey>> EpochChannels<S> {
    /// Divides the channels. The tasks that do run until the network closes.
    pub(super) fn divide<E, R>(
        context: &E,
        votes: (S, R),
        certificates: (S, R),
        certificate_requests: (S, R),
    ) -> Self
    where
        E: Runtime,
        R: Receiver<PublicKey = PublicKey>,
    {
        let (muxer, votes, elsewhere) = Muxer::builder(context.child("votes"), votes.0, votes.1)
            .with_backup()
            .build();
        muxer.start();
        let divide = |label, (sender, receiver)| {
            let (muxer, handle) = Muxer::new(context.child(label), sender, receiver);
            muxer.start();
            handle
        };
        Self {
            votes,
            certificates: divide("certificates", certificates),
            certificate_requests: divide("certificate_requests", certificate_requests),
            elsewhere,
        }
    }
}

/// What the engine of every epoch is made of.
pub(super) struct Epochs<E: Runtime, B, S: Sender> {
    pub(super) shared: Arc<Shared>,
    pub(super) members: Members,
    pub(super) application: Application<E>,
    pub(super) marshal: Mailbox<Scheme, Standard<ConsensusBlock>>,
    pub(super) channels: EpochChannels<S>,
    pub(super) blocker: B,
    pub(super) page_cache: CacheRef,
    pub(super) partition: String,
    pub(super) seed: [u8; 32],
}

impl<E, B, S> Epochs<E, B, S>
where
    E: Runtime,
    B: Blocker<PublicKey = PublicKey> + Sync,
    S: Sender<PublicKey = PublicKey>,
{
    /// Runs one epoch after the other. Returns only if one of them cannot go on.
    pub(super) async fn run(mut self, context: E) -> Result<(), NotStarted> {
        loop {
            let tip = self.shared.view().tip().height;
            let epoch = self.shared.settings.epoch_of(tip.next());
            known_rules(self.shared.view().as_ref(), epoch)?;
            let seats = self.shared.enter(epoch)?;
            // A crash between a border and the removal left them.
            self.forget_before(&context, epoch).await;
            info!(
                epoch = epoch.number(),
                nodes = seats.nodes.nodes().len(),
                signs = seats
                    .nodes
                    .by_key(&self.shared.key.verifying_key())
                    .is_some(),
                "works in a validator epoch"
            );
            let (running, certificates) = self.start(&context, &seats).await?;
            let showing = context.child("signs_of_life").spawn({
                let shared = Arc::clone(&self.shared);
                move |runtime| show_life(runtime, shared, epoch, certificates)
            });
            let last = self.shared.settings.last_of(epoch);
            let ended = self.until_over(&context, epoch, last, running).await;
            showing.abort();
            if let Err(why) = ended {
                return Err(NotStarted::Engine(why));
            }
        }
    }

    /// Waits until the epoch's last block is applied, and ends its engine.
    async fn until_over(
        &mut self,
        context: &E,
        epoch: ValidatorEpoch,
        last: Height,
        mut running: Handle<()>,
    ) -> Result<(), String> {
        let mut applied = self.shared.applied();
        let mut over = pin!(applied.wait_for(|height| *height >= last));
        let mut asked: Option<SystemTime> = None;
        loop {
            let elsewhere = pin!(self.channels.elsewhere.recv());
            match select(select(&mut over, &mut running), elsewhere).await {
                Either::Left((Either::Left(_), _)) => break,
                Either::Left((Either::Right((ended, _)), _)) => {
                    return Err(format!("agreement ended: {ended:?}"));
                }
                Either::Right((None, _)) => return Err("the network is closed".to_owned()),
                Either::Right((Some((of, (peer, _))), _)) => {
                    let now = context.current();
                    let due = asked.is_none_or(|at| now >= at + ASK_AGAIN);
                    if of > epoch.number() && due {
                        debug!(%peer, of, "a peer works in a later validator epoch");
                        asked = Some(now);
                        self.marshal
                            .hint_finalized(height_of(last), non_empty_vec![peer]);
                    }
                }
            }
        }
        running.abort();
        // What it had begun is over before the next epoch's begins.
        let _ = running.await;
        Ok(())
    }

    /// Starts an epoch's engine; gives also the way on which it sends certificates.
    async fn start(
        &mut self,
        context: &E,
        seats: &Seats,
    ) -> Result<(Handle<()>, SubSender<S>), NotStarted> {
        let shared = &self.shared;
        let epoch = seats.nodes.epoch();
        let engine = engine_epoch(epoch);
        let bad_key = || NotStarted::Genesis("a node's key is no point of the curve".to_owned());
        let member = self.members.of(epoch).ok_or_else(bad_key)?;
        let everyone = participants(&seats.nodes).ok_or_else(bad_key)?;
        let fetch = NonZeroDuration::new(shared.config.fetch)
            .ok_or(BadConfig("the time for fetching is not zero"))?;
        let timers = shared.timers.clone();
        let observer = Observer::new(
            self.application.clone(),
            Arc::clone(shared),
            member.scheme().clone(),
            epoch,
            everyone.iter().cloned().collect(),
            self.seed,
        );
        let context = context
            .child("agreement")
            .with_attribute("epoch", epoch.number());
        let agreement = simplex::Engine::new(
            context,
            simplex::Config {
                scheme: member.scheme().clone(),
                elector: FixedRotation {
                    rotation: seats.rotation.clone(),
                    term: shared.term,
                    stall: timers.stall,
                },
                blocker: self.blocker.clone(),
                automaton: self.application.clone(),
                relay: self.application.clone(),
                reporter: observer,
                track_historical_votes: false,
                strategy: Sequential,
                // A validator epoch's votes are no state of another's.
                partition: self.votes_of(epoch),
                mailbox_size: MAILBOX,
                epoch: engine,
                floor: simplex::Floor::Genesis(self.block_before(epoch)?),
                replay_buffer: REPLAY_BUFFER,
                write_buffer: WRITE_BUFFER,
                page_cache: self.page_cache.clone(),
                leader_timeout: timers.leader,
                certification_timeout: timers.certification,
                timeout_retry: timers.retry,
                view_retention: ViewDelta::new(VIEWS_RETAINED),
                skip: simplex::SkipPolicy::Enabled {
                    timeout: timers.inactive,
                    budget: simplex::SkipBudget::Participants,
                },
                fetch_timeout: fetch,
                fetch_retry_delay: FETCH_RETRY,
                forward: simplex::ForwardPolicy::SilentLeader,
            },
        );
        let closed = |error| NotStarted::Engine(format!("a channel is gone: {error}"));
        let channel = engine.get();
        let votes = self.channels.votes.register(channel).await;
        let certificates = self.channels.certificates.register(channel).await;
        let requests = self.channels.certificate_requests.register(channel).await;
        let certificates = certificates.map_err(closed)?;
        let way = certificates.0.clone();
        let running = agreement.start(
            votes.map_err(closed)?,
            certificates,
            requests.map_err(closed)?,
        );
        Ok((running, way))
    }

    /// The block from which an epoch's engine starts.
    fn block_before(&self, epoch: ValidatorEpoch) -> Result<Digest, NotStarted> {
        let height = self.shared.before(epoch);
        let stored = self.shared.store.block(height)?;
        let stored = stored.ok_or(StoreError::Damaged("the chain of blocks"))?;
        let header = EncodedBlock::new(stored.block)
            .header()
            .map_err(|_| StoreError::Damaged("a block"))?;
        Ok(digest_of(&header.id()))
    }

    /// Removes the votes of the epochs before.
    async fn forget_before(&self, context: &E, epoch: ValidatorEpoch) {
        let first = epoch.number().saturating_sub(FORGOTTEN);
        for earlier in first..epoch.number() {
            let partition = self.votes_of(ValidatorEpoch::new(earlier));
            match context.remove(&partition, None).await {
                Ok(()) => debug!(earlier, "removed the votes of a validator epoch"),
                Err(commonware_runtime::Error::PartitionMissing(_)) => {}
                Err(error) => {
                    warn!(%error, partition, "votes of an earlier validator epoch are still there");
                }
            }
        }
    }

    fn votes_of(&self, epoch: ValidatorEpoch) -> String {
        format!("{}-agreement-{}", self.partition, epoch.number())
    }
}

/// Sends the epoch's newest certificate to the others again and again until the first block is final here,
/// and whenever none became final for a leader's time-out.
///
/// The engine skips the view of a leader that was not heard of for a while. After a lost quorum that is
/// everybody who was away, and they would be skipped by those who missed them, one view after the other,
/// while they themselves wait for a leader's time-out in each. A certificate that all have changes nothing,
/// and whoever sends it is heard of.
async fn show_life<E: Runtime, S: Sender<PublicKey = PublicKey>>(
    runtime: E,
    shared: Arc<Shared>,
    epoch: ValidatorEpoch,
    mut certificates: SubSender<S>,
) {
    // A certificate of an earlier epoch would be another's.
    let first = shared.before(epoch).next();
    let mut height = shared.view().tip().height;
    // When the last block came; none has come since this began.
    let mut since: Option<SystemTime> = None;
    loop {
        let now = runtime.current();
        let reached = shared.view().tip().height;
        if height != reached {
            (height, since) = (reached, Some(now));
        }
        let still = since.map(|since| now.duration_since(since).unwrap_or_default());
        if still.is_none_or(|still| still >= shared.timers.leader) {
            match newest_certificate(shared.store.as_ref(), reached, first) {
                Ok(Some(certificate)) => {
                    let message = Certificate::<Scheme, Digest>::Finalization(certificate);
                    let _ = certificates.send(Recipients::All, message.encode(), true);
                }
                // Of this epoch no block is final yet.
                Ok(None) => {}
                Err(error) => {
                    shared.fail(error);
                    return;
                }
            }
        }
        // More often than votes to skip are sent again, so that who is back is heard of before them.
        runtime.sleep(shared.timers.retry / 4).await;
    }
}

/// Whom the network connects to.
pub(super) trait Connections: Send + 'static {
    /// Connects to the nodes of the consortium as the state has them after a block, and to no others.
    fn follow(&mut self, shared: &Shared) -> Result<(), StoreError>;
}

/// Tells the network of each change of who belongs to the consortium, until the node stops.
pub(super) fn keep_connected(
    shared: Arc<Shared>,
    mut connections: Box<dyn Connections>,
) -> impl Future<Output = ()> + Send {
    let mut members = shared.membership_changed();
    async move {
        loop {
            if let Err(failure) = connections.follow(&shared) {
                shared.fail(failure);
                return;
            }
            if members.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The blocks of a validator epoch, as the engine counts them.
pub(super) fn epocher(blocks: u32) -> Result<FixedEpocher, NotStarted> {
    let blocks = NonZeroU64::new(blocks.into());
    let blocks = blocks.ok_or_else(|| NotStarted::Genesis("an epoch of no blocks".to_owned()))?;
    Ok(FixedEpocher::new(blocks))
}

/// How long a peer that is ahead has for its answer before another one is asked. A certificate is a round
/// trip away.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Epochs of which votes may have been left behind: a crash leaves those of one.
const FORGOTTEN: u64 = 4;
