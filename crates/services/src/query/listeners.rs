//! Who waits for news of what: one channel for each request and each inbox's owner, which says only
//! that there is news. What it is stands in the database, so a listener that was slow reads all of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ledger::RequestCommitment;
use scheme::VerifyingKey;
use tokio::sync::watch;

/// Listeners at once. Each holds a connection, of which a service has 1,024: a quarter is left for
/// calls.
const LISTENERS_MAX: usize = 768;
/// Listeners of one key: a doctor's open requests, on two machines.
const LISTENERS_PER_KEY_MAX: usize = 16;

/// What a listener waits for news of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    Request(RequestCommitment),
    Owner(VerifyingKey),
}

/// All who listen.
#[derive(Default)]
pub(super) struct Listeners(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    topics: BTreeMap<Topic, watch::Sender<()>>,
    by_key: BTreeMap<VerifyingKey, usize>,
    all: usize,
}

/// Too many listen.
pub(super) struct Crowded;

impl Listeners {
    /// Listens until it is dropped.
    pub(super) fn listen(
        self: &Arc<Self>,
        key: VerifyingKey,
        topic: Topic,
    ) -> Result<Listening, Crowded> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = inner.by_key.get(&key).copied().unwrap_or_default();
        if inner.all >= LISTENERS_MAX || own >= LISTENERS_PER_KEY_MAX {
            return Err(Crowded);
        }
        inner.all += 1;
        inner.by_key.insert(key, own + 1);
        let sender = inner.topics.entry(topic).or_default();
        Ok(Listening {
            listeners: Arc::clone(self),
            key,
            topic,
            news: sender.subscribe(),
        })
    }

    /// There is news of this.
    pub(super) fn wake(&self, topic: Topic) {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = inner.topics.get(&topic) {
            sender.send_replace(());
        }
    }
}

/// One who listens.
pub(super) struct Listening {
    listeners: Arc<Listeners>,
    key: VerifyingKey,
    topic: Topic,
    news: watch::Receiver<()>,
}

impl Listening {
    /// What comes from now on is news; called before reading what there is.
    pub(super) fn catch_up(&mut self) {
        self.news.borrow_and_update();
    }

    /// Waits for news.
    pub(super) async fn news(&mut self) {
        if self.news.changed().await.is_err() {
            // The sender stands in the map for as long as this listener does.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut inner = self
            .listeners
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        inner.all -= 1;
        if let Some(own) = inner.by_key.get_mut(&self.key) {
            *own -= 1;
            if *own == 0 {
                inner.by_key.remove(&self.key);
            }
        }
        let alone = inner
            .topics
            .get(&self.topic)
            .is_some_and(|sender| sender.receiver_count() <= 1);
        if alone {
            inner.topics.remove(&self.topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use ledger::testing::rng;
    use scheme::{SigningKey, sha256};

    use super::*;

    #[tokio::test]
    async fn news_reach_who_listens_and_bounds_hold() {
        let listeners = Arc::new(Listeners::default());
        let key = SigningKey::random(&mut rng("listener", 0)).verifying_key();
        let topic = Topic::Request(sha256(b"a request").into());
        let mut first = listeners.listen(key, topic).ok().expect("the first");
        first.catch_up();
        listeners.wake(Topic::Owner(key));
        let nothing = tokio::time::timeout(std::time::Duration::from_millis(20), first.news());
        assert!(nothing.await.is_err());
        // News between reading and waiting is not missed.
        listeners.wake(topic);
        first.news().await;
        let more: Vec<_> = (1..LISTENERS_PER_KEY_MAX)
            .filter_map(|_| listeners.listen(key, topic).ok())
            .collect();
        assert_eq!(more.len(), LISTENERS_PER_KEY_MAX - 1);
        assert!(listeners.listen(key, topic).is_err());
        let other = SigningKey::random(&mut rng("listener", 1)).verifying_key();
        drop(listeners.listen(other, topic).ok().expect("another key"));
        drop(more);
        listeners.wake(topic);
        first.catch_up();
        drop(first);
        let inner = listeners.0.lock().unwrap();
        assert_eq!(
            (inner.all, inner.topics.len(), inner.by_key.len()),
            (0, 0, 0)
        );
    }
}
