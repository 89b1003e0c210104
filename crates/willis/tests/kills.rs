//! A consortium under load whose nodes are killed at random moments, the leader among them, and then lose
//! their quorum for a while: what f + 1 hospitals acknowledged is on every node afterwards.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod load;
mod nodes;
mod signals;

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use load::Load;
use nodes::{HOSPITALS, Nodes, until};
use serde_json::Value;
use signals::{Away, processes, signal};

const KILLS: u64 = 20;

/// Moments of a seed (SplitMix64), so that a run can be told apart from another. Which moment of the
/// consortium they meet no seed decides.
struct Moments(u64);

impl Moments {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// `WILLIS_KILLS=200` kills so often, `WILLIS_SEED` names the moments.
#[test]
fn what_was_acknowledged_is_on_every_node_after_kills_and_a_lost_quorum() {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let kills = number("WILLIS_KILLS").unwrap_or(KILLS);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("WILLIS_SEED").unwrap_or(now);
    println!("seed {seed}");
    let mut moments = Moments(seed);
    let root = tempfile::tempdir().unwrap();
    let dev = dev::Dev::start(&root.path().join("dev"), &["--restart"]);
    let folder = fs::canonicalize(root.path().join("dev")).unwrap();
    let home = |number: u32| folder.join(format!("hospital-{number}"));
    let nodes = Nodes::of(&folder.join("founding"));
    let load = Load::start(&folder.join("founding"), root.path());
    until("the load begins", || load.acknowledged().len() > 4);

    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(moments.below(1_500)));
        // Every second time who leads next.
        let victim = match kill % 2 {
            0 => nodes.leader(),
            _ => HOSPITALS[moments.below(4) as usize],
        };
        let before = nodes.highest();
        let [pid] = processes(&home(victim), "node")[..] else {
            panic!("node {victim} runs once");
        };
        assert!(signal("-KILL", pid));
        until("a killed node is there again and has caught up", || {
            processes(&home(victim), "node") != [pid]
                && nodes.height(victim).is_some_and(|height| height > before)
        });
    }

    // Two of four hang: nothing more is final.
    let begun = load.acknowledged().len();
    let gone = [2, 4].map(|number| processes(&home(number), "node")[0]);
    let away = Away::new(gone.to_vec());
    // What was on its way when they stopped comes to an end, and who was behind fetches what is there.
    let heights = || [1, 3].map(|number| nodes.height(number).unwrap());
    let mut level = (heights(), Instant::now());
    until("two of four come to nothing more", || {
        let now = heights();
        if now[0] != now[1] || now != level.0 {
            level = (now, Instant::now());
        }
        level.1.elapsed() > Duration::from_secs(3)
    });
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(heights(), level.0, "two of four agreed on something");
    let later = level.0[0];
    away.comes_back();
    until("the chain goes on", || nodes.highest() > later + 2);
    until("the load goes on", || load.acknowledged().len() > begun + 4);

    let (report, ids) = load.end();
    println!("{} transactions were acknowledged; {report}", ids.len());
    assert_eq!(report["ok"], true, "no step failed four times: {report}");
    assert!(ids.len() > 20, "{report}");

    nodes.all_have(&ids);
    for number in HOSPITALS {
        let status = nodes.status(number).unwrap();
        assert_eq!(status["failure"], Value::Null);
        assert_eq!(status["evidence"], 0, "a node that was killed voted twice");
    }
    until("all say the same state root of the same height", || {
        let said = HOSPITALS.map(|number| {
            let status = nodes.status(number)?;
            Some((status["height"].clone(), status["state_root"].clone()))
        });
        said[0].is_some() && said.iter().all(|one| *one == said[0])
    });
    dev.stop();
}
