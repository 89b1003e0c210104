//! What doctors and patients have in common: an enrolment on its way.

use std::time::Duration;

use client::{BeginEnrolment, CentreClient, EnrolmentState, EnrolmentStatus, IdempotencyKey};
use parties::Certificate;
use scheme::{Encoder, SigningKey, Subject};
use zeroize::Zeroizing;

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

/// Names the call that begins an enrolment, the same for the same call. Under a secret: the centre keeps it, and
/// it must not tell who knows somebody's name and birth date which number follows.
pub(crate) fn begins(account: &SigningKey, begin: &BeginEnrolment) -> IdempotencyKey {
    let call = Zeroizing::new(serde_json::to_vec(begin).unwrap_or_default());
    let seed = account.expose_seed();
    let mut text = Encoder::of_secrets(seed.len() + call.len());
    IdempotencyKey::of(&Zeroizing::new(text.bytes(seed).bytes(&call).finish()))
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
