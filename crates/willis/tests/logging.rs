//! What is never logged: a whole referral is played with everything logged that willis can say, and
//! what all processes said is searched for the secrets of that very run.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod people;
mod secrets;
mod watch;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use dev::{Dev, files};
use people::{Person, ask, begin_episode, sample, store, text};
use secrets::Secrets;
use serde_json::Value;
use workstation::{Keystore, KeystoreKind};

/// All that willis' own crates say, and what others warn of.
const LEVELS: &str = "warn,willis=trace,services=trace,chain=trace,client=trace,parties=trace,\
                      ledger=trace,scheme=trace,record=trace";

#[test]
fn the_search_finds_a_secret_however_it_is_written() {
    secrets::assert_search_finds_every_form();
}

fn hex_of(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim();
    (digits.len().is_multiple_of(2) && digits.len() >= 32)
        .then(|| {
            let pairs = (0..digits.len()).step_by(2);
            pairs
                .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
                .collect()
        })
        .flatten()
}

/// Keys of services and institutions, as they lie on the disk: each file's name says what it is.
fn add_files_of_services(secrets: &mut Secrets, dev: &Path) {
    let mut kinds = BTreeSet::new();
    for path in files(dev) {
        let name = path
            .strip_prefix(dev)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let kind = if name.ends_with(".key") {
            "keys"
        } else if name.contains("/hpke-keys/") {
            "hpke-keys"
        } else if name.contains("/writer/") {
            "writer"
        } else if name.contains("/grants/") {
            "grants"
        } else if name.starts_with("cloud/store/") {
            // A container's address is the name of its file.
            if let Some(address) = hex_of(path.file_name().unwrap().to_str().unwrap()) {
                secrets.add(&format!("the address of a container, {name}"), &address);
                kinds.insert("addresses");
            }
            continue;
        } else {
            continue;
        };
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some(key) = hex_of(&text) {
            secrets.add(&name, &key);
        } else if bytes.len() >= 16 {
            secrets.add(&name, &bytes);
        } else {
            continue;
        }
        kinds.insert(kind);
    }
    let expected = ["addresses", "grants", "hpke-keys", "keys", "writer"];
    assert_eq!(
        kinds,
        BTreeSet::from(expected),
        "the secrets of all kinds are there"
    );
}

