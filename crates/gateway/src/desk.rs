//! The doctor's machine inside the gateway: a keystore of its own, whose doctor the registration centre
//! certified for this hospital. What takes long and needs no key that changes is done beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use client::sentence;
use ledger::TransactionId;
use scheme::InstitutionId;
use tokio::sync::Mutex;
use workstation::{
    Ask, DoctorDesk, FoundRecord, GrantedReading, Network, OpenedRecord, RecordView, RequestView,
    SealedRecord, Silent, WorkError,
};

/// How long a look at a request waits for its answer.
const NO_WAIT: Duration = Duration::ZERO;

pub(crate) struct Desk {
    doctor: Mutex<DoctorDesk>,
    /// For questions to the chain that need no key.
    network: Network,
    institution: InstitutionId,
}

impl Desk {
    /// # Errors
    /// [`WorkError`] if the keystore does not open.
    pub(crate) fn open(
        founding: &Path,
        keystore: &Path,
        passphrase: &str,
    ) -> Result<Self, WorkError> {
        let doctor = DoctorDesk::open(Network::open(founding)?, keystore, passphrase)?;
        Ok(Self {
            institution: doctor.institution(),
            doctor: Mutex::new(doctor),
            network: Network::open(founding)?,
        })
    }

    /// Whether the registration centre certified the desk's doctor.
    pub(crate) async fn is_certified(&self) -> bool {
        self.doctor.lock().await.is_certified()
    }

