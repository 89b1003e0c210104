//! Signatures: Ed25519 by one rule everywhere (ZIP-215), each under a context, and BLS signatures
//! in G1 under a patient's ownership key (`spec/scheme.md` section 3).
//!
//! Equation (10), SignGen: [`RecordStatement`] is what doctor A signs; its digest is the transaction
//! id. So no server can hang a container on another patient or another index.

mod stood;

use std::cmp::Ordering;
use std::fmt;

use ed25519_zebra as ed25519;
use rand_core::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::encoding::enc;
use crate::hash::{Digest, sha256};
use crate::index::{Entry, OwnerKey, SealedLocator};
use crate::keys::WriterEpochPublicKey;
use crate::params::{ConsortiumId, InstitutionId, Timestamp};

/// What a text is signed as. A signature under one context is none under another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Context {
    /// A doctor's statement about a record, equation (10).
    Record,
    /// An institution's or the centre's transaction.
    Transaction,
    /// A doctor's request to read.
    Request,
    /// An entry of an access log, under an access key.
    Access,
    /// A grant's entry on the chain and its revocation, under the grant's revocation key.
    Revocation,
    /// The withdrawal of an agent's appointment, under its withdrawal key.
    Withdrawal,
    /// A node's receipt for a final transaction, or a cloud's for a stored container.
    Receipt,
    /// A node's answer to a search.
    Reply,
    /// A node's re-encryption share.
    Share,
    /// A node's certificate of its HPKE key of a validator epoch.
    HpkeKey,
    /// A block, under its producer's consensus key.
    Consensus,
    /// The registration centre's certificate of a user's or institution's keys.
    Certificate,
    /// An agent's grant, in place of the episode key's signature.
    Agent,
    /// An accounting node's countersignature of a grant's entry.
    Countersignature,
    /// A reader's search or share request, under the grant's access key.
    Reading,
    /// A user's call to a service, under the user's signing key or the service's account key.
    Call,
    /// A founder's consent to the founding document and to the directory of services.
    Founding,
    /// A node's statement of the state after a block.
    Snapshot,
}

impl Context {
    fn text(self) -> &'static [u8] {
        match self {
            Self::Record => b"WILLIS-V1-ED25519-record",
            Self::Transaction => b"WILLIS-V1-ED25519-transaction",
            Self::Request => b"WILLIS-V1-ED25519-request",
            Self::Access => b"WILLIS-V1-ED25519-access",
            Self::Revocation => b"WILLIS-V1-ED25519-revocation",
            Self::Withdrawal => b"WILLIS-V1-ED25519-withdrawal",
            Self::Receipt => b"WILLIS-V1-ED25519-receipt",
            Self::Reply => b"WILLIS-V1-ED25519-reply",
            Self::Share => b"WILLIS-V1-ED25519-share",
            Self::HpkeKey => b"WILLIS-V1-ED25519-hpke-key",
            Self::Consensus => b"WILLIS-V1-ED25519-consensus",
            Self::Certificate => b"WILLIS-V1-ED25519-certificate",
            Self::Agent => b"WILLIS-V1-ED25519-agent",
            Self::Countersignature => b"WILLIS-V1-ED25519-countersignature",
            Self::Reading => b"WILLIS-V1-ED25519-reading",
            Self::Call => b"WILLIS-V1-ED25519-call",
            Self::Founding => b"WILLIS-V1-ED25519-founding",
            Self::Snapshot => b"WILLIS-V1-ED25519-snapshot",
        }
    }
}

/// A signature that does not stand: refuse the message and name its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the signature does not belong to this text, key and context")]
pub struct BadSignature;

/// An Ed25519 private key. Wiped on drop.
#[derive(Clone)]
pub struct SigningKey(
    /// With the seed what follows from it, computed once. In a place of its own, so that a key that moves
    /// leaves no copy of it behind.
    Box<Zeroizing<ed25519::SigningKey>>,
);

impl SigningKey {
    /// A fresh key.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        Self::expand(&seed)
    }

    /// From the 32-byte seed of RFC 8032.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self::expand(&Zeroizing::new(seed))
    }

    fn expand(seed: &[u8; 32]) -> Self {
        let key = ed25519::SigningKey::from_bytes(seed);
        Self(Box::new(Zeroizing::new(key)))
    }

    /// The seed, for a keystore. The name admits that a private key leaves its type.
    pub fn expose_seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The public key.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(ed25519::VerificationKeyBytes::from(&**self.0).into())
    }

    /// Signs enc(context, consortium, parts).
    pub fn sign(&self, context: Context, consortium: &ConsortiumId, parts: &[&[u8]]) -> Signature {
        Signature(
            self.0
                .sign(&signed_text(context, consortium, parts))
                .to_bytes(),
        )
    }
}

