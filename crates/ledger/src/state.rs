//! The final state and how others read it (`spec/chain.md` section 3). Every function here reads a
//! [`View`] and costs a constant number of look-ups per value it returns.

use std::collections::BTreeMap;

use scheme::Digest;
use scheme::VerifyingKey;
use scheme::{AppointmentId, GrantId};
use scheme::{CompressedOwnerKey, CompressedWriterEpochKey, HpkePublicKey, WriterEpochPublicKey};
use scheme::{ConsortiumId, InstitutionId, Timestamp, ValidatorEpoch, WriterEpoch};
use scheme::{DecodeError, Decoder, Encoder};
use scheme::{Entry, LocatorBinding, SealedLocator, Tag};
use thiserror::Error;

use crate::genesis::Settings;
use crate::hash::{self, tagged};
use crate::identity::{
    CentreKeyNumber, Height, KeyHash, RecordNumber, RequestCommitment, StateRoot, TransactionId,
};
use crate::keys;
use crate::log::RecordLog;
use crate::policy::{Node, NodeSet};
use crate::transaction::{
    AccessNumber, Anchor, CENTRE_KEYS_MAX, Contact, Institution, KeyUse, Motion, NextCentreKey,
    Registrant,
};
use crate::trie;
use crate::view::{Changes, View, ViewError};

/// Why the state could not be read. None of it says anything about a transaction: a node that meets
/// it stops and opens its store anew.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The store failed.
    #[error("the store failed; open it anew")]
    View(#[from] ViewError),
    /// A value in the store is not what the ledger wrote.
    #[error("the state holds a malformed value; restore the node's store")]
    Corrupt(#[from] DecodeError),
    /// A value that the ledger wrote is not in the store.
    #[error("the state lacks the {what}; restore the node's store")]
    Missing {
        /// What is missing.
        what: &'static str,
    },
    /// The chain goes by later rules than this program knows.
    #[error(
        "the chain goes by rules {found} and this program knows those up to {RULES_KNOWN}; install a later release"
    )]
    UnknownRules {
        /// Those in force.
        found: u16,
    },
}

/// When something became final, by the chain: height and time of its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The block's height.
    pub height: Height,
    /// The block's time.
    pub time: Timestamp,
}

/// What the consortium agreed on at genesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charter {
    /// Its id.
    pub consortium: ConsortiumId,
    /// How the chain is run.
    pub settings: Settings,
}

/// All keys that the registration centre has had, by their numbers: the founding one, and one of each
/// rotation. There is at least one, and the last is the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CentreKeyList(Vec<CentreKeyState>);

/// A key of the registration centre.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CentreKeyState {
    /// Which.
    pub number: CentreKeyNumber,
    /// The key.
    pub key: VerifyingKey,
    /// When it became the current one.
    pub begun: Moment,
    /// Since when it counts as lost to others, if it does.
    pub compromised: Option<Moment>,
}

/// How a key of the registration centre stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CentreKeyStanding {
    /// It signs registrations, their revocations and certificates.
    Current,
    /// Another one followed. Certificates under it stand to their own end; the chain takes nothing
    /// more that it signs.
    Retired,
    /// It was lost to others: nothing under it counts.
    Compromised,
}

impl CentreKeyList {
    /// The list with which a consortium begins.
    pub(crate) fn founding(key: VerifyingKey, begun: Moment) -> Self {
        Self(vec![CentreKeyState {
            number: CentreKeyNumber::new(0),
            key,
            begun,
            compromised: None,
        }])
    }

    /// All keys, by their numbers.
    pub fn keys(&self) -> &[CentreKeyState] {
        &self.0
    }

    /// The key that signs for the centre.
    pub fn current(&self) -> &CentreKeyState {
        self.0.last().expect("a list is made with a key and grows")
    }

    /// The keys that there were at a height, each with how it stood there.
    pub fn as_of(
        &self,
        height: Height,
    ) -> impl Iterator<Item = (&CentreKeyState, CentreKeyStanding)> {
        let until = self.0.partition_point(|key| key.begun.height <= height);
        self.0[..until].iter().map(move |key| {
            let standing = if key.compromised.is_some_and(|since| since.height <= height) {
                CentreKeyStanding::Compromised
            } else if key.number.place() + 1 == until {
                CentreKeyStanding::Current
            } else {
                CentreKeyStanding::Retired
            };
            (key, standing)
        })
    }

    /// Whether the key is or was the centre's.
    pub(crate) fn holds(&self, key: &VerifyingKey) -> bool {
        self.0.iter().any(|own| own.key == *key)
    }

    /// The number of the next key. After the last that there can be, it is one that no transaction
    /// bears.
    pub(crate) fn next_number(&self) -> CentreKeyNumber {
        CentreKeyNumber::new(self.0.len() as u8)
    }

