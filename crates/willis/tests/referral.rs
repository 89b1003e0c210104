//! The referral across processes, by the commands that people run: from a community and a secondary
//! hospital to a tertiary one, and back again for follow-up.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod outside;
mod people;

use std::path::Path;

use dev::Dev;
use outside::Stores;
use people::{Person, ask, assert_files, begin_episode, sample, store, text};

/// Everybody of the referral.
struct Region {
    dev: Dev,
    root: tempfile::TempDir,
    patient: Person,
    /// Of the community hospital.
    wang: Person,
    /// Of a secondary hospital.
    zhou: Person,
    /// Of the tertiary hospital.
    lin: Person,
}

impl Region {
    fn start(arguments: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("dev");
        let dev = Dev::start(&folder, arguments);
        let person = |role, name| Person::new(role, &folder, root.path(), name);
        let region = Self {
            patient: person("patient", "patient"),
            wang: person("doctor", "wang"),
            zhou: person("doctor", "zhou"),
            lin: person("doctor", "lin"),
            dev,
            root,
        };
        region.patient.enrols_as_patient("Chen Mei");
        region.wang.enrols_as_doctor("Wang Li", 4);
        region.zhou.enrols_as_doctor("Zhou Min", 2);
        region.lin.enrols_as_doctor("Lin Hao", 1);
        region
    }

    fn dev_folder(&self) -> std::path::PathBuf {
        self.root.path().join("dev")
    }

    fn person(&self, role: &'static str, name: &str) -> Person {
        Person::new(role, &self.dev_folder(), self.root.path(), name)
    }

    fn folder(&self, name: &str) -> String {
        self.root.path().join(name).to_str().unwrap().to_owned()
    }

    fn officer_approves(&self, subject: &str) {
        let officer = self.person("officer", "officer");
        let key = self.dev_folder().join("officer.key");
        officer.does(&["approve", subject, "--key", key.to_str().unwrap()]);
    }

