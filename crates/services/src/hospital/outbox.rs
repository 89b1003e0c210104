//! Records and requests on their way to the chain (steps 5 and 6): countersigned once, kept before the
//! answer goes out, and handed in byte for byte until f + 1 nodes acknowledge or refuse them, also
//! after a restart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use client::{
    ClientError, Hex, NewChainRequest, NewRecord, Problem, ProblemKind, Submitted, SubmittedState,
    SystemRandom, VerifiedCall,
};
use ledger::{RequestStatement, Transaction, TransactionId, decode_record_statement};
use parties::StorageReceipt;
use scheme::{AllocationId, Position, Signature};
use tokio::task::JoinSet;

use crate::database::{Change, Row, Value};
use crate::hospital::callers::KnownDoctor;
use crate::hospital::events::{Look, Topic, stream};
use crate::hospital::index::{
    bring_doctor, hold_positions, refused, release_positions, settle, take_doctor,
};
use crate::hospital::{HospitalService, Service, integer, unsigned};
use crate::http::{Events, Problems, Refused, Segment, SignedJson, SignedNothing, streamed};
use client::now;

/// Transactions that are not settled, of at most 64 KiB: 64 MiB.
const PENDING_MAX: i64 = 1_000;
/// Those of one doctor.
const PENDING_OF_DOCTOR_MAX: i64 = 64;
/// Transactions that are handed in at once.
const SENDING_MAX: usize = 16;
/// Rows looked at for that: as many as are being handed in, and as many again.
const SENDING_ROWS: i64 = 32;
/// How long one attempt waits for receipts.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How often the outbox is looked into without being told.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) const PENDING: i64 = 0;
const FINAL: i64 = 1;
const REFUSED: i64 = 2;

streamed!(StreamedSubmitted, Submitted);

/// What the doctor handed in, countersigned.
struct Entry {
    transaction: Transaction,
    positions: Vec<(AllocationId, Position)>,
    receipt: Option<StorageReceipt>,
}

impl HospitalService {
    async fn take_record(
        &self,
        call: &VerifiedCall,
        new: &NewRecord,
    ) -> Result<Submitted, Refused> {
        let doctor = self.doctor(call).await?;
        let statement = decode_record_statement(&new.statement.0)
            .map_err(|error| Problem::malformed(&error))?;
        let id = TransactionId::from(statement.id(&self.consortium));
        if let Some(known) = self.known(&doctor, id).await? {
            return Ok(known);
        }
        if statement.author != doctor.key {
            return Err(not_the_author());
        }
        let receipt =
            StorageReceipt::decode(&new.receipt.0).map_err(|error| Problem::malformed(&error))?;
        receipt
            .verify(
                &self.consortium,
                &self.config.cloud_receipt_key,
                statement.digest,
                receipt.length,
            )
            .map_err(|error| Problem::invalid(&error))?;
        let positions: Vec<_> = new
            .positions
            .iter()
            .map(|used| (AllocationId::new(used.id.0), Position::new(used.position)))
            .collect();
        let distinct: BTreeSet<_> = positions.iter().map(|(id, _)| id).collect();
        if positions.is_empty()
            || distinct.len() < positions.len()
            || positions.len() > statement.entries.len()
        {
            return Err(Refused::new(
                ProblemKind::DoesNotStand,
                "the positions are not those of the record's entries: name each keyword's once",
            ));
        }
        let mut held = self.held().await?;
        let server = held.get()?;
        let mut change = self.database.begin().await?;
        bring_doctor(&mut change, server, &doctor).await?;
        let signature = Signature::new(new.signature.0);
        let transaction = server.countersign(statement, signature, &mut SystemRandom);
        take_doctor(server, &doctor);
        let transaction = transaction.map_err(|error| refused(&error))?;
        if !hold_positions(&mut change, &positions).await? {
            return Err(Refused::new(
                ProblemKind::Conflict,
                "a position was not given, is another record's, or its entry is final already: ask for new positions and build the index anew",
            ));
        }
        let entry = Entry {
            transaction,
            positions,
            receipt: Some(receipt),
        };
        self.keep(change, &doctor, id, entry).await
    }

    async fn take_request(
        &self,
        call: &VerifiedCall,
        new: &NewChainRequest,
    ) -> Result<Submitted, Refused> {
        let doctor = self.doctor(call).await?;
        let statement = RequestStatement::decode(&new.statement.0)
            .map_err(|error| Problem::malformed(&error))?;
        if statement.author != doctor.key {
            return Err(not_the_author());
        }
        let mut held = self.held().await?;
        let server = held.get()?;
        let mut change = self.database.begin().await?;
        bring_doctor(&mut change, server, &doctor).await?;
        let signature = Signature::new(new.signature.0);
        let transaction = server.countersign_request(statement, signature);
        take_doctor(server, &doctor);
        let transaction = transaction.map_err(|error| refused(&error))?;
        let id = transaction.id(&self.consortium);
        let entry = Entry {
            transaction,
            positions: Vec::new(),
            receipt: None,
        };
        self.keep(change, &doctor, id, entry).await
    }

