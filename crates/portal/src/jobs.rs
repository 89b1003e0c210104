//! Steps that take long: each runs by itself, its page shows how far it is, and ends where its result is
//! or with the reason why there is none.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use workstation::{Progress, Unit, WorkError};

use crate::app::{Shared, locked};
use crate::frame::{Frame, missing, page};
use crate::time_words::duration;
use crate::words::Language;

/// Jobs that are remembered after their end.
const REMEMBERED: usize = 32;
/// Jobs that wait or run at a time: one person starts no more.
const RUNNING_MAX: usize = 8;
/// Steps that a job's page shows.
const STEPS_MAX: usize = 64;

/// What a job came to.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    /// The page that shows it.
    pub(crate) to: String,
    /// What is said there.
    pub(crate) said: Option<String>,
}

pub(crate) struct Job {
    id: u64,
    title: String,
    /// The page from which it was started.
    back: String,
    state: Mutex<Stage>,
}

#[derive(Default)]
struct Stage {
    steps: Vec<String>,
    part: Option<Part>,
    over: Option<Result<Done, String>>,
}

struct Part {
    done: u64,
    of: u64,
    unit: Unit,
    begun: Instant,
}

#[derive(Default)]
pub(crate) struct Jobs {
    list: Mutex<VecDeque<Arc<Job>>>,
    next: AtomicU64,
}

impl Jobs {
    /// Whether something is being done.
    pub(crate) fn any(&self) -> bool {
        self.running() > 0
    }

    fn running(&self) -> usize {
        let list = locked(&self.list);
        let runs = |job: &&Arc<Job>| locked(&job.state).over.is_none();
        list.iter().filter(runs).count()
    }

    fn add(&self, title: String, back: &str) -> Option<Arc<Job>> {
        if self.running() >= RUNNING_MAX {
            return None;
        }
        let job = Arc::new(Job {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            title,
            back: back.to_owned(),
            state: Mutex::default(),
        });
        let mut list = locked(&self.list);
        list.push_back(job.clone());
        let ended = |job: &Arc<Job>| locked(&job.state).over.is_some();
        if list.len() > REMEMBERED
            && let Some(oldest) = list.iter().position(ended)
        {
            list.remove(oldest);
        }
        Some(job)
    }

    fn of(&self, id: u64) -> Option<Arc<Job>> {
        locked(&self.list).iter().find(|job| job.id == id).cloned()
    }
}

/// Starts a job and shows its page. `back` is the page of the form that it came from; what was typed there
/// is forgotten once it is done.
pub(crate) fn start<F>(
    app: &Shared,
    title: &str,
    back: &str,
    work: impl FnOnce(Hears) -> F,
) -> Response
where
    F: Future<Output = Result<Done, WorkError>> + Send + 'static,
{
    let Some(job) = app.jobs.add(title.to_owned(), back) else {
        app.tell(
            app.language()
                .of(
                    "Several things are being done already. Wait until one has ended.",
                    "已有多项操作在进行，请等其中一项结束。",
                )
                .to_owned(),
        );
        return Redirect::to(&app.at(back)).into_response();
    };
    let page = app.at(&format!("jobs/{}", job.id));
    let work = work(Hears(job.clone()));
    let app = app.clone();
    tokio::spawn(async move {
        let done = work.await.map_err(|error| client::sentence(&error));
        if done.is_ok() {
            app.forms.accepted(&job.back);
        }
        locked(&job.state).over = Some(done);
        app.changed();
    });
    Redirect::to(&page).into_response()
}

/// Writes a job's progress down.
pub(crate) struct Hears(Arc<Job>);

impl Progress for Hears {
    fn step(&mut self, what: &str) {
        let mut state = locked(&self.0.state);
        state.part = None;
        if state.steps.len() < STEPS_MAX {
            state.steps.push(what.to_owned());
        }
    }

    fn part(&mut self, done: u64, of: u64, unit: Unit) {
        let mut state = locked(&self.0.state);
        let begun = state
            .part
            .as_ref()
            .map_or_else(Instant::now, |part| part.begun);
        state.part = Some(Part {
            done,
            of,
            unit,
            begun,
        });
    }
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    f: Frame,
    title: String,
    at: String,
    back: String,
    steps: Vec<String>,
    part: Option<PartShown>,
    failed: Option<String>,
}

struct PartShown {
    done: u64,
    of: u64,
    text: String,
}

pub(crate) async fn show(State(app): State<Shared>, Path(id): Path<u64>) -> Response {
    let Some(job) = app.jobs.of(id) else {
        return missing(&app);
    };
    let language = app.language();
    let state = locked(&job.state);
    if let Some(Ok(done)) = &state.over {
        if let Some(said) = &done.said {
            app.tell(said.clone());
        }
        return Redirect::to(&app.at(&done.to)).into_response();
    }
    let failed = state.over.as_ref().and_then(|over| over.as_ref().err());
    let mut f = Frame::new(&app, &job.title, "");
    f.waits = failed.is_none();
    page(JobPage {
        f,
        title: job.title.clone(),
        at: app.at(&format!("jobs/{id}")),
        back: app.at(&job.back),
        steps: state
            .steps
            .iter()
            .map(|step| language.step(step).to_owned())
            .collect(),
        part: state.part.as_ref().map(|part| part.shown(language)),
        failed: failed.cloned(),
    })
}

impl Part {
    fn shown(&self, language: Language) -> PartShown {
        let text = match self.unit {
            Unit::Blocks => match language {
                Language::English => format!("{} of {} blocks", self.done, self.of),
                Language::Chinese => format!("{} / {} 个区块", self.done, self.of),
            },
            Unit::Bytes => {
                let mebi = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
                let speed = self.done as f64 / seconds;
                let left = self.of.saturating_sub(self.done) as f64 / speed.max(1.0);
                let left = duration(language, (left * 1000.0) as u64);
                let (done, of, speed) =
                    (mebi(self.done), mebi(self.of), speed / f64::from(1 << 20));
                match language {
                    Language::English => {
                        format!("{done:.1} of {of:.1} MiB, {speed:.1} MiB a second, {left} left")
                    }
                    Language::Chinese => {
                        format!("{done:.1} / {of:.1} MiB，每秒 {speed:.1} MiB，还需 {left}")
                    }
                }
            }
        };
        PartShown {
            done: self.done,
            of: self.of.max(1),
            text,
        }
    }
}
