//! The cloud server (step 4; the paper's 3.1 (5)): takes containers piece by piece, gives each a random
//! address and a signed receipt once all of it lies in the store, gives back only what it took.
//!
//! An upload is spooled to the cloud's own disk, so that it can be taken up again where it stopped, also
//! after the cloud was killed; only a container whose digest is the announced one goes to the store.
//! For each MiB of it a digest is kept, so that a range is checked before it is given out. What no final
//! record names after a grace period is collected; to know that, the cloud follows the chain by proved
//! headers ([`follower`]).

mod containers;
mod follower;
mod pieces;
mod spool;
mod store;
mod watched;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use client::{
    ConsortiumClient, Damage, Damages, Hex, Members, NewUpload, Octets, Problem, ProblemKind,
    ServiceName, SystemRandom, UPLOAD_PIECE_BYTES_MAX, UploadState, VerifiedCall,
};
use ledger::{KeyHash, KeyUse, Registrant};
use parties::{CloudServer, StorageReceipt};
use rand_core::Rng;
use scheme::{Address, ConsortiumId, Digest, InstitutionId, SigningKey, Timestamp};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::database::{Database, DatabaseError, ROW_DIGESTS, Row, Value};
use crate::http::{
    ANSWERS_SCHEMA, Answers, Calls, Interface, Problems, Rates, Refused, Segment, Server,
    SignedBytes, SignedJson, SignedNothing,
};
use client::now;

pub use containers::Containers;
pub(crate) use store::logged;
pub use store::{CloudError, ContainerStore, S3Location, StoreFailure, StoreLocation, Upload};

use pieces::Pieces;
use spool::Spool;

/// The standing of a doctor's key is asked again after this.
const STANDING_MS: u64 = 60 * 1000;
/// Keys whose standing is remembered.
const STANDINGS_MAX: usize = 10_000;
/// Failures of uploads that nobody asked for yet.
const FAILURES_MAX: usize = 1_000;
/// Uploads of one caller that are not complete.
const OPEN_UPLOADS_MAX: i64 = 16;
/// An upload that is not complete after this is dropped.
const UPLOAD_LIFE_MS: u64 = 24 * 60 * 60 * 1000;
/// Damages in one answer.
const DAMAGES_MAX: i64 = 100;
/// How long a call waits for an upload's completion; asked again, it goes on waiting.
const COMPLETION_WAIT: Duration = Duration::from_secs(10);
/// How often it looks.
const COMPLETION_POLL: Duration = Duration::from_millis(20);

/// The tables, step by step.
pub const CLOUD_SCHEMA: &[&str] = &[
    ANSWERS_SCHEMA,
    "CREATE TABLE uploads (
        upload {BYTES} PRIMARY KEY,
        caller {BYTES} NOT NULL,
        institution BIGINT NOT NULL,
        address {BYTES} NOT NULL,
        digest {BYTES} NOT NULL,
        length BIGINT NOT NULL,
        time BIGINT NOT NULL,
        failed BIGINT NOT NULL
    );
    CREATE INDEX uploads_caller ON uploads (caller);
    CREATE TABLE containers (
        address {BYTES} PRIMARY KEY,
        upload {BYTES} NOT NULL,
        caller {BYTES} NOT NULL,
        digest {BYTES} NOT NULL,
        length BIGINT NOT NULL,
        time BIGINT NOT NULL,
        institution BIGINT NOT NULL,
        pieces {BYTES} NOT NULL,
        recorded BIGINT NOT NULL
    );
    CREATE UNIQUE INDEX containers_upload ON containers (upload);
    CREATE INDEX containers_digest ON containers (digest);
    CREATE INDEX containers_orphans ON containers (recorded, time);
    CREATE TABLE stored (
        institution BIGINT NOT NULL,
        day BIGINT NOT NULL,
        length BIGINT NOT NULL,
        PRIMARY KEY (institution, day)
    );
    CREATE TABLE followed (
        id BIGINT PRIMARY KEY,
        height BIGINT NOT NULL,
        time BIGINT NOT NULL
    );
    CREATE TABLE damages (
        address {BYTES} PRIMARY KEY,
        lost BIGINT NOT NULL,
        found BIGINT NOT NULL,
        restored BIGINT NOT NULL
    )",
    ROW_DIGESTS,
];

