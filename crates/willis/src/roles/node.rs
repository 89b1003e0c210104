//! `willis node`: a hospital's node.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::Arc;

use chain::{NodeConfig, NodeSettings, Peer, PeerAddress};
use client::{CloudClient, ConsortiumClient, Founding, Members, ServiceClient, ServiceName};
use scheme::{InstitutionId, SigningKey, VerifyingKey};
use serde::Deserialize;
use services::{
    ContainerStore, Containers, EpochKeyFiles, EvidenceFiles, FollowingMembers, GrantFiles,
    NodeService, Server, ServerTls, SnapshotFiles, WatchedRole, Watching, fill_history, serve_node,
};

use super::{Role, RoleError, stop};
use tokio::task::JoinSet;

use crate::configuration::{
    Configuration, FOUNDING, RoleFile, TLS_CERTIFICATE, TLS_KEY, TLS_REVOKED, TRACES, TlsFile,
    WATCH,
};
use crate::keys;
use crate::node::restored::RestoredFor;

/// A node's configuration file. Paths are relative to the file's folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeFile {
    pub(crate) founding: PathBuf,
    pub(crate) institution: u32,
    pub(crate) key: PathBuf,
    pub(crate) folder: PathBuf,
    listen: SocketAddr,
    serve: SocketAddr,
    containers: Option<PathBuf>,
    watch: Option<SocketAddr>,
    traces: Option<String>,
    tls: Option<TlsFile>,
}

