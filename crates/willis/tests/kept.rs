//! What each release left on the disk, opened by this one: a consortium's folders, its people's keystores,
//! backups and proofs, one archive a release in `tests/kept`. All of it is opened and checked offline, and
//! then the consortium moves to other ports, starts and goes on: what was granted before is read, and new
//! work is done on top of it.
//!
//! `WILLIS_WRITE=1` keeps the present release, if its archive is not there. Nothing here depends on the day
//! on which it runs: certificates and grants of a kept consortium stand for a hundred years, and TLS
//! certificates are renewed before it starts, as its operators would.
#![allow(clippy::unwrap_used, reason = "a test")]

mod archive;
mod dev;
mod nodes;
mod people;
mod region;
mod signals;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use archive::run;
use dev::{Dev, done, refused};
use nodes::{HOSPITALS, Nodes, until};
use people::{Person, ask, assert_files, begin_episode, sample, store, text};
use region::{Region, free_addresses};
use serde_json::{Value, json};
use signals::{Away, processes};

/// Of certificates, grants and appointments that are kept.
const CENTURY_DAYS: u64 = 36_500;
/// Blocks of a validator epoch: an archive holds the borders of some, and a snapshot.
const EPOCH_BLOCKS: u64 = 10;
/// A node writes a snapshot after so many validator epochs.
const SNAPSHOT_EPOCHS: u64 = 8;
/// Addresses of a development consortium: three services with one, four hospitals with three, and eleven at
/// which a role is watched.
const ADDRESSES: usize = 3 + 4 * 3 + 11;
/// Hospitals that account, whose shares open a grant.
const ACCOUNTING: [u32; 3] = [1, 2, 3];
/// Four nodes keep much that is the same: the window of this level holds all of it.
const PACKED_LEVEL: i32 = 19;
/// The names of the record's files.
const FILES: [&str; 2] = ["admission.hl7", "stroke.json"];
const BUNDLE: &str = r#"{"resourceType":"Bundle","type":"collection","entry":[
{"resource":{"resourceType":"Condition","id":"c1","subject":{"reference":"Patient/p1"},"code":{"text":"Acute ischaemic stroke"}}},
{"resource":{"resourceType":"MedicationStatement","id":"m1","status":"active","subject":{"reference":"Patient/p1"},"medicationCodeableConcept":{"text":"Clopidogrel 75 mg"}}}]}
"#;

#[test]
fn what_every_release_left_opens_and_goes_on() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kept");
    let own = concat!(env!("CARGO_PKG_VERSION"), ".tar.zst");
    if std::env::var_os("WILLIS_WRITE").is_some() && !folder.join(own).exists() {
        keep(&folder, own);
    }
    let listed = listed(&folder);
    let there: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".tar.zst"))
        .collect();
    assert!(
        there.contains(own),
        "{own} is not kept: WILLIS_WRITE=1 keeps this release"
    );
    assert_eq!(listed.keys().cloned().collect::<BTreeSet<_>>(), there);
    for (name, digest) in &listed {
        println!("{name}");
        let archive = folder.join(name);
        assert_eq!(&digest_of(&archive), digest, "{name} is never changed");
        let kept = Kept::unpack(&archive);
        kept.holds();
        kept.is_restored_from_backups();
        kept.goes_on();
    }
}

/// The archives by name, with what `sha256sum` says of each.
fn listed(folder: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(folder.join("SHA256SUMS")).unwrap_or_default();
    text.lines()
        .map(|line| {
            let (digest, name) = line.split_once("  ").unwrap();
            (name.to_owned(), digest.to_owned())
        })
        .collect()
}

fn digest_of(file: &Path) -> String {
    hex::encode(scheme::sha256(&fs::read(file).unwrap()).as_bytes())
}

/// A consortium as its last process left it, with what its people and operators have.
struct Kept {
    root: tempfile::TempDir,
    /// What was so when it was kept.
    facts: Value,
}

