//! The cloud server's calls (step 4).

use std::io::{Read, Seek, SeekFrom};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use parties::StorageReceipt;
use scheme::{Address, Digest};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ClientError;
use crate::service::{IdempotencyKey, ServiceClient};
use crate::text::Hex;

/// The longest piece of an upload.
pub const UPLOAD_PIECE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The smallest piece that one is sent in after failures: 256 KiB in 30 s are 70 kbit/s.
const PIECE_BYTES_LEAST: usize = 256 * 1024;
/// How often an upload is taken up again without getting on.
const ATTEMPTS: u32 = 5;
/// The pause before it is.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// Announces a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUpload {
    /// Bytes of the container.
    pub length: u64,
    /// SHA-256 of the container.
    pub digest: Hex<32>,
    /// To restore a container that was lost or altered: its address. Length and digest are those of
    /// its receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Hex<32>>,
}

/// An upload as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadState {
    /// Names the upload; only its caller can use it.
    pub upload: Hex<16>,
    /// Where the container will lie: random.
    pub address: Hex<32>,
    /// How many bytes have reached the cloud's disk: the next piece begins there.
    pub offset: u64,
    /// Bytes of the container.
    pub length: u64,
    /// Once all have come and the digest is the announced one: the signed storage receipt
    /// (spec/formats.md, M8).
    pub receipt: Option<Hex<144>>,
}

/// A container that is not as it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Damage {
    /// Where.
    pub address: Hex<32>,
    /// The receipt that the cloud gave for it.
    pub receipt: Hex<144>,
    /// Whether it is lost or altered.
    pub lost: bool,
    /// When that was found, in ms since 1970.
    pub found: u64,
    /// When it was restored.
    pub restored: Option<u64>,
}

/// A page of damages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Damages {
    /// The newest first, at most 100.
    pub damages: Vec<Damage>,
}

/// A client of the cloud server.
#[derive(Clone)]
pub struct CloudClient {
    service: ServiceClient,
}

impl CloudClient {
    /// With a client that signs, to store; reading needs no signature, only the address.
    pub fn new(service: ServiceClient) -> Self {
        Self { service }
    }

    /// Stores a container that lies in `source` and gives the cloud's receipt, whose signature is still
    /// to be checked ([`StorageReceipt::verify`]). Goes on where a broken connection stopped; `progress`
    /// hears how many bytes are there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn store(
        &self,
        source: &mut (dyn ReadSeek + Send),
        digest: Digest,
        length: u64,
        restored: Option<Address>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<StorageReceipt, ClientError> {
        let new = NewUpload {
            length,
            digest: Hex(*digest.as_bytes()),
            address: restored.map(|address| Hex(*address.as_bytes())),
        };
        let key = IdempotencyKey::random();
        let mut state: UploadState = self.service.post("/v1/uploads", &new, &key).await?;
        let target = format!("/v1/uploads/{}", state.upload);
        let (mut failures, mut most) = (0, UPLOAD_PIECE_BYTES_MAX);
        while state.receipt.is_none() {
            progress(state.offset);
            if state.offset == length {
                // It is being moved to the store.
                state = self.service.get(&target).await?;
                continue;
            }
            let piece = read_piece(source, state.offset, length, most)?;
            let sent = self.service.patch(&target, state.offset, piece).await;
            let answered = sent.and_then(|bytes| crate::service::json::<UploadState>(&bytes));
            match answered {
                Ok(next) => {
                    failures = 0;
                    state = next;
                }
                Err(error) if goes_on(&error) && failures < ATTEMPTS => {
                    failures += 1;
                    // A slow line brings a smaller piece within the time that a call may take.
                    most = (most / 2).max(PIECE_BYTES_LEAST);
                    tokio::time::sleep(PAUSE).await;
                    // What has come is asked for, since an answer can be lost after its piece was taken.
                    if let Ok(found) = self.service.get(&target).await {
                        state = found;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        progress(length);
        let receipt = state.receipt.unwrap_or(Hex([0; 144]));
        Ok(StorageReceipt::decode(&receipt.0)?)
    }

    /// The first bytes of a container, at most `length`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn start(&self, address: Address, length: usize) -> Result<Bytes, ClientError> {
        let mut pieces = self.read(address, 0).await?;
        let mut start = Vec::new();
        while start.len() < length {
            match pieces.next().await {
                Some(piece) => start.extend_from_slice(&piece?),
                None => break,
            }
        }
        start.truncate(length);
        Ok(start.into())
    }

    /// A container from the byte at `offset` on, as a stream; whoever reads it compares its digest.
    ///
    /// # Errors
    /// [`ClientError`], also within the stream.
    pub async fn read(
        &self,
        address: Address,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, ClientError>>, ClientError> {
        let target = format!("/v1/containers/{}", hex::encode(address.as_bytes()));
        self.service.stream(&target, offset).await
    }

    /// The containers that were found lost or altered.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn damages(&self) -> Result<Damages, ClientError> {
        self.service.get("/v1/damages").await
    }
}

/// What can be read from any place again.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// A broken connection, a busy cloud, or an offset that another attempt has passed.
fn goes_on(error: &ClientError) -> bool {
    error.is_passing() || matches!(error, ClientError::Refused(problem) if problem.status() == 409)
}

fn read_piece(
    source: &mut (dyn ReadSeek + Send),
    offset: u64,
    length: u64,
    most: usize,
) -> Result<Bytes, ClientError> {
    source.seek(SeekFrom::Start(offset))?;
    let rest = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut piece = vec![0; rest.min(most)];
    source.read_exact(&mut piece)?;
    Ok(piece.into())
}
