//! Streams of events (`text/event-stream`): what waits for a listener, then what comes. A listener
//! looks into the database again whenever something happened to its topic, so an event is never the
//! only trace of what it says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive, KeepAliveStream};
use client::ProblemKind;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use crate::http::Refused;

/// Listeners at once: each holds a connection, of which there are 1,024, and some KiB.
const LISTENERS_MAX: usize = 512;
/// Listeners to one topic: a doctor's machines, a patient's devices.
const LISTENERS_OF_TOPIC_MAX: usize = 8;
/// What happened and was not yet noticed; a listener that missed some looks again.
const TOPICS_QUEUED_MAX: usize = 1_024;
/// How often a stream says that it is alive. Clients give one up after 15 s.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// A stream of events on its way to the listener.
pub(super) type Events = Sse<KeepAliveStream<BoxStream<'static, Result<Event, Infallible>>>>;

/// What one listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// A doctor's hand-overs.
    Handovers([u8; 8]),
    /// A UID's receipts.
    Receipts([u8; 8]),
    /// A transaction's state.
    Transaction([u8; 32]),
}

/// Who listens.
pub(super) struct Listeners {
    happened: broadcast::Sender<Topic>,
    closed: watch::Sender<bool>,
    counts: Arc<Mutex<BTreeMap<Topic, usize>>>,
}

/// What a look found.
pub(super) struct Look {
    /// Each with what it is known by: one that the listener heard is not said again.
    pub(super) found: Vec<(Vec<u8>, String)>,
    /// Nothing will come any more.
    pub(super) is_over: bool,
}

impl Listeners {
    pub(super) fn new() -> Self {
        Self {
            happened: broadcast::Sender::new(TOPICS_QUEUED_MAX),
            closed: watch::Sender::new(false),
            counts: Arc::default(),
        }
    }

    /// Something happened.
    pub(super) fn tell(&self, topic: Topic) {
        // Without a listener nobody needs to know.
        let _ = self.happened.send(topic);
    }

    /// Ends all streams.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// A stream of events of this name: what `look` finds now and whenever something happened.
    pub(super) fn stream(
        &self,
        topic: Topic,
        name: &'static str,
        look: impl Fn() -> BoxFuture<'static, Result<Look, Refused>> + Send + Sync + 'static,
    ) -> Result<Events, Refused> {
        let place = self.place(topic)?;
        let state = Listener {
            topic,
            happened: self.happened.subscribe(),
            closed: self.closed.subscribe(),
            heard: BTreeSet::new(),
            ready: VecDeque::new(),
            has_looked: false,
            is_over: false,
            _place: place,
        };
        let events = futures::stream::unfold((state, look), move |(mut state, look)| async move {
            let data = state.next(&look).await?;
            let event = Event::default().event(name).data(data);
            Some((Ok(event), (state, look)))
        });
        Ok(Sse::new(events.boxed()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
    }

    fn place(&self, topic: Topic) -> Result<Place, Refused> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_topic = counts.get(&topic).copied().unwrap_or_default();
        if of_topic >= LISTENERS_OF_TOPIC_MAX || counts.values().sum::<usize>() >= LISTENERS_MAX {
            return Err(Refused::new(
                ProblemKind::Busy,
                "too many are listening: close another stream, or ask from time to time instead",
            ));
        }
        counts.insert(topic, of_topic + 1);
        Ok(Place {
            topic,
            counts: Arc::clone(&self.counts),
        })
    }
}

/// A listener's place among those that there can be.
struct Place {
    topic: Topic,
    counts: Arc<Mutex<BTreeMap<Topic, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.topic) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                counts.remove(&self.topic);
            }
        }
    }
}

struct Listener {
    topic: Topic,
    happened: broadcast::Receiver<Topic>,
    closed: watch::Receiver<bool>,
    /// What of the last look was said.
    heard: BTreeSet<Vec<u8>>,
    ready: VecDeque<String>,
    has_looked: bool,
    is_over: bool,
    _place: Place,
}

impl Listener {
    /// The next event's data; `None` ends the stream, and whoever listens opens it anew.
    async fn next(
        &mut self,
        look: &(impl Fn() -> BoxFuture<'static, Result<Look, Refused>> + Sync),
    ) -> Option<String> {
        loop {
            if let Some(data) = self.ready.pop_front() {
                return Some(data);
            }
            if self.is_over || (self.has_looked && !self.has_changed().await) {
                return None;
            }
            self.has_looked = true;
            let look = look().await.ok()?;
            self.is_over = look.is_over;
            let mut heard = BTreeSet::new();
            for (known_by, data) in look.found {
                if !self.heard.contains(&known_by) {
                    self.ready.push_back(data);
                }
                heard.insert(known_by);
            }
            self.heard = heard;
        }
    }

    /// Waits until something happened to the topic; false if the service stops.
    async fn has_changed(&mut self) -> bool {
        loop {
            if *self.closed.borrow_and_update() {
                return false;
            }
            tokio::select! {
                _ = self.closed.changed() => return false,
                happened = self.happened.recv() => match happened {
                    Ok(topic) if topic != self.topic => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return true,
                    Err(RecvError::Closed) => return false,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_a_few_listeners_and_a_closed_stream_gives_its_place_back() {
        let listeners = Listeners::new();
        let topic = Topic::Handovers([1; 8]);
        let mut places: Vec<_> = (0..LISTENERS_OF_TOPIC_MAX)
            .map(|_| listeners.place(topic).unwrap())
            .collect();
        assert!(listeners.place(topic).is_err());
        assert!(listeners.place(Topic::Receipts([1; 8])).is_ok());
        places.pop();
        assert!(listeners.place(topic).is_ok());
        drop(places);
        assert!(listeners.counts.lock().unwrap().is_empty());
    }
}
