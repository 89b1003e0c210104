//! A node of the willis chain: agreement, network, storage, request pool, ordered application of
//! final blocks, signed receipts. What a valid block is, who leads and what the state becomes is the
//! [`ledger`]'s; this crate makes hospitals agree on it.
//!
//! - [`run`] starts a node on sockets and a folder, [`run_together`] several in one process;
//!   [`Simulator`] runs a whole consortium on a seed, with the same node code.
//! - Either gives a [`NodeHandle`]: hand in transactions, wait for a signed receipt, read final
//!   state, blocks with their certificates, status and evidence.
//! - [`Store`] is what a node keeps; [`FjallStore`] keeps it on disk, [`SimulatedStore`] on a
//!   [`SimulatedDisk`] that can lose and tear what was not synced.
//! - [`EngineCertificates`] checks without a node that a block is final, and that [`Evidence`] against
//!   a node stands.
//!
//! - [`Replay`] builds a chain anew from its founding, and [`verify_store`] compares a store with it.
//!
//! The agreement protocol is an embedded engine, which only the module `engine` names; its
//! documentation maps the paper's steps to it.
//!
//! Four hospitals on a seed: a request handed to the community hospital becomes final at another.
//!
//! ```
//! use std::time::Duration;
//! use chain::{NodeConfig, SimulatedNode, Simulator, Submitter};
//! use ledger::{
//!     Genesis, Institution, InstitutionName, KeyHash, KeyUse, Registrant, Registration, Settings,
//!     Tier, Transaction, UserKey,
//! };
//! use scheme::{InstitutionId, SigningKey, Timestamp, sha256};
//!
//! let tiers = [Tier::Tertiary, Tier::Secondary, Tier::Secondary, Tier::Community];
//! let nodes: Vec<_> = (0..4).map(|number| SigningKey::from_seed([number; 32])).collect();
//! let institutions = (1u8..).zip(tiers).zip(&nodes).map(|((number, tier), node)| Institution {
//!     id: InstitutionId::new(number.into()),
//!     tier,
//!     name: InstitutionName::new(&format!("Hospital {number}")).expect("a short name"),
//!     key: SigningKey::from_seed([100 + number; 32]).verifying_key(),
//!     node: node.verifying_key(),
//! });
//! let centre = SigningKey::from_seed([200; 32]);
//! let genesis = Genesis {
//!     time: Timestamp::new(1_790_000_000_000),
//!     centre: centre.verifying_key(),
//!     institutions: institutions.collect(),
//!     settings: Settings::standard(),
//! };
//! let keys = vec![UserKey { hash: KeyHash::from(sha256(b"a key")), usage: KeyUse::Signature }];
//! let patient = Registration::sign(&genesis.consortium(), Registrant::Patient, keys, &centre);
//! let transaction = Transaction::Registration(patient).encode();
//!
//! let mut simulator = Simulator::new(7, genesis, nodes, NodeConfig::default());
//! let receipt = simulator.run(|mut simulation| async move {
//!     for number in 0..4 {
//!         simulation.start(SimulatedNode(number)).await.expect("it starts");
//!     }
//!     let community = simulation.node(SimulatedNode(3)).expect("it runs");
//!     let taken = community.submit(Submitter::new(1), &transaction).expect("there is room");
//!     let tertiary = simulation.node(SimulatedNode(0)).expect("it runs");
//!     tertiary.wait_for_receipt(&taken.id(), Duration::from_secs(10)).await
//! });
//! assert!(receipt.is_ok());
//! ```

mod config;
mod engine;
mod evidence;
mod node;
mod pool;
mod receipts;
mod replay;
mod snapshot;
mod store;
mod store_fjall;
mod store_simulated;
mod verification;

pub use config::{BadConfig, NodeConfig, Timers};
pub use engine::{
    EngineCertificates, FaultyNode, Links, Misdeed, NodeSettings, NotStarted, Peer, PeerAddress,
    SimulatedNode, Simulation, Simulator, Weather, WeatherCounts, is_laid_out, lay_out, run,
    run_together, store_folder,
};
pub use evidence::{BadEvidence, EVIDENCE_BYTES_MAX, Evidence, Offence};
pub use node::{
    FinalBlock, FinalBlocks, InTouch, Led, NoBlock, NoReceipt, NodeFailure, NodeHandle, NotFilled,
    NotSubmitted, ProvedView, Status, Submitted, ViewOutcome,
};
pub use pool::{
    Admission, Busy, Pool, PoolLimits, PoolUsage, Request, Source, Submitter, split_batch,
};
pub use replay::{Replay, Unsound};
pub use snapshot::{
    SNAPSHOT_EPOCHS, SnapshotError, SnapshotStatement, WrittenSnapshot, install_snapshot,
    snapshot_after, write_snapshot,
};
pub use store::{Commit, Entries, Entry, FinalView, Position, Store, StoreError, StoredBlock, Tip};
pub use store_fjall::FjallStore;
pub use store_simulated::{Fault, SimulatedDisk, SimulatedStore};
pub use verification::{Finding, NotVerified, Verification, VerificationStep, verify_store};
