//! What the consortium's client does with nodes that take a transaction and do not carry it, that
//! answer something else than was asked, or that do not answer.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::served::{BOUND, Served, with_nodes};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, post};
use client::{ClientError, ConsortiumClient};
use futures::stream;
use ledger::testing::FourHospitals;
use ledger::{Answer, CentreKeyStanding, Height, TransactionId};
use parties::{ContainerRequest, InTransaction};
use scheme::{GrantId, InstitutionId, SigningKey, sha256};

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
        // The height that f + 1 nodes have reached can lie below a block that is only just final.
        let told = tokio::time::timeout(BOUND, async {
            while standings().await != now {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        told.await.expect("the chain says so");
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

/// The container that the nodes below give, or do not.
const CONTAINER: [u8; 12] = *b"a container.";

/// Accounting nodes 1 to 3, each giving a container in its own way.
async fn givers(containers: [MethodRouter; 3]) -> ConsortiumClient {
    let mut bases = BTreeMap::new();
    for (number, container) in (1..).zip(containers) {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/v1/containers", container);
        tokio::spawn(async move { axum::serve(listener, router).await });
        bases.insert(InstitutionId::new(number), format!("http://{address}"));
    }
    ConsortiumClient::on_loopback(&FourHospitals::default().genesis, &bases).unwrap()
}

/// Who gave the container at last, and what of it came. Node 1 is the master node.
async fn container(client: &ConsortiumClient) -> Result<(InstitutionId, Vec<u8>), ClientError> {
    let of = InTransaction {
        access: TransactionId::new([1; 32]),
        record: TransactionId::new([2; 32]),
    };
    let here = FourHospitals::default().consortium;
    let key = SigningKey::from_seed([3; 32]);
    let request = ContainerRequest::sign(&here, GrantId::new([4; 32]), of, &key);
    let mut came = Vec::new();
    let digest = sha256(&CONTAINER);
    let from = client
        .container(&request, FIRST, digest, &mut |piece| match piece {
            None => came.clear(),
            Some(piece) => came.extend_from_slice(piece),
        })
        .await?;
    Ok((from, came))
}

fn whole() -> MethodRouter {
    post(async || CONTAINER)
}

fn silent() -> MethodRouter {
    post(async || std::future::pending::<StatusCode>().await)
}

fn refusing() -> MethodRouter {
    post(async || StatusCode::NOT_FOUND)
}

/// A byte each second, and the whole of it at last.
fn slow() -> MethodRouter {
    post(async || {
        let bytes = stream::unfold(0, |at| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let byte = CONTAINER.get(at)?;
            let piece = Ok::<_, std::convert::Infallible>(Bytes::copy_from_slice(&[*byte]));
            Some((piece, at + 1))
        });
        Body::from_stream(bytes)
    })
}

#[tokio::test]
async fn a_silent_master_node_is_passed_over() {
    let client = givers([silent(), whole(), whole()]).await;
    let (from, came) = container(&client).await.unwrap();
    assert_eq!(from, InstitutionId::new(2));
    assert_eq!(came, CONTAINER);
}

/// A master node that gave a byte now and then held its doctor up for as long as it liked.
#[tokio::test]
async fn a_slow_master_node_is_passed_over() {
    let client = givers([slow(), refusing(), whole()]).await;
    let (from, came) = container(&client).await.unwrap();
    assert_eq!(from, InstitutionId::new(3));
    assert_eq!(came, CONTAINER, "nothing of what the slow one gave is left");
}

/// Where all are slow it may be the way, and the first of them is given its time.
#[tokio::test]
async fn a_slow_node_is_waited_for_if_there_is_no_other() {
    let client = givers([refusing(), slow(), refusing()]).await;
    let (from, came) = container(&client).await.unwrap();
    assert_eq!(from, InstitutionId::new(2));
    assert_eq!(came, CONTAINER);
}

#[tokio::test]
async fn a_master_node_that_breaks_off_or_gives_another_container_is_passed_over() {
    let cut = || post(async || &CONTAINER[..5]);
    let broken = || {
        post(async || {
            let pieces = [
                Ok(Bytes::from_static(b"a con")),
                Err(std::io::Error::other("gone")),
            ];
            Body::from_stream(stream::iter(pieces))
        })
    };
    let other = || post(async || b"another one.");
    for first in [cut(), broken(), other()] {
        let client = givers([first, whole(), silent()]).await;
        let (from, came) = container(&client).await.unwrap();
        assert_eq!(from, InstitutionId::new(2));
        assert_eq!(came, CONTAINER);
    }
    let client = givers([cut(), other(), refusing()]).await;
    let failed = container(&client).await;
    assert!(matches!(failed, Err(ClientError::Refused(problem)) if problem.status() == 404));
}
