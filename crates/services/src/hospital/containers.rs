//! The hospital's containers in the cloud, and a copy of each in a second store: both are read again in
//! turn and compared with the receipt, and what is lost or altered is named and restored from the other.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use client::{ClientError, Hex, HospitalDamage, HospitalDamages, Problem, ProblemKind};
use futures::StreamExt;
use parties::StorageReceipt;
use scheme::{DigestStream, Timestamp};
use tokio::io::AsyncWriteExt;

use crate::cloud::{CloudError, ContainerStore, Upload, logged};
use crate::database::{DatabaseError, Value};
use crate::hospital::{HospitalError, HospitalService, PAGE, Service, milliseconds, unsigned};
use crate::http::{Problems, Refused, SignedNothing};
use client::now;

/// How often a broken reading is taken up again without getting on.
const ATTEMPTS: u32 = 4;
/// The pause before it is.
const PAUSE: Duration = Duration::from_millis(500);
/// What failed for a passing reason is tried again after this at the latest.
const AGAIN_MS: u64 = 60 * 1000;
/// How long it rests if there is nothing to do, at most.
const REST_MAX: Duration = Duration::from_secs(10);

/// How the file of a container that is being restored begins its name.
const RESTORED: &str = "restored-";

/// Makes the folder, and removes what a kill left in it.
pub(super) fn open_spool(folder: &Path) -> Result<(), HospitalError> {
    let open = || {
        std::fs::create_dir_all(folder)?;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(RESTORED) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    open().map_err(|error: io::Error| HospitalError::Folder(folder.to_owned(), error))
}

/// A container that a final record names.
struct Kept {
    receipt: StorageReceipt,
    copied: bool,
}

/// What the cloud gave.
enum Found {
    AsStored,
    Lost,
    Altered(String),
}

/// Copies and reads containers, one at a time.
pub(super) async fn keep_containers(service: Arc<HospitalService>) {
    let rest = (service.config.scrub_every / 4).min(REST_MAX);
    let rest = rest.max(Duration::from_millis(50));
    loop {
        let done = match service.copy_next().await {
            Ok(false) => service.scrub_next().await,
            other => other,
        };
        match done {
            Ok(true) => {}
            Ok(false) => tokio::time::sleep(rest).await,
            Err(Refused(problem)) => {
                tracing::warn!(
                    detail = problem.detail(),
                    "a container is tried again later"
                );
                tokio::time::sleep(rest).await;
            }
        }
    }
}

impl HospitalService {
    /// Copies one container that has no copy yet; false if there is none.
    async fn copy_next(&self) -> Result<bool, Refused> {
        let Some(second) = &self.second else {
            return Ok(false);
        };
        let found = self
            .next(
                "SELECT receipt, copied FROM containers \
                 WHERE recorded = 1 AND copied = 0 AND tried <= $1 ORDER BY tried LIMIT 1",
                &[self.again_before().into()],
            )
            .await?;
        let Some(kept) = found else {
            return Ok(false);
        };
        let mut copy = second
            .begin(kept.receipt.address)
            .await
            .map_err(store_failed)?;
        match self.read(&kept.receipt, None, Some(&mut copy)).await? {
            Found::AsStored => {
                copy.finish().await.map_err(store_failed)?;
                self.database
                    .run(
                        "UPDATE containers SET copied = 1 WHERE address = $1",
                        &[(*kept.receipt.address.as_bytes()).into()],
                    )
                    .await?;
            }
            damage => self.name_damage(&kept, &damage).await?,
        }
        Ok(true)
    }

    /// Reads one container whose turn it is, in the cloud and then its copy; false if there is none.
    async fn scrub_next(&self) -> Result<bool, Refused> {
        let every = milliseconds(self.config.scrub_every);
        let due = Timestamp::new(now().number().saturating_sub(every));
        let found = self
            .next(
                "SELECT receipt, copied FROM containers \
                 WHERE recorded = 1 AND checked < $1 AND tried <= $2 ORDER BY checked LIMIT 1",
                &[due.into(), self.again_before().into()],
            )
            .await?;
        let Some(kept) = found else {
            return Ok(false);
        };
        let receipt = &kept.receipt;
        let rate = Some(self.config.scrub_bytes_per_second.max(1));
        let found = self.read(receipt, rate, None).await?;
        if !matches!(found, Found::AsStored) {
            self.name_damage(&kept, &found).await?;
            if kept.copied {
                self.restore(receipt).await?;
            }
        }
        self.database
            .run(
                "UPDATE containers SET checked = $1 WHERE address = $2",
                &[now().into(), (*receipt.address.as_bytes()).into()],
            )
            .await?;
        // A copy that is damaged is noticed while the cloud still has the container, not when it is needed.
        if let (Found::AsStored, true, Some(second)) = (found, kept.copied, &self.second)
            && let Some(why) = self.read_copy(second, receipt, rate, None).await?
        {
            let container = logged(&receipt.address);
            tracing::error!(container, detail = why, "a container is copied again");
        }
        Ok(true)
    }

    /// The container that a query finds, which counts as tried from now on.
    async fn next(&self, sql: &'static str, values: &[Value]) -> Result<Option<Kept>, Refused> {
        let Some(row) = self.database.row(sql, values).await? else {
            return Ok(None);
        };
        let receipt =
            StorageReceipt::decode(&row.bytes(0)?).map_err(|error| Problem::internal(&error))?;
        self.database
            .run(
                "UPDATE containers SET tried = $1 WHERE address = $2",
                &[now().into(), (*receipt.address.as_bytes()).into()],
            )
            .await?;
        Ok(Some(Kept {
            receipt,
            copied: row.integer(1)? != 0,
        }))
    }

    /// What was tried after this is left alone for a while.
    fn again_before(&self) -> Timestamp {
        let wait = AGAIN_MS.min(milliseconds(self.config.scrub_every));
        Timestamp::new(now().number().saturating_sub(wait))
    }

    /// Reads a whole container from the cloud, at most so many bytes a second, and compares it with its
    /// receipt. What breaks off is taken up where it did: the cloud then says whether it was the
    /// container's fault.
    async fn read(
        &self,
        receipt: &StorageReceipt,
        bytes_per_second: Option<u64>,
        mut copy: Option<&mut Upload>,
    ) -> Result<Found, Refused> {
        let begun = Instant::now();
        let (mut digest, mut came, mut failures) = (DigestStream::new(), 0_u64, 0);
        'broken: while came < receipt.length {
            if failures > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let mut pieces = match self.cloud.read(receipt.address, came).await {
                Ok(pieces) => pieces,
                Err(error) if error.is_not_found() => return Ok(Found::Lost),
                Err(ClientError::Refused(problem)) if problem.status() == 422 => {
                    return Ok(Found::Altered(format!(
                        "from byte {came} on the cloud refuses it: {}",
                        problem.detail()
                    )));
                }
                Err(error) => {
                    failures += 1;
                    if failures >= ATTEMPTS {
                        return Err(Refused::of(ProblemKind::Busy, &error));
                    }
                    continue 'broken;
                }
            };
            while let Some(piece) = pieces.next().await {
                let piece = match piece {
                    Ok(piece) => piece,
                    Err(error) => {
                        failures += 1;
                        if failures >= ATTEMPTS {
                            return Err(Refused::of(ProblemKind::Busy, &error));
                        }
                        continue 'broken;
                    }
                };
                failures = 0;
                came += piece.len() as u64;
                digest.update(&piece);
                if let Some(copy) = copy.as_deref_mut() {
                    copy.write(&piece).await.map_err(store_failed)?;
                }
                if came > receipt.length {
                    break;
                }
                pace(begun, came, bytes_per_second).await;
            }
            break;
        }
        let digest = digest.finish();
        Ok(if came == receipt.length && digest == receipt.digest {
            Found::AsStored
        } else {
            Found::Altered(format!("the cloud gave {came} bytes with digest {digest}"))
        })
    }

    async fn name_damage(&self, of: &Kept, damage: &Found) -> Result<(), Refused> {
        let receipt = &of.receipt;
        let (lost, mut detail) = match damage {
            Found::AsStored => return Ok(()),
            Found::Lost => (true, "the cloud no longer has it".to_owned()),
            Found::Altered(detail) => (false, detail.clone()),
        };
        if self.second.is_some() && !of.copied {
            detail += "; the second store has no copy";
        }
        tracing::error!(
            container = logged(&receipt.address),
            lost,
            detail = detail.as_str(),
            "a container is not as the cloud's receipt says"
        );
        // One that is not restored yet was found when it was found first.
        self.database
            .run(
                "UPDATE containers SET lost = $1, detail = $2, \
                 found = CASE WHEN found > 0 AND restored = 0 THEN found ELSE $3 END, restored = 0 \
                 WHERE address = $4",
                &[
                    Value::Integer(i64::from(lost)),
                    detail.as_str().into(),
                    now().into(),
                    (*receipt.address.as_bytes()).into(),
                ],
            )
            .await?;
        Ok(())
    }

    /// Stores a container in the cloud again, from the second store.
    async fn restore(&self, receipt: &StorageReceipt) -> Result<(), Refused> {
        let Some(second) = &self.second else {
            return Ok(());
        };
        let name = hex::encode(receipt.address.as_bytes());
        let path = self.config.spool.join(format!("{RESTORED}{name}"));
        let outcome = self.restore_by(second, receipt, &path).await;
        // It is swept at the next start otherwise.
        let _ = tokio::fs::remove_file(&path).await;
        match outcome? {
            None => {
                let container = logged(&receipt.address);
                tracing::info!(container, "a container was restored");
                self.database
                    .run(
                        "UPDATE containers SET restored = $1 WHERE address = $2",
                        &[now().into(), (*receipt.address.as_bytes()).into()],
                    )
                    .await?;
            }
            Some(more) => {
                tracing::error!(
                    container = logged(&receipt.address),
                    detail = more,
                    "a container was not restored"
                );
                self.database
                    .run(
                        "UPDATE containers SET detail = detail || $1 WHERE address = $2",
                        &[
                            format!("; {more}").as_str().into(),
                            (*receipt.address.as_bytes()).into(),
                        ],
                    )
                    .await?;
            }
        }
        Ok(())
    }

    /// `Some` says why it is not restored.
    async fn restore_by(
        &self,
        second: &ContainerStore,
        receipt: &StorageReceipt,
        path: &PathBuf,
    ) -> Result<Option<String>, Refused> {
        let failed = |error: io::Error| Refused::of(ProblemKind::Failed, &error);
        let mut file = tokio::fs::File::create(path).await.map_err(failed)?;
        let unusable = self.read_copy(second, receipt, None, Some(&mut file));
        if let Some(why) = unusable.await? {
            return Ok(Some(why.to_owned()));
        }
        file.flush().await.map_err(failed)?;
        drop(file);
        let mut source = std::fs::File::open(path).map_err(failed)?;
        let stored = self
            .cloud
            .store(
                &mut source,
                receipt.digest,
                receipt.length,
                Some(receipt.address),
                &mut |_| (),
            )
            .await;
        match stored {
            Ok(_) => Ok(None),
            Err(error @ ClientError::Refused(_)) if !error.is_passing() => {
                Ok(Some(format!("the cloud did not take it again: {error}")))
            }
            Err(error) => Err(Refused::of(ProblemKind::Busy, &error)),
        }
    }

    /// Reads the second store's whole copy, at most so many bytes a second. `Some` says why it cannot be
    /// used; it is then made anew as soon as the cloud gives the container.
    async fn read_copy(
        &self,
        second: &ContainerStore,
        receipt: &StorageReceipt,
        bytes_per_second: Option<u64>,
        mut into: Option<&mut tokio::fs::File>,
    ) -> Result<Option<&'static str>, Refused> {
        let failed = |error: io::Error| Refused::of(ProblemKind::Failed, &error);
        let begun = Instant::now();
        let (mut digest, mut came) = (DigestStream::new(), 0_u64);
        let unusable = match second.read(receipt.address).await {
            Ok(mut pieces) => {
                while let Some(piece) = pieces.next().await {
                    let piece = piece.map_err(store_failed)?;
                    came += piece.len() as u64;
                    digest.update(&piece);
                    if let Some(file) = into.as_deref_mut() {
                        file.write_all(&piece).await.map_err(failed)?;
                    }
                    if came > receipt.length {
                        break;
                    }
                    pace(begun, came, bytes_per_second).await;
                }
                let whole = digest.finish() == receipt.digest;
                (!whole).then_some("the second store's copy is altered")
            }
            Err(CloudError::NotFound) => Some("the second store lost its copy"),
            Err(error) => return Err(store_failed(error)),
        };
        if unusable.is_some() {
            self.database
                .run(
                    "UPDATE containers SET copied = 0 WHERE address = $1",
                    &[(*receipt.address.as_bytes()).into()],
                )
                .await?;
        }
        Ok(unusable)
    }
}