    /// The list once the next key has become the current one.
    pub(crate) fn followed_by(mut self, next: &NextCentreKey, at: Moment) -> Self {
        for number in &next.compromised {
            if let Some(key) = self.0.get_mut(number.place()) {
                key.compromised.get_or_insert(at);
            }
        }
        self.0.push(CentreKeyState {
            number: next.number,
            key: next.key,
            begun: at,
            compromised: None,
        });
        self
    }
}

/// An institution that belongs or belonged to the consortium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstitutionState {
    /// Its tier and keys as they are, or were when it left.
    pub institution: Institution,
    /// How many pairs of keys it had before these.
    pub generation: u32,
    /// When it joined.
    pub joined: Moment,
    /// When it left, if it did.
    pub left: Option<Moment>,
}

/// The institutions that belong to the consortium, observers among them, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstitutionList(pub Vec<InstitutionId>);

/// Where an institution is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactState {
    /// As it said last.
    pub contact: Contact,
    /// How many contacts it had before this one.
    pub serial: u32,
    /// When it said so.
    pub recorded: Moment,
}

/// A motion with its approvals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MotionState {
    /// The motion.
    pub motion: Motion,
    /// When it was put.
    pub recorded: Moment,
    /// When it took effect, if it did.
    pub effective: Option<Moment>,
    /// Who approved when, in that order; the member that put it first.
    pub approvals: Vec<(InstitutionId, Moment)>,
}

/// A motion that can be approved, unless its end has come since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenMotion {
    /// The motion.
    pub motion: TransactionId,
    /// Who put it.
    pub by: InstitutionId,
    /// From here on no approval counts.
    pub until: Timestamp,
}

/// The motions that can be approved, and how many there ever were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenMotions {
    /// How many were put since the founding.
    pub count: u32,
    /// Those that are open, in the order in which they were put.
    pub open: Vec<OpenMotion>,
}

/// A user's key by its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserKeyState {
    /// What the key is for.
    pub usage: KeyUse,
    /// Whose it is.
    pub registrant: Registrant,
    /// The registration that put it on the chain.
    pub registration: TransactionId,
    /// When.
    pub registered: Moment,
    /// In force or revoked.
    pub status: KeyStatus,
}

/// Whether the certificate of a key is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStatus {
    /// It is.
    InForce,
    /// It has been revoked since.
    RevokedSince(Moment),
}

/// A writer epoch of an institution. It ends when the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterEpochState {
    /// Its number.
    pub epoch: WriterEpoch,
    /// R.
    pub key: WriterEpochPublicKey,
    /// Since when.
    pub begun: Moment,
}

/// An accounting node's HPKE key of a validator epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeKeyState {
    /// The key; it stays the same for the whole epoch.
    pub key: HpkePublicKey,
    /// The node key that certified it. If the epoch's node set has another, nothing is sealed to this one.
    pub node: VerifyingKey,
    /// When it became final.
    pub recorded: Moment,
}

/// A request on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestState {
    /// The doctor's key.
    pub author: VerifyingKey,
    /// The doctor's institution.
    pub institution: InstitutionId,
    /// When it became final.
    pub recorded: Moment,
}

/// A grant on the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantState {
    /// SHA-256 of the grant.
    pub grant: Digest,
    /// Nothing is read before.
    pub not_before: Timestamp,
    /// Nothing is read from here on.
    pub expiry: Timestamp,
    /// When it became final.
    pub recorded: Moment,
    /// The node set whose accounting nodes hold its shares.
    pub epoch: ValidatorEpoch,
    /// The institution whose node led the block that recorded it: the first master node.
    pub master: InstitutionId,
    /// Since when it is revoked, if it is.
    pub revoked: Option<Moment>,
    /// Each access key with the number of its next access, which is how many there were.
    pub access: Vec<(VerifyingKey, AccessNumber)>,
}

/// The last anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorState {
    /// The anchor.
    pub anchor: Anchor,
    /// When it became final.
    pub recorded: Moment,
}

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionPosition {
    /// The block's height.
    pub height: Height,
    /// Its place in the block's body, from 0.
    pub index: u32,
}

/// What stands under an index tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntryState {
    /// The record it belongs to.
    pub record: RecordNumber,
    /// The record's locator key, masked.
    pub pad: [u8; 16],
}

