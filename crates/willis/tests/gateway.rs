//! A referral through two hospitals' gateways: published at one, granted by the patient, found and
//! retrieved at the other, and nothing after it was revoked.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod hospital_system;
mod people;
mod region;

use std::path::Path;

use dev::Dev;
use hospital_system::{Gateway, System, submission};
use people::{Person, sample, text};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

struct Region {
    patient: Person,
    community: Gateway,
    tertiary: Gateway,
    /// The number of the community hospital's desk.
    desk: u64,
    _dev: Dev,
    _root: tempfile::TempDir,
}

impl Region {
    async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("dev");
        let dev = Dev::start(&folder, &[]);
        let person = |role, name| Person::new(role, &folder, root.path(), name);
        let patient = person("patient", "patient");
        patient.enrols_as_patient("Chen Mei");
        let (here, there) = (person("doctor", "community"), person("doctor", "tertiary"));
        here.enrols_as_doctor("Gateway of the community hospital", 4);
        there.enrols_as_doctor("Gateway of the tertiary hospital", 1);
        let desk = here.does(&["uid"])["doctor"].as_u64().unwrap();
        let start =
            async |doctor, name| Gateway::start(&folder, root.path(), doctor, name, "").await;
        Self {
            patient,
            community: start(&here, "community-gateway").await,
            tertiary: start(&there, "tertiary-gateway").await,
            desk,
            _dev: dev,
            _root: root,
        }
    }

    /// Enters the patient at the community hospital, who hands the stay over to its gateway.
    async fn begins_stay(&self, his: &System) -> Value {
        let entered = his
            .posts(
                "/Patient",
                &json!({
                    "resourceType": "Patient",
                    "identifier": [
                        { "system": "urn:oid:2.999.1", "value": "MRN-1" },
                        { "system": "urn:willis:uid", "value": "new" },
                    ],
                    "name": [{ "family": "Chen" }],
                }),
            )
            .await;
        let mut uid = entered["identifier"].as_array().unwrap().iter();
        let uid = uid.find(|one| one["system"] == "urn:willis:uid").unwrap();
        self.patient.does(&[
            "begin",
            "--institution",
            "4",
            "--uid",
            &text(uid, "value"),
            "--doctor",
            &self.desk.to_string(),
        ]);
        entered
    }
}

fn read(path: &str) -> Vec<u8> {
    std::fs::read(sample(path)).unwrap()
}

