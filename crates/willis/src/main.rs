//! The willis binary: one subcommand a role, and the demo. It parses, builds, starts, stops.

mod demo;
mod node;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    },
    /// Runs a hospital's node until it is stopped.
    Node {
        /// The node's configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Stop when standard input ends: for programs that start a node and must not leave it behind.
        #[arg(long, hide = true)]
        until_input_ends: bool,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Demo { records, json } => demo::run(&records, json),
        Command::Node {
            config,
            until_input_ends,
        } => node::run(&config, until_input_ends),
    }
}
