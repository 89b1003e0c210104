//! AuditEvents: what was done with a patient's documents through this gateway, in the words of IHE's basic
//! audit log patterns (BALP). They are entered before the answer goes out; what cannot be entered is not
//! done.

use axum::extract::Path;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::RECORD;
use super::answer::{Answer, Call, Pairs};
use super::documents::parameter;
use super::outcome::Refused;
use super::patient::of_search;
use super::search::{Parameter, Place, Query, Rule, instant};
use crate::gateway::{Gateway, now_ms};
use crate::register::{Document, NewEvent};
use crate::smart::Act;

const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const EVENT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const SOURCE_TYPE: &str = "http://terminology.hl7.org/CodeSystem/security-source-type";
const RESTFUL: &str = "http://hl7.org/fhir/restful-interaction";
const IHE: &str = "urn:ihe:event-type-code";
const BALP: &str = "https://profiles.ihe.net/ITI/BALP/StructureDefinition";
const MHD: &str = "https://profiles.ihe.net/ITI/MHD/StructureDefinition";
/// Bytes of a search that an event keeps.
const QUERY_BYTES_MAX: usize = 2_048;

/// Studies that one event names.
const STUDIES_MAX: usize = 64;

/// What an event says beyond who, when and whose.
struct Event<'a> {
    profile: String,
    /// System, code and display.
    kind: [&'static str; 3],
    subtypes: Vec<[&'static str; 3]>,
    /// C, R, U, D or E.
    action: &'static str,
    /// Who sent and who received, both as what stands in `who`, and where.
    source: Party<'a>,
    destination: Party<'a>,
    /// Who asked for it, if that is another.
    requestor: Option<Value>,
    entities: Vec<Value>,
    purpose: Option<Value>,
}

/// One end of what was exchanged.
struct Party<'a> {
    who: Value,
    address: Option<&'a str>,
    /// Of FHIR's AuditEventAgentNetworkType: 2 an address, 5 a URI.
    network: &'static str,
}

fn entity(kind: (&str, &str), role: (&str, &str), reference: &str) -> Value {
    json!({
        "what": { "reference": reference },
        "type": { "system": ENTITY_TYPE, "code": kind.0, "display": kind.1 },
        "role": { "system": ROLE, "code": role.0, "display": role.1 },
    })
}

const PERSON: (&str, &str) = ("1", "Person");
const SYSTEM_OBJECT: (&str, &str) = ("2", "System Object");
const PATIENT: (&str, &str) = ("1", "Patient");
const REPORT: (&str, &str) = ("3", "Report");
const DOMAIN_RESOURCE: (&str, &str) = ("4", "Domain Resource");
const JOB: (&str, &str) = ("20", "Job");

