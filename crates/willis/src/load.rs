//! `willis load`: patients, doctors and referrals against a running consortium, bounded in count and
//! time. Every referral is a whole one, by the same code as the commands for people: keys, enrolment,
//! episode, record, request, grant, reading, revocation.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use client::{DoctorApplicant, EnrolmentState, Identity};
use rand_core::Rng;
use scheme::InstitutionId;
use serde::Serialize;
use thiserror::Error;
use workstation::{Ask, DoctorDesk, Grants, Network, PatientDevice, Silent, WorkError};

/// Keystores of a load are thrown away with it.
const PASSPHRASE: &str = "a load's keystore";
/// How long one step waits for what others do.
const STEP_BOUND: Duration = Duration::from_secs(60);
/// How long a step that failed waits until it is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often the progress line is written.
const REDRAW: Duration = Duration::from_millis(500);
/// Different texts of errors that are told for a step.
const ERRORS_TOLD: usize = 3;

#[derive(Args)]
pub(crate) struct LoadArguments {
    /// The consortium's founding folder. Its centre must approve enrolments without an officer, as in
    /// `willis dev`.
    #[arg(long, env = "WILLIS_FOUNDING", value_name = "FOLDER")]
    founding: PathBuf,
    /// How many referrals, one patient each.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    referrals: u64,
    /// How many at a time. Each worker has two doctors of its own: one who stores, one who reads.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=256))]
    workers: u64,
    /// The length of each record in bytes.
    #[arg(long, default_value_t = 256 * 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    record_bytes: u64,
    /// No referral is begun after so many seconds.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How often a step that failed is tried again, a second later each time.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10))]
    retries: u64,
    /// Write the id of each transaction that f + 1 hospitals acknowledged to this file, one a line: each
    /// must be found on every node afterwards.
    #[arg(long, value_name = "FILE")]
    acknowledged: Option<PathBuf>,
    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Error)]
enum LoadError {
    #[error("{}", client::sentence(.0))]
    Work(#[from] WorkError),
    #[error("a temporary folder cannot be used: {0}; check the disk")]
    Folder(#[from] std::io::Error),
    #[error(
        "the centre did not certify within {STEP_BOUND:?}: a load needs one that approves without an officer"
    )]
    NotCertified,
}

/// The steps of a referral, in their order.
const STEPS: [&str; 10] = [
    "enrol doctor",
    "enrol patient",
    "begin episode",
    "store record",
    "check receipt",
    "request",
    "grant",
    "open grant",
    "read",
    "revoke",
];

/// What one step came to.
#[derive(Default)]
struct Measured {
    took: Vec<Duration>,
    retries: u64,
    errors: u64,
    told: Vec<String>,
}

impl Measured {
    fn tell(&mut self, error: &LoadError) {
        let text = error.to_string();
        if self.told.len() < ERRORS_TOLD && !self.told.contains(&text) {
            self.told.push(text);
        }
    }
}

