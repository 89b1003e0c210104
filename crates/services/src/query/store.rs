//! What the query manager keeps, and each change of it as one transaction of the database. Nothing
//! here decides whether a request stands.
//!
//! | table | holds | until |
//! |---|---|---|
//! | owners | how many events an owner's inboxes had | - |
//! | inboxes | handle, owner's key, inbox key, agent; of a closed one handle and owner, so that nobody else opens it | - |
//! | requests | state, times, who answered | its end |
//! | doctors | the signing keys that a request names | the request's end |
//! | queued | a request's bytes, salt and handle | it is verified |
//! | copies | a request sealed to one inbox | it is decided |
//! | events, notes | what happened to a request; sealed notes to its doctors | the request's end |
//! | inbox_events | what happened in an owner's inboxes | the request's end, and at most two days |
//! | agents | the agents' inboxes that an inbox ever named | the inbox is closed |
//! | acts | what agents tell an inbox's owner, sealed | it is taken, and at most 400 days |
//! | days | how many requests a doctor sent on one day | the day after |

use client::{
    AgentActEntry, AnswerKind, DoctorNote, Hex, InboxChange, InboxContent, InboxEntry, InboxEvent,
    Problem, ProblemKind, RequestEntry, RequestEvent, RequestState, RequestStatus, WaitingRequest,
};
use ledger::RequestCommitment;
use scheme::{Digest, HpkePublicKey, InboxHandle, Timestamp, VerifyingKey};

use super::QueryBounds;
use super::Topic;
use crate::database::{Change, Database, DatabaseError, ROW_DIGESTS, Row, Value};

/// What `open` says of an inbox that is never opened again; 1 of an open one, 0 of one that was closed.
const RETIRED: i64 = 2;

/// The steps of the schema.
pub(super) const STEPS: &[&str] = &[
    "
CREATE TABLE owners (
    owner {BYTES} PRIMARY KEY,
    events BIGINT NOT NULL
);
CREATE TABLE inboxes (
    handle {BYTES} PRIMARY KEY,
    owner {BYTES} NOT NULL,
    key {BYTES} NOT NULL,
    agent {BYTES} NOT NULL,
    open BIGINT NOT NULL
);
CREATE INDEX inboxes_of_owner ON inboxes (owner);
CREATE TABLE requests (
    id {BYTES} PRIMARY KEY,
    state TEXT NOT NULL,
    not_after BIGINT NOT NULL,
    events BIGINT NOT NULL,
    reminders BIGINT NOT NULL,
    remind_at BIGINT NOT NULL,
    agent_at BIGINT NOT NULL,
    due BIGINT NOT NULL,
    answerer {BYTES} NOT NULL
);
CREATE INDEX requests_due ON requests (due);
CREATE TABLE doctors (
    request {BYTES} NOT NULL,
    doctor {BYTES} NOT NULL,
    PRIMARY KEY (request, doctor)
);
CREATE TABLE queued (
    request {BYTES} PRIMARY KEY,
    handle {BYTES} NOT NULL,
    salt {BYTES} NOT NULL,
    bytes {BYTES} NOT NULL
);
CREATE TABLE copies (
    request {BYTES} NOT NULL,
    handle {BYTES} NOT NULL,
    owner {BYTES} NOT NULL,
    sealed {BYTES} NOT NULL,
    arrived BIGINT NOT NULL,
    collected BIGINT NOT NULL,
    PRIMARY KEY (request, handle)
);
CREATE INDEX copies_of_owner ON copies (owner);
CREATE INDEX copies_of_inbox ON copies (handle);
CREATE TABLE events (
    request {BYTES} NOT NULL,
    number BIGINT NOT NULL,
    state TEXT NOT NULL,
    time BIGINT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (request, number)
);
CREATE TABLE notes (
    request {BYTES} NOT NULL,
    number BIGINT NOT NULL,
    doctor {BYTES} NOT NULL,
    sealed {BYTES} NOT NULL,
    PRIMARY KEY (request, number, doctor)
);
CREATE TABLE inbox_events (
    owner {BYTES} NOT NULL,
    number BIGINT NOT NULL,
    request {BYTES} NOT NULL,
    change TEXT NOT NULL,
    time BIGINT NOT NULL,
    PRIMARY KEY (owner, number)
);
CREATE INDEX inbox_events_of_request ON inbox_events (request);
CREATE TABLE days (
    doctor {BYTES} NOT NULL,
    day BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    PRIMARY KEY (doctor, day)
)",
    "
CREATE TABLE agents (
    handle {BYTES} NOT NULL,
    agent {BYTES} NOT NULL,
    PRIMARY KEY (handle, agent)
);
CREATE TABLE acts (
    id {BYTES} PRIMARY KEY,
    handle {BYTES} NOT NULL,
    owner {BYTES} NOT NULL,
    sealed {BYTES} NOT NULL,
    time BIGINT NOT NULL
);
CREATE INDEX acts_of_owner ON acts (owner, time);
CREATE INDEX acts_of_inbox ON acts (handle);
CREATE INDEX acts_time ON acts (time)",
    ROW_DIGESTS,
];

/// Never, as a time.
pub(super) const NEVER: Timestamp = Timestamp::new(i64::MAX as u64);
/// A day in milliseconds.
pub(super) const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Agents that an inbox names in all: one each week for a year.
const AGENTS_MAX: u64 = 64;
/// How long what an agent tells waits for a patient whose device is away: 400 days.
const ACTS_KEPT_MS: u64 = 400 * DAY_MS;

/// The records.
#[derive(Clone)]
pub(super) struct Store(Database);

/// Whom a change is news for.
#[must_use]
#[derive(Default)]
pub(super) struct News(pub(super) Vec<Topic>);

/// A request that passed everything but the chain.
pub(super) struct NewRequest<'a> {
    pub(super) id: RequestCommitment,
    pub(super) bytes: &'a [u8],
    pub(super) handle: InboxHandle,
    pub(super) salt: [u8; 16],
    pub(super) not_after: Timestamp,
    pub(super) doctors: Vec<VerifyingKey>,
    pub(super) sender: VerifyingKey,
}

/// A request as it waits to be verified.
pub(super) struct Queued {
    pub(super) handle: InboxHandle,
    pub(super) salt: [u8; 16],
    pub(super) bytes: Vec<u8>,
}

