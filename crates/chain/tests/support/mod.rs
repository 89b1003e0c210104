//! A founding document, keys and transactions for the tests of this crate.
#![allow(unreachable_pub, reason = "what the test files of this program share")]

use std::{collections::BTreeMap, time::Duration};

use chain::{EngineCertificates, NodeHandle, SimulatedNode, Simulation, Submitter, ViewOutcome};
use ledger::{
    FinalityProof, Genesis, Height, Institution, InstitutionName, KeyHash, KeyUse, LeaderRotation,
    LeaderView, Registrant, Registration, Settings, Tier, Transaction, TransactionId, UserKey,
};
use scheme::{InstitutionId, SigningKey, Timestamp, ValidatorEpoch, sha256};

pub const US: Submitter = Submitter::new(1);

/// Where the community hospital stands among the four.
pub const COMMUNITY: usize = 3;

/// One tertiary, two secondary and one community hospital.
pub struct Consortium {
    pub genesis: Genesis,
    pub nodes: Vec<SigningKey>,
    pub centre: SigningKey,
}

impl Consortium {
    pub fn of_four() -> Self {
        let key = |role: u8, number: u8| SigningKey::from_seed([role + number; 32]);
        let tiers = [
            Tier::Tertiary,
            Tier::Secondary,
            Tier::Secondary,
            Tier::Community,
        ];
        let nodes: Vec<_> = (1..=4).map(|number| key(10, number)).collect();
        let institutions = (1u8..).zip(tiers).map(|(number, tier)| Institution {
            id: InstitutionId::new(number.into()),
            tier,
            name: InstitutionName::new(&format!("Hospital {number}")).expect("a short name"),
            key: key(20, number).verifying_key(),
            node: nodes[usize::from(number) - 1].verifying_key(),
        });
        let centre = key(30, 0);
        let genesis = Genesis {
            // 2026-01-01T00:00:00Z: nodes on real clocks start only after the founding.
            time: Timestamp::new(1_767_225_600_000),
            centre: centre.verifying_key(),
            institutions: institutions.collect(),
            settings: Settings {
                heartbeat: Duration::from_secs(2),
                epoch_blocks: u32::MAX,
                ..Settings::standard()
            },
        };
        Self {
            genesis,
            nodes,
            centre,
        }
    }

    /// A transaction like no other with another number.
    pub fn transaction(&self, number: u64) -> Vec<u8> {
        let consortium = self.genesis.consortium();
        let keys = vec![UserKey {
            hash: KeyHash::from(sha256(&number.to_be_bytes())),
            usage: KeyUse::Signature,
        }];
        let registration = Registration::sign(&consortium, Registrant::Patient, keys, &self.centre);
        Transaction::Registration(registration).encode()
    }
}

pub fn handle(simulation: &Simulation, node: SimulatedNode) -> NodeHandle {
    simulation.node(node).expect("the node runs").clone()
}

pub fn submit(node: &NodeHandle, transaction: &[u8]) -> TransactionId {
    node.submit(US, transaction)
        .expect("the node takes the transaction")
        .id()
}

/// Waits until all running nodes are at `height` or above.
pub async fn reach(simulation: &Simulation, height: u64) {
    for _ in 0..6_000 {
        if simulation
            .running()
            .all(|(_, node)| node.status().tip.height.number() >= height)
        {
            return;
        }
        simulation.sleep(Duration::from_millis(50)).await;
    }
    let heights: Vec<_> = simulation
        .running()
        .map(|(node, handle)| (node, handle.status()))
        .collect();
    panic!("the chain stands still: {heights:?}");
}

/// Waits until a transaction is final at every running node, and checks that all sign the same.
pub async fn final_everywhere(simulation: &Simulation, transaction: &TransactionId) {
    let mut said = Vec::new();
    for (_, node) in simulation.running() {
        let receipt = node
            .wait_for_receipt(transaction, Duration::from_secs(120))
            .await;
        let receipt = receipt.expect("final in time");
        said.push(receipt.outcome);
    }
    assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "{said:?}");
}

