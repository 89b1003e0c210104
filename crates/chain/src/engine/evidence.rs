//! What is evidence in what the engine reports, and whether a piece stands.

use commonware_codec::{Copying, Decode as _, Encode as _};
use commonware_consensus::{
    Epochable as _, Viewable as _,
    simplex::types::{Activity, Attributable as _},
};
use commonware_cryptography::certificate::Verifier as _;
use commonware_parallel::Sequential;
use commonware_utils::Participant;
use ledger::NodeSet;
use rand::{SeedableRng as _, rngs::StdRng};
use scheme::{ConsortiumId, enc, sha256};

use super::{
    Digest, EngineCertificates, Scheme,
    certificate::{participants, votes_of},
    elector::leader_view,
    keys,
};
use crate::evidence::{BadEvidence, Evidence, Offence};

/// Which offence it is, and whose; `None` if it is none.
pub(super) fn offence(activity: &Activity<Scheme, Digest>) -> Option<(Offence, Participant)> {
    match activity {
        Activity::ConflictingNotarize(both) => Some((Offence::ConflictingPrepare, both.signer())),
        Activity::ConflictingFinalize(both) => Some((Offence::ConflictingCommit, both.signer())),
        Activity::NullifyFinalize(both) => Some((Offence::SkipAndCommit, both.signer())),
        _ => None,
    }
}

impl EngineCertificates {
    /// Checks that a node of the set signed both votes, that they are of the view and offence that the
    /// piece names, and that they exclude each other. No honest node ever signs two such votes.
    ///
    /// # Errors
    /// [`BadEvidence`] otherwise.
    pub fn verify_evidence(
        &self,
        consortium: &ConsortiumId,
        nodes: &NodeSet,
        evidence: &Evidence,
    ) -> Result<(), BadEvidence> {
        let members = participants(nodes).ok_or(BadEvidence)?;
        let scheme = Scheme::verifier(&votes_of(consortium, nodes), members.clone());
        let limit = scheme.certificate_codec_config();
        let activity =
            Activity::<Scheme, Digest>::decode_cfg(Copying(evidence.votes.as_slice()), &limit)
                .map_err(|_| BadEvidence)?;
        // What can be written in two ways would be two pieces.
        if activity.encode().as_ref() != evidence.votes.as_slice() {
            return Err(BadEvidence);
        }
        let (found, signer) = offence(&activity).ok_or(BadEvidence)?;
        let node = members.iter().nth(signer.get() as usize);
        let node = node.map(keys::verifying).ok_or(BadEvidence)?;
        let about_it = found == evidence.offence
            && node == evidence.node
            && activity.epoch().get() == evidence.epoch.number()
            && nodes.epoch() == evidence.epoch
            && leader_view(activity.view(), self.term) == Some(evidence.view);
        // The signatures are checked in one batch, each with a weight that nobody may choose: they
        // follow from all that is in the batch.
        let batch = enc(&[
            consortium.as_bytes(),
            evidence.node.as_bytes(),
            &evidence.votes,
        ]);
        let mut weights = StdRng::from_seed(*sha256(&batch).as_bytes());
        if about_it && activity.verify(&mut weights, &scheme, &Sequential) {
            return Ok(());
        }
        Err(BadEvidence)
    }
}

#[cfg(test)]
mod tests {
    use commonware_consensus::{
        simplex::types::{
            ConflictingFinalize, ConflictingNotarize, Finalize, Notarize, Nullify, NullifyFinalize,
            Proposal,
        },
        types::{Epoch, Round, View},
    };
    use ledger::testing::FourHospitals;
    use ledger::{BlockId, LeaderTerm, LeaderView};

    use super::*;
    use crate::engine::{block::digest_of, certificate::Member};
    use crate::evidence::EVIDENCE_BYTES_MAX;

    struct Case {
        hospitals: FourHospitals,
        liar: Member,
    }

    impl Case {
        fn new() -> Self {
            let hospitals = FourHospitals::default();
            let nodes = hospitals.genesis.node_set().expect("four hospitals");
            let key = &hospitals.hospital(2).node_key;
            let liar = Member::new(&hospitals.consortium, &nodes, key).expect("real keys");
            Self { hospitals, liar }
        }

        fn round(view: u64) -> Round {
            Round::new(Epoch::zero(), View::new(view))
        }

        fn proposal(view: u64, block: u8) -> Proposal<Digest> {
            let parent = View::new(view.saturating_sub(1));
            Proposal::new(
                Self::round(view),
                parent,
                digest_of(&BlockId::new([block; 32])),
            )
        }

        fn prepare(&self, view: u64, block: u8) -> Notarize<Scheme, Digest> {
            Notarize::sign(self.liar.scheme(), Self::proposal(view, block)).expect("a member")
        }

        fn commit(&self, view: u64, block: u8) -> Finalize<Scheme, Digest> {
            Finalize::sign(self.liar.scheme(), Self::proposal(view, block)).expect("a member")
        }