/// An open inbox.
#[derive(Clone, Copy)]
pub(super) struct OpenInboxRow {
    pub(super) handle: InboxHandle,
    pub(super) owner: VerifyingKey,
    pub(super) key: HpkePublicKey,
    pub(super) agent: Option<InboxHandle>,
}

/// A request sealed to an inbox.
pub(super) struct SealedCopy {
    pub(super) handle: InboxHandle,
    pub(super) owner: VerifyingKey,
    pub(super) sealed: Vec<u8>,
}

/// A request that something is due for.
pub(super) struct Due {
    pub(super) id: RequestCommitment,
    pub(super) state: RequestState,
    pub(super) times: Times,
}

/// When what of a waiting request is due.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// How many reminders there were.
    pub(super) reminders: u64,
    /// When the next one is.
    pub(super) remind_at: Timestamp,
    /// When the agent gets it.
    pub(super) agent_at: Timestamp,
    /// After which it expires.
    pub(super) not_after: Timestamp,
}

/// An answer as it came.
pub(super) struct Decided<'a> {
    pub(super) id: RequestCommitment,
    pub(super) kind: AnswerKind,
    pub(super) notes: &'a [DoctorNote],
    /// Until when everything about the request is kept.
    pub(super) until: Option<Timestamp>,
}

/// Why something was not changed.
pub(super) type NotDone = Problem;

impl Store {
    pub(super) fn new(database: Database) -> Self {
        Self(database)
    }

    pub(super) fn database(&self) -> &Database {
        &self.0
    }

    /// How many requests are in which state, of those that nobody has answered yet.
    pub(super) async fn waiting(&self) -> Result<Vec<(String, u64)>, DatabaseError> {
        // A state is one of ten.
        let rows = self
            .0
            .rows(
                "SELECT state, COUNT(*) FROM requests GROUP BY state LIMIT 16",
                &[],
            )
            .await?;
        rows.iter()
            .map(|row| Ok((row.text(0)?, unsigned(row, 1)?)))
            .collect()
    }

    // Inboxes.

    pub(super) async fn open_inbox(
        &self,
        owner: VerifyingKey,
        handle: InboxHandle,
        key: HpkePublicKey,
        bounds: &QueryBounds,
    ) -> Result<InboxEntry, NotDone> {
        let mut change = self.0.begin().await?;
        let row = change
            .row(
                "SELECT owner, open FROM inboxes WHERE handle = $1",
                &[handle_value(&handle)],
            )
            .await?;
        match row {
            Some(row) if row.bytes(0)? != owner.as_bytes() => {
                return Err(Problem::new(
                    ProblemKind::Conflict,
                    "this handle is another's: draw a fresh one",
                ));
            }
            Some(row) if row.integer(1)? == RETIRED => {
                return Err(Problem::new(
                    ProblemKind::Conflict,
                    "this inbox was closed for good: draw a fresh handle",
                ));
            }
            Some(row) => {
                if row.integer(1)? == 0 {
                    within_open(&mut change, &owner, bounds).await?;
                }
                change
                    .run(
                        "UPDATE inboxes SET key = $2, open = 1 WHERE handle = $1",
                        &[handle_value(&handle), key.as_bytes().as_slice().into()],
                    )
                    .await?;
            }
            None => {
                within_open(&mut change, &owner, bounds).await?;
                let handles = count(
                    &mut change,
                    "SELECT COUNT(*) FROM inboxes WHERE owner = $1",
                    &[key_value(&owner)],
                )
                .await?;
                if handles >= bounds.handles_per_key {
                    return Err(too_many(
                        "this key has opened too many inboxes: take a fresh key",
                    ));
                }
                let all = count(&mut change, "SELECT COUNT(*) FROM inboxes", &[]).await?;
                if all >= bounds.inboxes {
                    return Err(Problem::new(
                        ProblemKind::Full,
                        "there is no room for another inbox: the operator must make room",
                    ));
                }
                change
                    .run(
                        "INSERT INTO owners (owner, events) VALUES ($1, 0) ON CONFLICT DO NOTHING",
                        &[key_value(&owner)],
                    )
                    .await?;
                change
                    .run(
                        "INSERT INTO inboxes (handle, owner, key, agent, open) VALUES ($1, $2, $3, $4, 1)",
                        &[
                            handle_value(&handle),
                            key_value(&owner),
                            key.as_bytes().as_slice().into(),
                            nothing(),
                        ],
                    )
                    .await?;
            }
        }
        let inbox = open_inbox_row(&mut change, &handle).await?;
        change.commit().await?;
        inbox.map(|inbox| entry(&inbox)).ok_or_else(no_inbox)
    }

    /// That this owner has an open inbox of this handle.
    pub(super) async fn must_be_open(
        &self,
        owner: VerifyingKey,
        handle: InboxHandle,
    ) -> Result<(), NotDone> {
        let found = self
            .0
            .row(
                "SELECT 1 FROM inboxes WHERE handle = $1 AND owner = $2 AND open = 1",
                &[handle_value(&handle), key_value(&owner)],
            )
            .await?;
        found.map(drop).ok_or_else(no_inbox)
    }

    pub(super) async fn close_inbox(
        &self,
        owner: VerifyingKey,
        handle: InboxHandle,
        for_good: bool,
        now: Timestamp,
        linger: u64,
    ) -> Result<News, NotDone> {
        const CLOSED: &str = "the inbox was closed: ask the patient for another code";
        let mut change = self.0.begin().await?;
        let left = if for_good { RETIRED } else { 0 };
        let values = [
            handle_value(&handle),
            key_value(&owner),
            nothing(),
            Value::Integer(left),
            Value::Integer(RETIRED),
        ];
        let closed = change
            .run(
                "UPDATE inboxes SET open = CASE WHEN open = $5 THEN $5 ELSE $4 END, key = $3, agent = $3 \
                 WHERE handle = $1 AND owner = $2",
                &values,
            )
            .await?;
        if closed == 0 {
            return Err(no_inbox());
        }
        let mut news = News::default();
        let waiting = change
            .rows(
                "SELECT request FROM copies WHERE handle = $1 UNION SELECT request FROM queued WHERE handle = $1 LIMIT 1000",
                &[handle_value(&handle)],
            )
            .await?;
        change
            .run(
                "DELETE FROM copies WHERE handle = $1",
                &[handle_value(&handle)],
            )
            .await?;
        for row in waiting {
            let id = commitment(&row, 0)?;
            // It goes on in the other's inbox, if it lies there already.
            let elsewhere = count(
                &mut change,
                "SELECT COUNT(*) FROM copies WHERE request = $1 AND arrived > 0",
                &[id_value(id)],
            )
            .await?;
            if elsewhere == 0 {
                let refused = RequestState::Refused;
                finish(&mut change, id, refused, CLOSED, now, linger, &mut news).await?;
            }
        }
        change.commit().await?;
        Ok(news)
    }