impl Kept {
    fn unpack(archive: &Path) -> Self {
        let root = archive::unpack(archive);
        let facts = fs::read(root.path().join("facts.json")).unwrap();
        Self {
            root,
            facts: serde_json::from_slice(&facts).unwrap(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.root.path().join(name).to_str().unwrap().to_owned()
    }

    fn dev(&self) -> PathBuf {
        self.root.path().join("dev")
    }

    fn fact(&self, name: &str) -> String {
        text(&self.facts, name)
    }

    fn person(&self, role: &'static str, name: &str) -> Person {
        Person::again(role, &self.dev(), self.root.path(), name)
    }

    fn files(&self) -> Vec<PathBuf> {
        let record = self.root.path().join("record");
        FILES.iter().map(|name| record.join(name)).collect()
    }

    /// Without a network: each node's store from the founding on, the founding and the proofs.
    fn holds(&self) {
        let founding = self.path("dev/founding");
        done(&["genesis", "check", &founding]);
        for hospital in HOSPITALS {
            let found = verified(&["--config", &self.path(&config_of(hospital))]);
            let height = &self.facts["heights"][hospital.to_string()];
            assert_eq!(&found["height"], height, "{found}");
        }
        let backup = self.path("backup");
        verified(&["--founding", &founding, "--backup", &backup]);
        let unpacked = self.path("unpacked");
        done(&["node", "unpack", &backup, "--into", &unpacked]);
        for file in ["founding/founding", "founding/services.toml"] {
            let original = fs::read(self.dev().join(file)).unwrap();
            assert_eq!(fs::read(Path::new(&unpacked).join(file)).unwrap(), original);
        }
        let check = |claim: &str| -> Value {
            let file = self.path(&format!("{claim}.proof"));
            let words = ["proof", "check", &file, "--founding", &founding, "--json"];
            serde_json::from_str(&done(&words)).unwrap()
        };
        let record = check("record");
        assert_eq!(record["record"], self.facts["record"], "{record}");
        assert_eq!(record["institution"], 4, "{record}");
        let grant = check("grant");
        assert_eq!(grant["gid"], self.facts["grant"], "{grant}");
        assert_eq!(grant["state"]["revoked"], Value::Null, "{grant}");
        let log = check("access-log");
        assert_eq!(log["gid"], self.facts["grant"], "{log}");
        assert_eq!(log["accesses"].as_array().unwrap().len(), 1, "{log}");
    }

    /// A node and the registration centre whose disks are lost, each from its backup.
    fn is_restored_from_backups(&self) {
        let folder = self.path("lost");
        run(Command::new("cp")
            .args(["-R", self.dev().to_str().unwrap()])
            .arg(&folder));
        let config = self.path("lost/hospital-2/node.toml");
        let data = self.path("lost/hospital-2/data");
        fs::remove_dir_all(&data).unwrap();
        let backup = self.path("backup");
        let words = ["node", "restore", "--config", &config, "--from", &backup];
        let said = done(&words);
        assert!(said.contains("membership succeed"), "{said}");
        let founding = self.path("lost/founding");
        let found = verified(&["--founding", &founding, "--folder", &data]);
        let height = found["height"].as_u64().unwrap();
        assert!(height >= EPOCH_BLOCKS * SNAPSHOT_EPOCHS, "{found}");
        self.restores_the_centre("lost");
    }

    /// In the consortium of this folder.
    fn restores_the_centre(&self, folder: &str) {
        let centre = self.root.path().join(folder).join("centre");
        for entry in fs::read_dir(&centre).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with("records.sqlite") {
                fs::remove_file(path).unwrap();
            }
        }
        let config = centre.join("centre.toml");
        let (backup, other) = (self.path("centre-backup"), self.path("other-passphrase"));
        fs::write(&other, "another passphrase\n").unwrap();
        let restore = |passphrase: &str| {
            [
                "centre-records",
                "restore",
                "--config",
                config.to_str().unwrap(),
                "--from",
                &backup,
                "--passphrase-file",
                passphrase,
            ]
            .map(str::to_owned)
        };
        let words = restore(&other);
        refused(&words.each_ref().map(String::as_str));
        let words = restore(&self.path("centre-backup.passphrase"));
        done(&words.each_ref().map(String::as_str));
    }

    /// Other ports, by a later directory of services that every founder signs, and TLS certificates that
    /// stand today: the same folder on another machine, years later.
    fn moves(&self) {
        let mut texts = BTreeMap::new();
        let mut before = BTreeSet::new();
        for folder in ["founding", "centre", "query", "cloud"]
            .into_iter()
            .map(str::to_owned)
            .chain(HOSPITALS.map(|hospital| format!("hospital-{hospital}")))
        {
            for entry in fs::read_dir(self.dev().join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|kind| kind == "toml") {
                    let text = fs::read_to_string(&path).unwrap();
                    before.extend(ports(&text));
                    texts.insert(path, text);
                }
            }
        }
        assert_eq!(before.len(), ADDRESSES, "{before:?}");
        let free = free_addresses::<ADDRESSES>();
        // In one pass: a new port can be another's old one.
        let moved: BTreeMap<&str, String> = before
            .iter()
            .map(String::as_str)
            .zip(free.map(|address| address.port().to_string()))
            .collect();
        for (path, text) in &texts {
            let mut parts = text.split(HOST);
            let mut changed = parts.next().unwrap().to_owned();
            for part in parts {
                let port = port(part);
                changed += HOST;
                changed += &moved[port];
                changed += &part[port.len()..];
            }
            if path.ends_with("founding/services.toml") {
                assert!(changed.contains("serial = 0\n"), "{changed}");
                changed = changed.replace("serial = 0\n", "serial = 1\n");
            }
            fs::write(path, changed).unwrap();
        }
        let founding = self.path("dev/founding");
        let said = refused(&["genesis", "check", &founding]);
        assert!(said.contains("signatures"), "{said}");
        for hospital in HOSPITALS {
            let home = self.path(&format!("dev/hospital-{hospital}"));
            done(&["genesis", "sign", &founding, "--folder", &home, "--yes"]);
            done(&["tls", "renew", "--folder", &home]);
        }
        done(&["genesis", "check", &founding]);
        for service in ["centre", "query", "cloud"] {
            let folder = self.path(&format!("dev/{service}"));
            done(&["tls", "renew", "--folder", &folder]);
        }
    }

