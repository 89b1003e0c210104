//! The registration centre as a service (the paper's 3.2.1; interactions 1 and 2).
//!
//! 1. A device begins an enrolment and gets its number: `POST /v1/enrolments`.
//! 2. It gives its public keys with proofs of possession, which are checked at once:
//!    `PUT /v1/enrolments/{subject}/keys`.
//! 3. An officer compares the identity material with the document and approves:
//!    `POST /v1/officer/enrolments/{subject}/approve`. Certificate and registration are signed, once.
//! 4. The background task hands the registration to the chain until it is final; then the device gets
//!    its certificate.
//!
//! A revocation goes to the chain the same way. All that was accepted stands in the database before it
//! is answered. Identity material, reasons and the officers' calls are encrypted there
//! ([`IdentityKey`]); no log line holds them.
//!
//! Deviations from the paper: keys are made on the device, and the centre sees no private key, unless
//! the configuration lets it make those of patients without a device (`made_keys`).

mod at_rest;
mod backup;
mod carrier;
mod enrolments;
mod events;
mod finding;
mod made_keys;
mod officers;
mod records;
mod watched;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use client::{
    BeginEnrolment, BegunEnrolment, DirectoryVersion, Done, EncryptedDirectory, EnrolmentDetail,
    EnrolmentKeys, EnrolmentPage, EnrolmentStatus, FindPatient, Findable, InboxCode, MadeKeys,
    NoDetails, OfficersList, Outbox, Pickup, Problem, ProblemKind, Reason, SealedSeed, ServiceName,
};
use parties::Certifier;
use scheme::{ConsortiumId, SigningKey, Subject, VerifyingKey};
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::{Mutex, Notify, Semaphore};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use self::at_rest::IdentityKey;
pub use self::backup::{BackupError, BackupKeys, Passphrase, RestoredKeys, restore_centre};
pub use self::officers::Officer;
use crate::centre::at_rest::Kept;
use crate::centre::events::EnrolmentListeners;
use crate::centre::officers::{By, Evidenced};
use crate::database::{Database, DatabaseError, DatabaseLocation, Value};
use crate::http::{
    Answers, Buckets, Calls, GivenOnce, Interface, Parameters, Peer, Problems, Rates, Received,
    Refused, Segment, Server, SignedNothing, streamed,
};

/// The longest body but a directory: identity material of five fields of 200 bytes, or a patient's
/// enrolment of 472 bytes in base64, with room.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// The longest body of a directory: 1 MiB in base64, with room.
const DIRECTORY_BODY_BYTES_MAX: usize = 3 << 19;

/// How a centre works.
pub struct CentreConfig {
    /// Which consortium.
    pub consortium: ConsortiumId,
    /// MSK: certifies.
    pub key: SigningKey,
    /// Encrypts identity material in the database.
    pub identity_key: IdentityKey,
    /// How long a certificate stands.
    pub validity: Duration,
    /// Who decides.
    pub officers: Vec<Officer>,
    /// Approve without an officer what does not replace another certificate: for `willis dev`. It is
    /// recorded as the configuration's decision.
    pub approve_automatically: bool,
    /// Let officers have the centre make the keys of patients without a device.
    pub may_make_keys: bool,
    /// How often in a row a holder renews by a call alone, in the last quarter of the validity.
    pub renewals_by_holder: u32,
    /// How often an address may call.
    pub calls: Rates,
    /// How often an address may begin an enrolment, and how often it may try to pick keys up.
    pub enrolments: Rates,
}

impl CentreConfig {
    /// With certificates for a year, no officers, and the rates of a service on the internet.
    pub fn new(consortium: ConsortiumId, key: SigningKey, identity_key: IdentityKey) -> Self {
        Self {
            consortium,
            key,
            identity_key,
            validity: Duration::from_secs(365 * 24 * 60 * 60),
            officers: Vec::new(),
            approve_automatically: false,
            may_make_keys: false,
            renewals_by_holder: 1,
            calls: Rates {
                burst: 100,
                interval: Duration::from_millis(100),
            },
            enrolments: Rates {
                burst: 10,
                interval: Duration::from_secs(60),
            },
        }
    }
}

