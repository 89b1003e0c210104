//! Nodes on real sockets and disks.

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use commonware_cryptography::ChaCha20Poly1305;
use commonware_p2p::{
    Address, AddressableManager as _, AddressableTrackedPeers, Ingress,
    authenticated::lookup::{Config, Network, Oracle},
};
use commonware_runtime::{Quota, Runner as _, Spawner as _, Supervisor as _, tokio};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{Hostname, NZU32, NZUsize, ordered::Map};
use ledger::{Genesis, NodeSet};
use scheme::{InstitutionId, SigningKey, VerifyingKey};
use tracing::{error, info, warn};

use super::{
    PublicKey,
    assembly::{CHANNELS, Channels, NodeParts, NotStarted, QUOTA, message_bytes, prepare, start},
    certificate::namespace,
    epochs::Connections,
    keys,
};
use crate::{
    config::NodeConfig,
    node::{NodeHandle, Shared},
    store::StoreError,
    store_fjall::FjallStore,
};

/// Where another node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAddress {
    /// By address.
    Socket(SocketAddr),
    /// By name, which is looked up at each attempt.
    Name {
        /// The host's name.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Where another institution's node is reached, unless the chain says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Whose node.
    pub institution: InstitutionId,
    /// Where it is reached.
    pub address: PeerAddress,
}

impl PeerAddress {
    /// Reads `host:port` or `address:port`, as a contact on the chain has it. `None` if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Socket(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        Hostname::new(host).ok()?;
        Some(Self::Name {
            host: host.to_owned(),
            port: port.parse().ok().filter(|port| *port != 0)?,
        })
    }

    fn engine(&self) -> Option<Address> {
        match self {
            Self::Socket(address) => Some((*address).into()),
            Self::Name { host, port } => {
                let host = Hostname::new(host).ok()?;
                // The address of a named peer is not known beforehand, so it is not filtered by.
                let egress = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), *port);
                Some(Address::Asymmetric {
                    ingress: Ingress::Dns { host, port: *port },
                    egress,
                })
            }
        }
    }
}

/// What one node is started with.
#[derive(Clone)]
pub struct NodeSettings {
    /// The consortium's founding document.
    pub genesis: Genesis,
    /// The node's key.
    pub key: SigningKey,
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Where the other institutions' nodes are, as far as the chain does not say so.
    pub peers: Vec<Peer>,
    /// The bounds.
    pub config: NodeConfig,
}

/// Runs one node with its files in `folder` while `main` runs, and returns what `main` returned. The
/// runtime that `main` runs in is a multi-threaded tokio runtime with everything enabled.
///
/// # Errors
/// [`NotStarted`] if the node could not be started; `main` did not run then.
pub fn run<F, Fut>(
    folder: &Path,
    settings: NodeSettings,
    main: F,
) -> Result<Fut::Output, NotStarted>
where
    F: FnOnce(NodeHandle) -> Fut,
    Fut: Future,
{
    check_layout(folder)?;
    take_over(folder, &name(&settings.key.verifying_key())).map_err(NotStarted::Folder)?;
    run_together(folder, vec![settings], |mut nodes| {
        main(nodes.pop().expect("as many nodes as settings"))
    })
}

/// Writes into a new folder how it is laid out, or checks it: a later release reads what this one wrote, or
/// says that it does not, and this one never writes into what a later one laid out anew.
fn check_layout(folder: &Path) -> Result<(), NotStarted> {
    match is_laid_out(folder)? {
        true => Ok(()),
        false => lay_out(folder).map_err(NotStarted::Folder),
    }
}

/// Whether a node's folder is laid out as this release does it; not if it is new.
///
/// # Errors
/// [`NotStarted::OtherLayout`] if it is laid out otherwise; [`NotStarted::Folder`].
pub fn is_laid_out(folder: &Path) -> Result<bool, NotStarted> {
    let file = folder.join("layout");
    // Empty if the power failed just then.
    let found = match fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        found => found.map_err(NotStarted::Folder)?,
    };
    if found != LAYOUT && (!found.is_empty() || folder.join(STATE).exists()) {
        return Err(NotStarted::OtherLayout(file));
    }
    Ok(found == LAYOUT)
}

