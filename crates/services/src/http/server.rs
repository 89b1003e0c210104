//! The server: TLS 1.3 with each party's own authority, or plain HTTP on a loopback address; bounds on
//! connections, handshakes and headers; an end that waits for what is being answered.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::Request;
use axum::{Router, middleware};
use client::{Directory, Members, Party, TlsError, TlsIdentity, authority, provider};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::http::measured::{Measured, measure};

/// Connections at once; each has at most 64 KiB of buffers: 64 MiB.
const CONNECTIONS_MAX: usize = 1_024;
/// Connections at once of a listener that is watched by: a few programs of the operator's.
const WATCH_CONNECTIONS_MAX: usize = 32;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to send a request's header, idle connections included.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// How long what is being answered may go on after the service was asked to stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a service does not listen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("{0} cannot be listened on: {1}; choose another address or stop who uses it")]
    Listen(SocketAddr, #[source] io::Error),
    /// Without TLS a service is reached from this machine only.
    #[error(
        "{0} is no loopback address, and the service has no TLS certificate: configure tls, or listen on 127.0.0.1"
    )]
    Unencrypted(SocketAddr),
    /// What watches a role is told which of the machine's addresses it asks.
    #[error(
        "{0} is every address of this machine: give watch a loopback address or the one address in the operator's network"
    )]
    Everywhere(SocketAddr),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// From where.
    pub address: SocketAddr,
    /// Whose certificate it showed, if it showed one. Users show none; they sign each call.
    pub party: Option<Party>,
}

/// A service's TLS: its own certificate, and the authorities of those who may show one.
pub struct ServerTls {
    identity: TlsIdentity,
    judged: Judged,
    /// When the first certificate of the own chain ends.
    certificate_end: Option<SystemTime>,
    accepting: RwLock<Arc<Accepting>>,
}

/// By what certificates are judged that does not change while the server runs.
struct Judged {
    /// Of the parties that are no institutions: what the directory says of them holds.
    others: Vec<(Party, String)>,
    revoked: Vec<CertificateRevocationListDer<'static>>,
}

/// What a connection that begins now is accepted by.
struct Accepting {
    config: Arc<ServerConfig>,
    parties: Vec<(Party, Arc<dyn ClientCertVerifier>)>,
}

/// The authorities by which a server judges who shows a certificate: they change with the members.
#[derive(Clone)]
pub(crate) struct Authorities(Arc<ServerTls>);

impl Authorities {
    /// Takes these institutions' authorities, in PEM, for connections that begin from now on.
    pub(crate) fn replace(&self, institutions: &[(Party, String)]) {
        if let Err(error) = self.0.replace(institutions) {
            tracing::error!(%error, "TLS goes on with the authorities that it had");
        }
    }
}

