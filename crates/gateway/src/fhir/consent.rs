//! Consents (IHE PCF): a hospital's system proposes what a patient is asked for, and sees what the patient
//! really granted and revoked. The patient decides, on an own device; nothing here grants anything.
//!
//! A proposal is carried as a request (`spec/formats.md`, M5): its section classes are those of the
//! provision's security labels (system `urn:willis:section-class`; all without one), its purpose is what
//! the patient reads. What a request cannot say exactly is refused and never left out.

use axum::extract::Path;
use client::RequestState;
use record::SectionClass;
use serde_json::{Value, json};
use std::sync::Arc;
use workstation::{Ask, GrantView, RequestView};

use super::answer::{Answer, Call, Headers, Pairs, Received, must_be_plain};
use super::audit::Wrote;
use super::documents::parameter;
use super::outcome::Refused;
use super::patient::{changed, identifiers, inbox, must_match, of_reference, of_search};
use super::search::{Parameter, Place, Query, Rule, instant, span_of};
use super::{GRANT, INBOX, SECTION_CLASS, audit};
use crate::gateway::{Gateway, now_ms};
use crate::register::{CONSENTS_MAX, Consent};
use crate::smart::Act;

/// Stays that a patient can open with one answer: as many access keys as a request may have.
const EPISODES: usize = 8;
/// Bytes of a purpose in a request (M5).
const PURPOSE_BYTES_MAX: usize = 256;
/// Hours for which a request can be answered at most.
const HOURS_MAX: u64 = 24;
/// Times that a proposal is changed anew because somebody else did meanwhile.
const CHANGES_MAX: usize = 8;
/// How many section classes were granted, where fewer were than were asked for.
const CLASSES_GRANTED: &str = "urn:willis:classes-granted";
const HOUR_MS: u64 = 60 * 60 * 1000;
const PCF: &str = "https://profiles.ihe.net/ITI/PCF/StructureDefinition";
const SCOPE: &str = "http://terminology.hl7.org/CodeSystem/consentscope";

/// What a proposal asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Proposal {
    /// Empty for all.
    classes: Vec<SectionClass>,
    purpose: String,
    /// Until when access is wanted, in ms since 1970.
    until: Option<u64>,
}

impl Proposal {
    /// Reads what a Consent asks for.
    ///
    /// # Errors
    /// [`Refused`], 422, for whatever a request cannot carry.
    fn read(consent: &Value, now: u64) -> Result<Self, Refused> {
        let scopes = consent["scope"]["coding"].as_array();
        let privacy = scopes
            .into_iter()
            .flatten()
            .any(|coding| coding["system"] == SCOPE && coding["code"] == "patient-privacy");
        if !privacy {
            return Err(Refused::required(
                "Consent.scope",
                "only consents of the scope patient-privacy are carried to a patient; set it",
            ));
        }
        let provision = &consent["provision"];
        must_not_change_meaning("Consent", consent)?;
        must_not_change_meaning("Consent.provision", provision)?;
        if provision["type"] != "permit" {
            return Err(Refused::unprocessable(
                "Consent.provision.type",
                "what is proposed is a permit: without one nothing is open. To end a consent, update its status to inactive",
            ));
        }
        for name in ["action", "class", "code", "dataPeriod", "data"] {
            if !provision[name].is_null() {
                return Err(Refused::unprocessable(
                    &format!("Consent.provision.{name}"),
                    "a grant opens section classes of stays that the patient chooses; leave this out, and name classes by securityLabel",
                ));
            }
        }
        let place = "Consent.provision.securityLabel";
        let mut classes = match &provision["securityLabel"] {
            Value::Null => Vec::new(),
            some => labels(place, some)?,
        };
        let inner = match &provision["provision"] {
            Value::Null => &[][..],
            Value::Array(inner) => inner,
            _ => {
                return Err(Refused::unprocessable(
                    "Consent.provision.provision",
                    "exceptions are an array; mend it",
                ));
            }
        };
        for (number, exception) in inner.iter().enumerate() {
            let place = format!("Consent.provision.provision[{number}]");
            let members = exception.as_object();
            let only = |name: &String| matches!(name.as_str(), "id" | "type" | "securityLabel");
            if exception["type"] != "deny" || !members.is_some_and(|all| all.keys().all(only)) {
                return Err(Refused::unprocessable(
                    &place,
                    "the only exception that can be carried is a deny of section classes by securityLabel; propose the rest by itself",
                ));
            }
            let denied = labels(&place, &exception["securityLabel"])?;
            if classes.is_empty() {
                classes = SectionClass::ALL.to_vec();
            }
            classes.retain(|class| !denied.contains(class));
            if classes.is_empty() {
                return Err(Refused::unprocessable(
                    &place,
                    "nothing is left to be asked for",
                ));
            }
        }
        let period = &provision["period"];
        let begin = period["start"].as_str();
        if begin.is_some_and(|begin| span_of(begin).is_none_or(|(from, _)| from > ns(now))) {
            return Err(Refused::unprocessable(
                "Consent.provision.period.start",
                "access begins when the patient grants it; leave the start out, or propose it when the time has come",
            ));
        }
        let until = match period["end"].as_str() {
            None => None,
            Some(end) => {
                let ends = span_of(end)
                    .map(|(_, until)| until)
                    .filter(|until| *until > ns(now));
                let Some(ends) = ends else {
                    return Err(Refused::unprocessable(
                        "Consent.provision.period.end",
                        "the period is over, or its end is no date; give a later one",
                    ));
                };
                Some(u64::try_from(ends / 1_000_000).unwrap_or(u64::MAX))
            }
        };
        Ok(Self {
            classes,
            purpose: purpose(provision, until)?,
            until,
        })
    }

