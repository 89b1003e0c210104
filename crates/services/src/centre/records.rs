//! What the centre's database holds.

use client::{
    Applicant, ApplicantKind, Base64, CallEvidence, Decided, Decider, Decision, EnrolmentDetail,
    EnrolmentState, EnrolmentStatus, EnrolmentSummary, Hex, Problem, ProblemKind,
};
use parties::Certificate;
use scheme::{Subject, Timestamp, VerifyingKey};

use crate::centre::at_rest::{IdentityKey, Kept};
use crate::centre::officers::By;
use crate::database::{Change, DatabaseError, ROW_DIGESTS, Row, Value};
use crate::http::ANSWERS_SCHEMA;

/// The steps of the schema, in order; a later version appends.
pub(super) const SCHEMA: &[&str] = &[ANSWERS_SCHEMA, TABLES, FINDING, ROW_DIGESTS];

/// Decisions of one subject in one answer: an approval, a revocation, and a renewal a year.
pub(super) const DECISIONS_MAX: i64 = 100;

// Bytes and numbers that are not there are empty and 0.
const TABLES: &str = "
CREATE TABLE counters (name TEXT PRIMARY KEY, next BIGINT NOT NULL CHECK (next >= 1));
INSERT INTO counters (name, next) VALUES ('subject', 1), ('doctor', 1), ('outbox', 1), ('decision', 1);
CREATE TABLE key_check (id BIGINT PRIMARY KEY, sealed {BYTES} NOT NULL);
CREATE TABLE enrolments (
    subject BIGINT PRIMARY KEY CHECK (subject >= 1),
    kind TEXT NOT NULL CHECK (kind IN ('patient', 'doctor')),
    account {BYTES} NOT NULL,
    begun_by {BYTES} NOT NULL,
    begun_call TEXT NOT NULL,
    begun BIGINT NOT NULL,
    institution BIGINT NOT NULL,
    doctor BIGINT NOT NULL,
    replaces BIGINT NOT NULL,
    identity {BYTES} NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('keys-missing', 'waiting', 'refused', 'approved', 'registered', 'revoking', 'revoked')),
    keys {BYTES} NOT NULL,
    reason {BYTES} NOT NULL,
    registration {BYTES} NOT NULL,
    certificate {BYTES} NOT NULL,
    renewal_asked BIGINT NOT NULL,
    own_renewals BIGINT NOT NULL,
    made_by {BYTES} NOT NULL,
    changed BIGINT NOT NULL,
    CHECK ((kind = 'doctor') = (doctor > 0)),
    CHECK (state IN ('keys-missing', 'waiting', 'refused') OR LENGTH(certificate) > 0),
    UNIQUE (begun_by, begun_call)
);
CREATE UNIQUE INDEX enrolments_doctor ON enrolments (doctor) WHERE doctor > 0;
CREATE INDEX enrolments_state ON enrolments (state, subject);
CREATE INDEX enrolments_renewal ON enrolments (subject) WHERE renewal_asked > 0;
CREATE INDEX enrolments_account ON enrolments (account);
CREATE TABLE registered_keys (
    hash {BYTES} PRIMARY KEY,
    subject BIGINT NOT NULL REFERENCES enrolments (subject)
);
CREATE INDEX registered_keys_subject ON registered_keys (subject);
CREATE TABLE outbox (
    id BIGINT PRIMARY KEY,
    subject BIGINT NOT NULL REFERENCES enrolments (subject),
    kind TEXT NOT NULL CHECK (kind IN ('registration', 'revocation')),
    bytes {BYTES} NOT NULL,
    waits_for BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'final', 'refused')),
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    last_error TEXT NOT NULL,
    height BIGINT NOT NULL,
    UNIQUE (subject, kind)
);
CREATE INDEX outbox_open ON outbox (state, next_at);
CREATE TABLE decisions (
    id BIGINT PRIMARY KEY,
    subject BIGINT NOT NULL REFERENCES enrolments (subject),
    decided TEXT NOT NULL,
    by_kind TEXT NOT NULL CHECK (by_kind IN ('officer', 'holder', 'configuration')),
    by_key {BYTES} NOT NULL,
    by_name TEXT NOT NULL,
    by_call TEXT NOT NULL,
    time BIGINT NOT NULL,
    reason {BYTES} NOT NULL,
    evidence {BYTES} NOT NULL,
    UNIQUE (by_key, by_call, subject)
);
CREATE INDEX decisions_subject ON decisions (subject, id);
CREATE TABLE directories (
    account {BYTES} PRIMARY KEY,
    version BIGINT NOT NULL CHECK (version >= 1),
    encrypted {BYTES} NOT NULL
);
CREATE TABLE pickups (
    subject BIGINT PRIMARY KEY REFERENCES enrolments (subject),
    sealed {BYTES} NOT NULL,
    proof {BYTES} NOT NULL,
    wrong BIGINT NOT NULL,
    made BIGINT NOT NULL
)";

