//! The authenticated trie over the accountable state (`spec/chain.md` section 3.1): a binary trie
//! whose paths are SHA-256 of the state keys, a leaf standing as high as its path is alone. Its root
//! depends on the set of keys and values only, never on the order in which they came. Nodes lie in
//! the same key-value store as the state, by their place, so that an update overwrites and nothing
//! is left behind; nothing accountable is ever deleted.

use std::collections::BTreeMap;

use scheme::ConsortiumId;
use scheme::Digest;
use scheme::{DecodeError, Decoder, Encoder};

use crate::hash::{self, tagged};
use crate::keys;
use crate::state::ReadError;
use crate::view::{Changes, View};

/// The root of a trie without leaves.
pub(crate) const EMPTY: Digest = Digest::new([0; 32]);

/// What the trie says about one key: the way down, and what stands at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TriePath {
    /// Siblings from the root down.
    pub(crate) siblings: Vec<Digest>,
    pub(crate) end: TrieEnd,
}

/// Where the way to a key ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TrieEnd {
    /// At the key's own leaf.
    Found,
    /// At an empty place: the key is absent.
    Empty,
    /// At the leaf of another key: the key is absent.
    Other { path: Digest, value: Digest },
}

impl TriePath {
    /// The root that follows if `key` has `value` (`None`: is absent). `None` if this path cannot
    /// speak about that.
    pub(crate) fn root(
        &self,
        consortium: &ConsortiumId,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Option<Digest> {
        let path = path_of(consortium, key);
        let end = match (&self.end, value) {
            (TrieEnd::Found, Some(value)) => {
                leaf_hash(consortium, &path, &value_hash(consortium, value))
            }
            (TrieEnd::Empty, None) => EMPTY,
            (TrieEnd::Other { path: other, value }, None)
                if *other != path && shared_bits(other, &path) >= self.siblings.len() =>
            {
                leaf_hash(consortium, other, value)
            }
            _ => return None,
        };
        let root = self
            .siblings
            .iter()
            .enumerate()
            .rev()
            .fold(end, |below, (depth, sibling)| match bit(&path, depth) {
                Side::Left => node_hash(consortium, &below, sibling),
                Side::Right => node_hash(consortium, sibling, &below),
            });
        Some(root)
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        let steps = u16::try_from(self.siblings.len()).expect("a path has at most 256 bits");
        out.u16(steps);
        for sibling in &self.siblings {
            out.bytes(sibling.as_bytes());
        }
        match &self.end {
            TrieEnd::Found => out.u8(0),
            TrieEnd::Empty => out.u8(1),
            TrieEnd::Other { path, value } => {
                out.u8(2).bytes(path.as_bytes()).bytes(value.as_bytes())
            }
        };
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let steps = usize::from(from.u16("length of the trie path")?);
        if steps > DEPTH_MAX {
            let (found, limit) = (steps as u64, DEPTH_MAX as u64);
            return Err(DecodeError::TooLarge {
                what: "length of the trie path",
                found,
                limit,
            });
        }
        let siblings = (0..steps)
            .map(|_| from.array("trie path").map(Digest::new))
            .collect::<Result<_, _>>()?;
        let end = match from.u8("end of the trie path")? {
            0 => TrieEnd::Found,
            1 => TrieEnd::Empty,
            2 => TrieEnd::Other {
                path: Digest::new(from.array("path of the other leaf")?),
                value: Digest::new(from.array("value of the other leaf")?),
            },
            _ => {
                return Err(DecodeError::Invalid {
                    what: "end of the trie path",
                    why: "unknown",
                });
            }
        };
        Ok(Self { siblings, end })
    }
}

/// The root of the trie as it stands in `view`.
pub(crate) fn root(view: &dyn View, consortium: &ConsortiumId) -> Result<Digest, ReadError> {
    Ok(Node::read(view, &Place::ROOT)?.map_or(EMPTY, |node| node.hash(consortium)))
}

/// The way to `key` as the trie stands in `view`.
pub(crate) fn path(
    view: &dyn View,
    consortium: &ConsortiumId,
    key: &[u8],
) -> Result<TriePath, ReadError> {
    let wanted = path_of(consortium, key);
    let mut siblings = Vec::new();
    let mut place = Place::ROOT;
    loop {
        let end = match Node::read(view, &place)? {
            None => TrieEnd::Empty,
            Some(Node::Leaf { path, .. }) if path == wanted => TrieEnd::Found,
            Some(Node::Leaf { path, value }) => TrieEnd::Other { path, value },
            Some(Node::Inner { left, right }) => {
                let side = bit(&wanted, place.depth);
                let (child, sibling) = side.order(left, right);
                siblings.push(sibling);
                place = place.child(side);
                if child != EMPTY {
                    continue;
                }
                TrieEnd::Empty
            }
        };
        return Ok(TriePath { siblings, end });
    }
}

/// Sets `values` (state key to value) in the trie of `view`, writes the changed nodes to `changes`
/// and returns the new root. Each node on the way is read and hashed once, however many values
/// stand below it.
pub(crate) fn update(
    view: &dyn View,
    consortium: &ConsortiumId,
    values: &BTreeMap<Vec<u8>, Vec<u8>>,
    changes: &mut Changes,
) -> Result<Digest, ReadError> {
    let mut leaves: Vec<Leaf> = values
        .iter()
        .map(|(key, value)| Leaf {
            path: path_of(consortium, key),
            value: value_hash(consortium, value),
        })
        .collect();
    leaves.sort_unstable_by_key(|leaf| leaf.path);
    if leaves.is_empty() {
        return root(view, consortium);
    }
    Writer {
        view,
        consortium,
        changes,
    }
    .update(&Place::ROOT, &leaves)
}

struct Writer<'a> {
    view: &'a dyn View,
    consortium: &'a ConsortiumId,
    changes: &'a mut Changes,
}

