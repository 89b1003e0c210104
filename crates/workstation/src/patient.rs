//! A patient's device: the root seed and the directory in a keystore, and every step of the patient's:
//! enrolment, episodes, receipts, answers, revocation, the access log, the own reading.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use client::{
    AnswerKind, Applicant, Base64, BeginEnrolment, CentreClient, ClientError, EncryptedDirectory,
    EnrolmentKeys, EnrolmentState, HospitalClient, IdempotencyKey, Identity, QueryClient,
    SystemRandom, now,
};
use ledger::{KeyHash, RequestCommitment, Transaction, TransactionId};
use parties::{
    AgentOffer, AgreedKey, AnswerNote, Decision, EPISODE_SCAN_GAP, Episode, EpisodePlace, Patient,
    ServingNodes, VerifiedRequest,
};
use rand_core::Rng;
use record::SectionClass;
use scheme::{
    AppointmentId, ClassCode, ConsortiumId, Decoder, DoctorId, Encoder, EpisodeNumber, GrantId,
    InboxHandle, InstitutionId, KeyVersion, Keyword, RootSeed, SigningKey, Subject, Threshold,
    Timestamp, Uid, Writer,
};
use zeroize::Zeroizing;

use crate::doctor::temporary;
use crate::enrolment::{Enrolment, begun, settle};
use crate::error::{WorkError, not};
use crate::keystore::{Keystore, KeystoreKind};
use crate::network::{FINAL, Network, Progress, run_search};
use crate::reading::{download, header_of, must_be_fresh, open_into};
use crate::shelf::PutBack;
use crate::words::{from_words, to_words};

const VERSION: u8 = 1;
/// The directory in the keystore.
const DIRECTORY_BYTES_MAX: usize = 4 << 20;
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
}

/// A request that waits for the patient's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedView {
    /// Its commitment in hexadecimal.
    pub id: String,
    /// Who asks: id and institution of each doctor, certified and in force.
    pub doctors: Vec<(DoctorId, InstitutionId)>,
    /// Why, in the doctor's words.
    pub purpose: String,
    /// The section classes asked for.
    pub classes: Vec<SectionClass>,
    /// For how many episodes it can be answered.
    pub episodes: usize,
    /// Until when it can be answered, in ms since 1970.
    pub not_after: u64,
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
}

/// One access of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessView {
    /// In which grant.
    pub gid: String,
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
    seed: RootSeed,
    subject: Option<Subject>,
    /// Tells this device's copies of the directory from another's of the same patient.
    device: [u8; 16],
    /// Version of the directory at the centre.
    kept: u64,
    /// Whether the centre's copy is older than this one.
    behind: bool,
    patient: Patient,
    rng: SystemRandom,
}

