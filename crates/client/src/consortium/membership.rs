//! Which nodes there are: from the founding document on, by proofs that those before decided on these.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures::future::try_join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use ledger::{
    ContactState, InstitutionList, InstitutionState, MotionState, NodeSet, NodeSetProof,
    OpenMotions, Settings, TransactionId,
};
use scheme::{ConsortiumId, DecodeError, Decoder, Encoder, InstitutionId, ValidatorEpoch};

use chain::EngineCertificates;

use super::{ConsortiumClient, REPLY_BYTES_MAX};
use crate::directory::ServiceName;
use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::members::Member;
use crate::tls::TlsIdentity;

/// Proofs in one reply: at n = 4 some 2 KB each, at n = 255 some 40 KB.
pub const NODE_SET_PROOFS_MAX: usize = 16;

/// The bytes of proofs, at most [`NODE_SET_PROOFS_MAX`] (`spec/formats.md`).
pub fn encode_node_set_proofs(proofs: &[NodeSetProof]) -> Vec<u8> {
    let mut out = Encoder::new();
    out.u8(proofs.len().min(NODE_SET_PROOFS_MAX) as u8);
    for proof in proofs.iter().take(NODE_SET_PROOFS_MAX) {
        out.var(&proof.encode());
    }
    out.finish()
}

/// Ids of motions in one reply.
pub const MOTIONS_MAX: usize = 1_024;

/// The bytes of motions' ids, at most [`MOTIONS_MAX`] (`spec/formats.md`).
pub fn encode_motions(ids: &[TransactionId]) -> Vec<u8> {
    let taken = &ids[..ids.len().min(MOTIONS_MAX)];
    let mut out = Encoder::new();
    out.u16(u16::try_from(taken.len()).expect("at most 1,024"));
    for id in taken {
        out.bytes(id.as_bytes());
    }
    out.finish()
}

fn decode_motions(bytes: &[u8]) -> Result<Vec<TransactionId>, DecodeError> {
    const WHAT: &str = "the motions' ids";
    let mut from = Decoder::new(bytes);
    let count = usize::from(from.u16(WHAT)?);
    if count > MOTIONS_MAX {
        let why = "there are more than one reply holds";
        return Err(DecodeError::Invalid { what: WHAT, why });
    }
    let ids = (0..count)
        .map(|_| Ok(TransactionId::new(from.array(WHAT)?)))
        .collect::<Result<_, DecodeError>>()?;
    from.finish(WHAT)?;
    Ok(ids)
}

pub(super) fn decode_node_set_proofs(bytes: &[u8]) -> Result<Vec<NodeSetProof>, DecodeError> {
    const WHAT: &str = "the proofs of node sets";
    let mut from = Decoder::new(bytes);
    let count = from.count_u8(WHAT, NODE_SET_PROOFS_MAX)?;
    let proofs = (0..count)
        .map(|_| NodeSetProof::decode(from.var(WHAT, REPLY_BYTES_MAX)?))
        .collect::<Result<_, _>>()?;
    from.finish(WHAT)?;
    Ok(proofs)
}

/// The node sets that a client has learned of, and where nodes are reached.
pub(super) struct Membership {
    consortium: ConsortiumId,
    settings: Settings,
    certificates: EngineCertificates,
    /// Shown to nodes that are learned of later.
    identity: Option<TlsIdentity>,
    known: RwLock<Known>,
}

struct Known {
    /// Each set by the first validator epoch in which it is; the founders' is 0.
    sets: BTreeMap<ValidatorEpoch, NodeSet>,
    /// The validator epoch that one correct node has said to work in.
    current: ValidatorEpoch,
    nodes: BTreeMap<InstitutionId, Endpoint>,
}

impl Known {
    fn nodes_of(&self, epoch: ValidatorEpoch) -> NodeSet {
        let (_, set) = self
            .sets
            .range(..=epoch)
            .next_back()
            .expect("the founders' set is that of epoch 0");
        set.in_epoch(epoch)
    }
}

