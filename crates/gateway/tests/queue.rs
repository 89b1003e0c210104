//! The queue keeps what it accepted, gives it to the destination as often as it takes, and lets a person
//! decide about the rest, whenever the process stops.
#![allow(clippy::unwrap_used, reason = "a test")]

mod given;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use gateway::intake::{
    Accepted, DraftFile, Fate, Intake, NewFile, NotAccepted, Pace, Queue, QueueBounds, QueueError,
    Source,
};
use record::FileName;

use given::{Act, BOUND, QUICK, Scripted, copy, empty, give, given, names, new, open};

#[tokio::test]
async fn deliveries_arrive_once_in_their_order_and_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let ids = ["first", "second", "third"].map(|name| given(&queue, name));
    assert_eq!(
        give(&queue, "second", "anything").unwrap(),
        Accepted::Repeated(ids[1])
    );
    let destination = Scripted::default();
    empty(&queue, &destination).await.unwrap();

    let got = destination.taken();
    assert_eq!(got.iter().map(|got| got.id).collect::<Vec<_>>(), ids);
    assert_eq!(got[0].reference, "first");
    assert_eq!(got[0].files, [("first.txt".to_owned(), b"first".to_vec())]);
    assert_eq!(
        got[0].patient,
        [("urn:oid:1.2".to_owned(), "4711".to_owned())]
    );
    assert_eq!(got[0].tries, 1);
    // What was delivered is known, also to a later process, and no longer on the disk.
    let mut queue = queue;
    for _ in 0..2 {
        assert_eq!(
            give(&queue, "first", "first").unwrap(),
            Accepted::Repeated(ids[0])
        );
        assert_eq!(
            queue.fate(ids[0]),
            Fate::Delivered("record-of-first".to_owned())
        );
        assert_eq!(queue.counts().bytes, 0);
        queue = reopened(queue, &folder);
    }
    for place in ["drafts", "waiting", "dead", "removing"] {
        assert!(names(folder.path().join(place)).is_empty(), "{place}");
    }
}

/// The queue of the same folder, opened by a later process.
fn reopened(queue: Queue, folder: &tempfile::TempDir) -> Queue {
    drop(queue);
    // Other clones of the test's are gone by now, or this fails.
    open(folder.path())
}

#[tokio::test]
async fn a_passing_failure_is_tried_again_and_too_many_are_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let (slow, broken) = (given(&queue, "slow"), given(&queue, "broken"));
    // Of three tries the first delivery needs all, and for the second they do not suffice.
    let acts = [
        Act::Passing("The network is away: wait."),
        Act::Panic,
        Act::Take,
    ];
    let done = async {
        while queue.counts().waiting > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let always = Always(slow, Scripted::new(acts));
    Intake::new(queue.clone(), QUICK)
        .run(&always, done)
        .await
        .unwrap();
    assert_eq!(
        queue.fate(slow),
        Fate::Delivered("record-of-slow".to_owned())
    );
    assert_eq!(always.1.taken()[0].tries, 3);
    let [letter] = &queue.dead(None).unwrap()[..] else {
        panic!("one is dead");
    };
    assert_eq!(letter.delivery.id, broken);
    assert_eq!(letter.delivery.tries, 3);
    assert_eq!(letter.reason, "Never for this one: look at it.");
}

/// Follows the script for one delivery, and fails in a passing way for every other.
struct Always(gateway::intake::DeliveryId, Scripted);

impl gateway::intake::Destination for Always {
    async fn deliver(
        &self,
        delivery: &gateway::intake::Delivery,
    ) -> Result<gateway::intake::Receipt, gateway::intake::NotDelivered> {
        match delivery.id == self.0 {
            true => self.1.deliver(delivery).await,
            false => Err(gateway::intake::NotDelivered::Passing(
                "Never for this one: look at it.".to_owned(),
            )),
        }
    }
}

#[tokio::test]
async fn a_destination_that_panics_fails_one_delivery_and_not_the_intake() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let ids = [given(&queue, "bad"), given(&queue, "good")];
    let destination = Scripted::new([Act::Panic]);
    empty(&queue, &destination).await.unwrap();
    let mut got: Vec<_> = destination.taken().iter().map(|got| got.id).collect();
    got.sort();
    assert_eq!(got, ids);
}

