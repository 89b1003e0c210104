//! `willis evidence`: what there is against nodes, checked here, so that nobody has to be believed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use client::{ClientError, ConsortiumClient, Founding, FoundingError};
use parties::{NotProved, ShareEvidence};
use serde::Serialize;
use thiserror::Error;

use crate::roles::{RoleError, block_on};

/// The longest file: a grant of 4 MiB with what belongs to it.
const FILE_BYTES_MAX: u64 = 5 << 20;

#[derive(Args)]
pub(crate) struct EvidenceArguments {
    /// The consortium's founding folder.
    #[arg(long, env = "WILLIS_FOUNDING", value_name = "FOLDER")]
    founding: PathBuf,
    /// A file of a wrong share, as `willis doctor read` left it; without it the nodes are asked for what
    /// they keep.
    file: Option<PathBuf>,
    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Error)]
enum EvidenceError {
    #[error("{}", client::sentence(.0))]
    Founding(#[from] FoundingError),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error("{}", client::sentence(.0))]
    Client(#[from] ClientError),
    #[error("{0} cannot be read: {1}; check the path and its permissions")]
    File(PathBuf, #[source] std::io::Error),
    #[error("{0} is longer than any evidence can be")]
    TooLong(PathBuf),
    #[error("{0} is no evidence of a wrong share: {1}")]
    Malformed(PathBuf, #[source] scheme::DecodeError),
    #[error("{0} says nothing against any node: {1}")]
    NotProved(PathBuf, String),
}

/// One offence that is proved.
#[derive(Serialize)]
struct Proved {
    institution: Option<u32>,
    node: Option<String>,
    view: Option<u64>,
    offence: &'static str,
}

pub(crate) fn run(arguments: &EvidenceArguments) -> ExitCode {
    let told = collect(arguments).map(|proved| {
        if arguments.json {
            serde_json::json!({ "ok": true, "proved": proved }).to_string()
        } else {
            table(&proved)
        }
    });
    crate::tell("willis evidence", told)
}

fn collect(arguments: &EvidenceArguments) -> Result<Vec<Proved>, EvidenceError> {
    let founding = Founding::open(&arguments.founding)?;
    let chain = ConsortiumClient::of(&founding, None)?;
    if let Some(file) = &arguments.file {
        let piece = read(file)?;
        let here = founding.consortium();
        let not_proved =
            |why: NotProved| EvidenceError::NotProved(file.clone(), client::sentence(&why));
        let gid = piece.gid(&here).map_err(not_proved)?;
        let on_chain = block_on(async { Ok(chain.agreed_grant(gid).await?) })?;
        let Some(on_chain) = on_chain else {
            let why = "its grant does not stand on the chain".to_owned();
            return Err(EvidenceError::NotProved(file.clone(), why));
        };
        let institution = piece
            .verify(&here, &chain.nodes_of(on_chain.state.epoch), &on_chain)
            .map_err(not_proved)?;
        return Ok(vec![Proved {
            institution: Some(institution.number()),
            node: None,
            view: None,
            offence: "a wrong share",
        }]);
    }
    let found = block_on(async { Ok(chain.evidence().await?) })?;
    let proved = found.iter().map(|piece| Proved {
        institution: chain
            .nodes_of(piece.epoch)
            .by_key(&piece.node)
            .map(|node| node.institution.number()),
        node: Some(hex::encode(piece.node.as_bytes())),
        view: Some(piece.view.number()),
        offence: match piece.offence {
            chain::Offence::ConflictingPrepare => "two prepare votes of one view",
            chain::Offence::ConflictingCommit => "two commit votes of one view",
            chain::Offence::SkipAndCommit => "a vote to skip a view and one for its block",
        },
    });
    Ok(proved.collect())
}

fn read(file: &Path) -> Result<ShareEvidence, EvidenceError> {
    let failed = |error| EvidenceError::File(file.to_owned(), error);
    if std::fs::metadata(file).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(EvidenceError::TooLong(file.to_owned()));
    }
    let bytes = std::fs::read(file).map_err(failed)?;
    ShareEvidence::decode(&bytes).map_err(|error| EvidenceError::Malformed(file.to_owned(), error))
}

fn table(proved: &[Proved]) -> String {
    let mut text = String::new();
    for one in proved {
        let institution = one
            .institution
            .map_or_else(|| "unknown".to_owned(), |number| number.to_string());
        text.push_str(&format!(
            "the node of institution {institution}: {}",
            one.offence
        ));
        if let Some(view) = one.view {
            text.push_str(&format!(", view {view}"));
        }
        text.push('\n');
    }
    if proved.is_empty() {
        text.push_str("No node keeps evidence against any.");
    }
    text
}
