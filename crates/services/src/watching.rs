//! How a role is watched: a small listener beside its own, for the machines that supervise it.
//!
//! | path | says |
//! |---|---|
//! | `GET /live` | that the process answers |
//! | `GET /ready` | whether the role can do its work: each check with what it found and what to do; status 503 if one fails |
//! | `GET /metrics` | numbers (OpenMetrics 1.0) |
//!
//! It speaks plain HTTP and knows nobody, so it shows nothing that would have to be kept from whoever is
//! in the operator's network: counts, heights, times, numbers of institutions, never anything about a
//! person, a record, a grant or a caller. It listens where the configuration says, on a loopback address
//! or on one of this machine's own, but never on all of them at once (`0.0.0.0`, `[::]`): then it would
//! answer on the address that users reach too, unseen.
//!
//! The role is looked at at most once in [`LOOK_EVERY`], however often anyone asks, so that watching is
//! no way to load it.

mod checks;
mod measures;

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::future::BoxFuture;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::http::{Measured, Server, ServerError};

pub use checks::{Check, chain_answers, database_answers};
pub use measures::IntakeCounts;
pub(crate) use measures::*;

/// How old an answer can be.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a look may take: below the 10 s after which Prometheus gives a scrape up.
const LOOK_BOUND: Duration = Duration::from_secs(8);
/// How often folders are measured.
const FOLDERS_EVERY: Duration = Duration::from_secs(60);
/// As the system counts what a file takes on a disk.
const BLOCK_BYTES: u64 = 512;
/// Files that are measured at most: reading the size of 100,000 takes some 100 ms.
const FILES_MAX: usize = 100_000;

/// What a role lets be watched.
pub trait Watched: Send + Sync + 'static {
    /// Looks at the role.
    fn look(&self) -> BoxFuture<'_, Look>;
}

/// What one look found.
#[derive(Debug, Clone, Default)]
pub struct Look {
    pub(crate) checks: Vec<Check>,
    pub(crate) samples: Vec<Sample>,
}

impl Look {
    /// Of a gateway: its checks, under how many grants documents are open, and what systems gave without
    /// a call; neither of both if it cannot say.
    pub fn at_gateway(
        checks: Vec<Check>,
        grants: Option<usize>,
        intake: Option<IntakeCounts>,
    ) -> Self {
        let grants = grants.map(|count| Sample::new(&GATEWAY_GRANTS, count));
        let mut samples: Vec<_> = grants.into_iter().collect();
        samples.extend(intake.iter().flat_map(IntakeCounts::samples));
        Self { checks, samples }
    }
}

/// Which role is watched, and what of it beside what it says itself.
#[derive(Debug, Clone)]
pub struct WatchedRole {
    /// The subcommand.
    pub name: &'static str,
    /// Folders whose bytes are measured, each with a name for it.
    pub folders: Vec<(&'static str, PathBuf)>,
}

impl WatchedRole {
    /// Without folders.
    pub fn of(name: &'static str) -> Self {
        Self {
            name,
            folders: Vec::new(),
        }
    }
}

/// A listener that runs until this is dropped.
pub struct Watching {
    task: tokio::task::JoinHandle<()>,
    address: SocketAddr,
}

impl Watching {
    /// Listens at `address`, and watches a role that is served by `server`. None without an address.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn start(
        address: Option<SocketAddr>,
        role: WatchedRole,
        server: &Server,
        watched: Arc<impl Watched>,
    ) -> Result<Option<Self>, ServerError> {
        let Some(address) = address else {
            return Ok(None);
        };
        let listener = Server::bind_watch(address).await?;
        let address = listener.address()?;
        let watch = Arc::new(Watch {
            watched,
            measured: server.measured(),
            certificate_end: server.certificate_end(),
            started: SystemTime::now(),
            look: Mutex::new(None),
            folders: Mutex::new(None),
            role,
        });
        let task = tokio::spawn(listener.serve(router(watch), std::future::pending()));
        Ok(Some(Self { task, address }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Watch<W> {
    watched: Arc<W>,
    measured: Arc<Measured>,
    certificate_end: Option<SystemTime>,
    started: SystemTime,
    /// The last look. Held while one is under way, so that there is one at a time.
    look: Mutex<Option<(Instant, Arc<Look>)>>,
    folders: Mutex<Option<(Instant, Vec<Sample>)>>,
    role: WatchedRole,
}

impl<W: Watched> Watch<W> {
    async fn look(&self) -> Arc<Look> {
        let mut last = self.look.lock().await;
        if let Some((at, look)) = &*last
            && at.elapsed() < LOOK_EVERY
        {
            return Arc::clone(look);
        }
        let look = tokio::time::timeout(LOOK_BOUND, self.watched.look()).await;
        let look = Arc::new(look.unwrap_or_else(|_| Look {
            checks: vec![Check::fails(
                "answers",
                format!("the role did not say within {LOOK_BOUND:?} how it is"),
                "see its log; if it stays so, start it again",
            )],
            samples: Vec::new(),
        }));
        *last = Some((Instant::now(), Arc::clone(&look)));
        look
    }

    async fn folders(&self) -> Vec<Sample> {
        let mut last = self.folders.lock().await;
        if let Some((at, samples)) = &*last
            && at.elapsed() < FOLDERS_EVERY
        {
            return samples.clone();
        }
        let folders = self.role.folders.clone();
        let measured = tokio::task::spawn_blocking(move || {
            let sized = folders.iter().filter_map(|(name, folder)| {
                let bytes = bytes_in(folder)?;
                Some(Sample::of(&FOLDER_BYTES, vec![Label::Text(name)], bytes))
            });
            sized.collect::<Vec<_>>()
        });
        let samples = measured.await.unwrap_or_default();
        *last = Some((Instant::now(), samples.clone()));
        samples
    }

    async fn text(&self) -> Result<String, std::fmt::Error> {
        let look = self.look().await;
        let mut samples = vec![
            Sample::of(
                &INFO,
                vec![self.role.name.into(), env!("CARGO_PKG_VERSION").into()],
                true,
            ),
            Sample::new(&START_TIME, seconds(self.started)),
        ];
        samples.extend(
            self.certificate_end
                .map(|end| Sample::new(&CERTIFICATE_END, seconds(end))),
        );
        let checks = look.checks.iter();
        samples.extend(checks.map(|check| Sample::of(&CHECK, vec![check.name.into()], check.ok)));
        samples.extend(self.folders().await);
        samples.extend(look.samples.iter().cloned());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Samples(samples)));
        let mut text = String::new();
        encode_registry(&mut text, &registry)?;
        encode_registry(&mut text, self.measured.registry())?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// Bytes that all files in a folder take on the disk; none if it cannot be read or has too many.
fn bytes_in(folder: &Path) -> Option<u64> {
    let mut waiting = vec![folder.to_owned()];
    let (mut bytes, mut files) = (0_u64, 0);
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).ok()? {
            let entry = entry.ok()?;
            files += 1;
            if files > FILES_MAX {
                return None;
            }
            // A file can go away between two looks.
            let Ok(about) = entry.metadata() else {
                continue;
            };
            if about.is_dir() {
                waiting.push(entry.path());
            } else {
                // What it takes on the disk: a store reserves more than it has written.
                bytes = bytes.saturating_add(about.blocks().saturating_mul(BLOCK_BYTES));
            }
        }
    }
    Some(bytes)
}

/// Since 1970.
fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64()
}

fn router<W: Watched>(watch: Arc<Watch<W>>) -> Router {
    Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(watch)
}

#[derive(Serialize)]
struct Live {
    live: bool,
    role: &'static str,
    version: &'static str,
}

async fn live<W: Watched>(State(watch): State<Arc<Watch<W>>>) -> Json<Live> {
    Json(Live {
        live: true,
        role: watch.role.name,
        version: env!("CARGO_PKG_VERSION"),
    })
}

#[derive(Serialize)]
struct Ready<'a> {
    ready: bool,
    role: &'static str,
    checks: &'a [Check],
}

