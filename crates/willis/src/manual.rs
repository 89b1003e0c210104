//! Man pages and shell completions, made from the commands themselves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;
use thiserror::Error;

#[derive(Debug, Error)]
enum ManualError {
    #[error("{0} cannot be written: {1}; check the path and its permissions")]
    Folder(PathBuf, #[source] io::Error),
}

/// Writes the completions of a shell to standard output.
pub(crate) fn completions(mut command: Command, shell: Shell) -> ExitCode {
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut io::stdout());
    ExitCode::SUCCESS
}

/// Writes a page for each command into a folder.
pub(crate) fn pages(command: &Command, folder: &Path) -> ExitCode {
    let name = command.get_name().to_owned();
    let written = fs::create_dir_all(folder).and_then(|()| write_pages(command, &name, folder));
    let written = written.map_err(|error| ManualError::Folder(folder.to_owned(), error));
    crate::tell(
        "willis manual",
        written.map(|count| format!("{count} pages are in {}", folder.display())),
    )
}

/// A page of a command and of each below it: `willis-node.1`, `willis-membership-put-admit.1`.
fn write_pages(command: &Command, name: &str, folder: &Path) -> io::Result<usize> {
    let mut count = 1;
    for below in command.get_subcommands() {
        if below.is_hide_set() || below.get_name() == "help" {
            continue;
        }
        let name = format!("{name}-{}", below.get_name());
        // As it is called, and as its page names it.
        let called = command.get_bin_name().unwrap_or(command.get_name());
        let below = below
            .clone()
            .bin_name(format!("{called} {}", below.get_name()))
            .display_name(name.clone());
        count += write_pages(&below, &name, folder)?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name)
        .render(&mut page)?;
    fs::write(folder.join(format!("{name}.1")), page)?;
    Ok(count)
}
