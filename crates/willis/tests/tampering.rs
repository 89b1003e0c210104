//! Any byte that carries meaning in a file that willis writes, flipped: it is noticed, with a text that names
//! what is wrong, or repaired from those who have it whole; or the byte carries none, and every answer is the
//! one of before. Nothing panics, hangs, or answers otherwise in silence.
//!
//! The offline part flips bytes in what a full run left of every role and person (`tests/kept`) and has the
//! program, or the library's function that it calls, read each file again. The other part damages files of a
//! consortium that is stopped, starts it, and sees what it says and still serves.
//!
//! Of a small file every byte is flipped, of a larger one a seeded sample. `WILLIS_FLIPS` says how many of
//! a file (24 by default; some kinds, which cost seconds, take a part of it), `WILLIS_FLIPS_SEED` which, and
//! with `WILLIS_FLIPS_TOTALS` the counts are added to that JSON file (`docs/measured/faults.json`).
#![allow(clippy::unwrap_used, reason = "a test")]

mod archive;
mod dev;
mod moments;
mod nodes;
mod people;
mod totals;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use chain::{SnapshotStatement, verify_store};
use client::{Founding, ProofFile, TlsIdentity, sentence};
use dev::{Dev, files};
use moments::Moments;
use nodes::{Nodes, until};
use people::{Person, ask, assert_files, begin_episode, sample, store, text};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{ServerName, UnixTime};
use serde_json::Value;
use workstation::{Keystore, KeystoreKind};

/// Flips of a file unless the environment says otherwise.
const FLIPS: usize = 24;
/// Within which a command has to end.
const BOUND: Duration = Duration::from_secs(120);

/// What became of a flipped byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// An error says which file, record or block, or `--check` shows the changed value.
    Named,
    /// The others gave what was damaged.
    Repaired,
    /// Every answer is that of before.
    WithoutMeaning,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    named: u64,
    repaired: u64,
    without_meaning: u64,
}

impl Count {
    fn flipped(self) -> u64 {
        self.named + self.repaired + self.without_meaning
    }
}

/// Flips, and what became of them by kind of file.
struct Campaign {
    counts: BTreeMap<&'static str, Count>,
    flips: usize,
    random: Moments,
}

/// Which bytes of a file can be flipped without a change of meaning: the file, the place, and what
/// stands there now.
type Idle = fn(&[u8], usize, u8) -> bool;

fn none(_: &[u8], _: usize, _: u8) -> bool {
    false
}

/// Where the answer shows by itself that nothing else is meant.
fn anything(_: &[u8], _: usize, _: u8) -> bool {
    true
}

/// Hexadecimal digits mean the same in either case, and white space at the end nothing.
fn case_or_space(whole: &[u8], at: usize, now: u8) -> bool {
    let before = whole[at];
    let case = before.is_ascii_alphabetic() && before.eq_ignore_ascii_case(&now);
    let space = |byte: u8| char::from(byte).is_whitespace();
    case || (space(before) && space(now))
}

/// Of PEM the line's end behind its last line is outside of it.
fn behind_pem(whole: &[u8], at: usize, _: u8) -> bool {
    at + 1 == whole.len() && whole.ends_with(b"-----\n")
}

impl Campaign {
    fn new() -> Self {
        let number = |name: &str| std::env::var(name).ok()?.parse().ok();
        Self {
            counts: BTreeMap::new(),
            flips: number("WILLIS_FLIPS").map_or(FLIPS, |count: u64| count as usize),
            random: Moments(number("WILLIS_FLIPS_SEED").unwrap_or(0x77_69_6c_6c_69_73)),
        }
    }

    /// Places and bits of a file of this length: every byte, or so many.
    fn places(&mut self, length: usize, count: usize) -> Vec<(usize, u8)> {
        let all = length <= count;
        let count = count.min(length);
        (0..count)
            .map(|place| {
                let random = self.random.number();
                let at = if all { place } else { random as usize % length };
                (at, 1 << (random >> 61))
            })
            .collect()
    }

    fn counts(&mut self, kind: &'static str, outcome: Outcome) {
        let count = self.counts.entry(kind).or_default();
        match outcome {
            Outcome::Named => count.named += 1,
            Outcome::Repaired => count.repaired += 1,
            Outcome::WithoutMeaning => count.without_meaning += 1,
        }
    }

