//! A durable queue in a folder. Each delivery is a folder of its own that moves as a whole, by one
//! rename, so that at every moment it is in one place:
//!
//! ```text
//! lock             held while a process has the queue open
//! drafts/NAME/     what a source puts together; nothing of it was said to be taken
//! waiting/ID/      delivery.json and the files: accepted, to be tried
//! dead/ID/         the same: failed for good, kept for a person
//! removing/ID/     delivered or discarded, on its way out
//! done.log         keys of what was delivered
//! discarded.log    what a person discarded, when and why, one JSON value a line
//! SOURCE.json      where a source goes on
//! ```
//!
//! Accepting: files and their folders are fsynced, then `delivery.json`, then the draft is renamed into
//! `waiting` and both folders are fsynced; only then is it accepted. Done: its key and id are appended to
//! `done.log` and fsynced, then it is renamed into `removing`. A stop of the process between the two
//! leaves a delivery in `waiting` whose id is in `done.log`: it is removed when the queue is opened.
//!
//! A disk that failed once in the middle of a change is not trusted again until the queue is reopened. A
//! disk that is full is another matter: what finds no room changes nothing, and is tried again.

mod done;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use client::{SystemRandom, now};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use rand_core::Rng;
use record::{FILE_BYTES_MAX, FILES_MAX, FileName, MediaType, RECORD_BYTES_MAX};
use scheme::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Notify;

use self::done::Done;
use super::delivery::{
    DeliveredFile, Delivery, DeliveryId, DeliveryKey, NewDelivery, PATIENT_NUMBERS_MAX,
    PatientNumber, Source,
};
use super::files;

/// Deliveries of one page of a list.
pub const LISTED_MAX: usize = 100;
/// Files that a list shows of one delivery; of the others it gives the count.
const FILES_LISTED_MAX: usize = 16;
/// The longest `delivery.json`: 4,096 files, each with a stored name of at most 3 x 255 bytes at eight
/// levels (a folder that deep is rare), a name of at most 2 x 255, a media type of 127 and 100 bytes
/// around them, is 28 MiB.
const DESCRIPTION_BYTES_MAX: u64 =
    (FILES_MAX * (8 * 3 * 256 + 2 * 255 + 127 + 100)) as u64 + 65_536;
/// Characters of a sentence that is kept of a failure or of a discard.
const SENTENCE_CHARS_MAX: usize = 1_000;
/// Bytes that are kept of what a source calls a delivery.
const REFERENCE_BYTES_MAX: usize = 250;
/// After how long a delivery is tried again of which the disk had no room to say what became of it.
const SET_BACK_MS: u64 = 60_000;
/// The longest name of a draft.
const DRAFT_NAME_BYTES_MAX: usize = 100;
const DESCRIPTION: &str = "delivery.json";
/// How the names of drafts begin that end with the call that made them.
const ONCE: &str = "once-";
/// How a delivery is described; a later version says another number.
const FORMAT: u32 = 1;
/// What of a stored name stands as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_');

const DAMAGED: &str = "what describes this delivery cannot be read: look at its files in the queue's \
                       folder, give them to the gateway anew, and discard it";
const CHANGED: &str = "the files of this delivery are no longer as they were accepted: check the disk, \
                       have the source give them again, and discard it";

/// How much a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueBounds {
    /// Waiting and dead deliveries together. 16,384, half a day's messages of a large hospital.
    pub deliveries_max: usize,
    /// Their bytes. 64 GiB, about a hundred large imaging studies.
    pub bytes_max: u64,
}

impl Default for QueueBounds {
    fn default() -> Self {
        Self {
            deliveries_max: 16_384,
            bytes_max: 1 << 36,
        }
    }
}

/// Why a queue cannot be opened, or a delivery not be changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The folder or something in it cannot be used.
    #[error("the queue in {0} cannot be used: {1}; check the disk and the folder's permissions")]
    Folder(PathBuf, #[source] io::Error),
    /// Another process has it open.
    #[error("the queue in {0} is in use: stop the other gateway, or give this one another folder")]
    InUse(PathBuf),
    /// The disk failed before.
    #[error(
        "the queue's disk failed and is not trusted any more: check the disk, then restart the gateway"
    )]
    Broken,
    /// No such delivery is here.
    #[error("there is no delivery {0}: it may have been delivered or discarded; look at the list")]
    Unknown(DeliveryId),
    /// It is still being tried.
    #[error("the delivery {0} is not dead: it is still being tried; wait for its end")]
    NotDead(DeliveryId),
    /// Its description cannot be read, so it cannot be tried.
    #[error(
        "what describes the delivery {0} cannot be read: have the source give it again, and discard it"
    )]
    Damaged(DeliveryId),
    /// A discard needs a reason.
    #[error("no reason was given: say why the delivery is discarded; the reason is kept")]
    NoReason,
}

/// Why a delivery was not accepted: then nothing of it is kept, but a draft stays as it is.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NotAccepted {
    /// The bound on deliveries or bytes is reached. Passing.
    #[error(
        "the gateway's queue is full: send it again later, and have its dead letters looked at"
    )]
    Full,
    /// It alone is larger than the bounds.
    #[error(
        "the delivery is larger than the gateway takes: divide it, or raise the queue's bounds"
    )]
    TooLarge,
    /// More than 4,096 files.
    #[error("the delivery has more than 4,096 files: divide it")]
    TooManyFiles,
    /// No file at all.
    #[error("the delivery has no file: give it at least one")]
    Empty,
    /// A file is a link, a device or outside of the draft, or the patient has too many numbers.
    #[error("the delivery cannot be taken: give plain files and at most 32 patient numbers")]
    Unusable,
    /// The disk cannot keep it. Passing, if there is room again.
    #[error("the gateway's disk could not keep the delivery: {0}; send it again later")]
    Disk(#[from] io::Error),
    /// The disk failed before. Passes only when the gateway is restarted.
    #[error(
        "the gateway's disk failed: have it checked and the gateway restarted, then send it again"
    )]
    Broken,
}

