//! Asking, granting, reading, revoking: the commitments of the sharing protocol (equations 12 to 16)
//! that consensus counts and dates. None names a patient or a record.

use scheme::Digest;
use scheme::{AppointmentId, BadSignature, ConsortiumId, GrantId, InstitutionId};
use scheme::{Context, Sign, Signature, SigningKey, VerifyingKey};
use scheme::{DecodeError, Decoder, Encoder};
use scheme::{Timestamp, ValidatorEpoch};

use super::{CheckError, Kind, Signer, Text, decode_key, decode_signature};
use crate::identity::RequestCommitment;

/// What a doctor signs to put a request on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestStatement {
    /// The digest of the request, which the chain does not see.
    pub commitment: RequestCommitment,
    /// The doctor's key.
    pub author: VerifyingKey,
    /// The doctor's institution.
    pub institution: InstitutionId,
    /// When the doctor signed.
    pub time: Timestamp,
}

impl RequestStatement {
    /// The doctor's signature.
    pub fn sign(&self, consortium: &ConsortiumId, key: &SigningKey) -> Signature {
        self.text().sign(consortium, key)
    }

    /// The doctor's signature stands under the author's key.
    ///
    /// # Errors
    /// [`BadSignature`] if not.
    pub fn verify(
        &self,
        consortium: &ConsortiumId,
        doctor: &Signature,
    ) -> Result<(), BadSignature> {
        self.text().verify(consortium, &self.author, doctor)
    }

    pub(super) fn text(&self) -> Text {
        Text::new(Context::Transaction, Kind::Request, |out| self.write(out))
    }

    /// The bytes, as they stand in the request's transaction before the signatures.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        self.write(&mut out);
        out.finish()
    }

    /// Reads a statement.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let statement = Self::read(&mut from)?;
        from.finish("the request's statement")?;
        Ok(statement)
    }

    fn write(&self, out: &mut Encoder) {
        out.bytes(self.commitment.as_bytes())
            .bytes(self.author.as_bytes())
            .u32(self.institution.number())
            .u64(self.time.number());
    }

    fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            commitment: RequestCommitment::new(from.array("request commitment")?),
            author: decode_key("doctor's key", from)?,
            institution: InstitutionId::new(from.u32("institution")?),
            time: Timestamp::new(from.u64("time")?),
        })
    }
}

/// A request on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTransaction {
    /// What the doctor signed.
    pub statement: RequestStatement,
    /// The doctor's signature.
    pub doctor: Signature,
    /// The institution's signature of the whole.
    pub institution: Signature,
}

impl RequestTransaction {
    /// The institution's server signs after the doctor.
    pub fn countersign<K: Sign>(
        consortium: &ConsortiumId,
        statement: RequestStatement,
        doctor: Signature,
        institution: &K,
    ) -> K::Outcome<Self> {
        statement.text().countersign(
            Context::Transaction,
            consortium,
            doctor.as_bytes(),
            institution,
            |institution| Self {
                statement,
                doctor,
                institution,
            },
        )
    }

    /// Level 2: the doctor's signature.
    pub(super) fn check(&self, consortium: &ConsortiumId) -> Result<(), CheckError> {
        self.statement
            .verify(consortium, &self.doctor)
            .map_err(Signer::Doctor.failed())
    }

    /// Level 3: the institution's signature, under its key in the state.
    pub(crate) fn check_institution(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        self.statement
            .text()
            .verify_countersignature(
                Context::Transaction,
                consortium,
                self.doctor.as_bytes(),
                key,
                &self.institution,
            )
            .map_err(Signer::Institution.failed())
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.statement.write(out);
        out.bytes(self.doctor.as_bytes())
            .bytes(self.institution.as_bytes());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            statement: RequestStatement::read(from)?,
            doctor: decode_signature(from)?,
            institution: decode_signature(from)?,
        })
    }
}