    /// Flips bytes of one file and has it read each time. An error must name one of `names`.
    fn flips(
        &mut self,
        kind: &'static str,
        file: &Path,
        count: usize,
        names: &[&str],
        idle: Idle,
        read: &mut dyn FnMut() -> Result<String, String>,
    ) {
        let whole = fs::read(file).unwrap();
        let before = read().unwrap_or_else(|why| panic!("{} is whole: {why}", file.display()));
        for (at, bit) in self.places(whole.len(), count) {
            let mut changed = whole.clone();
            changed[at] ^= bit;
            fs::write(file, &changed).unwrap();
            let place = format!(
                "{kind}, {}: byte {at} of {} is {:#04x} instead of {:#04x}",
                file.display(),
                whole.len(),
                changed[at],
                whole[at]
            );
            let outcome = match read() {
                Err(why) => {
                    let named = names.iter().any(|name| why.contains(name));
                    assert!(named, "{place}, and nobody is told where: {why}");
                    Outcome::Named
                }
                Ok(after) if after == before => {
                    assert!(idle(&whole, at, changed[at]), "{place}, and nobody notices");
                    Outcome::WithoutMeaning
                }
                // What can be meant is shown by the command that explains a configuration.
                Ok(after) => {
                    let shown = kind == CONFIGURATIONS || after.contains("note: ");
                    assert!(shown, "{place}, and the answer is {after}");
                    Outcome::Named
                }
            };
            self.counts(kind, outcome);
        }
        fs::write(file, whole).unwrap();
    }

    /// Prints the counts, and adds them to the file that the environment names.
    #[allow(clippy::print_stdout, reason = "the counts, for who looks")]
    fn tells(&self) {
        for (kind, count) in &self.counts {
            println!(
                "{kind}: {} flipped, {} named, {} repaired, {} without meaning",
                count.flipped(),
                count.named,
                count.repaired,
                count.without_meaning
            );
        }
        let Some(path) = std::env::var_os("WILLIS_FLIPS_TOTALS") else {
            return;
        };
        for (kind, count) in &self.counts {
            let counts = [
                ("flipped", count.flipped()),
                ("named", count.named),
                ("repaired", count.repaired),
                ("without meaning", count.without_meaning),
            ];
            totals::add(Path::new(&path), &["tampering", kind], &counts);
        }
    }
}

