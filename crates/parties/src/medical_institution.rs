//! The medical institution (the paper's 3.1 (4)): its server and its doctors.
//!
//! - The hospital's server holds the institution's keys, y of the writer epoch, the UIDs it gave, and
//!   counts per allocation id. It sees blinded points and digests; it must not learn a PID, a keyword
//!   or a record.
//! - Doctor A (the author) holds the record, SK_D of the patient, s_D. Must not learn other doctors'
//!   pseudonyms of the patient.
//! - Doctor B (the reader) holds one-time keys per request. Must not learn what was not granted.
//!
//! Neither trusts the other: the doctor checks each raised point against R on the chain, and the
//! server signs only for its own doctors and its current writer epoch.

mod author;
mod reader;
mod server;
mod team;

pub(crate) use author::handover_subject;
pub use author::{
    Doctor, HandoverError, IndexDraft, IndexError, OwnRecord, PatientEpisode, RecordDraft,
    StoredReceipt,
};
pub use reader::{
    OpenGrant, OpenedSection, Reader, ReaderError, SectionShares, ShareJudgement, ShareOutcome,
};
pub use server::{Allocation, DoctorQuota, HospitalServer, ServerError};
pub use team::{
    COLLEAGUES_MAX, Invitation, Standing, TEAM_MESSAGE_BYTES_MAX, TeamError, TeamInvitation,
    TeamLead, TeamMessage,
};
