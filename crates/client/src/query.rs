//! Calls to the query manager (the paper's 3.2.3): a patient or agent opens an inbox and answers what
//! reaches it, a doctor sends requests and hears what becomes of them.
//!
//! Calls of an inbox's owner are signed under the owner's account key of the service ("query", scheme
//! E35) or, by an agent, under a fresh key; a doctor's under the signing key that the centre certified.
//! Every write is named by its content and safe to send again.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::BoxStream;
use ledger::RequestCommitment;
use parties::{ForwardError, SealedNote, VerifiedRequest};
use scheme::{HpkePublicKey, InboxHandle, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::centre::InboxCode;
use crate::error::ClientError;
use crate::problem::{Problem, ProblemKind};
use crate::service::{IdempotencyKey, ServiceClient};
use crate::short_code::ShortCode;
use crate::text::{Base64, Hex};

/// How long [`QueryClient::follow`] waits before it opens the stream of events anew.
const FOLLOW_AGAIN: Duration = Duration::from_millis(500);

/// An inbox that is opened, or opened again with another key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenInbox {
    /// 16 random bytes that the owner gives to doctors.
    pub handle: Hex<16>,
    /// The HPKE key that requests are sealed to.
    pub key: Hex<32>,
}

/// Who answers when an inbox's owner does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NameAgent {
    /// The inbox.
    pub handle: Hex<16>,
    /// The agent's inbox, which is open.
    pub agent: Hex<16>,
}

/// An inbox as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InboxEntry {
    /// Its handle.
    pub handle: Hex<16>,
    /// The HPKE key that requests are sealed to from now on.
    pub key: Hex<32>,
    /// The agent's inbox, if one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Hex<16>>,
}

/// What waits for the owner's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InboxContent {
    /// The owner's open inboxes.
    pub inboxes: Vec<InboxEntry>,
    /// Requests, the oldest first.
    pub waiting: Vec<WaitingRequest>,
}

/// A request that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitingRequest {
    /// Its commitment.
    pub id: Hex<32>,
    /// In which of the owner's inboxes.
    pub handle: Hex<16>,
    /// When it arrived there, in ms since 1970.
    pub arrived: u64,
    /// Until when it can be answered.
    pub not_after: u64,
    /// Sealed to the inbox's key (spec/formats.md, M6).
    pub sealed: Base64,
}

/// What an agent tells an inbox's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAgentAct {
    /// Sealed to the owner (spec/formats.md, M29), at most 4 KiB.
    pub sealed: Base64,
}

/// What an agent told an inbox's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentActEntry {
    /// Its SHA-256.
    pub id: Hex<32>,
    /// Sealed to the owner (spec/formats.md, M29).
    pub sealed: Base64,
    /// When it came, in ms since 1970.
    pub time: u64,
}

/// What agents told an owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentActs {
    /// The oldest first, at most 256.
    pub acts: Vec<AgentActEntry>,
}

/// What happened in an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InboxChange {
    /// A request arrived: fetch it.
    Arrived,
    /// A request still waits.
    Reminder,
    /// A request waits no more: it was answered elsewhere, refused, or has expired.
    Gone,
}

/// An event of an inbox. It holds no request: that is fetched with the inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InboxEvent {
    /// Counts the owner's events.
    pub number: u64,
    /// Of which request.
    pub id: Hex<32>,
    /// What happened.
    pub change: InboxChange,
    /// When, in ms since 1970.
    pub time: u64,
}

/// A doctor's request for a patient's inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// The request with all its signatures (spec/formats.md, M5).
    pub request: Base64,
    /// The inbox's handle, as the patient gave it.
    pub handle: Hex<16>,
    /// The salt of its commitment.
    pub salt: Hex<16>,
}

/// What becomes of a request, in the order in which it can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RequestState {
    /// It is kept, and verified as soon as the consortium's nodes answer.
    Queued,
    /// It was verified and lies in the patient's inbox.
    Forwarded,
    /// A device fetched it.
    Collected,
    /// The patient was reminded of it.
    Reminded,
    /// It lies in the agent's inbox as well.
    WithAgent,
    /// It was answered with grants; the note names them.
    Answered,
    /// It was declined.
    Declined,
    /// The note says what became of the grants since.
    Note,
    /// Nobody answered it in time.
    Expired,
    /// It was not forwarded, or the inbox was closed; the reason says why and what to do.
    Refused,
}

