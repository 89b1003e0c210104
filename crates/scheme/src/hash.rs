//! Every hash of the scheme and every domain tag, in one place (`spec/scheme.md` section 1.2).
//!
//! A reviewer checks here that no tag is a prefix-free collision of another: all tags are distinct,
//! and each stands as the first part of an injective [`enc`].

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use std::fmt;
use zeroize::Zeroizing;

use crate::encoding::enc;
use crate::group::{G1, Scalar};
use crate::params::ConsortiumId;

/// A domain tag. Its bytes begin every hash input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Domain(&'static str);

impl Domain {
    pub(crate) const fn as_bytes(self) -> &'static [u8] {
        self.0.as_bytes()
    }

    /// RFC 9380 section 3.1 asks for a tag that names the suite.
    fn curve_dst(self) -> Vec<u8> {
        [self.as_bytes(), b"_BLS12381G1_XMD:SHA-256_SSWU_RO_"].concat()
    }

    pub(crate) fn scalar_dst(self) -> Vec<u8> {
        [self.as_bytes(), b"_XMD:SHA-256"].concat()
    }
}

/// Defines the tags and the list that the collision test walks.
macro_rules! tags {
    ($($name:ident = $text:literal;)*) => {
        $(pub(crate) const $name: Domain = Domain($text);)*
        #[cfg(test)]
        pub(crate) const ALL: &[Domain] = &[$($name),*];
    };
}

tags! {
    // H1: hash to G1.
    KW = "WILLIS-V1-KW";
    COND = "WILLIS-V1-COND";
    MASK = "WILLIS-V1-MASK";
    U = "WILLIS-V1-U";
    GRANT = "WILLIS-V1-GRANT";
    DELEGATION = "WILLIS-V1-DELEGATION";
    HANDOVER = "WILLIS-V1-HANDOVER";
    POP_A = "WILLIS-V1-POP-A";
    POP_X = "WILLIS-V1-POP-X";
    POP_O = "WILLIS-V1-POP-O";
    // Hs: hash to a scalar.
    PID = "WILLIS-V1-PID";
    R = "WILLIS-V1-R";
    SHARE = "WILLIS-V1-SHARE";
    POP_R = "WILLIS-V1-POP-R";
    KEY_A = "WILLIS-V1-KEY-a";
    KEY_X = "WILLIS-V1-KEY-x";
    KEY_O = "WILLIS-V1-KEY-o";
    RANDOM = "WILLIS-V1-RANDOM";
    HEDGE = "WILLIS-V1-HEDGE";
    // PRF: HMAC-SHA256.
    SKD = "WILLIS-V1-SKD";
    PIDN = "WILLIS-V1-PIDN";
    LC = "WILLIS-V1-LC";
    LABEL = "WILLIS-V1-LABEL";
    ALLOC = "WILLIS-V1-ALLOC";
    TAG = "WILLIS-V1-TAG";
    PAD = "WILLIS-V1-PAD";
    LOG_PAD = "WILLIS-V1-LOG-PAD";
    SERVICE_KEY = "WILLIS-V1-SERVICE-KEY";
    // HKDF-Expand.
    DATA = "WILLIS-V1-DATA";
    COMMIT = "WILLIS-V1-COMMIT";
    LOCATOR = "WILLIS-V1-LOCATOR";
    SK_AES = "WILLIS-V1-SK-AES";
    INBOX = "WILLIS-V1-INBOX";
    DIRECTORY = "WILLIS-V1-DIRECTORY";
    ACCOUNTS = "WILLIS-V1-ACCOUNTS";
    GRANT_BODY = "WILLIS-V1-GRANT-BODY";
    GRANT_COMMIT = "WILLIS-V1-GRANT-COMMIT";
    // SHA-256.
    GID = "WILLIS-V1-GID";
    WITHDRAWAL_ID = "WILLIS-V1-WITHDRAWAL-ID";
    INBOX_COMMITMENT = "WILLIS-V1-INBOX-COMMITMENT";
}

/// Salts of HKDF-Extract: one for pairing values, one for locator keys, one for seeds.
const SALT_PAIRING: &[u8] = b"willis/v1/HT";
const SALT_LOCATOR: &[u8] = b"willis/v1/LK";
const SALT_SEED: &[u8] = b"willis/v1/seed";

/// A SHA-256 digest that is public: of a container, a header, a key, a block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// From its 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// SHA-256 of one byte string.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// SHA-256 of a byte string that arrives in pieces.
#[derive(Clone, Default)]
pub struct DigestStream(Sha256);

impl fmt::Debug for DigestStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestStream")
    }
}

