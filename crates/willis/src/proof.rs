//! `willis proof`: files that show what stands on the chain to whoever has the founding document, without
//! believing the nodes that gave them. Their layout, and how to check them by another program, stand in
//! `spec/verifier.md`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use client::{
    ClientError, ConsortiumClient, Founding, FoundingError, NotProven, ProofFile, Proved,
};
use ledger::{Genesis, GenesisError, GrantState, Height, TransactionId};
use scheme::{GrantId, Timestamp};
use serde_json::{Value, json};
use thiserror::Error;

use crate::people::date;
use crate::roles::{RoleError, block_on};

/// The longest founding document: 255 institutions of some 140 bytes, with room.
const FOUNDING_BYTES_MAX: u64 = 256 << 10;
/// Blocks between two words of progress.
const PROGRESS_BLOCKS: u64 = 10_000;

#[derive(Subcommand)]
pub(crate) enum ProofCommand {
    /// That a record stands on the chain.
    Record(GetArguments),
    /// What the chain says of a grant now.
    Grant(GetArguments),
    /// Every access under a grant up to now.
    AccessLog(GetArguments),
    /// Checks what `willis patient export` wrote, with the founding document alone, without a network.
    ///
    /// Exit status 0 only if all of it stands and nothing was left out.
    Export {
        /// The folder.
        folder: PathBuf,
        /// The consortium's founding folder, or the founding document in it; not the one of the export.
        #[arg(long, env = "WILLIS_FOUNDING", value_name = "PATH")]
        founding: PathBuf,
        /// Print one JSON object and nothing else on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Checks a file with the founding document alone, without a network.
    ///
    /// Exit status 0 only if it proves what is printed.
    Check {
        /// The file.
        file: PathBuf,
        /// The consortium's founding folder, or the founding document in it.
        #[arg(long, env = "WILLIS_FOUNDING", value_name = "PATH")]
        founding: PathBuf,
        /// A container: whether it is the one of the record.
        #[arg(long, value_name = "FILE")]
        container: Option<PathBuf>,
        /// Print one JSON object and nothing else on standard output.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(crate) struct GetArguments {
    /// The record's id, or the grant's: 64 hexadecimal digits.
    id: String,
    /// The consortium's founding folder.
    #[arg(long, env = "WILLIS_FOUNDING", value_name = "FOLDER")]
    founding: PathBuf,
    /// The new file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Error)]
enum ProofFailure {
    #[error("{}", client::sentence(.0))]
    Founding(#[from] FoundingError),
    #[error("{0} is no founding document: {1}")]
    Genesis(PathBuf, #[source] GenesisError),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error("{}", client::sentence(.0))]
    Client(#[from] ClientError),
    #[error("{0} cannot be read or written: {1}; check the path and its permissions")]
    File(PathBuf, #[source] io::Error),
    #[error("{0} is larger than such a file can be")]
    TooLong(PathBuf),
    #[error("{0} is no id of 64 hexadecimal digits")]
    Id(String),
    #[error("{} proves nothing: {}", .0.display(), client::sentence(.1))]
    NotProven(PathBuf, #[source] NotProven),
    #[error("{0} is not the container of the record: its SHA-256 is {1}, the record's is {2}")]
    Container(PathBuf, String, String),
    #[error("a container belongs to a record, and {0} is about a grant")]
    NoRecord(PathBuf),
    #[error("{}", client::sentence(.0))]
    Work(#[from] workstation::WorkError),
    #[error("not all of the export stands:\n  {0}")]
    Export(String),
}

pub(crate) fn run(command: &ProofCommand) -> ExitCode {
    let done = match command {
        ProofCommand::Check {
            file,
            founding,
            container,
            json,
        } => check(file, founding, container.as_deref()).map(|proved| told(&proved, *json)),
        ProofCommand::Export {
            folder,
            founding,
            json,
        } => check_export(folder, founding, *json),
        ProofCommand::Record(arguments)
        | ProofCommand::Grant(arguments)
        | ProofCommand::AccessLog(arguments) => {
            get(command, arguments).map(|proved| told(&proved, arguments.json))
        }
    };
    crate::tell("willis proof", done)
}

/// Asks nodes, checks, and writes the file.
fn get(command: &ProofCommand, arguments: &GetArguments) -> Result<Proved, ProofFailure> {
    let mut id = [0; 32];
    hex::decode_to_slice(&arguments.id, &mut id)
        .map_err(|_| ProofFailure::Id(arguments.id.clone()))?;
    let founding = Founding::open(&arguments.founding)?;
    let chain = ConsortiumClient::of(&founding, None)?;
    let genesis = &founding.genesis;
    let mut said = 0;
    let mut progress = |height: Height, last: Height| {
        if height.number() / PROGRESS_BLOCKS > said {
            said = height.number() / PROGRESS_BLOCKS;
            crate::complain("willis proof", &format!("read block {height} of {last}"));
        }
    };
    let (file, proved) = block_on(async {
        // Nodes may be others than the founders'.
        chain.follow().await?;
        Ok(match command {
            ProofCommand::Record(_) => chain.prove_record(genesis, TransactionId::new(id)).await?,
            ProofCommand::Grant(_) => chain.prove_grant(genesis, GrantId::new(id)).await?,
            _ => {
                chain
                    .prove_access_log(genesis, GrantId::new(id), &mut progress)
                    .await?
            }
        })
    })?;
    let path = &arguments.out;
    let failed = |error| ProofFailure::File(path.clone(), error);
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(failed)?;
    out.write_all(&file.encode()).map_err(failed)?;
    out.sync_all().map_err(failed)?;
    Ok(proved)
}

fn check_export(folder: &Path, founding: &Path, json: bool) -> Result<String, ProofFailure> {
    let genesis = founding_document(founding)?;
    let checked = workstation::export::check(folder, &genesis)?;
    if !checked.wrong.is_empty() {
        return Err(ProofFailure::Export(checked.wrong.join("\n  ")));
    }
    if json {
        return Ok(json!({
            "ok": true, "records": checked.records, "grants": checked.grants,
            "accesses": checked.accesses,
        })
        .to_string());
    }
    Ok(format!(
        "Proved: {} records, each as its doctor signed it and byte for byte as it lies here; {} grants with {} accesses, and no others up to when it was made.\nNot proved: whose records they are, which stands nowhere on the chain; that there are no further records; in its list, doctors' numbers and hospitals' names, what a grant was given for and to whom, and which record an access read, which are this patient's word.",
        checked.records, checked.grants, checked.accesses
    ))
}

/// The founding document of a founding folder, or the file itself.
fn founding_document(founding: &Path) -> Result<Genesis, ProofFailure> {
    let document = if founding.is_dir() {
        founding.join("founding")
    } else {
        founding.to_owned()
    };
    Genesis::decode(&read(&document, FOUNDING_BYTES_MAX)?)
        .map_err(|error| ProofFailure::Genesis(document, error))
}

fn check(file: &Path, founding: &Path, container: Option<&Path>) -> Result<Proved, ProofFailure> {
    let genesis = founding_document(founding)?;
    let not = |why| ProofFailure::NotProven(file.to_owned(), why);
    let bytes = read(file, ProofFile::BYTES_MAX)?;
    let proved = ProofFile::decode(&bytes)
        .and_then(|decoded| decoded.check(&genesis))
        .map_err(not)?;
    if let Some(container) = container {
        let Proved::Record { record, .. } = &proved else {
            return Err(ProofFailure::NoRecord(file.to_owned()));
        };
        let expected = record.statement.digest;
        let found = workstation::shelf::digest_of_file(container)
            .map_err(|error| ProofFailure::File(container.to_owned(), error))?;
        if found != expected {
            let text = |digest: &scheme::Digest| hex::encode(digest.as_bytes());
            let (found, expected) = (text(&found), text(&expected));
            return Err(ProofFailure::Container(
                container.to_owned(),
                found,
                expected,
            ));
        }
    }
    Ok(proved)
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ProofFailure> {
    let failed = |error| ProofFailure::File(path.to_owned(), error);
    if fs::metadata(path).map_err(failed)?.len() > bytes_max {
        return Err(ProofFailure::TooLong(path.to_owned()));
    }
    fs::read(path).map_err(failed)
}

fn told(proved: &Proved, json: bool) -> String {
    if json {
        object(proved).to_string()
    } else {
        text(proved)
    }
}

fn at(height: Height, time: Timestamp) -> String {
    format!("block {height} of {}", date(time.number()))
}

/// What it proves and what not, for a person.
fn text(proved: &Proved) -> String {
    match proved {
        Proved::Record { id, place, record } => {
            let statement = &record.statement;
            format!(
                "Proved: record {} stands in {}.\n  Its container has the SHA-256 {}, its header {}.\n  The doctor's key {} of institution {} signed it, saying {}.\nNot proved: whose record it is, which stands nowhere on the chain; what it holds; whether a container that you have is this one, unless you give it with --container.",
                hex::encode(id.as_bytes()),
                at(place.height, place.time),
                hex::encode(statement.digest.as_bytes()),
                hex::encode(statement.header_digest.as_bytes()),
                hex::encode(statement.author.as_bytes()),
                statement.institution,
                date(statement.time.number()),
            )
        }
        Proved::Grant { gid, as_of, state } => {
            let when = at(as_of.height, as_of.time);
            let said = match state {
                None => format!(
                    "Proved: as of {when} there was no grant {} on the chain.",
                    hex::encode(gid.as_bytes())
                ),
                Some(state) => format!(
                    "Proved: as of {when} grant {} stood on the chain.\n{}",
                    hex::encode(gid.as_bytes()),
                    grant_text(state)
                ),
            };
            format!(
                "{said}\nNot proved: anything after that block. Compare its height with the one that several nodes say now; who the grant is of and to whom stands in the grant alone."
            )
        }
        Proved::AccessLog {
            gid,
            as_of,
            state,
            accesses,
        } => {
            let mut text = format!(
                "Proved: as of {} there were {} accesses under grant {}, and no others.\n{}\n",
                at(as_of.height, as_of.time),
                accesses.len(),
                hex::encode(gid.as_bytes()),
                grant_text(state)
            );
            for (place, entry) in accesses {
                text.push_str(&format!(
                    "  {}: access {} of key {}, masked id {}\n",
                    at(place.height, place.time),
                    entry.number.number(),
                    hex::encode(entry.access_key.as_bytes()),
                    hex::encode(entry.masked.as_bytes())
                ));
            }
            text.push_str("Not proved: anything after that block. Which record an access read can be told only with the log key, which the patient has (`willis patient log`); who used a key stands in the grant.");
            text
        }
    }
}

fn grant_text(state: &GrantState) -> String {
    let revoked = state.revoked.as_ref().map_or_else(
        || "It was not revoked up to there.".to_owned(),
        |moment| format!("It was revoked in {}.", at(moment.height, moment.time)),
    );
    let keys: Vec<String> = state
        .access
        .iter()
        .map(|(key, next)| {
            format!(
                "  Access key {}: {} accesses.",
                hex::encode(key.as_bytes()),
                next.number()
            )
        })
        .collect();
    format!(
        "  It was recorded in {}, allows access from {} to before {}. {revoked} SHA-256 of the grant: {}.\n{}",
        at(state.recorded.height, state.recorded.time),
        date(state.not_before.number()),
        date(state.expiry.number()),
        hex::encode(state.grant.as_bytes()),
        keys.join("\n")
    )
}

fn object(proved: &Proved) -> Value {
    let place = |height: Height, time: Timestamp| json!({ "height": height.number(), "time": time.number() });
    let grant = |state: &GrantState| {
        let keys: Vec<Value> = state
            .access
            .iter()
            .map(|(key, next)| {
                json!({ "access_key": hex::encode(key.as_bytes()), "accesses": next.number() })
            })
            .collect();
        json!({
            "grant": hex::encode(state.grant.as_bytes()),
            "not_before": state.not_before.number(),
            "expiry": state.expiry.number(),
            "recorded": place(state.recorded.height, state.recorded.time),
            "revoked": state.revoked.as_ref().map(|moment| place(moment.height, moment.time)),
            "access_keys": keys,
        })
    };
    match proved {
        Proved::Record {
            id,
            place: at,
            record,
        } => json!({
            "ok": true,
            "claim": "record",
            "record": hex::encode(id.as_bytes()),
            "block": place(at.height, at.time),
            "digest": hex::encode(record.statement.digest.as_bytes()),
            "header_digest": hex::encode(record.statement.header_digest.as_bytes()),
            "author": hex::encode(record.statement.author.as_bytes()),
            "institution": record.statement.institution.number(),
            "signed": record.statement.time.number(),
        }),
        Proved::Grant { gid, as_of, state } => json!({
            "ok": true,
            "claim": "grant",
            "gid": hex::encode(gid.as_bytes()),
            "as_of": place(as_of.height, as_of.time),
            "state": state.as_ref().map(grant),
        }),
        Proved::AccessLog {
            gid,
            as_of,
            state,
            accesses,
        } => {
            let accesses: Vec<Value> = accesses
                .iter()
                .map(|(at, entry)| {
                    json!({
                        "block": place(at.height, at.time),
                        "access_key": hex::encode(entry.access_key.as_bytes()),
                        "number": entry.number.number(),
                        "masked": hex::encode(entry.masked.as_bytes()),
                    })
                })
                .collect();
            json!({
                "ok": true,
                "claim": "access-log",
                "gid": hex::encode(gid.as_bytes()),
                "as_of": place(as_of.height, as_of.time),
                "state": grant(state),
                "accesses": accesses,
            })
        }
    }
}
