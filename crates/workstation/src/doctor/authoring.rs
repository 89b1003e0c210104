//! Storing records, steps 3 to 5: sealed, stored, recorded, found again by the author's own search.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::{HospitalClient, SubmittedState, SystemRandom, TRACED, now};
use ledger::{Height, TransactionId};
use parties::{Doctor, OwnSearch, PatientEpisode, RecordDraft};
use record::{Amends, KeywordSet, SectionClass};
use scheme::{
    Address, AllocationId, ClassCode, ClassLabelKey, IndexKey, InstitutionId, Keyword, SigningKey,
    Writer, WriterEpochPublicKey,
};
use tracing::{Instrument as _, info_span, instrument};

use super::state::{KeptRecord, Pending, RECORDS_MAX};
use super::{DoctorDesk, RecordView, SETTLED};
use crate::error::{WorkError, not};
use crate::network::{Network, Progress, Unit, run_search};
use crate::reading::{
    OpenedRecord, from_cloud, must_be_fresh, open_into, opened_for_a_moment, temporary,
};
use crate::shelf;

/// Amendments of one record, each of the one before.
const AMENDMENTS_MAX: usize = 64;
/// The longest name of a record in the keystore.
const NAME_BYTES_MAX: usize = 200;

/// What sealing a record needs of a doctor's machine, apart from it: a large record is sealed and carried
/// to the cloud while the machine does other things.
pub struct Author {
    network: Arc<Network>,
    doctor: Doctor,
    signing: SigningKey,
    institution: InstitutionId,
    /// The episode's place in the keystore, from 0.
    place: usize,
    episode: PatientEpisode,
    /// Of an amendment: which record it amends, what it says of it, and its keywords.
    earlier: Option<(TransactionId, Amends, KeywordSet)>,
}

/// A record that lies sealed in the cloud and is signed by its author, and that no chain knows yet.
pub struct SealedRecord(KeptRecord, Vec<IndexKey>);

impl SealedRecord {
    /// The transaction that the record will be on the chain.
    pub fn transaction(&self) -> TransactionId {
        self.0.receipt.transaction
    }
}

impl Author {
    /// Seals a record's files, stores the container in the cloud, builds its index and signs it. Memory
    /// does not grow with the files. Dropped before [`DoctorDesk::record`], nothing was recorded, and
    /// the cloud forgets the container.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn seal(
        &self,
        files: &[PathBuf],
        progress: &mut dyn Progress,
    ) -> Result<SealedRecord, WorkError> {
        let mut rng = SystemRandom;
        progress.step("sealing the record");
        let seals = info_span!(target: TRACED, "3 seal").entered();
        let shelved = match &self.earlier {
            Some((_, amends, keywords)) => shelf::amending(*amends, keywords, files)?,
            None => shelf::from_files(files)?,
        };
        let plans = shelf::plans(&shelved.record);
        let sealing = self.doctor.seal(&self.episode, &plans, &mut rng)?;
        let folder = temporary()?;
        let path = folder.path().join("container");
        let (digest, length) = shelf::seal_to_file(&shelved.record, &sealing, &path)?;
        drop(seals);

        progress.step("storing it in the cloud");
        let mut container =
            File::open(&path).map_err(|error| WorkError::File(path.clone(), error))?;
        let cloud = self.network.cloud(self.signing.clone())?;
        let receipt = cloud
            .store(&mut container, digest, length, None, &mut |done| {
                progress.part(done, length, Unit::Bytes);
            })
            .instrument(info_span!(target: TRACED, "4 store"))
            .await?;
        let here = self.network.consortium();
        receipt.verify(&here, &self.network.cloud_key(), digest, length)?;

        progress.step("building its index: the hospital's server raises blinded points only");
        let signing = self.signing.clone();
        let hospital = self.network.hospital(self.institution, signing).await?;
        let keywords = shelf::keywords(&shelved.record)?;
        let (writer, _) = hospital.writer().await?;
        let writer_key = writer_key(&self.network, writer).await?;
        let indexing = Indexing {
            doctor: &self.doctor,
            hospital: &hospital,
            episode: &self.episode,
            writer,
            writer_key: &writer_key,
        };
        let (keys, ids) = indexing.index(&keywords).await?;
        let positions = hospital.positions(&ids).await?;
        let draft = RecordDraft {
            episode: &self.episode,
            header: sealing.header(),
            digest,
            address: receipt.address,
            writer_key: &writer_key,
            keys: &keys,
            positions: &positions,
            time: now(),
        };
        let own = self.doctor.sign_record(&draft, &mut rng)?;
        let names: Vec<String> = files
            .iter()
            .filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
            .collect();
        let mut name = names.join(", ");
        name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
        let kept = KeptRecord {
            episode: self.place,
            receipt: own.receipt(),
            address: own.address,
            amends: self.earlier.as_ref().map(|(id, _, _)| *id),
            name,
            time: now(),
            pending: Some(Pending {
                record: own,
                positions: ids.into_iter().zip(positions).collect(),
                receipt,
                writer,
                keywords,
            }),
        };
        Ok(SealedRecord(kept, keys))
    }
}

