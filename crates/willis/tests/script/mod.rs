//! `docs/install.md` as a script, and scripts that find the program under test.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const GUIDE: &str = include_str!("../../../../docs/install.md");

/// As a person would: one shell, which ends what it started.
const BEGIN: &str = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n";

/// What stands between ```sh and ```.
pub fn blocks() -> Vec<&'static str> {
    let mut parts = GUIDE.split("\n```sh\n");
    parts.next();
    let blocks = parts.map(|part| part.split("\n```").next().unwrap());
    blocks.collect()
}

/// The guide, and what comes after it.
pub fn guide(more: &str) -> String {
    format!("{}\n{more}", blocks().join("\n"))
}

pub fn willis() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_willis"))
}

/// Runs a script in a folder.
pub fn run(folder: &Path, script: &str) -> Output {
    fs::write(folder.join("script.sh"), format!("{BEGIN}{script}")).unwrap();
    let programs = willis().parent().unwrap().to_str().unwrap();
    let path = std::env::var("PATH").unwrap();
    Command::new("bash")
        .arg("script.sh")
        .current_dir(folder)
        .env("PATH", format!("{programs}:{path}"))
        .output()
        .unwrap()
}

pub fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
