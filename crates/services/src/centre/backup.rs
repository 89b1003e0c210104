//! The centre's records in one encrypted file, and back into an empty database of either kind.
//!
//! The file: a line that names it, 16 bytes of salt, then chunks of at most 64 KiB, each with its
//! length, under AES-256-GCM with Argon2id's key of the passphrase; the nonce holds the chunk's number
//! and whether it is the last (STREAM), so that no chunk can be left out or moved. Within it stand the
//! tables row by row. Answers to calls and sealed seeds are left out: the first are over in a day, the
//! second must be forgotten when they were picked up.
//!
//! A restored centre goes on with numbers far above those of the backup, since numbers that were given
//! after it must not be given again either.

use std::io;
use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use client::{SystemRandom, WorkFactors, stretch};
use rand_core::Rng;
use scheme::SigningKey;
use thiserror::Error;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::centre::CentreService;
use crate::centre::at_rest::IdentityKey;
use crate::centre::records::SCHEMA;
use crate::database::{Database, DatabaseError, DatabaseLocation, Value};

const NAME: &[u8; 24] = b"willis centre, backup 1\n";
const SALT_BYTES: usize = 16;
const CHUNK_BYTES: usize = 64 * 1024;
const TAG_BYTES: usize = 16;
/// The shortest passphrase.
const PASSPHRASE_BYTES_MIN: usize = 12;
/// The longest value: a directory of 1 MiB, with room.
const VALUE_BYTES_MAX: u32 = 2 << 20;
/// By how much numbers go on after a restore: more than a centre gives between two backups.
const GAP: i64 = 1 << 20;

/// Why a backup or its restoration did not happen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The passphrase is short.
    #[error("a passphrase has at least 12 characters: four random words are good")]
    ShortPassphrase,
    /// A file cannot be read or written.
    #[error("{0} cannot be used: choose another file, or check disk and permissions")]
    File(PathBuf, #[source] io::Error),
    /// It does not open.
    #[error("the backup does not open: it is another file, damaged, or of another passphrase")]
    DoesNotOpen,
    /// Nothing is restored over records.
    #[error("the database holds enrolments already: restore into an empty one")]
    NotEmpty,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A thread ended.
    #[error("the passphrase's key could not be computed: try again with 64 MiB of memory free")]
    Derivation,
}

/// What a backup is encrypted under. No Debug, wiped on drop.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// From what was typed.
    ///
    /// # Errors
    /// [`BackupError::ShortPassphrase`].
    pub fn new(text: String) -> Result<Self, BackupError> {
        let text = Zeroizing::new(text);
        if text.len() < PASSPHRASE_BYTES_MIN {
            return Err(BackupError::ShortPassphrase);
        }
        Ok(Self(text))
    }

    async fn cipher(&self, salt: [u8; SALT_BYTES]) -> Result<Aes256Gcm, BackupError> {
        let passphrase = self.clone();
        let derived = tokio::task::spawn_blocking(move || {
            let key: Zeroizing<[u8; 32]> =
                stretch(passphrase.0.as_bytes(), &salt, WorkFactors::STANDARD).ok()?;
            Aes256Gcm::new_from_slice(key.as_slice()).ok()
        });
        let derived = derived.await.map_err(|_| BackupError::Derivation)?;
        derived.ok_or(BackupError::Derivation)
    }
}

/// Whether a backup holds the centre's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupKeys {
    /// It does not: the key file is kept elsewhere, and without it a restored database does not open.
    LeftOut,
    /// It does: whoever has file and passphrase can certify anyone.
    Included,
}

/// The keys of a backup that holds them.
pub struct RestoredKeys {
    /// Certifies.
    pub certification: SigningKey,
    /// Opens identity material.
    pub identity: IdentityKey,
}

/// A column's type.
#[derive(Clone, Copy)]
enum Column {
    Integer,
    Text,
    Bytes,
}

/// A table with its columns, the first of which is its key.
struct Table {
    columns: &'static [Column],
    /// A page of rows after a key.
    select: &'static str,
    insert: &'static str,
    rows: i64,
}

use Column::{Bytes as B, Integer as I, Text as T};

