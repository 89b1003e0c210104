//! How often anyone may call: a bucket for each address and each signing key.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use client::ProblemKind;

use crate::http::refused::Refused;
use crate::http::server::Peer;

/// Buckets at once: 100,000 of some 64 bytes. Above it those that are full again are forgotten, and if
/// there are none everyone waits.
const BUCKETS_MAX: usize = 100_000;

/// A rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// So many calls at once.
    pub burst: u32,
    /// Then one more each so often.
    pub interval: Duration,
}

/// Buckets by caller. A bucket is the moment at which it will be full again.
pub(crate) struct Buckets<K> {
    rate: Rates,
    full_at: Mutex<BTreeMap<K, Instant>>,
}

impl<K: Ord + Hash> Buckets<K> {
    pub(crate) fn new(rate: Rates) -> Self {
        Self {
            rate,
            full_at: Mutex::new(BTreeMap::new()),
        }
    }

    /// Takes one call of this caller. `Err` is how long to wait.
    pub(crate) fn take(&self, caller: K, now: Instant) -> Result<(), Duration> {
        let depth = self.rate.interval * self.rate.burst;
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= BUCKETS_MAX && !full_at.contains_key(&caller) {
            full_at.retain(|_, full| *full > now);
            if full_at.len() >= BUCKETS_MAX {
                return Err(self.rate.interval);
            }
        }
        let full = full_at.get(&caller).copied().unwrap_or(now).max(now) + self.rate.interval;
        let wait = full.saturating_duration_since(now).saturating_sub(depth);
        if wait.is_zero() {
            full_at.insert(caller, full);
            Ok(())
        } else {
            Err(wait)
        }
    }
}

/// Refuses an address that calls too often. Institutions, known by their certificates, are not limited
/// here: what they do has quotas of its own.
pub(crate) async fn limit_rate(
    State(buckets): State<Arc<Buckets<IpAddr>>>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let taken = match peer {
        Some(peer) if peer.party.is_none() => {
            buckets.take(peer.address.ip().to_canonical(), Instant::now())
        }
        _ => Ok(()),
    };
    match taken {
        Ok(()) => next.run(request).await,
        Err(wait) => {
            let refused = Refused::new(
                ProblemKind::TooMany,
                "too many calls from this address: send the same request again after the time in Retry-After",
            );
            let seconds = wait.as_secs() + 1;
            ([("Retry-After", seconds.to_string())], refused).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_one_call_each_interval() {
        let rate = Rates {
            burst: 3,
            interval: Duration::from_secs(10),
        };
        let buckets = Buckets::new(rate);
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        for _ in 0..3 {
            assert_eq!(buckets.take(1, now), Ok(()));
        }
        assert_eq!(buckets.take(1, now), Err(Duration::from_secs(10)));
        assert_eq!(buckets.take(1, at(4)), Err(Duration::from_secs(6)));
        assert_eq!(buckets.take(2, at(4)), Ok(()), "another caller");
        assert_eq!(buckets.take(1, at(10)), Ok(()));
        assert!(buckets.take(1, at(10)).is_err());
        // Refused calls cost nothing, and a rested caller has the whole burst again.
        for _ in 0..3 {
            assert_eq!(buckets.take(1, at(1_000)), Ok(()));
        }
    }
}
