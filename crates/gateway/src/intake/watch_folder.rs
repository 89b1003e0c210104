//! A folder that is watched, for what can only export files:
//!
//! ```text
//! inbox/PATIENT NUMBER/report.pdf      a file: one delivery
//! inbox/PATIENT NUMBER/stay-2026-11/   a folder with its files: one delivery
//! rejected/PATIENT NUMBER/...          what cannot be taken, each with NAME.reason.txt
//! ```
//!
//! Nothing is taken half-written. A file is taken once its length and its time of change have stood still
//! for `settle_seconds`; a folder, whose files are written with pauses between, for five times as long. A
//! name that begins with a dot or ends in `.part`, `.tmp` or `.filepart` belongs to a writer that renames
//! it when it is whole: such a file is left alone, and so is a folder that holds one, for an hour. The
//! surest way for a writer is to write `NAME.part` and to rename it to `NAME`.
//!
//! What is taken leaves the inbox by a rename into a draft of the queue, so that it is in one place at any
//! moment; between two file systems it is copied, fsynced and then removed. If the queue is full it stays
//! in the inbox. Symbolic links are never followed: they, devices, pipes and sockets are rejected.
//!
//! The folder is looked through at intervals and not notified by the system, since that says nothing of
//! what another machine writes to a network share.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use client::SystemRandom;
use rand_core::Rng;
use record::{FILE_BYTES_MAX, FILES_MAX, FileName, RECORD_BYTES_MAX};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::delivery::{DeliveryKey, NewDelivery, PatientNumber, Source};
use super::files;
use super::queue::{Accepted, Draft, DraftFile, NotAccepted, Queue};

/// For how many seconds a file has to stand still by default.
const SETTLE_SECONDS: u64 = 2;
/// By how much longer a folder has to.
const FOLDER_SETTLE: u32 = 5;
/// How long a folder with a half-written file may stand still until a person is told.
const STUCK_AFTER: Duration = Duration::from_secs(3_600);
/// What is looked at in one go: more of it is looked at when this has left. 16,384 files or folders, each
/// of which takes about 200 bytes between two looks: 3.2 MiB.
const CHILDREN_MAX: usize = 16_384;
/// Folders within a folder: studies on media have three levels.
const DEPTH_MAX: usize = 8;
/// The shortest and the longest pause between two looks.
const LOOK_EVERY: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(2)];
/// Names of files that were rejected under a name which was there already.
const REJECTED_SAME_MAX: u32 = 10_000;
/// In a draft: what was taken.
const RECORD: &str = "record";
/// In a draft: what is being copied.
const COPYING: &str = "record.part";
/// In a draft: where it was taken from.
const ORIGIN: &str = "origin.json";
/// In a draft: how what was taken is taken apart.
const PLAN: &str = "plan.json";
/// 4,096 files and folders, each in hexadecimal with at most eight names of 255 bytes above its own: 18
/// MiB.
const PLAN_BYTES_MAX: u64 = (FILES_MAX * (9 * 2 * 256 + 4)) as u64;
/// Two names of 255 bytes, hexadecimal, and what is around them.
const ORIGIN_BYTES_MAX: u64 = 2 * 2 * 255 + 256;
/// How the names end that a writer renames. The last is of a common program for SFTP.
const UNFINISHED: [&[u8]; 3] = [b".part", b".tmp", b".filepart"];

/// `[watch_folder]` of a gateway's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchFolderConfig {
    /// The folder; `inbox` and `rejected` are made in it. It is best on the queue's file system.
    pub folder: PathBuf,
    /// For how many seconds a file has to stand still, 0 to 3,600. 2 by default.
    #[serde(default = "default_settle_seconds")]
    pub settle_seconds: u64,
    /// Who gives the numbers by which the folders are named, as FHIR names an identifier's system; none
    /// by default.
    #[serde(default)]
    pub patient_system: Option<String>,
}

fn default_settle_seconds() -> u64 {
    SETTLE_SECONDS
}

/// Why a folder is not watched.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WatchFolderError {
    /// It cannot be used.
    #[error("{0} cannot be watched: {1}; check the path and its permissions")]
    Folder(PathBuf, #[source] io::Error),
    /// A number is out of its range.
    #[error("watch_folder.settle_seconds is out of its range: give 0 to 3,600")]
    Settle,
}