impl PatientDevice {
    /// Makes a seed for a patient, in a keystore that is not there yet.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn create(network: Network, path: &Path, passphrase: &str) -> Result<Self, WorkError> {
        let seed = RootSeed::random(&mut SystemRandom);
        Self::with_seed(network, path, passphrase, seed, None)
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
                device.patient = Patient::new(
                    device.network.consortium(),
                    device.network.founding_keys(),
                    &seed,
                    KeyVersion::new(0),
                    &mut device.rng,
                );
                device.seed = seed;
                device.subject = Some(subject);
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
        let mut device = Self::with_seed(network, path, passphrase, seed, None)?;
        progress.step("fetching the directory that the registration centre keeps");
        let found = match device.centre()?.directory().await {
            Ok(found) => found,
            Err(error) => {
                // Nothing is lost with it: the words make the same keystore again.
                let _ = std::fs::remove_file(path);
                return Err(error.into());
            }
        };
        device.take_directory(&found)?;
        device.save()?;
        progress.step("looking for episodes that began after it was kept");
        device.scan(progress).await?;
        device.sync().await?;
        Ok(device)
    }

    fn with_seed(
        network: Network,
        path: &Path,
        passphrase: &str,
        seed: RootSeed,
        subject: Option<Subject>,
    ) -> Result<Self, WorkError> {
        let mut rng = SystemRandom;
        let patient = Patient::new(
            network.consortium(),
            network.founding_keys(),
            &seed,
            KeyVersion::new(0),
            &mut rng,
        );
        let mut device = [0; 16];
        rng.fill_bytes(&mut device);
        let content = encode(&seed, subject, &device, 0, false, &patient);
        let store = Keystore::create(path, KeystoreKind::Patient, passphrase, &content)?;
        Ok(Self {
            network,
            store,
            seed,
            subject,
            device,
            kept: 0,
            behind: false,
            patient,
            rng,
        })
    }

    /// Opens a patient's keystore.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn open(network: Network, path: &Path, passphrase: &str) -> Result<Self, WorkError> {
        const WHAT: &str = "the patient's keystore";
        let (store, content) = Keystore::open(path, KeystoreKind::Patient, passphrase)?;
        let mut from = Decoder::new(&content);
        if from.u8(WHAT)? != VERSION {
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
        let directory = from.var(WHAT, DIRECTORY_BYTES_MAX)?;
        from.finish(WHAT)?;
        let patient = Patient::restore(
            network.consortium(),
            network.founding_keys(),
            &seed,
            KeyVersion::new(0),
            directory,
        )?;
        Ok(Self {
            network,
            store,
            seed,
            subject: (subject != 0).then(|| Subject::new(subject)),
            device,
            kept,
            behind,
            patient,
            rng: SystemRandom,
        })
    }

    fn save(&self) -> Result<(), WorkError> {
        let content = encode(
            &self.seed,
            self.subject,
            &self.device,
            self.kept,
            self.behind,
            &self.patient,
        );
        Ok(self.store.save(&content)?)
    }

    /// Saves, and keeps the directory with the centre. If that fails the next command does it.
    async fn keep(&mut self) -> Result<(), WorkError> {
        self.behind = true;
        self.save()?;
        // What was done is done: that the copy is behind stands in the keystore.
        let _ = self.sync().await;
        Ok(())
    }

    /// Whether the centre's copy of the directory is older than this one.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Keeps the directory with the registration centre, encrypted under a key of the seed's.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn sync(&mut self) -> Result<(), WorkError> {
        let centre = self.centre()?;
        // A second time only if an answer was lost: then this device's own copy stands there.
        for _ in 0..2 {
            let version = self.kept + 1;
            let directory = self.seal_directory(version);
            let key = IdempotencyKey::random();
            match centre.keep_directory(&directory, &key).await {
                Ok(_) => {
                    self.kept = version;
                    self.behind = false;
                    return self.save();
                }
                Err(ClientError::Refused(problem)) if problem.status() == 409 => {
                    let found = centre.directory().await?;
                    let (device, _) = self.open_directory(&found)?;
                    if device != self.device {
                        break;
                    }
                    self.kept = found.version;
                }
                Err(error) => return Err(error.into()),
            }
        }
        not(
            "another device with your 24 words has kept a newer directory: go on there, or restore this one from the words",
        )
    }

    fn seal_directory(&mut self, version: u64) -> EncryptedDirectory {
        let here = self.network.consortium();
        let cipher = Aes256Gcm::new(self.patient.directory_key().expose_bytes().into());
        let mut nonce = [0; 12];
        self.rng.fill_bytes(&mut nonce);
        let directory = self.patient.directory();
        let mut plain = Zeroizing::new(Vec::with_capacity(16 + directory.len()));
        plain.extend_from_slice(&self.device);
        plain.extend_from_slice(&directory);
        let payload = Payload {
            msg: &plain,
            aad: &bound(&here, version),
        };
        let sealed = cipher
            .encrypt(&Nonce::from(nonce), payload)
            .expect("a directory is far below the cipher's limit of 64 GiB");
        let mut encrypted = nonce.to_vec();
        encrypted.extend_from_slice(&sealed);
        EncryptedDirectory {
            version,
            encrypted: Base64(encrypted),
        }
    }

    /// Which device kept a directory, and the directory.
    fn open_directory(
        &self,
        found: &EncryptedDirectory,
    ) -> Result<([u8; 16], Zeroizing<Vec<u8>>), WorkError> {
        let here = self.network.consortium();
        let Some((nonce, sealed)) = found.encrypted.0.split_first_chunk::<12>() else {
            return not(NO_DIRECTORY);
        };
        let cipher = Aes256Gcm::new(self.patient.directory_key().expose_bytes().into());
        let payload = Payload {
            msg: sealed,
            aad: &bound(&here, found.version),
        };
        let opened = cipher.decrypt(&Nonce::from(*nonce), payload);
        let plain = Zeroizing::new(opened.unwrap_or_default());
        match plain.split_first_chunk::<16>() {
            Some((device, directory)) => Ok((*device, Zeroizing::new(directory.to_vec()))),
            None => not(NO_DIRECTORY),
        }
    }

    fn take_directory(&mut self, found: &EncryptedDirectory) -> Result<(), WorkError> {
        let (_, directory) = self.open_directory(found)?;
        self.patient = Patient::restore(
            self.network.consortium(),
            self.network.founding_keys(),
            &self.seed,
            KeyVersion::new(0),
            &directory,
        )?;
        self.kept = found.version;
        self.subject = self.patient.certificate().map(|one| one.subject());
        Ok(())
    }

    /// Looks for episodes after the last that is known, with each doctor and UID, until
    /// [`EPISODE_SCAN_GAP`] numbers in a row have no record.
    async fn scan(&mut self, progress: &mut dyn Progress) -> Result<(), WorkError> {
        let known: BTreeSet<_> = self
            .patient
            .episodes()
            .map(|(_, one)| (one.institution, one.doctor, one.uid.as_bytes().to_vec()))
            .collect();
        for (institution, doctor, uid) in known {
            let uid = Uid::new(&uid)?;
            let epochs = self.network.client().writer_epochs(institution).await?;
            let numbers = self.patient.episodes();
            let last = numbers
                .filter(|(_, one)| one.doctor == doctor && one.uid == uid)
                .map(|(_, one)| one.number.number())
                .max()
                .unwrap_or(0);
            let (mut next, mut empty) = (last + 1, 0);
            let mut found = Vec::new();
            while empty < EPISODE_SCAN_GAP {
                let number = EpisodeNumber::new(next);
                let mut any = false;
                for (epoch, key) in &epochs.epochs {
                    let who = (institution, doctor);
                    let mut search = self
                        .patient
                        .episode_search(who, &uid, number, (*epoch, key));
                    run_search(self.network.client(), &mut search).await?;
                    any |= search.is_found();
                }
                if any {
                    found.push(next);
                    empty = 0;
                } else {
                    empty += 1;
                }
                next += 1;
            }
            let Some(last_found) = found.last() else {
                continue;
            };
            progress.step("found an episode that the directory did not have");
            // Those between without a record are taken in too, so that no number is used twice.
            for number in last + 1..=*last_found {
                let number = EpisodeNumber::new(number);
                self.patient
                    .recover_episode((institution, doctor), &uid, number)?;
            }
        }
        self.behind = true;
        self.save()
    }

    /// The 24 words of the seed.
    pub fn words(&self) -> Zeroizing<String> {
        to_words(&self.seed)
    }

    fn centre(&self) -> Result<CentreClient, WorkError> {
        self.network.centre(self.patient.account_key(CENTRE))
    }

    fn query(&self) -> Result<QueryClient, WorkError> {
        self.network.query(self.patient.account_key(QUERY))
    }

    fn account_at(&self, institution: InstitutionId) -> SigningKey {
        let name = client::ServiceName::Hospital(institution).to_string();
        self.patient.account_key(&name)
    }

    fn hospital(&self, institution: InstitutionId) -> Result<HospitalClient, WorkError> {
        let key = self.account_at(institution);
        self.network.hospital(institution, key)
    }

    async fn follow_centre(&mut self) -> Result<(), WorkError> {
        let agreed = self.network.client().centre_keys().await?;
        self.patient.follow_centre(&agreed);
        Ok(())
    }

    /// Begins the enrolment and gives the centre the public keys; safe to repeat.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn enrol(
        &mut self,
        identity: Identity,
        replaces: Option<u64>,
    ) -> Result<(), WorkError> {
        let centre = self.centre()?;
        if self.subject.is_none() {
            let begin = BeginEnrolment {
                applicant: Applicant::Patient(identity),
                replaces,
            };
            let text = Zeroizing::new(serde_json::to_vec(&begin).unwrap_or_default());
            let begun = centre.begin(&begin, &IdempotencyKey::of(&text)).await?;
            self.subject = Some(Subject::new(begun.subject));
            self.save()?;
        }
        let subject = begun(self.subject, "patient")?;
        let found = centre.enrolment(subject).await?;
        if matches!(found.state, EnrolmentState::KeysMissing) {
            let keys = EnrolmentKeys::patient(&self.patient.enrol(subject));
            centre
                .give_keys(subject, &keys, &IdempotencyKey::random())
                .await?;
        }
        Ok(())
    }

    /// How far the enrolment is; waits for its end within a bound. Once it is registered the
    /// certificate is checked and kept, and the inbox opened.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn enrolment(&mut self, bound: Duration) -> Result<Enrolment, WorkError> {
        let subject = begun(self.subject, "patient")?;
        let (enrolment, certificate) = settle(&self.centre()?, subject, bound).await?;
        if let Some(certificate) = certificate {
            self.follow_centre().await?;
            self.patient.accept_certificate(certificate, now())?;
            self.save()?;
            let (handle, _) = self.patient.inbox();
            let key = self.patient.inbox_key();
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
        let subject = begun(self.subject, "patient")?;
        let key = IdempotencyKey::random();
        self.centre()?.renew(subject, &key).await?;
        Ok(())
    }

    /// The inbox's handle and salt, for a doctor who wants to ask.
    pub fn inbox(&self) -> (InboxHandle, [u8; 16]) {
        self.patient.inbox()
    }

    /// Begins an episode: binds the account to the hospital's UID, and hands SK_D and the public keys
    /// to the doctor, sealed.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn begin_episode(
        &mut self,
        institution: InstitutionId,
        uid: &Uid,
        doctor: DoctorId,
    ) -> Result<EpisodeView, WorkError> {
        if self.patient.certificate().is_none() {
            return not(
                "the registration centre has not certified this patient yet: see `willis patient status`",
            );
        }
        self.follow_centre().await?;
        let hospital = self.hospital(institution)?;
        let ours = self
            .patient
            .episodes()
            .any(|(_, one)| one.institution == institution && &one.uid == uid);
        if !ours {
            hospital.bind_account(uid).await?;
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
        let (place, sealed) =
            self.patient
                .begin_episode(&certificate, &agreed, uid.clone(), now(), &mut self.rng)?;
        // Before it is sent: a number is never used twice.
        self.save()?;
        hospital.hand_over(uid, doctor, sealed).await?;
        self.keep().await?;
        let views = self.episodes();
        let at = self.places().iter().position(|one| *one == place);
        match at.and_then(|at| views.get(at).cloned()) {
            Some(view) => Ok(view),
            None => not("the episode is not in the directory"),
        }
    }

    fn places(&self) -> Vec<EpisodePlace> {
        self.patient.episodes().map(|(place, _)| place).collect()
    }

    fn place(&self, number: usize) -> Result<(EpisodePlace, &Episode), WorkError> {
        let found = number
            .checked_sub(1)
            .and_then(|at| self.patient.episodes().nth(at));
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
        };
        self.patient.episodes().enumerate().map(view).collect()
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
        let mailboxes: BTreeSet<_> = self
            .patient
            .episodes()
            .map(|(_, one)| (one.institution, one.uid.as_bytes().to_vec()))
            .collect();
        let (mut new, mut wrong) = (0, Vec::new());
        for (institution, uid) in mailboxes {
            let uid = Uid::new(&uid)?;
            let hospital = self.hospital(institution)?;
            for waiting in hospital.receipts(&uid).await? {
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
                        self.network.name_of(institution),
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
        let receipt = self.patient.open_receipt(sealed)?;
        let record = self.network.record(receipt.transaction).await?;
        let address = self.patient.where_stored(&receipt, &record)?;
        let start = self
            .network
            .cloud_reader()?
            .start(address, scheme::HEADER_BYTES_MAX)
            .await?;
        let here = self.network.consortium();
        let (header, _) = scheme::Header::decode(&here, &start)?;
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
            .patient
            .episodes()
            .filter(|(_, one)| one.institution == institution && &one.uid == uid)
            .map(|(place, _)| place)
            .collect();
        let mut last = None;
        for place in candidates {
            let checked =
                self.patient
                    .check_receipt(place, receipt.clone(), &record, writer, &header, &[]);
            match checked {
                Ok(mut check) => {
                    run_search(self.network.client(), check.search()).await?;
                    return Ok(self.patient.keep_receipt(check)?);
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

    /// The requests that wait for an answer; waits for the first within a bound. Those that do not
    /// stand are left out and said apart.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn requests(
        &mut self,
        bound: Duration,
    ) -> Result<(Vec<AskedView>, Vec<String>), WorkError> {
        self.follow_centre().await?;
        let query = self.query()?;
        let waiting = wait_for_requests(&query, bound).await?;
        let (mut asked, mut wrong) = (Vec::new(), Vec::new());
        for request in waiting {
            match self.patient.open_request(&request.sealed.0, now()) {
                Ok(request) => asked.push(asked_view(&request)),
                Err(error) => {
                    wrong.push(format!(
                        "request {}: {}",
                        request.id,
                        client::sentence(&error)
                    ));
                }
            }
        }
        Ok((asked, wrong))
    }

    async fn asked(&mut self, id: &str) -> Result<VerifiedRequest, WorkError> {
        self.follow_centre().await?;
        let waiting = self.query()?.inbox().await?.waiting;
        let sealed = one_of(&waiting, id)?;
        Ok(self.patient.open_request(sealed, now())?)
    }

    /// Answers a request with grants: to the accounting hospitals, to the chain, and to the query
    /// manager with a note for each doctor.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn grant(
        &mut self,
        id: &str,
        grants: &Grants,
        progress: &mut dyn Progress,
    ) -> Result<Vec<GivenView>, WorkError> {
        let request = self.asked(id).await?;
        let client = self.network.client();
        let agreed = in_force(&self.network, &request).await?;
        let keys = client.node_keys().await?;
        let nodes = ServingNodes {
            set: client.nodes(),
            keys: &keys,
        };
        let threshold = threshold(&self.network, &nodes, grants.threshold)?;
        let classes = granted_classes(&request, &grants.classes)?;
        let keywords = if grants.keywords.is_empty() {
            vec![Keyword::any_record()]
        } else {
            grants.keywords.clone()
        };
        let time = now();
        let expiry = Timestamp::new(time.number() + grants.minutes.saturating_mul(60_000));
        let (mut decisions, mut epochs) = (Vec::new(), Vec::new());
        for number in &grants.episodes {
            let (place, episode) = self.place(*number)?;
            let institution = episode.institution;
            epochs.push(client.writer_epochs(institution).await?);
            decisions.push(Decision {
                episode: place,
                classes: classes.clone(),
                keywords: keywords.clone(),
                not_before: Timestamp::new(time.number().saturating_sub(BEGINS_BEFORE_MS)),
                expiry,
                threshold,
            });
        }
        if decisions.is_empty() {
            return not("a grant opens at least one episode: see `willis patient episodes`");
        }
        progress.step("making the grants");
        let packages = self.patient.answer(
            &request,
            &decisions,
            &agreed,
            &epochs,
            &nodes,
            &mut self.rng,
        )?;
        // Their revocation keys are kept before anything leaves this device.
        self.save()?;
        progress.step("giving them to the accounting hospitals and to the chain");
        for package in &packages {
            self.network
                .client()
                .give(package, threshold.count(), FINAL)
                .await?;
        }
        progress.step("telling the doctors");
        let note = AnswerNote::granted(&self.network.consortium(), &packages);
        let recipients = request.note_recipients();
        let notes = self.patient.seal_note(&note, &recipients, &mut self.rng)?;
        let query = self.query()?;
        let told = query
            .answer(
                request.commitment(),
                AnswerKind::Answered,
                Some(expiry),
                notes,
            )
            .await;
        self.keep().await?;
        told?;
        let given = note.grants();
        let mut views = self.grants().await?;
        views.retain(|view| {
            given
                .iter()
                .any(|gid| hex::encode(gid.as_bytes()) == view.gid)
        });
        Ok(views)
    }

    /// Declines a request.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn decline(&mut self, id: &str) -> Result<(), WorkError> {
        let waiting = self.query()?.inbox().await?.waiting;
        let commitment = commitment_of(&waiting, id)?;
        self.query()?
            .answer(commitment, AnswerKind::Declined, None, Vec::new())
            .await?;
        Ok(())
    }

    /// The grants that this patient gave, with what the chain says of them.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn grants(&self) -> Result<Vec<GivenView>, WorkError> {
        let places = self.places();
        let mut views = Vec::new();
        for grant in self.patient.grants() {
            let found = self.network.client().agreed_grant(grant.gid).await?;
            let at = places.iter().position(|place| *place == grant.episode);
            views.push(GivenView {
                gid: hex::encode(grant.gid.as_bytes()),
                episode: at.map_or(0, |at| at + 1),
                expiry: grant.expiry.number(),
                revoked: found.map(|found| found.state.revoked),
            });
        }
        Ok(views)
    }

    fn given(&self, gid: &str) -> Result<GrantId, WorkError> {
        let mut found = self
            .patient
            .grants()
            .iter()
            .map(|grant| grant.gid)
            .filter(|own| hex::encode(own.as_bytes()).starts_with(gid));
        match (found.next(), found.next()) {
            (Some(found), None) => Ok(found),
            (None, _) => not("this device gave no such grant: see `willis patient grants`"),
            (Some(_), Some(_)) => not("several grants begin so: give more digits of the gid"),
        }
    }

    /// Revokes a grant: final on the chain, and its doctors are told.
    ///
    /// # Errors
    /// [`WorkError`]; whether the revocation is final says the first part of the text.
    pub async fn revoke(
        &mut self,
        gid: &str,
        progress: &mut dyn Progress,
    ) -> Result<(), WorkError> {
        let gid = self.given(gid)?;
        let revocation = self.patient.revoke(&gid)?;
        progress.step("recording the revocation on the chain");
        self.network.submit(&revocation).await?;
        progress.step("telling the doctors");
        let found = self.patient.grants().iter().find(|grant| grant.gid == gid);
        let Some(recipients) = found.map(|grant| grant.recipients.clone()) else {
            return Ok(());
        };
        let note = AnswerNote::Revoked(vec![gid]);
        let notes = self.patient.seal_note(&note, &recipients, &mut self.rng)?;
        let told = self.query()?.add_notes(recipients.request, notes).await;
        match told {
            Ok(_) => Ok(()),
            Err(error) => not(format!(
                "the grant is revoked, but its doctors could not be told: {}",
                client::sentence(&error)
            )),
        }
    }

    /// The access log of a grant: every access that the chain has recorded under it.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn log(
        &self,
        gid: &str,
        progress: &mut dyn Progress,
    ) -> Result<Vec<AccessView>, WorkError> {
        let gid = self.given(gid)?;
        let client = self.network.client();
        let Some(on_chain) = client.agreed_grant(gid).await? else {
            return not("the chain has no such grant: nothing was read under it");
        };
        let end = client.height().await?;
        let mut from = on_chain.state.recorded;
        // Its own block names the access keys; whoever reads them reads the log.
        let mut keys = BTreeSet::new();
        let mut views = Vec::new();
        let whole = end.number().saturating_sub(from.number());
        while from <= end {
            let headers = match client.headers(from).await {
                // The newest block's certificate can come with the next block.
                Err(ClientError::Refused(_)) => break,
                headers => headers?,
            };
            for header in headers {
                progress.bytes(
                    whole.saturating_sub(end.number().saturating_sub(header.height.number())),
                    whole,
                );
                from = header.height.next();
                let past = header.time > on_chain.state.expiry;
                if past {
                    return Ok(views);
                }
                if header.height > end {
                    break;
                }
                let block = client.block(&header).await?;
                for transaction in block.transactions() {
                    match transaction {
                        Transaction::Grant(grant)
                            if GrantId::of(
                                &self.network.consortium(),
                                &grant.entry.revocation_key,
                            ) == gid =>
                        {
                            keys.extend(grant.entry.access_keys.iter().copied());
                        }
                        Transaction::Access(access) => {
                            for entry in &access.entries {
                                if keys.contains(&entry.access_key) {
                                    views.push(AccessView {
                                        gid: hex::encode(gid.as_bytes()),
                                        time: header.time.number(),
                                        record: self.patient.read_log(&gid, entry),
                                        access_key: hex::encode(entry.access_key.as_bytes()),
                                    });
                                }
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(views)
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
    ) -> Result<Vec<PutBack>, WorkError> {
        must_be_fresh(into)?;
        let found = self.patient.episodes().find_map(|(place, episode)| {
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
        let address = self.patient.where_stored(receipt, &record)?;
        let folder = temporary()?;
        let path = folder.path().join("container");
        progress.step("fetching the container from the cloud");
        download(&self.network, address, &record, &path, progress).await?;
        let header = header_of(&self.network.consortium(), &path)?;
        let mut sections = Vec::new();
        for class in SectionClass::ALL {
            let code = ClassCode::from(class);
            let index = self
                .patient
                .label_key(place, code)
                .and_then(|label| header.find(&label));
            let Some(index) = index else {
                continue;
            };
            let secret = self.patient.own_section(place, code, &header);
            let Some(Ok(key)) = secret.map(|secret| secret.content_key(&header, index)) else {
                return not("a section of the container does not open with this patient's key");
            };
            sections.push((index, key));
        }
        open_into(&path, &header, &sections, into)
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
            self.patient
                .appoint(place, offer, &scope, end, &epochs, &mut self.rng)?;
        self.save()?;
        let (handle, _) = self.patient.inbox();
        self.query()?.name_agent(handle, agent).await?;
        self.keep().await?;
        Ok((id, sealed))
    }

    /// Withdraws an appointment: no node takes or serves a grant under it any more.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn withdraw(&mut self, id: &AppointmentId) -> Result<(), WorkError> {
        let withdrawal = self.patient.withdraw(id)?;
        self.network.submit(&withdrawal).await?;
        let (handle, _) = self.patient.inbox();
        self.query()?.remove_agent(handle).await?;
        Ok(())
    }
}

const NO_DIRECTORY: &str = "the directory that the centre keeps does not open with these words: they are another patient's, or the centre's copy is damaged";

fn bound(consortium: &ConsortiumId, version: u64) -> Vec<u8> {
    scheme::enc(&[
        b"willis directory",
        consortium.as_bytes(),
        &version.to_be_bytes(),
    ])
}

fn encode(
    seed: &RootSeed,
    subject: Option<Subject>,
    device: &[u8; 16],
    kept: u64,
    behind: bool,
    patient: &Patient,
) -> Zeroizing<Vec<u8>> {
    let directory = patient.directory();
    let mut out = Encoder::of_secrets(1 + 32 + 8 + 16 + 8 + 1 + 4 + directory.len());
    out.u8(VERSION)
        .bytes(seed.expose_bytes())
        .u64(subject.map_or(0, Subject::number))
        .bytes(device)
        .u64(kept)
        .u8(u8::from(behind))
        .var(&directory);
    Zeroizing::new(out.finish())
}

/// What waits in an inbox, waited for within a bound.
pub(crate) async fn wait_for_requests(
    query: &QueryClient,
    bound: Duration,
) -> Result<Vec<client::WaitingRequest>, WorkError> {
    use futures::StreamExt;
    let end = tokio::time::Instant::now() + bound;
    loop {
        let waiting = query.inbox().await?.waiting;
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        if !waiting.is_empty() || left.is_zero() {
            return Ok(waiting);
        }
        // The event is only a hint: what counts is the inbox.
        let hint = async {
            if let Ok(mut events) = query.inbox_events(0).await {
                let _ = events.next().await;
            }
            tokio::time::sleep(AGAIN).await;
        };
        let _ = tokio::time::timeout(left, hint).await;
    }
}

/// How long a hint is waited for before the inbox is looked at again.
const AGAIN: Duration = Duration::from_millis(300);

/// The sealed request whose id begins so.
pub(crate) fn one_of<'a>(
    waiting: &'a [client::WaitingRequest],
    id: &str,
) -> Result<&'a [u8], WorkError> {
    let mut found = waiting
        .iter()
        .filter(|request| request.id.to_string().starts_with(id));
    match (found.next(), found.next()) {
        (Some(request), None) => Ok(&request.sealed.0),
        (None, _) => not("no such request waits: it was answered, has expired, or never came"),
        (Some(_), Some(_)) => not("several requests begin so: give more digits of its id"),
    }
}

pub(crate) fn commitment_of(
    waiting: &[client::WaitingRequest],
    id: &str,
) -> Result<RequestCommitment, WorkError> {
    one_of(waiting, id)?;
    let found = waiting
        .iter()
        .find(|request| request.id.to_string().starts_with(id));
    match found {
        Some(request) => Ok(RequestCommitment::new(request.id.0)),
        None => not("no such request waits: it was answered, has expired, or never came"),
    }
}

pub(crate) fn asked_view(request: &VerifiedRequest) -> AskedView {
    let terms = request.terms();
    let classes = terms.classes.iter();
    AskedView {
        id: hex::encode(request.commitment().digest().as_bytes()),
        doctors: request
            .doctors()
            .iter()
            .map(|doctor| (doctor.id, doctor.institution))
            .collect(),
        purpose: terms.purpose.clone(),
        classes: classes
            .filter_map(|class| SectionClass::from_code(class.code()))
            .collect(),
        episodes: request.grants_max(),
        not_after: terms.not_after.number(),
    }
}

/// The doctors' keys that f + 1 nodes say are in force.
pub(crate) async fn in_force(
    network: &Network,
    request: &VerifiedRequest,
) -> Result<Vec<AgreedKey>, WorkError> {
    let mut agreed = Vec::new();
    for hash in request.key_hashes() {
        agreed.extend(network.client().agreed_key(hash).await?);
    }
    Ok(agreed)
}

/// t: what was chosen, or the fewest that the consortium allows and two hospitals at least.
pub(crate) fn threshold(
    network: &Network,
    nodes: &ServingNodes<'_>,
    chosen: Option<u8>,
) -> Result<Threshold, WorkError> {
    let (least, most) = nodes.threshold_range(network.founding().genesis.settings.threshold_min);
    let count = chosen.map_or(least, usize::from);
    if !(least..=most).contains(&count) {
        return not(format!(
            "this consortium cuts grants for {least} to {most} hospitals' shares: choose a threshold between"
        ));
    }
    let count = u8::try_from(count).unwrap_or(u8::MAX);
    match Threshold::new(count) {
        Some(threshold) => Ok(threshold),
        None => not("a threshold is at least 1"),
    }
}

/// The classes to grant: those chosen, within what was asked for.
pub(crate) fn granted_classes(
    request: &VerifiedRequest,
    chosen: &[SectionClass],
) -> Result<Vec<ClassCode>, WorkError> {
    let asked = &request.terms().classes;
    if chosen.is_empty() {
        return Ok(asked.clone());
    }
    let chosen: Vec<ClassCode> = chosen.iter().copied().map(ClassCode::from).collect();
    if chosen.iter().all(|class| asked.contains(class)) {
        Ok(chosen)
    } else {
        not("a class was chosen that the doctor did not ask for: see `willis patient requests`")
    }
}
