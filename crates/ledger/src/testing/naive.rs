//! The roots computed from their definitions, over everything at once, without stored nodes: the
//! test's own arithmetic beside the crate's incremental one.

use std::collections::BTreeMap;

use scheme::{ConsortiumId, Digest, enc, sha256};

use crate::block::Block;
use crate::transaction::Transaction;

fn hash(tag: &str, consortium: &ConsortiumId, parts: &[&[u8]]) -> Digest {
    let mut all: Vec<&[u8]> = vec![tag.as_bytes(), consortium.as_bytes()];
    all.extend_from_slice(parts);
    sha256(&enc(&all))
}

/// RFC 9162 section 2.1.1 over contents.
fn merkle(name: &str, consortium: &ConsortiumId, contents: &[Vec<u8>]) -> Digest {
    match contents {
        [] => hash(&format!("WILLIS-V1-{name}-EMPTY"), consortium, &[]),
        [one] => hash(&format!("WILLIS-V1-{name}-LEAF"), consortium, &[one]),
        many => {
            let mut left = 1;
            while left * 2 < many.len() {
                left *= 2;
            }
            let (left, right) = many.split_at(left);
            let (left, right) = (
                merkle(name, consortium, left),
                merkle(name, consortium, right),
            );
            let parts: [&[u8]; 2] = [left.as_bytes(), right.as_bytes()];
            hash(&format!("WILLIS-V1-{name}-NODE"), consortium, &parts)
        }
    }
}

pub(crate) fn anchor_root(consortium: &ConsortiumId, merkle_roots: &[Digest]) -> Digest {
    let contents: Vec<_> = merkle_roots
        .iter()
        .map(|root| root.as_bytes().to_vec())
        .collect();
    merkle("ANCHOR", consortium, &contents)
}

pub(crate) fn body_root(consortium: &ConsortiumId, block: &Block) -> Digest {
    let contents: Vec<_> = block
        .transactions()
        .iter()
        .map(Transaction::encode)
        .collect();
    merkle("BODY", consortium, &contents)
}

/// The root of the state after these blocks, from the founding one on, whose entries are these (C7).
pub fn state_root<K, V>(
    consortium: &ConsortiumId,
    blocks: &[Block],
    entries: impl IntoIterator<Item = (K, V)>,
) -> Digest
where
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let mut records = Vec::new();
    for block in blocks {
        for (id, transaction) in block.identified() {
            if matches!(transaction, Transaction::Record(_)) {
                let height = block.height().number().to_be_bytes();
                records.push([height.as_slice(), id.as_bytes()].concat());
            }
        }
    }
    let mut leaves = BTreeMap::new();
    for (key, value) in entries {
        let (key, value) = (key.as_ref(), value.as_ref());
        if !key.starts_with(b"s") {
            continue;
        }
        let path = hash("WILLIS-V1-TRIE-PATH", consortium, &[key]);
        leaves.insert(path, hash("WILLIS-V1-TRIE-VALUE", consortium, &[value]));
    }
    let leaves: Vec<_> = leaves.into_iter().collect();
    let trie = trie(consortium, &leaves, 0);
    let log = merkle("LOG", consortium, &records);
    let count = (records.len() as u64).to_be_bytes();
    hash(
        "WILLIS-V1-STATE-ROOT",
        consortium,
        &[trie.as_bytes(), &count, log.as_bytes()],
    )
}

fn trie(consortium: &ConsortiumId, leaves: &[(Digest, Digest)], depth: usize) -> Digest {
    match leaves {
        [] => Digest::new([0; 32]),
        [(path, value)] => hash(
            "WILLIS-V1-TRIE-LEAF",
            consortium,
            &[path.as_bytes(), value.as_bytes()],
        ),
        many => {
            let right = |path: &Digest| path.as_bytes()[depth / 8] >> (7 - depth % 8) & 1 == 1;
            let (right, left): (Vec<_>, Vec<_>) =
                many.iter().copied().partition(|(path, _)| right(path));
            let left = trie(consortium, &left, depth + 1);
            let right = trie(consortium, &right, depth + 1);
            hash(
                "WILLIS-V1-TRIE-NODE",
                consortium,
                &[left.as_bytes(), right.as_bytes()],
            )
        }
    }
}
