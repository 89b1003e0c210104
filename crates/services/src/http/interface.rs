//! An interface put together: its paths with their OpenAPI document, and around them, from the outside,
//! the time-out, the rate, the signed call, the answer that is given once.

use std::net::IpAddr;
use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router, middleware};
use client::Problem;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use crate::http::calls::{Calls, authenticate};
use crate::http::idempotency::{Answers, once};
use crate::http::rates::{Buckets, Rates, limit_rate};
use crate::http::refused::{bounded_time, no_such_method, no_such_path};

/// What surrounds a service's paths.
pub(crate) struct Interface {
    /// The service, for people.
    pub(crate) title: &'static str,
    /// What it does, in a sentence.
    pub(crate) description: &'static str,
    /// Who may sign calls; none at a service that knows no users.
    pub(crate) calls: Option<Arc<Calls>>,
    /// Where answers to writes are kept.
    pub(crate) answers: Option<Arc<Answers>>,
    /// How often an address may call.
    pub(crate) rates: Rates,
}

impl Interface {
    /// The router and its OpenAPI document, which the router serves at `/v1/openapi.json`.
    pub(crate) fn build(self, paths: OpenApiRouter) -> Router {
        let (router, document) = paths.split_for_parts();
        let document = self.describe(document);
        let buckets = Arc::new(Buckets::<IpAddr>::new(self.rates));
        let mut router = router
            .route(
                "/v1/openapi.json",
                get(move || {
                    let document = document.clone();
                    async move { Json(document) }
                }),
            )
            .fallback(no_such_path)
            .method_not_allowed_fallback(no_such_method);
        if let Some(answers) = self.answers {
            router = router.layer(middleware::from_fn_with_state(answers, once));
        }
        if let Some(calls) = self.calls {
            router = router.layer(middleware::from_fn_with_state(calls, authenticate));
        }
        router
            .layer(middleware::from_fn_with_state(buckets, limit_rate))
            .layer(middleware::from_fn(bounded_time))
    }

    /// The document with the service's name, and how calls are signed.
    pub(crate) fn describe(&self, mut document: OpenApi) -> OpenApi {
        document.info = InfoBuilder::new()
            .title(self.title)
            .description(Some(self.description))
            .version("1")
            .build();
        let components = document.components.take().unwrap_or_default();
        let mut components =
            ComponentsBuilder::from(components).schema(Problem::name(), Problem::schema());
        if self.calls.is_some() {
            let key = ApiKeyValue::with_description(
                "Authorization",
                "Willis key=..., time=..., nonce=..., body=..., signature=... (spec/formats.md, M22)",
            );
            components =
                components.security_scheme("signed", SecurityScheme::ApiKey(ApiKey::Header(key)));
        }
        document.components = Some(components.build());
        document
    }
}
