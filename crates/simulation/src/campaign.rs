//! Seeds played for days, with totals that add up: a campaign goes on where it stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::faults::{BYZANTINE, Plan};
use crate::referral::{Outcome, play_watched};

/// Blocks that a counted run has at least.
const BLOCKS_MIN: u64 = 50;
/// Faults that took effect in a counted run, at least.
const FAULTS_MIN: u64 = 3;

/// What all runs of a campaign came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// The first seed that was not played yet. Every smaller one was.
    pub next_seed: u64,
    /// Runs that count: at least 50 blocks, one referral to its end, and three faults that took effect.
    pub counted: u64,
    /// Runs that held with less than that.
    pub too_quiet: u64,
    /// Seeds whose run did not hold, which `--replay` plays again.
    pub failed: BTreeSet<u64>,
    /// Blocks of all runs that held.
    pub blocks: u64,
    /// Time of all runs that held, on the simulated clock, in ms.
    pub simulated_ms: u64,
    /// Transactions that f + 1 nodes acknowledged; each stood in the end where they said.
    pub acknowledged: u64,
    /// The longest that a consortium took to one state and one more block after its last fault, in ms.
    pub settled_ms_max: u64,
    /// In how many runs each fault took effect, by its name.
    pub runs_with: BTreeMap<String, u64>,
    /// How often each fault took effect in all.
    pub effects: BTreeMap<String, u64>,
    /// Messages that were lost, doubled, overtaken or cut off.
    pub messages: u64,
}

/// How one seed ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Everything held.
    Held(Box<Outcome>),
    /// Something did not; what.
    Failed(String),
}

impl Ending {
    /// Plays a seed's plan. A run that panics has failed: invariants are checked by assertions.
    pub fn of(seed: u64) -> Self {
        Self::watched(seed, &|_| ())
    }

    /// As [`Ending::of`], and says line by line what happens.
    pub fn watched(seed: u64, watch: &dyn Fn(String)) -> Self {
        let plan = Plan::of(seed);
        match catch_unwind(AssertUnwindSafe(|| play_watched(seed, &plan, watch))) {
            Ok(Ok(outcome)) => match outcome.wrong() {
                None => Self::Held(Box::new(outcome)),
                Some(what) => Self::Failed(what),
            },
            Ok(Err(error)) => Self::Failed(error.to_string()),
            Err(panic) => {
                let said = panic.downcast_ref::<String>().cloned();
                let said = said.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                Self::Failed(said.unwrap_or_else(|| "it panicked".to_owned()))
            }
        }
    }
}

impl Totals {
    /// Plays the next seeds, so many of them on so many threads, and adds them; gives those that failed, with
    /// what failed.
    pub fn play_on(&mut self, seeds: u64, threads: usize) -> Vec<(u64, String)> {
        let first = self.next_seed;
        let end = first.saturating_add(seeds);
        let next = AtomicU64::new(first);
        let endings = thread::scope(|scope| {
            let players: Vec<_> = (0..threads.max(1))
                .map(|_| {
                    scope.spawn(|| {
                        let mut ended = Vec::new();
                        loop {
                            let seed = next.fetch_add(1, Ordering::Relaxed);
                            if seed >= end {
                                return ended;
                            }
                            ended.push((seed, Ending::of(seed)));
                        }
                    })
                })
                .collect();
            let ended = players.into_iter().map(|player| player.join());
            ended
                .map(|ended| ended.expect("a run's panics are caught"))
                .collect::<Vec<_>>()
        });
        self.next_seed = end;
        let mut failed = Vec::new();
        for (seed, ending) in endings.into_iter().flatten() {
            self.add(seed, &ending);
            if let Ending::Failed(what) = ending {
                failed.push((seed, what));
            }
        }
        failed
    }

    /// Adds one run.
    pub fn add(&mut self, seed: u64, ending: &Ending) {
        let outcome = match ending {
            Ending::Held(outcome) => outcome,
            Ending::Failed(_) => {
                self.failed.insert(seed);
                return;
            }
        };
        match outcome.height >= BLOCKS_MIN && outcome.faults() >= FAULTS_MIN {
            true => self.counted += 1,
            false => self.too_quiet += 1,
        }
        self.blocks += outcome.height;
        self.simulated_ms += outcome.simulated_ms;
        self.acknowledged += outcome.acknowledged as u64;
        self.settled_ms_max = self.settled_ms_max.max(outcome.settled_ms);
        let messages = outcome.messages;
        self.messages += messages.lost + messages.doubled + messages.swapped + messages.cut;
        for (what, times) in &outcome.effects {
            *self.runs_with.entry((*what).to_owned()).or_default() += 1;
            *self.effects.entry((*what).to_owned()).or_default() += times;
        }
    }
}

impl Outcome {
    /// Faults that took effect, a Byzantine node's many acts taken as one.
    pub fn faults(&self) -> u64 {
        let once = |(what, times): (&&'static str, &u64)| match BYZANTINE.contains(what) {
            true => 1.min(*times),
            false => *times,
        };
        self.effects.iter().map(once).sum()
    }

    /// What is not as it has to be, though the run came to its end.
    pub fn wrong(&self) -> Option<String> {
        if !self.read_equal {
            return Some("what was read is not what was stored".to_owned());
        }
        if !self.ungranted_closed {
            return Some("a section opened that was not granted".to_owned());
        }
        if !self.refused_after_revocation {
            return Some("a share was given or an access taken after the revocation".to_owned());
        }
        (self.grants_held > 0).then(|| format!("{} grants are held", self.grants_held))
    }
}
