//! A consortium that changes, on a seed: validator epochs of a few blocks, nodes that join, leave, get a
//! new key, were away for several epochs, or lose power about their borders.

use std::{collections::BTreeSet, time::Duration};

use crate::support;
use crate::support::{Consortium, final_everywhere, handle, reach, submit, views_ended};
use chain::{Links, NodeConfig, NodeHandle, SimulatedNode, Simulation, Simulator, Submitter};
use ledger::{
    Height, MembershipChange, StateRoot, Tier, Transaction, TransactionId,
    testing::{FourHospitals, Hospital},
};
use scheme::{InstitutionId, SigningKey, ValidatorEpoch, VerifyingKey};

const FOUNDERS: [SimulatedNode; 4] = [
    SimulatedNode(0),
    SimulatedNode(1),
    SimulatedNode(2),
    SimulatedNode(3),
];
/// The node of the newcomer, or of a founder under its next key.
const FIFTH: SimulatedNode = SimulatedNode(4);

const EPOCH_BLOCKS: u32 = 8;

/// Four hospitals whose epochs have eight blocks, some three a second.
fn hospitals() -> FourHospitals {
    let mut settings = ledger::Settings::standard();
    settings.epoch_blocks = EPOCH_BLOCKS;
    settings.heartbeat = Duration::from_millis(300);
    settings.leader_timeout = Duration::from_millis(1_200);
    settings.clock_drift = Duration::from_millis(500);
    FourHospitals::found(settings)
}

/// As the checks of a chain know it.
fn consortium(hospitals: &FourHospitals) -> Consortium {
    let nodes = hospitals.hospitals.iter();
    Consortium {
        genesis: hospitals.genesis.clone(),
        nodes: nodes.map(|hospital| hospital.node_key.clone()).collect(),
        centre: hospitals.centre.clone(),
    }
}

fn simulator(seed: u64, hospitals: &FourHospitals, fifth: &SigningKey) -> Simulator {
    let mut keys = consortium(hospitals).nodes;
    keys.push(fifth.clone());
    let config = NodeConfig::default();
    Simulator::new(seed, hospitals.genesis.clone(), keys, config)
}

async fn start_founders(simulation: &mut Simulation) {
    for node in FOUNDERS {
        simulation.start(node).await.expect("a founder starts");
    }
}

/// Hands transactions in one after the other, each once the one before is final.
async fn decide(simulation: &Simulation, transactions: Vec<Transaction>) {
    for transaction in transactions {
        let id = submit(&handle(simulation, FOUNDERS[0]), &transaction.encode());
        final_everywhere(simulation, &id).await;
    }
}

/// Waits until all that run are in this epoch or a later one.
async fn reach_epoch(simulation: &Simulation, epoch: u64) {
    reach(simulation, epoch * u64::from(EPOCH_BLOCKS)).await;
}

/// Shows on the chain that a node runs under this key until it has its seat; gives the first epoch in which
/// it has.
async fn take_seat(
    simulation: &Simulation,
    hospitals: &FourHospitals,
    institution: InstitutionId,
    key: &SigningKey,
) -> u64 {
    let node = handle(simulation, FOUNDERS[0]);
    let own = key.verifying_key();
    for _ in 0..300 {
        let epoch = epoch_of(&node);
        let set = ledger::node_set(node.view().as_ref(), ValidatorEpoch::new(epoch));
        if set
            .expect("readable")
            .expect("decided")
            .by_key(&own)
            .is_some()
        {
            return epoch;
        }
        let seat = hospitals.seat(institution, key, ValidatorEpoch::new(epoch + 1));
        // Refused if it stands already, or its epoch begins just now.
        let _ = node.submit(Submitter::new(0), &seat.encode());
        simulation.sleep(Duration::from_millis(200)).await;
    }
    panic!("it takes no seat")
}

fn epoch_of(node: &NodeHandle) -> u64 {
    node.status().epoch.number()
}

/// Whose keys made the final blocks of these epochs.
fn producers(node: &NodeHandle, epochs: std::ops::Range<u64>) -> BTreeSet<VerifyingKey> {
    let first = (epochs.start * u64::from(EPOCH_BLOCKS)).max(1);
    (first..epochs.end * u64::from(EPOCH_BLOCKS))
        .map(|height| {
            let block = node.block(Height::new(height)).expect("readable");
            block.expect("final").block.producer()
        })
        .collect()
}

/// Whether some node saw every view end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Views {
    Seen,
    /// Power failed at all at once, so nobody remembers some.
    Forgotten,
}