    /// It starts, and everybody finds what they had; then new work is done on top of it.
    fn goes_on(&self) {
        self.moves();
        // Whichever day it is, a hospital goes on with the writer key that it kept.
        let region = starts(&self.dev(), "WILLIS_HOSPITAL_WRITER_EPOCH_DAYS");
        region.dev.assert_every_role_runs();
        let nodes = Nodes::of(&self.dev().join("founding"));
        let last = self.facts["heights"].as_object().unwrap().values();
        let last = last.map(|height| height.as_u64().unwrap()).max().unwrap();
        until("blocks follow on what was kept, at every node", || {
            let goes_on = |height| height > last + EPOCH_BLOCKS;
            HOSPITALS
                .iter()
                .all(|hospital| nodes.height(*hospital).is_some_and(goes_on))
        });
        for hospital in ACCOUNTING {
            let status = nodes.status(hospital).unwrap();
            assert_eq!(status["grants"], 2, "the shares that were kept: {status}");
        }
        let shown = region.show();
        assert_eq!(shown["institutions"], self.facts["institutions"], "{shown}");
        // The newcomer is given a snapshot: the one that was kept, until blocks of many epochs came.
        let config = self.path("dev/hospital-5/node.toml");
        let said = done(&["node", "fetch-snapshot", "--config", &config]);
        assert!(said.contains("after block"), "{said}");
        self.is_as_it_was();
        let newer = self.new_work_is_done();
        nodes.all_have(&[self.fact("record"), newer]);
        let key = self.path("dev/officer.key");
        let it = self.person("it", "officer");
        let ended = it.does(&["--institution", "4", "--key", &key, "end-writer-epoch"]);
        assert_eq!(ended["epoch"], 0, "{ended}");
        region.dev.stop();
        for hospital in HOSPITALS {
            let found = verified(&["--config", &self.path(&config_of(hospital))]);
            assert!(found["height"].as_u64() > Some(last), "{found}");
        }
        // It starts again on what this release left, and on what the backup gives of the centre.
        self.restores_the_centre("dev");
        let dev = Dev::start(&self.dev(), &[]);
        let status = self.person("patient", "patient").does(&["status"]);
        assert_eq!(status["state"], "registered", "{status}");
        self.officer_sees_the_patient();
        dev.stop();
    }

