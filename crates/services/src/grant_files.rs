//! The grants that a node holds, one file each, apart from the chain and from every backup: removed
//! and synced at their end (`spec/scheme.md` section 9).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use scheme::{GRANT_BYTES_MAX, GrantId};

/// A folder of grants.
#[derive(Debug, Clone)]
pub struct GrantFiles {
    folder: PathBuf,
}

impl GrantFiles {
    /// Opens the folder, making it if there is none.
    ///
    /// # Errors
    /// [`io::Error`] if it cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Writes a grant durably: under another name first, so that no half file is ever read.
    ///
    /// # Errors
    /// [`io::Error`]; then the grant is not kept.
    pub fn keep(&self, gid: &GrantId, grant: &[u8]) -> io::Result<()> {
        let (path, fresh) = (self.path(gid), self.path(gid).with_extension("new"));
        let mut file = File::create(&fresh)?;
        file.write_all(grant)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        self.sync()
    }

    /// Reads a grant; `None` if it is not here.
    ///
    /// # Errors
    /// [`io::Error`].
    pub fn read(&self, gid: &GrantId) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(gid)) {
            Ok(bytes) if bytes.len() <= GRANT_BYTES_MAX => Ok(Some(bytes)),
            Ok(_) => Err(io::Error::other(
                "the grant's file is longer than a grant can be",
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a grant durably. Removing one that is not here is no error.
    ///
    /// # Errors
    /// [`io::Error`]; then it must be tried again.
    pub fn remove(&self, gid: &GrantId) -> io::Result<()> {
        match fs::remove_file(self.path(gid)) {
            Ok(()) => self.sync(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
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
}
