//! The cloud follows the chain, to know which containers a final record names: headers proved by one
//! node's certificate, and the body of each block that has transactions. It holds no other state of it.

use std::sync::Arc;
use std::time::Duration;

use ledger::{Header, Height, Transaction};

use super::{CloudService, integer, unsigned};
use crate::database::{DatabaseError, Value};

/// How long it waits for the next blocks: an orphan's grace period is days.
const POLL: Duration = Duration::from_secs(2);

/// Follows until it is aborted. Whatever fails is tried again.
pub(super) async fn follow(service: Arc<CloudService>) {
    loop {
        match step(&service).await {
            Ok(true) => {}
            Ok(false) => tokio::time::sleep(POLL).await,
            Err(why) => {
                tracing::info!(why, "following the chain is tried again");
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

/// Takes the next run of headers; whether there was any.
async fn step(service: &CloudService) -> Result<bool, String> {
    let next = next(service).await.map_err(|error| error.to_string())?;
    let headers = match service.chain.headers(next).await {
        Ok(headers) => headers,
        // Nobody has a certificate above it yet.
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error.to_string()),
    };
    for header in &headers {
        let mut digests = Vec::new();
        if header.count > 0 {
            let block = service.chain.block(header).await;
            let block = block.map_err(|error| error.to_string())?;
            digests.extend(block.transactions().iter().filter_map(digest));
        }
        let kept = keep(service, header, &digests).await;
        kept.map_err(|error| error.to_string())?;
    }
    Ok(!headers.is_empty())
}

fn digest(transaction: &Transaction) -> Option<scheme::Digest> {
    match transaction {
        Transaction::Record(record) => Some(record.statement.digest),
        _ => None,
    }
}

async fn next(service: &CloudService) -> Result<Height, DatabaseError> {
    let found = service
        .database
        .row("SELECT height FROM followed WHERE id = 1", &[])
        .await?;
    let height = found.map(|row| row.integer(0)).transpose()?;
    Ok(Height::new(height.map_or(1, |height| unsigned(height) + 1)))
}

async fn keep(
    service: &CloudService,
    header: &Header,
    digests: &[scheme::Digest],
) -> Result<(), DatabaseError> {
    let mut change = service.database.begin().await?;
    for digest in digests {
        change
            .run(
                "UPDATE containers SET recorded = 1 WHERE digest = $1",
                &[(*digest).into()],
            )
            .await?;
    }
    change
        .run(
            "INSERT INTO followed (id, height, time) VALUES (1, $1, $2) \
             ON CONFLICT (id) DO UPDATE SET height = excluded.height, time = excluded.time",
            &[
                Value::Integer(integer(header.height.number())),
                header.time.into(),
            ],
        )
        .await?;
    change.commit().await
}
