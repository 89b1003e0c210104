//! Private keys in files: 64 hexadecimal digits, readable by their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use client::SystemRandom;
use rand_core::Rng;
use thiserror::Error;
use zeroize::Zeroizing;

/// Why a key cannot be read or made.
#[derive(Debug, Error)]
pub(crate) enum KeyError {
    #[error("{0} cannot be read: {1}; check the path and its permissions")]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("{0} does not hold a key of 64 hexadecimal digits")]
    NoKey(PathBuf),
    #[error(
        "{0} can be read by others than its owner: `chmod 600` it, and replace the key if others may have read it"
    )]
    Open(PathBuf),
    #[error("{0} cannot be written: {1}; a key that is there is never overwritten")]
    Unwritable(PathBuf, #[source] io::Error),
}

/// Reads a key that nobody else can read.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |error| KeyError::Unreadable(path.to_owned(), error);
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeyError::Open(path.to_owned()));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), key.as_mut_slice())
        .map_err(|_| KeyError::NoKey(path.to_owned()))?;
    Ok(key)
}

/// Makes a fresh key in a file that is not there yet.
pub(crate) fn make(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut key = Zeroizing::new([0; 32]);
    SystemRandom.fill_bytes(key.as_mut_slice());
    let text = Zeroizing::new(format!("{}\n", hex::encode(*key)));
    write(path, text.as_bytes())?;
    Ok(key)
}

/// Writes a secret to a file that is not there yet, durably.
pub(crate) fn write(path: &Path, secret: &[u8]) -> Result<(), KeyError> {
    let failed = |error| KeyError::Unwritable(path.to_owned(), error);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(secret).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed),
        _ => Ok(()),
    }
}
