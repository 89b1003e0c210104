//! Raised keywords and positions (equation 11), within each doctor's quota of the day.
//!
//! The database is what counts: a quota or an allocation is read from it, given to
//! [`HospitalServer`], which decides, and written back before the answer goes out. The server is held
//! meanwhile, so no position goes out twice; a kill in between gives nothing out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use client::{
    AskedPositions, CurrentWriter, GivenPositions, Hex, POINTS_MAX, Problem, ProblemKind,
    VerifiedCall,
};
use parties::{Allocation, DoctorQuota, HospitalServer, ServerError};
use scheme::{
    ALLOCATION_WINDOW, AllocationId, BlindedKeyword, DecodeError, Position, Timestamp, WriterEpoch,
};
use tokio::sync::OwnedMutexGuard;

use crate::database::{Change, DatabaseError, Value};
use crate::hospital::callers::KnownDoctor;
use crate::hospital::{HospitalService, Service, integer, unsigned};
use crate::http::{Problems, Refused, SignedBytes, SignedJson, SignedNothing};
use client::now;

/// When the positions of a kept record were given, so that they never time out while it may still
/// become final.
const TAKEN: Timestamp = Timestamp::new(u64::MAX - 1);
/// Bytes of a point.
const POINT_BYTES: usize = 48;
/// A position's slot while it is free, and once its entry is final; else it is when it was given.
const FREE: u64 = 0;
const SETTLED: u64 = u64::MAX;

/// The server of the current writer epoch, held.
pub(super) struct HeldServer(OwnedMutexGuard<Option<HospitalServer>>);

impl HeldServer {
    pub(super) fn get(&mut self) -> Result<&mut HospitalServer, Refused> {
        self.0.as_mut().ok_or_else(|| {
            Refused::new(
                ProblemKind::Busy,
                "the hospital's server is beginning a writer epoch: send the same request again in a few seconds",
            )
        })
    }
}

impl HospitalService {
    pub(super) async fn held(&self) -> Result<HeldServer, Refused> {
        let mut held = HeldServer(Arc::clone(&self.server).lock_owned().await);
        held.get()?;
        Ok(held)
    }

    async fn raise(&self, call: &VerifiedCall, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let doctor = self.doctor(call).await?;
        let (points, rest) = body.as_chunks::<POINT_BYTES>();
        if points.is_empty() || !rest.is_empty() || points.len() > POINTS_MAX {
            return Err(Refused::new(
                ProblemKind::Malformed,
                "the body is 1 to 1,024 points of 48 bytes, one after another",
            ));
        }
        let blinded = points.to_vec();
        let decoded = in_background(move || {
            let decoded = blinded.iter().map(BlindedKeyword::from_bytes);
            decoded.collect::<Result<Vec<_>, DecodeError>>()
        });
        let blinded = decoded.await?.map_err(|error| Problem::malformed(&error))?;
        let mut held = self.held().await?;
        let mut change = self.database.begin().await?;
        bring_doctor(&mut change, held.get()?, &doctor).await?;
        // Others may use the database while the points are raised.
        change.commit().await?;
        let (mut held, raised) = in_background(move || {
            let raised = held
                .get()
                .map(|server| server.raise(&doctor.key, &blinded, now()));
            (held, raised)
        })
        .await?;
        let quota = take_doctor(held.get()?, &doctor);
        let raised = raised?.map_err(|error| refused(&error))?;
        let mut change = self.database.begin().await?;
        keep_quota(&mut change, &doctor, quota).await?;
        change.commit().await?;
        let mut answer = Vec::with_capacity(body.len());
        for point in raised {
            answer.extend_from_slice(point.as_bytes());
        }
        Ok(answer)
    }

