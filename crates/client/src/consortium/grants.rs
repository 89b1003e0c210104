//! Following grants by their access keys: a node's event is a hint, and what f + 1 nodes then say is
//! believed. Where no stream of events can be had, the nodes are asked every few seconds.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream, SelectAll, StreamExt};
use ledger::Height;
use parties::{AgreedGrant, GRANTS_MAX};
use scheme::{InstitutionId, Timestamp, VerifyingKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AGAIN, ConsortiumClient, JUST_FINAL};
use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::service::{Event, ServiceClient};
use crate::text::Hex;

/// How often the nodes are asked without a hint.
const POLL: Duration = Duration::from_secs(5);
/// How long a stream that ended or was refused is left before it is opened anew.
const REOPEN: Duration = Duration::from_secs(3);
/// What a node can say of one key in one stream: recorded, revoked, expired.
const EVENTS_OF_A_KEY: usize = 3;
/// Hints of one node beyond those, for streams that were opened anew. A node that gives more is not
/// listened to any more: each has the client ask all nodes for some seconds.
const HINTS_TO_SPARE: usize = 8;
/// How many blocks below an agreed height its time is asked for: the last may lack a certificate yet.
const UNCERTIFIED: u64 = 2;

/// How a grant stands on the chain.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum GrantStanding {
    /// It is recorded, and serves from its beginning on.
    Recorded,
    /// The patient revoked it.
    Revoked,
    /// It has expired, by the chain's time.
    Expired,
}

impl GrantStanding {
    /// By its entry and the time of the last block.
    pub fn of(revoked: bool, expiry: Timestamp, time: Timestamp) -> Self {
        if revoked {
            Self::Revoked
        } else if time >= expiry {
            Self::Expired
        } else {
            Self::Recorded
        }
    }

    /// Whether it will never serve again.
    pub fn is_over(self) -> bool {
        self != Self::Recorded
    }
}

/// What a node says in its stream of events of a grant. It is no more than a hint: the client asks
/// f + 1 nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantEvent {
    /// The access key that the grant names.
    pub access_key: Hex<32>,
    /// The grant.
    pub gid: Hex<32>,
    /// How it stands.
    pub standing: GrantStanding,
    /// At which final height of the node.
    pub height: u64,
}

/// A grant that names a followed access key, as f + 1 nodes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedGrant {
    /// The access key.
    pub access_key: VerifyingKey,
    /// The grant and its entry.
    pub grant: AgreedGrant,
    /// How it stands.
    pub standing: GrantStanding,
}

/// One access key that is followed.
struct Followed {
    said: Option<GrantStanding>,
    /// When the nodes are asked next.
    next: Instant,
    /// Until when they are asked in quick succession: they need not all be as far as the one that
    /// gave the hint.
    eager_until: Instant,
}

impl Followed {
    fn is_over(&self) -> bool {
        self.said.is_some_and(GrantStanding::is_over)
    }
}

impl ConsortiumClient {
    /// Follows the grants that name these access keys for as long as `bound`: `take` is told of each
    /// that is recorded, revoked or has expired, once for each, until it breaks off or all are over.
    /// What stands already is told first. It is told only what f + 1 nodes say alike, so the time that
    /// one question takes may come on top of `bound`.
    ///
    /// f + 1 nodes are listened to, which shows them the keys and the caller's address; keys above
    /// [`GRANTS_MAX`] are asked for every few seconds only, as all are where no stream can be had.
    /// That a family agent's appointment was withdrawn, or a doctor's certificate, is not told here:
    /// the next search says so.
    ///
    /// # Errors
    /// [`ClientError`] if never f + 1 nodes agreed in that time.
    pub async fn follow_grants(
        &self,
        access_keys: &[VerifyingKey],
        bound: Duration,
        mut take: impl FnMut(FollowedGrant) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let begun = Instant::now();
        let end = begun + bound;
        let one = || Followed {
            said: None,
            next: begun,
            eager_until: begun,
        };
        let mut followed: BTreeMap<VerifyingKey, Followed> =
            access_keys.iter().map(|key| (*key, one())).collect();
        let hints_max = EVENTS_OF_A_KEY * followed.len() + HINTS_TO_SPARE;
        let mut given: BTreeMap<InstitutionId, usize> = BTreeMap::new();
        let listened: Vec<VerifyingKey> = followed.keys().take(GRANTS_MAX).copied().collect();
        let mut hints = self.grant_hints(&listened);
        let mut failure = Some(ClientError::Nobody);
        loop {
            for (key, one) in &mut followed {
                if one.is_over() || one.next > Instant::now() {
                    continue;
                }
                match self.followed_grant(*key).await {
                    Ok(found) => {
                        failure = None;
                        let news = found.filter(|found| one.said != Some(found.standing));
                        if let Some(found) = news {
                            one.said = Some(found.standing);
                            one.eager_until = begun;
                            if take(found).is_break() {
                                return Ok(());
                            }
                        }
                    }
                    Err(error) => failure = failure.map(|_| error),
                }
                let now = Instant::now();
                one.next = now + if now < one.eager_until { AGAIN } else { POLL };
            }
            let living = followed.values().filter(|one| !one.is_over());
            let Some(next) = living.map(|one| one.next).min() else {
                return Ok(());
            };
            let now = Instant::now();
            if now >= end {
                return failure.map_or(Ok(()), Err);
            }
            let pause = next.min(end).saturating_duration_since(now);
            let Ok(hint) = tokio::time::timeout(pause, hints.next()).await else {
                continue;
            };
            let Some((node, event)) = hint else {
                // Nobody is listened to.
                tokio::time::sleep(pause).await;
                continue;
            };
            let key = VerifyingKey::new(event.access_key.0);
            let given = given.entry(node).or_default();
            if let Some(one) = followed.get_mut(&key)
                && one.said != Some(event.standing)
                && *given < hints_max
            {
                *given += 1;
                let now = Instant::now();
                one.next = now;
                one.eager_until = now + JUST_FINAL;
            }
        }
    }

