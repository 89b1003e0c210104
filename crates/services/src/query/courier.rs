//! What the query manager does by itself: verifies what is queued, reminds, brings requests to the
//! agent, lets them expire, forgets them. It works from the database alone, so that a restart goes on
//! where it stopped.

use std::sync::Arc;
use std::time::Duration;

use client::{RequestState, SystemRandom, sentence};
use ledger::RequestCommitment;
use parties::{Confirmed, ForwardError, RequestError};
use scheme::Timestamp;
use tokio::task::JoinSet;

use super::store::{Due, NEVER, SealedCopy, Times};
use super::{QueryService, examine};
use crate::database::DatabaseError;
use client::now;

/// Requests that are verified at once: each asks all nodes about each of its doctors.
const VERIFYING_MAX: usize = 8;
/// How long one verification counts as under way: for 32 doctors, of whom each takes two questions
/// that a silent node holds up for 15 s at most, with hardly any of them so slow.
const VERIFYING_MS: u64 = 2 * 60 * 1000;
/// Reminders of one request.
const REMINDERS_MAX: u64 = 3;
/// The longest sleep: whoever sets the clock is noticed within it.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// The shortest, so that what cannot be done now does not spin.
const SLEEP_MIN: Duration = Duration::from_millis(5);
/// How often counts of earlier days are looked for.
const FORGET_DAYS_MS: u64 = 60 * 60 * 1000;

/// Works until it is dropped.
pub(super) async fn work(service: Arc<QueryService>) {
    let mut verifying = JoinSet::new();
    let mut days_forgotten = 0;
    let mut resumed = false;
    loop {
        let at = now();
        let passed = async {
            if !resumed {
                service.store.resume(at).await?;
                resumed = true;
            }
            if at.number().saturating_sub(days_forgotten) > FORGET_DAYS_MS {
                service.store.forget_days(at).await?;
                days_forgotten = at.number();
            }
            pass(&service, &mut verifying, at).await?;
            if service.take_deleted() {
                service.store.database().forget_deleted().await?;
            }
            service.store.next_due().await
        };
        let next = match passed.await {
            Ok(next) => next,
            Err(error) => {
                let why = sentence(&error);
                tracing::error!(
                    why,
                    "the query manager's records cannot be worked on: tried again"
                );
                NEVER
            }
        };
        let until = Duration::from_millis(next.number().saturating_sub(now().number()));
        let sleep = tokio::time::sleep(until.clamp(SLEEP_MIN, SLEEP_MAX));
        tokio::select! {
            () = sleep => {}
            () = service.work.notified() => {}
        }
    }
}

async fn pass(
    service: &Arc<QueryService>,
    verifying: &mut JoinSet<()>,
    at: Timestamp,
) -> Result<(), DatabaseError> {
    // Those that are done make room.
    while verifying.try_join_next().is_some() {}
    let store = &service.store;
    for due in store.due(at).await? {
        let over = at > due.times.not_after;
        let news = match due.state {
            RequestState::Queued if !over => {
                begin_verifying(service, verifying, &due, at).await?;
                continue;
            }
            RequestState::Queued
            | RequestState::Forwarded
            | RequestState::Collected
            | RequestState::Reminded
            | RequestState::WithAgent => wait_on(service, &due, at).await?,
            RequestState::Answered
            | RequestState::Declined
            | RequestState::Note
            | RequestState::Expired
            | RequestState::Refused => {
                service.deleted();
                store.remove(due.id).await?
            }
        };
        service.tell(news);
    }
    Ok(())
}

/// The next thing that is due for a request that somebody is waited for.
async fn wait_on(
    service: &QueryService,
    due: &Due,
    at: Timestamp,
) -> Result<super::store::News, DatabaseError> {
    let store = &service.store;
    if at > due.times.not_after {
        service.deleted();
        let linger = service.linger();
        return store
            .end(due.id, RequestState::Expired, "", at, linger)
            .await;
    }
    if at >= due.times.agent_at {
        return store.release(due, at).await;
    }
    let next = if due.times.reminders + 1 < REMINDERS_MAX {
        later(at, service.config.remind_after)
    } else {
        NEVER
    };
    store.remind(due, next, at).await
}