/// A record: where it stands, and all that a search needs to open its locator, so that none reads a
/// block. The rest of the record's statement stands in its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordState {
    /// Its number on the chain.
    pub number: RecordNumber,
    /// Its transaction.
    pub transaction: TransactionId,
    /// Where the transaction stands.
    pub position: TransactionPosition,
    /// SHA-256 of the container.
    pub digest: Digest,
    /// SHA-256 of the container's header.
    pub header_digest: Digest,
    /// O_rec, as it was checked when the record was admitted.
    pub owner_key: CompressedOwnerKey,
    /// Address and delta, sealed under the locator key.
    pub locator: SealedLocator,
    /// The author's key.
    pub author: VerifyingKey,
    /// The author's institution.
    pub institution: InstitutionId,
    /// The institution's writer epoch, under whose R the record is indexed.
    pub writer_epoch: WriterEpoch,
}

impl RecordState {
    /// What the record's locator is bound to, given R of its institution and writer epoch.
    pub fn binding(&self, writer_key: CompressedWriterEpochKey) -> LocatorBinding<'_> {
        LocatorBinding {
            writer_key,
            digest: &self.digest,
            header_digest: &self.header_digest,
            owner_key: self.owner_key,
            author: &self.author,
            institution: self.institution,
        }
    }
}

/// The last block of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Its height.
    pub height: Height,
    /// Its time.
    pub time: Timestamp,
}

/// What the consortium agreed on at genesis.
///
/// # Errors
/// [`ReadError`]; `Missing` if the view is that of no chain.
pub fn charter(view: &dyn View) -> Result<Charter, ReadError> {
    read(view, &keys::charter(), Charter::read)?.ok_or(ReadError::Missing { what: "charter" })
}

/// All keys that the registration centre has had. One look-up.
///
/// # Errors
/// [`ReadError`]; `Missing` if the view is that of no chain.
pub fn centre_keys(view: &dyn View) -> Result<CentreKeyList, ReadError> {
    read(view, &keys::centre_keys(), CentreKeyList::read)?.ok_or(ReadError::Missing {
        what: "list of the centre's keys",
    })
}

/// Height and time of the last block of this state.
///
/// # Errors
/// [`ReadError`]; `Missing` if the view is that of no chain.
pub fn tip(view: &dyn View) -> Result<Tip, ReadError> {
    read(view, &keys::tip(), Tip::read)?.ok_or(ReadError::Missing {
        what: "last height",
    })
}

/// The root of this state, as the header of its last block bears it.
///
/// # Errors
/// [`ReadError`].
pub fn state_root(view: &dyn View) -> Result<StateRoot, ReadError> {
    let consortium = charter(view)?.consortium;
    let log = RecordLog::read(view, &consortium)?;
    Ok(combine(
        &consortium,
        &trie::root(view, &consortium)?,
        log.next(),
        &log.root(),
    ))
}

/// The ids of the institutions that belong to the consortium, observers among them, ascending.
///
/// # Errors
/// [`ReadError`].
pub fn institutions(view: &dyn View) -> Result<Vec<InstitutionId>, ReadError> {
    let list = read(view, &keys::institutions(), InstitutionList::read)?;
    let list = list.ok_or(ReadError::Missing {
        what: "list of institutions",
    })?;
    Ok(list.0)
}

/// An institution by its id, with tier and keys; `None` if it does not belong to the consortium.
///
/// # Errors
/// [`ReadError`].
pub fn institution(view: &dyn View, id: InstitutionId) -> Result<Option<Institution>, ReadError> {
    let state = institution_state(view, id)?.filter(|state| state.left.is_none());
    Ok(state.map(|state| state.institution))
}

/// An institution that belongs or belonged to the consortium; `None` if it never did.
///
/// # Errors
/// [`ReadError`].
pub fn institution_state(
    view: &dyn View,
    id: InstitutionId,
) -> Result<Option<InstitutionState>, ReadError> {
    read(view, &keys::institution(id), InstitutionState::read)
}

/// Where an institution is reached; `None` if the chain does not say so. A founder's contact stands in
/// the founders' directory until it sends one.
///
/// # Errors
/// [`ReadError`].
pub fn contact(view: &dyn View, id: InstitutionId) -> Result<Option<ContactState>, ReadError> {
    read(view, &keys::contact(id), ContactState::read)
}

/// Whose this key is or was, an institution's or its node's.
///
/// # Errors
/// [`ReadError`].
pub fn institution_of_key(
    view: &dyn View,
    key: &VerifyingKey,
) -> Result<Option<InstitutionId>, ReadError> {
    read(view, &keys::institution_key(key), |from| {
        Ok(InstitutionId::new(from.u32("institution")?))
    })
}

/// A motion by its transaction.
///
/// # Errors
/// [`ReadError`].
pub fn motion(view: &dyn View, id: TransactionId) -> Result<Option<MotionState>, ReadError> {
    read(view, &keys::motion(id), MotionState::read)
}

/// By which rules the chain goes; a motion changes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RulesState {
    /// The last that were decided on, from 1.
    pub rules: u16,
    /// The validator epoch from which on they are in force. Before it those are that come before.
    pub since: ValidatorEpoch,
}

