//! The paper's six entities as protocol steps without I/O: what each holds, sees and does, and what
//! it must not learn. Clocks and randomness are passed in; sockets and files are the services'.
//!
//! | entity | here |
//! |---|---|
//! | registration centre | [`RegistrationCentre`], [`Certificate`] |
//! | query manager | [`QueryManager`], [`AccessRequest`] |
//! | patient | [`Patient`], and in place of one who cannot act [`FamilyAgent`] |
//! | medical institution | [`HospitalServer`], [`Doctor`], [`Reader`] |
//! | cloud server | [`CloudServer`] |
//! | consortium blockchain | [`AccountingNode`], [`ReplyCollector`] |
//!
//! A certificate is believed for what the centre signed, and for nothing else:
//!
//! ```
//! use parties::{Certificate, DoctorPublicKeys, Holder};
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
//! let key = centre.verifying_key();
//! assert!(certificate.verify(&consortium, &key, Timestamp::new(1_999)).is_ok());
//! assert!(certificate.verify(&consortium, &key, Timestamp::new(2_001)).is_err());
//! ```

mod certificate;
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

pub use certificate::{
    CERTIFICATE_BYTES_MAX, Certificate, CertificateError, DoctorPublicKeys, Holder,
    PatientPublicKeys,
};
pub use cloud_server::{CloudServer, ReceiptError, StorageReceipt, StoredOtherwise};
pub use consortium_chain::{
    AccountingNode, AgreedGrant, AgreedKey, AgreedNodeKeys, AgreedWriterEpochs, Answer, BadReply,
    ContainerRequest, FinalChain, GrantAnswer, GrantPackage, GrantRefusal, GrantRequest, HITS_MAX,
    Hit, Hits, InTransaction, KeyAnswer, NodeKeyStanding, PendingShares, Question, Reply,
    ReplyCollector, ReplyFailure, SealedReply, SearchRequest, ShareAnswer, ShareRefusal,
    ShareRequest, SharesRequested, TAGS_MAX, UNOPENED_MAX, WantProof, WriterKeys, answer_at,
    grant_is_over, query,
};
pub use family_agent::{AgentDecision, AgentError, AgentOffer, Appointed, FamilyAgent};
pub use granting::{NoNodes, ServingNodes};
pub use medical_institution::{
    Allocation, Doctor, DoctorQuota, HandoverError, HospitalServer, IndexDraft, IndexError,
    OpenGrant, OpenedSection, OwnRecord, PatientEpisode, Reader, ReaderError, RecordDraft,
    SectionShares, ServerError, ShareJudgement, ShareOutcome, StoredReceipt,
};
pub use own_search::{MisfitAnswer, OwnSearch};
pub use patient::{
    Decision, EPISODE_SCAN_GAP, Episode, EpisodePlace, GivenGrant, Patient, PatientError,
    ReceiptCheck,
};
pub use query_manager::{Examined, ForwardError, Forwarded, QueryManager, open_forwarded};
pub use registration_centre::{EnrolError, Enrolled, PatientEnrolment, RegistrationCentre};
pub use request::{
    AccessRequest, GRANTS_MAX, Member, PURPOSE_BYTES_MAX, REQUEST_DRIFT_MS, REQUEST_LIFE_MAX_MS,
    RequestError, RequestTerms, UnsignedRequest, VerifiedRequest,
};
