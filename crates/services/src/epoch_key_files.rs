//! A node's HPKE keys, one file for each validator epoch, apart from the chain and from every backup: made
//! here, wiped and synced away after the last grant that is sealed to it.

use std::fs;
use std::io;
use std::path::Path;

use client::SystemRandom;
use rand_core::Rng as _;
use scheme::{HpkePrivateKey, ValidatorEpoch};
use zeroize::Zeroizing;

use crate::durable_files::DurableFiles;

/// The bytes from which a key is derived.
const SEED_BYTES: usize = 32;

/// A folder of keys.
#[derive(Debug, Clone)]
pub struct EpochKeyFiles(DurableFiles);

impl EpochKeyFiles {
    /// Opens the folder, making it if there is none, for its owner alone.
    ///
    /// # Errors
    /// [`io::Error`] if it cannot be made, read or cleared.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let files = DurableFiles::open(folder, SEED_BYTES)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
        Ok(Self(files))
    }

    /// Makes the key of a validator epoch and writes it durably.
    ///
    /// # Errors
    /// [`io::Error`]; then there is none.
    pub fn make(&self, epoch: ValidatorEpoch) -> io::Result<HpkePrivateKey> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        SystemRandom.fill_bytes(seed.as_mut());
        self.keep(epoch, &seed)
    }

    /// Writes a key durably by the bytes from which it is derived.
    ///
    /// # Errors
    /// [`io::Error`]; then it is not kept.
    pub fn keep(
        &self,
        epoch: ValidatorEpoch,
        seed: &[u8; SEED_BYTES],
    ) -> io::Result<HpkePrivateKey> {
        self.0.keep(&name(epoch), seed)?;
        Ok(HpkePrivateKey::derive(seed))
    }

    /// All keys that are here. A file that is none is named in the log and left.
    ///
    /// # Errors
    /// [`io::Error`].
    pub fn all(&self) -> io::Result<Vec<(ValidatorEpoch, HpkePrivateKey)>> {
        let mut keys = Vec::new();
        for file in self.0.list()? {
            let Some(epoch) = epoch_of(&file) else {
                continue;
            };
            let seed = match self.0.read(&file) {
                Ok(seed) => Zeroizing::new(seed.unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => Zeroizing::default(),
                Err(error) => return Err(error),
            };
            match <&[u8; SEED_BYTES]>::try_from(seed.as_slice()) {
                Ok(seed) => keys.push((epoch, HpkePrivateKey::derive(seed))),
                Err(_) => {
                    tracing::error!(
                        epoch = epoch.number(),
                        "the file of the node's HPKE key of this validator epoch is damaged: grants that are sealed to it cannot be served here"
                    );
                }
            }
        }
        Ok(keys)
    }

    /// Removes a key durably. Removing one that is not here is no error.
    ///
    /// # Errors
    /// [`io::Error`]; then it must be tried again.
    pub fn remove(&self, epoch: ValidatorEpoch) -> io::Result<()> {
        self.0.remove(&name(epoch))
    }
}

/// Zeros, then the epoch's number.
fn name(epoch: ValidatorEpoch) -> [u8; 32] {
    let mut name = [0; 32];
    name[24..].copy_from_slice(&epoch.number().to_be_bytes());
    name
}

fn epoch_of(name: &[u8; 32]) -> Option<ValidatorEpoch> {
    let (zeros, number) = name.split_at(24);
    let number = number.try_into().ok()?;
    zeros
        .iter()
        .all(|byte| *byte == 0)
        .then(|| ValidatorEpoch::new(u64::from_be_bytes(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_found_again_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("keys");
        let files = EpochKeyFiles::open(&folder).unwrap();
        let (one, two) = (ValidatorEpoch::new(1), ValidatorEpoch::new(u64::MAX));
        let made = [one, two].map(|epoch| files.make(epoch).unwrap().public_key());
        assert_ne!(made[0], made[1]);
        let found = |files: &EpochKeyFiles| {
            let all = files.all().unwrap();
            all.iter()
                .map(|(epoch, key)| (*epoch, key.public_key()))
                .collect::<Vec<_>>()
        };
        let files = EpochKeyFiles::open(&folder).unwrap();
        assert_eq!(found(&files), [(one, made[0]), (two, made[1])]);
        files.remove(one).unwrap();
        files.remove(one).unwrap();
        assert_eq!(found(&files), [(two, made[1])]);
    }

    #[test]
    fn a_damaged_file_and_a_strangers_hold_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let files = EpochKeyFiles::open(folder.path()).unwrap();
        let epoch = ValidatorEpoch::new(7);
        files.make(epoch).unwrap();
        for length in [0, 31, 33] {
            fs::write(files.0.path(&name(epoch)), vec![7; length]).unwrap();
            assert!(files.all().unwrap().is_empty());
        }
        fs::write(files.0.path(&[1; 32]), [7; 32]).unwrap();
        assert!(files.all().unwrap().is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("keys");
        EpochKeyFiles::open(&folder).unwrap();
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