/// R of a writer epoch, as f + 1 nodes say.
async fn writer_key(network: &Network, writer: Writer) -> Result<WriterEpochPublicKey, WorkError> {
    let epochs = network.client().writer_epochs(writer.institution).await?;
    let mut epochs = epochs.epochs.into_iter();
    match epochs.find(|(epoch, _)| *epoch == writer.epoch) {
        Some((_, key)) => Ok(key),
        None => not(
            "the hospital's writer epoch does not stand on the chain yet: try again in a moment",
        ),
    }
}

/// Whose index is built, under which writer epoch.
struct Indexing<'a> {
    doctor: &'a Doctor,
    hospital: &'a HospitalClient,
    episode: &'a PatientEpisode,
    writer: Writer,
    writer_key: &'a WriterEpochPublicKey,
}

impl Indexing<'_> {
    /// Index keys of these keywords and of the empty one, by the hospital's server.
    #[instrument(target = TRACED, name = "3 index", skip_all)]
    async fn index(
        &self,
        keywords: &[Keyword],
    ) -> Result<(Vec<IndexKey>, Vec<AllocationId>), WorkError> {
        let mut rng = SystemRandom;
        let draft = self
            .doctor
            .begin_index(self.episode, self.writer, keywords, &mut rng);
        let raised = self.hospital.raise(&draft.blinded()).await?;
        let search = &self.episode.keys.search;
        Ok(draft.evaluate(&raised, self.writer_key, search, &mut rng)?)
    }
}

impl DoctorDesk {
    /// Seals a record, stores it, records it on the chain, and leaves its receipt for the patient. An
    /// amendment of an earlier record of this doctor's, in the same episode, is a record of its own that
    /// names the earlier one inside its sealed sections and is found under its keywords: nothing is
    /// replaced.
    ///
    /// # Errors
    /// [`WorkError`]. What was begun and not finished is finished by [`Self::finish_records`].
    pub async fn store(
        &mut self,
        episode: usize,
        files: &[PathBuf],
        amends: Option<TransactionId>,
        progress: &mut dyn Progress,
    ) -> Result<RecordView, WorkError> {
        let author = self.author(episode, amends, progress).await?;
        let sealed = author.seal(files, progress).await?;
        self.record(sealed, progress).await
    }