impl Writer<'_> {
    /// Sets `leaves` (sorted, at least one, all below `place`).
    fn update(&mut self, place: &Place, leaves: &[Leaf]) -> Result<Digest, ReadError> {
        match Node::read(self.view, place)? {
            None => Ok(self.build(place, leaves)),
            Some(Node::Leaf { path, value }) => {
                let at = leaves.partition_point(|leaf| leaf.path < path);
                if leaves.get(at).is_some_and(|leaf| leaf.path == path) {
                    return Ok(self.build(place, leaves));
                }
                let mut all = leaves.to_vec();
                all.insert(at, Leaf { path, value });
                Ok(self.build(place, &all))
            }
            Some(Node::Inner {
                mut left,
                mut right,
            }) => {
                let (lower, upper) = halves(leaves, place.depth);
                if !lower.is_empty() {
                    left = self.update(&place.child(Side::Left), lower)?;
                }
                if !upper.is_empty() {
                    right = self.update(&place.child(Side::Right), upper)?;
                }
                Ok(self.write(place, &Node::Inner { left, right }))
            }
        }
    }

    /// Builds the subtree of `leaves` where nothing that stays stood before.
    fn build(&mut self, place: &Place, leaves: &[Leaf]) -> Digest {
        let node = match leaves {
            [] => return EMPTY,
            [leaf] => Node::Leaf {
                path: leaf.path,
                value: leaf.value,
            },
            _ => {
                let (lower, upper) = halves(leaves, place.depth);
                let left = self.build(&place.child(Side::Left), lower);
                let right = self.build(&place.child(Side::Right), upper);
                Node::Inner { left, right }
            }
        };
        self.write(place, &node)
    }

    fn write(&mut self, place: &Place, node: &Node) -> Digest {
        self.changes.put(place.key(), node.encode());
        node.hash(self.consortium)
    }
}

#[derive(Debug, Clone, Copy)]
struct Leaf {
    path: Digest,
    value: Digest,
}

/// The leaves whose path goes left at `depth`, and those whose path goes right.
fn halves(leaves: &[Leaf], depth: usize) -> (&[Leaf], &[Leaf]) {
    leaves.split_at(leaves.partition_point(|leaf| bit(&leaf.path, depth) == Side::Left))
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Leaf { path: Digest, value: Digest },
    Inner { left: Digest, right: Digest },
}

