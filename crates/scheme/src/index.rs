//! Equations (11) to (13), IndexGen, TokenGen and Query: the encrypted index
//! (`spec/scheme.md` section 7).
//!
//! Boneh's PEKS with the sender's randomness y reused per institution and writer epoch,
//! authenticated by R, evaluated obliviously, and salted by the PID. Per keyword w of a record:
//!
//! ```text
//! Hw  = H1_KW(PID, institution, writer epoch, w)
//! K_w = HT(e(Hw^y, X)) = HT(e(Hw^x, R))          sender's side = searcher's side
//! tag = PRF(K_w, "TAG", i)[..16]
//! pad = PRF(K_w, "PAD", i, O_rec)[..16] XOR LK
//! ```
//!
//! A search is one pairing per trapdoor, then one look-up per hit and eight more. Without the PID
//! nobody can test a guess.

use std::fmt;
use std::ops::ControlFlow;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use rand_core::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::encoding::{DecodeError, enc};
use crate::group::{G1, G1_BYTES, G2, G2_BYTES, Scalar, pairing, pairings_equal};
use crate::hash::{self, Digest, Extracted, h1, hs, prf};
use crate::keys::{
    CompressedWriterEpochKey, OwnershipPublicKey, SearchKey, SearchPublicKey, WriterEpochKey,
    WriterEpochPublicKey, compressed_point, public_point,
};
use crate::params::{ConsortiumId, InstitutionId, WriterEpoch};
use crate::pseudonym::Pid;
use crate::signature::VerifyingKey;

/// The longest keyword, in bytes: a code system's URL (at most 200) and a code (at most 50) fit.
pub const KEYWORD_BYTES_MAX: usize = 256;
/// Entries of a record are padded to a multiple of this, so that their number tells less.
pub const ENTRIES_MULTIPLE: usize = 8;
/// The allocator hands out positions below L + 8, L the lowest whose entry is not final; so no gap
/// is 8 long, and a search ends after 8 misses in a row.
pub const ALLOCATION_WINDOW: u64 = 8;
/// Bytes of a sealed locator: address 32, delta 32, tag 16.
pub const SEALED_LOCATOR_BYTES: usize = 80;

/// A keyword in the canonical form of `spec/formats.md`; the empty one stands for "any record of
/// this episode".
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keyword(Vec<u8>);