/// How a cloud server is run.
#[derive(Debug, Clone)]
pub struct CloudConfig {
    /// Where uploads are spooled: on a disk with room for those that are under way.
    pub spool: PathBuf,
    /// The longest container, in bytes.
    pub container_bytes_max: u64,
    /// Bytes that one institution can store in a day.
    pub institution_bytes_per_day: u64,
    /// How long after its upload a container that no record names is collected.
    pub grace: Duration,
    /// How often what is over is looked for.
    pub tidy_every: Duration,
    /// How often an address may call.
    pub rate_per_second: u32,
}

/// The cloud server.
pub struct CloudService {
    consortium: ConsortiumId,
    cloud: CloudServer,
    config: CloudConfig,
    database: Database,
    store: ContainerStore,
    spool: Spool,
    chain: ConsortiumClient,
    members: Members,
    standings: Mutex<BTreeMap<[u8; 32], (Timestamp, InstitutionId)>>,
    /// Why uploads were not completed, for whoever asks next.
    failures: Mutex<BTreeMap<[u8; 16], Problem>>,
}

/// Who stores.
#[derive(Clone, Copy)]
struct Storer {
    key: [u8; 32],
    institution: InstitutionId,
}

impl CloudService {
    /// A cloud over its records, its store and its spool. Under the keys of `members` hospitals' servers
    /// call, to restore.
    ///
    /// # Errors
    /// [`CloudError::Folder`] if the spool cannot be used.
    pub fn new(
        consortium: ConsortiumId,
        key: SigningKey,
        config: CloudConfig,
        database: Database,
        store: ContainerStore,
        chain: ConsortiumClient,
        members: Members,
    ) -> Result<Self, CloudError> {
        Ok(Self {
            consortium,
            cloud: CloudServer::new(consortium, key),
            spool: Spool::open(&config.spool)?,
            config,
            database,
            store,
            chain,
            members,
            standings: Mutex::default(),
            failures: Mutex::default(),
        })
    }

    /// Whose key it is: a hospital's, or a doctor's that f + 1 nodes say is in force.
    async fn storer(&self, call: &VerifiedCall) -> Result<Storer, Refused> {
        let key = *call.key().as_bytes();
        if let Some(institution) = self.members.with_key(&call.key()) {
            return Ok(Storer { key, institution });
        }
        let now = now();
        let known = {
            let standings = self
                .standings
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            standings.get(&key).copied()
        };
        if let Some((asked, institution)) = known
            && now.number().saturating_sub(asked.number()) < STANDING_MS
        {
            return Ok(Storer { key, institution });
        }
        let agreed = self
            .chain
            .agreed_key_soon(KeyHash::of(&call.key()))
            .await
            .map_err(|error| Refused::of(ProblemKind::Busy, &error))?;
        let institution = agreed
            .filter(|key| key.usage() == KeyUse::Signature)
            .and_then(|key| match key.registrant() {
                Registrant::Doctor { institution, .. } => Some(institution),
                _ => None,
            });
        let mut standings = self
            .standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(institution) = institution else {
            standings.remove(&key);
            return Err(Refused::new(
                ProblemKind::NoRight,
                "the cloud stores for doctors whose key is in force on the chain, and this one's is not: renew the certificate at the registration centre",
            ));
        };
        if standings.len() >= STANDINGS_MAX {
            standings.clear();
        }
        standings.insert(key, (now, institution));
        Ok(Storer { key, institution })
    }