/// Runs a command that ends by itself, in good time and without a panic: what it said, or why not.
fn said(arguments: &[&str]) -> Result<String, String> {
    let child = Command::new(env!("CARGO_BIN_EXE_willis"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    assert!(
        begun.elapsed() < BOUND,
        "{arguments:?} takes {:?}",
        begun.elapsed()
    );
    let (out, error) = (
        String::from_utf8_lossy(&stdout).into_owned(),
        String::from_utf8_lossy(&stderr).into_owned(),
    );
    match status.code() {
        // A warning is part of what is shown.
        Some(0) => Ok(out + &error),
        Some(1 | 2) if !error.contains("panicked") => Err(out + &error),
        _ => panic!("{arguments:?} ends with {status}: {out}{error}"),
    }
}

const CONFIGURATIONS: &str = "configurations";

/// What the last process of a full run left.
struct Left {
    root: tempfile::TempDir,
}

impl Left {
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn founding(&self) -> Result<Founding, String> {
        Founding::open(&self.path("dev/founding")).map_err(|error| sentence(&error))
    }
}

fn left() -> Left {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kept");
    let own = concat!(env!("CARGO_PKG_VERSION"), ".tar.zst");
    Left {
        root: archive::unpack(&kept.join(own)),
    }
}

#[test]
fn what_parties_agree_on_and_are_told() {
    let left = left();
    let mut campaign = Campaign::new();
    let flips = campaign.flips;
    let folder = left.text("dev/founding");
    let mut opens = || {
        left.founding()
            .map(|founding| format!("{:?}", founding.signed()))
    };
    for (kind, file, idle) in [
        ("founding documents", "founding", none as Idle),
        ("directories of services", "services.toml", none),
        ("founders' signatures", "signatures/3", case_or_space),
    ] {
        let file = left.path("dev/founding").join(file);
        campaign.flips(kind, &file, flips, &[&folder], idle, &mut opens);
        // The command of an operator.
        let mut checks = || said(&["genesis", "check", &folder]);
        campaign.flips(kind, &file, 2, &[&folder], idle, &mut checks);
    }
    for (role, home) in [
        ("centre", "dev/centre"),
        ("query", "dev/query"),
        ("cloud", "dev/cloud"),
        ("hospital", "dev/hospital-2"),
        ("node", "dev/hospital-2"),
    ] {
        let (home, config) = (left.text(home), format!("{}/{role}.toml", left.text(home)));
        let mut checks = || said(&[role, "--config", &config, "--check"]);
        let (file, any) = (Path::new(&config), |_: &[u8], _: usize, _: u8| true);
        campaign.flips(CONFIGURATIONS, file, flips, &[&home], any, &mut checks);
        for key in keys_of(role) {
            let file = Path::new(&home).join(key);
            let mut checks = || match *key {
                // What it opens lies in the database, which `--check` does not open.
                "identity.key" => backs_up(&config, &left),
                // What is signed in it a service's callers check, not the service.
                "tls.pem" => is_believed(&file, &config, role),
                _ => said(&[role, "--config", &config, "--check"]),
            };
            let (kind, idle) = match *key {
                "tls.pem" => ("certificates", anything as Idle),
                "tls.key" => ("keys of services", behind_pem as Idle),
                _ => ("keys of services", case_or_space as Idle),
            };
            let named = [key, "the identity key is not the one"];
            campaign.flips(kind, &file, flips / 4, &named, idle, &mut checks);
        }
    }
    campaign.tells();
}

/// Has the role read its certificate, and judges it as a caller does, by the authority that the directory of
/// services names.
fn is_believed(file: &Path, config: &str, role: &str) -> Result<String, String> {
    said(&[role, "--config", config, "--check"])?;
    let identity = TlsIdentity::load(file, &file.with_extension("key")).unwrap();
    let authority = fs::read_to_string(file.with_file_name("authority.pem")).unwrap();
    let roots = Arc::new(client::authority(&authority).unwrap());
    let judge = WebPkiServerVerifier::builder_with_provider(roots, client::provider());
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    // On the day on which it was issued.
    let issued = fs::metadata(file.with_extension("key"))
        .unwrap()
        .modified()
        .unwrap();
    let issued = UnixTime::since_unix_epoch(issued.duration_since(UNIX_EPOCH).unwrap());
    let chain = identity.chain();
    let judge = judge.build().unwrap();
    judge
        .verify_server_cert(&chain[0], &chain[1..], &name, &[], issued)
        .map(|_| hex::encode(&chain[0]))
        .map_err(|error| format!("tls.pem is not believed: {error}"))
}

/// Opens the centre's records, and backs them up.
fn backs_up(config: &str, left: &Left) -> Result<String, String> {
    let (out, passphrase) = (left.text("again"), left.text("centre-backup.passphrase"));
    let words = [
        "centre-records",
        "back-up",
        "--config",
        config,
        "--out",
        &out,
    ];
    let done = said(&[&words[..], &["--passphrase-file", &passphrase]].concat());
    let _ = fs::remove_file(out);
    done
}

/// The key files that a role's configuration names.
fn keys_of(role: &str) -> &'static [&'static str] {
    match role {
        "centre" => &["service.key", "identity.key", "tls.key", "tls.pem"],
        "query" => &["tls.key", "tls.pem"],
        "cloud" => &["service.key", "tls.key", "tls.pem"],
        "hospital" => &["institution.key", "tls.key", "tls.pem"],
        _ => &["node.key"],
    }
}

#[test]
fn what_people_keep_and_hand_on() {
    let left = left();
    let mut campaign = Campaign::new();
    let flips = campaign.flips;
    for (name, kind) in [
        ("patient", KeystoreKind::Patient),
        ("wang", KeystoreKind::Doctor),
        ("agent", KeystoreKind::Agent),
        ("officer", KeystoreKind::Officer),
    ] {
        let file = left.path(&format!("{name}.keystore"));
        let passphrase = fs::read_to_string(left.path(&format!("{name}.passphrase"))).unwrap();
        let mut opens = || {
            let opened = Keystore::open(&file, kind, passphrase.trim_end());
            opened
                .map(|(_, content)| hex::encode(content.as_slice()))
                .map_err(|error| sentence(&error))
        };
        let named = left.text(&format!("{name}.keystore"));
        campaign.flips(
            "keystores",
            &file,
            flips / 4,
            &[&named],
            case_or_space,
            &mut opens,
        );
    }
    let founding = left.text("dev/founding");
    for claim in ["record", "grant", "access-log"] {
        let (path, named) = (
            left.path(&format!("{claim}.proof")),
            left.text(&format!("{claim}.proof")),
        );
        let genesis = left.founding().unwrap().genesis;
        let mut checks = || {
            let file = ProofFile::decode(&fs::read(&path).unwrap());
            let proved = file.and_then(|file| file.check(&genesis));
            proved
                .map(|proved| format!("{proved:?}"))
                .map_err(|error| format!("{named}: {}", sentence(&error)))
        };
        campaign.flips("proof files", &path, flips, &[&named], none, &mut checks);
        let mut checks = || said(&["proof", "check", &named, "--founding", &founding]);
        campaign.flips("proof files", &path, 2, &[&named], none, &mut checks);
    }
    campaign.tells();
}

#[test]
fn what_operators_keep() {
    let left = left();
    let mut campaign = Campaign::new();
    let flips = campaign.flips;
    let founding = left.text("dev/founding");
    let backup = left.text("backup");
    let mut verifies = || {
        said(&[
            "node",
            "verify",
            "--json",
            "--founding",
            &founding,
            "--backup",
            &backup,
        ])
    };
    let file = left.path("backup");
    campaign.flips(
        "backups of the chain",
        &file,
        flips / 4,
        &[&backup],
        none,
        &mut verifies,
    );

    let (config, backup) = (
        left.text("dev/centre/centre.toml"),
        left.text("centre-backup"),
    );
    let passphrase = left.text("centre-backup.passphrase");
    let centre = left.path("dev/centre");
    let mut restores = || {
        for entry in fs::read_dir(&centre).unwrap() {
            let path = entry.unwrap().path();
            if path.to_str().unwrap().contains("records.sqlite") {
                fs::remove_file(path).unwrap();
            }
        }
        let words = [
            "centre-records",
            "restore",
            "--config",
            &config,
            "--from",
            &backup,
        ];
        said(&[&words[..], &["--passphrase-file", &passphrase]].concat())
    };
    let file = left.path("centre-backup");
    campaign.flips(
        "centre's backups",
        &file,
        flips / 4,
        &[&backup],
        none,
        &mut restores,
    );

    let consortium = left.founding().unwrap().consortium();
    for part in ["79", "79.statement"] {
        let home = left.path("dev/hospital-2/data/snapshots");
        // What whoever begins with it compares: the statement's signature, then the bytes with it.
        let mut compares = || {
            let statement =
                SnapshotStatement::decode(&fs::read(home.join("79.statement")).unwrap());
            let statement = statement.map_err(|error| format!("79: {}", sentence(&error)))?;
            let signed = statement.verify(&consortium);
            signed.map_err(|error| format!("79: {}", sentence(&error)))?;
            let bytes = fs::read(home.join("79")).unwrap();
            let same =
                scheme::sha256(&bytes) == statement.digest && bytes.len() as u64 == statement.bytes;
            match same {
                true => Ok(hex::encode(statement.encode())),
                false => Err("79: it is not what was signed".to_owned()),
            }
        };
        let file = home.join(part);
        campaign.flips("snapshots", &file, flips, &["79"], none, &mut compares);
    }

    let layout = left.path("dev/hospital-2/data/layout");
    let config = left.text("dev/hospital-2/node.toml");
    let mut verifies = || said(&["node", "verify", "--json", "--config", &config]);
    campaign.flips(
        "layouts",
        &layout,
        flips / 8,
        &["layout"],
        none,
        &mut verifies,
    );
    campaign.tells();
}

/// A node's state: the store's own checks, or the chain executed again, find what was flipped in any of its
/// files; what is found nowhere lies in room that is not in use yet, or was in use before.
#[test]
fn a_nodes_state() {
    const KIND: &str = "nodes' state";
    let left = left();
    let mut campaign = Campaign::new();
    let genesis = left.founding().unwrap().genesis;
    let states = left.path("dev/hospital-2/data/state");
    let state = fs::read_dir(&states)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let aside = tempfile::tempdir().unwrap();
    let copied = |to: &Path| {
        archive::run(
            Command::new("cp")
                .args(["-R", "--sparse=always"])
                .arg(&state)
                .arg(to),
        );
    };
    let verifies = |folder: &Path| -> Result<String, String> {
        let scratch = tempfile::tempdir().unwrap();
        let found = verify_store(folder, &genesis, scratch.path(), &mut |_| {});
        let found = found.map_err(|error| sentence(&error))?;
        match found.is_sound() {
            true => Ok(format!("{} {:?}", found.height, found.compared)),
            false => Err(format!("{:?}", found.findings[0])),
        }
    };
    let sound = aside.path().join("sound");
    copied(&sound);
    let before = verifies(&sound).unwrap();
    for file in &files(&state) {
        let whole = fs::read(file).unwrap();
        // Room that is not written yet is zero.
        let used = whole
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        for (at, bit) in campaign.places(used, campaign.flips.div_ceil(8)) {
            let folder = aside.path().join("flipped");
            copied(&folder);
            let place = folder.join(file.strip_prefix(&state).unwrap());
            let mut changed = whole.clone();
            changed[at] ^= bit;
            fs::write(&place, &changed).unwrap();
            let said = verifies(&folder);
            let outcome = match said {
                Err(_) => Outcome::Named,
                Ok(after) => {
                    assert_eq!(after, before, "{} at {at}", file.display());
                    Outcome::WithoutMeaning
                }
            };
            campaign.counts(KIND, outcome);
            fs::remove_dir_all(&folder).unwrap();
        }
    }
    campaign.tells();
}

/// Services' records in SQLite, opened as a role opens them and then read whole. SQLite's own check finds what
/// does not fit together; what rows say was once under no checksum, and is under digests now.
#[test]
fn services_records() {
    const KIND: &str = "services' databases";
    let left = left();
    let mut campaign = Campaign::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for home in ["centre", "query", "cloud", "hospital-1", "hospital-4"] {
        let file = left.path(&format!("dev/{home}/records.sqlite"));
        let aside = tempfile::tempdir().unwrap();
        let copy = aside.path().join("records.sqlite");
        // What its log of writes holds is brought in first.
        for suffix in ["", "-wal"] {
            let from = format!("{}{suffix}", file.display());
            if Path::new(&from).exists() {
                fs::copy(from, format!("{}{suffix}", copy.display())).unwrap();
            }
        }
        let before = runtime.block_on(whole_database(&copy)).unwrap();
        assert!(before.len() > 500, "{before}");
        let whole = fs::read(&copy).unwrap();
        // What was deleted is overwritten with zeros, as is room that was never used.
        let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
        for (place, bit) in campaign.places(used.len(), campaign.flips) {
            let at = used[place];
            let mut changed = whole.clone();
            changed[at] ^= bit;
            fs::write(&copy, &changed).unwrap();
            for suffix in ["-wal", "-shm"] {
                let _ = fs::remove_file(format!("{}{suffix}", copy.display()));
            }
            let outcome = match runtime.block_on(whole_database(&copy)) {
                Err(why) => {
                    // A row that is none, a text that is no UTF-8 for example, is said when it is read.
                    let named = [copy.to_str().unwrap(), "the database failed", "has schema"];
                    let told = named.iter().any(|name| why.contains(name));
                    assert!(told, "{home}: byte {at}: {why}");
                    Outcome::Named
                }
                Ok(after) if after == before => Outcome::WithoutMeaning,
                Ok(_) => panic!("{home}: byte {at} is another, and nobody notices"),
            };
            campaign.counts(KIND, outcome);
        }
    }
    campaign.tells();
}

/// A damaged file was once tried again for ten seconds, and then said to be away: the operator looked for a
/// server that there is none of.
#[test]
fn a_damaged_database_is_named_at_once() {
    let left = left();
    let file = left.path("dev/centre/records.sqlite");
    let config = left.text("dev/centre/centre.toml");
    let whole = fs::read(&file).unwrap();
    let backs_up_with = |flipped: Option<usize>| {
        // A log of writes beside it would give what was flipped again, and belongs to another file.
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{suffix}", file.display()));
        }
        fs::write(&file, &whole).unwrap();
        if let Some(at) = flipped {
            flip(&file, at, 0x40);
        }
        backs_up(&config, &left)
    };
    backs_up_with(None).unwrap();
    // It is no database any more, and a page leads nowhere.
    for at in [3, 4_096] {
        let begun = Instant::now();
        let why = backs_up_with(Some(at)).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(9), "{why}");
        let named = why.contains(file.to_str().unwrap()) && why.contains("damaged");
        assert!(named, "{why}");
    }
    backs_up_with(None).unwrap();
}