impl Keyword {
    /// From its canonical bytes.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] above [`KEYWORD_BYTES_MAX`].
    pub fn new(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > KEYWORD_BYTES_MAX {
            let (found, limit) = (bytes.len() as u64, KEYWORD_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge {
                what: "the keyword",
                found,
                limit,
            });
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The empty keyword, which every record carries.
    pub fn any_record() -> Self {
        Self(Vec::new())
    }

    /// Its canonical bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Under whose index key a keyword is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer {
    /// The institution.
    pub institution: InstitutionId,
    /// Its writer epoch.
    pub epoch: WriterEpoch,
}

public_point!(
    /// Hw^b, what the hospital's server sees of a keyword: a uniformly random point.
    BlindedKeyword(G1, G1_BYTES, "the blinded keyword")
);
public_point!(
    /// Hw^(b y), the server's answer.
    RaisedKeyword(G1, G1_BYTES, "the raised keyword")
);
public_point!(
    /// O_rec = O * g2^Hs_PID(PID) * g2^delta: whose record this is, readable with delta only.
    OwnerKey(G2, G2_BYTES, "the owner key")
);
compressed_point!(
    /// O_rec, still compressed: 96 bytes. A search hashes it and computes nothing on it.
    CompressedOwnerKey,
    OwnerKey
);
public_point!(
    /// E = O * g2^Hs_PID(PID): the owner's key for one episode; signs its grants.
    EpisodeKey(G2, G2_BYTES, "the episode key")
);

/// A keyword hashed and blinded on the doctor's machine, waiting for the server's answer.
pub struct KeywordBlinding {
    pub(crate) hashed: G1,
    pub(crate) blind: Scalar,
}

impl KeywordBlinding {
    /// Hw and a fresh b.
    pub fn new(
        consortium: &ConsortiumId,
        pid: &Pid,
        writer: Writer,
        keyword: &Keyword,
        rng: &mut impl CryptoRng,
    ) -> Self {
        Self {
            hashed: hash_keyword(consortium, pid, writer, keyword),
            blind: Scalar::random(rng),
        }
    }

    /// Hw^b, for the server.
    pub fn blinded(&self) -> BlindedKeyword {
        BlindedKeyword::from_point(self.hashed.power(&self.blind))
    }
}

impl WriterEpochKey {
    /// (Hw^b)^y, on the hospital's server, after it has checked doctor and quota.
    pub fn raise(&self, blinded: &BlindedKeyword) -> RaisedKeyword {
        RaisedKeyword::from_point(blinded.point.power(&self.0))
    }
}

/// Why the server's answer gives no index keys. Nothing was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnblindError {
    /// As many points must come back as were sent, and at least one. Ask the server again.
    #[error("{sent} blinded keywords were sent and {came} raised ones came back: ask again")]
    Count {
        /// Blinded keywords.
        sent: usize,
        /// Raised ones.
        came: usize,
    },
    /// The server answered with something else than the points raised to y: tell the hospital's IT.
    #[error("the hospital's server did not raise the blinded keywords to its writer epoch key")]
    LyingServer,
}

/// Removes the blinding of all keywords of a record and checks them in one equation (11) with fresh
/// 128-bit weights: e(prod (Hw^y)^v, g2) = e(prod Hw^v, R).
///
/// # Errors
/// [`UnblindError`] if the numbers differ or the equation does not hold.
pub fn unblind(
    blindings: &[KeywordBlinding],
    raised: &[RaisedKeyword],
    writer_key: &WriterEpochPublicKey,
    rng: &mut impl CryptoRng,
) -> Result<Vec<EvaluatedKeyword>, UnblindError> {
    if blindings.len() != raised.len() || blindings.is_empty() {
        return Err(UnblindError::Count {
            sent: blindings.len(),
            came: raised.len(),
        });
    }
    let evaluated: Vec<G1> = blindings
        .iter()
        .zip(raised)
        .map(|(blinding, answer)| answer.point.power(&blinding.blind.inverse()))
        .collect();
    let weights: Vec<Scalar> = blindings
        .iter()
        .map(|_| Scalar::random_weight(rng))
        .collect();
    let left: Vec<_> = evaluated.iter().zip(&weights).collect();
    let right: Vec<_> = blindings
        .iter()
        .map(|blinding| &blinding.hashed)
        .zip(&weights)
        .collect();
    let left = G1::product(&left).ok_or(UnblindError::LyingServer)?;
    let right = G1::product(&right).ok_or(UnblindError::LyingServer)?;
    if !pairings_equal(&left, &G2::generator(), &right, &writer_key.point) {
        return Err(UnblindError::LyingServer);
    }
    Ok(evaluated.into_iter().map(EvaluatedKeyword).collect())
}

/// Hw^y, checked against R.
pub struct EvaluatedKeyword(pub(crate) G1);

impl EvaluatedKeyword {
    /// K_w = HT(e(Hw^y, X)).
    pub fn index_key(&self, owner: &SearchPublicKey) -> IndexKey {
        IndexKey(Extracted::from_pairing(&pairing(&self.0, &owner.point).to_bytes()).into_prf_key())
    }
}

/// K_w: makes and finds the entries of one keyword of one episode in one writer epoch.
pub struct IndexKey(pub(crate) Zeroizing<[u8; 32]>);

impl IndexKey {
    /// What the writer epoch's allocator is asked with: PRF(K_w, "ALLOC") (E18).
    pub fn allocation_id(&self, consortium: &ConsortiumId) -> AllocationId {
        AllocationId(*prf(&self.0, hash::ALLOC, consortium, &[]))
    }

    /// tag = PRF(K_w, "TAG", i) cut to 16 bytes.
    pub fn tag(&self, consortium: &ConsortiumId, position: Position) -> Tag {
        Tag(first_half(&prf(
            &self.0,
            hash::TAG,
            consortium,
            &[&position.0.to_be_bytes()],
        )))
    }

    /// The entry of one record at position i.
    pub fn entry(
        &self,
        consortium: &ConsortiumId,
        position: Position,
        owner: &CompressedOwnerKey,
        key: &LocatorKey,
    ) -> Entry {
        Entry {
            tag: self.tag(consortium, position),
            pad: self.mask(consortium, position, owner, &key.0),
        }
    }

