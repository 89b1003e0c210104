//! The record log (`spec/chain.md` section 3.2): an append-only Merkle tree over all record
//! transactions in the order of the chain. Record n is its leaf n. Every complete subtree is stored
//! once, two puts a record on average, so that a proof needs at most 64 reads at any size.

use scheme::ConsortiumId;
use scheme::Digest;
use scheme::{Decoder, Encoder};

use crate::identity::{Height, RecordNumber, TransactionId};
use crate::keys;
use crate::merkle::{Frontier, MerklePath, Tree, split};
use crate::state::ReadError;
use crate::view::{Changes, View};

/// The tree's right edge, its size and its root are all that appending needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordLog {
    consortium: ConsortiumId,
    frontier: Frontier,
}

impl RecordLog {
    /// As it stands in `view`.
    pub(crate) fn read(view: &dyn View, consortium: &ConsortiumId) -> Result<Self, ReadError> {
        let frontier = match view.get(&keys::log_frontier())? {
            None => Frontier::default(),
            Some(bytes) => {
                let mut from = Decoder::new(&bytes);
                let frontier = Frontier::decode(&mut from)?;
                from.finish("frontier of the record log")?;
                frontier
            }
        };
        Ok(Self {
            consortium: *consortium,
            frontier,
        })
    }

    /// How many records there are; also the number of the next one.
    pub(crate) fn next(&self) -> RecordNumber {
        RecordNumber::new(self.frontier.count())
    }

    /// Root over all records.
    pub(crate) fn root(&self) -> Digest {
        self.frontier.root(&Tree::log(self.consortium))
    }

    /// Appends a record that stands in the block at `height`.
    pub(crate) fn append(
        &mut self,
        height: Height,
        transaction: TransactionId,
        changes: &mut Changes,
    ) {
        let tree = Tree::log(self.consortium);
        let number = self.frontier.count();
        let leaf = leaf(&tree, height, transaction);
        for (level, node) in (0u8..).zip(self.frontier.push(&tree, leaf)) {
            changes.put(
                keys::log_node(level, number >> level),
                node.as_bytes().to_vec(),
            );
        }
    }

    /// Writes size and edge.
    pub(crate) fn write(&self, changes: &mut Changes) {
        let mut out = Encoder::new();
        self.frontier.encode(&mut out);
        changes.put(keys::log_frontier(), out.finish());
    }

    /// The way from record `number` to the root, `None` past the end.
    pub(crate) fn path(
        &self,
        view: &dyn View,
        number: RecordNumber,
    ) -> Result<Option<MerklePath>, ReadError> {
        let (position, count) = (number.number(), self.frontier.count());
        if position >= count {
            return Ok(None);
        }
        let mut siblings = Vec::new();
        let (mut start, mut length) = (0, count);
        // From the root down; the path is told from the leaf up.
        while length > 1 {
            let left = split(length);
            if position < start + left {
                siblings.push(self.range(view, start + left, length - left)?);
                length = left;
            } else {
                siblings.push(self.range(view, start, left)?);
                start += left;
                length -= left;
            }
        }
        siblings.reverse();
        Ok(Some(MerklePath {
            position,
            count,
            siblings,
        }))
    }

    /// Root over `length` (at least 1) records from `start`, where the shape of the tree lets such
    /// a range begin.
    fn range(&self, view: &dyn View, start: u64, length: u64) -> Result<Digest, ReadError> {
        if length.is_power_of_two() {
            let level = length.trailing_zeros() as u8;
            let key = keys::log_node(level, start >> level);
            let bytes = view.get(&key)?.ok_or(ReadError::Missing {
                what: "record log node",
            })?;
            let mut from = Decoder::new(&bytes);
            let node = Digest::new(from.array("record log node")?);
            from.finish("record log node")?;
            return Ok(node);
        }
        let left = split(length);
        let tree = Tree::log(self.consortium);
        Ok(tree.node(
            &self.range(view, start, left)?,
            &self.range(view, start + left, length - left)?,
        ))
    }
}

/// The leaf of one record: where it stands and its id.
pub(crate) fn leaf(tree: &Tree, height: Height, transaction: TransactionId) -> Digest {
    let content = Encoder::new()
        .u64(height.number())
        .bytes(transaction.as_bytes())
        .finish();
    tree.leaf(&content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::MemoryView;

    #[test]
    fn every_record_is_provable_at_every_size() {
        let here = ConsortiumId::new([3; 32]);
        let tree = Tree::log(here);
        let mut view = MemoryView::new();
        let mut leaves = Vec::new();
        for number in 0..40u64 {
            let id = TransactionId::new([number as u8; 32]);
            let mut changes = Changes::new();
            let mut log = RecordLog::read(&view, &here).expect("memory");
            assert_eq!(log.next().number(), number);
            log.append(Height::new(number / 3), id, &mut changes);
            log.write(&mut changes);
            view.apply(&changes);
            leaves.push(leaf(&tree, Height::new(number / 3), id));

            let log = RecordLog::read(&view, &here).expect("memory");
            assert_eq!(log.root(), tree.root(&leaves));
            for (position, leaf) in leaves.iter().enumerate() {
                let path = log
                    .path(&view, RecordNumber::new(position as u64))
                    .expect("memory");
                assert_eq!(path, tree.path(&leaves, position));
                assert_eq!(
                    path.and_then(|path| path.root(&tree, *leaf)),
                    Some(log.root())
                );
            }
            assert_eq!(log.path(&view, log.next()).expect("memory"), None);
        }
    }
}
