//! The mark that a restored folder bears: for which node key it was built. Under any other key a node in it
//! would begin without the memory of its votes and might vote twice in one view.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use ledger::Height;
use scheme::VerifyingKey;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const NAME: &str = "restored.toml";

/// For whom a folder was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RestoredFor {
    /// 64 hexadecimal digits.
    key: String,
    /// The last block of the backup.
    height: u64,
}

/// Why a node does not start in a restored folder.
#[derive(Debug, Error)]
pub(crate) enum NotThisKey {
    #[error("{NAME} in the node's folder cannot be read: {0}; restore the backup to a new folder")]
    Unreadable(String),
    #[error(
        "the node's folder was restored from a backup for the key that begins {0}, and the key of the configuration is another, which may have voted already: run `willis membership succeed`, which puts the restored key in place; if that was done and the node has got another key since, give it an empty folder"
    )]
    Another(String),
}

impl RestoredFor {
    pub(crate) fn new(key: &VerifyingKey, height: Height) -> Self {
        Self {
            key: hex::encode(key.as_bytes()),
            height: height.number(),
        }
    }

    /// Marks a folder, durably.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        let mut file = File::create_new(folder.join(NAME))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
    }

    /// That a node with this key may start in a folder: if it was restored, for no other.
    pub(crate) fn check(folder: &Path, key: &VerifyingKey) -> Result<(), NotThisKey> {
        let text = match fs::read_to_string(folder.join(NAME)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(NotThisKey::Unreadable(error.to_string())),
        };
        let restored: Self =
            toml::from_str(&text).map_err(|error| NotThisKey::Unreadable(error.to_string()))?;
        if restored.key == hex::encode(key.as_bytes()) {
            return Ok(());
        }
        let begin = restored.key.chars().take(16).collect();
        Err(NotThisKey::Another(begin))
    }
}

#[cfg(test)]
mod tests {
    use scheme::SigningKey;

    use super::*;

    #[test]
    fn a_restored_folder_starts_under_its_own_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let key = |number| SigningKey::from_seed([number; 32]).verifying_key();
        RestoredFor::check(folder.path(), &key(1)).unwrap();
        let marked = RestoredFor::new(&key(2), Height::new(9));
        marked.write(folder.path()).unwrap();
        RestoredFor::check(folder.path(), &key(2)).unwrap();
        let why = RestoredFor::check(folder.path(), &key(1)).unwrap_err();
        assert!(why.to_string().contains("membership succeed"), "{why}");
        fs::write(folder.path().join(NAME), "nonsense").unwrap();
        let why = RestoredFor::check(folder.path(), &key(2)).unwrap_err();
        assert!(matches!(why, NotThisKey::Unreadable(_)));
    }
}
