//! Equations (14) to (16), RKGen, ReEnc and Dec (`spec/scheme.md` section 8).
//!
//! A re-encryption key opens one episode's one section class and is shared among the accounting
//! nodes. For the j-th class granted under gid:
//!
//! ```text
//! S_j     = H1_MASK(gid, seed, j)            only doctor B can compute it
//! RK_j    = H1_COND(c)^a * S_j
//! share_m = RK_j * A_1^m * A_2^(m^2) * ...   Shamir in G1, degree t - 1, m = 1, 2, ...
//! D_0     = e(RK_j, g2),  D_i = e(A_i, g2)   e(share_m, g2) = prod D_i^(m^i)
//! W_m     = e(share_m, U)
//! W       = prod W_m^lambda_m                t of them
//! K       = W / e(S_j, U)
//! ```
//!
//! since W = e(H1_COND(c)^a * S_j, U) = e(H1_COND(c), g2)^(a r) * e(S_j, U). Fewer than t nodes
//! together with doctor B learn nothing that was not granted, and t nodes without B learn nothing,
//! since S_j masks. The cost of [`Share::re_encrypt`] does not depend on the record's size.

use std::collections::BTreeSet;
use std::fmt;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::document::{ClassCode, Encapsulation, SectionSecret, VerifiedHeader, condition};
use crate::encoding::DecodeError;
use crate::group::{G1, G1_BYTES, G2, GT_BYTES, Gt, Scalar, pairing};
use crate::hash::{self, Digest, h1, hs, prf};
use crate::index::Degenerate;
use crate::keys::EncryptionKey;
use crate::params::{ConsortiumId, Threshold};
use crate::pseudonym::Pid;
use crate::signature::{BadSignature, Context, Signature, SigningKey, VerifyingKey};

/// gid: names a grant; the hash of its single-use revocation key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId([u8; 32]);

impl GrantId {
    /// gid (E28) = SHA-256 over the tag, the consortium and the revocation key.
    pub fn of(consortium: &ConsortiumId, revocation_key: &VerifyingKey) -> Self {
        Self(*hash::tagged(hash::GID, consortium, &[revocation_key.as_bytes()]).as_bytes())
    }

    /// From its 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// j: a granted class by its place in the grant, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassPlace(u8);

impl ClassPlace {
    /// From its place.
    pub const fn new(place: u8) -> Self {
        Self(place)
    }

    /// Its place.
    pub const fn place(self) -> usize {
        self.0 as usize
    }

    fn to_enc(self) -> [u8; 8] {
        u64::from(self.0).to_be_bytes()
    }
}

/// m: an accounting node by its place in the grant's ordered list, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeNumber(u8);

impl NodeNumber {
    /// `None` for 0, at which the shared key itself stands.
    pub const fn new(number: u8) -> Option<Self> {
        if number == 0 {
            None
        } else {
            Some(Self(number))
        }
    }

    /// Its number, from 1.
    pub const fn number(self) -> u8 {
        self.0
    }

    fn scalar(self) -> Scalar {
        Scalar::small(u64::from(self.0)).expect("node numbers begin at 1")
    }

    fn to_enc(self) -> [u8; 8] {
        u64::from(self.0).to_be_bytes()
    }
}

/// H1_COND(c)^a: opens and grants one section class of one episode. What a family agent is given in
/// place of a.
#[derive(Clone)]
pub struct ConditionKey(G1);

impl ConditionKey {
    /// Bytes of the encoding.
    pub const BYTES: usize = G1_BYTES;

    /// H1_COND(PID, class)^a.
    pub fn derive(
        consortium: &ConsortiumId,
        key: &EncryptionKey,
        pid: &Pid,
        class: ClassCode,
    ) -> Self {
        Self(condition(consortium, pid, class).power(&key.0))
    }

    /// From an appointment's sealed part.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] unless it is a canonical point of the subgroup, not the identity.
    pub fn from_bytes(bytes: &[u8; G1_BYTES]) -> Result<Self, DecodeError> {
        G1::from_bytes("the condition key", bytes).map(Self)
    }