/// What one look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Looked {
    /// Deliveries that were accepted.
    pub accepted: usize,
    /// Deliveries that had been accepted before.
    pub repeated: usize,
    /// Files and folders that were rejected.
    pub rejected: usize,
    /// Files and folders that are being written, for which the queue has no room, or that failed.
    pub waiting: usize,
    /// Why one could not be taken, such as for want of a permission: it is tried at each look.
    pub failed: Option<io::ErrorKind>,
}

impl Looked {
    /// What has gone by itself is no failure.
    fn fail(&mut self, error: &io::Error) {
        if error.kind() != io::ErrorKind::NotFound {
            self.failed = Some(error.kind());
        }
    }
}

/// Watches one folder.
pub struct WatchFolder {
    inbox: PathBuf,
    rejected: PathBuf,
    system: Option<String>,
    settle: Duration,
    queue: Queue,
    /// How each child looked, and since when.
    seen: HashMap<PathBuf, Seen>,
}

#[derive(Clone, Copy)]
struct Seen {
    look: [u8; 32],
    since: Instant,
}

/// `origin.json` of a draft.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Origin {
    /// The patient's folder, in hexadecimal, since names need not be text.
    patient: String,
    /// The file or folder in it.
    child: String,
}

impl WatchFolder {
    /// Watches a folder; makes what is missing of it.
    ///
    /// # Errors
    /// [`WatchFolderError`].
    pub fn new(config: &WatchFolderConfig, queue: Queue) -> Result<Self, WatchFolderError> {
        if config.settle_seconds > 3_600 {
            return Err(WatchFolderError::Settle);
        }
        let (inbox, rejected) = (config.folder.join("inbox"), config.folder.join("rejected"));
        for folder in [&inbox, &rejected] {
            // Whose they are, and who may write to the inbox, is for the hospital to set.
            fs::create_dir_all(folder)
                .map_err(|error| WatchFolderError::Folder(folder.clone(), error))?;
        }
        Ok(Self {
            inbox,
            rejected,
            system: config.patient_system.clone(),
            settle: Duration::from_secs(config.settle_seconds),
            queue,
            seen: HashMap::new(),
        })
    }

