//! `willis hospital`: a hospital's server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::{CloudClient, ConsortiumClient, Founding, ServiceClient, ServiceName};
use scheme::{HeldKey, InstitutionId, VerifyingKey};
use serde::Deserialize;
use services::{
    Database, DatabaseLocation, HOSPITAL_SCHEMA, HospitalConfig, HospitalService, Server,
    ServerTls, WatchedRole, Watching, serve_hospital,
};

use super::centre::NamedKey;
use super::cloud::{StoreFile, store_location};
use super::{Membership, Role, RoleError, block_on, database, stop};
use crate::configuration::{
    Configuration, FOUNDING, RoleFile, TLS_CERTIFICATE, TLS_KEY, TLS_REVOKED, TRACES, TlsFile,
    WATCH,
};
use crate::keys;

/// How long the nodes have to say who belongs to the consortium.
const ASK: Duration = Duration::from_secs(10);
/// After how long they are asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// The hospital's configuration file. Paths are relative to the file's folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HospitalFile {
    founding: PathBuf,
    institution: u32,
    key: PathBuf,
    listen: SocketAddr,
    database: String,
    writer_folder: PathBuf,
    spool: PathBuf,
    #[serde(default)]
    it: Vec<NamedKey>,
    second_store: Option<StoreFile>,
    #[serde(default = "writer_epoch_days")]
    writer_epoch_days: u64,
    #[serde(default = "scrub_bytes_per_second")]
    scrub_bytes_per_second: u64,
    #[serde(default = "scrub_days")]
    scrub_days: u64,
    #[serde(default = "rate_per_second")]
    rate_per_second: u32,
    watch: Option<SocketAddr>,
    traces: Option<String>,
    tls: Option<TlsFile>,
}

fn writer_epoch_days() -> u64 {
    90
}

fn scrub_bytes_per_second() -> u64 {
    8 << 20
}

fn scrub_days() -> u64 {
    30
}

fn rate_per_second() -> u32 {
    200
}

