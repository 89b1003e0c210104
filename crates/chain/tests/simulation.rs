//! Four hospitals on a seed: the node code of production on a clock, a network and disks of ours.

use std::time::Duration;

use crate::support::*;
use chain::{
    FaultyNode, FinalBlock, Links, Misdeed, NoReceipt, NodeConfig, NodeHandle, NotSubmitted,
    Offence, SimulatedNode, Simulation, Simulator, Submitted, ViewOutcome,
};
use ledger::{
    CutRule, Height, LeaderRotation, LeaderTerm, ReceiptCollector, StateRoot, TransactionId,
};

const NODES: [SimulatedNode; 4] = [
    SimulatedNode(0),
    SimulatedNode(1),
    SimulatedNode(2),
    SimulatedNode(3),
];

fn simulator(seed: u64, consortium: &Consortium) -> Simulator {
    let keys = consortium.nodes.clone();
    Simulator::new(
        seed,
        consortium.genesis.clone(),
        keys,
        NodeConfig::default(),
    )
}

async fn start_all(simulation: &mut Simulation) {
    for node in NODES {
        simulation.start(node).await.expect("a node starts");
    }
}

/// Hands transactions to every node, with messages lost, one node crashing on the way and coming
/// back on what its disk kept. Returns the last state root.
fn referral_traffic(seed: u64) -> (StateRoot, Height) {
    let consortium = Consortium::of_four();
    simulator(seed, &consortium).run(|mut simulation| async move {
        simulation
            .set_links(Links {
                lost_percent: 5,
                ..Links::default()
            })
            .await;
        start_all(&mut simulation).await;
        let mut submitted = Vec::new();
        for number in 0..40 {
            let node = NODES[number as usize % 4];
            submitted.push(submit(
                &handle(&simulation, node),
                &consortium.transaction(number),
            ));
            simulation.sleep(Duration::from_millis(30)).await;
        }
        reach(&simulation, 3).await;
        // A node that is down takes nothing; the three others go on.
        let kept = (simulation.random() % 4_096) as usize;
        simulation.crash_in_commit(SimulatedNode(1), kept).await;
        for number in 40..60 {
            let node = NODES[[0, 2, 3][number as usize % 3]];
            submitted.push(submit(
                &handle(&simulation, node),
                &consortium.transaction(number),
            ));
            simulation.sleep(Duration::from_millis(30)).await;
        }
        simulation.sleep(Duration::from_secs(10)).await;
        simulation
            .start(SimulatedNode(1))
            .await
            .expect("it starts again");
        for transaction in &submitted {
            final_everywhere(&simulation, transaction).await;
        }
        let highest = simulation
            .running()
            .map(|(_, node)| node.status().tip.height.number())
            .max();
        reach(&simulation, highest.expect("nodes run")).await;
        let skipped = views_ended(&simulation);
        for (_, node) in simulation.running() {
            check_chain(&consortium, node, Some(&skipped));
            assert_eq!(node.status().failure, None);
        }
        // State roots depend on what was recorded in which block; compare at one height.
        let height = Height::new(highest.expect("nodes run"));
        let roots: Vec<_> = simulation
            .running()
            .map(|(_, node)| {
                node.block(height)
                    .expect("readable")
                    .expect("reached")
                    .block
            })
            .map(|block| block.header().state_root)
            .collect();
        assert!(roots.windows(2).all(|pair| pair[0] == pair[1]));
        (roots[0], height)
    })
}

#[test]
fn requests_to_any_node_become_final_everywhere_despite_loss_crash_and_restart() {
    let first = referral_traffic(7);
    assert_eq!(
        referral_traffic(7),
        first,
        "the same seed gives the same state"
    );
}

/// The engine's own files of the others begin above the first blocks by then.
#[test]
fn a_node_with_an_empty_disk_is_given_what_the_others_pruned() {
    let consortium = Consortium::of_four();
    simulator(21, &consortium).run(|mut simulation| async move {
        for node in &NODES[..3] {
            simulation.start(*node).await.expect("a node starts");
        }
        for height in (100..=800).step_by(100) {
            reach(&simulation, height).await;
        }
        let newcomer = NODES[3];
        simulation.start(newcomer).await.expect("a node starts");
        reach(&simulation, 800).await;
        let node = handle(&simulation, newcomer);
        check_chain(&consortium, &node, None);
        assert_eq!(node.status().failure, None);
    });
}

