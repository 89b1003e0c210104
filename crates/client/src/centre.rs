//! The registration centre's interface as its users meet it: wire types, and clients for who enrols
//! and for officers.
//!
//! Who enrols signs under the account key of the service "centre" (E35), a doctor under the signing
//! key that is to be certified. Identity material has no Debug and is wiped on drop.

mod evidence;
mod pickup;

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::BoxStream;
use parties::{Certificate, PatientEnrolment};
use scheme::{
    ConsortiumId, DecodeError, HpkePublicKey, InboxHandle, RootSeed, Signature, SigningKey, Subject,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use self::evidence::CallEvidence;
pub use self::pickup::{BadCode, PickupCode, PickupKeys};
use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::query::Done;
use crate::service::{IdempotencyKey, ServiceClient};
use crate::text::{Base64, Hex};

/// The longest field of identity material, in bytes of UTF-8.
const FIELD_BYTES_MAX: usize = 200;
/// How long a client that waits for a state pauses before it asks again.
const POLL: Duration = Duration::from_millis(500);

/// Who a person is, for the officer's eyes.
#[derive(Clone, Serialize, Deserialize, ToSchema, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Full name as in the document.
    pub name: String,
    /// YYYY-MM-DD.
    #[schema(example = "1951-03-08")]
    pub birth_date: String,
    /// Such as "passport".
    pub document_kind: String,
    /// The document's number.
    pub document_number: String,
}

/// A doctor who enrols.
#[derive(Clone, Serialize, Deserialize, ToSchema, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct DoctorApplicant {
    /// Who.
    pub identity: Identity,
    /// The number of the licence to practise.
    pub licence_number: String,
    /// Where the doctor works.
    pub institution: u32,
}

/// Who enrols.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Applicant {
    /// A patient.
    Patient(Identity),
    /// A doctor.
    Doctor(DoctorApplicant),
}

/// Identity material that no officer could compare with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A field is empty, too long, or holds control characters.
    #[error("{0} must have 1 to 200 bytes and no control characters: enter it as in the document")]
    Field(&'static str),
    /// The date is none.
    #[error("the birth date is no date of the form YYYY-MM-DD: enter it as in the document")]
    BirthDate,
    /// No institution has this number.
    #[error("0 is no institution's number: enter the number of the hospital")]
    Institution,
}

impl Applicant {
    /// Who.
    pub fn identity(&self) -> &Identity {
        match self {
            Self::Patient(identity) => identity,
            Self::Doctor(doctor) => &doctor.identity,
        }
    }

    /// Which kind of certificate it will be.
    pub fn kind(&self) -> ApplicantKind {
        match self {
            Self::Patient(_) => ApplicantKind::Patient,
            Self::Doctor(_) => ApplicantKind::Doctor,
        }
    }

    /// Checks what the centre refuses.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn check(&self) -> Result<(), IdentityError> {
        let identity = self.identity();
        let mut fields = vec![
            ("the name", &identity.name),
            ("the document's kind", &identity.document_kind),
            ("the document's number", &identity.document_number),
        ];
        if let Self::Doctor(doctor) = self {
            fields.push(("the licence number", &doctor.licence_number));
            if doctor.institution == 0 {
                return Err(IdentityError::Institution);
            }
        }
        for (what, text) in fields {
            let length = 1..=FIELD_BYTES_MAX;
            if !length.contains(&text.trim().len()) || text.chars().any(char::is_control) {
                return Err(IdentityError::Field(what));
            }
        }
        if is_date(&identity.birth_date) {
            Ok(())
        } else {
            Err(IdentityError::BirthDate)
        }
    }
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let form = bytes.len() == 10
        && bytes.iter().enumerate().all(|(place, byte)| match place {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u32>().ok();
    let (Some(year), Some(month), Some(day)) = (number(0..4), number(5..7), number(8..10)) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    form && (1850..=2200).contains(&year) && (1..=days).contains(&day)
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ApplicantKind {
    /// A patient.
    Patient,
    /// A doctor.
    Doctor,
}

/// Begins an enrolment.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BeginEnrolment {
    /// Who.
    pub applicant: Applicant,
    /// The subject whose certificate this one is to replace: after theft, or at another hospital.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<u64>,
}

/// The numbers of a new enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BegunEnrolment {
    /// The enrolment's number, which every proof of possession names.
    pub subject: u64,
    /// The doctor's id: unique, never given again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doctor: Option<u64>,
}

