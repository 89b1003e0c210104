//! The founding document and the first block.

use std::collections::BTreeMap;
use std::time::Duration;

use scheme::{ConsortiumId, PublicParameters, Threshold, Timestamp, ValidatorEpoch};
use scheme::{DecodeError, Decoder, Encoder};
use scheme::{Signature, VerifyingKey};
use thiserror::Error;

use crate::anchoring::AnchorWindow;
use crate::block::{Block, Header, Limits, summarize};
use crate::hash;
use crate::identity::{BlockId, Height, LeaderView};
use crate::keys;
use crate::policy::{CutRule, FoundingWarning, LeaderTerm, NODES_MAX, Node, NodeSet, NodeSetError};
use crate::state::{self, CentreKeyList, Charter, InstitutionState, Moment, Tip};
use crate::transaction::Institution;
use crate::view::{Changes, MemoryView};

/// What the founders agree on. Its bytes give the consortium's id, so two consortia that differ in
/// anything never share a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// When the consortium begins.
    pub time: Timestamp,
    /// The registration centre's first key; the chain says which it has now.
    pub centre: VerifyingKey,
    /// The founding institutions, strictly ascending by id.
    pub institutions: Vec<Institution>,
    /// How the chain is run.
    pub settings: Settings,
}

/// How a chain is run. Times are whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// t_min: the fewest shares that a grant may be cut for.
    pub threshold_min: Threshold,
    /// When a block is cut, and how many transactions it holds at most. Its wait and the heartbeat
    /// are together shorter than the leader's time-out.
    pub cut: CutRule,
    /// Largest body of a block, in bytes; at least one transaction fits.
    pub body_bytes_max: u32,
    /// After how long without transactions an empty block is made; at least 100 ms.
    pub heartbeat: Duration,
    /// After how long a silent leader is passed over; longer than the heartbeat.
    pub leader_timeout: Duration,
    /// For how many views in a row one accounting node leads.
    pub leader_term: LeaderTerm,
    /// How far apart anchors are at least.
    pub anchor_interval: Duration,
    /// D: by how much a block's time may be ahead of a voter's clock before the voter waits.
    pub clock_drift: Duration,
    /// By how much the time that a doctor signed may be ahead of the block's.
    pub signer_drift: Duration,
    /// How many blocks a validator epoch has, at least 2.
    pub epoch_blocks: u32,
}

impl Settings {
    /// The defaults of a consortium that is in use: blocks 20 ms after the first transaction or at
    /// 4,096 of them, a heartbeat of 2 s, an anchor a minute, a validator epoch of an hour at rest.
    pub fn standard() -> Self {
        Self {
            threshold_min: Threshold::new(2).expect("2 is not 0"),
            cut: CutRule {
                count: 4_096,
                wait: Duration::from_millis(20),
            },
            body_bytes_max: 4 << 20,
            heartbeat: Duration::from_secs(2),
            leader_timeout: Duration::from_secs(3),
            leader_term: LeaderTerm::new(1).expect("1 is not 0"),
            anchor_interval: Duration::from_secs(60),
            clock_drift: Duration::from_secs(1),
            signer_drift: Duration::from_secs(60),
            // An hour of heartbeats; under load some minutes, each begun in a fraction of a second.
            epoch_blocks: 1_800,
        }
    }

    /// The bounds of a block.
    pub fn limits(&self) -> Limits {
        Limits {
            body_bytes: self.body_bytes_max,
            transactions: self.cut.count,
        }
    }

    /// The validator epoch that decides on the block at this height.
    pub fn epoch_of(&self, height: Height) -> ValidatorEpoch {
        ValidatorEpoch::new(height.number() / u64::from(self.epoch_blocks))
    }

    /// Whether the block at this height is the last of its validator epoch.
    pub fn ends_epoch(&self, height: Height) -> bool {
        self.epoch_of(height) != self.epoch_of(height.next())
    }

