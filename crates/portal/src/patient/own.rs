//! The patient's own: records and their receipts, the access log, the code, the 24 words, a new episode.

use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use ledger::TransactionId;
use scheme::InstitutionId;
use serde::Deserialize;
use workstation::WorkError;
use zeroize::Zeroizing;

use super::{Place, time};
use crate::app::locked;
use crate::codes::{begin_code, qr};
use crate::forms::Fields;
use crate::frame::{Frame, message, missing, page};
use crate::jobs::{self, Done};
use crate::time_words::{ago, moment};
use crate::viewer::{self, Around, FrameQuery, Shelf};
use crate::words::Language;

#[derive(Template)]
#[template(path = "patient/records.html")]
struct Records {
    f: Frame,
    away: Option<String>,
    stays: Vec<Stay>,
    wrong: Vec<String>,
}

struct Stay {
    hospital: String,
    doctor: String,
    under_former_keys: bool,
    records: Vec<String>,
}

pub(super) async fn records(State(place): State<Place>) -> Response {
    let app = &place.app;
    let language = app.language();
    let seen = place.patient.vault.seen();
    let mut stays = Vec::new();
    for one in seen.view.episodes.iter().rev() {
        let hospital = app.network.name_of(one.institution).await;
        let records = one
            .records
            .iter()
            .rev()
            .map(|id| hex::encode(id.as_bytes()));
        stays.push(Stay {
            doctor: language.doctor(one.doctor.number(), &hospital),
            hospital,
            under_former_keys: one.under_former_keys,
            records: records.collect(),
        });
    }
    page(Records {
        f: Frame::live(app, language.of("My records", "我的病历"), "records"),
        away: seen.away,
        stays,
        wrong: seen.view.wrong_receipts,
    })
}

pub(super) async fn open(State(place): State<Place>, Path(record): Path<String>) -> Response {
    let title = place
        .app
        .language()
        .of("Opening the record", "正在打开病历");
    let patient = place.patient.clone();
    jobs::start(&place.app, title, "records", |mut hears| async move {
        let mut bytes = [0; 32];
        hex::decode_to_slice(&record, &mut bytes)
            .map_err(|_| WorkError::Not("there is no such record".to_owned()))?;
        let folder = patient.shelves.fresh();
        // Held until the record is entered below, so that locking closes it too.
        let mut held = patient.vault.desk().await?;
        let id = TransactionId::new(bytes);
        let opened = held.desk().read_own(id, &folder, &mut hears).await?;
        let mut shelf = Shelf::new(folder, &opened.files);
        if let Some(amends) = &opened.amends {
            shelf.amends = held.desk().amended_by(id, amends).await?;
        }
        patient.shelves.put(&record, shelf);
        Ok(Done {
            to: format!("records/{record}"),
            said: None,
        })
    })
}

/// Writes everything into a new folder beside the keystore.
pub(super) async fn export(State(place): State<Place>) -> Response {
    let language = place.app.language();
    let title = language.of("Taking everything along", "正在打包全部内容");
    let patient = place.patient.clone();
    jobs::start(&place.app, title, "records", |mut hears| async move {
        let keystore = patient.vault.keystore();
        let home = keystore.parent().unwrap_or(std::path::Path::new("."));
        let name = format!("willis-export-{}", time());
        let into = home.join(name);
        let mut held = patient.vault.desk().await?;
        let exported = held.desk().export(&into, &mut hears).await?;
        let (records, grants) = (exported.records, exported.grants);
        let place = into.display();
        let mut said = match language {
            Language::English => format!(
                "{records} records and {grants} grants, with their proofs, lie in {place}. Whoever has the folder can read all of it."
            ),
            Language::Chinese => format!(
                "{records} 份病历和 {grants} 项授权及其证明已存入 {place}。得到该文件夹的人可以阅读全部内容。"
            ),
        };
        if let Some(first) = exported.left_out.first() {
            let count = exported.left_out.len();
            said.push_str(&match language {
                Language::English => format!(" {count} could not be had now, such as {first}."),
                Language::Chinese => format!(" 有 {count} 项暂时无法取得，例如：{first}。"),
            });
        }
        Ok(Done {
            to: "records".to_owned(),
            said: Some(said),
        })
    })
}

pub(super) async fn record(State(place): State<Place>, Path(record): Path<String>) -> Response {
    let app = &place.app;
    let Some(shelf) = place.patient.shelves.get(&record) else {
        return missing(app);
    };
    let title = app.language().of("A record of yours", "您的一份病历");
    let f = Frame::new(app, title, "records");
    viewer::record(
        app,
        &shelf,
        f,
        String::new(),
        "records",
        &format!("records/{record}"),
        shelf
            .amends
            .map(|id| format!("records/{}", hex::encode(id.as_bytes()))),
    )
}