/// Patients who want to be found by their document, and who looked for whom; for nobody if the document
/// was none of theirs.
const FINDING: &str = "
CREATE TABLE findable (
    account {BYTES} PRIMARY KEY,
    subject BIGINT NOT NULL REFERENCES enrolments (subject),
    document {BYTES} NOT NULL,
    code {BYTES} NOT NULL
);
CREATE INDEX findable_document ON findable (document);
CREATE TABLE findings (
    id {BYTES} PRIMARY KEY,
    account {BYTES} NOT NULL,
    subject BIGINT NOT NULL,
    doctor BIGINT NOT NULL,
    institution BIGINT NOT NULL,
    time BIGINT NOT NULL,
    purpose {BYTES} NOT NULL
);
CREATE INDEX findings_account ON findings (account, time);
CREATE INDEX findings_doctor ON findings (doctor, time);
CREATE INDEX findings_time ON findings (time)";

/// Selects enrolments, whose columns [`Enrolment::read`] knows.
macro_rules! select_enrolments {
    ($rest:literal) => {
        concat!(
            "SELECT subject, kind, account, begun_by, begun, institution, doctor, replaces, identity, \
             state, keys, reason, registration, certificate, renewal_asked, own_renewals, made_by \
             FROM enrolments ",
            $rest
        )
    };
}
pub(super) use select_enrolments;

/// How far an enrolment is, as a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    KeysMissing,
    Waiting,
    Refused,
    Approved,
    Registered,
    Revoking,
    Revoked,
}

impl State {
    const ALL: [(Self, &'static str); 7] = [
        (Self::KeysMissing, "keys-missing"),
        (Self::Waiting, "waiting"),
        (Self::Refused, "refused"),
        (Self::Approved, "approved"),
        (Self::Registered, "registered"),
        (Self::Revoking, "revoking"),
        (Self::Revoked, "revoked"),
    ];

    fn parse(text: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found.map(|(state, _)| *state)
    }

    pub(super) fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(state, _)| *state == self);
        found.map_or("", |(_, name)| name)
    }
}

/// A row of `enrolments`.
pub(super) struct Enrolment {
    pub(super) subject: Subject,
    pub(super) kind: ApplicantKind,
    pub(super) account: VerifyingKey,
    pub(super) begun_by: VerifyingKey,
    pub(super) begun: Timestamp,
    pub(super) institution: u32,
    pub(super) doctor: u64,
    pub(super) replaces: Option<Subject>,
    identity: Vec<u8>,
    pub(super) state: State,
    pub(super) keys: Vec<u8>,
    reason: Vec<u8>,
    pub(super) registration: Vec<u8>,
    pub(super) certificate: Vec<u8>,
    pub(super) renewal_asked: bool,
    pub(super) own_renewals: i64,
    /// The officer who let the centre make the keys.
    pub(super) made_by: Vec<u8>,
}