/// Puts a copy of a node's store back that was taken before the given height, and starts the node on it.
async fn put_back(simulation: &mut Simulation, from: u64, to: u64) -> NodeHandle {
    let node = NODES[1];
    reach(simulation, from).await;
    let copy = simulation.disk(node).backup();
    for height in (from..=to).step_by(100) {
        reach(simulation, height).await;
    }
    simulation.crash(node, 0);
    simulation.disk(node).restore(&copy);
    simulation.start(node).await.expect("a node starts")
}

/// The story: the node took the next final block for an invalid one, said that agreement was broken, and
/// stopped.
#[test]
fn a_store_that_was_put_back_gets_what_it_lacks_from_the_engines_files() {
    let consortium = Consortium::of_four();
    simulator(22, &consortium).run(|mut simulation| async move {
        start_all(&mut simulation).await;
        let node = put_back(&mut simulation, 20, 120).await;
        reach(&simulation, 140).await;
        assert_eq!(node.status().failure, None);
        check_chain(&consortium, &node, None);
    });
}

#[test]
fn a_store_that_lacks_more_than_the_engine_has_is_named() {
    let consortium = Consortium::of_four();
    simulator(23, &consortium).run(|mut simulation| async move {
        start_all(&mut simulation).await;
        let node = put_back(&mut simulation, 20, 820).await;
        let failure = node.failed().await;
        assert!(
            failure.why.contains("was put back from an old copy"),
            "{failure:?}"
        );
    });
}

#[test]
fn the_chain_goes_on_without_its_leader() {
    let consortium = Consortium::of_four();
    simulator(11, &consortium).run(|mut simulation| async move {
        start_all(&mut simulation).await;
        reach(&simulation, 2).await;
        // Whoever led the last block leads again after the two others.
        let tip = handle(&simulation, NODES[0]).status().tip.height;
        let block = handle(&simulation, NODES[0])
            .block(tip)
            .expect("readable")
            .expect("the tip");
        let leader = consortium
            .nodes
            .iter()
            .position(|key| key.verifying_key() == block.block.producer())
            .expect("one of the four");
        simulation.crash(SimulatedNode(leader), 0);
        let before = simulation.now();
        let community = handle(&simulation, SimulatedNode(COMMUNITY));
        let transaction = submit(&community, &consortium.transaction(1));
        final_everywhere(&simulation, &transaction).await;
        // Leader timer 3 s, certification timer 6 s: one view is skipped at most before the request
        // finds a leader that lives.
        assert!(simulation.now().number() - before.number() < 10_000);
        let height = community.status().tip.height.number();
        reach(&simulation, height + 12).await;
        let skipped = views_ended(&simulation);
        assert!(
            skipped
                .values()
                .any(|outcome| *outcome == ViewOutcome::Skipped)
        );
        for (_, node) in simulation.running() {
            check_chain(&consortium, node, Some(&skipped));
        }
    });
}

#[test]
fn nothing_with_f_plus_one_receipts_is_lost_when_the_power_fails_everywhere() {
    for seed in 20..26 {
        power_fails_three_times(seed);
    }
}

