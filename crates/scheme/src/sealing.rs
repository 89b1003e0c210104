//! HPKE (RFC 9180) base mode, X25519, HKDF-SHA256, AES-256-GCM: how a secret reaches one recipient
//! (`spec/scheme.md` section 3.3).

use std::fmt;

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::encoding::{DecodeError, enc};
use crate::hash::{self, Digest, sha256, tagged};
use crate::params::ConsortiumId;

/// Bytes that sealing adds: an encapsulated key of 32 and a tag of 16.
pub const SEALING_OVERHEAD: usize = 48;

/// What a sealed message is for; with the consortium, its subject and the recipient's key it is
/// bound into `info`, so that none can be opened as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// SK_D and the patient's public keys, to a doctor; subject: institution and UID.
    Handover,
    /// A receipt for a stored record, to the patient; subject: inbox.
    Receipt,
    /// A request, to the patient's inbox; subject: inbox.
    Request,
    /// seed, Lc, E, G of a grant, to doctor B; subject: gid.
    GrantToDoctor,
    /// The body key and the shares of a grant, to one accounting node; subject: gid.
    GrantToNode,
    /// An agent's keys for one episode; subject: the agent's verification key.
    Appointment,
    /// A grant's result, to doctor B; subject: gid.
    Reply,
    /// Which grants answer a request or were revoked, to doctor B; subject: the request's commitment.
    AnswerNote,
    /// What a care team's doctors tell each other until their request is signed, to a colleague; subject:
    /// institution and the id of the doctor who sends it.
    Team,
    /// What an agent granted, to the patient; subject: the appointment's id.
    AgentAct,
}

impl Purpose {
    fn text(self) -> &'static [u8] {
        match self {
            Self::Handover => b"handover",
            Self::Receipt => b"receipt",
            Self::Request => b"request",
            Self::GrantToDoctor => b"grant-to-doctor",
            Self::GrantToNode => b"grant-to-node",
            Self::Appointment => b"appointment",
            Self::Reply => b"reply",
            Self::AnswerNote => b"answer-note",
            Self::Team => b"team",
            Self::AgentAct => b"agent-act",
        }
    }
}

/// Names a patient's inbox: 16 random bytes that the patient gives out, never a PID or UID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxHandle([u8; 16]);

impl InboxHandle {
    /// A fresh handle.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut handle = [0; 16];
        rng.fill_bytes(&mut handle);
        Self(handle)
    }

    /// From its 16 bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The commitment that stands in a request: SHA-256 over the tag, the consortium, the handle and
    /// a salt (E12). Handle and salt go to the query manager and the patient, not into the grant.
    pub fn commit(&self, consortium: &ConsortiumId, salt: &[u8; 16]) -> Digest {
        tagged(hash::INBOX_COMMITMENT, consortium, &[&self.0, salt])
    }
}

impl fmt::Debug for InboxHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InboxHandle(..)")
    }
}

/// A sealed message that does not open: it is not for this key, purpose and subject, or it was
/// altered on its way. Ask its sender again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the sealed message does not open under this key")]
pub struct CannotOpen;

/// A public key of small order, which no honest owner has: what is sealed to it would be open to
/// everyone. Refuse the key and ask its owner for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("nothing can be sealed to this public key: ask its owner for another one")]
pub struct UnusableKey;

/// An X25519 public key, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HpkePublicKey([u8; 32]);

impl HpkePublicKey {
    /// From its 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// SHA-256 of the key, as it stands on the chain.
    pub fn hash(&self) -> Digest {
        sha256(&self.0)
    }

    /// Seals a message (E11): encapsulated key, ciphertext, tag.
    ///
    /// # Errors
    /// [`UnusableKey`] if the key is of small order.
    pub fn seal(
        &self,
        purpose: Purpose,
        consortium: &ConsortiumId,
        subject: &[u8],
        message: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, UnusableKey> {
        let recipient = PublicKey::from_bytes(&self.0).map_err(|_| UnusableKey)?;
        let (encapsulated, ciphertext) =
            hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
                &OpModeS::Base,
                &recipient,
                &info(purpose, consortium, subject, self),
                message,
                &[],
                rng,
            )
            .map_err(|_| UnusableKey)?;
        let mut out = encapsulated.to_bytes().to_vec();
        out.extend_from_slice(&ciphertext);
        Ok(out)
    }
}