    /// The locator key that the entry at position i hides.
    pub fn locator_key(
        &self,
        consortium: &ConsortiumId,
        position: Position,
        owner: &CompressedOwnerKey,
        pad: &[u8; 16],
    ) -> LocatorKey {
        LocatorKey(Zeroizing::new(self.mask(consortium, position, owner, pad)))
    }

    /// Equation (13): looks up i = 0, 1, ... until [`ALLOCATION_WINDOW`] in a row are missing, and
    /// gives each hit with its position. An entry that is there and does not open is not missing:
    /// `look_up` gives it as a hit, and the caller drops it afterwards (E22). `limit` bounds the hits.
    ///
    /// # Errors
    /// Those of the look-up.
    pub fn search<Hit, Fault>(
        &self,
        consortium: &ConsortiumId,
        limit: usize,
        mut look_up: impl FnMut(&Tag) -> Result<Option<Hit>, Fault>,
    ) -> Result<Vec<(Position, Hit)>, Fault> {
        let mut hits = Vec::new();
        if limit == 0 {
            return Ok(hits);
        }
        let stopped = self.walk(consortium, |position, tag| match look_up(tag) {
            Err(fault) => ControlFlow::Break(Err(fault)),
            Ok(None) => ControlFlow::Continue(Presence::Missing),
            Ok(Some(hit)) => {
                hits.push((position, hit));
                if hits.len() == limit {
                    return ControlFlow::Break(Ok(()));
                }
                ControlFlow::Continue(Presence::Present)
            }
        });
        match stopped {
            Some(Err(fault)) => Err(fault),
            Some(Ok(())) | None => Ok(hits),
        }
    }

    /// The walk of equation (13): i = 0, 1, ... with their tags until [`ALLOCATION_WINDOW`] in a row
    /// are missing, which gives `None`, or until `step` breaks off, which gives what it broke with.
    pub fn walk<Stop>(
        &self,
        consortium: &ConsortiumId,
        mut step: impl FnMut(Position, &Tag) -> ControlFlow<Stop, Presence>,
    ) -> Option<Stop> {
        let mut missing = 0;
        let mut position = 0;
        while missing < ALLOCATION_WINDOW {
            match step(
                Position(position),
                &self.tag(consortium, Position(position)),
            ) {
                ControlFlow::Break(stop) => return Some(stop),
                ControlFlow::Continue(Presence::Present) => missing = 0,
                ControlFlow::Continue(Presence::Missing) => missing += 1,
            }
            position += 1;
        }
        None
    }

    fn mask(
        &self,
        consortium: &ConsortiumId,
        position: Position,
        owner: &CompressedOwnerKey,
        value: &[u8; 16],
    ) -> [u8; 16] {
        let mut out = first_half(&prf(
            &self.0,
            hash::PAD,
            consortium,
            &[&position.0.to_be_bytes(), owner.as_bytes()],
        ));
        for (byte, other) in out.iter_mut().zip(value) {
            *byte ^= other;
        }
        out
    }
}

impl ConstantTimeEq for IndexKey {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.as_slice().ct_eq(other.0.as_slice())
    }
}

/// Whether an entry stands under a tag, whatever it opens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// One does.
    Present,
    /// None does.
    Missing,
}

/// What the allocator of a writer epoch counts under. It tells the hospital's server which of its
/// entries share an episode and keyword, never which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllocationId([u8; 32]);

impl AllocationId {
    /// From its 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// i: the place of an entry among those of its keyword, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// From its number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// The public half of an index entry, unique per R on the whole chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag([u8; 16]);

impl Tag {
    /// From its 16 bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// One entry of a record's index: 32 bytes on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Where it is found.
    pub tag: Tag,
    /// The locator key, masked.
    pub pad: [u8; 16],
}

/// Pads entries with random ones to a multiple of [`ENTRIES_MULTIPLE`] and sorts them by tag.
pub fn pad_entries(entries: &mut Vec<Entry>, rng: &mut impl CryptoRng) {
    while entries.is_empty() || !entries.len().is_multiple_of(ENTRIES_MULTIPLE) {
        let (mut tag, mut pad) = ([0; 16], [0; 16]);
        rng.fill_bytes(&mut tag);
        rng.fill_bytes(&mut pad);
        entries.push(Entry { tag: Tag(tag), pad });
    }
    entries.sort_unstable();
}

/// LK: opens the locator of one record. Fresh for each transaction that is built.
#[derive(Clone)]
pub struct LocatorKey(Zeroizing<[u8; 16]>);

impl LocatorKey {
    /// A fresh key.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; 16]);
        rng.fill_bytes(key.as_mut_slice());
        Self(key)
    }

