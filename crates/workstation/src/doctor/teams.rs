//! A care team's request: colleagues of the hospital are invited, join, and sign one request together,
//! each on an own machine. Messages go through the hospital's server, sealed.

use client::{ClientError, ColleagueMessage, now};
use parties::{
    AccessRequest, COLLEAGUES_MAX, Certificate, Doctor, DoctorPublicKeys, Holder, Reader,
    RequestTerms, Standing, TeamError, TeamInvitation, TeamLead, TeamMessage, UnsignedRequest,
};
use record::SectionClass;
use scheme::DoctorId;

use super::state::{LETTERS_MAX, REQUESTS_MAX, TEAMS_MAX};
use super::{Ask, DoctorDesk};
use crate::error::{WorkError, not, only};
use crate::network::Progress;

/// Colleagues that are listed: ten pages of the hospital's server.
const LISTED_MAX: usize = 1_000;

/// How far a colleague of a team is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColleagueState {
    /// Was asked, and has not answered.
    Invited,
    /// Joined.
    Joined,
    /// Signed the request.
    Signed,
    /// Does not take part.
    Out,
}

/// A team that this doctor gathers for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamView {
    /// Names it, in hexadecimal.
    pub id: String,
    /// Why the patient is asked.
    pub purpose: String,
    /// Until when the request can be answered, in ms since 1970.
    pub not_after: u64,
    /// The colleagues' ids, each with how far they are.
    pub colleagues: Vec<(u64, ColleagueState)>,
    /// Whether those who joined are asked to sign now.
    pub closed: bool,
}

/// A team that this doctor is asked to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationView {
    /// Names it, in hexadecimal.
    pub id: String,
    /// The doctor who asks.
    pub lead: u64,
    /// Why the patient is asked.
    pub purpose: String,
    /// The section classes that are asked for.
    pub classes: Vec<SectionClass>,
    /// Until when the request can be answered, in ms since 1970.
    pub not_after: u64,
    /// Whether this doctor joined.
    pub joined: bool,
    /// Whether this doctor's program signed the request.
    pub signed: bool,
}

