//! `willis node verify`: a store or a backup, re-checked from the founding on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use chain::{
    Finding, NotStarted, NotVerified, Verification, VerificationStep, is_laid_out, store_folder,
    verify_store,
};
use clap::Args;
use client::{Founding, FoundingError};
use ledger::Height;
use scheme::SigningKey;
use thiserror::Error;

use super::backup::{self, BackupError};
use crate::configuration::{Configuration, ConfigurationError};
use crate::keys::{self, KeyError};
use crate::roles::NodeFile;

#[derive(Args)]
pub(crate) struct VerifyArguments {
    /// The node's configuration file: its founding and its folder are taken.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["founding", "folder", "backup"], required_unless_present = "founding")]
    config: Option<PathBuf>,
    /// The consortium's founding folder.
    #[arg(long, value_name = "FOLDER")]
    founding: Option<PathBuf>,
    /// The node's folder; each store in it is verified.
    #[arg(
        long,
        value_name = "FOLDER",
        requires = "founding",
        conflicts_with = "backup"
    )]
    folder: Option<PathBuf>,
    /// A backup of `willis node back-up`.
    #[arg(long, value_name = "FILE", requires = "founding")]
    backup: Option<PathBuf>,
    /// Where the chain is executed again: as much room as the node's state takes, removed afterwards.
    /// By default the folder for temporary files.
    #[arg(long, value_name = "FOLDER")]
    scratch: Option<PathBuf>,
    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Error)]