    /// From a doctor's backup or a sealed receipt.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for a doctor's backup or a sealed receipt.
    pub fn expose_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl ConstantTimeEq for LocatorKey {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.as_slice().ct_eq(other.0.as_slice())
    }
}

/// Where the cloud holds a container: 32 random bytes, never derived from content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address([u8; 32]);

impl Address {
    /// From its 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(..)")
    }
}

/// delta: blinds the owner key of one record.
#[derive(Clone)]
pub struct Delta(Scalar);

impl Delta {
    /// A fresh one.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self(Scalar::random(rng))
    }

    /// From a receipt: 32 bytes, big-endian.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if it is zero or not below the group's order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, DecodeError> {
        Scalar::from_bytes("delta", bytes).map(Self)
    }

    /// The bytes, for a sealed receipt.
    pub fn expose_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.to_bytes()
    }
}

impl EpisodeKey {
    /// E = O * g2^Hs_PID(PID).
    ///
    /// # Errors
    /// [`Degenerate`] if E is the identity, which has a chance of 2^-255.
    pub fn derive(
        consortium: &ConsortiumId,
        owner: &OwnershipPublicKey,
        pid: &Pid,
    ) -> Result<Self, Degenerate> {
        let shift = hs(hash::PID, consortium, &[pid.expose_bytes()]).ok_or(Degenerate)?;
        owner
            .point
            .times(&G2::generator_power(&shift))
            .map(Self::from_point)
            .ok_or(Degenerate)
    }

    /// O_rec = E * g2^delta (E19).
    ///
    /// # Errors
    /// [`Degenerate`] if O_rec is the identity: take another delta.
    pub fn blind(&self, delta: &Delta) -> Result<OwnerKey, Degenerate> {
        self.point
            .times(&G2::generator_power(&delta.0))
            .map(OwnerKey::from_point)
            .ok_or(Degenerate)
    }
}

impl OwnerKey {
    /// O_rec / g2^delta, which is E for the rightful delta.
    ///
    /// # Errors
    /// [`Degenerate`] if it is the identity, which no honest author makes.
    pub fn unblind(&self, delta: &Delta) -> Result<EpisodeKey, Degenerate> {
        self.point
            .over(&G2::generator_power(&delta.0))
            .map(EpisodeKey::from_point)
            .ok_or(Degenerate)
    }
}

/// A combination came out as the identity or zero. No honest input does it with a chance above
/// 2^-250; refuse what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a combined key is the identity")]
pub struct Degenerate;

/// What an entry leads to.
#[derive(Clone)]
pub struct Locator {
    /// Where the container lies.
    pub address: Address,
    /// Shows whose it is.
    pub delta: Delta,
}

/// A locator sealed under Expand(LK, R, hdr) with AAD (digest, hdr, O_rec, author, institution).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SealedLocator([u8; SEALED_LOCATOR_BYTES]);

/// What a locator is bound to: it opens in this record's transaction and no other.
#[derive(Debug, Clone, Copy)]
pub struct LocatorBinding<'a> {
    /// R.
    pub writer_key: CompressedWriterEpochKey,
    /// SHA-256 of the container.
    pub digest: &'a Digest,
    /// SHA-256 of its header.
    pub header_digest: &'a Digest,
    /// O_rec.
    pub owner_key: CompressedOwnerKey,
    /// The author's key.
    pub author: &'a VerifyingKey,
    /// The author's institution.
    pub institution: InstitutionId,
}

/// The locator does not open with this key in this transaction: the entry is one that was padded
/// with or forged; it is no hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the locator does not open with this key")]
pub struct NotThisLocator;

impl Locator {
    /// Seals the locator (E19). The key is fresh, so the nonce can be zero.
    pub fn seal(
        &self,
        consortium: &ConsortiumId,
        key: &LocatorKey,
        binding: &LocatorBinding<'_>,
    ) -> SealedLocator {
        let mut plain = Zeroizing::new([0; 64]);
        plain[..32].copy_from_slice(&self.address.0);
        plain[32..].copy_from_slice(self.delta.expose_bytes().as_slice());
        let aad = binding.aad();
        let sealed = binding
            .cipher(consortium, key)
            .encrypt(
                &[0; 12].into(),
                Payload {
                    msg: plain.as_slice(),
                    aad: &aad,
                },
            )
            .expect("64 bytes are below AES-GCM's limit");
        SealedLocator(sealed.try_into().expect("64 bytes and a tag of 16"))
    }
}

