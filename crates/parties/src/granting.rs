//! What the patient's and the agent's device have in common when they grant: whom the shares are
//! sealed to, and the package that goes to the accounting nodes.

use ledger::{GrantEntry, NodeSet};
use rand_core::CryptoRng;
use scheme::{
    ConsortiumId, EpisodeKey, Grant, GrantError, GrantNode, GrantTerms, GrantedClass, Grantee,
    Granter, LogKey, Reach, SigningKey, Threshold, Timestamp, ValidatorEpoch, sha256,
};
use thiserror::Error;

use crate::consortium_chain::{AgreedNodeKeys, GrantPackage};
use crate::request::VerifiedRequest;

/// An accounting node has put no HPKE key on the chain, so nothing can be sealed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "an accounting node has put no key on the chain yet: try again when it has been started once"
)]
pub struct NoNodes;

/// The accounting nodes that will serve a grant, with their HPKE keys from the chain.
pub struct ServingNodes<'a> {
    /// The node set of the validator epoch.
    pub set: &'a NodeSet,
    /// Its accounting nodes' keys, as f + 1 nodes agree.
    pub keys: &'a AgreedNodeKeys,
}

impl ServingNodes<'_> {
    /// The accounting nodes in their order, each with its HPKE key.
    pub(crate) fn check(&self) -> Result<Vec<GrantNode>, NoNodes> {
        if self.set.epoch() != self.keys.epoch {
            return Err(NoNodes);
        }
        self.set
            .accounting()
            .map(|node| {
                let found = self
                    .keys
                    .keys
                    .iter()
                    .find(|(id, _)| *id == node.institution);
                let (_, hpke_key) = *found.ok_or(NoNodes)?;
                Ok(GrantNode {
                    key: node.key,
                    hpke_key,
                })
            })
            .collect()
    }

    /// The range of thresholds that the chain accepts, at least `least`.
    pub fn threshold_range(&self, least: Threshold) -> (usize, usize) {
        crate::consortium_chain::threshold_range(self.set, least.count())
    }
}

/// Everything that a grant is made of, by either granter.
pub(crate) struct PackageParts<'a> {
    pub(crate) episode_key: EpisodeKey,
    pub(crate) request: &'a VerifiedRequest,
    pub(crate) grantees: Vec<Grantee>,
    /// From when and until when.
    pub(crate) validity: (Timestamp, Timestamp),
    pub(crate) validator_epoch: ValidatorEpoch,
    pub(crate) nodes: &'a [GrantNode],
    pub(crate) threshold: Threshold,
    pub(crate) classes: &'a [GrantedClass],
    pub(crate) reach: &'a Reach,
    pub(crate) granter: &'a Granter<'a>,
}

/// The grant and its entry for the chain, signed by the revocation key.
pub(crate) fn package(
    consortium: &ConsortiumId,
    parts: PackageParts<'_>,
    revocation: &SigningKey,
    rng: &mut impl CryptoRng,
) -> Result<(GrantPackage, LogKey), GrantError> {
    let (not_before, expiry) = parts.validity;
    let mut access_keys: Vec<_> = parts
        .grantees
        .iter()
        .map(|grantee| grantee.access_key)
        .collect();
    access_keys.sort_unstable();
    let terms = GrantTerms {
        episode_key: parts.episode_key,
        revocation_key: revocation.verifying_key(),
        request: parts.request.as_bytes().to_vec(),
        grantees: parts.grantees,
        not_before,
        expiry,
        validator_epoch: parts.validator_epoch,
        nodes: parts.nodes.to_vec(),
        threshold: parts.threshold,
    };
    let (grant, log_key) = Grant::make(
        consortium,
        terms,
        parts.classes,
        parts.reach,
        parts.granter,
        rng,
    )?;
    let grant = grant.encode(consortium);
    let entry = GrantEntry {
        revocation_key: revocation.verifying_key(),
        grant: sha256(&grant),
        epoch: parts.validator_epoch,
        not_before,
        expiry,
        access_keys,
    };
    let signature = entry.sign(consortium, revocation);
    let package = GrantPackage {
        grant,
        entry,
        signature,
    };
    Ok((package, log_key))
}
