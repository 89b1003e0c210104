//! What a family agent's device tells the patient of each grant that it gave (`spec/formats.md`, M29).
//!
//! The chain does not say whose grant an entry is, so that nobody links an agent's grants to a patient.
//! The agent tells the patient: what was granted to whom, the log key, and the key that revokes the grant,
//! so that the patient sees every access under it and can take it back alone. An agent's program that was
//! changed can keep silent; withdrawing the appointment ends what it granted all the same.

use rand_core::CryptoRng;
use scheme::{
    AppointmentId, ConsortiumId, DecodeError, Decoder, Encoder, GrantId, HpkePrivateKey,
    HpkePublicKey, LogKey, Purpose, SigningKey, Timestamp, UnusableKey,
};
use zeroize::Zeroizing;

use crate::answer_note::NoteRecipients;
use crate::patient::Answered;

/// The version of the layout.
const VERSION: u8 = 1;
const WHAT: &str = "an agent's act";

/// A grant that an agent gave, with all that ends it and reads its log.
pub(crate) struct AgentAct {
    pub(crate) revocation: SigningKey,
    pub(crate) log_key: LogKey,
    pub(crate) expiry: Timestamp,
    pub(crate) recipients: NoteRecipients,
    pub(crate) answers: Answered,
}

impl AgentAct {
    /// gid.
    pub(crate) fn gid(&self, consortium: &ConsortiumId) -> GrantId {
        GrantId::of(consortium, &self.revocation.verifying_key())
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let doctors = 64 * self.recipients.doctors.len();
        let length = 1 + 32 + 32 + 8 + 32 + 4 + doctors + self.answers.length();
        let mut out = Encoder::of_secrets(length);
        out.u8(VERSION)
            .bytes(self.revocation.expose_seed())
            .bytes(self.log_key.expose_bytes())
            .u64(self.expiry.number());
        self.recipients.write(&mut out);
        self.answers.write(&mut out);
        Zeroizing::new(out.finish())
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        if from.u8(WHAT)? != VERSION {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "its version is unknown here",
            });
        }
        let act = Self {
            revocation: SigningKey::from_seed(from.array(WHAT)?),
            log_key: LogKey::from_bytes(from.array(WHAT)?),
            expiry: Timestamp::new(from.u64(WHAT)?),
            recipients: NoteRecipients::read(&mut from)?,
            answers: Answered::read(&mut from)?,
        };
        from.finish(WHAT)?;
        Ok(act)
    }

    /// Sealed to the patient's inbox key, of one appointment.
    pub(crate) fn seal(
        &self,
        consortium: &ConsortiumId,
        appointment: &AppointmentId,
        to: &HpkePublicKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, UnusableKey> {
        let (plain, subject) = (self.encode(), appointment.as_bytes());
        to.seal(Purpose::AgentAct, consortium, subject, &plain, rng)
    }

    /// Opens an act under an appointment; `None` if it is of another one.
    pub(crate) fn open(
        consortium: &ConsortiumId,
        appointment: &AppointmentId,
        key: &HpkePrivateKey,
        sealed: &[u8],
    ) -> Option<Result<Self, DecodeError>> {
        let subject = appointment.as_bytes();
        let plain = key.open(Purpose::AgentAct, consortium, subject, sealed);
        plain.ok().map(|plain| Self::decode(&plain))
    }
}
