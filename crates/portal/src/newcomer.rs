//! The first page of somebody who has no keystore yet: makes keys on this machine and asks the registration
//! centre to certify them. Once they are made these pages are that person's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use client::{DoctorApplicant, EnrolmentState, Identity};
use scheme::InstitutionId;
use serde::Deserialize;
use workstation::{AgentDevice, DoctorDesk, Enrolment, Network, PatientDevice, Silent, WorkError};
use zeroize::Zeroizing;

use crate::app::Shared;
use crate::forms::{Fields, secret};
use crate::frame::{Frame, page_with};
use crate::serve::Stage;

/// The shortest passphrase: the keystore's key is stretched from it, and nothing else protects the file.
const PASSPHRASE_CHARACTERS_MIN: usize = 10;
/// How long the centre may take, so that a page that could be shown at once is.
const SETTLED_WITHIN: Duration = Duration::from_secs(2);

/// How far an enrolment is, for its owner's pages; nothing is to be said of one that is certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Enrolling {
    /// An officer of the registration centre has to decide, or the chain to record it.
    Waiting(u64),
    /// It was refused, and why.
    Refused(String),
    /// It was revoked.
    Revoked,
}

impl Enrolling {
    pub(crate) fn of(found: &Enrolment) -> Option<Self> {
        match &found.state {
            EnrolmentState::Registered { .. } => None,
            EnrolmentState::Refused { reason } => Some(Self::Refused(reason.clone())),
            EnrolmentState::Revoked | EnrolmentState::Revoking => Some(Self::Revoked),
            _ => Some(Self::Waiting(found.subject.number())),
        }
    }
}

/// What a newcomer's handler is given.
#[derive(Clone)]
struct Place {
    app: Shared,
    stage: Weak<Stage>,
    founding: PathBuf,
    keystore: PathBuf,
}

/// The newcomer's routes.
pub(crate) fn pages(
    app: &Shared,
    stage: Weak<Stage>,
    founding: PathBuf,
    keystore: PathBuf,
) -> Router {
    let place = Place {
        app: app.clone(),
        stage,
        founding,
        keystore,
    };
    Router::new()
        .route("/", get(form).post(enrol))
        .with_state(place)
}

#[derive(Template)]
#[template(path = "newcomer.html")]
struct Newcomer {
    f: Frame,
    keystore: String,
    kept: Fields,
    hospitals: Vec<(u32, String, bool)>,
    failed: Option<String>,
}

async fn form(State(place): State<Place>) -> Response {
    shown(&place, None)
}

fn shown(place: &Place, failed: Option<String>) -> Response {
    let app = &place.app;
    let kept = app.forms.kept("");
    let institutions = &app.network.founding().genesis.institutions;
    let hospitals = institutions.iter().map(|one| {
        let id = one.id.number();
        (
            id,
            one.name.to_string(),
            kept.has("institution", &id.to_string()),
        )
    });
    let status = match failed {
        None => StatusCode::OK,
        Some(_) => StatusCode::BAD_REQUEST,
    };
    page_with(
        status,
        Newcomer {
            f: Frame::new(app, app.language().of("Make your keys", "生成您的密钥"), ""),
            keystore: place.keystore.display().to_string(),
            hospitals: hospitals.collect(),
            kept,
            failed,
        },
    )
}

/// The form as it was filled in. Passphrases and words are kept nowhere, and are as they were typed.
#[derive(Deserialize)]
struct Filled {
    #[serde(deserialize_with = "secret")]
    passphrase: Zeroizing<String>,
    #[serde(deserialize_with = "secret")]
    again: Zeroizing<String>,
    #[serde(default, deserialize_with = "secret")]
    words: Zeroizing<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, String>,
}

