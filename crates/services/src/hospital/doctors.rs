//! The hospital's doctors: entered by themselves with their certificate, blocked by IT.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use client::{
    Base64, Deed, Deeds, DoctorBlock, DoctorCertificate, HospitalDoctor, HospitalDoctors, Problem,
    ProblemKind, VerifiedCall,
};
use parties::{CentreKeys, Certificate, Holder};
use serde::Deserialize;

use crate::database::{DatabaseError, Row, Value};
use crate::hospital::{HospitalService, PAGE, Service, integer, unsigned};
use crate::http::{Parameters, Problems, Refused, Segment, SignedJson, SignedNothing};
use client::now;

/// Doctors of one hospital.
const DOCTORS_MAX: i64 = 10_000;

/// How often the chain is asked for a key that the centre certified, and the pause between: 2 s in all.
const STANDING_ATTEMPTS: u32 = 5;
const STANDING_PAUSE: Duration = Duration::from_millis(500);

/// Where a page begins.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AfterDoctor {
    /// The id after which it does.
    after: Option<u64>,
}

/// Where a page of deeds begins.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BeforeTime {
    /// The time before which it does, in ms since 1970.
    before: Option<u64>,
}

impl HospitalService {
    async fn enter(
        &self,
        call: &VerifiedCall,
        certificate: &[u8],
    ) -> Result<HospitalDoctor, Refused> {
        let decoded =
            Certificate::decode(certificate).map_err(|error| Problem::malformed(&error))?;
        let centre = self.chain.centre_keys().await;
        let centre = centre.map_err(|error| Refused::of(ProblemKind::Busy, &error))?;
        let holder = decoded
            .verify(&self.consortium, &CentreKeys::from(&centre), now())
            .map_err(|error| Problem::invalid(&error))?;
        let not_stands = |detail: &str| Refused::new(ProblemKind::DoesNotStand, detail);
        let Holder::Doctor(doctor) = holder else {
            return Err(not_stands(
                "the certificate is a patient's: this hospital enters doctors",
            ));
        };
        if doctor.signing != call.key() {
            return Err(not_stands(
                "the call is not signed under the key of the certificate: sign it with the doctor's own key",
            ));
        }
        if doctor.institution != self.config.institution {
            return Err(Refused::new(
                ProblemKind::NoRight,
                "the certificate is for another institution: ask that one's server",
            ));
        }
        // A registration that is just final may be above the height that f + 1 nodes are asked at.
        let mut attempt = 1;
        while let Err(refused) = self.check_standing(&doctor.signing, doctor.id).await {
            if attempt == STANDING_ATTEMPTS || refused.0.status() != 403 {
                return Err(refused);
            }
            attempt += 1;
            tokio::time::sleep(STANDING_PAUSE).await;
        }
        let id = doctor.id.number();
        let not_after = integer(decoded.not_after().number());
        let mut change = self.database.begin().await?;
        let known = change
            .row(
                "SELECT not_after FROM doctors WHERE id = $1",
                &[id.to_be_bytes().into()],
            )
            .await?;
        match known {
            Some(row) if row.integer(0)? > not_after => {
                return Err(Refused::new(
                    ProblemKind::Conflict,
                    "a newer certificate of this doctor is entered already: use that one",
                ));
            }
            Some(_) => {}
            None => {
                let count = change.row("SELECT COUNT(*) FROM doctors", &[]).await?;
                if count.map_or(Ok(0), |row| row.integer(0))? >= DOCTORS_MAX {
                    return Err(Refused::new(
                        ProblemKind::Full,
                        "this hospital has 10,000 doctors already: ask its IT",
                    ));
                }
            }
        }
        // A block is the doctor's, whatever certificate follows.
        let written = change
            .run(
                "INSERT INTO doctors (id, signer, certificate, not_after, blocked_by, blocked_at, quota_day, raised, allocated) \
                 VALUES ($1, $2, $3, $4, '', 0, 0, 0, 0) \
                 ON CONFLICT (id) DO UPDATE SET signer = excluded.signer, \
                 certificate = excluded.certificate, not_after = excluded.not_after",
                &[
                    id.to_be_bytes().into(),
                    (*doctor.signing.as_bytes()).into(),
                    certificate.into(),
                    Value::Integer(not_after),
                ],
            )
            .await;
        match written {
            Err(DatabaseError::Exists) => {
                return Err(Refused::new(
                    ProblemKind::Conflict,
                    "this key is another doctor's here: ask the registration centre",
                ));
            }
            other => other?,
        };
        change.commit().await?;
        self.one_doctor(id).await
    }

