//! A doctor's request to read (the paper's 3.2.3; interaction 5).
//!
//! One request names a care team: each member has a part of it, with the member's certificate, a
//! one-time access key and a fresh HPKE key that is destroyed when the grants end, and each member
//! signs the whole. It names the patient by an inbox commitment only.

use ledger::{KeyHash, RequestCommitment};
use scheme::{
    ClassCode, ConsortiumId, Context, DecodeError, Decoder, Digest, Encoder, GRANTEES_MAX, Grantee,
    HpkePublicKey, InboxHandle, InstitutionId, REQUEST_BYTES_MAX, Signature, SigningKey, Timestamp,
    VerifyingKey, sha256,
};
use thiserror::Error;

use crate::answer_note::NoteRecipients;
use crate::centre_keys::CentreKeys;
use crate::certificate::{
    CERTIFICATE_BYTES_MAX, Certificate, CertificateError, DoctorPublicKeys, Holder,
};
use crate::patient::TeamMember;

/// The version of the request's layout.
const REQUEST_VERSION: u8 = 1;
/// The longest purpose, in bytes of UTF-8.
pub const PURPOSE_BYTES_MAX: usize = 256;
/// The longest life of a request: 24 hours, in milliseconds.
pub const REQUEST_LIFE_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// How far a request's time can be ahead of the clock of whoever checks it, in milliseconds: a minute.
/// Machines that keep time by NTP differ by less than a second; the rest is for one that lost its
/// time server for a day. It adds a 1,440th to the longest life, and nothing is decided by it alone.
pub const REQUEST_DRIFT_MS: u64 = 60 * 1000;
/// Grants that can answer one request: one per episode. A doctor with 8 access keys takes 514 bytes
/// of a request, certificate and signature included, so 31 of them fit into its 16 KiB; with fewer
/// keys each, all 32 that a grant can name do.
pub const GRANTS_MAX: usize = 8;
/// An Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;
/// Section classes that one request can name.
const CLASSES_MAX: usize = 32;

/// What is asked, of whom, why, until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestTerms {
    /// Where the care team works.
    pub institution: InstitutionId,
    /// SHA-256 over handle and salt of the patient's inbox.
    pub inbox: Digest,
    /// The section classes asked for.
    pub classes: Vec<ClassCode>,
    /// Why, in words for the patient.
    pub purpose: String,
    /// 32 random bytes: no two requests are equal.
    pub nonce: [u8; 32],
    /// When it was made.
    pub time: Timestamp,
    /// Until when it can be granted; at most 24 hours later.
    pub not_after: Timestamp,
}

/// One doctor of the care team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The doctor's certificate.
    pub certificate: Certificate,
    /// One for each grant that can answer the request: signs that grant's access log, and no other
    /// grant names it. As many for each member of the team.
    pub access_keys: Vec<VerifyingKey>,
    /// Opens this grant's sealed part; destroyed when the grant ends.
    pub hpke_key: HpkePublicKey,
}

/// A request that each member of the team signs in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsignedRequest {
    terms: RequestTerms,
    members: Vec<Member>,
}

impl UnsignedRequest {
    /// A request of these doctors.
    ///
    /// # Errors
    /// [`DecodeError`] if a list is empty or too long, the life above 24 hours, or the signed request
    /// longer than [`REQUEST_BYTES_MAX`].
    pub fn new(terms: RequestTerms, members: Vec<Member>) -> Result<Self, DecodeError> {
        terms.check()?;
        check_members(&members)?;
        let request = Self { terms, members };
        check_length(request.encode().len() + SIGNATURE_BYTES * request.members.len())?;
        Ok(request)
    }

    /// A member signs the whole.
    pub fn sign(&self, consortium: &ConsortiumId, key: &SigningKey) -> Signature {
        key.sign(Context::Request, consortium, &[&self.encode()])
    }

    /// Whether this doctor signed the whole.
    ///
    /// # Errors
    /// [`RequestError::Signature`] if not.
    pub(crate) fn check_signature(
        &self,
        consortium: &ConsortiumId,
        doctor: &DoctorPublicKeys,
        signature: &Signature,
    ) -> Result<(), RequestError> {
        doctor
            .signing
            .verify(Context::Request, consortium, &[&self.encode()], signature)
            .map_err(|_| RequestError::Signature)
    }