impl SealedLocator {
    /// From its 80 bytes.
    pub const fn new(bytes: [u8; SEALED_LOCATOR_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its 80 bytes.
    pub const fn as_bytes(&self) -> &[u8; SEALED_LOCATOR_BYTES] {
        &self.0
    }

    /// Opens the locator.
    ///
    /// # Errors
    /// [`NotThisLocator`] if key or binding are not the ones it was sealed with.
    pub fn open(
        &self,
        consortium: &ConsortiumId,
        key: &LocatorKey,
        binding: &LocatorBinding<'_>,
    ) -> Result<Locator, NotThisLocator> {
        let aad = binding.aad();
        let plain = binding
            .cipher(consortium, key)
            .decrypt(
                &[0; 12].into(),
                Payload {
                    msg: &self.0,
                    aad: &aad,
                },
            )
            .map(Zeroizing::new)
            .map_err(|_| NotThisLocator)?;
        let (address, delta) = plain.split_at(32);
        Ok(Locator {
            address: Address(address.try_into().expect("half of 64 bytes")),
            delta: Delta::from_bytes(delta.try_into().expect("half of 64 bytes"))
                .map_err(|_| NotThisLocator)?,
        })
    }
}

impl fmt::Debug for SealedLocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedLocator")
    }
}

impl LocatorBinding<'_> {
    fn cipher(&self, consortium: &ConsortiumId, key: &LocatorKey) -> Aes256Gcm {
        let expanded = Extracted::from_locator_key(&key.0).expand(
            hash::LOCATOR,
            consortium,
            &[self.writer_key.as_bytes(), self.header_digest.as_bytes()],
        );
        Aes256Gcm::new(&(*expanded).into())
    }

    fn aad(&self) -> Vec<u8> {
        enc(&[
            self.digest.as_bytes(),
            self.header_digest.as_bytes(),
            self.owner_key.as_bytes(),
            self.author.as_bytes(),
            &self.institution.to_enc(),
        ])
    }
}

/// Equation (12), T = Hw^x: finds the records of one keyword of one episode in one writer epoch.
/// A secret between the patient and the accounting nodes.
#[derive(Clone)]
pub struct Trapdoor(G1);

impl Trapdoor {
    /// Bytes of a trapdoor.
    pub const BYTES: usize = G1_BYTES;

    /// T = H1_KW(PID, institution, writer epoch, w)^x (E20).
    pub fn generate(
        consortium: &ConsortiumId,
        key: &SearchKey,
        pid: &Pid,
        writer: Writer,
        keyword: &Keyword,
    ) -> Self {
        Self(hash_keyword(consortium, pid, writer, keyword).power(&key.0))
    }

    /// Decodes the compressed point.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] unless it is canonical, on the curve, in the subgroup and not the
    /// identity.
    pub fn from_bytes(bytes: &[u8; G1_BYTES]) -> Result<Self, DecodeError> {
        G1::from_bytes("the trapdoor", bytes).map(Self)
    }

    /// The compressed point, for the body of a grant.
    pub fn expose_bytes(&self) -> [u8; G1_BYTES] {
        self.0.to_bytes()
    }

    /// K_w = HT(e(T, R)) (E21): the one pairing of a search.
    pub fn index_key(&self, writer_key: &WriterEpochPublicKey) -> IndexKey {
        IndexKey(
            Extracted::from_pairing(&pairing(&self.0, &writer_key.point).to_bytes()).into_prf_key(),
        )
    }
}

pub(crate) fn hash_keyword(
    consortium: &ConsortiumId,
    pid: &Pid,
    writer: Writer,
    keyword: &Keyword,
) -> G1 {
    h1(
        hash::KW,
        consortium,
        &[
            pid.expose_bytes(),
            &writer.institution.to_enc(),
            &writer.epoch.to_enc(),
            keyword.as_bytes(),
        ],
    )
}

fn first_half(value: &[u8; 32]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&value[..16]);
    out
}
