//! A node of a simulation that is faulty on purpose. It has its own key and place in the network and
//! keeps no rule; what the others make of it is what a test looks at.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

use commonware_codec::{Encode as _, varint::UInt};
use commonware_consensus::{
    simplex::types::{Notarize, Proposal, Vote},
    types::{Round, View},
};
use commonware_cryptography::Digestible as _;
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::{Clock as _, IoBuf, deterministic::Context};
use commonware_utils::SystemTimeExt as _;
use futures::future::{Either, select};
use ledger::{Header, LeaderTerm, LeaderView, Limits, StateRoot, propose};
use rand_core::Rng as _;
use scheme::{SigningKey, Timestamp};

use super::{PublicKey, Scheme, block::ConsensusBlock, certificate::epoch, elector::leader_view};
use crate::node::NodeHandle;

/// What a faulty node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misdeed {
    /// In its turns it proposes two valid blocks and votes for both. In its first turns no node sees
    /// both of them; then it shows both to all.
    Equivocation,
    /// In its turns it proposes a block whose state root is not the one that comes out.
    InvalidBlock,
    /// In its turns it proposes valid blocks that leave out every transaction that waits. A turn counts if
    /// one did.
    Censorship,
    /// On the channel with this number, 0 to 5, it sends again what it heard before.
    Replay(usize),
    /// On the channel with this number, 0 to 5, it sends what it hears cut short, altered and
    /// lengthened, and messages as large as the network carries.
    Garbage(usize),
}

/// A faulty node at work. It goes on until the simulation ends.
#[derive(Debug)]
pub struct FaultyNode {
    acts: Arc<AtomicU64>,
}

impl FaultyNode {
    pub(super) fn new(acts: Arc<AtomicU64>) -> Self {
        Self { acts }
    }

    /// How often it did what it does: turns in which it proposed, or messages sent.
    pub fn acts(&self) -> u64 {
        self.acts.load(Ordering::Relaxed)
    }
}

/// What a faulty leader knows.
pub(super) struct FaultyLeader {
    pub(super) key: SigningKey,
    pub(super) scheme: Scheme,
    /// The others, in the order of their places.
    pub(super) others: Vec<PublicKey>,
    pub(super) term: LeaderTerm,
    pub(super) limits: Limits,
    /// An honest node whose final state it reads, so that what it proposes can be valid.
    pub(super) witness: NodeHandle,
    pub(super) misdeed: Misdeed,
    pub(super) acts: Arc<AtomicU64>,
}

impl FaultyLeader {
    /// Proposes in each turn that follows directly on a final block.
    pub(super) async fn lead<S>(self, context: Context, mut votes: S, mut blocks: S)
    where
        S: Sender<PublicKey = PublicKey>,
    {
        let mut led = LeaderView::new(0);
        loop {
            context.sleep(LOOK).await;
            let now = Timestamp::new(context.current().epoch_millis());
            let Some((view, parent, proposed)) = self.proposals(led, now) else {
                continue;
            };
            let counts =
                self.misdeed != Misdeed::Censorship || self.witness.status().pool.requests > 0;
            let act = self.acts.fetch_add(u64::from(counts), Ordering::Relaxed);
            for (place, block) in proposed.iter().enumerate() {
                let to = self.recipients(place, act);
                let message = IoBuf::from(block.encode().to_vec());
                let _ = blocks.send(Recipients::Some(to.clone()), message, true);
                let round = Round::new(epoch(block.block().header().epoch), view);
                let proposal = Proposal::new(round, parent, block.digest());
                let vote = Notarize::sign(&self.scheme, proposal).expect("it is a member");
                // On the sub-channel of its validator epoch.
                let of = UInt(round.epoch().get()).encode();
                let vote = Vote::Notarize(vote).encode();
                let message = IoBuf::from([of.as_ref(), vote.as_ref()].concat());
                let _ = votes.send(Recipients::Some(to), message, true);
                led = block.block().header().view;
            }
        }
    }

    /// The blocks for the view after the last final block, if it leads there and has not yet.
    fn proposals(
        &self,
        led: LeaderView,
        now: Timestamp,
    ) -> Option<(View, View, Vec<ConsensusBlock>)> {
        let state = self.witness.view();
        let tip = state.tip();
        let parent = self.witness.encoded_block(tip.height).ok()??;
        let parent = parent.header().ok()?;
        let before = match parent.view.number() {
            0 => View::new(0),
            number => View::new(number + 1 - u64::from(self.term.views())),
        };
        let view = View::new(before.get() + 1);
        let turn = leader_view(view, self.term)?;
        if turn <= led || self.witness.rotation().leader(turn).key != self.key.verifying_key() {
            return None;
        }
        let after = now.number().max(parent.time.number() + 1);
        let propose = |time| {
            let time = Timestamp::new(time);
            let proposal = propose(state.as_ref(), &parent, turn, time, [], &self.key);
            proposal.ok().map(|made| ConsensusBlock::new(made.block))
        };
        let blocks = match self.misdeed {
            Misdeed::InvalidBlock => {
                let wrong = |header: &mut Header| header.state_root = StateRoot::new([0xbd; 32]);
                vec![resigned(&propose(after)?, &self.limits, &self.key, wrong)]
            }
            Misdeed::Equivocation => vec![propose(after)?, propose(after + 1)?],
            Misdeed::Censorship | Misdeed::Replay(_) | Misdeed::Garbage(_) => vec![propose(after)?],
        };
        Some((view, before, blocks))
    }