    /// There: the earlier records of two hospitals are read at the third, and nothing after they were
    /// revoked. Back: the discharge is read at the first.
    fn refers_there_and_back(&self) {
        let (patient, wang, zhou, lin) = (&self.patient, &self.wang, &self.zhou, &self.lin);
        let earlier = [
            sample("community-hospital/stroke-patient.json"),
            sample("community-hospital/admission.hl7"),
        ];
        let earlier: Vec<&Path> = earlier.iter().map(AsRef::as_ref).collect();
        let stay = [
            sample("secondary-hospital/stroke-stay.json"),
            sample("secondary-hospital/ct-head/17106"),
        ];
        let stay: Vec<&Path> = stay.iter().map(AsRef::as_ref).collect();
        let (first, at_wang) = begin_episode(patient, wang);
        let (second, at_zhou) = begin_episode(patient, zhou);
        let one = store(wang, &at_wang, &earlier);
        let two = store(zhou, &at_zhou, &stay);
        let kept = patient.does(&["receipts"]);
        assert_eq!(kept["kept"], 2, "{kept}");
        assert_eq!(kept["wrong"], serde_json::json!([]), "{kept}");

        let inbox = text(&patient.does(&["inbox"]), "inbox");
        let request = ask(lin, &inbox, "2");
        let asked = patient.does(&["requests", "--wait", "30"]);
        assert_eq!(asked["requests"][0]["request"], request.as_str());
        assert_eq!(asked["requests"][0]["doctors"][0]["institution"], 1);
        let granted = patient.does(&["grant", &request, "--episode", &first, "--episode", &second]);
        let grants = granted["grants"].as_array().unwrap();
        assert_eq!(grants.len(), 2, "{granted}");
        let followed = lin.does(&["follow", &request]);
        assert_eq!(followed["state"], "answered", "{followed}");
        let found = lin.does(&["search", &request[..8]]);
        let mut hits: Vec<String> = found["hits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hit| text(hit, "record"))
            .collect();
        hits.sort();
        let mut expected = vec![one.clone(), two.clone()];
        expected.sort();
        assert_eq!(hits, expected);
        let into = self.folder("read");
        let read = lin.does(&["read", &request, "--into", &into]);
        for record in read["records"].as_array().unwrap() {
            let originals = if record["record"] == one.as_str() {
                &earlier
            } else {
                &stay
            };
            assert_files(&record["files"], originals);
            assert_eq!(record["wrong_shares"], serde_json::json!([]));
        }
        assert_eq!(read["records"].as_array().unwrap().len(), 2);

        // What was read stands in the log, which only the patient can read.
        let mut logged = Vec::new();
        for grant in grants {
            let log = patient.does(&["log", &text(grant, "grant")]);
            let accesses = log["accesses"].as_array().unwrap();
            assert_eq!(accesses.len(), 1, "{log}");
            logged.push(text(&accesses[0], "record"));
        }
        logged.sort();
        assert_eq!(logged, expected);

        // One grant that is revoked hinders no other.
        patient.does(&["revoke", &text(&grants[0], "grant")]);
        let rest = lin.does(&["read", &request, "--into", &self.folder("rest")]);
        assert_eq!(rest["records"][0]["record"], two.as_str(), "{rest}");
        assert_eq!(rest["refused"][0]["grant"], grants[0]["grant"], "{rest}");

        // Nothing is read after the patient revoked, and the doctor hears of it at once.
        let watches = lin.begins(&["watch", &request, "--wait", "120"]);
        patient.does(&["revoke", &text(&grants[1], "grant")]);
        let heard = people::ends(watches);
        let standings: Vec<&str> = heard["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| change["standing"].as_str().unwrap())
            .collect();
        let revoked = standings.iter().filter(|one| **one == "revoked").count();
        assert_eq!(revoked, 2, "{heard}");
        let after = self.folder("after");
        let why = lin.is_refused(&["read", &request, "--into", &after]);
        assert!(why.contains("revoked"), "{why}");
        let seen = lin.does(&["requests"]);
        let views = seen["requests"][0]["grants"].as_array().unwrap();
        assert!(views.iter().all(|grant| grant["revoked"] == true), "{seen}");

        // A receipt that was lost comes again, and changes nothing.
        let before = patient.does(&["episodes"]);
        wang.does(&["receipt", &one]);
        assert_eq!(patient.does(&["receipts"])["kept"], 1);
        assert_eq!(patient.does(&["episodes"]), before);

        // The author and the patient read without asking anybody.
        let own = wang.does(&["own", &one, "--into", &self.folder("own")]);
        assert_files(&own["files"], &earlier);
        let mine = patient.does(&["read", &two, "--into", &self.folder("mine")]);
        assert_files(&mine["files"], &stay);

        // Back again: the tertiary hospital's discharge, for the community hospital's follow-up.
        let discharge = sample("secondary-hospital/discharge-summary.xml");
        let (third, at_lin) = begin_episode(patient, lin);
        let three = store(lin, &at_lin, &[&discharge]);
        let kept = patient.does(&["receipts"]);
        assert_eq!(kept["kept"], 1, "{kept}");
        let request = ask(wang, &inbox, "1");
        patient.does(&["requests", "--wait", "30"]);
        patient.does(&["grant", &request, "--episode", &third, "--minutes", "30"]);
        wang.does(&["follow", &request]);
        let read = wang.does(&["read", &request, "--into", &self.folder("back")]);
        assert_eq!(read["records"][0]["record"], three.as_str());
        assert_files(&read["records"][0]["files"], &[&discharge]);
    }
}

#[test]
fn a_referral_there_and_back_with_sqlite_and_a_folder() {
    let region = Region::start(&[]);
    region.refers_there_and_back();
    a_doctor_amends_and_a_team_reads_both(&region);
    a_patient_takes_everything_along(&region);
    everything_comes_back_from_24_words(&region);
    a_patient_takes_over_what_a_relative_registered(&region);
    an_agent_answers_in_the_patients_place(&region);
    a_stolen_device_opens_nothing_and_new_keys_open_what_comes(&region);
    a_doctor_who_changes_hospitals_works_at_the_other_one(&region);
    a_load_plays_whole_referrals(&region);
    nothing_is_proved_against_honest_nodes(&region);
    region.dev.stop();
}

#[test]
fn a_referral_there_and_back_with_postgresql_and_s3() {
    let stores = Stores::start();
    let arguments = stores.arguments();
    let region = Region::start(&arguments.split(' ').collect::<Vec<_>>());
    region.refers_there_and_back();
    region.dev.stop();
}

/// An amendment is found with what it amends, and names it; two doctors ask by one request, and each reads
/// under an own name.
fn a_doctor_amends_and_a_team_reads_both(region: &Region) {
    let (patient, wang, lin) = (&region.patient, &region.wang, &region.lin);
    let zhao = region.person("doctor", "zhao");
    zhao.enrols_as_doctor("Zhao Yan", 1);
    let records = wang.does(&["records"]);
    let earlier = text(&records["records"][0], "record");
    let episode = records["records"][0]["episode"].to_string();
    let file = region.folder("addendum.txt");
    std::fs::write(&file, "The allergy that was noted is not one.").unwrap();
    let stored = wang.does(&["store", "--episode", &episode, "--amends", &earlier, &file]);
    let amendment = text(&stored, "record");
    let why = wang.is_refused(&["store", "--episode", "999", "--amends", &earlier, &file]);
    assert!(why.contains("episode"), "{why}");
    let listed = wang.does(&["records"]);
    let listed = listed["records"].as_array().unwrap();
    assert_eq!(listed.last().unwrap()["amends"], earlier.as_str());
    // The patient's search finds it under every keyword of the earlier one, or the receipt is refused.
    let kept = patient.does(&["receipts"]);
    assert_eq!(
        (&kept["kept"], &kept["wrong"]),
        (&1.into(), &serde_json::json!([]))
    );
    let mine = patient.does(&["read", &amendment, "--into", &region.folder("amended")]);
    assert_eq!(mine["amends_record"], earlier.as_str(), "{mine}");

    let colleagues = lin.does(&["colleagues"]);
    let colleague = colleagues["doctors"][0].to_string();
    let inbox = text(&patient.does(&["inbox"]), "inbox");
    let begun = lin.does(&[
        "ask",
        "--inbox",
        &inbox,
        "--purpose",
        "stroke team",
        "--with",
        &colleague,
    ]);
    let team = text(&begun["team"], "team");
    let invited = zhao.does(&["teams"]);
    assert_eq!(
        invited["invitations"][0]["team"],
        team.as_str(),
        "{invited}"
    );
    zhao.does(&["join", &team]);
    assert!(
        patient.does(&["requests"])["requests"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    lin.does(&["teams"]);
    zhao.does(&["teams"]);
    lin.does(&["teams"]);
    zhao.does(&["teams", "--wait", "20"]);
    let requests = lin.does(&["requests"]);
    let request = text(
        requests["requests"].as_array().unwrap().last().unwrap(),
        "request",
    );
    let asked = patient.does(&["requests", "--wait", "30"]);
    assert_eq!(
        asked["requests"][0]["doctors"].as_array().unwrap().len(),
        2,
        "{asked}"
    );
    let granted = patient.does(&["grant", &request, "--episode", "1", "--minutes", "30"]);
    let gid = text(&granted["grants"][0], "grant");
    for (doctor, name) in [(lin, "by-lin"), (&zhao, "by-zhao")] {
        let followed = doctor.does(&["follow", &request]);
        assert_eq!(followed["team"].as_array().unwrap().len(), 2);
        let read = doctor.does(&["read", &request, "--into", &region.folder(name)]);
        let records = read["records"].as_array().unwrap();
        let amending = records
            .iter()
            .find(|one| one["record"] == amendment.as_str());
        assert!(amending.unwrap()["amends"]["digest"].is_string(), "{read}");
        assert!(
            records.iter().any(|one| one["record"] == earlier.as_str()),
            "{read}"
        );
    }
    let log = patient.does(&["log", &gid]);
    let accesses = log["accesses"].as_array().unwrap();
    let mut keys: Vec<String> = accesses.iter().map(|one| text(one, "access_key")).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(
        (accesses.len(), keys.len()),
        (4, 2),
        "each under an own key: {log}"
    );
}

type Edit = fn(&mut serde_json::Value);

/// The accesses of a grant of an export under which something was read.
fn logged(list: &mut serde_json::Value) -> &mut serde_json::Value {
    let mut grants = list["grants"].as_array_mut().unwrap().iter_mut();
    let read = |one: &&mut serde_json::Value| one["accesses"] != serde_json::json!([]);
    &mut grants.find(read).unwrap()["accesses"]
}

/// Parts of an export's first record.
fn of_first<'a>(list: &'a mut serde_json::Value, parts: &str) -> &'a mut Vec<serde_json::Value> {
    list["records"][0][parts].as_array_mut().unwrap()
}

/// What a patient takes along is checked without a network, and any change of it is seen.
fn a_patient_takes_everything_along(region: &Region) {
    let into = region.folder("along");
    let exported = region.patient.does(&["export", "--into", &into]);
    assert_eq!(exported["left_out"], serde_json::json!([]));
    let founding = region.dev_folder().join("founding");
    let checks = || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_willis"))
            .args(["proof", "export", &into, "--json", "--founding"])
            .arg(&founding)
            .output()
            .unwrap();
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = serde_json::from_slice::<serde_json::Value>(&output.stdout);
        (output.status.success(), said.ok(), complained)
    };
    let (stands, said, complained) = checks();
    assert!(stands, "{complained}");
    let said = said.unwrap();
    assert_eq!(said["records"], exported["records"]);
    assert_eq!(said["grants"], exported["grants"]);
    assert!(
        said["records"].as_u64() >= Some(4) && said["accesses"].as_u64() >= Some(6),
        "{said}"
    );

    let folder = Path::new(&into);
    let first = |of: &str| {
        let mut entries: Vec<_> = std::fs::read_dir(folder.join(of))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        entries.remove(0)
    };
    let record = first("records");
    let file = first(&format!(
        "records/{}/files",
        record.file_name().unwrap().to_str().unwrap()
    ));
    let grant = first("grants");
    let contents = folder.join("contents.json");
    let refused = |path: &Path, change: &dyn Fn(&mut Vec<u8>), says: &str| {
        let kept = std::fs::read(path).unwrap();
        let mut changed = kept.clone();
        change(&mut changed);
        assert_ne!(kept, changed);
        std::fs::write(path, changed).unwrap();
        let (stands, _, complained) = checks();
        assert!(
            !stands && complained.contains(says),
            "{}: {complained}",
            path.display()
        );
        std::fs::write(path, kept).unwrap();
    };
    let flips = |bytes: &mut Vec<u8>| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    };
    refused(&file, &flips, "was changed");
    refused(
        &record.join("container"),
        &flips,
        "not the one that its doctor signed",
    );
    refused(&record.join("record.proof"), &flips, "");
    refused(&grant.join("grant.proof"), &flips, "");
    refused(&grant.join("access-log.proof"), &flips, "");
    // Of its list each thing that the check says it proves.
    let edits: [(Edit, &str); 12] = [
        (
            |list| drop(logged(list).as_array_mut().unwrap().remove(0)),
            "not the one that the chain proves",
        ),
        (
            |list| logged(list)[0]["time"] = 1.into(),
            "not the one that the chain proves",
        ),
        (|list| list["grants"][0]["expiry"] = 1.into(), "another end"),
        (
            |list| drop(of_first(list, "sections").pop()),
            "not every section",
        ),
        (|list| drop(of_first(list, "files").pop()), "is missing"),
        (
            |list| of_first(list, "files")[0]["media_type"] = "text/x-other".into(),
            "another type",
        ),
        (
            |list| of_first(list, "sections")[0]["class"] = "psychiatry".into(),
            "other classes",
        ),
        (
            |list| list["records"][0]["institution"] = 99.into(),
            "another hospital or another time",
        ),
        (
            |list| list["records"][0]["time"] = 1.into(),
            "another hospital or another time",
        ),
        (
            |list| list["records"][0]["amends"] = "00".repeat(32).into(),
            "another record that it amends",
        ),
        (
            |list| list["records"][0]["folder"] = "../records".into(),
            "leads out",
        ),
        (
            |list| {
                let other = list["records"][1]["sections"][0]["secret"].clone();
                of_first(list, "sections")[0]["secret"] = other;
            },
            "does not fit",
        ),
    ];
    for (edit, says) in edits {
        let change = |bytes: &mut Vec<u8>| {
            let mut list = serde_json::from_slice(bytes).unwrap();
            edit(&mut list);
            *bytes = serde_json::to_vec(&list).unwrap();
        };
        refused(&contents, &change, says);
    }
    assert!(checks().0, "as it was");
    region.patient.is_refused(&["export", "--into", &into]);
}

