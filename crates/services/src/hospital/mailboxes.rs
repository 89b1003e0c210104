//! UIDs, and the three mailboxes: a patient's sealed hand-overs to a doctor, a doctor's sealed receipts
//! to a patient, and what doctors say to each other about a team's request. The hospital opens none.
//!
//! A UID is given once and never again. The first account key that calls for it owns it: the UID is
//! known to nobody but the patient and the hospital, and has 64 random bits.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use client::{
    Base64, ColleagueMessage, ColleagueMessages, Deposited, Done, GivenUid, Handover, Handovers,
    Hex, NewColleagueMessage, NewHandover, NewPatientReceipt, NextAccount, PatientReceipt,
    PatientReceipts, Problem, ProblemKind, SEALED_BYTES_MAX, SystemRandom, VerifiedCall,
};
use parties::{HospitalServer, TEAM_MESSAGE_BYTES_MAX};
use rand_core::Rng;
use scheme::Timestamp;
use serde::{Deserialize, Serialize};

use crate::database::{Change, DatabaseError, Row, Value};
use crate::hospital::callers::no_such_uid;
use crate::hospital::events::{Look, Topic, stream};
use crate::hospital::{HospitalService, Service, milliseconds, unsigned};
use crate::http::{
    Events, Parameters, Problems, Refused, Segment, SignedJson, SignedNothing, streamed,
};
use client::now;

/// Messages of one mailbox: 256 of at most 5.5 KiB in base64 are 1.4 MiB, one answer.
const MESSAGES_MAX: i64 = 256;
/// Messages of one sender in one mailbox.
const MESSAGES_OF_SENDER_MAX: i64 = 64;
/// Messages of colleagues in one mailbox: 64 of at most 22 KiB in base64 are 1.4 MiB, one answer.
const COLLEAGUE_MESSAGES_MAX: i64 = 64;
/// Messages of one colleague in one mailbox: several teams at once, three messages each.
const MESSAGES_OF_COLLEAGUE_MAX: i64 = 16;

streamed!(StreamedHandover, Handover);
streamed!(StreamedPatientReceipt, PatientReceipt);

/// Whose receipts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfUid {
    /// The UID's 16 digits.
    uid: Hex<8>,
}

impl HospitalService {
    async fn give(&self, call: &VerifiedCall) -> Result<GivenUid, Refused> {
        let doctor = self.doctor(call).await?;
        loop {
            let uid = HospitalServer::draw_uid(&mut SystemRandom);
            let digits = std::str::from_utf8(uid.as_bytes()).unwrap_or_default();
            let uid: Hex<8> = digits.parse().map_err(|error| Problem::internal(&error))?;
            let written = self
                .database
                .run(
                    "INSERT INTO uids (uid, account, given_by, time) VALUES ($1, $2, $3, $4)",
                    &[
                        uid.0.into(),
                        Value::Bytes(Vec::new()),
                        doctor.row().into(),
                        now().into(),
                    ],
                )
                .await;
            match written {
                Err(DatabaseError::Exists) => {}
                other => return Ok(other.map(|_| GivenUid { uid })?),
            }
        }
    }

    async fn bind(&self, call: &VerifiedCall, uid: Hex<8>) -> Result<(), Refused> {
        let account = *call.key().as_bytes();
        let bound = self
            .database
            .run(
                "UPDATE uids SET account = $1 WHERE uid = $2 AND (account = $3 OR account = $1)",
                &[account.into(), uid.0.into(), Value::Bytes(Vec::new())],
            )
            .await?;
        if bound == 1 {
            Ok(())
        } else {
            Err(no_such_uid())
        }
    }

    async fn pass_on(
        &self,
        call: &VerifiedCall,
        uid: Hex<8>,
        next: &NextAccount,
    ) -> Result<(), Refused> {
        // A second time it is the next one's already.
        let passed = self
            .database
            .run(
                "UPDATE uids SET account = $1 WHERE uid = $2 AND (account = $3 OR account = $1)",
                &[
                    next.account.0.into(),
                    uid.0.into(),
                    (*call.key().as_bytes()).into(),
                ],
            )
            .await?;
        if passed == 1 {
            Ok(())
        } else {
            Err(no_such_uid())
        }
    }

