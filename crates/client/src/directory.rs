//! Where each service is, and by which authority its TLS certificate is judged. The founders sign the
//! directory with the founding document; a later one needs a quorum of them.

use std::fmt;

use ledger::{Genesis, Quorum};
use scheme::{ConsortiumId, Context, InstitutionId, Sign, Signature, VerifyingKey, sha256};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::endpoint::{Endpoint, EndpointError};
use crate::text::Hex;
use crate::tls::TlsIdentity;

/// The longest directory: 255 institutions with 8 KiB each.
const DIRECTORY_BYTES_MAX: usize = 2 << 20;

/// A service, as calls and users name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceName {
    /// The registration centre.
    Centre,
    /// The query manager.
    Query,
    /// The cloud server.
    Cloud,
    /// An institution's server.
    Hospital(InstitutionId),
    /// An institution's node.
    Node(InstitutionId),
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Centre => f.write_str("centre"),
            Self::Query => f.write_str("query"),
            Self::Cloud => f.write_str("cloud"),
            Self::Hospital(institution) => write!(f, "hospital-{}", institution.number()),
            Self::Node(institution) => write!(f, "node-{}", institution.number()),
        }
    }
}

impl ServiceName {
    /// Who runs it.
    pub fn party(self) -> Party {
        match self {
            Self::Centre => Party::Centre,
            Self::Query => Party::Query,
            Self::Cloud => Party::Cloud,
            Self::Hospital(institution) | Self::Node(institution) => {
                Party::Institution(institution)
            }
        }
    }
}

/// Who runs services, and has a TLS authority of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// The registration centre.
    Centre,
    /// The query manager.
    Query,
    /// The cloud server.
    Cloud,
    /// A medical institution: its server and its node.
    Institution(InstitutionId),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Centre => f.write_str("the registration centre"),
            Self::Query => f.write_str("the query manager"),
            Self::Cloud => f.write_str("the cloud server"),
            Self::Institution(institution) => write!(f, "institution {}", institution.number()),
        }
    }
}

/// The directory of services (`services.toml`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// 0 at founding, one more with each change.
    pub serial: u64,
    /// The registration centre.
    pub centre: ServiceEntry,
    /// The query manager.
    pub query: ServiceEntry,
    /// The cloud server.
    pub cloud: CloudEntry,
    /// Every institution of the founding document, ascending.
    pub institutions: Vec<InstitutionEntry>,
}

/// A service that is the only one of its party.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceEntry {
    /// Its base address, `https://host:port`.
    pub address: String,
    /// The PEM certificate of the authority that issues its TLS certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// The cloud server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudEntry {
    /// Its base address.
    pub address: String,
    /// Its TLS authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// The key under which it signs storage receipts.
    pub receipt_key: Hex<32>,
}

