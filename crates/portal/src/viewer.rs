//! Opened files as pages show them: FHIR as rows a clinician reads, DICOM as pictures, all else as text or
//! as what it is. Every text of a record is escaped by the templates.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use ledger::TransactionId;
use serde::Deserialize;
use tempfile::TempDir;
use viewing::{
    Clinical, Finding, Kind, Pictures, Reason, Row, StrokeItem, Title, TitleKind, View, Window,
};
use workstation::WorkError;
use workstation::shelf::PutBack;
use zeroize::Zeroizing;

use crate::app::{App, locked};
use crate::frame::{Frame, missing, page};
use crate::words::Language;

/// The largest file that is shown in place; a larger one lies in its folder.
const SHOWN_BYTES_MAX: u64 = 256 << 20;

/// Opened records by their ids, and the folder below which their files lie and those that wait to be sealed:
/// only this user reads it, and it goes with this value.
pub(crate) struct Shelves {
    folder: TempDir,
    /// Numbers the folders below it.
    next: AtomicU64,
    opened: Mutex<BTreeMap<String, Arc<Shelf>>>,
}

impl Shelves {
    pub(crate) fn new() -> Result<Self, WorkError> {
        Ok(Self {
            folder: folder()?,
            next: AtomicU64::new(0),
            opened: Mutex::default(),
        })
    }

    /// A path that nothing has yet.
    pub(crate) fn fresh(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.folder.path().join(number.to_string())
    }

    pub(crate) fn put(&self, record: &str, shelf: Shelf) {
        locked(&self.opened).insert(record.to_owned(), Arc::new(shelf));
    }

    pub(crate) fn get(&self, record: &str) -> Option<Arc<Shelf>> {
        locked(&self.opened).get(record).cloned()
    }

    pub(crate) fn clear(&self) {
        locked(&self.opened).clear();
    }
}

#[derive(Template)]
#[template(path = "opened.html")]
struct OpenedPage {
    f: Frame,
    name: String,
    back: String,
    at: String,
    files: Vec<(usize, String, String)>,
    /// Where the earlier record is that it amends.
    amends: Option<String>,
}

/// A folder for opened records that only this user reads: in memory where the system has such a place.
fn folder() -> Result<TempDir, WorkError> {
    let places = [
        std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
        Some(std::env::temp_dir()),
    ];
    let mut last = None;
    for place in places.into_iter().flatten() {
        match tempfile::Builder::new()
            .prefix("willis-pages-")
            .tempdir_in(&place)
        {
            Ok(folder) => return Ok(folder),
            Err(error) => last = Some(WorkError::File(place, error)),
        }
    }
    Err(last.unwrap_or_else(|| WorkError::Not("there is no folder for opened records".to_owned())))
}

/// The files of an opened record; they go with this value.
pub(crate) struct Shelf {
    folder: PathBuf,
    pub(crate) files: Vec<Shown>,
    /// The earlier record that it amends, if it is known.
    pub(crate) amends: Option<TransactionId>,
}

/// The list of an opened record's files, at `at`; `amends` is the page of the record that it amends.
pub(crate) fn record(
    app: &App,
    shelf: &Shelf,
    f: Frame,
    name: String,
    back: &str,
    at: &str,
    amends: Option<String>,
) -> Response {
    let language = app.language();
    let row = |entry: Entry<'_>| {
        let date = crate::time_words::written(Some(entry.file.date()));
        (entry.number, entry.heading(language), date)
    };
    page(OpenedPage {
        files: shelf.entries().map(row).collect(),
        back: app.at(back),
        at: app.at(at),
        amends: amends.map(|at| app.at(&at)),
        name,
        f,
    })
}

/// One file of an opened record.
pub(crate) struct Shown {
    pub(crate) name: String,
    /// Whether every byte of it was granted.
    pub(crate) whole: bool,
    media_type: String,
    /// None if it is too large to be shown in place.
    bytes: Option<Zeroizing<Vec<u8>>>,
    pub(crate) title: Option<Title>,
    pub(crate) stroke: Vec<Finding>,
    /// Of a picture the number of its series and the series itself, by which pictures stand in one stack, and its
    /// place in it.
    slice: Option<(Option<i64>, Option<String>, Option<i64>)>,
}

/// What a list of a record's files has: a file, or a stack of pictures.
pub(crate) struct Entry<'a> {
    /// The place of its first file.
    pub(crate) number: usize,
    pub(crate) file: &'a Shown,
    /// How many files it is.
    count: usize,
    /// Whether every byte of them was granted.
    pub(crate) whole: bool,
}

