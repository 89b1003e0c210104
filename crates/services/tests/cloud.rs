//! The cloud as its users meet it: over HTTP, beside four real nodes.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::served::{BOUND, Served, with_nodes};
use crate::storage;
use bytes::Bytes;
use client::{
    ClientError, CloudClient, Endpoint, Hex, IdempotencyKey, Members, NewUpload, ServiceClient,
    ServiceName, UploadState,
};
use futures::StreamExt;
use scheme::{Address, ConsortiumId, SigningKey, VerifyingKey, sha256};
use services::{
    CLOUD_SCHEMA, CloudConfig, CloudService, ContainerStore, Database, Server, serve_cloud,
};

/// A cloud that runs, with what a test needs of it.
struct Cloud {
    address: SocketAddr,
    key: VerifyingKey,
    task: tokio::task::JoinHandle<()>,
    database: Database,
}

impl Cloud {
    async fn start(served: &Served, folder: &Path, grace: Duration) -> Self {
        let location = storage::records(&folder.join("cloud.sqlite"));
        let database = Database::open(&location, CLOUD_SCHEMA).await.unwrap();
        let (store, _) = storage::containers(&folder.join("store"));
        let store = ContainerStore::at(&store).unwrap();
        let key = SigningKey::from_seed([40; 32]);
        let config = CloudConfig {
            spool: folder.join("spool"),
            container_bytes_max: 64 << 20,
            institution_bytes_per_day: 1 << 30,
            grace,
            tidy_every: Duration::from_millis(200),
            rate_per_second: 1_000,
        };
        let hospitals = &served.hospitals;
        let founders = hospitals.genesis.institutions.iter().cloned();
        let service = CloudService::new(
            hospitals.consortium,
            key.clone(),
            config,
            database.clone(),
            store,
            served.another_client(),
            Members::new(founders, BTreeMap::new()),
        )
        .unwrap();
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), None).await;
        let server = server.unwrap();
        let address = server.address().unwrap();
        let stop = std::future::pending();
        let task = tokio::spawn(serve_cloud(Arc::new(service), server, stop));
        Self {
            address,
            key: key.verifying_key(),
            task,
            database,
        }
    }

    fn service(&self, consortium: ConsortiumId, key: Option<&SigningKey>) -> ServiceClient {
        let address = format!("http://{}", self.address);
        let endpoint = Endpoint::new(ServiceName::Cloud, &address, None, None).unwrap();
        let client = ServiceClient::new(consortium, endpoint);
        match key {
            Some(key) => client.signing(key.clone()),
            None => client,
        }
    }

    fn client(&self, consortium: ConsortiumId, key: &SigningKey) -> CloudClient {
        CloudClient::new(self.service(consortium, Some(key)))
    }

    async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
        self.database.close().await;
    }
}

fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8 ^ seed).collect()
}

async fn stored(client: &CloudClient, content: &[u8]) -> parties::StorageReceipt {
    let length = content.len() as u64;
    let mut source = Cursor::new(content);
    client
        .store(&mut source, sha256(content), length, None, &mut |_| ())
        .await
        .unwrap()
}