    fn officer_sees_the_patient(&self) {
        let shown = self
            .person("officer", "officer")
            .does(&["show", &self.fact("subject")]);
        let identity = &shown["applicant"]["patient"];
        assert_eq!(identity["name"], "Chen Mei", "{shown}");
    }

    fn is_as_it_was(&self) {
        let files = self.files();
        let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
        let (record, request) = (self.fact("record"), self.fact("request"));
        let (grant, unread) = (self.fact("grant"), self.fact("unread_grant"));
        let revoked = self.fact("revoked_grant");

        let patient = self.person("patient", "patient");
        assert_eq!(patient.does(&["words"])["words"], self.facts["words"]);
        assert_eq!(patient.does(&["inbox"])["inbox"], self.facts["inbox"]);
        let episodes = patient.does(&["episodes"]);
        assert_eq!(episodes["episodes"], self.facts["episodes"], "{episodes}");
        let listed = patient.does(&["grants"]);
        let states: BTreeMap<String, &Value> = listed["grants"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (text(one, "grant"), &one["revoked"]))
            .collect();
        let expected = BTreeMap::from([
            (grant.clone(), &Value::Bool(false)),
            (unread.clone(), &Value::Bool(false)),
            (revoked, &Value::Bool(true)),
        ]);
        assert_eq!(states, expected, "{listed}");
        let read = patient.does(&["read", &record, "--into", &self.path("patient-read")]);
        assert_files(&read["files"], &files);
        let logged = |grant: &str| {
            let log = patient.does(&["log", grant]);
            let accesses = log["accesses"].as_array().unwrap();
            assert!(accesses.iter().all(|one| one["record"] == record.as_str()));
            accesses.len()
        };
        assert_eq!((logged(&grant), logged(&unread)), (1, 0));

        // By the words and by what the centre kept.
        let words = self.path("words");
        fs::write(&words, self.fact("words")).unwrap();
        let again = Person::new("patient", &self.dev(), self.root.path(), "again");
        let restored = again.does(&["restore", "--words-file", &words]);
        assert_eq!(restored["episodes"], self.facts["episodes"], "{restored}");

        let wang = self.person("doctor", "wang");
        let own = wang.does(&["own", &record, "--into", &self.path("own")]);
        assert_files(&own["files"], &files);

        let lin = self.person("doctor", "lin");
        let found = lin.does(&["search", &request]);
        assert_eq!(found["hits"][0]["record"], record.as_str(), "{found}");
        // Two shares open a record. With each of two nodes away in turn every node has to give what it
        // kept: by an access that was kept, and by one that is recorded now.
        for (away, request) in [(1, &request), (2, &self.fact("unread_request"))] {
            let home = fs::canonicalize(self.dev().join(format!("hospital-{away}"))).unwrap();
            let away = Away::new(processes(&home, "node"));
            let into = self.path(&format!("lin-read-{}", &request[..8]));
            let read = lin.does(&["read", request, "--into", &into]);
            assert_files(&read["records"][0]["files"], &files);
            assert_eq!(read["records"][0]["wrong_shares"], json!([]), "{read}");
            away.comes_back();
        }
        assert_eq!((logged(&grant), logged(&unread)), (1, 1));
        let request = self.fact("revoked_request");
        let why = lin.is_refused(&["read", &request, "--into", &self.path("revoked")]);
        assert!(why.contains("revoked"), "{why}");

        let agent = self.person("agent", "agent");
        let inbox = agent.does(&["inbox", &self.fact("appointment")]);
        assert_eq!(inbox["inbox"], self.facts["agent_inbox"], "{inbox}");
        self.officer_sees_the_patient();
        let key = self.path("dev/officer.key");
        let it = self.person("it", "officer");
        let doctors = it.does(&["--institution", "4", "--key", &key, "doctors"]);
        let known = doctors["doctors"].as_array().unwrap();
        assert_eq!(known.len(), 1, "{doctors}");
        assert_eq!(known[0]["doctor"], self.facts["author"], "{doctors}");
    }