/// Makes the keystore, and begins the enrolment of who is in it.
async fn enrol(State(place): State<Place>, Form(filled): Form<Filled>) -> Response {
    let Filled {
        passphrase,
        again,
        words,
        rest,
    } = filled;
    let fields = Fields(rest.into_iter().collect());
    place.app.forms.keep("", fields.clone());
    let made = if *passphrase != *again {
        Err(WorkError::Not(
            "the two passphrases differ: type the same one twice".to_owned(),
        ))
    } else if passphrase.chars().count() < PASSPHRASE_CHARACTERS_MIN {
        Err(WorkError::Not(format!(
            "the passphrase has fewer than {PASSPHRASE_CHARACTERS_MIN} characters: take a sentence that only you know"
        )))
    } else {
        make(&place, &fields, &passphrase, &words).await
    };
    let done = match made {
        Ok(()) => match place.stage.upgrade() {
            Some(stage) => become_theirs(&stage, &place, &passphrase).await,
            None => Ok(()),
        },
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => {
            place.app.forms.accepted("");
            Redirect::to(&place.app.at("")).into_response()
        }
        Err(error) => shown(&place, Some(client::sentence(&error))),
    }
}

async fn become_theirs(
    stage: &Arc<Stage>,
    place: &Place,
    passphrase: &str,
) -> Result<(), WorkError> {
    let failed = |error| WorkError::Not(client::sentence(&error));
    stage
        .open(place.founding.clone(), Some(place.keystore.clone()))
        .map_err(failed)?;
    let app = stage.app();
    app.speak(place.app.language());
    match &app.lock {
        Some(lock) => lock.unlock(passphrase).await,
        None => Ok(()),
    }
}

/// Makes keys of the kind that was chosen, or brings a patient's back. If the centre is not reached, nothing
/// of them stays.
async fn make(
    place: &Place,
    fields: &Fields,
    passphrase: &str,
    words: &str,
) -> Result<(), WorkError> {
    let network = Network::open(&place.founding)?;
    let path = &place.keystore;
    let who = fields.value("who");
    if who == "agent" {
        let made = tokio::task::block_in_place(|| AgentDevice::create(network, path, passphrase));
        return made.map(drop);
    }
    if who == "words" {
        PatientDevice::restore(network, path, passphrase, words, &mut Silent).await?;
        return Ok(());
    }
    let identity = identity(fields)?;
    let begun = match who {
        "patient" => {
            let mut device =
                tokio::task::block_in_place(|| PatientDevice::create(network, path, passphrase))?;
            let begun = device.enrol(identity, None).await;
            if begun.is_ok() {
                // How it goes on the pages say; from here on the keys are somebody's.
                let _ = device.enrolment(SETTLED_WITHIN).await;
            }
            begun
        }
        "doctor" => {
            let institution = match fields.value("institution").parse() {
                Ok(number) => InstitutionId::new(number),
                Err(_) => return Err(WorkError::Not("choose your hospital".to_owned())),
            };
            let applicant = DoctorApplicant {
                identity,
                licence_number: said(fields, "licence_number", "the licence's number")?,
                institution: institution.number(),
            };
            let mut desk = tokio::task::block_in_place(|| {
                DoctorDesk::create(network, path, passphrase, institution)
            })?;
            let begun = desk.enrol(applicant, None).await;
            if begun.is_ok() {
                let _ = desk.enrolment(SETTLED_WITHIN).await;
            }
            begun
        }
        _ => return Err(WorkError::Not("choose who you are".to_owned())),
    };
    if begun.is_err() {
        // Nobody has heard of these keys, or only that somebody began.
        let _ = std::fs::remove_file(path);
    }
    begun
}

/// Who somebody is, as typed into the fields of `identity.html`.
pub(crate) fn identity(fields: &Fields) -> Result<Identity, WorkError> {
    Ok(Identity {
        name: said(fields, "name", "the name")?,
        birth_date: said(fields, "birth_date", "the date of birth")?,
        document_kind: said(fields, "document_kind", "the kind of document")?,
        document_number: said(fields, "document_number", "the document's number")?,
    })
}

fn said(fields: &Fields, name: &str, what: &str) -> Result<String, WorkError> {
    match fields.value(name) {
        "" => Err(WorkError::Not(format!("{what} is missing"))),
        value => Ok(value.to_owned()),
    }
}