impl ConstantTimeEq for SigningKey {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.expose_seed().ct_eq(other.expose_seed())
    }
}

/// An Ed25519 public key, 32 bytes as they stand in keys, certificates and transactions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// From its 32 bytes. Bytes that are no point verify nothing.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// SHA-256 of the key, as the registration centre puts it on the chain.
    pub fn hash(&self) -> Digest {
        sha256(&self.0)
    }

    /// Checks a signature over enc(context, consortium, parts), by ZIP-215's rule (E7). A key of
    /// small order verifies nothing: under one, a single signature would stand for every text, and
    /// its owner could deny whatever they signed.
    ///
    /// # Errors
    /// [`BadSignature`] if it does not stand.
    pub fn verify(
        &self,
        context: Context,
        consortium: &ConsortiumId,
        parts: &[&[u8]],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        if self.is_of_small_order() {
            return Err(BadSignature);
        }
        let text = signed_text(context, consortium, parts);
        stood::or_check(&[&self.0, &signature.0, &text], || {
            ed25519::VerificationKey::try_from(self.0)
                .and_then(|key| key.verify(&signature.0.into(), &text))
                .map_err(|_| BadSignature)
        })
    }

    /// Whether any signature can stand under this key: its bytes are a point of the curve, as ZIP-215
    /// reads them, and not of small order.
    pub fn can_verify(&self) -> bool {
        !self.is_of_small_order() && ed25519::VerificationKey::try_from(self.0).is_ok()
    }

    fn is_of_small_order(&self) -> bool {
        let mut y = self.0;
        y[31] &= 0x7f;
        SMALL_ORDER_Y.contains(&y)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An Ed25519 signature, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature([u8; 64]);

impl Signature {
    /// From its 64 bytes.
    pub const fn new(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Its 64 bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature")
    }
}

/// What the author of a record signs, equation (10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordStatement {
    /// SHA-256 of the whole container.
    pub digest: Digest,
    /// SHA-256 of the container's header.
    pub header_digest: Digest,
    /// O_rec, the record's blinded owner key.
    pub owner_key: OwnerKey,
    /// Address and delta, sealed under the locator key.
    pub locator: SealedLocator,
    /// The index, sorted by tag.
    pub entries: Vec<Entry>,
    /// R of the institution's writer epoch.
    pub writer_key: WriterEpochPublicKey,
    /// The author's key.
    pub author: VerifyingKey,
    /// The author's institution.
    pub institution: InstitutionId,
    /// When the author signed.
    pub time: Timestamp,
}

impl RecordStatement {
    /// Doctor A's signature x_i.
    pub fn sign(&self, consortium: &ConsortiumId, key: &SigningKey) -> Signature {
        self.with_parts(|parts| key.sign(Context::Record, consortium, parts))
    }

    /// Checks x_i under the statement's own author key (E8).
    ///
    /// # Errors
    /// [`StatementError`] if the tags do not strictly ascend, since such a statement is none, whoever
    /// signed it; or if the signature does not stand.
    pub fn verify(
        &self,
        consortium: &ConsortiumId,
        signature: &Signature,
    ) -> Result<(), StatementError> {
        for pair in self.entries.windows(2) {
            match pair[0].tag.cmp(&pair[1].tag) {
                Ordering::Less => {}
                Ordering::Equal => return Err(StatementError::Repeated),
                Ordering::Greater => return Err(StatementError::Unordered),
            }
        }
        self.with_parts(|parts| {
            self.author
                .verify(Context::Record, consortium, parts, signature)
        })
        .map_err(|BadSignature| StatementError::BadSignature)
    }

    /// SHA-256 of what the doctor signed: the transaction id (E9).
    pub fn id(&self, consortium: &ConsortiumId) -> Digest {
        self.with_parts(|parts| sha256(&signed_text(Context::Record, consortium, parts)))
    }

    pub(crate) fn with_parts<T>(&self, then: impl FnOnce(&[&[u8]]) -> T) -> T {
        let mut entries = Vec::with_capacity(self.entries.len() * 32);
        for entry in &self.entries {
            entries.extend_from_slice(entry.tag.as_bytes());
            entries.extend_from_slice(&entry.pad);
        }
        then(&[
            self.digest.as_bytes(),
            self.header_digest.as_bytes(),
            self.owner_key.as_bytes(),
            self.locator.as_bytes(),
            &entries,
            self.writer_key.as_bytes(),
            self.author.as_bytes(),
            &self.institution.to_enc(),
            &self.time.to_enc(),
        ])
    }
}