    async fn unbind(&self, call: &VerifiedCall, uid: Hex<8>) -> Result<(), Refused> {
        let doctor = self.doctor(call).await?;
        let mut change = self.database.begin().await?;
        let freed = change
            .run(
                "UPDATE uids SET account = $1 WHERE uid = $2",
                &[Value::Bytes(Vec::new()), uid.0.into()],
            )
            .await?;
        if freed == 0 {
            return Err(Refused::new(
                ProblemKind::NotFound,
                "this hospital gave no such UID: check its digits",
            ));
        }
        let action = format!("freed UID {uid} from its account");
        Self::keep_deed(&mut change, &doctor.name(), &action).await?;
        Ok(change.commit().await?)
    }

    async fn deposit_handover(
        &self,
        call: &VerifiedCall,
        new: &NewHandover,
    ) -> Result<Deposited, Refused> {
        self.check_account(call, new.uid).await?;
        let sealed = sealed(&new.sealed, SEALED_BYTES_MAX)?;
        let doctor = new.doctor.to_be_bytes();
        let mut change = self.database.begin().await?;
        check_doctor(&mut change, doctor).await?;
        let waiting = change
            .row(
                "SELECT COUNT(*), COALESCE(SUM(CASE WHEN uid = $2 THEN 1 ELSE 0 END), 0) \
                 FROM handovers WHERE doctor = $1",
                &[doctor.into(), new.uid.0.into()],
            )
            .await?;
        check_room(waiting.as_ref(), MESSAGES_MAX, MESSAGES_OF_SENDER_MAX)?;
        let id = fresh_id();
        change
            .run(
                "INSERT INTO handovers (id, doctor, uid, sealed, time) VALUES ($1, $2, $3, $4, $5)",
                &[
                    id.0.into(),
                    doctor.into(),
                    new.uid.0.into(),
                    sealed.into(),
                    now().into(),
                ],
            )
            .await?;
        change.commit().await?;
        self.listeners.tell(&Topic::Handovers(doctor));
        Ok(Deposited { id })
    }

    async fn handovers_of(&self, doctor: [u8; 8]) -> Result<Vec<Handover>, Refused> {
        let rows = self
            .database
            .rows(
                "SELECT id, uid, sealed, time FROM handovers WHERE doctor = $1 ORDER BY time, id LIMIT $2",
                &[doctor.into(), Value::Integer(MESSAGES_MAX)],
            )
            .await?;
        let handover = |row: &Row| {
            Ok(Handover {
                id: Hex(row.array(0)?),
                uid: Hex(row.array(1)?),
                sealed: Base64(row.bytes(2)?),
                time: unsigned(row.integer(3)?),
            })
        };
        let found = rows.iter().map(handover);
        Ok(found.collect::<Result<_, DatabaseError>>()?)
    }

    async fn deposit_receipt(
        &self,
        call: &VerifiedCall,
        new: &NewPatientReceipt,
    ) -> Result<Deposited, Refused> {
        let doctor = self.doctor(call).await?;
        let sealed = sealed(&new.sealed, SEALED_BYTES_MAX)?;
        let mut change = self.database.begin().await?;
        let known = change
            .row("SELECT 1 FROM uids WHERE uid = $1", &[new.uid.0.into()])
            .await?;
        if known.is_none() {
            return Err(Refused::new(
                ProblemKind::NotFound,
                "this hospital gave no such UID: take the one of the hand-over",
            ));
        }
        let waiting = change
            .row(
                "SELECT COUNT(*), COALESCE(SUM(CASE WHEN doctor = $2 THEN 1 ELSE 0 END), 0) \
                 FROM receipts WHERE uid = $1",
                &[new.uid.0.into(), doctor.row().into()],
            )
            .await?;
        check_room(waiting.as_ref(), MESSAGES_MAX, MESSAGES_OF_SENDER_MAX)?;
        let id = fresh_id();
        change
            .run(
                "INSERT INTO receipts (id, doctor, uid, sealed, time) VALUES ($1, $2, $3, $4, $5)",
                &[
                    id.0.into(),
                    doctor.row().into(),
                    new.uid.0.into(),
                    sealed.into(),
                    now().into(),
                ],
            )
            .await?;
        change.commit().await?;
        self.listeners.tell(&Topic::Receipts(new.uid.0));
        Ok(Deposited { id })
    }