/// Public keys with proofs of possession.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum EnrolmentKeys {
    /// A patient's enrolment (`spec/formats.md`, M3).
    Patient(Base64),
    /// A doctor's keys beside the signing key, which signs the call.
    Doctor(DoctorKeys),
}

/// A doctor's HPKE key and the proof (`spec/formats.md`, M2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DoctorKeys {
    /// Opens what patients hand over.
    pub hpke: Hex<32>,
    /// The signing key's signature over number, id, institution and both keys.
    pub proof: Hex<64>,
}

impl EnrolmentKeys {
    /// A patient's.
    pub fn patient(enrolment: &PatientEnrolment) -> Self {
        Self::Patient(Base64(enrolment.encode()))
    }

    /// A doctor's.
    pub fn doctor(hpke: &HpkePublicKey, proof: &Signature) -> Self {
        Self::Doctor(DoctorKeys {
            hpke: Hex(*hpke.as_bytes()),
            proof: Hex(*proof.as_bytes()),
        })
    }
}

/// How far an enrolment is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum EnrolmentState {
    /// The device has to give its keys.
    KeysMissing,
    /// An officer has to decide.
    Waiting,
    /// It is over.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
    /// Approved; the registration is on its way to the chain.
    Approved,
    /// The keys stand on the chain.
    Registered {
        /// The certificate (`spec/formats.md`, M1).
        certificate: Base64,
        /// Until when it stands, in ms since 1970.
        not_after: u64,
        /// Whether a renewal waits for an officer.
        renewal_waits: bool,
    },
    /// The revocation is on its way to the chain.
    Revoking,
    /// Revoked on the chain.
    Revoked,
}

impl EnrolmentState {
    /// Whether nothing but a decision of the owner or an officer changes it any more.
    pub fn is_settled(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::Registered { .. } | Self::Revoked
        )
    }
}

/// An enrolment as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentStatus {
    /// Its number.
    pub subject: u64,
    /// The doctor's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doctor: Option<u64>,
    /// How far it is.
    pub state: EnrolmentState,
}

impl EnrolmentStatus {
    /// The certificate, if it is registered. Its signature is for the caller to verify.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn certificate(&self) -> Result<Option<Certificate>, DecodeError> {
        match &self.state {
            EnrolmentState::Registered { certificate, .. } => {
                Certificate::decode(&certificate.0).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// A call that says all by its path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoDetails {}

/// Why an officer refuses or revokes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// In the officer's words; the owner reads it.
    pub reason: String,
}

/// One line of an officer's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentSummary {
    /// Its number.
    pub subject: u64,
    /// Patient or doctor.
    pub kind: ApplicantKind,
    /// When it was begun, in ms since 1970.
    pub begun: u64,
    /// The doctor's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doctor: Option<u64>,
    /// The doctor's institution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub institution: Option<u32>,
    /// The subject that it replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<u64>,
    /// Whether the centre made the keys.
    pub keys_made_here: bool,
}

/// A page of an officer's list, by number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentPage {
    /// At most as many as were asked for.
    pub enrolments: Vec<EnrolmentSummary>,
    /// `after` of the next page, if there may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// What waits for an officer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OfficersList {
    /// New enrolments.
    #[default]
    Waiting,
    /// Renewals that the policy does not cover.
    Renewals,
}

/// An enrolment as an officer sees it.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentDetail {
    /// As in the list.
    pub summary: EnrolmentSummary,
    /// How far it is.
    pub state: EnrolmentState,
    /// Identity material; none once it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applicant: Option<Applicant>,
    /// Under which key its owner calls.
    pub account: Hex<32>,
    /// What was decided, oldest first.
    pub decisions: Vec<Decision>,
}

/// Who decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "who", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Decider {
    /// An officer.
    Officer {
        /// By configuration at that time.
        name: String,
        /// The officer's key.
        key: Hex<32>,
    },
    /// The certificate's holder, within the policy.
    Holder,
    /// The service, by its configuration.
    Configuration,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Decided {
    /// The enrolment is approved.
    Approved,
    /// The enrolment is refused.
    Refused,
    /// The certificate has a later end.
    Renewed,
    /// It has not.
    RenewalRefused,
    /// The certificate is revoked.
    Revoked,
    /// The centre made the keys.
    KeysMade,
}