    fn hours(&self, now: u64) -> u64 {
        let left = self
            .until
            .map_or(u64::MAX, |until| until.saturating_sub(now) / HOUR_MS);
        left.clamp(1, workstation::REQUEST_HOURS).min(HOURS_MAX)
    }
}

fn ns(ms: u64) -> i128 {
    i128::from(ms) * 1_000_000
}

/// Refuses what FHIR says must be understood, since nothing of it is.
fn must_not_change_meaning(place: &str, element: &Value) -> Result<(), Refused> {
    for name in ["modifierExtension", "implicitRules"] {
        if !element[name].is_null() {
            return Err(Refused::unprocessable(
                &format!("{place}.{name}"),
                "this changes what the consent means in a way that is not known here; leave it out",
            ));
        }
    }
    Ok(())
}

/// Section classes of security labels, of which there is at least one.
fn labels(place: &str, labels: &Value) -> Result<Vec<SectionClass>, Refused> {
    let list = labels.as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        return Err(Refused::unprocessable(
            place,
            "no section class is named; give securityLabel as a list of codes, or leave it out for all",
        ));
    }
    let mut classes = Vec::new();
    for label in list {
        let name = label["code"].as_str().unwrap_or_default();
        let class = SectionClass::from_name(name);
        match class.filter(|_| label["system"] == SECTION_CLASS) {
            Some(class) => classes.push(class),
            None => {
                return Err(Refused::unprocessable(
                    place,
                    format!(
                        "{name} is no section class; use codes of {SECTION_CLASS}, such as imaging or laboratory"
                    ),
                ));
            }
        }
    }
    classes.sort_unstable();
    classes.dedup();
    Ok(classes)
}

