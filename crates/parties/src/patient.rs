//! The patient (the paper's 3.1 (3); interactions 2, 6, 7 and 11): a device with the root seed.
//!
//! - Holds: the seed and all keys from it; which episodes and grants there are (the directory); per
//!   grant its single-use revocation key.
//! - Sees: requests, receipts, everything of their own records.
//! - Does: gives each doctor a subkey and never SK_aes; grants, with one grant per episode; revokes;
//!   checks the doctors' receipts; reads their own access log.
//! - Must not learn: y, other patients' data.
//! - Trusts: its own device. Takes no doctor's key on the centre's or query manager's word alone.

use std::collections::BTreeSet;

use ledger::{RecordTransaction, Revocation, Transaction, TransactionId, Withdrawal};
use rand_core::CryptoRng;
use scheme::{
    Address, Appointment, AppointmentId, AppointmentTerms, CannotOpen, ClassCode, ClassLabelKey,
    ConditionKey, ConsortiumId, DecodeError, Decoder, Degenerate, DirectoryKey, Encoder,
    EpisodeNumber, EpisodeSigningKey, GrantError, GrantId, GrantNode, GrantedClass, Grantee,
    Granter, Header, HpkePublicKey, InboxHandle, KeyVersion, Keyword, LocatorBinding, LogKey,
    PatientKeys, Pid, Purpose, Reach, RootSeed, SectionSecret, SigningKey, StatementError, Subject,
    Threshold, Timestamp, Trapdoor, Uid, UnusableKey, ValidatorEpoch, VerifyingKey, Writer,
    WriterEpoch, WriterEpochPublicKey, WriterTrapdoor,
};
use thiserror::Error;

use crate::agent_act::AgentAct;
use crate::answer_note::{AnswerNote, NotSealed, NoteRecipients, SealedNote};
use crate::centre_keys::CentreKeys;
use crate::certificate::{
    CERTIFICATE_BYTES_MAX, Certificate, CertificateError, DoctorPublicKeys, Holder,
    PatientPublicKeys,
};
use crate::consortium_chain::{AgreedCentreKeys, AgreedKey, AgreedWriterEpochs, GrantPackage};
use crate::family_agent::{APPOINTMENT_VERSION, AgentOffer};
use crate::granting::{NoNodes, PackageParts, ServingNodes, package};
use crate::inbox::{Inbox, NotAsked};
use crate::medical_institution::StoredReceipt;
use crate::own_search::OwnSearch;
use crate::query_manager::{ForwardError, all_in_force};
use crate::registration_centre::PatientEnrolment;
use crate::request::{PURPOSE_BYTES_MAX, RequestError, VerifiedRequest};

/// Parts of a directory.
const EPISODES_MAX: usize = 16_384;
const GRANTS_KEPT_MAX: usize = 16_384;
/// Of one episode: a record an hour for seven years, as a search walks.
const RECEIPTS_MAX: usize = 65_536;
const DIRECTORY_VERSION: u8 = 4;
/// Grants do not say what they answer, nor appointments what they cover.
const DIRECTORY_WITHOUT_ANSWERS: u8 = 1;
/// No grant is an agent's.
const DIRECTORY_WITHOUT_ACTS: u8 = 2;
/// No keys before the present ones.
const DIRECTORY_WITHOUT_FORMER_KEYS: u8 = 3;

/// How often a patient can go on under new keys.
pub const FORMER_KEYS_MAX: usize = 16;

/// Consecutive empty episode numbers after which a scan for a doctor's episodes ends.
pub const EPISODE_SCAN_GAP: u64 = 8;

/// One episode as the patient's directory holds it.
#[derive(Clone)]
pub struct Episode {
    /// Where.
    pub institution: scheme::InstitutionId,
    /// With which doctor.
    pub doctor: scheme::DoctorId,
    /// The hospital's UID.
    pub uid: Uid,
    /// n.
    pub number: EpisodeNumber,
    /// Its pseudonym.
    pub pid: Pid,
    /// The receipts of its records.
    pub receipts: Vec<StoredReceipt>,
    /// The writer epochs that the records of these receipts stand in.
    pub epochs: BTreeSet<WriterEpoch>,
    /// Under which of the patient's keys it began: as many others came before.
    generation: usize,
}

/// Keys that a patient had before: what began under them stays theirs.
struct FormerKeys {
    /// Kept, so that the words of the present seed bring all of them back.
    seed: RootSeed,
    keys: PatientKeys,
    handle: InboxHandle,
}

/// Which of the directory's episodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpisodePlace(usize);

/// A receipt that fits its record, but for the patient's own search, which is still to be run.
pub struct ReceiptCheck {
    place: EpisodePlace,
    receipt: StoredReceipt,
    writer: Writer,
    search: OwnSearch,
}

impl ReceiptCheck {
    /// The search by the patient's own trapdoors, for any record and for each expected keyword.
    pub fn search(&mut self) -> &mut OwnSearch {
        &mut self.search
    }
}

/// A grant as the patient's directory holds it.
pub struct GivenGrant {
    /// gid.
    pub gid: GrantId,
    /// Of which episode.
    pub episode: EpisodePlace,
    /// Reads the access log.
    pub log_key: LogKey,
    /// Until when.
    pub expiry: Timestamp,
    /// Who hears of its revocation.
    pub recipients: NoteRecipients,
    /// What it answers; none of a grant that an earlier release gave.
    pub answers: Option<Answered>,
    /// The appointment under which an agent gave it; none of the patient's own.
    pub by: Option<AppointmentId>,
    revocation: SigningKey,
}

/// What an agent's device told of a grant, as far as it can be checked without the chain.
pub struct OpenedAct(GivenGrant);

impl OpenedAct {
    /// The grant, to be looked up on the chain.
    pub fn gid(&self) -> GrantId {
        self.0.gid
    }

    /// Until when, as the agent says.
    pub fn expiry(&self) -> Timestamp {
        self.0.expiry
    }
}

/// What a grant answers, so that its owner can be told in words what was given to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// From when the grant opens.
    pub not_before: Timestamp,
    /// Why it was asked for, in the doctors' words.
    pub purpose: String,
    /// The section classes that it opens.
    pub classes: Vec<ClassCode>,
    /// Each doctor of the team, with the key that signs what the doctor reads under this grant.
    pub team: Vec<TeamMember>,
}

/// A doctor whom a grant names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TeamMember {
    /// The doctor.
    pub doctor: scheme::DoctorId,
    /// Where the doctor works.
    pub institution: scheme::InstitutionId,
    /// Signs the doctor's accesses under this grant and no other.
    pub access_key: VerifyingKey,
}

