//! Calls that a user signs: a doctor under the signing key that the centre certified, a patient under
//! the account key of the service (E35), an officer under the officer's key.
//!
//! The signature binds the service, the method, the target with its query, the body's digest, the
//! idempotency key, the time and a nonce, so that a call cannot be turned to another service, changed
//! or played again. It travels as `Authorization: Willis key=..., time=..., nonce=..., body=...,
//! signature=...`.

use scheme::{ConsortiumId, Context, Digest, Sign, Signature, Timestamp, VerifyingKey};
use thiserror::Error;

use crate::directory::ServiceName;

/// By how much the time of a call may differ from the service's clock. A service remembers nonces for
/// twice this long.
pub const CALL_DRIFT_MS: u64 = 2 * 60 * 1000;
/// The longest idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 64;
/// The scheme's name within the header.
const SCHEME: &str = "Willis ";

/// Why a signed call is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CallError {
    /// The header is absent.
    #[error("the call is not signed: sign it with the key that the service knows")]
    Missing,
    /// The header does not have the form.
    #[error(
        "the Authorization header is not of the form \"Willis key=..., time=..., nonce=..., body=..., signature=...\""
    )]
    Malformed,
    /// The time is too far from the service's.
    #[error(
        "the call's time is more than two minutes from the service's: set the clock and sign anew"
    )]
    Stale,
    /// It was received before.
    #[error(
        "the call was received before: sign a new one, with the same idempotency key if it is to happen once"
    )]
    Replay,
    /// The signature does not stand.
    #[error("the call's signature does not stand for this service, target and body")]
    Forged,
    /// The body is another one than was signed.
    #[error("the call's body is not the one that was signed")]
    OtherBody,
}

/// What of a call its signature binds, beside body, time and nonce.
#[derive(Debug, Clone, Copy)]
pub struct CallHead<'a> {
    /// Which service it is for.
    pub service: ServiceName,
    /// GET, POST and so on.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// The `Idempotency-Key` header; empty if there is none.
    pub idempotency_key: &'a str,
}

/// A signed call as it was received; what it says is not known to be true yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedCall {
    key: VerifyingKey,
    time: Timestamp,
    nonce: [u8; 16],
    body: Digest,
    signature: Signature,
}

/// A call whose signature stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedCall {
    key: VerifyingKey,
    time: Timestamp,
    nonce: [u8; 16],
    body: Digest,
}

impl SignedCall {
    /// Signs a call whose body has this SHA-256.
    pub fn sign<K: Sign>(
        consortium: &ConsortiumId,
        key: &K,
        head: &CallHead<'_>,
        body: Digest,
        time: Timestamp,
        nonce: [u8; 16],
    ) -> K::Outcome<Self> {
        let public = key.verifying_key();
        with_parts(head, &public, &body, time, &nonce, |parts| {
            key.sign_then(Context::Call, consortium, parts, |signature| Self {
                key: public,
                time,
                nonce,
                body,
                signature,
            })
        })
    }

    /// The value of the `Authorization` header.
    pub fn header(&self) -> String {
        format!(
            "{SCHEME}key={}, time={}, nonce={}, body={}, signature={}",
            hex::encode(self.key.as_bytes()),
            self.time.number(),
            hex::encode(self.nonce),
            hex::encode(self.body.as_bytes()),
            hex::encode(self.signature.as_bytes()),
        )
    }

    /// Reads the header's value.
    ///
    /// # Errors
    /// [`CallError::Malformed`].
    pub fn parse(header: &str) -> Result<Self, CallError> {
        let mut fields = header
            .strip_prefix(SCHEME)
            .ok_or(CallError::Malformed)?
            .split(", ");
        let mut next = |name: &str| {
            let field = fields.next().ok_or(CallError::Malformed)?;
            field
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('='))
                .ok_or(CallError::Malformed)
        };
        let call = Self {
            key: VerifyingKey::new(bytes(next("key")?)?),
            time: Timestamp::new(next("time")?.parse().map_err(|_| CallError::Malformed)?),
            nonce: bytes(next("nonce")?)?,
            body: Digest::new(bytes(next("body")?)?),
            signature: Signature::new(bytes(next("signature")?)?),
        };
        match fields.next() {
            None => Ok(call),
            Some(_) => Err(CallError::Malformed),
        }
    }

    /// Checks time and signature. Whether the nonce was seen, and whether the body has the digest, is
    /// for the service to check.
    ///
    /// # Errors
    /// [`CallError::Stale`], [`CallError::Forged`].
    pub fn verify(
        &self,
        consortium: &ConsortiumId,
        head: &CallHead<'_>,
        now: Timestamp,
    ) -> Result<VerifiedCall, CallError> {
        if self.time.number().abs_diff(now.number()) > CALL_DRIFT_MS {
            return Err(CallError::Stale);
        }
        let Self {
            key,
            time,
            nonce,
            body,
            signature,
        } = *self;
        with_parts(head, &key, &body, time, &nonce, |parts| {
            key.verify(Context::Call, consortium, parts, &signature)
        })
        .map_err(|_| CallError::Forged)?;
        Ok(VerifiedCall {
            key,
            time,
            nonce,
            body,
        })
    }
}

