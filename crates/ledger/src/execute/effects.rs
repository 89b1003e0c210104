//! Level 3: what one transaction needs of the state and what it changes there (`spec/chain.md`
//! section 7). Nothing is written here: a transaction takes effect whole or not at all.

mod membership;

use std::borrow::Cow;
use std::collections::{BTreeMap, btree_map::Entry};

use scheme::{
    ConsortiumId, Encoder, GrantId, InstitutionId, Tag, Timestamp, ValidatorEpoch, VerifyingKey,
    WriterEpoch,
};
use thiserror::Error;

use super::AdmitError;
use crate::identity::{CentreKeyNumber, KeyHash, RecordNumber, RequestCommitment, TransactionId};
use crate::keys;
use crate::policy::{Node, NodeSet, NodeSetError, Quorum, Role, Tier};
use crate::state::{
    self, Charter, GrantState, KeyStatus, Moment, NodeKeyState, ReadError, RecordState,
    RequestState, RulesState, TransactionPosition, UserKeyState, WriterEpochState,
};
use crate::transaction::{
    Access, AccessNumber, CentreKeyApproval, CentreKeyTransaction, CertificateRevocation,
    CheckError, GrantTransaction, Institution, KeyUse, NodeKeyTransaction, RecordTransaction,
    Registrant, Registration, RequestTransaction, Revocation, Transaction, Withdrawal,
    WriterEpochTransaction,
};
use crate::view::View;

