//! Calls to one service: signed if the caller has a key, tried again while the failure is passing, and
//! its stream of events.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use rand_core::Rng;
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use scheme::{ConsortiumId, DecodeError, Digest, HeldKey, sha256};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::{CallHead, SignedCall};
use crate::clock::now;
use crate::directory::ServiceName;
use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::problem::Problem;
use crate::randomness::SystemRandom;

/// How long a call without a stream may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a call is made while its failure is passing, the first time included.
const ATTEMPTS: u32 = 4;
/// The pause before the second attempt; each later one is twice as long: 2.1 s in all.
const PAUSE: Duration = Duration::from_millis(300);
/// The longest answer of a call that is no stream.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The longest line of an event: a sealed request is under 128 KiB, in base64 under 176.
const EVENT_BYTES_MAX: usize = 256 * 1024;

/// Makes a write happen once, however often it is sent: kept by the caller until it has an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// A fresh one.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        SystemRandom.fill_bytes(&mut bytes);
        Self(hex::encode(bytes))
    }

    /// One that follows from what is written, so that a program that forgot it finds it again.
    pub fn of(content: &[u8]) -> Self {
        Self(hex::encode(&sha256(content).as_bytes()[..16]))
    }

    /// As it travels.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An event of a service's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub name: String,
    /// Its data, one JSON value.
    pub data: String,
}

/// A client of one service.
#[derive(Clone)]
pub struct ServiceClient {
    consortium: ConsortiumId,
    endpoint: Endpoint,
    signer: Option<HeldKey>,
}

impl ServiceClient {
    /// Calls without a signature.
    pub fn new(consortium: ConsortiumId, endpoint: Endpoint) -> Self {
        Self {
            consortium,
            endpoint,
            signer: None,
        }
    }

    /// Calls signed under this key.
    pub fn signing(mut self, key: impl Into<HeldKey>) -> Self {
        self.signer = Some(key.into());
        self
    }

    /// Which service.
    pub fn service(&self) -> ServiceName {
        self.endpoint.service()
    }

    /// Reads a JSON document.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        json(
            &self
                .call(Method::GET, target, None, &Bytes::new(), "")
                .await?,
        )
    }

    /// Reads bytes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_bytes(&self, target: &str) -> Result<Bytes, ClientError> {
        self.call(Method::GET, target, None, &Bytes::new(), "")
            .await
    }

    /// Writes a JSON document and reads the answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &impl Serialize,
        key: &IdempotencyKey,
    ) -> Result<T, ClientError> {
        json(&self.write(Method::POST, target, body, key).await?)
    }

    /// Puts a JSON document in its place and reads the answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &impl Serialize,
        key: &IdempotencyKey,
    ) -> Result<T, ClientError> {
        json(&self.write(Method::PUT, target, body, key).await?)
    }

    /// Takes away what lies at the target and reads the answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete<T: DeserializeOwned>(
        &self,
        target: &str,
        key: &IdempotencyKey,
    ) -> Result<T, ClientError> {
        let nothing = Bytes::new();
        json(
            &self
                .call(Method::DELETE, target, Some(key), &nothing, "")
                .await?,
        )
    }

    /// Writes bytes and reads bytes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post_bytes(
        &self,
        target: &str,
        body: impl Into<Bytes>,
        key: &IdempotencyKey,
    ) -> Result<Bytes, ClientError> {
        const BYTES: &str = "application/octet-stream";
        self.call(Method::POST, target, Some(key), &body.into(), BYTES)
            .await
    }

    /// Makes a write that has no body.
    pub(crate) async fn bare(
        &self,
        method: Method,
        target: &str,
        key: &IdempotencyKey,
    ) -> Result<Bytes, ClientError> {
        self.call(method, target, Some(key), &Bytes::new(), "")
            .await
    }

    /// Sends a piece of an upload, once: whoever sends it asks where to go on if that fails.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn patch(
        &self,
        target: &str,
        offset: u64,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let request = self
            .request(&Method::PATCH, target, None, sha256(&body))?
            .header("Upload-Offset", offset)
            .header(CONTENT_TYPE, "application/octet-stream")
            .timeout(CALL_TIMEOUT)
            .body(body);
        self.answer(request).await
    }

    /// A body as a stream, from the byte at `offset` on.
    ///
    /// # Errors
    /// [`ClientError`], also within the stream.
    pub async fn stream(
        &self,
        target: &str,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, ClientError>>, ClientError> {
        let mut request = self.request(&Method::GET, target, None, sha256(b""))?;
        if offset > 0 {
            request = request.header("Range", format!("bytes={offset}-"));
        }
        let response = self.send(request).await?;
        let service = self.service();
        Ok(response
            .bytes_stream()
            .map(move |piece| piece.map_err(|error| ClientError::unanswered(service, error)))
            .boxed())
    }

    /// The events of a stream (`text/event-stream`) until it ends; then it is opened anew, or the
    /// caller polls.
    ///
    /// # Errors
    /// [`ClientError`], also within the stream.
    pub async fn events(
        &self,
        target: &str,
    ) -> Result<BoxStream<'static, Result<Event, ClientError>>, ClientError> {
        let request = self
            .request(&Method::GET, target, None, sha256(b""))?
            .header(ACCEPT, "text/event-stream");
        let response = self.send(request).await?;
        let service = self.service();
        let pieces = response
            .bytes_stream()
            .map(move |piece| piece.map_err(|error| ClientError::unanswered(service, error)))
            .boxed();
        let state = (pieces, EventParser::default());
        Ok(
            futures::stream::try_unfold(state, |(mut pieces, mut parser)| async move {
                loop {
                    if let Some(event) = parser.ready.pop_front() {
                        return Ok(Some((event, (pieces, parser))));
                    }
                    match pieces.next().await {
                        None => return Ok(None),
                        Some(piece) => parser.take(&piece?)?,
                    }
                }
            })
            .boxed(),
        )
    }

    async fn write(
        &self,
        method: Method,
        target: &str,
        body: &impl Serialize,
        key: &IdempotencyKey,
    ) -> Result<Bytes, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Source(error.into()))?;
        self.call(method, target, Some(key), &body.into(), "application/json")
            .await
    }

    async fn call(
        &self,
        method: Method,
        target: &str,
        key: Option<&IdempotencyKey>,
        body: &Bytes,
        kind: &str,
    ) -> Result<Bytes, ClientError> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            let mut request = self
                .request(&method, target, key, sha256(body))?
                .timeout(CALL_TIMEOUT);
            if !kind.is_empty() {
                request = request.header(CONTENT_TYPE, kind).body(body.clone());
            }
            match self.answer(request).await {
                Err(error) if error.is_passing() && attempt < ATTEMPTS => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                other => return other,
            }
        }
        unreachable!("the loop returns at the last attempt")
    }

    fn request(
        &self,
        method: &Method,
        target: &str,
        key: Option<&IdempotencyKey>,
        body: Digest,
    ) -> Result<reqwest::RequestBuilder, ClientError> {
        let endpoint = &self.endpoint;
        let mut request = endpoint.http.request(method.clone(), endpoint.url(target));
        if let Some(signer) = &self.signer {
            let head = CallHead {
                service: endpoint.service(),
                method: method.as_str(),
                target,
                idempotency_key: key.map_or("", IdempotencyKey::as_str),
            };
            let mut nonce = [0; 16];
            SystemRandom.fill_bytes(&mut nonce);
            let call = SignedCall::sign(&self.consortium, signer, &head, body, now(), nonce)?;
            request = request.header(AUTHORIZATION, call.header());
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key.as_str());
        }
        Ok(traced(request))
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, ClientError> {
        let service = self.service();
        let silent = |error| ClientError::unanswered(service, error);
        let response = request.send().await.map_err(silent)?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(ClientError::Refused(problem_of(response).await))
        }
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Bytes, ClientError> {
        let service = self.service();
        let mut pieces = self.send(request).await?.bytes_stream();
        let mut body = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| ClientError::unanswered(service, error))?;
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(ClientError::TooLong);
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.into())
    }
}

