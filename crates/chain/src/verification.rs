//! Whether a node's store holds the chain of its founding document and nothing else, checked without a
//! network: every block is executed again from the founding on into a store beside it, and what lies in
//! the one is compared with what came out in the other, key by key and in both directions.
//!
//! The second store is one of the same kind on the disk, because a state is made to fit a disk and not
//! a memory; it takes as much room as state and positions do. Blocks and certificates are read, not
//! written again.
//!
//! What is not checked: the engine's own files (votes, blocks for peers), which nothing on the chain
//! names, and blocks after the last certificate, which are valid and not proved final.

use std::{cmp::Ordering, path::Path};

use ledger::{Genesis, Height};
use thiserror::Error;

use crate::{
    replay::{Kept, Replay, Unsound, reasons},
    store::{Store as _, StoreError},
    store_fjall::{FjallStore, Part},
};

/// What is wrong at one place of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The height of the block that it is about; of the state, of the block after which it stands.
    pub height: Option<Height>,
    /// What is wrong, in one sentence without its full stop.
    pub what: String,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The last block that was executed again.
    pub height: Height,
    /// The last block that a certificate proves final.
    pub proved: Height,
    /// How many entries of the state were compared; `None` if the blocks did not lead to the end, so
    /// that there is nothing to compare with.
    pub compared: Option<u64>,
    /// What is wrong, in the order in which it was met, the first [`Self::FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// How many more there were.
    pub omitted: u64,
}

impl Verification {
    /// How many findings are kept: who needs more has nothing to rescue.
    pub const FINDINGS_MAX: usize = 100;

    /// Whether the store holds the chain and nothing else.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerificationStep {
    /// Executed again up to this height of so many.
    Executed {
        /// The block.
        height: Height,
        /// The store's last one.
        tip: Height,
    },
    /// So many entries of the state were compared.
    Compared(u64),
}

/// Why a store could not be verified at all.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NotVerified {
    /// There is no store.
    #[error("there is no node's store in this folder")]
    NoStore,
    /// It cannot be opened: mostly because a node has it open.
    #[error("the store cannot be opened; stop the node that uses it")]
    Unopened(#[source] StoreError),
    /// The store beside it cannot be filled: the folder for it is full or cannot be written.
    #[error("the chain cannot be executed again beside the store")]
    Scratch(#[source] StoreError),
    /// The founding document founds no chain.
    #[error("the founding document founds no chain")]
    Founding,
    /// It began with a snapshot, and blocks before that are not here yet.
    #[error(
        "the store began with a snapshot and has no block before {0} yet; start the node, which fills them in, and verify it then"
    )]
    Unfilled(Height),
}

/// Verifies the store in `folder`, which no node has open, against a founding document. `scratch` is an
/// empty folder for the chain that is executed again; whoever made it removes it.
///
/// The library has no opening that only reads: it may move what its journal holds into its trees. No
/// entry changes.
///
/// # Errors
/// [`NotVerified`]; what is wrong with the store's content is no error but a [`Finding`].
pub fn verify_store(
    folder: &Path,
    genesis: &Genesis,
    scratch: &Path,
    progress: &mut dyn FnMut(VerificationStep),
) -> Result<Verification, NotVerified> {
    // Opening what is not there would make it.
    let mut content = std::fs::read_dir(folder).map_err(|_| NotVerified::NoStore)?;
    if content.next().is_none() {
        return Err(NotVerified::NoStore);
    }
    let stored = match FjallStore::open(folder) {
        Ok(stored) => stored,
        Err(damaged @ StoreError::Damaged(_)) => {
            let nothing = Height::new(0);
            return Ok(Verification {
                height: nothing,
                proved: nothing,
                compared: None,
                findings: vec![Finding {
                    height: None,
                    what: damaged.to_string(),
                }],
                omitted: 0,
            });
        }
        Err(error) => return Err(NotVerified::Unopened(error)),
    };
    let begins = stored.begins_at().map_err(NotVerified::Unopened)?;
    if begins.number() > 0 {
        return Err(NotVerified::Unfilled(begins));
    }
    let replay = Replay::begin_with(scratch, genesis, Kept::Derived).map_err(|why| match why {
        Unsound::Store(error) => NotVerified::Scratch(error),
        _ => NotVerified::Founding,
    })?;
    verify(&stored, genesis, replay, progress)
}

fn verify(
    stored: &FjallStore,
    genesis: &Genesis,
    mut replay: Replay,
    progress: &mut dyn FnMut(VerificationStep),
) -> Result<Verification, NotVerified> {
    let mut found = Findings::default();
    let tip = match stored.tip() {
        Ok(Some(tip)) => tip.height,
        Ok(None) => {
            found.add(None, "the store is empty".to_owned());
            Height::new(0)
        }
        Err(error) => {
            found.add(None, error.to_string());
            Height::new(0)
        }
    };
    let ended = execute_all(stored, genesis, &mut replay, tip, &mut found, progress)?;
    let height = replay.view().tip().height;
    if ended && height != tip {
        let what = format!("the store says that block {tip} is the last, its blocks end here");
        found.add(Some(height), what);
    }
    certificates(stored, height, ended, &mut found);
    let compared = if ended {
        Some(compare_all(
            stored,
            replay.store(),
            height,
            &mut found,
            progress,
        )?)
    } else {
        None
    };
    Ok(Verification {
        height,
        proved: replay.proved(),
        compared,
        findings: found.kept,
        omitted: found.omitted,
    })
}

