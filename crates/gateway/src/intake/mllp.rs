//! HL7 v2 messages over MLLP (release 1): frames of 0x0b, message, 0x1c 0x0d on a TCP connection, many
//! on each, acknowledged in turn. A positive acknowledgement is written after [`Queue::accept`] returned,
//! so it never says more than what is on the disk.
//!
//! MLLP knows neither encryption nor who speaks. It listens on a loopback address, or on the one address
//! of the hospital's network that it is given, and there it takes connections of named senders only.
//! `talk` works on any stream, so that TLS can be put under it.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::{SystemRandom, now};
use rand_core::Rng;
use record::{FileName, MediaType};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::delivery::{DeliveryKey, NewDelivery, Source};
use super::hl7::{Fault, Header, Outcome, acknowledgements, patient_numbers};
use super::queue::{Accepted, NewFile, NotAccepted, Queue};

/// Begins a frame.
const BEGIN: u8 = 0x0b;
/// Ends a frame, together with [`END_2`].
const END_1: u8 = 0x1c;
const END_2: u8 = 0x0d;

/// Bytes of a message by default: documents within messages are base64 of PDFs of up to 10 MB. With 16
/// connections, each with one message in memory and one growing buffer, that is at most 16 x 2 x 16 MiB
/// = 512 MiB.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What [`MESSAGE_BYTES_MAX`] may be configured to.
const MESSAGE_BYTES_RANGE: std::ops::RangeInclusive<usize> = 1_024..=64 * 1024 * 1024;
/// Connections at once by default: a hospital's interface engine keeps one for each kind of message.
const CONNECTIONS_MAX: usize = 16;
/// What [`CONNECTIONS_MAX`] may be configured to.
const CONNECTIONS_RANGE: std::ops::RangeInclusive<usize> = 1..=256;
/// How long a connection may be silent between two messages by default. Senders connect again.
const IDLE_SECONDS: u64 = 600;
/// How long a message may pause once it has begun, and how long an answer may take to be read.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long what is being stored may go on after the gateway was asked to stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long, and for how many bytes, a sender that speaks no MLLP is listened to once it was hung up on.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 1 << 20;
/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;
/// Bytes between two frames that are passed over; real senders put line ends there. Who sends more does
/// not speak MLLP.
const NOISE_BYTES_MAX: usize = 4_096;
/// Bytes that are kept of a message that is too long, to answer it: its header.
const HEAD_BYTES: usize = 4_096;
/// A message that is longer than this many times the bound is no longer waited for.
const ENDLESS: usize = 4;
/// Characters of a control id in a file's name.
const NAMED_ID_CHARS_MAX: usize = 40;

/// `[mllp]` of a gateway's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MllpConfig {
    /// Where it listens: a loopback address, or one address of the hospital's network.
    pub listen: SocketAddr,
    /// Who may connect. Anyone who can reach a loopback address may, if none is named.
    #[serde(default)]
    pub senders: Vec<IpAddr>,
    /// Connections at once, 1 to 256; further ones wait. 16 by default.
    #[serde(default = "default_connections_max")]
    pub connections_max: usize,
    /// The longest message, 1 KiB to 64 MiB. 16 MiB by default.
    #[serde(default = "default_message_bytes_max")]
    pub message_bytes_max: usize,
    /// After how many silent seconds a connection is closed, from 1 on. 600 by default.
    #[serde(default = "default_idle_seconds")]
    pub idle_seconds: u64,
    /// Which messages are stored by their MSH-11: P of production, T of training, D of debugging. P
    /// alone by default; one that does not say is stored.
    #[serde(default = "default_processing_ids")]
    pub processing_ids: Vec<String>,
}

fn default_connections_max() -> usize {
    CONNECTIONS_MAX
}

fn default_message_bytes_max() -> usize {
    MESSAGE_BYTES_MAX
}

fn default_idle_seconds() -> u64 {
    IDLE_SECONDS
}

fn default_processing_ids() -> Vec<String> {
    vec!["P".to_owned()]
}

impl MllpConfig {
    /// With what is taken by default.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            senders: Vec::new(),
            connections_max: default_connections_max(),
            message_bytes_max: default_message_bytes_max(),
            idle_seconds: default_idle_seconds(),
            processing_ids: default_processing_ids(),
        }
    }
}

