//! The paper's six entities as protocol steps without I/O: what each holds, sees and does, and what
//! it must not learn. Clocks and randomness are passed in; sockets and files are the services'.
//!
//! | entity | here |
//! |---|---|
//! | registration centre | [`RegistrationCentre`], [`Certifier`], [`Certificate`], [`CentreKeys`] |
//! | query manager | [`QueryManager`], [`AccessRequest`] |
//! | patient | [`Patient`], and in place of one who cannot act [`FamilyAgent`] |
//! | medical institution | [`HospitalServer`], [`Doctor`], [`Reader`] |
//! | cloud server | [`CloudServer`] |
//! | consortium blockchain | [`AccountingNode`], [`ReplyCollector`] |
//!
//! A certificate is believed for what the centre signed, and for nothing else:
//!
//! ```
//! use parties::{CentreKeys, Certificate, DoctorPublicKeys, Holder};
//! use scheme::{ConsortiumId, DoctorId, HpkePublicKey, InstitutionId, SigningKey, Subject, Timestamp};
//!
//! let (consortium, centre) = (ConsortiumId::new([1; 32]), SigningKey::from_seed([2; 32]));
//! let doctor = Holder::Doctor(DoctorPublicKeys {
//!     id: DoctorId::new(7),
//!     institution: InstitutionId::new(1),
//!     signing: SigningKey::from_seed([3; 32]).verifying_key(),
//!     hpke: HpkePublicKey::new([9; 32]),
//! });
//! let end = Timestamp::new(2_000);
//! let certificate = Certificate::issue(&consortium, &centre, Subject::new(1), doctor, end);
//! let keys = CentreKeys::founding(centre.verifying_key());
//! assert!(certificate.verify(&consortium, &keys, Timestamp::new(1_999)).is_ok());
//! assert!(certificate.verify(&consortium, &keys, Timestamp::new(2_001)).is_err());
//! ```

mod agent_act;
mod answer_note;
mod centre_keys;
mod certificate;
mod certifier;
mod cloud_server;
mod consortium_chain;
mod family_agent;
mod granting;
mod inbox;
mod medical_institution;
mod own_search;
mod patient;
mod query_manager;
mod registration_centre;
mod request;

pub use answer_note::{AnswerNote, NoteRecipients, SealedNote};
pub use centre_keys::CentreKeys;
pub use certificate::{
    CERTIFICATE_BYTES_MAX, Certificate, CertificateError, DoctorPublicKeys, Holder,
    PatientPublicKeys,
};
pub use certifier::Certifier;
pub use cloud_server::{CloudServer, ReceiptError, StorageReceipt, StoredOtherwise};
pub use consortium_chain::{
    AccountingNode, AgreedCentreKeys, AgreedGrant, AgreedKey, AgreedNodeKeys, AgreedWriterEpochs,
    Answer, BadReply, CentreKeyAnswer, ContainerRequest, FinalChain, GrantAnswer, GrantPackage,
    GrantRefusal, GrantRequest, HITS_MAX, Hit, Hits, InTransaction, KeyAnswer, NodeKeyStanding,
    NotProved, PendingShares, Question, Reply, ReplyCollector, ReplyFailure, SealedReply,
    SearchRequest, ShareAnswer, ShareEvidence, ShareRefusal, ShareRequest, SharesRequested,
    TAGS_MAX, UNOPENED_MAX, WantProof, WriterKeys, answer_at, grant_is_over, query,
};
pub use family_agent::{
    AgentAnswer, AgentDecision, AgentError, AgentOffer, Appointed, FamilyAgent,
};
pub use granting::{NoNodes, ServingNodes};
pub use medical_institution::{
    Allocation, COLLEAGUES_MAX, Doctor, DoctorQuota, HandoverError, HospitalServer, IndexDraft,
    IndexError, Invitation, OpenGrant, OpenedSection, OwnRecord, PatientEpisode, Reader,
    ReaderError, RecordDraft, SectionShares, ServerError, ShareJudgement, ShareOutcome, Standing,
    StoredReceipt, TEAM_MESSAGE_BYTES_MAX, TeamError, TeamInvitation, TeamLead, TeamMessage,
};
pub use own_search::{MisfitAnswer, OwnSearch};
pub use patient::{
    Answered, Decision, EPISODE_SCAN_GAP, Episode, EpisodePlace, FORMER_KEYS_MAX, GivenAppointment,
    GivenGrant, OpenedAct, Patient, PatientError, ReceiptCheck, TeamMember,
};
pub use query_manager::{
    Confirmed, Examined, ForwardError, Forwarded, HybridVerification, QueryManager, open_forwarded,
};
pub use registration_centre::{
    DIRECTORY_BYTES_MAX, EnrolError, Enrolled, PatientEnrolment, RegistrationCentre,
};
pub use request::{
    AccessRequest, GRANTS_MAX, Member, PURPOSE_BYTES_MAX, REQUEST_DRIFT_MS, REQUEST_LIFE_MAX_MS,
    RequestError, RequestTerms, UnsignedRequest, VerifiedRequest,
};
