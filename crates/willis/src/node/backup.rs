//! A backup of a running node's chain, and a store built anew from it.
//!
//! The blocks with their certificates are the whole backup: the state follows from them, so it is
//! executed again when they are brought back, and nothing in the file has to be believed. It is read
//! from the node as any client reads it, so the node goes on meanwhile, and what was final when the
//! backup began is in it.
//!
//! A restored node has no memory of its votes. So it is built for a key that is made here, by which
//! nobody has voted, and its folder starts under no other.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chain::{Evidence, Finding, Replay, Verification, VerificationStep, lay_out, store_folder};
use clap::Args;
use client::{ClientError, ConsortiumClient, Founding, FoundingError};
use ledger::{Genesis, Height, genesis, institution_of_key};
use scheme::{InstitutionId, SigningKey};
use services::EvidenceFiles;
use thiserror::Error;

use super::archive::{ArchiveError, ArchiveReader, ArchiveWriter, Part, Preface};
use super::restored::RestoredFor;
use super::verification::Progress;
use crate::configuration::{Configuration, ConfigurationError};
use crate::keys::{self, KeyError};
use crate::membership::NEXT_NODE_KEY;
use crate::roles::{NodeFile, RoleError, block_on};

/// How long a node may take until a block after the ones it had has a certificate: a few heartbeats of
/// any settings.
const CERTIFICATE_WAIT: Duration = Duration::from_secs(60);
/// How often it is asked for it.
const AGAIN: Duration = Duration::from_millis(200);
/// The parts of a backup that are read whole, before the blocks.
const FILE_BYTES_MAX: u64 = 2 << 20;
/// Pieces of evidence in one file: 16 of each of 255 nodes.
const EVIDENCE_MAX: usize = 4_096;

#[derive(Args)]
pub(crate) struct BackUpArguments {
    /// The node's configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The new file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Another institution's node to read the chain from, if the own one is away.
    #[arg(long, value_name = "INSTITUTION")]
    from_node: Option<u32>,
}

#[derive(Args)]
pub(crate) struct RestoreArguments {
    /// The configuration file of the node that is to come back; its folder is not there yet, or empty.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The backup.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
}

#[derive(Debug, Error)]
pub(crate) enum BackupError {
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error("{}", client::sentence(.0))]
    Founding(#[from] FoundingError),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("{}", client::sentence(.0))]
    Client(#[from] ClientError),
    #[error(
        "nobody says where the node of institution {0} is reached: give --from-node with another institution, any node has the same chain"
    )]
    Unreached(InstitutionId),
    #[error("{0}: {1}")]
    Archive(PathBuf, #[source] ArchiveError),
    #[error("{0} cannot be read or written: {1}; check the path, its permissions and the disk")]
    File(PathBuf, #[source] io::Error),
    #[error("{0} is there already: give a new path, a backup is never overwritten")]
    Exists(PathBuf),
    #[error(
        "the node has no certificate of a block after {0} yet, so the last blocks cannot be proved final: see whether the chain goes on, and try again"
    )]
    NoCertificate(Height),
    #[error(
        "{0} is a backup of another consortium than the founding in the configuration: take the other one"
    )]
    OtherConsortium(PathBuf),
    #[error("{0}, block {1}: {2}. Use another copy or another backup")]
    Unsound(PathBuf, Height, String),
    #[error(
        "{0} is not empty: a node is restored to a new folder only. Move it away; what it holds of grants and keys is not lost by that, and is not needed"
    )]
    NotEmpty(PathBuf),
    #[error(
        "the key in {0} stands on the chain of this backup, so it may have voted: move the file away, and a key is made that never has"
    )]
    KnownKey(PathBuf),
    #[error("{0} holds evidence that cannot be read: {1}")]
    Evidence(PathBuf, #[source] scheme::DecodeError),
}