impl RequestState {
    /// Whether nothing follows.
    pub fn is_last(self) -> bool {
        matches!(self, Self::Declined | Self::Expired | Self::Refused)
    }

    /// Whether nobody is waited for any more.
    pub fn is_decided(self) -> bool {
        self.is_last() || matches!(self, Self::Answered | Self::Note)
    }
}

/// A request with the state that it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestEntry {
    /// Its commitment.
    pub id: Hex<32>,
    /// Its state.
    pub state: RequestState,
}

/// What became of a request, as one of its doctors sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestStatus {
    /// Its commitment.
    pub id: Hex<32>,
    /// Its state: a note changes none.
    pub state: RequestState,
    /// Until when it can be answered, in ms since 1970.
    pub not_after: u64,
    /// What happened, in order, after the number asked for.
    pub events: Vec<RequestEvent>,
}

/// Something that happened to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestEvent {
    /// From 1, without gaps.
    pub number: u64,
    /// What.
    pub state: RequestState,
    /// When, in ms since 1970.
    pub time: u64,
    /// Why it was refused and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the patient's or agent's device sealed to this doctor (spec/formats.md, M21).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Base64>,
}

/// A note sealed to one doctor; the query manager cannot open it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DoctorNote {
    /// The doctor's signing key.
    pub doctor: Hex<32>,
    /// Sealed to the HPKE key that the request names (spec/formats.md, M21), at most 4 KiB.
    pub sealed: Base64,
}

impl From<SealedNote> for DoctorNote {
    fn from(note: SealedNote) -> Self {
        Self {
            doctor: Hex(*note.doctor.as_bytes()),
            sealed: Base64(note.sealed),
        }
    }
}

/// What a patient or agent decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerKind {
    /// Grants were given.
    Answered,
    /// None was, and none will be.
    Declined,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerRequest {
    /// What was decided.
    pub answer: AnswerKind,
    /// Until when the doctors may need the notes, in ms since 1970: the grants' end. At least until the
    /// request's end and at most for 31 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// At most one for each doctor of the request.
    #[serde(default)]
    pub notes: Vec<DoctorNote>,
}

/// Notes that follow an answer: that grants were revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddNotes {
    /// At most one for each doctor of the request, and at least one.
    pub notes: Vec<DoctorNote>,
}

/// Nothing more is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Done {}

/// A short code that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenShortCode {
    /// Eight characters in two groups.
    #[schema(example = "K7Q0-3X91")]
    pub code: String,
    /// Until when it stands for the inbox, in ms since 1970.
    pub until: u64,
}

/// A short code that a doctor was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaidShortCode {
    /// As it was typed.
    #[schema(example = "K7Q0-3X91")]
    pub code: String,
}

/// A client of the query manager.
#[derive(Clone)]
pub struct QueryClient(ServiceClient);

impl QueryClient {
    /// Calls by this client, which signs under the owner's or doctor's key.
    pub fn new(service: ServiceClient) -> Self {
        Self(service)
    }

