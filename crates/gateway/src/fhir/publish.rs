//! Publishing: ITI-65 (a transaction with a SubmissionSet, its DocumentReferences and their documents) and
//! ITI-105 (one DocumentReference with its document inside). A submission becomes one record: it is stored
//! as a whole or not at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::answer::{Answer, Call, Received, essence, must_be};
use super::documents::{SUBMISSION, document_id, file_address};
use super::outcome::Refused;
use super::patient::of_reference;
use super::search::instant;
use super::{audit, binary};
use crate::desk::beside;
use crate::facts::Facts;
use crate::register::Patient;
use crate::smart::Act;

/// Entries of one submission: a document, its description and the list for each of 1,000 documents.
const ENTRIES_MAX: usize = 2_048;
/// Bytes of a description: the longest real ones, with contained resources, have about 20 KiB.
const DESCRIPTION_BYTES_MAX: usize = 256 << 10;
const MHD_LISTS: &str = "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes";

/// A file to be published, and what its publisher says of it.
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// The DocumentReference as it came; none of a file that nobody described.
    pub(crate) said: Option<Value>,
}

/// What becomes one record.
pub(crate) struct Publication {
    pub(crate) patient: Patient,
    pub(crate) files: Vec<File>,
    pub(crate) lists: Vec<Value>,
    /// Own documents that these replace, by their ids.
    pub(crate) replaces: Vec<String>,
    /// Names the submission, so that it is stored once though it is sent twice.
    pub(crate) key: Option<String>,
    /// SHA-256 of the submission.
    pub(crate) digest: [u8; 32],
}

/// The file that keeps what is said of the others. Its references lead to files of the same record.
pub(crate) fn submission(lists: &[Value], files: &[(Option<Value>, &Facts)]) -> Option<Value> {
    let said: Vec<Value> = files
        .iter()
        .filter_map(|(said, facts)| {
            let mut said = said.clone()?;
            let attachment = &mut said["content"][0]["attachment"];
            if let Some(attachment) = attachment.as_object_mut() {
                attachment.remove("data");
            }
            attachment["url"] = file_address(facts.file).into();
            attachment["size"] = facts.size.into();
            attachment["hash"] = facts.sha1.clone().into();
            Some(said)
        })
        .collect();
    if said.is_empty() && lists.is_empty() {
        return None;
    }
    let resources = lists.iter().cloned().chain(said);
    let entries: Vec<Value> = resources
        .map(|mut resource| {
            // Its number at this hospital is nobody's elsewhere.
            if let Some(resource) = resource.as_object_mut() {
                resource.remove("subject");
                resource.remove("id");
            }
            json!({ "resource": resource })
        })
        .collect();
    Some(json!({ "resourceType": "Bundle", "type": "collection", "entry": entries }))
}

/// ITI-65.
pub(crate) async fn provide(
    call: Call,
    Received(body, _room): Received,
) -> Result<Answer, Refused> {
    call.may(Act::Create, "DocumentReference")?;
    must_be(&body, "Bundle")?;
    if body["type"] != "transaction" {
        return Err(Refused::unprocessable(
            "Bundle.type",
            "what is posted here is a transaction (ITI-65); send one, or post a resource to its type",
        ));
    }
    let transaction = Transaction::read(&call, &body)?;
    let patient = transaction.patient(&call).await?;
    let key = transaction.key(&call);
    let digest = *scheme::sha256(body.to_string().as_bytes()).as_bytes();
    if let Some(answer) = answered(&call, key.as_deref(), digest).await? {
        return Ok(answer);
    }
    let folder = call.gateway.spool()?;
    let mut files = Vec::new();
    let mut uploads = Vec::new();
    for (number, reference) in transaction.documents.iter().enumerate() {
        let source = transaction.source(&call, reference)?;
        let name = name_of(reference.resource, number);
        let path = folder.path().join(number.to_string()).join(&name);
        uploads.extend(source.write(&path, reference).await?);
        files.push(File {
            name,
            path,
            said: Some(transaction.rewritten(reference.resource)),
        });
    }
    let patient_id = patient.id.clone();
    let publication = Publication {
        patient,
        files,
        lists: transaction
            .lists
            .iter()
            .map(|list| transaction.rewritten(list.resource))
            .collect(),
        replaces: transaction.replaces.clone(),
        key,
        digest,
    };
    let respond = |record: &str, time: u64| transaction.response(&call, &patient_id, record, time);
    let tell = |first: &str, _: &str| audit::published(&call, &patient_id, "ITI-65", first);
    let response = call.gateway.publish(publication, respond, tell).await?;
    for id in uploads {
        call.gateway.forget_upload(&id);
    }
    Ok(Answer::ok(response))
}

