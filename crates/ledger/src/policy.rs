//! The improved PBFT's policy (the paper's section 3.3; `spec/chain.md` section 6). The agreement
//! itself is the engine's; here stands who takes part as what, who leads when, how many must agree
//! and when a block or an anchor is due.
//!
//! | paper | here |
//! |---|---|
//! | accounting nodes: tertiary and secondary hospitals | [`Tier::role`] |
//! | verification nodes: community hospitals; observers, which the paper does not have | [`Tier::role`] |
//! | fixed node rotation | [`LeaderRotation`] |
//! | n nodes, (n - 1) / 3 faults | [`Quorum`] |
//! | "checks the number of transactions every one minute" | [`CutRule`] |
//! | "when the specified time is reached, anchors" | [`anchor_due`] |
//!
//! Deviation: a block is also cut once its count is reached, before the time is up, and the time runs
//! from the first waiting transaction; with a count of `u32::MAX` and a minute it is the paper's rule.
//! A leader's time-out is then above a minute, and so is the time that a dead leader costs.

use std::time::Duration;

use scheme::VerifyingKey;
use scheme::{DecodeError, Decoder, Digest, Encoder, sha256};
use scheme::{InstitutionId, Timestamp, ValidatorEpoch};
use thiserror::Error;

use crate::identity::LeaderView;
use crate::transaction::Institution;

/// The level of an institution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// A tertiary hospital.
    Tertiary,
    /// A secondary hospital.
    Secondary,
    /// A community hospital.
    Community,
    /// No hospital: a regulator, an auditor. It follows the chain and never votes.
    Observer,
}

/// What an institution's node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Packs transactions into blocks, leads in its turn, holds shares; verifies and votes besides.
    Accounting,
    /// Verifies blocks and votes; never leads.
    Verification,
    /// Verifies and applies final blocks; never votes.
    Observation,
}

impl Tier {
    /// Tertiary and secondary hospitals account, community hospitals verify, observers follow.
    pub fn role(self) -> Role {
        match self {
            Self::Tertiary | Self::Secondary => Role::Accounting,
            Self::Community => Role::Verification,
            Self::Observer => Role::Observation,
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Tertiary => 3,
            Self::Secondary => 2,
            Self::Community => 1,
            Self::Observer => 0,
        }
    }

    pub(crate) fn from_code(code: u8) -> Result<Self, DecodeError> {
        match code {
            3 => Ok(Self::Tertiary),
            2 => Ok(Self::Secondary),
            1 => Ok(Self::Community),
            0 => Ok(Self::Observer),
            _ => Err(DecodeError::Invalid {
                what: "tier",
                why: "no such tier",
            }),
        }
    }
}

/// A node of a validator epoch: an institution has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Whose node it is.
    pub institution: InstitutionId,
    /// The institution's tier.
    pub tier: Tier,
    /// Its consensus key: signs votes, blocks, receipts and replies.
    pub key: VerifyingKey,
}

impl Node {
    /// The node that an institution brings; an observer's is in no set.
    pub fn of(institution: &Institution) -> Self {
        Self {
            institution: institution.id,
            tier: institution.tier,
            key: institution.node,
        }
    }
}

/// The nodes of one validator epoch in their fixed order: by institution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSet {
    epoch: ValidatorEpoch,
    nodes: Vec<Node>,
}