    /// Keeps a transaction, unless it is kept already.
    async fn keep(
        &self,
        mut change: Change,
        doctor: &KnownDoctor,
        id: TransactionId,
        entry: Entry,
    ) -> Result<Submitted, Refused> {
        if let Some(row) = change.row(STATE_OF, &values(doctor, id)).await? {
            return submitted(id, &row);
        }
        let waiting = change
            .row(
                "SELECT COUNT(*), COALESCE(SUM(CASE WHEN doctor = $2 THEN 1 ELSE 0 END), 0) \
                 FROM outbox WHERE state = $1",
                &[Value::Integer(PENDING), doctor.row().into()],
            )
            .await?;
        let (all, own) = match waiting {
            Some(row) => (row.integer(0)?, row.integer(1)?),
            None => (0, 0),
        };
        if all >= PENDING_MAX || own >= PENDING_OF_DOCTOR_MAX {
            return Err(Refused::new(
                ProblemKind::TooMany,
                "too many transactions wait for the chain: send the same one again once some of them are final",
            ));
        }
        let mut positions = Vec::with_capacity(entry.positions.len() * POSITION_BYTES);
        for (id, position) in &entry.positions {
            positions.extend_from_slice(id.as_bytes());
            positions.extend_from_slice(&position.number().to_be_bytes());
        }
        let container = entry.receipt.map(|receipt| receipt.address);
        let container = container.map_or(Vec::new(), |address| address.as_bytes().to_vec());
        change
            .run(
                "INSERT INTO outbox (id, doctor, content, positions, container, state, height, reason, time, tried) \
                 VALUES ($1, $2, $3, $4, $5, $6, 0, '', $7, 0)",
                &[
                    (*id.as_bytes()).into(),
                    doctor.row().into(),
                    entry.transaction.encode().as_slice().into(),
                    positions.as_slice().into(),
                    container.as_slice().into(),
                    Value::Integer(PENDING),
                    now().into(),
                ],
            )
            .await?;
        if let Some(receipt) = &entry.receipt {
            // A record that is built anew has the container of the refused one.
            change
                .run(
                    "INSERT INTO containers (address, receipt, recorded, copied, checked, tried, found, lost, detail, restored) \
                     VALUES ($1, $2, 0, 0, 0, 0, 0, 0, '', 0) ON CONFLICT (address) DO NOTHING",
                    &[
                        (*receipt.address.as_bytes()).into(),
                        receipt.encode().as_slice().into(),
                    ],
                )
                .await?;
        }
        change.commit().await?;
        self.outbox_filled.notify_one();
        Ok(Submitted {
            transaction: Hex(*id.as_bytes()),
            state: SubmittedState::Pending,
        })
    }

    async fn known(
        &self,
        doctor: &KnownDoctor,
        id: TransactionId,
    ) -> Result<Option<Submitted>, Refused> {
        let found = self.database.row(STATE_OF, &values(doctor, id)).await?;
        found.map(|row| submitted(id, &row)).transpose()
    }

    async fn state(&self, doctor: &KnownDoctor, id: TransactionId) -> Result<Submitted, Refused> {
        let found = self.known(doctor, id).await?;
        found.ok_or_else(|| {
            Refused::new(
                ProblemKind::NotFound,
                "this doctor handed in no such transaction here: hand it in first",
            )
        })
    }

    fn events(self: &Arc<Self>, doctor: KnownDoctor, id: TransactionId) -> Result<Events, Refused> {
        let looked = Arc::clone(self);
        stream(
            &self.listeners,
            Topic::Transaction(*id.as_bytes()),
            "state",
            move || {
                let service = Arc::clone(&looked);
                Box::pin(async move {
                    let state = service.state(&doctor, id).await?;
                    let data =
                        serde_json::to_string(&state).map_err(|error| Problem::internal(&error))?;
                    Ok(Look {
                        is_over: state.state != SubmittedState::Pending,
                        found: vec![(data.clone().into_bytes(), data)],
                    })
                })
            },
        )
    }