    /// The request with all its members' signatures, in their order.
    ///
    /// # Errors
    /// [`DecodeError`] if there are not as many signatures as members.
    pub fn complete(self, signatures: Vec<Signature>) -> Result<AccessRequest, DecodeError> {
        if signatures.len() != self.members.len() {
            return Err(DecodeError::Invalid {
                what: "the request's signatures",
                why: "they are not as many as the members of the team",
            });
        }
        Ok(AccessRequest {
            unsigned: self,
            signatures,
        })
    }

    /// What is asked.
    pub fn terms(&self) -> &RequestTerms {
        &self.terms
    }

    /// Each doctor's part, in the order in which they sign.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// What each of its doctors signs.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u8(REQUEST_VERSION);
        self.terms.write(&mut out);
        out.u8(self.members.len() as u8);
        for member in &self.members {
            member.write(&mut out);
        }
        out.finish()
    }

    /// Decodes what [`Self::encode`] gave.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let request = Self::read(&mut from)?;
        from.finish(WHAT)?;
        check_length(bytes.len() + SIGNATURE_BYTES * request.members.len())?;
        Ok(request)
    }

    fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        if from.u8(WHAT)? != REQUEST_VERSION {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "its version is unknown here",
            });
        }
        let terms = RequestTerms::read(from)?;
        let count = from.count_u8("the request's doctors", GRANTEES_MAX)?;
        let members = (0..count)
            .map(|_| Member::read(from))
            .collect::<Result<Vec<_>, DecodeError>>()?;
        check_members(&members)?;
        Ok(Self { terms, members })
    }

    /// Its doctors, each certified for its institution, and the centre's keys that certified them; no key
    /// stands twice.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn doctors(
        &self,
        consortium: &ConsortiumId,
        centre: &CentreKeys,
        now: Timestamp,
    ) -> Result<(Vec<DoctorPublicKeys>, Vec<VerifyingKey>), RequestError> {
        let mut keys = std::collections::BTreeSet::new();
        let mut doctors = Vec::with_capacity(self.members.len());
        let mut issuers = Vec::new();
        for member in &self.members {
            let (holder, issuer) = member.certificate.verify_issued(consortium, centre, now)?;
            let Holder::Doctor(doctor) = holder else {
                return Err(RequestError::NotItsDoctor);
            };
            if !issuers.contains(&issuer) {
                issuers.push(issuer);
            }
            if doctor.institution != self.terms.institution {
                return Err(RequestError::NotItsDoctor);
            }
            let fixed = [
                *doctor.signing.as_bytes(),
                *doctor.hpke.as_bytes(),
                *member.hpke_key.as_bytes(),
            ];
            let access = member.access_keys.iter().map(|key| *key.as_bytes());
            if !fixed.into_iter().chain(access).all(|key| keys.insert(key)) {
                return Err(RequestError::RepeatedKey);
            }
            doctors.push(*doctor);
        }
        Ok((doctors, issuers))
    }
}

impl RequestTerms {
    pub(crate) fn write(&self, out: &mut Encoder) {
        out.u32(self.institution.number())
            .bytes(self.inbox.as_bytes())
            .u8(self.classes.len() as u8);
        for class in &self.classes {
            out.u8(class.code());
        }
        out.var(self.purpose.as_bytes())
            .bytes(&self.nonce)
            .u64(self.time.number())
            .u64(self.not_after.number());
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let institution = InstitutionId::new(from.u32(WHAT)?);
        let inbox = Digest::new(from.array(WHAT)?);
        let count = from.count_u8("the request's classes", CLASSES_MAX)?;
        let classes = from
            .bytes(WHAT, count)?
            .iter()
            .map(|code| ClassCode::new(*code))
            .collect();
        let purpose = std::str::from_utf8(from.var("the request's purpose", PURPOSE_BYTES_MAX)?)
            .map_err(|_| DecodeError::Invalid {
                what: "the request's purpose",
                why: "it is not UTF-8",
            })?
            .to_owned();
        let terms = Self {
            institution,
            inbox,
            classes,
            purpose,
            nonce: from.array(WHAT)?,
            time: Timestamp::new(from.u64(WHAT)?),
            not_after: Timestamp::new(from.u64(WHAT)?),
        };
        terms.check()?;
        Ok(terms)
    }

