//! One service as a client reaches it: base address, TLS, time-outs.

use std::net::IpAddr;
use std::time::Duration;

use rustls::RootCertStore;
use thiserror::Error;
use url::{Host, Url};

use crate::directory::ServiceName;
use crate::tls::{self, TlsError, TlsIdentity};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a reply may pause between two pieces. An event stream says something more often.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a service cannot be reached as its entry says.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The address is none.
    #[error("the address of {0}, {1:?}, is not of the form https://host:port")]
    Address(ServiceName, String),
    /// Without TLS only this machine is reached.
    #[error(
        "the address of {0}, {1:?}, is not encrypted: https and an authority in the directory are needed anywhere but on a loopback address"
    )]
    Unencrypted(ServiceName, String),
    /// The authority or the own certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// How to reach a service.
#[derive(Debug, Clone)]
pub struct Endpoint {
    service: ServiceName,
    base: Url,
    pub(crate) http: reqwest::Client,
}

impl Endpoint {
    /// A service at its base address, judged by the PEM `authority`. Plain HTTP is spoken to loopback
    /// addresses only.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn new(
        service: ServiceName,
        address: &str,
        authority: Option<&str>,
        identity: Option<&TlsIdentity>,
    ) -> Result<Self, EndpointError> {
        let wrong = || EndpointError::Address(service, address.to_owned());
        let base = Url::parse(address).map_err(|_| wrong())?;
        if base.path() != "/" || base.query().is_some() || base.fragment().is_some() {
            return Err(wrong());
        }
        let builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        let builder = match (base.scheme(), authority) {
            ("https", Some(pem)) => {
                let config = tls::client_config(tls::authority(pem)?, identity)?;
                builder.tls_backend_preconfigured(config).https_only(true)
            }
            ("http", _) if is_loopback(&base) => {
                // No TLS is spoken; the library wants to know which all the same.
                let config = tls::client_config(RootCertStore::empty(), None)?;
                builder.tls_backend_preconfigured(config)
            }
            ("http" | "https", _) => {
                return Err(EndpointError::Unencrypted(service, address.to_owned()));
            }
            _ => return Err(wrong()),
        };
        let http = builder.build().map_err(EndpointError::Client)?;
        Ok(Self {
            service,
            base,
            http,
        })
    }

    /// Which service.
    pub fn service(&self) -> ServiceName {
        self.service
    }

    /// Its base address.
    pub fn base(&self) -> &Url {
        &self.base
    }

    pub(crate) fn url(&self, target: &str) -> String {
        let base = self.base.as_str().trim_end_matches('/');
        format!("{base}{target}")
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_unencrypted_but_to_this_machine() {
        let endpoint = |address: &str| Endpoint::new(ServiceName::Query, address, None, None);
        assert!(endpoint("http://127.0.0.1:7000").is_ok());
        assert!(endpoint("http://[::1]:7000").is_ok());
        for address in [
            "http://10.0.0.1:7000",
            "http://localhost:7000",
            "https://10.0.0.1",
        ] {
            let refused = endpoint(address);
            assert!(
                matches!(refused, Err(EndpointError::Unencrypted(..))),
                "{address}"
            );
        }
        for address in [
            "",
            "query",
            "ftp://127.0.0.1",
            "http://127.0.0.1/path",
            "http://127.0.0.1/?q",
        ] {
            let refused = endpoint(address);
            assert!(
                matches!(refused, Err(EndpointError::Address(..))),
                "{address}"
            );
        }
    }
}
