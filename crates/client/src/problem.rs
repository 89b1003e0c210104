//! Problem documents (RFC 9457), from one reasoned table.
//!
//! | kind | status | when |
//! |---|---|---|
//! | malformed | 400 | the bytes are not what the path takes: an unknown field, a digit too few |
//! | not-authenticated | 401 | the call is unsigned, stale, forged or played again; or the TLS certificate is missing |
//! | no-right | 403 | the caller is known to have no right: revoked, expired, not granted, not approved |
//! | not-found | 404 | it is not here, or the caller may not know whether it is |
//! | method | 405 | the path does not take this method |
//! | conflict | 409 | it contradicts what stands: the chain's state, a number given before, another body under the same idempotency key |
//! | too-long | 413 | above the path's limit |
//! | media-type | 415 | the body is of another type than the path takes |
//! | range | 416 | beyond the end |
//! | does-not-stand | 422 | it was understood and does not stand: a signature, a digest, a share |
//! | too-many | 429 | above a quota or rate: the same request later |
//! | failed | 500 | this service is at fault |
//! | busy | 503 | something it depends on is busy or away: the same request is safe to send again |
//! | timed-out | 504 | it took too long here: the same request is safe to send again |
//! | full | 507 | the disk or the store is full: the operator must make room |

use ledger::Refusal;
use parties::{GrantRefusal, ShareRefusal};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What sort of refusal it is; [the table](self) has the reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table above says what each is")]
pub enum ProblemKind {
    Malformed,
    NotAuthenticated,
    NoRight,
    NotFound,
    Method,
    Conflict,
    TooLong,
    MediaType,
    Range,
    DoesNotStand,
    TooMany,
    Failed,
    Busy,
    TimedOut,
    Full,
}

impl ProblemKind {
    /// All of them, as in the table.
    pub const ALL: [Self; 15] = [
        Self::Malformed,
        Self::NotAuthenticated,
        Self::NoRight,
        Self::NotFound,
        Self::Method,
        Self::Conflict,
        Self::TooLong,
        Self::MediaType,
        Self::Range,
        Self::DoesNotStand,
        Self::TooMany,
        Self::Failed,
        Self::Busy,
        Self::TimedOut,
        Self::Full,
    ];

    /// The HTTP status.
    pub fn status(self) -> u16 {
        self.row().0
    }

    /// As it stands in the `type` member, after `urn:willis:problem:`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Malformed => (400, "malformed", "malformed"),
            Self::NotAuthenticated => (401, "not-authenticated", "not authenticated"),
            Self::NoRight => (403, "no-right", "no right to it"),
            Self::NotFound => (404, "not-found", "not found"),
            Self::Method => (405, "method", "not that method"),
            Self::Conflict => (409, "conflict", "contradicts what stands"),
            Self::TooLong => (413, "too-long", "too long"),
            Self::MediaType => (415, "media-type", "not that media type"),
            Self::Range => (416, "range", "beyond the end"),
            Self::DoesNotStand => (422, "does-not-stand", "does not stand"),
            Self::TooMany => (429, "too-many", "too many"),
            Self::Failed => (500, "failed", "this service failed"),
            Self::Busy => (503, "busy", "busy"),
            Self::TimedOut => (504, "timed-out", "timed out"),
            Self::Full => (507, "full", "no room left"),
        }
    }
}

/// A refusal that says what happened and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:willis:problem:` and the kind's name.
    #[serde(rename = "type", default = "blank")]
    #[schema(example = "urn:willis:problem:busy")]
    kind: String,
    /// The kind in words.
    title: String,
    /// The HTTP status again.
    status: u16,
    /// What happened and what to do.
    detail: String,
}

impl Problem {
    /// Of this kind, with what happened and what to do.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let (status, name, title) = kind.row();
        Self {
            kind: format!("urn:willis:problem:{name}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
        }
    }

    /// Of this kind, for an error and its causes.
    pub fn of(kind: ProblemKind, error: &dyn std::error::Error) -> Self {
        Self::new(kind, sentence(error))
    }

    /// The bytes are not what the path takes.
    pub fn malformed(error: &dyn std::error::Error) -> Self {
        Self::of(ProblemKind::Malformed, error)
    }

    /// It is not here.
    pub fn not_found(detail: &str) -> Self {
        Self::new(ProblemKind::NotFound, detail)
    }

    /// The chain's state refuses it.
    pub fn refused(refusal: &Refusal) -> Self {
        Self::of(ProblemKind::Conflict, refusal)
    }

    /// It was understood and does not stand.
    pub fn invalid(error: &dyn std::error::Error) -> Self {
        Self::of(ProblemKind::DoesNotStand, error)
    }

    /// This service is at fault.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        Self::of(ProblemKind::Failed, error)
    }

    /// The same request is safe to send again.
    pub fn busy(detail: &str) -> Self {
        Self::new(ProblemKind::Busy, detail)
    }

    /// A refusal that came without a problem document.
    pub fn unexplained(status: u16) -> Self {
        Self {
            kind: blank(),
            title: "refused without a reason".to_owned(),
            status,
            detail: format!("the service answered {status} without a reason: is this its address?"),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// What happened and what to do.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// What RFC 9457 takes where there is no type.
fn blank() -> String {
    "about:blank".to_owned()
}

impl From<&ShareRefusal> for Problem {
    fn from(refusal: &ShareRefusal) -> Self {
        use ShareRefusal as R;
        let kind = match refusal {
            R::Malformed(_) => ProblemKind::Malformed,
            R::NoSuchGrant | R::NotRecorded | R::NotReached | R::NoContainer => {
                ProblemKind::NotFound
            }
            R::Revoked
            | R::Expired(_)
            | R::NotYet
            | R::NotGranted
            | R::CertificateRevoked
            | R::InstitutionLeft(_)
            | R::CertificateEnded(_)
            | R::CertificateCompromised
            | R::Agent
            | R::NoAccess
            | R::NoSuchClass => ProblemKind::NoRight,
            R::Height(_) => ProblemKind::Busy,
            R::Store(_) => ProblemKind::Failed,
            _ => ProblemKind::DoesNotStand,
        };
        Self::of(kind, refusal)
    }
}

impl From<&GrantRefusal> for Problem {
    fn from(refusal: &GrantRefusal) -> Self {
        use GrantRefusal as R;
        let kind = match refusal {
            R::Malformed(_) => ProblemKind::Malformed,
            R::NotInForce | R::Agent | R::Over => ProblemKind::NoRight,
            R::NotRecorded => ProblemKind::NotFound,
            R::NotServing | R::Busy | R::Quota => ProblemKind::Busy,
            R::Store(_) => ProblemKind::Failed,
            _ => ProblemKind::DoesNotStand,
        };
        Self::of(kind, refusal)
    }
}

/// An error and its causes in one line.
pub fn sentence(error: &dyn std::error::Error) -> String {
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