    /// The compressed point, for an appointment's sealed part.
    pub fn expose_bytes(&self) -> [u8; G1_BYTES] {
        self.0.to_bytes()
    }

    /// K = e(H1_COND(c)^a, U): the owner's or agent's own reading.
    pub fn section_secret(&self, u: &Encapsulation) -> SectionSecret {
        SectionSecret(pairing(&self.0, &u.point))
    }
}

/// seed: masks the re-encryption keys of one grant; sealed to doctor B.
#[derive(Clone)]
pub struct MaskSeed(Zeroizing<[u8; 32]>);

impl MaskSeed {
    /// A fresh seed.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        Self(seed)
    }

    /// From the part of a grant that was sealed to doctor B.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the part sealed to doctor B.
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// S_j = H1_MASK(gid, seed, j).
    pub(crate) fn mask(&self, consortium: &ConsortiumId, gid: &GrantId, class: ClassPlace) -> G1 {
        h1(
            hash::MASK,
            consortium,
            &[gid.as_bytes(), self.0.as_slice(), &class.to_enc()],
        )
    }
}

/// RK_j, equation (14).
pub struct ReEncryptionKey(pub(crate) G1);

impl ReEncryptionKey {
    /// RK_j = H1_COND(c)^a * S_j.
    ///
    /// # Errors
    /// [`Degenerate`] with a chance of 2^-255: take another seed.
    pub fn generate(
        consortium: &ConsortiumId,
        gid: &GrantId,
        condition: &ConditionKey,
        seed: &MaskSeed,
        class: ClassPlace,
    ) -> Result<Self, Degenerate> {
        condition
            .0
            .times(&seed.mask(consortium, gid, class))
            .map(Self)
            .ok_or(Degenerate)
    }

    /// Shares RK_j among `nodes` nodes so that `threshold` of them are needed.
    ///
    /// # Errors
    /// [`SharingError`] if fewer nodes than the threshold are named, or a share is the identity.
    pub fn share(
        &self,
        threshold: Threshold,
        nodes: u8,
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<Share>, Commitments), SharingError> {
        if usize::from(nodes) < threshold.count() {
            return Err(SharingError::TooFewNodes {
                nodes: usize::from(nodes),
                threshold: threshold.count(),
            });
        }
        Ok(self.share_with(&random_coefficients(threshold, rng), nodes)?)
    }

    /// Shares RK_j by A_1 .. A_(t-1).
    pub(crate) fn share_with(
        &self,
        coefficients: &[G1],
        nodes: u8,
    ) -> Result<(Vec<Share>, Commitments), Degenerate> {
        let commitments = std::iter::once(&self.0)
            .chain(coefficients)
            .map(|point| pairing(point, &G2::generator()))
            .collect();
        let mut shares = Vec::with_capacity(usize::from(nodes));
        for number in 1..=nodes {
            // Horner: (A_k^m * A_(k-1))^m * ... * RK
            let mut acc: Option<G1> = None;
            for coefficient in coefficients.iter().rev() {
                let sum = match acc {
                    None => coefficient.clone(),
                    Some(acc) => acc.times(coefficient).ok_or(Degenerate)?,
                };
                acc = Some(sum.small_power(number).ok_or(Degenerate)?);
            }
            let point = match acc {
                None => self.0.clone(),
                Some(acc) => acc.times(&self.0).ok_or(Degenerate)?,
            };
            shares.push(Share(point));
        }
        Ok((shares, Commitments(commitments)))
    }
}

/// Why a key cannot be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SharingError {
    /// Fewer nodes than shares are needed.
    #[error("{threshold} shares are needed and there are {nodes} nodes: take a lower threshold")]
    TooFewNodes {
        /// Nodes named.
        nodes: usize,
        /// t.
        threshold: usize,
    },
    /// A share is the identity, with a chance of 2^-255: try again.
    #[error(transparent)]
    Degenerate(#[from] Degenerate),
}

/// A_1 .. A_(t-1).
pub(crate) fn random_coefficients(threshold: Threshold, rng: &mut impl CryptoRng) -> Vec<G1> {
    (1..threshold.count())
        .map(|_| G1::generator().power(&Scalar::random(rng)))
        .collect()
}

