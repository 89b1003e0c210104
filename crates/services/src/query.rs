//! The query manager as a service (the paper's 3.2.3; interactions 5 to 7): inboxes, requests on their
//! way to them, and what becomes of each, told to who waits.
//!
//! A request is taken durably before anything is asked of the chain, verified as
//! [`parties::HybridVerification`] says as soon as the nodes answer, and sealed to the inbox; from
//! then on the service holds nothing of it that it could open. What each call changes is one
//! transaction of the database, and what the service does by itself it reads from there, so that a
//! kill at any moment loses nothing that was accepted. Each write is named by its content (a request by its
//! commitment, an answer by its request), so it is safe to send again without an answer being kept.
//!
//! | path | step | who calls |
//! |---|---|---|
//! | `POST /v1/inboxes`, `DELETE /v1/inboxes/{handle}` | 1 | patient, agent |
//! | `PUT`, `DELETE /v1/inbox/agent` | 1 | patient |
//! | `POST /v1/inbox/codes` | 6 | patient |
//! | `POST /v1/codes` | 6 | doctor B |
//! | `POST /v1/requests` | 6 | doctor B |
//! | `GET /v1/requests/{id}`, `.../events` | 6, 7, 11 | each doctor of the request |
//! | `GET /v1/inbox`, `/v1/inbox/events` | 6 | patient, agent |
//! | `POST /v1/inbox/{id}/answer`, `.../note` | 7, 11 | patient, agent |
//! | `POST /v1/inboxes/{handle}/acts` | 7 | agent |
//! | `GET /v1/inbox/acts`, `DELETE /v1/inbox/acts/{id}` | 7 | patient |

mod courier;
mod short_codes;
mod store;
mod watched;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::sse::Event;
use axum::{Json, Router};
use client::{
    AddNotes, AgentActs, AnswerRequest, ClientError, ConsortiumClient, DoctorNote, Done,
    GivenShortCode, Hex, InboxCode, InboxContent, InboxEntry, InboxEvent, NameAgent, NewAgentAct,
    OpenInbox, Problem, ProblemKind, RequestEntry, RequestEvent, RequestStatus, SaidShortCode,
    SendRequest, ServiceName, SystemRandom,
};
use ledger::{Genesis, RequestCommitment};
use parties::{
    CentreKeys, CertificateError, Examined, ForwardError, HybridVerification, RequestError,
};
use scheme::{Digest, HpkePublicKey, InboxHandle, Purpose, Timestamp, VerifyingKey};
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinError;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::short_codes::ShortCodes;
use crate::database::{Database, DatabaseError, DatabaseLocation};
use crate::http::{
    Buckets, Calls, Events, Interface, JSON_BYTES_MAX, Listeners, ListenersMax, Listening,
    Parameters, Peer, Problems, Rates, Refused, Segment, Server, SignedJson, SignedNothing, events,
    streamed,
};
use client::now;
use store::{DAY_MS, Decided, NewRequest, News, Store};

/// The longest sealed note of one doctor. The one that willis makes has 306 bytes.
const NOTE_BYTES_MAX: usize = 4 * 1024;
/// A body of notes: 32 of them in base64, with room for names and keys.
const NOTES_BODY_BYTES_MAX: usize = 32 * (NOTE_BYTES_MAX / 3 * 4 + 256);
/// How long notes are kept at most.
const NOTES_KEPT_MS: u64 = 31 * DAY_MS;
/// A quarter of the connections is left for calls. Of one key: a doctor's open requests, on two
/// machines.
const LISTENERS_MAX: ListenersMax = ListenersMax { all: 768, each: 16 };
/// How often a stream looks for itself, should news not have reached it.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// How the query manager waits.
#[derive(Debug, Clone)]
pub struct QueryConfig {
    /// How long an inbox has a request before it is reminded, and again, three times at most.
    pub remind_after: Duration,
    /// How long it has it alone, if it names an agent.
    pub agent_after: Duration,
    /// How long after its end a request's states can be read.
    pub linger: Duration,
    /// How long after an attempt that the nodes did not answer a request is verified again.
    pub verify_again: Duration,
    /// How much is kept at once.
    pub bounds: QueryBounds,
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self {
            remind_after: Duration::from_secs(10 * 60),
            agent_after: Duration::from_secs(30 * 60),
            linger: Duration::from_secs(60 * 60),
            verify_again: Duration::from_secs(2),
            bounds: QueryBounds::default(),
        }
    }
}