fn power_fails_three_times(seed: u64) {
    let consortium = Consortium::of_four();
    let mut simulator = simulator(seed, &consortium);
    let mut believed = Vec::new();
    let mut next = 0;
    for _ in 0..3 {
        let submitted: Vec<_> = (next..next + 8)
            .map(|n| consortium.transaction(n))
            .collect();
        next += 8;
        let earlier = believed.clone();
        let now_believed: Vec<TransactionId> = simulator.run(|mut simulation| async move {
            start_all(&mut simulation).await;
            for transaction in &earlier {
                let kept = simulation
                    .running()
                    .filter(|(_, node)| node.receipt(transaction).expect("readable").is_some())
                    .count();
                assert!(
                    kept >= 2,
                    "a transaction with two receipts is on two disks at least"
                );
                final_everywhere(&simulation, transaction).await;
            }
            let mut ids = Vec::new();
            for (number, transaction) in submitted.iter().enumerate() {
                ids.push(submit(&handle(&simulation, NODES[number % 4]), transaction));
            }
            // f + 1 = 2 receipts make the client believe; then the power fails, at the first node in
            // the midst of a commit.
            for id in &ids {
                for node in [NODES[2], NODES[3]] {
                    let node = handle(&simulation, node);
                    let receipt = node.wait_for_receipt(id, Duration::from_secs(60)).await;
                    receipt.expect("final in time");
                }
            }
            simulation.disk(NODES[0]).arm(0, chain::Fault::BeforeSync);
            handle(&simulation, NODES[0]).failed().await;
            ids
        });
        believed.extend(now_believed);
    }
    simulator.run(|mut simulation| async move {
        start_all(&mut simulation).await;
        for transaction in &believed {
            final_everywhere(&simulation, transaction).await;
        }
        let skipped = views_ended(&simulation);
        assert!(skipped.len() < 1_024);
    });
}

#[test]
fn a_failing_disk_stops_its_node_and_costs_nothing_that_was_final() {
    let consortium = Consortium::of_four();
    simulator(5, &consortium).run(|mut simulation| async move {
        start_all(&mut simulation).await;
        reach(&simulation, 2).await;
        let broken = SimulatedNode(2);
        simulation.disk(broken).arm(1, chain::Fault::BeforeSync);
        let why = handle(&simulation, broken).failed().await;
        assert!(why.why.contains("store"), "{why:?}");
        // The story: it went on to say of requests that it keeps them.
        let taken = handle(&simulation, broken).submit(US, &consortium.transaction(8));
        assert!(matches!(taken, Err(NotSubmitted::Stopped(said)) if said == why.why));
        let before = handle(&simulation, broken).status().tip;
        simulation.crash(broken, 13);
        let transaction = submit(&handle(&simulation, NODES[0]), &consortium.transaction(9));
        final_everywhere(&simulation, &transaction).await;
        simulation
            .start(broken)
            .await
            .expect("the torn record is dropped");
        let again = handle(&simulation, broken);
        assert_eq!(again.status().tip.height, before.height);
        final_everywhere(&simulation, &transaction).await;
    });
}

#[test]
fn a_cut_off_node_catches_up_and_handing_in_twice_is_safe() {
    let consortium = Consortium::of_four();
    simulator(3, &consortium).run(|mut simulation| async move {
        start_all(&mut simulation).await;
        let bytes = consortium.transaction(1);
        let id = submit(&handle(&simulation, NODES[3]), &bytes);
        assert_eq!(submit(&handle(&simulation, NODES[0]), &bytes), id);
        simulation.isolate(NODES[0]).await;
        simulation.sleep(Duration::from_secs(30)).await;
        let ahead = handle(&simulation, NODES[1]).status().tip.height;
        assert!(handle(&simulation, NODES[0]).status().tip.height < ahead);
        simulation.set_links(Links::default()).await;
        final_everywhere(&simulation, &id).await;
        let mut positions = std::collections::BTreeSet::new();
        for (_, node) in simulation.running() {
            assert_eq!(
                node.submit(US, &bytes).expect("it is final"),
                Submitted::AlreadyFinal(id),
                "what is final is not taken again"
            );
            positions.insert(
                node.receipt(&id)
                    .expect("readable")
                    .expect("final")
                    .outcome
                    .height,
            );
        }
        assert_eq!(positions.len(), 1, "it stands on the chain once");
    });
}

#[test]
fn what_the_state_refuses_is_refused_with_a_reason() {
    let consortium = Consortium::of_four();
    simulator(2, &consortium).run(|mut simulation| async move {
        start_all(&mut simulation).await;
        let node = handle(&simulation, NODES[3]);
        assert!(node.submit(US, b"no transaction").is_err());
        let mut forged = consortium.transaction(1);
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert!(node.submit(US, &forged).is_err());
        let unknown = TransactionId::new([9; 32]);
        let waited = node
            .wait_for_receipt(&unknown, Duration::from_secs(2))
            .await;
        assert_eq!(waited, Err(NoReceipt::TimedOut));
        assert_eq!(node.status().pool.requests, 0);
    });
}

