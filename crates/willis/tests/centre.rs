//! The registration centre as its officers and operators run it: decisions, keys for a patient without
//! a device, backup and restoration, another certification key.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod people;

use std::path::{Path, PathBuf};

use dev::{Dev, done, refused};
use people::{Person, ask, begin_episode, sample, store, text};

const IDENTITY: [&str; 8] = [
    "--name",
    "Chen Mei",
    "--birth-date",
    "1951-03-08",
    "--document-kind",
    "passport",
    "--document-number",
    "P-2",
];

/// A consortium whose centre certifies nobody without its officer.
struct Centre {
    root: tempfile::TempDir,
    folder: PathBuf,
    officer: Person,
}

impl Centre {
    fn found() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("dev");
        Dev::start(&folder, &[]).stop();
        let officer = Person::new("officer", &folder, root.path(), "officer");
        let key = text(&officer.does(&["new"]), "key");
        let config = folder.join("centre/centre.toml");
        let before = std::fs::read_to_string(&config).unwrap();
        let after = before.replace(
            "approve_automatically = true",
            "approve_automatically = false",
        );
        assert_ne!(before, after);
        let named = format!("{after}\n[[officers]]\nname = \"Fang\"\nkey = \"{key}\"\n");
        std::fs::write(&config, named).unwrap();
        Self {
            root,
            folder,
            officer,
        }
    }

    fn person(&self, role: &'static str, name: &str) -> Person {
        Person::new(role, &self.folder, self.root.path(), name)
    }

    fn path(&self, name: &str) -> String {
        self.root.path().join(name).to_str().unwrap().to_owned()
    }

    /// Begins an enrolment that waits; gives its number.
    fn begins(&self, person: &Person, more: &[&str]) -> String {
        let begun = person.enrols("Chen Mei", 0, more);
        assert_eq!(begun["state"], "waiting", "{begun}");
        begun["subject"].to_string()
    }

    fn is_certified(&self, person: &Person) {
        let status = person.does(&["status", "--wait", "30"]);
        assert_eq!(status["state"], "registered", "{status}");
    }
}

#[test]
fn an_officer_decides_and_who_did_stays_recorded() {
    let centre = Centre::found();
    let dev = Dev::start(&centre.folder, &[]);
    let officer = &centre.officer;
    let patient = centre.person("patient", "patient");
    let subject = centre.begins(&patient, &[]);
    let waiting = officer.does(&["waiting"]);
    assert_eq!(waiting["enrolments"][0]["subject"].to_string(), subject);
    let shown = officer.does(&["show", &subject]);
    let identity = &shown["applicant"]["patient"];
    assert_eq!(identity["name"], "Chen Mei", "{shown}");
    // Who is no officer decides nothing.
    let stranger = centre.person("officer", "stranger");
    stranger.does(&["new"]);
    let why = stranger.is_refused(&["approve", &subject]);
    assert!(why.contains("officer"), "{why}");
    officer.does(&["approve", &subject]);
    centre.is_certified(&patient);
    let shown = officer.does(&["show", &subject]);
    assert_eq!(shown["decisions"][0]["decided"], "approved", "{shown}");
    assert_eq!(shown["decisions"][0]["by"]["name"], "Fang", "{shown}");

    let other = centre.person("patient", "other");
    let subject = centre.begins(&other, &[]);
    officer.does(&[
        "refuse",
        &subject,
        "--reason",
        "the photograph is another person's",
    ]);
    let status = other.does(&["status"]);
    assert_eq!(status["state"], "refused");
    assert_eq!(status["reason"], "the photograph is another person's");

    // Keys that the centre made: one officer makes them, another approves, the code brings them once.
    let begun = officer.does(&[&["begin"], &IDENTITY[..]].concat());
    let subject = begun["subject"].to_string();
    let code = centre.path("code");
    officer.does(&["make-keys", &subject, "--code-file", &code]);
    officer.is_refused(&["approve", &subject]);
    let key = centre.folder.join("officer.key");
    officer.does(&["approve", &subject, "--key", key.to_str().unwrap()]);
    let without = centre.person("patient", "without-device");
    let wrong = centre.path("wrong");
    std::fs::write(&wrong, "0123-4567-89AB-CDEF").unwrap();
    without.is_refused(&["pickup", "--subject", &subject, "--code-file", &wrong]);
    assert!(
        !without.keystore.exists(),
        "the right code can still be tried"
    );
    without.does(&["pickup", "--subject", &subject, "--code-file", &code]);
    centre.is_certified(&without);
    assert_eq!(
        text(&without.does(&["words"]), "words").split(' ').count(),
        24
    );
    let again = centre.person("patient", "again");
    again.is_refused(&["pickup", "--subject", &subject, "--code-file", &code]);
    dev.stop();
}

