//! The hospital's server (steps 2, 3, 5 and 6; the paper's 3.1 (4)): gives UIDs, passes sealed messages
//! between its doctors and their patients, raises blinded keywords to y, hands out positions, and signs
//! its doctors' records and requests for the chain.
//!
//! It sees UIDs, which it gave itself, blinded points, allocation ids and digests. It cannot open a
//! hand-over or a receipt, and learns no pseudonym, keyword or record.
//!
//! What it accepted is in its database before it answers, so that a kill at any moment loses nothing:
//!
//! - **Writer epochs** ([`writer`]). y lies in a file of its own. At a writer epoch's end the next y's
//!   file is made, its R announced and final on the chain; then the old file is removed.
//! - **Index** ([`index`]). A doctor's quota and the positions of each allocation id are read from the
//!   database, changed by [`parties::HospitalServer`], and written before the answer goes out.
//! - **Outbox** ([`outbox`]). A record or request is countersigned once and kept, and handed in byte for
//!   byte until f + 1 nodes acknowledge or refuse it.
//! - **Containers** ([`containers`]). Storage receipts are kept; each container is copied to a second
//!   store, if there is one, and read again from the cloud in turn; one that is lost or altered is
//!   named and restored.

mod callers;
mod containers;
mod doctors;
mod events;
mod index;
mod mailboxes;
mod outbox;
mod watched;
mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use client::{CloudClient, ConsortiumClient, POINTS_MAX, ServiceName};
use parties::HospitalServer;
use scheme::{ConsortiumId, HeldKey, InstitutionId, Timestamp, VerifyingKey};
use thiserror::Error;
use tokio::sync::Notify;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::cloud::{CloudError, ContainerStore, StoreLocation};
use crate::database::{Database, ROW_DIGESTS};
use crate::http::{ANSWERS_SCHEMA, Answers, Calls, Interface, Rates, Refused, Server};

use events::TopicListeners;
use writer::WriterFiles;

/// Rows of one page.
const PAGE: i64 = 100;
/// A body that is not said to be longer: a sealed message of 4 KiB in base64, with room.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// 1,024 ids of 64 digits.
const POSITIONS_BODY_BYTES_MAX: usize = 96 * 1024;
/// A statement of 34 KiB in base64 and 1,024 positions of some 100 characters.
const RECORD_BODY_BYTES_MAX: usize = 256 * 1024;
/// A colleague's message of 16,434 bytes in base64, with room.
const MESSAGE_BODY_BYTES_MAX: usize = 32 * 1024;
/// Points of 48 bytes.
const POINTS_BODY_BYTES_MAX: usize = POINTS_MAX * 48;

/// The tables, step by step.
pub const HOSPITAL_SCHEMA: &[&str] = &[
    ANSWERS_SCHEMA,
    "CREATE TABLE doctors (
        id {BYTES} PRIMARY KEY,
        signer {BYTES} NOT NULL,
        certificate {BYTES} NOT NULL,
        not_after BIGINT NOT NULL,
        blocked_by TEXT NOT NULL,
        blocked_at BIGINT NOT NULL,
        quota_day BIGINT NOT NULL,
        raised BIGINT NOT NULL,
        allocated BIGINT NOT NULL
    );
    CREATE UNIQUE INDEX doctors_signer ON doctors (signer);
    CREATE TABLE deeds (
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        time BIGINT NOT NULL
    );
    CREATE INDEX deeds_time ON deeds (time);
    CREATE TABLE uids (
        uid {BYTES} PRIMARY KEY,
        account {BYTES} NOT NULL,
        given_by {BYTES} NOT NULL,
        time BIGINT NOT NULL
    );
    CREATE INDEX uids_account ON uids (account);
    CREATE TABLE handovers (
        id {BYTES} PRIMARY KEY,
        doctor {BYTES} NOT NULL,
        uid {BYTES} NOT NULL,
        sealed {BYTES} NOT NULL,
        time BIGINT NOT NULL
    );
    CREATE INDEX handovers_doctor ON handovers (doctor, time);
    CREATE INDEX handovers_time ON handovers (time);
    CREATE TABLE receipts (
        id {BYTES} PRIMARY KEY,
        doctor {BYTES} NOT NULL,
        uid {BYTES} NOT NULL,
        sealed {BYTES} NOT NULL,
        time BIGINT NOT NULL
    );
    CREATE INDEX receipts_uid ON receipts (uid, time);
    CREATE INDEX receipts_time ON receipts (time);
    CREATE TABLE writer_epochs (
        epoch BIGINT PRIMARY KEY,
        announcement {BYTES} NOT NULL,
        begun BIGINT NOT NULL
    );
    CREATE TABLE allocations (
        id {BYTES} PRIMARY KEY,
        epoch BIGINT NOT NULL,
        lowest BIGINT NOT NULL,
        slots {BYTES} NOT NULL
    );
    CREATE INDEX allocations_epoch ON allocations (epoch);
    CREATE TABLE outbox (
        id {BYTES} PRIMARY KEY,
        doctor {BYTES} NOT NULL,
        content {BYTES} NOT NULL,
        positions {BYTES} NOT NULL,
        container {BYTES} NOT NULL,
        state BIGINT NOT NULL,
        height BIGINT NOT NULL,
        reason TEXT NOT NULL,
        time BIGINT NOT NULL,
        tried BIGINT NOT NULL
    );
    CREATE INDEX outbox_state ON outbox (state, tried);
    CREATE TABLE containers (
        address {BYTES} PRIMARY KEY,
        receipt {BYTES} NOT NULL,
        recorded BIGINT NOT NULL,
        copied BIGINT NOT NULL,
        checked BIGINT NOT NULL,
        tried BIGINT NOT NULL,
        found BIGINT NOT NULL,
        lost BIGINT NOT NULL,
        detail TEXT NOT NULL,
        restored BIGINT NOT NULL
    );
    CREATE INDEX containers_due ON containers (recorded, checked);
    CREATE INDEX containers_uncopied ON containers (recorded, copied);
    CREATE INDEX containers_found ON containers (found)",
    "CREATE TABLE messages (
        id {BYTES} PRIMARY KEY,
        doctor {BYTES} NOT NULL,
        sender {BYTES} NOT NULL,
        sealed {BYTES} NOT NULL,
        time BIGINT NOT NULL
    );
    CREATE INDEX messages_doctor ON messages (doctor, time);
    CREATE INDEX messages_time ON messages (time)",
    ROW_DIGESTS,
];

