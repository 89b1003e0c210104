//! Traces: which call belongs to which step of whose work, as programs and services carry it from one to
//! the next (the header `traceparent` of W3C Trace Context). Whether anything is recorded the programs
//! decide that set up a recorder; without one all of this says and sends nothing.
//!
//! A span has a name that this program gives, and for a call its method, its route's template and its
//! status. No argument of a step is recorded, so a trace names nobody.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of all spans that go into a trace, and of nothing else.
pub const TRACED: &str = "traced";

/// The header, and the environment's variable (in capitals) by which a program is told of a trace.
pub const TRACEPARENT: &str = "traceparent";

/// How another program names the span that is current here; none if none is recorded.
pub(crate) fn traceparent() -> Option<String> {
    let context = Span::current().context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// Makes a span the child of one that another program named. What is no such name is left out: anyone
/// may have sent it.
pub fn continue_trace(span: &Span, traceparent: Option<&str>) {
    let Some(traceparent) = traceparent.filter(|text| text.len() <= TRACEPARENT_BYTES_MAX) else {
        return;
    };
    // Without `tracestate`, in which a stranger could send anything on to the recorder.
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    if context.span().span_context().is_valid() {
        // A span that nobody records has no parent either.
        let _ = span.set_parent(context);
    }
}

/// Version 0 has 55.
const TRACEPARENT_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_while_nothing_is_recorded() {
        let span = tracing::info_span!(target: TRACED, "6 request");
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for wrong in [given, "", "00-0-0-0", "x", &"0".repeat(4_096)] {
            continue_trace(&span, Some(wrong));
        }
        assert_eq!(span.in_scope(traceparent), None);
    }
}