/// How much the query manager keeps.
#[derive(Debug, Clone)]
pub struct QueryBounds {
    /// Inboxes in all, closed ones included: of 150 bytes each, 1.5 GB.
    pub inboxes: u64,
    /// Open inboxes of one key: one in use, one that takes its place, and room.
    pub inboxes_per_key: u64,
    /// Handles that one key ever opened: a new one each week for a year.
    pub handles_per_key: u64,
    /// Requests that wait in one inbox: 22 KiB each in base64, so that what waits in four inboxes is
    /// one answer of under 6 MiB.
    pub waiting_per_inbox: u64,
    /// Requests that one doctor sends on one day: one every 7 minutes.
    pub requests_per_doctor_day: u64,
    /// Requests that wait for the nodes: of 16 KiB, 16 MiB.
    pub queued: u64,
    /// Requests known at once, decided ones included: one every 9 seconds on a day, and what was granted for
    /// longer.
    pub requests: u64,
    /// Notes that follow the answer to a request: as many as it has grants.
    pub notes: u64,
    /// Inboxes that one address opens: 64 at once, as a clinic does that enrols patients, and one more every
    /// 30 s.
    pub opening: Rates,
}

impl Default for QueryBounds {
    fn default() -> Self {
        Self {
            inboxes: 10_000_000,
            inboxes_per_key: 4,
            handles_per_key: 64,
            waiting_per_inbox: 64,
            requests_per_doctor_day: 200,
            queued: 1_000,
            requests: 100_000,
            notes: 8,
            opening: Rates {
                burst: 64,
                interval: Duration::from_secs(30),
            },
        }
    }
}

/// Why the service does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QueryServiceError {
    /// Its records cannot be opened.
    #[error("the query manager's records cannot be opened")]
    Database(#[from] DatabaseError),
}

/// The query manager.
pub struct QueryService {
    config: QueryConfig,
    /// With the centre's keys as the nodes named them last.
    verification: RwLock<HybridVerification>,
    nodes: ConsortiumClient,
    store: Store,
    listeners: Arc<Listeners<VerifyingKey, Topic>>,
    calls: Arc<Calls>,
    opening: Buckets<IpAddr>,
    short_codes: ShortCodes,
    /// Held while bounds are compared and a request or inbox is written, so that they hold exactly.
    accepting: Mutex<()>,
    /// There is something to do.
    work: Notify,
    /// Something was deleted that still stands in the database's log.
    deleted: AtomicBool,
}

impl QueryService {
    /// What judges requests, with the centre's keys as they are known now.
    fn verification(&self) -> HybridVerification {
        let verification = self.verification.read();
        verification.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what f + 1 nodes say of the centre's keys, so that no request counts whose certificate
    /// stands under one that was lost to others.
    async fn follow_centre(&self) -> Result<(), ClientError> {
        let agreed = self.nodes.centre_keys().await?;
        let verification = self.verification.write();
        verification
            .unwrap_or_else(PoisonError::into_inner)
            .follow_centre(&agreed);
        Ok(())
    }

    /// Opens the records. `nodes` says which keys are in force.
    ///
    /// # Errors
    /// [`QueryServiceError`].
    pub async fn open(
        config: QueryConfig,
        genesis: &Genesis,
        records: &DatabaseLocation,
        nodes: ConsortiumClient,
    ) -> Result<Self, QueryServiceError> {
        let store = Store::new(Database::open(records, store::STEPS).await?);
        let consortium = genesis.consortium();
        let drift = genesis.settings.clock_drift.as_millis();
        let drift = u64::try_from(drift).unwrap_or(u64::MAX);
        let opening = Buckets::new(config.bounds.opening);
        Ok(Self {
            config,
            verification: RwLock::new(HybridVerification::new(
                consortium,
                CentreKeys::founding(genesis.centre),
                drift,
            )),
            nodes,
            store,
            listeners: Listeners::new(LISTENERS_MAX),
            calls: Arc::new(Calls::new(consortium, ServiceName::Query)),
            opening,
            short_codes: ShortCodes::new(),
            accepting: Mutex::default(),
            work: Notify::new(),
            // Whatever was deleted just before an end.
            deleted: AtomicBool::new(true),
        })
    }

    /// Closes the records, once the service is not served any more.
    pub async fn close(&self) {
        self.store.database().close().await;
    }

    fn tell(&self, news: News) {
        for topic in news.0 {
            self.listeners.tell(&topic);
        }
    }

    fn deleted(&self) {
        self.deleted.store(true, Ordering::Relaxed);
    }

    fn take_deleted(&self) -> bool {
        self.deleted.swap(false, Ordering::Relaxed)
    }

    fn linger(&self) -> u64 {
        u64::try_from(self.config.linger.as_millis()).unwrap_or(u64::MAX)
    }

    /// A stream of what happens, from after this event on.
    fn stream(
        self: &Arc<Self>,
        caller: VerifyingKey,
        topic: Topic,
        after: u64,
    ) -> Result<Events, Refused> {
        let told = Told {
            service: Arc::clone(self),
            listening: self.listeners.listen(caller, topic)?,
            caller,
            topic,
            after,
            ready: VecDeque::new(),
            over: false,
        };
        Ok(events(futures::stream::unfold(
            told,
            |mut told| async move {
                let event = told.next().await?;
                Some((event, told))
            },
        )))
    }
}

/// What a listener waits for news of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    /// A request's states.
    Request(RequestCommitment),
    /// What comes to an owner's inboxes.
    Owner(VerifyingKey),
}