/// Backs a running node's chain up.
pub(crate) fn back_up(arguments: &BackUpArguments) -> Result<String, BackupError> {
    let configuration = Configuration::<NodeFile>::load(&arguments.config, std::env::vars())?;
    let file = &configuration.file;
    let founding = configuration.founding(&file.founding)?;
    // Without a certificate: who joined later is in no founder's directory, and the chain is everybody's.
    let client = ConsortiumClient::of(&founding, None)?;
    let node = InstitutionId::new(arguments.from_node.unwrap_or(file.institution));

    let out = &arguments.out;
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(out.clone()),
        _ => BackupError::File(out.clone(), error),
    };
    // Under its own name only once it is whole.
    if out.exists() {
        return Err(BackupError::Exists(out.clone()));
    }
    let partial = with_suffix(out, ".partial");
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial);
    let opened = opened.map_err(|error| match error.kind() {
        // Another's, which may be at work.
        io::ErrorKind::AlreadyExists => BackupError::Exists(partial.clone()),
        _ => BackupError::File(partial.clone(), error),
    })?;
    let unfinished = Unfinished::new(&partial);
    let (height, blocks) = block_on(async {
        Ok(copy(
            &client,
            node,
            &founding,
            &configuration,
            &arguments.config,
            opened,
            &partial,
        )
        .await)
    })??;
    fs::rename(&partial, out).map_err(failed)?;
    unfinished.keep();
    sync_folder_of(out)?;
    let bytes = fs::metadata(out).map_err(failed)?.len();
    Ok(format!(
        "Backed up {blocks} blocks up to {height}, {bytes} bytes, to {}. It holds no key, no share and no vote: keep the institution's key elsewhere. `willis node verify --founding FOUNDING --backup {}` executes all of it again.",
        out.display(),
        out.display()
    ))
}