impl Membership {
    pub(super) fn new(
        consortium: ConsortiumId,
        settings: Settings,
        founders: NodeSet,
        nodes: BTreeMap<InstitutionId, Endpoint>,
        identity: Option<TlsIdentity>,
    ) -> Self {
        let first = ValidatorEpoch::new(0);
        Self {
            consortium,
            settings,
            certificates: EngineCertificates::new(settings.leader_term),
            identity,
            known: RwLock::new(Known {
                sets: BTreeMap::from([(first, founders)]),
                current: first,
                nodes,
            }),
        }
    }

    /// The nodes of the validator epoch that is known to be the present one.
    pub(super) fn nodes(&self) -> NodeSet {
        let known = self.read();
        known.nodes_of(known.current)
    }

    /// The nodes of a validator epoch, as far as this client has followed.
    pub(super) fn nodes_of(&self, epoch: ValidatorEpoch) -> NodeSet {
        self.read().nodes_of(epoch)
    }

    pub(super) fn endpoint(&self, node: InstitutionId) -> Option<Endpoint> {
        self.read().nodes.get(&node).cloned()
    }

    /// The nodes that vote now and have an address.
    pub(super) fn voters(&self) -> Vec<InstitutionId> {
        let known = self.read();
        let set = known.nodes_of(known.current);
        let seated = known.nodes.keys().copied();
        seated
            .filter(|node| set.by_institution(*node).is_some())
            .collect()
    }

    /// The accounting nodes of a validator epoch.
    pub(super) fn accounting(&self, epoch: ValidatorEpoch) -> Vec<InstitutionId> {
        let set = self.nodes_of(epoch);
        set.accounting().map(|node| node.institution).collect()
    }

    /// The nodes that may hold shares of a living grant: those that account now, and those that did.
    pub(super) fn holders(&self) -> Vec<InstitutionId> {
        let known = self.read();
        let mut holders = Vec::new();
        for set in known.sets.values().rev() {
            for node in set.accounting() {
                if !holders.contains(&node.institution) {
                    holders.push(node.institution);
                }
            }
        }
        holders
    }

    /// Takes note of the validator epoch that one correct node works in. Whether it is a later one.
    pub(super) fn is_at(&self, epoch: ValidatorEpoch) -> bool {
        let mut known = self.write();
        let later = epoch > known.current;
        known.current = known.current.max(epoch);
        later
    }

    /// Learns what the proofs lead to from the last set that is known. Whether that is anything new.
    fn learn(&self, proofs: &[NodeSetProof]) -> bool {
        let mut known = self.write();
        let mut learned = false;
        for proof in proofs {
            let (_, last) = known
                .sets
                .last_key_value()
                .expect("the founders' set is there");
            let nodes = proof.verify(&self.consortium, &self.settings, last, &self.certificates);
            // One that another answer led to already, or that does not stand.
            let Ok(nodes) = nodes else {
                continue;
            };
            let first = nodes.epoch();
            known.current = known.current.max(first);
            known.sets.insert(first, nodes);
            learned = true;
        }
        learned
    }

