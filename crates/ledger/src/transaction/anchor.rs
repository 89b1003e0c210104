//! The anchor: "when the specified time is reached, the node anchors the Merkle roots of all newly
//! generated blocks to the blockchain" (the paper's section 3.3).

use scheme::ConsortiumId;
use scheme::Digest;
use scheme::{DecodeError, Decoder, Encoder};

use crate::hash::{self, tagged};
use crate::identity::{Height, TransactionId};

/// The leader's transaction over all blocks since the last anchor. It bears no signature of its own:
/// the block's producer signs the block that holds it, and every node recomputes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The first block anchored.
    pub first: Height,
    /// The last block anchored: the parent of the block that holds the anchor.
    pub last: Height,
    /// The Merkle root over the blocks' Merkle roots.
    pub root: Digest,
}

impl Anchor {
    pub(crate) fn id(&self, consortium: &ConsortiumId) -> TransactionId {
        let mut body = Encoder::new();
        self.encode(&mut body);
        tagged(hash::ANCHOR, consortium, &[&body.finish()]).into()
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.u64(self.first.number())
            .u64(self.last.number())
            .bytes(self.root.as_bytes());
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            first: Height::new(from.u64("first height")?),
            last: Height::new(from.u64("last height")?),
            root: Digest::new(from.array("anchored root")?),
        })
    }

    pub(crate) fn check_shape(&self) -> Result<(), DecodeError> {
        if self.first > self.last {
            return Err(DecodeError::Invalid {
                what: "heights of the anchor",
                why: "not ascending",
            });
        }
        Ok(())
    }
}
