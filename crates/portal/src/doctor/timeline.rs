//! What was granted: the records that a search finds, by hospital and time, opened in place, with what a
//! stroke team looks for first beside them, the time that is left, and what was not granted.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::response::Response;
use client::now;
use ledger::TransactionId;
use record::{Amends, SectionClass};
use scheme::InstitutionId;
use viewing::Finding;
use workstation::{FoundRecord, WorkError};

use super::asking::{RequestRow, row};
use super::{Place, live};
use crate::app::locked;
use crate::forms::Fields;
use crate::frame::{Frame, missing, page};
use crate::jobs::{self, Done};
use crate::time_words::{duration, moment, written};
use crate::viewer::{self, Around, FrameQuery, Shelf};
use crate::words::Language;

/// A record that a grant opened.
pub(super) struct Opened {
    pub(super) gid: String,
    classes: Vec<SectionClass>,
    /// The earlier record that it amends, as its author sealed it.
    amends: Option<Amends>,
    /// Hospitals whose nodes gave shares that are proved wrong.
    lying: Vec<String>,
    shelf: Arc<Shelf>,
}

#[derive(Template)]
#[template(path = "doctor/timeline.html")]
struct Timeline {
    f: Frame,
    request: RequestRow,
    reason: Option<String>,
    left: Option<Left>,
    away: Option<String>,
    hospitals: Vec<Hospital>,
    findings: Vec<FindingRow>,
    refused: Vec<String>,
    unopened: usize,
    ended: bool,
}

/// The time left, as words and as the part of a circle.
struct Left {
    words: String,
    short: bool,
    /// Length of the arc of a circle of radius 9.
    arc: f64,
}

struct Hospital {
    institution: InstitutionId,
    name: String,
    records: Vec<RecordRow>,
}

struct RecordRow {
    id: String,
    when: String,
    opened: bool,
    files: Vec<FileRow>,
    classes: String,
    missing: String,
    lying: Vec<String>,
    /// What it amends, and by what it was amended, in words, with the place on the page if it is there.
    history: Vec<(String, String)>,
}

struct FileRow {
    number: usize,
    heading: String,
    date: String,
    whole: bool,
}

struct FindingRow {
    item: &'static str,
    value: String,
    when: String,
    status: String,
    source: String,
    to: String,
}

/// The radius that the time's arc is drawn with is 9.
const CIRCUMFERENCE: f64 = 56.55;

pub(super) async fn show(State(place): State<Place>, Path(id): Path<String>) -> Response {
    let (app, doctor) = (&place.app, &place.doctor);
    let language = app.language();
    doctor.close_ended(app);
    let seen = doctor.vault.seen();
    let Some(request) = seen.view.requests.iter().find(|one| one.id == id) else {
        return missing(app);
    };
    let time = now().number();
    let grants: Vec<_> = live(request, time).collect();
    let gids: Vec<&str> = grants.iter().map(|grant| grant.gid.as_str()).collect();
    let found = seen.view.found.get(&id);
    let records = found.map_or(&[][..], |found| &found.records);
    let standing = records
        .iter()
        .filter(|record| gids.contains(&record.gid.as_str()));
    let mut standing: Vec<_> = standing.collect();
    standing.sort_by_key(|record| (record.institution, std::cmp::Reverse(record.time)));
    let (mut hospitals, findings, unopened) = shown(&place, &id, &standing);
    for hospital in &mut hospitals {
        hospital.name = app.network.name_of(hospital.institution).await;
    }
    let refused = found.map_or_else(Vec::new, |found| {
        found.refused.iter().map(|(_, why)| why.clone()).collect()
    });
    let ends = grants.iter().map(|grant| grant.expiry).max();
    page(Timeline {
        f: Frame::live(app, &request.purpose, ""),
        reason: request.reason.clone(),
        left: ends.map(|end| left(language, end, time)),
        away: seen.away.clone(),
        hospitals,
        findings,
        refused,
        unopened,
        ended: grants.is_empty() && !request.grants.is_empty(),
        request: row(language, request),
    })
}