    fn last_epoch(&self) -> ValidatorEpoch {
        let known = self.read();
        let last = known.sets.last_key_value();
        *last.expect("the founders' set is there").0
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_all(why: &'static str) -> DecodeError {
    let what = "the motions";
    DecodeError::Invalid { what, why }
}

impl ConsortiumClient {
    /// Learns which nodes there are now, and where. A client does this by itself when a node works in a
    /// later validator epoch; one whose nodes are silent may ask for it.
    ///
    /// # Errors
    /// [`ClientError::Nobody`] if no node answers.
    pub async fn follow(&self) -> Result<(), ClientError> {
        let mut answered = false;
        // Each round leads on by one proof at least, so the number of changes bounds it.
        loop {
            let path = format!(
                "/v1/node-sets?after={}",
                self.membership.last_epoch().number()
            );
            let path = &path;
            let mut waiting: FuturesUnordered<_> = self
                .membership
                .voters()
                .into_iter()
                .map(|node| self.get(node, path))
                .collect();
            let enough = self.membership.nodes().quorum().certificate();
            let (mut heard, mut further) = (0, false);
            while heard < enough
                && let Some(answer) = waiting.next().await
            {
                let proofs = answer.and_then(|bytes| Ok(decode_node_set_proofs(&bytes)?));
                let Ok(proofs) = proofs else {
                    continue;
                };
                heard += 1;
                further |= self.membership.learn(&proofs);
            }
            answered |= heard > 0;
            if !further {
                break;
            }
        }
        // One that stayed may have moved.
        self.learn_addresses().await;
        if answered {
            Ok(())
        } else {
            Err(ClientError::Nobody)
        }
    }

    /// The institutions that belong to the consortium now, observers among them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn institutions(&self) -> Result<Vec<InstitutionState>, ClientError> {
        let list = self.state::<InstitutionList>(&()).await?;
        let held = list.map_or_else(Vec::new, |list| list.0);
        let held = held.into_iter();
        let asked = held.map(|id| async move { self.state::<InstitutionState>(&id).await });
        let found = try_join_all(asked).await?.into_iter().flatten();
        // One may have left since the list was read.
        Ok(found.filter(|held| held.left.is_none()).collect())
    }

    /// The same, each with where it is reached.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn members(&self) -> Result<Vec<Member>, ClientError> {
        let institutions = self.institutions().await?.into_iter();
        let asked = institutions.map(|held| async move {
            let said = self.state::<ContactState>(&held.institution.id).await?;
            Ok::<_, ClientError>(Member {
                institution: held.institution,
                contact: said.map(|said| said.contact),
            })
        });
        try_join_all(asked).await
    }

    /// Every motion that was ever put, the first one first, with who approved it and when it took effect. None is
    /// left out: the state says how many there were, and each is proved by itself.
    ///
    /// # Errors
    /// [`ClientError`] of the last node tried.
    pub async fn motions(&self) -> Result<Vec<(TransactionId, MotionState)>, ClientError> {
        let listed = self.state::<OpenMotions>(&()).await?;
        let count = listed.map_or(0, |listed| listed.count as usize);
        let mut last = ClientError::Nobody;
        for node in self.membership.voters() {
            match self.motions_by(node, count).await {
                Ok(found) => return Ok(found),
                Err(error) => last = super::worse(last, error),
            }
        }
        Err(last)
    }

    async fn motions_by(
        &self,
        node: InstitutionId,
        count: usize,
    ) -> Result<Vec<(TransactionId, MotionState)>, ClientError> {
        let (mut found, mut met) = (Vec::new(), BTreeSet::new());
        while found.len() < count {
            let path = format!("/v1/motions?from={}", found.len());
            let page = decode_motions(&self.get(node, &path).await?)?;
            let left = count - found.len();
            if page.is_empty() {
                return Err(not_all("there are fewer than the state counts").into());
            }
            for id in page.into_iter().take(left) {
                let held = self.state::<MotionState>(&id).await?;
                let held = held.ok_or_else(|| not_all("one of them is none"))?;
                if !met.insert(id) {
                    return Err(not_all("one is named twice").into());
                }
                found.push((id, held));
            }
        }
        // What the node says of their order nobody proves; those of one block stay as it has them.
        found.sort_by_key(|(_, held)| held.recorded.height);
        Ok(found)
    }

    /// Where the nodes are that the chain says so of. One whose address nobody gives is asked nothing.
    async fn learn_addresses(&self) {
        // An old state would say where a node was.
        let Ok(height) = self.height_now().await else {
            return;
        };
        let members: BTreeSet<_> = self
            .membership
            .nodes()
            .nodes()
            .iter()
            .map(|node| node.institution)
            .collect();
        for institution in members {
            let Ok(Some(said)) = self.state_near::<ContactState>(&institution, height).await else {
                continue;
            };
            let contact = said.contact;
            let authority = Some(contact.authority.as_str()).filter(|pem| !pem.is_empty());
            let endpoint = Endpoint::new(
                ServiceName::Node(institution),
                contact.node.as_str(),
                authority,
                self.membership.identity.as_ref(),
            );
            // A contact that cannot be used leaves the address that is known, if there is one.
            if let Ok(endpoint) = endpoint {
                self.membership.write().nodes.insert(institution, endpoint);
            }
        }
    }
}
