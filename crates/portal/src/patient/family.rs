//! Family agents: appointed with a scope and an end, seen, withdrawn.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use record::SectionClass;
use scheme::AppointmentId;
use workstation::{Offer, WorkError};

use super::{Place, time};
use crate::app::locked;
use crate::forms::Fields;
use crate::frame::{Frame, missing, page};
use crate::jobs::{self, Done};
use crate::time_words::date;

#[derive(Template)]
#[template(path = "patient/agents.html")]
struct Agents {
    f: Frame,
    appointments: Vec<Row>,
    stays: Vec<(usize, String, bool)>,
    classes: Vec<(&'static str, &'static str, bool)>,
    kept: Fields,
}

struct Row {
    id: String,
    what: String,
    stay: String,
    until: String,
    dot: &'static str,
    state: &'static str,
    live: bool,
    /// Whether what the agent needs is here to be handed over.
    sealed: bool,
}

pub(super) async fn agents(State(place): State<Place>) -> Response {
    let app = &place.app;
    let language = app.language();
    let seen = place.patient.vault.seen();
    let kept = app.forms.kept("agents");
    let mut stays = Vec::new();
    for one in &seen.view.episodes {
        let name = app.network.name_of(one.institution).await;
        let text = format!("{} {}: {name}", language.of("Stay", "就诊"), one.number);
        stays.push((
            one.number,
            text,
            kept.has("episode", &one.number.to_string()),
        ));
    }
    let now = time();
    let mut appointments = Vec::new();
    for one in seen.view.appointments.iter().rev() {
        let ended = one.end.is_some_and(|end| end <= now);
        let (dot, state) = match (one.withdrawn, ended) {
            (true, _) => ("refused", language.of("withdrawn", "已撤回")),
            (false, true) => ("none", language.of("ended", "已到期")),
            (false, false) => ("granted", language.of("may grant for you", "可代您授权")),
        };
        let stay = stays
            .iter()
            .find(|(number, ..)| Some(*number) == one.episode);
        appointments.push(Row {
            id: one.id.clone(),
            what: language.classes(&one.scope),
            stay: stay.map_or_else(String::new, |(_, text, _)| text.clone()),
            until: one.end.map_or_else(String::new, |end| date(language, end)),
            dot,
            state,
            live: !one.withdrawn && !ended,
            sealed: locked(&place.patient.sealed).contains_key(&one.id),
        });
    }
    let classes = SectionClass::ALL.map(|class| {
        (
            class.name(),
            language.class(class),
            kept.has("class", class.name()),
        )
    });
    page(Agents {
        f: Frame::live(app, language.of("Family", "家人"), "agents"),
        appointments,
        stays,
        classes: classes.to_vec(),
        kept,
    })
}

pub(super) async fn appoint(State(place): State<Place>, Form(fields): Form<Fields>) -> Response {
    let language = place.app.language();
    place.app.forms.keep("agents", fields.clone());
    let patient = place.patient.clone();
    let title = language.of("Appointing", "正在指定代理人");
    jobs::start(&place.app, title, "agents", |_| async move {
        let not = |why: &str| Err(WorkError::Not(why.to_owned()));
        let offer = Offer::parse(fields.value("offer"))?;
        let classes: Vec<SectionClass> = fields
            .values("class")
            .filter_map(SectionClass::from_name)
            .collect();
        let (Ok(episode), Ok(days @ 1..=3_660)) = (
            fields.value("episode").parse::<usize>(),
            fields.value("days").parse::<u64>(),
        ) else {
            return not("choose a stay, and for how many days: 1 to 3660");
        };
        if classes.is_empty() {
            return not("choose at least one kind of content");
        }
        let mut held = patient.vault.desk().await?;
        let desk = held.desk();
        let (id, sealed) = desk
            .appoint(episode, &offer.keys, offer.inbox, &classes, days)
            .await?;
        locked(&patient.sealed).insert(hex::encode(id.as_bytes()), sealed);
        let said = language.of(
            "Appointed. Now save the file below and give it to the agent; nobody else can open it.",
            "已指定。请保存下方文件并交给代理人，其他人无法打开。",
        );
        Ok(Done {
            to: "agents".to_owned(),
            said: Some(said.to_owned()),
        })
    })
}

/// What the agent accepts, as a file.
pub(super) async fn sealed(State(place): State<Place>, Path(id): Path<String>) -> Response {
    let Some(sealed) = locked(&place.patient.sealed).get(&id).cloned() else {
        return missing(&place.app);
    };
    let name = format!(
        "attachment; filename=\"appointment-{}.willis\"",
        &id[..8.min(id.len())]
    );
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    (headers, sealed).into_response()
}

pub(super) async fn withdraw(State(place): State<Place>, Path(id): Path<String>) -> Response {
    let language = place.app.language();
    let patient = place.patient.clone();
    let title = language.of("Withdrawing", "正在撤回");
    jobs::start(&place.app, title, "agents", |mut hears| async move {
        use workstation::Progress as _;
        let mut bytes = [0; 32];
        hex::decode_to_slice(&id, &mut bytes)
            .map_err(|_| WorkError::Not("there is no such appointment".to_owned()))?;
        hears.step("recording the withdrawal on the chain");
        let mut held = patient.vault.desk().await?;
        held.desk().withdraw(&AppointmentId::new(bytes)).await?;
        let said = language.of(
            "Withdrawn: no hospital takes or serves a grant of this agent any more. What the agent has read cannot be taken back.",
            "已撤回：任何医院都不再接受该代理人的授权。代理人已读到的内容无法收回。",
        );
        Ok(Done {
            to: "agents".to_owned(),
            said: Some(said.to_owned()),
        })
    })
}