impl RoleFile for HospitalFile {
    const ROLE: &'static str = "hospital";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        FOUNDING,
        ("institution", "number of the hospital whose server this is"),
        (
            "key",
            "file with the institution's key: 64 hexadecimal digits, or the pkcs11: URI of the key in a token",
        ),
        ("listen", "address and port for doctors and patients"),
        (
            "database",
            "file of SQLite, or postgres://user@host/database",
        ),
        (
            "writer_folder",
            "folder for the secret of each writer epoch: on a disk that no backup holds",
        ),
        ("spool", "folder for containers that are being restored"),
        (
            "it",
            "list of the IT's keys: name, and key in hexadecimal (willis officer new)",
        ),
        (
            "second_store.folder",
            "folder for copies of the hospital's containers; this, second_store.s3, or neither",
        ),
        (
            "second_store.s3.endpoint",
            "https://host:port of an S3-compatible store",
        ),
        (
            "second_store.s3.bucket",
            "its bucket, which is there already",
        ),
        (
            "second_store.s3.region",
            "as the store asks for it; us-east-1 by default",
        ),
        ("second_store.s3.access_key_id", "id of the access key"),
        (
            "second_store.s3.secret_access_key_file",
            "file with the access key's secret",
        ),
        (
            "writer_epoch_days",
            "how long a writer epoch lasts; 90 by default",
        ),
        (
            "scrub_bytes_per_second",
            "bytes a second that are read from the cloud, and from the second store, to see whether they are still there; 8 MiB by default",
        ),
        (
            "scrub_days",
            "how often each container and its copy are read again; every 30 days by default",
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

/// A hospital's server that is ready to start.
pub(crate) struct Hospital {
    founding: Founding,
    key: HeldKey,
    config: HospitalConfig,
    database: DatabaseLocation,
    chain: ConsortiumClient,
    cloud: CloudClient,
    membership: Membership,
    key_file: PathBuf,
    /// Whether the founding document names the key for the institution.
    founder: bool,
    tls: Option<ServerTls>,
    listen: SocketAddr,
    watch: Option<SocketAddr>,
}

impl Role for HospitalFile {
    type Prepared = Hospital;

    fn prepare(configuration: Configuration<Self>) -> Result<Hospital, RoleError> {
        let file = &configuration.file;
        let founding = configuration.founding(&file.founding)?;
        let own = InstitutionId::new(file.institution);
        let path = configuration.path(&file.key);
        let key = keys::held(&path)?;
        let founder = check_key(&founding, own, &key.verifying_key(), &path)?;
        let second_store = file
            .second_store
            .as_ref()
            .map(|store| store_location("second_store", store, &configuration));
        let identity = configuration.identity(file.tls.as_ref())?;
        let membership = Membership::of(&founding, identity.as_ref())?;
        let directory = &founding.directory;
        let endpoint = directory.endpoint(ServiceName::Cloud, identity.as_ref())?;
        let cloud = ServiceClient::new(founding.consortium(), endpoint).signing(key.clone());
        let day = 24 * 60 * 60;
        Ok(Hospital {
            key,
            config: HospitalConfig {
                institution: own,
                cloud_receipt_key: VerifyingKey::new(directory.cloud.receipt_key.0),
                it: file
                    .it
                    .iter()
                    .map(|it| (it.name.clone(), VerifyingKey::new(it.key.0)))
                    .collect(),
                writer_folder: configuration.path(&file.writer_folder),
                writer_epoch_life: Duration::from_secs(file.writer_epoch_days.saturating_mul(day)),
                second_store: second_store.transpose()?,
                spool: configuration.path(&file.spool),
                scrub_bytes_per_second: file.scrub_bytes_per_second,
                scrub_every: Duration::from_secs(file.scrub_days.saturating_mul(day)),
                message_life: Duration::from_secs(90 * day),
                tidy_every: Duration::from_secs(60),
                rate_per_second: file.rate_per_second,
            },
            database: database(&file.database, |path| configuration.path(path)),
            chain: ConsortiumClient::of(&founding, identity.as_ref())?,
            cloud: CloudClient::new(cloud),
            tls: configuration.server_tls(file.tls.as_ref(), &founding, &membership.members)?,
            key_file: path,
            founder,
            membership,
            listen: file.listen,
            watch: file.watch,
            founding,
        })
    }

    fn run(hospital: Hospital, until_input_ends: bool) -> Result<(), RoleError> {
        block_on(async move {
            let stop = stop(until_input_ends);
            tokio::pin!(stop);
            tokio::select! {
                () = &mut stop => return Ok(()),
                named = hospital.is_named() => named?,
            }
            let database = Database::open(&hospital.database, HOSPITAL_SCHEMA).await?;
            let service = HospitalService::new(
                hospital.founding.consortium(),
                hospital.key,
                hospital.config,
                database.clone(),
                hospital.chain,
                hospital.cloud,
            )?;
            let server = Server::bind(hospital.listen, hospital.tls).await?;
            let _following = hospital.membership.follow(&server);
            let service = Arc::new(service);
            let role = WatchedRole::of(Self::ROLE);
            let watching = Watching::start(hospital.watch, role, &server, Arc::clone(&service));
            let _watching = watching.await?;
            serve_hospital(service, server, stop).await;
            database.close().await;
            Ok(())
        })
    }
}

impl Hospital {
    /// Waits until the chain says that the key is the institution's. A founder with the key of its
    /// founding starts without the nodes as well, so that it serves while they are away.
    async fn is_named(&self) -> Result<(), RoleError> {
        let (own, key) = (self.config.institution, self.key.verifying_key());
        let mut told = false;
        loop {
            let asked = tokio::time::timeout(ASK, self.chain.institutions()).await;
            if let Ok(Ok(institutions)) = asked {
                let mut found = institutions.iter().map(|held| &held.institution);
                return match found.find(|institution| institution.id == own) {
                    Some(institution) if institution.key == key => Ok(()),
                    Some(_) => {
                        let whose = format!("institution {own}");
                        Err(RoleError::WrongKey(self.key_file.clone(), whose))
                    }
                    None => Err(RoleError::Institution(own.number())),
                };
            }
            if self.founder {
                return Ok(());
            }
            if !told {
                tracing::warn!("no node says whose the key is: the server starts once one does");
                told = true;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Whether the founding document names the key for this institution; not whether the chain does now.
fn check_key(
    founding: &Founding,
    own: InstitutionId,
    key: &VerifyingKey,
    path: &Path,
) -> Result<bool, RoleError> {
    let mut founders = founding.genesis.institutions.iter();
    match founders.find(|founder| founder.key == *key) {
        Some(founder) if founder.id == own => Ok(true),
        Some(_) => {
            let whose = format!("institution {own}");
            Err(RoleError::WrongKey(path.to_owned(), whose))
        }
        None => {
            crate::complain(
                "willis hospital: note",
                &format!(
                    "the founding document does not name the key in {} for institution {own}: the server starts once the nodes say that the chain does",
                    path.display()
                ),
            );
            Ok(false)
        }
    }
}
