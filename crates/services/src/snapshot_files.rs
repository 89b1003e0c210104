//! Snapshots of the state that a node wrote, each a file with the node's statement beside it. Two are
//! kept: whoever is fetching the one before the newest can go on.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use chain::{FinalView, SnapshotError, SnapshotStatement, write_snapshot};
use client::SNAPSHOT_PIECE_BYTES;
use ledger::Height;
use scheme::{ConsortiumId, SigningKey};

use crate::durable_files::FRESH;

/// How many are kept.
pub(crate) const KEPT: usize = 2;
const STATEMENT: &str = "statement";

/// A folder of snapshots.
#[derive(Debug, Clone)]
pub struct SnapshotFiles {
    folder: PathBuf,
}

impl SnapshotFiles {
    /// Opens the folder, making it if there is none. What was half written is removed, and what has no
    /// statement: the process stopped between the two.
    ///
    /// # Errors
    /// [`io::Error`] if it cannot be made, read or cleared.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if !path.with_extension(STATEMENT).exists() || ends(&path, FRESH) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Writes the state of a view with the node's statement, and lets go of older ones.
    ///
    /// # Errors
    /// [`SnapshotError`]; then it is not kept.
    pub(crate) fn write(
        &self,
        view: &dyn FinalView,
        consortium: &ConsortiumId,
        key: &SigningKey,
    ) -> Result<SnapshotStatement, SnapshotError> {
        let path = self.path(view.tip().height);
        let fresh = path.with_extension(FRESH);
        let written = self.write_as(view, consortium, key, &path, &fresh);
        if written.is_err() {
            // What cannot be removed now is removed when the folder is opened next.
            let _ = fs::remove_file(&fresh);
        }
        let statement = written?;
        let mut heights = self.heights()?;
        heights.sort_unstable();
        for old in heights.iter().rev().skip(KEPT) {
            let path = self.path(*old);
            fs::remove_file(path.with_extension(STATEMENT))?;
            fs::remove_file(path)?;
        }
        Ok(statement)
    }

    /// Writes the snapshot, then its statement, each under a name for what is not whole first.
    fn write_as(
        &self,
        view: &dyn FinalView,
        consortium: &ConsortiumId,
        key: &SigningKey,
        path: &Path,
        fresh: &Path,
    ) -> Result<SnapshotStatement, SnapshotError> {
        let mut out = BufWriter::new(File::create(fresh)?);
        let written = write_snapshot(view, consortium, &mut out)?;
        out.into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()?;
        fs::rename(fresh, path)?;
        let statement = SnapshotStatement::sign(consortium, view.tip(), &written, key);
        let mut file = File::create(fresh)?;
        file.write_all(&statement.encode())?;
        file.sync_all()?;
        // Only what has a statement is given away.
        fs::rename(fresh, path.with_extension(STATEMENT))?;
        File::open(&self.folder)?.sync_all()?;
        Ok(statement)
    }

    /// The height of the newest that is whole.
    pub(crate) fn newest(&self) -> Option<Height> {
        self.heights().ok()?.into_iter().max()
    }

    /// The statements of those that are whole, the newest first.
    ///
    /// # Errors
    /// [`io::Error`] if the folder cannot be read.
    pub(crate) fn statements(&self) -> io::Result<Vec<SnapshotStatement>> {
        let mut found = Vec::new();
        for height in self.heights()? {
            let bytes = fs::read(self.path(height).with_extension(STATEMENT))?;
            found.extend(SnapshotStatement::decode(&bytes));
        }
        found.sort_by_key(|statement| std::cmp::Reverse(statement.height));
        Ok(found)
    }

    /// A piece of a snapshot from an offset on, [`SNAPSHOT_PIECE_BYTES`] at most; `None` if it is not here.
    ///
    /// # Errors
    /// [`io::Error`] if it cannot be read.
    pub(crate) fn piece(&self, height: Height, offset: u64) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(height);
        if !path.with_extension(STATEMENT).exists() {
            return Ok(None);
        }
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(offset))?;
        let mut piece = Vec::new();
        file.take(SNAPSHOT_PIECE_BYTES as u64)
            .read_to_end(&mut piece)?;
        Ok(Some(piece))
    }

    fn heights(&self) -> io::Result<Vec<Height>> {
        let mut heights = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let named = ends(&path, STATEMENT);
            let height = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            heights.extend(height.filter(|_| named).map(Height::new));
        }
        Ok(heights)
    }

    fn path(&self, height: Height) -> PathBuf {
        self.folder.join(height.number().to_string())
    }
}

fn ends(path: &Path, with: &str) -> bool {
    path.extension().is_some_and(|extension| extension == with)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_whole_is_removed_when_the_folder_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let lies = |name: &str| fs::write(folder.path().join(name), b"bytes").unwrap();
        for name in [
            "79",
            "79.statement",
            "159",
            "239.new",
            "319",
            "319.new",
            "319.statement",
        ] {
            lies(name);
        }
        let files = SnapshotFiles::open(folder.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["319", "319.statement", "79", "79.statement"]);
        assert_eq!(files.newest(), Some(Height::new(319)));
        let piece = |height, offset| files.piece(Height::new(height), offset).unwrap();
        assert_eq!(piece(79, 2), Some(b"tes".to_vec()));
        assert_eq!(piece(79, 5), Some(Vec::new()));
        assert_eq!(piece(159, 0), None);
    }
}
