//! What is measured, and how it is written down. This file and `http/measured.rs` name the library.
//!
//! A label holds a text of this program, an institution's number or the template of a route, and can
//! hold nothing else: [`Label`] has no constructor that takes a caller's bytes. So no metric can name a
//! patient, a doctor, a record, a grant, a request or an address, and each has as many series as its
//! labels have values.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::MatchedPath;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelValue, LabelValueEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use scheme::{InstitutionId, Timestamp};

use crate::database::DatabaseError;

/// A metric that a role can show.
#[derive(Debug)]
pub(crate) struct Metric {
    /// Without the suffix that its kind gives it.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
    pub(crate) labels: &'static [&'static str],
}

/// How a metric's numbers are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Grows until the process ends; its name ends with `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// One number of a metric.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    metric: &'static Metric,
    labels: Vec<Label>,
    value: f64,
}

impl Sample {
    /// Of a metric without labels.
    pub(crate) fn new(metric: &'static Metric, value: impl Number) -> Self {
        Self::of(metric, Vec::new(), value)
    }

    /// With a value for each of the metric's labels, in their order.
    pub(crate) fn of(metric: &'static Metric, labels: Vec<Label>, value: impl Number) -> Self {
        debug_assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
        Self {
            metric,
            labels,
            value: value.number(),
        }
    }
}

/// An outbox of so many transactions, the oldest of which came at this time.
pub(crate) fn outbox(
    waiting: i64,
    oldest: Timestamp,
    now: Timestamp,
) -> Result<Vec<Sample>, DatabaseError> {
    let waiting = u64::try_from(waiting).map_err(|_| DatabaseError::unreadable("a count"))?;
    let age = match waiting {
        0 => 0,
        _ => now.number().saturating_sub(oldest.number()),
    };
    Ok(vec![
        Sample::new(&OUTBOX, waiting),
        Sample::new(&OUTBOX_AGE, Duration::from_millis(age).as_secs_f64()),
    ])
}

/// What systems gave to a gateway without a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntakeCounts {
    /// What waits to be sealed.
    pub waiting: usize,
    /// Dead letters.
    pub dead: usize,
    /// How many of both there may be.
    pub deliveries_max: usize,
    /// Bytes of both.
    pub bytes: u64,
    /// How many bytes there may be.
    pub bytes_max: u64,
    /// How long the oldest that waits is there.
    pub oldest: Duration,
}

impl IntakeCounts {
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let state =
            |state, count: usize| Sample::of(&GATEWAY_DELIVERIES, vec![Label::Text(state)], count);
        vec![
            state("waiting", self.waiting),
            state("dead", self.dead),
            Sample::new(&GATEWAY_DELIVERIES_MAX, self.deliveries_max),
            Sample::new(&GATEWAY_DELIVERY_BYTES, self.bytes),
            Sample::new(&GATEWAY_DELIVERY_BYTES_MAX, self.bytes_max),
            Sample::new(&GATEWAY_DELIVERY_AGE, self.oldest.as_secs_f64()),
        ]
    }
}

/// A number as a metric has it: exact up to 2^53.
pub(crate) trait Number {
    fn number(self) -> f64;
}

impl Number for f64 {
    fn number(self) -> f64 {
        self
    }
}

impl Number for bool {
    fn number(self) -> f64 {
        f64::from(u8::from(self))
    }
}

impl Number for u64 {
    #[allow(clippy::cast_precision_loss, reason = "a rounded count says as much")]
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for usize {
    fn number(self) -> f64 {
        u64::try_from(self).unwrap_or(u64::MAX).number()
    }
}

/// What a label can hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Label {
    /// A text of this program.
    Text(&'static str),
    /// An institution of the consortium.
    Institution(InstitutionId),
    /// The template by which a call was routed.
    Route(Route),
}

/// A route's template, such as `/v1/receipts/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Route(Arc<str>);

impl Route {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&MatchedPath> for Route {
    fn from(path: &MatchedPath) -> Self {
        Self(path.as_str().into())
    }
}

impl From<&'static str> for Label {
    fn from(text: &'static str) -> Self {
        Self::Text(text)
    }
}

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => EncodeLabelValue::encode(text, encoder),
            Self::Institution(id) => EncodeLabelValue::encode(&id.number(), encoder),
            Self::Route(Route(template)) => EncodeLabelValue::encode(&&**template, encoder),
        }
    }
}

