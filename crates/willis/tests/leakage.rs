//! What each party ever held in a full run, searched for what it must not hold.
//!
//! A consortium of real processes runs behind relays that keep every byte which a service receives, of its
//! callers and of whom it calls, as plain HTTP (`tests/relay`). People enrol, a stay begins, a record of
//! texts that stand nowhere else is stored, asked for, granted, searched, read and revoked, once by the
//! patient and once by a family agent. What services received, every file of their folders (raw, while a grant
//! runs and at the end), every block, what nodes open with their own keys, and everything logged is then
//! searched for the secrets of that very run, in every form in which `tests/secrets` reads bytes, and for
//! texts as JSON, URLs and UTF-16 write them.
//!
//! [`ALLOWED`] says who may hold what, and why. It is exact: what it allows must be found, so that a search
//! that finds nothing fails, and what it does not allow must not.
//!
//! Nodes talk to each other under keys of their own, where no relay can stand. What one node did not get by
//! its service, read, make or log, it cannot tell another: the nodes' columns are judged together for what
//! comes from outside, and each node's own keys are looked for in all the others hold.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod nodes;
mod people;
mod region;
mod relay;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::Founding;
use dev::{Dev, done, files};
use nodes::{HOSPITALS, Nodes, until};
use parties::{CentreKeys, Patient};
use people::{Person, assert_files, begin_episode, store, text};
use record::SectionClass;
use region::free_addresses;
use relay::{Heards, Known, Relay};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use scheme::{
    ClassCode, DecodeError, Decoder, Grant, HpkePrivateKey, KeyVersion, Keyword, NodeNumber,
    PatientKeys, RootSeed, Trapdoor, Writer, WriterEpoch,
};
use secrets::Secrets;
use serde_json::Value;
use workstation::{Keystore, KeystoreKind};

/// All that willis' own crates say, and what others warn of.
const LEVELS: &str = "warn,willis=trace,services=trace,chain=trace,client=trace,parties=trace,\
                      ledger=trace,scheme=trace,record=trace";

/// Texts that stand nowhere else, each longer than a piece that is looked for.
const PATIENT: &str = "Wilhelmïna Zyqvortha-Brandewyck Jüŋbluth";
const DOCTOR: &str = "Xanthippe Orlovqvist-Fjärdingsby";
const READER: &str = "Ignatius Qwrtzmann-Abelóczky";
const PATIENTS_DOCUMENT: &str = "PQ-73419-ZKWVXJ-20856";
const DOCTORS_DOCUMENT: &str = "DR-18530-QLMBTN-97264";
const LICENCE: &str = "LIC-64207-HVYRCP-38915";
const BIRTH_DATE: &str = "1937-11-26";
const PURPOSE: &str = "thrombectomy decision, zephyrquill-4071 vojkandra brimstedt";
/// A word of this title is a keyword of the index.
const TITLE_WORD: &str = "quellmirrezorvanthebrixholm";
const NOTE: &str = "The patient fell at the Vroomhaven mill; 7f3kq9-XPLM-wundersalbe was given twice.\n\
                    Husband Gj\u{f8}rgen reports aphasia since 06:40, tinctura oblivionis \u{2014} refused.\n";
const NOTE_NAME: &str = "vroomhaven-mill-wundersalbe-7f3kq9.txt";
const BUNDLE_NAME: &str = "quellmirre-stay-xq40817-bundle.json";

/// Where a party holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    /// Sent to its service, or answered to its calls.
    Received,
    /// In a file of its folder, at any time that was looked at.
    Stored,
    /// In a block, or what it opens with its own keys of what it stores.
    Opened,
    /// Said by its process.
    Logged,
}

use Held::{Logged, Opened, Received, Stored};

const ACCOUNTING: &[&str] = &["node-1", "node-2", "node-3"];
const NODES: &[&str] = &["node-1", "node-2", "node-3", "node-4"];
const ANYWHERE: &[Held] = &[Received, Stored, Opened, Logged];

