//! A family agent's device: keys for each episode that it was appointed for, and answers in the
//! patient's place.

use std::path::Path;
use std::time::Duration;

use client::{AnswerKind, QueryClient, SystemRandom, TRACED, now};
use ledger::RequestCommitment;
use parties::{
    AgentDecision, AgentOffer, AnswerNote, Appointed, CentreKeys, FamilyAgent, ServingNodes,
};
use record::SectionClass;
use scheme::{
    AppointmentId, Decoder, Encoder, GrantId, HpkePublicKey, InboxHandle, SigningKey, Timestamp,
    VerifyingKey,
};
use tracing::instrument;
use zeroize::Zeroizing;

use crate::error::{WorkError, not, only};
use crate::inbox::{
    AskedView, asked_view, granted_classes, in_force, one_of, threshold, wait_for_requests,
};
use crate::keystore::{CONTENT_BYTES_MAX, Keystore, KeystoreKind};
use crate::network::{Network, Progress};
use crate::outgoing::{Answer, OUTGOING_MAX, TOO_MANY_ON_THE_WAY, deliver_all};

const VERSION: u8 = 1;
const OFFERS_MAX: usize = 64;
const APPOINTMENTS_MAX: usize = 1_024;
const PART_BYTES_MAX: usize = CONTENT_BYTES_MAX;

/// What an agent gives a patient who wants to appoint it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The agent's keys for one episode.
    pub keys: AgentOffer,
    /// The agent's inbox, which the patient names at the query manager.
    pub inbox: InboxHandle,
}

impl Offer {
    /// 160 hexadecimal digits.
    pub fn text(&self) -> String {
        let mut bytes = Vec::with_capacity(80);
        bytes.extend_from_slice(self.keys.agent.as_bytes());
        bytes.extend_from_slice(self.keys.hpke.as_bytes());
        bytes.extend_from_slice(self.inbox.as_bytes());
        hex::encode(bytes)
    }

    /// From its digits.
    ///
    /// # Errors
    /// [`WorkError::Not`] if they are none.
    pub fn parse(text: &str) -> Result<Self, WorkError> {
        let mut bytes = [0; 80];
        if hex::decode_to_slice(text.trim(), &mut bytes).is_err() {
            return not("an agent's offer has 160 hexadecimal digits: copy it whole");
        }
        let mut from = Decoder::new(&bytes);
        const WHAT: &str = "the agent's offer";
        Ok(Self {
            keys: AgentOffer {
                agent: VerifyingKey::new(from.array(WHAT)?),
                hpke: HpkePublicKey::new(from.array(WHAT)?),
            },
            inbox: InboxHandle::new(from.array(WHAT)?),
        })
    }
}

/// An appointment as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppointmentView {
    /// Names it on the chain, in hexadecimal.
    pub id: String,
    /// When it ends, in ms since 1970.
    pub end: u64,
    /// The classes in scope.
    pub scope: Vec<SectionClass>,
    /// Grants that were given under it, by gid.
    pub grants: Vec<String>,
}

/// One appointment with the account of its inbox: another one each, so that no service can tell that
/// two are the same agent's.
struct Kept {
    account: SigningKey,
    appointed: Appointed,
    /// Made, and not everywhere yet.
    answers: Vec<Answer>,
}

/// Keys that were offered, with the account of their inbox.
struct Offered {
    account: SigningKey,
    agent: FamilyAgent,
}

/// A family agent's device.
pub struct AgentDevice {
    network: Network,
    store: Keystore,
    centre: CentreKeys,
    offers: Vec<Offered>,
    appointments: Vec<Kept>,
    rng: SystemRandom,
}

