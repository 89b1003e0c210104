//! What a gateway remembers: which number of the hospital's is which patient of willis, the documents that
//! can be found now, proposals of consent, and what was done with a patient's documents.
//!
//! It holds no key, no pseudonym and no text of a record but the description of its documents. What was
//! read under a grant is removed with the grant.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use services::{Change, Database, DatabaseError, DatabaseLocation, ROW_DIGESTS, Row, Value};

use crate::smart::Used;

/// Numbers of one patient: those of the hospital's systems, and a UID for each stay.
pub(crate) const IDENTIFIERS_MAX: usize = 64;
/// Proposals of one patient.
pub(crate) const CONSENTS_MAX: usize = 256;

const SCHEMA: &[&str] = &[
    "
    CREATE TABLE patients (
        id TEXT PRIMARY KEY,
        version BIGINT NOT NULL,
        updated BIGINT NOT NULL
    );
    CREATE TABLE identifiers (
        system TEXT NOT NULL,
        value TEXT NOT NULL,
        patient TEXT NOT NULL,
        place BIGINT NOT NULL,
        PRIMARY KEY (system, value)
    );
    CREATE INDEX identifiers_patient ON identifiers (patient);
    CREATE TABLE documents (
        id TEXT PRIMARY KEY,
        patient TEXT NOT NULL,
        entered BIGINT NOT NULL,
        record TEXT NOT NULL,
        file BIGINT NOT NULL,
        gid TEXT NOT NULL,
        consent TEXT NOT NULL,
        until BIGINT NOT NULL,
        path TEXT NOT NULL,
        dicom TEXT NOT NULL,
        study TEXT NOT NULL,
        series TEXT NOT NULL,
        instance TEXT NOT NULL,
        resource TEXT NOT NULL
    );
    CREATE INDEX documents_patient ON documents (patient);
    CREATE INDEX documents_record ON documents (record);
    CREATE INDEX documents_study ON documents (study, series);
    CREATE INDEX documents_gid ON documents (gid);
    CREATE TABLE lists (
        id TEXT PRIMARY KEY,
        patient TEXT NOT NULL,
        entered BIGINT NOT NULL,
        gid TEXT NOT NULL,
        consent TEXT NOT NULL,
        until BIGINT NOT NULL,
        record TEXT NOT NULL,
        resource TEXT NOT NULL
    );
    CREATE TABLE pending (record TEXT PRIMARY KEY, supersedes TEXT NOT NULL);
    CREATE TABLE opened (
        record TEXT NOT NULL,
        gid TEXT NOT NULL,
        patient TEXT NOT NULL,
        consent TEXT NOT NULL,
        until BIGINT NOT NULL,
        parts BIGINT NOT NULL,
        classes TEXT NOT NULL,
        PRIMARY KEY (record, gid)
    );
    CREATE INDEX lists_patient ON lists (patient);
    CREATE TABLE submissions (
        key TEXT PRIMARY KEY,
        digest {BYTES} NOT NULL,
        entered BIGINT NOT NULL,
        record TEXT NOT NULL,
        response TEXT NOT NULL
    );
    CREATE INDEX submissions_record ON submissions (record);
    CREATE TABLE consents (
        id TEXT PRIMARY KEY,
        patient TEXT NOT NULL,
        entered BIGINT NOT NULL,
        updated BIGINT NOT NULL,
        version BIGINT NOT NULL,
        requests TEXT NOT NULL,
        provisions TEXT NOT NULL,
        given_up BIGINT NOT NULL,
        resource TEXT NOT NULL
    );
    CREATE INDEX consents_patient ON consents (patient);
    CREATE TABLE events (
        id TEXT PRIMARY KEY,
        patient TEXT NOT NULL,
        entered BIGINT NOT NULL,
        record TEXT NOT NULL,
        resource TEXT NOT NULL
    );
    CREATE TABLE assertions (
        system TEXT NOT NULL,
        jti TEXT NOT NULL,
        until BIGINT NOT NULL,
        PRIMARY KEY (system, jti)
    );
    CREATE INDEX events_record ON events (record);
    CREATE INDEX events_patient ON events (patient, entered)
",
    ROW_DIGESTS,
];

/// A number by which a system knows a patient.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identifier {
    pub(crate) system: String,
    pub(crate) value: String,
}