enum VerifyError {
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error("{}", client::sentence(.0))]
    Founding(#[from] FoundingError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("{0} cannot be used: {1}; check the path and its permissions")]
    Folder(PathBuf, #[source] std::io::Error),
    #[error("{}: {}", .0.display(), client::sentence(.1))]
    NotVerified(PathBuf, #[source] NotVerified),
    #[error("give --folder or --backup beside --founding, or --config")]
    Nothing,
    #[error("{0} holds no node's store: give the `folder` of a node's configuration")]
    NoStore(PathBuf),
    #[error("{}", client::sentence(.0))]
    Layout(#[from] NotStarted),
    #[error(transparent)]
    Backup(#[from] BackupError),
}

pub(crate) fn run(arguments: &VerifyArguments) -> ExitCode {
    match verify(arguments) {
        Ok(found) => {
            let sound = found.iter().all(|(_, found)| found.is_sound());
            let told = if arguments.json {
                json(&found)
            } else {
                text(&found)
            };
            crate::say(&told);
            ExitCode::from(if sound { 0 } else { 1 })
        }
        Err(error) => {
            if arguments.json {
                let told = serde_json::json!({ "ok": false, "error": error.to_string() });
                crate::say(&told.to_string());
            }
            crate::complain("willis node verify", &error);
            ExitCode::from(2)
        }
    }
}

fn verify(arguments: &VerifyArguments) -> Result<Vec<(PathBuf, Verification)>, VerifyError> {
    let (founding, stores) = match (&arguments.config, &arguments.founding) {
        (Some(config), _) => {
            let configuration = Configuration::<NodeFile>::load(config, std::env::vars())?;
            let file = &configuration.file;
            let founding = configuration.founding(&file.founding)?;
            let key = SigningKey::from_seed(*keys::read(&configuration.path(&file.key))?);
            let folder = configuration.path(&file.folder);
            is_laid_out(&folder)?;
            (founding, vec![store_folder(&folder, &key.verifying_key())])
        }
        (None, Some(founding)) => {
            let founding = Founding::open(founding)?;
            let stores = match &arguments.folder {
                Some(folder) => stores_in(folder)?,
                None => Vec::new(),
            };
            (founding, stores)
        }
        (None, None) => return Err(VerifyError::Nothing),
    };
    let mut progress = Progress::new();
    if let Some(backup) = &arguments.backup {
        let scratch = scratch(arguments.scratch.as_deref())?;
        let found = backup::verify(backup, &founding, scratch.path(), &mut progress)?;
        return Ok(vec![(backup.clone(), found)]);
    }
    if stores.is_empty() {
        return Err(VerifyError::Nothing);
    }
    let mut found = Vec::new();
    for store in stores {
        let scratch = scratch(arguments.scratch.as_deref())?;
        let verified = verify_store(&store, &founding.genesis, scratch.path(), &mut |step| {
            progress.tell(step);
        });
        let verified = verified.map_err(|error| VerifyError::NotVerified(store.clone(), error))?;
        found.push((store, verified));
    }
    Ok(found)
}

/// The stores in a node's folder: one of each key that it had.
fn stores_in(folder: &Path) -> Result<Vec<PathBuf>, VerifyError> {
    is_laid_out(folder)?;
    let state = folder.join("state");
    let unusable = |error| VerifyError::Folder(state.clone(), error);
    if !state.is_dir() {
        return Err(VerifyError::NoStore(folder.to_owned()));
    }
    let mut stores = Vec::new();
    for entry in std::fs::read_dir(&state).map_err(unusable)? {
        let path = entry.map_err(unusable)?.path();
        if path.is_dir() {
            stores.push(path);
        }
    }
    stores.sort();
    if stores.is_empty() {
        return Err(VerifyError::NoStore(folder.to_owned()));
    }
    Ok(stores)
}

fn scratch(folder: Option<&Path>) -> Result<tempfile::TempDir, VerifyError> {
    let temporary = std::env::temp_dir();
    let within = folder.unwrap_or(&temporary);
    tempfile::Builder::new()
        .prefix("willis-verify-")
        .tempdir_in(within)
        .map_err(|error| VerifyError::Folder(within.to_owned(), error))
}

/// Says on standard error how far it is, every few seconds.
pub(super) struct Progress {
    last: Instant,
}

impl Progress {
    fn new() -> Self {
        Self {
            last: Instant::now(),
        }
    }

    pub(super) fn tell(&mut self, step: VerificationStep) {
        if self.last.elapsed() < PROGRESS {
            return;
        }
        self.last = Instant::now();
        match step {
            VerificationStep::Executed { height, tip } => crate::complain(
                "willis node verify",
                &format!("executed block {height} of {tip}"),
            ),
            VerificationStep::Compared(entries) => crate::complain(
                "willis node verify",
                &format!("compared {entries} entries of the state"),
            ),
            _ => {}
        }
    }
}

/// Between two words of progress.
const PROGRESS: Duration = Duration::from_secs(5);

fn text(found: &[(PathBuf, Verification)]) -> String {
    let mut text = String::new();
    for (path, found) in found {
        text.push_str(&format!("{}\n", path.display()));
        for finding in &found.findings {
            text.push_str(&format!("  {}\n", one(finding)));
        }
        if found.omitted > 0 {
            text.push_str(&format!("  and {} more\n", found.omitted));
        }
        if found.is_sound() {
            let compared = found.compared.map_or_else(String::new, |entries| {
                format!(" All {entries} entries of the state are what the blocks give.")
            });
            text.push_str(&format!(
                "  Every block up to {} holds, from the founding on.{compared}\n",
                found.height
            ));
            if found.proved < found.height {
                text.push_str(&format!(
                    "  Certificates prove the blocks up to {}; of the {} after it this store alone says that they are final, as of the last ones when a node stops.\n",
                    found.proved,
                    found.height.number() - found.proved.number()
                ));
            }
        } else {
            text.push_str(&format!(
                "  What was executed again and holds ends at block {}. {WHAT_TO_DO}\n",
                found.height
            ));
        }
    }
    text
}

const WHAT_TO_DO: &str = "Do not start a node on this. Keep the folder, tell the consortium, and let the node come back under a new key: `willis node restore` from a backup that holds, or `willis membership succeed` and an empty folder.";

fn one(finding: &Finding) -> String {
    match finding.height {
        Some(height) => format!("block {height}: {}", finding.what),
        None => finding.what.clone(),
    }
}

fn json(found: &[(PathBuf, Verification)]) -> String {
    let stores: Vec<_> = found
        .iter()
        .map(|(path, found)| {
            let findings: Vec<_> = found
                .findings
                .iter()
                .map(|finding| {
                    serde_json::json!({
                        "height": finding.height.map(Height::number),
                        "what": finding.what,
                    })
                })
                .collect();
            serde_json::json!({
                "path": path,
                "ok": found.is_sound(),
                "height": found.height.number(),
                "proved": found.proved.number(),
                "entries": found.compared,
                "findings": findings,
                "omitted": found.omitted,
            })
        })
        .collect();
    let sound = found.iter().all(|(_, found)| found.is_sound());
    serde_json::json!({ "ok": sound, "stores": stores }).to_string()
}