    async fn begin(&self, storer: Storer, new: &NewUpload) -> Result<UploadState, Refused> {
        if new.length == 0 || new.length > self.config.container_bytes_max {
            let most = self.config.container_bytes_max;
            return Err(Refused::new(
                ProblemKind::TooLong,
                format!("a container has 1 to {most} bytes here: cut the record into several"),
            ));
        }
        let address = match new.address {
            Some(address) => {
                self.may_restore(&address.0, new).await?;
                Address::new(address.0)
            }
            None => self.cloud.assign_address(&mut SystemRandom),
        };
        let mut upload = [0; 16];
        SystemRandom.fill_bytes(&mut upload);
        let length = integer(new.length);
        let day = integer(now().number() / UPLOAD_LIFE_MS);
        let mut change = self.database.begin().await?;
        let open = change
            .row(
                "SELECT COUNT(*) FROM uploads WHERE caller = $1 AND failed = 0",
                &[storer.key.into()],
            )
            .await?;
        if open.map_or(Ok(0), |row| row.integer(0))? >= OPEN_UPLOADS_MAX {
            return Err(Refused::new(
                ProblemKind::TooMany,
                "16 uploads of this key are not complete: complete them first",
            ));
        }
        let institution = Value::Integer(i64::from(storer.institution.number()));
        let values = [
            institution.clone(),
            Value::Integer(day),
            Value::Integer(length),
        ];
        change
            .run(
                "INSERT INTO stored (institution, day, length) VALUES ($1, $2, $3) \
                 ON CONFLICT (institution, day) DO UPDATE SET length = stored.length + excluded.length",
                &values,
            )
            .await?;
        let stored = change
            .row(
                "SELECT length FROM stored WHERE institution = $1 AND day = $2",
                &values[..2],
            )
            .await?;
        let stored = stored.map_or(Ok(0), |row| row.integer(0))?;
        if stored > integer(self.config.institution_bytes_per_day) {
            return Err(Refused::new(
                ProblemKind::TooMany,
                "this institution's quota of the day is used up: ask the cloud's operator for more, or try again tomorrow",
            ));
        }
        change
            .run(
                "INSERT INTO uploads (upload, caller, institution, address, digest, length, time, failed) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, 0)",
                &[
                    upload.into(),
                    storer.key.into(),
                    institution,
                    (*address.as_bytes()).into(),
                    new.digest.0.into(),
                    Value::Integer(length),
                    now().into(),
                ],
            )
            .await?;
        // The spool's file first: an upload without one is none.
        self.spool.begin(&upload).await?;
        change.commit().await?;
        Ok(UploadState {
            upload: Hex(upload),
            address: Hex(*address.as_bytes()),
            offset: 0,
            length: new.length,
            receipt: None,
        })
    }

    /// A container is restored only by the same bytes, and only if it is lost or altered.
    async fn may_restore(&self, address: &[u8; 32], new: &NewUpload) -> Result<(), Refused> {
        let found = self
            .container(address)
            .await?
            .filter(|found| found.digest.as_bytes() == &new.digest.0 && found.length == new.length)
            .ok_or_else(|| {
                Refused::new(
                    ProblemKind::NotFound,
                    "the cloud gave no receipt for this address, length and digest",
                )
            })?;
        match self.check(&found).await {
            Ok(()) => Err(Refused::new(
                ProblemKind::Conflict,
                "the container is as it was stored: nothing is to be restored",
            )),
            Err(CloudError::NotFound | CloudError::Altered) => Ok(()),
            Err(error) => Err(problem(&error).into()),
        }
    }

    /// Reads a container through and compares it; what is wrong is noted.
    async fn check(&self, container: &Container) -> Result<(), CloudError> {
        match self.store.digest(container.address).await {
            Ok(digest) if digest == container.digest => Ok(()),
            Ok(_) => {
                self.damaged(&container.address, false).await;
                Err(CloudError::Altered)
            }
            Err(CloudError::NotFound) => {
                self.damaged(&container.address, true).await;
                Err(CloudError::NotFound)
            }
            Err(error) => Err(error),
        }
    }

