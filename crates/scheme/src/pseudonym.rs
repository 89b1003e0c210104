//! Equation (8), NameGen: a patient's pseudonyms (`spec/scheme.md` section 5).
//!
//! SK_aes never leaves the patient. Each doctor gets a subkey of it, so a doctor computes the
//! pseudonyms of the patient's episodes with that doctor and no others, and two doctors' pseudonyms
//! of one patient cannot be linked. A PID is a secret of the patient and the care team of its
//! episode; it is no key to content.

use rand_core::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::encoding::DecodeError;
use crate::hash::{self, prf};
use crate::params::{ConsortiumId, DoctorId, InstitutionId};

/// The longest UID, in bytes: hospitals use up to 20 digits or a UUID of 36 characters.
pub const UID_BYTES_MAX: usize = 64;

/// SK_aes, the patient's symmetric key for pseudonyms.
#[derive(Clone)]
pub struct SymmetricKey(pub(crate) Zeroizing<[u8; 32]>);

impl SymmetricKey {
    pub(crate) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    /// A fresh key that comes from no seed: for a user whose keys the registration centre makes.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(key.as_mut_slice());
        Self(key)
    }

    /// SK_D = PRF(SK_aes, "SKD", institution, doctor id).
    pub fn doctor_subkey(
        &self,
        consortium: &ConsortiumId,
        institution: InstitutionId,
        doctor: DoctorId,
    ) -> DoctorSubkey {
        DoctorSubkey(prf(
            &self.0,
            hash::SKD,
            consortium,
            &[&institution.to_enc(), &doctor.to_enc()],
        ))
    }
}

/// SK_D: computes the pseudonyms of one patient's episodes with one doctor.
#[derive(Clone)]
pub struct DoctorSubkey(Zeroizing<[u8; 32]>);

impl DoctorSubkey {
    /// From the patient's sealed message.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the sealed message and the doctor's keystore.
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// PID_n = PRF(SK_D, "PIDN", UID, n).
    pub fn pseudonym(&self, consortium: &ConsortiumId, uid: &Uid, episode: EpisodeNumber) -> Pid {
        Pid(prf(
            &self.0,
            hash::PIDN,
            consortium,
            &[uid.as_bytes(), &episode.0.to_be_bytes()],
        ))
    }
}

/// The code that a hospital's server gives a patient at registration, known to the two.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uid(Vec<u8>);

impl Uid {
    /// From its bytes.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if it is empty, [`DecodeError::TooLarge`] above
    /// [`UID_BYTES_MAX`].
    pub fn new(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::Invalid {
                what: "the UID",
                why: "it is empty",
            });
        }
        if bytes.len() > UID_BYTES_MAX {
            let (found, limit) = (bytes.len() as u64, UID_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge {
                what: "the UID",
                found,
                limit,
            });
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// n: counts a patient's episodes with one doctor, from 0; set by the patient's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpisodeNumber(u64);

impl EpisodeNumber {
    /// From its number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// PID_n, the pseudonym of one patient in one episode.
#[derive(Clone)]
pub struct Pid(Zeroizing<[u8; 32]>);

impl Pid {
    /// From a care team's sealed message or a keystore.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for a sealed message or a keystore.
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl ConstantTimeEq for Pid {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.as_slice().ct_eq(other.0.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn pseudonyms_differ_by_doctor_episode_patient_and_consortium() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let key = SymmetricKey::random(&mut rng);
        let here = ConsortiumId::new([1; 32]);
        let there = ConsortiumId::new([2; 32]);
        let uid = Uid::new(b"P-1").unwrap();
        let pid = |consortium, doctor, episode, uid: &Uid| {
            key.doctor_subkey(consortium, InstitutionId::new(1), DoctorId::new(doctor))
                .pseudonym(consortium, uid, EpisodeNumber::new(episode))
        };
        let base = pid(&here, 1, 0, &uid);
        assert!(bool::from(base.ct_eq(&pid(&here, 1, 0, &uid))));
        for other in [
            pid(&there, 1, 0, &uid),
            pid(&here, 2, 0, &uid),
            pid(&here, 1, 1, &uid),
            pid(&here, 1, 0, &Uid::new(b"P-2").unwrap()),
        ] {
            assert!(!bool::from(base.ct_eq(&other)));
        }
        assert!(Uid::new(b"").is_err());
        assert!(Uid::new(&[b'1'; UID_BYTES_MAX + 1]).is_err());
    }
}