    async fn receipts_of(&self, uid: Hex<8>) -> Result<Vec<PatientReceipt>, Refused> {
        let rows = self
            .database
            .rows(
                "SELECT id, doctor, sealed, time FROM receipts WHERE uid = $1 ORDER BY time, id LIMIT $2",
                &[uid.0.into(), Value::Integer(MESSAGES_MAX)],
            )
            .await?;
        let receipt = |row: &Row| {
            Ok(PatientReceipt {
                id: Hex(row.array(0)?),
                doctor: u64::from_be_bytes(row.array(1)?),
                sealed: Base64(row.bytes(2)?),
                time: unsigned(row.integer(3)?),
            })
        };
        let found = rows.iter().map(receipt);
        Ok(found.collect::<Result<_, DatabaseError>>()?)
    }

    async fn deposit_message(
        &self,
        call: &VerifiedCall,
        new: &NewColleagueMessage,
    ) -> Result<Deposited, Refused> {
        let sender = self.doctor(call).await?;
        let sealed = sealed(&new.sealed, TEAM_MESSAGE_BYTES_MAX)?;
        let doctor = new.doctor.to_be_bytes();
        let mut change = self.database.begin().await?;
        check_doctor(&mut change, doctor).await?;
        let waiting = change
            .row(
                "SELECT COUNT(*), COALESCE(SUM(CASE WHEN sender = $2 THEN 1 ELSE 0 END), 0) \
                 FROM messages WHERE doctor = $1",
                &[doctor.into(), sender.row().into()],
            )
            .await?;
        check_room(
            waiting.as_ref(),
            COLLEAGUE_MESSAGES_MAX,
            MESSAGES_OF_COLLEAGUE_MAX,
        )?;
        let id = fresh_id();
        change
            .run(
                "INSERT INTO messages (id, doctor, sender, sealed, time) VALUES ($1, $2, $3, $4, $5)",
                &[
                    id.0.into(),
                    doctor.into(),
                    sender.row().into(),
                    sealed.into(),
                    now().into(),
                ],
            )
            .await?;
        change.commit().await?;
        Ok(Deposited { id })
    }

    async fn messages_of(&self, doctor: [u8; 8]) -> Result<Vec<ColleagueMessage>, Refused> {
        let rows = self
            .database
            .rows(
                "SELECT id, sender, sealed, time FROM messages WHERE doctor = $1 ORDER BY time, id LIMIT $2",
                &[doctor.into(), Value::Integer(COLLEAGUE_MESSAGES_MAX)],
            )
            .await?;
        let message = |row: &Row| {
            Ok(ColleagueMessage {
                id: Hex(row.array(0)?),
                from: u64::from_be_bytes(row.array(1)?),
                sealed: Base64(row.bytes(2)?),
                time: unsigned(row.integer(3)?),
            })
        };
        let found = rows.iter().map(message);
        Ok(found.collect::<Result<_, DatabaseError>>()?)
    }

    /// Removes what waited longer than a message does.
    pub(super) async fn remove_old_messages(&self) -> Result<(), Refused> {
        let life = milliseconds(self.config.message_life);
        let before = Timestamp::new(now().number().saturating_sub(life));
        for text in [
            "DELETE FROM handovers WHERE time < $1",
            "DELETE FROM receipts WHERE time < $1",
            "DELETE FROM messages WHERE time < $1",
        ] {
            self.database.run(text, &[before.into()]).await?;
        }
        Ok(())
    }
}

fn sealed(message: &Base64, most: usize) -> Result<&[u8], Refused> {
    let bytes = message.0.as_slice();
    if bytes.is_empty() || bytes.len() > most {
        return Err(Refused::new(
            ProblemKind::TooLong,
            format!(
                "a sealed message has 1 to {most} bytes here: seal it as the specification says"
            ),
        ));
    }
    Ok(bytes)
}

/// Whether a message can be left for this doctor.
async fn check_doctor(change: &mut Change, doctor: [u8; 8]) -> Result<(), Refused> {
    let known = change
        .row(
            "SELECT blocked_by FROM doctors WHERE id = $1",
            &[doctor.into()],
        )
        .await?;
    let blocked = known.map(|row| row.text(0)).transpose()?;
    if blocked.is_none_or(|by| !by.is_empty()) {
        return Err(Refused::new(
            ProblemKind::NotFound,
            "this hospital has no such doctor, or the doctor is blocked: choose another one",
        ));
    }
    Ok(())
}