/// What the patient reads: why, for whom, until when. A code that is known has its own words, whatever
/// else the system displays beside it.
fn purpose(provision: &Value, until: Option<u64>) -> Result<String, Refused> {
    const PURPOSE: &str = "Consent.provision.purpose";
    const ACTOR: &str = "Consent.provision.actor";
    let known = |code: &str| match code {
        "TREAT" => Some("treatment"),
        "ETREAT" => Some("emergency treatment"),
        "CAREMGT" => Some("care management"),
        "HPAYMT" => Some("payment"),
        "HOPERAT" => Some("operation of the hospital"),
        "HRESCH" => Some("research"),
        "PATRQT" => Some("your own request"),
        _ => None,
    };
    let mut why = Vec::new();
    for coding in provision["purpose"].as_array().into_iter().flatten() {
        let code = coding["code"].as_str().unwrap_or_default();
        let shown = known(code).or(coding["display"].as_str()).unwrap_or(code);
        if shown.trim().is_empty() {
            return Err(Refused::unprocessable(
                PURPOSE,
                "a purpose has neither code nor display; add one",
            ));
        }
        why.push(shown.trim());
    }
    let mut who = Vec::new();
    for actor in provision["actor"].as_array().into_iter().flatten() {
        let reference = &actor["reference"];
        let named = reference["display"].as_str();
        let named = named.or(reference["identifier"]["value"].as_str());
        let Some(named) = named.filter(|name| !name.trim().is_empty()) else {
            return Err(Refused::unprocessable(
                ACTOR,
                "the patient cannot be told who this is; give the reference a display or an identifier",
            ));
        };
        who.push(named.trim());
    }
    let mut text = match why.is_empty() {
        true => "treatment".to_owned(),
        false => why.join(", "),
    };
    if !who.is_empty() {
        text = format!("{text}; for {}", who.join(", "));
    }
    if let Some(until) = until {
        // To the minute is what a person reads.
        let end = instant(until);
        text = format!("{text}; until {} {} UTC", &end[..10], &end[11..16]);
    }
    let odd = |c: char| {
        // Characters that turn the writing direction could make it read otherwise than it says.
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.chars().any(odd) {
        return Err(Refused::unprocessable(
            PURPOSE,
            "a purpose or actor has a control character; leave it out",
        ));
    }
    if text.len() > PURPOSE_BYTES_MAX {
        return Err(Refused::unprocessable(
            PURPOSE,
            "purposes and actors are longer than the 256 bytes that a request carries to the patient; shorten them",
        ));
    }
    Ok(text)
}

/// `POST Consent`: asks the patient, or the family agent whom the performer is.
pub(crate) async fn create(call: Call, Received(body, _room): Received) -> Result<Answer, Refused> {
    call.may(Act::Create, "Consent")?;
    must_be_plain(&body, "Consent")?;
    let status = body["status"].as_str().unwrap_or_default();
    if !matches!(status, "draft" | "proposed" | "active") {
        return Err(Refused::unprocessable(
            "Consent.status",
            "a new consent is a proposal to the patient: give it the status proposed",
        ));
    }
    let gateway = &call.gateway;
    let proposal = Proposal::read(&body, now_ms())?;
    let beside = |target: &str| contained(&body, target).cloned();
    let patient = of_reference(gateway, "Consent.patient", &body["patient"], beside).await?;
    let code = asked_inbox(&body, inbox(&patient))?;
    if gateway.register().consents(&patient.id).await?.len() >= CONSENTS_MAX {
        return Err(Refused::unprocessable(
            "Consent.patient",
            "this patient has 256 consents here, as many as are kept; update one of them",
        ));
    }
    let mut resource = body.clone();
    resource["status"] = "proposed".into();
    let mut consent = Consent {
        id: gateway.fresh_id(),
        patient: patient.id,
        entered: now_ms(),
        updated: now_ms(),
        version: 1,
        requests: Vec::new(),
        provisions: serde_json::Map::new(),
        given_up: false,
        resource,
    };
    // By itself, so that a system that goes away leaves no request that nobody follows.
    let own = Arc::clone(gateway);
    let asking = tokio::spawn(async move {
        // First the proposal, then the request: the patient is asked nothing that is not kept here.
        own.register().enter_consent(&consent).await?;
        match ask(&own, &code, &proposal).await {
            Ok(request) => {
                let provision = consent.resource["provision"].clone();
                consent.provisions.insert(request.clone(), provision);
                consent.requests.push(request);
                own.register().change_consent(&consent, 1).await?;
                Ok(consent)
            }
            Err(refused) => {
                own.register().forget_consent(&consent.id).await?;
                Err(refused)
            }
        }
    });
    let consent = finished(asking).await?;
    audit::wrote(
        &call,
        &consent.patient,
        "Consent",
        &consent.id,
        Wrote::Created,
    )
    .await?;
    gateway.wake();
    let location = gateway.address_of("Consent", &consent.id);
    let shown = shown(gateway, &consent, &[]).await?;
    Ok(Answer::created(shown, location))
}

/// What a task came to; a panic goes on here.
async fn finished<T>(task: tokio::task::JoinHandle<Result<T, Refused>>) -> Result<T, Refused> {
    task.await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

async fn ask(gateway: &Gateway, code: &str, proposal: &Proposal) -> Result<String, Refused> {
    let ask = Ask {
        inbox: gateway.desk().inbox_of(code).await?,
        classes: proposal.classes.clone(),
        purpose: proposal.purpose.clone(),
        episodes: EPISODES,
        hours: proposal.hours(now_ms()),
    };
    Ok(gateway.desk().ask(&ask).await?.id)
}

/// The code of who is asked: an agent that the performer names, or the patient.
fn asked_inbox(consent: &Value, patient: Option<&str>) -> Result<String, Refused> {
    let performers = consent["performer"].as_array();
    for performer in performers.into_iter().flatten() {
        let beside = performer["reference"]
            .as_str()
            .and_then(|at| contained(consent, at));
        let mut numbers = Vec::new();
        if let Some(agent) = beside.filter(|one| one["resourceType"] != "Patient") {
            numbers.extend(identifiers(agent)?);
        }
        if performer["identifier"]["value"].is_string() {
            numbers.extend(identifiers(
                &json!({ "identifier": [performer["identifier"]] }),
            )?);
        }
        if let Some(code) = numbers.into_iter().find(|number| number.system == INBOX) {
            return Ok(code.value);
        }
    }
    patient.map(str::to_owned).ok_or_else(|| {
        Refused::required(
            "Consent.patient",
            format!("nobody can be asked: add the code that the patient shows, or says, to the Patient as an identifier of the system {INBOX}"),
        )
    })
}

fn contained<'a>(resource: &'a Value, target: &str) -> Option<&'a Value> {
    let id = target.strip_prefix('#')?;
    let mut inside = resource["contained"].as_array()?.iter();
    inside.find(|one| one["id"] == id)
}

