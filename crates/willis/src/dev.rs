//! `willis dev`: a whole consortium on this machine, each role a process of its own with TLS, for
//! developers and for trying things out. Everything lies in one folder, and a second start finds it
//! again.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

use clap::Args;
use client::{
    ClientError, ConsortiumClient, DirectoryError, Founding, FoundingError, ServiceClient,
    ServiceName,
};
use scheme::{InstitutionId, SigningKey};
use serde::Serialize;
use thiserror::Error;

use crate::genesis::{self, CeremonyError, FounderPlan, ServiceRole, SettingsFile, TierName};
use crate::keys::{self, KeyError};
use crate::processes;

/// How long all services may take until they answer.
const START_BOUND: Duration = Duration::from_secs(60);
/// How long a process may take to end when it is asked to.
const STOP_BOUND: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(100);
/// A part that ends more often than so many times within so long is not started again.
const RESTARTS_MAX: usize = 5;
const RESTARTS_WITHIN: Duration = Duration::from_secs(10);

/// The hospitals of a development consortium: the first four, or as many as are asked for.
const HOSPITALS: [(u32, TierName, &str); 7] = [
    (1, TierName::Tertiary, "City University Hospital"),
    (2, TierName::Secondary, "Eastern District Hospital"),
    (3, TierName::Secondary, "Western District Hospital"),
    (4, TierName::Community, "Riverside Community Hospital"),
    (5, TierName::Secondary, "Northern District Hospital"),
    (6, TierName::Community, "Hillside Community Hospital"),
    (7, TierName::Community, "Lakeside Community Hospital"),
];
/// How many there are unless it is said: one of them can fail. Of seven, two can.
const HOSPITALS_STANDARD: u8 = 4;

/// The hospital whose key can lie in a token.
const IN_TOKEN: u32 = 4;

#[derive(Args)]
pub(crate) struct DevArguments {
    /// Where everything lies; made if there is none.
    #[arg(long, value_name = "FOLDER", default_value = "willis-dev")]
    folder: PathBuf,
    /// Print one JSON object on one line when all is ready, and nothing else on standard output.
    #[arg(long)]
    json: bool,
    /// How many hospitals there are. Only at the first start.
    #[arg(long, value_name = "COUNT", default_value_t = HOSPITALS_STANDARD, value_parser = clap::value_parser!(u8).range(4..=7))]
    hospitals: u8,
    /// How many blocks a validator epoch has, at whose end changes of the membership take effect. Only at
    /// the first start.
    #[arg(long, value_name = "BLOCKS")]
    epoch_blocks: Option<u32>,
    /// Start a part again that ended by itself or was killed, as a service manager does. Without it all
    /// end with it.
    #[arg(long)]
    restart: bool,
    /// The address of each hospital, with {} where its number stands and 0 for the services that all share, as
    /// in 10.77.{}.2. Only at the first start; without it all are at 127.0.0.1.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    hosts: String,
    /// Start each process through this program, which is given the hospital's number (0 for a service that all
    /// share), the role, and the command line that it has to become: to give each hospital a network, a disk or a
    /// clock of its own.
    #[arg(long, value_name = "PROGRAM")]
    through: Option<PathBuf>,
    /// Keep the services' records in PostgreSQL at this address, in databases willis_centre,
    /// willis_query, willis_cloud and, for each hospital, willis_hospital_1 and so on that are there already;
    /// each service takes up to 16 connections. Only at the first start of a folder.
    #[arg(long, value_name = "postgres://USER@HOST:PORT")]
    postgres: Option<String>,
    /// The key of institution 4 lies in a PKCS#11 token already: its URI (RFC 7512). A relative
    /// pin-source is relative to the folder hospital-4. Only at the first start.
    #[arg(long, value_name = "URI")]
    pkcs11: Option<String>,
    /// Keep containers in an S3-compatible store instead of a folder. Only at the first start.
    #[arg(long, value_name = "URL", requires_all = ["s3_bucket", "s3_access_key_id", "s3_secret_file"])]
    s3_endpoint: Option<String>,
    /// Its bucket.
    #[arg(long, value_name = "NAME")]
    s3_bucket: Option<String>,
    /// The id of its access key.
    #[arg(long, value_name = "ID")]
    s3_access_key_id: Option<String>,
    /// A file with the access key's secret.
    #[arg(long, value_name = "FILE")]
    s3_secret_file: Option<PathBuf>,
}

