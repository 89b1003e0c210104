//! What the registration centre decides and signs, without a memory of its own: whoever holds the
//! records of enrolments (in memory here, in a database at the service) asks it.

use core::time::Duration;

use ledger::{CertificateRevocation, NextCentreKey, Registration, Transaction, TransactionId};
use scheme::{
    ConsortiumId, Context, Signature, SigningKey, Subject, Timestamp, VerifyingKey,
    verify_encryption_key, verify_ownership_key, verify_search_key,
};

use crate::certificate::{Certificate, DoctorPublicKeys, Holder};
use crate::registration_centre::{EnrolError, Enrolled, PatientEnrolment, doctor_proof_text};

/// The centre's certification key (MSK) with what its signatures say.
pub struct Certifier {
    consortium: ConsortiumId,
    key: SigningKey,
    validity: Duration,
}

impl Certifier {
    /// Certifies for `validity` under this key.
    pub fn new(consortium: ConsortiumId, key: SigningKey, validity: Duration) -> Self {
        Self {
            consortium,
            key,
            validity,
        }
    }

    /// The key that it signs with.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// Signs its next key with the one that it has.
    pub fn approve_next_key(&self, next: &NextCentreKey) -> Signature {
        next.sign(&self.consortium, &self.key)
    }

    /// Goes on under its next key. What an earlier one signed is signed again where it has to be
    /// ([`Self::reissue`], [`Self::register`], [`Self::revoke`]).
    pub fn follow_key(&mut self, key: SigningKey) {
        self.key = key;
    }

    /// Checks a patient's three proofs of possession (E13).
    ///
    /// # Errors
    /// [`EnrolError::Proof`].
    pub fn check_patient(&self, enrolment: &PatientEnrolment) -> Result<(), EnrolError> {
        let (here, subject, keys) = (&self.consortium, enrolment.subject, &enrolment.keys);
        verify_encryption_key(here, subject, &keys.encryption, &enrolment.encryption_proof)?;
        verify_search_key(here, subject, &keys.search, &enrolment.search_proof)?;
        verify_ownership_key(here, subject, &keys.ownership, &enrolment.ownership_proof)?;
        Ok(())
    }

    /// Checks a doctor's proof: the signing key's signature over the enrolment's number and all that
    /// is to be certified.
    ///
    /// # Errors
    /// [`EnrolError::Proof`].
    pub fn check_doctor(
        &self,
        subject: Subject,
        keys: &DoctorPublicKeys,
        proof: &Signature,
    ) -> Result<(), EnrolError> {
        let text = doctor_proof_text(subject, keys.id, keys.institution, keys);
        keys.signing
            .verify(Context::Certificate, &self.consortium, &[&text], proof)
            .map_err(|_| EnrolError::Proof)
    }

    /// Certifies a patient's keys.
    ///
    /// # Errors
    /// [`EnrolError::Proof`].
    pub fn certify_patient(
        &self,
        enrolment: PatientEnrolment,
        now: Timestamp,
    ) -> Result<Enrolled, EnrolError> {
        self.check_patient(&enrolment)?;
        let holder = Holder::Patient(Box::new(enrolment.keys));
        Ok(self.certify(enrolment.subject, holder, now))
    }

    /// Certifies a doctor's keys. That the id was never given before is for the caller to see to.
    ///
    /// # Errors
    /// [`EnrolError::Proof`].
    pub fn certify_doctor(
        &self,
        subject: Subject,
        keys: DoctorPublicKeys,
        proof: &Signature,
        now: Timestamp,
    ) -> Result<Enrolled, EnrolError> {
        self.check_doctor(subject, &keys, proof)?;
        Ok(self.certify(subject, Holder::Doctor(keys), now))
    }

    /// A certificate of the same keys that stands from now on for the whole validity. The chain holds
    /// the keys' hashes already, and says whether they are in force.
    pub fn renew(&self, subject: Subject, holder: Holder, now: Timestamp) -> Certificate {
        let validity = u64::try_from(self.validity.as_millis()).unwrap_or(u64::MAX);
        let not_after = Timestamp::new(now.number().saturating_add(validity));
        self.issue(subject, holder, not_after)
    }

    /// The same certificate under the key that the centre has now; equal to it if it is that key's.
    pub fn reissue(&self, certificate: &Certificate) -> Certificate {
        let holder = certificate.holder_unverified().clone();
        self.issue(certificate.subject(), holder, certificate.not_after())
    }

    /// The transaction that puts a user's hashes on the chain. It has the same id under each of the
    /// centre's keys.
    pub fn register(&self, holder: &Holder) -> Transaction {
        Transaction::Registration(Registration::sign(
            &self.consortium,
            holder.registrant(),
            holder.key_hashes(),
            &self.key,
        ))
    }

    /// Revokes what a registration put on the chain.
    pub fn revoke(&self, registration: TransactionId) -> Transaction {
        Transaction::CertificateRevocation(CertificateRevocation::sign(
            &self.consortium,
            registration,
            &self.key,
        ))
    }

    fn certify(&self, subject: Subject, holder: Holder, now: Timestamp) -> Enrolled {
        let registration = self.register(&holder);
        Enrolled {
            certificate: self.renew(subject, holder, now),
            registration,
        }
    }

    fn issue(&self, subject: Subject, holder: Holder, not_after: Timestamp) -> Certificate {
        Certificate::issue(&self.consortium, &self.key, subject, holder, not_after)
    }
}
