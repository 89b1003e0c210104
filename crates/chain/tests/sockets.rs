//! Four nodes on loopback sockets and real folders: finality, and a restart from disk.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use crate::support::{COMMUNITY, Consortium};
use chain::{NodeConfig, NodeHandle, NodeSettings, Peer, PeerAddress, Submitter, run_together};
use ledger::TransactionId;

/// Addresses on loopback that nobody listens on at the moment.
fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let held: Vec<_> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback"))
        .collect();
    held.iter()
        .map(|listener| listener.local_addr().expect("bound"))
        .collect()
}

fn settings(consortium: &Consortium) -> Vec<NodeSettings> {
    let addresses = free_addresses(consortium.nodes.len());
    let peers: Vec<Peer> = consortium
        .genesis
        .institutions
        .iter()
        .zip(&addresses)
        .map(|(institution, address)| Peer {
            institution: institution.id,
            address: PeerAddress::Socket(*address),
        })
        .collect();
    let settings = consortium
        .nodes
        .iter()
        .zip(&addresses)
        .map(|(key, listen)| NodeSettings {
            genesis: consortium.genesis.clone(),
            key: key.clone(),
            listen: *listen,
            peers: peers.clone(),
            config: NodeConfig::default(),
        });
    settings.collect()
}

/// Hands in transactions at every node and waits until each is final at every node.
fn play(
    folder: &Path,
    consortium: &Consortium,
    numbers: std::ops::Range<u64>,
    earlier: &[TransactionId],
) -> Vec<TransactionId> {
    let transactions: Vec<_> = numbers
        .map(|number| consortium.transaction(number))
        .collect();
    let played = run_together(
        folder,
        settings(consortium),
        |nodes: Vec<NodeHandle>| async move {
            for id in earlier {
                for node in &nodes {
                    let kept = node.receipt(id).expect("readable");
                    assert!(kept.is_some(), "what all had was lost over a restart");
                }
            }
            let mut ids = Vec::new();
            for (place, transaction) in transactions.iter().enumerate() {
                let node = &nodes[place % nodes.len()];
                let taken = node.submit(Submitter::new(1), transaction).expect("room");
                ids.push(taken.id());
            }
            for id in &ids {
                let mut said = Vec::new();
                for node in &nodes {
                    let receipt = node.wait_for_receipt(id, Duration::from_secs(60)).await;
                    let receipt = receipt.expect("final in time");
                    said.push(receipt.outcome);
                }
                assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "{said:?}");
            }
            for node in &nodes {
                let status = node.status();
                assert_eq!(status.failure, None);
                assert_eq!(status.led[COMMUNITY].blocks, 0);
            }
            ids
        },
    );
    played.expect("the nodes start")
}

#[test]
fn four_nodes_reach_finality_over_sockets_and_restart_from_disk() {
    let consortium = Consortium::of_four();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = play(folder.path(), &consortium, 0..12, &[]);
    let second = play(folder.path(), &consortium, 12..20, &first);
    assert_eq!(first.len() + second.len(), 20);
}
