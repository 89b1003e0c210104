//! The wall clock: for what a call claims of itself and for a program's own deadlines. What is granted
//! begins and ends by the chain's time.

use std::time::{SystemTime, UNIX_EPOCH};

use scheme::Timestamp;

/// Now, by this machine's clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