/// A patient of this hospital.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Patient {
    pub(crate) id: String,
    pub(crate) version: u64,
    pub(crate) updated: u64,
    pub(crate) identifiers: Vec<Identifier>,
}

/// A document that can be found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub(crate) id: String,
    pub(crate) patient: String,
    /// When it was entered here, in ms since 1970.
    pub(crate) entered: u64,
    /// Its record's transaction in hexadecimal.
    pub(crate) record: String,
    /// Number of the file in its record.
    pub(crate) file: u32,
    /// The grant under which it was read, in hexadecimal; empty of an own one.
    pub(crate) gid: String,
    /// The proposal that the grant answers; empty of an own one.
    pub(crate) consent: String,
    /// Until when it may be read, in ms since 1970; 0 of an own one.
    pub(crate) until: u64,
    /// Where its bytes lie now; empty if they are to be fetched.
    pub(crate) path: String,
    /// What an image is found by, in DICOM's JSON model; none of what is no image.
    pub(crate) dicom: Option<Json>,
    /// The DocumentReference.
    pub(crate) resource: Json,
}

/// A record that a grant opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened<'a> {
    pub(crate) record: &'a str,
    pub(crate) gid: &'a str,
    pub(crate) patient: &'a str,
    pub(crate) consent: &'a str,
    /// Until when, in ms since 1970.
    pub(crate) until: u64,
    /// Files that are not granted as a whole.
    pub(crate) parts: u64,
    /// The request that the grant answers, in hexadecimal.
    pub(crate) request: &'a str,
    /// Names of the section classes that were opened, separated by spaces.
    pub(crate) classes: &'a str,
}

/// A list of documents that can be found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct List {
    pub(crate) id: String,
    pub(crate) patient: String,
    pub(crate) entered: u64,
    /// The grant under which it was read, in hexadecimal; empty of an own one.
    pub(crate) gid: String,
    pub(crate) consent: String,
    pub(crate) resource: Json,
}

/// A record on its way to the chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pending<'a> {
    pub(crate) record: &'a str,
    pub(crate) patient: &'a str,
    pub(crate) documents: &'a [Document],
    pub(crate) lists: &'a [(String, Json)],
    /// Key, digest and answer of the submission.
    pub(crate) submission: Option<(&'a str, [u8; 32], &'a Json)>,
    /// Documents that it replaces, by their ids.
    pub(crate) supersedes: &'a [String],
    pub(crate) event: &'a NewEvent,
}

/// What was answered to a submission.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Submission {
    /// SHA-256 of what it held.
    pub(crate) digest: [u8; 32],
    pub(crate) response: Json,
    pub(crate) is_final: bool,
}

/// A proposal of consent, and the requests that carried it to the patient.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Consent {
    pub(crate) id: String,
    pub(crate) patient: String,
    pub(crate) entered: u64,
    pub(crate) updated: u64,
    pub(crate) version: u64,
    /// Requests in hexadecimal, the newest last.
    pub(crate) requests: Vec<String>,
    /// The provision that each request carried to the patient, by request.
    pub(crate) provisions: serde_json::Map<String, Json>,
    /// Whether this hospital gave up what was granted.
    pub(crate) given_up: bool,
    /// As it was proposed last.
    pub(crate) resource: Json,
}

/// The gateway's memory.
#[derive(Clone)]
pub(crate) struct Register(Database);

/// Which images are looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ImageFilter<'a> {
    /// Of these patients; none stands for all.
    pub(crate) patients: Option<&'a BTreeSet<String>>,
    pub(crate) study: Option<&'a str>,
    pub(crate) series: Option<&'a str>,
    pub(crate) instance: Option<&'a str>,
}

/// An event that is entered with what it tells of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewEvent {
    pub(crate) id: String,
    pub(crate) time: u64,
    pub(crate) resource: Json,
}

