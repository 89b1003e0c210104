//! The one Merkle tree of the ledger (`spec/chain.md` section 2): over the transactions of a block,
//! over the blocks of an anchor, over all records. Its shape is that of RFC 9162: the left subtree
//! of n leaves holds the largest power of two below n. No leaf is ever doubled, leaves and inner
//! nodes are hashed under different tags. Whatever bears a root bears the number of leaves too, so
//! that a path's length is never the prover's choice.

use scheme::ConsortiumId;
use scheme::Digest;
use scheme::{DecodeError, Decoder, Encoder};

use crate::hash::{self, Domain, tagged};

/// A way from a leaf to the root: position, number of leaves, and the sibling of each step, the
/// leaf's first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MerklePath {
    pub(crate) position: u64,
    pub(crate) count: u64,
    pub(crate) siblings: Vec<Digest>,
}

impl MerklePath {
    /// Where the leaf stands, from 0.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// How many leaves the tree has.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        let steps = u8::try_from(self.siblings.len()).expect("a tree of 2^64 leaves is 64 high");
        out.u64(self.position).u64(self.count).u8(steps);
        for sibling in &self.siblings {
            out.bytes(sibling.as_bytes());
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let position = from.u64("leaf position")?;
        let count = from.u64("leaf count")?;
        let steps = usize::from(from.u8("length of the Merkle path")?);
        if steps > HEIGHT_MAX {
            let (found, limit) = (steps as u64, HEIGHT_MAX as u64);
            return Err(DecodeError::TooLarge {
                what: "length of the Merkle path",
                found,
                limit,
            });
        }
        let siblings = (0..steps)
            .map(|_| from.array("Merkle path").map(Digest::new))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            position,
            count,
            siblings,
        })
    }

    /// The root that this path gives `leaf`, `None` if its length does not fit position and count
    /// (RFC 9162 section 2.1.3.2).
    pub(crate) fn root(&self, tree: &Tree, leaf: Digest) -> Option<Digest> {
        let (mut position, mut last) = (self.position, self.count.checked_sub(1)?);
        if position > last {
            return None;
        }
        let mut node = leaf;
        for sibling in &self.siblings {
            if last == 0 {
                return None;
            }
            if position & 1 == 1 || position == last {
                node = tree.node(sibling, &node);
                while position & 1 == 0 && position != 0 {
                    position >>= 1;
                    last >>= 1;
                }
            } else {
                node = tree.node(&node, sibling);
            }
            position >>= 1;
            last >>= 1;
        }
        (last == 0).then_some(node)
    }
}

/// Which tree is meant: its tags and the consortium.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tree {
    leaf: Domain,
    node: Domain,
    empty: Domain,
    consortium: ConsortiumId,
}

impl Tree {
    /// Over the transactions of one block.
    pub(crate) fn body(consortium: ConsortiumId) -> Self {
        let (leaf, node, empty) = (hash::BODY_LEAF, hash::BODY_NODE, hash::BODY_EMPTY);
        Self {
            leaf,
            node,
            empty,
            consortium,
        }
    }

    /// Over the Merkle roots of the blocks of one anchor.
    pub(crate) fn anchor(consortium: ConsortiumId) -> Self {
        let (leaf, node, empty) = (hash::ANCHOR_LEAF, hash::ANCHOR_NODE, hash::ANCHOR_EMPTY);
        Self {
            leaf,
            node,
            empty,
            consortium,
        }
    }

    /// Over all records of the chain.
    pub(crate) fn log(consortium: ConsortiumId) -> Self {
        let (leaf, node, empty) = (hash::LOG_LEAF, hash::LOG_NODE, hash::LOG_EMPTY);
        Self {
            leaf,
            node,
            empty,
            consortium,
        }
    }

    pub(crate) fn leaf(&self, content: &[u8]) -> Digest {
        tagged(self.leaf, &self.consortium, &[content])
    }

    pub(crate) fn node(&self, left: &Digest, right: &Digest) -> Digest {
        tagged(
            self.node,
            &self.consortium,
            &[left.as_bytes(), right.as_bytes()],
        )
    }

    pub(crate) fn empty(&self) -> Digest {
        tagged(self.empty, &self.consortium, &[])
    }

    /// The root over leaves that are hashed already.
    pub(crate) fn root(&self, leaves: &[Digest]) -> Digest {
        let mut frontier = Frontier::default();
        for leaf in leaves {
            frontier.push(self, *leaf);
        }
        frontier.root(self)
    }

    /// The way from the leaf at `position` to the root, `None` past the end.
    pub(crate) fn path(&self, leaves: &[Digest], position: usize) -> Option<MerklePath> {
        (position < leaves.len()).then_some(())?;
        let mut siblings = Vec::new();
        let (mut rest, mut offset) = (leaves, position);
        // From the root down; the path is told from the leaf up.
        while rest.len() > 1 {
            let (left, right) = rest.split_at(split(rest.len() as u64) as usize);
            if offset < left.len() {
                siblings.push(self.root(right));
                rest = left;
            } else {
                siblings.push(self.root(left));
                offset -= left.len();
                rest = right;
            }
        }
        siblings.reverse();
        Some(MerklePath {
            position: position as u64,
            count: leaves.len() as u64,
            siblings,
        })
    }
}

/// The right edge of a growing tree: the roots of its complete subtrees, largest first. It is all
/// that appending and the root need, at most 64 digests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Frontier {
    count: u64,
    peaks: Vec<Digest>,
}