/// What a patient or agent signs with a single-use revocation key to put a grant on the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantEntry {
    /// The public part of the single-use revocation key. Its hash is the grant's id.
    pub revocation_key: VerifyingKey,
    /// SHA-256 of the grant, which the chain does not see.
    pub grant: Digest,
    /// The validator epoch for whose accounting nodes the shares were cut. It is not always the block's:
    /// one may end while the grant is on its way.
    pub epoch: ValidatorEpoch,
    /// Nothing is read before.
    pub not_before: Timestamp,
    /// Nothing is read from here on.
    pub expiry: Timestamp,
    /// The access keys, 1 to 32, strictly ascending.
    pub access_keys: Vec<VerifyingKey>,
}

impl GrantEntry {
    /// The grant's id.
    pub fn id(&self, consortium: &ConsortiumId) -> GrantId {
        GrantId::of(consortium, &self.revocation_key)
    }

    /// The signature of the revocation key.
    pub fn sign(&self, consortium: &ConsortiumId, revocation_key: &SigningKey) -> Signature {
        self.text().sign(consortium, revocation_key)
    }

    /// Checks the signature of the revocation key, before an accounting node countersigns.
    ///
    /// # Errors
    /// [`CheckError`] if the entry breaks its layout or the signature does not stand.
    pub fn verify(
        &self,
        consortium: &ConsortiumId,
        signature: &Signature,
    ) -> Result<(), CheckError> {
        self.check_shape()?;
        self.text()
            .verify(consortium, &self.revocation_key, signature)
            .map_err(Signer::Granter.failed())
    }

    pub(super) fn text(&self) -> Text {
        Text::new(Context::Revocation, Kind::Grant, |out| self.encode(out))
    }

    pub(super) fn check_shape(&self) -> Result<(), DecodeError> {
        let what = "access keys of the grant";
        if self.access_keys.is_empty() || self.access_keys.len() > ACCESS_KEYS_MAX {
            return Err(DecodeError::Invalid {
                what,
                why: "not 1 to 32",
            });
        }
        if !self.access_keys.is_sorted_by(|one, other| one < other) {
            return Err(DecodeError::Invalid {
                what,
                why: "not strictly ascending",
            });
        }
        if self.not_before >= self.expiry {
            let what = "validity of the grant";
            return Err(DecodeError::Invalid {
                what,
                why: "it ends before it begins",
            });
        }
        Ok(())
    }

    fn encode(&self, out: &mut Encoder) {
        // A count that does not fit is refused by level 1 before anything is signed for others.
        let count = u8::try_from(self.access_keys.len()).unwrap_or(u8::MAX);
        out.bytes(self.revocation_key.as_bytes())
            .bytes(self.grant.as_bytes())
            .u64(self.epoch.number())
            .u64(self.not_before.number())
            .u64(self.expiry.number())
            .u8(count);
        for key in &self.access_keys {
            out.bytes(key.as_bytes());
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let revocation_key = decode_key("revocation key", from)?;
        let grant = Digest::new(from.array("digest of the grant")?);
        let epoch = ValidatorEpoch::new(from.u64("validator epoch of the grant")?);
        let not_before = Timestamp::new(from.u64("begin of the grant")?);
        let expiry = Timestamp::new(from.u64("end of the grant")?);
        let count = from.u8("number of access keys")?;
        let access_keys = (0..count)
            .map(|_| decode_key("access key", from))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            revocation_key,
            grant,
            epoch,
            not_before,
            expiry,
            access_keys,
        })
    }
}

/// A grant on the chain: signed by its revocation key, countersigned by an accounting node, which
/// answers for the quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantTransaction {
    /// What the patient or agent signed.
    pub entry: GrantEntry,
    /// By the revocation key.
    pub signature: Signature,
    /// Whose node countersigned.
    pub node: InstitutionId,
    /// By that node's consensus key.
    pub countersignature: Signature,
}

impl GrantTransaction {
    /// An accounting node countersigns.
    pub fn countersign(
        consortium: &ConsortiumId,
        entry: GrantEntry,
        signature: Signature,
        node: InstitutionId,
        node_key: &SigningKey,
    ) -> Self {
        entry.text().countersign(
            Context::Countersignature,
            consortium,
            &countersigned(&signature, node),
            node_key,
            |countersignature| Self {
                entry,
                signature,
                node,
                countersignature,
            },
        )
    }