    /// Notes that a container is lost or altered.
    async fn damaged(&self, address: &Address, lost: bool) {
        tracing::error!(
            container = logged(address),
            lost,
            "a container is not as it was stored"
        );
        let noted = self
            .database
            .run(
                "INSERT INTO damages (address, lost, found, restored) VALUES ($1, $2, $3, 0) \
                 ON CONFLICT (address) DO UPDATE SET lost = excluded.lost, found = excluded.found, restored = 0 \
                 WHERE damages.restored > 0",
                &[
                    (*address.as_bytes()).into(),
                    Value::Integer(i64::from(lost)),
                    now().into(),
                ],
            )
            .await;
        if let Err(error) = noted {
            tracing::error!(%error, "a damage could not be noted");
        }
    }

    async fn upload(&self, upload: &[u8; 16], caller: &VerifiedCall) -> Result<Begun, Refused> {
        let key = *caller.key().as_bytes();
        let values = [(*upload).into(), key.into()];
        let found = self
            .database
            .row(
                "SELECT address, digest, length, institution, failed FROM uploads WHERE upload = $1 AND caller = $2",
                &values,
            )
            .await?;
        if let Some(row) = found {
            if row.integer(4)? != 0 {
                return Err(Refused::new(
                    ProblemKind::DoesNotStand,
                    "what came is not what was announced: its digest is another one; begin a new upload",
                ));
            }
            return Ok(Begun::Open(Container {
                address: Address::new(row.array(0)?),
                digest: Digest::new(row.array(1)?),
                length: unsigned(row.integer(2)?),
                institution: row.integer(3)?,
                time: now(),
            }));
        }
        let found = self
            .database
            .row(
                "SELECT address, digest, length, institution, time FROM containers WHERE upload = $1 AND caller = $2",
                &values,
            )
            .await?;
        let row = found.ok_or_else(|| {
            Refused::new(
                ProblemKind::NotFound,
                "there is no such upload of this key: it was dropped after a day, or never begun; begin anew",
            )
        })?;
        Ok(Begun::Complete(container(&row)?))
    }

    async fn container(&self, address: &[u8; 32]) -> Result<Option<Container>, DatabaseError> {
        let found = self
            .database
            .row(
                "SELECT address, digest, length, institution, time FROM containers WHERE address = $1",
                &[(*address).into()],
            )
            .await?;
        found.map(|row| container(&row)).transpose()
    }

    async fn state(&self, upload: [u8; 16], begun: &Begun) -> Result<UploadState, Refused> {
        let (container, offset, receipt) = match begun {
            Begun::Open(container) => (container, self.spool.length(&upload).await?, None),
            Begun::Complete(container) => {
                let receipt = self.receipt(container).encode();
                let receipt = receipt.try_into().map(Hex).ok();
                (container, container.length, receipt)
            }
        };
        Ok(UploadState {
            upload: Hex(upload),
            address: Hex(*container.address.as_bytes()),
            offset,
            length: container.length,
            receipt,
        })
    }

    /// An upload's state; one that has all its bytes is completed, and waited for a while.
    async fn answer(
        self: &Arc<Self>,
        upload: [u8; 16],
        call: &VerifiedCall,
        mut begun: Begun,
    ) -> Result<Json<UploadState>, Refused> {
        let end = Instant::now() + COMPLETION_WAIT;
        loop {
            let state = match self.state(upload, &begun).await {
                Ok(state) => state,
                Err(refused) => match self.upload(&upload, call).await? {
                    // Completed between the two looks: its bytes have left the spool.
                    complete @ Begun::Complete(_) => {
                        begun = complete;
                        continue;
                    }
                    Begun::Open(_) => return Err(refused),
                },
            };
            match begun {
                Begun::Open(open) if state.offset == open.length && Instant::now() < end => {
                    let failure = {
                        let mut failures =
                            self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                        failures.remove(&upload)
                    };
                    if let Some(problem) = failure {
                        return Err(problem.into());
                    }
                    self.complete_beside(upload, *call.key().as_bytes(), open);
                    tokio::time::sleep(COMPLETION_POLL).await;
                }
                _ => return Ok(Json(state)),
            }
            begun = self.upload(&upload, call).await?;
        }
    }