/// D_0 .. D_(t-1) of one class: by them each node checks its share. They stand in the grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commitments(Vec<Gt>);

impl Commitments {
    /// Bytes of one commitment, `enc_GT`.
    pub const ELEMENT_BYTES: usize = GT_BYTES;

    /// From t encoded elements.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if one is outside GT or 1, or none is given.
    pub fn from_bytes(elements: &[[u8; GT_BYTES]]) -> Result<Self, DecodeError> {
        if elements.is_empty() {
            return Err(DecodeError::Invalid {
                what: "the commitments",
                why: "there are none",
            });
        }
        let decoded: Result<_, _> = elements
            .iter()
            .map(|bytes| Gt::from_bytes("a commitment to the shares", bytes))
            .collect();
        Ok(Self(decoded?))
    }

    /// The encoded elements.
    pub fn to_bytes(&self) -> Vec<[u8; GT_BYTES]> {
        self.0.iter().map(|element| *element.to_bytes()).collect()
    }

    /// t.
    pub fn threshold(&self) -> usize {
        self.0.len()
    }

    /// C_m = prod D_i^(m^i) = e(share_m, g2).
    pub(crate) fn at(&self, node: NodeNumber) -> Option<Gt> {
        let m = node.scalar();
        let mut powers = Vec::with_capacity(self.0.len());
        let mut power = Scalar::small(1).expect("one is not zero");
        for _ in &self.0 {
            powers.push(power.clone());
            power = power.times(&m);
        }
        let terms: Vec<_> = self.0.iter().zip(&powers).collect();
        Gt::product(&terms)
    }
}

/// The share does not fit the grant's commitments: the granter's fault, answered with BAD-SHARE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the share does not fit the grant's commitments")]
pub struct BadShare;

/// A share as it came out of a node's sealed part, not yet checked.
pub struct UncheckedShare(G1);

impl UncheckedShare {
    /// Decodes the compressed point.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] unless it is a canonical point of the subgroup, not the identity.
    pub fn from_bytes(bytes: &[u8; G1_BYTES]) -> Result<Self, DecodeError> {
        G1::from_bytes("the share", bytes).map(Self)
    }

    /// Checks e(share_m, g2) = prod D_i^(m^i) (E23).
    ///
    /// # Errors
    /// [`BadShare`] otherwise.
    pub fn verify(self, node: NodeNumber, commitments: &Commitments) -> Result<Share, BadShare> {
        let expected = commitments.at(node).ok_or(BadShare)?;
        if pairing(&self.0, &G2::generator()) == expected {
            Ok(Share(self.0))
        } else {
            Err(BadShare)
        }
    }
}

/// share_m of one class of one grant.
pub struct Share(pub(crate) G1);

impl Share {
    /// Bytes of the encoding.
    pub const BYTES: usize = G1_BYTES;

    /// The compressed point, for a node's sealed part and its grant file.
    pub fn expose_bytes(&self) -> [u8; G1_BYTES] {
        self.0.to_bytes()
    }

    /// Equation (15): W_m = e(share_m, U). U comes from a verified header and from nowhere else: a
    /// header that was only decoded is not taken.
    ///
    /// ```compile_fail,E0308
    /// fn take(share: &scheme::Share, header: &scheme::Header) {
    ///     share.re_encrypt(header);
    /// }
    /// ```
    pub fn re_encrypt(&self, header: &VerifiedHeader) -> ReEncryptedShare {
        ReEncryptedShare(pairing(&self.0, &header.header().encapsulation().point))
    }

    /// Proves (E27) that one point P has e(P, g2) = C_m and e(P, U) = W_m: a hedged P0, never reused for
    /// another statement.
    pub fn prove(
        &self,
        statement: &ShareStatement<'_>,
        header: &VerifiedHeader,
        rng: &mut impl CryptoRng,
    ) -> ShareProof {
        let u = header.header().encapsulation();
        loop {
            let share = Zeroizing::new(self.0.to_bytes());
            let nonce = statement.with_parts(u, |parts| {
                hash::hedged(statement.consortium, share.as_slice(), parts, rng)
            });
            let p0 = G1::generator().power(&nonce);
            if let Some(proof) = self.prove_with(statement, u, &p0) {
                return proof;
            }
        }
    }

