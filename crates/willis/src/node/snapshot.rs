//! A node's store from a snapshot that other nodes signed, for who begins when the chain is long.
//!
//! The state is believed because f + 1 nodes signed its digest, the block after which it is because of its
//! certificate. The node that starts in the folder fills in the blocks before, and once they are here
//! `willis node verify` executes all of them.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use chain::{SnapshotError, install_snapshot, lay_out, store_folder};
use clap::Args;
use client::{AgreedSnapshot, ClientError, ConsortiumClient};
use scheme::{InstitutionId, SigningKey};
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
    let agreed = block_on(async { Ok(client.snapshot().await?) })?.ok_or(FetchError::None)?;
    let statement = &agreed.statement;
    let mut why = String::new();
    for node in &agreed.nodes {
        let part = building.join("snapshot");
        let store = store_folder(&building, &key);
        match fs::remove_dir_all(&store) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
            _ => fs::create_dir_all(&store).map_err(unusable)?,
        }
        let block = match block_on(async { Ok(client.certified_block(*node, statement).await) })? {
            Ok(block) => block,
            Err(error) => {
                why = client::sentence(&error);
                continue;
            }
        };
        let fetched = block_on(async { Ok(download(&client, *node, &agreed, &part).await) })?;
        if let Err(error) = fetched {
            why = client::sentence(&error);
            continue;
        }
        let mut snapshot = BufReader::new(File::open(&part).map_err(unusable)?);
        match install_snapshot(&store, &founding.genesis, &block, statement, &mut snapshot) {
            Ok(tip) => {
                fs::remove_file(&part).map_err(unusable)?;
                lay_out(&building).map_err(unusable)?;
                if folder.exists() {
                    fs::remove_dir(&folder).map_err(unusable)?;
                }
                fs::rename(&building, &folder).map_err(unusable)?;
                unfinished.keep();
                sync_folder_of(&folder)?;
                let signed: Vec<_> = agreed.nodes.iter().map(ToString::to_string).collect();
                return Ok(format!(
                    "The state after block {}, {} bytes, is in {}; the nodes of institutions {} signed it. Start `willis node`: it goes on from there, and fills in the blocks before by and by.",
                    tip.height,
                    statement.bytes,
                    folder.display(),
                    signed.join(", "),
                ));
            }
            Err(SnapshotError::Store(error)) => {
                return Err(unusable(io::Error::other(client::sentence(&error))));
            }
            Err(error) => why = client::sentence(&error),
        }
    }
    Err(FetchError::Nobody(why))
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
