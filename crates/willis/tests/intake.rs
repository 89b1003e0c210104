//! What a hospital's systems give without a call: messages and files reach a record once, whatever stops in
//! between, and a study of 500 MB goes through gateway, cloud and back without being held in memory.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod hospital_system;
mod people;
mod region;
mod watch;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dev::Dev;
use hospital_system::{Gateway, System};
use people::{Person, sample, text};
use region::free_addresses;
use serde_json::{Value, json};
use watch::Watched;

/// How long something may take that happens by itself.
const BOUND: Duration = Duration::from_secs(60);

struct Hospital {
    patient: Person,
    gateway: Gateway,
    desk: String,
    inbox: PathBuf,
    mllp: u16,
    watch: String,
    root: tempfile::TempDir,
    _dev: Dev,
}

impl Hospital {
    async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("dev");
        let dev = Dev::start(&folder, &[]);
        let person = |role, name| Person::new(role, &folder, root.path(), name);
        let (patient, doctor) = (person("patient", "patient"), person("doctor", "desk"));
        patient.enrols_as_patient("Chen Mei");
        doctor.enrols_as_doctor("Gateway of the tertiary hospital", 1);
        let desk = doctor.does(&["uid"])["doctor"].to_string();
        let watched = root.path().join("watched");
        let inbox = watched.join("inbox");
        std::fs::create_dir_all(&inbox).unwrap();
        let [mllp, watch] = free_addresses();
        let (mllp, watch) = (mllp.port(), watch.to_string());
        let more = format!(
            "watch = {watch:?}\n[intake.watch_folder]\nfolder = {watched:?}\nsettle_seconds = 1\n\
             [intake.mllp]\nlisten = \"127.0.0.1:{mllp}\"\nprocessing_ids = [\"P\", \"T\"]\n"
        );
        let gateway = Gateway::start(&folder, root.path(), &doctor, "gateway", &more).await;
        Self {
            patient,
            gateway,
            desk,
            inbox,
            mllp,
            watch,
            root,
            _dev: dev,
        }
    }

    async fn his(&self) -> System {
        self.gateway.system("his", "system/*.crus").await
    }

    /// The gateway as those see it who supervise it.
    fn watched(&self) -> Watched {
        Watched::at("gateway", self.gateway.pid(), &self.watch)
    }

    /// The patient hands a stay over under the UID of a Patient.
    fn hands_over(&self, entered: &Value) {
        let mut numbers = entered["identifier"].as_array().unwrap().iter();
        let uid = numbers
            .find(|one| one["system"] == "urn:willis:uid")
            .unwrap();
        let uid = text(uid, "value");
        self.patient.does(&[
            "begin",
            "--institution",
            "1",
            "--uid",
            &uid,
            "--doctor",
            &self.desk,
        ]);
    }

    /// Sends a message; gives its acknowledgement.
    fn sends(&self, message: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.mllp)).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream
            .write_all(format!("\u{b}{message}\u{1c}\r").as_bytes())
            .unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\x1c\r") {
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        String::from_utf8(answer).unwrap()
    }

    /// Puts a file into the watched folder, whole from its first moment on.
    fn puts(&self, number: &str, name: &str, bytes: &[u8]) {
        let folder = self.inbox.join(number);
        std::fs::create_dir_all(&folder).unwrap();
        let part = folder.join(format!(".{name}"));
        std::fs::write(&part, bytes).unwrap();
        std::fs::rename(part, folder.join(name)).unwrap();
    }

    /// `willis intake`, as the hospital's IT runs it.
    fn intake(&self, arguments: &[&str]) -> (bool, Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_willis"))
            .arg("intake")
            .args(arguments)
            .arg("--json")
            .arg("--config")
            .arg(self.root.path().join("gateway").join("gateway.toml"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (
            output.status.success(),
            serde_json::from_str(&said).unwrap(),
        )
    }

    fn intake_becomes(&self, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + BOUND;
        loop {
            let (done, found) = self.intake(&["list"]);
            if done && holds(&found) {
                return found;
            }
            assert!(Instant::now() < end, "{found}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn message(kind: &str, id: &str, number: &str, segments: &str) -> String {
    format!(
        "MSH|^~\\&|LIS|HOSPITAL|WILLIS|GATEWAY|20261127080000||{kind}|{id}|P|2.5.1\r\
         PID|1||{number}^^^HOSPITAL^MR||CHEN^MEI||19510308|F\r{segments}"
    )
}

fn total(bundle: &Value) -> u64 {
    bundle["total"].as_u64().unwrap()
}

/// A gateway with one delivery that waits says how it is, and shows what the documents name.
fn is_watched(watched: &Watched) {
    let said = watched.becomes(true);
    let checks = said["checks"].as_array().unwrap().iter();
    let checks: Vec<&str> = checks.map(|one| one["check"].as_str().unwrap()).collect();
    assert_eq!(checks, ["database", "chain", "intake"]);
    let metrics = watched.metrics_when(|metrics| {
        metrics.value("willis_gateway_deliveries", Some(("state", "waiting"))) == 1.0
    });
    let is = |name: &str| metrics.value(name, None);
    assert!(is("willis_gateway_delivery_bytes") > 100.0);
    assert!(is("willis_gateway_delivery_bytes") < is("willis_gateway_delivery_bytes_max"));
    assert!((0.0..600.0).contains(&is("willis_gateway_oldest_delivery_age_seconds")));
    assert_eq!(is("willis_gateway_grants"), 0.0);
    let shown = metrics.names().into_iter();
    let shown: Vec<String> = shown
        .filter(|name| name.starts_with(watch::GATEWAY))
        .collect();
    let documented = watch::documented().into_keys();
    let documented: Vec<String> = documented
        .filter(|name| name.starts_with(watch::GATEWAY))
        .collect();
    assert_eq!(shown, documented);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_systems_give_is_a_record_once() {
    let mut hospital = Hospital::start().await;
    let his = hospital.his().await;

    // An admission enters the patient; nothing is sealed before the patient hands the stay over.
    let admission = message("ADT^A01^ADT_A01", "1", "M-1", "PV1|1|I|STROKE^1^1\r");
    let answer = hospital.sends(&admission);
    assert!(answer.contains("MSA|AA|1"), "{answer}");
    let entered = his
        .becomes("/Patient?identifier=M-1", |found| total(found) == 1)
        .await;
    let entered = entered["entry"][0]["resource"].clone();
    hospital.intake_becomes(|found| {
        let failure = found["waiting"][0]["last_failure"]
            .as_str()
            .unwrap_or_default();
        failure.contains("has handed no stay over")
    });

    is_watched(&hospital.watched());

    // A result comes, and the gateway crashes right after it said that it was taken.
    let result = message(
        "ORU^R01^ORU_R01",
        "2",
        "M-1",
        "OBR|1|||34714-6^INR^LN|||20261127074500\rOBX|1|NM|34714-6^INR^LN||1.1|{INR}||||F\r",
    );
    assert!(hospital.sends(&result).contains("MSA|AA|2"));
    hospital.gateway.crashes().await;
    // The system did not hear it, perhaps, and sends it again.
    assert!(hospital.sends(&result).contains("MSA|AA|2"));
    hospital.hands_over(&entered);
    let his = hospital.his().await;
    let of = format!("/DocumentReference?patient={}", text(&entered, "id"));
    let (again, all) = (hospital.intake(&["list"]).1, format!("{of}&_count=200"));
    for waiting in again["waiting"].as_array().unwrap() {
        // It goes on by itself; a person need not wait for the next try.
        let (_, _) = hospital.intake(&["retry", &text(waiting, "id")]);
    }
    let found = his.becomes(&all, |found| total(found) == 2).await;
    let mut bytes = Vec::new();
    for entry in found["entry"].as_array().unwrap() {
        let url = text(&entry["resource"]["content"][0]["attachment"], "url");
        bytes.push(String::from_utf8(his.bytes(&url).await).unwrap());
    }
    bytes.sort();
    let mut sent = vec![admission, result];
    sent.sort();
    assert_eq!(bytes, sent, "byte for byte, each once");

    // A file for nobody who is known waits, with its reason, until somebody enters the patient.
    let letter = b"a letter of another hospital".to_vec();
    hospital.puts("F-7", "letter.txt", &letter);
    hospital.intake_becomes(|found| {
        let failure = found["waiting"][0]["last_failure"]
            .as_str()
            .unwrap_or_default();
        failure.starts_with("no patient of this gateway has that number")
    });
    let number = |system: &str| {
        json!({ "resourceType": "Patient", "identifier": [
            { "system": system, "value": "F-7" },
            { "system": "urn:willis:uid", "value": "new" },
        ] })
    };
    let other = his.posts("/Patient", &number("urn:oid:2.999.1")).await;
    hospital.hands_over(&other);
    let of = format!("/DocumentReference?patient={}", text(&other, "id"));
    let found = his.becomes(&of, |found| total(found) == 1).await;
    let url = text(
        &found["entry"][0]["resource"]["content"][0]["attachment"],
        "url",
    );
    assert!(his.bytes(&url).await == letter);
    assert!(!hospital.inbox.join("F-7/letter.txt").exists());

    // A number that two patients have is for a person to decide.
    his.posts("/Patient", &number("urn:oid:2.999.2")).await;
    hospital.puts("F-7", "second.txt", b"whose is it");
    let found = hospital.intake_becomes(|found| found["dead"].as_array().unwrap().len() == 1);
    let dead = &found["dead"][0];
    assert!(
        text(dead, "reason").contains("more than one patient"),
        "{dead}"
    );
    let state = |state| Some(("state", state));
    hospital.watched().metrics_when(|metrics| {
        let deliveries = |of| metrics.value("willis_gateway_deliveries", state(of));
        (deliveries("dead"), deliveries("waiting")) == (1.0, 0.0)
    });
    let id = text(dead, "id");
    let (done, said) = hospital.intake(&["discard", &id, "--reason", ""]);
    assert!(!done, "a reason is asked for: {said}");
    let (done, said) = hospital.intake(&["discard", &id, "--reason", "it is nobody's"]);
    assert!(done, "{said}");
    let found = hospital.intake_becomes(|found| found["dead"].as_array().unwrap().is_empty());
    assert_eq!(found["counts"]["waiting"], 0, "{found}");
    let (done, said) = hospital.intake(&["retry", &id]);
    assert!(!done && said["error"].is_string(), "{said}");

    // Who gave it stands among the events; the log names nobody.
    let events = his
        .gets(&format!(
            "/AuditEvent?patient={}&action=C",
            text(&entered, "id")
        ))
        .await;
    assert_eq!(total(&events), 2, "{events}");
    let log = hospital.gateway.log();
    assert!(
        !log.contains("M-1") && !log.contains("F-7") && !log.contains("CHEN"),
        "{log}"
    );
}

/// A DICOM file whose one frame of a real enhanced MR is repeated until it has so many bytes.
fn write_large(path: &Path, bytes: u64) {
    let original = std::fs::read(sample("secondary-hospital/ct-head/17106")).unwrap();
    let pixels = original
        .windows(4)
        .rposition(|four| four == [0xe0, 0x7f, 0x10, 0x00])
        .unwrap();
    let (head, rest) = original.split_at(pixels);
    // Tag, OW, two reserved bytes, length.
    let frame = &rest[12..];
    let frame_bytes = u64::try_from(frame.len()).unwrap();
    let count = bytes / frame_bytes;
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    file.write_all(head).unwrap();
    file.write_all(&rest[..8]).unwrap();
    let length = u32::try_from(count * frame_bytes).unwrap();
    file.write_all(&length.to_le_bytes()).unwrap();
    for _ in 0..count {
        file.write_all(frame).unwrap();
    }
    file.flush().unwrap();
}

/// The most memory that a process had at a time, in bytes.
fn memory_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_study_goes_there_and_back_in_constant_memory() {
    const STUDY_BYTES: u64 = 500 << 20;
    /// A gateway has some 60 MiB in a development build before it does anything; a study held once would
    /// be ten times as much.
    const MEMORY_BYTES: u64 = 200 << 20;
    let hospital = Hospital::start().await;
    let his = hospital.his().await;
    let entered = his
        .posts(
            "/Patient",
            &json!({ "resourceType": "Patient", "identifier": [
                { "system": "urn:oid:2.999.1", "value": "L-1" },
                { "system": "urn:willis:uid", "value": "new" },
            ] }),
        )
        .await;
    hospital.hands_over(&entered);
    let original = hospital.root.path().join("study.dcm");
    write_large(&original, STUDY_BYTES);
    let length = std::fs::metadata(&original).unwrap().len();
    assert!(length > STUDY_BYTES - (1 << 20));
    let folder = hospital.inbox.join("L-1");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(&original, folder.join(".study.dcm")).unwrap();
    std::fs::rename(folder.join(".study.dcm"), folder.join("study.dcm")).unwrap();

    let end = Instant::now() + 5 * BOUND;
    let of = format!("/DocumentReference?patient={}", text(&entered, "id"));
    let reference = loop {
        let found = his.gets(&of).await;
        if total(&found) == 1 {
            break found["entry"][0]["resource"].clone();
        }
        assert!(Instant::now() < end, "{:?}", hospital.intake(&["list"]));
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert_eq!(reference["content"][0]["attachment"]["size"], length);

    // Back, as a document and as an image, compared piece by piece as they come. The token may have ended.
    let his = hospital.his().await;
    let url = text(&reference["content"][0]["attachment"], "url");
    assert_same(
        his.call(reqwest::Method::GET, &url, None).await,
        0,
        &original,
    )
    .await;
    let studies = format!("{}/dicom-web/studies", hospital.gateway.address);
    let found = his.gets(&studies).await;
    let study = found[0]["0020000D"]["Value"][0].as_str().unwrap();
    let part = his
        .call(reqwest::Method::GET, &format!("{studies}/{study}"), None)
        .await;
    assert_same(part, 1, &original).await;

    let memory = memory_of(hospital.gateway.pid());
    assert!(
        memory < MEMORY_BYTES,
        "{memory} bytes of memory for {length} of a study"
    );
}

/// Compares a body with a file; of a multipart body its one part.
async fn assert_same(mut answer: reqwest::Response, parts: usize, original: &Path) {
    assert_eq!(answer.status(), 200);
    let mut expected = std::io::BufReader::new(std::fs::File::open(original).unwrap());
    let mut head = Vec::new();
    let mut in_head = parts > 0;
    let mut left = std::fs::metadata(original).unwrap().len();
    while let Some(piece) = answer.chunk().await.unwrap() {
        let mut piece = &piece[..];
        if in_head {
            head.extend_from_slice(piece);
            let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            in_head = false;
            head.drain(..end + 4);
            piece = &head;
        }
        let own = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut same = vec![0; own];
        expected.read_exact(&mut same).unwrap();
        assert!(piece[..own] == same, "a byte differs");
        left -= own as u64;
    }
    assert_eq!(left, 0, "the end is missing");
}
