//! A doctor's machine: keys and what belongs to them in a keystore, and every step of the doctor's
//! (storing, steps 2 to 5; asking and reading, steps 6 to 10).

mod state;

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::{
    Applicant, BeginEnrolment, ClientError, DoctorApplicant, EnrolmentKeys, EnrolmentState,
    GrantStanding, HospitalClient, IdempotencyKey, RequestState, SubmittedState, SystemRandom, now,
};
use ledger::{KeyHash, Transaction, TransactionId};
use parties::{
    AccessRequest, CentreKeys, Certificate, Doctor, DoctorPublicKeys, Hit, Holder, InTransaction,
    OwnSearch, PatientEpisode, Reader, RecordDraft, RequestTerms, VerifiedRequest,
};
use rand_core::Rng;
use record::SectionClass;
use scheme::{
    AllocationId, ClassCode, ClassLabelKey, DoctorId, HpkePrivateKey, InboxHandle, IndexKey,
    InstitutionId, Keyword, SealingSecret, SigningKey, Subject, Timestamp, Uid,
};

use self::state::{KeptRecord, KeptRequest, Pending, State};
use crate::enrolment::{Enrolment, begun, settle};
use crate::error::{WorkError, not};
use crate::keystore::{Keystore, KeystoreKind};
use crate::network::{Network, Progress, run_search};
use crate::reading::{download, fetch, header_of, must_be_fresh, open_into, search};
use crate::shelf::{self, PutBack};

/// How long the hospital's server may take to settle a transaction.
const SETTLED: Duration = Duration::from_secs(60);
/// How long a request can be answered unless the doctor says otherwise.
pub const REQUEST_HOURS: u64 = 12;

/// An episode as the doctor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpisodeView {
    /// Its place in the keystore, from 1.
    pub number: usize,
    /// The patient's UID at this hospital.
    pub uid: String,
    /// Records that this doctor stored in it.
    pub records: usize,
}

/// A record that this doctor stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordView {
    /// Its transaction.
    pub transaction: TransactionId,
    /// The episode's place, from 1.
    pub episode: usize,
    /// The files' names.
    pub name: String,
    /// When, in ms since 1970.
    pub time: u64,
    /// Whether it is final, found, and its receipt left for the patient.
    pub stored: bool,
}

/// A request that this doctor made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestView {
    /// Its commitment in hexadecimal.
    pub id: String,
    /// How far it is.
    pub state: RequestState,
    /// Why it was refused, if it was.
    pub reason: Option<String>,
    /// Why it was made, as the patient reads it.
    pub purpose: String,
    /// Until when it can be answered, in ms since 1970.
    pub not_after: u64,
    /// Grants that were opened on this machine.
    pub grants: Vec<GrantView>,
}

/// A grant that answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantView {
    /// gid in hexadecimal.
    pub gid: String,
    /// Until when, in ms since 1970.
    pub expiry: u64,
    /// Whether the chain says that it is revoked.
    pub revoked: bool,
}

/// What a search under one grant came to.
pub struct Searched {
    /// gid in hexadecimal.
    pub gid: String,
    /// The records, or why there is no result.
    pub hits: Result<Vec<Hit>, String>,
}

/// What was read under the grants of a request.
#[derive(Debug)]
pub struct Read {
    /// Records, each under its grant.
    pub records: Vec<ReadRecord>,
    /// Grants under which nothing can be read, by gid, and why.
    pub refused: Vec<(String, String)>,
}

/// Something that happened to a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// gid in hexadecimal.
    pub gid: String,
    /// How it stands since.
    pub standing: GrantStanding,
    /// When it was heard, in ms since 1970.
    pub time: u64,
}

/// A record that a grant opened.
#[derive(Debug, Clone)]
pub struct ReadRecord {
    /// Its transaction.
    pub transaction: TransactionId,
    /// Whose record.
    pub institution: InstitutionId,
    /// The grant's gid in hexadecimal.
    pub gid: String,
    /// Sections that were opened.
    pub sections: usize,
    /// Its files.
    pub files: Vec<PutBack>,
    /// Institutions whose nodes gave shares that are proved wrong.
    pub lying: Vec<InstitutionId>,
    /// Files with the proofs, for everyone to check.
    pub evidence: Vec<PathBuf>,
}

/// What is asked of a patient.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The inbox's handle and salt, as the patient gave them.
    pub inbox: (InboxHandle, [u8; 16]),
    /// Section classes; none stands for all.
    pub classes: Vec<SectionClass>,
    /// Why, for the patient to read.
    pub purpose: String,
    /// For how many episodes the patient can answer.
    pub episodes: usize,
    /// For how many hours it can be answered, at most 24.
    pub hours: u64,
}

/// A doctor's machine.
pub struct DoctorDesk {
    network: Network,
    store: Keystore,
    centre: CentreKeys,
    state: State,
    rng: SystemRandom,
}