/// ITI-105.
pub(crate) async fn simplified(
    call: Call,
    Received(body, _room): Received,
) -> Result<Answer, Refused> {
    call.may(Act::Create, "DocumentReference")?;
    must_be(&body, "DocumentReference")?;
    let contained = |target: &str| contained(&body, target).cloned();
    let subject = &body["subject"];
    if subject.is_null() {
        return Err(Refused::required(
            "DocumentReference.subject",
            "the document is nobody's; refer to its Patient",
        ));
    }
    let place = "DocumentReference.subject";
    let patient = of_reference(&call.gateway, place, subject, contained).await?;
    let master = &body["masterIdentifier"];
    let key = identifier_key(&call, "DocumentReference", master);
    let digest = *scheme::sha256(body.to_string().as_bytes()).as_bytes();
    if let Some(mut answer) = answered(&call, key.as_deref(), digest).await? {
        let id = answer.resource["id"].as_str().unwrap_or_default();
        answer.location = Some(call.gateway.address_of("DocumentReference", id));
        return Ok(answer);
    }
    let reference = Entry {
        resource: &body,
        place: "DocumentReference".to_owned(),
        address: String::new(),
    };
    check_description(&reference)?;
    let attachment = &body["content"][0]["attachment"];
    let source = match attachment["data"].as_str() {
        Some(data) => Source::Inline(decoded(&reference.place, data)?),
        None => Source::of_address(&call, &reference)?,
    };
    let folder = call.gateway.spool()?;
    let name = name_of(&body, 0);
    let path = folder.path().join("0").join(&name);
    let upload = source.write(&path, &reference).await?;
    let replaces = replaced(&call, &reference)?;
    let patient_id = patient.id.clone();
    let publication = Publication {
        patient,
        files: vec![File {
            name,
            path,
            said: Some(body.clone()),
        }],
        lists: Vec::new(),
        replaces,
        key,
        digest,
    };
    let respond = |record: &str, _: u64| json!({ "id": document_id(record, 0, "") });
    let tell = |first: &str, _: &str| audit::published(&call, &patient_id, "ITI-105", first);
    let response = call.gateway.publish(publication, respond, tell).await?;
    if let Some(upload) = upload {
        call.gateway.forget_upload(&upload);
    }
    let id = response["id"].as_str().unwrap_or_default().to_owned();
    let document = call.gateway.standing(&id).await?;
    let location = call.gateway.address_of("DocumentReference", &id);
    Ok(Answer::created(document.resource, location))
}

/// What was answered to this submission before, if it is the same one.
async fn answered(
    call: &Call,
    key: Option<&str>,
    digest: [u8; 32],
) -> Result<Option<Answer>, Refused> {
    let Some(key) = key else { return Ok(None) };
    let Some(before) = call.gateway.register().submission(key).await? else {
        return Ok(None);
    };
    if before.digest != digest {
        return Err(Refused::conflict(
            StatusCode::CONFLICT,
            "another submission came under the same unique identifier; give this one an identifier of its own",
        ));
    }
    if !before.is_final {
        call.gateway.finish_publications().await?;
        let again = call.gateway.register().submission(key).await?;
        match again {
            Some(again) if again.is_final => {}
            Some(_) => return Err(not_final()),
            // The consortium refused it: it is stored anew.
            None => return Ok(None),
        }
    }
    let mut response = before.response;
    if response["resourceType"].is_null() {
        let id = response["id"].as_str().unwrap_or_default();
        response = call.gateway.standing(id).await?.resource;
        return Ok(Some(Answer {
            status: StatusCode::CREATED,
            resource: response,
            location: None,
        }));
    }
    Ok(Some(Answer::ok(response)))
}

pub(crate) fn not_final() -> Refused {
    Refused::away(
        "the submission is kept and not final on the chain yet; send the same one again in a moment to learn how it ended",
    )
}

