//! What the demo tells: a narration for people, or one JSON object.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

/// One of the eleven steps.
#[derive(Debug, Serialize)]
struct Step {
    step: u8,
    name: &'static str,
    ok: bool,
    ms: u64,
    bytes: u64,
}

/// Something that must not work, and did not.
#[derive(Debug, Serialize)]
struct Refused {
    attack: String,
    reason: String,
}

/// How many blocks a hospital led.
#[derive(Debug, Serialize)]
pub(super) struct Led {
    pub(super) hospital: String,
    pub(super) tier: String,
    pub(super) blocks: u64,
}

#[derive(Debug, Serialize)]
struct Summary<'a> {
    ok: bool,
    steps: &'a [Step],
    refused: &'a [Refused],
    led: &'a [Led],
    /// What did not hold.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    failed: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// Collects what happened and narrates it.
pub(super) struct Report {
    json: bool,
    begun: Instant,
    steps: Vec<Step>,
    refused: Vec<Refused>,
    led: Vec<Led>,
    ok: bool,
    /// Steps at which something did not hold, also before the step itself was told.
    failed: BTreeSet<u8>,
    failures: Vec<String>,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            begun: Instant::now(),
            steps: Vec::new(),
            refused: Vec::new(),
            led: Vec::new(),
            ok: true,
            failed: BTreeSet::new(),
            failures: Vec::new(),
        }
    }

    /// A line of narration.
    pub(super) fn say(&self, line: &str) {
        self.print(&format!("        {line}"));
    }

    /// A step that is done: what moved, how large, how long.
    pub(super) fn step(
        &mut self,
        step: u8,
        name: &'static str,
        took: Duration,
        bytes: u64,
        what: &str,
    ) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.print(&format!(
            "{step:>4}  {name:<24} {:>9}  {:>10}  {what}",
            milliseconds(ms),
            size(bytes)
        ));
        self.steps.push(Step {
            step,
            name,
            ok: !self.failed.contains(&step),
            ms,
            bytes,
        });
    }

    /// A check. A failed one makes the whole demo fail, which goes on to show the rest.
    pub(super) fn check(&mut self, step: u8, holds: bool, what: &str) {
        self.print(&format!(
            "        {} {what}",
            if holds { "[held]" } else { "[FAILED]" }
        ));
        if !holds {
            self.fail(step, what.to_owned());
        }
    }

    fn fail(&mut self, step: u8, what: String) {
        self.ok = false;
        self.failures.push(what);
        self.failed.insert(step);
        self.steps
            .iter_mut()
            .filter(|one| one.step == step)
            .for_each(|one| one.ok = false);
    }

    /// An attack that was refused, with the reason that its author was given; `None` is an attack
    /// that went through. One that was refused for another reason than `expected` shows nothing.
    pub(super) fn attack(
        &mut self,
        step: u8,
        attack: &str,
        expected: &str,
        reason: Option<String>,
    ) {
        match reason {
            Some(reason) if !reason.contains(expected) => {
                let what = format!("{attack} was refused for another reason: {reason}");
                self.print(&format!("        [FAILED] {what}"));
                self.fail(step, what);
            }
            Some(reason) => {
                self.print(&format!("        [refused] {attack}: {reason}"));
                self.refused.push(Refused {
                    attack: attack.to_owned(),
                    reason,
                });
            }
            None => {
                let what = format!("{attack} was not refused");
                self.print(&format!("        [FAILED] {what}"));
                self.fail(step, what);
            }
        }
    }

    pub(super) fn led(&mut self, led: Vec<Led>) {
        for one in &led {
            self.print(&format!(
                "        {:<30} {:<10} led {} blocks",
                one.hospital, one.tier, one.blocks
            ));
        }
        self.led = led;
    }

    pub(super) fn finish(&self) -> ExitCode {
        self.summary(None);
        let took = self.begun.elapsed().as_secs_f64();
        if self.ok {
            self.print(&format!(
                "\nThe referral is complete, and everything held, in {took:.1} s."
            ));
            ExitCode::SUCCESS
        } else {
            self.print(&format!(
                "\nSomething did not hold: see the lines marked FAILED above ({took:.1} s)."
            ));
            ExitCode::FAILURE
        }
    }

    pub(super) fn failed(&self, error: &str) -> ExitCode {
        self.summary(Some(error));
        self.complain(error);
        ExitCode::FAILURE
    }

    #[allow(clippy::print_stdout, reason = "the demo's whole output with --json")]
    fn summary(&self, error: Option<&str>) {
        if !self.json {
            return;
        }
        let summary = Summary {
            ok: self.ok && error.is_none(),
            steps: &self.steps,
            refused: &self.refused,
            led: &self.led,
            failed: &self.failures,
            error,
        };
        match serde_json::to_string(&summary) {
            Ok(text) => println!("{text}"),
            Err(error) => self.complain(&error.to_string()),
        }
    }

    #[allow(clippy::print_stdout, reason = "the demo narrates to a person")]
    fn print(&self, line: &str) {
        if !self.json {
            println!("{line}");
        }
    }

    #[allow(
        clippy::print_stderr,
        reason = "a command tells its user what happened"
    )]
    fn complain(&self, error: &str) {
        eprintln!("willis demo: {error}");
    }
}

fn milliseconds(ms: u64) -> String {
    if ms < 10_000 {
        format!("{ms} ms")
    } else {
        format!("{:.1} s", ms as f64 / 1000.0)
    }
}

/// Bytes in words.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0)),
    }
}