/// An institution's services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstitutionEntry {
    /// Which.
    pub institution: u32,
    /// Base address of its server.
    pub hospital: String,
    /// Base address of its node, for users and services.
    pub node: String,
    /// Where its node listens for the other nodes, `host:port`.
    pub consensus: String,
    /// The TLS authority of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// Why a directory is not accepted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The text is none.
    #[error("this is no directory of services: {0}")]
    Malformed(String),
    /// It is of another consortium or incomplete.
    #[error("the directory does not name exactly the institutions of the founding document")]
    Institutions,
    /// Too few members signed it.
    #[error(
        "the directory has {found} of the {needed} signatures that it needs: obtain them with `willis genesis sign`"
    )]
    Signatures {
        /// How many stand.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// It has no such service.
    #[error("the directory names no {0}")]
    NoSuchService(ServiceName),
    /// A service's entry cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

impl Directory {
    /// Reads a directory and compares it with the founding document.
    ///
    /// # Errors
    /// [`DirectoryError::Malformed`], [`DirectoryError::Institutions`].
    pub fn parse(text: &str, genesis: &Genesis) -> Result<Self, DirectoryError> {
        if text.len() > DIRECTORY_BYTES_MAX {
            return Err(DirectoryError::Malformed("it is longer than 2 MiB".into()));
        }
        let directory: Self =
            toml::from_str(text).map_err(|error| DirectoryError::Malformed(error.to_string()))?;
        let named = directory.institutions.iter().map(|entry| entry.institution);
        let founding = genesis.institutions.iter().map(|one| one.id.number());
        if named.eq(founding) {
            Ok(directory)
        } else {
            Err(DirectoryError::Institutions)
        }
    }

    /// The text that is signed and distributed.
    ///
    /// # Errors
    /// [`DirectoryError::Malformed`] if a field cannot be written.
    pub fn text(&self) -> Result<String, DirectoryError> {
        toml::to_string(self).map_err(|error| DirectoryError::Malformed(error.to_string()))
    }

    /// A founder's signature over the founding document (by the consortium's id) and a directory's
    /// text.
    pub fn sign<K: Sign>(consortium: &ConsortiumId, text: &str, key: &K) -> K::Outcome<Signature> {
        key.sign_then(
            Context::Founding,
            consortium,
            &[sha256(text.as_bytes()).as_bytes()],
            |signature| signature,
        )
    }

    /// Whether a founder's signature stands.
    pub fn is_signed_by(
        consortium: &ConsortiumId,
        text: &str,
        key: &VerifyingKey,
        signature: &Signature,
    ) -> bool {
        let digest = sha256(text.as_bytes());
        key.verify(
            Context::Founding,
            consortium,
            &[digest.as_bytes()],
            signature,
        )
        .is_ok()
    }

    /// How many founders must sign: all of them at founding, a quorum for a later directory.
    pub fn signatures_needed(&self, quorum: Quorum, institutions: usize) -> usize {
        if self.serial == 0 {
            institutions
        } else {
            quorum.agreement()
        }
    }

    /// How to reach a service, showing `identity` if there is one.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn endpoint(
        &self,
        service: ServiceName,
        identity: Option<&TlsIdentity>,
    ) -> Result<Endpoint, DirectoryError> {
        let (address, authority) = self.entry(service)?;
        Ok(Endpoint::new(service, address, authority, identity)?)
    }

    /// An institution's entry.
    pub fn institution(&self, institution: InstitutionId) -> Option<&InstitutionEntry> {
        let number = institution.number();
        self.institutions
            .iter()
            .find(|entry| entry.institution == number)
    }

    /// The parties that have an authority, with its PEM.
    pub fn authorities(&self) -> impl Iterator<Item = (Party, &str)> {
        let single = [
            (Party::Centre, &self.centre.authority),
            (Party::Query, &self.query.authority),
            (Party::Cloud, &self.cloud.authority),
        ];
        let institutions = self.institutions.iter().map(|entry| {
            let party = Party::Institution(InstitutionId::new(entry.institution));
            (party, &entry.authority)
        });
        single
            .into_iter()
            .chain(institutions)
            .filter_map(|(party, authority)| Some((party, authority.as_deref()?)))
    }

    /// A service's base address.
    ///
    /// # Errors
    /// [`DirectoryError::NoSuchService`].
    pub fn address(&self, service: ServiceName) -> Result<&str, DirectoryError> {
        Ok(self.entry(service)?.0)
    }

    fn entry(&self, service: ServiceName) -> Result<(&str, Option<&str>), DirectoryError> {
        let (address, authority) = match service {
            ServiceName::Centre => (&self.centre.address, &self.centre.authority),
            ServiceName::Query => (&self.query.address, &self.query.authority),
            ServiceName::Cloud => (&self.cloud.address, &self.cloud.authority),
            ServiceName::Hospital(institution) | ServiceName::Node(institution) => {
                let entry = self
                    .institution(institution)
                    .ok_or(DirectoryError::NoSuchService(service))?;
                let address = match service {
                    ServiceName::Hospital(_) => &entry.hospital,
                    _ => &entry.node,
                };
                (address, &entry.authority)
            }
        };
        Ok((address, authority.as_deref()))
    }
}
