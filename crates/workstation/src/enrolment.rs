//! What doctors and patients have in common: an enrolment on its way.

use std::time::Duration;

use client::{CentreClient, EnrolmentState, EnrolmentStatus};
use parties::Certificate;
use scheme::Subject;

use crate::error::{WorkError, not};

/// How far an enrolment is, for its owner.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// Its number.
    pub subject: Subject,
    /// A doctor's id.
    pub doctor: Option<u64>,
    /// How far.
    pub state: EnrolmentState,
}

/// Waits until an enrolment is settled, or the time is up.
pub(crate) async fn settle(
    centre: &CentreClient,
    subject: Subject,
    bound: Duration,
) -> Result<(Enrolment, Option<Certificate>), WorkError> {
    let status: EnrolmentStatus = if bound.is_zero() {
        centre.enrolment(subject).await?
    } else {
        centre.settled(subject, bound).await?
    };
    let certificate = status.certificate()?;
    let enrolment = Enrolment {
        subject,
        doctor: status.doctor,
        state: status.state,
    };
    Ok((enrolment, certificate))
}

/// The number of an enrolment that was begun.
pub(crate) fn begun(subject: Option<Subject>, command: &str) -> Result<Subject, WorkError> {
    match subject {
        Some(subject) => Ok(subject),
        None => not(format!(
            "there is no enrolment in this keystore yet: begin with `willis {command} enrol`"
        )),
    }
}
