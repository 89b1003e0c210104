//! Studies of an Orthanc: its changes are read from where the last reading ended, and each study that
//! has become stable is fetched, file by file and never whole in memory, into a draft of the queue.
//!
//! Two things are durable. The *cursor* says which changes were read, together with the studies that
//! they named and that are not yet accepted; it is written before the next page is read. A *draft* holds
//! the files of a study that were fetched; whoever comes again after a stop goes on behind them. A study
//! leaves the cursor when its delivery is accepted, so it is in one of the two at any moment, and the
//! [`DeliveryKey`] (study, time of its last update, part) makes what is fetched twice happen once.
//!
//! An Orthanc says that a study is stable when nothing has been added to it for `StableAge` seconds, and
//! it forgets to say so if it is restarted within them. Therefore what is new is followed as well, study,
//! series and instance: each names a study that is then asked whether it is stable.
//!
//! A study of more than 4,096 files is several deliveries, since a record has no more.
//!
//! This file alone names the HTTP client beside the crate of clients.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use record::{FILE_BYTES_MAX, FILES_MAX, FileName, MediaType, RECORD_BYTES_MAX};
use reqwest::{Certificate, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::delivery::{DeliveryKey, NewDelivery, PatientNumber, Source};
use super::files;
use super::queue::{Accepted, Draft, DraftFile, NotAccepted, Queue};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may pause between two pieces: an Orthanc reads from disks that may be asleep.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest answer that is a document: 65,536 instances of about 1 KiB each.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Changes of one page. Its answer has about 20 KiB.
const PAGE_CHANGES: usize = 100;
/// Pages of one poll: 10,000 changes, after which stable studies are fetched before more is read.
const PAGES_MAX: usize = 100;
/// Studies that were named by changes and are not yet accepted. While there are more, no further change
/// is read. An id takes 47 bytes in the cursor: 188 KiB.
const STUDIES_MAX: usize = 4_096;
/// The longest cursor, and as much again.
const CURSOR_BYTES_MAX: u64 = 2 * 47 * STUDIES_MAX as u64 + 4_096;
/// The longest pause after an Orthanc did not answer; it doubles from `poll_seconds` on.
const AWAY_MAX: Duration = Duration::from_secs(300);
/// Seconds between two polls by default.
const POLL_SECONDS: u64 = 10;
/// What [`POLL_SECONDS`] may be configured to.
const POLL_RANGE: std::ops::RangeInclusive<u64> = 1..=3_600;
/// The longest file with a password or an authority's certificates.
const SMALL_FILE_BYTES_MAX: u64 = 1 << 20;

/// `[orthanc]` of a gateway's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrthancConfig {
    /// Its base address, such as `https://pacs.example:8042`. Plain HTTP is spoken to loopback addresses
    /// only.
    pub address: String,
    /// The user that it knows the gateway by; none if it asks for none.
    #[serde(default)]
    pub user: Option<String>,
    /// A file with that user's password; a line end after it is no part of it.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// A file with the certificates, in PEM, by which its own is judged: needed with https.
    #[serde(default)]
    pub authority_file: Option<PathBuf>,
    /// Seconds between two polls, 1 to 3,600. 10 by default.
    #[serde(default = "default_poll_seconds")]
    pub poll_seconds: u64,
    /// Who gives the patient numbers of its studies, as FHIR names an identifier's system; none by
    /// default.
    #[serde(default)]
    pub patient_system: Option<String>,
    /// Whether studies are taken that it had before the gateway first asked. Not by default.
    #[serde(default)]
    pub earlier_studies: bool,
}

fn default_poll_seconds() -> u64 {
    POLL_SECONDS
}

impl OrthancConfig {
    /// With what is taken by default.
    pub fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            user: None,
            password_file: None,
            authority_file: None,
            poll_seconds: default_poll_seconds(),
            patient_system: None,
            earlier_studies: false,
        }
    }
}

