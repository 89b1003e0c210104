//! What the centre keeps encrypted: identity material, reasons and the officers' calls. Whoever takes
//! the database without the key file reads numbers, public keys and times, and no name.
//!
//! AES-256-GCM with a random nonce, 2^32 of which one key may use; what it is and whose stand in the
//! additional data, so that nothing can be moved to another subject.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use client::{Problem, ProblemKind, SystemRandom};
use hkdf::Hkdf;
use rand_core::{CryptoRng, Rng};
use scheme::{Subject, enc};
use sha2::Sha256;
use zeroize::Zeroizing;

const NONCE_BYTES: usize = 12;
const LABEL: &[u8] = b"willis/v1/centre-at-rest";

/// Encrypts identity material in the centre's database; from the centre's key file. It has no Debug and
/// is wiped on drop.
#[derive(Clone)]
pub struct IdentityKey(Zeroizing<[u8; 32]>);

/// What is kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kept {
    Applicant,
    Reason,
    Call,
    /// A patient's inbox, for doctors who have the document.
    InboxCode,
    /// Why a doctor looked for a patient.
    Purpose,
    /// Shows at the start that the key is the database's; no subject's.
    Check,
}

impl Kept {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Applicant => b"applicant",
            Self::Reason => b"reason",
            Self::Call => b"call",
            Self::InboxCode => b"inbox-code",
            Self::Purpose => b"purpose",
            Self::Check => b"check",
        }
    }
}

impl IdentityKey {
    /// A fresh key.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(key.as_mut_slice());
        Self(key)
    }

    /// From the key file.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// For a key file or a backup.
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn seal(&self, what: Kept, subject: Subject, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom.fill_bytes(&mut nonce);
        let payload = Payload {
            msg: plain,
            aad: &binding(what, subject),
        };
        let ciphertext = self
            .cipher()
            .encrypt(&Nonce::from(nonce), payload)
            .expect("a call's body is far below the cipher's bound of 64 GiB");
        let mut sealed = nonce.to_vec();
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    pub(super) fn open(
        &self,
        what: Kept,
        subject: Subject,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let opened = sealed
            .split_first_chunk::<NONCE_BYTES>()
            .and_then(|(nonce, ciphertext)| {
                let payload = Payload {
                    msg: ciphertext,
                    aad: &binding(what, subject),
                };
                self.cipher().decrypt(&Nonce::from(*nonce), payload).ok()
            });
        opened.map(Zeroizing::new).ok_or_else(|| {
            Problem::new(
                ProblemKind::Failed,
                "the centre's records do not open under its key: the operator must put the key file back, or restore a backup",
            )
        })
    }

    /// Names a document in the database: the same for the same document, and nothing to who has the
    /// database without the key, who could try all numbers otherwise. By HKDF (RFC 5869), so that this key
    /// is no cipher's.
    pub(super) fn name_document(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut name = [0; 32];
        let info = enc(&[b"document", &enc(parts)]);
        Hkdf::<Sha256>::new(Some(LABEL), self.0.as_slice())
            .expand(&info, &mut name)
            .expect("one block of output is within HKDF's bound");
        name
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new_from_slice(self.0.as_slice()).expect("the key has 32 bytes")
    }
}

fn binding(what: Kept, subject: Subject) -> Vec<u8> {
    enc(&[LABEL, what.name(), &subject.number().to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_opens_for_its_subject_only() {
        let key = IdentityKey::from_bytes([1; 32]);
        let (one, two) = (Subject::new(1), Subject::new(2));
        let sealed = key.seal(Kept::Applicant, one, b"Ada");
        assert_ne!(sealed, key.seal(Kept::Applicant, one, b"Ada"));
        let opened = key.open(Kept::Applicant, one, &sealed);
        assert_eq!(opened.unwrap().as_slice(), b"Ada");
        assert!(key.open(Kept::Applicant, two, &sealed).is_err());
        assert!(key.open(Kept::Reason, one, &sealed).is_err());
        assert!(key.open(Kept::Applicant, one, &sealed[..11]).is_err());
        let other = IdentityKey::from_bytes([2; 32]);
        assert!(other.open(Kept::Applicant, one, &sealed).is_err());
    }
}