/// An appointment as the patient's directory holds it.
pub struct GivenAppointment {
    /// Names it on the chain.
    pub id: AppointmentId,
    /// Of which episode, the classes in scope, and when it ends; none of an appointment that an earlier
    /// release made.
    pub terms: Option<(EpisodePlace, Vec<ClassCode>, Timestamp)>,
    /// Whether its withdrawal is final.
    pub withdrawn: bool,
    key: SigningKey,
}

impl GivenAppointment {
    fn length(&self) -> usize {
        let terms = |(_, scope, _): &(_, Vec<_>, _)| 4 + 1 + scope.len() + 8;
        32 + 1 + 1 + self.terms.as_ref().map_or(0, terms)
    }

    fn write(&self, out: &mut Encoder) {
        out.bytes(self.key.expose_seed())
            .u8(u8::from(self.withdrawn))
            .u8(u8::from(self.terms.is_some()));
        if let Some((episode, scope, end)) = &self.terms {
            out.u32(episode.0 as u32).u8(scope.len() as u8);
            for class in scope {
                out.u8(class.code());
            }
            out.u64(end.number());
        }
    }

    fn read(
        consortium: &ConsortiumId,
        written: u8,
        from: &mut Decoder<'_>,
    ) -> Result<Self, DecodeError> {
        const WHAT: &str = "an appointment of the directory";
        let key = SigningKey::from_seed(from.array(WHAT)?);
        let id = AppointmentId::of(consortium, &key.verifying_key());
        let mut read = Self {
            id,
            terms: None,
            withdrawn: false,
            key,
        };
        if written == DIRECTORY_WITHOUT_ANSWERS {
            return Ok(read);
        }
        read.withdrawn = from.u8(WHAT)? != 0;
        if from.u8(WHAT)? != 0 {
            let episode = EpisodePlace(from.u32(WHAT)? as usize);
            let count = usize::from(from.u8(WHAT)?);
            let scope = from.bytes(WHAT, count)?;
            let scope = scope.iter().map(|code| ClassCode::new(*code)).collect();
            read.terms = Some((episode, scope, Timestamp::new(from.u64(WHAT)?)));
        }
        Ok(read)
    }
}

impl Answered {
    pub(crate) fn length(&self) -> usize {
        8 + 4 + self.purpose.len() + 1 + self.classes.len() + 1 + 44 * self.team.len()
    }

    pub(crate) fn write(&self, out: &mut Encoder) {
        out.u64(self.not_before.number())
            .var(self.purpose.as_bytes())
            .u8(self.classes.len() as u8);
        for class in &self.classes {
            out.u8(class.code());
        }
        out.u8(self.team.len() as u8);
        for member in &self.team {
            out.u64(member.doctor.number())
                .u32(member.institution.number())
                .bytes(member.access_key.as_bytes());
        }
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        const WHAT: &str = "what a grant answers";
        let not_before = Timestamp::new(from.u64(WHAT)?);
        let purpose = std::str::from_utf8(from.var(WHAT, PURPOSE_BYTES_MAX)?);
        let purpose = purpose.map_err(|_| DecodeError::Invalid {
            what: WHAT,
            why: "its purpose is not UTF-8",
        })?;
        let count = usize::from(from.u8(WHAT)?);
        let classes = from.bytes(WHAT, count)?;
        let classes = classes.iter().map(|code| ClassCode::new(*code)).collect();
        let purpose = purpose.to_owned();
        let team = (0..from.count_u8(WHAT, scheme::GRANTEES_MAX)?)
            .map(|_| {
                Ok(TeamMember {
                    doctor: scheme::DoctorId::new(from.u64(WHAT)?),
                    institution: scheme::InstitutionId::new(from.u32(WHAT)?),
                    access_key: VerifyingKey::new(from.array(WHAT)?),
                })
            })
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self {
            not_before,
            purpose,
            classes,
            team,
        })
    }
}

/// What the patient decided about one episode, in answer to a request.
pub struct Decision {
    /// The episode that is opened.
    pub episode: EpisodePlace,
    /// The section classes, a subset of the episode's.
    pub classes: Vec<ClassCode>,
    /// What the nodes serve: records with one of these keywords. The empty keyword stands for all.
    pub keywords: Vec<Keyword>,
    /// From when.
    pub not_before: Timestamp,
    /// Until when.
    pub expiry: Timestamp,
    /// t.
    pub threshold: Threshold,
}

