//! How a care team's doctors come to one request that each of them signed (`spec/formats.md`, M28).
//!
//! One doctor leads: invites colleagues of the same institution by what is asked, takes the part of each
//! who joins, makes the request of those parts, has it signed by everyone in it, and sends it. A colleague
//! signs only what was joined: the same terms, led by the same doctor, with exactly the keys that were
//! given. Messages go through the hospital's server, sealed to the colleague; what they say is trusted
//! only as far as these checks and the signatures under the request go, so that a server that forges or
//! exchanges messages comes to no request.

use rand_core::CryptoRng;
use scheme::{
    CannotOpen, ConsortiumId, DecodeError, Decoder, Digest, DoctorId, Encoder, GRANTEES_MAX,
    InboxHandle, InstitutionId, Purpose, REQUEST_BYTES_MAX, SEALING_OVERHEAD, Signature, Timestamp,
    UnusableKey, enc, sha256,
};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::centre_keys::CentreKeys;
use crate::certificate::DoctorPublicKeys;
use crate::medical_institution::{Doctor, Reader};
use crate::request::{
    AccessRequest, GRANTS_MAX, Member, RequestError, RequestTerms, UnsignedRequest,
};

/// The version of the messages' layout.
const VERSION: u8 = 1;
/// The longest sealed message: a whole request, its kind, and what sealing adds.
pub const TEAM_MESSAGE_BYTES_MAX: usize = REQUEST_BYTES_MAX + 2 + SEALING_OVERHEAD;
/// Doctors whom one request invites besides its own: a shift's stroke team, several times over. With eight
/// access keys each a request has room for 31 doctors.
pub const COLLEAGUES_MAX: usize = 16;
/// Bounds of what a keystore holds of one-time keys.
const READER_BYTES_MAX: usize = 4_096;

/// What doctors of one institution tell each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TeamMessage {
    /// The lead asks a colleague to join.
    Invitation(Invitation),
    /// A colleague joins.
    Part {
        /// Which request: its terms' nonce.
        nonce: [u8; 32],
        /// The colleague's part of it.
        member: Box<Member>,
    },
    /// A colleague does not join.
    Declined {
        /// Which request.
        nonce: [u8; 32],
    },
    /// The lead asks those who joined to sign.
    Draft(Box<UnsignedRequest>),
    /// A colleague signs.
    Signature {
        /// SHA-256 of what is signed.
        draft: Digest,
        /// Under the request.
        signature: Signature,
    },
    /// The lead has sent the request; so each member can open the grants that answer it.
    Request(Box<AccessRequest>),
}

/// What a colleague is asked to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// What is asked of the patient.
    pub terms: RequestTerms,
    /// How many grants can answer: as many access keys each member makes.
    pub grants: u8,
}

impl TeamMessage {
    /// The plaintext.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u8(VERSION);
        match self {
            Self::Invitation(Invitation { terms, grants }) => {
                out.u8(0).u8(*grants);
                terms.write(&mut out);
            }
            Self::Part { nonce, member } => {
                out.u8(1).bytes(nonce);
                member.write(&mut out);
            }
            Self::Declined { nonce } => {
                out.u8(2).bytes(nonce);
            }
            Self::Draft(unsigned) => {
                out.u8(3).bytes(&unsigned.encode());
            }
            Self::Signature { draft, signature } => {
                out.u8(4)
                    .bytes(draft.as_bytes())
                    .bytes(signature.as_bytes());
            }
            Self::Request(request) => {
                out.u8(5).bytes(&request.encode());
            }
        }
        out.finish()
    }

    /// Decodes a plaintext.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let invalid = |why| DecodeError::Invalid { what: WHAT, why };
        if from.u8(WHAT)? != VERSION {
            return Err(invalid("its version is unknown here"));
        }
        let message = match from.u8(WHAT)? {
            0 => {
                let grants = from.count_u8("the grants of an invitation", GRANTS_MAX)? as u8;
                if grants == 0 {
                    return Err(invalid("it asks for no grant"));
                }
                let terms = RequestTerms::read(&mut from)?;
                Self::Invitation(Invitation { terms, grants })
            }
            1 => Self::Part {
                nonce: from.array(WHAT)?,
                member: Box::new(Member::read(&mut from)?),
            },
            2 => Self::Declined {
                nonce: from.array(WHAT)?,
            },
            3 => {
                let rest = from.bytes(WHAT, from.remaining())?;
                Self::Draft(Box::new(UnsignedRequest::decode(rest)?))
            }
            4 => Self::Signature {
                draft: Digest::new(from.array(WHAT)?),
                signature: Signature::new(from.array(WHAT)?),
            },
            5 => {
                let rest = from.bytes(WHAT, from.remaining())?;
                Self::Request(Box::new(AccessRequest::decode(rest)?))
            }
            _ => return Err(invalid("its kind is unknown here")),
        };
        from.finish(WHAT)?;
        Ok(message)
    }

    /// Seals it from one doctor to a colleague.
    ///
    /// # Errors
    /// [`UnusableKey`] if the colleague's key is none.
    pub fn seal(
        &self,
        from: &Doctor,
        to: &DoctorPublicKeys,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, UnusableKey> {
        let own = from.public_keys();
        let subject = subject(own.institution, own.id);
        let consortium = from.consortium();
        to.hpke
            .seal(Purpose::Team, consortium, &subject, &self.encode(), rng)
    }

    /// Opens a message that the hospital's server says a colleague sent.
    ///
    /// # Errors
    /// [`TeamError::NotForUs`], [`TeamError::Malformed`].
    pub fn open(to: &Doctor, from: DoctorId, sealed: &[u8]) -> Result<Self, TeamError> {
        let subject = subject(to.public_keys().institution, from);
        let plain = to.open_sealed(Purpose::Team, &subject, sealed)?;
        Ok(Self::decode(&plain)?)
    }
}

