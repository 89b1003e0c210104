//! TLS as willis speaks it: version 1.3, certificates judged by one party's own authority, never by a
//! list of public ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{0} cannot be read: {1}; check the path and its permissions")]
    File(PathBuf, #[source] std::io::Error),
    /// The text holds no certificate, or none that can be used.
    #[error("{0} holds no usable certificate: it must be PEM, as `willis tls` writes it")]
    Certificate(String),
    /// The file holds no private key.
    #[error("{0} holds no private key: it must be PEM, as `willis tls` writes it")]
    Key(PathBuf),
    /// Certificate and key do not fit, or the library refuses them.
    #[error("TLS cannot be set up")]
    Library(#[from] rustls::Error),
}

/// A certificate chain with its private key, by which a service or an institution's program shows who
/// it is.
pub struct TlsIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Clone for TlsIdentity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key(),
        }
    }
}

impl TlsIdentity {
    /// From two PEM files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let text = std::fs::read(chain).map_err(|error| TlsError::File(chain.to_owned(), error))?;
        let chain = certificates(&text, &chain.display().to_string())?;
        // The key's bytes are wiped by nobody: the library keeps them for the life of the process.
        let text = std::fs::read(key).map_err(|error| TlsError::File(key.to_owned(), error))?;
        let key =
            PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::Key(key.to_owned()))?;
        Ok(Self { chain, key })
    }

    /// The chain, the service's own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

/// The one cryptographic provider.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A party's authority, from PEM.
///
/// # Errors
/// [`TlsError::Certificate`].
pub fn authority(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem.as_bytes(), "the directory of services")? {
        roots
            .add(certificate)
            .map_err(|_| TlsError::Certificate("the directory of services".into()))?;
    }
    Ok(roots)
}

/// What a client that trusts one authority speaks, with its own certificate if it has one.
pub(crate) fn client_config(
    roots: RootCertStore,
    identity: Option<&TlsIdentity>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    Ok(match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key())?,
        None => builder.with_no_client_auth(),
    })
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| TlsError::Certificate(what.to_owned()))
}