/// Why the service does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CentreError {
    /// The database cannot be used.
    #[error("the centre's database cannot be used")]
    Database(#[from] DatabaseError),
    /// The database was written under another key.
    #[error(
        "the identity key is not the one of the centre's database: put the key file back that belongs to it"
    )]
    OtherKey,
    /// The records cannot be brought under the centre's present key.
    #[error("the centre's records cannot be brought under its present key: {}", .0.detail())]
    Records(Problem),
    /// Two officers have one key or name, so that records would not say who decided.
    #[error("two officers have the same name or key: give each their own")]
    Officers,
}

/// The registration centre.
pub struct CentreService {
    consortium: ConsortiumId,
    certifier: Certifier,
    certification: SigningKey,
    identity_key: IdentityKey,
    validity: Duration,
    officers: Vec<Officer>,
    approve_automatically: bool,
    may_make_keys: bool,
    renewals_by_holder: u32,
    rates: Rates,
    database: Database,
    chain: Arc<client::ConsortiumClient>,
    calls: Arc<Calls>,
    answers: Arc<Answers>,
    beginnings: Buckets<IpAddr>,
    pickups: Buckets<IpAddr>,
    /// One look for a patient at a time, so that they are counted exactly.
    finding: Mutex<()>,
    listeners: Arc<EnrolmentListeners>,
    /// Wakes the background task.
    work: Notify,
    /// One making of keys at a time.
    making: Semaphore,
}

impl CentreService {
    /// Opens the records.
    ///
    /// # Errors
    /// [`CentreError`].
    pub async fn open(
        config: CentreConfig,
        location: &DatabaseLocation,
        chain: Arc<client::ConsortiumClient>,
    ) -> Result<Self, CentreError> {
        let officers = &config.officers;
        for (place, officer) in officers.iter().enumerate() {
            let same = |other: &Officer| other.key == officer.key || other.name == officer.name;
            if officers.iter().skip(place + 1).any(same) {
                return Err(CentreError::Officers);
            }
        }
        let database = Database::open(location, records::SCHEMA).await?;
        check_key(&database, &config.identity_key).await?;
        let calls = Calls::new(config.consortium, ServiceName::Centre);
        let service = Self {
            consortium: config.consortium,
            certifier: Certifier::new(config.consortium, config.key.clone(), config.validity),
            certification: config.key,
            identity_key: config.identity_key,
            validity: config.validity,
            officers: config.officers,
            approve_automatically: config.approve_automatically,
            may_make_keys: config.may_make_keys,
            renewals_by_holder: config.renewals_by_holder,
            rates: config.calls,
            answers: Arc::new(Answers::new(database.clone())),
            database,
            chain,
            calls: Arc::new(calls),
            beginnings: Buckets::new(config.enrolments),
            pickups: Buckets::new(config.enrolments),
            finding: Mutex::default(),
            listeners: events::listeners(),
            work: Notify::new(),
            making: Semaphore::new(1),
        };
        service.follow_key().await?;
        Ok(service)
    }

    /// If the centre has another key than at its last start, what the earlier one signed is signed
    /// again. A kill meanwhile has it done at the next start.
    async fn follow_key(&self) -> Result<(), CentreError> {
        let key = Value::from(*self.verifying_key().as_bytes());
        let known = self
            .database
            .row(
                "SELECT id FROM key_check WHERE id = 2 AND sealed = $1",
                std::slice::from_ref(&key),
            )
            .await?;
        if known.is_some() {
            return Ok(());
        }
        self.sign_again().await.map_err(CentreError::Records)?;
        self.database
            .run(
                "INSERT INTO key_check (id, sealed) VALUES (2, $1) ON CONFLICT (id) DO UPDATE SET sealed = $1",
                &[key],
            )
            .await?;
        Ok(())
    }

    /// The key that certificates are checked with.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.certifier.verifying_key()
    }

    /// Closes the database; calls that come now are told to come again.
    pub async fn close(&self) {
        self.database.close().await;
    }

    fn officer_of(&self, key: &VerifyingKey) -> Option<&Officer> {
        self.officers.iter().find(|officer| officer.key == *key)
    }

    fn officer(&self, key: &VerifyingKey) -> Result<Officer, Refused> {
        let officer = self.officer_of(key).cloned();
        officer.ok_or_else(|| {
            Refused::new(
                ProblemKind::NoRight,
                "this path is for the officers whom the centre's configuration names: ask the operator to enter this key",
            )
        })
    }

    /// Tells listeners; nobody may listen.
    fn tell(&self, subject: Subject) {
        self.listeners.tell(&subject);
    }
}