/// A lost device: the words and nothing else bring episodes, records, grants and the right to revoke
/// back, also an episode that the copy at the centre does not have.
fn everything_comes_back_from_24_words(region: &Region) {
    let patient = &region.patient;
    let words = text(&patient.does(&["words"]), "words");
    assert_eq!(words.split(' ').count(), 24);
    let file = region.folder("words");
    std::fs::write(&file, &words).unwrap();
    let before = patient.does(&["episodes"]);
    let grants = patient.does(&["grants"]);
    let again = region.person("patient", "again");
    let restored = again.does(&["restore", "--words-file", &file]);
    assert_eq!(restored["episodes"], before["episodes"]);
    assert_eq!(again.does(&["grants"])["grants"], grants["grants"]);
    let living = grants["grants"].as_array().unwrap();
    let living = living
        .iter()
        .find(|grant| grant["revoked"] == false)
        .unwrap();
    again.does(&["revoke", &text(living, "grant")]);
    let record = before["episodes"][0]["records"][0]
        .as_str()
        .unwrap()
        .to_owned();
    again.does(&["read", &record, "--into", &region.folder("from-words")]);
    // Other words are another patient's, of whom the centre keeps nothing.
    let other = region.folder("other-words");
    let zeros = format!("{}art", "abandon ".repeat(23));
    std::fs::write(&other, zeros).unwrap();
    let nobody = region.person("patient", "nobody");
    nobody.is_refused(&["restore", "--words-file", &other]);
    assert!(!nobody.keystore.exists(), "the words can be typed again");
    std::fs::write(&other, words.replacen(' ', " zoo ", 1)).unwrap();
    let why = nobody.is_refused(&["restore", "--words-file", &other]);
    assert!(why.contains("24 words"), "{why}");
}