impl Node {
    fn read(view: &dyn View, place: &Place) -> Result<Option<Self>, ReadError> {
        let Some(bytes) = view.get(&place.key())? else {
            return Ok(None);
        };
        let mut from = Decoder::new(&bytes);
        let kind = from.u8("trie node")?;
        let first = Digest::new(from.array("trie node")?);
        let second = Digest::new(from.array("trie node")?);
        from.finish("trie node")?;
        match kind {
            0 => Ok(Some(Self::Leaf {
                path: first,
                value: second,
            })),
            1 => Ok(Some(Self::Inner {
                left: first,
                right: second,
            })),
            _ => Err(DecodeError::Invalid {
                what: "trie node",
                why: "unknown kind",
            }
            .into()),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let (kind, first, second) = match self {
            Self::Leaf { path, value } => (0, path, value),
            Self::Inner { left, right } => (1, left, right),
        };
        Encoder::new()
            .u8(kind)
            .bytes(first.as_bytes())
            .bytes(second.as_bytes())
            .finish()
    }

    fn hash(&self, consortium: &ConsortiumId) -> Digest {
        match self {
            Self::Leaf { path, value } => leaf_hash(consortium, path, value),
            Self::Inner { left, right } => node_hash(consortium, left, right),
        }
    }
}

/// Where a node stands: how many bits of the path lead to it, and which.
#[derive(Debug, Clone)]
struct Place {
    depth: usize,
    bits: [u8; 32],
}

impl Place {
    const ROOT: Self = Self {
        depth: 0,
        bits: [0; 32],
    };

    fn child(&self, side: Side) -> Self {
        let mut bits = self.bits;
        if side == Side::Right {
            bits[self.depth / 8] |= 0x80 >> (self.depth % 8);
        }
        Self {
            depth: self.depth + 1,
            bits,
        }
    }

