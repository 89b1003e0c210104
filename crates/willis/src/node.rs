//! `willis node`: runs a hospital's node, or keeps it: verifies its store, backs the chain up, and
//! restores it under a new key or from a snapshot.

mod archive;
mod backup;
pub(crate) mod restored;
mod snapshot;
mod verification;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::roles::{self, NodeFile, RoleArguments};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct NodeArguments {
    #[command(flatten)]
    role: Option<RoleArguments>,
    #[command(subcommand)]
    command: Option<NodeCommand>,
}

#[derive(Subcommand)]
enum NodeCommand {
    /// Re-checks a stopped node's store, or a backup, from the founding on, without a network.
    ///
    /// Exit status 0 if all of it holds, 1 if something does not, 2 if it could not be checked.
    Verify(verification::VerifyArguments),
    /// Writes the chain with its certificates, the evidence, the founding and the configuration to a
    /// new file, from a node that runs. No key and no grant is in it.
    BackUp(backup::BackUpArguments),
    /// Builds a node's store anew from a backup, checking all of it, for a node key that is made here
    /// and has never voted.
    Restore(backup::RestoreArguments),
    /// Fetches the state that f + 1 nodes signed into a new node's folder, so that it begins there and not
    /// with the first block.
    FetchSnapshot(snapshot::FetchArguments),
    /// Writes the founding and the configuration of a backup to a new folder.
    Unpack {
        /// The backup.
        backup: PathBuf,
        /// The new folder.
        #[arg(long, value_name = "FOLDER")]
        into: PathBuf,
    },
}

pub(crate) fn run(arguments: &NodeArguments) -> ExitCode {
    match (&arguments.command, &arguments.role) {
        (Some(NodeCommand::Verify(arguments)), _) => verification::run(arguments),
        (Some(NodeCommand::BackUp(arguments)), _) => {
            crate::tell("willis node back-up", backup::back_up(arguments))
        }
        (Some(NodeCommand::Restore(arguments)), _) => {
            crate::tell("willis node restore", backup::restore(arguments))
        }
        (Some(NodeCommand::FetchSnapshot(arguments)), _) => {
            crate::tell("willis node fetch-snapshot", snapshot::fetch(arguments))
        }
        (Some(NodeCommand::Unpack { backup, into }), _) => {
            crate::tell("willis node unpack", backup::unpack(backup, into))
        }
        (None, Some(role)) => roles::run::<NodeFile>(role),
        // The parser lets nothing else through.
        (None, None) => ExitCode::FAILURE,
    }
}
