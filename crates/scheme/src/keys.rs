//! Equations (6) and (7), KeyGen: every private key of the scheme, its public key, and the proof of
//! possession that the registration centre wants to see (`spec/scheme.md` section 4).
//!
//! Private keys are made on their owner's device. They are wiped on drop, have no Debug, and leave
//! their type only through a method whose name says so. No key serves two roles.

use std::fmt;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::encoding::DecodeError;
use crate::group::{G1, G1_BYTES, G2, G2_BYTES, Scalar, pairings_equal};
use crate::hash::{self, Domain, Extracted, h1, hs};
use crate::params::{ConsortiumId, InstitutionId, KeyVersion, WriterEpoch};
use crate::pseudonym::SymmetricKey;
use crate::sealing::HpkePrivateKey;
use crate::signature::SigningKey;

/// A public value that is a checked group element together with its canonical bytes.
macro_rules! public_point {
    ($(#[$doc:meta])* $name:ident($point:ident, $bytes:ident, $what:literal)) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name {
            pub(crate) point: $point,
            bytes: [u8; $bytes],
        }

        impl $name {
            #[doc = concat!("Bytes of ", $what, ", compressed.")]
            pub const BYTES: usize = $bytes;

            /// Decodes the compressed point.
            ///
            /// # Errors
            /// [`DecodeError::Invalid`] unless it is canonical, on the curve, in the subgroup and
            /// not the identity.
            pub fn from_bytes(bytes: &[u8; $bytes]) -> Result<Self, DecodeError> {
                let point = $point::from_bytes($what, bytes)?;
                Ok(Self { point, bytes: *bytes })
            }

            /// The compressed point.
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.bytes
            }

            /// SHA-256 of the compressed point, as it stands on the chain.
            pub fn hash(&self) -> crate::hash::Digest {
                crate::hash::sha256(&self.bytes)
            }

            #[allow(dead_code, reason = "not every kind of point is computed here")]
            pub(crate) fn from_point(point: $point) -> Self {
                let bytes = point.to_bytes();
                Self { point, bytes }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.hash())
            }
        }
    };
}
pub(crate) use public_point;

/// The canonical bytes of a public point, for what hashes or keeps a point and computes nothing on
/// it. Whoever holds one knows nothing of whether the bytes are a point.
macro_rules! compressed_point {
    ($(#[$doc:meta])* $name:ident, $point:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name([u8; $point::BYTES]);

        impl $name {
            /// From the compressed point's bytes, unchecked.
            pub const fn new(bytes: [u8; $point::BYTES]) -> Self {
                Self(bytes)
            }

            /// The compressed point's bytes.
            pub const fn as_bytes(&self) -> &[u8; $point::BYTES] {
                &self.0
            }

            /// The checked point.
            ///
            /// # Errors
            /// [`DecodeError::Invalid`] unless it is canonical, on the curve, in the subgroup and
            /// not the identity.
            pub fn decode(&self) -> Result<$point, DecodeError> {
                $point::from_bytes(&self.0)
            }
        }

        impl $point {
            /// The compressed point by itself.
            pub fn compressed(&self) -> $name {
                $name(*self.as_bytes())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), crate::hash::sha256(&self.0))
            }
        }
    };
}
pub(crate) use compressed_point;

public_point!(
    /// A = g2^a, the paper's P_ka: records are sealed to it.
    EncryptionPublicKey(G2, G2_BYTES, "the encryption key")
);
public_point!(
    /// X = g2^x, the paper's P_k_peks: records are indexed to it.
    SearchPublicKey(G2, G2_BYTES, "the search key")
);
public_point!(
    /// O = g2^o: records belong to it, under blinding.
    OwnershipPublicKey(G2, G2_BYTES, "the ownership key")
);
public_point!(
    /// R = g2^y of one institution and writer epoch; stands on the chain.
    WriterEpochPublicKey(G2, G2_BYTES, "the writer epoch key")
);
compressed_point!(
    /// R, still compressed: 96 bytes.
    CompressedWriterEpochKey,
    WriterEpochPublicKey
);
public_point!(
    /// A BLS signature in G1 (a grant, an appointment, a hand-over, a proof of possession).
    BlsSignature(G1, G1_BYTES, "the signature")
);

/// A proof that does not stand: refuse the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the proof of possession does not belong to this key, role and subject")]
pub struct BadProof;