fn fresh_id() -> Hex<16> {
    let mut id = [0; 16];
    SystemRandom.fill_bytes(&mut id);
    Hex(id)
}

/// Whether a mailbox has room, by its messages and the sender's among them.
fn check_room(waiting: Option<&Row>, all_max: i64, own_max: i64) -> Result<(), Refused> {
    let (all, own) = match waiting {
        Some(row) => (row.integer(0)?, row.integer(1)?),
        None => (0, 0),
    };
    if all >= all_max || own >= own_max {
        return Err(Refused::new(
            ProblemKind::TooMany,
            "the mailbox is full: send the same message again once its owner has taken some out",
        ));
    }
    Ok(())
}

fn is_gone(what: &str) -> Refused {
    Refused::new(
        ProblemKind::NotFound,
        format!("this mailbox has no such {what}: it was removed, or was never there"),
    )
}

/// A message as an event, known by its id.
fn event(id: Hex<16>, message: &impl Serialize) -> Result<(Vec<u8>, String), Refused> {
    let data = serde_json::to_string(message).map_err(|error| Problem::internal(&error))?;
    Ok((id.0.to_vec(), data))
}

#[utoipa::path(
    post,
    path = "/v1/uids",
    operation_id = "give_uid",
    summary = "Gives a patient a UID at registration, by a doctor: once, and never again.",
    params(("Idempotency-Key" = String, Header, description = "Makes the write happen once")),
    responses((status = 201, body = GivenUid), Problems),
    security(("signed" = [])),
)]
pub(super) async fn give_uid(
    State(service): Service,
    SignedNothing(call): SignedNothing,
) -> Result<(StatusCode, Json<GivenUid>), Refused> {
    Ok((StatusCode::CREATED, Json(service.give(&call).await?)))
}

#[utoipa::path(
    put,
    path = "/v1/uids/{uid}/account",
    operation_id = "bind_account",
    summary = "Binds the calling account key to a UID that has none yet, by the patient's device.",
    params(
        ("uid" = Hex<8>, Path),
        ("Idempotency-Key" = String, Header, description = "Makes the write happen once"),
    ),
    responses((status = 204), Problems),
    security(("signed" = [])),
)]
pub(super) async fn bind_account(
    State(service): Service,
    Segment(uid): Segment<Hex<8>>,
    SignedNothing(call): SignedNothing,
) -> Result<StatusCode, Refused> {
    service.bind(&call, uid).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(
    put,
    path = "/v1/uids/{uid}/account/next",
    operation_id = "pass_account_on",
    summary = "Gives a UID from the calling account key to that of the same patient's next keys.",
    request_body = NextAccount,
    params(
        ("uid" = Hex<8>, Path),
        ("Idempotency-Key" = String, Header, description = "Makes the write happen once"),
    ),
    responses((status = 200, body = Done), Problems),
    security(("signed" = [])),
)]
pub(super) async fn pass_account_on(
    State(service): Service,
    Segment(uid): Segment<Hex<8>>,
    SignedJson(call, next): SignedJson<NextAccount>,
) -> Result<Json<Done>, Refused> {
    service.pass_on(&call, uid, &next).await?;
    Ok(Json(Done {}))
}

#[utoipa::path(
    delete,
    path = "/v1/uids/{uid}/account",
    operation_id = "unbind_account",
    summary = "Frees a UID from the account key of a lost device, by a doctor; who did and when is kept.",
    params(
        ("uid" = Hex<8>, Path),
        ("Idempotency-Key" = String, Header, description = "Makes the write happen once"),
    ),
    responses((status = 204), Problems),
    security(("signed" = [])),
)]
pub(super) async fn unbind_account(
    State(service): Service,
    Segment(uid): Segment<Hex<8>>,
    SignedNothing(call): SignedNothing,
) -> Result<StatusCode, Refused> {
    service.unbind(&call, uid).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(
    post,
    path = "/v1/handovers",
    operation_id = "hand_over",
    summary = "Leaves a sealed hand-over for a doctor, by the patient of the UID.",
    params(("Idempotency-Key" = String, Header, description = "Makes the write happen once")),
    request_body = NewHandover,
    responses((status = 201, body = Deposited), Problems),
    security(("signed" = [])),
)]
pub(super) async fn hand_over(
    State(service): Service,
    SignedJson(call, new): SignedJson<NewHandover>,
) -> Result<(StatusCode, Json<Deposited>), Refused> {
    let deposited = service.deposit_handover(&call, &new).await?;
    Ok((StatusCode::CREATED, Json(deposited)))
}

