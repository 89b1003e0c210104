//! The registration centre (the paper's 3.1 (1) and 3.2.1; interactions 1 and 2).
//!
//! - Holds: MSK, its certification key, which changes by the institutions' approval; which subject
//!   was certified with which keys; patients' encrypted directories.
//! - Sees: public keys, proofs of possession, an officer's approval.
//! - Does: certifies keys that were made on their owner's device, and gives SHA-256 of each to the
//!   chain.
//! - Must not learn: any private key, SK_aes, a pseudonym, a record.
//! - Trusts: its officer. It can certify a false doctor; the registration on the chain shows it.

use std::collections::BTreeMap;

use ledger::{NextCentreKey, Transaction, TransactionId};
use scheme::{
    BadProof, BlsSignature, ConsortiumId, DecodeError, Decoder, DoctorId, Encoder,
    EncryptionPublicKey, HpkePublicKey, InstitutionId, OwnershipPublicKey, SearchPublicKey,
    Signature, SigningKey, Subject, Timestamp, VerifyingKey,
};
use thiserror::Error;

use crate::certificate::{Certificate, DoctorPublicKeys, Holder, PatientPublicKeys};
use crate::certifier::Certifier;

/// The largest encrypted directory of a patient: some 8,000 episodes and grants of 128 bytes.
pub const DIRECTORY_BYTES_MAX: usize = 1 << 20;

/// What a patient's device sends to be certified (`spec/formats.md`, M3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientEnrolment {
    /// The enrolment's number, given by the centre before.
    pub subject: Subject,
    /// The public keys.
    pub keys: PatientPublicKeys,
    /// H1_POP-A(subject, A)^a.
    pub encryption_proof: BlsSignature,
    /// H1_POP-X(subject, X)^x.
    pub search_proof: BlsSignature,
    /// H1_POP-O(subject, O)^o.
    pub ownership_proof: BlsSignature,
}

impl PatientEnrolment {
    /// Bytes of the encoding: number 8, A, X, O 96 each, inbox key 32, three proofs of 48.
    pub const BYTES: usize = 8 + 3 * 96 + 32 + 3 * 48;

    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        Encoder::new()
            .u64(self.subject.number())
            .bytes(self.keys.encryption.as_bytes())
            .bytes(self.keys.search.as_bytes())
            .bytes(self.keys.ownership.as_bytes())
            .bytes(self.keys.inbox.as_bytes())
            .bytes(self.encryption_proof.as_bytes())
            .bytes(self.search_proof.as_bytes())
            .bytes(self.ownership_proof.as_bytes())
            .finish()
    }

    /// Decodes an enrolment; its proofs are still to be checked.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the enrolment";
        let mut from = Decoder::new(bytes);
        let enrolment = Self {
            subject: Subject::new(from.u64(WHAT)?),
            keys: PatientPublicKeys {
                encryption: EncryptionPublicKey::from_bytes(&from.array(WHAT)?)?,
                search: SearchPublicKey::from_bytes(&from.array(WHAT)?)?,
                ownership: OwnershipPublicKey::from_bytes(&from.array(WHAT)?)?,
                inbox: HpkePublicKey::new(from.array(WHAT)?),
            },
            encryption_proof: BlsSignature::from_bytes(&from.array(WHAT)?)?,
            search_proof: BlsSignature::from_bytes(&from.array(WHAT)?)?,
            ownership_proof: BlsSignature::from_bytes(&from.array(WHAT)?)?,
        };
        from.finish(WHAT)?;
        Ok(enrolment)
    }
}

/// Why an enrolment is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnrolError {
    /// A proof of possession does not stand. The device must make it again for this enrolment.
    #[error(
        "a proof of possession does not stand: enrol again from the device that holds the keys"
    )]
    Proof,
    /// The number was never given or has been used.
    #[error("this enrolment's number is unknown or was used: begin a new enrolment")]
    Subject,
    /// A doctor's id was given before, and ids are never given again.
    #[error("this doctor's id was given before: take another")]
    DoctorId,
    /// The directory is larger than its bound.
    #[error("the directory is larger than 1 MiB")]
    DirectorySize,
}

impl From<BadProof> for EnrolError {
    fn from(_: BadProof) -> Self {
        Self::Proof
    }
}

/// A certificate and the transaction that puts its hashes on the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// For the user.
    pub certificate: Certificate,
    /// For the chain.
    pub registration: Transaction,
}

/// What was certified of a user.
struct Certified {
    holder: Holder,
    registration: TransactionId,
}

/// The registration centre with its records in memory.
pub struct RegistrationCentre {
    consortium: ConsortiumId,
    certifier: Certifier,
    next_subject: u64,
    /// Subjects that were given out and not certified yet.
    open: std::collections::BTreeSet<Subject>,
    certified: BTreeMap<Subject, Certified>,
    doctors: std::collections::BTreeSet<DoctorId>,
    directories: BTreeMap<Subject, Vec<u8>>,
}

impl RegistrationCentre {
    /// A centre whose certificates are valid for `validity`.
    pub fn new(consortium: ConsortiumId, key: SigningKey, validity: core::time::Duration) -> Self {
        Self {
            consortium,
            certifier: Certifier::new(consortium, key, validity),
            next_subject: 1,
            open: Default::default(),
            certified: BTreeMap::new(),
            doctors: Default::default(),
            directories: BTreeMap::new(),
        }
    }