/// Opens the check value under the key, or keeps one in a new database.
async fn check_key(database: &Database, key: &IdentityKey) -> Result<(), CentreError> {
    let subject = Subject::new(0);
    let sealed = key.seal(Kept::Check, subject, b"willis centre");
    database
        .run(
            "INSERT INTO key_check (id, sealed) VALUES (1, $1) ON CONFLICT DO NOTHING",
            &[Value::Bytes(sealed)],
        )
        .await?;
    let row = database
        .row("SELECT sealed FROM key_check WHERE id = 1", &[])
        .await?;
    let sealed = row.map_or(Ok(Vec::new()), |row| row.bytes(0))?;
    let opened = key.open(Kept::Check, subject, &sealed);
    opened.map(|_| ()).map_err(|_| CentreError::OtherKey)
}

/// Serves the centre's interface and carries what was signed to the chain, until `stop` completes.
pub async fn serve_centre(
    service: Arc<CentreService>,
    server: Server,
    stop: impl Future<Output = ()>,
) {
    let stopped = Arc::clone(&service);
    let stop = async move {
        stop.await;
        // Streams of events would hold the end up.
        stopped.listeners.close();
    };
    let carrying = carrier::carry(Arc::clone(&service));
    tokio::select! {
        () = server.serve(router(service), stop) => {}
        () = carrying => {}
    }
}

fn router(service: Arc<CentreService>) -> Router {
    let (calls, answers) = (Arc::clone(&service.calls), Arc::clone(&service.answers));
    let interface = interface(calls, Some(answers), service.rates);
    interface.build(paths().with_state(service))
}

fn interface(calls: Arc<Calls>, answers: Option<Arc<Answers>>, rates: Rates) -> Interface {
    Interface {
        title: "willis registration centre",
        description: "Certifies keys that were made on their owner's device, once an officer has approved, and puts their hashes on the chain.",
        calls: Some(calls),
        answers,
        rates,
    }
}

/// The OpenAPI document of the centre.
pub fn centre_openapi() -> OpenApi {
    let calls = Calls::new(ConsortiumId::new([0; 32]), ServiceName::Centre);
    let rates = Rates {
        burst: 1,
        interval: Duration::from_secs(1),
    };
    interface(Arc::new(calls), None, rates).describe(paths().into_openapi())
}

fn paths() -> OpenApiRouter<Arc<CentreService>> {
    OpenApiRouter::new()
        // who enrols
        .routes(routes!(begin))
        .routes(routes!(give_keys))
        .routes(routes!(enrolment))
        .routes(routes!(events_of))
        .routes(routes!(renewal))
        .routes(routes!(pick_up))
        // officers
        .routes(routes!(waiting))
        .routes(routes!(detail))
        .routes(routes!(approve))
        .routes(routes!(refuse))
        .routes(routes!(make_keys))
        .routes(routes!(revoke))
        .routes(routes!(outbox))
        // who is looked for, and who looks
        .routes(routes!(be_findable, be_hidden, findable))
        .routes(routes!(find))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        // patients
        .merge(
            OpenApiRouter::new()
                .routes(routes!(keep_directory, directory))
                .layer(DefaultBodyLimit::max(DIRECTORY_BODY_BYTES_MAX)),
        )
}

type Service = State<Arc<CentreService>>;

streamed!(StreamedEnrolmentStatus, EnrolmentStatus);

#[utoipa::path(
    post,
    path = "/v1/enrolments",
    operation_id = "begin",
    summary = "Begins an enrolment and gives its number; a doctor also gets the id that is certified.",
    description = "Signed under the account key of this service (E35); by a doctor, under the signing key that is to be certified.",
    params(("Idempotency-Key" = String, Header, description = "Makes the write happen once")),
    request_body = BeginEnrolment,
    responses((status = 201, body = BegunEnrolment), Problems),
    security(("signed" = [])),
)]
async fn begin(
    State(service): Service,
    call: Evidenced<BeginEnrolment>,
) -> Result<Response, Refused> {
    narrowly(&service.beginnings, call.peer.as_ref())?;
    let begun = service.begin(&call).await?;
    // The same call finds what it began; no digest of who somebody is stays with an answer.
    Ok((StatusCode::CREATED, Extension(GivenOnce), Json(begun)).into_response())
}