/// Enters documents, and the lists that submitted them.
async fn enter_documents(
    change: &mut Change,
    documents: &[Document],
    lists: &[(String, Json)],
) -> Result<(), DatabaseError> {
    for document in documents {
        let sql = "INSERT INTO documents \
            (id, patient, entered, record, file, gid, consent, until, path, resource, dicom, \
            study, series, instance) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
        let named = |tag: &str| {
            let dicom = document.dicom.as_ref();
            text(
                dicom
                    .and_then(|one| one[tag]["Value"][0].as_str())
                    .unwrap_or_default(),
            )
        };
        let values = [
            text(&document.id),
            text(&document.patient),
            int(document.entered),
            text(&document.record),
            Value::Integer(document.file.into()),
            text(&document.gid),
            text(&document.consent),
            int(document.until),
            text(&document.path),
            text(&document.resource.to_string()),
            text(
                &document
                    .dicom
                    .as_ref()
                    .map(Json::to_string)
                    .unwrap_or_default(),
            ),
            named("0020000D"),
            named("0020000E"),
            named("00080018"),
        ];
        change.run(sql, &values).await?;
    }
    let Some(first) = documents.first() else {
        return Ok(());
    };
    for (id, list) in lists {
        let sql = "INSERT INTO lists (id, patient, entered, gid, consent, until, record, resource) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let values = [
            text(id),
            text(&first.patient),
            int(first.entered),
            text(&first.gid),
            text(&first.consent),
            int(first.until),
            text(&first.record),
            text(&list.to_string()),
        ];
        change.run(sql, &values).await?;
    }
    Ok(())
}

async fn enter_event(
    change: &mut Change,
    patient: &str,
    record: &str,
    event: &NewEvent,
) -> Result<(), DatabaseError> {
    let sql = "INSERT INTO events (id, patient, entered, record, resource) \
        VALUES ($1, $2, $3, $4, $5)";
    let values = [
        text(&event.id),
        text(patient),
        int(event.time),
        text(record),
        text(&event.resource.to_string()),
    ];
    change.run(sql, &values).await.map(drop)
}

impl Register {
    pub(crate) async fn open(location: &DatabaseLocation) -> Result<Self, DatabaseError> {
        Ok(Self(Database::open(location, SCHEMA).await?))
    }

    pub(crate) async fn close(&self) {
        self.0.close().await;
    }

    pub(crate) fn database(&self) -> &Database {
        &self.0
    }

    /// Enters an assertion that was used, and forgets those that have ended; `now` in seconds since 1970.
    ///
    /// # Errors
    /// [`DatabaseError`]; if it was used before, too.
    pub(crate) async fn enter_assertion(&self, used: &Used, now: u64) -> Result<(), DatabaseError> {
        let mut change = self.0.begin().await?;
        let sql = "DELETE FROM assertions WHERE until <= $1";
        change.run(sql, &[int(now)]).await?;
        let sql = "INSERT INTO assertions (system, jti, until) VALUES ($1, $2, $3)";
        let values = [text(&used.system), text(&used.jti), int(used.until)];
        change.run(sql, &values).await?;
        change.commit().await
    }

    /// Assertions that were used and could still stand.
    pub(crate) async fn assertions(&self, now: u64) -> Result<Vec<Used>, DatabaseError> {
        let sql = "SELECT system, jti, until FROM assertions WHERE until > $1";
        let rows = self.0.rows(sql, &[int(now)]).await?;
        let used = |row: &Row| {
            Ok(Used {
                system: row.text(0)?,
                jti: row.text(1)?,
                until: number(row, 2)?,
            })
        };
        rows.iter().map(used).collect()
    }

    /// Enters a patient with these numbers.
    ///
    /// # Errors
    /// [`DatabaseError::Exists`] if one of them is another patient's.
    pub(crate) async fn enter_patient(&self, patient: &Patient) -> Result<(), DatabaseError> {
        let mut change = self.0.begin().await?;
        let sql = "INSERT INTO patients (id, version, updated) VALUES ($1, $2, $3)";
        let values = [
            text(&patient.id),
            int(patient.version),
            int(patient.updated),
        ];
        change.run(sql, &values).await?;
        for (place, identifier) in patient.identifiers.iter().enumerate() {
            change
                .run(IDENTIFIER, &identifier_row(patient, identifier, place))
                .await?;
        }
        change.commit().await
    }

