//! Four hospitals on this machine: founding document, keys, folders, ports, and a process for each
//! node, all under one temporary folder that goes away with the demo.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use client::{ConsortiumClient, Founding, NodeStatus, ServiceName, now};
use ledger::{Genesis, Tier};
use scheme::{GrantId, InstitutionId, SigningKey, VerifyingKey};
use tempfile::TempDir;
use thiserror::Error;

use crate::genesis::{self, FounderPlan, ServiceRole, SettingsFile, TierName};
use crate::processes;

/// How long the nodes may take to agree on their first blocks.
const START_BOUND: Duration = Duration::from_secs(30);
/// Blocks follow each other at least this often, so that the chain's time moves.
const HEARTBEAT_MS: u64 = 500;
/// A silent leader is passed over after this.
const LEADER_TIMEOUT_MS: u64 = 1_500;
/// An anchor this often: in a real consortium an hour, here so that the demo has some.
const ANCHOR_MS: u64 = 5_000;
/// Other programs can take a port between its choice and its use.
const PORT_ATTEMPTS: usize = 3;

/// The founding hospitals: id, tier, name.
const HOSPITALS: [(u32, TierName, &str); 4] = [
    (1, TierName::Tertiary, "City University Hospital"),
    (2, TierName::Secondary, "Eastern District Hospital"),
    (3, TierName::Secondary, "Western District Hospital"),
    (4, TierName::Community, "Riverside Community Hospital"),
];