/// The agent answers what is asked of the agent's inbox, within the appointment; not after it was
/// withdrawn.
fn an_agent_answers_in_the_patients_place(region: &Region) {
    let (patient, lin) = (&region.patient, &region.lin);
    let agent = region.person("agent", "agent");
    let offer = text(&agent.does(&["offer"]), "offer");
    let sealed = region.folder("appointment");
    let appointed = patient.does(&[
        "appoint",
        "--episode",
        "1",
        "--offer",
        &offer,
        "--class",
        "history",
        "--class",
        "medication",
        "--out",
        &sealed,
    ]);
    let id = text(&appointed, "appointment");
    let accepted = agent.does(&["accept", &sealed]);
    assert_eq!(accepted["appointment"], id.as_str());
    let inbox = text(&agent.does(&["inbox", &id]), "inbox");
    let request = ask(lin, &inbox, "1");
    let asked = agent.does(&["requests", "--wait", "30"]);
    assert_eq!(asked["requests"][0]["request"], request.as_str());
    let why = agent.is_refused(&["grant", &request, "--class", "imaging"]);
    assert!(why.contains("does not cover"), "{why}");
    let granted = agent.does(&["grant", &request]);
    lin.does(&["follow", &request]);
    let read = lin.does(&["read", &request, "--into", &region.folder("by-agent")]);
    assert_eq!(read["records"][0]["grant"], granted["grant"]);
    patient.does(&["withdraw", &id]);
    let why = lin.is_refused(&["read", &request, "--into", &region.folder("withdrawn")]);
    assert!(why.contains("withdr"), "{why}");
}

