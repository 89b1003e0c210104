//! How slowly a node may give a container while there is another to ask.

use std::time::{Duration, Instant};

/// What is measured at a time. A pause of 15 s ends a reply anyway.
const WINDOW: Duration = Duration::from_secs(10);
/// The least within it, in bytes: 0.2 Mbit/s, which any line between hospitals exceeds many times.
const LEAST_BYTES: usize = 256 * 1024;

/// Counts what comes, window by window. The first begins with the first piece: before that a master
/// node hashes the whole container.
pub(super) struct Pace {
    begun: Option<Instant>,
    bytes: usize,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            begun: None,
            bytes: 0,
        }
    }

    /// Counts a piece of so many bytes; true if a window went by with too few.
    pub(super) fn is_too_slow_after(&mut self, bytes: usize, now: Instant) -> bool {
        let begun = *self.begun.get_or_insert(now);
        self.bytes = self.bytes.saturating_add(bytes);
        if now.saturating_duration_since(begun) < WINDOW {
            return false;
        }
        let too_slow = self.bytes < LEAST_BYTES;
        self.begun = Some(now);
        self.bytes = 0;
        too_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_with_too_few_bytes_is_too_slow_and_the_wait_before_it_is_not() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut pace = Pace::new();
        // However long the first piece took.
        assert!(!pace.is_too_slow_after(1, at(100)));
        assert!(!pace.is_too_slow_after(1, at(109)));
        assert!(pace.is_too_slow_after(1, at(110)));
        let mut pace = Pace::new();
        for second in 0..100 {
            let slow = pace.is_too_slow_after(LEAST_BYTES.div_ceil(10), at(second));
            assert!(!slow, "second {second}");
        }
        // What came quickly before is no credit.
        assert!(!pace.is_too_slow_after(100 * LEAST_BYTES, at(100)));
        assert!(pace.is_too_slow_after(1, at(110)));
    }
}
