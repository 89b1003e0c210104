//! The grants that a node holds, across its restarts: none is lost but those that are over, and of those
//! nothing stays on the disk. Doctors hear at once what becomes of them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test, which plays patient and doctor"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::served::{BOUND, Served, with_nodes, with_nodes_in};
use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{get, post};
use client::{
    ClientError, ConsortiumClient, Endpoint, FollowedGrant, GrantEvent, GrantStanding, Hex,
    NodeStatus, Problem, ServiceClient, ServiceName, now,
};
use futures::StreamExt;
use ledger::testing::rng;
use ledger::{GrantEntry, GrantTransaction, Revocation, Transaction};
use parties::{
    CentreKeys, Certificate, DoctorPublicKeys, GrantPackage, Holder, Member, RequestTerms,
    SearchRequest, UnsignedRequest,
};
use scheme::{
    ClassCode, ClassLabelKey, ConditionKey, ConsortiumId, Digest, EpisodeSigningKey,
    GRANT_BYTES_MAX, Grant, GrantId, GrantNode, GrantTerms, GrantedClass, Granter, HpkePrivateKey,
    InstitutionId, Keyword, NodeNumber, Pid, Reach, SigningKey, Subject, Threshold, Timestamp,
    Trapdoor, ValidatorEpoch, Writer, WriterEpoch, WriterTrapdoor, sha256,
};
use services::{Server, serve_node};
use tokio::task::JoinHandle;

const IMAGING: ClassCode = ClassCode::new(5);
const HOUR_MS: u64 = 60 * 60 * 1000;
/// Long enough to be recorded on a slow machine, and waited for.
const SHORT_MS: u64 = 12_000;

/// A grant for the doctor of hospital 1 until an hour from now, by the keys of a patient who wrote
/// nothing yet.
async fn package(served: &Served, revocation: &SigningKey) -> GrantPackage {
    let access = SigningKey::from_seed([3; 32]);
    package_for(served, revocation, &access, HOUR_MS).await
}

/// The same for this access key, for so many milliseconds from now.
async fn package_for(
    served: &Served,
    revocation: &SigningKey,
    access: &SigningKey,
    lasts_ms: u64,
) -> GrantPackage {
    let hospitals = &served.hospitals;
    let here = hospitals.consortium;
    let hospital = hospitals.hospital(1);
    let institution = hospital.institution.id;
    let made = now();
    let holder = Holder::Doctor(DoctorPublicKeys {
        id: hospital.doctor,
        institution,
        signing: hospital.doctor_key.verifying_key(),
        hpke: hospital.doctor_hpke.public_key(),
    });
    let end = Timestamp::new(made.number() + 24 * HOUR_MS);
    let certificate = Certificate::issue(&here, &hospitals.centre, Subject::new(1), holder, end);
    let terms = RequestTerms {
        institution,
        inbox: Digest::new([1; 32]),
        classes: vec![IMAGING],
        purpose: "stroke".into(),
        nonce: [2; 32],
        time: made,
        not_after: Timestamp::new(made.number() + HOUR_MS),
    };
    let member = Member {
        certificate,
        access_keys: vec![access.verifying_key()],
        hpke_key: HpkePrivateKey::derive(&[4; 32]).public_key(),
    };
    let unsigned = UnsignedRequest::new(terms, vec![member]).unwrap();
    let signature = unsigned.sign(&here, &hospital.doctor_key);
    let request = unsigned.complete(vec![signature]).unwrap();
    let centre = CentreKeys::founding(hospitals.centre.verifying_key());
    let request = request.verify(&here, &centre, made).unwrap();

    let keys = hospitals.patient_keys(1);
    let pid = Pid::from_bytes([5; 32]);
    let signing = EpisodeSigningKey::derive(&here, &keys.ownership, &pid).unwrap();
    let hpke_keys = served.client.node_keys().await.unwrap().keys;
    let nodes = served.client.nodes();
    let nodes = nodes
        .accounting()
        .map(|node| GrantNode {
            key: node.key,
            hpke_key: hpke_keys
                .iter()
                .find(|(id, _)| *id == node.institution)
                .unwrap()
                .1,
        })
        .collect();
    let writer = Writer {
        institution,
        epoch: WriterEpoch::new(0),
    };
    let any = Keyword::any_record();
    let trapdoor = Trapdoor::generate(&here, &keys.search, &pid, writer, &any);
    let terms = GrantTerms {
        episode_key: signing.public_key().clone(),
        revocation_key: revocation.verifying_key(),
        request: request.as_bytes().to_vec(),
        grantees: request.grantees(0).unwrap(),
        not_before: made,
        expiry: Timestamp::new(made.number() + lasts_ms),
        validator_epoch: ValidatorEpoch::new(0),
        nodes,
        threshold: Threshold::new(2).unwrap(),
    };
    let (not_before, expiry) = (terms.not_before, terms.expiry);
    let access_keys = terms.grantees.iter().map(|one| one.access_key).collect();
    let classes = [GrantedClass {
        condition: ConditionKey::derive(&here, &keys.encryption, &pid, IMAGING),
        label_key: ClassLabelKey::derive(&here, &pid, IMAGING),
    }];
    let reach = Reach {
        trapdoors: vec![WriterTrapdoor { writer, trapdoor }],
        entries: Vec::new(),
    };
    let granter = Granter::Patient(&signing);
    let mut rng = rng("grants of a node", 0);
    let (grant, _) = Grant::make(&here, terms, &classes, &reach, &granter, &mut rng).unwrap();
    let grant = grant.encode(&here);
    let entry = GrantEntry {
        revocation_key: revocation.verifying_key(),
        grant: sha256(&grant),
        epoch: ValidatorEpoch::new(0),
        not_before,
        expiry,
        access_keys,
    };
    let signature = entry.sign(&here, revocation);
    GrantPackage {
        grant,
        entry,
        signature,
    }
}

