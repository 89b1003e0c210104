//! Asking and reading, steps 6 to 10: a request, the grants that answer it, searches, accesses.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::{
    ClientError, FindPatient, GrantStanding, RequestState, ShortCode, SubmittedState, TRACED, now,
};
use ledger::{Transaction, TransactionId};
use parties::{
    AccessRequest, Hit, Holder, InTransaction, OpenGrant, Reader, RequestTerms, VerifiedRequest,
};
use rand_core::Rng;
use record::SectionClass;
use scheme::{ClassCode, InboxHandle, Timestamp};
use tracing::instrument;

use super::state::{KeptRequest, REQUESTS_MAX};
use super::{
    Ask, Change, DoctorDesk, FoundRecord, GrantView, Read, ReadRecord, RequestView, SETTLED,
    Searched,
};
use crate::codes::inbox_from_text;
use crate::error::{WorkError, not, only};
use crate::network::{Network, Progress};
use crate::reading::{fetch, must_be_fresh, open_into, search, temporary};

/// Whatever is shorter was meant for a short code.
const WHOLE_CODE_DIGITS: usize = 32;

impl DoctorDesk {
    /// The inbox of the patient of a document, through the registration centre: for a patient who could give
    /// no code and wanted to be found. The patient sees who looked.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn find(&self, patient: &FindPatient) -> Result<(InboxHandle, [u8; 16]), WorkError> {
        self.certificate()?;
        let centre = self.network.centre(self.state.signing.clone())?;
        Ok(centre.find(patient).await?)
    }

    /// The inbox of a code as the patient showed, copied or said it: the whole one, or a short one, which the
    /// query manager knows.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn inbox_of(&self, code: &str) -> Result<(InboxHandle, [u8; 16]), WorkError> {
        match ShortCode::parse(code) {
            Ok(short) => {
                let query = self.network.query(self.state.signing.clone())?;
                Ok(query.inbox_of(short).await?)
            }
            Err(_) if code.trim().len() < WHOLE_CODE_DIGITS => not(
                "this is no code: the short one has eight letters and digits, the whole one 64 digits; ask for it again",
            ),
            Err(_) => inbox_from_text(code),
        }
    }

    /// Asks a patient: on the chain, and by the query manager to the patient's inbox.
    ///
    /// # Errors
    /// [`WorkError`].
    #[instrument(target = TRACED, name = "6 request", skip_all)]
    pub async fn ask(
        &mut self,
        ask: &Ask,
        progress: &mut dyn Progress,
    ) -> Result<RequestView, WorkError> {
        let (terms, reader) = self.begin_request(ask).await?;
        let request = reader.request(&self.doctor()?, terms.clone(), terms.time)?;
        self.keep_request(&request, terms, Some(ask.inbox), reader)?;
        self.deliver_last(&request, progress).await?;
        let last = self.state.requests.len() - 1;
        Ok(self.request_view(last, &[]))
    }

    /// What a patient is asked, and fresh keys for the answer.
    pub(super) async fn begin_request(
        &mut self,
        ask: &Ask,
    ) -> Result<(RequestTerms, Reader), WorkError> {
        let certificate = self.certificate()?.clone();
        self.follow_centre().await?;
        // A program that runs for months forgets what is over as one does that is opened each day.
        let time = now();
        self.state.requests.retain(|request| !request.is_over(time));
        if self.state.requests.len() >= REQUESTS_MAX {
            return not(
                "this keystore holds as many requests as it can: wait until some have ended",
            );
        }
        let here = self.network.consortium();
        let centre = self.centre.clone();
        let reader = Reader::new(here, centre, certificate, ask.episodes, &mut self.rng);
        let (handle, salt) = ask.inbox;
        let mut nonce = [0; 32];
        self.rng.fill_bytes(&mut nonce);
        let time = now();
        let classes = if ask.classes.is_empty() {
            &SectionClass::ALL[..]
        } else {
            &ask.classes
        };
        let terms = RequestTerms {
            institution: self.state.institution,
            inbox: handle.commit(&here, &salt),
            classes: classes.iter().copied().map(ClassCode::from).collect(),
            purpose: ask.purpose.clone(),
            nonce,
            time,
            not_after: Timestamp::new(time.number() + ask.hours.min(24) * 60 * 60 * 1000),
        };
        Ok((terms, reader))
    }

    /// Keeps a request before it is sent: from then on a crash or an outage loses nothing.
    pub(super) fn keep_request(
        &mut self,
        request: &VerifiedRequest,
        terms: RequestTerms,
        inbox: Option<(InboxHandle, [u8; 16])>,
        reader: Reader,
    ) -> Result<(), WorkError> {
        self.state.requests.push(KeptRequest {
            request: request.as_bytes().to_vec(),
            commitment: request.commitment(),
            purpose: terms.purpose,
            not_after: terms.not_after,
            inbox,
            reader,
            seen: 0,
            state: RequestState::Queued,
            reason: None,
            grants: Vec::new(),
        });
        self.save()
    }

    /// Brings the request that was kept last on its way.
    pub(super) async fn deliver_last(
        &mut self,
        request: &VerifiedRequest,
        progress: &mut dyn Progress,
    ) -> Result<(), WorkError> {
        let last = self.state.requests.len() - 1;
        match self.deliver(last, request, progress).await {
            Err(WorkError::Client(error)) => {
                let id = hex::encode(request.commitment().digest().as_bytes());
                not(format!(
                    "request {id} is kept, and on its way no further than this: {}; `willis doctor follow {}` sends it again",
                    client::sentence(&error),
                    &id[..8]
                ))
            }
            done => done,
        }
    }

    /// Brings a request to the chain and to the query manager. Done again, it is the same request.
    async fn deliver(
        &mut self,
        at: usize,
        request: &VerifiedRequest,
        progress: &mut dyn Progress,
    ) -> Result<(), WorkError> {
        progress.step("recording the request on the chain");
        let kept = &self.state.requests[at];
        let Some((handle, salt)) = kept.inbox else {
            return Ok(());
        };
        let time = request.terms().time;
        let (statement, signature) = kept
            .reader
            .request_statement(&self.doctor()?, request, time);
        let hospital = self.hospital().await?;
        let submitted = hospital.request(&statement, &signature).await?;
        let id = TransactionId::new(submitted.transaction.0);
        if let SubmittedState::Refused { reason } = hospital.settled(id, SETTLED).await?.state {
            self.state.requests.remove(at);
            self.save()?;
            return not(format!("the consortium refused the request: {reason}"));
        }
        progress.step("sending it to the patient's inbox");
        let query = self.network.query(self.state.signing.clone())?;
        query.send(request, handle, salt).await?;
        Ok(())
    }

    /// The requests of this doctor, with what the chain says of their grants.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn requests(&mut self) -> Result<Vec<RequestView>, WorkError> {
        let mut views = Vec::new();
        for at in 0..self.state.requests.len() {
            let mut revoked = Vec::new();
            for grant in &self.state.requests[at].grants {
                let found = self.network.client().agreed_grant(grant.gid()).await?;
                if found.is_none_or(|found| found.state.revoked) {
                    revoked.push(grant.gid());
                }
            }
            views.push(self.request_view(at, &revoked));
        }
        Ok(views)
    }

    /// One request of this doctor, with what the chain says of its grants; none if this keystore has none
    /// such.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn request(&self, id: &str) -> Result<Option<RequestView>, WorkError> {
        let mut requests = self.state.requests.iter();
        let named = |one: &KeptRequest| hex::encode(one.commitment.digest().as_bytes()) == id;
        let Some(at) = requests.position(named) else {
            return Ok(None);
        };
        let mut revoked = Vec::new();
        for grant in &self.state.requests[at].grants {
            let found = self.network.client().agreed_grant(grant.gid()).await?;
            if found.is_none_or(|found| found.state.revoked) {
                revoked.push(grant.gid());
            }
        }
        Ok(Some(self.request_view(at, &revoked)))
    }

    fn request_view(&self, at: usize, revoked: &[scheme::GrantId]) -> RequestView {
        let request = &self.state.requests[at];
        let grants = request.grants.iter().map(|grant| GrantView {
            gid: hex::encode(grant.gid().as_bytes()),
            classes: grant.grant().class_count(),
            not_before: grant.grant().terms().not_before.number(),
            expiry: grant.grant().terms().expiry.number(),
            revoked: revoked.contains(&grant.gid()),
        });
        let (nonce, team) = self.team_of(&request.request);
        RequestView {
            id: hex::encode(request.commitment.digest().as_bytes()),
            nonce,
            team,
            state: request.state,
            reason: request.reason.clone(),
            purpose: request.purpose.clone(),
            not_after: request.not_after.number(),
            grants: grants.collect(),
        }
    }

    /// A request's nonce, and its doctors as certified, in its order.
    fn team_of(&self, request: &[u8]) -> (String, Vec<u64>) {
        // It was verified before it was kept.
        let Ok(request) = AccessRequest::decode(request) else {
            return (String::new(), Vec::new());
        };
        let unsigned = request.unsigned_unverified();
        let id = |member: &parties::Member| match member.certificate.holder_unverified() {
            Holder::Doctor(doctor) => Some(doctor.id.number()),
            _ => None,
        };
        let team = unsigned.members().iter().filter_map(id).collect();
        (hex::encode(unsigned.terms().nonce), team)
    }

    /// Gives up what a request's grants allow: its one-time keys are forgotten, and nothing is read under
    /// them from this machine any more. On the chain the grants stand until the patient revokes them or
    /// they end.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn give_up(&mut self, id: &str) -> Result<(), WorkError> {
        let at = self.place_of(id)?;
        let gone = self.state.requests.remove(at);
        let saved = self.save();
        if saved.is_err() {
            self.state.requests.insert(at, gone);
        }
        saved
    }

    fn place_of(&self, id: &str) -> Result<usize, WorkError> {
        let found = self
            .state
            .requests
            .iter()
            .enumerate()
            .filter(|(_, one)| hex::encode(one.commitment.digest().as_bytes()).starts_with(id));
        only(
            found.map(|(place, _)| place),
            "this keystore has no such request, or its grants have ended: see `willis doctor requests`",
        )
    }

    /// Waits until a request is decided, or the time is up, and opens the grants that answer it.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn follow(
        &mut self,
        id: &str,
        bound: Duration,
        progress: &mut dyn Progress,
    ) -> Result<RequestView, WorkError> {
        let at = self.place_of(id)?;
        let commitment = self.state.requests[at].commitment;
        let query = self.network.query(self.state.signing.clone())?;
        match self.send_again(at, progress).await {
            // Whether there is a grant says the chain, also while the query manager is away.
            Err(WorkError::Client(error)) if error.is_passing() => {}
            sent => sent?,
        }
        let mut events = Vec::new();
        // What follows a decision tells `watch`.
        let bound = if self.state.requests[at].state.is_decided() {
            Duration::ZERO
        } else {
            bound
        };
        let followed = query
            .follow(commitment, self.state.requests[at].seen, bound, |event| {
                progress.step(&format!("the request is {}", word(event.state)));
                let decided = event.state.is_decided();
                events.push(event);
                if decided {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .await;
        let request = &mut self.state.requests[at];
        let news = !events.is_empty();
        for event in events {
            request.seen = event.number;
            if event.state != RequestState::Note {
                request.state = event.state;
                request.reason = event.reason;
            }
        }
        if news {
            self.save()?;
        }
        // The query manager's word is a hint: whether there is a grant says the chain.
        self.open_grants(at).await?;
        let kept = &self.state.requests[at];
        if kept.grants.is_empty() {
            match followed {
                // Its lead has not sent it yet.
                Err(error) if error.is_not_found() && kept.inbox.is_none() => {}
                // The query manager forgets a request some time after its end.
                Err(error)
                    if error.is_not_found()
                        && (kept.state.is_decided() || kept.not_after <= now()) => {}
                followed => followed?,
            }
        }
        Ok(self.request_view(at, &[]))
    }

    /// Follows the grants that answer a request, from what f + 1 nodes say, until all are over or the
    /// time is up: that one was recorded, revoked, or has expired.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn watch(
        &mut self,
        id: &str,
        bound: Duration,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Change>, WorkError> {
        let at = self.place_of(id)?;
        let keys = self.state.requests[at].reader.member().access_keys;
        let mut changes = Vec::new();
        let followed = self.network.client().follow_grants(&keys, bound, |found| {
            let change = Change {
                gid: hex::encode(found.grant.gid.as_bytes()),
                standing: found.standing,
                time: now().number(),
            };
            let word = match change.standing {
                GrantStanding::Recorded => "recorded",
                GrantStanding::Revoked => "revoked",
                GrantStanding::Expired => "expired",
            };
            progress.step(&format!("grant {}: {word}", &change.gid[..16]));
            changes.push(change);
            ControlFlow::Continue(())
        });
        followed.await?;
        self.open_grants(at).await?;
        Ok(changes)
    }

    /// Sends a request that the query manager never got, since it was away when the request was made.
    async fn send_again(
        &mut self,
        at: usize,
        progress: &mut dyn Progress,
    ) -> Result<(), WorkError> {
        // A colleague's request is its lead's to send.
        if self.state.requests[at].seen > 0 || self.state.requests[at].inbox.is_none() {
            return Ok(());
        }
        let query = self.network.query(self.state.signing.clone())?;
        let commitment = self.state.requests[at].commitment;
        match query.request(commitment, 0).await {
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
        self.follow_centre().await?;
        let kept = &self.state.requests[at];
        let here = self.network.consortium();
        let verified = AccessRequest::decode(&kept.request)?.verify(&here, &self.centre, now());
        let Ok(request) = verified else {
            return not("the request did not reach the query manager in its time: ask again");
        };
        self.deliver(at, &request, progress).await
    }

    /// Opens every grant on the chain that names an access key of a request.
    async fn open_grants(&mut self, at: usize) -> Result<(), WorkError> {
        let client = self.network.client();
        let mut opened = Vec::new();
        {
            let kept = &self.state.requests[at];
            for (place, key) in kept.reader.member().access_keys.into_iter().enumerate() {
                if kept.grants.iter().any(|grant| grant.access_key() == key) {
                    continue;
                }
                let Some(on_chain) = client.grant_of(key).await? else {
                    continue;
                };
                if on_chain.state.revoked {
                    continue;
                }
                let ask = kept.reader.ask_grant(on_chain.gid, place)?;
                let open =
                    |bytes: &[u8]| kept.reader.open_grant(bytes, &kept.request, &on_chain).ok();
                opened.push(client.grant(&ask, open).await?);
            }
        }
        if !opened.is_empty() {
            self.state.requests[at].grants.extend(opened);
            self.save()?;
        }
        Ok(())
    }

    /// Searches under every grant of a request. One that was revoked or has expired hinders no other.
    ///
    /// # Errors
    /// [`WorkError`] if no grant is there.
    pub async fn search(&mut self, id: &str) -> Result<Vec<Searched>, WorkError> {
        let at = self.place_of(id)?;
        self.open_grants(at).await?;
        let kept = &self.state.requests[at];
        if kept.grants.is_empty() {
            return not("no grant answers this request yet: see `willis doctor follow`");
        }
        let mut found = Vec::new();
        for grant in &kept.grants {
            let searched = search(self.network.client(), &kept.reader, grant).await;
            found.push(Searched {
                gid: hex::encode(grant.gid().as_bytes()),
                hits: searched
                    .map(|found| found.hits)
                    .map_err(|error| client::sentence(&error)),
            });
        }
        Ok(found)
    }

    /// Searches under every grant of a request; gives each record that is found with what the chain says
    /// of it, and the grants under which nothing is found, by gid, with the reason. Nothing is opened.
    ///
    /// # Errors
    /// [`WorkError`] if no grant is there.
    pub async fn found(
        &mut self,
        id: &str,
    ) -> Result<(Vec<FoundRecord>, Vec<(String, String)>), WorkError> {
        let (mut found, mut refused) = (Vec::new(), Vec::new());
        for searched in self.search(id).await? {
            let hits = match searched.hits {
                Ok(hits) => hits,
                Err(why) => {
                    refused.push((searched.gid, why));
                    continue;
                }
            };
            for hit in hits {
                let record = self.network.record(hit.transaction).await?;
                found.push(FoundRecord {
                    transaction: hit.transaction,
                    gid: searched.gid.clone(),
                    institution: record.statement.institution,
                    time: record.statement.time.number(),
                    digest: record.statement.digest,
                    author: record.statement.author,
                });
            }
        }
        Ok((found, refused))
    }

    /// Searches under every grant of a request and reads what is found: each access is final on the
    /// chain before its first share. Each record's files go into a folder of their own.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn read(
        &mut self,
        id: &str,
        only: Option<TransactionId>,
        into: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Read, WorkError> {
        progress.step("searching at the accounting hospitals' nodes");
        let found = self.search(id).await?;
        let at = self.place_of(id)?;
        let (mut records, mut refused, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut hits = Vec::new();
        for (grant, searched) in found.into_iter().enumerate() {
            match searched.hits {
                Ok(found) => hits.extend(found.into_iter().map(|hit| (grant, hit))),
                Err(why) => refused.push((searched.gid, why)),
            }
        }
        for (grant, hit) in hits {
            if only.is_some_and(|only| only != hit.transaction) {
                continue;
            }
            let name = hex::encode(hit.transaction.as_bytes());
            // Two grants can open the same record, each other sections of it.
            let folder = if seen.insert(hit.transaction) {
                into.join(&name[..16])
            } else {
                let gid = self.state.requests[at].grants[grant].gid();
                let gid = hex::encode(gid.as_bytes());
                into.join(format!("{}-{}", &name[..16], &gid[..16]))
            };
            records.push(self.read_hit(at, grant, &hit, &folder, progress).await?);
        }
        match (records.is_empty(), refused.first()) {
            (false, _) => Ok(Read { records, refused }),
            (true, Some((_, why))) => not(why),
            (true, None) => not("the grants find no such record: ask the patient what they cover"),
        }
    }

    /// Hands an access in until it is final or refused.
    #[instrument(target = TRACED, name = "9 record the access", skip_all)]
    async fn decide_access(
        &mut self,
        at: usize,
        grant: usize,
        transaction: &Transaction,
    ) -> Result<InTransaction, WorkError> {
        let submitted = self.network.submit(transaction).await;
        let open = &mut self.state.requests[at].grants[grant];
        match submitted {
            Ok(confirmed) => {
                let Some(of) = open.access_is_final(confirmed.id) else {
                    return not("the access was decided already: try again");
                };
                self.save()?;
                Ok(of)
            }
            Err(error) => {
                if matches!(error, WorkError::Client(ClientError::Refused(_))) {
                    open.access_was_refused();
                    self.save()?;
                }
                Err(error)
            }
        }
    }

    async fn read_hit(
        &mut self,
        at: usize,
        grant: usize,
        hit: &Hit,
        target: &Path,
        progress: &mut dyn Progress,
    ) -> Result<ReadRecord, WorkError> {
        must_be_fresh(target)?;
        self.access(at, grant, hit, progress)
            .await?
            .read(target, progress)
            .await
    }

    /// Records the access to one record under every grant of a request that finds it: each is final on
    /// the chain when it is given. What is given reads apart from this machine, which does other things
    /// meanwhile.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn accessed(
        &mut self,
        id: &str,
        record: TransactionId,
        progress: &mut dyn Progress,
    ) -> Result<Vec<GrantedReading>, WorkError> {
        let found = self.search(id).await?;
        let at = self.place_of(id)?;
        let mut readings = Vec::new();
        for (grant, searched) in found.into_iter().enumerate() {
            for hit in searched.hits.unwrap_or_default() {
                if hit.transaction == record {
                    readings.push(self.access(at, grant, &hit, progress).await?);
                }
            }
        }
        Ok(readings)
    }

    async fn access(
        &mut self,
        at: usize,
        grant: usize,
        hit: &Hit,
        progress: &mut dyn Progress,
    ) -> Result<GrantedReading, WorkError> {
        let open = &self.state.requests[at].grants[grant];
        let other = open
            .pending_access()
            .filter(|(record, _)| *record != hit.transaction);
        if let Some((_, transaction)) = other {
            // Begun before a crash, and undecided: no other access can follow before it.
            let transaction = transaction.clone();
            progress.step("finishing an access that was begun before");
            match self.decide_access(at, grant, &transaction).await {
                Ok(_) | Err(WorkError::Client(ClientError::Refused(_))) => {}
                Err(error) => return Err(error),
            }
        }
        let kept = &mut self.state.requests[at];
        let open = &mut kept.grants[grant];
        let of = match open.last_access(hit.transaction) {
            Some(of) => of,
            None => {
                let transaction = kept.reader.record_access(open, hit, &mut self.rng)?;
                // Kept before it is sent: after a crash the same access is handed in again.
                self.save()?;
                progress.step("recording the access on the chain");
                self.decide_access(at, grant, &transaction).await?
            }
        };
        let kept = &self.state.requests[at];
        // The same keys once more, which are wiped with what is given.
        let here = self.network.consortium();
        let reader = Reader::restore(here, self.centre.clone(), &kept.reader.keep())?;
        let open = reader.restore_grant(&kept.grants[grant].keep())?;
        Ok(GrantedReading {
            network: Arc::clone(&self.network),
            reader,
            open,
            of,
            hit: hit.clone(),
        })
    }
}

/// A record to which an access is final, and what opens it.
pub struct GrantedReading {
    network: Arc<Network>,
    reader: Reader,
    open: OpenGrant,
    of: InTransaction,
    hit: Hit,
}

impl GrantedReading {
    /// The grant's gid in hexadecimal.
    pub fn gid(&self) -> String {
        hex::encode(self.open.gid().as_bytes())
    }

    /// Fetches the container and t hospitals' shares, and opens the record into a folder that is not
    /// there yet, or empty.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn read(
        &self,
        target: &Path,
        progress: &mut dyn Progress,
    ) -> Result<ReadRecord, WorkError> {
        must_be_fresh(target)?;
        progress.step("fetching the container and t hospitals' shares");
        let folder = temporary()?;
        let path = folder.path().join("container");
        let (network, open) = (&self.network, &self.open);
        let fetched = fetch(
            network.client(),
            network.consortium(),
            &self.reader,
            open,
            self.of,
            &self.hit,
            &path,
        )
        .await?;
        let header = fetched.header.header();
        let sections: Vec<_> = fetched
            .sections
            .iter()
            .map(|(_, opened)| (opened.index, opened.key.clone()))
            .collect();
        let mut opened = open_into(&fetched.path, header, &sections, target)?;
        // Sections lie by their labels, which say nothing; people read classes in one order.
        opened.classes.sort();
        let mut evidence = Vec::new();
        for (number, piece) in fetched.evidence.iter().enumerate() {
            let file = target.join(format!("wrong-share-{number}.evidence"));
            std::fs::write(&file, piece.encode())
                .map_err(|error| WorkError::File(file.clone(), error))?;
            evidence.push(file);
        }
        Ok(ReadRecord {
            transaction: self.hit.transaction,
            institution: header.institution(),
            gid: self.gid(),
            sections: fetched.sections.len(),
            classes: opened.classes,
            amends: opened.amends,
            files: opened.files,
            lying: fetched.lying,
            evidence,
        })
    }
}

fn word(state: RequestState) -> &'static str {
    match state {
        RequestState::Queued => "queued",
        RequestState::Forwarded => "in the patient's inbox",
        RequestState::Collected => "on the patient's device",
        RequestState::Reminded => "waiting; the patient was reminded",
        RequestState::WithAgent => "with the family agent as well",
        RequestState::Answered => "answered",
        RequestState::Declined => "declined",
        RequestState::Note => "answered, and a note came",
        RequestState::Expired => "expired",
        RequestState::Refused => "refused",
    }
}