impl Entry<'_> {
    pub(crate) fn heading(&self, language: Language) -> String {
        let heading = self.file.heading(language);
        match (self.count, language) {
            (1, _) => heading,
            (count, Language::English) => format!("{heading} ({count} pictures)"),
            (count, Language::Chinese) => format!("{heading}（{count} 幅）"),
        }
    }
}

impl Shelf {
    /// Reads and understands the files of a record that was opened into a folder of its own.
    pub(crate) fn new(folder: PathBuf, files: &[PutBack]) -> Self {
        let mut shown: Vec<Shown> = files.iter().map(Shown::new).collect();
        // Slices stand in their order, whatever their files are called.
        shown.sort_by(|one, other| one.slice.cmp(&other.slice));
        Self {
            files: shown,
            amends: None,
            folder,
        }
    }

    /// Files, and stacks of pictures of one series.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let number = next;
            let file = self.files.get(number)?;
            let stack = self.stack(number);
            next = stack.end;
            Some(Entry {
                number,
                file,
                count: stack.len(),
                whole: self.files[stack].iter().all(|file| file.whole),
            })
        })
    }

    /// The files that stand in one stack with this one: itself, unless it is a picture of a series.
    fn stack(&self, number: usize) -> Range<usize> {
        let series = |place: usize| {
            let (_, series, _) = self.files.get(place)?.slice.as_ref()?;
            series.as_ref()
        };
        let own = series(number);
        let same = |place: &usize| own.is_some() && series(*place) == own;
        let before = (0..number).rev().take_while(same).count();
        let after = (number + 1..self.files.len()).take_while(same).count();
        number - before..number + after + 1
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, "an opened record's folder could not be removed");
        }
    }
}

impl Shown {
    fn new(file: &PutBack) -> Self {
        let small = std::fs::metadata(&file.path).is_ok_and(|found| found.len() <= SHOWN_BYTES_MAX);
        let bytes = small.then(|| std::fs::read(&file.path).ok()).flatten();
        let name = file.path.file_name();
        let mut shown = Self {
            name: name.map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            whole: file.whole,
            media_type: file.media_type.clone(),
            bytes: bytes.map(Zeroizing::new),
            title: None,
            stroke: Vec::new(),
            slice: None,
        };
        let view = shown.view();
        let (title, stroke) = (view.title(), view.findings());
        let slice = match view {
            View::Pictures(of) => Some((of.series_number, of.series_uid, of.instance_number)),
            _ => None,
        };
        (shown.title, shown.stroke, shown.slice) = (title, stroke, slice);
        shown
    }

    fn view(&self) -> View<'_> {
        match &self.bytes {
            Some(bytes) => viewing::view(&self.media_type, bytes),
            None => View::Opaque(Reason::Unreadable),
        }
    }

    fn is_picture(&self) -> bool {
        self.slice.is_some()
    }

    /// What a list calls it.
    pub(crate) fn heading(&self, language: Language) -> String {
        let Some(title) = &self.title else {
            return self.name.clone();
        };
        let kind = match &title.kind {
            TitleKind::Pictures {
                modality,
                body_part,
            } => {
                let parts = [
                    modality.clone(),
                    body_part.as_ref().map(|part| part.to_lowercase()),
                ];
                let parts: Vec<String> = parts.into_iter().flatten().collect();
                if parts.is_empty() {
                    language.of("pictures", "影像").to_owned()
                } else {
                    parts.join(", ")
                }
            }
            TitleKind::Rows { most: Some(kind) } => self::kind(language, kind),
            TitleKind::Text => language.of("text", "文本").to_owned(),
            _ => language.of("document", "文书").to_owned(),
        };
        match &title.text {
            Some(text) => format!("{kind}: {text}"),
            None => kind,
        }
    }

    /// The day or time that the file is of, as it says.
    pub(crate) fn date(&self) -> &str {
        self.title
            .as_ref()
            .and_then(|title| title.date.as_deref())
            .unwrap_or_default()
    }
}