    fn receipt(&self, container: &Container) -> StorageReceipt {
        self.cloud.receipt(
            container.address,
            container.digest,
            container.length,
            container.time,
        )
    }

    /// Completes an upload whose bytes are all spooled, beside the call that brought the last, since a
    /// large container takes longer than a call may.
    fn complete_beside(self: &Arc<Self>, upload: [u8; 16], caller: [u8; 32], open: Container) {
        let Some(held) = self.spool.hold(&upload) else {
            return;
        };
        let service = Arc::clone(self);
        tokio::spawn(async move {
            // Asked for its state again, it is completed again.
            if let Err(Refused(problem)) = service.complete(upload, caller, open).await {
                tracing::warn!(detail = problem.detail(), "an upload was not completed");
                let mut failures = service
                    .failures
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                if failures.len() < FAILURES_MAX {
                    failures.insert(upload, problem);
                }
            }
            drop(held);
        });
    }

    /// Compares the digest of what is spooled and moves it to the store.
    async fn complete(
        &self,
        upload: [u8; 16],
        caller: [u8; 32],
        mut open: Container,
    ) -> Result<(), Refused> {
        let waits = self
            .database
            .row("SELECT 1 FROM uploads WHERE upload = $1", &[upload.into()])
            .await?;
        if waits.is_none() {
            // Completed since whoever asks for it looked.
            return Ok(());
        }
        let mut stored = self
            .store
            .begin(open.address)
            .await
            .map_err(|error| problem(&error))?;
        let mut pieces = Pieces::new();
        let mut reader = self.spool.reader(&upload).await?;
        while let Some(bytes) = reader.next().await? {
            pieces.update(&bytes);
            stored
                .write(&bytes)
                .await
                .map_err(|error| problem(&error))?;
        }
        let (digest, pieces) = pieces.finish();
        if digest != open.digest {
            self.database
                .run(
                    "UPDATE uploads SET failed = 1 WHERE upload = $1",
                    &[upload.into()],
                )
                .await?;
            return self.spool.remove(&upload).await;
        }
        stored.finish().await.map_err(|error| problem(&error))?;
        // Read back before the receipt promises it.
        let found = self.store.digest(open.address).await;
        if found.map_err(|error| problem(&error))? != open.digest {
            return Err(problem(&CloudError::Altered).into());
        }
        open.time = now();
        let mut change = self.database.begin().await?;
        let values = [
            (*open.address.as_bytes()).into(),
            upload.into(),
            caller.into(),
            open.digest.into(),
            Value::Integer(integer(open.length)),
            open.time.into(),
            Value::Integer(open.institution),
            pieces.as_slice().into(),
        ];
        change
            .run(
                "INSERT INTO containers (address, upload, caller, digest, length, time, institution, pieces, recorded) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0) \
                 ON CONFLICT (address) DO UPDATE SET upload = excluded.upload, caller = excluded.caller",
                &values,
            )
            .await?;
        change
            .run(
                "UPDATE damages SET restored = $1 WHERE address = $2 AND restored = 0",
                &[open.time.into(), (*open.address.as_bytes()).into()],
            )
            .await?;
        change
            .run("DELETE FROM uploads WHERE upload = $1", &[upload.into()])
            .await?;
        change.commit().await?;
        // If this fails, it is removed with the other leftovers later.
        self.spool.remove(&upload).await
    }

    async fn drop_upload(&self, upload: &[u8; 16]) -> Result<(), Refused> {
        self.database
            .run("DELETE FROM uploads WHERE upload = $1", &[(*upload).into()])
            .await?;
        self.spool.remove(upload).await
    }