    pub(super) async fn name_agent(
        &self,
        owner: VerifyingKey,
        handle: InboxHandle,
        agent: Option<InboxHandle>,
    ) -> Result<InboxEntry, NotDone> {
        let mut change = self.0.begin().await?;
        let own = open_inbox_row(&mut change, &handle).await?;
        let own = own.filter(|own| own.owner == owner).ok_or_else(no_inbox)?;
        if let Some(agent) = agent {
            let found = open_inbox_row(&mut change, &agent).await?;
            if found.is_none_or(|found| found.owner == owner) {
                return Err(Problem::not_found(
                    "the agent has no such inbox: ask the agent for the handle again",
                ));
            }
        }
        if own.agent != agent {
            let named = agent;
            let agent = agent.map_or_else(nothing, |agent| handle_value(&agent));
            change
                .run(
                    "UPDATE inboxes SET agent = $2 WHERE handle = $1",
                    &[handle_value(&handle), agent],
                )
                .await?;
            if let Some(agent) = named {
                let agents = "SELECT COUNT(*) FROM agents WHERE handle = $1";
                if count(&mut change, agents, &[handle_value(&handle)]).await? >= AGENTS_MAX {
                    return Err(too_many(
                        "this inbox has named as many agents as one may: open another inbox",
                    ));
                }
                change
                    .run(
                        "DELETE FROM agents WHERE handle = $1 AND agent = $2",
                        &[handle_value(&handle), handle_value(&agent)],
                    )
                    .await?;
                change
                    .run(
                        "INSERT INTO agents (handle, agent) VALUES ($1, $2)",
                        &[handle_value(&handle), handle_value(&agent)],
                    )
                    .await?;
            }
            // What was sealed to the former agent and did not reach it yet does not.
            change
                .run(
                    "DELETE FROM copies WHERE arrived = 0 AND request IN (SELECT request FROM copies WHERE handle = $1)",
                    &[handle_value(&handle)],
                )
                .await?;
        }
        let inbox = open_inbox_row(&mut change, &handle).await?;
        change.commit().await?;
        inbox.map(|inbox| entry(&inbox)).ok_or_else(no_inbox)
    }

    /// Keeps what an agent tells an inbox's owner. The caller owns an inbox that this one named as its
    /// agent at some time: what an agent did under an appointment is told also after its end.
    pub(super) async fn leave_act(
        &self,
        caller: VerifyingKey,
        handle: InboxHandle,
        sealed: &[u8],
        bounds: &QueryBounds,
        now: Timestamp,
    ) -> Result<(), NotDone> {
        let mut change = self.0.begin().await?;
        let named = change
            .row(
                "SELECT inboxes.owner FROM agents JOIN inboxes ON inboxes.handle = agents.handle \
                 WHERE agents.handle = $1 AND inboxes.open = 1 AND agents.agent IN \
                 (SELECT handle FROM inboxes WHERE owner = $2 AND open = 1)",
                &[handle_value(&handle), key_value(&caller)],
            )
            .await?;
        let owner = match named {
            Some(row) => VerifyingKey::new(row.array(0)?),
            None => {
                return Err(Problem::not_found(
                    "no open inbox of that handle ever named an inbox of this key as its agent",
                ));
            }
        };
        let waiting = "SELECT COUNT(*) FROM acts WHERE handle = $1";
        let waiting = count(&mut change, waiting, &[handle_value(&handle)]).await?;
        if waiting >= bounds.waiting_per_inbox {
            return Err(too_many(
                "as much waits for this inbox's owner as it takes: send it again later",
            ));
        }
        // The same text is the same act.
        let id = scheme::sha256(sealed);
        change
            .run(
                "DELETE FROM acts WHERE id = $1",
                &[Value::Bytes(id.as_bytes().to_vec())],
            )
            .await?;
        change
            .run(
                "INSERT INTO acts (id, handle, owner, sealed, time) VALUES ($1, $2, $3, $4, $5)",
                &[
                    Value::Bytes(id.as_bytes().to_vec()),
                    handle_value(&handle),
                    key_value(&owner),
                    Value::Bytes(sealed.to_vec()),
                    now.into(),
                ],
            )
            .await?;
        Ok(change.commit().await?)
    }

    /// What agents told an owner, the oldest first.
    pub(super) async fn acts(&self, owner: VerifyingKey) -> Result<Vec<AgentActEntry>, NotDone> {
        let rows = self
            .0
            .rows(
                "SELECT id, sealed, time FROM acts WHERE owner = $1 ORDER BY time, id LIMIT 256",
                &[key_value(&owner)],
            )
            .await?;
        let act = |row: &Row| {
            Ok(AgentActEntry {
                id: Hex(row.array(0)?),
                sealed: client::Base64(row.bytes(1)?),
                time: row.time(2)?.number(),
            })
        };
        let acts = rows.iter().map(act);
        Ok(acts.collect::<Result<_, DatabaseError>>()?)
    }

    /// Removes what an owner has taken; done again it changes nothing.
    pub(super) async fn remove_act(
        &self,
        owner: VerifyingKey,
        id: [u8; 32],
    ) -> Result<(), NotDone> {
        self.0
            .run(
                "DELETE FROM acts WHERE id = $1 AND owner = $2",
                &[id.into(), key_value(&owner)],
            )
            .await?;
        Ok(())
    }

