//! What each party states of itself, and the founding that follows from all statements.

use std::net::SocketAddr;
use std::time::Duration;

use client::{CloudEntry, Directory, Hex, InstitutionEntry, ServiceEntry};
use ledger::{CutRule, Genesis, Institution, InstitutionName, LeaderTerm, Settings, Tier};
use scheme::{InstitutionId, Threshold, Timestamp, VerifyingKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ServiceRole;

/// A hospital's statement (`founder.toml`): public, and signed for by the founder's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FounderStatement {
    /// The institution's number.
    pub(crate) institution: u32,
    /// Its name.
    pub(crate) name: String,
    /// Its tier.
    pub(crate) tier: TierName,
    /// The key that signs its transactions.
    pub(crate) key: Hex<32>,
    /// Its node's consensus key.
    pub(crate) node_key: Hex<32>,
    /// Base address of its server.
    pub(crate) hospital: String,
    /// Base address of its node.
    pub(crate) node: String,
    /// Where its node listens for the other nodes.
    pub(crate) consensus: SocketAddr,
    /// Its TLS authority's certificate.
    pub(crate) authority: String,
}

/// The statement of centre, query manager or cloud (`service.toml`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceStatement {
    /// Which.
    pub(crate) role: ServiceRole,
    /// Base address.
    pub(crate) address: String,
    /// The centre's certification key, the cloud's receipt key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<Hex<32>>,
    /// Its TLS authority's certificate.
    pub(crate) authority: String,
}

/// A tier in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TierName {
    Tertiary,
    Secondary,
    Community,
    /// No hospital: it follows and never votes. Not at the founding.
    Observer,
}

impl From<TierName> for Tier {
    fn from(name: TierName) -> Self {
        match name {
            TierName::Tertiary => Self::Tertiary,
            TierName::Secondary => Self::Secondary,
            TierName::Community => Self::Community,
            TierName::Observer => Self::Observer,
        }
    }
}

/// How the chain is run; what is not named is as by default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SettingsFile {
    /// t_min.
    pub(crate) threshold_min: Option<u8>,
    /// Transactions of a block at most.
    pub(crate) block_transactions: Option<u32>,
    /// From the first waiting transaction to the cut of a block.
    pub(crate) block_wait_ms: Option<u64>,
    /// Bytes of a block's body at most.
    pub(crate) block_bytes: Option<u32>,
    /// An empty block comes after this.
    pub(crate) heartbeat_ms: Option<u64>,
    /// A silent leader is passed over after this.
    pub(crate) leader_timeout_ms: Option<u64>,
    /// Views in a row of one leader.
    pub(crate) leader_term: Option<u32>,
    /// Anchors are at least this far apart.
    pub(crate) anchor_interval_ms: Option<u64>,
    /// By how much a block's time may be ahead of a voter's clock.
    pub(crate) clock_drift_ms: Option<u64>,
    /// By how much a doctor's time may be ahead of the block's.
    pub(crate) signer_drift_ms: Option<u64>,
    /// Blocks of a validator epoch: changes of the membership take effect at its end.
    pub(crate) epoch_blocks: Option<u32>,
}

