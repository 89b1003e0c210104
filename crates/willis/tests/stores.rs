//! The same consortium with its records in SQLite and in PostgreSQL, its containers in a folder and in an
//! S3-compatible store.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod outside;

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use client::{CloudClient, Founding, ServiceClient, ServiceName};
use dev::Dev;
use futures::TryStreamExt;
use outside::{Postgres, S3, Stores, files_below};
use parties::StorageReceipt;
use scheme::{Address, SigningKey, sha256};

/// A container longer than the first part of an upload to S3.
fn container() -> Vec<u8> {
    (0..6_000_000u32).map(|i| (i % 251) as u8).collect()
}

/// The cloud of a consortium in this folder, as the first hospital calls it.
fn cloud(folder: &Path) -> CloudClient {
    let founding = Founding::open(&folder.join("founding")).unwrap();
    let endpoint = founding.directory.endpoint(ServiceName::Cloud, None);
    let key = fs::read_to_string(folder.join("hospital-1/institution.key")).unwrap();
    let mut seed = [0; 32];
    hex::decode_to_slice(key.trim(), &mut seed).unwrap();
    let client = ServiceClient::new(founding.consortium(), endpoint.unwrap());
    CloudClient::new(client.signing(SigningKey::from_seed(seed)))
}

async fn store(cloud: &CloudClient, content: &[u8]) -> StorageReceipt {
    let (digest, length) = (sha256(content), content.len() as u64);
    cloud
        .store(&mut Cursor::new(content), digest, length, None, &mut |_| ())
        .await
        .unwrap()
}

async fn read(cloud: &CloudClient, address: Address) -> Vec<u8> {
    let pieces = cloud.read(address, 0).await.unwrap();
    pieces.try_collect::<Vec<_>>().await.unwrap().concat()
}

/// Starts a consortium twice: what was stored the first time is there the second time. Gives its folder
/// and where the container lies.
fn found_again(arguments: &[&str]) -> (tempfile::TempDir, String) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("dev");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dev = Dev::start(&folder, arguments);
    dev.assert_every_role_runs();
    let receipt = runtime.block_on(store(&cloud(&folder), &container()));
    let (first, services) = (dev.ready.clone(), dev.services());
    dev.stop();
    let dev = Dev::start(&folder, &[]);
    assert_eq!(dev.ready["consortium"], first["consortium"]);
    assert_eq!(dev.services(), services);
    let again = runtime.block_on(read(&cloud(&folder), receipt.address));
    assert!(again == container(), "{} bytes", again.len());
    dev.stop();
    (root, hex::encode(receipt.address.as_bytes()))
}

/// Whether any of the files is named so.
fn names(files: &[PathBuf], name: &str) -> bool {
    files.iter().any(|file| file.ends_with(name))
}

#[test]
fn a_consortium_in_postgresql_and_s3_is_found_again() {
    let stores = Stores::start();
    let arguments = stores.arguments();
    let (root, container) = found_again(&arguments.split(' ').collect::<Vec<_>>());
    let bucket = &stores.bucket;
    assert!(names(&files_below(bucket), &container));
    let here = files_below(root.path());
    assert!(!names(&here, "records.sqlite") && !names(&here, &container));
}

#[test]
fn a_consortium_in_sqlite_and_a_folder_is_found_again() {
    let (root, container) = found_again(&[]);
    let here = files_below(root.path());
    assert!(names(&here, "records.sqlite") && names(&here, &container));
}

/// Programs that tests start end with them, and leave nothing.
#[test]
fn what_a_test_starts_ends_with_it() {
    let postgres = Postgres::start();
    let s3 = S3::start();
    let address = |url: String| url.rsplit(['/', '@']).next().unwrap().to_owned();
    let addresses = [address(postgres.url()), address(s3.endpoint())];
    let folders = [postgres.folder().to_owned(), s3.folder().to_owned()];
    let connects = |address: &String| std::net::TcpStream::connect(address).is_ok();
    assert!(addresses.iter().all(connects));
    assert!(folders.iter().all(|folder| folder.exists()));
    drop((postgres, s3));
    assert!(!addresses.iter().any(connects));
    assert!(!folders.iter().any(|folder| folder.exists()));
}
