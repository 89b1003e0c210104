//! What the query manager shows to those who supervise it.

use futures::future::BoxFuture;

use super::QueryService;
use crate::watching::*;

/// The states in which a request waits for somebody (`client::RequestState`).
const WAITING: &[&str] = &["queued", "forwarded", "collected", "reminded", "with-agent"];

impl Watched for QueryService {
    fn look(&self) -> BoxFuture<'_, Look> {
        Box::pin(async {
            let (answers, reaches) = tokio::join!(
                database_answers(self.store.database()),
                chain_answers(&self.nodes)
            );
            let mut look = Look::default();
            // Records that do not answer say so in the check, and are not waited for again.
            if answers.ok
                && let Ok(found) = self.store.waiting().await
            {
                look.samples.extend(WAITING.iter().map(|state| {
                    let count = found.iter().find(|(known, _)| known == state);
                    let count = count.map_or(0, |(_, count)| *count);
                    Sample::of(&QUERY_REQUESTS, vec![Label::Text(state)], count)
                }));
            }
            look.checks = vec![answers, reaches];
            look
        })
    }
}

#[cfg(test)]
mod tests {
    use client::RequestState;

    use super::*;

    #[test]
    fn the_states_that_wait_are_the_client_s() {
        for state in WAITING {
            let state: RequestState = serde_json::from_value((*state).into()).unwrap();
            assert!(!state.is_decided());
        }
    }
}