    /// What waits for an owner; what is given for the first time counts as collected.
    pub(super) async fn content(
        &self,
        owner: VerifyingKey,
        now: Timestamp,
    ) -> Result<(InboxContent, News), NotDone> {
        let inboxes = self
            .0
            .rows(
                "SELECT handle, owner, key, agent FROM inboxes WHERE owner = $1 AND open = 1 ORDER BY handle LIMIT 1000",
                &[key_value(&owner)],
            )
            .await?;
        let inboxes = inboxes
            .iter()
            .map(|row| Ok(entry(&inbox_of(row)?)))
            .collect::<Result<_, DatabaseError>>()?;
        let rows = self
            .0
            .rows(
                "SELECT copies.request, copies.handle, copies.arrived, requests.not_after, copies.sealed, copies.collected \
                 FROM copies JOIN requests ON requests.id = copies.request \
                 WHERE copies.owner = $1 AND copies.arrived > 0 ORDER BY copies.arrived, copies.request LIMIT 1000",
                &[key_value(&owner)],
            )
            .await?;
        let mut waiting = Vec::with_capacity(rows.len());
        let mut news = News::default();
        for row in rows {
            let id = commitment(&row, 0)?;
            let handle = InboxHandle::new(row.array(1)?);
            if row.integer(5)? == 0 {
                self.collect(id, &handle, now, &mut news).await?;
            }
            waiting.push(WaitingRequest {
                id: Hex(*id.digest().as_bytes()),
                handle: Hex(*handle.as_bytes()),
                arrived: row.time(2)?.number(),
                not_after: row.time(3)?.number(),
                sealed: client::Base64(row.bytes(4)?),
            });
        }
        Ok((InboxContent { inboxes, waiting }, news))
    }

    async fn collect(
        &self,
        id: RequestCommitment,
        handle: &InboxHandle,
        now: Timestamp,
        news: &mut News,
    ) -> Result<(), DatabaseError> {
        let mut change = self.0.begin().await?;
        let first = change
            .run(
                "UPDATE copies SET collected = $3 WHERE request = $1 AND handle = $2 AND collected = 0",
                &[id_value(id), handle_value(handle), now.into()],
            )
            .await?;
        if first == 1 {
            advance(
                &mut change,
                MOVE_WAITING,
                id,
                RequestState::Collected,
                "",
                now,
            )
            .await?;
            change.commit().await?;
            news.0.push(Topic::Request(id));
        }
        Ok(())
    }

