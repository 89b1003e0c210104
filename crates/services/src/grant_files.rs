//! The grants that a node holds, one file each, apart from the chain and from every backup: removed
//! and synced at their end (`spec/scheme.md` section 12, N14).

use std::io;
use std::path::Path;

use scheme::{GRANT_BYTES_MAX, GrantId};

use crate::durable_files::DurableFiles;

/// A folder of grants.
#[derive(Debug, Clone)]
pub struct GrantFiles(DurableFiles);

impl GrantFiles {
    /// Opens the folder, making it if there is none. What a stop of the process left half written is
    /// removed: its grant was never said to be kept.
    ///
    /// # Errors
    /// [`io::Error`] if it cannot be made, read or cleared.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DurableFiles::open(folder, GRANT_BYTES_MAX).map(Self)
    }

    /// Writes a grant durably: under another name first, so that no half file is ever read.
    ///
    /// # Errors
    /// [`io::Error`]; then the grant is not kept.
    pub fn keep(&self, gid: &GrantId, grant: &[u8]) -> io::Result<()> {
        self.0.keep(gid.as_bytes(), grant)
    }

    /// Reads a grant; `None` if it is not here.
    ///
    /// # Errors
    /// [`io::Error`]; of kind `InvalidData` if the file is longer than a grant can be.
    pub fn read(&self, gid: &GrantId) -> io::Result<Option<Vec<u8>>> {
        self.0.read(gid.as_bytes())
    }

    /// Removes a grant durably. Removing one that is not here is no error; the folder is synced also
    /// then, since an earlier removal may have failed to.
    ///
    /// # Errors
    /// [`io::Error`]; then it must be tried again.
    pub fn remove(&self, gid: &GrantId) -> io::Result<()> {
        self.0.remove(gid.as_bytes())
    }

    /// All grants that are here.
    ///
    /// # Errors
    /// [`io::Error`].
    pub fn list(&self) -> io::Result<Vec<GrantId>> {
        let names = self.0.list()?;
        Ok(names.into_iter().map(GrantId::new).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::durable_files::FRESH;

    #[test]
    fn a_grant_is_kept_read_listed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let files = GrantFiles::open(&folder.path().join("grants")).unwrap();
        let (one, two) = (GrantId::new([1; 32]), GrantId::new([2; 32]));
        files.keep(&two, b"second").unwrap();
        files.keep(&one, b"first").unwrap();
        assert_eq!(files.list().unwrap(), [one, two]);
        assert_eq!(
            files.read(&one).unwrap().as_deref(),
            Some(b"first".as_slice())
        );
        files.remove(&one).unwrap();
        files.remove(&one).unwrap();
        assert_eq!(files.read(&one).unwrap(), None);
        assert_eq!(files.list().unwrap(), [two]);
        let left: Vec<_> = fs::read_dir(folder.path().join("grants"))
            .unwrap()
            .collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn what_a_stop_left_half_written_is_swept_and_no_grant() {
        let folder = tempfile::tempdir().unwrap();
        let files = GrantFiles::open(folder.path()).unwrap();
        let (kept, half) = (GrantId::new([1; 32]), GrantId::new([2; 32]));
        files.keep(&kept, b"whole").unwrap();
        let fresh = files.0.path(half.as_bytes()).with_extension(FRESH);
        fs::write(&fresh, b"ha").unwrap();
        let files = GrantFiles::open(folder.path()).unwrap();
        assert!(!fresh.exists());
        assert_eq!(files.list().unwrap(), [kept]);
    }

    #[test]
    fn a_file_longer_than_a_grant_is_refused_by_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let files = GrantFiles::open(folder.path()).unwrap();
        let gid = GrantId::new([1; 32]);
        files.keep(&gid, &vec![0; GRANT_BYTES_MAX]).unwrap();
        assert!(files.read(&gid).unwrap().is_some());
        files.keep(&gid, &vec![0; GRANT_BYTES_MAX + 1]).unwrap();
        let refused = files.read(&gid).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_grant_that_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let files = GrantFiles::open(folder.path()).unwrap();
        let gid = GrantId::new([1; 32]);
        // A folder stands where the file should.
        fs::create_dir(files.0.path(gid.as_bytes())).unwrap();
        assert!(files.keep(&gid, b"grant").is_err());
        assert!(!files.0.path(gid.as_bytes()).with_extension(FRESH).exists());
        // It cannot be removed as a file either, and that is said each time.
        assert!(files.remove(&gid).is_err());
        assert!(files.remove(&gid).is_err());
    }
}
