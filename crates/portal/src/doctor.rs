//! A doctor's pages: patients' episodes and new records at the own hospital; requests, their answers and
//! the timeline of what was granted at the receiving one.

mod asking;
mod authoring;
mod teams;
mod timeline;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use client::now;
use record::RECORD_BYTES_MAX;
use workstation::{
    DoctorDesk, DoctorEpisodeView, FoundRecord, InvitationView, Network, RecordView, RequestView,
    Silent, TeamView, WorkError,
};

use crate::app::{App, Keeper, Shared, locked};
use crate::newcomer::Enrolling;
use crate::serve::PortalError;
use crate::vault::{Asked, Desk, Vault};
use crate::viewer::Shelves;

/// How often further grants of a request that has some are looked for.
const MORE: Duration = Duration::from_secs(10);
/// How often the hospital's doctors are asked for.
const COLLEAGUES: Duration = Duration::from_secs(60);
/// Refused hand-overs that a page shows.
const REFUSED_SHOWN: usize = 16;

/// What the doctor's pages show.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct View {
    episodes: Vec<DoctorEpisodeView>,
    records: Vec<RecordView>,
    requests: Vec<RequestView>,
    /// How far the enrolment is, until it is certified.
    enrolling: Option<Enrolling>,
    /// Teams that are being gathered, and those that this doctor is asked to join.
    teams: Vec<TeamView>,
    invitations: Vec<InvitationView>,
    /// This hospital's other doctors.
    colleagues: Vec<u64>,
    colleagues_asked: Asked,
    /// What a search under a request's grants found, by the request's id.
    found: BTreeMap<String, Found>,
    /// Hand-overs that were refused, the newest last: who refused them does not say it again.
    refused: Vec<String>,
    /// Why records are not finished yet.
    unfinished: Vec<String>,
    /// When further grants of an answer were looked for.
    more: Asked,
}

/// What is known to be under the grants of a request.
#[derive(Clone, Default, PartialEq)]
struct Found {
    /// The grants that were searched under.
    gids: Vec<String>,
    records: Vec<FoundRecord>,
    refused: Vec<(String, String)>,
}

impl Desk for DoctorDesk {
    type View = View;

    fn open(network: Network, keystore: &Path, passphrase: &str) -> Result<Self, WorkError> {
        Self::open(network, keystore, passphrase)
    }

    fn look(&self, view: &mut View) {
        view.episodes = self.episodes();
        view.records = self.records();
        view.teams = self.teams();
        view.invitations = self.invitations();
    }

    async fn follow(&mut self, view: &mut View) -> Result<(), WorkError> {
        if !self.is_certified() {
            view.enrolling = Enrolling::of(&self.enrolment(Duration::ZERO).await?);
            if view.enrolling.is_some() {
                return Ok(());
            }
        }
        view.enrolling = None;
        let (_, mut refused) = self.accept_handovers(Duration::ZERO).await?;
        refused.extend(self.follow_teams(&mut Silent).await?);
        // What stays as it is is said once.
        refused.retain(|why| !view.refused.contains(why));
        view.refused.extend(refused);
        if view.colleagues_asked.is_due(COLLEAGUES) {
            view.colleagues = DoctorDesk::colleagues(self).await?;
        }
        let old = view.refused.len().saturating_sub(REFUSED_SHOWN);
        view.refused.drain(..old);
        view.unfinished = match self.records().iter().all(|record| record.stored) {
            true => Vec::new(),
            false => self.finish_records(&mut Silent).await?,
        };
        view.requests = self.requests().await?;
        // The grants of one answer reach the chain one by one, in the request's time at the latest.
        let more = view.more.is_due(MORE);
        let time = now().number();
        let awaited = |one: &&RequestView| {
            !one.state.is_last() && (one.grants.is_empty() || (more && time <= one.not_after))
        };
        let awaited = view.requests.iter().filter(awaited);
        let awaited: Vec<String> = awaited.map(|request| request.id.clone()).collect();
        for id in &awaited {
            self.follow(id, Duration::ZERO, &mut Silent).await?;
        }
        if !awaited.is_empty() {
            view.requests = self.requests().await?;
        }
        for request in &view.requests {
            let gids: Vec<String> = live(request, time).map(|grant| grant.gid.clone()).collect();
            let known = view.found.get(&request.id);
            if gids.is_empty()
                || known.is_some_and(|found| found.gids == gids && found.refused.is_empty())
            {
                continue;
            }
            let (records, refused) = self.found(&request.id).await?;
            let found = Found {
                gids,
                records,
                refused,
            };
            view.found.insert(request.id.clone(), found);
        }
        Ok(())
    }
}

