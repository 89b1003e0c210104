//! A hospital whose institution's key lies in a token (SoftHSM 2): it founds with others, its server
//! runs, and members' commands sign, all without a private key of the institution in a file.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod people;
#[path = "../../token/tests/soft_hsm/mod.rs"]
mod soft_hsm;
mod watch;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use dev::{Dev, done, refused};
use people::{Person, assert_files, begin_episode, sample, store, text};
use soft_hsm::{PIN, SoftHsm, in_its_own_process, module};

/// The institution whose key lies in the token.
const INSTITUTION: u32 = 4;

fn uri(object: &str, pin_source: &Path) -> String {
    format!(
        "pkcs11:token=hospital;object={object}?module-path={}&pin-source={}",
        module().display(),
        pin_source.display()
    )
}

/// A token with two keys that are an institution's, and its PIN's file.
fn token_in(folder: &Path) -> PathBuf {
    let hsm = SoftHsm::start();
    let slot = hsm.make_token("hospital");
    hsm.make_key(slot, "institution", &[1]);
    hsm.make_key(slot, "next", &[2]);
    let pin = folder.join("institution.pin");
    write_secret(&pin, PIN);
    pin
}

fn write_secret(path: &Path, text: &str) {
    fs::write(path, format!("{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_hospital_founds_runs_and_stores_with_its_key_in_a_token() {
    in_its_own_process(
        "a_hospital_founds_runs_and_stores_with_its_key_in_a_token",
        |root| {
            let pin = token_in(root);
            let folder = root.join("dev");
            let named = uri("institution", &pin);
            let dev = Dev::start(&folder, &["--pkcs11", &named]);
            let home = folder.join(format!("hospital-{INSTITUTION}"));
            let key = fs::read_to_string(home.join("institution.key")).unwrap();
            assert_eq!(
                key,
                format!("{named}\n"),
                "the file names the key, and holds none"
            );

            let person = |role, name| Person::new(role, &folder, root, name);
            let (patient, doctor) = (person("patient", "patient"), person("doctor", "wang"));
            patient.enrols_as_patient("Chen Mei");
            doctor.enrols_as_doctor("Wang Li", INSTITUTION);
            let file = sample("community-hospital/admission.hl7");
            let (_, episode) = begin_episode(&patient, &doctor);
            let one = store(&doctor, &episode, &[&file]);
            let into = root.join("own");
            let own = doctor.does(&["own", &one, "--into", into.to_str().unwrap()]);
            assert_files(&own["files"], &[&file]);

            a_token_that_is_away_is_told_and_loses_nothing(&dev, root, &doctor, &episode);
            members_commands_sign_with_the_token(&folder, &home, &pin);
            dev.stop();

            // Under its next key, which lies in the token as well, the server starts again.
            let key = fs::read_to_string(home.join("institution.key")).unwrap();
            assert_eq!(key, format!("{}\n", uri("next", &pin)));
            let dev = Dev::start(&folder, &[]);
            store(&doctor, &episode, &[&file]);
            assert_eq!(patient.does(&["receipts"])["wrong"], serde_json::json!([]));
            dev.stop();
        },
    );
}

/// The token is taken from the running server and given back: what needs a signature is refused for a
/// while, the server says why, and goes on as soon as it can.
fn a_token_that_is_away_is_told_and_loses_nothing(
    dev: &Dev,
    root: &Path,
    doctor: &Person,
    episode: &str,
) {
    let watched = watch::all(&dev.ready);
    let server = watched.iter().rfind(|one| one.role == "hospital").unwrap();
    let check = |said: &serde_json::Value| {
        let checks = said["checks"].as_array().unwrap().iter();
        let mut checks = checks.filter(|one| one["check"] == "institution-key");
        checks.next().unwrap().clone()
    };
    assert_eq!(check(&server.becomes(true))["ok"], true);
    let (tokens, away) = (root.join("tokens"), root.join("away"));
    fs::rename(&tokens, &away).unwrap();
    fs::create_dir(&tokens).unwrap();
    let said = server.becomes(false);
    assert_eq!(check(&said)["ok"], false, "{said}");
    let file = sample("secondary-hospital/discharge-summary.xml");
    let store = ["store", "--episode", episode, file.to_str().unwrap()];
    let why = doctor.is_refused(&store);
    assert!(
        why.contains("cannot sign with the institution's key"),
        "{why}"
    );
    assert!(
        !why.contains("pkcs11") && !why.contains("tokens are"),
        "{why}"
    );

    fs::remove_dir(&tokens).unwrap();
    fs::rename(&away, &tokens).unwrap();
    assert_eq!(check(&server.becomes(true))["ok"], true);
    text(&doctor.does(&store), "record");
}

fn members_commands_sign_with_the_token(folder: &Path, home: &Path, pin: &Path) {
    let founding = folder.join("founding");
    let (founding, folder_text) = (founding.to_str().unwrap(), home.to_str().unwrap());
    let common = ["--founding", founding, "--folder", folder_text];
    let put = [&["membership", "put", "tier", "2", "tertiary"][..], &common].concat();
    let said = done(&put);
    assert!(said.contains("stands in block"), "{said}");
    // The next key lies in the token already: its file is there, so none is made.
    write_secret(&home.join("institution.next.key"), &uri("next", pin));
    let succeed = ["membership", "succeed", "--new", "institution"];
    let said = done(&[&succeed[..], &common].concat());
    assert!(said.contains("keys of generation 1"), "{said}");
}

#[test]
fn what_a_command_cannot_use_is_refused_and_nothing_is_left_behind() {
    in_its_own_process(
        "what_a_command_cannot_use_is_refused_and_nothing_is_left_behind",
        |root| {
            let pin = token_in(root);
            let home = root.join("home");
            let founder = |uri: &str| {
                let url = "https://127.0.0.1:9001";
                let arguments = [
                    "genesis",
                    "founder",
                    "--institution",
                    "1",
                    "--name",
                    "H",
                    "--tier",
                    "tertiary",
                    "--hospital",
                    url,
                    "--node",
                    url,
                    "--consensus",
                    "127.0.0.1:9101",
                    "--folder",
                    home.to_str().unwrap(),
                    "--pkcs11",
                    uri,
                ];
                arguments.map(str::to_owned)
            };
            let is_refused = |uri: &str, why: &str| {
                let arguments = founder(uri);
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let said = refused(&arguments);
                assert!(said.contains(why), "{uri}: {said}");
                assert!(!home.exists(), "{uri}: the folder is left behind");
            };
            let good = uri("institution", &pin);
            is_refused(&format!("{good}&pin-value={PIN}"), "pin-value is not taken");
            is_refused(&uri("none", &pin), "0 private keys are as the URI says");
            is_refused(&uri("institution", &root.join("no.pin")), "cannot be read");
            is_refused("institution.key", "holds neither a key");
            let wrong = root.join("wrong.pin");
            write_secret(&wrong, "471101");
            is_refused(&uri("institution", &wrong), "the token refuses the PIN");
            write_secret(&wrong, "");
            is_refused(&uri("institution", &wrong), "holds no PIN");
            fs::set_permissions(&pin, fs::Permissions::from_mode(0o640)).unwrap();
            is_refused(&good, "can be read by others");

            fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
            // Relative to the folder that the file is in.
            let beside = uri("institution", Path::new("../institution.pin"));
            let arguments = founder(&beside);
            done(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
            let key = fs::metadata(home.join("institution.key")).unwrap();
            assert_eq!(key.permissions().mode() & 0o777, 0o600);
            let statement = fs::read_to_string(home.join("founder.toml")).unwrap();
            assert!(!statement.contains("pkcs11"), "{statement}");
        },
    );
}