/// Writes into a node's folder, durably, that it has the layout of this release. A node does it by itself in a
/// new folder.
///
/// # Errors
/// [`io::Error`].
pub fn lay_out(folder: &Path) -> io::Result<()> {
    let file = folder.join("layout");
    fs::create_dir_all(folder)?;
    fs::write(&file, LAYOUT)?;
    fs::File::open(&file)?.sync_all()?;
    fs::File::open(folder)?.sync_all()
}

/// Of a node's folder: its own files, the engine's, and those of the libraries that write both.
const LAYOUT: &[u8] = b"willis node, layout 1\n";

/// Gives a node that runs under its institution's next key the state that its folder has under the key
/// before: the chain is the same. Not what the engine kept under that key, least of all its votes.
fn take_over(folder: &Path, name: &str) -> io::Result<()> {
    let states = folder.join(STATE);
    if !states.is_dir() || states.join(name).exists() {
        return Ok(());
    }
    let others = fs::read_dir(&states)?.collect::<io::Result<Vec<_>>>()?;
    let [before] = &others[..] else {
        return Ok(());
    };
    info!(before = %before.path().display(), "takes over the chain under the next key");
    let of_before = format!("{}-", before.file_name().display());
    let engine = folder.join(ENGINE);
    fs::create_dir_all(&engine)?;
    for partition in fs::read_dir(&engine)? {
        let partition = partition?;
        if partition
            .file_name()
            .to_string_lossy()
            .starts_with(&of_before)
        {
            fs::remove_dir_all(partition.path())?;
        }
    }
    fs::rename(before.path(), states.join(name))?;
    fs::File::open(&states)?.sync_all()
}

/// A folder for the state of each node, by its key.
const STATE: &str = "state";
/// The engine's files, in partitions that begin with the node's key.
const ENGINE: &str = "engine";

/// Runs several nodes in one process, each with its own sockets and files within `folder`, as a test
/// or a demonstration on one machine does.
///
/// # Errors
/// [`NotStarted`] if a node could not be started; `main` did not run then.
pub fn run_together<F, Fut>(
    folder: &Path,
    settings: Vec<NodeSettings>,
    main: F,
) -> Result<Fut::Output, NotStarted>
where
    F: FnOnce(Vec<NodeHandle>) -> Fut,
    Fut: Future,
{
    let engine = folder.join(ENGINE);
    fs::create_dir_all(&engine).map_err(NotStarted::Folder)?;
    let runtime = tokio::Config::default()
        .with_storage_directory(engine)
        .with_worker_threads(WORKERS)
        .with_tcp_nodelay(Some(true));
    let folder: PathBuf = folder.to_owned();
    tokio::Runner::new(runtime).start(|context| async move {
        let mut nodes = Vec::with_capacity(settings.len());
        for settings in settings {
            let child = context
                .child("node")
                .with_attribute("node", name(&settings.key.verifying_key()));
            nodes.push(start_one(child, &folder, settings)?);
        }
        let result = main(nodes).await;
        // Tasks are given a moment to end between two writes; what they leave is what a crash leaves.
        if let Err(error) = context.stop(0, Some(STOPPING)).await {
            error!(%error, "some tasks did not stop in time");
        }
        Ok(result)
    })
}

