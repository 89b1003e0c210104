//! Answering requests (step 7), revoking (step 11), and the access log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use client::{AnswerKind, ClientError, TRACED, now};
use ledger::{RequestCommitment, Transaction};
use parties::{AnswerNote, Decision, ServingNodes, TeamMember, VerifiedRequest};
use scheme::{AppointmentId, DoctorId, GrantId, InstitutionId, Keyword, Timestamp, VerifyingKey};
use tracing::instrument;

use super::{
    AccessView, AnsweredView, BEGINS_BEFORE_MS, GivenView, Grants, PatientDevice, is_unknown,
    known_classes,
};
use crate::error::{WorkError, not, only};
use crate::inbox::{
    AskedView, asked_view, granted_classes, in_force, one_of, threshold, wait_for_requests,
};
use crate::network::{Progress, Unit, run_search};
use crate::outgoing::{Answer, OUTGOING_MAX, TOO_MANY_ON_THE_WAY};

/// How long after its end a grant is asked about no more: an hour.
const OVER_AFTER_MS: u64 = 60 * 60 * 1000;

impl PatientDevice {
    /// The requests that wait for an answer; waits for the first within a bound. Those that do not
    /// stand are left out and said apart.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn requests(
        &mut self,
        bound: Duration,
    ) -> Result<(Vec<AskedView>, Vec<String>), WorkError> {
        self.follow_centre().await?;
        let query = self.query()?;
        let waiting = wait_for_requests(&query, bound).await?;
        let (mut asked, mut wrong) = (Vec::new(), Vec::new());
        for request in waiting {
            match self.state.patient.open_request(&request.sealed.0, now()) {
                Ok(request) => asked.push(asked_view(&request)),
                Err(error) => {
                    wrong.push(format!(
                        "request {}: {}",
                        request.id,
                        client::sentence(&error)
                    ));
                }
            }
        }
        Ok((asked, wrong))
    }

    /// The stays that have a record of the stroke pathway, by their numbers: found by the patient's own
    /// search, in every writer epoch of each hospital.
    ///
    /// # Errors
    /// [`WorkError`] if f + 1 nodes do not agree.
    pub async fn cerebrovascular_episodes(
        &self,
        progress: &mut dyn Progress,
    ) -> Result<Vec<usize>, WorkError> {
        progress.step("looking for stays with a stroke among their records");
        let keyword = Keyword::new(record::Keyword::cerebrovascular().as_str().as_bytes())?;
        let client = self.network.client();
        let mut found = Vec::new();
        for (at, place) in self.places().into_iter().enumerate() {
            let (_, episode) = self.place(at + 1)?;
            for (epoch, key) in client.writer_epochs(episode.institution).await?.epochs {
                let patient = &self.state.patient;
                let mut search = patient.keyword_search(place, &keyword, (epoch, &key))?;
                run_search(client, &mut search).await?;
                if search.is_found() {
                    found.push(at + 1);
                    break;
                }
            }
        }
        Ok(found)
    }

    async fn asked(&mut self, id: &str) -> Result<VerifiedRequest, WorkError> {
        self.follow_centre().await?;
        let waiting = self.query()?.inbox().await?.waiting;
        let sealed = &one_of(&waiting, id)?.sealed.0;
        Ok(self.state.patient.open_request(sealed, now())?)
    }

    /// Answers a request with grants: to the accounting hospitals, to the chain, and to the query
    /// manager with a note for each doctor.
    ///
    /// # Errors
    /// [`WorkError`].
    #[instrument(target = TRACED, name = "7 grant", skip_all)]
    pub async fn grant(
        &mut self,
        id: &str,
        grants: &Grants,
        progress: &mut dyn Progress,
    ) -> Result<Vec<GivenView>, WorkError> {
        if self.state.answers.len() >= OUTGOING_MAX {
            return not(TOO_MANY_ON_THE_WAY);
        }
        let request = self.asked(id).await?;
        let client = self.network.client();
        let agreed = in_force(&self.network, &request).await?;
        let keys = client.node_keys().await?;
        let set = client.nodes_of(keys.epoch);
        let nodes = ServingNodes {
            set: &set,
            keys: &keys,
        };
        let threshold = threshold(&self.network, &nodes, grants.threshold)?;
        let classes = granted_classes(&request, &grants.classes)?;
        let keywords = if grants.keywords.is_empty() {
            vec![Keyword::any_record()]
        } else {
            grants.keywords.clone()
        };
        let time = now();
        let expiry = Timestamp::new(time.number() + grants.minutes.saturating_mul(60_000));
        let (mut decisions, mut epochs) = (Vec::new(), Vec::new());
        for number in &grants.episodes {
            let (place, episode) = self.place(*number)?;
            let institution = episode.institution;
            epochs.push(client.writer_epochs(institution).await?);
            decisions.push(Decision {
                episode: place,
                classes: classes.clone(),
                keywords: keywords.clone(),
                not_before: Timestamp::new(time.number().saturating_sub(BEGINS_BEFORE_MS)),
                expiry,
                threshold,
            });
        }
        if decisions.is_empty() {
            return not("a grant opens at least one episode: see `willis patient episodes`");
        }
        progress.step("making the grants");
        let packages = self.state.patient.answer(
            &request,
            &decisions,
            &agreed,
            &epochs,
            &nodes,
            &mut self.rng,
        )?;
        let note = AnswerNote::granted(&self.network.consortium(), &packages);
        let recipients = request.note_recipients();
        let notes = self
            .state
            .patient
            .seal_note(&note, &recipients, &mut self.rng)?;
        // Kept before anything leaves this device, with the keys that revoke it.
        self.state.answers.push(Answer {
            request: request.commitment(),
            until: expiry,
            threshold: threshold.count() as u8,
            packages,
            notes,
            act: None,
        });
        self.save()?;
        progress.step(
            "giving them to the accounting hospitals and to the chain, and telling the doctors",
        );
        let delivered = self.deliver().await;
        self.keep().await?;
        if let Err(error) = delivered {
            return not(format!(
                "the grants are made and kept, and not everywhere yet: {}; each later command tries again",
                client::sentence(&error)
            ));
        }
        let given = note.grants();
        let mut views = self.grants().await?;
        views.retain(|view| {
            given
                .iter()
                .any(|gid| hex::encode(gid.as_bytes()) == view.gid)
        });
        Ok(views)
    }

    /// Takes what agents' devices told of the grants that they gave: each that the chain has is from then on
    /// among this patient's. Gives how many are new.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn take_acts(&mut self) -> Result<usize, WorkError> {
        let query = self.query()?;
        let mut new = 0;
        for told in query.acts().await? {
            // What is of no appointment of this patient, outside it, or known, says nothing.
            if let Ok(act) = self.state.patient.open_act(&told.sealed.0) {
                let found = self.network.client().agreed_grant(act.gid()).await?;
                let Some(on_chain) = found else {
                    // It is told after it was recorded; these nodes are behind.
                    continue;
                };
                if on_chain.state.expiry == act.expiry() {
                    self.state.patient.keep_act(act)?;
                    self.save()?;
                    new += 1;
                }
            }
            query.remove_act(told.id).await?;
        }
        if new > 0 {
            self.keep().await?;
        }
        Ok(new)
    }

    /// Declines a request.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn decline(&mut self, id: &str) -> Result<(), WorkError> {
        let waiting = self.query()?.inbox().await?.waiting;
        let commitment = RequestCommitment::new(one_of(&waiting, id)?.id.0);
        self.query()?
            .answer(commitment, AnswerKind::Declined, None, Vec::new())
            .await?;
        Ok(())
    }

    /// The grants that this patient gave, with what the chain says of them.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn grants(&self) -> Result<Vec<GivenView>, WorkError> {
        let places = self.places();
        let withdrawn = |by: Option<&AppointmentId>| {
            let mut appointments = self.state.patient.appointments().iter();
            by.is_some_and(|id| appointments.any(|one| one.withdrawn && one.id == *id))
        };
        let mut views = Vec::new();
        for grant in self.state.patient.grants() {
            let over = self.over().get(&grant.gid).copied();
            let revoked = match over {
                Some(revoked) => revoked,
                None => {
                    let found = self.network.client().agreed_grant(grant.gid).await?;
                    found.map(|found| found.state.revoked)
                }
            };
            // Clocks differ by less, so that no block is to come in which it still stood.
            if grant.expiry.number() + OVER_AFTER_MS < now().number() {
                self.over().insert(grant.gid, revoked);
            }
            let at = places.iter().position(|place| *place == grant.episode);
            views.push(GivenView {
                gid: hex::encode(grant.gid.as_bytes()),
                episode: at.map_or(0, |at| at + 1),
                expiry: grant.expiry.number(),
                // No node serves an agent's grant under an appointment that was withdrawn.
                revoked: revoked.map(|revoked| revoked || withdrawn(grant.by.as_ref())),
                answers: grant.answers.as_ref().map(|answers| AnsweredView {
                    not_before: answers.not_before.number(),
                    purpose: answers.purpose.clone(),
                    classes: known_classes(&answers.classes),
                    team: answers.team.iter().map(who).collect(),
                }),
                by_agent: grant.by.map(|id| hex::encode(id.as_bytes())),
            });
        }
        Ok(views)
    }

    fn over(&self) -> MutexGuard<'_, BTreeMap<GrantId, Option<bool>>> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn given(&self, gid: &str) -> Result<GrantId, WorkError> {
        let found = self
            .state
            .patient
            .grants()
            .iter()
            .map(|grant| grant.gid)
            .filter(|own| hex::encode(own.as_bytes()).starts_with(gid));
        only(
            found,
            "this device gave no such grant: see `willis patient grants`",
        )
    }

    /// Revokes a grant: final on the chain, and its doctors are told.
    ///
    /// # Errors
    /// [`WorkError`]; whether the revocation is final says the first part of the text.
    #[instrument(target = TRACED, name = "11 revoke", skip_all)]
    pub async fn revoke(
        &mut self,
        gid: &str,
        progress: &mut dyn Progress,
    ) -> Result<(), WorkError> {
        let gid = self.given(gid)?;
        let revocation = self.state.patient.revoke(&gid)?;
        progress.step("recording the revocation on the chain");
        self.network.submit(&revocation).await?;
        progress.step("telling the doctors");
        let found = self
            .state
            .patient
            .grants()
            .iter()
            .find(|grant| grant.gid == gid);
        // Only who answered can add notes: an agent's doctors see the revocation on the chain.
        let own = found.filter(|grant| grant.by.is_none());
        let Some(recipients) = own.map(|grant| grant.recipients.clone()) else {
            return Ok(());
        };
        let note = AnswerNote::Revoked(vec![gid]);
        let notes = self
            .state
            .patient
            .seal_note(&note, &recipients, &mut self.rng)?;
        // The account that answered adds notes: one of before, if the grant is of before.
        let mut told = Err(ClientError::Nobody);
        for account in self.query_accounts() {
            let query = self.network.query(account)?;
            told = query.add_notes(recipients.request, notes.clone()).await;
            if !is_unknown(&told) {
                break;
            }
        }
        match told {
            Ok(_) => Ok(()),
            Err(error) => not(format!(
                "the grant is revoked, but its doctors could not be told: {}",
                client::sentence(&error)
            )),
        }
    }

    /// The access log of a grant: every access that the chain has recorded under it.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn log(
        &self,
        gid: &str,
        progress: &mut dyn Progress,
    ) -> Result<Vec<AccessView>, WorkError> {
        let gid = self.given(gid)?;
        let client = self.network.client();
        let Some(on_chain) = client.agreed_grant(gid).await? else {
            return not("the chain has no such grant: nothing was read under it");
        };
        let end = client.height().await?;
        let mut from = on_chain.state.recorded;
        let grants = self.state.patient.grants();
        let answers = grants.iter().find(|grant| grant.gid == gid);
        let answers = answers.and_then(|grant| grant.answers.as_ref());
        let doctor = |key: &VerifyingKey| {
            let mut team = answers?.team.iter();
            team.find(|member| &member.access_key == key).map(who)
        };
        // Its own block names the access keys; whoever reads them reads the log.
        let mut keys = BTreeSet::new();
        let mut views = Vec::new();
        let whole = end.number().saturating_sub(from.number());
        while from <= end {
            let headers = match client.headers(from).await {
                // The newest block's certificate can come with the next block.
                Err(ClientError::Refused(_)) => break,
                headers => headers?,
            };
            for header in headers {
                let left = end.number().saturating_sub(header.height.number());
                progress.part(whole.saturating_sub(left), whole, Unit::Blocks);
                from = header.height.next();
                if header.time > on_chain.state.expiry {
                    return Ok(views);
                }
                if header.count == 0 {
                    // A heartbeat: nothing is in it.
                    continue;
                }
                let block = client.block(&header).await?;
                for transaction in block.transactions() {
                    match transaction {
                        Transaction::Grant(grant)
                            if GrantId::of(
                                &self.network.consortium(),
                                &grant.entry.revocation_key,
                            ) == gid =>
                        {
                            keys.extend(grant.entry.access_keys.iter().copied());
                        }
                        Transaction::Access(access) => {
                            for entry in &access.entries {
                                if keys.contains(&entry.access_key) {
                                    views.push(AccessView {
                                        gid: hex::encode(gid.as_bytes()),
                                        number: entry.number.number(),
                                        doctor: doctor(&entry.access_key),
                                        time: header.time.number(),
                                        record: self.state.patient.read_log(&gid, entry),
                                        access_key: hex::encode(entry.access_key.as_bytes()),
                                    });
                                }
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(views)
    }
}

fn who(member: &TeamMember) -> (DoctorId, InstitutionId) {
    (member.doctor, member.institution)
}
