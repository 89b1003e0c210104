//! The engine's certificate that a block is final, checked without a running node.
//!
//! A certificate is 2f + 1 commit votes (n - f where n is not 3f + 1) over (validator epoch, view,
//! parent's view, block id), each an Ed25519 signature under a consensus key of the node set.

use std::sync::Arc;

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

/// Checks the engine's certificates, for a consortium in which one leads for so many views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineCertificates {
    term: LeaderTerm,
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

        let scheme = Scheme::verifier(&namespace(consortium), participants);
        let limit = scheme.certificate_codec_config();
        let finalization = Finalization::<Scheme, Digest>::decode_cfg(Copying(certificate), &limit)
            .map_err(|_| BadCertificate)?;
        let about_it = finalization.proposal.payload == digest_of(&block)
            && finalization.epoch().get() == nodes.epoch().number()
            && leader_view(finalization.view(), self.term) == view;
        if about_it && finalization.verify(&mut weights, &scheme, &Sequential) {
            return Ok(());
        }
        Err(BadCertificate)
    }
}

/// Which keys may sign in which validator epoch. So far there is one epoch; a later change of
/// members adds its set here.
#[derive(Clone)]
pub(crate) struct Members {
    epoch: Epoch,
    scheme: Arc<Scheme>,
    signs: bool,
}

impl Members {
    /// The members of a node set as seen by the node with `key`: a member signs, any other node
    /// follows. `None` if a key of the set is no point of the curve.
    pub(crate) fn new(
        consortium: &ConsortiumId,
        nodes: &NodeSet,
        key: &SigningKey,
    ) -> Option<Self> {
        let participants = participants(nodes)?;
        let namespace = namespace(consortium);
        let signer = Scheme::signer(&namespace, participants.clone(), keys::private(key));
        let signs = signer.is_some();
        let scheme = signer.unwrap_or_else(|| Scheme::verifier(&namespace, participants));
        Some(Self {
            epoch: epoch(nodes.epoch()),
            scheme: Arc::new(scheme),
            signs,
        })
    }

    pub(crate) fn scheme(&self) -> &Scheme {
        &self.scheme
    }
}

impl Provider for Members {
    type Scope = Epoch;
    type Scheme = Scheme;

    fn scoped(&self, scope: Epoch) -> Option<Scoped<Scheme>> {
        if scope != self.epoch {
            return None;
        }
        let scheme = Arc::clone(&self.scheme);
        Some(if self.signs {
            Scoped::scheme(scheme)
        } else {
            Scoped::verifier(scheme)
        })
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

/// What every vote and handshake of a consortium is bound to.
pub(crate) fn namespace(consortium: &ConsortiumId) -> Vec<u8> {
    [b"WILLIS-V1-ENGINE-".as_slice(), consortium.as_bytes()].concat()
}
