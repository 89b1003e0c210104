//! Messages over real connections: what is acknowledged is on the disk, and what is not is not.
#![allow(clippy::unwrap_used, reason = "a test")]

mod given;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use gateway::intake::{MllpConfig, MllpError, MllpServer, Queue, QueueBounds};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use given::{Act, BOUND, Scripted, copy, empty, names, open, sample};

/// A server that ends with the test.
struct Serving {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Serving {
    async fn start(queue: &Queue, change: impl FnOnce(&mut MllpConfig)) -> Self {
        let mut config = MllpConfig::new("127.0.0.1:0".parse().unwrap());
        config.processing_ids.push("T".to_owned());
        change(&mut config);
        let server = MllpServer::bind(config, queue.clone()).await.unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        Self {
            address,
            stop,
            served,
        }
    }

    async fn connect(&self) -> Sender {
        Sender(TcpStream::connect(self.address).await.unwrap())
    }

    async fn end(self) {
        let _ = self.stop.send(());
        tokio::time::timeout(BOUND, self.served)
            .await
            .unwrap()
            .unwrap();
    }
}

struct Sender(TcpStream);

impl Sender {
    /// Sends a message in a frame, and gives what is answered, without its frame.
    async fn send(&mut self, message: &[u8]) -> String {
        let framed = [b"\x0b", message, b"\x1c\x0d"].concat();
        self.0.write_all(&framed).await.unwrap();
        self.answer().await.expect("an answer")
    }

    /// The next answer; none if the connection was closed.
    async fn answer(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\x1c\x0d") {
            let byte = tokio::time::timeout(BOUND, self.0.read_u8()).await.unwrap();
            bytes.push(byte.ok()?);
        }
        let text = bytes
            .strip_prefix(b"\x0b")
            .unwrap()
            .strip_suffix(b"\x1c\x0d")
            .unwrap();
        Some(String::from_utf8(text.to_vec()).unwrap())
    }
}

fn oru(control_id: &str) -> Vec<u8> {
    format!(
        "MSH|^~\\&|LAB|HOSP|WILLIS|HOSP|20261127||ORU^R01^ORU_R01|{control_id}|P|2.5.1\r\
         PID|1||4711^^^HOSP||Doe^Jane\rOBX|1|NM|2345-7^Glucose^LN||5.4|mmol/L\r"
    )
    .into_bytes()
}

/// Code and control id of an acknowledgement.
fn msa(answer: &str) -> &str {
    let (_, rest) = answer.split_once("\rMSA|").expect("an MSA segment");
    let end = rest.find('\r').unwrap();
    let text = &rest[..end];
    let id = text.find('|').unwrap();
    match text[id + 1..].find('|') {
        Some(second) => &text[..=id + second],
        None => text,
    }
}

/// A message was dropped unanswered if what came behind it is no frame and was read together with it.
#[tokio::test]
async fn a_message_before_noise_is_taken_and_its_sender_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let serving = Serving::start(&queue, |_| {}).await;
    let mut sender = serving.connect().await;
    let noise = vec![b' '; 200_000];
    let bytes = [b"\x0b", &oru("1")[..], b"\x1c\x0d", &noise].concat();
    sender.0.write_all(&bytes).await.unwrap();
    assert_eq!(msa(&sender.answer().await.unwrap()), "AA|1");
    assert_eq!(sender.answer().await, None, "the connection is closed");
    assert_eq!(queue.counts().waiting, 1);
    serving.end().await;
}