fn subject(institution: InstitutionId, from: DoctorId) -> Vec<u8> {
    enc(&[
        &u64::from(institution.number()).to_be_bytes(),
        &from.number().to_be_bytes(),
    ])
}

/// Why a message between colleagues is not followed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TeamError {
    /// It was not sealed to this doctor, or not by whom the server says.
    #[error("the message of a colleague does not open")]
    NotForUs(#[from] CannotOpen),
    /// It is malformed.
    #[error("the message of a colleague is malformed")]
    Malformed(#[from] DecodeError),
    /// A certificate or signature in it does not stand.
    #[error("a colleague's part of the request does not stand")]
    Request(#[from] RequestError),
    /// It is about another request, from somebody who was not invited, or comes twice.
    #[error("the message of a colleague belongs to no request that waits for it")]
    NotAwaited,
    /// What is to be signed is not what was joined: other terms, another lead, other keys.
    #[error("what a colleague wants signed is not what was joined: nothing was signed")]
    NotWhatWasJoined,
}

/// How far a colleague is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Was invited.
    Invited,
    /// Joined with this part.
    Joined(Box<Member>),
    /// Signed the draft.
    Signed(Box<Member>, Signature),
    /// Does not join.
    Declined,
}

/// A request that its lead is gathering a team for.
pub struct TeamLead {
    terms: RequestTerms,
    grants: u8,
    /// Where the patient is asked.
    inbox: (InboxHandle, [u8; 16]),
    reader: Reader,
    colleagues: Vec<(DoctorId, Standing)>,
    draft: Option<UnsignedRequest>,
}

impl TeamLead {
    /// A team of this doctor, with fresh keys in `reader`, and these colleagues.
    ///
    /// # Errors
    /// [`DecodeError`] if the terms are out of range, or there are no colleagues, one twice, or more than
    /// [`COLLEAGUES_MAX`].
    pub fn new(
        terms: RequestTerms,
        inbox: (InboxHandle, [u8; 16]),
        reader: Reader,
        colleagues: &[DoctorId],
    ) -> Result<Self, DecodeError> {
        terms.check()?;
        check_colleagues(colleagues)?;
        Ok(Self {
            terms,
            grants: reader.member().access_keys.len() as u8,
            inbox,
            reader,
            colleagues: colleagues
                .iter()
                .map(|id| (*id, Standing::Invited))
                .collect(),
            draft: None,
        })
    }

    /// What is asked.
    pub fn terms(&self) -> &RequestTerms {
        &self.terms
    }

    /// The colleagues, each with how far they are.
    pub fn colleagues(&self) -> &[(DoctorId, Standing)] {
        &self.colleagues
    }

    /// What those sign who joined before the team was closed; none while it is open.
    pub fn draft(&self) -> Option<&UnsignedRequest> {
        self.draft.as_ref()
    }

    /// What the colleagues are asked.
    pub fn invitation(&self) -> TeamMessage {
        TeamMessage::Invitation(Invitation {
            terms: self.terms.clone(),
            grants: self.grants,
        })
    }

    /// Takes what a colleague answered.
    ///
    /// # Errors
    /// [`TeamError`]; nothing has changed then.
    pub fn take(
        &mut self,
        from: DoctorId,
        message: TeamMessage,
        consortium: &ConsortiumId,
        centre: &CentreKeys,
        now: Timestamp,
    ) -> Result<(), TeamError> {
        let mut found = self.colleagues.iter_mut();
        let (_, standing) = found
            .find(|(id, _)| *id == from)
            .ok_or(TeamError::NotAwaited)?;
        *standing = match (message, &*standing, &self.draft) {
            (TeamMessage::Part { nonce, member }, Standing::Invited, None)
                if nonce == self.terms.nonce =>
            {
                if member.access_keys.len() != usize::from(self.grants) {
                    return Err(TeamError::NotAwaited);
                }
                let members = vec![self.reader.member(), (*member).clone()];
                let pair = UnsignedRequest::new(self.terms.clone(), members)?;
                // The certificate must be the one of whom the server says: so no other doctor joins in a
                // colleague's name.
                let (doctors, _) = pair.doctors(consortium, centre, now)?;
                if doctors.last().is_none_or(|doctor| doctor.id != from) {
                    return Err(TeamError::NotAwaited);
                }
                Standing::Joined(member)
            }
            (TeamMessage::Declined { nonce }, Standing::Invited | Standing::Joined(_), None)
                if nonce == self.terms.nonce =>
            {
                Standing::Declined
            }
            (
                TeamMessage::Signature { draft, signature },
                Standing::Joined(member),
                Some(unsigned),
            ) if draft == sha256(&unsigned.encode()) => {
                // Checked now: one that does not stand would hold up the others later.
                let (doctors, _) = unsigned.doctors(consortium, centre, now)?;
                let doctor = doctors.iter().find(|doctor| doctor.id == from);
                let doctor = doctor.ok_or(TeamError::NotAwaited)?;
                unsigned.check_signature(consortium, doctor, &signature)?;
                Standing::Signed(member.clone(), signature)
            }
            _ => return Err(TeamError::NotAwaited),
        };
        Ok(())
    }

    /// Closes the team: from now on it is this doctor with those who joined. Done again, those who did not
    /// sign in between are left out.
    ///
    /// # Errors
    /// [`DecodeError`] if the request is too long, or a key stands twice in it.
    pub fn close(
        &mut self,
        consortium: &ConsortiumId,
        centre: &CentreKeys,
        now: Timestamp,
    ) -> Result<&UnsignedRequest, TeamError> {
        let again = self.draft.is_some();
        let mut members = vec![self.reader.member()];
        for (_, standing) in &self.colleagues {
            match standing {
                Standing::Joined(member) if !again => members.push((**member).clone()),
                Standing::Signed(member, _) => members.push((**member).clone()),
                _ => {}
            }
        }
        let draft = UnsignedRequest::new(self.terms.clone(), members)?;
        draft.doctors(consortium, centre, now)?;
        for (_, standing) in &mut self.colleagues {
            *standing = match std::mem::replace(standing, Standing::Declined) {
                Standing::Joined(member) if !again => Standing::Joined(member),
                // What was signed before was another text.
                Standing::Signed(member, _) => Standing::Joined(member),
                _ => Standing::Declined,
            };
        }
        Ok(self.draft.insert(draft))
    }

    /// Whether everyone in the closed team has signed.
    pub fn is_signed(&self) -> bool {
        let waits = |(_, standing): &(DoctorId, Standing)| matches!(standing, Standing::Joined(_));
        self.draft.is_some() && !self.colleagues.iter().any(waits)
    }

    /// The request once everyone has signed, with where it goes and this doctor's keys.
    ///
    /// # Errors
    /// [`TeamError::NotAwaited`] before that.
    pub fn complete(&self, doctor: &Doctor) -> Result<AccessRequest, TeamError> {
        let draft = self.draft.clone().ok_or(TeamError::NotAwaited)?;
        let mut signatures = vec![draft.sign(doctor.consortium(), doctor.signing())];
        for (_, standing) in &self.colleagues {
            match standing {
                Standing::Signed(_, signature) => signatures.push(*signature),
                Standing::Declined => {}
                Standing::Invited | Standing::Joined(_) => return Err(TeamError::NotAwaited),
            }
        }
        Ok(draft.complete(signatures)?)
    }

    /// The keys of this doctor's part and where the patient is asked, once the request is complete.
    pub fn into_parts(self) -> (Reader, InboxHandle, [u8; 16]) {
        (self.reader, self.inbox.0, self.inbox.1)
    }

    /// For the doctor's keystore (`spec/formats.md`, M26).
    pub fn keep(&self) -> Zeroizing<Vec<u8>> {
        let reader = self.reader.keep();
        let invitation = self.invitation().encode();
        let draft = self.draft.as_ref().map(UnsignedRequest::encode);
        let draft = draft.unwrap_or_default();
        let mut list = Encoder::new();
        list.u32(self.colleagues.len() as u32);
        for (id, standing) in &self.colleagues {
            list.u64(id.number());
            match standing {
                Standing::Invited => list.u8(0),
                Standing::Declined => list.u8(1),
                Standing::Joined(member) => {
                    list.u8(2);
                    member.write(&mut list);
                    &mut list
                }
                Standing::Signed(member, signature) => {
                    list.u8(3);
                    member.write(&mut list);
                    list.bytes(signature.as_bytes())
                }
            };
        }
        let list = list.finish();
        let length = 12 + invitation.len() + 32 + reader.len() + draft.len() + list.len();
        let mut out = Encoder::of_secrets(length);
        out.var(&invitation)
            .bytes(self.inbox.0.as_bytes())
            .bytes(&self.inbox.1)
            .var(&reader)
            .var(&draft)
            .bytes(&list);
        Zeroizing::new(out.finish())
    }

    /// What [`Self::keep`] gave.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn restore(
        consortium: ConsortiumId,
        centre: CentreKeys,
        kept: &[u8],
    ) -> Result<Self, DecodeError> {
        const WHAT: &str = "a team of the keystore";
        let mut from = Decoder::new(kept);
        let Invitation { terms, grants } = kept_invitation(&mut from)?;
        let inbox = (InboxHandle::new(from.array(WHAT)?), from.array(WHAT)?);
        let reader = Reader::restore(consortium, centre, from.var(WHAT, READER_BYTES_MAX)?)?;
        let draft = kept_draft(&mut from)?;
        let mut colleagues = Vec::new();
        for _ in 0..from.count(WHAT, COLLEAGUES_MAX)? {
            let id = DoctorId::new(from.u64(WHAT)?);
            let standing = match from.u8(WHAT)? {
                0 => Standing::Invited,
                1 => Standing::Declined,
                2 => Standing::Joined(Box::new(Member::read(&mut from)?)),
                3 => {
                    let member = Box::new(Member::read(&mut from)?);
                    Standing::Signed(member, Signature::new(from.array(WHAT)?))
                }
                _ => {
                    return Err(DecodeError::Invalid {
                        what: WHAT,
                        why: "a colleague's standing is unknown here",
                    });
                }
            };
            colleagues.push((id, standing));
        }
        from.finish(WHAT)?;
        Ok(Self {
            terms,
            grants,
            inbox,
            reader,
            colleagues,
            draft,
        })
    }
}

