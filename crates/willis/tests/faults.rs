//! What people meet when a part is away, a disk is full, or a program is killed in the middle: a clear
//! text each, and nothing that was accepted is lost.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod outside;
mod people;
mod signals;

use std::path::{Path, PathBuf};
use std::time::Duration;

use dev::Dev;
use outside::Postgres;
use people::{Person, assert_files, begin_episode, sample, store, text};
use signals::{Away, processes};

struct Region {
    dev: Dev,
    root: tempfile::TempDir,
    patient: Person,
    doctor: Person,
}

impl Region {
    fn start(arguments: &[&str]) -> Self {
        Self::of(|folder| Dev::start(folder, arguments))
    }

    fn of(start: impl FnOnce(&Path) -> Dev) -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("dev");
        let dev = start(&folder);
        let person = |role, name| Person::new(role, &folder, root.path(), name);
        let region = Self {
            patient: person("patient", "patient"),
            doctor: person("doctor", "doctor"),
            dev,
            root,
        };
        region.patient.enrols_as_patient("Chen Mei");
        region.doctor.enrols_as_doctor("Wang Li", 4);
        region
    }

    fn folder(&self) -> PathBuf {
        // As the processes were given it.
        std::fs::canonicalize(self.root.path().join("dev")).unwrap()
    }

    fn away(&self, role: &str) -> Away {
        Away::new(processes(&self.folder().join(role), role))
    }

    fn file(&self, name: &str, length: usize) -> PathBuf {
        let path = self.root.path().join(name);
        let bytes: Vec<u8> = (0..length).map(|i| (i * 31 % 251) as u8).collect();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

#[test]
fn a_part_that_is_away_is_named_and_what_was_begun_goes_on() {
    let region = Region::start(&[]);
    let (patient, doctor) = (&region.patient, &region.doctor);
    let (first, at_doctor) = begin_episode(patient, doctor);
    let record = sample("community-hospital/admission.hl7");
    let file = record.to_str().unwrap();

    let cloud = region.away("cloud");
    let why = doctor.is_refused(&["store", "--episode", &at_doctor, file]);
    assert!(why.contains("cloud does not answer"), "{why}");
    cloud.comes_back();
    let stored = store(doctor, &at_doctor, &[&record]);

    // The receipt is checked against the container, so without the cloud it stays where it is.
    let cloud = region.away("cloud");
    let why = patient.is_refused(&["receipts"]);
    assert!(why.contains("cloud does not answer"), "{why}");
    cloud.comes_back();
    assert_eq!(patient.does(&["receipts"])["kept"], 1);

    // The request is on the chain and waits for the query manager.
    let inbox = text(&patient.does(&["inbox"]), "inbox");
    let query = region.away("query");
    let why = doctor.is_refused(&["ask", "--inbox", &inbox, "--purpose", "follow-up"]);
    assert!(why.contains("query does not answer"), "{why}");
    query.comes_back();
    let kept = doctor.does(&["requests"]);
    let request = text(&kept["requests"][0], "request");
    doctor.does(&["follow", &request, "--wait", "1"]);
    let waits = patient.does(&["requests", "--wait", "30"]);
    assert_eq!(waits["requests"][0]["request"], request.as_str(), "{waits}");

    // No accounting hospital can keep the grant. It is made once all the same, since its access keys
    // stand in no other, and is sent on when they can: here without the centre, whose copy of the
    // directory follows.
    let folders = [1, 2, 3].map(|id| region.folder().join(format!("hospital-{id}/data/grants")));
    for folder in &folders {
        std::fs::rename(folder, folder.with_extension("away")).unwrap();
        std::fs::write(folder, "no folder").unwrap();
    }
    let why = patient.is_refused(&["grant", &request, "--episode", &first]);
    assert!(why.contains("made and kept"), "{why}");
    assert_eq!(
        patient.does(&["grants"])["grants"][0]["revoked"],
        serde_json::Value::Null
    );
    for folder in &folders {
        std::fs::remove_file(folder).unwrap();
        std::fs::rename(folder.with_extension("away"), folder).unwrap();
    }
    let centre = region.away("centre");
    let given = patient.does(&["grants"]);
    assert_eq!(given["grants"][0]["revoked"], false, "{given}");
    assert_eq!(given["grants"].as_array().unwrap().len(), 1, "{given}");
    centre.comes_back();
    let followed = doctor.does(&["follow", &request]);
    assert_eq!(followed["state"], "answered", "{followed}");
    let into = region.root.path().join("read");
    let read = doctor.does(&["read", &request, "--into", into.to_str().unwrap()]);
    assert_eq!(read["records"][0]["record"], stored.as_str());
    assert_files(&read["records"][0]["files"], &[&record]);
    let words = text(&patient.does(&["words"]), "words");
    patient.does(&["grants"]);
    let file = region.root.path().join("words");
    std::fs::write(&file, words).unwrap();
    let again = Person::new(
        "patient",
        &region.root.path().join("dev"),
        region.root.path(),
        "again",
    );
    again.does(&["restore", "--words-file", file.to_str().unwrap()]);
    assert_eq!(
        again.does(&["grants"])["grants"].as_array().unwrap().len(),
        1
    );
    region.dev.stop();
}

/// Half an upload: the next attempt stores the record, and the cloud has no half of one.
#[test]
fn a_doctors_program_that_is_killed_in_the_middle_loses_nothing() {
    let region = Region::start(&[]);
    let (patient, doctor) = (&region.patient, &region.doctor);
    let (_, at_doctor) = begin_episode(patient, doctor);
    let large = region.file("large.bin", 48 << 20);
    let mut stored = 0;
    for wait in [700, 1_500, 2_500] {
        let mut killed =
            doctor.begins(&["store", "--episode", &at_doctor, large.to_str().unwrap()]);
        std::thread::sleep(Duration::from_millis(wait));
        let _ = killed.kill();
        killed.wait().unwrap();
        // What was signed is finished; what was not is not there.
        let found = doctor.does(&["records"]);
        assert_eq!(found["failures"], serde_json::json!([]), "{found}");
        let records = found["records"].as_array().unwrap();
        assert!(
            records.iter().all(|record| record["stored"] == true),
            "{found}"
        );
        assert!(records.len() >= stored, "nothing that was there is lost");
        stored = records.len();
    }
    let whole = store(doctor, &at_doctor, &[&large]);
    let into = region.root.path().join("own");
    let own = doctor.does(&["own", &whole, "--into", into.to_str().unwrap()]);
    assert_files(&own["files"], &[&large]);
    assert_eq!(patient.does(&["receipts"])["kept"], stored + 1);
    region.dev.stop();
}

/// The database hangs: callers are told, the services stay up, and go on when it is back.
#[test]
fn a_database_that_is_away_is_named_and_nothing_is_lost() {
    let postgres = Postgres::start();
    for name in outside::DEV_DATABASES {
        postgres.database(name);
    }
    let region = Region::start(&["--postgres", &postgres.url()]);
    let (patient, doctor) = (&region.patient, &region.doctor);
    let (_, at_doctor) = begin_episode(patient, doctor);
    let record = sample("community-hospital/admission.hl7");
    let one = store(doctor, &at_doctor, &[&record]);
    let away = Away::new(postgres.processes());
    let why = doctor.is_refused(&["store", "--episode", &at_doctor, record.to_str().unwrap()]);
    assert!(
        why.contains("again") && !why.contains("panic"),
        "it says to come again: {why}"
    );
    away.comes_back();
    let two = store(doctor, &at_doctor, &[&record]);
    let found = doctor.does(&["records"]);
    let ids: Vec<String> = found["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| text(record, "record"))
        .collect();
    assert!(ids.contains(&one) && ids.contains(&two), "{found}");
    patient.does(&["receipts"]);
    region.dev.stop();
}

/// The cloud's disk is full: the doctor is told, what is there stays readable, and once the operator has
/// made room the same record is stored.
#[test]
fn a_full_disk_is_named_and_what_is_there_stays() {
    // A file system of 24 MiB over the cloud's spool, in a namespace of its own, with 18 MiB of others'.
    let region = Region::of(|folder| {
        // Founded first, since the file system hides what the folder holds.
        Dev::start(folder, &[]).stop();
        let spool = std::fs::canonicalize(folder.join("cloud/spool")).unwrap();
        let mount = format!(
            "mount -t tmpfs -o size=24m tmpfs {0} && \
             head -c 18874368 /dev/zero > {0}/others && exec \"$0\" \"$@\"",
            spool.display()
        );
        Dev::start_by(folder, &["unshare", "-rm", "sh", "-c", &mount], &[])
    });
    let (patient, doctor) = (&region.patient, &region.doctor);
    let (_, at_doctor) = begin_episode(patient, doctor);
    let small = region.file("small.bin", 1 << 20);
    let before = store(doctor, &at_doctor, &[&small]);
    let large = region.file("large.bin", 12 << 20);
    let why = doctor.is_refused(&["store", "--episode", &at_doctor, large.to_str().unwrap()]);
    assert!(why.contains("no room left"), "{why}");
    let own = |name: &str, id: &str, original: &Path| {
        let into = region.root.path().join(name);
        let own = doctor.does(&["own", id, "--into", into.to_str().unwrap()]);
        assert_files(&own["files"], &[original]);
    };
    own("before", &before, &small);
    // As the processes see it.
    let cloud = processes(&region.folder().join("cloud"), "cloud");
    let spool = region.folder().join("cloud/spool/others");
    let inside = format!("/proc/{}/root{}", cloud[0], spool.display());
    std::fs::remove_file(inside).unwrap();
    let after = store(doctor, &at_doctor, &[&large]);
    own("after", &after, &large);
    assert_eq!(patient.does(&["receipts"])["kept"], 2);
    region.dev.stop();
}