#[test]
fn without_a_quorum_the_client_is_told_and_handing_in_again_is_safe() {
    let consortium = Consortium::of_four();
    simulator(13, &consortium).run(|mut simulation| async move {
        start_all(&mut simulation).await;
        reach(&simulation, 2).await;
        // Two of four are gone: f is 1, so nothing can become final.
        simulation.crash(NODES[1], 0);
        simulation.crash(NODES[3], 0);
        let bytes = consortium.transaction(1);
        let id = submit(&handle(&simulation, NODES[0]), &bytes);
        let nodes = consortium.genesis.node_set().expect("a node set");
        let mut client = ReceiptCollector::new(consortium.genesis.consortium(), id, nodes);
        for node in [NODES[0], NODES[2]] {
            let node = handle(&simulation, node);
            let waited = node.wait_for_receipt(&id, Duration::from_secs(10)).await;
            assert_eq!(waited, Err(NoReceipt::TimedOut));
        }
        assert_eq!(client.outcome(), None);
        assert_eq!(
            (client.shortfall().equal, client.shortfall().needed),
            (0, 2)
        );

        simulation.start(NODES[1]).await.expect("it starts again");
        simulation.start(NODES[3]).await.expect("it starts again");
        // The same bytes again, to another node: the client cannot know what became of the first.
        assert_eq!(submit(&handle(&simulation, NODES[3]), &bytes), id);
        final_everywhere(&simulation, &id).await;
        for node in [NODES[2], NODES[3]] {
            let receipt = handle(&simulation, node)
                .receipt(&id)
                .expect("readable")
                .expect("final");
            client.receive(receipt).expect("a node's own receipt");
        }
        let believed = client.outcome().expect("f + 1 equal receipts");
        let block = handle(&simulation, NODES[0])
            .block(believed.height)
            .expect("readable");
        let block = block.expect("final here too").block;
        assert_eq!(block.id(), believed.block);
        let times = block.identified().filter(|(found, _)| *found == id).count();
        assert_eq!(times, 1);
    });
}

/// How two of four nodes are away.
#[derive(Debug, Clone, Copy)]
enum Away {
    /// Nobody hears them, and they hear nobody: a network that is cut, a machine that is paused.
    CutOff,
    /// They are killed and start again.
    Killed,
}

/// Two of four are away for a while, three times. How long it took at most until the next block was final
/// once they were back, in leader's time-outs by the simulation's clock.
fn after_a_lost_quorum(seed: u64, how: Away) -> f64 {
    let consortium = Consortium::of_four();
    let timeout = consortium.genesis.settings.leader_timeout.as_millis() as f64;
    simulator(seed, &consortium).run(|mut simulation| async move {
        start_all(&mut simulation).await;
        let mut longest: f64 = 0.0;
        for round in 0..3 {
            let height = handle(&simulation, NODES[0]).status().tip.height.number();
            reach(&simulation, height + 3).await;
            let first = (simulation.random() % 4) as usize;
            let away = [NODES[first], NODES[(first + 1 + round) % 4]];
            for node in away {
                match how {
                    Away::CutOff => simulation.isolate(node).await,
                    Away::Killed => {
                        let kept = (simulation.random() % 4_096) as usize;
                        simulation.crash(node, kept);
                    }
                }
            }
            let seconds = 1 + simulation.random() % 90;
            simulation.sleep(Duration::from_secs(seconds)).await;
            let tips = simulation
                .running()
                .map(|(_, node)| node.status().tip.height.number());
            let lost = tips.max().expect("two run");
            match how {
                Away::CutOff => simulation.set_links(Links::default()).await,
                Away::Killed => {
                    for node in away {
                        simulation.start(node).await.expect("it starts again");
                    }
                }
            }
            let healed = simulation.now();
            reach(&simulation, lost + 1).await;
            let took = simulation.now().number() - healed.number();
            longest = longest.max(took as f64 / timeout);
        }
        longest
    })
}

