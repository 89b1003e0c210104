//! Certificates: what the registration centre says of a user's public keys.
//!
//! A certificate says whose keys these are; whether it is in force is the chain's to say, where the
//! hash of each key stands. Nobody takes a peer's key on the centre's word alone.

use ledger::{CentreKeyStanding, KeyHash, KeyUse, Registrant, UserKey};
use scheme::{
    ConsortiumId, Context, DecodeError, Decoder, DoctorId, Encoder, EncryptionPublicKey,
    HpkePublicKey, InstitutionId, OwnershipPublicKey, SearchPublicKey, Signature, SigningKey,
    Subject, Timestamp, VerifyingKey,
};
use thiserror::Error;

use crate::centre_keys::CentreKeys;

/// The longest certificate, with room: a patient's has 401 bytes, 288 of them three points.
pub const CERTIFICATE_BYTES_MAX: usize = 512;

/// A patient's public keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientPublicKeys {
    /// A.
    pub encryption: EncryptionPublicKey,
    /// X.
    pub search: SearchPublicKey,
    /// O.
    pub ownership: OwnershipPublicKey,
    /// Opens the inbox.
    pub inbox: HpkePublicKey,
}

/// A doctor's id, institution and public keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoctorPublicKeys {
    /// Unique in the consortium, never given again.
    pub id: DoctorId,
    /// Where the doctor works.
    pub institution: InstitutionId,
    /// Signs records and requests.
    pub signing: VerifyingKey,
    /// Opens what patients hand over, and what colleagues say of a team's request.
    pub hpke: HpkePublicKey,
}

/// Whose keys a certificate is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A patient.
    Patient(Box<PatientPublicKeys>),
    /// A doctor.
    Doctor(DoctorPublicKeys),
}

impl Holder {
    /// What the chain calls the holder.
    pub fn registrant(&self) -> Registrant {
        match self {
            Self::Patient(_) => Registrant::Patient,
            Self::Doctor(doctor) => Registrant::Doctor {
                institution: doctor.institution,
                doctor: doctor.id,
            },
        }
    }

    /// SHA-256 of each public key with its use, as they stand on the chain.
    pub fn key_hashes(&self) -> Vec<UserKey> {
        let key = |usage, hash: scheme::Digest| UserKey {
            hash: KeyHash::from(hash),
            usage,
        };
        match self {
            Self::Patient(keys) => vec![
                key(KeyUse::Encryption, keys.encryption.hash()),
                key(KeyUse::Search, keys.search.hash()),
                key(KeyUse::Ownership, keys.ownership.hash()),
                key(KeyUse::Hpke, keys.inbox.hash()),
            ],
            Self::Doctor(doctor) => {
                vec![
                    key(KeyUse::Signature, doctor.signing.hash()),
                    key(KeyUse::Hpke, doctor.hpke.hash()),
                ]
            }
        }
    }

    fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Patient(keys) => {
                out.u8(0)
                    .bytes(keys.encryption.as_bytes())
                    .bytes(keys.search.as_bytes())
                    .bytes(keys.ownership.as_bytes())
                    .bytes(keys.inbox.as_bytes());
            }
            Self::Doctor(doctor) => {
                out.u8(1)
                    .u64(doctor.id.number())
                    .u32(doctor.institution.number())
                    .bytes(doctor.signing.as_bytes())
                    .bytes(doctor.hpke.as_bytes());
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        const WHAT: &str = "the certificate's holder";
        match from.u8(WHAT)? {
            0 => Ok(Self::Patient(Box::new(PatientPublicKeys {
                encryption: EncryptionPublicKey::from_bytes(&from.array(WHAT)?)?,
                search: SearchPublicKey::from_bytes(&from.array(WHAT)?)?,
                ownership: OwnershipPublicKey::from_bytes(&from.array(WHAT)?)?,
                inbox: HpkePublicKey::new(from.array(WHAT)?),
            }))),
            1 => Ok(Self::Doctor(DoctorPublicKeys {
                id: DoctorId::new(from.u64(WHAT)?),
                institution: InstitutionId::new(from.u32(WHAT)?),
                signing: VerifyingKey::new(from.array(WHAT)?),
                hpke: HpkePublicKey::new(from.array(WHAT)?),
            })),
            _ => Err(DecodeError::Invalid {
                what: WHAT,
                why: "it is of an unknown kind",
            }),
        }
    }
}

