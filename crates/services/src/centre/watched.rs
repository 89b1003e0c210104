//! What the registration centre shows to those who supervise it.

use client::now;
use futures::future::BoxFuture;

use super::CentreService;
use crate::database::DatabaseError;
use crate::watching::*;

impl Watched for CentreService {
    fn look(&self) -> BoxFuture<'_, Look> {
        Box::pin(async {
            let (answers, reaches) =
                tokio::join!(database_answers(&self.database), chain_answers(&self.chain));
            // Records that do not answer say so in the check, and are not waited for again.
            let samples = match answers.ok {
                true => self.outbox_samples().await.unwrap_or_default(),
                false => Vec::new(),
            };
            Look {
                checks: vec![answers, reaches],
                samples,
            }
        })
    }
}

impl CentreService {
    /// What is open was decided when its enrolment last changed.
    async fn outbox_samples(&self) -> Result<Vec<Sample>, DatabaseError> {
        let row = self
            .database
            .row(
                "SELECT COUNT(*), COALESCE(MIN(enrolments.changed), 0) FROM outbox \
                 JOIN enrolments ON enrolments.subject = outbox.subject WHERE outbox.state = 'open'",
                &[],
            )
            .await?;
        row.map_or(Ok(Vec::new()), |row| {
            outbox(row.integer(0)?, row.time(1)?, now())
        })
    }
}
