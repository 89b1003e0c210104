//! `willis dev` as a developer runs it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to end.
const BOUND: Duration = Duration::from_secs(60);

/// Of each node's log, shown when a test failed.
const LAST_LINES: usize = 40;

/// A development consortium that runs. If the test fails, it is ended and what its nodes said last is
/// shown: its folder goes with the test.
pub struct Dev {
    process: Child,
    folder: PathBuf,
    /// What it said when all was ready.
    pub ready: serde_json::Value,
}

impl Dev {
    /// Starts one in a folder, with further arguments.
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_by(folder, &[], arguments)
    }

    /// Likewise, by a program that runs what it is given.
    pub fn start_by(folder: &Path, by: &[&str], arguments: &[&str]) -> Self {
        let willis = [env!("CARGO_BIN_EXE_willis")];
        let mut words = by.iter().chain(&willis);
        let mut process = Command::new(words.next().unwrap())
            .args(words)
            .args(["dev", "--json", "--folder", folder.to_str().unwrap()])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        if line.is_empty() {
            let output = process.wait_with_output().unwrap();
            panic!("{}", String::from_utf8_lossy(&output.stderr));
        }
        let ready = serde_json::from_str(&line).unwrap();
        Self {
            process,
            folder: folder.to_owned(),
            ready,
        }
    }

    /// Its services, whichever processes they run as.
    pub fn services(&self) -> Vec<serde_json::Value> {
        let mut services = self.ready["services"].as_array().unwrap().clone();
        for service in &mut services {
            service.as_object_mut().unwrap().remove("pid").unwrap();
        }
        services
    }

    /// One of each role, and a server and a node for each hospital.
    pub fn assert_every_role_runs(&self) {
        let mut roles = BTreeMap::new();
        for service in self.ready["services"].as_array().unwrap() {
            *roles.entry(service["role"].as_str().unwrap()).or_insert(0) += 1;
        }
        let expected = [
            ("centre", 1),
            ("cloud", 1),
            ("hospital", 4),
            ("node", 4),
            ("query", 1),
        ];
        assert_eq!(roles, BTreeMap::from(expected));
    }

    #[allow(clippy::print_stdout, reason = "of a test that failed")]
    fn show_logs(&self) {
        for place in fs::read_dir(&self.folder).into_iter().flatten() {
            let log = place.unwrap().path().join("node.log");
            let said = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
                println!("{}: {line}", log.display());
            }
        }
    }

    /// As Ctrl-C does, by the shell's own `kill`, which every system has. All processes have ended when
    /// it has.
    pub fn stop(self) {
        let status = self.end();
        assert!(status.success(), "{status}");
    }

    /// Likewise, of one that may have ended by itself: how it ended.
    pub fn end(mut self) -> ExitStatus {
        let pid = self.process.id().to_string();
        assert!(
            Command::new("sh")
                .args(["-c", "kill -INT \"$0\"", &pid])
                .status()
                .unwrap()
                .success()
        );
        let end = Instant::now() + BOUND;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Runs a command that must succeed, and gives what it said.
pub fn done(arguments: &[&str]) -> String {
    let output = willis(arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}{complained}");
    said
}

/// Runs a command that must fail, and gives its complaint.
pub fn refused(arguments: &[&str]) -> String {
    let output = willis(arguments);
    assert!(!output.status.success(), "{arguments:?} was done");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command.
pub fn willis(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_willis"))
        .args(arguments)
        .output()
        .unwrap()
}

impl Drop for Dev {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        // Only if a check failed: then its own children end with its pipes.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Every file below a folder, in the order of their paths.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