impl VerifiedCall {
    /// Whose call.
    pub fn key(&self) -> VerifyingKey {
        self.key
    }

    /// When it was signed.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Makes it unique.
    pub fn nonce(&self) -> [u8; 16] {
        self.nonce
    }

    /// SHA-256 that the body must have.
    pub fn body(&self) -> Digest {
        self.body
    }
}

fn with_parts<T>(
    head: &CallHead<'_>,
    key: &VerifyingKey,
    body: &Digest,
    time: Timestamp,
    nonce: &[u8; 16],
    then: impl FnOnce(&[&[u8]]) -> T,
) -> T {
    then(&[
        head.service.to_string().as_bytes(),
        head.method.as_bytes(),
        head.target.as_bytes(),
        head.idempotency_key.as_bytes(),
        key.as_bytes(),
        body.as_bytes(),
        &time.number().to_be_bytes(),
        nonce,
    ])
}

fn bytes<const N: usize>(text: &str) -> Result<[u8; N], CallError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| CallError::Malformed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use scheme::{InstitutionId, SigningKey, sha256};

    use super::*;

    const HERE: ConsortiumId = ConsortiumId::new([1; 32]);
    const NOW: Timestamp = Timestamp::new(10_000_000);
    const HEAD: CallHead<'static> = CallHead {
        service: ServiceName::Query,
        method: "POST",
        target: "/v1/requests?a=1",
        idempotency_key: "k",
    };

    fn signed() -> SignedCall {
        let key = SigningKey::from_seed([2; 32]);
        SignedCall::sign(&HERE, &key, &HEAD, sha256(b"body"), NOW, [3; 16])
    }

    #[test]
    fn a_call_stands_only_for_what_was_signed() {
        let call = signed();
        assert!(call.verify(&HERE, &HEAD, NOW).is_ok());
        let heads = [
            CallHead {
                service: ServiceName::Hospital(InstitutionId::new(1)),
                ..HEAD
            },
            CallHead {
                method: "PUT",
                ..HEAD
            },
            CallHead {
                target: "/v1/requests?a=2",
                ..HEAD
            },
            CallHead {
                idempotency_key: "",
                ..HEAD
            },
        ];
        for head in heads {
            assert_eq!(call.verify(&HERE, &head, NOW), Err(CallError::Forged));
        }
        let elsewhere = ConsortiumId::new([9; 32]);
        assert_eq!(call.verify(&elsewhere, &HEAD, NOW), Err(CallError::Forged));
        let other = SignedCall {
            body: sha256(b"other"),
            ..call
        };
        assert_eq!(other.verify(&HERE, &HEAD, NOW), Err(CallError::Forged));
        let other = SignedCall {
            nonce: [4; 16],
            ..call
        };
        assert_eq!(other.verify(&HERE, &HEAD, NOW), Err(CallError::Forged));
        let other = SignedCall {
            key: SigningKey::from_seed([5; 32]).verifying_key(),
            ..call
        };
        assert_eq!(other.verify(&HERE, &HEAD, NOW), Err(CallError::Forged));
    }

    #[test]
    fn a_call_of_another_hour_is_stale() {
        let call = signed();
        for now in [NOW.number() - CALL_DRIFT_MS, NOW.number() + CALL_DRIFT_MS] {
            assert!(call.verify(&HERE, &HEAD, Timestamp::new(now)).is_ok());
        }
        for now in [
            NOW.number() - CALL_DRIFT_MS - 1,
            NOW.number() + CALL_DRIFT_MS + 1,
        ] {
            let refused = call.verify(&HERE, &HEAD, Timestamp::new(now));
            assert_eq!(refused, Err(CallError::Stale));
        }
    }

    #[test]
    fn only_the_one_form_of_the_header_is_read() {
        let header = signed().header();
        assert_eq!(SignedCall::parse(&header), Ok(signed()));
        let wrong = [
            String::new(),
            "Basic abc".to_owned(),
            header.replace("Willis ", "willis "),
            header.replace("time=", "time=-"),
            header.replace(", nonce=", ",nonce="),
            format!("{header}, more=1"),
            header[..header.len() - 1].to_owned(),
        ];
        for wrong in wrong {
            assert_eq!(
                SignedCall::parse(&wrong),
                Err(CallError::Malformed),
                "{wrong}"
            );
        }
    }
}
