//! A patient's pages: who asks now, who can read now, what happened; one question a page.

mod answering;
mod family;
mod own;
mod takeover;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use client::{Findable, now};
use scheme::{DoctorId, InstitutionId};
use workstation::{
    AccessView, AskedView, EpisodeView, GivenAppointmentView, GivenView, Network, PatientDevice,
    Silent, WorkError, inbox_to_text,
};

use crate::app::{App, Keeper, Shared, locked};
use crate::newcomer::Enrolling;
use crate::serve::PortalError;
use crate::vault::{Asked, Desk, Vault};
use crate::viewer::Shelves;

/// How often the chain is asked for all grants; what is done on these pages shows at once.
const GRANTS: Duration = Duration::from_secs(10);
/// How often doctors' receipts are fetched and checked.
const RECEIPTS: Duration = Duration::from_secs(15);

/// How often the centre is asked who looked for the patient.
const FINDABLE: Duration = Duration::from_secs(60);

/// What the patient's pages show.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct View {
    /// How far the enrolment is, until it is certified.
    enrolling: Option<Enrolling>,
    /// How far the patient's next keys are, until they are in use.
    taking_over: Option<Enrolling>,
    /// Why it was not possible to see how far they are, or to take them into use.
    takeover_delayed: Option<String>,
    /// Whether they came into use while these pages were open.
    taken_over: bool,
    episodes: Vec<EpisodeView>,
    asked: Vec<AskedView>,
    given: Vec<GivenView>,
    appointments: Vec<GivenAppointmentView>,
    /// Handle and salt of the inbox, as a doctor types them.
    code: String,
    /// Whether doctors find the patient by the document, and who looked; none until the centre was asked.
    findable: Option<Findable>,
    findable_asked: Asked,
    /// The code that the patient says, and until when it stands.
    short_code: Option<(String, u64)>,
    /// Requests and receipts that do not stand.
    troubles: Vec<String>,
    wrong_receipts: Vec<String>,
    grants_asked: Asked,
    receipts_asked: Asked,
}

impl Desk for PatientDevice {
    type View = View;

    fn open(network: Network, keystore: &Path, passphrase: &str) -> Result<Self, WorkError> {
        Self::open(network, keystore, passphrase)
    }

    fn look(&self, view: &mut View) {
        view.episodes = self.episodes();
        view.appointments = self.appointments();
        view.code = inbox_to_text(&self.inbox());
        let waits = self.taking_over().map(|one| one.number());
        let known = view.taking_over.take().filter(|_| waits.is_some());
        view.taking_over = known.or(waits.map(Enrolling::Waiting));
    }

    async fn follow(&mut self, view: &mut View) -> Result<(), WorkError> {
        if !self.is_certified() {
            view.enrolling = Enrolling::of(&self.enrolment(Duration::ZERO).await?);
            if view.enrolling.is_some() {
                return Ok(());
            }
        }
        view.enrolling = None;
        self.catch_up(&mut Silent).await;
        if self.taking_over().is_some() {
            let found = self.takeover(Duration::ZERO, &mut Silent).await;
            view.taken_over = self.taking_over().is_none();
            if view.taken_over {
                // It stood for the inbox before.
                view.short_code = None;
            }
            (view.taking_over, view.takeover_delayed) = match found {
                Ok(found) => (found.as_ref().and_then(Enrolling::of), None),
                Err(error) => (view.taking_over.take(), Some(client::sentence(&error))),
            };
        } else {
            view.takeover_delayed = None;
        }
        (view.asked, view.troubles) = self.requests(Duration::ZERO).await?;
        let told = self.take_acts().await?;
        if view.grants_asked.is_due(GRANTS) || told > 0 {
            view.given = self.grants().await?;
        }
        if view.receipts_asked.is_due(RECEIPTS) {
            (_, view.wrong_receipts) = self.receipts(&mut Silent).await?;
        }
        if view.findable_asked.is_due(FINDABLE) {
            view.findable = Some(self.findable().await?);
        }
        Ok(())
    }
}

/// Whether a grant opens something now.
fn stands(given: &GivenView, time: u64) -> bool {
    given.revoked == Some(false) && given.expiry > time
}

/// What the patient's pages have besides the keystore.
pub(crate) struct Patient {
    vault: Arc<Vault<PatientDevice>>,
    shelves: Shelves,
    /// Access logs that were read, by grant.
    logs: Mutex<BTreeMap<String, (u64, Vec<AccessView>)>>,
    /// What agents who were appointed here accept, by appointment.
    sealed: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Keeper for Patient {
    /// The patient's own reading has no end.
    fn tick(&self, _: &App) {}

    fn close(&self) {
        self.shelves.clear();
        locked(&self.logs).clear();
    }
}

/// What a patient's handler is given.
#[derive(Clone)]
pub(crate) struct Place {
    app: Shared,
    patient: Arc<Patient>,
}

impl Place {
    /// "Doctor 3 at City Hospital", for each.
    async fn doctors(&self, team: &[(DoctorId, InstitutionId)]) -> Vec<String> {
        let language = self.app.language();
        let mut names = Vec::new();
        for (doctor, institution) in team {
            let hospital = self.app.network.name_of(*institution).await;
            names.push(language.doctor(doctor.number(), &hospital));
        }
        names
    }
}

/// The patient's routes.
pub(crate) fn pages(app: &Shared, vault: Arc<Vault<PatientDevice>>) -> Result<Router, PortalError> {
    let place = Place {
        app: app.clone(),
        patient: Arc::new(Patient {
            vault,
            shelves: Shelves::new()?,
            logs: Mutex::default(),
            sealed: Mutex::default(),
        }),
    };
    app.kept_by(place.patient.clone());
    let pages = Router::new()
        .route("/", get(answering::home))
        .route("/requests/{id}", get(answering::request))
        .route("/requests/{id}/sentence", post(answering::sentence))
        .route("/requests/{id}/grant", post(answering::grant))
        .route("/requests/{id}/stroke", post(answering::stroke_imaging))
        .route("/requests/{id}/decline", post(answering::decline))
        .route("/grants", get(answering::grants))
        .route("/grants/{gid}/revoke", post(answering::revoke))
        .route("/grants/{gid}/log", get(own::log).post(own::read_log))
        .route("/records", get(own::records))
        .route("/export", post(own::export))
        .route("/records/{record}", get(own::record).post(own::open))
        .route("/records/{record}/{file}", get(own::file))
        .route("/records/{record}/{file}/{frame}", get(own::picture))
        .route("/code", get(own::code))
        .route("/findable", post(own::findable))
        .route("/code/short", post(own::short_code))
        .route("/begin", get(own::begin_form).post(own::begin))
        .route("/words", get(own::words_form).post(own::words))
        .route("/keys", get(takeover::form).post(takeover::begin))
        .route("/keys/stay", post(takeover::stay))
        .route("/agents", get(family::agents).post(family::appoint))
        .route("/agents/{id}/withdraw", post(family::withdraw))
        .route("/agents/{id}/appointment", get(family::sealed));
    Ok(pages.with_state(place))
}

/// Now, in ms since 1970.
fn time() -> u64 {
    now().number()
}
