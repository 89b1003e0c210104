//! Transactions: what stands in a block's body (`spec/chain.md` section 4).
//!
//! A transaction is a kind, a body and its signatures in their order. The first signer signs the kind
//! and the body under the context of the kind; SHA-256 of that text is the transaction id. Every
//! later signer signs kind, body and what stands between, under a context of its own. A record is
//! the one exception: its first text is the scheme's [`RecordStatement`](scheme::RecordStatement).
//!
//! What is checked here is of the first two levels: by construction (decoding cannot make a value
//! that breaks the layout) and without state ([`check_transaction`]: the signatures whose keys stand
//! in the transaction itself). The third level, against state, is [`admit`](crate::admit).

mod anchor;
mod certification;
mod epochs;
mod institution;
mod membership;
mod record;
mod sharing;

use scheme::ConsortiumId;
use scheme::sha256;
use scheme::{BadSignature, Context, Sign, Signature, SigningKey, VerifyingKey, signed_text};
use scheme::{DecodeError, Decoder, Encoder};
use thiserror::Error;

use crate::identity::TransactionId;

pub use anchor::Anchor;
pub use certification::{
    CENTRE_KEYS_MAX, CentreKeyApproval, CentreKeyTransaction, CertificateRevocation, KeyUse,
    NextCentreKey, Registrant, Registration, UserKey,
};
pub use epochs::{NodeKeyTransaction, WriterEpochTransaction};
pub use institution::{
    Contact, ContactAddress, ContactTransaction, Institution, InstitutionName, PossessedSuccession,
    Succession, SuccessionTransaction, TlsAuthority,
};
pub use membership::{
    Application, Approval, AuditDocument, DocumentTitle, MembershipChange, Motion,
};
pub(crate) use record::WriterKeys;
pub use record::{
    RecordNonce, RecordTransaction, decode_record_statement, encode_record_statement,
};
pub use sharing::{
    Access, AccessEntry, AccessNumber, AccessPad, GrantEntry, GrantTransaction,
    MaskedTransactionId, RequestStatement, RequestTransaction, Revocation, Withdrawal,
};

/// A change of the state that its signers want.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transaction {
    /// Puts the hashes of a user's public keys on the chain.
    Registration(Registration),
    /// Begins a writer epoch of an institution.
    WriterEpoch(Box<WriterEpochTransaction>),
    /// Records a sealed medical record: index, digest, both signatures.
    Record(Box<RecordTransaction>),
    /// Commits to a doctor's request.
    Request(RequestTransaction),
    /// Commits to a patient's or agent's grant.
    Grant(GrantTransaction),
    /// Logs accesses under grants.
    Access(Access),
    /// Revokes a grant.
    Revocation(Revocation),
    /// Withdraws an agent's appointment.
    Withdrawal(Withdrawal),
    /// Revokes a user's certificate.
    CertificateRevocation(CertificateRevocation),
    /// Anchors the Merkle roots of new blocks; made by the leader.
    Anchor(Anchor),
    /// Certifies an accounting node's HPKE key of a validator epoch.
    NodeKey(NodeKeyTransaction),
    /// Gives the registration centre its next key.
    CentreKey(Box<CentreKeyTransaction>),
    /// Puts a change of the membership to the members.
    Motion(Box<Motion>),
    /// Approves a motion.
    Approval(Approval),
    /// Gives an institution its next keys.
    Succession(SuccessionTransaction),
    /// Says where an institution is reached.
    Contact(Box<ContactTransaction>),
}