/// Writes all of it. The last height, and how many blocks.
async fn copy(
    client: &ConsortiumClient,
    node: InstitutionId,
    founding: &Founding,
    configuration: &Configuration<NodeFile>,
    config: &Path,
    out: File,
    path: &Path,
) -> Result<(Height, u64), BackupError> {
    client.follow().await?;
    let evidence = Evidence::encode_all(&client.evidence().await?);
    let preface = preface(configuration, config, evidence)?;
    let archive = |error| BackupError::Archive(path.to_owned(), error);
    let mut writer = ArchiveWriter::begin(BufWriter::new(out), &preface).map_err(archive)?;
    let (first, _) =
        genesis(&founding.genesis).map_err(|_| BackupError::OtherConsortium(config.to_owned()))?;
    let mut last = *first.header();
    let asked = client.height_of(node).await.map_err(|error| match error {
        ClientError::Nobody => BackupError::Unreached(node),
        error => error.into(),
    })?;
    let mut certified = last.height;
    let mut blocks = 0;
    let mut waiting = Instant::now();
    // To the first block at or after the height that was there when it began and that a certificate
    // proves: every block in the file is proved by one of it.
    while last.height < asked || certified < last.height {
        let page = client.final_blocks(node, &last).await?;
        if page.is_empty() {
            if waiting.elapsed() > CERTIFICATE_WAIT {
                return Err(BackupError::NoCertificate(last.height));
            }
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        waiting = Instant::now();
        for (header, stored) in page {
            writer
                .block(&stored.block, stored.certificate.as_deref())
                .map_err(archive)?;
            last = header;
            blocks += 1;
            if stored.certificate.is_some() {
                certified = header.height;
                if certified >= asked {
                    break;
                }
            }
        }
    }
    let out = writer.end(last.height, &last.id()).map_err(archive)?;
    let failed = |error: io::Error| BackupError::File(path.to_owned(), error);
    let file = out
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok((last.height, blocks))
}

/// What a new machine needs beside the chain: what the founders signed, and the configuration, which
/// names files of keys and holds none.
fn preface(
    configuration: &Configuration<NodeFile>,
    config: &Path,
    evidence: Vec<u8>,
) -> Result<Preface, BackupError> {
    let folder = configuration.path(&configuration.file.founding);
    let signed = folder.join("signatures");
    let unreadable = |error| BackupError::File(signed.clone(), error);
    let mut signatures = Vec::new();
    for entry in fs::read_dir(&signed).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let institution = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        let text = read(&path)?;
        let mut signature = [0; 64];
        let decoded = hex::decode_to_slice(text.trim_ascii(), &mut signature);
        // What is no signature the founding does not count either.
        if let (Some(institution), Ok(())) = (institution, decoded) {
            signatures.push((institution, signature));
        }
    }
    signatures.sort_unstable();
    Ok(Preface {
        founding: read(&folder.join("founding"))?,
        directory: read(&folder.join("services.toml"))?,
        signatures,
        configuration: read(config)?,
        evidence,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, BackupError> {
    let failed = |error| BackupError::File(path.to_owned(), error);
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(failed(io::Error::other(
            "it is larger than such a file can be",
        )));
    }
    fs::read(path).map_err(failed)
}

/// Builds a store anew.
pub(crate) fn restore(arguments: &RestoreArguments) -> Result<String, BackupError> {
    let configuration = Configuration::<NodeFile>::load(&arguments.config, std::env::vars())?;
    let file = &configuration.file;
    let founding = configuration.founding(&file.founding)?;
    let folder = configuration.path(&file.folder);
    let unusable = |error| BackupError::File(folder.clone(), error);
    if folder.exists() && fs::read_dir(&folder).map_err(unusable)?.next().is_some() {
        return Err(BackupError::NotEmpty(folder));
    }
    let building = with_suffix(&folder, ".restoring");
    if building.exists() {
        return Err(BackupError::NotEmpty(building));
    }
    let key_file = configuration.path(&file.key);
    let next_file = key_file.with_file_name(NEXT_NODE_KEY);
    // One that `succeed` has not put in place has never run.
    let seed = if next_file.exists() {
        keys::read(&next_file)?
    } else {
        keys::make(&next_file)?
    };
    let key = SigningKey::from_seed(*seed).verifying_key();

    let unfinished = Unfinished::new(&building);
    let store = store_folder(&building, &key);
    fs::create_dir_all(&store).map_err(unusable)?;
    lay_out(&building).map_err(unusable)?;
    let source = &arguments.from;
    let mut progress = |_: VerificationStep| {};
    let (replay, preface) = rebuild(source, &founding.genesis, &store, &mut progress)?;
    let known = institution_of_key(replay.view(), &key);
    if known
        .map_err(|error| unsound(source, Height::new(0), &error))?
        .is_some()
    {
        return Err(BackupError::KnownKey(next_file));
    }
    let height = replay.view().tip().height;
    let time = replay.view().tip().time;
    let tip = replay
        .finish()
        .map_err(|why| unsound(source, height, &why))?;

    let pieces = Evidence::decode_all(&preface.evidence, EVIDENCE_MAX)
        .map_err(|error| BackupError::Evidence(source.clone(), error))?;
    let evidence = EvidenceFiles::open(&building.join("evidence")).map_err(unusable)?;
    for piece in &pieces {
        evidence.keep(piece).map_err(unusable)?;
    }
    // Before the folder has its name, so that no node starts in it under another key.
    RestoredFor::new(&key, tip.height)
        .write(&building)
        .map_err(unusable)?;
    if folder.exists() {
        fs::remove_dir(&folder).map_err(unusable)?;
    }
    fs::rename(&building, &folder).map_err(unusable)?;
    unfinished.keep();
    sync_folder_of(&folder)?;
    let home = key_file.parent().unwrap_or(Path::new("."));
    Ok(format!(
        "Restored {} blocks, executed again from the founding on, up to block {height} of time {time} (ms since 1970), into {}. \
         A restored node does not know what it voted for, so it comes back under a new key, which is in {}. Now run `willis membership succeed --folder {}`, which puts that key in place, then start `willis node`: it follows the chain at once and votes from the next validator epoch on. Never start the old key's node again.",
        tip.height.number(),
        folder.display(),
        next_file.display(),
        home.display(),
        time = time.number(),
    ))
}

/// Executes a backup again in an empty folder, and says what is wrong with it, if anything is.
pub(super) fn verify(
    source: &Path,
    founding: &Founding,
    scratch: &Path,
    progress: &mut Progress,
) -> Result<Verification, BackupError> {
    let mut reached = Height::new(0);
    let mut tell = |step: VerificationStep| {
        if let VerificationStep::Executed { height, .. } = step {
            reached = height;
        }
        progress.tell(step);
    };
    let rebuilt = rebuild(source, &founding.genesis, scratch, &mut tell);
    let sound = |height, findings| Verification {
        height,
        proved: height,
        compared: None,
        findings,
        omitted: 0,
    };
    let wrong = |height: Option<Height>, what| Finding { height, what };
    match rebuilt {
        Ok((replay, _)) => match replay.finish() {
            Ok(tip) => Ok(sound(tip.height, Vec::new())),
            Err(why) => Ok(sound(
                reached,
                vec![wrong(Some(reached), client::sentence(&why))],
            )),
        },
        Err(BackupError::Unsound(_, height, what)) => {
            Ok(sound(reached, vec![wrong(Some(height), what)]))
        }
        Err(BackupError::Archive(_, why @ (ArchiveError::Changed | ArchiveError::Cut))) => {
            Ok(sound(reached, vec![wrong(None, why.to_string())]))
        }
        Err(error) => Err(error),
    }
}

/// Builds the store of a backup in an empty folder, to its end, and checks that the file is whole.
fn rebuild(
    source: &Path,
    genesis: &Genesis,
    store: &Path,
    progress: &mut dyn FnMut(VerificationStep),
) -> Result<(Replay, Preface), BackupError> {
    let archive = |error| BackupError::Archive(source.to_owned(), error);
    let opened = File::open(source).map_err(|error| BackupError::File(source.to_owned(), error))?;
    let (mut reader, preface) = ArchiveReader::begin(BufReader::new(opened)).map_err(archive)?;
    let own = Genesis::decode(&preface.founding);
    if own.is_ok_and(|own| own.consortium() != genesis.consortium()) {
        return Err(BackupError::OtherConsortium(source.to_owned()));
    }
    let first = Height::new(0);
    let mut replay = Replay::begin(store, genesis).map_err(|why| unsound(source, first, &why))?;
    loop {
        let last = replay.view().tip().height;
        match reader.next().map_err(archive)? {
            Part::Block { block, certificate } => {
                let height = replay
                    .next(&block, certificate.as_deref())
                    .map_err(|why| unsound(source, last.next(), &why))?;
                let tip = height;
                progress(VerificationStep::Executed { height, tip });
            }
            Part::End { height, block } => {
                let tip = replay.view().tip();
                if (tip.height, tip.block) != (height, block) {
                    return Err(archive(ArchiveError::Changed));
                }
                return Ok((replay, preface));
            }
        }
    }
}

fn unsound(source: &Path, height: Height, why: &dyn std::error::Error) -> BackupError {
    BackupError::Unsound(source.to_owned(), height, client::sentence(why))
}

/// Writes what stood beside the chain to a new folder.
pub(crate) fn unpack(source: &Path, into: &Path) -> Result<String, BackupError> {
    let archive = |error| BackupError::Archive(source.to_owned(), error);
    let opened = File::open(source).map_err(|error| BackupError::File(source.to_owned(), error))?;
    let (mut reader, preface) = ArchiveReader::begin(BufReader::new(opened)).map_err(archive)?;
    // To the end, since only that says that nothing was changed.
    while !matches!(reader.next().map_err(archive)?, Part::End { .. }) {}
    let written = |path: &Path, bytes: &[u8]| {
        fs::write(path, bytes).map_err(|error| BackupError::File(path.to_owned(), error))
    };
    let made = |path: &Path| {
        fs::create_dir(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::NotEmpty(path.to_owned()),
            _ => BackupError::File(path.to_owned(), error),
        })
    };
    made(into)?;
    let founding = into.join("founding");
    made(&founding)?;
    made(&founding.join("signatures"))?;
    written(&founding.join("founding"), &preface.founding)?;
    written(&founding.join("services.toml"), &preface.directory)?;
    for (institution, signature) in &preface.signatures {
        let path = founding.join("signatures").join(institution.to_string());
        written(&path, format!("{}\n", hex::encode(signature)).as_bytes())?;
    }
    written(&into.join("node.toml"), &preface.configuration)?;
    Ok(format!(
        "Wrote the founding and the configuration to {}. The paths in node.toml are those of the machine that was backed up; `willis genesis check {}` says whether every founder has signed.",
        into.display(),
        founding.display()
    ))
}

/// A file or folder that is removed unless it gets its own name.
pub(super) struct Unfinished(Option<PathBuf>);

impl Unfinished {
    pub(super) fn new(path: &Path) -> Self {
        Self(Some(path.to_owned()))
    }

    /// It has its name.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(path) = &self.0 else { return };
        // What cannot be removed is refused by name the next time.
        let _ = if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
    }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

pub(super) fn sync_folder_of(path: &Path) -> Result<(), BackupError> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| BackupError::File(folder.to_owned(), error)),
        _ => Ok(()),
    }
}
