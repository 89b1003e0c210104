//! How many calls came, how they were answered and how long that took. By route template and class of
//! status: who called and for what is in no number.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use client::{TRACED, TRACEPARENT, continue_trace};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span};

use crate::watching::{HTTP_LIMITED, HTTP_REQUESTS, HTTP_SECONDS, Label, Route};

type Labels = Vec<(&'static str, Label)>;

/// From a look into memory to an upload's piece on a slow line; what waits for a block or an event comes
/// last.
const BUCKETS_SECONDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

/// The calls of one listener. A series for each method, route and class of status: some hundred.
pub(crate) struct Measured {
    registry: Registry,
    requests: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    limited: Counter,
}

impl Measured {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let seconds =
            Family::new_with_constructor((|| Histogram::new(BUCKETS_SECONDS)) as fn() -> Histogram);
        let limited = Counter::default();
        registry.register(HTTP_REQUESTS.name, HTTP_REQUESTS.help, requests.clone());
        registry.register(HTTP_SECONDS.name, HTTP_SECONDS.help, seconds.clone());
        registry.register(HTTP_LIMITED.name, HTTP_LIMITED.help, limited.clone());
        Self {
            registry,
            requests,
            seconds,
            limited,
        }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// Measures a call.
pub(crate) async fn measure(
    State(measured): State<Arc<Measured>>,
    request: Request,
    next: Next,
) -> Response {
    let route = match request.extensions().get::<MatchedPath>() {
        Some(path) => Label::Route(Route::from(path)),
        None => Label::Text("none"),
    };
    let name = method(request.method());
    let span = span(name, &route, request.headers());
    let begun = Instant::now();
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    let method = Label::Text(name);
    let call = vec![("method", method), ("route", route)];
    let seconds = begun.elapsed().as_secs_f64();
    measured.seconds.get_or_create(&call).observe(seconds);
    let mut labels = call;
    labels.push(("status", Label::Text(class(status))));
    measured.requests.get_or_create(&labels).inc();
    if status == StatusCode::TOO_MANY_REQUESTS {
        measured.limited.inc();
    }
    response
}

/// The span of a call, within that of the program that makes it. It has no more of the call than the
/// numbers have.
fn span(method: &'static str, route: &Label, headers: &HeaderMap) -> Span {
    let route = match route {
        Label::Route(route) => route.as_str(),
        _ => "none",
    };
    let span = info_span!(
        target: TRACED,
        "call",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
    );
    let parent = headers
        .get(TRACEPARENT)
        .and_then(|value| value.to_str().ok());
    continue_trace(&span, parent);
    span
}

/// A caller may send any word as its method.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use axum::{Router, middleware};
    use prometheus_client::encoding::text::encode;
    use tower_service::Service as _;

    use super::*;

    /// What a caller sends, its path, query and method, is in no label, however it is chosen.
    #[tokio::test]
    async fn attack_what_a_caller_sends_never_becomes_a_label() {
        let measured = Arc::new(Measured::new());
        let mut router = Router::new()
            .route("/v1/receipts/{id}", get(|| async { "found" }))
            .fallback(|| async { StatusCode::TOO_MANY_REQUESTS })
            .layer(middleware::from_fn_with_state(
                Arc::clone(&measured),
                measure,
            ));
        for number in 0..50 {
            for (method, path) in [
                ("GET", format!("/v1/receipts/secret{number}?name=secret")),
                ("GET", format!("/secret{number}/receipts")),
                ("SECRET", format!("/v1/receipts/secret{number}")),
            ] {
                let request = Request::builder().method(method).uri(path);
                let request = request.body(Body::empty()).unwrap();
                router.call(request).await.unwrap();
            }
        }
        let mut text = String::new();
        encode(&mut text, measured.registry()).unwrap();
        assert!(!text.to_lowercase().contains("secret"), "{text}");
        let count = |line: &str| assert!(text.contains(line), "{line}: {text}");
        count(
            "willis_http_requests_total{method=\"GET\",route=\"/v1/receipts/{id}\",status=\"2xx\"} 50\n",
        );
        count("willis_http_requests_total{method=\"GET\",route=\"none\",status=\"4xx\"} 50\n");
        count(
            "willis_http_requests_total{method=\"other\",route=\"/v1/receipts/{id}\",status=\"4xx\"} 50\n",
        );
        count("willis_http_request_seconds_count{method=\"GET\",route=\"/v1/receipts/{id}\"} 50\n");
        count("willis_http_rate_limited_total 50\n");
    }
}