impl Event<'_> {
    fn resource(&self, gateway: &Gateway, patient: &str, id: &str, time: u64) -> Value {
        let coding = |[system, code, display]: &[&'static str; 3]| json!({ "system": system, "code": code, "display": display });
        let agent = |role: [&'static str; 3], party: &Party<'_>| {
            let mut agent = json!({
                "type": { "coding": [coding(&role)] },
                "who": party.who,
                "requestor": false,
            });
            if let Some(address) = party.address {
                agent["network"] = json!({ "address": address, "type": party.network });
            }
            agent
        };
        let mut agents = vec![
            agent([DCM, "110153", "Source Role ID"], &self.source),
            agent([DCM, "110152", "Destination Role ID"], &self.destination),
        ];
        if let Some(who) = &self.requestor {
            let role = [
                "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
                "IRCP",
                "information recipient",
            ];
            agents.push(json!({
                "type": { "coding": [coding(&role)] },
                "who": who,
                "requestor": true,
            }));
        }
        let address = gateway.address_of("Patient", patient);
        let mut entities = vec![entity(PERSON, PATIENT, &address)];
        entities.extend(self.entities.iter().cloned());
        let mut resource = json!({
            "resourceType": "AuditEvent",
            "id": id,
            "meta": {
                "versionId": "1",
                "lastUpdated": instant(time),
                "profile": [self.profile],
            },
            "type": coding(&self.kind),
            "subtype": self.subtypes.iter().map(coding).collect::<Vec<_>>(),
            "action": self.action,
            "recorded": instant(time),
            "outcome": "0",
            "agent": agents,
            "source": {
                "site": gateway.base(),
                "observer": { "display": gateway.name() },
                "type": [{ "system": SOURCE_TYPE, "code": "4", "display": "Application Server" }],
            },
            "entity": entities,
        });
        if let Some(purpose) = &self.purpose {
            resource["purposeOfEvent"] = json!([purpose]);
        }
        resource
    }

    /// The event, to be entered with what it tells of.
    fn told(&self, gateway: &Gateway, patient: &str) -> NewEvent {
        let (id, time) = (gateway.fresh_id(), now_ms());
        let resource = self.resource(gateway, patient, &id, time);
        NewEvent { id, time, resource }
    }

    async fn enter(&self, gateway: &Gateway, patient: &str) -> Result<(), Refused> {
        let event = self.told(gateway, patient);
        Ok(gateway.register().enter_event(patient, &event).await?)
    }
}

/// The system that calls, and this gateway, as the ends of an exchange.
fn ends<'a>(call: &Call, from: &'a Option<String>, base: &'a str) -> (Party<'a>, Party<'a>) {
    let system = Party {
        who: json!({ "display": call.caller.name, "identifier": { "value": call.caller.id } }),
        address: from.as_deref(),
        network: "2",
    };
    let own = Party {
        who: json!({ "display": call.gateway.name() }),
        address: Some(base),
        network: "5",
    };
    (system, own)
}

fn from(call: &Call) -> Option<String> {
    call.from.map(|from| from.ip().to_string())
}

fn requestor(call: &Call) -> Value {
    json!({ "display": call.caller.name })
}

/// A search for a patient's resources.
pub(crate) async fn searched(
    call: &Call,
    patient: &str,
    kind: &str,
    pairs: &[(String, String)],
) -> Result<(), Refused> {
    let asked = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish();
    let mut query = format!("{kind}?{asked}");
    query.truncate(query.floor_char_boundary(QUERY_BYTES_MAX));
    let (address, base) = (from(call), call.gateway.base().to_owned());
    let (system, own) = ends(call, &address, &base);
    let is_mhd = kind == "DocumentReference";
    let mut subtypes = vec![[RESTFUL, "search", "search"]];
    if is_mhd {
        subtypes.insert(0, [IHE, "ITI-67", "Find Document References"]);
    }
    let event = Event {
        profile: match is_mhd {
            true => format!("{MHD}/IHE.MHD.FindDocumentReferences.Audit.Responder"),
            false => format!("{BALP}/IHE.BasicAudit.PatientQuery"),
        },
        kind: [EVENT_TYPE, "rest", "Restful Operation"],
        subtypes,
        action: "E",
        source: system,
        destination: own,
        requestor: (!is_mhd).then(|| requestor(call)),
        entities: vec![json!({
            "type": { "system": ENTITY_TYPE, "code": "2", "display": "System Object" },
            "role": { "system": ROLE, "code": "24", "display": "Query" },
            "query": BASE64.encode(query),
        })],
        purpose: None,
    };
    event.enter(&call.gateway, patient).await
}

/// A resource of a patient was read.
pub(crate) async fn read_one(
    call: &Call,
    patient: &str,
    kind: &str,
    id: &str,
) -> Result<(), Refused> {
    let (address, base) = (from(call), call.gateway.base().to_owned());
    let (system, own) = ends(call, &address, &base);
    let event = Event {
        profile: format!("{BALP}/IHE.BasicAudit.PatientRead"),
        kind: [EVENT_TYPE, "rest", "Restful Operation"],
        subtypes: vec![[RESTFUL, "read", "read"]],
        action: "R",
        source: own,
        destination: system,
        requestor: Some(requestor(call)),
        entities: vec![entity(
            SYSTEM_OBJECT,
            DOMAIN_RESOURCE,
            &call.gateway.address_of(kind, id),
        )],
        purpose: None,
    };
    event.enter(&call.gateway, patient).await
}

