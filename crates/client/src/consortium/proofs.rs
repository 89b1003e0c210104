//! Proofs for keeping and for handing on, as [`ProofFile`]s. A node is asked for all of one file, and
//! the file is checked from the founding document on before it counts.

use std::collections::BTreeSet;

use ledger::{
    Accountable, FinalityProof, Genesis, GrantState, Height, InclusionProof, NodeSetProof,
    StateProof, Transaction, TransactionId,
};
use scheme::{DecodeError, Decoder, GrantId, InstitutionId, ValidatorEpoch, VerifyingKey};

use super::membership::decode_node_set_proofs;
use super::{ConsortiumClient, LAST_BLOCKS, REPLY_BYTES_MAX};
use crate::error::ClientError;
use crate::proof_file::{Claim, Place, ProofFile, Proved};

impl ConsortiumClient {
    /// That a record stands on the chain, by its transaction's id.
    ///
    /// # Errors
    /// [`ClientError`] of the last node tried; refused if it is not final.
    pub async fn prove_record(
        &self,
        founding: &Genesis,
        id: TransactionId,
    ) -> Result<(ProofFile, Proved), ClientError> {
        let mut last = ClientError::Nobody;
        for node in self.membership.voters() {
            let asked = async {
                let (finality, inclusion) = self.included(node, &id).await?;
                let claim = Claim::Record {
                    id,
                    finality,
                    inclusion,
                };
                self.complete(node, founding, claim).await
            };
            match asked.await {
                Ok(proved) => return Ok(proved),
                Err(error) => last = super::worse(last, error),
            }
        }
        Err(last)
    }

    /// What the newest state says of a grant, or that it says nothing.
    ///
    /// # Errors
    /// [`ClientError`] of the last node tried.
    pub async fn prove_grant(
        &self,
        founding: &Genesis,
        gid: GrantId,
    ) -> Result<(ProofFile, Proved), ClientError> {
        let least = self.recent().await?;
        let mut last = ClientError::Nobody;
        for node in self.membership.voters() {
            let asked = async {
                let (finality, state) = self.grant_state(node, &gid, least).await?;
                let claim = Claim::Grant {
                    gid,
                    finality,
                    state,
                };
                self.complete(node, founding, claim).await
            };
            match asked.await {
                Ok(proved) => return Ok(proved),
                Err(error) => last = super::worse(last, error),
            }
        }
        Err(last)
    }

    /// Every access under a grant up to the newest state that a node can prove. The blocks from the
    /// grant's on are read until as many accesses are met as the state counts; `progress` is told the
    /// height and where it ends at the latest.
    ///
    /// # Errors
    /// [`ClientError`] of the last node tried; malformed if there is no such grant.
    pub async fn prove_access_log(
        &self,
        founding: &Genesis,
        gid: GrantId,
        progress: &mut (dyn FnMut(Height, Height) + Send),
    ) -> Result<(ProofFile, Proved), ClientError> {
        let least = self.recent().await?;
        let mut last = ClientError::Nobody;
        for node in self.membership.voters() {
            match self
                .access_log_of(node, founding, gid, least, progress)
                .await
            {
                Ok(proved) => return Ok(proved),
                Err(error) => last = super::worse(last, error),
            }
        }
        Err(last)
    }

    async fn access_log_of(
        &self,
        node: InstitutionId,
        founding: &Genesis,
        gid: GrantId,
        least: Height,
        progress: &mut (dyn FnMut(Height, Height) + Send),
    ) -> Result<(ProofFile, Proved), ClientError> {
        let (finality, state) = self.grant_state(node, &gid, least).await?;
        let claim = Claim::Grant {
            gid,
            finality: finality.clone(),
            state: state.clone(),
        };
        let (_, found) = self.complete(node, founding, claim).await?;
        let Proved::Grant {
            as_of,
            state: Some(grant),
            ..
        } = found
        else {
            return Err(invalid("the chain has no such grant").into());
        };
        let mut accesses = Vec::new();
        for id in self.accesses(&grant, as_of, progress).await? {
            accesses.push(self.included(node, &id).await?);
        }
        let claim = Claim::AccessLog {
            gid,
            finality,
            state,
            accesses,
        };
        self.complete(node, founding, claim).await
    }

