//! `willis demo` as a person runs it: real processes, real sockets, real files.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_willis"))
        .arg("demo")
        .args(arguments)
        .output()
        .unwrap()
}

fn summary(output: &Output) -> serde_json::Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(
        text.lines().count(),
        1,
        "one object and nothing else: {text}"
    );
    serde_json::from_str(&text).unwrap()
}

fn assert_whole(summary: &serde_json::Value) {
    assert_eq!(summary["ok"], true, "{summary}");
    let steps = summary["steps"].as_array().unwrap();
    let numbers: Vec<u64> = steps
        .iter()
        .map(|step| step["step"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=11).collect::<Vec<_>>());
    for step in steps {
        assert_eq!(step["ok"], true, "{step}");
        assert!(step["bytes"].as_u64().unwrap() > 0, "{step}");
        assert!(step["ms"].is_u64() && step["name"].is_string());
    }
    let refused = summary["refused"].as_array().unwrap();
    for (attack, reason) in [
        ("ungranted", "does not grant that section class"),
        ("tamper", "not the one that its author stored"),
        ("forged", "the signature of the doctor does not stand"),
        ("revoked", "the patient revoked this grant"),
        ("expired", "has expired"),
    ] {
        assert!(
            refused.iter().any(|one| {
                one["attack"].as_str().unwrap().contains(attack)
                    && one["reason"].as_str().unwrap().contains(reason)
            }),
            "{attack} was not refused because it {reason}: {refused:?}"
        );
    }
    let led = summary["led"].as_array().unwrap();
    assert_eq!(led.len(), 4);
    for one in led {
        assert_eq!(one["tier"] == "community", one["blocks"] == 0, "{one}");
    }
}

#[test]
fn the_demo_plays_the_samples_and_everything_holds() {
    let output = demo(&["--json"]);
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_whole(&summary(&output));
}

#[test]
fn the_demo_plays_any_files() {
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("letter.txt");
    let two = folder.path().join("scan.bin");
    fs::write(&one, "a letter in plain words").unwrap();
    fs::write(
        &two,
        (0..3_000_000u32).map(|i| (i * 7) as u8).collect::<Vec<_>>(),
    )
    .unwrap();
    // A DICOM file of nothing but its beginning has no keyword of its own.
    let bare = folder.path().join("bare.dcm");
    let mut bytes = vec![0; 128];
    bytes.extend_from_slice(b"DICM");
    fs::write(&bare, bytes).unwrap();
    for second in [&two, &bare] {
        let files = [one.to_str().unwrap(), second.to_str().unwrap()];
        let output = demo(&["--json", "--record", files[0], "--record", files[1]]);
        let said = String::from_utf8_lossy(&output.stderr);
        let summary_text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{second:?}: {said}{summary_text}");
        assert_whole(&summary(&output));
    }
}

/// A demo whose temporary folder is in `folder`, once its nodes listen; and where they listen.
fn begun(folder: &Path) -> (Child, Vec<SocketAddr>) {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_willis"))
        .arg("demo")
        .env("TMPDIR", folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < end, "the nodes do not listen");
        assert!(demo.try_wait().unwrap().is_none(), "the demo ended");
        let addresses = addresses(folder);
        if addresses.len() == 4
            && addresses
                .iter()
                .all(|node| TcpStream::connect(node).is_ok())
        {
            return (demo, addresses);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The users' addresses in the configurations below a demo's folder.
fn addresses(folder: &Path) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for demo in fs::read_dir(folder).unwrap().flatten() {
        for hospital in 1..=4 {
            let config = demo.path().join(format!("hospital-{hospital}/node.toml"));
            let text = fs::read_to_string(config).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("serve = "));
            found.extend(line.and_then(|line| line.trim_matches('"').parse::<SocketAddr>().ok()));
        }
    }
    found
}

fn stops_listening(addresses: &[SocketAddr]) -> bool {
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        if addresses
            .iter()
            .all(|node| TcpStream::connect(node).is_err())
        {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

#[test]
fn an_interrupted_demo_leaves_no_process_and_no_file() {
    for signal in ["-INT", "-TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let (demo, addresses) = begun(folder.path());
        let sent = Command::new("kill")
            .args([signal, &demo.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        let output = demo.wait_with_output().unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("interrupted"), "{said}");
        assert!(stops_listening(&addresses), "a node outlived the demo");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn nodes_do_not_outlive_a_demo_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut demo, addresses) = begun(folder.path());
    demo.kill().unwrap();
    demo.wait().unwrap();
    assert!(stops_listening(&addresses), "a node outlived the demo");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = demo(&["--json", "--record", "no-such-file.json"]);
    assert!(!output.status.success());
    assert_eq!(summary(&output)["ok"], false);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("no-such-file.json") && said.contains("check the path"),
        "{said}"
    );
}

#[test]
fn a_node_without_a_usable_configuration_says_what_to_mend() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("node.toml");
    let run = || {
        let output = Command::new(env!("CARGO_BIN_EXE_willis"))
            .arg("node")
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run().contains("cannot be read"));
    fs::write(&config, "institution = 1\nunknown = 2\n").unwrap();
    let said = run();
    assert!(said.contains("no configuration of a node"), "{said}");
}