    /// The height of the last block of a validator epoch.
    pub fn last_of(&self, epoch: ValidatorEpoch) -> Height {
        let blocks = u64::from(self.epoch_blocks);
        let next = epoch.number().saturating_add(1).saturating_mul(blocks);
        Height::new(next.saturating_sub(1))
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        let threshold = u8::try_from(self.threshold_min.count()).expect("a threshold is a byte");
        out.u8(threshold)
            .u32(self.cut.count)
            .u64(milliseconds(self.cut.wait))
            .u32(self.body_bytes_max)
            .u64(milliseconds(self.heartbeat))
            .u64(milliseconds(self.leader_timeout))
            .u32(self.leader_term.views())
            .u64(milliseconds(self.anchor_interval))
            .u64(milliseconds(self.clock_drift))
            .u64(milliseconds(self.signer_drift))
            .u32(self.epoch_blocks);
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let zero = |what| DecodeError::Invalid { what, why: "zero" };
        Ok(Self {
            threshold_min: Threshold::new(from.u8("least threshold")?)
                .ok_or(zero("least threshold"))?,
            cut: CutRule {
                count: from.u32("transactions of a block")?,
                wait: duration("wait for a block", from)?,
            },
            body_bytes_max: from.u32("largest body")?,
            heartbeat: duration("heartbeat", from)?,
            leader_timeout: duration("leader's time-out", from)?,
            leader_term: LeaderTerm::new(from.u32("leader's term")?)
                .ok_or(zero("leader's term"))?,
            anchor_interval: duration("anchor interval", from)?,
            clock_drift: duration("clock drift", from)?,
            signer_drift: duration("signer's drift", from)?,
            epoch_blocks: from.u32("blocks of a validator epoch")?,
        })
    }

    fn check(&self) -> Result<(), GenesisError> {
        let all = [
            self.cut.wait,
            self.heartbeat,
            self.leader_timeout,
            self.anchor_interval,
            self.clock_drift,
            self.signer_drift,
        ];
        if all
            .iter()
            .any(|time| *time > DURATION_MAX || time.subsec_nanos() % 1_000_000 != 0)
        {
            return Err(GenesisError::Setting(
                "a time is above 365 days or not in whole ms",
            ));
        }
        if self.heartbeat < HEARTBEAT_LEAST {
            return Err(GenesisError::Setting("the heartbeat is below 100 ms"));
        }
        if self.heartbeat >= self.leader_timeout {
            return Err(GenesisError::Setting(
                "the heartbeat is not below the leader's time-out",
            ));
        }
        // A request may come just before the heartbeat is due and is then waited with for company; a
        // leader that waits past its time-out is passed over, and so is each that follows it.
        if self.heartbeat + self.cut.wait >= self.leader_timeout {
            return Err(GenesisError::Setting(
                "the heartbeat and the cut's wait together are not below the leader's time-out",
            ));
        }
        if self.cut.count < 2 {
            return Err(GenesisError::Setting(
                "a block must hold 2 transactions, one an anchor",
            ));
        }
        if self.body_bytes_max < BODY_BYTES_LEAST || self.body_bytes_max > BODY_BYTES_MOST {
            return Err(GenesisError::Setting(
                "the largest body is not within 128 KiB and 64 MiB",
            ));
        }
        if self.epoch_blocks < 2 {
            return Err(GenesisError::Setting(
                "a validator epoch must have 2 blocks",
            ));
        }
        Ok(())
    }
}

/// Why a founding document founds nothing. Correct it and found again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GenesisError {
    /// The bytes are no founding document.
    #[error("the founding document cannot be read; obtain it again from a founder")]
    Decode(#[from] DecodeError),
    /// The institutions make no node set.
    #[error("the founding institutions cannot form a consortium")]
    Nodes(#[from] NodeSetError),
    /// A setting is out of its range.
    #[error("a setting is out of its range: {0}; correct the founding document")]
    Setting(&'static str),
    /// The time of founding is not one at which anything is founded.
    #[error(
        "the time of founding, {0} ms since the Unix epoch, is after the year 9999; correct the founding document"
    )]
    Time(Timestamp),
    /// No grant could be made: its threshold would have to be at least t_min, and at most what the
    /// accounting nodes can reach while f nodes are down.
    #[error(
        "t_min is {found}, and no grant can have a threshold above {most} among these nodes; correct the founding document"
    )]
    Threshold {
        /// t_min.
        found: usize,
        /// max(f + 1, n_acc - f).
        most: usize,
    },
    /// A key under which nothing can be signed, or, in the engine's eyes, anything by anyone.
    #[error(
        "the key of {0} is no point of the curve or of small order; obtain its key again and correct the founding document"
    )]
    Key(String),
    /// Institutions share a key, or are not in order.
    #[error("the founding institutions are wrong: {0}; correct the founding document")]
    Institutions(&'static str),
}