    /// Looks at intervals until `stop` completes.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let [shortest, longest] = LOOK_EVERY;
        let pause = (self.settle / 2).clamp(shortest, longest);
        let mut said = None;
        loop {
            let queue = self.queue.clone();
            let (watch, looked) = queue
                .blocking(move |_| {
                    let looked = self.look(Instant::now());
                    (self, looked)
                })
                .await;
            self = watch;
            let failed = match looked {
                Ok(looked) => {
                    let Looked {
                        accepted,
                        repeated,
                        rejected,
                        waiting,
                        failed,
                    } = looked;
                    if accepted + repeated + rejected > 0 {
                        tracing::info!(
                            accepted,
                            repeated,
                            rejected,
                            waiting,
                            "the watched folder was emptied"
                        );
                    }
                    failed
                }
                Err(error) => Some(error.kind()),
            };
            // Said once, and not at every look. Its path may hold a patient's number: the kind says
            // enough.
            if let Some(failed) = failed.filter(|failed| said != Some(*failed)) {
                tracing::error!(error = %failed, "something in the watched folder cannot be taken: check the permissions");
            }
            said = failed;
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Looks through the folder once, at this moment: takes what has stood still for long enough. Waits
    /// for the disk.
    ///
    /// # Errors
    /// [`io::Error`] if the folder or the queue's drafts cannot be read; what fails for one file leaves
    /// that where it is.
    pub fn look(&mut self, moment: Instant) -> io::Result<Looked> {
        let mut looked = Looked::default();
        self.finish_drafts(&mut looked)?;
        let mut seen = HashMap::new();
        let mut patients: Vec<_> = fs::read_dir(&self.inbox)?
            .take(CHILDREN_MAX)
            .collect::<io::Result<_>>()?;
        patients.sort_by_key(fs::DirEntry::file_name);
        for patient in patients {
            let name = patient.file_name();
            if is_unfinished(&name) {
                continue;
            }
            if !patient.file_type()?.is_dir() {
                let why = "It lies in no patient's folder: put it into a folder that is named by the \
                           patient's number.";
                self.settle(&mut seen, &mut looked, &patient.path(), moment, |_, _| {
                    Step::Reject(why)
                });
                continue;
            }
            let children = match fs::read_dir(patient.path()) {
                Ok(children) => children,
                Err(error) => {
                    looked.fail(&error);
                    continue;
                }
            };
            let children: io::Result<Vec<_>> = children.take(CHILDREN_MAX).collect();
            let mut children = children?;
            children.sort_by_key(fs::DirEntry::file_name);
            for child in children {
                if seen.len() >= CHILDREN_MAX {
                    break;
                }
                if is_unfinished(&child.file_name()) {
                    continue;
                }
                let number = self.number(&name);
                self.settle(&mut seen, &mut looked, &child.path(), moment, |found, still| {
                    match (found, &number) {
                        (_, None) => Step::Reject(
                            "The name of the patient's folder is no patient number that can be used: \
                             give at most 250 bytes of text.",
                        ),
                        (Found::Refused(why), _) => Step::Reject(why),
                        (Found::Unfinished, _) if still >= STUCK_AFTER => Step::Reject(
                            "It has held a file that looks half-written for an hour (a name that begins \
                             with a dot or ends in .part, .tmp or .filepart): finish or remove that \
                             file, and put it into the inbox again.",
                        ),
                        (Found::Unfinished | Found::Nothing, _) => Step::Wait,
                        (Found::Files(files), Some(_)) => Step::Take(files.bytes),
                    }
                });
            }
        }
        self.seen = seen;
        Ok(looked)
    }

    fn number(&self, folder: &OsStr) -> Option<PatientNumber> {
        PatientNumber::new(self.system.as_deref(), folder.to_str()?).ok()
    }

    /// Looks at one child, and does what `judge` says of it once it has stood still.
    fn settle(
        &self,
        seen: &mut HashMap<PathBuf, Seen>,
        looked: &mut Looked,
        path: &Path,
        moment: Instant,
        judge: impl FnOnce(&Found, Duration) -> Step,
    ) {
        let child = match Child::look(path) {
            Ok(child) => child,
            Err(error) => return looked.fail(&error),
        };
        let before = self.seen.get(path).filter(|seen| seen.look == child.look);
        let since = before.map_or(moment, |seen| seen.since);
        let still = moment.saturating_duration_since(since);
        let settle = match child.is_folder {
            true => self.settle * FOLDER_SETTLE,
            false => self.settle,
        };
        let new = before.is_none();
        let mut wait = || {
            let look = child.look;
            seen.insert(path.to_owned(), Seen { look, since });
            looked.waiting += 1;
        };
        // Even with no time to settle, it must have looked the same twice.
        if new || still < settle {
            return wait();
        }
        let done = match judge(&child.found, still) {
            Step::Wait => return wait(),
            Step::Reject(why) => self.reject(path, path, why).map(|()| Done::Rejected),
            Step::Take(bytes) => match self.queue.room(bytes) {
                Err(NotAccepted::TooLarge) => {
                    self.reject(path, path, TOO_LARGE).map(|()| Done::Rejected)
                }
                Err(_) => return wait(),
                Ok(()) => self.take(path, &child),
            },
        };
        match done {
            Ok(Done::Accepted(Accepted::New(_))) => looked.accepted += 1,
            Ok(Done::Accepted(Accepted::Repeated(_))) => looked.repeated += 1,
            Ok(Done::Rejected) => looked.rejected += 1,
            Ok(Done::Later) => wait(),
            Err(error) => {
                wait();
                looked.fail(&error);
            }
        }
    }

    /// Moves a child into a draft, and accepts that.
    fn take(&self, path: &Path, child: &Child) -> io::Result<Done> {
        let mut chance = [0; 16];
        SystemRandom.fill_bytes(&mut chance);
        let draft = self.queue.draft(Source::Folder, &hex::encode(chance))?;
        let name = |path: Option<&Path>| {
            let name = path.and_then(Path::file_name).unwrap_or_default();
            hex::encode(name.as_bytes())
        };
        let origin = Origin {
            patient: name(path.parent()),
            child: name(Some(path)),
        };
        // First from where it comes: without that, what lies in the draft would be nobody's.
        files::replace(&draft.folder().join(ORIGIN), &serde_json::to_vec(&origin)?)?;
        let taken = draft.folder().join(RECORD);
        match fs::rename(path, &taken) {
            Ok(()) => {
                let now = Child::look(&taken);
                if !now.is_ok_and(|now| now.look == child.look) {
                    // Somebody still writes to it. It goes back, unless its place has been taken: then
                    // it stays in the draft, and is taken as it is.
                    if fs::symlink_metadata(path).is_err() && fs::rename(&taken, path).is_ok() {
                        draft.remove()?;
                        return Ok(Done::Later);
                    }
                }
                if let Some(folder) = path.parent() {
                    files::sync_folder(folder)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let copied = draft.folder().join(COPYING);
                copy(path, &copied)?;
                if Child::look(path)?.look != child.look {
                    draft.remove()?;
                    return Ok(Done::Later);
                }
                fs::rename(&copied, &taken)?;
                files::sync_folder(draft.folder())?;
                // If the process stops here, it is taken again and found to be known.
                files::remove(path)?;
            }
            Err(error) => {
                draft.remove()?;
                return Err(error);
            }
        }
        self.finish(&draft, &origin)
    }

    /// Accepts what an earlier look or an earlier process took and did not have accepted.
    fn finish_drafts(&self, looked: &mut Looked) -> io::Result<()> {
        for name in self.queue.drafts(Source::Folder)? {
            let draft = self.queue.draft(Source::Folder, &name)?;
            let is_here = |name| fs::symlink_metadata(draft.folder().join(name)).is_ok();
            if !is_here(RECORD) && !is_here(PLAN) {
                // Nothing was taken: it is still in the inbox.
                draft.remove()?;
                continue;
            }
            let origin = files::read(&draft.folder().join(ORIGIN), ORIGIN_BYTES_MAX)?;
            let origin = serde_json::from_slice(&origin.unwrap_or_default());
            // What says no more from where it comes is a dead letter's matter: it is kept and seen.
            let origin = origin.unwrap_or(Origin {
                patient: String::new(),
                child: String::new(),
            });
            match self.finish(&draft, &origin) {
                Ok(Done::Accepted(Accepted::New(_))) => looked.accepted += 1,
                Ok(Done::Accepted(Accepted::Repeated(_))) => looked.repeated += 1,
                Ok(Done::Rejected) => looked.rejected += 1,
                Ok(Done::Later) => looked.waiting += 1,
                Err(error) => {
                    looked.waiting += 1;
                    looked.fail(&error);
                }
            }
        }
        Ok(())
    }

    fn finish(&self, draft: &Draft, origin: &Origin) -> io::Result<Done> {
        let text = |name: &str| OsString::from_vec(hex::decode(name).unwrap_or_default());
        let (patient, child) = (text(&origin.patient), text(&origin.child));
        let path = self.inbox.join(&patient).join(&child);
        let Some(plan) = Plan::of(draft)? else {
            self.reject(&draft.folder().join(RECORD), &path, CHANGED)?;
            draft.remove()?;
            return Ok(Done::Rejected);
        };
        if !plan.carry_out(draft)? {
            // In parts, as far as it was taken apart.
            self.reject(draft.folder(), &path, CHANGED)?;
            return Ok(Done::Rejected);
        }
        let mut hash = Sha256::new();
        let mut files = Vec::with_capacity(plan.files.len());
        let mut total: u64 = 0;
        for stored in (0..plan.files.len()).map(Plan::file) {
            total = total.saturating_add(fs::symlink_metadata(draft.folder().join(stored))?.len());
        }
        if matches!(self.queue.room(total), Err(error) if error.is_passing()) {
            return Ok(Done::Later);
        }
        for (number, below) in plan.files.iter().enumerate() {
            let (stored, below) = (PathBuf::from(Plan::file(number)), text(below));
            hash.update((below.len() as u64).to_be_bytes());
            hash.update(below.as_bytes());
            hash.update(content(&draft.folder().join(&stored))?);
            let name = match below.is_empty() {
                true => child.to_string_lossy().into_owned(),
                false => below.to_string_lossy().replace('/', "_"),
            };
            files.push(DraftFile {
                stored,
                name: FileName::nearest(&name),
                media_type: None,
            });
        }
        // The same files under the same name for the same patient are the same delivery, whenever they
        // come.
        let content: [u8; 32] = hash.finalize().into();
        let new = NewDelivery {
            source: Source::Folder,
            key: DeliveryKey::of(
                Source::Folder,
                &[patient.as_bytes(), child.as_bytes(), &content],
            ),
            reference: child.to_string_lossy().into_owned(),
            patient: self.number(&patient).into_iter().collect(),
        };
        match draft.accept(&new, files) {
            Ok(accepted) => Ok(Done::Accepted(accepted)),
            // It stays in the draft, and is tried at the next look.
            Err(error) if error.is_passing() => Ok(Done::Later),
            Err(_) => {
                self.reject(draft.folder(), &path, TOO_LARGE)?;
                Ok(Done::Rejected)
            }
        }
    }

    /// Moves something to where a person finds it, with the reason beside it. `path` is where it was in
    /// the inbox.
    fn reject(&self, from: &Path, path: &Path, why: &str) -> io::Result<()> {
        let below = path
            .strip_prefix(&self.inbox)
            .unwrap_or(Path::new("unnamed"));
        let mut to = self.rejected.join(below);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        let name = to.file_name().unwrap_or_default().to_owned();
        for number in 2..REJECTED_SAME_MAX {
            if fs::symlink_metadata(&to).is_err() {
                break;
            }
            let mut name = name.clone();
            name.push(format!("-{number}"));
            to.set_file_name(name);
        }
        let mut reason = to.clone().into_os_string();
        reason.push(".reason.txt");
        fs::write(reason, format!("{why}\n"))?;
        match fs::rename(from, &to) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                // Only what was taken can be elsewhere, and that is files and folders alone.
                copy(from, &to)?;
                files::remove(from)
            }
            moved => moved,
        }
    }
}