#[test]
fn a_restored_centre_goes_on_under_its_next_key() {
    let centre = Centre::found();
    let dev = Dev::start(&centre.folder, &[]);
    let (officer, patient) = (&centre.officer, centre.person("patient", "patient"));
    let subject = centre.begins(&patient, &[]);
    officer.does(&["approve", &subject]);
    centre.is_certified(&patient);
    let late = centre.person("patient", "late");
    let waiting = centre.begins(&late, &[]);
    let config = centre.folder.join("centre/centre.toml");
    let config = config.to_str().unwrap();
    let passphrase = centre.path("backup-passphrase");
    std::fs::write(&passphrase, "four random words here\n").unwrap();
    let backup = centre.path("backup");
    let secret = ["--config", config, "--passphrase-file", &passphrase];
    done(
        &[
            &["centre-records", "back-up", "--out", &backup][..],
            &secret,
        ]
        .concat(),
    );
    dev.stop();
    // The disk is lost; the key files are not.
    for entry in std::fs::read_dir(centre.folder.join("centre")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("records.sqlite")
        {
            std::fs::remove_file(path).unwrap();
        }
    }
    done(
        &[
            &["centre-records", "restore", "--from", &backup][..],
            &secret,
        ]
        .concat(),
    );
    let why = refused(
        &[
            &["centre-records", "restore", "--from", &backup][..],
            &secret,
        ]
        .concat(),
    );
    assert!(why.contains("empty"), "{why}");
    let dev = Dev::start(&centre.folder, &[]);
    centre.is_certified(&patient);
    officer.does(&["approve", &waiting]);
    centre.is_certified(&late);

    // Another key: f + 1 hospitals approve, and fewer do not.
    let founding = centre.folder.join("founding");
    let founding = ["--founding", founding.to_str().unwrap()];
    let home = centre.folder.join("centre");
    let home = ["--folder", home.to_str().unwrap()];
    let proposal = centre.path("proposal");
    done(
        &[
            &["centre-key", "propose", "--out", &proposal][..],
            &founding,
            &home,
        ]
        .concat(),
    );
    let approvals: Vec<String> = [2, 3]
        .map(|number| {
            let folder = centre.folder.join(format!("hospital-{number}"));
            let folder = folder.to_str().unwrap().to_owned();
            let out = centre.path(&format!("approval-{number}"));
            let approve = ["centre-key", "approve", &proposal, "--yes", "--out", &out];
            done(&[&approve[..], &founding, &["--folder", &folder]].concat());
            out
        })
        .to_vec();
    let submit = |approvals: &[String]| -> Vec<String> {
        let mut words = vec![
            "centre-key".to_owned(),
            "submit".to_owned(),
            proposal.clone(),
        ];
        words.extend(founding.iter().chain(&home).map(|word| (*word).to_owned()));
        for approval in approvals {
            words.extend(["--approval".to_owned(), approval.clone()]);
        }
        words
    };
    let words = submit(&approvals[..1]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let why = refused(&words);
    assert!(why.contains("fewer than 2"), "{why}");
    let words = submit(&approvals);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    done(&words);
    dev.stop();
    let dev = Dev::start(&centre.folder, &[]);
    let doctor = centre.person("doctor", "doctor");
    let more = ["--licence-number", "L", "--institution", "4"];
    let subject = centre.begins(&doctor, &more);
    officer.does(&["approve", &subject]);
    centre.is_certified(&doctor);
    // A certificate under the earlier key stands, beside one under the next.
    let (episode, at_doctor) = begin_episode(&patient, &doctor);
    let record = sample("community-hospital/admission.hl7");
    store(&doctor, &at_doctor, &[Path::new(&record)]);
    assert_eq!(patient.does(&["receipts"])["kept"], 1);
    let inbox = text(&patient.does(&["inbox"]), "inbox");
    let request = ask(&doctor, &inbox, "1");
    patient.does(&["requests", "--wait", "30"]);
    patient.does(&["grant", &request, "--episode", &episode]);
    doctor.does(&["follow", &request]);
    dev.stop();
}
