//! A digest of each row in a file of SQLite, which has a checksum of neither rows nor pages: a bit that changes
//! on the disk within what a row says is found when the file is opened, and the row named. PostgreSQL has
//! checksums of pages (`initdb --data-checksums`, its default since version 18), so nothing is added there.
//!
//! It is no protection from who can write the file, who can write the digest as well; what must withstand that
//! is sealed or signed.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::{Change, DatabaseError, Row, Value};

/// Rows that are checked at once.
const PAGE: i64 = 512;

const HAS: &str = "SELECT COUNT(*) FROM sqlite_master WHERE name = 'willis_row_digests'";
const MAKE: &str = "CREATE TABLE willis_row_digests (
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (name, key)
) WITHOUT ROWID";
const KEEP: &str = "INSERT INTO willis_row_digests (name, key, digest) VALUES ($1, $2, $3)
    ON CONFLICT (name, key) DO UPDATE SET digest = excluded.digest";
const FORGET: &str = "DELETE FROM willis_row_digests WHERE name = $1 AND key = $2";
const FORGET_TABLE: &str = "DELETE FROM willis_row_digests WHERE name = $1";
const FORGET_ALL: &str = "DELETE FROM willis_row_digests";
const NAMES: &str = "SELECT name FROM sqlite_master
    WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'willis_row_digests' ORDER BY name";
const COLUMNS: &str = "SELECT name, pk FROM pragma_table_info($1) ORDER BY cid";
const COUNT: &str = "SELECT COUNT(*) FROM willis_row_digests WHERE name = $1";
const COUNT_ALL: &str = "SELECT COUNT(*) FROM willis_row_digests";

/// Where SQLite keeps the schema itself, which is held by digests like any table.
const SCHEMA: &str = "sqlite_master";
/// Without the page at which a table begins, which is SQLite's to change.
const SCHEMA_COLUMNS: [&str; 4] = ["type", "name", "tbl_name", "sql"];

/// How a table's rows are told apart and read, as terms of SQL that give text.
#[derive(Debug)]
struct Table {
    /// Of the primary key; of the whole row in a table without one.
    key: String,
    row: String,
    /// The columns of the primary key; none in a table without one.
    keys: Vec<String>,
}

impl Table {
    fn new(columns: &[String], keys: Vec<String>) -> Self {
        // Digits say what is there whatever it is, also a text that is none.
        let terms = |columns: &[String]| {
            let terms = columns
                .iter()
                .map(|column| format!("typeof({column}) || ':' || hex({column})"));
            terms.collect::<Vec<_>>().join(" || ',' || ")
        };
        Self {
            key: terms(if keys.is_empty() { columns } else { &keys }),
            row: terms(columns),
            keys,
        }
    }
}

/// What a statement does to the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Insert,
    Update,
    Delete,
}

/// The tables of one file.
#[derive(Debug)]
pub(super) struct Tables(BTreeMap<String, Table>);

impl Tables {
    /// Checks every row of a file that has digests.
    ///
    /// # Errors
    /// [`DatabaseError`]; what was altered is the text within.
    pub(super) async fn check(change: &mut Change) -> Result<Result<(), String>, DatabaseError> {
        if count(change, HAS, &[]).await? == 0 {
            return Ok(Ok(()));
        }
        let tables = Self::read(change).await?;
        let mut digests = 0;
        for (name, table) in &tables.0 {
            if let Some(row) = table.altered(change, name).await? {
                return Ok(Err(format!(
                    "row {row} of its table {name} is not as it was written"
                )));
            }
            let kept = count(change, COUNT, &[name.as_str().into()]).await?;
            if kept != table.rows(change, name).await? {
                return Ok(Err(format!("its table {name} lacks rows")));
            }
            digests += kept;
        }
        if digests != count(change, COUNT_ALL, &[]).await? {
            return Ok(Err("it lacks a table".to_owned()));
        }
        Ok(Ok(()))
    }

    /// The tables as they are, after their schema was brought to this program's. All digests are made anew if
    /// something may have been written without them.
    pub(super) async fn begin(change: &mut Change, anew: bool) -> Result<Self, DatabaseError> {
        let has = count(change, HAS, &[]).await? > 0;
        if !has {
            change.run(MAKE, &[]).await?;
        }
        let tables = Self::read(change).await?;
        if anew || !has {
            change.run(FORGET_ALL, &[]).await?;
            for (name, table) in &tables.0 {
                table.keep_all(change, name).await?;
            }
        }
        Ok(tables)
    }

    async fn read(change: &mut Change) -> Result<Self, DatabaseError> {
        let columns = SCHEMA_COLUMNS.map(str::to_owned);
        let schema = Table::new(&columns, columns[..2].to_vec());
        let mut tables = BTreeMap::from([(SCHEMA.to_owned(), schema)]);
        for row in change.rows(NAMES, &[]).await? {
            let name = row.text(0)?;
            let (mut columns, mut keys) = (Vec::new(), Vec::new());
            for column in change.rows(COLUMNS, &[name.as_str().into()]).await? {
                let quoted = format!("\"{}\"", column.text(0)?.replace('"', "\"\""));
                if column.integer(1)? > 0 {
                    keys.push(quoted.clone());
                }
                columns.push(quoted);
            }
            tables.insert(name, Table::new(&columns, keys));
        }
        Ok(Self(tables))
    }

