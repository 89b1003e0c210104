//! HTTP around the parties: an accounting or verification node's interface, and the cloud's containers
//! in a folder.
//!
//! Bodies of requests and replies are the canonical bytes of `parties` and `ledger`; a refusal is a
//! problem document (RFC 9457) whose `detail` says what happened and what to do. Nothing here can
//! name a patient's or doctor's private key or a plaintext.
//!
//! | path | step | who calls |
//! |---|---|---|
//! | `POST /v1/transactions`, `GET /v1/receipts/{id}` | 5 | hospital's server, everyone |
//! | `POST /v1/questions` | 2, 5, 6, 7 | query manager, patient, doctor |
//! | `POST /v1/grants`, `POST /v1/grants/read`, `POST /v1/grants/recorded` | 7 | patient, doctor B |
//! | `GET /v1/grants/events` | 7, 11 | doctor B |
//! | `POST /v1/searches` | 8 | doctor B |
//! | `POST /v1/shares`, `POST /v1/containers` | 9 | doctor B |
//! | `GET /v1/proofs/{id}`, `GET /v1/headers` | 10 | doctor B, auditor |
//! | `GET /v1/evidence` | - | everyone |
//! | `GET /v1/status` | - | operator |
//!
//! What every role shows to those who supervise it, on a listener of its own, is [`Watching`]'s.
mod centre;
mod cloud;
mod database;
mod durable_files;
mod epoch_key_files;
mod evidence_files;
mod grant_files;
mod hospital;
mod http;
mod members;
mod node;
mod query;
mod snapshot_files;
mod watching;

pub use centre::{
    BackupError, BackupKeys, CentreConfig, CentreError, CentreService, IdentityKey, Officer,
    Passphrase, RestoredKeys, centre_openapi, restore_centre, serve_centre,
};
pub use cloud::{
    CLOUD_SCHEMA, CloudConfig, CloudError, CloudService, ContainerStore, Containers, S3Location,
    StoreFailure, StoreLocation, Upload, cloud_openapi, serve_cloud,
};
pub use database::{Change, Database, DatabaseError, DatabaseLocation, ROW_DIGESTS, Row, Value};
pub use epoch_key_files::EpochKeyFiles;
pub use evidence_files::EvidenceFiles;
pub use grant_files::GrantFiles;
pub use hospital::{
    HOSPITAL_SCHEMA, HospitalConfig, HospitalError, HospitalService, hospital_openapi,
    serve_hospital,
};
pub use http::{Peer, Rates, Server, ServerError, ServerTls};
pub use members::{FollowingMembers, MembersSource};
pub use node::{NodeChain, NodeService, NodeServiceError, fill_history, node_openapi, serve_node};
pub use query::{
    QueryBounds, QueryConfig, QueryService, QueryServiceError, query_openapi, serve_query,
};
pub use snapshot_files::SnapshotFiles;
pub use watching::{
    Check, IntakeCounts, Look, Watched, WatchedRole, Watching, chain_answers, database_answers,
};