    async fn allocate(
        &self,
        call: &VerifiedCall,
        asked: &AskedPositions,
    ) -> Result<GivenPositions, Refused> {
        let doctor = self.doctor(call).await?;
        if asked.ids.is_empty() || asked.ids.len() > POINTS_MAX {
            return Err(Refused::new(
                ProblemKind::Malformed,
                "one call asks for 1 to 1,024 positions",
            ));
        }
        let ids: Vec<AllocationId> = asked.ids.iter().map(|id| AllocationId::new(id.0)).collect();
        let mut held = self.held().await?;
        let server = held.get()?;
        let mut change = self.database.begin().await?;
        bring_doctor(&mut change, server, &doctor).await?;
        for id in &ids {
            if let Some(allocation) = allocation(&mut change, id).await? {
                server.restore_allocation(*id, allocation);
            }
        }
        let given = server.allocate(&doctor.key, &ids, now());
        let quota = take_doctor(server, &doctor);
        let epoch = server.writer().epoch;
        let allocations: Vec<_> = ids
            .iter()
            .map(|id| (id, server.take_allocation(id)))
            .collect();
        let given = given.map_err(|error| refused(&error))?;
        for (id, allocation) in allocations {
            if let Some(allocation) = allocation {
                keep_allocation(&mut change, id, epoch, &allocation).await?;
            }
        }
        keep_quota(&mut change, &doctor, quota).await?;
        change.commit().await?;
        let positions = given.into_iter().map(Position::number).collect();
        Ok(GivenPositions { positions })
    }

    async fn current_writer(&self) -> Result<CurrentWriter, Refused> {
        let mut held = self.held().await?;
        let server = held.get()?;
        Ok(CurrentWriter {
            institution: server.institution().number(),
            epoch: server.writer().epoch.number(),
            key: Hex(*server.writer_key().as_bytes()),
            ending: self.ending.load(Ordering::Relaxed),
        })
    }

    /// Makes the next y's file, so that the next writer epoch begins whatever happens from here on.
    async fn end_epoch(&self, call: &VerifiedCall) -> Result<CurrentWriter, Refused> {
        let name = self.it(call)?;
        let Ok(files) = self.writer.try_lock() else {
            return Err(Refused::new(
                ProblemKind::Busy,
                "the writer epochs are being compared with the chain: send the same request again in a few seconds",
            ));
        };
        let mut current = self.current_writer().await?;
        let next = WriterEpoch::new(current.epoch + 1);
        let here = files.list().map_err(|error| Problem::internal(&error))?;
        if !here.contains_key(&next) {
            let action = format!("ended writer epoch {}", current.epoch);
            let mut change = self.database.begin().await?;
            Self::keep_deed(&mut change, &format!("it {name}"), &action).await?;
            files
                .make(next)
                .map_err(|error| Problem::internal(&error))?;
            change.commit().await?;
        }
        self.ending.store(true, Ordering::Relaxed);
        self.writer_wanted.notify_one();
        current.ending = true;
        Ok(current)
    }
}

/// Runs what takes the processor for long where it holds nobody up.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Refused::of(ProblemKind::Failed, &error))
}

/// Enters a doctor with the day's quota, for one operation.
pub(super) async fn bring_doctor(
    change: &mut Change,
    server: &mut HospitalServer,
    doctor: &KnownDoctor,
) -> Result<(), Refused> {
    let found = change
        .row(
            "SELECT quota_day, raised, allocated FROM doctors WHERE id = $1",
            &[doctor.row().into()],
        )
        .await?;
    let quota = match found {
        Some(row) => DoctorQuota {
            day: unsigned(row.integer(0)?),
            raised: u32::try_from(row.integer(1)?).unwrap_or(u32::MAX),
            allocated: u32::try_from(row.integer(2)?).unwrap_or(u32::MAX),
        },
        None => DoctorQuota::default(),
    };
    server.restore_doctor(doctor.key, quota);
    Ok(())
}

/// Takes the doctor out again, so that the database stays what counts.
pub(super) fn take_doctor(server: &mut HospitalServer, doctor: &KnownDoctor) -> DoctorQuota {
    let quota = server.quota(&doctor.key).unwrap_or_default();
    server.forget_doctor(&doctor.key);
    quota
}