    /// The proof for this P0; `None` if h is zero or z the identity: take another P0.
    pub(crate) fn prove_with(
        &self,
        statement: &ShareStatement<'_>,
        u: &Encapsulation,
        p0: &G1,
    ) -> Option<ShareProof> {
        let (a1, a2) = (pairing(p0, &G2::generator()), pairing(p0, &u.point));
        let c = pairing(&self.0, &G2::generator());
        let challenge = statement.challenge(&u.point, &c, &a1, &a2)?;
        // z = P0 * P^h
        let z = self.0.power(&challenge).times(p0)?;
        Some(ShareProof { a1, a2, z })
    }
}

/// W_m: one node's part of one section's re-encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReEncryptedShare(Gt);

impl ReEncryptedShare {
    /// Bytes of `enc_GT`.
    pub const BYTES: usize = GT_BYTES;

    /// Decodes a node's answer.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if it is outside GT or 1.
    pub fn from_bytes(bytes: &[u8; GT_BYTES]) -> Result<Self, DecodeError> {
        Gt::from_bytes("the re-encrypted share", bytes).map(Self)
    }

    /// `enc_GT`.
    pub fn to_bytes(&self) -> [u8; GT_BYTES] {
        *self.0.to_bytes()
    }
}

/// What one re-encrypted share is for; the node signs it, and its proof is bound to it.
#[derive(Debug, Clone, Copy)]
pub struct ShareStatement<'a> {
    /// The consortium.
    pub consortium: &'a ConsortiumId,
    /// The grant.
    pub gid: &'a GrantId,
    /// The record's transaction.
    pub transaction: &'a Digest,
    /// hdr.
    pub header_digest: &'a Digest,
    /// j.
    pub class: ClassPlace,
    /// m.
    pub node: NodeNumber,
    /// W_m.
    pub share: &'a ReEncryptedShare,
}

impl ShareStatement<'_> {
    /// The node's signature (E24) over (gid, transaction, hdr, j, m, U, W_m).
    pub fn sign(&self, header: &VerifiedHeader, key: &SigningKey) -> Signature {
        self.sign_for(header.header().encapsulation(), key)
    }

    pub(crate) fn sign_for(&self, u: &Encapsulation, key: &SigningKey) -> Signature {
        self.with_parts(u, |parts| key.sign(Context::Share, self.consortium, parts))
    }

    /// The node's signature of a share that it gives with a proof: over the parts of E24 and the proof
    /// as an eighth, so that neither is shown with another's counterpart.
    pub fn sign_proved(
        &self,
        header: &VerifiedHeader,
        proof: &ShareProof,
        key: &SigningKey,
    ) -> Signature {
        self.with_proved_parts(header, proof, |parts| {
            key.sign(Context::Share, self.consortium, parts)
        })
    }

    /// Checks the node's signature.
    ///
    /// # Errors
    /// [`BadSignature`] if it does not stand.
    pub fn verify(
        &self,
        header: &VerifiedHeader,
        node: &VerifyingKey,
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        self.verify_for(header.header().encapsulation(), node, signature)
    }

    pub(crate) fn verify_for(
        &self,
        u: &Encapsulation,
        node: &VerifyingKey,
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        self.with_parts(u, |parts| {
            node.verify(Context::Share, self.consortium, parts, signature)
        })
    }

    /// Checks the node's signature of a share with its proof; whether the proof holds is another
    /// question ([`ShareProof::verify`]).
    ///
    /// # Errors
    /// [`BadSignature`] if it does not stand.
    pub fn verify_proved(
        &self,
        header: &VerifiedHeader,
        proof: &ShareProof,
        node: &VerifyingKey,
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        self.with_proved_parts(header, proof, |parts| {
            node.verify(Context::Share, self.consortium, parts, signature)
        })
    }

    fn with_proved_parts<T>(
        &self,
        header: &VerifiedHeader,
        proof: &ShareProof,
        then: impl FnOnce(&[&[u8]]) -> T,
    ) -> T {
        self.with_parts(header.header().encapsulation(), |parts| {
            let proof = proof.to_bytes();
            then(&[parts, &[proof.as_slice()]].concat())
        })
    }

    pub(crate) fn with_parts<T>(&self, u: &Encapsulation, then: impl FnOnce(&[&[u8]]) -> T) -> T {
        then(&[
            self.gid.as_bytes(),
            self.transaction.as_bytes(),
            self.header_digest.as_bytes(),
            &self.class.to_enc(),
            &self.node.to_enc(),
            u.as_bytes(),
            &self.share.to_bytes(),
        ])
    }

    /// h = Hs_SHARE(gid, transaction, hdr, j, m, U, C_m, W_m, a1, a2).
    fn challenge(&self, u: &G2, c: &Gt, a1: &Gt, a2: &Gt) -> Option<Scalar> {
        hs(
            hash::SHARE,
            self.consortium,
            &[
                self.gid.as_bytes(),
                self.transaction.as_bytes(),
                self.header_digest.as_bytes(),
                &self.class.to_enc(),
                &self.node.to_enc(),
                &u.to_bytes(),
                c.to_bytes().as_slice(),
                &self.share.to_bytes(),
                a1.to_bytes().as_slice(),
                a2.to_bytes().as_slice(),
            ],
        )
    }
}