/// What one look at a role found, on its way to the reader.
#[derive(Debug)]
pub(crate) struct Samples(pub(crate) Vec<Sample>);

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS {
            let mut samples = self
                .0
                .iter()
                .filter(|sample| std::ptr::eq(sample.metric, *metric))
                .peekable();
            // A metric of another role is not this one's.
            if samples.peek().is_none() {
                continue;
            }
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                // The HTTP server's own, which it registers itself.
                Kind::Histogram => continue,
            };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for sample in samples {
                if sample.labels.is_empty() {
                    value(&mut family, sample)?;
                    continue;
                }
                let names = metric.labels.iter().copied();
                let labels: Vec<_> = names.zip(sample.labels.iter().cloned()).collect();
                value(&mut family.encode_family(&labels)?, sample)?;
            }
        }
        Ok(())
    }
}

fn value(encoder: &mut MetricEncoder<'_>, sample: &Sample) -> fmt::Result {
    match sample.metric.kind {
        Kind::Counter => {
            let none: Option<&Exemplar<NoLabelSet, f64>> = None;
            encoder.encode_counter(&sample.value, none)
        }
        Kind::Gauge | Kind::Histogram => encoder.encode_gauge(&sample.value),
    }
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(crate) static $constant: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            help: $help,
            labels: &[$($label),*],
        };)*

        /// All that any role shows, in the order in which it is written.
        pub(crate) static METRICS: &[&Metric] = &[$(&$constant),*];
    };
}