/// Names a submission by an identifier of it and by who sends it.
fn identifier_key(call: &Call, kind: &str, identifier: &Value) -> Option<String> {
    let value = identifier["value"]
        .as_str()
        .filter(|value| !value.is_empty())?;
    let system = identifier["system"].as_str().unwrap_or_default();
    let key = format!("{}\n{kind}\n{system}\n{value}", call.caller.id);
    Some(hex::encode(scheme::sha256(key.as_bytes()).as_bytes()))
}

/// A resource of a transaction.
struct Entry<'a> {
    resource: &'a Value,
    /// Where it stands, as a FHIRPath.
    place: String,
    /// Its fullUrl.
    address: String,
}

/// A transaction, sorted.
struct Transaction<'a> {
    /// The SubmissionSet first, then Folders.
    lists: Vec<Entry<'a>>,
    documents: Vec<Entry<'a>>,
    /// Every resource by its fullUrl.
    by_address: BTreeMap<&'a str, &'a Value>,
    /// What each entry is, in order.
    kinds: Vec<Kind<'a>>,
    /// Own documents that are replaced, by their ids.
    replaces: Vec<String>,
}

/// What an entry becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind<'a> {
    List(usize),
    Document(usize),
    /// The bytes of the document that refers to this fullUrl: there under the document's id.
    Bytes(&'a str),
    /// A patient that is known already, or an earlier document's status.
    Known,
}

impl<'a> Transaction<'a> {
    fn read(call: &Call, body: &'a Value) -> Result<Self, Refused> {
        let entries = body["entry"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        if entries.len() > ENTRIES_MAX {
            return Err(Refused::unprocessable(
                "Bundle.entry",
                "a submission has at most 2,048 entries; send it in parts",
            ));
        }
        let mut transaction = Self {
            lists: Vec::new(),
            documents: Vec::new(),
            by_address: BTreeMap::new(),
            kinds: Vec::new(),
            replaces: Vec::new(),
        };
        for (number, entry) in entries.iter().enumerate() {
            let place = format!("Bundle.entry[{number}].resource");
            let resource = &entry["resource"];
            let address = entry["fullUrl"].as_str().unwrap_or_default();
            if !address.is_empty() && transaction.by_address.insert(address, resource).is_some() {
                return Err(Refused::unprocessable(
                    &format!("Bundle.entry[{number}].fullUrl"),
                    "two entries have this fullUrl; give each its own",
                ));
            }
            let method = entry["request"]["method"].as_str().unwrap_or("POST");
            let own = Entry {
                resource,
                place: place.clone(),
                address: address.to_owned(),
            };
            let kind = match (resource["resourceType"].as_str(), method) {
                (Some("List"), "POST") => {
                    transaction.lists.push(own);
                    Kind::List(transaction.lists.len() - 1)
                }
                (Some("DocumentReference"), "POST") => {
                    check_description(&own)?;
                    transaction.documents.push(own);
                    Kind::Document(transaction.documents.len() - 1)
                }
                (Some("Binary" | "Bundle"), "POST") => Kind::Bytes(address),
                (Some("Patient"), "POST" | "PUT" | "GET") | (Some("Parameters"), "PATCH") => {
                    Kind::Known
                }
                (kind, method) => {
                    return Err(Refused::unprocessable(
                        &place,
                        format!(
                            "{method} of {} is no part of a submission that is taken here; a submission has a List, DocumentReferences, Binaries and a Patient",
                            kind.unwrap_or("an entry without a resource")
                        ),
                    ));
                }
            };
            transaction.kinds.push(kind);
        }
        let is_submission = |entry: &Entry<'_>| {
            let codings = entry.resource["code"]["coding"].as_array();
            codings
                .into_iter()
                .flatten()
                .any(|coding| coding["system"] == MHD_LISTS && coding["code"] == "submissionset")
        };
        let sets = transaction
            .lists
            .iter()
            .filter(|list| is_submission(list))
            .count();
        if sets != 1 {
            return Err(Refused::required(
                "Bundle.entry",
                "a submission has exactly one List with the code submissionset; add it",
            ));
        }
        if transaction.documents.is_empty() {
            return Err(Refused::required(
                "Bundle.entry",
                "the submission has no DocumentReference; add the documents that it is about",
            ));
        }
        for document in &transaction.documents {
            transaction.replaces.extend(replaced(call, document)?);
        }
        let patched = entries
            .iter()
            .filter(|entry| entry["request"]["method"] == "PATCH");
        for entry in patched {
            // A document becomes superseded by the one that replaces it, and in no other way.
            let target = entry["request"]["url"].as_str().unwrap_or_default();
            let id = own_id(call, target);
            if !id.is_some_and(|id| transaction.replaces.iter().any(|one| one == id)) {
                return Err(Refused::unprocessable(
                    "Bundle.entry.request",
                    "only a document that another one of the submission replaces can be changed; say so with relatesTo",
                ));
            }
        }
        Ok(transaction)
    }