/// The records by hospital, the findings in those that are open, and how many are not.
fn shown(
    place: &Place,
    id: &str,
    records: &[&FoundRecord],
) -> (Vec<Hospital>, Vec<FindingRow>, usize) {
    let language = place.app.language();
    let opened = locked(&place.doctor.opened);
    let (mut hospitals, mut findings, mut unopened) = (Vec::<Hospital>::new(), Vec::new(), 0);
    for record in records {
        let tx = hex::encode(record.transaction.as_bytes());
        let one = opened.get(&(id.to_owned(), tx.clone()));
        unopened += usize::from(one.is_none());
        let at = place.app.at(&format!("requests/{id}/records/{tx}"));
        if let Some(one) = one {
            findings.extend(findings_of(one, &at));
        }
        let mut row = record_row(language, tx, record.time, one);
        row.history = history(language, record, records, |other| {
            let tx = hex::encode(other.transaction.as_bytes());
            opened.get(&(id.to_owned(), tx))?.amends
        });
        match hospitals.last_mut() {
            Some(last) if last.institution == record.institution => last.records.push(row),
            _ => hospitals.push(Hospital {
                institution: record.institution,
                name: String::new(),
                records: vec![row],
            }),
        }
    }
    (hospitals, newest_of(language, &findings), unopened)
}

/// How a record stands to the others that were found: what it amends, and what amends it, as far as they
/// are open. An author is believed only of the own records.
fn history(
    language: Language,
    record: &FoundRecord,
    all: &[&FoundRecord],
    amends: impl Fn(&FoundRecord) -> Option<Amends>,
) -> Vec<(String, String)> {
    let place = |other: &FoundRecord| format!("#r{}", hex::encode(other.transaction.as_bytes()));
    let mut said = Vec::new();
    if let Some(earlier) = amends(record) {
        let mut found = all.iter().filter(|other| other.digest == earlier.digest);
        said.push(match found.next() {
            Some(other) if other.author == earlier.author && other.author == record.author => {
                let when = moment(language, other.time);
                let words = match language {
                    Language::English => format!("Amends the record of {when}"),
                    Language::Chinese => format!("补充 {when} 的病历"),
                };
                (words, place(other))
            }
            Some(_) => {
                let words = language.of(
                    "Says that it amends a record that was signed under another key: take it as a record of its own",
                    "声称补充一份由其他密钥签名的病历：请视为独立的病历",
                );
                (words.to_owned(), String::new())
            }
            None => {
                let words = language.of(
                    "Amends an earlier record that was not granted",
                    "补充一份未获授权的早先病历",
                );
                (words.to_owned(), String::new())
            }
        });
    }
    for other in all {
        let names = |earlier: Amends| earlier.digest == record.digest;
        if other.author == record.author && amends(other).is_some_and(names) {
            let when = moment(language, other.time);
            let words = match language {
                Language::English => format!("Was amended by the record of {when}"),
                Language::Chinese => format!("{when} 的病历对此作了补充"),
            };
            said.push((words, place(other)));
        }
    }
    said
}

/// The newest finding of each kind over all records, each with the file that it stands in.
fn newest_of(language: Language, findings: &[(Finding, String)]) -> Vec<FindingRow> {
    let all = findings.iter().map(|(finding, _)| finding.clone());
    let row = |finding: Finding| {
        let mut places = findings.iter();
        let place = places.find(|(one, _)| *one == finding);
        FindingRow {
            item: viewer::item(language, finding.item),
            when: written(finding.when.as_deref()),
            status: finding.status.clone().unwrap_or_default(),
            source: finding.source.to_string(),
            to: place.map_or_else(String::new, |(_, at)| at.clone()),
            value: finding.value,
        }
    };
    viewing::newest(all).into_iter().map(row).collect()
}