/// A node's proof (a1, a2, z) that its W_m comes from the share it was given.
#[derive(Clone, PartialEq, Eq)]
pub struct ShareProof {
    a1: Gt,
    a2: Gt,
    z: G1,
}

impl fmt::Debug for ShareProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShareProof")
    }
}

/// The node's answer does not come from its share: keep its signature as evidence and ask another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the node's re-encrypted share does not come from the share that it was given")]
pub struct LyingNode;

impl ShareProof {
    /// Bytes of the encoding: a1, a2, z.
    pub const BYTES: usize = 2 * GT_BYTES + G1_BYTES;

    /// Decodes a1, a2, z.
    ///
    /// # Errors
    /// [`DecodeError`] on a wrong length or an element outside its group.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the share's proof";
        let mut decoder = crate::encoding::Decoder::new(bytes);
        let a1 = Gt::from_bytes(WHAT, &decoder.array(WHAT)?)?;
        let a2 = Gt::from_bytes(WHAT, &decoder.array(WHAT)?)?;
        let z = G1::from_bytes(WHAT, &decoder.array(WHAT)?)?;
        decoder.finish(WHAT)?;
        Ok(Self { a1, a2, z })
    }

    /// a1, a2, z.
    pub fn to_bytes(&self) -> Vec<u8> {
        [
            self.a1.to_bytes().as_slice(),
            self.a2.to_bytes().as_slice(),
            &self.z.to_bytes(),
        ]
        .concat()
    }

    /// Checks e(z, g2) = a1 * C_m^h and e(z, U) = a2 * W_m^h.
    ///
    /// # Errors
    /// [`LyingNode`] otherwise.
    pub fn verify(
        &self,
        statement: &ShareStatement<'_>,
        header: &VerifiedHeader,
        commitments: &Commitments,
    ) -> Result<(), LyingNode> {
        let c = commitments.at(statement.node).ok_or(LyingNode)?;
        self.verify_against(statement, header.header().encapsulation(), &c)
    }

    pub(crate) fn verify_against(
        &self,
        statement: &ShareStatement<'_>,
        u: &Encapsulation,
        c: &Gt,
    ) -> Result<(), LyingNode> {
        let u = &u.point;
        let h = statement
            .challenge(u, c, &self.a1, &self.a2)
            .ok_or(LyingNode)?;
        let first = self.a1.times(&c.power(&h)).ok_or(LyingNode)?;
        let second = self
            .a2
            .times(&statement.share.0.power(&h))
            .ok_or(LyingNode)?;
        if pairing(&self.z, &G2::generator()) == first && pairing(&self.z, u) == second {
            return Ok(());
        }
        Err(LyingNode)
    }
}

