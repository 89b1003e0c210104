//! The engine's certificate that a block is final, checked without a running node.
//!
//! A certificate is 2f + 1 commit votes (n - f where n is not 3f + 1) over (validator epoch, view,
//! parent's view, block id), each an Ed25519 signature under a consensus key of the node set.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use commonware_codec::{Copying, Decode as _};
use commonware_consensus::{
    Epochable as _, Viewable as _, simplex::types::Finalization, types::Epoch,
};
use commonware_cryptography::certificate::{Provider, Scoped, Verifier as _};
use commonware_parallel::Sequential;
use commonware_utils::ordered::Set;
use ledger::{BadCertificate, BlockId, CertificateVerifier, LeaderTerm, LeaderView, NodeSet};
use rand::{SeedableRng as _, rngs::StdRng};
use scheme::{ConsortiumId, SigningKey, ValidatorEpoch, enc, sha256};

use super::{Digest, PublicKey, Scheme, block::digest_of, elector::leader_view, keys};
use crate::node::{Shared, lock};

/// Checks the engine's certificates, for a consortium in which one leads for so many views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineCertificates {
    pub(super) term: LeaderTerm,
}

impl EngineCertificates {
    /// With the term of the consortium's settings.
    pub const fn new(term: LeaderTerm) -> Self {
        Self { term }
    }
}

impl CertificateVerifier for EngineCertificates {
    fn verify(
        &self,
        consortium: &ConsortiumId,
        nodes: &NodeSet,
        view: LeaderView,
        block: BlockId,
        certificate: &[u8],
    ) -> Result<(), BadCertificate> {
        let participants = participants(nodes).ok_or(BadCertificate)?;
        // The signatures are checked in one batch, each with a weight that nobody may choose. The
        // weights follow from all that is in the batch, so whoever changes a signature changes them.
        let keys: Vec<u8> = nodes
            .nodes()
            .iter()
            .flat_map(|node| *node.key.as_bytes())
            .collect();
        let batch = enc(&[consortium.as_bytes(), &keys, block.as_bytes(), certificate]);
        let mut weights = StdRng::from_seed(*sha256(&batch).as_bytes());

        let scheme = Scheme::verifier(&votes_of(consortium, nodes), participants);
        let limit = scheme.certificate_codec_config();
        let finalization = Finalization::<Scheme, Digest>::decode_cfg(Copying(certificate), &limit)
            .map_err(|_| BadCertificate)?;
        let about_it = finalization.proposal.payload == digest_of(&block)
            && finalization.epoch().get() == nodes.epoch().number()
            // The last block of a validator epoch is proposed again in later views until it is final.
            && leader_view(finalization.view(), self.term) >= Some(view);
        if about_it && finalization.verify(&mut weights, &scheme, &Sequential) {
            return Ok(());
        }
        Err(BadCertificate)
    }
}

/// Which keys may sign in which validator epoch, as the state has it: each epoch's nodes are decided by
/// the last block of the one before, and known from there on.
#[derive(Clone)]
pub(crate) struct Members {
    shared: Arc<Shared>,
    /// Of the last epochs that were asked for.
    known: Arc<Mutex<BTreeMap<ValidatorEpoch, Member>>>,
}

impl Members {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            known: Arc::default(),
        }
    }

    /// This node in a validator epoch; `None` if that is not decided yet, or the store fails.
    pub(crate) fn of(&self, epoch: ValidatorEpoch) -> Option<Member> {
        if let Some(member) = lock(&self.known).get(&epoch) {
            return Some(member.clone());
        }
        let nodes = ledger::node_set(self.shared.view().as_ref(), epoch).ok()??;
        let member = Member::new(&self.shared.consortium, &nodes, &self.shared.key)?;
        let mut known = lock(&self.known);
        known.insert(epoch, member.clone());
        while known.len() > KNOWN_EPOCHS {
            known.pop_first();
        }
        Some(member)
    }
}

impl Provider for Members {
    type Scope = Epoch;
    type Scheme = Scheme;

    fn scoped(&self, scope: Epoch) -> Option<Scoped<Scheme>> {
        self.of(ValidatorEpoch::new(scope.get()))
            .map(Member::scoped)
    }
}