/// Why the demo's consortium does not run.
#[derive(Debug, Error)]
pub(super) enum ConsortiumError {
    #[error("the demo's folder cannot be written: {0}")]
    Folder(#[from] io::Error),
    #[error("the consortium cannot be founded: {0}")]
    Founding(#[from] genesis::CeremonyError),
    #[error("the directory of services cannot be used: {0}")]
    Directory(#[from] client::DirectoryError),
    #[error("a node stopped while it started; it said: {0}")]
    Stopped(String),
    #[error("the nodes did not agree on a block within {START_BOUND:?}; the last answer was: {0}")]
    Silent(String),
    #[error("a living node did not come along within {START_BOUND:?}; the last answer was: {0}")]
    Behind(String),
    #[error(transparent)]
    Client(#[from] client::ClientError),
}

impl From<crate::keys::KeyError> for ConsortiumError {
    fn from(error: crate::keys::KeyError) -> Self {
        Self::Founding(error.into())
    }
}

impl From<genesis::StatementError> for ConsortiumError {
    fn from(error: genesis::StatementError) -> Self {
        Self::Founding(error.into())
    }
}

impl From<client::FoundingError> for ConsortiumError {
    fn from(error: client::FoundingError) -> Self {
        Self::Founding(error.into())
    }
}

/// A hospital of the demo.
pub(super) struct Hospital {
    pub(super) id: InstitutionId,
    pub(super) tier: Tier,
    pub(super) name: &'static str,
    pub(super) key: SigningKey,
    /// The consensus key of its node.
    pub(super) node: VerifyingKey,
    /// A node ends when the pipe to it is closed, so that none outlives the demo, however that ends.
    process: Child,
    /// Whether the demo killed it.
    killed: bool,
}

/// The running consortium. Dropping it ends its processes and removes its folder.
pub(super) struct Consortium {
    pub(super) genesis: Genesis,
    pub(super) centre: SigningKey,
    pub(super) hospitals: Vec<Hospital>,
    pub(super) client: ConsortiumClient,
    folder: TempDir,
}

impl Consortium {
    /// Founds it and starts its nodes.
    pub(super) async fn start() -> Result<Self, ConsortiumError> {
        let mut last = None;
        for _ in 0..PORT_ATTEMPTS {
            match Self::try_start().await {
                Err(ConsortiumError::Stopped(why)) => last = Some(ConsortiumError::Stopped(why)),
                other => return other,
            }
        }
        Err(last.unwrap_or(ConsortiumError::Silent("none".into())))
    }

    /// Where the cloud's containers lie.
    pub(super) fn cloud(&self) -> PathBuf {
        self.folder.path().join("cloud")
    }

    /// A folder on a doctor's machine.
    pub(super) fn workspace(&self) -> PathBuf {
        self.folder.path().join("workstation")
    }

    pub(super) fn hospital(&self, id: InstitutionId) -> &Hospital {
        let found = self.hospitals.iter().find(|hospital| hospital.id == id);
        found.expect("the demo names its own four hospitals")
    }

    /// Ends a hospital's node at once, as a power failure does (SIGKILL).
    pub(super) fn kill(&mut self, id: InstitutionId) -> io::Result<()> {
        for hospital in self
            .hospitals
            .iter_mut()
            .filter(|hospital| hospital.id == id)
        {
            hospital.process.kill()?;
            hospital.process.wait()?;
            hospital.killed = true;
        }
        Ok(())
    }

    /// A node that lives.
    pub(super) fn living(&self) -> InstitutionId {
        let found = self.hospitals.iter().find(|hospital| !hospital.killed);
        found.expect("the demo kills one of four").id
    }

    /// Waits until every living node's status is as `there` asks.
    ///
    /// # Errors
    /// [`ConsortiumError::Behind`] after [`START_BOUND`].
    pub(super) async fn reach(
        &self,
        there: impl Fn(&NodeStatus) -> bool,
    ) -> Result<(), ConsortiumError> {
        let end = Instant::now() + START_BOUND;
        let living = || self.hospitals.iter().filter(|hospital| !hospital.killed);
        let mut last = String::from("none");
        while Instant::now() < end {
            let mut waiting = 0;
            for hospital in living() {
                match self.client.status(hospital.id).await {
                    Ok(status) if there(&status) => {}
                    Ok(status) => {
                        waiting += 1;
                        last = format!("height {}", status.height);
                    }
                    Err(error) => {
                        waiting += 1;
                        last = error.to_string();
                    }
                }
            }
            if waiting == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(ConsortiumError::Behind(last))
    }

    /// Whether, within a few blocks, no living node's disk holds a file of this grant.
    pub(super) async fn forgets(&self, gid: &GrantId) -> bool {
        let name = hex::encode(gid.as_bytes());
        let held = || {
            self.hospitals
                .iter()
                .filter(|hospital| !hospital.killed)
                .any(|hospital| {
                    let home = self.folder.path().join(format!("hospital-{}", hospital.id));
                    home.join("data").join("grants").join(&name).exists()
                })
        };
        for _ in 0..100 {
            if !held() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    async fn try_start() -> Result<Self, ConsortiumError> {
        let folder = tempfile::Builder::new().prefix("willis-demo-").tempdir()?;
        let root = folder.path();
        let ports = processes::free_ports(2 * HOSPITALS.len())?;
        let address = |place: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[place]));
        let (mut founders, mut keys) = (Vec::new(), Vec::new());
        for (place, (id, tier, name)) in HOSPITALS.iter().enumerate() {
            let home = root.join(format!("hospital-{id}"));
            let node = format!("https://{}", address(place + HOSPITALS.len()));
            let founder = FounderPlan {
                institution: InstitutionId::new(*id),
                name,
                tier: *tier,
                hospital: &node,
                node: &node,
                consensus: address(place),
                token: None,
            };
            founders.push(genesis::make_founder_in(&home, &founder)?);
            let key = crate::keys::read(&home.join("institution.key"))?;
            keys.push(SigningKey::from_seed(*key));
        }
        let nowhere = "https://127.0.0.1:9";
        let mut services = Vec::new();
        for (role, name) in [
            (ServiceRole::Centre, "centre"),
            (ServiceRole::Query, "query"),
            (ServiceRole::Cloud, "cloud-keys"),
        ] {
            // Played by the demo itself, so nobody reaches them over the network.
            services.push(genesis::make_service(&root.join(name), role, nowhere)?);
        }
        let key = crate::keys::read(&root.join("centre").join("service.key"))?;
        let centre = SigningKey::from_seed(*key);
        let settings = SettingsFile {
            block_wait_ms: Some(10),
            heartbeat_ms: Some(HEARTBEAT_MS),
            leader_timeout_ms: Some(LEADER_TIMEOUT_MS),
            anchor_interval_ms: Some(ANCHOR_MS),
            ..SettingsFile::default()
        };
        let (genesis, directory) = genesis::draw_up(&founders, &services, &settings, now())?;
        let into = root.join("founding");
        let founding = Founding::write(&into, &genesis, &directory)?;
        for founder in &founders {
            let home = root.join(format!("hospital-{}", founder.institution));
            genesis::sign_in(&founding, &into, &home, founder.institution)?;
        }
        fs::create_dir_all(root.join("cloud"))?;
        fs::create_dir_all(root.join("workstation"))?;

        let mut hospitals = Vec::new();
        let mut nodes = Vec::new();
        for (place, ((id, tier, name), key)) in HOSPITALS.iter().zip(keys).enumerate() {
            let home = root.join(format!("hospital-{id}"));
            let config = home.join("node.toml");
            fs::write(
                &config,
                format!(
                    "founding = \"../founding\"\ninstitution = {id}\nkey = \"node.key\"\n\
                     folder = \"data\"\ncontainers = \"../cloud\"\n\
                     listen = \"{}\"\nserve = \"{}\"\n\n[tls]\ncertificate = \"tls.pem\"\nkey = \"tls.key\"\n",
                    address(place),
                    address(place + HOSPITALS.len()),
                ),
            )?;
            let process = processes::start("node", &config, &home.join("log"), None)?;
            let id = InstitutionId::new(*id);
            let endpoint = directory.endpoint(ServiceName::Node(id), None)?;
            nodes.push((id, endpoint));
            let own = genesis.institutions.iter().find(|own| own.id == id);
            hospitals.push(Hospital {
                id,
                tier: (*tier).into(),
                name,
                key,
                node: own.expect("it was just drawn up").node,
                process,
                killed: false,
            });
        }
        let client = ConsortiumClient::new(&genesis, nodes)?;
        let mut consortium = Self {
            genesis,
            centre,
            hospitals,
            client,
            folder,
        };
        consortium.wait_for_blocks().await?;
        Ok(consortium)
    }

    async fn wait_for_blocks(&mut self) -> Result<(), ConsortiumError> {
        let end = Instant::now() + START_BOUND;
        let mut last = String::from("none");
        while Instant::now() < end {
            for hospital in &mut self.hospitals {
                if hospital.process.try_wait()?.is_some() {
                    let log = self
                        .folder
                        .path()
                        .join(format!("hospital-{}", hospital.id))
                        .join("log");
                    return Err(ConsortiumError::Stopped(processes::last_line(&log)));
                }
            }
            let mut ready = 0;
            for hospital in &self.hospitals {
                match self.client.status(hospital.id).await {
                    Ok(status) if status.height >= 1 => ready += 1,
                    Ok(status) => last = format!("height {}", status.height),
                    Err(error) => last = error.to_string(),
                }
            }
            if ready == self.hospitals.len() {
                // Grants are sealed to every accounting node, so each has put its key on the chain.
                match self.client.node_keys().await {
                    Ok(keys) if keys.keys.len() == self.client.nodes().accounting().count() => {
                        return Ok(());
                    }
                    Ok(keys) => last = format!("{} node keys on the chain", keys.keys.len()),
                    Err(error) => last = error.to_string(),
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(ConsortiumError::Silent(last))
    }
}

impl Drop for Consortium {
    fn drop(&mut self) {
        for hospital in &mut self.hospitals {
            // A process that has ended already needs no killing.
            let _ = hospital.process.kill();
            let _ = hospital.process.wait();
        }
    }
}