impl fmt::Debug for HpkePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HpkePublicKey({})", self.hash())
    }
}

/// An X25519 private key. Wiped on drop.
#[derive(Clone)]
pub struct HpkePrivateKey {
    bytes: Zeroizing<[u8; 32]>,
    public: HpkePublicKey,
}

impl HpkePrivateKey {
    /// A fresh key.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut material = Zeroizing::new([0; 32]);
        rng.fill_bytes(material.as_mut_slice());
        Self::derive(&material)
    }

    /// RFC 9180 DeriveKeyPair of 32 bytes of key material.
    pub fn derive(material: &[u8; 32]) -> Self {
        let (private, public) = X25519HkdfSha256::derive_keypair(material);
        Self {
            bytes: Zeroizing::new(private.to_bytes().into()),
            public: HpkePublicKey(public.to_bytes().into()),
        }
    }

    /// From a keystore.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if the bytes are no private key.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, DecodeError> {
        let bytes = Zeroizing::new(bytes);
        let invalid = |_| DecodeError::Invalid {
            what: "the HPKE private key",
            why: "it is none",
        };
        let private = PrivateKey::from_bytes(bytes.as_slice()).map_err(invalid)?;
        let public = HpkePublicKey(X25519HkdfSha256::sk_to_pk(&private).to_bytes().into());
        Ok(Self { bytes, public })
    }

    /// The bytes, for a keystore.
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The public key.
    pub fn public_key(&self) -> HpkePublicKey {
        self.public
    }

    /// Opens a sealed message (E11).
    ///
    /// # Errors
    /// [`CannotOpen`] if it is not for this key, purpose, consortium and subject.
    pub fn open(
        &self,
        purpose: Purpose,
        consortium: &ConsortiumId,
        subject: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CannotOpen> {
        let (encapsulated, ciphertext) = sealed.split_at_checked(32).ok_or(CannotOpen)?;
        let private = PrivateKey::from_bytes(self.bytes.as_slice()).map_err(|_| CannotOpen)?;
        let encapsulated = EncappedKey::from_bytes(encapsulated).map_err(|_| CannotOpen)?;
        hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &private,
            &encapsulated,
            &info(purpose, consortium, subject, &self.public),
            ciphertext,
            &[],
        )
        .map(Zeroizing::new)
        .map_err(|_| CannotOpen)
    }
}

type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// E11: info = enc("WILLIS-V1-HPKE", purpose, consortium, subject, recipient key): never a value that
/// the opener still lacks.
pub(crate) fn info(
    purpose: Purpose,
    consortium: &ConsortiumId,
    subject: &[u8],
    recipient: &HpkePublicKey,
) -> Vec<u8> {
    enc(&[
        b"WILLIS-V1-HPKE",
        purpose.text(),
        consortium.as_bytes(),
        subject,
        recipient.as_bytes(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn a_message_opens_for_its_recipient_purpose_and_subject_only() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let here = ConsortiumId::new([9; 32]);
        let key = HpkePrivateKey::random(&mut rng);
        let other = HpkePrivateKey::random(&mut rng);
        let sealed = key
            .public_key()
            .seal(Purpose::Request, &here, b"inbox", b"hello", &mut rng)
            .unwrap();
        assert_eq!(sealed.len(), b"hello".len() + SEALING_OVERHEAD);
        assert_eq!(
            key.open(Purpose::Request, &here, b"inbox", &sealed)
                .unwrap()
                .as_slice(),
            b"hello"
        );
        assert!(
            key.open(Purpose::Receipt, &here, b"inbox", &sealed)
                .is_err()
        );
        assert!(
            key.open(Purpose::Request, &here, b"other", &sealed)
                .is_err()
        );
        assert!(
            key.open(
                Purpose::Request,
                &ConsortiumId::new([8; 32]),
                b"inbox",
                &sealed
            )
            .is_err()
        );
        assert!(
            other
                .open(Purpose::Request, &here, b"inbox", &sealed)
                .is_err()
        );
        assert!(
            key.open(Purpose::Request, &here, b"inbox", &sealed[..31])
                .is_err()
        );
        let again = HpkePrivateKey::from_bytes(*key.expose_bytes()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let here = ConsortiumId::new([9; 32]);
        let sealed = HpkePublicKey::new([0; 32]).seal(Purpose::Request, &here, b"", b"x", &mut rng);
        assert_eq!(sealed, Err(UnusableKey));
    }
}