/// One decision as it stays recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// What.
    pub decided: Decided,
    /// By whom.
    pub by: Decider,
    /// When, in ms since 1970.
    pub time: u64,
    /// Why, if a reason was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The signed call; none where the configuration decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<CallEvidence>,
}

/// A transaction on its way to the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Outgoing {
    /// Whose.
    pub subject: u64,
    /// Whether it revokes; otherwise it registers.
    pub revokes: bool,
    /// How often it was handed to the chain.
    pub attempts: u64,
    /// Why it is not final yet, by the last attempt.
    pub last_error: String,
}

/// Transactions on their way, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Outbox {
    /// At most 100.
    pub outgoing: Vec<Outgoing>,
}

/// A pick-up code, given to the officer once.
#[derive(Clone, Serialize, Deserialize, ToSchema, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct MadeKeys {
    /// 16 characters in four groups.
    #[schema(example = "0123-4567-89AB-CDEF")]
    pub code: String,
}

/// Asks for a sealed seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pickup {
    /// The enrolment's number.
    pub subject: u64,
    /// Follows from the code ([`PickupKeys`]).
    pub proof: Hex<32>,
}

/// A seed that the centre made, sealed under its code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SealedSeed {
    /// Opened by [`PickupKeys::open`].
    pub sealed: Base64,
}

/// The code of a patient who wants to be found by a document: the inbox's handle and salt.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InboxCode {
    /// Names the inbox.
    pub handle: Hex<16>,
    /// Goes into a request's inbox commitment.
    pub salt: Hex<16>,
}

impl InboxCode {
    /// Of an inbox's handle and salt.
    pub fn of((handle, salt): (InboxHandle, [u8; 16])) -> Self {
        Self {
            handle: Hex(*handle.as_bytes()),
            salt: Hex(salt),
        }
    }

    /// The handle and the salt.
    pub fn inbox(&self) -> (InboxHandle, [u8; 16]) {
        (InboxHandle::new(self.handle.0), self.salt.0)
    }
}

/// Looks for the patient of a document, by a doctor whom the patient could not give a code.
#[derive(Clone, Serialize, Deserialize, ToSchema, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct FindPatient {
    /// YYYY-MM-DD.
    #[schema(example = "1951-03-08")]
    pub birth_date: String,
    /// Such as "passport".
    pub document_kind: String,
    /// The document's number.
    pub document_number: String,
    /// Why, for the patient to read; at most 200 characters.
    pub purpose: String,
}

/// That a doctor looked for a patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The doctor's id.
    pub doctor: u64,
    /// Where the doctor works.
    pub institution: u32,
    /// When, in ms since 1970.
    pub time: u64,
    /// Why, in the doctor's words.
    pub purpose: String,
}

/// Whether a patient can be found by a document, and who did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Findable {
    /// Whether.
    pub findable: bool,
    /// The last 100 times, the latest first.
    pub findings: Vec<Finding>,
}

/// A patient's encrypted directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EncryptedDirectory {
    /// 1 for the first, one more than what stands for each later one.
    pub version: u64,
    /// At most 1 MiB.
    pub encrypted: Base64,
}

/// The version that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectoryVersion {
    /// The one that was written.
    pub version: u64,
}

/// Calls of who enrols.
#[derive(Clone)]
pub struct CentreClient {
    consortium: ConsortiumId,
    service: ServiceClient,
}

impl CentreClient {
    /// Calls under this account key.
    pub fn new(consortium: ConsortiumId, endpoint: Endpoint, account: SigningKey) -> Self {
        Self {
            consortium,
            service: ServiceClient::new(consortium, endpoint).signing(account),
        }
    }

    /// Without keys, to pick up those that the centre made.
    pub fn without_keys(consortium: ConsortiumId, endpoint: Endpoint) -> Self {
        Self {
            consortium,
            service: ServiceClient::new(consortium, endpoint),
        }
    }