/// What one stream has said and has to say.
struct Told {
    service: Arc<QueryService>,
    listening: Listening<VerifyingKey, Topic>,
    caller: VerifyingKey,
    topic: Topic,
    after: u64,
    ready: VecDeque<Event>,
    over: bool,
}

impl Told {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            self.listening.catch_up();
            // A listener whose stream ends asks, and hears why.
            self.read().await.ok()?;
            if !self.ready.is_empty() || self.over {
                continue;
            }
            tokio::select! {
                goes_on = self.listening.news() => if !goes_on { return None },
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    async fn read(&mut self) -> Result<(), DatabaseError> {
        let store = &self.service.store;
        match self.topic {
            Topic::Request(id) => match store.status(id, self.caller, self.after).await? {
                None => self.over = true,
                Some(status) => {
                    self.over = status.state.is_last();
                    for event in status.events {
                        self.say(event.number, &event.state, &event);
                    }
                }
            },
            Topic::Owner(owner) => {
                for event in store.inbox_events(owner, self.after).await? {
                    self.say(event.number, &event.change, &event);
                }
            }
        }
        Ok(())
    }

    fn say(&mut self, number: u64, name: &impl serde::Serialize, data: &impl serde::Serialize) {
        let name = serde_json::to_value(name).unwrap_or_default();
        let event = Event::default()
            .id(number.to_string())
            .event(name.as_str().unwrap_or_default());
        // A JSON text has no line breaks, which alone cannot stand in an event.
        let text = serde_json::to_string(data).unwrap_or_default();
        self.ready.push_back(event.data(text));
        self.after = number;
    }
}

/// Serves the query manager's interface, and does what is due, until `stop` completes.
pub async fn serve_query(
    service: Arc<QueryService>,
    server: Server,
    stop: impl Future<Output = ()>,
) {
    let working = courier::work(Arc::clone(&service));
    let stopping = Arc::clone(&service);
    let stop = async move {
        stop.await;
        stopping.listeners.close();
    };
    // In one task, so that the work ends whenever the serving does.
    tokio::select! {
        () = server.serve(router(service), stop) => {}
        () = working => {}
    }
}

fn router(service: Arc<QueryService>) -> Router {
    interface(Some(Arc::clone(&service.calls))).build(paths().with_state(service))
}

fn interface(calls: Option<Arc<Calls>>) -> Interface {
    Interface {
        title: "willis query manager",
        description: "Brings doctors' requests to patients' inboxes and tells what becomes of them.",
        calls,
        answers: None,
        rates: Rates {
            burst: 400,
            interval: Duration::from_millis(10),
        },
    }
}

/// The OpenAPI document of the query manager.
pub fn query_openapi() -> OpenApi {
    let nobody = Calls::new(scheme::ConsortiumId::new([0; 32]), ServiceName::Query);
    interface(Some(Arc::new(nobody))).describe(paths().into_openapi())
}

fn paths() -> OpenApiRouter<Arc<QueryService>> {
    OpenApiRouter::new()
        // patients and agents
        .routes(routes!(open_inbox))
        .routes(routes!(close_inbox))
        .routes(routes!(name_agent, remove_agent))
        .routes(routes!(short_code))
        .routes(routes!(inbox))
        .routes(routes!(inbox_events))
        .routes(routes!(tell_act))
        .routes(routes!(acts))
        .routes(routes!(remove_act))
        // doctors
        .routes(routes!(inbox_of))
        .routes(routes!(send))
        .routes(routes!(request))
        .routes(routes!(request_events))
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX))
        // patients and agents, with notes
        .merge(
            OpenApiRouter::new()
                .routes(routes!(answer))
                .routes(routes!(add_notes))
                .layer(DefaultBodyLimit::max(NOTES_BODY_BYTES_MAX)),
        )
}