/// `PUT Consent/{id}`: a status that ends it gives up what was granted, at once; another provision asks the
/// patient anew, and what was granted before stands until the patient answers.
pub(crate) async fn update(
    call: Call,
    Path(id): Path<String>,
    Headers(headers): Headers,
    Received(body, _room): Received,
) -> Result<Answer, Refused> {
    call.may(Act::Update, "Consent")?;
    must_be_plain(&body, "Consent")?;
    let gateway = &call.gateway;
    let register = gateway.register();
    let found = register.consent(&id).await?;
    let mut consent = found.ok_or_else(|| Refused::not_found("Consent"))?;
    must_match(&headers, consent.version)?;
    let before = consent.version;
    let beside = |target: &str| contained(&body, target).cloned();
    let patient = of_reference(gateway, "Consent.patient", &body["patient"], beside).await?;
    if patient.id != consent.patient {
        return Err(Refused::unprocessable(
            "Consent.patient",
            "a consent stays its patient's; create another one",
        ));
    }
    let ends = matches!(
        body["status"].as_str(),
        Some("inactive" | "rejected" | "entered-in-error")
    );
    if !ends && consent.given_up {
        return Err(Refused::unprocessable(
            "Consent.status",
            "this consent has ended; create another one",
        ));
    }
    let now = now_ms();
    let mut asks = None;
    if !ends {
        let wanted = Proposal::read(&body, now)?;
        // What was agreed may lie in the past by now, so the earlier one may not be readable.
        if Proposal::read(&consent.resource, now).ok().as_ref() != Some(&wanted) {
            asks = Some((asked_inbox(&body, inbox(&patient))?, wanted));
        }
    }
    let status = consent.resource["status"].clone();
    consent.resource = body;
    consent.resource["status"] = if ends { "inactive".into() } else { status };
    consent.version += 1;
    consent.updated = now;
    // Before anything is given up: what is opened meanwhile is not entered any more.
    consent.given_up = ends;
    if !register.change_consent(&consent, before).await? {
        return Err(changed());
    }
    let own = Arc::clone(gateway);
    let doing = tokio::spawn(async move {
        if ends {
            own.give_up(&consent).await?;
        }
        if let Some((code, wanted)) = asks {
            let request = ask(&own, &code, &wanted).await?;
            let provision = consent.resource["provision"].clone();
            // Somebody may have looked meanwhile, and the state been kept anew.
            for _ in 0..CHANGES_MAX {
                let before = consent.version;
                consent.version += 1;
                consent.requests.push(request.clone());
                consent
                    .provisions
                    .insert(request.clone(), provision.clone());
                if own.register().change_consent(&consent, before).await? {
                    return Ok(consent);
                }
                let found = own.register().consent(&consent.id).await?;
                consent = found.ok_or_else(|| Refused::not_found("Consent"))?;
            }
            return Err(changed());
        }
        Ok(consent)
    });
    let consent = finished(doing).await?;
    audit::wrote(
        &call,
        &consent.patient,
        "Consent",
        &consent.id,
        Wrote::Updated,
    )
    .await?;
    if ends {
        audit::decided(gateway, &consent.patient, &consent.id, false).await?;
    }
    gateway.wake();
    let (consent, views) = gateway.follow(consent).await?;
    Ok(Answer::ok(shown(gateway, &consent, &views).await?))
}

