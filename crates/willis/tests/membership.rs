//! A fifth hospital joins a consortium under load by commands, leads, gets new node keys, and leaves; every
//! node is started again. No step of the load fails after three more attempts.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod load;
mod nodes;
mod region;
mod signals;

use std::fs;

use dev::{done, refused};
use load::Load;
use nodes::{Nodes, until};
use region::{Node, Region};
use serde_json::Value;
use signals::{processes, signal};

#[test]
fn under_load_a_fifth_hospital_joins_leads_changes_its_key_and_leaves_and_every_node_restarts() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("dev");
    let region = Region::start(&folder, &["--epoch-blocks", "60", "--restart"]);
    assert_eq!(region.institutions(), [1, 2, 3, 4]);
    let load = Load::start(&region.folder.join("founding"), root.path());

    let home = region.home(5);
    let applied = region.applies("Hillside Hospital", root.path());
    let report = root.path().join("audit.pdf");
    fs::write(&report, b"what the auditors found").unwrap();
    let (application, report) = (
        applied.application.to_str().unwrap(),
        report.to_str().unwrap(),
    );
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

    // Nobody waits for its node: it has no seat before it has shown that it runs.
    let fifth_votes = || region.show()["institutions"][4]["votes"] == true;
    let epoch = || region.show()["validator_epoch"].as_u64().unwrap();
    let admitted_in = epoch();
    until("a border", || epoch() > admitted_in + 1);
    assert!(!fifth_votes());
    // It comes with an empty folder, and its configuration names no other node.
    let config = applied.config;
    let fifth = Node::start(&config);
    let nodes = Nodes::of(&region.folder.join("founding"));
    let led = || {
        let status = nodes.status(1).unwrap();
        let led = status["led"].as_array().unwrap();
        let of = |one: &&Value| one["institution"] == 5;
        let found = led.iter().find(of);
        found.map_or(0, |one| one["blocks"].as_u64().unwrap())
    };
    until("the fifth hospital votes", fifth_votes);
    until("the fifth hospital leads", || led() > 0);

    // Its node gets another key and goes on where its folder is.
    let key = || region.show()["institutions"][4]["node_key"].clone();
    let before = key();
    let said = region.member(5, &["succeed"]);
    assert!(said.contains("generation 1"), "{said}");
    assert_ne!(key(), before);
    fifth.kill();
    let fifth = Node::start(&config);
    until("it votes under its next key", fifth_votes);
    // And another one and an empty disk, as after a loss.
    let said = region.member(5, &["succeed"]);
    assert!(said.contains("generation 2"), "{said}");
    fifth.kill();
    fs::remove_dir_all(home.join("data")).unwrap();
    let fifth = Node::start(&config);
    until("it votes after its disk was lost", fifth_votes);
    let so_far = led();
    until("it leads again", || led() > so_far);

    // Every node is started again, one after the other, as in an upgrade.
    for number in [1, 2, 3, 4] {
        let home = region.home(number);
        let [pid] = processes(&home, "node")[..] else {
            panic!("node {number} runs once");
        };
        let height = nodes.highest();
        assert!(signal("-TERM", pid));
        until("a node is there again and has caught up", || {
            processes(&home, "node") != [pid]
                && nodes.height(number).is_some_and(|reached| reached > height)
        });
    }

    let motion = region.puts(2, &["remove", "5"]);
    for member in [1, 3, 4] {
        region.approves(member, &motion);
    }
    assert_eq!(region.institutions(), [1, 2, 3, 4]);
    // Who approved what stays readable, also of who is gone.
    let founding = region.founding();
    let said = done(&["membership", "motions", "--json", "--founding", &founding]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let motions = said["motions"].as_array().unwrap();
    let approved = |place: usize| -> Vec<u64> {
        let approvals = motions[place]["approvals"].as_array().unwrap();
        approvals
            .iter()
            .map(|one| one["institution"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(motions.len(), 2, "{said}");
    assert_eq!(motions[0]["documents"][0]["title"], "audit.pdf");
    assert_eq!(approved(0), [1, 2, 4]);
    assert_eq!(motions[1]["motion"], motion.as_str());
    assert_eq!(approved(1)[..2], [2, 1]);
    assert!(motions.iter().all(|one| one["decided"].is_u64()), "{said}");
    drop(fifth);
    // The others go on without it once the epoch is over.
    let decided_in = epoch();
    until("the chain goes on without it", || epoch() > decided_in + 1);
    let (report, acknowledged) = load.end();
    println!(
        "{} transactions were acknowledged; {report}",
        acknowledged.len()
    );
    assert_eq!(report["ok"], true, "no step failed four times: {report}");
    nodes.all_have(&acknowledged);
    region.dev.stop();
}
