//! A service on a loopback socket in this process, and calls to it that an input makes up.
//!
//! Each input comes from an address of its own within 127.0.0.0/8: a service counts what an address calls,
//! and one input must not use up what is another's.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use client::{CallHead, Problem, ServiceName, SignedCall, now};
use scheme::{ConsortiumId, Digest, SigningKey, sha256};
use services::Server;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::input::Input;

/// No call takes longer, the slowest builds on busy machines included.
const BOUND: Duration = Duration::from_secs(30);
/// For so long an answer is waited for that the caller asked to wait, and for a stream's next event.
const PATIENCE: Duration = Duration::from_millis(20);
/// No answer is longer: what an interface lists is cut into pages.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Calls of one input, on one connection.
const CALLS_MAX: usize = 4;
/// Bytes of an input that become a body.
const BODY_BYTES_MAX: usize = 2_048;

/// What serves and calls, in one thread.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
});

/// Completes when a service has to end.
pub(crate) type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves on a free port of the loopback address until the targets' end, and lets go of the folder then.
pub(crate) async fn until_the_end<Serving>(
    folder: TempDir,
    serve: impl FnOnce(Server, Stopped) -> Serving,
) -> SocketAddr
where
    Serving: Future<Output = ()> + Send + 'static,
{
    let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), None).await;
    let server = server.expect("a free port");
    let address = server.address().expect("it listens");
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = serve(server, Box::pin(async { drop(stopped.await) }));
    let serving = tokio::spawn(async move {
        serving.await;
        drop(folder);
    });
    at_end(move || {
        drop(stop);
        let _: Result<(), _> = RUNTIME.block_on(serving);
    });
    address
}

/// A service under test.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) consortium: ConsortiumId,
    pub(crate) name: ServiceName,
    /// Method and path; each `{}` is filled in by the input.
    pub(crate) paths: &'static [(&'static str, &'static str)],
}

/// What fills in paths and bodies.
pub(crate) trait Known {
    /// A text for a path's place.
    fn segment(&self, which: u8) -> String;
    /// A body that a caller might send.
    fn body(&self, which: u8) -> Vec<u8>;
    /// Whose call it is.
    fn key(&self, which: u8) -> &SigningKey;
    /// What a call that was done was answered with.
    fn heard(&self, _body: &[u8]) {}
    /// The key of a call that is made once. Whose keys another input has too names none of that one's.
    fn once(&self) -> String {
        "once".to_owned()
    }
    /// A header line with its end, of those that this interface reads.
    fn header(&self, _input: &mut Input<'_>) -> &'static str {
        ""
    }
}

/// Keys of calls, of which no other input has one.
pub(crate) struct Once {
    input: Digest,
    calls: AtomicU32,
}

impl Once {
    pub(crate) fn of(input: &[u8]) -> Self {
        Self {
            input: sha256(input),
            calls: AtomicU32::new(0),
        }
    }

    pub(crate) fn next(&self) -> String {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", &self.input.to_string()[..16])
    }
}

const METHODS: [&str; 8] = [
    "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW",
];
const QUERIES: [&str; 12] = [
    "",
    "?after=0",
    "?after=18446744073709551615",
    "?for_good=true",
    "?height=1",
    "?height=0",
    "?wait=1",
    "?from=0",
    "?epoch=0",
    "?offset=0",
    "?after=-1",
    "?a=b&a=b",
];

/// One call as it goes over the wire.
struct Call {
    method: String,
    target: String,
    bytes: Vec<u8>,
}

impl Served {
    /// Plays an input: calls that are well-formed, or bytes as they are. Gives the status of each answer to
    /// a call.
    pub(crate) fn play(&self, known: &dyn Known, mut input: Input<'_>) -> Vec<u16> {
        RUNTIME.block_on(async {
            let mut stream = connect(self.address).await;
            let mut statuses = Vec::new();
            if input.below(8) == 7 {
                raw(&mut stream, input.rest()).await;
                return statuses;
            }
            for _ in 0..CALLS_MAX {
                let call = self.call(known, &mut input);
                let Some(answer) = answered(&mut stream, &call).await else {
                    break;
                };
                statuses.push(answer.status);
                if answer.status < 300 {
                    known.heard(&answer.body);
                }
                if answer.ends || input.is_empty() {
                    break;
                }
            }
            statuses
        })
    }

