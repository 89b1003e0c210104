//! What a patient's and an agent's program have in common: requests that wait, and what is checked of an
//! answer before it is made.

use std::time::Duration;

use client::{QueryClient, WaitingRequest};
use parties::{AgreedKey, ServingNodes, VerifiedRequest};
use record::SectionClass;
use scheme::{ClassCode, DoctorId, InstitutionId, Threshold};

use crate::error::{WorkError, not, only};
use crate::network::Network;

/// A request that waits for the patient's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedView {
    /// Its commitment in hexadecimal.
    pub id: String,
    /// Who asks: id and institution of each doctor, certified and in force.
    pub doctors: Vec<(DoctorId, InstitutionId)>,
    /// Why, in the doctor's words.
    pub purpose: String,
    /// The section classes asked for.
    pub classes: Vec<SectionClass>,
    /// For how many episodes it can be answered.
    pub episodes: usize,
    /// Until when it can be answered, in ms since 1970.
    pub not_after: u64,
}

/// What waits in an inbox, waited for within a bound.
pub(crate) async fn wait_for_requests(
    query: &QueryClient,
    bound: Duration,
) -> Result<Vec<WaitingRequest>, WorkError> {
    use futures::StreamExt;
    let end = tokio::time::Instant::now() + bound;
    loop {
        let waiting = query.inbox().await?.waiting;
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        if !waiting.is_empty() || left.is_zero() {
            return Ok(waiting);
        }
        // The event is only a hint: what counts is the inbox.
        let hint = async {
            if let Ok(mut events) = query.inbox_events(0).await {
                let _ = events.next().await;
            }
            tokio::time::sleep(AGAIN).await;
        };
        let _ = tokio::time::timeout(left, hint).await;
    }
}

/// How long a hint is waited for before the inbox is looked at again.
const AGAIN: Duration = Duration::from_millis(300);

/// The request whose id begins so.
pub(crate) fn one_of<'a>(
    waiting: &'a [WaitingRequest],
    id: &str,
) -> Result<&'a WaitingRequest, WorkError> {
    only(
        waiting
            .iter()
            .filter(|request| request.id.to_string().starts_with(id)),
        "no such request waits: it was answered, has expired, or never came",
    )
}

pub(crate) fn asked_view(request: &VerifiedRequest) -> AskedView {
    let terms = request.terms();
    let classes = terms.classes.iter();
    AskedView {
        id: hex::encode(request.commitment().digest().as_bytes()),
        doctors: request
            .doctors()
            .iter()
            .map(|doctor| (doctor.id, doctor.institution))
            .collect(),
        purpose: terms.purpose.clone(),
        classes: classes
            .filter_map(|class| SectionClass::from_code(class.code()))
            .collect(),
        episodes: request.grants_max(),
        not_after: terms.not_after.number(),
    }
}

/// The doctors' keys that f + 1 nodes say are in force.
pub(crate) async fn in_force(
    network: &Network,
    request: &VerifiedRequest,
) -> Result<Vec<AgreedKey>, WorkError> {
    let mut agreed = Vec::new();
    for hash in request.key_hashes() {
        agreed.extend(network.client().agreed_key(hash).await?);
    }
    Ok(agreed)
}

/// t: what was chosen, or the fewest that the consortium allows and two hospitals at least.
pub(crate) fn threshold(
    network: &Network,
    nodes: &ServingNodes<'_>,
    chosen: Option<u8>,
) -> Result<Threshold, WorkError> {
    let (least, most) = nodes.threshold_range(network.founding().genesis.settings.threshold_min);
    let count = chosen.map_or(least, usize::from);
    if !(least..=most).contains(&count) {
        return not(format!(
            "this consortium cuts grants for {least} to {most} hospitals' shares: choose a threshold between"
        ));
    }
    let count = u8::try_from(count).unwrap_or(u8::MAX);
    match Threshold::new(count) {
        Some(threshold) => Ok(threshold),
        None => not("a threshold is at least 1"),
    }
}

/// The classes to grant: those chosen, within what was asked for.
pub(crate) fn granted_classes(
    request: &VerifiedRequest,
    chosen: &[SectionClass],
) -> Result<Vec<ClassCode>, WorkError> {
    let asked = &request.terms().classes;
    if chosen.is_empty() {
        return Ok(asked.clone());
    }
    let chosen: Vec<ClassCode> = chosen.iter().copied().map(ClassCode::from).collect();
    if chosen.iter().all(|class| asked.contains(class)) {
        Ok(chosen)
    } else {
        not("a class was chosen that the doctor did not ask for: see `willis patient requests`")
    }
}