/// Every row of every table, as text.
async fn whole_database(file: &Path) -> Result<String, String> {
    use services::{Database, DatabaseError, DatabaseLocation};
    let location = DatabaseLocation::Sqlite(file.to_owned());
    // As many steps as its schema has, which are all done.
    let version = match Database::open(&location, &[]).await {
        Err(error @ DatabaseError::Later { found, .. }) if !(1..=64).contains(&found) => {
            return Err(sentence(&error));
        }
        Err(DatabaseError::Later { found, .. }) => usize::try_from(found).unwrap_or(usize::MAX),
        Err(error) => return Err(sentence(&error)),
        Ok(_) => return Err("it has no schema".to_owned()),
    };
    let failed = |error: DatabaseError| sentence(&error);
    let database = Database::open(&location, &vec![""; version])
        .await
        .map_err(failed)?;
    let mut said = String::new();
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('willis_schema', 'willis_row_digests') ORDER BY name";
    let read = async {
        for table in database.rows(tables, &[]).await? {
            let table = table.text(0)?;
            let columns = format!("SELECT name FROM pragma_table_info('{table}')");
            let mut quoted = Vec::new();
            for column in database.rows(columns.leak(), &[]).await? {
                quoted.push(format!("quote(\"{}\")", column.text(0)?));
            }
            let rows = format!(
                "SELECT {} FROM \"{table}\" ORDER BY rowid",
                quoted.join(" || ',' || ")
            );
            for row in database.rows(rows.leak(), &[]).await? {
                said += &format!("{table}: {}\n", row.text(0)?);
            }
        }
        Ok(())
    };
    let read = read.await.map_err(failed);
    database.close().await;
    read.map(|()| said)
}

