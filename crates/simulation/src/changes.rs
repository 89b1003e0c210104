//! A consortium that changes while the referral goes on: a hospital joins and leaves, a node goes on under
//! its next key, and with each validator epoch the nodes have other HPKE keys.

use std::collections::VecDeque;

use chain::{NodeHandle, SimulatedNode, Submitter};
use ledger::testing::FourHospitals;
use ledger::{MembershipChange, NodeSet, Tier, Transaction};
use parties::{AccountingNode, NodeKeyStanding};
use scheme::{InstitutionId, SigningKey, ValidatorEpoch};
use services::NodeChain;

use crate::faults::Change;
use crate::referral::ReferralError;
use crate::world::{World, hpke_key};

/// Where the newcomer's node stands.
const NEWCOMER: usize = 4;
/// Where the node of a founder's next key stands.
const NEXT: usize = 5;
/// How long a step of a change waits before it is handed in again, in ms.
const AGAIN_MS: u64 = 2_000;

/// A node of the simulation, by its place.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) institution: InstitutionId,
    pub(crate) tier: Tier,
    pub(crate) node_key: SigningKey,
}

/// All nodes that can come to run in a run: the founders', and those of its change.
pub(crate) fn members(hospitals: &FourHospitals, change: Option<Change>) -> Vec<Member> {
    let mut members: Vec<Member> = hospitals
        .hospitals
        .iter()
        .map(|hospital| Member {
            institution: hospital.institution.id,
            tier: hospital.institution.tier,
            node_key: hospital.node_key.clone(),
        })
        .collect();
    if change.is_none() {
        return members;
    }
    let newcomer = hospitals.newcomer(Tier::Secondary);
    members.push(Member {
        institution: newcomer.institution.id,
        tier: newcomer.institution.tier,
        node_key: newcomer.node_key,
    });
    let before = match change {
        Some(Change::NextKey(place)) => place,
        _ => 0,
    };
    members.push(Member {
        node_key: hospitals.next_keys(number(before), 1).1,
        ..members[before].clone()
    });
    members
}

/// The number under which test data knows the hospital of a founder's place.
fn number(place: usize) -> u32 {
    u32::try_from(place + 1).unwrap_or(u32::MAX)
}

/// How far a change is.
enum Phase {
    /// These are still to become final, in their order.
    Decide(VecDeque<Transaction>),
    /// The node of this place has to take its seat.
    TakeSeat(usize),
    /// The node of this place has its seat, and keeps it for two epochs.
    Stay(usize, ValidatorEpoch),
    /// The newcomer has to lose its seat.
    Leave,
    /// It is done.
    Done,
}

/// A change while it happens.
pub(crate) struct Changing {
    change: Change,
    /// From when on, in ms since the start.
    at: u64,
    /// Whether the newcomer is on its way out.
    leaves: bool,
    phase: Phase,
    handed_in: u64,
}

impl Changing {
    pub(crate) fn new(change: (u64, Change), hospitals: &FourHospitals) -> Self {
        let (at, change) = change;
        let decided = match change {
            Change::JoinAndLeave => {
                hospitals.admission(&hospitals.newcomer(Tier::Secondary), &[1, 2, 3])
            }
            Change::NextKey(place) => vec![hospitals.succession(number(place))],
        };
        Self {
            change,
            at,
            leaves: false,
            phase: Phase::Decide(decided.into()),
            handed_in: 0,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }
}

impl World<'_> {
    /// The nodes that vote now, as whoever runs and does not lie knows them.
    pub(crate) fn set(&self) -> Result<NodeSet, ReferralError> {
        Ok(self.any()?.1.nodes())
    }

    /// The nodes of a validator epoch.
    pub(crate) fn set_of(&self, epoch: ValidatorEpoch) -> Result<NodeSet, ReferralError> {
        let handle = self.any()?.1;
        ledger::node_set(handle.view().as_ref(), epoch)
            .ok()
            .flatten()
            .ok_or_else(|| ReferralError::Party("nodes", "the epoch is not decided".to_owned()))
    }

    /// The running nodes that vote in this set; others say nothing that counts.
    pub(crate) fn voting(&self, set: &NodeSet) -> Vec<(usize, NodeHandle)> {
        let mut places = self.places();
        places.retain(|(place, _)| {
            let key = self.members[*place].node_key.verifying_key();
            set.by_key(&key).is_some()
        });
        places
    }

