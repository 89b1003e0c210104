//! Problem documents (RFC 9457), from one reasoned table.
//!
//! | status | when |
//! |---|---|
//! | 400 | the bytes are not what the path takes |
//! | 403 | the caller is known to have no right: revoked, expired, not granted |
//! | 404 | it is not here, or the caller may not know whether it is |
//! | 409 | the chain's state refuses it |
//! | 413 | too long |
//! | 422 | it was understood and does not stand: a signature, a digest, a share |
//! | 500 | this node is at fault |
//! | 503 | busy: the same request is safe to send again |

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ledger::Refusal;
use parties::{GrantRefusal, ShareRefusal};
use serde::{Deserialize, Serialize};

/// A refusal that says what happened and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    title: String,
    status: u16,
    detail: String,
}

impl Problem {
    /// 400.
    pub fn malformed(error: &dyn std::error::Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", sentence(error))
    }

    /// 404.
    pub fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found", detail.to_owned())
    }

    /// 409.
    pub fn refused(refusal: &Refusal) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "refused by the chain",
            sentence(refusal),
        )
    }

    /// 422.
    pub fn invalid(error: &dyn std::error::Error) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "does not stand",
            sentence(error),
        )
    }

    /// 500.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "this node failed",
            sentence(error),
        )
    }

    /// 503.
    pub fn busy(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail.to_owned())
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// What happened and what to do.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    fn new(status: StatusCode, title: &str, detail: String) -> Self {
        Self {
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
        }
    }
}

impl From<&ShareRefusal> for Problem {
    fn from(refusal: &ShareRefusal) -> Self {
        use ShareRefusal as R;
        let detail = sentence(refusal);
        let (status, title) = match refusal {
            R::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed"),
            R::NoSuchGrant | R::NotRecorded | R::NotReached | R::NoContainer => {
                (StatusCode::NOT_FOUND, "not found")
            }
            R::Revoked
            | R::Expired(_)
            | R::NotYet
            | R::NotGranted
            | R::CertificateRevoked
            | R::CertificateEnded(_)
            | R::CertificateCompromised
            | R::Agent
            | R::NoAccess
            | R::NoSuchClass => (StatusCode::FORBIDDEN, "not granted"),
            R::Height(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            R::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "this node failed"),
            _ => (StatusCode::UNPROCESSABLE_ENTITY, "does not stand"),
        };
        Self::new(status, title, detail)
    }
}

impl From<&GrantRefusal> for Problem {
    fn from(refusal: &GrantRefusal) -> Self {
        use GrantRefusal as R;
        let detail = sentence(refusal);
        let (status, title) = match refusal {
            R::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed"),
            R::NotInForce | R::Agent | R::Over => (StatusCode::FORBIDDEN, "not in force"),
            R::NotServing | R::Busy | R::Quota => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            R::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "this node failed"),
            _ => (StatusCode::UNPROCESSABLE_ENTITY, "does not stand"),
        };
        Self::new(status, title, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let kind = HeaderValue::from_static("application/problem+json");
        (status, [(header::CONTENT_TYPE, kind)], body).into_response()
    }
}

/// An error and its causes in one line.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty file in the cloud was answered as "busy", and one cut short as the reader's mistake.
    #[test]
    fn what_the_cloud_lost_or_altered_is_not_the_readers_fault() {
        let problem = |refusal: ShareRefusal| Problem::from(&refusal);
        let missing = problem(ShareRefusal::NoContainer);
        assert_eq!(missing.status(), 404);
        assert!(missing.detail().contains("no longer has the container"));
        for altered in [ShareRefusal::AlteredHeader, ShareRefusal::AlteredContainer] {
            let altered = problem(altered);
            assert_eq!(altered.status(), 422);
            assert!(altered.detail().contains("the cloud"), "{altered:?}");
        }
    }

    #[test]
    fn what_is_over_or_ended_is_no_right_any_more() {
        assert_eq!(Problem::from(&GrantRefusal::Over).status(), 403);
        let ended = ShareRefusal::CertificateEnded(scheme::Timestamp::new(1));
        assert_eq!(Problem::from(&ended).status(), 403);
        let compromised = ShareRefusal::CertificateCompromised;
        assert_eq!(Problem::from(&compromised).status(), 403);
    }
}
