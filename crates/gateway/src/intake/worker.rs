//! Tries what waits, one delivery at a time, oldest first.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use client::now;
use futures::FutureExt;
use thiserror::Error;

use super::delivery::Delivery;
use super::queue::{Queue, QueueError};

/// How long what is being delivered may go on after the gateway was asked to stop. What is cut off is
/// tried again.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after the queue's disk had no room.
const FULL_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause before the queue is looked at again: the clock may have been put forward.
const LOOK_MS: u64 = 60_000;

/// What a destination says of what it took, such as the address of the record: kept with the delivery's
/// id if it has 1 to 128 visible ASCII characters, and shown by [`super::Fate::Delivered`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt(pub String);

/// Why a delivery was not taken, in a sentence that says what happened and what to do. It is shown to
/// the hospital's people and not logged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotDelivered {
    /// The same may succeed later: a service is away, the keystore is locked.
    #[error("{0}")]
    Passing(String),
    /// It fails until a person does something: nobody of this patient number is registered.
    #[error("{0}")]
    ForGood(String),
}

/// Where deliveries go: what seals them.
pub trait Destination {
    /// Seals a delivery. It is called again with the same [`super::DeliveryId`] if the process stopped
    /// before the receipt was kept, so what it does must happen once by that id.
    ///
    /// # Errors
    /// [`NotDelivered`].
    fn deliver(
        &self,
        delivery: &Delivery,
    ) -> impl Future<Output = Result<Receipt, NotDelivered>> + Send;
}

/// How tries are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The pause after the first try; each later one is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// Tries after which a delivery is dead, the first included.
    pub tries_max: u32,
}

impl Default for Pace {
    /// Pauses of 5, 10, 20, 40, 80, 160 and 320 s, 635 s in all, then of 10 minutes: 440 tries are
    /// 635 + 432 x 600 s = 72 hours, a weekend without the network.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(5),
            longest: Duration::from_secs(600),
            tries_max: 440,
        }
    }
}

impl Pace {
    /// The pause after so many tries, in ms.
    pub(super) fn pause_ms(&self, tries: u32) -> u64 {
        let doublings = tries.saturating_sub(1).min(63);
        let first = u64::try_from(self.first.as_millis()).unwrap_or(u64::MAX);
        first.saturating_mul(1 << doublings).min(self.longest_ms())
    }

    fn longest_ms(&self) -> u64 {
        u64::try_from(self.longest.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Gives what waits in a queue to a destination.
#[derive(Debug, Clone)]
pub struct Intake {
    queue: Queue,
    pace: Pace,
}

impl Intake {
    /// From this queue, at this pace.
    pub fn new(queue: Queue, pace: Pace) -> Self {
        Self { queue, pace }
    }

    /// Tries what waits until `stop` completes; what is being tried then has 5 s to end.
    ///
    /// # Errors
    /// [`QueueError`] if the queue's disk fails: then nothing more is tried, and the gateway must be
    /// restarted. A disk that is full is waited for.
    pub async fn run<D: Destination>(
        &self,
        destination: &D,
        stop: impl Future<Output = ()>,
    ) -> Result<(), QueueError> {
        let mut stop = pin!(stop);
        loop {
            let pace = self.pace;
            let claimed = self.queue.blocking(move |queue| {
                queue.claim(|tries| pace.pause_ms(tries), pace.longest_ms())
            });
            let claimed = match claimed.await {
                Ok(claimed) => claimed,
                Err(error) => {
                    self.unless_broken(error)?;
                    tokio::select! {
                        () = &mut stop => return Ok(()),
                        () = tokio::time::sleep(FULL_PAUSE) => continue,
                    }
                }
            };
            let Some(delivery) = claimed else {
                let pause = self.queue.next_try().map_or(LOOK_MS, |next| {
                    next.number()
                        .saturating_sub(now().number())
                        .clamp(1, LOOK_MS)
                });
                tokio::select! {
                    () = &mut stop => return Ok(()),
                    () = self.queue.woken() => {}
                    () = tokio::time::sleep(Duration::from_millis(pause)) => {}
                }
                continue;
            };
            // A destination that panics fails this delivery, not the intake.
            let delivering = AssertUnwindSafe(destination.deliver(&delivery)).catch_unwind();
            let mut delivering = pin!(delivering);
            let mut stopping = false;
            let outcome = tokio::select! {
                biased;
                outcome = &mut delivering => Some(outcome),
                () = &mut stop => {
                    stopping = true;
                    tokio::time::timeout(STOP_TIMEOUT, delivering).await.ok()
                }
            };
            let outcome = match outcome {
                Some(Ok(outcome)) => outcome,
                Some(Err(_)) => Err(NotDelivered::Passing(PANICKED.to_owned())),
                None => Err(NotDelivered::Passing(STOPPED.to_owned())),
            };
            if let Err(error) = self.settle(&delivery, outcome).await {
                self.unless_broken(error)?;
            }
            if stopping {
                return Ok(());
            }
        }
    }

    /// A full disk passes; one that failed does not.
    fn unless_broken(&self, error: QueueError) -> Result<(), QueueError> {
        if self.queue.is_broken() {
            return Err(error);
        }
        tracing::error!(%error, "the queue could not be changed");
        Ok(())
    }

    async fn settle(
        &self,
        delivery: &Delivery,
        outcome: Result<Receipt, NotDelivered>,
    ) -> Result<(), QueueError> {
        let (id, tries) = (delivery.id, delivery.tries);
        let tries_max = self.pace.tries_max;
        let settled = self.queue.blocking(move |queue| match outcome {
            Ok(Receipt(receipt)) => {
                queue.delivered(id, &receipt)?;
                Ok("delivered")
            }
            Err(NotDelivered::Passing(why)) if tries < tries_max => {
                queue.failed(id, &why)?;
                Ok("to be tried again")
            }
            Err(NotDelivered::Passing(why) | NotDelivered::ForGood(why)) => {
                queue.died(id, &why)?;
                Ok("dead")
            }
        });
        let state = settled.await?;
        tracing::info!(%id, source = %delivery.source, tries, state, "a delivery was tried");
        Ok(())
    }
}

const PANICKED: &str = "the gateway failed in the middle of this delivery: if it fails again, report \
                        what its log says";
const STOPPED: &str = "the gateway was stopped in the middle of this delivery: it is tried again";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_double_up_to_ten_minutes_and_last_a_weekend() {
        let pace = Pace::default();
        let seconds = |tries| pace.pause_ms(tries) / 1_000;
        let first: Vec<u64> = (1..=9).map(seconds).collect();
        assert_eq!(first, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(seconds(u32::MAX), 600);
        let all: u64 = (1..pace.tries_max).map(seconds).sum();
        assert_eq!(all, 635 + 432 * 600);
        assert!(all >= 72 * 3_600);
    }
}
