//! Listening, the routes, and looking at the services while the pages are open.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Form, Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Json, Redirect, Response};
use axum::routing::{get, post};
use client::SystemRandom;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::TcpListener;
use tower_service::Service;
use workstation::{
    AgentDevice, DoctorDesk, Keystore, KeystoreError, KeystoreKind, Network, WorkError,
};

use crate::app::{App, Shared, Who};
use crate::forms::FORM_BYTES_MAX;
use crate::frame::missing;
use crate::guard::{self, Keys};
use crate::vault::{Lock, Vault};
use crate::words::Language;
use crate::{agent, assets, consortium, doctor, jobs, lock, newcomer, patient};

/// How often the services are asked what is new.
const LOOK: Duration = Duration::from_millis(1_500);

/// After how many looks open pages are written anew, since times and what is left of them change.
const REWRITE: u64 = 20;

/// What the pages are for.
pub struct Settings {
    /// The consortium's founding folder.
    pub founding: PathBuf,
    /// Whose pages: a doctor's, a patient's or an agent's keystore. One that is not there yet is made on the
    /// first page. Without one they show the consortium.
    pub keystore: Option<PathBuf>,
    /// At which port of the loopback address; 0 for any.
    pub port: u16,
}

/// Why there are no pages.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PortalError {
    /// The port is taken.
    #[error("port {0} of this machine cannot be used: {1}; choose another one or leave it out")]
    Port(u16, #[source] io::Error),
    /// The consortium's founding folder or the keystore cannot be used.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The keystore cannot be read.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// It is an officer's.
    #[error("an officer's keystore has no pages: use `willis officer` or `willis it`")]
    Officer,
}

/// Pages that are being served.
pub struct Portal {
    listener: TcpListener,
    stage: Arc<Stage>,
}

/// Whose pages are served: a newcomer's become those of the person whose keys were made.
pub(crate) struct Stage {
    keys: Arc<Keys>,
    host: String,
    now: RwLock<Option<(Shared, Router)>>,
}

impl Stage {
    /// Serves the pages of whose keystore it is from now on.
    ///
    /// # Errors
    /// [`PortalError`].
    pub(crate) fn open(
        self: &Arc<Self>,
        founding: PathBuf,
        keystore: Option<PathBuf>,
    ) -> Result<(), PortalError> {
        let network = Network::open(&founding)?;
        let built = |who, network, lock| {
            let (keys, host) = (self.keys.clone(), self.host.clone());
            Arc::new(App::new(keys, host, who, network, lock))
        };
        let (app, own) = match keystore {
            None => {
                let app = built(Who::Nobody, network, None);
                (app.clone(), consortium::first(&app))
            }
            Some(keystore) if !keystore.exists() => {
                let app = built(Who::Newcomer, network, None);
                let stage = Arc::downgrade(self);
                (
                    app.clone(),
                    newcomer::pages(&app, stage, founding, keystore),
                )
            }
            Some(keystore) => match Keystore::kind(&keystore)? {
                KeystoreKind::Doctor => {
                    let vault = Arc::new(Vault::<DoctorDesk>::new(founding, keystore));
                    let app = built(Who::Doctor, network, Some(vault.clone() as Arc<dyn Lock>));
                    (app.clone(), doctor::pages(&app, vault)?)
                }
                KeystoreKind::Patient => {
                    let vault = Arc::new(Vault::new(founding, keystore));
                    let app = built(Who::Patient, network, Some(vault.clone() as Arc<dyn Lock>));
                    (app.clone(), patient::pages(&app, vault)?)
                }
                KeystoreKind::Agent => {
                    let vault = Arc::new(Vault::<AgentDevice>::new(founding, keystore));
                    let app = built(Who::Agent, network, Some(vault.clone() as Arc<dyn Lock>));
                    (app.clone(), agent::pages(&app, vault))
                }
                KeystoreKind::Officer => return Err(PortalError::Officer),
            },
        };
        let pages = all(&app, own);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Some((app, pages));
        Ok(())
    }

    fn now(&self) -> (Shared, Router) {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        now.clone()
            .expect("pages were opened before they are served")
    }

    /// Whose pages are served.
    pub(crate) fn app(&self) -> Shared {
        self.now().0
    }
}

