//! A person's keystore: one file, encrypted under a passphrase (Argon2id, RFC 9106, and AES-256-GCM),
//! replaced as a whole and held by one program at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use client::{Base64, Hex, SystemRandom, WorkFactors, stretch};
use rand_core::Rng;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

/// The largest content: a request whose eight grants have 4 MiB each, with room for all else.
pub(crate) const CONTENT_BYTES_MAX: usize = 48 << 20;
/// The largest file: that in base64, with its header.
const FILE_BYTES_MAX: u64 = (CONTENT_BYTES_MAX as u64 / 3 + 1) * 4 + 4_096;
/// The shortest passphrase: under it no work factor helps.
const PASSPHRASE_CHARACTERS_MIN: usize = 8;
const VERSION: u32 = 1;

/// Whose keys a keystore holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeystoreKind {
    /// A doctor's.
    Doctor,
    /// A patient's.
    Patient,
    /// A family agent's.
    Agent,
    /// An officer's of the registration centre, or of a hospital's IT.
    Officer,
}

/// Why a keystore does not open or is not written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeystoreError {
    /// A file cannot be read or written.
    #[error("{0} cannot be read or written: {1}; check the path, its permissions and the disk")]
    File(PathBuf, #[source] io::Error),
    /// There is a keystore already.
    #[error("{0} is there already and is not overwritten: choose another path")]
    Exists(PathBuf),
    /// Another program holds it.
    #[error("{0} is in use by another program: end that first")]
    InUse(PathBuf),
    /// The file is no keystore.
    #[error("{0} is no keystore of this version: {1}")]
    Malformed(PathBuf, String),
    /// It is another person's kind.
    #[error("{0} is the keystore of a {1:?}, not of a {2:?}")]
    Kind(PathBuf, KeystoreKind, KeystoreKind),
    /// The passphrase is wrong, or the file was altered.
    #[error("{0} does not open: the passphrase is wrong, or the file was altered")]
    Passphrase(PathBuf),
    /// There is more to keep than one file can hold.
    #[error(
        "{0} would become larger than a keystore can be, 48 MiB: nothing was changed; use another keystore for what comes"
    )]
    Full(PathBuf),
    /// The passphrase is too short.
    #[error("a passphrase needs {PASSPHRASE_CHARACTERS_MIN} characters or more")]
    TooShort,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    willis_keystore: u32,
    kind: KeystoreKind,
    memory_kib: u32,
    passes: u32,
    salt: Hex<16>,
    nonce: Hex<12>,
    tag: Hex<16>,
    content: Base64,
}

/// An open keystore. Nobody else can open it until it is dropped.
pub struct Keystore {
    path: PathBuf,
    kind: KeystoreKind,
    work: WorkFactors,
    salt: [u8; 16],
    key: Zeroizing<[u8; 32]>,
    /// Locked as long as it is open.
    _lock: File,
}

