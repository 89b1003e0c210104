//! Records what a service receives and answers: a relay stands at the service's own address, ends TLS there
//! with the service's own certificate, calls the service at its real address as who was calling, and keeps
//! every byte of both directions in plain. Services speak HTTP/1.1 (`crates/services/src/http/server.rs`), so
//! what is kept is what a service reads: request lines, headers and bodies.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use client::{TlsIdentity, authority, provider};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, DistinguishedName, Error,
    ServerConfig, ServerConnection, SignatureScheme,
};

/// A party with a certificate, which is known by it when it calls.
pub struct Known {
    pub name: String,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Known {
    fn identity(&self) -> TlsIdentity {
        TlsIdentity::load(&self.certificate, &self.key).unwrap()
    }
}

/// One direction of one connection.
pub struct Heard {
    /// Who called; none of a person, who shows no certificate.
    pub caller: Option<String>,
    /// Whose service it is.
    pub service: String,
    /// What the caller sent, or what the service answered.
    pub to_service: bool,
    pub bytes: Vec<u8>,
}

/// Everything that relays heard, in the order in which directions began.
#[derive(Clone, Default)]
pub struct Heards(Arc<Mutex<Vec<Heard>>>);

impl Heards {
    fn begin(&self, caller: Option<&str>, service: &str, to_service: bool) -> usize {
        let mut all = self.0.lock().unwrap();
        all.push(Heard {
            caller: caller.map(str::to_owned),
            service: service.to_owned(),
            to_service,
            bytes: Vec::new(),
        });
        all.len() - 1
    }

    fn add(&self, place: usize, bytes: &[u8]) {
        self.0.lock().unwrap()[place].bytes.extend_from_slice(bytes);
    }

    /// What was heard until now.
    pub fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// A relay before one service. It takes no more calls once this is dropped.
pub struct Relay {
    at: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Relay {
    /// Stands at `at` for the service at `to`, whose folder has its authority.
    pub fn start(
        service: &Known,
        folder: &Path,
        at: SocketAddr,
        to: SocketAddr,
        known: &Arc<Vec<Known>>,
        heards: &Heards,
    ) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let own = service.identity();
        let server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(AnyCertificate))
            .with_single_cert(own.chain().to_vec(), own.key())
            .unwrap();
        let between = Between {
            service: service.name.clone(),
            server: Arc::new(server),
            authority: std::fs::read_to_string(folder.join("authority.pem")).unwrap(),
            to,
            known: Arc::clone(known),
            heards: heards.clone(),
        };
        let (between, over) = (Arc::new(between), Arc::clone(&ended));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (between, Ok(stream)) = (Arc::clone(&between), stream) else {
                    continue;
                };
                // A connection that breaks is its two ends' matter.
                std::thread::spawn(move || drop(between.carries(stream)));
            }
        });
        Self { at, ended }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for a call.
        let _ = TcpStream::connect(self.at);
    }
}

struct Between {
    service: String,
    server: Arc<ServerConfig>,
    authority: String,
    to: SocketAddr,
    known: Arc<Vec<Known>>,
    heards: Heards,
}

impl Between {
    fn carries(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut server =
            ServerConnection::new(Arc::clone(&self.server)).map_err(io::Error::other)?;
        while server.is_handshaking() {
            server.complete_io(&mut stream)?;
        }
        let caller = server.peer_certificates().and_then(|shown| {
            let is_it = |known: &&Known| known.identity().chain()[0] == shown[0];
            self.known.iter().find(is_it)
        });
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .with_root_certificates(authority(&self.authority).map_err(io::Error::other)?);
        let config = match caller.map(Known::identity) {
            Some(identity) => config
                .with_client_auth_cert(identity.chain().to_vec(), identity.key())
                .map_err(io::Error::other)?,
            None => config.with_no_client_auth(),
        };
        let name = ServerName::IpAddress(self.to.ip().into());
        let client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let onward = TcpStream::connect(self.to)?;
        let caller = caller.map(|known| known.name.as_str());
        let near = End::new(stream, server.into())?;
        let far = End::new(onward, client.into())?;
        far.flush()?;
        let begin = |to_service| self.heards.begin(caller, &self.service, to_service);
        let (asked, answered) = (begin(true), begin(false));
        std::thread::scope(|scope| {
            scope.spawn(|| drop(near.pours_into(&far, |bytes| self.heards.add(asked, bytes))));
            drop(far.pours_into(&near, |bytes| self.heards.add(answered, bytes)));
        });
        Ok(())
    }
}

/// One of the two connections. A direction has a thread of its own, which reads without holding anything.
struct End {
    stream: TcpStream,
    tls: Mutex<Connection>,
}

impl End {
    fn new(stream: TcpStream, tls: Connection) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let tls = Mutex::new(tls);
        Ok(Self { stream, tls })
    }

    fn flush(&self) -> io::Result<()> {
        let mut tls = self.tls.lock().unwrap();
        while tls.wants_write() {
            tls.write_tls(&mut &self.stream)?;
        }
        Ok(())
    }

    /// Until this end says no more or breaks; then the other is closed as well.
    fn pours_into(&self, other: &Self, mut keep: impl FnMut(&[u8])) -> io::Result<()> {
        let poured = self.pours(other, &mut keep);
        other.tls.lock().unwrap().send_close_notify();
        let _ = other.flush();
        let _ = other.stream.shutdown(Shutdown::Write);
        if poured.is_err() {
            let _ = self.stream.shutdown(Shutdown::Both);
        }
        poured
    }

    fn pours(&self, other: &Self, keep: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut sealed = vec![0; 1 << 16];
        // What came with the handshake is there before anything is read.
        let mut count = 0;
        loop {
            let (plain, over) = self.opens(&sealed[..count])?;
            // The library answers by itself, for example to a change of keys.
            self.flush()?;
            keep(&plain);
            for part in plain.chunks(1 << 14) {
                other.tls.lock().unwrap().writer().write_all(part)?;
                other.flush()?;
            }
            if over {
                return Ok(());
            }
            count = (&self.stream).read(&mut sealed)?;
            if count == 0 {
                return Ok(());
            }
        }
    }

    /// The plain bytes of sealed ones, and whether no more will come.
    fn opens(&self, sealed: &[u8]) -> io::Result<(Vec<u8>, bool)> {
        let mut tls = self.tls.lock().unwrap();
        let (mut sealed, mut plain) = (sealed, Vec::new());
        loop {
            if !sealed.is_empty() {
                tls.read_tls(&mut sealed)?;
            }
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let mut part = vec![0; state.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut part)?;
            plain.extend(part);
            if sealed.is_empty() {
                return Ok((plain, state.peer_has_closed()));
            }
        }
    }
}

/// Takes every caller's certificate: the service behind judges it.
#[derive(Debug)]
struct AnyCertificate;

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 alone is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
