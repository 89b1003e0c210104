//! Traces, if they are asked for: each step of a person's program and each call of a service as a span,
//! sent to an OpenTelemetry collector by OTLP over HTTP. A collector that is away costs the spans and
//! nothing else.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use thiserror::Error;
use tracing::{Span, Subscriber, info_span};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use url::Url;

/// Where a person's program sends its spans.
const ADDRESS: &str = "WILLIS_TRACES";
/// How long spans that are left are sent for when the program ends.
const END_BOUND: Duration = Duration::from_secs(3);

/// Why no traces are sent.
#[derive(Debug, Error)]
pub(crate) enum TraceError {
    #[error("traces go to {0:?}, which is no address of a collector: try http://127.0.0.1:4318")]
    Address(String),
    #[error("traces cannot be sent: {0}")]
    Exporter(String),
}

/// Spans on their way to the collector, until this is ended.
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// To the collector at this address, as those of a program of this name.
    pub(crate) fn begin(address: &str, name: &str) -> Result<Self, TraceError> {
        let wrong = || TraceError::Address(address.to_owned());
        let base = Url::parse(address).map_err(|_| wrong())?;
        // A collector stands beside the program or in the operator's network, and no span is a secret.
        if base.scheme() != "http" || !base.has_host() || base.query().is_some() {
            return Err(wrong());
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", base.as_str().trim_end_matches('/')))
            .build()
            .map_err(|error| TraceError::Exporter(error.to_string()))?;
        // Without the detectors, which would add what the environment says of the machine.
        let resource = Resource::builder_empty()
            .with_service_name(name.to_owned())
            .with_attribute(opentelemetry::KeyValue::new(
                "service.version",
                env!("CARGO_PKG_VERSION"),
            ))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    /// Of a person's program, which logs nothing, if the environment says where they go: with the span of
    /// the command, within the trace that the environment names.
    pub(crate) fn of_command(name: &str) -> Result<(Option<Self>, Span), TraceError> {
        let variable = |name| {
            std::env::var(name)
                .ok()
                .filter(|text: &String| !text.is_empty())
        };
        let Some(address) = variable(ADDRESS) else {
            return Ok((None, Span::none()));
        };
        let traces = Self::begin(&address, name)?;
        tracing_subscriber::registry().with(traces.layer()).init();
        let span = info_span!(target: client::TRACED, "command", otel.name = name);
        let parent = variable(&client::TRACEPARENT.to_uppercase());
        client::continue_trace(&span, parent.as_deref());
        Ok((Some(traces), span))
    }

    /// What records spans: those that are meant to be in a trace, and no line of the log.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let only = Targets::new().with_target(client::TRACED, tracing::Level::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("willis"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_filter(only)
    }

    /// Sends what is left.
    pub(crate) fn end(self) {
        // A collector that is away is no failure of the program's.
        let _ = self.0.shutdown_with_timeout(END_BOUND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_no_collectors_is_refused() {
        for wrong in [
            "",
            "127.0.0.1:4318",
            "https://127.0.0.1:4318",
            "http://a?b=c",
            "file:///tmp",
        ] {
            let refused = Traces::begin(wrong, "willis test");
            assert!(matches!(refused, Err(TraceError::Address(_))), "{wrong}");
        }
        // Nothing listens there, and nobody is held up.
        let traces = Traces::begin("http://127.0.0.1:1", "willis test").unwrap();
        traces.end();
    }
}
