//! Who leads a view: the ledger's fixed rotation of accounting nodes, told to the engine.

use std::{sync::Arc, time::Duration};

use commonware_consensus::{
    simplex::elector::{Config, Elector, Input, Scheduled, Terms},
    types::{Participant, Round, TermLength, View, ViewDelta},
};
use commonware_utils::ordered::Set;
use ledger::{LeaderRotation, LeaderTerm, LeaderView};

use super::{PublicKey, Scheme, keys};

/// The rotation before the engine has put the nodes into its own order.
#[derive(Debug, Clone)]
pub(crate) struct FixedRotation {
    pub(crate) rotation: LeaderRotation,
    pub(crate) term: LeaderTerm,
    /// When a leader of several views is given up if nothing became final.
    pub(crate) stall: Duration,
}

impl Config<Scheme> for FixedRotation {
    type Elector = RotationElector;

    fn build(self, participants: &Set<PublicKey>) -> RotationElector {
        let order = self.rotation.order().iter().map(|node| {
            let key = keys::public(&node.key)?;
            let index = participants
                .iter()
                .position(|participant| *participant == key)?;
            u32::try_from(index).ok().map(Participant::new)
        });
        let order: Vec<_> = order
            .collect::<Option<_>>()
            .expect("accounting nodes are among the participants: both come of one node set");
        assert!(
            !order.is_empty(),
            "a node set holds at least one accounting node"
        );
        let terms = match std::num::NonZeroU32::new(self.term.views()) {
            Some(views) if views.get() > 1 => {
                Terms::stable(TermLength::new(views), self.stall, ViewDelta::zero())
            }
            _ => Terms::rotating(),
        };
        RotationElector {
            order: order.into(),
            terms,
        }
    }
}

/// The rotation in the engine's own numbers.
#[derive(Debug, Clone)]
pub(crate) struct RotationElector {
    order: Arc<[Participant]>,
    terms: Terms,
}

impl Elector<Scheme> for RotationElector {
    type Mode = Scheduled;

    fn terms(&self) -> Terms {
        self.terms
    }

    fn elect(&self, round: Round, (): Input<'_, Scheme, Self>) -> Participant {
        let turn = round.view().term_index(self.terms.length());
        self.order[(turn % self.order.len() as u64) as usize]
    }
}

/// The ledger's number of an engine's view. View 0 is the founding block's in both. The engine's
/// first term begins with view 1, the ledger's turn with a multiple of the term's length, so the
/// founding block takes up a turn of its own; with a term of one view both numbers are the same.
/// `None` for a view so high that the ledger has no number for it: no chain comes there, but bytes
/// from elsewhere may name it.
pub(crate) fn leader_view(view: View, term: LeaderTerm) -> Option<LeaderView> {
    let number = match view.get() {
        0 => 0,
        view => (view - 1).checked_add(term.views().into())?,
    };
    Some(LeaderView::new(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::{Node, NodeSet, Tier};
    use scheme::{InstitutionId, SigningKey, ValidatorEpoch};

    #[test]
    fn a_view_beyond_the_ledgers_numbers_has_none() {
        let term = |views| LeaderTerm::new(views).expect("not 0");
        let number = |view, views| leader_view(View::new(view), term(views));
        assert_eq!(number(0, 5), Some(LeaderView::new(0)));
        assert_eq!(number(1, 5), Some(LeaderView::new(5)));
        assert_eq!(number(u64::MAX, 1), Some(LeaderView::new(u64::MAX)));
        assert_eq!(number(u64::MAX, 2), None);
        assert_eq!(number(u64::MAX - 1, 2), Some(LeaderView::new(u64::MAX)));
    }

    /// The engine and the ledger agree on who leads, in every view and for every term.
    #[test]
    fn the_engine_elects_whom_the_ledger_expects() {
        let tiers = [
            Tier::Community,
            Tier::Tertiary,
            Tier::Secondary,
            Tier::Secondary,
        ];
        let nodes = (1u8..).zip(tiers).map(|(number, tier)| Node {
            institution: InstitutionId::new(number.into()),
            tier,
            key: SigningKey::from_seed([number; 32]).verifying_key(),
        });
        let set = NodeSet::new(ValidatorEpoch::new(0), nodes.collect()).expect("three account");
        let participants = super::super::certificate::participants(&set).expect("real keys");
        for views in [1, 2, 5] {
            let term = LeaderTerm::new(views).expect("not 0");
            let rotation = LeaderRotation::new(&set, term);
            let elector = FixedRotation {
                rotation: rotation.clone(),
                term,
                stall: Duration::from_secs(12),
            }
            .build(&participants);
            let mut led = std::collections::BTreeSet::new();
            for view in 1..60 {
                let view = View::new(view);
                let round = Round::new(commonware_consensus::types::Epoch::zero(), view);
                let index = elector.elect(round, ()).get() as usize;
                let key = keys::verifying(participants.iter().nth(index).expect("a participant"));
                assert_eq!(
                    key,
                    rotation.leader(leader_view(view, term).expect("low")).key,
                    "{view}, {views}"
                );
                led.insert(set.by_key(&key).expect("a node").institution.number());
            }
            assert_eq!(
                led.into_iter().collect::<Vec<_>>(),
                [2, 3, 4],
                "community hospitals never"
            );
        }
    }
}
