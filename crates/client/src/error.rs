//! Why a call did not bring what was asked for.

use std::error::Error as StdError;
use std::io;

use ledger::Shortfall;
use parties::ReplyFailure;
use scheme::{DecodeError, SignerError};
use thiserror::Error;

use crate::directory::{DirectoryError, ServiceName};
use crate::endpoint::EndpointError;
use crate::problem::Problem;
use crate::proof_file::NotProven;

/// Why a client did not get what it asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection, or no answer in time.
    #[error("{0} does not answer: try again, and check the network if that does not help")]
    Silent(ServiceName, #[source] reqwest::Error),
    /// It is not the service that the directory names, or its certificate has expired.
    #[error(
        "{0} shows a TLS certificate that is not valid under the authority that the directory names for it, so nothing was sent: ask who runs it, or obtain the newest directory"
    )]
    Untrusted(ServiceName, #[source] rustls::Error),
    /// The service does not accept this party's TLS certificate.
    #[error(
        "{0} does not accept the TLS certificate that was shown: renew it with `willis tls renew`, and ask {0} whether it was revoked"
    )]
    NotAccepted(ServiceName, #[source] rustls::Error),
    /// It answers, and so slowly that another one is asked.
    #[error("{0} gives less than 256 KiB in 10 s: another node is asked")]
    Slow(ServiceName),
    /// The service refused, and says why.
    #[error("{}", .0.detail())]
    Refused(Problem),
    /// Bytes are malformed.
    #[error("the service's answer is malformed")]
    Malformed(#[from] DecodeError),
    /// The call was not signed, so it was not made.
    #[error("the call was not signed, so it was not made")]
    Key(#[from] SignerError),
    /// The answer is longer than any can be.
    #[error("the service's answer is longer than it can be")]
    TooLong,
    /// Too few equal receipts in time.
    #[error(transparent)]
    Shortfall(Box<Shortfall>),
    /// Too few equal replies.
    #[error(transparent)]
    NoAgreement(#[from] ReplyFailure),
    /// A node's answer is not the one that was asked for, so the next node is asked.
    #[error("the node of institution {0} gave something else than what stands on the chain")]
    Unusable(u32),
    /// A node gave what does not prove what was asked, so the next node is asked.
    #[error("what the node of institution {0} gave proves nothing")]
    NotProven(u32, #[source] Box<NotProven>),
    /// Too few accounting nodes took a grant.
    #[error(
        "{found} accounting nodes took the grant, {needed} are needed to serve it; one said: {reason}"
    )]
    TooFewHolders {
        /// How many took it.
        found: usize,
        /// t.
        needed: usize,
        /// What a node that did not said.
        #[source]
        reason: Box<ClientError>,
    },
    /// No node answered at all.
    #[error("no node of the consortium answers: check the network")]
    Nobody,
    /// A proof does not stand.
    #[error("the node's proof of the transaction does not stand")]
    Proof(#[from] ledger::ProofError),
    /// The service cannot be reached as the directory says.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The directory names no such service, or one that cannot be reached as it says.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// What is to be sent cannot be read.
    #[error("what is to be sent cannot be read")]
    Source(#[from] io::Error),
}

impl ClientError {
    /// What a call that brought no answer came to.
    pub(crate) fn unanswered(service: ServiceName, error: reqwest::Error) -> Self {
        match tls_error(&error) {
            Some(why @ rustls::Error::InvalidCertificate(_)) => Self::Untrusted(service, why),
            Some(why @ rustls::Error::AlertReceived(_)) => Self::NotAccepted(service, why),
            _ => Self::Silent(service, error),
        }
    }

    /// Whether the same call is worth making again: nothing was refused, and it may not have been
    /// received.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Silent(..) | Self::Key(SignerError::Away(_)) => true,
            Self::Refused(problem) => matches!(problem.status(), 429 | 503),
            _ => false,
        }
    }

    /// Whether the service says that what the call names is not there, or is another's.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.status() == 404)
    }
}

/// The TLS library's error below another one.
fn tls_error(error: &reqwest::Error) -> Option<rustls::Error> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(at) = next {
        if let Some(found) = at.downcast_ref::<rustls::Error>() {
            return Some(found.clone());
        }
        // An I/O error gives the cause of what it holds as its own, so what it holds is looked at.
        let held = at
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|held| held as &(dyn StdError + 'static));
        next = held.or_else(|| at.source());
    }
    None
}
