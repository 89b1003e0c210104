//! DocumentReferences: how documents are described, found (ITI-67) and looked at.
//!
//! A record that was published here holds, beside its documents, what their publisher said of them
//! ([`SUBMISSION`]); whoever opens the record describes them in the same words. Other records' documents are
//! described by what is found in them.

use axum::extract::Path;
use serde_json::{Value, json};

use super::answer::{Answer, Call, Pairs};
use super::outcome::{Refused, issue};
use super::patient::of_search;
use super::search::{Parameter, Place, Query, Rule, instant, span_of};
use super::{RECORD, SECTION_CLASS, SHA256, audit};
use crate::facts::Facts;
use crate::gateway::{Gateway, now_ms};
use crate::register::Document;
use crate::smart::Act;

/// The file of a record that says what its publisher said of the other files: a FHIR Bundle of the
/// submission's List and DocumentReferences, whose attachments have the addresses of [`file_address`].
pub(crate) const SUBMISSION: &str = "willis-submission.json";
/// Characters of an id that are the record's: 160 bits.
const RECORD_CHARACTERS: usize = 40;
/// Characters of an id that are the grant's, which keep apart what two grants open.
const GRANT_CHARACTERS: usize = 8;
const MHD: &str = "https://profiles.ihe.net/ITI/MHD/StructureDefinition";

/// How a file of the same record is referred to inside its submission.
pub(crate) fn file_address(file: u32) -> String {
    format!("urn:willis:file:{file}")
}

/// The id of a document: of a file of a record, read under a grant or one's own.
pub(crate) fn document_id(record: &str, file: u32, gid: &str) -> String {
    let record = record.get(..RECORD_CHARACTERS).unwrap_or(record);
    match gid.get(..GRANT_CHARACTERS) {
        Some(gid) => format!("{record}.{file}.{gid}"),
        None => format!("{record}.{file}"),
    }
}

/// Where a document stands: its record, under what it is read, and whose it is.
pub(crate) struct Standing<'a> {
    pub(crate) patient: &'a str,
    /// Transaction in hexadecimal.
    pub(crate) record: &'a str,
    /// gid in hexadecimal; empty of an own record.
    pub(crate) gid: &'a str,
    pub(crate) consent: &'a str,
    /// In ms since 1970; 0 of an own record.
    pub(crate) until: u64,
    /// When its author signed the record, in ms since 1970.
    pub(crate) signed: u64,
    /// What the hospital that stored it calls itself.
    pub(crate) custodian: &'a str,
}

/// The documents of a record and the lists that submitted them, from its files and, if its submission is
/// there, from what that says.
pub(crate) fn documents_of(
    gateway: &Gateway,
    standing: &Standing<'_>,
    files: &[Facts],
    submission: Option<&Value>,
) -> (Vec<Document>, Vec<(String, Value)>) {
    let entered = now_ms();
    let mut documents = Vec::new();
    for facts in files.iter().filter(|facts| facts.name != SUBMISSION) {
        let id = document_id(standing.record, facts.file, standing.gid);
        let said = submission.and_then(|bundle| said_of(bundle, facts.file));
        let resource = described(gateway, standing, facts, &id, said, entered);
        documents.push(Document {
            id,
            patient: standing.patient.to_owned(),
            entered,
            record: standing.record.to_owned(),
            file: facts.file,
            gid: standing.gid.to_owned(),
            consent: standing.consent.to_owned(),
            until: standing.until,
            path: facts.path.display().to_string(),
            dicom: facts.dicom.clone(),
            resource,
        });
    }
    let mut lists = Vec::new();
    let entries = submission.and_then(|bundle| bundle["entry"].as_array());
    for entry in entries.into_iter().flatten() {
        let mut list = entry["resource"].clone();
        if list["resourceType"] != "List" {
            continue;
        }
        let place = u32::try_from(lists.len()).unwrap_or(u32::MAX);
        let id = document_id(standing.record, place, standing.gid);
        list["id"] = id.clone().into();
        list["meta"] = meta(&list["meta"], entered);
        list["subject"] = json!({ "reference": gateway.address_of("Patient", standing.patient) });
        let named = |reference: &str| {
            let file = reference.strip_prefix("urn:willis:file:")?.parse().ok()?;
            let known = documents.iter().any(|document| document.file == file);
            let id = document_id(standing.record, file, standing.gid);
            known.then(|| gateway.address_of("DocumentReference", &id))
        };
        if let Some(items) = list["entry"].as_array_mut() {
            items.retain_mut(|item| {
                let Some(reference) = item["item"]["reference"].as_str() else {
                    return true;
                };
                if !reference.starts_with("urn:willis:file:") {
                    return true;
                }
                match named(reference) {
                    Some(address) => {
                        item["item"]["reference"] = address.into();
                        true
                    }
                    None => false,
                }
            });
            if items.is_empty()
                && let Some(list) = list.as_object_mut()
            {
                list.remove("entry");
            }
        }
        lists.push((id, list));
    }
    (documents, lists)
}

