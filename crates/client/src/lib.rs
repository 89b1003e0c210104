//! Calls to services, as users' programs and other services make them: where each service is and by
//! which authority its TLS certificate is judged ([`Directory`]), calls that users sign
//! ([`SignedCall`]), refusals that say what to do ([`Problem`]), and the client that believes only
//! what f + 1 nodes say alike ([`ConsortiumClient`]).
//!
//! Wire types in JSON stand beside the calls that carry them; canonical bytes within them are
//! lower-case hexadecimal ([`Hex`]) or, where they are long, base64 ([`Base64`]).
//!
//! ```
//! use client::{CallHead, ServiceName, SignedCall};
//! use scheme::{ConsortiumId, SigningKey, Timestamp, sha256};
//!
//! let (here, key) = (ConsortiumId::new([1; 32]), SigningKey::from_seed([2; 32]));
//! let head = CallHead {
//!     service: ServiceName::Query,
//!     method: "GET",
//!     target: "/v1/inbox",
//!     idempotency_key: "",
//! };
//! let now = Timestamp::new(1_000_000);
//! let call = SignedCall::sign(&here, &key, &head, sha256(b""), now, [3; 16]);
//! let received = SignedCall::parse(&call.header()).expect("as it was written");
//! assert_eq!(received.verify(&here, &head, now).expect("just signed").key(), key.verifying_key());
//! let elsewhere = CallHead { service: ServiceName::Cloud, ..head };
//! assert!(received.verify(&here, &elsewhere, now).is_err());
//! ```

mod base32;
mod call;
mod centre;
mod clock;
mod cloud;
mod consortium;
mod directory;
mod endpoint;
mod error;
mod founding;
mod hospital;
mod members;
mod problem;
mod proof_file;
mod query;
mod randomness;
mod service;
mod short_code;
mod stretching;
mod text;
mod tls;
mod trace;

pub use call::{
    CALL_DRIFT_MS, CallError, CallHead, IDEMPOTENCY_KEY_BYTES_MAX, SignedCall, VerifiedCall,
};
pub use centre::{
    Applicant, ApplicantKind, BadCode, BeginEnrolment, BegunEnrolment, CallEvidence, CentreClient,
    Decided, Decider, Decision, DirectoryVersion, DoctorApplicant, DoctorKeys, EncryptedDirectory,
    EnrolmentDetail, EnrolmentKeys, EnrolmentPage, EnrolmentState, EnrolmentStatus,
    EnrolmentSummary, FindPatient, Findable, Finding, Identity, IdentityError, InboxCode, MadeKeys,
    NoDetails, OfficerClient, OfficersList, Outbox, Outgoing, Pickup, PickupCode, PickupKeys,
    Reason, SealedSeed,
};
pub use clock::now;
pub use cloud::{
    CloudClient, Damage, Damages, NewUpload, ReadSeek, UPLOAD_PIECE_BYTES_MAX, UploadState,
};
pub use consortium::{
    AgreedSnapshot, Confirmed, ConsortiumClient, FINAL_BLOCKS_BYTES, FINAL_BLOCKS_MAX,
    FinalTransaction, FollowedGrant, GrantEvent, GrantStanding, MOTIONS_MAX, NODE_SET_PROOFS_MAX,
    NodeStatus, SNAPSHOT_PIECE_BYTES, StatusLed, encode_final_blocks, encode_motions,
    encode_node_set_proofs, encode_snapshot_statements,
};
pub use directory::{
    CloudEntry, Directory, DirectoryError, InstitutionEntry, Party, ServiceEntry, ServiceName,
};
pub use endpoint::{Endpoint, EndpointError};
pub use error::ClientError;
pub use founding::{Founding, FoundingError};
pub use hospital::{
    AskedPositions, ColleagueMessage, ColleagueMessages, CurrentWriter, Deed, Deeds, Deposited,
    DoctorBlock, DoctorCertificate, GivenPositions, GivenUid, Handover, Handovers, HospitalClient,
    HospitalDamage, HospitalDamages, HospitalDoctor, HospitalDoctors, NewChainRequest,
    NewColleagueMessage, NewHandover, NewPatientReceipt, NewRecord, NextAccount, POINTS_MAX,
    PatientReceipt, PatientReceipts, SEALED_BYTES_MAX, Submitted, SubmittedState, UsedPosition,
};
pub use members::{Member, Members};
pub use problem::{Problem, ProblemKind, sentence};
pub use proof_file::{Claim, NotProven, Place, ProofFile, Proved};
pub use query::{
    AddNotes, AgentActEntry, AgentActs, AnswerKind, AnswerRequest, DoctorNote, Done,
    GivenShortCode, InboxChange, InboxContent, InboxEntry, InboxEvent, NameAgent, NewAgentAct,
    OpenInbox, QueryClient, RequestEntry, RequestEvent, RequestState, RequestStatus, SaidShortCode,
    SendRequest, WaitingRequest,
};
pub use randomness::SystemRandom;
pub use service::{Event, IdempotencyKey, ServiceClient};
pub use short_code::{NotShort, ShortCode};
pub use stretching::{NotStretched, WorkFactors, stretch};
pub use text::{Base64, Hex, Octets};
pub use tls::{TlsError, TlsIdentity, authority, provider};
pub use trace::{TRACED, TRACEPARENT, continue_trace};