/// How many grants a node holds that starts now with this key.
async fn held_after_a_restart(served: &Served, place: usize) -> usize {
    let (address, task) = restarted(served, place).await;
    let held = held_at(&address).await;
    task.abort();
    held
}

/// A node's interface that starts now: its address, and the task.
async fn restarted(served: &Served, place: usize) -> (String, JoinHandle<()>) {
    let service = served.service(place).unwrap();
    let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), None).await;
    let server = server.unwrap();
    let address = server.address().unwrap();
    let task = tokio::spawn(serve_node(
        Arc::new(service),
        server,
        std::future::pending(),
    ));
    (address.to_string(), task)
}

async fn held_at(address: &str) -> usize {
    let http = reqwest::Client::new();
    let status = tokio::time::timeout(BOUND, async {
        loop {
            if let Ok(response) = http.get(format!("http://{address}/v1/status")).send().await {
                return response.json::<NodeStatus>().await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    status.await.unwrap().grants
}

async fn announced(served: &Served) {
    let announced = tokio::time::timeout(BOUND, async {
        while served.client.node_keys().await.unwrap().keys.len() < 3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    announced.await.unwrap();
}

/// The doctor of hospital 1 is registered, and every node knows it: one that does not yet refuses the
/// doctor's grant.
async fn registered(served: &Served) {
    let registration = served.hospitals.registration(1);
    served.submit_to_all(&registration).await;
}

/// A node that was started with another file in place of its HPKE key found that no grant opened, and
/// removed the file of every one: with the right key back, all were gone.
#[test]
fn a_restart_loses_no_grant_with_a_wrong_key_or_a_bad_file() {
    with_nodes(|served| async move {
        announced(&served).await;
        registered(&served).await;
        let revocation = SigningKey::from_seed([6; 32]);
        let package = package(&served, &revocation).await;
        let gid = GrantId::of(&served.hospitals.consortium, &revocation.verifying_key());
        served.client.give(&package, 2, BOUND).await.unwrap();
        assert_eq!(served.grants(0).list().unwrap(), [gid]);
        let access_key = package.entry.access_keys[0];
        let found = served.client.grant_of(access_key).await.unwrap();
        assert_eq!(found.map(|grant| grant.gid), Some(gid));
        let nobodys = SigningKey::from_seed([7; 32]).verifying_key();
        assert_eq!(served.client.grant_of(nobodys).await.unwrap(), None);

        // With another key, or none, the node serves no grant and touches no file, nor does it put
        // another key on the chain; with the right one back it serves it.
        let first = ValidatorEpoch::new(0);
        let file = fs::read_dir(served.root.join("hpke-keys-0")).unwrap();
        let file = file.map(|entry| entry.unwrap().path());
        let file = file.min().expect("the key of epoch 0");
        let right = fs::read(&file).unwrap();
        let standing = served.client.node_keys().await.unwrap().keys;
        served.hpke_keys(0).keep(first, &[0xee; 32]).unwrap();
        assert_eq!(held_after_a_restart(&served, 0).await, 0);
        served.hpke_keys(0).remove(first).unwrap();
        assert_eq!(held_after_a_restart(&served, 0).await, 0);
        assert_eq!(served.grants(0).list().unwrap(), [gid]);
        assert_eq!(served.client.node_keys().await.unwrap().keys, standing);
        fs::write(&file, right).unwrap();
        assert_eq!(held_after_a_restart(&served, 0).await, 1);

        // Files that are no grant or too long for one, and a grant under another's name, are kept and
        // hold nothing up.
        let files = served.grants(0);
        let (junk, long, moved) = (
            GrantId::new([1; 32]),
            GrantId::new([2; 32]),
            GrantId::new([3; 32]),
        );
        files.keep(&junk, b"no grant").unwrap();
        files.keep(&long, &vec![0; GRANT_BYTES_MAX + 1]).unwrap();
        files.keep(&moved, &package.grant).unwrap();
        assert_eq!(held_after_a_restart(&served, 0).await, 1);
        let mut all = vec![junk, long, moved, gid];
        all.sort_unstable();
        assert_eq!(files.list().unwrap(), all);

        // Revoked, its file goes, and comes back neither by a restart nor by its sender.
        let revoked = Revocation::sign(&served.hospitals.consortium, &revocation);
        let revoked = Transaction::Revocation(revoked);
        served.client.submit(&revoked, BOUND).await.unwrap();
        let gone = tokio::time::timeout(BOUND, async {
            while files.list().unwrap().contains(&gid) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        gone.await.expect("the block's revocation removes the file");
        files.keep(&gid, &package.grant).unwrap();
        assert_eq!(held_after_a_restart(&served, 0).await, 0);
        all.retain(|one| *one != gid);
        assert_eq!(files.list().unwrap(), all);
        let refused = served.client.give(&package, 2, BOUND).await;
        assert!(
            matches!(
                &refused,
                Err(ClientError::TooFewHolders { found: 0, needed: 2, reason })
                    if matches!(&**reason, ClientError::Refused(problem) if problem.status() == 403)
            ),
            "{refused:?}"
        );
        assert_eq!(files.list().unwrap(), all);
    });
}

/// The story: a node whose store had been put back from a copy did not know the doctor yet, left the grant's
/// file aside, and served nobody under it until somebody started it again.
#[test]
fn a_grants_file_is_taken_up_once_the_chain_says_enough() {
    with_nodes(|served| async move {
        announced(&served).await;
        let revocation = SigningKey::from_seed([6; 32]);
        let package = package(&served, &revocation).await;
        let gid = GrantId::of(&served.hospitals.consortium, &revocation.verifying_key());
        served.grants(0).keep(&gid, &package.grant).unwrap();
        let (address, task) = restarted(&served, 0).await;
        assert_eq!(held_at(&address).await, 0, "the doctor is not registered");
        registered(&served).await;
        let taken_up = tokio::time::timeout(BOUND, async {
            while held_at(&address).await == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        taken_up.await.expect("a block later the grant is held");
        task.abort();
    });
}

/// A node that was away when the patient gave a grant gets it from the doctor, whose questions it could not
/// answer for good otherwise. It takes nothing that the chain does not have, and nothing that is over.
#[test]
fn a_node_that_was_away_gets_the_grant_from_the_doctor() {
    with_nodes(|served| async move {
        announced(&served).await;
        registered(&served).await;
        let here = served.hospitals.consortium;
        let (revocation, access) = (
            SigningKey::from_seed([9; 32]),
            SigningKey::from_seed([3; 32]),
        );
        let package = package(&served, &revocation).await;
        let gid = GrantId::of(&here, &revocation.verifying_key());
        let (first, http) = (InstitutionId::new(1), reqwest::Client::new());
        let post = async |node: u32, path: &str, body: Vec<u8>| {
            let base = &served.bases[&InstitutionId::new(node)];
            let sent = http.post(format!("{base}{path}")).body(body).send();
            let response = sent.await.unwrap();
            let status = response.status().as_u16();
            (status, response.bytes().await.unwrap())
        };
        let hand_on = async |grant: &[u8]| post(1, "/v1/grants/recorded", grant.to_vec()).await.0;
        let held = async || served.client.status(first).await.unwrap().grants;

        assert_eq!(
            hand_on(&package.grant).await,
            404,
            "the chain has no such grant"
        );
        let mut countersigned = None;
        for node in [2, 3] {
            let (status, entry) = post(node, "/v1/grants", package.encode()).await;
            assert_eq!(status, 200);
            countersigned = Some(Transaction::decode(&entry).unwrap());
        }
        served
            .client
            .submit(&countersigned.unwrap(), BOUND)
            .await
            .unwrap();
        let height = served.client.height().await.unwrap();
        assert!(served.client.reaches(height, BOUND).await.unwrap());
        let mut altered = package.grant.clone();
        *altered.last_mut().unwrap() ^= 1;
        assert!(
            [400, 404].contains(&hand_on(&altered).await),
            "another grant"
        );
        assert_eq!(hand_on(&[]).await, 400);
        assert_eq!(held().await, 0);

        let grant = Grant::decode(&here, &package.grant)
            .unwrap()
            .verify(&here)
            .unwrap();
        let request = SearchRequest::sign(&here, gid, height, &access);
        let mut replies = 0;
        let refused = served.client.search(&request, &grant, |_| {
            replies += 1;
            ControlFlow::Continue(())
        });
        assert!(refused.await.is_empty());
        assert_eq!(replies, 3, "all accounting nodes answer");
        assert_eq!(held().await, 1);
        assert_eq!(served.grants(0).read(&gid).unwrap().unwrap(), package.grant);
        assert_eq!(
            hand_on(&package.grant).await,
            204,
            "once more changes nothing"
        );
        assert_eq!(held().await, 1);
        assert_eq!(held_after_a_restart(&served, 0).await, 1);

        revoke(&served, &revocation).await;
        let forgotten = tokio::time::timeout(BOUND, async {
            while held().await > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        forgotten.await.expect("the block's revocation is seen");
        assert_eq!(hand_on(&package.grant).await, 403, "it is over");
        assert_eq!(held().await, 0);
    });
}

/// A node that countersigns a grant with a key that is nobody's, before all others.
async fn wrong_countersigner(here: ConsortiumId) -> String {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap();
    let countersign = post(async move |body: Bytes| {
        let GrantPackage {
            entry, signature, ..
        } = GrantPackage::decode(&body).unwrap();
        let (own, key) = (InstitutionId::new(1), SigningKey::from_seed([0xbd; 32]));
        let wrong = GrantTransaction::countersign(&here, entry, signature, own, &key);
        Transaction::Grant(wrong).encode()
    });
    let router = Router::new().route("/v1/grants", countersign);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// The story: a client handed in what the first node had countersigned, and no other; one node that lies, or
/// goes on under a key that the chain no longer has, kept every patient from granting.
#[test]
fn attack_a_node_that_countersigns_wrongly_keeps_nobody_from_granting() {
    with_nodes(|served| async move {
        announced(&served).await;
        registered(&served).await;
        let here = served.hospitals.consortium;
        let revocation = SigningKey::from_seed([11; 32]);
        let package = package(&served, &revocation).await;
        let mut bases = served.bases.clone();
        bases.insert(InstitutionId::new(1), wrong_countersigner(here).await);
        let client = ConsortiumClient::on_loopback(&served.hospitals.genesis, &bases).unwrap();
        let given = client.give(&package, 2, BOUND).await.unwrap();
        served.all_reach(given.outcome.height.number()).await;
        let gid = GrantId::of(&here, &revocation.verifying_key());
        assert!(served.client.agreed_grant(gid).await.unwrap().is_some());
    });
}

/// A disk that takes no file: the grant is refused and not held either, so that a restart changes
/// nothing of what the node serves.
#[test]
fn a_grant_whose_file_cannot_be_written_is_not_held() {
    with_nodes(|served| async move {
        announced(&served).await;
        registered(&served).await;
        let revocation = SigningKey::from_seed([7; 32]);
        let package = package(&served, &revocation).await;
        let gid = GrantId::of(&served.hospitals.consortium, &revocation.verifying_key());
        let blocked = served.grants_folder(0).join(hex::encode(gid.as_bytes()));
        fs::create_dir(&blocked).unwrap();
        let base = &served.bases[&InstitutionId::new(1)];
        let response = reqwest::Client::new()
            .post(format!("{base}/v1/grants"))
            .body(package.encode())
            .send()
            .await
            .unwrap();
        assert_eq!(response.status().as_u16(), 500);
        let problem: Problem = response.json().await.unwrap();
        assert!(problem.detail().len() > 10, "{problem:?}");
        let status = served.client.status(InstitutionId::new(1)).await.unwrap();
        assert_eq!(status.grants, 0);
        fs::remove_dir(&blocked).unwrap();
        served.client.give(&package, 2, BOUND).await.unwrap();
        let status = served.client.status(InstitutionId::new(1)).await.unwrap();
        assert_eq!(status.grants, 1);
    });
}

/// A removal that failed was forgotten: the grant was gone from memory, and its file stayed for ever.
#[test]
fn a_file_that_cannot_be_removed_is_tried_again_with_each_block() {
    with_nodes(|served| async move {
        announced(&served).await;
        registered(&served).await;
        let revocation = SigningKey::from_seed([8; 32]);
        let package = package(&served, &revocation).await;
        let gid = GrantId::of(&served.hospitals.consortium, &revocation.verifying_key());
        served.client.give(&package, 2, BOUND).await.unwrap();
        // A folder in its place cannot be removed as a file.
        let path = served.grants_folder(0).join(hex::encode(gid.as_bytes()));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let revoked = Revocation::sign(&served.hospitals.consortium, &revocation);
        let revoked = Transaction::Revocation(revoked);
        served.client.submit(&revoked, BOUND).await.unwrap();
        let first = InstitutionId::new(1);
        let status = || async { served.client.status(first).await.unwrap() };
        let forgotten = tokio::time::timeout(BOUND, async {
            while status().await.grants > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        forgotten.await.expect("the block's revocation is seen");
        assert!(path.exists());
        fs::remove_dir(&path).unwrap();
        fs::write(&path, &package.grant).unwrap();
        let gone = tokio::time::timeout(BOUND, async {
            while path.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        gone.await.expect("a later block removes the file");
    });
}

/// Revokes by this key, and waits until it is final.
async fn revoke(served: &Served, revocation: &SigningKey) {
    let revoked = Revocation::sign(&served.hospitals.consortium, revocation);
    let revoked = Transaction::Revocation(revoked);
    served.client.submit(&revoked, BOUND).await.unwrap();
}

/// Bytes to look for in files.
struct Needles {
    /// By their first eight bytes.
    by_start: BTreeMap<[u8; 8], Vec<Vec<u8>>>,
    /// Whether any begins with these two.
    starts: Vec<bool>,
}

impl Needles {
    fn new(needles: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut by_start: BTreeMap<[u8; 8], Vec<Vec<u8>>> = BTreeMap::new();
        let mut starts = vec![false; 1 << 16];
        for needle in needles {
            assert!(needle.len() >= 32, "no match by chance");
            let start: [u8; 8] = needle[..8].try_into().unwrap();
            starts[usize::from(u16::from_be_bytes([start[0], start[1]]))] = true;
            by_start.entry(start).or_default().push(needle);
        }
        Self { by_start, starts }
    }

    /// How many of them are in these bytes.
    fn found_in(&self, bytes: &[u8]) -> usize {
        let mut found = BTreeSet::new();
        for (at, window) in bytes.windows(8).enumerate() {
            let two = usize::from(u16::from_be_bytes([window[0], window[1]]));
            if !self.starts[two] {
                continue;
            }
            for needle in self.by_start.get(window).into_iter().flatten() {
                if bytes[at..].starts_with(needle) {
                    found.insert(needle);
                }
            }
        }
        found.len()
    }

    /// The files of a folder, at any depth, that hold any of them.
    fn files_in(&self, folder: &Path) -> Vec<PathBuf> {
        let mut with = Vec::new();
        for (path, bytes) in files(folder) {
            if self.found_in(&bytes) > 0 {
                with.push(path);
            }
        }
        with.sort();
        with
    }

    fn count(&self) -> usize {
        self.by_start.values().map(Vec::len).sum()
    }
}

/// All files of a folder, at any depth, with what is in them. The engine may remove one meanwhile.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            found.push((path, bytes));
        }
    }
    found
}

/// A node's HPKE key of the first validator epoch.
fn first_key(served: &Served, place: usize) -> Option<HpkePrivateKey> {
    let keys = served.hpke_keys(place).all().unwrap();
    let first = ValidatorEpoch::new(0);
    let found = keys.into_iter().find(|(epoch, _)| *epoch == first);
    found.map(|(_, key)| key)
}

/// What must be in no backup: the bytes from which the nodes' HPKE keys are derived.
fn key_seeds(root: &Path) -> Needles {
    let folders = (0..3).map(|place| root.join(format!("hpke-keys-{place}")));
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
    let seeds: Vec<_> = files
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(seeds.len() >= 3 && seeds.iter().all(|seed| seed.len() == 32));
    Needles::new(seeds)
}

/// What must be in no file but the grant's own: each 32 bytes of it that the chain does not say.
fn sealed_slices(served: &Served, package: &GrantPackage) -> Needles {
    let entry = &package.entry;
    let genesis = &served.hospitals.genesis;
    let mut public: Vec<[u8; 32]> = entry
        .access_keys
        .iter()
        .map(|key| *key.as_bytes())
        .collect();
    public.extend([
        *entry.revocation_key.as_bytes(),
        *served.hospitals.consortium.as_bytes(),
        *genesis.centre.as_bytes(),
    ]);
    for (place, institution) in genesis.institutions.iter().enumerate() {
        public.extend([*institution.key.as_bytes(), *institution.node.as_bytes()]);
        let sealed_to = first_key(served, place).map(|key| *key.public_key().as_bytes());
        public.extend(sealed_to);
    }
    let grant = &package.grant;
    let said: Vec<usize> = (0..grant.len())
        .filter(|at| public.iter().any(|one| grant[*at..].starts_with(one)))
        .collect();
    let slices = (0..grant.len() / 32).map(|place| place * 32);
    let slices = slices.filter(|at| said.iter().all(|said| said.abs_diff(*at) >= 32));
    let needles = Needles::new(slices.map(|at| grant[at..at + 32].to_vec()));
    assert!(
        needles.count() > grant.len() / 32 / 2,
        "most of it is sealed"
    );
    needles
}

/// What must be in no file at all: shares, trapdoors and log key as they are when they are unsealed.
fn unsealed(served: &Served, package: &GrantPackage) -> Needles {
    let here = &served.hospitals.consortium;
    let grant = Grant::decode(here, &package.grant).unwrap();
    let grant = grant.verify(here).unwrap();
    let mut secrets = Vec::new();
    for place in 0..3 {
        let number = NodeNumber::new(place as u8 + 1).unwrap();
        let key = first_key(served, place).expect("an accounting node has one");
        let part = grant.open_node_part(here, number, &key).unwrap();
        secrets.extend(
            part.shares
                .iter()
                .map(|share| share.expose_bytes().to_vec()),
        );
        let trapdoors = part.reach.trapdoors.iter();
        secrets.extend(trapdoors.map(|one| one.trapdoor.expose_bytes().to_vec()));
        secrets.push(part.log_key.expose_bytes().to_vec());
    }
    assert!(secrets.len() >= 9);
    Needles::new(secrets)
}

/// The whole disk of all nodes and all blocks that they serve: the grant is in one file of each
/// accounting node if it runs and in none otherwise, and in no block.
async fn look_everywhere(served: &Served, root: &Path, package: &GrantPackage, runs: bool) {
    let sealed = sealed_slices(served, package);
    let gid = GrantId::of(&served.hospitals.consortium, &package.entry.revocation_key);
    let own = (0..3).map(|place| {
        let folder = served.grants_folder(place);
        folder.join(hex::encode(gid.as_bytes()))
    });
    let own: Vec<PathBuf> = if runs { own.collect() } else { Vec::new() };
    assert_eq!(sealed.files_in(root), own);
    assert_eq!(unsealed(served, package).files_in(root), [] as [PathBuf; 0]);
    let http = reqwest::Client::new();
    let base = &served.bases[&InstitutionId::new(1)];
    let height = served.client.height().await.unwrap().number();
    served.all_reach(height).await;
    for height in 0..=height {
        let path = format!("{base}/v1/blocks?height={height}");
        let block = http.get(path).send().await.unwrap();
        assert!(block.status().is_success());
        assert_eq!(sealed.found_in(&block.bytes().await.unwrap()), 0);
    }
}

/// Waits until no accounting node has a grant's file.
async fn all_files_are_gone(served: &Served) {
    let gone = tokio::time::timeout(BOUND, async {
        while (0..3).any(|place| !served.grants(place).list().unwrap().is_empty()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    gone.await.expect("each node removes it");
}

/// A backup of the nodes as `docs/operations.md` says: everything but the grants and the HPKE keys, with
/// the nodes stopped.
fn back_up(folder: &Path, to: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("grants") || name.starts_with("hpke-keys") {
            continue;
        }
        let to = to.join(name);
        if path.is_dir() {
            fs::create_dir(&to).unwrap();
            back_up(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// Shares and trapdoors are in the grant's own file, sealed, while it runs; in no backup; and after
/// revocation or expiry in no file at all.
#[test]
fn a_grant_is_in_one_file_while_it_runs_and_then_in_none() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let revocation = SigningKey::from_seed([9; 32]);
    let (package, slices, entry) = with_nodes_in(root, |served| async move {
        announced(&served).await;
        registered(&served).await;
        let revocation = SigningKey::from_seed([9; 32]);
        let package = package(&served, &revocation).await;
        served.client.give(&package, 3, BOUND).await.unwrap();
        look_everywhere(&served, root, &package, true).await;
        let slices = sealed_slices(&served, &package);
        let secrets = unsealed(&served, &package);
        let digest = package.entry.grant.as_bytes().to_vec();
        (package, (slices, secrets), Needles::new([digest]))
    });

    let backup = tempfile::tempdir().unwrap();
    back_up(root, backup.path());
    assert_eq!(slices.0.files_in(backup.path()), [] as [PathBuf; 0]);
    assert_eq!(slices.1.files_in(backup.path()), [] as [PathBuf; 0]);
    let seeds = key_seeds(root);
    assert_eq!(seeds.files_in(backup.path()), [] as [PathBuf; 0]);
    // Each key is in its own file and nowhere else.
    assert_eq!(seeds.files_in(root).len(), seeds.count());
    // What the chain does say of the grant is there: the search sees into the store's files.
    assert!(!entry.files_in(backup.path()).is_empty());

    let expired = with_nodes_in(root, |served| async move {
        let first = InstitutionId::new(1);
        assert_eq!(served.client.status(first).await.unwrap().grants, 1);
        look_everywhere(&served, root, &package, true).await;
        revoke(&served, &revocation).await;
        all_files_are_gone(&served).await;
        look_everywhere(&served, root, &package, false).await;

        let access = SigningKey::from_seed([10; 32]);
        let revocation = SigningKey::from_seed([11; 32]);
        let expiring = package_for(&served, &revocation, &access, SHORT_MS).await;
        served.client.give(&expiring, 3, BOUND).await.unwrap();
        let held = (0..3).map(|place| served.grants(place).list().unwrap().len());
        assert_eq!(held.sum::<usize>(), 3, "it runs");
        all_files_are_gone(&served).await;
        look_everywhere(&served, root, &expiring, false).await;
        (
            sealed_slices(&served, &expiring),
            unsealed(&served, &expiring),
        )
    });
    // Nor does stopping the nodes write anything of them.
    for needles in [&slices.0, &slices.1, &expired.0, &expired.1] {
        assert_eq!(needles.files_in(root), [] as [PathBuf; 0]);
    }
}

fn service_client(served: &Served, node: u32) -> ServiceClient {
    let id = InstitutionId::new(node);
    let endpoint = Endpoint::new(ServiceName::Node(id), &served.bases[&id], None, None);
    ServiceClient::new(served.hospitals.consortium, endpoint.unwrap())
}

fn event_path(keys: &[&SigningKey]) -> String {
    let keys: Vec<String> = keys
        .iter()
        .map(|key| hex::encode(key.verifying_key().as_bytes()))
        .collect();
    format!("/v1/grants/events?access_keys={}", keys.join(","))
}

/// Each thing that becomes of a grant is told in one stream, in order and once, at an accounting node
/// and at one that holds no grants alike; then the stream ends.
#[test]
fn a_node_tells_who_listens_what_becomes_of_a_grant() {
    with_nodes(|served| async move {
        announced(&served).await;
        registered(&served).await;
        let (first, second) = (
            SigningKey::from_seed([0x31; 32]),
            SigningKey::from_seed([0x32; 32]),
        );
        let path = event_path(&[&first, &second]);
        let mut streams = Vec::new();
        for node in [1, 4] {
            streams.push(service_client(&served, node).events(&path).await.unwrap());
        }
        let here = &served.hospitals.consortium;
        let mut heights = vec![0; streams.len()];
        let mut told = async |access: &SigningKey, revocation: &SigningKey, standing| {
            for (stream, height) in streams.iter_mut().zip(&mut heights) {
                let event = tokio::time::timeout(BOUND, stream.next()).await;
                let event = event.expect("it is told").unwrap().unwrap();
                assert_eq!(event.name, "grant");
                let event: GrantEvent = serde_json::from_str(&event.data).unwrap();
                let gid = GrantId::of(here, &revocation.verifying_key());
                assert_eq!(event.access_key.0, *access.verifying_key().as_bytes());
                assert_eq!(event.gid.0, *gid.as_bytes());
                assert_eq!(event.standing, standing);
                assert!(event.height > *height);
                *height = event.height;
            }
        };
        let revocation = SigningKey::from_seed([0x33; 32]);
        let package = package_for(&served, &revocation, &first, HOUR_MS).await;
        served.client.give(&package, 2, BOUND).await.unwrap();
        told(&first, &revocation, GrantStanding::Recorded).await;
        revoke(&served, &revocation).await;
        told(&first, &revocation, GrantStanding::Revoked).await;
        let ending = SigningKey::from_seed([0x34; 32]);
        let short = package_for(&served, &ending, &second, SHORT_MS).await;
        served.client.give(&short, 2, BOUND).await.unwrap();
        told(&second, &ending, GrantStanding::Recorded).await;
        told(&second, &ending, GrantStanding::Expired).await;
        for mut stream in streams {
            let end = tokio::time::timeout(BOUND, stream.next()).await;
            assert!(end.expect("it ends when all are over").is_none());
        }
        // Who comes later hears how they stand.
        served.all_reach(heights.into_iter().max().unwrap()).await;
        let stream = service_client(&served, 2).events(&path).await.unwrap();
        let late = stream.collect::<Vec<_>>().await;
        assert_eq!(late.len(), 2);
        for wrong in ["/v1/grants/events", "/v1/grants/events?access_keys=00"] {
            let refused = service_client(&served, 1).events(wrong).await;
            let Err(ClientError::Refused(problem)) = refused.map(|_| ()) else {
                panic!("{wrong} is taken");
            };
            assert_eq!(problem.status(), 400);
        }
    });
}

/// A node that says of every key what is not so, in a stream that is well-formed.
async fn liar(keys: &[&SigningKey]) -> String {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap();
    let mut lies = String::from("event: grant\ndata: no event\n\n");
    for key in keys {
        for standing in [GrantStanding::Revoked, GrantStanding::Expired] {
            let event = GrantEvent {
                access_key: Hex(*key.verifying_key().as_bytes()),
                gid: Hex([0xee; 32]),
                standing,
                height: u64::MAX,
            };
            let event = serde_json::to_string(&event).unwrap();
            lies += &format!("event: grant\ndata: {event}\n\n");
        }
    }
    let events = get(async move || ([(CONTENT_TYPE, "text/event-stream")], lies.clone()));
    let router = Router::new().route("/v1/grants/events", events);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// The doctor's client is told what f + 1 nodes say, once each; with one liar among those it listens
/// to, and also if it listens to liars alone and has to ask.
#[test]
fn a_doctor_follows_a_grant_and_believes_no_single_node() {
    with_nodes(|served| async move {
        announced(&served).await;
        registered(&served).await;
        // f + 1 nodes are listened to, from the one on that the first key's first byte names: nodes 1
        // and 2.
        let access = (0u8..)
            .map(|seed| SigningKey::from_seed([seed; 32]))
            .find(|key| key.verifying_key().as_bytes()[0] % 4 == 0)
            .unwrap();
        let key = access.verifying_key();
        let keys = [key];
        let with_liars = |bases: &[(u32, String)]| {
            let mut all = served.bases.clone();
            all.extend(
                bases
                    .iter()
                    .map(|(node, base)| (InstitutionId::new(*node), base.clone())),
            );
            ConsortiumClient::on_loopback(&served.hospitals.genesis, &all).unwrap()
        };
        let one_liar = with_liars(&[(1, liar(&[&access]).await)]);
        let liars = with_liars(&[(1, liar(&[&access]).await), (2, liar(&[&access]).await)]);
        let clients = [&served.client, &one_liar, &liars];

        // Of what is not on the chain nothing is told, whatever is said.
        for client in clients {
            let silence = client.follow_grants(&keys, Duration::from_secs(1), |found| {
                panic!("nothing is on the chain: {found:?}")
            });
            silence.await.unwrap();
        }

        let told: [Mutex<Vec<FollowedGrant>>; 3] = Default::default();
        let follow = |place: usize| {
            let told = &told[place];
            clients[place].follow_grants(&keys, 2 * BOUND, move |found| {
                told.lock().unwrap().push(found);
                ControlFlow::Continue(())
            })
        };
        let all_heard = async |count: usize| {
            let heard = tokio::time::timeout(BOUND, async {
                while told.iter().any(|told| told.lock().unwrap().len() < count) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
            heard.await.expect("each client is told");
        };
        let revocation = SigningKey::from_seed([0x41; 32]);
        let story = async {
            let package = package_for(&served, &revocation, &access, HOUR_MS).await;
            served.client.give(&package, 2, BOUND).await.unwrap();
            all_heard(1).await;
            revoke(&served, &revocation).await;
            all_heard(2).await;
        };
        // Each ends by itself when the grant is over.
        let (one, two, three, ()) = tokio::join!(follow(0), follow(1), follow(2), story);
        for ended in [one, two, three] {
            ended.unwrap();
        }
        let gid = GrantId::of(&served.hospitals.consortium, &revocation.verifying_key());
        for told in &told {
            let told = told.lock().unwrap();
            let standings: Vec<_> = told.iter().map(|found| found.standing).collect();
            assert_eq!(standings, [GrantStanding::Recorded, GrantStanding::Revoked]);
            assert!(
                told.iter()
                    .all(|found| found.grant.gid == gid && found.access_key == key)
            );
        }
        // With nobody to agree there is an error.
        let alone = BTreeMap::from([(InstitutionId::new(1), liar(&[&access]).await)]);
        let alone = ConsortiumClient::on_loopback(&served.hospitals.genesis, &alone).unwrap();
        let take = |_| ControlFlow::Continue(());
        let failed = alone.follow_grants(&keys, Duration::from_millis(500), take);
        assert!(failed.await.is_err());
    });
}