/// Which transaction it is, and what a newcomer signs. Its code is the first byte of the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// No transaction: an [`Application`], which stands in a motion, 1.
    Application,
    /// [`Transaction::Registration`], 2.
    Registration,
    /// [`Transaction::WriterEpoch`], 3.
    WriterEpoch,
    /// [`Transaction::Record`], 4.
    Record,
    /// [`Transaction::Request`], 5.
    Request,
    /// [`Transaction::Grant`], 6.
    Grant,
    /// [`Transaction::Access`], 7.
    Access,
    /// [`Transaction::Revocation`], 8.
    Revocation,
    /// [`Transaction::Withdrawal`], 9.
    Withdrawal,
    /// [`Transaction::CertificateRevocation`], 10.
    CertificateRevocation,
    /// [`Transaction::Anchor`], 11.
    Anchor,
    /// [`Transaction::NodeKey`], 12.
    NodeKey,
    /// [`Transaction::CentreKey`], 13.
    CentreKey,
    /// [`Transaction::Motion`], 14.
    Motion,
    /// [`Transaction::Approval`], 15.
    Approval,
    /// [`Transaction::Succession`], 16.
    Succession,
    /// [`Transaction::Contact`], 17.
    Contact,
}

impl Kind {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Application => 1,
            Self::Registration => 2,
            Self::WriterEpoch => 3,
            Self::Record => 4,
            Self::Request => 5,
            Self::Grant => 6,
            Self::Access => 7,
            Self::Revocation => 8,
            Self::Withdrawal => 9,
            Self::CertificateRevocation => 10,
            Self::Anchor => 11,
            Self::NodeKey => 12,
            Self::CentreKey => 13,
            Self::Motion => 14,
            Self::Approval => 15,
            Self::Succession => 16,
            Self::Contact => 17,
        }
    }
}