/// Executes the blocks in their order. Whether they led to the last one.
fn execute_all(
    stored: &FjallStore,
    genesis: &Genesis,
    replay: &mut Replay,
    tip: Height,
    found: &mut Findings,
    progress: &mut dyn FnMut(VerificationStep),
) -> Result<bool, NotVerified> {
    let mut next = Height::new(0);
    for entry in stored.entries(Part::Blocks) {
        let (key, block) = match entry {
            Ok(entry) => entry,
            Err(error) => {
                found.add(Some(next), format!("the block cannot be read: {error}"));
                return Ok(false);
            }
        };
        if key != next.number().to_be_bytes() {
            let what = format!("the block is missing; 0x{} follows instead", hex(&key));
            found.add(Some(next), what);
            return Ok(false);
        }
        let certificate = match stored.block(next) {
            Ok(found) => found.and_then(|found| found.certificate),
            Err(error) => {
                found.add(
                    Some(next),
                    format!("the certificate cannot be read: {error}"),
                );
                None
            }
        };
        if next.number() == 0 {
            // It is computed, and nobody signs that it is final.
            let first = ledger::genesis(genesis).map_err(|_| NotVerified::Founding)?;
            if block != first.0.encode() {
                found.add(Some(next), Unsound::Founding.to_string());
                return Ok(false);
            }
            if certificate.is_some() {
                found.add(
                    Some(next),
                    "the founding block has a certificate".to_owned(),
                );
            }
        } else {
            match replay.apply(&block, certificate.as_deref()) {
                Ok(_) => {}
                Err(Unsound::Store(error)) => return Err(NotVerified::Scratch(error)),
                Err(why) => {
                    found.add(Some(next), reasons(&why));
                    return Ok(false);
                }
            }
            if let Err(why) = replay.judge(certificate.as_deref()) {
                found.add(Some(next), reasons(&why));
            }
        }
        progress(VerificationStep::Executed { height: next, tip });
        next = next.next();
    }
    Ok(next.number() > 0)
}

/// That no certificate stands where there is no block.
fn certificates(stored: &FjallStore, last: Height, ended: bool, found: &mut Findings) {
    for entry in stored.entries(Part::Certificates) {
        let key = match entry {
            Ok((key, _)) => key,
            Err(error) => {
                found.add(None, format!("the certificates cannot be read: {error}"));
                return;
            }
        };
        match <[u8; 8]>::try_from(key.as_slice()).map(u64::from_be_bytes) {
            Ok(height) if height <= last.number() || !ended => {}
            _ => found.add(
                None,
                format!(
                    "a certificate stands under 0x{}, where no block is",
                    hex(&key)
                ),
            ),
        }
    }
}

/// Compares all that follows from the blocks. How many entries the state has.
fn compare_all(
    stored: &FjallStore,
    executed: &FjallStore,
    height: Height,
    found: &mut Findings,
    progress: &mut dyn FnMut(VerificationStep),
) -> Result<u64, NotVerified> {
    let mut entries = 0;
    for (part, name) in [
        (Part::State, "the state's entry"),
        (Part::Positions, "the place of transaction"),
        (Part::Heights, "the height of block"),
        (Part::Tip, "the entry of the last block"),
    ] {
        let mut kept = stored.entries(part);
        let mut made = executed.entries(part);
        // What cannot be read in the one is damage, in the other the disk that is worked on.
        let mut read = |found: &mut Findings| match kept.next().transpose() {
            Ok(entry) => entry,
            Err(error) => {
                found.add(Some(height), format!("{name} cannot be read: {error}"));
                None
            }
        };
        let mut expected = || made.next().transpose().map_err(NotVerified::Scratch);
        let (mut left, mut right) = (read(found), expected()?);
        loop {
            let order = match (&left, &right) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((one, _)), Some((other, _))) => one.cmp(other),
            };
            let wrong = match order {
                Ordering::Less => Some("is none of the chain's"),
                Ordering::Greater => Some("is missing"),
                Ordering::Equal if left != right => Some("is not what the blocks give"),
                Ordering::Equal => None,
            };
            let here = if order.is_le() { &left } else { &right };
            if let (Some(wrong), Some((key, _))) = (wrong, here) {
                found.add(Some(height), format!("{name} 0x{} {wrong}", hex(key)));
            }
            if order.is_le() {
                if part == Part::State {
                    entries += 1;
                    if entries % COMPARED_AT_A_TIME == 0 {
                        progress(VerificationStep::Compared(entries));
                    }
                }
                left = read(found);
            }
            if order.is_ge() {
                right = expected()?;
            }
        }
    }
    Ok(entries)
}

/// The first findings, and how many more there were.
#[derive(Default)]
struct Findings {
    kept: Vec<Finding>,
    omitted: u64,
}

impl Findings {
    fn add(&mut self, height: Option<Height>, what: String) {
        if self.kept.len() < Verification::FINDINGS_MAX {
            self.kept.push(Finding { height, what });
        } else {
            self.omitted += 1;
        }
    }
}

/// At most 40 bytes of a key: the longest that the state has besides nodes of its trie.
fn hex(bytes: &[u8]) -> String {
    let shown = bytes.iter().take(40);
    shown.map(|byte| format!("{byte:02x}")).collect()
}

/// Entries between two words of progress.
const COMPARED_AT_A_TIME: u64 = 10_000;