/// All that run have one chain that keeps every rule; gives its length and last state root.
async fn check_all(
    simulation: &Simulation,
    hospitals: &FourHospitals,
    views: Views,
) -> (Height, StateRoot) {
    let tips = simulation
        .running()
        .map(|(_, node)| node.status().tip.height.number());
    let highest = tips.max().expect("nodes run");
    reach(simulation, highest).await;
    let (here, ended) = (consortium(hospitals), views_ended(simulation));
    let at = |node: &NodeHandle| {
        let block = node.block(Height::new(highest)).expect("readable");
        let block = block.expect("reached").block;
        (block.id(), block.header().state_root)
    };
    let (_, first) = simulation.running().next().expect("nodes run");
    for (_, node) in simulation.running() {
        let ended = (views == Views::Seen).then_some(&ended);
        support::check_chain(&here, node, ended);
        assert_eq!(at(node), at(first));
        assert_eq!(node.status().failure, None);
    }
    (Height::new(highest), at(first).1)
}

/// A fifth hospital is admitted, comes with an empty disk, votes and leads from the next epoch on, is
/// removed, and never leads again.
fn joins_and_leaves(seed: u64) -> (Height, StateRoot) {
    let hospitals = hospitals();
    let newcomer = hospitals.newcomer(Tier::Secondary);
    let key = newcomer.node_key.clone();
    simulator(seed, &hospitals, &key).run(|mut simulation| async move {
        start_founders(&mut simulation).await;
        reach_epoch(&simulation, 2).await;
        decide(&simulation, hospitals.admission(&newcomer, &[1, 2, 3])).await;
        let fifth = simulation
            .start(FIFTH)
            .await
            .expect("it starts on an empty disk");
        let admitted = epoch_of(&handle(&simulation, FOUNDERS[0]));
        let seated = take_seat(&simulation, &hospitals, newcomer.institution.id, &key).await;
        assert!(seated > admitted);
        reach_epoch(&simulation, seated + 2).await;
        let node = key.verifying_key();
        assert!(!producers(&fifth, 0..seated).contains(&node));
        assert!(
            producers(&fifth, seated..seated + 2).contains(&node),
            "it leads"
        );

        // With it, one of the founders can be away: f is 1 of 5 as it was of 4.
        simulation.crash(FOUNDERS[2], 0);
        let id = submit(&fifth, &hospitals.patient(1).encode());
        final_everywhere(&simulation, &id).await;
        simulation
            .start(FOUNDERS[2])
            .await
            .expect("it starts again");

        let removal = MembershipChange::Remove(newcomer.institution.id);
        decide(&simulation, hospitals.decision(removal, &[1, 2, 3, 4])).await;
        let removed = epoch_of(&handle(&simulation, FOUNDERS[0]));
        reach_epoch(&simulation, removed + 3).await;
        let tertiary = handle(&simulation, FOUNDERS[0]);
        assert!(!producers(&tertiary, removed + 1..removed + 3).contains(&node));
        assert_eq!(
            fifth.status().failure,
            None,
            "it may follow as long as it is let"
        );
        check_all(&simulation, &hospitals, Views::Seen).await
    })
}

#[test]
fn a_fifth_hospital_joins_leads_and_leaves() {
    let first = joins_and_leaves(1);
    assert_eq!(
        joins_and_leaves(1),
        first,
        "the same seed gives the same state"
    );
}

/// An observer has every block, and no vote of its is in any certificate.
#[test]
fn an_observer_follows_and_never_votes() {
    let hospitals = hospitals();
    let regulator = hospitals.newcomer(Tier::Observer);
    let key = regulator.node_key.clone();
    simulator(2, &hospitals, &key).run(|mut simulation| async move {
        start_founders(&mut simulation).await;
        decide(&simulation, hospitals.admission(&regulator, &[1, 2, 3])).await;
        let observer = simulation.start(FIFTH).await.expect("it starts");
        reach_epoch(&simulation, 3).await;
        // Without it three of four agree; with it and two of them nobody does.
        simulation.crash(FOUNDERS[1], 0);
        let id = submit(&observer, &hospitals.patient(1).encode());
        final_everywhere(&simulation, &id).await;
        simulation.crash(FOUNDERS[2], 0);
        let height = observer.status().tip.height;
        simulation.sleep(Duration::from_secs(20)).await;
        let later = observer.status().tip.height;
        assert!(
            later.number() <= height.number() + 1,
            "two founders and an observer agreed"
        );
        for node in [FOUNDERS[1], FOUNDERS[2]] {
            simulation.start(node).await.expect("it starts again");
        }
        reach_epoch(&simulation, 5).await;
        check_all(&simulation, &hospitals, Views::Seen).await;
    });
}