/// What, who may hold it, where, and why. Of whom it names each must be found to hold it, in one of these
/// ways; the author works at the fourth hospital, whose node does not account, and the reader at the first.
/// Beside it each service has its own keys, in its own files.
const ALLOWED: &[(&str, &[&str], &[Held], &str)] = &[
    (
        "patient's name",
        &["centre"],
        &[Received],
        "it checks who people are; what it stores of that is encrypted",
    ),
    (
        "patient's document",
        &["centre"],
        &[Received],
        "as the name",
    ),
    ("birth date", &["centre"], &[Received], "as the name"),
    ("doctor's name", &["centre"], &[Received], "as a patient's"),
    (
        "doctor's documents",
        &["centre"],
        &[Received],
        "as a patient's",
    ),
    (
        "UID",
        &["hospital-4"],
        &[Received, Stored],
        "its server gives it to its patient",
    ),
    (
        "inbox",
        &["query"],
        &[Received, Stored],
        "requests are left at it",
    ),
    (
        "inbox's salt",
        &["query"],
        &[Received, Stored],
        "it checks that the request is for this inbox",
    ),
    (
        "purpose",
        &["query"],
        &[Received, Stored],
        "who asks and why is what it passes on",
    ),
    (
        "purpose",
        ACCOUNTING,
        &[Received, Stored],
        "the request stands in the grant's outside, against which each node checks it",
    ),
    (
        "container",
        &["cloud", "hospital-4"],
        &[Received, Stored],
        "ciphertext: the hospital's server brings it, and keeps it in its second store",
    ),
    (
        "address",
        &["cloud", "hospital-4"],
        &[Received, Stored],
        "where that ciphertext lies",
    ),
    (
        "grant",
        ACCOUNTING,
        &[Received, Stored],
        "parts sealed to each node and each doctor",
    ),
    (
        "episode's key",
        ACCOUNTING,
        &[Received, Stored],
        "under it the grant is signed",
    ),
    (
        "trapdoor",
        ACCOUNTING,
        &[Opened],
        "they find by it what was granted, once they opened their part",
    ),
    (
        "log key",
        ACCOUNTING,
        &[Opened],
        "they check by it which record an access is for",
    ),
    ("gid", NODES, ANYWHERE, "it stands on the chain"),
    ("record's id", NODES, ANYWHERE, "it stands on the chain"),
    (
        "record's id",
        &["hospital-4"],
        ANYWHERE,
        "its server hands the record's transaction in",
    ),
    ("request's name", NODES, ANYWHERE, "it stands on the chain"),
    (
        "request's name",
        &["hospital-1"],
        ANYWHERE,
        "its server hands the request's transaction in",
    ),
    (
        "request's name",
        &["query"],
        ANYWHERE,
        "it looks the request up on the chain",
    ),
    (
        "digest",
        NODES,
        &[Received, Stored],
        "it stands on the chain",
    ),
    (
        "digest",
        NODES,
        &[Opened],
        "it stands on the chain: blocks were looked at",
    ),
    (
        "digest",
        &["cloud", "hospital-4"],
        ANYWHERE,
        "of the ciphertext that they keep",
    ),
];

/// Who may hold what, but need not in every run: which node leads decides.
const POSSIBLE: &[(&str, &[&str], &[Held], &str)] = &[
    (
        "container",
        ACCOUNTING,
        &[Received],
        "ciphertext: the master node of a grant checks it and streams it",
    ),
    (
        "request's name",
        &["cloud"],
        &[Received],
        "it follows the chain's blocks",
    ),
];

/// What no service may hold in any way.
const NOBODYS: &[&str] = &[
    KEYS,
    "pseudonym",
    "record's text",
    "keyword",
    "section's key",
    "label key",
    "receipt",
];

#[test]
fn the_search_finds_a_secret_however_it_is_written() {
    secrets::assert_search_finds_every_form();
    let mut secrets = Secrets::default();
    add_text(&mut secrets, "name", PATIENT);
    let found = |bytes: &[u8]| !secrets.names_in(bytes).is_empty();
    let escaped: String = PATIENT
        .chars()
        .map(|c| c.escape_unicode().to_string())
        .collect();
    assert!(!found(escaped.as_bytes()), "no common form");
    let url = PATIENT.replace(' ', "%20").replace('\u{ef}', "%C3%AF");
    for text in [
        PATIENT.to_owned(),
        format!("{PATIENT:?}"),
        serde_json::to_string(PATIENT).unwrap(),
        PATIENT
            .replace('\u{ef}', "\\u00ef")
            .replace('\u{fc}', "\\u00fc"),
        url.clone(),
        url.replace("%20", "+"),
    ] {
        assert!(found(format!("\0\u{1}{text}\0").as_bytes()), "{text}");
    }
    let units: Vec<u8> = PATIENT.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(found(&units));
    assert!(!found(DOCTOR.as_bytes()));
    secrets.add_exact("date", BIRTH_DATE.as_bytes());
    let dated = format!("\u{2}{BIRTH_DATE}\u{3}");
    assert!(secrets.names_in(dated.as_bytes()).contains("date"));
}

/// A consortium behind relays.
struct Region {
    dev: Dev,
    root: tempfile::TempDir,
    heards: Heards,
    _relays: Vec<Relay>,
}

/// The services, each with the field of its configuration that says where it listens.
fn services() -> Vec<(String, PathBuf, &'static str)> {
    let alone = ["centre", "query", "cloud"].map(|role| {
        let config = Path::new(role).join(format!("{role}.toml"));
        (role.to_owned(), config, "listen")
    });
    let of_hospitals = HOSPITALS.into_iter().flat_map(|number| {
        let home = PathBuf::from(format!("hospital-{number}"));
        [
            (
                format!("hospital-{number}"),
                home.join("hospital.toml"),
                "listen",
            ),
            (format!("node-{number}"), home.join("node.toml"), "serve"),
        ]
    });
    alone.into_iter().chain(of_hospitals).collect()
}