impl RoleFile for NodeFile {
    const ROLE: &'static str = "node";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        FOUNDING,
        ("institution", "number of the hospital whose node this is"),
        (
            "key",
            "file with the node's consensus key: 64 hexadecimal digits",
        ),
        (
            "folder",
            "folder for the chain, the engine's files, the node's HPKE keys, the grants and the evidence",
        ),
        ("listen", "address and port for the other nodes"),
        ("serve", "address and port for users and services"),
        (
            "containers",
            "folder with the containers, if this machine has them; without it they are read from the cloud server",
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

/// A node that is ready to start.
pub(crate) struct Node {
    own: InstitutionId,
    key: SigningKey,
    hpke_keys: EpochKeyFiles,
    settings: NodeSettings,
    folder: PathBuf,
    grants: GrantFiles,
    evidence: EvidenceFiles,
    snapshots: SnapshotFiles,
    chain: ConsortiumClient,
    containers: Containers,
    members: Members,
    tls: Option<ServerTls>,
    serve: SocketAddr,
    watch: Option<SocketAddr>,
}

impl Role for NodeFile {
    type Prepared = Node;

    fn prepare(configuration: Configuration<Self>) -> Result<Node, RoleError> {
        let file = &configuration.file;
        let founding = configuration.founding(&file.founding)?;
        for warning in founding.genesis.warnings().unwrap_or_default() {
            crate::complain("willis node: warning", &warning);
        }
        let own = InstitutionId::new(file.institution);
        let path = configuration.path(&file.key);
        let key = SigningKey::from_seed(*keys::read(&path)?);
        check_key(&founding, own, &key.verifying_key(), path)?;
        let identity = configuration.identity(file.tls.as_ref())?;
        let containers = match &file.containers {
            Some(folder) => ContainerStore::open(&configuration.path(folder))?.into(),
            None => {
                let endpoint = founding
                    .directory
                    .endpoint(ServiceName::Cloud, identity.as_ref())?;
                CloudClient::new(ServiceClient::new(founding.consortium(), endpoint)).into()
            }
        };
        let folder = configuration.path(&file.folder);
        RestoredFor::check(&folder, &key.verifying_key())?;
        let unusable = |error| RoleError::Folder(folder.clone(), error);
        let hpke_keys = EpochKeyFiles::open(&folder.join("hpke-keys")).map_err(unusable)?;
        let grants = GrantFiles::open(&folder.join("grants")).map_err(unusable)?;
        let evidence = EvidenceFiles::open(&folder.join("evidence")).map_err(unusable)?;
        let snapshots = SnapshotFiles::open(&folder.join("snapshots")).map_err(unusable)?;
        let settings = NodeSettings {
            key: key.clone(),
            listen: file.listen,
            peers: peers(&founding, own)?,
            config: NodeConfig::default(),
            genesis: founding.genesis.clone(),
        };
        let members = Members::of(&founding);
        Ok(Node {
            key,
            hpke_keys,
            settings,
            folder,
            grants,
            evidence,
            snapshots,
            chain: ConsortiumClient::of(&founding, identity.as_ref())?,
            containers,
            tls: configuration.server_tls(file.tls.as_ref(), &founding, &members)?,
            members,
            serve: file.serve,
            watch: file.watch,
            own,
        })
    }

    fn run(node: Node, until_input_ends: bool) -> Result<(), RoleError> {
        let folders = vec![
            ("state", node.folder.join("state")),
            ("engine", node.folder.join("engine")),
        ];
        let engine = node.folder.join("engine");
        let damaged = engine.clone();
        let runs = || {
            chain::run(&node.folder, node.settings, |handle| async move {
                let service = NodeService::new(
                    handle.clone(),
                    node.own,
                    node.key,
                    node.hpke_keys,
                    node.grants,
                    node.evidence,
                    node.containers,
                )?;
                let service = Arc::new(service.with_snapshots(node.snapshots));
                // Ends at once in a node that has the whole chain, and else with the node.
                let mut filling = JoinSet::new();
                filling.spawn(fill_history(handle.clone(), node.chain));
                let server = Server::bind(node.serve, node.tls).await?;
                let _following = FollowingMembers::start(handle.clone(), node.members, &server);
                let role = WatchedRole {
                    name: Self::ROLE,
                    folders,
                };
                let watching = Watching::start(node.watch, role, &server, Arc::clone(&service));
                let _watching = watching.await?;
                tokio::select! {
                    () = serve_node(service, server, stop(until_input_ends)) => Ok(()),
                    failed = handle.failed() => Err(match failed.engine_files {
                        true => RoleError::Stopped { why: failed.why, engine: damaged },
                        false => RoleError::Failed(failed.why),
                    }),
                }
            })
        };
        // The engine panics if it cannot use its files, and takes the runtime with it; nothing of the node is
        // used after that.
        match panic::catch_unwind(AssertUnwindSafe(runs)) {
            Ok(ran) => ran.map_err(RoleError::Node)?,
            Err(said) => Err(RoleError::Stopped {
                why: what_was_said(said.as_ref()),
                engine,
            }),
        }
    }
}

/// The text of a panic.
fn what_was_said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it did not say why").to_owned()
}

/// That the key is not another founder's. Whether it is this institution's the chain says: who joined
/// later stands in no founding document, and a key may have changed since.
fn check_key(
    founding: &Founding,
    own: InstitutionId,
    key: &VerifyingKey,
    path: PathBuf,
) -> Result<(), RoleError> {
    let named = founding.genesis.institutions.iter();
    let mut named = named.filter(|founder| founder.key == *key || founder.node == *key);
    match named.next() {
        Some(founder) if founder.id == own && founder.node == *key => {}
        Some(_) => {
            return Err(RoleError::WrongKey(
                path,
                format!("institution {own}'s node"),
            ));
        }
        None => crate::complain(
            "willis node: note",
            &format!(
                "the founding document does not name the key in {} for institution {own}: the node follows, and votes once the chain names it",
                path.display()
            ),
        ),
    }
    Ok(())
}

/// The other institutions' nodes, where the directory says that they listen.
fn peers(founding: &Founding, own: InstitutionId) -> Result<Vec<Peer>, RoleError> {
    let others = founding.genesis.institutions.iter();
    others
        .filter(|other| other.id != own)
        .map(|other| {
            let entry = founding.directory.institution(other.id);
            let entry = entry.ok_or(RoleError::Institution(other.id.number()))?;
            let address = entry.consensus.parse().map_err(|_| {
                RoleError::Value("consensus", format!("{} is no address", entry.consensus))
            })?;
            Ok(Peer {
                institution: other.id,
                address: PeerAddress::Socket(address),
            })
        })
        .collect()
}
