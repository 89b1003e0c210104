//! The query manager (the paper's 3.1 (2) and 3.2.3; interactions 5 to 7).
//!
//! - Holds: which inbox handle leads to which patient's inbox; the requests of the last day, to know
//!   a replay.
//! - Sees: who asks, of which inbox, for which classes and why.
//! - Does: hybrid verification (certificate, key hash on the chain, signature, freshness, replay),
//!   and seals the request to the patient's or agent's inbox.
//! - Must not learn: a patient's identity, a pseudonym, what is granted, a record.
//! - Trusts: f + 1 nodes on which key is in force. Nobody takes a key on its word.

use std::collections::BTreeMap;

use ledger::{KeyUse, Registrant};
use rand_core::CryptoRng;
use scheme::{
    CannotOpen, ConsortiumId, DecodeError, Decoder, Digest, Encoder, HpkePrivateKey, HpkePublicKey,
    InboxHandle, Purpose, REQUEST_BYTES_MAX, Timestamp, UnusableKey, VerifyingKey,
};
use thiserror::Error;

use crate::consortium_chain::AgreedKey;
use crate::request::{AccessRequest, REQUEST_LIFE_MAX_MS, RequestError, VerifiedRequest};

/// Requests remembered at once: 10,000 a day is one referral every 9 seconds. Above it the oldest
/// is answered with "busy", never forgotten early.
const REMEMBERED_MAX: usize = 10_000;
/// Inboxes known at once.
const INBOXES_MAX: usize = 10_000_000;

/// Why a request is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The request itself does not stand.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The bytes are no request.
    #[error("this is no request")]
    Malformed(#[from] DecodeError),
    /// The handle leads to no inbox, or the request is not for it.
    #[error("there is no such inbox: ask the patient for the code again")]
    NoSuchInbox,
    /// A doctor's key is not in force on the chain.
    #[error("the key of a doctor who asks is not in force on the chain")]
    NotInForce,
    /// It was forwarded before.
    #[error("this request was sent before: wait for the answer or make a new one")]
    Replay,
    /// It is from another day, or from the future.
    #[error("the request's time is too far from now: check the clock and make a new one")]
    Stale,
    /// Too many requests are remembered.
    #[error("too many requests are waiting: try again in a minute")]
    Busy,
    /// The patient's inbox key cannot be used.
    #[error("the patient's inbox cannot be reached")]
    Inbox(#[from] CannotOpen),
    /// Nothing can be sealed to the inbox's key.
    #[error(transparent)]
    InboxKey(#[from] UnusableKey),
}

/// A request sealed to an inbox (`spec/formats.md`, M6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// Whose inbox.
    pub handle: InboxHandle,
    /// HPKE of request, handle and salt.
    pub sealed: Vec<u8>,
}

/// The query manager.
pub struct QueryManager {
    consortium: ConsortiumId,
    centre: VerifyingKey,
    clock_drift_ms: u64,
    inboxes: BTreeMap<InboxHandle, HpkePublicKey>,
    remembered: BTreeMap<Digest, Timestamp>,
}

impl QueryManager {
    /// A query manager that accepts requests from clocks at most `clock_drift_ms` ahead.
    pub fn new(consortium: ConsortiumId, centre: VerifyingKey, clock_drift_ms: u64) -> Self {
        Self {
            consortium,
            centre,
            clock_drift_ms,
            inboxes: BTreeMap::new(),
            remembered: BTreeMap::new(),
        }
    }

    /// Opens an inbox under a handle that the patient chose.
    ///
    /// # Errors
    /// [`ForwardError::Busy`] if there are too many, [`ForwardError::Replay`] if the handle is taken.
    pub fn open_inbox(
        &mut self,
        handle: InboxHandle,
        key: HpkePublicKey,
    ) -> Result<(), ForwardError> {
        if self.inboxes.len() >= INBOXES_MAX {
            return Err(ForwardError::Busy);
        }
        if self.inboxes.contains_key(&handle) {
            return Err(ForwardError::Replay);
        }
        self.inboxes.insert(handle, key);
        Ok(())
    }

    /// Hybrid verification up to what the chain must be asked: certificates, signatures, inbox,
    /// freshness, replay.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub fn examine(
        &mut self,
        request: &[u8],
        handle: InboxHandle,
        salt: [u8; 16],
        now: Timestamp,
    ) -> Result<Examined, ForwardError> {
        let request =
            AccessRequest::decode(request)?.verify(&self.consortium, &self.centre, now)?;
        if !self.inboxes.contains_key(&handle) || !request.is_for(&self.consortium, &handle, &salt)
        {
            return Err(ForwardError::NoSuchInbox);
        }
        let made = request.terms().time.number();
        if made > now.number().saturating_add(self.clock_drift_ms)
            || now.number().saturating_sub(made) > REQUEST_LIFE_MAX_MS
        {
            return Err(ForwardError::Stale);
        }
        self.remembered.retain(|_, not_after| *not_after >= now);
        if self.remembered.contains_key(&request.commitment().digest()) {
            return Err(ForwardError::Replay);
        }
        Ok(Examined {
            request,
            handle,
            salt,
        })
    }

    /// The chain's part: every doctor's key is in force, by f + 1 nodes. Then the request is sealed
    /// to the inbox and remembered.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub fn forward(
        &mut self,
        examined: Examined,
        agreed: &[AgreedKey],
        rng: &mut impl CryptoRng,
    ) -> Result<Forwarded, ForwardError> {
        let Examined {
            request,
            handle,
            salt,
        } = examined;
        if !all_in_force(&request, agreed) {
            return Err(ForwardError::NotInForce);
        }
        if self.remembered.len() >= REMEMBERED_MAX {
            return Err(ForwardError::Busy);
        }
        let key = self.inboxes.get(&handle).ok_or(ForwardError::NoSuchInbox)?;
        let plain = Encoder::new().bytes(&salt).var(request.as_bytes()).finish();
        let sealed = key.seal(
            Purpose::Request,
            &self.consortium,
            handle.as_bytes(),
            &plain,
            rng,
        )?;
        self.remembered
            .insert(request.commitment().digest(), request.terms().not_after);
        Ok(Forwarded { handle, sealed })
    }
}