async fn keep_quota(
    change: &mut Change,
    doctor: &KnownDoctor,
    quota: DoctorQuota,
) -> Result<(), DatabaseError> {
    change
        .run(
            "UPDATE doctors SET quota_day = $1, raised = $2, allocated = $3 WHERE id = $4",
            &[
                Value::Integer(integer(quota.day)),
                Value::Integer(quota.raised.into()),
                Value::Integer(quota.allocated.into()),
                doctor.row().into(),
            ],
        )
        .await?;
    Ok(())
}

/// The positions of one id as they are kept.
async fn allocation(
    change: &mut Change,
    id: &AllocationId,
) -> Result<Option<Allocation>, DatabaseError> {
    let found = change
        .row(
            "SELECT lowest, slots FROM allocations WHERE id = $1",
            &[(*id.as_bytes()).into()],
        )
        .await?;
    found
        .map(|row| {
            let lowest = unsigned(row.integer(0)?);
            Ok(from_slots(lowest, &row.bytes(1)?))
        })
        .transpose()
}

/// Holds the positions of a record that is to be kept, however long it takes to become final; false if
/// one was not given, is final, or is another record's.
pub(super) async fn hold_positions(
    change: &mut Change,
    positions: &[(AllocationId, Position)],
) -> Result<bool, DatabaseError> {
    for (id, position) in positions {
        let Some(mut allocation) = allocation(change, id).await? else {
            return Ok(false);
        };
        match allocation.given.get_mut(&position.number()) {
            Some(given) if *given != TAKEN => *given = TAKEN,
            _ => return Ok(false),
        }
        update_allocation(change, id, &allocation).await?;
    }
    Ok(true)
}

/// The record of these positions was refused. They are given again after the usual time and not at
/// once, since it may be for these very positions that it was.
pub(super) async fn release_positions(
    change: &mut Change,
    positions: &[(AllocationId, Position)],
) -> Result<(), DatabaseError> {
    for (id, position) in positions {
        if let Some(mut allocation) = allocation(change, id).await?
            && let Some(given) = allocation.given.get_mut(&position.number())
        {
            *given = now();
            update_allocation(change, id, &allocation).await?;
        }
    }
    Ok(())
}

/// Marks positions as final.
pub(super) async fn settle(
    change: &mut Change,
    positions: &[(AllocationId, Position)],
) -> Result<(), DatabaseError> {
    for (id, position) in positions {
        // Those of an ended writer epoch are gone.
        if let Some(mut allocation) = allocation(change, id).await? {
            allocation.settle(*position);
            update_allocation(change, id, &allocation).await?;
        }
    }
    Ok(())
}

async fn update_allocation(
    change: &mut Change,
    id: &AllocationId,
    allocation: &Allocation,
) -> Result<(), DatabaseError> {
    change
        .run(
            "UPDATE allocations SET lowest = $1, slots = $2 WHERE id = $3",
            &[
                Value::Integer(integer(allocation.lowest)),
                slots(allocation).as_slice().into(),
                (*id.as_bytes()).into(),
            ],
        )
        .await?;
    Ok(())
}

async fn keep_allocation(
    change: &mut Change,
    id: &AllocationId,
    epoch: WriterEpoch,
    allocation: &Allocation,
) -> Result<(), DatabaseError> {
    change
        .run(
            "INSERT INTO allocations (id, epoch, lowest, slots) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (id) DO UPDATE SET lowest = excluded.lowest, slots = excluded.slots",
            &[
                (*id.as_bytes()).into(),
                Value::Integer(epoch.number().into()),
                Value::Integer(integer(allocation.lowest)),
                slots(allocation).as_slice().into(),
            ],
        )
        .await?;
    Ok(())
}

/// The eight positions from the lowest on, eight bytes each.
fn slots(allocation: &Allocation) -> Vec<u8> {
    let window = allocation.lowest..allocation.lowest.saturating_add(ALLOCATION_WINDOW);
    window
        .flat_map(|position| {
            let slot = match allocation.given.get(&position) {
                _ if allocation.settled.contains(&position) => SETTLED,
                Some(given) => given.number(),
                None => FREE,
            };
            slot.to_be_bytes()
        })
        .collect()
}