async fn read(client: &CloudClient, address: Address, offset: u64) -> Result<Vec<u8>, ClientError> {
    let mut pieces = client.read(address, offset).await?;
    let mut all = Vec::new();
    while let Some(piece) = pieces.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

fn status(error: &ClientError) -> u16 {
    match error {
        ClientError::Refused(problem) => {
            assert!(problem.detail().len() > 20, "{problem:?}");
            problem.status()
        }
        _ => 0,
    }
}

/// The file of a container.
fn file(folder: &Path, address: Address) -> std::path::PathBuf {
    let name = hex::encode(address.as_bytes());
    let (_, files) = storage::containers(&folder.join("store"));
    files.join(&name[..2]).join(name)
}

#[test]
fn a_container_is_stored_with_a_receipt_and_read_back_in_ranges() {
    with_nodes(|served| async move {
        let here = served.hospitals.consortium;
        let folder = tempfile::tempdir().unwrap();
        let cloud = Cloud::start(&served, folder.path(), Duration::from_secs(3_600)).await;
        let doctor = served.doctor(1).await;
        let client = cloud.client(here, &doctor);
        let content = bytes(20 << 20, 1);
        let receipt = stored(&client, &content).await;
        let length = content.len() as u64;
        receipt
            .verify(&here, &cloud.key, sha256(&content), length)
            .unwrap();
        assert_eq!(read(&client, receipt.address, 0).await.unwrap(), content);
        let from = 3 * (1 << 20) + 17;
        let rest = read(&client, receipt.address, from as u64).await.unwrap();
        assert_eq!(rest, content[from..]);
        assert_eq!(
            client.start(receipt.address, 100).await.unwrap(),
            content[..100]
        );
        // Two uploads of the same bytes lie at addresses that tell nothing.
        let again = stored(&client, &content).await;
        assert_ne!(again.address, receipt.address);
        let nowhere = read(&client, Address::new([9; 32]), 0).await.unwrap_err();
        assert_eq!(status(&nowhere), 404);
    });
}

/// Half an upload is taken up where it stopped, by the same key, also after the cloud was killed.
#[test]
fn an_upload_goes_on_where_it_stopped() {
    with_nodes(|served| async move {
        let here = served.hospitals.consortium;
        let folder = tempfile::tempdir().unwrap();
        let hour = Duration::from_secs(3_600);
        let cloud = Cloud::start(&served, folder.path(), hour).await;
        let doctor = served.doctor(1).await;
        let service = cloud.service(here, Some(&doctor));
        let content = bytes(3_000_000, 2);
        let new = NewUpload {
            length: content.len() as u64,
            digest: Hex(*sha256(&content).as_bytes()),
            address: None,
        };
        let key = IdempotencyKey::random();
        let begun: UploadState = service.post("/v1/uploads", &new, &key).await.unwrap();
        let again: UploadState = service.post("/v1/uploads", &new, &key).await.unwrap();
        assert_eq!(again, begun, "one write, one upload");
        let target = format!("/v1/uploads/{}", begun.upload);
        let piece = |from: usize, until: usize| Bytes::copy_from_slice(&content[from..until]);
        service
            .patch(&target, 0, piece(0, 1_000_000))
            .await
            .unwrap();
        let gap = service.patch(&target, 1_000_001, piece(0, 10)).await;
        assert_eq!(status(&gap.unwrap_err()), 409);
        let over = service
            .patch(&target, 1_000_000, bytes(2_000_001, 0).into())
            .await;
        assert_eq!(status(&over.unwrap_err()), 413);
        let other = cloud.service(here, Some(&served.doctor(2).await));
        let foreign = other.get::<UploadState>(&target).await.unwrap_err();
        assert_eq!(status(&foreign), 404);

        cloud.stop().await;
        let cloud = Cloud::start(&served, folder.path(), hour).await;
        let service = cloud.service(here, Some(&doctor));
        let state: UploadState = service.get(&target).await.unwrap();
        assert_eq!((state.offset, state.receipt.is_none()), (1_000_000, true));
        let answer = service
            .patch(&target, 1_000_000, piece(1_000_000, 3_000_000))
            .await;
        let state: UploadState = serde_json::from_slice(&answer.unwrap()).unwrap();
        let receipt = parties::StorageReceipt::decode(&state.receipt.unwrap().0).unwrap();
        receipt
            .verify(&here, &cloud.key, sha256(&content), new.length)
            .unwrap();
        let kept: UploadState = service.get(&target).await.unwrap();
        assert_eq!(kept, state, "the receipt can be asked for again");
        assert_eq!(
            read(&cloud.client(here, &doctor), receipt.address, 0)
                .await
                .unwrap(),
            content
        );
    });
}

#[test]
fn bytes_that_were_not_announced_are_refused_and_only_doctors_in_force_store() {
    with_nodes(|served| async move {
        let here = served.hospitals.consortium;
        let folder = tempfile::tempdir().unwrap();
        let cloud = Cloud::start(&served, folder.path(), Duration::from_secs(3_600)).await;
        let content = bytes(100_000, 3);
        let store = |key: SigningKey, here: ConsortiumId, digest, length| {
            let client = cloud.client(here, &key);
            let content = content.clone();
            async move {
                let mut source = Cursor::new(&content);
                let stored = client
                    .store(&mut source, digest, length, None, &mut |_| ())
                    .await;
                status(&stored.unwrap_err())
            }
        };
        let doctor = served.doctor(1).await;
        assert_eq!(
            store(doctor.clone(), here, sha256(b"other"), 100_000).await,
            422
        );
        assert_eq!(store(doctor.clone(), here, sha256(b""), 0).await, 413);
        assert_eq!(
            store(doctor.clone(), here, sha256(b""), 65 << 20).await,
            413
        );
        let stranger = SigningKey::from_seed([99; 32]);
        assert_eq!(store(stranger, here, sha256(&content), 100_000).await, 403);
        let elsewhere = ConsortiumId::new([7; 32]);
        assert_eq!(
            store(doctor.clone(), elsewhere, sha256(&content), 100_000).await,
            401
        );
        let unsigned = cloud.service(here, None);
        let new = serde_json::json!({ "length": 1, "digest": "00".repeat(32), "more": 1 });
        let key = IdempotencyKey::random();
        let refused = unsigned
            .post::<UploadState>("/v1/uploads", &new, &key)
            .await;
        assert_eq!(status(&refused.unwrap_err()), 401);
        let signed = cloud.service(here, Some(&doctor));
        let refused = signed.post::<UploadState>("/v1/uploads", &new, &key).await;
        let Err(ClientError::Refused(problem)) = refused else {
            panic!("an unknown field was taken");
        };
        assert_eq!(problem.status(), 400);
        assert!(problem.detail().contains("more"), "{problem:?}");
        // Nothing of it is left in the store, and the cloud is up.
        assert!(stored(&cloud.client(here, &doctor), &content).await.length == 100_000);
    });
}

/// What the cloud's disk lost or altered is not given out; the author's hospital restores exactly it.
#[test]
fn a_lost_or_altered_container_is_named_and_restored() {
    with_nodes(|served| async move {
        let here = served.hospitals.consortium;
        let folder = tempfile::tempdir().unwrap();
        let cloud = Cloud::start(&served, folder.path(), Duration::from_secs(3_600)).await;
        let doctor = served.doctor(1).await;
        let client = cloud.client(here, &doctor);
        let content = bytes(5 << 20, 4);
        let length = content.len() as u64;
        let receipt = stored(&client, &content).await;
        let place = file(folder.path(), receipt.address);

        let hospital = &served.hospitals.hospitals[0];
        let hospital = cloud.client(here, &hospital.key);
        let restore = |content: Vec<u8>| {
            let hospital = hospital.clone();
            async move {
                let digest = sha256(&content);
                let mut source = Cursor::new(content);
                let at = Some(receipt.address);
                hospital
                    .store(&mut source, digest, length, at, &mut |_| ())
                    .await
            }
        };
        // Nothing to restore, nothing to overwrite.
        assert_eq!(status(&restore(content.clone()).await.unwrap_err()), 409);
        assert_eq!(status(&restore(bytes(5 << 20, 5)).await.unwrap_err()), 404);

        let mut altered = content.clone();
        altered[2 << 20] ^= 1;
        std::fs::write(&place, &altered).unwrap();
        let mut pieces = client.read(receipt.address, 0).await.unwrap();
        let mut given = Vec::new();
        let broken = loop {
            match pieces.next().await {
                Some(Ok(piece)) => given.extend_from_slice(&piece),
                other => break other,
            }
        };
        assert!(
            matches!(broken, Some(Err(_))),
            "the stream ends in an error"
        );
        assert!(given.len() <= 2 << 20 && given == content[..given.len()]);
        let from_there = read(&client, receipt.address, 2 << 20).await.unwrap_err();
        assert_eq!(status(&from_there), 422);
        let damages = hospital.damages().await.unwrap().damages;
        assert_eq!((damages.len(), damages[0].lost), (1, false));
        assert_eq!(damages[0].receipt.0.to_vec(), receipt.encode());
        assert_eq!(restore(content.clone()).await.unwrap(), receipt);
        assert_eq!(read(&client, receipt.address, 0).await.unwrap(), content);

        std::fs::write(&place, &content[..1 << 20]).unwrap();
        let cut = read(&client, receipt.address, 2 << 20).await.unwrap_err();
        assert_eq!(status(&cut), 422);
        std::fs::remove_file(&place).unwrap();
        let lost = read(&client, receipt.address, 0).await.unwrap_err();
        assert_eq!(status(&lost), 404);
        assert_eq!(restore(content.clone()).await.unwrap(), receipt);
        assert_eq!(read(&client, receipt.address, 0).await.unwrap(), content);
        let damages = hospital.damages().await.unwrap().damages;
        assert!(damages.iter().all(|damage| damage.restored.is_some()));
        // Another hospital does not hear of it.
        let other = cloud.client(here, &served.hospitals.hospitals[1].key);
        assert!(other.damages().await.unwrap().damages.is_empty());
    });
}

/// What no final record names is collected after the grace period; what one names stays.
#[test]
fn only_an_orphan_is_collected() {
    with_nodes(|served| async move {
        let here = served.hospitals.consortium;
        let folder = tempfile::tempdir().unwrap();
        let cloud = Cloud::start(&served, folder.path(), Duration::from_secs(4)).await;
        let doctor = served.doctor(1).await;
        let client = cloud.client(here, &doctor);
        let (named, orphan) = (bytes(10_000, 6), bytes(10_000, 7));
        let kept = stored(&client, &named).await;
        let lost = stored(&client, &orphan).await;
        served.record_with_digest(1, sha256(&named)).await;
        let place = file(folder.path(), lost.address);
        let collected = tokio::time::timeout(BOUND, async {
            while place.exists() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        collected.await.expect("the orphan is collected");
        let client = cloud.client(here, &doctor);
        assert_eq!(
            status(&read(&client, lost.address, 0).await.unwrap_err()),
            404
        );
        assert_eq!(read(&client, kept.address, 0).await.unwrap(), named);
    });
}