impl Transaction {
    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Registration(_) => Kind::Registration,
            Self::WriterEpoch(_) => Kind::WriterEpoch,
            Self::Record(_) => Kind::Record,
            Self::Request(_) => Kind::Request,
            Self::Grant(_) => Kind::Grant,
            Self::Access(_) => Kind::Access,
            Self::Revocation(_) => Kind::Revocation,
            Self::Withdrawal(_) => Kind::Withdrawal,
            Self::CertificateRevocation(_) => Kind::CertificateRevocation,
            Self::Anchor(_) => Kind::Anchor,
            Self::NodeKey(_) => Kind::NodeKey,
            Self::CentreKey(_) => Kind::CentreKey,
            Self::Motion(_) => Kind::Motion,
            Self::Approval(_) => Kind::Approval,
            Self::Succession(_) => Kind::Succession,
            Self::Contact(_) => Kind::Contact,
        }
    }

    /// SHA-256 of what the first signer signed; signatures do not change it.
    pub fn id(&self, consortium: &ConsortiumId) -> TransactionId {
        match self {
            Self::Registration(tx) => tx.text().id(consortium),
            Self::WriterEpoch(tx) => tx.text().id(consortium),
            Self::Record(tx) => tx.statement.id(consortium).into(),
            Self::Request(tx) => tx.statement.text().id(consortium),
            Self::Grant(tx) => tx.entry.text().id(consortium),
            Self::Access(tx) => tx.text().id(consortium),
            Self::Revocation(tx) => tx.text().id(consortium),
            Self::Withdrawal(tx) => tx.text().id(consortium),
            Self::CertificateRevocation(tx) => tx.text().id(consortium),
            Self::Anchor(tx) => tx.id(consortium),
            Self::NodeKey(tx) => tx.text().id(consortium),
            Self::CentreKey(tx) => tx.next.text().id(consortium),
            Self::Motion(tx) => tx.text().id(consortium),
            Self::Approval(tx) => tx.text().id(consortium),
            Self::Succession(tx) => tx.next.succession.text().id(consortium),
            Self::Contact(tx) => tx.text().id(consortium),
        }
    }

    /// The bytes that travel and that stand in a block: at most [`TRANSACTION_BYTES_MAX`].
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u8(self.kind().code());
        match self {
            Self::Registration(tx) => tx.encode(&mut out),
            Self::WriterEpoch(tx) => tx.encode(&mut out),
            Self::Record(tx) => tx.encode(&mut out),
            Self::Request(tx) => tx.encode(&mut out),
            Self::Grant(tx) => tx.encode(&mut out),
            Self::Access(tx) => tx.encode(&mut out),
            Self::Revocation(tx) => tx.encode(&mut out),
            Self::Withdrawal(tx) => tx.encode(&mut out),
            Self::CertificateRevocation(tx) => tx.encode(&mut out),
            Self::Anchor(tx) => tx.encode(&mut out),
            Self::NodeKey(tx) => tx.encode(&mut out),
            Self::CentreKey(tx) => tx.encode(&mut out),
            Self::Motion(tx) => tx.encode(&mut out),
            Self::Approval(tx) => tx.encode(&mut out),
            Self::Succession(tx) => tx.encode(&mut out),
            Self::Contact(tx) => tx.encode(&mut out),
        }
        out.finish()
    }

    /// Reads a transaction. What it returns keeps every rule of level 1 (by construction).
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are no transaction: too long, cut short, followed by others, of
    /// an unknown kind, or with a field out of its range. Drop them and name their sender.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_among(bytes, &mut WriterKeys::default())
    }

    /// Reads one of several transactions, which share the keys R that were decoded already.
    pub(crate) fn decode_among(
        bytes: &[u8],
        writer_keys: &mut WriterKeys,
    ) -> Result<Self, DecodeError> {
        if bytes.len() > TRANSACTION_BYTES_MAX {
            let (found, limit) = (bytes.len() as u64, TRANSACTION_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge {
                what: "length of the transaction",
                found,
                limit,
            });
        }
        let mut from = Decoder::new(bytes);
        let transaction = match from.u8("kind of the transaction")? {
            2 => Self::Registration(Registration::decode(&mut from)?),
            3 => Self::WriterEpoch(Box::new(WriterEpochTransaction::decode(&mut from)?)),
            4 => Self::Record(Box::new(RecordTransaction::decode(&mut from, writer_keys)?)),
            5 => Self::Request(RequestTransaction::decode(&mut from)?),
            6 => Self::Grant(GrantTransaction::decode(&mut from)?),
            7 => Self::Access(Access::decode(&mut from)?),
            8 => Self::Revocation(Revocation::decode(&mut from)?),
            9 => Self::Withdrawal(Withdrawal::decode(&mut from)?),
            10 => Self::CertificateRevocation(CertificateRevocation::decode(&mut from)?),
            11 => Self::Anchor(Anchor::decode(&mut from)?),
            12 => Self::NodeKey(NodeKeyTransaction::decode(&mut from)?),
            13 => Self::CentreKey(Box::new(CentreKeyTransaction::decode(&mut from)?)),
            14 => Self::Motion(Box::new(Motion::decode(&mut from)?)),
            15 => Self::Approval(Approval::decode(&mut from)?),
            16 => Self::Succession(SuccessionTransaction::decode(&mut from)?),
            17 => Self::Contact(Box::new(ContactTransaction::decode(&mut from)?)),
            _ => {
                let what = "kind of the transaction";
                return Err(DecodeError::Invalid {
                    what,
                    why: "no such kind",
                });
            }
        };
        from.finish("the transaction")?;
        transaction.check_shape()?;
        Ok(transaction)
    }

    /// Level 1 for values that were built and not decoded.
    fn check_shape(&self) -> Result<(), DecodeError> {
        match self {
            Self::Registration(tx) => tx.check_shape(),
            Self::Record(tx) => tx.check_shape(),
            Self::Grant(tx) => tx.entry.check_shape(),
            Self::Access(tx) => tx.check_shape(),
            Self::Anchor(tx) => tx.check_shape(),
            Self::NodeKey(tx) => tx.check_shape(),
            Self::CentreKey(tx) => tx.check_shape(),
            Self::Motion(tx) => tx.check_shape(),
            Self::Succession(tx) => tx.next.check_shape(),
            Self::WriterEpoch(_)
            | Self::Request(_)
            | Self::Revocation(_)
            | Self::Withdrawal(_)
            | Self::CertificateRevocation(_)
            | Self::Approval(_)
            | Self::Contact(_) => Ok(()),
        }
    }
}

