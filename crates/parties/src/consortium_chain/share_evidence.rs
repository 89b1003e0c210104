//! Evidence that a node gave a wrong share: what it signed, and the grant and header by which anyone
//! sees that its proof does not hold (`spec/formats.md`, M25).

use ledger::{NodeSet, TransactionId};
use scheme::{
    ConsortiumId, DecodeError, Decoder, Encoder, GRANT_BYTES_MAX, Grant, GrantId, HEADER_BYTES_MAX,
    Header, InstitutionId, ShareStatement, VerifiedGrant,
};
use thiserror::Error;

use super::accounting_node::ShareAnswer;
use super::reply::AgreedGrant;

/// A node's signed share whose proof does not hold. Whoever shows it shows the grant's outside with it:
/// the doctors, the request and its purpose, the owner's key of the episode, and the header of the
/// record's container. It opens nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareEvidence {
    record: TransactionId,
    grant: Vec<u8>,
    header: Vec<u8>,
    answer: ShareAnswer,
}

/// Why a piece proves nothing against anyone.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NotProved {
    /// A part of it is malformed.
    #[error("the evidence of a wrong share is malformed")]
    Malformed(#[from] DecodeError),
    /// The owner of its episode did not sign the grant, or the chain holds another one: its shares may
    /// not be those that the node was given.
    #[error("the grant beside the share is not the one on the chain")]
    NotTheChains,
    /// The header's maker did not know r.
    #[error("the header beside the share does not stand")]
    Header,
    /// The grant names no such node, or the consortium has none with its key.
    #[error("the share is from no node of the consortium")]
    NotANode,
    /// The node did not sign this share with this proof for this grant, record and class.
    #[error("the node did not sign the share with its proof")]
    NotSigned,
    /// The proof holds: the node's share is the one it was given.
    #[error("the node's proof holds: its share is the one that it was given")]
    Honest,
}

impl ShareEvidence {
    /// Puts a piece together: the record's transaction, the bytes of the grant and of the header of the
    /// record's container, and what the node answered.
    pub fn new(
        record: TransactionId,
        grant: Vec<u8>,
        header: Vec<u8>,
        answer: ShareAnswer,
    ) -> Self {
        Self {
            record,
            grant,
            header,
            answer,
        }
    }

    /// The grant's gid, by which the chain's entry is asked for.
    ///
    /// # Errors
    /// [`NotProved`] if the grant is none of this consortium, or its owner did not sign it.
    pub fn gid(&self, consortium: &ConsortiumId) -> Result<GrantId, NotProved> {
        self.signed_grant(consortium).map(|grant| grant.gid())
    }

    /// Checks the piece and names the institution whose node gave the wrong share. `on_chain` is the
    /// grant's entry as f + 1 nodes say: without it a granter could show another grant of the same
    /// gid, whose commitments an honest node's share does not fit.
    ///
    /// # Errors
    /// [`NotProved`]; then it says nothing against any node.
    pub fn verify(
        &self,
        consortium: &ConsortiumId,
        nodes: &NodeSet,
        on_chain: &AgreedGrant,
    ) -> Result<InstitutionId, NotProved> {
        let grant = self.signed_grant(consortium)?;
        if (on_chain.gid, on_chain.state.grant) != (grant.gid(), grant.digest()) {
            return Err(NotProved::NotTheChains);
        }
        let (header, length) = Header::decode(consortium, &self.header)?;
        if length != self.header.len() {
            return Err(NotProved::Header);
        }
        let header_digest = header.digest();
        let header = header.verify().map_err(|_| NotProved::Header)?;
        let answer = &self.answer;
        let place = usize::from(answer.node.number()) - 1;
        let key = grant.terms().nodes.get(place).map(|node| node.key);
        let node = key.and_then(|key| nodes.by_key(&key));
        let node = node.ok_or(NotProved::NotANode)?;
        let (gid, record) = (grant.gid(), self.record.digest());
        let statement = ShareStatement {
            consortium,
            gid: &gid,
            transaction: &record,
            header_digest: &header_digest,
            class: answer.class,
            node: answer.node,
            share: &answer.share,
        };
        let proof = answer.proof.as_ref().ok_or(NotProved::NotSigned)?;
        answer
            .verify(&statement, &header, &node.key)
            .map_err(|_| NotProved::NotSigned)?;
        // A class that the grant does not have is none that an honest node signs.
        let holds = grant
            .commitments(answer.class)
            .is_some_and(|commitments| proof.verify(&statement, &header, commitments).is_ok());
        if holds {
            return Err(NotProved::Honest);
        }
        Ok(node.institution)
    }

    fn signed_grant(&self, consortium: &ConsortiumId) -> Result<VerifiedGrant, NotProved> {
        Grant::decode(consortium, &self.grant)?
            .verify(consortium)
            .map_err(|_| NotProved::NotTheChains)
    }

    /// The bytes that are kept and travel (`spec/formats.md`, M25).
    pub fn encode(&self) -> Vec<u8> {
        Encoder::new()
            .bytes(self.record.as_bytes())
            .var(&self.grant)
            .var(&self.header)
            .bytes(&ShareAnswer::encode_all(std::slice::from_ref(&self.answer)))
            .finish()
    }

    /// Decodes a piece. Whether it stands is another question.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the evidence of a wrong share";
        let mut from = Decoder::new(bytes);
        let record = TransactionId::new(from.array(WHAT)?);
        let grant = from.var("the grant", GRANT_BYTES_MAX)?.to_vec();
        let header = from.var("the header", HEADER_BYTES_MAX)?.to_vec();
        let rest = from.remaining();
        let answers = ShareAnswer::decode_all(from.bytes(WHAT, rest)?)?;
        let [answer] = <[ShareAnswer; 1]>::try_from(answers).map_err(|_| DecodeError::Invalid {
            what: WHAT,
            why: "it is not about one share",
        })?;
        Ok(Self {
            record,
            grant,
            header,
            answer,
        })
    }
}
