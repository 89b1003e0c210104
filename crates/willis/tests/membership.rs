//! A fifth hospital joins a running consortium by commands, votes in place of one that is away, gets a new
//! node key, and leaves.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dev::{Dev, done, refused};
use serde_json::Value;

/// Within which the chain has to come to something.
const BOUND: Duration = Duration::from_secs(120);

fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let held: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

/// A node's process, which is killed when this is dropped.
struct Node(Child);

impl Node {
    fn start(config: &Path) -> Self {
        let log = fs::File::create(config.with_extension("log")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_willis"))
            .args(["node", "--config", config.to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        Self(process.unwrap())
    }

    fn kill(mut self) {
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

struct Region {
    dev: Dev,
    folder: PathBuf,
}

impl Region {
    fn founding(&self) -> String {
        self.folder.join("founding").to_str().unwrap().to_owned()
    }

    fn home(&self, institution: u32) -> PathBuf {
        self.folder.join(format!("hospital-{institution}"))
    }

    /// `willis membership` with what a member's command needs.
    fn member(&self, institution: u32, arguments: &[&str]) -> String {
        let (founding, home) = (self.founding(), self.home(institution));
        let mut words = vec!["membership"];
        words.extend(arguments);
        words.extend(["--founding", &founding, "--folder", home.to_str().unwrap()]);
        done(&words)
    }

    fn show(&self) -> Value {
        let founding = self.founding();
        let said = done(&["membership", "show", "--json", "--founding", &founding]);
        serde_json::from_str(&said).unwrap()
    }

    /// A member puts a motion: its name.
    fn puts(&self, member: u32, change: &[&str]) -> String {
        let said = self.member(member, &[&["put"], change].concat());
        let name = said.split_whitespace().nth(1).unwrap();
        assert_eq!(name.len(), 64, "{said}");
        name.to_owned()
    }

    fn approves(&self, member: u32, motion: &str) -> String {
        self.member(member, &["approve", motion, "--yes"])
    }

    fn institutions(&self) -> Vec<u64> {
        let shown = self.show();
        let all = shown["institutions"].as_array().unwrap();
        all.iter()
            .map(|one| one["institution"].as_u64().unwrap())
            .collect()
    }
}

/// A process that hangs until this is dropped.
struct Away(u64);

impl Away {
    fn new(pid: u64) -> Self {
        assert!(signal("-STOP", pid), "no process {pid}");
        Self(pid)
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}

/// By the shell, since not every system has a program for it.
fn signal(name: &str, pid: u64) -> bool {
    let line = format!("kill {name} {pid}");
    Command::new("sh")
        .args(["-c", &line])
        .status()
        .unwrap()
        .success()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn a_fifth_hospital_joins_votes_changes_its_key_and_leaves() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("dev");
    let region = Region {
        dev: Dev::start(&folder, &["--epoch-blocks", "12"]),
        folder,
    };
    assert_eq!(region.institutions(), [1, 2, 3, 4]);

    // The newcomer makes its keys on its own machine and applies.
    let [hospital, node, consensus] = free_addresses();
    let application = root.path().join("application");
    let home = region.home(5);
    let said = done(&[
        "membership",
        "apply",
        "--founding",
        &region.founding(),
        "--institution",
        "5",
        "--name",
        "Hillside Hospital",
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
    let report = root.path().join("audit.pdf");
    fs::write(&report, b"what the auditors found").unwrap();
    let (application, report) = (application.to_str().unwrap(), report.to_str().unwrap());
    let motion = region.puts(1, &["admit", application, "--document", report]);
    let shown = region.show();
    let put = &shown["motions"][0];
    assert_eq!(put["motion"], motion.as_str());
    assert!(
        put["change"]
            .as_str()
            .unwrap()
            .contains("Hillside Hospital")
    );
    assert_eq!(put["documents"][0]["title"], "audit.pdf");
    assert_eq!(put["approved_by"], serde_json::json!([1]));
    assert_eq!(put["needed"], 3);
    let more = region.approves(2, &motion[..16]);
    assert!(more.contains("More members"), "{more}");
    let decided = region.approves(4, &motion);
    assert!(decided.contains("decided"), "{decided}");
    assert_eq!(region.institutions(), [1, 2, 3, 4, 5]);
    // There is nothing left to approve.
    let founding = region.founding();
    let nothing = refused(&[
        "membership",
        "approve",
        &motion,
        "--yes",
        "--founding",
        &founding,
        "--folder",
        region.home(3).to_str().unwrap(),
    ]);
    assert!(nothing.contains("0 motions"), "{nothing}");

    // Its node comes with an empty folder, and its configuration names no other node.
    let config = home.join("node.toml");
    let text = format!(
        "founding = \"../founding\"\ninstitution = 5\nkey = \"node.key\"\nfolder = \"data\"\nlisten = \"{consensus}\"\nserve = \"{node}\"\n[tls]\ncertificate = \"tls.pem\"\nkey = \"tls.key\"\n"
    );
    fs::write(&config, text).unwrap();
    let fifth = Node::start(&config);

    // Of five nodes four agree: with one founder away the chain goes on only if the newcomer votes.
    let services = region.dev.ready["services"].as_array().unwrap().clone();
    let of = |institution: u32| {
        let log = format!("hospital-{institution}/node.log");
        let found = services
            .iter()
            .find(|service| service["log"].as_str().unwrap().ends_with(&log));
        found.unwrap_or_else(|| panic!("{services:?}"))["pid"]
            .as_u64()
            .unwrap()
    };
    let away = Away::new(of(2));
    let motion = region.puts(1, &["tier", "4", "secondary"]);
    drop(away);
    for member in [3, 4, 5] {
        region.approves(member, &motion);
    }
    assert_eq!(region.show()["institutions"][3]["tier"], "secondary");

    // Its node gets another key and an empty disk, as after a loss.
    let before = region.show()["institutions"][4]["node_key"].clone();
    let said = region.member(5, &["succeed"]);
    assert!(said.contains("generation 1"), "{said}");
    fifth.kill();
    fs::remove_dir_all(home.join("data")).unwrap();
    let fifth = Node::start(&config);
    assert_ne!(region.show()["institutions"][4]["node_key"], before);
    // The new key votes from the next validator epoch on: until then four of the others are needed.
    let epoch = |region: &Region| region.show()["validator_epoch"].as_u64().unwrap();
    let said_in = epoch(&region);
    until("the next validator epoch", || epoch(&region) > said_in);
    let away = Away::new(of(3));
    region.puts(1, &["tier", "4", "community"]);
    drop(away);

    let motion = region.puts(2, &["remove", "5"]);
    for member in [1, 3, 4] {
        region.approves(member, &motion);
    }
    assert_eq!(region.institutions(), [1, 2, 3, 4]);
    drop(fifth);
    // The others go on without it once the epoch is over.
    until("the chain goes on without it", || {
        let home = region.home(1);
        let said = dev::willis(&[
            "membership",
            "put",
            "tier",
            "4",
            "tertiary",
            "--founding",
            &founding,
            "--folder",
            home.to_str().unwrap(),
        ]);
        said.status.success()
    });
    region.dev.stop();
}
