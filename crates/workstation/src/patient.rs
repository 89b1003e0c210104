//! A patient's device: the root seed and the directory in a keystore, and every step of the patient's:
//! enrolment, episodes, receipts, answers, revocation, the access log, the own reading.

mod answering;
mod directory;
mod exporting;
mod finding;
mod takeover;

pub use exporting::Exported;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use client::{
    Applicant, BeginEnrolment, CentreClient, ClientError, EnrolmentKeys, EnrolmentState,
    HospitalClient, IdempotencyKey, Identity, QueryClient, SystemRandom, TRACED, now,
};
use ledger::{KeyHash, TransactionId};
use parties::{AgentOffer, Episode, EpisodePlace, GivenAppointment, Patient, StoredReceipt};
use rand_core::Rng;
use record::{Amends, SectionClass};
use scheme::{
    AppointmentId, ClassCode, ContentKey, Decoder, DisclosedSecret, DoctorId, Encoder, GrantId,
    Header, InboxHandle, InstitutionId, KeyVersion, Keyword, RootSeed, SectionIndex, SigningKey,
    Subject, Timestamp, Uid, Writer,
};
use tracing::instrument;
use zeroize::Zeroizing;

use crate::enrolment::{Enrolment, begins, begun, settle};
use crate::error::{WorkError, not};
use crate::keystore::{CONTENT_BYTES_MAX, Keystore, KeystoreKind};
use crate::network::{Network, Progress, run_search};
use crate::outgoing::{Answer, Handover, OUTGOING_MAX, TOO_MANY_ON_THE_WAY, deliver_all};
use crate::reading::{OpenedRecord, from_cloud, must_be_fresh, open_into};
use crate::words::{from_words, to_words};
use takeover::{LeftToDo, NextKeys};

const VERSION: u8 = 2;
/// Without keys that are to follow.
const VERSION_WITHOUT_NEXT_KEYS: u8 = 1;
/// A grant begins this long before it is made, so that no clock that is ahead delays it.
const BEGINS_BEFORE_MS: u64 = 60 * 1000;
/// The service whose account enrols.
const CENTRE: &str = "centre";
/// The service whose account has the inbox.
const QUERY: &str = "query";

/// An episode as the patient sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpisodeView {
    /// Its place on this device, from 1.
    pub number: usize,
    /// Where.
    pub institution: InstitutionId,
    /// With which doctor.
    pub doctor: DoctorId,
    /// The hospital's UID.
    pub uid: String,
    /// Records whose receipts were checked.
    pub records: Vec<TransactionId>,
    /// Whether it began under keys that were replaced since: whoever has their 24 words can open what is
    /// stored in it.
    pub under_former_keys: bool,
}

/// What is granted.
#[derive(Clone)]
pub struct Grants {
    /// Episodes by their places, from 1.
    pub episodes: Vec<usize>,
    /// Section classes; none stands for all that were asked for.
    pub classes: Vec<SectionClass>,
    /// Records with one of these keywords; none stands for every record.
    pub keywords: Vec<Keyword>,
    /// For how many minutes.
    pub minutes: u64,
    /// t; none stands for the fewest that the consortium allows.
    pub threshold: Option<u8>,
}

/// A grant as the patient sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenView {
    /// gid in hexadecimal.
    pub gid: String,
    /// The episode's place, from 1.
    pub episode: usize,
    /// Until when, in ms since 1970.
    pub expiry: u64,
    /// Whether the chain says that it is revoked; none if it has no such grant.
    pub revoked: Option<bool>,
    /// What it answers; none of a grant that an earlier release gave.
    pub answers: Option<AnsweredView>,
    /// The appointment under which an agent gave it, in hexadecimal; none of the patient's own.
    pub by_agent: Option<String>,
}

/// What a grant answers, in the patient's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredView {
    /// From when it opens, in ms since 1970.
    pub not_before: u64,
    /// Why it was asked for, in the doctors' words.
    pub purpose: String,
    /// The section classes that it opens.
    pub classes: Vec<SectionClass>,
    /// The doctors of the team.
    pub team: Vec<(DoctorId, InstitutionId)>,
}

