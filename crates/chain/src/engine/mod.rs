//! The embedded consensus engine. Nothing outside this module names it.
//!
//! | PBFT (the paper, 3.3) | engine | file |
//! |---|---|---|
//! | request to the master node | the request pool's own channel | `requests` |
//! | pre-prepare | the leader of the view proposes | `application` |
//! | prepare | notarize votes, after the whole block was validated | `application` |
//! | confirmation | finalize votes | the engine's own |
//! | reply | a signed receipt, once the block is applied | `applier` |
//! | view change | nullify votes; the next accounting node leads | `elector` |
//!
//! Deviations from the paper: a quiet chain makes an empty block each heartbeat instead of resting,
//! because only final blocks let the engine prune; and a request goes to all accounting nodes at
//! once, so that the next leader has it too.

mod application;
mod applier;
mod archive;
mod assembly;
mod block;
mod certificate;
mod elector;
mod epochs;
mod evidence;
mod faulty;
mod keys;
mod observer;
mod production;
mod requests;
mod simulated;
#[cfg(test)]
pub(crate) mod testing;
mod weather;

use commonware_consensus::simplex::scheme::ed25519;
use commonware_cryptography::sha256;
use commonware_runtime::{Clock, Metrics, Spawner, Storage};
use rand_core::CryptoRng;

pub use assembly::NotStarted;
pub use certificate::EngineCertificates;
pub use faulty::{FaultyNode, Misdeed};
pub use production::{
    NodeSettings, Peer, PeerAddress, is_laid_out, lay_out, run, run_together, store_folder,
};
pub use simulated::{Links, SimulatedNode, Simulation, Simulator};
pub use weather::{Weather, WeatherCounts};

/// What a node needs of the runtime it stands on; the production and the deterministic runtime both
/// have it.
pub(crate) trait Runtime: Clock + CryptoRng + Spawner + Storage + Metrics {}

impl<E: Clock + CryptoRng + Spawner + Storage + Metrics> Runtime for E {}

#[cfg(test)]
pub(crate) use block::ConsensusBlock;

type PublicKey = commonware_cryptography::ed25519::PublicKey;
type Digest = sha256::Digest;
type Scheme = ed25519::Scheme;