#[tokio::test]
async fn messages_are_stored_as_they_came_and_acknowledged_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let serving = Serving::start(&queue, |_| {}).await;
    let mut sender = serving.connect().await;
    assert_eq!(msa(&sender.send(&oru("1")).await), "AA|1");
    // An admission of a real system: line feeds, an odd escape, and the enhanced mode.
    let admission = fs::read(sample("community-hospital/admission.hl7")).unwrap();
    let answer = sender.send(&admission).await;
    assert_eq!(msa(&answer), "CA|102");
    assert!(
        answer.contains("|PACS|050|SE050|050|") && answer.contains("|T|2.6\r"),
        "{answer}"
    );
    // Two in one write, and one in pieces.
    let two = [
        b"\x0b",
        &oru("2")[..],
        b"\x1c\x0d\x0b",
        &oru("3"),
        b"\x1c\x0d",
    ]
    .concat();
    sender.0.write_all(&two).await.unwrap();
    assert_eq!(msa(&sender.answer().await.unwrap()), "AA|2");
    assert_eq!(msa(&sender.answer().await.unwrap()), "AA|3");
    for piece in [b"\x0b", &oru("4")[..], b"\x1c", b"\x0d"]
        .concat()
        .chunks(7)
    {
        sender.0.write_all(piece).await.unwrap();
        sender.0.flush().await.unwrap();
    }
    assert_eq!(msa(&sender.answer().await.unwrap()), "AA|4");
    serving.end().await;
    assert_eq!(sender.answer().await, None, "the connection is closed");

    let destination = Scripted::default();
    empty(&queue, &destination).await.unwrap();
    let got = destination.taken();
    let references: Vec<_> = got.iter().map(|got| got.reference.as_str()).collect();
    assert_eq!(references, ["1", "102", "2", "3", "4"]);
    assert_eq!(got[0].files, [("ORU_R01-1.hl7".to_owned(), oru("1"))]);
    assert_eq!(got[1].files, [("ADT_A01-102.hl7".to_owned(), admission)]);
    let number = |system: &str, value: &str| (system.to_owned(), value.to_owned());
    assert_eq!(got[0].patient, [number("HOSP", "4711")]);
    assert_eq!(
        got[1].patient,
        [number("A", "PID1234"), number("USA", "1234568965")]
    );
}

#[tokio::test]
async fn an_acknowledgement_says_what_is_on_the_disk_at_that_moment() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let serving = Serving::start(&queue, |_| {}).await;
    let mut sender = serving.connect().await;
    for number in 1..=5 {
        assert_eq!(
            msa(&sender.send(&oru(&number.to_string())).await),
            format!("AA|{number}")
        );
        // The machine stops now: another process finds all that was acknowledged.
        let after = tempfile::tempdir().unwrap();
        copy(folder.path(), after.path());
        let found = open(after.path());
        assert_eq!(found.counts().waiting, number);
    }
    // What cannot be kept is not acknowledged, and nothing of it is left.
    fs::rename(folder.path().join("waiting"), folder.path().join("away")).unwrap();
    let answer = sender.send(&oru("6")).await;
    assert_eq!(msa(&answer), "AE|6");
    assert!(
        answer.contains("disk could not keep the message"),
        "{answer}"
    );
    fs::rename(folder.path().join("away"), folder.path().join("waiting")).unwrap();
    assert!(names(folder.path().join("drafts")).is_empty());
    assert_eq!(queue.counts().waiting, 5);
    // Its sender sends it again.
    assert_eq!(msa(&sender.send(&oru("6")).await), "AA|6");
    serving.end().await;
    assert_eq!(queue.counts().waiting, 6);
}

#[tokio::test]
async fn a_message_that_comes_again_is_acknowledged_and_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let destination = Scripted::default();
    let mut serving = Serving::start(&queue, |_| {}).await;
    let mut sender = serving.connect().await;
    for _ in 0..2 {
        assert_eq!(msa(&sender.send(&oru("1")).await), "AA|1");
    }
    assert_eq!(queue.counts().waiting, 1);
    empty(&queue, &destination).await.unwrap();
    // Also after it was delivered, and to a later process.
    for _ in 0..2 {
        assert_eq!(msa(&sender.send(&oru("1")).await), "AA|1");
        assert_eq!(queue.counts().waiting, 0);
        serving.end().await;
        serving = Serving::start(&queue, |_| {}).await;
        sender = serving.connect().await;
    }
    // A control id that is used again for something else is no repetition.
    let mut other = oru("1");
    other.extend_from_slice(b"OBX|2|NM|718-7^Hb^LN||12.1|g/dL\r");
    assert_eq!(msa(&sender.send(&other).await), "AA|1");
    serving.end().await;
    empty(&queue, &destination).await.unwrap();
    let bytes: Vec<_> = destination
        .taken()
        .iter()
        .map(|got| got.files[0].1.clone())
        .collect();
    assert_eq!(bytes, [oru("1"), other]);
}