/// The latest rules that this program knows (`spec/chain.md`).
pub const RULES_KNOWN: u16 = 1;

impl RulesState {
    /// Those in force in a validator epoch, this one or a later one than the last change's.
    pub fn in_epoch(&self, epoch: ValidatorEpoch) -> u16 {
        match epoch >= self.since {
            true => self.rules,
            false => self.rules.saturating_sub(1),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u16(self.rules).u64(self.since.number());
        out.finish()
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            rules: from.u16("rules")?,
            since: ValidatorEpoch::new(from.u64("validator epoch")?),
        })
    }
}

/// By which rules the chain goes: 1 from the founding on.
///
/// # Errors
/// [`ReadError`].
pub fn rules(view: &dyn View) -> Result<RulesState, ReadError> {
    let founding = RulesState {
        rules: 1,
        since: ValidatorEpoch::new(0),
    };
    Ok(read(view, &keys::rules(), RulesState::read)?.unwrap_or(founding))
}

/// That this program knows the rules of a validator epoch.
///
/// # Errors
/// [`ReadError::UnknownRules`] if not: the node stops before it decides anything by the wrong ones.
pub fn check_rules(view: &dyn View, epoch: ValidatorEpoch) -> Result<(), ReadError> {
    let found = rules(view)?.in_epoch(epoch);
    match found <= RULES_KNOWN {
        true => Ok(()),
        false => Err(ReadError::UnknownRules { found }),
    }
}

/// The motions that can be approved.
///
/// # Errors
/// [`ReadError`].
pub fn open_motions(view: &dyn View) -> Result<OpenMotions, ReadError> {
    let found = read(view, &keys::open_motions(), OpenMotions::read)?;
    Ok(found.unwrap_or_default())
}

/// The motion with this number, from 0 in the order of the chain; `None` past the last.
///
/// # Errors
/// [`ReadError`].
pub fn motion_by_number(view: &dyn View, number: u32) -> Result<Option<TransactionId>, ReadError> {
    read(view, &keys::motion_number(number), |from| {
        Ok(TransactionId::new(from.array("motion")?))
    })
}

/// The node set of a validator epoch; `None` if that epoch has not been decided yet.
///
/// # Errors
/// [`ReadError`].
pub fn node_set(view: &dyn View, epoch: ValidatorEpoch) -> Result<Option<NodeSet>, ReadError> {
    read(view, &keys::node_set(epoch), NodeSet::decode)
}

/// The validator epochs whose nodes are not those of the epoch before, ascending; the first is none of
/// them.
///
/// # Errors
/// [`ReadError`].
pub fn changed_node_sets(view: &dyn View) -> Result<Vec<ValidatorEpoch>, ReadError> {
    let found = read(view, &keys::changed_node_sets(), |from| {
        let mut epochs = Vec::new();
        while from.remaining() > 0 {
            epochs.push(ValidatorEpoch::new(from.u64("validator epoch")?));
        }
        Ok(epochs)
    })?;
    Ok(found.unwrap_or_default())
}

/// The proof that was kept when this epoch's nodes came to be other ones; `None` if they did not.
pub(crate) fn node_set_proof(
    view: &dyn View,
    epoch: ValidatorEpoch,
) -> Result<Option<Vec<u8>>, ReadError> {
    Ok(view.get(&keys::node_set_proof(epoch))?)
}

/// The HPKE key of an institution's accounting node in a validator epoch, to which grants under that
/// epoch are sealed; `None` if the node has not put one on the chain.
///
/// # Errors
/// [`ReadError`].
pub fn node_key(
    view: &dyn View,
    epoch: ValidatorEpoch,
    institution: InstitutionId,
) -> Result<Option<NodeKeyState>, ReadError> {
    let key = keys::node_key(epoch, institution);
    read(view, &key, NodeKeyState::read)
}

/// The HPKE key to which grants of a validator epoch are sealed for an accounting node of it: its key of
/// that epoch or, if the node was down and made none, its last one before. One that another node key
/// certified is not this node's.
///
/// # Errors
/// [`ReadError`].
pub fn serving_node_key(
    view: &dyn View,
    epoch: ValidatorEpoch,
    node: &Node,
) -> Result<Option<NodeKeyState>, ReadError> {
    let of = |epoch| {
        let held = node_key(view, epoch, node.institution)?;
        Ok(held.filter(|held| held.node == node.key))
    };
    if let Some(own) = of(epoch)? {
        return Ok(Some(own));
    }
    match latest_node_key(view, node.institution, &node.key)? {
        Some(latest) if latest < epoch => of(latest),
        _ => Ok(None),
    }
}