    /// Begins an enrolment.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn begin(
        &self,
        begin: &BeginEnrolment,
        key: &IdempotencyKey,
    ) -> Result<BegunEnrolment, ClientError> {
        self.service.post("/v1/enrolments", begin, key).await
    }

    /// Gives the public keys with their proofs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn give_keys(
        &self,
        subject: Subject,
        keys: &EnrolmentKeys,
        key: &IdempotencyKey,
    ) -> Result<EnrolmentStatus, ClientError> {
        let target = format!("/v1/enrolments/{}/keys", subject.number());
        self.service.put(&target, keys, key).await
    }

    /// How far it is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn enrolment(&self, subject: Subject) -> Result<EnrolmentStatus, ClientError> {
        let target = format!("/v1/enrolments/{}", subject.number());
        self.service.get(&target).await
    }

    /// Its states as they come, the present one first; the stream ends now and then.
    ///
    /// # Errors
    /// [`ClientError`], also within the stream.
    pub async fn events(
        &self,
        subject: Subject,
    ) -> Result<BoxStream<'static, Result<EnrolmentStatus, ClientError>>, ClientError> {
        let target = format!("/v1/enrolments/{}/events", subject.number());
        let events = self.service.events(&target).await?;
        Ok(events
            .map(|event| {
                serde_json::from_str(&event?.data).map_err(|_| {
                    ClientError::Malformed(DecodeError::Invalid {
                        what: "the centre's event",
                        why: "it is no enrolment's state",
                    })
                })
            })
            .boxed())
    }

    /// Waits until the enrolment is settled, by its events or, where they break off, by asking again;
    /// gives the last state when the bound has passed.
    ///
    /// # Errors
    /// [`ClientError`] that is not passing.
    pub async fn settled(
        &self,
        subject: Subject,
        bound: Duration,
    ) -> Result<EnrolmentStatus, ClientError> {
        let end = Instant::now() + bound;
        loop {
            let status = self.enrolment(subject).await?;
            let left = end.saturating_duration_since(Instant::now());
            if status.state.is_settled() || left.is_zero() {
                return Ok(status);
            }
            let followed = async {
                let Ok(mut events) = self.events(subject).await else {
                    return;
                };
                while let Some(Ok(status)) = events.next().await {
                    if status.state.is_settled() {
                        return;
                    }
                }
            };
            // Whatever ended it, what counts is what the next call says.
            let _ = tokio::time::timeout(left, followed).await;
            tokio::time::sleep(POLL.min(left)).await;
        }
    }

    /// Asks for a certificate with the same keys and a later end.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn renew(
        &self,
        subject: Subject,
        key: &IdempotencyKey,
    ) -> Result<EnrolmentStatus, ClientError> {
        let target = format!("/v1/enrolments/{}/renewal", subject.number());
        self.service.post(&target, &NoDetails {}, key).await
    }

    /// Keeps the encrypted directory.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with 409 if another device wrote meanwhile.
    pub async fn keep_directory(
        &self,
        directory: &EncryptedDirectory,
        key: &IdempotencyKey,
    ) -> Result<DirectoryVersion, ClientError> {
        self.service.put("/v1/directories", directory, key).await
    }

    /// The encrypted directory.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with 404 if there is none.
    pub async fn directory(&self) -> Result<EncryptedDirectory, ClientError> {
        self.service.get("/v1/directories").await
    }

    /// Lets doctors who have this patient's document find this inbox.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn be_findable(&self, inbox: (InboxHandle, [u8; 16])) -> Result<(), ClientError> {
        let code = InboxCode::of(inbox);
        let key = IdempotencyKey::random();
        let Done {} = self.service.put("/v1/findable", &code, &key).await?;
        Ok(())
    }

    /// Lets nobody find this patient any more.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn be_hidden(&self) -> Result<(), ClientError> {
        let key = IdempotencyKey::random();
        let Done {} = self.service.delete("/v1/findable", &key).await?;
        Ok(())
    }

    /// Whether this patient can be found, and who did.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn findable(&self) -> Result<Findable, ClientError> {
        self.service.get("/v1/findable").await
    }

    /// The inbox of the patient of a document.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with 404 if there is none who lets doctors find them.
    pub async fn find(
        &self,
        patient: &FindPatient,
    ) -> Result<(InboxHandle, [u8; 16]), ClientError> {
        let key = IdempotencyKey::random();
        let found: InboxCode = self.service.post("/v1/findings", patient, &key).await?;
        Ok(found.inbox())
    }

    /// Picks up the seed that the centre made, once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pick_up(
        &self,
        subject: Subject,
        code: PickupCode,
    ) -> Result<RootSeed, ClientError> {
        let consortium = self.consortium;
        let keys = tokio::task::spawn_blocking(move || code.derive(&consortium, subject))
            .await
            .map_err(|error| ClientError::Source(std::io::Error::other(error)))?;
        let pickup = Pickup {
            subject: subject.number(),
            proof: Hex(*keys.proof()),
        };
        let key = IdempotencyKey::random();
        let sealed: SealedSeed = self.service.post("/v1/pickups", &pickup, &key).await?;
        Ok(keys.open(&sealed.sealed.0)?)
    }
}