/// A consortium in which one record is stored, granted three times and read.
struct Region {
    root: tempfile::TempDir,
    patient: Person,
    author: Person,
    reader: Person,
    record: String,
    requests: Vec<String>,
    /// The patient's inbox, and the number of the stay at the patient and at the author.
    inbox: String,
    episode: String,
    at_author: String,
}

impl Region {
    /// Begins with one that runs, and leaves it running.
    fn begin(dev: &Path, root: tempfile::TempDir) -> Self {
        let person = |role, name| Person::new(role, dev, root.path(), name);
        let (patient, author, reader) = (
            person("patient", "patient"),
            person("doctor", "author"),
            person("doctor", "reader"),
        );
        patient.enrols_as_patient("Chen Mei");
        author.enrols_as_doctor("Wang Li", 4);
        reader.enrols_as_doctor("Lin Hao", 1);
        let (episode, at_author) = begin_episode(&patient, &author);
        let record = store(&author, &at_author, &[&original()]);
        assert_eq!(patient.does(&["receipts"])["kept"], 1);
        let inbox = text(&patient.does(&["inbox"]), "inbox");
        let mut region = Self {
            root,
            patient,
            author,
            reader,
            record,
            requests: Vec::new(),
            inbox,
            episode,
            at_author,
        };
        region.requests = (0..3).map(|_| region.granted()).collect();
        region.all_is_read();
        region
    }