    /// Whether they are in range.
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        if self.classes.is_empty() || self.classes.len() > CLASSES_MAX {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "it names no section class or too many",
            });
        }
        if !self.classes.is_sorted_by(|one, other| one < other) {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "its section classes do not ascend",
            });
        }
        if self.purpose.len() > PURPOSE_BYTES_MAX || self.purpose.chars().any(char::is_control) {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "its purpose is too long or holds control characters",
            });
        }
        let life = self.not_after.number().checked_sub(self.time.number());
        if life.is_none_or(|life| life > REQUEST_LIFE_MAX_MS) {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "it lasts longer than 24 hours or ends before it begins",
            });
        }
        Ok(())
    }
}

impl Member {
    pub(crate) fn write(&self, out: &mut Encoder) {
        out.var(&self.certificate.encode())
            .bytes(self.hpke_key.as_bytes())
            .u8(self.access_keys.len() as u8);
        for key in &self.access_keys {
            out.bytes(key.as_bytes());
        }
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            certificate: Certificate::decode(from.var("a certificate", CERTIFICATE_BYTES_MAX)?)?,
            hpke_key: HpkePublicKey::new(from.array(WHAT)?),
            access_keys: (0..from.count_u8("the access keys", GRANTS_MAX)?)
                .map(|_| Ok(VerifyingKey::new(from.array(WHAT)?)))
                .collect::<Result<_, DecodeError>>()?,
        })
    }
}

/// A signed request as decoded (`spec/formats.md`, M5); nothing of it is checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRequest {
    unsigned: UnsignedRequest,
    signatures: Vec<Signature>,
}

/// Why a request is refused. It names what the doctor must mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A member's certificate does not stand.
    #[error("the request of a doctor is refused")]
    Certificate(#[from] CertificateError),
    /// A certificate is not a doctor's of the institution that the request names.
    #[error("the request names a doctor who is not certified for its institution")]
    NotItsDoctor,
    /// A member did not sign.
    #[error("the request is not signed by every doctor it names: sign it again")]
    Signature,
    /// It has expired, or its time is ahead of now by more than [`REQUEST_DRIFT_MS`].
    #[error("the request is not valid at this time: check the clock and make a new one")]
    Time,
    /// A key stands twice.
    #[error("the request uses one key twice: make a new one")]
    RepeatedKey,
}

/// A request whose signatures and certificates stand. Whether its doctors' keys are in force is the
/// chain's to say: [`VerifiedRequest::key_hashes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedRequest {
    request: AccessRequest,
    bytes: Vec<u8>,
    doctors: Vec<DoctorPublicKeys>,
    issuers: Vec<VerifyingKey>,
}

impl AccessRequest {
    /// The bytes that travel and that a grant carries.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.unsigned.encode();
        for signature in &self.signatures {
            out.extend_from_slice(signature.as_bytes());
        }
        out
    }

    /// Decodes a request.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        check_length(bytes.len())?;
        let mut from = Decoder::new(bytes);
        let unsigned = UnsignedRequest::read(&mut from)?;
        let signatures = (0..unsigned.members.len())
            .map(|_| Ok(Signature::new(from.array(WHAT)?)))
            .collect::<Result<_, DecodeError>>()?;
        from.finish(WHAT)?;
        Ok(Self {
            unsigned,
            signatures,
        })
    }

    /// What its doctors signed; nothing of it is checked yet.
    pub fn unsigned_unverified(&self) -> &UnsignedRequest {
        &self.unsigned
    }

    /// What is asked; nothing of it is checked yet.
    pub fn terms_unverified(&self) -> &RequestTerms {
        &self.unsigned.terms
    }

    /// Checks certificates, signatures and time.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn verify(
        self,
        consortium: &ConsortiumId,
        centre: &CentreKeys,
        now: Timestamp,
    ) -> Result<VerifiedRequest, RequestError> {
        let terms = &self.unsigned.terms;
        let ahead = terms.time.number().saturating_sub(now.number());
        if now > terms.not_after || ahead > REQUEST_DRIFT_MS {
            return Err(RequestError::Time);
        }
        let (doctors, issuers) = self.unsigned.doctors(consortium, centre, now)?;
        for (doctor, signature) in doctors.iter().zip(&self.signatures) {
            self.unsigned
                .check_signature(consortium, doctor, signature)?;
        }
        let bytes = self.encode();
        Ok(VerifiedRequest {
            request: self,
            bytes,
            doctors,
            issuers,
        })
    }
}

impl AsRef<[u8]> for VerifiedRequest {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl VerifiedRequest {
    /// What is asked.
    pub fn terms(&self) -> &RequestTerms {
        &self.request.unsigned.terms
    }

