//! Bodies of calls: read within the path's limit, compared with what was signed, decoded without
//! unknown fields.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use client::{CallError, ProblemKind, VerifiedCall};
use scheme::sha256;
use serde::de::DeserializeOwned;
use utoipa::openapi::{ContentBuilder, RefOr, Response, ResponseBuilder};

use crate::http::refused::Refused;

/// The longest JSON body unless the path says more: a request of 64 KiB in base64, with room.
pub(crate) const JSON_BYTES_MAX: usize = 128 * 1024;

/// A JSON document of a caller that signs.
pub(crate) struct SignedJson<T>(pub(crate) VerifiedCall, pub(crate) T);

/// Bytes of a caller that signs.
pub(crate) struct SignedBytes(pub(crate) VerifiedCall, pub(crate) Bytes);

/// A caller that signs and sends nothing.
pub(crate) struct SignedNothing(pub(crate) VerifiedCall);

/// A JSON document of a caller that does not sign.
pub(crate) struct Received<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for SignedJson<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let call = caller(request.extensions())?;
        json_type(request.headers())?;
        let body = signed_body(&call, request, state).await?;
        Ok(Self(call, json(&body)?))
    }
}

impl<S: Send + Sync> FromRequest<S> for SignedBytes {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let call = caller(request.extensions())?;
        let body = signed_body(&call, request, state).await?;
        Ok(Self(call, body))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SignedNothing {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let call = caller(&parts.extensions)?;
        if call.body() != sha256(b"") {
            return Err(Refused::of(
                ProblemKind::NotAuthenticated,
                &CallError::OtherBody,
            ));
        }
        Ok(Self(call))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Received<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        json_type(request.headers())?;
        Ok(Self(json(&read(request, state).await?)?))
    }
}

fn caller(extensions: &axum::http::Extensions) -> Result<VerifiedCall, Refused> {
    let call = extensions.get::<VerifiedCall>().copied();
    call.ok_or_else(|| Refused::of(ProblemKind::NotAuthenticated, &CallError::Missing))
}

async fn signed_body<S: Send + Sync>(
    call: &VerifiedCall,
    request: Request,
    state: &S,
) -> Result<Bytes, Refused> {
    let body = read(request, state).await?;
    if sha256(&body) == call.body() {
        Ok(body)
    } else {
        Err(Refused::of(
            ProblemKind::NotAuthenticated,
            &CallError::OtherBody,
        ))
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Refused> {
    Bytes::from_request(request, state)
        .await
        .map_err(|rejection: BytesRejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Refused::new(
                    ProblemKind::TooLong,
                    "the body is longer than this path takes: nothing of it was taken",
                )
            } else {
                Refused::new(
                    ProblemKind::Malformed,
                    "the body broke off: send the same request again",
                )
            }
        })
}

/// Refuses a body that does not say that it is JSON.
pub(crate) fn json_type(headers: &HeaderMap) -> Result<(), Refused> {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    if kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
        Ok(())
    } else {
        Err(Refused::new(
            ProblemKind::MediaType,
            "this path takes application/json",
        ))
    }
}

/// Decodes a body.
pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| {
        Refused::new(
            ProblemKind::Malformed,
            format!("the body is not the document that this path takes: {error}"),
        )
    })
}

/// Bytes of a caller that does not sign here: what they hold is signed in itself.
pub(crate) struct Raw(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        Ok(Self(read(request, state).await?))
    }
}

/// The query of a target.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(parameters)| Self(parameters))
            .map_err(|error| {
                let detail = error.body_text();
                Refused::new(
                    ProblemKind::Malformed,
                    format!("the target's query is not what this path takes: {detail}"),
                )
            })
    }
}

/// A varying segment of a path. What cannot be one names nothing.
pub(crate) struct Segment<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segment<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(segment)| Self(segment))
            .map_err(|error| {
                let detail = error.body_text();
                Refused::new(
                    ProblemKind::NotFound,
                    format!("there is nothing under this name: {detail}"),
                )
            })
    }
}

/// The refusals of the reasoned table, as every path of an OpenAPI document has them.
pub(crate) struct Problems;

impl utoipa::IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let response = |description: &str| {
            let content = ContentBuilder::new()
                .schema(Some(RefOr::Ref(utoipa::openapi::Ref::from_schema_name(
                    "Problem",
                ))))
                .build();
            ResponseBuilder::new()
                .description(description)
                .content("application/problem+json", content)
                .build()
                .into()
        };
        [
            (
                "4XX".to_owned(),
                response("The call is at fault; detail says how, and what to do."),
            ),
            (
                "5XX".to_owned(),
                response("The service or what it depends on is at fault; detail says what to do."),
            ),
        ]
        .into()
    }
}