impl AgentDevice {
    /// Makes a keystore that is not there yet.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn create(network: Network, path: &Path, passphrase: &str) -> Result<Self, WorkError> {
        let store = Keystore::create(
            path,
            KeystoreKind::Agent,
            passphrase,
            &[VERSION, 0, 0, 0, 0, 0, 0, 0, 0],
        )?;
        Ok(Self {
            centre: network.founding_keys(),
            network,
            store,
            offers: Vec::new(),
            appointments: Vec::new(),
            rng: SystemRandom,
        })
    }

    /// Opens an agent's keystore.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn open(network: Network, path: &Path, passphrase: &str) -> Result<Self, WorkError> {
        const WHAT: &str = "the agent's keystore";
        let (store, content) = Keystore::open(path, KeystoreKind::Agent, passphrase)?;
        let centre = network.founding_keys();
        let here = network.consortium();
        let mut from = Decoder::new(&content);
        if from.u8(WHAT)? != VERSION {
            return Err(scheme::DecodeError::Invalid {
                what: WHAT,
                why: "its version is unknown here",
            }
            .into());
        }
        let mut offers = Vec::new();
        for _ in 0..from.count(WHAT, OFFERS_MAX)? {
            let account = SigningKey::from_seed(from.array(WHAT)?);
            let part = from.var(WHAT, PART_BYTES_MAX)?;
            let agent = FamilyAgent::restore(here, centre.clone(), part)?;
            offers.push(Offered { account, agent });
        }
        let mut appointments = Vec::new();
        for _ in 0..from.count(WHAT, APPOINTMENTS_MAX)? {
            let account = SigningKey::from_seed(from.array(WHAT)?);
            let part = from.var(WHAT, PART_BYTES_MAX)?;
            let appointed = Appointed::restore(here, centre.clone(), part)?;
            let mut answers = Vec::new();
            for _ in 0..from.count(WHAT, OUTGOING_MAX)? {
                answers.push(Answer::decode(from.var(WHAT, CONTENT_BYTES_MAX)?)?);
            }
            appointments.push(Kept {
                account,
                appointed,
                answers,
            });
        }
        from.finish(WHAT)?;
        Ok(Self {
            network,
            store,
            centre,
            offers,
            appointments,
            rng: SystemRandom,
        })
    }

    fn save(&self) -> Result<(), WorkError> {
        let offers: Vec<_> = self.offers.iter().map(|one| one.agent.keep()).collect();
        let kept: Vec<_> = self
            .appointments
            .iter()
            .map(|kept| kept.appointed.keep())
            .collect();
        let answers: Vec<Vec<_>> = self
            .appointments
            .iter()
            .map(|kept| kept.answers.iter().map(Answer::encode).collect())
            .collect();
        let answer_bytes = answers
            .iter()
            .map(|list| 4 + list.iter().map(|one| 4 + one.len()).sum::<usize>());
        let length = answer_bytes.sum::<usize>()
            + offers.iter().map(|part| 36 + part.len()).sum::<usize>()
            + kept.iter().map(|part| 36 + part.len()).sum::<usize>();
        let mut out = Encoder::of_secrets(9 + length);
        out.u8(VERSION).u32(offers.len() as u32);
        for (one, part) in self.offers.iter().zip(&offers) {
            out.bytes(one.account.expose_seed()).var(part);
        }
        out.u32(kept.len() as u32);
        for ((one, part), answers) in self.appointments.iter().zip(&kept).zip(&answers) {
            out.bytes(one.account.expose_seed())
                .var(part)
                .u32(answers.len() as u32);
            for answer in answers {
                out.var(answer);
            }
        }
        Ok(self.store.save(&Zeroizing::new(out.finish()))?)
    }

    /// Fresh keys for one episode of a patient's, with an inbox that is open: so the patient can name it
    /// when appointing.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn offer(&mut self) -> Result<Offer, WorkError> {
        let here = self.network.consortium();
        let account = SigningKey::random(&mut self.rng);
        let agent = FamilyAgent::new(here, self.centre.clone(), &mut self.rng);
        let offer = Offer {
            keys: agent.offer(),
            inbox: agent.inbox(),
        };
        let query = self.network.query(account.clone())?;
        query.open_inbox(offer.inbox, agent.inbox_key()).await?;
        if self.offers.len() >= OFFERS_MAX {
            // The oldest was never taken.
            self.offers.remove(0);
        }
        self.offers.push(Offered { account, agent });
        self.save()?;
        Ok(offer)
    }

    /// Opens an appointment of keys that this agent offered.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn accept(&mut self, sealed: &[u8]) -> Result<AppointmentView, WorkError> {
        let here = self.network.consortium();
        let mut last = None;
        for at in 0..self.offers.len() {
            let offered = self.offers[at].agent.keep();
            let again = FamilyAgent::restore(here, self.centre.clone(), &offered)?;
            match again.accept(sealed) {
                Ok(appointed) => {
                    let Offered { account, .. } = self.offers.remove(at);
                    self.appointments.push(Kept {
                        account,
                        appointed,
                        answers: Vec::new(),
                    });
                    self.save()?;
                    let views = self.appointments();
                    return match views.into_iter().last() {
                        Some(view) => Ok(view),
                        None => not("the appointment was not kept"),
                    };
                }
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error.into()),
            None => not("this agent made no offer: `willis agent offer` makes one for the patient"),
        }
    }

    /// The appointments of this agent.
    pub fn appointments(&self) -> Vec<AppointmentView> {
        let view = |kept: &Kept| AppointmentView {
            id: hex::encode(kept.appointed.id().as_bytes()),
            end: kept.appointed.end().number(),
            scope: kept
                .appointed
                .scope()
                .iter()
                .filter_map(|class| SectionClass::from_code(class.code()))
                .collect(),
            grants: kept
                .appointed
                .grants()
                .map(|(gid, _)| hex::encode(gid.as_bytes()))
                .collect(),
        };
        self.appointments.iter().map(view).collect()
    }

    /// The handle and salt of an appointment's inbox, for a doctor who wants to ask the agent.
    ///
    /// # Errors
    /// [`WorkError::Not`] if there is no such appointment.
    pub fn inbox(&self, id: &str) -> Result<(InboxHandle, [u8; 16]), WorkError> {
        let found = self
            .appointments
            .iter()
            .filter(|kept| hex::encode(kept.appointed.id().as_bytes()).starts_with(id));
        let none = "this agent has no such appointment: see `willis agent appointments`";
        Ok(only(found, none)?.appointed.inbox())
    }

    async fn follow_centre(&mut self) -> Result<(), WorkError> {
        let agreed = self.network.client().centre_keys().await?;
        self.centre.follow(&agreed);
        for kept in &mut self.appointments {
            kept.appointed.follow_centre(&agreed);
        }
        Ok(())
    }

    fn query(&self, at: usize) -> Result<QueryClient, WorkError> {
        self.network.query(self.appointments[at].account.clone())
    }

    /// The requests that wait, with the appointment that each can be answered under.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn requests(
        &mut self,
        bound: Duration,
    ) -> Result<Vec<(AppointmentId, AskedView)>, WorkError> {
        self.follow_centre().await?;
        let mut asked = Vec::new();
        let end = tokio::time::Instant::now() + bound;
        loop {
            for at in 0..self.appointments.len() {
                let query = self.query(at)?;
                let appointed = &self.appointments[at].appointed;
                for waiting in wait_for_requests(&query, Duration::ZERO).await? {
                    // One that does not stand is nothing to decide about.
                    if let Ok(request) = appointed.open_request(&waiting.sealed.0, now()) {
                        asked.push((appointed.id(), asked_view(&request)));
                    }
                }
            }
            if !asked.is_empty() || tokio::time::Instant::now() >= end {
                return Ok(asked);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Sends on what was made and has not arrived yet, since a service was away.
    async fn deliver(&mut self) -> Result<(), WorkError> {
        let mut failure = Ok(());
        for at in 0..self.appointments.len() {
            let query = self.query(at)?;
            let answers = &mut self.appointments[at].answers;
            failure = failure.and(deliver_all(answers, &self.network, &query).await);
        }
        self.save()?;
        failure
    }

    /// Does what earlier commands could not, since a service was away. What is still not done is told,
    /// and stays.
    pub async fn catch_up(&mut self, progress: &mut dyn Progress) {
        if self
            .appointments
            .iter()
            .any(|kept| !kept.answers.is_empty())
        {
            progress.step("sending on what an earlier command could not");
            if let Err(error) = self.deliver().await {
                progress.step(&client::sentence(&error));
            }
        }
    }

    async fn place_of(&self, id: &str) -> Result<usize, WorkError> {
        for at in 0..self.appointments.len() {
            let waiting = self.query(at)?.inbox().await?.waiting;
            if one_of(&waiting, id).is_ok() {
                return Ok(at);
            }
        }
        not("no such request waits for this agent: see `willis agent requests`")
    }

    /// Answers a request with a grant under the appointment.
    ///
    /// # Errors
    /// [`WorkError`].
    #[instrument(target = TRACED, name = "7 grant", skip_all)]
    pub async fn grant(
        &mut self,
        id: &str,
        classes: &[SectionClass],
        minutes: u64,
        progress: &mut dyn Progress,
    ) -> Result<String, WorkError> {
        self.follow_centre().await?;
        let at = self.place_of(id).await?;
        if self.appointments[at].answers.len() >= OUTGOING_MAX {
            return not(TOO_MANY_ON_THE_WAY);
        }
        let query = self.query(at)?;
        let waiting = query.inbox().await?.waiting;
        let sealed = &one_of(&waiting, id)?.sealed.0;
        let request = self.appointments[at]
            .appointed
            .open_request(sealed, now())?;
        let agreed = in_force(&self.network, &request).await?;
        let keys = self.network.client().node_keys().await?;
        let set = self.network.client().nodes_of(keys.epoch);
        let nodes = ServingNodes {
            set: &set,
            keys: &keys,
        };
        let threshold = threshold(&self.network, &nodes, None)?;
        let chosen = if classes.is_empty() {
            let scope = self.appointments[at].appointed.scope();
            let asked = &request.terms().classes;
            asked
                .iter()
                .copied()
                .filter(|class| scope.contains(class))
                .collect()
        } else {
            granted_classes(&request, classes)?
        };
        let time = now().number();
        let decision = AgentDecision {
            classes: chosen,
            not_before: Timestamp::new(time.saturating_sub(60_000)),
            expiry: Timestamp::new(time + minutes.saturating_mul(60_000)),
            threshold,
        };
        progress.step("making the grant");
        let here = self.network.consortium();
        let kept = &mut self.appointments[at];
        let appointed = &mut kept.appointed;
        let answer = appointed.answer(&request, &decision, &agreed, &nodes, &mut self.rng)?;
        let package = answer.package;
        let gid = GrantId::of(&here, &package.entry.revocation_key);
        let note = AnswerNote::granted(&here, std::slice::from_ref(&package));
        let notes = appointed.seal_note(&note, &request.note_recipients(), &mut self.rng)?;
        // Kept before anything leaves this device, with the key that revokes it.
        kept.answers.push(Answer {
            request: request.commitment(),
            until: decision.expiry,
            threshold: threshold.count() as u8,
            packages: vec![package],
            notes,
            act: answer.act,
        });
        self.save()?;
        progress.step(
            "giving it to the accounting hospitals and to the chain, and telling the doctors and the patient",
        );
        if let Err(error) = self.deliver().await {
            return not(format!(
                "grant {} is made and kept, and not everywhere yet: {}; each later command tries again",
                hex::encode(gid.as_bytes()),
                client::sentence(&error)
            ));
        }
        Ok(hex::encode(gid.as_bytes()))
    }

    /// Declines a request.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn decline(&mut self, id: &str) -> Result<(), WorkError> {
        let at = self.place_of(id).await?;
        let query = self.query(at)?;
        let waiting = query.inbox().await?.waiting;
        let commitment = RequestCommitment::new(one_of(&waiting, id)?.id.0);
        query
            .answer(commitment, AnswerKind::Declined, None, Vec::new())
            .await?;
        Ok(())
    }

    /// Revokes a grant that this agent gave, and tells its doctors.
    ///
    /// # Errors
    /// [`WorkError`].
    #[instrument(target = TRACED, name = "11 revoke", skip_all)]
    pub async fn revoke(
        &mut self,
        gid: &str,
        progress: &mut dyn Progress,
    ) -> Result<(), WorkError> {
        let found = self.appointments.iter().enumerate().find_map(|(at, kept)| {
            let mut grants = kept.appointed.grants();
            let (gid, to) = grants.find(|(own, _)| hex::encode(own.as_bytes()).starts_with(gid))?;
            Some((at, gid, to.clone()))
        });
        let Some((at, gid, recipients)) = found else {
            return not("this agent gave no such grant: see `willis agent appointments`");
        };
        let appointed = &self.appointments[at].appointed;
        let Some(revocation) = appointed.revoke(&gid) else {
            return not("this agent gave no such grant: see `willis agent appointments`");
        };
        progress.step("recording the revocation on the chain");
        self.network.submit(&revocation).await?;
        progress.step("telling the doctors");
        let note = AnswerNote::Revoked(vec![gid]);
        let notes = appointed.seal_note(&note, &recipients, &mut self.rng)?;
        self.query(at)?.add_notes(recipients.request, notes).await?;
        Ok(())
    }
}

/// How often the inboxes are looked at while nothing waits.
const AGAIN: Duration = Duration::from_millis(500);
