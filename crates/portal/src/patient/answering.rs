//! Who asks, what is given to whom until when, and taking it back.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::response::{Json, Response};
use record::SectionClass;
use serde::Serialize;
use workstation::{AskedView, EpisodeView, GivenView, Grants, WorkError};

use super::{Place, stands, time};
use crate::forms::Fields;
use crate::frame::{Frame, missing, page};
use crate::jobs::{self, Done};
use crate::newcomer::Enrolling;
use crate::time_words::{duration, moment};
use crate::words::Language;

const MINUTE: u64 = 60 * 1000;
/// The longest grant that the page offers: a year.
const DAYS_MAX: u64 = 366;

#[derive(Template)]
#[template(path = "patient/home.html")]
struct Home {
    f: Frame,
    away: Option<String>,
    enrolling: Option<Enrolling>,
    taking_over: bool,
    taken_over: bool,
    asked: Vec<AskedRow>,
    reading: Vec<GrantRow>,
    ended: Vec<GrantRow>,
    troubles: Vec<String>,
    no_episode: bool,
}

struct AskedRow {
    id: String,
    who: String,
    purpose: String,
    until: String,
}

pub(super) struct GrantRow {
    gid: String,
    sentence: String,
    purpose: String,
    dot: &'static str,
    state: String,
    live: bool,
    /// Whether a family agent gave it.
    by_agent: bool,
}

pub(super) async fn home(State(place): State<Place>) -> Response {
    let app = &place.app;
    let language = app.language();
    let seen = place.patient.vault.seen();
    let mut asked = Vec::new();
    for one in &seen.view.asked {
        asked.push(AskedRow {
            id: one.id.clone(),
            who: language.list(&place.doctors(&one.doctors).await),
            purpose: one.purpose.clone(),
            until: moment(language, one.not_after),
        });
    }
    let rows = rows(&place, &seen.view.given, &seen.view.episodes).await;
    let (reading, mut ended): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.live);
    ended.truncate(5);
    let troubles = seen.view.troubles.iter().chain(&seen.view.wrong_receipts);
    page(Home {
        f: Frame::live(app, language.of("Home", "首页"), ""),
        away: seen.away,
        enrolling: seen.view.enrolling.clone(),
        taking_over: seen.view.taking_over.is_some(),
        taken_over: seen.view.taken_over,
        asked,
        reading,
        ended,
        troubles: troubles.cloned().collect(),
        no_episode: seen.view.episodes.is_empty(),
    })
}

/// Grants in words, the newest first.
async fn rows(place: &Place, given: &[GivenView], episodes: &[EpisodeView]) -> Vec<GrantRow> {
    let language = place.app.language();
    let now = time();
    let mut rows = Vec::new();
    for one in given.iter().rev() {
        let stay = stay(place, episodes, one.episode).await;
        let (who, classes, purpose) = match &one.answers {
            Some(answers) => (
                language.list(&place.doctors(&answers.team).await),
                answers.classes.as_slice(),
                answers.purpose.clone(),
            ),
            None => (
                language
                    .of("The doctors who asked", "提出申请的医生")
                    .to_owned(),
                &[][..],
                String::new(),
            ),
        };
        let live = stands(one, now);
        let (dot, state) = match one.revoked {
            None => (
                "waiting",
                language
                    .of("on its way to the hospitals", "正在送达各医院")
                    .to_owned(),
            ),
            Some(true) => ("refused", language.of("revoked", "已撤销").to_owned()),
            Some(false) if !live => ("none", language.of("ended", "已到期").to_owned()),
            Some(false) => {
                let left = duration(language, one.expiry.saturating_sub(now));
                let text = match language {
                    Language::English => format!("can read, {left} left"),
                    Language::Chinese => format!("可查阅，还剩 {left}"),
                };
                ("granted", text)
            }
        };
        let stays = std::slice::from_ref(&stay);
        rows.push(GrantRow {
            gid: one.gid.clone(),
            sentence: said(language, &who, classes, stays, one.expiry, live),
            purpose,
            dot,
            state,
            live,
            by_agent: one.by_agent.is_some(),
        });
    }
    rows
}

/// "your stay at Riverside".
async fn stay(place: &Place, episodes: &[EpisodeView], number: usize) -> String {
    let language = place.app.language();
    let Some(episode) = episodes.iter().find(|one| one.number == number) else {
        return language.of("a stay", "一次就诊").to_owned();
    };
    let hospital = place.app.network.name_of(episode.institution).await;
    let same = episodes
        .iter()
        .filter(|one| one.institution == episode.institution);
    let which = same
        .clone()
        .position(|one| one.number == number)
        .unwrap_or(0)
        + 1;
    let several = same.count() > 1;
    match (language, several) {
        (Language::English, false) => format!("your stay at {hospital}"),
        (Language::English, true) => format!("your stay {which} at {hospital}"),
        (Language::Chinese, false) => format!("您在{hospital}的就诊"),
        (Language::Chinese, true) => format!("您在{hospital}的第 {which} 次就诊"),
    }
}