#[utoipa::path(
    put,
    path = "/v1/enrolments/{subject}/keys",
    operation_id = "give_keys",
    summary = "Gives the public keys with their proofs of possession, which are checked at once.",
    params(
        ("subject" = u64, Path, description = "The enrolment's number"),
        ("Idempotency-Key" = String, Header, description = "Makes the write happen once"),
    ),
    request_body = EnrolmentKeys,
    responses((status = 200, body = EnrolmentStatus), Problems),
    security(("signed" = [])),
)]
async fn give_keys(
    State(service): Service,
    Segment(subject): Segment<u64>,
    call: Evidenced<EnrolmentKeys>,
) -> Result<Json<EnrolmentStatus>, Refused> {
    let status = service.give_keys(Subject::new(subject), &call).await?;
    Ok(Json(status))
}

#[utoipa::path(
    get,
    path = "/v1/enrolments/{subject}",
    operation_id = "enrolment",
    summary = "How far the caller's own enrolment is; once registered, with the certificate.",
    params(("subject" = u64, Path, description = "The enrolment's number")),
    responses((status = 200, body = EnrolmentStatus), Problems),
    security(("signed" = [])),
)]
async fn enrolment(
    State(service): Service,
    Segment(subject): Segment<u64>,
    SignedNothing(call): SignedNothing,
) -> Result<Json<EnrolmentStatus>, Refused> {
    let row = service.own(Subject::new(subject), &call.key()).await?;
    Ok(Json(row.status(&service.identity_key)?))
}

#[utoipa::path(
    get,
    path = "/v1/enrolments/{subject}/events",
    operation_id = "events",
    summary = "The states of the caller's own enrolment as they come, the present one first.",
    params(("subject" = u64, Path, description = "The enrolment's number")),
    responses((status = 200, description = "Events named \"state\", each with an EnrolmentStatus", body = StreamedEnrolmentStatus, content_type = "text/event-stream"), Problems),
    security(("signed" = [])),
)]
async fn events_of(
    State(service): Service,
    Segment(subject): Segment<u64>,
    SignedNothing(call): SignedNothing,
) -> Result<Response, Refused> {
    let events = events::events(service, Subject::new(subject), call.key()).await?;
    Ok(events.into_response())
}

#[utoipa::path(
    post,
    path = "/v1/enrolments/{subject}/renewal",
    operation_id = "renewal",
    summary = "Asks for a certificate with the same keys and a later end; it waits for an officer unless the policy allows it.",
    params(
        ("subject" = u64, Path, description = "The enrolment's number"),
        ("Idempotency-Key" = String, Header, description = "Makes the write happen once"),
    ),
    request_body = NoDetails,
    responses((status = 200, body = EnrolmentStatus), Problems),
    security(("signed" = [])),
)]
async fn renewal(
    State(service): Service,
    Segment(subject): Segment<u64>,
    call: Evidenced<NoDetails>,
) -> Result<Json<EnrolmentStatus>, Refused> {
    let status = service.ask_renewal(Subject::new(subject), &call).await?;
    Ok(Json(status))
}

#[utoipa::path(
    post,
    path = "/v1/pickups",
    operation_id = "pick_up",
    summary = "Gives a seed that the centre made, sealed under its code, to who knows the code; once.",
    request_body = Pickup,
    responses((status = 200, body = SealedSeed), Problems),
)]
async fn pick_up(
    State(service): Service,
    Extension(peer): Extension<Peer>,
    Received(pickup): Received<Pickup>,
) -> Result<Json<SealedSeed>, Refused> {
    narrowly(&service.pickups, Some(&peer))?;
    let subject = Subject::new(pickup.subject);
    Ok(Json(service.pick_up(subject, &pickup.proof.0).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    list: OfficersList,
    #[serde(default)]
    after: u64,
    #[serde(default = "page_limit")]
    limit: u32,
}

fn page_limit() -> u32 {
    50
}

#[utoipa::path(
    get,
    path = "/v1/officer/enrolments",
    operation_id = "waiting",
    summary = "What waits for an officer, by number.",
    params(
        ("list" = inline(Option<OfficersList>), Query, description = "Enrolments by default"),
        ("after" = Option<u64>, Query, description = "The number after which the page begins"),
        ("limit" = Option<u32>, Query, description = "At most 100, 50 by default"),
    ),
    responses((status = 200, body = EnrolmentPage), Problems),
    security(("signed" = [])),
)]
async fn waiting(
    State(service): Service,
    Parameters(page): Parameters<Page>,
    SignedNothing(call): SignedNothing,
) -> Result<Json<EnrolmentPage>, Refused> {
    service.officer(&call.key())?;
    let page = service.page(page.list, page.after, page.limit).await?;
    Ok(Json(page))
}

