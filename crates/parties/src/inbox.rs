//! Where requests reach a patient or a family agent: what a device checks of each before anybody is
//! asked to decide, and that each is answered once (`spec/formats.md`, M6).

use std::collections::BTreeMap;

use rand_core::CryptoRng;
use scheme::{
    ConsortiumId, DecodeError, Decoder, Digest, Encoder, HpkePrivateKey, InboxHandle, Timestamp,
};

use crate::centre_keys::CentreKeys;
use crate::query_manager::{ForwardError, open_forwarded};
use crate::request::{REQUEST_DRIFT_MS, VerifiedRequest};

/// Answered requests that an inbox remembers: each for a day at most.
const ANSWERED_MAX: usize = 16_384;

/// An inbox's name and the requests that were answered. Its key is its owner's to keep.
pub(crate) struct Inbox {
    handle: InboxHandle,
    salt: [u8; 16],
    /// An agent's patient's: what is asked of that one can reach this one.
    patients: Option<(InboxHandle, [u8; 16])>,
    /// With the time from which on its clock refuses them anyway.
    answered: BTreeMap<Digest, Timestamp>,
}

/// Why nobody is asked to decide.
pub(crate) enum NotAsked {
    /// It does not open, or does not stand.
    Forwarded(ForwardError),
    /// It is for another inbox, or was answered before.
    NotForUs,
}

impl Inbox {
    pub(crate) fn new(rng: &mut impl CryptoRng) -> Self {
        let mut salt = [0; 16];
        rng.fill_bytes(&mut salt);
        Self {
            handle: InboxHandle::random(rng),
            salt,
            patients: None,
            answered: BTreeMap::new(),
        }
    }

    /// Takes requests to the patient's inbox as well, which the query manager seals to this one when
    /// the patient does not answer.
    pub(crate) fn stand_in_for(&mut self, handle: InboxHandle, salt: [u8; 16]) {
        self.patients = Some((handle, salt));
    }

    /// Handle and salt, for whoever wants to ask.
    pub(crate) fn address(&self) -> (InboxHandle, [u8; 16]) {
        (self.handle, self.salt)
    }

    /// Opens a forwarded request and checks certificates, signatures, time and inbox, and that it was
    /// not answered before.
    pub(crate) fn open(
        &self,
        consortium: &ConsortiumId,
        centre: &CentreKeys,
        key: &HpkePrivateKey,
        sealed: &[u8],
        now: Timestamp,
    ) -> Result<VerifiedRequest, NotAsked> {
        let (request, salt) =
            open_forwarded(consortium, &self.handle, key, sealed).map_err(NotAsked::Forwarded)?;
        let request = request
            .verify(consortium, centre, now)
            .map_err(|error| NotAsked::Forwarded(error.into()))?;
        let salted = self
            .addresses()
            .any(|(handle, own)| own == salt && request.is_for(consortium, &handle, &salt));
        if salted && self.awaits(consortium, &request) {
            Ok(request)
        } else {
            Err(NotAsked::NotForUs)
        }
    }

    /// Whether a request is for this inbox and waits for its answer.
    pub(crate) fn awaits(&self, consortium: &ConsortiumId, request: &VerifiedRequest) -> bool {
        self.addresses()
            .any(|(handle, salt)| request.is_for(consortium, &handle, &salt))
            && !self.answered.contains_key(&request.commitment().digest())
    }

    fn addresses(&self) -> impl Iterator<Item = (InboxHandle, [u8; 16])> {
        [(self.handle, self.salt)].into_iter().chain(self.patients)
    }

    /// It was answered, and is not again.
    pub(crate) fn answered(&mut self, request: &VerifiedRequest) {
        let terms = request.terms();
        let now = Timestamp::new(terms.time.number().saturating_sub(REQUEST_DRIFT_MS));
        self.answered.retain(|_, end| *end > now);
        let end = terms.not_after.number().saturating_add(REQUEST_DRIFT_MS);
        self.answered
            .insert(request.commitment().digest(), Timestamp::new(end));
    }

    /// Bytes of [`Self::write`].
    pub(crate) fn length(&self) -> usize {
        16 + 16 + 4 + 40 * self.answered.len()
    }

    /// Handle, salt and what was answered; whom it stands in for is its owner's to say again.
    pub(crate) fn write(&self, out: &mut Encoder) {
        out.bytes(self.handle.as_bytes())
            .bytes(&self.salt)
            .u32(self.answered.len() as u32);
        for (request, end) in &self.answered {
            out.bytes(request.as_bytes()).u64(end.number());
        }
    }

    /// What [`Self::write`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let handle = InboxHandle::new(from.array("the inbox")?);
        let salt = from.array("the inbox's salt")?;
        let count = from.count("the answered requests", ANSWERED_MAX)?;
        let mut answered = BTreeMap::new();
        for _ in 0..count {
            let request = Digest::new(from.array("an answered request")?);
            let end = Timestamp::new(from.u64("an answered request")?);
            answered.insert(request, end);
        }
        Ok(Self {
            handle,
            salt,
            patients: None,
            answered,
        })
    }
}