    /// Replaces a patient's numbers if nobody changed them since `before`.
    ///
    /// # Errors
    /// [`DatabaseError::Exists`] if one of them is another patient's.
    pub(crate) async fn change_patient(
        &self,
        patient: &Patient,
        before: u64,
    ) -> Result<bool, DatabaseError> {
        let mut change = self.0.begin().await?;
        let sql = "UPDATE patients SET version = $2, updated = $3 WHERE id = $1 AND version = $4";
        let values = [
            text(&patient.id),
            int(patient.version),
            int(patient.updated),
            int(before),
        ];
        if change.run(sql, &values).await? == 0 {
            return Ok(false);
        }
        let sql = "DELETE FROM identifiers WHERE patient = $1";
        change.run(sql, &[text(&patient.id)]).await?;
        for (place, identifier) in patient.identifiers.iter().enumerate() {
            change
                .run(IDENTIFIER, &identifier_row(patient, identifier, place))
                .await?;
        }
        change.commit().await?;
        Ok(true)
    }

    pub(crate) async fn patient(&self, id: &str) -> Result<Option<Patient>, DatabaseError> {
        let sql = "SELECT version, updated FROM patients WHERE id = $1";
        let Some(row) = self.0.row(sql, &[text(id)]).await? else {
            return Ok(None);
        };
        let sql =
            "SELECT system, value FROM identifiers WHERE patient = $1 ORDER BY place LIMIT 64";
        let rows = self.0.rows(sql, &[text(id)]).await?;
        let identifier = |row: &Row| {
            Ok(Identifier {
                system: row.text(0)?,
                value: row.text(1)?,
            })
        };
        Ok(Some(Patient {
            id: id.to_owned(),
            version: number(&row, 0)?,
            updated: number(&row, 1)?,
            identifiers: rows
                .iter()
                .map(identifier)
                .collect::<Result<_, DatabaseError>>()?,
        }))
    }

    /// All patients, up to 65,536.
    pub(crate) async fn patients(&self) -> Result<Vec<Patient>, DatabaseError> {
        let sql = "SELECT id, version, updated FROM patients ORDER BY id LIMIT 65536";
        let rows = self.0.rows(sql, &[]).await?;
        let mut patients = std::collections::BTreeMap::new();
        for row in rows {
            let patient = Patient {
                id: row.text(0)?,
                version: number(&row, 1)?,
                updated: number(&row, 2)?,
                identifiers: Vec::new(),
            };
            patients.insert(patient.id.clone(), patient);
        }
        let sql =
            "SELECT patient, system, value FROM identifiers ORDER BY patient, place LIMIT 4194304";
        for row in self.0.rows(sql, &[]).await? {
            if let Some(patient) = patients.get_mut(&row.text(0)?) {
                patient.identifiers.push(Identifier {
                    system: row.text(1)?,
                    value: row.text(2)?,
                });
            }
        }
        Ok(patients.into_values().collect())
    }

    /// The patients that have this number; of any system if none is given. More than one only then.
    pub(crate) async fn patients_by(
        &self,
        system: Option<&str>,
        value: &str,
    ) -> Result<Vec<Patient>, DatabaseError> {
        let rows = match system {
            Some(system) => {
                let sql = "SELECT DISTINCT patient FROM identifiers WHERE system = $1 AND value = $2 LIMIT 16";
                self.0.rows(sql, &[text(system), text(value)]).await?
            }
            None => {
                let sql = "SELECT DISTINCT patient FROM identifiers WHERE value = $1 LIMIT 16";
                self.0.rows(sql, &[text(value)]).await?
            }
        };
        let mut patients = Vec::new();
        for row in rows {
            patients.extend(self.patient(&row.text(0)?).await?);
        }
        Ok(patients)
    }

    /// The newest documents of a patient that may be read at this time, at most 65,536: 30 studies of
    /// 2,000 slices, each a document of its own. If there are more, the earliest are left out.
    pub(crate) async fn documents(
        &self,
        patient: &str,
        now: u64,
    ) -> Result<Vec<Document>, DatabaseError> {
        let sql = "SELECT id, patient, entered, record, file, gid, consent, until, path, resource, dicom \
            FROM documents WHERE patient = $1 AND (until = 0 OR until > $2) \
            AND record NOT IN (SELECT record FROM pending) \
            ORDER BY entered DESC, id DESC LIMIT 65536";
        let rows = self.0.rows(sql, &[text(patient), int(now)]).await?;
        rows.iter().map(document).collect()
    }

