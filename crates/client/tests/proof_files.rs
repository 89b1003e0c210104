//! Proof files against whoever changes, cuts or exchanges them, and the files that another program checks
//! (`spec/vectors/proofs`). `WILLIS_WRITE=1` writes those anew, from a simulated consortium.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use chain::{NodeConfig, NodeHandle, SimulatedNode, Simulator, Submitter};
use client::{Claim, NotProven, ProofFile, Proved};
use ledger::testing::FourHospitals;
use ledger::{
    FinalityProof, Genesis, GrantState, Height, InclusionProof, Settings, StateProof, Transaction,
    TransactionId,
};
use scheme::{GrantId, SigningKey, ValidatorEpoch};
use serde_json::{Value, json};

/// A grant's life in milliseconds: longer than the simulation.
const LIFE: u64 = 600_000;

/// What a consortium's node gives.
struct World {
    hospitals: FourHospitals,
    files: BTreeMap<&'static str, ProofFile>,
    /// The grant's state after its first access.
    early: (FinalityProof, StateProof),
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let mut settings = Settings::standard();
        settings.heartbeat = Duration::from_millis(500);
        settings.epoch_blocks = 24;
        let hospitals = FourHospitals::found(settings);
        let keys: Vec<SigningKey> = hospitals
            .hospitals
            .iter()
            .map(|hospital| hospital.node_key.clone())
            .collect();
        let mut simulator =
            Simulator::new(5, hospitals.genesis.clone(), keys, NodeConfig::default());
        let here = &hospitals;
        let (files, early) = simulator.run(|mut simulation| async move {
            for number in 0..4 {
                simulation.start(SimulatedNode(number)).await.unwrap();
            }
            let node = simulation.node(SimulatedNode(0)).unwrap().clone();
            for transaction in here.opening() {
                is_final(&node, &transaction).await;
            }
            let record = is_final(&node, &here.record(1, 1)).await;
            is_final(&node, &here.grant(7, LIFE)).await;
            is_final(&node, &here.grant(8, LIFE)).await;
            let gid = gid(here, 7);
            let mut accesses = vec![is_final(&node, &here.access(7, &[(0, 0)])).await];
            let early = state(&node, gid, &simulation).await;
            // Another's between, and the succession by which the nodes change.
            is_final(&node, &here.access(8, &[(0, 0)])).await;
            is_final(&node, &here.succession(4)).await;
            let fourth = here.hospital(4).institution.id;
            let (_, next) = here.next_keys(4, 1);
            loop {
                let epoch = node.status().epoch;
                let set = ledger::node_set(node.view().as_ref(), epoch);
                let seated = set
                    .unwrap()
                    .unwrap()
                    .by_key(&next.verifying_key())
                    .is_some();
                if seated && epoch >= ValidatorEpoch::new(2) {
                    break;
                }
                if !seated {
                    let following = ValidatorEpoch::new(epoch.number() + 1);
                    let seat = here.seat(fourth, &next, following);
                    // Refused if it stands already, or its epoch begins just now.
                    let _ = node.submit(Submitter::new(1), &seat.encode());
                }
                simulation.sleep(Duration::from_millis(200)).await;
            }
            accesses.push(is_final(&node, &here.access(7, &[(1, 0), (0, 1)])).await);
            accesses.push(is_final(&node, &here.access(7, &[(1, 1)])).await);
            is_final(&node, &here.revocation(7)).await;
            let late = is_final(&node, &here.record(2, 2)).await;
            let steps = node.node_set_proofs(ValidatorEpoch::new(0), 16).unwrap();
            assert!(!steps.is_empty(), "the nodes changed");
            let file = |steps: bool, claim| ProofFile {
                consortium: here.consortium,
                node_sets: if steps {
                    node.node_set_proofs(ValidatorEpoch::new(0), 16).unwrap()
                } else {
                    Vec::new()
                },
                claim,
            };
            let (finality, proof) = state(&node, gid, &simulation).await;
            let (at, none) = state(&node, GrantId::new([3; 32]), &simulation).await;
            let mut shown = Vec::new();
            for id in &accesses {
                shown.push(included(&node, id, &simulation).await);
            }
            let record_claim = |id: TransactionId, (finality, inclusion)| Claim::Record {
                id,
                finality,
                inclusion,
            };
            let files = BTreeMap::from([
                (
                    "record",
                    file(false, record_claim(record, in_a_run(&node, &record))),
                ),
                (
                    "later-record",
                    file(
                        true,
                        record_claim(late, included(&node, &late, &simulation).await),
                    ),
                ),
                (
                    "revoked-grant",
                    file(
                        true,
                        Claim::Grant {
                            gid,
                            finality: finality.clone(),
                            state: proof.clone(),
                        },
                    ),
                ),
                (
                    "no-such-grant",
                    file(
                        true,
                        Claim::Grant {
                            gid: GrantId::new([3; 32]),
                            finality: at,
                            state: none,
                        },
                    ),
                ),
                (
                    "access-log",
                    file(
                        true,
                        Claim::AccessLog {
                            gid,
                            finality,
                            state: proof,
                            accesses: shown,
                        },
                    ),
                ),
            ]);
            (files, early)
        });
        World {
            hospitals,
            files,
            early,
        }
    })
}

