//! The founders' nodes of a development consortium, each asked by itself.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use client::{ConsortiumClient, Founding, ServiceClient, ServiceName};
use ledger::{LeaderRotation, LeaderView};
use serde_json::Value;

/// Within which the chain, or a node that starts again, has to come to something.
const BOUND: Duration = Duration::from_secs(120);

pub const HOSPITALS: [u32; 4] = [1, 2, 3, 4];

/// Every node by itself.
pub struct Nodes {
    runtime: tokio::runtime::Runtime,
    founding: Founding,
    all: ConsortiumClient,
    each: BTreeMap<u32, ServiceClient>,
}

impl Nodes {
    pub fn of(founding: &Path) -> Self {
        let founding = Founding::open(founding).unwrap();
        let institutions = founding.genesis.institutions.iter();
        let each = institutions.map(|institution| {
            let node = ServiceName::Node(institution.id);
            let endpoint = founding.directory.endpoint(node, None).unwrap();
            let client = ServiceClient::new(founding.consortium(), endpoint);
            (institution.id.number(), client)
        });
        let each = each.collect();
        Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            all: ConsortiumClient::of(&founding, None).unwrap(),
            founding,
            each,
        }
    }

    /// The institutions whose nodes they are.
    pub fn numbers(&self) -> Vec<u32> {
        self.each.keys().copied().collect()
    }

    /// What a node says; none while it does not answer.
    pub fn get(&self, number: u32, path: &str) -> Option<Vec<u8>> {
        let asked = self.each[&number].get_bytes(path);
        let bounded = async { tokio::time::timeout(Duration::from_secs(2), asked).await };
        Some(self.runtime.block_on(bounded).ok()?.ok()?.to_vec())
    }

    pub fn status(&self, number: u32) -> Option<Value> {
        serde_json::from_slice(&self.get(number, "/v1/status")?).ok()
    }

    pub fn height(&self, number: u32) -> Option<u64> {
        self.status(number)?["height"].as_u64()
    }

    pub fn highest(&self) -> u64 {
        let heights = self.each.keys().filter_map(|number| self.height(*number));
        heights.max().unwrap()
    }

    /// Who leads the view after that of the last block.
    pub fn leader(&self) -> u32 {
        let headers = self.runtime.block_on(async {
            let height = self.all.height().await.unwrap();
            self.all.headers(height).await.unwrap()
        });
        let next = LeaderView::new(headers.last().unwrap().view.number() + 1);
        let rotation = LeaderRotation::new(
            &self.all.nodes(),
            self.founding.genesis.settings.leader_term,
        );
        rotation.leader(next).institution.number()
    }

    /// Waits until every node is as far as the highest, and looks for each transaction on each.
    pub fn all_have(&self, ids: &[String]) {
        let target = self.highest();
        let reached = |number: &u32| self.height(*number).is_some_and(|height| height >= target);
        until("all have every block", || self.each.keys().all(reached));
        for number in self.each.keys() {
            for id in ids {
                let proof = self.get(*number, &format!("/v1/proofs/{id}"));
                assert!(proof.is_some(), "{id} is not on the node of {number}");
            }
        }
    }
}

/// Waits within a bound.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