    /// What seals a record of an episode, counted from 1, apart from this machine.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn author(
        &self,
        episode: usize,
        amends: Option<TransactionId>,
        progress: &mut dyn Progress,
    ) -> Result<Author, WorkError> {
        self.certificate()?;
        let Some(place) = episode.checked_sub(1) else {
            return not("episodes count from 1: see `willis doctor episodes`");
        };
        let Some(of) = self.state.episodes.get(place).cloned() else {
            return not("there is no such episode in this keystore: see `willis doctor episodes`");
        };
        self.must_have_room()?;
        let earlier = match amends {
            Some(id) => {
                let (amends, keywords) = self.earlier(id, place, progress).await?;
                Some((id, amends, keywords))
            }
            None => None,
        };
        Ok(Author {
            network: Arc::clone(&self.network),
            doctor: self.doctor()?,
            signing: self.state.signing.clone(),
            institution: self.state.institution,
            place,
            episode: of,
            earlier,
        })
    }

    fn must_have_room(&self) -> Result<(), WorkError> {
        if self.state.records.len() >= RECORDS_MAX {
            return not("this keystore holds as many records as it can: use another one");
        }
        Ok(())
    }

    /// Records a sealed record on the chain and leaves its receipt for the patient. From the first step
    /// on a crash loses nothing: [`Self::finish_records`] hands the same record in again.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn record(
        &mut self,
        sealed: SealedRecord,
        progress: &mut dyn Progress,
    ) -> Result<RecordView, WorkError> {
        self.must_have_room()?;
        let SealedRecord(kept, keys) = sealed;
        self.state.records.push(kept);
        if let Err(error) = self.save() {
            // What no restart would know is not handed in.
            self.state.records.pop();
            return Err(error);
        }
        let at = self.state.records.len() - 1;
        self.finish(at, Some(keys), progress).await?;
        Ok(self.record_view(at))
    }

    /// What an amendment says of the record that it amends, and the keywords that it carries on: those of
    /// that one, which carries on those of the one before if it is an amendment itself.
    async fn earlier(
        &self,
        id: TransactionId,
        episode: usize,
        progress: &mut dyn Progress,
    ) -> Result<(Amends, KeywordSet), WorkError> {
        let mut history = vec![self.kept(id)?];
        if history[0].episode != episode {
            return not("that record is of another episode: an amendment stands in the same one");
        }
        while let Some(before) = history.last().and_then(|record| record.amends) {
            if history.len() >= AMENDMENTS_MAX {
                return not(format!(
                    "that record was amended {AMENDMENTS_MAX} times: store a new record"
                ));
            }
            history.push(self.kept(before)?);
        }
        if history.iter().any(|record| record.pending.is_some()) {
            return not(
                "that record is not final yet: `willis doctor records` goes on with it; amend it then",
            );
        }
        let mut carried: Option<(Amends, KeywordSet)> = None;
        // From the oldest on, since each carries on what stood before.
        for record in history.into_iter().rev() {
            let id = record.receipt.transaction;
            let folder = opened_for_a_moment()?;
            let into = folder.path().join("record");
            let opened = self.read_own(id, &into, progress);
            let files: Vec<PathBuf> = opened
                .await?
                .files
                .into_iter()
                .map(|one| one.path)
                .collect();
            let shelved = match &carried {
                Some((amends, keywords)) => shelf::amending(*amends, keywords, &files)?,
                None => shelf::from_files(&files)?,
            };
            let statement = self.network.record(id).await?.statement;
            let amends = Amends {
                digest: statement.digest,
                author: statement.author,
            };
            carried = Some((amends, shelved.record.keywords().0));
        }
        match carried {
            Some(carried) => Ok(carried),
            None => not("there is no such record in this keystore: see `willis doctor records`"),
        }
    }

    /// Finishes what was begun: final on the chain, found by the author's own search, receipt left.
    #[instrument(target = TRACED, name = "5 record on the chain", skip_all)]
    async fn finish(
        &mut self,
        at: usize,
        keys: Option<Vec<IndexKey>>,
        progress: &mut dyn Progress,
    ) -> Result<(), WorkError> {
        let Some(pending) = self.state.records[at].pending.clone() else {
            return Ok(());
        };
        let episode = self.state.episodes[self.state.records[at].episode].clone();
        let hospital = self.hospital().await?;
        progress.step("recording it on the chain");
        let id = pending.record.transaction;
        let (statement, signature) = (&pending.record.statement, &pending.record.signature);
        hospital
            .record(statement, signature, &pending.positions, &pending.receipt)
            .await?;
        match hospital.settled(id, SETTLED).await?.state {
            // The nodes that this machine asks may be behind those that the hospital's server heard.
            SubmittedState::Final { height } => {
                let client = self.network.client();
                if !client.reaches(Height::new(height), SETTLED).await? {
                    return not(
                        "the record is final, says the hospital's server, and the nodes have not reached its block yet: `willis doctor records` goes on with it",
                    );
                }
            }
            SubmittedState::Refused { reason } => {
                self.state.records.remove(at);
                self.save()?;
                return not(format!(
                    "the consortium refused the record: {reason}; store it again"
                ));
            }
            SubmittedState::Pending => {
                return not(
                    "the record is handed in and not final yet: `willis doctor records` goes on with it",
                );
            }
        }
        progress.step("searching for it as others will");
        let keys = match keys {
            Some(keys) => keys,
            None => {
                let writer_key = writer_key(&self.network, pending.writer).await?;
                let doctor = self.doctor()?;
                let indexing = Indexing {
                    doctor: &doctor,
                    hospital: &hospital,
                    episode: &episode,
                    writer: pending.writer,
                    writer_key: &writer_key,
                };
                indexing.index(&pending.keywords).await?.0
            }
        };
        let here = self.network.consortium();
        let mut search = OwnSearch::new(here, pending.writer, keys, id);
        run_search(self.network.client(), &mut search).await?;
        if !search.is_found() {
            return not(
                "the record is on the chain, but no search finds it: its hospital gave wrong positions; tell its IT",
            );
        }
        let doctor = self.doctor()?;
        let sealed = doctor
            .receipt(&episode, &pending.record, &mut self.rng)
            .map_err(parties::PatientError::from)?;
        hospital.leave_receipt(&episode.uid, sealed).await?;
        self.state.records[at].pending = None;
        self.save()
    }

    /// Finishes records that a crash or an outage left unfinished; says which could not be.
    ///
    /// # Errors
    /// [`WorkError`] if the keystore cannot be written.
    pub async fn finish_records(
        &mut self,
        progress: &mut dyn Progress,
    ) -> Result<Vec<String>, WorkError> {
        let mut failures = Vec::new();
        let mut at = 0;
        while at < self.state.records.len() {
            let id = self.state.records[at].receipt.transaction;
            if let Err(error) = self.finish(at, None, progress).await {
                let id = hex::encode(id.as_bytes());
                failures.push(format!("record {id}: {}", client::sentence(&error)));
            }
            // A refused record is gone, and the next one is in its place.
            let same = self.state.records.get(at);
            if same.is_some_and(|record| record.receipt.transaction == id) {
                at += 1;
            }
        }
        Ok(failures)
    }

    fn record_view(&self, at: usize) -> RecordView {
        let record = &self.state.records[at];
        RecordView {
            transaction: record.receipt.transaction,
            episode: record.episode + 1,
            name: record.name.clone(),
            time: record.time.number(),
            stored: record.pending.is_none(),
            amends: record.amends,
        }
    }

    /// The records that this doctor stored.
    pub fn records(&self) -> Vec<RecordView> {
        (0..self.state.records.len())
            .map(|at| self.record_view(at))
            .collect()
    }

    fn kept(&self, id: TransactionId) -> Result<&KeptRecord, WorkError> {
        let mut records = self.state.records.iter();
        match records.find(|record| record.receipt.transaction == id) {
            Some(kept) => Ok(kept),
            None => not("this keystore has no such record: see `willis doctor records`"),
        }
    }

    /// Leaves the receipt of a record once more, for a patient who has lost it.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn leave_receipt(&mut self, id: TransactionId) -> Result<(), WorkError> {
        let kept = self.kept(id)?;
        let episode = &self.state.episodes[kept.episode];
        let sealed = self
            .doctor()?
            .receipt_again(episode, &kept.receipt, &mut SystemRandom)
            .map_err(parties::PatientError::from)?;
        self.hospital()
            .await?
            .leave_receipt(&episode.uid, sealed)
            .await?;
        Ok(())
    }

    /// The author's own reading of a record, from the cloud, without asking anybody.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn read_own(
        &self,
        id: TransactionId,
        into: &Path,
        progress: &mut dyn Progress,
    ) -> Result<OpenedRecord, WorkError> {
        self.own_reading(id)?.read(into, progress).await
    }

    /// What reads an own record apart from this machine, which does other things meanwhile.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn own_reading(&self, id: TransactionId) -> Result<OwnReading, WorkError> {
        let kept = self.kept(id)?;
        Ok(OwnReading {
            network: Arc::clone(&self.network),
            doctor: self.doctor()?,
            episode: self.state.episodes[kept.episode].clone(),
            address: kept.address,
            id,
        })
    }
}

/// A record of an author's own, and what opens it.
pub struct OwnReading {
    network: Arc<Network>,
    doctor: Doctor,
    episode: PatientEpisode,
    address: Address,
    id: TransactionId,
}

impl OwnReading {
    /// Fetches the record from the cloud and opens it into a folder that is not there yet, or empty.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn read(
        &self,
        into: &Path,
        progress: &mut dyn Progress,
    ) -> Result<OpenedRecord, WorkError> {
        must_be_fresh(into)?;
        let (container, header) =
            from_cloud(&self.network, self.address, self.id, progress).await?;
        let here = self.network.consortium();
        let episode = &self.episode;
        let mut sections = Vec::new();
        for class in SectionClass::ALL {
            let code = ClassCode::from(class);
            let label = ClassLabelKey::derive(&here, &episode.pid, code);
            let Some(index) = header.find(&label) else {
                continue;
            };
            let secret =
                self.doctor
                    .own_section(&header, &episode.keys.encryption, &episode.pid, code);
            let key = secret.and_then(|secret| secret.content_key(&header, index));
            let Ok(key) = key else {
                return not("the container is not one that this doctor sealed");
            };
            sections.push((index, key));
        }
        open_into(&container, &header, &sections, into)
    }
}
