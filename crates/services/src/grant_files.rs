//! The grants that a node holds, one file each, apart from the chain and from every backup: removed
//! and synced at their end (`spec/scheme.md` section 12, N14).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use scheme::{GRANT_BYTES_MAX, GrantId};

/// How the name of a file ends that is not whole yet.
const FRESH: &str = "new";

/// A folder of grants.
#[derive(Debug, Clone)]
pub struct GrantFiles {
    folder: PathBuf,
}

impl GrantFiles {
    /// Opens the folder, making it if there is none. What a stop of the process left half written is
    /// removed: its grant was never said to be kept.
    ///
    /// # Errors
    /// [`io::Error`] if it cannot be made, read or cleared.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == FRESH) {
                fs::remove_file(path)?;
            }
        }
        let files = Self {
            folder: folder.to_owned(),
        };
        files.sync()?;
        Ok(files)
    }

    /// Writes a grant durably: under another name first, so that no half file is ever read.
    ///
    /// # Errors
    /// [`io::Error`]; then the grant is not kept.
    pub fn keep(&self, gid: &GrantId, grant: &[u8]) -> io::Result<()> {
        let (path, fresh) = (self.path(gid), self.path(gid).with_extension(FRESH));
        let written = (|| {
            let mut file = File::create(&fresh)?;
            file.write_all(grant)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        })();
        if written.is_err() {
            // What cannot be removed now is removed when the folder is opened next.
            let _ = fs::remove_file(&fresh);
        }
        written?;
        self.sync()
    }

    /// Reads a grant; `None` if it is not here.
    ///
    /// # Errors
    /// [`io::Error`]; of kind `InvalidData` if the file is longer than a grant can be.
    pub fn read(&self, gid: &GrantId) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path(gid)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(GRANT_BYTES_MAX as u64 + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() > GRANT_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the grant's file is longer than a grant can be",
            ));
        }
        Ok(Some(bytes))
    }

    /// Removes a grant durably. Removing one that is not here is no error; the folder is synced also
    /// then, since an earlier removal may have failed to.
    ///
    /// # Errors
    /// [`io::Error`]; then it must be tried again.
    pub fn remove(&self, gid: &GrantId) -> io::Result<()> {
        match fs::remove_file(self.path(gid)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync(),
        }
    }

    /// All grants that are here.
    ///
    /// # Errors
    /// [`io::Error`].
    pub fn list(&self) -> io::Result<Vec<GrantId>> {
        let mut grants = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let bytes = name.to_str().and_then(|name| hex::decode(name).ok());
            if let Some(Ok(gid)) = bytes.map(<[u8; 32]>::try_from) {
                grants.push(GrantId::new(gid));
            }
        }
        grants.sort_unstable();
        Ok(grants)
    }

    fn path(&self, gid: &GrantId) -> PathBuf {
        self.folder.join(hex::encode(gid.as_bytes()))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let fresh = files.path(&half).with_extension(FRESH);
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
        fs::create_dir(files.path(&gid)).unwrap();
        assert!(files.keep(&gid, b"grant").is_err());
        assert!(!files.path(&gid).with_extension(FRESH).exists());
        // It cannot be removed as a file either, and that is said each time.
        assert!(files.remove(&gid).is_err());
        assert!(files.remove(&gid).is_err());
    }
}
