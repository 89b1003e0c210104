//! Enrolments from their beginning to their revocation. Each step is one change of the database, so a
//! kill at any moment leaves it done or not begun, and the same call again finds what stands.

use std::sync::Arc;

use client::{
    ApplicantKind, BeginEnrolment, BegunEnrolment, Decided, Decision, DirectoryVersion,
    EncryptedDirectory, EnrolmentDetail, EnrolmentKeys, EnrolmentPage, EnrolmentStatus,
    OfficersList, Outbox, Outgoing, Problem, ProblemKind, sentence,
};
use parties::{DIRECTORY_BYTES_MAX, DoctorPublicKeys, Enrolled, PatientEnrolment};
use scheme::{DoctorId, HpkePublicKey, InstitutionId, Signature, Subject, Timestamp, VerifyingKey};
use zeroize::Zeroizing;

use crate::centre::CentreService;
use crate::centre::at_rest::Kept;
use crate::centre::officers::{By, Evidenced};
use crate::centre::records::{
    DECISIONS_MAX, Enrolment, State, corrupt, decided_name, decision, next, number, record,
    select_enrolments, unsigned,
};
use crate::database::{Change, DatabaseError, Value};
use client::now;

/// Enrolments under one account key that wait for keys or for an officer.
const OPEN_PER_ACCOUNT_MAX: i64 = 4;
/// Enrolments in all that wait so: some 100 MiB of records, and a month of a busy centre.
const OPEN_MAX: i64 = 100_000;
/// One page of an officer's list.
const PAGE_MAX: u32 = 100;
/// The longest reason of an officer.
const REASON_BYTES_MAX: usize = 1_000;

impl CentreService {
    /// Gives an enrolment its numbers.
    pub(super) async fn begin(
        &self,
        call: &Evidenced<BeginEnrolment>,
    ) -> Result<BegunEnrolment, Problem> {
        let applicant = &call.body.applicant;
        applicant
            .check()
            .map_err(|error| Problem::invalid(&error))?;
        let key = call.call.key();
        let begun_call = call.evidence.idempotency_key.as_str();
        if let Some(begun) = self.begun(&key, begun_call).await? {
            return Ok(begun);
        }
        self.has_room(&key).await?;
        let json = serde_json::to_vec(applicant).map_err(|error| Problem::internal(&error))?;
        let json = Zeroizing::new(json);
        let (kind, institution) = match applicant {
            client::Applicant::Patient(_) => ("patient", 0),
            client::Applicant::Doctor(doctor) => ("doctor", doctor.institution),
        };
        let mut change = self.database.begin().await?;
        let subject = next(&mut change, "subject").await?;
        let doctor = match applicant.kind() {
            ApplicantKind::Patient => 0,
            ApplicantKind::Doctor => next(&mut change, "doctor").await?,
        };
        let empty = || Value::Bytes(Vec::new());
        let named = Subject::new(u64::try_from(subject).map_err(|_| corrupt())?);
        let now = now();
        let inserted = change
            .run(
                "INSERT INTO enrolments (subject, kind, account, begun_by, begun_call, begun, institution, \
                 doctor, replaces, identity, state, keys, reason, registration, certificate, \
                 renewal_asked, own_renewals, made_by, changed) \
                 VALUES ($1, $2, $3, $3, $4, $5, $6, $7, $8, $9, 'keys-missing', $10, $10, $10, $10, 0, 0, $10, $5)",
                &[
                    Value::Integer(subject),
                    kind.into(),
                    (*key.as_bytes()).into(),
                    begun_call.into(),
                    now.into(),
                    Value::Integer(i64::from(institution)),
                    Value::Integer(doctor),
                    number(call.body.replaces.unwrap_or_default()),
                    Value::Bytes(self.identity_key.seal(Kept::Applicant, named, &json)),
                    empty(),
                ],
            )
            .await;
        match inserted {
            Ok(_) => {}
            // The same call came twice at once, and the other one was first.
            Err(DatabaseError::Exists) => {
                drop(change);
                let begun = self.begun(&key, begun_call).await?;
                return begun.ok_or_else(corrupt);
            }
            Err(error) => return Err(error.into()),
        }
        change.commit().await?;
        tracing::info!(subject, kind, "an enrolment was begun");
        Ok(BegunEnrolment {
            subject: named.number(),
            doctor: u64::try_from(doctor).ok().filter(|doctor| *doctor > 0),
        })
    }