/// The 32 bytes from which all of a patient's keys come. A backup of it is 24 words. Whoever holds
/// it opens all that was stored under it. Like every secret of this crate it cannot be printed:
///
/// ```compile_fail,E0277
/// let seed = scheme::RootSeed::from_bytes([7; 32]);
/// println!("{seed:?}");
/// ```
#[derive(Clone)]
pub struct RootSeed(Zeroizing<[u8; 32]>);

impl RootSeed {
    /// A fresh seed.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        Self(seed)
    }

    /// From a backup.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for a keystore or a backup.
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// a: opens what is sealed to A, and makes re-encryption keys.
#[derive(Clone)]
pub struct EncryptionKey(pub(crate) Scalar);

impl EncryptionKey {
    /// A = g2^a.
    pub fn public_key(&self) -> EncryptionPublicKey {
        EncryptionPublicKey::from_point(G2::generator_power(&self.0))
    }

    /// H1_POP-A(subject, A)^a (E13).
    pub fn prove_possession(&self, consortium: &ConsortiumId, subject: Subject) -> BlsSignature {
        prove(
            &self.0,
            hash::POP_A,
            consortium,
            subject,
            self.public_key().as_bytes(),
        )
    }
}

/// x: makes trapdoors.
#[derive(Clone)]
pub struct SearchKey(pub(crate) Scalar);

impl SearchKey {
    /// X = g2^x.
    pub fn public_key(&self) -> SearchPublicKey {
        SearchPublicKey::from_point(G2::generator_power(&self.0))
    }

    /// H1_POP-X(subject, X)^x (E13).
    pub fn prove_possession(&self, consortium: &ConsortiumId, subject: Subject) -> BlsSignature {
        prove(
            &self.0,
            hash::POP_X,
            consortium,
            subject,
            self.public_key().as_bytes(),
        )
    }
}

/// o: owns records, and signs grants through the episode keys derived from it.
#[derive(Clone)]
pub struct OwnershipKey(pub(crate) Scalar);

impl OwnershipKey {
    /// O = g2^o.
    pub fn public_key(&self) -> OwnershipPublicKey {
        OwnershipPublicKey::from_point(G2::generator_power(&self.0))
    }

    /// H1_POP-O(subject, O)^o (E13).
    pub fn prove_possession(&self, consortium: &ConsortiumId, subject: Subject) -> BlsSignature {
        prove(
            &self.0,
            hash::POP_O,
            consortium,
            subject,
            self.public_key().as_bytes(),
        )
    }

    /// Signs the message that hands SK_D and the public keys to a doctor: H1_HANDOVER(O, text)^o (E13).
    pub fn sign_handover(&self, consortium: &ConsortiumId, text: &[u8]) -> BlsSignature {
        bls_sign(
            &self.0,
            hash::HANDOVER,
            consortium,
            &[self.public_key().as_bytes(), text],
        )
    }
}

/// Whose keys a proof of possession is for: the number that the registration centre gave the
/// enrolment. A proof moved to another subject does not stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(u64);