impl Region {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("dev");
        // Founded by a first start, of which nothing is kept: nobody has enrolled.
        Dev::start(&folder, &[]).stop();
        let folder = fs::canonicalize(folder).unwrap();
        // A hospital's server and its node share a certificate; to be told apart when they call, each gets
        // its own, of the same authority.
        for number in HOSPITALS {
            let home = folder.join(format!("hospital-{number}"));
            for kind in ["pem", "key"] {
                let (own, nodes) = (format!("tls.{kind}"), format!("node-tls.{kind}"));
                fs::copy(home.join(own), home.join(nodes)).unwrap();
            }
            done(&["tls", "renew", "--folder", home.to_str().unwrap()]);
        }
        let mut known = Vec::new();
        let mut places = Vec::new();
        let free = free_addresses::<11>();
        for ((name, config, field), behind) in services().into_iter().zip(free) {
            let config = folder.join(config);
            let home = config.parent().unwrap().to_owned();
            let text = fs::read_to_string(&config).unwrap();
            let mut file: toml::Table = toml::from_str(&text).unwrap();
            let at: SocketAddr = file[field].as_str().unwrap().parse().unwrap();
            file.insert(field.to_owned(), behind.to_string().into());
            let certificate = if name.starts_with("node") {
                let tls = file["tls"].as_table_mut().unwrap();
                tls.insert("certificate".to_owned(), "node-tls.pem".into());
                tls.insert("key".to_owned(), "node-tls.key".into());
                "node-tls"
            } else {
                "tls"
            };
            fs::write(&config, toml::to_string(&file).unwrap()).unwrap();
            known.push(Known {
                name,
                certificate: home.join(certificate).with_extension("pem"),
                key: home.join(certificate).with_extension("key"),
            });
            places.push((home, at, behind));
        }
        let known = Arc::new(known);
        let heards = Heards::default();
        let relays = known
            .iter()
            .zip(places)
            .map(|(service, (home, at, to))| Relay::start(service, &home, at, to, &known, &heards));
        let relays = relays.collect();
        let levels = format!("WILLIS_LOG={LEVELS}");
        let dev = Dev::start_by(&folder, &["env", &levels], &[]);
        Self {
            dev,
            root,
            heards,
            _relays: relays,
        }
    }

    fn folder(&self) -> PathBuf {
        fs::canonicalize(self.root.path().join("dev")).unwrap()
    }

    fn person(&self, role: &'static str, name: &str) -> Person {
        Person::new(role, &self.folder(), self.root.path(), name)
    }

    fn path(&self, name: &str) -> String {
        self.root.path().join(name).to_str().unwrap().to_owned()
    }
}

/// Enrols under texts that stand nowhere else.
fn enrols(person: &Person, name: &str, document: &str, more: &[&str]) {
    let identity = [
        "enrol",
        "--name",
        name,
        "--birth-date",
        BIRTH_DATE,
        "--document-kind",
        "passport",
        "--document-number",
        document,
        "--wait",
        "60",
    ];
    let found = person.does(&[&identity, more].concat());
    assert_eq!(found["state"], "registered", "{found}");
}

/// By secret and party: how it was held, and where the first of it was found.
type Matrix = BTreeMap<(String, String), BTreeMap<Held, String>>;

/// Everything that was kept of the parties.
#[derive(Default)]
struct Everything(Vec<(String, Held, String, Vec<u8>)>);

impl Everything {
    fn add(&mut self, party: &str, held: Held, place: &str, bytes: Vec<u8>) {
        self.0
            .push((party.to_owned(), held, place.to_owned(), bytes));
    }

    /// Every file of every folder, and what nodes open of what lies there.
    fn add_folders(&mut self, dev: &Path, founding: &Founding) {
        for file in files(dev) {
            let name = file.strip_prefix(dev).unwrap().to_str().unwrap();
            let Some(party) = keeper(name) else {
                continue;
            };
            // A file can be gone again, as one of a grant that just ended.
            let Ok(bytes) = fs::read(&file) else {
                continue;
            };
            let held = match name.ends_with(".log") {
                true => Logged,
                false => Stored,
            };
            self.add(&party, held, name, bytes);
        }
        for number in HOSPITALS {
            let data = dev.join(format!("hospital-{number}/data"));
            for opened in opened_grants(&data, founding) {
                self.add(&format!("node-{number}"), Opened, "a grant", opened);
            }
        }
    }

    /// A party of which nothing was kept would have no secrets either.
    fn is_of_every_party(&self) {
        for (party, ..) in services() {
            // Not every service says anything in a run in which nothing goes wrong; each node does.
            let held_by_all = [Received, Stored, Logged];
            let held = if party.starts_with("node") { 3 } else { 2 };
            for held in held_by_all.into_iter().take(held) {
                let of_it = |(name, how, _, bytes): &&(String, Held, String, Vec<u8>)| {
                    *name == party && *how == held && !bytes.is_empty()
                };
                let there = self.0.iter().any(|one| of_it(&one));
                assert!(there, "nothing is {held:?} by {party}");
            }
        }
    }

    fn searched(&self, secrets: &Secrets) -> Matrix {
        let mut matrix = Matrix::new();
        for (party, held, place, bytes) in &self.0 {
            for name in secrets.names_in(bytes) {
                let where_found = format!("{name} in {place}");
                let cell = matrix.entry((kind(&name), party.clone())).or_default();
                cell.entry(*held).or_insert(where_found);
            }
        }
        matrix
    }
}

