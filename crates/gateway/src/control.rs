//! What the hospital's IT asks a running gateway: what waits, what failed and why; to try it again, or to
//! give it up. By a socket in the gateway's folder, which only the gateway's own user reaches: one line of
//! JSON asks, one line answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::intake::{DeadLetter, DeliveryId, Queue, WaitingDelivery};

/// Bytes of a question: an id and a reason.
const QUESTION_BYTES_MAX: u64 = 16 << 10;
/// Bytes of an answer: two pages of 100 deliveries, with at most 64 KiB for each.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// How long a question may take to come.
const BOUND: Duration = Duration::from_secs(10);
/// Questions at a time; further ones wait.
const AT_ONCE: usize = 8;
/// How long nobody is let in after nobody could be: until some of the files that are open are closed.
const PAUSE: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IntakeQuestion {
    /// What waits and what failed, behind these places of the lists; the first page of each without.
    List {
        /// The last one of the page before.
        waiting_after: Option<String>,
        /// Likewise.
        dead_after: Option<String>,
    },
    /// Tries a dead letter again.
    Retry {
        /// Which.
        id: String,
    },
    /// Gives a dead letter up.
    Discard {
        /// Which.
        id: String,
        /// Why; it is kept.
        reason: String,
    },
}

/// What is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IntakeAnswer {
    /// A page of each list, as JSON.
    List {
        /// What waits.
        waiting: serde_json::Value,
        /// What failed for good, or too often.
        dead: serde_json::Value,
        /// How much there is of both.
        counts: serde_json::Value,
    },
    /// It is done.
    Done,
    /// It is not done, and why.
    Refused(String),
}

/// Why a gateway does not answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Nobody listens.
    #[error("{0} is not answered: {1}; start the gateway, and ask as its own user")]
    Away(PathBuf, #[source] std::io::Error),
    /// The answer cannot be read.
    #[error("the gateway's answer cannot be read; use the program that runs it")]
    Unreadable,
    /// It was not done.
    #[error("{0}")]
    Refused(String),
}

/// Where a gateway with this folder listens.
fn socket(folder: &Path) -> PathBuf {
    folder.join("control.socket")
}

/// Asks the gateway that has this folder.
///
/// # Errors
/// [`ControlError`].
pub async fn ask_intake(
    folder: &Path,
    question: &IntakeQuestion,
) -> Result<IntakeAnswer, ControlError> {
    let path = socket(folder);
    let away = |error| ControlError::Away(path.clone(), error);
    let mut stream = UnixStream::connect(&path).await.map_err(away)?;
    let mut line = serde_json::to_string(question).map_err(|_| ControlError::Unreadable)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).await.map_err(away)?;
    let mut answer = String::new();
    let mut source = BufReader::new(stream.take(ANSWER_BYTES_MAX));
    source.read_line(&mut answer).await.map_err(away)?;
    match serde_json::from_str(&answer).map_err(|_| ControlError::Unreadable)? {
        IntakeAnswer::Refused(why) => Err(ControlError::Refused(why)),
        answer => Ok(answer),
    }
}

/// Answers until it is dropped.
pub(crate) async fn answer(folder: PathBuf, queue: Queue) -> std::io::Result<()> {
    let path = socket(&folder);
    // One that a crash left; who starts a second gateway in this folder was refused by the queue's lock.
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&path)?;
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = std::sync::Arc::clone(&places).acquire_owned().await else {
            return Ok(());
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // What fails once, such as too many open files, does not end the socket for good.
            Err(error) => {
                tracing::warn!(%error, "a question of the gateway's IT cannot be taken; the next one is in a second");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let queue = queue.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(BOUND, answer_one(stream, queue)).await;
            drop(place);
        });
    }
}

async fn answer_one(stream: UnixStream, queue: Queue) -> std::io::Result<()> {
    let (reads, mut writes) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reads.take(QUESTION_BYTES_MAX))
        .read_line(&mut line)
        .await?;
    let answering = tokio::task::spawn_blocking(move || {
        let question = serde_json::from_str(&line).map_err(|_| "this is no question".to_owned());
        question.and_then(|question| done(&queue, &question))
    });
    let answer = answering.await.map_err(std::io::Error::other)?;
    let answer = answer.unwrap_or_else(IntakeAnswer::Refused);
    let mut line = serde_json::to_string(&answer)?;
    line.push('\n');
    writes.write_all(line.as_bytes()).await
}

fn done(queue: &Queue, question: &IntakeQuestion) -> Result<IntakeAnswer, String> {
    let id = |text: &str| {
        text.parse::<DeliveryId>()
            .map_err(|error| client::sentence(&error))
    };
    let after = |text: &Option<String>| text.as_deref().map(id).transpose();
    let failed = |error: crate::intake::QueueError| client::sentence(&error);
    match question {
        IntakeQuestion::List {
            waiting_after,
            dead_after,
        } => {
            let waiting: Vec<WaitingDelivery> =
                queue.waiting(after(waiting_after)?).map_err(failed)?;
            let dead: Vec<DeadLetter> = queue.dead(after(dead_after)?).map_err(failed)?;
            let counts = queue.counts();
            let json = |error: serde_json::Error| error.to_string();
            Ok(IntakeAnswer::List {
                waiting: serde_json::to_value(waiting).map_err(json)?,
                dead: serde_json::to_value(dead).map_err(json)?,
                counts: serde_json::json!({
                    "waiting": counts.waiting, "dead": counts.dead, "bytes": counts.bytes,
                }),
            })
        }
        IntakeQuestion::Retry { id: text } => {
            queue.retry(id(text)?).map_err(failed)?;
            Ok(IntakeAnswer::Done)
        }
        IntakeQuestion::Discard { id: text, reason } => {
            queue.discard(id(text)?, reason).map_err(failed)?;
            Ok(IntakeAnswer::Done)
        }
    }
}