    /// Whose documents these are. Each subject is looked up by itself: two that are written alike may be
    /// of two patients.
    async fn patient(&self, call: &Call) -> Result<Patient, Refused> {
        let mut found: Option<Patient> = None;
        for entry in self.lists.iter().chain(&self.documents) {
            let subject = &entry.resource["subject"];
            if subject.is_null() {
                continue;
            }
            let place = format!("{}.subject", entry.place);
            let beside = |target: &str| match contained(entry.resource, target) {
                Some(own) => Some(own.clone()),
                None => self.by_address.get(target).map(|one| (*one).clone()),
            };
            let patient = of_reference(&call.gateway, &place, subject, beside).await?;
            if found.as_ref().is_some_and(|before| before.id != patient.id) {
                return Err(Refused::unprocessable(
                    &place,
                    "a submission is of one patient; send each patient's documents by themselves",
                ));
            }
            found = Some(patient);
        }
        found.ok_or_else(|| {
            Refused::required(
                "Bundle.entry.resource.subject",
                "nothing says whose documents these are; refer to the Patient as the subject of the List",
            )
        })
    }

    fn key(&self, call: &Call) -> Option<String> {
        let set = self.lists.first()?;
        let identifiers = set.resource["identifier"].as_array()?;
        identifiers
            .iter()
            .find_map(|one| identifier_key(call, "List", one))
    }

    /// Where a document's bytes are.
    fn source(&self, call: &Call, reference: &Entry<'a>) -> Result<Source, Refused> {
        let attachment = &reference.resource["content"][0]["attachment"];
        let place = format!("{}.content.attachment", reference.place);
        if let Some(data) = attachment["data"].as_str() {
            return Ok(Source::Inline(decoded(&place, data)?));
        }
        let target = attachment["url"].as_str().unwrap_or_default();
        match self.by_address.get(target) {
            Some(found) if found["resourceType"] == "Binary" => {
                let data = found["data"].as_str().unwrap_or_default();
                Ok(Source::Inline(decoded(&place, data)?))
            }
            Some(found) if found["resourceType"] == "Bundle" => {
                Ok(Source::Inline(found.to_string().into_bytes()))
            }
            _ => Source::of_address(call, reference),
        }
    }

    /// A resource whose references lead to files of the record instead of entries of the transaction.
    fn rewritten(&self, resource: &Value) -> Value {
        let mut resource = resource.clone();
        rewrite(&mut resource, &|target: &str| {
            let place = self
                .documents
                .iter()
                .position(|one| !one.address.is_empty() && one.address == target)?;
            Some(file_address(u32::try_from(place).ok()?))
        });
        resource
    }

    fn response(&self, call: &Call, patient: &str, record: &str, time: u64) -> Value {
        let entries: Vec<Value> = self
            .kinds
            .iter()
            .map(|kind| {
                let own = |kind: &str, number: usize| {
                    let number = u32::try_from(number).unwrap_or(u32::MAX);
                    format!("{kind}/{}", document_id(record, number, ""))
                };
                let (status, location) = match kind {
                    Kind::List(number) => ("201 Created", own("List", *number)),
                    Kind::Document(number) => ("201 Created", own("DocumentReference", *number)),
                    Kind::Bytes(address) => match self.refers_to(address) {
                        Some(number) => ("201 Created", own("Binary", number)),
                        None => ("200 OK", String::new()),
                    },
                    Kind::Known => ("200 OK", format!("Patient/{patient}")),
                };
                let mut response = json!({
                    "status": status,
                    "etag": "W/\"1\"",
                    "lastModified": instant(time),
                });
                if !location.is_empty() {
                    response["location"] = location.into();
                }
                json!({ "response": response })
            })
            .collect();
        json!({
            "resourceType": "Bundle",
            "type": "transaction-response",
            "link": [{ "relation": "self", "url": call.gateway.base() }],
            "entry": entries,
        })
    }

