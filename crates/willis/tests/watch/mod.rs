//! A role as those see it who supervise it: by plain HTTP at its `watch` address.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long it may take until what is waited for is so, on a busy machine.
const BOUND: Duration = Duration::from_secs(90);

/// How the names of what a gateway shows begin.
pub const GATEWAY: &str = "willis_gateway_";

/// The names of metrics in the table of docs/operations.md, with the labels beside each.
pub fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `willis_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[2].split('`').skip(1).step_by(2);
        (
            cells[1].trim_matches('`').to_owned(),
            labels.map(str::to_owned).collect(),
        )
    })
    .collect()
}

/// One role's listener.
pub struct Watched {
    pub role: String,
    pub pid: u32,
    address: String,
}

/// The listeners of a development consortium.
pub fn all(ready: &Value) -> Vec<Watched> {
    let services = ready["services"].as_array().unwrap().iter();
    services
        .map(|service| Watched {
            role: service["role"].as_str().unwrap().to_owned(),
            pid: service["pid"].as_u64().unwrap().try_into().unwrap(),
            address: service["watch"]
                .as_str()
                .unwrap()
                .strip_prefix("http://")
                .unwrap()
                .to_owned(),
        })
        .collect()
}

impl Watched {
    /// One that is no part of a development consortium.
    pub fn at(role: &str, pid: u32, address: &str) -> Self {
        Self {
            role: role.to_owned(),
            pid,
            address: address.to_owned(),
        }
    }

    /// Status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: watch\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            !head.to_lowercase().contains("transfer-encoding"),
            "the body comes as it is: {head}"
        );
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    /// Whether it is ready, and all that it says.
    pub fn ready(&self) -> (bool, Value) {
        let (status, body) = self.get("/ready");
        let said: Value = serde_json::from_str(&body).unwrap();
        let ready = said["ready"].as_bool().unwrap();
        assert_eq!(status, if ready { 200 } else { 503 }, "{body}");
        (ready, said)
    }

    /// Waits until readiness is as asked for, and gives what is said then.
    pub fn becomes(&self, ready: bool) -> Value {
        let end = Instant::now() + BOUND;
        loop {
            let (is, said) = self.ready();
            if is == ready {
                return said;
            }
            assert!(Instant::now() < end, "{}: {said}", self.role);
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    pub fn metrics(&self) -> Metrics {
        let (status, body) = self.get("/metrics");
        assert_eq!(status, 200, "{body}");
        Metrics::parse(&body)
    }

    /// Waits until its numbers are so, and gives them.
    pub fn metrics_when(&self, holds: impl Fn(&Metrics) -> bool) -> Metrics {
        let end = Instant::now() + BOUND;
        loop {
            let metrics = self.metrics();
            if holds(&metrics) {
                return metrics;
            }
            assert!(Instant::now() < end, "{}: {}", self.role, metrics.text);
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// What `/metrics` says.
pub struct Metrics {
    pub text: String,
    pub samples: Vec<Sample>,
}

pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Metrics {
    /// Reads it by its own rules: names, labels, and an end.
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with("# EOF\n"), "{text}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = match series.split_once('{') {
                None => (series, BTreeMap::new()),
                Some((name, labels)) => (name, Self::labels(labels.strip_suffix('}').unwrap())),
            };
            Sample {
                name: name.to_owned(),
                labels,
                value: value.parse().unwrap_or_else(|_| panic!("{line}")),
            }
        });
        Self {
            samples: samples.collect(),
            text: text.to_owned(),
        }
    }

    /// No value that willis gives has a quotation mark or a comma.
    fn labels(text: &str) -> BTreeMap<String, String> {
        let labels = text.split(',').map(|label| {
            let (name, value) = label.split_once('=').unwrap();
            let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            (name.to_owned(), value.to_owned())
        });
        labels.collect()
    }

    pub fn names(&self) -> BTreeSet<String> {
        self.samples.iter().map(|one| one.name.clone()).collect()
    }

    /// The one number of this name and with this label.
    pub fn value(&self, name: &str, label: Option<(&str, &str)>) -> f64 {
        let fits = |sample: &&Sample| {
            let has = |(key, value): (&str, &str)| sample.labels[key] == value;
            sample.name == name && label.is_none_or(has)
        };
        let found: Vec<_> = self.samples.iter().filter(fits).collect();
        assert_eq!(found.len(), 1, "{name} {label:?}: {}", self.text);
        found[0].value
    }
}
