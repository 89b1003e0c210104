//! `willis centre-records`: the registration centre's records into one encrypted file, and back.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use services::{BackupError, BackupKeys, CentreService, Passphrase, restore_centre};
use thiserror::Error;

use crate::configuration::{Configuration, ConfigurationError};
use crate::keys::{self, KeyError};
use crate::people::{PassphraseArguments, PeopleError};
use crate::roles::{CentreFile, Role, RoleError, block_on};

#[derive(Subcommand)]
pub(crate) enum CentreRecordsCommand {
    /// Writes all records as they stand at one moment to a new file; the centre can run meanwhile.
    BackUp {
        /// The centre's configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        #[command(flatten)]
        passphrase: PassphraseArguments,
        /// The new file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Include the certification key and the key of identity material: whoever has file and
        /// passphrase can then certify anyone.
        #[arg(long)]
        with_keys: bool,
    },
    /// Brings a backup into the empty database that a configuration names, all of it or nothing.
    Restore {
        /// The configuration file of the centre that is to go on.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        #[command(flatten)]
        passphrase: PassphraseArguments,
        /// The backup.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// A folder for the keys, if the backup holds them.
        #[arg(long, value_name = "FOLDER")]
        keys: Option<PathBuf>,
    },
}

#[derive(Debug, Error)]
enum CentreRecordsError {
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error(transparent)]
    People(#[from] PeopleError),
    #[error("{}", client::sentence(.0))]
    Backup(#[from] BackupError),
    #[error("{}: {}", .0.display(), client::sentence(.1))]
    Unopened(PathBuf, #[source] BackupError),
    #[error(transparent)]
    Key(#[from] KeyError),
}

pub(crate) fn run(command: &CentreRecordsCommand) -> ExitCode {
    crate::tell("willis centre-records", act(command))
}

fn act(command: &CentreRecordsCommand) -> Result<String, CentreRecordsError> {
    match command {
        CentreRecordsCommand::BackUp {
            config,
            passphrase,
            out,
            with_keys,
        } => {
            let passphrase = Passphrase::new(passphrase.new_passphrase()?.to_string())?;
            let centre = CentreFile::prepare(Configuration::load(config, std::env::vars())?)?;
            let keys = if *with_keys {
                BackupKeys::Included
            } else {
                BackupKeys::LeftOut
            };
            let done = block_on(async {
                let chain = Arc::new(centre.chain);
                let service = CentreService::open(centre.config, &centre.database, chain).await?;
                Ok(service.back_up(out, &passphrase, keys).await)
            })?;
            done?;
            Ok(format!(
                "Backed up to {}. Keep it apart from its passphrase{}.",
                out.display(),
                if *with_keys {
                    ", and as well guarded as the certification key"
                } else {
                    " and from the centre's key files, which it does not hold"
                }
            ))
        }
        CentreRecordsCommand::Restore {
            config,
            passphrase,
            from,
            keys: folder,
        } => {
            let passphrase = Passphrase::new(passphrase.passphrase()?.to_string())?;
            let centre = CentreFile::prepare(Configuration::load(config, std::env::vars())?)?;
            let restored =
                block_on(async { Ok(restore_centre(from, &passphrase, &centre.database).await) })?;
            let restored = restored.map_err(|error| match error {
                BackupError::DoesNotOpen => CentreRecordsError::Unopened(from.clone(), error),
                other => other.into(),
            })?;
            let mut text =
                "Restored: start `willis centre`. Its numbers go on far above those of the backup."
                    .to_owned();
            match (restored, folder) {
                (Some(restored), Some(folder)) => {
                    std::fs::create_dir_all(folder)
                        .map_err(|error| RoleError::Folder(folder.clone(), error))?;
                    let key = hex::encode(restored.certification.expose_seed());
                    let key = zeroize::Zeroizing::new(key);
                    keys::write(&folder.join("service.key"), key.as_bytes())?;
                    let identity = hex::encode(restored.identity.expose_bytes());
                    let identity = zeroize::Zeroizing::new(identity);
                    keys::write(&folder.join("identity.key"), identity.as_bytes())?;
                    text.push_str(&format!(" The keys are in {}.", folder.display()));
                }
                (Some(_), None) => {
                    text.push_str(" The backup holds keys, which were not written: give --keys.");
                }
                (None, _) => {
                    text.push_str(" The backup holds no keys: the centre needs its key files.");
                }
            }
            Ok(text)
        }
    }
}
