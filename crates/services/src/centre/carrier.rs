//! The background task: hands what was signed to the chain until it is final, approves where the
//! configuration says so, and forgets what is over. All it knows stands in the database, so it goes on
//! after a restart where it was.

use std::sync::Arc;
use std::time::Duration;

use client::{ClientError, Confirmed, Decided, Problem};
use futures::StreamExt;
use futures::stream;
use ledger::Transaction;
use scheme::{Subject, Timestamp};

use crate::centre::CentreService;
use crate::centre::at_rest::Kept;
use crate::centre::enrolments::reason;
use crate::centre::officers::By;
use crate::centre::records::{Enrolment, corrupt, number, record, select_enrolments, unsigned};
use crate::database::Value;
use client::now;

/// How long one hand-over waits for receipts.
const SUBMIT_BOUND: Duration = Duration::from_secs(30);
/// Transactions handed over at once.
const AT_ONCE: usize = 8;
/// Transactions looked at in one round.
const ROUND: i64 = 64;
/// The longest pause before a transaction is handed over again: 1 s, doubled after each attempt.
const PAUSE_MAX_MS: u64 = 60_000;
/// How long the task sleeps if nobody wakes it.
const IDLE: Duration = Duration::from_secs(1);
/// How often it looks for what is over.
const FORGET_EVERY_MS: u64 = 60_000;
/// How long an enrolment waits for its keys.
const KEYS_MISSING_MS: u64 = 14 * 24 * 60 * 60 * 1000;

struct Due {
    id: i64,
    subject: Subject,
    revokes: bool,
    bytes: Vec<u8>,
    attempts: u64,
}

/// Works until it is dropped.
pub(super) async fn carry(service: Arc<CentreService>) {
    let mut forgotten = 0;
    loop {
        if let Err(problem) = round(&service).await {
            tracing::warn!(detail = problem.detail(), "the centre's task tries again");
        }
        if now().number().saturating_sub(forgotten) > FORGET_EVERY_MS {
            forgotten = now().number();
            if let Err(problem) = forget(&service).await {
                tracing::warn!(detail = problem.detail(), "the centre's task tries again");
            }
        }
        // A wake-up that came during the round is kept.
        let _ = tokio::time::timeout(IDLE, service.work.notified()).await;
    }
}

async fn round(service: &Arc<CentreService>) -> Result<(), Problem> {
    if service.approve_automatically {
        approve(service).await?;
    }
    let rows = service
        .database
        .rows(
            "SELECT id, subject, kind, bytes, attempts FROM outbox AS one WHERE state = 'open' AND next_at <= $1 \
             AND (waits_for = 0 OR EXISTS (SELECT 1 FROM outbox AS other WHERE other.id = one.waits_for AND other.state = 'final')) \
             ORDER BY next_at, id LIMIT $2",
            &[now().into(), Value::Integer(ROUND)],
        )
        .await?;
    let due = rows
        .iter()
        .map(|row| {
            Ok(Due {
                id: row.integer(0)?,
                subject: Subject::new(unsigned(row, 1)?),
                revokes: row.text(2)? == "revocation",
                bytes: row.bytes(3)?,
                attempts: unsigned(row, 4)?,
            })
        })
        .collect::<Result<Vec<_>, Problem>>()?;
    let mut handed = stream::iter(due)
        .map(|due| async move {
            let submitted = match Transaction::decode(&due.bytes) {
                Ok(transaction) => service.chain.submit(&transaction, SUBMIT_BOUND).await,
                Err(error) => Err(error.into()),
            };
            (due, submitted)
        })
        .buffer_unordered(AT_ONCE);
    while let Some((due, submitted)) = handed.next().await {
        match submitted {
            Ok(confirmed) => finish(service, &due, &confirmed).await?,
            Err(ClientError::Refused(problem)) if !due.revokes => {
                refuse(service, &due, problem.detail()).await?;
            }
            Err(error) => again(service, &due, &error).await?,
        }
    }
    Ok(())
}

async fn finish(service: &CentreService, due: &Due, confirmed: &Confirmed) -> Result<(), Problem> {
    let subject = number(due.subject.number());
    let mut change = service.database.begin().await?;
    change
        .run(
            "UPDATE outbox SET state = 'final', height = $2, last_error = '' WHERE id = $1",
            &[
                Value::Integer(due.id),
                number(confirmed.outcome.height.number()),
            ],
        )
        .await?;
    let (from, to) = if due.revokes {
        change
            .run(
                "DELETE FROM pickups WHERE subject = $1",
                std::slice::from_ref(&subject),
            )
            .await?;
        ("revoking", "revoked")
    } else {
        ("approved", "registered")
    };
    change
        .run(
            "UPDATE enrolments SET state = $3, changed = $4 WHERE subject = $1 AND state = $2",
            &[subject, from.into(), to.into(), now().into()],
        )
        .await?;
    change.commit().await?;
    let subject = due.subject.number();
    tracing::info!(subject, state = to, "final on the chain");
    service.tell(due.subject);
    // What waited for it can go now.
    service.work.notify_one();
    Ok(())
}

