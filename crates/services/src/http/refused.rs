//! A refusal as an HTTP response, and the refusals that no handler makes.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use client::{Problem, ProblemKind};

/// How long a handler may take until it begins to answer; a stream may go on for longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A problem document on its way to the caller.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Problem);

impl Refused {
    pub(crate) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self(Problem::new(kind, detail))
    }

    pub(crate) fn of(kind: ProblemKind, error: &dyn std::error::Error) -> Self {
        Self(Problem::of(kind, error))
    }
}

impl<P: Into<Problem>> From<P> for Refused {
    fn from(problem: P) -> Self {
        Self(problem.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = self.0.status();
        if status >= 500 {
            tracing::warn!(status, detail = self.0.detail(), "refused");
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let kind = HeaderValue::from_static("application/problem+json");
        (status, [(header::CONTENT_TYPE, kind)], body).into_response()
    }
}

/// Answers a path that the service does not have.
pub(crate) async fn no_such_path() -> Refused {
    Refused::new(
        ProblemKind::NotFound,
        "this service has no such path: /v1/openapi.json lists those that it has",
    )
}

/// Answers a method that the path does not have.
pub(crate) async fn no_such_method() -> Refused {
    Refused::new(
        ProblemKind::Method,
        "this path does not take that method: /v1/openapi.json lists those that it takes",
    )
}

/// Gives an answer that takes too long up.
pub(crate) async fn bounded_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refused::new(
            ProblemKind::TimedOut,
            "the answer took longer than a minute: send the same request again",
        )
        .into_response(),
    }
}
