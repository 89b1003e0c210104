//! A fifth hospital's node begins with the state that others signed, votes, fills the blocks before in, and
//! holds the whole chain then, which is executed again from the founding on.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod nodes;
mod region;
mod signals;

use std::fs;

use dev::{done, refused};
use nodes::{Nodes, until};
use region::{Node, Region};

/// Every eighth validator epoch ends with a snapshot.
const FIRST: u64 = 8 * 10 - 1;

#[test]
fn a_newcomer_begins_with_a_snapshot_and_fills_the_chain_in() {
    let root = tempfile::tempdir().unwrap();
    let region = Region::start(&root.path().join("dev"), &["--epoch-blocks", "10"]);
    let nodes = Nodes::of(&region.folder.join("founding"));
    let applied = region.applies("Hillside Hospital", root.path());
    let motion = region.puts(1, &["admit", applied.application.to_str().unwrap()]);
    for member in [2, 3] {
        region.approves(member, &motion);
    }
    let config = applied.config.to_str().unwrap();
    let fetch = ["node", "fetch-snapshot", "--config", config];
    // Nothing is left behind where none is yet.
    if nodes.highest() < FIRST {
        let said = refused(&fetch);
        assert!(said.contains("no f + 1 nodes"), "{said}");
        assert!(!region.home(5).join("data").exists());
    }
    until("the chain is so long", || nodes.highest() > FIRST + 5);
    let said = done(&fetch);
    assert!(said.contains(&format!("after block {FIRST}")), "{said}");
    // Offline nobody can say yet whether it is the founders' chain.
    let data = region.home(5).join("data");
    let founding = region.founding();
    let verify = [
        "node",
        "verify",
        "--founding",
        &founding,
        "--folder",
        data.to_str().unwrap(),
    ];
    let said = refused(&verify);
    assert!(said.contains("fills them in"), "{said}");
    // A folder that has something is not touched.
    let said = refused(&fetch);
    assert!(said.contains("not empty"), "{said}");

    let fifth = Node::start(&applied.config);
    until("the fifth hospital votes", || {
        region.show()["institutions"][4]["votes"] == true
    });
    let log = || fs::read_to_string(applied.config.with_extension("log")).unwrap();
    until("the blocks before are there", || {
        log().contains("no block is missing")
    });
    fifth.kill();
    let said = done(&verify);
    println!("{said}");
    assert!(said.contains("holds"), "{said}");
    // What another release laid out is not judged by this one.
    fs::write(data.join("layout"), "willis node, layout 9\n").unwrap();
    let said = refused(&verify);
    assert!(said.contains("another release"), "{said}");
    region.dev.stop();
}