/// Why the state refuses a transaction. The text tells the client what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// S1: it is final already. That is success: look at where it stands.
    #[error("the transaction is final already, at height {}; nothing is left to do", .0.height)]
    Final(TransactionPosition),
    /// S2: a signature by the centre, an institution or a node does not stand.
    #[error(
        "a signature does not stand under the key that the chain holds; sign again with that key"
    )]
    Signature(#[source] CheckError),
    /// S3: the institution does not belong to the consortium.
    #[error("institution {0} does not belong to the consortium; it must be admitted first")]
    UnknownInstitution(InstitutionId),
    /// S4: the signed time is too far ahead of the block's.
    #[error(
        "the signed time {signed} is ahead of the chain's {block}; set the clock and send again"
    )]
    FromTheFuture {
        /// The time that was signed, in ms since the Unix epoch.
        signed: Timestamp,
        /// The block's time.
        block: Timestamp,
    },
    /// P1: an observer puts no motion and approves none.
    #[error("institution {0} is an observer; motions are put and approved by members")]
    Observer(InstitutionId),
    /// P2: the motion's end is past, or too far ahead.
    #[error(
        "the motion ends at {until}, the chain's time is {block}; let it end within 30 days from now"
    )]
    MotionEnd {
        /// Its end.
        until: Timestamp,
        /// The block's time.
        block: Timestamp,
    },
    /// P3: the member has too many motions open.
    #[error(
        "institution {by} has {MOTIONS_OPEN_MAX} motions open; wait until one is approved or ends"
    )]
    TooManyMotions {
        /// The member.
        by: InstitutionId,
    },
    /// P4: there is no such motion.
    #[error("there is no motion {0} on the chain; put it first")]
    UnknownMotion(TransactionId),
    /// P5: the motion has taken effect.
    #[error("the motion took effect at height {}; nothing is left to approve", .0.height)]
    MotionEffective(Moment),
    /// P6: the motion's end has come.
    #[error("the motion ended at {0}; put it again")]
    MotionEnded(Timestamp),
    /// A1: the institution belongs or belonged to the consortium.
    #[error("institution {0} belongs or belonged to the consortium; a number is given once")]
    InstitutionKnown(InstitutionId),
    /// A2: a key of the institution is or was in use.
    #[error("key {0} is or was in use; make a new one")]
    InstitutionKeyInUse(VerifyingKey),
    /// A3: the institution has that tier.
    #[error("institution {0} has that tier already")]
    SameTier(InstitutionId),
    /// A4: the nodes would break the founding rules.
    #[error("the nodes would then break the founding rules")]
    Nodes(#[source] NodeSetError),
    /// A6: no grant could reach t_min among the nodes.
    #[error(
        "no grant could then have a threshold above {most}, and t_min is {found}; admit another tertiary or secondary hospital first"
    )]
    Threshold {
        /// t_min.
        found: usize,
        /// max(f + 1, n_acc - f).
        most: usize,
    },
    /// A7: the rules are not the next.
    #[error("the chain's next rules are {expected}, not {found}; put those")]
    RulesNotNext {
        /// The next ones.
        expected: u16,
        /// The ones that were put.
        found: u16,
    },
    /// Also A7: the next rules are decided and not in force yet.
    #[error("rules {} are decided, in force from validator epoch {} on; put the next ones then", .0.rules, .0.since.number())]
    RulesDecided(RulesState),
    /// A5: there are as many observers as there can be.
    #[error("there are {OBSERVERS_MAX} observers, as many as there can be; remove one first")]
    TooManyObservers,
    /// I1: the keys are not the institution's next.
    #[error("the institution's next keys are generation {expected}, not {found}; sign those")]
    KeysNotNext {
        /// The next generation.
        expected: u32,
        /// The one that was sent.
        found: u32,
    },
    /// I2: both keys are the ones that the institution has.
    #[error("both keys of institution {0} are those that it has; make a new one of at least one")]
    KeysUnchanged(InstitutionId),
    /// I3: the contact is not the institution's next.
    #[error("the institution's next contact has serial {expected}, not {found}; sign that one")]
    ContactNotNext {
        /// The next serial.
        expected: u32,
        /// The one that was sent.
        found: u32,
    },
    /// T1: the centre's key is not its next. One that was approved for an earlier list stands for
    /// nothing.
    #[error("the centre's next key is number {expected}, not {found}; have that one approved")]
    CentreKeyNotNext {
        /// The next one.
        expected: CentreKeyNumber,
        /// The one that was sent.
        found: CentreKeyNumber,
    },
    /// T2: the centre's next key is an institution's or a node's, or is or was the centre's.
    #[error("key {0} is or was in use; make a new one for the centre")]
    CentreKeyInUse(VerifyingKey),
    /// T3: too few present institutions approve the centre's next key.
    #[error(
        "{found} approvals of the centre's key are fewer than {needed}; ask more institutions, or let the current key sign"
    )]
    CentreKeyUnapproved {
        /// How many there are.
        found: usize,
        /// f + 1 if the current key signed, else n - f.
        needed: usize,
    },
    /// U1: a key is registered already, by this user or another.
    #[error("key hash {0} is registered already; make new keys")]
    KeyRegistered(KeyHash),
    /// U2: there is no such registration.
    #[error("there is no registration {0}")]
    UnknownRegistration(TransactionId),
    /// K1: the author's key is on no certificate.
    #[error("the doctor's key {0} is not registered; register it first")]
    KeyUnknown(KeyHash),
    /// K2: the author's certificate is revoked.
    #[error("the doctor's key {key} is revoked since height {}; sign with a key in force", since.height)]
    KeyRevoked {
        /// The key.
        key: KeyHash,
        /// Since when.
        since: Moment,
    },
    /// K3: the author's key is not the signature key of a doctor of this institution.
    #[error("key {key} is not the signature key of a doctor of institution {institution}")]
    NotADoctorThere {
        /// The key.
        key: KeyHash,
        /// The institution.
        institution: InstitutionId,
    },
    /// W1: the writer epoch is not the next one.
    #[error("the institution's next writer epoch is {expected}; send that one")]
    WriterEpochNotNext {
        /// The next one.
        expected: WriterEpoch,
    },
    /// W2: R stands on the chain already.
    #[error("the writer epoch key stands on the chain already; make a new one")]
    WriterKeyRepeated,
    /// H1: a node's key is of an epoch whose node set is neither in force nor the next.
    #[error("validator epoch {} is neither the current one, {}, nor the next; make a key for one of these", found.number(), current.number())]
    NodeKeyEpoch {
        /// The block's.
        current: ValidatorEpoch,
        /// The key's.
        found: ValidatorEpoch,
    },
    /// H2: the institution's node does not account in that validator epoch, and waits for no seat.
    #[error("the node of institution {institution} needs no key of validator epoch {}: it does not account then, and waits for no seat", epoch.number())]
    NodeNeedsNoKey {
        /// The institution.
        institution: InstitutionId,
        /// The key's validator epoch.
        epoch: ValidatorEpoch,
    },
    /// H3: the node has another key in that validator epoch. Use that one until the epoch ends.
    #[error("the node of institution {institution} has another key in validator epoch {} since height {}; use that one until the epoch ends", epoch.number(), since.height)]
    NodeKeyPresent {
        /// The institution.
        institution: InstitutionId,
        /// The key's validator epoch.
        epoch: ValidatorEpoch,
        /// Since when.
        since: Moment,
    },
    /// R1: R is not of the institution's current writer epoch. Build the index anew.
    #[error(
        "the record is indexed under a writer epoch that is not the institution's current one; build its index anew"
    )]
    WriterEpochEnded,
    /// R2: these tags are taken under R. Ask the allocator again and build the index anew.
    #[error("{} of the record's index entries are taken; ask for new positions and build its index anew", .0.len())]
    TagsTaken(Vec<Tag>),
    /// Q1: the request is on the chain already.
    #[error("request {0} is on the chain already")]
    RequestRepeated(RequestCommitment),
    /// G1: the grant's id is taken. A revocation key is used once.
    #[error("the revocation key names a grant already; make a new one")]
    GrantPresent(GrantId),
    /// G2: it ended before it reached the chain.
    #[error("the grant has ended at {expiry}, the chain's time is {block}; grant anew")]
    GrantEnded {
        /// Its end.
        expiry: Timestamp,
        /// The block's time.
        block: Timestamp,
    },
    /// G5: the grant was made for a validator epoch that is neither the block's nor the one before.
    #[error("the grant was made for the nodes of validator epoch {}, and the chain is in epoch {}; grant anew", found.number(), current.number())]
    GrantEpoch {
        /// The block's.
        current: ValidatorEpoch,
        /// The grant's.
        found: ValidatorEpoch,
    },
    /// G3: the countersigning node does not account in the grant's validator epoch.
    #[error(
        "the node of institution {0} is no accounting node; let an accounting node countersign"
    )]
    NotAnAccountingNode(InstitutionId),
    /// G4: an access key stands in another grant.
    #[error("access key {0} stands in another grant; a request needs fresh ones")]
    AccessKeyUsed(VerifyingKey),
    /// L1: no grant names the access key.
    #[error("no grant names access key {0}")]
    AccessKeyUnknown(VerifyingKey),
    /// L2: not the next number of its key.
    #[error("the next access of key {key} is number {}, not {}", expected.number(), found.number())]
    AccessNotNext {
        /// The access key.
        key: VerifyingKey,
        /// The next number.
        expected: AccessNumber,
        /// The one that was sent.
        found: AccessNumber,
    },
    /// L3: the grant has not begun.
    #[error("the grant begins at {not_before}, the chain's time is {block}")]
    GrantNotBegun {
        /// Its begin.
        not_before: Timestamp,
        /// The block's time.
        block: Timestamp,
    },
    /// L4: the grant has expired.
    #[error("the grant has expired at {expiry}, the chain's time is {block}; ask the patient anew")]
    GrantExpired {
        /// Its end.
        expiry: Timestamp,
        /// The block's time.
        block: Timestamp,
    },
    /// L5: the grant is revoked.
    #[error("the grant is revoked since height {}; ask the patient anew", .0.height)]
    GrantRevoked(Moment),
    /// V1: the revocation key names no grant on the chain.
    #[error("the revocation key names no grant on the chain")]
    GrantUnknown(GrantId),
    /// N1: an anchor is made by the leader, never sent.
    #[error("an anchor is made by the leader of a block; it cannot be sent")]
    AnchorSent,
}