fn gid(hospitals: &FourHospitals, grant: u64) -> GrantId {
    let key = hospitals.revocation_key(grant).verifying_key();
    GrantId::of(&hospitals.consortium, &key)
}

async fn is_final(node: &NodeHandle, transaction: &Transaction) -> TransactionId {
    let taken = node.submit(Submitter::new(1), &transaction.encode());
    let id = taken.unwrap().id();
    node.wait_for_receipt(&id, Duration::from_secs(60))
        .await
        .unwrap();
    id
}

/// The newest state, at or after all that this node has applied.
async fn state(
    node: &NodeHandle,
    gid: GrantId,
    simulation: &chain::Simulation,
) -> (FinalityProof, StateProof) {
    let tip = node.status().tip.height;
    loop {
        if let Some(proved) = node.proved_view().unwrap()
            && proved.view.tip().height >= tip
        {
            let proof = StateProof::new::<GrantState>(proved.view.as_ref(), &gid).unwrap();
            return (proved.finality, proof);
        }
        simulation.sleep(Duration::from_millis(50)).await;
    }
}

async fn included(
    node: &NodeHandle,
    id: &TransactionId,
    simulation: &chain::Simulation,
) -> (FinalityProof, InclusionProof) {
    let position = ledger::transaction(node.view().as_ref(), *id)
        .unwrap()
        .unwrap();
    let found = node.block(position.height).unwrap().unwrap();
    let inclusion = InclusionProof::new(&found.block, position.index).unwrap();
    loop {
        if let Some(finality) = node.finality(position.height).unwrap() {
            return (finality, inclusion);
        }
        simulation.sleep(Duration::from_millis(50)).await;
    }
}

/// Proved by one certificate together with all blocks after it that the epoch has, as a block without one
/// of its own is.
fn in_a_run(node: &NodeHandle, id: &TransactionId) -> (FinalityProof, InclusionProof) {
    let position = ledger::transaction(node.view().as_ref(), *id)
        .unwrap()
        .unwrap();
    let found = node.block(position.height).unwrap().unwrap();
    let finality = node.finality_from(position.height).unwrap().unwrap();
    assert!(
        finality.encode().len() > 2 * ledger::Header::BYTES,
        "several headers"
    );
    (
        finality,
        InclusionProof::new(&found.block, position.index).unwrap(),
    )
}

