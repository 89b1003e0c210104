//! Asking through the centre: a doctor who has a patient's document and no code is given the code, if the
//! patient wants that. Who looked for whom is kept, and the patient sees it.
//!
//! - Only doctors whose certificate is in force look, twenty times an hour each, found or not.
//! - A document of nobody, of a patient who is not certified, and of one who does not want to be found
//!   have the same answer.
//! - The code opens nothing: the doctor asks with it, and the patient, or the agent, decides.

use client::{
    FindPatient, Findable, Finding, Hex, Identity, InboxCode, Problem, ProblemKind, SystemRandom,
    now,
};
use rand_core::Rng;
use scheme::{Subject, VerifyingKey};
use zeroize::Zeroizing;

use crate::centre::CentreService;
use crate::centre::at_rest::Kept;
use crate::centre::records::{Enrolment, corrupt, number, select_enrolments, unsigned};
use crate::database::Value;

const HOUR_MS: u64 = 60 * 60 * 1000;
/// How often a doctor may look in an hour.
const FINDINGS_AN_HOUR: i64 = 20;
/// For how long it is kept who looked.
const KEPT_MS: u64 = 400 * 24 * HOUR_MS;
/// Of one patient, in one answer.
const FINDINGS_SHOWN: i64 = 100;
const PURPOSE_CHARACTERS_MAX: usize = 200;

/// Whether a certificate's time runs.
fn has_not_ended(row: &Enrolment) -> bool {
    row.certificate()
        .is_ok_and(|certificate| certificate.not_after() > now())
}

impl CentreService {
    /// The enrolment of this key that is in force, of this kind.
    async fn in_force(
        &self,
        account: &VerifyingKey,
        kind: &'static str,
    ) -> Result<Option<Enrolment>, Problem> {
        let found = self
            .database
            .row(
                select_enrolments!(
                    "WHERE account = $1 AND kind = $2 AND state = 'registered' ORDER BY subject DESC LIMIT 1"
                ),
                &[(*account.as_bytes()).into(), kind.into()],
            )
            .await?;
        let found = found.map(|row| Enrolment::read(&row)).transpose()?;
        Ok(found.filter(has_not_ended))
    }

    /// By what the officer compared with the document.
    pub(super) async fn be_findable(
        &self,
        account: &VerifyingKey,
        code: &InboxCode,
    ) -> Result<(), Problem> {
        let Some(row) = self.in_force(account, "patient").await? else {
            return Err(Problem::new(
                ProblemKind::NoRight,
                "only patients whose certificate is in force can be found: enrol first",
            ));
        };
        let applicant = row.applicant(&self.identity_key)?;
        let applicant = applicant.ok_or_else(corrupt)?;
        let mut plain = Zeroizing::new(code.handle.0.to_vec());
        plain.extend_from_slice(&code.salt.0);
        let values = [
            (*account.as_bytes()).into(),
            number(row.subject.number()),
            self.document_of(applicant.identity()).into(),
            Value::Bytes(self.identity_key.seal(Kept::InboxCode, row.subject, &plain)),
        ];
        self.database
            .run(
                "INSERT INTO findable (account, subject, document, code) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (account) DO UPDATE SET subject = $2, document = $3, code = $4",
                &values,
            )
            .await?;
        Ok(())
    }

    pub(super) async fn be_hidden(&self, account: &VerifyingKey) -> Result<(), Problem> {
        let account = (*account.as_bytes()).into();
        self.database
            .run("DELETE FROM findable WHERE account = $1", &[account])
            .await?;
        Ok(())
    }

    pub(super) async fn findable(&self, account: &VerifyingKey) -> Result<Findable, Problem> {
        let account = Value::from(*account.as_bytes());
        let standing = self
            .database
            .row(
                "SELECT subject FROM findable WHERE account = $1",
                std::slice::from_ref(&account),
            )
            .await?;
        let rows = self
            .database
            .rows(
                "SELECT subject, doctor, institution, time, purpose FROM findings \
                 WHERE account = $1 ORDER BY time DESC LIMIT $2",
                &[account, Value::Integer(FINDINGS_SHOWN)],
            )
            .await?;
        let findings = rows.iter().map(|row| {
            let subject = Subject::new(unsigned(row, 0)?);
            let purpose = self
                .identity_key
                .open(Kept::Purpose, subject, &row.bytes(4)?)?;
            Ok(Finding {
                doctor: unsigned(row, 1)?,
                institution: u32::try_from(unsigned(row, 2)?).map_err(|_| corrupt())?,
                time: unsigned(row, 3)?,
                purpose: String::from_utf8_lossy(&purpose).into_owned(),
            })
        });
        Ok(Findable {
            findable: standing.is_some(),
            findings: findings.collect::<Result<_, Problem>>()?,
        })
    }