metrics! {
    INFO = Gauge "willis_info" ["role", "version"] "1, with the role and its version";
    START_TIME = Gauge "willis_start_time_seconds" [] "when the process was started, in seconds since 1970";
    CHECK = Gauge "willis_check_ok" ["check"] "1 if a check of readiness holds, else 0";
    CERTIFICATE_END = Gauge "willis_tls_certificate_end_time_seconds" [] "until when the role's TLS certificate stands, in seconds since 1970";
    FOLDER_BYTES = Gauge "willis_folder_bytes" ["folder"] "bytes that the files in a folder of the role take on the disk";

    HTTP_REQUESTS = Counter "willis_http_requests" ["method", "route", "status"] "calls that were answered, by the class of the status";
    HTTP_SECONDS = Histogram "willis_http_request_seconds" ["method", "route"] "how long a call took until its answer began";
    HTTP_LIMITED = Counter "willis_http_rate_limited" [] "calls that were refused because too many came";

    NODE_HEIGHT = Gauge "willis_node_height" [] "height of the last final block";
    NODE_BLOCK_TIME = Gauge "willis_node_block_time_seconds" [] "time of the last final block, in seconds since 1970";
    NODE_LAG = Gauge "willis_node_lag_seconds" [] "how far the chain's time is behind the node's clock";
    NODE_LAG_MAX = Gauge "willis_node_lag_seconds_max" [] "the lag above which the node is not ready: four leader time-outs and the drift";
    NODE_AHEAD = Gauge "willis_node_block_ahead_seconds" [] "by how much, at most, the time of one of the last 64 blocks was ahead of the node's clock when it became final; 0 if none was";
    NODE_DRIFT = Gauge "willis_node_clock_drift_seconds" [] "the drift that the consortium's settings allow";
    NODE_CLOCK_WAITS = Counter "willis_node_clock_waits" [] "blocks whose time was ahead of the node's clock by more than the drift, so that the node waited before it voted";
    NODE_ABANDONED = Counter "willis_node_abandoned_validations" [] "validations that were given up because the view ended first";
    NODE_EPOCH = Gauge "willis_node_validator_epoch" [] "the validator epoch that the node works in";
    NODE_VOTES = Gauge "willis_node_votes" [] "1 if the node votes in this validator epoch";
    NODE_ACCOUNTS = Gauge "willis_node_accounts" [] "1 if the node leads and holds shares in this validator epoch";
    NODE_NODES = Gauge "willis_node_nodes" [] "nodes that vote in this validator epoch";
    NODE_QUORUM = Gauge "willis_node_quorum" [] "votes that make a block final";
    NODE_IN_TOUCH = Gauge "willis_node_in_touch" ["institution"] "1 if a vote of this institution's node was seen within four leader time-outs";
    NODE_IN_TOUCH_NODES = Gauge "willis_node_in_touch_nodes" [] "nodes in touch, this one among them";
    NODE_LED = Counter "willis_node_blocks_led" ["institution"] "final blocks that an institution's node led under its present key";
    NODE_SKIPPED = Counter "willis_node_views_skipped" [] "views that ended without a block since the node started, as far as it saw them";
    NODE_POOL_REQUESTS = Gauge "willis_node_pool_requests" [] "transactions that wait in the node's pool";
    NODE_POOL_REQUESTS_MAX = Gauge "willis_node_pool_requests_max" [] "how many it takes";
    NODE_POOL_BYTES = Gauge "willis_node_pool_bytes" [] "their bytes";
    NODE_POOL_BYTES_MAX = Gauge "willis_node_pool_bytes_max" [] "how many bytes it takes";
    NODE_TRANSACTIONS = Counter "willis_node_transactions" ["kind"] "transactions that became final since the node started";
    NODE_GRANTS = Gauge "willis_node_grants" [] "living grants that the node holds";
    NODE_SHARES_GIVEN = Counter "willis_node_shares_given" [] "shares that the node gave";
    NODE_SHARES_REFUSED = Counter "willis_node_shares_refused" ["reason"] "requests for shares that the node refused";
    NODE_KEYS_MISSING = Gauge "willis_node_hpke_keys_missing" [] "validator epochs whose HPKE key stands on the chain and is not here";
    NODE_EVIDENCE = Gauge "willis_node_evidence" [] "pieces of evidence of misbehaviour that the node keeps";
    NODE_FAILED = Gauge "willis_node_failed" [] "1 if the node stopped taking part";

    OUTBOX = Gauge "willis_outbox_transactions" [] "transactions on their way to the chain";
    OUTBOX_AGE = Gauge "willis_outbox_oldest_age_seconds" [] "how long the oldest of them waits; 0 if none does";

    CLOUD_CONTAINERS = Gauge "willis_cloud_containers" [] "containers that the cloud keeps";
    CLOUD_BYTES = Gauge "willis_cloud_bytes" [] "their bytes";
    CLOUD_UPLOADS = Gauge "willis_cloud_uploads" [] "uploads under way";
    CLOUD_DAMAGED = Gauge "willis_cloud_damaged_containers" [] "containers that are lost or altered and not restored yet";

    QUERY_REQUESTS = Gauge "willis_query_requests" ["state"] "requests that nobody has answered yet";

    GATEWAY_DELIVERIES = Gauge "willis_gateway_deliveries" ["state"] "what systems gave without a call: waiting to be sealed, and dead letters, with which somebody has to do something";
    GATEWAY_DELIVERIES_MAX = Gauge "willis_gateway_deliveries_max" [] "how many the gateway takes, dead letters among them";
    GATEWAY_DELIVERY_BYTES = Gauge "willis_gateway_delivery_bytes" [] "their bytes";
    GATEWAY_DELIVERY_BYTES_MAX = Gauge "willis_gateway_delivery_bytes_max" [] "how many bytes it takes";
    GATEWAY_DELIVERY_AGE = Gauge "willis_gateway_oldest_delivery_age_seconds" [] "how long the oldest that waits to be sealed is here; 0 if none does";
    GATEWAY_GRANTS = Gauge "willis_gateway_grants" [] "grants under which documents are open at the gateway";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn samples_are_written_as_openmetrics_has_them() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Samples(vec![
            Sample::of(
                &NODE_IN_TOUCH,
                vec![Label::Institution(InstitutionId::new(3))],
                true,
            ),
            Sample::new(&NODE_HEIGHT, 7_u64),
            Sample::of(&NODE_TRANSACTIONS, vec!["grant".into()], 2_u64),
        ])));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let expected = "# HELP willis_node_height height of the last final block\n\
             # TYPE willis_node_height gauge\n\
             willis_node_height 7.0\n\
             # HELP willis_node_in_touch 1 if a vote of this institution's node was seen within four leader time-outs\n\
             # TYPE willis_node_in_touch gauge\n\
             willis_node_in_touch{institution=\"3\"} 1.0\n\
             # HELP willis_node_transactions transactions that became final since the node started\n\
             # TYPE willis_node_transactions counter\n\
             willis_node_transactions_total{kind=\"grant\"} 2.0\n\
             # EOF\n";
        assert_eq!(text, expected);
    }

    /// A new label is a new way to name somebody: whoever adds one says here what its values are.
    #[test]
    fn labels_are_few_and_each_is_known() {
        let known = [
            // text of this program
            "role",
            "version",
            "check",
            "folder",
            "method",
            "status",
            "kind",
            "reason",
            "state",
            // a route's template
            "route",
            // an institution's number
            "institution",
        ];
        let mut names = BTreeSet::new();
        for metric in METRICS {
            assert!(names.insert(metric.name), "{} stands twice", metric.name);
            assert!(metric.name.starts_with("willis_"), "{}", metric.name);
            assert!(!metric.name.ends_with("_total"), "{}", metric.name);
            for label in metric.labels {
                assert!(known.contains(label), "{}: {label}", metric.name);
            }
        }
    }
}
