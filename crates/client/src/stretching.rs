//! Keys from what a person remembers or types (Argon2id, RFC 9106). This file alone names the library.

use argon2::{Algorithm, Argon2, Params, Version};
use thiserror::Error;
use zeroize::Zeroizing;

/// How much work one key costs; one lane, since one thread computes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkFactors {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl WorkFactors {
    /// RFC 9106's choice where memory is scarce: 64 MiB, three passes.
    pub const STANDARD: Self = Self {
        memory_kib: 64 * 1024,
        passes: 3,
    };
    /// What a file from elsewhere may ask of the machine that opens it.
    const MOST: Self = Self {
        memory_kib: 1024 * 1024,
        passes: 16,
    };
}

/// The work factors are out of their range, or the machine has not the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the work factors are out of range, or the memory that they ask for is not there")]
pub struct NotStretched;

/// A key of N bytes. Takes part of a second.
///
/// # Errors
/// [`NotStretched`].
pub fn stretch<const N: usize>(
    secret: &[u8],
    salt: &[u8; 16],
    work: WorkFactors,
) -> Result<Zeroizing<[u8; N]>, NotStretched> {
    let most = WorkFactors::MOST;
    if work.memory_kib > most.memory_kib || work.passes > most.passes {
        return Err(NotStretched);
    }
    let params = Params::new(work.memory_kib, work.passes, 1, Some(N)).map_err(|_| NotStretched)?;
    let mut key = Zeroizing::new([0; N]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(secret, salt, key.as_mut_slice())
        .map_err(|_| NotStretched)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_follows_from_secret_salt_and_work_and_nobody_asks_for_more_than_there_may_be() {
        let light = WorkFactors {
            memory_kib: 64,
            passes: 1,
        };
        let key = |secret: &[u8], salt, work| stretch::<32>(secret, &[salt; 16], work).unwrap();
        let first = key(b"secret", 1, light);
        assert_eq!(first, key(b"secret", 1, light));
        assert_ne!(first, key(b"secreT", 1, light));
        assert_ne!(first, key(b"secret", 2, light));
        assert_ne!(first, key(b"secret", 1, WorkFactors { passes: 2, ..light }));
        for (memory_kib, passes) in [(1024 * 1024 + 1, 1), (64, 17), (0, 1), (64, 0)] {
            let work = WorkFactors { memory_kib, passes };
            let refused = stretch::<32>(b"secret", &[1; 16], work);
            assert_eq!(refused.err(), Some(NotStretched), "{work:?}");
        }
    }
}