/// A relative registers a patient who cannot, and a stay begins. The patient brings it back by the words, and
/// goes on under keys of their own: what was there is read and granted as before, and the relative's device
/// has nothing of what comes, neither receipts nor requests.
fn a_patient_takes_over_what_a_relative_registered(region: &Region) {
    let (wang, lin) = (&region.wang, &region.lin);
    let relative = region.person("patient", "relative");
    relative.enrols_as_patient("Zhang Min");
    let (_, at_wang) = begin_episode(&relative, wang);
    let admission = sample("community-hospital/admission.hl7");
    let before = store(wang, &at_wang, &[&admission]);
    relative.does(&["receipts"]);
    let agent = region.person("agent", "relatives-agent");
    let offer = text(&agent.does(&["offer"]), "offer");
    let out = region.folder("relatives-appointment");
    let appoint = ["appoint", "--episode", "1", "--offer", &offer];
    let scope = ["--class", "history", "--out", &out];
    relative.does(&[&appoint[..], &scope].concat());
    let file = region.folder("relatives-words");
    let words = text(&relative.does(&["words"]), "words");
    std::fs::write(&file, &words).unwrap();

    let patient = region.person("patient", "awake");
    patient.does(&["restore", "--words-file", &file]);
    let old_code = text(&patient.does(&["inbox"]), "inbox");
    let identity = ["--name", "Zhang Min", "--birth-date", "1948-01-20"];
    let document = ["--document-kind", "passport", "--document-number", "P-2"];
    let take_over = [&["take-over", "--wait", "0"][..], &identity, &document].concat();
    let begun = patient.does(&take_over);
    assert_eq!(begun["state"], "waiting", "{begun}");
    assert_eq!(begun["taken_over"], false, "{begun}");
    // Until the officer has decided the keys before are in use; asking twice is asking once.
    assert_eq!(patient.does(&take_over)["subject"], begun["subject"]);
    assert_eq!(text(&patient.does(&["inbox"]), "inbox"), old_code);
    let why = patient.is_refused(&["stay-with-keys"]);
    assert!(why.contains("officer"), "{why}");
    region.officer_approves(&begun["subject"].to_string());
    let done = patient.does(&["status", "--wait", "60"]);
    assert_eq!(done["taken_over"], true, "{done}");
    let code = text(&patient.does(&["inbox"]), "inbox");
    assert_ne!(code, old_code);
    let own_words = text(&patient.does(&["words"]), "words");
    assert_ne!(own_words, words);
    let revoked = relative.does(&["status", "--wait", "30"]);
    assert_eq!(revoked["state"], "revoked", "{revoked}");

    // What was there: read by its owner, and the doctor still writes to the stay of before.
    let episodes = patient.does(&["episodes"]);
    assert_eq!(episodes["episodes"][0]["under_former_keys"], true);
    let own = patient.does(&["read", &before, "--into", &region.folder("awake-own")]);
    assert_files(&own["files"], &[&admission]);
    store(wang, &at_wang, &[&admission]);
    assert_eq!(patient.does(&["receipts"])["kept"], 1);
    let why = relative.is_refused(&["receipts"]);
    assert!(why.contains("UID"), "{why}");

    // What comes: under the same UID at the same doctor, with keys that the relative never had.
    let uid = text(&episodes["episodes"][0], "uid");
    let doctor = episodes["episodes"][0]["doctor"].to_string();
    let begin = [
        "begin",
        "--institution",
        "4",
        "--uid",
        &uid,
        "--doctor",
        &doctor,
    ];
    let begun = patient.does(&begin)["episode"].to_string();
    let accepted = wang.does(&["handovers", "--wait", "30"]);
    let at_wang = accepted["episodes"][0]["episode"].to_string();
    let after = store(wang, &at_wang, &[&admission]);
    assert_eq!(patient.does(&["receipts"])["kept"], 1);
    relative.is_refused(&["read", &after, "--into", &region.folder("stolen-own")]);

    // A doctor who frees the UID, as after a theft, loses the patient nothing: the present keys bind it again.
    wang.does(&["free-uid", &uid]);
    store(wang, &at_wang, &[&admission]);
    assert_eq!(patient.does(&["receipts"])["kept"], 1);

    // The code of before leads nowhere, the new one to the patient alone.
    lin.is_refused(&["ask", "--inbox", &old_code, "--purpose", "stroke"]);
    let short = text(&patient.does(&["short-code"]), "code");
    assert_eq!(short.len(), 9);
    let request = ask(lin, &short.to_lowercase(), "2");
    lin.is_refused(&["ask", "--inbox", "0000-0000", "--purpose", "stroke"]);
    patient.does(&["requests", "--wait", "30"]);
    let none = relative.does(&["requests"]);
    assert_eq!(none["requests"], serde_json::json!([]), "{none}");
    patient.does(&["grant", &request, "--episode", "1", "--episode", &begun]);
    lin.does(&["follow", &request]);
    let read = lin.does(&["read", &request, "--into", &region.folder("both-keys")]);
    assert_eq!(read["records"].as_array().unwrap().len(), 4, "{read}");
    let grants = patient.does(&["grants"]);
    patient.does(&["revoke", &text(&grants["grants"][0], "grant")]);

    // A doctor to whom no code can be given finds it by the document, once the patient wants it.
    let find = [
        "find",
        "--birth-date",
        "1948-01-20",
        "--document-kind",
        "Passport",
    ];
    let why = ["--document-number", "p 2", "--purpose", "unconscious"];
    let find = [&find[..], &why].concat();
    lin.is_refused(&find);
    assert_eq!(patient.does(&["findable", "on"])["findable"], true);
    assert_eq!(text(&lin.does(&find), "inbox"), code);
    let seen = patient.does(&["findable", "off"]);
    assert_eq!(seen["findings"][0]["purpose"], "unconscious", "{seen}");
    assert_eq!(seen["findings"].as_array().unwrap().len(), 1, "{seen}");
    lin.is_refused(&find);

    // The new words alone bring both back.
    std::fs::write(&file, &own_words).unwrap();
    let again = region.person("patient", "awake-again");
    let restored = again.does(&["restore", "--words-file", &file]);
    assert_eq!(
        restored["episodes"],
        patient.does(&["episodes"])["episodes"]
    );
    for (record, name) in [(&before, "again-before"), (&after, "again-after")] {
        let own = again.does(&["read", record, "--into", &region.folder(name)]);
        assert_files(&own["files"], &[&admission]);
    }
}

