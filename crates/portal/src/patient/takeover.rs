//! Keys of one's own: after a relative registered the patient, or somebody saw the words.

use std::time::Duration;

use askama::Template;
use axum::extract::{Form, State};
use axum::response::Response;
use workstation::Progress as _;

use super::Place;
use crate::forms::Fields;
use crate::frame::{Frame, page};
use crate::jobs::{self, Done};
use crate::newcomer::{Enrolling, identity};

#[derive(Template)]
#[template(path = "patient/keys.html")]
struct Keys {
    f: Frame,
    taking_over: Option<Enrolling>,
    /// Whether nothing comes of them any more.
    over: bool,
    delayed: Option<String>,
    taken_over: bool,
    former: usize,
    kept: Fields,
}

pub(super) async fn form(State(place): State<Place>) -> Response {
    let app = &place.app;
    let seen = place.patient.vault.seen();
    let former = seen.view.episodes.iter();
    let former = former.filter(|one| one.under_former_keys).count();
    let title = app.language().of("Keys of my own", "我自己的密钥");
    page(Keys {
        // What is typed into the form is nowhere else yet.
        f: match seen.view.taking_over {
            Some(_) => Frame::live(app, title, "records"),
            None => Frame::new(app, title, "records"),
        },
        over: !matches!(seen.view.taking_over, Some(Enrolling::Waiting(_))),
        taking_over: seen.view.taking_over,
        delayed: seen.view.takeover_delayed,
        taken_over: seen.view.taken_over,
        former,
        kept: app.forms.kept("keys"),
    })
}

/// Makes the next keys, and asks the registration centre to certify them.
pub(super) async fn begin(State(place): State<Place>, Form(fields): Form<Fields>) -> Response {
    let language = place.app.language();
    place.app.forms.keep("keys", fields.clone());
    let patient = place.patient.clone();
    let title = language.of("Making keys of your own", "正在生成您自己的密钥");
    jobs::start(&place.app, title, "keys", |mut hears| async move {
        let identity = identity(&fields)?;
        hears.step("making keys on this device, and giving their public halves to the centre");
        let mut held = patient.vault.desk().await?;
        held.desk().begin_takeover(identity).await?;
        let found = held.desk().takeover(Duration::ZERO, &mut hears).await?;
        held.see(|view| view.taking_over = found.as_ref().and_then(Enrolling::of));
        Ok(Done {
            to: "keys".to_owned(),
            said: None,
        })
    })
}

/// Stays with the present keys.
pub(super) async fn stay(State(place): State<Place>) -> Response {
    let language = place.app.language();
    let patient = place.patient.clone();
    let title = language.of("Staying with the present keys", "正在保留现有密钥");
    jobs::start(&place.app, title, "keys", |_| async move {
        let mut held = patient.vault.desk().await?;
        held.desk().give_takeover_up().await?;
        held.see(|view| view.taking_over = None);
        let said = language.of("The present keys stay.", "继续使用现有密钥。");
        Ok(Done {
            to: "keys".to_owned(),
            said: Some(said.to_owned()),
        })
    })
}
