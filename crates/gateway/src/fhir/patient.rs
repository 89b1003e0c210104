//! Patients: the hospital's numbers for a person, and the UIDs under which the person hands episodes over.
//! No name and no birth date is kept: the hospital's own system has them.

use axum::extract::Path;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Call, Headers, Pairs, Received, must_be_plain};
use super::audit::{self, Wrote};
use super::outcome::Refused;
use super::search::{Place, Query, instant};
use super::{INBOX, UID};
use crate::gateway::{Gateway, now_ms};
use crate::register::{IDENTIFIERS_MAX, Identifier, Patient};
use crate::smart::Act;

/// Stands for a UID that is to be given.
const NEW: &str = "new";
/// Characters of an identifier's system or value: what FHIR servers commonly store.
const IDENTIFIER_CHARACTERS_MAX: usize = 512;

/// The resource of a patient. The code by which the patient can be asked is kept and not shown: whoever
/// has it can ask.
pub(crate) fn resource(patient: &Patient) -> Value {
    let identifiers: Vec<Value> = patient
        .identifiers
        .iter()
        .filter(|one| one.system != INBOX)
        .map(|one| {
            let mut identifier = json!({ "value": one.value });
            if !one.system.is_empty() {
                identifier["system"] = one.system.clone().into();
            }
            identifier
        })
        .collect();
    json!({
        "resourceType": "Patient",
        "id": patient.id,
        "meta": {
            "versionId": patient.version.to_string(),
            "lastUpdated": instant(patient.updated),
        },
        "identifier": identifiers,
    })
}

