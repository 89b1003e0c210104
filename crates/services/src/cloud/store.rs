//! Containers in an object store: a folder by default, S3-compatible storage by configuration.
//!
//! Addresses are random, so a store is never used as a lock; a container is written once, and its
//! digest, which stands on the chain, is checked by whoever reads it.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    ClientOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
};
use scheme::{Address, Digest, DigestStream};
use thiserror::Error;

/// Bytes of a part of an upload: S3's smallest is 5 MiB.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// Where containers lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// A folder of this machine.
    Folder(PathBuf),
    /// An S3-compatible store.
    S3(S3Location),
}

/// An S3-compatible store: any, since it is used for nothing but reading and writing whole objects
/// under random names.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Location {
    /// `https://host:port`; `http://` only at a loopback address.
    pub endpoint: String,
    /// The bucket, which is there already.
    pub bucket: String,
    /// As the store asks for it.
    pub region: String,
    /// The id of the access key.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: String,
}

impl fmt::Debug for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Location")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// Why the cloud did not do it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CloudError {
    /// There is no container at this address.
    #[error("the cloud has no container at this address: it was never stored there, or is lost")]
    NotFound,
    /// The folder cannot be made or opened.
    #[error(
        "the folder {0} cannot be used as the cloud's: {1}; check the path and its permissions"
    )]
    Folder(PathBuf, #[source] std::io::Error),
    /// The store has no room left.
    #[error("the cloud's store has no room left: its operator must make room; nothing was changed")]
    Full,
    /// A container is not what was stored.
    #[error(
        "the container at this address was altered in the cloud's store: it is not given out; its author's hospital can restore it"
    )]
    Altered,
    /// The cloud server cannot be reached or did not answer.
    #[error("the cloud server cannot be read now: try again")]
    Away(#[source] Box<client::ClientError>),
    /// The store failed. The same request is safe to send again.
    #[error("the cloud's store failed: {0}; try again")]
    Store(StoreFailure),
}

/// What the store says of a failure, without the container's address, which the library's own text
/// names: who can reach the store needs nothing else to read the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFailure(String);

impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StoreFailure {
    fn of(error: &object_store::Error) -> Self {
        let said = client::sentence(error);
        let (mut text, mut digits) = (String::new(), String::new());
        for next in said.chars().chain(['\n']) {
            if next.is_ascii_hexdigit() {
                digits.push(next);
                continue;
            }
            if digits.len() < ADDRESS_DIGITS_MIN {
                text += &digits;
            } else {
                text += "...";
            }
            digits.clear();
            text.push(next);
        }
        Self(text.trim_end().to_owned())
    }
}

/// An address has 64 hexadecimal digits; a part of one is as little anybody's business.
const ADDRESS_DIGITS_MIN: usize = 16;

/// A container as a log names it: one that is told again is told apart, and nobody is led to it.
pub(crate) fn logged(address: &Address) -> String {
    hex::encode(&scheme::sha256(address.as_bytes()).as_bytes()[..8])
}

impl From<object_store::Error> for CloudError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound,
            error if is_full(&error) => Self::Full,
            error => Self::Store(StoreFailure::of(&error)),
        }
    }
}

/// Whether the cause is a disk without room.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && matches!(
                error.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            )
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Containers by address.
#[derive(Clone)]
pub struct ContainerStore {
    store: Arc<dyn ObjectStore>,
}

impl ContainerStore {
    /// Containers at this location.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn at(location: &StoreLocation) -> Result<Self, CloudError> {
        match location {
            StoreLocation::Folder(folder) => Self::open(folder),
            StoreLocation::S3(s3) => Self::s3(s3),
        }
    }

    fn s3(location: &S3Location) -> Result<Self, CloudError> {
        let local = ["http://127.0.0.1:", "http://[::1]:"];
        let local = local
            .iter()
            .any(|prefix| location.endpoint.starts_with(prefix));
        let options = ClientOptions::new()
            .with_allow_http(local)
            .with_timeout(std::time::Duration::from_secs(60))
            .with_connect_timeout(std::time::Duration::from_secs(5));
        let retry = RetryConfig {
            max_retries: 3,
            retry_timeout: std::time::Duration::from_secs(30),
            ..RetryConfig::default()
        };
        let store = AmazonS3Builder::new()
            .with_endpoint(&location.endpoint)
            .with_bucket_name(&location.bucket)
            .with_region(&location.region)
            .with_access_key_id(&location.access_key_id)
            .with_secret_access_key(&location.secret_access_key)
            .with_virtual_hosted_style_request(false)
            .with_client_options(options)
            .with_retry(retry)
            .build()?;
        Ok(Self {
            store: Arc::new(store),
        })
    }

    /// Containers in a folder of this machine.
    ///
    /// # Errors
    /// [`CloudError::Folder`] if it cannot be made, [`CloudError::Store`] if it cannot be opened.
    pub fn open(folder: &FilePath) -> Result<Self, CloudError> {
        std::fs::create_dir_all(folder)
            .map_err(|error| CloudError::Folder(folder.to_owned(), error))?;
        let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        Ok(Self {
            store: Arc::new(store),
        })
    }

    /// Begins to store a container.
    ///
    /// # Errors
    /// [`CloudError`].
    pub async fn begin(&self, address: Address) -> Result<Upload, CloudError> {
        let upload = self.store.put_multipart(&path(&address)).await?;
        Ok(Upload {
            upload,
            digest: DigestStream::new(),
            length: 0,
            part: Vec::with_capacity(PART_BYTES),
        })
    }

    /// The first bytes of a container, at most `length`.
    ///
    /// # Errors
    /// [`CloudError`].
    pub async fn start(&self, address: Address, length: usize) -> Result<Bytes, CloudError> {
        let found = self.store.head(&path(&address)).await?.size;
        let end = found.min(length as u64);
        if end == 0 {
            // The store refuses an empty range; that the container is empty is for the caller to judge.
            return Ok(Bytes::new());
        }
        Ok(self.store.get_range(&path(&address), 0..end).await?)
    }

    /// The whole container as a stream.
    ///
    /// # Errors
    /// [`CloudError`], also within the stream.
    pub async fn read(
        &self,
        address: Address,
    ) -> Result<BoxStream<'static, Result<Bytes, CloudError>>, CloudError> {
        let found = self.store.get(&path(&address)).await?;
        Ok(found
            .into_stream()
            .map(|piece| piece.map_err(CloudError::from))
            .boxed())
    }

    /// A part of a container; shorter than asked if the container ends before.
    ///
    /// # Errors
    /// [`CloudError`].
    pub async fn part(
        &self,
        address: Address,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, CloudError> {
        Ok(self.store.get_range(&path(&address), range).await?)
    }

    /// The digest of a container as it lies there.
    ///
    /// # Errors
    /// [`CloudError`].
    pub async fn digest(&self, address: Address) -> Result<Digest, CloudError> {
        digest_of(self.read(address).await?).await
    }

    /// Removes a container that no record leads to.
    ///
    /// # Errors
    /// [`CloudError`].
    pub async fn remove(&self, address: Address) -> Result<(), CloudError> {
        Ok(self.store.delete(&path(&address)).await?)
    }
}