impl Genesis {
    /// SHA-256 of the founding document under its tag.
    pub fn consortium(&self) -> ConsortiumId {
        hash::genesis(&self.encode())
    }

    /// PP of equation (5).
    pub fn parameters(&self) -> PublicParameters {
        PublicParameters {
            consortium: self.consortium(),
            centre: self.centre,
            threshold_min: self.settings.threshold_min,
        }
    }

    /// The first node set.
    ///
    /// # Errors
    /// [`NodeSetError`] against the founding rules.
    pub fn node_set(&self) -> Result<NodeSet, NodeSetError> {
        NodeSet::new(
            ValidatorEpoch::new(0),
            self.institutions.iter().map(Node::of).collect(),
        )
    }

    /// What the founders should know before they start.
    ///
    /// # Errors
    /// [`GenesisError`] if the document founds nothing.
    pub fn warnings(&self) -> Result<Vec<FoundingWarning>, GenesisError> {
        self.check()?;
        Ok(self.node_set()?.warnings())
    }

    /// The bytes of the founding document.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        let count =
            u32::try_from(self.institutions.len()).expect("institutions are held in memory");
        out.u16(VERSION)
            .u64(self.time.number())
            .bytes(self.centre.as_bytes());
        self.settings.encode(&mut out);
        out.u32(count);
        for institution in &self.institutions {
            institution.encode(&mut out);
        }
        out.finish()
    }

    /// Reads and checks a founding document.
    ///
    /// # Errors
    /// [`GenesisError`] if the bytes are none or found nothing.
    pub fn decode(bytes: &[u8]) -> Result<Self, GenesisError> {
        let mut from = Decoder::new(bytes);
        let version = from.u16("version of the founding document")?;
        if version != VERSION {
            let what = "version of the founding document";
            return Err(DecodeError::Invalid {
                what,
                why: "not known",
            }
            .into());
        }
        let time = Timestamp::new(from.u64("time of founding")?);
        let centre = VerifyingKey::new(from.array("centre's key")?);
        let settings = Settings::decode(&mut from)?;
        let count = from.count("number of institutions", NODES_MAX)?;
        let institutions = (0..count)
            .map(|_| Institution::decode(&mut from))
            .collect::<Result<_, DecodeError>>()?;
        from.finish("the founding document")?;
        let genesis = Self {
            time,
            centre,
            institutions,
            settings,
        };
        genesis.check()?;
        Ok(genesis)
    }

    fn check(&self) -> Result<(), GenesisError> {
        self.settings.check()?;
        if self.time > TIME_MAX {
            return Err(GenesisError::Time(self.time));
        }
        let nodes = self.node_set()?;
        let (found, most) = (
            self.settings.threshold_min.count(),
            nodes.highest_threshold(),
        );
        if found > most {
            return Err(GenesisError::Threshold { found, most });
        }
        let sorted = self
            .institutions
            .is_sorted_by(|one, other| one.id < other.id);
        if !sorted {
            return Err(GenesisError::Institutions("not strictly ascending by id"));
        }
        if !self.centre.can_verify() {
            return Err(GenesisError::Key("the registration centre".to_owned()));
        }
        for institution in &self.institutions {
            let id = institution.id;
            if !institution.key.can_verify() {
                return Err(GenesisError::Key(format!("institution {id}")));
            }
            if !institution.node.can_verify() {
                return Err(GenesisError::Key(format!("institution {id}'s node")));
            }
        }
        let mut seen = std::collections::BTreeSet::from([self.centre]);
        for institution in &self.institutions {
            if !seen.insert(institution.key) || !seen.insert(institution.node) {
                return Err(GenesisError::Institutions("a key stands twice"));
            }
        }
        Ok(())
    }
}