/// Whose a file of the consortium's folder is; nobody's, if it is public or the tester's.
fn keeper(name: &str) -> Option<String> {
    let (folder, file) = name.split_once('/')?;
    if folder == "founding" {
        return None;
    }
    let Some(number) = folder.strip_prefix("hospital-") else {
        return Some(folder.to_owned());
    };
    let of_node = file.starts_with("data/") || file.starts_with("node");
    Some(match of_node {
        true => format!("node-{number}"),
        false => folder.to_owned(),
    })
}

/// A key file's bytes: 64 hexadecimal digits, or as they are.
fn key_bytes(file: &Path) -> Vec<u8> {
    let bytes = fs::read(file).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    hex::decode(text.trim()).unwrap_or(bytes)
}

/// What a node reads in the grants that it keeps: trapdoors, entries and the log key.
fn opened_grants(data: &Path, founding: &Founding) -> Vec<Vec<u8>> {
    let here = founding.consortium();
    let keys: Vec<HpkePrivateKey> = files_of(&data.join("hpke-keys"))
        .iter()
        .filter_map(|file| key_bytes(file).try_into().ok())
        .map(|seed: [u8; 32]| HpkePrivateKey::derive(&seed))
        .collect();
    let mut opened = Vec::new();
    for file in files_of(&data.join("grants")) {
        let Ok(bytes) = fs::read(file) else {
            continue;
        };
        let grant = Grant::decode(&here, &bytes).unwrap().verify(&here).unwrap();
        let numbers = (1..=HOSPITALS.len()).filter_map(|place| NodeNumber::new(place as u8));
        for (number, key) in numbers.flat_map(|number| keys.iter().map(move |key| (number, key))) {
            let Ok(part) = grant.open_node_part(&here, number, key) else {
                continue;
            };
            let mut bytes = part.log_key.expose_bytes().to_vec();
            for trapdoor in &part.reach.trapdoors {
                bytes.extend(trapdoor.trapdoor.expose_bytes());
            }
            opened.push(bytes);
        }
    }
    opened
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    match folder.exists() {
        true => files(folder),
        false => Vec::new(),
    }
}