#[tokio::test]
async fn what_is_not_stored_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let limits = |config: &mut MllpConfig| {
        config.message_bytes_max = 2_000;
        config.processing_ids = vec!["P".to_owned()];
    };
    let serving = Serving::start(&queue, limits).await;
    let mut sender = serving.connect().await;
    let text = |message: Vec<u8>| String::from_utf8(message).unwrap();
    let of = |from: &str, to: &str| text(oru("7")).replace(from, to).into_bytes();
    let long = [oru("7"), vec![b'x'; 2_000]].concat();
    let refused: [(Vec<u8>, &str, &str); 8] = [
        (of("PID|1", "NTE|1"), "AR|7", "200^Unsupported message type"),
        (of("4711^^^HOSP", ""), "AR|7", "fill PID-3"),
        (of("|P|", "|T|"), "AR|7", "202^Unsupported processing id"),
        (of("|7|P", "||P"), "AR|", "fill MSH-10"),
        (of("MSH|", "BHS|"), "AR|", "one message in each frame"),
        (b"".to_vec(), "AR|", "does not begin with an MSH segment"),
        (long, "AR|7", "longer than this gateway takes"),
        (
            of("OBX|1", "PID|2||4712^^^HOSP\rOBX|1"),
            "AR|7",
            "more than one patient",
        ),
    ];
    for (message, code, why) in refused {
        let answer = sender.send(&message).await;
        assert_eq!(msa(&answer), code, "{answer}");
        assert!(answer.contains(why), "{answer}");
    }
    // An acknowledgement is not answered; the next message is.
    sender
        .0
        .write_all(b"\x0bMSH|^~\\&|A|B|C|D|1||ACK^R01|9|P|2.5\rMSA|AA|1\r\x1c\x0d")
        .await
        .unwrap();
    assert_eq!(msa(&sender.send(&oru("8")).await), "AA|8");
    // Whoever speaks another protocol is not listened to.
    let mut other = serving.connect().await;
    other.0.write_all(&vec![b'G'; 10_000]).await.unwrap();
    assert_eq!(other.answer().await, None);
    serving.end().await;
    assert_eq!(queue.counts().waiting, 1);
}

#[tokio::test]
async fn a_full_queue_says_later_and_takes_the_message_then() {
    let folder = tempfile::tempdir().unwrap();
    let bounds = QueueBounds {
        deliveries_max: 1,
        ..QueueBounds::default()
    };
    let queue = Queue::open(folder.path(), bounds).unwrap();
    let serving = Serving::start(&queue, |_| {}).await;
    let mut sender = serving.connect().await;
    assert_eq!(msa(&sender.send(&oru("1")).await), "AA|1");
    let answer = sender.send(&oru("2")).await;
    assert_eq!(msa(&answer), "AE|2");
    assert!(answer.contains("send it again later"), "{answer}");
    let destination = Scripted::new([Act::Passing("Away: wait.")]);
    empty(&queue, &destination).await.unwrap();
    assert_eq!(msa(&sender.send(&oru("2")).await), "AA|2");
    serving.end().await;
    empty(&queue, &destination).await.unwrap();
    assert_eq!(destination.taken().len(), 2);
}

#[tokio::test]
async fn connections_are_bounded_and_silent_ones_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let one = |config: &mut MllpConfig| {
        config.connections_max = 1;
        config.idle_seconds = 1;
    };
    let serving = Serving::start(&queue, one).await;
    let mut silent = serving.connect().await;
    assert_eq!(msa(&silent.send(&oru("1")).await), "AA|1");
    // It waits until the first has been silent for long enough.
    let mut waits = serving.connect().await;
    assert_eq!(msa(&waits.send(&oru("2")).await), "AA|2");
    assert_eq!(silent.answer().await, None);
    serving.end().await;
}

