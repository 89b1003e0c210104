//! Evidence of a node that misbehaves: found by the others, kept over their restarts, given to whoever
//! asks, and believed for what it proves alone.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use crate::served::{evidence_folder, settings, with_nodes_in};
use axum::Router;
use axum::routing::get;
use chain::{Evidence, Misdeed, NodeConfig, SimulatedNode, Simulator};
use client::ConsortiumClient;
use ledger::testing::FourHospitals;
use scheme::InstitutionId;
use services::{ContainerStore, EpochKeyFiles, EvidenceFiles, GrantFiles, NodeService};

/// Which node proposes two blocks in its turns.
const LIAR: usize = 1;

/// What node 1 of a simulated consortium finds against the liar, kept in this folder by its service.
fn find_evidence(folder: &Path) -> Vec<Evidence> {
    let hospitals = FourHospitals::found(settings());
    let keys = hospitals.hospitals.iter();
    let keys = keys.map(|hospital| hospital.node_key.clone()).collect();
    let config = NodeConfig::default();
    let mut simulator = Simulator::new(51, hospitals.genesis.clone(), keys, config);
    simulator.run(|mut simulation| async move {
        for node in [0, 2, 3] {
            simulation.start(SimulatedNode(node)).await.unwrap();
        }
        let witness = simulation.node(SimulatedNode(0)).unwrap().clone();
        let faulty = simulation
            .start_faulty(SimulatedNode(LIAR), Misdeed::Equivocation, &witness)
            .await;
        let faulty = faulty.unwrap();
        for _ in 0..3_000 {
            if !witness.evidence().is_empty() {
                break;
            }
            simulation.sleep(Duration::from_millis(100)).await;
        }
        assert!(faulty.acts() > 0);
        let elsewhere = tempfile::tempdir().unwrap();
        let hospital = &hospitals.hospitals[0];
        let service = NodeService::new(
            witness.clone(),
            hospital.institution.id,
            hospital.node_key.clone(),
            EpochKeyFiles::open(&elsewhere.path().join("hpke-keys")).unwrap(),
            GrantFiles::open(&elsewhere.path().join("grants")).unwrap(),
            EvidenceFiles::open(folder).unwrap(),
            ContainerStore::open(&elsewhere.path().join("cloud")).unwrap(),
        );
        let service = service.unwrap();
        service.keep_evidence().unwrap();
        service.keep_evidence().unwrap();
        witness.evidence()
    })
}

/// A node that shows this as its evidence.
async fn shows(pieces: Vec<Evidence>) -> String {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap();
    let shown = Evidence::encode_all(&pieces);
    let router = Router::new().route("/v1/evidence", get(async move || shown.clone()));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// The story: evidence lay in a node's memory only, and a restart of the node that had seen both votes
/// made the liar honest again.
#[test]
fn evidence_outlives_a_restart_and_is_checked_by_whoever_asks() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let found = find_evidence(&evidence_folder(root, 0));
    assert!(!found.is_empty(), "who saw both votes keeps both");
    // What does not stand lies beside it, in another node's folder too.
    let liar = FourHospitals::found(settings()).hospitals[LIAR]
        .node_key
        .verifying_key();
    let honest = FourHospitals::found(settings()).hospitals[2]
        .node_key
        .verifying_key();
    assert!(found.iter().all(|piece| piece.node == liar));
    let mut framed = found[0].clone();
    framed.node = honest;
    let mut spoilt = found[0].clone();
    *spoilt.votes.last_mut().unwrap() ^= 1;
    for place in [0, 2] {
        let files = EvidenceFiles::open(&evidence_folder(root, place)).unwrap();
        files.keep(&framed).unwrap();
        files.keep(&spoilt).unwrap();
    }

    let bytes = with_nodes_in(root, |served| async move {
        let status = async |node| {
            served
                .client
                .status(InstitutionId::new(node))
                .await
                .unwrap()
        };
        assert!(status(1).await.evidence > 0);
        assert_eq!(status(3).await.evidence, 0, "it does not stand there");
        let told = served.client.evidence().await.unwrap();
        assert!(!told.is_empty());
        assert!(told.iter().all(|piece| found.contains(piece)));
        assert_eq!(told.len(), status(1).await.evidence);

        // A node that accuses others adds nothing; nor does one that says nothing take anything away.
        let mut bases = served.bases.clone();
        bases.insert(InstitutionId::new(2), shows(vec![framed, spoilt]).await);
        bases.insert(InstitutionId::new(3), shows(Vec::new()).await);
        let client = ConsortiumClient::on_loopback(&served.hospitals.genesis, &bases).unwrap();
        assert_eq!(client.evidence().await.unwrap(), told);
        let nobody = ConsortiumClient::new(&served.hospitals.genesis, []).unwrap();
        assert!(nobody.evidence().await.is_err());
        told.len()
    });
    // Nothing was removed, and the genuine pieces are there once.
    let lie = fs::read_dir(evidence_folder(root, 0)).unwrap().count();
    assert_eq!(lie, bytes + 2);
}
