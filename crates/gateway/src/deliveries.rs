//! What systems gave without being asked, on its way to be a record: the sources that are configured, the
//! queue behind them, and the destination, which is this gateway.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;
use tokio::sync::watch;

use crate::fhir::{self, File, Publication, Refused};
use crate::gateway::{Gateway, now_ms};
use crate::intake::{
    Delivery, Destination, Intake, MllpConfig, MllpError, MllpServer, NotDelivered, Orthanc,
    OrthancConfig, OrthancError, Pace, Queue, QueueBounds, QueueError, Receipt, Source,
    WatchFolder, WatchFolderConfig, WatchFolderError,
};
use crate::register::{Identifier, Patient};

/// From where deliveries come.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// How much may wait.
    #[serde(default)]
    pub queue: QueueBounds,
    /// A folder into which systems put files.
    pub watch_folder: Option<WatchFolderConfig>,
    /// Where HL7 v2 messages are taken.
    pub mllp: Option<MllpConfig>,
    /// An image archive that is asked for new studies.
    pub orthanc: Option<OrthancConfig>,
}

impl Sources {
    /// Paths of the configuration, made absolute.
    pub fn each_path(&mut self, absolute: impl Fn(&std::path::Path) -> PathBuf) {
        if let Some(folder) = &mut self.watch_folder {
            folder.folder = absolute(&folder.folder);
        }
        if let Some(orthanc) = &mut self.orthanc {
            for file in [&mut orthanc.password_file, &mut orthanc.authority_file] {
                *file = file.as_ref().map(|file| absolute(file));
            }
        }
    }

    fn any(&self) -> bool {
        self.watch_folder.is_some() || self.mllp.is_some() || self.orthanc.is_some()
    }
}

