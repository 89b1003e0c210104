//! The willis binary: one subcommand a role and a person, the founding, and the demo. It parses, builds, starts,
//! stops.

mod authority;
mod centre_key;
mod centre_records;
mod configuration;
mod demo;
mod dev;
mod evidence;
mod genesis;
mod intake;
mod keys;
mod load;
mod logs;
mod manual;
mod membership;
mod node;
mod pages;
mod people;
mod processes;
mod proof;
mod roles;
mod tls;
mod traces;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use people::{AgentArguments, DoctorArguments, ItArguments, OfficerArguments, PatientArguments};
use roles::{CentreFile, CloudFile, GatewayFile, HospitalFile, QueryFile, RoleArguments};

/// Hospitals of a region store and share stroke patients' records with nobody to trust in the
/// middle.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Plays a whole referral on this machine: four hospitals, each a process of its own.
    ///
    /// Exit status 0 only if every step and every check held.
    Demo {
        /// A file to store and share, instead of the samples; can be given several times.
        #[arg(long = "record", value_name = "FILE")]
        records: Vec<PathBuf>,
        /// Print one JSON object and nothing else on standard output.
        #[arg(long)]
        json: bool,
        /// Leave a consortium running instead, with a patient and three doctors, and print the addresses of
        /// their pages and of the consortium's: to play the referral by hand in a browser.
        #[arg(long, conflicts_with = "records")]
        ui: bool,
    },
    /// Founds a consortium: each founder makes keys, compares, and signs on a machine of its own.
    #[command(subcommand)]
    Genesis(genesis::GenesisCommand),
    /// Renews and revokes a party's TLS certificates, beside its authority.
    #[command(subcommand)]
    Tls(tls::TlsCommand),
    /// Runs a whole consortium on this machine, each role a process of its own, until it is stopped.
    Dev(dev::DevArguments),
    /// Lists what is proved against nodes, or checks a file of a wrong share.
    Evidence(evidence::EvidenceArguments),
    /// Proves to whoever has the founding document that a record stands on the chain, what the chain says
    /// of a grant, or that an access log is complete; and checks such a proof.
    #[command(subcommand)]
    Proof(proof::ProofCommand),
    /// Plays many referrals against a running consortium and tells how long each step took.
    Load(load::LoadArguments),
    /// Runs the registration centre until it is stopped.
    Centre(RoleArguments),
    /// Runs the query manager until it is stopped.
    Query(RoleArguments),
    /// Runs a hospital's server until it is stopped.
    Hospital(RoleArguments),
    /// Runs a hospital's gateway until it is stopped: FHIR for the hospital's own systems.
    Gateway(RoleArguments),
    /// What systems gave a gateway without being asked: list, try again, give up.
    #[command(subcommand)]
    Intake(intake::IntakeCommand),
    /// Runs a hospital's node until it is stopped; verifies, backs up and restores its chain.
    Node(node::NodeArguments),
    /// Runs the cloud server until it is stopped.
    Cloud(RoleArguments),
    /// Rotates the registration centre's certification key: propose, approve, submit.
    #[command(subcommand)]
    CentreKey(centre_key::CentreKeyCommand),
    /// Who belongs to the consortium, and how that changes: apply, put, approve, succeed, move.
    #[command(subcommand)]
    Membership(membership::MembershipCommand),
    /// Backs the registration centre's records up, and restores them.
    #[command(subcommand)]
    CentreRecords(centre_records::CentreRecordsCommand),
    /// A doctor's commands: enrol, store, ask, read.
    Doctor(DoctorArguments),
    /// A patient's commands: enrol, begin an episode, answer, revoke, restore from 24 words.
    Patient(PatientArguments),
    /// Serves a person's pages on this machine, or the consortium's, until it is stopped.
    Pages(pages::PagesArguments),
    /// A family agent's commands: accept an appointment and answer in the patient's place.
    Agent(AgentArguments),
    /// A registration centre's officer's commands: check identity material and decide.
    Officer(OfficerArguments),
    /// A hospital's IT's commands at its own server.
    It(ItArguments),
    /// Prints what a shell needs to complete these commands.
    Completions {
        /// Of which shell.
        shell: Shell,
    },
    /// Writes a man page for each command into a folder.
    Manual {
        /// The folder; made if there is none.
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Demo { json, ui: true, .. } => demo::pages(json),
        Command::Demo { records, json, .. } => demo::run(&records, json),
        Command::Genesis(command) => genesis::run(&command),
        Command::Tls(command) => tls::run(&command),
        Command::Dev(arguments) => dev::run(&arguments),
        Command::Evidence(arguments) => evidence::run(&arguments),
        Command::Proof(command) => proof::run(&command),
        Command::Load(arguments) => load::run(&arguments),
        Command::Centre(arguments) => roles::run::<CentreFile>(&arguments),
        Command::Query(arguments) => roles::run::<QueryFile>(&arguments),
        Command::Hospital(arguments) => roles::run::<HospitalFile>(&arguments),
        Command::Gateway(arguments) => roles::run::<GatewayFile>(&arguments),
        Command::Intake(command) => intake::run(&command),
        Command::Node(arguments) => node::run(&arguments),
        Command::Cloud(arguments) => roles::run::<CloudFile>(&arguments),
        Command::CentreKey(command) => centre_key::run(&command),
        Command::Membership(command) => membership::run(&command),
        Command::CentreRecords(command) => centre_records::run(&command),
        Command::Doctor(arguments) => people::doctor(arguments),
        Command::Patient(arguments) => people::patient(arguments),
        Command::Agent(arguments) => people::agent(arguments),
        Command::Pages(arguments) => pages::run(&arguments),
        Command::Officer(arguments) => people::officer(arguments),
        Command::It(arguments) => people::it(arguments),
        Command::Completions { shell } => manual::completions(Arguments::command(), shell),
        Command::Manual { out } => manual::pages(&Arguments::command(), &out),
    }
}

/// Tells what a command did, or what went wrong.
fn tell(who: &str, done: Result<String, impl std::error::Error>) -> ExitCode {
    match done {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(who, &error);
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "a command's result")]
fn say(text: &str) {
    println!("{}", text.trim_end());
}

/// Tells what went wrong.
#[allow(
    clippy::print_stderr,
    reason = "a command tells its user what happened"
)]
fn complain(who: &str, what: &dyn std::fmt::Display) {
    eprintln!("{who}: {what}");
}

/// Ctrl-C, or a request to terminate.
async fn asked_to_stop() {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate => {}
        interrupted = tokio::signal::ctrl_c() => {
            if interrupted.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
