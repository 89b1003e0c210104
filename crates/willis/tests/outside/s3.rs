//! A store that speaks S3: s3s-fs, which keeps each object as a file.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Plan, Program, User};

/// Where `./test` installs it.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/bin/s3s-fs");
const ACCESS_KEY_ID: &str = "willis";
const SECRET: &str = "a secret of nobody";

/// An S3-compatible store that takes calls signed under one access key.
pub struct S3 {
    program: Program,
}

impl S3 {
    /// # Panics
    /// If the store is not installed or does not start.
    pub fn start() -> Self {
        let program = Path::new(PROGRAM);
        assert!(
            program.is_file(),
            "{PROGRAM} does not exist: `./test` installs it"
        );
        let program = Program::start(&Plan {
            program,
            user: User::Own,
            signal: "TERM",
            // Else it does not say that it serves.
            environment: &[("RUST_LOG", "info")],
            prepare: &|folder| {
                fs::create_dir(buckets(folder)).unwrap();
                fs::write(secret_file(folder), SECRET).unwrap();
            },
            arguments: &|folder, port| {
                let port = port.to_string();
                let mut arguments: Vec<_> = [
                    "--host",
                    "127.0.0.1",
                    "--port",
                    &port,
                    "--access-key",
                    ACCESS_KEY_ID,
                    "--secret-key",
                    SECRET,
                ]
                .map(Into::into)
                .into();
                arguments.push(buckets(folder).into());
                arguments
            },
            serves: &|_, said| said.contains("server is running at"),
        });
        Self { program }
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.program.port)
    }

    /// Makes a bucket if there is none of this name; gives the folder in which its objects are files.
    pub fn make_bucket(&self, name: &str) -> PathBuf {
        let bucket = buckets(&self.program.folder).join(name);
        fs::create_dir_all(&bucket).unwrap();
        bucket
    }

    /// The id of the access key.
    pub fn access_key_id(&self) -> &'static str {
        ACCESS_KEY_ID
    }

    /// The access key's secret.
    pub fn secret(&self) -> &'static str {
        SECRET
    }

    /// A file with the secret.
    pub fn secret_file(&self) -> PathBuf {
        secret_file(&self.program.folder)
    }

    /// Where its files lie.
    pub fn folder(&self) -> &Path {
        &self.program.folder
    }
}

fn buckets(folder: &Path) -> PathBuf {
    folder.join("buckets")
}

fn secret_file(folder: &Path) -> PathBuf {
    folder.join("secret")
}