/// The first block and the first state.
///
/// # Errors
/// [`GenesisError`] if the document founds nothing.
pub fn genesis(genesis: &Genesis) -> Result<(Block, Changes), GenesisError> {
    genesis.check()?;
    let consortium = genesis.consortium();
    let charter = Charter {
        consortium,
        settings: genesis.settings,
    };
    let mut accountable = BTreeMap::new();
    accountable.insert(keys::charter(), charter.encode());
    let founded = Moment {
        height: Height::new(0),
        time: genesis.time,
    };
    let centre = CentreKeyList::founding(genesis.centre, founded);
    accountable.insert(keys::centre_keys(), centre.encode());
    let ids = genesis
        .institutions
        .iter()
        .map(|institution| institution.id)
        .collect();
    accountable.insert(keys::institutions(), state::encode_institutions(ids));
    let mut changes = Changes::new();
    for institution in &genesis.institutions {
        let state = InstitutionState {
            institution: institution.clone(),
            generation: 0,
            joined: founded,
            left: None,
        };
        accountable.insert(keys::institution(institution.id), state.encode());
        for key in [&institution.key, &institution.node] {
            let whose = Encoder::new().u32(institution.id.number()).finish();
            changes.put(keys::institution_key(key), whose);
        }
    }
    let mut out = Encoder::new();
    genesis.node_set()?.encode(&mut out);
    accountable.insert(keys::node_set(ValidatorEpoch::new(0)), out.finish());

    let Moment { height, time } = founded;
    let tip = Tip { height, time };
    changes.put(keys::tip(), tip.encode());
    changes.put(
        keys::anchor_window(),
        AnchorWindow::after(tip.height, tip.time).encode(),
    );
    let empty = MemoryView::new();
    let state_root = state::seal(&empty, &consortium, &accountable, None, &mut changes)
        .expect("an empty view in memory has nothing that could fail or be malformed");
    let body = summarize(&consortium, []);
    let header = Header {
        consortium,
        height: tip.height,
        epoch: ValidatorEpoch::new(0),
        view: LeaderView::new(0),
        previous: BlockId::new([0; 32]),
        time: genesis.time,
        size: 0,
        count: 0,
        merkle_root: body.merkle_root,
        state_root,
        producer: VerifyingKey::new([0; 32]),
        signature: Signature::new([0; 64]),
    };
    Ok((Block::new(header, Vec::new()), changes))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("settings are checked to be at most 365 days")
}

fn duration(what: &'static str, from: &mut Decoder<'_>) -> Result<Duration, DecodeError> {
    let time = Duration::from_millis(from.u64(what)?);
    if time > DURATION_MAX {
        return Err(DecodeError::Invalid {
            what,
            why: "above 365 days",
        });
    }
    Ok(time)
}

/// Of the founding document's layout.
const VERSION: u16 = 1;

/// No setting needs more than a year, and no sum of two overflows.
const DURATION_MAX: Duration = Duration::from_secs(365 * 86_400);

/// Ten empty blocks a second. A shorter heartbeat would fill disks at the network's speed: at this
/// one, 700 bytes of header and certificate at n = 4 are 600 MB a day.
const HEARTBEAT_LEAST: Duration = Duration::from_millis(100);

/// The last millisecond of the year 9999. Block times follow clocks from here on, so no sum of a
/// time and a setting comes near 2^64.
const TIME_MAX: Timestamp = Timestamp::new(253_402_300_799_999);

/// One transaction of 64 KiB, an anchor and their lengths fit twice.
const BODY_BYTES_LEAST: u32 = 128 << 10;

/// A block is one message and is held in memory several times while it is agreed on.
const BODY_BYTES_MOST: u32 = 64 << 20;