type Service = State<Arc<QueryService>>;

streamed!(StreamedInboxEvent, InboxEvent);
streamed!(StreamedRequestEvent, RequestEvent);

#[utoipa::path(
    post,
    path = "/v1/inboxes",
    operation_id = "open_inbox",
    summary = "Opens an inbox for the key that signs the call, or replaces its inbox key. Another's handle is refused.",
    request_body = OpenInbox,
    responses((status = 200, body = InboxEntry), Problems),
    security(("signed" = [])),
)]
async fn open_inbox(
    State(service): Service,
    Address(address): Address,
    SignedJson(call, body): SignedJson<OpenInbox>,
) -> Result<Json<InboxEntry>, Refused> {
    if service.opening.take(address, Instant::now()).is_err() {
        return Err(Refused::new(
            ProblemKind::TooMany,
            "too many inboxes are opened from this address: send it again in a minute",
        ));
    }
    let key = HpkePublicKey::new(body.key.0);
    // What cannot be sealed to now cannot be later.
    let verification = service.verification();
    let here = verification.consortium();
    key.seal(Purpose::Request, here, b"", b"", &mut SystemRandom)
        .map_err(|error| Problem::invalid(&error))?;
    let _one = service.accepting.lock().await;
    let handle = InboxHandle::new(body.handle.0);
    let bounds = &service.config.bounds;
    let opened = service.store.open_inbox(call.key(), handle, key, bounds);
    Ok(Json(opened.await?))
}

#[utoipa::path(
    delete,
    path = "/v1/inboxes/{handle}",
    operation_id = "close_inbox",
    summary = "Closes an inbox. What waits in it alone is refused; its handle stays its owner's, who may open it again unless it is closed for good.",
    params(
        ("handle" = Hex<16>, Path, description = "The inbox"),
        ("for_good" = Option<bool>, Query, description = "Whether nobody ever opens it again"),
    ),
    responses((status = 200, body = Done), Problems),
    security(("signed" = [])),
)]
async fn close_inbox(
    State(service): Service,
    Segment(handle): Segment<Hex<16>>,
    Parameters(closing): Parameters<Closing>,
    SignedNothing(call): SignedNothing,
) -> Result<Json<Done>, Refused> {
    let handle = InboxHandle::new(handle.0);
    let store = &service.store;
    let (for_good, linger) = (closing.for_good, service.linger());
    let closed = store.close_inbox(call.key(), handle, for_good, now(), linger);
    service.tell(closed.await?);
    service.short_codes.forget(handle);
    service.deleted();
    service.work.notify_one();
    Ok(Json(Done {}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Closing {
    #[serde(default)]
    for_good: bool,
}

#[utoipa::path(
    post,
    path = "/v1/inbox/codes",
    operation_id = "short_code",
    summary = "Gives the caller's inbox a short code for ten minutes, in place of the one before.",
    request_body = InboxCode,
    responses((status = 200, body = GivenShortCode), Problems),
    security(("signed" = [])),
)]
async fn short_code(
    State(service): Service,
    SignedJson(call, body): SignedJson<InboxCode>,
) -> Result<Json<GivenShortCode>, Refused> {
    let inbox = body.inbox();
    service.store.must_be_open(call.key(), inbox.0).await?;
    let (code, until) = service.short_codes.give(call.key(), inbox, now())?;
    Ok(Json(GivenShortCode {
        code: code.to_string(),
        until: until.number(),
    }))
}

#[utoipa::path(
    post,
    path = "/v1/codes",
    operation_id = "inbox_of",
    summary = "The inbox of a short code that a patient said.",
    request_body = SaidShortCode,
    responses((status = 200, body = InboxCode), Problems),
    security(("signed" = [])),
)]
async fn inbox_of(
    State(service): Service,
    Address(address): Address,
    SignedJson(_, body): SignedJson<SaidShortCode>,
) -> Result<Json<InboxCode>, Refused> {
    let found = service.short_codes.inbox_of(&body.code, address, now());
    Ok(Json(InboxCode::of(found?)))
}