    pub(super) async fn inbox_events(
        &self,
        owner: VerifyingKey,
        after: u64,
    ) -> Result<Vec<InboxEvent>, DatabaseError> {
        let rows = self
            .0
            .rows(
                "SELECT number, request, change, time FROM inbox_events WHERE owner = $1 AND number > $2 ORDER BY number LIMIT 1000",
                &[key_value(&owner), integer(after)],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(InboxEvent {
                    number: unsigned(row, 0)?,
                    id: Hex(row.array(1)?),
                    change: word(&row.text(2)?)?,
                    time: row.time(3)?.number(),
                })
            })
            .collect()
    }

    // Requests.

    /// Keeps a request until it can be verified. One that is here already is not taken twice.
    pub(super) async fn accept(
        &self,
        new: &NewRequest<'_>,
        bounds: &QueryBounds,
        now: Timestamp,
    ) -> Result<(RequestEntry, News), NotDone> {
        let mut change = self.0.begin().await?;
        if let Some(state) = state_of(&mut change, new.id).await? {
            return Ok((request_entry(new.id, state), News::default()));
        }
        if open_inbox_row(&mut change, &new.handle).await?.is_none() {
            return Err(Problem::from(&parties::ForwardError::NoSuchInbox));
        }
        within(&mut change, new, bounds, now).await?;
        change
            .run(
                "INSERT INTO requests (id, state, not_after, events, reminders, remind_at, agent_at, due, answerer) \
                 VALUES ($1, 'queued', $2, 1, 0, $3, $3, $4, $5)",
                &[
                    id_value(new.id),
                    new.not_after.into(),
                    NEVER.into(),
                    now.into(),
                    nothing(),
                ],
            )
            .await?;
        change
            .run(
                "INSERT INTO queued (request, handle, salt, bytes) VALUES ($1, $2, $3, $4)",
                &[
                    id_value(new.id),
                    handle_value(&new.handle),
                    new.salt.into(),
                    new.bytes.into(),
                ],
            )
            .await?;
        for doctor in &new.doctors {
            change
                .run(
                    "INSERT INTO doctors (request, doctor) VALUES ($1, $2)",
                    &[id_value(new.id), key_value(doctor)],
                )
                .await?;
        }
        change
            .run(
                "INSERT INTO days (doctor, day, requests) VALUES ($1, $2, 1) \
                 ON CONFLICT (doctor, day) DO UPDATE SET requests = days.requests + 1",
                &[key_value(&new.sender), day(now)],
            )
            .await?;
        insert_event(&mut change, new.id, 1, RequestState::Queued, "", now).await?;
        change.commit().await?;
        let news = News(vec![Topic::Request(new.id)]);
        Ok((request_entry(new.id, RequestState::Queued), news))
    }

    /// What became of a request, for one of its doctors.
    pub(super) async fn status(
        &self,
        id: RequestCommitment,
        doctor: VerifyingKey,
        after: u64,
    ) -> Result<Option<RequestStatus>, DatabaseError> {
        let row = self
            .0
            .row(
                "SELECT requests.state, requests.not_after FROM requests \
                 JOIN doctors ON doctors.request = requests.id \
                 WHERE requests.id = $1 AND doctors.doctor = $2",
                &[id_value(id), key_value(&doctor)],
            )
            .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let rows = self
            .0
            .rows(
                "SELECT number, state, time, reason FROM events WHERE request = $1 AND number > $2 ORDER BY number LIMIT 1000",
                &[id_value(id), integer(after)],
            )
            .await?;
        // Written with its event, so whoever sees the event sees it.
        let notes = self
            .0
            .rows(
                "SELECT number, sealed FROM notes WHERE request = $1 AND doctor = $2 AND number > $3 LIMIT 1000",
                &[id_value(id), key_value(&doctor), integer(after)],
            )
            .await?;
        let notes = notes
            .iter()
            .map(|row| Ok((unsigned(row, 0)?, row.bytes(1)?)))
            .collect::<Result<Vec<_>, DatabaseError>>()?;
        let events = rows
            .iter()
            .map(|row| {
                let number = unsigned(row, 0)?;
                let note = notes.iter().find(|(of, _)| *of == number);
                Ok(RequestEvent {
                    number,
                    state: word(&row.text(1)?)?,
                    time: row.time(2)?.number(),
                    reason: Some(row.text(3)?).filter(|reason| !reason.is_empty()),
                    note: note.map(|(_, sealed)| client::Base64(sealed.clone())),
                })
            })
            .collect::<Result<Vec<_>, DatabaseError>>()?;
        Ok(Some(RequestStatus {
            id: Hex(*id.digest().as_bytes()),
            state: word(&row.text(0)?)?,
            not_after: row.time(1)?.number(),
            events,
        }))
    }

    // What an inbox's owner says.

    pub(super) async fn answer(
        &self,
        owner: VerifyingKey,
        decided: &Decided<'_>,
        now: Timestamp,
        linger: u64,
    ) -> Result<(RequestEntry, News), NotDone> {
        let id = decided.id;
        let state = match decided.kind {
            AnswerKind::Answered => RequestState::Answered,
            AnswerKind::Declined => RequestState::Declined,
        };
        let mut change = self.0.begin().await?;
        let row = change
            .row(
                "SELECT state, not_after, answerer FROM requests WHERE id = $1",
                &[id_value(id)],
            )
            .await?;
        let row = row.ok_or_else(not_waiting)?;
        let not_after = row.time(1)?;
        if row.bytes(2)? == owner.as_bytes() {
            // Sent again, since the first answer's answer was lost.
            let found: RequestState = word(&row.text(0)?)?;
            return if found == state {
                Ok((request_entry(id, found), News::default()))
            } else {
                Err(Problem::new(
                    ProblemKind::Conflict,
                    "this request was answered otherwise before: to take a grant back, revoke it",
                ))
            };
        }
        let own = count(
            &mut change,
            "SELECT COUNT(*) FROM copies WHERE request = $1 AND owner = $2 AND arrived > 0",
            &[id_value(id), key_value(&owner)],
        )
        .await?;
        if own == 0 || now > not_after {
            return Err(not_waiting());
        }
        all_doctors(&mut change, id, decided.notes).await?;
        let others = change
            .rows(
                "SELECT owner FROM copies WHERE request = $1 AND owner <> $2 AND arrived > 0 LIMIT 1000",
                &[id_value(id), key_value(&owner)],
            )
            .await?;
        let Some(number) = advance(&mut change, MOVE_WAITING, id, state, "", now).await? else {
            return Err(not_waiting());
        };
        let end = Timestamp::new(not_after.number().saturating_add(linger));
        let end = decided.until.map_or(end, |until| end.max(until));
        change
            .run(
                "UPDATE requests SET answerer = $2, due = $3 WHERE id = $1",
                &[id_value(id), key_value(&owner), end.into()],
            )
            .await?;
        insert_notes(&mut change, id, number, decided.notes).await?;
        let mut news = News(vec![Topic::Request(id)]);
        drop_contents(&mut change, id).await?;
        for row in others {
            let other = VerifyingKey::new(row.array(0)?);
            tell_owner(&mut change, &other, id, InboxChange::Gone, now, &mut news).await?;
        }
        change.commit().await?;
        Ok((request_entry(id, state), news))
    }

    pub(super) async fn add_notes(
        &self,
        owner: VerifyingKey,
        id: RequestCommitment,
        notes: &[DoctorNote],
        bounds: &QueryBounds,
        now: Timestamp,
    ) -> Result<(RequestEntry, News), NotDone> {
        let mut change = self.0.begin().await?;
        let moved = change
            .run(
                "UPDATE requests SET events = events + 1 WHERE id = $1 AND answerer = $2 AND state = 'answered'",
                &[id_value(id), key_value(&owner)],
            )
            .await?;
        if moved == 0 {
            return Err(Problem::not_found(
                "this key answered no such request with grants, or everything about it is over: the doctor sees a revocation on the chain",
            ));
        }
        all_doctors(&mut change, id, notes).await?;
        let first = notes.first().ok_or_else(|| {
            Problem::new(
                ProblemKind::DoesNotStand,
                "there is no note: seal one to a doctor",
            )
        })?;
        let entry = request_entry(id, RequestState::Answered);
        let again = change
            .row(
                "SELECT number FROM notes WHERE request = $1 AND doctor = $2 AND sealed = $3",
                &[
                    id_value(id),
                    first.doctor.0.into(),
                    first.sealed.0.as_slice().into(),
                ],
            )
            .await?;
        if again.is_some() {
            return Ok((entry, News::default()));
        }
        let before = count(
            &mut change,
            "SELECT COUNT(*) FROM events WHERE request = $1 AND state = 'note'",
            &[id_value(id)],
        )
        .await?;
        if before >= bounds.notes {
            return Err(too_many(
                "there are as many notes on this request as it can have: the doctor sees a revocation on the chain",
            ));
        }
        let number = events_of(&mut change, id).await?;
        insert_event(&mut change, id, number, RequestState::Note, "", now).await?;
        insert_notes(&mut change, id, number, notes).await?;
        change.commit().await?;
        Ok((entry, News(vec![Topic::Request(id)])))
    }

    // What the courier does.

    /// What was being verified when the service stopped is due at once.
    pub(super) async fn resume(&self, now: Timestamp) -> Result<(), DatabaseError> {
        self.0
            .run(
                "UPDATE requests SET due = $1 WHERE state = 'queued'",
                &[now.into()],
            )
            .await?;
        Ok(())
    }

    /// Requests that something is due for, the longest overdue first; those that one pass does not get
    /// to are due in the next.
    pub(super) async fn due(&self, now: Timestamp) -> Result<Vec<Due>, DatabaseError> {
        let rows = self
            .0
            .rows(
                "SELECT id, state, not_after, reminders, remind_at, agent_at FROM requests \
                 WHERE due <= $1 ORDER BY due LIMIT 64",
                &[now.into()],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Due {
                    id: commitment(row, 0)?,
                    state: word(&row.text(1)?)?,
                    times: Times {
                        not_after: row.time(2)?,
                        reminders: unsigned(row, 3)?,
                        remind_at: row.time(4)?,
                        agent_at: row.time(5)?,
                    },
                })
            })
            .collect()
    }

    /// When something is due next.
    pub(super) async fn next_due(&self) -> Result<Timestamp, DatabaseError> {
        let row = self
            .0
            .row(
                "SELECT COALESCE(MIN(due), $1) FROM requests",
                &[NEVER.into()],
            )
            .await?;
        row.map_or(Ok(NEVER), |row| row.time(0))
    }

    /// A queued request is looked at again then.
    pub(super) async fn put_off(
        &self,
        id: RequestCommitment,
        due: Timestamp,
    ) -> Result<(), DatabaseError> {
        self.0
            .run(
                "UPDATE requests SET due = $2 WHERE id = $1 AND state = 'queued'",
                &[id_value(id), due.into()],
            )
            .await?;
        Ok(())
    }

    pub(super) async fn queued(
        &self,
        id: RequestCommitment,
    ) -> Result<Option<Queued>, DatabaseError> {
        let row = self
            .0
            .row(
                "SELECT handle, salt, bytes FROM queued WHERE request = $1",
                &[id_value(id)],
            )
            .await?;
        row.map(|row| {
            Ok(Queued {
                handle: InboxHandle::new(row.array(0)?),
                salt: row.array(1)?,
                bytes: row.bytes(2)?,
            })
        })
        .transpose()
    }

    pub(super) async fn inbox(
        &self,
        handle: &InboxHandle,
    ) -> Result<Option<OpenInboxRow>, DatabaseError> {
        let row = self.0.row(SELECT_INBOX, &[handle_value(handle)]).await?;
        row.as_ref().map(inbox_of).transpose()
    }

    /// A request was verified: its sealed copies take the place of its bytes.
    pub(super) async fn forward(
        &self,
        id: RequestCommitment,
        (to, agent): (&SealedCopy, Option<&SealedCopy>),
        mut times: Times,
        bounds: &QueryBounds,
        now: Timestamp,
    ) -> Result<News, DatabaseError> {
        let mut change = self.0.begin().await?;
        let forwarded = RequestState::Forwarded;
        if advance(&mut change, MOVE_QUEUED, id, forwarded, "", now)
            .await?
            .is_none()
        {
            return Ok(News::default());
        }
        let mut news = News(vec![Topic::Request(id)]);
        insert_copy(&mut change, id, to, now).await?;
        let mut held = false;
        if let Some(copy) = agent {
            let sql = "SELECT COUNT(*) FROM copies WHERE handle = $1";
            let waiting = count(&mut change, sql, &[handle_value(&copy.handle)]).await?;
            // An agent's inbox that is full takes no more; the patient's has it all the same.
            if waiting < bounds.waiting_per_inbox {
                insert_copy(&mut change, id, copy, Timestamp::new(0)).await?;
                held = true;
            }
        }
        if !held {
            times.agent_at = NEVER;
        }
        change
            .run("DELETE FROM queued WHERE request = $1", &[id_value(id)])
            .await?;
        set_times(&mut change, id, times).await?;
        let arrived = InboxChange::Arrived;
        tell_owner(&mut change, &to.owner, id, arrived, now, &mut news).await?;
        change.commit().await?;
        Ok(news)
    }

    /// The patient is reminded.
    pub(super) async fn remind(
        &self,
        due: &Due,
        next: Timestamp,
        now: Timestamp,
    ) -> Result<News, DatabaseError> {
        let mut change = self.0.begin().await?;
        let mut news = News(vec![Topic::Request(due.id)]);
        let reminded = RequestState::Reminded;
        if advance(&mut change, MOVE_WAITING, due.id, reminded, "", now)
            .await?
            .is_some()
        {
            let reminder = InboxChange::Reminder;
            for owner in owners_of(&mut change, due.id).await? {
                tell_owner(&mut change, &owner, due.id, reminder, now, &mut news).await?;
            }
        }
        let times = Times {
            reminders: due.times.reminders + 1,
            remind_at: next,
            ..due.times
        };
        set_times(&mut change, due.id, times).await?;
        change.commit().await?;
        Ok(news)
    }

    /// The agent gets the copy that was sealed to it.
    pub(super) async fn release(&self, due: &Due, now: Timestamp) -> Result<News, DatabaseError> {
        let mut change = self.0.begin().await?;
        let mut news = News(vec![Topic::Request(due.id)]);
        let held = change
            .rows(
                "SELECT owner FROM copies WHERE request = $1 AND arrived = 0 LIMIT 1000",
                &[id_value(due.id)],
            )
            .await?;
        let with_agent = RequestState::WithAgent;
        if !held.is_empty()
            && advance(&mut change, MOVE_WAITING, due.id, with_agent, "", now)
                .await?
                .is_some()
        {
            change
                .run(
                    "UPDATE copies SET arrived = $2 WHERE request = $1 AND arrived = 0",
                    &[id_value(due.id), now.into()],
                )
                .await?;
            for row in held {
                let owner = VerifyingKey::new(row.array(0)?);
                let arrived = InboxChange::Arrived;
                tell_owner(&mut change, &owner, due.id, arrived, now, &mut news).await?;
            }
        }
        let times = Times {
            agent_at: NEVER,
            ..due.times
        };
        set_times(&mut change, due.id, times).await?;
        change.commit().await?;
        Ok(news)
    }

    /// It ends without an answer.
    pub(super) async fn end(
        &self,
        id: RequestCommitment,
        state: RequestState,
        reason: &str,
        now: Timestamp,
        linger: u64,
    ) -> Result<News, DatabaseError> {
        let mut change = self.0.begin().await?;
        let mut news = News::default();
        finish(&mut change, id, state, reason, now, linger, &mut news).await?;
        change.commit().await?;
        Ok(news)
    }

    /// Nothing of it is kept.
    pub(super) async fn remove(&self, id: RequestCommitment) -> Result<News, DatabaseError> {
        let mut change = self.0.begin().await?;
        drop_contents(&mut change, id).await?;
        for sql in [
            "DELETE FROM inbox_events WHERE request = $1",
            "DELETE FROM notes WHERE request = $1",
            "DELETE FROM events WHERE request = $1",
            "DELETE FROM doctors WHERE request = $1",
            "DELETE FROM requests WHERE id = $1",
        ] {
            change.run(sql, &[id_value(id)]).await?;
        }
        change.commit().await?;
        Ok(News(vec![Topic::Request(id)]))
    }

    /// Forgets counts of days that are over, and what happened in inboxes before yesterday.
    pub(super) async fn forget_days(&self, now: Timestamp) -> Result<(), DatabaseError> {
        let yesterday = Timestamp::new(now.number().saturating_sub(DAY_MS));
        self.0
            .run("DELETE FROM days WHERE day < $1", &[day(yesterday)])
            .await?;
        self.0
            .run(
                "DELETE FROM inbox_events WHERE time < $1",
                &[Timestamp::new(yesterday.number().saturating_sub(DAY_MS)).into()],
            )
            .await?;
        self.0
            .run(
                "DELETE FROM acts WHERE time < $1",
                &[Timestamp::new(now.number().saturating_sub(ACTS_KEPT_MS)).into()],
            )
            .await?;
        Ok(())
    }
}

