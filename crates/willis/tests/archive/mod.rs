//! What a release left on the disk, from its archive in `tests/kept`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Its folders, in a temporary one.
pub fn unpack(archive: &Path) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let tar = tempfile::NamedTempFile::new().unwrap();
    let packed = fs::File::open(archive).unwrap();
    zstd::stream::copy_decode(packed, tar.as_file()).unwrap();
    run(Command::new("tar")
        .args(["--no-same-owner", "-xf"])
        .arg(tar.path())
        .arg("-C")
        .arg(root.path()));
    root
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complained}");
}