#[tokio::test]
async fn only_named_senders_reach_it_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let bind =
        |listen: &str| MllpServer::bind(MllpConfig::new(listen.parse().unwrap()), queue.clone());
    assert!(matches!(
        bind("0.0.0.0:0").await,
        Err(MllpError::Everywhere(_))
    ));
    assert!(matches!(
        bind("[::]:0").await,
        Err(MllpError::Everywhere(_))
    ));
    assert!(matches!(
        bind("192.0.2.1:0").await,
        Err(MllpError::NoSenders(_))
    ));
    let mut config = MllpConfig::new("127.0.0.1:0".parse().unwrap());
    config.connections_max = 0;
    let refused = MllpServer::bind(config, queue.clone()).await;
    assert!(matches!(
        refused,
        Err(MllpError::Range("connections_max", _))
    ));

    let named = |name: &'static str| {
        move |config: &mut MllpConfig| config.senders = vec![name.parse().unwrap()]
    };
    let serving = Serving::start(&queue, named("192.0.2.7")).await;
    let mut sender = serving.connect().await;
    let _ = sender.0.write_all(b"\x0b").await;
    assert_eq!(sender.answer().await, None);
    serving.end().await;
    let serving = Serving::start(&queue, named("127.0.0.1")).await;
    assert_eq!(msa(&serving.connect().await.send(&oru("1")).await), "AA|1");
    serving.end().await;
}

/// Set in a process that is nothing but a server, for the test below: the folder of its queue.
const SERVER_OF: &str = "WILLIS_TEST_MLLP_SERVER_OF";

/// The server of the test below; nothing in any other process.
#[tokio::test]
async fn a_server_in_a_process_of_its_own() {
    let Some(folder) = std::env::var_os(SERVER_OF).map(PathBuf::from) else {
        return;
    };
    let queue = open(&folder.join("queue"));
    let serving = Serving::start(&queue, |_| {}).await;
    fs::write(folder.join("address.new"), serving.address.to_string()).unwrap();
    fs::rename(folder.join("address.new"), folder.join("address")).unwrap();
    // Until it is killed, or the test that began it is gone and with it the pipe.
    tokio::io::stdin().read_u8().await.unwrap_err();
    serving.end().await;
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_kill_at_any_moment() {
    const MESSAGES: usize = 60;
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("address");
    // The oldest message that is not acknowledged is sent again after each kill, as senders do.
    let mut acknowledged = 0;
    for round in 0.. {
        let mut server = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_server_in_a_process_of_its_own"])
            .env(SERVER_OF, folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let up = async {
            while !address.exists() {
                assert!(server.try_wait().unwrap().is_none(), "the server ended");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(BOUND, up).await.unwrap();
        let stream = TcpStream::connect(fs::read_to_string(&address).unwrap());
        let mut sender = Sender(stream.await.unwrap());
        for _ in 0..=round {
            let answer = sender.send(&oru(&acknowledged.to_string())).await;
            assert_eq!(msa(&answer), format!("AA|{acknowledged}"));
            acknowledged += 1;
        }
        // Several more are on their way when it is killed, a little later in each round.
        for number in acknowledged..acknowledged + 5 {
            let framed = [b"\x0b", &oru(&number.to_string())[..], b"\x1c\x0d"].concat();
            sender.0.write_all(&framed).await.unwrap();
        }
        tokio::time::sleep(Duration::from_micros(700 * round)).await;
        server.kill().unwrap();
        server.wait().unwrap();
        while let Some(answer) = sender.answer().await {
            assert_eq!(msa(&answer), format!("AA|{acknowledged}"));
            acknowledged += 1;
        }
        fs::remove_file(&address).unwrap();
        if acknowledged >= MESSAGES {
            break;
        }
    }
    let queue = open(&folder.path().join("queue"));
    let destination = Scripted::default();
    empty(&queue, &destination).await.unwrap();
    let mut got: Vec<usize> = Vec::new();
    for delivery in destination.taken() {
        got.push(delivery.reference.parse().unwrap());
        assert_eq!(delivery.files[0].1, oru(&delivery.reference));
    }
    // Each once and in their order; of the last five some may have been stored and not acknowledged.
    assert!(got.len() >= acknowledged && got.len() <= acknowledged + 5);
    assert_eq!(got, (0..got.len()).collect::<Vec<_>>());
    assert_eq!(queue.counts().dead, 0);
}
