//! What the facade offers: its CapabilityStatement, and where tokens are given.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::answer::Answer;
use super::search::{Parameter, Rule};
use super::{audit, consent, documents, lists};
use crate::gateway::Gateway;
use crate::smart;

const MHD: &str = "https://profiles.ihe.net/ITI/MHD/StructureDefinition";
const PCF: &str = "https://profiles.ihe.net/ITI/PCF/StructureDefinition";
/// The day on which the facade changed last.
const DATE: &str = "2026-11-27";

/// `GET .well-known/smart-configuration`.
pub(crate) async fn smart(State(gateway): State<Arc<Gateway>>) -> Json<Value> {
    Json(smart::configuration(gateway.token_endpoint()))
}

/// `GET metadata`.
pub(crate) async fn statement(State(gateway): State<Arc<Gateway>>) -> Answer {
    let patient = [("patient", "reference"), ("patient.identifier", "token")];
    let resources = vec![
        resource(
            "AuditEvent",
            &["read", "search-type"],
            audit::parameters(),
            &patient,
            &[],
        ),
        resource("Binary", &["create", "read"], &[], &[], &[]),
        resource(
            "Consent",
            &["create", "read", "update", "search-type"],
            consent::parameters(),
            &patient,
            &[
                format!("{PCF}/IHE.PCF.consentBasic"),
                format!("{PCF}/IHE.PCF.consentAdvanced"),
            ],
        ),
        resource(
            "DocumentReference",
            &["create", "read", "search-type"],
            documents::parameters(),
            &patient,
            &[
                format!("{MHD}/IHE.MHD.Minimal.DocumentReference"),
                format!("{MHD}/IHE.MHD.Comprehensive.DocumentReference"),
            ],
        ),
        resource(
            "List",
            &["read", "search-type"],
            lists::parameters(),
            &patient,
            &[format!("{MHD}/IHE.MHD.Minimal.SubmissionSet")],
        ),
        resource(
            "Patient",
            &["create", "read", "update", "search-type"],
            &[],
            &[("identifier", "token"), ("_id", "token")],
            &[],
        ),
        resource(
            "Provenance",
            &["read", "search-type"],
            &[],
            &[("target", "reference")],
            &[],
        ),
    ];
    Answer::ok(json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": DATE,
        "kind": "instance",
        "software": { "name": "willis", "version": env!("CARGO_PKG_VERSION") },
        "implementation": { "description": gateway.name(), "url": gateway.base() },
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "application/fhir+xml"],
        "instantiates": [
            "https://profiles.ihe.net/ITI/MHD/CapabilityStatement/IHE.MHD.DocumentRecipient",
            "https://profiles.ihe.net/ITI/MHD/CapabilityStatement/IHE.MHD.DocumentResponder",
        ],
        "rest": [{
            "mode": "server",
            "security": {
                "service": [{ "coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                    "code": "SMART-on-FHIR",
                }] }],
                "description": "SMART Backend Services: private_key_jwt, tokens of five minutes",
                "extension": [{
                    "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
                    "extension": [{ "url": "token", "valueUri": gateway.token_endpoint() }],
                }],
            },
            "resource": resources,
            "interaction": [{ "code": "transaction" }],
        }],
    }))
}

fn resource(
    kind: &str,
    interactions: &[&str],
    parameters: &[Parameter],
    own: &[(&str, &str)],
    profiles: &[String],
) -> Value {
    let kind_of = |rule: Rule| match rule {
        Rule::Token => "token",
        Rule::Date => "date",
        Rule::Text => "string",
        Rule::Reference => "reference",
        Rule::Uri => "uri",
    };
    let known = parameters.iter().map(|one| (one.name, kind_of(one.rule)));
    let all: Vec<Value> = own
        .iter()
        .copied()
        .chain(known)
        .map(|(name, kind)| json!({ "name": name, "type": kind }))
        .collect();
    let interactions: Vec<Value> = interactions
        .iter()
        .map(|code| json!({ "code": code }))
        .collect();
    let mut resource = json!({
        "type": kind,
        "interaction": interactions,
        "versioning": "no-version",
    });
    if kind == "Patient" || kind == "Consent" {
        resource["versioning"] = "versioned-update".into();
    }
    if !all.is_empty() {
        resource["searchParam"] = all.into();
    }
    if !profiles.is_empty() {
        resource["supportedProfile"] = profiles.into();
    }
    resource
}