/// New keys for someone who has a certificate: an officer decides, also where the configuration approves
/// first enrolments.
fn enrols_in_place_of(region: &Region, doctor: &Person, name: &str, institution: &str, old: &str) {
    let more = ["--licence-number", "L-1", "--institution", institution];
    let found = doctor.enrols(name, 0, &[&more[..], &["--replaces", old]].concat());
    assert_eq!(found["state"], "waiting", "{found}");
    region.officer_approves(&found["subject"].to_string());
    let status = doctor.does(&["status", "--wait", "60"]);
    assert_eq!(status["state"], "registered", "{status}");
}

/// After the theft an officer revokes the doctor's certificate: the thief opens nothing more, with a
/// grant that still runs, and asks nobody; the doctor enrols new keys, which open what is granted then.
fn a_stolen_device_opens_nothing_and_new_keys_open_what_comes(region: &Region) {
    let (patient, lin) = (&region.patient, &region.lin);
    let inbox = text(&patient.does(&["inbox"]), "inbox");
    let request = ask(lin, &inbox, "1");
    patient.does(&["requests", "--wait", "30"]);
    patient.does(&["grant", &request, "--episode", "1"]);
    lin.does(&["follow", &request]);
    let subject = lin.does(&["status"])["subject"].to_string();
    let officer = region.person("officer", "officer");
    let key = region.dev_folder().join("officer.key");
    let key = key.to_str().unwrap();
    let reason = ["--reason", "the device was stolen", "--key", key];
    officer.does(&[&["revoke", &subject][..], &reason].concat());
    let status = lin.does(&["status", "--wait", "30"]);
    assert_eq!(status["state"], "revoked", "{status}");
    let into = region.folder("stolen");
    let why = lin.is_refused(&["read", &request, "--into", &into]);
    assert!(why.contains("in force") || why.contains("revoked"), "{why}");
    assert!(!Path::new(&into).exists(), "nothing was opened");
    lin.is_refused(&["ask", "--inbox", &inbox, "--purpose", "theft"]);

    let renewed = region.person("doctor", "lin-again");
    enrols_in_place_of(region, &renewed, "Lin Hao", "1", &subject);
    let request = ask(&renewed, &inbox, "1");
    patient.does(&["requests", "--wait", "30"]);
    patient.does(&["grant", &request, "--episode", "1"]);
    renewed.does(&["follow", &request]);
    let read = renewed.does(&["read", &request, "--into", &region.folder("new-keys")]);
    // The record and its amendment.
    assert_eq!(read["records"].as_array().unwrap().len(), 2, "{read}");
}