    /// A doctor enrols, the author stores one more record in the episode, the patient grants both; then the
    /// grant that was kept is revoked. Gives the new record.
    fn new_work_is_done(&self) -> String {
        let (patient, wang) = (
            self.person("patient", "patient"),
            self.person("doctor", "wang"),
        );
        let zhou = Person::new("doctor", &self.dev(), self.root.path(), "zhou");
        zhou.enrols_as_doctor("Zhou Min", 2);
        let more = self.root.path().join("follow-up.txt");
        fs::write(&more, "Follow-up: walks without help.\n").unwrap();
        let newer = store(&wang, &self.fact("author_episode"), &[&more]);
        let receipts = patient.does(&["receipts"]);
        assert_eq!(receipts["kept"], 1, "{receipts}");
        let request = ask(&zhou, &self.fact("inbox"), "1");
        patient.does(&["requests", "--wait", "60"]);
        patient.does(&["grant", &request, "--episode", &self.fact("episode")]);
        zhou.does(&["follow", &request]);
        let read = zhou.does(&["read", &request, "--into", &self.path("zhou-read")]);
        let records = read["records"].as_array().unwrap();
        assert_eq!(records.len(), 2, "{read}");
        let files = self.files();
        let old: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
        for one in records {
            let is_new = one["record"] == newer.as_str();
            let originals: &[&Path] = if is_new { &[&more] } else { &old };
            assert_files(&one["files"], originals);
        }
        // Its doctors are told only while the query manager knows their request, 31 days at most: what the
        // command says depends on the day, what the chain says does not.
        let grant = self.fact("grant");
        let revoking = patient.begins(&["revoke", &grant]);
        revoking.wait_with_output().unwrap();
        let listed = patient.does(&["grants"]);
        let grants = listed["grants"].as_array().unwrap();
        let found = grants.iter().find(|one| one["grant"] == grant.as_str());
        assert_eq!(found.unwrap()["revoked"], true, "{listed}");
        let lin = self.person("doctor", "lin");
        let request = self.fact("request");
        let why = lin.is_refused(&["read", &request, "--into", &self.path("after")]);
        assert!(why.contains("revoked"), "{why}");
        newer
    }
}

/// Starts a consortium that is there, with one setting of its roles' files at a century.
fn starts(folder: &Path, setting: &str) -> Region {
    let setting = format!("{setting}={CENTURY_DAYS}");
    Region {
        dev: Dev::start_by(folder, &["env", &setting], &[]),
        folder: fs::canonicalize(folder).unwrap(),
    }
}

const HOST: &str = "127.0.0.1:";

/// The port that a text begins with.
fn port(text: &str) -> &str {
    let end = text.find(|one: char| !one.is_ascii_digit());
    &text[..end.unwrap_or(text.len())]
}