    /// The newest images that may be read at this time, at most 65,536.
    pub(crate) async fn images(
        &self,
        filter: &ImageFilter<'_>,
        now: u64,
    ) -> Result<Vec<Document>, DatabaseError> {
        let sql = "SELECT id, patient, entered, record, file, gid, consent, until, path, resource, dicom \
            FROM documents WHERE study <> '' AND (until = 0 OR until > $1) \
            AND ($2 = '' OR study = $2) AND ($3 = '' OR series = $3) \
            AND ($4 = '' OR instance = $4) AND ($5 = '' OR patient = $5) \
            AND record NOT IN (SELECT record FROM pending) \
            ORDER BY entered DESC, id DESC LIMIT 65536";
        let named = |value: Option<&str>| text(value.unwrap_or_default());
        let values = |patient: &str| {
            [
                int(now),
                named(filter.study),
                named(filter.series),
                named(filter.instance),
                text(patient),
            ]
        };
        let mut images = Vec::new();
        match filter.patients {
            None => {
                let rows = self.0.rows(sql, &values("")).await?;
                for row in &rows {
                    images.push(document(row)?);
                }
            }
            Some(patients) => {
                for patient in patients {
                    let rows = self.0.rows(sql, &values(patient)).await?;
                    for row in &rows {
                        images.push(document(row)?);
                    }
                }
            }
        }
        Ok(images)
    }

    /// A document that may be read at this time.
    pub(crate) async fn document(
        &self,
        id: &str,
        now: u64,
    ) -> Result<Option<Document>, DatabaseError> {
        let sql = "SELECT id, patient, entered, record, file, gid, consent, until, path, resource, dicom \
            FROM documents WHERE id = $1 AND (until = 0 OR until > $2) \
            AND record NOT IN (SELECT record FROM pending)";
        let row = self.0.row(sql, &[text(id), int(now)]).await?;
        row.as_ref().map(document).transpose()
    }

    /// Says where a document's bytes lie now, or that they are to be fetched.
    pub(crate) async fn place_document(&self, id: &str, path: &str) -> Result<(), DatabaseError> {
        let sql = "UPDATE documents SET path = $2 WHERE id = $1";
        self.0.run(sql, &[text(id), text(path)]).await.map(drop)
    }