/// Calls of an officer.
#[derive(Clone)]
pub struct OfficerClient {
    service: ServiceClient,
}

impl OfficerClient {
    /// Calls under the officer's key.
    pub fn new(consortium: ConsortiumId, endpoint: Endpoint, officer: SigningKey) -> Self {
        Self {
            service: ServiceClient::new(consortium, endpoint).signing(officer),
        }
    }

    /// What waits, from the number after `after` on; at most 100.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn enrolments(
        &self,
        list: OfficersList,
        after: u64,
        limit: u32,
    ) -> Result<EnrolmentPage, ClientError> {
        let list = match list {
            OfficersList::Waiting => "waiting",
            OfficersList::Renewals => "renewals",
        };
        let target = format!("/v1/officer/enrolments?list={list}&after={after}&limit={limit}");
        self.service.get(&target).await
    }

    /// One enrolment with its identity material and decisions.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn enrolment(&self, subject: Subject) -> Result<EnrolmentDetail, ClientError> {
        let target = format!("/v1/officer/enrolments/{}", subject.number());
        self.service.get(&target).await
    }

    /// Approves an enrolment or a renewal that waits.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn approve(
        &self,
        subject: Subject,
        key: &IdempotencyKey,
    ) -> Result<EnrolmentStatus, ClientError> {
        let target = format!("/v1/officer/enrolments/{}/approve", subject.number());
        self.service.post(&target, &NoDetails {}, key).await
    }

    /// Refuses an enrolment or a renewal that waits.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn refuse(
        &self,
        subject: Subject,
        reason: &Reason,
        key: &IdempotencyKey,
    ) -> Result<EnrolmentStatus, ClientError> {
        let target = format!("/v1/officer/enrolments/{}/refuse", subject.number());
        self.service.post(&target, reason, key).await
    }

    /// Revokes a certificate.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke(
        &self,
        subject: Subject,
        reason: &Reason,
        key: &IdempotencyKey,
    ) -> Result<EnrolmentStatus, ClientError> {
        let target = format!("/v1/officer/subjects/{}/revoke", subject.number());
        self.service.post(&target, reason, key).await
    }

    /// Makes the keys of a patient without a device; gives the pick-up code, once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn make_keys(
        &self,
        subject: Subject,
        key: &IdempotencyKey,
    ) -> Result<MadeKeys, ClientError> {
        let target = format!("/v1/officer/enrolments/{}/make-keys", subject.number());
        self.service.post(&target, &NoDetails {}, key).await
    }

    /// Transactions that are not final yet.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn outbox(&self) -> Result<Outbox, ClientError> {
        self.service.get("/v1/officer/outbox").await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patient(birth_date: &str) -> Applicant {
        Applicant::Patient(Identity {
            name: "Ada Byron".into(),
            birth_date: birth_date.into(),
            document_kind: "passport".into(),
            document_number: "X 123".into(),
        })
    }

    #[test]
    fn only_dates_are_birth_dates() {
        for date in ["1951-03-08", "2000-02-29", "1999-12-31"] {
            assert_eq!(patient(date).check(), Ok(()), "{date}");
        }
        for date in [
            "",
            "1951-3-8",
            "1900-02-29",
            "1951-13-01",
            "1951-04-31",
            "1951-00-10",
            "08.03.1951",
            "1951-03-0\u{661}",
            "+951-03-08",
        ] {
            assert_eq!(
                patient(date).check(),
                Err(IdentityError::BirthDate),
                "{date}"
            );
        }
    }

    #[test]
    fn a_field_that_no_document_has_is_named() {
        let Applicant::Patient(mut identity) = patient("1951-03-08") else {
            unreachable!()
        };
        for name in ["", "  ", "a\nb", &"x".repeat(201)] {
            name.clone_into(&mut identity.name);
            let refused = Applicant::Patient(identity.clone()).check();
            assert_eq!(refused, Err(IdentityError::Field("the name")));
        }
    }
}