impl Keystore {
    /// Makes a keystore where there is none.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn create(
        path: &Path,
        kind: KeystoreKind,
        passphrase: &str,
        content: &[u8],
    ) -> Result<Self, KeystoreError> {
        if passphrase.chars().count() < PASSPHRASE_CHARACTERS_MIN {
            return Err(KeystoreError::TooShort);
        }
        if path.exists() {
            return Err(KeystoreError::Exists(path.to_owned()));
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| file(path, error))?;
        }
        let lock = lock(path)?;
        let mut salt = [0; 16];
        SystemRandom.fill_bytes(&mut salt);
        let work = WorkFactors::STANDARD;
        let key = stretched(path, passphrase, &salt, work)?;
        let keystore = Self {
            path: path.to_owned(),
            kind,
            work,
            salt,
            key,
            _lock: lock,
        };
        keystore.save(content)?;
        Ok(keystore)
    }

    /// Whose keys a keystore holds, as the file says; only opening it shows that this is true.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn kind(path: &Path) -> Result<KeystoreKind, KeystoreError> {
        Ok(read(path)?.kind)
    }

    /// Opens a keystore and gives its content.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn open(
        path: &Path,
        kind: KeystoreKind,
        passphrase: &str,
    ) -> Result<(Self, Zeroizing<Vec<u8>>), KeystoreError> {
        let lock = lock(path)?;
        let sealed = read(path)?;
        if sealed.kind != kind {
            return Err(KeystoreError::Kind(path.to_owned(), sealed.kind, kind));
        }
        let work = WorkFactors {
            memory_kib: sealed.memory_kib,
            passes: sealed.passes,
        };
        let key = stretched(path, passphrase, &sealed.salt.0, work)?;
        let keystore = Self {
            path: path.to_owned(),
            kind,
            work,
            salt: sealed.salt.0,
            key,
            _lock: lock,
        };
        let mut content = Zeroizing::new(sealed.content.0);
        let cipher = Aes256Gcm::new(&(*keystore.key).into());
        let (nonce, tag) = (Nonce::from(sealed.nonce.0), Tag::from(sealed.tag.0));
        cipher
            .decrypt_inout_detached(
                &nonce,
                &keystore.header(),
                content.as_mut_slice().into(),
                &tag,
            )
            .map_err(|_| KeystoreError::Passphrase(path.to_owned()))?;
        Ok((keystore, content))
    }

    /// Whether this is the passphrase that it was opened with.
    pub(crate) fn is_passphrase(&self, passphrase: &str) -> Result<bool, KeystoreError> {
        let key = stretched(&self.path, passphrase, &self.salt, self.work)?;
        Ok(key.ct_eq(self.key.as_slice()).into())
    }

    /// Replaces the content, durably: after a crash the file is the old or the new one.
    ///
    /// # Errors
    /// [`KeystoreError::File`], [`KeystoreError::Full`]; then the old one stands.
    pub fn save(&self, content: &[u8]) -> Result<(), KeystoreError> {
        // One that is written must open again.
        if content.len() > CONTENT_BYTES_MAX {
            return Err(KeystoreError::Full(self.path.clone()));
        }
        let mut nonce = [0; 12];
        SystemRandom.fill_bytes(&mut nonce);
        let mut bytes = Zeroizing::new(content.to_vec());
        let cipher = Aes256Gcm::new(&(*self.key).into());
        let tag = cipher
            .encrypt_inout_detached(
                &Nonce::from(nonce),
                &self.header(),
                bytes.as_mut_slice().into(),
            )
            .expect("a keystore is far below the cipher's limit of 64 GiB");
        let sealed = Sealed {
            willis_keystore: VERSION,
            kind: self.kind,
            memory_kib: self.work.memory_kib,
            passes: self.work.passes,
            salt: Hex(self.salt),
            nonce: Hex(nonce),
            tag: Hex(tag.into()),
            content: Base64(bytes.to_vec()),
        };
        let text = serde_json::to_vec(&sealed)
            .map_err(|error| KeystoreError::File(self.path.clone(), error.into()))?;
        replace(&self.path, &text).map_err(|error| file(&self.path, error))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the cipher authenticates beside the content.
    fn header(&self) -> Vec<u8> {
        scheme::enc(&[
            b"willis keystore",
            &VERSION.to_be_bytes(),
            &[self.kind as u8],
            &self.work.memory_kib.to_be_bytes(),
            &self.work.passes.to_be_bytes(),
            &self.salt,
        ])
    }
}

fn stretched(
    path: &Path,
    passphrase: &str,
    salt: &[u8; 16],
    work: WorkFactors,
) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    stretch(passphrase.as_bytes(), salt, work)
        .map_err(|error| KeystoreError::Malformed(path.to_owned(), error.to_string()))
}

