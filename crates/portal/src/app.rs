//! What every page knows: the place it lies at, the language, what is being done, what was typed.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use workstation::Network;

use crate::consortium::Watched;
use crate::forms::Forms;
use crate::guard::Keys;
use crate::jobs::Jobs;
use crate::vault::Lock;
use crate::words::Language;

pub(crate) type Shared = Arc<App>;

/// Whose pages these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Doctor,
    Patient,
    Agent,
    /// Somebody whose keys are not made yet.
    Newcomer,
    /// Somebody without a keystore, who watches the consortium.
    Nobody,
}

/// What a person's pages keep of opened records.
pub(crate) trait Keeper: Send + Sync {
    /// Some time has passed: what may not be shown any more is removed.
    fn tick(&self, app: &App);
    /// The keystore was locked: every opened record is removed. What waits to be sealed stays.
    fn close(&self);
}

/// One start of the pages.
pub(crate) struct App {
    pub(crate) keys: Arc<Keys>,
    /// As browsers name it: address and port.
    pub(crate) host: String,
    pub(crate) who: Who,
    pub(crate) network: Network,
    pub(crate) lock: Option<Arc<dyn Lock>>,
    pub(crate) jobs: Jobs,
    pub(crate) forms: Forms,
    pub(crate) watched: Watched,
    language: AtomicU8,
    version: AtomicU64,
    chain_version: AtomicU64,
    notice: Mutex<Option<String>>,
    keeper: OnceLock<Arc<dyn Keeper>>,
}

impl App {
    pub(crate) fn new(
        keys: Arc<Keys>,
        host: String,
        who: Who,
        network: Network,
        lock: Option<Arc<dyn Lock>>,
    ) -> Self {
        Self {
            keys,
            host,
            who,
            network,
            lock,
            jobs: Jobs::default(),
            forms: Forms::default(),
            watched: Watched::default(),
            language: AtomicU8::new(Language::English.code()),
            version: AtomicU64::new(0),
            chain_version: AtomicU64::new(0),
            notice: Mutex::default(),
            keeper: OnceLock::new(),
        }
    }

    /// A path of these pages as a browser asks for it.
    pub(crate) fn at(&self, path: &str) -> String {
        at(&self.keys.place, path)
    }

    pub(crate) fn language(&self) -> Language {
        Language::of_code(self.language.load(Ordering::Relaxed))
    }

    pub(crate) fn speak(&self, language: Language) {
        self.language.store(language.code(), Ordering::Relaxed);
    }

    /// Something that pages show is different now.
    pub(crate) fn changed(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    /// Grows with each change.
    pub(crate) fn version(&self) -> String {
        self.version.load(Ordering::Relaxed).to_string()
    }

    /// Something that the consortium's pages show is different now.
    pub(crate) fn watched_changed(&self) {
        self.chain_version.fetch_add(1, Ordering::Relaxed);
    }

    /// Grows with each change of the consortium's pages too.
    pub(crate) fn version_with_chain(&self) -> String {
        let chain = self.chain_version.load(Ordering::Relaxed);
        format!("{}.{chain}", self.version())
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| !lock.is_open())
    }

    /// Who keeps opened records; said once, when the pages are made.
    pub(crate) fn kept_by(&self, keeper: Arc<dyn Keeper>) {
        let _ = self.keeper.set(keeper);
    }

    pub(crate) fn tick(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.tick(self);
        }
    }

    /// Locks the keystore and removes every opened record. What is being done ends first; pages refuse at
    /// once.
    pub(crate) async fn close(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.close();
        }
        if let Some(lock) = &self.lock {
            lock.lock().await;
        }
        // What was being done may have opened another one.
        if let Some(keeper) = self.keeper.get() {
            keeper.close();
        }
        self.changed();
    }

    /// Says something on the next page that is shown.
    pub(crate) fn tell(&self, text: String) {
        *locked(&self.notice) = Some(text);
    }

    pub(crate) fn told(&self) -> Option<String> {
        locked(&self.notice).take()
    }
}

/// A path below a place; the place itself if it is empty.
pub(crate) fn at(place: &str, path: &str) -> String {
    match path {
        "" => format!("/{place}"),
        path => format!("/{place}/{path}"),
    }
}

/// A panic elsewhere leaves nothing half done that is kept here.
pub(crate) fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