/// What a block gives its transactions.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) charter: Charter,
    /// Of the block's validator epoch.
    pub(super) nodes: NodeSet,
    pub(super) moment: Moment,
    /// Whose node leads.
    pub(super) master: InstitutionId,
}

impl Setting {
    fn consortium(&self) -> &ConsortiumId {
        &self.charter.consortium
    }
}

/// Where a transaction would stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) position: TransactionPosition,
    /// The number of the next record.
    pub(super) record: RecordNumber,
}

/// What a transaction changes: values of the accountable part, and plain ones that follow from them
/// and from the block.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) accountable: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) plain: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Effects {
    fn accountable(mut self, key: Vec<u8>, value: Vec<u8>) -> Self {
        self.accountable.push((key, value));
        self
    }

    fn plain(mut self, key: Vec<u8>, value: Vec<u8>) -> Self {
        self.plain.push((key, value));
        self
    }
}

/// Checks a transaction against the state and says what it changes.
pub(super) fn of(
    view: &dyn View,
    setting: &Setting,
    transaction: &Transaction,
    id: TransactionId,
    slot: Slot,
) -> Result<Effects, AdmitError> {
    if let Some(position) = state::transaction(view, id)? {
        return Err(Refusal::Final(position).into());
    }
    let effects = match transaction {
        Transaction::Registration(tx) => registration(view, setting, tx, id),
        Transaction::WriterEpoch(tx) => writer_epoch(view, setting, tx),
        Transaction::Record(tx) => record(view, setting, tx, id, slot),
        Transaction::Request(tx) => request(view, setting, tx),
        Transaction::Grant(tx) => grant(view, setting, tx),
        Transaction::Access(tx) => access(view, setting, tx),
        Transaction::Revocation(tx) => revocation(view, setting, tx),
        Transaction::Withdrawal(tx) => Ok(withdrawal(setting, tx)),
        Transaction::CertificateRevocation(tx) => certificate_revocation(view, setting, tx),
        Transaction::Anchor(_) => Err(Refusal::AnchorSent.into()),
        Transaction::NodeKey(tx) => node_key(view, setting, tx),
        Transaction::CentreKey(tx) => centre_key(view, setting, tx),
        Transaction::Motion(tx) => membership::motion(view, setting, tx, id),
        Transaction::Approval(tx) => membership::approval(view, setting, tx),
        Transaction::Succession(tx) => membership::succession(view, setting, tx),
        Transaction::Contact(tx) => membership::contact(view, setting, tx),
    }?;
    Ok(effects.plain(keys::transaction(id), slot.position.encode()))
}

