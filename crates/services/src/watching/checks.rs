//! Checks of readiness: each says what it found, and what to do if it fails.

use std::time::Duration;

use client::{ConsortiumClient, sentence};
use serde::Serialize;

use crate::database::Database;

/// How long the consortium's nodes have to say their height.
const REACH_BOUND: Duration = Duration::from_secs(3);
/// How long the records have to answer.
const ANSWER_BOUND: Duration = Duration::from_secs(3);

/// One check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    #[serde(rename = "check")]
    pub(crate) name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What was found.
    what: String,
    /// What to do; nothing if it holds.
    #[serde(rename = "do", skip_serializing_if = "str::is_empty")]
    remedy: &'static str,
}

impl Check {
    /// One that holds, and what it found.
    pub fn holds(name: &'static str, what: impl Into<String>) -> Self {
        Self {
            name,
            ok: true,
            what: what.into(),
            remedy: "",
        }
    }

    /// One that fails: what it found, and what to do.
    pub fn fails(name: &'static str, what: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            name,
            ok: false,
            what: what.into(),
            remedy,
        }
    }

    /// Holds or fails; either way it found this.
    pub fn of(name: &'static str, ok: bool, what: impl Into<String>, remedy: &'static str) -> Self {
        match ok {
            true => Self::holds(name, what),
            false => Self::fails(name, what, remedy),
        }
    }
}

/// That the records can be read.
pub async fn database_answers(database: &Database) -> Check {
    const NAME: &str = "database";
    const REMEDY: &str = "see that the database runs, has room and takes this role's connections";
    let asked = database.row("SELECT 1", &[]);
    match tokio::time::timeout(ANSWER_BOUND, asked).await {
        Ok(Ok(_)) => Check::holds(NAME, "the records can be read"),
        // The error's own words only: what is beneath it may name the server.
        Ok(Err(error)) => Check::fails(NAME, error.to_string(), REMEDY),
        Err(_) => Check::fails(
            NAME,
            format!("the records did not answer within {ANSWER_BOUND:?}"),
            REMEDY,
        ),
    }
}

/// That enough nodes say where the chain stands.
pub async fn chain_answers(chain: &ConsortiumClient) -> Check {
    const NAME: &str = "chain";
    const REMEDY: &str = "see whether the nodes run and whether this machine reaches them; if they do not, see theirs";
    match tokio::time::timeout(REACH_BOUND, chain.height()).await {
        Ok(Ok(height)) => Check::holds(NAME, format!("the nodes say height {height}")),
        Ok(Err(error)) => Check::fails(NAME, sentence(&error), REMEDY),
        Err(_) => Check::fails(
            NAME,
            format!("fewer than f + 1 nodes answered within {REACH_BOUND:?}"),
            REMEDY,
        ),
    }
}