#[utoipa::path(
    put,
    path = "/v1/inbox/agent",
    operation_id = "name_agent",
    summary = "Names the agent's inbox that later requests go to when their owner does not answer.",
    request_body = NameAgent,
    responses((status = 200, body = InboxEntry), Problems),
    security(("signed" = [])),
)]
async fn name_agent(
    State(service): Service,
    SignedJson(call, body): SignedJson<NameAgent>,
) -> Result<Json<InboxEntry>, Refused> {
    let (handle, agent) = (
        InboxHandle::new(body.handle.0),
        InboxHandle::new(body.agent.0),
    );
    let named = service.store.name_agent(call.key(), handle, Some(agent));
    Ok(Json(named.await?))
}

#[utoipa::path(
    delete,
    path = "/v1/inbox/agent",
    operation_id = "remove_agent",
    summary = "Names no agent any more.",
    params(("handle" = Hex<16>, Query, description = "The owner's inbox")),
    responses((status = 200, body = InboxEntry), Problems),
    security(("signed" = [])),
)]
async fn remove_agent(
    State(service): Service,
    Parameters(of): Parameters<OfInbox>,
    SignedNothing(call): SignedNothing,
) -> Result<Json<InboxEntry>, Refused> {
    let handle = InboxHandle::new(of.handle.0);
    let named = service.store.name_agent(call.key(), handle, None);
    Ok(Json(named.await?))
}

#[utoipa::path(
    get,
    path = "/v1/inbox",
    operation_id = "inbox",
    summary = "The owner's inboxes and what waits in them, the oldest first.",
    responses((status = 200, body = InboxContent), Problems),
    security(("signed" = [])),
)]
async fn inbox(
    State(service): Service,
    SignedNothing(call): SignedNothing,
) -> Result<Json<InboxContent>, Refused> {
    let (content, news) = service.store.content(call.key(), now()).await?;
    service.tell(news);
    Ok(Json(content))
}

#[utoipa::path(
    get,
    path = "/v1/inbox/events",
    operation_id = "inbox_events",
    summary = "What happens in the owner's inboxes, each event as it happens.",
    params(("after" = Option<u64>, Query, description = "The number of the last event seen")),
    responses((status = 200, body = StreamedInboxEvent, content_type = "text/event-stream"), Problems),
    security(("signed" = [])),
)]
async fn inbox_events(
    State(service): Service,
    Parameters(from): Parameters<From>,
    SignedNothing(call): SignedNothing,
) -> Result<Events, Refused> {
    let owner = call.key();
    service.stream(owner, Topic::Owner(owner), from.after)
}

const KEYS_UNKNOWN: &str = "the request's certificate is under a key of the registration centre that is unknown here, and the consortium's nodes do not answer: send it again in a moment";

/// What the query manager checks of a request before anything is asked of the chain: signatures and
/// certificates of up to 32 doctors.
async fn examine(
    service: &Arc<QueryService>,
    bytes: &[u8],
    handle: InboxHandle,
    salt: [u8; 16],
) -> Result<Result<Examined, ForwardError>, JoinError> {
    let (service, bytes) = (Arc::clone(service), bytes.to_vec());
    tokio::task::spawn_blocking(move || service.verification().examine(&bytes, handle, salt, now()))
        .await
}

