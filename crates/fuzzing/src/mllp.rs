//! HL7 v2 over MLLP as a hospital's systems send it to a gateway: what is acknowledged is kept, once.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gateway::intake::{MllpConfig, MllpServer, Queue, QueueBounds};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

use crate::input::Input;
use crate::served::{RUNTIME, at_end, connect};

/// No message takes longer.
const BOUND: Duration = Duration::from_secs(30);
/// A queue with so many deliveries makes room for a new one.
const WAITING_MAX: usize = 256;
/// As short as a listener may be told to keep messages.
const MESSAGE_BYTES_MAX: usize = 1_024;
/// Pieces in which an input comes.
const PIECES_MAX: usize = 16;

struct Listening {
    address: SocketAddr,
    queue: Queue,
    _stop: oneshot::Sender<()>,
    _folder: TempDir,
}

static LISTENING: Mutex<Option<Listening>> = Mutex::new(None);

fn listen() -> Listening {
    let folder = tempfile::tempdir().expect("a folder");
    let bounds = QueueBounds {
        deliveries_max: 2 * WAITING_MAX,
        ..QueueBounds::default()
    };
    let queue = Queue::open(folder.path(), bounds).expect("an empty folder");
    let mut config = MllpConfig::new((Ipv4Addr::LOCALHOST, 0).into());
    config.message_bytes_max = MESSAGE_BYTES_MAX;
    let server = RUNTIME.block_on(MllpServer::bind(config, queue.clone()));
    let server = server.expect("a free port");
    let address = server.address().expect("it listens");
    let (stop, stopped) = oneshot::channel::<()>();
    RUNTIME.spawn(server.serve(async {
        let _ = stopped.await;
    }));
    Listening {
        address,
        queue,
        _stop: stop,
        _folder: folder,
    }
}

/// The first byte says in how many pieces the others come.
pub fn run(bytes: &[u8]) {
    let mut listening = LISTENING.lock().unwrap_or_else(PoisonError::into_inner);
    if listening
        .as_ref()
        .is_none_or(|one| one.queue.counts().waiting >= WAITING_MAX)
    {
        if listening.is_none() {
            at_end(|| *LISTENING.lock().unwrap_or_else(PoisonError::into_inner) = None);
        }
        *listening = Some(listen());
    }
    let Some(Listening { address, queue, .. }) = listening.as_ref() else {
        return;
    };
    let mut input = Input::new(bytes);
    let pieces = 1 + input.below(PIECES_MAX);
    let bytes = input.rest();
    let before = queue.counts().waiting;
    let answered = RUNTIME.block_on(async {
        let mut stream = connect(*address).await;
        let mut answered = Vec::new();
        let talking = async {
            for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
                // It may have been hung up on.
                if stream.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let _ = stream.shutdown().await;
            while let Ok(1..) = stream.read_buf(&mut answered).await {}
        };
        let in_time = tokio::time::timeout(BOUND, talking).await;
        in_time.expect("the listener answers and hangs up");
        answered
    });

    let mut rest = answered.as_slice();
    let mut taken = 0;
    while let Some(begun) = rest.strip_prefix(b"\x0b") {
        let Some(end) = begun.windows(2).position(|end| end == b"\x1c\r") else {
            break;
        };
        let (answer, behind) = begun.split_at(end);
        let text = String::from_utf8_lossy(answer);
        assert!(text.starts_with("MSH"), "{text}");
        // Fields are divided as the sender divides them.
        let divider = text.chars().nth(3).unwrap_or_default();
        assert!(divider.is_ascii_punctuation(), "{text}");
        let acknowledges = text.split_once(&format!("\rMSA{divider}"));
        let (_, code) = acknowledges.expect("what it acknowledges");
        let code = code.get(..2).unwrap_or_default();
        assert!(
            ["AA", "AE", "AR", "CA", "CE", "CR"].contains(&code),
            "{text}"
        );
        taken += usize::from(code.ends_with('A'));
        rest = &behind[2..];
    }
    assert!(rest.is_empty(), "an answer without its frame");
    let new = queue.counts().waiting - before;
    let silent = bytes
        .split(|byte| *byte == 0x0b)
        .filter(|one| declines(one));
    assert!(
        new <= taken + silent.count(),
        "{new} were kept, {taken} acknowledged"
    );
    assert!(
        taken == 0 || queue.counts().waiting > 0,
        "what is acknowledged is not kept"
    );
}

/// Whether its sender wants to hear of failures alone (ER), or of nothing (NE), of some kind of answer:
/// MSH-15 and MSH-16.
fn declines(message: &[u8]) -> bool {
    let Some(divider) = message.get(3) else {
        return false;
    };
    let header = message.split(|byte| matches!(byte, b'\r' | b'\n')).next();
    let fields = header.unwrap_or_default().split(|byte| byte == divider);
    // The divider itself is MSH-1.
    fields.skip(14).take(2).any(|field| {
        let begins = field.first_chunk::<2>().map(|two| two.to_ascii_uppercase());
        begins.is_some_and(|two| two == b"NE" || two == b"ER")
    })
}

/// Messages in frames, one, two, in pieces, and what is no frame.
pub fn seeds() -> Vec<Vec<u8>> {
    let oru = "MSH|^~\\&|LAB|HOSP|WILLIS|HOSP|20261127||ORU^R01^ORU_R01|1|P|2.5.1\rPID|1||4711^^^HOSP||Doe^Jane\rOBX|1|NM|2345-7^Glucose^LN||5.4|mmol/L\r";
    let enhanced = "MSH|^~\\&|A|B|C|D|20261127||ADT^A01|102|P|2.6|||AL|AL\rPID|1||7^^^X~8^^^Y\r";
    let ack = "MSH|^~\\&|A|B|C|D|20261127||ACK|103|P|2.5\rMSA|AA|1\r";
    let training = "MSH|^~\\&|A|B|C|D|20261127||ADT^A01|104|T|2.5\r";
    let otherwise = "MSH~^|\\&~A~B~C~D~20261127~~ADT^A01~105~P~2.5\rPID~1~~7^^^X\r";
    let framed = |message: &str| [b"\x0b", message.as_bytes(), b"\x1c\r"].concat();
    let admission = include_str!("../../../samples/community-hospital/admission.hl7");
    let laboratory = include_str!("../../../samples/formats/laboratory.hl7");
    let mut seeds: Vec<Vec<u8>> = [
        oru, enhanced, ack, training, otherwise, admission, laboratory,
    ]
    .iter()
    .map(|message| [&[0], framed(message).as_slice()].concat())
    .collect();
    seeds.push([&[5], framed(oru).as_slice(), &framed(enhanced)].concat());
    seeds.push(
        [
            b"\x00noise\x0b",
            oru.as_bytes(),
            b"\x0b",
            ack.as_bytes(),
            b"\x1c\x1c\r",
        ]
        .concat(),
    );
    seeds.push([b"\x00\x0b", "MSH|^~\\&|".repeat(200).as_bytes(), b"\x1c\r"].concat());
    seeds.push(b"\x00GET / HTTP/1.1\r\n\r\n".to_vec());
    seeds
}