/// Why a source cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The folder.
    #[error(transparent)]
    WatchFolder(#[from] WatchFolderError),
    /// The listener for messages.
    #[error(transparent)]
    Mllp(#[from] MllpError),
    /// The archive.
    #[error(transparent)]
    Orthanc(#[from] OrthancError),
}

/// Sources that are ready to run.
pub(crate) struct Deliveries {
    queue: Queue,
    watch_folder: Option<WatchFolder>,
    mllp: Option<MllpServer>,
    orthanc: Option<Orthanc>,
}

impl Deliveries {
    /// Opens the queue and the sources; none if none is configured and nothing waits.
    ///
    /// # Errors
    /// [`SourceError`].
    pub(crate) async fn open(
        folder: PathBuf,
        sources: Sources,
    ) -> Result<Option<Self>, SourceError> {
        if !sources.any() && !folder.exists() {
            return Ok(None);
        }
        let bounds = sources.queue;
        let opening = tokio::task::spawn_blocking(move || Queue::open(&folder, bounds));
        let queue = opening
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let watch_folder = sources.watch_folder.as_ref();
        let watch_folder = watch_folder.map(|one| WatchFolder::new(one, queue.clone()));
        let mllp = match sources.mllp {
            Some(config) => Some(MllpServer::bind(config, queue.clone()).await?),
            None => None,
        };
        let orthanc = sources.orthanc.map(|one| Orthanc::new(one, queue.clone()));
        Ok(Some(Self {
            watch_folder: watch_folder.transpose()?,
            mllp,
            orthanc: orthanc.transpose()?,
            queue,
        }))
    }

    pub(crate) fn queue(&self) -> Queue {
        self.queue.clone()
    }

    /// Runs the sources, and gives the gateway what waits, until `stop` says so. What was accepted waits
    /// for the next start.
    pub(crate) async fn run(self, gateway: Arc<Gateway>, stop: watch::Receiver<bool>) {
        let stopped = || {
            let mut stop = stop.clone();
            async move {
                let _ = stop.wait_for(|stop| *stop).await;
            }
        };
        let folder = async {
            if let Some(folder) = self.watch_folder {
                folder.run(stopped()).await;
            }
        };
        let mllp = async {
            if let Some(mllp) = self.mllp {
                mllp.serve(stopped()).await;
            }
        };
        let orthanc = async {
            if let Some(orthanc) = self.orthanc {
                orthanc.run(stopped()).await;
            }
        };
        let intake = Intake::new(self.queue, Pace::default());
        let delivering = async {
            if let Err(error) = intake.run(&*gateway, stopped()).await {
                tracing::error!(
                    error = %client::sentence(&error),
                    "nothing more is taken to be sealed: start the gateway again"
                );
            }
        };
        tokio::join!(folder, mllp, orthanc, delivering);
    }
}

impl Destination for Gateway {
    async fn deliver(&self, delivery: &Delivery) -> Result<Receipt, NotDelivered> {
        let patient = self.patient_of(delivery).await?;
        let taken = self.take(patient, delivery).await;
        // What a person has to do, others see to: the patient may hand the stay over in an hour.
        taken.map(Receipt).map_err(passing)
    }
}

fn passing(refused: impl Into<Refused>) -> NotDelivered {
    NotDelivered::Passing(refused.into().text)
}

impl Gateway {
    /// Seals a delivery as one record, once by its id; gives the record.
    async fn take(&self, patient: Patient, delivery: &Delivery) -> Result<String, Refused> {
        let key =
            hex::encode(scheme::sha256(format!("delivery {}", delivery.id).as_bytes()).as_bytes());
        let digest = *scheme::sha256(key.as_bytes()).as_bytes();
        if let Some(before) = self.register().submission(&key).await? {
            if !before.is_final {
                self.finish_publications().await?;
            }
            match self.register().submission(&key).await? {
                Some(again) if again.is_final => {
                    return Ok(again.response["record"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned());
                }
                Some(_) => return Err(fhir::not_final()),
                // The consortium refused it: it is stored anew.
                None => {}
            }
        }
        let spool = self.spool()?;
        let failed = |error: std::io::Error| {
            Refused::failed(format!(
                "the gateway's folder cannot be used: {error}; tell the hospital's IT"
            ))
        };
        let mut files = Vec::new();
        for (number, file) in delivery.files.iter().enumerate() {
            let name = file.name.as_str().to_owned();
            let folder = spool.path().join(number.to_string());
            std::fs::create_dir_all(&folder).map_err(failed)?;
            let path = folder.join(&name);
            // A second name for the same bytes, unless the file system has none.
            if std::fs::hard_link(&file.path, &path).is_err() {
                std::fs::copy(&file.path, &path).map_err(failed)?;
            }
            files.push(File {
                name,
                path,
                said: None,
            });
        }
        let source = match delivery.source {
            Source::Folder => "folder",
            Source::Orthanc => "orthanc",
            Source::Mllp => "mllp",
            _ => "system",
        };
        let publication = Publication {
            patient,
            files,
            lists: Vec::new(),
            replaces: Vec::new(),
            key: Some(key),
            digest,
        };
        let patient = publication.patient.id.clone();
        let respond = |record: &str, _: u64| serde_json::json!({ "record": record });
        let tell = |_: &str, record: &str| fhir::taken(self, &patient, source, record);
        let response = self.publish(publication, respond, tell).await?;
        Ok(response["record"].as_str().unwrap_or_default().to_owned())
    }

    /// Whose delivery it is. A message enters a patient who is not known yet, as an admission does; files
    /// and studies do not, since their numbers may be anybody's typing.
    async fn patient_of(&self, delivery: &Delivery) -> Result<Patient, NotDelivered> {
        for number in &delivery.patient {
            let found = self
                .register()
                .patients_by(number.system(), number.value())
                .await
                .map_err(passing)?;
            match found.as_slice() {
                [] => {}
                [one] => return Ok(one.clone()),
                _ => {
                    return Err(NotDelivered::ForGood(
                        "the patient's number is of more than one patient: name its system in the gateway's configuration, and try again".to_owned(),
                    ));
                }
            }
        }
        if delivery.source != Source::Mllp || delivery.patient.is_empty() {
            return Err(NotDelivered::Passing(
                "no patient of this gateway has that number: enter the Patient, and the delivery goes on by itself".to_owned(),
            ));
        }
        let named = delivery.patient.iter().map(|number| Identifier {
            system: number.system().unwrap_or_default().to_owned(),
            value: number.value().to_owned(),
        });
        let uid = Identifier {
            system: fhir::UID.to_owned(),
            value: self.desk().give_uid().await.map_err(passing)?,
        };
        let patient = Patient {
            id: self.fresh_id(),
            version: 1,
            updated: now_ms(),
            identifiers: named.chain([uid]).collect(),
        };
        self.register()
            .enter_patient(&patient)
            .await
            .map_err(passing)?;
        Ok(patient)
    }
}