/// The one sentence that says it all.
fn said(
    language: Language,
    who: &str,
    classes: &[SectionClass],
    stays: &[String],
    until: u64,
    live: bool,
) -> String {
    let what = match classes {
        [] => language.of("what you granted", "您授权的内容").to_owned(),
        some => language.classes(some),
    };
    let stays = language.list(stays);
    let end = moment(language, until);
    match (language, live) {
        (Language::English, true) => format!("{who} may read {what} from {stays} until {end}."),
        (Language::English, false) => {
            format!("{who} could read {what} from {stays} until {end} at the latest.")
        }
        (Language::Chinese, true) => format!("{who}可查阅{stays}中的{what}，至 {end}。"),
        (Language::Chinese, false) => format!("{who}曾可查阅{stays}中的{what}，最迟至 {end}。"),
    }
}

#[derive(Template)]
#[template(path = "patient/request.html")]
struct RequestPage {
    f: Frame,
    id: String,
    who: Vec<String>,
    purpose: String,
    until: String,
    most: usize,
    /// Whether imaging is asked for.
    imaging: bool,
    episodes: Vec<(usize, String, usize, bool)>,
    classes: Vec<(&'static str, &'static str, bool)>,
    kept: Fields,
    sentence: String,
}

fn form_page(id: &str) -> String {
    format!("requests/{id}")
}

pub(super) async fn request(State(place): State<Place>, Path(id): Path<String>) -> Response {
    let app = &place.app;
    let language = app.language();
    let seen = place.patient.vault.seen();
    let Some(asked) = seen.view.asked.iter().find(|one| one.id == id) else {
        return missing(app);
    };
    let kept = app.forms.kept(&form_page(&id));
    let mut episodes = Vec::new();
    for one in &seen.view.episodes {
        let text = capital(&stay(&place, &seen.view.episodes, one.number).await);
        let ticked = kept.has("episode", &one.number.to_string());
        episodes.push((one.number, text, one.records.len(), ticked));
    }
    let classes = asked.classes.iter().map(|class| {
        (
            class.name(),
            language.class(*class),
            kept.has("class", class.name()),
        )
    });
    let (sentence, _) = sentence_of(&place, asked, &seen.view.episodes, &kept).await;
    page(RequestPage {
        f: Frame::new(app, language.of("A doctor asks", "医生申请查阅"), ""),
        who: place.doctors(&asked.doctors).await,
        purpose: asked.purpose.clone(),
        until: moment(language, asked.not_after),
        most: asked.episodes,
        imaging: asked.classes.contains(&SectionClass::Imaging),
        episodes,
        classes: classes.collect(),
        kept,
        sentence,
        id,
    })
}

fn capital(text: &str) -> String {
    let mut rest = text.chars();
    match rest.next() {
        Some(first) => first.to_uppercase().chain(rest).collect(),
        None => String::new(),
    }
}

#[derive(Serialize)]
pub(super) struct Sentence {
    sentence: String,
    complete: bool,
}

/// What would be granted, in words, while the form is filled in.
pub(super) async fn sentence(
    State(place): State<Place>,
    Path(id): Path<String>,
    Form(fields): Form<Fields>,
) -> Json<Sentence> {
    let seen = place.patient.vault.seen();
    let asked = seen.view.asked.iter().find(|one| one.id == id);
    let (sentence, complete) = match asked {
        Some(asked) => sentence_of(&place, asked, &seen.view.episodes, &fields).await,
        None => (String::new(), false),
    };
    place.app.forms.keep(&form_page(&id), fields);
    Json(Sentence { sentence, complete })
}

async fn sentence_of(
    place: &Place,
    asked: &AskedView,
    episodes: &[EpisodeView],
    fields: &Fields,
) -> (String, bool) {
    let language = place.app.language();
    match read(asked, fields) {
        Ok(grants) => {
            let mut stays = Vec::new();
            for number in &grants.episodes {
                stays.push(stay(place, episodes, *number).await);
            }
            let who = language.list(&place.doctors(&asked.doctors).await);
            let until = time() + grants.minutes * MINUTE;
            (
                said(language, &who, &grants.classes, &stays, until, true),
                true,
            )
        }
        Err(missing) => (missing.text(language).to_owned(), false),
    }
}

/// What a grant's form does not say yet.
enum Incomplete {
    Episode,
    TooMany,
    Class,
    Duration,
}