/// `GET Consent/{id}`.
pub(crate) async fn read(call: Call, Path(id): Path<String>) -> Result<Answer, Refused> {
    call.may(Act::Read, "Consent")?;
    let found = call.gateway.register().consent(&id).await?;
    let consent = found.ok_or_else(|| Refused::not_found("Consent"))?;
    let (consent, views) = call.gateway.follow(consent).await?;
    audit::read_one(&call, &consent.patient, "Consent", &id).await?;
    Ok(Answer::ok(shown(&call.gateway, &consent, &views).await?))
}

const PARAMETERS: &[Parameter] = &[
    parameter("_id", Rule::Token, &["id"]),
    parameter("_lastUpdated", Rule::Date, &["meta.lastUpdated"]),
    parameter("category", Rule::Token, &["category"]),
    parameter("date", Rule::Date, &["dateTime"]),
    parameter("identifier", Rule::Token, &["identifier"]),
    parameter("period", Rule::Date, &["provision.period"]),
    parameter("purpose", Rule::Token, &["provision.purpose"]),
    parameter("scope", Rule::Token, &["scope"]),
    parameter("security-label", Rule::Token, &["provision.securityLabel"]),
    parameter("status", Rule::Token, &["status"]),
];

pub(crate) fn parameters() -> &'static [Parameter] {
    PARAMETERS
}

/// Finds a patient's consents.
pub(crate) async fn search(call: Call, Pairs(pairs): Pairs) -> Result<Answer, Refused> {
    call.may(Act::Search, "Consent")?;
    let query = Query::read(&pairs, PARAMETERS, &["patient", "patient.identifier"])?;
    let gateway = &call.gateway;
    let mut matches = Vec::new();
    if let Some(patient) = of_search(gateway, &query).await? {
        for consent in gateway.register().consents(&patient.id).await? {
            let (consent, views) = gateway.follow(consent).await?;
            let resource = shown(gateway, &consent, &views).await?;
            if query.matches(&resource, PARAMETERS)? {
                let place = Place {
                    time: consent.entered,
                    id: consent.id,
                };
                matches.push((place, resource));
            }
        }
        audit::searched(&call, &patient.id, "Consent", &pairs).await?;
    }
    let page = query.page(matches);
    Ok(Answer::ok(page.bundle(
        gateway.base(),
        "Consent",
        &pairs,
        None,
    )))
}

/// How a proposal stands: the status of its Consent.
pub(crate) fn status(consent: &Consent, views: &[RequestView], now: u64) -> &'static str {
    if consent.given_up {
        return "inactive";
    }
    if views.iter().any(|view| stands(consent, view, now)) {
        return "active";
    }
    let Some(newest) = consent.requests.last() else {
        return "proposed";
    };
    match views.iter().find(|view| view.id == *newest) {
        // What was granted has ended, or the request was forgotten after its end.
        None if consent.resource["status"] == "rejected" => "rejected",
        None => "inactive",
        Some(view) if !view.grants.is_empty() => "inactive",
        Some(view) => match view.state {
            RequestState::Declined => "rejected",
            RequestState::Expired | RequestState::Refused => "inactive",
            _ if view.not_after <= now => "inactive",
            _ => "proposed",
        },
    }
}

/// Until when what answers a request may be read, in ms since 1970: at most until the end that was
/// proposed, also if the patient granted it for longer.
pub(crate) fn until(consent: &Consent, request: &str, expiry: u64) -> u64 {
    let end = consent
        .provisions
        .get(request)
        .and_then(|one| one["period"]["end"].as_str());
    let end = end.and_then(span_of).map(|(_, until)| until / 1_000_000);
    let end = end.and_then(|end| u64::try_from(end).ok());
    expiry.min(end.unwrap_or(u64::MAX))
}

/// Whether a grant that answers a request may be read under now.
pub(crate) fn stands(consent: &Consent, view: &RequestView, now: u64) -> bool {
    let mut grants = view.grants.iter();
    grants.any(|grant| !grant.revoked && until(consent, &view.id, grant.expiry) > now)
}

