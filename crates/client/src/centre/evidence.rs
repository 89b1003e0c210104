//! A signed call that is kept, so that anyone can see later who decided.

use scheme::{ConsortiumId, Timestamp, sha256};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::call::{CallError, CallHead, SignedCall, VerifiedCall};
use crate::directory::ServiceName;
use crate::text::Base64;

/// All that the signature of a call binds, and the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallEvidence {
    /// The service's name, "centre".
    pub service: String,
    /// GET, POST and so on.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The `Idempotency-Key` header.
    pub idempotency_key: String,
    /// The `Authorization` header, which holds key and signature.
    pub authorization: String,
    /// The time that the call says it was signed at, in ms since 1970.
    pub signed: u64,
    /// The body.
    pub body: Base64,
}

impl CallEvidence {
    /// Checks once more that the signature stands for this service, target and body. That the time was
    /// near the service's clock was checked on receipt, and cannot be checked any more.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn verify(&self, consortium: &ConsortiumId) -> Result<VerifiedCall, CallError> {
        if self.service != ServiceName::Centre.to_string() {
            return Err(CallError::Forged);
        }
        let head = CallHead {
            service: ServiceName::Centre,
            method: &self.method,
            target: &self.target,
            idempotency_key: &self.idempotency_key,
        };
        let call = SignedCall::parse(&self.authorization)?;
        let call = call.verify(consortium, &head, Timestamp::new(self.signed))?;
        if call.body() == sha256(&self.body.0) && call.time().number() == self.signed {
            Ok(call)
        } else {
            Err(CallError::OtherBody)
        }
    }
}