#[utoipa::path(
    post,
    path = "/v1/requests",
    operation_id = "send_request",
    summary = "Takes a request that the caller signed, verifies it as soon as the nodes answer, and forwards it. Sent again it is not forwarded twice.",
    request_body = SendRequest,
    responses((status = 202, body = RequestEntry), Problems),
    security(("signed" = [])),
)]
async fn send(
    State(service): Service,
    SignedJson(call, body): SignedJson<SendRequest>,
) -> Result<(StatusCode, Json<RequestEntry>), Refused> {
    let (handle, salt) = (InboxHandle::new(body.handle.0), body.salt.0);
    let bytes = body.request.0;
    let again = || async {
        let examined = examine(&service, &bytes, handle, salt).await;
        examined.map_err(|error| Problem::internal(&error))
    };
    let mut examined = again().await?;
    if matches!(
        examined,
        Err(ForwardError::Request(RequestError::Certificate(
            CertificateError::Forged
        )))
    ) {
        // The centre may have another key since this service last asked.
        if service.follow_centre().await.is_err() {
            return Err(Problem::busy(KEYS_UNKNOWN).into());
        }
        examined = again().await?;
    }
    let examined = examined.map_err(|error| Problem::from(&error))?;
    let request = examined.request();
    let doctors: Vec<_> = request.doctors().iter().map(|one| one.signing).collect();
    if !doctors.contains(&call.key()) {
        return Err(Refused::new(
            ProblemKind::NoRight,
            "only a doctor whom the request names may send it: sign the call with that doctor's key",
        ));
    }
    let new = NewRequest {
        id: request.commitment(),
        bytes: request.as_bytes(),
        handle,
        salt,
        not_after: request.terms().not_after,
        doctors,
        sender: call.key(),
    };
    let _one = service.accepting.lock().await;
    let accepted = service.store.accept(&new, &service.config.bounds, now());
    let (entry, news) = accepted.await?;
    service.tell(news);
    service.work.notify_one();
    Ok((StatusCode::ACCEPTED, Json(entry)))
}

#[utoipa::path(
    get,
    path = "/v1/requests/{id}",
    operation_id = "request",
    summary = "What became of a request, for each of its doctors.",
    params(
        ("id" = Hex<32>, Path, description = "The request's commitment"),
        ("after" = Option<u64>, Query, description = "The number of the last event seen"),
    ),
    responses((status = 200, body = RequestStatus), Problems),
    security(("signed" = [])),
)]
async fn request(
    State(service): Service,
    Segment(id): Segment<Hex<32>>,
    Parameters(from): Parameters<From>,
    SignedNothing(call): SignedNothing,
) -> Result<Json<RequestStatus>, Refused> {
    let status = service.store.status(commitment(id), call.key(), from.after);
    Ok(Json(status.await?.ok_or_else(no_request)?))
}

#[utoipa::path(
    get,
    path = "/v1/requests/{id}/events",
    operation_id = "request_events",
    summary = "What happens to a request, each event as it happens, for each of its doctors.",
    params(
        ("id" = Hex<32>, Path, description = "The request's commitment"),
        ("after" = Option<u64>, Query, description = "The number of the last event seen"),
    ),
    responses((status = 200, body = StreamedRequestEvent, content_type = "text/event-stream"), Problems),
    security(("signed" = [])),
)]
async fn request_events(
    State(service): Service,
    Segment(id): Segment<Hex<32>>,
    Parameters(from): Parameters<From>,
    SignedNothing(call): SignedNothing,
) -> Result<Events, Refused> {
    let (id, caller) = (commitment(id), call.key());
    let known = service.store.status(id, caller, u64::MAX).await?;
    known.ok_or_else(no_request)?;
    service.stream(caller, Topic::Request(id), from.after)
}

#[utoipa::path(
    post,
    path = "/v1/inbox/{id}/answer",
    operation_id = "answer",
    summary = "Says that a request was answered or declined, with notes that only its doctors open. Whoever answers first counts.",
    params(("id" = Hex<32>, Path, description = "The request's commitment")),
    request_body = AnswerRequest,
    responses((status = 200, body = RequestEntry), Problems),
    security(("signed" = [])),
)]
async fn answer(
    State(service): Service,
    Segment(id): Segment<Hex<32>>,
    SignedJson(call, body): SignedJson<AnswerRequest>,
) -> Result<Json<RequestEntry>, Refused> {
    short_enough(&body.notes)?;
    let at = now();
    let longest = Timestamp::new(at.number().saturating_add(NOTES_KEPT_MS));
    let decided = Decided {
        id: commitment(id),
        kind: body.answer,
        notes: &body.notes,
        until: body.until.map(|until| Timestamp::new(until).min(longest)),
    };
    let answered = service
        .store
        .answer(call.key(), &decided, at, service.linger());
    let (entry, news) = answered.await?;
    service.tell(news);
    service.deleted();
    service.work.notify_one();
    Ok(Json(entry))
}