    /// Hands one in for a while and keeps what came of it.
    async fn send_one(&self, id: [u8; 32], bytes: &[u8]) -> Result<(), Refused> {
        let transaction = Transaction::decode(bytes).map_err(|error| Problem::internal(&error))?;
        match self.chain.submit(&transaction, ATTEMPT).await {
            Ok(confirmed) => {
                self.became_final(id, confirmed.outcome.height.number())
                    .await
            }
            Err(ClientError::Refused(problem)) => {
                tracing::warn!(
                    transaction = hex::encode(id),
                    detail = problem.detail(),
                    "f + 1 nodes refused a transaction"
                );
                self.became_refused(id, problem.detail()).await
            }
            // Silent or busy nodes; the same bytes again.
            Err(_) => self.stays_pending(id).await,
        }
    }

    async fn became_final(&self, id: [u8; 32], height: u64) -> Result<(), Refused> {
        // Held, so that no position is given while it is marked as final.
        let held = self.server.lock().await;
        let mut change = self.database.begin().await?;
        let positions = positions_of(&mut change, id).await?;
        settle(&mut change, &positions).await?;
        // The chain has the transaction: its bytes are kept there.
        change
            .run(
                "UPDATE outbox SET state = $1, height = $2, content = $3, positions = $3 WHERE id = $4",
                &[
                    Value::Integer(FINAL),
                    Value::Integer(integer(height)),
                    Value::Bytes(Vec::new()),
                    id.into(),
                ],
            )
            .await?;
        change
            .run(
                "UPDATE containers SET recorded = 1, checked = $1 WHERE recorded = 0 \
                 AND address IN (SELECT container FROM outbox WHERE id = $2)",
                &[now().into(), id.into()],
            )
            .await?;
        change.commit().await?;
        drop(held);
        self.listeners.tell(&Topic::Transaction(id));
        Ok(())
    }

    async fn became_refused(&self, id: [u8; 32], reason: &str) -> Result<(), Refused> {
        let held = self.server.lock().await;
        let mut change = self.database.begin().await?;
        let positions = positions_of(&mut change, id).await?;
        release_positions(&mut change, &positions).await?;
        change
            .run(
                "UPDATE outbox SET state = $1, reason = $2, content = $3, positions = $3 WHERE id = $4",
                &[
                    Value::Integer(REFUSED),
                    reason.into(),
                    Value::Bytes(Vec::new()),
                    id.into(),
                ],
            )
            .await?;
        change.commit().await?;
        drop(held);
        self.listeners.tell(&Topic::Transaction(id));
        Ok(())
    }

    async fn stays_pending(&self, id: [u8; 32]) -> Result<(), Refused> {
        self.database
            .run(
                "UPDATE outbox SET tried = $1 WHERE id = $2",
                &[now().into(), id.into()],
            )
            .await?;
        Ok(())
    }
}

/// The positions that a kept record stands at.
async fn positions_of(
    change: &mut Change,
    id: [u8; 32],
) -> Result<Vec<(AllocationId, Position)>, Refused> {
    let found = change
        .row("SELECT positions FROM outbox WHERE id = $1", &[id.into()])
        .await?;
    let bytes = found.map_or(Ok(Vec::new()), |row| row.bytes(0))?;
    let (positions, _) = bytes.as_chunks::<POSITION_BYTES>();
    let positions = positions.iter().filter_map(|one| {
        let (id, position) = one.split_first_chunk::<32>()?;
        let position = u64::from_be_bytes(position.try_into().ok()?);
        Some((AllocationId::new(*id), Position::new(position)))
    });
    Ok(positions.collect())
}

/// Bytes of an id and its position.
const POSITION_BYTES: usize = 40;

const STATE_OF: &str = "SELECT state, height, reason FROM outbox WHERE id = $1 AND doctor = $2";

fn values(doctor: &KnownDoctor, id: TransactionId) -> [Value; 2] {
    [(*id.as_bytes()).into(), doctor.row().into()]
}

fn submitted(id: TransactionId, row: &Row) -> Result<Submitted, Refused> {
    let state = match row.integer(0)? {
        FINAL => SubmittedState::Final {
            height: unsigned(row.integer(1)?),
        },
        REFUSED => SubmittedState::Refused {
            reason: row.text(2)?,
        },
        _ => SubmittedState::Pending,
    };
    Ok(Submitted {
        transaction: Hex(*id.as_bytes()),
        state,
    })
}

fn not_the_author() -> Refused {
    Refused::new(
        ProblemKind::DoesNotStand,
        "the statement names another author than the key that signed the call: hand in your own",
    )
}

