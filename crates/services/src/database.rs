//! The services' records in SQLite (a file, by default) or PostgreSQL (by configuration). This file
//! alone names the library.
//!
//! One SQL text serves both: parameters are `$1`, integers `BIGINT`, texts `TEXT`, and a column of
//! bytes is written `{BYTES}` in a schema. A write has reached the disk when its call returns: SQLite
//! with `synchronous = FULL`, PostgreSQL by its default.

mod row_digests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::{Problem, ProblemKind};
use scheme::{Digest, Timestamp};
use sqlx::any::{AnyArguments, AnyPoolOptions, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, Connection as _, Executor, Row as _};
use thiserror::Error;

use row_digests::Tables;

/// A step of every schema: an earlier willis, which writes rows without their digests, opens none that has it.
pub const ROW_DIGESTS: &str = "";

/// How long a query waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections to PostgreSQL. SQLite has one, since it writes one at a time.
const CONNECTIONS_MAX: u32 = 16;

/// Where the records lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseLocation {
    /// A file of SQLite, made if there is none.
    Sqlite(PathBuf),
    /// PostgreSQL: `postgres://user@host/database`.
    Postgres(String),
}

/// Why the database did not do it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// It cannot be reached now.
    #[error("the database cannot be reached: the same request is safe to send again")]
    Away(#[source] sqlx::Error),
    /// It is full.
    #[error("the database has no room left: make room on its disk; nothing was changed")]
    Full(#[source] sqlx::Error),
    /// A row with this key is there already.
    #[error("the database has such a row already")]
    Exists,
    /// It was written by a later willis.
    #[error(
        "the database has schema {found}, and this willis knows {known}: use the willis that wrote it"
    )]
    Later {
        /// What was found.
        found: i64,
        /// What this program knows.
        known: i64,
    },
    /// A file of SQLite is damaged or was altered, as its own check says.
    #[error(
        "{0} is damaged or no database: {1}; keep it, and bring its records back from a backup"
    )]
    Damaged(PathBuf, String),
    /// Anything else.
    #[error("the database failed")]
    Failed(#[source] sqlx::Error),
}

impl DatabaseError {
    /// A row holds something else than this program writes.
    pub fn unreadable(what: &'static str) -> Self {
        Self::Failed(sqlx::Error::Decode(what.into()))
    }
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(found) => {
                let code = found.code().unwrap_or_default();
                // SQLITE_FULL; disk_full and out_of_memory of PostgreSQL's class 53.
                if code == "13" || code == "53100" || code == "53200" {
                    Self::Full(error)
                } else if found.is_unique_violation() {
                    Self::Exists
                } else if code.starts_with("57P") || code == "53300" || code == "5" || code == "10"
                {
                    // PostgreSQL shutting down or out of connections; SQLite busy or with an I/O error.
                    Self::Away(error)
                } else {
                    Self::Failed(error)
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Away(error),
            _ => Self::Failed(error),
        }
    }
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        let kind = match error {
            DatabaseError::Away(_) => ProblemKind::Busy,
            DatabaseError::Full(_) => ProblemKind::Full,
            DatabaseError::Exists => ProblemKind::Conflict,
            DatabaseError::Later { .. } | DatabaseError::Damaged(..) | DatabaseError::Failed(_) => {
                ProblemKind::Failed
            }
        };
        Problem::of(kind, &error)
    }
}