/// A document's bytes were given out.
pub(crate) async fn retrieved(call: &Call, document: &Document) -> Result<(), Refused> {
    let (address, base) = (from(call), call.gateway.base().to_owned());
    let (system, own) = ends(call, &address, &base);
    let event = Event {
        profile: format!("{MHD}/IHE.MHD.RetrieveDocument.Audit.Responder"),
        kind: [EVENT_TYPE, "rest", "Restful Operation"],
        subtypes: vec![
            [IHE, "ITI-68", "Retrieve Document"],
            [RESTFUL, "read", "read"],
        ],
        action: "R",
        source: own,
        destination: system,
        requestor: Some(requestor(call)),
        entities: vec![entity(
            SYSTEM_OBJECT,
            REPORT,
            &call.gateway.address_of("DocumentReference", &document.id),
        )],
        purpose: None,
    };
    event.enter(&call.gateway, &document.patient).await
}

/// A patient's images were looked for or given out by DICOMweb.
pub(crate) async fn images(
    call: &Call,
    patient: &str,
    what: &'static str,
    studies: &std::collections::BTreeSet<&str>,
    query: &str,
) -> Result<(), Refused> {
    let query = query
        .get(..query.floor_char_boundary(QUERY_BYTES_MAX))
        .unwrap_or_default();
    let (address, base) = (from(call), call.gateway.dicomweb().to_owned());
    let (system, own) = ends(call, &address, &base);
    let is_read = what == "read";
    let named = studies.iter().take(STUDIES_MAX).map(|study| {
        json!({
            "what": { "identifier": { "system": "urn:dicom:uid", "value": format!("urn:oid:{study}") } },
            "type": { "system": ENTITY_TYPE, "code": "2", "display": "System Object" },
            "role": { "system": ROLE, "code": "4", "display": "Domain Resource" },
        })
    });
    let query = json!({
        "type": { "system": ENTITY_TYPE, "code": "2", "display": "System Object" },
        "role": { "system": ROLE, "code": "24", "display": "Query" },
        "query": BASE64.encode(query),
    });
    let (source, destination) = if is_read {
        (own, system)
    } else {
        (system, own)
    };
    let event = Event {
        profile: match is_read {
            true => format!("{BALP}/IHE.BasicAudit.PatientRead"),
            false => format!("{BALP}/IHE.BasicAudit.PatientQuery"),
        },
        kind: [EVENT_TYPE, "rest", "Restful Operation"],
        subtypes: vec![match is_read {
            true => [RESTFUL, "read", "read"],
            false => [RESTFUL, "search", "search"],
        }],
        action: if is_read { "R" } else { "E" },
        source,
        destination,
        requestor: Some(requestor(call)),
        entities: if is_read {
            named.collect()
        } else {
            vec![query]
        },
        purpose: None,
    };
    event.enter(&call.gateway, patient).await
}

/// How a resource was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrote {
    Created,
    Updated,
}

/// A resource of a patient was written by a system.
pub(crate) async fn wrote(
    call: &Call,
    patient: &str,
    kind: &str,
    id: &str,
    how: Wrote,
) -> Result<(), Refused> {
    let (address, base) = (from(call), call.gateway.base().to_owned());
    let (system, own) = ends(call, &address, &base);
    let (profile, code, action) = match how {
        Wrote::Created => ("PatientCreate", "create", "C"),
        Wrote::Updated => ("PatientUpdate", "update", "U"),
    };
    let event = Event {
        profile: format!("{BALP}/IHE.BasicAudit.{profile}"),
        kind: [EVENT_TYPE, "rest", "Restful Operation"],
        subtypes: vec![[RESTFUL, code, code]],
        action,
        source: system,
        destination: own,
        requestor: Some(requestor(call)),
        entities: vec![entity(
            SYSTEM_OBJECT,
            DOMAIN_RESOURCE,
            &call.gateway.address_of(kind, id),
        )],
        purpose: None,
    };
    event.enter(&call.gateway, patient).await
}