    /// Who is told of the block in this place.
    fn recipients(&self, place: usize, act: u64) -> Vec<PublicKey> {
        let everyone = self.misdeed != Misdeed::Equivocation || act >= UNSEEN;
        let others = self.others.iter().enumerate();
        let told = others.filter(|(number, _)| {
            everyone
                || if act.is_multiple_of(2) {
                    // One block can get a quorum with the liar's vote.
                    number % 2 == place
                } else {
                    // None can.
                    *number == place
                }
        });
        told.map(|(_, key)| key.clone()).collect()
    }
}

/// Sends again what it heard on one channel, in any order.
pub(super) async fn replay<S, R>(
    mut context: Context,
    mut sender: S,
    mut receiver: R,
    acts: Arc<AtomicU64>,
) where
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let mut heard: Vec<Vec<u8>> = Vec::new();
    loop {
        let up = context.current() + PAUSE;
        loop {
            let received = std::pin::pin!(receiver.recv());
            let timer = std::pin::pin!(context.sleep_until(up));
            match select(received, timer).await {
                Either::Left((Ok((_, message)), _)) => {
                    if heard.len() == REMEMBERED {
                        let place = (context.next_u64() % REMEMBERED as u64) as usize;
                        heard.swap_remove(place);
                    }
                    heard.push(message.as_ref().to_vec());
                }
                Either::Left((Err(_), _)) => return,
                Either::Right(_) => break,
            }
        }
        if heard.is_empty() {
            continue;
        }
        let place = (context.next_u64() % heard.len() as u64) as usize;
        let message = IoBuf::from(heard[place].clone());
        if !sender.send(Recipients::All, message, true).is_empty() {
            acts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends what no honest node sends, on one channel.
pub(super) async fn babble<S, R>(
    mut context: Context,
    mut sender: S,
    mut receiver: R,
    largest: usize,
    acts: Arc<AtomicU64>,
) where
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let mut heard = vec![0; 64];
    context.fill_bytes(&mut heard);
    for round in 0u64.. {
        let up = context.current() + PAUSE;
        // The last message that came meanwhile is the one that is spoilt.
        loop {
            let received = std::pin::pin!(receiver.recv());
            let timer = std::pin::pin!(context.sleep_until(up));
            match select(received, timer).await {
                Either::Left((Ok((_, message)), _)) => heard = message.as_ref().to_vec(),
                Either::Left((Err(_), _)) => return,
                Either::Right(_) => break,
            }
        }
        let mut spoilt = heard.clone();
        let bit = context.next_u64();
        match round % 4 {
            0 => spoilt.truncate((bit % (heard.len() as u64 + 1)) as usize),
            1 if !spoilt.is_empty() => {
                let at = (bit >> 3) as usize % spoilt.len();
                spoilt[at] ^= 1 << (bit & 7);
            }
            2 => spoilt.extend_from_slice(&bit.to_be_bytes()),
            _ => spoilt = vec![bit as u8; largest],
        }
        if !sender
            .send(Recipients::All, IoBuf::from(spoilt), true)
            .is_empty()
        {
            acts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A block with an altered header, signed anew by this key.
pub(super) fn resigned(
    block: &ConsensusBlock,
    limits: &Limits,
    key: &SigningKey,
    alter: impl FnOnce(&mut Header),
) -> ConsensusBlock {
    let mut header = *block.block().header();
    alter(&mut header);
    let unsigned = header.encode();
    let unsigned = &unsigned[..Header::BYTES - SIGNATURE_BYTES];
    header.signature = key.sign(scheme::Context::Consensus, &header.consortium, &[unsigned]);
    let bytes = [&header.encode(), &block.bytes()[Header::BYTES..]].concat();
    let block = ledger::Block::decode(&bytes, limits);
    ConsensusBlock::new(block.expect("the layout and the body are kept"))
}

/// How often a faulty leader looks whether its turn has come.
const LOOK: Duration = Duration::from_millis(5);

/// Turns in which nobody sees both blocks. Afterwards the others know whom not to listen to.
const UNSEEN: u64 = 4;

/// Between two messages on a channel, far below its quota.
const PAUSE: Duration = Duration::from_millis(50);

/// A signature ends a header.
const SIGNATURE_BYTES: usize = 64;

/// Messages that a node remembers which sends them again.
const REMEMBERED: usize = 256;