/// A value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `BIGINT`.
    Integer(i64),
    /// `TEXT`.
    Text(String),
    /// `{BYTES}`.
    Bytes(Vec<u8>),
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self::Integer(i64::try_from(time.number()).unwrap_or(i64::MAX))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(bytes: [u8; N]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<Digest> for Value {
    fn from(digest: Digest) -> Self {
        Self::Bytes(digest.as_bytes().to_vec())
    }
}

/// A row of an answer, by column from 0.
pub struct Row(AnyRow);

impl Row {
    /// A whole number.
    ///
    /// # Errors
    /// [`DatabaseError`] if the column holds none.
    pub fn integer(&self, column: usize) -> Result<i64, DatabaseError> {
        Ok(self.0.try_get(column)?)
    }

    /// A text.
    ///
    /// # Errors
    /// [`DatabaseError`] if the column holds none.
    pub fn text(&self, column: usize) -> Result<String, DatabaseError> {
        Ok(self.0.try_get(column)?)
    }

    /// Bytes.
    ///
    /// # Errors
    /// [`DatabaseError`] if the column holds none.
    pub fn bytes(&self, column: usize) -> Result<Vec<u8>, DatabaseError> {
        Ok(self.0.try_get(column)?)
    }

    /// Bytes of a length that the schema's writer knows.
    ///
    /// # Errors
    /// [`DatabaseError`] if the column holds others.
    pub fn array<const N: usize>(&self, column: usize) -> Result<[u8; N], DatabaseError> {
        self.bytes(column)?
            .try_into()
            .map_err(|_| sqlx::Error::Decode("bytes of another length".into()).into())
    }

    pub(crate) fn time(&self, column: usize) -> Result<Timestamp, DatabaseError> {
        let time = u64::try_from(self.integer(column)?).unwrap_or_default();
        Ok(Timestamp::new(time))
    }
}

/// A service's records.
#[derive(Clone)]
pub struct Database {
    pool: AnyPool,
    sqlite: bool,
    /// Of a file of SQLite.
    tables: Option<Arc<Tables>>,
}

impl Database {
    /// Opens it and brings its schema to this program's: `steps` are applied once each, in order, so a
    /// later version only appends.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn open(location: &DatabaseLocation, steps: &[&str]) -> Result<Self, DatabaseError> {
        sqlx::any::install_default_drivers();
        let (url, bytes, connections) = match location {
            DatabaseLocation::Sqlite(file) => {
                (format!("sqlite://{}?mode=rwc", file.display()), "BLOB", 1)
            }
            DatabaseLocation::Postgres(url) => (url.clone(), "BYTEA", CONNECTIONS_MAX),
        };
        if let DatabaseLocation::Sqlite(file) = location {
            check(file, &url).await?;
        }
        let sqlite = matches!(location, DatabaseLocation::Sqlite(_));
        let pool = AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if sqlite {
                        for pragma in [
                            "PRAGMA journal_mode = WAL",
                            "PRAGMA synchronous = FULL",
                            "PRAGMA foreign_keys = ON",
                            "PRAGMA busy_timeout = 5000",
                            "PRAGMA secure_delete = ON",
                        ] {
                            connection.execute(pragma).await?;
                        }
                    }
                    Ok(())
                })
            })
            .connect(&url)
            .await?;
        let mut database = Self {
            pool,
            sqlite,
            tables: None,
        };
        let mut change = database.begin().await?;
        if let DatabaseLocation::Sqlite(file) = location
            && let Err(why) = Tables::check(&mut change).await?
        {
            return Err(DatabaseError::Damaged(file.to_owned(), why));
        }
        let stepped = Self::migrate(&mut change, steps, bytes).await?;
        if sqlite {
            database.tables = Some(Arc::new(Tables::begin(&mut change, stepped).await?));
        }
        change.commit().await?;
        Ok(database)
    }

    /// Says whether there was a step to take.
    async fn migrate(
        change: &mut Change,
        steps: &[&str],
        bytes: &str,
    ) -> Result<bool, DatabaseError> {
        change
            .run(
                "CREATE TABLE IF NOT EXISTS willis_schema (version BIGINT NOT NULL)",
                &[],
            )
            .await?;
        let found = change
            .row("SELECT COALESCE(MAX(version), 0) FROM willis_schema", &[])
            .await?;
        let found = found.map_or(Ok(0), |row| row.integer(0))?;
        let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
        if found > known {
            return Err(DatabaseError::Later { found, known });
        }
        for (step, version) in steps.iter().zip(1_i64..) {
            if version > found {
                let text = step.replace("{BYTES}", bytes);
                for statement in text.split(';').filter(|one| !one.trim().is_empty()) {
                    change.run_text(statement.to_owned()).await?;
                }
                change
                    .run(
                        "INSERT INTO willis_schema (version) VALUES ($1)",
                        &[Value::Integer(version)],
                    )
                    .await?;
            }
        }
        Ok(found < known)
    }

    /// Changes rows and says how many.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn run(&self, sql: &'static str, values: &[Value]) -> Result<u64, DatabaseError> {
        if self.tables.is_none() {
            let done = bind(sql, values).execute(&self.pool).await?;
            return Ok(done.rows_affected());
        }
        let mut change = self.begin().await?;
        let count = change.run(sql, values).await?;
        change.commit().await?;
        Ok(count)
    }

    /// The first row.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn row(
        &self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Option<Row>, DatabaseError> {
        let found = bind(sql, values).fetch_optional(&self.pool).await?;
        Ok(found.map(Row))
    }

    /// All rows; the text must limit them.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn rows(
        &self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Vec<Row>, DatabaseError> {
        let found = bind(sql, values).fetch_all(&self.pool).await?;
        Ok(found.into_iter().map(Row).collect())
    }

    /// Several changes that happen together or not at all; dropped before its commit, they do not.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn begin(&self) -> Result<Change, DatabaseError> {
        Ok(Change {
            transaction: self.pool.begin().await?,
            tables: self.tables.clone(),
        })
    }

    /// A view of all rows as they stand at one moment.
    pub(crate) async fn snapshot(&self) -> Result<Change, DatabaseError> {
        let mut change = self.begin().await?;
        if !self.sqlite {
            // SQLite's transactions see one moment by themselves.
            change
                .run(
                    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
                    &[],
                )
                .await?;
        }
        Ok(change)
    }

    /// Takes what was deleted out of SQLite's log of writes as well, which holds it until then. What
    /// PostgreSQL keeps beside its tables is for its operator to say.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn forget_deleted(&self) -> Result<(), DatabaseError> {
        if self.sqlite {
            self.row("PRAGMA wal_checkpoint(TRUNCATE)", &[]).await?;
        }
        Ok(())
    }

    /// Closes every connection, so that the file is whole and nobody holds it.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Whether the system lets nobody open or write the file, which says nothing of what is in it: SQLITE_PERM,