fn start_one(
    context: tokio::Context,
    folder: &Path,
    settings: NodeSettings,
) -> Result<NodeHandle, NotStarted> {
    let NodeSettings {
        genesis,
        key,
        listen,
        peers,
        config,
    } = settings;
    let name = name(&key.verifying_key());
    let state = store_folder(folder, &key.verifying_key());
    fs::create_dir_all(&state).map_err(NotStarted::Folder)?;
    let store = Arc::new(FjallStore::open(&state)?);
    let parts = NodeParts {
        genesis,
        key: key.clone(),
        config: config.clone(),
        store,
    };
    let (shared, first) = prepare(&context, parts)?;

    let known: BTreeMap<_, _> = peers
        .into_iter()
        .map(|peer| (peer.institution, peer.address))
        .collect();
    let present = ledger::institutions(shared.view().as_ref());
    let present = present.map_err(|error| StoreError::io("read", error))?;
    let peers_max = ROOM_FOR_PEERS + 2 * present.len();
    let handshake = Cups::<_, ChaCha20Poly1305>::new(
        Sake {
            signer: keys::private(&key),
            synchrony_bound: HANDSHAKE_DRIFT,
            max_handshake_age: HANDSHAKE_AGE,
            version: sake::Version::V1,
        },
        cups::Version::V1,
    );
    let network = Config {
        // Hospitals reach each other over private networks, and a test over loopback.
        allow_private_ips: true,
        // Any node may be reached by name some day, and then by which address is not known beforehand. The
        // handshake says who it is.
        bypass_ip_check: true,
        // Several nodes may stand behind one address, each with 3 attempts a second to connect.
        peer_connection_cooldown: RECONNECT,
        allowed_handshake_rate_per_ip: Quota::per_second(NZU32!(64)),
        dial_frequency: DIAL,
        ping_frequency: PING,
        tracked_peer_sets: NZUsize!(2),
        ..Config::recommended(
            handshake,
            &namespace(&shared.consortium),
            listen,
            NonZeroUsize::new(peers_max).expect("it has room for some"),
            message_bytes(&shared.limits, &config),
            NETWORK_MAILBOX,
        )
    };
    let (mut network, oracle) = Network::new(context.child("network"), network);
    let connections = Book {
        oracle: oracle.clone(),
        own: public(&key.verifying_key())?,
        listen,
        known,
        peers_max,
        tracked: None,
    };
    let [
        votes,
        certificates,
        certificate_requests,
        blocks,
        backfill,
        requests,
    ] = CHANNELS.map(|channel| network.register(channel, QUOTA));
    let channels = Channels {
        votes,
        certificates,
        certificate_requests,
        blocks,
        backfill,
        requests,
        blocker: oracle.clone(),
        provider: oracle,
    };
    let handle = NodeHandle::new(Arc::clone(&shared));
    context.spawn(move |context| async move {
        let _network = network.start();
        let parts = Arc::clone(&shared);
        let connections = Box::new(connections);
        let running = start(context, parts, first, name, channels, connections);
        if let Err(failure) = running.await {
            shared.fail(failure);
        }
    });
    Ok(handle)
}

/// The nodes to connect to, with their addresses.
struct Book {
    oracle: Oracle<PublicKey>,
    own: PublicKey,
    listen: SocketAddr,
    /// Where nodes are of which the chain does not say it.
    known: BTreeMap<InstitutionId, PeerAddress>,
    peers_max: usize,
    /// The number of the last list that the network was given, and the list.
    tracked: Option<(u64, Listed)>,
}

/// Nodes that vote, and those that follow or will vote, each with its address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Listed {
    voters: BTreeMap<PublicKey, Address>,
    others: BTreeMap<PublicKey, Address>,
}

