//! Writes that happen once: the answer to a write is kept under its caller and idempotency key, and the
//! same write sent again gets the same answer.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use client::{ProblemKind, VerifiedCall};

use crate::database::{Database, DatabaseError, Value};
use crate::http::refused::Refused;
use client::now;

/// The longest answer to a write that is kept.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How long an answer is kept: as long as a request is valid.
const KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// Old answers are removed once in so many writes.
const REMOVE_EVERY: u64 = 256;

/// What the database holds for it.
pub(crate) const SCHEMA: &str = "CREATE TABLE answers (
    caller {BYTES} NOT NULL,
    key TEXT NOT NULL,
    target TEXT NOT NULL,
    body {BYTES} NOT NULL,
    status BIGINT NOT NULL,
    kind TEXT NOT NULL,
    answer {BYTES} NOT NULL,
    time BIGINT NOT NULL,
    PRIMARY KEY (caller, key)
)";

/// Marks a response whose answer is a secret that is given once: it is not kept, and its handler refuses
/// the same write when it comes again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GivenOnce;

/// Answers to writes.
pub(crate) struct Answers {
    database: Database,
    /// Writes that are being answered.
    begun: Mutex<BTreeSet<([u8; 32], String)>>,
    count: std::sync::atomic::AtomicU64,
}

impl Answers {
    pub(crate) fn new(database: Database) -> Self {
        Self {
            database,
            begun: Mutex::default(),
            count: 0.into(),
        }
    }

    async fn kept(&self, write: &Write) -> Result<Option<Response>, Refused> {
        let found = self
            .database
            .row(
                "SELECT target, body, status, kind, answer FROM answers WHERE caller = $1 AND key = $2",
                &[write.caller.into(), write.key.as_str().into()],
            )
            .await?;
        let Some(row) = found else {
            return Ok(None);
        };
        if row.text(0)? != write.target || row.bytes(1)? != write.body {
            return Err(Refused::new(
                ProblemKind::Conflict,
                "this Idempotency-Key was used for another write: take a fresh one",
            ));
        }
        let status = u16::try_from(row.integer(2)?).unwrap_or_default();
        let mut response = Response::new(Body::from(row.bytes(4)?));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
        let headers = response.headers_mut();
        if let Ok(kind) = HeaderValue::from_str(&row.text(3)?) {
            headers.insert(header::CONTENT_TYPE, kind);
        }
        headers.insert("Idempotent-Replayed", HeaderValue::from_static("true"));
        Ok(Some(response))
    }

    async fn keep(
        &self,
        write: &Write,
        status: StatusCode,
        kind: &str,
        answer: &[u8],
    ) -> Result<(), DatabaseError> {
        self.database
            .run(
                "INSERT INTO answers (caller, key, target, body, status, kind, answer, time) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
                &[
                    write.caller.into(),
                    write.key.as_str().into(),
                    write.target.as_str().into(),
                    write.body.into(),
                    Value::Integer(i64::from(status.as_u16())),
                    kind.into(),
                    answer.into(),
                    now().into(),
                ],
            )
            .await?;
        let count = &self.count;
        if count
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            .is_multiple_of(REMOVE_EVERY)
        {
            let oldest = now().number().saturating_sub(KEPT_MS);
            self.database
                .run(
                    "DELETE FROM answers WHERE time < $1",
                    &[scheme::Timestamp::new(oldest).into()],
                )
                .await?;
        }
        Ok(())
    }
}

struct Write {
    caller: [u8; 32],
    key: String,
    target: String,
    body: [u8; 32],
}

/// Answers a signed write once. Every signed write but a piece of an upload, which has an offset, must
/// have an idempotency key.
pub(crate) async fn once(
    State(answers): State<Arc<Answers>>,
    request: Request,
    next: Next,
) -> Response {
    let call = request.extensions().get::<VerifiedCall>().copied();
    let writes = [Method::POST, Method::PUT, Method::DELETE].contains(request.method());
    let Some(call) = call.filter(|_| writes) else {
        return next.run(request).await;
    };
    let key = request
        .headers()
        .get("Idempotency-Key")
        .and_then(|key| key.to_str().ok())
        .unwrap_or_default();
    if key.is_empty() {
        return Refused::new(
            ProblemKind::Malformed,
            "a write needs an Idempotency-Key header: a random text, the same when the same write is sent again",
        )
        .into_response();
    }
    let write = Write {
        caller: *call.key().as_bytes(),
        key: key.to_owned(),
        target: format!("{} {}", request.method(), request.uri()),
        body: *call.body().as_bytes(),
    };
    match answer_once(&answers, &write, request, next).await {
        Ok(response) => response,
        Err(refused) => refused.into_response(),
    }
}

async fn answer_once(
    answers: &Answers,
    write: &Write,
    request: Request,
    next: Next,
) -> Result<Response, Refused> {
    let _begun = Begun::new(answers, write).ok_or_else(|| {
        Refused::new(
            ProblemKind::Busy,
            "this write is being answered: send it again in a moment",
        )
    })?;
    if let Some(response) = answers.kept(write).await? {
        return Ok(response);
    }
    let response = next.run(request).await;
    if !response.status().is_success() || response.extensions().get::<GivenOnce>().is_some() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    // Handlers of writes answer with a short document or none.
    let answer = to_bytes(body, ANSWER_BYTES_MAX)
        .await
        .map_err(|error| Refused::of(ProblemKind::Failed, &error))?;
    let kind = parts.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if let Err(error) = answers.keep(write, parts.status, kind, &answer).await {
        // It happened all the same. Sent again it is judged anew, by handlers that know what stands.
        tracing::warn!(%error, "the answer to a write could not be kept");
    }
    Ok(Response::from_parts(parts, Body::from(answer)))
}

/// A write that is being answered; dropped, also with a broken connection, it is not any more.
struct Begun<'a> {
    answers: &'a Answers,
    write: ([u8; 32], String),
}

impl<'a> Begun<'a> {
    fn new(answers: &'a Answers, write: &Write) -> Option<Self> {
        let write = (write.caller, write.key.clone());
        let mut begun = answers.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun
            .insert(write.clone())
            .then_some(Self { answers, write })
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let mut begun = self
            .answers
            .begun
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        begun.remove(&self.write);
    }
}
