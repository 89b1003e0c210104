//! What a role says while it runs: lines on standard error, for people or for programs. What is never
//! among it stands in docs/operations.md, and `tests/logging.rs` looks for it.

use std::io;

use thiserror::Error;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use crate::traces::Traces;

/// What is logged, as `EnvFilter` reads it.
const LEVELS: &str = "WILLIS_LOG";
/// How: `text`, or `json` with one object a line.
const FORMAT: &str = "WILLIS_LOG_FORMAT";

/// Why nothing would be logged as asked.
#[derive(Debug, Error)]
pub(crate) enum LogError {
    #[error("{LEVELS} says {0:?}, which is no list of levels ({1}): try info, or chain=debug")]
    Levels(String, #[source] ParseError),
    #[error("{FORMAT} says {0:?}: it takes text or json")]
    Format(String),
}

/// Logs from here on, and records spans if they are sent anywhere.
pub(crate) fn begin(traces: Option<&Traces>) -> Result<(), LogError> {
    let levels = variable(LEVELS).unwrap_or_else(|| "warn".to_owned());
    let filter =
        EnvFilter::try_new(&levels).map_err(|error| LogError::Levels(levels.clone(), error))?;
    // Spans of traces are no part of a line.
    let filter = match format!("{}=off", client::TRACED).parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false);
    let lines = match variable(FORMAT).as_deref() {
        None | Some("text") => lines.boxed(),
        Some("json") => lines.json().flatten_event(true).boxed(),
        Some(other) => return Err(LogError::Format(other.to_owned())),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(traces.map(Traces::layer))
        .init();
    Ok(())
}

/// One that is not set or empty says nothing; one that is not Unicode is none of ours.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