    /// A request of the reader's for the stay, which the patient grants.
    fn granted(&self) -> String {
        let request = ask(&self.reader, &self.inbox, "1");
        self.patient.does(&["requests", "--wait", "30"]);
        self.patient
            .does(&["grant", &request, "--episode", &self.episode]);
        self.reader.does(&["follow", &request]);
        request
    }

    fn path(&self, name: &str) -> String {
        self.root.path().join(name).to_str().unwrap().to_owned()
    }

    fn dev(&self) -> PathBuf {
        self.root.path().join("dev")
    }

    /// By every grant, byte for byte.
    fn all_is_read(&self) {
        for request in &self.requests {
            let into = tempfile::tempdir().unwrap();
            let into = into.path().join("read");
            let words = ["read", request, "--into", into.to_str().unwrap()];
            let read = self.reader.does(&words);
            assert_files(&read["records"][0]["files"], &[&original()]);
        }
    }
}

fn original() -> PathBuf {
    sample("community-hospital/admission.hl7")
}

/// Flips a byte of a file where it lies.
fn flip(file: &Path, at: usize, bit: u8) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= bit;
    fs::write(file, bytes).unwrap();
}

#[test]
fn what_services_keep_while_a_consortium_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("dev");
    // Hospitals read what they stored without a rest, not once in some days.
    let dev = Dev::start_by(&folder, &["env", "WILLIS_HOSPITAL_SCRUB_DAYS=0"], &[]);
    let region = Region::begin(&folder, root);
    let mut campaign = Campaign::new();
    containers_are_refused_or_restored(&region, &mut campaign);
    copies_are_made_anew(&region, &mut campaign);
    let export = region.path("export");
    region.patient.does(&["export", "--into", &export]);
    dev.stop();
    exports_are_checked(&region, &mut campaign);
    nodes_serve_with_the_others(&region, &mut campaign);
    writer_keys_are_named_or_given_up(&region, &mut campaign);
    campaign.tells();
}

/// Of a container in the cloud: the author is told and given nothing, and the hospital, which reads in turn
/// what it stored, gives it again from its second store.
fn containers_are_refused_or_restored(region: &Region, campaign: &mut Campaign) {
    const KIND: &str = "containers in the cloud";
    let container = files(&region.dev().join("cloud/store")).pop().unwrap();
    let whole = fs::read(&container).unwrap();
    for (at, bit) in campaign.places(whole.len(), campaign.flips.div_ceil(4)) {
        flip(&container, at, bit);
        let whole_again = || fs::read(&container).is_ok_and(|now| now == whole);
        let into = tempfile::tempdir().unwrap();
        let into = into.path().join("own");
        let words = ["own", &region.record, "--into", into.to_str().unwrap()];
        // Unless the hospital was faster.
        if !whole_again() {
            let refused = region.author.tries(&words);
            assert!(refused.is_none_or(|why| why.contains("cloud")), "byte {at}");
        }
        until("the second store gave it again", whole_again);
        let _ = fs::remove_dir_all(&into);
        let own = region.author.does(&words);
        assert_files(&own["files"], &[&original()]);
        campaign.counts(KIND, Outcome::Repaired);
    }
}