    async fn begun(
        &self,
        key: &VerifyingKey,
        call: &str,
    ) -> Result<Option<BegunEnrolment>, Problem> {
        let found = self
            .database
            .row(
                "SELECT subject, doctor FROM enrolments WHERE begun_by = $1 AND begun_call = $2",
                &[(*key.as_bytes()).into(), call.into()],
            )
            .await?;
        let Some(row) = found else {
            return Ok(None);
        };
        let doctor = unsigned(&row, 1)?;
        Ok(Some(BegunEnrolment {
            subject: unsigned(&row, 0)?,
            doctor: (doctor > 0).then_some(doctor),
        }))
    }

    async fn has_room(&self, key: &VerifyingKey) -> Result<(), Problem> {
        let count = |row: Option<crate::database::Row>| row.map_or(Ok(0), |row| row.integer(0));
        let all = self
            .database
            .row(
                "SELECT COUNT(*) FROM (SELECT subject FROM enrolments WHERE state IN ('keys-missing', 'waiting') LIMIT $1) AS opened",
                &[Value::Integer(OPEN_MAX)],
            )
            .await?;
        if count(all)? >= OPEN_MAX {
            return Err(Problem::busy(
                "too many enrolments wait for the officers: begin again tomorrow",
            ));
        }
        // Officers begin those of patients without a device.
        if self.officer_of(key).is_some() {
            return Ok(());
        }
        let own = self
            .database
            .row(
                "SELECT COUNT(*) FROM (SELECT subject FROM enrolments WHERE account = $1 AND state IN ('keys-missing', 'waiting') LIMIT $2) AS opened",
                &[(*key.as_bytes()).into(), Value::Integer(OPEN_PER_ACCOUNT_MAX)],
            )
            .await?;
        if count(own)? >= OPEN_PER_ACCOUNT_MAX {
            return Err(Problem::new(
                ProblemKind::TooMany,
                "four enrolments under this key wait already: give their keys, or wait for the officer",
            ));
        }
        Ok(())
    }

    /// Checks the proofs of possession and lets the enrolment wait for an officer.
    pub(super) async fn give_keys(
        self: &Arc<Self>,
        subject: Subject,
        call: &Evidenced<EnrolmentKeys>,
    ) -> Result<EnrolmentStatus, Problem> {
        let row = self.own(subject, &call.call.key()).await?;
        let keys = match (row.kind, &call.body) {
            (ApplicantKind::Patient, EnrolmentKeys::Patient(enrolment)) => enrolment.0.clone(),
            (ApplicantKind::Doctor, EnrolmentKeys::Doctor(keys)) => {
                [keys.hpke.0.as_slice(), &keys.proof.0].concat()
            }
            _ => {
                return Err(does_not_stand(
                    "the keys are of the other kind than the enrolment: give those of the kind that it was begun for",
                ));
            }
        };
        match row.state {
            State::KeysMissing => {}
            // The same call again.
            _ if row.keys == keys => return row.status(&self.identity_key),
            _ => {
                return Err(conflict(
                    "this enrolment has its keys already: begin a new one to enrol others",
                ));
            }
        }
        // The curve's work, off the threads that answer.
        self.enrol(&row, keys.clone(), now()).await?;
        let updated = self
            .database
            .run(
                "UPDATE enrolments SET keys = $2, state = 'waiting', changed = $3 WHERE subject = $1 AND state = 'keys-missing'",
                &[number(subject.number()), Value::Bytes(keys), now().into()],
            )
            .await?;
        if updated == 0 {
            return Err(meanwhile());
        }
        self.tell(subject);
        // Where the configuration approves, the background task does it.
        self.work.notify_one();
        self.own(subject, &call.call.key())
            .await?
            .status(&self.identity_key)
    }