/// A text in every way in which texts are commonly written.
fn add_text(secrets: &mut Secrets, kind: &str, text: &str) {
    secrets.add(&format!("{kind}: {text}"), text.as_bytes());
    let units: Vec<u16> = text.encode_utf16().collect();
    let escaped: String = text
        .chars()
        .map(|c| match c.is_ascii() {
            true => c.to_string(),
            false => format!("\\u{:04x}", c as u32),
        })
        .collect();
    let in_url = |space: &str| -> String {
        let one = |byte: &u8| match byte {
            b' ' => space.to_owned(),
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) => {
                char::from(*byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        };
        text.as_bytes().iter().map(one).collect()
    };
    let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    let debugged = format!("{text:?}");
    for (form, bytes) in [
        ("JSON", escaped.into_bytes()),
        ("JSON", serde_json::to_vec(text).unwrap()),
        ("a URL", in_url("%20").into_bytes()),
        ("a form", in_url("+").into_bytes()),
        ("a log", debugged.into_bytes()),
        ("UTF-16", little),
        ("UTF-16", big),
    ] {
        secrets.add(&format!("{kind}: {text} as {form} writes it"), &bytes);
    }
}

/// A keystore's content.
fn content(person: &Person, kind: KeystoreKind, name: &str) -> Vec<u8> {
    let passphrase = format!("the passphrase of {name}");
    let (_open, content) = Keystore::open(&person.keystore, kind, &passphrase).unwrap();
    content.to_vec()
}

const KEYS: &str = "a person's private key";

/// Of a patient's keystore (`spec/formats.md`, M26): the seed, every key that comes of it and leaves the
/// library, keys of grants and appointments, pseudonyms, receipts and the inbox.
fn add_patient(
    secrets: &mut Secrets,
    founding: &Founding,
    content: &[u8],
) -> Result<(), DecodeError> {
    const WHAT: &str = "a patient's keystore";
    let here = founding.consortium();
    let mut from = Decoder::new(content);
    from.u8(WHAT)?;
    let seed = from.array(WHAT)?;
    secrets.add(&format!("{KEYS}: the patient's seed"), &seed);
    from.bytes(WHAT, 8 + 16 + 8 + 1)?;
    let directory = from.var(WHAT, content.len())?;
    let seed = RootSeed::from_bytes(seed);
    let version = KeyVersion::new(0);
    let keys = PatientKeys::derive(&seed, version, &here);
    for (name, key) in [
        ("the directory's key", keys.directory.expose_bytes()),
        ("the inbox's key", keys.inbox.expose_bytes()),
        (
            "the centre's account",
            keys.accounts.key(&here, b"centre").expose_seed(),
        ),
        (
            "the query manager's account",
            keys.accounts.key(&here, b"query").expose_seed(),
        ),
        (
            "the hospital's account",
            keys.accounts.key(&here, b"hospital-4").expose_seed(),
        ),
    ] {
        secrets.add(&format!("{KEYS}: {name} of the patient"), key);
    }
    let centre = CentreKeys::founding(founding.genesis.centre);
    let patient = Patient::restore(here, centre, &seed, version, directory)?;
    let (handle, salt) = patient.inbox();
    secrets.add("inbox: the patient's", handle.as_bytes());
    secrets.add("inbox's salt: the patient's", &salt);
    for (place, episode) in patient.episodes() {
        secrets.add("pseudonym: of the stay", episode.pid.expose_bytes());
        let subkey = keys
            .symmetric
            .doctor_subkey(&here, episode.institution, episode.doctor);
        secrets.add(&format!("{KEYS}: SK_D"), subkey.expose_bytes());
        for class in SectionClass::ALL {
            let class = ClassCode::new(class.code());
            let label = patient.label_key(place, class).unwrap();
            secrets.add("label key: of a class", label.expose_bytes());
        }
        let writer = Writer {
            institution: episode.institution,
            epoch: WriterEpoch::new(0),
        };
        let any = Keyword::any_record();
        let trapdoor = Trapdoor::generate(&here, &keys.search, &episode.pid, writer, &any);
        secrets.add("trapdoor: of the stay", &trapdoor.expose_bytes());
        for receipt in &episode.receipts {
            let receipt = receipt.encode();
            secrets.add("receipt: LK and delta", &receipt[32..]);
        }
    }
    for grant in patient.grants() {
        secrets.add("log key: of a grant", grant.log_key.expose_bytes());
        secrets.add("gid: of a grant", grant.gid.as_bytes());
    }
    // What the library gives of no directory is read where it stands.
    let mut from = Decoder::new(directory);
    let former = {
        from.u8(WHAT)?;
        from.u8(WHAT)?
    };
    assert_eq!(former, 0, "this patient has no keys of before");
    from.bytes(WHAT, 32)?;
    for _ in 0..from.u32(WHAT)? {
        from.bytes(WHAT, 40)?;
    }
    from.var(WHAT, content.len())?;
    for _ in 0..from.u32(WHAT)? {
        from.bytes(WHAT, 1 + 4 + 8)?;
        from.var(WHAT, 64)?;
        from.bytes(WHAT, 8)?;
        let receipts = from.u32(WHAT)? as usize;
        from.bytes(WHAT, 80 * receipts)?;
        let epochs = from.u32(WHAT)? as usize;
        from.bytes(WHAT, 4 * epochs)?;
    }
    for _ in 0..from.u32(WHAT)? {
        secrets.add(
            &format!("{KEYS}: a grant's revocation key"),
            from.bytes(WHAT, 32)?,
        );
        from.bytes(WHAT, 4 + 32 + 8 + 32)?;
        let doctors = from.u32(WHAT)? as usize;
        from.bytes(WHAT, 64 * doctors)?;
        if from.u8(WHAT)? != 0 {
            from.bytes(WHAT, 8)?;
            from.var(WHAT, 256)?;
            let classes = usize::from(from.u8(WHAT)?);
            from.bytes(WHAT, classes)?;
            let team = usize::from(from.u8(WHAT)?);
            from.bytes(WHAT, 44 * team)?;
        }
        if from.u8(WHAT)? != 0 {
            from.bytes(WHAT, 32)?;
        }
    }
    for _ in 0..from.u32(WHAT)? {
        let key = from.bytes(WHAT, 32)?;
        secrets.add(&format!("{KEYS}: an appointment's withdrawal key"), key);
        from.u8(WHAT)?;
        if from.u8(WHAT)? != 0 {
            from.bytes(WHAT, 4)?;
            let classes = usize::from(from.u8(WHAT)?);
            from.bytes(WHAT, classes + 8)?;
        }
    }
    from.finish(WHAT)
}

/// Of a doctor's keystore: signing seed, HPKE key, s_D, pseudonyms, addresses, one-time keys.
fn add_doctor(secrets: &mut Secrets, name: &str, content: &[u8]) -> Result<(), DecodeError> {
    const WHAT: &str = "a doctor's keystore";
    let mut from = Decoder::new(content);
    from.bytes(WHAT, 1 + 4)?;
    for key in ["signing seed", "HPKE key", "s_D"] {
        let bytes = from.bytes(WHAT, 32)?;
        secrets.add(&format!("{KEYS}: the {name}'s {key}"), bytes);
    }
    from.bytes(WHAT, 16)?;
    from.var(WHAT, content.len())?;
    for _ in 0..from.u32(WHAT)? {
        let episode = from.var(WHAT, content.len())?;
        secrets.add("pseudonym: of the stay", &episode[..32]);
    }
    for _ in 0..from.u32(WHAT)? {
        let mut record = Decoder::new(from.var(WHAT, content.len())?);
        record.bytes(WHAT, 4)?;
        let receipt = record.bytes(WHAT, 80)?;
        secrets.add("record's id: on the chain", &receipt[..32]);
        secrets.add("receipt: LK and delta", &receipt[32..]);
        secrets.add("address: of the container", record.bytes(WHAT, 32)?);
    }
    for _ in 0..from.u32(WHAT)? {
        let mut kept = Decoder::new(from.var(WHAT, content.len())?);
        kept.var(WHAT, content.len())?;
        kept.bytes(WHAT, 32)?;
        kept.var(WHAT, 256)?;
        kept.bytes(WHAT, 8)?;
        kept.var(WHAT, 32)?;
        let mut reader = Decoder::new(kept.var(WHAT, content.len())?);
        reader.var(WHAT, 512)?;
        let key = reader.bytes(WHAT, 32)?;
        secrets.add(&format!("{KEYS}: a request's one-time HPKE key"), key);
        for _ in 0..reader.u8(WHAT)? {
            let key = reader.bytes(WHAT, 32)?;
            secrets.add(&format!("{KEYS}: a request's access key"), key);
        }
    }
    Ok(())
}

/// Of a grant (`spec/scheme.md`, E29): whose episode it is, and what is sealed in it.
fn add_grant(secrets: &mut Secrets, grant: &[u8]) -> Result<(), DecodeError> {
    const WHAT: &str = "a grant";
    let mut from = Decoder::new(grant);
    from.bytes(WHAT, 1 + 32)?;
    secrets.add("episode's key: E", from.bytes(WHAT, 96)?);
    from.bytes(WHAT, 32)?;
    from.var(WHAT, grant.len())?;
    let doctors = usize::from(from.u8(WHAT)?);
    from.bytes(WHAT, 64 * doctors + 24)?;
    let nodes = usize::from(from.u8(WHAT)?);
    from.bytes(WHAT, 64 * nodes)?;
    let (threshold, classes) = (usize::from(from.u8(WHAT)?), usize::from(from.u8(WHAT)?));
    from.bytes(WHAT, 576 * threshold * classes)?;
    for _ in 0..1 + nodes + doctors {
        secrets.add("grant: its sealed parts", from.var(WHAT, grant.len())?);
    }
    Ok(())
}

/// Of an agent's keystore: the keys of its offers and appointments.
fn add_agent(secrets: &mut Secrets, content: &[u8]) -> Result<(), DecodeError> {
    const WHAT: &str = "an agent's keystore";
    let mut from = Decoder::new(content);
    from.u8(WHAT)?;
    let offers = from.u32(WHAT)?;
    assert_eq!(offers, 0, "the offer was accepted");
    for _ in 0..from.u32(WHAT)? {
        let account = from.bytes(WHAT, 32)?;
        secrets.add(&format!("{KEYS}: the agent's account"), account);
        let mut kept = Decoder::new(from.var(WHAT, content.len())?);
        let offer = kept.var(WHAT, content.len())?;
        for key in ["signing seed", "HPKE key", "inbox key"].iter().enumerate() {
            let bytes = &offer[32 * key.0..][..32];
            secrets.add(&format!("{KEYS}: the agent's {}", key.1), bytes);
        }
        kept.var(WHAT, content.len())?;
        for _ in 0..kept.u32(WHAT)? {
            let key = kept.bytes(WHAT, 32)?;
            secrets.add(&format!("{KEYS}: the agent's revocation key"), key);
            kept.bytes(WHAT, 32)?;
            let doctors = kept.u32(WHAT)? as usize;
            kept.bytes(WHAT, 64 * doctors)?;
        }
        for _ in 0..from.u32(WHAT)? {
            from.var(WHAT, content.len())?;
        }
    }
    Ok(())
}

/// The keys of services and institutions, each its keeper's own.
fn add_keys_of_services(secrets: &mut Secrets, dev: &Path) {
    for file in files(dev) {
        let name = file.strip_prefix(dev).unwrap().to_str().unwrap();
        let is_key =
            name.ends_with(".key") || name.contains("/hpke-keys/") || name.contains("/writer/");
        let Some(party) = keeper(name).filter(|_| is_key) else {
            continue;
        };
        let bytes = key_bytes(&file);
        // What stands before and after the number itself in a PEM file is every key's, or public.
        let bytes = match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(key) => {
                let key = key.secret_der();
                let begin = [2, 1, 1, 4, 32];
                let at = key.windows(5).position(|window| window == begin);
                key[at.unwrap() + 5..][..32].to_vec()
            }
            Err(_) => bytes,
        };
        if bytes.len() >= 16 {
            secrets.add(&format!("key of {party}: {name}"), &bytes);
        }
    }
}