/// Nodes send their votes to skip again each third of a leader's time-out, and show that they are there
/// before, so that no leader is skipped for having been away. One that was killed after it had voted for a
/// block waits for the certification timer.
#[test]
fn the_chain_goes_on_soon_after_a_lost_quorum_is_back() {
    for (how, timeouts) in [(Away::CutOff, 2.0), (Away::Killed, 2.0)] {
        let took: Vec<_> = (40..48)
            .map(|seed| (seed, after_a_lost_quorum(seed, how)))
            .collect();
        println!("{how:?}, leader's time-outs by seed: {took:.2?}");
        assert!(took.iter().all(|(_, took)| *took <= timeouts), "{how:?}");
    }
}

#[test]
fn a_leader_of_several_views_leads_them_in_a_row() {
    let mut consortium = Consortium::of_four();
    consortium.genesis.settings.leader_term = LeaderTerm::new(3).expect("not 0");
    simulator(17, &consortium).run(|mut simulation| async move {
        start_all(&mut simulation).await;
        reach(&simulation, 12).await;
        let skipped = views_ended(&simulation);
        for (_, node) in simulation.running() {
            check_chain(&consortium, node, Some(&skipped));
        }
        let node = handle(&simulation, NODES[0]);
        let producers: Vec<_> = (1..=12)
            .map(|height| {
                node.block(Height::new(height))
                    .expect("readable")
                    .expect("reached")
            })
            .map(|block| block.block.producer())
            .collect();
        assert!(
            producers
                .chunks(3)
                .all(|term| term.iter().all(|producer| *producer == term[0]))
        );
        assert!(producers[0] != producers[3] && producers[3] != producers[6]);
        assert_eq!(producers[0], producers[9]);
    });
}

/// How many views were skipped so far.
fn skipped(simulation: &Simulation) -> usize {
    let ended = views_ended(simulation);
    let skipped = ended.values().filter(|end| **end == ViewOutcome::Skipped);
    skipped.count()
}

/// Four hospitals whose leaders wait a minute for company, as the paper's does, unless so many
/// transactions wait.
fn waiting_a_minute(count: u32) -> Consortium {
    let mut consortium = Consortium::of_four();
    let settings = &mut consortium.genesis.settings;
    settings.cut = CutRule {
        count,
        wait: Duration::from_secs(60),
    };
    settings.heartbeat = Duration::from_secs(5);
    settings.leader_timeout = Duration::from_secs(75);
    consortium
}

/// The one block that holds all of these and nothing else, and the block before it.
fn block_of(node: &NodeHandle, transactions: &[TransactionId]) -> (FinalBlock, FinalBlock) {
    let block = |height| node.block(height).expect("readable").expect("final");
    let receipt = node.receipt(&transactions[0]).expect("readable");
    let held = block(receipt.expect("final").outcome.height);
    let mut inside: Vec<_> = held.block.identified().map(|(id, _)| id).collect();
    let mut expected = transactions.to_vec();
    inside.sort_unstable();
    expected.sort_unstable();
    assert_eq!(inside, expected);
    let before = block(Height::new(held.block.height().number() - 1));
    (held, before)
}

#[test]
fn a_block_is_cut_by_its_count_long_before_the_wait_is_over() {
    let consortium = waiting_a_minute(8);
    simulator(41, &consortium).run(|mut simulation| async move {
        start_all(&mut simulation).await;
        reach(&simulation, 2).await;
        let skipped_before = skipped(&simulation);
        let mut ids: Vec<_> = (0..7)
            .map(|number| (NODES[number % 4], consortium.transaction(number as u64)))
            .map(|(node, bytes)| submit(&handle(&simulation, node), &bytes))
            .collect();
        // Seven wait for company: beyond two heartbeats there is no block, and nobody skips a view.
        simulation.sleep(Duration::from_secs(12)).await;
        let node = handle(&simulation, NODES[0]);
        let height = node.status().tip.height;
        simulation.sleep(Duration::from_secs(12)).await;
        assert_eq!(node.status().tip.height, height);
        assert_eq!(node.receipt(&ids[0]).expect("readable"), None);

        let eighth = simulation.now();
        ids.push(submit(&node, &consortium.transaction(7)));
        final_everywhere(&simulation, &ids[7]).await;
        let (held, _) = block_of(&node, &ids);
        let after = held.block.time().number() - eighth.number();
        assert!(after < 500, "cut {after} ms after the eighth came");
        assert_eq!(skipped(&simulation), skipped_before);
    });
}