/// The Consent as it stands: what was proposed, and what the patient made of it. The provision is that of
/// the request whose grants stand, and of the newest one if none do.
async fn shown(
    gateway: &Gateway,
    consent: &Consent,
    views: &[RequestView],
) -> Result<Value, Refused> {
    let now = now_ms();
    let mut resource = consent.resource.clone();
    let answering = views.iter().rev().find(|view| stands(consent, view, now));
    let answering = answering.or_else(|| views.iter().rev().find(|view| !view.grants.is_empty()));
    if let Some(provision) = answering.and_then(|view| consent.provisions.get(&view.id)) {
        resource["provision"] = provision.clone();
    }
    resource["id"] = consent.id.clone().into();
    let mut meta = match &resource["meta"] {
        Value::Object(_) => resource["meta"].clone(),
        _ => json!({}),
    };
    meta["versionId"] = consent.version.to_string().into();
    meta["lastUpdated"] = instant(consent.updated).into();
    let patient = gateway.address_of("Patient", &consent.patient);
    resource["patient"] = json!({ "reference": patient });
    // Without a request to look at, it is as it was seen last.
    resource["status"] = match views {
        [] if !consent.given_up => consent.resource["status"].clone(),
        views => status(consent, views, now).into(),
    };
    let fill = |resource: &mut Value, name: &str, value: Value| {
        if resource[name].is_null() {
            resource[name] = value;
        }
    };
    fill(&mut resource, "dateTime", instant(consent.entered).into());
    fill(
        &mut resource,
        "performer",
        json!([{ "reference": patient }]),
    );
    fill(
        &mut resource,
        "organization",
        json!([{ "display": gateway.name() }]),
    );
    fill(
        &mut resource,
        "policy",
        json!([{ "uri": "urn:willis:consent" }]),
    );
    let category = json!([{ "coding": [{ "system": "http://loinc.org", "code": "59284-0" }] }]);
    fill(&mut resource, "category", category);
    if resource["sourceReference"].is_null() {
        let title = "The patient's answer, which the consortium's chain records";
        fill(&mut resource, "sourceAttachment", json!({ "title": title }));
    }
    if let Some(view) = answering {
        let own = resource["identifier"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let named = view
            .grants
            .iter()
            .map(|one| json!({ "system": GRANT, "value": one.gid }));
        resource["identifier"] = own.into_iter().chain(named).collect();
        let ends = |grant: &&GrantView| until(consent, &view.id, grant.expiry);
        // What stands, or what stood last.
        let mut grants: Vec<&GrantView> = view.grants.iter().collect();
        if grants
            .iter()
            .any(|grant| !grant.revoked && ends(grant) > now)
        {
            grants.retain(|grant| !grant.revoked && ends(grant) > now);
        }
        let start = grants
            .iter()
            .map(|grant| grant.not_before)
            .min()
            .unwrap_or_default();
        // Until then each of them stands; some may stand longer.
        let end = grants.iter().map(ends).min().unwrap_or_default();
        let provision = &mut resource["provision"];
        provision["period"] = json!({ "start": instant(start), "end": instant(end) });
        let asked = asked_classes(provision);
        let granted = grants
            .iter()
            .map(|grant| grant.classes)
            .min()
            .unwrap_or(asked);
        if granted < asked {
            let mut opened = std::collections::BTreeSet::new();
            for grant in &grants {
                opened.extend(gateway.register().classes(&grant.gid).await?);
            }
            // The grant says how many; which ones shows when a record is opened.
            provision["extension"] =
                json!([{ "url": CLASSES_GRANTED, "valueUnsignedInt": granted }]);
            if !opened.is_empty() {
                let label = |code: &String| json!({ "system": SECTION_CLASS, "code": code });
                provision["securityLabel"] = opened.iter().map(label).collect();
                if let Some(provision) = provision.as_object_mut() {
                    provision.remove("provision");
                }
            }
        }
    }
    if meta["profile"].as_array().is_none_or(Vec::is_empty) {
        let advanced = !resource["provision"]["securityLabel"].is_null()
            || !resource["provision"]["provision"].is_null();
        let profile = if advanced {
            "consentAdvanced"
        } else {
            "consentBasic"
        };
        meta["profile"] = json!([format!("{PCF}/IHE.PCF.{profile}")]);
    }
    resource["meta"] = meta;
    Ok(resource)
}

/// How many section classes a provision asks for.
fn asked_classes(provision: &Value) -> usize {
    let of = |one: &Value| one["securityLabel"].as_array().map_or(0, Vec::len);
    let named = match of(provision) {
        0 => SectionClass::ALL.len(),
        some => some,
    };
    let denied: usize = provision["provision"]
        .as_array()
        .into_iter()
        .flatten()
        .map(of)
        .sum();
    named.saturating_sub(denied)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_770_000_000;

    fn consent(provision: &Value) -> Value {
        json!({
            "resourceType": "Consent",
            "status": "proposed",
            "scope": { "coding": [{ "system": SCOPE, "code": "patient-privacy" }] },
            "provision": provision,
        })
    }

    fn label(code: &str) -> Value {
        json!({ "system": SECTION_CLASS, "code": code })
    }

    #[test]
    fn a_proposal_says_what_the_patient_is_asked_for() {
        let asked = Proposal::read(
            &consent(&json!({
                "type": "permit",
                "period": { "end": "2026-11-28" },
                "purpose": [{ "code": "TREAT" }, { "code": "X", "display": "stroke care" }],
                "actor": [{ "reference": { "display": "Dr Lin" } }],
                "securityLabel": [label("imaging"), label("laboratory"), label("notes")],
                "provision": [{ "type": "deny", "securityLabel": [label("notes")] }],
            })),
            NOW,
        )
        .unwrap();
        assert_eq!(
            asked.classes,
            [SectionClass::Laboratory, SectionClass::Imaging]
        );
        assert_eq!(
            asked.purpose,
            "treatment, stroke care; for Dr Lin; until 2026-11-29 00:00 UTC"
        );
        assert_eq!(asked.hours(NOW), workstation::REQUEST_HOURS);
        let all = Proposal::read(&consent(&json!({ "type": "permit" })), NOW).unwrap();
        assert_eq!((all.classes, all.purpose.as_str()), (vec![], "treatment"));
        let soon =
            consent(&json!({ "type": "permit", "period": { "end": "2026-11-27T10:00:00Z" } }));
        assert_eq!(Proposal::read(&soon, NOW).unwrap().hours(NOW), 1);
    }

    #[test]
    fn what_a_request_cannot_carry_is_refused() {
        for provision in [
            json!({ "type": "deny" }),
            json!({ "type": "permit", "data": [{}] }),
            json!({ "type": "permit", "action": [{}] }),
            json!({ "type": "permit", "class": [{}] }),
            json!({ "type": "permit", "code": [{}] }),
            json!({ "type": "permit", "dataPeriod": {} }),
            json!({ "type": "permit", "securityLabel": [{ "system": "urn:x", "code": "imaging" }] }),
            json!({ "type": "permit", "securityLabel": [label("everything")] }),
            json!({ "type": "permit", "securityLabel": [] }),
            json!({ "type": "permit", "securityLabel": label("imaging") }),
            json!({ "type": "permit", "modifierExtension": [{ "url": "urn:x" }] }),
            json!({ "type": "permit", "provision": [{ "type": "deny" }] }),
            json!({ "type": "permit", "provision": { "type": "deny" } }),
            json!({ "type": "permit", "period": { "end": "2026-11-26" } }),
            json!({ "type": "permit", "period": { "end": "soon" } }),
            json!({ "type": "permit", "period": { "start": "2027" } }),
            json!({ "type": "permit", "provision": [{ "type": "permit" }] }),
            json!({ "type": "permit", "provision": [{ "type": "deny", "actor": [{}] }] }),
            json!({
                "type": "permit", "securityLabel": [label("notes")],
                "provision": [{ "type": "deny", "securityLabel": [label("notes")] }],
            }),
        ] {
            let refused = Proposal::read(&consent(&provision), NOW).unwrap_err();
            assert_eq!(refused.status.as_u16(), 422, "{provision}");
        }
        let research = json!({ "scope": { "coding": [{ "system": SCOPE, "code": "research" }] } });
        assert!(Proposal::read(&research, NOW).is_err());
    }

    #[test]
    fn a_purpose_is_never_cut_or_read_otherwise() {
        let refused = |provision: Value| purpose(&provision, Some(NOW)).is_err();
        assert!(refused(
            json!({ "purpose": [{ "display": "\u{4e2d}".repeat(100) }] })
        ));
        assert!(refused(json!({ "purpose": [{ "display": "a\nb" }] })));
        assert!(refused(json!({ "purpose": [{ "display": "a\u{202e}b" }] })));
        assert!(refused(json!({ "purpose": [{}] })));
        assert!(refused(
            json!({ "actor": [{ "reference": { "reference": "Practitioner/1" } }] })
        ));
        let research = json!({ "purpose": [{ "code": "HRESCH", "display": "treatment" }] });
        assert_eq!(purpose(&research, None).unwrap(), "research");
        let by_number =
            json!({ "actor": [{ "reference": { "identifier": { "value": "ward-7" } } }] });
        assert_eq!(purpose(&by_number, None).unwrap(), "treatment; for ward-7");
    }

    fn proposal(requests: &[(&str, Value)]) -> Consent {
        let provisions = requests
            .iter()
            .map(|(id, provision)| ((*id).to_owned(), provision.clone()));
        Consent {
            id: "c".into(),
            patient: "p".into(),
            entered: NOW,
            updated: NOW,
            version: 1,
            requests: requests.iter().map(|(id, _)| (*id).to_owned()).collect(),
            provisions: provisions.collect(),
            given_up: false,
            // Whatever a status says, the grants decide.
            resource: json!({ "status": "active" }),
        }
    }

    fn view(id: &str, state: RequestState, grants: Vec<GrantView>) -> RequestView {
        RequestView {
            id: id.into(),
            nonce: String::new(),
            team: vec![1],
            state,
            reason: None,
            purpose: String::new(),
            not_after: NOW + HOUR_MS,
            grants,
        }
    }

    fn grant(expiry: u64, revoked: bool) -> GrantView {
        GrantView {
            gid: "g".into(),
            classes: 10,
            not_before: 0,
            expiry,
            revoked,
        }
    }

    #[test]
    fn a_consent_that_has_ended_opens_nothing_whatever_its_status_says() {
        let permit = json!({ "type": "permit" });
        let own = proposal(&[("r", permit)]);
        let answered = |grants| vec![view("r", RequestState::Answered, grants)];
        let opens = |consent: &Consent, grants, now| {
            let views = answered(grants);
            (
                status(consent, &views, now),
                stands(consent, &views[0], now),
            )
        };
        assert_eq!(
            opens(&own, vec![grant(NOW + 1, false)], NOW),
            ("active", true)
        );
        assert_eq!(
            opens(&own, vec![grant(NOW, false)], NOW),
            ("inactive", false)
        );
        assert_eq!(
            opens(&own, vec![grant(NOW + 1, true)], NOW),
            ("inactive", false)
        );
        // The end that was proposed holds, also under a grant that stands longer.
        let until_noon = proposal(&[(
            "r",
            json!({ "type": "permit", "period": { "end": "2026-11-27T12:00:00Z" } }),
        )]);
        let noon = NOW + 3 * HOUR_MS + 1_000;
        let long = || vec![grant(NOW + 24 * HOUR_MS, false)];
        assert_eq!(until(&until_noon, "r", NOW + 24 * HOUR_MS), noon);
        assert_eq!(opens(&until_noon, long(), noon - 1), ("active", true));
        assert_eq!(opens(&until_noon, long(), noon), ("inactive", false));
        let given_up = Consent {
            given_up: true,
            ..own
        };
        assert_eq!(
            status(&given_up, &answered(vec![grant(NOW + 1, false)]), NOW),
            "inactive"
        );
    }

    #[test]
    fn a_status_is_what_the_patient_made_of_it() {
        let own = proposal(&[("r", json!({ "type": "permit" }))]);
        let of = |state, now| status(&own, &[view("r", state, Vec::new())], now);
        assert_eq!(of(RequestState::Forwarded, NOW), "proposed");
        assert_eq!(
            of(RequestState::Forwarded, NOW + HOUR_MS),
            "inactive",
            "nobody answered"
        );
        assert_eq!(of(RequestState::Declined, NOW), "rejected");
        assert_eq!(of(RequestState::Expired, NOW), "inactive");
        // While a later request waits, what an earlier one was granted stands.
        let two = proposal(&[
            ("r", json!({ "type": "permit" })),
            ("s", json!({ "type": "permit" })),
        ]);
        let views = [
            view("r", RequestState::Answered, vec![grant(NOW + 1, false)]),
            view("s", RequestState::Forwarded, Vec::new()),
        ];
        assert_eq!(status(&two, &views, NOW), "active");
        assert_eq!(status(&proposal(&[]), &[], NOW), "proposed");
        let narrowed = json!({
            "securityLabel": [label("imaging"), label("notes")],
            "provision": [{ "type": "deny", "securityLabel": [label("notes")] }],
        });
        assert_eq!(
            (asked_classes(&narrowed), asked_classes(&json!({}))),
            (1, 10)
        );
    }

    #[test]
    fn an_agent_is_asked_if_the_performer_is_one() {
        let by_agent = json!({
            "contained": [{ "resourceType": "RelatedPerson", "id": "a",
                "identifier": [{ "system": INBOX, "value": "agents" }] }],
            "performer": [{ "reference": "#a" }],
        });
        assert_eq!(asked_inbox(&by_agent, Some("patients")).unwrap(), "agents");
        assert_eq!(
            asked_inbox(&json!({}), Some("patients")).unwrap(),
            "patients"
        );
        assert!(asked_inbox(&json!({}), None).is_err());
    }
}