/// An appointment that this patient made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenAppointmentView {
    /// Names it on the chain, in hexadecimal.
    pub id: String,
    /// The episode's place, from 1; none of an appointment that an earlier release made.
    pub episode: Option<usize>,
    /// The section classes in scope.
    pub scope: Vec<SectionClass>,
    /// When it ends, in ms since 1970.
    pub end: Option<u64>,
    /// Whether its withdrawal is final.
    pub withdrawn: bool,
}

/// One access of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessView {
    /// In which grant.
    pub gid: String,
    /// Counts the accesses of its access key from 0, so that a missing one shows.
    pub number: u64,
    /// Which doctor's access key it is; none of a grant that an earlier release gave.
    pub doctor: Option<(DoctorId, InstitutionId)>,
    /// The chain's time of its block, in ms since 1970.
    pub time: u64,
    /// Which record was read.
    pub record: Option<TransactionId>,
    /// By which access key.
    pub access_key: String,
}

/// A patient's device.
pub struct PatientDevice {
    network: Network,
    store: Keystore,
    state: State,
    rng: SystemRandom,
    /// Of grants that have ended, whether they were revoked before: the chain never says otherwise again.
    over: Mutex<BTreeMap<GrantId, Option<bool>>>,
}

/// What the keystore holds (`spec/formats.md`, M26).
struct State {
    seed: RootSeed,
    subject: Option<Subject>,
    /// Tells this device's copies of the directory from another's of the same patient.
    device: [u8; 16],
    /// Version of the directory at the centre.
    kept: u64,
    /// Whether the centre's copy is older than this one.
    behind: bool,
    patient: Patient,
    /// Made, and not with their doctors or hospitals yet.
    handovers: Vec<Handover>,
    answers: Vec<Answer>,
    /// Keys that are to follow these.
    next: Option<NextKeys>,
    left: LeftToDo,
}

impl State {
    fn new(network: &Network, seed: RootSeed, rng: &mut SystemRandom) -> Self {
        let mut device = [0; 16];
        rng.fill_bytes(&mut device);
        let here = network.consortium();
        let keys = network.founding_keys();
        let patient = Patient::new(here, keys, &seed, KeyVersion::new(0), rng);
        Self {
            seed,
            subject: None,
            device,
            kept: 0,
            behind: false,
            patient,
            handovers: Vec::new(),
            answers: Vec::new(),
            next: None,
            left: LeftToDo::default(),
        }
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let directory = self.patient.directory();
        let handovers: Vec<_> = self.handovers.iter().map(Handover::encode).collect();
        let answers: Vec<_> = self.answers.iter().map(Answer::encode).collect();
        let parts = handovers.iter().chain(&answers);
        let length = parts.map(|part| 4 + part.len()).sum::<usize>();
        let next = self.next.as_ref();
        let next = 3 + next.map_or(0, |next| 32 + 8 + 4 + next.directory.len());
        let mut out =
            Encoder::of_secrets(1 + 32 + 8 + 16 + 8 + 1 + 4 + directory.len() + 8 + length + next);
        out.u8(VERSION)
            .bytes(self.seed.expose_bytes())
            .u64(self.subject.map_or(0, Subject::number))
            .bytes(&self.device)
            .u64(self.kept)
            .u8(u8::from(self.behind))
            .var(&directory);
        for list in [&handovers, &answers] {
            out.u32(list.len() as u32);
            for part in list {
                out.var(part);
            }
        }
        match &self.next {
            None => out.u8(0),
            Some(next) => out
                .u8(1)
                .bytes(next.seed.expose_bytes())
                .u64(next.subject.map_or(0, Subject::number))
                .var(&next.directory),
        };
        out.u8(u8::from(self.left.uids))
            .u8(u8::from(self.left.findable));
        Zeroizing::new(out.finish())
    }

