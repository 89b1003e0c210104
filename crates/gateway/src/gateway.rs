//! The gateway itself: what its calls share, what it does without being called, and how it ends.
//!
//! What was opened under a grant lies in a folder of the grant's, for nobody else on the machine, and goes
//! when the grant ends: at its expiry, at its revocation on the chain, or when the hospital gives it up.
//! Before anything read under a grant is given out, f + 1 nodes are asked whether the grant stands.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use client::sentence;
use ledger::TransactionId;
use rand_core::Rng as _;
use scheme::InstitutionId;
use serde_json::{Value, json};
use services::{DatabaseError, DatabaseLocation, Server};
use thiserror::Error;
use tokio::sync::{Mutex, Notify};
use workstation::{FoundRecord, RequestView, Silent, WorkError};

use crate::control;
use crate::deliveries::{Deliveries, SourceError, Sources};
use crate::desk::{Desk, beside};
use crate::dicomweb;
use crate::facts::Facts;
use crate::fhir::{self, Publication, Refused};
use crate::intake::Queue;
use crate::register::{Consent, Document, List, NewEvent, Opened, Pending, Register};
use crate::smart::{Caller, NoToken, System, Systems, SystemsError};

/// How often the gateway looks for answers, for grants that have ended, and for records to go on with.
const EVERY: Duration = Duration::from_secs(10);
/// How long what is being opened may go on after the gateway was asked to stop.
const END: Duration = Duration::from_secs(5);
/// How long a search waits for records that are being opened; they go on being opened after it.
const LOOK: Duration = Duration::from_secs(25);
/// How long an own document's bytes stay here once they were fetched: an hour.
const OWN_KEPT: Duration = Duration::from_secs(60 * 60);
/// How long bytes wait for the submission that refers to them: a day.
const UPLOAD_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes of what a publisher says of a record's documents: 1,000 descriptions of 4 KiB.
const SUBMISSION_BYTES_MAX: u64 = 4 << 20;
/// The folder of own records that were fetched, among those of grants.
const OWN: &str = "own";
/// What an asker has to know of grants of which nobody says whether they stand.
const SILENT: &str = "the consortium's nodes do not say whether some grants stand, and what those opened is not among these; search again in a moment";
/// Bytes of a request for a token.
const TOKEN_REQUEST_BYTES_MAX: usize = 16 << 10;