/// The ports of a configuration's addresses.
fn ports(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(HOST).skip(1).map(|part| port(part).to_owned())
}

fn config_of(hospital: u32) -> String {
    format!("dev/hospital-{hospital}/node.toml")
}

/// `willis node verify`, which must find everything sound: what it says of the store.
fn verified(arguments: &[&str]) -> Value {
    let words = [&["node", "verify", "--json"], arguments].concat();
    let found: Value = serde_json::from_str(&done(&words)).unwrap();
    assert_eq!(found["ok"], true, "{found}");
    assert_eq!(found["stores"].as_array().unwrap().len(), 1, "{found}");
    found["stores"][0].clone()
}

/// A consortium is founded, a record stored, granted and read, backups and proofs taken, everything
/// stopped, and what lies on the disk packed.
fn keep(into: &Path, name: &str) {
    let root = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let aside = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let kept = Kept {
        root,
        facts: Value::Null,
    };
    let folder = kept.dev();
    let days = CENTURY_DAYS.to_string();
    let region = Region::start(&folder, &["--epoch-blocks", &EPOCH_BLOCKS.to_string()]);
    // On the chain stand a newcomer that never starts, a node's next key and a motion that stays open.
    let applied = region.applies("Hillside Hospital", scratch.path());
    let motion = region.puts(1, &["admit", applied.application.to_str().unwrap()]);
    for member in [2, 4] {
        region.approves(member, &motion);
    }
    region.member(3, &["succeed"]);
    region.puts(2, &["tier", "4", "secondary"]);
    region.dev.stop();
    let person = |role, name| Person::new(role, &folder, kept.root.path(), name);
    let officer = person("officer", "officer");
    let key = text(&officer.does(&["new"]), "key");
    let config = kept.path("dev/centre/centre.toml");
    let before = fs::read_to_string(&config).unwrap();
    let named = format!("{before}\n[[officers]]\nname = \"Fang\"\nkey = \"{key}\"\n");
    fs::write(&config, named).unwrap();

    let region = starts(&folder, "WILLIS_CENTRE_VALIDITY_DAYS");
    until("the third hospital votes under its next key", || {
        region.show()["institutions"][2]["votes"] == true
    });
    let (patient, wang, lin) = (
        person("patient", "patient"),
        person("doctor", "wang"),
        person("doctor", "lin"),
    );
    patient.enrols_as_patient("Chen Mei");
    wang.enrols_as_doctor("Wang Li", 4);
    lin.enrols_as_doctor("Lin Hao", 1);
    fs::create_dir(kept.root.path().join("record")).unwrap();
    let files = kept.files();
    fs::copy(sample("community-hospital/admission.hl7"), &files[0]).unwrap();
    fs::write(&files[1], BUNDLE).unwrap();
    let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
    let (episode, at_wang) = begin_episode(&patient, &wang);
    let record = store(&wang, &at_wang, &files);
    assert_eq!(patient.does(&["receipts"])["kept"], 1);

    let inbox = text(&patient.does(&["inbox"]), "inbox");
    let minutes = (CENTURY_DAYS * 24 * 60).to_string();
    let granted = || {
        let request = ask(&lin, &inbox, "1");
        patient.does(&["requests", "--wait", "60"]);
        let words = ["grant", &request, "--episode", &episode];
        let so = ["--minutes", &minutes];
        let granted = patient.does(&[&words[..], &so].concat());
        lin.does(&["follow", &request]);
        (request, text(&granted["grants"][0], "grant"))
    };
    let (request, grant) = granted();
    let read = lin.does(&["read", &request, "--into", &aside("read")]);
    assert_files(&read["records"][0]["files"], &files);
    let (unread_request, unread_grant) = granted();
    let (revoked_request, revoked_grant) = granted();
    patient.does(&["revoke", &revoked_grant]);

    let agent = person("agent", "agent");
    let offer = text(&agent.does(&["offer"]), "offer");
    let (sealed, class) = (aside("appointment"), "medication");
    let words = ["appoint", "--episode", &episode, "--offer", &offer];
    let so = ["--class", class, "--days", &days, "--out", &sealed];
    let appointed = patient.does(&[&words[..], &so].concat());
    let appointment = text(&appointed, "appointment");
    agent.does(&["accept", &sealed]);

    let founding = kept.path("dev/founding");
    for (claim, id) in [
        ("record", &record),
        ("grant", &grant),
        ("access-log", &grant),
    ] {
        let file = kept.path(&format!("{claim}.proof"));
        done(&["proof", claim, id, "--founding", &founding, "--out", &file]);
    }
    let (secret, file) = (
        kept.path("centre-backup.passphrase"),
        kept.path("centre-backup"),
    );
    fs::write(&secret, "four random words here\n").unwrap();
    let words = ["centre-records", "back-up", "--config", &config];
    let so = ["--out", &file, "--passphrase-file", &secret];
    done(&[&words[..], &so].concat());
    let nodes = Nodes::of(&folder.join("founding"));
    until("a snapshot is written", || {
        nodes.highest() > EPOCH_BLOCKS * SNAPSHOT_EPOCHS
    });
    for hospital in HOSPITALS {
        let snapshots = folder.join(format!("hospital-{hospital}/data/snapshots"));
        until("every node has written it", || {
            fs::read_dir(&snapshots).is_ok_and(|mut files| files.next().is_some())
        });
    }
    let file = kept.path("backup");
    let config = kept.path(&config_of(2));
    done(&["node", "back-up", "--config", &config, "--out", &file]);
    let facts = json!({
        "release": env!("CARGO_PKG_VERSION"),
        "subject": patient.does(&["status"])["subject"].to_string(),
        "author": wang.does(&["uid"])["doctor"],
        "author_episode": at_wang,
        "episode": episode,
        "episodes": patient.does(&["episodes"])["episodes"],
        "words": patient.does(&["words"])["words"],
        "inbox": inbox,
        "record": record,
        "request": request,
        "grant": grant,
        "unread_request": unread_request,
        "unread_grant": unread_grant,
        "revoked_request": revoked_request,
        "revoked_grant": revoked_grant,
        "appointment": appointment,
        "agent_inbox": agent.does(&["inbox", &appointment])["inbox"],
        "institutions": region.show()["institutions"],
    });
    region.dev.stop();
    kept.pack(facts, into, name);
}