impl NotAccepted {
    /// Whether the same delivery may be accepted later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Full | Self::Disk(_) | Self::Broken)
    }
}

/// That a delivery is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is waiting.
    New(DeliveryId),
    /// It was accepted before, and is waiting, dead or delivered.
    Repeated(DeliveryId),
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is to be tried, perhaps again.
    Waiting,
    /// It is kept for a person.
    Dead,
    /// It was delivered, and the destination gave this receipt; `-` if it gave none that can be kept.
    Delivered(String),
    /// It was discarded, is older than what is remembered, or never was.
    Unknown,
}

/// A file with its bytes in memory.
pub struct NewFile {
    /// Its name.
    pub name: FileName,
    /// What the source says that it is, if it does.
    pub media_type: Option<MediaType>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A file that a source put into a draft.
pub struct DraftFile {
    /// Where in the draft's folder.
    pub stored: PathBuf,
    /// Its name.
    pub name: FileName,
    /// What the source says that it is, if it does.
    pub media_type: Option<MediaType>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct QueueCounts {
    /// Deliveries that are to be tried.
    pub waiting: usize,
    /// Deliveries that are kept for a person.
    pub dead: usize,
    /// Bytes of both.
    pub bytes: u64,
    /// When the oldest that is to be tried was accepted, in ms since 1970; none if none is.
    pub oldest: Option<u64>,
}

/// A delivery as a list shows it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its id.
    pub id: DeliveryId,
    /// Who gave it; none if its description cannot be read.
    pub source: Option<Source>,
    /// What the source calls it.
    pub reference: String,
    /// Under which numbers the hospital knows the patient.
    pub patient: Vec<PatientNumber>,
    /// Its first 16 files.
    pub files: Vec<FileSummary>,
    /// How many it has.
    pub file_count: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// When it was accepted, in ms since 1970.
    pub accepted_at: u64,
    /// How often it was tried.
    pub tries: u32,
}

/// A file as a list shows it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct FileSummary {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// A delivery that is to be tried.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct WaitingDelivery {
    /// What it is.
    #[serde(flatten)]
    pub delivery: Summary,
    /// When it is tried next, in ms since 1970.
    pub next_try: u64,
    /// Why it failed last.
    pub last_failure: Option<String>,
}

/// A delivery that failed for good or too often, and waits for a person.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// What it is.
    #[serde(flatten)]
    pub delivery: Summary,
    /// Since when, in ms since 1970.
    pub dead_at: u64,
    /// Why, and what to do.
    pub reason: String,
}

/// A durable queue; clones are the same queue. Its calls wait for the disk: an async program makes them
/// where it may wait.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    bounds: QueueBounds,
    state: Mutex<State>,
    /// A key is no longer being accepted.
    settled: Condvar,
    /// There is something to try.
    wake: Notify,
    /// Held as long as the queue is open.
    _lock: File,
}

struct State {
    entries: BTreeMap<DeliveryId, Entry>,
    keys: HashMap<DeliveryKey, DeliveryId>,
    /// Of the entries, and of what is being accepted.
    bytes: u64,
    /// Keys that are being accepted: a second call with one waits for the first.
    in_flight: HashSet<DeliveryKey>,
    done: Done,
    last_moment: u64,
    broken: bool,
}

/// What is kept of each delivery in memory; the rest is read when it is needed.
struct Entry {
    key: Option<DeliveryKey>,
    bytes: u64,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting { next_try: Timestamp },
    Claimed,
    Dead,
}

/// `delivery.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: u32,
    id: DeliveryId,
    source: Source,
    key: DeliveryKey,
    reference: String,
    patient: Vec<PatientNumber>,
    files: Vec<FileDescription>,
    accepted_at: u64,
    tries: u32,
    next_try: u64,
    last_failure: Option<String>,
    dead_at: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileDescription {
    /// Where in the delivery's folder, percent-encoded.
    stored: String,
    name: String,
    media_type: Option<String>,
    bytes: u64,
}

/// A line of `discarded.log`.
#[derive(Serialize)]
struct Discarded<'a> {
    at: u64,
    reason: &'a str,
    delivery: DeadLetter,
}

