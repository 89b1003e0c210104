//! The hospital's own systems on one side, sealed records on the other.
//!
//! A gateway is a doctor's machine without hands: it holds the keystore of a desk that the registration
//! centre certified for its hospital, and never a key of a consortium's node. Systems publish through it,
//! find and retrieve what patients granted, and propose what patients are asked for; what they send is
//! sealed here, and what is granted is opened here.
//!
//! | part | what |
//! |---|---|
//! | `fhir` | IHE MHD, PCF and BALP as a FHIR R4 facade |
//! | `dicomweb` | QIDO-RS and WADO-RS for archives and viewers |
//! | `smart` | which system calls, and what it may |
//! | `intake` | what systems send without being asked: folders, an image archive, HL7 v2 |
//! | `desk`, `register` | the doctor's machine inside, and what is remembered beside it |
//! | `watched` | what it shows to those who supervise it |

mod control;
mod deliveries;
mod desk;
mod dicom;
mod dicomweb;
mod facts;
mod fhir;
mod gateway;
pub mod intake;
mod register;
mod smart;
mod watched;

pub use control::{ControlError, IntakeAnswer, IntakeQuestion, ask_intake};
pub use deliveries::{SourceError, Sources};
pub use gateway::{Gateway, GatewayError, Settings};
pub use smart::{System, SystemsError};
