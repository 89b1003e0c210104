//! DICOMweb (PS3.18): the images of this hospital's own records and of those that grants open now, for
//! archives and viewers: QIDO-RS and WADO-RS. Files go out as they were stored, one behind the other;
//! memory does not grow with a study.
//!
//! Whose an image is says the register, and never the file: a number in a file is one of the hospital that
//! made the image. So patients are asked for by this hospital's numbers, answers of searches say these, and
//! images of different patients are kept apart even if their UIDs are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt as _;

use crate::dicom;
use crate::fhir::{Act, Call, Headers, Pairs, Refused, audit_images, authenticate, essence};
use crate::gateway::{Gateway, now_ms};
use crate::register::{Document, Identifier, ImageFilter, Patient};

/// What an index keeps of each image, by tag: what searches ask for (PS3.18, tables 10.6.3-3 to -5).
pub(crate) const INDEXED: [&str; 30] = [
    "00080005", "00080016", "00080018", "00080020", "00080021", "00080030", "00080050", "00080060",
    "00080090", "00081030", "0008103E", "00081032", "00082218", "00100010", "00100020", "00100030",
    "00100040", "00180015", "00200010", "00200011", "00200013", "0020000D", "0020000E", "00280008",
    "00280010", "00280011", "00280100", "00400244", "00400245", "00400275",
];
const STUDY: &str = "0020000D";
const SERIES: &str = "0020000E";
const INSTANCE: &str = "00080018";
const MODALITY: &str = "00080060";
const INSTANCE_NUMBER: &str = "00200013";
const PATIENT_ID: &str = "00100020";
/// Whose number the one before is: the system of an identifier. No index keeps a file's own.
const ISSUER: &str = "00100021";
/// What begins the systems of identifiers that are willis' own and no numbers of the hospital.
const OWN_SYSTEMS: &str = "urn:willis:";
/// Of those, what is a study's or a series' own.
const OF_STUDY: [&str; 15] = [
    "00080005", "00080020", "00080030", "00080050", "00080090", "00081030", "00081032", "00100010",
    "00100020", "00100021", "00100030", "00100040", "00200010", "0020000D", "00400275",
];
const OF_SERIES: [&str; 8] = [
    "00080021", "00080060", "0008103E", "00180015", "00200011", "0020000E", "00400244", "00400245",
];
/// Keywords of what can be searched by.
const KEYWORDS: [(&str, &str); 17] = [
    ("AccessionNumber", "00080050"),
    ("BodyPartExamined", "00180015"),
    ("InstanceNumber", "00200013"),
    ("IssuerOfPatientID", "00100021"),
    ("Modality", "00080060"),
    ("ModalitiesInStudy", "00080061"),
    ("PatientID", "00100020"),
    ("PatientName", "00100010"),
    ("ReferringPhysicianName", "00080090"),
    ("SOPClassUID", "00080016"),
    ("SOPInstanceUID", "00080018"),
    ("SeriesDescription", "0008103E"),
    ("SeriesInstanceUID", "0020000E"),
    ("SeriesNumber", "00200011"),
    ("StudyDate", "00080020"),
    ("StudyDescription", "00081030"),
    ("StudyInstanceUID", "0020000D"),
];
/// Results of a search unless the asker wants fewer; a study of 2,000 slices fits.
const RESULTS_MAX: usize = 5_000;
/// Bytes that are read from a file at a time.
const PIECE: usize = 64 * 1024;
const JSON: &str = "application/dicom+json";

/// The calls, grouped by what they give.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    let study = "/studies/{study}";
    let series = "/studies/{study}/series/{series}";
    let instance = "/studies/{study}/series/{series}/instances/{instance}";
    let known = Router::new()
        .route("/studies", get(studies))
        .route("/series", get(series_of))
        .route("/instances", get(instances))
        .route(&format!("{study}/series"), get(series_of))
        .route(&format!("{study}/instances"), get(instances))
        .route(&format!("{series}/instances"), get(instances))
        .route(study, get(retrieve))
        .route(series, get(retrieve))
        .route(instance, get(retrieve))
        .route(&format!("{study}/metadata"), get(metadata))
        .route(&format!("{series}/metadata"), get(metadata))
        .route(&format!("{instance}/metadata"), get(metadata))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_here)
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&gateway),
            authenticate,
        ));
    Router::new().nest("/dicom-web", known).with_state(gateway)
}

async fn nothing_here() -> Refused {
    Refused::not_found(
        "DICOMweb resource; studies, series, instances and their metadata are offered",
    )
}

async fn not_here() -> Refused {
    Refused {
        status: StatusCode::METHOD_NOT_ALLOWED,
        code: "not-supported",
        text: "images are searched for and retrieved here, and not stored; publish them by the FHIR facade"
            .to_owned(),
        place: None,
    }
}