        /// One piece of each offence in this view.
        fn pieces(&self, view: u64) -> Vec<Evidence> {
            let skip = Nullify::sign::<Digest>(self.liar.scheme(), Self::round(view));
            let skip = skip.expect("a member");
            let activities = [
                Activity::ConflictingNotarize(ConflictingNotarize::new(
                    self.prepare(view, 1),
                    self.prepare(view, 2),
                )),
                Activity::ConflictingFinalize(ConflictingFinalize::new(
                    self.commit(view, 1),
                    self.commit(view, 2),
                )),
                Activity::NullifyFinalize(NullifyFinalize::new(skip, self.commit(view, 1))),
            ];
            let pieces = activities.iter().map(|activity| {
                let (offence, _) = offence(activity).expect("an offence");
                self.piece(offence, view, activity.encode().to_vec())
            });
            pieces.collect()
        }

        fn piece(&self, offence: Offence, view: u64, votes: Vec<u8>) -> Evidence {
            Evidence {
                offence,
                node: self.hospitals.hospital(2).node_key.verifying_key(),
                epoch: scheme::ValidatorEpoch::new(0),
                view: LeaderView::new(view),
                votes,
            }
        }

        fn verify(&self, evidence: &Evidence) -> Result<(), BadEvidence> {
            let nodes = self.hospitals.genesis.node_set().expect("four hospitals");
            let term = LeaderTerm::new(1).expect("not 0");
            EngineCertificates::new(term).verify_evidence(
                &self.hospitals.consortium,
                &nodes,
                evidence,
            )
        }
    }

    #[test]
    fn evidence_stands_as_it_was_found_and_not_altered() {
        let case = Case::new();
        for piece in case.pieces(9) {
            assert_eq!(case.verify(&piece), Ok(()));
            let bytes = piece.encode();
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut altered = bytes.clone();
                    altered[at] ^= 1 << bit;
                    let stands = Evidence::decode(&altered).is_ok_and(|altered| {
                        let stands = case.verify(&altered);
                        stands.is_ok()
                    });
                    assert!(!stands, "{:?}: bit {bit} of byte {at}", piece.offence);
                }
            }
        }
        // In another consortium, and where the node is none, it says nothing.
        let piece = case.pieces(9).remove(0);
        let nodes = case.hospitals.genesis.node_set().expect("four hospitals");
        let engine = EngineCertificates::new(LeaderTerm::new(1).expect("not 0"));
        let elsewhere = ConsortiumId::new([9; 32]);
        let verdict = engine.verify_evidence(&elsewhere, &nodes, &piece);
        assert_eq!(verdict, Err(BadEvidence));
        let others = nodes.nodes().iter().copied();
        let others = others.filter(|node| node.key != piece.node).collect();
        let others = NodeSet::new(nodes.epoch(), others).expect("enough account");
        let verdict = engine.verify_evidence(&case.hospitals.consortium, &others, &piece);
        assert_eq!(verdict, Err(BadEvidence));
    }

    #[test]
    fn the_longest_piece_is_within_the_bound() {
        let case = Case::new();
        for piece in case.pieces(u64::MAX) {
            // An epoch as long, and a signer's number of five bytes, would add 9 and 4 to each vote.
            assert!(piece.encode().len() + 2 * 13 <= EVIDENCE_BYTES_MAX);
        }
    }

    /// What an honest node signs, in whatever order it is put together, is no evidence: the same vote
    /// twice, votes of two views, a prepare and a commit vote for one block.
    #[test]
    fn attack_make_evidence_of_an_honest_nodes_votes() {
        let case = Case::new();
        let of = |kind: u8, votes: [&[u8]; 2]| [&[kind], votes[0], votes[1]].concat();
        let prepare = |view, block| case.prepare(view, block).encode().to_vec();
        let commit = |view| case.commit(view, 1).encode().to_vec();
        let skipped = Nullify::sign::<Digest>(case.liar.scheme(), Case::round(10));
        let skipped = skipped.expect("a member").encode().to_vec();
        let (first, second) = (prepare(9, 1), prepare(10, 1));
        let (committed, later) = (commit(9), commit(10));
        let forged = [
            (Offence::ConflictingPrepare, of(7, [&first, &first])),
            (Offence::ConflictingPrepare, of(7, [&first, &second])),
            (Offence::ConflictingPrepare, of(7, [&first, &committed])),
            (Offence::ConflictingCommit, of(8, [&committed, &committed])),
            (Offence::ConflictingCommit, of(8, [&committed, &later])),
            (Offence::ConflictingCommit, of(8, [&first, &committed])),
            (Offence::SkipAndCommit, of(9, [&skipped, &committed])),
            (Offence::SkipAndCommit, of(9, [&skipped, &second])),
            (Offence::ConflictingPrepare, of(0, [&first, &[]])),
            (Offence::ConflictingCommit, of(5, [&committed, &[]])),
        ];
        for (offence, votes) in forged {
            for view in [9, 10] {
                let piece = case.piece(offence, view, votes.clone());
                assert_eq!(case.verify(&piece), Err(BadEvidence), "{offence:?}");
            }
        }
        // The kinds are the engine's: what is put together likewise and does conflict stands.
        let votes = of(7, [&first, &prepare(9, 2)]);
        let piece = case.piece(Offence::ConflictingPrepare, 9, votes);
        assert_eq!(case.verify(&piece), Ok(()));
    }
}
