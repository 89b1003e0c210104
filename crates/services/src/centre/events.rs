//! An enrolment's states as they come (`text/event-stream`).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use client::{EnrolmentStatus, Problem};
use futures::{Stream, stream};
use scheme::{Subject, VerifyingKey};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::centre::CentreService;

/// Streams at once: a quarter of the connections.
const LISTENERS_MAX: usize = 256;
/// Streams of one enrolment: a few devices, and one that broke off unnoticed.
const LISTENERS_EACH_MAX: usize = 4;
/// How often a stream says something; a client gives up after 15 s of silence.
const KEEP_ALIVE: Duration = Duration::from_secs(8);
/// How long a stream lasts; then it is opened anew.
const LIFE: Duration = Duration::from_secs(15 * 60);

/// Who listens.
#[derive(Default)]
pub(super) struct Listeners(Arc<Mutex<BTreeMap<Subject, usize>>>);

/// One who listens, until it is dropped.
struct Listener {
    all: Arc<Mutex<BTreeMap<Subject, usize>>>,
    subject: Subject,
}

impl Listeners {
    fn enter(&self, subject: Subject) -> Result<Listener, Problem> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.get(&subject).copied().unwrap_or_default();
        if all.values().sum::<usize>() >= LISTENERS_MAX || own >= LISTENERS_EACH_MAX {
            return Err(Problem::busy(
                "too many wait for events here: ask for the enrolment itself every few seconds",
            ));
        }
        all.insert(subject, own + 1);
        Ok(Listener {
            all: Arc::clone(&self.0),
            subject,
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&self.subject) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                all.remove(&self.subject);
            }
        }
    }
}

/// The present state, then each later one, until the service stops or the stream is old.
pub(super) async fn events(
    service: Arc<CentreService>,
    subject: Subject,
    account: VerifyingKey,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let changes = service.changed.subscribe();
    let stopping = service.stopping.subscribe();
    let first = service
        .own(subject, &account)
        .await?
        .status(&service.identity_key)?;
    let listener = service.listeners.enter(subject)?;
    let end = Instant::now() + LIFE;
    let state = (service, changes, stopping, listener, Some(first), None);
    let states = stream::unfold(state, move |state| async move {
        let (service, mut changes, mut stopping, listener, mut next, mut said) = state;
        loop {
            if let Some(status) = next.take()
                && said.as_ref() != Some(&status)
            {
                let event = event(&status)?;
                let state = (service, changes, stopping, listener, None, Some(status));
                return Some((Ok(event), state));
            }
            let changed = tokio::select! {
                changed = changes.recv() => changed,
                _ = stopping.wait_for(|stopping| *stopping) => return None,
                () = tokio::time::sleep_until(end) => return None,
            };
            match changed {
                Ok(changed) if changed != subject => continue,
                // Some were missed: what stands is read all the same.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
            // The database is away: the stream ends, and the client asks.
            let row = service.own(subject, &account).await.ok()?;
            next = Some(row.status(&service.identity_key).ok()?);
            said = said.take();
        }
    });
    Ok(Sse::new(states).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn event(status: &EnrolmentStatus) -> Option<Event> {
    Event::default().event("state").json_data(status).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_listen_than_the_bounds_allow() {
        let listeners = Listeners::default();
        let one = Subject::new(1);
        let mut held: Vec<_> = (0..LISTENERS_EACH_MAX)
            .map(|_| listeners.enter(one).unwrap())
            .collect();
        assert!(listeners.enter(one).is_err());
        held.pop();
        held.push(listeners.enter(one).unwrap());
        for subject in 2..=(LISTENERS_MAX - LISTENERS_EACH_MAX + 1) as u64 {
            held.push(listeners.enter(Subject::new(subject)).unwrap());
        }
        assert!(listeners.enter(Subject::new(9_999)).is_err());
        held.clear();
        assert!(listeners.0.lock().unwrap().is_empty());
    }
}