/// The levels that a path names.
type Levels = Option<Path<BTreeMap<String, String>>>;

/// An image that may be seen now.
struct Image {
    document: Document,
    attributes: Map<String, Value>,
}

impl Image {
    /// An image with this hospital's number of its patient instead of the one in the file, which is of the
    /// hospital that made it.
    fn new(
        document: Document,
        mut attributes: Map<String, Value>,
        number: Option<&Identifier>,
    ) -> Self {
        attributes.remove(PATIENT_ID);
        attributes.remove(ISSUER);
        let mut put = |tag: &str, text: &str| {
            if !text.is_empty() {
                attributes.insert(tag.to_owned(), json!({ "vr": "LO", "Value": [text] }));
            }
        };
        if let Some(number) = number {
            put(PATIENT_ID, &number.value);
            put(ISSUER, &number.system);
        }
        Self {
            document,
            attributes,
        }
    }

    /// What makes it one image: its patient, study, series and instance.
    fn place(&self) -> [String; 4] {
        let own = [STUDY, SERIES, INSTANCE].map(|tag| self.text(tag).to_owned());
        let [study, series, instance] = own;
        [self.document.patient.clone(), study, series, instance]
    }

    fn text(&self, tag: &str) -> &str {
        self.attributes
            .get(tag)
            .and_then(|one| one["Value"][0].as_str())
            .unwrap_or_default()
    }
}

/// What may be seen now of what a call asks for.
struct Seen {
    /// The patient that the call names, if there is one.
    patient: Option<String>,
    /// In the order of patients, studies, series and numbers.
    images: Vec<Image>,
}

/// The images of a path's levels and of the patient that a search names. `counted` are all images of the
/// studies in which something is found, since studies and series say how many they have.
async fn images(
    call: &Call,
    levels: &BTreeMap<String, String>,
    search: &Search,
    counted: bool,
) -> Result<Seen, Refused> {
    let gateway = &call.gateway;
    let patient = match search.patient()? {
        None => None,
        Some((system, number)) => {
            let found = gateway.register().patients_by(system, number).await?;
            let Some(found) = one_patient(found, number)? else {
                return Ok(Seen {
                    patient: None,
                    images: Vec::new(),
                });
            };
            // Proposals of the patient that are granted now are opened first.
            gateway.look(&found.id).await?;
            Some(found.id)
        }
    };
    let patients = patient.clone().map(|id| BTreeSet::from([id]));
    let at = |level: &str, tag| {
        let named = levels.get(level).map(String::as_str);
        named.or_else(|| search.uid(tag))
    };
    let filter = ImageFilter {
        patients: patients.as_ref(),
        study: at("study", STUDY),
        series: at("series", SERIES),
        instance: at("instance", INSTANCE),
    };
    let now = now_ms();
    let register = gateway.register();
    let mut documents = register.images(&filter, now).await?;
    if counted && (filter.series.is_some() || filter.instance.is_some()) {
        let studies: BTreeSet<String> = documents
            .iter()
            .filter_map(|one| one.dicom.as_ref()?[STUDY]["Value"][0].as_str())
            .map(str::to_owned)
            .collect();
        documents.clear();
        for study in &studies {
            let whole = ImageFilter {
                patients: patients.as_ref(),
                study: Some(study),
                ..ImageFilter::default()
            };
            documents.extend(register.images(&whole, now).await?);
        }
    }
    let mut standing: BTreeMap<String, bool> = BTreeMap::new();
    let mut numbers: BTreeMap<String, Option<Identifier>> = BTreeMap::new();
    let mut images = Vec::new();
    for document in documents {
        let Some(Value::Object(attributes)) = document.dicom.clone() else {
            continue;
        };
        let gid = &document.gid;
        let stands = match standing.get(gid) {
            Some(stands) => *stands,
            None => {
                let stands = gid.is_empty() || gateway.desk().stands(gid, now).await?;
                standing.insert(gid.clone(), stands);
                stands
            }
        };
        if !stands {
            continue;
        }
        let number = match numbers.get(&document.patient) {
            Some(number) => number.clone(),
            None => {
                let found = register.patient(&document.patient).await?;
                let number = found.as_ref().and_then(number_of).cloned();
                numbers.insert(document.patient.clone(), number.clone());
                number
            }
        };
        images.push(Image::new(document, attributes, number.as_ref()));
    }
    only_once(&mut images);
    if levels.contains_key("study") {
        of_one_patient(&images)?;
    }
    Ok(Seen { patient, images })
}