/// The last validator epoch of which an institution's node has an HPKE key that this node key certified.
pub(crate) fn latest_node_key(
    view: &dyn View,
    institution: InstitutionId,
    node: &VerifyingKey,
) -> Result<Option<ValidatorEpoch>, ReadError> {
    read(view, &keys::latest_node_key(institution, node), |from| {
        Ok(ValidatorEpoch::new(from.u64("validator epoch")?))
    })
}

/// A user's key by SHA-256 of its bytes; `None` if it was never registered.
///
/// # Errors
/// [`ReadError`].
pub fn user_key(view: &dyn View, hash: KeyHash) -> Result<Option<UserKeyState>, ReadError> {
    read(view, &keys::user_key(hash), UserKeyState::read)
}

/// The current writer epoch of an institution; `None` before its first.
///
/// # Errors
/// [`ReadError`].
pub fn current_writer_epoch(
    view: &dyn View,
    institution: InstitutionId,
) -> Result<Option<WriterEpochState>, ReadError> {
    match writer_epoch_count(view, institution)?.checked_sub(1) {
        None => Ok(None),
        Some(last) => writer_epoch(view, institution, WriterEpoch::new(last)),
    }
}

/// A writer epoch of an institution by its number.
///
/// # Errors
/// [`ReadError`].
pub fn writer_epoch(
    view: &dyn View,
    institution: InstitutionId,
    epoch: WriterEpoch,
) -> Result<Option<WriterEpochState>, ReadError> {
    read(
        view,
        &keys::writer_epoch(institution, epoch),
        WriterEpochState::read,
    )
}

/// All writer epochs of an institution, ascending.
///
/// # Errors
/// [`ReadError`].
pub fn writer_epochs(
    view: &dyn View,
    institution: InstitutionId,
) -> Result<Vec<WriterEpochState>, ReadError> {
    (0..writer_epoch_count(view, institution)?)
        .map(|number| {
            writer_epoch(view, institution, WriterEpoch::new(number))?.ok_or(ReadError::Missing {
                what: "writer epoch",
            })
        })
        .collect()
}

/// Which institution's writer epoch the key R belongs to; `None` if it is on no chain.
///
/// # Errors
/// [`ReadError`].
pub fn writer_of(
    view: &dyn View,
    key: &WriterEpochPublicKey,
) -> Result<Option<(InstitutionId, WriterEpoch)>, ReadError> {
    read(view, &keys::writer_key(key.hash()), |from| {
        let institution = InstitutionId::new(from.u32("institution")?);
        Ok((institution, WriterEpoch::new(from.u32("writer epoch")?)))
    })
}

/// What stands under an index tag of a writer epoch's R; `None` if nothing does. One look-up.
///
/// # Errors
/// [`ReadError`].
pub fn index_entry(
    view: &dyn View,
    institution: InstitutionId,
    epoch: WriterEpoch,
    tag: &Tag,
) -> Result<Option<IndexEntryState>, ReadError> {
    let key = keys::tag(institution, epoch, tag);
    read(view, &key, IndexEntryState::read)
}

/// The record with this index tag under a writer epoch's R; `None` if there is none. Two look-ups.
///
/// # Errors
/// [`ReadError`].
pub fn record_by_tag(
    view: &dyn View,
    institution: InstitutionId,
    epoch: WriterEpoch,
    tag: &Tag,
) -> Result<Option<RecordState>, ReadError> {
    match index_entry(view, institution, epoch, tag)? {
        None => Ok(None),
        Some(entry) => record_of(view, &entry).map(Some),
    }
}

/// The record that an index entry belongs to. One look-up.
///
/// # Errors
/// [`ReadError`]; `Missing` if the view is not the one that the entry was read from.
pub fn record_of(view: &dyn View, entry: &IndexEntryState) -> Result<RecordState, ReadError> {
    record(view, entry.record)?.ok_or(ReadError::Missing {
        what: "record of an index entry",
    })
}

/// The record with this number; `None` past the last. One look-up.
///
/// # Errors
/// [`ReadError`].
pub fn record(view: &dyn View, number: RecordNumber) -> Result<Option<RecordState>, ReadError> {
    read(view, &keys::record(number), |from| {
        RecordState::read(number, from)
    })
}

/// How many records there are; also the number of the next one.
///
/// # Errors
/// [`ReadError`].
pub fn record_count(view: &dyn View) -> Result<RecordNumber, ReadError> {
    Ok(RecordLog::read(view, &charter(view)?.consortium)?.next())
}

/// Where a transaction stands; `None` if it is not final.
///
/// # Errors
/// [`ReadError`].
pub fn transaction(
    view: &dyn View,
    id: TransactionId,
) -> Result<Option<TransactionPosition>, ReadError> {
    read(view, &keys::transaction(id), TransactionPosition::read)
}