#[tokio::test]
async fn a_dead_delivery_waits_for_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let (mended, wrong) = (given(&queue, "mended"), given(&queue, "wrong"));
    let why = "Nobody of this patient number is registered: register the patient.";
    let destination = Scripted::new([Act::ForGood(why), Act::ForGood(why)]);
    empty(&queue, &destination).await.unwrap();
    assert_eq!(destination.taken(), []);
    let queue = reopened(queue, &folder);
    assert_eq!((queue.counts().waiting, queue.counts().dead), (0, 2));

    let letters = serde_json::to_value(queue.dead(None).unwrap()).unwrap();
    let letter = &letters[0];
    assert_eq!(letter["id"], mended.to_string());
    assert_eq!(letter["source"], "fhir");
    assert_eq!(letter["reference"], "mended");
    assert_eq!(letter["patient"][0]["value"], "4711");
    assert_eq!(
        letter["files"][0],
        serde_json::json!({"name": "mended.txt", "bytes": 6})
    );
    assert_eq!(
        (&letter["tries"], &letter["reason"]),
        (&1.into(), &why.into())
    );
    assert!(letter["dead_at"].as_u64() >= letter["accepted_at"].as_u64());
    assert_eq!(
        queue.dead(Some(mended)).unwrap().len(),
        1,
        "the page behind the first"
    );

    // It is still known: its source is told that it was taken.
    assert_eq!(
        give(&queue, "wrong", "wrong").unwrap(),
        Accepted::Repeated(wrong)
    );
    queue.retry(mended).unwrap();
    assert!(matches!(queue.retry(mended), Err(QueueError::NotDead(_))));
    assert!(matches!(
        queue.discard(mended, "why"),
        Err(QueueError::NotDead(_))
    ));
    assert!(matches!(
        queue.discard(wrong, " \n"),
        Err(QueueError::NoReason)
    ));
    queue
        .discard(wrong, "It is another hospital's patient.\n")
        .unwrap();
    assert!(matches!(
        queue.discard(wrong, "again"),
        Err(QueueError::Unknown(_))
    ));
    assert_eq!(queue.fate(wrong), Fate::Unknown);
    let kept = fs::read_to_string(folder.path().join("discarded.log")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["reason"], "It is another hospital's patient.");
    assert_eq!(kept["delivery"]["id"], wrong.to_string());
    assert_eq!(kept["delivery"]["reason"], why);

    let queue = reopened(queue, &folder);
    empty(&queue, &destination).await.unwrap();
    let got = destination.taken();
    assert_eq!((got.len(), got[0].id, got[0].tries), (1, mended, 1));
    // What was discarded is taken when it is given again: somebody wants it.
    assert!(matches!(
        give(&queue, "wrong", "wrong").unwrap(),
        Accepted::New(_)
    ));
}

#[tokio::test]
async fn a_full_queue_takes_nothing_more_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let bounds = QueueBounds {
        deliveries_max: 2,
        bytes_max: 10,
    };
    let queue = Queue::open(folder.path(), bounds).unwrap();
    assert!(matches!(
        give(&queue, "a", "12345678901"),
        Err(NotAccepted::TooLarge)
    ));
    give(&queue, "a", "123456").unwrap();
    assert!(matches!(give(&queue, "b", "12345"), Err(NotAccepted::Full)));
    assert!(matches!(queue.room(5), Err(NotAccepted::Full)));
    queue.room(4).unwrap();
    give(&queue, "b", "1234").unwrap();
    assert!(matches!(give(&queue, "c", ""), Err(NotAccepted::Full)));
    assert!(NotAccepted::Full.is_passing() && !NotAccepted::TooLarge.is_passing());
    // A repetition is told so also then.
    assert!(matches!(
        give(&queue, "a", "123456"),
        Ok(Accepted::Repeated(_))
    ));
    assert!(
        names(folder.path().join("drafts")).is_empty(),
        "nothing is left of what found no room"
    );

    // The dead take room too: they are on the disk.
    let destination = Scripted::new([Act::ForGood("Look at it.")]);
    empty(&queue, &destination).await.unwrap();
    drop(queue);
    let queue = Queue::open(folder.path(), bounds).unwrap();
    assert_eq!(queue.counts().bytes, 6);
    give(&queue, "c", "").unwrap();
    assert!(matches!(give(&queue, "d", ""), Err(NotAccepted::Full)));
}