/// New keys for the other hospital; those of the first are revoked with it.
fn a_doctor_who_changes_hospitals_works_at_the_other_one(region: &Region) {
    let (patient, zhou) = (&region.patient, &region.zhou);
    let subject = zhou.does(&["status"])["subject"].to_string();
    let moved = region.person("doctor", "zhou-moved");
    enrols_in_place_of(region, &moved, "Zhou Min", "3", &subject);
    let left = zhou.does(&["status", "--wait", "30"]);
    assert_eq!(left["state"], "revoked", "{left}");
    let file = sample("community-hospital/admission.hl7");
    zhou.is_refused(&["store", "--episode", "1", file.to_str().unwrap()]);
    let (_, at_moved) = begin_episode(patient, &moved);
    store(&moved, &at_moved, &[&file]);
    assert_eq!(patient.does(&["receipts"])["kept"], 1);
    // What was stored at the first hospital opens for its author all the same.
    let records = zhou.does(&["records"]);
    let record = text(&records["records"][0], "record");
    zhou.does(&["own", &record, "--into", &region.folder("at-the-first")]);
}

fn a_load_plays_whole_referrals(region: &Region) {
    let founding = region.dev_folder().join("founding");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_willis"))
        .args([
            "load",
            "--referrals",
            "3",
            "--workers",
            "2",
            "--record-bytes",
            "100000",
            "--json",
        ])
        .args(["--founding", founding.to_str().unwrap()])
        .output()
        .unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complained}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["referrals"], 3, "{report}");
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 10, "{report}");
    for step in steps {
        assert_eq!(step["errors"], 0, "{step}");
        assert!(step["p50"].as_f64() > Some(0.0) && step["max"].as_f64() >= step["p50"].as_f64());
    }
}

/// Evidence is checked by who asks: there is none here, and a file of anything else is none.
fn nothing_is_proved_against_honest_nodes(region: &Region) {
    let founding = region.dev_folder().join("founding");
    let evidence = |more: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_willis"))
            .args([
                "evidence",
                "--json",
                "--founding",
                founding.to_str().unwrap(),
            ])
            .args(more)
            .output()
            .unwrap()
    };
    let output = evidence(&[]);
    assert!(output.status.success());
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found, serde_json::json!({ "ok": true, "proved": [] }));
    let file = region.folder("no-evidence");
    std::fs::write(&file, "he did it").unwrap();
    let output = evidence(&[&file]);
    assert!(!output.status.success());
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        complained.contains("no evidence of a wrong share"),
        "{complained}"
    );
}