/// Why messages are not listened for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MllpError {
    /// The address cannot be listened on.
    #[error("{0} cannot be listened on: {1}; choose another address or stop who uses it")]
    Listen(SocketAddr, #[source] io::Error),
    /// Patients' data would be taken on every network of the machine.
    #[error(
        "{0} is every address of this machine: give mllp a loopback address or the one address in the hospital's network"
    )]
    Everywhere(SocketAddr),
    /// Anyone in the network could store records.
    #[error("{0} is no loopback address: name the senders that may connect to it in mllp.senders")]
    NoSenders(SocketAddr),
    /// A number is out of its range.
    #[error("mllp.{0} is out of its range: {1}")]
    Range(&'static str, &'static str),
}

/// A listener for HL7 v2 messages.
pub struct MllpServer {
    listener: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    config: MllpConfig,
    queue: Queue,
}

impl MllpServer {
    /// Listens; port 0 is any free one.
    ///
    /// # Errors
    /// [`MllpError`].
    pub async fn bind(config: MllpConfig, queue: Queue) -> Result<Self, MllpError> {
        let address = config.listen;
        if address.ip().is_unspecified() {
            return Err(MllpError::Everywhere(address));
        }
        if !address.ip().is_loopback() && config.senders.is_empty() {
            return Err(MllpError::NoSenders(address));
        }
        if !CONNECTIONS_RANGE.contains(&config.connections_max) {
            return Err(MllpError::Range("connections_max", "give 1 to 256"));
        }
        if !MESSAGE_BYTES_RANGE.contains(&config.message_bytes_max) {
            return Err(MllpError::Range(
                "message_bytes_max",
                "give 1,024 to 67,108,864",
            ));
        }
        if config.idle_seconds == 0 {
            return Err(MllpError::Range("idle_seconds", "give 1 or more"));
        }
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| MllpError::Listen(address, error))?;
        Ok(Self {
            listener,
            shared: Arc::new(Shared { config, queue }),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// [`MllpError::Listen`] if the system does not say.
    pub fn address(&self) -> Result<SocketAddr, MllpError> {
        let asked = self.shared.config.listen;
        let address = self.listener.local_addr();
        address.map_err(|error| MllpError::Listen(asked, error))
    }

    /// Takes messages until `stop` completes; what is being stored then is stored and acknowledged,
    /// within 5 s.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let free = Arc::new(Semaphore::new(self.shared.config.connections_max));
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            // A connection above the bound waits in the system's queue, which has its own.
            let permit = Arc::clone(&free).acquire_owned();
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = async { (permit.await, self.listener.accept().await) } => accepted,
            };
            let (Ok(permit), accepted) = accepted else {
                break;
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, peer)) => {
                    let senders = &self.shared.config.senders;
                    if !senders.is_empty() && !senders.contains(&peer.ip().to_canonical()) {
                        tracing::warn!("a sender that is not in mllp.senders was turned away");
                        continue;
                    }
                    let _ = stream.set_nodelay(true);
                    let (shared, stopped) = (Arc::clone(&self.shared), stopped.clone());
                    connections.spawn(async move {
                        shared.talk(stream, stopped).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Such as no file descriptors left: others may close some.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.listener);
        let _ = stopping.send(true);
        let ended = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, ended).await;
    }
}