/// In an order in which every row finds those that it names.
const TABLES: &[Table] = &[
    Table {
        columns: &[T, I],
        select: "SELECT name, next FROM counters WHERE name > $1 ORDER BY name LIMIT $2",
        insert: "INSERT INTO counters (name, next) VALUES ($1, $2)",
        rows: 100,
    },
    Table {
        columns: &[I, B],
        select: "SELECT id, sealed FROM key_check WHERE id > $1 ORDER BY id LIMIT $2",
        insert: "INSERT INTO key_check (id, sealed) VALUES ($1, $2)",
        rows: 100,
    },
    Table {
        columns: &[I, T, B, B, T, I, I, I, I, B, T, B, B, B, B, I, I, B, I],
        select: "SELECT subject, kind, account, begun_by, begun_call, begun, institution, doctor, \
            replaces, identity, state, keys, reason, registration, certificate, renewal_asked, \
            own_renewals, made_by, changed FROM enrolments WHERE subject > $1 ORDER BY subject LIMIT $2",
        insert: "INSERT INTO enrolments (subject, kind, account, begun_by, begun_call, begun, \
            institution, doctor, replaces, identity, state, keys, reason, registration, certificate, \
            renewal_asked, own_renewals, made_by, changed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, \
            $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
        rows: 500,
    },
    Table {
        columns: &[B, I],
        select: "SELECT hash, subject FROM registered_keys WHERE hash > $1 ORDER BY hash LIMIT $2",
        insert: "INSERT INTO registered_keys (hash, subject) VALUES ($1, $2)",
        rows: 500,
    },
    Table {
        columns: &[I, I, T, B, I, T, I, I, T, I],
        select: "SELECT id, subject, kind, bytes, waits_for, state, attempts, next_at, last_error, \
            height FROM outbox WHERE id > $1 ORDER BY id LIMIT $2",
        insert: "INSERT INTO outbox (id, subject, kind, bytes, waits_for, state, attempts, next_at, \
            last_error, height) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        rows: 500,
    },
    Table {
        columns: &[I, I, T, T, B, T, T, I, B, B],
        select: "SELECT id, subject, decided, by_kind, by_key, by_name, by_call, time, reason, \
            evidence FROM decisions WHERE id > $1 ORDER BY id LIMIT $2",
        insert: "INSERT INTO decisions (id, subject, decided, by_kind, by_key, by_name, by_call, time, \
            reason, evidence) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        rows: 500,
    },
    // Eight of 1 MiB in memory at once.
    Table {
        columns: &[B, I, B],
        select: "SELECT account, version, encrypted FROM directories WHERE account > $1 ORDER BY account LIMIT $2",
        insert: "INSERT INTO directories (account, version, encrypted) VALUES ($1, $2, $3)",
        rows: 8,
    },
    // A backup of an earlier release ends here.
    Table {
        columns: &[B, I, B, B],
        select: "SELECT account, subject, document, code FROM findable WHERE account > $1 ORDER BY account LIMIT $2",
        insert: "INSERT INTO findable (account, subject, document, code) VALUES ($1, $2, $3, $4)",
        rows: 500,
    },
    Table {
        columns: &[B, B, I, I, I, I, B],
        select: "SELECT id, account, subject, doctor, institution, time, purpose FROM findings WHERE id > $1 ORDER BY id LIMIT $2",
        insert: "INSERT INTO findings (id, account, subject, doctor, institution, time, purpose) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        rows: 500,
    },
];

impl CentreService {
    /// Writes all records, as they stand at one moment, to a new file. With SQLite other calls wait
    /// meanwhile, and are told to come again if that takes more than ten seconds.
    ///
    /// # Errors
    /// [`BackupError`]; then there is no such file.
    pub async fn back_up(
        &self,
        file: &Path,
        passphrase: &Passphrase,
        keys: BackupKeys,
    ) -> Result<(), BackupError> {
        let unusable = |error| BackupError::File(file.to_owned(), error);
        if tokio::fs::try_exists(file).await.map_err(unusable)? {
            return Err(unusable(io::ErrorKind::AlreadyExists.into()));
        }
        let mut name = file.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        let written = self.write_backup(&part, passphrase, keys).await;
        let moved = match written {
            Ok(()) => tokio::fs::rename(&part, file).await.map_err(unusable),
            Err(error) => Err(error),
        };
        if moved.is_err() {
            let _ = tokio::fs::remove_file(&part).await;
            return moved;
        }
        if let Some(folder) = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            let folder = File::open(folder).await.map_err(unusable)?;
            folder.sync_all().await.map_err(unusable)?;
        }
        Ok(())
    }

    async fn write_backup(
        &self,
        part: &Path,
        passphrase: &Passphrase,
        keys: BackupKeys,
    ) -> Result<(), BackupError> {
        let unusable = |error| BackupError::File(part.to_owned(), error);
        let mut salt = [0; SALT_BYTES];
        SystemRandom.fill_bytes(&mut salt);
        let cipher = passphrase.cipher(salt).await?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        options.mode(0o600);
        let file = options.open(part).await.map_err(unusable)?;
        let mut out = Sealer::begin(file, cipher, salt).await.map_err(unusable)?;
        match keys {
            BackupKeys::LeftOut => out.put(&[0]).await.map_err(unusable)?,
            BackupKeys::Included => {
                for bytes in [
                    &[1],
                    self.certification.expose_seed().as_slice(),
                    self.identity_key.expose_bytes(),
                ] {
                    out.put(bytes).await.map_err(unusable)?;
                }
            }
        }
        let mut snapshot = self.database.snapshot().await?;
        for table in TABLES {
            let mut after = match table.columns.first() {
                Some(Column::Integer) => Value::Integer(-1),
                Some(Column::Text) => Value::Text(String::new()),
                _ => Value::Bytes(Vec::new()),
            };
            loop {
                let rows = snapshot
                    .rows(table.select, &[after.clone(), Value::Integer(table.rows)])
                    .await?;
                for row in &rows {
                    out.put(&[1]).await.map_err(unusable)?;
                    for (place, column) in table.columns.iter().enumerate() {
                        let value = match column {
                            Column::Integer => Value::Integer(row.integer(place)?),
                            Column::Text => Value::Text(row.text(place)?),
                            Column::Bytes => Value::Bytes(row.bytes(place)?),
                        };
                        out.value(&value).await.map_err(unusable)?;
                        if place == 0 {
                            after = value;
                        }
                    }
                }
                if rows.len() < usize::try_from(table.rows).unwrap_or(0) {
                    break;
                }
            }
            out.put(&[0]).await.map_err(unusable)?;
        }
        drop(snapshot);
        out.finish().await.map_err(unusable)
    }
}