/// Hands transactions in, those that waited longest first.
pub(super) async fn send(service: Arc<HospitalService>) {
    let mut sending = JoinSet::new();
    let mut begun: BTreeSet<[u8; 32]> = BTreeSet::new();
    loop {
        let rows = service
            .database
            .rows(
                "SELECT id, content FROM outbox WHERE state = $1 ORDER BY tried, time LIMIT $2",
                &[Value::Integer(PENDING), Value::Integer(SENDING_ROWS)],
            )
            .await;
        let rows = rows.unwrap_or_else(|error| {
            tracing::warn!(%error, "the outbox cannot be read: it is tried again");
            Vec::new()
        });
        for row in rows {
            let (Ok(id), Ok(bytes)) = (row.array::<32>(0), row.bytes(1)) else {
                continue;
            };
            if sending.len() >= SENDING_MAX || !begun.insert(id) {
                continue;
            }
            let service = Arc::clone(&service);
            sending.spawn(async move {
                if let Err(Refused(problem)) = service.send_one(id, &bytes).await {
                    tracing::warn!(
                        detail = problem.detail(),
                        "what came of a transaction could not be kept: it is handed in again"
                    );
                }
                id
            });
        }
        let filled = service.outbox_filled.notified();
        tokio::select! {
            Some(done) = sending.join_next() => match done {
                Ok(id) => {
                    begun.remove(&id);
                }
                // Which one is not known any more; those that still run are found again by their rows.
                Err(_) => begun.clear(),
            },
            () = filled => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// 202 while it is pending, 200 once it is settled.
fn answer(submitted: Submitted) -> (StatusCode, Json<Submitted>) {
    let status = match submitted.state {
        SubmittedState::Pending => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    (status, Json(submitted))
}

#[utoipa::path(
    post,
    path = "/v1/records",
    operation_id = "record",
    summary = "Takes a doctor's signed record with the cloud's receipt: countersigned once, and handed in until it is final or refused.",
    params(("Idempotency-Key" = String, Header, description = "Makes the write happen once")),
    request_body = NewRecord,
    responses(
        (status = 200, body = Submitted, description = "It was handed in before and is settled"),
        (status = 202, body = Submitted, description = "It is kept, and handed in until it is settled"),
        Problems
    ),
    security(("signed" = [])),
)]
pub(super) async fn record(
    State(service): Service,
    SignedJson(call, new): SignedJson<NewRecord>,
) -> Result<(StatusCode, Json<Submitted>), Refused> {
    Ok(answer(service.take_record(&call, &new).await?))
}

#[utoipa::path(
    get,
    path = "/v1/transactions/{id}",
    operation_id = "transaction_state",
    summary = "How far a record or request of the calling doctor is.",
    params(("id" = Hex<32>, Path)),
    responses((status = 200, body = Submitted), Problems),
    security(("signed" = [])),
)]
pub(super) async fn transaction_state(
    State(service): Service,
    Segment(id): Segment<Hex<32>>,
    SignedNothing(call): SignedNothing,
) -> Result<Json<Submitted>, Refused> {
    let doctor = service.known_doctor(&call).await?;
    Ok(Json(
        service.state(&doctor, TransactionId::new(id.0)).await?,
    ))
}

#[utoipa::path(
    get,
    path = "/v1/transactions/{id}/events",
    operation_id = "transaction_events",
    summary = "The states of a record or request of the calling doctor, until it is settled.",
    params(("id" = Hex<32>, Path)),
    responses((status = 200, description = "Events named state, each a Submitted", body = StreamedSubmitted, content_type = "text/event-stream"), Problems),
    security(("signed" = [])),
)]
pub(super) async fn transaction_events(
    State(service): Service,
    Segment(id): Segment<Hex<32>>,
    SignedNothing(call): SignedNothing,
) -> Result<Events, Refused> {
    let doctor = service.known_doctor(&call).await?;
    let id = TransactionId::new(id.0);
    service.state(&doctor, id).await?;
    service.events(doctor, id)
}

#[utoipa::path(
    post,
    path = "/v1/requests",
    operation_id = "request",
    summary = "Takes a doctor's signed request for the chain: countersigned once, and handed in until it is final or refused.",
    params(("Idempotency-Key" = String, Header, description = "Makes the write happen once")),
    request_body = NewChainRequest,
    responses(
        (status = 200, body = Submitted, description = "It was handed in before and is settled"),
        (status = 202, body = Submitted, description = "It is kept, and handed in until it is settled"),
        Problems
    ),
    security(("signed" = [])),
)]
pub(super) async fn request(
    State(service): Service,
    SignedJson(call, new): SignedJson<NewChainRequest>,
) -> Result<(StatusCode, Json<Submitted>), Refused> {
    Ok(answer(service.take_request(&call, &new).await?))
}
