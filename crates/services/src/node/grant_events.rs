//! What becomes of the grants that name an access key, as it becomes final: all of it stands on the
//! chain, so whoever reaches the node may listen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::Event;
use chain::Submitter;
use client::{GrantEvent, GrantStanding, Hex, Problem};
use futures::stream;
use ledger::ReadError;
use parties::{FinalChain, GRANTS_MAX};
use scheme::VerifyingKey;
use tokio::time::Instant;

use super::{NodeChain, NodeService, blocking};
use crate::http::{Events, Listeners, ListenersMax, Listening, Refused};

/// A quarter of the connections. The doctors of a hospital may share an address; at each block all
/// listeners together look up at most 256 x 8 keys and as many grants.
const LISTENERS_MAX: ListenersMax = ListenersMax { all: 256, each: 64 };
/// How long a stream lasts; then it is opened anew.
const LIFE: Duration = Duration::from_secs(15 * 60);

/// Who listens, counted by address. There is one thing to hear of: the next block.
pub(super) type BlockListeners = Listeners<Submitter, ()>;

pub(super) fn listeners() -> Arc<BlockListeners> {
    Listeners::new(LISTENERS_MAX)
}

/// Reads the access keys of a request: 1 to [`GRANTS_MAX`] of 64 hexadecimal digits, with commas.
pub(super) fn access_keys(text: &str) -> Result<Vec<VerifyingKey>, Refused> {
    let keys: Option<Vec<VerifyingKey>> = text
        .split(',')
        // One more than there can be is enough to refuse.
        .take(GRANTS_MAX + 1)
        .map(|key| key.parse::<Hex<32>>().ok())
        .map(|key| key.map(|key| VerifyingKey::new(key.0)))
        .collect();
    keys.filter(|keys| keys.len() <= GRANTS_MAX).ok_or_else(|| {
        Refused::new(
            client::ProblemKind::Malformed,
            "access_keys takes 1 to 8 keys of 64 hexadecimal digits each, with commas between them",
        )
    })
}

/// What stands of these keys, then what becomes of them, until all their grants are over, the service
/// stops or the stream is old.
pub(super) async fn events(
    service: Arc<NodeService>,
    listener: Submitter,
    keys: Vec<VerifyingKey>,
) -> Result<Events, Refused> {
    let listening = service.listeners.listen(listener, ())?;
    let first = Follower {
        service,
        listening,
        said: keys.into_iter().map(|key| (key, None)).collect(),
        ready: Vec::new(),
        end: Instant::now() + LIFE,
        has_looked: false,
    };
    let events = stream::unfold(first, |mut follower| async move {
        let event = follower.next().await?;
        Some((event, follower))
    });
    Ok(crate::http::events(events))
}

struct Follower {
    service: Arc<NodeService>,
    listening: Listening<Submitter, ()>,
    /// What was said of each key.
    said: BTreeMap<VerifyingKey, Option<GrantStanding>>,
    ready: Vec<GrantEvent>,
    end: Instant,
    has_looked: bool,
}

impl Follower {
    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop() {
                return Event::default().event("grant").json_data(event).ok();
            }
            let over = |said: &Option<GrantStanding>| said.is_some_and(GrantStanding::is_over);
            if self.said.values().all(over) {
                return None;
            }
            let goes_on = !self.has_looked
                || tokio::select! {
                    goes_on = self.listening.news() => goes_on,
                    () = tokio::time::sleep_until(self.end) => false,
                };
            if !goes_on {
                return None;
            }
            self.has_looked = true;
            self.listening.catch_up();
            let service = Arc::clone(&self.service);
            let living = self.said.iter().filter(|(_, said)| !over(said));
            let living: Vec<VerifyingKey> = living.map(|(key, _)| *key).collect();
            // The store fails: the stream ends, and the client asks other nodes.
            let found = blocking(move || {
                found(&NodeChain::now(&service.handle), &living)
                    .map_err(|error| Problem::internal(&error))
            });
            for event in found.await.ok()? {
                let key = VerifyingKey::new(event.access_key.0);
                if self.said.insert(key, Some(event.standing)) != Some(Some(event.standing)) {
                    self.ready.push(event);
                }
            }
        }
    }
}

/// The grants that name these keys, as they stand now.
fn found(chain: &NodeChain<'_>, keys: &[VerifyingKey]) -> Result<Vec<GrantEvent>, ReadError> {
    let view = chain.view();
    let tip = ledger::tip(view)?;
    let mut events = Vec::new();
    for key in keys {
        let Some(gid) = ledger::grant_of(view, key)? else {
            continue;
        };
        let Some(grant) = ledger::grant(view, gid)? else {
            continue;
        };
        events.push(GrantEvent {
            access_key: Hex(*key.as_bytes()),
            gid: Hex(*gid.as_bytes()),
            standing: GrantStanding::of(grant.revoked.is_some(), grant.expiry, tip.time),
            height: tip.height.number(),
        });
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_within_their_bound() {
        let key = "ab".repeat(32);
        let several = |count: usize| vec![key.clone(); count].join(",");
        assert_eq!(access_keys(&key).unwrap(), [VerifyingKey::new([0xab; 32])]);
        assert_eq!(access_keys(&several(GRANTS_MAX)).unwrap().len(), GRANTS_MAX);
        for wrong in [
            String::new(),
            "ab".into(),
            format!("{key},"),
            several(GRANTS_MAX + 1),
            several(100_000),
        ] {
            assert!(access_keys(&wrong).is_err());
        }
    }
}