/// The patient whose number of this hospital's was asked for.
///
/// # Errors
/// [`Refused`], 400, if it is the number of several, or only a part of one.
fn one_patient(mut found: Vec<Patient>, number: &str) -> Result<Option<Patient>, Refused> {
    found.retain(|patient| {
        let mut own = patient.identifiers.iter();
        own.any(|one| one.value == number && !one.system.starts_with(OWN_SYSTEMS))
    });
    if found.len() > 1 {
        return Err(Refused::invalid(
            "PatientID is the number of more than one patient here; give IssuerOfPatientID (00100021) as well, the system of the identifier",
        ));
    }
    if found.is_empty() && number.contains(['*', '?']) {
        return Err(Refused::invalid(
            "patients are found by their whole number; give PatientID without * and ?",
        ));
    }
    Ok(found.pop())
}

/// The number by which this hospital knows a patient: the first one that is not willis' own.
fn number_of(patient: &Patient) -> Option<&Identifier> {
    let mut own = patient.identifiers.iter();
    own.find(|one| !one.system.starts_with(OWN_SYSTEMS))
}

/// Of one image of a patient that is there several times the one that is given: the hospital's own, or the
/// one whose grant stands longest. The same UIDs of another patient are another image.
fn only_once(images: &mut Vec<Image>) {
    images.sort_by_cached_key(|one| {
        let longest = u64::MAX - one.document.until;
        (one.place(), !one.document.gid.is_empty(), longest)
    });
    images.dedup_by(|later, first| later.place() == first.place());
    images.sort_by_cached_key(|one| {
        let number = one.attributes.get(INSTANCE_NUMBER);
        let number = number.and_then(|one| one["Value"][0].as_i64());
        let [patient, study, series, instance] = one.place();
        (study, patient, series, number, instance)
    });
}

/// # Errors
/// [`Refused`], 409, if what a path names is of several patients: no call gives one patient's images out
/// as another's.
fn of_one_patient(images: &[Image]) -> Result<(), Refused> {
    let mut pairs = images.windows(2);
    if pairs.all(|two| two[0].document.patient == two[1].document.patient) {
        return Ok(());
    }
    Err(Refused::conflict(
        StatusCode::CONFLICT,
        "images of more than one patient have this study UID here; ask with PatientID as well, or by the FHIR facade",
    ))
}

/// What a search asks for.
struct Search {
    /// Tag and value.
    keys: Vec<(String, String)>,
    limit: usize,
    offset: usize,
}

impl Search {
    fn read(pairs: &[(String, String)]) -> Result<Self, Refused> {
        let mut search = Self {
            keys: Vec::new(),
            limit: RESULTS_MAX,
            offset: 0,
        };
        let number = |name: &str, value: &str| {
            value
                .parse::<usize>()
                .map_err(|_| Refused::invalid(format!("{name} is no number; give one from 0 on")))
        };
        for (name, value) in pairs {
            match name.as_str() {
                "limit" => search.limit = number(name, value)?.min(RESULTS_MAX),
                "offset" => search.offset = number(name, value)?,
                "includefield" | "fuzzymatching" | "accept" => {}
                _ => {
                    let mut known = KEYWORDS.iter();
                    let found = known
                        .find(|(keyword, tag)| keyword == name || tag.eq_ignore_ascii_case(name));
                    let Some((_, tag)) = found else {
                        return Err(Refused::invalid(format!(
                            "{name} is nothing that is searched by here; leave it out"
                        )));
                    };
                    if search.keys.iter().any(|(known, _)| known == tag) {
                        return Err(Refused::invalid(format!(
                            "{name} stands twice; give it once"
                        )));
                    }
                    // An empty key, and a patient of any number, leave nothing out.
                    let leaves_out = *tag != PATIENT_ID || value != "*";
                    if leaves_out && !value.is_empty() {
                        search.keys.push(((*tag).to_owned(), value.clone()));
                    }
                }
            }
        }
        Ok(search)
    }

    /// What says whose images a path means; everything else that stands behind one is about how they are
    /// given out.
    fn of_path(pairs: &[(String, String)]) -> Result<Self, Refused> {
        let about_patient = |name: &str| {
            let mut known = KEYWORDS.iter();
            known.any(|(keyword, tag)| {
                [PATIENT_ID, ISSUER].contains(tag) && (*keyword == name || *tag == name)
            })
        };
        let own = pairs.iter().filter(|(name, _)| about_patient(name));
        Self::read(&own.cloned().collect::<Vec<_>>())
    }

    fn key(&self, tag: &str) -> Option<&str> {
        let mut keys = self.keys.iter();
        keys.find(|(known, _)| known == tag)
            .map(|(_, value)| value.as_str())
    }

    /// The number of a patient that is asked for, and the system whose number it is if that is given.
    ///
    /// # Errors
    /// [`Refused`], 400, for a system without a number.
    fn patient(&self) -> Result<Option<(Option<&str>, &str)>, Refused> {
        let issuer = self.key(ISSUER);
        match self.key(PATIENT_ID) {
            None if issuer.is_some() => Err(Refused::invalid(
                "IssuerOfPatientID says whose number PatientID is; give PatientID as well",
            )),
            number => Ok(number.map(|number| (issuer, number))),
        }
    }