    /// Drops uploads that were not completed in their time, spooled files that no upload has, and
    /// containers that no record names.
    async fn tidy(&self) -> Result<(), Refused> {
        let before = Timestamp::new(now().number().saturating_sub(UPLOAD_LIFE_MS));
        let over = self
            .database
            .rows(
                "SELECT upload FROM uploads WHERE time < $1 LIMIT 1000",
                &[before.into()],
            )
            .await?;
        for row in over {
            self.drop_upload(&row.array(0)?).await?;
        }
        for upload in self.spool.list().await? {
            let known = self
                .database
                .row("SELECT 1 FROM uploads WHERE upload = $1", &[upload.into()])
                .await?;
            if known.is_none() && self.spool.is_old(&upload).await? {
                self.spool.remove(&upload).await?;
            }
        }
        self.collect_orphans().await
    }

    /// Removes containers that no final record names though the chain was followed for the whole grace
    /// period after their upload.
    async fn collect_orphans(&self) -> Result<(), Refused> {
        let followed = self
            .database
            .row("SELECT time FROM followed WHERE id = 1", &[])
            .await?;
        let Some(followed) = followed.map(|row| row.time(0)).transpose()? else {
            return Ok(());
        };
        let grace = u64::try_from(self.config.grace.as_millis()).unwrap_or(u64::MAX);
        let before = Timestamp::new(followed.number().saturating_sub(grace));
        let orphans = self
            .database
            .rows(
                "SELECT address FROM containers WHERE recorded = 0 AND time < $1 LIMIT 1000",
                &[before.into()],
            )
            .await?;
        for row in orphans {
            let address: [u8; 32] = row.array(0)?;
            // The row first: what has no row is given to nobody, and is removed again if this fails.
            let removed = self
                .database
                .run(
                    "DELETE FROM containers WHERE address = $1 AND recorded = 0",
                    &[address.into()],
                )
                .await?;
            if removed == 1 {
                let address = Address::new(address);
                tracing::info!(container = logged(&address), "an orphan is collected");
                match self.store.remove(address).await {
                    Ok(()) | Err(CloudError::NotFound) => {}
                    Err(error) => tracing::warn!(%error, "an orphan could not be removed"),
                }
            }
        }
        Ok(())
    }
}

/// An upload, open or complete.
enum Begun {
    Open(Container),
    Complete(Container),
}

struct Container {
    address: Address,
    digest: Digest,
    length: u64,
    institution: i64,
    time: Timestamp,
}

fn container(row: &Row) -> Result<Container, DatabaseError> {
    Ok(Container {
        address: Address::new(row.array(0)?),
        digest: Digest::new(row.array(1)?),
        length: unsigned(row.integer(2)?),
        institution: row.integer(3)?,
        time: row.time(4)?,
    })
}

/// Serves until `stop` completes.
pub async fn serve_cloud(
    service: Arc<CloudService>,
    server: Server,
    stop: impl Future<Output = ()>,
) {
    let following = tokio::spawn(follower::follow(Arc::clone(&service)));
    let tidied = Arc::clone(&service);
    let tidying = tokio::spawn(async move {
        loop {
            if let Err(Refused(problem)) = tidied.tidy().await {
                tracing::warn!(detail = problem.detail(), "tidying is tried again");
            }
            tokio::time::sleep(tidied.config.tidy_every).await;
        }
    });
    let router = interface(Some(&service)).build(paths().with_state(service));
    server.serve(router, stop).await;
    following.abort();
    tidying.abort();
}

/// The OpenAPI document of a cloud server.
pub fn cloud_openapi() -> OpenApi {
    interface(None).describe(paths().into_openapi())
}

fn interface(service: Option<&CloudService>) -> Interface {
    let consortium = service.map_or(ConsortiumId::new([0; 32]), |service| service.consortium);
    let rate = service.map_or(100, |service| service.config.rate_per_second.max(1));
    Interface {
        title: "willis cloud",
        description: "The cloud server: takes sealed containers under random addresses, and gives back only what it took.",
        calls: Some(Arc::new(Calls::new(consortium, ServiceName::Cloud))),
        answers: service.map(|service| Arc::new(Answers::new(service.database.clone()))),
        rates: Rates {
            burst: rate.saturating_mul(4),
            interval: Duration::from_secs(1) / rate,
        },
    }
}

