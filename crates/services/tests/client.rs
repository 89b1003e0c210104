//! What the consortium's client does with nodes that take a transaction and do not carry it, that
//! answer something else than was asked, or that do not answer.
#![allow(clippy::unwrap_used, reason = "a test")]

mod served;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use client::{ClientError, ConsortiumClient};
use ledger::{Answer, CentreKeyStanding, Height};
use scheme::InstitutionId;
use served::{BOUND, Served, with_nodes};

const FIRST: InstitutionId = InstitutionId::new(1);

/// A node that takes every transaction, carries none, and knows of none: cut off from the others, or
/// lying. It serves the given bytes as headers.
async fn hole(headers: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/v1/transactions", post(async || StatusCode::ACCEPTED))
        .route("/v1/receipts/{id}", get(async || StatusCode::NOT_FOUND))
        .route("/v1/headers", get(async move || headers.clone()));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// An address where nothing listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A client that began each round at the first node handed a transaction to the same one until its time
/// was up, while three healthy nodes were never asked.
#[test]
fn a_node_that_takes_a_transaction_and_does_not_carry_it_holds_nobody_up() {
    with_nodes(|served| async move {
        let mut bases = served.bases.clone();
        bases.insert(FIRST, hole(Vec::new()).await);
        let client = ConsortiumClient::on_loopback(&served.hospitals.genesis, &bases).unwrap();
        let registration = served.hospitals.registration(1);
        let confirmed = client.submit(&registration, BOUND).await.unwrap();
        assert!(confirmed.receipts.len() >= 2);
    });
}

/// Too few receipts in time are a failure that says who answered what and who was silent; the same
/// bytes can then be handed in again.
#[test]
fn a_shortfall_names_who_answered_and_who_was_silent() {
    with_nodes(|served| async move {
        let Served {
            client,
            bases,
            hospitals,
            ..
        } = served;
        let key = |number: u32| hospitals.hospital(number).node_key.verifying_key();
        // Nodes 1 and 2 take it and carry nothing, 3 is gone, 4 is healthy and alone.
        let mut apart: BTreeMap<InstitutionId, String> = BTreeMap::new();
        for number in 1..=2 {
            apart.insert(InstitutionId::new(number), hole(Vec::new()).await);
        }
        apart.insert(InstitutionId::new(3), nobody());
        let alone = ConsortiumClient::on_loopback(&hospitals.genesis, &apart).unwrap();
        let registration = hospitals.registration(2);
        let short = Duration::from_secs(3);
        let Err(ClientError::Shortfall(shortfall)) = alone.submit(&registration, short).await
        else {
            panic!("no receipt can have come");
        };
        assert_eq!((shortfall.needed, shortfall.equal), (2, 0));
        let answered: Vec<_> = shortfall.answered.iter().map(|(node, _)| *node).collect();
        let mut pending = vec![key(1), key(2)];
        pending.sort_unstable();
        assert_eq!(answered, pending);
        let waits = |(_, answer): &(_, Answer)| matches!(answer, Answer::Pending);
        assert!(shortfall.answered.iter().all(waits));
        let mut silent = shortfall.silent.clone();
        silent.sort_unstable();
        let mut expected = vec![key(3), key(4)];
        expected.sort_unstable();
        assert_eq!(silent, expected);

        assert_eq!(bases.len(), 4);
        let confirmed = client.submit(&registration, BOUND).await.unwrap();
        assert!(confirmed.outcome.height > Height::new(0));
    });
}

/// Headers come with a certificate that the client checks, so a node that shows others is passed over.
#[test]
fn headers_are_proved_and_another_nodes_are_taken_if_they_are_not() {
    with_nodes(|served| async move {
        let registration = served.hospitals.registration(3);
        let confirmed = served.client.submit(&registration, BOUND).await.unwrap();
        let end = confirmed.outcome.height;
        let honest = proved(&served.client, Height::new(1), end).await;
        assert!(
            honest
                .windows(2)
                .all(|pair| pair[1].previous == pair[0].id())
        );
        let of_outcome = &honest[usize::try_from(end.number()).unwrap() - 1];
        assert_eq!(of_outcome.id(), confirmed.outcome.block);

        // One of the node's own making: the right layout, a height more, and no certificate.
        let mut forged = honest[0];
        forged.height = forged.height.next();
        let forged = ledger::FinalityProof::new(forged, vec![0; 100]).encode();
        for bytes in [forged, Vec::new(), vec![0xff; 500]] {
            let mut bases = served.bases.clone();
            bases.insert(FIRST, hole(bytes.clone()).await);
            let client = ConsortiumClient::on_loopback(&served.hospitals.genesis, &bases).unwrap();
            let headers = client.headers(Height::new(1)).await.unwrap();
            assert_eq!(headers[0], honest[0]);
            let only = BTreeMap::from([(FIRST, hole(bytes).await)]);
            let client = ConsortiumClient::on_loopback(&served.hospitals.genesis, &only).unwrap();
            assert!(client.headers(Height::new(1)).await.is_err());
        }
    });
}

/// The registration centre's key changes by a transaction like any other, and the nodes say so.
#[test]
fn the_centres_keys_are_what_the_chain_says() {
    with_nodes(|served| async move {
        let (four, client) = (&served.hospitals, &served.client);
        let standings = async || {
            let agreed = client.centre_keys().await.unwrap();
            let standings: Vec<_> = agreed.keys.iter().map(|key| key.standing).collect();
            standings
        };
        assert_eq!(standings().await, [CentreKeyStanding::Current]);
        let lost = four.centre_key(four.next_centre_key(1, &[0]), None, &[1, 2, 4]);
        client.submit(&lost, BOUND).await.unwrap();
        let now = [CentreKeyStanding::Compromised, CentreKeyStanding::Current];
        assert_eq!(standings().await, now);
        // What the lost key signs is refused with a reason.
        let registration = four.registration(1);
        let refused = client.submit(&registration, BOUND).await;
        assert!(matches!(refused, Err(ClientError::Refused(problem)) if problem.status() == 409));
    });
}

/// Headers from `from` to `end`, once a certificate at or above `end` is there.
async fn proved(client: &ConsortiumClient, from: Height, end: Height) -> Vec<ledger::Header> {
    let headers = tokio::time::timeout(BOUND, async {
        loop {
            if let Ok(headers) = client.headers(from).await
                && headers.last().is_some_and(|last| last.height >= end)
            {
                return headers;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    headers.await.unwrap()
}
