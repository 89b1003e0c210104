//! The patient's directory with the registration centre: encrypted under a key of the seed's, named with
//! its version and its device; and the scan for episodes that it does not have.

use std::collections::BTreeSet;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use client::{Base64, ClientError, EncryptedDirectory, IdempotencyKey};
use parties::{EPISODE_SCAN_GAP, Patient};
use rand_core::Rng;
use scheme::{ConsortiumId, EpisodeNumber, KeyVersion, Uid};
use zeroize::Zeroizing;

use super::PatientDevice;
use crate::error::{WorkError, not};
use crate::network::{Progress, run_search};

impl PatientDevice {
    /// Saves, and keeps the directory with the centre. If that fails the next command does it.
    pub(super) async fn keep(&mut self) -> Result<(), WorkError> {
        self.state.behind = true;
        self.save()?;
        // What was done is done: that the copy is behind stands in the keystore.
        let _ = self.sync().await;
        Ok(())
    }

    /// Keeps the directory with the registration centre, encrypted under a key of the seed's.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn sync(&mut self) -> Result<(), WorkError> {
        let centre = self.centre()?;
        // A second time only if an answer was lost: then this device's own copy stands there.
        for _ in 0..2 {
            let version = self.state.kept + 1;
            let directory = self.seal_directory(version);
            let key = IdempotencyKey::random();
            match centre.keep_directory(&directory, &key).await {
                Ok(_) => {
                    self.state.kept = version;
                    self.state.behind = false;
                    return self.save();
                }
                Err(ClientError::Refused(problem)) if problem.status() == 409 => {
                    let found = centre.directory().await?;
                    let (device, _) = self.open_directory(&found)?;
                    if device != self.state.device {
                        break;
                    }
                    self.state.kept = found.version;
                }
                Err(error) => return Err(error.into()),
            }
        }
        not(
            "another device with your 24 words has kept a newer directory: go on there, or restore this one from the words",
        )
    }

    fn seal_directory(&mut self, version: u64) -> EncryptedDirectory {
        let here = self.network.consortium();
        let cipher = Aes256Gcm::new(self.state.patient.directory_key().expose_bytes().into());
        let mut nonce = [0; 12];
        self.rng.fill_bytes(&mut nonce);
        let directory = self.state.patient.directory();
        let mut plain = Zeroizing::new(Vec::with_capacity(16 + directory.len()));
        plain.extend_from_slice(&self.state.device);
        plain.extend_from_slice(&directory);
        let payload = Payload {
            msg: &plain,
            aad: &bound(&here, version),
        };
        let sealed = cipher
            .encrypt(&Nonce::from(nonce), payload)
            .expect("a directory is far below the cipher's limit of 64 GiB");
        let mut encrypted = nonce.to_vec();
        encrypted.extend_from_slice(&sealed);
        EncryptedDirectory {
            version,
            encrypted: Base64(encrypted),
        }
    }

    /// Which device kept a directory, and the directory.
    fn open_directory(
        &self,
        found: &EncryptedDirectory,
    ) -> Result<([u8; 16], Zeroizing<Vec<u8>>), WorkError> {
        let here = self.network.consortium();
        let Some((nonce, sealed)) = found.encrypted.0.split_first_chunk::<12>() else {
            return not(NO_DIRECTORY);
        };
        let cipher = Aes256Gcm::new(self.state.patient.directory_key().expose_bytes().into());
        let payload = Payload {
            msg: sealed,
            aad: &bound(&here, found.version),
        };
        let opened = cipher.decrypt(&Nonce::from(*nonce), payload);
        let plain = Zeroizing::new(opened.unwrap_or_default());
        match plain.split_first_chunk::<16>() {
            Some((device, directory)) => Ok((*device, Zeroizing::new(directory.to_vec()))),
            None => not(NO_DIRECTORY),
        }
    }

    pub(super) fn take_directory(&mut self, found: &EncryptedDirectory) -> Result<(), WorkError> {
        let (_, directory) = self.open_directory(found)?;
        self.state.patient = Patient::restore(
            self.network.consortium(),
            self.network.founding_keys(),
            &self.state.seed,
            KeyVersion::new(0),
            &directory,
        )?;
        self.state.kept = found.version;
        self.state.subject = self.state.patient.certificate().map(|one| one.subject());
        Ok(())
    }

    /// Brings back what the centre keeps, and what began after it.
    pub(super) async fn recover(&mut self, progress: &mut dyn Progress) -> Result<(), WorkError> {
        progress.step("fetching the directory that the registration centre keeps");
        let found = self.centre()?.directory().await?;
        self.take_directory(&found)?;
        progress.step("looking for episodes that began after it was kept");
        self.scan(progress).await?;
        self.sync().await
    }

    /// Looks for episodes after the last that is known, with each doctor and UID, until
    /// [`EPISODE_SCAN_GAP`] numbers in a row have no record.
    async fn scan(&mut self, progress: &mut dyn Progress) -> Result<(), WorkError> {
        let known: BTreeSet<_> = self
            .state
            .patient
            .episodes()
            .map(|(_, one)| (one.institution, one.doctor, one.uid.as_bytes().to_vec()))
            .collect();
        for (institution, doctor, uid) in known {
            let uid = Uid::new(&uid)?;
            let epochs = self.network.client().writer_epochs(institution).await?;
            let numbers = self.state.patient.episodes();
            let last = numbers
                .filter(|(_, one)| one.doctor == doctor && one.uid == uid)
                .map(|(_, one)| one.number.number())
                .max()
                .unwrap_or(0);
            let (mut next, mut empty) = (last + 1, 0);
            let mut found = Vec::new();
            while empty < EPISODE_SCAN_GAP {
                let number = EpisodeNumber::new(next);
                let mut any = false;
                for (epoch, key) in &epochs.epochs {
                    let who = (institution, doctor);
                    let mut search =
                        self.state
                            .patient
                            .episode_search(who, &uid, number, (*epoch, key));
                    run_search(self.network.client(), &mut search).await?;
                    any |= search.is_found();
                }
                if any {
                    found.push(next);
                    empty = 0;
                } else {
                    empty += 1;
                }
                next += 1;
            }
            let Some(last_found) = found.last() else {
                continue;
            };
            progress.step("found an episode that the directory did not have");
            // Those between without a record are taken in too, so that no number is used twice.
            for number in last + 1..=*last_found {
                let number = EpisodeNumber::new(number);
                self.state
                    .patient
                    .recover_episode((institution, doctor), &uid, number)?;
            }
        }
        self.state.behind = true;
        self.save()
    }
}

const NO_DIRECTORY: &str = "the directory that the centre keeps does not open with these words: they are another patient's, or the centre's copy is damaged";

fn bound(consortium: &ConsortiumId, version: u64) -> Vec<u8> {
    scheme::enc(&[
        b"willis directory",
        consortium.as_bytes(),
        &version.to_be_bytes(),
    ])
}
