//! What is put into the watched folder is taken whole and once, and what cannot be is given back with a
//! reason.
#![allow(clippy::unwrap_used, reason = "a test")]

mod given;

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gateway::intake::{
    Looked, Queue, QueueBounds, Source, WatchFolder, WatchFolderConfig, WatchFolderError,
};
use tempfile::TempDir;
use tokio::sync::oneshot;

use given::{BOUND, Got, Scripted, copy, empty, names, open, sample};

struct Place {
    folder: TempDir,
    queue: Queue,
    watch: WatchFolder,
    moment: Instant,
}

fn config(folder: &Path) -> WatchFolderConfig {
    WatchFolderConfig {
        folder: folder.join("exchange"),
        settle_seconds: 2,
        patient_system: Some("urn:oid:1.2".to_owned()),
    }
}

impl Place {
    fn new(bounds: QueueBounds) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::open(&folder.path().join("queue"), bounds).unwrap();
        let watch = WatchFolder::new(&config(folder.path()), queue.clone()).unwrap();
        Self {
            folder,
            queue,
            watch,
            moment: Instant::now(),
        }
    }

    fn inbox(&self, path: &str) -> PathBuf {
        self.folder.path().join("exchange/inbox").join(path)
    }

    fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.inbox(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Looks after so many seconds.
    fn after(&mut self, seconds: u64) -> Looked {
        self.moment += Duration::from_secs(seconds);
        self.watch.look(self.moment).unwrap()
    }

    /// Looks until all that is there has stood still for long enough.
    fn settled(&mut self) -> Looked {
        self.after(0);
        self.after(10)
    }

    fn rejected(&self, path: &str) -> PathBuf {
        self.folder.path().join("exchange/rejected").join(path)
    }

    fn reason(&self, path: &str) -> String {
        fs::read_to_string(self.rejected(&format!("{path}.reason.txt"))).unwrap()
    }

    async fn got(&self) -> Vec<Got> {
        let destination = Scripted::default();
        empty(&self.queue, &destination).await.unwrap();
        destination.taken()
    }
}

fn took(accepted: usize, waiting: usize) -> Looked {
    Looked {
        accepted,
        waiting,
        ..Looked::default()
    }
}

#[tokio::test]
async fn a_file_and_a_folder_of_files_are_one_delivery_each() {
    let mut place = Place::new(QueueBounds::default());
    place.put("4711/report.pdf", "%PDF");
    let scan = place.inbox("0815/scan");
    copy(&sample("secondary-hospital/ct-head"), &scan);
    fs::create_dir_all(scan.join("series 2/raw")).unwrap();
    fs::write(scan.join("series 2/raw/a"), "a").unwrap();
    fs::write(scan.join(std::ffi::OsStr::from_bytes(b"z\xff")), "z").unwrap();

    assert_eq!(place.after(0), took(0, 2));
    assert_eq!(place.after(1), took(0, 2));
    assert_eq!(place.after(1), took(1, 1), "a file settles in 2 s");
    assert_eq!(place.after(7), took(0, 1));
    assert_eq!(place.after(1), took(1, 0), "a folder in 10");
    assert!(names(place.inbox("4711")).is_empty() && names(place.inbox("0815")).is_empty());

    let got = place.got().await;
    let number = |value: &str| vec![("urn:oid:1.2".to_owned(), value.to_owned())];
    assert_eq!(
        (got[0].source, &got[0].reference[..]),
        (Source::Folder, "report.pdf")
    );
    assert_eq!(got[0].patient, number("4711"));
    assert_eq!(got[0].files, [("report.pdf".to_owned(), b"%PDF".to_vec())]);
    assert_eq!(got[1].patient, number("0815"));
    let mut expected = Vec::new();
    for name in ["17106", "17136", "17166", "17196"] {
        let bytes = fs::read(sample("secondary-hospital/ct-head").join(name)).unwrap();
        expected.push((name.to_owned(), bytes));
    }
    expected.push(("series 2_raw_a".to_owned(), b"a".to_vec()));
    expected.push(("z\u{fffd}".to_owned(), b"z".to_vec()));
    assert_eq!(got[1].files, expected);
    assert!(names(place.folder.path().join("queue/drafts")).is_empty());
}

