//! `willis cloud`: the cloud server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::{ConsortiumClient, Founding};
use scheme::SigningKey;
use serde::Deserialize;
use services::{
    CLOUD_SCHEMA, CloudConfig, CloudService, ContainerStore, Database, DatabaseLocation,
    S3Location, Server, ServerTls, StoreLocation, WatchedRole, Watching, serve_cloud,
};

use super::{Membership, Role, RoleError, block_on, database, stop};
use crate::configuration::{
    Configuration, FOUNDING, RoleFile, TLS_CERTIFICATE, TLS_KEY, TLS_REVOKED, TRACES, TlsFile,
    WATCH,
};
use crate::keys;

/// The cloud server's configuration file. Paths are relative to the file's folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloudFile {
    founding: PathBuf,
    key: PathBuf,
    listen: SocketAddr,
    database: String,
    spool: PathBuf,
    store: StoreFile,
    #[serde(default = "container_bytes_max")]
    container_bytes_max: u64,
    #[serde(default = "institution_bytes_per_day")]
    institution_bytes_per_day: u64,
    #[serde(default = "grace_hours")]
    grace_hours: u64,
    #[serde(default = "rate_per_second")]
    rate_per_second: u32,
    watch: Option<SocketAddr>,
    traces: Option<String>,
    tls: Option<TlsFile>,
}

/// Where containers lie.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreFile {
    folder: Option<PathBuf>,
    s3: Option<S3File>,
}

/// An S3-compatible store.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct S3File {
    endpoint: String,
    bucket: String,
    #[serde(default = "region")]
    region: String,
    access_key_id: String,
    secret_access_key_file: PathBuf,
}

fn container_bytes_max() -> u64 {
    16 << 30
}

fn institution_bytes_per_day() -> u64 {
    1 << 40
}

fn grace_hours() -> u64 {
    7 * 24
}

fn rate_per_second() -> u32 {
    200
}

fn region() -> String {
    "us-east-1".to_owned()
}

impl RoleFile for CloudFile {
    const ROLE: &'static str = "cloud";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        FOUNDING,
        (
            "key",
            "file with the key that signs storage receipts: 64 hexadecimal digits",
        ),
        ("listen", "address and port for users, hospitals and nodes"),
        (
            "database",
            "file of SQLite, or postgres://user@host/database",
        ),
        ("spool", "folder for uploads under way"),
        ("store.folder", "folder for containers; this or store.s3"),
        (
            "store.s3.endpoint",
            "https://host:port of an S3-compatible store",
        ),
        ("store.s3.bucket", "its bucket, which is there already"),
        (
            "store.s3.region",
            "as the store asks for it; us-east-1 by default",
        ),
        ("store.s3.access_key_id", "id of the access key"),
        (
            "store.s3.secret_access_key_file",
            "file with the access key's secret",
        ),
        (
            "container_bytes_max",
            "longest container in bytes; 16 GiB by default",
        ),
        (
            "institution_bytes_per_day",
            "bytes that one institution can store in a day; 1 TiB by default",
        ),
        (
            "grace_hours",
            "after how long a container that no final record names is collected; 168 by default",
        ),
        (
            "rate_per_second",
            "calls a second from one address; 200 by default",
        ),
        WATCH,
        TRACES,
        TLS_CERTIFICATE,
        TLS_KEY,
        TLS_REVOKED,
    ];

    fn traces(&self) -> Option<&str> {
        self.traces.as_deref()
    }
}

/// A cloud that is ready to start.
pub(crate) struct Cloud {
    founding: Founding,
    key: SigningKey,
    config: CloudConfig,
    database: DatabaseLocation,
    store: ContainerStore,
    chain: ConsortiumClient,
    membership: Membership,
    tls: Option<ServerTls>,
    listen: SocketAddr,
    watch: Option<SocketAddr>,
}

impl Role for CloudFile {
    type Prepared = Cloud;

    fn prepare(configuration: Configuration<Self>) -> Result<Cloud, RoleError> {
        let file = &configuration.file;
        let founding = configuration.founding(&file.founding)?;
        let path = configuration.path(&file.key);
        let key = SigningKey::from_seed(*keys::read(&path)?);
        if key.verifying_key().as_bytes() != &founding.directory.cloud.receipt_key.0 {
            return Err(RoleError::WrongKey(path, "the cloud".into()));
        }
        let location = store_location("store", &file.store, &configuration)?;
        let identity = configuration.identity(file.tls.as_ref())?;
        let membership = Membership::of(&founding, identity.as_ref())?;
        Ok(Cloud {
            key,
            config: CloudConfig {
                spool: configuration.path(&file.spool),
                container_bytes_max: file.container_bytes_max,
                institution_bytes_per_day: file.institution_bytes_per_day,
                grace: Duration::from_secs(file.grace_hours.saturating_mul(3_600)),
                tidy_every: Duration::from_secs(60),
                rate_per_second: file.rate_per_second,
            },
            database: database(&file.database, |path| configuration.path(path)),
            store: ContainerStore::at(&location)?,
            chain: ConsortiumClient::of(&founding, identity.as_ref())?,
            tls: configuration.server_tls(file.tls.as_ref(), &founding, &membership.members)?,
            membership,
            listen: file.listen,
            watch: file.watch,
            founding,
        })
    }

    fn run(cloud: Cloud, until_input_ends: bool) -> Result<(), RoleError> {
        block_on(async move {
            let database = Database::open(&cloud.database, CLOUD_SCHEMA).await?;
            let service = CloudService::new(
                cloud.founding.consortium(),
                cloud.key,
                cloud.config,
                database.clone(),
                cloud.store,
                cloud.chain,
                cloud.membership.members.clone(),
            )?;
            let server = Server::bind(cloud.listen, cloud.tls).await?;
            let _following = cloud.membership.follow(&server);
            let service = Arc::new(service);
            let role = WatchedRole::of(Self::ROLE);
            let watching = Watching::start(cloud.watch, role, &server, Arc::clone(&service));
            let _watching = watching.await?;
            serve_cloud(service, server, stop(until_input_ends)).await;
            database.close().await;
            Ok(())
        })
    }
}

/// Where a field of this name says that containers lie.
pub(super) fn store_location<F: RoleFile>(
    field: &'static str,
    store: &StoreFile,
    configuration: &Configuration<F>,
) -> Result<StoreLocation, RoleError> {
    match (&store.folder, &store.s3) {
        (Some(folder), None) => Ok(StoreLocation::Folder(configuration.path(folder))),
        (None, Some(s3)) => {
            let secret = configuration.path(&s3.secret_access_key_file);
            let secret = std::fs::read_to_string(&secret)
                .map_err(|error| RoleError::Folder(secret.clone(), error))?;
            Ok(StoreLocation::S3(S3Location {
                endpoint: s3.endpoint.clone(),
                bucket: s3.bucket.clone(),
                region: s3.region.clone(),
                access_key_id: s3.access_key_id.clone(),
                secret_access_key: secret.trim().to_owned(),
            }))
        }
        _ => {
            let why = "it needs either a folder or s3".to_owned();
            Err(RoleError::Value(field, why))
        }
    }
}
