//! Four hospitals under load, each in a network of its own: links that are cut, whole, in halves and one way,
//! and healed; a node's disk that fills up and gets room again; clocks that go wrong and right. What f + 1 hospitals acknowledged is on every
//! node afterwards, and none voted twice.
//!
//! Networks and disks are namespaces of Linux that an ordinary user may make: a test starts itself anew in
//! them, and is left out, and says so, where the system refuses them. Clocks are libfaketime's.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod dev;
mod load;
mod nodes;
mod signals;
mod totals;
mod watch;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use dev::Dev;
use load::Load;
use nodes::{HOSPITALS, Nodes, until};
use serde_json::Value;
use signals::processes;
use watch::Watched;

/// Set within the namespaces.
const WITHIN: &str = "WILLIS_TEST_WITHIN";
const ROUNDS: u64 = 1;

/// Runs the test of this name again as the root of namespaces of its own; says whether this is that run.
fn within(test: &str) -> bool {
    if std::env::var_os(WITHIN).is_some() {
        return true;
    }
    let apart = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--net", "--mount"])
            .args(words);
        command
    };
    let tried = apart(&[
        "sh",
        "-c",
        "ip link add willis0 type veth && mount -t tmpfs none /mnt",
    ])
    .stderr(Stdio::null())
    .status();
    if !tried.is_ok_and(|status| status.success()) {
        println!(
            "{test} is left out: this system lets nobody make namespaces, or has no unshare and ip"
        );
        return false;
    }
    let own = std::env::current_exe().unwrap();
    let status = apart(&[own.to_str().unwrap(), "--exact", test, "--nocapture"])
        .env(WITHIN, "1")
        .status();
    assert!(status.unwrap().success(), "{test} failed in its namespaces");
    false
}

fn sh(line: &str) {
    let status = Command::new("sh").args(["-ec", line]).status().unwrap();
    assert!(status.success(), "{line}");
}

