//! Where requests reach a patient or a family agent: what a device checks of each before anybody is
//! asked to decide, and that each is answered once (`spec/formats.md`, M6).

use std::collections::BTreeSet;

use rand_core::CryptoRng;
use scheme::{ConsortiumId, Digest, HpkePrivateKey, InboxHandle, Timestamp};

use crate::centre_keys::CentreKeys;
use crate::query_manager::{ForwardError, open_forwarded};
use crate::request::VerifiedRequest;

/// An inbox's name and the requests that were answered. Its key is its owner's to keep.
pub(crate) struct Inbox {
    handle: InboxHandle,
    salt: [u8; 16],
    answered: BTreeSet<Digest>,
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
            answered: BTreeSet::new(),
        }
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
        if salt == self.salt && self.awaits(consortium, &request) {
            Ok(request)
        } else {
            Err(NotAsked::NotForUs)
        }
    }

    /// Whether a request is for this inbox and waits for its answer.
    pub(crate) fn awaits(&self, consortium: &ConsortiumId, request: &VerifiedRequest) -> bool {
        request.is_for(consortium, &self.handle, &self.salt)
            && !self.answered.contains(&request.commitment().digest())
    }

    /// It was answered, and is not again.
    pub(crate) fn answered(&mut self, request: &VerifiedRequest) {
        self.answered.insert(request.commitment().digest());
    }
}
