//! What an operator keeps of a node, and what comes of it: a backup that is taken under load, holds no
//! secret, and brings a lost node back under a new key; a store and a backup that are checked offline; and
//! proofs that whoever has the founding document checks alone.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod load;
mod people;
mod region;
mod signals;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use client::{ConsortiumClient, Founding, NodeStatus};
use dev::{done, refused};
use load::Load;
use people::{Person, ask, begin_episode, sample, store, text};
use region::{Node, Region as Consortium};
use scheme::InstitutionId;
use serde_json::Value;
use signals::{Away, processes};

/// Within which the chain has to come to something.
const BOUND: Duration = Duration::from_secs(240);

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A development consortium, a fifth hospital whose node is a process of the test's own, and people.
struct Region {
    consortium: Consortium,
    root: tempfile::TempDir,
    patient: Person,
    wang: Person,
    lin: Person,
    runtime: tokio::runtime::Runtime,
    chain: ConsortiumClient,
}

impl Region {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("dev");
        let consortium = Consortium::start(&folder, &["--epoch-blocks", "12"]);
        let person = |role, name| Person::new(role, &folder, root.path(), name);
        let founding = Founding::open(&folder.join("founding")).unwrap();
        Self {
            patient: person("patient", "patient"),
            wang: person("doctor", "wang"),
            lin: person("doctor", "lin"),
            consortium,
            root,
            runtime: tokio::runtime::Runtime::new().unwrap(),
            chain: ConsortiumClient::of(&founding, None).unwrap(),
        }
    }

    fn founding(&self) -> PathBuf {
        self.consortium.founding().into()
    }

    fn home(&self, institution: u32) -> PathBuf {
        self.consortium.home(institution)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn status(&self, institution: u32) -> Option<NodeStatus> {
        self.runtime.block_on(async {
            // Which nodes there are changes in this test.
            let _ = self.chain.follow().await;
            self.chain
                .status(InstitutionId::new(institution))
                .await
                .ok()
        })
    }

    fn epoch(&self) -> u64 {
        self.status(1).unwrap().epoch
    }

    /// Waits until the fifth hospital's node votes under the key that the hospital has now.
    fn epoch_in_which_the_fifth_votes(&self) -> u64 {
        let mut shown = Value::Null;
        until("the fifth hospital's node votes", || {
            shown = self.consortium.show();
            shown["institutions"][4]["votes"] == true
        });
        shown["validator_epoch"].as_u64().unwrap()
    }

    /// How many blocks the fifth hospital's node led under the key that has its seat, as another node
    /// counts.
    fn led_by_the_fifth(&self) -> u64 {
        let status = self.status(1).unwrap();
        let led = status.led.iter().find(|led| led.institution == 5);
        led.map_or(0, |led| led.blocks)
    }

    /// Hospital 5 is admitted: the configuration of its node.
    fn admits_the_fifth(&self) -> PathBuf {
        let consortium = &self.consortium;
        let applied = consortium.applies("Hillside Hospital", self.root.path());
        let motion = consortium.puts(1, &["admit", path(&applied.application)]);
        for member in [2, 4] {
            consortium.approves(member, &motion);
        }
        applied.config
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn a_node_is_backed_up_lost_and_restored_and_what_it_served_is_proved() {
    let region = Region::start();
    let config = region.admits_the_fifth();
    let home = region.home(5);
    let fifth = Node::start(&config);
    until("the fifth hospital's node leads", || {
        region.led_by_the_fifth() > 0
    });

    // A referral, so that the node holds a share, a trapdoor and a log key.
    region.patient.enrols_as_patient("Chen Mei");
    region.wang.enrols_as_doctor("Wang Li", 4);
    region.lin.enrols_as_doctor("Lin Hao", 1);
    let (episode, at_wang) = begin_episode(&region.patient, &region.wang);
    let record = store(
        &region.wang,
        &at_wang,
        &[&sample("community-hospital/admission.hl7")],
    );
    region.patient.does(&["receipts"]);
    let inbox = text(&region.patient.does(&["inbox"]), "inbox");
    let request = ask(&region.lin, &inbox, "1");
    region.patient.does(&["requests", "--wait", "30"]);
    let granted = region
        .patient
        .does(&["grant", &request, "--episode", &episode]);
    let gid = text(&granted["grants"][0], "grant");
    region.lin.does(&["follow", &request]);
    let read = region.file("read");
    region.lin.does(&["read", &request, "--into", path(&read)]);
    let grants = home.join("data/grants");
    until("the node holds the grant", || {
        fs::read_dir(&grants).unwrap().count() > 0
    });

    // Under load.
    let load = Load::start(&region.founding(), region.root.path());
    until("the load begins", || load.acknowledged().len() > 4);
    let backup = region.file("backup");
    let said = done(&[
        "node",
        "back-up",
        "--config",
        path(&config),
        "--out",
        path(&backup),
    ]);
    assert!(said.contains("Backed up"), "{said}");
    let before = region.status(5).unwrap().height;
    let again = refused(&[
        "node",
        "back-up",
        "--config",
        path(&config),
        "--out",
        path(&backup),
    ]);
    assert!(again.contains("never overwritten"), "{again}");
    let busy = refused(&["node", "verify", "--config", path(&config)]);
    assert!(busy.contains("stop the node"), "{busy}");
    a_stolen_backup_yields_no_secret(&region, &backup);
    what_is_on_the_chain_is_proved(&region, &record, &gid);
    let (report, _) = load.end();
    assert_eq!(report["ok"], true, "{report}");

    // The disk is lost, and the key file with it or not.
    fifth.kill();
    let verified = verified(&["--config", path(&config)], true);
    assert!(
        verified["stores"][0]["height"].as_u64().unwrap() >= before,
        "{verified}"
    );
    fs::remove_dir_all(home.join("data")).unwrap();
    a_changed_backup_is_refused(&region, &config, &backup);
    let founding = region.founding();
    let sound = self::verified(
        &["--founding", path(&founding), "--backup", path(&backup)],
        true,
    );
    let height = sound["stores"][0]["height"].as_u64().unwrap();
    assert!(height > 24, "{sound}");
    let said = done(&[
        "node",
        "restore",
        "--config",
        path(&config),
        "--from",
        path(&backup),
    ]);
    assert!(said.contains("membership succeed"), "{said}");
    // It does not start under the key that voted, and its folder is not restored over.
    let why = refused(&["node", "--config", path(&config)]);
    assert!(why.contains("membership succeed"), "{why}");
    let why = refused(&[
        "node",
        "restore",
        "--config",
        path(&config),
        "--from",
        path(&backup),
    ]);
    assert!(why.contains("not empty"), "{why}");

    let said = region.consortium.member(5, &["succeed"]);
    assert!(said.contains("generation 1"), "{said}");
    let fifth = Node::start(&config);
    until("the restored node is where the others are", || {
        let (Some(own), Some(other)) = (region.status(5), region.status(1)) else {
            return false;
        };
        own.height == other.height && own.height > height && own.state_root == other.state_root
    });
    // An epoch may begin before the new key has shown that its node runs: the old key keeps its seat in
    // it, nobody votes for it, and another one away would be one too many.
    let seated_in = region.epoch_in_which_the_fifth_votes();
    until("the restored node leads under its new key", || {
        region.epoch() >= seated_in && region.led_by_the_fifth() > 0
    });
    // Of five nodes four agree: with another one away the chain goes on only if this one votes.
    let away = Away::new(processes(&region.home(3), "node"));
    let reached = region.status(1).unwrap().height;
    until("the restored node votes", || {
        region
            .status(1)
            .is_some_and(|status| status.height > reached + 5)
    });
    away.comes_back();
    // What it holds now is what the blocks give, those of the backup and those since.
    fifth.kill();
    self::verified(&["--config", path(&config)], true);
    region.consortium.dev.stop();
}

/// `willis node verify`: its JSON.
fn verified(arguments: &[&str], sound: bool) -> Value {
    let words = [&["node", "verify", "--json"], arguments].concat();
    let output = dev::willis(&words);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!(found["ok"], sound, "{found}");
    assert_eq!(
        output.status.code(),
        Some(if sound { 0 } else { 1 }),
        "{found}"
    );
    found
}

/// Whoever takes the file gets nothing that the node's folder keeps secret, nor what the patient knows.
fn a_stolen_backup_yields_no_secret(region: &Region, backup: &Path) {
    let home = region.home(5);
    let mut secrets: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for folder in ["data/grants", "data/hpke-keys"] {
        for entry in fs::read_dir(home.join(folder)).unwrap() {
            let file = entry.unwrap().path();
            secrets.insert(file.display().to_string(), fs::read(&file).unwrap());
        }
    }
    assert!(
        secrets.keys().any(|name| name.contains("grants")),
        "{:?}",
        secrets.keys()
    );
    assert!(
        secrets.keys().any(|name| name.contains("hpke-keys")),
        "{:?}",
        secrets.keys()
    );
    for name in ["node.key", "institution.key", "tls.key", "authority.key"] {
        secrets.insert(name.to_owned(), fs::read(home.join(name)).unwrap());
    }
    secrets.insert("the patient's name".to_owned(), b"Chen Mei".to_vec());
    let words = text(&region.patient.does(&["words"]), "words");
    secrets.insert("the patient's words".to_owned(), words.into_bytes());
    let inbox = text(&region.patient.does(&["inbox"]), "inbox");
    secrets.insert("the patient's inbox".to_owned(), inbox.into_bytes());
    let record = fs::read(sample("community-hospital/admission.hl7")).unwrap();
    secrets.insert("the record".to_owned(), record);

    let file = fs::read(backup).unwrap();
    let needles: Vec<(String, Vec<u8>)> = secrets
        .iter()
        .flat_map(|(name, secret)| {
            forms(secret)
                .into_iter()
                .map(move |form| (name.clone(), form))
        })
        .collect();
    assert!(needles.len() > 100);
    // Every place of the file at which a form of a secret could begin.
    let mut begins: BTreeMap<[u8; 8], Vec<usize>> = BTreeMap::new();
    for (number, (_, form)) in needles.iter().enumerate() {
        begins
            .entry(form[..8].try_into().unwrap())
            .or_default()
            .push(number);
    }
    let found: Vec<&str> = file
        .windows(8)
        .enumerate()
        .flat_map(|(at, window)| {
            let here: [u8; 8] = window.try_into().unwrap();
            let (file, needles) = (&file, &needles);
            begins
                .get(&here)
                .into_iter()
                .flatten()
                .filter(move |number| file[at..].starts_with(&needles[**number].1))
                .map(|number| needles[*number].0.as_str())
        })
        .collect();
    assert_eq!(found, Vec::<&str>::new());
    // The scan finds what is there: each node's public key stands on the chain.
    let public = scheme::SigningKey::from_seed(
        hex::decode(fs::read_to_string(home.join("node.key")).unwrap().trim())
            .unwrap()
            .try_into()
            .unwrap(),
    );
    let public = *public.verifying_key().as_bytes();
    assert!(file.windows(32).any(|window| window == public));
}

/// A secret as it could stand in a file: pieces of it raw, in hexadecimal, in base64 at each of the three
/// alignments; if it is a text of hexadecimal digits, also of what it stands for. Of a key in PEM, the
/// private number alone: the file holds the public key too, which is in certificates.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let contents = match std::str::from_utf8(secret) {
        Ok(text) if text.starts_with("-----") => vec![private_number(text)],
        Ok(text) => {
            let text = text.trim();
            let decoded = hex::decode(text).ok();
            decoded
                .into_iter()
                .chain([text.as_bytes().to_vec()])
                .collect()
        }
        Err(_) => vec![secret.to_vec()],
    };
    let mut forms = Vec::new();
    for content in contents {
        // A piece at a time: a part of a secret is one too. What is public in all files of a kind (the
        // beginning of a grant or of PEM) is left out by taking pieces of the middle and the end.
        let length = content.len();
        let begin = if length > 200 { length / 4 } else { 0 };
        let mut at = begin;
        while at + PIECE <= length {
            let piece = &content[at..at + PIECE];
            forms.push(piece.to_vec());
            forms.push(hex::encode(piece).into_bytes());
            forms.push(hex::encode_upper(piece).into_bytes());
            for shift in 0..3 {
                forms.push(base64_within(&piece[shift..]));
            }
            at += PIECE;
        }
        if length < PIECE {
            forms.push(content);
        }
    }
    forms.retain(|form| form.len() >= 8);
    forms
}