#[utoipa::path(
    get,
    path = "/v1/handovers",
    operation_id = "handovers",
    summary = "The calling doctor's hand-overs that wait.",
    responses((status = 200, body = Handovers), Problems),
    security(("signed" = [])),
)]
pub(super) async fn handovers(
    State(service): Service,
    SignedNothing(call): SignedNothing,
) -> Result<Json<Handovers>, Refused> {
    let doctor = service.doctor(&call).await?;
    let handovers = service.handovers_of(doctor.row()).await?;
    Ok(Json(Handovers { handovers }))
}

#[utoipa::path(
    get,
    path = "/v1/handovers/events",
    operation_id = "handover_events",
    summary = "The calling doctor's hand-overs: those that wait, then those that come.",
    responses((status = 200, description = "Events named handover, each a Handover", body = StreamedHandover, content_type = "text/event-stream"), Problems),
    security(("signed" = [])),
)]
pub(super) async fn handover_events(
    State(service): Service,
    SignedNothing(call): SignedNothing,
) -> Result<Events, Refused> {
    let doctor = service.doctor(&call).await?.row();
    let looked = Arc::clone(&service);
    stream(
        &service.listeners,
        Topic::Handovers(doctor),
        "handover",
        move || {
            let service = Arc::clone(&looked);
            Box::pin(async move {
                // Blocked or revoked meanwhile, the doctor hears no more.
                service.doctor(&call).await?;
                let messages = service.handovers_of(doctor).await?;
                let found = messages.iter().map(|one| event(one.id, one));
                Ok(Look {
                    found: found.collect::<Result<_, _>>()?,
                    is_over: false,
                })
            })
        },
    )
}

#[utoipa::path(
    delete,
    path = "/v1/handovers/{id}",
    operation_id = "remove_handover",
    summary = "Removes a hand-over once the doctor has accepted it.",
    params(
        ("id" = Hex<16>, Path),
        ("Idempotency-Key" = String, Header, description = "Makes the write happen once"),
    ),
    responses((status = 204), Problems),
    security(("signed" = [])),
)]
pub(super) async fn remove_handover(
    State(service): Service,
    Segment(id): Segment<Hex<16>>,
    SignedNothing(call): SignedNothing,
) -> Result<StatusCode, Refused> {
    let doctor = service.doctor(&call).await?;
    let removed = service
        .database
        .run(
            "DELETE FROM handovers WHERE id = $1 AND doctor = $2",
            &[id.0.into(), doctor.row().into()],
        )
        .await?;
    if removed == 1 {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(is_gone("hand-over"))
    }
}

#[utoipa::path(
    post,
    path = "/v1/messages",
    operation_id = "send_message",
    summary = "Leaves a sealed message for a colleague of this hospital, by a doctor.",
    params(("Idempotency-Key" = String, Header, description = "Makes the write happen once")),
    request_body = NewColleagueMessage,
    responses((status = 201, body = Deposited), Problems),
    security(("signed" = [])),
)]
pub(super) async fn send_message(
    State(service): Service,
    SignedJson(call, new): SignedJson<NewColleagueMessage>,
) -> Result<(StatusCode, Json<Deposited>), Refused> {
    let deposited = service.deposit_message(&call, &new).await?;
    Ok((StatusCode::CREATED, Json(deposited)))
}

#[utoipa::path(
    get,
    path = "/v1/messages",
    operation_id = "messages",
    summary = "The calling doctor's messages from colleagues that wait.",
    responses((status = 200, body = ColleagueMessages), Problems),
    security(("signed" = [])),
)]
pub(super) async fn messages(
    State(service): Service,
    SignedNothing(call): SignedNothing,
) -> Result<Json<ColleagueMessages>, Refused> {
    let doctor = service.doctor(&call).await?;
    let messages = service.messages_of(doctor.row()).await?;
    Ok(Json(ColleagueMessages { messages }))
}