/// What all workers write to.
struct Tally {
    retries: u64,
    acknowledged: Option<Arc<Mutex<File>>>,
    steps: Mutex<BTreeMap<usize, Measured>>,
    begun: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

impl Tally {
    /// Runs a step, again if it fails, and keeps how long it took in all, or that it failed. The work is
    /// told which attempt it is, from 0.
    async fn step<T>(
        &self,
        name: &'static str,
        mut work: impl AsyncFnMut(u64) -> Result<T, LoadError>,
    ) -> Option<T> {
        let begun = Instant::now();
        let place = STEPS.iter().position(|step| *step == name).unwrap_or(0);
        for attempt in 0.. {
            let done = work(attempt).await;
            {
                let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
                let measured = steps.entry(place).or_default();
                match done {
                    Ok(value) => {
                        measured.took.push(begun.elapsed());
                        return Some(value);
                    }
                    Err(error) => measured.tell(&error),
                }
                if attempt == self.retries {
                    measured.errors += 1;
                    break;
                }
                measured.retries += 1;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        None
    }

    /// The way to the services. What is confirmed on it is written down before the step goes on.
    fn network(&self, founding: &Path) -> Result<Network, LoadError> {
        let network = Network::open(founding)?;
        let Some(file) = self.acknowledged.clone() else {
            return Ok(network);
        };
        Ok(network.telling(move |confirmed| {
            let line = format!("{}\n", hex::encode(confirmed.id.as_bytes()));
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = file.write_all(line.as_bytes()) {
                crate::complain("willis load: the file of acknowledged transactions", &error);
            }
        }))
    }
}

/// The result.
#[derive(Serialize)]
struct Report {
    ok: bool,
    referrals: u64,
    failed: u64,
    seconds: f64,
    referrals_per_second: f64,
    workers: u64,
    record_bytes: u64,
    steps: Vec<StepReport>,
}

#[derive(Serialize)]
struct StepReport {
    step: &'static str,
    count: usize,
    retries: u64,
    errors: u64,
    /// Milliseconds.
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    error_texts: Vec<String>,
}

pub(crate) fn run(arguments: &LoadArguments) -> ExitCode {
    match measure(arguments) {
        Ok(report) => {
            if arguments.json {
                crate::say(&serde_json::to_string(&report).unwrap_or_default());
            } else {
                crate::say(&table(&report));
            }
            if report.ok {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            crate::complain("willis load", &error);
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &LoadArguments) -> Result<Report, LoadError> {
    // What is wrong with the folder is told once, and not by every worker.
    let network = Network::open(&arguments.founding)?;
    let hospitals: Vec<InstitutionId> = network
        .founding()
        .genesis
        .institutions
        .iter()
        .map(|one| one.id)
        .collect();
    drop(network);
    let folder = tempfile::Builder::new().prefix("willis-load-").tempdir()?;
    let acknowledged = arguments.acknowledged.as_ref();
    let acknowledged = acknowledged.map(File::create).transpose()?;
    let tally = Arc::new(Tally {
        retries: arguments.retries,
        acknowledged: acknowledged.map(|file| Arc::new(Mutex::new(file))),
        steps: Mutex::new(BTreeMap::new()),
        begun: AtomicU64::new(0),
        done: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    let begun = Instant::now();
    let end = begun + Duration::from_secs(arguments.seconds);
    std::thread::scope(|scope| {
        let stopper = Arc::clone(&tally);
        scope.spawn(move || stop_when_asked(&stopper));
        let workers: Vec<_> = (0..arguments.workers.min(arguments.referrals))
            .map(|number| {
                let (tally, hospitals) = (Arc::clone(&tally), &hospitals);
                let home = folder.path().join(number.to_string());
                scope.spawn(move || work(arguments, number, hospitals, &home, &tally, end))
            })
            .collect();
        let mut line = ProgressLine::new(arguments);
        while workers.iter().any(|worker| !worker.is_finished()) {
            line.draw(&tally, begun);
            std::thread::sleep(REDRAW.min(Duration::from_millis(100)));
        }
        line.end();
        tally.stop.store(true, Ordering::Relaxed);
    });
    Ok(report(arguments, &tally, begun.elapsed()))
}

/// Ctrl-C ends a load after the referrals that are under way; their figures count.
fn stop_when_asked(tally: &Tally) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return;
    };
    runtime.block_on(async {
        let asked = async {
            crate::asked_to_stop().await;
            tally.stop.store(true, Ordering::Relaxed);
        };
        let ended = async {
            while !tally.stop.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = asked => {}
            () = ended => {}
        }
    });
}

/// One worker: two doctors, and patients until there are enough.
fn work(
    arguments: &LoadArguments,
    number: u64,
    hospitals: &[InstitutionId],
    home: &Path,
    tally: &Tally,
    end: Instant,
) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return;
    };
    runtime.block_on(async {
        let count = hospitals.len() as u64;
        let at = |place: u64| hospitals[usize::try_from(place % count).unwrap_or(0)];
        // Each worker's doctors store at one hospital and read at the next.
        let enrolled = async |name: &str, institution| {
            let enrol = async |attempt| {
                let keystore = home.join(format!("{name}-{attempt}.keystore"));
                doctor(arguments, tally, &keystore, name, institution).await
            };
            tally.step("enrol doctor", enrol).await
        };
        let author = enrolled("author", at(number)).await;
        let reader = enrolled("reader", at(number + 1)).await;
        let (Some(mut author), Some(mut reader)) = (author, reader) else {
            return;
        };
        loop {
            let late = Instant::now() >= end || tally.stop.load(Ordering::Relaxed);
            let place = tally.begun.fetch_add(1, Ordering::Relaxed);
            if late || place >= arguments.referrals {
                return;
            }
            let folder = home.join(format!("referral-{place}"));
            let referred = refer(
                arguments,
                &folder,
                at(number),
                tally,
                &mut author,
                &mut reader,
            );
            let counter = match referred.await {
                Some(()) => &tally.done,
                None => &tally.failed,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            // A long load keeps no more than one referral's files a worker.
            let _ = std::fs::remove_dir_all(&folder);
        }
    });
}

async fn doctor(
    arguments: &LoadArguments,
    tally: &Tally,
    keystore: &Path,
    name: &str,
    institution: InstitutionId,
) -> Result<DoctorDesk, LoadError> {
    let network = tally.network(&arguments.founding)?;
    let mut desk = DoctorDesk::create(network, keystore, PASSPHRASE, institution)?;
    let applicant = DoctorApplicant {
        identity: identity(name),
        licence_number: "load".into(),
        institution: institution.number(),
    };
    desk.enrol(applicant, None).await?;
    match desk.enrolment(STEP_BOUND).await?.state {
        EnrolmentState::Registered { .. } => Ok(desk),
        _ => Err(LoadError::NotCertified),
    }
}

async fn patient(
    arguments: &LoadArguments,
    tally: &Tally,
    keystore: &Path,
) -> Result<PatientDevice, LoadError> {
    let network = tally.network(&arguments.founding)?;
    let mut device = PatientDevice::create(network, keystore, PASSPHRASE)?;
    device.enrol(identity("patient"), None).await?;
    match device.enrolment(STEP_BOUND).await?.state {
        EnrolmentState::Registered { .. } => Ok(device),
        _ => Err(LoadError::NotCertified),
    }
}

fn identity(name: &str) -> Identity {
    Identity {
        name: format!("Load {name}"),
        birth_date: "1951-03-08".into(),
        document_kind: "load".into(),
        document_number: "0".into(),
    }
}

/// A whole referral; none if a step failed.
async fn refer(
    arguments: &LoadArguments,
    folder: &Path,
    institution: InstitutionId,
    tally: &Tally,
    author: &mut DoctorDesk,
    reader: &mut DoctorDesk,
) -> Option<()> {
    let mut device = tally
        .step("enrol patient", async |attempt| {
            let keystore = folder.join(format!("patient-{attempt}.keystore"));
            patient(arguments, tally, &keystore).await
        })
        .await?;
    let (ours, at_author) = tally
        .step("begin episode", async |_| {
            let uid = author.give_uid().await?;
            let doctor = author.public_keys()?.id;
            let begun = device.begin_episode(institution, &uid, doctor).await?;
            let (accepted, _) = author.accept_handovers(STEP_BOUND).await?;
            let uid = String::from_utf8_lossy(uid.as_bytes()).into_owned();
            match accepted.iter().find(|one| one.uid == uid) {
                Some(episode) => Ok((begun.number, episode.number)),
                None => Err(WorkError::Not("the hand-over did not come".into()).into()),
            }
        })
        .await?;
    let record = folder.join("record.bin");
    tally
        .step("store record", async |_| {
            write_record(&record, arguments.record_bytes)?;
            let files = std::slice::from_ref(&record);
            Ok(author.store(at_author, files, None, &mut Silent).await?)
        })
        .await?;
    let mut kept = 0;
    tally
        .step("check receipt", async |_| {
            let (now, wrong) = device.receipts(&mut Silent).await?;
            kept += now;
            // An attempt at storing that seemed to fail may have left another one.
            if kept > 0 && wrong.is_empty() {
                return Ok(());
            }
            let said = format!("{kept} receipts were kept: {}", wrong.join("; "));
            Err(WorkError::Not(said).into())
        })
        .await?;
    let request = tally
        .step("request", async |_| {
            let ask = Ask {
                inbox: device.inbox(),
                classes: Vec::new(),
                purpose: "load".into(),
                episodes: 1,
                hours: 1,
            };
            let view = reader.ask(&ask, &mut Silent).await?;
            device.requests(STEP_BOUND).await?;
            Ok(view.id)
        })
        .await?;
    let gid = tally
        .step("grant", async |attempt| {
            if attempt > 0 {
                // What was made and did not get everywhere is sent on.
                device.catch_up(&mut Silent).await;
                let mut grants = device.grants().await?.into_iter();
                if let Some(grant) = grants.find(|grant| grant.revoked == Some(false)) {
                    return Ok(grant.gid);
                }
            }
            let grants = Grants {
                episodes: vec![ours],
                classes: Vec::new(),
                keywords: Vec::new(),
                minutes: 10,
                threshold: None,
            };
            let given = device.grant(&request, &grants, &mut Silent).await?;
            match given.into_iter().next() {
                Some(grant) => Ok(grant.gid),
                None => Err(WorkError::Not("no grant was given".into()).into()),
            }
        })
        .await?;
    tally
        .step("open grant", async |_| {
            let view = reader.follow(&request, STEP_BOUND, &mut Silent).await?;
            if view.grants.is_empty() {
                return Err(WorkError::Not("no grant came".into()).into());
            }
            Ok(())
        })
        .await?;
    tally
        .step("read", async |attempt| {
            let into = folder.join(format!("read-{attempt}"));
            let read = reader.read(&request, None, &into, &mut Silent).await?;
            let file = read.records.first().and_then(|record| record.files.first());
            let equal = match file {
                Some(file) => std::fs::read(&file.path)? == std::fs::read(&record)?,
                None => false,
            };
            if equal {
                Ok(())
            } else {
                Err(WorkError::Not("what was read is not what was stored".into()).into())
            }
        })
        .await?;
    tally
        .step("revoke", async |_| {
            Ok(device.revoke(&gid, &mut Silent).await?)
        })
        .await
}

/// Random bytes: nothing of a record compresses.
fn write_record(path: &Path, length: u64) -> Result<(), LoadError> {
    let mut file = File::create(path)?;
    let mut piece = vec![0; 64 * 1024];
    let mut left = length;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        client::SystemRandom.fill_bytes(&mut piece[..now]);
        file.write_all(&piece[..now])?;
        left -= now as u64;
    }
    Ok(())
}

fn report(arguments: &LoadArguments, tally: &Tally, took: Duration) -> Report {
    let mut steps = tally.steps.lock().unwrap_or_else(PoisonError::into_inner);
    let done = tally.done.load(Ordering::Relaxed);
    let failed = tally.failed.load(Ordering::Relaxed);
    let errors: u64 = steps.values().map(|step| step.errors).sum();
    let steps = steps
        .iter_mut()
        .map(|(place, step)| {
            step.took.sort_unstable();
            StepReport {
                step: STEPS[*place],
                count: step.took.len(),
                retries: step.retries,
                errors: step.errors,
                p50: percentile(&step.took, 50),
                p90: percentile(&step.took, 90),
                p99: percentile(&step.took, 99),
                max: percentile(&step.took, 100),
                error_texts: step.told.clone(),
            }
        })
        .collect();
    Report {
        ok: errors == 0 && done > 0,
        referrals: done,
        failed,
        seconds: took.as_secs_f64(),
        referrals_per_second: done as f64 / took.as_secs_f64(),
        workers: arguments.workers,
        record_bytes: arguments.record_bytes,
        steps,
    }
}

/// The nearest-rank percentile of sorted times, in milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    let found = rank.checked_sub(1).and_then(|rank| sorted.get(rank));
    found.map_or(0.0, |took| took.as_secs_f64() * 1000.0)
}

fn table(report: &Report) -> String {
    let mut text = format!(
        "{} referrals in {:.1} s ({:.2} a second), {} failed; {} workers, records of {} bytes\n\n",
        report.referrals,
        report.seconds,
        report.referrals_per_second,
        report.failed,
        report.workers,
        report.record_bytes
    );
    text.push_str(
        "step              count retries  errors    p50 ms    p90 ms    p99 ms    max ms\n",
    );
    for step in &report.steps {
        text.push_str(&format!(
            "{:<16} {:>6}  {:>6}  {:>6}  {:>8.0}  {:>8.0}  {:>8.0}  {:>8.0}\n",
            step.step,
            step.count,
            step.retries,
            step.errors,
            step.p50,
            step.p90,
            step.p99,
            step.max
        ));
        for error in &step.error_texts {
            text.push_str(&format!("    {error}\n"));
        }
    }
    text
}

/// One line on standard error, drawn anew at a terminal and written now and then elsewhere.
struct ProgressLine {
    referrals: u64,
    redraws: bool,
    quiet: bool,
    drawn: Option<Instant>,
}

impl ProgressLine {
    fn new(arguments: &LoadArguments) -> Self {
        let redraws = std::io::stderr().is_terminal();
        Self {
            referrals: arguments.referrals,
            redraws,
            quiet: arguments.json && !redraws,
            drawn: None,
        }
    }

    #[allow(clippy::print_stderr, reason = "a long command tells how far it is")]
    fn draw(&mut self, tally: &Tally, begun: Instant) {
        let every = if self.redraws { REDRAW } else { 10 * REDRAW };
        if self.quiet || self.drawn.is_some_and(|drawn| drawn.elapsed() < every) {
            return;
        }
        let done = tally.done.load(Ordering::Relaxed);
        let failed = tally.failed.load(Ordering::Relaxed);
        let seconds = begun.elapsed().as_secs_f64();
        let line = format!(
            "{done} of {} referrals, {failed} failed, {seconds:.0} s, {:.2} a second",
            self.referrals,
            done as f64 / seconds
        );
        if self.redraws {
            eprint!("\r{line}   ");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
        self.drawn = Some(Instant::now());
    }

    #[allow(clippy::print_stderr, reason = "a long command tells how far it is")]
    fn end(&self) {
        if self.redraws && self.drawn.is_some() {
            eprintln!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let took: Vec<Duration> = (1..=10).map(Duration::from_millis).collect();
        let found = |percent| percentile(&took, percent);
        assert_eq!(
            [found(50), found(90), found(99), found(100)],
            [5.0, 9.0, 10.0, 10.0]
        );
        assert_eq!(percentile(&took[..1], 50), 1.0);
        assert_eq!(percentile(&[], 50), 0.0);
    }
}