    /// Opens an inbox, or opens it again with another key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open_inbox(
        &self,
        handle: InboxHandle,
        key: HpkePublicKey,
    ) -> Result<InboxEntry, ClientError> {
        let body = OpenInbox {
            handle: Hex(*handle.as_bytes()),
            key: Hex(*key.as_bytes()),
        };
        self.0
            .post("/v1/inboxes", &body, &IdempotencyKey::random())
            .await
    }

    /// A short code for an inbox of the caller's, which the patient says to a doctor.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn short_code(
        &self,
        inbox: (InboxHandle, [u8; 16]),
    ) -> Result<GivenShortCode, ClientError> {
        let body = InboxCode::of(inbox);
        let key = IdempotencyKey::random();
        self.0.post("/v1/inbox/codes", &body, &key).await
    }

    /// The inbox of a short code.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with 404 if there is none, or no more.
    pub async fn inbox_of(&self, code: ShortCode) -> Result<(InboxHandle, [u8; 16]), ClientError> {
        let body = SaidShortCode {
            code: code.to_string(),
        };
        let key = IdempotencyKey::random();
        let found: InboxCode = self.0.post("/v1/codes", &body, &key).await?;
        Ok(found.inbox())
    }

    /// Closes an inbox. What waits in it is refused; the handle stays its owner's.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn close_inbox(&self, handle: InboxHandle) -> Result<(), ClientError> {
        let target = format!("/v1/inboxes/{}", hex::encode(handle.as_bytes()));
        let Done {} = self.0.delete(&target, &IdempotencyKey::random()).await?;
        Ok(())
    }

    /// Closes an inbox so that nobody opens it again, its owner neither.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn retire_inbox(&self, handle: InboxHandle) -> Result<(), ClientError> {
        let handle = hex::encode(handle.as_bytes());
        let target = format!("/v1/inboxes/{handle}?for_good=true");
        let Done {} = self.0.delete(&target, &IdempotencyKey::random()).await?;
        Ok(())
    }

    /// Names the agent who gets what the owner does not answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn name_agent(
        &self,
        handle: InboxHandle,
        agent: InboxHandle,
    ) -> Result<InboxEntry, ClientError> {
        let body = NameAgent {
            handle: Hex(*handle.as_bytes()),
            agent: Hex(*agent.as_bytes()),
        };
        self.0
            .put("/v1/inbox/agent", &body, &IdempotencyKey::random())
            .await
    }

    /// Names no agent any more. What lies in the agent's inbox already stays there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_agent(&self, handle: InboxHandle) -> Result<InboxEntry, ClientError> {
        let handle = hex::encode(handle.as_bytes());
        let target = format!("/v1/inbox/agent?handle={handle}");
        self.0.delete(&target, &IdempotencyKey::random()).await
    }

    /// What waits for this owner.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn inbox(&self) -> Result<InboxContent, ClientError> {
        self.0.get("/v1/inbox").await
    }

    /// Tells an inbox's owner what an agent did: the caller owns an inbox that this one named as its agent.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tell_act(&self, handle: InboxHandle, sealed: Vec<u8>) -> Result<(), ClientError> {
        let body = NewAgentAct {
            sealed: Base64(sealed),
        };
        let target = format!("/v1/inboxes/{}/acts", hex::encode(handle.as_bytes()));
        let key = IdempotencyKey::random();
        let Done {} = self.0.post(&target, &body, &key).await?;
        Ok(())
    }

    /// What agents told the owner of the calling key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn acts(&self) -> Result<Vec<AgentActEntry>, ClientError> {
        let found: AgentActs = self.0.get("/v1/inbox/acts").await?;
        Ok(found.acts)
    }

    /// Removes what was taken.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_act(&self, id: Hex<32>) -> Result<(), ClientError> {
        let target = format!("/v1/inbox/acts/{id}");
        let Done {} = self.0.delete(&target, &IdempotencyKey::random()).await?;
        Ok(())
    }

    /// What happens in this owner's inboxes, after an event's number, until the stream ends.
    ///
    /// # Errors
    /// [`ClientError`], also within the stream.
    pub async fn inbox_events(
        &self,
        after: u64,
    ) -> Result<BoxStream<'static, Result<InboxEvent, ClientError>>, ClientError> {
        self.events(&format!("/v1/inbox/events?after={after}"))
            .await
    }

    /// Says what was decided. Whoever answers first counts.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn answer(
        &self,
        request: RequestCommitment,
        answer: AnswerKind,
        until: Option<Timestamp>,
        notes: Vec<SealedNote>,
    ) -> Result<RequestEntry, ClientError> {
        let body = AnswerRequest {
            answer,
            until: until.map(Timestamp::number),
            notes: notes.into_iter().map(DoctorNote::from).collect(),
        };
        let target = format!("/v1/inbox/{}/answer", name(request));
        self.0.post(&target, &body, &IdempotencyKey::random()).await
    }

    /// Tells the doctors of a request that this owner answered what became of its grants.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_notes(
        &self,
        request: RequestCommitment,
        notes: Vec<SealedNote>,
    ) -> Result<RequestEntry, ClientError> {
        let notes = notes.into_iter().map(DoctorNote::from).collect();
        let target = format!("/v1/inbox/{}/note", name(request));
        let key = IdempotencyKey::random();
        self.0.post(&target, &AddNotes { notes }, &key).await
    }

    /// Sends a request on its way.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(
        &self,
        request: &VerifiedRequest,
        handle: InboxHandle,
        salt: [u8; 16],
    ) -> Result<RequestEntry, ClientError> {
        let body = SendRequest {
            request: Base64(request.as_bytes().to_vec()),
            handle: Hex(*handle.as_bytes()),
            salt: Hex(salt),
        };
        self.0
            .post("/v1/requests", &body, &IdempotencyKey::random())
            .await
    }

    /// What became of a request of this doctor, after an event's number.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn request(
        &self,
        request: RequestCommitment,
        after: u64,
    ) -> Result<RequestStatus, ClientError> {
        let target = format!("/v1/requests/{}?after={after}", name(request));
        self.0.get(&target).await
    }

    /// What happens to a request of this doctor, after an event's number, until the stream ends.
    ///
    /// # Errors
    /// [`ClientError`], also within the stream.
    pub async fn request_events(
        &self,
        request: RequestCommitment,
        after: u64,
    ) -> Result<BoxStream<'static, Result<RequestEvent, ClientError>>, ClientError> {
        let target = format!("/v1/requests/{}/events?after={after}", name(request));
        self.events(&target).await
    }

    /// Hands each event of a request to `take`, once and in order, until that says that it has seen
    /// enough, the request's last event has come, or the time is up. The stream is opened anew where
    /// it broke off, and between two of them the request is asked for, so that a network that lets no
    /// stream through only delays.
    ///
    /// # Errors
    /// [`ClientError`] of a refusal, or of the last attempt when the time is up.
    pub async fn follow(
        &self,
        request: RequestCommitment,
        after: u64,
        bound: Duration,
        mut take: impl FnMut(RequestEvent) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let end = Instant::now() + bound;
        let mut seen = after;
        let mut hand = |event: RequestEvent, seen: &mut u64| {
            if event.number <= *seen {
                return ControlFlow::Continue(());
            }
            *seen = event.number;
            let last = event.state.is_last();
            match take(event) {
                ControlFlow::Continue(()) if !last => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        };
        loop {
            let polled = self.request(request, seen).await;
            let failure = match polled {
                Ok(status) => {
                    for event in status.events {
                        if hand(event, &mut seen).is_break() {
                            return Ok(());
                        }
                    }
                    None
                }
                Err(error) if !error.is_passing() => return Err(error),
                Err(error) => Some(error),
            };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return failure.map_or(Ok(()), Err);
            }
            let streamed = tokio::time::timeout(left, async {
                let mut events = self.request_events(request, seen).await?;
                while let Some(event) = events.next().await {
                    if hand(event?, &mut seen).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok::<_, ClientError>(ControlFlow::Continue(()))
            });
            if let Ok(Ok(ControlFlow::Break(()))) = streamed.await {
                return Ok(());
            }
            tokio::time::sleep(FOLLOW_AGAIN.min(end.saturating_duration_since(Instant::now())))
                .await;
        }
    }

    async fn events<T: serde::de::DeserializeOwned + Send + 'static>(
        &self,
        target: &str,
    ) -> Result<BoxStream<'static, Result<T, ClientError>>, ClientError> {
        let events = self.0.events(target).await?;
        let read = |event: Result<crate::service::Event, ClientError>| {
            let event = event?;
            serde_json::from_str(&event.data).map_err(|_| {
                ClientError::Malformed(scheme::DecodeError::Invalid {
                    what: "an event of the query manager",
                    why: "it is not the document that this stream gives",
                })
            })
        };
        Ok(events.map(read).boxed())
    }
}

fn name(request: RequestCommitment) -> String {
    hex::encode(request.digest().as_bytes())
}

impl From<&ForwardError> for Problem {
    fn from(error: &ForwardError) -> Self {
        use ForwardError as E;
        let kind = match error {
            E::Malformed(_) => ProblemKind::Malformed,
            E::NoSuchInbox => ProblemKind::NotFound,
            E::NotInForce => ProblemKind::NoRight,
            E::Replay => ProblemKind::Conflict,
            E::Busy => ProblemKind::Busy,
            _ => ProblemKind::DoesNotStand,
        };
        Self::of(kind, error)
    }
}
