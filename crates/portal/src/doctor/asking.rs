//! Asking: the list of requests, and a new one.

use askama::Template;
use axum::extract::{Form, State};
use axum::response::Response;
use client::{FindPatient, RequestState, now};
use record::SectionClass;
use scheme::DoctorId;
use workstation::{
    Ask, DoctorDesk, Progress as _, REQUEST_HOURS, RequestView, WorkError, inbox_to_text,
};

use super::teams::{self, InvitationRow, TeamRow, invitation_row, team_row};
use super::{Place, live};
use crate::forms::Fields;
use crate::frame::{Frame, page};
use crate::jobs::{self, Done};
use crate::newcomer::Enrolling;
use crate::time_words::{duration, moment};
use crate::words::Language;

#[derive(Template)]
#[template(path = "doctor/requests.html")]
struct Requests {
    f: Frame,
    away: Option<String>,
    enrolling: Option<Enrolling>,
    requests: Vec<RequestRow>,
    teams: Vec<TeamRow>,
    invitations: Vec<InvitationRow>,
    troubles: Vec<String>,
}

pub(super) struct RequestRow {
    pub(super) id: String,
    pub(super) purpose: String,
    pub(super) dot: &'static str,
    pub(super) state: String,
    pub(super) until: String,
    /// The doctors who can read what is granted, if they are several.
    pub(super) team: String,
}

pub(super) async fn requests(State(place): State<Place>) -> Response {
    let app = &place.app;
    let language = app.language();
    place.doctor.close_ended(app);
    let seen = place.doctor.vault.seen();
    let mut requests: Vec<RequestRow> = seen
        .view
        .requests
        .iter()
        .map(|request| row(language, request))
        .collect();
    requests.reverse();
    let mut troubles = seen.view.refused;
    troubles.extend(seen.view.unfinished);
    page(Requests {
        f: Frame::live(app, language.of("Requests", "申请"), ""),
        away: seen.away,
        enrolling: seen.view.enrolling,
        requests,
        teams: seen
            .view
            .teams
            .iter()
            .map(|team| team_row(language, team))
            .collect(),
        invitations: seen
            .view
            .invitations
            .iter()
            .map(|one| invitation_row(language, one))
            .collect(),
        troubles,
    })
}

pub(super) fn row(language: Language, request: &RequestView) -> RequestRow {
    let time = now().number();
    let (dot, state) = state(language, request, time);
    let ends = live(request, time).map(|grant| grant.expiry).max();
    let until = match (ends, request.state.is_decided()) {
        (Some(end), _) => {
            let left = duration(language, end.saturating_sub(time));
            match language {
                Language::English => format!("{left} left, until {}", moment(language, end)),
                Language::Chinese => format!("还剩 {left}，至 {}", moment(language, end)),
            }
        }
        (None, true) => String::new(),
        (None, false) => match language {
            Language::English => format!(
                "can be answered until {}",
                moment(language, request.not_after)
            ),
            Language::Chinese => format!("可在 {} 前答复", moment(language, request.not_after)),
        },
    };
    RequestRow {
        id: request.id.clone(),
        purpose: request.purpose.clone(),
        dot,
        state,
        until,
        team: match request.team.len() {
            0 | 1 => String::new(),
            _ => language.colleagues(&request.team),
        },
    }
}

/// A request's state as colour, shape and words.
pub(super) fn state(
    language: Language,
    request: &RequestView,
    time: u64,
) -> (&'static str, String) {
    let said = |dot, english: &str, chinese: &str| (dot, language.of(english, chinese).to_owned());
    if live(request, time).next().is_some() {
        return said("granted", "granted", "已授权");
    }
    if request.grants.iter().any(|grant| grant.revoked) {
        return said("refused", "revoked by the patient", "患者已撤销");
    }
    if !request.grants.is_empty() {
        return said("none", "its time has ended", "授权已到期");
    }
    match request.state {
        RequestState::Queued => said("waiting", "on its way", "发送中"),
        RequestState::Forwarded => said("waiting", "in the patient's inbox", "已到患者信箱"),
        RequestState::Collected => said("waiting", "on the patient's device", "已到患者设备"),
        RequestState::Reminded => said("waiting", "the patient was reminded", "已提醒患者"),
        RequestState::WithAgent => said(
            "waiting",
            "with the family agent as well",
            "已转给家属代理人",
        ),
        RequestState::Answered | RequestState::Note => said(
            "waiting",
            "answered; the grant is on its way",
            "已答复，授权即将到达",
        ),
        RequestState::Declined => said("refused", "declined by the patient", "患者已拒绝"),
        RequestState::Expired => said("none", "nobody answered in time", "无人及时答复"),
        RequestState::Refused => said("refused", "was not forwarded", "未能转交"),
    }
}

#[derive(Template)]
#[template(path = "doctor/ask.html")]
struct AskPage {
    f: Frame,
    kept: Fields,
    classes: Vec<(&'static str, &'static str, bool)>,
    colleagues: Vec<(u64, String, bool)>,
}