impl Queue {
    /// Opens the queue in a folder, making it if there is none, with what a stop of the process left:
    /// what was half accepted is removed unless it is a source's draft, what was done is removed, and
    /// what was being tried is tried again.
    ///
    /// # Errors
    /// [`QueueError::Folder`], [`QueueError::InUse`].
    pub fn open(folder: &Path, bounds: QueueBounds) -> Result<Self, QueueError> {
        let failed = |error| QueueError::Folder(folder.to_owned(), error);
        files::own_folder(folder).map_err(failed)?;
        // A new folder's own name has to last as long as what is put into it.
        let absolute = folder.canonicalize().map_err(failed)?;
        if let Some(parent) = absolute.parent() {
            files::sync_folder(parent).map_err(failed)?;
        }
        let lock = files::own_file(&folder.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(QueueError::InUse(folder.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let state = State::read(folder).map_err(failed)?;
        Ok(Self(Arc::new(Inner {
            folder: folder.to_owned(),
            bounds,
            state: Mutex::new(state),
            settled: Condvar::new(),
            wake: Notify::new(),
            _lock: lock,
        })))
    }

    /// Accepts a delivery whose files are in memory; returns once it is durable.
    ///
    /// # Errors
    /// [`NotAccepted`]; then nothing of it is kept.
    pub fn accept(&self, new: &NewDelivery, files: Vec<NewFile>) -> Result<Accepted, NotAccepted> {
        let bytes = files.iter().map(|file| file.bytes.len() as u64).sum();
        // A repetition costs no write, and what finds no room none either.
        let held = match self.reserve(new, bytes)? {
            Reserved::Known(id) => return Ok(Accepted::Repeated(id)),
            Reserved::Held(held) => held,
        };
        let mut chance = [0; 8];
        SystemRandom.fill_bytes(&mut chance);
        let draft = self.make_draft(&format!("{ONCE}{}", hex::encode(chance)))?;
        let accepted = draft.write(files).and_then(|files| {
            let measured = draft.measure(&files)?;
            draft.finish(new, files, &measured, held)
        });
        if accepted.is_err() {
            // What cannot be removed now is removed when the queue is opened next.
            let _ = files::remove(&draft.folder);
        }
        accepted
    }

    /// A folder in which a source puts a delivery together, on the same file system as the queue. One
    /// of the same name that a stop of the process left is given again, with what is in it.
    ///
    /// # Errors
    /// [`io::Error`]; of kind `InvalidInput` if the name is not of 1 to 100 lower-case letters, digits
    /// and hyphens.
    pub fn draft(&self, source: Source, name: &str) -> io::Result<Draft> {
        let plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if name.is_empty() || name.len() > DRAFT_NAME_BYTES_MAX || !name.bytes().all(plain) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let draft = self.make_draft(&format!("{source}-{name}"))?;
        // Before a source moves anything into it.
        files::sync_folder(&self.0.folder.join("drafts"))?;
        Ok(draft)
    }

    /// The names of a source's drafts.
    ///
    /// # Errors
    /// [`io::Error`].
    pub fn drafts(&self, source: Source) -> io::Result<Vec<String>> {
        let prefix = format!("{source}-");
        let mut names = Vec::new();
        for entry in fs::read_dir(self.0.folder.join("drafts"))? {
            let name = entry?.file_name();
            let name = name.to_str().and_then(|name| name.strip_prefix(&prefix));
            names.extend(name.map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// The file in which a source keeps where it goes on.
    pub(super) fn place_of_source(&self, source: Source) -> PathBuf {
        self.0.folder.join(format!("{source}.json"))
    }

    /// Whether a delivery of so many bytes would find room now.
    ///
    /// # Errors
    /// [`NotAccepted::Full`], [`NotAccepted::TooLarge`], [`NotAccepted::Broken`].
    pub fn room(&self, bytes: u64) -> Result<(), NotAccepted> {
        self.state().room(&self.0.bounds, bytes)
    }

    /// Under which id a key was accepted, if it is remembered.
    pub fn known(&self, key: &DeliveryKey) -> Option<DeliveryId> {
        let state = self.state();
        let known = state.keys.get(key).copied();
        known.or_else(|| state.done.find(key))
    }

    /// How much there is.
    pub fn counts(&self) -> QueueCounts {
        let state = self.state();
        let waits = |(_, entry): &(&DeliveryId, &Entry)| entry.place != Place::Dead;
        let waiting = state.entries.iter().filter(waits);
        let oldest = waiting.clone().next().map(|(id, _)| id.moment());
        let waiting = waiting.count();
        QueueCounts {
            waiting,
            dead: state.entries.len() - waiting,
            bytes: state.bytes,
            oldest,
        }
    }

    /// How much it holds at most.
    pub fn bounds(&self) -> QueueBounds {
        self.0.bounds
    }

    /// What became of a delivery.
    pub fn fate(&self, id: DeliveryId) -> Fate {
        let state = self.state();
        match state.entries.get(&id).map(|entry| entry.place) {
            Some(Place::Dead) => Fate::Dead,
            Some(Place::Waiting { .. } | Place::Claimed) => Fate::Waiting,
            None => match state.done.receipt(id) {
                Some(receipt) => Fate::Delivered(receipt.to_owned()),
                None => Fate::Unknown,
            },
        }
    }

    /// The deliveries that are to be tried, oldest first, from the one behind `after` on; at most 100.
    ///
    /// # Errors
    /// [`QueueError::Folder`].
    pub fn waiting(&self, after: Option<DeliveryId>) -> Result<Vec<WaitingDelivery>, QueueError> {
        let page = self.page(after, |place| place != Place::Dead);
        let mut listed = Vec::new();
        for id in page {
            // One that was delivered in between is no longer listed.
            let Some(found) = self.look(&self.place_of(Place::Claimed, id))? else {
                continue;
            };
            let (next_try, last_failure) = match &found {
                Look::Readable(kept) => (kept.next_try, kept.last_failure.clone()),
                Look::Damaged(_) => (0, Some(DAMAGED.to_owned())),
            };
            listed.push(WaitingDelivery {
                delivery: found.summary(id),
                next_try,
                last_failure,
            });
        }
        Ok(listed)
    }

    /// The deliveries that wait for a person, oldest first, from the one behind `after` on; at most 100.
    ///
    /// # Errors
    /// [`QueueError::Folder`].
    pub fn dead(&self, after: Option<DeliveryId>) -> Result<Vec<DeadLetter>, QueueError> {
        let mut listed = Vec::new();
        for id in self.page(after, |place| place == Place::Dead) {
            if let Some(found) = self.look(&self.place_of(Place::Dead, id))? {
                listed.push(found.letter(id));
            }
        }
        Ok(listed)
    }

    /// Has a dead delivery tried again, as often as a new one.
    ///
    /// # Errors
    /// [`QueueError`].
    pub fn retry(&self, id: DeliveryId) -> Result<(), QueueError> {
        let mut state = self.usable()?;
        let from = self.dead_folder(&state, id)?;
        let mut kept = match self.look(&from)? {
            None => return Err(QueueError::Unknown(id)),
            Some(Look::Damaged(_)) => return Err(QueueError::Damaged(id)),
            Some(Look::Readable(kept)) => kept,
        };
        kept.tries = 0;
        kept.next_try = 0;
        kept.dead_at = None;
        let next_try = Timestamp::new(0);
        let moved = kept
            .write(&from)
            .and_then(|()| self.move_to(&from, &self.place_of(Place::Claimed, id)));
        self.trusted(&mut state, moved)?;
        if let Some(entry) = state.entries.get_mut(&id) {
            entry.place = Place::Waiting { next_try };
        }
        drop(state);
        self.0.wake.notify_one();
        tracing::info!(%id, "a dead delivery is tried again");
        Ok(())
    }

    /// Removes a dead delivery with its files, and keeps what it was, when and why. Its key is not
    /// remembered: whoever gives it again wants it taken.
    ///
    /// # Errors
    /// [`QueueError`].
    pub fn discard(&self, id: DeliveryId, reason: &str) -> Result<(), QueueError> {
        let reason = sentence(reason);
        if reason.is_empty() {
            return Err(QueueError::NoReason);
        }
        let mut state = self.usable()?;
        let from = self.dead_folder(&state, id)?;
        let Some(found) = self.look(&from)? else {
            return Err(QueueError::Unknown(id));
        };
        let line = Discarded {
            at: now().number(),
            reason: &reason,
            delivery: found.letter(id),
        };
        // The note first: what is gone without one would be lost. A stop of the process between the
        // two leaves the delivery, and it is discarded again.
        let moved = append_line(&self.0.folder.join("discarded.log"), &line).and_then(|()| {
            self.move_to(&from, &self.0.folder.join("removing").join(id.to_string()))
        });
        self.trusted(&mut state, moved)?;
        state.forget(id);
        drop(state);
        self.clear(id);
        tracing::info!(%id, "a dead delivery was discarded");
        Ok(())
    }

    /// Makes a call that waits for the disk where it may wait.
    pub(super) async fn blocking<T, F>(&self, call: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> T + Send + 'static,
    {
        let queue = self.clone();
        match tokio::task::spawn_blocking(move || call(&queue)).await {
            Ok(value) => value,
            // It is never aborted, so it panicked.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Whether nothing is changed any more until it is reopened.
    pub(crate) fn is_broken(&self) -> bool {
        self.state().broken
    }

    /// Completes when there may be something to try: a new delivery, or one that is tried again.
    pub(super) async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// Takes the oldest delivery that may be tried now. It is counted as tried, and set aside for `pause`
    /// of that count, before it is given out: one that ends the process with it is not the first at
    /// once again, and dies in the end. A next try that is further away than `longest_ms` was set by a
    /// clock that has been put back, and is now.
    pub(super) fn claim(
        &self,
        pause_ms: impl Fn(u32) -> u64,
        longest_ms: u64,
    ) -> Result<Option<Delivery>, QueueError> {
        loop {
            let at = now().number();
            let mut state = self.usable()?;
            let ready = |entry: &Entry| match entry.place {
                Place::Waiting { next_try } => {
                    next_try.number() <= at || next_try.number() > at.saturating_add(longest_ms)
                }
                Place::Claimed | Place::Dead => false,
            };
            let Some((&id, entry)) = state.entries.iter_mut().find(|(_, entry)| ready(entry))
            else {
                return Ok(None);
            };
            entry.place = Place::Claimed;
            drop(state);
            let folder = self.place_of(Place::Claimed, id);
            let mut kept = match self.look(&folder)? {
                Some(Look::Readable(kept)) => kept,
                found => {
                    // It was readable when the queue was opened.
                    tracing::error!(%id, "a delivery cannot be read any more");
                    if found.is_some() {
                        self.bury(id, None)?;
                    } else {
                        self.usable()?.forget(id);
                    }
                    continue;
                }
            };
            if !kept.is_whole(&folder) {
                tracing::error!(%id, "the files of a delivery have changed");
                kept.last_failure = Some(CHANGED.to_owned());
                self.bury(id, Some(kept))?;
                continue;
            }
            kept.tries = kept.tries.saturating_add(1);
            kept.next_try = at.saturating_add(pause_ms(kept.tries));
            let written = kept.write(&folder);
            let mut state = self.usable()?;
            self.settled(&mut state, id, written)?;
            drop(state);
            return Ok(Some(kept.delivery(&folder)));
        }
    }

    /// When the next try is due, if one is set: the earliest.
    pub(super) fn next_try(&self) -> Option<Timestamp> {
        let state = self.state();
        let set = state
            .entries
            .values()
            .filter_map(|entry| match entry.place {
                Place::Waiting { next_try } => Some(next_try),
                Place::Claimed | Place::Dead => None,
            });
        set.min()
    }

    /// Remembers that a claimed delivery was delivered, and removes it.
    pub(super) fn delivered(&self, id: DeliveryId, receipt: &str) -> Result<(), QueueError> {
        let mut state = self.usable()?;
        let Some(key) = state.entries.get(&id).and_then(|entry| entry.key) else {
            return Err(QueueError::Unknown(id));
        };
        let from = self.place_of(Place::Claimed, id);
        let to = self.0.folder.join("removing").join(id.to_string());
        let moved = (state.done.add(key, id, receipt)).and_then(|()| self.move_to(&from, &to));
        self.settled(&mut state, id, moved)?;
        state.forget(id);
        drop(state);
        self.clear(id);
        Ok(())
    }

    /// Sets a claimed delivery back: it is tried again when that is due.
    pub(super) fn failed(&self, id: DeliveryId, why: &str) -> Result<(), QueueError> {
        let folder = self.place_of(Place::Claimed, id);
        let Some(Look::Readable(mut kept)) = self.look(&folder)? else {
            return Err(QueueError::Damaged(id));
        };
        kept.last_failure = Some(sentence(why));
        let next_try = Timestamp::new(kept.next_try);
        let written = kept.write(&folder);
        let mut state = self.usable()?;
        self.settled(&mut state, id, written)?;
        if let Some(entry) = state.entries.get_mut(&id) {
            entry.place = Place::Waiting { next_try };
        }
        Ok(())
    }

    /// Puts a claimed delivery among the dead.
    pub(super) fn died(&self, id: DeliveryId, why: &str) -> Result<(), QueueError> {
        let Some(Look::Readable(mut kept)) = self.look(&self.place_of(Place::Claimed, id))? else {
            return Err(QueueError::Damaged(id));
        };
        kept.last_failure = Some(sentence(why));
        self.bury(id, Some(kept))
    }

    fn bury(&self, id: DeliveryId, kept: Option<Box<Description>>) -> Result<(), QueueError> {
        let from = self.place_of(Place::Claimed, id);
        let written = match kept {
            None => Ok(()),
            Some(mut kept) => {
                kept.dead_at = Some(now().number());
                kept.write(&from)
            }
        };
        let mut state = self.usable()?;
        let moved = written.and_then(|()| self.move_to(&from, &self.place_of(Place::Dead, id)));
        self.settled(&mut state, id, moved)?;
        if let Some(entry) = state.entries.get_mut(&id) {
            entry.place = Place::Dead;
        }
        Ok(())
    }

    fn make_draft(&self, name: &str) -> io::Result<Draft> {
        let folder = self.0.folder.join("drafts").join(name);
        files::own_folder(&folder)?;
        Ok(Draft {
            queue: self.clone(),
            folder,
        })
    }

    /// Holds room and the key for a delivery that is being accepted; waits while another call holds the
    /// key.
    fn reserve(&self, new: &NewDelivery, bytes: u64) -> Result<Reserved, NotAccepted> {
        if new.patient.len() > PATIENT_NUMBERS_MAX {
            return Err(NotAccepted::Unusable);
        }
        let mut state = self.state();
        while state.in_flight.contains(&new.key) {
            let waited = self.0.settled.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let known = state.keys.get(&new.key).copied();
        if let Some(id) = known.or_else(|| state.done.find(&new.key)) {
            return match state.broken {
                // It may be one whose last step failed.
                true => Err(NotAccepted::Broken),
                false => Ok(Reserved::Known(id)),
            };
        }
        state.room(&self.0.bounds, bytes)?;
        state.in_flight.insert(new.key);
        state.bytes += bytes;
        let moment = now().number().max(state.last_moment.saturating_add(1));
        state.last_moment = moment;
        Ok(Reserved::Held(Held {
            queue: self.clone(),
            key: new.key,
            bytes,
            id: DeliveryId::new(moment, SystemRandom.next_u64()),
            kept: false,
        }))
    }

    fn page(&self, after: Option<DeliveryId>, of: impl Fn(Place) -> bool) -> Vec<DeliveryId> {
        let state = self.state();
        let all = state.entries.iter();
        all.filter(|(id, entry)| after.is_none_or(|after| **id > after) && of(entry.place))
            .map(|(id, _)| *id)
            .take(LISTED_MAX)
            .collect()
    }

    fn dead_folder(&self, state: &State, id: DeliveryId) -> Result<PathBuf, QueueError> {
        match state.entries.get(&id).map(|entry| entry.place) {
            None => Err(QueueError::Unknown(id)),
            Some(Place::Dead) => Ok(self.place_of(Place::Dead, id)),
            Some(Place::Waiting { .. } | Place::Claimed) => Err(QueueError::NotDead(id)),
        }
    }

    fn place_of(&self, place: Place, id: DeliveryId) -> PathBuf {
        let folder = match place {
            Place::Waiting { .. } | Place::Claimed => "waiting",
            Place::Dead => "dead",
        };
        self.0.folder.join(folder).join(id.to_string())
    }

    fn look(&self, folder: &Path) -> Result<Option<Look>, QueueError> {
        Look::at(folder).map_err(|error| QueueError::Folder(self.0.folder.clone(), error))
    }

    fn move_to(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        for path in [from, to] {
            if let Some(parent) = path.parent() {
                files::sync_folder(parent)?;
            }
        }
        Ok(())
    }

    /// Frees the disk of what is done. What cannot be removed now is removed when the queue is opened
    /// next.
    fn clear(&self, id: DeliveryId) {
        let folder = self.0.folder.join("removing").join(id.to_string());
        if let Err(error) = files::remove(&folder) {
            tracing::warn!(%id, %error, "the files of a delivery that is done are still on the disk");
        }
    }

    fn usable(&self) -> Result<MutexGuard<'_, State>, QueueError> {
        let state = self.state();
        match state.broken {
            true => Err(QueueError::Broken),
            false => Ok(state),
        }
    }

    /// A change that failed half-way leaves memory and disk apart, unless there was no room for it.
    fn trusted<T>(&self, state: &mut State, changed: io::Result<T>) -> Result<T, QueueError> {
        changed.map_err(|error| {
            state.broken |= !is_full(&error);
            QueueError::Folder(self.0.folder.clone(), error)
        })
    }

    /// As [`Self::trusted`], of a claimed delivery: one for which nothing could be changed is tried again.
    fn settled(
        &self,
        state: &mut State,
        id: DeliveryId,
        changed: io::Result<()>,
    ) -> Result<(), QueueError> {
        let settled = self.trusted(state, changed);
        if settled.is_err()
            && let Some(entry) = state.entries.get_mut(&id)
        {
            let next_try = Timestamp::new(now().number().saturating_add(SET_BACK_MS));
            entry.place = Place::Waiting { next_try };
        }
        settled
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it is held leaves no half change: memory is changed after the disk.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Queue").field(&self.0.folder).finish()
    }
}

impl State {
    fn read(folder: &Path) -> io::Result<Self> {
        for name in ["drafts", "waiting", "dead", "removing"] {
            files::own_folder(&folder.join(name))?;
        }
        for (name, prefix) in [("drafts", ONCE), ("removing", "")] {
            for entry in fs::read_dir(folder.join(name))? {
                let entry = entry?;
                if entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
                    files::remove(&entry.path())?;
                }
            }
        }
        let done = Done::open(&folder.join("done.log"))?;
        let mut state = Self {
            entries: BTreeMap::new(),
            keys: HashMap::new(),
            bytes: 0,
            in_flight: HashSet::new(),
            last_moment: done.last_moment(),
            done,
            broken: false,
        };
        state.read_deliveries(folder, Place::Dead)?;
        let next_try = Timestamp::new(0);
        state.read_deliveries(folder, Place::Waiting { next_try })?;
        files::sync_folder(folder)?;
        Ok(state)
    }

    fn read_deliveries(&mut self, folder: &Path, place: Place) -> io::Result<()> {
        let dead = folder.join("dead");
        let waiting = folder.join("waiting");
        let here = if place == Place::Dead {
            &dead
        } else {
            &waiting
        };
        for entry in fs::read_dir(here)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
                tracing::warn!("something that is no delivery lies in the queue's folder");
                continue;
            };
            let (key, bytes, place) = match (Look::at(&entry.path())?, place) {
                (None, _) => continue,
                (Some(Look::Readable(kept)), Place::Dead) => {
                    (Some(kept.key), kept.bytes(), Place::Dead)
                }
                (Some(Look::Readable(kept)), _) => {
                    if self.done.find(&kept.key) == Some(id) {
                        // Delivered and remembered; the process stopped before it was removed.
                        files::remove(&entry.path())?;
                        continue;
                    }
                    let next_try = Timestamp::new(kept.next_try);
                    (Some(kept.key), kept.bytes(), Place::Waiting { next_try })
                }
                (Some(Look::Damaged(files)), place) => {
                    tracing::error!(%id, "what describes a delivery cannot be read");
                    if place != Place::Dead {
                        fs::rename(entry.path(), dead.join(&name))?;
                        files::sync_folder(&dead)?;
                    }
                    (None, bytes_of(&files), Place::Dead)
                }
            };
            self.last_moment = self.last_moment.max(id.moment());
            self.bytes = self.bytes.saturating_add(bytes);
            self.keys.extend(key.map(|key| (key, id)));
            self.entries.insert(id, Entry { key, bytes, place });
        }
        files::sync_folder(here)
    }

    fn room(&self, bounds: &QueueBounds, bytes: u64) -> Result<(), NotAccepted> {
        if self.broken {
            return Err(NotAccepted::Broken);
        }
        if bytes > bounds.bytes_max {
            return Err(NotAccepted::TooLarge);
        }
        let count = self.entries.len() + self.in_flight.len();
        let fits = self.bytes.saturating_add(bytes) <= bounds.bytes_max;
        match count < bounds.deliveries_max && fits {
            true => Ok(()),
            false => Err(NotAccepted::Full),
        }
    }

    fn forget(&mut self, id: DeliveryId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.bytes = self.bytes.saturating_sub(entry.bytes);
            if let Some(key) = entry.key {
                self.keys.remove(&key);
            }
        }
    }
}

enum Reserved {
    Known(DeliveryId),
    Held(Held),
}

/// Room and key of a delivery that is being accepted, given back when this is dropped.
struct Held {
    queue: Queue,
    key: DeliveryKey,
    bytes: u64,
    id: DeliveryId,
    kept: bool,
}

impl Held {
    /// The delivery is in its place.
    fn keep(mut self) {
        let mut state = self.queue.state();
        let next_try = Timestamp::new(0);
        let entry = Entry {
            key: Some(self.key),
            bytes: self.bytes,
            place: Place::Waiting { next_try },
        };
        state.entries.insert(self.id, entry);
        state.keys.insert(self.key, self.id);
        drop(state);
        self.kept = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.in_flight.remove(&self.key);
        if !self.kept {
            state.bytes = state.bytes.saturating_sub(self.bytes);
        }
        drop(state);
        self.queue.0.settled.notify_all();
        if self.kept {
            self.queue.0.wake.notify_one();
        }
    }
}

/// A folder in which a source puts a delivery together. It stays until it is accepted or removed, also
/// when the process stops.
pub struct Draft {
    queue: Queue,
    folder: PathBuf,
}

impl Draft {
    /// The folder. Its user alone may enter it; what lies in it that the delivery does not name is
    /// removed with the delivery.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Accepts the draft with these files, which are in its folder; returns once it is durable. Then the
    /// draft is gone, also if the delivery was known already.
    ///
    /// # Errors
    /// [`NotAccepted`]; then the draft is as it was.
    pub fn accept(
        &self,
        new: &NewDelivery,
        files: Vec<DraftFile>,
    ) -> Result<Accepted, NotAccepted> {
        let measured = self.measure(&files)?;
        match self.queue.reserve(new, measured.iter().sum())? {
            Reserved::Held(held) => self.finish(new, files, &measured, held),
            Reserved::Known(id) => {
                files::remove(&self.folder)?;
                Ok(Accepted::Repeated(id))
            }
        }
    }

    /// Removes the draft with all that is in it.
    ///
    /// # Errors
    /// [`io::Error`].
    pub fn remove(&self) -> io::Result<()> {
        files::remove(&self.folder)
    }

    fn write(&self, files: Vec<NewFile>) -> Result<Vec<DraftFile>, NotAccepted> {
        if files.len() > FILES_MAX {
            return Err(NotAccepted::TooManyFiles);
        }
        let mut written = Vec::new();
        for (number, file) in files.into_iter().enumerate() {
            let stored = PathBuf::from(format!("{number:04}"));
            files::own_file(&self.folder.join(&stored))?.write_all(&file.bytes)?;
            written.push(DraftFile {
                stored,
                name: file.name,
                media_type: file.media_type,
            });
        }
        Ok(written)
    }

    /// The length of each file.
    fn measure(&self, files: &[DraftFile]) -> Result<Vec<u64>, NotAccepted> {
        if files.is_empty() {
            return Err(NotAccepted::Empty);
        }
        if files.len() > FILES_MAX {
            return Err(NotAccepted::TooManyFiles);
        }
        let mut lengths = Vec::with_capacity(files.len());
        let mut total: u64 = 0;
        for file in files {
            if !is_below(&file.stored) || file.stored.as_os_str() == DESCRIPTION {
                return Err(NotAccepted::Unusable);
            }
            let found = fs::symlink_metadata(self.folder.join(&file.stored))?;
            if !found.is_file() {
                return Err(NotAccepted::Unusable);
            }
            total = total.saturating_add(found.len());
            if found.len() > FILE_BYTES_MAX || total > RECORD_BYTES_MAX {
                return Err(NotAccepted::TooLarge);
            }
            lengths.push(found.len());
        }
        Ok(lengths)
    }

    fn finish(
        &self,
        new: &NewDelivery,
        files: Vec<DraftFile>,
        lengths: &[u64],
        held: Held,
    ) -> Result<Accepted, NotAccepted> {
        let queue = &self.queue;
        // Of the draft's folders; its own is made durable with the description.
        let mut folders = HashSet::new();
        for file in &files {
            let path = self.folder.join(&file.stored);
            // A file that could not be made durable once may seem durable the next time.
            self.trusted(File::open(&path)?.sync_all())?;
            let parents = path.ancestors().skip(1);
            folders.extend(
                parents
                    .take_while(|parent| *parent != self.folder)
                    .map(Path::to_owned),
            );
        }
        let kept = Description {
            format: FORMAT,
            id: held.id,
            source: new.source,
            key: new.key,
            reference: cut(&new.reference, REFERENCE_BYTES_MAX),
            patient: new.patient.clone(),
            files: files
                .into_iter()
                .zip(lengths)
                .map(|(file, bytes)| FileDescription {
                    stored: percent_encode(file.stored.as_os_str().as_bytes(), PLAIN).to_string(),
                    name: file.name.as_str().to_owned(),
                    media_type: file.media_type.map(|kind| kind.as_str().to_owned()),
                    bytes: *bytes,
                })
                .collect(),
            accepted_at: now().number(),
            tries: 0,
            next_try: 0,
            last_failure: None,
            dead_at: None,
        };
        for folder in folders {
            self.trusted(files::sync_folder(&folder))?;
        }
        self.trusted(kept.write(&self.folder))?;
        let id = held.id;
        let place = Place::Claimed;
        let to = queue.place_of(place, id);
        fs::rename(&self.folder, &to)?;
        let drafts = queue.0.folder.join("drafts");
        let synced = to
            .parent()
            .map_or(Ok(()), files::sync_folder)
            .and_then(|()| files::sync_folder(&drafts));
        // From the rename on it is among the waiting, whether or not that is durable.
        held.keep();
        self.trusted(synced)?;
        Ok(Accepted::New(id))
    }

    fn trusted(&self, synced: io::Result<()>) -> Result<(), NotAccepted> {
        synced.map_err(|error| {
            self.queue.state().broken |= !is_full(&error);
            NotAccepted::Disk(error)
        })
    }
}

/// What is found in a delivery's folder.
enum Look {
    Readable(Box<Description>),
    /// What lies in it.
    Damaged(Vec<FileSummary>),
}

impl Look {
    /// `None` if there is no folder.
    fn at(folder: &Path) -> io::Result<Option<Self>> {
        match fs::symlink_metadata(folder) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let text = match files::read(&folder.join(DESCRIPTION), DESCRIPTION_BYTES_MAX) {
            Ok(text) => text.unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Vec::new(),
            Err(error) => return Err(error),
        };
        let kept: Option<Box<Description>> = serde_json::from_slice(&text).ok();
        let id = folder.file_name().and_then(|name| name.to_str());
        match kept {
            Some(kept) if kept.is_sound() && id == Some(&kept.id.to_string()) => {
                Ok(Some(Self::Readable(kept)))
            }
            _ => Ok(Some(Self::Damaged(list(folder)?))),
        }
    }

    fn summary(&self, id: DeliveryId) -> Summary {
        match self {
            Self::Readable(kept) => Summary {
                id,
                source: Some(kept.source),
                reference: kept.reference.clone(),
                patient: kept.patient.clone(),
                files: kept
                    .files
                    .iter()
                    .take(FILES_LISTED_MAX)
                    .map(|file| FileSummary {
                        name: file.name.clone(),
                        bytes: file.bytes,
                    })
                    .collect(),
                file_count: kept.files.len(),
                bytes: kept.bytes(),
                accepted_at: kept.accepted_at,
                tries: kept.tries,
            },
            Self::Damaged(files) => Summary {
                id,
                source: None,
                reference: String::new(),
                patient: Vec::new(),
                file_count: files.len(),
                bytes: bytes_of(files),
                files: files.iter().take(FILES_LISTED_MAX).cloned().collect(),
                accepted_at: id.moment(),
                tries: 0,
            },
        }
    }

    fn letter(&self, id: DeliveryId) -> DeadLetter {
        let (dead_at, reason) = match self {
            Self::Readable(kept) => (kept.dead_at, kept.last_failure.clone()),
            Self::Damaged(_) => (None, Some(DAMAGED.to_owned())),
        };
        DeadLetter {
            delivery: self.summary(id),
            dead_at: dead_at.unwrap_or(id.moment()),
            reason: reason.unwrap_or_default(),
        }
    }
}

impl Description {
    fn write(&self, folder: &Path) -> io::Result<()> {
        files::replace(&folder.join(DESCRIPTION), &serde_json::to_vec(self)?)
    }

    /// Whether it can be turned to a [`Delivery`].
    fn is_sound(&self) -> bool {
        self.format == FORMAT
            && !self.files.is_empty()
            && self.files.len() <= FILES_MAX
            && self.files.iter().all(|file| file.read().is_some())
    }

    /// Whether every file is there with the length that was accepted.
    fn is_whole(&self, folder: &Path) -> bool {
        self.files.iter().all(|file| {
            let path = file.read().map(|(stored, ..)| folder.join(stored));
            let found = path.and_then(|path| fs::symlink_metadata(path).ok());
            found.is_some_and(|found| found.is_file() && found.len() == file.bytes)
        })
    }

    fn bytes(&self) -> u64 {
        let lengths = self.files.iter().map(|file| file.bytes);
        lengths.fold(0, u64::saturating_add)
    }

    fn delivery(&self, folder: &Path) -> Delivery {
        let files = self.files.iter().filter_map(|file| {
            let (stored, name, media_type) = file.read()?;
            Some(DeliveredFile {
                name,
                media_type,
                bytes: file.bytes,
                path: folder.join(stored),
            })
        });
        Delivery {
            id: self.id,
            source: self.source,
            reference: self.reference.clone(),
            patient: self.patient.clone(),
            files: files.collect(),
            accepted_at: Timestamp::new(self.accepted_at),
            tries: self.tries,
        }
    }
}

impl FileDescription {
    /// Where it is, its name and media type; `None` if they are not usable.
    fn read(&self) -> Option<(PathBuf, FileName, Option<MediaType>)> {
        let stored = percent_decode_str(&self.stored).collect();
        let stored = PathBuf::from(std::ffi::OsString::from_vec(stored));
        let name = FileName::new(&self.name).ok()?;
        let media_type = match &self.media_type {
            Some(text) => Some(MediaType::new(text).ok()?),
            None => None,
        };
        is_below(&stored).then_some((stored, name, media_type))
    }
}

/// Whether a disk has no room: then nothing was changed, since what is written anew takes the old one's
/// place only when it is whole.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// Whether a path stays in the folder that it is joined to.
fn is_below(path: &Path) -> bool {
    let mut parts = path.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

fn list(folder: &Path) -> io::Result<Vec<FileSummary>> {
    let mut files = Vec::new();
    // What is damaged may hold anything; more than this is not counted.
    for entry in fs::read_dir(folder)?.take(FILES_MAX) {
        let entry = entry?;
        files.push(FileSummary {
            name: entry.file_name().to_string_lossy().into_owned(),
            bytes: entry.metadata()?.len(),
        });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn bytes_of(files: &[FileSummary]) -> u64 {
    let lengths = files.iter().map(|file| file.bytes);
    lengths.fold(0, u64::saturating_add)
}

fn append_line(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&line)?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), files::sync_folder)
}

fn sentence(text: &str) -> String {
    let plain = text.trim().chars().take(SENTENCE_CHARS_MAX);
    plain
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The begin of a text that has at most so many bytes.
fn cut(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}
