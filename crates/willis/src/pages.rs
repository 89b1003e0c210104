//! `willis pages`: a person's pages, or the consortium's, on this machine.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use portal::{Portal, PortalError, Settings};
use serde_json::json;
use thiserror::Error;
use workstation::WorkError;
use zeroize::Zeroizing;

#[derive(Args)]
pub(crate) struct PagesArguments {
    /// The consortium's founding folder.
    #[arg(long, env = "WILLIS_FOUNDING", value_name = "FOLDER")]
    founding: PathBuf,
    /// The keystore of a doctor, a patient or a family agent. If the file is not there yet, the first page
    /// makes the keys and enrols. Without one the pages show the consortium and
    /// nobody's records.
    #[arg(long, env = "WILLIS_KEYSTORE", value_name = "FILE")]
    keystore: Option<PathBuf>,
    /// A file whose first line is the passphrase: the keystore is unlocked at once. Without it the first page
    /// asks for the passphrase.
    #[arg(long, env = "WILLIS_PASSPHRASE_FILE", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// The port of the loopback address; any that is free without it.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Print one JSON object with the address and nothing else on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Error)]
enum PagesError {
    #[error("{}", client::sentence(.0))]
    Portal(#[from] PortalError),
    #[error("{}", client::sentence(.0))]
    Work(#[from] WorkError),
    #[error("{0} cannot be read: {1}; check the path and its permissions")]
    Passphrase(PathBuf, #[source] std::io::Error),
    #[error("the pages cannot be served: {0}")]
    Serve(#[source] std::io::Error),
    #[error("the runtime cannot be started: {0}")]
    Runtime(#[source] std::io::Error),
}

pub(crate) fn run(arguments: &PagesArguments) -> ExitCode {
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(PagesError::Runtime)
        .and_then(|runtime| runtime.block_on(serve(arguments)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::complain("willis pages", &error);
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: &PagesArguments) -> Result<(), PagesError> {
    let portal = Portal::bind(Settings {
        founding: arguments.founding.clone(),
        keystore: arguments.keystore.clone(),
        port: arguments.port,
    })
    .await?;
    if let Some(file) = &arguments.passphrase_file {
        let text = std::fs::read_to_string(file)
            .map_err(|error| PagesError::Passphrase(file.clone(), error))?;
        let text = Zeroizing::new(text);
        portal
            .unlock(text.lines().next().unwrap_or_default())
            .await?;
    }
    let address = portal.address();
    if arguments.json {
        crate::say(&json!({ "address": address }).to_string());
    } else {
        crate::say(&format!(
            "Open this address in a browser on this machine. It lets in whoever has it, so show it to nobody:\n\n  {address}\n\nCtrl-C ends the pages and locks the keystore."
        ));
    }
    portal
        .serve(crate::asked_to_stop())
        .await
        .map_err(PagesError::Serve)
}