impl NodeSet {
    /// Sorts `nodes` by institution and checks the founding rules.
    ///
    /// # Errors
    /// [`NodeSetError`] if an institution or key stands twice, there are too many nodes, an observer's is
    /// among them, or fewer accounting nodes than f + 1.
    pub fn new(epoch: ValidatorEpoch, mut nodes: Vec<Node>) -> Result<Self, NodeSetError> {
        nodes.sort_by_key(|node| node.institution);
        if nodes.is_empty() {
            return Err(NodeSetError::Empty);
        }
        if nodes.len() > NODES_MAX {
            return Err(NodeSetError::TooMany {
                found: nodes.len(),
                limit: NODES_MAX,
            });
        }
        let observer = nodes.iter().find(|node| node.tier == Tier::Observer);
        if let Some(observer) = observer {
            return Err(NodeSetError::Observer(observer.institution));
        }
        if let Some(pair) = nodes
            .windows(2)
            .find(|pair| pair[0].institution == pair[1].institution)
        {
            return Err(NodeSetError::InstitutionTwice(pair[0].institution));
        }
        let mut keys: Vec<_> = nodes.iter().map(|node| node.key).collect();
        keys.sort_unstable();
        if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(NodeSetError::KeyTwice(pair[0]));
        }
        let set = Self { epoch, nodes };
        let (found, needed) = (set.accounting().count(), set.quorum().one_correct());
        if found < needed {
            return Err(NodeSetError::TooFewAccounting { found, needed });
        }
        Ok(set)
    }

    /// The same nodes in another validator epoch.
    #[must_use]
    pub fn in_epoch(&self, epoch: ValidatorEpoch) -> Self {
        Self {
            epoch,
            nodes: self.nodes.clone(),
        }
    }

    /// SHA-256 of its nodes, 37 bytes each as they are encoded: of one set in two epochs the same.
    pub fn digest(&self) -> Digest {
        let mut out = Encoder::new();
        self.encode_nodes(&mut out);
        sha256(&out.finish())
    }

    /// Which validator epoch.
    pub fn epoch(&self) -> ValidatorEpoch {
        self.epoch
    }

    /// max(f + 1, n_acc - f): the highest threshold of a grant among these nodes. Those that are up
    /// while f are down reach it, unless f + 1 are needed anyway.
    pub fn highest_threshold(&self) -> usize {
        let faults = self.quorum().faults();
        (faults + 1).max(self.accounting().count().saturating_sub(faults))
    }

    /// All nodes: those that vote.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The accounting nodes in the order in which they lead and in which a grant's shares are cut.
    pub fn accounting(&self) -> impl Iterator<Item = &Node> {
        self.nodes
            .iter()
            .filter(|node| node.tier.role() == Role::Accounting)
    }

    /// The node with this consensus key.
    pub fn by_key(&self, key: &VerifyingKey) -> Option<&Node> {
        self.nodes.iter().find(|node| node.key == *key)
    }

    /// The node of this institution.
    pub fn by_institution(&self, institution: InstitutionId) -> Option<&Node> {
        self.nodes
            .iter()
            .find(|node| node.institution == institution)
    }

    /// Whether a node, as the institution has it now, needs an HPKE key of the validator epoch after this
    /// one: to account then or, if it is none of these, to take its seat.
    pub fn needs_next_key(&self, node: &Node) -> bool {
        match node.tier.role() {
            Role::Accounting => true,
            Role::Verification => self.by_key(&node.key).is_none(),
            Role::Observation => false,
        }
    }

    /// How many must agree.
    pub fn quorum(&self) -> Quorum {
        Quorum::of(self.nodes.len())
    }

    /// What an operator should know before starting with these nodes.
    pub fn warnings(&self) -> Vec<FoundingWarning> {
        let mut warnings = Vec::new();
        let quorum = self.quorum();
        if quorum.faults() == 0 {
            warnings.push(FoundingWarning::ToleratesNoFault {
                nodes: self.nodes.len(),
            });
        }
        let found = self.accounting().count();
        if found < quorum.agreement() {
            let needed = quorum.agreement();
            warnings.push(FoundingWarning::OneFailureStopsSharing { found, needed });
        }
        warnings
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        let count = u16::try_from(self.nodes.len()).expect("a set holds at most NODES_MAX nodes");
        out.u64(self.epoch.number()).u16(count);
        self.encode_nodes(out);
    }

    fn encode_nodes(&self, out: &mut Encoder) {
        for node in &self.nodes {
            out.u32(node.institution.number())
                .u8(node.tier.code())
                .bytes(node.key.as_bytes());
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let epoch = ValidatorEpoch::new(from.u64("validator epoch")?);
        let count = usize::from(from.u16("number of nodes")?);
        let nodes = (0..count)
            .map(|_| {
                Ok(Node {
                    institution: InstitutionId::new(from.u32("institution")?),
                    tier: Tier::from_code(from.u8("tier")?)?,
                    key: VerifyingKey::new(from.array("node key")?),
                })
            })
            .collect::<Result<Vec<_>, DecodeError>>()?;
        if !nodes.is_sorted_by(|one, other| one.institution < other.institution) {
            return Err(DecodeError::Invalid {
                what: "node set",
                why: "not sorted",
            });
        }
        Self::new(epoch, nodes).map_err(|_| DecodeError::Invalid {
            what: "node set",
            why: "against the founding rules",
        })
    }
}

