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
    InboxHandle, Purpose, REQUEST_BYTES_MAX, Timestamp, UnusableKey,
};
use thiserror::Error;

use crate::centre_keys::CentreKeys;
use crate::consortium_chain::{AgreedCentreKeys, AgreedKey};
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

/// What a query manager decides of a request by itself, without what it remembers: certificates,
/// signatures, the one encoding, the inbox, freshness.
#[derive(Debug, Clone)]
pub struct HybridVerification {
    consortium: ConsortiumId,
    centre: CentreKeys,
    clock_drift_ms: u64,
}

impl HybridVerification {
    /// Accepts requests from clocks at most `clock_drift_ms` ahead.
    pub fn new(consortium: ConsortiumId, centre: CentreKeys, clock_drift_ms: u64) -> Self {
        Self {
            consortium,
            centre,
            clock_drift_ms,
        }
    }

    /// Takes what f + 1 nodes say of the registration centre's keys: certificates under one that was
    /// lost to others count no more.
    pub fn follow_centre(&mut self, agreed: &AgreedCentreKeys) {
        self.centre.follow(agreed);
    }

    /// Again before a request is forwarded: whether its certificates still count, since a key of the
    /// centre's can have been lost after the request was examined.
    ///
    /// # Errors
    /// [`ForwardError::Request`].
    pub fn still_issued(&self, request: &VerifiedRequest) -> Result<(), ForwardError> {
        Ok(request.still_issued(&self.centre)?)
    }

    /// The consortium.
    pub fn consortium(&self) -> &ConsortiumId {
        &self.consortium
    }

    /// Everything up to what the chain must be asked. Whether the handle leads to an inbox, and whether
    /// the request was forwarded before, is for whoever remembers that.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub fn examine(
        &self,
        request: &[u8],
        handle: InboxHandle,
        salt: [u8; 16],
        now: Timestamp,
    ) -> Result<Examined, ForwardError> {
        let verified =
            AccessRequest::decode(request)?.verify(&self.consortium, &self.centre, now)?;
        if verified.as_bytes() != request {
            return Err(ForwardError::Malformed(DecodeError::Invalid {
                what: "the request",
                why: "it is not in its one encoding",
            }));
        }
        if !verified.is_for(&self.consortium, &handle, &salt) {
            return Err(ForwardError::NoSuchInbox);
        }
        let made = verified.terms().time.number();
        if made > now.number().saturating_add(self.clock_drift_ms)
            || now.number().saturating_sub(made) > REQUEST_LIFE_MAX_MS
        {
            return Err(ForwardError::Stale);
        }
        Ok(Examined {
            request: verified,
            handle,
            salt,
        })
    }
}

/// The query manager.
pub struct QueryManager {
    verification: HybridVerification,
    inboxes: BTreeMap<InboxHandle, HpkePublicKey>,
    remembered: BTreeMap<Digest, Timestamp>,
}

impl QueryManager {
    /// A query manager that accepts requests from clocks at most `clock_drift_ms` ahead.
    pub fn new(consortium: ConsortiumId, centre: CentreKeys, clock_drift_ms: u64) -> Self {
        Self {
            verification: HybridVerification::new(consortium, centre, clock_drift_ms),
            inboxes: BTreeMap::new(),
            remembered: BTreeMap::new(),
        }
    }

    /// Takes what f + 1 nodes say of the registration centre's keys: certificates under one that was
    /// lost to others count no more.
    pub fn follow_centre(&mut self, agreed: &AgreedCentreKeys) {
        self.verification.follow_centre(agreed);
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
        let examined = self.verification.examine(request, handle, salt, now)?;
        if !self.inboxes.contains_key(&handle) {
            return Err(ForwardError::NoSuchInbox);
        }
        self.remembered.retain(|_, not_after| *not_after >= now);
        if self.remembered.contains_key(&examined.digest()) {
            return Err(ForwardError::Replay);
        }
        Ok(examined)
    }

    /// The chain's part: every doctor's key is in force, by f + 1 nodes, and no copy of the request was
    /// forwarded since it was examined. Then the request is sealed to the inbox and remembered.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub fn forward(
        &mut self,
        examined: Examined,
        agreed: &[AgreedKey],
        rng: &mut impl CryptoRng,
    ) -> Result<Forwarded, ForwardError> {
        self.verification.still_issued(&examined.request)?;
        let confirmed = examined.confirm(agreed)?;
        let digest = confirmed.request().commitment().digest();
        // Again, since a second copy can have been examined before the first was forwarded.
        if self.remembered.contains_key(&digest) {
            return Err(ForwardError::Replay);
        }
        if self.remembered.len() >= REMEMBERED_MAX {
            return Err(ForwardError::Busy);
        }
        let handle = confirmed.handle();
        let key = self.inboxes.get(&handle).ok_or(ForwardError::NoSuchInbox)?;
        let sealed = confirmed.seal(&self.verification.consortium, &handle, key, rng)?;
        self.remembered
            .insert(digest, confirmed.request().terms().not_after);
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

    /// The chain's part: every doctor's key is in force, by f + 1 nodes.
    ///
    /// # Errors
    /// [`ForwardError::NotInForce`].
    pub fn confirm(self, agreed: &[AgreedKey]) -> Result<Confirmed, ForwardError> {
        if all_in_force(&self.request, agreed) {
            Ok(Confirmed(self))
        } else {
            Err(ForwardError::NotInForce)
        }
    }

    fn digest(&self) -> Digest {
        self.request.commitment().digest()
    }
}

