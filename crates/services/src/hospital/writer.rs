//! Writer epochs (equation 11): y in a file of its own, begun before the chain hears of it, removed
//! once the chain has the next.
//!
//! What stands is what the chain says. The task compares it with the files:
//!
//! 1. The chain's current writer epoch has its file here: that y is used, files of earlier ones are
//!    removed. If there is a file for the next one, or it is time, the next one is announced.
//! 2. It has none here, or the chain has no writer epoch of this institution: the next one is begun.
//!
//! A kill at any moment leaves a state that one of the two goes on from: the file is made first, its
//! announcement kept before it is handed in, and the old file removed last.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use client::{ClientError, Problem, SystemRandom};
use ledger::Transaction;
use parties::HospitalServer;
use scheme::{WriterEpoch, WriterEpochKey};

use crate::database::Value;
use crate::hospital::{HospitalError, HospitalService, milliseconds};
use crate::http::Refused;
use client::now;

/// How often chain and files are compared.
const COMPARE_EVERY: Duration = Duration::from_secs(60);
/// How long it waits until it compares what it did.
const AGAIN: Duration = Duration::from_millis(500);
/// How long it waits after something failed.
const AFTER_FAILURE: Duration = Duration::from_secs(2);
/// How long one attempt to announce a writer epoch takes.
const ATTEMPT: Duration = Duration::from_secs(20);
/// What a file is named while it is written.
const FRESH: &str = "fresh";
/// How a file's name begins; the number of the writer epoch follows.
const NAME: &str = "writer-epoch-";

/// The files of y.
pub(super) struct WriterFiles {
    folder: PathBuf,
}

