//! Traces of a referral: one trace from registration to revocation, through people's programs and the
//! services that they call, as a collector receives it.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;
mod people;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dev::Dev;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use people::{Person, ask, begin_episode, sample, store, text};
use prost::Message;

/// How long spans may take until they are sent, which services do every 5 s.
const BOUND: Duration = Duration::from_secs(60);

/// A span as it came.
#[derive(Debug, Clone)]
struct Span {
    service: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
    attributes: BTreeMap<String, String>,
    events: usize,
}

/// A collector of traces.
struct Collector {
    address: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    /// Serves until the test ends.
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&spans);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = Arc::clone(&kept);
                let stream = stream.unwrap();
                std::thread::spawn(move || collect(stream, &kept));
            }
        });
        Self { address, spans }
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }
}

/// Takes what comes on one connection.
fn collect(mut stream: TcpStream, spans: &Mutex<Vec<Span>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if reader.read_line(&mut line).unwrap_or_default() == 0 {
            return;
        }
        assert!(line.starts_with("POST /v1/traces "), "{line}");
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let header = header.trim().to_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        spans.lock().unwrap().extend(decode(&body));
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

fn decode(body: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        let about = attributes(&resource.resource.unwrap().attributes);
        let known = ["service.name", "service.version"];
        assert!(
            about.keys().all(|key| known.contains(&key.as_str())),
            "{about:?}"
        );
        for scope in resource.scope_spans {
            spans.extend(scope.spans.into_iter().map(|span| Span {
                service: about["service.name"].clone(),
                trace: hex::encode(&span.trace_id),
                id: hex::encode(&span.span_id),
                parent: hex::encode(&span.parent_span_id),
                attributes: attributes(&span.attributes),
                events: span.events.len() + span.links.len(),
                name: span.name,
            }));
        }
    }
    spans
}

fn attributes(found: &[KeyValue]) -> BTreeMap<String, String> {
    let pairs = found.iter().map(|pair| {
        let value = match pair.value.as_ref().unwrap().value.as_ref().unwrap() {
            any_value::Value::StringValue(text) => text.clone(),
            any_value::Value::IntValue(number) => number.to_string(),
            other => panic!("{}: {other:?}", pair.key),
        };
        (pair.key.clone(), value)
    });
    pairs.collect()
}

#[test]
fn one_trace_covers_the_eleven_steps() {
    let collector = Collector::start();
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("dev");
    let roles = ["node", "hospital", "centre", "cloud", "query"];
    let variables = roles.map(|role| {
        format!(
            "WILLIS_{}_TRACES={}",
            role.to_uppercase(),
            collector.address
        )
    });
    let mut by = vec!["env"];
    by.extend(variables.iter().map(String::as_str));
    let dev = Dev::start_by(&folder, &by, &[]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let own = "00f067aa0ba902b7";
    let person = |role, name| {
        let mut person = Person::new(role, &folder, root.path(), name);
        person.set("WILLIS_TRACES", &collector.address);
        person.set("TRACEPARENT", &format!("00-{trace}-{own}-01"));
        person
    };
    let (patient, author) = (person("patient", "patient"), person("doctor", "author"));
    let reader = person("doctor", "reader");
    patient.enrols_as_patient("Chen Mei");
    author.enrols_as_doctor("Wang Li", 4);
    reader.enrols_as_doctor("Lin Hao", 1);
    let (episode, at_author) = begin_episode(&patient, &author);
    let file = sample("community-hospital/stroke-patient.json");
    store(&author, &at_author, &[&file]);
    assert_eq!(patient.does(&["receipts"])["kept"], 1);
    let inbox = text(&patient.does(&["inbox"]), "inbox");
    let request = ask(&reader, &inbox, "1");
    patient.does(&["requests", "--wait", "30"]);
    let granted = patient.does(&["grant", &request, "--episode", &episode]);
    reader.does(&["follow", &request]);
    let into = root.path().join("read");
    reader.does(&["read", &request, "--into", into.to_str().unwrap()]);
    patient.does(&["revoke", granted["grants"][0]["grant"].as_str().unwrap()]);

    let steps: BTreeSet<String> = (1..=11).map(|step| step.to_string()).collect();
    let served = |spans: &[Span]| -> BTreeSet<(String, String)> {
        let spans = spans.iter().filter(|span| span.trace == trace);
        spans
            .map(|span| (span.service.clone(), span.name.clone()))
            .collect()
    };
    // What the services did for each step, of which each is sent within some seconds.
    let expected = [
        ("willis centre", "POST /v1/enrolments"),
        ("willis hospital", "POST /v1/handovers"),
        ("willis cloud", "POST /v1/uploads"),
        ("willis hospital", "POST /v1/records"),
        ("willis query", "POST /v1/requests"),
        ("willis node", "POST /v1/grants"),
        ("willis node", "POST /v1/searches"),
        ("willis node", "POST /v1/shares"),
        ("willis node", "POST /v1/containers"),
        ("willis node", "POST /v1/transactions"),
    ];
    let end = Instant::now() + BOUND;
    let spans = loop {
        let spans = collector.spans();
        let found = served(&spans);
        let missing = expected
            .iter()
            .find(|(service, name)| !found.contains(&((*service).into(), (*name).into())));
        let Some(missing) = missing else {
            break spans;
        };
        assert!(Instant::now() < end, "{missing:?} is missing: {found:?}");
        std::thread::sleep(Duration::from_millis(200));
    };
    dev.stop();
    let of_trace: Vec<&Span> = spans.iter().filter(|span| span.trace == trace).collect();
    let people = |span: &&&Span| ["willis patient", "willis doctor"].contains(&&*span.service);
    let taken: BTreeSet<String> = of_trace
        .iter()
        .filter(people)
        .filter_map(|span| span.name.split_once(' '))
        .filter(|(step, _)| step.parse::<u32>().is_ok())
        .map(|(step, _)| step.to_owned())
        .collect();
    assert_eq!(taken, steps);
    // One tree: each span is within another one of the trace, up to what the variable named.
    let ids: BTreeSet<&str> = of_trace.iter().map(|span| span.id.as_str()).collect();
    for span in &of_trace {
        assert!(
            span.parent == own || ids.contains(span.parent.as_str()),
            "{span:?}"
        );
    }
    // Nothing is in a span but how it was called, and no line of a log.
    let keys = [
        "http.request.method",
        "http.route",
        "http.response.status_code",
    ];
    for span in &spans {
        assert_eq!(span.events, 0, "{span:?}");
        for (key, value) in &span.attributes {
            assert!(keys.contains(&key.as_str()), "{span:?}");
            assert!(value.len() < 64 && !value.contains('?'), "{span:?}");
        }
        let route = span.attributes.get("http.route");
        if let Some(route) = route {
            assert!(route == "none" || route.starts_with("/v1/"), "{span:?}");
        }
        let words = span.name.split(['/', ' ']);
        let plain = |word: &str| word.len() < 24 && !word.contains(['=', '?']);
        assert!(words.into_iter().all(plain), "{span:?}");
    }
}