/// The chain refuses a registration: its owner learns why, and its keys are free for the chain to judge
/// again.
async fn refuse(service: &CentreService, due: &Due, why: &str) -> Result<(), Problem> {
    let why =
        format!("the chain refuses the registration: {why}; begin a new enrolment with fresh keys");
    let (subject, now) = (due.subject, now());
    let id = number(subject.number());
    let sealed = service
        .identity_key
        .seal(Kept::Reason, subject, why.as_bytes());
    let mut change = service.database.begin().await?;
    change
        .run(
            "UPDATE outbox SET state = 'refused', last_error = $2 WHERE id = $1",
            &[Value::Integer(due.id), why.as_str().into()],
        )
        .await?;
    for forget in [
        "DELETE FROM registered_keys WHERE subject = $1",
        "DELETE FROM pickups WHERE subject = $1",
    ] {
        change.run(forget, std::slice::from_ref(&id)).await?;
    }
    change
        .run(
            "UPDATE enrolments SET state = 'refused', reason = $2, changed = $3 WHERE subject = $1 AND state = 'approved'",
            &[id, Value::Bytes(sealed), now.into()],
        )
        .await?;
    let (key, by) = (&service.identity_key, By::Configuration);
    record(&mut change, key, subject, Decided::Refused, &by, &why, now).await?;
    change.commit().await?;
    tracing::warn!(
        subject = subject.number(),
        why,
        "a registration was refused"
    );
    service.tell(subject);
    Ok(())
}

/// Not final yet: handed over again after a pause. A revocation is never given up, whatever the chain
/// says.
async fn again(service: &CentreService, due: &Due, error: &ClientError) -> Result<(), Problem> {
    let doublings = u32::try_from(due.attempts).unwrap_or(u32::MAX).min(6);
    let pause = (1_000 << doublings).min(PAUSE_MAX_MS);
    let why = reason(error);
    if matches!(error, ClientError::Refused(_) | ClientError::Malformed(_)) {
        tracing::error!(
            subject = due.subject.number(),
            why,
            "the chain does not take it"
        );
    } else {
        tracing::warn!(subject = due.subject.number(), why, "not final yet");
    }
    service
        .database
        .run(
            "UPDATE outbox SET attempts = attempts + 1, next_at = $2, last_error = $3 WHERE id = $1",
            &[
                Value::Integer(due.id),
                Timestamp::new(now().number().saturating_add(pause)).into(),
                why.as_str().into(),
            ],
        )
        .await?;
    Ok(())
}

/// Approves what waits, as `willis dev` wants it. What replaces an earlier certificate would revoke it
/// and waits for an officer all the same.
async fn approve(service: &Arc<CentreService>) -> Result<(), Problem> {
    let rows = service
        .database
        .rows(
            select_enrolments!(
                "WHERE state = 'waiting' AND replaces = 0 ORDER BY subject LIMIT $1"
            ),
            &[Value::Integer(ROUND)],
        )
        .await?;
    for row in rows {
        let subject = Enrolment::read(&row)?.subject;
        if let Err(problem) = service.approve(subject, &By::Configuration).await {
            // Such as a key that was registered before: nobody else is there to say so.
            let why = problem.detail();
            tracing::warn!(subject = subject.number(), why, "refused automatically");
            if problem.status() == 409 {
                service.refuse(subject, why, &By::Configuration).await?;
            }
        }
    }
    Ok(())
}

/// Forgets sealed seeds that nobody picked up, and identity material of those who never gave keys.
async fn forget(service: &CentreService) -> Result<(), Problem> {
    service.forget_old_seeds().await?;
    let before = |ms: u64| Timestamp::new(now().number().saturating_sub(ms));
    let rows = service
        .database
        .rows(
            "SELECT subject FROM enrolments WHERE state = 'keys-missing' AND begun < $1 ORDER BY subject LIMIT $2",
            &[before(KEYS_MISSING_MS).into(), Value::Integer(ROUND)],
        )
        .await?;
    for row in rows {
        let subject = Subject::new(unsigned(&row, 0).map_err(|_| corrupt())?);
        let why = "no keys came within 14 days, and the identity material was removed: begin a new enrolment";
        service.refuse(subject, why, &By::Configuration).await?;
        service
            .database
            .run(
                "UPDATE enrolments SET identity = $2 WHERE subject = $1 AND state = 'refused'",
                &[number(subject.number()), Value::Bytes(Vec::new())],
            )
            .await?;
    }
    Ok(())
}