    async fn one_doctor(&self, id: u64) -> Result<HospitalDoctor, Refused> {
        let found = self
            .database
            .row(
                "SELECT id, certificate, blocked_by, blocked_at FROM doctors WHERE id = $1",
                &[id.to_be_bytes().into()],
            )
            .await?;
        let row = found.ok_or_else(|| {
            Refused::new(
                ProblemKind::NotFound,
                "this hospital has no doctor of this id: GET /v1/doctors lists those that it has",
            )
        })?;
        Ok(hospital_doctor(&row)?)
    }

    /// Doctors are listed for doctors, patients and IT.
    pub(super) async fn may_see_doctors(&self, call: &VerifiedCall) -> Result<(), Refused> {
        if self.it(call).is_ok() || self.is_account(call).await? {
            return Ok(());
        }
        self.known_doctor(call).await.map(drop)
    }

    async fn set_block(
        &self,
        call: &VerifiedCall,
        id: u64,
        blocks: bool,
    ) -> Result<HospitalDoctor, Refused> {
        let name = self.it(call)?;
        let (by, action) = if blocks {
            (name, format!("blocked doctor {id}"))
        } else {
            ("", format!("unblocked doctor {id}"))
        };
        let mut change = self.database.begin().await?;
        let changed = change
            .run(
                "UPDATE doctors SET blocked_by = $1, blocked_at = $2 WHERE id = $3",
                &[by.into(), now().into(), id.to_be_bytes().into()],
            )
            .await?;
        if changed == 1 {
            Self::keep_deed(&mut change, &format!("it {name}"), &action).await?;
            // Who did it stands among the deeds.
            tracing::info!(doctor = id, blocks, "a doctor's block was changed");
        }
        change.commit().await?;
        self.one_doctor(id).await
    }
}

fn hospital_doctor(row: &Row) -> Result<HospitalDoctor, DatabaseError> {
    let (by, time) = (row.text(2)?, unsigned(row.integer(3)?));
    Ok(HospitalDoctor {
        id: u64::from_be_bytes(row.array(0)?),
        certificate: Base64(row.bytes(1)?),
        blocked: (!by.is_empty()).then_some(DoctorBlock { by, time }),
    })
}

#[utoipa::path(
    put,
    path = "/v1/doctors/self",
    operation_id = "enter_doctor",
    summary = "Enters the calling doctor, or a renewed certificate: the centre's, for this institution, its key in force on the chain.",
    params(("Idempotency-Key" = String, Header, description = "Makes the write happen once")),
    request_body = DoctorCertificate,
    responses((status = 200, body = HospitalDoctor), Problems),
    security(("signed" = [])),
)]
pub(super) async fn enter_doctor(
    State(service): Service,
    SignedJson(call, new): SignedJson<DoctorCertificate>,
) -> Result<Json<HospitalDoctor>, Refused> {
    Ok(Json(service.enter(&call, &new.certificate.0).await?))
}