/// How a hospital's server is run.
#[derive(Debug, Clone)]
pub struct HospitalConfig {
    /// Whose server.
    pub institution: InstitutionId,
    /// The cloud's receipt key, from the directory.
    pub cloud_receipt_key: VerifyingKey,
    /// The keys of the hospital's IT, each with its name.
    pub it: Vec<(String, VerifyingKey)>,
    /// Where y lies, a file for each writer epoch: on a disk that no backup holds.
    pub writer_folder: PathBuf,
    /// How long a writer epoch lasts: 90 days, unless said otherwise.
    pub writer_epoch_life: Duration,
    /// Where copies of containers go.
    pub second_store: Option<StoreLocation>,
    /// Where a container lies while it is restored.
    pub spool: PathBuf,
    /// How many bytes a second are read from the cloud, and from the second store, to see whether they are
    /// still there.
    pub scrub_bytes_per_second: u64,
    /// How often each container is read.
    pub scrub_every: Duration,
    /// How long a message waits in a mailbox: 90 days, unless said otherwise.
    pub message_life: Duration,
    /// How often what is over is looked for.
    pub tidy_every: Duration,
    /// How often an address may call.
    pub rate_per_second: u32,
}

/// Why a hospital's server does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HospitalError {
    /// A folder cannot be used.
    #[error("the folder {0} cannot be used: {1}; check the path and its permissions")]
    Folder(PathBuf, #[source] std::io::Error),
    /// A file of y is none.
    #[error(
        "{0} holds no writer epoch key: put the file back as it was, or remove it to begin another writer epoch"
    )]
    WriterFile(PathBuf),
    /// The second store cannot be used.
    #[error("the second store cannot be used")]
    SecondStore(#[from] CloudError),
}

/// The hospital's server.
pub struct HospitalService {
    consortium: ConsortiumId,
    key: HeldKey,
    config: HospitalConfig,
    database: Database,
    chain: ConsortiumClient,
    cloud: CloudClient,
    second: Option<ContainerStore>,
    /// None until the chain has said which writer epoch is the current one. Held while a quota or an
    /// allocation is read, changed and written.
    server: Arc<tokio::sync::Mutex<Option<HospitalServer>>>,
    /// Held while a writer epoch is begun.
    writer: tokio::sync::Mutex<WriterFiles>,
    /// Whether the next writer epoch is being begun.
    ending: AtomicBool,
    writer_wanted: Notify,
    /// Something was put into the outbox.
    outbox_filled: Notify,
    listeners: Arc<TopicListeners>,
    standings: Mutex<BTreeMap<[u8; 32], Timestamp>>,
}

impl HospitalService {
    /// A hospital's server over its records. `cloud` signs under the institution's key, so that it may
    /// restore containers.
    ///
    /// # Errors
    /// [`HospitalError`].
    pub fn new(
        consortium: ConsortiumId,
        key: impl Into<HeldKey>,
        config: HospitalConfig,
        database: Database,
        chain: ConsortiumClient,
        cloud: CloudClient,
    ) -> Result<Self, HospitalError> {
        let writer = WriterFiles::open(&config.writer_folder)?;
        containers::open_spool(&config.spool)?;
        let second = config.second_store.as_ref().map(ContainerStore::at);
        Ok(Self {
            consortium,
            key: key.into(),
            second: second.transpose()?,
            config,
            database,
            chain,
            cloud,
            server: Arc::default(),
            writer: tokio::sync::Mutex::new(writer),
            ending: AtomicBool::new(false),
            writer_wanted: Notify::new(),
            outbox_filled: Notify::new(),
            listeners: events::listeners(),
            standings: Mutex::default(),
        })
    }