    /// Enters a record that was opened under a grant, with its documents and the event that tells of
    /// it; false, and nothing is entered, if its proposal was given up or has other requests meanwhile.
    pub(crate) async fn enter_opened(
        &self,
        opened: &Opened<'_>,
        documents: &[Document],
        lists: &[(String, Json)],
        event: &NewEvent,
    ) -> Result<bool, DatabaseError> {
        let mut change = self.0.begin().await?;
        let sql = "SELECT given_up, requests FROM consents WHERE id = $1";
        let row = change.row(sql, &[text(opened.consent)]).await?;
        let stands = match row {
            Some(row) => {
                let requests = row.text(1)?;
                row.integer(0)? == 0 && requests.split_whitespace().any(|one| one == opened.request)
            }
            None => false,
        };
        if !stands {
            return Ok(false);
        }
        enter_documents(&mut change, documents, lists).await?;
        let sql = "INSERT INTO opened (record, gid, patient, consent, until, parts, classes) \
            VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let values = [
            text(opened.record),
            text(opened.gid),
            text(opened.patient),
            text(opened.consent),
            int(opened.until),
            int(opened.parts),
            text(opened.classes),
        ];
        change.run(sql, &values).await?;
        enter_event(&mut change, opened.patient, "", event).await?;
        change.commit().await?;
        Ok(true)
    }

    /// The section classes that a grant opened so far, by their names.
    pub(crate) async fn classes(&self, gid: &str) -> Result<BTreeSet<String>, DatabaseError> {
        let sql = "SELECT DISTINCT classes FROM opened WHERE gid = $1 LIMIT 4096";
        let mut classes = BTreeSet::new();
        for row in self.0.rows(sql, &[text(gid)]).await? {
            classes.extend(row.text(0)?.split_whitespace().map(str::to_owned));
        }
        Ok(classes)
    }

    /// The grants under which records are open here: each with its proposal, and until when it stands.
    pub(crate) async fn grants(&self) -> Result<Vec<(String, String, u64)>, DatabaseError> {
        let sql = "SELECT DISTINCT gid, consent, until FROM opened LIMIT 65536";
        let rows = self.0.rows(sql, &[]).await?;
        let grant = |row: &Row| Ok((row.text(0)?, row.text(1)?, number(row, 2)?));
        rows.iter().map(grant).collect()
    }

    /// Whether a record was opened under a grant.
    pub(crate) async fn is_opened(&self, record: &str, gid: &str) -> Result<bool, DatabaseError> {
        let sql = "SELECT record FROM opened WHERE record = $1 AND gid = $2";
        let found = self.0.row(sql, &[text(record), text(gid)]).await?;
        Ok(found.is_some())
    }

    /// How many files of a patient's opened records are not granted as a whole.
    pub(crate) async fn parts(&self, patient: &str, now: u64) -> Result<u64, DatabaseError> {
        let sql = "SELECT CAST(COALESCE(SUM(parts), 0) AS BIGINT) FROM opened \
            WHERE patient = $1 AND until > $2";
        let row = self.0.row(sql, &[text(patient), int(now)]).await?;
        row.map_or(Ok(0), |row| number(&row, 0))
    }

    /// Forgets what was read under a grant: its documents, their lists and their descriptions.
    pub(crate) async fn forget_grant(&self, gid: &str) -> Result<u64, DatabaseError> {
        let mut change = self.0.begin().await?;
        change
            .run("DELETE FROM lists WHERE gid = $1", &[text(gid)])
            .await?;
        change
            .run("DELETE FROM opened WHERE gid = $1", &[text(gid)])
            .await?;
        let sql = "DELETE FROM documents WHERE gid = $1";
        let count = change.run(sql, &[text(gid)]).await?;
        change.commit().await?;
        self.0.forget_deleted().await?;
        Ok(count)
    }

    /// A list that may be read at this time.
    pub(crate) async fn list(&self, id: &str, now: u64) -> Result<Option<List>, DatabaseError> {
        let sql = "SELECT id, patient, entered, gid, consent, resource FROM lists \
            WHERE id = $1 AND (until = 0 OR until > $2) \
            AND record NOT IN (SELECT record FROM pending)";
        let row = self.0.row(sql, &[text(id), int(now)]).await?;
        row.as_ref().map(list).transpose()
    }

    /// The newest lists of a patient that may be read at this time, at most 4,096.
    pub(crate) async fn lists(&self, patient: &str, now: u64) -> Result<Vec<List>, DatabaseError> {
        let sql = "SELECT id, patient, entered, gid, consent, resource FROM lists \
            WHERE patient = $1 AND (until = 0 OR until > $2) \
            AND record NOT IN (SELECT record FROM pending) \
            ORDER BY entered DESC, id DESC LIMIT 4096";
        let rows = self.0.rows(sql, &[text(patient), int(now)]).await?;
        rows.iter().map(list).collect()
    }

    /// What a submission was answered that came before under this key, the digest of what it held, and
    /// whether its record is final.
    pub(crate) async fn submission(&self, key: &str) -> Result<Option<Submission>, DatabaseError> {
        let sql = "SELECT digest, response, \
            (SELECT COUNT(*) FROM pending WHERE pending.record = submissions.record) \
            FROM submissions WHERE key = $1";
        let row = self.0.row(sql, &[text(key)]).await?;
        row.map(|row| {
            Ok(Submission {
                digest: row.array(0)?,
                response: json(&row, 1)?,
                is_final: row.integer(2)? == 0,
            })
        })
        .transpose()
    }

    /// Enters a record that is sealed and goes to the chain now. Nothing of it is shown before
    /// [`Self::is_final`].
    pub(crate) async fn enter_pending(&self, pending: &Pending<'_>) -> Result<(), DatabaseError> {
        let mut change = self.0.begin().await?;
        let sql = "INSERT INTO pending (record, supersedes) VALUES ($1, $2)";
        let values = [text(pending.record), text(&pending.supersedes.join(" "))];
        change.run(sql, &values).await?;
        enter_documents(&mut change, pending.documents, pending.lists).await?;
        if let Some((key, digest, response)) = pending.submission {
            let sql = "INSERT INTO submissions (key, digest, entered, record, response) \
                VALUES ($1, $2, $3, $4, $5)";
            let values = [
                text(key),
                digest.into(),
                int(pending.event.time),
                text(pending.record),
                text(&response.to_string()),
            ];
            change.run(sql, &values).await?;
        }
        enter_event(&mut change, pending.patient, pending.record, pending.event).await?;
        change.commit().await
    }

    /// Shows a record that is final from now on, with the event that tells of it; what it supersedes
    /// says so from the same moment on.
    pub(crate) async fn is_final(&self, record: &str, changed: &str) -> Result<(), DatabaseError> {
        let mut change = self.0.begin().await?;
        let sql = "SELECT supersedes FROM pending WHERE record = $1";
        let Some(row) = change.row(sql, &[text(record)]).await? else {
            return Ok(());
        };
        for id in row.text(0)?.split_whitespace() {
            let sql = "SELECT resource FROM documents WHERE id = $1";
            let Some(row) = change.row(sql, &[text(id)]).await? else {
                continue;
            };
            let mut resource = json(&row, 0)?;
            let version = resource["meta"]["versionId"].as_str();
            let version = version.and_then(|one| one.parse::<u64>().ok()).unwrap_or(1) + 1;
            resource["status"] = "superseded".into();
            resource["meta"]["versionId"] = version.to_string().into();
            resource["meta"]["lastUpdated"] = changed.into();
            let sql = "UPDATE documents SET resource = $2 WHERE id = $1";
            change
                .run(sql, &[text(id), text(&resource.to_string())])
                .await?;
        }
        let sql = "DELETE FROM pending WHERE record = $1";
        change.run(sql, &[text(record)]).await?;
        change.commit().await
    }

    /// Records that are not known to be final.
    pub(crate) async fn pending(&self) -> Result<Vec<String>, DatabaseError> {
        let rows = self
            .0
            .rows("SELECT record FROM pending LIMIT 4096", &[])
            .await?;
        rows.iter().map(|row| row.text(0)).collect()
    }

    /// Forgets a record that the consortium refused, or that was never handed in.
    pub(crate) async fn forget_record(&self, record: &str) -> Result<(), DatabaseError> {
        let mut change = self.0.begin().await?;
        for sql in [
            "DELETE FROM documents WHERE record = $1",
            "DELETE FROM lists WHERE record = $1",
            "DELETE FROM submissions WHERE record = $1",
            "DELETE FROM events WHERE record = $1",
            "DELETE FROM pending WHERE record = $1",
        ] {
            change.run(sql, &[text(record)]).await?;
        }
        change.commit().await
    }

    pub(crate) async fn enter_consent(&self, consent: &Consent) -> Result<(), DatabaseError> {
        let sql = "INSERT INTO consents \
            (id, patient, entered, updated, version, requests, given_up, resource, provisions) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        self.0.run(sql, &consent_row(consent)).await.map(drop)
    }

    /// Replaces a proposal if nobody changed it since `before`.
    pub(crate) async fn change_consent(
        &self,
        consent: &Consent,
        before: u64,
    ) -> Result<bool, DatabaseError> {
        let sql = "UPDATE consents SET patient = $2, entered = $3, updated = $4, version = $5, \
            requests = $6, given_up = $7, resource = $8, provisions = $9 \
            WHERE id = $1 AND version = $10";
        let mut values = consent_row(consent).to_vec();
        values.push(int(before));
        Ok(self.0.run(sql, &values).await? > 0)
    }

    /// Forgets a proposal that reached nobody.
    pub(crate) async fn forget_consent(&self, id: &str) -> Result<(), DatabaseError> {
        let sql = "DELETE FROM consents WHERE id = $1";
        self.0.run(sql, &[text(id)]).await.map(drop)
    }

    pub(crate) async fn consent(&self, id: &str) -> Result<Option<Consent>, DatabaseError> {
        let sql = "SELECT id, patient, entered, updated, version, requests, given_up, resource, provisions \
            FROM consents WHERE id = $1";
        let row = self.0.row(sql, &[text(id)]).await?;
        row.as_ref().map(consent).transpose()
    }

    pub(crate) async fn consents(&self, patient: &str) -> Result<Vec<Consent>, DatabaseError> {
        let sql = "SELECT id, patient, entered, updated, version, requests, given_up, resource, provisions \
            FROM consents WHERE patient = $1 ORDER BY entered LIMIT 256";
        let rows = self.0.rows(sql, &[text(patient)]).await?;
        rows.iter().map(consent).collect()
    }

    /// Proposals that this hospital has not given up, of every patient.
    pub(crate) async fn open_consents(&self) -> Result<Vec<Consent>, DatabaseError> {
        let sql = "SELECT id, patient, entered, updated, version, requests, given_up, resource, provisions \
            FROM consents WHERE given_up = 0 ORDER BY entered DESC LIMIT 4096";
        let rows = self.0.rows(sql, &[]).await?;
        rows.iter().map(consent).collect()
    }

    pub(crate) async fn enter_event(
        &self,
        patient: &str,
        event: &NewEvent,
    ) -> Result<(), DatabaseError> {
        let mut change = self.0.begin().await?;
        enter_event(&mut change, patient, "", event).await?;
        change.commit().await
    }

    pub(crate) async fn event(&self, id: &str) -> Result<Option<Json>, DatabaseError> {
        let sql = "SELECT resource FROM events WHERE id = $1 \
            AND record NOT IN (SELECT record FROM pending)";
        let row = self.0.row(sql, &[text(id)]).await?;
        row.map(|row| json(&row, 0)).transpose()
    }

    /// The newest 65,536 events of a patient: id, when, and what they say.
    pub(crate) async fn events(
        &self,
        patient: &str,
    ) -> Result<Vec<(String, u64, Json)>, DatabaseError> {
        let sql = "SELECT id, entered, resource FROM events WHERE patient = $1 \
            AND record NOT IN (SELECT record FROM pending) \
            ORDER BY entered DESC LIMIT 65536";
        let rows = self.0.rows(sql, &[text(patient)]).await?;
        let event = |row: &Row| Ok((row.text(0)?, number(row, 1)?, json(row, 2)?));
        rows.iter().map(event).collect()
    }
}