#[test]
fn nothing_but_plain_files_of_a_draft_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let draft = queue.draft(Source::Fhir, "one").unwrap();
    fs::write(draft.folder().join("file"), "text").unwrap();
    fs::write(folder.path().join("outside"), "text").unwrap();
    symlink("file", draft.folder().join("link")).unwrap();
    let file = |stored: &str| DraftFile {
        stored: PathBuf::from(stored),
        name: FileName::new("x").unwrap(),
        media_type: None,
    };
    for stored in ["../../outside", "link", ".", "../one/file"] {
        let refused = draft.accept(&new("one"), vec![file("file"), file(stored)]);
        assert!(matches!(refused, Err(NotAccepted::Unusable)), "{stored}");
    }
    assert!(matches!(
        draft.accept(&new("one"), Vec::new()),
        Err(NotAccepted::Empty)
    ));
    assert!(matches!(
        draft.accept(&new("one"), vec![file("none")]),
        Err(NotAccepted::Disk(_))
    ));
    let many = (0..4_097).map(|_| file("file")).collect();
    assert!(matches!(
        draft.accept(&new("one"), many),
        Err(NotAccepted::TooManyFiles)
    ));
    assert!(
        draft.folder().join("file").exists(),
        "the draft is as it was"
    );
    assert!(matches!(
        draft.accept(&new("one"), vec![file("file")]),
        Ok(Accepted::New(_))
    ));
    assert!(!draft.folder().exists());
    for name in ["", "A", "a/b", "..", &"a".repeat(101)] {
        assert!(queue.draft(Source::Fhir, name).is_err(), "{name}");
    }
}

#[test]
fn what_is_kept_is_its_user_s_alone() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("queue");
    let queue = open(&place);
    let id = given(&queue, "one").to_string();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(place.clone()), 0o700);
    assert_eq!(mode(place.join("waiting").join(&id)), 0o700);
    for file in ["0000", "delivery.json"] {
        assert_eq!(
            mode(place.join("waiting").join(&id).join(file)),
            0o600,
            "{file}"
        );
    }
    let said = Queue::open(&place, QueueBounds::default()).unwrap_err();
    assert!(matches!(said, QueueError::InUse(_)), "{said}");
}

#[tokio::test]
async fn whatever_a_stop_left_half_done_is_gone_on_with_or_gone() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let queue = open(place);
    let ids = ["one", "two", "three", "four"].map(|name| given(&queue, name));
    let draft = queue.draft(Source::Orthanc, "study").unwrap();
    fs::write(draft.folder().join("fetched"), "x").unwrap();
    let copied = tempfile::tempdir().unwrap();
    let before = copied.path();
    copy(place, before);
    drop(queue);

    // Half accepted, before its rename: never acknowledged, so it is gone.
    let half = before.join("drafts/once-0123456789abcdef");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("0000"), "ha").unwrap();
    fs::write(half.join("delivery.new"), "{").unwrap();
    // A description that was being written anew: the one before counts.
    let waiting = |id| before.join(format!("waiting/{id}"));
    fs::write(waiting(ids[0]).join("delivery.new"), "{").unwrap();
    // Delivered and remembered, not yet moved away.
    let key = {
        let text = fs::read_to_string(waiting(ids[1]).join("delivery.json")).unwrap();
        let kept: serde_json::Value = serde_json::from_str(&text).unwrap();
        kept["key"].as_str().unwrap().to_owned()
    };
    fs::write(
        before.join("done.log"),
        format!("{key} {} r\n{}", ids[1], &key[..20]),
    )
    .unwrap();
    // Moved away, not yet removed.
    fs::create_dir_all(before.join("removing/00000000000000000000000000000001/x")).unwrap();
    // A disk that lost a description, and one that lost a file.
    fs::write(waiting(ids[2]).join("delivery.json"), "{\"format\": 1").unwrap();
    fs::write(waiting(ids[3]).join("0000"), "fo").unwrap();
    // Something that is nobody's.
    fs::write(before.join("waiting/README"), "x").unwrap();

    let queue = open(before);
    assert_eq!(
        names(before.join("drafts")),
        ["orthanc-study"],
        "a source's draft is its own"
    );
    assert!(names(before.join("removing")).is_empty());
    assert_eq!(queue.fate(ids[1]), Fate::Delivered("r".to_owned()));
    assert_eq!((queue.counts().waiting, queue.counts().dead), (2, 1));
    let destination = Scripted::default();
    empty(&queue, &destination).await.unwrap();
    let got = destination.taken();
    assert_eq!(got.iter().map(|got| got.id).collect::<Vec<_>>(), [ids[0]]);

    // What cannot be sealed is seen, with what is left of it.
    let dead = queue.dead(None).unwrap();
    assert_eq!(
        dead.iter()
            .map(|letter| letter.delivery.id)
            .collect::<Vec<_>>(),
        [ids[2], ids[3]]
    );
    assert!(dead[0].delivery.source.is_none() && dead[0].reason.contains("cannot be read"));
    assert_eq!(dead[0].delivery.files[0].name, "0000");
    assert!(dead[1].reason.contains("no longer as they were accepted"));
    assert!(matches!(queue.retry(ids[2]), Err(QueueError::Damaged(_))));
    queue.discard(ids[2], "Given anew.").unwrap();
    // New ids are above all that were.
    assert!(given(&queue, "five") > ids[3]);
}