    pub(crate) fn institution(&self) -> InstitutionId {
        self.institution
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// What the hospital calls itself on the chain.
    pub(crate) async fn name_of(&self, institution: InstitutionId) -> String {
        self.network.name_of(institution).await
    }

    /// A fresh UID of the hospital's.
    ///
    /// # Errors
    /// [`WorkError`].
    pub(crate) async fn give_uid(&self) -> Result<String, WorkError> {
        let uid = self.doctor.lock().await.give_uid().await?;
        Ok(String::from_utf8_lossy(uid.as_bytes()).into_owned())
    }

    /// The newest episode that a patient began here under one of these UIDs. Hand-overs that wait are
    /// accepted first.
    ///
    /// # Errors
    /// [`WorkError`].
    pub(crate) async fn episode(&self, uids: &[&str]) -> Result<Option<usize>, WorkError> {
        let mut doctor = self.doctor.lock().await;
        let newest = |doctor: &DoctorDesk| {
            let episodes = doctor.episodes();
            let mut own = episodes.iter().rev();
            own.find(|episode| uids.contains(&episode.uid.as_str()))
                .map(|episode| episode.number)
        };
        match doctor.accept_handovers(NO_WAIT).await {
            Ok((_, refused)) => {
                for why in refused {
                    // A UID names nobody outside, and is left out all the same.
                    let why = why.split_once(": ").map_or("", |(_, why)| why);
                    tracing::warn!(why, "a hand-over was refused");
                }
            }
            // An episode that was begun before is enough.
            Err(error) if newest(&doctor).is_none() => return Err(error),
            Err(error) => {
                tracing::warn!(error = %sentence(&error), "hand-overs were not looked for");
            }
        }
        Ok(newest(&doctor))
    }

    /// Seals files as one record of an episode and stores it, beside whatever else the desk does.
    ///
    /// # Errors
    /// [`WorkError`].
    pub(crate) async fn seal(
        &self,
        episode: usize,
        amends: Option<TransactionId>,
        files: Vec<PathBuf>,
    ) -> Result<SealedRecord, WorkError> {
        let author = {
            let doctor = self.doctor.lock().await;
            doctor.author(episode, amends, &mut Silent).await?
        };
        beside(async move { author.seal(&files, &mut Silent).await }).await
    }

    /// Records a sealed record on the chain.
    ///
    /// # Errors
    /// [`WorkError`]; what was begun is gone on with by [`Self::finish_records`].
    pub(crate) async fn record(&self, sealed: SealedRecord) -> Result<RecordView, WorkError> {
        self.doctor.lock().await.record(sealed, &mut Silent).await
    }

    /// Goes on with records that are not final yet; gives those that this desk has, each with whether
    /// it is.
    ///
    /// # Errors
    /// [`WorkError`].
    pub(crate) async fn finish_records(&self) -> Result<Vec<RecordView>, WorkError> {
        let mut doctor = self.doctor.lock().await;
        for why in doctor.finish_records(&mut Silent).await? {
            tracing::warn!(why, "a record is not final yet");
        }
        Ok(doctor.records())
    }

    /// Reads an own record into a folder.
    ///
    /// # Errors
    /// [`WorkError`].
    pub(crate) async fn read_own(
        &self,
        id: TransactionId,
        into: PathBuf,
    ) -> Result<OpenedRecord, WorkError> {
        let reading = self.doctor.lock().await.own_reading(id)?;
        beside(async move { reading.read(&into, &mut Silent).await }).await
    }

    /// Asks a patient.
    ///
    /// # Errors
    /// [`WorkError`].
    pub(crate) async fn ask(&self, ask: &Ask) -> Result<RequestView, WorkError> {
        self.doctor.lock().await.ask(ask, &mut Silent).await
    }

    /// The inbox of a code as the patient showed or said it.
    ///
    /// # Errors
    /// [`WorkError`].
    pub(crate) async fn inbox_of(
        &self,
        code: &str,
    ) -> Result<(scheme::InboxHandle, [u8; 16]), WorkError> {
        self.doctor.lock().await.inbox_of(code).await
    }

    /// How far a request is, with what the chain says of the grants that answer it; none if this desk
    /// has none such any more.
    ///
    /// # Errors
    /// [`WorkError`].
    pub(crate) async fn follow(&self, id: &str) -> Result<Option<RequestView>, WorkError> {
        let mut doctor = self.doctor.lock().await;
        let Some(view) = doctor.request(id).await? else {
            return Ok(None);
        };
        // What was answered with grants changes on the chain alone.
        if view.state.is_decided() && !view.grants.is_empty() {
            return Ok(Some(view));
        }
        doctor.follow(id, NO_WAIT, &mut Silent).await?;
        doctor.request(id).await
    }

    /// What the grants of a request find.
    ///
    /// # Errors
    /// [`WorkError`].
    pub(crate) async fn found(
        &self,
        id: &str,
    ) -> Result<(Vec<FoundRecord>, Vec<(String, String)>), WorkError> {
        self.doctor.lock().await.found(id).await
    }

    /// Records accesses to one record under the grants of a request; what is given reads beside whatever
    /// else the desk does.
    ///
    /// # Errors
    /// [`WorkError`].
    pub(crate) async fn accessed(
        &self,
        id: &str,
        record: TransactionId,
    ) -> Result<Vec<GrantedReading>, WorkError> {
        let mut doctor = self.doctor.lock().await;
        doctor.accessed(id, record, &mut Silent).await
    }

    /// Gives up what a request's grants allow. What is not there is given up already. It needs nobody
    /// else.
    ///
    /// # Errors
    /// [`WorkError`] if the keystore cannot be written.
    pub(crate) async fn give_up(&self, id: &str) -> Result<(), WorkError> {
        match self.doctor.lock().await.give_up(id) {
            Ok(()) | Err(WorkError::Not(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether a grant stands, as f + 1 nodes say now.
    ///
    /// # Errors
    /// [`WorkError`] if the chain cannot be asked: then nothing is read under it.
    pub(crate) async fn stands(&self, gid: &str, now: u64) -> Result<bool, WorkError> {
        let mut bytes = [0; 32];
        if hex::decode_to_slice(gid, &mut bytes).is_err() {
            return Ok(false);
        }
        let found = self
            .network
            .client()
            .agreed_grant(scheme::GrantId::new(bytes))
            .await?;
        Ok(found.is_some_and(|found| !found.state.revoked && found.state.expiry.number() > now))
    }
}

/// Does work on a thread of its own: ciphers and hashes of a large study would hold up every other call.
pub(crate) async fn beside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = tokio::runtime::Handle::current();
    let working = tokio::task::spawn_blocking(move || runtime.block_on(work));
    working
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
