//! Plays the campaign of seeds on, and adds to its totals.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Map, Value};
use simulation::{Ending, Plan, Totals};

/// Whole referrals on simulated consortia, each with the faults that its seed stands for.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to play.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Stop after so many minutes, though fewer were played.
    #[arg(long)]
    minutes: Option<u64>,
    /// On how many threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The file whose totals are added to.
    #[arg(long, value_name = "FILE")]
    totals: Option<PathBuf>,
    /// Play this seed again and print what happened.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "minutes", "threads", "totals"])]
    replay: Option<u64>,
}

/// Seeds between two times that totals are written.
const BATCH: u64 = 32;
/// The campaign's place in the file.
const NAME: &str = "seeds";

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    match arguments.replay {
        Some(seed) => Ok(replay(seed)?),
        None => campaign(&arguments),
    }
}

fn replay(seed: u64) -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    writeln!(out, "seed {seed}: {:#?}", Plan::of(seed))?;
    // Whoever pipes this into a pager may end it.
    let ending = Ending::watched(seed, &|line| drop(writeln!(io::stdout(), "{line}")));
    match ending {
        Ending::Held(outcome) => {
            writeln!(out, "held: {outcome:#?}")?;
            Ok(ExitCode::SUCCESS)
        }
        Ending::Failed(what) => {
            writeln!(out, "seed {seed} failed: {what}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn campaign(arguments: &Arguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let file = match &arguments.totals {
        Some(path) => read(path)?,
        None => Map::new(),
    };
    let mut totals: Totals = match file.get(NAME) {
        Some(totals) => serde_json::from_value(totals.clone())?,
        None => Totals::default(),
    };
    let failed_before = totals.failed.len();
    let end = arguments
        .minutes
        .map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let mut left = arguments.seeds;
    while left > 0 && end.is_none_or(|end| Instant::now() < end) {
        let batch = left.min(BATCH);
        for (seed, what) in totals.play_on(batch, arguments.threads) {
            let mut told = io::stderr();
            writeln!(told, "seed {seed} failed: {what}")?;
            writeln!(told, "seeds --replay {seed} plays it again")?;
        }
        left -= batch;
        if let Some(path) = &arguments.totals {
            // Other campaigns may have counted meanwhile.
            let mut file = read(path)?;
            file.insert(NAME.to_owned(), serde_json::to_value(&totals)?);
            write(path, &file)?;
        }
    }
    writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&totals)?)?;
    Ok(match totals.failed.len() > failed_before {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn read(path: &Path) -> Result<Map<String, Value>, Box<dyn std::error::Error>> {
    match path.exists() {
        true => Ok(serde_json::from_slice(&fs::read(path)?)?),
        false => Ok(Map::new()),
    }
}

/// Whole or not at all, since the next run goes on from it.
fn write(path: &Path, file: &Map<String, Value>) -> Result<(), Box<dyn std::error::Error>> {
    let mut text = serde_json::to_string_pretty(file)?;
    text.push('\n');
    let next = path.with_extension("next");
    fs::write(&next, text)?;
    fs::rename(&next, path)?;
    Ok(())
}
