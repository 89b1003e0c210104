//! Where services under test keep records and containers: in files, or with `WILLIS_TEST_OUTSIDE` set in a
//! PostgreSQL server and an S3-compatible store that are started once for all tests.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "what the test files of this program share"
)]

#[path = "../../../willis/tests/outside/mod.rs"]
mod outside;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use services::{DatabaseLocation, S3Location, StoreLocation};

use outside::{Postgres, S3, files_below};

// They end with the process.
static POSTGRES: LazyLock<Postgres> = LazyLock::new(Postgres::start);
static S3_STORE: LazyLock<S3> = LazyLock::new(S3::start);

/// Whether this run keeps things outside of files.
pub fn is_outside() -> bool {
    std::env::var_os("WILLIS_TEST_OUTSIDE").is_some()
}

/// Records in this file, or in a database that is this file's alone.
pub fn records(file: &Path) -> DatabaseLocation {
    if is_outside() {
        DatabaseLocation::Postgres(POSTGRES.database(&name(file)))
    } else {
        DatabaseLocation::Sqlite(file.to_owned())
    }
}

/// The files in which the records of [`records`] lie.
pub fn files(file: &Path) -> Vec<PathBuf> {
    if is_outside() {
        return files_below(POSTGRES.folder());
    }
    let log = file.with_extension("sqlite-wal");
    let files = [file.to_owned(), log];
    files.into_iter().filter(|file| file.exists()).collect()
}

/// Containers in this folder, or in a bucket that is this folder's alone; and the folder in which each
/// lies as a file, which is where a test can spoil it.
pub fn containers(folder: &Path) -> (StoreLocation, PathBuf) {
    if !is_outside() {
        return (StoreLocation::Folder(folder.to_owned()), folder.to_owned());
    }
    let bucket = name(folder);
    let files = S3_STORE.make_bucket(&bucket);
    let location = S3Location {
        endpoint: S3_STORE.endpoint(),
        bucket,
        region: "us-east-1".to_owned(),
        access_key_id: S3_STORE.access_key_id().to_owned(),
        secret_access_key: S3_STORE.secret().to_owned(),
    };
    (StoreLocation::S3(location), files)
}

/// A name for what lies in a temporary folder, of characters that databases and buckets take: within the
/// 63 that both allow.
fn name(path: &Path) -> String {
    let folder = path.parent().and_then(Path::file_name).unwrap();
    let name = [folder, path.file_name().unwrap()].map(|one| hex::encode(one.as_encoded_bytes()));
    name.join("-")
}