/// A request by its commitment.
///
/// # Errors
/// [`ReadError`].
pub fn request(
    view: &dyn View,
    commitment: RequestCommitment,
) -> Result<Option<RequestState>, ReadError> {
    read(view, &keys::request(commitment), RequestState::read)
}

/// A grant by its id.
///
/// # Errors
/// [`ReadError`].
pub fn grant(view: &dyn View, id: GrantId) -> Result<Option<GrantState>, ReadError> {
    read(view, &keys::grant(id), GrantState::read)
}

/// Which grant an access key belongs to.
///
/// # Errors
/// [`ReadError`].
pub fn grant_of(view: &dyn View, access_key: &VerifyingKey) -> Result<Option<GrantId>, ReadError> {
    read(view, &keys::access_key(access_key), |from| {
        Ok(GrantId::new(from.array("grant of an access key")?))
    })
}

/// Since when an agent's appointment is withdrawn; `None` if it is not.
///
/// # Errors
/// [`ReadError`].
pub fn withdrawal(view: &dyn View, id: AppointmentId) -> Result<Option<Moment>, ReadError> {
    read(view, &keys::withdrawal(id), Moment::read)
}

/// The last anchor; `None` before the first.
///
/// # Errors
/// [`ReadError`].
pub fn last_anchor(view: &dyn View) -> Result<Option<AnchorState>, ReadError> {
    read(view, &keys::last_anchor(), AnchorState::read)
}

pub(crate) fn writer_epoch_count(
    view: &dyn View,
    institution: InstitutionId,
) -> Result<u32, ReadError> {
    let key = keys::writer_epochs(institution);
    Ok(read(view, &key, |from| from.u32("number of writer epochs"))?.unwrap_or(0))
}

/// The key hashes that a registration put on the chain.
pub(crate) fn registration(
    view: &dyn View,
    id: TransactionId,
) -> Result<Option<Vec<KeyHash>>, ReadError> {
    read(view, &keys::registration(id), |from| {
        let mut hashes = Vec::new();
        while from.remaining() > 0 {
            hashes.push(KeyHash::new(from.array("hash of the key")?));
        }
        Ok(hashes)
    })
}

/// Writes the accountable values, their trie and the record log, and returns the root of the state
/// that follows.
pub(crate) fn seal(
    view: &dyn View,
    consortium: &ConsortiumId,
    accountable: &BTreeMap<Vec<u8>, Vec<u8>>,
    log: Option<&RecordLog>,
    changes: &mut Changes,
) -> Result<StateRoot, ReadError> {
    for (key, value) in accountable {
        changes.put(key.clone(), value.clone());
    }
    let trie = trie::update(view, consortium, accountable, changes)?;
    let log = match log {
        Some(log) => {
            log.write(changes);
            log.clone()
        }
        None => RecordLog::read(view, consortium)?,
    };
    Ok(combine(consortium, &trie, log.next(), &log.root()))
}

/// The state root over both its parts.
pub(crate) fn combine(
    consortium: &ConsortiumId,
    trie: &Digest,
    records: RecordNumber,
    log: &Digest,
) -> StateRoot {
    let count = records.number().to_be_bytes();
    tagged(
        hash::STATE_ROOT,
        consortium,
        &[trie.as_bytes(), &count, log.as_bytes()],
    )
    .into()
}

pub(crate) fn read<T>(
    view: &dyn View,
    key: &[u8],
    decode: impl FnOnce(&mut Decoder<'_>) -> Result<T, DecodeError>,
) -> Result<Option<T>, ReadError> {
    match view.get(key)? {
        None => Ok(None),
        Some(bytes) => Ok(Some(decode_whole(&bytes, decode)?)),
    }
}

pub(crate) fn decode_whole<T>(
    bytes: &[u8],
    decode: impl FnOnce(&mut Decoder<'_>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let mut from = Decoder::new(bytes);
    let value = decode(&mut from)?;
    from.finish("the state's value")?;
    Ok(value)
}

pub(crate) fn encode_institutions(ids: Vec<InstitutionId>) -> Vec<u8> {
    let mut out = Encoder::new();
    for id in ids {
        out.u32(id.number());
    }
    out.finish()
}

impl Charter {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.bytes(self.consortium.as_bytes());
        self.settings.encode(&mut out);
        out.finish()
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            consortium: ConsortiumId::new(from.array("consortium")?),
            settings: Settings::decode(from)?,
        })
    }
}