/// Why statements found nothing.
#[derive(Debug, Error)]
pub(crate) enum StatementError {
    #[error("this is no statement of a founder or service: {0}")]
    Malformed(String),
    #[error("a statement of the {0} is needed, exactly one")]
    Missing(&'static str),
    #[error("the statement of the {0} names no key")]
    NoKey(&'static str),
    #[error("{0}; correct it and found again")]
    Setting(&'static str),
    #[error("{}", client::sentence(.0))]
    Genesis(#[from] ledger::GenesisError),
    #[error(
        "the draft does not say of this hospital what its founder.toml says: {0} is another one. Do not sign; ask who drew it up"
    )]
    Otherwise(&'static str),
}

impl FounderStatement {
    /// Reads a statement.
    pub(crate) fn parse(text: &str) -> Result<Self, StatementError> {
        toml::from_str(text).map_err(|error| StatementError::Malformed(error.to_string()))
    }

    /// Its text.
    pub(crate) fn text(&self) -> Result<String, StatementError> {
        toml::to_string(self).map_err(|error| StatementError::Malformed(error.to_string()))
    }

    /// Whether a draft says of this hospital what it says of itself.
    pub(crate) fn stands_in(
        &self,
        genesis: &Genesis,
        directory: &Directory,
    ) -> Result<(), StatementError> {
        let own = InstitutionId::new(self.institution);
        let found = genesis.institutions.iter().find(|one| one.id == own);
        let found = found.ok_or(StatementError::Otherwise("its number"))?;
        let entry = directory.institution(own);
        let entry = entry.ok_or(StatementError::Otherwise("its number"))?;
        let checks = [
            ("its name", found.name.as_str() == self.name),
            ("its tier", found.tier == self.tier.into()),
            ("its key", found.key.as_bytes() == &self.key.0),
            ("its node's key", found.node.as_bytes() == &self.node_key.0),
            ("its server's address", entry.hospital == self.hospital),
            ("its node's address", entry.node == self.node),
            (
                "its node's address for nodes",
                entry.consensus == self.consensus.to_string(),
            ),
            (
                "its TLS authority",
                entry.authority.as_deref() == Some(&self.authority),
            ),
        ];
        match checks.iter().find(|(_, equal)| !equal) {
            None => Ok(()),
            Some((what, _)) => Err(StatementError::Otherwise(what)),
        }
    }
}

impl ServiceStatement {
    /// Reads a statement.
    pub(crate) fn parse(text: &str) -> Result<Self, StatementError> {
        toml::from_str(text).map_err(|error| StatementError::Malformed(error.to_string()))
    }

    /// Its text.
    pub(crate) fn text(&self) -> Result<String, StatementError> {
        toml::to_string(self).map_err(|error| StatementError::Malformed(error.to_string()))
    }
}

impl SettingsFile {
    /// Reads a file of settings.
    pub(crate) fn parse(text: &str) -> Result<Self, StatementError> {
        toml::from_str(text).map_err(|error| StatementError::Malformed(error.to_string()))
    }

    fn settings(&self) -> Result<Settings, StatementError> {
        let standard = Settings::standard();
        let time = |own: Option<u64>, standard| own.map_or(standard, Duration::from_millis);
        Ok(Settings {
            threshold_min: match self.threshold_min {
                Some(least) => {
                    Threshold::new(least).ok_or(StatementError::Setting("threshold_min is 0"))?
                }
                None => standard.threshold_min,
            },
            cut: CutRule {
                count: self.block_transactions.unwrap_or(standard.cut.count),
                wait: time(self.block_wait_ms, standard.cut.wait),
            },
            body_bytes_max: self.block_bytes.unwrap_or(standard.body_bytes_max),
            heartbeat: time(self.heartbeat_ms, standard.heartbeat),
            leader_timeout: time(self.leader_timeout_ms, standard.leader_timeout),
            leader_term: match self.leader_term {
                Some(views) => {
                    LeaderTerm::new(views).ok_or(StatementError::Setting("leader_term is 0"))?
                }
                None => standard.leader_term,
            },
            anchor_interval: time(self.anchor_interval_ms, standard.anchor_interval),
            clock_drift: time(self.clock_drift_ms, standard.clock_drift),
            signer_drift: time(self.signer_drift_ms, standard.signer_drift),
            epoch_blocks: self.epoch_blocks.unwrap_or(standard.epoch_blocks),
        })
    }
}

/// The founding document and the directory that follow from the statements.
pub(crate) fn draw_up(
    founders: &[FounderStatement],
    services: &[ServiceStatement],
    settings: &SettingsFile,
    time: Timestamp,
) -> Result<(Genesis, Directory), StatementError> {
    let one = |role: ServiceRole, name: &'static str| {
        let mut found = services.iter().filter(|service| service.role == role);
        match (found.next(), found.next()) {
            (Some(service), None) => Ok(service),
            _ => Err(StatementError::Missing(name)),
        }
    };
    let centre = one(ServiceRole::Centre, "registration centre")?;
    let query = one(ServiceRole::Query, "query manager")?;
    let cloud = one(ServiceRole::Cloud, "cloud server")?;
    let mut founders: Vec<&FounderStatement> = founders.iter().collect();
    founders.sort_by_key(|founder| founder.institution);
    let institutions = founders
        .iter()
        .map(|founder| {
            Ok(Institution {
                id: InstitutionId::new(founder.institution),
                tier: founder.tier.into(),
                name: InstitutionName::new(&founder.name).map_err(ledger::GenesisError::Decode)?,
                key: VerifyingKey::new(founder.key.0),
                node: VerifyingKey::new(founder.node_key.0),
            })
        })
        .collect::<Result<_, StatementError>>()?;
    let key = centre
        .key
        .ok_or(StatementError::NoKey("registration centre"))?;
    let genesis = Genesis {
        time,
        centre: VerifyingKey::new(key.0),
        institutions,
        settings: settings.settings()?,
    };
    ledger::genesis(&genesis)?;
    let entry = |service: &ServiceStatement| ServiceEntry {
        address: service.address.clone(),
        authority: Some(service.authority.clone()),
    };
    let directory = Directory {
        serial: 0,
        centre: entry(centre),
        query: entry(query),
        cloud: CloudEntry {
            address: cloud.address.clone(),
            authority: Some(cloud.authority.clone()),
            receipt_key: cloud.key.ok_or(StatementError::NoKey("cloud server"))?,
        },
        institutions: founders
            .iter()
            .map(|founder| InstitutionEntry {
                institution: founder.institution,
                hospital: founder.hospital.clone(),
                node: founder.node.clone(),
                consensus: founder.consensus.to_string(),
                authority: Some(founder.authority.clone()),
            })
            .collect(),
    };
    Ok((genesis, directory))
}