pub(super) async fn file(
    State(place): State<Place>,
    Path((record, number)): Path<(String, usize)>,
    Query(query): Query<FrameQuery>,
) -> Response {
    let app = &place.app;
    let around = Around::own(app.at(&format!("records/{record}")), number, String::new());
    viewer::file(
        app,
        place.patient.shelves.get(&record).as_deref(),
        around,
        &query,
    )
}

pub(super) async fn picture(
    State(place): State<Place>,
    Path((record, number, _)): Path<(String, usize, String)>,
    Query(query): Query<FrameQuery>,
) -> Response {
    viewer::picture(
        place.patient.shelves.get(&record).as_deref(),
        number,
        &query,
    )
}

#[derive(Template)]
#[template(path = "patient/log.html")]
struct Log {
    f: Frame,
    gid: String,
    read: String,
    lines: Vec<Line>,
    gaps: bool,
    by_agent: bool,
}

struct Line {
    number: u64,
    who: String,
    when: String,
    record: String,
    stay: String,
}

/// Reads a grant's accesses from the chain, block by block, each with its proof.
pub(super) async fn read_log(State(place): State<Place>, Path(gid): Path<String>) -> Response {
    let title = place.app.language().of(
        "Reading the access log from the chain",
        "正在从联盟链读取查阅记录",
    );
    let patient = place.patient.clone();
    jobs::start(&place.app, title, "grants", |mut hears| async move {
        let mut held = patient.vault.desk().await?;
        let log = held.desk().log(&gid, &mut hears).await?;
        drop(held);
        locked(&patient.logs).insert(gid.clone(), (time(), log));
        Ok(Done {
            to: format!("grants/{gid}/log"),
            said: None,
        })
    })
}

pub(super) async fn log(State(place): State<Place>, Path(gid): Path<String>) -> Response {
    let app = &place.app;
    let language = app.language();
    let Some((read, log)) = locked(&place.patient.logs).get(&gid).cloned() else {
        return missing(app);
    };
    let seen = place.patient.vault.seen();
    let mut lines = Vec::new();
    // Each access key counts its own accesses from 0.
    let mut next = std::collections::BTreeMap::<String, u64>::new();
    let mut gaps = false;
    for one in log {
        let expected = next.entry(one.access_key.clone()).or_default();
        gaps |= one.number != *expected;
        *expected = one.number + 1;
        let who = match one.doctor {
            Some(who) => place.doctors(&[who]).await.join(""),
            None => format!(
                "{} {}",
                language.of("access key", "访问密钥"),
                crate::frame::short(&one.access_key)
            ),
        };
        let of = |id: &TransactionId| {
            seen.view
                .episodes
                .iter()
                .find(|stay| stay.records.contains(id))
        };
        let stay = match one.record.as_ref().and_then(of) {
            Some(stay) => app.network.name_of(stay.institution).await,
            None => String::new(),
        };
        lines.push(Line {
            number: one.number + 1,
            who,
            when: moment(language, one.time),
            record: one
                .record
                .map_or_else(String::new, |id| hex::encode(id.as_bytes())),
            stay,
        });
    }
    let mut given = seen.view.given.iter();
    let by_agent = given.any(|one| one.gid == gid && one.by_agent.is_some());
    page(Log {
        f: Frame::new(app, language.of("My access log", "我的查阅记录"), "grants"),
        gid,
        read: ago(language, read, time()),
        lines,
        gaps,
        by_agent,
    })
}

#[derive(Template)]
#[template(path = "patient/code.html")]
struct Code {
    f: Frame,
    code: String,
    parts: Vec<String>,
    qr: String,
    /// What the patient says instead, with its end.
    short: Option<(String, String)>,
    /// Whether doctors find the patient by the document; none until the centre was asked.
    findable: Option<bool>,
    findings: Vec<FoundBy>,
}

/// A doctor who looked for the patient.
struct FoundBy {
    who: String,
    when: String,
    purpose: String,
}

pub(super) async fn code(State(place): State<Place>) -> Response {
    let app = &place.app;
    let seen = place.patient.vault.seen();
    let code = seen.view.code;
    let language = app.language();
    let mut findings = Vec::new();
    for one in seen.view.findable.iter().flat_map(|found| &found.findings) {
        let hospital = app.network.name_of(InstitutionId::new(one.institution));
        findings.push(FoundBy {
            who: language.doctor(one.doctor, &hospital.await),
            when: moment(language, one.time),
            purpose: one.purpose.clone(),
        });
    }
    let parts = code
        .as_bytes()
        .chunks(8)
        .map(|part| String::from_utf8_lossy(part).into_owned());
    page(Code {
        f: Frame::new(app, app.language().of("My code", "我的二维码"), "code"),
        parts: parts.collect(),
        qr: qr(&code),
        code,
        short: seen
            .view
            .short_code
            .filter(|(_, until)| *until > time())
            .map(|(short, until)| (short, moment(language, until))),
        findable: seen.view.findable.map(|found| found.findable),
        findings,
    })
}