/// A hospital whose node lost its disk comes back under a new node key, which votes from the next epoch
/// on. The old key signs nothing any more, so no view has two votes of this hospital.
#[test]
fn a_hospital_that_lost_its_disk_comes_back_under_a_new_key() {
    let hospitals = hospitals();
    let (_, next_node) = hospitals.next_keys(2, 1);
    simulator(3, &hospitals, &next_node).run(|mut simulation| async move {
        start_founders(&mut simulation).await;
        reach_epoch(&simulation, 1).await;
        // Its disk is never read again.
        simulation.crash(FOUNDERS[1], 0);
        decide(&simulation, vec![hospitals.succession(2)]).await;
        let again = simulation
            .start(FIFTH)
            .await
            .expect("it starts on an empty disk");
        let second = hospitals.hospital(2).institution.id;
        let seated = take_seat(&simulation, &hospitals, second, &next_node).await;
        reach_epoch(&simulation, seated + 2).await;
        let (old, new) = (
            hospitals.hospital(2).institution.node,
            next_node.verifying_key(),
        );
        let led = producers(&again, seated..seated + 2);
        assert!(led.contains(&new) && !led.contains(&old));
        for (_, node) in simulation.running() {
            assert!(node.evidence().is_empty(), "nobody voted twice");
        }
        check_all(&simulation, &hospitals, Views::Seen).await;
    });
}

/// A node's next key takes over the chain that its folder has and nothing of what the engine kept under the
/// key before; it does not fetch from the founding on, and votes once it has its seat.
#[test]
fn a_nodes_next_key_goes_on_where_its_store_is() {
    let hospitals = hospitals();
    let (_, next_node) = hospitals.next_keys(2, 1);
    simulator(7, &hospitals, &next_node).run(|mut simulation| async move {
        start_founders(&mut simulation).await;
        reach_epoch(&simulation, 4).await;
        decide(&simulation, vec![hospitals.succession(2)]).await;
        let before = handle(&simulation, FOUNDERS[1]).status().tip.height;
        simulation.crash(FOUNDERS[1], 0);
        simulation.take_over(FIFTH, FOUNDERS[1]);
        let again = simulation.start(FIFTH).await.expect("it starts");
        assert!(again.status().tip.height >= before, "it has the chain");
        let second = hospitals.hospital(2).institution.id;
        let seated = take_seat(&simulation, &hospitals, second, &next_node).await;
        reach_epoch(&simulation, seated + 2).await;
        assert!(producers(&again, seated..seated + 2).contains(&next_node.verifying_key()));
        // Its vote counts: with another away all that are left are needed.
        simulation.crash(FOUNDERS[3], 0);
        let id = submit(&again, &hospitals.patient(1).encode());
        final_everywhere(&simulation, &id).await;
        for (_, node) in simulation.running() {
            assert!(node.evidence().is_empty(), "nobody voted twice");
        }
        check_all(&simulation, &hospitals, Views::Forgotten).await;
    });
}

/// Whichever other node falls silent, and whenever, once the next key has its seat: all that are left are
/// needed, and they go on.
fn another_is_silent_beside_a_next_key(seed: u64) {
    let hospitals = hospitals();
    let newcomer = hospitals.newcomer(Tier::Secondary);
    let (_, next_node) = hospitals.next_keys(2, 1);
    let mut keys = consortium(&hospitals).nodes;
    keys.extend([newcomer.node_key.clone(), next_node.clone()]);
    let next = SimulatedNode(5);
    let genesis = hospitals.genesis.clone();
    let mut simulator = Simulator::new(seed, genesis, keys, NodeConfig::default());
    simulator.run(|mut simulation| async move {
        start_founders(&mut simulation).await;
        decide(&simulation, hospitals.admission(&newcomer, &[1, 2, 3])).await;
        simulation.start(FIFTH).await.expect("it starts");
        let key = newcomer.node_key.clone();
        let seated = take_seat(&simulation, &hospitals, newcomer.institution.id, &key).await;
        reach_epoch(&simulation, seated + 1).await;
        decide(&simulation, vec![hospitals.succession(2)]).await;
        simulation.crash(FOUNDERS[1], 0);
        simulation.take_over(next, FOUNDERS[1]);
        let again = simulation.start(next).await.expect("it starts");
        let second = hospitals.hospital(2).institution.id;
        let seated = take_seat(&simulation, &hospitals, second, &next_node).await;
        reach_epoch(&simulation, seated).await;
        for round in 0..4u64 {
            let wait = simulation.random() % 6_000;
            simulation.sleep(Duration::from_millis(wait)).await;
            let others = [FOUNDERS[0], FOUNDERS[2], FOUNDERS[3], FIFTH];
            let silent = others[(simulation.random() % 4) as usize];
            let stopped = simulation.random().is_multiple_of(2);
            match stopped {
                true => simulation.crash(silent, 0),
                false => simulation.isolate(silent).await,
            }
            let before = simulation.now();
            let reached = again.status().tip.height.number();
            let id = submit(&again, &hospitals.patient(round).encode());
            while again.status().tip.height.number() < reached + 6 {
                simulation.sleep(Duration::from_millis(200)).await;
                let waited = simulation.now().number() - before.number();
                assert!(
                    waited < 60_000,
                    "{silent:?} is silent, and nothing is agreed on"
                );
            }
            if stopped {
                simulation.start(silent).await.expect("it starts again");
            } else {
                simulation.set_links(Links::default()).await;
            }
            final_everywhere(&simulation, &id).await;
        }
        for (_, node) in simulation.running() {
            assert!(node.evidence().is_empty(), "nobody voted twice");
        }
    });
}

