//! Short codes: what a patient says to a doctor in place of the inbox's 64 digits. Kept in memory, for
//! minutes: after a restart the patient's device asks for another one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::{Problem, ProblemKind, ShortCode, SystemRandom};
use scheme::{InboxHandle, Timestamp, VerifyingKey};

use crate::http::{Buckets, Rates};

/// How long a code stands for its inbox.
const LIVES_MS: u64 = 10 * 60 * 1000;
/// Codes at a time: a guess meets one of them once in 10^8 times.
const CODES_MAX: usize = 10_000;
/// How many codes one address may look for: an address that guesses all day meets one in 10 years.
const LOOKS: Rates = Rates {
    burst: 20,
    interval: Duration::from_secs(3),
};

struct Given {
    owner: VerifyingKey,
    inbox: (InboxHandle, [u8; 16]),
    until: Timestamp,
}

pub(super) struct ShortCodes {
    given: Mutex<BTreeMap<ShortCode, Given>>,
    looks: Buckets<IpAddr>,
}

impl ShortCodes {
    pub(super) fn new() -> Self {
        Self {
            given: Mutex::default(),
            looks: Buckets::new(LOOKS),
        }
    }

    /// A code for an inbox of this owner's, in place of the one before.
    pub(super) fn give(
        &self,
        owner: VerifyingKey,
        inbox: (InboxHandle, [u8; 16]),
        now: Timestamp,
    ) -> Result<(ShortCode, Timestamp), Problem> {
        let until = Timestamp::new(now.number().saturating_add(LIVES_MS));
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|_, one| one.until > now && one.owner != owner);
        if given.len() >= CODES_MAX {
            return Err(Problem::busy(
                "too many short codes are in use: try again in a minute, or show the whole code",
            ));
        }
        let mut code = ShortCode::random(&mut SystemRandom);
        while given.contains_key(&code) {
            code = ShortCode::random(&mut SystemRandom);
        }
        let one = Given {
            owner,
            inbox,
            until,
        };
        given.insert(code, one);
        Ok((code, until))
    }

    /// The inbox of a code that was said.
    pub(super) fn inbox_of(
        &self,
        said: &str,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<(InboxHandle, [u8; 16]), Problem> {
        // Whoever has one address of the sixth version has a network of 2^64 of them.
        let network = match address.to_canonical() {
            IpAddr::V6(address) => {
                let bits = address.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(bits.into())
            }
            address => address,
        };
        if self.looks.take(network, Instant::now()).is_err() {
            return Err(Problem::new(
                ProblemKind::TooMany,
                "too many short codes are looked for from this address: send it again in a minute",
            ));
        }
        let code = ShortCode::parse(said).map_err(|error| Problem::malformed(&error))?;
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let found = given.get(&code).filter(|one| one.until > now);
        found.map(|one| one.inbox).ok_or_else(|| {
            Problem::not_found(
                "no inbox has this short code now: it stands for ten minutes; ask the patient for another one",
            )
        })
    }

    /// None of an inbox that was closed.
    pub(super) fn forget(&self, handle: InboxHandle) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|_, one| one.inbox.0 != handle);
    }
}