impl DevArguments {
    fn hospitals(&self) -> &'static [(u32, TierName, &'static str)] {
        &HOSPITALS[..usize::from(self.hospitals).min(HOSPITALS.len())]
    }

    /// Ports before those at which roles are watched: of three services, and three for each hospital.
    fn watched_from(&self) -> usize {
        3 + 3 * self.hospitals().len()
    }

    /// Whose port this place is: which hospital's in their order from 1 on, 0 of a service that all share.
    fn hospital_at(&self, place: usize) -> usize {
        let watched = self.watched_from();
        match (place.checked_sub(watched), place) {
            (Some(0..3), _) | (None, 0..3) => 0,
            (Some(place), _) => 1 + (place - 3) / 2,
            (None, place) => 1 + (place - 3) / 3,
        }
    }
}

/// Why a development consortium does not run.
#[derive(Debug, Error)]
pub(crate) enum DevError {
    #[error("{0} cannot be used: {1}; check the path and its permissions")]
    Folder(PathBuf, #[source] io::Error),
    #[error("{0} was begun and not finished: remove it and start again")]
    Unfinished(PathBuf),
    #[error(transparent)]
    Ceremony(#[from] CeremonyError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("{}", client::sentence(.0))]
    Founding(#[from] FoundingError),
    #[error("{}", client::sentence(.0))]
    Directory(#[from] DirectoryError),
    #[error("{}", client::sentence(.0))]
    Client(#[from] ClientError),
    #[error("{0} ended; its log, {1}, ends with: {2}")]
    Ended(String, PathBuf, String),
    #[error("{0} did not answer within {START_BOUND:?}: {1}; its log is {2}")]
    Silent(String, String, PathBuf),
    #[error("{0:?} is no address: give one like 10.77.{{}}.2 to --hosts")]
    Host(String),
    #[error("the runtime cannot be started: {0}")]
    Runtime(#[source] io::Error),
}

/// One line when all is ready.
#[derive(Serialize)]
struct Ready<'a> {
    ready: bool,
    folder: &'a Path,
    consortium: String,
    founding: PathBuf,
    services: Vec<Served>,
}

/// A service that runs.
#[derive(Clone, Serialize)]
struct Served {
    role: &'static str,
    name: String,
    address: String,
    openapi: String,
    /// Where it is watched, if its configuration says so.
    watch: Option<String>,
    /// The PEM authority that its certificate is judged by.
    authority: PathBuf,
    log: PathBuf,
    pid: u32,
}

/// A process, and the service that it is.
struct Process {
    served: Served,
    service: ServiceName,
    child: Child,
    /// When it was started again, of late.
    restarted: Vec<Instant>,
}

pub(crate) fn run(arguments: &DevArguments) -> ExitCode {
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(DevError::Runtime)
        .and_then(|runtime| runtime.block_on(serve(arguments)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::complain("willis dev", &error);
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: &DevArguments) -> Result<(), DevError> {
    // Asked once for all: a signal between two futures of it would reach neither.
    let mut asked = pin!(crate::asked_to_stop());
    let mut running = Running::begin(arguments)?;
    tokio::select! {
        ready = running.ready() => ready?,
        () = &mut asked => return Ok(()),
    }
    let Running {
        folder,
        founding,
        mut processes,
    } = running;
    announce(&folder, &founding, &processes, arguments.json);
    loop {
        match arguments.restart {
            true => processes.restart(&folder, &founding)?,
            false => processes.check()?,
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = &mut asked => return Ok(()),
        }
    }
}

/// A development consortium whose processes run, until this value is dropped.
pub(crate) struct Running {
    folder: PathBuf,
    founding: Founding,
    processes: Processes,
}

impl Running {
    /// Starts a consortium with nothing but its folder chosen.
    pub(crate) fn begin_in(folder: &Path) -> Result<Self, DevError> {
        Self::begin(&DevArguments {
            folder: folder.to_owned(),
            json: false,
            hospitals: HOSPITALS_STANDARD,
            epoch_blocks: None,
            restart: false,
            hosts: Ipv4Addr::LOCALHOST.to_string(),
            through: None,
            pkcs11: None,
            postgres: None,
            s3_endpoint: None,
            s3_bucket: None,
            s3_access_key_id: None,
            s3_secret_file: None,
        })
    }

    fn begin(arguments: &DevArguments) -> Result<Self, DevError> {
        let failed = |error| DevError::Folder(arguments.folder.clone(), error);
        fs::create_dir_all(&arguments.folder).map_err(failed)?;
        let folder = fs::canonicalize(&arguments.folder).map_err(failed)?;
        let whole = folder.join("whole");
        if !whole.exists() {
            if folder.join("founding").exists() {
                return Err(DevError::Unfinished(folder));
            }
            found(&folder, arguments)?;
            File::create(&whole)
                .and_then(|file| file.sync_all())
                .map_err(failed)?;
        }
        let founding = Founding::open(&folder.join("founding"))?;
        let through = arguments.through.as_deref();
        let through = through.map(|program| {
            let failed = |error| DevError::Folder(program.to_owned(), error);
            fs::canonicalize(program).map_err(failed)
        });
        let mut processes = Processes {
            all: Vec::new(),
            through: through.transpose()?,
        };
        for service in services(&founding) {
            processes.start(&folder, &founding, service)?;
        }
        Ok(Self {
            folder,
            founding,
            processes,
        })
    }

    /// Waits until all answer and the chain is ready for grants and records.
    pub(crate) async fn ready(&mut self) -> Result<(), DevError> {
        self.processes.wait(&self.folder, &self.founding).await
    }

    /// Fails once a process has ended by itself.
    pub(crate) fn check(&mut self) -> Result<(), DevError> {
        self.processes.check()
    }
}

/// Every service of a founding, in the order in which they are started.
fn services(founding: &Founding) -> Vec<ServiceName> {
    let institutions = || founding.genesis.institutions.iter().map(|one| one.id);
    institutions()
        .map(ServiceName::Node)
        .chain([ServiceName::Cloud, ServiceName::Centre, ServiceName::Query])
        .chain(institutions().map(ServiceName::Hospital))
        .collect()
}

/// The address of the services that all share, then of each hospital.
fn hosts(arguments: &DevArguments) -> Result<Vec<IpAddr>, DevError> {
    let numbers = arguments.hospitals().iter().map(|(id, ..)| *id);
    let addresses = std::iter::once(0).chain(numbers).map(|number| {
        let host = arguments.hosts.replace("{}", &number.to_string());
        host.parse().map_err(|_| DevError::Host(host))
    });
    addresses.collect()
}

/// A consortium with all keys and configurations, in an empty folder. The ceremony is
/// the real one; only here one machine plays every founder.
fn found(folder: &Path, arguments: &DevArguments) -> Result<(), DevError> {
    let hospitals = arguments.hospitals();
    let ports = processes::free_ports(arguments.watched_from() + 3 + 2 * hospitals.len())
        .map_err(|error| DevError::Folder(folder.to_owned(), error))?;
    let ips = hosts(arguments)?;
    let at = |place: usize| SocketAddr::from((ips[arguments.hospital_at(place)], ports[place]));
    let url = |place: usize| format!("https://{}", at(place));
    let mut founders = Vec::new();
    for (place, (id, tier, name)) in hospitals.iter().enumerate() {
        let plan = FounderPlan {
            institution: InstitutionId::new(*id),
            name,
            tier: *tier,
            hospital: &url(3 + 3 * place),
            node: &url(4 + 3 * place),
            consensus: at(5 + 3 * place),
            token: arguments.pkcs11.as_deref().filter(|_| *id == IN_TOKEN),
        };
        founders.push(genesis::make_founder_in(&home(folder, *id), &plan)?);
    }
    let mut statements = Vec::new();
    for (place, (role, name)) in [
        (ServiceRole::Centre, "centre"),
        (ServiceRole::Query, "query"),
        (ServiceRole::Cloud, "cloud"),
    ]
    .into_iter()
    .enumerate()
    {
        statements.push(genesis::make_service(
            &folder.join(name),
            role,
            &url(place),
        )?);
    }
    let settings = SettingsFile {
        block_wait_ms: Some(10),
        heartbeat_ms: Some(1_000),
        leader_timeout_ms: Some(2_000),
        epoch_blocks: arguments.epoch_blocks,
        ..SettingsFile::default()
    };
    let (document, directory) = genesis::draw_up(&founders, &statements, &settings, client::now())
        .map_err(CeremonyError::from)?;
    let into = folder.join("founding");
    let founding = Founding::write(&into, &document, &directory)?;
    for founder in &founders {
        let home = home(folder, founder.institution);
        genesis::sign_in(&founding, &into, &home, founder.institution)?;
    }
    let officer = SigningKey::from_seed(*keys::make(&folder.join("officer.key"))?);
    write_configurations(folder, arguments, &at, &officer)
}

const TLS: &str = "\n[tls]\ncertificate = \"tls.pem\"\nkey = \"tls.key\"\n";

fn write_configurations(
    folder: &Path,
    arguments: &DevArguments,
    at: &dyn Fn(usize) -> SocketAddr,
    officer: &SigningKey,
) -> Result<(), DevError> {
    let database = |name: &str| match &arguments.postgres {
        Some(server) => format!("{}/willis_{name}", server.trim_end_matches('/')),
        None => "records.sqlite".to_owned(),
    };
    let officer = hex::encode(officer.verifying_key().as_bytes());
    let watch = |place: usize| format!("watch = \"{}\"\n", at(arguments.watched_from() + place));
    let centre = format!(
        "founding = \"../founding\"\nkey = \"service.key\"\nidentity_key = \"identity.key\"\n\
         listen = \"{}\"\ndatabase = \"{}\"\napprove_automatically = true\nmay_make_keys = true\n\
         rate_per_second = 10000\nenrolments_per_minute = 100000\n{}\n\
         [[officers]]\nname = \"dev\"\nkey = \"{officer}\"\n{TLS}",
        at(0),
        database("centre"),
        watch(0),
    );
    let query = format!(
        "founding = \"../founding\"\nlisten = \"{}\"\ndatabase = \"{}\"\n\
         inboxes_per_minute = 100000\n{}{TLS}",
        at(1),
        database("query"),
        watch(1),
    );
    let store = match (
        &arguments.s3_endpoint,
        &arguments.s3_bucket,
        &arguments.s3_access_key_id,
        &arguments.s3_secret_file,
    ) {
        (Some(endpoint), Some(bucket), Some(id), Some(secret)) => {
            let secret = fs::canonicalize(secret)
                .map_err(|error| DevError::Folder(secret.clone(), error))?;
            format!(
                "[store.s3]\nendpoint = \"{endpoint}\"\nbucket = \"{bucket}\"\n\
                 access_key_id = \"{id}\"\nsecret_access_key_file = \"{}\"\n",
                secret.display()
            )
        }
        _ => "[store]\nfolder = \"store\"\n".to_owned(),
    };
    let cloud = format!(
        "founding = \"../founding\"\nkey = \"service.key\"\nlisten = \"{}\"\ndatabase = \"{}\"\n\
         spool = \"spool\"\nrate_per_second = 10000\n{}\n{store}{TLS}",
        at(2),
        database("cloud"),
        watch(2),
    );
    write(&folder.join("centre").join("centre.toml"), &centre)?;
    write(&folder.join("query").join("query.toml"), &query)?;
    write(&folder.join("cloud").join("cloud.toml"), &cloud)?;
    for (place, (id, ..)) in arguments.hospitals().iter().enumerate() {
        let hospital = format!(
            "founding = \"../founding\"\ninstitution = {id}\nkey = \"institution.key\"\n\
             listen = \"{}\"\ndatabase = \"{}\"\nwriter_folder = \"writer\"\nspool = \"spool\"\n\
             rate_per_second = 10000\n{}\n[second_store]\nfolder = \"second-store\"\n\n\
             [[it]]\nname = \"dev\"\nkey = \"{officer}\"\n{TLS}",
            at(3 + 3 * place),
            database(&format!("hospital_{id}")),
            watch(3 + 2 * place),
        );
        let node = format!(
            "founding = \"../founding\"\ninstitution = {id}\nkey = \"node.key\"\n\
             folder = \"data\"\nserve = \"{}\"\nlisten = \"{}\"\n{}{TLS}",
            at(4 + 3 * place),
            at(5 + 3 * place),
            watch(4 + 2 * place),
        );
        write(&home(folder, *id).join("hospital.toml"), &hospital)?;
        write(&home(folder, *id).join("node.toml"), &node)?;
    }
    Ok(())
}

fn start(
    folder: &Path,
    founding: &Founding,
    service: ServiceName,
    through: Option<&Path>,
) -> Result<Process, DevError> {
    let hospital = match service {
        ServiceName::Hospital(id) | ServiceName::Node(id) => id.number(),
        ServiceName::Centre | ServiceName::Query | ServiceName::Cloud => 0,
    };
    let (role, name, place) = match service {
        ServiceName::Centre => (
            "centre",
            "registration centre".into(),
            folder.join("centre"),
        ),
        ServiceName::Query => ("query", "query manager".into(), folder.join("query")),
        ServiceName::Cloud => ("cloud", "cloud server".into(), folder.join("cloud")),
        ServiceName::Hospital(id) | ServiceName::Node(id) => {
            let found = founding
                .genesis
                .institutions
                .iter()
                .find(|one| one.id == id);
            let name = found.map_or_else(String::new, |one| one.name.to_string());
            let role = match service {
                ServiceName::Hospital(_) => "hospital",
                _ => "node",
            };
            (role, name, home(folder, id.number()))
        }
    };
    let log = place.join(format!("{role}.log"));
    let failed = |error| DevError::Folder(log.clone(), error);
    let configuration = place.join(format!("{role}.toml"));
    let child = processes::start(
        role,
        &configuration,
        &log,
        through.map(|program| (program, hospital)),
    )
    .map_err(failed)?;
    let address = founding.directory.address(service)?.to_owned();
    Ok(Process {
        served: Served {
            role,
            name,
            openapi: format!("{address}/v1/openapi.json"),
            address,
            watch: watched(&configuration),
            authority: place.join("authority.pem"),
            log,
            pid: child.id(),
        },
        service,
        child,
        restarted: Vec::new(),
    })
}

impl Process {
    fn has_ended(&mut self) -> Result<bool, DevError> {
        let ended = self.child.try_wait();
        let ended = ended.map_err(|error| DevError::Folder(self.served.log.clone(), error))?;
        Ok(ended.is_some())
    }

    fn ended(&self) -> DevError {
        let Served {
            role, name, log, ..
        } = &self.served;
        let last = processes::last_line(log);
        DevError::Ended(format!("the {role} of {name}"), log.clone(), last)
    }
}

/// Where a role is watched; nowhere in a folder of a willis before that was possible.
fn watched(configuration: &Path) -> Option<String> {
    let text = fs::read_to_string(configuration).ok()?;
    let file: toml::Table = toml::from_str(&text).ok()?;
    let address = file.get("watch")?.as_str()?;
    Some(format!("http://{address}"))
}

/// Processes that end with this value: each when the pipe to it is closed, at the latest by force.
struct Processes {
    all: Vec<Process>,
    /// The program through which they are started.
    through: Option<PathBuf>,
}

impl Processes {
    fn start(
        &mut self,
        folder: &Path,
        founding: &Founding,
        service: ServiceName,
    ) -> Result<(), DevError> {
        let started = start(folder, founding, service, self.through.as_deref())?;
        self.all.push(started);
        Ok(())
    }

    /// Waits until all answer and the chain is ready for grants and records.
    async fn wait(&mut self, folder: &Path, founding: &Founding) -> Result<(), DevError> {
        let it = SigningKey::from_seed(*keys::read(&folder.join("officer.key"))?);
        let end = Instant::now() + START_BOUND;
        let consortium = founding.consortium();
        let mut last;
        for place in 0..self.all.len() {
            let service = self.all[place].service;
            let endpoint = founding.directory.endpoint(service, None)?;
            let client = ServiceClient::new(consortium, endpoint).signing(it.clone());
            loop {
                self.check()?;
                let ready = match service {
                    // It has R on the chain when it answers.
                    ServiceName::Hospital(_) => client.get_bytes("/v1/writer").await,
                    _ => client.get_bytes("/v1/openapi.json").await,
                };
                match ready {
                    Ok(_) => break,
                    Err(error) => last = client::sentence(&error),
                }
                self.bounded(place, end, &last)?;
                tokio::time::sleep(POLL).await;
            }
        }
        let nodes = founding.genesis.institutions.iter().map(|institution| {
            let node = ServiceName::Node(institution.id);
            Ok((institution.id, founding.directory.endpoint(node, None)?))
        });
        let chain = ConsortiumClient::new(
            &founding.genesis,
            nodes.collect::<Result<Vec<_>, DevError>>()?,
        )?;
        loop {
            self.check()?;
            match chain.node_keys().await {
                Ok(keys) if keys.keys.len() == chain.nodes().accounting().count() => return Ok(()),
                Ok(keys) => last = format!("{} node keys are on the chain", keys.keys.len()),
                Err(error) => last = client::sentence(&error),
            }
            self.bounded(0, end, &last)?;
            tokio::time::sleep(POLL).await;
        }
    }

    /// A process that has ended by itself ends all.
    fn check(&mut self) -> Result<(), DevError> {
        for process in &mut self.all {
            if process.has_ended()? {
                return Err(process.ended());
            }
        }
        Ok(())
    }

    /// A process that has ended is started again, unless it ends again and again.
    fn restart(&mut self, folder: &Path, founding: &Founding) -> Result<(), DevError> {
        for process in &mut self.all {
            if !process.has_ended()? {
                continue;
            }
            process
                .restarted
                .retain(|at| at.elapsed() < RESTARTS_WITHIN);
            if process.restarted.len() >= RESTARTS_MAX {
                return Err(process.ended());
            }
            let mut restarted = std::mem::take(&mut process.restarted);
            restarted.push(Instant::now());
            *process = start(folder, founding, process.service, self.through.as_deref())?;
            process.restarted = restarted;
        }
        Ok(())
    }

    fn bounded(&self, place: usize, end: Instant, last: &str) -> Result<(), DevError> {
        if Instant::now() < end {
            return Ok(());
        }
        let served = &self.all[place].served;
        Err(DevError::Silent(
            format!("the {} of {}", served.role, served.name),
            last.to_owned(),
            served.log.clone(),
        ))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for process in &mut self.all {
            // The pipe's end asks it to stop.
            drop(process.child.stdin.take());
        }
        let end = Instant::now() + STOP_BOUND;
        for process in &mut self.all {
            while Instant::now() < end && matches!(process.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
            // One that has ended needs no killing.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

#[allow(clippy::print_stdout, reason = "a command tells its user what runs")]
fn announce(folder: &Path, founding: &Founding, running: &Processes, json: bool) {
    let services: Vec<Served> = running.all.iter().map(|one| one.served.clone()).collect();
    let founding_folder = folder.join("founding");
    let consortium = hex::encode(founding.consortium().as_bytes());
    if json {
        let ready = Ready {
            ready: true,
            folder,
            consortium,
            founding: founding_folder,
            services,
        };
        match serde_json::to_string(&ready) {
            Ok(line) => println!("{line}"),
            Err(error) => crate::complain("willis dev", &error),
        }
        return;
    }
    println!("The consortium runs. Its folder is {}.", folder.display());
    println!(
        "Users' programs take --founding {}\n",
        founding_folder.display()
    );
    for served in &services {
        println!(
            "{:<9} {:<30} {:<26} {}",
            served.role, served.name, served.address, served.openapi
        );
        if let Some(watch) = &served.watch {
            println!("{:<9} watched at {watch}/ready and {watch}/metrics", "");
        }
    }
    println!(
        "\nLogs stand beside each configuration. Ctrl-C ends all; the next start finds all data again."
    );
}

fn home(folder: &Path, institution: u32) -> PathBuf {
    folder.join(format!("hospital-{institution}"))
}

fn write(file: &Path, text: &str) -> Result<(), DevError> {
    fs::write(file, text).map_err(|error| DevError::Folder(file.to_owned(), error))
}