/// The node set of the next validator epoch (spec/chain.md, 6.6). Who has a seat keeps it, and under the
/// key that it has until the next one has shown that its node runs, by a key of the next epoch that it
/// certified. So does a newcomer: one that never started would count among those of whom n - f must vote.
pub(super) fn next_nodes(view: &dyn View, seated: &NodeSet) -> Result<NodeSet, ReadError> {
    let epoch = ValidatorEpoch::new(seated.epoch().number().saturating_add(1));
    let threshold_min = state::charter(view)?.settings.threshold_min.count();
    let set = |nodes: &[Node]| {
        NodeSet::new(epoch, nodes.to_vec())
            .ok()
            .filter(|set| set.highest_threshold() >= threshold_min)
    };
    let (mut staying, mut arriving) = (Vec::new(), Vec::new());
    for member in members(view)? {
        let own = Node::of(&member);
        let shown = state::node_key(view, epoch, member.id)?;
        let shown = shown.is_some_and(|shown| shown.node == own.key);
        match seated.by_institution(member.id) {
            Some(seat) if seat.key == own.key || shown => staying.push(own),
            Some(seat) => staying.push(Node {
                key: seat.key,
                ..own
            }),
            None if shown => arriving.push(own),
            None => {}
        }
    }
    let mut nodes = certified(view, &staying)?;
    if set(&nodes).is_none() {
        nodes = staying;
    }
    let mut room = seated.quorum().faults().max(1);
    for node in arriving {
        nodes.push(node);
        match room > 0 && set(&nodes).is_some() {
            true => room -= 1,
            false => drop(nodes.pop()),
        }
    }
    // Every change of the membership was checked against the same rules.
    set(&nodes).ok_or_else(|| {
        scheme::DecodeError::Invalid {
            what: "the present institutions",
            why: "against the founding rules",
        }
        .into()
    })
}

/// These nodes, of which one that would account and has no HPKE key verifies: a grant is sealed to every
/// accounting node, so one that was never there would hold up all of them.
fn certified(view: &dyn View, nodes: &[Node]) -> Result<Vec<Node>, ReadError> {
    let mut nodes = nodes.to_vec();
    for node in &mut nodes {
        if node.tier.role() == Role::Accounting
            && state::latest_node_key(view, node.institution, &node.key)?.is_none()
        {
            node.tier = Tier::Community;
        }
    }
    Ok(nodes)
}