/// Why nodes make no set. Change the membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NodeSetError {
    /// There is no node.
    #[error("there is no node; a consortium needs at least one accounting node")]
    Empty,
    /// More nodes than a set can hold.
    #[error("there are {found} nodes, at most {limit} can agree; admit fewer")]
    TooMany {
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// An observer's node would vote.
    #[error("institution {0} is an observer and does not vote; leave its node out")]
    Observer(InstitutionId),
    /// An institution stands twice.
    #[error("institution {0} stands twice; give each its own code")]
    InstitutionTwice(InstitutionId),
    /// A consensus key stands twice.
    #[error("node key {0} stands twice; give each node its own key")]
    KeyTwice(VerifyingKey),
    /// Fewer than f + 1 accounting nodes: f faulty ones could stop the chain for ever.
    #[error(
        "{found} accounting nodes are fewer than {needed} (f + 1); admit another tertiary or secondary hospital"
    )]
    TooFewAccounting {
        /// How many there are.
        found: usize,
        /// f + 1.
        needed: usize,
    },
}

/// What is allowed and should still be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FoundingWarning {
    /// Below four nodes f is 0.
    #[error("{nodes} nodes tolerate no faulty one; four tolerate one")]
    ToleratesNoFault {
        /// How many there are.
        nodes: usize,
    },
    /// Fewer than 2f + 1 accounting nodes.
    #[error(
        "{found} accounting nodes are fewer than {needed} (2f + 1): one failure then stops search and re-encryption"
    )]
    OneFailureStopsSharing {
        /// How many there are.
        found: usize,
        /// 2f + 1.
        needed: usize,
    },
}

/// Quorum arithmetic of n nodes, of which f = floor((n - 1) / 3) may be faulty, so that n >= 3f + 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorum {
    nodes: usize,
}

impl Quorum {
    /// Of `nodes` nodes.
    pub const fn of(nodes: usize) -> Self {
        Self { nodes }
    }

    /// n.
    pub const fn nodes(self) -> usize {
        self.nodes
    }

    /// f: how many may be faulty.
    pub const fn faults(self) -> usize {
        self.nodes.saturating_sub(1) / 3
    }

    /// How many votes agree on a block. The paper's 2f + 1 where n = 3f + 1; for other n it is
    /// n - f, which is at least 2f + 1, because two quorums of 2f + 1 out of 3f + 3 nodes could
    /// meet in faulty ones only.
    pub const fn certificate(self) -> usize {
        self.nodes - self.faults()
    }

    /// 2f + 1.
    pub const fn agreement(self) -> usize {
        2 * self.faults() + 1
    }

    /// f + 1: among so many at least one is correct.
    pub const fn one_correct(self) -> usize {
        self.faults() + 1
    }
}

/// The fixed rotation: the accounting nodes lead in their order, each for `term` views. A leader is
/// passed over only by a certificate that its view ended without a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderRotation {
    order: Vec<Node>,
    term: LeaderTerm,
}

impl LeaderRotation {
    /// Of the accounting nodes of a set.
    pub fn new(set: &NodeSet, term: LeaderTerm) -> Self {
        Self {
            order: set.accounting().copied().collect(),
            term,
        }
    }

    /// Who leads in this view.
    pub fn leader(&self, view: LeaderView) -> &Node {
        let turn = view.number() / u64::from(self.term.views());
        let at = (turn % self.order.len() as u64) as usize;
        &self.order[at]
    }

    /// The order of leading.
    pub fn order(&self) -> &[Node] {
        &self.order
    }

    /// The nodes that serve a grant as its master node, the first first: the leader of the block
    /// that recorded it, then the rotation from there.
    pub fn masters(&self, recorded_by: InstitutionId) -> impl Iterator<Item = &Node> {
        let first = self
            .order
            .iter()
            .position(|node| node.institution == recorded_by)
            .unwrap_or(0);
        self.order[first..].iter().chain(&self.order[..first])
    }
}

/// For how many views in a row one accounting node leads: 1 rotates with every view, more keeps a
/// primary as PBFT does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderTerm(u32);

impl LeaderTerm {
    /// `None` for 0.
    pub const fn new(views: u32) -> Option<Self> {
        if views == 0 { None } else { Some(Self(views)) }
    }

    /// How many views.
    pub const fn views(self) -> u32 {
        self.0
    }
}

