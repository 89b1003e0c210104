//! A consortium of one hospital, whose node runs in this process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use chain::{NodeConfig, NodeSettings};
use client::ConsortiumClient;
use ledger::Settings;
use ledger::testing::FourHospitals;
use scheme::{InstitutionId, Threshold};
use services::{
    ContainerStore, EpochKeyFiles, EvidenceFiles, GrantFiles, NodeService, Server, SnapshotFiles,
    serve_node,
};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::served::at_end;

pub(crate) const HOSPITAL: InstitutionId = InstitutionId::new(1);

/// Within which the chain takes what a target begins with.
const BOUND: Duration = Duration::from_secs(60);

/// The first of the four hospitals alone.
pub(crate) static HOSPITALS: LazyLock<FourHospitals> = LazyLock::new(|| {
    let mut alone = FourHospitals::default();
    alone.genesis.institutions.truncate(1);
    alone.genesis.settings = Settings {
        threshold_min: Threshold::new(1).expect("not 0"),
        // Blocks come with transactions only.
        heartbeat: Duration::from_secs(60),
        leader_timeout: Duration::from_secs(120),
        epoch_blocks: u32::MAX,
        ..Settings::standard()
    };
    alone.consortium = alone.genesis.consortium();
    alone
});

/// Starts the node in threads of its own; gives where its interface is.
pub(crate) fn start() -> SocketAddr {
    let folder: TempDir = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let listen = listener.local_addr().expect("it listens");
    drop(listener);
    let (said, address) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let node = thread::spawn(move || {
        let root = folder.path().to_owned();
        let hospital = HOSPITALS.hospital(1);
        let settings = NodeSettings {
            genesis: HOSPITALS.genesis.clone(),
            key: hospital.node_key.clone(),
            listen,
            peers: Vec::new(),
            config: NodeConfig::default(),
        };
        let ran = chain::run(folder.path(), settings, |handle| async move {
            let open = |name: &str| root.join(name);
            let service = NodeService::new(
                handle,
                HOSPITAL,
                hospital.node_key.clone(),
                EpochKeyFiles::open(&open("keys")).expect("an empty folder"),
                GrantFiles::open(&open("grants")).expect("an empty folder"),
                EvidenceFiles::open(&open("evidence")).expect("an empty folder"),
                ContainerStore::open(&open("cloud")).expect("an empty folder"),
            );
            let snapshots = SnapshotFiles::open(&open("snapshots")).expect("an empty folder");
            let service = service.expect("a new node").with_snapshots(snapshots);
            let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), None).await;
            let server = server.expect("a free port");
            said.send(server.address().expect("it listens"))
                .expect("it is waited for");
            serve_node(Arc::new(service), server, async { drop(stopped.await) }).await;
        });
        ran.expect("a node alone");
    });
    at_end(move || {
        drop(stop);
        let _ = node.join();
    });
    address.recv().expect("the node starts")
}

/// A node of its own that knows the hospital's doctor, and a client of it.
pub(crate) async fn with_doctor() -> ConsortiumClient {
    let bases = BTreeMap::from([(HOSPITAL, format!("http://{}", start()))]);
    let chain = ConsortiumClient::on_loopback(&HOSPITALS.genesis, &bases).expect("a founding");
    let doctor = chain.submit(&HOSPITALS.registration(1), BOUND).await;
    doctor.expect("the chain takes the doctor");
    chain
}