fn left(language: Language, end: u64, time: u64) -> Left {
    let left = end.saturating_sub(time);
    let words = duration(language, left);
    // The arc is full at two hours, the shortest time that patients mostly choose.
    let part = (left as f64 / (2.0 * 60.0 * 60.0 * 1000.0)).min(1.0);
    Left {
        words: match language {
            Language::English => format!("{words} left"),
            Language::Chinese => format!("还剩 {words}"),
        },
        short: left < 15 * 60 * 1000,
        arc: part * CIRCUMFERENCE,
    }
}

fn record_row(language: Language, id: String, time: u64, opened: Option<&Opened>) -> RecordRow {
    let mut row = RecordRow {
        id,
        when: moment(language, time),
        opened: opened.is_some(),
        files: Vec::new(),
        classes: String::new(),
        missing: String::new(),
        lying: Vec::new(),
        history: Vec::new(),
    };
    let Some(opened) = opened else {
        return row;
    };
    let entries = opened.shelf.entries();
    row.files = entries
        .map(|entry| FileRow {
            number: entry.number,
            heading: entry.heading(language),
            date: written(Some(entry.file.date())),
            whole: entry.whole,
        })
        .collect();
    row.classes = language.classes(&opened.classes);
    let missing: Vec<SectionClass> = SectionClass::ALL
        .into_iter()
        .filter(|class| !opened.classes.contains(class))
        .collect();
    row.missing = language.classes(&missing);
    row.lying = opened.lying.clone();
    row
}

/// The findings in a record's files, each with the page of its file.
fn findings_of(opened: &Opened, at: &str) -> Vec<(Finding, String)> {
    let files = opened.shelf.files.iter().enumerate();
    let of = |(number, file): (usize, &viewer::Shown)| {
        let place = format!("{at}/{number}");
        let findings = file.stroke.iter().cloned();
        findings
            .map(move |finding| (finding, place.clone()))
            .collect::<Vec<_>>()
    };
    files.flat_map(of).collect()
}

/// Opens one record, or all that were found and are not open yet.
pub(super) async fn open(
    State(place): State<Place>,
    Path(id): Path<String>,
    Form(fields): Form<Fields>,
) -> Response {
    let title = place.app.language().of("Opening records", "正在打开病历");
    let back = format!("requests/{id}");
    let app = place.app.clone();
    let doctor = place.doctor;
    jobs::start(&app.clone(), title, &back.clone(), |mut hears| async move {
        let seen = doctor.vault.seen();
        let found = seen.view.found.get(&id).cloned().unwrap_or_default();
        let only = fields.value("record").to_owned();
        let mut wanted: Vec<TransactionId> = Vec::new();
        for record in &found.records {
            let tx = hex::encode(record.transaction.as_bytes());
            let known = locked(&doctor.opened).contains_key(&(id.clone(), tx.clone()));
            if !known && (only.is_empty() || only == tx) && !wanted.contains(&record.transaction) {
                wanted.push(record.transaction);
            }
        }
        let (mut failures, mut count) = (Vec::new(), 0);
        for transaction in &wanted {
            let folder = doctor.shelves.fresh();
            // Held until the record is entered below, so that locking closes it too.
            let mut held = doctor.vault.desk().await?;
            let read = held
                .desk()
                .read(&id, Some(*transaction), &folder, &mut hears)
                .await;
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    let _ = std::fs::remove_dir_all(&folder);
                    failures.push(client::sentence(&error));
                    continue;
                }
            };
            for one in read.records {
                let mut lying = Vec::new();
                for institution in &one.lying {
                    lying.push(app.network.name_of(*institution).await);
                }
                let tx = hex::encode(one.transaction.as_bytes());
                let opened = Opened {
                    gid: one.gid,
                    classes: one.classes,
                    amends: one.amends,
                    lying,
                    shelf: Arc::new(Shelf::new(folder.clone(), &one.files)),
                };
                locked(&doctor.opened).insert((id.clone(), tx), opened);
                count += 1;
            }
        }
        if count == 0
            && let Some(why) = failures.first()
        {
            return Err(WorkError::Not(why.clone()));
        }
        let said = (!failures.is_empty()).then(|| failures.join("; "));
        Ok(Done { to: back, said })
    })
}

