//! `willis gateway`: the hospital's own systems on one side, sealed records on the other.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::Members;
use gateway::{Gateway, Settings, Sources, System};
use serde::Deserialize;
use services::{Server, ServerTls, WatchedRole, Watching};
use zeroize::Zeroizing;

use super::{Role, RoleError, block_on, stop};
use crate::configuration::{
    Configuration, FOUNDING, RoleFile, TLS_CERTIFICATE, TLS_KEY, TLS_REVOKED, TRACES, TlsFile,
    WATCH,
};

/// The gateway's configuration file. Paths are relative to the file's folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GatewayFile {
    founding: PathBuf,
    keystore: PathBuf,
    passphrase_file: PathBuf,
    folder: PathBuf,
    listen: SocketAddr,
    address: Option<String>,
    #[serde(default)]
    systems: Vec<SystemFile>,
    #[serde(default)]
    intake: Sources,
    watch: Option<SocketAddr>,
    traces: Option<String>,
    tls: Option<TlsFile>,
}

/// A system that may call.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SystemFile {
    id: String,
    name: Option<String>,
    keys: PathBuf,
    scopes: String,
}

impl GatewayFile {
    /// The gateway's own folder, as the file writes it.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl RoleFile for GatewayFile {
    const ROLE: &'static str = "gateway";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        FOUNDING,
        (
            "keystore",
            "keystore of the gateway's doctor, made and certified with willis doctor",
        ),
        (
            "passphrase_file",
            "file whose first line is the keystore's passphrase",
        ),
        (
            "folder",
            "folder of the gateway's own: its register, and what is open now; on a disk that no backup holds",
        ),
        ("listen", "address and port for the hospital's systems"),
        (
            "address",
            "under which address the systems reach it, such as https://gateway.hospital.example; http://listen by default",
        ),
        (
            "systems",
            "list of systems that may call: id, name, keys (file with a JWK set) and scopes (as SMART writes them, such as system/DocumentReference.crs)",
        ),
        (
            "intake.queue",
            "deliveries_max and bytes_max: how much may wait to be sealed",
        ),
        (
            "intake.watch_folder",
            "folder, settle_seconds, patient_system: files that systems put into PATIENT NUMBER/",
        ),
        (
            "intake.mllp",
            "listen, senders, processing_ids and bounds: HL7 v2 messages",
        ),
        (
            "intake.orthanc",
            "address, user, password_file, authority_file, poll_seconds, patient_system, earlier_studies: an image archive",
        ),
        WATCH,
        TRACES,
        TLS_CERTIFICATE,
        TLS_KEY,
        TLS_REVOKED,
    ];

    fn traces(&self) -> Option<&str> {
        self.traces.as_deref()
    }
}

/// A gateway that is ready to start.
pub(crate) struct PreparedGateway {
    settings: Settings,
    listen: SocketAddr,
    /// Whether systems are told the address that is listened on.
    own_address: bool,
    tls: Option<ServerTls>,
    watch: Option<SocketAddr>,
}

impl Role for GatewayFile {
    type Prepared = PreparedGateway;

    fn prepare(configuration: Configuration<Self>) -> Result<PreparedGateway, RoleError> {
        let file = &configuration.file;
        let founding = configuration.founding(&file.founding)?;
        let path = configuration.path(&file.passphrase_file);
        let passphrase = std::fs::read_to_string(&path)
            .map_err(|error| RoleError::Folder(path.clone(), error))?;
        let passphrase = Zeroizing::new(passphrase);
        let passphrase = Zeroizing::new(passphrase.lines().next().unwrap_or_default().to_owned());
        let systems = file.systems.iter();
        let systems = systems.map(|system| system.read(|path| configuration.path(path)));
        let mut sources = file.intake.clone();
        sources.each_path(|path| configuration.path(path));
        let scheme = if file.tls.is_some() { "https" } else { "http" };
        let address = match &file.address {
            Some(address) => checked(address)?,
            None => format!("{scheme}://{}", file.listen),
        };
        Ok(PreparedGateway {
            settings: Settings {
                founding: configuration.path(&file.founding),
                keystore: configuration.path(&file.keystore),
                passphrase,
                folder: configuration.path(&file.folder),
                address,
                systems: systems.collect::<Result<_, _>>()?,
                sources,
            },
            own_address: file.address.is_none(),
            listen: file.listen,
            watch: file.watch,
            tls: configuration.server_tls(file.tls.as_ref(), &founding, &Members::of(&founding))?,
        })
    }

    fn run(prepared: PreparedGateway, until_input_ends: bool) -> Result<(), RoleError> {
        block_on(async move {
            let stop = stop(until_input_ends);
            let scheme = if prepared.tls.is_some() {
                "https"
            } else {
                "http"
            };
            let server = Server::bind(prepared.listen, prepared.tls).await?;
            let mut settings = prepared.settings;
            if prepared.own_address {
                // Port 0 is any free one.
                settings.address = format!("{scheme}://{}", server.address()?);
            }
            tracing::info!("the gateway listens");
            let gateway = Gateway::open(settings).await?;
            let role = WatchedRole::of(Self::ROLE);
            let watching = Watching::start(prepared.watch, role, &server, Arc::clone(&gateway));
            let _watching = watching.await?;
            gateway.serve(server, stop).await;
            Ok(())
        })
    }
}

/// An address without a path, as it stands before `/fhir`.
fn checked(address: &str) -> Result<String, RoleError> {
    let wrong = || {
        RoleError::Value(
            "address",
            "give scheme, host and port, such as https://gateway.hospital.example".to_owned(),
        )
    };
    let url = url::Url::parse(address).map_err(|_| wrong())?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    if !plain {
        return Err(wrong());
    }
    Ok(address.trim_end_matches('/').to_owned())
}

impl SystemFile {
    fn read(&self, path: impl Fn(&Path) -> PathBuf) -> Result<System, RoleError> {
        let path = path(&self.keys);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| RoleError::Folder(path.clone(), error))?;
        System::read(
            &self.id,
            self.name.as_deref().unwrap_or(&self.id),
            &text,
            &self.scopes,
        )
        .map_err(|why| RoleError::Value("systems", format!("{}: {why}", self.id)))
    }
}
