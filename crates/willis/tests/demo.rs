//! `willis demo` as a person runs it: real processes, real sockets, real files.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::process::{Command, Output};

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
    let refused: Vec<&str> = summary["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["attack"].as_str().unwrap())
        .collect();
    for expected in ["ungranted", "tamper", "forged", "revoked", "expired"] {
        assert!(
            refused.iter().any(|attack| attack.contains(expected)),
            "{expected} is not among {refused:?}"
        );
    }
    assert!(
        summary["refused"]
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["reason"].as_str().unwrap().len() > 10)
    );
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
        "{}",
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
    let output = demo(&[
        "--json",
        "--record",
        one.to_str().unwrap(),
        "--record",
        two.to_str().unwrap(),
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_whole(&summary(&output));
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