impl CentreKeyList {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        for key in &self.0 {
            out.bytes(key.key.as_bytes());
            key.begun.encode(&mut out);
            Moment::encode_option(key.compromised.as_ref(), &mut out);
        }
        out.finish()
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut keys = Vec::new();
        for number in 0..CENTRE_KEYS_MAX as u8 {
            if from.remaining() == 0 {
                break;
            }
            keys.push(CentreKeyState {
                number: CentreKeyNumber::new(number),
                key: VerifyingKey::new(from.array("centre's key")?),
                begun: Moment::read(from)?,
                compromised: Moment::read_option(from)?,
            });
        }
        if keys.is_empty() {
            return Err(DecodeError::Invalid {
                what: "list of the centre's keys",
                why: "empty",
            });
        }
        Ok(Self(keys))
    }
}

impl Tip {
    pub(crate) fn encode(&self) -> Vec<u8> {
        Encoder::new()
            .u64(self.height.number())
            .u64(self.time.number())
            .finish()
    }

    fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let height = Height::new(from.u64("last height")?);
        Ok(Self {
            height,
            time: Timestamp::new(from.u64("last time")?),
        })
    }
}

impl Moment {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.u64(self.height.number()).u64(self.time.number());
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let height = Height::new(from.u64("height")?);
        Ok(Self {
            height,
            time: Timestamp::new(from.u64("time")?),
        })
    }

    fn encode_option(moment: Option<&Self>, out: &mut Encoder) {
        match moment {
            None => {
                out.u8(0);
            }
            Some(moment) => {
                out.u8(1);
                moment.encode(out);
            }
        }
    }

    fn read_option(from: &mut Decoder<'_>) -> Result<Option<Self>, DecodeError> {
        match from.u8("whether it is revoked")? {
            0 => Ok(None),
            1 => Self::read(from).map(Some),
            _ => Err(DecodeError::Invalid {
                what: "whether it is revoked",
                why: "not 0 or 1",
            }),
        }
    }
}

impl TransactionPosition {
    pub(crate) fn encode(&self) -> Vec<u8> {
        Encoder::new()
            .u64(self.height.number())
            .u32(self.index)
            .finish()
    }

    fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let height = Height::new(from.u64("height")?);
        Ok(Self {
            height,
            index: from.u32("place in the block")?,
        })
    }
}

impl IndexEntryState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        Encoder::new()
            .u64(self.record.number())
            .bytes(&self.pad)
            .finish()
    }

    fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            record: RecordNumber::new(from.u64("record number")?),
            pad: from.array("pad")?,
        })
    }
}

impl RecordState {
    /// The rows of a record: one of its own, and one of each index entry.
    pub(crate) fn rows(&self, entries: &[Entry]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        let of_entry = |entry: &Entry| {
            let value = IndexEntryState {
                record: self.number,
                pad: entry.pad,
            };
            let key = keys::tag(self.institution, self.writer_epoch, &entry.tag);
            (key, value.encode())
        };
        std::iter::once((keys::record(self.number), self.encode()))
            .chain(entries.iter().map(of_entry))
    }

    /// 324 bytes: 32 + 12 + 32 + 32 + 96 + 80 + 32 + 4 + 4.
    fn encode(&self) -> Vec<u8> {
        Encoder::new()
            .bytes(self.transaction.as_bytes())
            .bytes(&self.position.encode())
            .bytes(self.digest.as_bytes())
            .bytes(self.header_digest.as_bytes())
            .bytes(self.owner_key.as_bytes())
            .bytes(self.locator.as_bytes())
            .bytes(self.author.as_bytes())
            .u32(self.institution.number())
            .u32(self.writer_epoch.number())
            .finish()
    }

    fn read(number: RecordNumber, from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            number,
            transaction: TransactionId::new(from.array("transaction id")?),
            position: TransactionPosition::read(from)?,
            digest: Digest::new(from.array("digest")?),
            header_digest: Digest::new(from.array("header digest")?),
            owner_key: CompressedOwnerKey::new(from.array("owner key")?),
            locator: SealedLocator::new(from.array("sealed locator")?),
            author: VerifyingKey::new(from.array("author key")?),
            institution: InstitutionId::new(from.u32("institution")?),
            writer_epoch: WriterEpoch::new(from.u32("writer epoch")?),
        })
    }
}

impl InstitutionState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        self.institution.encode(&mut out);
        out.u32(self.generation);
        self.joined.encode(&mut out);
        Moment::encode_option(self.left.as_ref(), &mut out);
        out.finish()
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            institution: Institution::decode(from)?,
            generation: from.u32("generation of the keys")?,
            joined: Moment::read(from)?,
            left: Moment::read_option(from)?,
        })
    }
}

impl InstitutionList {
    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut ids = Vec::new();
        while from.remaining() > 0 {
            ids.push(InstitutionId::new(from.u32("institution")?));
        }
        Ok(Self(ids))
    }
}

