//! Evidence of misbehaving nodes, one file for each piece, apart from the chain's state: written as it
//! is found, never removed, and checked again when it is read.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chain::{EVIDENCE_BYTES_MAX, Evidence, Offence};
use ledger::LeaderView;
use scheme::{NODES_MAX, ValidatorEpoch, VerifyingKey, sha256};

use crate::durable_files::DurableFiles;

/// Pieces kept against one node, the first ones: more of its pieces would prove nothing else, and a node
/// that misbehaves in every view must neither fill the disk nor drive out what others did.
const PIECES_OF_ONE_NODE_MAX: usize = 16;
/// Pieces kept in all, of at most 365 bytes each: 1.5 MiB.
const PIECES_MAX: usize = PIECES_OF_ONE_NODE_MAX * NODES_MAX;

/// What a piece is known by: of one node, in one view, of one kind, one is enough.
type Known = (VerifyingKey, ValidatorEpoch, LeaderView, Offence);

/// A folder of evidence.
#[derive(Debug)]
pub struct EvidenceFiles {
    files: DurableFiles,
    kept: Mutex<BTreeMap<Known, Evidence>>,
}

impl EvidenceFiles {
    /// Opens the folder, making it if there is none. Nothing of it counts before it was checked
    /// ([`Self::take_up`]).
    ///
    /// # Errors
    /// [`io::Error`] if it cannot be made, read or cleared.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            files: DurableFiles::open(folder, EVIDENCE_BYTES_MAX)?,
            kept: Mutex::default(),
        })
    }

    /// Reads the pieces that lie in the folder and stand. What does not is left where it is, for a
    /// person to look at, and named in the log.
    ///
    /// # Errors
    /// [`io::Error`] if the folder cannot be read.
    pub fn take_up(&self, stands: impl Fn(&Evidence) -> bool) -> io::Result<()> {
        let mut kept = self.kept();
        for name in self.files.list()? {
            let piece = match self.files.read(&name) {
                Ok(bytes) => bytes.and_then(|bytes| Evidence::decode(&bytes).ok()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
                Err(error) => return Err(error),
            };
            match piece.filter(|piece| stands(piece)) {
                Some(piece) if has_room(&kept, &piece) => {
                    kept.insert(known(&piece), piece);
                }
                Some(_) => {}
                None => {
                    let name = hex::encode(name);
                    tracing::warn!(
                        name,
                        "a file of evidence does not stand and is left out: its disk may be damaged"
                    );
                }
            }
        }
        Ok(())
    }

    /// Keeps a piece durably; one that is known, or of a node of which enough is kept, is left out.
    ///
    /// # Errors
    /// [`io::Error`]; then it is not kept and can be handed in again.
    pub fn keep(&self, piece: &Evidence) -> io::Result<()> {
        let mut kept = self.kept();
        if !has_room(&kept, piece) {
            return Ok(());
        }
        let bytes = piece.encode();
        self.files.keep(sha256(&bytes).as_bytes(), &bytes)?;
        kept.insert(known(piece), piece.clone());
        Ok(())
    }

    /// All that is kept, by node and view.
    pub fn pieces(&self) -> Vec<Evidence> {
        self.kept().values().cloned().collect()
    }

    /// How many pieces are kept.
    pub fn count(&self) -> usize {
        self.kept().len()
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<Known, Evidence>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn known(piece: &Evidence) -> Known {
    (piece.node, piece.epoch, piece.view, piece.offence)
}

fn has_room(kept: &BTreeMap<Known, Evidence>, piece: &Evidence) -> bool {
    let of_node = kept.keys().filter(|(node, ..)| *node == piece.node);
    !kept.contains_key(&known(piece))
        && kept.len() < PIECES_MAX
        && of_node.count() < PIECES_OF_ONE_NODE_MAX
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn piece(node: u8, view: u64, votes: &[u8]) -> Evidence {
        Evidence {
            offence: Offence::ConflictingPrepare,
            node: VerifyingKey::new([node; 32]),
            epoch: ValidatorEpoch::new(0),
            view: LeaderView::new(view),
            votes: votes.to_vec(),
        }
    }

    #[test]
    fn evidence_outlives_a_restart_once_and_only_what_stands() {
        let folder = tempfile::tempdir().unwrap();
        let files = EvidenceFiles::open(folder.path()).unwrap();
        let (one, two) = (piece(1, 5, b"votes"), piece(2, 5, b"votes"));
        files.keep(&two).unwrap();
        files.keep(&one).unwrap();
        files.keep(&one).unwrap();
        // Other votes of the same view say nothing more.
        files.keep(&piece(1, 5, b"others")).unwrap();
        assert_eq!(files.pieces(), [one.clone(), two.clone()]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);

        // A damaged file, one that is too long and one that is no piece hold nothing up.
        let lies = |name: u8, bytes: &[u8]| {
            fs::write(folder.path().join(hex::encode([name; 32])), bytes).unwrap();
        };
        lies(1, b"no evidence");
        lies(2, &vec![0; EVIDENCE_BYTES_MAX + 1]);
        lies(3, &piece(3, 5, b"does not stand").encode());
        fs::write(folder.path().join("half.new"), b"half").unwrap();
        let files = EvidenceFiles::open(folder.path()).unwrap();
        assert_eq!(files.count(), 0, "nothing counts before it was checked");
        files.take_up(|piece| piece.votes == b"votes").unwrap();
        assert_eq!(files.pieces(), [one, two]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    }

    #[test]
    fn one_node_fills_neither_the_disk_nor_anothers_place() {
        let folder = tempfile::tempdir().unwrap();
        let files = EvidenceFiles::open(folder.path()).unwrap();
        for view in 0..100 {
            files.keep(&piece(1, view, b"votes")).unwrap();
        }
        files.keep(&piece(2, 1, b"votes")).unwrap();
        assert_eq!(files.count(), PIECES_OF_ONE_NODE_MAX + 1);
        let lie = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(lie, PIECES_OF_ONE_NODE_MAX + 1);
        let files = EvidenceFiles::open(folder.path()).unwrap();
        files.take_up(|_| true).unwrap();
        assert_eq!(files.count(), PIECES_OF_ONE_NODE_MAX + 1);
    }

    #[test]
    fn what_cannot_be_written_is_not_said_to_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        let files = EvidenceFiles::open(folder.path()).unwrap();
        let piece = piece(1, 1, b"votes");
        let name = hex::encode(sha256(&piece.encode()).as_bytes());
        // A folder stands where the file should.
        fs::create_dir(folder.path().join(&name)).unwrap();
        assert!(files.keep(&piece).is_err());
        assert_eq!(files.count(), 0);
        fs::remove_dir(folder.path().join(&name)).unwrap();
        files.keep(&piece).unwrap();
        assert_eq!(files.count(), 1);
    }
}