fn total(bundle: &Value) -> u64 {
    bundle["total"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_referral_through_two_gateways() {
    let mut region = Region::start().await;
    let his = region.community.system("his", "system/*.crus").await;
    let entered = region.begins_stay(&his).await;
    assert!(entered["name"].is_null(), "no name is kept: {entered}");
    let subject = json!({ "reference": format!("Patient/{}", entered["id"].as_str().unwrap()) });

    // Published.
    let slice = read("secondary-hospital/ct-head/17106");
    let letter = read("secondary-hospital/discharge-summary.xml");
    let documents = [
        ("application/dicom", "CT head", slice.as_slice()),
        ("text/xml", "Discharge summary", letter.as_slice()),
    ];
    let submitted = submission("1", &subject, &documents);
    let answered = his.posts("", &submitted).await;
    assert_eq!(answered["type"], "transaction-response", "{answered}");
    let locations: Vec<String> = answered["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| text(&entry["response"], "location"))
        .collect();
    assert_eq!(locations.len(), 5, "{answered}");
    assert!(locations[0].starts_with("List/") && locations[1].starts_with("DocumentReference/"));
    assert!(locations[2].starts_with("Binary/") && locations[4].starts_with("Binary/"));
    // Sent again, to the base address with its slash, it is the same submission; another one under its identifier is refused.
    let again = his.does(Method::POST, "/", Some(&submitted), 200).await;
    assert_eq!(again, answered);
    let other = submission("1", &subject, &documents[..1]);
    his.does(Method::POST, "", Some(&other), 409).await;

    // Found and retrieved where it was published, byte for byte, also after a crash.
    region.community.crashes().await;
    // Who saw an assertion does not use it after a start either.
    let (status, said) = his.asks_for_a_token().await;
    assert_eq!((status, &said["error"]), (401, &json!("invalid_client")));
    let his = region.community.system("his", "system/*.crus").await;
    let found = his
        .gets("/DocumentReference?patient.identifier=urn:oid:2.999.1|MRN-1&status=current")
        .await;
    assert_eq!(total(&found), 2, "{found}");
    for (location, (kind, title, bytes)) in
        [&locations[1], &locations[3]].into_iter().zip(documents)
    {
        let reference = his.gets(&format!("/{location}")).await;
        let attachment = &reference["content"][0]["attachment"];
        assert_eq!(attachment["contentType"], kind);
        assert_eq!(reference["description"], title);
        let url = attachment["url"].as_str().unwrap();
        assert!(url.starts_with(&his.base), "{url}");
        assert!(his.bytes(url).await == bytes, "{title}");
    }

    // Nobody else sees anything.
    let archive = region.community.system("archive", "").await;
    archive.does(Method::POST, "", Some(&submitted), 403).await;
    archive
        .does(
            Method::GET,
            &format!("/Patient/{}", text(&entered, "id")),
            None,
            403,
        )
        .await;
    let unknown = reqwest::get(format!("{}/Patient?identifier=x", his.base))
        .await
        .unwrap();
    assert_eq!(unknown.status(), 401);

    // Asked for at the other hospital.
    let there = region.tertiary.system("his", "system/*.crus").await;
    let inbox = text(&region.patient.does(&["inbox"]), "inbox");
    let known = there
        .posts(
            "/Patient",
            &json!({
                "resourceType": "Patient",
                "identifier": [
                    { "system": "urn:oid:2.999.2", "value": "T-7" },
                    { "system": "urn:willis:inbox", "value": inbox },
                ],
            }),
        )
        .await;
    let at = "/DocumentReference?patient.identifier=urn:oid:2.999.2|T-7";
    assert_eq!(total(&there.gets(at).await), 0);
    let proposed = there
        .posts(
            "/Consent",
            &json!({
                "resourceType": "Consent",
                "status": "proposed",
                "scope": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy" }] },
                "category": [{ "coding": [{ "system": "http://loinc.org", "code": "59284-0" }] }],
                "patient": { "reference": format!("Patient/{}", text(&known, "id")) },
                "provision": {
                    "type": "permit",
                    "period": { "end": "2099-01-01" },
                    "purpose": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "ETREAT" }],
                    "actor": [{
                        "role": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP" }] },
                        "reference": { "display": "Stroke unit" },
                    }],
                },
            }),
        )
        .await;
    assert_eq!(proposed["status"], "proposed", "{proposed}");
    let consent = format!("/Consent/{}", text(&proposed, "id"));
    let asked = region.patient.does(&["requests", "--wait", "30"]);
    let purpose = text(&asked["requests"][0], "purpose");
    assert!(
        purpose.starts_with("emergency treatment; for Stroke unit; until 2099-01-02"),
        "{purpose}"
    );
    let granted = region.patient.does(&[
        "grant",
        &text(&asked["requests"][0], "request"),
        "--episode",
        "1",
    ]);
    let grant = text(&granted["grants"][0], "grant");

    // Shown as the grant that it became, found, and retrieved.
    let active = there
        .becomes(&consent, |found| found["status"] == "active")
        .await;
    assert_ne!(
        active["provision"]["period"]["end"], "2099-01-01",
        "the patient's period, not the asked one"
    );
    let named = active["identifier"].as_array().unwrap().iter();
    assert!(
        named
            .clone()
            .any(|one| one["system"] == "urn:willis:grant" && one["value"] == grant.as_str())
    );
    let found = there.gets(at).await;
    assert_eq!(total(&found), 2, "{found}");
    for (kind, title, bytes) in documents {
        let entry = found["entry"].as_array().unwrap().iter();
        let mut entry = entry.map(|entry| &entry["resource"]);
        let reference = entry.find(|one| one["description"] == title).unwrap();
        // What its publisher said of it came along.
        assert_eq!(reference["type"]["coding"][0]["code"], "18842-5");
        let attachment = &reference["content"][0]["attachment"];
        assert_eq!(attachment["contentType"], kind);
        let opened = there.bytes(attachment["url"].as_str().unwrap()).await;
        assert!(opened == bytes, "{title}");
        let hash = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            Sha256::digest(&opened),
        );
        assert_eq!(attachment["extension"][0]["valueBase64Binary"], hash);
    }
    let filtered = there
        .gets(&format!("{at}&contenttype=text/xml&_count=1"))
        .await;
    assert_eq!(
        (
            total(&filtered),
            filtered["entry"].as_array().unwrap().len()
        ),
        (1, 1)
    );
    let paged = there.gets(&format!("{at}&_count=1")).await;
    assert_eq!(total(&paged), 2);
    let next = paged["link"]
        .as_array()
        .unwrap()
        .iter()
        .find(|link| link["relation"] == "next");
    let second = there.gets(&text(next.unwrap(), "url")).await;
    assert_ne!(
        second["entry"][0]["resource"]["id"],
        paged["entry"][0]["resource"]["id"]
    );

    let id = text(&found["entry"][0]["resource"], "id");
    let provenance = there
        .gets(&format!("/Provenance?target=DocumentReference/{id}"))
        .await;
    let provenance = &provenance["entry"][0]["resource"];
    assert_eq!(
        provenance["signature"].as_array().unwrap().len(),
        2,
        "{provenance}"
    );
    let xml = there.xml(at).await;
    assert!(
        xml.contains("<DocumentReference>") && xml.contains("<total value=\"2\"/>"),
        "{xml}"
    );

    // What was done stands in the events of this patient, and of no other.
    let events = there
        .gets(&format!(
            "/AuditEvent?patient={}&_count=200",
            text(&known, "id")
        ))
        .await;
    let events: Vec<&Value> = events["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["resource"])
        .collect();
    let of = |code: &str| {
        let codings = events
            .iter()
            .flat_map(|event| event["subtype"].as_array().unwrap());
        codings.filter(|coding| coding["code"] == code).count()
    };
    assert_eq!(of("disclose"), 1);
    assert_eq!(of("ITI-68"), 2);
    assert!(of("ITI-67") >= 3 && of("AuthZ-Consent") == 1);
    there
        .does(Method::GET, "/AuditEvent?date=ge2026", None, 400)
        .await;

    // The submission is there as a list, with these documents and no others.
    let lists = there
        .gets(&format!("/List?patient={}", text(&known, "id")))
        .await;
    assert_eq!(total(&lists), 1, "{lists}");
    let list = text(&lists["entry"][0]["resource"], "id");
    let items = lists["entry"][0]["resource"]["entry"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{lists}");
    let own = format!("{}/DocumentReference/", there.base);
    assert!(
        items
            .iter()
            .all(|item| text(&item["item"], "reference").starts_with(&own)),
        "{lists}"
    );

    // Nothing of it is there once the patient revoked.
    let url = text(
        &found["entry"][0]["resource"]["content"][0]["attachment"],
        "url",
    );
    region.patient.does(&["revoke", &grant]);
    there.no_longer_has(&url).await;
    let none = there.gets(at).await;
    assert_eq!((total(&none), &none["entry"]), (0, &Value::Null), "{none}");
    there
        .does(Method::GET, &format!("/List/{list}"), None, 404)
        .await;
    there
        .does(Method::GET, &format!("/Provenance/{id}"), None, 404)
        .await;
    let ended = there
        .becomes(&consent, |found| found["status"] == "inactive")
        .await;
    assert_eq!(ended["meta"]["versionId"], "3", "{ended}");
    let left = region.tertiary.state().join("opened").join(&grant);
    assert!(!left.exists(), "what was read is gone");
    let log = region.patient.does(&["log", &grant]);
    assert_eq!(log["accesses"].as_array().unwrap().len(), 1, "{log}");
    assert!(!region.tertiary.log().contains("MRN-1") && !region.tertiary.log().contains("T-7"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hospital_gives_up_is_gone_at_once() {
    let region = Region::start().await;
    let his = region.community.system("his", "system/*.crus").await;
    let entered = region.begins_stay(&his).await;

    // Streamed before, and published by one DocumentReference (ITI-105).
    let bundle = read("community-hospital/stroke-patient.json");
    let address = his.uploads("application/fhir+json", bundle.clone()).await;
    let reference = |unique: &str, attachment: Value| {
        json!({
            "resourceType": "DocumentReference",
            "masterIdentifier": { "system": "urn:ietf:rfc:3986", "value": format!("urn:oid:1.2.5.{unique}") },
            "status": "current",
            "subject": { "identifier": { "system": "urn:oid:2.999.1", "value": "MRN-1" } },
            "content": [{ "attachment": attachment }],
        })
    };
    let missing = json!({ "contentType": "application/fhir+json", "url": "Binary/0123456789abcdef0123456789abcdef" });
    his.does(
        Method::POST,
        "/DocumentReference",
        Some(&reference("0", missing)),
        422,
    )
    .await;
    let wrong = json!({ "contentType": "application/fhir+json", "url": address, "size": 3 });
    his.does(
        Method::POST,
        "/DocumentReference",
        Some(&reference("0", wrong)),
        422,
    )
    .await;
    let attachment = json!({ "contentType": "application/fhir+json", "url": address });
    let published = his
        .posts("/DocumentReference", &reference("1", attachment))
        .await;
    let url = text(&published["content"][0]["attachment"], "url");
    assert!(his.bytes(&url).await == bundle);
    assert!(
        std::fs::read_dir(region.community.state().join("uploads"))
            .unwrap()
            .next()
            .is_none()
    );

    // One that replaces it supersedes it.
    let mut newer = reference(
        "2",
        json!({ "contentType": "text/plain", "data": "bmV3ZXI=" }),
    );
    newer["relatesTo"] = json!([{
        "code": "replaces",
        "target": { "reference": format!("DocumentReference/{}", text(&published, "id")) },
    }]);
    let newer = his.posts("/DocumentReference", &newer).await;
    assert_eq!(
        his.bytes(&text(&newer["content"][0]["attachment"], "url"))
            .await,
        b"newer"
    );
    let of = format!("/DocumentReference?patient={}", text(&entered, "id"));
    assert_eq!(total(&his.gets(&format!("{of}&status=current")).await), 1);
    assert_eq!(
        total(&his.gets(&format!("{of}&status=superseded")).await),
        1
    );

    // A grant of laboratory alone opens no document as a whole: nothing is shown, and that is said.
    let there = region.tertiary.system("his", "system/*.crus").await;
    let inbox = text(&region.patient.does(&["inbox"]), "inbox");
    let known = there
        .posts(
            "/Patient",
            &json!({ "resourceType": "Patient", "identifier": [
                { "system": "urn:oid:2.999.2", "value": "T-8" },
                { "system": "urn:willis:inbox", "value": inbox },
            ] }),
        )
        .await;
    let patient = json!({ "reference": format!("Patient/{}", text(&known, "id")) });
    let propose = |labels: Value| {
        json!({
            "resourceType": "Consent",
            "status": "proposed",
            "scope": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy" }] },
            "category": [{ "coding": [{ "system": "http://loinc.org", "code": "59284-0" }] }],
            "patient": patient,
            "provision": { "type": "permit", "securityLabel": labels },
        })
    };
    let label = |code: &str| json!({ "system": "urn:willis:section-class", "code": code });
    let proposed = there
        .posts("/Consent", &propose(json!([label("laboratory")])))
        .await;
    let consent = format!("/Consent/{}", text(&proposed, "id"));
    let grants = || {
        let asked = region.patient.does(&["requests", "--wait", "30"]);
        let request = text(&asked["requests"][0], "request");
        region.patient.does(&["grant", &request, "--episode", "1"]);
        asked["requests"][0]["classes"].clone()
    };
    assert_eq!(grants(), json!(["laboratory"]));
    there
        .becomes(&consent, |found| found["status"] == "active")
        .await;
    let at = format!("/DocumentReference?patient={}", text(&known, "id"));
    let partly = there.gets(&at).await;
    assert_eq!(total(&partly), 0, "{partly}");
    let outcome = &partly["entry"][0];
    assert_eq!(outcome["search"]["mode"], "outcome", "{partly}");
    let said = text(&outcome["resource"]["issue"][0], "diagnostics");
    assert!(said.contains("granted in part"), "{said}");

    // Another provision asks anew; what it is granted takes the place of what was granted before.
    let mut wider = propose(Value::Null);
    wider["provision"] = json!({ "type": "permit" });
    let stale = there.call(Method::PUT, &consent, Some(&wider)).await;
    assert_eq!(stale.status(), 200);
    grants();
    let found = there.becomes(&at, |found| total(found) == 2).await;
    assert_eq!(found["entry"].as_array().unwrap().len(), 2, "{found}");

    // Given up: nothing is read any more, though the grant stands on the chain.
    let mut ended = propose(Value::Null);
    ended["status"] = "inactive".into();
    ended["provision"] = json!({ "type": "permit" });
    let done = there.does(Method::PUT, &consent, Some(&ended), 200).await;
    assert_eq!(done["status"], "inactive", "{done}");
    assert_eq!(total(&there.gets(&at).await), 0);
    let url = text(
        &found["entry"][0]["resource"]["content"][0]["attachment"],
        "url",
    );
    there.does(Method::GET, &url, None, 404).await;
    there.does(Method::PUT, &consent, Some(&wider), 422).await;
    let opened = std::fs::read_dir(region.tertiary.state().join("opened")).unwrap();
    assert_eq!(opened.count(), 0, "what was read is gone");
    let standing = region.patient.does(&["grants"]);
    let standing = standing["grants"].as_array().unwrap().iter();
    assert!(
        standing.clone().all(|grant| grant["revoked"] == false),
        "the patient's own say is as it was"
    );
    assert!(
        Path::new(&region.tertiary.state())
            .join("register.sqlite")
            .is_file()
    );

    // A later stay without a stroke. All imaging of stays with one is opened by one action, which finds them.
    let mut again = entered.clone();
    let numbers = again["identifier"].as_array_mut().unwrap();
    numbers.push(json!({ "system": "urn:willis:uid", "value": "new" }));
    let path = format!("/Patient/{}", text(&entered, "id"));
    let again = his.does(Method::PUT, &path, Some(&again), 200).await;
    let mut uids = again["identifier"].as_array().unwrap().iter().rev();
    let uid = uids.find(|one| one["system"] == "urn:willis:uid").unwrap();
    let (uid, desk) = (text(uid, "value"), region.desk.to_string());
    region.patient.does(&[
        "begin",
        "--institution",
        "4",
        "--uid",
        &uid,
        "--doctor",
        &desk,
    ]);
    let other = json!({ "contentType": "text/plain", "data": "YSBicm9rZW4gYXJt" });
    his.posts("/DocumentReference", &reference("3", other))
        .await;
    let mut all = propose(Value::Null);
    all["provision"] = json!({ "type": "permit" });
    let proposed = there.posts("/Consent", &all).await;
    let asked = region.patient.does(&["requests", "--wait", "30"]);
    let request = text(&asked["requests"][0], "request");
    let given = region
        .patient
        .does(&["grant", &request, "--cerebrovascular-imaging"]);
    let given = given["grants"].as_array().unwrap();
    assert_eq!(
        (given.len(), &given[0]["episode"]),
        (1, &json!(1)),
        "{given:?}"
    );
    let consent = format!("/Consent/{}", text(&proposed, "id"));
    let shown = there
        .becomes(&consent, |found| found["status"] == "active")
        .await;
    let granted = &shown["provision"]["extension"][0];
    assert_eq!(granted["valueUnsignedInt"], 1, "one class of ten: {shown}");
}