    /// Level 2: the signature of the revocation key.
    pub(super) fn check(&self, consortium: &ConsortiumId) -> Result<(), CheckError> {
        self.entry.verify(consortium, &self.signature)
    }

    /// Level 3: the countersignature, under the node's key in the state.
    pub(crate) fn check_node(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        self.entry
            .text()
            .verify_countersignature(
                Context::Countersignature,
                consortium,
                &countersigned(&self.signature, self.node),
                key,
                &self.countersignature,
            )
            .map_err(Signer::Node.failed())
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.entry.encode(out);
        out.bytes(self.signature.as_bytes())
            .u32(self.node.number())
            .bytes(self.countersignature.as_bytes());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            entry: GrantEntry::decode(from)?,
            signature: decode_signature(from)?,
            node: InstitutionId::new(from.u32("countersigning institution")?),
            countersignature: decode_signature(from)?,
        })
    }
}

fn countersigned(signature: &Signature, node: InstitutionId) -> Vec<u8> {
    Encoder::new()
        .bytes(signature.as_bytes())
        .u32(node.number())
        .finish()
}

/// One access: which one of its key, and which record, readable only for patient, doctor and
/// accounting nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessEntry {
    /// The one-time access key that the grant names.
    pub access_key: VerifyingKey,
    /// The next number of this key, from 0.
    pub number: AccessNumber,
    /// v.
    pub pad: AccessPad,
    /// PRF(G, "LOG-PAD", access key, i, v) XOR transaction id.
    pub masked: MaskedTransactionId,
    /// By the access key.
    pub signature: Signature,
}

/// i: counts the accesses of one access key, from 0 and without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccessNumber(u64);

impl AccessNumber {
    /// From its number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The one after it.
    ///
    /// # Panics
    /// After 2^64 - 1, which no key reaches.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(
            self.0
                .checked_add(1)
                .expect("2^64 accesses are never reached"),
        )
    }
}

/// v: 16 random bytes of one access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessPad([u8; 16]);

impl AccessPad {
    /// From 16 random bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// A transaction id under a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskedTransactionId([u8; 32]);

impl MaskedTransactionId {
    /// From its 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl AccessEntry {
    /// The holder of the access key signs.
    pub fn sign(
        consortium: &ConsortiumId,
        access_key: &SigningKey,
        number: AccessNumber,
        pad: AccessPad,
        masked: MaskedTransactionId,
    ) -> Self {
        let signature = Signature::new([0; 64]);
        let mut unsigned = Self {
            access_key: access_key.verifying_key(),
            number,
            pad,
            masked,
            signature,
        };
        unsigned.signature = unsigned.text().sign(consortium, access_key);
        unsigned
    }

    fn text(&self) -> Text {
        Text::new(Context::Access, Kind::Access, |out| self.encode_body(out))
    }

    fn encode_body(&self, out: &mut Encoder) {
        out.bytes(self.access_key.as_bytes())
            .u64(self.number.number())
            .bytes(self.pad.as_bytes())
            .bytes(self.masked.as_bytes());
    }
}

/// Accesses that travel together, 1 to 256. They are taken all or none, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The accesses.
    pub entries: Vec<AccessEntry>,
}

impl Access {
    /// The id's text is that of the bodies of all entries together; of a single entry, what its key
    /// signed.
    pub(super) fn text(&self) -> Text {
        Text::new(Context::Access, Kind::Access, |out| {
            for entry in &self.entries {
                entry.encode_body(out);
            }
        })
    }

    /// Level 2: the signature of each access key.
    pub(super) fn check(&self, consortium: &ConsortiumId) -> Result<(), CheckError> {
        self.entries.iter().try_for_each(|entry| {
            entry
                .text()
                .verify(consortium, &entry.access_key, &entry.signature)
                .map_err(Signer::Access.failed())
        })
    }

