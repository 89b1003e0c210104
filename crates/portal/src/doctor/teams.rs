//! A care team's request while it is gathered: who was asked to join, who did, and invitations of
//! colleagues.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use scheme::DoctorId;
use workstation::{ColleagueState, InvitationView, TeamView};

use super::Place;
use crate::forms::Fields;
use crate::frame::{Frame, missing, page};
use crate::jobs::{self, Done};
use crate::time_words::moment;
use crate::words::Language;

/// A team that is being gathered, in a list.
pub(super) struct TeamRow {
    pub(super) id: String,
    pub(super) purpose: String,
    pub(super) state: String,
}

pub(super) fn team_row(language: Language, team: &TeamView) -> TeamRow {
    let awaited = if team.closed {
        ColleagueState::Joined
    } else {
        ColleagueState::Invited
    };
    let colleagues = team.colleagues.iter();
    let waits = colleagues.filter(|(_, one)| *one == awaited).count();
    TeamRow {
        id: team.id.clone(),
        purpose: team.purpose.clone(),
        state: match (language, team.closed) {
            (Language::English, false) => format!("waits for {waits} to join"),
            (Language::English, true) => format!("waits for {waits} to sign"),
            (Language::Chinese, false) => format!("等待 {waits} 位医生加入"),
            (Language::Chinese, true) => format!("等待 {waits} 位医生签名"),
        },
    }
}

/// A colleague's invitation.
pub(super) struct InvitationRow {
    pub(super) id: String,
    pub(super) lead: String,
    pub(super) purpose: String,
    pub(super) classes: String,
    pub(super) until: String,
    pub(super) joined: bool,
}

pub(super) fn invitation_row(language: Language, one: &InvitationView) -> InvitationRow {
    InvitationRow {
        id: one.id.clone(),
        lead: language.colleague(one.lead),
        purpose: one.purpose.clone(),
        classes: language.classes(&one.classes),
        until: moment(language, one.not_after),
        joined: one.joined,
    }
}

#[derive(Template)]
#[template(path = "doctor/team.html")]
struct TeamPage {
    f: Frame,
    away: Option<String>,
    team: TeamView,
    colleagues: Vec<ColleagueRow>,
    until: String,
}

struct ColleagueRow {
    name: String,
    dot: &'static str,
    state: &'static str,
}

pub(super) async fn show(State(place): State<Place>, Path(id): Path<String>) -> Response {
    let app = &place.app;
    let language = app.language();
    let seen = place.doctor.vault.seen();
    let Some(team) = seen.view.teams.iter().find(|one| one.id == id) else {
        // Once everyone has signed it is a request like any other.
        return sent(&place, &id);
    };
    let colleague = |(id, state): &(u64, ColleagueState)| {
        let (dot, state) = match state {
            ColleagueState::Invited => ("waiting", language.of("was asked to join", "已邀请")),
            ColleagueState::Joined if team.closed => (
                "waiting",
                language.of("joined; signs now", "已加入，正在签名"),
            ),
            ColleagueState::Joined => ("granted", language.of("joined", "已加入")),
            ColleagueState::Signed => ("granted", language.of("signed", "已签名")),
            ColleagueState::Out => ("none", language.of("does not take part", "不参加")),
        };
        ColleagueRow {
            name: language.colleague(*id),
            dot,
            state,
        }
    };
    page(TeamPage {
        f: Frame::live(app, &team.purpose, ""),
        colleagues: team.colleagues.iter().map(colleague).collect(),
        until: moment(language, team.not_after),
        away: seen.away.clone(),
        team: team.clone(),
    })
}

/// A team that is gathered no more: its request, the newest, or nothing.
fn sent(place: &Place, id: &str) -> Response {
    let seen = place.doctor.vault.seen();
    let mut requests = seen.view.requests.iter();
    match requests.find(|request| request.nonce == id) {
        Some(request) => {
            let to = place.app.at(&format!("requests/{}", request.id));
            Redirect::to(&to).into_response()
        }
        None => missing(&place.app),
    }
}

pub(super) fn invite(place: &Place, fields: Fields, colleagues: Vec<DoctorId>) -> Response {
    let title = place
        .app
        .language()
        .of("Asking the colleagues to join", "正在邀请同事加入");
    let doctor = place.doctor.clone();
    jobs::start(&place.app, title, "ask", |mut hears| async move {
        let mut held = doctor.vault.desk().await?;
        let ask = super::asking::read(held.desk(), &fields).await?;
        let team = held.desk().invite(&ask, &colleagues, &mut hears).await?;
        let to = format!("teams/{}", team.id);
        Ok(Done { to, said: None })
    })
}

pub(super) async fn send(State(place): State<Place>, Path(id): Path<String>) -> Response {
    let title = place
        .app
        .language()
        .of("Sending the request", "正在发送申请");
    let back = format!("teams/{id}");
    let doctor = place.doctor.clone();
    jobs::start(&place.app, title, &back.clone(), |mut hears| async move {
        let mut held = doctor.vault.desk().await?;
        held.desk().close_team(&id, &mut hears).await?;
        let requests = held.desk().requests().await?;
        held.see(|view| view.requests = requests);
        Ok(Done {
            to: back,
            said: None,
        })
    })
}

pub(super) async fn cancel(State(place): State<Place>, Path(id): Path<String>) -> Response {
    let language = place.app.language();
    let title = language.of("Cancelling", "正在取消");
    let said = language.of("The patient is not asked.", "不会向患者申请。");
    let back = format!("teams/{id}");
    let doctor = place.doctor.clone();
    jobs::start(&place.app, title, &back, |_| async move {
        doctor.vault.desk().await?.desk().cancel_team(&id)?;
        Ok(Done {
            to: String::new(),
            said: Some(said.to_owned()),
        })
    })
}

pub(super) async fn answer(
    State(place): State<Place>,
    Path(id): Path<String>,
    Form(fields): Form<Fields>,
) -> Response {
    let language = place.app.language();
    let joins = fields.value("answer") == "join";
    let title = language.of("Answering the colleague", "正在答复同事");
    let said = if joins {
        language.of(
            "You joined. This machine signs the request once it is complete, if it is exactly what you joined.",
            "您已加入。申请完成后，本机会核对其与您加入的内容完全一致，再自动签名。",
        )
    } else {
        language.of("You do not take part.", "您不参加。")
    };
    let doctor = place.doctor.clone();
    jobs::start(&place.app, title, "", |_| async move {
        let mut held = doctor.vault.desk().await?;
        if joins {
            held.desk().join(&id).await?;
        } else {
            held.desk().decline_team(&id).await?;
        }
        Ok(Done {
            to: String::new(),
            said: Some(said.to_owned()),
        })
    })
}