    fn decode(network: &Network, content: &[u8]) -> Result<Self, WorkError> {
        const WHAT: &str = "the patient's keystore";
        let mut from = Decoder::new(content);
        let written = from.u8(WHAT)?;
        if !(VERSION_WITHOUT_NEXT_KEYS..=VERSION).contains(&written) {
            return Err(scheme::DecodeError::Invalid {
                what: WHAT,
                why: "its version is unknown here",
            }
            .into());
        }
        let seed = RootSeed::from_bytes(from.array(WHAT)?);
        let subject = from.u64(WHAT)?;
        let device = from.array(WHAT)?;
        let (kept, behind) = (from.u64(WHAT)?, from.u8(WHAT)? != 0);
        let directory = from.var(WHAT, CONTENT_BYTES_MAX)?;
        let (here, keys) = (network.consortium(), network.founding_keys());
        let patient = Patient::restore(here, keys, &seed, KeyVersion::new(0), directory)?;
        let mut handovers = Vec::new();
        for _ in 0..from.count(WHAT, OUTGOING_MAX)? {
            handovers.push(Handover::decode(from.var(WHAT, CONTENT_BYTES_MAX)?)?);
        }
        let mut answers = Vec::new();
        for _ in 0..from.count(WHAT, OUTGOING_MAX)? {
            answers.push(Answer::decode(from.var(WHAT, CONTENT_BYTES_MAX)?)?);
        }
        let begun = |number: u64| (number != 0).then(|| Subject::new(number));
        let (mut next, mut left) = (None, LeftToDo::default());
        let later = written > VERSION_WITHOUT_NEXT_KEYS;
        if later && from.u8(WHAT)? != 0 {
            next = Some(NextKeys {
                seed: RootSeed::from_bytes(from.array(WHAT)?),
                subject: begun(from.u64(WHAT)?),
                directory: Zeroizing::new(from.var(WHAT, CONTENT_BYTES_MAX)?.to_vec()),
            });
        }
        if later {
            left.uids = from.u8(WHAT)? != 0;
            left.findable = from.u8(WHAT)? != 0;
        }
        from.finish(WHAT)?;
        Ok(Self {
            seed,
            subject: begun(subject),
            device,
            kept,
            behind,
            patient,
            handovers,
            answers,
            next,
            left,
        })
    }
}

/// A record as it lies in the cloud, and what its patient opens of it.
struct OwnContainer {
    container: tempfile::TempPath,
    header: Header,
    sections: Vec<OwnSection>,
}

struct OwnSection {
    class: SectionClass,
    index: SectionIndex,
    key: ContentKey,
    secret: DisclosedSecret,
}

/// A keystore that is removed unless it was restored as a whole, also if nobody waits for it any more: nothing
/// is lost with half of one, and the words make it again.
struct HalfRestored<'a>(Option<&'a Path>);

impl HalfRestored<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for HalfRestored<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Records of a stay among which the one that another amends is looked for.
const AMENDED_LOOKED_AT: usize = 256;