impl DoctorDesk {
    /// The ids of this hospital's other doctors who are not blocked, ascending; 1,000 at most.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn colleagues(&self) -> Result<Vec<u64>, WorkError> {
        let own = self.numbers()?.1;
        let hospital = self.hospital().await?;
        let (mut ids, mut after) = (Vec::new(), None);
        while ids.len() < LISTED_MAX {
            let page = hospital.doctors(after).await?;
            let there = page.doctors.iter().filter(|one| one.blocked.is_none());
            ids.extend(there.map(|one| one.id).filter(|id| *id != own.number()));
            match page.next {
                Some(next) => after = Some(DoctorId::new(next)),
                None => break,
            }
        }
        ids.truncate(LISTED_MAX);
        Ok(ids)
    }

    /// Begins a request of a team: asks colleagues to join it. The patient is asked once everyone who
    /// joined has signed.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn invite(
        &mut self,
        ask: &Ask,
        colleagues: &[DoctorId],
        progress: &mut dyn Progress,
    ) -> Result<TeamView, WorkError> {
        let (terms, reader) = self.begin_request(ask).await?;
        if self.state.led.len() >= TEAMS_MAX {
            return not(
                "this keystore gathers as many teams as it can: send or cancel one of them first",
            );
        }
        if colleagues.len() > COLLEAGUES_MAX {
            return not(format!(
                "a team has {COLLEAGUES_MAX} doctors besides you at most: choose fewer"
            ));
        }
        progress.step("asking the colleagues to join");
        let team = TeamLead::new(terms, ask.inbox, reader, colleagues)?;
        let invitation = team.invitation();
        self.state.led.push(team);
        for id in colleagues {
            self.write_letter(*id, &invitation).await?;
        }
        self.save()?;
        self.send_letters().await?;
        let last = self.state.led.len() - 1;
        Ok(team_view(&self.state.led[last]))
    }

    /// The teams that this doctor gathers.
    pub fn teams(&self) -> Vec<TeamView> {
        self.state.led.iter().map(team_view).collect()
    }

    /// The teams that this doctor is asked to join.
    pub fn invitations(&self) -> Vec<InvitationView> {
        self.state.invited.iter().map(invitation_view).collect()
    }

    /// Joins a team: this machine signs its request, once it is exactly what was joined.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn join(&mut self, id: &str) -> Result<InvitationView, WorkError> {
        let at = self.invitation_of(id)?;
        let certificate = self.certificate()?.clone();
        let (here, centre) = (self.network.consortium(), self.centre.clone());
        let invitation = &mut self.state.invited[at];
        let grants = invitation.grants();
        let reader = Reader::new(here, centre, certificate, grants, &mut self.rng);
        let part = invitation.join(reader);
        let lead = invitation.lead();
        self.write_letter(lead, &part).await?;
        self.save()?;
        self.send_letters().await?;
        Ok(invitation_view(&self.state.invited[at]))
    }

    /// Does not join a team.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn decline_team(&mut self, id: &str) -> Result<(), WorkError> {
        let at = self.invitation_of(id)?;
        let invitation = self.state.invited.remove(at);
        let nonce = invitation.terms().nonce;
        self.write_letter(invitation.lead(), &TeamMessage::Declined { nonce })
            .await?;
        self.save()?;
        self.send_letters().await
    }

    /// Asks the patient with those who joined so far. Done again, those who have not signed meanwhile are
    /// left out.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn close_team(
        &mut self,
        id: &str,
        progress: &mut dyn Progress,
    ) -> Result<(), WorkError> {
        self.follow_centre().await?;
        let at = self.led(id)?;
        self.close_at(at).await?;
        self.save()?;
        self.send_letters().await?;
        if self.state.led[at].is_signed() {
            self.send_request(at, progress).await?;
        }
        Ok(())
    }

    /// Gives a team up: the patient is not asked.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn cancel_team(&mut self, id: &str) -> Result<(), WorkError> {
        let at = self.led(id)?;
        self.state.led.remove(at);
        self.save()
    }

    /// Takes what colleagues sent and does what follows from it: keeps invitations, signs what was joined,
    /// sends the request once everyone has signed. Gives what could not be followed, and why.
    ///
    /// # Errors
    /// [`WorkError`] if a service or the keystore does not answer.
    pub async fn follow_teams(
        &mut self,
        progress: &mut dyn Progress,
    ) -> Result<Vec<String>, WorkError> {
        self.forget_ended_teams()?;
        self.send_letters().await?;
        let hospital = self.hospital().await?;
        let messages = hospital.messages().await?;
        let mut refused = Vec::new();
        if !messages.is_empty() {
            self.follow_centre().await?;
        }
        for message in messages {
            let why = match self.take_message(&message).await {
                Ok(taken) => taken.err().map(|why| client::sentence(&why)),
                Err(error) if is_ours_to_repeat(&error) => return Err(error),
                // What is wrong with one message holds up no other.
                Err(error) => Some(client::sentence(&error)),
            };
            if let Some(why) = why {
                refused.push(format!("message of doctor {}: {why}", message.from));
            }
            // Kept before it is removed there.
            self.save()?;
            hospital.remove_message(message.id).await?;
        }
        for at in (0..self.state.led.len()).rev() {
            let purpose = self.state.led[at].terms().purpose.clone();
            match self.follow_team(at, progress).await {
                Ok(()) => {}
                Err(error) if is_ours_to_repeat(&error) => return Err(error),
                Err(error) => {
                    refused.push(format!(
                        "the team for {purpose:?}: {}",
                        client::sentence(&error)
                    ));
                }
            }
        }
        self.send_letters().await?;
        Ok(refused)
    }

    /// Closes a team once everyone has answered, and sends its request once everyone has signed.
    async fn follow_team(
        &mut self,
        at: usize,
        progress: &mut dyn Progress,
    ) -> Result<(), WorkError> {
        let team = &self.state.led[at];
        let is_any = |is: fn(&Standing) -> bool| team.colleagues().iter().any(|(_, one)| is(one));
        let waits = is_any(|one| matches!(one, Standing::Invited));
        let joined = is_any(|one| matches!(one, Standing::Joined(_)));
        if team.draft().is_none() && !waits && joined {
            self.close_at(at).await?;
            self.save()?;
        }
        if self.state.led[at].is_signed() {
            self.send_request(at, progress).await?;
        }
        Ok(())
    }

    /// Teams whose request can be answered no more are over.
    fn forget_ended_teams(&mut self) -> Result<(), WorkError> {
        let (led, invited) = (self.state.led.len(), self.state.invited.len());
        let time = now();
        self.state.led.retain(|one| one.terms().not_after > time);
        self.state
            .invited
            .retain(|one| one.terms().not_after > time);
        if (led, invited) != (self.state.led.len(), self.state.invited.len()) {
            self.save()?;
        }
        Ok(())
    }

    async fn take_message(
        &mut self,
        message: &ColleagueMessage,
    ) -> Result<Result<(), TeamError>, WorkError> {
        let doctor = self.doctor()?;
        let from = DoctorId::new(message.from);
        let opened = match TeamMessage::open(&doctor, from, &message.sealed.0) {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        match opened {
            TeamMessage::Invitation(invitation) => {
                let known = |one: &TeamInvitation| one.is_about(&invitation.terms);
                let full = self.state.invited.len() >= TEAMS_MAX;
                if full || self.state.invited.iter().any(known) {
                    return Ok(Err(TeamError::NotAwaited));
                }
                let own = doctor.public_keys();
                let new = TeamInvitation::new(own, from, invitation, now());
                Ok(new.map(|new| self.state.invited.push(new)))
            }
            TeamMessage::Draft(draft) => self.sign_draft(&doctor, from, *draft).await,
            TeamMessage::Request(request) => self.keep_team_request(&request),
            answer => {
                let here = self.network.consortium();
                let (centre, time) = (&self.centre, now());
                let nonce = match &answer {
                    TeamMessage::Part { nonce, .. } | TeamMessage::Declined { nonce } => {
                        Some(*nonce)
                    }
                    _ => None,
                };
                let draft = match &answer {
                    TeamMessage::Signature { draft, .. } => Some(*draft),
                    _ => None,
                };
                let is_of = |team: &&mut TeamLead| {
                    nonce.is_some_and(|nonce| nonce == team.terms().nonce)
                        || draft.is_some_and(|digest| {
                            team.draft()
                                .is_some_and(|own| scheme::sha256(&own.encode()) == digest)
                        })
                };
                match self.state.led.iter_mut().find(is_of) {
                    Some(team) => Ok(team.take(from, answer, &here, centre, time)),
                    None => Ok(Err(TeamError::NotAwaited)),
                }
            }
        }
    }

    async fn sign_draft(
        &mut self,
        doctor: &Doctor,
        from: DoctorId,
        draft: UnsignedRequest,
    ) -> Result<Result<(), TeamError>, WorkError> {
        let mut invited = self.state.invited.iter_mut();
        let found = invited.find(|one| one.is_about(draft.terms()) && one.lead() == from);
        let Some(invitation) = found else {
            return Ok(Err(TeamError::NotAwaited));
        };
        match invitation.sign(draft, doctor, &self.centre, now()) {
            Ok(signature) => {
                self.write_letter(from, &signature).await?;
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// A request that this doctor signed and its lead sent: so its grants can be opened here.
    fn keep_team_request(
        &mut self,
        request: &AccessRequest,
    ) -> Result<Result<(), TeamError>, WorkError> {
        let terms = request.terms_unverified().clone();
        let mut invited = self.state.invited.iter();
        let Some(at) = invited.position(|one| one.is_about(&terms)) else {
            return Ok(Err(TeamError::NotAwaited));
        };
        let here = self.network.consortium();
        let checked = request.clone().verify(&here, &self.centre, now());
        let verified = match checked {
            Ok(verified) => verified,
            Err(error) => return Ok(Err(error.into())),
        };
        if self.state.requests.len() >= REQUESTS_MAX {
            return not(
                "this keystore holds as many requests as it can: wait until some have ended",
            );
        }
        match self.state.invited.remove(at).complete(request) {
            Ok(reader) => {
                self.keep_request(&verified, terms, None, reader)?;
                Ok(Ok(()))
            }
            Err(invitation) => {
                self.state.invited.insert(at, *invitation);
                Ok(Err(TeamError::NotWhatWasJoined))
            }
        }
    }

    /// Closes a team and asks those who joined to sign.
    async fn close_at(&mut self, at: usize) -> Result<(), WorkError> {
        let here = self.network.consortium();
        let closed = self.state.led[at].close(&here, &self.centre, now());
        let draft = match closed {
            Ok(draft) => draft.clone(),
            Err(error) => return not(client::sentence(&error)),
        };
        let signers: Vec<DoctorId> = self.state.led[at]
            .colleagues()
            .iter()
            .filter(|(_, standing)| matches!(standing, Standing::Joined(_)))
            .map(|(id, _)| *id)
            .collect();
        let message = TeamMessage::Draft(Box::new(draft));
        for id in signers {
            self.write_letter(id, &message).await?;
        }
        Ok(())
    }

    /// Sends the request that everyone signed, to the patient and to its doctors.
    async fn send_request(
        &mut self,
        at: usize,
        progress: &mut dyn Progress,
    ) -> Result<(), WorkError> {
        let doctor = self.doctor()?;
        let team = &self.state.led[at];
        let terms: RequestTerms = team.terms().clone();
        let request = match team.complete(&doctor) {
            Ok(request) => request,
            Err(error) => return not(client::sentence(&error)),
        };
        let signers: Vec<DoctorId> = team
            .colleagues()
            .iter()
            .filter(|(_, standing)| matches!(standing, Standing::Signed(..)))
            .map(|(id, _)| *id)
            .collect();
        let here = self.network.consortium();
        let verified = match request.clone().verify(&here, &self.centre, now()) {
            Ok(verified) => verified,
            Err(error) => {
                return not(format!(
                    "the team's request does not stand: {}; cancel it and ask again",
                    client::sentence(&error)
                ));
            }
        };
        if self.state.requests.len() >= REQUESTS_MAX {
            return not(
                "this keystore holds as many requests as it can: wait until some have ended",
            );
        }
        let message = TeamMessage::Request(Box::new(request));
        for id in signers {
            self.write_letter(id, &message).await?;
        }
        let (reader, handle, salt) = self.state.led.remove(at).into_parts();
        self.keep_request(&verified, terms, Some((handle, salt)), reader)?;
        self.deliver_last(&verified, progress).await?;
        self.send_letters().await
    }

    /// Puts a message into the outgoing ones, sealed to a colleague.
    async fn write_letter(&mut self, to: DoctorId, message: &TeamMessage) -> Result<(), WorkError> {
        if self.state.letters.len() >= LETTERS_MAX {
            return not(
                "as many messages to colleagues wait as this keystore holds: try again once the hospital's server is there",
            );
        }
        let colleague = self.colleague(to).await?;
        let doctor = self.doctor()?;
        let sealed = message
            .seal(&doctor, &colleague, &mut self.rng)
            .map_err(parties::PatientError::from)?;
        self.state.letters.push((to, sealed));
        Ok(())
    }

    /// Sends what has not arrived. A colleague who is not there any more gets nothing.
    async fn send_letters(&mut self) -> Result<(), WorkError> {
        if self.state.letters.is_empty() {
            return Ok(());
        }
        let hospital = self.hospital().await?;
        let mut at = 0;
        while let Some((to, sealed)) = self.state.letters.get(at).cloned() {
            match hospital.send_message(to, sealed).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                // One colleague's full mailbox holds up nobody else's message; it is tried again.
                Err(ClientError::Refused(_)) => {
                    at += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            self.state.letters.remove(at);
            self.save()?;
        }
        Ok(())
    }

    /// A colleague's certified keys, as the hospital's server has them.
    async fn colleague(&self, id: DoctorId) -> Result<DoctorPublicKeys, WorkError> {
        let found = self.hospital().await?.doctor(id).await?;
        let certificate = Certificate::decode(&found.certificate.0)?;
        let here = self.network.consortium();
        let holder = certificate
            .verify(&here, &self.centre, now())
            .map_err(parties::HandoverError::from)?;
        match holder {
            Holder::Doctor(doctor)
                if doctor.id == id && doctor.institution == self.state.institution =>
            {
                Ok(*doctor)
            }
            _ => not(format!(
                "the hospital's server gave another certificate for doctor {}: tell its IT",
                id.number()
            )),
        }
    }

    fn led(&self, id: &str) -> Result<usize, WorkError> {
        let found = self.state.led.iter().enumerate();
        let found = found.filter(|(_, one)| hex::encode(one.terms().nonce).starts_with(id));
        only(
            found.map(|(at, _)| at),
            "this keystore gathers no such team: it was sent, cancelled, or has ended",
        )
    }

    fn invitation_of(&self, id: &str) -> Result<usize, WorkError> {
        let found = self.state.invited.iter().enumerate();
        let found = found.filter(|(_, one)| hex::encode(one.terms().nonce).starts_with(id));
        only(
            found.map(|(at, _)| at),
            "no such invitation waits: it was answered, or has ended",
        )
    }
}

/// Whether the same succeeds later: a service or this machine's disk is away.
fn is_ours_to_repeat(error: &WorkError) -> bool {
    match error {
        WorkError::Client(error) => error.is_passing(),
        WorkError::Keystore(_) | WorkError::File(..) => true,
        _ => false,
    }
}

fn team_view(team: &TeamLead) -> TeamView {
    let state = |standing: &Standing| match standing {
        Standing::Invited => ColleagueState::Invited,
        Standing::Joined(_) => ColleagueState::Joined,
        Standing::Signed(..) => ColleagueState::Signed,
        Standing::Declined => ColleagueState::Out,
    };
    TeamView {
        id: hex::encode(team.terms().nonce),
        purpose: team.terms().purpose.clone(),
        not_after: team.terms().not_after.number(),
        colleagues: team
            .colleagues()
            .iter()
            .map(|(id, standing)| (id.number(), state(standing)))
            .collect(),
        closed: team.draft().is_some(),
    }
}

fn invitation_view(invitation: &TeamInvitation) -> InvitationView {
    let terms = invitation.terms();
    InvitationView {
        id: hex::encode(terms.nonce),
        lead: invitation.lead().number(),
        purpose: terms.purpose.clone(),
        classes: terms
            .classes
            .iter()
            .filter_map(|class| SectionClass::from_code(class.code()))
            .collect(),
        not_after: terms.not_after.number(),
        joined: invitation.is_joined(),
        signed: invitation.is_signed(),
    }
}
