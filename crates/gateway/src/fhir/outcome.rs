//! Refusals: a status and an OperationOutcome that says what happened and what to do.

use axum::http::StatusCode;
use serde_json::{Value, json};

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    /// A code of FHIR's IssueType.
    pub(crate) code: &'static str,
    /// What happened, and what to do.
    pub(crate) text: String,
    /// Where in the resource, as a FHIRPath.
    pub(crate) place: Option<String>,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            code,
            text: text.into(),
            place: None,
        }
    }

    /// The call cannot be understood: 400.
    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", text)
    }

    /// The resource says something that cannot be done: 422.
    pub(crate) fn unprocessable(place: &str, text: impl Into<String>) -> Self {
        Self {
            place: Some(place.to_owned()),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "business-rule", text)
        }
    }

    /// The resource lacks what is needed: 422.
    pub(crate) fn required(place: &str, text: impl Into<String>) -> Self {
        Self {
            code: "required",
            ..Self::unprocessable(place, text)
        }
    }

    /// Nobody said who calls: 401.
    pub(crate) fn login(text: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "login", text)
    }

    /// Who calls may not: 403.
    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", text)
    }

    /// There is no such resource, or none that may be seen: 404.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            format!("there is no such {what}, or access to it has ended; search for it again"),
        )
    }

    /// It is there already, or was changed meanwhile: 409 or 412.
    pub(crate) fn conflict(status: StatusCode, text: impl Into<String>) -> Self {
        Self::new(status, "conflict", text)
    }

    /// Too long: 413.
    pub(crate) fn too_long(text: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-long", text)
    }

    /// What the gateway depends on is away: 503; the same call is safe to repeat.
    pub(crate) fn away(text: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "transient", text)
    }

    /// The gateway itself failed: 500.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "exception", text)
    }

    /// The resource that says it.
    pub(crate) fn outcome(&self) -> Value {
        issue("error", self.code, &self.text, self.place.as_deref())
    }
}

impl From<services::DatabaseError> for Refused {
    fn from(error: services::DatabaseError) -> Self {
        tracing::error!(error = %client::sentence(&error), "the gateway's register failed");
        Self::away(client::sentence(&error))
    }
}

impl From<workstation::WorkError> for Refused {
    fn from(error: workstation::WorkError) -> Self {
        let text = client::sentence(&error);
        match error {
            workstation::WorkError::Not(_) => Self {
                code: "business-rule",
                ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "business-rule", text)
            },
            workstation::WorkError::Client(_) => Self::away(text),
            _ => Self::failed(text),
        }
    }
}

/// An OperationOutcome with one issue.
pub(crate) fn issue(severity: &str, code: &str, text: &str, place: Option<&str>) -> Value {
    let mut issue = json!({
        "severity": severity,
        "code": code,
        "diagnostics": text,
        "details": { "text": text },
    });
    if let Some(place) = place {
        issue["expression"] = json!([place]);
    }
    json!({ "resourceType": "OperationOutcome", "issue": [issue] })
}