/// A node in one validator epoch.
#[derive(Clone)]
pub(crate) struct Member {
    scheme: Arc<Scheme>,
    signs: bool,
}

impl Member {
    /// The members of a node set as seen by the node with `key`: a member signs, any other node
    /// follows. `None` if a key of the set is no point of the curve.
    pub(crate) fn new(
        consortium: &ConsortiumId,
        nodes: &NodeSet,
        key: &SigningKey,
    ) -> Option<Self> {
        let participants = participants(nodes)?;
        let namespace = votes_of(consortium, nodes);
        let signer = Scheme::signer(&namespace, participants.clone(), keys::private(key));
        let signs = signer.is_some();
        let scheme = signer.unwrap_or_else(|| Scheme::verifier(&namespace, participants));
        Some(Self {
            scheme: Arc::new(scheme),
            signs,
        })
    }

    pub(crate) fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    fn scoped(self) -> Scoped<Scheme> {
        if self.signs {
            Scoped::scheme(self.scheme)
        } else {
            Scoped::verifier(self.scheme)
        }
    }
}

/// The nodes' keys in the engine's order.
pub(crate) fn participants(nodes: &NodeSet) -> Option<Set<PublicKey>> {
    let keys: Option<Vec<_>> = nodes
        .nodes()
        .iter()
        .map(|node| keys::public(&node.key))
        .collect();
    Some(Set::from_iter_dedup(keys?))
}

pub(crate) fn epoch(epoch: ValidatorEpoch) -> Epoch {
    Epoch::new(epoch.number())
}

/// Epochs whose nodes are kept at hand: this one, its neighbours, and some that a peer catches up with.
const KNOWN_EPOCHS: usize = 16;

/// What every vote among these nodes is bound to: the consortium and who they are. Were it the consortium
/// alone, votes of a larger set in a later validator epoch could be put together to a certificate of a
/// smaller one that somebody still trusts.
pub(crate) fn votes_of(consortium: &ConsortiumId, nodes: &NodeSet) -> Vec<u8> {
    let consortium = namespace(consortium);
    [consortium.as_slice(), nodes.digest().as_bytes()].concat()
}

