//! What comes from the hospital's systems without anyone's hands: a folder that is watched, an Orthanc
//! that is asked what changed, HL7 v2 messages over MLLP.
//!
//! Whatever the source, what it gives is a [`Delivery`]: files, and the numbers under which the hospital
//! knows the patient. [`Queue::accept`] returns once the delivery is on the disk, and only then does a
//! source say that it was taken: the acknowledgement of a message, the file that leaves its folder, the
//! study that is no longer asked for. From then on it is in exactly one of three states:
//!
//! - waiting: [`Intake::run`] gives it to the [`Destination`], and again while that fails for a passing
//!   reason;
//! - delivered: its files are removed, and its [`DeliveryKey`] is remembered, so that a source that
//!   gives it again is told that it was taken, and nothing is sealed twice;
//! - dead: it failed for good, or too often. Its files and the reason are kept until a person has it
//!   tried again or discards it and says why ([`DeadLetter`]).
//!
//! A delivery is tried at least once and remembered when it is done; whoever implements [`Destination`]
//! makes what it does happen once by the [`DeliveryId`], since a stop of the process between the two
//! brings the same delivery again.
//!
//! What is kept here is not encrypted by the gateway: the folder belongs to its user alone, on a disk
//! that the hospital encrypts, and a delivery leaves it as soon as it is sealed. Log lines hold counts,
//! ids of deliveries and types of messages, never a patient's number, a name or a text.

mod delivery;
mod files;
mod hl7;
mod mllp;
mod orthanc;
mod queue;
mod watch_folder;
mod worker;

pub use delivery::{
    BadPatientNumber, DeliveredFile, Delivery, DeliveryId, DeliveryKey, NewDelivery,
    PATIENT_NUMBER_BYTES_MAX, PATIENT_NUMBERS_MAX, PatientNumber, Source,
};
pub use mllp::{MllpConfig, MllpError, MllpServer};
pub use orthanc::{Orthanc, OrthancConfig, OrthancError, Polled};
pub use queue::{
    Accepted, DeadLetter, Draft, DraftFile, Fate, FileSummary, LISTED_MAX, NewFile, NotAccepted,
    Queue, QueueBounds, QueueCounts, QueueError, Summary, WaitingDelivery,
};
pub use watch_folder::{Looked, WatchFolder, WatchFolderConfig, WatchFolderError};
pub use worker::{Destination, Intake, NotDelivered, Pace, Receipt};