    /// Runs a statement and keeps the digests of what it wrote; gives how many rows that were.
    pub(super) async fn run(
        &self,
        change: &mut Change,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Option<u64>, DatabaseError> {
        let Some((deed, name)) = deed(sql) else {
            return Ok(None);
        };
        let Some(table) = self.0.get(name) else {
            return Ok(None);
        };
        let told = match deed {
            Deed::Delete => format!("{sql} RETURNING {}", table.key),
            Deed::Insert | Deed::Update => format!("{sql} RETURNING {}, {}", table.key, table.row),
        };
        let rows = change.rows_of(told, values).await?;
        if deed == Deed::Update && table.is_moved_by(sql) {
            // Under which keys the rows were before is not told.
            change.run_plain(FORGET_TABLE, &[name.into()]).await?;
            table.keep_all(change, name).await?;
        } else {
            for row in &rows {
                let key = row.text(0)?;
                if deed == Deed::Delete {
                    let of = [name.into(), Value::Text(key)];
                    change.run_plain(FORGET, &of).await?;
                } else {
                    keep(change, name, key, &row.text(1)?).await?;
                }
            }
        }
        Ok(Some(rows.len() as u64))
    }
}

impl Table {
    /// The first row that is not what its digest says.
    async fn altered(&self, change: &mut Change, name: &str) -> Result<Option<i64>, DatabaseError> {
        let Self { key, row, .. } = self;
        let page = format!(
            "SELECT t.place, t.text, COALESCE(d.digest, x'') FROM
                (SELECT rowid AS place, {key} AS key, {row} AS text FROM {name}
                 WHERE rowid > $1 ORDER BY rowid LIMIT $2) t
             LEFT JOIN willis_row_digests d ON d.name = $3 AND d.key = t.key ORDER BY t.place"
        );
        let mut after = i64::MIN;
        loop {
            let values = [Value::Integer(after), Value::Integer(PAGE), name.into()];
            let rows = change.rows_of(page.clone(), &values).await?;
            for row in &rows {
                if row.bytes(2)? != digest(name, &row.text(1)?) {
                    return Ok(Some(row.integer(0)?));
                }
            }
            match last_of_full(&rows)? {
                Some(last) => after = last,
                None => return Ok(None),
            }
        }
    }

    /// Whether an update gives rows other keys.
    fn is_moved_by(&self, update: &str) -> bool {
        let words = update
            .split_whitespace()
            .take_while(|word| *word != "WHERE");
        let words: Vec<&str> = words.collect();
        let mut set = words.windows(2).filter(|pair| pair[1] == "=");
        let is_key = |name: &str| self.keys.iter().any(|key| key.trim_matches('"') == name);
        self.keys.is_empty() || set.any(|pair| is_key(pair[0]))
    }

    /// How many rows it has; of those that are equal in all, one.
    async fn rows(&self, change: &mut Change, name: &str) -> Result<i64, DatabaseError> {
        let counted = if !self.keys.is_empty() {
            format!("SELECT COUNT(*) FROM {name}")
        } else {
            format!("SELECT COUNT(DISTINCT {}) FROM {name}", self.key)
        };
        let rows = change.rows_of(counted, &[]).await?;
        rows.first().map_or(Ok(0), |row| row.integer(0))
    }

    async fn keep_all(&self, change: &mut Change, name: &str) -> Result<(), DatabaseError> {
        let page = format!(
            "SELECT rowid, {}, {} FROM {name} WHERE rowid > $1 ORDER BY rowid LIMIT $2",
            self.key, self.row
        );
        let mut after = i64::MIN;
        loop {
            let values = [Value::Integer(after), Value::Integer(PAGE)];
            let rows = change.rows_of(page.clone(), &values).await?;
            for row in &rows {
                keep(change, name, row.text(1)?, &row.text(2)?).await?;
            }
            match last_of_full(&rows)? {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }
}

/// The place of the last row of a page after which there may be another.
fn last_of_full(rows: &[Row]) -> Result<Option<i64>, DatabaseError> {
    let full = rows.len() as i64 == PAGE;
    let last = rows.last().filter(|_| full);
    last.map(|row| row.integer(0)).transpose()
}

async fn keep(
    change: &mut Change,
    name: &str,
    key: String,
    row: &str,
) -> Result<(), DatabaseError> {
    let digest = digest(name, row);
    let values = [name.into(), Value::Text(key), Value::Bytes(digest)];
    change.run_plain(KEEP, &values).await?;
    Ok(())
}

fn digest(name: &str, row: &str) -> Vec<u8> {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update([0]);
    hasher.update(row.as_bytes());
    hasher.finalize().to_vec()
}

async fn count(
    change: &mut Change,
    sql: &'static str,
    values: &[Value],
) -> Result<i64, DatabaseError> {
    let row = change.row(sql, values).await?;
    row.map_or(Ok(0), |row| row.integer(0))
}

/// Which table a statement writes to, if it writes rows.
fn deed(sql: &str) -> Option<(Deed, &str)> {
    let mut words = sql.split_whitespace();
    match (words.next()?, words.next()?) {
        ("INSERT", "INTO") => Some((Deed::Insert, words.next()?)),
        ("DELETE", "FROM") => Some((Deed::Delete, words.next()?)),
        ("UPDATE", name) => Some((Deed::Update, name)),
        _ => None,
    }
}
