//! The family agent (the paper's 3.2.1: members of the family act for a patient who cannot).
//!
//! - Holds: per appointment a key of its own, E, and for the classes in scope the condition keys,
//!   label keys and trapdoors of one episode.
//! - Sees: requests that go to the agent, and whatever is in scope.
//! - Does: grants in place of the patient, under its own key, within the appointment's scope and end.
//! - Must not learn: the patient's seed, an episode secret, another episode or class.
//! - Trusts: its own device. It can open what is in scope unlogged and for ever; withdrawal stops
//!   only grants.

use ledger::{Revocation, Transaction};
use rand_core::CryptoRng;
use scheme::{
    AgentKey, Appointment, AppointmentId, ClassCode, ClassLabelKey, ConditionKey, ConsortiumId,
    DecodeError, Decoder, Degenerate, Encoder, GrantError, GrantId, GrantedClass, Granter, Header,
    HpkePrivateKey, HpkePublicKey, InboxHandle, InstitutionId, Purpose, Reach, SectionIndex,
    SectionSecret, SigningKey, TRAPDOORS_MAX, Threshold, Timestamp, Trapdoor, UnusableKey,
    VerifyingKey, Writer, WriterEpoch, WriterTrapdoor,
};
use thiserror::Error;

use crate::agent_act::AgentAct;
use crate::answer_note::{AnswerNote, NotSealed, NoteRecipients, SealedNote};
use crate::centre_keys::CentreKeys;
use crate::consortium_chain::{AgreedCentreKeys, AgreedKey, GrantPackage};
use crate::granting::{NoNodes, PackageParts, ServingNodes, package};
use crate::inbox::{Inbox, NotAsked};
use crate::patient::Answered;
use crate::query_manager::{ForwardError, all_in_force};
use crate::request::{RequestError, VerifiedRequest};

/// Bounds of what a keystore holds of an appointment.
const KEPT_BYTES_MAX: usize = 1 << 20;
const KEPT_GRANTS_MAX: usize = 16_384;

/// What an agent offers a patient who wants to appoint it: fresh keys for one episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentOffer {
    /// Signs the agent's grants of this episode.
    pub agent: VerifyingKey,
    /// Opens what the appointment brings.
    pub hpke: HpkePublicKey,
}