#[test]
fn the_chain_goes_on_beside_a_next_key_whoever_is_silent() {
    for seed in 80..80 + seeds(4) {
        println!("seed {seed}");
        another_is_silent_beside_a_next_key(seed);
    }
}

/// The story: an operator removed the engine's files to mend a node. It had no memory of its votes, and
/// voted again in views in which it had.
#[test]
fn attack_a_key_that_has_a_seat_does_not_start_without_its_votes() {
    let hospitals = hospitals();
    let spare = hospitals.hospital(2).node_key.clone();
    let own = hospitals.hospital(1).node_key.clone();
    let mut keys = consortium(&hospitals).nodes;
    keys[0] = hospitals.newcomer(Tier::Secondary).node_key;
    keys[1] = spare;
    keys.push(own);
    // The first hospital's node is the last of the simulation, and takes over a store without its votes.
    let first = SimulatedNode(4);
    let mut simulator = Simulator::new(8, hospitals.genesis, keys, NodeConfig::default());
    simulator.run(|mut simulation| async move {
        for node in [FOUNDERS[1], FOUNDERS[2], FOUNDERS[3]] {
            simulation.start(node).await.expect("a founder starts");
        }
        reach(&simulation, 5).await;
        simulation.crash(FOUNDERS[3], 0);
        simulation.take_over(first, FOUNDERS[3]);
        let node = simulation.start(first).await.expect("its parts start");
        let failed = node.failed().await;
        assert!(failed.why.contains("might vote twice"), "{failed:?}");
    });
}

/// A node that missed several epochs, in which another hospital joined, climbs them one by one.
#[test]
fn a_node_that_missed_many_epochs_catches_up() {
    let hospitals = hospitals();
    let newcomer = hospitals.newcomer(Tier::Community);
    let key = newcomer.node_key.clone();
    simulator(4, &hospitals, &key).run(|mut simulation| async move {
        start_founders(&mut simulation).await;
        reach(&simulation, 3).await;
        simulation.crash(FOUNDERS[3], 0);
        decide(&simulation, hospitals.admission(&newcomer, &[1, 2, 3])).await;
        simulation.start(FIFTH).await.expect("it starts");
        let seated = take_seat(&simulation, &hospitals, newcomer.institution.id, &key).await;
        assert!(seated < 6);
        reach_epoch(&simulation, 6).await;
        let away = simulation
            .start(FOUNDERS[3])
            .await
            .expect("it starts again");
        assert_eq!(epoch_of(&away), 0);
        let (before, highest) = (simulation.now(), 6 * u64::from(EPOCH_BLOCKS));
        reach(&simulation, highest).await;
        // Six epochs, each a certificate and some blocks away.
        assert!(simulation.now().number() - before.number() < 10_000);
        let id = submit(&away, &hospitals.patient(1).encode());
        final_everywhere(&simulation, &id).await;
        check_all(&simulation, &hospitals, Views::Seen).await;
    });
}

