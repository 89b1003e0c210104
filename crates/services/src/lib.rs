//! HTTP around the parties: an accounting or verification node's interface, the client that believes
//! only what f + 1 nodes say alike, and the cloud's containers in a folder.
//!
//! Bodies of requests and replies are the canonical bytes of `parties` and `ledger`; a refusal is a
//! problem document (RFC 9457) whose `detail` says what happened and what to do. Nothing here can
//! name a patient's or doctor's private key or a plaintext.
//!
//! | path | step | who calls |
//! |---|---|---|
//! | `POST /v1/transactions`, `GET /v1/receipts/{id}` | 5 | hospital's server, everyone |
//! | `POST /v1/questions` | 2, 5, 6, 7 | query manager, patient, doctor |
//! | `POST /v1/grants`, `POST /v1/grants/read` | 7 | patient, doctor B |
//! | `POST /v1/searches` | 8 | doctor B |
//! | `POST /v1/shares`, `POST /v1/containers` | 9 | doctor B |
//! | `GET /v1/proofs/{id}`, `GET /v1/headers` | 10 | doctor B, auditor |
//! | `GET /v1/status` | - | operator |
//!
//! ```
//! use services::Problem;
//!
//! let problem = Problem::busy("the pool is full: hand the same transaction in again after a second");
//! assert_eq!(problem.status(), 503);
//! ```

mod cloud;
mod consortium_client;
mod grant_files;
mod node;
mod problem;
mod randomness;

pub use cloud::{CloudError, CloudFolder, Upload};
pub use consortium_client::{
    ClientError, Confirmed, ConsortiumClient, FinalTransaction, NodeStatus, StatusLed,
};
pub use grant_files::GrantFiles;
pub use node::{NodeChain, NodeService, NodeServiceError, serve_node};
pub use problem::Problem;
pub use randomness::SystemRandom;
