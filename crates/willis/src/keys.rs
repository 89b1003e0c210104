//! Private keys in files: 64 hexadecimal digits, readable by their owner alone. In place of an
//! institution's key, its file may hold the URI of a key in a token (decision 0021).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::SystemRandom;
use rand_core::Rng;
use scheme::{HeldKey, Signature, Signer, SignerError, SigningKey, VerifyingKey};
use thiserror::Error;
use token::{KeyUri, SCHEME, Token, TokenError, URI_BYTES_MAX, UriError};
use tokio::runtime::{Handle, RuntimeFlavor};
use zeroize::Zeroizing;

/// The longest file that is read: a URI and a line's end are the most that there can be.
const FILE_BYTES_MAX: usize = URI_BYTES_MAX + 2;
/// PKCS#11 does not bound a PIN; tokens take at most this, in bytes.
const PIN_BYTES_MAX: usize = 255;

/// Why a key cannot be read or made.
#[derive(Debug, Error)]
pub(crate) enum KeyError {
    #[error("{0} cannot be read: {1}; check the path and its permissions")]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("{0} does not hold a key of 64 hexadecimal digits")]
    NoKey(PathBuf),
    #[error(
        "{0} holds neither a key of 64 hexadecimal digits nor the URI of a key in a token, which begins with pkcs11:"
    )]
    NoHeldKey(PathBuf),
    #[error("{0} is longer than what it is to hold can be: check what was written to it")]
    TooLong(PathBuf),
    #[error("the URI in {0} cannot be used: {1}")]
    Uri(PathBuf, #[source] UriError),
    #[error("the key that {0} names cannot be used: {1}")]
    Token(PathBuf, #[source] TokenError),
    #[error("{0} holds no PIN: write it to the file as one line of at most 255 bytes")]
    NoPin(PathBuf),
    #[error(
        "{0} can be read by others than its owner: `chmod 600` it, and replace the key if others may have read it"
    )]
    Open(PathBuf),
    #[error("{0} cannot be written: {1}; a key that is there is never overwritten")]
    Unwritable(PathBuf, #[source] io::Error),
}

/// Reads a key that nobody else can read.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    seed(&secret(path)?).ok_or_else(|| KeyError::NoKey(path.to_owned()))
}

/// An institution's key: the one in the file, or the one in a token that the file names.
pub(crate) fn held(path: &Path) -> Result<HeldKey, KeyError> {
    let text = secret(path)?;
    if !text.starts_with(SCHEME) {
        let seed = seed(&text).ok_or_else(|| KeyError::NoHeldKey(path.to_owned()))?;
        return Ok(SigningKey::from_seed(*seed).into());
    }
    let uri: KeyUri = text
        .trim_end()
        .parse()
        .map_err(|error| KeyError::Uri(path.to_owned(), error))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let pin_source = folder.join(uri.pin_source());
    let pin = move || pin(&pin_source).map_err(|error| error.to_string());
    let token = Token::open(uri, pin).map_err(|error| KeyError::Token(path.to_owned(), error))?;
    Ok(HeldKey::elsewhere(Arc::new(Waiting(token))))
}

/// Names a key in a token in a file that is not there yet, once it was found to sign.
pub(crate) fn name(path: &Path, uri: &str) -> Result<HeldKey, KeyError> {
    write(path, format!("{uri}\n").as_bytes())?;
    held(path).inspect_err(|_| {
        // Made a moment ago; if it stays, the next try says so.
        let _ = std::fs::remove_file(path);
    })
}

/// A token, of which a call lasts as long as its device takes.
struct Waiting(Token);

impl Signer for Waiting {
    fn verifying_key(&self) -> VerifyingKey {
        self.0.verifying_key()
    }

    fn sign(&self, text: &[u8]) -> Result<Signature, SignerError> {
        waiting(|| self.0.sign(text))
    }

    fn check(&self) -> Result<(), SignerError> {
        waiting(|| self.0.check())
    }
}

/// Lets the runtime go on with what else there is to do meanwhile.
fn waiting<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

fn pin(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let text = secret(path)?;
    let pin = text.trim_end_matches(['\r', '\n']);
    if pin.is_empty() || pin.len() > PIN_BYTES_MAX || pin.contains(['\r', '\n', '\0']) {
        return Err(KeyError::NoPin(path.to_owned()));
    }
    Ok(Zeroizing::new(pin.to_owned()))
}

fn seed(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), key.as_mut_slice()).ok()?;
    Some(key)
}

/// What a file holds that nobody else can read.
fn secret(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let failed = |error| KeyError::Unreadable(path.to_owned(), error);
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeyError::Open(path.to_owned()));
    }
    // Long enough that it is never moved, which would leave a copy.
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX + 1));
    let most = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
    let read = file.take(most + 1).read_to_string(&mut text);
    match read.map_err(failed)? {
        length if length > FILE_BYTES_MAX => Err(KeyError::TooLong(path.to_owned())),
        _ => Ok(text),
    }
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
