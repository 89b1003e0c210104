//! What the engine reports besides blocks: how views end, and who misbehaved.

use std::sync::{Arc, Mutex};

use commonware_actor::Feedback;
use commonware_codec::Encode as _;
use commonware_consensus::{
    Reporter, Viewable as _,
    simplex::types::{Activity, Attributable as _},
};
use commonware_parallel::Sequential;
use commonware_utils::Participant;
use ledger::BlockId;
use rand::{SeedableRng as _, rngs::StdRng};
use tracing::error;

use super::{Digest, PublicKey, Scheme, elector::leader_view, keys};
use crate::node::{Evidence, Offence, Shared, ViewOutcome, lock};

/// Looks at what is reported and passes it on.
#[derive(Clone)]
pub(crate) struct Observer<R> {
    inner: R,
    shared: Arc<Shared>,
    scheme: Scheme,
    /// The nodes in the engine's order.
    participants: Arc<[PublicKey]>,
    /// Signatures are checked in batches with random weights, which nobody may foresee.
    weights: Arc<Mutex<StdRng>>,
}

impl<R> Observer<R> {
    pub(crate) fn new(
        inner: R,
        shared: Arc<Shared>,
        scheme: Scheme,
        participants: Arc<[PublicKey]>,
        seed: [u8; 32],
    ) -> Self {
        let weights = Arc::new(Mutex::new(StdRng::from_seed(seed)));
        Self {
            inner,
            shared,
            scheme,
            participants,
            weights,
        }
    }

    fn offence(&self, activity: &Activity<Scheme, Digest>) -> Option<(Offence, Participant)> {
        match activity {
            Activity::ConflictingNotarize(both) => {
                Some((Offence::ConflictingPrepare, both.signer()))
            }
            Activity::ConflictingFinalize(both) => {
                Some((Offence::ConflictingCommit, both.signer()))
            }
            Activity::NullifyFinalize(both) => Some((Offence::SkipAndCommit, both.signer())),
            _ => None,
        }
    }

    fn keep(&self, activity: &Activity<Scheme, Digest>, offence: Offence, signer: Participant) {
        // The engine may report votes before it checked their signatures; evidence has to stand.
        if !activity.verify(&mut *lock(&self.weights), &self.scheme, &Sequential) {
            return;
        }
        let Some(node) = self.participants.get(signer.get() as usize) else {
            return;
        };
        let node = keys::verifying(node);
        error!(%node, ?offence, view = %activity.view(), "a node misbehaved; the evidence is kept");
        self.shared.keep_evidence(Evidence {
            offence,
            node,
            view: leader_view(activity.view(), self.shared.term),
            votes: activity.encode().to_vec(),
        });
    }
}

impl<R: Reporter<Activity = Activity<Scheme, Digest>>> Reporter for Observer<R> {
    type Activity = Activity<Scheme, Digest>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        match &activity {
            Activity::Finalization(finalization) => {
                let block = BlockId::new(finalization.proposal.payload.0);
                let view = leader_view(finalization.view(), self.shared.term);
                self.shared.view_ended(view, ViewOutcome::Final(block));
            }
            Activity::Nullification(nullification) => {
                let view = leader_view(nullification.view(), self.shared.term);
                self.shared.view_ended(view, ViewOutcome::Skipped);
            }
            other => {
                if let Some((offence, signer)) = self.offence(other) {
                    self.keep(other, offence, signer);
                }
            }
        }
        self.inner.report(activity)
    }
}
