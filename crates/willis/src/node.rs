//! `willis node`: a hospital's node as a process of its own.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use chain::{NodeConfig, NodeSettings, Peer, PeerAddress};
use ledger::Genesis;
use parties::AccountingNode;
use scheme::{HpkePrivateKey, InstitutionId, SigningKey, ValidatorEpoch};
use serde::{Deserialize, Serialize};
use services::{ContainerStore, GrantFiles, NodeService, Server, serve_node};
use thiserror::Error;

/// A node's configuration file (TOML). Paths are relative to the file's folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeFile {
    /// The consortium's founding document.
    pub(crate) founding: PathBuf,
    /// Whose node this is.
    pub(crate) institution: u32,
    /// The node's consensus key: 64 hexadecimal digits in a file.
    pub(crate) key: PathBuf,
    /// The node's HPKE key of the validator epoch, likewise.
    pub(crate) hpke_key: PathBuf,
    /// Where the chain, the engine's files and the grants lie.
    pub(crate) folder: PathBuf,
    /// Where the cloud's containers lie.
    pub(crate) cloud: PathBuf,
    /// The address for the other nodes.
    pub(crate) listen: SocketAddr,
    /// The address for users.
    pub(crate) serve: SocketAddr,
    /// The other nodes.
    pub(crate) peers: Vec<PeerEntry>,
}

/// Another institution's node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerEntry {
    /// Whose.
    pub(crate) institution: u32,
    /// Where it listens for nodes.
    pub(crate) address: SocketAddr,
}

/// Why a node does not start. Each says which file or value to mend.
#[derive(Debug, Error)]
enum StartError {
    #[error("{0} cannot be read: {1}; check the path and its permissions")]
    File(PathBuf, #[source] io::Error),
    #[error("{0} is no configuration of a node: {1}")]
    Configuration(PathBuf, #[source] toml::de::Error),
    #[error("{0} is no founding document: obtain it again from a founder")]
    Founding(PathBuf, #[source] ledger::GenesisError),
    #[error("{0} does not hold a key of 64 hexadecimal digits")]
    Key(PathBuf),
    #[error("institution {0} is none of the founding document's: check the configuration")]
    Institution(u32),
    #[error("the key in {0} is not the one that the founding document names for institution {1}")]
    WrongKey(PathBuf, u32),
    #[error("the cloud's folder cannot be opened: {0}")]
    Cloud(#[source] services::CloudError),
    #[error("the node's folder cannot be used: {0}")]
    Folder(#[source] io::Error),
    #[error("the node does not start: {0}")]
    Node(#[source] chain::NotStarted),
    #[error("the node stopped: {0}")]
    Service(#[source] services::NodeServiceError),
    #[error("the node failed and stopped: {0}; its store is opened anew when it is started again")]
    Failed(String),
}

#[allow(
    clippy::print_stderr,
    reason = "a command tells its user what happened"
)]
pub(crate) fn run(config: &Path, until_input_ends: bool) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WILLIS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    match start(config, until_input_ends) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("willis node: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(config: &Path, until_input_ends: bool) -> Result<(), StartError> {
    let text = std::fs::read_to_string(config)
        .map_err(|error| StartError::File(config.to_owned(), error))?;
    let file: NodeFile = toml::from_str(&text)
        .map_err(|error| StartError::Configuration(config.to_owned(), error))?;
    let base = config.parent().unwrap_or(Path::new("."));
    let founding = base.join(&file.founding);
    let bytes =
        std::fs::read(&founding).map_err(|error| StartError::File(founding.clone(), error))?;
    let genesis = Genesis::decode(&bytes).map_err(|error| StartError::Founding(founding, error))?;
    for warning in genesis
        .warnings()
        .map_err(|error| StartError::Founding(base.join(&file.founding), error))?
    {
        warn(&warning.to_string());
    }
    let institution = InstitutionId::new(file.institution);
    let own = genesis
        .institutions
        .iter()
        .find(|one| one.id == institution)
        .ok_or(StartError::Institution(file.institution))?
        .clone();
    let key = SigningKey::from_seed(read_key(&base.join(&file.key))?);
    if own.node != key.verifying_key() {
        return Err(StartError::WrongKey(file.key.clone(), file.institution));
    }
    let hpke = HpkePrivateKey::derive(&read_key(&base.join(&file.hpke_key))?);
    let peers = file
        .peers
        .iter()
        .map(|peer| {
            let id = InstitutionId::new(peer.institution);
            let found = genesis.institutions.iter().find(|one| one.id == id);
            let node = found.ok_or(StartError::Institution(peer.institution))?.node;
            Ok(Peer {
                node,
                address: PeerAddress::Socket(peer.address),
            })
        })
        .collect::<Result<_, StartError>>()?;
    let cloud = ContainerStore::open(&base.join(&file.cloud)).map_err(StartError::Cloud)?;
    let folder = base.join(&file.folder);
    let grants = GrantFiles::open(&folder.join("grants")).map_err(StartError::Folder)?;

    let consortium = genesis.consortium();
    let accounts = own.tier.role() == ledger::Role::Accounting;
    let accounting = accounts.then(|| {
        AccountingNode::new(
            consortium,
            institution,
            key.clone(),
            hpke,
            ValidatorEpoch::new(0),
        )
    });
    let settings = NodeSettings {
        genesis,
        key: key.clone(),
        listen: file.listen,
        peers,
        config: NodeConfig::default(),
    };
    chain::run(&folder, settings, |handle| async move {
        let service = NodeService::new(handle.clone(), institution, key, accounting, grants, cloud)
            .map_err(StartError::Service)?;
        let server = Server::bind(file.serve, None)
            .await
            .map_err(|error| StartError::Service(error.into()))?;
        let never = std::future::pending();
        tokio::select! {
            served = serve_node(Arc::new(service), server, never) => served.map_err(StartError::Service),
            why = handle.failed() => Err(StartError::Failed(why)),
            () = input_ended(until_input_ends) => Ok(()),
        }
    })
    .map_err(StartError::Node)?
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

/// Tells the operator at once, whatever the log shows.
#[allow(
    clippy::print_stderr,
    reason = "a command tells its user what happened"
)]
fn warn(warning: &str) {
    eprintln!("willis node: warning: {warning}");
}

fn read_key(path: &Path) -> Result<[u8; 32], StartError> {
    let text =
        std::fs::read_to_string(path).map_err(|error| StartError::File(path.to_owned(), error))?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| StartError::Key(path.to_owned()))?;
    Ok(bytes)
}