impl DoctorDesk {
    /// Makes keys for a doctor of an institution, in a keystore that is not there yet.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn create(
        network: Network,
        path: &Path,
        passphrase: &str,
        institution: InstitutionId,
    ) -> Result<Self, WorkError> {
        let mut rng = SystemRandom;
        let state = State {
            institution,
            signing: SigningKey::random(&mut rng),
            hpke: HpkePrivateKey::random(&mut rng),
            sealing: SealingSecret::random(&mut rng),
            enrolment: None,
            certificate: None,
            episodes: Vec::new(),
            records: Vec::new(),
            requests: Vec::new(),
        };
        let store = Keystore::create(path, KeystoreKind::Doctor, passphrase, &state.encode())?;
        Ok(Self {
            centre: network.founding_keys(),
            network,
            store,
            state,
            rng,
        })
    }

    /// Opens a doctor's keystore. Grants that have ended are forgotten with their one-time keys.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn open(network: Network, path: &Path, passphrase: &str) -> Result<Self, WorkError> {
        let (store, content) = Keystore::open(path, KeystoreKind::Doctor, passphrase)?;
        let centre = network.founding_keys();
        let mut state = State::decode(network.consortium(), &centre, &content)?;
        let time = now();
        let before = state.requests.len();
        state.requests.retain(|request| !request.is_over(time));
        let desk = Self {
            centre,
            network,
            store,
            state,
            rng: SystemRandom,
        };
        if desk.state.requests.len() != before {
            desk.save()?;
        }
        Ok(desk)
    }

    fn save(&self) -> Result<(), WorkError> {
        Ok(self.store.save(&self.state.encode())?)
    }

    /// Learns which keys the registration centre has, from f + 1 nodes.
    async fn follow_centre(&mut self) -> Result<(), WorkError> {
        let agreed = self.network.client().centre_keys().await?;
        self.centre.follow(&agreed);
        Ok(())
    }

    fn doctor(&self) -> Result<Doctor, WorkError> {
        let (_, id) = self.numbers()?;
        let state = &self.state;
        Ok(Doctor::from_keys(
            self.network.consortium(),
            self.centre.clone(),
            id,
            state.institution,
            (state.signing.clone(), state.hpke.clone()),
            state.sealing.clone(),
        ))
    }

    fn numbers(&self) -> Result<(Subject, DoctorId), WorkError> {
        let subject = begun(self.state.enrolment.map(|(subject, _)| subject), "doctor")?;
        let id = self.state.enrolment.map_or(0, |(_, id)| id.number());
        Ok((subject, DoctorId::new(id)))
    }

    fn certificate(&self) -> Result<&Certificate, WorkError> {
        match &self.state.certificate {
            Some(certificate) => Ok(certificate),
            None => not(
                "the registration centre has not certified this doctor yet: see `willis doctor status`",
            ),
        }
    }

    fn hospital(&self) -> Result<HospitalClient, WorkError> {
        let key = self.state.signing.clone();
        self.network.hospital(self.state.institution, key)
    }

    /// The public keys, once the centre gave the doctor's id.
    ///
    /// # Errors
    /// [`WorkError::Not`] before that.
    pub fn public_keys(&self) -> Result<DoctorPublicKeys, WorkError> {
        Ok(*self.doctor()?.public_keys())
    }

    /// Begins the enrolment and gives the centre the public keys; safe to repeat.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn enrol(
        &mut self,
        applicant: DoctorApplicant,
        replaces: Option<u64>,
    ) -> Result<(), WorkError> {
        let account = self.state.signing.clone();
        let centre = self.network.centre(account)?;
        if self.state.enrolment.is_none() {
            let begin = BeginEnrolment {
                applicant: Applicant::Doctor(applicant),
                replaces,
            };
            let text = serde_json::to_vec(&begin).unwrap_or_default();
            let key = IdempotencyKey::of(&zeroize::Zeroizing::new(text));
            let begun = centre.begin(&begin, &key).await?;
            let id = DoctorId::new(begun.doctor.unwrap_or(0));
            self.state.enrolment = Some((Subject::new(begun.subject), id));
            self.save()?;
        }
        let doctor = self.doctor()?;
        let (subject, _) = self.numbers()?;
        let proof = doctor.prove_possession(subject);
        let keys = EnrolmentKeys::doctor(&doctor.public_keys().hpke, &proof);
        let found = centre.enrolment(subject).await?;
        if matches!(found.state, EnrolmentState::KeysMissing) {
            centre
                .give_keys(subject, &keys, &IdempotencyKey::random())
                .await?;
        }
        Ok(())
    }

    /// How far the enrolment is; waits for its end within a bound. Once it is registered the
    /// certificate is checked and kept, and entered at the hospital.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn enrolment(&mut self, bound: Duration) -> Result<Enrolment, WorkError> {
        let (subject, _) = self.numbers()?;
        let centre = self.network.centre(self.state.signing.clone())?;
        let (enrolment, certificate) = settle(&centre, subject, bound).await?;
        if let Some(certificate) = certificate {
            self.follow_centre().await?;
            let here = self.network.consortium();
            let holder = certificate
                .verify(&here, &self.centre, now())
                .map_err(parties::HandoverError::from)?;
            if holder != &Holder::Doctor(*self.doctor()?.public_keys()) {
                return not(
                    "the certificate is not for the keys of this keystore: tell the registration centre",
                );
            }
            self.hospital()?.enter_doctor(&certificate).await?;
            self.state.certificate = Some(certificate);
            self.save()?;
        }
        Ok(enrolment)
    }

    /// Asks for a later end of the certificate.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn renew(&mut self) -> Result<(), WorkError> {
        let (subject, _) = self.numbers()?;
        let centre = self.network.centre(self.state.signing.clone())?;
        centre.renew(subject, &IdempotencyKey::random()).await?;
        Ok(())
    }

    /// A fresh UID of the hospital's, for a patient who is there.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn give_uid(&self) -> Result<Uid, WorkError> {
        self.certificate()?;
        Ok(self.hospital()?.give_uid().await?)
    }

    /// Frees a UID from the account key of a patient's lost device.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn free_uid(&self, uid: &Uid) -> Result<(), WorkError> {
        Ok(self.hospital()?.unbind_account(uid).await?)
    }

    /// Accepts the hand-overs that wait; gives the places of the new episodes, and what was wrong with
    /// those that were not accepted. Waits for the first within a bound.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn accept_handovers(
        &mut self,
        bound: Duration,
    ) -> Result<(Vec<EpisodeView>, Vec<String>), WorkError> {
        let hospital = self.hospital()?;
        let end = tokio::time::Instant::now() + bound;
        let mut waiting = hospital.handovers().await?;
        while waiting.is_empty() && tokio::time::Instant::now() < end {
            let left = end - tokio::time::Instant::now();
            // The event is only a hint: what counts is the mailbox.
            let hint = async {
                use futures::StreamExt;
                if let Ok(mut events) = hospital.handover_events().await {
                    let _ = events.next().await;
                }
                tokio::time::sleep(AGAIN).await;
            };
            let _ = tokio::time::timeout(left, hint).await;
            waiting = hospital.handovers().await?;
        }
        if !waiting.is_empty() {
            self.follow_centre().await?;
        }
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for handover in waiting {
            let uid = Uid::new(handover.uid.to_string().as_bytes())?;
            match self.accept(&handover.sealed.0, &uid).await? {
                Ok(place) => {
                    if let Some(place) = place {
                        accepted.push(place);
                    }
                }
                Err(why) => refused.push(format!("hand-over of UID {}: {why}", handover.uid)),
            }
            hospital.remove_handover(handover.id).await?;
        }
        let episodes = self.episodes();
        Ok((
            accepted
                .into_iter()
                .filter_map(|place: usize| episodes.get(place).cloned())
                .collect(),
            refused,
        ))
    }

    /// Accepts one hand-over; its place, none if it was accepted before, or why it is refused.
    async fn accept(
        &mut self,
        sealed: &[u8],
        uid: &Uid,
    ) -> Result<Result<Option<usize>, String>, WorkError> {
        let episode = match self.doctor()?.accept_handover(sealed, uid, now()) {
            Ok(episode) => episode,
            Err(error) => return Ok(Err(client::sentence(&error))),
        };
        let owner = KeyHash::from(episode.keys.ownership.hash());
        // The doctor asks the chain, and not the centre, whether the patient's key is in force.
        if self
            .network
            .client()
            .agreed_key_soon(owner)
            .await?
            .is_none()
        {
            return Ok(Err(
                "the patient's keys are not in force on the chain: ask the patient to enrol again"
                    .to_owned(),
            ));
        }
        let known = self
            .state
            .episodes
            .iter()
            .any(|known| known.pid.expose_bytes() == episode.pid.expose_bytes());
        if known {
            return Ok(Ok(None));
        }
        self.state.episodes.push(episode);
        self.save()?;
        Ok(Ok(Some(self.state.episodes.len() - 1)))
    }

    /// The episodes of this doctor.
    pub fn episodes(&self) -> Vec<EpisodeView> {
        let view = |(place, episode): (usize, &PatientEpisode)| EpisodeView {
            number: place + 1,
            uid: String::from_utf8_lossy(episode.uid.as_bytes()).into_owned(),
            records: self
                .state
                .records
                .iter()
                .filter(|record| record.episode == place)
                .count(),
        };
        self.state.episodes.iter().enumerate().map(view).collect()
    }

    /// Seals a record, stores it, records it on the chain, and leaves its receipt for the patient.
    ///
    /// # Errors
    /// [`WorkError`]. What was begun and not finished is finished by [`Self::finish_records`].
    pub async fn store(
        &mut self,
        episode: usize,
        files: &[PathBuf],
        progress: &mut dyn Progress,
    ) -> Result<RecordView, WorkError> {
        self.certificate()?;
        let Some(place) = episode.checked_sub(1) else {
            return not("episodes count from 1: see `willis doctor episodes`");
        };
        let Some(of) = self.state.episodes.get(place).cloned() else {
            return not("there is no such episode in this keystore: see `willis doctor episodes`");
        };
        let doctor = self.doctor()?;
        progress.step("sealing the record");
        let shelved = shelf::from_files(files)?;
        let plans = shelf::plans(&shelved.record);
        let sealing = doctor.seal(&of, &plans, &mut self.rng)?;
        let folder = temporary()?;
        let path = folder.path().join("container");
        let (digest, length) = shelf::seal_to_file(&shelved.record, &sealing, &path)?;

        progress.step("storing it in the cloud");
        let mut container =
            File::open(&path).map_err(|error| WorkError::File(path.clone(), error))?;
        let cloud = self.network.cloud(self.state.signing.clone())?;
        let receipt = cloud
            .store(&mut container, digest, length, None, &mut |done| {
                progress.bytes(done, length);
            })
            .await?;
        let here = self.network.consortium();
        receipt.verify(&here, &self.network.cloud_key(), digest, length)?;

        progress.step("building its index: the hospital's server raises blinded points only");
        let hospital = self.hospital()?;
        let keywords = shelf::keywords(&shelved.record)?;
        let (writer, _) = hospital.writer().await?;
        let (keys, ids) = self.index(&of, writer, &keywords).await?;
        let positions = hospital.positions(&ids).await?;
        let epochs = self
            .network
            .client()
            .writer_epochs(self.state.institution)
            .await?;
        let writer_key = writer_key(&epochs, writer)?;
        let draft = RecordDraft {
            episode: &of,
            header: sealing.header(),
            digest,
            address: receipt.address,
            writer_key,
            keys: &keys,
            positions: &positions,
            time: now(),
        };
        let own = doctor.sign_record(&draft, &mut self.rng)?;
        let names: Vec<String> = files
            .iter()
            .filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
            .collect();
        let mut name = names.join(", ");
        name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
        self.state.records.push(KeptRecord {
            episode: place,
            transaction: own.transaction,
            locator_key: own.locator_key.clone(),
            delta: own.delta.clone(),
            address: own.address,
            name,
            time: now(),
            pending: Some(Pending {
                record: own,
                positions: ids.into_iter().zip(positions).collect(),
                receipt,
                writer,
                keywords,
            }),
        });
        // From here on a crash loses nothing: the same record is handed in again.
        self.save()?;
        let at = self.state.records.len() - 1;
        self.finish(at, Some(keys), progress).await?;
        Ok(self.record_view(at))
    }

    /// Index keys of these keywords and of the empty one, by the hospital's server.
    async fn index(
        &mut self,
        episode: &PatientEpisode,
        writer: scheme::Writer,
        keywords: &[Keyword],
    ) -> Result<(Vec<IndexKey>, Vec<AllocationId>), WorkError> {
        let doctor = self.doctor()?;
        let epochs = self
            .network
            .client()
            .writer_epochs(writer.institution)
            .await?;
        let writer_key = writer_key(&epochs, writer)?;
        let draft = doctor.begin_index(episode, writer, keywords, &mut self.rng);
        let raised = self.hospital()?.raise(&draft.blinded()).await?;
        let search = &episode.keys.search;
        Ok(draft.evaluate(&raised, writer_key, search, &mut self.rng)?)
    }

    /// Finishes what was begun: final on the chain, found by the author's own search, receipt left.
    async fn finish(
        &mut self,
        at: usize,
        keys: Option<Vec<IndexKey>>,
        progress: &mut dyn Progress,
    ) -> Result<(), WorkError> {
        let Some(pending) = self.state.records[at].pending.clone() else {
            return Ok(());
        };
        let episode = self.state.episodes[self.state.records[at].episode].clone();
        let hospital = self.hospital()?;
        progress.step("recording it on the chain");
        let id = pending.record.transaction;
        let (statement, signature) = (&pending.record.statement, &pending.record.signature);
        hospital
            .record(statement, signature, &pending.positions, &pending.receipt)
            .await?;
        match hospital.settled(id, SETTLED).await?.state {
            SubmittedState::Final { .. } => {}
            SubmittedState::Refused { reason } => {
                self.state.records.remove(at);
                self.save()?;
                return not(format!(
                    "the consortium refused the record: {reason}; store it again"
                ));
            }
            SubmittedState::Pending => {
                return not(
                    "the record is handed in and not final yet: `willis doctor records` goes on with it",
                );
            }
        }
        progress.step("searching for it as others will");
        let keys = match keys {
            Some(keys) => keys,
            None => {
                let (writer, keywords) = (pending.writer, pending.keywords.clone());
                self.index(&episode, writer, &keywords).await?.0
            }
        };
        let here = self.network.consortium();
        let mut search = OwnSearch::new(here, pending.writer, keys, id);
        run_search(self.network.client(), &mut search).await?;
        if !search.is_found() {
            return not(
                "the record is on the chain, but no search finds it: its hospital gave wrong positions; tell its IT",
            );
        }
        let doctor = self.doctor()?;
        let sealed = doctor
            .receipt(&episode, &pending.record, &mut self.rng)
            .map_err(parties::PatientError::from)?;
        hospital.leave_receipt(&episode.uid, sealed).await?;
        self.state.records[at].pending = None;
        self.save()
    }

    /// Finishes records that a crash or an outage left unfinished; says which could not be.
    ///
    /// # Errors
    /// [`WorkError`] if the keystore cannot be written.
    pub async fn finish_records(
        &mut self,
        progress: &mut dyn Progress,
    ) -> Result<Vec<String>, WorkError> {
        let mut failures = Vec::new();
        let mut at = 0;
        while at < self.state.records.len() {
            let id = self.state.records[at].transaction;
            if let Err(error) = self.finish(at, None, progress).await {
                let id = hex::encode(id.as_bytes());
                failures.push(format!("record {id}: {}", client::sentence(&error)));
            }
            // A refused record is gone, and the next one is in its place.
            let same = self.state.records.get(at);
            if same.is_some_and(|record| record.transaction == id) {
                at += 1;
            }
        }
        Ok(failures)
    }

    fn record_view(&self, at: usize) -> RecordView {
        let record = &self.state.records[at];
        RecordView {
            transaction: record.transaction,
            episode: record.episode + 1,
            name: record.name.clone(),
            time: record.time.number(),
            stored: record.pending.is_none(),
        }
    }

    /// The records that this doctor stored.
    pub fn records(&self) -> Vec<RecordView> {
        (0..self.state.records.len())
            .map(|at| self.record_view(at))
            .collect()
    }

    /// The author's own reading of a record, from the cloud, without asking anybody.
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
        let found = self.state.records.iter();
        let Some(kept) = found.into_iter().find(|record| record.transaction == id) else {
            return not("this keystore has no such record: see `willis doctor records`");
        };
        let record = self.network.record(id).await?;
        let folder = temporary()?;
        let path = folder.path().join("container");
        progress.step("fetching the container from the cloud");
        download(&self.network, kept.address, &record, &path, progress).await?;
        let here = self.network.consortium();
        let header = header_of(&here, &path)?;
        let doctor = self.doctor()?;
        let episode = &self.state.episodes[kept.episode];
        let mut sections = Vec::new();
        for class in SectionClass::ALL {
            let code = ClassCode::from(class);
            let label = ClassLabelKey::derive(&here, &episode.pid, code);
            let Some(index) = header.find(&label) else {
                continue;
            };
            let secret = doctor.own_section(&header, &episode.keys.encryption, &episode.pid, code);
            let key = secret.and_then(|secret| secret.content_key(&header, index));
            let Ok(key) = key else {
                return not("the container is not one that this doctor sealed");
            };
            sections.push((index, key));
        }
        open_into(&path, &header, &sections, into)
    }

    /// Asks a patient: on the chain, and by the query manager to the patient's inbox.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn ask(
        &mut self,
        ask: &Ask,
        progress: &mut dyn Progress,
    ) -> Result<RequestView, WorkError> {
        let certificate = self.certificate()?.clone();
        self.follow_centre().await?;
        let doctor = self.doctor()?;
        let here = self.network.consortium();
        let mut reader = Reader::new(
            here,
            self.centre.clone(),
            certificate,
            ask.episodes,
            &mut self.rng,
        );
        let agreed = self.network.client().centre_keys().await?;
        reader.follow_centre(&agreed);
        let (handle, salt) = ask.inbox;
        let mut nonce = [0; 32];
        self.rng.fill_bytes(&mut nonce);
        let time = now();
        let classes = if ask.classes.is_empty() {
            &SectionClass::ALL[..]
        } else {
            &ask.classes
        };
        let terms = RequestTerms {
            institution: self.state.institution,
            inbox: handle.commit(&here, &salt),
            classes: classes.iter().copied().map(ClassCode::from).collect(),
            purpose: ask.purpose.clone(),
            nonce,
            time,
            not_after: Timestamp::new(time.number() + ask.hours.min(24) * 60 * 60 * 1000),
        };
        let request = reader.request(&doctor, terms, time)?;
        let (statement, signature) = reader.request_statement(&doctor, &request, time);
        self.state.requests.push(KeptRequest {
            request: request.as_bytes().to_vec(),
            commitment: request.commitment(),
            purpose: ask.purpose.clone(),
            not_after: request.terms().not_after,
            handle,
            salt,
            reader,
            seen: 0,
            state: RequestState::Queued,
            reason: None,
            grants: Vec::new(),
        });
        self.save()?;
        progress.step("recording the request on the chain");
        let hospital = self.hospital()?;
        let submitted = hospital.request(&statement, &signature).await?;
        let id = TransactionId::new(submitted.transaction.0);
        if let SubmittedState::Refused { reason } = hospital.settled(id, SETTLED).await?.state {
            self.state.requests.pop();
            self.save()?;
            return not(format!("the consortium refused the request: {reason}"));
        }
        progress.step("sending it to the patient's inbox");
        if let Err(error) = self.send(&request, handle, salt).await {
            let id = hex::encode(request.commitment().digest().as_bytes());
            return not(format!(
                "request {id} is on the chain, but did not reach the query manager: {}; `willis doctor follow {}` sends it again",
                client::sentence(&error),
                &id[..8]
            ));
        }
        let last = self.state.requests.len() - 1;
        Ok(self.request_view(last, &[]))
    }

    async fn send(
        &self,
        request: &VerifiedRequest,
        handle: InboxHandle,
        salt: [u8; 16],
    ) -> Result<(), WorkError> {
        let query = self.network.query(self.state.signing.clone())?;
        query.send(request, handle, salt).await?;
        Ok(())
    }

    /// The requests of this doctor, with what the chain says of their grants.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn requests(&mut self) -> Result<Vec<RequestView>, WorkError> {
        let mut views = Vec::new();
        for at in 0..self.state.requests.len() {
            let mut revoked = Vec::new();
            for grant in &self.state.requests[at].grants {
                let found = self.network.client().agreed_grant(grant.gid()).await?;
                if found.is_none_or(|found| found.state.revoked) {
                    revoked.push(grant.gid());
                }
            }
            views.push(self.request_view(at, &revoked));
        }
        Ok(views)
    }

    fn request_view(&self, at: usize, revoked: &[scheme::GrantId]) -> RequestView {
        let request = &self.state.requests[at];
        let grants = request.grants.iter().map(|grant| GrantView {
            gid: hex::encode(grant.gid().as_bytes()),
            expiry: grant.grant().terms().expiry.number(),
            revoked: revoked.contains(&grant.gid()),
        });
        RequestView {
            id: hex::encode(request.commitment.digest().as_bytes()),
            state: request.state,
            reason: request.reason.clone(),
            purpose: request.purpose.clone(),
            not_after: request.not_after.number(),
            grants: grants.collect(),
        }
    }

    fn place_of(&self, id: &str) -> Result<usize, WorkError> {
        let mut found = self
            .state
            .requests
            .iter()
            .enumerate()
            .filter(|(_, one)| hex::encode(one.commitment.digest().as_bytes()).starts_with(id));
        match (found.next(), found.next()) {
            (Some((place, _)), None) => Ok(place),
            (None, _) => not(
                "this keystore has no such request, or its grants have ended: see `willis doctor requests`",
            ),
            (Some(_), Some(_)) => not("several requests begin so: give more digits of its id"),
        }
    }

    /// Waits until a request is decided, or the time is up, and opens the grants that answer it.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn follow(
        &mut self,
        id: &str,
        bound: Duration,
        progress: &mut dyn Progress,
    ) -> Result<RequestView, WorkError> {
        let at = self.place_of(id)?;
        let commitment = self.state.requests[at].commitment;
        let query = self.network.query(self.state.signing.clone())?;
        match self.send_again(at, progress).await {
            // Whether there is a grant says the chain, also while the query manager is away.
            Err(WorkError::Client(error)) if error.is_passing() => {}
            sent => sent?,
        }
        let mut events = Vec::new();
        let followed = query
            .follow(commitment, self.state.requests[at].seen, bound, |event| {
                progress.step(&format!("the request is {}", word(event.state)));
                let decided = event.state.is_decided();
                events.push(event);
                if decided {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .await;
        let request = &mut self.state.requests[at];
        for event in events {
            request.seen = event.number;
            if event.state != RequestState::Note {
                request.state = event.state;
                request.reason = event.reason;
            }
        }
        self.save()?;
        // The query manager's word is a hint: whether there is a grant says the chain.
        let missing = matches!(
            self.state.requests[at].state,
            RequestState::Answered | RequestState::WithAgent | RequestState::Collected
        ) || followed.is_err();
        if missing {
            self.open_grants(at).await?;
        }
        if self.state.requests[at].grants.is_empty() {
            followed?;
        }
        Ok(self.request_view(at, &[]))
    }

    /// Follows the grants that answer a request, from what f + 1 nodes say, until all are over or the
    /// time is up: that one was recorded, revoked, or has expired.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn watch(
        &mut self,
        id: &str,
        bound: Duration,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Change>, WorkError> {
        let at = self.place_of(id)?;
        let keys = self.state.requests[at].reader.member().access_keys;
        let mut changes = Vec::new();
        let followed = self.network.client().follow_grants(&keys, bound, |found| {
            let change = Change {
                gid: hex::encode(found.grant.gid.as_bytes()),
                standing: found.standing,
                time: now().number(),
            };
            let word = match change.standing {
                GrantStanding::Recorded => "recorded",
                GrantStanding::Revoked => "revoked",
                GrantStanding::Expired => "expired",
            };
            progress.step(&format!("grant {}: {word}", &change.gid[..16]));
            changes.push(change);
            ControlFlow::Continue(())
        });
        followed.await?;
        self.open_grants(at).await?;
        Ok(changes)
    }

    /// Sends a request that the query manager never got, since it was away when the request was made.
    async fn send_again(
        &mut self,
        at: usize,
        progress: &mut dyn Progress,
    ) -> Result<(), WorkError> {
        if self.state.requests[at].seen > 0 {
            return Ok(());
        }
        let query = self.network.query(self.state.signing.clone())?;
        let commitment = self.state.requests[at].commitment;
        match query.request(commitment, 0).await {
            Err(ClientError::Refused(problem)) if problem.status() == 404 => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
        self.follow_centre().await?;
        let kept = &self.state.requests[at];
        let here = self.network.consortium();
        let verified = AccessRequest::decode(&kept.request)?.verify(&here, &self.centre, now());
        let Ok(request) = verified else {
            return not("the request did not reach the query manager in its time: ask again");
        };
        progress.step("sending it to the patient's inbox, which was not done before");
        self.send(&request, kept.handle, kept.salt).await
    }

    /// Opens every grant on the chain that names an access key of a request.
    async fn open_grants(&mut self, at: usize) -> Result<(), WorkError> {
        let client = self.network.client();
        let mut opened = Vec::new();
        {
            let kept = &self.state.requests[at];
            for (place, key) in kept.reader.member().access_keys.into_iter().enumerate() {
                if kept.grants.iter().any(|grant| grant.access_key() == key) {
                    continue;
                }
                let Some(on_chain) = client.grant_of(key).await? else {
                    continue;
                };
                if on_chain.state.revoked {
                    continue;
                }
                let ask = kept.reader.ask_grant(on_chain.gid, place)?;
                let open =
                    |bytes: &[u8]| kept.reader.open_grant(bytes, &kept.request, &on_chain).ok();
                opened.push(client.grant(&ask, open).await?);
            }
        }
        if !opened.is_empty() {
            self.state.requests[at].grants.extend(opened);
            self.save()?;
        }
        Ok(())
    }

    /// Searches under every grant of a request. One that was revoked or has expired hinders no other.
    ///
    /// # Errors
    /// [`WorkError`] if no grant is there.
    pub async fn search(&mut self, id: &str) -> Result<Vec<Searched>, WorkError> {
        let at = self.place_of(id)?;
        self.open_grants(at).await?;
        let kept = &self.state.requests[at];
        if kept.grants.is_empty() {
            return not("no grant answers this request yet: see `willis doctor follow`");
        }
        let mut found = Vec::new();
        for grant in &kept.grants {
            let searched = search(self.network.client(), &kept.reader, grant).await;
            found.push(Searched {
                gid: hex::encode(grant.gid().as_bytes()),
                hits: searched
                    .map(|found| found.hits)
                    .map_err(|error| client::sentence(&error)),
            });
        }
        Ok(found)
    }

    /// Searches under every grant of a request and reads what is found: each access is final on the
    /// chain before its first share. Each record's files go into a folder of their own.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn read(
        &mut self,
        id: &str,
        only: Option<TransactionId>,
        into: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Read, WorkError> {
        progress.step("searching at the accounting hospitals' nodes");
        let found = self.search(id).await?;
        let at = self.place_of(id)?;
        let (mut records, mut refused, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut hits = Vec::new();
        for (grant, searched) in found.into_iter().enumerate() {
            match searched.hits {
                Ok(found) => hits.extend(found.into_iter().map(|hit| (grant, hit))),
                Err(why) => refused.push((searched.gid, why)),
            }
        }
        for (grant, hit) in hits {
            if only.is_some_and(|only| only != hit.transaction) {
                continue;
            }
            let name = hex::encode(hit.transaction.as_bytes());
            // Two grants can open the same record, each other sections of it.
            let folder = if seen.insert(hit.transaction) {
                into.join(&name[..16])
            } else {
                let gid = self.state.requests[at].grants[grant].gid();
                let gid = hex::encode(gid.as_bytes());
                into.join(format!("{}-{}", &name[..16], &gid[..16]))
            };
            records.push(self.read_hit(at, grant, &hit, &folder, progress).await?);
        }
        match (records.is_empty(), refused.first()) {
            (false, _) => Ok(Read { records, refused }),
            (true, Some((_, why))) => not(why),
            (true, None) => not("the grants find no such record: ask the patient what they cover"),
        }
    }

    /// Hands an access in until it is final or refused.
    async fn decide_access(
        &mut self,
        at: usize,
        grant: usize,
        transaction: &Transaction,
    ) -> Result<InTransaction, WorkError> {
        let submitted = self.network.submit(transaction).await;
        let open = &mut self.state.requests[at].grants[grant];
        match submitted {
            Ok(confirmed) => {
                let Some(of) = open.access_is_final(confirmed.id) else {
                    return not("the access was decided already: try again");
                };
                self.save()?;
                Ok(of)
            }
            Err(error) => {
                if matches!(error, WorkError::Client(ClientError::Refused(_))) {
                    open.access_was_refused();
                    self.save()?;
                }
                Err(error)
            }
        }
    }

    async fn read_hit(
        &mut self,
        at: usize,
        grant: usize,
        hit: &Hit,
        target: &Path,
        progress: &mut dyn Progress,
    ) -> Result<ReadRecord, WorkError> {
        must_be_fresh(target)?;
        let open = &self.state.requests[at].grants[grant];
        let other = open
            .pending_access()
            .filter(|(record, _)| *record != hit.transaction);
        if let Some((_, transaction)) = other {
            // Begun before a crash, and undecided: no other access can follow before it.
            let transaction = transaction.clone();
            progress.step("finishing an access that was begun before");
            match self.decide_access(at, grant, &transaction).await {
                Ok(_) | Err(WorkError::Client(ClientError::Refused(_))) => {}
                Err(error) => return Err(error),
            }
        }
        let kept = &mut self.state.requests[at];
        let open = &mut kept.grants[grant];
        let of = match open.last_access(hit.transaction) {
            Some(of) => of,
            None => {
                let transaction = kept.reader.record_access(open, hit, &mut self.rng)?;
                // Kept before it is sent: after a crash the same access is handed in again.
                self.save()?;
                progress.step("recording the access on the chain");
                self.decide_access(at, grant, &transaction).await?
            }
        };
        progress.step("fetching the container and t hospitals' shares");
        let folder = temporary()?;
        let path = folder.path().join("container");
        let here = self.network.consortium();
        let kept = &self.state.requests[at];
        let open = &kept.grants[grant];
        let client = self.network.client();
        let fetched = fetch(client, here, &kept.reader, open, of, hit, &path).await?;
        let header = fetched.header.header();
        let sections: Vec<_> = fetched
            .sections
            .iter()
            .map(|(_, opened)| (opened.index, opened.key.clone()))
            .collect();
        let files = open_into(&fetched.path, header, &sections, target)?;
        let mut evidence = Vec::new();
        for (number, piece) in fetched.evidence.iter().enumerate() {
            let file = target.join(format!("wrong-share-{number}.evidence"));
            std::fs::write(&file, piece.encode())
                .map_err(|error| WorkError::File(file.clone(), error))?;
            evidence.push(file);
        }
        Ok(ReadRecord {
            transaction: hit.transaction,
            institution: header.institution(),
            gid: hex::encode(open.gid().as_bytes()),
            sections: fetched.sections.len(),
            files,
            lying: fetched.lying,
            evidence,
        })
    }
}

/// How long a hint is waited for before the mailbox is looked at again.
const AGAIN: Duration = Duration::from_millis(300);
/// The longest name of a record in the keystore.
const NAME_BYTES_MAX: usize = 200;

/// For what is sealed: nothing opened ever lies there.
pub(crate) fn temporary() -> Result<tempfile::TempDir, WorkError> {
    tempfile::tempdir().map_err(|error| WorkError::File(std::env::temp_dir(), error))
}

fn word(state: RequestState) -> &'static str {
    match state {
        RequestState::Queued => "queued",
        RequestState::Forwarded => "in the patient's inbox",
        RequestState::Collected => "on the patient's device",
        RequestState::Reminded => "waiting; the patient was reminded",
        RequestState::WithAgent => "with the family agent as well",
        RequestState::Answered => "answered",
        RequestState::Declined => "declined",
        RequestState::Note => "answered, and a note came",
        RequestState::Expired => "expired",
        RequestState::Refused => "refused",
    }
}

/// R of a writer epoch, as f + 1 nodes say.
fn writer_key(
    epochs: &parties::AgreedWriterEpochs,
    writer: scheme::Writer,
) -> Result<&scheme::WriterEpochPublicKey, WorkError> {
    let found = epochs
        .epochs
        .iter()
        .find(|(epoch, _)| *epoch == writer.epoch);
    match found {
        Some((_, key)) => Ok(key),
        None => not(
            "the hospital's writer epoch does not stand on the chain yet: try again in a moment",
        ),
    }
}