impl Enrolment {
    pub(super) fn read(row: &Row) -> Result<Self, Problem> {
        let kind = match row.text(1)?.as_str() {
            "doctor" => ApplicantKind::Doctor,
            _ => ApplicantKind::Patient,
        };
        let replaces = unsigned(row, 7)?;
        Ok(Self {
            subject: Subject::new(unsigned(row, 0)?),
            kind,
            account: VerifyingKey::new(row.array(2)?),
            begun_by: VerifyingKey::new(row.array(3)?),
            begun: row.time(4)?,
            institution: u32::try_from(row.integer(5)?).map_err(|_| corrupt())?,
            doctor: unsigned(row, 6)?,
            replaces: (replaces > 0).then_some(Subject::new(replaces)),
            identity: row.bytes(8)?,
            state: State::parse(&row.text(9)?).ok_or_else(corrupt)?,
            keys: row.bytes(10)?,
            reason: row.bytes(11)?,
            registration: row.bytes(12)?,
            certificate: row.bytes(13)?,
            renewal_asked: row.integer(14)? > 0,
            own_renewals: row.integer(15)?,
            made_by: row.bytes(16)?,
        })
    }

    pub(super) fn certificate(&self) -> Result<Certificate, Problem> {
        Certificate::decode(&self.certificate).map_err(|_| corrupt())
    }

    pub(super) fn status(&self, key: &IdentityKey) -> Result<EnrolmentStatus, Problem> {
        Ok(EnrolmentStatus {
            subject: self.subject.number(),
            doctor: (self.doctor > 0).then_some(self.doctor),
            state: self.state(key)?,
        })
    }

    fn state(&self, key: &IdentityKey) -> Result<EnrolmentState, Problem> {
        Ok(match self.state {
            State::KeysMissing => EnrolmentState::KeysMissing,
            State::Waiting => EnrolmentState::Waiting,
            State::Refused => EnrolmentState::Refused {
                reason: opened_text(key, Kept::Reason, self.subject, &self.reason)?
                    .unwrap_or_default(),
            },
            State::Approved => EnrolmentState::Approved,
            State::Registered => EnrolmentState::Registered {
                certificate: Base64(self.certificate.clone()),
                not_after: self.certificate()?.not_after().number(),
                renewal_waits: self.renewal_asked,
            },
            State::Revoking => EnrolmentState::Revoking,
            State::Revoked => EnrolmentState::Revoked,
        })
    }

    pub(super) fn summary(&self) -> EnrolmentSummary {
        EnrolmentSummary {
            subject: self.subject.number(),
            kind: self.kind,
            begun: self.begun.number(),
            doctor: (self.doctor > 0).then_some(self.doctor),
            institution: (self.institution > 0).then_some(self.institution),
            replaces: self.replaces.map(Subject::number),
            keys_made_here: !self.made_by.is_empty(),
        }
    }

    /// What the officer compares with the document; none of an enrolment whose material was removed.
    pub(super) fn applicant(&self, key: &IdentityKey) -> Result<Option<Applicant>, Problem> {
        if self.identity.is_empty() {
            return Ok(None);
        }
        let opened = key.open(Kept::Applicant, self.subject, &self.identity)?;
        let read = serde_json::from_slice(&opened).map_err(|_| corrupt())?;
        Ok(Some(read))
    }

    pub(super) fn detail(
        &self,
        key: &IdentityKey,
        decisions: Vec<Decision>,
    ) -> Result<EnrolmentDetail, Problem> {
        Ok(EnrolmentDetail {
            summary: self.summary(),
            state: self.state(key)?,
            applicant: self.applicant(key)?,
            account: Hex(*self.account.as_bytes()),
            decisions,
        })
    }
}

