//! A real Orthanc, in a folder and on a port of the loopback address for itself.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test")]

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long it may take until it serves, on a busy machine.
const START_BOUND: Duration = Duration::from_secs(60);
/// How long it may take to end when it is asked to.
const STOP_BOUND: Duration = Duration::from_secs(30);
/// How many free ports are tried.
const PORTS: usize = 5;
const POLL: Duration = Duration::from_millis(20);
/// Where Debian puts what is meant to be a service.
const DEBIAN: &str = "/usr/sbin";

/// Runs a program until it ends or the pipe to this script is closed, so that none outlives the test's
/// process, however that ends.
const UNTIL_THE_PIPE_CLOSES: &str = r#"
trap '' INT QUIT
exec 3<&0 </dev/null
"$@" 3<&- & program=$!
{ read -r _ <&3; kill "$program"; } 2>/dev/null & reader=$!
wait "$program"; status=$?
kill "$reader" 2>/dev/null
exit "$status"
"#;

/// An Orthanc that knows one user. It ends with this value.
pub struct OrthancServer {
    folder: TempDir,
    port: u16,
    guard: Child,
}

impl OrthancServer {
    /// The user that it knows, and the password.
    pub const USER: [&str; 2] = ["willis", "a password"];

    /// Starts one whose studies are stable after so many seconds.
    ///
    /// # Panics
    /// If Orthanc is not installed or does not start.
    pub fn start(stable_seconds: u32) -> Self {
        // A port that was free can be somebody else's by the time that Orthanc listens.
        let mut started = (0..PORTS).map(|_| Self::start_at(free_port(), stable_seconds));
        let started = started.find_map(Result::ok);
        started.expect("one of some free ports is still free a moment later")
    }

    fn start_at(port: u16, stable_seconds: u32) -> Result<Self, PortTaken> {
        let folder = tempfile::tempdir().unwrap();
        let [user, password] = Self::USER;
        let configuration = serde_json::json!({
            "StorageDirectory": folder.path().join("data"),
            "IndexDirectory": folder.path().join("data"),
            "HttpPort": port,
            "RemoteAccessAllowed": false,
            "AuthenticationEnabled": true,
            "RegisteredUsers": {user: password},
            "DicomServerEnabled": false,
            "StableAge": stable_seconds,
            "Plugins": [],
        });
        fs::write(
            folder.path().join("orthanc.json"),
            configuration.to_string(),
        )
        .unwrap();
        let guard = spawn(folder.path(), port)?;
        Ok(Self {
            folder,
            port,
            guard,
        })
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it, waits until it has, and starts it again with what it holds.
    pub fn restart(&mut self) {
        stop(&mut self.guard);
        // Whoever has its port meanwhile, a connection to elsewhere, gives it back soon.
        let end = Instant::now() + START_BOUND;
        self.guard = loop {
            match spawn(self.folder.path(), self.port) {
                Ok(guard) => break guard,
                Err(PortTaken) => assert!(Instant::now() < end, "the port stays taken"),
            }
        };
    }
}

impl Drop for OrthancServer {
    fn drop(&mut self) {
        stop(&mut self.guard);
    }
}

/// Somebody else has the port.
struct PortTaken;

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn spawn(folder: &Path, port: u16) -> Result<Child, PortTaken> {
    let log = folder.join("log");
    let out = File::create(&log).unwrap();
    let mut guard = Command::new("sh")
        .args(["-c", UNTIL_THE_PIPE_CLOSES, "sh"])
        .arg(program())
        .arg(folder.join("orthanc.json"))
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .spawn()
        .unwrap();
    let end = Instant::now() + START_BOUND;
    loop {
        let said = fs::read_to_string(&log).unwrap();
        let ended = guard.try_wait().unwrap().is_some();
        if ended && said.contains("already in use") {
            return Err(PortTaken);
        }
        assert!(
            !ended && Instant::now() < end,
            "Orthanc does not serve: {said}"
        );
        let serves = said.contains("Orthanc has started");
        if serves && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(guard);
        }
        std::thread::sleep(POLL);
    }
}

fn stop(guard: &mut Child) {
    // The pipe's end asks it to stop.
    drop(guard.stdin.take());
    let end = Instant::now() + STOP_BOUND;
    while Instant::now() < end && matches!(guard.try_wait(), Ok(None)) {
        std::thread::sleep(POLL);
    }
    // One that has ended needs no killing.
    let _ = guard.kill();
    let _ = guard.wait();
}

fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain([PathBuf::from(DEBIAN)])
        .map(|folder| folder.join("Orthanc"))
        .find(|program| program.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "no folder of PATH, nor {DEBIAN}, holds Orthanc: on Debian, apt-get install \
             --no-install-recommends orthanc. No server has to run"
        )
    })
}
