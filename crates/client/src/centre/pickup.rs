//! The code under which a patient without a device picks up the keys that the centre made.
//!
//! 16 characters of Crockford's base 32, 80 random bits. Argon2id makes 64 bytes of them: the first 32
//! prove to the centre that the caller knows the code, the others open the sealed seed.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use rand_core::CryptoRng;
use scheme::{ConsortiumId, DecodeError, RootSeed, Subject, enc, sha256};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::base32;
use crate::stretching::{WorkFactors, stretch};

/// Characters of a code: 80 bits.
const CODE_CHARACTERS: usize = 16;
const NONCE_BYTES: usize = 12;
const LABEL: &[u8] = b"willis/v1/pick-up";

/// What was typed is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is no pick-up code: it has 16 letters and digits in four groups")]
pub struct BadCode;

/// A one-time code. It has no Debug and is wiped on drop.
pub struct PickupCode(Zeroizing<[u8; CODE_CHARACTERS]>);

impl PickupCode {
    /// A fresh one.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut code = Zeroizing::new([0; CODE_CHARACTERS]);
        base32::draw(code.as_mut_slice(), rng);
        Self(code)
    }

    /// As it was typed: hyphens and spaces are left out, O is 0, I and L are 1.
    ///
    /// # Errors
    /// [`BadCode`].
    pub fn parse(text: &str) -> Result<Self, BadCode> {
        let mut code = Zeroizing::new([0; CODE_CHARACTERS]);
        base32::read(text, code.as_mut_slice()).ok_or(BadCode)?;
        Ok(Self(code))
    }

    /// In four groups, for paper.
    pub fn expose(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(CODE_CHARACTERS + 3));
        for (place, character) in self.0.iter().enumerate() {
            if place > 0 && place % base32::GROUP == 0 {
                text.push('-');
            }
            text.push(char::from(*character));
        }
        text
    }

    /// Its keys for one enrolment; takes 64 MiB and part of a second.
    pub fn derive(&self, consortium: &ConsortiumId, subject: Subject) -> PickupKeys {
        let binding = binding(consortium, subject);
        // The code is random and used once, so a salt that follows from the number is salt enough.
        let salt = sha256(&binding);
        let salt = salt
            .as_bytes()
            .first_chunk()
            .expect("a digest has 32 bytes, of which the salt is the first 16");
        let keys = stretch(self.0.as_slice(), salt, WorkFactors::STANDARD)
            .expect("the standard is within the bounds, and without 64 MiB nothing works");
        PickupKeys { keys, binding }
    }
}

/// What follows from a code. No Debug, wiped on drop.
pub struct PickupKeys {
    keys: Zeroizing<[u8; 64]>,
    binding: Vec<u8>,
}

impl PickupKeys {
    /// Shows that one knows the code, and opens nothing.
    pub fn proof(&self) -> &[u8; 32] {
        self.keys
            .first_chunk()
            .expect("the keys have 64 bytes, of which these are the first 32")
    }

    /// Seals the seed.
    pub fn seal(&self, seed: &RootSeed, rng: &mut impl CryptoRng) -> Vec<u8> {
        let mut sealed = vec![0; NONCE_BYTES];
        rng.fill_bytes(&mut sealed);
        let nonce: [u8; NONCE_BYTES] = sealed[..]
            .try_into()
            .expect("the nonce was made with this length");
        let payload = Payload {
            msg: seed.expose_bytes(),
            aad: &self.binding,
        };
        let ciphertext = self
            .cipher()
            .encrypt(&Nonce::from(nonce), payload)
            .expect("32 bytes are far below the cipher's bound");
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    /// Opens the sealed seed.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if it was sealed under another code or for another enrolment.
    pub fn open(&self, sealed: &[u8]) -> Result<RootSeed, DecodeError> {
        let wrong = DecodeError::Invalid {
            what: "the sealed seed",
            why: "it was not sealed under this code for this enrolment",
        };
        let Some((nonce, ciphertext)) = sealed.split_first_chunk::<NONCE_BYTES>() else {
            return Err(wrong);
        };
        let payload = Payload {
            msg: ciphertext,
            aad: &self.binding,
        };
        let Ok(mut opened) = self.cipher().decrypt(&Nonce::from(*nonce), payload) else {
            return Err(wrong);
        };
        let mut seed = [0; 32];
        let fits = opened.len() == seed.len();
        if fits {
            seed.copy_from_slice(&opened);
        }
        opened.zeroize();
        let made = RootSeed::from_bytes(seed);
        seed.zeroize();
        if fits { Ok(made) } else { Err(wrong) }
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new_from_slice(&self.keys[32..]).expect("the key's half has 32 bytes")
    }
}

fn binding(consortium: &ConsortiumId, subject: Subject) -> Vec<u8> {
    enc(&[
        LABEL,
        consortium.as_bytes(),
        &subject.number().to_be_bytes(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::randomness::SystemRandom;

    #[test]
    fn a_code_opens_its_own_enrolments_seed_only() {
        let (here, subject) = (ConsortiumId::new([1; 32]), Subject::new(7));
        let code = PickupCode::random(&mut SystemRandom);
        let keys = code.derive(&here, subject);
        let seed = RootSeed::from_bytes([9; 32]);
        let sealed = keys.seal(&seed, &mut SystemRandom);
        let typed = code.expose().to_lowercase().replace('0', "o");
        let again = PickupCode::parse(&typed).unwrap().derive(&here, subject);
        assert_eq!(again.proof(), keys.proof());
        let opened = again.open(&sealed).unwrap_or_else(|_| panic!("it opens"));
        assert_eq!(opened.expose_bytes(), &[9; 32]);
        let other = code.derive(&here, Subject::new(8));
        assert_ne!(other.proof(), keys.proof());
        assert!(other.open(&sealed).is_err());
        assert!(keys.open(&sealed[..11]).is_err());
        for typed in [
            "",
            "0123-4567-89AB-CDE",
            "0123-4567-89AB-CDEFG",
            "U123-4567-89AB-CDEF",
        ] {
            assert!(PickupCode::parse(typed).is_err(), "{typed}");
        }
    }
}