const SELECT_INBOX: &str =
    "SELECT handle, owner, key, agent FROM inboxes WHERE handle = $1 AND open = 1";
/// From the states in which somebody is waited for.
const MOVE_WAITING: &str = "UPDATE requests SET state = $2, events = events + 1 \
     WHERE id = $1 AND state IN ('forwarded', 'collected', 'reminded', 'with-agent')";
const MOVE_QUEUED: &str =
    "UPDATE requests SET state = $2, events = events + 1 WHERE id = $1 AND state = 'queued'";
const MOVE_UNDECIDED: &str = "UPDATE requests SET state = $2, events = events + 1 \
     WHERE id = $1 AND state IN ('queued', 'forwarded', 'collected', 'reminded', 'with-agent')";

/// Moves a request on and writes the event; gives its number, or `None` if the request is in no state
/// from which it can move there. The update comes first: it locks the row against who changes it at
/// the same time.
async fn advance(
    change: &mut Change,
    from: &'static str,
    id: RequestCommitment,
    to: RequestState,
    reason: &str,
    now: Timestamp,
) -> Result<Option<u64>, DatabaseError> {
    let moved = change
        .run(from, &[id_value(id), name(&to).as_str().into()])
        .await?;
    if moved == 0 {
        return Ok(None);
    }
    let number = events_of(change, id).await?;
    insert_event(change, id, number, to, reason, now).await?;
    Ok(Some(number))
}

