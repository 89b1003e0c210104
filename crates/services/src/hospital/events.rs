//! Streams of events: what waits for a listener, then what comes. A listener looks into the database
//! again whenever there is news of its topic.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use axum::response::sse::Event;
use futures::future::BoxFuture;

use crate::http::{Events, Listeners, ListenersMax, Listening, Refused, events};

/// Half of the connections; a doctor's machines, a patient's devices.
const LISTENERS_MAX: ListenersMax = ListenersMax { all: 512, each: 8 };

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

/// Who listens; counted by topic.
pub(super) type TopicListeners = Listeners<Topic, Topic>;

pub(super) fn listeners() -> Arc<TopicListeners> {
    Listeners::new(LISTENERS_MAX)
}

/// What a look found.
pub(super) struct Look {
    /// Each with what it is known by: one that the listener heard is not said again.
    pub(super) found: Vec<(Vec<u8>, String)>,
    /// Nothing will come any more.
    pub(super) is_over: bool,
}

/// A stream of events of this name: what `look` finds now and whenever there is news.
pub(super) fn stream(
    listeners: &Arc<TopicListeners>,
    topic: Topic,
    name: &'static str,
    look: impl Fn() -> BoxFuture<'static, Result<Look, Refused>> + Send + Sync + 'static,
) -> Result<Events, Refused> {
    let listener = Listener {
        listening: listeners.listen(topic, topic)?,
        heard: BTreeSet::new(),
        ready: VecDeque::new(),
        has_looked: false,
        is_over: false,
    };
    let told = futures::stream::unfold((listener, look), move |(mut listener, look)| async move {
        let data = listener.next(&look).await?;
        Some((Event::default().event(name).data(data), (listener, look)))
    });
    Ok(events(told))
}

struct Listener {
    listening: Listening<Topic, Topic>,
    /// What of the last look was said.
    heard: BTreeSet<Vec<u8>>,
    ready: VecDeque<String>,
    has_looked: bool,
    is_over: bool,
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
            if self.is_over || (self.has_looked && !self.listening.news().await) {
                return None;
            }
            self.has_looked = true;
            self.listening.catch_up();
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
}
