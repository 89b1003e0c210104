//! `willis genesis`: the founding ceremony. Each party makes its keys on its own machine and gives away
//! a statement of public ones; somebody draws the founding document and the directory up from the
//! statements; each founder compares them with the own statement and signs. No machine ever holds two
//! founders' keys.

mod statement;

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use client::{Founding, FoundingError, Party, now};
use ledger::Genesis;
use scheme::{InstitutionId, SigningKey};
use thiserror::Error;

use crate::authority::{self, AuthorityError};
use crate::keys::{self, KeyError};

pub(crate) use statement::{
    FounderStatement, ServiceStatement, SettingsFile, StatementError, TierName, draw_up,
};

#[derive(Subcommand)]
pub(crate) enum GenesisCommand {
    /// Makes a hospital's keys and its statement (founder.toml) in a new folder.
    Founder(FounderArguments),
    /// Makes the keys of the registration centre, the query manager or the cloud, and its statement
    /// (service.toml), in a new folder.
    Service(ServiceArguments),
    /// Draws the founding document and the directory of services up from all statements.
    Draft(DraftArguments),
    /// Compares a draft with the own statement, shows it, and signs.
    Sign(SignArguments),
    /// Says who has signed, and whether the founding stands.
    Check {
        /// The founding's folder.
        #[arg(value_name = "FOLDER")]
        founding: PathBuf,
    },
}

#[derive(Args)]
pub(crate) struct FounderArguments {
    /// The institution's number; unique in the consortium.
    #[arg(long)]
    institution: u32,
    /// The institution's name.
    #[arg(long)]
    name: String,
    /// tertiary, secondary or community.
    #[arg(long)]
    tier: TierName,
    /// Base address of the hospital's server, https://host:port.
    #[arg(long, value_name = "URL")]
    hospital: String,
    /// Base address of the hospital's node for users, https://host:port.
    #[arg(long, value_name = "URL")]
    node: String,
    /// Address and port where the node listens for the other nodes.
    #[arg(long, value_name = "IP:PORT")]
    consensus: std::net::SocketAddr,
    #[command(flatten)]
    token: TokenArguments,
    /// The folder to make.
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
}

#[derive(Args)]
pub(crate) struct TokenArguments {
    /// The institution's key lies in a PKCS#11 token already: its URI (RFC 7512), which institution.key
    /// then holds. A relative pin-source is relative to the folder that is made.
    #[arg(long, value_name = "URI")]
    pub(crate) pkcs11: Option<String>,
}

#[derive(Args)]
pub(crate) struct ServiceArguments {
    /// centre, query or cloud.
    #[arg(long)]
    role: ServiceRole,
    /// Base address, https://host:port.
    #[arg(long, value_name = "URL")]
    address: String,
    /// The folder to make.
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
}

/// A service that no hospital runs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ServiceRole {
    /// The registration centre.
    Centre,
    /// The query manager.
    Query,
    /// The cloud server.
    Cloud,
}

impl ServiceRole {
    pub(crate) fn party(self) -> Party {
        match self {
            Self::Centre => Party::Centre,
            Self::Query => Party::Query,
            Self::Cloud => Party::Cloud,
        }
    }
}