impl Subject {
    /// From the enrolment's number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The enrolment's number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// All of a patient's private keys of one version.
pub struct PatientKeys {
    /// a.
    pub encryption: EncryptionKey,
    /// x, the paper's S_k_peks.
    pub search: SearchKey,
    /// o.
    pub ownership: OwnershipKey,
    /// SK_aes.
    pub symmetric: SymmetricKey,
    /// Opens the patient's inbox.
    pub inbox: HpkePrivateKey,
    /// Encrypts the patient's directory of episodes and grants.
    pub directory: DirectoryKey,
    /// Signs the patient's calls to services.
    pub accounts: AccountSecret,
}

impl PatientKeys {
    /// Equations (6) and (7): a, x, o by Hs_KEY-*(seed, version), the rest by HKDF. The same seed
    /// and version always give the same keys.
    pub fn derive(seed: &RootSeed, version: KeyVersion, consortium: &ConsortiumId) -> Self {
        let version = version.to_enc();
        let scalar = |domain: Domain| {
            hs(domain, consortium, &[seed.0.as_slice(), &version])
                .expect("no input is known that hashes to zero")
        };
        let extracted = Extracted::from_seed(&seed.0);
        let expand = |domain: Domain| extracted.expand(domain, consortium, &[&version]);
        Self {
            encryption: EncryptionKey(scalar(hash::KEY_A)),
            search: SearchKey(scalar(hash::KEY_X)),
            ownership: OwnershipKey(scalar(hash::KEY_O)),
            symmetric: SymmetricKey::new(expand(hash::SK_AES)),
            inbox: HpkePrivateKey::derive(&expand(hash::INBOX)),
            directory: DirectoryKey(expand(hash::DIRECTORY)),
            accounts: AccountSecret(expand(hash::ACCOUNTS)),
        }
    }
}

/// Encrypts a patient's directory, kept with the registration centre.
#[derive(Clone)]
pub struct DirectoryKey(Zeroizing<[u8; 32]>);

impl DirectoryKey {
    /// The 32-byte AES-256-GCM key.
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// From which a patient's account key at each service comes: another one everywhere, so that two
/// services cannot tell that they serve the same patient.
#[derive(Clone)]
pub struct AccountSecret(Zeroizing<[u8; 32]>);

impl AccountSecret {
    /// E35. The Ed25519 key that signs calls to the service of this name.
    pub fn key(&self, consortium: &ConsortiumId, service: &[u8]) -> SigningKey {
        SigningKey::from_seed(*hash::prf(
            &self.0,
            hash::SERVICE_KEY,
            consortium,
            &[service],
        ))
    }
}

/// Checks A's proof.
///
/// # Errors
/// [`BadProof`] if it does not stand for this subject and key.
pub fn verify_encryption_key(
    consortium: &ConsortiumId,
    subject: Subject,
    key: &EncryptionPublicKey,
    proof: &BlsSignature,
) -> Result<(), BadProof> {
    check(
        hash::POP_A,
        consortium,
        subject,
        &key.point,
        key.as_bytes(),
        proof,
    )
}

/// Checks X's proof.
///
/// # Errors
/// [`BadProof`] if it does not stand for this subject and key.
pub fn verify_search_key(
    consortium: &ConsortiumId,
    subject: Subject,
    key: &SearchPublicKey,
    proof: &BlsSignature,
) -> Result<(), BadProof> {
    check(
        hash::POP_X,
        consortium,
        subject,
        &key.point,
        key.as_bytes(),
        proof,
    )
}

/// Checks O's proof.
///
/// # Errors
/// [`BadProof`] if it does not stand for this subject and key.
pub fn verify_ownership_key(
    consortium: &ConsortiumId,
    subject: Subject,
    key: &OwnershipPublicKey,
    proof: &BlsSignature,
) -> Result<(), BadProof> {
    check(
        hash::POP_O,
        consortium,
        subject,
        &key.point,
        key.as_bytes(),
        proof,
    )
}

/// Checks the signature under O of a hand-over message.
///
/// # Errors
/// [`BadProof`] if it does not stand.
pub fn verify_handover(
    consortium: &ConsortiumId,
    key: &OwnershipPublicKey,
    text: &[u8],
    signature: &BlsSignature,
) -> Result<(), BadProof> {
    if bls_verify(
        &key.point,
        hash::HANDOVER,
        consortium,
        &[key.as_bytes(), text],
        &signature.point,
    ) {
        return Ok(());
    }
    Err(BadProof)
}

/// s_D: a doctor's sealing secret of one year. With the nonce of a record it gives r, by which the
/// author can always open what they wrote; it survives the renewal of the doctor's other keys.
#[derive(Clone)]
pub struct SealingSecret(Zeroizing<[u8; 32]>);

impl SealingSecret {
    /// A fresh secret.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(secret.as_mut_slice());
        Self(secret)
    }

    /// From a keystore.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for a keystore or a backup.
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// y: an institution's index key of one writer epoch. Lies on the hospital's server and is
/// destroyed at the writer epoch's end.
#[derive(Clone)]
pub struct WriterEpochKey(pub(crate) Scalar);

impl WriterEpochKey {
    /// A fresh key.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self(Scalar::random(rng))
    }

    /// From a keystore: 32 bytes, big-endian.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if it is zero or not below the group's order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, DecodeError> {
        Scalar::from_bytes("the writer epoch key", bytes).map(Self)
    }

