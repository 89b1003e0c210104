//! Where a node reads containers: from a store of its own machine, or from the cloud server.

use bytes::Bytes;
use client::{ClientError, CloudClient};
use futures::StreamExt;
use futures::stream::BoxStream;
use scheme::{Address, Digest};

use super::store::{CloudError, ContainerStore, digest_of};

/// Containers by address, wherever they lie.
#[derive(Clone)]
pub enum Containers {
    /// In a store that this process opens itself.
    Store(ContainerStore),
    /// At the cloud server.
    Server(CloudClient),
}

impl From<ContainerStore> for Containers {
    fn from(store: ContainerStore) -> Self {
        Self::Store(store)
    }
}

impl From<CloudClient> for Containers {
    fn from(server: CloudClient) -> Self {
        Self::Server(server)
    }
}

impl Containers {
    /// The first bytes of a container, at most `length`.
    ///
    /// # Errors
    /// [`CloudError`].
    pub async fn start(&self, address: Address, length: usize) -> Result<Bytes, CloudError> {
        match self {
            Self::Store(store) => store.start(address, length).await,
            Self::Server(server) => server.start(address, length).await.map_err(answered),
        }
    }

    /// The whole container as a stream.
    ///
    /// # Errors
    /// [`CloudError`], also within the stream.
    pub async fn read(
        &self,
        address: Address,
    ) -> Result<BoxStream<'static, Result<Bytes, CloudError>>, CloudError> {
        match self {
            Self::Store(store) => store.read(address).await,
            Self::Server(server) => {
                let pieces = server.read(address, 0).await.map_err(answered)?;
                Ok(pieces.map(|piece| piece.map_err(answered)).boxed())
            }
        }
    }

    /// The digest of a container as it is given out now.
    ///
    /// # Errors
    /// [`CloudError`].
    pub async fn digest(&self, address: Address) -> Result<Digest, CloudError> {
        digest_of(self.read(address).await?).await
    }
}

fn answered(error: ClientError) -> CloudError {
    match error {
        error if error.is_not_found() => CloudError::NotFound,
        ClientError::Refused(problem) if problem.status() == 422 => CloudError::Altered,
        error => CloudError::Away(Box::new(error)),
    }
}