/// An invitation that this doctor got.
pub struct TeamInvitation {
    lead: DoctorId,
    invitation: Invitation,
    /// This doctor's keys, once joined.
    reader: Option<Reader>,
    /// The last draft that was signed.
    signed: Option<UnsignedRequest>,
}

impl TeamInvitation {
    /// An invitation from a colleague; nothing is joined by it.
    ///
    /// # Errors
    /// [`TeamError::NotAwaited`] if it is for another institution, or has ended.
    pub fn new(
        own: &DoctorPublicKeys,
        lead: DoctorId,
        invitation: Invitation,
        now: Timestamp,
    ) -> Result<Self, TeamError> {
        let terms = &invitation.terms;
        if terms.institution != own.institution || terms.not_after < now || lead == own.id {
            return Err(TeamError::NotAwaited);
        }
        Ok(Self {
            lead,
            invitation,
            reader: None,
            signed: None,
        })
    }

    /// Who invites.
    pub fn lead(&self) -> DoctorId {
        self.lead
    }

    /// What is asked of the patient.
    pub fn terms(&self) -> &RequestTerms {
        &self.invitation.terms
    }

    /// How many access keys this doctor's part needs.
    pub fn grants(&self) -> usize {
        usize::from(self.invitation.grants)
    }

    /// Whether this doctor joined.
    pub fn is_joined(&self) -> bool {
        self.reader.is_some()
    }