/// Named invariants of a chain as one node stored it, in this test's own arithmetic.
pub fn check_chain(
    consortium: &Consortium,
    node: &NodeHandle,
    skipped: Option<&BTreeMap<(ValidatorEpoch, LeaderView), ViewOutcome>>,
) {
    let view = node.view();
    let of_epoch = |epoch| {
        let nodes = ledger::node_set(view.as_ref(), epoch).expect("readable");
        nodes.expect("decided")
    };
    let tip = node.status().tip;
    let mut parent = node
        .block(Height::new(0))
        .expect("readable")
        .expect("founding block")
        .block;
    let mut led = BTreeMap::new();
    let verifier = EngineCertificates::new(consortium.genesis.settings.leader_term);
    let mut certified = 0;
    for height in 1..=tip.height.number() {
        let block = node
            .block(Height::new(height))
            .expect("readable")
            .expect("no gap");
        let header = *block.block.header();
        let nodes = of_epoch(header.epoch);
        let rotation = LeaderRotation::new(&nodes, consortium.genesis.settings.leader_term);
        // UNBROKEN: each block continues the one before.
        assert_eq!(header.previous, parent.id());
        assert!(header.time > parent.time());
        // FIXED-ORDER: the view's leader made it, and a view without a block has a certificate that
        // it was skipped.
        assert_eq!(header.producer, rotation.leader(header.view).key);
        let term = u64::from(consortium.genesis.settings.leader_term.views());
        let begins = height == 1 || header.epoch != parent.header().epoch;
        let first = if begins {
            term
        } else {
            parent.header().view.number() + 1
        };
        for view in first..header.view.number() {
            // What a node saw of views it forgets when its power fails.
            let Some(skipped) = skipped else {
                continue;
            };
            let outcome = skipped.get(&(header.epoch, LeaderView::new(view)));
            assert_eq!(
                outcome,
                Some(&ViewOutcome::Skipped),
                "view {view} below block {height}"
            );
        }
        // CERTIFIED: what certificate there is proves this block and no other.
        if let Some(certificate) = &block.certificate {
            let proof = FinalityProof::new(header, certificate.to_vec());
            let proved = proof.verify(&consortium.genesis.consortium(), &nodes, &verifier);
            assert_eq!(proved, Ok(&header));
            let other = FinalityProof::new(*parent.header(), certificate.to_vec());
            assert!(
                other
                    .verify(&consortium.genesis.consortium(), &nodes, &verifier)
                    .is_err()
            );
            let mut forged = certificate.to_vec();
            let last = forged.len() - 1;
            forged[last] ^= 1;
            let forged = FinalityProof::new(header, forged);
            assert!(
                forged
                    .verify(&consortium.genesis.consortium(), &nodes, &verifier)
                    .is_err()
            );
            certified += 1;
        }
        // PROVABLE: but for the very last blocks, each can be proved final to someone without a node.
        match node.finality(header.height).expect("readable") {
            Some(finality) => {
                let consortium = consortium.genesis.consortium();
                assert_eq!(finality.verify(&consortium, &nodes, &verifier), Ok(&header));
            }
            None => assert!(header.height.number() + 2 > tip.height.number()),
        }
        // BORDERS: an epoch's last block has a certificate under the epoch's own nodes.
        if consortium.genesis.settings.ends_epoch(header.height) {
            assert!(block.certificate.is_some(), "the last block of an epoch");
        }
        *led.entry(header.producer).or_insert(0u64) += 1;
        parent = block.block;
    }
    let epoch_blocks = u64::from(consortium.genesis.settings.epoch_blocks);
    // One certificate proves the run of blocks below it.
    let run = node.finality_from(Height::new(1)).expect("readable");
    let run = run.expect("some block has a certificate");
    let consortium_id = consortium.genesis.consortium();
    let first = of_epoch(ValidatorEpoch::new(0));
    let run = run
        .verify_run(&consortium_id, &first, &verifier)
        .expect("it stands");
    assert!(
        run.iter()
            .zip(1..)
            .all(|(header, height)| header.height == Height::new(height))
    );
    assert!(
        run.len() as u64 + 2 > tip.height.number().min(256).min(epoch_blocks - 1),
        "{}",
        run.len()
    );
    assert_eq!(tip.block, parent.id());
    assert!(
        certified * 10 >= tip.height.number() * 8,
        "{certified} of {} certified",
        tip.height
    );
    // COMMUNITY-NEVER-LEADS, and the status counts what the chain shows.
    let community = consortium.nodes[COMMUNITY].verifying_key();
    assert_eq!(led.get(&community), None);
    for counted in node.status().led {
        let seat = of_epoch(node.status().epoch);
        let key = seat
            .by_institution(counted.institution)
            .expect("it takes part")
            .key;
        assert_eq!(counted.blocks, led.get(&key).copied().unwrap_or(0));
    }
}

/// How every view ended, put together from all nodes.
pub fn views_ended(simulation: &Simulation) -> BTreeMap<(ValidatorEpoch, LeaderView), ViewOutcome> {
    let mut all = BTreeMap::new();
    for (_, node) in simulation.running() {
        for (view, outcome) in node.views_ended() {
            let known = all.entry(view).or_insert(outcome);
            if outcome == ViewOutcome::Skipped && *known != ViewOutcome::Skipped {
                *known = outcome;
            }
        }
    }
    all
}
