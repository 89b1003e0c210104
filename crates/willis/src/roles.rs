//! The roles, each a subcommand with one configuration file. A role runs until it is asked to stop: by
//! Ctrl-C, by SIGTERM, or by the program that started it.

mod centre;
mod cloud;
mod gateway;
mod hospital;
mod node;
mod query;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use client::{ClientError, ConsortiumClient, DirectoryError, Founding, Members, TlsIdentity};
use services::{FollowingMembers, Server};
use thiserror::Error;

use crate::configuration::{Configuration, ConfigurationError, RoleFile};
use crate::keys::KeyError;
use crate::logs::{self, LogError};
use crate::node::restored::NotThisKey;
use crate::traces::{TraceError, Traces};

pub(crate) use centre::CentreFile;
pub(crate) use cloud::CloudFile;
pub(crate) use gateway::GatewayFile;
pub(crate) use hospital::HospitalFile;
pub(crate) use node::NodeFile;
pub(crate) use query::QueryFile;

/// What every role takes.
#[derive(Args)]
pub(crate) struct RoleArguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Explain the configuration, validate it, and do not start.
    #[arg(long)]
    check: bool,
    /// Stop when standard input ends: for programs that start a role and must not leave it behind.
    #[arg(long, hide = true)]
    until_input_ends: bool,
}

/// Why a role does not start or stopped. Each says which file or value to mend.
#[derive(Debug, Error)]
pub(crate) enum RoleError {
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(
        "institution {0} does not belong to the consortium: check the configuration, or start again once a motion to admit it is decided"
    )]
    Institution(u32),
    #[error(
        "the key in {0} is not the one that the founding names for {1}, or the chain since then"
    )]
    WrongKey(PathBuf, String),
    #[error(transparent)]
    Restored(#[from] NotThisKey),
    #[error("{}", client::sentence(.0))]
    Directory(#[from] DirectoryError),
    #[error("{}", client::sentence(.0))]
    Client(#[from] ClientError),
    #[error("{}", client::sentence(.0))]
    Server(#[from] services::ServerError),
    #[error("{}", client::sentence(.0))]
    Cloud(#[from] services::CloudError),
    #[error("{}", client::sentence(.0))]
    Database(#[from] services::DatabaseError),
    #[error("{}", client::sentence(.0))]
    Centre(#[from] services::CentreError),
    #[error("{}", client::sentence(.0))]
    Query(#[from] services::QueryServiceError),
    #[error("{}", client::sentence(.0))]
    Hospital(#[from] services::HospitalError),
    #[error("{}", client::sentence(.0))]
    Gateway(#[from] ::gateway::GatewayError),
    #[error("{0} cannot be used: {1}; check the path and its permissions")]
    Folder(PathBuf, #[source] io::Error),
    #[error("{0} in the configuration cannot be used: {1}")]
    Value(&'static str, String),
    #[error("the node does not start: {0}")]
    Node(#[source] chain::NotStarted),
    #[error("{}", client::sentence(.0))]
    NodeService(#[from] services::NodeServiceError),
    #[error(
        "the node failed and stopped: {0}; see that its disk has room and can be written, then start it again: its store is opened anew"
    )]
    Failed(String),
    #[error(
        "the node stopped: {why}; see that its disk has room and can be written, then start it again; if it stops with the same words, the engine's files in {} are damaged: put back store and engine's files of one moment, or give the node its next key (`willis membership succeed`) and start it under that",
        engine.display()
    )]
    Stopped { why: String, engine: PathBuf },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error("the runtime cannot be started: {0}")]
    Runtime(#[source] io::Error),
}

/// Runs a role.
pub(crate) trait Role: RoleFile {
    /// Everything that can be wrong is found here, before anything listens.
    type Prepared;

    /// Reads keys and documents.
    fn prepare(configuration: Configuration<Self>) -> Result<Self::Prepared, RoleError>;

    /// Runs until `stop` completes.
    fn run(prepared: Self::Prepared, until_input_ends: bool) -> Result<(), RoleError>;
}

/// Who belongs to the consortium, as a role that is no node learns it: from the nodes.
struct Membership {
    members: Members,
    source: ConsortiumClient,
}

impl Membership {
    fn of(founding: &Founding, identity: Option<&TlsIdentity>) -> Result<Self, ClientError> {
        Ok(Self {
            members: Members::of(founding),
            source: ConsortiumClient::of(founding, identity)?,
        })
    }

    /// Keeps itself and the server's TLS as the chain says, until the result is dropped.
    fn follow(self, server: &Server) -> FollowingMembers {
        FollowingMembers::start(self.source, self.members, server)
    }
}

/// A role's command.
pub(crate) fn run<R: Role>(arguments: &RoleArguments) -> ExitCode {
    let done = start::<R>(arguments);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::complain(&format!("willis {}", R::ROLE), &error);
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "--check explains to its user")]
fn start<R: Role>(arguments: &RoleArguments) -> Result<(), RoleError> {
    // Variables that are not Unicode override nothing.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let configuration = Configuration::<R>::load(&arguments.config, environment)?;
    if arguments.check {
        println!("{}", configuration.explain());
        R::prepare(configuration)?;
        println!("The configuration is valid.");
        return Ok(());
    }
    let traces = match configuration.file.traces() {
        Some(address) => Some(Traces::begin(address, &format!("willis {}", R::ROLE))?),
        None => None,
    };
    logs::begin(traces.as_ref())?;
    let prepared = R::prepare(configuration);
    let done = prepared.and_then(|prepared| R::run(prepared, arguments.until_input_ends));
    if let Some(traces) = traces {
        traces.end();
    }
    done
}

/// Runs a service's work on a runtime of its own.
pub(crate) fn block_on<T>(
    work: impl Future<Output = Result<T, RoleError>>,
) -> Result<T, RoleError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(RoleError::Runtime)?
        .block_on(work)
}

/// Completes when the role is asked to stop.
async fn stop(until_input_ends: bool) {
    tokio::select! {
        () = crate::asked_to_stop() => {}
        () = input_ended(until_input_ends) => {}
    }
}

/// Completes when standard input ends, if that is asked for.
async fn input_ended(asked: bool) {
    if !asked {
        return std::future::pending().await;
    }
    let (ended, wait) = tokio::sync::oneshot::channel();
    // A thread of its own, since reading blocks and nothing can interrupt it.
    std::thread::spawn(move || {
        // What is read means nothing; an error ends the input too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = ended.send(());
    });
    let _ = wait.await;
}

/// Where a service's records lie: a PostgreSQL address, or the path of a file.
fn database(text: &str, base: impl Fn(&Path) -> PathBuf) -> services::DatabaseLocation {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        services::DatabaseLocation::Postgres(text.to_owned())
    } else {
        services::DatabaseLocation::Sqlite(base(Path::new(text)))
    }
}
