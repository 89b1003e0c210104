//! The pages for a doctor, a patient, a family agent, and whoever watches the consortium: served by the
//! user's own process on this machine's loopback address, where the keys are. Every step that a page
//! takes exists as a command too.
//!
//! What stands between the pages and everything else on the machine is [`guard`]: the address that was
//! printed, the host and the origin of each call. What is typed outlives an error and an expired lock
//! ([`forms`]). A step that takes long is a [`jobs`] page with its progress. HTML is written by templates
//! that escape every value; a record's text is never anything else than text.

mod agent;
mod app;
mod assets;
mod codes;
mod consortium;
mod doctor;
mod forms;
mod frame;
mod guard;
mod jobs;
mod lock;
mod newcomer;
mod patient;
mod serve;
mod time_words;
mod troubles;
mod vault;
mod viewer;
mod words;

pub use serve::{Portal, PortalError, Settings};
