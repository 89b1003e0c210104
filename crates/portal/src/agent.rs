//! A family agent's pages: what a patient appoints them by, requests that wait, and answering in the
//! patient's place. Every act is under the agent's own key, so it shows as the agent's.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{Form, Multipart, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use client::now;
use record::SectionClass;
use workstation::{AgentDevice, AppointmentView, AskedView, Network, WorkError, inbox_to_text};

use crate::app::{Shared, locked};
use crate::forms::Fields;
use crate::frame::{Frame, missing, page};
use crate::jobs::{self, Done};
use crate::time_words::{date, moment};
use crate::vault::{Desk, Vault};

/// What the agent's pages show.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct View {
    appointments: Vec<AppointmentView>,
    /// Each with the appointment that it can be answered under.
    asked: Vec<(String, AskedView)>,
    codes: BTreeMap<String, String>,
}

impl Desk for AgentDevice {
    type View = View;

    fn open(network: Network, keystore: &FilePath, passphrase: &str) -> Result<Self, WorkError> {
        Self::open(network, keystore, passphrase)
    }

    fn look(&self, view: &mut View) {
        view.appointments = self.appointments();
        for one in &view.appointments {
            if let Ok(inbox) = self.inbox(&one.id) {
                view.codes.insert(one.id.clone(), inbox_to_text(&inbox));
            }
        }
    }

    async fn follow(&mut self, view: &mut View) -> Result<(), WorkError> {
        self.catch_up(&mut workstation::Silent).await;
        let asked = self.requests(Duration::ZERO).await?.into_iter();
        view.asked = asked
            .map(|(id, asked)| (hex::encode(id.as_bytes()), asked))
            .collect();
        Ok(())
    }
}

#[derive(Clone)]
struct Place {
    app: Shared,
    vault: Arc<Vault<AgentDevice>>,
    offer: Arc<Mutex<Option<String>>>,
}

/// The agent's routes.
pub(crate) fn pages(app: &Shared, vault: Arc<Vault<AgentDevice>>) -> Router {
    let place = Place {
        app: app.clone(),
        vault,
        offer: Arc::default(),
    };
    Router::new()
        .route("/", get(home))
        .route("/requests/{id}", get(request))
        .route("/requests/{id}/grant", post(grant))
        .route("/requests/{id}/decline", post(decline))
        .route("/appointments", get(appointments))
        .route("/offer", post(offer))
        .route("/accept", post(accept))
        .route("/grants/{gid}/revoke", post(revoke))
        .with_state(place)
}

impl Place {
    async fn who(&self, asked: &AskedView) -> Vec<String> {
        let mut names = Vec::new();
        for (doctor, institution) in &asked.doctors {
            let hospital = self.app.network.name_of(*institution).await;
            names.push(self.app.language().doctor(doctor.number(), &hospital));
        }
        names
    }
}

#[derive(Template)]
#[template(path = "agent/home.html")]
struct Home {
    f: Frame,
    away: Option<String>,
    asked: Vec<(String, String, String, String)>,
    none_appointed: bool,
}

async fn home(State(place): State<Place>) -> Response {
    let app = &place.app;
    let language = app.language();
    let seen = place.vault.seen();
    let mut asked = Vec::new();
    for (_, one) in &seen.view.asked {
        let who = language.list(&place.who(one).await);
        let until = moment(language, one.not_after);
        asked.push((one.id.clone(), who, one.purpose.clone(), until));
    }
    page(Home {
        f: Frame::live(app, language.of("Requests", "申请"), ""),
        away: seen.away,
        asked,
        none_appointed: seen.view.appointments.is_empty(),
    })
}

#[derive(Template)]
#[template(path = "agent/request.html")]
struct RequestPage {
    f: Frame,
    id: String,
    who: Vec<String>,
    purpose: String,
    classes: Vec<(&'static str, &'static str, bool)>,
    kept: Fields,
}

async fn request(State(place): State<Place>, Path(id): Path<String>) -> Response {
    let app = &place.app;
    let language = app.language();
    let seen = place.vault.seen();
    let found = seen.view.asked.iter().find(|(_, one)| one.id == id);
    let Some((appointment, asked)) = found else {
        return missing(app);
    };
    let mut appointments = seen.view.appointments.iter();
    let scope = appointments.find(|one| &one.id == appointment);
    let scope = scope.map_or(&[][..], |one| one.scope.as_slice());
    let kept = app.forms.kept(&format!("requests/{id}"));
    let within = asked.classes.iter().filter(|class| scope.contains(class));
    let classes = within.map(|class| {
        (
            class.name(),
            language.class(*class),
            kept.has("class", class.name()),
        )
    });
    page(RequestPage {
        f: Frame::new(app, language.of("A doctor asks", "医生申请查阅"), ""),
        who: place.who(asked).await,
        purpose: asked.purpose.clone(),
        classes: classes.collect(),
        kept,
        id,
    })
}