/// Why an Orthanc is not asked, or what it gave is not taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OrthancError {
    /// The address is none.
    #[error(
        "the address of Orthanc is not of the form https://host:port; write it so in orthanc.address"
    )]
    Address,
    /// Patients' pictures would travel unencrypted.
    #[error(
        "the address of Orthanc is not encrypted: https and orthanc.authority_file are needed anywhere but on a loopback address"
    )]
    Unencrypted,
    /// A number is out of its range.
    #[error("orthanc.poll_seconds is out of its range: give 1 to 3,600")]
    Poll,
    /// A file that the configuration names cannot be read.
    #[error("{0} cannot be read: {1}; check the path and its permissions")]
    File(PathBuf, #[source] io::Error),
    /// The authority's certificates cannot be used.
    #[error("{0} holds no usable certificate: it must be PEM")]
    Authority(PathBuf),
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    /// It does not answer, or broke off. Passing.
    #[error(
        "Orthanc does not answer: see whether it runs and whether the network lets the gateway reach it"
    )]
    Away(#[source] reqwest::Error),
    /// It does not know the gateway's user.
    #[error("Orthanc refuses the gateway's user: check orthanc.user and orthanc.password_file")]
    Unauthorised,
    /// It answers with an error.
    #[error("Orthanc answers with status {0}: look at its log")]
    Refused(StatusCode),
    /// Its answer is not what it documents.
    #[error(
        "Orthanc's answer cannot be read: check that the address is an Orthanc's, version 1.10 or later"
    )]
    Answer,
    /// A file is longer or shorter than it said, or than a record takes.
    #[error(
        "Orthanc gave a file of another length than it said, or of more than 256 GiB: it is asked again"
    )]
    Length,
    /// The gateway's disk failed.
    #[error("what Orthanc gave cannot be kept: {0}; check the disk")]
    Disk(#[from] io::Error),
}

/// What one poll did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Polled {
    /// Deliveries that were accepted.
    pub accepted: usize,
    /// Deliveries that had been accepted before.
    pub repeated: usize,
    /// Studies that are not stable yet, or for which the queue has no room.
    pub waiting: usize,
    /// Of these, studies that are larger than the queue's bounds: they wait until those are raised.
    pub too_large: usize,
    /// Whether there are more changes to be read at once.
    pub more: bool,
}

/// Reads one Orthanc.
pub struct Orthanc {
    config: OrthancConfig,
    base: Url,
    password: Option<Zeroizing<String>>,
    http: reqwest::Client,
    queue: Queue,
    cursor: Option<Cursor>,
}

/// Which changes were read, and what of them is not yet accepted.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    /// Of which Orthanc.
    address: String,
    /// The last change that was read.
    since: u64,
    studies: BTreeSet<ResourceId>,
}

/// How an Orthanc names a resource: five groups of eight hexadecimal digits, from a hash of its UIDs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct ResourceId(String);

impl TryFrom<String> for ResourceId {
    type Error = &'static str;

    /// It becomes part of addresses and of files' names, so that nothing else is taken.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let groups: Vec<&str> = text.split('-').collect();
        let is_group = |group: &&str| {
            group.len() == 8
                && group
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        match groups.len() == 5 && groups.iter().all(is_group) {
            true => Ok(Self(text)),
            false => Err("no id of an Orthanc's"),
        }
    }
}