    fn call(&self, known: &dyn Known, input: &mut Input<'_>) -> Call {
        let what = input.below(self.paths.len() + 2);
        let (method, mut target) = match self.paths.get(what) {
            Some((method, path)) => {
                let mut target = String::new();
                for (place, part) in path.split("{}").enumerate() {
                    if place > 0 {
                        target.push_str(&segment(known, input));
                    }
                    target.push_str(part);
                }
                (*method, target)
            }
            // Any method on a path that exists, or any path.
            None if what == self.paths.len() => {
                let (_, path) = self.paths[input.below(self.paths.len())];
                let target = path.replace("{}", &segment(known, input));
                (METHODS[input.below(METHODS.len())], target)
            }
            None => {
                let path = visible(input.short());
                (METHODS[input.below(METHODS.len())], format!("/{path}"))
            }
        };
        match input.below(4) {
            0 | 1 => {}
            2 => target.push_str(QUERIES[input.below(QUERIES.len())]),
            _ => {
                target.push('?');
                target.push_str(&visible(input.short()));
            }
        }
        let mut body = match input.below(4) {
            0 => Vec::new(),
            1 | 2 => known.body(input.u8()),
            _ => {
                let length = usize::from(input.u16()) % BODY_BYTES_MAX;
                input.take(length).to_vec()
            }
        };
        let flags = input.u8();
        // A body with some bytes changed.
        if flags & 1 == 1 && !body.is_empty() {
            for _ in 0..1 + input.below(3) {
                let at = usize::from(input.u16()) % body.len();
                body[at] ^= input.u8();
            }
        }
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: here\r\n");
        match flags >> 1 & 3 {
            0 | 1 => head.push_str("Content-Type: application/json\r\n"),
            2 => head.push_str("Content-Type: application/octet-stream\r\n"),
            _ => head.push_str(&format!("Content-Type: {}\r\n", value(input.short()))),
        }
        let idempotency = match flags >> 3 & 3 {
            0 | 1 => String::new(),
            2 => known.once(),
            _ => value(input.short()),
        };
        if !idempotency.is_empty() {
            head.push_str(&format!("Idempotency-Key: {idempotency}\r\n"));
        }
        match flags >> 5 & 3 {
            0..=2 => {
                let mut nonce = [0; 16];
                nonce[..4].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
                nonce[4..].copy_from_slice(&sha256(&body).as_bytes()[..12]);
                let signed = CallHead {
                    service: self.name,
                    method,
                    target: &target,
                    idempotency_key: &idempotency,
                };
                let key = known.key(flags >> 5 & 3);
                let call =
                    SignedCall::sign(&self.consortium, key, &signed, sha256(&body), now(), nonce);
                head.push_str(&format!("Authorization: {}\r\n", call.header()));
            }
            _ => {
                if flags & 0x80 != 0 {
                    head.push_str(&format!("Authorization: {}\r\n", value(input.short())));
                }
            }
        }
        head.push_str(known.header(input));
        if flags & 0x80 != 0 {
            let name = token(input.short());
            head.push_str(&format!("{name}: {}\r\n", value(input.short())));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        Call {
            method: method.to_owned(),
            target,
            bytes: [head.as_bytes(), &body].concat(),
        }
    }
}

fn segment(known: &dyn Known, input: &mut Input<'_>) -> String {
    match input.u8() {
        which @ 0..=191 => known.segment(which),
        _ => visible(input.short()),
    }
}

/// Bytes as a target holds them: what is no visible character is percent-encoded.
fn visible(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'!'..=b'~' if !b"#\"<>\\^`{|}".contains(byte) => out.push(char::from(*byte)),
            _ => out.push_str(&format!("%{byte:02x}")),
        }
    }
    out
}

/// Bytes as a header's value may be.
fn value(bytes: &[u8]) -> String {
    let shown = bytes.iter().map(|byte| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => '.',
    });
    shown.collect::<String>().trim().to_owned()
}

/// A header's name that says nothing about the message's frame.
fn token(bytes: &[u8]) -> String {
    let letters = bytes
        .iter()
        .filter(|byte| byte.is_ascii_alphanumeric() || **byte == b'-');
    let name: String = letters.map(|byte| char::from(*byte)).collect();
    let framing = [
        "content-length",
        "transfer-encoding",
        "expect",
        "connection",
        "upgrade",
        "host",
    ];
    match name.is_empty() || framing.contains(&name.to_ascii_lowercase().as_str()) {
        true => format!("X-{name}"),
        false => name,
    }
}

static NEXT: AtomicU32 = AtomicU32::new(0);

type Ending = Box<dyn FnOnce() + Send>;