/// Brings a backup into an empty database, all of it or nothing. Gives the keys, if it holds them.
///
/// # Errors
/// [`BackupError`].
pub async fn restore_centre(
    file: &Path,
    passphrase: &Passphrase,
    location: &DatabaseLocation,
) -> Result<Option<RestoredKeys>, BackupError> {
    let unusable = |error| BackupError::File(file.to_owned(), error);
    let mut source = File::open(file).await.map_err(unusable)?;
    let (mut name, mut salt) = ([0; NAME.len()], [0; SALT_BYTES]);
    for part in [name.as_mut_slice(), salt.as_mut_slice()] {
        let read = source.read_exact(part).await;
        read.map_err(|_| BackupError::DoesNotOpen)?;
    }
    if name != *NAME {
        return Err(BackupError::DoesNotOpen);
    }
    let cipher = passphrase.cipher(salt).await?;
    let mut from = Opener::begin(source, cipher, salt);
    let keys = match from.byte().await? {
        0 => None,
        1 => Some(RestoredKeys {
            certification: SigningKey::from_seed(from.array().await?),
            identity: IdentityKey::from_bytes(from.array().await?),
        }),
        _ => return Err(BackupError::DoesNotOpen),
    };
    let database = Database::open(location, SCHEMA).await?;
    let restored = restore_rows(&database, &mut from).await;
    database.close().await;
    restored?;
    Ok(keys)
}

async fn restore_rows(database: &Database, from: &mut Opener) -> Result<(), BackupError> {
    let mut change = database.begin().await?;
    if change
        .row("SELECT subject FROM enrolments LIMIT 1", &[])
        .await?
        .is_some()
    {
        return Err(BackupError::NotEmpty);
    }
    change.run("DELETE FROM counters", &[]).await?;
    change.run("DELETE FROM key_check", &[]).await?;
    for table in TABLES {
        if from.is_over() {
            break;
        }
        while from.byte().await? == 1 {
            let mut values = Vec::with_capacity(table.columns.len());
            for column in table.columns {
                values.push(from.value(*column).await?);
            }
            change.run(table.insert, &values).await?;
        }
    }
    from.finish().await?;
    change
        .run(
            "UPDATE counters SET next = next + $1",
            &[Value::Integer(GAP)],
        )
        .await?;
    Ok(change.commit().await?)
}

fn nonce(chunk: u64, last: bool) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&chunk.to_be_bytes());
    nonce[8] = u8::from(last);
    nonce.into()
}

struct Sealer {
    file: File,
    cipher: Aes256Gcm,
    salt: [u8; SALT_BYTES],
    chunk: u64,
    buffer: Zeroizing<Vec<u8>>,
}

impl Sealer {
    async fn begin(mut file: File, cipher: Aes256Gcm, salt: [u8; SALT_BYTES]) -> io::Result<Self> {
        file.write_all(NAME).await?;
        file.write_all(&salt).await?;
        Ok(Self {
            file,
            cipher,
            salt,
            chunk: 0,
            buffer: Zeroizing::new(Vec::with_capacity(CHUNK_BYTES)),
        })
    }