/// A file beside the keystore, since that is replaced.
fn lock(path: &Path) -> Result<File, KeystoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(PathBuf::from(name))
        .map_err(|error| file(path, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(KeystoreError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(file(path, error)),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut out = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn file(path: &Path, error: io::Error) -> KeystoreError {
    KeystoreError::File(path.to_owned(), error)
}

fn read(path: &Path) -> Result<Sealed, KeystoreError> {
    let length = fs::metadata(path).map_err(|error| file(path, error))?.len();
    let malformed = |why: String| KeystoreError::Malformed(path.to_owned(), why);
    if length > FILE_BYTES_MAX {
        return Err(malformed("it is too large".into()));
    }
    let text = fs::read(path).map_err(|error| file(path, error))?;
    let sealed: Sealed =
        serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    if sealed.willis_keystore != VERSION {
        return Err(malformed(format!(
            "its version is {}",
            sealed.willis_keystore
        )));
    }
    Ok(sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: KeystoreKind = KeystoreKind::Patient;

    #[test]
    fn what_was_saved_opens_under_its_passphrase_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys").join("patient.json");
        let keystore = Keystore::create(&path, KIND, "correct horse", b"first").unwrap();
        let in_use = Keystore::open(&path, KIND, "correct horse");
        assert!(matches!(in_use, Err(KeystoreError::InUse(_))));
        keystore.save(b"second").unwrap();
        drop(keystore);
        let (keystore, content) = Keystore::open(&path, KIND, "correct horse").unwrap();
        assert_eq!(content.as_slice(), b"second");
        drop(keystore);
        let wrong = Keystore::open(&path, KIND, "correct hors");
        assert!(matches!(wrong, Err(KeystoreError::Passphrase(_))));
        let kind = Keystore::open(&path, KeystoreKind::Doctor, "correct horse");
        assert!(matches!(kind, Err(KeystoreError::Kind(..))));
        let again = Keystore::create(&path, KIND, "correct horse", b"");
        assert!(matches!(again, Err(KeystoreError::Exists(_))));
        let short = Keystore::create(&folder.path().join("x"), KIND, "1234567", b"");
        assert!(matches!(short, Err(KeystoreError::TooShort)));
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("second"));
    }

    #[test]
    fn what_does_not_fit_is_not_written_and_the_largest_that_fits_opens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("doctor.json");
        let keystore = Keystore::create(&path, KIND, "correct horse", b"before").unwrap();
        let mut content = vec![7; CONTENT_BYTES_MAX + 1];
        let refused = keystore.save(&content);
        assert!(matches!(refused, Err(KeystoreError::Full(_))));
        drop(keystore);
        let (keystore, before) = Keystore::open(&path, KIND, "correct horse").unwrap();
        assert_eq!(before.as_slice(), b"before");
        content.pop();
        keystore.save(&content).unwrap();
        drop(keystore);
        let (_, found) = Keystore::open(&path, KIND, "correct horse").unwrap();
        assert!(*found == content);
    }

    #[test]
    fn an_altered_file_does_not_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("doctor.json");
        drop(Keystore::create(&path, KIND, "correct horse", b"content").unwrap());
        let text = fs::read_to_string(&path).unwrap();
        let mut sealed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let changes: [(&str, serde_json::Value); 5] = [
            ("passes", 4.into()),
            ("salt", "00".repeat(16).into()),
            ("nonce", "00".repeat(12).into()),
            ("tag", "00".repeat(16).into()),
            ("content", "AAAAAAAAAA==".into()),
        ];
        for (field, value) in changes {
            let before = std::mem::replace(&mut sealed[field], value);
            fs::write(&path, sealed.to_string()).unwrap();
            let refused = Keystore::open(&path, KIND, "correct horse");
            assert!(
                matches!(refused, Err(KeystoreError::Passphrase(_))),
                "{field}"
            );
            sealed[field] = before;
        }
        for (field, value) in [
            ("memory_kib", u32::MAX),
            ("passes", 17),
            ("willis_keystore", 2),
        ] {
            let before = std::mem::replace(&mut sealed[field], value.into());
            fs::write(&path, sealed.to_string()).unwrap();
            let refused = Keystore::open(&path, KIND, "correct horse");
            assert!(
                matches!(refused, Err(KeystoreError::Malformed(..))),
                "{field}"
            );
            sealed[field] = before;
        }
        fs::write(&path, &text).unwrap();
        assert!(Keystore::open(&path, KIND, "correct horse").is_ok());
    }
}
