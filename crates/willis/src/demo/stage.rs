//! `willis demo --ui`: a development consortium with a patient whose records two hospitals have stored, and
//! the pages of everybody, so that the rest of the referral is played by hand in a browser. The services and
//! the people's programs are the real ones; only here one machine runs them all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use client::{DoctorApplicant, EnrolmentState, Identity};
use portal::{Portal, PortalError, Settings};
use scheme::InstitutionId;
use serde_json::json;
use thiserror::Error;
use workstation::{AgentDevice, DoctorDesk, Network, PatientDevice, Silent, WorkError};

use super::samples::{self, Sample};
use crate::dev::{DevError, Running};

/// Everybody's passphrase here.
const PASSPHRASE: &str = "circle of willis";
/// How long a step may take that waits for a service.
const BOUND: Duration = Duration::from_secs(30);

const TERTIARY: InstitutionId = InstitutionId::new(1);
const SECONDARY: InstitutionId = InstitutionId::new(2);
const COMMUNITY: InstitutionId = InstitutionId::new(4);

#[derive(Debug, Error)]
enum StageError {
    #[error(transparent)]
    Dev(#[from] DevError),
    #[error("{}", client::sentence(.0))]
    Work(#[from] WorkError),
    #[error("{}", client::sentence(.0))]
    Portal(#[from] PortalError),
    #[error("{0} cannot be used: {1}; check the disk")]
    File(PathBuf, #[source] std::io::Error),
    #[error("the registration centre did not certify {0} within {BOUND:?}")]
    NotCertified(&'static str),
    #[error("the patient's stay did not reach the doctor within {BOUND:?}")]
    NoHandover,
    #[error("the runtime cannot be started: {0}")]
    Runtime(#[source] std::io::Error),
    #[error("the pages cannot be served: {0}")]
    Serve(#[source] std::io::Error),
}

/// Sets the stage, prints where the pages are, and serves them until it is asked to stop.
pub(crate) fn run(json: bool) -> ExitCode {
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .map_err(StageError::Runtime)
        .and_then(|runtime| {
            runtime.block_on(async {
                tokio::select! {
                    played = play(json) => played,
                    () = crate::asked_to_stop() => Ok(()),
                }
            })
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::complain("willis demo", &error);
            ExitCode::FAILURE
        }
    }
}

async fn play(json: bool) -> Result<(), StageError> {
    let failed = |error| StageError::File(std::env::temp_dir(), error);
    let root = tempfile::Builder::new()
        .prefix("willis-demo-")
        .tempdir()
        .map_err(failed)?;
    let tell = |text: &str| {
        if !json {
            crate::say(text);
        }
    };
    tell("Four hospitals, a registration centre, a query manager and a cloud start.");
    let mut running = Running::begin_in(&root.path().join("dev"))?;
    running.ready().await?;
    tell(
        "A patient and four doctors make their keys; two hospitals store what they know of the patient.",
    );
    let people = People {
        founding: root.path().join("dev").join("founding"),
        folder: root.path().to_owned(),
    };
    people.store_the_past().await?;
    let mut pages = Vec::new();
    for (who, file) in [
        ("receiving doctor", Some("doctor-city.keystore")),
        ("colleague", Some("doctor-late.keystore")),
        ("patient", Some("patient.keystore")),
        ("consortium", None),
        ("community doctor", Some("doctor-riverside.keystore")),
        ("family agent", Some("agent.keystore")),
    ] {
        let portal = Portal::bind(Settings {
            founding: people.founding.clone(),
            keystore: file.map(|file| root.path().join(file)),
            port: 0,
        })
        .await?;
        if file.is_some() {
            portal.unlock(PASSPHRASE).await?;
        }
        pages.push((who, portal));
    }
    announce(&pages, root.path(), json);
    let served = pages
        .into_iter()
        .map(|(_, portal)| portal.serve(std::future::pending()));
    let served = futures::future::try_join_all(served);
    let watched = async {
        loop {
            running.check()?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        served = served => served.map(drop).map_err(StageError::Serve),
        ended = watched => ended,
    }
}

fn announce(pages: &[(&str, Portal)], folder: &Path, json: bool) {
    if json {
        let pages: serde_json::Map<_, _> = pages
            .iter()
            .map(|(who, portal)| ((*who).to_owned(), json!(portal.address())))
            .collect();
        crate::say(
            &json!({ "ready": true, "folder": folder, "passphrase": PASSPHRASE, "pages": pages })
                .to_string(),
        );
        return;
    }
    let mut text = String::from("\nEverything runs. Open each in a tab of its own:\n\n");
    for (who, portal) in pages {
        text.push_str(&format!("  {who:<17} {}\n", portal.address()));
    }
    text.push_str(&format!(
        "\nTo play the referral: copy the code from the patient's \"My code\"; as the receiving doctor ask for it;\nas the patient look, choose and grant; as the doctor open what was granted; as the patient see the log,\nand take it back. A page that was locked opens with the passphrase \"{PASSPHRASE}\".\n\nCtrl-C ends all of it, and nothing stays."
    ));
    crate::say(&text);
}

/// Where everybody's keys lie.
struct People {
    founding: PathBuf,
    folder: PathBuf,
}

impl People {
    fn network(&self) -> Result<Network, WorkError> {
        Network::open(&self.founding)
    }

    fn identity(name: &str) -> Identity {
        Identity {
            name: name.to_owned(),
            birth_date: "1951-03-08".to_owned(),
            document_kind: "demonstration".to_owned(),
            document_number: "0".to_owned(),
        }
    }

    async fn doctor(
        &self,
        who: &'static str,
        institution: InstitutionId,
    ) -> Result<DoctorDesk, StageError> {
        let keystore = self.folder.join(format!("doctor-{who}.keystore"));
        let mut desk = DoctorDesk::create(self.network()?, &keystore, PASSPHRASE, institution)?;
        let applicant = DoctorApplicant {
            identity: Self::identity(who),
            licence_number: "demonstration".to_owned(),
            institution: institution.number(),
        };
        desk.enrol(applicant, None).await?;
        match desk.enrolment(BOUND).await?.state {
            EnrolmentState::Registered { .. } => Ok(desk),
            _ => Err(StageError::NotCertified(who)),
        }
    }

    /// What two hospitals stored before the referral.
    async fn store_the_past(&self) -> Result<(), StageError> {
        let keystore = self.folder.join("patient.keystore");
        let mut patient = PatientDevice::create(self.network()?, &keystore, PASSPHRASE)?;
        patient.enrol(Self::identity("patient"), None).await?;
        let EnrolmentState::Registered { .. } = patient.enrolment(BOUND).await?.state else {
            return Err(StageError::NotCertified("patient"));
        };
        let agent = self.folder.join("agent.keystore");
        drop(AgentDevice::create(self.network()?, &agent, PASSPHRASE)?);
        drop(self.doctor("city", TERTIARY).await?);
        drop(self.doctor("late", TERTIARY).await?);
        let mut eastern = self.doctor("eastern", SECONDARY).await?;
        self.stay(&mut patient, &mut eastern, SECONDARY, samples::SECONDARY)
            .await?;
        let mut riverside = self.doctor("riverside", COMMUNITY).await?;
        self.stay(&mut patient, &mut riverside, COMMUNITY, samples::COMMUNITY)
            .await?;
        patient.receipts(&mut Silent).await?;
        Ok(())
    }

    async fn stay(
        &self,
        patient: &mut PatientDevice,
        doctor: &mut DoctorDesk,
        institution: InstitutionId,
        files: &[Sample],
    ) -> Result<(), StageError> {
        let uid = doctor.give_uid().await?;
        let id = doctor.public_keys()?.id;
        patient.begin_episode(institution, &uid, id).await?;
        let (accepted, _) = doctor.accept_handovers(BOUND).await?;
        let episode = accepted.first().ok_or(StageError::NoHandover)?;
        let folder = self.folder.join(format!("files-{institution}"));
        let paths = write(&folder, files)?;
        doctor
            .store(episode.number, &paths, None, &mut Silent)
            .await?;
        fs::remove_dir_all(&folder).map_err(|error| StageError::File(folder.clone(), error))
    }
}

fn write(folder: &Path, files: &[Sample]) -> Result<Vec<PathBuf>, StageError> {
    let failed = |error| StageError::File(folder.to_owned(), error);
    fs::create_dir(folder).map_err(failed)?;
    let mut paths = Vec::new();
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(failed)?;
        paths.push(path);
    }
    Ok(paths)
}