    /// Keeps what was done, by whom and when.
    async fn keep_deed(
        change: &mut crate::database::Change,
        actor: &str,
        action: &str,
    ) -> Result<(), Refused> {
        let values = [actor.into(), action.into(), client::now().into()];
        change
            .run(
                "INSERT INTO deeds (actor, action, time) VALUES ($1, $2, $3)",
                &values,
            )
            .await?;
        Ok(())
    }
}

/// Serves until `stop` completes.
pub async fn serve_hospital(
    service: Arc<HospitalService>,
    server: Server,
    stop: impl Future<Output = ()>,
) {
    let tidied = Arc::clone(&service);
    let tasks = Tasks(vec![
        tokio::spawn(writer::keep_writer_epoch(Arc::clone(&service))),
        tokio::spawn(outbox::send(Arc::clone(&service))),
        tokio::spawn(containers::keep_containers(Arc::clone(&service))),
        tokio::spawn(async move {
            loop {
                if let Err(Refused(problem)) = tidied.remove_old_messages().await {
                    tracing::warn!(detail = problem.detail(), "tidying is tried again");
                }
                tokio::time::sleep(tidied.config.tidy_every).await;
            }
        }),
    ]);
    let router = interface(Some(&service)).build(paths().with_state(Arc::clone(&service)));
    let stop = async {
        stop.await;
        // Streams of events have no end of their own.
        service.listeners.close();
    };
    server.serve(router, stop).await;
    drop(tasks);
}

/// Tasks that end with the service, also if it is dropped in the middle.
struct Tasks(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// The OpenAPI document of a hospital's server.
pub fn hospital_openapi() -> OpenApi {
    interface(None).describe(paths().into_openapi())
}

fn interface(service: Option<&HospitalService>) -> Interface {
    let consortium = service.map_or(ConsortiumId::new([0; 32]), |service| service.consortium);
    let institution = service.map_or(InstitutionId::new(0), |service| service.config.institution);
    let rate = service.map_or(100, |service| service.config.rate_per_second.max(1));
    let name = ServiceName::Hospital(institution);
    Interface {
        title: "willis hospital",
        description: "A hospital's server: gives UIDs, passes sealed messages, raises blinded keywords, and signs its doctors' records and requests for the chain.",
        calls: Some(Arc::new(Calls::new(consortium, name))),
        answers: service.map(|service| Arc::new(Answers::new(service.database.clone()))),
        rates: Rates {
            burst: rate.saturating_mul(4),
            interval: Duration::from_secs(1) / rate,
        },
    }
}

fn paths() -> OpenApiRouter<Arc<HospitalService>> {
    OpenApiRouter::new()
        // Doctors.
        .routes(routes!(doctors::enter_doctor))
        .routes(routes!(doctors::list_doctors))
        .routes(routes!(doctors::doctor))
        .routes(routes!(mailboxes::give_uid))
        .routes(routes!(mailboxes::handovers))
        .routes(routes!(mailboxes::handover_events))
        .routes(routes!(mailboxes::remove_handover))
        .routes(routes!(mailboxes::remove_message))
        .routes(routes!(index::writer))
        .routes(routes!(outbox::request))
        .routes(routes!(outbox::transaction_state))
        .routes(routes!(outbox::transaction_events))
        // Patients, and doctors for them.
        .routes(routes!(mailboxes::bind_account, mailboxes::unbind_account))
        .routes(routes!(mailboxes::pass_account_on))
        .routes(routes!(mailboxes::hand_over))
        .routes(routes!(mailboxes::leave_receipt, mailboxes::receipts))
        .routes(routes!(mailboxes::receipt_events))
        .routes(routes!(mailboxes::remove_receipt))
        // IT.
        .routes(routes!(doctors::block_doctor, doctors::unblock_doctor))
        .routes(routes!(doctors::deeds))
        .routes(routes!(index::end_writer_epoch))
        .routes(routes!(containers::damages))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(mailboxes::send_message, mailboxes::messages))
                .layer(DefaultBodyLimit::max(MESSAGE_BODY_BYTES_MAX)),
        )
        .merge(
            OpenApiRouter::new()
                .routes(routes!(index::raise))
                .layer(DefaultBodyLimit::max(POINTS_BODY_BYTES_MAX)),
        )
        .merge(
            OpenApiRouter::new()
                .routes(routes!(index::positions))
                .layer(DefaultBodyLimit::max(POSITIONS_BODY_BYTES_MAX)),
        )
        .merge(
            OpenApiRouter::new()
                .routes(routes!(outbox::record))
                .layer(DefaultBodyLimit::max(RECORD_BODY_BYTES_MAX)),
        )
}

type Service = State<Arc<HospitalService>>;

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