#[utoipa::path(
    delete,
    path = "/v1/messages/{id}",
    operation_id = "remove_message",
    summary = "Removes a colleague's message once its doctor has taken it.",
    params(
        ("id" = Hex<16>, Path),
        ("Idempotency-Key" = String, Header, description = "Makes the write happen once"),
    ),
    responses((status = 204), Problems),
    security(("signed" = [])),
)]
pub(super) async fn remove_message(
    State(service): Service,
    Segment(id): Segment<Hex<16>>,
    SignedNothing(call): SignedNothing,
) -> Result<StatusCode, Refused> {
    let doctor = service.doctor(&call).await?;
    let removed = service
        .database
        .run(
            "DELETE FROM messages WHERE id = $1 AND doctor = $2",
            &[id.0.into(), doctor.row().into()],
        )
        .await?;
    if removed == 1 {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(is_gone("message"))
    }
}

#[utoipa::path(
    post,
    path = "/v1/receipts",
    operation_id = "leave_receipt",
    summary = "Leaves a sealed receipt for the patient of a UID, by a doctor.",
    params(("Idempotency-Key" = String, Header, description = "Makes the write happen once")),
    request_body = NewPatientReceipt,
    responses((status = 201, body = Deposited), Problems),
    security(("signed" = [])),
)]
pub(super) async fn leave_receipt(
    State(service): Service,
    SignedJson(call, new): SignedJson<NewPatientReceipt>,
) -> Result<(StatusCode, Json<Deposited>), Refused> {
    let deposited = service.deposit_receipt(&call, &new).await?;
    Ok((StatusCode::CREATED, Json(deposited)))
}

#[utoipa::path(
    get,
    path = "/v1/receipts",
    operation_id = "receipts",
    summary = "The receipts that wait for the patient of a UID.",
    params(("uid" = Hex<8>, Query)),
    responses((status = 200, body = PatientReceipts), Problems),
    security(("signed" = [])),
)]
pub(super) async fn receipts(
    State(service): Service,
    Parameters(of): Parameters<OfUid>,
    SignedNothing(call): SignedNothing,
) -> Result<Json<PatientReceipts>, Refused> {
    service.check_account(&call, of.uid).await?;
    let receipts = service.receipts_of(of.uid).await?;
    Ok(Json(PatientReceipts { receipts }))
}

#[utoipa::path(
    get,
    path = "/v1/receipts/events",
    operation_id = "receipt_events",
    summary = "The receipts for the patient of a UID: those that wait, then those that come.",
    params(("uid" = Hex<8>, Query)),
    responses((status = 200, description = "Events named receipt, each a PatientReceipt", body = StreamedPatientReceipt, content_type = "text/event-stream"), Problems),
    security(("signed" = [])),
)]
pub(super) async fn receipt_events(
    State(service): Service,
    Parameters(of): Parameters<OfUid>,
    SignedNothing(call): SignedNothing,
) -> Result<Events, Refused> {
    service.check_account(&call, of.uid).await?;
    let looked = Arc::clone(&service);
    stream(
        &service.listeners,
        Topic::Receipts(of.uid.0),
        "receipt",
        move || {
            let service = Arc::clone(&looked);
            Box::pin(async move {
                // Freed from its account meanwhile, the UID is somebody else's.
                service.check_account(&call, of.uid).await?;
                let messages = service.receipts_of(of.uid).await?;
                let found = messages.iter().map(|one| event(one.id, one));
                Ok(Look {
                    found: found.collect::<Result<_, _>>()?,
                    is_over: false,
                })
            })
        },
    )
}

#[utoipa::path(
    delete,
    path = "/v1/receipts/{id}",
    operation_id = "remove_receipt",
    summary = "Removes a receipt once the patient has kept it.",
    params(
        ("id" = Hex<16>, Path),
        ("Idempotency-Key" = String, Header, description = "Makes the write happen once"),
    ),
    responses((status = 204), Problems),
    security(("signed" = [])),
)]
pub(super) async fn remove_receipt(
    State(service): Service,
    Segment(id): Segment<Hex<16>>,
    SignedNothing(call): SignedNothing,
) -> Result<StatusCode, Refused> {
    let removed = service
        .database
        .run(
            "DELETE FROM receipts WHERE id = $1 \
             AND uid IN (SELECT uid FROM uids WHERE account = $2)",
            &[id.0.into(), (*call.key().as_bytes()).into()],
        )
        .await?;
    if removed == 1 {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(is_gone("receipt"))
    }
}