impl PatientDevice {
    /// Makes a seed for a patient, in a keystore that is not there yet.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn create(network: Network, path: &Path, passphrase: &str) -> Result<Self, WorkError> {
        let seed = RootSeed::random(&mut SystemRandom);
        Self::with_seed(network, path, passphrase, seed)
    }

    /// A device with the seed that the centre made for a patient without one, picked up by its code.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn pick_up(
        network: Network,
        path: &Path,
        passphrase: &str,
        subject: Subject,
        code: client::PickupCode,
    ) -> Result<Self, WorkError> {
        // The seed is handed over once, so there is a place for it before it is asked for.
        let mut device = Self::create(network, path, passphrase)?;
        let picked = device.network.centre_without_keys()?;
        match picked.pick_up(subject, code).await {
            Ok(seed) => {
                device.state = State::new(&device.network, seed, &mut device.rng);
                device.state.subject = Some(subject);
                device.save()?;
                Ok(device)
            }
            Err(error) => {
                let _ = std::fs::remove_file(path);
                Err(error.into())
            }
        }
    }

    /// A device with the seed of 24 words, and the directory that the centre keeps.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn restore(
        network: Network,
        path: &Path,
        passphrase: &str,
        words: &str,
        progress: &mut dyn Progress,
    ) -> Result<Self, WorkError> {
        let seed = from_words(words)?;
        let mut device = Self::with_seed(network, path, passphrase, seed)?;
        let half = HalfRestored(Some(path));
        device.recover(progress).await?;
        half.keep();
        Ok(device)
    }

    fn with_seed(
        network: Network,
        path: &Path,
        passphrase: &str,
        seed: RootSeed,
    ) -> Result<Self, WorkError> {
        let mut rng = SystemRandom;
        let state = State::new(&network, seed, &mut rng);
        let content = state.encode();
        let store = Keystore::create(path, KeystoreKind::Patient, passphrase, &content)?;
        Ok(Self {
            network,
            store,
            state,
            rng,
            over: Mutex::default(),
        })
    }

    /// Opens a patient's keystore.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn open(network: Network, path: &Path, passphrase: &str) -> Result<Self, WorkError> {
        let (store, content) = Keystore::open(path, KeystoreKind::Patient, passphrase)?;
        Ok(Self {
            state: State::decode(&network, &content)?,
            network,
            store,
            rng: SystemRandom,
            over: Mutex::default(),
        })
    }

    fn save(&self) -> Result<(), WorkError> {
        Ok(self.store.save(&self.state.encode())?)
    }

    /// Whether this is the keystore's passphrase: who asks for the words proves once more to be its owner.
    ///
    /// # Errors
    /// [`WorkError::Keystore`] if the passphrase cannot be stretched.
    pub fn is_passphrase(&self, passphrase: &str) -> Result<bool, WorkError> {
        Ok(self.store.is_passphrase(passphrase)?)
    }

    /// The 24 words of the seed.
    pub fn words(&self) -> Zeroizing<String> {
        to_words(&self.state.seed)
    }

    fn centre(&self) -> Result<CentreClient, WorkError> {
        self.network.centre(self.state.patient.account_key(CENTRE))
    }

    fn query(&self) -> Result<QueryClient, WorkError> {
        self.network.query(self.state.patient.account_key(QUERY))
    }

    fn account_at(&self, institution: InstitutionId) -> SigningKey {
        let name = client::ServiceName::Hospital(institution).to_string();
        self.state.patient.account_key(&name)
    }

    async fn hospital(&self, institution: InstitutionId) -> Result<HospitalClient, WorkError> {
        let key = self.account_at(institution);
        self.network.hospital(institution, key).await
    }

    async fn follow_centre(&mut self) -> Result<(), WorkError> {
        let agreed = self.network.client().centre_keys().await?;
        self.state.patient.follow_centre(&agreed);
        Ok(())
    }

    /// Whether the registration centre certified this patient's keys.
    pub fn is_certified(&self) -> bool {
        self.state.patient.certificate().is_some()
    }

    /// Begins the enrolment and gives the centre the public keys; safe to repeat.
    ///
    /// # Errors
    /// [`WorkError`].
    #[instrument(target = TRACED, name = "1 register", skip_all)]
    pub async fn enrol(
        &mut self,
        identity: Identity,
        replaces: Option<u64>,
    ) -> Result<(), WorkError> {
        let centre = self.centre()?;
        let replaces = replaces.map(Subject::new);
        let (patient, subject) = (&self.state.patient, &mut self.state.subject);
        let given = give_keys(&centre, patient, subject, identity, replaces).await;
        self.save()?;
        given
    }

    /// How far the enrolment is; waits for its end within a bound. Once it is registered the
    /// certificate is checked and kept, and the inbox opened.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn enrolment(&mut self, bound: Duration) -> Result<Enrolment, WorkError> {
        let subject = begun(self.state.subject, "patient")?;
        let (enrolment, certificate) = settle(&self.centre()?, subject, bound).await?;
        if let Some(certificate) = certificate {
            self.follow_centre().await?;
            self.state.patient.accept_certificate(certificate, now())?;
            self.save()?;
            let (handle, _) = self.state.patient.inbox();
            let key = self.state.patient.inbox_key();
            self.query()?.open_inbox(handle, key).await?;
            self.keep().await?;
        }
        Ok(enrolment)
    }

    /// Asks for a later end of the certificate.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn renew(&mut self) -> Result<(), WorkError> {
        let subject = begun(self.state.subject, "patient")?;
        let key = IdempotencyKey::random();
        self.centre()?.renew(subject, &key).await?;
        Ok(())
    }

    /// The inbox's handle and salt, for a doctor who wants to ask.
    pub fn inbox(&self) -> (InboxHandle, [u8; 16]) {
        self.state.patient.inbox()
    }

    /// Begins an episode: binds the account to the hospital's UID, and hands SK_D and the public keys
    /// to the doctor, sealed.
    ///
    /// # Errors
    /// [`WorkError`].
    #[instrument(target = TRACED, name = "2 begin episode", skip_all)]
    pub async fn begin_episode(
        &mut self,
        institution: InstitutionId,
        uid: &Uid,
        doctor: DoctorId,
    ) -> Result<EpisodeView, WorkError> {
        if self.state.patient.certificate().is_none() {
            return not(
                "the registration centre has not certified this patient yet: see `willis patient status`",
            );
        }
        if self.state.handovers.len() >= OUTGOING_MAX {
            return not(TOO_MANY_ON_THE_WAY);
        }
        self.follow_centre().await?;
        let hospital = self.hospital(institution).await?;
        let ours = self
            .state
            .patient
            .episodes()
            .any(|(_, one)| one.institution == institution && &one.uid == uid);
        let bound = hospital.bind_account(uid).await;
        if !(ours && is_unknown(&bound) && self.take_uid_over(institution, uid).await?) {
            bound?;
        }
        let found = hospital.doctor(doctor).await?;
        if found.blocked.is_some() {
            return not("the hospital has blocked this doctor: ask its desk");
        }
        let certificate = parties::Certificate::decode(&found.certificate.0)?;
        let parties::Holder::Doctor(keys) = certificate.holder_unverified() else {
            return not("the hospital gave a certificate that is not a doctor's: tell its desk");
        };
        if keys.id != doctor || keys.institution != institution {
            return not("the hospital gave another doctor's certificate: tell its desk");
        }
        let hash = KeyHash::from(keys.hpke.hash());
        let Some(agreed) = self.network.client().agreed_key_soon(hash).await? else {
            return not(
                "the doctor's key is not in force on the chain: ask the doctor to renew it",
            );
        };
        let (place, sealed) = self.state.patient.begin_episode(
            &certificate,
            &agreed,
            uid.clone(),
            now(),
            &mut self.rng,
        )?;
        // Before it is sent: a number is never used twice.
        self.state.handovers.push(Handover {
            institution,
            uid: uid.clone(),
            doctor,
            sealed,
        });
        self.save()?;
        let delivered = self.deliver().await;
        self.keep().await?;
        if let Err(error) = delivered {
            return not(format!(
                "the episode is begun, and its doctor does not have it yet: {}; each later command tries again",
                client::sentence(&error)
            ));
        }
        let views = self.episodes();
        let at = self.places().iter().position(|one| *one == place);
        match at.and_then(|at| views.get(at).cloned()) {
            Some(view) => Ok(view),
            None => not("the episode is not in the directory"),
        }
    }

    /// Sends on what was made and has not arrived yet, since a service was away. Each is tried; the
    /// first failure is told.
    async fn deliver(&mut self) -> Result<(), WorkError> {
        let mut failure = Ok(());
        let mut at = 0;
        while let Some(handover) = self.state.handovers.get(at) {
            let hospital = self.hospital(handover.institution).await?;
            let (institution, uid) = (handover.institution, handover.uid.clone());
            let (doctor, sealed) = (handover.doctor, handover.sealed.clone());
            let mut handed = hospital.hand_over(&uid, doctor, sealed.clone()).await;
            if is_unknown(&handed)
                && matches!(self.take_uid_over(institution, &uid).await, Ok(true))
            {
                handed = hospital.hand_over(&uid, doctor, sealed).await;
            }
            match handed {
                Ok(_) => {
                    self.state.handovers.remove(at);
                }
                Err(error) => {
                    failure = failure.and(Err(error.into()));
                    at += 1;
                }
            }
        }
        let query = self.query()?;
        failure = failure.and(deliver_all(&mut self.state.answers, &self.network, &query).await);
        self.save()?;
        failure
    }

    /// Does what earlier commands could not, since a service was away: hand-overs, answers, the copy of
    /// the directory. What is still not done is told, and stays.
    pub async fn catch_up(&mut self, progress: &mut dyn Progress) {
        if !self.state.handovers.is_empty() || !self.state.answers.is_empty() {
            progress.step("sending on what an earlier command could not");
            if let Err(error) = self.deliver().await {
                progress.step(&client::sentence(&error));
            }
        }
        if self.state.left.uids || self.state.left.findable {
            progress.step("finishing what the takeover left");
            if let Err(error) = self.settle_takeover().await {
                progress.step(&client::sentence(&error));
            }
        }
        if self.state.behind {
            progress.step("keeping the directory with the registration centre");
            if let Err(error) = self.sync().await {
                progress.step(&client::sentence(&error));
            }
        }
    }

    fn places(&self) -> Vec<EpisodePlace> {
        self.state
            .patient
            .episodes()
            .map(|(place, _)| place)
            .collect()
    }

    fn place(&self, number: usize) -> Result<(EpisodePlace, &Episode), WorkError> {
        let found = number
            .checked_sub(1)
            .and_then(|at| self.state.patient.episodes().nth(at));
        match found {
            Some(found) => Ok(found),
            None => not("there is no such episode on this device: see `willis patient episodes`"),
        }
    }

    /// The episodes of this patient.
    pub fn episodes(&self) -> Vec<EpisodeView> {
        let view = |(at, (_, episode)): (usize, (EpisodePlace, &Episode))| EpisodeView {
            number: at + 1,
            institution: episode.institution,
            doctor: episode.doctor,
            uid: String::from_utf8_lossy(episode.uid.as_bytes()).into_owned(),
            records: episode
                .receipts
                .iter()
                .map(|receipt| receipt.transaction)
                .collect(),
            under_former_keys: self.state.patient.is_under_former_keys(episode),
        };
        self.state
            .patient
            .episodes()
            .enumerate()
            .map(view)
            .collect()
    }

    /// Fetches doctors' receipts, checks each against chain and container, and keeps those that fit.
    /// Gives how many are new, and what was wrong with the others, which stay at the hospital.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn receipts(
        &mut self,
        progress: &mut dyn Progress,
    ) -> Result<(usize, Vec<String>), WorkError> {
        let (mut new, mut wrong) = (0, Vec::new());
        for (institution, uid) in self.mailboxes()? {
            let hospital = self.hospital(institution).await?;
            let mut found = hospital.receipts(&uid).await;
            if is_unknown(&found) && self.take_uid_over(institution, &uid).await? {
                found = hospital.receipts(&uid).await;
            }
            for waiting in found? {
                progress.step("checking a receipt against the chain and its container");
                match self.check(institution, &uid, &waiting.sealed.0).await {
                    Ok(()) => {
                        new += 1;
                        self.save()?;
                        hospital.remove_receipt(waiting.id).await?;
                    }
                    Err(WorkError::Client(error)) => return Err(error.into()),
                    Err(error) => wrong.push(format!(
                        "a receipt of doctor {} at {}: {}",
                        waiting.doctor,
                        self.network.name_of(institution).await,
                        client::sentence(&error)
                    )),
                }
            }
        }
        if new > 0 {
            self.keep().await?;
        }
        Ok((new, wrong))
    }

    async fn check(
        &mut self,
        institution: InstitutionId,
        uid: &Uid,
        sealed: &[u8],
    ) -> Result<(), WorkError> {
        let receipt = self.state.patient.open_receipt(sealed)?;
        let record = self.network.record(receipt.transaction).await?;
        let address = self.state.patient.where_stored(&receipt, &record)?;
        let start = self
            .network
            .cloud_reader()?
            .start(address, scheme::HEADER_BYTES_MAX)
            .await?;
        let here = self.network.consortium();
        let (header, _) = Header::decode(&here, &start)?;
        let epochs = self.network.client().writer_epochs(institution).await?;
        let found = epochs
            .epochs
            .iter()
            .find(|(_, key)| key.compressed() == record.statement.writer_key.compressed());
        let Some((epoch, _)) = found else {
            return not("the record's index key is none of the hospital's on the chain: complain");
        };
        let writer = Writer {
            institution,
            epoch: *epoch,
        };
        // Which of the episodes under this UID it is says the record itself.
        let candidates: Vec<_> = self
            .state
            .patient
            .episodes()
            .filter(|(_, one)| one.institution == institution && &one.uid == uid)
            .map(|(place, _)| place)
            .collect();
        let mut last = None;
        for place in candidates {
            let checked = self.state.patient.check_receipt(
                place,
                receipt.clone(),
                &record,
                writer,
                &header,
                &[],
            );
            match checked {
                Ok(mut check) => {
                    run_search(self.network.client(), check.search()).await?;
                    return Ok(self.state.patient.keep_receipt(check)?);
                }
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error.into()),
            None => not(
                "there is no episode under this UID on this device: restore it from the 24 words",
            ),
        }
    }

    /// The patient's own reading of a record, from the cloud, without asking anybody.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn read_own(
        &self,
        id: TransactionId,
        into: &Path,
        progress: &mut dyn Progress,
    ) -> Result<OpenedRecord, WorkError> {
        must_be_fresh(into)?;
        let own = self.fetch_own(id, progress).await?;
        let keys: Vec<_> = own
            .sections
            .iter()
            .map(|section| (section.index, section.key.clone()))
            .collect();
        open_into(&own.container, &own.header, &keys, into)
    }

    /// A record of this patient's as it lies in the cloud, with what opens each of its sections.
    async fn fetch_own(
        &self,
        id: TransactionId,
        progress: &mut dyn Progress,
    ) -> Result<OwnContainer, WorkError> {
        let found = self.state.patient.episodes().find_map(|(place, episode)| {
            let receipt = episode
                .receipts
                .iter()
                .find(|receipt| receipt.transaction == id)?;
            Some((place, receipt))
        });
        let Some((place, receipt)) = found else {
            return not(
                "no receipt of this device names that record: see `willis patient episodes`",
            );
        };
        let record = self.network.record(id).await?;
        let address = self.state.patient.where_stored(receipt, &record)?;
        let (container, header) = from_cloud(&self.network, address, id, progress).await?;
        let mut sections = Vec::new();
        for class in SectionClass::ALL {
            let code = ClassCode::from(class);
            let index = self
                .state
                .patient
                .label_key(place, code)
                .and_then(|label| header.find(&label));
            let Some(index) = index else {
                continue;
            };
            let secret = self.state.patient.own_section(place, code, &header);
            let opened = secret.and_then(|secret| {
                let key = secret.content_key(&header, index).ok()?;
                Some((key, secret.disclose()))
            });
            let Some((key, secret)) = opened else {
                return not("a section of the container does not open with this patient's key");
            };
            sections.push(OwnSection {
                class,
                index,
                key,
                secret,
            });
        }
        Ok(OwnContainer {
            container,
            header,
            sections,
        })
    }

    /// Which record of the same stay one of this patient's amends: the one of the digest and author that
    /// its author sealed into it; `None` if this device has no receipt of such a record.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn amended_by(
        &self,
        id: TransactionId,
        amends: &Amends,
    ) -> Result<Option<TransactionId>, WorkError> {
        let mut episodes = self.state.patient.episodes().map(|(_, episode)| episode);
        let of = |receipts: &[StoredReceipt]| receipts.iter().any(|one| one.transaction == id);
        let Some(episode) = episodes.find(|episode| of(&episode.receipts)) else {
            return Ok(None);
        };
        // Mostly one of the newest.
        for receipt in episode.receipts.iter().rev().take(AMENDED_LOOKED_AT) {
            let statement = self.network.record(receipt.transaction).await?.statement;
            if statement.digest == amends.digest {
                let same = statement.author == amends.author;
                return Ok(same.then_some(receipt.transaction));
            }
        }
        Ok(None)
    }

    /// Appoints a family agent for one episode; what is returned is for the agent alone.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn appoint(
        &mut self,
        number: usize,
        offer: &AgentOffer,
        agent: InboxHandle,
        scope: &[SectionClass],
        days: u64,
    ) -> Result<(AppointmentId, Vec<u8>), WorkError> {
        let (place, episode) = self.place(number)?;
        let epochs = self
            .network
            .client()
            .writer_epochs(episode.institution)
            .await?;
        let scope: Vec<ClassCode> = scope.iter().copied().map(ClassCode::from).collect();
        let end = Timestamp::new(now().number() + days.saturating_mul(24 * 60 * 60 * 1000));
        let (id, sealed) =
            self.state
                .patient
                .appoint(place, offer, &scope, end, &epochs, &mut self.rng)?;
        self.save()?;
        let (handle, _) = self.state.patient.inbox();
        self.query()?.name_agent(handle, agent).await?;
        self.keep().await?;
        Ok((id, sealed))
    }

    /// Withdraws an appointment: no node takes or serves a grant under it any more.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn withdraw(&mut self, id: &AppointmentId) -> Result<(), WorkError> {
        let withdrawal = self.state.patient.withdraw(id)?;
        self.network.submit(&withdrawal).await?;
        self.state.patient.is_withdrawn(id);
        self.save()?;
        let (handle, _) = self.state.patient.inbox();
        self.query()?.remove_agent(handle).await?;
        self.keep().await
    }

    /// The appointments that this patient made.
    pub fn appointments(&self) -> Vec<GivenAppointmentView> {
        let places = self.places();
        let view = |given: &GivenAppointment| {
            let terms = given.terms.as_ref();
            let at = terms.and_then(|(of, ..)| places.iter().position(|place| place == of));
            GivenAppointmentView {
                id: hex::encode(given.id.as_bytes()),
                episode: at.map(|at| at + 1),
                scope: terms.map_or_else(Vec::new, |(_, scope, _)| known_classes(scope)),
                end: terms.map(|(.., end)| end.number()),
                withdrawn: given.withdrawn,
            }
        };
        self.state.patient.appointments().iter().map(view).collect()
    }
}