/// The grants of a request that open something now.
fn live(request: &RequestView, time: u64) -> impl Iterator<Item = &workstation::GrantView> {
    let stands = move |grant: &&workstation::GrantView| !grant.revoked && grant.expiry > time;
    request.grants.iter().filter(stands)
}

/// What the doctor's pages have besides the keystore.
pub(crate) struct Doctor {
    vault: Arc<Vault<DoctorDesk>>,
    /// Own records that were opened, and files that wait to be sealed.
    shelves: Shelves,
    /// Opened records by request and transaction.
    opened: Mutex<BTreeMap<(String, String), timeline::Opened>>,
    drafts: Mutex<BTreeMap<usize, authoring::Draft>>,
}

impl Doctor {
    /// Forgets opened records whose grant has ended, with their files.
    fn close_ended(&self, app: &App) {
        let seen = self.vault.seen();
        let time = now().number();
        let stands = |id: &str, gid: &str| {
            let mut requests = seen.view.requests.iter();
            let request = requests.find(|request| request.id == id);
            request.is_some_and(|request| live(request, time).any(|grant| grant.gid == gid))
        };
        let mut opened = locked(&self.opened);
        let before = opened.len();
        opened.retain(|(id, _), one| stands(id, &one.gid));
        if opened.len() != before {
            app.changed();
        }
    }
}

impl Keeper for Doctor {
    fn tick(&self, app: &App) {
        self.close_ended(app);
    }

    fn close(&self) {
        locked(&self.opened).clear();
        self.shelves.clear();
    }
}

/// What a doctor's handler is given.
#[derive(Clone)]
pub(crate) struct Place {
    app: Shared,
    doctor: Arc<Doctor>,
}

/// The doctor's routes.
pub(crate) fn pages(app: &Shared, vault: Arc<Vault<DoctorDesk>>) -> Result<Router, PortalError> {
    let place = Place {
        app: app.clone(),
        doctor: Arc::new(Doctor {
            vault,
            shelves: Shelves::new()?,
            opened: Mutex::default(),
            drafts: Mutex::default(),
        }),
    };
    app.kept_by(place.doctor.clone());
    let uploads = Router::new()
        .route("/episodes/{number}/files", post(authoring::add))
        .layer(DefaultBodyLimit::max(
            usize::try_from(RECORD_BYTES_MAX).unwrap_or(usize::MAX),
        ));
    let pages = Router::new()
        .route("/", get(asking::requests))
        .route("/ask", get(asking::form).post(asking::ask))
        .route("/find", get(asking::find_form).post(asking::find))
        .route("/teams/{id}", get(teams::show))
        .route("/teams/{id}/send", post(teams::send))
        .route("/teams/{id}/cancel", post(teams::cancel))
        .route("/invitations/{id}", post(teams::answer))
        .route("/requests/{id}", get(timeline::show))
        .route("/requests/{id}/open", post(timeline::open))
        .route(
            "/requests/{id}/records/{record}/{file}",
            get(timeline::file),
        )
        .route(
            "/requests/{id}/records/{record}/{file}/{frame}",
            get(timeline::picture),
        )
        .route("/episodes", get(authoring::episodes))
        .route("/uid", post(authoring::give_uid))
        .route("/episodes/{number}", get(authoring::episode))
        .route("/episodes/{number}/remove", post(authoring::remove))
        .route("/episodes/{number}/amend", post(authoring::amend))
        .route("/episodes/{number}/store", post(authoring::store))
        .route(
            "/own/{record}",
            get(authoring::own).post(authoring::open_own),
        )
        .route("/own/{record}/{file}", get(authoring::own_file))
        .route("/own/{record}/{file}/{frame}", get(authoring::own_picture))
        .merge(uploads);
    Ok(pages.with_state(place))
}