/// A certificate as decoded (`spec/formats.md`, M1); whether the centre signed it is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    subject: Subject,
    holder: Holder,
    not_after: Timestamp,
    signature: Signature,
}

/// Why a certificate is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The centre did not sign it. Its bearer must enrol.
    #[error("the certificate is not signed by the registration centre")]
    Forged,
    /// A key signed it that the centre has lost to others since. Its bearer must have it renewed.
    #[error(
        "the certificate is signed by a key that was lost to others: renew it at the registration centre"
    )]
    Compromised,
    /// It has ended. Its bearer must renew it.
    #[error("the certificate has expired: renew it at the registration centre")]
    Expired,
}

impl Certificate {
    /// Signs a certificate, at the registration centre.
    pub fn issue(
        consortium: &ConsortiumId,
        centre: &SigningKey,
        subject: Subject,
        holder: Holder,
        not_after: Timestamp,
    ) -> Self {
        let signature = centre.sign(
            Context::Certificate,
            consortium,
            &[&unsigned(subject, &holder, not_after)],
        );
        Self {
            subject,
            holder,
            not_after,
            signature,
        }
    }

    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = unsigned(self.subject, &self.holder, self.not_after);
        out.extend_from_slice(self.signature.as_bytes());
        out
    }

    /// Decodes a certificate.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the certificate";
        if bytes.len() > CERTIFICATE_BYTES_MAX {
            let (found, limit) = (bytes.len() as u64, CERTIFICATE_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge {
                what: WHAT,
                found,
                limit,
            });
        }
        let mut from = Decoder::new(bytes);
        let subject = Subject::new(from.u64(WHAT)?);
        let not_after = Timestamp::new(from.u64(WHAT)?);
        let holder = Holder::decode(&mut from)?;
        let signature = Signature::new(from.array(WHAT)?);
        from.finish(WHAT)?;
        Ok(Self {
            subject,
            holder,
            not_after,
            signature,
        })
    }

    /// Checks the centre's signature, by the key that it has or one that it retired, and the end.
    /// Whether it was revoked since is the chain's to say.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn verify(
        &self,
        consortium: &ConsortiumId,
        centre: &CentreKeys,
        now: Timestamp,
    ) -> Result<&Holder, CertificateError> {
        self.verify_issued(consortium, centre, now)
            .map(|(holder, _)| holder)
    }

    /// The same, with the key that signed it: the certificate stands for as long as that key is
    /// accepted.
    pub(crate) fn verify_issued(
        &self,
        consortium: &ConsortiumId,
        centre: &CentreKeys,
        now: Timestamp,
    ) -> Result<(&Holder, VerifyingKey), CertificateError> {
        let text = unsigned(self.subject, &self.holder, self.not_after);
        let signed = |key: &VerifyingKey| {
            key.verify(Context::Certificate, consortium, &[&text], &self.signature)
                .is_ok()
        };
        let issuer = match centre.find(signed) {
            None => return Err(CertificateError::Forged),
            Some((_, CentreKeyStanding::Compromised)) => return Err(CertificateError::Compromised),
            Some((key, _)) => key,
        };
        if now > self.not_after {
            return Err(CertificateError::Expired);
        }
        Ok((&self.holder, issuer))
    }

    /// The enrolment's number.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// Until when it stands, that moment included; unchecked.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whose keys it is about, unchecked.
    pub fn holder_unverified(&self) -> &Holder {
        &self.holder
    }
}

fn unsigned(subject: Subject, holder: &Holder, not_after: Timestamp) -> Vec<u8> {
    let mut out = Encoder::new();
    out.u64(subject.number()).u64(not_after.number());
    holder.encode(&mut out);
    out.finish()
}