async fn ready<W: Watched>(State(watch): State<Arc<Watch<W>>>) -> Response {
    let look = watch.look().await;
    let ready = look.checks.iter().all(|check| check.ok);
    let answer = Ready {
        ready,
        role: watch.role.name,
        checks: &look.checks,
    };
    let status = match ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(answer)).into_response()
}

async fn metrics<W: Watched>(State(watch): State<Arc<Watch<W>>>) -> Response {
    const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match watch.text().await {
        Ok(text) => ([(header::CONTENT_TYPE, KIND)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Says how often it was looked at.
    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Watched for Counted {
        fn look(&self) -> BoxFuture<'_, Look> {
            Box::pin(async {
                self.0.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Look {
                    checks: vec![Check::fails("chain", "it is away", "start it")],
                    samples: Vec::new(),
                }
            })
        }
    }

    fn watch(folders: Vec<(&'static str, PathBuf)>) -> Watch<Counted> {
        Watch {
            watched: Arc::default(),
            measured: Arc::new(Measured::new()),
            certificate_end: None,
            started: UNIX_EPOCH + Duration::from_secs(7),
            look: Mutex::default(),
            folders: Mutex::default(),
            role: WatchedRole {
                name: "node",
                folders,
            },
        }
    }

    #[tokio::test]
    async fn attack_however_often_anyone_asks_the_role_is_looked_at_once() {
        let watch = watch(Vec::new());
        futures::future::join_all((0..1_000).map(|_| watch.look())).await;
        assert_eq!(watch.watched.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_check_that_fails_and_bytes_on_the_disk_are_numbers_too() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("inner")).unwrap();
        std::fs::write(folder.path().join("inner").join("file"), vec![1; 30_000]).unwrap();
        let reserved = std::fs::File::create(folder.path().join("reserved")).unwrap();
        reserved.set_len(1 << 30).unwrap();
        let missing = folder.path().join("missing");
        let folders = vec![("state", folder.path().to_owned()), ("engine", missing)];
        let text = watch(folders).text().await.unwrap();
        let bytes = text
            .split("willis_folder_bytes{folder=\"state\"} ")
            .nth(1)
            .unwrap();
        let bytes: f64 = bytes.lines().next().unwrap().parse().unwrap();
        assert!((30_000.0..1_000_000.0).contains(&bytes), "{bytes}");
        for line in [
            "willis_check_ok{check=\"chain\"} 0.0\n",
            "willis_start_time_seconds 7.0\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        for absent in ["engine", "willis_tls_certificate_end", "willis_node_"] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
    }

    #[tokio::test]
    async fn attack_nobody_is_watched_at_every_address_by_accident() {
        for everywhere in ["0.0.0.0:0", "[::]:0"] {
            let bound = Server::bind_watch(everywhere.parse().unwrap()).await;
            assert!(matches!(bound, Err(ServerError::Everywhere(_))));
        }
        let bound = Server::bind_watch("127.0.0.1:0".parse().unwrap()).await;
        assert!(bound.is_ok());
    }
}