/// Why the patient's device stops.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PatientError {
    /// Bytes are malformed.
    #[error("what came is malformed")]
    Malformed(#[from] DecodeError),
    /// A doctor's certificate does not stand.
    #[error("the doctor's certificate does not stand")]
    Certificate(#[from] CertificateError),
    /// The certificate is not a doctor's, or not the one of the key on the chain.
    #[error("the doctor's key is not in force on the chain")]
    NotInForce,
    /// Nothing can be sealed to a key.
    #[error(transparent)]
    Seal(#[from] UnusableKey),
    /// A receipt is for another inbox.
    #[error("the receipt is not for this inbox: ask the doctor to send it again")]
    Inbox(#[from] CannotOpen),
    /// The request does not stand.
    #[error("the request does not stand")]
    Request(#[from] RequestError),
    /// The request cannot be opened.
    #[error("the request cannot be opened")]
    Forwarded(#[from] ForwardError),
    /// The request is for another inbox, or was answered before.
    #[error("the request is not for this inbox, or was answered before")]
    NotForUs,
    /// The device holds as many as a directory can.
    #[error("this device holds as many {0} as it can: go on with another one")]
    Full(&'static str),
    /// There is no such episode or grant.
    #[error("there is no such episode or grant on this device")]
    Unknown,
    /// An accounting node has no key on the chain yet.
    #[error(transparent)]
    Nodes(#[from] NoNodes),
    /// The request has no access key left for another episode.
    #[error("the request can be answered for fewer episodes: ask the doctor for a new one")]
    TooManyEpisodes,
    /// The institution has no writer epoch, so nothing can be found there.
    #[error("the hospital has no index key on the chain, so nothing can be found there")]
    NoWriterEpoch,
    /// The grant cannot be made.
    #[error("the grant cannot be made")]
    Grant(#[from] GrantError),
    /// A combined key is the identity.
    #[error("a combined key is the identity: try again")]
    Degenerate(#[from] Degenerate),
    /// The receipt does not fit the record on the chain: complain.
    #[error("the doctor's receipt does not fit the record on the chain: {0}")]
    Receipt(&'static str),
    /// The doctor's signature of the record does not stand.
    #[error("the author's signature of the record does not stand")]
    ForgedRecord(#[from] StatementError),
}

impl From<NotAsked> for PatientError {
    fn from(why: NotAsked) -> Self {
        match why {
            NotAsked::Forwarded(ForwardError::Request(error)) => Self::Request(error),
            NotAsked::Forwarded(error) => Self::Forwarded(error),
            NotAsked::NotForUs => Self::NotForUs,
        }
    }
}

impl From<NotSealed> for PatientError {
    fn from(why: NotSealed) -> Self {
        match why {
            NotSealed::Note(error) => Self::Malformed(error),
            NotSealed::Key(error) => Self::Seal(error),
        }
    }
}

/// A patient's device.
pub struct Patient {
    consortium: ConsortiumId,
    centre: CentreKeys,
    keys: PatientKeys,
    /// The oldest first.
    former: Vec<FormerKeys>,
    inbox: Inbox,
    certificate: Option<Certificate>,
    episodes: Vec<Episode>,
    grants: Vec<GivenGrant>,
    appointments: Vec<GivenAppointment>,
}

impl Patient {
    /// A device with this seed.
    pub fn new(
        consortium: ConsortiumId,
        centre: CentreKeys,
        seed: &RootSeed,
        version: KeyVersion,
        rng: &mut impl CryptoRng,
    ) -> Self {
        Self {
            consortium,
            centre,
            keys: PatientKeys::derive(seed, version, &consortium),
            former: Vec::new(),
            inbox: Inbox::new(rng),
            certificate: None,
            episodes: Vec::new(),
            grants: Vec::new(),
            appointments: Vec::new(),
        }
    }

    /// A device with this seed and the directory that [`Self::directory`] gave
    /// (`spec/formats.md`, M26).
    ///
    /// # Errors
    /// [`DecodeError`] if the directory is none.
    pub fn restore(
        consortium: ConsortiumId,
        centre: CentreKeys,
        seed: &RootSeed,
        version: KeyVersion,
        directory: &[u8],
    ) -> Result<Self, DecodeError> {
        const WHAT: &str = "the directory";
        let mut from = Decoder::new(directory);
        let written = from.u8(WHAT)?;
        if !(DIRECTORY_WITHOUT_ANSWERS..=DIRECTORY_VERSION).contains(&written) {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "its version is unknown here",
            });
        }
        let keys = PatientKeys::derive(seed, version, &consortium);
        let mut former = Vec::new();
        if written > DIRECTORY_WITHOUT_FORMER_KEYS {
            for _ in 0..from.count_u8("the keys before", FORMER_KEYS_MAX)? {
                let seed = RootSeed::from_bytes(from.array("a seed before")?);
                former.push(FormerKeys {
                    keys: PatientKeys::derive(&seed, version, &consortium),
                    seed,
                    handle: InboxHandle::new(from.array("an inbox before")?),
                });
            }
        }
        let inbox = Inbox::read(&mut from)?;
        let certificate = from.var("the certificate", CERTIFICATE_BYTES_MAX)?;
        let certificate = match certificate {
            [] => None,
            bytes => Some(Certificate::decode(bytes)?),
        };
        let mut episodes = Vec::new();
        for _ in 0..from.count("the directory's episodes", EPISODES_MAX)? {
            let earlier = former.iter().map(|one: &FormerKeys| &one.keys);
            let all: Vec<_> = earlier.chain([&keys]).collect();
            episodes.push(read_episode(&consortium, &all, written, &mut from)?);
        }
        let mut grants = Vec::new();
        for _ in 0..from.count("the directory's grants", GRANTS_KEPT_MAX)? {
            grants.push(read_grant(&consortium, episodes.len(), written, &mut from)?);
        }
        let mut appointments = Vec::new();
        for _ in 0..from.count("the directory's appointments", GRANTS_KEPT_MAX)? {
            let appointment = GivenAppointment::read(&consortium, written, &mut from)?;
            appointments.push(appointment);
        }
        from.finish(WHAT)?;
        Ok(Self {
            consortium,
            centre,
            keys,
            former,
            inbox,
            certificate,
            episodes,
            grants,
            appointments,
        })
    }

    /// Goes on under the keys of this device, certified, in place of a device with keys of the same
    /// patient that others know or may know, with its episodes, grants and appointments. What began
    /// under the keys before is read and granted with them as before; everything that begins now is under
    /// these. `seed` and `version` are those of the device before.
    ///
    /// # Errors
    /// [`PatientError::Unknown`] if this device has no certificate or has begun something already, or the
    /// seed is not that of the device before; [`PatientError::Full`] after [`FORMER_KEYS_MAX`] times.
    /// Nothing changed then.
    pub fn succeed(
        &mut self,
        before: &Self,
        seed: &RootSeed,
        version: KeyVersion,
    ) -> Result<(), PatientError> {
        let fresh = self.episodes.is_empty() && self.former.is_empty();
        if self.certificate.is_none() || !fresh {
            return Err(PatientError::Unknown);
        }
        if before.former.len() >= FORMER_KEYS_MAX {
            return Err(PatientError::Full("keys that were replaced"));
        }
        // By the directory's own reading, so that nothing of it can be missed.
        let (here, centre) = (self.consortium, self.centre.clone());
        let mut all = Self::restore(here, centre, seed, version, &before.directory())?;
        if all.public_keys() != before.public_keys() {
            return Err(PatientError::Unknown);
        }
        self.former.append(&mut all.former);
        self.former.push(FormerKeys {
            seed: seed.clone(),
            keys: all.keys,
            handle: all.inbox.address().0,
        });
        self.episodes = all.episodes;
        self.grants = all.grants;
        self.appointments = all.appointments;
        Ok(())
    }

    /// How many keys this patient had before the present ones.
    pub fn generation(&self) -> usize {
        self.former.len()
    }

    /// Whether an episode began under keys that were replaced since: whoever has their words opens what is
    /// stored in it.
    pub fn is_under_former_keys(&self, episode: &Episode) -> bool {
        episode.generation < self.former.len()
    }

    /// The keys that an episode began under.
    fn keys_of(&self, episode: &Episode) -> &PatientKeys {
        let former = self.former.get(episode.generation);
        former.map_or(&self.keys, |former| &former.keys)
    }

    /// All that the seed does not give back: the inbox, the certificate, episodes with their receipts,
    /// grants and appointments with the keys that end them (`spec/formats.md`, M26). Kept in the
    /// keystore, and with the centre under [`Self::directory_key`].
    pub fn directory(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let certificate = self
            .certificate
            .as_ref()
            .map(Certificate::encode)
            .unwrap_or_default();
        let episodes = self.episodes.iter().map(|episode| {
            let receipts = StoredReceipt::BYTES * episode.receipts.len();
            1 + 4
                + 8
                + 4
                + episode.uid.as_bytes().len()
                + 8
                + 4
                + receipts
                + 4
                + 4 * episode.epochs.len()
        });
        let grants = self.grants.iter().map(|grant| {
            let doctors = 64 * grant.recipients.doctors.len();
            let answers = grant.answers.as_ref().map_or(0, Answered::length);
            let by = grant.by.map_or(0, |id| id.as_bytes().len());
            32 + 4 + 32 + 8 + 32 + 4 + doctors + 1 + answers + 1 + by
        });
        let appointments = self.appointments.iter().map(GivenAppointment::length);
        let length = 1
            + (1 + self.former.len() * (32 + 16))
            + self.inbox.length()
            + (4 + certificate.len())
            + (4 + episodes.sum::<usize>())
            + (4 + grants.sum::<usize>())
            + (4 + appointments.sum::<usize>());
        let mut out = Encoder::of_secrets(length);
        out.u8(DIRECTORY_VERSION).u8(self.former.len() as u8);
        for former in &self.former {
            out.bytes(former.seed.expose_bytes())
                .bytes(former.handle.as_bytes());
        }
        self.inbox.write(&mut out);
        out.var(&certificate).u32(self.episodes.len() as u32);
        for episode in &self.episodes {
            out.u8(episode.generation as u8)
                .u32(episode.institution.number())
                .u64(episode.doctor.number())
                .var(episode.uid.as_bytes())
                .u64(episode.number.number())
                .u32(episode.receipts.len() as u32);
            for receipt in &episode.receipts {
                receipt.write(&mut out);
            }
            out.u32(episode.epochs.len() as u32);
            for epoch in &episode.epochs {
                out.u32(epoch.number());
            }
        }
        out.u32(self.grants.len() as u32);
        for grant in &self.grants {
            out.bytes(grant.revocation.expose_seed())
                .u32(grant.episode.0 as u32)
                .bytes(grant.log_key.expose_bytes())
                .u64(grant.expiry.number());
            grant.recipients.write(&mut out);
            match &grant.answers {
                None => {
                    out.u8(0);
                }
                Some(answers) => answers.write(out.u8(1)),
            }
            match &grant.by {
                None => out.u8(0),
                Some(id) => out.u8(1).bytes(id.as_bytes()),
            };
        }
        out.u32(self.appointments.len() as u32);
        for appointment in &self.appointments {
            appointment.write(&mut out);
        }
        let directory = zeroize::Zeroizing::new(out.finish());
        debug_assert_eq!(directory.len(), length, "the buffer must never grow");
        directory
    }

    /// Encrypts the directory, so that the centre can keep it.
    pub fn directory_key(&self) -> &DirectoryKey {
        &self.keys.directory
    }

    /// The certificate, once it was accepted.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// Takes what f + 1 nodes say of the registration centre's keys: certificates under one that was
    /// lost to others count no more.
    pub fn follow_centre(&mut self, agreed: &AgreedCentreKeys) {
        self.centre.follow(agreed);
    }

    /// The public keys.
    pub fn public_keys(&self) -> PatientPublicKeys {
        PatientPublicKeys {
            encryption: self.keys.encryption.public_key(),
            search: self.keys.search.public_key(),
            ownership: self.keys.ownership.public_key(),
            inbox: self.keys.inbox.public_key(),
        }
    }

    /// Signs this patient's calls to the service of this name (scheme E35).
    pub fn account_key(&self, service: &str) -> SigningKey {
        self.keys.accounts.key(&self.consortium, service.as_bytes())
    }

    /// What signed this patient's calls to the service of this name before, the latest first.
    pub fn former_account_keys(&self, service: &str) -> impl Iterator<Item = SigningKey> {
        let name = service.as_bytes();
        let former = self.former.iter().rev();
        former.map(|former| former.keys.accounts.key(&self.consortium, name))
    }

    /// What the registration centre certifies.
    pub fn enrol(&self, subject: Subject) -> PatientEnrolment {
        PatientEnrolment {
            subject,
            keys: self.public_keys(),
            encryption_proof: self
                .keys
                .encryption
                .prove_possession(&self.consortium, subject),
            search_proof: self.keys.search.prove_possession(&self.consortium, subject),
            ownership_proof: self
                .keys
                .ownership
                .prove_possession(&self.consortium, subject),
        }
    }

    /// Keeps the certificate, once it is checked to be the centre's and for these keys.
    ///
    /// # Errors
    /// [`PatientError`].
    pub fn accept_certificate(
        &mut self,
        certificate: Certificate,
        now: Timestamp,
    ) -> Result<(), PatientError> {
        let holder = certificate.verify(&self.consortium, &self.centre, now)?;
        if holder != &Holder::Patient(Box::new(self.public_keys())) {
            return Err(PatientError::Unknown);
        }
        self.certificate = Some(certificate);
        Ok(())
    }

    /// The inbox's handle and salt, for a doctor who wants to ask.
    pub fn inbox(&self) -> (InboxHandle, [u8; 16]) {
        self.inbox.address()
    }

    /// The key that the query manager seals requests to.
    pub fn inbox_key(&self) -> HpkePublicKey {
        self.keys.inbox.public_key()
    }

    /// Begins an episode with a doctor: SK_D and the patient's public keys, signed under O, sealed to
    /// the doctor. `agreed` says that the doctor's HPKE key is in force on the chain.
    ///
    /// # Errors
    /// [`PatientError`].
    pub fn begin_episode(
        &mut self,
        doctor: &Certificate,
        agreed: &AgreedKey,
        uid: Uid,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Result<(EpisodePlace, Vec<u8>), PatientError> {
        let own = self
            .certificate
            .as_ref()
            .ok_or(PatientError::Unknown)?
            .encode();
        let Holder::Doctor(doctor) = doctor.verify(&self.consortium, &self.centre, now)? else {
            return Err(PatientError::NotInForce);
        };
        if !is_key_of(doctor, agreed) {
            return Err(PatientError::NotInForce);
        }
        if self.episodes.len() >= EPISODES_MAX {
            return Err(PatientError::Full("episodes"));
        }
        let number = EpisodeNumber::new(
            self.episodes
                .iter()
                .filter(|episode| episode.doctor == doctor.id && episode.uid == uid)
                .count() as u64,
        );
        let subkey =
            self.keys
                .symmetric
                .doctor_subkey(&self.consortium, doctor.institution, doctor.id);
        let pid = subkey.pseudonym(&self.consortium, &uid, number);
        let text = Encoder::of_secrets(32 + 8 + 16 + 4 + own.len())
            .bytes(subkey.expose_bytes())
            .u64(number.number())
            .bytes(self.inbox.address().0.as_bytes())
            .var(&own)
            .finish();
        let text = zeroize::Zeroizing::new(text);
        let signature = self.keys.ownership.sign_handover(&self.consortium, &text);
        let plain = zeroize::Zeroizing::new(
            Encoder::of_secrets(4 + text.len() + scheme::BlsSignature::BYTES)
                .var(&text)
                .bytes(signature.as_bytes())
                .finish(),
        );
        let subject = crate::medical_institution::handover_subject(doctor.institution, &uid);
        let sealed =
            doctor
                .hpke
                .seal(Purpose::Handover, &self.consortium, &subject, &plain, rng)?;
        self.episodes.push(Episode {
            institution: doctor.institution,
            doctor: doctor.id,
            uid,
            number,
            pid,
            receipts: Vec::new(),
            epochs: BTreeSet::new(),
            generation: self.former.len(),
        });
        Ok((EpisodePlace(self.episodes.len() - 1), sealed))
    }

    /// Puts an episode back that began after the directory was last kept, found by a search of its
    /// number ([`Self::episode_search`]).
    ///
    /// # Errors
    /// [`PatientError::Unknown`] if an episode of the same doctor and UID has that number.
    pub fn recover_episode(
        &mut self,
        (institution, doctor): (scheme::InstitutionId, scheme::DoctorId),
        uid: &Uid,
        number: EpisodeNumber,
    ) -> Result<EpisodePlace, PatientError> {
        let known = self.episodes.iter().any(|episode| {
            episode.doctor == doctor && &episode.uid == uid && episode.number == number
        });
        if known {
            return Err(PatientError::Unknown);
        }
        if self.episodes.len() >= EPISODES_MAX {
            return Err(PatientError::Full("episodes"));
        }
        let subkey = self
            .keys
            .symmetric
            .doctor_subkey(&self.consortium, institution, doctor);
        self.episodes.push(Episode {
            institution,
            doctor,
            uid: uid.clone(),
            number,
            pid: subkey.pseudonym(&self.consortium, uid, number),
            receipts: Vec::new(),
            epochs: BTreeSet::new(),
            generation: self.former.len(),
        });
        Ok(EpisodePlace(self.episodes.len() - 1))
    }

    /// The patient's own search, under the present keys, for any record of an episode by its number, in one
    /// writer epoch: what
    /// [`OwnSearch::is_found`] says tells whether it has one.
    pub fn episode_search(
        &self,
        (institution, doctor): (scheme::InstitutionId, scheme::DoctorId),
        uid: &Uid,
        number: EpisodeNumber,
        (epoch, writer_key): (WriterEpoch, &WriterEpochPublicKey),
    ) -> OwnSearch {
        let here = &self.consortium;
        let subkey = self.keys.symmetric.doctor_subkey(here, institution, doctor);
        let pid = subkey.pseudonym(here, uid, number);
        let writer = Writer { institution, epoch };
        let any = Keyword::any_record();
        let key =
            Trapdoor::generate(here, &self.keys.search, &pid, writer, &any).index_key(writer_key);
        OwnSearch::for_any(*here, writer, key)
    }

    /// The patient's own search for records of an episode with a keyword, in one writer epoch, under the
    /// keys under which the episode began: what [`OwnSearch::is_found`] says tells whether it has one.
    ///
    /// # Errors
    /// [`PatientError::Unknown`] if there is no such episode.
    pub fn keyword_search(
        &self,
        place: EpisodePlace,
        keyword: &Keyword,
        (epoch, writer_key): (WriterEpoch, &WriterEpochPublicKey),
    ) -> Result<OwnSearch, PatientError> {
        let here = &self.consortium;
        let episode = self.episodes.get(place.0).ok_or(PatientError::Unknown)?;
        let writer = Writer {
            institution: episode.institution,
            epoch,
        };
        let search = &self.keys_of(episode).search;
        let trapdoor = Trapdoor::generate(here, search, &episode.pid, writer, keyword);
        Ok(OwnSearch::for_any(
            *here,
            writer,
            trapdoor.index_key(writer_key),
        ))
    }

    /// The episodes of the directory.
    pub fn episodes(&self) -> impl Iterator<Item = (EpisodePlace, &Episode)> {
        self.episodes
            .iter()
            .enumerate()
            .map(|(place, episode)| (EpisodePlace(place), episode))
    }

    /// Opens a doctor's receipt.
    ///
    /// # Errors
    /// [`PatientError`] if it is not for this inbox.
    pub fn open_receipt(&self, sealed: &[u8]) -> Result<StoredReceipt, PatientError> {
        // A doctor of an earlier episode knows the inbox that it was begun with.
        let former = self.former.iter().rev();
        let former = former.map(|former| (&former.keys, former.handle));
        let mut opened = [(&self.keys, self.inbox.address().0)]
            .into_iter()
            .chain(former)
            .map(|(keys, handle)| {
                let (here, inbox) = (&self.consortium, &keys.inbox);
                inbox.open(Purpose::Receipt, here, handle.as_bytes(), sealed)
            });
        let plain = opened.find(Result::is_ok).unwrap_or(Err(CannotOpen))?;
        Ok(StoredReceipt::decode(&plain)?)
    }

    /// Checks a receipt against the record on the chain and the header of its container: the author's
    /// signature, O_rec, the locator, the header's V, author and institution, that every section is of
    /// a class and its key commitment fits. What is left is the patient's own search, for any record
    /// and for each of `keywords`: run it, then keep the receipt.
    ///
    /// # Errors
    /// [`PatientError::Receipt`] names what does not fit.
    pub fn check_receipt(
        &self,
        place: EpisodePlace,
        receipt: StoredReceipt,
        record: &RecordTransaction,
        writer: Writer,
        header: &Header,
        keywords: &[Keyword],
    ) -> Result<ReceiptCheck, PatientError> {
        let here = &self.consortium;
        let episode = self.episodes.get(place.0).ok_or(PatientError::Unknown)?;
        let statement = &record.statement;
        statement.verify(here, &record.doctor)?;
        if TransactionId::from(statement.id(here)) != receipt.transaction {
            return Err(PatientError::Receipt("it names another transaction"));
        }
        let keys = self.keys_of(episode);
        let key = EpisodeSigningKey::derive(here, &keys.ownership, &episode.pid)?;
        if &statement.owner_key.unblind(&receipt.delta)? != key.public_key() {
            return Err(PatientError::Receipt(
                "the record's owner key is not this patient's",
            ));
        }
        self.where_stored(&receipt, record)?;
        if header.digest() != statement.header_digest {
            return Err(PatientError::Receipt(
                "the container's header is another one",
            ));
        }
        if header.author() != statement.author || header.institution() != statement.institution {
            return Err(PatientError::Receipt(
                "the container's header names another author than the record",
            ));
        }
        // Otherwise the patient could read it, and no node would ever re-encrypt it.
        if header.clone().verify().is_err() {
            return Err(PatientError::Receipt(
                "the container's header was not made by the record's author",
            ));
        }
        let mut opened = 0;
        for class in (0..=u8::MAX).map(ClassCode::new) {
            let label = ClassLabelKey::derive(here, &episode.pid, class);
            let Some(index) = header.find(&label) else {
                continue;
            };
            let secret = SectionSecret::of_owner(
                here,
                &keys.encryption,
                &episode.pid,
                class,
                header.encapsulation(),
            );
            if secret.content_key(header, index).is_err() {
                return Err(PatientError::Receipt(
                    "a section does not open with the patient's own key",
                ));
            }
            opened += 1;
        }
        if opened != header.sections().count() {
            return Err(PatientError::Receipt("a section is of no class"));
        }
        let expected: BTreeSet<Keyword> = keywords
            .iter()
            .cloned()
            .chain([Keyword::any_record()])
            .collect();
        let index_keys = expected.iter().map(|keyword| {
            Trapdoor::generate(here, &keys.search, &episode.pid, writer, keyword)
                .index_key(&statement.writer_key)
        });
        let search = OwnSearch::new(*here, writer, index_keys, receipt.transaction);
        Ok(ReceiptCheck {
            place,
            receipt,
            writer,
            search,
        })
    }

    /// Where the cloud has the container of a receipt's record.
    ///
    /// # Errors
    /// [`PatientError::Receipt`] if the locator does not open.
    pub fn where_stored(
        &self,
        receipt: &StoredReceipt,
        record: &RecordTransaction,
    ) -> Result<Address, PatientError> {
        let statement = &record.statement;
        let binding = LocatorBinding {
            writer_key: statement.writer_key.compressed(),
            digest: &statement.digest,
            header_digest: &statement.header_digest,
            owner_key: statement.owner_key.compressed(),
            author: &statement.author,
            institution: statement.institution,
        };
        let opened = statement
            .locator
            .open(&self.consortium, &receipt.locator_key, &binding);
        opened
            .map(|locator| locator.address)
            .map_err(|_| PatientError::Receipt("its locator does not open"))
    }

    /// Keeps a receipt in the directory, once the patient's own search met the record.
    ///
    /// # Errors
    /// [`PatientError::Receipt`] if it did not: complain.
    pub fn keep_receipt(&mut self, check: ReceiptCheck) -> Result<(), PatientError> {
        if !check.search.is_found() {
            return Err(PatientError::Receipt(
                "the patient's own search does not find it",
            ));
        }
        let episode = self
            .episodes
            .get_mut(check.place.0)
            .ok_or(PatientError::Unknown)?;
        if episode.receipts.len() >= RECEIPTS_MAX {
            return Err(PatientError::Full("receipts of an episode"));
        }
        episode.epochs.insert(check.writer.epoch);
        let transaction = check.receipt.transaction;
        if !episode
            .receipts
            .iter()
            .any(|kept| kept.transaction == transaction)
        {
            episode.receipts.push(check.receipt);
        }
        Ok(())
    }

    /// The patient's own reading of a section, without nodes or log.
    pub fn own_section(
        &self,
        place: EpisodePlace,
        class: ClassCode,
        header: &Header,
    ) -> Option<SectionSecret> {
        let episode = self.episodes.get(place.0)?;
        Some(SectionSecret::of_owner(
            &self.consortium,
            &self.keys_of(episode).encryption,
            &episode.pid,
            class,
            header.encapsulation(),
        ))
    }

    /// Lc of a class of an episode: which section of a container it is.
    pub fn label_key(&self, place: EpisodePlace, class: ClassCode) -> Option<ClassLabelKey> {
        let episode = self.episodes.get(place.0)?;
        Some(ClassLabelKey::derive(&self.consortium, &episode.pid, class))
    }

    /// Opens a request from the inbox and checks it on this device: certificates, signatures, inbox,
    /// and that it was not answered before. Whether each doctor's key is in force is asked of the chain and
    /// checked by [`Self::answer`].
    ///
    /// # Errors
    /// [`PatientError`].
    pub fn open_request(
        &self,
        sealed: &[u8],
        now: Timestamp,
    ) -> Result<VerifiedRequest, PatientError> {
        let (here, key) = (&self.consortium, &self.keys.inbox);
        Ok(self.inbox.open(here, &self.centre, key, sealed, now)?)
    }

    /// Equations (12) and (14): answers a request once, with one grant per episode. `agreed` says
    /// which doctors' keys are in force, `epochs` which writer epochs the episodes' hospitals had,
    /// `nodes` who serves.
    ///
    /// # Errors
    /// [`PatientError`]; then nothing is given and the request can be answered again.
    pub fn answer(
        &mut self,
        request: &VerifiedRequest,
        decisions: &[Decision],
        agreed: &[AgreedKey],
        epochs: &[AgreedWriterEpochs],
        nodes: &ServingNodes<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<GrantPackage>, PatientError> {
        request.still_issued(&self.centre)?;
        if !all_in_force(request, agreed) {
            return Err(PatientError::NotInForce);
        }
        if !self.inbox.awaits(&self.consortium, request) {
            return Err(PatientError::NotForUs);
        }
        if self.grants.len() + decisions.len() > GRANTS_KEPT_MAX {
            return Err(PatientError::Full("grants"));
        }
        let serving = nodes.check()?;
        let mut packages = Vec::with_capacity(decisions.len());
        let mut given = Vec::with_capacity(decisions.len());
        for (place, decision) in decisions.iter().enumerate() {
            let grantees = request
                .grantees(place)
                .ok_or(PatientError::TooManyEpisodes)?;
            let answers = Answered {
                not_before: decision.not_before,
                purpose: request.terms().purpose.clone(),
                classes: decision.classes.clone(),
                team: request.team(place),
            };
            let revocation = SigningKey::random(rng);
            let (package, log_key) = self.grant(
                request,
                decision,
                grantees,
                &revocation,
                epochs,
                nodes.keys.epoch,
                &serving,
                rng,
            )?;
            given.push(GivenGrant {
                gid: GrantId::of(&self.consortium, &revocation.verifying_key()),
                episode: decision.episode,
                log_key,
                expiry: decision.expiry,
                recipients: request.note_recipients(),
                answers: Some(answers),
                by: None,
                revocation,
            });
            packages.push(package);
        }
        self.inbox.answered(request);
        self.grants.extend(given);
        Ok(packages)
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one grant's parts, named once, in one place"
    )]
    fn grant(
        &self,
        request: &VerifiedRequest,
        decision: &Decision,
        grantees: Vec<Grantee>,
        revocation: &SigningKey,
        epochs: &[AgreedWriterEpochs],
        validator_epoch: ValidatorEpoch,
        serving: &[GrantNode],
        rng: &mut impl CryptoRng,
    ) -> Result<(GrantPackage, LogKey), PatientError> {
        let episode = self
            .episodes
            .get(decision.episode.0)
            .ok_or(PatientError::Unknown)?;
        let epochs = epochs
            .iter()
            .find(|epochs| epochs.institution == episode.institution)
            .filter(|epochs| !epochs.epochs.is_empty())
            .ok_or(PatientError::NoWriterEpoch)?;
        let here = &self.consortium;
        let keys = self.keys_of(episode);
        let signing = EpisodeSigningKey::derive(here, &keys.ownership, &episode.pid)?;
        let classes: Vec<GrantedClass> = decision
            .classes
            .iter()
            .map(|class| GrantedClass {
                condition: ConditionKey::derive(here, &keys.encryption, &episode.pid, *class),
                label_key: ClassLabelKey::derive(here, &episode.pid, *class),
            })
            .collect();
        // One trapdoor per keyword and writer epoch, so that each shows no other epoch.
        let limit = scheme::TRAPDOORS_MAX / decision.keywords.len().max(1);
        let trapdoors = searched_epochs(episode, epochs, limit)
            .into_iter()
            .flat_map(|epoch| {
                decision
                    .keywords
                    .iter()
                    .map(move |keyword| (epoch, keyword))
            })
            .map(|(epoch, keyword)| {
                let writer = Writer {
                    institution: episode.institution,
                    epoch,
                };
                let trapdoor =
                    Trapdoor::generate(here, &keys.search, &episode.pid, writer, keyword);
                WriterTrapdoor { writer, trapdoor }
            })
            .collect();
        let reach = Reach {
            trapdoors,
            entries: Vec::new(),
        };
        let parts = PackageParts {
            episode_key: signing.public_key().clone(),
            request,
            grantees,
            validity: (decision.not_before, decision.expiry),
            validator_epoch,
            nodes: serving,
            threshold: decision.threshold,
            classes: &classes,
            reach: &reach,
            granter: &Granter::Patient(&signing),
        };
        Ok(package(here, parts, revocation, rng)?)
    }

    /// Appoints a family agent for one episode: what the agent can then open, unlogged and for ever,
    /// is every section of the classes in scope. `epochs` are the writer epochs of the episode's
    /// hospital.
    ///
    /// # Errors
    /// [`PatientError`].
    pub fn appoint(
        &mut self,
        place: EpisodePlace,
        offer: &AgentOffer,
        scope: &[ClassCode],
        end: Timestamp,
        epochs: &AgreedWriterEpochs,
        rng: &mut impl CryptoRng,
    ) -> Result<(AppointmentId, Vec<u8>), PatientError> {
        let here = &self.consortium;
        let episode = self
            .episodes
            .get(place.0)
            .filter(|episode| episode.institution == epochs.institution)
            .ok_or(PatientError::Unknown)?;
        if self.appointments.len() >= GRANTS_KEPT_MAX {
            return Err(PatientError::Full("appointments"));
        }
        let keys = self.keys_of(episode);
        let signing = EpisodeSigningKey::derive(here, &keys.ownership, &episode.pid)?;
        let withdrawal = SigningKey::random(rng);
        let id = AppointmentId::of(here, &withdrawal.verifying_key());
        let terms = AppointmentTerms {
            agent: offer.agent,
            id,
            end,
            scope: scope.to_vec(),
        };
        let appointment = Appointment::make(here, &signing, terms)?;
        let appointment = appointment.encode(here);
        let searched = searched_epochs(episode, epochs, scheme::TRAPDOORS_MAX);
        let length = 1
            + (4 + appointment.len())
            + (16 + 16 + 32)
            + (1 + scope.len() * (1 + 48 + 32))
            + (4 + searched.len() * 56);
        let (handle, salt) = self.inbox.address();
        let mut out = Encoder::of_secrets(length);
        out.u8(APPOINTMENT_VERSION)
            .var(&appointment)
            .bytes(handle.as_bytes())
            .bytes(&salt)
            .bytes(self.inbox_key().as_bytes())
            .u8(scope.len() as u8);
        for class in scope {
            let condition = ConditionKey::derive(here, &keys.encryption, &episode.pid, *class);
            let label = ClassLabelKey::derive(here, &episode.pid, *class);
            out.u8(class.code())
                .bytes(&condition.expose_bytes())
                .bytes(label.expose_bytes());
        }
        let any = Keyword::any_record();
        out.u32(searched.len() as u32);
        for epoch in searched {
            let writer = Writer {
                institution: episode.institution,
                epoch,
            };
            let trapdoor = Trapdoor::generate(here, &keys.search, &episode.pid, writer, &any);
            out.u32(writer.institution.number())
                .u32(writer.epoch.number())
                .bytes(&trapdoor.expose_bytes());
        }
        let plain = zeroize::Zeroizing::new(out.finish());
        let subject = offer.agent.as_bytes();
        let sealed = offer
            .hpke
            .seal(Purpose::Appointment, here, subject, &plain, rng)?;
        self.appointments.push(GivenAppointment {
            id,
            terms: Some((place, scope.to_vec(), end)),
            withdrawn: false,
            key: withdrawal,
        });
        Ok((id, sealed))
    }

    /// Withdraws an appointment: from then on no node takes or serves a grant under it. What the
    /// agent was given cannot be taken back.
    ///
    /// # Errors
    /// [`PatientError::Unknown`] if this device made no such appointment.
    pub fn withdraw(&self, id: &AppointmentId) -> Result<Transaction, PatientError> {
        let found = self.appointments.iter().find(|own| &own.id == id);
        let found = found.ok_or(PatientError::Unknown)?;
        Ok(Transaction::Withdrawal(Withdrawal::sign(
            &self.consortium,
            &found.key,
        )))
    }

    /// Notes that the withdrawal of an appointment is final.
    pub fn is_withdrawn(&mut self, id: &AppointmentId) {
        for own in &mut self.appointments {
            own.withdrawn |= &own.id == id;
        }
    }

    /// The appointments that this device made.
    pub fn appointments(&self) -> &[GivenAppointment] {
        &self.appointments
    }

    /// Takes an access key away: the transaction after which no node opens anything more.
    ///
    /// # Errors
    /// [`PatientError::Unknown`] if the grant is not this device's.
    pub fn revoke(&self, gid: &GrantId) -> Result<Transaction, PatientError> {
        let grant = self
            .grants
            .iter()
            .find(|grant| &grant.gid == gid)
            .ok_or(PatientError::Unknown)?;
        Ok(Transaction::Revocation(Revocation::sign(
            &self.consortium,
            &grant.revocation,
        )))
    }

    /// Tells each doctor of a request which of this device's grants answer it or were revoked.
    ///
    /// # Errors
    /// [`PatientError::Unknown`] if a grant is not this device's; [`PatientError`] if nothing can be
    /// sealed to a doctor's key.
    pub fn seal_note(
        &self,
        note: &AnswerNote,
        recipients: &NoteRecipients,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<SealedNote>, PatientError> {
        let own = |gid: &GrantId| self.grants.iter().any(|grant| &grant.gid == gid);
        if !note.grants().iter().all(own) {
            return Err(PatientError::Unknown);
        }
        Ok(note.seal(&self.consortium, recipients, rng)?)
    }

    /// Opens what an agent's device says of a grant that it gave: under an appointment of this patient,
    /// within its scope and end. Whether there is such a grant is the chain's to say, before
    /// [`Self::keep_act`].
    ///
    /// # Errors
    /// [`PatientError::Unknown`] if it is under no appointment of this device, outside it, or known.
    pub fn open_act(&self, sealed: &[u8]) -> Result<OpenedAct, PatientError> {
        let here = &self.consortium;
        let key = &self.keys.inbox;
        let opened = self.appointments.iter().find_map(|appointment| {
            let act = AgentAct::open(here, &appointment.id, key, sealed)?;
            Some((appointment, act))
        });
        let (appointment, act) = opened.ok_or(PatientError::Unknown)?;
        let act = act?;
        let (episode, scope, end) = appointment.terms.as_ref().ok_or(PatientError::Unknown)?;
        let gid = act.gid(here);
        let within = act.expiry <= *end
            && act.answers.classes.iter().all(|one| scope.contains(one))
            && self.grants.iter().all(|grant| grant.gid != gid);
        if !within {
            return Err(PatientError::Unknown);
        }
        Ok(OpenedAct(GivenGrant {
            gid,
            episode: *episode,
            log_key: act.log_key,
            expiry: act.expiry,
            recipients: act.recipients,
            answers: Some(act.answers),
            by: Some(appointment.id),
            revocation: act.revocation,
        }))
    }

    /// Keeps an agent's grant among this patient's, once the chain has it: from then on its log is read
    /// and it is revoked like any other.
    ///
    /// # Errors
    /// [`PatientError::Full`], [`PatientError::Unknown`] if it is known.
    pub fn keep_act(&mut self, act: OpenedAct) -> Result<(), PatientError> {
        if self.grants.len() >= GRANTS_KEPT_MAX {
            return Err(PatientError::Full("grants"));
        }
        if self.grants.iter().any(|grant| grant.gid == act.0.gid) {
            return Err(PatientError::Unknown);
        }
        self.grants.push(act.0);
        Ok(())
    }

    /// The grants that this device gave, and those of agents who told of them.
    pub fn grants(&self) -> &[GivenGrant] {
        &self.grants
    }

    /// Which record an entry of the access log names.
    pub fn read_log(&self, gid: &GrantId, entry: &ledger::AccessEntry) -> Option<TransactionId> {
        let grant = self.grants.iter().find(|grant| &grant.gid == gid)?;
        let masked = scheme::Digest::new(*entry.masked.as_bytes());
        let record = grant.log_key.mask(
            &self.consortium,
            &entry.access_key,
            entry.number.number(),
            entry.pad.as_bytes(),
            &masked,
        );
        Some(TransactionId::from(record))
    }
}

/// An episode, under one of these keys, the oldest first.
fn read_episode(
    consortium: &ConsortiumId,
    keys: &[&PatientKeys],
    written: u8,
    from: &mut Decoder<'_>,
) -> Result<Episode, DecodeError> {
    const WHAT: &str = "an episode of the directory";
    let generation = match written {
        DIRECTORY_WITHOUT_ANSWERS..=DIRECTORY_WITHOUT_FORMER_KEYS => 0,
        _ => usize::from(from.u8(WHAT)?),
    };
    let keys = keys.get(generation).ok_or(DecodeError::Invalid {
        what: WHAT,
        why: "it is under no keys of this patient",
    })?;
    let institution = scheme::InstitutionId::new(from.u32(WHAT)?);
    let doctor = scheme::DoctorId::new(from.u64(WHAT)?);
    let uid = Uid::new(from.var("the UID", scheme::UID_BYTES_MAX)?)?;
    let number = EpisodeNumber::new(from.u64(WHAT)?);
    let mut receipts = Vec::new();
    for _ in 0..from.count("the receipts", RECEIPTS_MAX)? {
        receipts.push(StoredReceipt::read(from)?);
    }
    let mut epochs = BTreeSet::new();
    for _ in 0..from.count("the writer epochs", RECEIPTS_MAX)? {
        epochs.insert(WriterEpoch::new(from.u32(WHAT)?));
    }
    let subkey = keys
        .symmetric
        .doctor_subkey(consortium, institution, doctor);
    Ok(Episode {
        institution,
        doctor,
        pid: subkey.pseudonym(consortium, &uid, number),
        uid,
        number,
        receipts,
        epochs,
        generation,
    })
}

fn read_grant(
    consortium: &ConsortiumId,
    episodes: usize,
    written: u8,
    from: &mut Decoder<'_>,
) -> Result<GivenGrant, DecodeError> {
    const WHAT: &str = "a grant of the directory";
    let revocation = SigningKey::from_seed(from.array(WHAT)?);
    let episode = from.u32(WHAT)? as usize;
    if episode >= episodes {
        return Err(DecodeError::Invalid {
            what: WHAT,
            why: "it is of no episode",
        });
    }
    let log_key = LogKey::from_bytes(from.array(WHAT)?);
    let expiry = Timestamp::new(from.u64(WHAT)?);
    let recipients = NoteRecipients::read(from)?;
    let answers = match written {
        DIRECTORY_WITHOUT_ANSWERS => None,
        _ => match from.u8(WHAT)? {
            0 => None,
            1 => Some(Answered::read(from)?),
            _ => {
                return Err(DecodeError::Invalid {
                    what: WHAT,
                    why: "what tells of its request is neither 0 nor 1",
                });
            }
        },
    };
    let by = match written {
        DIRECTORY_WITHOUT_ANSWERS..=DIRECTORY_WITHOUT_ACTS => None,
        _ => match from.u8(WHAT)? {
            0 => None,
            1 => Some(AppointmentId::new(from.array(WHAT)?)),
            _ => {
                return Err(DecodeError::Invalid {
                    what: WHAT,
                    why: "what tells of an agent is neither 0 nor 1",
                });
            }
        },
    };
    Ok(GivenGrant {
        gid: GrantId::of(consortium, &revocation.verifying_key()),
        episode: EpisodePlace(episode),
        log_key,
        expiry,
        recipients,
        answers,
        by,
        revocation,
    })
}

/// Which writer epochs of the hospital a grant of an episode searches, at most `limit`: those in which
/// receipts say that it has records, then the others from the newest back, for records whose receipt
/// is on its way. Ascending.
fn searched_epochs(
    episode: &Episode,
    epochs: &AgreedWriterEpochs,
    limit: usize,
) -> BTreeSet<WriterEpoch> {
    let all = || epochs.epochs.iter().map(|(epoch, _)| *epoch).rev();
    let known = all().filter(|epoch| episode.epochs.contains(epoch));
    let others = all().filter(|epoch| !episode.epochs.contains(epoch));
    known.chain(others).take(limit).collect()
}

fn is_key_of(doctor: &DoctorPublicKeys, agreed: &AgreedKey) -> bool {
    let registrant = ledger::Registrant::Doctor {
        institution: doctor.institution,
        doctor: doctor.id,
    };
    agreed.hash() == ledger::KeyHash::from(doctor.hpke.hash())
        && agreed.usage() == ledger::KeyUse::Hpke
        && agreed.registrant() == registrant
}
