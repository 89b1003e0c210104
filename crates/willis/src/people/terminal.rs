//! What a person sees while a command runs: steps and transfers on standard error, the result on
//! standard output.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use workstation::{Progress, Unit};

/// How often a transfer's line is written anew.
const REDRAW: Duration = Duration::from_millis(200);

/// Tells how far a command is.
pub(super) struct Terminal {
    quiet: bool,
    redraws: bool,
    drawn: Option<Instant>,
}

impl Terminal {
    /// With JSON nothing is told but the result.
    pub(super) fn new(json: bool) -> Self {
        Self {
            quiet: json,
            redraws: std::io::stderr().is_terminal(),
            drawn: None,
        }
    }

    #[allow(
        clippy::print_stderr,
        reason = "a command tells its user how far it is"
    )]
    fn end_of_transfer(&mut self) {
        if self.drawn.take().is_some() {
            eprintln!();
        }
    }
}

impl Progress for Terminal {
    #[allow(
        clippy::print_stderr,
        reason = "a command tells its user how far it is"
    )]
    fn step(&mut self, what: &str) {
        if self.quiet {
            return;
        }
        self.end_of_transfer();
        eprintln!("... {what}");
    }

    #[allow(
        clippy::print_stderr,
        reason = "a command tells its user how far it is"
    )]
    fn part(&mut self, done: u64, of: u64, unit: Unit) {
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW);
        if self.quiet || !self.redraws || !(due || done == of) {
            return;
        }
        let mebi = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
        match (unit, of) {
            (Unit::Bytes, 0) => eprint!("\r    {:.1} MiB", mebi(done)),
            (Unit::Bytes, of) => eprint!("\r    {:.1} of {:.1} MiB", mebi(done), mebi(of)),
            (Unit::Blocks, of) => eprint!("\r    {done} of {of} blocks"),
        }
        let _ = std::io::stderr().flush();
        self.drawn = Some(Instant::now());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.end_of_transfer();
    }
}

/// The result.
#[allow(clippy::print_stdout, reason = "a command's result")]
pub(super) fn print(text: &str) {
    println!("{text}");
}
