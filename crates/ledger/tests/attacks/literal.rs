//! The literal constructions: the paper's text as it stands, or a textbook construction where it says
//! nothing. They are what is attacked first.

use std::collections::{BTreeMap, BTreeSet};

use ledger::{
    AccessEntry, KeyHash, MaskedTransactionId, Registrant, Tier, Transaction, TransactionId,
};
use scheme::{
    ConsortiumId, Context, Digest, Entry, GrantId, InstitutionId, RecordStatement, Signature,
    SigningKey, Tag, Timestamp, VerifyingKey, sha256,
};

/// An entry of an access log without a count: which key read which record, signed or not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct UncountedEntry {
    pub(crate) key: VerifyingKey,
    pub(crate) masked: MaskedTransactionId,
    pub(crate) signature: Signature,
}

impl UncountedEntry {
    /// Signed over key and record, and nothing else: no count, no consortium.
    pub(crate) fn sign(key: &SigningKey, masked: MaskedTransactionId) -> Self {
        let nowhere = ConsortiumId::new([0; 32]);
        Self {
            key: key.verifying_key(),
            masked,
            signature: key.sign(Context::Access, &nowhere, &[masked.as_bytes()]),
        }
    }

    pub(crate) fn of(key: &SigningKey, entry: &AccessEntry) -> Self {
        Self::sign(key, entry.masked)
    }

    pub(crate) fn stands(&self) -> bool {
        let nowhere = ConsortiumId::new([0; 32]);
        let parts: [&[u8]; 1] = [self.masked.as_bytes()];
        self.key
            .verify(Context::Access, &nowhere, &parts, &self.signature)
            .is_ok()
    }
}

/// All that a patient can check of a log of such entries.
pub(crate) fn uncounted_log_stands(entries: &[UncountedEntry]) -> bool {
    entries.iter().all(UncountedEntry::stands)
}

/// The paper's log, which the master node keeps: an entry is what the node writes.
#[derive(Default)]
pub(crate) struct NodesLog(Vec<(VerifyingKey, MaskedTransactionId)>);

impl NodesLog {
    pub(crate) fn write(&mut self, reader: VerifyingKey, masked: MaskedTransactionId) {
        self.0.push((reader, masked));
    }

    /// What the patient is shown of a reader.
    pub(crate) fn accesses_of(&self, reader: &VerifyingKey) -> usize {
        self.0.iter().filter(|(own, _)| own == reader).count()
    }
}

/// A log whose entries name their grant, taken from whoever has a key of any grant.
pub(crate) struct LogByName {
    pub(crate) grants: BTreeSet<GrantId>,
    pub(crate) keys: BTreeSet<VerifyingKey>,
}

impl LogByName {
    pub(crate) fn takes(&self, grant: &GrantId, entry: &UncountedEntry) -> bool {
        self.grants.contains(grant) && self.keys.contains(&entry.key) && entry.stands()
    }
}

/// A gate that believes the reader: who may read is a list, when is the time that the reader signed.
pub(crate) struct ReadersClockGate {
    pub(crate) keys: Vec<VerifyingKey>,
    pub(crate) not_before: Timestamp,
    pub(crate) expiry: Timestamp,
}

impl ReadersClockGate {
    /// What a reader sends who wants to read.
    pub(crate) fn ask(consortium: &ConsortiumId, key: &SigningKey, time: Timestamp) -> Signature {
        key.sign(Context::Access, consortium, &[&time.number().to_be_bytes()])
    }

    pub(crate) fn opens(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
        time: Timestamp,
        signature: &Signature,
    ) -> bool {
        let parts: [&[u8]; 1] = [&time.number().to_be_bytes()];
        self.keys.contains(key)
            && self.not_before <= time
            && time < self.expiry
            && key
                .verify(Context::Access, consortium, &parts, signature)
                .is_ok()
    }
}

/// A node that serves a grant until it is told not to.
#[derive(Default, Clone)]
pub(crate) struct ToldNode(BTreeSet<GrantId>);

impl ToldNode {
    pub(crate) fn tell(&mut self, revoked: GrantId) {
        self.0.insert(revoked);
    }

    pub(crate) fn serves(&self, grant: &GrantId) -> bool {
        !self.0.contains(grant)
    }
}

/// The record's transaction by equation (10) to the letter: the doctor signs the ciphertext's digest,
/// everything else stands beside it.
#[derive(Clone)]
pub(crate) struct PaperRecord {
    pub(crate) statement: RecordStatement,
    pub(crate) doctor: Signature,
}

