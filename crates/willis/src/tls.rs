//! `willis tls`: what a party does with the certificates of its own services, on the machine that has
//! its authority.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use thiserror::Error;

use crate::authority::{self, AuthorityError};
use crate::genesis::{self, CeremonyError};

#[derive(Subcommand)]
pub(crate) enum TlsCommand {
    /// Issues a certificate with a fresh key, for the same hosts; the one that is there is replaced.
    Renew {
        /// The folder that `willis genesis founder` or `service` made.
        #[arg(long)]
        folder: PathBuf,
    },
    /// Lists what was issued.
    List {
        /// The folder that `willis genesis founder` or `service` made.
        #[arg(long)]
        folder: PathBuf,
    },
    /// Revokes a certificate and makes the list of revoked ones, which the other parties are given.
    Revoke {
        /// The folder that `willis genesis founder` or `service` made.
        #[arg(long)]
        folder: PathBuf,
        /// Its serial number, as listed.
        #[arg(long)]
        serial: String,
    },
}

#[derive(Debug, Error)]
enum TlsCommandError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Ceremony(#[from] CeremonyError),
}

pub(crate) fn run(command: &TlsCommand) -> ExitCode {
    crate::tell("willis tls", act(command))
}

fn act(command: &TlsCommand) -> Result<String, TlsCommandError> {
    match command {
        TlsCommand::Renew { folder } => {
            let (party, hosts) = genesis::party_of(folder)?;
            let serial = authority::issue(folder, party, &hosts)?;
            Ok(format!(
                "Issued {serial} for {}, in {}. Start the services again; then revoke the one before if its key may be known to others.",
                hosts.join(", "),
                folder.join(authority::CERTIFICATE).display()
            ))
        }
        TlsCommand::List { folder } => {
            let mut text = String::new();
            for one in authority::issued(folder)?.certificates {
                let revoked = match one.revoked {
                    Some(time) => format!("  revoked {}", crate::people::date(time)),
                    None => String::new(),
                };
                text.push_str(&format!(
                    "{}  issued {}{revoked}\n",
                    one.serial,
                    crate::people::date(one.issued)
                ));
            }
            if text.is_empty() {
                text.push_str("Nothing was issued here.");
            }
            Ok(text)
        }
        TlsCommand::Revoke { folder, serial } => {
            let (party, _) = genesis::party_of(folder)?;
            let list = authority::revoke(folder, party, serial)?;
            Ok(format!(
                "Revoked. Give {} to the other parties: each names it under tls.revoked and starts its services again.",
                list.display()
            ))
        }
    }
}
