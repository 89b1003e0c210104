//! People as they use the program: each with a keystore of their own, by commands.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A person's program.
pub struct Person {
    /// doctor, patient, agent, officer or it.
    role: &'static str,
    founding: PathBuf,
    pub keystore: PathBuf,
    passphrase: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Person {
    /// A person of a consortium whose folder is `dev`, with a keystore in `home`.
    pub fn new(role: &'static str, dev: &Path, home: &Path, name: &str) -> Self {
        let person = Self::again(role, dev, home, name);
        std::fs::write(&person.passphrase, format!("the passphrase of {name}\n")).unwrap();
        person
    }

    /// A person whose keystore and passphrase are in `home` already.
    pub fn again(role: &'static str, dev: &Path, home: &Path, name: &str) -> Self {
        Self {
            role,
            founding: dev.join("founding"),
            keystore: home.join(format!("{name}.keystore")),
            passphrase: home.join(format!("{name}.passphrase")),
            variables: Vec::new(),
        }
    }

    /// Runs every command with this variable of the environment.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.variables.push((name, value.to_owned()));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_willis"));
        command
            .arg(self.role)
            .args(arguments)
            .arg("--json")
            .env("WILLIS_FOUNDING", &self.founding)
            .env("WILLIS_KEYSTORE", &self.keystore)
            .env("WILLIS_PASSPHRASE_FILE", &self.passphrase)
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Begins a command that is not waited for.
    pub fn begins(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// A command that must succeed: its JSON.
    pub fn does(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "willis {} {arguments:?}: {said}{complained}",
            self.role
        );
        let object: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(object["ok"], true, "{object}");
        object
    }

    /// A command that must be refused: what it says, which is never empty.
    pub fn is_refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            !output.status.success(),
            "willis {} {arguments:?} was done: {said}",
            self.role
        );
        let object: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(object["ok"], false, "{object}");
        let error = object["error"].as_str().unwrap().to_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(complained.contains(&error), "{complained}");
        error
    }

    /// A command that may be refused: why, unless it was done.
    pub fn tries(&self, arguments: &[&str]) -> Option<String> {
        let output = self.run(arguments);
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(object["ok"], output.status.success(), "{object}");
        object["error"].as_str().map(str::to_owned)
    }

    /// Begins an enrolment under this name, and waits for so many seconds.
    pub fn enrols(&self, name: &str, wait: u64, more: &[&str]) -> Value {
        let wait = wait.to_string();
        let identity = [
            "enrol",
            "--name",
            name,
            "--birth-date",
            "1951-03-08",
            "--document-kind",
            "passport",
            "--document-number",
            "P-1",
            "--wait",
            &wait,
        ];
        self.does(&[&identity, more].concat())
    }

    /// Enrols a doctor of an institution.
    pub fn enrols_as_doctor(&self, name: &str, institution: u32) {
        let institution = institution.to_string();
        let more = ["--licence-number", "L-1", "--institution", &institution];
        let found = self.enrols(name, 60, &more);
        assert_eq!(found["state"], "registered", "{found}");
    }

    /// Enrols a patient.
    pub fn enrols_as_patient(&self, name: &str) {
        let found = self.enrols(name, 60, &[]);
        assert_eq!(found["state"], "registered", "{found}");
    }
}

/// Waits for a command that was begun: its JSON.
pub fn ends(begun: Child) -> Value {
    let output = begun.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_str(&said).unwrap()
}

/// A text of an object.
pub fn text(object: &Value, name: &str) -> String {
    object[name].as_str().unwrap().to_owned()
}

/// Begins an episode; gives its number on the patient's device and on the doctor's.
pub fn begin_episode(patient: &Person, doctor: &Person) -> (String, String) {
    let given = doctor.does(&["uid"]);
    let begun = patient.does(&[
        "begin",
        "--institution",
        &given["institution"].to_string(),
        "--uid",
        &text(&given, "uid"),
        "--doctor",
        &given["doctor"].to_string(),
    ]);
    let accepted = doctor.does(&["handovers", "--wait", "30"]);
    assert_eq!(accepted["refused"], serde_json::json!([]), "{accepted}");
    let episodes = accepted["episodes"].as_array().unwrap();
    assert_eq!(episodes.len(), 1, "{accepted}");
    (
        begun["episode"].to_string(),
        episodes[0]["episode"].to_string(),
    )
}

/// Stores files as one record; gives its id.
pub fn store(doctor: &Person, episode: &str, files: &[&Path]) -> String {
    let mut arguments = vec!["store", "--episode", episode];
    arguments.extend(files.iter().map(|file| file.to_str().unwrap()));
    text(&doctor.does(&arguments), "record")
}

/// Asks a patient's inbox; gives the request's id.
pub fn ask(doctor: &Person, inbox: &str, episodes: &str) -> String {
    let asked = doctor.does(&[
        "ask",
        "--inbox",
        inbox,
        "--episodes",
        episodes,
        "--purpose",
        "acute ischaemic stroke: thrombectomy decision",
    ]);
    text(&asked, "request")
}

/// The samples.
pub fn sample(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join("samples").join(path)
}

/// Asserts that the files that came out are those that went in, byte for byte and in order.
pub fn assert_files(found: &Value, originals: &[&Path]) {
    let found = found.as_array().unwrap();
    assert_eq!(found.len(), originals.len(), "{found:?}");
    for (file, original) in found.iter().zip(originals) {
        assert_eq!(file["whole"], true, "{file}");
        let opened = std::fs::read(file["path"].as_str().unwrap()).unwrap();
        assert!(opened == std::fs::read(original).unwrap(), "{file}");
    }
}
