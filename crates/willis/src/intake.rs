//! `willis intake`: what systems gave a gateway without being asked, and what became of it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use gateway::{ControlError, IntakeAnswer, IntakeQuestion, ask_intake};
use serde_json::{Value, json};
use thiserror::Error;

use crate::configuration::{Configuration, ConfigurationError};
use crate::roles::GatewayFile;

#[derive(Subcommand)]
pub(crate) enum IntakeCommand {
    /// Lists what waits to be sealed and what failed, each with the reason.
    List {
        #[command(flatten)]
        gateway: RunningGateway,
        /// Show what waits behind this delivery: the next page.
        #[arg(long, value_name = "DELIVERY")]
        waiting_after: Option<String>,
        /// Show what failed behind this delivery: the next page.
        #[arg(long, value_name = "DELIVERY")]
        dead_after: Option<String>,
    },
    /// Tries a delivery that failed again.
    Retry {
        #[command(flatten)]
        gateway: RunningGateway,
        /// The delivery, as the list names it.
        delivery: String,
    },
    /// Gives a delivery that failed up: its files are removed, the reason is kept.
    Discard {
        #[command(flatten)]
        gateway: RunningGateway,
        /// The delivery, as the list names it.
        delivery: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// Which gateway is asked.
#[derive(Args)]
pub(crate) struct RunningGateway {
    /// The gateway's configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Error)]
enum IntakeError {
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error("{}", client::sentence(.0))]
    Control(#[from] ControlError),
    #[error("the runtime cannot be started: {0}")]
    Runtime(#[source] std::io::Error),
}

pub(crate) fn run(command: &IntakeCommand) -> ExitCode {
    let (gateway, question) = match command {
        IntakeCommand::List {
            gateway,
            waiting_after,
            dead_after,
        } => (
            gateway,
            IntakeQuestion::List {
                waiting_after: waiting_after.clone(),
                dead_after: dead_after.clone(),
            },
        ),
        IntakeCommand::Retry { gateway, delivery } => (
            gateway,
            IntakeQuestion::Retry {
                id: delivery.clone(),
            },
        ),
        IntakeCommand::Discard {
            gateway,
            delivery,
            reason,
        } => (
            gateway,
            IntakeQuestion::Discard {
                id: delivery.clone(),
                reason: reason.clone(),
            },
        ),
    };
    match ask(gateway, &question) {
        Ok(answer) => {
            crate::say(&said(&answer, gateway.json));
            ExitCode::SUCCESS
        }
        Err(error) => {
            if gateway.json {
                let object = json!({ "ok": false, "error": error.to_string() });
                crate::say(&object.to_string());
            }
            crate::complain("willis intake", &error);
            ExitCode::FAILURE
        }
    }
}

fn ask(gateway: &RunningGateway, question: &IntakeQuestion) -> Result<IntakeAnswer, IntakeError> {
    let configuration = Configuration::<GatewayFile>::load(&gateway.config, [])?;
    let folder = configuration.path(configuration.file.folder());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(IntakeError::Runtime)?;
    Ok(runtime.block_on(ask_intake(&folder, question))?)
}

fn said(answer: &IntakeAnswer, as_json: bool) -> String {
    let IntakeAnswer::List {
        waiting,
        dead,
        counts,
    } = answer
    else {
        return match as_json {
            true => json!({ "ok": true }).to_string(),
            false => "Done.".to_owned(),
        };
    };
    if as_json {
        let object = json!({ "ok": true, "waiting": waiting, "dead": dead, "counts": counts });
        return object.to_string();
    }
    let mut text = format!(
        "{} wait, {} failed, {} bytes\n",
        counts["waiting"], counts["dead"], counts["bytes"]
    );
    for (head, list, why) in [
        ("waits", waiting, "last_failure"),
        ("failed", dead, "reason"),
    ] {
        for one in list.as_array().into_iter().flatten() {
            text += &line(head, one, why);
        }
    }
    text
}

fn line(head: &str, one: &Value, why: &str) -> String {
    let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
    let count = one["file_count"].as_u64().unwrap_or_default();
    let files = if count == 1 { "file" } else { "files" };
    let mut line = format!(
        "\n{} {head}: {}, {count} {files}, {} bytes, tried {} times\n",
        text("id"),
        text("source"),
        one["bytes"],
        one["tries"]
    );
    let why = text(why);
    if !why.is_empty() {
        line += &format!("    {why}\n");
    }
    line
}