fn centre_key(
    view: &dyn View,
    setting: &Setting,
    tx: &CentreKeyTransaction,
) -> Result<Effects, AdmitError> {
    let centre = state::centre_keys(view)?;
    let (key, found) = (tx.next.key, tx.next.number);
    let expected = centre.next_number();
    if found != expected {
        return Err(Refusal::CentreKeyNotNext { expected, found }.into());
    }
    // Users' keys are not looked at: the thief of the current key could register the next one as soon
    // as it is seen, and hold up every rotation.
    if centre.holds(&key) || state::institution_of_key(view, &key)?.is_some() {
        return Err(Refusal::CentreKeyInUse(key).into());
    }
    let present = members(view)?;
    let quorum = Quorum::of(present.len());
    let needed = match &tx.current {
        // One correct institution at least has asked the centre.
        Some(_) => quorum.one_correct(),
        // As many as can approve while f are silent, so that a lost key is never the end.
        None => quorum.certificate(),
    };
    let found = tx.approvals.len();
    if found < needed {
        return Err(Refusal::CentreKeyUnapproved { found, needed }.into());
    }
    tx.check_current(setting.consortium(), &centre.current().key)
        .map_err(Refusal::Signature)?;
    approved(&present, &tx.approvals, |approval, key| {
        tx.check_approval(setting.consortium(), approval, key)
    })?;
    let value = centre.followed_by(&tx.next, setting.moment).encode();
    Ok(Effects::default().accountable(keys::centre_keys(), value))
}

fn registration(
    view: &dyn View,
    setting: &Setting,
    tx: &Registration,
    id: TransactionId,
) -> Result<Effects, AdmitError> {
    if let Registrant::Doctor { institution, .. } = tx.registrant {
        known(view, institution)?;
    }
    let mut effects = Effects::default();
    let mut hashes = Encoder::new();
    for key in &tx.keys {
        if state::user_key(view, key.hash)?.is_some() {
            return Err(Refusal::KeyRegistered(key.hash).into());
        }
        let value = UserKeyState {
            usage: key.usage,
            registrant: tx.registrant,
            registration: id,
            registered: setting.moment,
            status: KeyStatus::InForce,
        };
        effects = effects.accountable(keys::user_key(key.hash), value.encode());
        hashes.bytes(key.hash.as_bytes());
    }
    tx.check_centre(
        setting.consortium(),
        &state::centre_keys(view)?.current().key,
    )
    .map_err(Refusal::Signature)?;
    Ok(effects.plain(keys::registration(id), hashes.finish()))
}

fn certificate_revocation(
    view: &dyn View,
    setting: &Setting,
    tx: &CertificateRevocation,
) -> Result<Effects, AdmitError> {
    let hashes = state::registration(view, tx.registration)?
        .ok_or(Refusal::UnknownRegistration(tx.registration))?;
    let mut effects = Effects::default();
    for hash in hashes {
        let mut key = state::user_key(view, hash)?.ok_or(ReadError::Missing {
            what: "key of a registration",
        })?;
        // A second revocation has the id of the first and is refused by S1.
        key.status = KeyStatus::RevokedSince(setting.moment);
        effects = effects.accountable(keys::user_key(hash), key.encode());
    }
    tx.check_centre(
        setting.consortium(),
        &state::centre_keys(view)?.current().key,
    )
    .map_err(Refusal::Signature)?;
    Ok(effects)
}

fn writer_epoch(
    view: &dyn View,
    setting: &Setting,
    tx: &WriterEpochTransaction,
) -> Result<Effects, AdmitError> {
    let institution = known(view, tx.institution)?;
    let count = state::writer_epoch_count(view, tx.institution)?;
    let expected = WriterEpoch::new(count);
    if tx.epoch != expected {
        return Err(Refusal::WriterEpochNotNext { expected }.into());
    }
    if state::writer_of(view, &tx.key)?.is_some() {
        return Err(Refusal::WriterKeyRepeated.into());
    }
    tx.check_institution(setting.consortium(), &institution.key)
        .map_err(Refusal::Signature)?;

    let value = WriterEpochState {
        epoch: tx.epoch,
        key: tx.key.clone(),
        begun: setting.moment,
    };
    // The count stays below 2^32: an epoch costs a signature of the institution each.
    let next = Encoder::new().u32(count.saturating_add(1)).finish();
    let owner = Encoder::new()
        .u32(tx.institution.number())
        .u32(tx.epoch.number())
        .finish();
    Ok(Effects::default()
        .accountable(keys::writer_epoch(tx.institution, tx.epoch), value.encode())
        .accountable(keys::writer_epochs(tx.institution), next)
        .plain(keys::writer_key(tx.key.hash()), owner))
}