/// A request that passed everything but the chain.
pub struct Examined {
    request: VerifiedRequest,
    handle: InboxHandle,
    salt: [u8; 16],
}

impl Examined {
    /// The request.
    pub fn request(&self) -> &VerifiedRequest {
        &self.request
    }
}

/// Whether each doctor of the request has a signing key in force, as this doctor of this
/// institution.
pub(crate) fn all_in_force(request: &VerifiedRequest, agreed: &[AgreedKey]) -> bool {
    request.doctors().iter().all(|doctor| {
        let registrant = Registrant::Doctor {
            institution: doctor.institution,
            doctor: doctor.id,
        };
        agreed.iter().any(|key| {
            key.hash() == ledger::KeyHash::of(&doctor.signing)
                && key.usage() == KeyUse::Signature
                && key.registrant() == registrant
        })
    })
}

/// Opens a request in the inbox, on the patient's or agent's device.
///
/// # Errors
/// [`ForwardError`] if it is not for this inbox or malformed. Its signatures are still to be checked.
pub fn open_forwarded(
    consortium: &ConsortiumId,
    handle: &InboxHandle,
    key: &HpkePrivateKey,
    sealed: &[u8],
) -> Result<(AccessRequest, [u8; 16]), ForwardError> {
    let plain = key.open(Purpose::Request, consortium, handle.as_bytes(), sealed)?;
    let mut from = Decoder::new(&plain);
    let salt = from.array("the inbox's salt")?;
    let request = AccessRequest::decode(from.var("the request", REQUEST_BYTES_MAX)?)?;
    from.finish("the forwarded request")?;
    Ok((request, salt))
}