impl ContactState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        self.contact.encode(&mut out);
        out.u32(self.serial);
        self.recorded.encode(&mut out);
        out.finish()
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            contact: Contact::decode(from)?,
            serial: from.u32("serial of the contact")?,
            recorded: Moment::read(from)?,
        })
    }
}

impl MotionState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        self.motion.encode(&mut out);
        self.recorded.encode(&mut out);
        Moment::encode_option(self.effective.as_ref(), &mut out);
        for (by, at) in &self.approvals {
            at.encode(out.u32(by.number()));
        }
        out.finish()
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let motion = Motion::decode(from)?;
        let recorded = Moment::read(from)?;
        let effective = Moment::read_option(from)?;
        let mut approvals = Vec::new();
        while from.remaining() > 0 {
            let by = InstitutionId::new(from.u32("member")?);
            approvals.push((by, Moment::read(from)?));
        }
        Ok(Self {
            motion,
            recorded,
            effective,
            approvals,
        })
    }
}

impl OpenMotions {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u32(self.count);
        for motion in &self.open {
            out.bytes(motion.motion.as_bytes())
                .u32(motion.by.number())
                .u64(motion.until.number());
        }
        out.finish()
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let count = from.u32("number of motions")?;
        let mut open = Vec::new();
        while from.remaining() > 0 {
            open.push(OpenMotion {
                motion: TransactionId::new(from.array("motion")?),
                by: InstitutionId::new(from.u32("member")?),
                until: Timestamp::new(from.u64("end of the motion")?),
            });
        }
        Ok(Self { count, open })
    }
}

impl UserKeyState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u8(self.usage.code());
        self.registrant.encode(&mut out);
        out.bytes(self.registration.as_bytes());
        self.registered.encode(&mut out);
        let revoked = match &self.status {
            KeyStatus::InForce => None,
            KeyStatus::RevokedSince(moment) => Some(moment),
        };
        Moment::encode_option(revoked, &mut out);
        out.finish()
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            usage: KeyUse::from_code(from.u8("use of the key")?)?,
            registrant: Registrant::decode(from)?,
            registration: TransactionId::new(from.array("registration")?),
            registered: Moment::read(from)?,
            status: match Moment::read_option(from)? {
                None => KeyStatus::InForce,
                Some(moment) => KeyStatus::RevokedSince(moment),
            },
        })
    }
}

impl WriterEpochState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u32(self.epoch.number()).bytes(self.key.as_bytes());
        self.begun.encode(&mut out);
        out.finish()
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            epoch: WriterEpoch::new(from.u32("writer epoch")?),
            key: WriterEpochPublicKey::from_bytes(&from.array("writer epoch key")?)?,
            begun: Moment::read(from)?,
        })
    }
}

impl NodeKeyState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.bytes(self.key.as_bytes()).bytes(self.node.as_bytes());
        self.recorded.encode(&mut out);
        out.finish()
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key: HpkePublicKey::new(from.array("HPKE key of the node")?),
            node: VerifyingKey::new(from.array("node key")?),
            recorded: Moment::read(from)?,
        })
    }
}

impl RequestState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.bytes(self.author.as_bytes())
            .u32(self.institution.number());
        self.recorded.encode(&mut out);
        out.finish()
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            author: VerifyingKey::new(from.array("doctor's key")?),
            institution: InstitutionId::new(from.u32("institution")?),
            recorded: Moment::read(from)?,
        })
    }
}

impl GrantState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.bytes(self.grant.as_bytes())
            .u64(self.not_before.number())
            .u64(self.expiry.number());
        self.recorded.encode(&mut out);
        out.u64(self.epoch.number()).u32(self.master.number());
        Moment::encode_option(self.revoked.as_ref(), &mut out);
        for (key, next) in &self.access {
            out.bytes(key.as_bytes()).u64(next.number());
        }
        out.finish()
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            grant: Digest::new(from.array("digest of the grant")?),
            not_before: Timestamp::new(from.u64("begin of the grant")?),
            expiry: Timestamp::new(from.u64("end of the grant")?),
            recorded: Moment::read(from)?,
            epoch: ValidatorEpoch::new(from.u64("validator epoch")?),
            master: InstitutionId::new(from.u32("master node")?),
            revoked: Moment::read_option(from)?,
            access: {
                let mut access = Vec::new();
                while from.remaining() > 0 {
                    let key = VerifyingKey::new(from.array("access key")?);
                    access.push((key, AccessNumber::new(from.u64("next access")?)));
                }
                access
            },
        })
    }
}

impl AnchorState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        self.anchor.encode(&mut out);
        self.recorded.encode(&mut out);
        out.finish()
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            anchor: Anchor::decode(from)?,
            recorded: Moment::read(from)?,
        })
    }
}