/// A request that passed the whole hybrid verification: what may be sealed to an inbox.
pub struct Confirmed(Examined);

impl Confirmed {
    /// The request.
    pub fn request(&self) -> &VerifiedRequest {
        &self.0.request
    }

    /// Of which inbox it asks.
    pub fn handle(&self) -> InboxHandle {
        self.0.handle
    }

    /// Seals it to an inbox (`spec/formats.md`, M6): the one that it asks, or that one's agent's.
    ///
    /// # Errors
    /// [`ForwardError::InboxKey`].
    pub fn seal(
        &self,
        consortium: &ConsortiumId,
        to: &InboxHandle,
        key: &HpkePublicKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, ForwardError> {
        let Examined { request, salt, .. } = &self.0;
        let plain = Encoder::new().bytes(salt).var(request.as_bytes()).finish();
        Ok(key.seal(Purpose::Request, consortium, to.as_bytes(), &plain, rng)?)
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

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use ledger::testing::{FOUNDED, FourHospitals, rng};
    use ledger::{CentreKeyNumber, CentreKeyStanding, Height};
    use scheme::{ClassCode, DoctorId, InstitutionId, SigningKey};

    use super::*;
    use crate::certificate::CertificateError;
    use crate::consortium_chain::{CentreKeyAnswer, Question};
    use crate::medical_institution::{Doctor, Reader};
    use crate::registration_centre::RegistrationCentre;
    use crate::request::{REQUEST_DRIFT_MS, RequestTerms};
    use crate::{Answer, KeyAnswer, Reply};

    const HANDLE: InboxHandle = InboxHandle::new([3; 16]);
    const SALT: [u8; 16] = [4; 16];
    const DRIFT_MS: u64 = 1_000;
    const HOUR_MS: u64 = 60 * 60 * 1000;

    struct Asked {
        queries: QueryManager,
        doctor: Doctor,
        reader: Reader,
        agreed: Vec<AgreedKey>,
    }

    fn asked() -> Asked {
        let rng = &mut rng("query manager", 0);
        let here = FourHospitals::default().consortium;
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        let mut centre = RegistrationCentre::new(here, SigningKey::from_seed([7; 32]), year);
        let institution = InstitutionId::new(1);
        let id = DoctorId::new(5);
        let doctor = Doctor::new(
            here,
            CentreKeys::founding(centre.verifying_key()),
            id,
            institution,
            rng,
        );
        let subject = centre.begin_enrolment();
        let proof = doctor.prove_possession(subject);
        let keys = *doctor.public_keys();
        let enrolled = centre.certify_doctor(subject, keys, &proof, FOUNDED);
        let certificate = enrolled.expect("a new doctor").certificate;
        let reader = Reader::new(
            here,
            CentreKeys::founding(centre.verifying_key()),
            certificate,
            1,
            rng,
        );
        let mut queries =
            QueryManager::new(here, CentreKeys::founding(centre.verifying_key()), DRIFT_MS);
        let inbox = HpkePrivateKey::derive(&[9; 32]).public_key();
        queries.open_inbox(HANDLE, inbox).expect("the first one");
        let hash = ledger::KeyHash::of(&keys.signing);
        let answer = Answer::UserKey(Some(KeyAnswer {
            usage: KeyUse::Signature,
            registrant: Registrant::Doctor {
                institution,
                doctor: id,
            },
            in_force: true,
        }));
        let reply = Reply::sign(
            &here,
            institution,
            &SigningKey::from_seed([8; 32]),
            &Question::UserKey(hash).encode(),
            Height::new(1),
            ledger::StateRoot::new([0; 32]),
            answer.encode(),
        );
        let agreed = AgreedKey::from_reply(hash, &reply).expect("just made");
        Asked {
            queries,
            doctor,
            reader,
            agreed: agreed.into_iter().collect(),
        }
    }

    impl Asked {
        /// A request made at this moment, by a clock that agrees with it.
        fn request(&self, time: Timestamp) -> Vec<u8> {
            let terms = RequestTerms {
                institution: InstitutionId::new(1),
                inbox: HANDLE.commit(self.queries.verification.consortium(), &SALT),
                classes: vec![ClassCode::new(1)],
                purpose: "stroke".into(),
                nonce: [1; 32],
                time,
                not_after: Timestamp::new(time.number() + HOUR_MS),
            };
            let made = self.reader.request(&self.doctor, terms, time);
            made.expect("within its terms").as_bytes().to_vec()
        }

        fn examine(&mut self, request: &[u8], now: Timestamp) -> Result<Examined, ForwardError> {
            self.queries.examine(request, HANDLE, SALT, now)
        }

        fn forward(&mut self, examined: Examined) -> Result<Forwarded, ForwardError> {
            let agreed = self.agreed.clone();
            self.queries
                .forward(examined, &agreed, &mut rng("forward", 0))
        }
    }

    /// Two copies of one request were examined before either was forwarded, and both went to the
    /// patient.
    #[test]
    fn a_request_examined_twice_is_forwarded_once() {
        let mut all = asked();
        let request = all.request(FOUNDED);
        let first = all.examine(&request, FOUNDED).expect("new");
        let second = all.examine(&request, FOUNDED).expect("not forwarded yet");
        all.forward(first).expect("the first");
        assert!(matches!(all.forward(second), Err(ForwardError::Replay)));
        assert!(matches!(
            all.examine(&request, FOUNDED),
            Err(ForwardError::Replay)
        ));
    }

    #[test]
    fn a_doctor_whose_key_is_not_in_force_is_not_forwarded() {
        let mut all = asked();
        let request = all.request(FOUNDED);
        let examined = all.examine(&request, FOUNDED).expect("new");
        let refused = all.queries.forward(examined, &[], &mut rng("forward", 1));
        assert!(matches!(refused, Err(ForwardError::NotInForce)));
        // It was not remembered either: once the key is in force it goes through.
        let examined = all.examine(&request, FOUNDED).expect("not forwarded yet");
        assert!(all.forward(examined).is_ok());
    }

    /// What is learnt of the centre's keys between examining and forwarding counts.
    #[test]
    fn a_certificate_whose_key_was_lost_meanwhile_is_not_forwarded() {
        let mut all = asked();
        let request = all.request(FOUNDED);
        let first = all.examine(&request, FOUNDED).expect("new");
        let second = all.examine(&request, FOUNDED).expect("not forwarded yet");
        let mut learn = |height: u64, before: CentreKeyStanding| {
            let key = |number: u8, seed: u8, begun: u64, standing| CentreKeyAnswer {
                number: CentreKeyNumber::new(number),
                key: SigningKey::from_seed([seed; 32]).verifying_key(),
                begun: Height::new(begun),
                standing,
            };
            let keys = vec![
                key(0, 7, 0, before),
                key(1, 17, 3, CentreKeyStanding::Current),
            ];
            let height = Height::new(height);
            all.queries
                .follow_centre(&AgreedCentreKeys { height, keys });
        };
        learn(9, CentreKeyStanding::Compromised);
        // The nodes' answer of an earlier height changes nothing of it.
        learn(8, CentreKeyStanding::Retired);
        let lost = ForwardError::Request(CertificateError::Compromised.into());
        assert_eq!(all.forward(first).expect_err("lost"), lost);
        let again = all.examine(&request, FOUNDED).map(|_| ());
        assert_eq!(again, Err(lost));
        // Had it only been retired, it would go through.
        all.queries.verification.centre =
            CentreKeys::founding(SigningKey::from_seed([7; 32]).verifying_key());
        assert!(all.forward(second).is_ok());
    }

    #[test]
    fn a_request_from_the_future_is_stale_or_refused() {
        let mut all = asked();
        let at = |ahead: u64| Timestamp::new(FOUNDED.number() + ahead);
        let within = all.request(at(DRIFT_MS));
        assert!(all.examine(&within, FOUNDED).is_ok());
        let ahead = all.request(at(DRIFT_MS + 1));
        assert!(matches!(
            all.examine(&ahead, FOUNDED),
            Err(ForwardError::Stale)
        ));
        // Above the drift that any checker accepts the request itself does not stand.
        let far = all.request(at(REQUEST_DRIFT_MS + 1));
        assert!(matches!(
            all.examine(&far, FOUNDED),
            Err(ForwardError::Request(RequestError::Time))
        ));
        assert!(all.examine(&far, at(REQUEST_DRIFT_MS)).is_ok());
    }

    #[test]
    fn a_full_memory_of_requests_is_busy_until_one_ends() {
        let mut all = asked();
        let request = all.request(FOUNDED);
        let end = Timestamp::new(FOUNDED.number() + 10);
        for number in 0..REMEMBERED_MAX as u64 {
            let digest = scheme::sha256(&number.to_be_bytes());
            all.queries.remembered.insert(digest, end);
        }
        let examined = all.examine(&request, end).expect("new");
        assert!(matches!(all.forward(examined), Err(ForwardError::Busy)));
        let after = Timestamp::new(end.number() + 1);
        let examined = all.examine(&request, after).expect("new");
        assert!(all.forward(examined).is_ok());
    }
}