fn from_slots(lowest: u64, bytes: &[u8]) -> Allocation {
    let mut allocation = Allocation {
        lowest,
        settled: BTreeSet::new(),
        given: BTreeMap::new(),
    };
    let (slots, _) = bytes.as_chunks::<8>();
    for (slot, position) in slots.iter().zip(lowest..) {
        match u64::from_be_bytes(*slot) {
            FREE => {}
            SETTLED => {
                allocation.settled.insert(position);
            }
            given => {
                allocation.given.insert(position, Timestamp::new(given));
            }
        }
    }
    allocation
}

/// The refusals of the hospital's server, by the table.
pub(super) fn refused(error: &ServerError) -> Refused {
    let kind = match error {
        ServerError::Key(why) => {
            // What is to be mended is IT's to know, and names files of this machine.
            tracing::error!(%why, "the institution's key did not sign");
            return Refused::new(ProblemKind::Busy, error.to_string());
        }
        ServerError::UnknownDoctor => ProblemKind::NoRight,
        ServerError::Quota => ProblemKind::TooMany,
        ServerError::Busy => ProblemKind::Busy,
        ServerError::NotOurs => ProblemKind::Conflict,
        _ => ProblemKind::DoesNotStand,
    };
    Refused::of(kind, error)
}

#[utoipa::path(
    get,
    path = "/v1/writer",
    operation_id = "writer",
    summary = "Under which writer epoch indexes are made now, for its doctors, patients and IT.",
    responses((status = 200, body = CurrentWriter), Problems),
    security(("signed" = [])),
)]
pub(super) async fn writer(
    State(service): Service,
    SignedNothing(call): SignedNothing,
) -> Result<Json<CurrentWriter>, Refused> {
    service.may_see_doctors(&call).await?;
    Ok(Json(service.current_writer().await?))
}

#[utoipa::path(
    post,
    path = "/v1/it/writer-epochs",
    operation_id = "end_writer_epoch",
    summary = "Ends the writer epoch, by IT: y is destroyed once the next one is final on the chain.",
    params(("Idempotency-Key" = String, Header, description = "Makes the write happen once")),
    responses((status = 202, body = CurrentWriter), Problems),
    security(("signed" = [])),
)]
pub(super) async fn end_writer_epoch(
    State(service): Service,
    SignedNothing(call): SignedNothing,
) -> Result<(StatusCode, Json<CurrentWriter>), Refused> {
    Ok((StatusCode::ACCEPTED, Json(service.end_epoch(&call).await?)))
}

#[utoipa::path(
    post,
    path = "/v1/raised",
    operation_id = "raise",
    summary = "Raises blinded keywords to y: at most 1,024 compressed points of G1, within the doctor's quota of the day.",
    params(("Idempotency-Key" = String, Header, description = "Makes the write happen once")),
    request_body(content = client::Octets, content_type = "application/octet-stream"),
    responses((status = 200, body = client::Octets, content_type = "application/octet-stream"), Problems),
    security(("signed" = [])),
)]
pub(super) async fn raise(
    State(service): Service,
    SignedBytes(call, body): SignedBytes,
) -> Result<Vec<u8>, Refused> {
    service.raise(&call, &body).await
}

#[utoipa::path(
    post,
    path = "/v1/positions",
    operation_id = "positions",
    summary = "Gives each allocation id its next position, within the doctor's quota of the day.",
    params(("Idempotency-Key" = String, Header, description = "Makes the write happen once")),
    request_body = AskedPositions,
    responses((status = 200, body = GivenPositions), Problems),
    security(("signed" = [])),
)]
pub(super) async fn positions(
    State(service): Service,
    SignedJson(call, asked): SignedJson<AskedPositions>,
) -> Result<Json<GivenPositions>, Refused> {
    Ok(Json(service.allocate(&call, &asked).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_hold_all_that_an_allocation_is() {
        let allocation = Allocation {
            lowest: 5,
            settled: [7, 12].into(),
            given: [(5, Timestamp::new(9)), (6, TAKEN)].into(),
        };
        let kept = slots(&allocation);
        assert_eq!(kept.len(), 64);
        assert_eq!(from_slots(5, &kept), allocation);
    }
}