    /// Whether this doctor signed a draft.
    pub fn is_signed(&self) -> bool {
        self.signed.is_some()
    }

    /// Joins with fresh keys; done again, the first ones count.
    pub fn join(&mut self, reader: Reader) -> TeamMessage {
        let reader = self.reader.get_or_insert(reader);
        TeamMessage::Part {
            nonce: self.invitation.terms.nonce,
            member: Box::new(reader.member()),
        }
    }

    /// Whether a draft or request is of this invitation, by its nonce.
    pub fn is_about(&self, terms: &RequestTerms) -> bool {
        terms.nonce == self.invitation.terms.nonce
    }

    /// Signs a draft, if it is what was joined.
    ///
    /// # Errors
    /// [`TeamError`]; nothing was signed then.
    pub fn sign(
        &mut self,
        draft: UnsignedRequest,
        doctor: &Doctor,
        centre: &CentreKeys,
        now: Timestamp,
    ) -> Result<TeamMessage, TeamError> {
        let reader = self.reader.as_ref().ok_or(TeamError::NotAwaited)?;
        if *draft.terms() != self.invitation.terms {
            return Err(TeamError::NotWhatWasJoined);
        }
        let (doctors, _) = draft.doctors(doctor.consortium(), centre, now)?;
        let own = doctor.public_keys();
        let mut own_parts = draft
            .members()
            .iter()
            .zip(&doctors)
            .filter(|(_, doctor)| doctor.id == own.id);
        let is_ours = own_parts.next().is_some_and(|(member, named)| {
            *member == reader.member() && named.signing == own.signing
        });
        if !is_ours || own_parts.next().is_some() || doctors[0].id != self.lead {
            return Err(TeamError::NotWhatWasJoined);
        }
        let signature = draft.sign(doctor.consortium(), doctor.signing());
        let message = TeamMessage::Signature {
            draft: sha256(&draft.encode()),
            signature,
        };
        self.signed = Some(draft);
        Ok(message)
    }