    /// A UID that is asked for, if it is only one.
    fn uid(&self, tag: &str) -> Option<&str> {
        let one = |value: &&str| !value.contains([',', '\\']);
        self.key(tag).filter(one)
    }

    /// Whether a study, a series or an instance is what is searched for. What it does not say itself must be
    /// said by one of its images.
    fn matches(&self, found: &Found<'_>) -> bool {
        let keys = self
            .keys
            .iter()
            .filter(|(tag, _)| tag != PATIENT_ID && tag != ISSUER);
        let (own, deeper): (Vec<_>, Vec<_>) =
            keys.partition(|(tag, _)| found.attributes.contains_key(tag));
        own.iter()
            .all(|(tag, wanted)| has(&found.attributes, tag, wanted))
            && (deeper.is_empty()
                || found.images.iter().any(|image| {
                    let mut keys = deeper.iter();
                    keys.all(|(tag, wanted)| has(&image.attributes, tag, wanted))
                }))
    }

    /// Those of the page that is asked for.
    fn page<'a>(&self, mut found: Vec<Found<'a>>) -> Vec<Found<'a>> {
        found.retain(|one| self.matches(one));
        let rest = found.into_iter().skip(self.offset);
        rest.take(self.limit).collect()
    }
}

/// A study, a series or an instance that is answered, and the images in it.
struct Found<'a> {
    attributes: Map<String, Value>,
    images: Vec<&'a Image>,
}

/// Whether one of an attribute's values is what is searched for.
fn has(attributes: &Map<String, Value>, tag: &str, wanted: &str) -> bool {
    let values = attributes.get(tag).and_then(|one| one["Value"].as_array());
    values.into_iter().flatten().any(|value| {
        let own = match value {
            Value::String(text) => text.clone(),
            Value::Object(name) => name
                .get("Alphabetic")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            other => other.to_string(),
        };
        is_match(tag, &own, wanted)
    })
}

/// Answers a search, with an event for each patient of whom something is answered; if nothing is, for the
/// one that was asked for.
async fn answer(
    call: &Call,
    search: &Search,
    seen: &Seen,
    found: Vec<Found<'_>>,
    asked: &Uri,
) -> Result<Response, Refused> {
    let page = search.page(found);
    let given = page.iter().flat_map(|one| one.images.iter().copied());
    let mut shown = studies_by_patient(given);
    if shown.is_empty()
        && let Some(patient) = &seen.patient
    {
        shown.insert(patient, BTreeSet::new());
    }
    for (patient, studies) in shown {
        audit_images(call, patient, "search", &studies, &text_of(asked)).await?;
    }
    let page: Vec<Value> = page
        .into_iter()
        .map(|one| Value::Object(one.attributes))
        .collect();
    Ok(json_answer(&Value::Array(page)))
}

/// The studies that images are of, for each patient.
fn studies_by_patient<'a>(
    images: impl Iterator<Item = &'a Image>,
) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut by_patient: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for image in images {
        let studies = by_patient.entry(&image.document.patient).or_default();
        studies.insert(image.text(STUDY));
    }
    by_patient
}

/// What was asked, for the event.
fn text_of(asked: &Uri) -> String {
    asked
        .path_and_query()
        .map_or_else(String::new, ToString::to_string)
}

/// Whether a value is what is searched for: a list of UIDs, a range of dates, wild cards (PS3.4, C.2.2.2).
fn is_match(tag: &str, own: &str, wanted: &str) -> bool {
    if [STUDY, SERIES, INSTANCE].contains(&tag) {
        return wanted.split([',', '\\']).any(|one| one == own);
    }
    if tag == "00080020"
        && let Some((from, until)) = wanted.split_once('-')
    {
        return (from.is_empty() || own >= from) && (until.is_empty() || own <= until);
    }
    let (own, wanted) = (own.to_lowercase(), wanted.to_lowercase());
    wild(own.as_bytes(), wanted.as_bytes())
}

/// `*` stands for any characters and `?` for one. Linear in the text for each star.
fn wild(text: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(of) {
            Some(b'*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(sign) if *sign == b'?' || *sign == text[at] => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((sign, from)) = star else {
                    return false;
                };
                star = Some((sign, from + 1));
                at = from + 1;
                of = sign + 1;
            }
        }
    }
    pattern[of..].iter().all(|sign| *sign == b'*')
}