    /// Sees to it, as a node does with each block, that its HPKE keys of this validator epoch and the next
    /// stand on the chain.
    pub(crate) fn make_keys(&mut self) -> Result<(), ReferralError> {
        let told = |error: ledger::ReadError| ReferralError::Party("keys", error.to_string());
        let places: Vec<usize> = self.accounting.keys().copied().collect();
        for place in places {
            let (Some(handle), Some(node)) = (self.handle(place), self.accounting.get_mut(&place))
            else {
                continue;
            };
            let chain = NodeChain::now(&handle);
            for epoch in node.needs_keys_of(&chain).map_err(told)? {
                match node.key_standing(epoch, &chain).map_err(told)? {
                    NodeKeyStanding::Announced => continue,
                    NodeKeyStanding::NotAnnounced => {}
                    NodeKeyStanding::NotMade => {
                        let institution = self.members[place].institution;
                        node.add_hpke_key(epoch, hpke_key(institution, epoch));
                        self.keys.entry(institution).or_default().insert(epoch);
                    }
                    NodeKeyStanding::AnotherStands { .. } => {
                        return Err(ReferralError::Broken(format!(
                            "another key of {place} stands than it has"
                        )));
                    }
                }
                if let Some(key) = node.announce(epoch) {
                    // Refused if it became final in between, and handed in again if it is not taken.
                    let _taken = handle.submit(Submitter::new(0), &key.encode());
                }
            }
        }
        Ok(())
    }

    /// Gives a node's part the keys that its disk has.
    pub(crate) fn with_kept_keys(&self, place: usize, mut node: AccountingNode) -> AccountingNode {
        let institution = self.members[place].institution;
        for epoch in self.keys.get(&institution).into_iter().flatten() {
            node.add_hpke_key(*epoch, hpke_key(institution, *epoch));
        }
        node
    }

    /// Whether the nodes are the founders' under their founding keys for the whole run.
    pub(crate) fn is_founding(&self) -> bool {
        self.changing.is_none()
    }

    /// Whether the change of this run has come to its end, if it has one.
    pub(crate) fn has_changed(&self) -> bool {
        self.changing.as_ref().is_none_or(Changing::is_done)
    }

    /// Lets the change go on.
    pub(crate) async fn change(&mut self) -> Result<(), ReferralError> {
        let Some(mut changing) = self.changing.take() else {
            return Ok(());
        };
        if self.faulting.since(self.now()) >= changing.at {
            self.go_on(&mut changing).await?;
        }
        self.changing = Some(changing);
        Ok(())
    }

    async fn go_on(&mut self, changing: &mut Changing) -> Result<(), ReferralError> {
        let now = self.now().number();
        let set = self.set()?;
        match &mut changing.phase {
            Phase::Decide(decisions) => {
                if let Some(next) = decisions.front() {
                    let id = next.id(&self.consortium);
                    let bytes = next.encode();
                    if self.acknowledgement(&id)?.is_some() {
                        decisions.pop_front();
                        changing.handed_in = 0;
                    } else if now >= changing.handed_in + AGAIN_MS {
                        changing.handed_in = now;
                        // Refused where it is final already, and where the one before it is not.
                        let _taken = self.any()?.1.submit(Submitter::new(3), &bytes);
                    }
                    return Ok(());
                }
                changing.phase = self.decided(changing).await?;
            }
            Phase::TakeSeat(place) => {
                let key = self.members[*place].node_key.verifying_key();
                if set.by_key(&key).is_some() {
                    let what = match changing.change {
                        Change::JoinAndLeave => "hospital joined",
                        Change::NextKey(_) => "node key changed",
                    };
                    self.faulting.took_effect(what, 1);
                    self.faulting.say(self.now(), what);
                    changing.phase = Phase::Stay(*place, set.epoch());
                }
            }
            Phase::Stay(place, seated) => {
                if set.epoch().number() < seated.number() + 2 {
                    return Ok(());
                }
                changing.phase = match changing.change {
                    Change::JoinAndLeave => {
                        changing.leaves = true;
                        let newcomer = self.members[*place].institution;
                        let removal = MembershipChange::Remove(newcomer);
                        let decided = self.hospitals.decision(removal, &[1, 2, 3, 4]);
                        Phase::Decide(decided.into())
                    }
                    Change::NextKey(_) => Phase::Done,
                };
            }
            Phase::Leave => {
                let key = self.members[NEWCOMER].node_key.verifying_key();
                if set.by_key(&key).is_none() {
                    self.faulting.took_effect("hospital left", 1);
                    self.faulting.say(self.now(), "hospital left");
                    self.power_off(NEWCOMER, 0);
                    changing.phase = Phase::Done;
                }
            }
            Phase::Done => {}
        }
        Ok(())
    }

    /// What follows once everything that decides a change is final.
    async fn decided(&mut self, changing: &Changing) -> Result<Phase, ReferralError> {
        match changing.change {
            Change::JoinAndLeave if changing.leaves => Ok(Phase::Leave),
            Change::JoinAndLeave => {
                self.power_on(NEWCOMER).await?;
                Ok(Phase::TakeSeat(NEWCOMER))
            }
            Change::NextKey(before) => {
                // Its folder has chain, grants and HPKE keys; of the engine's files it takes none over.
                self.power_off(before, 0);
                self.simulation
                    .take_over(SimulatedNode(NEXT), SimulatedNode(before));
                if let Some(files) = self.files.remove(&before) {
                    self.files.insert(NEXT, files);
                }
                self.power_on(NEXT).await?;
                Ok(Phase::TakeSeat(NEXT))
            }
        }
    }
}