/// The numbers that a Patient resource has.
///
/// # Errors
/// [`Refused`] if one cannot be used.
pub(crate) fn identifiers(resource: &Value) -> Result<Vec<Identifier>, Refused> {
    let list = resource["identifier"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if list.len() > IDENTIFIERS_MAX {
        return Err(Refused::unprocessable(
            "Patient.identifier",
            "a patient has at most 64 identifiers; leave some out",
        ));
    }
    let mut found: Vec<Identifier> = Vec::new();
    for one in list {
        let system = one["system"].as_str().unwrap_or_default().trim();
        let value = one["value"].as_str().unwrap_or_default().trim();
        let usable = |text: &str| {
            text.chars().count() <= IDENTIFIER_CHARACTERS_MAX && !text.chars().any(char::is_control)
        };
        if value.is_empty() || !usable(system) || !usable(value) {
            return Err(Refused::unprocessable(
                "Patient.identifier",
                "an identifier has no value, more than 512 characters, or control characters; mend it",
            ));
        }
        let identifier = Identifier {
            system: system.to_owned(),
            value: value.to_owned(),
        };
        if !found.contains(&identifier) {
            found.push(identifier);
        }
    }
    Ok(found)
}

/// Gives a fresh UID where one is asked for: an identifier `urn:willis:uid` of the value `new`.
async fn give_uids(gateway: &Gateway, identifiers: &mut [Identifier]) -> Result<(), Refused> {
    for one in identifiers {
        if one.system == UID && one.value == NEW {
            one.value = gateway.desk().give_uid().await?;
        }
    }
    Ok(())
}

/// `POST Patient`: enters a patient's numbers. With `urn:willis:uid` of the value `new` among them the
/// patient gets a UID, to be taken along to hand the stay over.
/// With `If-None-Exist` a patient who is there already is answered instead.
pub(crate) async fn create(
    call: Call,
    Headers(headers): Headers,
    Received(body, _room): Received,
) -> Result<Answer, Refused> {
    call.may(Act::Create, "Patient")?;
    must_be_plain(&body, "Patient")?;
    let condition = headers.get("if-none-exist");
    if let Some(condition) = condition.and_then(|condition| condition.to_str().ok()) {
        let mut pairs = url::form_urlencoded::parse(condition.as_bytes());
        let Some((_, token)) = pairs.find(|(name, _)| name == "identifier") else {
            return Err(Refused::invalid(
                "If-None-Exist names no identifier; give identifier=system|value",
            ));
        };
        match by_identifier(&call.gateway, &token).await?.as_slice() {
            [] => {}
            [one] => return Ok(Answer::ok(resource(one))),
            _ => {
                return Err(Refused::conflict(
                    StatusCode::PRECONDITION_FAILED,
                    "the identifier is of more than one patient; give its system as well: system|value",
                ));
            }
        }
    }
    let mut identifiers = identifiers(&body)?;
    if identifiers.is_empty() {
        return Err(Refused::required(
            "Patient.identifier",
            "the patient has no identifier; send the number by which this hospital knows the patient",
        ));
    }
    give_uids(&call.gateway, &mut identifiers).await?;
    let patient = Patient {
        id: call.gateway.fresh_id(),
        version: 1,
        updated: now_ms(),
        identifiers,
    };
    match call.gateway.register().enter_patient(&patient).await {
        Err(services::DatabaseError::Exists) => Err(taken()),
        entered => {
            entered?;
            audit::wrote(&call, &patient.id, "Patient", &patient.id, Wrote::Created).await?;
            let location = call.gateway.address_of("Patient", &patient.id);
            Ok(Answer::created(resource(&patient), location))
        }
    }
}

fn taken() -> Refused {
    Refused::conflict(
        StatusCode::CONFLICT,
        "one of the identifiers is another patient's; search for it, and update that patient",
    )
}

/// `GET Patient/{id}`.
pub(crate) async fn read(call: Call, Path(id): Path<String>) -> Result<Answer, Refused> {
    call.may(Act::Read, "Patient")?;
    let found = call.gateway.register().patient(&id).await?;
    let patient = found.ok_or_else(|| Refused::not_found("Patient"))?;
    Ok(Answer::ok(resource(&patient)))
}

/// `PUT Patient/{id}`: replaces the numbers. A UID that is not among the new ones stays: stays that were
/// begun under it belong to the patient. `urn:willis:uid` with the value `new` gives a further one.
pub(crate) async fn update(
    call: Call,
    Path(id): Path<String>,
    Headers(headers): Headers,
    Received(body, _room): Received,
) -> Result<Answer, Refused> {
    call.may(Act::Update, "Patient")?;
    must_be_plain(&body, "Patient")?;
    let register = call.gateway.register();
    let found = register.patient(&id).await?;
    let before = found.ok_or_else(|| Refused::not_found("Patient"))?;
    must_match(&headers, before.version)?;
    let mut wanted = identifiers(&body)?;
    give_uids(&call.gateway, &mut wanted).await?;
    // The code that is not shown stays as well, unless another one comes.
    let asked_anew = wanted.iter().any(|one| one.system == INBOX);
    let stays = before
        .identifiers
        .iter()
        .filter(|one| one.system == UID || one.system == INBOX && !asked_anew);
    for stay in stays {
        if !wanted.contains(stay) {
            wanted.push(stay.clone());
        }
    }
    if wanted.len() > IDENTIFIERS_MAX {
        return Err(Refused::unprocessable(
            "Patient.identifier",
            "with the UIDs of earlier stays a patient has at most 64 identifiers; leave some out",
        ));
    }
    let patient = Patient {
        id,
        version: before.version + 1,
        updated: now_ms(),
        identifiers: wanted,
    };
    match register.change_patient(&patient, before.version).await {
        Err(services::DatabaseError::Exists) => Err(taken()),
        Ok(false) => Err(changed()),
        changed => {
            changed?;
            audit::wrote(&call, &patient.id, "Patient", &patient.id, Wrote::Updated).await?;
            Ok(Answer::ok(resource(&patient)))
        }
    }
}

/// Checks `If-Match`, if it is there.
///
/// # Errors
/// [`Refused`], 412.
pub(crate) fn must_match(headers: &axum::http::HeaderMap, version: u64) -> Result<(), Refused> {
    let wanted = headers.get(axum::http::header::IF_MATCH);
    let own = [format!("W/\"{version}\""), format!("\"{version}\"")];
    match wanted.and_then(|wanted| wanted.to_str().ok()) {
        Some(wanted) if !own.iter().any(|own| own == wanted.trim()) => Err(changed()),
        _ => Ok(()),
    }
}

pub(crate) fn changed() -> Refused {
    Refused::conflict(
        StatusCode::PRECONDITION_FAILED,
        "somebody changed the resource meanwhile; read it again and make the change anew",
    )
}

/// `GET Patient?identifier=`; without one, all patients of this gateway.
pub(crate) async fn search(call: Call, Pairs(pairs): Pairs) -> Result<Answer, Refused> {
    call.may(Act::Search, "Patient")?;
    let query = Query::read(&pairs, &[], &["identifier", "_id"])?;
    let register = call.gateway.register();
    let mut found: Vec<Patient> = match (query.own("identifier"), query.own("_id")) {
        (Some(identifier), _) => by_identifier(&call.gateway, identifier).await?,
        (None, Some(id)) => register.patient(id).await?.into_iter().collect(),
        (None, None) => register.patients().await?,
    };
    if let Some(id) = query.own("_id") {
        found.retain(|patient| patient.id == id);
    }
    let matches = found.iter().map(|patient| {
        let place = Place {
            time: patient.updated,
            id: patient.id.clone(),
        };
        (place, resource(patient))
    });
    let page = query.page(matches.collect());
    Ok(Answer::ok(page.bundle(
        call.gateway.base(),
        "Patient",
        &pairs,
        None,
    )))
}

/// The patients that a token of the search names.
///
/// # Errors
/// [`Refused`].
pub(crate) async fn by_identifier(gateway: &Gateway, token: &str) -> Result<Vec<Patient>, Refused> {
    let (system, value) = match token.split_once('|') {
        Some((system, value)) => (Some(system), value),
        None => (None, token),
    };
    if value.is_empty() {
        return Err(Refused::invalid(
            "an identifier is searched for by its value; give identifier=system|value",
        ));
    }
    Ok(gateway.register().patients_by(system, value).await?)
}

/// The one patient that a search is about: by `patient` (an id or address) or `patient.identifier`.
///
/// # Errors
/// [`Refused`], 400, if neither is given. None if there is no such patient.
pub(crate) async fn of_search(
    gateway: &Gateway,
    query: &Query,
) -> Result<Option<Patient>, Refused> {
    let named = ["patient", "subject", "target.patient"];
    if let Some(reference) = named.iter().find_map(|name| query.own(name)) {
        let id = reference.rsplit('/').next().unwrap_or_default();
        return Ok(gateway.register().patient(id).await?);
    }
    let named = ["patient.identifier", "subject.identifier"];
    if let Some(token) = named.iter().find_map(|name| query.own(name)) {
        let found = by_identifier(gateway, token).await?;
        return match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            _ => Err(Refused::invalid(
                "the identifier is of more than one patient; give its system as well: system|value",
            )),
        };
    }
    Err(Refused::invalid(
        "the search names no patient; give patient=ID or patient.identifier=system|value",
    ))
}