fn shelf(place: &Place, id: &str, record: &str) -> Option<Arc<Shelf>> {
    place.doctor.close_ended(&place.app);
    let opened = locked(&place.doctor.opened);
    let one = opened.get(&(id.to_owned(), record.to_owned()))?;
    Some(one.shelf.clone())
}

pub(super) async fn file(
    State(place): State<Place>,
    Path((id, record, number)): Path<(String, String, usize)>,
    Query(query): Query<FrameQuery>,
) -> Response {
    let app = &place.app;
    let shelf = shelf(&place, &id, &record);
    let seen = place.doctor.vault.seen();
    let mut found = seen
        .view
        .found
        .get(&id)
        .into_iter()
        .flat_map(|found| &found.records);
    let found = found.find(|one| hex::encode(one.transaction.as_bytes()) == record);
    let origin = match found {
        Some(found) => {
            let name = app.network.name_of(found.institution).await;
            format!("{name}, {}", moment(app.language(), found.time))
        }
        None => String::new(),
    };
    let around = Around {
        back: app.at(&format!("requests/{id}")),
        at: app.at(&format!("requests/{id}/records/{record}")),
        number,
        origin,
    };
    viewer::file(app, shelf.as_deref(), around, &query)
}

pub(super) async fn picture(
    State(place): State<Place>,
    Path((id, record, number, _)): Path<(String, String, usize, String)>,
    Query(query): Query<FrameQuery>,
) -> Response {
    viewer::picture(shelf(&place, &id, &record).as_deref(), number, &query)
}

#[cfg(test)]
mod tests {
    use scheme::{Digest, VerifyingKey};

    use super::*;

    fn record(number: u8, author: u8) -> FoundRecord {
        FoundRecord {
            transaction: TransactionId::new([number; 32]),
            gid: String::new(),
            institution: InstitutionId::new(4),
            time: u64::from(number) * 60_000,
            digest: Digest::new([number; 32]),
            author: VerifyingKey::new([author; 32]),
        }
    }

    /// What records say of each other: the second amends the first, the third claims to, under another key.
    fn of(shown: u8, all: &[&FoundRecord]) -> Vec<(String, String)> {
        let amends = |other: &FoundRecord| {
            let claims = [2, 3].map(|number| TransactionId::new([number; 32]));
            claims.contains(&other.transaction).then_some(Amends {
                digest: Digest::new([1; 32]),
                author: VerifyingKey::new([7; 32]),
            })
        };
        let record = all
            .iter()
            .find(|one| one.digest == Digest::new([shown; 32]));
        history(Language::English, record.unwrap(), all, amends)
    }

    #[test]
    fn attack_nobody_amends_the_record_of_another_author() {
        let (first, second, forged) = (record(1, 7), record(2, 7), record(3, 9));
        let all = [&first, &second, &forged];
        let words = |said: Vec<(String, String)>| -> Vec<String> {
            said.into_iter().map(|(words, _)| words).collect()
        };
        assert_eq!(
            words(of(1, &all)),
            ["Was amended by the record of 1 Jan 1970, 00:02 UTC"]
        );
        let second = of(2, &all);
        assert_eq!(second[0].0, "Amends the record of 1 Jan 1970, 00:01 UTC");
        assert_eq!(second[0].1, format!("#r{}", "01".repeat(32)));
        assert_eq!(second.len(), 1);
        let forged = words(of(3, &all));
        assert!(
            forged[0].starts_with("Says that it amends a record that was signed under another key")
        );
        assert!(
            words(of(2, &all[1..]))[0].starts_with("Amends an earlier record that was not granted")
        );
    }
}
