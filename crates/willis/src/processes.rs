//! Roles as processes of this machine, for the demo and for a development consortium.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Starts a role with its configuration; what it says is appended to the log. It ends when the pipe to
/// it is closed, so that none outlives who started it, however that ends.
///
/// Through another program, that one is given the number of the hospital, 0 of a service that all share, the
/// role, and the command line that it has to become.
pub(crate) fn start(
    role: &str,
    configuration: &Path,
    log: &Path,
    through: Option<(&Path, u32)>,
) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    let willis = std::env::current_exe()?;
    let mut command = match through {
        Some((program, hospital)) => {
            let mut command = Command::new(program);
            command.arg(hospital.to_string()).arg(role).arg(willis);
            command
        }
        None => Command::new(willis),
    };
    command
        .arg(role)
        .arg("--config")
        .arg(configuration)
        .arg("--until-input-ends")
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// The last that a process said.
pub(crate) fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("nothing").to_owned()
}

/// Distinct ports that are free at this moment. They lie below those that a system gives to outgoing
/// connections, which may take one before it is listened on; and each process of this program begins to look
/// elsewhere, so that two consortia that start at one time do not choose the same.
pub(crate) fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let places = u32::from(PORTS.end - PORTS.start) / PORTS_OF_ONE;
    let first = (std::process::id() % places) * PORTS_OF_ONE;
    let begin = PORTS.start + u16::try_from(first).unwrap_or_default();
    let free = (begin..PORTS.end)
        .chain(PORTS.start..begin)
        .filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    let found: Vec<u16> = free.take(count).collect();
    if found.len() < count {
        return Err(io::Error::other("this machine has too few free ports"));
    }
    Ok(found)
}

const PORTS: std::ops::Range<u16> = 10_000..32_000;
/// More than a consortium needs.
const PORTS_OF_ONE: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_distinct() {
        let mut ports = free_ports(40).unwrap();
        let held: Vec<_> = ports
            .iter()
            .map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).unwrap())
            .collect();
        let others = free_ports(40).unwrap();
        assert!(others.iter().all(|port| !ports.contains(port)));
        drop(held);
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 40);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }
}