/// Of the copy in the hospital's second store: it is read in turn too, and made anew from the cloud before it
/// is needed.
fn copies_are_made_anew(region: &Region, campaign: &mut Campaign) {
    let copies = files(&region.dev().join("hospital-4/second-store"));
    let [copy] = &copies[..] else {
        panic!("one record has one copy: {copies:?}")
    };
    let whole = fs::read(copy).unwrap();
    for (at, bit) in campaign.places(whole.len(), campaign.flips.div_ceil(4)) {
        flip(copy, at, bit);
        until("the copy was made anew", || {
            fs::read(copy).is_ok_and(|now| now == whole)
        });
        campaign.counts("copies in the second store", Outcome::Repaired);
    }
}

/// Of a hospital's server y of its writer epoch: what is no y is named, and another y than the chain says is
/// given up for a new writer epoch. What is stored under it is found.
fn writer_keys_are_named_or_given_up(region: &Region, campaign: &mut Campaign) {
    const KIND: &str = "writer keys";
    let dev = region.dev();
    let home = dev.join("hospital-4");
    let mut stored = 1;
    for _ in 0..campaign.flips.div_ceil(8) {
        let keys = files(&home.join("writer"));
        let [file] = &keys[..] else {
            panic!("one writer epoch is used: {keys:?}")
        };
        let whole = fs::read(file).unwrap();
        // The line's end means nothing.
        let (at, bit) = campaign.places(64, 1)[0];
        flip(file, at, bit);
        let digits = fs::read(file).unwrap();
        let now = digits[at];
        let log = home.join("hospital.log");
        let said_before = fs::read(&log).unwrap().len();
        let Ok(running) = panic::catch_unwind(|| Dev::start(&dev, &[])) else {
            let said = String::from_utf8(fs::read(&log).unwrap()).unwrap();
            let mut bytes = [0; 32];
            // 64 digits can be too large a number for a y.
            let is_y = hex::decode_to_slice(digits.trim_ascii(), &mut bytes).is_ok()
                && scheme::WriterEpochKey::from_bytes(&bytes).is_ok();
            assert!(!is_y, "{}", &said[said_before..]);
            let named = said[said_before..].contains(file.to_str().unwrap());
            assert!(named, "{}", &said[said_before..]);
            campaign.counts(KIND, Outcome::Named);
            fs::write(file, whole).unwrap();
            continue;
        };
        let another = !now.eq_ignore_ascii_case(&whole[at]);
        until("the writer epoch is the chain's", || {
            file.exists() != another && files(&home.join("writer")).len() == 1
        });
        let admission = original();
        let words = [
            "store",
            "--episode",
            &region.at_author,
            admission.to_str().unwrap(),
        ];
        region.author.does(&words);
        region.patient.does(&["receipts"]);
        stored += 1;
        let into = tempfile::tempdir().unwrap();
        let into = into.path().join("read");
        let request = region.granted();
        let read = ["read", &request, "--into", into.to_str().unwrap()];
        let read = region.reader.does(&read);
        assert_eq!(read["records"].as_array().unwrap().len(), stored, "{read}");
        running.stop();
        campaign.counts(
            KIND,
            match another {
                true => Outcome::Repaired,
                false => Outcome::WithoutMeaning,
            },
        );
    }
}

/// Of an export every file, but for what the command says that it does not prove.
fn exports_are_checked(region: &Region, campaign: &mut Campaign) {
    let folder = PathBuf::from(region.path("export"));
    let founding = Founding::open(&region.dev().join("founding")).unwrap();
    let mut checks = || {
        let checked = workstation::export::check(&folder, &founding.genesis);
        let checked = checked.map_err(|error| sentence(&error))?;
        match checked.wrong.is_empty() {
            true => Ok(format!("{checked:?}")),
            false => Err(checked.wrong.join("; ")),
        }
    };
    let named = [
        "record ",
        "grant ",
        "contents.json",
        "another consortium",
        "later release",
        "left out",
    ];
    for file in files(&folder) {
        // The founding document in it is for whoever has no other, and the check takes another; the text
        // beside it is for people.
        if file.ends_with("founding") || file.ends_with("README.txt") {
            continue;
        }
        let idle = match file.ends_with("contents.json") {
            true => patients_word,
            false => none as Idle,
        };
        let count = campaign.flips;
        campaign.flips("exports", &file, count, &named, idle, &mut checks);
    }
}

