//! What the engine reports besides blocks: how views end, and who misbehaved.

use std::sync::{Arc, Mutex};

use commonware_actor::Feedback;
use commonware_codec::Encode as _;
use commonware_consensus::{
    Reporter, Viewable as _,
    simplex::types::{Activity, Attributable as _},
    types::View,
};
use commonware_parallel::Sequential;
use commonware_utils::Participant;
use ledger::BlockId;
use rand::{SeedableRng as _, rngs::StdRng};
use scheme::ValidatorEpoch;
use tracing::error;

use super::{Digest, PublicKey, Scheme, elector::leader_view, evidence::offence, keys};
use crate::evidence::{Evidence, Offence};
use crate::node::{Shared, ViewOutcome, lock};

/// Looks at what is reported and passes it on.
#[derive(Clone)]
pub(crate) struct Observer<R> {
    inner: R,
    shared: Arc<Shared>,
    scheme: Scheme,
    epoch: ValidatorEpoch,
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
        epoch: ValidatorEpoch,
        participants: Arc<[PublicKey]>,
        seed: [u8; 32],
    ) -> Self {
        let weights = Arc::new(Mutex::new(StdRng::from_seed(seed)));
        Self {
            inner,
            shared,
            scheme,
            epoch,
            participants,
            weights,
        }
    }

    fn ended(&self, view: View, outcome: ViewOutcome) {
        if let Some(view) = leader_view(view, self.shared.term) {
            self.shared.view_ended(self.epoch, view, outcome);
        }
    }

    /// Whoever votes is in touch, also if its vote says nothing new.
    fn seen(&self, signer: Participant) {
        if let Some(node) = self.participants.get(signer.get() as usize) {
            self.shared.vote_seen(keys::verifying(node));
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
        let Some(view) = leader_view(activity.view(), self.shared.term) else {
            return;
        };
        let node = keys::verifying(node);
        error!(%node, ?offence, view = %activity.view(), "a node misbehaved; the evidence is kept");
        self.shared.keep_evidence(Evidence {
            offence,
            node,
            epoch: self.epoch,
            view,
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
                self.ended(finalization.view(), ViewOutcome::Final(block));
            }
            Activity::Nullification(nullification) => {
                self.ended(nullification.view(), ViewOutcome::Skipped);
            }
            Activity::Notarize(vote) => self.seen(vote.signer()),
            Activity::Nullify(vote) => self.seen(vote.signer()),
            Activity::Finalize(vote) => self.seen(vote.signer()),
            other => {
                if let Some((offence, signer)) = offence(other) {
                    self.keep(other, offence, signer);
                }
            }
        }
        self.inner.report(activity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_consensus::{
        simplex::types::{ConflictingNotarize, Notarize, Nullify, Proposal},
        types::{Epoch, Round},
    };
    use ledger::testing::FourHospitals;

    use crate::{
        config::NodeConfig,
        engine::{
            assembly::{NodeParts, prepare},
            certificate::{Member, participants},
            testing::run,
        },
        store_simulated::{SimulatedDisk, SimulatedStore},
    };

    #[derive(Clone)]
    struct Nobody;

    impl Reporter for Nobody {
        type Activity = Activity<Scheme, Digest>;

        fn report(&mut self, _: Self::Activity) -> Feedback {
            Feedback::Ok
        }
    }

    /// Two prepare votes of one node for two blocks of one view.
    fn equivocation(members: &Member, view: u64) -> Activity<Scheme, Digest> {
        let vote = |block: u8| {
            let round = Round::new(Epoch::zero(), View::new(view));
            let proposal = Proposal::new(round, View::new(view - 1), digest(block));
            Notarize::sign(members.scheme(), proposal).expect("a member signs")
        };
        Activity::ConflictingNotarize(ConflictingNotarize::new(vote(1), vote(2)))
    }

    fn digest(byte: u8) -> Digest {
        crate::engine::block::digest_of(&BlockId::new([byte; 32]))
    }

    /// An observer at hospital 1's node, and a member whose votes it sees: hospital 2's.
    fn observing(shared: &Arc<Shared>, hospitals: &FourHospitals) -> (Observer<Nobody>, Member) {
        let nodes = hospitals.genesis.node_set().expect("four hospitals");
        let other = &hospitals.hospital(2).node_key;
        let member = Member::new(&hospitals.consortium, &nodes, other).expect("real keys");
        let everyone = participants(&nodes).expect("real keys");
        let observer = Observer::new(
            Nobody,
            Arc::clone(shared),
            member.scheme().clone(),
            nodes.epoch(),
            everyone.iter().cloned().collect(),
            [1; 32],
        );
        (observer, member)
    }

    #[test]
    fn whoever_votes_is_in_touch_for_four_leader_timers() {
        run(|context| async move {
            let hospitals = FourHospitals::default();
            let shared = crate::engine::testing::node(&context, &hospitals, 1);
            let (mut observer, member) = observing(&shared, &hospitals);
            let handle = crate::node::NodeHandle::new(Arc::clone(&shared));
            let heard = || -> Vec<u32> {
                let nodes = handle.in_touch().into_iter();
                let heard = nodes.filter(|node| node.heard);
                heard.map(|node| node.institution.number()).collect()
            };
            assert_eq!(heard(), [1], "nobody voted");
            let round = Round::new(Epoch::zero(), View::new(5));
            let vote = Nullify::sign::<Digest>(member.scheme(), round).expect("a member signs");
            observer.report(Activity::Nullify(vote));
            assert_eq!(heard(), [1, 2]);
            let moment = std::time::Duration::from_millis(100);
            shared.clock.sleep(shared.timers.stall - moment).await;
            assert_eq!(heard(), [1, 2]);
            shared.clock.sleep(2 * moment).await;
            assert_eq!(heard(), [1], "silent for longer than any view lasts");
        });
    }

    #[test]
    fn evidence_is_kept_once_bounded_and_only_if_it_stands() {
        run(|context| async move {
            let hospitals = FourHospitals::default();
            let store = SimulatedStore::open(&SimulatedDisk::new()).expect("an empty disk");
            let parts = NodeParts {
                genesis: hospitals.genesis.clone(),
                key: hospitals.hospital(1).node_key.clone(),
                config: NodeConfig {
                    evidence: 2,
                    ..NodeConfig::default()
                },
                store: Arc::new(store),
            };
            let (shared, _) = prepare(&context, parts).expect("a consortium");
            let nodes = hospitals.genesis.node_set().expect("four hospitals");
            let liar = &hospitals.hospital(2).node_key;
            let members = |consortium| Member::new(consortium, &nodes, liar).expect("real keys");
            let here = members(&hospitals.consortium);
            let elsewhere = members(&scheme::ConsortiumId::new([9; 32]));
            let mut observer = Observer::new(
                Nobody,
                Arc::clone(&shared),
                here.scheme().clone(),
                nodes.epoch(),
                participants(&nodes)
                    .expect("real keys")
                    .iter()
                    .cloned()
                    .collect(),
                [1; 32],
            );
            let node = crate::node::NodeHandle::new(Arc::clone(&shared));

            observer.report(equivocation(&elsewhere, 5));
            assert!(
                node.evidence().is_empty(),
                "signatures that do not stand prove nothing"
            );
            observer.report(equivocation(&here, 5));
            observer.report(equivocation(&here, 5));
            let [kept] = node.evidence().try_into().expect("one piece");
            assert_eq!(kept.offence, Offence::ConflictingPrepare);
            assert_eq!(kept.node, liar.verifying_key());
            assert_eq!(node.verify_evidence(&kept), Ok(()));
            assert_eq!(
                node.evidence_beyond(0).await,
                1,
                "the same again is not new"
            );
            for view in 6..9 {
                observer.report(equivocation(&here, view));
            }
            let views: Vec<_> = node
                .evidence()
                .iter()
                .map(|piece| piece.view.number())
                .collect();
            assert_eq!(views, [7, 8], "the last pieces stay");
            assert_eq!(node.evidence_beyond(1).await, 4, "and all are counted");
        });
    }
}