#[derive(Args)]
pub(crate) struct DraftArguments {
    /// A hospital's founder.toml; once for each hospital.
    #[arg(long = "founder", value_name = "FILE", required = true)]
    founders: Vec<PathBuf>,
    /// The service.toml of centre, query manager and cloud.
    #[arg(long = "service", value_name = "FILE", required = true)]
    services: Vec<PathBuf>,
    /// How the chain is run, in TOML; the defaults of docs/operations.md without it.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// The folder to write the draft to.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct SignArguments {
    /// The draft's folder.
    #[arg(value_name = "FOUNDING")]
    founding: PathBuf,
    /// The own folder, made by `willis genesis founder`.
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Why a step of the ceremony is not done.
#[derive(Debug, Error)]
pub(crate) enum CeremonyError {
    #[error("{0} cannot be read or written: {1}; check the path and its permissions")]
    File(PathBuf, #[source] io::Error),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Statement(#[from] StatementError),
    #[error("{}", client::sentence(.0))]
    Founding(#[from] FoundingError),
    #[error("{0} is no https address with a host: certificates name hosts")]
    Address(String),
    #[error("not signed")]
    Declined,
}

pub(crate) fn run(command: &GenesisCommand) -> ExitCode {
    match ceremony(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::complain("willis genesis", &error);
            ExitCode::FAILURE
        }
    }
}

fn ceremony(command: &GenesisCommand) -> Result<(), CeremonyError> {
    match command {
        GenesisCommand::Founder(arguments) => {
            let statement = make_founder(arguments)?;
            say(&format!(
                "The keys of {} are in {}. They never leave it. Give founder.toml to whoever draws the founding up.",
                statement.name,
                arguments.folder.display()
            ));
            Ok(())
        }
        GenesisCommand::Service(arguments) => {
            make_service(&arguments.folder, arguments.role, &arguments.address)?;
            say(&format!(
                "The keys are in {}. They never leave it. Give service.toml to whoever draws the founding up.",
                arguments.folder.display()
            ));
            Ok(())
        }
        GenesisCommand::Draft(arguments) => draft(arguments),
        GenesisCommand::Sign(arguments) => sign(arguments),
        GenesisCommand::Check { founding } => check(founding),
    }
}

fn make_founder(arguments: &FounderArguments) -> Result<FounderStatement, CeremonyError> {
    let plan = FounderPlan {
        institution: InstitutionId::new(arguments.institution),
        name: &arguments.name,
        tier: arguments.tier,
        hospital: &arguments.hospital,
        node: &arguments.node,
        consensus: arguments.consensus,
        token: arguments.token.pkcs11.as_deref(),
    };
    make_founder_in(&arguments.folder, &plan)
}

/// What a hospital states of itself beside its keys.
pub(crate) struct FounderPlan<'a> {
    pub(crate) institution: InstitutionId,
    pub(crate) name: &'a str,
    pub(crate) tier: TierName,
    pub(crate) hospital: &'a str,
    pub(crate) node: &'a str,
    pub(crate) consensus: std::net::SocketAddr,
    /// Where the institution's key lies, if it is not made here.
    pub(crate) token: Option<&'a str>,
}

/// Whose folder this is by its statement, and the hosts that its services are reached at.
pub(crate) fn party_of(folder: &Path) -> Result<(Party, Vec<String>), CeremonyError> {
    let founder = folder.join("founder.toml");
    if founder.exists() {
        let statement = FounderStatement::parse(&read(&founder)?)?;
        let hosts = distinct(vec![host(&statement.hospital)?, host(&statement.node)?]);
        let institution = InstitutionId::new(statement.institution);
        return Ok((Party::Institution(institution), hosts));
    }
    let statement = ServiceStatement::parse(&read(&folder.join("service.toml"))?)?;
    Ok((statement.role.party(), vec![host(&statement.address)?]))
}

/// A hospital's keys, TLS certificate and statement in a new folder.
pub(crate) fn make_founder_in(
    folder: &Path,
    plan: &FounderPlan<'_>,
) -> Result<FounderStatement, CeremonyError> {
    let FounderPlan {
        institution,
        name,
        tier,
        hospital,
        node,
        consensus,
        token,
    } = *plan;
    let hosts = distinct(vec![host(hospital)?, host(node)?]);
    new_folder(folder)?;
    let key_file = folder.join("institution.key");
    let key = match token {
        None => SigningKey::from_seed(*keys::make(&key_file)?).verifying_key(),
        Some(uri) => {
            let named = keys::name(&key_file, uri).inspect_err(|_| {
                // So that the command can be given again with another URI.
                let _ = fs::remove_dir(folder);
            });
            named?.verifying_key()
        }
    };
    let node_key = SigningKey::from_seed(*keys::make(&folder.join("node.key"))?);
    let party = Party::Institution(institution);
    let authority = authority::make(folder, party)?;
    authority::issue(folder, party, &hosts)?;
    let statement = FounderStatement {
        institution: institution.number(),
        name: name.to_owned(),
        tier,
        key: client::Hex(*key.as_bytes()),
        node_key: client::Hex(*node_key.verifying_key().as_bytes()),
        hospital: hospital.to_owned(),
        node: node.to_owned(),
        consensus,
        authority,
    };
    write(&folder.join("founder.toml"), &statement.text()?)?;
    Ok(statement)
}

/// A service's keys, TLS certificate and statement in a new folder.
pub(crate) fn make_service(
    folder: &Path,
    role: ServiceRole,
    address: &str,
) -> Result<ServiceStatement, CeremonyError> {
    new_folder(folder)?;
    let hosts = vec![host(address)?];
    let key = match role {
        // It signs nothing.
        ServiceRole::Query => None,
        ServiceRole::Centre | ServiceRole::Cloud => {
            let key = SigningKey::from_seed(*keys::make(&folder.join("service.key"))?);
            Some(client::Hex(*key.verifying_key().as_bytes()))
        }
    };
    if role == ServiceRole::Centre {
        keys::make(&folder.join("identity.key"))?;
    }
    let authority = authority::make(folder, role.party())?;
    authority::issue(folder, role.party(), &hosts)?;
    let statement = ServiceStatement {
        role,
        address: address.to_owned(),
        key,
        authority,
    };
    write(&folder.join("service.toml"), &statement.text()?)?;
    Ok(statement)
}

fn draft(arguments: &DraftArguments) -> Result<(), CeremonyError> {
    let founders = arguments
        .founders
        .iter()
        .map(|file| Ok(FounderStatement::parse(&read(file)?)?))
        .collect::<Result<Vec<_>, CeremonyError>>()?;
    let services = arguments
        .services
        .iter()
        .map(|file| Ok(ServiceStatement::parse(&read(file)?)?))
        .collect::<Result<Vec<_>, CeremonyError>>()?;
    let settings = match &arguments.settings {
        Some(file) => SettingsFile::parse(&read(file)?)?,
        None => SettingsFile::default(),
    };
    let (genesis, directory) = draw_up(&founders, &services, &settings, now())?;
    new_folder(&arguments.out)?;
    let founding = Founding::write(&arguments.out, &genesis, &directory)?;
    show(&founding);
    say(&format!(
        "\nGive {} to every founder, who signs it with `willis genesis sign`.",
        arguments.out.display()
    ));
    Ok(())
}

fn sign(arguments: &SignArguments) -> Result<(), CeremonyError> {
    let founding = Founding::draft(&arguments.founding)?;
    let own = FounderStatement::parse(&read(&arguments.folder.join("founder.toml"))?)?;
    own.stands_in(&founding.genesis, &founding.directory)?;
    show(&founding);
    if !arguments.yes && !agreed()? {
        return Err(CeremonyError::Declined);
    }
    sign_in(
        &founding,
        &arguments.founding,
        &arguments.folder,
        own.institution,
    )?;
    let founding = Founding::draft(&arguments.founding)?;
    say(&format!(
        "Signed. {} of {} founders have.",
        founding.signed().len(),
        founding.signatures_needed()
    ));
    Ok(())
}

/// Signs a draft with the institution's key of a founder's folder.
pub(crate) fn sign_in(
    founding: &Founding,
    into: &Path,
    folder: &Path,
    institution: u32,
) -> Result<(), CeremonyError> {
    let key = keys::held(&folder.join("institution.key"))?;
    Ok(founding.sign(into, InstitutionId::new(institution), &key)?)
}

fn check(folder: &Path) -> Result<(), CeremonyError> {
    let draft = Founding::draft(folder)?;
    show(&draft);
    Founding::open(folder)?;
    say("\nThe founding stands: every signature that it needs is there.");
    Ok(())
}

/// What a founder should read before signing.
fn show(founding: &Founding) {
    let Genesis {
        institutions,
        settings,
        time,
        ..
    } = &founding.genesis;
    say(&format!(
        "Consortium {}\nfounded {} ms after 1970, directory {}",
        hex::encode(founding.consortium().as_bytes()),
        time.number(),
        founding.directory.serial
    ));
    say(&format!(
        "t_min {}, heartbeat {:?}, leader's time-out {:?}, {} transactions or {:?} a block",
        settings.threshold_min.count(),
        settings.heartbeat,
        settings.leader_timeout,
        settings.cut.count,
        settings.cut.wait
    ));
    for institution in institutions {
        let signed = founding.signed().contains(&institution.id);
        say(&format!(
            "{:>5}  {:<10} {:<40} key {}  {}",
            institution.id.number(),
            format!("{:?}", institution.tier).to_lowercase(),
            institution.name.to_string(),
            &hex::encode(institution.key.as_bytes())[..16],
            if signed {
                "has signed"
            } else {
                "has not signed"
            }
        ));
    }
    let directory = &founding.directory;
    say(&format!(
        "centre {}, query manager {}, cloud {}",
        directory.centre.address, directory.query.address, directory.cloud.address
    ));
    if let Ok(warnings) = founding.genesis.warnings() {
        for warning in warnings {
            say(&format!("warning: {warning}"));
        }
    }
}

pub(crate) fn agreed() -> Result<bool, CeremonyError> {
    let input = |error| CeremonyError::File("standard input".into(), error);
    let mut out = io::stdout().lock();
    write!(out, "\nSign this? Type yes: ").map_err(input)?;
    out.flush().map_err(input)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(input)?;
    Ok(answer.trim() == "yes")
}

fn host(address: &str) -> Result<String, CeremonyError> {
    let wrong = || CeremonyError::Address(address.to_owned());
    let url = url::Url::parse(address).map_err(|_| wrong())?;
    if url.scheme() != "https" {
        return Err(wrong());
    }
    let host = url.host_str().ok_or_else(wrong)?;
    Ok(host.trim_matches(['[', ']']).to_owned())
}

fn distinct(mut hosts: Vec<String>) -> Vec<String> {
    hosts.sort();
    hosts.dedup();
    hosts
}

fn new_folder(folder: &Path) -> Result<(), CeremonyError> {
    let failed = |error| CeremonyError::File(folder.to_owned(), error);
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::create_dir(folder).map_err(failed)
}

fn read(file: &Path) -> Result<String, CeremonyError> {
    fs::read_to_string(file).map_err(|error| CeremonyError::File(file.to_owned(), error))
}

fn write(file: &Path, text: &str) -> Result<(), CeremonyError> {
    fs::write(file, text).map_err(|error| CeremonyError::File(file.to_owned(), error))
}

#[allow(clippy::print_stdout, reason = "a command tells its user what it did")]
fn say(text: &str) {
    println!("{text}");
}
