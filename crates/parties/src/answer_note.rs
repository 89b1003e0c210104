//! What a device tells the doctors of a request: which grants answer it, or which of them were revoked
//! (interactions 8 and 11; `spec/formats.md`, M21).
//!
//! A note is a hint and no proof: whoever knows the request can seal one. What it names is looked up
//! on the chain and opened as any grant is ([`crate::Reader::open_grant`]); a doctor who never gets a
//! note finds grants on the chain by the access keys. It has one length, so that whoever carries it
//! does not learn how many episodes were opened.

use ledger::RequestCommitment;
use rand_core::CryptoRng;
use scheme::{
    ConsortiumId, DecodeError, Decoder, Encoder, GrantId, HpkePrivateKey, HpkePublicKey, Purpose,
    UnusableKey, VerifyingKey,
};

use crate::consortium_chain::GrantPackage;
use crate::request::GRANTS_MAX;

/// A note's plaintext: its kind, a count, and room for as many grants as can answer a request.
const NOTE_BYTES: usize = 1 + 1 + 32 * GRANTS_MAX;

/// What a device says to the doctors of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerNote {
    /// These grants answer it; the n-th names each doctor's n-th access key.
    Granted(Vec<GrantId>),
    /// These were revoked.
    Revoked(Vec<GrantId>),
}

/// To whom notes about a request go. A device keeps it for as long as a grant that answers the request
/// can be revoked, which is longer than the request is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteRecipients {
    /// Of which request.
    pub request: RequestCommitment,
    /// Each doctor's signing key, by which the query manager knows them, and the HPKE key that the
    /// request names.
    pub doctors: Vec<(VerifyingKey, HpkePublicKey)>,
}

impl NoteRecipients {
    /// For a keystore or a directory: 36 bytes and 64 for each doctor.
    pub(crate) fn write(&self, out: &mut Encoder) {
        out.bytes(self.request.digest().as_bytes())
            .u32(self.doctors.len() as u32);
        for (doctor, key) in &self.doctors {
            out.bytes(doctor.as_bytes()).bytes(key.as_bytes());
        }
    }

    /// What [`Self::write`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        const WHAT: &str = "the doctors of a request";
        let request = RequestCommitment::new(from.array(WHAT)?);
        let mut doctors = Vec::new();
        for _ in 0..from.count(WHAT, scheme::GRANTEES_MAX)? {
            doctors.push((
                VerifyingKey::new(from.array(WHAT)?),
                HpkePublicKey::new(from.array(WHAT)?),
            ));
        }
        Ok(Self { request, doctors })
    }
}

/// A note sealed to one doctor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedNote {
    /// The doctor's signing key.
    pub doctor: VerifyingKey,
    /// HPKE of the note.
    pub sealed: Vec<u8>,
}

impl AnswerNote {
    /// That these grants answer a request, in the order in which they were made.
    pub fn granted(consortium: &ConsortiumId, packages: &[GrantPackage]) -> Self {
        let keys = packages.iter().map(|package| &package.entry.revocation_key);
        Self::Granted(keys.map(|key| GrantId::of(consortium, key)).collect())
    }

    /// The grants that it names.
    pub fn grants(&self) -> &[GrantId] {
        match self {
            Self::Granted(grants) | Self::Revoked(grants) => grants,
        }
    }

    /// The plaintext.
    ///
    /// # Errors
    /// [`DecodeError`] if it names no grant, one twice, or more than can answer a request.
    pub fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        let grants = self.grants();
        check(grants)?;
        let kind = match self {
            Self::Granted(_) => 0,
            Self::Revoked(_) => 1,
        };
        let mut out = Encoder::new();
        out.u8(kind).u8(grants.len() as u8);
        for gid in grants {
            out.bytes(gid.as_bytes());
        }
        let mut out = out.finish();
        out.resize(NOTE_BYTES, 0);
        Ok(out)
    }

    /// Decodes a plaintext.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let kind = from.u8(WHAT)?;
        let count = from.count_u8("the note's grants", GRANTS_MAX)?;
        let grants = (0..count)
            .map(|_| Ok(GrantId::new(from.array(WHAT)?)))
            .collect::<Result<Vec<_>, DecodeError>>()?;
        check(&grants)?;
        let room = from.bytes(WHAT, 32 * (GRANTS_MAX - count))?;
        if room.iter().any(|byte| *byte != 0) {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "its unused room is not zero",
            });
        }
        from.finish(WHAT)?;
        match kind {
            0 => Ok(Self::Granted(grants)),
            1 => Ok(Self::Revoked(grants)),
            _ => Err(DecodeError::Invalid {
                what: WHAT,
                why: "its kind is unknown here",
            }),
        }
    }

    /// Seals it to each doctor of the request.
    pub(crate) fn seal(
        &self,
        consortium: &ConsortiumId,
        recipients: &NoteRecipients,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<SealedNote>, NotSealed> {
        let plain = self.encode()?;
        let subject = recipients.request.digest();
        let doctors = recipients.doctors.iter();
        doctors
            .map(|(doctor, key)| {
                let subject = subject.as_bytes();
                let sealed = key.seal(Purpose::AnswerNote, consortium, subject, &plain, rng)?;
                Ok(SealedNote {
                    doctor: *doctor,
                    sealed,
                })
            })
            .collect()
    }

    /// Opens a note about a request; `None` if it is not for this key and request.
    pub(crate) fn open(
        consortium: &ConsortiumId,
        request: RequestCommitment,
        key: &HpkePrivateKey,
        sealed: &[u8],
    ) -> Option<Result<Self, DecodeError>> {
        let request = request.digest();
        let subject = request.as_bytes();
        let plain = key.open(Purpose::AnswerNote, consortium, subject, sealed);
        plain.ok().map(|plain| Self::decode(&plain))
    }
}

/// Why a note is not made.
pub(crate) enum NotSealed {
    Note(DecodeError),
    Key(UnusableKey),
}

impl From<DecodeError> for NotSealed {
    fn from(error: DecodeError) -> Self {
        Self::Note(error)
    }
}

impl From<UnusableKey> for NotSealed {
    fn from(error: UnusableKey) -> Self {
        Self::Key(error)
    }
}

const WHAT: &str = "the note";

fn check(grants: &[GrantId]) -> Result<(), DecodeError> {
    let repeated = (1..grants.len()).any(|place| grants[..place].contains(&grants[place]));
    if grants.is_empty() || grants.len() > GRANTS_MAX || repeated {
        return Err(DecodeError::Invalid {
            what: WHAT,
            why: "it names no grant, one twice, or more than 8",
        });
    }
    Ok(())
}
