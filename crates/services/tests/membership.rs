//! A consortium that changes while it is used, on real sockets: a fifth hospital's node joins with an
//! empty disk, its clients follow, and it is removed again.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::served::{BOUND, Served, settings, with_nodes_of};
use chain::{NodeConfig, NodeSettings, Peer, PeerAddress};
use client::{ConsortiumClient, now};
use ledger::testing::Hospital;
use ledger::{
    Application, Approval, Contact, ContactAddress, MembershipChange, Motion, Settings, Tier,
    TlsAuthority, Transaction,
};
use scheme::{InstitutionId, Timestamp, ValidatorEpoch};
use services::{
    ContainerStore, EpochKeyFiles, EvidenceFiles, GrantFiles, NodeService, Server, serve_node,
};
use tokio::sync::oneshot;

const HOUR_MS: u64 = 60 * 60 * 1000;
const FIFTH: InstitutionId = InstitutionId::new(5);

/// Ten blocks an epoch, two a second when nothing comes.
fn short_epochs() -> Settings {
    Settings {
        epoch_blocks: 10,
        ..settings()
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// A node in a runtime of its own, as another process would have it, until it is told to stop.
struct Joined {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Joined {
    fn start(
        served: &Served,
        newcomer: &Hospital,
        consensus: SocketAddr,
        serve: SocketAddr,
        folder: PathBuf,
    ) -> Self {
        let peers = (1..).zip(&served.consensus).map(|(number, address)| Peer {
            institution: InstitutionId::new(number),
            address: PeerAddress::Socket(*address),
        });
        let settings = NodeSettings {
            genesis: served.hospitals.genesis.clone(),
            key: newcomer.node_key.clone(),
            listen: consensus,
            peers: peers.collect(),
            config: NodeConfig::default(),
        };
        let (id, key) = (newcomer.institution.id, newcomer.node_key.clone());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let root = folder.clone();
            chain::run(&root, settings, |handle| async move {
                let service = NodeService::new(
                    handle,
                    id,
                    key,
                    EpochKeyFiles::open(&folder.join("hpke-keys")).unwrap(),
                    GrantFiles::open(&folder.join("grants")).unwrap(),
                    EvidenceFiles::open(&folder.join("evidence")).unwrap(),
                    ContainerStore::open(&folder.join("cloud")).unwrap(),
                );
                let server = Server::bind(serve, None).await.unwrap();
                serve_node(Arc::new(service.unwrap()), server, async {
                    let _ = stopped.await;
                })
                .await;
            })
            .unwrap();
        });
        Self { stop, thread }
    }

    async fn end(self) {
        let _ = self.stop.send(());
        tokio::task::spawn_blocking(|| self.thread.join().unwrap())
            .await
            .unwrap();
    }
}

/// A hospital puts a change to the others, which approve it.
async fn decide(served: &Served, change: MembershipChange, members: &[u32]) {
    let here = &served.hospitals.consortium;
    let of = |number: u32| served.hospitals.hospital(number);
    let by = of(members[0]);
    let until = Timestamp::new(now().number() + HOUR_MS);
    let motion = Motion::sign(here, by.institution.id, until, Vec::new(), change, &by.key);
    let motion = Transaction::Motion(Box::new(motion));
    let id = served.client.submit(&motion, BOUND).await.unwrap().id;
    for number in &members[1..] {
        let by = of(*number);
        let approval = Approval::sign(here, id, by.institution.id, &by.key);
        let approval = Transaction::Approval(approval);
        served.client.submit(&approval, BOUND).await.unwrap();
    }
}

/// Waits until a client sees this of the nodes.
async fn until(client: &ConsortiumClient, sees: impl Fn(&ledger::NodeSet) -> bool) {
    let seen = tokio::time::timeout(2 * BOUND, async {
        loop {
            client.height().await.unwrap();
            if sees(&client.nodes()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    seen.await.expect("the client follows");
}

#[test]
fn a_hospital_joins_and_leaves_while_the_consortium_is_used() {
    let folder = tempfile::tempdir().unwrap();
    with_nodes_of(folder.path(), short_epochs(), |served| async move {
        let (hospitals, client) = (&served.hospitals, &served.client);
        let newcomer = hospitals.newcomer(Tier::Secondary);
        let (consensus, serve) = (free_address(), free_address());
        let first = client.submit(&hospitals.patient(1), BOUND).await.unwrap();

        // Where it is reached stands in its application, so nobody configures anything.
        let address = |text: String| ContactAddress::new(&text).unwrap();
        let contact = Contact {
            consensus: address(consensus.to_string()),
            node: address(format!("http://{serve}")),
            server: None,
            authority: TlsAuthority::new("").unwrap(),
        };
        let application = Application::sign(
            &hospitals.consortium,
            newcomer.institution.clone(),
            contact,
            &newcomer.key,
            &newcomer.node_key,
        );
        let change = MembershipChange::Admit(Box::new(application));
        decide(&served, change, &[1, 2, 4]).await;
        let elsewhere = served.root.join("fifth");
        let joined = Joined::start(&served, &newcomer, consensus, serve, elsewhere);

        until(client, |nodes| nodes.by_institution(FIFTH).is_some()).await;
        let leads = tokio::time::timeout(BOUND, async {
            loop {
                let led = match client.status(FIFTH).await {
                    Ok(status) => status
                        .led
                        .iter()
                        .any(|led| led.institution == 5 && led.blocks > 0),
                    Err(_) => false,
                };
                if led {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        leads.await.expect("the newcomer leads");
        // Its key for what is sealed to it stands beside the others', in this epoch and those to come.
        let sealed = tokio::time::timeout(BOUND, async {
            loop {
                let keys = client.node_keys().await.unwrap().keys;
                let whose: BTreeSet<_> = keys.iter().map(|(id, _)| id.number()).collect();
                if whose == BTreeSet::from([1, 2, 3, 5]) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        sealed
            .await
            .expect("every accounting node has a key on the chain");
        let second = client.submit(&hospitals.patient(2), BOUND).await.unwrap();

        // Someone who knows the founding document alone learns of the node and of its address, and
        // checks proofs of any epoch.
        let stranger = served.another_client();
        assert_eq!(stranger.nodes().nodes().len(), 4);
        stranger.height().await.unwrap();
        assert_eq!(stranger.nodes().nodes().len(), 5);
        stranger.status(FIFTH).await.unwrap();
        for confirmed in [&first, &second] {
            let found = stranger.transaction(confirmed.id).await.unwrap();
            assert_eq!(found.height, confirmed.outcome.height);
        }
        let headers = stranger.headers(second.outcome.height).await.unwrap();
        assert!(headers[0].epoch > ValidatorEpoch::new(0));

        let outdated = served.another_client();
        outdated.height().await.unwrap();
        let removal = MembershipChange::Remove(FIFTH);
        decide(&served, removal, &[1, 2, 3, 4]).await;
        until(client, |nodes| nodes.nodes().len() == 4).await;
        joined.end().await;
        let third = client.submit(&hospitals.patient(3), BOUND).await.unwrap();
        // The last node that it knows of is silent now, and the others' proofs are of nodes that it does not
        // know of yet.
        assert!(outdated.nodes().by_institution(FIFTH).is_some());
        let found = outdated.transaction(third.id).await.unwrap();
        assert_eq!(found.height, third.outcome.height);
        until(&stranger, |nodes| nodes.nodes().len() == 4).await;
        stranger.submit(&hospitals.patient(4), BOUND).await.unwrap();

        // Keys of epochs that are over are gone: this one's, the last one's and the next one's are there.
        let keys = std::fs::read_dir(served.root.join("hpke-keys-0")).unwrap();
        assert!((2..=4).contains(&keys.count()));
    });
}
