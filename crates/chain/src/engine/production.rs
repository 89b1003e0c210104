//! Nodes on real sockets and disks.

use std::{
    future::Future,
    net::SocketAddr,
    num::{NonZeroU64, NonZeroUsize},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use commonware_cryptography::ChaCha20Poly1305;
use commonware_p2p::{
    Address, AddressableManager as _, Ingress,
    authenticated::lookup::{Config, Network},
};
use commonware_runtime::{Quota, Runner as _, Spawner as _, Supervisor as _, tokio};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{Hostname, NZU32, NZUsize, ordered::Map};
use ledger::Genesis;
use scheme::{SigningKey, VerifyingKey};
use tracing::error;

use super::{
    PublicKey,
    assembly::{CHANNELS, Channels, NodeParts, NotStarted, QUOTA, message_bytes, prepare, start},
    certificate::{epoch, namespace},
    keys,
};
use crate::{config::NodeConfig, node::NodeHandle, store_fjall::FjallStore};

/// Where another node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAddress {
    /// By address; connections from this address are the peer's.
    Socket(SocketAddr),
    /// By name, which is looked up at each attempt; connections are known by the key only.
    Name {
        /// The host's name.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Another node of the consortium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its node key.
    pub node: VerifyingKey,
    /// Where it is reached.
    pub address: PeerAddress,
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
    /// The other nodes.
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
    run_together(folder, vec![settings], |mut nodes| {
        main(nodes.pop().expect("as many nodes as settings"))
    })
}

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
    let engine = folder.join("engine");
    std::fs::create_dir_all(&engine).map_err(NotStarted::Folder)?;
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
                .with_attribute("node", name(&settings.key));
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
    let name = name(&key);
    let state = folder.join("state").join(&name);
    std::fs::create_dir_all(&state).map_err(NotStarted::Folder)?;
    let store = Arc::new(FjallStore::open(&state)?);
    let epoch_blocks = NonZeroU64::from(
        std::num::NonZeroU32::new(genesis.settings.epoch_blocks)
            .ok_or_else(|| NotStarted::Genesis("an epoch of no blocks".to_owned()))?,
    );
    let parts = NodeParts {
        genesis,
        key: key.clone(),
        config: config.clone(),
        store,
    };
    let (shared, first) = prepare(&context, parts)?;

    let mut addresses: Vec<(PublicKey, Address)> = Vec::with_capacity(peers.len() + 1);
    addresses.push((public(&key.verifying_key())?, listen.into()));
    let mut by_name = false;
    for peer in peers {
        let address = match peer.address {
            PeerAddress::Socket(address) => address.into(),
            PeerAddress::Name { host, port } => {
                by_name = true;
                let host =
                    Hostname::new(host).map_err(|error| NotStarted::Peer(format!("{error:?}")))?;
                // The address of a named peer is not known beforehand, so it is not filtered by.
                let egress = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), port);
                Address::Asymmetric {
                    ingress: Ingress::Dns { host, port },
                    egress,
                }
            }
        };
        addresses.push((public(&peer.node)?, address));
    }
    let count = addresses.len();
    let addresses =
        Map::try_from(addresses).map_err(|error| NotStarted::Peer(format!("{error:?}")))?;
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
        bypass_ip_check: by_name,
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
            NonZeroUsize::new(count).expect("this node is one of them"),
            message_bytes(shared.nodes.nodes().len(), &shared.limits, &config),
            NETWORK_MAILBOX,
        )
    };
    let (mut network, mut oracle) = Network::new(context.child("network"), network);
    let _ = oracle.track(epoch(shared.nodes.epoch()).get(), addresses);
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
        if let Err(failure) = start(context, parts, first, epoch_blocks, name, channels).await {
            shared.fail(failure.to_string());
        }
    });
    Ok(handle)
}

fn public(key: &VerifyingKey) -> Result<PublicKey, NotStarted> {
    keys::public(key).ok_or_else(|| NotStarted::Peer(format!("{key} is no node key")))
}

/// Names a node's files by the first eight bytes of its key.
fn name(key: &SigningKey) -> String {
    key.verifying_key().as_bytes()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

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