/// What every handshake of a consortium is bound to.
pub(crate) fn namespace(consortium: &ConsortiumId) -> Vec<u8> {
    [b"WILLIS-V1-ENGINE-".as_slice(), consortium.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use commonware_codec::Encode as _;
    use commonware_consensus::{
        simplex::types::{Finalize, Proposal},
        types::{Round, View},
    };
    use commonware_utils::non_empty;
    use ledger::testing::FourHospitals;

    use super::*;

    const BLOCK: BlockId = BlockId::new([7; 32]);

    /// The nodes of these hospitals, in the founding's validator epoch.
    fn nodes(hospitals: &FourHospitals, numbers: &[u32]) -> NodeSet {
        let founders = hospitals.genesis.node_set().expect("four hospitals");
        let nodes = founders.nodes().iter().copied();
        let nodes = nodes
            .filter(|node| numbers.contains(&node.institution.number()))
            .collect();
        NodeSet::new(founders.epoch(), nodes).expect("enough account")
    }

    /// A certificate by the nodes of these hospitals that `BLOCK` is final in the engine's `view`.
    /// It is put together by who believes that so many of `believed` are enough.
    fn certificate(view: u64, signers: &[u32], believed: &[u32]) -> Vec<u8> {
        put_together(view, signers, believed, believed)
    }

    /// Likewise, of votes that were given in a node set that may be another one.
    fn put_together(view: u64, signers: &[u32], voted_in: &[u32], believed: &[u32]) -> Vec<u8> {
        let hospitals = FourHospitals::default();
        let set = nodes(&hospitals, believed);
        let voted_in = votes_of(&hospitals.consortium, &nodes(&hospitals, voted_in));
        let participants = participants(&set).expect("real keys");
        let round = Round::new(epoch(set.epoch()), View::new(view));
        let proposal = Proposal::new(round, View::new(view - 1), digest_of(&BLOCK));
        let votes: Vec<_> = signers
            .iter()
            .map(|number| {
                let key = keys::private(&hospitals.hospital(*number).node_key);
                let signer = Scheme::signer(&voted_in, participants.clone(), key);
                let signer = signer.expect("one of them");
                Finalize::sign(&signer, proposal.clone()).expect("a member signs")
            })
            .collect();
        let scheme = Scheme::verifier(&voted_in, participants);
        Finalization::from_finalizes(&scheme, non_empty![@votes.iter()], &Sequential)
            .expect("enough votes")
            .encode()
            .to_vec()
    }

    fn verify(
        term: u32,
        view: u64,
        block: BlockId,
        certificate: &[u8],
    ) -> Result<(), BadCertificate> {
        verify_among(&[1, 2, 3, 4], term, view, block, certificate)
    }

    fn verify_among(
        trusted: &[u32],
        term: u32,
        view: u64,
        block: BlockId,
        certificate: &[u8],
    ) -> Result<(), BadCertificate> {
        let hospitals = FourHospitals::default();
        EngineCertificates::new(LeaderTerm::new(term).expect("not 0")).verify(
            &hospitals.consortium,
            &nodes(&hospitals, trusted),
            LeaderView::new(view),
            block,
            certificate,
        )
    }

    #[test]
    fn a_certificate_of_a_quorum_proves_its_block_and_no_other() {
        for signers in [[1, 2, 3].as_slice(), &[1, 2, 4], &[1, 2, 3, 4]] {
            let three = certificate(9, signers, &[1, 2, 3, 4]);
            assert_eq!(verify(1, 9, BLOCK, &three), Ok(()));
            // Proposed in an earlier view, as the last block of a validator epoch may be; not in a later.
            assert_eq!(verify(1, 8, BLOCK, &three), Ok(()));
            assert_eq!(verify(1, 10, BLOCK, &three), Err(BadCertificate));
            assert_eq!(verify(2, 10, BLOCK, &three), Ok(()));
            assert_eq!(verify(2, 11, BLOCK, &three), Err(BadCertificate));
            let other = BlockId::new([8; 32]);
            assert_eq!(verify(1, 9, other, &three), Err(BadCertificate));
            for length in 0..three.len() {
                assert_eq!(verify(1, 9, BLOCK, &three[..length]), Err(BadCertificate));
            }
        }
    }

    /// Two of four sign what would be a certificate if the consortium were those two alone; and of
    /// three that sign none can be left out, altered or named twice.
    #[test]
    fn fewer_than_n_minus_f_signers_prove_nothing() {
        let two = certificate(9, &[1, 2], &[1, 2]);
        assert_eq!(verify(1, 9, BLOCK, &two), Err(BadCertificate));
        let three = certificate(9, &[1, 2, 3], &[1, 2, 3, 4]);
        assert_eq!(verify(1, 9, BLOCK, &three), Ok(()));
        for at in 0..three.len() {
            for bit in 0..8 {
                let mut altered = three.clone();
                altered[at] ^= 1 << bit;
                let verdict = verify(1, 9, BLOCK, &altered);
                assert_eq!(verdict, Err(BadCertificate), "bit {bit} of byte {at}");
            }
        }
    }

    /// The story: votes named the consortium only. A client that was away trusts the few hospitals of old.
    /// Their votes for a block that the many of today never made final were a certificate to it.
    #[test]
    fn attack_votes_of_a_larger_node_set_are_no_certificate_of_a_smaller() {
        let three = [1, 2, 3];
        let own = put_together(9, &three, &three, &three);
        assert_eq!(verify_among(&three, 1, 9, BLOCK, &own), Ok(()));
        let taken = put_together(9, &three, &[1, 2, 3, 4], &three);
        assert_eq!(
            verify_among(&three, 1, 9, BLOCK, &taken),
            Err(BadCertificate)
        );
    }

    /// The story: the view's number was computed before any signature was checked, and the highest
    /// number of a view overflowed it: whoever sent a proof to a client ended the client.
    #[test]
    fn a_certificate_of_the_highest_view_is_refused_and_nothing_overflows() {
        let highest = certificate(u64::MAX, &[1, 2, 3], &[1, 2, 3, 4]);
        assert_eq!(verify(1, u64::MAX, BLOCK, &highest), Ok(()));
        for term in [2, 5, u32::MAX] {
            for view in [0, u64::from(term) - 2, u64::MAX] {
                assert_eq!(verify(term, view, BLOCK, &highest), Err(BadCertificate));
            }
        }
    }
}
