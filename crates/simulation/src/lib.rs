//! A whole consortium in one seeded process: the node's real code on a clock, a network and disks
//! that are ours, and the parties' real steps on top of it.
//!
//! A run is one seed. The same seed gives the same blocks, the same state root and the same answers;
//! faults are part of the run.
//!
//! ```
//! use simulation::{Faults, play_referral};
//!
//! let outcome = play_referral(7, Faults::none())?;
//! assert!(outcome.read_equal && outcome.refused_after_revocation);
//! # Ok::<(), simulation::ReferralError>(())
//! ```

mod referral;
mod world;

pub use referral::{Faults, Outcome, ReferralError, play_referral};
