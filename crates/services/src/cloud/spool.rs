//! Uploads under way, a file each: as long as its upload has come, on the disk before the piece is
//! acknowledged.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use client::ProblemKind;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, SeekFrom};

use super::store::CloudError;
use crate::http::Refused;

/// Bytes that are read at a time.
const READ_BYTES: usize = 256 * 1024;
/// A file without an upload is removed once it is older than this, so none that was just begun is.
const LEFT_OVER: Duration = Duration::from_secs(60 * 60);

pub(super) struct Spool {
    folder: PathBuf,
    held: Arc<Mutex<BTreeSet<[u8; 16]>>>,
}

/// An upload that one call works on; the next waits for its turn by trying again.
pub(super) struct Held {
    held: Arc<Mutex<BTreeSet<[u8; 16]>>>,
    upload: [u8; 16],
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&self.upload);
    }
}

impl Spool {
    pub(super) fn open(folder: &Path) -> Result<Self, CloudError> {
        std::fs::create_dir_all(folder)
            .map_err(|error| CloudError::Folder(folder.to_owned(), error))?;
        Ok(Self {
            folder: folder.to_owned(),
            held: Arc::default(),
        })
    }

    /// `None` while another call works on the upload.
    pub(super) fn hold(&self, upload: &[u8; 16]) -> Option<Held> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(*upload).then(|| Held {
            held: Arc::clone(&self.held),
            upload: *upload,
        })
    }

    pub(super) async fn begin(&self, upload: &[u8; 16]) -> Result<(), Refused> {
        let file = File::create(self.file(upload))
            .await
            .map_err(|error| failed(&error))?;
        file.sync_all().await.map_err(|error| failed(&error))?;
        let folder = File::open(&self.folder)
            .await
            .map_err(|error| failed(&error))?;
        folder.sync_all().await.map_err(|error| failed(&error))
    }

    pub(super) async fn length(&self, upload: &[u8; 16]) -> Result<u64, Refused> {
        let found = fs::metadata(self.file(upload))
            .await
            .map_err(|error| failed(&error))?;
        Ok(found.len())
    }

    /// Appends a piece that begins where the file ends, and gives the new length.
    pub(super) async fn append(
        &self,
        upload: &[u8; 16],
        offset: u64,
        piece: &[u8],
        length: u64,
    ) -> Result<u64, Refused> {
        let mut file = OpenOptions::new()
            .write(true)
            .open(self.file(upload))
            .await
            .map_err(|error| failed(&error))?;
        let reached = file.metadata().await.map_err(|error| failed(&error))?.len();
        if offset != reached {
            return Err(Refused::new(
                ProblemKind::Conflict,
                format!("the upload has {reached} bytes: go on there"),
            ));
        }
        let end = offset.saturating_add(piece.len() as u64);
        if end > length {
            return Err(Refused::new(
                ProblemKind::TooLong,
                format!(
                    "the container was announced with {length} bytes, and this piece goes beyond"
                ),
            ));
        }
        file.seek(SeekFrom::Start(offset))
            .await
            .map_err(|error| failed(&error))?;
        let written = async {
            file.write_all(piece).await?;
            file.flush().await?;
            file.sync_data().await
        };
        if let Err(error) = written.await {
            // What was acknowledged stays; half a piece does not.
            let _ = file.set_len(offset).await;
            return Err(failed(&error));
        }
        Ok(end)
    }

    pub(super) async fn reader(&self, upload: &[u8; 16]) -> Result<SpoolReader, Refused> {
        let file = File::open(self.file(upload))
            .await
            .map_err(|error| failed(&error))?;
        Ok(SpoolReader { file })
    }

    pub(super) async fn remove(&self, upload: &[u8; 16]) -> Result<(), Refused> {
        match fs::remove_file(self.file(upload)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&error)),
            _ => Ok(()),
        }
    }

    /// The uploads that have a file, at most 1,000.
    pub(super) async fn list(&self) -> Result<Vec<[u8; 16]>, Refused> {
        let mut entries = fs::read_dir(&self.folder)
            .await
            .map_err(|error| failed(&error))?;
        let mut uploads = Vec::new();
        while let Some(entry) = entries.next_entry().await.map_err(|error| failed(&error))? {
            let mut upload = [0; 16];
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if hex::decode_to_slice(name.as_bytes(), &mut upload).is_ok() {
                uploads.push(upload);
            }
            if uploads.len() == 1_000 {
                break;
            }
        }
        Ok(uploads)
    }

    pub(super) async fn is_old(&self, upload: &[u8; 16]) -> Result<bool, Refused> {
        let found = fs::metadata(self.file(upload))
            .await
            .map_err(|error| failed(&error))?;
        let age = found.modified().ok().and_then(|time| time.elapsed().ok());
        Ok(age.is_some_and(|age| age > LEFT_OVER))
    }

    fn file(&self, upload: &[u8; 16]) -> PathBuf {
        self.folder.join(hex::encode(upload))
    }
}

/// Reads a spooled container once.
pub(super) struct SpoolReader {
    file: File,
}

impl SpoolReader {
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Refused> {
        let mut bytes = vec![0; READ_BYTES];
        let read = self
            .file
            .read(&mut bytes)
            .await
            .map_err(|error| failed(&error))?;
        bytes.truncate(read);
        Ok((read > 0).then(|| bytes.into()))
    }
}

fn failed(error: &io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Refused::new(
            ProblemKind::Full,
            "the cloud's spool has no room left: its operator must make room; what was acknowledged is kept, go on there later",
        ),
        io::ErrorKind::NotFound => Refused::new(
            ProblemKind::NotFound,
            "the upload's bytes are gone: begin a new upload",
        ),
        _ => {
            tracing::error!(%error, "the cloud's spool failed");
            Refused::new(
                ProblemKind::Busy,
                "the cloud's spool failed: ask for the upload's state and go on there",
            )
        }
    }
}
