//! Every domain tag of the ledger, in one place (`spec/chain.md` section 1), and the one hash that
//! uses them: SHA-256 over `enc(tag, consortium, parts)`.

use scheme::ConsortiumId;
use scheme::enc;
use scheme::{Digest, sha256};

/// A domain tag. Its bytes begin every hash input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Domain(&'static str);

/// Defines the tags and the list that the collision test walks.
macro_rules! tags {
    ($($name:ident = $text:literal;)*) => {
        $(pub(crate) const $name: Domain = Domain($text);)*
        #[cfg(test)]
        const ALL: &[Domain] = &[$($name),*];
    };
}

tags! {
    GENESIS = "WILLIS-V1-GENESIS";
    BLOCK = "WILLIS-V1-BLOCK";
    ANCHOR = "WILLIS-V1-ANCHOR";
    STATE_ROOT = "WILLIS-V1-STATE-ROOT";
    // Merkle tree over the transactions of one block.
    BODY_LEAF = "WILLIS-V1-BODY-LEAF";
    BODY_NODE = "WILLIS-V1-BODY-NODE";
    BODY_EMPTY = "WILLIS-V1-BODY-EMPTY";
    // Merkle tree over the Merkle roots of the blocks of one anchor.
    ANCHOR_LEAF = "WILLIS-V1-ANCHOR-LEAF";
    ANCHOR_NODE = "WILLIS-V1-ANCHOR-NODE";
    ANCHOR_EMPTY = "WILLIS-V1-ANCHOR-EMPTY";
    // Append-only Merkle tree over all records of the chain.
    LOG_LEAF = "WILLIS-V1-LOG-LEAF";
    LOG_NODE = "WILLIS-V1-LOG-NODE";
    LOG_EMPTY = "WILLIS-V1-LOG-EMPTY";
    // Trie over the accountable state.
    TRIE_PATH = "WILLIS-V1-TRIE-PATH";
    TRIE_VALUE = "WILLIS-V1-TRIE-VALUE";
    TRIE_LEAF = "WILLIS-V1-TRIE-LEAF";
    TRIE_NODE = "WILLIS-V1-TRIE-NODE";
}

/// SHA-256 over `enc(tag, consortium, parts)`.
pub(crate) fn tagged(tag: Domain, consortium: &ConsortiumId, parts: &[&[u8]]) -> Digest {
    let mut all: Vec<&[u8]> = Vec::with_capacity(parts.len() + 2);
    all.push(tag.0.as_bytes());
    all.push(consortium.as_bytes());
    all.extend_from_slice(parts);
    sha256(&enc(&all))
}

/// The one hash that cannot name the consortium, because the consortium's id comes of it.
pub(crate) fn genesis(bytes: &[u8]) -> ConsortiumId {
    ConsortiumId::new(*sha256(&enc(&[GENESIS.0.as_bytes(), bytes])).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_distinct() {
        let mut seen = std::collections::BTreeSet::new();
        for tag in ALL {
            assert!(seen.insert(tag.0), "{} stands twice", tag.0);
            assert!(tag.0.starts_with("WILLIS-V1-"));
        }
    }
}
