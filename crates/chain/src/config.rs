//! The timers and bounds of a node, their defaults and what has to hold between them.

use std::time::Duration;

use ledger::Settings;
use thiserror::Error;

use crate::pool::PoolLimits;

/// When what happens in agreement. Heartbeat, leader timer and drift are the consortium's settings;
/// the others follow from them, so that all nodes agree on all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timers {
    /// W: a leader that has no request proposes an empty block after this, so that the chain keeps
    /// a clock and its nodes stay in step.
    pub heartbeat: Duration,
    /// How long a leader waits for company after the first request; the settings' cut.
    pub cut_wait: Duration,
    /// L: without a proposal for this long a node votes to skip the view. It bounds failover.
    pub leader: Duration,
    /// 11/6 L: without a certificate for this long a node votes to skip the view. A node that was killed
    /// after it had voted for a block waits for so long when it is back, so that this, and a round trip,
    /// bounds how long a chain stands still once a lost quorum is back: below 2 L.
    pub certification: Duration,
    /// L/3: how often a vote to skip is sent again. After a lost quorum is back, that is what is waited for.
    pub retry: Duration,
    /// 8/3 L: a leader not heard of for this long is skipped at once.
    pub inactive: Duration,
    /// 4 L: a leader of several views is given up if nothing became final for this long.
    pub stall: Duration,
    /// D: a block whose time is further ahead of a node's clock than this is not voted on until
    /// the clock has come near. It is never refused for that.
    pub drift: Duration,
}

impl Timers {
    /// The timers of a consortium with these settings. The standard settings give W 2 s, L 3 s,
    /// certification 5.5 s, retry 1 s, inactive 8 s, D 1 s: about 51 MB a day on an idle
    /// chain of four (`deploy/measure-idle`), and a failover of 3 s. For a consortium in which hours pass
    /// without a record, W 10 s and L 12 s give 10 MB a day and a failover of 12 s. The paper's
    /// minute, a wait of 60 s, needs L above 60 s and W, and then a failover takes as long.
    pub fn of(settings: &Settings) -> Self {
        let leader = settings.leader_timeout;
        Self {
            heartbeat: settings.heartbeat,
            cut_wait: settings.cut.wait,
            leader,
            certification: leader * 11 / 6,
            retry: leader / 3,
            inactive: leader * 8 / 3,
            stall: leader * 4,
            drift: settings.clock_drift,
        }
    }
}

/// Everything about a node that is not its identity, its founding document or its storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// How long an answer to a fetched certificate or block may take.
    pub fetch: Duration,
    /// A round trip between the farthest nodes, at most; only used to check the timers.
    pub round_trip: Duration,
    /// The request pool's bounds.
    pub pool: PoolLimits,
    /// Callers that wait for receipts at one time. A waiter is about 100 bytes.
    pub waiters: usize,
    /// Final blocks that a slow subscriber may fall behind before it loses some.
    pub subscription: usize,
    /// States of past heights kept readable.
    pub views: usize,
    /// Pieces of evidence held in memory, each of at most [`EVIDENCE_BYTES_MAX`](crate::EVIDENCE_BYTES_MAX)
    /// bytes; whoever keeps them durably reads them in time.
    pub evidence: usize,
    /// Rounds whose outcome is remembered.
    pub rounds: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            fetch: Duration::from_secs(2),
            round_trip: Duration::from_millis(500),
            pool: PoolLimits::default(),
            waiters: 4_096,
            subscription: 256,
            views: 256,
            evidence: 256,
            rounds: 1_024,
        }
    }
}

/// A configuration that would stall or endanger the chain. Correct the setting it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the node's settings contradict each other: {0}")]
pub struct BadConfig(pub &'static str);

impl NodeConfig {
    /// How long the pool holds a request: as configured, but not less than it may take until the
    /// request is final when one leader fails, which with a cut that waits a minute is longer than
    /// any default: the wait, the certification timer and once more the leader timer.
    pub fn expiry(&self, timers: &Timers) -> Duration {
        let longest = timers.cut_wait + timers.certification + timers.leader;
        self.pool.expiry.max(longest)
    }

    /// Checks what has to hold between the settings and the consortium's timers.
    ///
    /// # Errors
    /// [`BadConfig`] with the rule that is broken.
    pub fn check(&self, timers: &Timers) -> Result<(), BadConfig> {
        let t = timers;
        let rules = [
            (
                t.heartbeat + self.round_trip < t.leader,
                "heartbeat + round trip < leader timer",
            ),
            (
                t.heartbeat + t.cut_wait + self.round_trip < t.leader,
                "heartbeat + wait of the cut + round trip < leader timer",
            ),
            (
                t.leader + t.drift < t.certification,
                "drift < certification timer - leader timer",
            ),
            (!self.fetch.is_zero(), "the time for fetching is not zero"),
            (
                !self.pool.gather.is_zero()
                    && self.pool.batches as u128 * 1_000
                        < u128::from(CHANNEL_QUOTA) * self.pool.gather.as_millis(),
                "batches / gather < quota of the channel (256 messages a second)",
            ),
            (
                self.waiters > 0 && self.subscription > 0 && self.views > 0,
                "waiters, subscription and views are at least 1",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(BadConfig(rule)),
            None => Ok(()),
        }
    }
}

/// Messages a second that a node takes from each peer on each channel. A mailbox holds one such
/// burst of every peer (256 x n x tracked sets 2), which is what bounds a node's memory: 35-41 MB
/// at n = 4, 60 MB at n = 16. At 16 a second consensus stalls.
pub(crate) const CHANNEL_QUOTA: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_together() {
        let timers = Timers::of(&Settings::standard());
        assert_eq!(NodeConfig::default().check(&timers), Ok(()));
        assert!(timers.leader < timers.certification && timers.certification < timers.inactive);
        assert!(timers.retry < timers.inactive && timers.certification < timers.stall);
        assert_eq!(timers.inactive, Duration::from_secs(8));
    }

    /// The story: the pool gave requests up after 60 s, and the paper's minute makes them wait as long
    /// before they are even proposed.
    #[test]
    fn a_request_outlives_the_wait_for_its_block() {
        let config = NodeConfig::default();
        let standard = Timers::of(&Settings::standard());
        assert_eq!(config.expiry(&standard), config.pool.expiry);
        let mut settings = Settings::standard();
        settings.cut.wait = Duration::from_secs(60);
        settings.leader_timeout = Duration::from_secs(70);
        let minute = Timers::of(&settings);
        assert_eq!(config.check(&minute), Ok(()));
        assert!(config.expiry(&minute) > minute.cut_wait + minute.certification);
    }

    #[test]
    fn a_contradiction_is_named() {
        let standard = Timers::of(&Settings::standard());
        let config = NodeConfig::default();
        let late = Timers {
            heartbeat: standard.leader,
            ..Timers::of(&Settings::standard())
        };
        assert!(config.check(&late).is_err());
        let patient = Timers {
            cut_wait: Duration::from_secs(1),
            ..Timers::of(&Settings::standard())
        };
        assert_eq!(
            config
                .check(&patient)
                .map_err(|bad| bad.0.contains("wait of the cut")),
            Err(true),
            "2 s + 1 s + 0.5 s are above 3 s"
        );
        let lax = Timers {
            drift: standard.certification,
            ..Timers::of(&Settings::standard())
        };
        assert!(config.check(&lax).is_err());
        let mut eager = NodeConfig::default();
        eager.pool.batches = 4;
        assert!(
            eager.check(&standard).is_err(),
            "4 batches / 15 ms exceed the quota"
        );
    }
}
