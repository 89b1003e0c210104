//! What calls have in common: who calls, which format is asked for, how a resource goes out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED,
    LOCATION, WWW_AUTHENTICATE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use services::Peer;
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::elements::unknown_member;
use super::outcome::Refused;
use super::xml::{from_xml, to_xml};
use crate::gateway::Gateway;
use crate::smart::{Act, Caller};

const JSON: &str = "application/fhir+json";
const XML: &str = "application/fhir+xml";
/// Bytes of a resource in a body. Documents inside one stand in base64; larger ones are sent as a Binary
/// of their own, which is streamed.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 20;
/// Room for bodies that are worked on at once, in MiB: four of the longest, or 256 of usual length. What is
/// made of a body takes several times its bytes.
const ROOM_MIB: usize = 256;
/// How long a body waits for room.
const ROOM_BOUND: Duration = Duration::from_secs(10);
/// Parameters of a search in a body.
const FORM_BYTES_MAX: usize = 64 << 10;

/// A resource that is answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) resource: Value,
    /// Where a created resource is.
    pub(crate) location: Option<String>,
}

impl Answer {
    pub(crate) fn ok(resource: Value) -> Self {
        Self {
            resource,
            ..Self::default()
        }
    }

    pub(crate) fn created(resource: Value, location: String) -> Self {
        Self {
            status: StatusCode::CREATED,
            resource,
            location: Some(location),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let answer = Answer {
            status: self.status,
            resource: self.outcome(),
            location: None,
        };
        let mut response = answer.into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let value = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        response
    }
}

/// A media type without its parameters.
pub(crate) fn essence(kind: &str) -> &str {
    kind.split(';').next().unwrap_or_default().trim()
}

/// Whether resources are answered in XML.
fn wants_xml(headers: &HeaderMap, query: &str) -> bool {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    if let Some((_, format)) = pairs.find(|(name, _)| name == "_format") {
        return format.contains("xml");
    }
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let Some(accept) = accept else { return false };
    // The first that the facade can write; quality values are rarely sent by systems.
    for kind in accept.split(',') {
        let kind = essence(kind);
        match kind {
            _ if kind.ends_with("json") || kind == "*/*" || kind == "application/*" => {
                return false;
            }
            _ if kind.ends_with("xml") => return true,
            _ => {}
        }
    }
    false
}

/// Writes the answers in the format that was asked for.
pub(crate) async fn render(request: Request, next: Next) -> Response {
    let xml = wants_xml(request.headers(), request.uri().query().unwrap_or_default());
    let minimal = request
        .headers()
        .get("prefer")
        .and_then(|prefer| prefer.to_str().ok())
        .is_some_and(|prefer| prefer.contains("return=minimal"));
    let mut response = next.run(request).await;
    let Some(answer) = response.extensions_mut().remove::<Answer>() else {
        return response;
    };
    let (kind, mut text) = if xml {
        (XML, to_xml(&answer.resource))
    } else {
        (JSON, answer.resource.to_string())
    };
    if minimal && answer.status == StatusCode::CREATED && answer.location.is_some() {
        text.clear();
    }
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::from_str(&format!("{kind}; charset=utf-8")) {
        headers.insert(CONTENT_TYPE, kind);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let meta = &answer.resource["meta"];
    if let Some(version) = meta["versionId"].as_str()
        && let Ok(tag) = HeaderValue::from_str(&format!("W/\"{version}\""))
    {
        headers.insert(ETAG, tag);
    }
    let changed = meta["lastUpdated"].as_str().and_then(http_date);
    if let Some(changed) = changed.and_then(|date| HeaderValue::from_str(&date).ok()) {
        headers.insert(LAST_MODIFIED, changed);
    }
    if let Some(location) = answer
        .location
        .and_then(|at| HeaderValue::from_str(&at).ok())
    {
        headers.insert(LOCATION, location);
    }
    *response.body_mut() = Body::from(text);
    response
}

/// An instant as HTTP writes it.
fn http_date(instant: &str) -> Option<String> {
    let moment = OffsetDateTime::parse(instant, &Rfc3339).ok()?;
    let text = moment
        .to_offset(time::UtcOffset::UTC)
        .format(&Rfc2822)
        .ok()?;
    Some(text.replace("+0000", "GMT"))
}

/// Lets in whoever shows a token that stands.
pub(crate) async fn authenticate(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Response {
    let header = request.headers().get(AUTHORIZATION);
    let token = header
        .and_then(|value| value.to_str().ok())
        .and_then(|value| {
            value
                .strip_prefix("Bearer ")
                .or(value.strip_prefix("bearer "))
        });
    let Some(caller) = token.and_then(|token| gateway.caller(token.trim())) else {
        return Refused::login(
            "the call shows no token that stands; ask for one at the token endpoint that /.well-known/smart-configuration names",
        )
        .into_response();
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

pub(crate) async fn nothing_here() -> Refused {
    Refused::not_found("interaction or resource type; the CapabilityStatement lists what there is")
}

pub(crate) async fn not_here() -> Refused {
    Refused {
        status: StatusCode::METHOD_NOT_ALLOWED,
        code: "not-supported",
        text: "this interaction is not offered here; the CapabilityStatement lists what is"
            .to_owned(),
        place: None,
    }
}

/// A call by a system that is known.
pub(crate) struct Call {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) caller: Arc<Caller>,
    /// From where.
    pub(crate) from: Option<SocketAddr>,
}

impl Call {
    /// # Errors
    /// [`Refused`], 403, if the system's token is not for this.
    pub(crate) fn may(&self, act: Act, kind: &str) -> Result<(), Refused> {
        if self.caller.may(act, kind) {
            return Ok(());
        }
        Err(Refused::forbidden(format!(
            "the token is not for this interaction with {kind}; ask for a scope that is, if the gateway's configuration gives it to this system"
        )))
    }
}

impl FromRequestParts<Arc<Gateway>> for Call {
    type Rejection = Refused;

    async fn from_request_parts(
        parts: &mut Parts,
        gateway: &Arc<Gateway>,
    ) -> Result<Self, Refused> {
        let Some(caller) = parts.extensions.get::<Arc<Caller>>() else {
            return Err(Refused::login("nobody said who calls"));
        };
        Ok(Self {
            gateway: Arc::clone(gateway),
            caller: Arc::clone(caller),
            from: parts.extensions.get::<Peer>().map(|peer| peer.address),
        })
    }
}

/// The parameters of a search: those of the address, and of a form in the body.
pub(crate) struct Pairs(pub(crate) Vec<(String, String)>);

impl FromRequest<Arc<Gateway>> for Pairs {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &Arc<Gateway>) -> Result<Self, Refused> {
        let query = request.uri().query().unwrap_or_default().as_bytes();
        let mut pairs: Vec<(String, String)> = parse(query);
        if request.method() == Method::POST {
            let body = bytes_of(request, FORM_BYTES_MAX).await?;
            pairs.extend(parse(&body));
        }
        Ok(Self(pairs))
    }
}

fn parse(text: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

/// A resource in a body, JSON or XML, and the room that it takes until it is answered.
pub(crate) struct Received(pub(crate) Value, pub(crate) Room);

/// Room for bodies in memory, held while one is worked on.
pub(crate) type Room = SemaphorePermit<'static>;

/// Room for bodies that are worked on at once, in MiB.
static ROOM: Semaphore = Semaphore::const_new(ROOM_MIB);

/// Waits for room for a body of so many bytes.
///
/// # Errors
/// [`Refused`] if there is none for ten seconds.
pub(crate) async fn room_for(bytes: u64) -> Result<Room, Refused> {
    let whole = bytes.min(BODY_BYTES_MAX as u64).div_ceil(1 << 20).max(1);
    let whole = u32::try_from(whole).unwrap_or(u32::MAX);
    match tokio::time::timeout(ROOM_BOUND, ROOM.acquire_many(whole)).await {
        Ok(Ok(room)) => Ok(room),
        _ => Err(Refused::away(
            "the gateway works on as many large bodies as it has room for; send this one again in a minute, or send large documents as a Binary of their own",
        )),
    }
}

impl FromRequest<Arc<Gateway>> for Received {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &Arc<Gateway>) -> Result<Self, Refused> {
        let kind = request.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = essence(kind).to_ascii_lowercase();
        let is_xml = essence.ends_with("xml");
        if !is_xml && !essence.ends_with("json") {
            return Err(Refused {
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                code: "not-supported",
                text: "the body's Content-Type is neither application/fhir+json nor application/fhir+xml; send one of them".to_owned(),
                place: None,
            });
        }
        let length = request.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        // One that does not say its length may be as long as any.
        let room = room_for(length.unwrap_or(u64::MAX)).await?;
        let body = bytes_of(request, BODY_BYTES_MAX).await?;
        let resource = if is_xml {
            let text = std::str::from_utf8(&body)
                .map_err(|_| Refused::invalid("the body is not UTF-8; send it as UTF-8"))?;
            from_xml(text.trim_start_matches('\u{feff}'))
                .map_err(|error| Refused::invalid(error.to_string()))?
        } else {
            serde_json::from_slice(&body).map_err(|error| {
                Refused::invalid(format!(
                    "the body is no JSON: {error}; send what its writer wrote"
                ))
            })?
        };
        Ok(Self(resource, room))
    }
}

async fn bytes_of(request: Request, bound: usize) -> Result<Bytes, Refused> {
    axum::body::to_bytes(request.into_body(), bound).await.map_err(|_| {
        Refused::too_long(format!(
            "the body is longer than {bound} bytes or ended early; send large documents as a Binary of their own, and refer to it"
        ))
    })
}

/// Checks that a resource is of the type that the call is about.
pub(crate) fn must_be(resource: &Value, kind: &str) -> Result<(), Refused> {
    if resource["resourceType"].as_str() == Some(kind) {
        return Ok(());
    }
    Err(Refused::invalid(format!("the body is no {kind}; send one")))
}

/// Likewise, with no member that FHIR R4 does not know: what is not understood may be what matters.
pub(crate) fn must_be_plain(resource: &Value, kind: &str) -> Result<(), Refused> {
    must_be(resource, kind)?;
    match unknown_member(kind, resource) {
        None => Ok(()),
        Some(path) => Err(Refused::unprocessable(
            &path,
            format!("{path} is no element of FHIR R4; remove it, or write it as an extension"),
        )),
    }
}

/// The headers of a call.
pub(crate) struct Headers(pub(crate) HeaderMap);

impl FromRequestParts<Arc<Gateway>> for Headers {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Gateway>) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.clone()))
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What a client reads that asks once.
    async fn answered(at: SocketAddr, path: &str, accept: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let asked = format!(
            "GET {path} HTTP/1.1\r\nHost: gateway\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn long_bodies_wait_for_room_and_take_no_more() {
        let mut held = Vec::new();
        for _ in 0..ROOM_MIB / (BODY_BYTES_MAX >> 20) {
            // One that says no length, or one too great, counts as the longest.
            held.push(room_for(u64::MAX).await.unwrap());
        }
        let bound = Duration::from_millis(50);
        let mut waits = std::pin::pin!(room_for(0));
        assert!(tokio::time::timeout(bound, waits.as_mut()).await.is_err());
        held.pop();
        assert!(waits.await.is_ok());
    }

    #[tokio::test]
    async fn refusals_of_dicomweb_say_why_and_its_own_answers_stay() {
        let known = Router::new()
            .route(
                "/studies/{study}",
                get(async || Refused::not_found("study")),
            )
            .route(
                "/studies",
                get(async || ([(CONTENT_TYPE, "application/dicom+json")], "[]")),
            )
            .method_not_allowed_fallback(not_here);
        let app = Router::new()
            .nest("/dicom-web", known)
            .layer(axum::middleware::from_fn(render));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });

        let dicom = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
        for accept in [dicom, "application/dicom+json", "*/*"] {
            let answer = answered(at, "/dicom-web/studies/1.2", accept).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 404"), "{head}");
            assert!(
                head.to_lowercase()
                    .contains("content-type: application/fhir+json"),
                "{head}"
            );
            let outcome: Value = serde_json::from_str(body).unwrap();
            assert_eq!(outcome["resourceType"], "OperationOutcome", "{accept}");
            assert!(
                head.to_lowercase()
                    .contains(&format!("content-length: {}", body.len())),
                "{head}"
            );
        }
        let answer = answered(at, "/dicom-web/studies", "application/dicom+json").await;
        assert!(
            answer.ends_with("\r\n\r\n[]") && answer.contains("application/dicom+json"),
            "{answer}"
        );
    }

    #[test]
    fn the_format_is_what_the_address_says_or_the_first_that_is_accepted() {
        let xml = |accept: &'static str, query: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            wants_xml(&headers, query)
        };
        assert!(!xml("*/*", ""));
        assert!(!xml("application/fhir+json, application/fhir+xml", ""));
        assert!(xml("text/html, application/fhir+xml;q=0.9", ""));
        assert!(xml(
            "application/fhir+json",
            "_format=application/fhir%2Bxml"
        ));
        assert!(!xml("application/fhir+xml", "a=b&_format=json"));
        assert_eq!(
            http_date("2026-11-27T09:00:00.123Z").unwrap(),
            "Fri, 27 Nov 2026 09:00:00 GMT"
        );
    }
}