impl ServerTls {
    /// With the authorities of the directory and of the members, and lists of revoked certificates in
    /// DER.
    ///
    /// # Errors
    /// [`ServerError::Tls`].
    pub fn new(
        identity: TlsIdentity,
        directory: &Directory,
        members: &Members,
        revoked: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Self, ServerError> {
        let mut others = Vec::new();
        for (party, pem) in directory.authorities() {
            // One that cannot be used is found before anything listens.
            authority(pem)?;
            if !matches!(party, Party::Institution(_)) {
                others.push((party, pem.to_owned()));
            }
        }
        let judged = Judged { others, revoked };
        let accepting = judged.accepting(&identity, &members.authorities())?;
        Ok(Self {
            certificate_end: certificate_end(identity.chain()),
            identity,
            judged,
            accepting: RwLock::new(Arc::new(accepting)),
        })
    }

    /// Takes certificates of these institutions, and of the other parties as before.
    fn replace(&self, institutions: &[(Party, String)]) -> Result<(), TlsError> {
        let accepting = self.judged.accepting(&self.identity, institutions)?;
        let present = self.accepting.write();
        *present.unwrap_or_else(PoisonError::into_inner) = Arc::new(accepting);
        Ok(())
    }

    fn accepting(&self) -> Arc<Accepting> {
        let present = self.accepting.read();
        Arc::clone(&present.unwrap_or_else(PoisonError::into_inner))
    }
}

impl Judged {
    /// What accepts certificates of these institutions and of the other parties.
    fn accepting(
        &self,
        identity: &TlsIdentity,
        institutions: &[(Party, String)],
    ) -> Result<Accepting, TlsError> {
        let mut all = RootCertStore::empty();
        let mut parties = Vec::new();
        for (party, pem) in self.others.iter().chain(institutions) {
            // What an institution says of itself on the chain may be no certificate, or one that a
            // verifier cannot take: that is its own loss, and nobody else's.
            let judged = authority(pem).and_then(|roots| {
                let verifier = verifier(roots.clone(), &self.revoked)?;
                Ok((roots, verifier))
            });
            match judged {
                Ok((roots, verifier)) => {
                    all.extend(roots.roots);
                    parties.push((*party, verifier));
                }
                Err(error) => tracing::warn!(%party, %error, "a TLS authority cannot be used"),
            }
        }
        let verifier = match parties.is_empty() {
            true => None,
            false => Some(verifier(all, &self.revoked)?),
        };
        Ok(Accepting {
            config: Arc::new(server_config(identity, verifier)?),
            parties,
        })
    }
}

impl Accepting {
    /// Which party's authority issued the certificate. The handshake has shown that some party's did.
    fn party_of(&self, chain: &[CertificateDer<'_>]) -> Option<Party> {
        let (own, issuers) = chain.split_first()?;
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = UnixTime::since_unix_epoch(since);
        self.parties
            .iter()
            .find(|(_, verifier)| verifier.verify_client_cert(own, issuers, now).is_ok())
            .map(|(party, _)| *party)
    }
}

fn server_config(
    identity: &TlsIdentity,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    Ok(builder.with_single_cert(identity.chain().to_vec(), identity.key())?)
}

/// When the first certificate of a chain ends; none if one of them cannot be read.
fn certificate_end(chain: &[CertificateDer<'_>]) -> Option<SystemTime> {
    let mut first = None;
    for certificate in chain {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let end = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        let end = UNIX_EPOCH.checked_add(Duration::from_secs(end))?;
        first = Some(first.map_or(end, |first: SystemTime| first.min(end)));
    }
    first
}

fn verifier(
    roots: RootCertStore,
    revoked: &[CertificateRevocationListDer<'static>],
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .with_crls(revoked.iter().cloned())
        // A party without a list has revoked nothing.
        .allow_unknown_revocation_status()
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsError::Library(rustls::Error::General(error.to_string())))
}

/// A service's listener.
pub struct Server {
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    connections_max: usize,
    measured: Arc<Measured>,
}

impl Server {
    /// Listens; port 0 is any free one.
    ///
    /// # Errors
    /// [`ServerError::Listen`], [`ServerError::Unencrypted`].
    pub async fn bind(address: SocketAddr, tls: Option<ServerTls>) -> Result<Self, ServerError> {
        if tls.is_none() && !address.ip().is_loopback() {
            return Err(ServerError::Unencrypted(address));
        }
        Self::listen(address, tls, CONNECTIONS_MAX).await
    }

    /// Listens for those who watch a role, without TLS: on a loopback address, or on another one that is
    /// named, since what is shown is nobody's secret. Port 0 is any free one.
    ///
    /// # Errors
    /// [`ServerError::Listen`], [`ServerError::Everywhere`].
    pub(crate) async fn bind_watch(address: SocketAddr) -> Result<Self, ServerError> {
        if address.ip().is_unspecified() {
            return Err(ServerError::Everywhere(address));
        }
        Self::listen(address, None, WATCH_CONNECTIONS_MAX).await
    }

    async fn listen(
        address: SocketAddr,
        tls: Option<ServerTls>,
        connections_max: usize,
    ) -> Result<Self, ServerError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| ServerError::Listen(address, error))?;
        Ok(Self {
            listener,
            tls: tls.map(Arc::new),
            connections_max,
            measured: Arc::new(Measured::new()),
        })
    }

    /// The calls that it answers, counted.
    pub(crate) fn measured(&self) -> Arc<Measured> {
        Arc::clone(&self.measured)
    }

    /// By which it judges those who show a certificate; none without TLS.
    pub(crate) fn authorities(&self) -> Option<Authorities> {
        self.tls.clone().map(Authorities)
    }

    /// When its TLS certificate ends.
    pub(crate) fn certificate_end(&self) -> Option<SystemTime> {
        self.tls.as_ref()?.certificate_end
    }

    /// Where it listens.
    ///
    /// # Errors
    /// [`ServerError::Listen`] if the system does not say.
    pub fn address(&self) -> Result<SocketAddr, ServerError> {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        self.listener
            .local_addr()
            .map_err(|error| ServerError::Listen(unknown, error))
    }

    /// Serves until `stop` completes, then answers what was begun, within a bound.
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()>) {
        let connections = Arc::new(Semaphore::new(self.connections_max));
        let measured = middleware::from_fn_with_state(self.measured, measure);
        let router = router.layer(measured);
        let graceful = GracefulShutdown::new();
        tokio::pin!(stop);
        loop {
            // A connection above the bound waits in the system's queue, which has its own.
            let free = Arc::clone(&connections).acquire_owned();
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = async { (free.await, self.listener.accept().await) } => accepted,
            };
            let (Ok(permit), accepted) = accepted else {
                break;
            };
            match accepted {
                Ok((stream, address)) => {
                    let (router, tls) = (router.clone(), self.tls.clone());
                    let watcher = graceful.watcher();
                    tokio::spawn(connect(stream, address, tls, router, watcher, permit));
                }
                Err(error) => {
                    // Such as no file descriptors left: others may close some.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.listener);
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await;
    }
}

async fn connect(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Arc<ServerTls>>,
    router: Router,
    watcher: Watcher,
    permit: OwnedSemaphorePermit,
) {
    // Small answers are not worth waiting for more.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        let peer = Peer {
            address,
            party: None,
        };
        return answer(stream, peer, router, watcher, permit).await;
    };
    let accepting = tls.accepting();
    let acceptor = TlsAcceptor::from(Arc::clone(&accepting.config));
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let chain = stream.get_ref().1.peer_certificates();
            let party = chain.and_then(|chain| accepting.party_of(chain));
            answer(stream, Peer { address, party }, router, watcher, permit).await;
        }
        // From where it came is nobody's to keep.
        Ok(Err(error)) => tracing::info!(%error, "a TLS handshake failed"),
        Err(_) => tracing::info!("a TLS handshake took too long"),
    }
}