fn writes_program(file: &Path, script: &str) {
    fs::write(file, script).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A network for each hospital, at 10.77.N.2, and links between them that lead through here.
struct Networks {
    holders: Vec<Child>,
    /// What `willis dev` starts processes through.
    through: PathBuf,
}

impl Networks {
    fn new(root: &Path) -> Self {
        sh(
            "ip link set lo up; ip addr add 10.77.0.2/32 dev lo; echo 1 > /proc/sys/net/ipv4/ip_forward",
        );
        let mut holders = Vec::new();
        for number in HOSPITALS {
            let holder = Command::new("unshare")
                .args(["--net", "sleep", "3600"])
                .spawn()
                .unwrap();
            let pid = holder.id();
            holders.push(holder);
            let own = fs::read_link("/proc/self/ns/net").unwrap();
            let net = format!("/proc/{pid}/ns/net");
            until("a network is there", || {
                fs::read_link(&net).is_ok_and(|net| net != own)
            });
            let enter = format!("nsenter -t {pid} -n");
            sh(&format!(
                "ip link add h{number} type veth peer name n{number}
                 ip link set n{number} netns {pid}
                 ip addr add 10.77.{number}.1/24 dev h{number}
                 ip link set h{number} up
                 {enter} ip link set lo up
                 {enter} ip addr add 10.77.{number}.2/24 dev n{number}
                 {enter} ip link set n{number} up
                 {enter} ip route add default via 10.77.{number}.1"
            ));
            fs::write(root.join(format!("network-{number}")), pid.to_string()).unwrap();
        }
        let through = root.join("through");
        let script = format!(
            "#!/bin/sh\nhospital=$1\nshift 2\n[ \"$hospital\" = 0 ] && exec \"$@\"\n\
             exec nsenter -t \"$(cat {}/network-\"$hospital\")\" -n \"$@\"\n",
            root.display()
        );
        writes_program(&through, &script);
        Self { holders, through }
    }

    /// From these hospitals nothing reaches those any more.
    fn cut(from: &[u32], to: &[u32]) {
        Self::links("add", from, to);
    }

    fn heal(from: &[u32], to: &[u32]) {
        Self::links("del", from, to);
    }

    fn links(deed: &str, from: &[u32], to: &[u32]) {
        for one in from {
            for other in to.iter().filter(|other| *other != one) {
                sh(&format!(
                    "ip rule {deed} from 10.77.{one}.2 to 10.77.{other}.2 blackhole"
                ));
            }
        }
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

/// What has to hold when everything is well again.
fn nothing_is_lost(nodes: &Nodes, load: Load) -> u64 {
    let begun = load.acknowledged().len();
    until("the load goes on", || load.acknowledged().len() > begun + 4);
    let (report, ids) = load.end();
    println!("{} transactions were acknowledged; {report}", ids.len());
    assert!(ids.len() > 20, "{report}");
    nodes.all_have(&ids);
    for number in nodes.numbers() {
        let status = nodes.status(number).unwrap();
        assert_eq!(status["failure"], Value::Null);
        assert_eq!(status["evidence"], 0, "a node voted twice");
    }
    until("all say the same state root of the same height", || {
        let said = HOSPITALS.map(|number| {
            let status = nodes.status(number)?;
            Some((status["height"].clone(), status["state_root"].clone()))
        });
        said[0].is_some() && said.iter().all(|one| *one == said[0])
    });
    ids.len() as u64
}

fn adds(path: &[&str], counts: &[(&str, u64)]) {
    if let Some(file) = std::env::var_os("WILLIS_TOTALS") {
        totals::add(Path::new(&file), path, counts);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Until these nodes are as far as the chain was when this was called, and two blocks further.
fn goes_on(nodes: &Nodes, those: &[u32], what: &str) {
    let height = nodes.highest();
    until(what, || {
        those
            .iter()
            .all(|number| nodes.height(*number).is_some_and(|own| own > height + 2))
    });
}

/// That these nodes come to nothing final for so long, once what was on its way has come to its end.
fn comes_to_nothing(nodes: &Nodes, what: &str) {
    let mut level = (nodes.highest(), Instant::now());
    until(what, || {
        let now = nodes.highest();
        if now != level.0 {
            level = (now, Instant::now());
        }
        level.1.elapsed() > Duration::from_secs(6)
    });
}

/// `WILLIS_CUTS=50` so many rounds; `WILLIS_TOTALS=FILE` adds what was survived to the campaign's totals.
#[test]
fn links_are_cut_and_healed() {
    if !within("links_are_cut_and_healed") {
        return;
    }
    let rounds = number("WILLIS_CUTS").unwrap_or(ROUNDS);
    let root = tempfile::tempdir().unwrap();
    let networks = Networks::new(root.path());
    let through = networks.through.to_str().unwrap();
    let arguments = ["--restart", "--hosts", "10.77.{}.2", "--through", through];
    let folder = root.path().join("dev");
    let dev = Dev::start(&folder, &arguments);
    let nodes = Nodes::of(&folder.join("founding"));
    let load = Load::start(&folder.join("founding"), root.path());
    until("the load begins", || load.acknowledged().len() > 4);

    let mut counts = [("cut off", 0), ("mute", 0), ("deaf", 0), ("halves", 0)];
    for round in 0..rounds {
        // Each hospital in turn.
        let one = HOSPITALS[(round % 4) as usize];
        let others: Vec<u32> = HOSPITALS
            .into_iter()
            .filter(|other| *other != one)
            .collect();

        Networks::cut(&[one], &others);
        Networks::cut(&others, &[one]);
        goes_on(&nodes, &others, "three of four go on without one");
        Networks::heal(&[one], &others);
        Networks::heal(&others, &[one]);
        goes_on(&nodes, &HOSPITALS, "who was cut off is back");
        counts[0].1 += 1;

        Networks::cut(&[one], &others);
        goes_on(&nodes, &others, "three go on without one that nobody hears");
        Networks::heal(&[one], &others);
        goes_on(&nodes, &HOSPITALS, "who was not heard is back");
        counts[1].1 += 1;

        Networks::cut(&others, &[one]);
        goes_on(&nodes, &others, "three go on without one that hears nobody");
        Networks::heal(&others, &[one]);
        goes_on(&nodes, &HOSPITALS, "who heard nobody is back");
        counts[2].1 += 1;

        let (half, other_half) = ([one, others[0]], [others[1], others[2]]);
        Networks::cut(&half, &other_half);
        Networks::cut(&other_half, &half);
        comes_to_nothing(&nodes, "no half has a quorum");
        Networks::heal(&half, &other_half);
        Networks::heal(&other_half, &half);
        goes_on(&nodes, &HOSPITALS, "halves find together");
        counts[3].1 += 1;
    }
    let acknowledged = nothing_is_lost(&nodes, load);
    dev.stop();
    adds(&["networks"], &counts);
    adds(&["networks"], &[("acknowledged", acknowledged)]);
}

/// A node whose disk is full stops and says so; the others go on; with room again it goes on as well.
#[test]
fn a_nodes_disk_fills_up_and_gets_room_again() {
    if !within("a_nodes_disk_fills_up_and_gets_room_again") {
        return;
    }
    const FULL: u32 = 3;
    let rounds = number("WILLIS_FULL_DISKS").unwrap_or(1);
    sh("ip link set lo up");
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("dev");
    Dev::start(&folder, &[]).stop();
    let home = fs::canonicalize(folder.join(format!("hospital-{FULL}"))).unwrap();
    let data = home.join("data");
    sh(&format!(
        "mv {0} {0}.before; mkdir {0}; mount -t tmpfs -o size=192m none {0}; cp -a {0}.before/. {0}/; rm -r {0}.before",
        data.display()
    ));
    // Who has ended is started again once there is room.
    let through = root.path().join("through");
    let room = root.path().join("no-room");
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = {FULL} ] && [ \"$2\" = node ]; then\n  while [ -e {} ]; do sleep 0.2; done\nfi\n\
         shift 2\nexec \"$@\"\n",
        room.display()
    );
    writes_program(&through, &script);
    let arguments = ["--restart", "--through", through.to_str().unwrap()];
    let dev = Dev::start(&folder, &arguments);
    let nodes = Nodes::of(&folder.join("founding"));
    let load = Load::start(&folder.join("founding"), root.path());
    until("the load begins", || load.acknowledged().len() > 4);

    let others = [1, 2, 4];
    for _ in 0..rounds {
        goes_on(&nodes, &HOSPITALS, "all go on");
        let log = || fs::read_to_string(home.join("node.log")).unwrap();
        let said_before = log().len();
        let [pid] = processes(&home, "node")[..] else {
            panic!("the node runs once");
        };
        fs::write(&room, "").unwrap();
        // All that is free is taken, and what is given free meanwhile.
        let ballast = data.join("ballast");
        until("a node that has no room stops", || {
            let _ = Command::new("sh")
                .args([
                    "-c",
                    &format!("cat /dev/zero >> {} 2>/dev/null", ballast.display()),
                ])
                .status();
            !processes(&home, "node").contains(&pid)
        });
        goes_on(&nodes, &others, "the others go on");
        fs::remove_file(&ballast).unwrap();
        fs::remove_file(&room).unwrap();
        goes_on(&nodes, &HOSPITALS, "with room it is back");
        let said = &log()[said_before..];
        assert!(said.contains("see that its disk has room"), "{said}");
        println!(
            "it said: {}",
            said.lines()
                .find(|line| line.starts_with("willis node: "))
                .unwrap()
        );
    }
    let acknowledged = nothing_is_lost(&nodes, load);
    dev.stop();
    adds(
        &["disks"],
        &[("full", rounds), ("acknowledged", acknowledged)],
    );
    sh(&format!("umount {}", data.display()));
}

const FAKETIME: &str = "faketime/libfaketimeMT.so.1";
/// How far a clock is wrong: far more than the drift that voters allow, a second.
const WRONG_SECONDS: i64 = 30;

/// Where Linux distributions put libfaketime.
fn faketime() -> Option<PathBuf> {
    let mut folders = vec![PathBuf::from("/usr/lib"), PathBuf::from("/usr/lib64")];
    folders.extend(
        fs::read_dir("/usr/lib")
            .ok()?
            .flatten()
            .map(|entry| entry.path()),
    );
    let mut libraries = folders.iter().map(|folder| folder.join(FAKETIME));
    libraries.find(|library| library.exists())
}

/// A clock ahead: what its node proposes is waited for in vain, and nothing final has its time. A clock behind:
/// its node follows without voting. The three others go on, and with the right time the node takes part again.
#[test]
fn clocks_go_wrong_and_right_again() {
    let Some(library) = faketime() else {
        println!("left out: libfaketime is missing");
        return;
    };
    let rounds = number("WILLIS_CLOCKS").unwrap_or(1);
    let root = tempfile::tempdir().unwrap();
    let clock = |number: u32| root.path().join(format!("clock-{number}"));
    let sets = |number: u32, seconds: i64| {
        let next = root.path().join("next");
        fs::write(&next, format!("{seconds:+}\n")).unwrap();
        fs::rename(&next, clock(number)).unwrap();
    };
    HOSPITALS.into_iter().for_each(|number| sets(number, 0));
    let through = root.path().join("through");
    let script = format!(
        "#!/bin/sh\nhospital=$1\nrole=$2\nshift 2\n[ \"$role\" = node ] || exec \"$@\"\n\
         export FAKETIME_TIMESTAMP_FILE={}/clock-\"$hospital\" FAKETIME_NO_CACHE=1\n\
         export FAKETIME_DONT_FAKE_MONOTONIC=1 LD_PRELOAD={}\nexec \"$@\"\n",
        root.path().display(),
        library.display()
    );
    writes_program(&through, &script);
    let folder = root.path().join("dev");
    let dev = Dev::start(&folder, &["--through", through.to_str().unwrap()]);
    let nodes = Nodes::of(&folder.join("founding"));
    let watched = watch::all(&dev.ready).into_iter();
    let watched: Vec<Watched> = watched.filter(|one| one.role == "node").collect();
    let waits = |number: u32| {
        let metrics = watched[number as usize - 1].metrics();
        metrics.value("willis_node_clock_waits_total", None)
    };
    let led = |number: u32| {
        let status = nodes.status(number).unwrap();
        let all = status["led"].as_array().unwrap().clone();
        let mut own = all.iter().filter(|one| one["institution"] == number);
        own.next().map_or(0, |one| one["blocks"].as_u64().unwrap())
    };
    let load = Load::start(&folder.join("founding"), root.path());
    until("the load begins", || load.acknowledged().len() > 4);

    for round in 0..rounds {
        // Each that leads in turn.
        let one = HOSPITALS[(round % 3) as usize];
        let others: Vec<u32> = HOSPITALS
            .into_iter()
            .filter(|other| *other != one)
            .collect();
        let witness = others[0];

        let before = waits(witness);
        sets(one, WRONG_SECONDS);
        until("a block from the future is waited for", || {
            waits(witness) > before
        });
        goes_on(&nodes, &others, "the others go on beside a clock ahead");
        for number in &others {
            let time = nodes.status(*number).unwrap()["time"].as_u64().unwrap();
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
            assert!(
                time < now + 10_000,
                "a final block is of {time}, and it is {now}"
            );
        }
        sets(one, 0);
        let before = led(one);
        until("with the right time it leads again", || led(one) > before);

        let before = waits(one);
        sets(one, -WRONG_SECONDS);
        until("a clock behind keeps its node from voting", || {
            waits(one) > before
        });
        goes_on(&nodes, &HOSPITALS, "all go on beside a clock behind");
        sets(one, 0);
        goes_on(&nodes, &HOSPITALS, "with the right time all go on");
    }
    let acknowledged = nothing_is_lost(&nodes, load);
    dev.stop();
    adds(
        &["clocks"],
        &[
            ("ahead", rounds),
            ("behind", rounds),
            ("acknowledged", acknowledged),
        ],
    );
}