#[test]
fn nobody_holds_what_is_not_theirs() {
    let region = Region::start();
    let folder = region.folder();
    let founding = Founding::open(&folder.join("founding")).unwrap();
    let nodes = Nodes::of(&folder.join("founding"));
    let (patient, author) = (
        region.person("patient", "patient"),
        region.person("doctor", "author"),
    );
    let (reader, agent) = (
        region.person("doctor", "reader"),
        region.person("agent", "agent"),
    );
    enrols(&patient, PATIENT, PATIENTS_DOCUMENT, &[]);
    for (doctor, name, institution) in [(&author, DOCTOR, "4"), (&reader, READER, "1")] {
        let more = ["--licence-number", LICENCE, "--institution", institution];
        enrols(doctor, name, DOCTORS_DOCUMENT, &more);
    }
    let (episode, at_author) = begin_episode(&patient, &author);
    let uid = text(&author.does(&["episodes"])["episodes"][0], "uid");
    let bundle = serde_json::json!({"resourceType": "Bundle", "type": "collection", "entry": [
        {"resource": {"resourceType": "Patient", "id": "p1", "name": [{"text": PATIENT}],
            "identifier": [{"value": PATIENTS_DOCUMENT}], "birthDate": BIRTH_DATE}},
        {"resource": {"resourceType": "Condition", "id": "c1", "subject": {"reference": "Patient/p1"},
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": "230690007"}],
                "text": format!("Acute stroke after {TITLE_WORD}")}}},
        {"resource": {"resourceType": "MedicationStatement", "id": "m1",
            "subject": {"reference": "Patient/p1"}, "status": "active",
            "medicationCodeableConcept": {"text": "wundersalbe extracta 71 mg, brewed by moonlight"}}},
    ]});
    let originals = [BUNDLE_NAME, NOTE_NAME].map(|name| region.root.path().join(name));
    fs::write(&originals[0], serde_json::to_vec(&bundle).unwrap()).unwrap();
    fs::write(&originals[1], NOTE).unwrap();
    let originals: Vec<&Path> = originals.iter().map(AsRef::as_ref).collect();
    let record = store(&author, &at_author, &originals);
    assert_eq!(patient.does(&["receipts"])["kept"], 1);

    let asks = |inbox: &str| {
        let words = [
            "ask",
            "--inbox",
            inbox,
            "--episodes",
            "1",
            "--purpose",
            PURPOSE,
        ];
        text(&reader.does(&words), "request")
    };
    let inbox = text(&patient.does(&["inbox"]), "inbox");
    let request = asks(&inbox);
    patient.does(&["requests", "--wait", "30"]);
    let granted = patient.does(&["grant", &request, "--episode", &episode]);
    reader.does(&["follow", &request]);
    let found = reader.does(&["search", &request[..8]]);
    assert_eq!(found["hits"].as_array().unwrap().len(), 1, "{found}");
    let read = reader.does(&["read", &request, "--into", &region.path("read")]);
    assert_eq!(read["records"][0]["record"], record.as_str(), "{read}");
    assert_files(&read["records"][0]["files"], &originals);

    let offer = text(&agent.does(&["offer"]), "offer");
    let sealed = region.path("appointment");
    let scope = [
        "--class",
        "history",
        "--class",
        "medication",
        "--out",
        &sealed,
    ];
    let appoint = ["appoint", "--episode", &episode, "--offer", &offer];
    let appointed = text(
        &patient.does(&[&appoint[..], &scope].concat()),
        "appointment",
    );
    agent.does(&["accept", &sealed]);
    let agents_inbox = text(&agent.does(&["inbox", &appointed]), "inbox");
    let asked_of_agent = asks(&agents_inbox);
    agent.does(&["requests", "--wait", "30"]);
    agent.does(&["grant", &asked_of_agent]);
    reader.does(&["follow", &asked_of_agent]);
    let by_agent = reader.does(&["read", &asked_of_agent, "--into", &region.path("by-agent")]);
    assert_eq!(
        by_agent["records"].as_array().unwrap().len(),
        1,
        "{by_agent}"
    );
    patient.does(&["grants"]);

    // While grants run their files are there, and the one-time keys of who reads.
    let mut everything = Everything::default();
    everything.add_folders(&folder, &founding);
    let mut secrets = Secrets::default();
    add_keys_of_services(&mut secrets, &folder);
    add_doctor(
        &mut secrets,
        "reader",
        &content(&reader, KeystoreKind::Doctor, "reader"),
    )
    .unwrap();
    add_doctor(
        &mut secrets,
        "author",
        &content(&author, KeystoreKind::Doctor, "author"),
    )
    .unwrap();
    add_agent(&mut secrets, &content(&agent, KeystoreKind::Agent, "agent")).unwrap();
    let held = content(&patient, KeystoreKind::Patient, "patient");
    add_patient(&mut secrets, &founding, &held).unwrap();
    let words = text(&patient.does(&["words"]), "words");
    secrets.add(&format!("{KEYS}: the 24 words"), words.as_bytes());
    for name in ["patient", "author", "reader", "agent"] {
        let passphrase = format!("the passphrase of {name}");
        secrets.add(&format!("{KEYS}: {passphrase}"), passphrase.as_bytes());
    }
    let export = region.path("export");
    patient.does(&["export", "--into", &export]);
    let contents = fs::read(Path::new(&export).join("contents.json")).unwrap();
    let contents: Value = serde_json::from_slice(&contents).unwrap();
    let sections = contents["records"][0]["sections"].as_array().unwrap();
    assert!(sections.len() >= 3, "{contents}");
    for section in sections {
        let secret = hex::decode(section["secret"].as_str().unwrap()).unwrap();
        secrets.add("section's key: HT(K)", &secret);
    }

    let gid = granted["grants"][0]["grant"].as_str().unwrap();
    patient.does(&["revoke", gid]);
    reader.is_refused(&["read", &request, "--into", &region.path("after")]);
    patient.does(&["withdraw", &appointed]);

    secrets.add("UID: at the hospital", uid.as_bytes());
    for (kind, text) in [
        ("patient's name", PATIENT),
        ("patient's document", PATIENTS_DOCUMENT),
        ("doctor's name", DOCTOR),
        ("doctor's name", READER),
        ("doctor's documents", DOCTORS_DOCUMENT),
        ("doctor's documents", LICENCE),
        ("purpose", PURPOSE),
        ("record's text", NOTE.lines().next().unwrap()),
        ("record's text", NOTE.lines().nth(1).unwrap()),
        (
            "record's text",
            "wundersalbe extracta 71 mg, brewed by moonlight",
        ),
        ("record's text", TITLE_WORD),
        ("record's text", BUNDLE_NAME),
        ("record's text", NOTE_NAME),
    ] {
        add_text(&mut secrets, kind, text);
    }
    secrets.add_exact("birth date: of everybody", BIRTH_DATE.as_bytes());
    // The bundle names the patient as well, whom the centre knows.
    secrets.add("record's text: the note", NOTE.as_bytes());
    let shelved = workstation::shelf::from_files(&originals).unwrap();
    let (keywords, _) = shelved.record.keywords();
    let word = format!("word|{TITLE_WORD}");
    assert!(
        keywords.iter().any(|keyword| keyword.as_str() == word),
        "the title's word is a keyword"
    );
    for keyword in keywords.iter().filter(|one| one.as_str().len() >= 16) {
        secrets.add("keyword: in clear", keyword.as_str().as_bytes());
    }
    let containers = files(&folder.join("cloud/store"));
    assert_eq!(containers.len(), 1, "{containers:?}");
    let container = fs::read(&containers[0]).unwrap();
    // The header names what stands on the chain as well.
    secrets.add(
        "container: sealed sections",
        &container[container.len() / 2..],
    );
    secrets.add(
        "digest: of the container",
        scheme::sha256(&container).as_bytes(),
    );
    for request in [&request, &asked_of_agent] {
        secrets.add(
            "request's name: on the chain",
            &hex::decode(request).unwrap(),
        );
    }
    let of_grants = |place: &str| place.contains("/grants/");
    let grants = everything
        .0
        .iter()
        .filter(|(.., place, _)| of_grants(place));
    let grants: Vec<Vec<u8>> = grants.map(|(.., bytes)| bytes.clone()).collect();
    assert!(!grants.is_empty(), "accounting nodes keep grants");
    for grant in &grants {
        add_grant(&mut secrets, grant).unwrap();
    }

    let height = nodes.highest();
    for number in HOSPITALS {
        for at in 1..=height {
            let block = nodes
                .get(number, &format!("/v1/blocks?height={at}"))
                .unwrap();
            let place = format!("block {at}");
            everything.add(&format!("node-{number}"), Opened, &place, block);
        }
    }
    // The hospital's server makes its copy in its own time.
    let copies = folder.join("hospital-4/second-store");
    let is_copy = |file: &PathBuf| fs::read(file).is_ok_and(|bytes| bytes == container);
    until("the second store has a copy", || {
        copies.is_dir() && files(&copies).iter().any(is_copy)
    });
    region.dev.stop();
    everything.add_folders(&folder, &founding);
    for heard in region.heards.take() {
        let who = heard.caller.as_deref().unwrap_or("a person");
        let between = format!("what {who} and {} said", heard.service);
        let receiver = match heard.to_service {
            true => Some(heard.service.as_str()),
            false => heard.caller.as_deref(),
        };
        if let Some(receiver) = receiver {
            everything.add(receiver, Received, &between, heard.bytes);
        }
    }
    everything.is_of_every_party();
    judge(&everything.searched(&secrets), &secrets);
}