impl Book {
    /// As the state has them: the nodes of the validator epoch of the next block, and beside them each
    /// institution's node as it will be with the next one.
    fn list(&self, shared: &Shared) -> Result<(u64, Listed), StoreError> {
        let unreadable = |error| StoreError::io("read", error);
        let view = shared.view();
        let view = view.as_ref();
        let next = view.tip().height.next();
        let mut listed = Listed::default();
        listed.voters.insert(self.own.clone(), self.listen.into());
        let nodes = ledger::node_set(view, shared.settings.epoch_of(next)).map_err(unreadable)?;
        let voting = nodes.as_ref().map_or(&[][..], NodeSet::nodes);
        for node in voting {
            let key = keys::public(&node.key).filter(|key| *key != self.own);
            let Some(key) = key else {
                continue;
            };
            if let Some(address) = self.address(view, node.institution)? {
                listed.voters.insert(key, address);
            }
        }
        for id in ledger::institutions(view).map_err(unreadable)? {
            let institution = ledger::institution(view, id).map_err(unreadable)?;
            let key = institution.and_then(|institution| keys::public(&institution.node));
            let key = key.filter(|key| !listed.voters.contains_key(key));
            let Some(key) = key else {
                continue;
            };
            if let Some(address) = self.address(view, id)? {
                listed.others.insert(key, address);
            }
        }
        Ok((next.number(), listed))
    }

    fn address(
        &self,
        view: &dyn ledger::View,
        institution: InstitutionId,
    ) -> Result<Option<Address>, StoreError> {
        let contact = ledger::contact(view, institution);
        let contact = contact.map_err(|error| StoreError::io("read", error))?;
        let said = contact.and_then(|said| PeerAddress::parse(said.contact.consensus.as_str()));
        let address = said.as_ref().or_else(|| self.known.get(&institution));
        if address.is_none() {
            warn!(%institution, "nobody says where this institution's node is reached");
        }
        Ok(address.and_then(PeerAddress::engine))
    }
}

impl Connections for Book {
    fn follow(&mut self, shared: &Shared) -> Result<(), StoreError> {
        let (number, mut listed) = self.list(shared)?;
        // The network's queues were sized for so many; those that vote come first.
        while listed.voters.len() + listed.others.len() > self.peers_max {
            let Some((peer, _)) = listed.others.pop_last() else {
                break;
            };
            warn!(%peer, "there is no room for so many nodes; start this node again to make room");
        }
        let last = self.tracked.as_ref();
        if last.is_some_and(|(_, last)| *last == listed) {
            return Ok(());
        }
        let number = last.map_or(number, |(last, _)| number.max(last + 1));
        let _ = self.oracle.track(
            number,
            AddressableTrackedPeers::new(
                Map::from_iter_dedup(listed.voters.clone()),
                Map::from_iter_dedup(listed.others.clone()),
            ),
        );
        self.tracked = Some((number, listed));
        Ok(())
    }
}

fn public(key: &VerifyingKey) -> Result<PublicKey, NotStarted> {
    keys::public(key).ok_or_else(|| NotStarted::Peer(format!("{key} is no node key")))
}

/// Where the node of this key keeps its store within its folder.
pub fn store_folder(folder: &Path, key: &VerifyingKey) -> PathBuf {
    folder.join(STATE).join(name(key))
}

/// Names a node's files by the first eight bytes of its key.
fn name(key: &VerifyingKey) -> String {
    key.as_bytes()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Nodes that may join until this one is started again, beside one more of each that is there: a node
/// whose key changes is two for a while.
const ROOM_FOR_PEERS: usize = 16;

/// A node shares its machine with a hospital's server.
const WORKERS: usize = 2;

/// How long tasks may take to end.
const STOPPING: Duration = Duration::from_secs(5);

/// A handshake from further in the future is refused: clocks are within 5 s of each other.
const HANDSHAKE_DRIFT: Duration = Duration::from_secs(5);

/// A handshake older than this is refused.
const HANDSHAKE_AGE: Duration = Duration::from_secs(10);

/// The pause between two attempts to connect to one peer. The library's 60 s would keep a restarted
/// node away for that long; two nodes that dial each other at once drop one connection and wait for
/// this.
const RECONNECT: Duration = Duration::from_millis(300);

/// One attempt to connect in this time.
const DIAL: Duration = Duration::from_millis(100);

/// A connection that answers nothing is found dead by this.
const PING: Duration = Duration::from_secs(5);

/// Messages between the network's own tasks.
const NETWORK_MAILBOX: NonZeroUsize = NZUsize!(256);