/// Documents are published by a system; to be entered with them. A submission is named by its List, which
/// has the id of its first document.
pub(crate) fn published(
    call: &Call,
    patient: &str,
    transaction: &'static str,
    first: &str,
) -> NewEvent {
    let (address, base) = (from(call), call.gateway.base().to_owned());
    let (system, own) = ends(call, &address, &base);
    let event = if transaction == "ITI-65" {
        Event {
            profile: format!("{MHD}/IHE.MHD.ProvideBundle.Audit.Recipient"),
            kind: [DCM, "110107", "Import"],
            subtypes: vec![[IHE, "ITI-65", "Provide Document Bundle"]],
            action: "C",
            source: system,
            destination: own,
            requestor: None,
            entities: vec![entity(
                SYSTEM_OBJECT,
                JOB,
                &call.gateway.address_of("List", first),
            )],
            purpose: None,
        }
    } else {
        Event {
            profile: format!("{MHD}/IHE.MHD.SimplifiedPublish.Audit.Recipient"),
            kind: [EVENT_TYPE, "rest", "Restful Operation"],
            subtypes: vec![
                [IHE, "ITI-105", "Simplified Publish"],
                [RESTFUL, "create", "create"],
            ],
            action: "C",
            source: system,
            destination: own,
            requestor: None,
            entities: vec![entity(
                SYSTEM_OBJECT,
                DOMAIN_RESOURCE,
                &call.gateway.address_of("DocumentReference", first),
            )],
            purpose: None,
        }
    };
    event.told(&call.gateway, patient)
}

/// Documents that a source gave are taken, without a call; to be entered with them, as their record.
pub(crate) fn taken(gateway: &Gateway, patient: &str, source: &str, record: &str) -> NewEvent {
    let base = gateway.base().to_owned();
    let from = format!("urn:willis:intake:{source}");
    let who = || json!({ "display": format!("{source}, without a call") });
    let event = Event {
        profile: format!("{BALP}/IHE.BasicAudit.PatientCreate"),
        kind: [EVENT_TYPE, "rest", "Restful Operation"],
        subtypes: vec![[RESTFUL, "create", "create"]],
        action: "C",
        source: Party {
            who: who(),
            address: Some(&from),
            network: "5",
        },
        destination: Party {
            who: json!({ "display": gateway.name() }),
            address: Some(&base),
            network: "5",
        },
        requestor: Some(who()),
        entities: vec![json!({
            "what": { "identifier": { "system": RECORD, "value": record } },
            "type": { "system": ENTITY_TYPE, "code": "2", "display": "System Object" },
            "role": { "system": ROLE, "code": "4", "display": "Domain Resource" },
        })],
        purpose: None,
    };
    event.told(gateway, patient)
}

/// Who discloses a record: the hospital that stored it.
pub(crate) struct Discloser<'a> {
    pub(crate) name: &'a str,
    pub(crate) number: u32,
}

/// A record of another hospital is opened here under a grant: a disclosure to this hospital, to be entered
/// with what was opened.
pub(crate) fn disclosed(
    gateway: &Gateway,
    patient: &str,
    by: &Discloser<'_>,
    purpose: &str,
    consent: &str,
    documents: &[Document],
) -> NewEvent {
    let base = gateway.base().to_owned();
    let from = format!("urn:willis:institution:{}", by.number);
    let mut entities: Vec<Value> = documents
        .iter()
        .take(STUDIES_MAX)
        .map(|document| {
            let address = gateway.address_of("DocumentReference", &document.id);
            entity(SYSTEM_OBJECT, REPORT, &address)
        })
        .collect();
    entities.push(json!({
        "type": { "system": "http://hl7.org/fhir/resource-types", "code": "Consent" },
        "what": { "reference": gateway.address_of("Consent", consent) },
    }));
    let event = Event {
        profile: format!("{BALP}/IHE.BasicAudit.PrivacyDisclosure.Recipient"),
        kind: [DCM, "110107", "Import"],
        subtypes: vec![[
            "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle",
            "disclose",
            "Disclose Record Lifecycle Event",
        ]],
        action: "C",
        source: Party {
            who: json!({ "display": by.name }),
            address: Some(&from),
            network: "5",
        },
        destination: Party {
            who: json!({ "display": gateway.name() }),
            address: Some(&base),
            network: "5",
        },
        requestor: Some(json!({ "display": gateway.name() })),
        entities,
        purpose: Some(json!({ "text": purpose })),
    };
    event.told(gateway, patient)
}