/// What an export says of itself and proves nothing of: `willis proof export` says so.
fn patients_word(whole: &[u8], at: usize, now: u8) -> bool {
    let mut changed = whole.to_vec();
    changed[at] = now;
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let (mut before, mut after) = (read(whole), read(&changed));
    for value in [&mut before, &mut after] {
        forget(
            value,
            &[
                "made", "hospital", "doctor", "doctors", "purpose", "classes", "by_agent", "record",
            ],
        );
    }
    before == after
}

fn forget(value: &mut Value, names: &[&str]) {
    match value {
        Value::Object(members) => {
            for name in names {
                members.remove(*name);
            }
            members.values_mut().for_each(|value| forget(value, names));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| forget(value, names)),
        // Hexadecimal digits mean the same in either case.
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            text.make_ascii_lowercase();
        }
        _ => {}
    }
}

/// What a node's log says if it cannot go on with the engine's files, followed by their folder.
const ENGINE_DAMAGED: &str = "if it stops with the same words, the engine's files in ";

/// Of one node the grants, then of another the HPKE keys, then of a third the engine's files: what is
/// damaged is named in its log, and every grant is read with the shares of the others.
fn nodes_serve_with_the_others(region: &Region, campaign: &mut Campaign) {
    let dev = region.dev();
    let data = |number: u32| dev.join(format!("hospital-{number}/data"));
    let log =
        |number: u32| fs::read_to_string(dev.join(format!("hospital-{number}/node.log"))).unwrap();

    let grants = files(&data(1).join("grants"));
    assert_eq!(grants.len(), 3, "{grants:?}");
    let kept: Vec<Vec<u8>> = grants.iter().map(|file| fs::read(file).unwrap()).collect();
    for file in &grants {
        let length = fs::metadata(file).unwrap().len() as usize;
        let (at, bit) = campaign.places(length, 1)[0];
        flip(file, at, bit);
    }
    let running = Dev::start(&dev, &[]);
    region.all_is_read();
    running.stop();
    for (file, kept) in grants.iter().zip(kept) {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(log(1).contains(name), "{name} is named: {}", log(1));
        campaign.counts("grants' files", Outcome::Named);
        fs::write(file, kept).unwrap();
    }

    let keys = files(&data(2).join("hpke-keys"));
    let kept: Vec<Vec<u8>> = keys.iter().map(|file| fs::read(file).unwrap()).collect();
    for file in &keys {
        let (at, bit) = campaign.places(32, 1)[0];
        flip(file, at, bit);
    }
    let running = Dev::start(&dev, &[]);
    region.all_is_read();
    running.stop();
    let said = log(2);
    assert!(said.contains("HPKE"), "{said}");
    for (file, kept) in keys.iter().zip(kept) {
        campaign.counts("nodes' HPKE keys", Outcome::Named);
        fs::write(file, kept).unwrap();
    }

    let nodes = Nodes::of(&dev.join("founding"));
    let engine: Vec<PathBuf> = files(&data(3).join("engine"))
        .into_iter()
        .filter(|file| fs::metadata(file).unwrap().len() > 0)
        .collect();
    for _ in 0..campaign.flips.div_ceil(12) {
        let file = &engine[campaign.random.below(engine.len() as u64) as usize];
        let Ok(whole) = fs::read(file) else {
            continue;
        };
        let (at, bit) = campaign.places(whole.len(), 1)[0];
        flip(file, at, bit);
        let said_before = log(3).len();
        // A node that says what is wrong and does not start is right as well, or stops where it reads it.
        let started = panic::catch_unwind(|| Dev::start(&dev, &["--restart"]));
        let repaired = started.is_ok_and(|running| {
            let followed = panic::catch_unwind(AssertUnwindSafe(|| {
                region.all_is_read();
                let height = nodes.highest();
                let end = Instant::now() + Duration::from_secs(40);
                let has_all = || nodes.height(3).is_some_and(|own| own >= height);
                while !has_all() && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(200));
                }
                has_all()
            }));
            // Where the node stops each time that it is started, all are ended after some times.
            match (running.end().success(), followed) {
                (true, Ok(has_all)) => has_all,
                (true, Err(failed)) => panic::resume_unwind(failed),
                (false, _) => false,
            }
        });
        // A log is gone on with at each start.
        let said = &log(3)[said_before..];
        if repaired {
            // One that stopped and went on when it was started again named it first.
            let stopped = said.contains("panicked");
            assert!(!stopped || said.contains(ENGINE_DAMAGED), "{said}");
            campaign.counts("nodes' engine files", Outcome::Repaired);
        } else {
            assert!(said.contains(ENGINE_DAMAGED), "{said}");
            campaign.counts("nodes' engine files", Outcome::Named);
            fs::write(file, whole).unwrap();
        }
    }
}