/// What ends the services that were begun.
static ENDINGS: Mutex<Vec<Ending>> = Mutex::new(Vec::new());

/// Says how a service is ended that has begun.
pub(crate) fn at_end(ending: impl FnOnce() + Send + 'static) {
    let mut endings = ENDINGS.lock().unwrap_or_else(PoisonError::into_inner);
    endings.push(Box::new(ending));
}

/// Ends every service that was begun and removes its files. No target may be run after it.
pub fn end() {
    let endings = std::mem::take(&mut *ENDINGS.lock().unwrap_or_else(PoisonError::into_inner));
    for ending in endings {
        ending();
    }
}

pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % 0x00ff_fffe;
    let own = Ipv4Addr::from(0x7f00_0001 + number);
    let connecting = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((own, 0).into())?;
        socket.connect(address).await
    };
    connecting.await.expect("a service on this machine")
}

/// Sends a call and judges its answer; none if it waits for longer than anybody has the patience for.
async fn answered(stream: &mut TcpStream, call: &Call) -> Option<Answer> {
    let Call { method, target, .. } = call;
    let sent = stream.write_all(&call.bytes).await;
    assert!(sent.is_ok(), "{method} {target} is not read");
    // These wait because the caller asks them to.
    let waits = ["wait", "after", "height", "events"];
    let waits = waits.iter().any(|word| target.contains(word));
    let bound = if waits { PATIENCE } else { BOUND };
    match tokio::time::timeout(bound, answer(stream, method)).await {
        Ok(Some(answer)) => {
            judge(&answer, call);
            Some(answer)
        }
        Ok(None) => panic!("{method} {target} has no answer"),
        Err(_) => {
            assert!(waits, "{method} {target} takes too long");
            None
        }
    }
}

struct Answer {
    status: u16,
    kind: String,
    body: Vec<u8>,
    /// The connection ends with it, or it has no end.
    ends: bool,
}

/// The next answer; none if the connection is closed before.
async fn answer(stream: &mut TcpStream, method: &str) -> Option<Answer> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
        assert!(bytes.len() < ANSWER_BYTES_MAX, "an endless head");
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.get(9..12)?.parse().ok()?;
    let field = |name: &str| {
        let mut lines = head.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    };
    let kind = field("content-type:").unwrap_or_default();
    let ends = field("connection:").is_some_and(|value| value == "close");
    let mut body = bytes.split_off(end);
    let length = field("content-length:").and_then(|length| length.parse().ok());
    let length: usize = match length {
        _ if method == "HEAD" || status == 204 || status == 304 => 0,
        Some(length) => length,
        // In chunks, of which the first is enough: a stream has no last.
        None => {
            return Some(Answer {
                status,
                kind,
                body,
                ends: true,
            });
        }
    };
    assert!(length < ANSWER_BYTES_MAX, "an answer of {length} bytes");
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Answer {
        status,
        kind,
        body,
        ends,
    })
}

/// No failure of the service's own, and a reason for every refusal. What is busy says so.
fn judge(answer: &Answer, call: &Call) {
    let Answer {
        status, kind, body, ..
    } = answer;
    let Call { method, target, .. } = call;
    assert!((200..600).contains(status));
    assert!(
        *status < 500 || *status == 503,
        "{method} {target}: {status} {}",
        String::from_utf8_lossy(body)
    );
    if *status >= 400 && method != "HEAD" {
        assert!(
            kind == "application/problem+json",
            "{method} {target}: {status} of type {kind}"
        );
        let problem: Problem = serde_json::from_slice(body).expect("a problem document");
        assert!(
            problem.status() == *status && problem.detail().len() > 10,
            "{problem:?}"
        );
    }
}

/// Bytes that may be no HTTP at all: whatever is answered is no failure of the service's.
async fn raw(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answered = Vec::new();
    let reading = async {
        while let Ok(1..) = stream.read_buf(&mut answered).await {
            if answered.len() > ANSWER_BYTES_MAX {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(10 * PATIENCE, reading).await;
    for (at, _) in answered
        .windows(9)
        .enumerate()
        .filter(|(_, nine)| nine == b"HTTP/1.1 ")
    {
        // A body may say the same in other words, so only a line of its own counts.
        if at == 0 || answered[..at].ends_with(b"}") || answered[..at].ends_with(b"\n") {
            let status = answered.get(at + 9..at + 12).unwrap_or_default();
            assert!(
                !status.starts_with(b"5") || status == b"503",
                "a failure: {:?}",
                String::from_utf8_lossy(&answered)
            );
        }
    }
}