/// The story: a wait at or above the leader timer made every leader be passed over while it waited,
/// so the paper's minute stopped the chain with the first transaction.
#[test]
fn a_block_is_cut_after_the_papers_minute_and_nobody_is_passed_over() {
    let consortium = waiting_a_minute(u32::MAX);
    simulator(42, &consortium).run(|mut simulation| async move {
        start_all(&mut simulation).await;
        reach(&simulation, 2).await;
        let skipped_before = skipped(&simulation);
        let first = simulation.now();
        let mut ids = Vec::new();
        for number in 0..5 {
            let node = handle(&simulation, NODES[number as usize % 4]);
            ids.push(submit(&node, &consortium.transaction(number)));
            simulation.sleep(Duration::from_secs(10)).await;
        }
        for id in &ids {
            final_everywhere(&simulation, id).await;
        }
        let node = handle(&simulation, NODES[3]);
        let (held, before) = block_of(&node, &ids);
        let waited = held.block.time().number() - first.number();
        assert!(
            (60_000..60_500).contains(&waited),
            "cut {waited} ms after the first came"
        );
        // The wait put off the empty blocks of the heartbeat too.
        assert!(before.block.time().number() <= first.number() + 500);
        assert_eq!(skipped(&simulation), skipped_before);
        let ended = views_ended(&simulation);
        for (_, node) in simulation.running() {
            check_chain(&consortium, node, Some(&ended));
        }
    });
}

#[test]
fn a_node_far_behind_catches_up_and_its_vote_counts_again() {
    let consortium = quick();
    simulator(43, &consortium).run(|mut simulation| async move {
        start_all(&mut simulation).await;
        reach(&simulation, 2).await;
        let behind = NODES[COMMUNITY];
        simulation.isolate(behind).await;
        let others = handle(&simulation, NODES[0]);
        while others.status().tip.height.number() < 80 {
            simulation.sleep(Duration::from_secs(1)).await;
        }
        assert!(handle(&simulation, behind).status().tip.height.number() < 10);
        simulation.set_links(Links::default()).await;
        reach(&simulation, 80).await;

        // Three of four have to vote: without one of the others the chain stands or falls with the
        // one that was behind.
        simulation.crash(NODES[1], 0);
        let height = others.status().tip.height.number();
        reach(&simulation, height + 10).await;
        let transaction = submit(&handle(&simulation, behind), &consortium.transaction(1));
        final_everywhere(&simulation, &transaction).await;
    });
}

/// A consortium whose views are short, so that a faulty leader has its turn often.
fn quick() -> Consortium {
    let mut consortium = Consortium::of_four();
    consortium.genesis.settings.heartbeat = Duration::from_millis(200);
    consortium.genesis.settings.leader_timeout = Duration::from_millis(1_500);
    consortium
}

/// Starts all but one, and makes that one faulty in this way.
async fn start_with_faulty(
    simulation: &mut Simulation,
    faulty: SimulatedNode,
    misdeed: Misdeed,
) -> FaultyNode {
    for node in NODES.into_iter().filter(|node| *node != faulty) {
        simulation.start(node).await.expect("a node starts");
    }
    let witness = handle(
        simulation,
        *NODES
            .iter()
            .find(|node| **node != faulty)
            .expect("three others"),
    );
    let started = simulation.start_faulty(faulty, misdeed, &witness).await;
    started.expect("a member")
}

/// Waits until a faulty node has done what it does so often.
async fn until_it_acted(simulation: &Simulation, faulty: &FaultyNode, times: u64) {
    for _ in 0..3_000 {
        if faulty.acts() >= times {
            return;
        }
        simulation.sleep(Duration::from_millis(100)).await;
    }
    panic!("it acted {} times of {times}", faulty.acts());
}

/// The honest nodes have one chain, which goes on and takes transactions.
async fn honest_nodes_agree(consortium: &Consortium, simulation: &Simulation, number: u64) {
    let highest = simulation
        .running()
        .map(|(_, node)| node.status().tip.height);
    let highest = highest.max().expect("three nodes run").number();
    let (_, first) = simulation.running().next().expect("three nodes run");
    let transaction = submit(first, &consortium.transaction(number));
    final_everywhere(simulation, &transaction).await;
    reach(simulation, highest + 3).await;
    let skipped = views_ended(simulation);
    for (_, node) in simulation.running() {
        check_chain(consortium, node, Some(&skipped));
        for height in 1..=highest + 3 {
            let at = |node: &NodeHandle| {
                let block = node.block(Height::new(height)).expect("readable");
                block.expect("reached").block.id()
            };
            assert_eq!(at(node), at(first), "height {height}");
        }
    }
}