    pub(super) fn check_shape(&self) -> Result<(), DecodeError> {
        if self.entries.is_empty() || self.entries.len() > ACCESS_ENTRIES_MAX {
            return Err(DecodeError::Invalid {
                what: "number of accesses",
                why: "not 1 to 256",
            });
        }
        Ok(())
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        // A count that does not fit is refused by level 1 before anything is sent.
        out.u16(u16::try_from(self.entries.len()).unwrap_or(u16::MAX));
        for entry in &self.entries {
            entry.encode_body(out);
            out.bytes(entry.signature.as_bytes());
        }
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let count = usize::from(from.u16("number of accesses")?);
        let entries = (0..count)
            .map(|_| {
                Ok(AccessEntry {
                    access_key: decode_key("access key", from)?,
                    number: AccessNumber(from.u64("number of the access")?),
                    pad: AccessPad(from.array("pad of the access")?),
                    masked: MaskedTransactionId(from.array("masked transaction id")?),
                    signature: decode_signature(from)?,
                })
            })
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self { entries })
    }
}

/// Revokes a grant. Needs nobody's countersignature, so nobody can hold it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// The public part of the grant's revocation key.
    pub key: VerifyingKey,
    /// By that key.
    pub signature: Signature,
}

impl Revocation {
    /// The holder of the revocation key signs.
    pub fn sign(consortium: &ConsortiumId, key: &SigningKey) -> Self {
        let public = key.verifying_key();
        Self {
            key: public,
            signature: revocation_text(&public).sign(consortium, key),
        }
    }

    /// Which grant.
    pub fn grant(&self, consortium: &ConsortiumId) -> GrantId {
        GrantId::of(consortium, &self.key)
    }

    pub(super) fn text(&self) -> Text {
        revocation_text(&self.key)
    }

    /// Level 2: the signature.
    pub(super) fn check(&self, consortium: &ConsortiumId) -> Result<(), CheckError> {
        self.text()
            .verify(consortium, &self.key, &self.signature)
            .map_err(Signer::Granter.failed())
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.bytes(self.key.as_bytes())
            .bytes(self.signature.as_bytes());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key: decode_key("revocation key", from)?,
            signature: decode_signature(from)?,
        })
    }
}

fn revocation_text(key: &VerifyingKey) -> Text {
    Text::new(Context::Revocation, Kind::Revocation, |out| {
        out.bytes(key.as_bytes());
    })
}

/// Withdraws an agent's appointment, which the chain has never seen: the appointment names the hash
/// of this single-use key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withdrawal {
    /// The public part of the withdrawal key.
    pub key: VerifyingKey,
    /// By that key.
    pub signature: Signature,
}

impl Withdrawal {
    /// The holder of the withdrawal key signs.
    pub fn sign(consortium: &ConsortiumId, key: &SigningKey) -> Self {
        let public = key.verifying_key();
        Self {
            key: public,
            signature: withdrawal_text(&public).sign(consortium, key),
        }
    }

    /// Which appointment.
    pub fn appointment(&self, consortium: &ConsortiumId) -> AppointmentId {
        AppointmentId::of(consortium, &self.key)
    }

    pub(super) fn text(&self) -> Text {
        withdrawal_text(&self.key)
    }

    /// Level 2: the signature.
    pub(super) fn check(&self, consortium: &ConsortiumId) -> Result<(), CheckError> {
        self.text()
            .verify(consortium, &self.key, &self.signature)
            .map_err(Signer::Withdrawer.failed())
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.bytes(self.key.as_bytes())
            .bytes(self.signature.as_bytes());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key: decode_key("withdrawal key", from)?,
            signature: decode_signature(from)?,
        })
    }
}

fn withdrawal_text(key: &VerifyingKey) -> Text {
    Text::new(Context::Withdrawal, Kind::Withdrawal, |out| {
        out.bytes(key.as_bytes());
    })
}

/// One for each doctor of a grant, 32. A stored grant is then below 1.4 KB (32 x 40 + 120).
pub(crate) const ACCESS_KEYS_MAX: usize = scheme::GRANTEES_MAX;

/// 256 accesses of 152 bytes are 38,912 of a transaction's 65,536.
pub(crate) const ACCESS_ENTRIES_MAX: usize = 256;
