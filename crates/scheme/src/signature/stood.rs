//! Signatures that stood are not checked again while they are remembered: a node sees a transaction when it
//! is handed in, when it comes from others, when it proposes it, in a block that it votes on and in the block
//! that is final, and the answer is the same each time.
//!
//! Whether a signature stands depends on key, text and signature alone, so there is nothing to go out of
//! date. Of each the digest of all three is kept, and only of those that stood: what does not stand is
//! computed each time, and costs its sender as much.

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::BadSignature;
use crate::hash::{Digest, DigestStream};

/// Of each of two generations: together some 3 MiB, and the signatures of several full blocks.
const GENERATION: usize = 32_768;

static STOOD: LazyLock<Mutex<Stood>> = LazyLock::new(|| Mutex::new(Stood::new(GENERATION)));

/// Runs the check unless it stood before with these parts, whose lengths are fixed but for the last.
pub(super) fn or_check(
    parts: &[&[u8]; 3],
    check: impl FnOnce() -> Result<(), BadSignature>,
) -> Result<(), BadSignature> {
    let mut digest = DigestStream::new();
    parts.iter().for_each(|part| digest.update(part));
    let digest = digest.finish();
    let stood = || STOOD.lock().unwrap_or_else(PoisonError::into_inner);
    if stood().has(&digest) {
        return Ok(());
    }
    // Nobody waits for somebody else's check.
    check()?;
    stood().add(digest);
    Ok(())
}

/// The last ones, in two generations: the older one goes when the younger one is full.
struct Stood {
    young: BTreeSet<Digest>,
    old: BTreeSet<Digest>,
    generation: usize,
}

impl Stood {
    fn new(generation: usize) -> Self {
        Self {
            young: BTreeSet::new(),
            old: BTreeSet::new(),
            generation,
        }
    }

    fn has(&mut self, digest: &Digest) -> bool {
        if self.young.contains(digest) {
            return true;
        }
        // What is asked for again stays.
        let has = self.old.remove(digest);
        if has {
            self.add(*digest);
        }
        has
    }

    fn add(&mut self, digest: Digest) {
        if self.young.len() >= self.generation {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;

    #[test]
    fn the_last_ones_are_remembered_and_no_more() {
        let digest = |number: u32| sha256(&number.to_be_bytes());
        let mut stood = Stood::new(4);
        for number in 0..100 {
            stood.add(digest(number));
            assert!(stood.has(&digest(number)));
            assert!(stood.young.len() + stood.old.len() <= 8);
        }
        assert!((96..100).all(|number| stood.has(&digest(number))));
        assert!((0..90).all(|number| !stood.has(&digest(number))));
        // What is asked for again outlives what is not.
        for number in 100..200 {
            assert!(stood.has(&digest(99)));
            stood.add(digest(number));
        }
        assert!(stood.has(&digest(99)));
    }

    #[test]
    fn what_stood_is_not_checked_again_and_what_did_not_is() {
        let parts: [&[u8]; 3] = [b"a key", b"a signature", b"a text"];
        for _ in 0..2 {
            assert_eq!(or_check(&parts, || Err(BadSignature)), Err(BadSignature));
        }
        assert_eq!(or_check(&parts, || Ok(())), Ok(()));
        let panics = || unreachable!("it is remembered");
        assert_eq!(or_check(&parts, panics), Ok(()));
        for other in [
            [b"A key".as_slice(), b"a signature", b"a text"],
            [b"a key", b"A signature", b"a text"],
            [b"a key", b"a signature", b"A text"],
        ] {
            assert_eq!(or_check(&other, || Err(BadSignature)), Err(BadSignature));
        }
    }
}