fn node_key(
    view: &dyn View,
    setting: &Setting,
    tx: &NodeKeyTransaction,
) -> Result<Effects, AdmitError> {
    let (institution, epoch) = (tx.institution, tx.epoch);
    let held = known(view, institution)?;
    let current = setting.nodes.epoch();
    let next = ValidatorEpoch::new(current.number().saturating_add(1));
    let node = if epoch == current {
        let seat = setting.nodes.by_institution(institution).copied();
        seat.filter(|seat| seat.tier.role() == Role::Accounting)
    } else if epoch == next {
        // The set itself is fixed by the epoch's last block, so that a key of the next epoch would
        // always come too late for its first blocks; and by this key one takes its seat.
        let own = Node::of(&held);
        Some(own).filter(|own| setting.nodes.needs_next_key(own))
    } else {
        let found = epoch;
        return Err(Refusal::NodeKeyEpoch { current, found }.into());
    };
    let node = node.ok_or(Refusal::NodeNeedsNoKey { institution, epoch })?;
    // The same key once more has the id of the first and is refused by S1. What another node key
    // certified, nobody seals to.
    if let Some(standing) = state::node_key(view, epoch, institution)?
        && standing.node == node.key
    {
        return Err(Refusal::NodeKeyPresent {
            institution,
            epoch,
            since: standing.recorded,
        }
        .into());
    }
    tx.check_node(setting.consortium(), &node.key)
        .map_err(Refusal::Signature)?;
    let value = NodeKeyState {
        key: tx.key,
        node: node.key,
        recorded: setting.moment,
    };
    let effects =
        Effects::default().accountable(keys::node_key(epoch, institution), value.encode());
    // A key of this epoch does not hide one of the next.
    if state::latest_node_key(view, institution, &node.key)? > Some(epoch) {
        return Ok(effects);
    }
    let latest = Encoder::new().u64(epoch.number()).finish();
    Ok(effects.accountable(keys::latest_node_key(institution, &node.key), latest))
}

fn record(
    view: &dyn View,
    setting: &Setting,
    tx: &RecordTransaction,
    id: TransactionId,
    slot: Slot,
) -> Result<Effects, AdmitError> {
    let statement = &tx.statement;
    on_time(setting, statement.time)?;
    let institution = known(view, statement.institution)?;
    doctor_in_force(view, &statement.author, statement.institution)?;
    let (owner, epoch) =
        state::writer_of(view, &statement.writer_key)?.ok_or(Refusal::WriterEpochEnded)?;
    let current = state::writer_epoch_count(view, statement.institution)?.checked_sub(1);
    if owner != statement.institution || Some(epoch.number()) != current {
        return Err(Refusal::WriterEpochEnded.into());
    }
    let mut taken = Vec::new();
    for entry in &statement.entries {
        let key = keys::tag(owner, epoch, &entry.tag);
        if view.get(&key).map_err(ReadError::from)?.is_some() {
            taken.push(entry.tag);
        }
    }
    if !taken.is_empty() {
        return Err(Refusal::TagsTaken(taken).into());
    }
    tx.check_institution(setting.consortium(), &institution.key)
        .map_err(Refusal::Signature)?;

    let state = RecordState {
        number: slot.record,
        transaction: id,
        position: slot.position,
        digest: statement.digest,
        header_digest: statement.header_digest,
        owner_key: statement.owner_key.compressed(),
        locator: statement.locator,
        author: statement.author,
        institution: owner,
        writer_epoch: epoch,
    };
    Ok(Effects {
        plain: state.rows(&statement.entries).collect(),
        ..Effects::default()
    })
}