/// Why shares do not combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CombineError {
    /// Fewer shares than the grant's threshold: ask more nodes.
    #[error("{came} nodes gave a share and {needed} are needed")]
    TooFew {
        /// Shares that came.
        came: usize,
        /// The grant's threshold.
        needed: usize,
    },
    /// A node stands twice among the shares.
    #[error("one node's share was counted twice")]
    Repeated,
    /// The shares cancel out, which honest ones do with a chance of 2^-255.
    #[error("the shares cancel out: ask for them again with proofs")]
    Degenerate,
}

/// W = prod W_m^lambda_m: what stands beside U in EMD'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReEncrypted(pub(crate) Gt);

impl ReEncrypted {
    /// Combines the first t shares (E25) by Lagrange's coefficients at zero. No node may stand twice among
    /// all that are given.
    ///
    /// # Errors
    /// [`CombineError`].
    pub fn combine(
        threshold: Threshold,
        shares: &[(NodeNumber, &ReEncryptedShare)],
    ) -> Result<Self, CombineError> {
        let needed = threshold.count();
        let nodes: BTreeSet<_> = shares.iter().map(|(node, _)| node).collect();
        if nodes.len() < shares.len() {
            return Err(CombineError::Repeated);
        }
        let Some(used) = shares.get(..needed) else {
            return Err(CombineError::TooFew {
                came: shares.len(),
                needed,
            });
        };
        let mut coefficients = Vec::with_capacity(needed);
        for (node, _) in used {
            let mut lambda = Scalar::small(1).expect("one is not zero");
            for (other, _) in used {
                if std::ptr::eq(node, other) {
                    continue;
                }
                // lambda_m = prod k / (k - m)
                let difference = other
                    .scalar()
                    .minus(&node.scalar())
                    .ok_or(CombineError::Repeated)?;
                lambda = lambda.times(&other.scalar()).times(&difference.inverse());
            }
            coefficients.push(lambda);
        }
        let terms: Vec<_> = used
            .iter()
            .map(|(_, share)| &share.0)
            .zip(&coefficients)
            .collect();
        Gt::product(&terms)
            .map(Self)
            .ok_or(CombineError::Degenerate)
    }

    /// Equation (16), E26: K = W / e(S_j, U).
    ///
    /// # Errors
    /// [`Degenerate`] if K is 1, which no honest value gives.
    pub fn open(
        &self,
        consortium: &ConsortiumId,
        gid: &GrantId,
        seed: &MaskSeed,
        class: ClassPlace,
        u: &Encapsulation,
    ) -> Result<SectionSecret, Degenerate> {
        let mask = pairing(&seed.mask(consortium, gid, class), &u.point);
        self.0.over(&mask).map(SectionSecret).ok_or(Degenerate)
    }
}

/// G: hides in the access log which record was read; known to patient, doctor B and the accounting
/// nodes of one grant.
#[derive(Clone)]
pub struct LogKey(Zeroizing<[u8; 32]>);

impl LogKey {
    /// A fresh key.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(key.as_mut_slice());
        Self(key)
    }

    /// From a sealed part of a grant.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the sealed parts of a grant.
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// PRF(G, "LOG-PAD", access key, i, v) XOR `value` (E33): masks a transaction id, and unmasks it.
    pub fn mask(
        &self,
        consortium: &ConsortiumId,
        access_key: &VerifyingKey,
        count: u64,
        salt: &[u8; 16],
        value: &Digest,
    ) -> Digest {
        let mut pad = prf(
            &self.0,
            hash::LOG_PAD,
            consortium,
            &[access_key.as_bytes(), &count.to_be_bytes(), salt],
        );
        for (byte, other) in pad.iter_mut().zip(value.as_bytes()) {
            *byte ^= other;
        }
        let out = Digest::new(*pad);
        pad.zeroize();
        out
    }
}

impl ConstantTimeEq for LogKey {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        self.0.as_slice().ct_eq(other.0.as_slice())
    }
}