/// What became of a proposal: decided by the patient, or given up here.
pub(crate) async fn decided(
    gateway: &Gateway,
    patient: &str,
    consent: &str,
    permitted: bool,
) -> Result<(), Refused> {
    let (id, time) = (gateway.fresh_id(), now_ms());
    let address = gateway.address_of("Patient", patient);
    let who = json!({ "display": gateway.name() });
    let resource = json!({
        "resourceType": "AuditEvent",
        "id": id,
        "meta": {
            "versionId": "1",
            "lastUpdated": instant(time),
            "profile": [format!("{BALP}/IHE.BasicAudit.AuthZconsent")],
        },
        "type": { "system": DCM, "code": "110113", "display": "Security Alert" },
        "subtype": [{
            "system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType",
            "code": "AuthZ-Consent",
        }],
        "action": "E",
        "recorded": instant(time),
        "outcome": if permitted { "0" } else { "4" },
        "agent": [
            {
                "type": { "coding": [{ "system": DCM, "code": "110150", "display": "Application" }] },
                "who": who,
                "requestor": false,
                "network": { "address": gateway.base(), "type": "5" },
            },
            {
                "type": { "coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
                    "code": "IRCP",
                    "display": "information recipient",
                }] },
                "who": who,
                "requestor": true,
            },
            {
                "type": { "coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/extra-security-role-type",
                    "code": "authserver",
                    "display": "authorization server",
                }] },
                "who": who,
                "requestor": false,
            },
            {
                "type": { "coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/v3-RoleClass",
                    "code": "PROV",
                    "display": "healthcare provider",
                }] },
                "who": who,
                "requestor": false,
            },
        ],
        "source": {
            "site": gateway.base(),
            "observer": who,
            "type": [{ "system": SOURCE_TYPE, "code": "6", "display": "Security Server" }],
        },
        "entity": [
            entity(PERSON, PATIENT, &address),
            {
                "type": { "system": "http://hl7.org/fhir/resource-types", "code": "Consent" },
                "what": { "reference": gateway.address_of("Consent", consent) },
            },
        ],
    });
    let event = NewEvent { id, time, resource };
    Ok(gateway.register().enter_event(patient, &event).await?)
}

const PARAMETERS: &[Parameter] = &[
    parameter("_id", Rule::Token, &["id"]),
    parameter("_lastUpdated", Rule::Date, &["meta.lastUpdated"]),
    parameter("action", Rule::Token, &["action"]),
    parameter("date", Rule::Date, &["recorded"]),
    parameter("entity", Rule::Reference, &["entity.what"]),
    parameter("outcome", Rule::Token, &["outcome"]),
    parameter("subtype", Rule::Token, &["subtype"]),
    parameter("type", Rule::Token, &["type"]),
];

pub(crate) fn parameters() -> &'static [Parameter] {
    PARAMETERS
}

/// Finds what was done with one patient's documents.
pub(crate) async fn search(call: Call, Pairs(pairs): Pairs) -> Result<Answer, Refused> {
    call.may(Act::Search, "AuditEvent")?;
    let query = Query::read(&pairs, PARAMETERS, &["patient", "patient.identifier"])?;
    let mut matches = Vec::new();
    if let Some(patient) = of_search(&call.gateway, &query).await? {
        for (id, time, event) in call.gateway.register().events(&patient.id).await? {
            if query.matches(&event, PARAMETERS)? {
                matches.push((Place { time, id }, event));
            }
        }
    }
    let page = query.page(matches);
    Ok(Answer::ok(page.bundle(
        call.gateway.base(),
        "AuditEvent",
        &pairs,
        None,
    )))
}

/// `GET AuditEvent/{id}`.
pub(crate) async fn read(call: Call, Path(id): Path<String>) -> Result<Answer, Refused> {
    call.may(Act::Read, "AuditEvent")?;
    let found = call.gateway.register().event(&id).await?;
    found
        .map(Answer::ok)
        .ok_or_else(|| Refused::not_found("AuditEvent"))
}