impl Shared {
    /// Takes and answers messages until the sender goes, is silent for too long, or speaks no MLLP.
    async fn talk<S>(&self, mut stream: S, mut stopped: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut frames = Frames::new(self.config.message_bytes_max);
        let mut bytes = vec![0; READ_BYTES];
        loop {
            let limit = match frames.is_inside() {
                true => STALL_TIMEOUT,
                false => Duration::from_secs(self.config.idle_seconds),
            };
            let read = tokio::select! {
                // What is not whole yet was not acknowledged: its sender has it.
                _ = stopped.wait_for(|stopped| *stopped) => return,
                read = tokio::time::timeout(limit, stream.read(&mut bytes)) => read,
            };
            let count = match read {
                Ok(Ok(count)) if count > 0 => count,
                // The sender has gone, or is silent.
                Ok(_) | Err(_) => return,
            };
            let taken = frames.take(&bytes[..count]);
            // What was whole before something that is no frame is a message like any other.
            while let Some(frame) = frames.ready.pop_front() {
                for answer in self.answer(frame).await {
                    let mut framed = Vec::with_capacity(answer.len() + 3);
                    framed.push(BEGIN);
                    framed.extend_from_slice(&answer);
                    framed.extend_from_slice(&[END_1, END_2]);
                    let written = tokio::time::timeout(STALL_TIMEOUT, stream.write_all(&framed));
                    let Ok(Ok(())) = written.await else {
                        // It is stored; its sender sends it again and is told so.
                        return;
                    };
                }
            }
            if let Err(error) = taken {
                tracing::warn!(%error, "a connection was closed");
                hang_up(&mut stream, &mut bytes).await;
                return;
            }
        }
    }

    /// Stores a message; gives what is answered.
    async fn answer(&self, frame: Frame) -> Vec<Vec<u8>> {
        let (message, too_long) = match frame {
            Frame::Whole(message) => (Bytes::from(message), false),
            Frame::TooLong(head) => (Bytes::from(head), true),
        };
        let header = Header::parse(&message);
        let outcome = match &header {
            Err(fault) => Outcome::Never(*fault),
            Ok(header) if header.is_acknowledgement() => {
                // Answering an answer would go on for ever.
                tracing::info!("an acknowledgement was passed over");
                return Vec::new();
            }
            Ok(_) if too_long => Outcome::Never(Fault::TOO_LONG),
            Ok(header) => self.store(header, &message).await,
        };
        let kind = header.map_or_else(|_| String::new(), |header| header.message_type());
        if let Outcome::NotNow(fault) | Outcome::Never(fault) = outcome {
            tracing::warn!(kind, why = fault.sentence, "a message was not taken");
        }
        acknowledgements(header.as_ref().ok(), outcome, &moment(), unique)
    }

    async fn store(&self, header: &Header<'_>, message: &Bytes) -> Outcome {
        let control_id = header.control_id();
        if control_id.is_empty() {
            return Outcome::Never(Fault::NO_CONTROL_ID);
        }
        let processing = header.first(11);
        let mut stored = self.config.processing_ids.iter();
        if !processing.is_empty() && !stored.any(|id| id.as_bytes() == processing) {
            return Outcome::Never(Fault::PROCESSING);
        }
        let patient = match patient_numbers(message) {
            Ok(patient) => patient,
            Err(fault) => return Outcome::Never(fault),
        };
        let kind = header.message_type();
        let named: String = String::from_utf8_lossy(control_id)
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(NAMED_ID_CHARS_MAX)
            .collect();
        let file = NewFile {
            name: FileName::nearest(&format!("{}-{named}.hl7", kind.replace('^', "_"))),
            media_type: MediaType::new("x-application/hl7-v2+er7").ok(),
            bytes: message.clone(),
        };
        // Control ids begin anew at some senders: the message itself decides.
        let new = NewDelivery {
            source: Source::Mllp,
            key: DeliveryKey::of(
                Source::Mllp,
                &[header.field(3), header.field(4), control_id, message],
            ),
            reference: String::from_utf8_lossy(control_id).into_owned(),
            patient,
        };
        let accepted = self
            .queue
            .blocking(move |queue| queue.accept(&new, vec![file]));
        match accepted.await {
            Ok(Accepted::New(id)) => {
                tracing::info!(%id, kind, "a message was taken");
                Outcome::Taken
            }
            Ok(Accepted::Repeated(id)) => {
                tracing::info!(%id, kind, "a message came again");
                Outcome::Taken
            }
            Err(NotAccepted::Full) => Outcome::NotNow(Fault::FULL),
            Err(error) if error.is_passing() => {
                tracing::error!(%error, "a message could not be stored");
                Outcome::NotNow(Fault::DISK)
            }
            Err(_) => Outcome::Never(Fault::TOO_LARGE),
        }
    }
}