/// With the name of the trace that the call belongs to, if one is recorded.
pub(crate) fn traced(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    match crate::trace::traceparent() {
        Some(parent) => request.header(crate::trace::TRACEPARENT, parent),
        None => request,
    }
}

/// The problem document of a refusal, or one that says that there is none.
pub(crate) async fn problem_of(response: reqwest::Response) -> Problem {
    let status = response.status();
    let problem = response.json::<Problem>().await;
    problem.unwrap_or_else(|_| Problem::unexplained(status.as_u16()))
}

/// Lines of `text/event-stream` put together; comments and ids are left out.
#[derive(Default)]
struct EventParser {
    line: Vec<u8>,
    name: String,
    data: String,
    ready: VecDeque<Event>,
}

impl EventParser {
    fn take(&mut self, piece: &[u8]) -> Result<(), ClientError> {
        for byte in piece {
            if *byte != b'\n' {
                if self.line.len() + self.data.len() >= EVENT_BYTES_MAX {
                    return Err(ClientError::TooLong);
                }
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                let (name, data) = (
                    std::mem::take(&mut self.name),
                    std::mem::take(&mut self.data),
                );
                if !data.is_empty() {
                    self.ready.push_back(Event { name, data });
                }
            } else if let Some(name) = line.strip_prefix("event:") {
                name.trim_start().clone_into(&mut self.name);
            } else if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
        }
        Ok(())
    }
}

pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(bytes).map_err(|_| {
        ClientError::Malformed(DecodeError::Invalid {
            what: "the service's answer",
            why: "it is not the document that this call gives",
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_they_are_cut() {
        let text = b": keep-alive\n\nevent: state\ndata: {\"a\":1}\nid: 5\n\ndata: x\r\ndata:y\r\n\r\n\n\n";
        let event = |name: &str, data: &str| Event {
            name: name.into(),
            data: data.into(),
        };
        let expected = [event("state", "{\"a\":1}"), event("", "x\ny")];
        for size in 1..text.len() {
            let mut parser = EventParser::default();
            for piece in text.chunks(size) {
                parser.take(piece).unwrap();
            }
            assert_eq!(parser.ready, expected, "in pieces of {size}");
        }
        let mut parser = EventParser::default();
        let endless = vec![b'x'; EVENT_BYTES_MAX + 1];
        assert!(matches!(parser.take(&endless), Err(ClientError::TooLong)));
    }
}