async fn events_of(change: &mut Change, id: RequestCommitment) -> Result<u64, DatabaseError> {
    let sql = "SELECT events FROM requests WHERE id = $1";
    count(change, sql, &[id_value(id)]).await
}

async fn insert_event(
    change: &mut Change,
    id: RequestCommitment,
    number: u64,
    state: RequestState,
    reason: &str,
    now: Timestamp,
) -> Result<(), DatabaseError> {
    change
        .run(
            "INSERT INTO events (request, number, state, time, reason) VALUES ($1, $2, $3, $4, $5)",
            &[
                id_value(id),
                integer(number),
                name(&state).as_str().into(),
                now.into(),
                reason.into(),
            ],
        )
        .await?;
    Ok(())
}

/// A request that nobody answers any more: what was sealed goes, its state stays until a while after
/// its end.
async fn finish(
    change: &mut Change,
    id: RequestCommitment,
    state: RequestState,
    reason: &str,
    now: Timestamp,
    linger: u64,
    news: &mut News,
) -> Result<(), DatabaseError> {
    if advance(change, MOVE_UNDECIDED, id, state, reason, now)
        .await?
        .is_none()
    {
        return Ok(());
    }
    news.0.push(Topic::Request(id));
    for owner in owners_of(change, id).await? {
        tell_owner(change, &owner, id, InboxChange::Gone, now, news).await?;
    }
    drop_contents(change, id).await?;
    change
        .run(
            "UPDATE requests SET due = not_after + $2 WHERE id = $1",
            &[id_value(id), integer(linger)],
        )
        .await?;
    Ok(())
}

async fn owners_of(
    change: &mut Change,
    id: RequestCommitment,
) -> Result<Vec<VerifyingKey>, DatabaseError> {
    let rows = change
        .rows(
            "SELECT owner FROM copies WHERE request = $1 AND arrived > 0 LIMIT 1000",
            &[id_value(id)],
        )
        .await?;
    rows.iter()
        .map(|row| Ok(VerifyingKey::new(row.array(0)?)))
        .collect()
}

/// The request itself, and what owners were told of it while it waited.
async fn drop_contents(change: &mut Change, id: RequestCommitment) -> Result<(), DatabaseError> {
    for sql in [
        "DELETE FROM queued WHERE request = $1",
        "DELETE FROM copies WHERE request = $1",
        "DELETE FROM inbox_events WHERE request = $1 AND change <> 'gone'",
    ] {
        change.run(sql, &[id_value(id)]).await?;
    }
    Ok(())
}

async fn tell_owner(
    change: &mut Change,
    owner: &VerifyingKey,
    id: RequestCommitment,
    what: InboxChange,
    now: Timestamp,
    news: &mut News,
) -> Result<(), DatabaseError> {
    change
        .run(
            "UPDATE owners SET events = events + 1 WHERE owner = $1",
            &[key_value(owner)],
        )
        .await?;
    let sql = "SELECT events FROM owners WHERE owner = $1";
    let number = count(change, sql, &[key_value(owner)]).await?;
    change
        .run(
            "INSERT INTO inbox_events (owner, number, request, change, time) VALUES ($1, $2, $3, $4, $5)",
            &[
                key_value(owner),
                integer(number),
                id_value(id),
                name(&what).as_str().into(),
                now.into(),
            ],
        )
        .await?;
    news.0.push(Topic::Owner(*owner));
    Ok(())
}

async fn insert_copy(
    change: &mut Change,
    id: RequestCommitment,
    copy: &SealedCopy,
    arrived: Timestamp,
) -> Result<(), DatabaseError> {
    change
        .run(
            "INSERT INTO copies (request, handle, owner, sealed, arrived, collected) VALUES ($1, $2, $3, $4, $5, 0)",
            &[
                id_value(id),
                handle_value(&copy.handle),
                key_value(&copy.owner),
                copy.sealed.as_slice().into(),
                arrived.into(),
            ],
        )
        .await?;
    Ok(())
}

async fn set_times(
    change: &mut Change,
    id: RequestCommitment,
    times: Times,
) -> Result<(), DatabaseError> {
    let over = Timestamp::new(times.not_after.number().saturating_add(1));
    let due = over.min(times.remind_at).min(times.agent_at);
    change
        .run(
            "UPDATE requests SET reminders = $2, remind_at = $3, agent_at = $4, due = $5 \
             WHERE id = $1 AND state IN ('forwarded', 'collected', 'reminded', 'with-agent')",
            &[
                id_value(id),
                integer(times.reminders),
                times.remind_at.into(),
                times.agent_at.into(),
                due.into(),
            ],
        )
        .await?;
    Ok(())
}

async fn insert_notes(
    change: &mut Change,
    id: RequestCommitment,
    number: u64,
    notes: &[DoctorNote],
) -> Result<(), DatabaseError> {
    for note in notes {
        change
            .run(
                "INSERT INTO notes (request, number, doctor, sealed) VALUES ($1, $2, $3, $4)",
                &[
                    id_value(id),
                    integer(number),
                    note.doctor.0.into(),
                    note.sealed.0.as_slice().into(),
                ],
            )
            .await?;
    }
    Ok(())
}