fn request(
    view: &dyn View,
    setting: &Setting,
    tx: &RequestTransaction,
) -> Result<Effects, AdmitError> {
    let statement = &tx.statement;
    on_time(setting, statement.time)?;
    let institution = known(view, statement.institution)?;
    doctor_in_force(view, &statement.author, statement.institution)?;
    if state::request(view, statement.commitment)?.is_some() {
        return Err(Refusal::RequestRepeated(statement.commitment).into());
    }
    tx.check_institution(setting.consortium(), &institution.key)
        .map_err(Refusal::Signature)?;
    let value = RequestState {
        author: statement.author,
        institution: statement.institution,
        recorded: setting.moment,
    };
    Ok(Effects::default().accountable(keys::request(statement.commitment), value.encode()))
}

fn grant(view: &dyn View, setting: &Setting, tx: &GrantTransaction) -> Result<Effects, AdmitError> {
    let id = tx.entry.id(setting.consortium());
    if state::grant(view, id)?.is_some() {
        return Err(Refusal::GrantPresent(id).into());
    }
    let block = setting.moment.time;
    if tx.entry.expiry <= block {
        return Err(Refusal::GrantEnded {
            expiry: tx.entry.expiry,
            block,
        }
        .into());
    }
    for key in &tx.entry.access_keys {
        if state::grant_of(view, key)?.is_some() {
            return Err(Refusal::AccessKeyUsed(*key).into());
        }
    }
    known(view, tx.node)?;
    let nodes = grant_nodes(view, setting, tx.entry.epoch)?;
    let node = nodes
        .by_institution(tx.node)
        .filter(|node| node.tier.role() == Role::Accounting)
        .ok_or(Refusal::NotAnAccountingNode(tx.node))?;
    tx.check_node(setting.consortium(), &node.key)
        .map_err(Refusal::Signature)?;

    let first = AccessNumber::new(0);
    let value = GrantState {
        grant: tx.entry.grant,
        not_before: tx.entry.not_before,
        expiry: tx.entry.expiry,
        recorded: setting.moment,
        epoch: tx.entry.epoch,
        master: setting.master,
        revoked: None,
        access: tx
            .entry
            .access_keys
            .iter()
            .map(|key| (*key, first))
            .collect(),
    };
    let mut effects = Effects::default().accountable(keys::grant(id), value.encode());
    for key in &tx.entry.access_keys {
        effects = effects.plain(keys::access_key(key), id.as_bytes().to_vec());
    }
    Ok(effects)
}

/// The nodes that a grant is cut for: those of the block's validator epoch, or of the one before, which
/// may have ended while the grant was on its way.
fn grant_nodes<'a>(
    view: &dyn View,
    setting: &'a Setting,
    epoch: ValidatorEpoch,
) -> Result<Cow<'a, NodeSet>, AdmitError> {
    let current = setting.nodes.epoch();
    if epoch == current {
        return Ok(Cow::Borrowed(&setting.nodes));
    }
    if epoch.number().checked_add(1) != Some(current.number()) {
        let found = epoch;
        return Err(Refusal::GrantEpoch { current, found }.into());
    }
    let before = state::node_set(view, epoch)?;
    Ok(Cow::Owned(
        before.ok_or(ReadError::Missing { what: "node set" })?,
    ))
}

fn access(view: &dyn View, setting: &Setting, tx: &Access) -> Result<Effects, AdmitError> {
    let block = setting.moment.time;
    let mut grants: BTreeMap<GrantId, GrantState> = BTreeMap::new();
    for entry in &tx.entries {
        let key = entry.access_key;
        let id = state::grant_of(view, &key)?.ok_or(Refusal::AccessKeyUnknown(key))?;
        if let Entry::Vacant(unread) = grants.entry(id) {
            let grant = state::grant(view, id)?.ok_or(ReadError::Missing {
                what: "grant of an access key",
            })?;
            if let Some(since) = grant.revoked {
                return Err(Refusal::GrantRevoked(since).into());
            }
            if block < grant.not_before {
                let not_before = grant.not_before;
                return Err(Refusal::GrantNotBegun { not_before, block }.into());
            }
            if block >= grant.expiry {
                return Err(Refusal::GrantExpired {
                    expiry: grant.expiry,
                    block,
                }
                .into());
            }
            unread.insert(grant);
        }
        let (_, next) = grants
            .get_mut(&id)
            .and_then(|grant| grant.access.iter_mut().find(|(own, _)| *own == key))
            .ok_or(ReadError::Missing {
                what: "access key of a grant",
            })?;
        if entry.number != *next {
            let (expected, found) = (*next, entry.number);
            return Err(Refusal::AccessNotNext {
                key,
                expected,
                found,
            }
            .into());
        }
        *next = next.next();
    }
    Ok(grants
        .into_iter()
        .fold(Effects::default(), |effects, (id, grant)| {
            effects.accountable(keys::grant(id), grant.encode())
        }))
}

