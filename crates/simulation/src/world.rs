//! The simulated consortium as its users meet it: transactions go to nodes that run, questions to
//! all of them, and what f + 1 say alike is believed.

use std::collections::BTreeMap;
use std::time::Duration;

use chain::{NodeHandle, SimulatedNode, Simulation, Submitter};
use ledger::testing::FourHospitals;
use ledger::{Height, NodeSet, Receipt, ReceiptCollector, Transaction, TransactionId};
use parties::{AccountingNode, FinalChain, Question, Reply, ReplyCollector, answer_at};
use rand_chacha::ChaCha20Rng;
use scheme::{ConsortiumId, GrantId, HpkePrivateKey, InstitutionId, Timestamp, ValidatorEpoch};
use services::NodeChain;

use crate::referral::ReferralError;

/// How long a client waits at one node before it goes to the next.
const PATIENCE: Duration = Duration::from_secs(2);
/// After so many rounds over all nodes a transaction counts as lost: 2 minutes of simulated time,
/// twenty leader time-outs.
const ROUNDS: usize = 15;

/// Four hospitals on a simulation, their grants, and which of them run.
pub(crate) struct World<'a> {
    pub(crate) simulation: Simulation,
    pub(crate) hospitals: &'a FourHospitals,
    pub(crate) consortium: ConsortiumId,
    pub(crate) set: NodeSet,
    /// The accounting nodes that run, by their place.
    pub(crate) accounting: BTreeMap<usize, AccountingNode>,
    /// What each accounting node's grant files hold: they survive a crash.
    files: BTreeMap<usize, BTreeMap<GrantId, Vec<u8>>>,
}