    /// The transactions with accesses under a grant, in their order.
    async fn accesses(
        &self,
        grant: &GrantState,
        as_of: Place,
        progress: &mut (dyn FnMut(Height, Height) + Send),
    ) -> Result<Vec<TransactionId>, ClientError> {
        let keys: BTreeSet<VerifyingKey> = grant.access.iter().map(|(key, _)| *key).collect();
        let counted: u64 = grant.access.iter().map(|(_, next)| next.number()).sum();
        let mut met = 0;
        let mut found = Vec::new();
        let mut from = grant.recorded.height;
        while met < counted && from <= as_of.height {
            for header in self.headers(from).await? {
                progress(header.height, as_of.height);
                from = header.height.next();
                // A heartbeat holds nothing.
                if header.count == 0 || met >= counted || header.height > as_of.height {
                    continue;
                }
                let block = self.block(&header).await?;
                for (id, transaction) in block.identified() {
                    let Transaction::Access(access) = transaction else {
                        continue;
                    };
                    let own = access
                        .entries
                        .iter()
                        .filter(|entry| keys.contains(&entry.access_key))
                        .count() as u64;
                    if own > 0 {
                        met += own;
                        found.push(id);
                    }
                }
            }
        }
        Ok(found)
    }

    /// A state that is older is refused: one correct node has reached this height, but for the last two
    /// blocks, whose certificates may be on their way.
    async fn recent(&self) -> Result<Height, ClientError> {
        let height = self.height().await?;
        Ok(Height::new(height.number().saturating_sub(LAST_BLOCKS)))
    }

    async fn grant_state(
        &self,
        node: InstitutionId,
        gid: &GrantId,
        least: Height,
    ) -> Result<(FinalityProof, StateProof), ClientError> {
        let path = format!("/v1/states/{}", hex::encode(GrantState::state_key(gid)));
        let bytes = self.get(node, &path).await?;
        let mut from = Decoder::new(&bytes);
        let finality = FinalityProof::decode(from.var("the finality proof", REPLY_BYTES_MAX)?)?;
        let state = StateProof::decode(from.var("the state proof", REPLY_BYTES_MAX)?)?;
        from.finish("the proved state")?;
        if finality.unverified_header().height < least {
            return Err(invalid("the node's state is older than what is known").into());
        }
        Ok((finality, state))
    }

    async fn included(
        &self,
        node: InstitutionId,
        id: &TransactionId,
    ) -> Result<(FinalityProof, InclusionProof), ClientError> {
        let path = format!("/v1/proofs/{}", hex::encode(id.as_bytes()));
        let bytes = self.get(node, &path).await?;
        let mut from = Decoder::new(&bytes);
        let finality = FinalityProof::decode(from.var("the finality proof", REPLY_BYTES_MAX)?)?;
        let inclusion = InclusionProof::decode(from.var("the inclusion proof", REPLY_BYTES_MAX)?)?;
        from.finish("the proof")?;
        Ok((finality, inclusion))
    }

    /// The file of a claim, with the steps to the nodes of the latest block that it speaks of.
    async fn complete(
        &self,
        node: InstitutionId,
        founding: &Genesis,
        claim: Claim,
    ) -> Result<(ProofFile, Proved), ClientError> {
        let (Claim::Record { finality, .. }
        | Claim::Grant { finality, .. }
        | Claim::AccessLog { finality, .. }) = &claim;
        let epoch = finality.unverified_header().epoch;
        let file = ProofFile {
            consortium: self.consortium,
            node_sets: self.steps(node, founding, epoch).await?,
            claim,
        };
        let proved = file
            .check(founding)
            .map_err(|why| ClientError::NotProven(node.number(), Box::new(why)))?;
        Ok((file, proved))
    }

    /// What leads from the founders to the nodes of a validator epoch.
    async fn steps(
        &self,
        node: InstitutionId,
        founding: &Genesis,
        epoch: ValidatorEpoch,
    ) -> Result<Vec<NodeSetProof>, ClientError> {
        let mut last = founding.node_set().map_err(|_| ClientError::Nobody)?;
        let mut steps = Vec::new();
        loop {
            let path = format!("/v1/node-sets?after={}", last.epoch().number());
            let page = decode_node_set_proofs(&self.get(node, &path).await?)?;
            if page.is_empty() {
                return Ok(steps);
            }
            for proof in page {
                let settings = &founding.settings;
                let next = proof.verify(&self.consortium, settings, &last, &self.certificates)?;
                if next.epoch() > epoch {
                    return Ok(steps);
                }
                last = next;
                steps.push(proof);
            }
        }
    }
}

fn invalid(why: &'static str) -> DecodeError {
    let what = "the proof";
    DecodeError::Invalid { what, why }
}