/// The ids that stand on the chain or that both sides of a call know it by: logs may hold them.
fn except_ids(secrets: &mut Secrets, said: &Value) {
    match said {
        Value::Object(object) => {
            for (name, value) in object {
                let is_id = ["record", "request", "grant", "records", "grants"];
                if is_id.contains(&name.as_str()) {
                    except_all(secrets, value);
                }
                except_ids(secrets, value);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| except_ids(secrets, value)),
        _ => {}
    }
}

fn except_all(secrets: &mut Secrets, value: &Value) {
    match value {
        Value::String(text) => {
            if let Some(id) = hex_of(text).filter(|id| id.len() == 32) {
                secrets.except(&id);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| except_all(secrets, value)),
        _ => {}
    }
}

/// A call that a stranger makes: no TLS where TLS is spoken. Gives the address that it came from.
fn stranger(address: &str) -> String {
    let mut stream = TcpStream::connect(address.strip_prefix("https://").unwrap()).unwrap();
    let own = stream.local_addr().unwrap().to_string();
    stream
        .write_all(b"GET /v1/status?uid=stranger HTTP/1.1\r\n\r\n")
        .unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    own
}

#[test]
fn a_referral_logs_no_secret_and_no_address_of_anybody() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("dev");
    let levels = format!("WILLIS_LOG={LEVELS}");
    let by = ["env", &levels, "WILLIS_LOG_FORMAT=json"];
    let dev = Dev::start_by(&folder, &by, &[]);
    let person = |role, name| Person::new(role, &folder, root.path(), name);
    let (patient, author) = (person("patient", "patient"), person("doctor", "author"));
    let reader = person("doctor", "reader");
    let names = ["Chen Meiling", "Wang Lijuan", "Lin Haoran"];
    patient.enrols_as_patient(names[0]);
    author.enrols_as_doctor(names[1], 4);
    reader.enrols_as_doctor(names[2], 1);

    let uid = author.does(&["uid"]);
    let (episode, at_author) = begin_episode(&patient, &author);
    let plaintexts = [
        sample("community-hospital/stroke-patient.json"),
        sample("community-hospital/admission.hl7"),
    ];
    let paths: Vec<&Path> = plaintexts.iter().map(AsRef::as_ref).collect();
    let record = store(&author, &at_author, &paths);
    assert_eq!(patient.does(&["receipts"])["kept"], 1);
    let inbox = text(&patient.does(&["inbox"]), "inbox");
    let request = ask(&reader, &inbox, "1");
    patient.does(&["requests", "--wait", "30"]);
    let granted = patient.does(&["grant", &request, "--episode", &episode]);
    reader.does(&["follow", &request]);
    let into = root.path().join("read");
    let read = reader.does(&["read", &request, "--into", into.to_str().unwrap()]);
    assert_eq!(read["records"].as_array().unwrap().len(), 1, "{read}");
    let words = text(&patient.does(&["words"]), "words");

    // While the grant runs its files are there.
    let mut secrets = Secrets::default();
    add_files_of_services(&mut secrets, &folder);
    // What a person's program does not do goes wrong, and is logged as such.
    let services = dev.ready["services"].as_array().unwrap();
    let strangers: Vec<String> = services
        .iter()
        .map(|service| stranger(service["address"].as_str().unwrap()))
        .collect();
    patient.does(&["revoke", granted["grants"][0]["grant"].as_str().unwrap()]);
    let after = root.path().join("after");
    reader.is_refused(&["read", &request, "--into", after.to_str().unwrap()]);

    let mut shown = Vec::new();
    for role in watch::all(&dev.ready) {
        for path in ["/live", "/ready", "/metrics"] {
            shown.push((
                format!("{} {path}", role.role),
                role.get(path).1.into_bytes(),
            ));
        }
    }
    let everyone = [
        (&patient, KeystoreKind::Patient, "patient"),
        (&author, KeystoreKind::Doctor, "author"),
        (&reader, KeystoreKind::Doctor, "reader"),
    ];
    for (person, kind, name) in everyone {
        let passphrase = format!("the passphrase of {name}");
        let (_open, content) = Keystore::open(&person.keystore, kind, &passphrase).unwrap();
        secrets.add(&format!("what the {name} keeps"), &content);
        secrets.add(
            &format!("the passphrase of the {name}"),
            passphrase.as_bytes(),
        );
    }
    secrets.add("the 24 words", words.as_bytes());
    secrets.add("the inbox", inbox.as_bytes());
    let uid = text(&uid, "uid");
    secrets.add_text("a UID", &uid);
    for path in &plaintexts {
        let name = format!("the plaintext of {}", path.display());
        secrets.add(&name, &std::fs::read(path).unwrap());
    }
    for name in names {
        secrets.add_text("a name", name);
    }
    secrets.add_text("a birth date", "1951-03-08");
    secrets.add_text("a signed call", "willis key=");
    secrets.add_text("what a stranger sent", "uid=stranger");
    let shelved = workstation::shelf::from_files(&plaintexts).unwrap();
    let mut looked_for = 0;
    for keyword in shelved.record.keywords().0.iter() {
        let keyword = keyword.as_str();
        if keyword.len() >= 6 {
            secrets.add_text("a keyword", keyword);
            looked_for += 1;
        }
    }
    assert!(looked_for > 3, "{looked_for} keywords");
    for address in &strangers {
        secrets.add_text("where a caller is", address);
    }
    assert!(secrets.count() > 20_000, "{}", secrets.count());
    // What stands on the chain, or is public.
    for said in [patient.does(&["episodes"]), patient.does(&["grants"])] {
        except_ids(&mut secrets, &said);
    }
    for said in [&read, &granted, &reader.does(&["requests"])] {
        except_ids(&mut secrets, said);
    }
    for id in [&record, &request] {
        secrets.except(&hex_of(id).unwrap());
    }
    for file in files(&folder.join("founding")) {
        secrets.except(&std::fs::read(file).unwrap());
    }

    let logs: Vec<PathBuf> = services
        .iter()
        .map(|service| service["log"].as_str().unwrap().into())
        .collect();
    dev.stop();
    let mut lines = 0;
    for log in logs {
        let said = std::fs::read(&log).unwrap();
        for line in said
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let object: Value = serde_json::from_slice(line)
                .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(line)));
            for field in ["timestamp", "level", "target", "message"] {
                assert!(object[field].is_string(), "{object}");
            }
            lines += 1;
        }
        shown.push((log.display().to_string(), said));
    }
    // The nodes alone say as much of each block.
    assert!(lines > 100, "{lines} lines are logged");
    for (who, said) in shown {
        let found = secrets.found_in(&said);
        assert!(found.is_empty(), "{who} shows {}", found.join("\n"));
    }
}

/// What a referral does not come by: no line of any role's source logs what is a person's or leads to a
/// container.
#[test]
fn no_line_of_the_source_logs_what_is_never_logged() {
    let never = [
        "address",
        "uid",
        "pid",
        "keyword",
        "passphrase",
        "seed",
        "words",
        "purpose",
        "handle",
        "inbox",
        "authorization",
        "secret",
        "token",
        "share",
        "trapdoor",
        "ip",
    ];
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut lines = 0;
    for path in files(&crates) {
        let shown = path.to_string_lossy().into_owned();
        if !shown.ends_with(".rs") || !shown.contains("/src/") {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        for level in ["trace!(", "debug!(", "info!(", "warn!(", "error!("] {
            for (place, _) in source.match_indices(level) {
                let before = source[..place].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    continue;
                }
                let fields = fields(&source[place + level.len()..]);
                lines += 1;
                for word in fields.split(|c: char| !c.is_ascii_alphanumeric()) {
                    assert!(!never.contains(&word), "{shown} logs {word}: {fields}");
                }
            }
        }
    }
    assert!(lines > 60, "{lines} lines");
}

/// What a line logs, without its texts and without what was made unrecognisable.
fn fields(after: &str) -> String {
    let (mut depth, mut text, mut found) = (1, false, String::new());
    for c in after.chars() {
        match c {
            '"' => text = !text,
            '(' if !text => depth += 1,
            ')' if !text => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if !text {
            found.push(c);
        }
    }
    while let Some(start) = found.find("logged(") {
        let end = found[start..]
            .find(')')
            .map_or(found.len(), |end| start + end + 1);
        found.replace_range(start..end, "");
    }
    found.to_lowercase()
}
