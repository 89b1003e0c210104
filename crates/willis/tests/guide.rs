//! The operator's guide, followed to the letter: every block of `docs/install.md` that a shell runs, in an
//! empty folder, from keys to a referral. Then what the package brings beside the binary.
#![allow(clippy::unwrap_used, reason = "a test")]

mod script;

use std::fs;
use std::path::Path;
use std::process::Command;

use script::{blocks, said, willis};

#[test]
fn the_guide_leads_from_bare_machines_to_a_referral() {
    let blocks = blocks();
    assert!(blocks.len() >= 12, "the guide has its blocks");
    let root = tempfile::tempdir().unwrap();
    let output = script::run(root.path(), &script::guide(""));
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Thrombolysis at 10:42"), "{said}");
    assert!(said.contains("Hill Clinic"), "{said}");
    // No private key left its machine.
    let machines = ["machine-a", "machine-b", "machine-c"];
    for machine in machines {
        for key in ["hospital/node.key", "hospital/institution.key"] {
            let key = fs::read_to_string(root.path().join(machine).join(key)).unwrap();
            let others = machines.iter().filter(|other| **other != machine);
            let found = Command::new("grep")
                .args(["-rlF", key.trim()])
                .args(others)
                .current_dir(root.path())
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&found.stdout), "");
        }
    }
}

/// Every command has a page that a formatter takes without a warning, and shells take the completions.
#[test]
fn pages_and_completions_are_whole() {
    let root = tempfile::tempdir().unwrap();
    let pages = root.path().join("man");
    let made = Command::new(willis())
        .args(["manual", "--out", pages.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
    for command in ["willis", "willis-node", "willis-membership-put-admit"] {
        let page = fs::read_to_string(pages.join(format!("{command}.1"))).unwrap();
        assert!(
            page.contains(".SH SYNOPSIS") && page.contains(".SH OPTIONS"),
            "{command}"
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(willis())
            .args(["completions", shell])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("membership"), "{shell}");
        if shell == "bash" {
            let file = root.path().join("willis.bash");
            fs::write(&file, text).unwrap();
            let taken = Command::new("bash").arg("-n").arg(&file).output().unwrap();
            assert!(taken.status.success(), "{}", said(&taken));
        }
    }
}

/// The example configurations name only fields that there are, and each role's are whole: what is refused
/// of them is that the files of this machine are not there.
#[test]
fn the_packages_examples_are_configurations() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
    for role in ["node", "hospital", "gateway", "centre", "query", "cloud"] {
        let file = examples.join(format!("{role}.toml"));
        let checked = Command::new(willis())
            .args([role, "--config", file.to_str().unwrap(), "--check"])
            .output()
            .unwrap();
        let said = said(&checked);
        assert!(!checked.status.success(), "{role}");
        assert!(said.contains("/etc/willis/founding"), "{role}: {said}");
        assert!(
            said.contains("founding = \"/etc/willis/founding\""),
            "{role}: {said}"
        );
    }
}
