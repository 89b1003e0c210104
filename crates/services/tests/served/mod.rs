//! Four nodes with their interfaces on loopback sockets.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "what the test files of this program share"
)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chain::{NodeConfig, NodeHandle, NodeSettings, Peer, PeerAddress};
use client::ConsortiumClient;
use ledger::testing::FourHospitals;
use ledger::{Settings, Transaction};
use scheme::{Digest, InstitutionId, SigningKey};
use services::{
    ContainerStore, EpochKeyFiles, EvidenceFiles, GrantFiles, NodeService, NodeServiceError,
    Server, serve_node,
};

pub const BOUND: Duration = Duration::from_secs(30);

/// Four nodes that run and are served, and what a test needs of them.
pub struct Served {
    pub client: ConsortiumClient,
    /// The address of each institution's node.
    pub bases: BTreeMap<InstitutionId, String>,
    pub hospitals: FourHospitals,
    /// Where each of the four listens for nodes.
    pub consensus: Vec<SocketAddr>,
    pub root: PathBuf,
    handles: Vec<NodeHandle>,
    cloud: ContainerStore,
}

impl Served {
    /// Where a node's grants lie.
    pub fn grants_folder(&self, place: usize) -> PathBuf {
        self.root.join(format!("grants-{place}"))
    }

    /// A node's grants.
    pub fn grants(&self, place: usize) -> GrantFiles {
        GrantFiles::open(&self.grants_folder(place)).unwrap()
    }

    /// A node's HPKE keys.
    pub fn hpke_keys(&self, place: usize) -> EpochKeyFiles {
        EpochKeyFiles::open(&self.root.join(format!("hpke-keys-{place}"))).unwrap()
    }

    /// A node's evidence.
    pub fn evidence(&self, place: usize) -> EvidenceFiles {
        EvidenceFiles::open(&evidence_folder(&self.root, place)).unwrap()
    }

    /// Another client of the nodes, for a service that has its own.
    pub fn another_client(&self) -> ConsortiumClient {
        ConsortiumClient::on_loopback(&self.hospitals.genesis, &self.bases).unwrap()
    }

    /// Puts a transaction on the chain; every node has its block when this returns, so that a service that
    /// has a client of its own finds it.
    pub async fn submit_to_all(&self, transaction: &Transaction) {
        let confirmed = self.client.submit(transaction, BOUND).await.unwrap();
        self.all_reach(confirmed.outcome.height.number()).await;
    }

    /// A hospital's doctor, whose key is in force from now on.
    pub async fn doctor(&self, hospital: u32) -> SigningKey {
        let registration = self.hospitals.registration(hospital);
        self.submit_to_all(&registration).await;
        self.hospitals.hospital(hospital).doctor_key.clone()
    }

    /// Puts a record with this digest on the chain.
    pub async fn record_with_digest(&self, hospital: u32, digest: Digest) {
        let epoch = self.hospitals.writer_epoch(hospital);
        self.submit_to_all(&epoch).await;
        let mut statement = self.hospitals.statement(hospital, 1, 8);
        statement.digest = digest;
        let record = self.hospitals.sign_record(hospital, statement);
        self.submit_to_all(&record).await;
    }

    /// Waits until every node has this block, so that none answers from before it.
    pub async fn all_reach(&self, height: u64) {
        let reached = tokio::time::timeout(BOUND, async {
            for node in self.bases.keys() {
                let its = async || self.client.status(*node).await.map_or(0, |one| one.height);
                while its().await < height {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        });
        reached.await.expect("all nodes get on");
    }

    /// What a node serves when it starts on its chain, its folders of keys and of grants.
    pub fn service(&self, place: usize) -> Result<NodeService, NodeServiceError> {
        let hospital = &self.hospitals.hospitals[place];
        NodeService::new(
            self.handles[place].clone(),
            hospital.institution.id,
            hospital.node_key.clone(),
            self.hpke_keys(place),
            self.grants(place),
            self.evidence(place),
            self.cloud.clone(),
        )
    }
}

/// The consortium's settings: quick.
pub fn settings() -> Settings {
    Settings {
        heartbeat: Duration::from_millis(500),
        leader_timeout: Duration::from_millis(1_500),
        epoch_blocks: u32::MAX,
        ..Settings::standard()
    }
}

/// Where a node's evidence lies, in the folder of all nodes.
pub fn evidence_folder(root: &Path, place: usize) -> PathBuf {
    root.join(format!("evidence-{place}"))
}

/// Runs `test` against four served nodes.
pub fn with_nodes<F, Fut>(test: F)
where
    F: FnOnce(Served) -> Fut,
    Fut: Future<Output = ()>,
{
    let folder = tempfile::tempdir().unwrap();
    with_nodes_in(folder.path(), test);
}

/// The same with their files in this folder, where another run may have left them.
pub fn with_nodes_in<F, Fut>(root: &Path, test: F) -> Fut::Output
where
    F: FnOnce(Served) -> Fut,
    Fut: Future,
{
    with_nodes_of(root, settings(), test)
}

/// The same with these settings of the consortium.
pub fn with_nodes_of<F, Fut>(root: &Path, settings: Settings, test: F) -> Fut::Output
where
    F: FnOnce(Served) -> Fut,
    Fut: Future,
{
    let hospitals = FourHospitals::found(settings);
    let listeners: Vec<TcpListener> = (0..8)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
        .collect();
    let addresses: Vec<SocketAddr> = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap())
        .collect();
    drop(listeners);
    let nodes = (0..4)
        .map(|place| NodeSettings {
            genesis: hospitals.genesis.clone(),
            key: hospitals.hospitals[place].node_key.clone(),
            listen: addresses[place],
            peers: (0..4)
                .filter(|other| *other != place)
                .map(|other| Peer {
                    institution: hospitals.hospitals[other].institution.id,
                    address: PeerAddress::Socket(addresses[other]),
                })
                .collect(),
            config: NodeConfig::default(),
        })
        .collect();
    let folder = root;
    let root = root.to_owned();
    chain::run_together(folder, nodes, |handles: Vec<NodeHandle>| async move {
        let cloud = ContainerStore::open(&root.join("cloud")).unwrap();
        let mut bases = BTreeMap::new();
        let mut served = Served {
            client: ConsortiumClient::new(&hospitals.genesis, []).unwrap(),
            bases: BTreeMap::new(),
            hospitals,
            handles,
            consensus: addresses[..4].to_vec(),
            root,
            cloud,
        };
        for place in 0..4 {
            let service = served.service(place).unwrap();
            let address = addresses[place + 4];
            let id = served.hospitals.hospitals[place].institution.id;
            bases.insert(id, format!("http://{address}"));
            let server = Server::bind(address, None).await.unwrap();
            tokio::spawn(serve_node(
                Arc::new(service),
                server,
                std::future::pending(),
            ));
        }
        served.client = ConsortiumClient::on_loopback(&served.hospitals.genesis, &bases).unwrap();
        served.bases = bases;
        let client = &served.client;
        let founded = tokio::time::timeout(BOUND, async {
            while client.height().await.map_or(0, ledger::Height::number) == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        founded.await.expect("the nodes agree on a block");
        test(served).await
    })
    .unwrap()
}
