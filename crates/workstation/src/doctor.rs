//! A doctor's machine: keys and what belongs to them in a keystore, and every step of the doctor's
//! (storing, steps 2 to 5; asking and reading, steps 6 to 10).

mod asking;
mod authoring;
mod state;
mod teams;

pub use asking::GrantedReading;
pub use authoring::{Author, OwnReading, SealedRecord};
pub use teams::{ColleagueState, InvitationView, TeamView};

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::{
    Applicant, BeginEnrolment, DoctorApplicant, EnrolmentKeys, EnrolmentState, GrantStanding,
    HospitalClient, IdempotencyKey, RequestState, SystemRandom, TRACED, now,
};
use ledger::{KeyHash, TransactionId};
use parties::{CentreKeys, Certificate, Doctor, DoctorPublicKeys, Hit, Holder, PatientEpisode};
use record::{Amends, SectionClass};
use scheme::{
    Digest, DoctorId, HpkePrivateKey, InboxHandle, InstitutionId, SealingSecret, SigningKey,
    Subject, Uid, VerifyingKey,
};

use self::state::{EPISODES_MAX, State};
use tracing::instrument;

use crate::enrolment::{Enrolment, begins, begun, settle};
use crate::error::{WorkError, not};
use crate::keystore::{Keystore, KeystoreKind};
use crate::network::Network;
use crate::shelf::PutBack;

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
    /// The record of this doctor's that it amends.
    pub amends: Option<TransactionId>,
}

/// A request that this doctor made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestView {
    /// Its commitment in hexadecimal.
    pub id: String,
    /// The 32 random bytes of its terms in hexadecimal: they name the team while it is gathered.
    pub nonce: String,
    /// The ids of its doctors, who can read what is granted; the first is who asks.
    pub team: Vec<u64>,
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
    /// How many section classes it opens; which they are shows when a record is opened.
    pub classes: usize,
    /// From when, in ms since 1970.
    pub not_before: u64,
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

/// A record that a search found, and that was not opened for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRecord {
    /// Its transaction.
    pub transaction: TransactionId,
    /// The grant under which it was found, in hexadecimal.
    pub gid: String,
    /// Whose record.
    pub institution: InstitutionId,
    /// When its author signed it, in ms since 1970.
    pub time: u64,
    /// SHA-256 of its container.
    pub digest: Digest,
    /// Its author's key.
    pub author: VerifyingKey,
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
    /// Their classes, as the opened sections say.
    pub classes: Vec<SectionClass>,
    /// The earlier record that it amends, as its author sealed it.
    pub amends: Option<Amends>,
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
    network: Arc<Network>,
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
            led: Vec::new(),
            invited: Vec::new(),
            letters: Vec::new(),
        };
        let store = Keystore::create(path, KeystoreKind::Doctor, passphrase, &state.encode())?;
        Ok(Self {
            centre: network.founding_keys(),
            network: Arc::new(network),
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
            network: Arc::new(network),
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

    async fn hospital(&self) -> Result<HospitalClient, WorkError> {
        let key = self.state.signing.clone();
        self.network.hospital(self.state.institution, key).await
    }

    /// The public keys, once the centre gave the doctor's id.
    ///
    /// # Errors
    /// [`WorkError::Not`] before that.
    pub fn public_keys(&self) -> Result<DoctorPublicKeys, WorkError> {
        Ok(*self.doctor()?.public_keys())
    }

    /// For which institution the doctor works.
    pub fn institution(&self) -> InstitutionId {
        self.state.institution
    }

    /// Whether the registration centre certified this doctor's keys.
    pub fn is_certified(&self) -> bool {
        self.state.certificate.is_some()
    }

    /// Begins the enrolment and gives the centre the public keys; safe to repeat.
    ///
    /// # Errors
    /// [`WorkError`].
    #[instrument(target = TRACED, name = "1 register", skip_all)]
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
            let key = begins(&self.state.signing, &begin);
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
    /// certificate is checked and kept, and entered at the hospital, whose server is waited for within the
    /// same bound.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn enrolment(&mut self, bound: Duration) -> Result<Enrolment, WorkError> {
        let end = tokio::time::Instant::now() + bound;
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
            let hospital = self.hospital().await?;
            loop {
                match hospital.enter_doctor(&certificate).await {
                    Ok(_) => break,
                    Err(away) if away.is_passing() && tokio::time::Instant::now() < end => {
                        tokio::time::sleep(AGAIN).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
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
        Ok(self.hospital().await?.give_uid().await?)
    }

    /// Frees a UID from the account key of a patient's lost device.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn free_uid(&self, uid: &Uid) -> Result<(), WorkError> {
        Ok(self.hospital().await?.unbind_account(uid).await?)
    }

    /// Accepts the hand-overs that wait; gives the places of the new episodes, and what was wrong with
    /// those that were not accepted. Waits for the first within a bound.
    ///
    /// # Errors
    /// [`WorkError`].
    #[instrument(target = TRACED, name = "2 begin episode", skip_all)]
    pub async fn accept_handovers(
        &mut self,
        bound: Duration,
    ) -> Result<(Vec<EpisodeView>, Vec<String>), WorkError> {
        let hospital = self.hospital().await?;
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
        if self.state.episodes.len() >= EPISODES_MAX {
            return not("this keystore holds as many episodes as it can: use another one");
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
}

/// How long a hint is waited for before the mailbox is looked at again.
const AGAIN: Duration = Duration::from_millis(300);