/// Nodes lose power at random moments about a dozen borders, one or all of them; what two nodes had
/// acknowledged is on every disk in the end, and there is one chain.
fn kills_about_the_borders(seed: u64) {
    let hospitals = hospitals();
    let newcomer: Hospital = hospitals.newcomer(Tier::Secondary);
    simulator(seed, &hospitals, &newcomer.node_key).run(|mut simulation| async move {
        simulation
            .set_links(Links {
                lost_percent: 2,
                ..Links::default()
            })
            .await;
        start_founders(&mut simulation).await;
        let mut acknowledged: Vec<TransactionId> = Vec::new();
        for round in 0..12u64 {
            let target = (round + 1) * u64::from(EPOCH_BLOCKS) - 1 - simulation.random() % 3;
            reach(&simulation, target).await;
            let to = FOUNDERS[(simulation.random() % 4) as usize];
            let id = submit(&handle(&simulation, to), &hospitals.patient(round).encode());
            let mut receipts = 0;
            for node in FOUNDERS {
                let waited = handle(&simulation, node)
                    .wait_for_receipt(&id, Duration::from_millis(simulation.random() % 800))
                    .await;
                receipts += usize::from(waited.is_ok());
            }
            if receipts >= 2 {
                acknowledged.push(id);
            }
            let all = simulation.random().is_multiple_of(4);
            let one = (simulation.random() % 4) as usize;
            let down: Vec<_> = match all {
                true => FOUNDERS.to_vec(),
                false => vec![FOUNDERS[one]],
            };
            for node in &down {
                let kept = (simulation.random() % 4_096) as usize;
                simulation.crash(*node, kept);
            }
            let away = simulation.random() % 4_000;
            simulation.sleep(Duration::from_millis(away)).await;
            for node in down {
                simulation.start(node).await.expect("it starts again");
            }
        }
        for id in &acknowledged {
            final_everywhere(&simulation, id).await;
        }
        assert!(!acknowledged.is_empty());
        check_all(&simulation, &hospitals, Views::Forgotten).await;
    });
}

/// How many seeds are tried: `WILLIS_SEEDS=200` tries so many; a seed that fails is printed.
fn seeds(standard: u64) -> u64 {
    let seeds = std::env::var("WILLIS_SEEDS").ok();
    seeds
        .and_then(|count| count.parse().ok())
        .unwrap_or(standard)
}

#[test]
fn power_fails_about_the_borders() {
    for seed in 60..60 + seeds(4) {
        println!("seed {seed}");
        kills_about_the_borders(seed);
    }
}

/// Nodes of a release that does not know the next rules stop at the border, all at the same block, and say
/// why; those that start again say it too. Whoever installs the release that knows them goes on there.
#[test]
fn a_release_that_does_not_know_the_next_rules_stops_at_the_border() {
    let hospitals = hospitals();
    let spare = SigningKey::from_seed([9; 32]);
    simulator(9, &hospitals, &spare).run(|mut simulation| async move {
        start_founders(&mut simulation).await;
        reach(&simulation, 2).await;
        let rules = MembershipChange::Rules(ledger::RULES_KNOWN + 1);
        decide(&simulation, hospitals.decision(rules, &[1, 2, 3])).await;
        let last = u64::from(EPOCH_BLOCKS) - 1;
        for node in FOUNDERS {
            let node = handle(&simulation, node);
            let why = node.failed().await;
            assert!(why.why.contains("install a later release"), "{why:?}");
            assert_eq!(node.status().tip.height, Height::new(last));
        }
        simulation.crash(FOUNDERS[0], 0);
        let again = simulation.start(FOUNDERS[0]).await;
        let why = again.map(drop).expect_err("the rules are unknown");
        assert!(why.to_string().contains("install a later release"), "{why}");
    });
}

/// The node set of an epoch is the one that the epoch before decided on, at every node alike.
#[test]
fn a_tier_changes_who_leads_with_the_next_epoch() {
    let hospitals = hospitals();
    let spare = SigningKey::from_seed([9; 32]);
    simulator(6, &hospitals, &spare).run(|mut simulation| async move {
        start_founders(&mut simulation).await;
        reach(&simulation, 2).await;
        let community = hospitals.hospital(4).institution.clone();
        let change = MembershipChange::Retier(community.id, Tier::Secondary);
        decide(&simulation, hospitals.decision(change, &[1, 2, 3])).await;
        let decided = epoch_of(&handle(&simulation, FOUNDERS[0]));
        reach_epoch(&simulation, decided + 3).await;
        for (_, node) in simulation.running() {
            assert!(!producers(node, 0..decided + 1).contains(&community.node));
            assert!(producers(node, decided + 1..decided + 3).contains(&community.node));
            let set = ledger::node_set(node.view().as_ref(), ValidatorEpoch::new(decided + 1));
            let set = set.expect("readable").expect("decided");
            assert_eq!(set.accounting().count(), 4);
        }
    });
}