#[utoipa::path(
    get,
    path = "/v1/officer/enrolments/{subject}",
    operation_id = "detail",
    summary = "An enrolment with its identity material, and what was decided with the signed calls.",
    params(("subject" = u64, Path, description = "The enrolment's number")),
    responses((status = 200, body = EnrolmentDetail), Problems),
    security(("signed" = [])),
)]
async fn detail(
    State(service): Service,
    Segment(subject): Segment<u64>,
    SignedNothing(call): SignedNothing,
) -> Result<Json<EnrolmentDetail>, Refused> {
    service.officer(&call.key())?;
    Ok(Json(service.detail(Subject::new(subject)).await?))
}

#[utoipa::path(
    post,
    path = "/v1/officer/enrolments/{subject}/approve",
    operation_id = "approve",
    summary = "Approves an enrolment or a renewal that waits.",
    params(
        ("subject" = u64, Path, description = "The enrolment's number"),
        ("Idempotency-Key" = String, Header, description = "Makes the write happen once"),
    ),
    request_body = NoDetails,
    responses((status = 200, body = EnrolmentStatus), Problems),
    security(("signed" = [])),
)]
async fn approve(
    State(service): Service,
    Segment(subject): Segment<u64>,
    call: Evidenced<NoDetails>,
) -> Result<Json<EnrolmentStatus>, Refused> {
    let by = By::Officer(service.officer(&call.call.key())?, call.evidence);
    Ok(Json(service.approve(Subject::new(subject), &by).await?))
}

#[utoipa::path(
    post,
    path = "/v1/officer/enrolments/{subject}/refuse",
    operation_id = "refuse",
    summary = "Refuses an enrolment or a renewal that waits.",
    params(
        ("subject" = u64, Path, description = "The enrolment's number"),
        ("Idempotency-Key" = String, Header, description = "Makes the write happen once"),
    ),
    request_body = Reason,
    responses((status = 200, body = EnrolmentStatus), Problems),
    security(("signed" = [])),
)]
async fn refuse(
    State(service): Service,
    Segment(subject): Segment<u64>,
    call: Evidenced<Reason>,
) -> Result<Json<EnrolmentStatus>, Refused> {
    let by = By::Officer(service.officer(&call.call.key())?, call.evidence);
    let subject = Subject::new(subject);
    Ok(Json(service.refuse(subject, &call.body.reason, &by).await?))
}

#[utoipa::path(
    post,
    path = "/v1/officer/enrolments/{subject}/make-keys",
    operation_id = "make_keys",
    summary = "Makes the keys of a patient without a device, and gives the code for picking them up, once.",
    params(
        ("subject" = u64, Path, description = "The number of an enrolment that an officer began"),
        ("Idempotency-Key" = String, Header, description = "Makes the write happen once"),
    ),
    request_body = NoDetails,
    responses((status = 200, body = MadeKeys), Problems),
    security(("signed" = [])),
)]
async fn make_keys(
    State(service): Service,
    Segment(subject): Segment<u64>,
    call: Evidenced<NoDetails>,
) -> Result<Response, Refused> {
    let officer = service.officer(&call.call.key())?;
    let by = By::Officer(officer.clone(), call.evidence);
    let code = service
        .make_keys(Subject::new(subject), &officer, &by)
        .await?;
    let made = MadeKeys {
        code: code.expose().to_string(),
    };
    Ok((Extension(GivenOnce), Json(made)).into_response())
}

#[utoipa::path(
    post,
    path = "/v1/officer/subjects/{subject}/revoke",
    operation_id = "revoke",
    summary = "Revokes a certificate on the chain.",
    params(
        ("subject" = u64, Path, description = "The enrolment's number"),
        ("Idempotency-Key" = String, Header, description = "Makes the write happen once"),
    ),
    request_body = Reason,
    responses((status = 200, body = EnrolmentStatus), Problems),
    security(("signed" = [])),
)]
async fn revoke(
    State(service): Service,
    Segment(subject): Segment<u64>,
    call: Evidenced<Reason>,
) -> Result<Json<EnrolmentStatus>, Refused> {
    let by = By::Officer(service.officer(&call.call.key())?, call.evidence);
    let subject = Subject::new(subject);
    Ok(Json(service.revoke(subject, &call.body.reason, &by).await?))
}