    /// The grant that names an access key and how it stands, as f + 1 nodes say.
    async fn followed_grant(
        &self,
        access_key: VerifyingKey,
    ) -> Result<Option<FollowedGrant>, ClientError> {
        let Some(grant) = self.grant_of(access_key).await? else {
            return Ok(None);
        };
        let time = if grant.state.revoked {
            Timestamp::new(0)
        } else {
            // Without a proof of the chain's time it is not said to have expired.
            self.proved_time().await.unwrap_or(Timestamp::new(0))
        };
        let standing = GrantStanding::of(grant.state.revoked, grant.state.expiry, time);
        Ok(Some(FollowedGrant {
            access_key,
            grant,
            standing,
        }))
    }

    /// The time of a block that is proved final, at most a few below the height that f + 1 nodes have
    /// reached.
    async fn proved_time(&self) -> Result<Timestamp, ClientError> {
        let height = self.height().await?.number().saturating_sub(UNCERTIFIED);
        let headers = self.headers(Height::new(height.max(1))).await?;
        headers
            .last()
            .map(|header| header.time)
            .ok_or(ClientError::Nobody)
    }

    /// Events of f + 1 nodes, of which one is correct, so that none of what happens is missed by all.
    /// Which nodes follows from the keys, so that not all doctors listen to the same.
    fn grant_hints(
        &self,
        keys: &[VerifyingKey],
    ) -> SelectAll<BoxStream<'static, (InstitutionId, GrantEvent)>> {
        let named: Vec<String> = keys.iter().map(|key| hex::encode(key.as_bytes())).collect();
        let target = format!("/v1/grants/events?access_keys={}", named.join(","));
        let begin = keys.first().map_or(0, |key| usize::from(key.as_bytes()[0]));
        let voters = self.membership.voters();
        let count = voters.len();
        let nodes = voters.iter().cycle().skip(begin % count.max(1));
        let listened = self.nodes().quorum().one_correct().min(count);
        let listened = if keys.is_empty() { 0 } else { listened };
        let listened = nodes
            .take(listened)
            .filter_map(|node| Some((*node, self.membership.endpoint(*node)?)));
        let streams = listened.map(|(node, endpoint)| {
            let hints = self.hints_of(&endpoint, &target, EVENTS_OF_A_KEY * keys.len());
            stream::unfold(hints, move |mut hints| async move {
                let event = hints.next().await;
                Some(((node, event), hints))
            })
            .boxed()
        });
        stream::select_all(streams)
    }

    fn hints_of(&self, endpoint: &Endpoint, target: &str, events_max: usize) -> Hints {
        Hints {
            client: ServiceClient::new(self.consortium, endpoint.clone()),
            target: target.to_owned(),
            events_max,
            open: None,
            opened_before: false,
        }
    }
}

/// One node's events, from one stream after the other.
struct Hints {
    client: ServiceClient,
    target: String,
    /// What one stream can say.
    events_max: usize,
    open: Option<(BoxStream<'static, Result<Event, ClientError>>, usize)>,
    opened_before: bool,
}

impl Hints {
    async fn next(&mut self) -> GrantEvent {
        loop {
            if let Some((events, left)) = &mut self.open
                && *left > 0
                && let Some(Ok(event)) = events.next().await
            {
                *left -= 1;
                if let Ok(event) = serde_json::from_str(&event.data) {
                    return event;
                }
                continue;
            }
            self.open = None;
            if self.opened_before {
                tokio::time::sleep(REOPEN).await;
            }
            self.opened_before = true;
            let opened = self.client.events(&self.target).await;
            self.open = opened.ok().map(|events| (events, self.events_max));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_over_when_it_is_revoked_or_the_chains_time_reaches_its_end() {
        let at = Timestamp::new;
        let of = |revoked, time| GrantStanding::of(revoked, at(10), at(time));
        assert_eq!(of(false, 9), GrantStanding::Recorded);
        assert_eq!(of(false, 10), GrantStanding::Expired);
        assert_eq!(of(true, 9), GrantStanding::Revoked);
        assert_eq!(of(true, 10), GrantStanding::Revoked, "the patient's word");
        assert!(!GrantStanding::Recorded.is_over());
        assert!(GrantStanding::Revoked.is_over() && GrantStanding::Expired.is_over());
    }

    #[test]
    fn an_event_is_written_as_the_specification_says() {
        let event = GrantEvent {
            access_key: Hex([1; 32]),
            gid: Hex([2; 32]),
            standing: GrantStanding::Recorded,
            height: 7,
        };
        let (key, gid) = ("01".repeat(32), "02".repeat(32));
        let text = format!(
            "{{\"access_key\":\"{key}\",\"gid\":\"{gid}\",\"standing\":\"recorded\",\"height\":7}}"
        );
        assert_eq!(serde_json::to_string(&event).unwrap(), text);
        assert_eq!(serde_json::from_str::<GrantEvent>(&text).unwrap(), event);
    }
}