#[tokio::test]
async fn nothing_is_taken_while_it_is_being_written() {
    let mut place = Place::new(QueueBounds::default());
    place.put("1/growing", "a");
    place.put("1/.hidden", "a");
    place.put("1/upload.part", "a");
    place.put("1/Upload.TMP", "a");
    place.put("1/folder/whole", "a");
    place.put("1/folder/second.part", "a");
    assert_eq!(place.after(0), took(0, 2));
    place.put("1/growing", "ab");
    assert_eq!(place.after(5), took(0, 2));
    // Of the same length, and changed at another time.
    let file = File::options()
        .write(true)
        .open(place.inbox("1/growing"))
        .unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(place.after(5), took(0, 2));
    assert_eq!(place.after(5), took(1, 1));
    assert_eq!(place.after(3_000), took(0, 1));
    fs::rename(
        place.inbox("1/folder/second.part"),
        place.inbox("1/folder/second"),
    )
    .unwrap();
    fs::rename(place.inbox("1/upload.part"), place.inbox("1/upload")).unwrap();
    assert_eq!(place.settled(), took(2, 0));
    assert_eq!(names(place.inbox("1")), [".hidden", "Upload.TMP"]);
    let files: Vec<_> = place
        .got()
        .await
        .iter()
        .map(|got| got.files.len())
        .collect();
    assert_eq!(files, [1, 2, 1]);
}

#[test]
fn what_cannot_be_taken_is_given_back_with_the_reason() {
    let mut place = Place::new(QueueBounds {
        bytes_max: 1_000,
        ..QueueBounds::default()
    });
    let secret = place.folder.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("key"), "secret").unwrap();
    place.put("1/links/file", "a");
    symlink(&secret, place.inbox("1/links/link")).unwrap();
    symlink(secret.join("key"), place.inbox("1/link")).unwrap();
    symlink(&secret, place.inbox("2")).unwrap();
    let _socket = UnixListener::bind(place.inbox("1/socket")).unwrap();
    place.put("1/large", vec![0; 1_001]);
    place.put("loose", "a");
    place.put(&format!("{}/file", "9".repeat(251)), "a");
    fs::create_dir_all(place.inbox(&format!("1/deep{}", "/d".repeat(9)))).unwrap();
    for number in 0..4_097 {
        place.put(&format!("1/many/{number}"), "");
    }
    let looked = place.settled();
    assert_eq!((looked.accepted, looked.rejected), (0, 9), "{looked:?}");
    let links = "is or holds a link";
    let reasons = [
        ("1/links", links),
        ("1/link", links),
        ("1/socket", links),
        ("1/large", "larger than the gateway takes"),
        ("1/many", "more than 4,096 files"),
        ("1/deep", "eight deep"),
        ("2", "in no patient's folder"),
        ("loose", "in no patient's folder"),
        (&format!("{}/file", "9".repeat(251)), "no patient number"),
    ];
    for (path, why) in reasons {
        assert!(
            place.reason(path).contains(why),
            "{path}: {}",
            place.reason(path)
        );
        assert!(fs::symlink_metadata(place.rejected(path)).is_ok(), "{path}");
    }
    assert_eq!(fs::read(secret.join("key")).unwrap(), b"secret");

    // Another one of the same name lies beside the first.
    place.put("loose", "b");
    assert_eq!(place.settled().rejected, 1);
    assert_eq!(fs::read(place.rejected("loose-2")).unwrap(), b"b");

    // A writer that has gone for good.
    place.put("1/left/file.part", "a");
    place.after(0);
    assert_eq!(place.after(3_599), took(0, 1));
    assert_eq!(place.after(1).rejected, 1);
    assert!(place.reason("1/left").contains("half-written"));
    assert!(place.after(3_600) == Looked::default());
}

#[tokio::test]
async fn a_full_queue_leaves_files_where_they_are() {
    let mut place = Place::new(QueueBounds {
        deliveries_max: 1,
        ..QueueBounds::default()
    });
    place.put("1/a", "a");
    place.put("1/b", "b");
    assert_eq!(place.settled(), took(1, 1));
    assert_eq!(names(place.inbox("1")), ["b"]);
    assert_eq!(place.after(1), took(0, 1));
    place.got().await;
    assert_eq!(place.after(1), took(1, 0));
    assert_eq!(place.got().await[0].files[0].1, b"b");
}

#[tokio::test]
async fn the_same_under_the_same_name_is_the_same_and_anything_else_is_new() {
    let mut place = Place::new(QueueBounds::default());
    for (path, bytes, accepted) in [
        ("1/a", "a", true),
        ("1/a", "a", false),
        ("1/a", "b", true),
        ("1/b", "a", true),
        ("2/a", "a", true),
        ("1/a/a", "a", true),
    ] {
        place.put(path, bytes);
        let looked = place.settled();
        assert_eq!(
            (looked.accepted, looked.repeated),
            (accepted.into(), (!accepted).into()),
            "{path}"
        );
        assert!(names(place.inbox(&path[..1])).is_empty());
    }
    assert_eq!(place.got().await.len(), 5);
}

