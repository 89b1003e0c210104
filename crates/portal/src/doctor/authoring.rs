//! The own hospital's side: patients' episodes, new records with what they hold before they are sealed,
//! and the records that this doctor wrote.

use std::collections::BTreeMap;
use std::path::PathBuf;

use askama::Template;
use axum::extract::{Form, Multipart, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use client::now;
use ledger::TransactionId;
use tokio::io::AsyncWriteExt;
use workstation::{WorkError, shelf};

use super::Place;
use crate::app::locked;
use crate::forms::Fields;
use crate::frame::{Frame, message, missing, page};
use crate::jobs::{self, Done};
use crate::time_words::ago;
use crate::viewer::{self, Around, FrameQuery, Shelf};
use crate::words::Language;

/// Files of one draft: as many as a record holds.
const DRAFT_FILES_MAX: usize = record::FILES_MAX;
/// Keywords that a preview names.
const KEYWORDS_SHOWN: usize = 60;

/// Files that wait to be sealed as one record.
#[derive(Default)]
pub(super) struct Draft {
    /// Each in a folder of its own, so that equal names do not meet.
    files: Vec<PathBuf>,
    /// The record that it will amend.
    amends: Option<TransactionId>,
}

#[derive(Template)]
#[template(path = "doctor/episodes.html")]
struct Episodes {
    f: Frame,
    away: Option<String>,
    episodes: Vec<EpisodeRow>,
    /// The code by which a patient begins an episode.
    begin: Option<(String, String)>,
}

struct EpisodeRow {
    number: usize,
    uid: String,
    records: usize,
    last: String,
}

pub(super) async fn episodes(
    State(place): State<Place>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let app = &place.app;
    let language = app.language();
    let seen = place.doctor.vault.seen();
    let time = now().number();
    let rows = seen.view.episodes.iter().rev().map(|one| {
        let mut records = seen.view.records.iter();
        let last = records.rfind(|record| record.episode == one.number);
        EpisodeRow {
            number: one.number,
            uid: one.uid.clone(),
            records: one.records,
            last: last.map_or_else(String::new, |record| ago(language, record.time, time)),
        }
    });
    let code = query
        .get("begin")
        .filter(|code| crate::codes::begin_code(code).is_ok());
    page(Episodes {
        f: Frame::live(app, language.of("My patients", "我的患者"), "episodes"),
        away: seen.away.clone(),
        episodes: rows.collect(),
        begin: code.map(|code| (code.clone(), crate::codes::qr(code))),
    })
}

pub(super) async fn give_uid(State(place): State<Place>) -> Response {
    let title = place
        .app
        .language()
        .of("Fetching a number for the patient", "正在领取就诊编号");
    let doctor = place.doctor.clone();
    jobs::start(&place.app, title, "episodes", |_| async move {
        let mut held = doctor.vault.desk().await?;
        let desk = held.desk();
        let uid = desk.give_uid().await?;
        let keys = desk.public_keys()?;
        let uid = String::from_utf8_lossy(uid.as_bytes()).into_owned();
        let (hospital, id) = (keys.institution.number(), keys.id.number());
        Ok(Done {
            to: format!("episodes?begin={hospital}-{uid}-{id}"),
            said: None,
        })
    })
}

#[derive(Template)]
#[template(path = "doctor/episode.html")]
struct Episode {
    f: Frame,
    number: usize,
    records: Vec<RecordRow>,
    files: Vec<FileRow>,
    sections: Vec<(String, String)>,
    keywords: Vec<String>,
    keywords_more: usize,
    odd: Vec<String>,
    unreadable: Option<String>,
    /// What the draft will amend, in words.
    amending: Option<String>,
}

struct RecordRow {
    id: String,
    name: String,
    when: String,
    stored: bool,
    /// The earlier record that it amends, in words.
    amends: Option<String>,
    amended: bool,
}

struct FileRow {
    number: usize,
    name: String,
    size: String,
}

pub(super) async fn episode(State(place): State<Place>, Path(number): Path<usize>) -> Response {
    let app = &place.app;
    let language = app.language();
    let seen = place.doctor.vault.seen();
    let Some(of) = seen.view.episodes.iter().find(|one| one.number == number) else {
        return missing(app);
    };
    let time = now().number();
    let all = &seen.view.records;
    let in_words = |id: TransactionId| {
        let record = all.iter().find(|record| record.transaction == id)?;
        let when = ago(language, record.time, time);
        Some(format!("{} ({when})", record.name))
    };
    let records = all.iter().rev();
    let records = records
        .filter(|record| record.episode == number)
        .map(|record| RecordRow {
            id: hex::encode(record.transaction.as_bytes()),
            name: record.name.clone(),
            when: ago(language, record.time, time),
            stored: record.stored,
            amends: record.amends.and_then(in_words),
            amended: all.iter().any(|one| one.amends == Some(record.transaction)),
        });
    let (files, amends) = {
        let drafts = locked(&place.doctor.drafts);
        drafts.get(&number).map_or((Vec::new(), None), |draft| {
            (draft.files.clone(), draft.amends)
        })
    };
    let title = match language {
        Language::English => format!("Patient {}", of.uid),
        Language::Chinese => format!("患者 {}", of.uid),
    };
    let mut shown = Episode {
        f: Frame::live(app, &title, "episodes"),
        number,
        records: records.collect(),
        files: files.iter().enumerate().map(file_row).collect(),
        sections: Vec::new(),
        keywords: Vec::new(),
        keywords_more: 0,
        odd: Vec::new(),
        unreadable: None,
        amending: amends.and_then(in_words),
    };
    if !files.is_empty() {
        let understood = tokio::task::block_in_place(|| understand(language, &files));
        match understood {
            Ok((sections, keywords, odd)) => {
                shown.sections = sections;
                shown.keywords_more = keywords.len().saturating_sub(KEYWORDS_SHOWN);
                shown.keywords = keywords.into_iter().take(KEYWORDS_SHOWN).collect();
                shown.odd = odd;
            }
            Err(error) => shown.unreadable = Some(client::sentence(&error)),
        }
    }
    page(shown)
}

fn file_row((number, path): (usize, &PathBuf)) -> FileRow {
    let name = path.file_name();
    FileRow {
        number,
        name: name.map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        size: size(std::fs::metadata(path).map_or(0, |found| found.len())),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

type Understood = (Vec<(String, String)>, Vec<String>, Vec<String>);

/// Sections with their sizes, keywords, and what is odd, before anything is sealed.
fn understand(language: Language, files: &[PathBuf]) -> Result<Understood, shelf::ShelfError> {
    let shelved = shelf::from_files(files)?;
    let record = &shelved.record;
    let sections = record.sections();
    let sections = sections.map(|one| (language.class(one.class()).to_owned(), size(one.length())));
    let (keywords, _) = record.keywords();
    let keywords = keywords
        .iter()
        .map(|keyword| keyword.as_str().replace('|', " "));
    let mut odd = Vec::new();
    for file in record.files() {
        let name = file.head().name.as_str();
        odd.extend(
            file.oddities()
                .first()
                .iter()
                .map(|oddity| format!("{name}: {oddity}")),
        );
    }
    Ok((sections.collect(), keywords.collect(), odd))
}

/// Keeps files that were dropped or chosen, also while the keystore is locked: they are sealed later.
pub(super) async fn add(
    State(place): State<Place>,
    Path(number): Path<usize>,
    mut form: Multipart,
) -> Response {
    let app = &place.app;
    let language = app.language();
    let failed = |why: String| {
        let title = language.of("Not every file was taken", "部分文件未能放入");
        message(app, StatusCode::BAD_REQUEST, title, why)
    };
    loop {
        let mut field = match form.next_field().await {
            Ok(Some(field)) => field,
            Ok(None) => break,
            Err(error) => return failed(error.body_text()),
        };
        let Some(name) = field.file_name().and_then(plain_name) else {
            continue;
        };
        let full = locked(&place.doctor.drafts)
            .get(&number)
            .is_some_and(|draft| draft.files.len() >= DRAFT_FILES_MAX);
        if full {
            let why = "a record holds no more files: store these as another record";
            return failed(why.to_owned());
        }
        let folder = place.doctor.shelves.fresh();
        let path = folder.join(name);
        let written = async {
            tokio::fs::create_dir(&folder).await?;
            let mut file = tokio::fs::File::create(&path).await?;
            while let Some(piece) = field.chunk().await.map_err(std::io::Error::other)? {
                file.write_all(&piece).await?;
            }
            file.flush().await
        };
        if let Err(error) = written.await {
            let _ = tokio::fs::remove_dir_all(&folder).await;
            return failed(error.to_string());
        }
        let mut drafts = locked(&place.doctor.drafts);
        drafts.entry(number).or_default().files.push(path);
    }
    app.changed();
    Redirect::to(&app.at(&format!("episodes/{number}"))).into_response()
}

/// The last part of a name that a browser gave, without anything that could lead out of a folder.
fn plain_name(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next()?;
    let kept: String = last.chars().filter(|c| !c.is_control()).take(60).collect();
    let kept = kept.trim_start_matches('.').trim().to_owned();
    (!kept.is_empty()).then_some(kept)
}

/// Says which record the next one of this stay amends, or that it amends none.
pub(super) async fn amend(
    State(place): State<Place>,
    Path(number): Path<usize>,
    Form(fields): Form<Fields>,
) -> Response {
    let amends = transaction(fields.value("record")).ok();
    let mut drafts = locked(&place.doctor.drafts);
    drafts.entry(number).or_default().amends = amends;
    drop(drafts);
    place.app.changed();
    Redirect::to(&place.app.at(&format!("episodes/{number}"))).into_response()
}

/// Takes one file, or all, out of a draft.
pub(super) async fn remove(
    State(place): State<Place>,
    Path(number): Path<usize>,
    Form(fields): Form<Fields>,
) -> Response {
    let mut drafts = locked(&place.doctor.drafts);
    if let Some(draft) = drafts.get_mut(&number)
        && let Ok(at) = fields.value("file").parse::<usize>()
        && at < draft.files.len()
    {
        discard(&draft.files.remove(at));
    }
    drop(drafts);
    place.app.changed();
    Redirect::to(&place.app.at(&format!("episodes/{number}"))).into_response()
}

fn discard(file: &std::path::Path) {
    if let Some(folder) = file.parent() {
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Seals a draft and stores it. The files stay until it is stored.
pub(super) async fn store(State(place): State<Place>, Path(number): Path<usize>) -> Response {
    let title = place
        .app
        .language()
        .of("Storing the record", "正在存储病历");
    let back = format!("episodes/{number}");
    let app = place.app.clone();
    let doctor = place.doctor.clone();
    jobs::start(&place.app, title, &back.clone(), |mut hears| async move {
        let (files, amends) = {
            let drafts = locked(&doctor.drafts);
            drafts.get(&number).map_or((Vec::new(), None), |draft| {
                (draft.files.clone(), draft.amends)
            })
        };
        if files.is_empty() {
            return Err(WorkError::Not(
                "there is no file to store: add one first".to_owned(),
            ));
        }
        let mut held = doctor.vault.desk().await?;
        held.desk()
            .store(number, &files, amends, &mut hears)
            .await?;
        drop(held);
        if let Some(draft) = locked(&doctor.drafts).get_mut(&number) {
            draft.amends = None;
            draft.files.retain(|file| !files.contains(file));
        }
        for file in &files {
            discard(file);
        }
        let said = app.language().of(
            "Sealed on this machine, stored in the cloud, and recorded by the consortium. The patient gets a receipt.",
            "已在本机加密、存入云端并由联盟记录。患者会收到收据。",
        );
        Ok(Done {
            to: back,
            said: Some(said.to_owned()),
        })
    })
}

fn transaction(text: &str) -> Result<TransactionId, WorkError> {
    let mut bytes = [0; 32];
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) => Ok(TransactionId::new(bytes)),
        Err(_) => Err(WorkError::Not("there is no such record".to_owned())),
    }
}

pub(super) async fn open_own(State(place): State<Place>, Path(record): Path<String>) -> Response {
    let title = place
        .app
        .language()
        .of("Opening the record", "正在打开病历");
    let doctor = place.doctor.clone();
    jobs::start(&place.app, title, "episodes", |mut hears| async move {
        let id = transaction(&record)?;
        let folder = doctor.shelves.fresh();
        // Held until the record is entered below, so that locking closes it too.
        let mut held = doctor.vault.desk().await?;
        let opened = held.desk().read_own(id, &folder, &mut hears).await?;
        doctor
            .shelves
            .put(&record, Shelf::new(folder, &opened.files));
        Ok(Done {
            to: format!("own/{record}"),
            said: None,
        })
    })
}

pub(super) async fn own(State(place): State<Place>, Path(record): Path<String>) -> Response {
    let app = &place.app;
    let Some(shelf) = place.doctor.shelves.get(&record) else {
        return missing(app);
    };
    let seen = place.doctor.vault.seen();
    let mut records = seen.view.records.iter();
    let of = records.find(|one| hex::encode(one.transaction.as_bytes()) == record);
    let title = app.language().of("A record that you wrote", "您书写的病历");
    let f = Frame::new(app, title, "episodes");
    let name = of.map_or_else(String::new, |one| one.name.clone());
    let back = of.map_or("episodes".to_owned(), |one| {
        format!("episodes/{}", one.episode)
    });
    let amends = of.and_then(|one| one.amends);
    let amends = amends.map(|id| format!("own/{}", hex::encode(id.as_bytes())));
    let at = format!("own/{record}");
    viewer::record(app, &shelf, f, name, &back, &at, amends)
}

pub(super) async fn own_file(
    State(place): State<Place>,
    Path((record, number)): Path<(String, usize)>,
    Query(query): Query<FrameQuery>,
) -> Response {
    let app = &place.app;
    let at = app.at(&format!("own/{record}"));
    let origin = app.language().of("You wrote it", "您书写").to_owned();
    let around = Around::own(at, number, origin);
    viewer::file(
        app,
        place.doctor.shelves.get(&record).as_deref(),
        around,
        &query,
    )
}

pub(super) async fn own_picture(
    State(place): State<Place>,
    Path((record, number, _)): Path<(String, usize, String)>,
    Query(query): Query<FrameQuery>,
) -> Response {
    viewer::picture(place.doctor.shelves.get(&record).as_deref(), number, &query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_no_name_that_a_browser_gives_leads_out_of_its_folder() {
        let cases = [
            ("ct/slice 1.dcm", Some("slice 1.dcm")),
            ("..\\..\\x", Some("x")),
            ("../..", None),
            (".profile", Some("profile")),
            ("a\u{0}b\n", Some("ab")),
            ("", None),
        ];
        for (given, kept) in cases {
            assert_eq!(plain_name(given).as_deref(), kept, "{given:?}");
        }
    }
}