/// Compares what was found with what is allowed.
#[allow(clippy::print_stdout, reason = "what was found, for who looks")]
fn judge(matrix: &Matrix, secrets: &Secrets) {
    let kinds: BTreeSet<String> = secrets.names().iter().map(|name| kind(name)).collect();
    let mut wrong = Vec::new();
    for ((what, party), held) in matrix {
        for (held, place) in held {
            println!("{what:<24} {party:<11} {held:?}: {place}");
            let own_key = *what == format!("key of {party}") && *held == Stored;
            let rows = ALLOWED.iter().chain(POSSIBLE);
            let mut rows =
                rows.filter(|(allowed, who, ..)| allowed == what && who.contains(&party.as_str()));
            if !own_key && !rows.any(|(_, _, ways, _)| ways.contains(held)) {
                wrong.push(format!("{party} has {what}, {held:?}: {place}"));
            }
        }
    }
    for (what, who, ways, why) in ALLOWED {
        for party in *who {
            let held = matrix.get(&((*what).to_owned(), (*party).to_owned()));
            let found = held.is_some_and(|held| ways.iter().any(|way| held.contains_key(way)));
            if !found {
                wrong.push(format!(
                    "{what} was not found at {party}, who must have it: {why}"
                ));
            }
        }
    }
    for what in NOBODYS.iter().chain(ALLOWED.iter().map(|(what, ..)| what)) {
        assert!(kinds.contains(*what), "{what} was looked for");
    }
    let keys = kinds.iter().filter(|kind| kind.starts_with("key of"));
    assert_eq!(keys.count(), services().len(), "every service has keys");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a secret's name begins with.
fn kind(name: &str) -> String {
    name.split(':').next().unwrap().to_owned()
}