/// Whether each note is for another doctor of the request.
async fn all_doctors(
    change: &mut Change,
    id: RequestCommitment,
    notes: &[DoctorNote],
) -> Result<(), NotDone> {
    let rows = change
        .rows(
            "SELECT doctor FROM doctors WHERE request = $1 LIMIT 1000",
            &[id_value(id)],
        )
        .await?;
    let doctors = rows
        .iter()
        .map(|row| row.array::<32>(0))
        .collect::<Result<Vec<_>, DatabaseError>>()?;
    let named: std::collections::BTreeSet<_> = notes.iter().map(|note| note.doctor).collect();
    if named.len() == notes.len() && named.iter().all(|named| doctors.contains(&named.0)) {
        Ok(())
    } else {
        Err(Problem::new(
            ProblemKind::DoesNotStand,
            "a note is for no doctor of this request, or there are two for one: seal one to each that it names",
        ))
    }
}

async fn state_of(
    change: &mut Change,
    id: RequestCommitment,
) -> Result<Option<RequestState>, DatabaseError> {
    let row = change
        .row("SELECT state FROM requests WHERE id = $1", &[id_value(id)])
        .await?;
    row.map(|row| word(&row.text(0)?)).transpose()
}

/// Whether there is room for another request.
async fn within(
    change: &mut Change,
    new: &NewRequest<'_>,
    bounds: &QueryBounds,
    now: Timestamp,
) -> Result<(), NotDone> {
    let today = count(
        change,
        "SELECT COALESCE(MAX(requests), 0) FROM days WHERE doctor = $1 AND day = $2",
        &[key_value(&new.sender), day(now)],
    )
    .await?;
    if today >= bounds.requests_per_doctor_day {
        return Err(too_many(
            "this doctor has sent as many requests today as anyone may: send more tomorrow, or let a colleague send",
        ));
    }
    let waiting = count(
        change,
        "SELECT COUNT(*) FROM copies WHERE handle = $1",
        &[handle_value(&new.handle)],
    )
    .await?;
    let queued_for = count(
        change,
        "SELECT COUNT(*) FROM queued WHERE handle = $1",
        &[handle_value(&new.handle)],
    )
    .await?;
    if waiting + queued_for >= bounds.waiting_per_inbox {
        return Err(too_many(
            "as many requests wait in this inbox as it takes: send it again when the patient has answered some",
        ));
    }
    let queued = count(change, "SELECT COUNT(*) FROM queued", &[]).await?;
    let all = count(change, "SELECT COUNT(*) FROM requests", &[]).await?;
    if queued >= bounds.queued || all >= bounds.requests {
        return Err(Problem::from(&parties::ForwardError::Busy));
    }
    Ok(())
}

async fn within_open(
    change: &mut Change,
    owner: &VerifyingKey,
    bounds: &QueryBounds,
) -> Result<(), NotDone> {
    let open = count(
        change,
        "SELECT COUNT(*) FROM inboxes WHERE owner = $1 AND open = 1",
        &[key_value(owner)],
    )
    .await?;
    if open >= bounds.inboxes_per_key {
        return Err(too_many(
            "this key has as many inboxes open as one may: close one first",
        ));
    }
    Ok(())
}

async fn open_inbox_row(
    change: &mut Change,
    handle: &InboxHandle,
) -> Result<Option<OpenInboxRow>, DatabaseError> {
    let row = change.row(SELECT_INBOX, &[handle_value(handle)]).await?;
    row.as_ref().map(inbox_of).transpose()
}

fn inbox_of(row: &Row) -> Result<OpenInboxRow, DatabaseError> {
    let agent = row.bytes(3)?;
    Ok(OpenInboxRow {
        handle: InboxHandle::new(row.array(0)?),
        owner: VerifyingKey::new(row.array(1)?),
        key: HpkePublicKey::new(row.array(2)?),
        agent: <[u8; 16]>::try_from(agent).ok().map(InboxHandle::new),
    })
}

fn entry(inbox: &OpenInboxRow) -> InboxEntry {
    InboxEntry {
        handle: Hex(*inbox.handle.as_bytes()),
        key: Hex(*inbox.key.as_bytes()),
        agent: inbox.agent.map(|agent| Hex(*agent.as_bytes())),
    }
}

fn request_entry(id: RequestCommitment, state: RequestState) -> RequestEntry {
    RequestEntry {
        id: Hex(*id.digest().as_bytes()),
        state,
    }
}

async fn count(
    change: &mut Change,
    sql: &'static str,
    values: &[Value],
) -> Result<u64, DatabaseError> {
    let row = change.row(sql, values).await?;
    row.map_or(Ok(0), |row| unsigned(&row, 0))
}

fn no_inbox() -> Problem {
    Problem::not_found("this key has no open inbox of that handle: open it first")
}

fn not_waiting() -> Problem {
    Problem::not_found(
        "no such request waits in this key's inboxes: it was answered elsewhere, it has expired, or it was never there",
    )
}

fn too_many(detail: &str) -> Problem {
    Problem::new(ProblemKind::TooMany, detail)
}

fn commitment(row: &Row, column: usize) -> Result<RequestCommitment, DatabaseError> {
    Ok(Digest::new(row.array(column)?).into())
}

fn unsigned(row: &Row, column: usize) -> Result<u64, DatabaseError> {
    Ok(u64::try_from(row.integer(column)?).unwrap_or_default())
}

fn id_value(id: RequestCommitment) -> Value {
    id.digest().into()
}

fn key_value(key: &VerifyingKey) -> Value {
    key.as_bytes().as_slice().into()
}

fn handle_value(handle: &InboxHandle) -> Value {
    handle.as_bytes().as_slice().into()
}

fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn day(time: Timestamp) -> Value {
    integer(time.number() / DAY_MS)
}

fn nothing() -> Value {
    Value::Bytes(Vec::new())
}

/// A state or change as the interface and the database name it.
fn name(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => unreachable!("states and changes are words"),
    }
}

fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, DatabaseError> {
    let value = serde_json::Value::String(text.to_owned());
    serde_json::from_value(value).map_err(|_| DatabaseError::unreadable("a state"))
}