pub(super) async fn form(State(place): State<Place>) -> Response {
    let app = &place.app;
    let language = app.language();
    let kept = match app.forms.kept("ask") {
        kept if kept.is_empty() => fresh([]),
        kept => kept,
    };
    let classes = SectionClass::ALL.map(|class| {
        let ticked = kept.has("class", class.name());
        (class.name(), language.class(class), ticked)
    });
    let colleagues = place.doctor.vault.seen().view.colleagues;
    page(AskPage {
        f: Frame::new(app, language.of("Ask a patient", "向患者申请查阅"), ""),
        colleagues: colleagues
            .iter()
            .map(|id| {
                let ticked = kept.has("colleague", &id.to_string());
                (*id, language.colleague(*id), ticked)
            })
            .collect(),
        kept,
        classes: classes.to_vec(),
    })
}

/// The form for asking as it stands before anything is typed, with what is known.
fn fresh<const N: usize>(known: [(&str, String); N]) -> Fields {
    let classes = SectionClass::ALL.map(|class| ("class", class.name().to_owned()));
    let numbers = [
        ("episodes", "4".to_owned()),
        ("hours", REQUEST_HOURS.to_string()),
    ];
    let all = known.into_iter().chain(numbers).chain(classes);
    Fields(all.map(|(name, value)| (name.to_owned(), value)).collect())
}

#[derive(Template)]
#[template(path = "doctor/find.html")]
struct FindPage {
    f: Frame,
    kept: Fields,
}

pub(super) async fn find_form(State(place): State<Place>) -> Response {
    let app = &place.app;
    let title = app.language().of(
        "Ask through the registration centre",
        "通过注册中心查找患者",
    );
    page(FindPage {
        f: Frame::new(app, title, ""),
        kept: app.forms.kept("find"),
    })
}

/// Finds the code of a document's patient; the form for asking is filled in with it.
pub(super) async fn find(State(place): State<Place>, Form(fields): Form<Fields>) -> Response {
    let app = place.app.clone();
    let language = app.language();
    app.forms.keep("find", fields.clone());
    let doctor = place.doctor.clone();
    let title = language.of("Finding the patient's code", "正在查找患者编码");
    jobs::start(&place.app, title, "find", |mut hears| async move {
        let text = |name: &str| fields.value(name).to_owned();
        let patient = FindPatient {
            birth_date: text("birth_date"),
            document_kind: text("document_kind"),
            document_number: text("document_number"),
            purpose: text("purpose"),
        };
        hears.step("asking the registration centre");
        let mut held = doctor.vault.desk().await?;
        let inbox = held.desk().find(&patient).await?;
        let filled = [
            ("inbox", inbox_to_text(&inbox)),
            ("purpose", text("purpose")),
        ];
        app.forms.keep("ask", fresh(filled));
        let said = language.of(
            "The patient was found. Ask now: the code stands in the form.",
            "已找到患者。编码已填入表单，请提交申请。",
        );
        Ok(Done {
            to: "ask".to_owned(),
            said: Some(said.to_owned()),
        })
    })
}

pub(super) async fn ask(State(place): State<Place>, Form(fields): Form<Fields>) -> Response {
    let app = place.app.clone();
    let title = app.language().of("Asking the patient", "正在向患者申请");
    app.forms.keep("ask", fields.clone());
    let colleagues: Vec<DoctorId> = fields
        .values("colleague")
        .filter_map(|id| Some(DoctorId::new(id.parse().ok()?)))
        .collect();
    if !colleagues.is_empty() {
        return teams::invite(&place, fields, colleagues);
    }
    let doctor = place.doctor.clone();
    jobs::start(&place.app, title, "ask", |mut hears| async move {
        let mut held = doctor.vault.desk().await?;
        let ask = read(held.desk(), &fields).await?;
        let asked = held.desk().ask(&ask, &mut hears).await?;
        let to = format!("requests/{}", asked.id);
        held.see(|view| view.requests.push(asked));
        Ok(Done { to, said: None })
    })
}

pub(super) async fn read(desk: &DoctorDesk, fields: &Fields) -> Result<Ask, WorkError> {
    let not = |why: &str| Err(WorkError::Not(why.to_owned()));
    let classes: Vec<SectionClass> = fields
        .values("class")
        .filter_map(SectionClass::from_name)
        .collect();
    if classes.is_empty() {
        return not("no section was chosen: choose what you need to see");
    }
    if fields.value("purpose").is_empty() {
        return not("the purpose is missing: the patient decides by it");
    }
    let number = |name: &str, least: u64, most: u64| {
        let typed = fields.value(name).parse::<u64>();
        typed.unwrap_or(least).clamp(least, most)
    };
    let hours = match fields.value("hours") {
        "" => REQUEST_HOURS,
        _ => number("hours", 1, 24),
    };
    Ok(Ask {
        inbox: desk.inbox_of(fields.value("inbox")).await?,
        classes,
        purpose: fields.value("purpose").to_owned(),
        episodes: usize::try_from(number("episodes", 1, 8)).unwrap_or(1),
        hours,
    })
}
