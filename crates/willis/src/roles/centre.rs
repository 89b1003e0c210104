//! `willis centre`: the registration centre.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::{ConsortiumClient, Hex};
use scheme::{SigningKey, VerifyingKey};
use serde::Deserialize;
use services::{
    CentreConfig, CentreService, DatabaseLocation, IdentityKey, Officer, Rates, Server, ServerTls,
    WatchedRole, Watching, serve_centre,
};

use super::{Membership, Role, RoleError, block_on, database, stop};
use crate::configuration::{
    Configuration, FOUNDING, RoleFile, TLS_CERTIFICATE, TLS_KEY, TLS_REVOKED, TRACES, TlsFile,
    WATCH,
};
use crate::keys;

/// The centre's configuration file. Paths are relative to the file's folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CentreFile {
    founding: PathBuf,
    key: PathBuf,
    identity_key: PathBuf,
    listen: SocketAddr,
    database: String,
    #[serde(default)]
    officers: Vec<NamedKey>,
    #[serde(default)]
    approve_automatically: bool,
    #[serde(default)]
    may_make_keys: bool,
    #[serde(default = "validity_days")]
    validity_days: u64,
    #[serde(default = "rate_per_second")]
    rate_per_second: u32,
    #[serde(default = "enrolments_per_minute")]
    enrolments_per_minute: u32,
    watch: Option<SocketAddr>,
    traces: Option<String>,
    tls: Option<TlsFile>,
}

/// A person's public key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedKey {
    pub(crate) name: String,
    pub(crate) key: Hex<32>,
}

fn validity_days() -> u64 {
    365
}

fn rate_per_second() -> u32 {
    50
}

fn enrolments_per_minute() -> u32 {
    10
}

/// So many in this time, twice as many at once.
pub(super) fn per(most: u32, time: Duration) -> Rates {
    Rates {
        burst: most.max(1).saturating_mul(2),
        interval: time / most.max(1),
    }
}

impl RoleFile for CentreFile {
    const ROLE: &'static str = "centre";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        FOUNDING,
        (
            "key",
            "file with the certification key: 64 hexadecimal digits",
        ),
        (
            "identity_key",
            "file with the key that encrypts identity material: 64 hexadecimal digits",
        ),
        ("listen", "address and port for users and officers"),
        (
            "database",
            "file of SQLite, or postgres://user@host/database",
        ),
        (
            "officers",
            "list of officers: name, and key in hexadecimal (willis officer new)",
        ),
        (
            "approve_automatically",
            "certify without an officer: for development only; false by default",
        ),
        (
            "may_make_keys",
            "let officers make keys for people without a device; false by default",
        ),
        (
            "validity_days",
            "how long a certificate stands; 365 by default",
        ),
        (
            "rate_per_second",
            "calls a second from one address; 50 by default",
        ),
        (
            "enrolments_per_minute",
            "enrolments a minute from one address; 10 by default",
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

/// A centre that is ready to start.
pub(crate) struct Centre {
    pub(crate) config: CentreConfig,
    pub(crate) database: DatabaseLocation,
    pub(crate) chain: ConsortiumClient,
    membership: Membership,
    tls: Option<ServerTls>,
    listen: SocketAddr,
    watch: Option<SocketAddr>,
}

impl Role for CentreFile {
    type Prepared = Centre;

    fn prepare(configuration: Configuration<Self>) -> Result<Centre, RoleError> {
        let file = &configuration.file;
        let founding = configuration.founding(&file.founding)?;
        let path = configuration.path(&file.key);
        let key = SigningKey::from_seed(*keys::read(&path)?);
        // Which key the chain has since, nobody can say without asking it.
        if key.verifying_key() != founding.genesis.centre {
            let path = path.display();
            crate::complain(
                "willis centre: note",
                &format!(
                    "the founding document does not name the key in {path} for the registration centre: what it certifies counts only if the chain gave the centre this key"
                ),
            );
        }
        let identity_key = keys::read(&configuration.path(&file.identity_key))?;
        let mut config = CentreConfig::new(
            founding.consortium(),
            key,
            IdentityKey::from_bytes(*identity_key),
        );
        config.validity = Duration::from_secs(file.validity_days.saturating_mul(24 * 60 * 60));
        config.officers = file
            .officers
            .iter()
            .map(|officer| Officer {
                name: officer.name.clone(),
                key: VerifyingKey::new(officer.key.0),
            })
            .collect();
        config.approve_automatically = file.approve_automatically;
        config.may_make_keys = file.may_make_keys;
        config.calls = per(file.rate_per_second, Duration::from_secs(1));
        config.enrolments = per(file.enrolments_per_minute, Duration::from_secs(60));
        let identity = configuration.identity(file.tls.as_ref())?;
        let membership = Membership::of(&founding, identity.as_ref())?;
        Ok(Centre {
            config,
            database: database(&file.database, |path| configuration.path(path)),
            chain: ConsortiumClient::of(&founding, identity.as_ref())?,
            tls: configuration.server_tls(file.tls.as_ref(), &founding, &membership.members)?,
            membership,
            listen: file.listen,
            watch: file.watch,
        })
    }

    fn run(centre: Centre, until_input_ends: bool) -> Result<(), RoleError> {
        block_on(async move {
            let chain = Arc::new(centre.chain);
            let service = CentreService::open(centre.config, &centre.database, chain).await?;
            let server = Server::bind(centre.listen, centre.tls).await?;
            let _following = centre.membership.follow(&server);
            let service = Arc::new(service);
            let role = WatchedRole::of(Self::ROLE);
            let watching = Watching::start(centre.watch, role, &server, Arc::clone(&service));
            let _watching = watching.await?;
            serve_centre(service, server, stop(until_input_ends)).await;
            Ok(())
        })
    }
}