async fn grant(
    State(place): State<Place>,
    Path(id): Path<String>,
    Form(fields): Form<Fields>,
) -> Response {
    let language = place.app.language();
    let form = format!("requests/{id}");
    place.app.forms.keep(&form, fields.clone());
    let vault = place.vault.clone();
    jobs::start(
        &place.app,
        language.of("Granting", "正在授权"),
        &form,
        |mut hears| async move {
            let classes: Vec<SectionClass> = fields
                .values("class")
                .filter_map(SectionClass::from_name)
                .collect();
            let minutes = match fields.value("long") {
                "2h" => 120,
                "1d" => 24 * 60,
                "stay" => 14 * 24 * 60,
                _ => 0,
            };
            if classes.is_empty() || minutes == 0 {
                return Err(WorkError::Not(
                    "choose what may be read and for how long".to_owned(),
                ));
            }
            let mut held = vault.desk().await?;
            held.desk()
                .grant(&id, &classes, minutes, &mut hears)
                .await?;
            held.see(|view| view.asked.retain(|(_, one)| one.id != id));
            let said = language.of(
                "Granted, under your own key: it shows as your act.",
                "已用您自己的密钥授权，会显示为您的操作。",
            );
            Ok(Done {
                to: "appointments".to_owned(),
                said: Some(said.to_owned()),
            })
        },
    )
}

async fn decline(State(place): State<Place>, Path(id): Path<String>) -> Response {
    let language = place.app.language();
    let vault = place.vault.clone();
    let form = format!("requests/{id}");
    jobs::start(
        &place.app,
        language.of("Declining", "正在拒绝"),
        &form,
        |_| async move {
            let mut held = vault.desk().await?;
            held.desk().decline(&id).await?;
            held.see(|view| view.asked.retain(|(_, one)| one.id != id));
            Ok(Done {
                to: String::new(),
                said: Some(
                    language
                        .of("Declined. The doctor is told.", "已拒绝。医生会收到通知。")
                        .to_owned(),
                ),
            })
        },
    )
}

#[derive(Template)]
#[template(path = "agent/appointments.html")]
struct Appointments {
    f: Frame,
    away: Option<String>,
    rows: Vec<Row>,
    offer: Option<String>,
}

struct Row {
    what: String,
    until: String,
    ended: bool,
    grants: Vec<String>,
    code: String,
}

async fn appointments(State(place): State<Place>) -> Response {
    let app = &place.app;
    let language = app.language();
    let seen = place.vault.seen();
    let time = now().number();
    let rows = seen.view.appointments.iter().rev().map(|one| Row {
        what: language.classes(&one.scope),
        until: date(language, one.end),
        ended: one.end <= time,
        grants: one.grants.clone(),
        code: seen.view.codes.get(&one.id).cloned().unwrap_or_default(),
    });
    page(Appointments {
        f: Frame::live(
            app,
            language.of("Whom I act for", "我代理的人"),
            "appointments",
        ),
        rows: rows.collect(),
        away: seen.away.clone(),
        offer: locked(&place.offer).clone(),
    })
}

async fn offer(State(place): State<Place>) -> Response {
    let title = place
        .app
        .language()
        .of("Making keys for one stay", "正在为一次就诊生成密钥");
    let app = place.app.clone();
    jobs::start(&app, title, "appointments", |_| async move {
        let mut held = place.vault.desk().await?;
        let offered = held.desk().offer().await?;
        *locked(&place.offer) = Some(offered.text());
        Ok(Done {
            to: "appointments".to_owned(),
            said: None,
        })
    })
}

/// Takes the file that the patient gave.
async fn accept(State(place): State<Place>, mut form: Multipart) -> Response {
    let app = place.app.clone();
    let mut sealed = Vec::new();
    while let Ok(Some(field)) = form.next_field().await {
        if field.name() == Some("appointment") {
            match field.bytes().await {
                Ok(bytes) => sealed = bytes.to_vec(),
                Err(error) => {
                    app.tell(error.body_text());
                    return Redirect::to(&app.at("appointments")).into_response();
                }
            }
        }
    }
    let language = app.language();
    let title = language.of("Accepting the appointment", "正在接受指定");
    jobs::start(&app, title, "appointments", |_| async move {
        let mut held = place.vault.desk().await?;
        held.desk().accept(&sealed)?;
        *locked(&place.offer) = None;
        let said = language.of(
            "Accepted. Doctors' requests that the patient does not answer come to you.",
            "已接受。患者未答复的医生申请会转给您。",
        );
        Ok(Done {
            to: "appointments".to_owned(),
            said: Some(said.to_owned()),
        })
    })
}

async fn revoke(State(place): State<Place>, Path(gid): Path<String>) -> Response {
    let language = place.app.language();
    let vault = place.vault.clone();
    jobs::start(
        &place.app,
        language.of("Revoking", "正在撤销"),
        "appointments",
        |mut hears| async move {
            let mut held = vault.desk().await?;
            held.desk().revoke(&gid, &mut hears).await?;
            let said = language.of(
                "Revoked: no hospital opens anything more under it.",
                "已撤销：任何医院都不会再据此打开内容。",
            );
            Ok(Done {
                to: "appointments".to_owned(),
                said: Some(said.to_owned()),
            })
        },
    )
}