/// What a file proves, as the other program says it too.
fn told(proved: &Proved) -> Value {
    let state = |state: &GrantState| {
        json!({
            "grant": hex::encode(state.grant.as_bytes()),
            "not_before": state.not_before.number(),
            "expiry": state.expiry.number(),
            "recorded": state.recorded.height.number(),
            "revoked": state.revoked.map(|moment| moment.height.number()),
            "accesses": state
                .access
                .iter()
                .map(|(key, next)| json!([hex::encode(key.as_bytes()), next.number()]))
                .collect::<Vec<_>>(),
        })
    };
    match proved {
        Proved::Record { id, place, record } => json!({
            "claim": "record",
            "id": hex::encode(id.as_bytes()),
            "height": place.height.number(),
            "time": place.time.number(),
            "digest": hex::encode(record.statement.digest.as_bytes()),
            "author": hex::encode(record.statement.author.as_bytes()),
            "institution": record.statement.institution.number(),
        }),
        Proved::Grant {
            gid,
            as_of,
            state: found,
        } => json!({
            "claim": "grant",
            "gid": hex::encode(gid.as_bytes()),
            "as_of": as_of.height.number(),
            "time": as_of.time.number(),
            "state": found.as_ref().map(state),
        }),
        Proved::AccessLog {
            gid,
            as_of,
            state: found,
            accesses,
        } => json!({
            "claim": "access-log",
            "gid": hex::encode(gid.as_bytes()),
            "as_of": as_of.height.number(),
            "time": as_of.time.number(),
            "state": state(found),
            "accesses": accesses
                .iter()
                .map(|(place, entry)| json!({
                    "height": place.height.number(),
                    "time": place.time.number(),
                    "access_key": hex::encode(entry.access_key.as_bytes()),
                    "number": entry.number.number(),
                    "masked": hex::encode(entry.masked.as_bytes()),
                }))
                .collect::<Vec<_>>(),
        }),
    }
}

/// The transactions of a log, with their proofs.
type Accesses = Vec<(FinalityProof, InclusionProof)>;

/// The log's file with other accesses.
fn log(world: &World, alter: impl FnOnce(&mut Accesses)) -> Vec<u8> {
    let mut file = world.files["access-log"].clone();
    let Claim::AccessLog { accesses, .. } = &mut file.claim else {
        unreachable!()
    };
    alter(accesses);
    file.encode()
}

