//! The measuring loop. The machine may be shared and its clock may vary, so nothing is measured by
//! itself: every round times batches of the operation and batches of its rival one right after the
//! other and in turns, takes the best of each, since others can only slow a batch down, and gives one
//! ratio; what is told is the median over the rounds.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Rounds of one comparison: a median over them stands although a third of them were disturbed.
const ROUNDS: usize = 15;
/// Batches of each in a round.
const BEST_OF: usize = 3;
/// How long one batch should take at least: far above the clock's grain, below a time slice.
const BATCH: Duration = Duration::from_millis(2);
/// How long an operation is run before it is measured.
const WARM_UP: Duration = Duration::from_millis(20);

/// Something to time: `prepare` is outside the clock, and so is dropping what `run` gives.
pub(crate) struct Timed<P, R> {
    prepare: P,
    run: R,
    batch: usize,
}

impl<I, O, P: FnMut() -> I, R: FnMut(I) -> O> Timed<P, R> {
    /// Runs it until it is warm and the batch long enough.
    pub(crate) fn new(prepare: P, run: R) -> Self {
        let mut timed = Self {
            prepare,
            run,
            batch: 1,
        };
        let begun = Instant::now();
        loop {
            let took = timed.batch_time();
            if took < BATCH {
                timed.batch *= 2;
            } else if begun.elapsed() >= WARM_UP {
                return timed;
            }
        }
    }

    /// Microseconds of one run, over one batch.
    fn micros(&mut self) -> f64 {
        self.batch_time().as_secs_f64() * 1e6 / self.batch as f64
    }

    fn batch_time(&mut self) -> Duration {
        let inputs: Vec<I> = (0..self.batch).map(|_| (self.prepare)()).collect();
        let mut outputs = Vec::with_capacity(self.batch);
        let begun = Instant::now();
        for input in inputs {
            outputs.push(black_box((self.run)(black_box(input))));
        }
        begun.elapsed()
    }
}

/// The rounds of an operation beside its rival, in microseconds.
pub(crate) struct Comparison(Vec<(f64, f64)>);

impl Comparison {
    /// Times both in turns.
    pub(crate) fn of<I, O, P, R, J, Q, S, T>(
        operation: &mut Timed<P, R>,
        rival: &mut Timed<S, T>,
    ) -> Self
    where
        P: FnMut() -> I,
        R: FnMut(I) -> O,
        S: FnMut() -> J,
        T: FnMut(J) -> Q,
    {
        let rounds = (0..ROUNDS).map(|_| {
            let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
            for _ in 0..BEST_OF {
                ours = ours.min(operation.micros());
                theirs = theirs.min(rival.micros());
            }
            (ours, theirs)
        });
        Self(rounds.collect())
    }

    /// Median microseconds of the operation.
    pub(crate) fn micros(&self) -> f64 {
        self.percentile(50, |ours, _| ours)
    }

    /// Over the rounds, a percentile of what `of` makes of (operation, rival).
    pub(crate) fn percentile(&self, percent: usize, of: impl Fn(f64, f64) -> f64) -> f64 {
        let mut values: Vec<f64> = self.0.iter().map(|(a, b)| of(*a, *b)).collect();
        values.sort_by(f64::total_cmp);
        values[(values.len() - 1) * percent / 100]
    }
}