/// The states in which the process can stop, each built by hand from a delivery that was taken.
#[tokio::test]
async fn whatever_a_stop_left_half_taken_is_taken_once() {
    let hex = |text: &str| hex::encode(text);
    let origin = format!(r#"{{"patient":"{}","child":"{}"}}"#, hex("1"), hex("scan"));
    let plan = format!(
        r#"{{"folders":["{}"],"files":["{}","{}"]}}"#,
        hex("sub"),
        hex("sub/b"),
        hex("a")
    );
    // What lies in the draft, and what in the inbox.
    let states: [(&str, &[&str], bool); 7] = [
        ("before anything was moved", &["origin.json"], true),
        (
            "while it was copied",
            &["origin.json", "record.part/a"],
            true,
        ),
        (
            "after it was copied",
            &["origin.json", "record/a", "record/sub/b"],
            true,
        ),
        (
            "after it was moved",
            &["origin.json", "record/a", "record/sub/b"],
            false,
        ),
        (
            "with a plan",
            &["origin.json", "plan.json", "record/a", "record/sub/b"],
            false,
        ),
        (
            "with a folder moved",
            &["origin.json", "plan.json", "record/a", "folder-0000/b"],
            false,
        ),
        (
            "with all moved",
            &[
                "origin.json",
                "plan.json",
                "file-0000",
                "file-0001",
                "folder-0000/",
            ],
            false,
        ),
    ];
    for (state, draft, in_inbox) in states {
        let mut place = Place::new(QueueBounds::default());
        let folder = place.folder.path().join("queue/drafts/folder-0123");
        for path in draft {
            let to = folder.join(path);
            if path.ends_with('/') {
                fs::create_dir_all(to).unwrap();
                continue;
            }
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            let bytes = match *path {
                "origin.json" => &origin,
                "plan.json" => &plan,
                "file-0000" | "record/sub/b" | "folder-0000/b" => "b",
                _ => "a",
            };
            fs::write(to, bytes).unwrap();
        }
        if in_inbox {
            place.put("1/scan/a", "a");
            place.put("1/scan/sub/b", "b");
        }
        let first = place.after(0);
        let second = place.after(10);
        assert_eq!(first.accepted + second.accepted, 1, "{state}");
        assert_eq!(place.after(10), Looked::default(), "{state}");
        let got = place.got().await;
        let mut files = got[0].files.clone();
        files.sort();
        let expected =
            [("a", b"a"), ("sub_b", b"b")].map(|(name, bytes)| (name.to_owned(), bytes.to_vec()));
        assert_eq!((got.len(), files), (1, expected.to_vec()), "{state}");
        assert_eq!(got[0].reference, "scan", "{state}");
        assert!(!in_inbox || names(place.inbox("1")).is_empty(), "{state}");
        assert!(
            names(place.folder.path().join("queue/drafts")).is_empty(),
            "{state}"
        );
    }
}

#[test]
fn what_was_exchanged_for_a_link_after_it_was_looked_at_is_given_back() {
    let mut place = Place::new(QueueBounds::default());
    let folder = place.folder.path().join("queue/drafts/folder-0123");
    fs::create_dir_all(folder.join("record")).unwrap();
    let hex = |text: &str| hex::encode(text);
    let origin = format!(r#"{{"patient":"{}","child":"{}"}}"#, hex("1"), hex("scan"));
    fs::write(folder.join("origin.json"), origin).unwrap();
    fs::write(
        folder.join("plan.json"),
        format!(r#"{{"folders":[],"files":["{}"]}}"#, hex("a")),
    )
    .unwrap();
    symlink("/etc/hostname", folder.join("record/a")).unwrap();
    assert_eq!(place.after(0).rejected, 1);
    assert!(
        place
            .reason("1/scan")
            .contains("changed while it was being taken")
    );
    assert_eq!(place.queue.counts().waiting, 0);
}

#[tokio::test]
async fn it_runs_by_itself_until_it_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(&folder.path().join("queue"));
    let mut config = config(folder.path());
    config.settle_seconds = 3_601;
    let refused = WatchFolder::new(&config, queue.clone());
    assert!(matches!(refused, Err(WatchFolderError::Settle)));
    config.settle_seconds = 0;
    let watch = WatchFolder::new(&config, queue.clone()).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(watch.run(async {
        let _ = stopped.await;
    }));
    fs::create_dir(config.folder.join("inbox/1")).unwrap();
    fs::write(config.folder.join("inbox/1/file"), "text").unwrap();
    let taken = async {
        while queue.counts().waiting == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(BOUND, taken).await.unwrap();
    stop.send(()).unwrap();
    tokio::time::timeout(BOUND, running).await.unwrap().unwrap();
}

#[test]
fn a_configuration_has_defaults_and_no_unknown_key() {
    let read = |text| serde_json::from_str::<WatchFolderConfig>(text);
    let config = read(r#"{"folder": "/srv/exchange"}"#).unwrap();
    assert_eq!((config.settle_seconds, config.patient_system), (2, None));
    assert!(read(r#"{"folder": "/srv/exchange", "inotify": true}"#).is_err());
}