/// Ends a connection so that what was answered arrives: a socket that is closed while bytes wait in it
/// unread takes back what its peer has not read yet.
async fn hang_up<S>(stream: &mut S, bytes: &mut [u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let drained = async {
        stream.shutdown().await.ok()?;
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            let count = stream.read(bytes).await.ok()?;
            left = left.checked_sub(count).filter(|_| count > 0)?;
        }
        Some(())
    };
    let _ = tokio::time::timeout(LINGER_TIMEOUT, drained).await;
}

/// Now in UTC, as HL7 writes it.
fn moment() -> String {
    let seconds = i64::try_from(now().number() / 1_000).unwrap_or_default();
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}+0000",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// A control id of our own: 20 characters, which every version allows.
fn unique() -> String {
    let mut bytes = [0; 10];
    SystemRandom.fill_bytes(&mut bytes);
    hex::encode(bytes)
}

/// Why a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
enum NoFrames {
    #[error("more than 4,096 bytes came outside of any frame: the sender does not speak MLLP")]
    Noise,
    #[error("a frame is longer than four times the longest message and does not end")]
    Endless,
}

/// What came in one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Frame {
    Whole(Vec<u8>),
    /// The begin of a message that is longer than the bound.
    TooLong(Vec<u8>),
}

/// Frames put together, however their bytes are cut.
struct Frames {
    bytes_max: usize,
    state: Reading,
    message: Vec<u8>,
    /// Bytes of the frame that were not kept.
    dropped: usize,
    ready: VecDeque<Frame>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Between frames, after so many other bytes.
    Outside {
        noise: usize,
    },
    Inside,
    /// After [`END_1`], which ends the frame if [`END_2`] follows.
    Ending,
}