    /// Checks the proofs and makes certificate and registration, which nobody gets yet.
    async fn enrol(
        self: &Arc<Self>,
        row: &Enrolment,
        keys: Vec<u8>,
        now: Timestamp,
    ) -> Result<Enrolled, Problem> {
        let (subject, kind) = (row.subject, row.kind);
        let (id, institution, signing) = (row.doctor, row.institution, row.account);
        let service = Arc::clone(self);
        let certified = tokio::task::spawn_blocking(move || match kind {
            ApplicantKind::Patient => {
                let enrolment =
                    PatientEnrolment::decode(&keys).map_err(|error| Problem::malformed(&error))?;
                if enrolment.subject != subject {
                    return Err(does_not_stand(
                        "the proofs are for another enrolment's number: make them for this one",
                    ));
                }
                let enrolled = service.certifier.certify_patient(enrolment, now);
                enrolled.map_err(|error| Problem::invalid(&error))
            }
            ApplicantKind::Doctor => {
                let (hpke, proof) = keys.split_first_chunk::<32>().ok_or_else(corrupt)?;
                let proof = <[u8; 64]>::try_from(proof).map_err(|_| corrupt())?;
                let keys = DoctorPublicKeys {
                    id: DoctorId::new(id),
                    institution: InstitutionId::new(institution),
                    signing,
                    hpke: HpkePublicKey::new(*hpke),
                };
                let enrolled =
                    service
                        .certifier
                        .certify_doctor(subject, keys, &Signature::new(proof), now);
                enrolled.map_err(|error| Problem::invalid(&error))
            }
        });
        certified.await.map_err(|error| Problem::internal(&error))?
    }

    /// An enrolment for its owner. Another's is not found, as if it were not there.
    pub(super) async fn own(
        &self,
        subject: Subject,
        account: &VerifyingKey,
    ) -> Result<Enrolment, Problem> {
        let found = self.read(subject).await?;
        found
            .filter(|row| row.account == *account)
            .ok_or_else(no_such_enrolment)
    }

    pub(super) async fn read(&self, subject: Subject) -> Result<Option<Enrolment>, Problem> {
        let found = self
            .database
            .row(
                select_enrolments!("WHERE subject = $1"),
                &[number(subject.number())],
            )
            .await?;
        found.map(|row| Enrolment::read(&row)).transpose()
    }

    async fn any(&self, subject: Subject) -> Result<Enrolment, Problem> {
        self.read(subject).await?.ok_or_else(no_such_enrolment)
    }

    /// A page of what waits for officers.
    pub(super) async fn page(
        &self,
        list: OfficersList,
        after: u64,
        limit: u32,
    ) -> Result<EnrolmentPage, Problem> {
        let limit = limit.clamp(1, PAGE_MAX);
        let sql = match list {
            OfficersList::Waiting => select_enrolments!(
                "WHERE state = 'waiting' AND subject > $1 ORDER BY subject LIMIT $2"
            ),
            OfficersList::Renewals => select_enrolments!(
                "WHERE renewal_asked > 0 AND subject > $1 ORDER BY subject LIMIT $2"
            ),
        };
        let rows = self
            .database
            .rows(sql, &[number(after), Value::Integer(limit.into())])
            .await?;
        let rows = rows
            .iter()
            .map(Enrolment::read)
            .collect::<Result<Vec<_>, _>>()?;
        let full = rows.len() == limit as usize;
        let last = rows.last().map(|row| row.subject.number());
        Ok(EnrolmentPage {
            enrolments: rows.iter().map(Enrolment::summary).collect(),
            next: last.filter(|_| full),
        })
    }

    /// All that an officer may see of an enrolment.
    pub(super) async fn detail(&self, subject: Subject) -> Result<EnrolmentDetail, Problem> {
        let row = self.any(subject).await?;
        let decisions = self.decisions(subject).await?;
        row.detail(&self.identity_key, decisions)
    }