fn paths() -> OpenApiRouter<Arc<CloudService>> {
    let piece = DefaultBodyLimit::max(UPLOAD_PIECE_BYTES_MAX);
    OpenApiRouter::new()
        .routes(routes!(begin_upload))
        .routes(routes!(read_container))
        .routes(routes!(storage_receipt))
        .routes(routes!(damages))
        .layer(DefaultBodyLimit::max(4 * 1024))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(upload_state, upload_piece))
                .layer(piece),
        )
}

type Service = State<Arc<CloudService>>;

#[utoipa::path(
    post,
    path = "/v1/uploads",
    operation_id = "begin_upload",
    summary = "Announces a container and gets its upload's name and its random address.",
    params(("Idempotency-Key" = String, Header, description = "Makes the write happen once")),
    request_body = NewUpload,
    responses((status = 201, body = UploadState), Problems),
    security(("signed" = [])),
)]
async fn begin_upload(
    State(service): Service,
    SignedJson(call, new): SignedJson<NewUpload>,
) -> Result<(StatusCode, Json<UploadState>), Refused> {
    let storer = service.storer(&call).await?;
    Ok((
        StatusCode::CREATED,
        Json(service.begin(storer, &new).await?),
    ))
}

#[utoipa::path(
    get,
    path = "/v1/uploads/{upload}",
    operation_id = "upload_state",
    summary = "How far an upload has come, with the receipt once it is complete.",
    params(("upload" = Hex<16>, Path)),
    responses((status = 200, body = UploadState), Problems),
    security(("signed" = [])),
)]
async fn upload_state(
    State(service): Service,
    Segment(upload): Segment<Hex<16>>,
    SignedNothing(call): SignedNothing,
) -> Result<Json<UploadState>, Refused> {
    let begun = service.upload(&upload.0, &call).await?;
    service.answer(upload.0, &call, begun).await
}

#[utoipa::path(
    patch,
    path = "/v1/uploads/{upload}",
    operation_id = "upload_piece",
    summary = "Takes the next piece, of at most 8 MiB. It is on the disk when this answers.",
    params(
        ("upload" = Hex<16>, Path),
        ("Upload-Offset" = u64, Header, description = "Where the piece begins: the offset that the upload has reached"),
    ),
    request_body(content = Octets, content_type = "application/octet-stream"),
    responses((status = 200, body = UploadState), Problems),
    security(("signed" = [])),
)]
async fn upload_piece(
    State(service): Service,
    Segment(upload): Segment<Hex<16>>,
    headers: HeaderMap,
    SignedBytes(call, piece): SignedBytes,
) -> Result<Json<UploadState>, Refused> {
    let upload = upload.0;
    let offset = headers
        .get("Upload-Offset")
        .and_then(|offset| offset.to_str().ok()?.parse::<u64>().ok())
        .ok_or_else(|| {
            Refused::new(
                ProblemKind::Malformed,
                "a piece needs an Upload-Offset header: where it begins, in bytes",
            )
        })?;
    let begun = match service.upload(&upload, &call).await? {
        Begun::Open(open) => {
            let held = service.spool.hold(&upload).ok_or_else(|| {
                Refused::new(
                    ProblemKind::Busy,
                    "another piece of this upload is being taken: ask for its state and go on there",
                )
            })?;
            service
                .spool
                .append(&upload, offset, &piece, open.length)
                .await?;
            drop(held);
            Begun::Open(open)
        }
        complete => complete,
    };
    service.answer(upload, &call, begun).await
}