/// Why an agent's device stops.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AgentError {
    /// It was not sealed to this agent.
    #[error("the appointment is not for this agent: offer new keys and ask the patient again")]
    NotForUs,
    /// It is malformed.
    #[error("the appointment is malformed")]
    Malformed(#[from] DecodeError),
    /// A request cannot be opened.
    #[error("the request cannot be opened")]
    Forwarded(#[from] ForwardError),
    /// A request does not stand.
    #[error("the request does not stand")]
    Request(#[from] RequestError),
    /// A request is for another inbox, or was answered before.
    #[error("the request is not for this agent's inbox, or was answered before")]
    AnotherInbox,
    /// The owner of its episode did not sign it, or it names another key.
    #[error("the appointment is not signed by the owner of its episode for this agent")]
    Forged,
    /// The appointment has ended, or the grant would outlive it.
    #[error("the appointment ends before that: grant for a shorter time or ask the patient")]
    Ended,
    /// A class is not in scope.
    #[error("the appointment does not cover that section class")]
    OutOfScope,
    /// A doctor's key is not in force.
    #[error("the doctor's key is not in force on the chain")]
    NotInForce,
    /// An accounting node has no key on the chain.
    #[error(transparent)]
    Nodes(#[from] NoNodes),
    /// A note names a grant that this agent did not give.
    #[error("this agent gave no such grant")]
    NotOurs,
    /// Nothing can be sealed to a doctor's key of the request.
    #[error(transparent)]
    Seal(#[from] UnusableKey),
    /// The grant cannot be made.
    #[error("the grant cannot be made")]
    Grant(#[from] GrantError),
    /// A combined key is the identity.
    #[error("a combined key is the identity: try again")]
    Degenerate(#[from] Degenerate),
}

impl From<NotAsked> for AgentError {
    fn from(why: NotAsked) -> Self {
        match why {
            NotAsked::Forwarded(ForwardError::Request(error)) => Self::Request(error),
            NotAsked::Forwarded(error) => Self::Forwarded(error),
            NotAsked::NotForUs => Self::AnotherInbox,
        }
    }
}

impl From<NotSealed> for AgentError {
    fn from(why: NotSealed) -> Self {
        match why {
            NotSealed::Note(error) => Self::Malformed(error),
            NotSealed::Key(error) => Self::Seal(error),
        }
    }
}

/// An agent's keys for one episode, waiting for an appointment.
pub struct FamilyAgent {
    consortium: ConsortiumId,
    centre: CentreKeys,
    key: AgentKey,
    hpke: HpkePrivateKey,
    inbox: Inbox,
    /// Opens what reaches the inbox, and nothing else.
    inbox_key: HpkePrivateKey,
}

impl FamilyAgent {
    /// Fresh keys, one pair per episode, so that appointments cannot be linked by them.
    pub fn new(consortium: ConsortiumId, centre: CentreKeys, rng: &mut impl CryptoRng) -> Self {
        Self {
            consortium,
            centre,
            key: AgentKey::random(rng),
            hpke: HpkePrivateKey::random(rng),
            inbox: Inbox::new(rng),
            inbox_key: HpkePrivateKey::random(rng),
        }
    }

    /// The keys, for the agent's keystore (`spec/formats.md`, M26).
    pub fn keep(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let mut out = Encoder::of_secrets(3 * 32 + self.inbox.length());
        out.bytes(self.key.expose_seed())
            .bytes(self.hpke.expose_bytes())
            .bytes(self.inbox_key.expose_bytes());
        self.inbox.write(&mut out);
        zeroize::Zeroizing::new(out.finish())
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
        const WHAT: &str = "the agent's keys";
        let mut from = Decoder::new(kept);
        let agent = Self {
            consortium,
            centre,
            key: AgentKey::from_signing_key(SigningKey::from_seed(from.array(WHAT)?)),
            hpke: HpkePrivateKey::from_bytes(from.array(WHAT)?)?,
            inbox_key: HpkePrivateKey::from_bytes(from.array(WHAT)?)?,
            inbox: Inbox::read(&mut from)?,
        };
        from.finish(WHAT)?;
        Ok(agent)
    }

    /// What the patient needs to appoint this agent.
    pub fn offer(&self) -> AgentOffer {
        AgentOffer {
            agent: self.key.verifying_key(),
            hpke: self.hpke.public_key(),
        }
    }

    /// The handle of the inbox that will stand in for the patient's.
    pub fn inbox(&self) -> InboxHandle {
        self.inbox.address().0
    }

    /// The key that the query manager seals requests to.
    pub fn inbox_key(&self) -> HpkePublicKey {
        self.inbox_key.public_key()
    }

    /// Opens an appointment: signed under E, for this key, with a key for each class in scope, and with
    /// the patient's inbox, requests to which this agent can answer from then on.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn accept(mut self, sealed: &[u8]) -> Result<Appointed, AgentError> {
        let here = &self.consortium;
        let subject = self.key.verifying_key();
        let plain = self
            .hpke
            .open(Purpose::Appointment, here, subject.as_bytes(), sealed)
            .map_err(|_| AgentError::NotForUs)?;
        let mut from = Decoder::new(&plain);
        // The layout before had no version, and began with the zero of a length.
        let version = match plain.first() {
            None | Some(0) => 0,
            Some(_) => from.u8("the appointment")?,
        };
        if ![0, APPOINTMENT_VERSION].contains(&version) {
            return Err(AgentError::Malformed(DecodeError::Invalid {
                what: "the appointment",
                why: "its version is unknown here",
            }));
        }
        let appointment = Appointment::decode(here, from.var("the appointment", 1024)?)?;
        if !appointment.is_signed_by_owner(here) || appointment.agent() != subject {
            return Err(AgentError::Forged);
        }
        let handle = InboxHandle::new(from.array("the patient's inbox")?);
        let salt = from.array("the inbox's salt")?;
        let patient_key = match version {
            0 => None,
            _ => Some(HpkePublicKey::new(from.array("the patient's inbox key")?)),
        };
        let count = from.count_u8("the classes in scope", scheme::SCOPE_MAX)?;
        let mut classes = Vec::with_capacity(count);
        for _ in 0..count {
            classes.push(AgentClass {
                class: ClassCode::new(from.u8("a class")?),
                condition: ConditionKey::from_bytes(&from.array("a condition key")?)?,
                label_key: ClassLabelKey::from_bytes(from.array("a label key")?),
            });
        }
        let named = classes.iter().map(|class| class.class);
        if !named.eq(appointment.terms().scope.iter().copied()) {
            return Err(AgentError::Forged);
        }
        let count = from.count("the trapdoors", TRAPDOORS_MAX)?;
        let mut trapdoors = Vec::with_capacity(count);
        for _ in 0..count {
            let writer = Writer {
                institution: InstitutionId::new(from.u32("the institution")?),
                epoch: WriterEpoch::new(from.u32("the writer epoch")?),
            };
            let trapdoor = Trapdoor::from_bytes(&from.array("a trapdoor")?)?;
            trapdoors.push(WriterTrapdoor { writer, trapdoor });
        }
        from.finish("the appointment")?;
        self.inbox.stand_in_for(handle, salt);
        Ok(Appointed {
            agent: self,
            sealed: sealed.to_vec(),
            appointment,
            patient: patient_key.map(|key| (handle, key)),
            classes,
            trapdoors,
            grants: Vec::new(),
        })
    }
}

/// The version of what an appointment brings.
pub(crate) const APPOINTMENT_VERSION: u8 = 2;

/// An agent's grant, and what tells the patient of it.
pub struct AgentAnswer {
    /// For the nodes and the chain.
    pub package: GrantPackage,
    /// What it is, sealed to the patient, and the inbox that it goes to; none if the appointment is of an
    /// earlier release.
    pub act: Option<(InboxHandle, Vec<u8>)>,
}

/// What an agent holds of one class.
struct AgentClass {
    class: ClassCode,
    condition: ConditionKey,
    label_key: ClassLabelKey,
}

/// What the agent decided about a request.
pub struct AgentDecision {
    /// The section classes, within the appointment's scope.
    pub classes: Vec<ClassCode>,
    /// From when.
    pub not_before: Timestamp,
    /// Until when, not after the appointment's end.
    pub expiry: Timestamp,
    /// t.
    pub threshold: Threshold,
}

/// A family agent with an appointment, as it opened it (`spec/formats.md`, M19).
pub struct Appointed {
    agent: FamilyAgent,
    /// As it came, for the keystore.
    sealed: Vec<u8>,
    appointment: Appointment,
    /// Where the patient is told of grants, and the key that it is sealed to; none of an appointment that
    /// an earlier release made.
    patient: Option<(InboxHandle, HpkePublicKey)>,
    classes: Vec<AgentClass>,
    trapdoors: Vec<WriterTrapdoor>,
    grants: Vec<(GrantId, NoteRecipients, SigningKey)>,
}

impl Appointed {
    /// For the agent's keystore (`spec/formats.md`, M26).
    pub fn keep(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let agent = self.agent.keep();
        let grants = self
            .grants
            .iter()
            .map(|(_, recipients, _)| 32 + 32 + 4 + 64 * recipients.doctors.len());
        let length = 4 + agent.len() + 4 + self.sealed.len() + 4 + grants.sum::<usize>();
        let mut out = Encoder::of_secrets(length);
        out.var(&agent)
            .var(&self.sealed)
            .u32(self.grants.len() as u32);
        for (_, recipients, key) in &self.grants {
            out.bytes(key.expose_seed());
            recipients.write(&mut out);
        }
        zeroize::Zeroizing::new(out.finish())
    }

    /// What [`Self::keep`] gave; the appointment is opened and checked again.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn restore(
        consortium: ConsortiumId,
        centre: CentreKeys,
        kept: &[u8],
    ) -> Result<Self, AgentError> {
        const WHAT: &str = "the agent's appointment";
        let mut from = Decoder::new(kept);
        let agent = from.var(WHAT, KEPT_BYTES_MAX)?;
        let mut appointed = FamilyAgent::restore(consortium, centre, agent)?
            .accept(from.var(WHAT, KEPT_BYTES_MAX)?)?;
        for _ in 0..from.count("the agent's grants", KEPT_GRANTS_MAX)? {
            let key = SigningKey::from_seed(from.array(WHAT)?);
            let recipients = NoteRecipients::read(&mut from)?;
            let gid = GrantId::of(&consortium, &key.verifying_key());
            appointed.grants.push((gid, recipients, key));
        }
        from.finish(WHAT)?;
        Ok(appointed)
    }

    /// When it ends.
    pub fn end(&self) -> Timestamp {
        self.appointment.terms().end
    }

    /// The classes in scope.
    pub fn scope(&self) -> &[ClassCode] {
        &self.appointment.terms().scope
    }

    /// The grants that this agent gave, each with who hears of its revocation.
    pub fn grants(&self) -> impl Iterator<Item = (GrantId, &NoteRecipients)> {
        self.grants.iter().map(|(gid, to, _)| (*gid, to))
    }

    /// Names the appointment on the chain.
    pub fn id(&self) -> AppointmentId {
        self.appointment.terms().id
    }

    /// The inbox's handle and salt, for a doctor who wants to ask the agent.
    pub fn inbox(&self) -> (InboxHandle, [u8; 16]) {
        self.agent.inbox.address()
    }

    /// Takes what f + 1 nodes say of the registration centre's keys: certificates under one that was
    /// lost to others count no more.
    pub fn follow_centre(&mut self, agreed: &AgreedCentreKeys) {
        self.agent.centre.follow(agreed);
    }

    /// The key that the query manager seals requests to.
    pub fn inbox_key(&self) -> HpkePublicKey {
        self.agent.inbox_key.public_key()
    }

    /// Opens a request from the agent's inbox, made to it or to the patient's, and checks certificates,
    /// signatures and inbox on this device. Whether the doctors' keys are in force is asked of the chain before the answer.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn open_request(
        &self,
        sealed: &[u8],
        now: Timestamp,
    ) -> Result<VerifiedRequest, AgentError> {
        let agent = &self.agent;
        let key = &agent.inbox_key;
        let opened = agent
            .inbox
            .open(&agent.consortium, &agent.centre, key, sealed, now);
        Ok(opened?)
    }

    /// Answers a request for the episode, once, in place of the patient. Every act is marked as the
    /// agent's: the grant carries the appointment.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn answer(
        &mut self,
        request: &VerifiedRequest,
        decision: &AgentDecision,
        agreed: &[AgreedKey],
        nodes: &ServingNodes<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<AgentAnswer, AgentError> {
        request.still_issued(&self.agent.centre)?;
        if !all_in_force(request, agreed) {
            return Err(AgentError::NotInForce);
        }
        if !self.agent.inbox.awaits(&self.agent.consortium, request) {
            return Err(AgentError::AnotherInbox);
        }
        if decision.expiry > self.appointment.terms().end {
            return Err(AgentError::Ended);
        }
        let classes = decision
            .classes
            .iter()
            .map(|class| {
                let held = self.classes.iter().find(|held| held.class == *class);
                let held = held.ok_or(AgentError::OutOfScope)?;
                Ok(GrantedClass {
                    condition: held.condition.clone(),
                    label_key: held.label_key.clone(),
                })
            })
            .collect::<Result<Vec<_>, AgentError>>()?;
        let reach = Reach {
            trapdoors: self.trapdoors.clone(),
            entries: Vec::new(),
        };
        let revocation = SigningKey::random(rng);
        let parts = PackageParts {
            episode_key: self.appointment.episode_key().clone(),
            request,
            grantees: request.grantees(0).ok_or(AgentError::AnotherInbox)?,
            validity: (decision.not_before, decision.expiry),
            validator_epoch: nodes.keys.epoch,
            nodes: &nodes.check()?,
            threshold: decision.threshold,
            classes: &classes,
            reach: &reach,
            granter: &Granter::Agent(&self.agent.key, &self.appointment),
        };
        let here = &self.agent.consortium;
        let (package, log_key) = package(here, parts, &revocation, rng)?;
        let act = AgentAct {
            revocation: revocation.clone(),
            log_key,
            expiry: decision.expiry,
            recipients: request.note_recipients(),
            answers: Answered {
                not_before: decision.not_before,
                purpose: request.terms().purpose.clone(),
                classes: decision.classes.clone(),
                team: request.team(0),
            },
        };
        let sealed = |(handle, key): &(InboxHandle, HpkePublicKey)| {
            let sealed = act.seal(here, &self.appointment.terms().id, key, rng)?;
            Ok::<_, UnusableKey>((*handle, sealed))
        };
        let act = self.patient.as_ref().map(sealed).transpose()?;
        let gid = GrantId::of(here, &revocation.verifying_key());
        self.grants
            .push((gid, request.note_recipients(), revocation));
        self.agent.inbox.answered(request);
        Ok(AgentAnswer { package, act })
    }

    /// Revokes a grant that this agent gave.
    pub fn revoke(&self, gid: &GrantId) -> Option<Transaction> {
        let (_, _, key) = self.grants.iter().find(|(own, ..)| own == gid)?;
        Some(Transaction::Revocation(Revocation::sign(
            &self.agent.consortium,
            key,
        )))
    }

    /// Tells each doctor of a request which of this agent's grants answer it or were revoked.
    ///
    /// # Errors
    /// [`AgentError::NotOurs`] if a grant is not this agent's; [`AgentError`] if nothing can be sealed
    /// to a doctor's key.
    pub fn seal_note(
        &self,
        note: &AnswerNote,
        recipients: &NoteRecipients,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<SealedNote>, AgentError> {
        let own = |gid: &GrantId| self.grants.iter().any(|(given, ..)| given == gid);
        if !note.grants().iter().all(own) {
            return Err(AgentError::NotOurs);
        }
        Ok(note.seal(&self.agent.consortium, recipients, rng)?)
    }

    /// The agent's own reading of a section in scope, without nodes or log; `None` if the class is
    /// not in scope or the container has no such section.
    pub fn own_section(
        &self,
        header: &Header,
        class: ClassCode,
    ) -> Option<(SectionIndex, SectionSecret)> {
        let held = self.classes.iter().find(|held| held.class == class)?;
        let index = header.find(&held.label_key)?;
        let secret = held.condition.section_secret(header.encapsulation());
        Some((index, secret))
    }
}