/// The patient of a reference in a resource: `Patient/{id}`, its address, or an identifier in it or in the
/// Patient that is contained or stands beside it.
///
/// # Errors
/// [`Refused`], 422, if it is none of this hospital's.
pub(crate) async fn of_reference(
    gateway: &Gateway,
    place: &str,
    reference: &Value,
    beside: impl Fn(&str) -> Option<Value>,
) -> Result<Patient, Refused> {
    let unknown = || {
        Refused::unprocessable(
            place,
            "the patient is not known here; create the Patient first, with the number that you refer to",
        )
    };
    let mut numbers = Vec::new();
    if let Some(target) = reference["reference"].as_str() {
        let own = gateway.address_of("Patient", "");
        let id = target
            .strip_prefix(&own)
            .or(target.strip_prefix("Patient/"));
        if let Some(id) = id {
            let id = id.split('/').next().unwrap_or_default();
            return gateway.register().patient(id).await?.ok_or_else(unknown);
        }
        if let Some(patient) = beside(target) {
            numbers.extend(identifiers(&patient)?);
        }
    }
    let in_reference = &reference["identifier"];
    if in_reference["value"].is_string() {
        numbers.extend(identifiers(&json!({ "identifier": [in_reference] }))?);
    }
    let mut named: Option<Patient> = None;
    for number in &numbers {
        let found = gateway
            .register()
            .patients_by(Some(&number.system), &number.value)
            .await?;
        for patient in found {
            if named.as_ref().is_some_and(|named| named.id != patient.id) {
                return Err(Refused::unprocessable(
                    place,
                    "the identifiers are of different patients here; refer to one of them",
                ));
            }
            named = Some(patient);
        }
    }
    named.ok_or_else(unknown)
}

/// The UIDs of a patient.
pub(crate) fn uids(patient: &Patient) -> Vec<&str> {
    let own = patient.identifiers.iter().filter(|one| one.system == UID);
    own.map(|one| one.value.as_str()).collect()
}

/// The code by which a patient can be asked, the one that was given last.
pub(crate) fn inbox(patient: &Patient) -> Option<&str> {
    let own = patient
        .identifiers
        .iter()
        .rev()
        .find(|one| one.system == INBOX);
    own.map(|one| one.value.as_str())
}