/// Reads a row of `decisions`: decided, by_kind, by_key, by_name, time, reason, evidence.
pub(super) fn decision(
    row: &Row,
    subject: Subject,
    key: &IdentityKey,
) -> Result<Decision, Problem> {
    let by = match row.text(1)?.as_str() {
        "officer" => Decider::Officer {
            name: row.text(3)?,
            key: Hex(row.array(2)?),
        },
        "holder" => Decider::Holder,
        _ => Decider::Configuration,
    };
    let decided = serde_json::Value::String(row.text(0)?);
    let evidence = opened_text(key, Kept::Call, subject, &row.bytes(6)?)?;
    let evidence: Option<CallEvidence> = match evidence {
        Some(text) => Some(serde_json::from_str(&text).map_err(|_| corrupt())?),
        None => None,
    };
    Ok(Decision {
        decided: serde_json::from_value(decided).map_err(|_| corrupt())?,
        by,
        time: row.time(4)?.number(),
        reason: opened_text(key, Kept::Reason, subject, &row.bytes(5)?)?,
        evidence,
    })
}

fn opened_text(
    key: &IdentityKey,
    what: Kept,
    subject: Subject,
    sealed: &[u8],
) -> Result<Option<String>, Problem> {
    if sealed.is_empty() {
        return Ok(None);
    }
    let opened = key.open(what, subject, sealed)?;
    let text = str::from_utf8(&opened).map_err(|_| corrupt())?;
    Ok(Some(text.to_owned()))
}

/// Enters a decision with its signed call.
pub(super) async fn record(
    change: &mut Change,
    key: &IdentityKey,
    subject: Subject,
    decided: Decided,
    by: &By,
    reason: &str,
    now: Timestamp,
) -> Result<(), DatabaseError> {
    let id = next(change, "decision").await?;
    let (kind, by_key, by_name, by_call, call) = match by {
        By::Officer(officer, call) => (
            "officer",
            Value::from(*officer.key.as_bytes()),
            officer.name.as_str(),
            call.idempotency_key.clone(),
            Some(call),
        ),
        By::Holder(holder, call) => (
            "holder",
            Value::from(*holder.as_bytes()),
            "",
            call.idempotency_key.clone(),
            Some(call),
        ),
        By::Configuration => (
            "configuration",
            Value::Bytes(Vec::new()),
            "",
            format!("decision-{id}"),
            None,
        ),
    };
    let sealed = |what, text: &str| match text {
        "" => Value::Bytes(Vec::new()),
        text => Value::Bytes(key.seal(what, subject, text.as_bytes())),
    };
    let call = call.map(|call| serde_json::to_string(call).unwrap_or_default());
    change
        .run(
            "INSERT INTO decisions (id, subject, decided, by_kind, by_key, by_name, by_call, time, reason, evidence) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            &[
                Value::Integer(id),
                number(subject.number()),
                decided_name(decided).as_str().into(),
                kind.into(),
                by_key,
                by_name.into(),
                by_call.as_str().into(),
                now.into(),
                sealed(Kept::Reason, reason),
                sealed(Kept::Call, call.as_deref().unwrap_or_default()),
            ],
        )
        .await?;
    Ok(())
}

/// A kind of decision as a column holds it: its name in JSON.
pub(super) fn decided_name(decided: Decided) -> String {
    let name = serde_json::to_value(decided).ok();
    let name = name.and_then(|name| name.as_str().map(str::to_owned));
    name.unwrap_or_default()
}

/// The next number of a kind; one is never given again.
pub(super) async fn next(change: &mut Change, name: &'static str) -> Result<i64, DatabaseError> {
    change
        .run(
            "UPDATE counters SET next = next + 1 WHERE name = $1",
            &[name.into()],
        )
        .await?;
    let row = change
        .row(
            "SELECT next - 1 FROM counters WHERE name = $1",
            &[name.into()],
        )
        .await?;
    row.map_or(Ok(0), |row| row.integer(0))
}

/// A number as a parameter. One that no row can have stays one that no row has.
pub(super) fn number(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

pub(super) fn unsigned(row: &Row, column: usize) -> Result<u64, Problem> {
    u64::try_from(row.integer(column)?).map_err(|_| corrupt())
}

pub(super) fn corrupt() -> Problem {
    Problem::new(
        ProblemKind::Failed,
        "a record of the centre cannot be read: the operator must restore a backup",
    )
}
