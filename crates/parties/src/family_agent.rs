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
    DecodeError, Decoder, Degenerate, GrantError, GrantId, GrantedClass, Granter, Header,
    HpkePrivateKey, HpkePublicKey, InboxHandle, InstitutionId, Purpose, Reach, SectionIndex,
    SectionSecret, SigningKey, TRAPDOORS_MAX, Threshold, Timestamp, Trapdoor, VerifyingKey, Writer,
    WriterEpoch, WriterTrapdoor,
};
use thiserror::Error;

use crate::centre_keys::CentreKeys;
use crate::consortium_chain::{AgreedCentreKeys, AgreedKey, GrantPackage};
use crate::granting::{NoNodes, PackageParts, ServingNodes, package};
use crate::inbox::{Inbox, NotAsked};
use crate::query_manager::{ForwardError, all_in_force};
use crate::request::{RequestError, VerifiedRequest};

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

    /// What the patient needs to appoint this agent.
    pub fn offer(&self) -> AgentOffer {
        AgentOffer {
            agent: self.key.verifying_key(),
            hpke: self.hpke.public_key(),
        }
    }

    /// Opens an appointment: signed under E, for this key, with a key for each class in scope.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn accept(self, sealed: &[u8]) -> Result<Appointed, AgentError> {
        let here = &self.consortium;
        let subject = self.key.verifying_key();
        let plain = self
            .hpke
            .open(Purpose::Appointment, here, subject.as_bytes(), sealed)
            .map_err(|_| AgentError::NotForUs)?;
        let mut from = Decoder::new(&plain);
        let appointment = Appointment::decode(here, from.var("the appointment", 1024)?)?;
        if !appointment.is_signed_by_owner(here) || appointment.agent() != subject {
            return Err(AgentError::Forged);
        }
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
        Ok(Appointed {
            agent: self,
            appointment,
            classes,
            trapdoors,
            grants: Vec::new(),
        })
    }
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
    appointment: Appointment,
    classes: Vec<AgentClass>,
    trapdoors: Vec<WriterTrapdoor>,
    grants: Vec<(GrantId, SigningKey)>,
}

impl Appointed {
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

    /// Opens a request from the agent's inbox and checks certificates, signatures and inbox on this
    /// device. Whether the doctors' keys are in force is asked of the chain before the answer.
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
    ) -> Result<GrantPackage, AgentError> {
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
        let (package, _) = package(&self.agent.consortium, parts, &revocation, rng)?;
        let gid = GrantId::of(&self.agent.consortium, &revocation.verifying_key());
        self.grants.push((gid, revocation));
        self.agent.inbox.answered(request);
        Ok(package)
    }

    /// Revokes a grant that this agent gave.
    pub fn revoke(&self, gid: &GrantId) -> Option<Transaction> {
        let (_, key) = self.grants.iter().find(|(own, _)| own == gid)?;
        Some(Transaction::Revocation(Revocation::sign(
            &self.agent.consortium,
            key,
        )))
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