/// SQLITE_READONLY, SQLITE_CANTOPEN, by the last byte of an extended code.
fn is_refused(error: &sqlx::Error) -> bool {
    let found = error.as_database_error().and_then(|error| error.code());
    let code = found.and_then(|code| code.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 3 | 8 | 14))
}

/// What SQLite finds in a file before anything relies on it, on a connection of its own: a pool would try a
/// damaged file again and again, and say in the end that it cannot be reached. It finds what does not fit
/// together (pages, rows and their indexes, what a column may hold); what a row says is under a digest of ours.
async fn check(file: &Path, url: &str) -> Result<(), DatabaseError> {
    let checked = async {
        let mut connection = AnyConnection::connect(url).await?;
        let found = sqlx::query("PRAGMA integrity_check(1)")
            .fetch_one(&mut connection)
            .await?;
        let found: String = found.try_get(0)?;
        connection.close().await?;
        Ok::<String, sqlx::Error>(found)
    };
    let why = match checked.await.map_err(DatabaseError::from) {
        Ok(found) if found == "ok" => return Ok(()),
        Ok(found) => found,
        Err(DatabaseError::Failed(error)) if !is_refused(&error) => error.to_string(),
        Err(other) => return Err(other),
    };
    Err(DatabaseError::Damaged(file.to_owned(), why))
}

/// Several changes that happen together.
pub struct Change {
    transaction: sqlx::Transaction<'static, Any>,
    tables: Option<Arc<Tables>>,
}

impl Change {
    /// Changes rows and says how many.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn run(&mut self, sql: &'static str, values: &[Value]) -> Result<u64, DatabaseError> {
        if let Some(tables) = self.tables.clone()
            && let Some(count) = tables.run(self, sql, values).await?
        {
            return Ok(count);
        }
        self.run_plain(sql, values).await
    }

    /// As `run`, of what no digest is kept of.
    async fn run_plain(
        &mut self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<u64, DatabaseError> {
        let done = bind(sql, values).execute(&mut *self.transaction).await?;
        Ok(done.rows_affected())
    }

    /// The first row.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn row(
        &mut self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Option<Row>, DatabaseError> {
        let found = bind(sql, values)
            .fetch_optional(&mut *self.transaction)
            .await?;
        Ok(found.map(Row))
    }

    /// All rows; the text must limit them.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn rows(
        &mut self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Vec<Row>, DatabaseError> {
        let found = bind(sql, values).fetch_all(&mut *self.transaction).await?;
        Ok(found.into_iter().map(Row).collect())
    }

    /// As `rows`, of a text that is put together from this program's own.
    async fn rows_of(&mut self, sql: String, values: &[Value]) -> Result<Vec<Row>, DatabaseError> {
        let query = bind_to(sqlx::query(AssertSqlSafe(sql)), values);
        let found = query.fetch_all(&mut *self.transaction).await?;
        Ok(found.into_iter().map(Row).collect())
    }

    async fn run_text(&mut self, sql: String) -> Result<(), DatabaseError> {
        // A step of a schema, from this program's own text.
        let query = sqlx::query(AssertSqlSafe(sql));
        query.execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Makes them happen.
    ///
    /// # Errors
    /// [`DatabaseError`]: none of them has happened.
    pub async fn commit(self) -> Result<(), DatabaseError> {
        Ok(self.transaction.commit().await?)
    }
}

fn bind<'q>(sql: &'static str, values: &[Value]) -> Query<'q, Any, AnyArguments> {
    bind_to(sqlx::query(sql), values)
}