/// Why a gateway does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The keystore, or the consortium.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The desk's doctor is not certified.
    #[error(
        "the registration centre has not certified the gateway's doctor: enrol with `willis doctor enrol` and start again"
    )]
    NotCertified,
    /// The systems that may call.
    #[error(transparent)]
    Systems(#[from] SystemsError),
    /// A source of deliveries.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The register.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The folder.
    #[error("{0} cannot be used: {1}; check the path and its permissions")]
    Folder(PathBuf, #[source] std::io::Error),
}

/// What a gateway is started with.
pub struct Settings {
    /// The consortium's founding folder.
    pub founding: PathBuf,
    /// The keystore of the desk's doctor.
    pub keystore: PathBuf,
    /// Its passphrase.
    pub passphrase: zeroize::Zeroizing<String>,
    /// A folder of the gateway's own: its register, and what is open now.
    pub folder: PathBuf,
    /// Under which address systems reach it, without a path: `https://gateway.hospital.example`.
    pub address: String,
    /// The systems that may call.
    pub systems: Vec<System>,
    /// From where deliveries come without a call.
    pub sources: Sources,
}

/// A hospital's gateway.
pub struct Gateway {
    register: Register,
    desk: Desk,
    systems: Systems,
    name: String,
    /// The facade's address.
    base: String,
    token_endpoint: String,
    dicomweb: String,
    folder: PathBuf,
    /// What comes without a call, until it runs.
    deliveries: std::sync::Mutex<Option<Deliveries>>,
    /// Where that waits.
    queue: Option<Queue>,
    /// Held while a record goes from the register to the desk's keystore, so that nobody takes it for
    /// one that was never handed in.
    publishing: Mutex<()>,
    /// One for each patient: what a grant opens is opened once.
    looking: std::sync::Mutex<HashMap<String, Arc<Mutex<()>>>>,
    woken: Notify,
    /// What goes on by itself; waited for at the end.
    tasks: Tasks,
}

/// Tasks that are waited for before the register is closed.
#[derive(Default)]
struct Tasks(std::sync::Mutex<Vec<tokio::task::AbortHandle>>);

impl Tasks {
    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        let task = tokio::spawn(work);
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.abort_handle());
        task
    }

    /// Waits within a bound until all have ended, and ends the others.
    async fn end(&self, bound: Duration) {
        let tasks = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async {
            while tasks.iter().any(|task| !task.is_finished()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(bound, all).await.is_err() {
            tasks.iter().for_each(tokio::task::AbortHandle::abort);
        }
    }
}

/// Now, in ms since 1970.
pub(crate) fn now_ms() -> u64 {
    client::now().number()
}

impl Gateway {
    /// Opens the keystore and the register.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub async fn open(settings: Settings) -> Result<Arc<Self>, GatewayError> {
        let folder = settings.folder;
        for one in [
            folder.clone(),
            folder.join("opened"),
            folder.join("spool"),
            folder.join("uploads"),
            folder.join("tmp"),
        ] {
            make_folder(&one).map_err(|error| GatewayError::Folder(one, error))?;
        }
        // What was being written when the gateway stopped is of nobody any more.
        empty(&folder.join("tmp")).map_err(|error| GatewayError::Folder(folder.clone(), error))?;
        // Sealed containers on their way, and earlier records that are opened to be amended, lie on the
        // gateway's own disk and not where everybody's passing files do.
        let _ = tempfile::env::override_temp_dir(&folder.join("tmp"));
        binary_parts(&folder.join("uploads"))
            .map_err(|error| GatewayError::Folder(folder.clone(), error))?;
        empty(&folder.join("spool"))
            .map_err(|error| GatewayError::Folder(folder.clone(), error))?;
        let desk = Desk::open(&settings.founding, &settings.keystore, &settings.passphrase)?;
        if !desk.is_certified().await {
            return Err(GatewayError::NotCertified);
        }
        let systems = Systems::checked(settings.systems)?;
        let deliveries = Deliveries::open(folder.join("intake"), settings.sources).await?;
        let location = DatabaseLocation::Sqlite(folder.join("register.sqlite"));
        let register = Register::open(&location).await?;
        systems.remember(register.assertions(now_ms() / 1_000).await?);
        let address = settings.address.trim_end_matches('/').to_owned();
        let gateway = Arc::new(Self {
            register,
            name: desk.name_of(desk.institution()).await,
            desk,
            systems,
            base: format!("{address}/fhir"),
            token_endpoint: format!("{address}/auth/token"),
            dicomweb: format!("{address}/dicom-web"),
            folder,
            queue: deliveries.as_ref().map(Deliveries::queue),
            deliveries: std::sync::Mutex::new(deliveries),
            publishing: Mutex::new(()),
            looking: std::sync::Mutex::default(),
            woken: Notify::new(),
            tasks: Tasks::default(),
        });
        gateway.sweep().await.map_err(|refused| {
            GatewayError::Folder(gateway.folder.clone(), std::io::Error::other(refused.text))
        })?;
        Ok(gateway)
    }

    /// Serves until `stop` completes.
    pub async fn serve(self: Arc<Self>, server: Server, stop: impl Future<Output = ()>) {
        let working = tokio::spawn(Arc::clone(&self).work());
        let deliveries = {
            let mut ready = self
                .deliveries
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            ready.take()
        };
        let (stops, stopped) = tokio::sync::watch::channel(false);
        let queue = self.queue.clone();
        let delivering = deliveries.map(|one| tokio::spawn(one.run(Arc::clone(&self), stopped)));
        let folder = self.folder.clone();
        let answering = queue.map(|queue| {
            tokio::spawn(async move {
                if let Err(error) = control::answer(folder, queue).await {
                    tracing::error!(%error, "the gateway's IT is not answered: see `willis intake`");
                }
            })
        });
        server.serve(self.router(), stop).await;
        let _ = stops.send(true);
        if let Some(delivering) = delivering {
            let _ = delivering.await;
        }
        if let Some(answering) = answering {
            answering.abort();
        }
        working.abort();
        self.tasks.end(END).await;
        self.register.close().await;
    }

    fn router(self: &Arc<Self>) -> Router {
        let token = Router::new()
            .route("/auth/token", post(give_token))
            .layer(axum::extract::DefaultBodyLimit::max(
                TOKEN_REQUEST_BYTES_MAX,
            ))
            .with_state(Arc::clone(self));
        fhir::router(Arc::clone(self))
            .merge(dicomweb::router(Arc::clone(self)))
            .layer(axum::middleware::from_fn(fhir::render))
            .merge(token)
    }

    pub(crate) fn register(&self) -> &Register {
        &self.register
    }

    /// Where what comes without a call waits; none if no source is configured.
    pub(crate) fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }

    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// The facade's address, without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// What the hospital calls itself.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The address of DICOMweb.
    pub(crate) fn dicomweb(&self) -> &str {
        &self.dicomweb
    }

    pub(crate) fn token_endpoint(&self) -> &str {
        &self.token_endpoint
    }

    /// The absolute address of a resource.
    pub(crate) fn address_of(&self, kind: &str, id: &str) -> String {
        format!("{}/{kind}/{id}", self.base)
    }

    /// An id that nobody can guess: 128 bits.
    pub(crate) fn fresh_id(&self) -> String {
        let mut id = [0; 16];
        client::SystemRandom.fill_bytes(&mut id);
        hex::encode(id)
    }

    pub(crate) fn caller(&self, token: &str) -> Option<Arc<Caller>> {
        self.systems.caller(token, now_ms() / 1000)
    }

    /// Looks for answers soon, since something was asked.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    /// A folder for files until they are sealed, gone with what is returned.
    pub(crate) fn spool(&self) -> Result<tempfile::TempDir, Refused> {
        tempfile::tempdir_in(self.folder.join("spool")).map_err(|error| {
            Refused::failed(format!(
                "the gateway's folder cannot be used: {error}; tell the hospital's IT"
            ))
        })
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.folder.join("uploads")
    }

    /// Removes an upload that a submission used up, by its file's name.
    pub(crate) fn forget_upload(&self, name: &str) {
        if let Err(error) = std::fs::remove_file(self.uploads().join(name)) {
            tracing::warn!(%error, "an upload that is used up cannot be removed");
        }
    }

    fn opened(&self, gid: &str) -> PathBuf {
        self.folder.join("opened").join(gid)
    }

    /// Seals files as one record, stores it and waits until it is final. Gives what `respond` says of the
    /// record, which is kept for whoever sends the same again; what `tell` says of the first document and
    /// the record is entered with them.
    pub(crate) async fn publish(
        &self,
        publication: Publication,
        respond: impl FnOnce(&str, u64) -> Value + Send,
        tell: impl FnOnce(&str, &str) -> NewEvent + Send,
    ) -> Result<Value, Refused> {
        let uids = fhir::uids(&publication.patient);
        let Some(episode) = self.desk.episode(&uids).await? else {
            return Err(Refused::unprocessable(
                "subject",
                format!(
                    "the patient has handed no stay over to this desk: let the patient begin one at {} with one of the UIDs of the Patient",
                    self.name
                ),
            ));
        };
        let now = now_ms();
        let supersedes = publication.replaces.clone();
        let mut earlier: Option<Document> = None;
        for id in &supersedes {
            let found = self.register.document(id, now).await?;
            let own =
                found.filter(|one| one.gid.is_empty() && one.patient == publication.patient.id);
            let Some(own) = own else {
                return Err(Refused::unprocessable(
                    "relatesTo.target",
                    "the document that is replaced is none of this patient's that was published here; search for it",
                ));
            };
            if earlier.as_ref().is_some_and(|one| one.record != own.record) {
                return Err(Refused::unprocessable(
                    "relatesTo.target",
                    "the documents that are replaced were published in different submissions; replace those of one at a time",
                ));
            }
            earlier = Some(own);
        }
        let seal = Sealing::of(publication).await?;
        let earlier = earlier.and_then(|own| transaction_of(&own.record));
        let sealed = self.desk.seal(episode, earlier, seal.paths.clone()).await?;
        let record = hex::encode(sealed.transaction().as_bytes());
        let standing = fhir::Standing {
            patient: &seal.patient,
            record: &record,
            gid: "",
            consent: "",
            until: 0,
            signed: now,
            custodian: &self.name,
        };
        let (mut documents, lists) =
            fhir::documents_of(self, &standing, &seal.facts, seal.submission.as_ref());
        for document in &mut documents {
            // The spool's files go; they are fetched again when somebody asks for them.
            document.path.clear();
        }
        let response = respond(&record, now);
        let first = documents
            .first()
            .map(|one| one.id.clone())
            .unwrap_or_default();
        let event = tell(&first, &record);
        let pending = Pending {
            record: &record,
            patient: &seal.patient,
            documents: &documents,
            lists: &lists,
            submission: seal.key.as_deref().map(|key| (key, seal.digest, &response)),
            supersedes: &supersedes,
            event: &event,
        };
        let handed_in = {
            let _publishing = self.publishing.lock().await;
            match self.register.enter_pending(&pending).await {
                // The same submission was sent twice at once, and the other one was first.
                Err(DatabaseError::Exists) => return Err(fhir::not_final()),
                entered => entered?,
            }
            self.desk.record(sealed).await
        };
        if let Err(error) = handed_in {
            tracing::warn!(error = %sentence(&error), "a record is not final yet");
            self.finish_publications().await?;
            if self.register.pending().await?.contains(&record) {
                return Err(fhir::not_final());
            }
            if self.register.document(&first, now).await?.is_none() {
                return Err(error.into());
            }
        }
        self.is_final(&record).await?;
        Ok(response)
    }

    async fn is_final(&self, record: &str) -> Result<(), Refused> {
        Ok(self
            .register
            .is_final(record, &fhir::instant(now_ms()))
            .await?)
    }

    /// Goes on with records that are not final yet, and forgets those that the consortium refused.
    pub(crate) async fn finish_publications(&self) -> Result<(), Refused> {
        let pending = self.register.pending().await?;
        if pending.is_empty() {
            return Ok(());
        }
        let _publishing = self.publishing.lock().await;
        let records = self.desk.finish_records().await?;
        for record in pending {
            let id = transaction_of(&record);
            match records.iter().find(|own| Some(own.transaction) == id) {
                Some(own) if own.stored => self.is_final(&record).await?,
                Some(_) => {}
                None => self.register.forget_record(&record).await?,
            }
        }
        Ok(())
    }

    /// A document that may be read now: of an own record, or under a grant that stands.
    ///
    /// # Errors
    /// [`Refused`], 404, if there is none; 503 if nobody can say whether its grant stands.
    pub(crate) async fn standing(&self, id: &str) -> Result<Document, Refused> {
        let now = now_ms();
        let found = self.register.document(id, now).await?;
        let document = found.ok_or_else(|| Refused::not_found("document"))?;
        self.must_stand(&document.gid, &document.consent).await?;
        Ok(document)
    }

    /// Checks that what was read under a grant may be given out now; of an own record it may.
    ///
    /// # Errors
    /// [`Refused`], 404, if the grant has ended, and 503 if nobody can say.
    pub(crate) async fn must_stand(&self, gid: &str, consent: &str) -> Result<(), Refused> {
        if gid.is_empty() || self.desk.stands(gid, now_ms()).await? {
            return Ok(());
        }
        self.forget(gid, consent).await?;
        Err(Refused::not_found("document"))
    }

    /// Which of these grants stand now, as f + 1 nodes say, and whether they could say it of all.
    async fn which_stand(&self, gids: BTreeSet<String>) -> (BTreeSet<String>, bool) {
        let (mut standing, mut all) = (BTreeSet::new(), true);
        for gid in gids {
            match gid.is_empty() {
                true => {
                    standing.insert(gid);
                }
                false => match self.desk.stands(&gid, now_ms()).await {
                    Ok(true) => {
                        standing.insert(gid);
                    }
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(error = %sentence(&error), "nobody says whether a grant stands");
                        all = false;
                    }
                },
            }
        }
        (standing, all)
    }

    /// A patient's documents that may be given out now, and what the asker has to know.
    pub(crate) async fn standing_documents(
        &self,
        patient: &str,
    ) -> Result<(Vec<Document>, Option<String>), Refused> {
        let mut documents = self.register.documents(patient, now_ms()).await?;
        let gids = documents.iter().map(|one| one.gid.clone()).collect();
        let (standing, all) = self.which_stand(gids).await;
        documents.retain(|one| standing.contains(&one.gid));
        Ok((documents, (!all).then(|| SILENT.to_owned())))
    }

    /// A patient's lists that may be given out now, and what the asker has to know.
    pub(crate) async fn standing_lists(
        &self,
        patient: &str,
    ) -> Result<(Vec<List>, Option<String>), Refused> {
        let mut lists = self.register.lists(patient, now_ms()).await?;
        let gids = lists.iter().map(|one| one.gid.clone()).collect();
        let (standing, all) = self.which_stand(gids).await;
        lists.retain(|one| standing.contains(&one.gid));
        Ok((lists, (!all).then(|| SILENT.to_owned())))
    }

    /// Where a document's bytes lie; they are fetched if they are not here.
    pub(crate) async fn bytes_of(
        self: &Arc<Self>,
        document: &Document,
    ) -> Result<PathBuf, Refused> {
        let here = PathBuf::from(&document.path);
        if !document.path.is_empty() && here.is_file() {
            return Ok(here);
        }
        if !document.gid.is_empty() {
            return Err(gone());
        }
        // By itself, so that a system that goes away leaves nothing half done, and finds it next time.
        let (gateway, document) = (Arc::clone(self), document.clone());
        let fetching = tokio::spawn(async move { gateway.fetch_own(&document).await });
        fetching
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    async fn fetch_own(&self, document: &Document) -> Result<PathBuf, Refused> {
        let id = transaction_of(&document.record).ok_or_else(gone)?;
        let looking = self.looking_at(&document.record);
        let _looking = looking.lock().await;
        // Somebody may have fetched it meanwhile.
        let again = self.register.document(&document.id, now_ms()).await?;
        let again = again.map(|document| document.path).unwrap_or_default();
        if !again.is_empty() && Path::new(&again).is_file() {
            return Ok(PathBuf::from(again));
        }
        let into = self.opened(OWN).join(&document.record[..16]);
        self.clear(&into)?;
        let opened = self.desk.read_own(id, into).await?;
        let file = opened
            .files
            .iter()
            .find(|file| number_of(&file.path) == Some(document.file));
        let path = file
            .filter(|file| file.whole)
            .ok_or_else(gone)?
            .path
            .clone();
        for file in &opened.files {
            if let Some(number) = number_of(&file.path) {
                let id = fhir::document_id(&document.record, number, "");
                let path = file.path.display().to_string();
                self.register.place_document(&id, &path).await?;
            }
        }
        Ok(path)
    }

    /// Makes a folder that is not there, and empties one that a crash left.
    fn clear(&self, folder: &Path) -> Result<(), Refused> {
        let failed = |error: std::io::Error| {
            tracing::error!(%error, "the gateway's folder cannot be used");
            Refused::failed("the gateway's folder cannot be used; tell the hospital's IT")
        };
        match std::fs::remove_dir_all(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        make_folder(folder).map_err(failed)
    }

    fn looking_at(&self, patient: &str) -> Arc<Mutex<()>> {
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody holds are made again when they are needed.
        looking.retain(|_, one| Arc::strong_count(one) > 1);
        Arc::clone(looking.entry(patient.to_owned()).or_default())
    }

    /// Opens what a patient's grants open and is not open yet, and forgets what has ended. Gives what the
    /// asker has to know: what is not shown, and why.
    pub(crate) async fn look(self: &Arc<Self>, patient: &str) -> Result<Vec<String>, Refused> {
        let gateway = Arc::clone(self);
        let own = patient.to_owned();
        // By itself, so that an asker who goes away leaves nothing half done.
        let looks = self
            .tasks
            .spawn(async move { gateway.look_through(&own).await });
        let mut warnings = match tokio::time::timeout(LOOK, looks).await {
            Err(_) => vec![
                "records are still being opened, and are not among these; search again in a moment"
                    .to_owned(),
            ],
            Ok(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            Ok(Ok(looked)) => looked,
        };
        let parts = self.register.parts(patient, now_ms()).await?;
        if parts > 0 {
            warnings.push(format!(
                "{parts} documents are granted in part and are not among these; the doctors' pages show the parts"
            ));
        }
        Ok(warnings)
    }

    /// Nothing that goes wrong with one proposal hides what another one, or the hospital's own records,
    /// show.
    async fn look_through(&self, patient: &str) -> Vec<String> {
        let looking = self.looking_at(patient);
        let _looking = looking.lock().await;
        let mut warnings = Vec::new();
        if let Err(refused) = self.forget_ended().await {
            warnings.push(refused.text);
        }
        let consents = match self.register.consents(patient).await {
            Ok(consents) => consents,
            Err(error) => return vec![sentence(&error)],
        };
        for consent in consents {
            if is_over(&consent) {
                continue;
            }
            let (consent, views) = match self.follow_locked(consent).await {
                Ok(followed) => followed,
                Err(refused) => {
                    warnings.push(refused.text);
                    continue;
                }
            };
            let now = now_ms();
            for view in &views {
                if !fhir::stands(&consent, view, now) {
                    continue;
                }
                match self.desk.found(&view.id).await {
                    Ok((found, refused)) => {
                        for record in found {
                            if let Err(why) = self.open_record(&consent, view, &record).await {
                                warnings.push(why.text);
                            }
                        }
                        // Of a grant that has ended meanwhile there is nothing to say.
                        let ended = |gid: &String| {
                            let mut grants = view.grants.iter();
                            grants.any(|one| one.gid == *gid && one.revoked)
                        };
                        let refused = refused.into_iter().filter(|(gid, _)| !ended(gid));
                        warnings.extend(refused.map(|(_, why)| why));
                    }
                    Err(error) => warnings.push(sentence(&error)),
                }
            }
        }
        warnings
    }

    /// Opens a record under its grant, unless it is open. What is opened lies in a folder that goes with
    /// whatever is not entered.
    async fn open_record(
        &self,
        consent: &Consent,
        view: &RequestView,
        found: &FoundRecord,
    ) -> Result<(), Refused> {
        let record = hex::encode(found.transaction.as_bytes());
        let standing = |gid: &str| {
            let now = now_ms();
            let mut grants = view.grants.iter();
            grants.find(|one| {
                one.gid == gid && !one.revoked && fhir::until(consent, &view.id, one.expiry) > now
            })
        };
        if standing(&found.gid).is_none() || self.register.is_opened(&record, &found.gid).await? {
            return Ok(());
        }
        let custodian = self.desk.name_of(found.institution).await;
        for reading in self.desk.accessed(&view.id, found.transaction).await? {
            let gid = reading.gid();
            let Some(grant) = standing(&gid) else {
                continue;
            };
            if self.register.is_opened(&record, &gid).await? {
                continue;
            }
            let kept = Unkept(Some(self.opened(&gid).join(&record[..16])));
            let folder = kept.path();
            self.clear(&folder)?;
            let into = folder.clone();
            let read = beside(async move { reading.read(&into, &mut Silent).await }).await?;
            let (mut facts, mut parts) = (Vec::new(), 0);
            for file in &read.files {
                let Some(number) = number_of(&file.path) else {
                    continue;
                };
                let name = name_behind_number(&file.path);
                if file.whole {
                    facts.push(facts_of(number, name, None, file.path.clone()).await?);
                } else {
                    // What was said of the documents is no document.
                    parts += u64::from(name.trim_end_matches(".part") != fhir::SUBMISSION);
                    // Nobody is shown it, so it does not lie here.
                    let _ = std::fs::remove_file(&file.path);
                }
            }
            let submission = submission_in(&facts);
            let until = fhir::until(consent, &view.id, grant.expiry);
            let standing = fhir::Standing {
                patient: &consent.patient,
                record: &record,
                gid: &gid,
                consent: &consent.id,
                until,
                signed: found.time,
                custodian: &custodian,
            };
            let (documents, lists) =
                fhir::documents_of(self, &standing, &facts, submission.as_ref());
            let by = fhir::Discloser {
                name: &custodian,
                number: found.institution.number(),
            };
            let event = fhir::disclosed(
                self,
                &consent.patient,
                &by,
                &view.purpose,
                &consent.id,
                &documents,
            );
            let classes: Vec<&str> = read.classes.iter().map(|class| class.name()).collect();
            let opened = Opened {
                record: &record,
                gid: &gid,
                patient: &consent.patient,
                consent: &consent.id,
                until,
                parts,
                request: &view.id,
                classes: &classes.join(" "),
            };
            let entered = self
                .register
                .enter_opened(&opened, &documents, &lists, &event);
            if entered.await? {
                kept.keep();
            }
        }
        Ok(())
    }

    /// How a proposal stands now.
    pub(crate) async fn follow(
        &self,
        consent: Consent,
    ) -> Result<(Consent, Vec<RequestView>), Refused> {
        let looking = self.looking_at(&consent.patient);
        let _looking = looking.lock().await;
        // It may have changed while the lock was waited for.
        let found = self.register.consent(&consent.id).await?;
        self.follow_locked(found.unwrap_or(consent)).await
    }

    /// Likewise, by who holds the patient's lock. What an earlier request of it was granted is given up
    /// once the newest one is answered with a grant.
    async fn follow_locked(
        &self,
        mut consent: Consent,
    ) -> Result<(Consent, Vec<RequestView>), Refused> {
        if consent.given_up {
            return Ok((consent, Vec::new()));
        }
        let mut views = Vec::new();
        for request in &consent.requests {
            views.extend(self.desk.follow(request).await?);
        }
        let newest = consent.requests.last().cloned().unwrap_or_default();
        let answered = views
            .iter()
            .any(|view| view.id == newest && !view.grants.is_empty());
        if answered && views.len() > 1 {
            // First on the disk, so that nothing is entered any more that an earlier one opens.
            let before = consent.version;
            consent.requests = vec![newest.clone()];
            consent.version += 1;
            if !self.register.change_consent(&consent, before).await? {
                return Err(Refused::away(
                    "somebody changed the consent meanwhile; ask again",
                ));
            }
            for view in views.iter().filter(|view| view.id != newest) {
                self.desk.give_up(&view.id).await?;
                for grant in &view.grants {
                    self.forget(&grant.gid, &consent.id).await?;
                }
            }
            views.retain(|view| view.id == newest);
        }
        for grant in views.iter().flat_map(|view| &view.grants) {
            if grant.revoked {
                self.forget(&grant.gid, &consent.id).await?;
            }
        }
        let status = fhir::status(&consent, &views, now_ms());
        if consent.resource["status"] != status {
            let before = consent.version;
            consent.resource["status"] = status.into();
            consent.version += 1;
            consent.updated = now_ms();
            if self.register.change_consent(&consent, before).await? {
                let permitted = status == "active";
                fhir::decided(self, &consent.patient, &consent.id, permitted).await?;
            }
        }
        Ok((consent, views))
    }

    /// Gives up what a proposal was granted: the keys, and everything that was read. The register says so
    /// already, so that what is being opened is not entered.
    pub(crate) async fn give_up(&self, consent: &Consent) -> Result<(), Refused> {
        for request in &consent.requests {
            self.desk.give_up(request).await?;
        }
        self.forget_of(consent).await?;
        // Once more when nothing of this patient is being opened any more.
        let looking = self.looking_at(&consent.patient);
        let _looking = looking.lock().await;
        self.forget_of(consent).await
    }

    /// Forgets what was read under the grants of a proposal.
    async fn forget_of(&self, consent: &Consent) -> Result<(), Refused> {
        for (gid, own, _) in self.register.grants().await? {
            if own == consent.id {
                self.forget(&gid, &own).await?;
            }
        }
        Ok(())
    }

    /// Forgets what was read under a grant. The files go first: as long as one of them is there, the
    /// register says of which grant it is.
    async fn forget(&self, gid: &str, consent: &str) -> Result<(), Refused> {
        let folder = self.opened(gid);
        let removing = tokio::task::spawn_blocking(move || remove(&folder));
        let removed = removing
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        if let Err(error) = removed {
            tracing::error!(%error, "what was read under a grant that has ended cannot be removed");
            return Err(unusable());
        }
        let count = self.register.forget_grant(gid).await?;
        if count > 0 {
            tracing::info!(
                count,
                consent,
                "documents of a grant that has ended are gone"
            );
        }
        Ok(())
    }

    /// Removes what lies in the folder of a grant of which the register knows nothing: a crash left it.
    async fn sweep(&self) -> Result<(), Refused> {
        let known = self.register.grants().await?;
        let known: BTreeSet<String> = known.into_iter().map(|(gid, _, _)| gid).collect();
        let entries = std::fs::read_dir(self.folder.join("opened")).map_err(|_| unusable())?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !known.contains(&name) {
                remove(&entry.path()).map_err(|_| unusable())?;
            }
        }
        Ok(())
    }

    /// Forgets what was read under grants that have ended, as far as this machine's clock knows.
    async fn forget_ended(&self) -> Result<(), Refused> {
        let now = now_ms();
        for (gid, consent, until) in self.register.grants().await? {
            if until <= now {
                self.forget(&gid, &consent).await?;
            }
        }
        Ok(())
    }

    /// What is done without being called.
    async fn work(self: Arc<Self>) {
        loop {
            let waits = tokio::time::timeout(EVERY, self.woken.notified());
            let _ = waits.await;
            // What has ended goes before anything that may take long.
            for done in [
                self.forget_ended().await,
                self.forget_revoked().await,
                self.follow_open().await,
                self.finish_publications().await,
            ] {
                if let Err(refused) = done {
                    tracing::warn!(why = refused.text, "the gateway looks again in a moment");
                }
            }
            self.tidy();
        }
    }

    /// Forgets what was read under grants that the chain says are revoked, or whose proposal was given
    /// up. One that nobody says anything of hinders no other.
    async fn forget_revoked(&self) -> Result<(), Refused> {
        let now = now_ms();
        let mut failed = None;
        for (gid, consent, _) in self.register.grants().await? {
            let proposal = self.register.consent(&consent).await?;
            let given_up = proposal.is_none_or(|proposal| proposal.given_up);
            match self.desk.stands(&gid, now).await {
                Ok(true) if !given_up => {}
                Err(error) if !given_up => failed = Some(error),
                _ => self.forget(&gid, &consent).await?,
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Follows proposals that can still change.
    async fn follow_open(&self) -> Result<(), Refused> {
        let mut failed = None;
        for consent in self.register.open_consents().await? {
            if !is_over(&consent)
                && let Err(refused) = self.follow(consent).await
            {
                failed = Some(refused);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Removes own documents' bytes and uploads that have waited long enough.
    fn tidy(&self) {
        for (folder, kept) in [(self.opened(OWN), OWN_KEPT), (self.uploads(), UPLOAD_KEPT)] {
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                let changed = entry.metadata().and_then(|found| found.modified());
                let age =
                    changed.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
                if age.is_ok_and(|age| age > kept) {
                    let path = entry.path();
                    let removed = match path.is_dir() {
                        true => std::fs::remove_dir_all(&path),
                        false => std::fs::remove_file(&path),
                    };
                    if let Err(error) = removed {
                        tracing::warn!(%error, "what has waited long enough cannot be removed");
                    }
                }
            }
        }
    }
}

/// What is sealed: files in the spool, and what is known of them.
struct Sealing {
    patient: String,
    paths: Vec<PathBuf>,
    facts: Vec<Facts>,
    submission: Option<Value>,
    key: Option<String>,
    digest: [u8; 32],
}

impl Sealing {
    async fn of(publication: Publication) -> Result<Self, Refused> {
        let mut facts = Vec::new();
        for (number, file) in (0..).zip(&publication.files) {
            let said = file.said.as_ref();
            let kind =
                said.and_then(|said| said["content"][0]["attachment"]["contentType"].as_str());
            let kind = kind.map(str::to_owned);
            facts.push(facts_of(number, file.name.clone(), kind, file.path.clone()).await?);
        }
        let described: Vec<_> = publication
            .files
            .iter()
            .map(|file| file.said.clone())
            .zip(&facts)
            .collect();
        let submission = fhir::submission(&publication.lists, &described);
        let mut paths: Vec<PathBuf> = publication
            .files
            .iter()
            .map(|file| file.path.clone())
            .collect();
        if let Some(said) = &submission
            && let Some(folder) = paths.first().and_then(|path| path.parent()?.parent())
        {
            let path = folder.join(fhir::SUBMISSION);
            std::fs::write(&path, said.to_string()).map_err(|error| {
                Refused::failed(format!(
                    "the gateway's folder cannot be used: {error}; tell the hospital's IT"
                ))
            })?;
            paths.push(path);
        }
        Ok(Self {
            patient: publication.patient.id,
            paths,
            facts,
            submission,
            key: publication.key,
            digest: publication.digest,
        })
    }
}

/// What a file is; read beside the calls, since a study takes a while.
async fn facts_of(
    number: u32,
    name: String,
    kind: Option<String>,
    path: PathBuf,
) -> Result<Facts, Refused> {
    let reads =
        tokio::task::spawn_blocking(move || Facts::of(number, &name, kind.as_deref(), &path));
    let facts = reads
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    facts.map_err(|error| {
        tracing::error!(%error, "a document cannot be read");
        Refused::failed("a document cannot be read on this machine; tell the hospital's IT")
    })
}

/// What the publisher of a record said of its documents, if that is granted as a whole. Another hospital
/// wrote it: if it is nothing that can be used, the documents speak for themselves.
fn submission_in(facts: &[Facts]) -> Option<Value> {
    let own = facts.iter().find(|one| one.name == fhir::SUBMISSION)?;
    if own.size > SUBMISSION_BYTES_MAX {
        return None;
    }
    let said: Value = serde_json::from_slice(&std::fs::read(&own.path).ok()?).ok()?;
    (said["resourceType"] == "Bundle").then_some(said)
}

/// Whether nothing becomes of a proposal any more.
fn is_over(consent: &Consent) -> bool {
    consent.given_up
        || matches!(
            consent.resource["status"].as_str(),
            Some("inactive" | "rejected" | "entered-in-error")
        )
}

fn gone() -> Refused {
    Refused::failed("the document's bytes are not here any more; search for it again")
}

fn unusable() -> Refused {
    Refused::failed("the gateway's folder cannot be used; tell the hospital's IT")
}

/// Removes a folder with all that is in it; one that is not there is gone.
fn remove(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A folder that goes unless it is kept, also if nobody waits for it any more.
struct Unkept(Option<PathBuf>);

impl Unkept {
    fn path(&self) -> PathBuf {
        self.0.clone().unwrap_or_default()
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unkept {
    fn drop(&mut self) {
        if let Some(folder) = &self.0
            && let Err(error) = remove(folder)
        {
            tracing::error!(%error, "what was opened for nobody cannot be removed");
        }
    }
}

/// The number with which an opened file's name begins.
fn number_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    name.split('-').next()?.parse().ok()
}

/// An opened file's name without its number.
fn name_behind_number(path: &Path) -> String {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    match name.split_once('-') {
        Some((_, name)) => name.to_owned(),
        None => name,
    }
}

fn transaction_of(record: &str) -> Option<TransactionId> {
    let mut id = [0; 32];
    hex::decode_to_slice(record, &mut id).ok()?;
    Some(TransactionId::new(id))
}

/// A folder for nobody else on the machine.
fn make_folder(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

/// Removes uploads that had not come whole when the gateway stopped.
fn binary_parts(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "part")
        {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn empty(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// `POST /auth/token`.
async fn give_token(State(gateway): State<Arc<Gateway>>, body: Bytes) -> Response {
    let now = now_ms() / 1_000;
    let given = match gateway.systems.give(&body, &gateway.token_endpoint, now) {
        // No token goes out for an assertion that could be used again after a start.
        Ok((token, used)) => match gateway.register.enter_assertion(&used, now).await {
            Ok(()) => Ok(token),
            Err(error) => {
                tracing::error!(error = %sentence(&error), "a used assertion cannot be kept");
                Err(NoToken {
                    error: "temporarily_unavailable",
                    description: "the gateway's register cannot be used; ask again in a minute, and tell the hospital's IT",
                })
            }
        },
        Err(refused) => Err(refused),
    };
    let (status, said) = match given {
        Ok(token) => (StatusCode::OK, token),
        Err(refused) => {
            let status = match refused.error {
                "invalid_client" => StatusCode::UNAUTHORIZED,
                "temporarily_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::BAD_REQUEST,
            };
            let said = json!({
                "error": refused.error,
                "error_description": refused.description,
            });
            (status, said)
        }
    };
    let mut response = (status, axum::Json(said)).into_response();
    let own = response.headers_mut();
    own.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// For which hospital a gateway works; its number stands in its log.
impl Gateway {
    /// Its number in the consortium.
    pub fn institution(&self) -> InstitutionId {
        self.desk.institution()
    }
}
