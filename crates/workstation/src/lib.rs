//! What people's programs are made of: the keystore, encrypted under a passphrase, with the 24 words
//! that bring a patient's keys back; and every step of a doctor, a patient and a family agent against
//! running services.
//!
//! ```
//! let seed = scheme::RootSeed::from_bytes([7; 32]);
//! let words = workstation::to_words(&seed);
//! assert_eq!(workstation::from_words(&words).expect("just made").expose_bytes(), seed.expose_bytes());
//! ```

mod agent;
mod codes;
mod doctor;
mod enrolment;
mod error;
pub mod export;
mod inbox;
mod keystore;
mod network;
mod outgoing;
mod patient;
mod reading;
pub mod shelf;
mod words;

pub use agent::{AgentDevice, AppointmentView, Offer};
pub use codes::{inbox_from_text, inbox_to_text, uid_from_text};
pub use doctor::{
    Ask, Author, Change, ColleagueState, DoctorDesk, EpisodeView as DoctorEpisodeView, FoundRecord,
    GrantView, GrantedReading, InvitationView, OwnReading, REQUEST_HOURS, Read, ReadRecord,
    RecordView, RequestView, SealedRecord, Searched, TeamView,
};
pub use enrolment::Enrolment;
pub use error::WorkError;
pub use inbox::AskedView;
pub use keystore::{Keystore, KeystoreError, KeystoreKind};
pub use network::{Network, Progress, Silent, Unit, run_search};
pub use patient::{
    AccessView, AnsweredView, EpisodeView, Exported, GivenAppointmentView, GivenView, Grants,
    PatientDevice,
};
pub use reading::{Fetched, Found, OpenedRecord, fetch, header_of, search};
pub use words::{WrongWords, from_words, to_words};
