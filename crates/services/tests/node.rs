//! Four nodes with their interfaces on loopback sockets, and what they answer to good and bad
//! requests.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use crate::served::{BOUND, Served, with_nodes};
use client::{ClientError, Problem};
use ledger::{KeyHash, Transaction, TransactionId};
use parties::Question;
use scheme::InstitutionId;

#[test]
fn a_transaction_becomes_final_and_its_proof_needs_no_trust() {
    with_nodes(|served| async move {
        let Served {
            client, hospitals, ..
        } = served;
        let registration = hospitals.registration(2);
        let confirmed = client.submit(&registration, BOUND).await.unwrap();
        assert!(confirmed.receipts.len() >= 2);
        assert_eq!(confirmed.id, registration.id(&hospitals.consortium));
        let found = client.transaction(confirmed.id).await.unwrap();
        assert_eq!(found.transaction, registration);
        assert_eq!(found.height, confirmed.outcome.height);
        // Sent again byte for byte it is acknowledged again, and recorded once.
        let again = client.submit(&registration, BOUND).await.unwrap();
        assert_eq!(again.outcome, confirmed.outcome);

        let doctor = hospitals.hospital(2).doctor_key.verifying_key();
        let agreed = client.agreed_key(KeyHash::of(&doctor)).await.unwrap();
        assert_eq!(agreed.unwrap().hash(), KeyHash::of(&doctor));
        let stranger = hospitals.hospital(3).doctor_key.verifying_key();
        assert!(
            client
                .agreed_key(KeyHash::of(&stranger))
                .await
                .unwrap()
                .is_none()
        );
        // Each accounting node puts its own HPKE key on the chain.
        let keys = tokio::time::timeout(BOUND, async {
            loop {
                let keys = client.node_keys().await.unwrap().keys;
                if keys.len() == 3 {
                    return keys;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let ids: Vec<u32> = keys
            .await
            .unwrap()
            .iter()
            .map(|(id, _)| id.number())
            .collect();
        assert_eq!(ids, [1, 2, 3]);
    });
}

#[test]
fn a_refused_transaction_says_why() {
    with_nodes(|served| async move {
        let Served {
            client, hospitals, ..
        } = served;
        // A record of a hospital that has begun no writer epoch.
        let refused = client.submit(&hospitals.record(2, 1), BOUND).await;
        let Err(ClientError::Refused(problem)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(problem.status(), 409);
        assert!(problem.detail().len() > 20, "{problem:?}");
        let Transaction::Registration(mut forged) = hospitals.registration(1) else {
            unreachable!()
        };
        forged.centre = scheme::Signature::new([3; 64]);
        let refused = client
            .submit(&Transaction::Registration(forged), BOUND)
            .await;
        assert!(
            matches!(refused, Err(ClientError::Refused(_))),
            "{refused:?}"
        );
    });
}

#[test]
fn bad_requests_get_a_reason_and_the_node_stays_up() {
    with_nodes(|served| async move {
        let Served { client, bases, .. } = served;
        let http = reqwest::Client::new();
        let (accounting, verifying) = (
            &bases[&InstitutionId::new(1)],
            &bases[&InstitutionId::new(4)],
        );
        let zeros = "00".repeat(32);
        let question = Question::WriterEpochs(InstitutionId::new(1)).encode();
        let cases: Vec<(&str, String, Vec<u8>, &[u16])> = vec![
            (accounting, "/v1/transactions".into(), vec![], &[422]),
            (accounting, "/v1/transactions".into(), vec![4; 600], &[422]),
            (
                accounting,
                "/v1/transactions".into(),
                vec![0; 70_000],
                &[413],
            ),
            (accounting, "/v1/questions?height=1".into(), vec![9], &[400]),
            (
                accounting,
                "/v1/questions?height=x".into(),
                question.clone(),
                &[400],
            ),
            (accounting, "/v1/questions".into(), question, &[400]),
            (accounting, "/v1/grants".into(), vec![1; 100], &[400]),
            (
                accounting,
                "/v1/grants".into(),
                vec![0; 5 * 1024 * 1024],
                &[413],
            ),
            (accounting, "/v1/grants/read".into(), vec![1; 127], &[400]),
            (
                accounting,
                "/v1/grants/read".into(),
                vec![1; 128],
                &[400, 422],
            ),
            (accounting, "/v1/searches".into(), vec![0; 136], &[422]),
            (accounting, "/v1/shares".into(), vec![2; 64], &[400]),
            (accounting, "/v1/containers".into(), vec![2; 192], &[422]),
            (verifying, "/v1/searches".into(), vec![0; 136], &[404]),
            (verifying, "/v1/containers".into(), vec![2; 192], &[404]),
            (accounting, "/v1/nothing".into(), vec![], &[404]),
        ];
        for (base, path, body, expected) in cases {
            let length = body.len();
            // A node answers what is too long before it has read it, and closes the connection: the
            // sender can meet the closed connection first, and then asks again.
            let mut attempts = 0;
            let response = loop {
                let sent = http.post(format!("{base}{path}")).body(body.clone());
                match sent.send().await {
                    Ok(response) => break response,
                    Err(error) if attempts == 10 => panic!("{path} with {length} bytes: {error}"),
                    Err(_) => attempts += 1,
                }
            };
            let status = response.status().as_u16();
            assert!(
                expected.contains(&status),
                "{path} with {length} bytes: {status}"
            );
            let kind = response
                .headers()
                .get("content-type")
                .map(|kind| kind.as_bytes().to_vec());
            if kind.as_deref() == Some(b"application/problem+json") {
                let problem: Problem = response.json().await.unwrap();
                assert!(problem.detail().len() > 10, "{path}: {problem:?}");
            }
        }
        let reads = [
            format!("/v1/receipts/{zeros}"),
            format!("/v1/proofs/{zeros}"),
            "/v1/proofs/no-hex".into(),
            "/v1/receipts/00".into(),
        ];
        for path in reads {
            let response = http
                .get(format!("{accounting}{path}"))
                .send()
                .await
                .unwrap();
            assert!(
                matches!(response.status().as_u16(), 400 | 404),
                "{path}: {}",
                response.status()
            );
        }
        let missing = client.transaction(TransactionId::new([0; 32])).await;
        assert!(matches!(missing, Err(ClientError::Refused(problem)) if problem.status() == 404));
        for institution in 1..=4 {
            let status = client
                .status(InstitutionId::new(institution))
                .await
                .unwrap();
            assert_eq!(status.failure, None);
        }
    });
}
