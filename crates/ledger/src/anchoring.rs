//! What the next anchor will hold: the blocks since the last one, as the right edge of a Merkle tree
//! over their Merkle roots, so that an anchor costs the same over ten blocks and over ten million.

use std::time::Duration;

use scheme::Digest;
use scheme::{ConsortiumId, Timestamp};
use scheme::{DecodeError, Decoder, Encoder};

use crate::identity::Height;
use crate::merkle::{Frontier, Tree};
use crate::policy::{RecordsSince, anchor_due};
use crate::transaction::Anchor;

/// The blocks that no anchor holds yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnchorWindow {
    /// The time from which the interval counts: of the block with the last anchor.
    since: Timestamp,
    /// The first block of the window.
    first: Height,
    records: RecordsSince,
    roots: Frontier,
}

impl AnchorWindow {
    /// Empty, after the block at `height`.
    pub(crate) fn after(height: Height, time: Timestamp) -> Self {
        let roots = Frontier::default();
        Self {
            since: time,
            first: height.next(),
            records: RecordsSince::None,
            roots,
        }
    }

    /// The anchor that a block at `time` must carry, if one is due.
    pub(crate) fn due(
        &self,
        consortium: &ConsortiumId,
        interval: Duration,
        time: Timestamp,
    ) -> Option<Anchor> {
        anchor_due(self.since, interval, time, self.records).then(|| Anchor {
            first: self.first,
            last: Height::new(self.first.number() + self.roots.count() - 1),
            root: self.roots.root(&Tree::anchor(*consortium)),
        })
    }

    /// Begins anew with the block at `height`, which carries an anchor over all before it.
    pub(crate) fn anchored(&mut self, height: Height, time: Timestamp) {
        let roots = Frontier::default();
        *self = Self {
            since: time,
            first: height,
            records: RecordsSince::None,
            roots,
        };
    }

    /// Adds a block.
    pub(crate) fn push(
        &mut self,
        consortium: &ConsortiumId,
        merkle_root: Digest,
        records: RecordsSince,
    ) {
        self.roots.push(
            &Tree::anchor(*consortium),
            anchored_leaf(consortium, merkle_root),
        );
        if records == RecordsSince::Some {
            self.records = records;
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let records = match self.records {
            RecordsSince::None => 0,
            RecordsSince::Some => 1,
        };
        let mut out = Encoder::new();
        out.u64(self.since.number())
            .u64(self.first.number())
            .u8(records);
        self.roots.encode(&mut out);
        out.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let window = Self {
            since: Timestamp::new(from.u64("time of the last anchor")?),
            first: Height::new(from.u64("first block without an anchor")?),
            records: match from.u8("records since the last anchor")? {
                0 => RecordsSince::None,
                1 => RecordsSince::Some,
                _ => {
                    let what = "records since the last anchor";
                    return Err(DecodeError::Invalid {
                        what,
                        why: "neither 0 nor 1",
                    });
                }
            },
            roots: Frontier::decode(&mut from)?,
        };
        from.finish("blocks without an anchor")?;
        Ok(window)
    }
}

/// A block's leaf in an anchor.
pub(crate) fn anchored_leaf(consortium: &ConsortiumId, merkle_root: Digest) -> Digest {
    Tree::anchor(*consortium).leaf(merkle_root.as_bytes())
}