/// Makes a code that the patient can say.
pub(super) async fn short_code(State(place): State<Place>) -> Response {
    let language = place.app.language();
    let patient = place.patient.clone();
    let title = language.of("Making a short code", "正在生成短码");
    jobs::start(&place.app, title, "code", move |_| async move {
        let mut held = patient.vault.desk().await?;
        let short = held.desk().short_code().await?;
        held.see(|view| view.short_code = Some(short));
        Ok(Done {
            to: "code".to_owned(),
            said: None,
        })
    })
}

#[derive(Deserialize)]
pub(super) struct BeFound {
    findable: bool,
}

/// Lets doctors find the patient by the document, or nobody any more.
pub(super) async fn findable(State(place): State<Place>, Form(form): Form<BeFound>) -> Response {
    let language = place.app.language();
    let patient = place.patient.clone();
    let title = language.of("Telling the registration centre", "正在通知注册中心");
    jobs::start(&place.app, title, "code", move |_| async move {
        let mut held = patient.vault.desk().await?;
        held.desk().set_findable(form.findable).await?;
        let found = held.desk().findable().await?;
        held.see(|view| view.findable = Some(found));
        let said = match form.findable {
            true => language.of(
                "Doctors who have your document can find you now.",
                "持有您证件信息的医生现在可以找到您。",
            ),
            false => language.of("No doctor finds you now.", "现在没有医生可以找到您。"),
        };
        Ok(Done {
            to: "code".to_owned(),
            said: Some(said.to_owned()),
        })
    })
}

#[derive(Template)]
#[template(path = "patient/begin.html")]
struct Begin {
    f: Frame,
    kept: Fields,
}

pub(super) async fn begin_form(State(place): State<Place>) -> Response {
    let app = &place.app;
    page(Begin {
        f: Frame::new(
            app,
            app.language().of("I am at a hospital", "我在医院"),
            "records",
        ),
        kept: app.forms.kept("begin"),
    })
}

pub(super) async fn begin(State(place): State<Place>, Form(fields): Form<Fields>) -> Response {
    let language = place.app.language();
    place.app.forms.keep("begin", fields.clone());
    let patient = place.patient.clone();
    let title = language.of("Beginning the stay", "正在开始就诊");
    jobs::start(&place.app, title, "begin", |mut hears| async move {
        use workstation::Progress as _;
        let (institution, uid, doctor) = begin_code(fields.value("code"))?;
        hears.step("making a pseudonym on this device");
        let mut held = patient.vault.desk().await?;
        held.desk().begin_episode(institution, &uid, doctor).await?;
        let said = language.of(
            "The doctor can now write records for this stay, under a pseudonym.",
            "医生现在可以用假名为本次就诊书写病历。",
        );
        Ok(Done {
            to: "records".to_owned(),
            said: Some(said.to_owned()),
        })
    })
}

#[derive(Template)]
#[template(path = "patient/words.html")]
struct Words {
    f: Frame,
    words: Vec<String>,
    failed: Option<String>,
}

pub(super) async fn words_form(State(place): State<Place>) -> Response {
    words_page(&place, Vec::new(), None)
}

fn words_page(place: &Place, words: Vec<String>, failed: Option<String>) -> Response {
    let app = &place.app;
    page(Words {
        f: Frame::new(
            app,
            app.language().of("My 24 words", "我的 24 个单词"),
            "records",
        ),
        words,
        failed,
    })
}

#[derive(Deserialize)]
pub(super) struct Again {
    #[serde(deserialize_with = "crate::forms::secret")]
    passphrase: Zeroizing<String>,
}

/// Shows the 24 words to who types the passphrase once more.
pub(super) async fn words(State(place): State<Place>, Form(form): Form<Again>) -> Response {
    let language = place.app.language();
    let mut held = match place.patient.vault.desk().await {
        Ok(held) => held,
        Err(error) => {
            let title = language.of("Locked", "已锁定");
            return message(
                &place.app,
                StatusCode::FORBIDDEN,
                title,
                client::sentence(&error),
            );
        }
    };
    let right = tokio::task::block_in_place(|| held.desk().is_passphrase(&form.passphrase));
    match right {
        Ok(true) => {
            let words = held.desk().words();
            words_page(&place, words.split(' ').map(str::to_owned).collect(), None)
        }
        Ok(false) => {
            let why = language.of("The passphrase is wrong.", "口令不正确。");
            words_page(&place, Vec::new(), Some(why.to_owned()))
        }
        Err(error) => words_page(&place, Vec::new(), Some(client::sentence(&error))),
    }
}