impl From<ResourceId> for String {
    fn from(id: ResourceId) -> Self {
        id.0
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Changes {
    changes: Vec<Change>,
    done: bool,
    last: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    change_type: String,
    #[serde(rename = "ID")]
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Study {
    #[serde(rename = "ID")]
    id: ResourceId,
    #[serde(default)]
    is_stable: Option<bool>,
    #[serde(default)]
    last_update: String,
    #[serde(default)]
    main_dicom_tags: StudyTags,
    #[serde(default)]
    patient_main_dicom_tags: PatientTags,
}

#[derive(Deserialize, Default)]
struct StudyTags {
    #[serde(rename = "StudyInstanceUID", default)]
    uid: Option<String>,
}

#[derive(Deserialize, Default)]
struct PatientTags {
    #[serde(rename = "PatientID", default)]
    number: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    #[serde(rename = "ID")]
    id: ResourceId,
    file_size: u64,
    #[serde(default)]
    index_in_series: Option<i64>,
    parent_series: ResourceId,
    #[serde(default)]
    main_dicom_tags: InstanceTags,
}

#[derive(Deserialize, Default)]
struct InstanceTags {
    #[serde(rename = "SOPInstanceUID", default)]
    uid: Option<String>,
}

/// How a study ended.
enum Ended {
    Accepted(usize, usize),
    /// It is not stable, was changed meanwhile, or finds no room.
    Waits,
    /// It finds no room in an empty queue.
    TooLarge,
    /// It was removed.
    Gone,
}

impl Orthanc {
    /// Reads this Orthanc into this queue, from where an earlier process ended.
    ///
    /// # Errors
    /// [`OrthancError`] of the configuration.
    pub fn new(config: OrthancConfig, queue: Queue) -> Result<Self, OrthancError> {
        if !POLL_RANGE.contains(&config.poll_seconds) {
            return Err(OrthancError::Poll);
        }
        let base = Url::parse(&config.address).map_err(|_| OrthancError::Address)?;
        if base.path() != "/" || base.query().is_some() || base.fragment().is_some() {
            return Err(OrthancError::Address);
        }
        let authorities = match (base.scheme(), &config.authority_file) {
            ("http", _) if is_loopback(&base) => Vec::new(),
            ("http", _) | ("https", None) => return Err(OrthancError::Unencrypted),
            ("https", Some(path)) => {
                let pem = small_file(path)?;
                let authorities = Certificate::from_pem_bundle(&pem);
                match authorities {
                    Ok(authorities) if !authorities.is_empty() => authorities,
                    Ok(_) | Err(_) => return Err(OrthancError::Authority(path.clone())),
                }
            }
            _ => return Err(OrthancError::Address),
        };
        let password = match &config.password_file {
            None => None,
            Some(path) => {
                let bytes = Zeroizing::new(small_file(path)?);
                let text = str::from_utf8(&bytes).map_err(|_| {
                    OrthancError::File(path.clone(), io::ErrorKind::InvalidData.into())
                })?;
                Some(Zeroizing::new(
                    text.trim_end_matches(['\r', '\n']).to_owned(),
                ))
            }
        };
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_certs_only(authorities)
            .build()
            .map_err(OrthancError::Client)?;
        Ok(Self {
            config,
            base,
            password,
            http,
            queue,
            cursor: None,
        })
    }

    /// Polls until `stop` completes. What is being fetched then is fetched on by the next process.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let usual = Duration::from_secs(self.config.poll_seconds);
        let mut pause = usual;
        let mut said_too_large = 0;
        loop {
            let polled = tokio::select! {
                () = &mut stop => return,
                polled = self.poll() => polled,
            };
            match polled {
                Ok(polled) => {
                    let Polled {
                        accepted,
                        repeated,
                        waiting,
                        too_large,
                        more,
                    } = polled;
                    if too_large > said_too_large {
                        tracing::error!(
                            too_large,
                            "studies are larger than the queue: raise its bounds; they wait in Orthanc"
                        );
                    }
                    said_too_large = too_large;
                    if accepted + repeated > 0 {
                        tracing::info!(accepted, repeated, waiting, "Orthanc's studies were taken");
                    }
                    pause = if more { Duration::ZERO } else { usual };
                }
                Err(error) => {
                    let why = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, why, "Orthanc is asked again later");
                    pause = pause.max(usual).saturating_mul(2).min(AWAY_MAX.max(usual));
                }
            }
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Reads what changed, and takes the studies that are stable. It may be broken off at any moment.
    ///
    /// # Errors
    /// [`OrthancError`]; what was accepted until then is accepted, and the rest is found again.
    pub async fn poll(&mut self) -> Result<Polled, OrthancError> {
        let mut cursor = match self.cursor.take() {
            Some(cursor) => cursor,
            None => self.begin().await?,
        };
        let mut polled = Polled::default();
        let read = self.read_changes(&mut cursor).await;
        let taken = match read {
            Ok(more) => {
                polled.more = more;
                self.take_studies(&mut cursor, &mut polled).await
            }
            // Its counting is looked at again before it goes on: it may come back as another one.
            Err(error) => return Err(error),
        };
        polled.waiting = cursor.studies.len();
        taken?;
        self.cursor = Some(cursor);
        Ok(polled)
    }

    /// Where an earlier process ended, or the present end.
    async fn begin(&self) -> Result<Cursor, OrthancError> {
        let last: Changes = self
            .document("/changes?last")
            .await?
            .ok_or(OrthancError::Answer)?;
        let kept = self.queue.place_of_source(Source::Orthanc);
        let kept = self
            .queue
            .blocking(move |_| files::read(&kept, CURSOR_BYTES_MAX))
            .await?;
        let kept: Option<Cursor> = match kept {
            Some(text) => serde_json::from_slice(&text).map_err(|error| {
                let error = io::Error::from(error);
                OrthancError::File(self.queue.place_of_source(Source::Orthanc), error)
            })?,
            None => None,
        };
        let mut cursor = match kept {
            Some(kept) if kept.address == self.config.address => kept,
            _ => Cursor {
                address: self.config.address.clone(),
                since: if self.config.earlier_studies {
                    0
                } else {
                    last.last
                },
                studies: BTreeSet::new(),
            },
        };
        if cursor.since > last.last {
            // Another database counts from its own begin; what is known is not taken twice.
            tracing::warn!("Orthanc counts its changes anew: they are read from the first on");
            cursor.since = 0;
        }
        self.keep(&cursor).await?;
        Ok(cursor)
    }

    /// Reads pages until there are no more, and keeps which studies they name. True if there are more.
    async fn read_changes(&self, cursor: &mut Cursor) -> Result<bool, OrthancError> {
        for _ in 0..PAGES_MAX {
            if cursor.studies.len() >= STUDIES_MAX {
                return Ok(false);
            }
            let target = format!("/changes?since={}&limit={PAGE_CHANGES}", cursor.since);
            let page: Changes = self.document(&target).await?.ok_or(OrthancError::Answer)?;
            let mut studies = BTreeSet::new();
            for change in page.changes {
                let target = match change.change_type.as_str() {
                    "NewStudy" | "StableStudy" => None,
                    "NewSeries" => Some("series"),
                    "NewInstance" => Some("instances"),
                    _ => continue,
                };
                let Ok(id) = ResourceId::try_from(change.id) else {
                    return Err(OrthancError::Answer);
                };
                match target {
                    None => studies.insert(id),
                    Some(level) => {
                        let target = format!("/{level}/{}/study", String::from(id));
                        let study: Option<Study> = self.document(&target).await?;
                        // One that was removed again belongs to no study.
                        study.is_some_and(|study| studies.insert(study.id))
                    }
                };
            }
            let moved = page.last > cursor.since;
            cursor.since = cursor.since.max(page.last);
            cursor.studies.extend(studies);
            if moved {
                self.keep(cursor).await?;
            }
            if page.done || !moved {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes what is stable. One study that fails does not keep the others from being taken.
    async fn take_studies(
        &self,
        cursor: &mut Cursor,
        polled: &mut Polled,
    ) -> Result<(), OrthancError> {
        let mut failed = None;
        for id in cursor.studies.clone() {
            let gone = match self.take_study(&id).await {
                Ok(Ended::Accepted(accepted, repeated)) => {
                    polled.accepted += accepted;
                    polled.repeated += repeated;
                    true
                }
                Ok(Ended::Gone) => true,
                Ok(Ended::Waits) => false,
                Ok(Ended::TooLarge) => {
                    polled.too_large += 1;
                    false
                }
                Err(error @ (OrthancError::Away(_) | OrthancError::Disk(_))) => return Err(error),
                Err(error) => {
                    failed = Some(error);
                    false
                }
            };
            if gone {
                cursor.studies.remove(&id);
                self.keep(cursor).await?;
            }
        }
        if cursor.studies.is_empty() {
            // What was fetched of states of studies that have passed.
            self.queue
                .blocking(|queue| {
                    for name in queue.drafts(Source::Orthanc)? {
                        queue.draft(Source::Orthanc, &name)?.remove()?;
                    }
                    Ok::<_, io::Error>(())
                })
                .await?;
        }
        failed.map_or(Ok(()), Err)
    }

    async fn take_study(&self, id: &ResourceId) -> Result<Ended, OrthancError> {
        let target = format!("/studies/{}", id.0);
        let Some(study) = self.document::<Study>(&target).await? else {
            return Ok(Ended::Gone);
        };
        if study.is_stable == Some(false) {
            return Ok(Ended::Waits);
        }
        let instances: Option<Vec<Instance>> =
            self.document(&format!("{target}/instances")).await?;
        let Some(mut instances) = instances.filter(|instances| !instances.is_empty()) else {
            return Ok(Ended::Waits);
        };
        instances.sort_by(|a, b| {
            let place = |instance: &Instance| {
                let index = instance.index_in_series.unwrap_or(i64::MAX);
                (instance.parent_series.clone(), index, instance.id.clone())
            };
            place(a).cmp(&place(b))
        });
        let parts = parts(&instances);
        let (mut accepted, mut repeated) = (0, 0);
        for (number, part) in parts.iter().enumerate() {
            match self.take_part(&study, part, number, parts.len()).await? {
                Err(ended) => return Ok(ended),
                Ok(Accepted::New(_)) => accepted += 1,
                Ok(Accepted::Repeated(_)) => repeated += 1,
            }
        }
        Ok(Ended::Accepted(accepted, repeated))
    }

    /// Fetches the files of a part that are not here yet, and has it accepted, or says how the
    /// study ends instead.
    async fn take_part(
        &self,
        study: &Study,
        part: &[Instance],
        number: usize,
        count: usize,
    ) -> Result<Result<Accepted, Ended>, OrthancError> {
        let counted = format!("{} of {count}", number + 1);
        let state = [
            study.id.0.as_bytes(),
            study.last_update.as_bytes(),
            counted.as_bytes(),
        ];
        let key = DeliveryKey::of(Source::Orthanc, &state);
        if let Some(id) = self.queue.known(&key) {
            return Ok(Ok(Accepted::Repeated(id)));
        }
        let lengths = part.iter().map(|instance| instance.file_size);
        let bytes = lengths.fold(0, u64::saturating_add);
        match self.queue.room(bytes) {
            Ok(()) => {}
            Err(error) if error.is_passing() => return Ok(Err(Ended::Waits)),
            Err(_) => return Ok(Err(Ended::TooLarge)),
        }
        let name = key.to_string();
        let draft = self
            .queue
            .blocking(move |queue| queue.draft(Source::Orthanc, &name))
            .await?;
        let mut described = Vec::with_capacity(part.len());
        for instance in part {
            if !self.fetch(&draft, instance).await? {
                return Ok(Err(Ended::Waits));
            }
            let uid = instance.main_dicom_tags.uid.as_deref().map(str::trim);
            let uid = uid.filter(|uid| !uid.is_empty()).unwrap_or(&instance.id.0);
            described.push(DraftFile {
                stored: PathBuf::from(&instance.id.0),
                name: FileName::nearest(&format!("{uid}.dcm")),
                media_type: MediaType::new("application/dicom").ok(),
            });
        }
        let now: Option<Study> = self.document(&format!("/studies/{}", study.id.0)).await?;
        let same = now.is_some_and(|now| now.last_update == study.last_update);
        if !same {
            // Something was added meanwhile: it is taken when it is stable again.
            return Ok(Err(Ended::Waits));
        }
        let patient = study
            .patient_main_dicom_tags
            .number
            .as_deref()
            .unwrap_or_default();
        let patient = PatientNumber::new(self.config.patient_system.as_deref(), patient);
        let uid = study
            .main_dicom_tags
            .uid
            .as_deref()
            .unwrap_or_default()
            .trim();
        let new = NewDelivery {
            source: Source::Orthanc,
            key,
            reference: match count {
                1 => uid.to_owned(),
                _ => format!("{uid}, part {counted}"),
            },
            // A study without a number is for the destination to judge, and for a person.
            patient: patient.into_iter().collect(),
        };
        let accepted = self
            .queue
            .blocking(move |_| draft.accept(&new, described))
            .await;
        match accepted {
            Ok(accepted) => Ok(Ok(accepted)),
            Err(NotAccepted::Disk(error)) => Err(OrthancError::Disk(error)),
            Err(error) => {
                tracing::warn!(%error, "a study waits in Orthanc");
                Ok(Err(Ended::Waits))
            }
        }
    }

    /// Fetches a file unless it is here; false if Orthanc no longer has it.
    async fn fetch(&self, draft: &Draft, instance: &Instance) -> Result<bool, OrthancError> {
        let path = draft.folder().join(&instance.id.0);
        let length = fs::symlink_metadata(&path).map(|found| found.len());
        if length.is_ok_and(|length| length == instance.file_size) {
            return Ok(true);
        }
        if instance.file_size > FILE_BYTES_MAX {
            return Err(OrthancError::Length);
        }
        let target = format!("/instances/{}/file", instance.id.0);
        let Some(response) = self.answer(&target).await? else {
            return Ok(false);
        };
        let half = path.with_extension("part");
        let file = {
            let half = half.clone();
            self.queue.blocking(move |_| files::own_file(&half)).await?
        };
        let mut file = tokio::fs::File::from_std(file);
        let mut pieces = response.bytes_stream();
        let mut length: u64 = 0;
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(away)?;
            length = length.saturating_add(piece.len() as u64);
            if length > instance.file_size {
                return Err(OrthancError::Length);
            }
            file.write_all(&piece).await?;
        }
        if length != instance.file_size {
            return Err(OrthancError::Length);
        }
        file.flush().await?;
        file.sync_all().await?;
        tokio::fs::rename(&half, &path).await?;
        Ok(true)
    }

    async fn keep(&self, cursor: &Cursor) -> Result<(), OrthancError> {
        let path = self.queue.place_of_source(Source::Orthanc);
        let text = serde_json::to_vec(cursor).map_err(io::Error::from)?;
        let kept = self.queue.blocking(move |_| files::replace(&path, &text));
        Ok(kept.await?)
    }

    /// Reads a document; `None` if there is none.
    async fn document<T: DeserializeOwned>(&self, target: &str) -> Result<Option<T>, OrthancError> {
        let Some(response) = self.answer(target).await? else {
            return Ok(None);
        };
        let mut pieces = response.bytes_stream();
        let mut text = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(away)?;
            if text.len() + piece.len() > DOCUMENT_BYTES_MAX {
                return Err(OrthancError::Answer);
            }
            text.extend_from_slice(&piece);
        }
        let document = serde_json::from_slice(&text).map_err(|_| OrthancError::Answer)?;
        Ok(Some(document))
    }

    async fn answer(&self, target: &str) -> Result<Option<Response>, OrthancError> {
        let base = self.base.as_str().trim_end_matches('/');
        let mut request = self.http.get(format!("{base}{target}"));
        if let Some(user) = &self.config.user {
            request = request.basic_auth(user, self.password.as_ref().map(|text| text.as_str()));
        }
        let response = request.send().await.map_err(away)?;
        match response.status() {
            status if status.is_success() => Ok(Some(response)),
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(OrthancError::Unauthorised),
            status => Err(OrthancError::Refused(status)),
        }
    }
}

/// A study's instances in parts of which each fits into one record.
fn parts(instances: &[Instance]) -> Vec<&[Instance]> {
    let mut parts = Vec::new();
    let mut rest = instances;
    while !rest.is_empty() {
        let mut bytes: u64 = 0;
        let fits = rest.iter().take(FILES_MAX).take_while(|instance| {
            bytes = bytes.saturating_add(instance.file_size);
            bytes <= RECORD_BYTES_MAX
        });
        // One that fits nowhere is refused when it is fetched.
        let (part, others) = rest.split_at(fits.count().max(1));
        parts.push(part);
        rest = others;
    }
    parts
}

/// The addresses of what is asked name studies: they are left out of what is shown.
fn away(error: reqwest::Error) -> OrthancError {
    OrthancError::Away(error.without_url())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        _ => false,
    }
}

fn small_file(path: &Path) -> Result<Vec<u8>, OrthancError> {
    let read = files::read(path, SMALL_FILE_BYTES_MAX);
    let read = read.and_then(|bytes| bytes.ok_or_else(|| io::ErrorKind::NotFound.into()));
    read.map_err(|error| OrthancError::File(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_study_that_is_larger_than_a_record_is_several() {
        let instances = |count: usize, file_size: u64| {
            let id = ResourceId("0".repeat(8));
            let instances = (0..count).map(|_| Instance {
                id: id.clone(),
                file_size,
                index_in_series: None,
                parent_series: id.clone(),
                main_dicom_tags: InstanceTags::default(),
            });
            instances.collect::<Vec<_>>()
        };
        let lengths = |count, file_size| {
            let instances = instances(count, file_size);
            parts(&instances)
                .iter()
                .map(|part| part.len())
                .collect::<Vec<_>>()
        };
        assert_eq!(lengths(1, 0), [1]);
        assert_eq!(lengths(FILES_MAX, 1), [FILES_MAX]);
        assert_eq!(lengths(2 * FILES_MAX + 4, 1), [FILES_MAX, FILES_MAX, 4]);
        assert_eq!(lengths(5, RECORD_BYTES_MAX / 2), [2, 2, 1]);
        assert_eq!(lengths(2, RECORD_BYTES_MAX + 1), [1, 1]);
    }

    #[test]
    fn only_what_cannot_lead_elsewhere_is_an_id() {
        let good = "164c5b0f-18a87868-3b490dc9-ad6a2b38-62859e81";
        assert!(ResourceId::try_from(good.to_owned()).is_ok());
        let upper = good.to_uppercase();
        for wrong in [
            "",
            "..",
            &good[1..],
            &upper,
            "164c5b0f/18a87868-3b490dc9-ad6a2b38-62859e81",
        ] {
            assert!(ResourceId::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