impl<'a> World<'a> {
    pub(crate) async fn start(
        simulation: Simulation,
        hospitals: &'a FourHospitals,
    ) -> Result<Self, ReferralError> {
        let set = hospitals
            .genesis
            .node_set()
            .map_err(|error| ReferralError::Party("founding", error.to_string()))?;
        let mut world = Self {
            simulation,
            hospitals,
            consortium: hospitals.consortium,
            set,
            accounting: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        for place in 0..hospitals.hospitals.len() {
            world.power_on(place).await?;
        }
        let announcements: Vec<Transaction> = world
            .accounting
            .values()
            .filter_map(|node| node.announce(ValidatorEpoch::new(0)))
            .collect();
        for announcement in &announcements {
            world.submit(announcement).await?;
        }
        Ok(world)
    }

    /// Starts a node on what its disks hold, its grants included.
    pub(crate) async fn power_on(&mut self, place: usize) -> Result<(), ReferralError> {
        let started = self.simulation.start(SimulatedNode(place)).await;
        let handle = started.map_err(|error| ReferralError::Party("start", error.to_string()))?;
        let hospital = &self.hospitals.hospitals[place];
        if hospital.institution.tier.role() != ledger::Role::Accounting {
            return Ok(());
        }
        let (id, key) = (hospital.institution.id, hospital.node_key.clone());
        let mut node = AccountingNode::new(self.consortium, id, key)
            .with_hpke_key(ValidatorEpoch::new(0), hpke_key(place));
        let chain = NodeChain::now(&handle);
        for grant in self.files.entry(place).or_default().values() {
            node.restore_grant(grant, &chain)
                .map_err(|error| ReferralError::Party("restore a grant", error.to_string()))?;
        }
        self.accounting.insert(place, node);
        Ok(())
    }

    /// Takes the power from a node in the midst of a commit, of which so many bytes remain: its grants'
    /// files stay, everything in memory goes.
    pub(crate) async fn power_off(&mut self, place: usize, kept_of_unsynced: usize) {
        self.simulation
            .crash_in_commit(SimulatedNode(place), kept_of_unsynced)
            .await;
        self.accounting.remove(&place);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.simulation.now()
    }

    pub(crate) fn handle(&self, place: usize) -> Option<NodeHandle> {
        self.simulation.node(SimulatedNode(place)).cloned()
    }

    pub(crate) fn handles(&self) -> Vec<NodeHandle> {
        self.simulation
            .running()
            .map(|(_, handle)| handle.clone())
            .collect()
    }

    /// Hands a transaction to one node after another until f + 1 receipts are equal.
    pub(crate) async fn submit(
        &self,
        transaction: &Transaction,
    ) -> Result<TransactionId, ReferralError> {
        let id = transaction.id(&self.consortium);
        let bytes = transaction.encode();
        let mut collector = ReceiptCollector::new(self.consortium, id, self.set.clone());
        for round in 0..ROUNDS {
            let handles = self.handles();
            let mut refusals = Vec::new();
            for offset in 0..handles.len() {
                let handle = &handles[(round + offset) % handles.len()];
                match handle.submit(Submitter::new(1), &bytes) {
                    Ok(_) => break,
                    Err(refusal) => refusals.push(refusal.to_string()),
                }
            }
            if refusals.len() == handles.len() {
                return Err(ReferralError::Refused(refusals.swap_remove(0)));
            }
            for handle in &handles {
                let receipt: Result<Receipt, _> = handle.wait_for_receipt(&id, PATIENCE).await;
                if let Ok(receipt) = receipt {
                    let received = collector.receive(receipt);
                    if received
                        .map_err(|error| ReferralError::Party("receipt", error.to_string()))?
                        .is_some()
                    {
                        return Ok(id);
                    }
                }
            }
        }
        Err(ReferralError::Lost(collector.shortfall().to_string()))
    }

    /// The height that f + 1 running nodes have reached.
    pub(crate) fn height(&self) -> Height {
        let mut heights: Vec<Height> = self
            .handles()
            .iter()
            .map(|handle| handle.status().tip.height)
            .collect();
        heights.sort_unstable_by(|one, other| other.cmp(one));
        heights[self.set.quorum().one_correct() - 1]
    }

    /// A question to all running nodes that have reached the height.
    pub(crate) fn ask(&self, question: &Question) -> Result<Reply, ReferralError> {
        let height = self.height();
        let bytes = question.encode();
        let mut collector = ReplyCollector::new(self.consortium, &self.set, bytes.clone());
        for (place, handle) in self.simulation.running() {
            if handle.status().tip.height < height {
                continue;
            }
            let chain = NodeChain::now(handle);
            let told =
                |error: &dyn std::fmt::Display| ReferralError::Party("question", error.to_string());
            let answer = answer_at(chain.view(), question, height).map_err(|error| told(&error))?;
            let header = chain
                .block(height)
                .map_err(|error| told(&error))?
                .ok_or_else(|| told(&"no block"))?
                .header()
                .map_err(|error| told(&error))?;
            let hospital = &self.hospitals.hospitals[place.0];
            let reply = Reply::sign(
                &self.consortium,
                hospital.institution.id,
                &hospital.node_key,
                &bytes,
                height,
                header.state_root,
                answer.encode(),
            );
            collector.add(reply).map_err(|error| told(&error))?;
        }
        let agreed = collector
            .agreed()
            .map_err(|error| ReferralError::Party("question", error.to_string()))?;
        Ok(agreed.clone())
    }

    /// Keeps a grant in a node's files.
    pub(crate) fn keep_grant(&mut self, place: usize, gid: GrantId, grant: &[u8]) {
        self.files
            .entry(place)
            .or_default()
            .insert(gid, grant.to_vec());
    }

    /// Lets every accounting node forget what is over, and removes its files.
    pub(crate) fn forget_ended(&mut self) -> Result<usize, ReferralError> {
        let mut forgotten = 0;
        let handles: Vec<_> = self
            .accounting
            .keys()
            .filter_map(|place| Some((*place, self.handle(*place)?)))
            .collect();
        for (place, handle) in handles {
            let chain = NodeChain::now(&handle);
            let Some(node) = self.accounting.get_mut(&place) else {
                continue;
            };
            let over = node
                .forget_ended(&chain)
                .map_err(|error| ReferralError::Party("forget", error.to_string()))?;
            forgotten += over.len();
            for gid in over {
                self.files.entry(place).or_default().remove(&gid);
            }
        }
        Ok(forgotten)
    }

    /// Waits until every running node is at one height with one state root.
    pub(crate) async fn settle(&self) -> Result<ledger::StateRoot, ReferralError> {
        let target = self
            .handles()
            .iter()
            .map(|handle| handle.status().tip.height)
            .max();
        for _ in 0..1_200 {
            let tips: Vec<_> = self
                .handles()
                .iter()
                .filter_map(|handle| handle.view_at(target?).map(|view| view.tip().state_root))
                .collect();
            if tips.len() == self.handles().len() && tips.windows(2).all(|pair| pair[0] == pair[1])
            {
                return Ok(tips[0]);
            }
            self.simulation.sleep(Duration::from_millis(100)).await;
        }
        Err(ReferralError::Lost(
            "the nodes do not come to one state".to_owned(),
        ))
    }

    pub(crate) fn institution(&self, place: usize) -> InstitutionId {
        self.hospitals.hospitals[place].institution.id
    }
}

/// The node's HPKE key, which its disk would hold.
fn hpke_key(place: usize) -> HpkePrivateKey {
    HpkePrivateKey::random(&mut rng("node's hpke key", place as u64))
}

/// A generator that depends on its use and a number only.
pub(crate) fn rng(purpose: &str, number: u64) -> ChaCha20Rng {
    ledger::testing::rng(purpose, number)
}
