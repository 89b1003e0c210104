//! The FHIR R4 facade: what a hospital's systems publish, find, retrieve, propose and look up, in the words
//! of IHE MHD, PCF and BALP. One file for each resource type; `xml`, `search` and `answer` are what they
//! share.

mod answer;
mod audit;
mod binary;
mod capability;
mod consent;
mod documents;
mod elements;
mod lists;
mod outcome;
mod patient;
mod provenance;
mod publish;
mod search;
mod xml;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

pub(crate) use answer::{Call, Headers, Pairs, authenticate, essence, render};
pub(crate) use audit::{Discloser, decided, disclosed, images as audit_images, taken};
pub(crate) use consent::{stands, status, until};
pub(crate) use documents::{SUBMISSION, Standing, document_id, documents_of};
pub(crate) use outcome::Refused;
pub(crate) use patient::uids;
pub(crate) use publish::{File, Publication, not_final, submission};
pub(crate) use search::instant;

use crate::gateway::Gateway;
pub(crate) use crate::smart::Act;

/// Identifiers that the hospital gave a patient for willis: one for each stay.
pub(crate) const UID: &str = "urn:willis:uid";
/// Codes by which a patient or an agent can be asked; the patient shows or says them.
pub(crate) const INBOX: &str = "urn:willis:inbox";
/// Section classes as codes (`spec/formats.md`, R1).
pub(crate) const SECTION_CLASS: &str = "urn:willis:section-class";
/// A record by its transaction.
pub(crate) const RECORD: &str = "urn:willis:record";
/// A grant by its gid.
pub(crate) const GRANT: &str = "urn:willis:grant";
/// SHA-256 of what an attachment has; R4's own hash is SHA-1.
pub(crate) const SHA256: &str = "urn:willis:sha256";
/// Height of the block that holds a record.
pub(crate) const BLOCK: &str = "urn:willis:block";

/// The facade's calls, grouped by resource type.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    let open = Router::new()
        .route("/metadata", get(capability::statement))
        .route("/.well-known/smart-configuration", get(capability::smart));
    let known = Router::new()
        .route("/Patient", get(patient::search).post(patient::create))
        .route("/Patient/_search", axum::routing::post(patient::search))
        .route("/Patient/{id}", get(patient::read).put(patient::update))
        .route(
            "/DocumentReference",
            get(documents::search).post(publish::simplified),
        )
        .route(
            "/DocumentReference/_search",
            axum::routing::post(documents::search),
        )
        .route("/DocumentReference/{id}", get(documents::read))
        .route("/List", get(lists::search))
        .route("/List/_search", axum::routing::post(lists::search))
        .route("/List/{id}", get(lists::read))
        .route("/Binary", axum::routing::post(binary::create))
        .route("/Binary/{id}", get(binary::read))
        .route("/Consent", get(consent::search).post(consent::create))
        .route("/Consent/_search", axum::routing::post(consent::search))
        .route("/Consent/{id}", get(consent::read).put(consent::update))
        .route("/AuditEvent", get(audit::search))
        .route("/AuditEvent/_search", axum::routing::post(audit::search))
        .route("/AuditEvent/{id}", get(audit::read))
        .route("/Provenance", get(provenance::search))
        .route(
            "/Provenance/_search",
            axum::routing::post(provenance::search),
        )
        .route("/Provenance/{id}", get(provenance::read))
        .fallback(answer::nothing_here);
    // Clients write the base address with a slash at its end and without one.
    let base = Router::new()
        .route("/fhir", axum::routing::post(publish::provide))
        .route("/fhir/", axum::routing::post(publish::provide));
    let authenticated = axum::middleware::from_fn_with_state(Arc::clone(&gateway), authenticate);
    let facade = open.merge(known.layer(authenticated.clone()));
    Router::new()
        .nest("/fhir", facade)
        .merge(base.layer(authenticated))
        .method_not_allowed_fallback(answer::not_here)
        .with_state(gateway)
}