impl PaperRecord {
    pub(crate) fn sign(
        consortium: &ConsortiumId,
        statement: RecordStatement,
        doctor: &SigningKey,
    ) -> Self {
        let parts: [&[u8]; 1] = [statement.digest.as_bytes()];
        let doctor = doctor.sign(Context::Record, consortium, &parts);
        Self { statement, doctor }
    }

    pub(crate) fn stands(&self, consortium: &ConsortiumId) -> bool {
        let parts: [&[u8]; 1] = [self.statement.digest.as_bytes()];
        self.statement
            .author
            .verify(Context::Record, consortium, &parts, &self.doctor)
            .is_ok()
    }
}

/// The id as a hash of everything that travels, signatures and random number included.
pub(crate) fn id_of_all_bytes(transaction: &Transaction) -> Digest {
    sha256(&transaction.encode())
}

/// An index whose tags are unique on the whole chain, whoever writes them: the first holder keeps one.
#[derive(Default)]
pub(crate) struct TagsOfTheChain(BTreeMap<Tag, TransactionId>);

impl TagsOfTheChain {
    pub(crate) fn takes(&mut self, id: TransactionId, entries: &[Entry]) -> bool {
        if entries.iter().any(|entry| self.0.contains_key(&entry.tag)) {
            return false;
        }
        self.0.extend(entries.iter().map(|entry| (entry.tag, id)));
        true
    }
}

/// An index that is a map of keys to values, as a store gives it: the last writer wins.
#[derive(Default)]
pub(crate) struct LastTagWins(BTreeMap<Tag, TransactionId>);

impl LastTagWins {
    pub(crate) fn put(&mut self, id: TransactionId, entries: &[Entry]) {
        self.0.extend(entries.iter().map(|entry| (entry.tag, id)));
    }

    pub(crate) fn get(&self, tag: &Tag) -> Option<TransactionId> {
        self.0.get(tag).copied()
    }
}

/// Users' keys on the chain as a map that the registration centre writes.
#[derive(Default)]
pub(crate) struct CentresMap(BTreeMap<KeyHash, Registrant>);

impl CentresMap {
    pub(crate) fn register(&mut self, key: KeyHash, registrant: Registrant) {
        self.0.insert(key, registrant);
    }

    pub(crate) fn signs_for(&self, key: KeyHash, institution: InstitutionId) -> bool {
        matches!(
            self.0.get(&key),
            Some(Registrant::Doctor { institution: own, .. }) if *own == institution
        )
    }
}

/// The centre's keys as a chain in which each key signs its successor, as a certificate authority
/// rolls a key over.
pub(crate) struct SignedSuccessors(pub(crate) VerifyingKey);

impl SignedSuccessors {
    pub(crate) fn follow(&mut self, here: &ConsortiumId, next: VerifyingKey, by: &Signature) {
        let text: [&[u8]; 2] = [b"next", next.as_bytes()];
        if self.0.verify(Context::Transaction, here, &text, by).is_ok() {
            self.0 = next;
        }
    }
}

/// Castro and Liskov, *Practical Byzantine Fault Tolerance*, 1999: the primary of view v is replica
/// v mod n, whichever replica that is.
pub(crate) fn pbft_primary(replicas: &[(InstitutionId, Tier)], view: u64) -> (InstitutionId, Tier) {
    replicas[(view % replicas.len() as u64) as usize]
}

/// Bitcoin's Merkle tree: twice SHA-256, the last of an odd level doubled, leaves and nodes alike.
pub(crate) fn bitcoin_root(contents: &[Vec<u8>]) -> Digest {
    let mut level: Vec<Digest> = contents.iter().map(|bytes| twice(bytes)).collect();
    while level.len() > 1 {
        if level.len() % 2 == 1 {
            level.push(*level.last().unwrap());
        }
        level = level
            .chunks(2)
            .map(|pair| pair_of(&pair[0], &pair[1]))
            .collect();
    }
    level[0]
}

/// Where a way of siblings leads in that tree; `position` says at each step on which side.
pub(crate) fn bitcoin_path(content: &[u8], position: u64, siblings: &[Digest]) -> Digest {
    let steps = siblings.iter().enumerate();
    steps.fold(twice(content), |node, (step, sibling)| {
        if position >> step & 1 == 1 {
            pair_of(sibling, &node)
        } else {
            pair_of(&node, sibling)
        }
    })
}

pub(crate) fn twice(bytes: &[u8]) -> Digest {
    sha256(sha256(bytes).as_bytes())
}

pub(crate) fn pair_of(left: &Digest, right: &Digest) -> Digest {
    twice(&[left.as_bytes().as_slice(), right.as_bytes()].concat())
}