async fn begin_verifying(
    service: &Arc<QueryService>,
    verifying: &mut JoinSet<()>,
    due: &Due,
    at: Timestamp,
) -> Result<(), DatabaseError> {
    let (id, over) = (due.id, after(due.times.not_after));
    let again = later(at, service.config.verify_again);
    if verifying.len() >= VERIFYING_MAX {
        return service.store.put_off(id, again.min(over)).await;
    }
    let lease = Timestamp::new(at.number().saturating_add(VERIFYING_MS));
    service.store.put_off(id, lease.min(over)).await?;
    let service = Arc::clone(service);
    verifying.spawn(async move {
        if let Err(error) = verify(&service, id).await {
            let why = sentence(&error);
            tracing::warn!(%id, why, "a request could not be verified: tried again");
            let again = later(now(), service.config.verify_again);
            if let Err(error) = service.store.put_off(id, again.min(over)).await {
                tracing::error!(why = sentence(&error), "a request's next attempt is late");
            }
        }
        service.work.notify_one();
    });
    Ok(())
}

/// Why a request stays queued.
#[derive(Debug, thiserror::Error)]
enum NotNow {
    #[error("the records cannot be read or written")]
    Database(#[from] DatabaseError),
    #[error("the consortium's nodes do not say which keys are in force")]
    Nodes(#[from] client::ClientError),
    #[error("the work was given up")]
    GivenUp(#[from] tokio::task::JoinError),
}

/// The whole hybrid verification, and what follows from it.
async fn verify(service: &Arc<QueryService>, id: RequestCommitment) -> Result<(), NotNow> {
    let Some(queued) = service.store.queued(id).await? else {
        return Ok(());
    };
    service.follow_centre().await?;
    let verdict = match examine(service, &queued.bytes, queued.handle, queued.salt).await? {
        Ok(examined) => {
            let mut agreed = Vec::new();
            for hash in examined.request().key_hashes() {
                agreed.extend(service.nodes.agreed_key_soon(hash).await?);
            }
            examined.confirm(&agreed)
        }
        Err(error) => Err(error),
    };
    let at = now();
    let news = match verdict {
        Ok(confirmed) => forward(service, id, confirmed, at).await?,
        // Until its end it counts as waiting, and then as expired.
        Err(ForwardError::Request(RequestError::Time)) => {
            let state = RequestState::Expired;
            service
                .store
                .end(id, state, "", at, service.linger())
                .await?
        }
        Err(error) => refuse(service, id, &error, at).await?,
    };
    service.deleted();
    service.tell(news);
    Ok(())
}

async fn forward(
    service: &QueryService,
    id: RequestCommitment,
    confirmed: Confirmed,
    at: Timestamp,
) -> Result<super::store::News, DatabaseError> {
    let store = &service.store;
    let Some(inbox) = store.inbox(&confirmed.handle()).await? else {
        return refuse(service, id, &ForwardError::NoSuchInbox, at).await;
    };
    let agent = match inbox.agent {
        Some(agent) => store.inbox(&agent).await?,
        None => None,
    };
    let verification = service.verification();
    let here = verification.consortium();
    let seal = |to: &super::store::OpenInboxRow| {
        let sealed = confirmed.seal(here, &to.handle, &to.key, &mut SystemRandom)?;
        Ok::<_, ForwardError>(SealedCopy {
            handle: to.handle,
            owner: to.owner,
            sealed,
        })
    };
    let (to, agent) = match (seal(&inbox), agent.as_ref().map(seal).transpose()) {
        (Ok(to), Ok(agent)) => (to, agent),
        (Err(error), _) | (_, Err(error)) => return refuse(service, id, &error, at).await,
    };
    let times = Times {
        reminders: 0,
        remind_at: later(at, service.config.remind_after),
        agent_at: later(at, service.config.agent_after),
        not_after: confirmed.request().terms().not_after,
    };
    let bounds = &service.config.bounds;
    store
        .forward(id, (&to, agent.as_ref()), times, bounds, at)
        .await
}

async fn refuse(
    service: &QueryService,
    id: RequestCommitment,
    error: &ForwardError,
    at: Timestamp,
) -> Result<super::store::News, DatabaseError> {
    let (state, reason) = (RequestState::Refused, sentence(error));
    let linger = service.linger();
    service.store.end(id, state, &reason, at, linger).await
}

fn after(end: Timestamp) -> Timestamp {
    Timestamp::new(end.number().saturating_add(1)).min(NEVER)
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
    Timestamp::new(at.number().saturating_add(by)).min(NEVER)
}