async fn answer<S>(
    stream: S,
    peer: Peer,
    router: Router,
    watcher: Watcher,
    permit: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        let router = router.clone();
        async move {
            let response = tower_call(router, request).await;
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away in the middle is no event of the service's.
    let _ = watcher.watch(connection).await;
    drop(permit);
}

async fn tower_call(mut router: Router, request: Request) -> axum::response::Response {
    use axum::response::IntoResponse;
    use tower_service::Service;
    match router.call(request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::Extension;
    use axum::routing::get;
    use client::{CloudEntry, Endpoint, Hex, ServiceClient, ServiceEntry, ServiceName};
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use scheme::{ConsortiumId, InstitutionId};
    use std::collections::BTreeMap;

    use super::*;

    /// An authority's certificate in PEM, and an identity that it issued.
    fn party(name: &str) -> (String, TlsIdentity) {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([format!("{name}.authority")]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let own = own.signed_by(&key, &issuer).unwrap().pem();
        let paths = ["own.pem", "own.key"].map(|file| folder.path().join(file));
        std::fs::write(&paths[0], own).unwrap();
        std::fs::write(&paths[1], key.serialize_pem()).unwrap();
        (authority, TlsIdentity::load(&paths[0], &paths[1]).unwrap())
    }

    fn directory(authority: &str) -> Directory {
        let entry = || ServiceEntry {
            address: "https://127.0.0.1:1".into(),
            authority: Some(authority.to_owned()),
        };
        Directory {
            serial: 0,
            centre: entry(),
            query: entry(),
            cloud: CloudEntry {
                address: "https://127.0.0.1:1".into(),
                authority: Some(authority.to_owned()),
                receipt_key: Hex([1; 32]),
            },
            institutions: Vec::new(),
        }
    }

    #[tokio::test]
    async fn certificates_are_taken_of_those_who_belong_to_the_consortium_now() {
        let (cloud_authority, cloud) = party("cloud");
        let (newcomer_authority, newcomer) = party("newcomer");
        let nobody = Members::new([], BTreeMap::new());
        let directory = directory(&cloud_authority);
        let tls = ServerTls::new(cloud.clone(), &directory, &nobody, Vec::new()).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(address, Some(tls)).await.unwrap();
        let (address, authorities) = (server.address().unwrap(), server.authorities().unwrap());
        let said = |Extension(peer): Extension<Peer>| async move { format!("{:?}", peer.party) };
        let serving = server.serve(Router::new().route("/", get(said)), std::future::pending());
        let serving = tokio::spawn(serving);
        // A new connection each time, as who restarts has it.
        let said_to = async |identity: Option<&TlsIdentity>| {
            let address = format!("https://{address}");
            let endpoint = Endpoint::new(
                ServiceName::Cloud,
                &address,
                Some(&cloud_authority),
                identity,
            );
            let client = ServiceClient::new(ConsortiumId::new([0; 32]), endpoint.unwrap());
            let said = client.get_bytes("/").await.ok()?;
            Some(String::from_utf8(said.to_vec()).unwrap())
        };
        let none = Some("None".to_owned());
        assert_eq!(said_to(None).await, none);
        assert_eq!(said_to(Some(&newcomer)).await, None, "nobody issued it");
        assert_eq!(said_to(Some(&cloud)).await, Some("Some(Centre)".to_owned()));

        // It joins, beside one whose authority is no certificate.
        let institution = |number| Party::Institution(InstitutionId::new(number));
        authorities.replace(&[
            (institution(4), "no certificate".to_owned()),
            (institution(5), newcomer_authority),
        ]);
        let found = said_to(Some(&newcomer)).await;
        assert_eq!(
            found,
            Some("Some(Institution(InstitutionId(5)))".to_owned())
        );
        assert_eq!(said_to(Some(&cloud)).await, Some("Some(Centre)".to_owned()));

        // It leaves.
        authorities.replace(&[]);
        assert_eq!(said_to(Some(&newcomer)).await, None);
        assert_eq!(said_to(None).await, none);
        serving.abort();
    }
}
