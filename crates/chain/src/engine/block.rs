//! The ledger's block as the engine sees it: bytes with an id, a parent and a height.

use std::sync::Arc;

use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, Read, ReadExt as _, Write};
use commonware_consensus::{Block, BoundedBlock, Heightable, types};
use commonware_cryptography::{Digested, Digestible, sha256};
use ledger::{BlockId, Header, Height, Limits};

use super::Digest;

/// A block and its bytes, which are encoded or decoded once.
#[derive(Debug, Clone)]
pub(crate) struct ConsensusBlock {
    block: Arc<ledger::Block>,
    bytes: Arc<[u8]>,
    id: BlockId,
}

impl ConsensusBlock {
    pub(crate) fn new(block: ledger::Block) -> Self {
        let bytes = block.encode().into();
        Self {
            id: block.id(),
            block: Arc::new(block),
            bytes,
        }
    }

    pub(crate) fn id(&self) -> BlockId {
        self.id
    }

    pub(crate) fn block(&self) -> &ledger::Block {
        &self.block
    }

    pub(crate) fn shared(&self) -> Arc<ledger::Block> {
        Arc::clone(&self.block)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The block with its digest, as the engine carries it about.
    pub(crate) fn digested(self) -> Digested<Self> {
        let digest = self.digest();
        Digested::precomputed(self, digest)
    }
}

/// The engine's digest of a block is the block's id.
pub(crate) fn digest_of(id: &BlockId) -> Digest {
    sha256::Digest(*id.as_bytes())
}

/// The engine's height of a block is the ledger's.
pub(crate) fn height_of(height: Height) -> types::Height {
    types::Height::new(height.number())
}

impl Heightable for ConsensusBlock {
    fn height(&self) -> types::Height {
        height_of(self.block.header().height)
    }
}

impl Digestible for ConsensusBlock {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        digest_of(&self.id)
    }
}

impl Block for ConsensusBlock {
    fn parent(&self) -> Digest {
        digest_of(&self.block.parent())
    }
}

impl Write for ConsensusBlock {
    fn write(&self, buf: &mut impl BufMut) {
        let length = u32::try_from(self.bytes.len()).expect("a block is bounded far below 4 GiB");
        length.write(buf);
        buf.put_slice(&self.bytes);
    }
}

impl EncodeSize for ConsensusBlock {
    fn encode_size(&self) -> usize {
        LENGTH_BYTES + self.bytes.len()
    }
}

impl Read for ConsensusBlock {
    type Cfg = Limits;

    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        let length = u32::read(buf)? as usize;
        if length > block_bytes(limits) {
            return Err(Error::InvalidLength(length));
        }
        if buf.remaining() < length {
            return Err(Error::EndOfBuffer);
        }
        let mut bytes = vec![0; length];
        buf.copy_to_slice(&mut bytes);
        let block = ledger::Block::decode(&bytes, limits)
            .map_err(|error| Error::Wrapped("block", Box::new(error)))?;
        // The id covers the header only. A block with another's body must not be kept under that
        // id: it would be delivered as the final one and stop this node.
        if !block.holds_its_body() {
            return Err(Error::Invalid(
                "block",
                "the body is not the one that the header names",
            ));
        }
        Ok(Self {
            id: block.id(),
            block: Arc::new(block),
            bytes: bytes.into(),
        })
    }
}

impl BoundedBlock for ConsensusBlock {
    fn max_encode_size(limits: &Limits) -> usize {
        LENGTH_BYTES + block_bytes(limits)
    }
}

/// The largest block within `limits`, in bytes.
pub(crate) fn block_bytes(limits: &Limits) -> usize {
    Header::BYTES + limits.body_bytes as usize
}

/// The u32 big-endian length before a block's bytes.
const LENGTH_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_codec::{Copying, Decode as _, Encode as _};
    use ledger::{
        CheckedTransaction, LeaderRotation, LeaderView, MemoryView, genesis, propose,
        testing::FourHospitals,
    };

    /// The story: an id covers the header, so a leader could send one node the same header with
    /// another body; kept under the id, it would later be delivered there as final.
    #[test]
    fn a_block_with_anothers_body_is_not_taken() {
        let hospitals = FourHospitals::default();
        let limits = hospitals.genesis.settings.limits();
        let (first, changes) = genesis(&hospitals.genesis).expect("a consortium");
        let mut state = MemoryView::new();
        state.apply(&changes);
        // Two registrations of equal length, so that only the Merkle root tells their order.
        let both: Vec<_> = [1, 2]
            .map(|number| {
                let registration = hospitals.registration(number);
                CheckedTransaction::new(registration, &hospitals.consortium).expect("valid")
            })
            .into();
        let nodes = hospitals.genesis.node_set().expect("four hospitals");
        let rotation = LeaderRotation::new(&nodes, hospitals.genesis.settings.leader_term);
        let view = LeaderView::new(1);
        let leader = rotation.leader(view).institution.number();
        let key = &hospitals.hospital(leader).node_key;
        let time = scheme::Timestamp::new(first.time().number() + 1);
        let proposal = propose(&state, first.header(), view, time, &both, key).expect("its turn");
        let block = ConsensusBlock::new(proposal.block);

        let bytes = block.encode();
        let again = ConsensusBlock::decode_cfg(Copying(&bytes), &limits).expect("it is whole");
        assert_eq!(again.id(), block.id());
        assert_eq!(again.bytes(), block.bytes());

        let (header, body) = block.bytes().split_at(Header::BYTES);
        let (one, other) = body.split_at(body.len() / 2);
        let swapped = [header, other, one].concat();
        ledger::Block::decode(&swapped, &limits).expect("by its layout it is a block");
        let mut message = Vec::new();
        u32::try_from(swapped.len())
            .expect("small")
            .write(&mut message);
        message.extend_from_slice(&swapped);
        assert!(ConsensusBlock::decode_cfg(Copying(&message), &limits).is_err());

        for length in 0..bytes.len() {
            assert!(ConsensusBlock::decode_cfg(Copying(&bytes[..length]), &limits).is_err());
        }
        let tight = Limits {
            body_bytes: 10,
            ..limits
        };
        assert!(ConsensusBlock::decode_cfg(Copying(&bytes), &tight).is_err());
    }
}