    /// The document whose bytes stand under this fullUrl.
    fn refers_to(&self, address: &str) -> Option<usize> {
        let mut documents = self.documents.iter();
        documents.position(|one| {
            one.resource["content"][0]["attachment"]["url"].as_str() == Some(address)
        })
    }
}

/// What one resource contains under `#id`.
fn contained<'a>(resource: &'a Value, target: &str) -> Option<&'a Value> {
    let id = target.strip_prefix('#')?;
    let mut inside = resource["contained"].as_array()?.iter();
    inside.find(|one| one["id"] == id)
}

/// The id of an own document that an address or relative reference leads to.
fn own_id<'a>(call: &Call, target: &'a str) -> Option<&'a str> {
    let own = call.gateway.address_of("DocumentReference", "");
    target
        .strip_prefix(&own)
        .or(target.strip_prefix("DocumentReference/"))
}

/// The own documents that a description says it replaces.
fn replaced(call: &Call, entry: &Entry<'_>) -> Result<Vec<String>, Refused> {
    let relations = entry.resource["relatesTo"].as_array();
    let replaces = relations
        .into_iter()
        .flatten()
        .filter(|one| one["code"] == "replaces");
    let mut ids = Vec::new();
    for one in replaces {
        let target = one["target"]["reference"].as_str().unwrap_or_default();
        let Some(id) = own_id(call, target) else {
            return Err(Refused::unprocessable(
                &format!("{}.relatesTo.target", entry.place),
                "only a document that was published here can be replaced; refer to it as DocumentReference/ID",
            ));
        };
        ids.push(id.to_owned());
    }
    Ok(ids)
}

/// Replaces references, wherever they stand.
fn rewrite(value: &mut Value, to: &impl Fn(&str) -> Option<String>) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| rewrite(value, to)),
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) if name == "reference" => {
                        if let Some(new) = to(text) {
                            *text = new;
                        }
                    }
                    value => rewrite(value, to),
                }
            }
        }
        _ => {}
    }
}

/// What a DocumentReference must have to be published.
fn check_description(reference: &Entry<'_>) -> Result<(), Refused> {
    let resource = reference.resource;
    let place = &reference.place;
    if resource.to_string().len() > DESCRIPTION_BYTES_MAX
        && resource["content"][0]["attachment"]["data"].is_null()
    {
        return Err(Refused::unprocessable(
            place,
            "the description has more than 256 KiB; leave out what is no description",
        ));
    }
    if resource["status"] != "current" {
        return Err(Refused::required(
            &format!("{place}.status"),
            "a document is published with the status current; set it",
        ));
    }
    match resource["content"].as_array().map(Vec::len) {
        Some(1) => {}
        _ => {
            return Err(Refused::unprocessable(
                &format!("{place}.content"),
                "a DocumentReference describes exactly one content (MHD); describe each by itself",
            ));
        }
    }
    if resource["content"][0]["attachment"]["contentType"]
        .as_str()
        .is_none_or(str::is_empty)
    {
        return Err(Refused::required(
            &format!("{place}.content.attachment.contentType"),
            "the attachment has no contentType; add it",
        ));
    }
    Ok(())
}

/// Where a document's bytes come from.
enum Source {
    /// In the call.
    Inline(Vec<u8>),
    /// Sent before as a Binary of its own.
    Upload(String, PathBuf),
}

impl Source {
    fn of_address(call: &Call, reference: &Entry<'_>) -> Result<Self, Refused> {
        let place = format!("{}.content.attachment.url", reference.place);
        let attachment = &reference.resource["content"][0]["attachment"];
        let target = attachment["url"].as_str().unwrap_or_default();
        let own = call.gateway.address_of("Binary", "");
        let id = target.strip_prefix(&own).or(target.strip_prefix("Binary/"));
        let found = id.and_then(|id| binary::upload(&call.gateway, &call.caller.id, id));
        match found {
            Some((id, path)) => Ok(Self::Upload(id, path)),
            None => Err(Refused::unprocessable(
                &place,
                "the document's bytes are not there: put them into a Binary of the submission, or post a Binary first and refer to it",
            )),
        }
    }