/// A kind of row as people call it.
pub(crate) fn kind(language: Language, kind: &Kind) -> String {
    let text = match kind {
        Kind::Patient => language.of("The patient", "患者"),
        Kind::Problems => language.of("Diagnoses and problems", "诊断与问题"),
        Kind::Allergies => language.of("Allergies", "过敏"),
        Kind::Medicines => language.of("Medicines", "用药"),
        Kind::Procedures => language.of("Procedures", "操作与手术"),
        Kind::Imaging => language.of("Imaging", "影像检查"),
        Kind::Laboratory => language.of("Laboratory", "检验"),
        Kind::VitalSigns => language.of("Vital signs", "生命体征"),
        Kind::Examination => language.of("Examination", "体格检查"),
        Kind::Assessments => language.of("Scores", "评分"),
        Kind::Notes => language.of("Notes", "记录"),
        Kind::Encounters => language.of("Stays and visits", "住院与就诊"),
        Kind::FamilyHistory => language.of("Family history", "家族史"),
        Kind::SocialHistory => language.of("Social history", "个人史"),
        Kind::Immunisations => language.of("Vaccinations", "疫苗接种"),
        Kind::Orders => language.of("Orders", "医嘱"),
        Kind::CarePlans => language.of("Plans", "诊疗计划"),
        Kind::Devices => language.of("Devices", "器械"),
        Kind::Other(resource) => return resource.clone(),
        _ => language.of("Other", "其他"),
    };
    text.to_owned()
}

/// What a finding is about, as people call it.
pub(crate) fn item(language: Language, item: StrokeItem) -> &'static str {
    match item {
        StrokeItem::Onset => language.of("Onset", "发病"),
        StrokeItem::LastKnownWell => language.of("Last known well", "最后正常时间"),
        StrokeItem::Nihss => language.of("NIHSS", "NIHSS 评分"),
        StrokeItem::Mrs => language.of("mRS", "mRS 评分"),
        StrokeItem::Gcs => language.of("GCS", "GCS 评分"),
        StrokeItem::BloodPressure => language.of("Blood pressure", "血压"),
        StrokeItem::SystolicPressure => language.of("Systolic pressure", "收缩压"),
        StrokeItem::DiastolicPressure => language.of("Diastolic pressure", "舒张压"),
        StrokeItem::Glucose => language.of("Glucose", "血糖"),
        StrokeItem::Inr => language.of("INR", "INR"),
        StrokeItem::Anticoagulant => language.of("Anticoagulant", "抗凝药"),
        StrokeItem::CtHead => language.of("CT of the head", "头部 CT"),
        StrokeItem::CtAngiography => language.of("CT angiography", "CT 血管造影"),
        StrokeItem::MrHead => language.of("MR of the head", "头部 MR"),
        StrokeItem::Thrombolysis => language.of("Thrombolysis", "溶栓"),
        StrokeItem::Thrombectomy => language.of("Thrombectomy", "取栓"),
        StrokeItem::Allergy => language.of("Allergy", "过敏"),
        _ => language.of("Other", "其他"),
    }
}

/// Where the pages of a record's files lie, and which of them is shown.
pub(crate) struct Around {
    /// The page that leads here.
    pub(crate) back: String,
    /// Below which the files of the record lie, by their number.
    pub(crate) at: String,
    pub(crate) number: usize,
    /// Who wrote it and when, as the chain says.
    pub(crate) origin: String,
}

impl Around {
    /// Of a record whose list of files lies where the files lie.
    pub(crate) fn own(at: String, number: usize, origin: String) -> Self {
        Self {
            back: at.clone(),
            at,
            number,
            origin,
        }
    }
}

#[derive(Template)]
#[template(path = "file.html")]
struct FilePage<'a> {
    f: Frame,
    around: Around,
    name: &'a str,
    whole: bool,
    before: Option<usize>,
    after: Option<usize>,
    view: Body<'a>,
    /// The files of the stack in which a picture stands, if there are several.
    stack: Option<Range<usize>>,
}

/// What the page holds of a file.
enum Body<'a> {
    Clinical {
        document: Option<String>,
        groups: Vec<(String, Vec<Row>)>,
        left_out: usize,
    },
    Pictures(Box<PicturesShown<'a>>),
    Text(String),
    Nothing(String),
}

struct PicturesShown<'a> {
    pictures: Pictures<'a>,
    frame: usize,
    center: f64,
    width: f64,
    small: bool,
    refused: Option<String>,
}

