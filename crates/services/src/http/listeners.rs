//! Who waits for news of what, in streams of events (`text/event-stream`). A channel says only that
//! there is news; what it is stands in the database, so a listener that was slow reads all of it, and
//! an event is never the only trace of what it says.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive, KeepAliveStream};
use client::ProblemKind;
use futures::stream::{BoxStream, Stream, StreamExt};
use tokio::sync::watch;
use utoipa::openapi::{ObjectBuilder, Ref, RefOr, Schema, Type};

use crate::http::refused::Refused;

/// How often a stream says that it is alive. Clients give one up after 15 s.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// A stream of events on its way to the listener.
pub(crate) type Events = Sse<KeepAliveStream<BoxStream<'static, Result<Event, Infallible>>>>;

/// A stream that says something even while nothing happens.
pub(crate) fn events(stream: impl Stream<Item = Event> + Send + 'static) -> Events {
    Sse::new(stream.map(Ok).boxed()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// Names one event of a stream for an OpenAPI document; its data is the type's JSON.
macro_rules! streamed {
    ($name:ident, $data:ty) => {
        /// One event of a stream, as an OpenAPI document names it.
        struct $name;

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::http::event_schema(&<$data as utoipa::ToSchema>::name())
            }
        }

        impl utoipa::ToSchema for $name {
            fn schemas(
                schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>,
            ) {
                schemas.push((
                    <$data as utoipa::ToSchema>::name().into_owned(),
                    <$data as utoipa::PartialSchema>::schema(),
                ));
                <$data as utoipa::ToSchema>::schemas(schemas);
            }
        }
    };
}
pub(crate) use streamed;

/// The fields of an event whose data is a JSON text of the schema with this name.
pub(crate) fn event_schema(data: &str) -> RefOr<Schema> {
    let text = |description: &str| {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(description))
    };
    let data: RefOr<Schema> = RefOr::Ref(Ref::from_schema_name(data));
    let data = text("JSON.")
        .content_media_type("application/json")
        .content_schema(Some(data));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some("One event of the stream."))
        .property("data", data)
        .property("event", text("The event's name."))
        .property("id", text("The event's number, where events are numbered."))
        .required("data")
        .required("event")
        .build()
        .into()
}

/// How many may listen. Each holds a connection, of which a service has 1,024.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListenersMax {
    /// At once.
    pub(crate) all: usize,
    /// Of one listener, as the service tells them apart.
    pub(crate) each: usize,
}

/// All who listen: `K` tells listeners apart, `T` is what they wait for news of.
pub(crate) struct Listeners<K, T> {
    most: ListenersMax,
    inner: Mutex<Inner<K, T>>,
    closed: watch::Sender<bool>,
}

struct Inner<K, T> {
    topics: BTreeMap<T, watch::Sender<()>>,
    by_listener: BTreeMap<K, usize>,
    all: usize,
}

impl<K: Ord + Clone, T: Ord + Clone> Listeners<K, T> {
    pub(crate) fn new(most: ListenersMax) -> Arc<Self> {
        Arc::new(Self {
            most,
            inner: Mutex::new(Inner {
                topics: BTreeMap::new(),
                by_listener: BTreeMap::new(),
                all: 0,
            }),
            closed: watch::Sender::new(false),
        })
    }

    /// Listens until it is dropped.
    pub(crate) fn listen(
        self: &Arc<Self>,
        listener: K,
        topic: T,
    ) -> Result<Listening<K, T>, Refused> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let own = inner
            .by_listener
            .get(&listener)
            .copied()
            .unwrap_or_default();
        if inner.all >= self.most.all || own >= self.most.each {
            return Err(Refused::new(
                ProblemKind::TooMany,
                "too many listen, in all or here: close a stream, or ask again every few seconds instead",
            ));
        }
        inner.all += 1;
        inner.by_listener.insert(listener.clone(), own + 1);
        let news = inner.topics.entry(topic.clone()).or_default().subscribe();
        Ok(Listening {
            listeners: Arc::clone(self),
            listener,
            topic,
            news,
            closed: self.closed.subscribe(),
        })
    }

    /// There is news of this; nobody may listen.
    pub(crate) fn tell(&self, topic: &T) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = inner.topics.get(topic) {
            sender.send_replace(());
        }
    }

    /// Ends all streams, which would hold the service's end up.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }
}

/// One who listens.
pub(crate) struct Listening<K: Ord, T: Ord> {
    listeners: Arc<Listeners<K, T>>,
    listener: K,
    topic: T,
    news: watch::Receiver<()>,
    closed: watch::Receiver<bool>,
}

impl<K: Ord, T: Ord> Listening<K, T> {
    /// What comes from now on is news; called before reading what there is.
    pub(crate) fn catch_up(&mut self) {
        self.news.borrow_and_update();
    }

    /// Waits for news; false if the service stops.
    pub(crate) async fn news(&mut self) -> bool {
        if *self.closed.borrow_and_update() {
            return false;
        }
        tokio::select! {
            _ = self.closed.changed() => false,
            // The sender stands in the map for as long as this listener does.
            told = self.news.changed() => told.is_ok(),
        }
    }
}

impl<K: Ord, T: Ord> Drop for Listening<K, T> {
    fn drop(&mut self) {
        let inner = self.listeners.inner.lock();
        let mut inner = inner.unwrap_or_else(PoisonError::into_inner);
        inner.all -= 1;
        match inner.by_listener.get_mut(&self.listener) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                inner.by_listener.remove(&self.listener);
            }
        }
        let topic = inner.topics.get(&self.topic);
        if topic.is_some_and(|sender| sender.receiver_count() <= 1) {
            inner.topics.remove(&self.topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn news_reach_who_listens_and_bounds_hold() {
        let most = ListenersMax { all: 6, each: 4 };
        let listeners = Listeners::new(most);
        let mut first = listeners.listen("a", 1).expect("the first");
        first.catch_up();
        listeners.tell(&2);
        let nothing = tokio::time::timeout(Duration::from_millis(20), first.news());
        assert!(nothing.await.is_err());
        // News between reading and waiting is not missed.
        listeners.tell(&1);
        assert!(first.news().await);
        let mut more: Vec<_> = (1..most.each)
            .map(|_| listeners.listen("a", 1).expect("within the bound"))
            .collect();
        assert!(listeners.listen("a", 1).is_err());
        more.extend((0..2).map(|_| listeners.listen("b", 1).expect("another")));
        assert!(listeners.listen("c", 1).is_err(), "six listen");
        more.pop();
        drop(listeners.listen("c", 3).expect("a place was given back"));
        drop(more);
        listeners.close();
        assert!(!first.news().await);
        drop(first);
        let inner = listeners.inner.lock().unwrap();
        let left = (inner.all, inner.topics.len(), inner.by_listener.len());
        assert_eq!(left, (0, 0, 0));
    }
}