const IDENTIFIER: &str =
    "INSERT INTO identifiers (system, value, patient, place) VALUES ($1, $2, $3, $4)";

fn identifier_row(patient: &Patient, identifier: &Identifier, place: usize) -> [Value; 4] {
    [
        text(&identifier.system),
        text(&identifier.value),
        text(&patient.id),
        int(place as u64),
    ]
}

fn consent_row(consent: &Consent) -> [Value; 9] {
    [
        text(&consent.id),
        text(&consent.patient),
        int(consent.entered),
        int(consent.updated),
        int(consent.version),
        text(&consent.requests.join(" ")),
        Value::Integer(consent.given_up.into()),
        text(&consent.resource.to_string()),
        text(&Json::Object(consent.provisions.clone()).to_string()),
    ]
}

fn consent(row: &Row) -> Result<Consent, DatabaseError> {
    let requests = row.text(5)?;
    Ok(Consent {
        id: row.text(0)?,
        patient: row.text(1)?,
        entered: number(row, 2)?,
        updated: number(row, 3)?,
        version: number(row, 4)?,
        requests: requests.split_whitespace().map(str::to_owned).collect(),
        given_up: row.integer(6)? != 0,
        resource: json(row, 7)?,
        provisions: match json(row, 8)? {
            Json::Object(provisions) => provisions,
            _ => serde_json::Map::new(),
        },
    })
}

fn list(row: &Row) -> Result<List, DatabaseError> {
    Ok(List {
        id: row.text(0)?,
        patient: row.text(1)?,
        entered: number(row, 2)?,
        gid: row.text(3)?,
        consent: row.text(4)?,
        resource: json(row, 5)?,
    })
}

fn document(row: &Row) -> Result<Document, DatabaseError> {
    Ok(Document {
        id: row.text(0)?,
        patient: row.text(1)?,
        entered: number(row, 2)?,
        record: row.text(3)?,
        file: u32::try_from(row.integer(4)?).unwrap_or_default(),
        gid: row.text(5)?,
        consent: row.text(6)?,
        until: number(row, 7)?,
        path: row.text(8)?,
        resource: json(row, 9)?,
        dicom: match row.text(10)?.is_empty() {
            true => None,
            false => Some(json(row, 10)?),
        },
    })
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn int(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn number(row: &Row, column: usize) -> Result<u64, DatabaseError> {
    Ok(u64::try_from(row.integer(column)?).unwrap_or_default())
}

fn json(row: &Row, column: usize) -> Result<Json, DatabaseError> {
    serde_json::from_str(&row.text(column)?).map_err(|_| DatabaseError::unreadable("a resource"))
}
