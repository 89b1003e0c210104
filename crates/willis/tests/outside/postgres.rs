//! A PostgreSQL server.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use super::{Plan, Program, User};

/// Its programs that are run here.
const PROGRAMS: [&str; 3] = ["initdb", "postgres", "createdb"];
/// Where Debian puts them, in a folder for each version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The services of a consortium have up to 16 connections each, and tests run beside one another.
const CONNECTIONS_MAX: u32 = 400;

/// A PostgreSQL server that trusts every connection from this machine.
pub struct Postgres {
    program: Program,
    createdb: PathBuf,
    made: Mutex<BTreeSet<String>>,
}

impl Postgres {
    /// # Panics
    /// If PostgreSQL is not installed or does not start.
    pub fn start() -> Self {
        let Some(programs) = programs() else {
            panic!(
                "no folder of PATH and none like {DEBIAN}/15/bin holds {}: \
                 install PostgreSQL's server; `./test` says how",
                PROGRAMS.join(", ")
            );
        };
        let program = Program::start(&Plan {
            program: &programs.join("postgres"),
            // It refuses to run as the superuser.
            user: User::NotSuper,
            // Ends at once; what it leaves behind is removed.
            signal: "QUIT",
            environment: &[],
            prepare: &|folder| make(&programs.join("initdb"), folder),
            arguments: &|folder, port| {
                let mut arguments = vec![OsString::from("-D"), data(folder).into()];
                for setting in [
                    format!("port={port}"),
                    format!("max_connections={CONNECTIONS_MAX}"),
                    "listen_addresses=127.0.0.1".to_owned(),
                    "unix_socket_directories=".to_owned(),
                    // Nobody needs the data after the machine failed.
                    "fsync=off".to_owned(),
                ] {
                    arguments.extend(["-c".into(), setting.into()]);
                }
                arguments
            },
            serves: &|folder, _| is_ready(folder),
        });
        Self {
            program,
            createdb: programs.join("createdb"),
            made: Mutex::default(),
        }
    }

    /// The server's address, without a database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}", self.program.port)
    }

    /// The address of a database, which is made when it is first asked for.
    pub fn database(&self, name: &str) -> String {
        let mut made = self.made.lock().unwrap();
        if made.insert(name.to_owned()) {
            let port = self.program.port.to_string();
            done(
                Command::new(&self.createdb)
                    .args(["--host", "127.0.0.1", "--port", &port])
                    .args(["--username", "postgres", "--no-password", name]),
            );
        }
        format!("{}/{name}", self.url())
    }

    /// The server's process and those of its connections.
    pub fn processes(&self) -> Vec<u32> {
        let text = fs::read_to_string(data(self.folder()).join("postmaster.pid")).unwrap();
        let server: u32 = text.lines().next().unwrap().trim().parse().unwrap();
        let parent = |pid: u32| -> Option<u32> {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // After the name, which may hold anything: the state, then the parent.
            stat.rsplit(')')
                .next()?
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()
        };
        let all = fs::read_dir("/proc").unwrap().flatten();
        let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let children = numbers.filter(|pid: &u32| parent(*pid) == Some(server));
        children.chain([server]).collect()
    }

    /// Where its files lie.
    pub fn folder(&self) -> &Path {
        &self.program.folder
    }
}

/// The folder with all programs: of PATH, or Debian's with the highest version.
fn programs() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<(u32, PathBuf)> = fs::read_dir(DEBIAN)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|version| {
            let number = version.file_name().to_str()?.parse().ok()?;
            Some((number, version.path().join("bin")))
        })
        .collect();
    debian.sort();
    env::split_paths(&path)
        .chain(debian.into_iter().rev().map(|(_, folder)| folder))
        .find(|folder| PROGRAMS.iter().all(|name| folder.join(name).is_file()))
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// Makes the files of a server with no database of ours.
fn make(initdb: &Path, folder: &Path) {
    done(
        User::NotSuper
            .command(initdb, folder)
            .arg("-D")
            .arg(data(folder))
            .args(["--username", "postgres", "--auth", "trust"])
            .args(["--encoding", "UTF8", "--locale", "C", "--no-sync"]),
    );
}

/// The eighth line of this file says so, by the layout in PostgreSQL's `utils/pidfile.h`.
fn is_ready(folder: &Path) -> bool {
    let text = fs::read_to_string(data(folder).join("postmaster.pid")).unwrap_or_default();
    text.lines()
        .nth(7)
        .is_some_and(|line| line.trim() == "ready")
}

fn done(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; the superuser sets TMPDIR to where user `nobody` can go")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
