//! Programs that are no part of willis, for tests that need the real ones: PostgreSQL, and a store that
//! speaks S3. Each has a folder and a free port of the loopback address for itself. `./test` installs
//! them or says what to install.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

mod postgres;
mod s3;

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "each test file uses its own part of it")]
pub use self::{postgres::Postgres, s3::S3};

/// The databases that `willis dev --postgres` expects.
pub const DEV_DATABASES: [&str; 7] = [
    "willis_centre",
    "willis_query",
    "willis_cloud",
    "willis_hospital_1",
    "willis_hospital_2",
    "willis_hospital_3",
    "willis_hospital_4",
];

/// Both, with all that a development consortium needs in them.
pub struct Stores {
    pub postgres: Postgres,
    pub s3: S3,
    /// The folder of the bucket.
    pub bucket: PathBuf,
}

impl Stores {
    pub fn start() -> Self {
        let (postgres, s3) = (Postgres::start(), S3::start());
        for name in DEV_DATABASES {
            postgres.database(name);
        }
        let bucket = s3.make_bucket("containers");
        Self {
            postgres,
            s3,
            bucket,
        }
    }

    /// What `willis dev` is told of them: its arguments, separated by spaces.
    pub fn arguments(&self) -> String {
        format!(
            "--postgres {} --s3-endpoint {} --s3-bucket containers --s3-access-key-id {} --s3-secret-file {}",
            self.postgres.url(),
            self.s3.endpoint(),
            self.s3.access_key_id(),
            self.s3.secret_file().display()
        )
    }
}

/// How long a program may take until it serves, on a busy machine.
const START_BOUND: Duration = Duration::from_secs(60);
/// How long one may take to end when it is asked to.
const STOP_BOUND: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// Ports that are tried: after one was found free, another program can take it first.
const PORTS_TRIED: u32 = 5;
/// `nobody` and its group: whom the superuser becomes for a program that refuses to be the superuser's.
const NOBODY: u32 = 65_534;

/// Runs a program until it ends or the pipe to this script is closed, so that none outlives the test's
/// process, however that ends. Then its folder is removed.
const UNTIL_THE_PIPE_CLOSES: &str = r#"
trap '' INT QUIT
signal=$1 folder=$2
shift 2
exec 3<&0 </dev/null
"$@" 3<&- & program=$!
{ read -r _ <&3; kill -s "$signal" "$program"; } 2>/dev/null & reader=$!
wait "$program"; status=$?
kill "$reader" 2>/dev/null
rm -rf -- "$folder"
exit "$status"
"#;

/// Whose a program is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum User {
    /// The user's who runs the tests.
    Own,
    /// That user's too, unless it is the superuser.
    NotSuper,
}

impl User {
    /// A command in a folder that is this user's.
    fn command(self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder);
        if self == Self::NotSuper && fs::metadata(folder).unwrap().uid() == NOBODY {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn take(self, folder: &Path) {
        if self == Self::NotSuper && fs::metadata(folder).unwrap().uid() == 0 {
            chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
}

/// How a program is begun.
struct Plan<'a> {
    program: &'a Path,
    user: User,
    /// Ends it.
    signal: &'a str,
    environment: &'a [(&'a str, &'a str)],
    /// Fills its folder, which is empty.
    prepare: &'a dyn Fn(&Path),
    /// Its arguments, with its folder and port.
    arguments: &'a dyn Fn(&Path, u16) -> Vec<OsString>,
    /// Whether it serves, by its folder and by what it said.
    serves: &'a dyn Fn(&Path, &str) -> bool,
}

/// A program that serves. It ends with this value, and its folder too.
struct Program {
    guard: Child,
    folder: PathBuf,
    port: u16,
}

impl Program {
    fn start(plan: &Plan<'_>) -> Self {
        let mut said = String::new();
        for _ in 0..PORTS_TRIED {
            let log = tempfile::tempfile().unwrap();
            let mut started = Self::spawn(plan, &log);
            let end = Instant::now() + START_BOUND;
            while started.guard.try_wait().unwrap().is_none() {
                said = text_of(&log);
                if (plan.serves)(&started.folder, &said) {
                    return started;
                }
                let name = plan.program.display();
                assert!(Instant::now() < end, "{name} does not serve: {said}");
                std::thread::sleep(POLL);
            }
            said = text_of(&log);
        }
        panic!("{} ended at once: {said}", plan.program.display());
    }

    fn spawn(plan: &Plan<'_>, log: &File) -> Self {
        let folder = tempfile::Builder::new().prefix("willis-").tempdir();
        let folder = folder.unwrap();
        plan.user.take(folder.path());
        (plan.prepare)(folder.path());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut command = plan.user.command(Path::new("sh"), folder.path());
        command
            .args(["-c", UNTIL_THE_PIPE_CLOSES, "sh", plan.signal])
            .args([folder.path(), plan.program])
            .args((plan.arguments)(folder.path(), port))
            .envs(plan.environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log.try_clone().unwrap());
        let guard = command.spawn().unwrap();
        Self {
            guard,
            // From here on it goes with the program.
            folder: folder.keep(),
            port,
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The pipe's end asks it to stop.
        drop(self.guard.stdin.take());
        let end = Instant::now() + STOP_BOUND;
        while Instant::now() < end && matches!(self.guard.try_wait(), Ok(None)) {
            std::thread::sleep(POLL);
        }
        // One that has ended needs no killing.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

/// All files below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// All that was written to a file whose place others share.
fn text_of(log: &File) -> String {
    let mut bytes = vec![0; usize::try_from(log.metadata().unwrap().len()).unwrap()];
    log.read_exact_at(&mut bytes, 0).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