/// When a leader cuts a block: once `count` transactions wait, or `wait` after the first of them
/// came. The paper's is one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutRule {
    /// The largest number of transactions of a block, at least 1; reaching it cuts at once.
    pub count: u32,
    /// How long the first waiting transaction waits for company.
    pub wait: Duration,
}

/// What a leader does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Cut a block.
    Now,
    /// Wait so long, unless more transactions come.
    Wait(Duration),
}

impl CutRule {
    /// What a leader does that has `waiting` transactions, the first since `waited`, and whose
    /// parent block is `idle` old. With none waiting a block is due after `heartbeat`, empty.
    pub fn decide(
        &self,
        waiting: usize,
        waited: Duration,
        idle: Duration,
        heartbeat: Duration,
    ) -> Cut {
        let left = if waiting >= self.count as usize {
            Duration::ZERO
        } else if waiting > 0 {
            self.wait.saturating_sub(waited)
        } else {
            heartbeat.saturating_sub(idle)
        };
        if left.is_zero() {
            Cut::Now
        } else {
            Cut::Wait(left)
        }
    }
}

/// Whether a block at `time` must carry an anchor: the set time has passed since the last one, and a
/// block since then holds a record.
pub fn anchor_due(
    last: Timestamp,
    interval: Duration,
    time: Timestamp,
    records_since: RecordsSince,
) -> bool {
    let passed = u128::from(time.number().saturating_sub(last.number())) >= interval.as_millis();
    passed && records_since == RecordsSince::Some
}

/// Whether blocks after the last anchor hold records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordsSince {
    /// They hold none: there is nothing to anchor.
    None,
    /// At least one does.
    Some,
}