/// A container that is being stored. It exists once [`Upload::finish`] returned.
pub struct Upload {
    upload: Box<dyn MultipartUpload>,
    digest: DigestStream,
    length: u64,
    part: Vec<u8>,
}

impl Upload {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`CloudError`]; then the upload is void and is begun anew.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), CloudError> {
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(rest.len().min(PART_BYTES - self.part.len()));
            self.part.extend_from_slice(head);
            rest = tail;
            if self.part.len() == PART_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Ends the container and gives the digest and length of what was stored.
    ///
    /// # Errors
    /// [`CloudError`]; then nothing is stored.
    pub async fn finish(mut self) -> Result<(Digest, u64), CloudError> {
        if !self.part.is_empty() {
            self.flush().await?;
        }
        self.upload.complete().await?;
        Ok((self.digest.finish(), self.length))
    }

    async fn flush(&mut self) -> Result<(), CloudError> {
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART_BYTES));
        Ok(self.upload.put_part(PutPayload::from(part)).await?)
    }
}

/// The digest of a container as it is read.
pub(super) async fn digest_of(
    mut pieces: BoxStream<'static, Result<Bytes, CloudError>>,
) -> Result<Digest, CloudError> {
    let mut digest = DigestStream::new();
    while let Some(piece) = pieces.next().await {
        digest.update(&piece?);
    }
    Ok(digest.finish())
}

/// Two levels, so that no folder holds more than a 256th of all containers.
fn path(address: &Address) -> Path {
    let name = hex::encode(address.as_bytes());
    Path::from(format!("{}/{name}", &name[..2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The story: what the library said of a failed store held the path, which is the container's
    /// address, and stood in the log and in what a doctor was told.
    #[test]
    fn attack_no_failure_of_the_store_names_a_container() {
        let address = Address::new([0xa7; 32]);
        let name = hex::encode(address.as_bytes());
        let error = object_store::Error::PermissionDenied {
            path: path(&address).to_string(),
            source: format!("403 for http://store/containers/{}", path(&address)).into(),
        };
        assert!(error.to_string().contains(&name), "{error}");
        let error = CloudError::from(error);
        let said = format!("{} {error:?}", client::sentence(&error));
        assert!(!said.contains(&name[..ADDRESS_DIGITS_MIN]), "{said}");
        assert!(said.contains("http://store/containers/a7/..."), "{said}");
        assert!(!name.contains(&logged(&address)));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let below = file.join("cloud");
        let Err(error) = ContainerStore::open(&below) else {
            panic!("a folder below a file");
        };
        let CloudError::Folder(_, cause) = &error else {
            panic!("{error}");
        };
        let (text, cause) = (error.to_string(), cause.to_string());
        assert!(text.contains(&below.display().to_string()) && text.contains(&cause));
    }

    #[tokio::test]
    async fn a_container_comes_back_as_it_was_stored() {
        let folder = tempfile::tempdir().unwrap();
        let cloud = ContainerStore::open(folder.path()).unwrap();
        let address = Address::new([7; 32]);
        assert!(matches!(
            cloud.start(address, 10).await,
            Err(CloudError::NotFound)
        ));
        let bytes: Vec<u8> = (0..PART_BYTES + 1000).map(|i| i as u8).collect();
        let mut upload = cloud.begin(address).await.unwrap();
        for piece in bytes.chunks(100_003) {
            upload.write(piece).await.unwrap();
        }
        let (digest, length) = upload.finish().await.unwrap();
        assert_eq!(
            (digest, length),
            (scheme::sha256(&bytes), bytes.len() as u64)
        );
        assert_eq!(cloud.digest(address).await.unwrap(), digest);
        assert_eq!(cloud.start(address, 10).await.unwrap(), bytes[..10]);
        // An emptied file is one that is there, with nothing in it.
        let file = folder.path().join(path(&address).to_string());
        std::fs::write(file, b"").unwrap();
        assert!(cloud.start(address, 10).await.unwrap().is_empty());
        cloud.remove(address).await.unwrap();
        assert!(matches!(
            cloud.read(address).await,
            Err(CloudError::NotFound)
        ));
    }
}