/// Why a record's statement is not its author's. Refuse the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StatementError {
    /// The tags do not ascend. The author's machine sorts them; build the record anew.
    #[error("the record's index entries are not sorted by tag: build it anew")]
    Unordered,
    /// A tag stands twice. Build the record anew.
    #[error("an index tag of the record stands twice: build it anew")]
    Repeated,
    /// The signature does not stand under the author's key.
    #[error("the signature does not stand under this key")]
    BadSignature,
}

/// The bytes that an Ed25519 signature covers (E7): enc(context, consortium, parts). Public so that an
/// auditor can recompute an id or a signed text.
pub fn signed_text(context: Context, consortium: &ConsortiumId, parts: &[&[u8]]) -> Vec<u8> {
    let mut all: Vec<&[u8]> = Vec::with_capacity(parts.len() + 2);
    all.push(context.text());
    all.push(consortium.as_bytes());
    all.extend_from_slice(parts);
    enc(&all)
}

/// The y of all eight points whose order divides 8, little-endian, in each encoding that fits 255
/// bits (0 and 1 can also be written as q and q + 1). The sign of x is the top bit of the last byte.
const SMALL_ORDER_Y: [[u8; 32]; 7] = [
    [0; 32],
    from_ends(0x01, 0, 0),
    // The two of order 8.
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    // q - 1, q, q + 1.
    from_ends(0xec, 0xff, 0x7f),
    from_ends(0xed, 0xff, 0x7f),
    from_ends(0xee, 0xff, 0x7f),
];

/// A number of 32 bytes by its first byte, the thirty that follow, and its last.
const fn from_ends(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut out = [middle; 32];
    out[0] = first;
    out[31] = last;
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Context; 18] = [
        Context::Record,
        Context::Transaction,
        Context::Request,
        Context::Access,
        Context::Revocation,
        Context::Withdrawal,
        Context::Receipt,
        Context::Reply,
        Context::Share,
        Context::HpkeKey,
        Context::Consensus,
        Context::Certificate,
        Context::Agent,
        Context::Countersignature,
        Context::Reading,
        Context::Call,
        Context::Founding,
        Context::Snapshot,
    ];

    #[test]
    fn a_signature_stands_under_its_own_context_consortium_and_parts_only() {
        let key = SigningKey::from_seed([7; 32]);
        let here = ConsortiumId::new([1; 32]);
        let signature = key.sign(Context::Request, &here, &[b"ab", b"c"]);
        for context in ALL {
            let stands = key
                .verifying_key()
                .verify(context, &here, &[b"ab", b"c"], &signature)
                .is_ok();
            assert_eq!(stands, context == Context::Request);
        }
        let elsewhere = ConsortiumId::new([2; 32]);
        assert!(
            key.verifying_key()
                .verify(Context::Request, &elsewhere, &[b"ab", b"c"], &signature)
                .is_err()
        );
        assert!(
            key.verifying_key()
                .verify(Context::Request, &here, &[b"a", b"bc"], &signature)
                .is_err()
        );
    }

    #[test]
    fn contexts_have_distinct_texts() {
        let texts: std::collections::BTreeSet<_> =
            ALL.iter().map(|context| context.text()).collect();
        assert_eq!(texts.len(), ALL.len());
    }

    #[test]
    fn keys_of_small_order_verify_nothing() {
        let here = ConsortiumId::new([1; 32]);
        // R the identity and S = 0 satisfy [8][S]B = [8]R + [8][k]A for every k if [8]A vanishes.
        let mut universal = [0; 64];
        universal[0] = 1;
        let mut points = 0;
        for y in SMALL_ORDER_Y {
            for sign in [0, 0x80] {
                let mut bytes = y;
                bytes[31] |= sign;
                let text = signed_text(Context::Record, &here, &[b"any text"]);
                if let Ok(key) = ed25519::VerificationKey::try_from(bytes) {
                    assert!(key.verify(&universal.into(), &text).is_ok());
                    points += 1;
                }
                assert!(
                    VerifyingKey::new(bytes)
                        .verify(
                            Context::Record,
                            &here,
                            &[b"any text"],
                            &Signature::new(universal)
                        )
                        .is_err()
                );
            }
        }
        assert_eq!(points, 14);
    }

    #[test]
    fn bytes_that_are_no_point_verify_nothing() {
        let bad = VerifyingKey::new([0x02; 32]);
        let here = ConsortiumId::new([1; 32]);
        assert!(
            bad.verify(Context::Record, &here, &[], &Signature::new([0; 64]))
                .is_err()
        );
    }
}
