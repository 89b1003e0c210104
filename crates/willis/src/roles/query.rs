//! `willis query`: the query manager.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::{ConsortiumClient, Founding};
use serde::Deserialize;
use services::{
    DatabaseLocation, QueryBounds, QueryConfig, QueryService, Server, ServerTls, WatchedRole,
    Watching, serve_query,
};

use super::centre::per;
use super::{Membership, Role, RoleError, block_on, database, stop};
use crate::configuration::{
    Configuration, FOUNDING, RoleFile, TLS_CERTIFICATE, TLS_KEY, TLS_REVOKED, TRACES, TlsFile,
    WATCH,
};

/// The query manager's configuration file. Paths are relative to the file's folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueryFile {
    founding: PathBuf,
    listen: SocketAddr,
    database: String,
    #[serde(default = "remind_after_s")]
    remind_after_s: u64,
    #[serde(default = "agent_after_s")]
    agent_after_s: u64,
    inboxes_per_minute: Option<u32>,
    watch: Option<SocketAddr>,
    traces: Option<String>,
    tls: Option<TlsFile>,
}

fn remind_after_s() -> u64 {
    10 * 60
}

fn agent_after_s() -> u64 {
    30 * 60
}

impl RoleFile for QueryFile {
    const ROLE: &'static str = "query";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        FOUNDING,
        (
            "listen",
            "address and port for doctors, patients and agents",
        ),
        (
            "database",
            "file of SQLite, or postgres://user@host/database",
        ),
        (
            "remind_after_s",
            "after how many seconds an unanswered request is reminded of; 600 by default",
        ),
        (
            "agent_after_s",
            "after how many seconds it goes to the family agent; 1800 by default",
        ),
        (
            "inboxes_per_minute",
            "inboxes a minute that one address opens; by default 64 at once and 2 a minute",
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

/// A query manager that is ready to start.
pub(crate) struct Query {
    founding: Founding,
    config: QueryConfig,
    database: DatabaseLocation,
    chain: ConsortiumClient,
    membership: Membership,
    tls: Option<ServerTls>,
    listen: SocketAddr,
    watch: Option<SocketAddr>,
}

impl Role for QueryFile {
    type Prepared = Query;

    fn prepare(configuration: Configuration<Self>) -> Result<Query, RoleError> {
        let file = &configuration.file;
        let founding = configuration.founding(&file.founding)?;
        let identity = configuration.identity(file.tls.as_ref())?;
        let membership = Membership::of(&founding, identity.as_ref())?;
        let mut bounds = QueryBounds::default();
        if let Some(inboxes) = file.inboxes_per_minute {
            bounds.opening = per(inboxes, Duration::from_secs(60));
        }
        Ok(Query {
            config: QueryConfig {
                remind_after: Duration::from_secs(file.remind_after_s),
                agent_after: Duration::from_secs(file.agent_after_s),
                bounds,
                ..QueryConfig::default()
            },
            database: database(&file.database, |path| configuration.path(path)),
            chain: ConsortiumClient::of(&founding, identity.as_ref())?,
            tls: configuration.server_tls(file.tls.as_ref(), &founding, &membership.members)?,
            membership,
            listen: file.listen,
            watch: file.watch,
            founding,
        })
    }

    fn run(query: Query, until_input_ends: bool) -> Result<(), RoleError> {
        block_on(async move {
            let service = QueryService::open(
                query.config,
                &query.founding.genesis,
                &query.database,
                query.chain,
            )
            .await?;
            let server = Server::bind(query.listen, query.tls).await?;
            let _following = query.membership.follow(&server);
            let service = Arc::new(service);
            let role = WatchedRole::of(Self::ROLE);
            let watching = Watching::start(query.watch, role, &server, Arc::clone(&service));
            let _watching = watching.await?;
            serve_query(service, server, stop(until_input_ends)).await;
            Ok(())
        })
    }
}