    /// Writes the bytes to a file and compares them with what is said of them. Gives the upload that is
    /// used up, if it was one.
    async fn write(self, path: &Path, reference: &Entry<'_>) -> Result<Option<String>, Refused> {
        let path = path.to_owned();
        // A study is copied and hashed for a while.
        let writing = beside(async move { self.put(&path) });
        let (used, (size, sha1, sha256)) = writing.await.map_err(|error| {
            Refused::failed(format!(
                "the document cannot be kept: {error}; tell the hospital's IT"
            ))
        })?;
        let attachment = &reference.resource["content"][0]["attachment"];
        let place = format!("{}.content.attachment", reference.place);
        if attachment["size"].as_u64().is_some_and(|said| said != size) {
            return Err(Refused::unprocessable(
                &format!("{place}.size"),
                format!(
                    "the document has {size} bytes, which is not the size that is given; send it again"
                ),
            ));
        }
        let said = attachment["hash"].as_str();
        if said.is_some_and(|said| said != sha1 && said != sha256) {
            return Err(Refused::unprocessable(
                &format!("{place}.hash"),
                "the document's SHA-1 is not the hash that is given; send it again",
            ));
        }
        Ok(used)
    }

    fn put(self, path: &Path) -> std::io::Result<(Option<String>, (u64, String, String))> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let used = match self {
            Self::Inline(bytes) => {
                std::fs::write(path, bytes)?;
                None
            }
            Self::Upload(id, from) => {
                // A second name for the same bytes, unless the file system has none.
                if std::fs::hard_link(&from, path).is_err() {
                    std::fs::copy(&from, path)?;
                }
                Some(id)
            }
        };
        Ok((used, crate::facts::hashes(path)?))
    }
}

fn decoded(place: &str, data: &str) -> Result<Vec<u8>, Refused> {
    let mut compact = data.to_owned();
    compact.retain(|c| !c.is_ascii_whitespace());
    BASE64.decode(compact).map_err(|_| {
        Refused::unprocessable(place, "the data is no base64; encode the document's bytes")
    })
}

/// The name that a document gets in its record.
fn name_of(reference: &Value, number: usize) -> String {
    let attachment = &reference["content"][0]["attachment"];
    let title = attachment["title"]
        .as_str()
        .map(str::trim)
        .filter(|title| !title.is_empty());
    let kind = attachment["contentType"].as_str().unwrap_or_default();
    let extension = match essence(kind) {
        "application/pdf" => "pdf",
        "application/dicom" => "dcm",
        "application/fhir+json" | "application/json" => "json",
        "application/xml" | "text/xml" | "application/cda+xml" | "application/fhir+xml" => "xml",
        "text/plain" => "txt",
        "text/html" => "html",
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "application/rtf" | "text/rtf" => "rtf",
        "application/hl7-v2" | "x-application/hl7-v2+er7" => "hl7",
        _ => "bin",
    };
    let name = match title {
        Some(title) if title.contains('.') => title.to_owned(),
        Some(title) => format!("{title}.{extension}"),
        None => format!("document-{}.{extension}", number + 1),
    };
    let name = record::FileName::nearest(&name).as_str().to_owned();
    // What a publisher calls so is a document like others.
    if name == SUBMISSION {
        format!("document-{}.json", number + 1)
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_never_the_submissions() {
        let name = |title: &str, kind: &str| {
            name_of(
                &json!({ "content": [{ "attachment": { "title": title, "contentType": kind } }] }),
                1,
            )
        };
        assert_eq!(name("CT head", "application/dicom"), "CT head.dcm");
        assert_eq!(name("", "text/plain"), "document-2.txt");
        assert_eq!(
            name("../../etc/passwd.pdf", "application/pdf"),
            "passwd.pdf"
        );
        assert_eq!(name(SUBMISSION, "application/fhir+json"), "document-2.json");
        assert_eq!(name("x", "application/fhir+json; charset=utf-8"), "x.json");
    }

    #[test]
    fn references_are_rewritten_wherever_they_stand() {
        let mut value =
            json!({ "a": [{ "reference": "x" }], "b": { "c": { "reference": "y" } }, "d": "x" });
        rewrite(&mut value, &|target| {
            (target == "x").then(|| "z".to_owned())
        });
        assert_eq!(
            value,
            json!({ "a": [{ "reference": "z" }], "b": { "c": { "reference": "y" } }, "d": "x" })
        );
    }
}