    /// The keys of this doctor's part, if the request is the one that was signed.
    ///
    /// # Errors
    /// [`TeamError::NotWhatWasJoined`], with the invitation back.
    pub fn complete(self, request: &AccessRequest) -> Result<Reader, Box<Self>> {
        let same = self.signed.as_ref() == Some(request.unsigned_unverified());
        match self.reader {
            Some(reader) if same => Ok(reader),
            reader => Err(Box::new(Self { reader, ..self })),
        }
    }

    /// For the doctor's keystore (`spec/formats.md`, M26).
    pub fn keep(&self) -> Zeroizing<Vec<u8>> {
        let reader = self.reader.as_ref().map(Reader::keep);
        let reader = reader.as_ref().map_or(&[][..], |kept| kept);
        let invitation = TeamMessage::Invitation(self.invitation.clone()).encode();
        let signed = self.signed.as_ref().map(UnsignedRequest::encode);
        let signed = signed.unwrap_or_default();
        let length = 8 + 12 + invitation.len() + reader.len() + signed.len();
        let mut out = Encoder::of_secrets(length);
        out.u64(self.lead.number())
            .var(&invitation)
            .var(reader)
            .var(&signed);
        Zeroizing::new(out.finish())
    }

    /// What [`Self::keep`] gave.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn restore(
        consortium: ConsortiumId,
        centre: CentreKeys,
        kept: &[u8],
    ) -> Result<Self, DecodeError> {
        const WHAT: &str = "an invitation of the keystore";
        let mut from = Decoder::new(kept);
        let lead = DoctorId::new(from.u64(WHAT)?);
        let invitation = kept_invitation(&mut from)?;
        let reader = match from.var(WHAT, READER_BYTES_MAX)? {
            [] => None,
            bytes => Some(Reader::restore(consortium, centre, bytes)?),
        };
        let signed = kept_draft(&mut from)?;
        from.finish(WHAT)?;
        Ok(Self {
            lead,
            invitation,
            reader,
            signed,
        })
    }
}

fn kept_invitation(from: &mut Decoder<'_>) -> Result<Invitation, DecodeError> {
    match TeamMessage::decode(from.var(WHAT, REQUEST_BYTES_MAX)?)? {
        TeamMessage::Invitation(invitation) => Ok(invitation),
        _ => Err(DecodeError::Invalid {
            what: WHAT,
            why: "it is no invitation",
        }),
    }
}

/// A draft, or nothing in its place.
fn kept_draft(from: &mut Decoder<'_>) -> Result<Option<UnsignedRequest>, DecodeError> {
    match from.var("a draft of the keystore", REQUEST_BYTES_MAX)? {
        [] => Ok(None),
        bytes => UnsignedRequest::decode(bytes).map(Some),
    }
}

const WHAT: &str = "a colleague's message";

fn check_colleagues(colleagues: &[DoctorId]) -> Result<(), DecodeError> {
    const { assert!(COLLEAGUES_MAX < GRANTEES_MAX) };
    let twice = (1..colleagues.len()).any(|at| colleagues[..at].contains(&colleagues[at]));
    if colleagues.is_empty() || colleagues.len() > COLLEAGUES_MAX || twice {
        return Err(DecodeError::Invalid {
            what: "the care team",
            why: "it names no colleague, one twice, or more than 16",
        });
    }
    Ok(())
}
