//! Officers, and signed calls that are kept as evidence of who decided.

use axum::extract::{FromRequest, Request};
use axum::http::header::AUTHORIZATION;
use client::{Base64, CallEvidence, ProblemKind, ServiceName, VerifiedCall};
use scheme::VerifyingKey;
use serde::de::DeserializeOwned;

use crate::http::{Peer, Refused, SignedBytes, json, json_type};

/// Who may approve, refuse and revoke, by configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Officer {
    /// For the records.
    pub name: String,
    /// Signs the officer's calls.
    pub key: VerifyingKey,
}

/// Who decides.
#[derive(Debug, Clone)]
pub(super) enum By {
    /// An officer's call.
    Officer(Officer, CallEvidence),
    /// The holder's own call.
    Holder(VerifyingKey, CallEvidence),
    /// The service, as it is configured.
    Configuration,
}

impl By {
    /// Key and idempotency key of the call.
    pub(super) fn call(&self) -> Option<(&VerifyingKey, &str)> {
        match self {
            Self::Officer(officer, call) => Some((&officer.key, &call.idempotency_key)),
            Self::Holder(key, call) => Some((key, &call.idempotency_key)),
            Self::Configuration => None,
        }
    }
}

/// A signed write with all that its signature binds.
pub(super) struct Evidenced<T> {
    pub(super) call: VerifiedCall,
    pub(super) evidence: CallEvidence,
    pub(super) body: T,
    /// From where, if the connection says it.
    pub(super) peer: Option<Peer>,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Evidenced<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let authorization = header(&request, AUTHORIZATION.as_str());
        let idempotency_key = header(&request, "Idempotency-Key");
        let method = request.method().to_string();
        let target = request.uri().path_and_query();
        let target = target.map_or("/", |target| target.as_str()).to_owned();
        let peer = request.extensions().get::<Peer>().copied();
        let typed = json_type(request.headers());
        let SignedBytes(call, bytes) = SignedBytes::from_request(request, state).await?;
        typed?;
        let body = json(&bytes)?;
        if idempotency_key.is_empty() {
            return Err(Refused::new(
                ProblemKind::Malformed,
                "a write needs an Idempotency-Key header",
            ));
        }
        let evidence = CallEvidence {
            service: ServiceName::Centre.to_string(),
            method,
            target,
            idempotency_key,
            authorization,
            signed: call.time().number(),
            body: Base64(bytes.to_vec()),
        };
        Ok(Self {
            call,
            evidence,
            body,
            peer,
        })
    }
}

/// A header's text, which the signature's check has read before.
fn header(request: &Request, name: &str) -> String {
    let value = request.headers().get(name);
    let value = value.and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}