/// Why a transaction is wrong whatever the state: it can never enter a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Level 1: the value breaks its layout. Build it anew within the limits.
    #[error("the transaction breaks its layout")]
    Layout(#[from] DecodeError),
    /// Level 2: the proof of a writer epoch's key does not stand. Prove it again for this
    /// institution and writer epoch.
    #[error(
        "the proof of the writer epoch key does not stand for this institution and writer epoch; prove it again"
    )]
    WriterEpochProof,
    /// Level 2: a signature does not stand. Sign again with the key that the transaction names.
    #[error(
        "the signature of {0} does not stand; sign the transaction again with the key it names"
    )]
    Signature(Signer),
}

/// Whose signature is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signer {
    /// The doctor.
    Doctor,
    /// The institution.
    Institution,
    /// The node of an institution.
    Node,
    /// The registration centre.
    Centre,
    /// The registration centre, by its next key.
    NextCentreKey,
    /// An institution that approves a key of the centre.
    Approver,
    /// The holder of a grant's revocation key.
    Granter,
    /// The holder of an access key.
    Access,
    /// The holder of a withdrawal key.
    Withdrawer,
}

impl std::fmt::Display for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Doctor => "the doctor",
            Self::Institution => "the institution",
            Self::Node => "the node",
            Self::Centre => "the registration centre",
            Self::NextCentreKey => "the registration centre's next key",
            Self::Approver => "an approving institution",
            Self::Granter => "the grant's revocation key",
            Self::Access => "the access key",
            Self::Withdrawer => "the withdrawal key",
        })
    }
}

impl Signer {
    fn failed(self) -> impl FnOnce(BadSignature) -> CheckError {
        move |_| CheckError::Signature(self)
    }
}

/// Levels 1 and 2: everything that can be said of a transaction without state. A pool runs it before
/// it keeps anything.
///
/// # Errors
/// [`CheckError`]; the transaction can never enter a block.
pub fn check_transaction(tx: &Transaction, consortium: &ConsortiumId) -> Result<(), CheckError> {
    tx.check_shape()?;
    match tx {
        Transaction::WriterEpoch(tx) => tx.check(consortium),
        Transaction::Record(tx) => tx.check(consortium),
        Transaction::Request(tx) => tx.check(consortium),
        Transaction::Grant(tx) => tx.check(consortium),
        Transaction::Access(tx) => tx.check(consortium),
        Transaction::Revocation(tx) => tx.check(consortium),
        Transaction::Withdrawal(tx) => tx.check(consortium),
        Transaction::CentreKey(tx) => tx.check(consortium),
        Transaction::Motion(tx) => tx.check(consortium),
        Transaction::Succession(tx) => tx.next.check(consortium),
        // The keys of the centre, of an institution and of a node stand in the state; an anchor is
        // signed by the block that holds it.
        Transaction::Registration(_)
        | Transaction::CertificateRevocation(_)
        | Transaction::NodeKey(_)
        | Transaction::Approval(_)
        | Transaction::Contact(_)
        | Transaction::Anchor(_) => Ok(()),
    }
}

/// A transaction that passed [`check_transaction`], with its id and bytes computed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedTransaction {
    transaction: Transaction,
    id: TransactionId,
    bytes: Vec<u8>,
}

impl CheckedTransaction {
    /// Checks levels 1 and 2.
    ///
    /// # Errors
    /// [`CheckError`] as [`check_transaction`].
    pub fn new(transaction: Transaction, consortium: &ConsortiumId) -> Result<Self, CheckError> {
        check_transaction(&transaction, consortium)?;
        let bytes = transaction.encode();
        if bytes.len() > TRANSACTION_BYTES_MAX {
            let (found, limit) = (bytes.len() as u64, TRANSACTION_BYTES_MAX as u64);
            let what = "length of the transaction";
            return Err(DecodeError::TooLarge { what, found, limit }.into());
        }
        let id = transaction.id(consortium);
        Ok(Self {
            transaction,
            id,
            bytes,
        })
    }