/// What is wrong with each of these, and its bytes.
fn wrong(world: &World) -> BTreeMap<&'static str, Vec<u8>> {
    let file = |name: &str| world.files[name].clone();
    let bytes = |name: &str| file(name).encode();
    let flipped = |mut bytes: Vec<u8>, at: usize| {
        bytes[at] ^= 1;
        bytes
    };
    let without_steps = |name: &str| {
        let mut file = file(name);
        file.node_sets.clear();
        file.encode()
    };
    let other_consortium = {
        let mut file = file("record");
        file.consortium = FourHospitals::default().consortium;
        file.encode()
    };
    let another_id = {
        let mut file = file("record");
        let Claim::Record { id, .. } = &mut file.claim else {
            unreachable!()
        };
        *id = TransactionId::new([9; 32]);
        file.encode()
    };
    // A header of one block with the proof of another's inclusion.
    let swapped_header = {
        let (mut one, other) = (file("later-record"), file("record"));
        let Claim::Record { finality, .. } = &mut one.claim else {
            unreachable!()
        };
        let Claim::Record {
            finality: taken, ..
        } = other.claim
        else {
            unreachable!()
        };
        *finality = taken;
        one.encode()
    };
    let another_grants_state = {
        let mut file = file("revoked-grant");
        let Claim::Grant { gid, .. } = &mut file.claim else {
            unreachable!()
        };
        *gid = self::gid(&world.hospitals, 8);
        file.encode()
    };
    let denied = {
        let mut file = file("no-such-grant");
        let Claim::Grant { gid, .. } = &mut file.claim else {
            unreachable!()
        };
        *gid = self::gid(&world.hospitals, 7);
        file.encode()
    };
    let older_state = {
        let mut file = file("access-log");
        let Claim::AccessLog {
            finality, state, ..
        } = &mut file.claim
        else {
            unreachable!()
        };
        (*finality, *state) = world.early.clone();
        file.encode()
    };
    // The state of one block after another, which is final as well.
    let state_of_another_block = {
        let mut file = file("revoked-grant");
        let Claim::Grant { state, .. } = &mut file.claim else {
            unreachable!()
        };
        *state = world.early.1.clone();
        file.encode()
    };
    let record = bytes("record");
    let (finality_at, certificate_end) = places(&record);
    BTreeMap::from([
        ("cut-short", record[..record.len() - 1].to_vec()),
        ("bytes-after-the-end", [record.clone(), vec![0]].concat()),
        ("unknown-kind", {
            let mut bytes = record.clone();
            bytes[15] = 9;
            bytes
        }),
        ("of-another-consortium", other_consortium),
        ("another-transactions-id", another_id),
        (
            "header-of-a-run-left-out",
            without_its_second_header(&record, finality_at),
        ),
        (
            "altered-header",
            flipped(record.clone(), finality_at + 2 + 100),
        ),
        (
            "altered-certificate-signature",
            flipped(record.clone(), certificate_end - 1),
        ),
        (
            "altered-transaction",
            flipped(record.clone(), record.len() - 300),
        ),
        ("altered-path", flipped(record.clone(), record.len() - 1)),
        ("step-to-the-nodes-left-out", without_steps("later-record")),
        (
            "step-to-the-nodes-left-out-of-a-log",
            without_steps("access-log"),
        ),
        ("swapped-header", swapped_header),
        ("state-of-another-grant", another_grants_state),
        ("grant-that-stands-denied", denied),
        ("state-of-another-block", state_of_another_block),
        ("log-with-an-older-state", older_state),
        (
            "log-without-its-last-access",
            log(world, |accesses| {
                accesses.pop();
            }),
        ),
        (
            "log-without-its-first-access",
            log(world, |accesses| {
                accesses.remove(0);
            }),
        ),
        (
            "log-without-any-access",
            log(world, |accesses| accesses.clear()),
        ),
        (
            "log-with-an-access-twice",
            log(world, |accesses| {
                let again = accesses[0].clone();
                accesses.insert(1, again);
            }),
        ),
        (
            "log-out-of-order",
            log(world, |accesses| accesses.swap(1, 2)),
        ),
        (
            "log-with-a-record-in-it",
            log(world, |accesses| {
                let Claim::Record {
                    finality,
                    inclusion,
                    ..
                } = world.files["later-record"].claim.clone()
                else {
                    unreachable!()
                };
                accesses.push((finality, inclusion));
            }),
        ),
    ])
}

/// Where the finality proof of a record's file begins, and where its certificate ends, in a file without
/// steps.
fn places(file: &[u8]) -> (usize, usize) {
    let at = 15 + 1 + 32 + 2 + 32;
    let length = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    (at + 4, at + 4 + length)
}

/// The same with one header fewer in its finality proof, and all lengths as they are then.
fn without_its_second_header(file: &[u8], finality_at: usize) -> Vec<u8> {
    let mut bytes = file.to_vec();
    bytes.drain(
        finality_at + 2 + ledger::Header::BYTES..finality_at + 2 + 2 * ledger::Header::BYTES,
    );
    let length = u32::from_be_bytes(file[finality_at - 4..finality_at].try_into().unwrap());
    let length = length - u32::try_from(ledger::Header::BYTES).unwrap();
    bytes[finality_at - 4..finality_at].copy_from_slice(&length.to_be_bytes());
    let count = u16::from_be_bytes(file[finality_at..finality_at + 2].try_into().unwrap()) - 1;
    bytes[finality_at..finality_at + 2].copy_from_slice(&count.to_be_bytes());
    bytes
}

fn check(bytes: &[u8], founding: &Genesis) -> Result<Proved, NotProven> {
    ProofFile::decode(bytes)?.check(founding)
}

#[test]
fn what_a_node_gives_is_proved_from_the_founding_document_alone() {
    let world = world();
    let genesis = &world.hospitals.genesis;
    for (name, file) in &world.files {
        let bytes = file.encode();
        assert_eq!(ProofFile::decode(&bytes).unwrap(), *file, "{name}");
        check(&bytes, genesis).unwrap_or_else(|why| panic!("{name}: {why:?}"));
    }
    let Proved::AccessLog {
        accesses, state, ..
    } = world.files["access-log"].check(genesis).unwrap()
    else {
        panic!("a log")
    };
    assert_eq!(accesses.len(), 4);
    assert!(state.revoked.is_some());
    let Proved::Grant { state, .. } = world.files["no-such-grant"].check(genesis).unwrap() else {
        panic!("a grant")
    };
    assert_eq!(state, None);
}