    /// The bytes, for the hospital's keystore.
    pub fn expose_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.to_bytes()
    }

    /// R = g2^y.
    pub fn public_key(&self) -> WriterEpochPublicKey {
        WriterEpochPublicKey::from_point(G2::generator_power(&self.0))
    }

    /// A Schnorr proof of y (E14) over institution and writer epoch. Not a raised point, since the server
    /// that holds y raises any point.
    pub fn prove_possession(
        &self,
        consortium: &ConsortiumId,
        institution: InstitutionId,
        writer_epoch: WriterEpoch,
        rng: &mut impl CryptoRng,
    ) -> WriterEpochProof {
        loop {
            let secret = self.0.to_bytes();
            let (place, epoch) = (institution.to_enc(), writer_epoch.to_enc());
            let nonce = hash::hedged(consortium, secret.as_slice(), &[&place, &epoch], rng);
            if let Some(proof) = self.prove_with(consortium, institution, writer_epoch, &nonce) {
                return proof;
            }
        }
    }

    /// The proof for this k; `None` if c or z is zero: take another k.
    pub(crate) fn prove_with(
        &self,
        consortium: &ConsortiumId,
        institution: InstitutionId,
        writer_epoch: WriterEpoch,
        nonce: &Scalar,
    ) -> Option<WriterEpochProof> {
        let public = self.public_key();
        let commitment = G2::generator_power(nonce);
        let challenge =
            schnorr_challenge(consortium, institution, writer_epoch, &public, &commitment)?;
        // z = k + c * y
        let response = nonce.plus(&challenge.times(&self.0))?;
        Some(WriterEpochProof {
            challenge: *challenge.to_bytes(),
            response: *response.to_bytes(),
        })
    }
}

/// The Schnorr proof (c, z) of a writer epoch key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterEpochProof {
    challenge: [u8; 32],
    response: [u8; 32],
}

impl WriterEpochProof {
    /// Bytes of the encoding: c and z, 32 bytes each.
    pub const BYTES: usize = 64;

    /// From c and z. Values out of range prove nothing.
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        let (challenge, response) = bytes.split_at(32);
        Self {
            challenge: challenge.try_into().expect("half of 64 bytes"),
            response: response.try_into().expect("half of 64 bytes"),
        }
    }

    /// c and z.
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut out = [0; 64];
        out[..32].copy_from_slice(&self.challenge);
        out[32..].copy_from_slice(&self.response);
        out
    }

    /// Checks c = Hs_POP-R(institution, writer epoch, R, g2^z * R^-c).
    ///
    /// # Errors
    /// [`BadProof`] if it does not stand.
    pub fn verify(
        &self,
        consortium: &ConsortiumId,
        institution: InstitutionId,
        writer_epoch: WriterEpoch,
        key: &WriterEpochPublicKey,
    ) -> Result<(), BadProof> {
        let challenge =
            Scalar::from_bytes("the challenge", &self.challenge).map_err(|_| BadProof)?;
        let response = Scalar::from_bytes("the response", &self.response).map_err(|_| BadProof)?;
        let commitment = G2::generator_power(&response)
            .over(&key.point.power(&challenge))
            .ok_or(BadProof)?;
        let expected = schnorr_challenge(consortium, institution, writer_epoch, key, &commitment)
            .ok_or(BadProof)?;
        if bool::from(expected.ct_eq(&challenge)) {
            Ok(())
        } else {
            Err(BadProof)
        }
    }
}

/// A BLS signature in G1 (E10): H1_domain(parts)^secret.
pub(crate) fn bls_sign(
    secret: &Scalar,
    domain: Domain,
    consortium: &ConsortiumId,
    parts: &[&[u8]],
) -> BlsSignature {
    BlsSignature::from_point(h1(domain, consortium, parts).power(secret))
}

/// e(signature, g2) = e(H1_domain(parts), public).
pub(crate) fn bls_verify(
    public: &G2,
    domain: Domain,
    consortium: &ConsortiumId,
    parts: &[&[u8]],
    signature: &G1,
) -> bool {
    pairings_equal(
        signature,
        &G2::generator(),
        &h1(domain, consortium, parts),
        public,
    )
}

fn prove(
    secret: &Scalar,
    domain: Domain,
    consortium: &ConsortiumId,
    subject: Subject,
    key: &[u8],
) -> BlsSignature {
    bls_sign(secret, domain, consortium, &[&subject.0.to_be_bytes(), key])
}

fn check(
    domain: Domain,
    consortium: &ConsortiumId,
    subject: Subject,
    point: &G2,
    key: &[u8],
    proof: &BlsSignature,
) -> Result<(), BadProof> {
    if bls_verify(
        point,
        domain,
        consortium,
        &[&subject.0.to_be_bytes(), key],
        &proof.point,
    ) {
        return Ok(());
    }
    Err(BadProof)
}

fn schnorr_challenge(
    consortium: &ConsortiumId,
    institution: InstitutionId,
    writer_epoch: WriterEpoch,
    key: &WriterEpochPublicKey,
    commitment: &G2,
) -> Option<Scalar> {
    hs(
        hash::POP_R,
        consortium,
        &[
            &institution.to_enc(),
            &writer_epoch.to_enc(),
            key.as_bytes(),
            &commitment.to_bytes(),
        ],
    )
}