    /// Decodes and checks levels 1 and 2.
    ///
    /// # Errors
    /// [`CheckError`] as [`Transaction::decode`] and [`check_transaction`].
    pub fn decode(bytes: &[u8], consortium: &ConsortiumId) -> Result<Self, CheckError> {
        let transaction = Transaction::decode(bytes)?;
        check_transaction(&transaction, consortium)?;
        let id = transaction.id(consortium);
        Ok(Self {
            transaction,
            id,
            bytes: bytes.to_vec(),
        })
    }

    /// The transaction.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Its id.
    pub fn id(&self) -> TransactionId {
        self.id
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The transaction, without the mark that it was checked.
    pub fn into_transaction(self) -> Transaction {
        self.transaction
    }
}

/// What the first signer of a transaction signs: context, kind and body. Later signers add what
/// stands between.
pub(crate) struct Text {
    context: Context,
    kind: Kind,
    body: Vec<u8>,
}

impl Text {
    fn new(context: Context, kind: Kind, body: impl FnOnce(&mut Encoder)) -> Self {
        let mut out = Encoder::new();
        body(&mut out);
        Self {
            context,
            kind,
            body: out.finish(),
        }
    }

    fn id(&self, consortium: &ConsortiumId) -> TransactionId {
        let parts: [&[u8]; 2] = [&[self.kind.code()], &self.body];
        sha256(&signed_text(self.context, consortium, &parts)).into()
    }

    pub(crate) fn sign(&self, consortium: &ConsortiumId, key: &SigningKey) -> Signature {
        self.sign_then(consortium, key, |signature| signature)
    }

    /// The same under a key that may be held elsewhere.
    pub(crate) fn sign_then<K: Sign, T>(
        &self,
        consortium: &ConsortiumId,
        key: &K,
        then: impl FnOnce(Signature) -> T,
    ) -> K::Outcome<T> {
        let parts: [&[u8]; 2] = [&[self.kind.code()], &self.body];
        key.sign_then(self.context, consortium, &parts, then)
    }

    pub(crate) fn verify(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        key.verify(
            self.context,
            consortium,
            &[&[self.kind.code()], &self.body],
            signature,
        )
    }

    /// Signs kind, body and what stands before this signature.
    fn countersign<K: Sign, T>(
        &self,
        context: Context,
        consortium: &ConsortiumId,
        before: &[u8],
        key: &K,
        then: impl FnOnce(Signature) -> T,
    ) -> K::Outcome<T> {
        let parts: [&[u8]; 3] = [&[self.kind.code()], &self.body, before];
        key.sign_then(context, consortium, &parts, then)
    }

    pub(crate) fn verify_countersignature(
        &self,
        context: Context,
        consortium: &ConsortiumId,
        before: &[u8],
        key: &VerifyingKey,
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        key.verify(
            context,
            consortium,
            &[&[self.kind.code()], &self.body, before],
            signature,
        )
    }
}

fn decode_signature(from: &mut Decoder<'_>) -> Result<Signature, DecodeError> {
    from.array("signature").map(Signature::new)
}

fn decode_key(what: &'static str, from: &mut Decoder<'_>) -> Result<VerifyingKey, DecodeError> {
    from.array(what).map(VerifyingKey::new)
}

/// 64 KiB. The largest are a record with 1,024 entries (32,768 + 700), 256 accesses (256 x 152 =
/// 38,912) and a key of the centre with 255 approvals (255 x 68 = 17,340).
pub const TRANSACTION_BYTES_MAX: usize = 65_536;
