//! Lists: the SubmissionSets and Folders of what was published (MHD ITI-66).

use axum::extract::Path;

use super::answer::{Answer, Call, Pairs};
use super::audit;
use super::documents::parameter;
use super::outcome::{Refused, issue};
use super::patient::of_search;
use super::search::{Parameter, Place, Query, Rule};
use crate::gateway::now_ms;
use crate::smart::Act;

const PARAMETERS: &[Parameter] = &[
    parameter("_id", Rule::Token, &["id"]),
    parameter("code", Rule::Token, &["code"]),
    parameter("date", Rule::Date, &["date"]),
    parameter("identifier", Rule::Token, &["identifier"]),
    parameter("status", Rule::Token, &["status"]),
];

pub(crate) fn parameters() -> &'static [Parameter] {
    PARAMETERS
}

/// ITI-66: finds the lists of a patient.
pub(crate) async fn search(call: Call, Pairs(pairs): Pairs) -> Result<Answer, Refused> {
    call.may(Act::Search, "List")?;
    let own = [
        "patient",
        "patient.identifier",
        "subject",
        "subject.identifier",
    ];
    let query = Query::read(&pairs, PARAMETERS, &own)?;
    let mut matches = Vec::new();
    let mut warnings = Vec::new();
    if let Some(patient) = of_search(&call.gateway, &query).await? {
        warnings = call.gateway.look(&patient.id).await?;
        let (lists, silent) = call.gateway.standing_lists(&patient.id).await?;
        warnings.extend(silent);
        for list in lists {
            if query.matches(&list.resource, PARAMETERS)? {
                let place = Place {
                    time: list.entered,
                    id: list.id,
                };
                matches.push((place, list.resource));
            }
        }
        audit::searched(&call, &patient.id, "List", &pairs).await?;
    }
    let page = query.page(matches);
    let outcome =
        (!warnings.is_empty()).then(|| issue("warning", "incomplete", &warnings.join("; "), None));
    Ok(Answer::ok(page.bundle(
        call.gateway.base(),
        "List",
        &pairs,
        outcome,
    )))
}

/// `GET List/{id}`.
pub(crate) async fn read(call: Call, Path(id): Path<String>) -> Result<Answer, Refused> {
    call.may(Act::Read, "List")?;
    let found = call.gateway.register().list(&id, now_ms()).await?;
    let list = found.ok_or_else(|| Refused::not_found("List"))?;
    call.gateway.must_stand(&list.gid, &list.consent).await?;
    audit::read_one(&call, &list.patient, "List", &id).await?;
    Ok(Answer::ok(list.resource))
}
