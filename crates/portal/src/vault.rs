//! A person's open keystore behind the pages: one thing is done with it at a time, pages show what was
//! seen last, and nothing of it is left in memory once it is locked.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard};
use workstation::{Network, WorkError};

use crate::app::{App, locked};

/// After so long without a call by the person the keystore is locked.
pub(crate) const LOCKED_AFTER: Duration = Duration::from_secs(15 * 60);

/// A person's program.
pub(crate) trait Desk: Send + Sized + 'static {
    /// What pages show of it.
    type View: Clone + Default + PartialEq + Send + 'static;

    fn open(network: Network, keystore: &Path, passphrase: &str) -> Result<Self, WorkError>;

    /// What it has without asking anybody.
    fn look(&self, view: &mut Self::View);

    /// What the services and the chain say now.
    fn follow(
        &mut self,
        view: &mut Self::View,
    ) -> impl Future<Output = Result<(), WorkError>> + Send;
}

/// When something was asked last. It is nothing that a page shows, so it makes no two views different.
#[derive(Clone, Default)]
pub(crate) struct Asked(Option<Instant>);

impl PartialEq for Asked {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Asked {
    /// Whether it is to be asked again; then it counts as asked.
    pub(crate) fn is_due(&mut self, every: Duration) -> bool {
        let due = self.0.is_none_or(|at| at.elapsed() >= every);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// What was seen last, and why it is not newer.
#[derive(Clone)]
pub(crate) struct Seen<V> {
    pub(crate) view: V,
    /// Why the last look at the services failed.
    pub(crate) away: Option<String>,
}

pub(crate) struct Vault<D: Desk> {
    founding: PathBuf,
    keystore: PathBuf,
    desk: AsyncMutex<Option<D>>,
    seen: Mutex<Seen<D::View>>,
    open: AtomicBool,
    touched: Mutex<Instant>,
}

/// A keystore, whoever's it is.
pub(crate) trait Lock: Send + Sync {
    fn is_open(&self) -> bool;
    /// The file.
    fn name(&self) -> String;
    /// The person did something.
    fn touch(&self);
    fn unlock<'a>(&'a self, passphrase: &'a str) -> Waiting<'a, Result<(), WorkError>>;
    /// Pages refuse from here on.
    fn shut(&self);
    /// Forgets every secret, once what is being done has ended.
    fn lock(&self) -> Waiting<'_, ()>;
    /// Whether nobody has used it for [`LOCKED_AFTER`].
    fn is_idle(&self) -> bool;
    /// Looks at the services unless something is being done.
    fn follow<'a>(&'a self, app: &'a App) -> Waiting<'a, ()>;
}

pub(crate) type Waiting<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl<D: Desk> Vault<D> {
    pub(crate) fn new(founding: PathBuf, keystore: PathBuf) -> Self {
        Self {
            founding,
            keystore,
            desk: AsyncMutex::new(None),
            seen: Mutex::new(Seen {
                view: D::View::default(),
                away: None,
            }),
            open: AtomicBool::new(false),
            touched: Mutex::new(Instant::now()),
        }
    }

    /// The file.
    pub(crate) fn keystore(&self) -> &Path {
        &self.keystore
    }

    /// What was seen last.
    pub(crate) fn seen(&self) -> Seen<D::View> {
        locked(&self.seen).clone()
    }

    /// The open keystore, once nothing else is done with it.
    pub(crate) async fn desk(&self) -> Result<Held<'_, D>, WorkError> {
        let held = self.desk.lock().await;
        if held.is_some() {
            Ok(Held { vault: self, held })
        } else {
            Err(WorkError::Not(
                "the keystore was locked: unlock it and try again".to_owned(),
            ))
        }
    }

    fn note(&self, desk: &D) {
        desk.look(&mut locked(&self.seen).view);
    }
}

/// The open keystore while one thing is done with it; what it changed is seen afterwards.
pub(crate) struct Held<'a, D: Desk> {
    vault: &'a Vault<D>,
    held: MutexGuard<'a, Option<D>>,
}

impl<D: Desk> Held<'_, D> {
    pub(crate) fn desk(&mut self) -> &mut D {
        self.held
            .as_mut()
            .expect("it was open when it was taken, and is held since")
    }

    /// What was seen last, to be changed by what is found now.
    pub(crate) fn see(&mut self, change: impl FnOnce(&mut D::View)) {
        change(&mut locked(&self.vault.seen).view);
    }
}

impl<D: Desk> Drop for Held<'_, D> {
    fn drop(&mut self) {
        if let Some(desk) = self.held.as_ref() {
            self.vault.note(desk);
        }
    }
}

impl<D: Desk> Lock for Vault<D> {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    fn name(&self) -> String {
        self.keystore.display().to_string()
    }

    fn touch(&self) {
        *locked(&self.touched) = Instant::now();
    }

    fn unlock<'a>(&'a self, passphrase: &'a str) -> Waiting<'a, Result<(), WorkError>> {
        Box::pin(async move {
            let mut held = self.desk.lock().await;
            if held.is_none() {
                // Stretching the passphrase takes a moment of one core.
                let desk = tokio::task::block_in_place(|| {
                    D::open(Network::open(&self.founding)?, &self.keystore, passphrase)
                })?;
                self.note(&desk);
                *held = Some(desk);
            }
            self.touch();
            self.open.store(true, Ordering::Relaxed);
            Ok(())
        })
    }

    fn is_idle(&self) -> bool {
        self.is_open() && locked(&self.touched).elapsed() > LOCKED_AFTER
    }

    fn shut(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> Waiting<'_, ()> {
        Box::pin(async move {
            self.shut();
            *self.desk.lock().await = None;
            *locked(&self.seen) = Seen {
                view: D::View::default(),
                away: None,
            };
        })
    }

    fn follow<'a>(&'a self, app: &'a App) -> Waiting<'a, ()> {
        Box::pin(async move {
            if !self.is_open() {
                return;
            }
            let Ok(mut held) = self.desk.try_lock() else {
                return;
            };
            let Some(desk) = held.as_mut() else {
                return;
            };
            let mut seen = self.seen();
            let before = seen.view.clone();
            let away = seen.away.take();
            let followed = desk.follow(&mut seen.view).await;
            desk.look(&mut seen.view);
            seen.away = followed.err().map(|error| client::sentence(&error));
            if seen.view != before || seen.away != away {
                *locked(&self.seen) = seen;
                app.changed();
            }
        })
    }
}