fn bind_to<'q>(
    mut query: Query<'q, Any, AnyArguments>,
    values: &[Value],
) -> Query<'q, Any, AnyArguments> {
    for value in values {
        query = match value {
            Value::Integer(integer) => query.bind(*integer),
            Value::Text(text) => query.bind(text.clone()),
            Value::Bytes(bytes) => query.bind(bytes.clone()),
        };
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: &str =
        "CREATE TABLE things (name TEXT PRIMARY KEY, bytes {BYTES} NOT NULL, n BIGINT NOT NULL)";

    /// The story: a file that could not be opened was called damaged, and its operator told to bring a backup
    /// back.
    #[tokio::test]
    async fn what_cannot_be_opened_is_not_called_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let opened = opened(&[STEP], folder.path()).await;
        assert!(
            matches!(
                opened,
                Err(DatabaseError::Failed(_) | DatabaseError::Away(_))
            ),
            "{:?}",
            opened.err()
        );
        let file = folder.path().join("file");
        std::fs::write(&file, vec![7; 8_192]).unwrap();
        let opened = self::opened(&[STEP], &file).await;
        let told = opened.err().map(|error| error.to_string());
        assert!(told.unwrap().contains("is damaged or no database"));
    }

    async fn opened(steps: &[&str], file: &Path) -> Result<Database, DatabaseError> {
        Database::open(&DatabaseLocation::Sqlite(file.to_owned()), steps).await
    }

    #[tokio::test]
    async fn rows_are_there_again_and_changes_happen_together() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("records.sqlite");
        let database = opened(&[STEP], &file).await.unwrap();
        let insert = "INSERT INTO things (name, bytes, n) VALUES ($1, $2, $3)";
        let values = |name: &str| [name.into(), [1, 2].into(), Value::Integer(7)];
        assert_eq!(database.run(insert, &values("a")).await.unwrap(), 1);
        let again = database.run(insert, &values("a")).await;
        assert!(matches!(again, Err(DatabaseError::Exists)));

        let mut change = database.begin().await.unwrap();
        change.run(insert, &values("b")).await.unwrap();
        drop(change);
        let mut change = database.begin().await.unwrap();
        change.run(insert, &values("c")).await.unwrap();
        change.commit().await.unwrap();
        database.close().await;

        let database = opened(&[STEP, "CREATE TABLE more (n BIGINT)"], &file)
            .await
            .unwrap();
        let rows = database
            .rows(
                "SELECT name, bytes, n FROM things ORDER BY name LIMIT 10",
                &[],
            )
            .await
            .unwrap();
        let names: Vec<_> = rows.iter().map(|row| row.text(0).unwrap()).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(rows[0].array::<2>(1).unwrap(), [1, 2]);
        assert!(rows[0].array::<3>(1).is_err());
        assert_eq!(rows[0].integer(2).unwrap(), 7);
        database.close().await;
        let earlier = opened(&[STEP], &file).await;
        assert!(matches!(
            earlier,
            Err(DatabaseError::Later { found: 2, known: 1 })
        ));
    }

    const PAIRS: &str = "CREATE TABLE pairs (one BIGINT NOT NULL, other TEXT NOT NULL, n BIGINT, PRIMARY KEY (one, other));
        CREATE TABLE deeds (what TEXT NOT NULL, time BIGINT NOT NULL);
        CREATE INDEX deeds_time ON deeds (time)";

    /// Rows written, changed and taken away in every way that services do.
    async fn written(file: &Path) {
        let database = opened(&[STEP, PAIRS], file).await.unwrap();
        let number = Value::Integer;
        for name in ["first", "second", "third", "fourth"] {
            let insert = "INSERT INTO things (name, bytes, n) VALUES ($1, $2, $3)";
            let values = [name.into(), [0x5a; 40].into(), number(70_001)];
            database.run(insert, &values).await.unwrap();
        }
        let deed = "INSERT INTO deeds (what, time) VALUES ($1, $2)";
        for time in [1, 1, 2, 3, 70_002] {
            let values = ["something was done".into(), number(time)];
            database.run(deed, &values).await.unwrap();
        }
        let mut change = database.begin().await.unwrap();
        let upsert = "INSERT INTO pairs (one, other, n) VALUES ($1, $2, $3)
            ON CONFLICT (one, other) DO UPDATE SET n = pairs.n + excluded.n";
        for (one, other) in [(1, "a"), (1, "b"), (1, "a")] {
            let values = [number(one), other.into(), number(70_003)];
            assert_eq!(change.run(upsert, &values).await.unwrap(), 1);
        }
        let ignored =
            "INSERT INTO pairs (one, other, n) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let values = [number(1), "b".into(), number(5)];
        assert_eq!(change.run(ignored, &values).await.unwrap(), 0);
        let copied = "INSERT INTO pairs (one, other) SELECT n, name FROM things";
        assert_eq!(change.run(copied, &[]).await.unwrap(), 4);
        change.commit().await.unwrap();
        let times = [number(1), number(9)];
        let gone = database.run("DELETE FROM deeds WHERE time = $1", &times[..1]);
        assert_eq!(gone.await.unwrap(), 2);
        let moved = database.run(
            "UPDATE deeds SET time = time + 1 WHERE time < $1",
            &times[1..],
        );
        assert_eq!(moved.await.unwrap(), 2);
        let changed = database.run(
            "UPDATE things SET n = n + 1, name = name || 'er' WHERE name <> 'third'",
            &[],
        );
        assert_eq!(changed.await.unwrap(), 3);
        let gone = database.run("DELETE FROM things WHERE name = 'third'", &[]);
        assert_eq!(gone.await.unwrap(), 1);
        // What does not happen has no digest either.
        let mut dropped = database.begin().await.unwrap();
        dropped
            .run(deed, &["never".into(), number(4)])
            .await
            .unwrap();
        drop(dropped);
        database.forget_deleted().await.unwrap();
        database.close().await;
    }

    async fn dump(file: &Path) -> Result<Vec<String>, DatabaseError> {
        let database = opened(&[STEP, PAIRS], file).await?;
        let mut rows = Vec::new();
        for sql in [
            "SELECT name || ' ' || hex(bytes) || ' ' || n FROM things LIMIT 100",
            "SELECT one || ' ' || other || ' ' || COALESCE(n, 'none') FROM pairs LIMIT 100",
            "SELECT what || ' ' || time FROM deeds LIMIT 100",
        ] {
            for row in database.rows(sql, &[]).await? {
                rows.push(row.text(0)?);
            }
        }
        database.close().await;
        Ok(rows)
    }

    /// The story: a bit that changed in a row's number or text was read as if it had been written.
    #[tokio::test]
    async fn a_flipped_bit_of_a_row_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("records.sqlite");
        written(&file).await;
        let before = dump(&file).await.unwrap();
        assert_eq!(before.len(), 3 + 6 + 3);
        let whole = std::fs::read(&file).unwrap();
        let mut named = 0;
        let mut places: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
        // Those of the rows, which stand at the end of their pages, and some of all others.
        places.retain(|at| at % 11 == 0 || matches!(whole[*at], 0x5a | 0x11));
        for at in places {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            std::fs::write(&file, &changed).unwrap();
            for suffix in ["-wal", "-shm"] {
                let _ = std::fs::remove_file(folder.path().join(format!("records.sqlite{suffix}")));
            }
            match dump(&file).await {
                Err(_) => named += 1,
                Ok(after) => assert_eq!(after, before, "byte {at}"),
            }
        }
        assert!(named > 200, "{named}");
    }

    /// A file of a willis before has no digests: they are made when it is opened, as they are when a step of the
    /// schema changes rows.
    #[tokio::test]
    async fn files_from_before_get_digests() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("records.sqlite");
        written(&file).await;
        let url = format!("sqlite://{}", file.display());
        let mut connection = AnyConnection::connect(&url).await.unwrap();
        connection
            .execute("DROP TABLE willis_row_digests")
            .await
            .unwrap();
        connection.close().await.unwrap();
        let before = dump(&file).await.unwrap();
        let steps = [STEP, PAIRS, "UPDATE things SET n = 5"];
        for _ in 0..2 {
            let database = opened(&steps, &file).await.unwrap();
            let row = database.row("SELECT COUNT(*) FROM things WHERE n = 5", &[]);
            assert_eq!(row.await.unwrap().unwrap().integer(0).unwrap(), 3);
            database.close().await;
        }
        // What another program writes is not as it was written.
        let mut connection = AnyConnection::connect(&url).await.unwrap();
        connection
            .execute("UPDATE things SET n = 6 WHERE name = 'seconder'")
            .await
            .unwrap();
        connection.close().await.unwrap();
        let told = opened(&steps, &file).await.err().unwrap().to_string();
        assert!(
            told.contains("row 2 of its table things is not as it was written"),
            "{told}"
        );
        assert_eq!(before.len(), 12);
    }
}
