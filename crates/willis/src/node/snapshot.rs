//! A node's store from a snapshot that other nodes signed, for who begins when the chain is long.
//!
//! The state is believed because f + 1 nodes signed its digest, the block after which it is because of its
//! certificate. The node that starts in the folder fills in the blocks before, and once they are here
//! `willis node verify` executes all of them.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use chain::{SnapshotError, StoreError, Tip, install_snapshot, lay_out, store_folder};
use clap::Args;
use client::{AgreedSnapshot, ClientError, ConsortiumClient, Founding};
use scheme::{InstitutionId, SigningKey, VerifyingKey};
use thiserror::Error;

use super::backup::{BackupError, Unfinished, sync_folder_of, with_suffix};
use crate::configuration::{Configuration, ConfigurationError};
use crate::keys::{self, KeyError};
use crate::roles::{NodeFile, RoleError, block_on};

#[derive(Args)]
pub(crate) struct FetchArguments {
    /// The configuration file of the node that begins; its folder is not there yet, or empty.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Folder(#[from] BackupError),
    #[error("{}", client::sentence(.0))]
    Client(#[from] ClientError),
    #[error("{0} cannot be read or written: {1}; check the path, its permissions and the disk")]
    File(PathBuf, #[source] io::Error),
    #[error(
        "no f + 1 nodes hold the same snapshot: the first one comes after {} validator epochs. Start the node without one, it fetches every block",
        chain::SNAPSHOT_EPOCHS
    )]
    None,
    #[error("{}", client::sentence(.0))]
    Snapshot(#[source] SnapshotError),
    #[error("{}", client::sentence(.0))]
    Store(#[source] StoreError),
    #[error("no node gave the snapshot as it was signed: {0}")]
    Nobody(String),
}

/// Fetches the newest snapshot and builds the node's store from it.
pub(crate) fn fetch(arguments: &FetchArguments) -> Result<String, FetchError> {
    let configuration = Configuration::<NodeFile>::load(&arguments.config, std::env::vars())?;
    let file = &configuration.file;
    let founding = configuration.founding(&file.founding)?;
    let folder = configuration.path(&file.folder);
    let key = SigningKey::from_seed(*keys::read(&configuration.path(&file.key))?).verifying_key();
    let unusable = |error| FetchError::File(folder.clone(), error);
    if folder.exists() && fs::read_dir(&folder).map_err(unusable)?.next().is_some() {
        return Err(BackupError::NotEmpty(folder).into());
    }
    let building = with_suffix(&folder, ".fetching");
    if building.exists() {
        return Err(BackupError::NotEmpty(building).into());
    }
    let unfinished = Unfinished::new(&building);
    fs::create_dir_all(&building).map_err(unusable)?;
    let client = ConsortiumClient::of(&founding, None).map_err(RoleError::from)?;
    let (tip, agreed) = block_on(async { Ok(build(&client, &founding, &building, &key).await) })??;
    lay_out(&building).map_err(unusable)?;
    if folder.exists() {
        fs::remove_dir(&folder).map_err(unusable)?;
    }
    fs::rename(&building, &folder).map_err(unusable)?;
    unfinished.keep();
    sync_folder_of(&folder)?;
    let signed: Vec<_> = agreed.nodes.iter().map(ToString::to_string).collect();
    Ok(format!(
        "The state after block {}, {} bytes, is in {}; the nodes of institutions {} signed it. Start `willis node`: it goes on from there, and fills in the blocks before by and by.",
        tip.height,
        agreed.statement.bytes,
        folder.display(),
        signed.join(", "),
    ))
}

/// Builds the store in a folder from what one of the nodes gives that signed.
async fn build(
    client: &ConsortiumClient,
    founding: &Founding,
    building: &Path,
    key: &VerifyingKey,
) -> Result<(Tip, AgreedSnapshot), FetchError> {
    let agreed = client.snapshot().await?.ok_or(FetchError::None)?;
    let (part, store) = (building.join("snapshot"), store_folder(building, key));
    let mut why = String::new();
    for node in &agreed.nodes {
        match build_from(client, *node, &agreed, founding, &part, &store).await {
            Ok(tip) => {
                let removed = fs::remove_file(&part);
                removed.map_err(|error| FetchError::File(part, error))?;
                return Ok((tip, agreed));
            }
            // The own disk is the same whichever node gives.
            Err(error @ (FetchError::File(..) | FetchError::Store(_))) => return Err(error),
            Err(error) => why = client::sentence(&error),
        }
    }
    Err(FetchError::Nobody(why))
}

/// Builds it from what this node gives.
async fn build_from(
    client: &ConsortiumClient,
    node: InstitutionId,
    agreed: &AgreedSnapshot,
    founding: &Founding,
    part: &Path,
    store: &Path,
) -> Result<Tip, FetchError> {
    let unusable = |error| FetchError::File(store.to_owned(), error);
    if store.exists() {
        // Of a node before this one, which gave something else.
        fs::remove_dir_all(store).map_err(unusable)?;
    }
    fs::create_dir_all(store).map_err(unusable)?;
    let block = client.certified_block(node, &agreed.statement).await?;
    download(client, node, agreed, part).await?;
    let read = File::open(part).map_err(|error| FetchError::File(part.to_owned(), error))?;
    let (genesis, statement) = (&founding.genesis, &agreed.statement);
    let installed = install_snapshot(store, genesis, &block, statement, &mut BufReader::new(read));
    installed.map_err(|error| match error {
        SnapshotError::Store(error) => FetchError::Store(error),
        error => FetchError::Snapshot(error),
    })
}

/// Writes a node's snapshot into a file, no longer than the statement says.
async fn download(
    client: &ConsortiumClient,
    node: InstitutionId,
    agreed: &AgreedSnapshot,
    into: &Path,
) -> Result<(), FetchError> {
    let failed = |error| FetchError::File(into.to_owned(), error);
    let mut out = BufWriter::new(File::create(into).map_err(failed)?);
    let (height, bytes) = (agreed.statement.height, agreed.statement.bytes);
    let mut offset = 0;
    while offset < bytes {
        let piece = client.snapshot_piece(node, height, offset).await?;
        if piece.is_empty() {
            break;
        }
        out.write_all(&piece).map_err(failed)?;
        offset += piece.len() as u64;
    }
    out.flush().map_err(failed)
}