fn revocation(view: &dyn View, setting: &Setting, tx: &Revocation) -> Result<Effects, AdmitError> {
    let id = tx.grant(setting.consortium());
    let mut grant = state::grant(view, id)?.ok_or(Refusal::GrantUnknown(id))?;
    // A second revocation has the id of the first and is refused by S1.
    grant.revoked = Some(setting.moment);
    Ok(Effects::default().accountable(keys::grant(id), grant.encode()))
}

/// Needs nothing of the state: a second withdrawal has the id of the first and is refused by S1.
fn withdrawal(setting: &Setting, tx: &Withdrawal) -> Effects {
    let id = tx.appointment(setting.consortium());
    let mut value = Encoder::new();
    setting.moment.encode(&mut value);
    Effects::default().accountable(keys::withdrawal(id), value.finish())
}

fn present(view: &dyn View) -> Result<Vec<Institution>, ReadError> {
    state::institutions(view)?
        .into_iter()
        .map(|id| {
            state::institution(view, id)?.ok_or(ReadError::Missing {
                what: "present institution",
            })
        })
        .collect()
}

/// The present institutions that vote.
fn members(view: &dyn View) -> Result<Vec<Institution>, ReadError> {
    let mut members = present(view)?;
    members.retain(|institution| institution.tier != Tier::Observer);
    Ok(members)
}

/// That each approver is a member, and that its signature stands under its key.
fn approved(
    present: &[Institution],
    approvals: &[CentreKeyApproval],
    check: impl Fn(&CentreKeyApproval, &VerifyingKey) -> Result<(), CheckError>,
) -> Result<(), Refusal> {
    for approval in approvals {
        let approver = present
            .iter()
            .find(|other| other.id == approval.by)
            .ok_or(Refusal::UnknownInstitution(approval.by))?;
        check(approval, &approver.key).map_err(Refusal::Signature)?;
    }
    Ok(())
}

fn known(view: &dyn View, id: InstitutionId) -> Result<Institution, AdmitError> {
    Ok(state::institution(view, id)?.ok_or(Refusal::UnknownInstitution(id))?)
}

fn doctor_in_force(
    view: &dyn View,
    author: &VerifyingKey,
    institution: InstitutionId,
) -> Result<(), AdmitError> {
    let hash = KeyHash::of(author);
    let key = state::user_key(view, hash)?.ok_or(Refusal::KeyUnknown(hash))?;
    let is_there = matches!(
        key.registrant,
        Registrant::Doctor { institution: own, .. } if own == institution
    );
    if !is_there || key.usage != KeyUse::Signature {
        return Err(Refusal::NotADoctorThere {
            key: hash,
            institution,
        }
        .into());
    }
    match key.status {
        KeyStatus::InForce => Ok(()),
        KeyStatus::RevokedSince(since) => Err(Refusal::KeyRevoked { key: hash, since }.into()),
    }
}

fn on_time(setting: &Setting, signed: Timestamp) -> Result<(), Refusal> {
    let block = setting.moment.time;
    let ahead = u128::from(signed.number().saturating_sub(block.number()));
    if ahead > setting.charter.settings.signer_drift.as_millis() {
        return Err(Refusal::FromTheFuture { signed, block });
    }
    Ok(())
}

/// Of one member at one time. A motion that 255 members approved is 10,917 + 34 + 255 x 20 = 16,051 bytes
/// of state, so 255 members hold 33 MB open.
pub(crate) const MOTIONS_OPEN_MAX: usize = 8;

/// Each is a peer of every node: a tenth of the largest node set.
const OBSERVERS_MAX: usize = 25;