impl Incomplete {
    fn text(&self, language: Language) -> &'static str {
        match self {
            Self::Episode => language.of("Choose from which stay.", "请选择哪次就诊。"),
            Self::TooMany => language.of(
                "That is more stays than the doctor asked for: leave some out.",
                "选择的就诊次数超过医生申请的数量，请减少。",
            ),
            Self::Class => language.of("Choose what may be read.", "请选择可查阅的内容。"),
            Self::Duration => language.of("Choose for how long.", "请选择期限。"),
        }
    }
}

fn read(asked: &AskedView, fields: &Fields) -> Result<Grants, Incomplete> {
    let episodes: Vec<usize> = fields
        .values("episode")
        .filter_map(|one| one.parse().ok())
        .collect();
    if episodes.is_empty() {
        return Err(Incomplete::Episode);
    }
    if episodes.len() > asked.episodes {
        return Err(Incomplete::TooMany);
    }
    let classes: Vec<SectionClass> = fields
        .values("class")
        .filter_map(SectionClass::from_name)
        .collect();
    if classes.is_empty() {
        return Err(Incomplete::Class);
    }
    let minutes = match fields.value("long") {
        "2h" => 120,
        "1d" => 24 * 60,
        "stay" => 14 * 24 * 60,
        "days" => match fields.value("days").parse::<u64>() {
            Ok(days @ 1..=DAYS_MAX) => days * 24 * 60,
            _ => return Err(Incomplete::Duration),
        },
        _ => return Err(Incomplete::Duration),
    };
    Ok(Grants {
        episodes,
        classes,
        keywords: Vec::new(),
        minutes,
        threshold: None,
    })
}

pub(super) async fn grant(
    State(place): State<Place>,
    Path(id): Path<String>,
    Form(fields): Form<Fields>,
) -> Response {
    let language = place.app.language();
    let form = form_page(&id);
    place.app.forms.keep(&form, fields.clone());
    let patient = place.patient.clone();
    let title = language.of("Granting", "正在授权");
    jobs::start(&place.app, title, &form, |mut hears| async move {
        let seen = patient.vault.seen();
        let asked = seen.view.asked.iter().find(|one| one.id == id);
        let Some(asked) = asked else {
            return Err(WorkError::Not(
                "this request was answered or has ended".to_owned(),
            ));
        };
        let grants = read(asked, &fields)
            .map_err(|missing| WorkError::Not(missing.text(language).to_owned()))?;
        let mut held = patient.vault.desk().await?;
        held.desk().grant(&id, &grants, &mut hears).await?;
        let given = held.desk().grants().await?;
        held.see(|view| {
            view.asked.retain(|one| one.id != id);
            view.given = given;
        });
        Ok(Done {
            to: "grants".to_owned(),
            said: Some(
                language
                    .of(
                        "Granted, and recorded by the hospitals.",
                        "已授权，并由各医院记录。",
                    )
                    .to_owned(),
            ),
        })
    })
}

/// Fills the form in with the imaging of every stay that has a record of a stroke, which this program looks
/// for. The patient reads what that says, and says so.
pub(super) async fn stroke_imaging(State(place): State<Place>, Path(id): Path<String>) -> Response {
    let language = place.app.language();
    let form = form_page(&id);
    let (app, patient, to) = (place.app.clone(), place.patient.clone(), form.clone());
    let title = language.of("Looking for stays with a stroke", "正在查找卒中就诊");
    jobs::start(&place.app, title, &form, |mut hears| async move {
        let seen = patient.vault.seen();
        let asked = seen.view.asked.iter().find(|one| one.id == id);
        let imaging = asked.is_some_and(|one| one.classes.contains(&SectionClass::Imaging));
        if !imaging {
            return Err(WorkError::Not(
                "this request does not ask for imaging, or was answered or has ended".to_owned(),
            ));
        }
        let mut held = patient.vault.desk().await?;
        let found = held.desk().cerebrovascular_episodes(&mut hears).await?;
        if found.is_empty() {
            return Err(WorkError::Not(
                "no stay has a record of a stroke: choose the stays yourself".to_owned(),
            ));
        }
        let before = app.forms.kept(&to);
        let kept = before
            .0
            .into_iter()
            .filter(|(name, _)| name != "episode" && name != "class");
        let episodes = found
            .iter()
            .map(|number| ("episode".to_owned(), number.to_string()));
        let class = ("class".to_owned(), SectionClass::Imaging.name().to_owned());
        let fields = kept.chain(episodes).chain([class]).collect();
        app.forms.keep(&to, Fields(fields));
        let said = language.of(
            "All imaging of your stroke stays is chosen. Read what you are about to say.",
            "已选择您卒中就诊的全部影像。请阅读您将要授权的内容。",
        );
        Ok(Done {
            to,
            said: Some(said.to_owned()),
        })
    })
}