/// What a submission says of a file.
fn said_of(bundle: &Value, file: u32) -> Option<&Value> {
    let address = file_address(file);
    let mut entries = bundle["entry"].as_array()?.iter();
    let entry = entries.find(|entry| {
        entry["resource"]["resourceType"] == "DocumentReference"
            && entry["resource"]["content"][0]["attachment"]["url"] == address.as_str()
    })?;
    Some(&entry["resource"])
}

/// The DocumentReference of a file.
fn described(
    gateway: &Gateway,
    standing: &Standing<'_>,
    facts: &Facts,
    id: &str,
    said: Option<&Value>,
    entered: u64,
) -> Value {
    let mut resource = match said {
        Some(said) => plain(said),
        None => found_in(standing, facts),
    };
    resource["id"] = id.into();
    resource["meta"] = meta(&resource["meta"], entered);
    let profile = format!("{MHD}/IHE.MHD.Minimal.DocumentReference");
    // That profile asks for the data, which is at its address now.
    let simplified = format!("{MHD}/IHE.MHD.SimplifiedPublish.DocumentReference");
    let mut profiles = resource["meta"]["profile"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    profiles.retain(|known| *known != simplified.as_str());
    let is_mhd = |known: &Value| known.as_str().is_some_and(|one| one.starts_with(MHD));
    if !profiles.iter().any(is_mhd) {
        profiles.push(profile.into());
    }
    resource["meta"]["profile"] = profiles.into();
    resource["subject"] = json!({ "reference": gateway.address_of("Patient", standing.patient) });
    if resource["masterIdentifier"].is_null() {
        resource["masterIdentifier"] = json!({
            "type": { "coding": [{
                "system": "https://profiles.ihe.net/ITI/MHD/CodeSystem/IHE.MHD.MHDIdentifierType",
                "code": "uniqueId",
            }] },
            "system": "urn:ietf:rfc:3986",
            "value": unique_id(standing.record, facts.file),
        });
    }
    let identifiers = resource["identifier"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut identifiers: Vec<Value> = identifiers
        .into_iter()
        .filter(|one| one["system"] != RECORD)
        .collect();
    identifiers.push(json!({ "system": RECORD, "value": standing.record }));
    resource["identifier"] = identifiers.into();
    if resource["date"].is_null() {
        resource["date"] = instant(standing.signed).into();
    }
    if resource["custodian"].is_null() {
        resource["custodian"] = json!({ "display": standing.custodian });
    }
    let attachment = &mut resource["content"][0]["attachment"];
    if attachment["contentType"].is_null() {
        attachment["contentType"] = facts.media_type.clone().into();
    }
    attachment["url"] = gateway.address_of("Binary", id).into();
    attachment["size"] = facts.size.into();
    attachment["hash"] = facts.sha1.clone().into();
    attachment["extension"] = json!([{ "url": SHA256, "valueBase64Binary": facts.sha256 }]);
    if attachment["title"].is_null() {
        attachment["title"] = facts.name.clone().into();
    }
    resource
}

/// A description as its publisher gave it, without what this facade does not answer for: whoever signs a
/// record can write anything into it. What is taken over names the document and says what it is; where it
/// is, how long and how it stands is this gateway's to say.
fn plain(said: &Value) -> Value {
    let mut resource = json!({ "resourceType": "DocumentReference", "status": "current" });
    for name in SAID {
        if !said[*name].is_null() {
            resource[*name] = said[*name].clone();
        }
    }
    if let Value::Array(profiles) = &said["meta"]["profile"] {
        resource["meta"] = json!({ "profile": profiles });
    }
    let content = &said["content"][0];
    let mut attachment = json!({});
    for name in ["contentType", "language", "title", "creation"] {
        if content["attachment"][name].is_string() {
            attachment[name] = content["attachment"][name].clone();
        }
    }
    resource["content"] = json!([{ "attachment": attachment }]);
    if !content["format"].is_null() {
        resource["content"][0]["format"] = content["format"].clone();
    }
    resource
}

/// What a publisher says of a document that is said again.
const SAID: &[&str] = &[
    "author",
    "authenticator",
    "category",
    "contained",
    "context",
    "custodian",
    "date",
    "description",
    "extension",
    "identifier",
    "language",
    "masterIdentifier",
    "relatesTo",
    "securityLabel",
    "type",
];

/// What is found in a file that nobody described.
fn found_in(standing: &Standing<'_>, facts: &Facts) -> Value {
    let codings: Vec<Value> = facts
        .classes
        .iter()
        .map(|class| json!({ "system": SECTION_CLASS, "code": class.name() }))
        .collect();
    let mut resource = json!({
        "resourceType": "DocumentReference",
        "status": "current",
        "date": instant(standing.signed),
        "category": [{ "coding": codings }],
        "content": [{ "attachment": { "contentType": facts.media_type } }],
    });
    if let Some(title) = facts.title.as_deref().filter(|title| !title.is_empty()) {
        resource["description"] = title.into();
    }
    // Only a date that FHIR can write.
    if let Some(date) = facts.date.as_deref().filter(|date| is_date_time(date)) {
        resource["context"] = json!({ "period": { "start": date } });
    }
    resource
}

/// Whether a text is FHIR's dateTime: with a zone if it has a time.
fn is_date_time(text: &str) -> bool {
    let zoned = match text.split_once('T') {
        Some((_, time)) => time.len() > 8 && (time.ends_with('Z') || time.contains(['+', '-'])),
        None => matches!(text.len(), 4 | 7 | 10),
    };
    zoned && span_of(text).is_some()
}

/// A document's unique id where its publisher gave none: a UUID of version 8 (RFC 9562) from the record
/// and the file's number, so that it is the same wherever the record is opened.
fn unique_id(record: &str, file: u32) -> String {
    let digest = scheme::sha256(format!("{record}.{file}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!(
        "urn:uuid:{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// Version and time of a resource that is entered now; its profiles and labels stay.
fn meta(before: &Value, entered: u64) -> Value {
    let mut meta = match before {
        Value::Object(_) => before.clone(),
        _ => json!({}),
    };
    meta["versionId"] = "1".into();
    meta["lastUpdated"] = instant(entered).into();
    meta
}

const PARAMETERS: &[Parameter] = &[
    parameter("_id", Rule::Token, &["id"]),
    parameter("_lastUpdated", Rule::Date, &["meta.lastUpdated"]),
    parameter(
        "author.family",
        Rule::Text,
        &[
            "author>Practitioner.name.family",
            "author>PractitionerRole.practitioner>Practitioner.name.family",
        ],
    ),
    parameter(
        "author.given",
        Rule::Text,
        &[
            "author>Practitioner.name.given",
            "author>PractitionerRole.practitioner>Practitioner.name.given",
        ],
    ),
    parameter("category", Rule::Token, &["category"]),
    parameter(
        "contenttype",
        Rule::Token,
        &["content.attachment.contentType"],
    ),
    parameter("creation", Rule::Date, &["content.attachment.creation"]),
    parameter("date", Rule::Date, &["date"]),
    parameter("description", Rule::Text, &["description"]),
    parameter("event", Rule::Token, &["context.event"]),
    parameter("facility", Rule::Token, &["context.facilityType"]),
    parameter("format", Rule::Token, &["content.format"]),
    parameter(
        "identifier",
        Rule::Token,
        &["masterIdentifier", "identifier"],
    ),
    parameter("location", Rule::Uri, &["content.attachment.url"]),
    parameter("period", Rule::Date, &["context.period"]),
    parameter("related", Rule::Reference, &["context.related"]),
    parameter("relatesto", Rule::Reference, &["relatesTo.target"]),
    parameter("security-label", Rule::Token, &["securityLabel"]),
    parameter("setting", Rule::Token, &["context.practiceSetting"]),
    parameter("status", Rule::Token, &["status"]),
    parameter("type", Rule::Token, &["type"]),
];

const OWN: &[&str] = &[
    "patient",
    "patient.identifier",
    "subject",
    "subject.identifier",
];

pub(crate) const fn parameter(
    name: &'static str,
    rule: Rule,
    paths: &'static [&'static str],
) -> Parameter {
    Parameter { name, rule, paths }
}

/// The names and kinds of the parameters, for the CapabilityStatement.
pub(crate) fn parameters() -> &'static [Parameter] {
    PARAMETERS
}

/// ITI-67: finds a patient's documents, this hospital's own and those that grants open now. What a grant
/// opens is fetched first; a grant that has ended shows nothing, and is not counted.
pub(crate) async fn search(call: Call, Pairs(pairs): Pairs) -> Result<Answer, Refused> {
    call.may(Act::Search, "DocumentReference")?;
    let query = Query::read(&pairs, PARAMETERS, OWN)?;
    let gateway = &call.gateway;
    let Some(patient) = of_search(gateway, &query).await? else {
        let page = query.page(Vec::new());
        return Ok(Answer::ok(page.bundle(
            gateway.base(),
            "DocumentReference",
            &pairs,
            None,
        )));
    };
    let mut warnings = gateway.look(&patient.id).await?;
    let (mut documents, silent) = gateway.standing_documents(&patient.id).await?;
    warnings.extend(silent);
    only_once(&mut documents);
    let mut matches = Vec::new();
    for document in documents {
        if query.matches(&document.resource, PARAMETERS)? {
            let place = Place {
                time: document.entered,
                id: document.id,
            };
            matches.push((place, document.resource));
        }
    }
    audit::searched(&call, &patient.id, "DocumentReference", &pairs).await?;
    let page = query.page(matches);
    let outcome =
        (!warnings.is_empty()).then(|| issue("warning", "incomplete", &warnings.join("; "), None));
    Ok(Answer::ok(page.bundle(
        gateway.base(),
        "DocumentReference",
        &pairs,
        outcome,
    )))
}

/// Of one file that several grants open, the one that stands longest.
fn only_once(documents: &mut Vec<Document>) {
    documents.sort_by(|a, b| {
        let key = |one: &Document| {
            (
                one.record.clone(),
                one.file,
                one.until != 0,
                u64::MAX - one.until,
            )
        };
        key(a).cmp(&key(b))
    });
    documents.dedup_by(|later, first| later.record == first.record && later.file == first.file);
}

/// `GET DocumentReference/{id}`.
pub(crate) async fn read(call: Call, Path(id): Path<String>) -> Result<Answer, Refused> {
    call.may(Act::Read, "DocumentReference")?;
    let document = call.gateway.standing(&id).await?;
    audit::read_one(&call, &document.patient, "DocumentReference", &id).await?;
    Ok(Answer::ok(document.resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ids_and_unique_ids_are_uuids() {
        let record = "ab".repeat(32);
        let id = document_id(&record, 4095, &"cd".repeat(32));
        assert!(id.len() <= 64 && id.ends_with(".4095.cdcdcdcd"));
        assert!(id.chars().all(|c| c.is_ascii_alphanumeric() || c == '.'));
        assert_eq!(document_id(&record, 0, ""), format!("{}.0", &record[..40]));
        let unique = unique_id(&record, 1);
        assert_eq!(unique.len(), "urn:uuid:".len() + 36);
        assert_eq!(unique.as_bytes()["urn:uuid:".len() + 14], b'8');
        assert_ne!(unique, unique_id(&record, 2));
        assert_eq!(unique, unique_id(&record, 1));
    }

    #[test]
    fn what_a_publisher_cannot_say_is_left_out() {
        let said = json!({
            "resourceType": "DocumentReference",
            "id": "theirs",
            "meta": { "profile": ["urn:p"], "security": [{ "code": "R" }] },
            "implicitRules": "urn:rules",
            "modifierExtension": [{ "url": "urn:not" }],
            "text": { "status": "generated", "div": "</div>" },
            "status": "entered-in-error",
            "type": { "text": "letter" },
            "subject": { "reference": "Patient/theirs" },
            "content": [
                { "attachment": { "contentType": "text/plain", "data": "AAAA", "url": "http://evil.example", "size": 3 } },
                { "attachment": { "url": "http://evil.example/second" } },
            ],
        });
        assert_eq!(
            plain(&said),
            json!({
                "resourceType": "DocumentReference",
                "meta": { "profile": ["urn:p"] },
                "status": "current",
                "type": { "text": "letter" },
                "content": [{ "attachment": { "contentType": "text/plain" } }],
            })
        );
    }

    #[test]
    fn dates_that_fhir_cannot_write_are_left_out() {
        for date in [
            "2026",
            "2026-11",
            "2026-11-27",
            "2026-11-27T08:00:00Z",
            "2026-11-27T08:00:00.5+08:00",
        ] {
            assert!(is_date_time(date), "{date}");
        }
        for date in [
            "",
            "202611",
            "2026-11-27T08:00:00",
            "2026-11-27T08:00Z",
            "20261127080000",
            "soon",
        ] {
            assert!(!is_date_time(date), "{date}");
        }
    }
}