    /// Who asks.
    pub fn doctors(&self) -> &[DoctorPublicKeys] {
        &self.doctors
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What stands on the chain for it.
    pub fn commitment(&self) -> RequestCommitment {
        RequestCommitment::from(sha256(&self.bytes))
    }

    /// How many grants can answer it.
    pub fn grants_max(&self) -> usize {
        self.request.unsigned.members[0].access_keys.len()
    }

    /// Its doctors, each with the access key that its `place`-th grant names; empty past
    /// [`VerifiedRequest::grants_max`].
    pub fn team(&self, place: usize) -> Vec<TeamMember> {
        let members = &self.request.unsigned.members;
        let of = |(member, doctor): (&Member, &DoctorPublicKeys)| {
            Some(TeamMember {
                doctor: doctor.id,
                institution: doctor.institution,
                access_key: *member.access_keys.get(place)?,
            })
        };
        members.iter().zip(&self.doctors).filter_map(of).collect()
    }

    /// The access and HPKE keys that its `place`-th grant names, by access key ascending. `None`
    /// past [`VerifiedRequest::grants_max`].
    pub fn grantees(&self, place: usize) -> Option<Vec<Grantee>> {
        let members = &self.request.unsigned.members;
        let mut grantees = members
            .iter()
            .map(|member| {
                let access_key = *member.access_keys.get(place)?;
                Some(Grantee {
                    access_key,
                    hpke_key: member.hpke_key,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        grantees.sort_by_key(|grantee| grantee.access_key);
        Some(grantees)
    }

    /// To whom notes about its answer go.
    pub fn note_recipients(&self) -> NoteRecipients {
        let keys = self.request.unsigned.members.iter();
        let keys = keys.map(|member| member.hpke_key);
        let doctors = self.doctors.iter().map(|doctor| doctor.signing);
        NoteRecipients {
            request: self.commitment(),
            doctors: doctors.zip(keys).collect(),
        }
    }

    /// The hashes that must be in force on the chain: each doctor's signing key.
    pub fn key_hashes(&self) -> Vec<KeyHash> {
        self.doctors
            .iter()
            .map(|doctor| KeyHash::of(&doctor.signing))
            .collect()
    }

    /// The centre's keys that signed its doctors' certificates, each once: they stand for as long as all
    /// of these are accepted.
    pub fn issuers(&self) -> &[VerifyingKey] {
        &self.issuers
    }

    /// That its doctors' certificates still stand, once more may be known of the centre's keys than when
    /// it was verified.
    pub(crate) fn still_issued(&self, centre: &CentreKeys) -> Result<(), RequestError> {
        if self.issuers.iter().all(|key| centre.accepts(key)) {
            Ok(())
        } else {
            Err(CertificateError::Compromised.into())
        }
    }

    /// When the first of its doctors' certificates ends; each stands up to and including its end.
    pub fn certificates_end(&self) -> Timestamp {
        let ends = self.request.unsigned.members.iter();
        ends.map(|member| member.certificate.not_after())
            .min()
            .expect("a request names a doctor")
    }

    /// Whether the request is for this inbox.
    pub fn is_for(&self, consortium: &ConsortiumId, handle: &InboxHandle, salt: &[u8; 16]) -> bool {
        handle.commit(consortium, salt) == self.terms().inbox
    }
}

fn check_length(bytes: usize) -> Result<(), DecodeError> {
    if bytes > REQUEST_BYTES_MAX {
        return Err(DecodeError::TooLarge {
            what: "the request's length",
            found: bytes as u64,
            limit: REQUEST_BYTES_MAX as u64,
        });
    }
    Ok(())
}

fn check_members(members: &[Member]) -> Result<(), DecodeError> {
    if members.is_empty() || members.len() > GRANTEES_MAX {
        return Err(DecodeError::Invalid {
            what: WHAT,
            why: "it names no doctor or too many",
        });
    }
    let grants = members[0].access_keys.len();
    if grants == 0
        || grants > GRANTS_MAX
        || members
            .iter()
            .any(|member| member.access_keys.len() != grants)
    {
        return Err(DecodeError::Invalid {
            what: WHAT,
            why: "its doctors do not name equally many access keys, 1 to 8",
        });
    }
    Ok(())
}

/// What a decoder says was cut short or wrong.
const WHAT: &str = "the request";