pub(super) async fn decline(State(place): State<Place>, Path(id): Path<String>) -> Response {
    let language = place.app.language();
    let patient = place.patient.clone();
    let form = form_page(&id);
    jobs::start(
        &place.app,
        language.of("Declining", "正在拒绝"),
        &form,
        |_| async move {
            let mut held = patient.vault.desk().await?;
            held.desk().decline(&id).await?;
            held.see(|view| view.asked.retain(|one| one.id != id));
            let said = language.of(
                "Declined. The doctor is told, and sees nothing.",
                "已拒绝。医生会收到通知，看不到任何内容。",
            );
            Ok(Done {
                to: String::new(),
                said: Some(said.to_owned()),
            })
        },
    )
}

#[derive(Template)]
#[template(path = "patient/grants.html")]
struct GrantsPage {
    f: Frame,
    away: Option<String>,
    reading: Vec<GrantRow>,
    ended: Vec<GrantRow>,
}

pub(super) async fn grants(State(place): State<Place>) -> Response {
    let app = &place.app;
    let seen = place.patient.vault.seen();
    let rows = rows(&place, &seen.view.given, &seen.view.episodes).await;
    let (reading, ended) = rows
        .into_iter()
        .partition(|row| row.live || row.dot == "waiting");
    let title = app.language().of("Who can read", "谁能查阅");
    page(GrantsPage {
        f: Frame::live(app, title, "grants"),
        away: seen.away,
        reading,
        ended,
    })
}

/// Revokes; said to be done only once it is final.
pub(super) async fn revoke(State(place): State<Place>, Path(gid): Path<String>) -> Response {
    let language = place.app.language();
    let patient = place.patient.clone();
    let title = language.of("Revoking", "正在撤销");
    let app = place.app.clone();
    jobs::start(&app, title, "grants", |mut hears| async move {
        let seen = patient.vault.seen();
        let given = seen.view.given.iter().find(|one| one.gid == gid);
        let team = given.and_then(|one| one.answers.as_ref());
        let team = team.map_or_else(Vec::new, |answers| answers.team.clone());
        let who = match place.doctors(&team).await {
            none if none.is_empty() => language.of("these doctors", "这些医生").to_owned(),
            names => language.list(&names),
        };
        let mut held = patient.vault.desk().await?;
        held.desk().revoke(&gid, &mut hears).await?;
        held.see(|view| {
            for one in view.given.iter_mut().filter(|one| one.gid == gid) {
                one.revoked = Some(true);
            }
        });
        let said = match language {
            Language::English => format!("No hospital will open anything more for {who}."),
            Language::Chinese => format!("任何医院都不会再为{who}打开内容。"),
        };
        Ok(Done {
            to: "grants".to_owned(),
            said: Some(said),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> AskedView {
        AskedView {
            id: "00".repeat(32),
            doctors: Vec::new(),
            purpose: "stroke".to_owned(),
            classes: SectionClass::ALL.to_vec(),
            episodes: 1,
            not_after: 0,
        }
    }

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Fields(pairs.iter().map(owned).collect())
    }

    #[test]
    fn nothing_is_granted_that_was_not_chosen() {
        let chosen = [("episode", "1"), ("class", "imaging"), ("long", "2h")];
        let grants = read(&asked(), &fields(&chosen)).ok().unwrap();
        assert_eq!(grants.episodes, [1]);
        assert_eq!(grants.classes, [SectionClass::Imaging]);
        assert_eq!(grants.minutes, 120);
        for left_out in 0..chosen.len() {
            let mut some = chosen.to_vec();
            some.remove(left_out);
            assert!(read(&asked(), &fields(&some)).is_err(), "{some:?}");
        }
        let two = [
            ("episode", "1"),
            ("episode", "2"),
            ("class", "imaging"),
            ("long", "2h"),
        ];
        assert!(read(&asked(), &fields(&two)).is_err());
        let for_ever = [
            ("episode", "1"),
            ("class", "imaging"),
            ("long", "days"),
            ("days", "9999"),
        ];
        assert!(read(&asked(), &fields(&for_ever)).is_err());
    }

    #[test]
    fn the_sentence_says_who_what_until_when() {
        let stays = ["your stay at Riverside".to_owned()];
        let classes = [SectionClass::Imaging, SectionClass::Laboratory];
        let sentence = said(
            Language::English,
            "Doctor 2 at City",
            &classes,
            &stays,
            0,
            true,
        );
        assert_eq!(
            sentence,
            "Doctor 2 at City may read imaging and laboratory results from your stay at Riverside until 1 Jan 1970, 00:00 UTC."
        );
    }
}