    async fn value(&mut self, value: &Value) -> io::Result<()> {
        let bytes = match value {
            Value::Integer(integer) => return self.put(&integer.to_be_bytes()).await,
            Value::Text(text) => text.as_bytes(),
            Value::Bytes(bytes) => bytes,
        };
        let length = u32::try_from(bytes.len()).ok();
        let length = length.filter(|length| *length <= VALUE_BYTES_MAX);
        let length = length.ok_or(io::ErrorKind::InvalidData)?;
        self.put(&length.to_be_bytes()).await?;
        self.put(bytes).await
    }

    async fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.buffer.len() == CHUNK_BYTES {
                self.flush(false).await?;
            }
            let room = (CHUNK_BYTES - self.buffer.len()).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    async fn finish(mut self) -> io::Result<()> {
        self.flush(true).await?;
        self.file.flush().await?;
        self.file.sync_all().await
    }

    async fn flush(&mut self, last: bool) -> io::Result<()> {
        let payload = Payload {
            msg: &self.buffer,
            aad: &self.salt,
        };
        let sealed = self
            .cipher
            .encrypt(&nonce(self.chunk, last), payload)
            .map_err(|_| io::ErrorKind::InvalidData)?;
        let length = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
        self.file.write_all(&length.to_be_bytes()).await?;
        self.file.write_all(&sealed).await?;
        self.chunk += 1;
        self.buffer.clear();
        Ok(())
    }
}

struct Opener {
    file: File,
    cipher: Aes256Gcm,
    salt: [u8; SALT_BYTES],
    chunk: u64,
    last: bool,
    buffer: Zeroizing<Vec<u8>>,
    place: usize,
}

impl Opener {
    fn begin(file: File, cipher: Aes256Gcm, salt: [u8; SALT_BYTES]) -> Self {
        Self {
            file,
            cipher,
            salt,
            chunk: 0,
            last: false,
            buffer: Zeroizing::default(),
            place: 0,
        }
    }

    /// Whether all was read: the last chunk says that it is the last.
    fn is_over(&self) -> bool {
        self.last && self.place == self.buffer.len()
    }

    async fn byte(&mut self) -> Result<u8, BackupError> {
        Ok(self.array::<1>().await?[0])
    }

    async fn array<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes).await?;
        Ok(bytes)
    }

    async fn value(&mut self, column: Column) -> Result<Value, BackupError> {
        if matches!(column, Column::Integer) {
            return Ok(Value::Integer(i64::from_be_bytes(self.array().await?)));
        }
        let length = u32::from_be_bytes(self.array().await?);
        if length > VALUE_BYTES_MAX {
            return Err(BackupError::DoesNotOpen);
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes).await?;
        if matches!(column, Column::Bytes) {
            return Ok(Value::Bytes(bytes));
        }
        let text = String::from_utf8(bytes);
        text.map(Value::Text).map_err(|_| BackupError::DoesNotOpen)
    }

    async fn fill(&mut self, mut bytes: &mut [u8]) -> Result<(), BackupError> {
        while !bytes.is_empty() {
            if self.place == self.buffer.len() {
                self.next().await?;
            }
            let found = &self.buffer[self.place..];
            let count = found.len().min(bytes.len());
            let (now, later) = bytes.split_at_mut(count);
            now.copy_from_slice(&found[..count]);
            self.place += count;
            bytes = later;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<(), BackupError> {
        if self.last {
            return Err(BackupError::DoesNotOpen);
        }
        let length = self.file.read_u32().await;
        let length = length.map_err(|_| BackupError::DoesNotOpen)? as usize;
        if length > CHUNK_BYTES + TAG_BYTES {
            return Err(BackupError::DoesNotOpen);
        }
        let mut sealed = vec![0; length];
        let read = self.file.read_exact(&mut sealed).await;
        read.map_err(|_| BackupError::DoesNotOpen)?;
        let open = |last| {
            let payload = Payload {
                msg: &sealed,
                aad: &self.salt,
            };
            self.cipher.decrypt(&nonce(self.chunk, last), payload).ok()
        };
        let opened = open(false).map(|opened| (opened, false));
        let opened = opened.or_else(|| open(true).map(|opened| (opened, true)));
        let (opened, last) = opened.ok_or(BackupError::DoesNotOpen)?;
        if opened.is_empty() && !last {
            return Err(BackupError::DoesNotOpen);
        }
        self.buffer = Zeroizing::new(opened);
        (self.place, self.last) = (0, last);
        self.chunk += 1;
        Ok(())
    }

    /// The last chunk was read to its end, and nothing follows.
    async fn finish(&mut self) -> Result<(), BackupError> {
        let ended = self.last && self.place == self.buffer.len();
        let after = self.file.read_u8().await;
        if ended && after.is_err() {
            Ok(())
        } else {
            Err(BackupError::DoesNotOpen)
        }
    }
}
