//! A whole consortium in one seeded process: the node's real code on a clock, a network and disks
//! that are ours, and the parties' real steps on top of it.
//!
//! A run is one seed. The same seed gives the same blocks, the same state root and the same answers;
//! faults are part of the run, and what of them took effect is counted.
//!
//! ```
//! use simulation::{Plan, play};
//!
//! let outcome = play(7, &Plan::quiet())?;
//! assert!(outcome.read_equal && outcome.refused_after_revocation);
//! # Ok::<(), simulation::ReferralError>(())
//! ```

mod campaign;
mod changes;
mod faults;
mod lies;
mod misuse;
mod referral;
mod world;

pub use campaign::{Ending, Totals};
pub use faults::{Byzantine, Change, Counts, End, Fault, Lie, Misuse, Plan, PowerLoss};
pub use referral::{Outcome, ReferralError, play, play_watched};