const TOO_LARGE: &str = "It is larger than the gateway takes, or has more than 4,096 files: divide it, or \
                         raise the bounds of the gateway's queue.";
const CHANGED: &str = "It was changed while it was being taken: put it into the inbox again when it is \
                       whole.";

/// `plan.json` of a draft: what was taken, to be taken apart so that every file lies in the draft's own
/// folder. Whoever wrote it may still have its folders open, and could put a link into them where a file
/// was; into the draft's folder it cannot.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    /// Folders below what was taken, outer ones first, in hexadecimal.
    folders: Vec<String>,
    /// Files below it, in their order; one empty name if it is a file itself.
    files: Vec<String>,
}

impl Plan {
    /// The draft's plan, made durable if it is a new one; `None` if what was taken is no longer files.
    fn of(draft: &Draft) -> io::Result<Option<Self>> {
        let place = draft.folder().join(PLAN);
        if let Some(text) = files::read(&place, PLAN_BYTES_MAX)? {
            return Ok(Some(serde_json::from_slice(&text)?));
        }
        let Found::Files(found) = Child::look(&draft.folder().join(RECORD))?.found else {
            return Ok(None);
        };
        let names = |paths: &[PathBuf]| {
            let names = paths
                .iter()
                .map(|path| hex::encode(path.as_os_str().as_bytes()));
            names.collect::<Vec<_>>()
        };
        let plan = Self {
            folders: names(&found.folders),
            files: names(&found.paths),
        };
        files::replace(&place, &serde_json::to_vec(&plan)?)?;
        Ok(Some(plan))
    }

