//! Going on under keys of one's own: a relative registered a patient who could not, or somebody else may
//! have come to know the words. The patient's next keys are certified in place of those before, and this
//! device goes on with both.

use std::collections::BTreeSet;
use std::time::Duration;

use client::{EnrolmentState, Identity, ServiceName, now};
use parties::{Certificate, FORMER_KEYS_MAX, Patient};
use scheme::{InstitutionId, KeyVersion, RootSeed, SigningKey, Subject, Uid};
use zeroize::Zeroizing;

use super::{CENTRE, PatientDevice, QUERY, give_keys, give_missing_keys, is_unknown};
use crate::enrolment::{Enrolment, begun, settle};
use crate::error::{WorkError, not};
use crate::network::Progress;

/// Keys that are to follow the present ones, until the centre has certified them.
pub(super) struct NextKeys {
    pub(super) seed: RootSeed,
    pub(super) subject: Option<Subject>,
    /// Of the device that this one becomes: its inbox, so that each attempt opens the same.
    pub(super) directory: Zeroizing<Vec<u8>>,
}

/// What a takeover left to be done.
#[derive(Default, Clone, Copy)]
pub(super) struct LeftToDo {
    /// UIDs may still be account keys' of before.
    pub(super) uids: bool,
    /// Doctors are to find the new inbox, as they found the one before.
    pub(super) findable: bool,
}

impl PatientDevice {
    /// The device that this one becomes.
    fn next_patient(&self) -> Result<Patient, WorkError> {
        let Some(next) = &self.state.next else {
            return not(
                "no keys are to follow the present ones: begin with `willis patient take-over`",
            );
        };
        let (here, keys) = (self.network.consortium(), self.network.founding_keys());
        let (seed, version) = (&next.seed, KeyVersion::new(0));
        Ok(Patient::restore(
            here,
            keys,
            seed,
            version,
            &next.directory,
        )?)
    }

    /// The number of the enrolment of keys that are to follow the present ones, if the centre was asked.
    pub fn taking_over(&self) -> Option<Subject> {
        self.state.next.as_ref().and_then(|next| next.subject)
    }

