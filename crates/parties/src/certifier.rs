//! What the registration centre decides and signs, without a memory of its own: whoever holds the
//! records of enrolments (in memory here, in a database at the service) asks it.

use core::time::Duration;

use ledger::{CertificateRevocation, Registration, Transaction, TransactionId};
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

    /// The key that certificates are checked with.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.key.verifying_key()
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

    /// The same keys until a later end. Their hashes stand on the chain already.
    pub fn renew(&self, certificate: &Certificate, now: Timestamp) -> Certificate {
        let holder = certificate.holder_unverified().clone();
        let not_after = self.end(now).max(certificate.not_after());
        self.issue(certificate.subject(), holder, not_after)
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
        let registration = Transaction::Registration(Registration::sign(
            &self.consortium,
            holder.registrant(),
            holder.key_hashes(),
            &self.key,
        ));
        Enrolled {
            certificate: self.issue(subject, holder, self.end(now)),
            registration,
        }
    }

    fn issue(&self, subject: Subject, holder: Holder, not_after: Timestamp) -> Certificate {
        Certificate::issue(&self.consortium, &self.key, subject, holder, not_after)
    }

    fn end(&self, now: Timestamp) -> Timestamp {
        let validity = u64::try_from(self.validity.as_millis()).unwrap_or(u64::MAX);
        Timestamp::new(now.number().saturating_add(validity))
    }
}