/// Long enough that none stands anywhere by chance.
const PIECE: usize = 24;

/// The 32 bytes of a PKCS#8 key that stand behind the octet string's 04 20.
fn private_number(pem: &str) -> Vec<u8> {
    let mut der = Vec::new();
    let (mut value, mut digits) = (0u32, 0);
    let body = pem.lines().filter(|line| !line.starts_with("-----"));
    for digit in body.flat_map(str::bytes).filter(|digit| *digit != b'=') {
        let digit = DIGITS.iter().position(|known| *known == digit).unwrap();
        value = (value << 6) | u32::try_from(digit).unwrap();
        digits += 1;
        if digits % 4 == 0 {
            der.extend_from_slice(&value.to_be_bytes()[1..]);
            value = 0;
        }
    }
    let at = der
        .windows(2)
        .position(|pair| pair == [0x04, 0x20])
        .unwrap()
        + 2;
    der[at..at + 32].to_vec()
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The base64 of whole groups of three bytes: so it stands in a longer text that has this alignment.
fn base64_within(bytes: &[u8]) -> Vec<u8> {
    let groups = bytes.chunks_exact(3);
    groups
        .flat_map(|group| {
            let value = u32::from_be_bytes([0, group[0], group[1], group[2]]);
            [18, 12, 6, 0].map(|shift| DIGITS[(value >> shift) as usize & 63])
        })
        .collect()
}

fn a_changed_backup_is_refused(region: &Region, config: &Path, backup: &Path) {
    let whole = fs::read(backup).unwrap();
    let founding = region.founding();
    let mut attempt = 0;
    let mut is_refused = |bytes: &[u8], why: &str| {
        attempt += 1;
        let file = region.file(&format!("changed-{attempt}"));
        fs::write(&file, bytes).unwrap();
        let said = refused(&[
            "node",
            "restore",
            "--config",
            path(config),
            "--from",
            path(&file),
        ]);
        assert!(said.contains(why), "{said}");
        assert!(
            !region.home(5).join("data").exists(),
            "nothing is left of it"
        );
        let output = dev::willis(&[
            "node",
            "verify",
            "--founding",
            path(&founding),
            "--backup",
            path(&file),
        ]);
        assert!(!output.status.success());
    };
    is_refused(&whole[..whole.len() / 2], "cut short");
    is_refused(&whole[..whole.len() - 1], "cut short");
    is_refused(b"no backup", "no backup");
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    // In the last block's certificate, and in the digest of the whole.
    is_refused(&flipped(whole.len() - 32 - 41 - 10), "does not stand");
    is_refused(&flipped(whole.len() - 5), "was changed");
    let other = region.file("another");
    let said = refused(&[
        "node",
        "unpack",
        path(&region.file("changed-5")),
        "--into",
        path(&other),
    ]);
    assert!(said.contains("was changed") && !other.exists(), "{said}");
    // What stood beside the chain comes back as it was.
    done(&["node", "unpack", path(backup), "--into", path(&other)]);
    let same = |name: &str, original: &Path| {
        assert_eq!(
            fs::read(other.join(name)).unwrap(),
            fs::read(original).unwrap(),
            "{name}"
        );
    };
    same("node.toml", config);
    same("founding/founding", &founding.join("founding"));
    same("founding/services.toml", &founding.join("services.toml"));
    done(&["genesis", "check", path(&other.join("founding"))]);
}

/// An auditor has the founding document and a file, and no network.
fn what_is_on_the_chain_is_proved(region: &Region, record: &str, gid: &str) {
    let founding = region.founding();
    let document = founding.join("founding");
    let proof = |claim: &str, id: &str| {
        let file = region.file(&format!("{claim}.proof"));
        let words = [
            "proof",
            claim,
            id,
            "--founding",
            path(&founding),
            "--out",
            path(&file),
        ];
        done(&words);
        let checked = done(&[
            "proof",
            "check",
            path(&file),
            "--founding",
            path(&document),
            "--json",
        ]);
        let checked: Value = serde_json::from_str(&checked).unwrap();
        assert_eq!(checked["ok"], true, "{checked}");
        (file, checked)
    };
    let (file, proved) = proof("record", record);
    assert_eq!(proved["record"], record);
    assert_eq!(proved["institution"], 4);
    let not_it = refused(&[
        "proof",
        "check",
        path(&file),
        "--founding",
        path(&founding),
        "--container",
        path(&document),
    ]);
    assert!(not_it.contains("is not the container"), "{not_it}");
    let said = done(&["proof", "check", path(&file), "--founding", path(&founding)]);
    assert!(
        said.contains("Proved: record") && said.contains("Not proved"),
        "{said}"
    );

    let (_, proved) = proof("grant", gid);
    assert_eq!(proved["state"]["revoked"], Value::Null, "{proved}");
    let (file, proved) = proof("access-log", gid);
    let accesses = proved["accesses"].as_array().unwrap();
    assert_eq!(accesses.len(), 1, "{proved}");
    let logged = region.patient.does(&["log", gid]);
    assert_eq!(logged["accesses"].as_array().unwrap().len(), 1, "{logged}");

    let bytes = fs::read(&file).unwrap();
    let cut = region.file("cut.proof");
    fs::write(&cut, &bytes[..bytes.len() - 40]).unwrap();
    let why = refused(&["proof", "check", path(&cut), "--founding", path(&founding)]);
    assert!(why.contains("proves nothing"), "{why}");
    let unknown = "0".repeat(64);
    let none = region.file("none.proof");
    let words = [
        "proof",
        "record",
        &unknown,
        "--founding",
        path(&founding),
        "--out",
        path(&none),
    ];
    let why = refused(&words);
    assert!(why.contains("not final") && !none.exists(), "{why}");
}
