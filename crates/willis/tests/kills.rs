//! A consortium under load whose nodes are killed at random moments, the leader among them, and then lose
//! their quorum for a while: what f + 1 hospitals acknowledged is on every node afterwards.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod load;
mod moments;
mod nodes;
mod signals;
mod totals;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use load::Load;
use moments::Moments;
use nodes::{Nodes, until};
use serde_json::Value;
use signals::{Away, processes, signal};

const KILLS: u64 = 20;

/// `WILLIS_KILLS=200` kills so often, `WILLIS_HOSPITALS=7` of so many hospitals, `WILLIS_SEED` names the
/// moments, and `WILLIS_TOTALS=FILE` adds what was survived to the campaign's totals.
#[test]
fn what_was_acknowledged_is_on_every_node_after_kills_and_a_lost_quorum() {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let kills = number("WILLIS_KILLS").unwrap_or(KILLS);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("WILLIS_SEED").unwrap_or(now);
    println!("seed {seed}");
    // Which moment of the consortium they meet no seed decides.
    let mut moments = Moments(seed);
    let root = tempfile::tempdir().unwrap();
    let hospitals = number("WILLIS_HOSPITALS").unwrap_or(4).to_string();
    let arguments = ["--restart", "--hospitals", hospitals.as_str()];
    let dev = dev::Dev::start(&root.path().join("dev"), &arguments);
    let folder = fs::canonicalize(root.path().join("dev")).unwrap();
    let home = |number: u32| folder.join(format!("hospital-{number}"));
    let nodes = Nodes::of(&folder.join("founding"));
    let numbers = nodes.numbers();
    let any = |moments: &mut Moments| numbers[moments.below(numbers.len() as u64) as usize];
    let load = Load::start(&folder.join("founding"), root.path());
    until("the load begins", || load.acknowledged().len() > 4);

    let mut leaders = 0;
    let mut hung = 0;
    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(moments.below(1_500)));
        // Every fourth time somebody hangs for a while, longer than a leader may take at times.
        if kill % 4 == 3 {
            let slow = any(&mut moments);
            let away = Away::new(processes(&home(slow), "node"));
            std::thread::sleep(Duration::from_millis(500 + moments.below(4_000)));
            away.comes_back();
            hung += 1;
        }
        // Every second time who leads next.
        let victim = match kill % 2 {
            0 => {
                leaders += 1;
                nodes.leader()
            }
            _ => any(&mut moments),
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

    // One more than f hang, every second one first: nothing more is final.
    let begun = load.acknowledged().len();
    let faults = (numbers.len() - 1) / 3;
    let (even, odd): (Vec<u32>, Vec<u32>) = numbers.iter().partition(|number| *number % 2 == 0);
    let (hanging, left): (Vec<_>, Vec<_>) = even
        .into_iter()
        .chain(odd)
        .enumerate()
        .partition(|(place, _)| *place <= faults);
    let gone = hanging
        .iter()
        .map(|(_, number)| processes(&home(*number), "node")[0]);
    let away = Away::new(gone.collect());
    // What was on its way when they stopped comes to an end, and who was behind fetches what is there.
    let heights = || -> Vec<u64> {
        let left = left.iter();
        left.map(|(_, number)| nodes.height(*number).unwrap())
            .collect()
    };
    let mut level = (heights(), Instant::now());
    until("fewer than n - f come to nothing more", || {
        let now = heights();
        if now.iter().any(|one| *one != now[0]) || now != level.0 {
            level = (now, Instant::now());
        }
        level.1.elapsed() > Duration::from_secs(3)
    });
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(heights(), level.0, "fewer than n - f agreed on something");
    let later = level.0[0];
    away.comes_back();
    until("the chain goes on", || nodes.highest() > later + 2);
    until("the load goes on", || load.acknowledged().len() > begun + 4);

    let (report, ids) = load.end();
    println!("{} transactions were acknowledged; {report}", ids.len());
    assert_eq!(report["ok"], true, "no step failed four times: {report}");
    assert!(ids.len() > 20, "{report}");

    nodes.all_have(&ids);
    for number in &numbers {
        let status = nodes.status(*number).unwrap();
        assert_eq!(status["failure"], Value::Null);
        assert_eq!(status["evidence"], 0, "a node that was killed voted twice");
    }
    until("all say the same state root of the same height", || {
        let said = numbers.iter().map(|number| {
            let status = nodes.status(*number)?;
            Some((status["height"].clone(), status["state_root"].clone()))
        });
        let said: Vec<_> = said.collect();
        said[0].is_some() && said.iter().all(|one| *one == said[0])
    });
    dev.stop();
    if let Some(file) = std::env::var_os("WILLIS_TOTALS") {
        let counts = [
            ("runs", 1),
            ("kills", kills),
            ("kills of who led next", leaders),
            ("nodes that hung", hung),
            ("lost quorums", 1),
            ("acknowledged", ids.len() as u64),
        ];
        let of = format!("{hospitals} nodes");
        totals::add(Path::new(&file), &["kills", &of], &counts);
    }
}