#[utoipa::path(
    get,
    path = "/v1/doctors",
    operation_id = "list_doctors",
    summary = "The hospital's doctors, for its doctors, patients and IT.",
    params(("after" = Option<u64>, Query, description = "The id after which the page begins")),
    responses((status = 200, body = HospitalDoctors), Problems),
    security(("signed" = [])),
)]
pub(super) async fn list_doctors(
    State(service): Service,
    Parameters(page): Parameters<AfterDoctor>,
    SignedNothing(call): SignedNothing,
) -> Result<Json<HospitalDoctors>, Refused> {
    service.may_see_doctors(&call).await?;
    // An id is above the empty bytes.
    let after = page
        .after
        .map_or(Vec::new(), |id| id.to_be_bytes().to_vec());
    let rows = service
        .database
        .rows(
            "SELECT id, certificate, blocked_by, blocked_at FROM doctors WHERE id > $1 ORDER BY id LIMIT $2",
            &[after.as_slice().into(), Value::Integer(PAGE)],
        )
        .await?;
    let doctors = rows
        .iter()
        .map(hospital_doctor)
        .collect::<Result<Vec<_>, _>>()?;
    let is_full = integer(doctors.len() as u64) == PAGE;
    let next = doctors.last().map(|doctor| doctor.id);
    Ok(Json(HospitalDoctors {
        next: next.filter(|_| is_full),
        doctors,
    }))
}

#[utoipa::path(
    get,
    path = "/v1/doctors/{id}",
    operation_id = "doctor",
    summary = "One doctor with the certificate that a patient's device begins an episode with.",
    params(("id" = u64, Path)),
    responses((status = 200, body = HospitalDoctor), Problems),
    security(("signed" = [])),
)]
pub(super) async fn doctor(
    State(service): Service,
    Segment(id): Segment<u64>,
    SignedNothing(call): SignedNothing,
) -> Result<Json<HospitalDoctor>, Refused> {
    service.may_see_doctors(&call).await?;
    Ok(Json(service.one_doctor(id).await?))
}

#[utoipa::path(
    post,
    path = "/v1/it/doctors/{id}/block",
    operation_id = "block_doctor",
    summary = "Blocks a doctor, by IT; who did and when is kept.",
    params(
        ("id" = u64, Path),
        ("Idempotency-Key" = String, Header, description = "Makes the write happen once"),
    ),
    responses((status = 200, body = HospitalDoctor), Problems),
    security(("signed" = [])),
)]
pub(super) async fn block_doctor(
    State(service): Service,
    Segment(id): Segment<u64>,
    SignedNothing(call): SignedNothing,
) -> Result<Json<HospitalDoctor>, Refused> {
    Ok(Json(service.set_block(&call, id, true).await?))
}

#[utoipa::path(
    delete,
    path = "/v1/it/doctors/{id}/block",
    operation_id = "unblock_doctor",
    summary = "Lets a blocked doctor in again, by IT; who did and when is kept.",
    params(
        ("id" = u64, Path),
        ("Idempotency-Key" = String, Header, description = "Makes the write happen once"),
    ),
    responses((status = 200, body = HospitalDoctor), Problems),
    security(("signed" = [])),
)]
pub(super) async fn unblock_doctor(
    State(service): Service,
    Segment(id): Segment<u64>,
    SignedNothing(call): SignedNothing,
) -> Result<Json<HospitalDoctor>, Refused> {
    Ok(Json(service.set_block(&call, id, false).await?))
}

#[utoipa::path(
    get,
    path = "/v1/it/deeds",
    operation_id = "deeds",
    summary = "Who blocked doctors, freed accounts and ended writer epochs, and when, for IT.",
    params(("before" = Option<u64>, Query, description = "The time before which the page begins, in ms since 1970")),
    responses((status = 200, body = Deeds), Problems),
    security(("signed" = [])),
)]
pub(super) async fn deeds(
    State(service): Service,
    Parameters(page): Parameters<BeforeTime>,
    SignedNothing(call): SignedNothing,
) -> Result<Json<Deeds>, Refused> {
    service.it(&call)?;
    let before = page.before.map_or(i64::MAX, integer);
    let rows = service
        .database
        .rows(
            "SELECT actor, action, time FROM deeds WHERE time < $1 ORDER BY time DESC LIMIT $2",
            &[Value::Integer(before), Value::Integer(PAGE)],
        )
        .await?;
    let deeds = rows
        .iter()
        .map(|row| {
            Ok(Deed {
                actor: row.text(0)?,
                action: row.text(1)?,
                time: unsigned(row.integer(2)?),
            })
        })
        .collect::<Result<_, DatabaseError>>()?;
    Ok(Json(Deeds { deeds }))
}