/// As many as a grant can name, 255; 4 to 100 hospitals are expected. Nodes of 37 bytes keep a stored
/// set below 10 KB, and approvals of 68 bytes an admission below 18 KB.
pub const NODES_MAX: usize = scheme::NODES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32, tier: Tier) -> Node {
        Node {
            institution: InstitutionId::new(number),
            tier,
            key: VerifyingKey::new([number as u8; 32]),
        }
    }

    fn set(tiers: &[Tier]) -> Result<NodeSet, NodeSetError> {
        let nodes = (1..)
            .zip(tiers)
            .map(|(number, tier)| node(number, *tier))
            .collect();
        NodeSet::new(ValidatorEpoch::new(0), nodes)
    }

    use Tier::{Community, Secondary, Tertiary};

    #[test]
    fn quorum_arithmetic_is_that_of_pbft() {
        // n, f, certificate
        for (nodes, faults, certificate) in [
            (1, 0, 1),
            (3, 0, 3),
            (4, 1, 3),
            (5, 1, 4),
            (6, 1, 5),
            (7, 2, 5),
            (10, 3, 7),
            (100, 33, 67),
        ] {
            let quorum = Quorum::of(nodes);
            assert_eq!(
                (quorum.faults(), quorum.certificate()),
                (faults, certificate),
                "n = {nodes}"
            );
            assert!(nodes > 3 * quorum.faults());
            assert!(quorum.certificate() >= quorum.agreement());
            // Two certificates share a correct node; the correct ones alone can make one.
            assert!(2 * quorum.certificate() > nodes + faults);
            assert!(quorum.certificate() <= nodes - faults);
        }
    }

    #[test]
    fn only_accounting_nodes_lead_and_in_a_fixed_order() {
        let set = set(&[Secondary, Community, Tertiary, Secondary]).expect("four hospitals");
        let every = LeaderRotation::new(&set, LeaderTerm::new(1).expect("not 0"));
        let led: Vec<_> = (0..9)
            .map(|view| every.leader(LeaderView::new(view)).institution.number())
            .collect();
        assert_eq!(led, [1, 3, 4, 1, 3, 4, 1, 3, 4]);
        let stable = LeaderRotation::new(&set, LeaderTerm::new(2).expect("not 0"));
        let led: Vec<_> = (0..7)
            .map(|view| stable.leader(LeaderView::new(view)).institution.number())
            .collect();
        assert_eq!(led, [1, 1, 3, 3, 4, 4, 1]);
        let served: Vec<_> = every
            .masters(InstitutionId::new(3))
            .map(|node| node.institution.number())
            .collect();
        assert_eq!(served, [3, 4, 1]);
        assert_eq!(LeaderTerm::new(0), None);
    }

    #[test]
    fn founding_rules_refuse_too_few_accounting_nodes_and_warn_below_a_quorum() {
        assert_eq!(
            set(&[Tertiary, Community, Community, Community]),
            Err(NodeSetError::TooFewAccounting {
                found: 1,
                needed: 2
            })
        );
        let warned = set(&[Tertiary, Secondary, Community, Community]).expect("f + 1 account");
        assert_eq!(
            warned.warnings(),
            [FoundingWarning::OneFailureStopsSharing {
                found: 2,
                needed: 3
            }]
        );
        let quiet = set(&[Tertiary, Secondary, Secondary, Community]).expect("2f + 1 account");
        assert_eq!(quiet.warnings(), []);
        let small = set(&[Tertiary]).expect("one node");
        assert_eq!(
            small.warnings(),
            [FoundingWarning::ToleratesNoFault { nodes: 1 }]
        );
        assert_eq!(set(&[]), Err(NodeSetError::Empty));
        assert_eq!(
            set(&[Tertiary; NODES_MAX + 1]),
            Err(NodeSetError::TooMany {
                found: 256,
                limit: 255
            })
        );
    }

    #[test]
    fn a_set_holds_each_institution_and_key_once() {
        let epoch = ValidatorEpoch::new(0);
        let twice = vec![node(1, Tertiary), node(1, Secondary)];
        assert_eq!(
            NodeSet::new(epoch, twice),
            Err(NodeSetError::InstitutionTwice(InstitutionId::new(1)))
        );
        let same = Node {
            institution: InstitutionId::new(2),
            ..node(1, Tertiary)
        };
        assert_eq!(
            NodeSet::new(epoch, vec![node(1, Tertiary), same]),
            Err(NodeSetError::KeyTwice(VerifyingKey::new([1; 32])))
        );
    }

    #[test]
    fn a_set_survives_its_encoding_and_an_altered_one_is_refused() {
        let set = set(&[Secondary, Community, Tertiary, Secondary]).expect("four hospitals");
        let mut out = Encoder::new();
        set.encode(&mut out);
        let bytes = out.finish();
        assert_eq!(NodeSet::decode(&mut Decoder::new(&bytes)), Ok(set));
        let mut swapped = bytes.clone();
        swapped[13] = 9; // the first institution's number, now above the second's
        assert!(NodeSet::decode(&mut Decoder::new(&swapped)).is_err());
        for length in 0..bytes.len() {
            assert!(NodeSet::decode(&mut Decoder::new(&bytes[..length])).is_err());
        }
    }

    #[test]
    fn a_block_is_cut_at_the_count_or_after_the_wait_or_by_the_heartbeat() {
        let ms = Duration::from_millis;
        let rule = CutRule {
            count: 10,
            wait: ms(20),
        };
        let beat = ms(2_000);
        assert_eq!(rule.decide(10, ms(0), ms(5), beat), Cut::Now);
        assert_eq!(rule.decide(9, ms(20), ms(25), beat), Cut::Now);
        assert_eq!(rule.decide(9, ms(5), ms(9), beat), Cut::Wait(ms(15)));
        assert_eq!(rule.decide(0, ms(0), ms(500), beat), Cut::Wait(ms(1_500)));
        assert_eq!(rule.decide(0, ms(0), ms(2_000), beat), Cut::Now);
        // The paper's minute, whatever the count.
        let paper = CutRule {
            count: u32::MAX,
            wait: Duration::from_secs(60),
        };
        assert_eq!(
            paper.decide(1_000, ms(59_999), ms(60_000), beat),
            Cut::Wait(ms(1))
        );
        assert_eq!(paper.decide(1, ms(60_000), ms(60_000), beat), Cut::Now);
    }

    #[test]
    fn an_anchor_is_due_after_its_time_and_only_over_records() {
        let minute = Duration::from_secs(60);
        let at = Timestamp::new;
        assert!(!anchor_due(
            at(1_000),
            minute,
            at(60_999),
            RecordsSince::Some
        ));
        assert!(anchor_due(
            at(1_000),
            minute,
            at(61_000),
            RecordsSince::Some
        ));
        assert!(!anchor_due(
            at(1_000),
            minute,
            at(61_000),
            RecordsSince::None
        ));
        assert!(!anchor_due(
            at(61_000),
            minute,
            at(1_000),
            RecordsSince::Some
        ));
    }
}
