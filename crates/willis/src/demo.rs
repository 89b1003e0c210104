//! `willis demo`: a whole referral on this machine, on real records, by four hospitals that really
//! agree. Each node is a process of its own; the people's and the institution's parts are played by
//! this process, each with its own keys.

mod consortium;
mod referral;
mod report;
mod samples;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;

use report::Report;

pub(crate) use stage::run as pages;

/// Plays the referral and tells how it went.
pub(crate) fn run(records: &[PathBuf], json: bool) -> ExitCode {
    let mut report = Report::new(json);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report.failed(&format!("the demo cannot start its runtime: {error}")),
    };
    let played = runtime.block_on(async {
        tokio::select! {
            played = referral::play(records, &mut report) => Some(played),
            () = crate::asked_to_stop() => None,
        }
    });
    // Either way the consortium is dropped by now: its processes have ended, its folder is gone.
    match played {
        Some(Ok(())) => report.finish(),
        Some(Err(error)) => report.failed(&error.to_string()),
        None => report.failed("it was interrupted; nodes and temporary files are gone"),
    }
}
