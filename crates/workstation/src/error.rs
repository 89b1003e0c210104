//! Why a person's program stops, and what the person can do.

use std::io;
use std::path::PathBuf;

use client::{ClientError, DirectoryError, FoundingError};
use parties::{AgentError, HandoverError, IndexError, PatientError, ReaderError, ReceiptError};
use scheme::{DecodeError, SealError};
use thiserror::Error;

use crate::keystore::KeystoreError;
use crate::shelf::ShelfError;
use crate::words::WrongWords;

/// Why a person's program stops. Print it with its causes ([`client::sentence`]).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkError {
    /// The keystore.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// A service.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The consortium's founding folder.
    #[error(transparent)]
    Founding(#[from] FoundingError),
    /// The directory of services.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A record's files.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// What the patient's device refuses.
    #[error(transparent)]
    Patient(#[from] PatientError),
    /// What the agent's device refuses.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// What the reading doctor's machine refuses.
    #[error(transparent)]
    Reader(#[from] ReaderError),
    /// A hand-over.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// An index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A record cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The cloud's receipt.
    #[error("the cloud's storage receipt does not stand, so nothing was recorded: try again")]
    Receipt(#[from] ReceiptError),
    /// Bytes are malformed.
    #[error("what is kept or came is malformed")]
    Malformed(#[from] DecodeError),
    /// The 24 words.
    #[error(transparent)]
    Words(#[from] WrongWords),
    /// A file.
    #[error("{0} cannot be read or written: {1}; check the path, its permissions and the disk")]
    File(PathBuf, #[source] io::Error),
    /// It cannot be done now; the text says why and what to do.
    #[error("{0}")]
    Not(String),
}

/// The one thing that was meant by the first digits of its id; `none` says what to do if there is none.
pub(crate) fn only<T>(mut found: impl Iterator<Item = T>, none: &str) -> Result<T, WorkError> {
    match (found.next(), found.next()) {
        (Some(found), None) => Ok(found),
        (None, _) => not(none),
        (Some(_), Some(_)) => not("several ids begin so: give more digits"),
    }
}

/// It cannot be done now.
pub(crate) fn not<T>(why: impl Into<String>) -> Result<T, WorkError> {
    Err(WorkError::Not(why.into()))
}
