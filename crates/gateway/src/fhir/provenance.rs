//! Provenance of a document: who signed its record, what exactly, and in which block it stands. Each part
//! is what the chain says, with its proof checked here.

use axum::extract::Path;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ledger::{Transaction, TransactionId};
use serde_json::{Value, json};

use super::answer::{Answer, Call, Pairs};
use super::outcome::Refused;
use super::search::{Place, Query, instant};
use super::{BLOCK, RECORD, audit};
use crate::register::Document;
use crate::smart::Act;

/// ASTM E1762: why something is signed.
const SIGNATURES: &str = "urn:iso-astm:E1762-95:2013";
const PARTICIPANT: &str = "http://terminology.hl7.org/CodeSystem/provenance-participant-type";

/// Finds the Provenance of a document, by `target`.
pub(crate) async fn search(call: Call, Pairs(pairs): Pairs) -> Result<Answer, Refused> {
    call.may(Act::Search, "Provenance")?;
    let query = Query::read(&pairs, &[], &["target", "_id"])?;
    let Some(target) = query.own("target").or(query.own("_id")) else {
        return Err(Refused::invalid(
            "the search names no document; give target=DocumentReference/ID",
        ));
    };
    let id = target.rsplit('/').next().unwrap_or_default();
    let mut matches = Vec::new();
    match call.gateway.standing(id).await {
        Ok(document) => {
            let place = Place {
                time: document.entered,
                id: document.id.clone(),
            };
            matches.push((place, of(&call, &document).await?));
            audit::read_one(&call, &document.patient, "Provenance", id).await?;
        }
        Err(refused) if refused.status == axum::http::StatusCode::NOT_FOUND => {}
        Err(refused) => return Err(refused),
    }
    let page = query.page(matches);
    Ok(Answer::ok(page.bundle(
        call.gateway.base(),
        "Provenance",
        &pairs,
        None,
    )))
}

/// `GET Provenance/{id}`: the id is its document's.
pub(crate) async fn read(call: Call, Path(id): Path<String>) -> Result<Answer, Refused> {
    call.may(Act::Read, "Provenance")?;
    let document = call.gateway.standing(&id).await?;
    let resource = of(&call, &document).await?;
    audit::read_one(&call, &document.patient, "Provenance", &id).await?;
    Ok(Answer::ok(resource))
}

async fn of(call: &Call, document: &Document) -> Result<Value, Refused> {
    let mut id = [0; 32];
    hex::decode_to_slice(&document.record, &mut id).map_err(|_| {
        Refused::failed("the register names no transaction; tell the hospital's IT")
    })?;
    let client = call.gateway.desk().network().client();
    let found = client.transaction(TransactionId::new(id)).await;
    let found = found.map_err(|error| Refused::away(client::sentence(&error)))?;
    let Transaction::Record(record) = found.transaction else {
        return Err(Refused::failed(
            "the transaction is no record; tell the hospital's IT",
        ));
    };
    let statement = &record.statement;
    let signed = instant(statement.time.number());
    let hospital = call.gateway.desk().name_of(statement.institution).await;
    let author = json!({
        "identifier": {
            "system": "urn:willis:signing-key",
            "value": hex::encode(statement.author.as_bytes()),
        },
        "display": format!("a doctor of {hospital}"),
    });
    let custodian = json!({ "display": hospital });
    let agent = |role: &str, who: &Value| json!({ "type": { "coding": [{ "system": PARTICIPANT, "code": role }] }, "who": who });
    let named = |system: &str, value: String| json!({ "role": "source", "what": { "identifier": { "system": system, "value": value } } });
    let signature = |code: &str, display: &str, who: &Value, data: &[u8]| {
        json!({
            "type": [{ "system": SIGNATURES, "code": code, "display": display }],
            "when": signed,
            "who": who,
            "sigFormat": "application/octet-stream",
            "data": BASE64.encode(data),
        })
    };
    Ok(json!({
        "resourceType": "Provenance",
        "id": document.id,
        "meta": { "versionId": "1", "lastUpdated": instant(document.entered) },
        "target": [{ "reference": call.gateway.address_of("DocumentReference", &document.id) }],
        "occurredDateTime": signed,
        "recorded": signed,
        "activity": { "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-DataOperation",
            "code": "CREATE",
        }] },
        "agent": [agent("author", &author), agent("custodian", &custodian)],
        "entity": [
            named("urn:willis:container-sha256", hex::encode(statement.digest.as_bytes())),
            named(RECORD, document.record.clone()),
            named(BLOCK, found.height.number().to_string()),
        ],
        "signature": [
            signature("1.2.840.10065.1.12.1.1", "Author's Signature", &author, record.doctor.as_bytes()),
            signature("1.2.840.10065.1.12.1.5", "Verification Signature", &custodian, record.institution.as_bytes()),
        ],
    }))
}
