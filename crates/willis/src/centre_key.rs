//! `willis centre-key`: the registration centre goes on under another certification key (decision 0014).
//! The centre proposes, hospitals approve on machines of their own, the centre hands it to the chain.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use client::{ConsortiumClient, Founding, FoundingError, Hex};
use ledger::{
    CentreKeyApproval, CentreKeyNumber, CentreKeyTransaction, NextCentreKey, Transaction,
};
use scheme::{InstitutionId, Signature, SignerError, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::keys::{self, KeyError};
use crate::roles::{RoleError, block_on};

/// The centre's key in use, and the one that follows.
const KEY: &str = "service.key";
const NEXT_KEY: &str = "next.key";
/// How long the rotation may take to become final.
const FINAL: Duration = Duration::from_secs(60);

#[derive(Subcommand)]
pub(crate) enum CentreKeyCommand {
    /// Makes the next key in the centre's folder, and a proposal for the hospitals.
    Propose {
        /// The consortium's founding folder.
        #[arg(long, env = "WILLIS_FOUNDING", value_name = "FOLDER")]
        founding: PathBuf,
        /// The centre's folder.
        #[arg(long)]
        folder: PathBuf,
        /// The number of a key that was lost to others, the current one included; can be given several
        /// times. Certificates under it count no more.
        #[arg(long = "compromised", value_name = "NUMBER")]
        compromised: Vec<u8>,
        /// The proposal's file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Approves a proposal with a hospital's key, once the centre was asked by another way whether it
    /// made it.
    Approve {
        /// The proposal.
        proposal: PathBuf,
        /// The consortium's founding folder.
        #[arg(long, env = "WILLIS_FOUNDING", value_name = "FOLDER")]
        founding: PathBuf,
        /// The hospital's folder.
        #[arg(long)]
        folder: PathBuf,
        /// The approval's file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Approve without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Hands the proposal with its approvals to the chain; then the centre's folder has the new key.
    Submit {
        /// The proposal.
        proposal: PathBuf,
        /// The consortium's founding folder.
        #[arg(long, env = "WILLIS_FOUNDING", value_name = "FOLDER")]
        founding: PathBuf,
        /// The centre's folder.
        #[arg(long)]
        folder: PathBuf,
        /// A hospital's approval; can be given several times.
        #[arg(long = "approval", value_name = "FILE", required = true)]
        approvals: Vec<PathBuf>,
        /// Do not sign with the current key, which was lost: then more hospitals must approve.
        #[arg(long)]
        without_current: bool,
    },
}

#[derive(Debug, Error)]
enum CentreKeyError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("{}", client::sentence(.0))]
    Founding(#[from] FoundingError),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error("{}", client::sentence(.0))]
    Client(#[from] client::ClientError),
    #[error(transparent)]
    NotSigned(#[from] SignerError),
    #[error("{0} cannot be read or written: {1}; check the path and its permissions")]
    File(PathBuf, #[source] io::Error),
    #[error("{0} is no proposal or approval of a centre's key: {1}")]
    Malformed(PathBuf, String),
    #[error("{0} is not the key that the proposal names: take the folder in which it was made")]
    AnotherKey(PathBuf),
    #[error("no institution of the consortium has the key in {0}")]
    NoInstitution(PathBuf),
    #[error("the proposal was declined: nothing was signed")]
    Declined,
}

/// What the hospitals approve. Public.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proposal {
    number: u8,
    key: Hex<32>,
    compromised: Vec<u8>,
}

impl Proposal {
    fn next(&self) -> NextCentreKey {
        NextCentreKey {
            number: CentreKeyNumber::new(self.number),
            key: VerifyingKey::new(self.key.0),
            compromised: self
                .compromised
                .iter()
                .map(|number| CentreKeyNumber::new(*number))
                .collect(),
        }
    }
}

/// A hospital's approval. Public.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApprovalFile {
    institution: u32,
    signature: Hex<64>,
}

pub(crate) fn run(command: &CentreKeyCommand) -> ExitCode {
    crate::tell("willis centre-key", act(command))
}

fn act(command: &CentreKeyCommand) -> Result<String, CentreKeyError> {
    match command {
        CentreKeyCommand::Propose {
            founding,
            folder,
            compromised,
            out,
        } => propose(founding, folder, compromised, out),
        CentreKeyCommand::Approve {
            proposal,
            founding,
            folder,
            out,
            yes,
        } => approve(proposal, founding, folder, out, *yes),
        CentreKeyCommand::Submit {
            proposal,
            founding,
            folder,
            approvals,
            without_current,
        } => submit(proposal, founding, folder, approvals, *without_current),
    }
}

fn propose(
    founding: &Path,
    folder: &Path,
    compromised: &[u8],
    out: &Path,
) -> Result<String, CentreKeyError> {
    let founding = Founding::open(founding)?;
    let chain = ConsortiumClient::of(&founding, None)?;
    let agreed = block_on(async { Ok(chain.centre_keys().await?) })?;
    let last = agreed.keys.last().map_or(0, |key| key.number.number());
    let path = folder.join(NEXT_KEY);
    // A proposal that was not handed in yet is made again with the same key.
    let key = if path.exists() {
        keys::read(&path)?
    } else {
        keys::make(&path)?
    };
    let key = SigningKey::from_seed(*key);
    let mut compromised = compromised.to_vec();
    compromised.sort_unstable();
    compromised.dedup();
    let proposal = Proposal {
        number: last + 1,
        key: Hex(*key.verifying_key().as_bytes()),
        compromised,
    };
    write(out, &proposal)?;
    Ok(format!(
        "{}Give {} to the hospitals: f + 1 of them approve it with `willis centre-key approve` if the current key signs too, n - f if it was lost.",
        shown(&proposal),
        out.display()
    ))
}

fn approve(
    proposal: &Path,
    founding: &Path,
    folder: &Path,
    out: &Path,
    yes: bool,
) -> Result<String, CentreKeyError> {
    let founding = Founding::open(founding)?;
    let read: Proposal = parse(proposal)?;
    let path = folder.join("institution.key");
    let key = keys::held(&path)?;
    let chain = ConsortiumClient::of(&founding, None)?;
    // The founding document does not know who joined since, nor a key that was changed.
    let own = crate::membership::institution_with(&chain, &key.verifying_key())?
        .ok_or(CentreKeyError::NoInstitution(path))?;
    crate::say(&shown(&read));
    if !yes && !crate::genesis::agreed().unwrap_or(false) {
        return Err(CentreKeyError::Declined);
    }
    let signature = read.next().sign(&founding.consortium(), &key)?;
    let approval = ApprovalFile {
        institution: own.institution.id.number(),
        signature: Hex(*signature.as_bytes()),
    };
    write(out, &approval)?;
    Ok(format!("Approved. Give {} to the centre.", out.display()))
}

fn submit(
    proposal: &Path,
    founding: &Path,
    folder: &Path,
    approvals: &[PathBuf],
    without_current: bool,
) -> Result<String, CentreKeyError> {
    let founding = Founding::open(founding)?;
    let here = founding.consortium();
    let read: Proposal = parse(proposal)?;
    let next = read.next();
    let path = folder.join(NEXT_KEY);
    let key = SigningKey::from_seed(*keys::read(&path)?);
    if key.verifying_key() != next.key {
        return Err(CentreKeyError::AnotherKey(path));
    }
    let current_path = folder.join(KEY);
    let current = if without_current {
        None
    } else {
        let current = SigningKey::from_seed(*keys::read(&current_path)?);
        Some(next.sign(&here, &current))
    };
    let approvals = approvals
        .iter()
        .map(|file| {
            let approval: ApprovalFile = parse(file)?;
            Ok(CentreKeyApproval {
                by: InstitutionId::new(approval.institution),
                signature: Signature::new(approval.signature.0),
            })
        })
        .collect::<Result<Vec<_>, CentreKeyError>>()?;
    let number = next.number.number();
    let signed = CentreKeyTransaction::sign(&here, next, &key, current, approvals);
    let transaction = Transaction::CentreKey(Box::new(signed));
    let chain = ConsortiumClient::of(&founding, None)?;
    let confirmed = block_on(async { Ok(chain.submit(&transaction, FINAL).await?) })?;
    // Only now: until it is final the centre goes on under the current key.
    let kept = folder.join(format!("service-{}.key", number - 1));
    let moved = |from: &Path, to: &Path| {
        fs::rename(from, to).map_err(|error| CentreKeyError::File(from.to_owned(), error))
    };
    if current_path.exists() {
        moved(&current_path, &kept)?;
    }
    moved(&path, &current_path)?;
    Ok(format!(
        "Final in block {}: the centre's key is number {number}. Start `willis centre` again: it signs again what was on its way. The key before it is kept as {}.",
        confirmed.outcome.height.number(),
        kept.display()
    ))
}

fn shown(proposal: &Proposal) -> String {
    let compromised = if proposal.compromised.is_empty() {
        "none: the key before it retires, and its certificates stand to their own end".to_owned()
    } else {
        let numbers: Vec<String> = proposal.compromised.iter().map(u8::to_string).collect();
        format!(
            "{}: certificates under them count no more",
            numbers.join(", ")
        )
    };
    format!(
        "The registration centre's key number {}: {}\nLost to others: {compromised}\n",
        proposal.number, proposal.key
    )
}

fn parse<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, CentreKeyError> {
    let text =
        fs::read_to_string(path).map_err(|error| CentreKeyError::File(path.to_owned(), error))?;
    toml::from_str(&text)
        .map_err(|error| CentreKeyError::Malformed(path.to_owned(), error.to_string()))
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), CentreKeyError> {
    let text = toml::to_string(value)
        .map_err(|error| CentreKeyError::Malformed(path.to_owned(), error.to_string()))?;
    fs::write(path, text).map_err(|error| CentreKeyError::File(path.to_owned(), error))
}