#[utoipa::path(
    post,
    path = "/v1/inbox/{id}/note",
    operation_id = "add_notes",
    summary = "Adds notes to a request that the caller answered with grants: that some were revoked.",
    params(("id" = Hex<32>, Path, description = "The request's commitment")),
    request_body = AddNotes,
    responses((status = 200, body = RequestEntry), Problems),
    security(("signed" = [])),
)]
async fn add_notes(
    State(service): Service,
    Segment(id): Segment<Hex<32>>,
    SignedJson(call, body): SignedJson<AddNotes>,
) -> Result<Json<RequestEntry>, Refused> {
    short_enough(&body.notes)?;
    let bounds = &service.config.bounds;
    let id = commitment(id);
    let store = &service.store;
    let added = store.add_notes(call.key(), id, &body.notes, bounds, now());
    let (entry, news) = added.await?;
    service.tell(news);
    Ok(Json(entry))
}

#[utoipa::path(
    post,
    path = "/v1/inboxes/{handle}/acts",
    operation_id = "tell_act",
    summary = "Tells an inbox's owner what the owner's agent did: by the owner of an inbox that this one named as its agent at some time.",
    params(("handle" = Hex<16>, Path, description = "The inbox")),
    request_body = NewAgentAct,
    responses((status = 200, body = Done), Problems),
    security(("signed" = [])),
)]
async fn tell_act(
    State(service): Service,
    Segment(handle): Segment<Hex<16>>,
    SignedJson(call, body): SignedJson<NewAgentAct>,
) -> Result<Json<Done>, Refused> {
    let sealed = body.sealed.0.as_slice();
    if sealed.is_empty() || sealed.len() > NOTE_BYTES_MAX {
        return Err(Refused::new(
            ProblemKind::TooLong,
            "what an agent tells has 1 to 4,096 bytes: seal it as the specification says",
        ));
    }
    let handle = InboxHandle::new(handle.0);
    let bounds = &service.config.bounds;
    let store = &service.store;
    store
        .leave_act(call.key(), handle, sealed, bounds, now())
        .await?;
    Ok(Json(Done {}))
}

#[utoipa::path(
    get,
    path = "/v1/inbox/acts",
    operation_id = "acts",
    summary = "What agents told the owner, the oldest first.",
    responses((status = 200, body = AgentActs), Problems),
    security(("signed" = [])),
)]
async fn acts(
    State(service): Service,
    SignedNothing(call): SignedNothing,
) -> Result<Json<AgentActs>, Refused> {
    let acts = service.store.acts(call.key()).await?;
    Ok(Json(AgentActs { acts }))
}

#[utoipa::path(
    delete,
    path = "/v1/inbox/acts/{id}",
    operation_id = "remove_act",
    summary = "Removes what an agent told, once its owner has taken it.",
    params(("id" = Hex<32>, Path, description = "Its SHA-256")),
    responses((status = 200, body = Done), Problems),
    security(("signed" = [])),
)]
async fn remove_act(
    State(service): Service,
    Segment(id): Segment<Hex<32>>,
    SignedNothing(call): SignedNothing,
) -> Result<Json<Done>, Refused> {
    service.store.remove_act(call.key(), id.0).await?;
    Ok(Json(Done {}))
}

/// From which event on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct From {
    #[serde(default)]
    after: u64,
}

/// Which of the owner's inboxes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfInbox {
    handle: Hex<16>,
}

/// From where a call comes.
struct Address(IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Address {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let peer = parts.extensions.get::<Peer>();
        peer.map(|peer| Self(peer.address.ip().to_canonical()))
            .ok_or_else(|| Refused::new(ProblemKind::Failed, "the connection has no address"))
    }
}

fn short_enough(notes: &[DoctorNote]) -> Result<(), Refused> {
    if notes
        .iter()
        .all(|note| note.sealed.0.len() <= NOTE_BYTES_MAX)
    {
        Ok(())
    } else {
        Err(Refused::new(
            ProblemKind::TooLong,
            "a note has more than 4 KiB: say no more in it than which grants it is about",
        ))
    }
}

fn commitment(id: Hex<32>) -> RequestCommitment {
    Digest::new(id.0).into()
}

fn no_request() -> Problem {
    Problem::not_found(
        "no such request of this doctor is known here: it was never sent, or everything about it is over",
    )
}