#[utoipa::path(
    get,
    path = "/v1/containers/{address}",
    operation_id = "read_container",
    summary = "A container, or one range of it, each MiB compared with its digest before it goes out. Whoever knows the address may read it: it is ciphertext.",
    params(
        ("address" = Hex<32>, Path),
        ("Range" = Option<String>, Header, description = "bytes=FIRST-LAST or bytes=FIRST-"),
    ),
    responses(
        (status = 200, body = Octets, content_type = "application/octet-stream"),
        (status = 206, body = Octets, content_type = "application/octet-stream"),
        Problems
    ),
)]
async fn read_container(
    State(service): Service,
    Segment(address): Segment<Hex<32>>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let found = service
        .database
        .row(
            "SELECT length, pieces FROM containers WHERE address = $1",
            &[address.0.into()],
        )
        .await?
        .ok_or_else(|| problem(&CloudError::NotFound))?;
    let (length, pieces) = (unsigned(found.integer(0)?), found.bytes(1)?);
    let range = pieces::range(headers.get(header::RANGE), length)?;
    let whole = range == (0..length);
    let service = Arc::clone(&service);
    let mut reader = pieces::Reader::new(
        service,
        Address::new(address.0),
        length,
        pieces,
        range.clone(),
    );
    // The first piece before the status goes out, so that what is lost or altered is a refusal.
    let first = reader.next().await.map_err(|error| problem(&error))?;
    let body = futures::stream::try_unfold((first, reader), |(ready, mut reader)| async move {
        match ready {
            None => Ok::<_, CloudError>(None),
            Some(bytes) => {
                let next = reader.next().await?;
                Ok(Some((bytes, (next, reader))))
            }
        }
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(
        header::CONTENT_LENGTH,
        HeaderValue::from(range.end - range.start),
    );
    if !whole {
        let text = format!("bytes {}-{}/{length}", range.start, range.end - 1);
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(header::CONTENT_RANGE, value);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

#[utoipa::path(
    get,
    path = "/v1/containers/{address}/receipt",
    operation_id = "storage_receipt",
    summary = "The signed storage receipt of a container.",
    params(("address" = Hex<32>, Path)),
    responses((status = 200, body = Octets, content_type = "application/octet-stream"), Problems),
)]
async fn storage_receipt(
    State(service): Service,
    Segment(address): Segment<Hex<32>>,
) -> Result<Vec<u8>, Refused> {
    let found = service.container(&address.0).await?;
    let found = found.ok_or_else(|| problem(&CloudError::NotFound))?;
    Ok(service.receipt(&found).encode())
}

#[utoipa::path(
    get,
    path = "/v1/damages",
    operation_id = "damages",
    summary = "Containers that were found lost or altered, with their receipts, for the institution that stored them.",
    responses((status = 200, body = Damages), Problems),
    security(("signed" = [])),
)]
async fn damages(
    State(service): Service,
    SignedNothing(call): SignedNothing,
) -> Result<Json<Damages>, Refused> {
    let storer = service.storer(&call).await?;
    let rows = service
        .database
        .rows(
            "SELECT c.address, c.digest, c.length, c.institution, c.time, d.lost, d.found, d.restored \
             FROM damages d JOIN containers c ON c.address = d.address \
             WHERE c.institution = $1 ORDER BY d.found DESC LIMIT $2",
            &[
                Value::Integer(i64::from(storer.institution.number())),
                Value::Integer(DAMAGES_MAX),
            ],
        )
        .await?;
    let damages = rows
        .iter()
        .map(|row| {
            let container = container(row)?;
            let receipt = service.receipt(&container).encode();
            Ok(Damage {
                address: Hex(*container.address.as_bytes()),
                receipt: Hex(receipt.try_into().unwrap_or([0; 144])),
                lost: row.integer(5)? != 0,
                found: unsigned(row.integer(6)?),
                restored: Some(unsigned(row.integer(7)?)).filter(|time| *time > 0),
            })
        })
        .collect::<Result<_, DatabaseError>>()?;
    Ok(Json(Damages { damages }))
}

/// A store's failure as a refusal.
pub(crate) fn problem(error: &CloudError) -> Problem {
    let kind = match error {
        CloudError::NotFound => ProblemKind::NotFound,
        CloudError::Altered => ProblemKind::DoesNotStand,
        CloudError::Full => ProblemKind::Full,
        CloudError::Folder(..) => ProblemKind::Failed,
        CloudError::Store(_) | CloudError::Away(_) => ProblemKind::Busy,
    };
    Problem::of(kind, error)
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