    /// Moves every file to its place, also after an earlier attempt was broken off. False if one is no
    /// longer there or no longer a file.
    fn carry_out(&self, draft: &Draft) -> io::Result<bool> {
        let here = draft.folder();
        // Where each folder of what was taken is.
        let mut places = HashMap::from([(PathBuf::new(), here.join(RECORD))]);
        let folders = self
            .folders
            .iter()
            .enumerate()
            .map(|(number, name)| (name, here.join(format!("folder-{number:04}")), true));
        let files = self.files.iter().enumerate();
        let files = files.map(|(number, name)| (name, here.join(Self::file(number)), false));
        for (name, to, is_folder) in folders.chain(files) {
            let below = hex::decode(name).map_err(|_| io::ErrorKind::InvalidData)?;
            let below = PathBuf::from(OsString::from_vec(below));
            if fs::symlink_metadata(&to).is_err() {
                let from = match (
                    below.parent().and_then(|outer| places.get(outer)),
                    below.file_name(),
                ) {
                    (Some(outer), Some(name)) => outer.join(name),
                    _ => here.join(RECORD),
                };
                match fs::rename(from, &to) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                    moved => moved?,
                }
            }
            let found = fs::symlink_metadata(&to)?;
            if found.is_dir() != is_folder || found.is_file() == is_folder {
                return Ok(false);
            }
            if is_folder {
                places.insert(below, to);
            }
        }
        Ok(true)
    }

    /// The name of a file in the draft.
    fn file(number: usize) -> String {
        format!("file-{number:04}")
    }
}