impl WriterFiles {
    /// Opens the folder, which only this user may enter.
    pub(super) fn open(folder: &Path) -> Result<Self, HospitalError> {
        let failed = |error| HospitalError::Folder(folder.to_owned(), error);
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder).map_err(failed)?;
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            // Half written when the server was killed: never announced.
            if path.extension().is_some_and(|kind| kind == FRESH) {
                fs::remove_file(path).map_err(failed)?;
            }
        }
        let files = Self {
            folder: folder.to_owned(),
        };
        files.list()?;
        Ok(files)
    }

    /// Every y that is here.
    pub(super) fn list(&self) -> Result<BTreeMap<WriterEpoch, WriterEpochKey>, HospitalError> {
        let failed = |error| HospitalError::Folder(self.folder.clone(), error);
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let number = name.and_then(|name| name.strip_prefix(NAME)?.parse::<u32>().ok());
            let Some(number) = number else { continue };
            // Not as a text: bytes that are none are for this file's own error, which names it.
            let digits = fs::read(&path).map_err(failed)?;
            let mut bytes = [0; 32];
            let key = hex::decode_to_slice(digits.trim_ascii(), &mut bytes)
                .ok()
                .and_then(|()| WriterEpochKey::from_bytes(&bytes).ok());
            let key = key.ok_or(HospitalError::WriterFile(path))?;
            found.insert(WriterEpoch::new(number), key);
        }
        Ok(found)
    }

    /// Makes a fresh y. It is on the disk when this returns.
    pub(super) fn make(&self, epoch: WriterEpoch) -> Result<WriterEpochKey, HospitalError> {
        let key = WriterEpochKey::random(&mut SystemRandom);
        self.write(epoch, &key)
            .map_err(|error| HospitalError::Folder(self.folder.clone(), error))?;
        Ok(key)
    }

    fn write(&self, epoch: WriterEpoch, key: &WriterEpochKey) -> io::Result<()> {
        let path = self.path(epoch);
        let fresh = path.with_extension(FRESH);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&fresh)?;
        file.write_all(hex::encode(key.expose_bytes().as_slice()).as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        self.sync()
    }

    /// Destroys a y: its file is overwritten, for what that is worth on the disk at hand, removed, and
    /// the folder synced.
    pub(super) fn destroy(&self, epoch: WriterEpoch) -> Result<(), HospitalError> {
        let path = self.path(epoch);
        let destroy = || {
            let mut file = OpenOptions::new().write(true).open(&path)?;
            file.write_all(&[b'0'; 64])?;
            file.sync_all()?;
            fs::remove_file(&path)?;
            self.sync()
        };
        destroy().map_err(|error| HospitalError::Folder(self.folder.clone(), error))
    }

    fn path(&self, epoch: WriterEpoch) -> PathBuf {
        self.folder.join(format!("{NAME}{}", epoch.number()))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

/// What is left to do.
#[derive(Debug, PartialEq, Eq)]
enum Compared {
    /// Nothing until it is time, or IT calls.
    Settled,
    /// Something was done, or the chain does not say what it must yet.
    Again,
}

/// Keeps a writer epoch, and begins the next one in its time.
pub(super) async fn keep_writer_epoch(service: Arc<HospitalService>) {
    loop {
        match service.compare_writer_epochs().await {
            Ok(Compared::Settled) => {
                let wanted = service.writer_wanted.notified();
                let _ = tokio::time::timeout(COMPARE_EVERY, wanted).await;
            }
            Ok(Compared::Again) => tokio::time::sleep(AGAIN).await,
            Err(Refused(problem)) => {
                tracing::warn!(detail = problem.detail(), "a writer epoch is tried again");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

impl HospitalService {
    async fn compare_writer_epochs(&self) -> Result<Compared, Refused> {
        let files = self.writer.lock().await;
        let agreed = self
            .chain
            .writer_epochs(self.config.institution)
            .await
            .map_err(|error| Refused::of(client::ProblemKind::Busy, &error))?;
        let used = self.used_epoch().await;
        let last = agreed.current();
        if used > last.map(|(epoch, _)| *epoch) {
            // f + 1 nodes acknowledged the one that is used, and this answer is of an earlier height.
            return Ok(Compared::Again);
        }
        let mut here = files.list().map_err(|error| Problem::internal(&error))?;
        let next = last.map_or(0, |(epoch, _)| epoch.number() + 1);
        let next = WriterEpoch::new(next);
        let announced = |key: &WriterEpochKey| {
            let r = key.public_key();
            agreed.epochs.iter().any(|(_, known)| *known == r)
        };
        if here.get(&next).is_some_and(announced) {
            // The file of a folder that was copied: its y is an earlier writer epoch's.
            files
                .destroy(next)
                .map_err(|error| Problem::internal(&error))?;
            here.remove(&next);
        }
        let standing = last.and_then(|(epoch, r)| {
            let y = here.get(epoch).filter(|y| y.public_key() == *r)?;
            Some((*epoch, y.clone()))
        });
        if let Some((epoch, y)) = &standing {
            if used != Some(*epoch) {
                self.use_epoch(*epoch, y).await?;
            }
            let is_due = self.is_due(*epoch).await?;
            let begins = is_due || here.contains_key(&next);
            self.remove_all_but(&files, &here, &[*epoch, next])?;
            self.ending.store(begins, Ordering::Relaxed);
            if !begins {
                return Ok(Compared::Settled);
            }
        }
        let y = match here.remove(&next) {
            Some(y) => y,
            None => files
                .make(next)
                .map_err(|error| Problem::internal(&error))?,
        };
        let announcement = self.announcement(next, &y).await?;
        match self.chain.submit(&announcement, ATTEMPT).await {
            Ok(_) => {}
            Err(error @ ClientError::Refused(_)) => {
                // The chain may have got on meanwhile; compared again, it says so.
                return Err(Refused::of(client::ProblemKind::Conflict, &error));
            }
            Err(error) => return Err(Refused::of(client::ProblemKind::Busy, &error)),
        }
        self.use_epoch(next, &y).await?;
        self.ending.store(false, Ordering::Relaxed);
        tracing::info!(epoch = next.number(), "a writer epoch has begun");
        // The next comparison removes what is over; here it is the ended y alone that must not stay.
        let left = files.list().map_err(|error| Problem::internal(&error))?;
        self.remove_all_but(&files, &left, &[next])?;
        Ok(Compared::Again)
    }

    fn remove_all_but(
        &self,
        files: &WriterFiles,
        here: &BTreeMap<WriterEpoch, WriterEpochKey>,
        kept: &[WriterEpoch],
    ) -> Result<(), Refused> {
        for epoch in here.keys().filter(|epoch| !kept.contains(epoch)) {
            files
                .destroy(*epoch)
                .map_err(|error| Problem::internal(&error))?;
            tracing::info!(epoch = epoch.number(), "y of a writer epoch was destroyed");
        }
        Ok(())
    }

    async fn used_epoch(&self) -> Option<WriterEpoch> {
        let server = self.server.lock().await;
        server.as_ref().map(|server| server.writer().epoch)
    }

    /// Uses a y from now on. Positions of another writer epoch are void.
    async fn use_epoch(&self, epoch: WriterEpoch, y: &WriterEpochKey) -> Result<(), Refused> {
        let mut server = self.server.lock().await;
        let number = Value::Integer(i64::from(epoch.number()));
        let mut change = self.database.begin().await?;
        change
            .run(
                "DELETE FROM allocations WHERE epoch <> $1",
                std::slice::from_ref(&number),
            )
            .await?;
        change
            .run(
                "INSERT INTO writer_epochs (epoch, announcement, begun) VALUES ($1, $2, $3) \
                 ON CONFLICT (epoch) DO UPDATE SET begun = excluded.begun WHERE writer_epochs.begun = 0",
                &[number, Value::Bytes(Vec::new()), now().into()],
            )
            .await?;
        change.commit().await?;
        *server = Some(HospitalServer::in_writer_epoch(
            self.consortium,
            self.config.institution,
            self.key.clone(),
            epoch,
            y.clone(),
        ));
        Ok(())
    }

    async fn is_due(&self, epoch: WriterEpoch) -> Result<bool, Refused> {
        let begun = self
            .database
            .row(
                "SELECT begun FROM writer_epochs WHERE epoch = $1",
                &[Value::Integer(i64::from(epoch.number()))],
            )
            .await?;
        let begun = begun.map(|row| row.time(0)).transpose()?;
        let life = milliseconds(self.config.writer_epoch_life);
        Ok(begun.is_some_and(|begun| now().number().saturating_sub(begun.number()) >= life))
    }

    /// The transaction that announces a writer epoch, the same one each time.
    async fn announcement(
        &self,
        epoch: WriterEpoch,
        y: &WriterEpochKey,
    ) -> Result<Transaction, Refused> {
        let number = Value::Integer(i64::from(epoch.number()));
        let kept = self
            .database
            .row(
                "SELECT announcement FROM writer_epochs WHERE epoch = $1",
                std::slice::from_ref(&number),
            )
            .await?;
        let kept = kept.map(|row| row.bytes(0)).transpose()?;
        if let Some(Ok(Transaction::WriterEpoch(kept))) =
            kept.map(|bytes| Transaction::decode(&bytes))
            && kept.key == y.public_key()
        {
            return Ok(Transaction::WriterEpoch(kept));
        }
        let server = HospitalServer::in_writer_epoch(
            self.consortium,
            self.config.institution,
            self.key.clone(),
            epoch,
            y.clone(),
        );
        let fresh = server
            .announce_writer_epoch(&mut SystemRandom)
            .map_err(|error| Refused::of(client::ProblemKind::Busy, &error))?;
        self.database
            .run(
                "INSERT INTO writer_epochs (epoch, announcement, begun) VALUES ($1, $2, 0) \
                 ON CONFLICT (epoch) DO UPDATE SET announcement = excluded.announcement, begun = 0",
                &[number, fresh.encode().as_slice().into()],
            )
            .await?;
        Ok(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn y_is_there_again_until_it_is_destroyed() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("writer");
        let files = WriterFiles::open(&place).unwrap();
        let (one, two) = (WriterEpoch::new(0), WriterEpoch::new(1));
        let y = files.make(one).unwrap();
        files.make(two).unwrap();
        fs::write(place.join("writer-epoch-7.fresh"), b"ab").unwrap();
        let files = WriterFiles::open(&place).unwrap();
        let here = files.list().unwrap();
        assert_eq!(here.len(), 2);
        assert_eq!(here[&one].public_key(), y.public_key());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(files.path(one)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        files.destroy(one).unwrap();
        assert_eq!(files.list().unwrap().keys().collect::<Vec<_>>(), [&two]);
        assert!(files.destroy(one).is_err());
        for none in [&b"not hexadecimal"[..], &[0xb1; 64], &[b'f'; 64]] {
            fs::write(files.path(one), none).unwrap();
            assert!(matches!(
                WriterFiles::open(&place),
                Err(HospitalError::WriterFile(named)) if named == files.path(one)
            ));
        }
    }
}