#[tokio::test]
async fn a_delivery_during_which_the_gateway_stops_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let id = given(&queue, "one");
    let destination = Scripted::new([Act::Hang]);
    // The process ends in the middle of the delivery: nothing is said to the queue.
    {
        let intake = Intake::new(queue.clone(), QUICK);
        let run = intake.run(&destination, std::future::pending());
        tokio::select! {
            ended = run => ended.unwrap(),
            () = destination.tried.notified() => {}
            () = tokio::time::sleep(BOUND) => panic!("it was not tried"),
        }
    }
    let queue = reopened(queue, &folder);
    let [waiting] = &queue.waiting(None).unwrap()[..] else {
        panic!("it still waits");
    };
    assert_eq!(
        (waiting.delivery.id, waiting.delivery.tries),
        (id, 1),
        "it was counted before it was tried"
    );
    empty(&queue, &destination).await.unwrap();
    let got = destination.taken();
    assert_eq!((got.len(), got[0].id, got[0].tries), (1, id, 2));
}

#[tokio::test]
async fn one_that_always_ends_the_process_with_it_dies() {
    let folder = tempfile::tempdir().unwrap();
    let mut queue = open(folder.path());
    let id = given(&queue, "one");
    for _ in 0..QUICK.tries_max {
        let destination = Scripted::new([Act::Hang]);
        let intake = Intake::new(queue.clone(), QUICK);
        tokio::select! {
            ended = intake.run(&destination, std::future::pending()) => ended.unwrap(),
            () = destination.tried.notified() => {}
        }
        drop(intake);
        queue = reopened(queue, &folder);
    }
    let destination = Scripted::new([Act::Passing("Once more.")]);
    empty(&queue, &destination).await.unwrap();
    assert_eq!(queue.fate(id), Fate::Dead);
}

#[tokio::test]
async fn a_new_delivery_wakes_a_worker_that_waits() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let destination = Scripted::default();
    let taken = async {
        // The worker has found nothing by now, or finds it at once: both must do.
        tokio::time::sleep(Duration::from_millis(20)).await;
        given(&queue, "one");
        tokio::time::timeout(BOUND, destination.tried.notified())
            .await
            .unwrap();
    };
    let slow = Pace {
        first: Duration::from_secs(3_600),
        ..Pace::default()
    };
    Intake::new(queue.clone(), slow)
        .run(&destination, taken)
        .await
        .unwrap();
    assert_eq!(destination.taken().len(), 1);
}

#[test]
fn one_key_given_by_many_at_once_is_accepted_once() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let accepted: Vec<Accepted> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| give(&queue, "one", "text").unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let new = accepted
        .iter()
        .filter(|accepted| matches!(accepted, Accepted::New(_)));
    assert_eq!(new.count(), 1);
    assert_eq!(queue.counts().waiting, 1);
    assert_eq!(names(folder.path().join("waiting")).len(), 1);
}

#[test]
fn a_disk_that_fails_keeps_nothing_and_is_said_to_fail() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    fs::remove_dir(folder.path().join("waiting")).unwrap();
    let file = || NewFile {
        name: FileName::new("x").unwrap(),
        media_type: None,
        bytes: "x".into(),
    };
    let failed = queue.accept(&new("one"), vec![file()]);
    assert!(matches!(failed, Err(NotAccepted::Disk(_))));
    assert_eq!(queue.counts().bytes, 0);
    fs::create_dir(folder.path().join("waiting")).unwrap();
    assert!(matches!(
        queue.accept(&new("one"), vec![file()]),
        Ok(Accepted::New(_))
    ));
}

#[tokio::test]
async fn a_full_disk_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let id = given(&queue, "one");
    // Whatever is written of this delivery finds no room.
    let full = folder.path().join(format!("waiting/{id}/delivery.new"));
    symlink("/dev/full", &full).unwrap();
    let destination = Scripted::default();
    let a_while = tokio::time::sleep(Duration::from_millis(50));
    Intake::new(queue.clone(), QUICK)
        .run(&destination, a_while)
        .await
        .unwrap();
    assert_eq!(queue.fate(id), Fate::Waiting);
    assert_eq!(
        destination.taken(),
        [],
        "it is not tried before it is counted"
    );
    given(&queue, "two");
    fs::remove_file(full).unwrap();
    let queue = reopened(queue, &folder);
    empty(&queue, &destination).await.unwrap();
    assert_eq!(destination.taken().len(), 2);
}