impl Frontier {
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Appends a leaf. Returns the complete subtrees that it finishes, lowest first: the leaf
    /// itself at level 0, then every inner node whose last leaf it is.
    pub(crate) fn push(&mut self, tree: &Tree, leaf: Digest) -> Vec<Digest> {
        let mut node = leaf;
        let mut finished = vec![node];
        for _ in 0..self.count.trailing_ones() {
            let left = self
                .peaks
                .pop()
                .expect("one peak stands for each bit of the count");
            node = tree.node(&left, &node);
            finished.push(node);
        }
        self.peaks.push(node);
        self.count += 1;
        finished
    }

    pub(crate) fn root(&self, tree: &Tree) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return tree.empty();
        };
        peaks.fold(*last, |right, left| tree.node(left, &right))
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.u64(self.count);
        for peak in &self.peaks {
            out.bytes(peak.as_bytes());
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let count = from.u64("leaf count")?;
        let peaks = (0..count.count_ones())
            .map(|_| from.array("Merkle peak").map(Digest::new))
            .collect::<Result<_, _>>()?;
        Ok(Self { count, peaks })
    }
}

/// How many of `count` leaves (at least 2) stand in the left subtree: the largest power of two
/// below `count`.
pub(crate) fn split(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

/// A tree whose leaves a u64 counts is at most 64 high.
const HEIGHT_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree() -> Tree {
        Tree::body(ConsortiumId::new([7; 32]))
    }

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|n| tree().leaf(&n.to_be_bytes())).collect()
    }

    /// RFC 9162 section 2.1.1, word for word and recursive.
    fn naive(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => tree().empty(),
            [one] => *one,
            many => {
                let mut left = 1;
                while left * 2 < many.len() {
                    left *= 2;
                }
                tree().node(&naive(&many[..left]), &naive(&many[left..]))
            }
        }
    }

    #[test]
    fn root_is_that_of_rfc_9162_at_every_size() {
        for count in 0..70 {
            assert_eq!(
                tree().root(&leaves(count)),
                naive(&leaves(count)),
                "{count} leaves"
            );
        }
    }

    #[test]
    fn doubling_the_last_leaf_changes_the_root() {
        for count in 1..20 {
            let list = leaves(count);
            let mut doubled = list.clone();
            doubled.push(list[count - 1]);
            assert_ne!(tree().root(&list), tree().root(&doubled), "{count} leaves");
        }
    }

    #[test]
    fn an_inner_node_is_no_leaf() {
        let list = leaves(4);
        let inner = [
            tree().node(&list[0], &list[1]),
            tree().node(&list[2], &list[3]),
        ];
        // Two digests as one leaf content, the classic second preimage.
        let content = [inner[0].as_bytes().as_slice(), inner[1].as_bytes()].concat();
        assert_ne!(tree().leaf(&content), tree().root(&list));
        assert_ne!(tree().leaf(inner[0].as_bytes()), inner[0]);
    }

    #[test]
    fn trees_of_different_use_and_consortium_differ() {
        let (one, other) = (ConsortiumId::new([1; 32]), ConsortiumId::new([2; 32]));
        let leaf = b"leaf";
        assert_ne!(Tree::body(one).leaf(leaf), Tree::log(one).leaf(leaf));
        assert_ne!(Tree::body(one).leaf(leaf), Tree::anchor(one).leaf(leaf));
        assert_ne!(Tree::body(one).leaf(leaf), Tree::body(other).leaf(leaf));
        assert_ne!(Tree::body(one).empty(), Tree::log(one).empty());
    }

    proptest! {
        #[test]
        fn paths_lead_to_the_root_and_nowhere_else(count in 1usize..80, at in 0usize..80, bit in 0usize..256) {
            let list = leaves(count);
            let at = at % count;
            let path = tree().path(&list, at).expect("within");
            let root = naive(&list);
            prop_assert_eq!(path.root(&tree(), list[at]), Some(root));
            // Another leaf, another position, another count or an altered sibling lead elsewhere.
            prop_assert_ne!(path.root(&tree(), tree().leaf(b"other")), Some(root));
            for position in (0..count as u64 + 2).filter(|position| *position != at as u64) {
                let moved = MerklePath { position, ..path.clone() };
                prop_assert_ne!(moved.root(&tree(), list[at]), Some(root));
            }
            if let Some(last) = path.siblings.len().checked_sub(1) {
                let mut altered = path.clone();
                let mut bytes = *altered.siblings[bit % (last + 1)].as_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                altered.siblings[bit % (last + 1)] = Digest::new(bytes);
                prop_assert_ne!(altered.root(&tree(), list[at]), Some(root));
                let mut short = path.clone();
                short.siblings.pop();
                prop_assert_ne!(short.root(&tree(), list[at]), Some(root));
            }
            let mut long = path.clone();
            long.siblings.push(root);
            prop_assert_eq!(long.root(&tree(), list[at]), None);

            let mut out = Encoder::new();
            path.encode(&mut out);
            let bytes = out.finish();
            let mut from = Decoder::new(&bytes);
            prop_assert_eq!(MerklePath::decode(&mut from).expect("own bytes"), path);
        }

        #[test]
        fn frontier_survives_its_encoding(count in 0usize..300) {
            let mut frontier = Frontier::default();
            for leaf in leaves(count) {
                frontier.push(&tree(), leaf);
            }
            let mut out = Encoder::new();
            frontier.encode(&mut out);
            let bytes = out.finish();
            prop_assert_eq!(Frontier::decode(&mut Decoder::new(&bytes)).expect("own bytes"), frontier);
        }
    }
}