/// What is done with a child.
enum Step {
    Wait,
    Take(u64),
    Reject(&'static str),
}

enum Done {
    Accepted(Accepted),
    Rejected,
    Later,
}

/// A direct child of a patient's folder.
struct Child {
    is_folder: bool,
    /// SHA-256 of names, lengths and times of change: it looks the same as long as nobody writes to it.
    look: [u8; 32],
    found: Found,
}

enum Found {
    Files(Files),
    /// Part of it is being written.
    Unfinished,
    /// An empty folder.
    Nothing,
    Refused(&'static str),
}

struct Files {
    /// Folders below the child, outer ones first.
    folders: Vec<PathBuf>,
    /// Files below the child, in the order of their names; one empty path if the child is a file.
    paths: Vec<PathBuf>,
    bytes: u64,
}

impl Child {
    fn look(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        let mut walk = Walk {
            hash: Sha256::new(),
            files: Files {
                folders: Vec::new(),
                paths: Vec::new(),
                bytes: 0,
            },
            unfinished: false,
            refused: None,
        };
        walk.visit(path, Path::new(""), &found, 0)?;
        let is_folder = found.is_dir();
        let look = walk.hash.clone().finalize().into();
        let found = match walk {
            Walk {
                refused: Some(why), ..
            } => Found::Refused(why),
            Walk {
                unfinished: true, ..
            } => Found::Unfinished,
            Walk { files, .. } if files.paths.is_empty() => Found::Nothing,
            Walk { files, .. } => Found::Files(files),
        };
        Ok(Self {
            is_folder,
            look,
            found,
        })
    }
}

/// What is found on the way through a child.
struct Walk {
    hash: Sha256,
    files: Files,
    unfinished: bool,
    refused: Option<&'static str>,
}

impl Walk {
    fn visit(
        &mut self,
        path: &Path,
        below: &Path,
        found: &Metadata,
        depth: usize,
    ) -> io::Result<()> {
        self.note(below, found);
        if found.is_dir() {
            if depth > DEPTH_MAX {
                self.refused =
                    Some("It has folders more than eight deep: put the files into fewer folders.");
                return Ok(());
            }
            if depth > 0 {
                self.files.folders.push(below.to_owned());
            }
            let mut entries = Vec::new();
            for entry in fs::read_dir(path)? {
                let before = self.files.paths.len() + self.files.folders.len();
                if entries.len() + before >= FILES_MAX {
                    self.refused = Some(TOO_LARGE);
                    return Ok(());
                }
                entries.push(entry?);
            }
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let name = entry.file_name();
                self.unfinished |= is_unfinished(&name);
                let found = fs::symlink_metadata(entry.path())?;
                self.visit(&entry.path(), &below.join(&name), &found, depth + 1)?;
                if self.refused.is_some() {
                    return Ok(());
                }
            }
            return Ok(());
        }
        if !found.is_file() {
            self.refused = Some(
                "It is or holds a link, a device, a pipe or a socket: put the file itself into the inbox.",
            );
            return Ok(());
        }
        self.files.paths.push(below.to_owned());
        self.files.bytes = self.files.bytes.saturating_add(found.len());
        let too_long = found.len() > FILE_BYTES_MAX || self.files.bytes > RECORD_BYTES_MAX;
        if too_long || self.files.paths.len() > FILES_MAX {
            self.refused = Some(TOO_LARGE);
        }
        Ok(())
    }

    fn note(&mut self, below: &Path, found: &Metadata) {
        let name = below.as_os_str().as_bytes();
        self.hash.update((name.len() as u64).to_be_bytes());
        self.hash.update(name);
        // A rename changes neither of these, but does change the time of the folder that is renamed on
        // some file systems: of folders only what is in them counts.
        if !found.is_dir() {
            self.hash.update(found.len().to_be_bytes());
            self.hash.update(found.mtime().to_be_bytes());
            self.hash.update(found.mtime_nsec().to_be_bytes());
        }
    }
}

fn is_unfinished(name: &OsStr) -> bool {
    let name = name.as_bytes().to_ascii_lowercase();
    name.starts_with(b".") || UNFINISHED.iter().any(|ending| name.ends_with(ending))
}

/// SHA-256 of a file's length and content.
fn content(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(&bytes[..count]),
        }
    }
}

/// Copies a file or a folder durably. What is neither was refused before; if it has come since, the copy
/// does not look like the original, which is seen by who compares them.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(from)?.is_dir() {
        files::own_folder(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return files::sync_folder(to);
    }
    if !fs::symlink_metadata(from)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut file = files::own_file(to)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.sync_all()
}
