//! Every key of the state, in one place (`spec/chain.md` section 3.3). The first byte tells what a
//! key is; keys of the accountable part begin with `s` and stand in the trie.

use scheme::Digest;
use scheme::Encoder;
use scheme::VerifyingKey;
use scheme::{AppointmentId, GrantId, Tag};
use scheme::{InstitutionId, ValidatorEpoch, WriterEpoch};

use crate::identity::{KeyHash, RecordNumber, RequestCommitment, TransactionId};

/// Begins every key of the accountable part.
const ACCOUNTABLE: u8 = b's';

pub(crate) fn is_accountable(key: &[u8]) -> bool {
    key.first() == Some(&ACCOUNTABLE)
}

/// Begins every key of a trie node.
pub(crate) const TRIE_NODE: u8 = b'n';

pub(crate) fn charter() -> Vec<u8> {
    vec![ACCOUNTABLE, b'c']
}

pub(crate) fn centre_keys() -> Vec<u8> {
    vec![ACCOUNTABLE, b'k']
}

pub(crate) fn institutions() -> Vec<u8> {
    vec![ACCOUNTABLE, b'l']
}

pub(crate) fn institution(id: InstitutionId) -> Vec<u8> {
    accountable(b'i').u32(id.number()).finish()
}

/// Where an institution is reached.
pub(crate) fn contact(id: InstitutionId) -> Vec<u8> {
    accountable(b't').u32(id.number()).finish()
}

/// A motion and its approvals.
pub(crate) fn motion(id: TransactionId) -> Vec<u8> {
    accountable(b'm').bytes(id.as_bytes()).finish()
}

/// The motions that can be approved.
pub(crate) fn open_motions() -> Vec<u8> {
    vec![ACCOUNTABLE, b'o']
}

/// By which rules the chain goes.
pub(crate) fn rules() -> Vec<u8> {
    vec![ACCOUNTABLE, b'r']
}

pub(crate) fn node_set(epoch: ValidatorEpoch) -> Vec<u8> {
    accountable(b'v').u64(epoch.number()).finish()
}

/// The epoch first, as one asks for all keys of an epoch.
pub(crate) fn node_key(epoch: ValidatorEpoch, institution: InstitutionId) -> Vec<u8> {
    accountable(b'h')
        .u64(epoch.number())
        .u32(institution.number())
        .finish()
}

/// The last validator epoch of which an institution's node has a key that this node key certified.
pub(crate) fn latest_node_key(institution: InstitutionId, node: &VerifyingKey) -> Vec<u8> {
    accountable(b'j')
        .u32(institution.number())
        .bytes(node.as_bytes())
        .finish()
}

pub(crate) fn user_key(hash: KeyHash) -> Vec<u8> {
    accountable(b'u').bytes(hash.as_bytes()).finish()
}

pub(crate) fn writer_epochs(institution: InstitutionId) -> Vec<u8> {
    accountable(b'n').u32(institution.number()).finish()
}

pub(crate) fn writer_epoch(institution: InstitutionId, epoch: WriterEpoch) -> Vec<u8> {
    accountable(b'w')
        .u32(institution.number())
        .u32(epoch.number())
        .finish()
}

pub(crate) fn request(commitment: RequestCommitment) -> Vec<u8> {
    accountable(b'q').bytes(commitment.as_bytes()).finish()
}

pub(crate) fn grant(id: GrantId) -> Vec<u8> {
    accountable(b'g').bytes(id.as_bytes()).finish()
}

pub(crate) fn withdrawal(id: AppointmentId) -> Vec<u8> {
    accountable(b'd').bytes(id.as_bytes()).finish()
}

pub(crate) fn last_anchor() -> Vec<u8> {
    vec![ACCOUNTABLE, b'a']
}

/// Which grant an access key belongs to.
pub(crate) fn access_key(key: &VerifyingKey) -> Vec<u8> {
    plain(b'k').bytes(key.as_bytes()).finish()
}

/// Whose a key is or was, an institution's or its node's.
pub(crate) fn institution_key(key: &VerifyingKey) -> Vec<u8> {
    plain(b'y').bytes(key.as_bytes()).finish()
}

/// The motion with this number, in the order of the chain.
pub(crate) fn motion_number(number: u32) -> Vec<u8> {
    plain(b'm').u32(number).finish()
}

/// The proof of a node set that is not the one before, to the root of the state that decided on it.
pub(crate) fn node_set_proof(epoch: ValidatorEpoch) -> Vec<u8> {
    plain(b'b').u64(epoch.number()).finish()
}

/// The validator epochs whose node sets are not the ones before.
pub(crate) fn changed_node_sets() -> Vec<u8> {
    vec![b'b']
}

/// Which writer epoch a key R, by its hash, belongs to.
pub(crate) fn writer_key(hash: Digest) -> Vec<u8> {
    plain(b'w').bytes(hash.as_bytes()).finish()
}

/// The key hashes of a registration.
pub(crate) fn registration(id: TransactionId) -> Vec<u8> {
    plain(b'g').bytes(id.as_bytes()).finish()
}

/// Which record an index entry belongs to, and its pad: 25 bytes, the only ones of which there are
/// 10^8.
pub(crate) fn tag(institution: InstitutionId, epoch: WriterEpoch, tag: &Tag) -> Vec<u8> {
    plain(b't')
        .u32(institution.number())
        .u32(epoch.number())
        .bytes(tag.as_bytes())
        .finish()
}

/// Where a record stands and what a search needs of it.
pub(crate) fn record(number: RecordNumber) -> Vec<u8> {
    plain(b'r').u64(number.number()).finish()
}

/// Where a transaction stands.
pub(crate) fn transaction(id: TransactionId) -> Vec<u8> {
    plain(b'x').bytes(id.as_bytes()).finish()
}

/// A complete subtree of the record log.
pub(crate) fn log_node(level: u8, position: u64) -> Vec<u8> {
    plain(b'l').u8(level).u64(position).finish()
}

pub(crate) fn log_frontier() -> Vec<u8> {
    vec![b'f']
}

pub(crate) fn anchor_window() -> Vec<u8> {
    vec![b'a']
}

pub(crate) fn tip() -> Vec<u8> {
    vec![b'h']
}

fn accountable(kind: u8) -> Encoder {
    let mut out = Encoder::new();
    out.u8(ACCOUNTABLE).u8(kind);
    out
}

fn plain(kind: u8) -> Encoder {
    let mut out = Encoder::new();
    out.u8(kind);
    out
}