impl DigestStream {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hashes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// SHA-256 over `enc(tag, consortium, parts)`.
pub(crate) fn tagged(domain: Domain, consortium: &ConsortiumId, parts: &[&[u8]]) -> Digest {
    sha256(&input(domain, consortium, parts))
}

/// H1_tag (E2): hash to G1 (RFC 9380, BLS12381G1_XMD:SHA-256_SSWU_RO_).
pub(crate) fn h1(domain: Domain, consortium: &ConsortiumId, parts: &[&[u8]]) -> G1 {
    G1::hash(
        &Zeroizing::new(input(domain, consortium, parts)),
        &domain.curve_dst(),
    )
}

/// Hs_tag (E3): hash to Zp by expand_message_xmd with 48 bytes; 0 is refused, so `None` has a chance of
/// 2^-255 and no input for it is known.
pub(crate) fn hs(domain: Domain, consortium: &ConsortiumId, parts: &[&[u8]]) -> Option<Scalar> {
    Scalar::hash(
        &Zeroizing::new(input(domain, consortium, parts)),
        &domain.scalar_dst(),
    )
}

/// The nonce of a proof: from fresh randomness, the secret and the statement together, so that a
/// machine whose randomness repeats gives the same proof again and never two under one nonce.
pub(crate) fn hedged(
    consortium: &ConsortiumId,
    secret: &[u8],
    statement: &[&[u8]],
    rng: &mut impl rand_core::CryptoRng,
) -> Scalar {
    loop {
        let mut fresh = Zeroizing::new([0; 32]);
        rng.fill_bytes(fresh.as_mut_slice());
        let parts = [&[fresh.as_slice(), secret], statement].concat();
        if let Some(nonce) = hs(HEDGE, consortium, &parts) {
            return nonce;
        }
    }
}

/// PRF (E4): HMAC-SHA256 over `enc(tag, consortium, parts)`.
pub(crate) fn prf(
    key: &[u8; 32],
    domain: Domain,
    consortium: &ConsortiumId,
    parts: &[&[u8]],
) -> Zeroizing<[u8; 32]> {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(&Zeroizing::new(input(domain, consortium, parts)));
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// A pseudo-random key that HKDF extracted (E5); every use expands it under its own tag.
pub(crate) struct Extracted(Zeroizing<[u8; 32]>);

impl Extracted {
    /// HT(k) = HKDF-Extract(salt "willis/v1/HT", enc_GT(k)).
    pub(crate) fn from_pairing(encoded: &[u8; 576]) -> Self {
        Self::extract(SALT_PAIRING, encoded)
    }

    /// What [`Self::into_prf_key`] gave.
    pub(crate) fn from_prf_key(key: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*key))
    }

    /// Of a 16-byte locator key.
    pub(crate) fn from_locator_key(key: &[u8; 16]) -> Self {
        Self::extract(SALT_LOCATOR, key)
    }

    /// Of a patient's root seed or a grant body's key.
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
        Self::extract(SALT_SEED, seed)
    }

    fn extract(salt: &[u8], secret: &[u8]) -> Self {
        let (prk, _) = Hkdf::<Sha256>::extract(Some(salt), secret);
        Self(Zeroizing::new(prk.into()))
    }

    /// HKDF-Expand with info = enc(tag, consortium, parts), 32 bytes.
    pub(crate) fn expand(
        &self,
        domain: Domain,
        consortium: &ConsortiumId,
        parts: &[&[u8]],
    ) -> Zeroizing<[u8; 32]> {
        let hkdf =
            Hkdf::<Sha256>::from_prk(self.0.as_slice()).expect("the key has the hash's length");
        let mut out = Zeroizing::new([0; 32]);
        hkdf.expand(&input(domain, consortium, parts), out.as_mut_slice())
            .expect("32 bytes are below HKDF's limit of 8,160");
        out
    }

    /// A pseudo-random key that a vector fixes.
    #[cfg(test)]
    pub(crate) fn from_prk(prk: [u8; 32]) -> Self {
        Self(Zeroizing::new(prk))
    }

    /// The extracted key as the key of a PRF (the index key K_w).
    pub(crate) fn into_prf_key(self) -> Zeroizing<[u8; 32]> {
        self.0
    }
}

/// in(tag, parts) = enc(tag, consortium, parts).
pub(crate) fn input(domain: Domain, consortium: &ConsortiumId, parts: &[&[u8]]) -> Vec<u8> {
    let mut all: Vec<&[u8]> = Vec::with_capacity(parts.len() + 2);
    all.push(domain.as_bytes());
    all.push(consortium.as_bytes());
    all.extend_from_slice(parts);
    enc(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_distinct() {
        let mut seen = std::collections::BTreeSet::new();
        for tag in ALL {
            assert!(seen.insert(tag.0), "{} stands twice", tag.0);
            assert!(tag.0.starts_with("WILLIS-V1-"));
        }
    }
}
