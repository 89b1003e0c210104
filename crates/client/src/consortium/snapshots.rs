//! Snapshots of the state that nodes hold: what a node begins with when the chain is long.

use std::collections::{BTreeMap, BTreeSet};

use chain::{SnapshotStatement, StoredBlock};
use futures::future::join_all;
use ledger::{EncodedBlock, Header, Height};
use scheme::{DecodeError, Decoder, Encoder, InstitutionId};

use super::{ConsortiumClient, FINAL_BLOCKS_BYTES, REPLY_BYTES_MAX};
use crate::error::ClientError;

/// The longest piece of a snapshot in one reply.
pub const SNAPSHOT_PIECE_BYTES: usize = 1 << 20;

/// Statements in one reply: a node keeps two snapshots.
const STATEMENTS_MAX: usize = 8;

/// A snapshot that f + 1 nodes signed, and who has it.
#[derive(Debug, Clone)]
pub struct AgreedSnapshot {
    /// One of the statements; the others say the same.
    pub statement: SnapshotStatement,
    /// The nodes that signed it.
    pub nodes: Vec<InstitutionId>,
}

/// The bytes of a node's statements (`spec/formats.md`).
pub fn encode_snapshot_statements(statements: &[SnapshotStatement]) -> Vec<u8> {
    let taken = &statements[..statements.len().min(STATEMENTS_MAX)];
    let mut out = Encoder::new();
    out.u8(taken.len() as u8);
    for statement in taken {
        out.bytes(&statement.encode());
    }
    out.finish()
}

fn decode_statements(bytes: &[u8]) -> Result<Vec<SnapshotStatement>, DecodeError> {
    const WHAT: &str = "the snapshots' statements";
    let mut from = Decoder::new(bytes);
    let count = from.count_u8(WHAT, STATEMENTS_MAX)?;
    let statements = (0..count)
        .map(|_| {
            let bytes: [u8; SnapshotStatement::BYTES] = from.array(WHAT)?;
            SnapshotStatement::decode(&bytes)
        })
        .collect::<Result<_, _>>()?;
    from.finish(WHAT)?;
    Ok(statements)
}

impl ConsortiumClient {
    /// The newest snapshot of which f + 1 nodes of the present validator epoch signed the same digest;
    /// none if there is none yet.
    ///
    /// # Errors
    /// [`ClientError::Nobody`] if no node answers.
    pub async fn snapshot(&self) -> Result<Option<AgreedSnapshot>, ClientError> {
        self.follow().await?;
        let set = self.nodes();
        let voters = self.membership.voters();
        let asked = voters.into_iter().map(|node| async move {
            let bytes = self.get(node, "/v1/snapshots").await?;
            Ok::<_, ClientError>((node, decode_statements(&bytes)?))
        });
        let mut said: BTreeMap<Vec<u8>, (SnapshotStatement, BTreeSet<InstitutionId>)> =
            BTreeMap::new();
        for answer in join_all(asked).await.into_iter().flatten() {
            let (node, statements) = answer;
            let seat = set.by_institution(node).map(|seat| seat.key);
            for statement in statements {
                // One who changed its key since counts with the next snapshot.
                if seat == Some(statement.node) && statement.verify(&self.consortium).is_ok() {
                    let same = said
                        .entry(statement.said())
                        .or_insert_with(|| (statement, BTreeSet::new()));
                    same.1.insert(node);
                }
            }
        }
        let enough = set.quorum().one_correct();
        let agreed = said
            .into_values()
            .filter(|(_, nodes)| nodes.len() >= enough);
        let newest = agreed.max_by_key(|(statement, _)| statement.height);
        Ok(newest.map(|(statement, nodes)| AgreedSnapshot {
            statement,
            nodes: nodes.into_iter().collect(),
        }))
    }

    /// A piece of a snapshot; none at its end.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn snapshot_piece(
        &self,
        node: InstitutionId,
        height: Height,
        offset: u64,
    ) -> Result<Vec<u8>, ClientError> {
        let path = format!("/v1/snapshot?height={}&offset={offset}", height.number());
        self.get_within(node, &path, SNAPSHOT_PIECE_BYTES).await
    }

    /// The block that a snapshot names, with the certificate that proves it final: the last block of a
    /// validator epoch has one of its own.
    ///
    /// # Errors
    /// [`ClientError`] if the node does not answer, or what it gave is not that.
    pub async fn certified_block(
        &self,
        node: InstitutionId,
        statement: &SnapshotStatement,
    ) -> Result<StoredBlock, ClientError> {
        let (_, stored) = self
            .page(node, statement.height)
            .await?
            .into_iter()
            .next()
            .ok_or_else(|| wrong("the node has no such block"))?;
        let header = EncodedBlock::new(stored.block.clone()).header()?;
        self.check_body(&stored)?;
        let certified = stored
            .certificate
            .as_ref()
            .is_some_and(|certificate| self.certifies(&header, certificate));
        if *header.id().as_bytes() == statement.block && certified {
            return Ok(stored);
        }
        Err(wrong("its certificate does not stand, or it is another one").into())
    }

    /// The blocks from `from` to the one before `after`, lowest first, checked from the top: each is the
    /// one that the next names. A certificate that does not stand is left out.
    ///
    /// # Errors
    /// [`ClientError`] if the node does not answer, or one page does not reach to `after`.
    pub async fn blocks_before(
        &self,
        node: InstitutionId,
        from: Height,
        after: &Header,
    ) -> Result<Vec<StoredBlock>, ClientError> {
        let page = self.page(node, from).await?;
        let wanted = after.height.number().saturating_sub(from.number()) as usize;
        if page.len() < wanted {
            return Err(wrong("one page does not reach so far").into());
        }
        let mut next = *after;
        let mut blocks = Vec::new();
        for (header, mut stored) in page.into_iter().take(wanted).rev() {
            if header.id() != next.previous {
                return Err(wrong("a block is not the one that the next one names").into());
            }
            self.check_body(&stored)?;
            let certificate = stored.certificate.take();
            stored.certificate =
                certificate.filter(|certificate| self.certifies(&header, certificate));
            next = header;
            blocks.push(stored);
        }
        blocks.reverse();
        Ok(blocks)
    }

    /// Institutions whose nodes can be asked now.
    pub fn node_institutions(&self) -> Vec<InstitutionId> {
        self.membership.voters()
    }

    async fn page(
        &self,
        node: InstitutionId,
        from: Height,
    ) -> Result<Vec<(Header, StoredBlock)>, ClientError> {
        let path = format!("/v1/final-blocks?height={}", from.number());
        let block_bytes = Header::BYTES + self.limits.body_bytes as usize;
        let bytes_max = FINAL_BLOCKS_BYTES + block_bytes + REPLY_BYTES_MAX;
        let bytes = self.get_within(node, &path, bytes_max).await?;
        let blocks = super::blocks::decode_final_blocks(&bytes, block_bytes)?;
        let headed = blocks.into_iter().map(|stored| {
            let header = EncodedBlock::new(stored.block.clone()).header()?;
            Ok((header, stored))
        });
        Ok(headed.collect::<Result<_, DecodeError>>()?)
    }
}

fn wrong(why: &'static str) -> DecodeError {
    let what = "the blocks of a node";
    DecodeError::Invalid { what, why }
}