fn json_answer(value: &Value) -> Response {
    let mut response = value.to_string().into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn only(image: &Image, tags: &[&str]) -> Map<String, Value> {
    let own = image.attributes.iter();
    let own = own.filter(|(tag, _)| tags.contains(&tag.as_str()));
    own.map(|(tag, value)| (tag.clone(), value.clone()))
        .collect()
}

fn count(number: usize) -> Value {
    json!({ "vr": "IS", "Value": [number] })
}

fn address(call: &Call, path: &str) -> Value {
    json!({ "vr": "UR", "Value": [format!("{}{path}", call.gateway.dicomweb())] })
}

fn levels_of(levels: Levels) -> BTreeMap<String, String> {
    levels.map(|Path(levels)| levels).unwrap_or_default()
}

/// The images of each study of each patient, in order.
fn by_study(images: &[Image]) -> impl Iterator<Item = Vec<&Image>> {
    let same = |a: &Image, b: &Image| {
        a.document.patient == b.document.patient && a.text(STUDY) == b.text(STUDY)
    };
    images.chunk_by(same).map(|study| study.iter().collect())
}

/// What a study is, of its images.
fn study_of(call: &Call, images: &[&Image]) -> Map<String, Value> {
    let mut study = only(images[0], &OF_STUDY);
    let of = |tag: &str| {
        images
            .iter()
            .map(|image| image.text(tag))
            .collect::<BTreeSet<_>>()
    };
    let modalities: Vec<&str> = of(MODALITY)
        .into_iter()
        .filter(|one| !one.is_empty())
        .collect();
    if !modalities.is_empty() {
        study.insert(
            "00080061".into(),
            json!({ "vr": "CS", "Value": modalities }),
        );
    }
    study.insert(
        "00080056".into(),
        json!({ "vr": "CS", "Value": ["ONLINE"] }),
    );
    study.insert("00201206".into(), count(of(SERIES).len()));
    study.insert("00201208".into(), count(images.len()));
    let path = format!("/studies/{}", images[0].text(STUDY));
    study.insert("00081190".into(), address(call, &path));
    study
}

/// QIDO-RS: studies.
async fn studies(call: Call, asked: Uri, Pairs(pairs): Pairs) -> Result<Response, Refused> {
    call.may(Act::Search, "ImagingStudy")?;
    let search = Search::read(&pairs)?;
    let seen = images(&call, &BTreeMap::new(), &search, true).await?;
    let found = by_study(&seen.images).map(|images| Found {
        attributes: study_of(&call, &images),
        images,
    });
    answer(&call, &search, &seen, found.collect(), &asked).await
}

/// QIDO-RS: series, of all studies or of one.
async fn series_of(
    call: Call,
    levels: Levels,
    asked: Uri,
    Pairs(pairs): Pairs,
) -> Result<Response, Refused> {
    call.may(Act::Search, "ImagingStudy")?;
    let search = Search::read(&pairs)?;
    let seen = images(&call, &levels_of(levels), &search, true).await?;
    let mut found = Vec::new();
    for study in by_study(&seen.images) {
        let of_study = study_of(&call, &study);
        let mut series: BTreeMap<&str, Vec<&Image>> = BTreeMap::new();
        for image in study {
            series.entry(image.text(SERIES)).or_default().push(image);
        }
        for images in series.into_values() {
            let mut one = of_study.clone();
            one.extend(only(images[0], &OF_SERIES));
            one.insert("00201209".into(), count(images.len()));
            let path = format!(
                "/studies/{}/series/{}",
                images[0].text(STUDY),
                images[0].text(SERIES)
            );
            one.insert("00081190".into(), address(&call, &path));
            found.push(Found {
                attributes: one,
                images,
            });
        }
    }
    answer(&call, &search, &seen, found, &asked).await
}

/// QIDO-RS: instances, of all studies, of one, or of a series.
async fn instances(
    call: Call,
    levels: Levels,
    asked: Uri,
    Pairs(pairs): Pairs,
) -> Result<Response, Refused> {
    call.may(Act::Search, "ImagingStudy")?;
    let search = Search::read(&pairs)?;
    let seen = images(&call, &levels_of(levels), &search, false).await?;
    let found = seen.images.iter().map(|image| {
        let mut one = image.attributes.clone();
        one.insert(
            "00080056".into(),
            json!({ "vr": "CS", "Value": ["ONLINE"] }),
        );
        let path = format!(
            "/studies/{}/series/{}/instances/{}",
            image.text(STUDY),
            image.text(SERIES),
            image.text(INSTANCE)
        );
        one.insert("00081190".into(), address(&call, &path));
        Found {
            attributes: one,
            images: vec![image],
        }
    });
    answer(&call, &search, &seen, found.collect(), &asked).await
}

/// The images of a path; 404 if there is none.
async fn wanted(
    call: &Call,
    levels: Levels,
    asked: &Uri,
    pairs: &[(String, String)],
) -> Result<Vec<Image>, Refused> {
    call.may(Act::Read, "ImagingStudy")?;
    let search = Search::of_path(pairs)?;
    let Seen { images, .. } = images(call, &levels_of(levels), &search, false).await?;
    if images.is_empty() {
        return Err(Refused::not_found("study, series or instance"));
    }
    for (patient, studies) in studies_by_patient(images.iter()) {
        audit_images(call, patient, "read", &studies, &text_of(asked)).await?;
    }
    Ok(images)
}

/// WADO-RS: metadata.
async fn metadata(
    call: Call,
    levels: Levels,
    uri: Uri,
    Pairs(pairs): Pairs,
) -> Result<Response, Refused> {
    let images = wanted(&call, levels, &uri, &pairs).await?;
    let mut found = Vec::new();
    for image in images {
        let path = call.gateway.bytes_of(&image.document).await?;
        let read = tokio::task::spawn_blocking(move || dicom::header(&path));
        let header = read
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let header = header.map_err(|error| {
            tracing::error!(%error, "an opened document cannot be read");
            Refused::failed("an image cannot be read on this machine; tell the hospital's IT")
        })?;
        found.extend(header.map(|header| Value::Object(header.attributes)));
    }
    Ok(json_answer(&Value::Array(found)))
}

/// Which transfer syntax is asked for; none if any will do.
fn syntax_asked(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let Some(accept) = accept else {
        return Ok(None);
    };
    let mut asked = None;
    for kind in accept.split(',') {
        let essence = essence(kind).to_ascii_lowercase();
        let parameter = |name: &str| {
            kind.split(';').skip(1).find_map(|one| {
                let (key, value) = one.split_once('=')?;
                (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
            })
        };
        let typed = parameter("type")
            .is_none_or(|kind| matches!(kind.as_str(), "application/dicom" | "*/*"));
        let takes = match essence.as_str() {
            "*/*" | "multipart/*" | "application/dicom" => true,
            "multipart/related" => typed,
            _ => false,
        };
        if takes {
            match parameter("transfer-syntax") {
                None => return Ok(None),
                Some(any) if any == "*" => return Ok(None),
                Some(one) => asked = Some(one),
            }
        }
    }
    asked.map(Some).ok_or_else(|| Refused {
        status: StatusCode::NOT_ACCEPTABLE,
        ..Refused::invalid(
            "images are given as multipart/related; type=\"application/dicom\"; ask for that",
        )
    })
}

/// WADO-RS: the files of a study, a series or an instance, as they were stored.
async fn retrieve(
    call: Call,
    levels: Levels,
    Headers(headers): Headers,
    uri: Uri,
    Pairs(pairs): Pairs,
) -> Result<Response, Refused> {
    let asked = syntax_asked(&headers)?;
    let images = wanted(&call, levels, &uri, &pairs).await?;
    let mut paths = Vec::new();
    for image in &images {
        let own = image
            .document
            .dicom
            .as_ref()
            .and_then(|one| one["00083002"]["Value"][0].as_str());
        if asked.as_deref().is_some_and(|asked| own != Some(asked)) {
            return Err(Refused {
                status: StatusCode::NOT_ACCEPTABLE,
                ..Refused::invalid(
                    "an image is stored in another transfer syntax, and none is changed here; ask with transfer-syntax=*",
                )
            });
        }
        paths.push(call.gateway.bytes_of(&image.document).await?);
    }
    let boundary = call.gateway.fresh_id();
    let kind = format!("multipart/related; type=\"application/dicom\"; boundary={boundary}");
    let mut response = Response::new(multipart(paths, boundary));
    let own = response.headers_mut();
    if let Ok(kind) = HeaderValue::from_str(&kind) {
        own.insert(CONTENT_TYPE, kind);
    }
    own.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Files one behind the other, each a part; one is open at a time.
fn multipart(paths: Vec<PathBuf>, boundary: String) -> Body {
    enum Place {
        Next,
        Within(tokio::fs::File),
        Over,
    }
    let state = (paths.into_iter(), Place::Next, boundary);
    Body::from_stream(futures::stream::try_unfold(
        state,
        |(mut paths, place, boundary)| async move {
            let (piece, place) = match place {
                Place::Over => return Ok(None),
                Place::Next => match paths.next() {
                    None => (Bytes::from(format!("--{boundary}--\r\n")), Place::Over),
                    Some(path) => {
                        let file = tokio::fs::File::open(&path).await?;
                        let length = file.metadata().await?.len();
                        let head = format!(
                            "--{boundary}\r\nContent-Type: application/dicom\r\nContent-Length: {length}\r\n\r\n"
                        );
                        (Bytes::from(head), Place::Within(file))
                    }
                },
                Place::Within(mut file) => {
                    let mut piece = vec![0; PIECE];
                    let read = file.read(&mut piece).await?;
                    piece.truncate(read);
                    match read {
                        0 => (Bytes::from_static(b"\r\n"), Place::Next),
                        _ => (Bytes::from(piece), Place::Within(file)),
                    }
                }
            };
            Ok::<_, std::io::Error>(Some((piece, (paths, place, boundary))))
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_matched_as_the_standard_says() {
        assert!(is_match(STUDY, "1.2.3", "1.2.4,1.2.3"));
        assert!(!is_match(STUDY, "1.2.3", "1.2.*"));
        assert!(is_match("00080020", "20261127", "20261101-20261130"));
        assert!(is_match("00080020", "20261127", "-20261127"));
        assert!(!is_match("00080020", "20261127", "20261128-"));
        assert!(is_match("00100010", "Chen^Mei", "chen*"));
        assert!(is_match("00100010", "Chen^Mei", "ch?n^*i"));
        assert!(!is_match("00100010", "Chen^Mei", "*lin*"));
        assert!(wild(b"", b"**") && !wild(b"a", b"") && wild(b"aaab", b"*ab"));
        // Many stars are not many times as slow.
        assert!(!wild(
            &[b'a'; 10_000],
            &b"*a"
                .repeat(500)
                .into_iter()
                .chain(*b"b")
                .collect::<Vec<_>>()
        ));
    }

    fn document(patient: &str, gid: &str, until: u64, tags: [&str; 3], number: u32) -> Document {
        let [study, series, instance] = tags;
        let uid = |value: &str| json!({ "vr": "UI", "Value": [value] });
        Document {
            id: format!("{patient}.{gid}.{instance}"),
            patient: patient.to_owned(),
            entered: 1,
            record: String::new(),
            file: 0,
            gid: gid.to_owned(),
            consent: String::new(),
            until,
            path: String::new(),
            dicom: Some(json!({
                STUDY: uid(study), SERIES: uid(series), INSTANCE: uid(instance),
                INSTANCE_NUMBER: { "vr": "IS", "Value": [number] },
                MODALITY: { "vr": "CS", "Value": ["CT"] },
                PATIENT_ID: { "vr": "LO", "Value": ["77654033"] },
            })),
            resource: Value::Null,
        }
    }

    fn image(patient: &str, gid: &str, until: u64, tags: [&str; 3], number: u32) -> Image {
        let document = document(patient, gid, until, tags, number);
        let Some(Value::Object(attributes)) = document.dicom.clone() else {
            panic!("no image");
        };
        let known = Identifier {
            system: "urn:oid:2.999.1".into(),
            value: format!("MRN-{patient}"),
        };
        Image::new(document, attributes, Some(&known))
    }

    fn patient(id: &str, identifiers: &[(&str, &str)]) -> Patient {
        let identifiers = identifiers.iter().map(|(system, value)| Identifier {
            system: (*system).to_owned(),
            value: (*value).to_owned(),
        });
        Patient {
            id: id.to_owned(),
            version: 1,
            updated: 1,
            identifiers: identifiers.collect(),
        }
    }

    fn search(pairs: &[(&str, &str)]) -> Result<Search, Refused> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        Search::read(&pairs.collect::<Vec<_>>())
    }

    #[test]
    fn the_same_uids_of_two_patients_stay_two_images() {
        let one = ["1.2", "1.2.1", "1.2.1.1"];
        let other = ["1.2", "1.2.1", "1.2.1.2"];
        let mut images = vec![
            image("b", "", 0, one, 1),
            image("a", "g1", 500, one, 1),
            image("a", "g2", 900, one, 3),
            image("a", "", 0, other, 2),
            image("a", "g2", 900, other, 2),
        ];
        only_once(&mut images);
        let kept: Vec<_> = images
            .iter()
            .map(|one| (one.document.id.as_str(), one.document.gid.as_str()))
            .collect();
        // An own image rather than a granted one, and of granted ones the one that stands longest.
        assert_eq!(
            kept,
            [
                ("a..1.2.1.2", ""),
                ("a.g2.1.2.1.1", "g2"),
                ("b..1.2.1.1", "")
            ]
        );
        let studies: Vec<usize> = by_study(&images).map(|study| study.len()).collect();
        assert_eq!(studies, [2, 1]);
        let refused = of_one_patient(&images).unwrap_err();
        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert!(of_one_patient(&images[..2]).is_ok() && of_one_patient(&[]).is_ok());
    }

    #[test]
    fn a_patient_is_named_by_this_hospitals_number_alone() {
        let one = patient(
            "a",
            &[
                ("urn:willis:uid", "77"),
                ("urn:oid:2.999.1", "12"),
                ("urn:oid:2.999.2", "34"),
            ],
        );
        let other = patient("b", &[("urn:oid:2.999.2", "12")]);
        assert_eq!(number_of(&one).unwrap().value, "12");
        assert_eq!(number_of(&patient("c", &[("urn:willis:uid", "7")])), None);
        let found = one_patient(vec![one.clone()], "12").unwrap().unwrap();
        assert_eq!(found.id, "a");
        assert_eq!(
            one_patient(vec![one.clone()], "77"),
            Ok(None),
            "a UID is none"
        );
        assert_eq!(one_patient(Vec::new(), "9"), Ok(None));
        assert_eq!(
            one_patient(Vec::new(), "1*").unwrap_err().status.as_u16(),
            400
        );
        let several = one_patient(vec![one, other], "12").unwrap_err();
        assert_eq!(several.status.as_u16(), 400);
        assert!(several.text.contains("IssuerOfPatientID"));

        let with_issuer = search(&[("PatientID", "12"), ("00100021", "urn:oid:2.999.1")]).unwrap();
        assert_eq!(
            with_issuer.patient(),
            Ok(Some((Some("urn:oid:2.999.1"), "12")))
        );
        let any = search(&[("PatientID", "*")]).unwrap();
        assert_eq!(any.patient(), Ok(None));
        assert!(
            search(&[("IssuerOfPatientID", "x")])
                .unwrap()
                .patient()
                .is_err()
        );
        assert!(search(&[("PatientID", "1"), ("00100020", "2")]).is_err());
        let pairs = [("accept", "*/*"), ("PatientID", "12"), ("quality", "9")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let of_path = Search::of_path(&pairs).unwrap();
        assert_eq!(of_path.patient(), Ok(Some((None, "12"))));

        // The number in the file is another hospital's, and is not answered.
        let shown = image("a", "", 0, ["1", "2", "3"], 1).attributes;
        assert_eq!(shown[PATIENT_ID]["Value"][0], "MRN-a");
        assert_eq!(shown[ISSUER]["Value"][0], "urn:oid:2.999.1");
        let file = document("a", "", 0, ["1", "2", "3"], 1);
        let Some(Value::Object(attributes)) = file.dicom.clone() else {
            panic!("no image");
        };
        let unnamed = Image::new(file, attributes, None);
        assert!(!unnamed.attributes.contains_key(PATIENT_ID));
    }

    #[test]
    fn only_what_is_searched_for_is_answered_and_audited() {
        let images = [
            image("a", "", 0, ["1.1", "1.1.1", "1.1.1.1"], 1),
            image("a", "", 0, ["1.2", "1.2.1", "1.2.1.1"], 1),
            image("b", "", 0, ["1.3", "1.3.1", "1.3.1.1"], 1),
        ];
        let studies = |pairs: &[(&str, &str)]| {
            let found = by_study(&images).map(|images| Found {
                attributes: only(images[0], &OF_STUDY),
                images,
            });
            search(pairs).unwrap().page(found.collect())
        };
        let page = studies(&[("StudyInstanceUID", "1.2"), ("PatientID", "MRN-a")]);
        let given = page.iter().flat_map(|one| one.images.iter().copied());
        let shown = studies_by_patient(given);
        assert_eq!(shown, BTreeMap::from([("a", BTreeSet::from(["1.2"]))]));
        // What only the images of a study say is looked for in them, all of it in the same one.
        assert_eq!(studies(&[("Modality", "CT")]).len(), 3);
        assert_eq!(studies(&[("SOPInstanceUID", "1.3.1.1,1.1.1.1")]).len(), 2);
        assert!(studies(&[("SOPInstanceUID", "1.3.1.1"), ("Modality", "MR")]).is_empty());
        let second = studies(&[("offset", "1"), ("limit", "1")]);
        assert_eq!(second[0].images[0].text(STUDY), "1.2");

        let one = search(&[("StudyInstanceUID", "1.2"), ("0020000E", "1,2")]).unwrap();
        assert_eq!(one.uid(STUDY), Some("1.2"));
        assert_eq!(one.uid(SERIES), None, "a list is no single UID");
    }

    #[test]
    fn what_is_accepted_is_read() {
        let asked = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            syntax_asked(&headers).map_err(|refused| refused.status.as_u16())
        };
        assert_eq!(syntax_asked(&HeaderMap::new()).unwrap(), None);
        assert_eq!(asked("*/*"), Ok(None));
        assert_eq!(
            asked("multipart/related; type=\"application/dicom\""),
            Ok(None)
        );
        assert_eq!(
            asked("multipart/related; type=\"application/dicom\"; transfer-syntax=*"),
            Ok(None)
        );
        let jpeg =
            "multipart/related; type=\"application/dicom\"; transfer-syntax=1.2.840.10008.1.2.4.50";
        assert_eq!(asked(jpeg), Ok(Some("1.2.840.10008.1.2.4.50".to_owned())));
        assert_eq!(asked("image/jpeg"), Err(406));
        assert_eq!(asked("multipart/related; type=\"image/jp2\""), Err(406));
    }
}