    /// Depth before bits: two places of different depth may share their whole bytes.
    fn key(&self) -> Vec<u8> {
        let depth = u16::try_from(self.depth).expect("a path has 256 bits");
        let bytes = self.depth.div_ceil(8);
        Encoder::new()
            .u8(keys::TRIE_NODE)
            .u16(depth)
            .bytes(&self.bits[..bytes])
            .finish()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Side {
    /// The child on this side, then the other one.
    fn order(self, left: Digest, right: Digest) -> (Digest, Digest) {
        match self {
            Self::Left => (left, right),
            Self::Right => (right, left),
        }
    }
}

fn bit(path: &Digest, depth: usize) -> Side {
    if path.as_bytes()[depth / 8] & (0x80 >> (depth % 8)) == 0 {
        Side::Left
    } else {
        Side::Right
    }
}

/// How many leading bits two paths have in common.
fn shared_bits(one: &Digest, other: &Digest) -> usize {
    (0..DEPTH_MAX)
        .take_while(|depth| bit(one, *depth) == bit(other, *depth))
        .count()
}

fn path_of(consortium: &ConsortiumId, key: &[u8]) -> Digest {
    tagged(hash::TRIE_PATH, consortium, &[key])
}

fn value_hash(consortium: &ConsortiumId, value: &[u8]) -> Digest {
    tagged(hash::TRIE_VALUE, consortium, &[value])
}

fn leaf_hash(consortium: &ConsortiumId, path: &Digest, value: &Digest) -> Digest {
    tagged(
        hash::TRIE_LEAF,
        consortium,
        &[path.as_bytes(), value.as_bytes()],
    )
}

fn node_hash(consortium: &ConsortiumId, left: &Digest, right: &Digest) -> Digest {
    tagged(
        hash::TRIE_NODE,
        consortium,
        &[left.as_bytes(), right.as_bytes()],
    )
}

/// A path is a SHA-256 digest: 256 bits.
const DEPTH_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::MemoryView;
    use proptest::prelude::*;

    const HERE: ConsortiumId = ConsortiumId::new([9; 32]);

    type Values = BTreeMap<Vec<u8>, Vec<u8>>;

    fn set(view: &mut MemoryView, values: &Values) -> Digest {
        let mut changes = Changes::new();
        let root = update(view, &HERE, values, &mut changes).expect("memory");
        view.apply(&changes);
        root
    }

    /// The root from the definition, over all keys at once, without stored nodes.
    fn naive(values: &Values) -> Digest {
        fn below(leaves: &[(Digest, Digest)], depth: usize) -> Digest {
            match leaves {
                [] => EMPTY,
                [(path, value)] => {
                    tagged(hash::TRIE_LEAF, &HERE, &[path.as_bytes(), value.as_bytes()])
                }
                many => {
                    let goes_right =
                        |path: &Digest| path.as_bytes()[depth / 8] >> (7 - depth % 8) & 1 == 1;
                    let (right, left): (Vec<_>, Vec<_>) =
                        many.iter().copied().partition(|(path, _)| goes_right(path));
                    let (left, right) = (below(&left, depth + 1), below(&right, depth + 1));
                    tagged(hash::TRIE_NODE, &HERE, &[left.as_bytes(), right.as_bytes()])
                }
            }
        }
        let leaves: Vec<_> = values
            .iter()
            .map(|(key, value)| {
                (
                    tagged(hash::TRIE_PATH, &HERE, &[key]),
                    tagged(hash::TRIE_VALUE, &HERE, &[value]),
                )
            })
            .collect();
        below(&leaves, 0)
    }

    fn some_values() -> impl Strategy<Value = Values> {
        proptest::collection::btree_map(
            proptest::collection::vec(any::<u8>(), 1..3),
            proptest::collection::vec(any::<u8>(), 0..3),
            0..60,
        )
    }

    #[test]
    fn an_empty_trie_has_the_empty_root() {
        let view = MemoryView::new();
        assert_eq!(root(&view, &HERE).expect("memory"), EMPTY);
        let way = path(&view, &HERE, b"key").expect("memory");
        assert_eq!(way.root(&HERE, b"key", None), Some(EMPTY));
        assert_eq!(way.root(&HERE, b"key", Some(b"value")), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn root_is_that_of_the_set_whatever_the_order(first in some_values(), second in some_values()) {
            let mut view = MemoryView::new();
            set(&mut view, &first);
            let stepwise = set(&mut view, &second);
            let mut all = first.clone();
            all.extend(second.clone());
            prop_assert_eq!(stepwise, naive(&all));
            prop_assert_eq!(root(&view, &HERE).expect("memory"), stepwise);

            let mut one_by_one = MemoryView::new();
            let mut last = EMPTY;
            for (key, value) in all.iter().rev() {
                last = set(&mut one_by_one, &Values::from([(key.clone(), value.clone())]));
            }
            prop_assert_eq!(last, stepwise);
            prop_assert_eq!(one_by_one, view);
        }

        #[test]
        fn proofs_say_what_is_there_and_what_is_not(values in some_values(), asked in some_values()) {
            let mut view = MemoryView::new();
            let root = set(&mut view, &values);
            for (key, other) in values.iter().chain(asked.iter()) {
                let way = path(&view, &HERE, key).expect("memory");
                let held = values.get(key).map(Vec::as_slice);
                prop_assert_eq!(way.root(&HERE, key, held), Some(root));
                if held != Some(other.as_slice()) {
                    prop_assert_ne!(way.root(&HERE, key, Some(other)), Some(root));
                }
                if held.is_some() {
                    prop_assert_ne!(way.root(&HERE, key, None), Some(root));
                }
                let mut out = Encoder::new();
                way.encode(&mut out);
                let bytes = out.finish();
                prop_assert_eq!(TriePath::decode(&mut Decoder::new(&bytes)).expect("own bytes"), way);
            }
        }

        #[test]
        fn a_present_key_cannot_be_proved_absent_by_another_leaf(values in some_values()) {
            let mut view = MemoryView::new();
            let root = set(&mut view, &values);
            for key in values.keys() {
                let way = path(&view, &HERE, key).expect("memory");
                for (other, value) in &values {
                    let end = TrieEnd::Other {
                        path: path_of(&HERE, other),
                        value: value_hash(&HERE, value),
                    };
                    for cut in 0..=way.siblings.len() {
                        let forged = TriePath { siblings: way.siblings[..cut].to_vec(), end: end.clone() };
                        prop_assert_ne!(forged.root(&HERE, key, None), Some(root));
                    }
                }
            }
        }
    }
}
