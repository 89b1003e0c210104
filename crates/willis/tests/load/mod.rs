//! `willis load` beside a test.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::signals::signal;

/// `willis load`, which is ended as by Ctrl-C.
pub struct Load {
    process: Child,
    acknowledged: PathBuf,
}

impl Load {
    /// Starts one that goes on until it is ended: each step is tried again up to three times.
    pub fn start(founding: &Path, root: &Path) -> Self {
        let acknowledged = root.join("acknowledged");
        let process = Command::new(env!("CARGO_BIN_EXE_willis"))
            .args([
                "load",
                "--json",
                "--referrals",
                "100000",
                "--seconds",
                "900",
            ])
            .args(["--record-bytes", "4096", "--retries", "3", "--founding"])
            .arg(founding)
            .arg("--acknowledged")
            .arg(&acknowledged)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            process,
            acknowledged,
        }
    }

    /// The ids of what was acknowledged so far.
    pub fn acknowledged(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.acknowledged).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Its report, and the ids of what was acknowledged.
    pub fn end(mut self) -> (Value, Vec<String>) {
        assert!(signal("-INT", self.process.id()));
        let mut said = String::new();
        let out = self.process.stdout.as_mut().unwrap();
        out.read_to_string(&mut said).unwrap();
        self.process.wait().unwrap();
        let report = serde_json::from_str(&said).unwrap();
        let text = fs::read_to_string(&self.acknowledged).unwrap();
        (report, text.lines().map(str::to_owned).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Only if a check failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