#[test]
fn a_leader_that_proposes_two_blocks_splits_nobody_and_is_shown() {
    let consortium = quick();
    simulator(51, &consortium).run(|mut simulation| async move {
        let liar = NODES[1];
        let faulty = start_with_faulty(&mut simulation, liar, Misdeed::Equivocation).await;
        until_it_acted(&simulation, &faulty, 4).await;
        honest_nodes_agree(&consortium, &simulation, 1).await;
        // Its blocks can be voted for: one of two got a quorum in some turn, in another none did.
        let status = handle(&simulation, NODES[0]).status();
        assert!(status.led[liar.0].blocks > 0, "{status:?}");
        let nodes = consortium.genesis.node_set().expect("a node set");
        let rotation = LeaderRotation::new(&nodes, consortium.genesis.settings.leader_term);
        let key = consortium.nodes[liar.0].verifying_key();
        assert!(
            views_ended(&simulation).iter().any(|((_, view), outcome)| {
                *outcome == ViewOutcome::Skipped && rotation.leader(*view).key == key
            }),
            "in a turn no block had a quorum"
        );

        until_it_acted(&simulation, &faulty, 6).await;
        simulation.sleep(Duration::from_secs(1)).await;
        let pieces: Vec<_> = simulation
            .running()
            .flat_map(|(_, node)| node.evidence())
            .collect();
        assert!(!pieces.is_empty(), "who saw both votes keeps both");
        assert!(pieces.iter().all(|piece| piece.node == key));
        assert!(
            pieces
                .iter()
                .any(|piece| piece.offence == Offence::ConflictingPrepare)
        );
        honest_nodes_agree(&consortium, &simulation, 2).await;
    });
}

#[test]
fn a_leader_that_proposes_invalid_blocks_is_passed_over() {
    let consortium = quick();
    simulator(52, &consortium).run(|mut simulation| async move {
        let liar = NODES[2];
        let faulty = start_with_faulty(&mut simulation, liar, Misdeed::InvalidBlock).await;
        until_it_acted(&simulation, &faulty, 5).await;
        honest_nodes_agree(&consortium, &simulation, 1).await;
        for (_, node) in simulation.running() {
            let status = node.status();
            assert_eq!(status.led[liar.0].blocks, 0, "{status:?}");
            assert_eq!(status.failure, None);
        }
        assert!(skipped(&simulation) >= 5);
    });
}

/// Whatever a node sends on any channel, the others go on, and what they stored remains.
#[test]
fn spoilt_messages_on_any_channel_stop_nobody() {
    for channel in 0..6 {
        let consortium = quick();
        simulator(60 + channel as u64, &consortium).run(|mut simulation| async move {
            let faulty = NODES[COMMUNITY];
            let misdeed = Misdeed::Garbage(channel);
            for node in NODES.into_iter().filter(|node| *node != faulty) {
                simulation.start(node).await.expect("a node starts");
            }
            let node = handle(&simulation, NODES[0]);
            let before = submit(&node, &consortium.transaction(1));
            final_everywhere(&simulation, &before).await;
            let receipt = node.receipt(&before).expect("readable").expect("final");

            let faulty = simulation.start_faulty(faulty, misdeed, &node).await;
            let faulty = faulty.expect("a member");
            // Once others block it, what it sends reaches nobody and counts no more.
            simulation.sleep(Duration::from_secs(5)).await;
            assert!(faulty.acts() >= 1, "channel {channel}");
            honest_nodes_agree(&consortium, &simulation, 2).await;
            for (_, node) in simulation.running() {
                let status = node.status();
                assert_eq!(status.failure, None);
                assert_eq!(status.pool.requests, 0);
                let kept = node.receipt(&before).expect("readable").expect("final");
                assert_eq!(kept.outcome, receipt.outcome);
            }
        });
    }
}
