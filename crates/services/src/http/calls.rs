//! Signed calls as a service receives them: the signature stands for this service and target, the time
//! is near, the nonce is new.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use client::{
    CALL_DRIFT_MS, CallError, CallHead, IDEMPOTENCY_KEY_BYTES_MAX, ProblemKind, ServiceName,
    SignedCall, VerifiedCall,
};
use scheme::{ConsortiumId, Timestamp};

use crate::http::rates::{Buckets, Rates};
use crate::http::refused::Refused;
use client::now;

/// Nonces remembered at once, of some 100 bytes: a thousand calls a second for the four minutes in which
/// one can be played again.
const NONCES_MAX: usize = 240_000;
/// A key may make 100 calls at once and 20 a second for long.
const KEY_RATE: Rates = Rates {
    burst: 100,
    interval: Duration::from_millis(50),
};

/// What a service needs to judge signed calls.
pub(crate) struct Calls {
    consortium: ConsortiumId,
    service: ServiceName,
    nonces: Mutex<Nonces>,
    rates: Buckets<[u8; 32]>,
}

#[derive(Default)]
struct Nonces {
    seen: BTreeMap<([u8; 32], [u8; 16]), Timestamp>,
    /// When it was last done, in ms since 1970.
    pruned: u64,
}

impl Calls {
    pub(crate) fn new(consortium: ConsortiumId, service: ServiceName) -> Self {
        Self {
            consortium,
            service,
            nonces: Mutex::default(),
            rates: Buckets::new(KEY_RATE),
        }
    }

    fn judge(&self, header: &str, head: &CallHead<'_>) -> Result<VerifiedCall, Refused> {
        let not_authenticated =
            |error: CallError| Refused::of(ProblemKind::NotAuthenticated, &error);
        let now = now();
        let call = SignedCall::parse(header)
            .and_then(|call| call.verify(&self.consortium, head, now))
            .map_err(not_authenticated)?;
        if let Err(wait) = self.rates.take(*call.key().as_bytes(), Instant::now()) {
            let seconds = wait.as_secs() + 1;
            return Err(Refused::new(
                ProblemKind::TooMany,
                format!("too many calls under this key: sign a new one in {seconds} s"),
            ));
        }
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        match nonces.remember(&call, now) {
            Ok(true) => Ok(call),
            Ok(false) => Err(not_authenticated(CallError::Replay)),
            Err(Full) => Err(Refused::new(
                ProblemKind::Busy,
                "too many calls: send a new one in a minute",
            )),
        }
    }
}

struct Full;

impl Nonces {
    /// Whether the call is new.
    fn remember(&mut self, call: &VerifiedCall, now: Timestamp) -> Result<bool, Full> {
        let kept = |time: &Timestamp| time.number().saturating_add(CALL_DRIFT_MS) >= now.number();
        if self.seen.len() >= NONCES_MAX || now.number().saturating_sub(self.pruned) > CALL_DRIFT_MS
        {
            // A call that is older than this is stale, so nobody needs to know that it was seen.
            self.seen.retain(|_, time| kept(time));
            self.pruned = now.number();
        }
        if self.seen.len() >= NONCES_MAX {
            return Err(Full);
        }
        let nonce = (*call.key().as_bytes(), call.nonce());
        Ok(self.seen.insert(nonce, call.time()).is_none())
    }
}

/// Verifies a call that has a signature and passes on whose it is; what needs one refuses a call without.
pub(crate) async fn authenticate(
    State(calls): State<Arc<Calls>>,
    mut request: Request,
    next: Next,
) -> Response {
    let verified = {
        let headers = request.headers();
        let text = |name: &str| match headers.get(name) {
            None => Ok(""),
            Some(value) => value.to_str().map_err(|_| CallError::Malformed),
        };
        let read = text(AUTHORIZATION.as_str())
            .and_then(|header| Ok((header, text("Idempotency-Key")?)))
            .map_err(|error| Refused::of(ProblemKind::NotAuthenticated, &error));
        match read {
            Ok((_, key)) if key.len() > IDEMPOTENCY_KEY_BYTES_MAX => Err(Refused::new(
                ProblemKind::Malformed,
                "the Idempotency-Key is longer than 64 characters",
            )),
            Ok(("", _)) => Ok(None),
            Ok((header, key)) => {
                let uri = request.uri();
                let head = CallHead {
                    service: calls.service,
                    method: request.method().as_str(),
                    target: uri.path_and_query().map_or("/", |target| target.as_str()),
                    idempotency_key: key,
                };
                calls.judge(header, &head).map(Some)
            }
            Err(refused) => Err(refused),
        }
    };
    match verified {
        Ok(call) => {
            if let Some(call) = call {
                request.extensions_mut().insert(call);
            }
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use scheme::{SigningKey, sha256};

    use super::*;

    #[test]
    fn a_call_is_taken_once_and_forgotten_when_it_would_be_stale() {
        let here = ConsortiumId::new([1; 32]);
        let key = SigningKey::from_seed([2; 32]);
        let head = CallHead {
            service: ServiceName::Query,
            method: "GET",
            target: "/",
            idempotency_key: "",
        };
        let call = |time: u64, nonce: u8| {
            let time = Timestamp::new(time);
            SignedCall::sign(&here, &key, &head, sha256(b""), time, [nonce; 16])
                .verify(&here, &head, time)
                .expect("just signed")
        };
        let mut nonces = Nonces::default();
        let mut taken = |call: VerifiedCall, now: u64| {
            nonces
                .remember(&call, Timestamp::new(now))
                .is_ok_and(|new| new)
        };
        let start = 10 * CALL_DRIFT_MS;
        assert!(taken(call(start, 1), start));
        assert!(!taken(call(start, 1), start + CALL_DRIFT_MS));
        assert!(taken(call(start, 2), start + CALL_DRIFT_MS));
        let later = start + 2 * CALL_DRIFT_MS + 2;
        assert!(taken(call(later, 3), later));
        assert_eq!(nonces.seen.len(), 1, "what is stale is forgotten");
    }
}