impl Portal {
    /// Listens on the loopback address. Nothing is unlocked by that. A keystore that is not there yet is made
    /// on the first page.
    ///
    /// # Errors
    /// [`PortalError`].
    pub async fn bind(settings: Settings) -> Result<Self, PortalError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, settings.port));
        let taken = |error| PortalError::Port(settings.port, error);
        let listener = TcpListener::bind(address).await.map_err(taken)?;
        let host = listener.local_addr().map_err(taken)?.to_string();
        let stage = Arc::new(Stage {
            keys: Arc::new(Keys::random(&mut SystemRandom)),
            host,
            now: RwLock::new(None),
        });
        stage.open(settings.founding, settings.keystore)?;
        Ok(Self { listener, stage })
    }

    /// The address to open, with the code that lets a browser in.
    pub fn address(&self) -> String {
        format!("http://{}{}", self.stage.host, self.stage.keys.entry())
    }

    /// Unlocks the keystore before anybody asks for it; nothing without one.
    ///
    /// # Errors
    /// [`WorkError`] if the passphrase is wrong.
    pub async fn unlock(&self, passphrase: &str) -> Result<(), WorkError> {
        match &self.stage.app().lock {
            Some(lock) => lock.unlock(passphrase).await,
            None => Ok(()),
        }
    }

    /// Serves until `ended`; then the keystore is locked.
    ///
    /// # Errors
    /// [`io::Error`] if the listener fails.
    pub async fn serve(self, ended: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let stage = self.stage.clone();
        let looks = tokio::spawn(async move {
            for look in 1_u64.. {
                let app = stage.app();
                if let Some(lock) = &app.lock {
                    if lock.is_idle() && !app.jobs.any() {
                        app.close().await;
                    }
                    lock.follow(&app).await;
                }
                app.tick();
                if look.is_multiple_of(REWRITE) {
                    app.changed();
                }
                consortium::follow(&app).await;
                tokio::time::sleep(LOOK).await;
            }
        });
        let stage = self.stage.clone();
        let pages = Router::new().fallback(move |request: Request| {
            let (_, mut pages) = stage.now();
            async move { pages.call(request).await }
        });
        let served = axum::serve(self.listener, pages)
            .with_graceful_shutdown(ended)
            .await;
        looks.abort();
        self.stage.app().close().await;
        served
    }
}

fn all(app: &Shared, own: Router) -> Router {
    let shared = Router::new()
        .route("/assets/{*name}", get(assets::file))
        .route("/pulse", get(pulse))
        .route("/language", post(speak))
        .route("/unlock", get(lock::show).post(lock::unlock))
        .route("/lock", post(lock::lock))
        .with_state(app.clone())
        .merge(consortium::pages(app));
    let jobs = Router::new()
        .route("/jobs/{id}", get(jobs::show))
        .with_state(app.clone());
    let personal = own.merge(jobs);
    let personal = match app.lock {
        None => personal,
        Some(_) => personal.layer(from_fn_with_state(app.clone(), lock::check)),
    };
    let nowhere = {
        let app = app.clone();
        move || async move { missing(&app) }
    };
    Router::new()
        .nest(&format!("/{}", app.keys.place), shared.merge(personal))
        .fallback(nowhere)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(from_fn_with_state(app.clone(), guard::check))
}

#[derive(Serialize)]
struct Pulse {
    version: String,
    /// The same of the consortium's pages.
    chain: String,
    locked: bool,
}

/// Whether a page that is open shows the newest.
async fn pulse(State(app): State<Shared>) -> Json<Pulse> {
    Json(Pulse {
        version: app.version(),
        chain: app.version_with_chain(),
        locked: app.is_locked(),
    })
}

#[derive(Deserialize)]
struct Speak {
    language: String,
}

async fn speak(
    State(app): State<Shared>,
    headers: axum::http::HeaderMap,
    Form(form): Form<Speak>,
) -> Response {
    app.speak(match form.language.as_str() {
        "zh" => Language::Chinese,
        _ => Language::English,
    });
    // Back to the page that it was said on, if it is one of ours.
    let own = format!("http://{}/{}/", app.host, app.keys.place);
    let from = headers.get(axum::http::header::REFERER);
    let path = from.and_then(|from| from.to_str().ok()?.strip_prefix(&own));
    Redirect::to(&app.at(path.unwrap_or_default())).into_response()
}