/// The page of one file.
pub(crate) fn file(
    app: &App,
    shelf: Option<&Shelf>,
    mut around: Around,
    query: &FrameQuery,
) -> Response {
    let language = app.language();
    let Some(shelf) = shelf else {
        return missing(app);
    };
    let stack = shelf.stack(around.number);
    // Chosen where no script runs.
    if let Some(slice) = query.slice.filter(|slice| stack.contains(slice)) {
        around.number = slice;
    }
    let Some(shown) = shelf.files.get(around.number) else {
        return missing(app);
    };
    let view = match shown.view() {
        View::Clinical(clinical) => clinical_body(language, clinical),
        View::Pictures(pictures) => pictures_body(*pictures, query),
        View::Text(text) => Body::Text(text),
        View::Opaque(reason) => Body::Nothing(reason_text(language, shown, &reason)),
    };
    let picture = |place: &usize| shelf.files.get(*place).is_some_and(Shown::is_picture);
    let here = shown.is_picture();
    let number = around.number;
    page(FilePage {
        f: Frame::new(app, &shown.heading(language), ""),
        name: &shown.name,
        whole: shown.whole,
        before: number
            .checked_sub(1)
            .filter(|place| !here || picture(place)),
        after: Some(number + 1)
            .filter(|place| *place < shelf.files.len() && (!here || picture(place))),
        around,
        view,
        stack: (stack.len() > 1).then_some(stack),
    })
}

fn clinical_body<'a>(language: Language, clinical: Clinical) -> Body<'a> {
    let document = clinical.document.and_then(|document| {
        let parts: Vec<String> = [document.title, document.date]
            .into_iter()
            .flatten()
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    });
    let groups = clinical.groups.into_iter();
    Body::Clinical {
        document,
        groups: groups
            .map(|group| (kind(language, &group.kind), group.rows))
            .collect(),
        left_out: clinical.left_out,
    }
}

fn pictures_body<'a>(pictures: Pictures<'a>, query: &FrameQuery) -> Body<'a> {
    let frame = query
        .frame
        .unwrap_or(0)
        .min(pictures.frames.saturating_sub(1));
    let window = query.window().or(pictures.window).unwrap_or(Window {
        center: 128.0,
        width: 256.0,
    });
    let refused = pictures
        .png(frame, Some(window))
        .err()
        .map(|why| why.to_string());
    Body::Pictures(Box::new(PicturesShown {
        frame,
        center: window.center,
        width: window.width,
        small: pictures.columns < 256,
        pictures,
        refused,
    }))
}

fn reason_text(language: Language, shown: &Shown, reason: &Reason) -> String {
    if shown.bytes.is_none() {
        return match language {
            Language::English => {
                "It is too large to be shown in place: open it by `willis doctor read`."
            }
            Language::Chinese => "文件太大，无法在此显示：请用 `willis doctor read` 打开。",
        }
        .to_owned();
    }
    match (reason, language) {
        (Reason::Empty, _) => language.of("The file is empty.", "文件为空。").to_owned(),
        (Reason::NotGranted, _) => language
            .of("Nothing of this file was granted.", "该文件的内容未被授权。")
            .to_owned(),
        (Reason::MediaType(kind), Language::English) => {
            format!("Files of the type {kind} are not shown here; another program may show it.")
        }
        (Reason::MediaType(kind), Language::Chinese) => {
            format!("此处不能显示 {kind} 类型的文件，可用其他程序打开。")
        }
        _ => language
            .of(
                "It cannot be read as what it says it is. It is kept byte for byte as its author stored it.",
                "无法按其声明的格式读取。文件与作者存入时逐字节相同。",
            )
            .to_owned(),
    }
}

/// Which frame, and in which window.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct FrameQuery {
    frame: Option<usize>,
    /// The place of another file of the stack.
    slice: Option<usize>,
    center: Option<f64>,
    width: Option<f64>,
}

impl FrameQuery {
    fn window(&self) -> Option<Window> {
        let (center, width) = (self.center?, self.width?);
        (center.is_finite() && width.is_finite() && width >= 1.0)
            .then_some(Window { center, width })
    }
}

/// One frame as a PNG.
pub(crate) fn picture(shelf: Option<&Shelf>, number: usize, query: &FrameQuery) -> Response {
    let shown = shelf.and_then(|shelf| shelf.files.get(number));
    let Some(shown) = shown else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let View::Pictures(pictures) = shown.view() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let window = query.window().or(pictures.window);
    match pictures.png(query.frame.unwrap_or(0), window) {
        Ok(png) => ([(header::CONTENT_TYPE, "image/png")], png).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