#[test]
fn attack_present_a_proof_that_was_cut_changed_or_put_together_otherwise() {
    let world = world();
    let genesis = &world.hospitals.genesis;
    for (name, bytes) in wrong(world) {
        let refused = check(&bytes, genesis);
        assert!(refused.is_err(), "{name}: {refused:?}");
    }
    let other = FourHospitals::default();
    for file in world.files.values() {
        let refused = file.check(&other.genesis);
        assert!(matches!(refused, Err(NotProven::OtherConsortium)));
    }
}

/// Every bit counts: no byte of a file can be changed by who passes it on.
#[test]
fn attack_change_any_byte_of_a_proof() {
    let world = world();
    let bytes = world.files["later-record"].encode();
    // Checking costs signatures, so of long parts some bytes.
    for at in (0..bytes.len()).step_by(7) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        let refused = check(&changed, &world.hospitals.genesis);
        assert!(refused.is_err(), "byte {at}");
    }
}

/// An older state is true as of its block, and its file says of which: whoever wants to know of today
/// compares the height with the chain's.
#[test]
fn an_older_state_is_proved_as_of_its_own_block_only() {
    let world = world();
    let (finality, state) = world.early.clone();
    let file = ProofFile {
        consortium: world.hospitals.consortium,
        node_sets: Vec::new(),
        claim: Claim::Grant {
            gid: gid(&world.hospitals, 7),
            finality,
            state,
        },
    };
    let proved = |file: &ProofFile| match file.check(&world.hospitals.genesis).unwrap() {
        Proved::Grant { as_of, state, .. } => (as_of.height, state.unwrap().revoked),
        other => panic!("{other:?}"),
    };
    let (early, revoked) = proved(&file);
    assert_eq!(revoked, None);
    let (late, revoked) = proved(&world.files["revoked-grant"]);
    assert!(revoked.is_some() && early < late && early > Height::new(0));
}

/// What the node of the programmers of another verifier gave: kept, so that files of today are read
/// later, and so that the other implementation checks the same bytes.
#[test]
fn the_kept_files_hold_and_say_what_they_said() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/proofs");
    if std::env::var_os("WILLIS_WRITE").is_some() {
        write(&folder);
    }
    let founding = Genesis::decode(&fs::read(folder.join("founding")).unwrap()).unwrap();
    let mut found = 0;
    for path in files(&folder, "proof") {
        let proved = check(&fs::read(&path).unwrap(), &founding);
        let proved = proved.unwrap_or_else(|why| panic!("{path:?}: {why:?}"));
        let said: Value =
            serde_json::from_slice(&fs::read(path.with_extension("json")).unwrap()).unwrap();
        assert_eq!(told(&proved), said, "{path:?}");
        found += 1;
    }
    assert_eq!(found, 5);
    let refused = files(&folder.join("refused"), "proof");
    for path in &refused {
        let refused = check(&fs::read(path).unwrap(), &founding);
        assert!(refused.is_err(), "{path:?}: {refused:?}");
    }
    assert_eq!(refused.len(), wrong(world()).len());
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

fn write(folder: &Path) {
    let world = world();
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder.join("refused")).unwrap();
    fs::write(folder.join("founding"), world.hospitals.genesis.encode()).unwrap();
    for (name, file) in &world.files {
        let proved = file.check(&world.hospitals.genesis).unwrap();
        fs::write(folder.join(format!("{name}.proof")), file.encode()).unwrap();
        let text = serde_json::to_string_pretty(&told(&proved)).unwrap();
        fs::write(folder.join(format!("{name}.json")), format!("{text}\n")).unwrap();
    }
    for (name, bytes) in wrong(world) {
        fs::write(folder.join("refused").join(format!("{name}.proof")), bytes).unwrap();
    }
}