/// Whether a service says that what a call names is not the caller's, or not there.
fn is_unknown<T>(answer: &Result<T, ClientError>) -> bool {
    matches!(answer, Err(error) if error.is_not_found())
}

/// Begins an enrolment if there is none, and gives the centre the patient's public keys if it has none.
async fn give_keys(
    centre: &CentreClient,
    patient: &Patient,
    subject: &mut Option<Subject>,
    identity: Identity,
    replaces: Option<Subject>,
) -> Result<(), WorkError> {
    let subject = match *subject {
        Some(subject) => subject,
        None => {
            let begin = BeginEnrolment {
                applicant: Applicant::Patient(identity),
                replaces: replaces.map(Subject::number),
            };
            let key = begins(&patient.account_key(CENTRE), &begin);
            let begun = centre.begin(&begin, &key).await?;
            *subject.insert(Subject::new(begun.subject))
        }
    };
    give_missing_keys(centre, patient, subject).await
}

/// Gives the centre the patient's public keys if it has none for this enrolment.
async fn give_missing_keys(
    centre: &CentreClient,
    patient: &Patient,
    subject: Subject,
) -> Result<(), WorkError> {
    let found = centre.enrolment(subject).await?;
    if matches!(found.state, EnrolmentState::KeysMissing) {
        let keys = EnrolmentKeys::patient(&patient.enrol(subject));
        let key = IdempotencyKey::random();
        centre.give_keys(subject, &keys, &key).await?;
    }
    Ok(())
}

/// Of these codes those that this release has a name for.
fn known_classes(codes: &[ClassCode]) -> Vec<SectionClass> {
    let named = |code: &ClassCode| SectionClass::from_code(code.code());
    codes.iter().filter_map(named).collect()
}
