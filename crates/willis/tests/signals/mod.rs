//! Signals to processes that a test started.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

use std::path::Path;
use std::process::Command;

/// Processes of a role that have this folder in their arguments.
pub fn processes(folder: &Path, role: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.split('\0');
        let runs = words.any(|word| word == role);
        if runs && line.contains(folder.to_str().unwrap()) {
            found.push(pid);
        }
    }
    found
}

/// Sends a signal, by the shell, since not every system has a program for it; says whether there was such
/// a process.
pub fn signal(name: &str, pid: u32) -> bool {
    let line = format!("kill {name} {pid}");
    let sent = Command::new("sh").args(["-c", &line]).status();
    sent.unwrap().success()
}

/// Processes that hang until this is dropped.
pub struct Away(Vec<u32>);

impl Away {
    pub fn new(pids: Vec<u32>) -> Self {
        assert!(!pids.is_empty(), "no such process");
        for pid in &pids {
            assert!(signal("-STOP", *pid), "no process {pid}");
        }
        Self(pids)
    }

    pub fn comes_back(self) {}
}

impl Drop for Away {
    fn drop(&mut self) {
        // A process that has ended meanwhile needs no waking.
        for pid in &self.0 {
            signal("-CONT", *pid);
        }
    }
}