/// Waits until so many bytes since then are no more than the rate allows.
async fn pace(begun: Instant, came: u64, bytes_per_second: Option<u64>) {
    if let Some(rate) = bytes_per_second {
        let due = Duration::from_secs_f64(came as f64 / rate as f64);
        tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is what map_err takes")]
fn store_failed(error: CloudError) -> Refused {
    crate::cloud::problem(&error).into()
}

#[utoipa::path(
    get,
    path = "/v1/damages",
    operation_id = "damages",
    summary = "Containers that the cloud lost or altered, with its receipts and what was found, for IT.",
    responses((status = 200, body = HospitalDamages), Problems),
    security(("signed" = [])),
)]
pub(super) async fn damages(
    State(service): Service,
    SignedNothing(call): SignedNothing,
) -> Result<Json<HospitalDamages>, Refused> {
    service.it(&call)?;
    let rows = service
        .database
        .rows(
            "SELECT address, receipt, lost, detail, found, restored FROM containers \
             WHERE found > 0 ORDER BY found DESC LIMIT $1",
            &[Value::Integer(PAGE)],
        )
        .await?;
    let damages = rows
        .iter()
        .map(|row| {
            Ok(HospitalDamage {
                address: Hex(row.array(0)?),
                receipt: Hex(row.array(1)?),
                lost: row.integer(2)? != 0,
                detail: row.text(3)?,
                found: unsigned(row.integer(4)?),
                restored: Some(unsigned(row.integer(5)?)).filter(|time| *time > 0),
            })
        })
        .collect::<Result<_, DatabaseError>>()?;
    Ok(Json(HospitalDamages { damages }))
}
