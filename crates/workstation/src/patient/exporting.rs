//! Everything that a patient has, in one folder: readable by anyone who has it, and checked by anyone who
//! has the founding document ([`crate::export`]).

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use client::now;
use ledger::TransactionId;
use scheme::GrantId;

use super::PatientDevice;
use crate::error::{WorkError, not};
use crate::export::{
    ACCESS_LOG, CONTAINER, CONTENTS, Contents, ExportedAccess, ExportedDoctor, ExportedFile,
    ExportedGrant, ExportedRecord, ExportedSection, FILES, FOUNDING, GRANT, LeftOut, README,
    RECORD, VERSION, digest_of,
};
use crate::network::Progress;
use crate::reading::{must_be_fresh, open_into};

/// What an export came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Records in it.
    pub records: usize,
    /// Grants in it.
    pub grants: usize,
    /// What could not be taken along, and why; it stands in the export as well.
    pub left_out: Vec<String>,
}

impl PatientDevice {
    /// Writes everything into a folder that is not there yet: each record as it lies in the cloud, opened,
    /// with the proof that it stands on the chain and what opens its sections; each grant with its proof
    /// and its complete access log. What cannot be had now is named in it.
    ///
    /// # Errors
    /// [`WorkError`] if the folder cannot be written or no node answers.
    pub async fn export(
        &mut self,
        into: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Exported, WorkError> {
        must_be_fresh(into)?;
        self.take_acts().await?;
        // For nobody else on this machine.
        folder(into)?;
        let network = &self.network;
        write(&into.join(FOUNDING), &network.founding().genesis.encode())?;
        write(&into.join("README.txt"), README.as_bytes())?;
        let mut contents = Contents {
            version: VERSION,
            consortium: hex::encode(network.consortium().as_bytes()),
            made: now().number(),
            records: Vec::new(),
            grants: Vec::new(),
            left_out: Vec::new(),
        };
        for name in ["records", "grants"] {
            folder(&into.join(name))?;
        }
        for episode in self.episodes() {
            for id in &episode.records {
                let number = contents.records.len() + 1;
                progress.step(&format!("taking record {number} along"));
                match self.export_record(*id, number, into, progress).await {
                    Ok(mut record) => {
                        record.institution = episode.institution.number();
                        record.doctor = episode.doctor.number();
                        record.hospital = self.network.name_of(episode.institution).await;
                        contents.records.push(record);
                    }
                    Err(error @ WorkError::File(..)) => return Err(error),
                    Err(error) => contents.left_out.push(LeftOut {
                        what: format!("record {}", hex::encode(id.as_bytes())),
                        why: client::sentence(&error),
                    }),
                }
            }
        }
        for given in self.grants().await? {
            let number = contents.grants.len() + 1;
            progress.step(&format!("taking grant {number} and its access log along"));
            let gid = given.gid.clone();
            match self.export_grant(&given, number, into, progress).await {
                Ok(grant) => contents.grants.push(grant),
                Err(error @ WorkError::File(..)) => return Err(error),
                Err(error) => contents.left_out.push(LeftOut {
                    what: format!("grant {gid}"),
                    why: client::sentence(&error),
                }),
            }
        }
        let text = serde_json::to_vec_pretty(&contents).unwrap_or_default();
        write(&into.join(CONTENTS), &text)?;
        let left_out = contents.left_out.iter();
        Ok(Exported {
            records: contents.records.len(),
            grants: contents.grants.len(),
            left_out: left_out
                .map(|one| format!("{}: {}", one.what, one.why))
                .collect(),
        })
    }

    async fn export_record(
        &self,
        id: TransactionId,
        number: usize,
        into: &Path,
        progress: &mut dyn Progress,
    ) -> Result<ExportedRecord, WorkError> {
        let hex_id = hex::encode(id.as_bytes());
        let name = format!("{number:04}-{}", &hex_id[..16]);
        let own = self.fetch_own(id, progress).await?;
        let client = self.network.client();
        let genesis = &self.network.founding().genesis;
        let (proof, _) = client.prove_record(genesis, id).await?;
        let place = into.join("records").join(&name);
        let written = async {
            folder(&place)?;
            let keys: Vec<_> = own
                .sections
                .iter()
                .map(|section| (section.index, section.key.clone()))
                .collect();
            let opened = open_into(&own.container, &own.header, &keys, &place.join(FILES))?;
            let container = place.join(CONTAINER);
            fs::copy(&own.container, &container)
                .map_err(|error| WorkError::File(container.clone(), error))?;
            write(&place.join(RECORD), &proof.encode())?;
            let mut files = Vec::new();
            for file in &opened.files {
                let name = file.path.file_name().unwrap_or_default();
                files.push(ExportedFile {
                    name: name.to_string_lossy().into_owned(),
                    media_type: file.media_type.clone(),
                    sha256: hex::encode(digest_of(&file.path)?.as_bytes()),
                });
            }
            Ok::<_, WorkError>((opened, files))
        };
        let (opened, files) = match written.await {
            Ok(written) => written,
            Err(error) => {
                // Half a record is none.
                let _ = fs::remove_dir_all(&place);
                return Err(error);
            }
        };
        let statement = self.network.record(id).await?.statement;
        Ok(ExportedRecord {
            folder: name,
            transaction: hex_id,
            institution: 0,
            hospital: String::new(),
            doctor: 0,
            time: statement.time.number(),
            amends: opened.amends.map(|one| hex::encode(one.digest.as_bytes())),
            sections: own
                .sections
                .iter()
                .map(|section| ExportedSection {
                    class: section.class.name().to_owned(),
                    index: section.index.place(),
                    secret: hex::encode(section.secret.expose_bytes()),
                })
                .collect(),
            files,
        })
    }

    async fn export_grant(
        &self,
        given: &super::GivenView,
        number: usize,
        into: &Path,
        progress: &mut dyn Progress,
    ) -> Result<ExportedGrant, WorkError> {
        let mut gid = [0; 32];
        if hex::decode_to_slice(&given.gid, &mut gid).is_err() {
            return not("the grant has no id");
        }
        let client = self.network.client();
        let genesis = &self.network.founding().genesis;
        let (grant, _) = client.prove_grant(genesis, GrantId::new(gid)).await?;
        let mut hears = |_, _| {};
        let proved = client.prove_access_log(genesis, GrantId::new(gid), &mut hears);
        let (log, _) = proved.await?;
        let name = format!("{number:04}-{}", &given.gid[..16]);
        let accesses = self.log(&given.gid, progress).await?;
        let place = into.join("grants").join(&name);
        folder(&place)?;
        write(&place.join(GRANT), &grant.encode())?;
        write(&place.join(ACCESS_LOG), &log.encode())?;
        let answers = given.answers.as_ref();
        Ok(ExportedGrant {
            folder: name,
            gid: given.gid.clone(),
            by_agent: given.by_agent.is_some(),
            purpose: answers.map_or_else(String::new, |one| one.purpose.clone()),
            classes: answers.map_or_else(Vec::new, |one| {
                one.classes
                    .iter()
                    .map(|class| class.name().to_owned())
                    .collect()
            }),
            doctors: answers.map_or_else(Vec::new, |one| {
                let doctor = |(doctor, institution): &(scheme::DoctorId, scheme::InstitutionId)| {
                    ExportedDoctor {
                        doctor: doctor.number(),
                        institution: institution.number(),
                    }
                };
                one.team.iter().map(doctor).collect()
            }),
            expiry: given.expiry,
            revoked: given.revoked,
            accesses: accesses
                .iter()
                .map(|one| ExportedAccess {
                    number: one.number,
                    access_key: one.access_key.clone(),
                    doctor: one.doctor.map(|(doctor, _)| doctor.number()),
                    time: one.time,
                    record: one.record.map(|id| hex::encode(id.as_bytes())),
                })
                .collect(),
        })
    }
}

fn folder(path: &Path) -> Result<(), WorkError> {
    let made = DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.map_err(|error| WorkError::File(path.to_owned(), error))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), WorkError> {
    fs::write(path, bytes).map_err(|error| WorkError::File(path.to_owned(), error))
}