    pub(super) async fn find(
        &self,
        caller: &VerifyingKey,
        patient: &FindPatient,
    ) -> Result<InboxCode, Problem> {
        let Some(doctor) = self.in_force(caller, "doctor").await? else {
            return Err(Problem::new(
                ProblemKind::NoRight,
                "only doctors whose certificate is in force look for patients: sign with the certified key",
            ));
        };
        let purpose = patient.purpose.trim();
        if purpose.is_empty() || purpose.chars().count() > PURPOSE_CHARACTERS_MAX {
            return Err(Problem::new(
                ProblemKind::DoesNotStand,
                "say in 1 to 200 characters why you look for this patient, who will read it",
            ));
        }
        // Calls at one time count as calls one after the other.
        let _one = self.finding.lock().await;
        let time = now().number();
        let recent = self
            .database
            .row(
                "SELECT COUNT(*) FROM findings WHERE doctor = $1 AND time > $2",
                &[number(doctor.doctor), number(time.saturating_sub(HOUR_MS))],
            )
            .await?;
        if recent.map_or(Ok(0), |row| row.integer(0))? >= FINDINGS_AN_HOUR {
            return Err(Problem::new(
                ProblemKind::TooMany,
                "you looked for patients twenty times within an hour: ask for a code, or look again in an hour",
            ));
        }
        let document = self.name_of(
            &patient.document_kind,
            &patient.document_number,
            &patient.birth_date,
        );
        let found = self
            .database
            .row(
                "SELECT findable.account, findable.subject, findable.code FROM findable \
                 JOIN enrolments ON enrolments.subject = findable.subject \
                 WHERE findable.document = $1 AND enrolments.state = 'registered' \
                 ORDER BY findable.subject DESC LIMIT 1",
                &[document.into()],
            )
            .await?;
        let found = match found {
            Some(row) => {
                let of = self.read(Subject::new(unsigned(&row, 1)?)).await?;
                of.filter(has_not_ended).map(|_| row)
            }
            None => None,
        };
        let (account, subject) = match &found {
            Some(row) => (row.bytes(0)?, Subject::new(unsigned(row, 1)?)),
            None => (Vec::new(), Subject::new(0)),
        };
        self.keep_finding(&doctor, account, subject, time, purpose)
            .await?;
        let Some(row) = found else {
            return Err(Problem::not_found(
                "no patient with this document lets doctors find them: check kind, number and date of birth, or ask the patient or the family for the code",
            ));
        };
        let plain = self
            .identity_key
            .open(Kept::InboxCode, subject, &row.bytes(2)?)?;
        let (handle, salt) = plain.split_first_chunk::<16>().ok_or_else(corrupt)?;
        Ok(InboxCode {
            handle: Hex(*handle),
            salt: Hex(salt.try_into().map_err(|_| corrupt())?),
        })
    }

    async fn keep_finding(
        &self,
        doctor: &Enrolment,
        account: Vec<u8>,
        subject: Subject,
        time: u64,
        purpose: &str,
    ) -> Result<(), Problem> {
        let mut id = [0; 16];
        SystemRandom.fill_bytes(&mut id);
        let mut change = self.database.begin().await?;
        change
            .run(
                "DELETE FROM findings WHERE time < $1",
                &[number(time.saturating_sub(KEPT_MS))],
            )
            .await?;
        let sealed = self
            .identity_key
            .seal(Kept::Purpose, subject, purpose.as_bytes());
        change
            .run(
                "INSERT INTO findings (id, account, subject, doctor, institution, time, purpose) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                &[
                    Value::Bytes(id.to_vec()),
                    Value::Bytes(account),
                    number(subject.number()),
                    number(doctor.doctor),
                    number(doctor.institution.into()),
                    number(time),
                    Value::Bytes(sealed),
                ],
            )
            .await?;
        Ok(change.commit().await?)
    }

    fn document_of(&self, identity: &Identity) -> [u8; 32] {
        self.name_of(
            &identity.document_kind,
            &identity.document_number,
            &identity.birth_date,
        )
    }

    /// However it is typed: without spaces and hyphens, in small letters.
    fn name_of(&self, kind: &str, document: &str, birth_date: &str) -> [u8; 32] {
        let plain = |text: &str| {
            let kept = text.chars().filter(|one| one.is_alphanumeric());
            Zeroizing::new(kept.flat_map(char::to_lowercase).collect::<String>())
        };
        let [kind, document, birth_date] = [kind, document, birth_date].map(plain);
        self.identity_key.name_document(&[
            kind.as_bytes(),
            document.as_bytes(),
            birth_date.as_bytes(),
        ])
    }
}