#[utoipa::path(
    get,
    path = "/v1/officer/outbox",
    operation_id = "outbox",
    summary = "Transactions that are not final on the chain yet, and why.",
    responses((status = 200, body = Outbox), Problems),
    security(("signed" = [])),
)]
async fn outbox(
    State(service): Service,
    SignedNothing(call): SignedNothing,
) -> Result<Json<Outbox>, Refused> {
    service.officer(&call.key())?;
    Ok(Json(service.outbox().await?))
}

#[utoipa::path(
    put,
    path = "/v1/directories",
    operation_id = "keep_directory",
    summary = "Keeps the caller's encrypted directory, if it is one version later than what stands.",
    params(("Idempotency-Key" = String, Header, description = "Makes the write happen once")),
    request_body = EncryptedDirectory,
    responses((status = 200, body = DirectoryVersion), Problems),
    security(("signed" = [])),
)]
async fn keep_directory(
    State(service): Service,
    call: Evidenced<EncryptedDirectory>,
) -> Result<Json<DirectoryVersion>, Refused> {
    let version = service.keep_directory(&call.call.key(), &call.body).await?;
    Ok(Json(version))
}

#[utoipa::path(
    get,
    path = "/v1/directories",
    operation_id = "directory",
    summary = "The caller's encrypted directory.",
    responses((status = 200, body = EncryptedDirectory), Problems),
    security(("signed" = [])),
)]
async fn directory(
    State(service): Service,
    SignedNothing(call): SignedNothing,
) -> Result<Json<EncryptedDirectory>, Refused> {
    Ok(Json(service.directory(&call.key()).await?))
}

#[utoipa::path(
    put,
    path = "/v1/findable",
    operation_id = "be_findable",
    summary = "Lets doctors who have the caller's document find the caller's inbox.",
    params(("Idempotency-Key" = String, Header, description = "Makes the write happen once")),
    request_body = InboxCode,
    responses((status = 200, body = Done), Problems),
    security(("signed" = [])),
)]
async fn be_findable(
    State(service): Service,
    call: Evidenced<InboxCode>,
) -> Result<Json<Done>, Refused> {
    service.be_findable(&call.call.key(), &call.body).await?;
    Ok(Json(Done {}))
}

#[utoipa::path(
    delete,
    path = "/v1/findable",
    operation_id = "be_hidden",
    summary = "Lets nobody find the caller any more.",
    params(("Idempotency-Key" = String, Header, description = "Makes the write happen once")),
    responses((status = 200, body = Done), Problems),
    security(("signed" = [])),
)]
async fn be_hidden(
    State(service): Service,
    SignedNothing(call): SignedNothing,
) -> Result<Json<Done>, Refused> {
    service.be_hidden(&call.key()).await?;
    Ok(Json(Done {}))
}

#[utoipa::path(
    get,
    path = "/v1/findable",
    operation_id = "findable",
    summary = "Whether the calling patient can be found by a document, and which doctors looked.",
    responses((status = 200, body = Findable), Problems),
    security(("signed" = [])),
)]
async fn findable(
    State(service): Service,
    SignedNothing(call): SignedNothing,
) -> Result<Json<Findable>, Refused> {
    Ok(Json(service.findable(&call.key()).await?))
}

#[utoipa::path(
    post,
    path = "/v1/findings",
    operation_id = "find",
    summary = "Gives a doctor the inbox of the patient of a document, if that patient wants to be found, and keeps that it did.",
    description = "Twenty times an hour for each doctor, found or not.",
    params(("Idempotency-Key" = String, Header, description = "Names the call")),
    request_body = FindPatient,
    responses((status = 200, body = InboxCode), Problems),
    security(("signed" = [])),
)]
async fn find(State(service): Service, call: Evidenced<FindPatient>) -> Result<Response, Refused> {
    let found = service.find(&call.call.key(), &call.body).await?;
    // The answer is not kept in the clear; the same call again looks again.
    Ok((Extension(GivenOnce), Json(found)).into_response())
}

/// A rate for what costs people time. Institutions, known by their certificates, are not limited here.
fn narrowly(buckets: &Buckets<IpAddr>, peer: Option<&Peer>) -> Result<(), Problem> {
    let Some(peer) = peer.filter(|peer| peer.party.is_none()) else {
        return Ok(());
    };
    let address = peer.address.ip().to_canonical();
    buckets.take(address, Instant::now()).map_err(|wait| {
        let seconds = wait.as_secs() + 1;
        Problem::new(
            ProblemKind::TooMany,
            format!("too many of these calls from this address: sign a new one in {seconds} s"),
        )
    })
}