    /// Makes keys that are to follow the present ones, and asks the centre to certify them in their place;
    /// safe to repeat.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn begin_takeover(&mut self, identity: Identity) -> Result<(), WorkError> {
        if !self.is_certified() {
            return not(
                "the registration centre has not certified the present keys: there is nothing to take over, see `willis patient status`",
            );
        }
        if self.state.patient.generation() >= FORMER_KEYS_MAX {
            return not(
                "these keys followed others so often that this device keeps no more: enrol in another keystore for what comes",
            );
        }
        let replaces = begun(self.state.subject, "patient")?;
        if self.state.next.is_none() {
            let (here, keys) = (self.network.consortium(), self.network.founding_keys());
            let (seed, version) = (RootSeed::random(&mut self.rng), KeyVersion::new(0));
            let patient = Patient::new(here, keys, &seed, version, &mut self.rng);
            self.state.next = Some(NextKeys {
                directory: patient.directory(),
                seed,
                subject: None,
            });
            // Before anybody hears of them.
            self.save()?;
        }
        let patient = self.next_patient()?;
        let centre = self.network.centre(patient.account_key(CENTRE))?;
        let mut subject = self.taking_over();
        let given = give_keys(&centre, &patient, &mut subject, identity, Some(replaces)).await;
        if let Some(next) = &mut self.state.next {
            next.subject = subject;
        }
        self.save()?;
        given
    }

    /// How far the takeover is; waits for the centre's decision within a bound. Once the next keys are
    /// certified this device goes on under them. `None` if there is none on its way.
    ///
    /// # Errors
    /// [`WorkError`]; the next call goes on where this one stopped.
    pub async fn takeover(
        &mut self,
        bound: Duration,
        progress: &mut dyn Progress,
    ) -> Result<Option<Enrolment>, WorkError> {
        let Some(subject) = self.taking_over() else {
            return Ok(None);
        };
        let patient = self.next_patient()?;
        let centre = self.network.centre(patient.account_key(CENTRE))?;
        // They may not have arrived when the enrolment was begun.
        give_missing_keys(&centre, &patient, subject).await?;
        let (enrolment, certificate) = settle(&centre, subject, bound).await?;
        if let Some(certificate) = certificate {
            self.go_on_as(patient, subject, certificate, progress)
                .await?;
        }
        Ok(Some(enrolment))
    }

    /// Forgets the next keys, which the centre refused or was never given: once it certifies them the present
    /// ones are revoked.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn give_takeover_up(&mut self) -> Result<(), WorkError> {
        if let Some(subject) = self.taking_over() {
            let patient = self.next_patient()?;
            let centre = self.network.centre(patient.account_key(CENTRE))?;
            let decided = centre.enrolment(subject).await?.state;
            let over = matches!(
                decided,
                EnrolmentState::Refused { .. }
                    | EnrolmentState::KeysMissing
                    | EnrolmentState::Revoked
            );
            if !over {
                return not(
                    "the registration centre is about to put the next keys in place of the present ones: ask its officer to refuse them first",
                );
            }
        }
        self.state.next = None;
        self.save()
    }

    async fn go_on_as(
        &mut self,
        mut next: Patient,
        subject: Subject,
        certificate: Certificate,
        progress: &mut dyn Progress,
    ) -> Result<(), WorkError> {
        let agreed = self.network.client().centre_keys().await?;
        next.follow_centre(&agreed);
        next.accept_certificate(certificate, now())?;
        self.have_newest_directory().await?;
        progress.step("sending on what was begun under the keys before");
        match self.deliver().await {
            // They go to an inbox that is to be closed.
            Err(error) if !self.state.answers.is_empty() => return Err(error),
            _ => {}
        }
        self.take_acts().await?;
        progress.step("withdrawing the appointments that were made under the keys before");
        self.withdraw_all().await?;
        progress.step("opening an inbox with a code of its own, and closing the one before");
        let findable = self.findable().await?.findable;
        let (handle, _) = next.inbox();
        let query = self.network.query(next.account_key(QUERY))?;
        query.open_inbox(handle, next.inbox_key()).await?;
        let (before, _) = self.state.patient.inbox();
        let closed = self.query()?.retire_inbox(before).await;
        // It was never opened.
        if !is_unknown(&closed) {
            closed?;
        }
        let (seed, version) = (&self.state.seed, KeyVersion::new(0));
        next.succeed(&self.state.patient, seed, version)?;
        if let Some(keys) = self.state.next.take() {
            self.state.seed = keys.seed;
        }
        self.state.patient = next;
        self.state.subject = Some(subject);
        // Their doctors would refuse them: the certificate in them was revoked.
        self.state.handovers.clear();
        // The centre keeps the directory of these keys apart from that of those before.
        self.state.kept = 0;
        self.state.left = LeftToDo {
            uids: true,
            findable,
        };
        self.keep().await?;
        // What cannot be done now is done by a later call.
        progress.step("taking over the mailboxes at the hospitals");
        let _ = self.settle_takeover().await;
        Ok(())
    }

    /// Does what a takeover left: the hospitals give the UIDs to the present account keys, and the centre
    /// lets doctors find the new inbox, if it did so with the one before.
    pub(super) async fn settle_takeover(&mut self) -> Result<(), WorkError> {
        if self.state.left.findable {
            self.set_findable(true).await?;
            self.state.left.findable = false;
            self.save()?;
        }
        if self.state.left.uids {
            for (institution, uid) in self.mailboxes()? {
                self.take_uid_over(institution, &uid).await?;
            }
            self.state.left.uids = false;
            self.save()?;
        }
        Ok(())
    }

    /// Another device of this patient may have written since: what it began must not stay behind.
    async fn have_newest_directory(&mut self) -> Result<(), WorkError> {
        let found = match self.centre()?.directory().await {
            Err(error) if error.is_not_found() => return Ok(()),
            found => found?,
        };
        if found.version <= self.state.kept {
            return Ok(());
        }
        if self.state.behind {
            return self.sync().await;
        }
        self.take_directory(&found)?;
        self.save()
    }

    async fn withdraw_all(&mut self) -> Result<(), WorkError> {
        let time = now();
        let standing: Vec<_> = self
            .state
            .patient
            .appointments()
            .iter()
            .filter(|one| !one.withdrawn)
            .filter(|one| one.terms.as_ref().is_none_or(|(.., end)| *end > time))
            .map(|one| one.id)
            .collect();
        for id in standing {
            self.withdraw(&id).await?;
        }
        Ok(())
    }

    /// Makes a UID the present account key's, if it was freed or is still one's of before. Gives whether it is
    /// now.
    ///
    /// # Errors
    /// [`WorkError`] if the hospital cannot be asked now.
    pub(super) async fn take_uid_over(
        &self,
        institution: InstitutionId,
        uid: &Uid,
    ) -> Result<bool, WorkError> {
        let present = self.account_at(institution);
        let hospital = self.hospital(institution).await?;
        let bound = hospital.bind_account(uid).await;
        if !is_unknown(&bound) {
            bound?;
            return Ok(true);
        }
        let name = ServiceName::Hospital(institution).to_string();
        let former: Vec<_> = self.state.patient.former_account_keys(&name).collect();
        for before in former {
            let hospital = self.network.hospital(institution, before).await?;
            let next = present.verifying_key();
            let passed = hospital.pass_account_on(uid, &next).await;
            if !is_unknown(&passed) {
                passed?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Each UID that this patient has at a hospital.
    pub(super) fn mailboxes(&self) -> Result<Vec<(InstitutionId, Uid)>, WorkError> {
        let episodes = self.state.patient.episodes();
        let all: BTreeSet<_> = episodes
            .map(|(_, one)| (one.institution, one.uid.as_bytes().to_vec()))
            .collect();
        let read = |(institution, uid): (_, Vec<u8>)| Ok((institution, Uid::new(&uid)?));
        all.into_iter().map(read).collect()
    }

    /// The account keys at the query manager, the present one first.
    pub(super) fn query_accounts(&self) -> Vec<SigningKey> {
        let mut keys = vec![self.state.patient.account_key(QUERY)];
        keys.extend(self.state.patient.former_account_keys(QUERY));
        keys
    }
}
