//! A development consortium and a hospital that joins it, by the commands that operators run.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;

use crate::dev::{Dev, done};

/// Addresses that are free at this moment, below the ports that a system gives to outgoing connections;
/// each process looks for them elsewhere first, and never gives one twice before it has been round.
pub fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let given = GIVEN.fetch_add(N as u16, Ordering::Relaxed) % 200;
    let begin = 10_000 + u16::try_from(std::process::id() % 340).unwrap() * 64 + given;
    let mut free = (begin..32_000)
        .chain(10_000..begin)
        .filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    let held: [TcpListener; N] = std::array::from_fn(|_| free.next().unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

/// A node's process, which is killed when this is dropped.
pub struct Node(Child);

impl Node {
    pub fn start(config: &Path) -> Self {
        let log = fs::File::create(config.with_extension("log")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_willis"))
            .args(["node", "--config", config.to_str().unwrap()])
            .env("WILLIS_LOG", "info")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        Self(process.unwrap())
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a hospital has once it has applied.
pub struct Applied {
    pub application: PathBuf,
    /// Its node's configuration.
    pub config: PathBuf,
}

pub struct Region {
    pub dev: Dev,
    pub folder: PathBuf,
}

impl Region {
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self {
            dev: Dev::start(folder, arguments),
            folder: fs::canonicalize(folder).unwrap(),
        }
    }

    /// The fifth hospital makes its keys on its own machine, and the configuration of its node, which
    /// names no other node; gives the application that members are handed.
    pub fn applies(&self, name: &str, root: &Path) -> Applied {
        let [hospital, node, consensus] = free_addresses();
        let application = root.join("application");
        let home = self.home(5);
        let said = done(&[
            "membership",
            "apply",
            "--founding",
            &self.founding(),
            "--institution",
            "5",
            "--name",
            name,
            "--tier",
            "secondary",
            "--hospital",
            &format!("https://{hospital}"),
            "--node",
            &format!("https://{node}"),
            "--consensus",
            &consensus.to_string(),
            "--folder",
            home.to_str().unwrap(),
            "--out",
            application.to_str().unwrap(),
        ]);
        assert!(said.contains("membership put admit"), "{said}");
        let config = home.join("node.toml");
        let text = format!(
            "founding = \"../founding\"\ninstitution = 5\nkey = \"node.key\"\nfolder = \"data\"\nlisten = \"{consensus}\"\nserve = \"{node}\"\n[tls]\ncertificate = \"tls.pem\"\nkey = \"tls.key\"\n"
        );
        fs::write(&config, text).unwrap();
        Applied {
            application,
            config,
        }
    }

    pub fn founding(&self) -> String {
        self.folder.join("founding").to_str().unwrap().to_owned()
    }

    pub fn home(&self, institution: u32) -> PathBuf {
        self.folder.join(format!("hospital-{institution}"))
    }

    /// `willis membership` with what a member's command needs.
    pub fn member(&self, institution: u32, arguments: &[&str]) -> String {
        let (founding, home) = (self.founding(), self.home(institution));
        let mut words = vec!["membership"];
        words.extend(arguments);
        words.extend(["--founding", &founding, "--folder", home.to_str().unwrap()]);
        done(&words)
    }

    pub fn show(&self) -> Value {
        let founding = self.founding();
        let said = done(&["membership", "show", "--json", "--founding", &founding]);
        serde_json::from_str(&said).unwrap()
    }

    /// A member puts a motion: its name.
    pub fn puts(&self, member: u32, change: &[&str]) -> String {
        let said = self.member(member, &[&["put"], change].concat());
        let name = said.split_whitespace().nth(1).unwrap();
        assert_eq!(name.len(), 64, "{said}");
        name.to_owned()
    }

    pub fn approves(&self, member: u32, motion: &str) -> String {
        self.member(member, &["approve", motion, "--yes"])
    }

    pub fn institutions(&self) -> Vec<u64> {
        let shown = self.show();
        let all = shown["institutions"].as_array().unwrap();
        all.iter()
            .map(|one| one["institution"].as_u64().unwrap())
            .collect()
    }
}
