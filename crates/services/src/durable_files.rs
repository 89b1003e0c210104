//! Small files that are written durably, each under a name of 32 bytes: whole or not at all, and gone
//! when their removal succeeded.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// How the name of a file ends that is not whole yet.
pub(crate) const FRESH: &str = "new";

/// A folder of such files.
#[derive(Debug, Clone)]
pub(crate) struct DurableFiles {
    folder: PathBuf,
    /// The longest file, in bytes.
    bytes_max: usize,
}

impl DurableFiles {
    /// Opens the folder, making it if there is none. What a stop of the process left half written is
    /// removed: it was never said to be kept.
    ///
    /// # Errors
    /// [`io::Error`] if it cannot be made, read or cleared.
    pub(crate) fn open(folder: &Path, bytes_max: usize) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == FRESH) {
                fs::remove_file(path)?;
            }
        }
        let files = Self {
            folder: folder.to_owned(),
            bytes_max,
        };
        files.sync()?;
        Ok(files)
    }

    /// Writes a file durably: under another name first, so that no half file is ever read.
    ///
    /// # Errors
    /// [`io::Error`]; then it is not kept.
    pub(crate) fn keep(&self, name: &[u8; 32], bytes: &[u8]) -> io::Result<()> {
        let (path, fresh) = (self.path(name), self.path(name).with_extension(FRESH));
        let written = (|| {
            let mut file = File::create(&fresh)?;
            file.write_all(bytes)?;
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

    /// Reads a file; `None` if it is not here.
    ///
    /// # Errors
    /// [`io::Error`]; of kind `InvalidData` if it is longer than any can be.
    pub(crate) fn read(&self, name: &[u8; 32]) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(self.bytes_max as u64 + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() > self.bytes_max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the file is longer than {} bytes", self.bytes_max),
            ));
        }
        Ok(Some(bytes))
    }

    /// Removes a file durably. Removing one that is not here is no error; the folder is synced also
    /// then, since an earlier removal may have failed to.
    ///
    /// # Errors
    /// [`io::Error`]; then it must be tried again.
    pub(crate) fn remove(&self, name: &[u8; 32]) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync(),
        }
    }

    /// All names that are here, ascending.
    ///
    /// # Errors
    /// [`io::Error`].
    pub(crate) fn list(&self) -> io::Result<Vec<[u8; 32]>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let bytes = name.to_str().and_then(|name| hex::decode(name).ok());
            names.extend(bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Where the file of this name lies.
    pub(crate) fn path(&self, name: &[u8; 32]) -> PathBuf {
        self.folder.join(hex::encode(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}