impl Frames {
    fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            state: Reading::Outside { noise: 0 },
            message: Vec::new(),
            dropped: 0,
            ready: VecDeque::new(),
        }
    }

    fn is_inside(&self) -> bool {
        !matches!(self.state, Reading::Outside { .. })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), NoFrames> {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            match self.state {
                Reading::Outside { noise } => {
                    let begin = rest.iter().position(|byte| *byte == BEGIN);
                    let noise = noise + begin.unwrap_or(rest.len());
                    if noise > NOISE_BYTES_MAX {
                        return Err(NoFrames::Noise);
                    }
                    match begin {
                        Some(begin) => {
                            rest = &rest[begin + 1..];
                            self.begin();
                        }
                        None => {
                            rest = &[];
                            self.state = Reading::Outside { noise };
                        }
                    }
                }
                Reading::Inside => {
                    let end = rest.iter().position(|byte| matches!(*byte, BEGIN | END_1));
                    self.keep(&rest[..end.unwrap_or(rest.len())])?;
                    match end {
                        None => rest = &[],
                        Some(end) => {
                            // A new begin: the sender broke off and has no answer to the first.
                            match rest[end] {
                                BEGIN => self.begin(),
                                _ => self.state = Reading::Ending,
                            }
                            rest = &rest[end + 1..];
                        }
                    }
                }
                Reading::Ending if first == END_2 => {
                    rest = &rest[1..];
                    self.end();
                }
                // Some senders leave out the last byte.
                Reading::Ending if first == BEGIN => self.end(),
                Reading::Ending => {
                    self.state = Reading::Inside;
                    self.keep(&[END_1])?;
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.state = Reading::Inside;
        self.message.clear();
        self.dropped = 0;
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), NoFrames> {
        if self.dropped == 0 && self.message.len() + bytes.len() <= self.bytes_max {
            self.message.extend_from_slice(bytes);
            return Ok(());
        }
        let length = self.message.len() + self.dropped + bytes.len();
        if length > self.bytes_max.saturating_mul(ENDLESS) {
            return Err(NoFrames::Endless);
        }
        let room = HEAD_BYTES
            .saturating_sub(self.message.len())
            .min(bytes.len());
        if self.dropped == 0 {
            self.message.extend_from_slice(&bytes[..room]);
        }
        self.message.truncate(HEAD_BYTES);
        self.message.shrink_to_fit();
        // Never 0: a message that fits its bound does not come here.
        self.dropped = (length - self.message.len()).max(1);
        Ok(())
    }

    fn end(&mut self) {
        self.state = Reading::Outside { noise: 0 };
        let message = std::mem::take(&mut self.message);
        self.ready.push_back(match self.dropped {
            0 => Frame::Whole(message),
            _ => Frame::TooLong(message),
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &[u8]) -> Frame {
        Frame::Whole(text.to_vec())
    }

    #[test]
    fn frames_come_whole_however_they_are_cut() {
        let bytes =
            b"\r\n\x0bone\x1c\x0d\x0btwo \x1c with it\x1c\x0d\r\n\x0bbroken off\x0bthree\x1c\
            \x0bfour\x1c\x0d\x0b\x1c\x0d\x0bnot yet\x1c";
        let expected = [
            whole(b"one"),
            whole(b"two \x1c with it"),
            whole(b"three"),
            whole(b"four"),
            whole(b""),
        ];
        for size in 1..bytes.len() {
            let mut frames = Frames::new(100);
            for piece in bytes.chunks(size) {
                frames.take(piece).unwrap();
            }
            assert_eq!(frames.ready, expected, "in pieces of {size}");
            assert!(frames.is_inside());
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_known_by_its_begin_and_ends() {
        let message = vec![b'x'; 9_000];
        let framed = [&[BEGIN], &message[..], &[END_1, END_2], b"\x0bnext\x1c\x0d"].concat();
        for size in [1, 7, 4_096, 20_000] {
            let mut frames = Frames::new(8_999);
            for piece in framed.chunks(size) {
                frames.take(piece).unwrap();
                assert!(frames.message.len() <= 8_999);
            }
            let Some(Frame::TooLong(head)) = frames.ready.pop_front() else {
                panic!("it is too long");
            };
            assert!(head.len() <= HEAD_BYTES && message.starts_with(&head));
            assert_eq!(frames.ready, [whole(b"next")]);
        }
        let mut frames = Frames::new(9_000);
        frames.take(&framed).unwrap();
        assert_eq!(frames.ready, [whole(&message), whole(b"next")]);
    }

    #[test]
    fn who_speaks_no_mllp_is_not_listened_to_for_ever() {
        let mut frames = Frames::new(1_024);
        let noise = vec![b'x'; NOISE_BYTES_MAX];
        assert_eq!(frames.take(&noise), Ok(()));
        assert_eq!(frames.take(b"GET / HTTP/1.1"), Err(NoFrames::Noise));
        let mut frames = Frames::new(1_024);
        let endless = [&[BEGIN], &vec![b'x'; ENDLESS * 1_024][..]].concat();
        assert_eq!(frames.take(&endless), Ok(()));
        assert!(frames.message.len() <= HEAD_BYTES);
        assert_eq!(frames.take(b"x"), Err(NoFrames::Endless));
    }

    #[test]
    fn a_configuration_has_defaults_and_no_unknown_key() {
        let read = |text| serde_json::from_str::<MllpConfig>(text);
        let listen = "127.0.0.1:2575".parse().unwrap();
        assert_eq!(
            read(r#"{"listen": "127.0.0.1:2575"}"#).unwrap(),
            MllpConfig::new(listen)
        );
        assert!(read(r#"{"listen": "127.0.0.1:2575", "port": 1}"#).is_err());
        assert!(read("{}").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn whatever_bytes_come_frames_are_the_same_however_they_are_cut(
            // Mostly the bytes that mean something.
            bytes in proptest::collection::vec(
                prop_oneof![Just(BEGIN), Just(END_1), Just(END_2), any::<u8>()], 0..200),
            size in 1..40_usize,
        ) {
            let mut at_once = Frames::new(16);
            let mut in_pieces = Frames::new(16);
            let all = at_once.take(&bytes);
            let pieces = bytes.chunks(size).try_for_each(|piece| in_pieces.take(piece));
            prop_assert_eq!(all, pieces);
            let kept = |frames: &Frames| {
                let kept = frames.ready.iter().map(|frame| match frame {
                    Frame::Whole(message) => Some(message.clone()),
                    // How much of its begin is kept depends on the pieces.
                    Frame::TooLong(_) => None,
                });
                kept.collect::<Vec<_>>()
            };
            prop_assert_eq!(kept(&at_once), kept(&in_pieces));
        }
    }
}
