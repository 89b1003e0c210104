//! What the gateway shows to those who supervise it.

use std::time::Duration;

use futures::future::BoxFuture;
use services::{Check, IntakeCounts, Look, Watched, chain_answers, database_answers};

use crate::gateway::{Gateway, now_ms};
use crate::intake::Queue;

impl Watched for Gateway {
    fn look(&self) -> BoxFuture<'_, Look> {
        Box::pin(async {
            let (database, chain) = tokio::join!(
                database_answers(self.register().database()),
                chain_answers(self.desk().network().client())
            );
            // A register that does not answer says so in the check, and is not waited for again.
            let grants = match database.ok {
                true => self.register().grants().await.ok(),
                false => None,
            };
            let mut checks = vec![database, chain];
            checks.extend(self.queue().map(takes));
            let intake = self.queue().map(|queue| counts(queue, now_ms()));
            Look::at_gateway(checks, grants.map(|grants| grants.len()), intake)
        })
    }
}

/// That what systems give can be kept. Dead letters are somebody's work, and no fault of the gateway's.
fn takes(queue: &Queue) -> Check {
    const NAME: &str = "intake";
    if queue.is_broken() {
        return Check::fails(
            NAME,
            "the queue's folder could not be written",
            "see the disk, its room and its permissions, and start the gateway again",
        );
    }
    match queue.room(1) {
        Ok(()) => Check::holds(NAME, "the queue takes deliveries"),
        Err(_) => Check::fails(
            NAME,
            "the queue is full",
            "see with willis intake list what waits and why; retry or discard dead letters",
        ),
    }
}

fn counts(queue: &Queue, now: u64) -> IntakeCounts {
    let (counts, bounds) = (queue.counts(), queue.bounds());
    let age = counts.oldest.map_or(0, |oldest| now.saturating_sub(oldest));
    IntakeCounts {
        waiting: counts.waiting,
        dead: counts.dead,
        deliveries_max: bounds.deliveries_max,
        bytes: counts.bytes,
        bytes_max: bounds.bytes_max,
        oldest: Duration::from_millis(age),
    }
}
