//! What a hospital's server shows to those who supervise it.

use client::now;
use futures::future::BoxFuture;

use super::HospitalService;
use super::outbox::PENDING;
use crate::database::{DatabaseError, Value};
use crate::watching::*;

impl Watched for HospitalService {
    fn look(&self) -> BoxFuture<'_, Look> {
        Box::pin(async {
            let (answers, reaches) =
                tokio::join!(database_answers(&self.database), chain_answers(&self.chain));
            let writes = self.server.lock().await.is_some();
            let writes = Check::of(
                "writer-epoch",
                writes,
                match writes {
                    true => "the writer epoch's key is here",
                    false => "the chain has not said yet which writer epoch is the current one",
                },
                "records are indexed once it has: see the check of the chain",
            );
            let signs = self.key.check();
            let signs = Check::of(
                "institution-key",
                signs.is_ok(),
                match &signs {
                    Ok(()) => "the institution's key signs".to_owned(),
                    Err(error) => error.to_string(),
                },
                "records and requests are refused with 503 until it signs again, and those accepted before are sent on",
            );
            // Records that do not answer say so in the check, and are not waited for again.
            let samples = match answers.ok {
                true => self.outbox_samples().await.unwrap_or_default(),
                false => Vec::new(),
            };
            Look {
                checks: vec![answers, reaches, writes, signs],
                samples,
            }
        })
    }
}

impl HospitalService {
    async fn outbox_samples(&self) -> Result<Vec<Sample>, DatabaseError> {
        let row = self
            .database
            .row(
                "SELECT COUNT(*), COALESCE(MIN(time), 0) FROM outbox WHERE state = $1",
                &[Value::Integer(PENDING)],
            )
            .await?;
        row.map_or(Ok(Vec::new()), |row| {
            outbox(row.integer(0)?, row.time(1)?, now())
        })
    }
}