impl Kept {
    fn pack(&self, mut facts: Value, into: &Path, name: &str) {
        let heights: BTreeMap<String, Value> = HOSPITALS
            .iter()
            .map(|hospital| {
                let found = verified(&["--config", &self.path(&config_of(*hospital))]);
                (hospital.to_string(), found["height"].clone())
            })
            .collect();
        facts["heights"] = json!(heights);
        let text = serde_json::to_string_pretty(&facts).unwrap();
        fs::write(self.root.path().join("facts.json"), text + "\n").unwrap();
        let tar = tempfile::NamedTempFile::new().unwrap();
        // A node's journal has room before it is written: the archive leaves holes out.
        run(Command::new("tar")
            .args(["--sparse", "--sort=name", "--owner=0", "--group=0"])
            .args(["--numeric-owner", "--exclude=*.log", "-cf"])
            .arg(tar.path())
            .arg("-C")
            .arg(self.root.path())
            .arg("."));
        let archive = fs::File::create_new(into.join(name)).unwrap();
        zstd::stream::copy_encode(tar.reopen().unwrap(), archive, PACKED_LEVEL).unwrap();
        let mut listed = listed(into);
        listed.insert(name.to_owned(), digest_of(&into.join(name)));
        let lines = listed
            .iter()
            .map(|(name, digest)| format!("{digest}  {name}\n"));
        fs::write(into.join("SHA256SUMS"), lines.collect::<String>()).unwrap();
    }
}