    /// The key that it signs with.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.certifier.verifying_key()
    }

    /// Signs its next key with the one that it has. f + 1 institutions must approve besides; where this
    /// key is lost, n - f institutions do without it.
    pub fn approve_next_key(&self, next: &NextCentreKey) -> Signature {
        self.certifier.approve_next_key(next)
    }

    /// Goes on under its next key, once the chain says that it is the current one. Certificates under
    /// the key before stand, unless it was lost to others: then each user's is renewed
    /// ([`Self::renew`]). A registration or revocation that was not final by then is signed again
    /// ([`Self::registration`], [`Self::revoke`]).
    pub fn follow_key(&mut self, key: SigningKey) {
        self.certifier.follow_key(key);
    }

    /// A new certificate of the same keys, under the key that the centre has now: the old one nears its
    /// end, or is signed by a key that was lost to others. The chain holds the keys' hashes already,
    /// and says whether they are in force.
    ///
    /// # Errors
    /// [`EnrolError::Subject`] if the subject was never certified.
    pub fn renew(&self, subject: Subject, now: Timestamp) -> Result<Certificate, EnrolError> {
        let holder = self.certified(subject)?.holder.clone();
        Ok(self.certifier.renew(subject, holder, now))
    }

    /// The transaction that puts a user's hashes on the chain, signed with the key that the centre has
    /// now. It has the same id under each.
    ///
    /// # Errors
    /// [`EnrolError::Subject`] if the subject was never certified.
    pub fn registration(&self, subject: Subject) -> Result<Transaction, EnrolError> {
        Ok(self.certifier.register(&self.certified(subject)?.holder))
    }

    /// Gives an enrolment its number; the officer checks the identity material under it.
    pub fn begin_enrolment(&mut self) -> Subject {
        let subject = Subject::new(self.next_subject);
        self.next_subject += 1;
        self.open.insert(subject);
        subject
    }

    /// Certifies a patient's keys once the officer has approved.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn certify_patient(
        &mut self,
        enrolment: PatientEnrolment,
        now: Timestamp,
    ) -> Result<Enrolled, EnrolError> {
        let subject = enrolment.subject;
        if !self.open.contains(&subject) {
            return Err(EnrolError::Subject);
        }
        let enrolled = self.certifier.certify_patient(enrolment, now)?;
        Ok(self.enter(subject, enrolled))
    }

    /// Certifies a doctor's keys once the officer has approved. A doctor proves possession by
    /// signing the enrolment's number.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn certify_doctor(
        &mut self,
        subject: Subject,
        keys: DoctorPublicKeys,
        proof: &Signature,
        now: Timestamp,
    ) -> Result<Enrolled, EnrolError> {
        if !self.open.contains(&subject) {
            return Err(EnrolError::Subject);
        }
        let enrolled = self.certifier.certify_doctor(subject, keys, proof, now)?;
        if !self.doctors.insert(keys.id) {
            return Err(EnrolError::DoctorId);
        }
        Ok(self.enter(subject, enrolled))
    }

    /// Revokes a user's certificate: a stolen device, a doctor who left.
    ///
    /// # Errors
    /// [`EnrolError::Subject`] if the subject was never certified.
    pub fn revoke(&self, subject: Subject) -> Result<Transaction, EnrolError> {
        let registration = self.certified(subject)?.registration;
        Ok(self.certifier.revoke(registration))
    }

    /// Keeps a patient's encrypted directory; the last one wins.
    ///
    /// # Errors
    /// [`EnrolError`] if the subject is unknown or the directory too large.
    pub fn keep_directory(
        &mut self,
        subject: Subject,
        encrypted: Vec<u8>,
    ) -> Result<(), EnrolError> {
        if encrypted.len() > DIRECTORY_BYTES_MAX {
            return Err(EnrolError::DirectorySize);
        }
        if !self.certified.contains_key(&subject) {
            return Err(EnrolError::Subject);
        }
        self.directories.insert(subject, encrypted);
        Ok(())
    }

    /// A patient's encrypted directory.
    pub fn directory(&self, subject: Subject) -> Option<&[u8]> {
        self.directories.get(&subject).map(Vec::as_slice)
    }

    fn enter(&mut self, subject: Subject, enrolled: Enrolled) -> Enrolled {
        self.open.remove(&subject);
        let certified = Certified {
            holder: enrolled.certificate.holder_unverified().clone(),
            registration: enrolled.registration.id(&self.consortium),
        };
        self.certified.insert(subject, certified);
        enrolled
    }

    fn certified(&self, subject: Subject) -> Result<&Certified, EnrolError> {
        self.certified.get(&subject).ok_or(EnrolError::Subject)
    }
}

/// What a doctor signs to prove possession of the signing key, under the certificate context
/// (`spec/formats.md`, M2).
pub(crate) fn doctor_proof_text(
    subject: Subject,
    id: DoctorId,
    institution: InstitutionId,
    keys: &DoctorPublicKeys,
) -> Vec<u8> {
    scheme::enc(&[
        b"doctor",
        &subject.number().to_be_bytes(),
        &id.number().to_be_bytes(),
        &u64::from(institution.number()).to_be_bytes(),
        keys.signing.as_bytes(),
        keys.hpke.as_bytes(),
    ])
}