    async fn decisions(&self, subject: Subject) -> Result<Vec<Decision>, Problem> {
        let rows = self
            .database
            .rows(
                "SELECT decided, by_kind, by_key, by_name, time, reason, evidence FROM decisions \
                 WHERE subject = $1 ORDER BY id LIMIT $2",
                &[number(subject.number()), Value::Integer(DECISIONS_MAX)],
            )
            .await?;
        rows.iter()
            .map(|row| decision(row, subject, &self.identity_key))
            .collect()
    }

    /// Approves what waits: an enrolment, or a renewal.
    pub(super) async fn approve(
        self: &Arc<Self>,
        subject: Subject,
        by: &By,
    ) -> Result<EnrolmentStatus, Problem> {
        let row = self.any(subject).await?;
        if self
            .was_decided(subject, by, [Decided::Approved, Decided::Renewed])
            .await?
        {
            return row.status(&self.identity_key);
        }
        row.may_be_approved_by(by)?;
        match row.state {
            State::Waiting => self.approve_enrolment(&row, by).await?,
            State::Registered if row.renewal_asked => self.renew_by(&row, by, 0).await?,
            _ => return Err(nothing_waits(&row)),
        }
        self.any(subject).await?.status(&self.identity_key)
    }

    async fn approve_enrolment(self: &Arc<Self>, row: &Enrolment, by: &By) -> Result<(), Problem> {
        let now = now();
        let enrolled = self.enrol(row, row.keys.clone(), now).await?;
        let subject = row.subject;
        let mut change = self.database.begin().await?;
        let approved = change
            .run(
                "UPDATE enrolments SET state = 'approved', registration = $2, certificate = $3, changed = $4 \
                 WHERE subject = $1 AND state = 'waiting' AND keys = $5",
                &[
                    number(subject.number()),
                    Value::Bytes(enrolled.registration.id(&self.consortium).as_bytes().to_vec()),
                    Value::Bytes(enrolled.certificate.encode()),
                    now.into(),
                    Value::Bytes(row.keys.clone()),
                ],
            )
            .await?;
        if approved == 0 {
            return Err(meanwhile());
        }
        // Two enrolments with the same keys would be one registration, and revoked as one.
        for key in enrolled.certificate.holder_unverified().key_hashes() {
            let entered = change
                .run(
                    "INSERT INTO registered_keys (hash, subject) VALUES ($1, $2)",
                    &[
                        Value::Bytes(key.hash.as_bytes().to_vec()),
                        number(subject.number()),
                    ],
                )
                .await;
            match entered {
                Ok(_) => {}
                Err(DatabaseError::Exists) => {
                    return Err(conflict(
                        "one of these keys was registered before: refuse this enrolment, so that its owner begins a new one with fresh keys",
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let waits_for = match row.replaces {
            None => 0,
            Some(earlier) => self.replace(&mut change, row, earlier, by, now).await?,
        };
        let registration = enrolled.registration.encode();
        enter(
            &mut change,
            subject,
            "registration",
            registration,
            waits_for,
        )
        .await?;
        let key = &self.identity_key;
        record(&mut change, key, subject, Decided::Approved, by, "", now).await?;
        change.commit().await?;
        tracing::info!(subject = subject.number(), "an enrolment was approved");
        self.tell(subject);
        self.work.notify_one();
        Ok(())
    }

    /// Revokes the certificate that a new one replaces, before that goes to the chain. Gives what the
    /// registration has to wait for.
    async fn replace(
        &self,
        change: &mut Change,
        row: &Enrolment,
        earlier: Subject,
        by: &By,
        now: Timestamp,
    ) -> Result<i64, Problem> {
        const NOT_SUCH: &str = "the enrolment names an earlier one that is not registered, or of the other kind: refuse it, so that its owner begins a new one without it";
        let found = change
            .row(
                select_enrolments!("WHERE subject = $1"),
                &[number(earlier.number())],
            )
            .await?;
        let found = found.map(|row| Enrolment::read(&row)).transpose()?;
        let earlier = found
            .filter(|earlier| earlier.kind == row.kind)
            .ok_or_else(|| does_not_stand(NOT_SUCH))?;
        match earlier.state {
            State::Registered => {
                let reason = format!("replaced by enrolment {}", row.subject.number());
                self.begin_revocation(change, &earlier, by, &reason, now)
                    .await
            }
            State::Revoking => {
                let found = change
                    .row(
                        "SELECT id FROM outbox WHERE subject = $1 AND kind = 'revocation'",
                        &[number(earlier.subject.number())],
                    )
                    .await?;
                Ok(found.map_or(Ok(0), |row| row.integer(0))?)
            }
            State::Revoked => Ok(0),
            State::Approved => Err(conflict(
                "the registration of the earlier enrolment is not final yet: approve again in a moment",
            )),
            _ => Err(does_not_stand(NOT_SUCH)),
        }
    }

    /// Refuses what waits: an enrolment, or a renewal.
    pub(super) async fn refuse(
        &self,
        subject: Subject,
        reason: &str,
        by: &By,
    ) -> Result<EnrolmentStatus, Problem> {
        check_reason(reason)?;
        let row = self.any(subject).await?;
        if self
            .was_decided(subject, by, [Decided::Refused, Decided::RenewalRefused])
            .await?
        {
            return row.status(&self.identity_key);
        }
        let decided = match row.state {
            State::KeysMissing | State::Waiting => Decided::Refused,
            State::Registered if row.renewal_asked => Decided::RenewalRefused,
            _ => return Err(nothing_waits(&row)),
        };
        let now = now();
        let id = number(subject.number());
        let mut change = self.database.begin().await?;
        let changed = match decided {
            Decided::Refused => {
                let sealed = self
                    .identity_key
                    .seal(Kept::Reason, subject, reason.as_bytes());
                change
                    .run("DELETE FROM pickups WHERE subject = $1", std::slice::from_ref(&id))
                    .await?;
                change
                    .run(
                        "UPDATE enrolments SET state = 'refused', reason = $2, changed = $3 \
                         WHERE subject = $1 AND state IN ('keys-missing', 'waiting')",
                        &[id, Value::Bytes(sealed), now.into()],
                    )
                    .await?
            }
            _ => {
                change
                    .run(
                        "UPDATE enrolments SET renewal_asked = 0, changed = $2 WHERE subject = $1 AND renewal_asked > 0",
                        &[id, now.into()],
                    )
                    .await?
            }
        };
        if changed == 0 {
            return Err(meanwhile());
        }
        record(
            &mut change,
            &self.identity_key,
            subject,
            decided,
            by,
            reason,
            now,
        )
        .await?;
        change.commit().await?;
        self.tell(subject);
        self.any(subject).await?.status(&self.identity_key)
    }

    /// Revokes a certificate.
    pub(super) async fn revoke(
        &self,
        subject: Subject,
        reason: &str,
        by: &By,
    ) -> Result<EnrolmentStatus, Problem> {
        check_reason(reason)?;
        let row = self.any(subject).await?;
        if self.was_decided(subject, by, [Decided::Revoked; 2]).await? {
            return row.status(&self.identity_key);
        }
        match row.state {
            State::Registered => {}
            State::Approved => {
                return Err(conflict(
                    "its registration is not final yet, so there is nothing to revoke: revoke again in a moment",
                ));
            }
            State::Revoking | State::Revoked => {
                return Err(conflict("it is revoked already: nothing is to be done"));
            }
            _ => {
                return Err(conflict(
                    "it is not registered: refuse the enrolment instead",
                ));
            }
        }
        let mut change = self.database.begin().await?;
        self.begin_revocation(&mut change, &row, by, reason, now())
            .await?;
        change.commit().await?;
        tracing::info!(subject = subject.number(), "a certificate is being revoked");
        self.tell(subject);
        self.work.notify_one();
        self.any(subject).await?.status(&self.identity_key)
    }

    async fn begin_revocation(
        &self,
        change: &mut Change,
        row: &Enrolment,
        by: &By,
        reason: &str,
        now: Timestamp,
    ) -> Result<i64, Problem> {
        let subject = row.subject;
        let registration = <[u8; 32]>::try_from(row.registration.as_slice());
        let registration = ledger::TransactionId::new(registration.map_err(|_| corrupt())?);
        let changed = change
            .run(
                "UPDATE enrolments SET state = 'revoking', renewal_asked = 0, changed = $2 \
                 WHERE subject = $1 AND state = 'registered'",
                &[number(subject.number()), now.into()],
            )
            .await?;
        if changed == 0 {
            return Err(meanwhile());
        }
        let transaction = self.certifier.revoke(registration).encode();
        let id = enter(change, subject, "revocation", transaction, 0).await?;
        let key = &self.identity_key;
        record(change, key, subject, Decided::Revoked, by, reason, now).await?;
        Ok(id)
    }

    /// Renews by the holder's own call where the policy allows it; else the renewal waits for an
    /// officer.
    pub(super) async fn ask_renewal<T>(
        self: &Arc<Self>,
        subject: Subject,
        call: &Evidenced<T>,
    ) -> Result<EnrolmentStatus, Problem> {
        let holder = call.call.key();
        let row = self.own(subject, &holder).await?;
        let by = By::Holder(holder, call.evidence.clone());
        if self
            .was_decided(subject, &by, [Decided::Renewed; 2])
            .await?
        {
            return row.status(&self.identity_key);
        }
        if row.state != State::Registered {
            return Err(conflict(
                "only a certificate in force is renewed: after a revocation begin a new enrolment that names this one",
            ));
        }
        let now = now();
        let validity = u64::try_from(self.validity.as_millis()).unwrap_or(u64::MAX);
        let end = row.certificate()?.not_after().number();
        let last_quarter = end.saturating_sub(validity / 4)..=end;
        if last_quarter.contains(&now.number())
            && row.own_renewals < i64::from(self.renewals_by_holder)
        {
            let renewals = row.own_renewals + 1;
            self.renew_by(&row, &by, renewals).await?;
        } else {
            self.database
                .run(
                    "UPDATE enrolments SET renewal_asked = $2, changed = $2 \
                     WHERE subject = $1 AND state = 'registered' AND renewal_asked = 0",
                    &[number(subject.number()), now.into()],
                )
                .await?;
            self.tell(subject);
        }
        self.own(subject, &holder).await?.status(&self.identity_key)
    }

    async fn renew_by(&self, row: &Enrolment, by: &By, own_renewals: i64) -> Result<(), Problem> {
        let (subject, now) = (row.subject, now());
        let standing = row.certificate()?;
        let holder = standing.holder_unverified().clone();
        let renewed = self.certifier.renew(subject, holder, now);
        if renewed.not_after() <= standing.not_after() {
            return Err(conflict(
                "a renewal now would end no later than the certificate does: nothing is to be done",
            ));
        }
        let mut change = self.database.begin().await?;
        let changed = change
            .run(
                "UPDATE enrolments SET certificate = $2, own_renewals = $3, renewal_asked = 0, changed = $4 \
                 WHERE subject = $1 AND state = 'registered' AND certificate = $5",
                &[
                    number(subject.number()),
                    Value::Bytes(renewed.encode()),
                    Value::Integer(own_renewals),
                    now.into(),
                    Value::Bytes(row.certificate.clone()),
                ],
            )
            .await?;
        if changed == 0 {
            return Err(meanwhile());
        }
        let key = &self.identity_key;
        record(&mut change, key, subject, Decided::Renewed, by, "", now).await?;
        change.commit().await?;
        self.tell(subject);
        Ok(())
    }

    /// Signs anew what an earlier key of the centre signed: transactions that are not final yet, which
    /// the chain takes under the present key only and which keep their ids, and certificates, which
    /// their owners then find here.
    pub(super) async fn sign_again(&self) -> Result<(), Problem> {
        let mut after = 0;
        loop {
            let rows = self
                .database
                .rows(
                    select_enrolments!(
                        "WHERE subject > $1 AND state IN ('approved', 'registered', 'revoking') ORDER BY subject LIMIT 100"
                    ),
                    &[Value::Integer(after)],
                )
                .await?;
            for row in &rows {
                let row = Enrolment::read(row)?;
                let certificate = self.certifier.reissue(&row.certificate()?);
                let registration = self.certifier.register(certificate.holder_unverified());
                let revocation = self.certifier.revoke(registration.id(&self.consortium));
                let subject = number(row.subject.number());
                let mut change = self.database.begin().await?;
                change
                    .run(
                        "UPDATE enrolments SET certificate = $2 WHERE subject = $1",
                        &[subject.clone(), Value::Bytes(certificate.encode())],
                    )
                    .await?;
                for (kind, transaction) in
                    [("registration", registration), ("revocation", revocation)]
                {
                    change
                        .run(
                            "UPDATE outbox SET bytes = $3 WHERE subject = $1 AND kind = $2 AND state = 'open'",
                            &[
                                subject.clone(),
                                kind.into(),
                                Value::Bytes(transaction.encode()),
                            ],
                        )
                        .await?;
                }
                change.commit().await?;
                after = i64::try_from(row.subject.number()).map_err(|_| corrupt())?;
            }
            if rows.len() < 100 {
                return Ok(());
            }
        }
    }

    /// Whether this very call decided before: its answer was lost, and it is sent again.
    async fn was_decided(
        &self,
        subject: Subject,
        by: &By,
        decided: [Decided; 2],
    ) -> Result<bool, Problem> {
        let Some((key, call)) = by.call() else {
            return Ok(false);
        };
        let [one, other] = decided.map(decided_name);
        let found = self
            .database
            .row(
                "SELECT id FROM decisions WHERE by_key = $1 AND by_call = $2 AND subject = $3 AND decided IN ($4, $5)",
                &[
                    (*key.as_bytes()).into(),
                    call.into(),
                    number(subject.number()),
                    one.as_str().into(),
                    other.as_str().into(),
                ],
            )
            .await?;
        Ok(found.is_some())
    }

    /// Keeps a patient's encrypted directory, if it is the next version.
    pub(super) async fn keep_directory(
        &self,
        account: &VerifyingKey,
        directory: &EncryptedDirectory,
    ) -> Result<DirectoryVersion, Problem> {
        if directory.encrypted.0.len() > DIRECTORY_BYTES_MAX {
            return Err(Problem::new(
                ProblemKind::TooLong,
                "the directory is longer than 1 MiB: leave out what is over, nothing was kept",
            ));
        }
        let account = Value::from(*account.as_bytes());
        let registered = self
            .database
            .row(
                "SELECT subject FROM enrolments WHERE account = $1 AND kind = 'patient' AND state = 'registered' LIMIT 1",
                std::slice::from_ref(&account),
            )
            .await?;
        if registered.is_none() {
            return Err(Problem::new(
                ProblemKind::NoRight,
                "directories are kept for patients whose certificate is in force: enrol first",
            ));
        }
        let version = DirectoryVersion {
            version: directory.version,
        };
        let values = [
            account.clone(),
            number(directory.version),
            Value::Bytes(directory.encrypted.0.clone()),
        ];
        let kept = match directory.version {
            0 => return Err(does_not_stand("a directory's first version is 1: write that")),
            1 => {
                self.database
                    .run(
                        "INSERT INTO directories (account, version, encrypted) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                        &values,
                    )
                    .await?
            }
            _ => {
                self.database
                    .run(
                        "UPDATE directories SET version = $2, encrypted = $3 WHERE account = $1 AND version = $2 - 1",
                        &values,
                    )
                    .await?
            }
        };
        if kept > 0 {
            return Ok(version);
        }
        let standing = self
            .database
            .row(
                "SELECT version, encrypted FROM directories WHERE account = $1",
                &[account],
            )
            .await?;
        let (standing, same) = match standing {
            None => (0, false),
            Some(row) => (unsigned(&row, 0)?, row.bytes(1)? == directory.encrypted.0),
        };
        if same && standing == directory.version {
            return Ok(version);
        }
        Err(conflict(&format!(
            "version {standing} stands, so another device wrote since this one read: read the directory, take over what it holds, and write version {}",
            standing + 1
        )))
    }

    /// A patient's encrypted directory, also after a revocation: what it leads to moves to new keys.
    pub(super) async fn directory(
        &self,
        account: &VerifyingKey,
    ) -> Result<EncryptedDirectory, Problem> {
        let found = self
            .database
            .row(
                "SELECT version, encrypted FROM directories WHERE account = $1",
                &[(*account.as_bytes()).into()],
            )
            .await?;
        let row = found.ok_or_else(|| {
            Problem::not_found("no directory is kept under this key: write version 1")
        })?;
        Ok(EncryptedDirectory {
            version: unsigned(&row, 0)?,
            encrypted: client::Base64(row.bytes(1)?),
        })
    }

    /// Transactions that are not final yet, for who looks after the service.
    pub(super) async fn outbox(&self) -> Result<Outbox, Problem> {
        let rows = self
            .database
            .rows(
                "SELECT subject, kind, attempts, last_error FROM outbox WHERE state = 'open' ORDER BY id LIMIT 100",
                &[],
            )
            .await?;
        let outgoing = rows.iter().map(|row| {
            Ok(Outgoing {
                subject: unsigned(row, 0)?,
                revokes: row.text(1)? == "revocation",
                attempts: unsigned(row, 2)?,
                last_error: row.text(3)?,
            })
        });
        Ok(Outbox {
            outgoing: outgoing.collect::<Result<_, Problem>>()?,
        })
    }
}

impl Enrolment {
    /// Two people stand behind a certificate: who enrols, and another who approves.
    fn may_be_approved_by(&self, by: &By) -> Result<(), Problem> {
        let By::Officer(officer, _) = by else {
            return Ok(());
        };
        let key = &officer.key;
        if self.begun_by == *key
            || self.account == *key
            || self.made_by == key.as_bytes().as_slice()
        {
            Err(Problem::new(
                ProblemKind::NoRight,
                "an officer does not approve what was begun, or whose keys were made, under the officer's own key: another officer must",
            ))
        } else {
            Ok(())
        }
    }
}

/// Enters a transaction, signed this once, for the background task to hand to the chain.
async fn enter(
    change: &mut Change,
    subject: Subject,
    kind: &'static str,
    bytes: Vec<u8>,
    waits_for: i64,
) -> Result<i64, DatabaseError> {
    let id = next(change, "outbox").await?;
    change
        .run(
            "INSERT INTO outbox (id, subject, kind, bytes, waits_for, state, attempts, next_at, last_error, height) \
             VALUES ($1, $2, $3, $4, $5, 'open', 0, 0, '', 0)",
            &[
                Value::Integer(id),
                number(subject.number()),
                kind.into(),
                Value::Bytes(bytes),
                Value::Integer(waits_for),
            ],
        )
        .await?;
    Ok(id)
}

fn check_reason(reason: &str) -> Result<(), Problem> {
    let length = 1..=REASON_BYTES_MAX;
    if length.contains(&reason.trim().len()) {
        Ok(())
    } else {
        Err(does_not_stand(
            "a reason has 1 to 1,000 bytes: say what is wrong and what to do",
        ))
    }
}

fn nothing_waits(row: &Enrolment) -> Problem {
    conflict(&format!(
        "nothing of this enrolment waits for that decision, since it is {}: read it again",
        row.state.name()
    ))
}

pub(super) fn meanwhile() -> Problem {
    conflict("the enrolment changed meanwhile: read it again and decide anew")
}

pub(super) fn conflict(detail: &str) -> Problem {
    Problem::new(ProblemKind::Conflict, detail)
}

fn does_not_stand(detail: &str) -> Problem {
    Problem::new(ProblemKind::DoesNotStand, detail)
}

pub(super) fn no_such_enrolment() -> Problem {
    Problem::not_found(
        "there is no enrolment of this number under this key: check the number, and sign with the key that it was begun with",
    )
}

/// What a background task says of a failure.
pub(super) fn reason(error: &dyn std::error::Error) -> String {
    let mut text = sentence(error);
    text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
    text
}
