//! What a cloud server shows to those who supervise it.

use std::time::Duration;

use futures::future::BoxFuture;
use scheme::Address;

use super::{CloudError, CloudService, unsigned};
use crate::database::DatabaseError;
use crate::watching::*;

/// How long the store has to answer.
const STORE_BOUND: Duration = Duration::from_secs(3);
/// No container has it: addresses are random.
const NOWHERE: Address = Address::new([0; 32]);

impl Watched for CloudService {
    fn look(&self) -> BoxFuture<'_, Look> {
        Box::pin(async {
            let (answers, reaches, store) = tokio::join!(
                database_answers(&self.database),
                chain_answers(&self.chain),
                self.stores()
            );
            // Records that do not answer say so in the check, and are not waited for again.
            let samples = match answers.ok {
                true => self.samples().await.unwrap_or_default(),
                false => Vec::new(),
            };
            Look {
                checks: vec![answers, store, reaches],
                samples,
            }
        })
    }
}

impl CloudService {
    /// That the store answers: that it has nothing where nothing is.
    async fn stores(&self) -> Check {
        const NAME: &str = "store";
        const REMEDY: &str =
            "see that the containers' folder or the S3-compatible store is there and reached";
        let asked = tokio::time::timeout(STORE_BOUND, self.store.read(NOWHERE));
        match asked.await {
            Ok(Ok(_) | Err(CloudError::NotFound)) => {
                Check::holds(NAME, "the containers' store answers")
            }
            Ok(Err(error)) => Check::fails(NAME, error.to_string(), REMEDY),
            Err(_) => Check::fails(
                NAME,
                format!("the containers' store did not answer within {STORE_BOUND:?}"),
                REMEDY,
            ),
        }
    }

    async fn samples(&self) -> Result<Vec<Sample>, DatabaseError> {
        const QUESTIONS: [(&Metric, &str); 4] = [
            (&CLOUD_CONTAINERS, "SELECT COUNT(*) FROM containers"),
            (
                &CLOUD_BYTES,
                "SELECT CAST(COALESCE(SUM(length), 0) AS BIGINT) FROM containers",
            ),
            (
                &CLOUD_UPLOADS,
                "SELECT COUNT(*) FROM uploads WHERE failed = 0",
            ),
            (
                &CLOUD_DAMAGED,
                "SELECT COUNT(*) FROM damages d JOIN containers c ON c.address = d.address \
                 WHERE d.restored = 0",
            ),
        ];
        let mut samples = Vec::new();
        for (metric, question) in QUESTIONS {
            if let Some(row) = self.database.row(question, &[]).await? {
                samples.push(Sample::new(metric, unsigned(row.integer(0)?)));
            }
        }
        Ok(samples)
    }
}
