//! The simulated consortium as its users meet it: transactions go to nodes that run, questions to
//! all of them, and what f + 1 say alike is believed. While they wait, what the plan says goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chain::{
    FaultyNode, NodeConfig, NodeHandle, NotSubmitted, SimulatedNode, Simulation, Submitter,
};
use ledger::testing::FourHospitals;
use ledger::{
    BlockId, GrantTransaction, Height, KeyHash, KeyUse, Outcome, Receipt, ReceiptCollector,
    Registrant, Registration, Transaction, TransactionId, UserKey,
};
use parties::{
    AccountingNode, Answer, ContainerRequest, FinalChain, Question, Reply, ReplyCollector,
    SealedReply, SearchRequest, ShareAnswer, ShareRefusal, ShareRequest, answer_at,
};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;
use scheme::{
    ConsortiumId, GrantId, Header, HpkePrivateKey, InstitutionId, NodeNumber, ShareStatement,
    SigningKey, Timestamp, ValidatorEpoch, VerifiedGrant, VerifiedHeader, sha256,
};
use services::NodeChain;

use crate::changes::{Changing, Member, members};
use crate::faults::{Byzantine, Faulting, Lie, Misuse, Plan, Power, Watch};
use crate::lies::{Hiding, free_shares};
use crate::referral::ReferralError;

/// How long the world goes on by itself at a time.
const STEP: Duration = Duration::from_millis(50);
/// How long a client waits at one node before it goes to the next, in ms.
const PATIENCE_MS: u64 = 2_000;
/// After so long a transaction counts as lost: 4 minutes of simulated time, beyond every fault.
const LOST_MS: u64 = 240_000;
/// How long after the last fault the nodes may take to come to one height, in ms: twenty leader time-outs
/// of 1.5 s.
const SETTLED_MS: u64 = 30_000;
/// Others' transactions that are sent in a hundred steps.
const TRAFFIC_PERCENT: u64 = 25;

/// Four hospitals on a simulation, their grants, and which of them run.
pub(crate) struct World<'a> {
    pub(crate) simulation: Simulation,
    pub(crate) hospitals: &'a FourHospitals,
    pub(crate) consortium: ConsortiumId,
    /// The nodes that can come to run, by their place in the simulation.
    pub(crate) members: Vec<Member>,
    /// The accounting nodes that run, by their place.
    pub(crate) accounting: BTreeMap<usize, AccountingNode>,
    pub(crate) faulting: Faulting<'a>,
    /// What f + 1 nodes said of a transaction. It never changes.
    pub(crate) acknowledged: BTreeMap<TransactionId, Outcome>,
    /// What each accounting node's grant files hold: they survive a crash.
    pub(crate) files: BTreeMap<usize, BTreeMap<GrantId, Vec<u8>>>,
    /// Of which validator epochs each hospital's disk has an HPKE key.
    pub(crate) keys: BTreeMap<InstitutionId, BTreeSet<ValidatorEpoch>>,
    /// How the consortium changes, if it does.
    pub(crate) changing: Option<Changing>,
    /// What a node that gives its shares to everyone does not forget.
    kept_for_ever: BTreeMap<(usize, GrantId), Vec<u8>>,
    /// How often the doctor handed a grant to a node that lacked it.
    pub(crate) handed_on: u64,
    /// Who lies to those who ask, and how.
    liar: Option<(usize, Lie)>,
    /// What people or the cloud try.
    pub(crate) misuse: Option<Misuse>,
    /// A node that keeps no rule, from when it is there.
    faulty: Option<FaultyNode>,
    /// Others' transactions that nobody has acknowledged yet.
    traffic: BTreeSet<TransactionId>,
    sends_traffic: bool,
    sent: u64,
    chance: ChaCha20Rng,
    /// Up to which block the run was told.
    told: Height,
}

impl<'a> World<'a> {
    pub(crate) async fn start(
        simulation: Simulation,
        hospitals: &'a FourHospitals,
        plan: &Plan,
        seed: u64,
        watch: Watch<'a>,
    ) -> Result<Self, ReferralError> {
        let began = simulation.now();
        let mut world = Self {
            simulation,
            hospitals,
            consortium: hospitals.consortium,
            members: members(hospitals, plan.change.map(|(_, change)| change)),
            accounting: BTreeMap::new(),
            faulting: Faulting::new(plan, began, watch),
            acknowledged: BTreeMap::new(),
            files: BTreeMap::new(),
            keys: BTreeMap::new(),
            changing: plan.change.map(|change| Changing::new(change, hospitals)),
            kept_for_ever: BTreeMap::new(),
            handed_on: 0,
            liar: None,
            misuse: plan.misuse,
            faulty: None,
            traffic: BTreeSet::new(),
            sends_traffic: plan.traffic,
            sent: 0,
            chance: rng("traffic", seed),
            told: Height::new(0),
        };
        let outsider = match plan.byzantine {
            Some((place, Byzantine::Silent | Byzantine::Engine(_))) => Some(place),
            _ => None,
        };
        for place in (0..hospitals.hospitals.len()).filter(|place| Some(*place) != outsider) {
            world.power_on(place).await?;
        }
        if let Some((place, what)) = plan.byzantine {
            let now = world.now();
            world.faulting.say(now, format_args!("{place} is {what:?}"));
            match what {
                // It is honest until its disk is another one.
                Byzantine::Stale => {}
                Byzantine::Silent => world.faulting.took_effect("silence", 1),
                Byzantine::Lies(lie) => world.liar = Some((place, lie)),
                Byzantine::Engine(misdeed) => {
                    let witness = world.any()?.1;
                    let started = world
                        .simulation
                        .start_faulty(SimulatedNode(place), misdeed, &witness)
                        .await;
                    let faulty = started
                        .map_err(|error| ReferralError::Party("start", error.to_string()))?;
                    world.faulty = Some(faulty);
                }
            }
        }
        // One that goes wrong does so once it has put its key on the chain: without it nobody can grant.
        let first = ValidatorEpoch::new(0);
        if let Some(place) = outsider
            && let Some(node) = world.accounting_node(place)
        {
            let key = hpke_key(world.members[place].institution, first);
            if let Some(announcement) = node.with_hpke_key(first, key).announce(first) {
                world.submit(&announcement).await?;
            }
        }
        world
            .until(|world| {
                let view = world.any()?.1.view();
                let set = world.set_of(first)?;
                let stand = set.accounting().all(|node| {
                    ledger::node_key(view.as_ref(), first, node.institution)
                        .is_ok_and(|key| key.is_some())
                });
                stand
                    .then_some(())
                    .ok_or_else(|| ReferralError::Lost("a node's key is not final".to_owned()))
            })
            .await?;
        Ok(world)
    }

    /// Starts a node on what its disks hold, its grants included. One that runs goes on.
    pub(crate) async fn power_on(&mut self, place: usize) -> Result<(), ReferralError> {
        if self.handle(place).is_some() {
            return Ok(());
        }
        let started = self.simulation.start(SimulatedNode(place)).await;
        let handle = started.map_err(|error| ReferralError::Party("start", error.to_string()))?;
        let Some(node) = self.accounting_node(place) else {
            return Ok(());
        };
        self.accounting.insert(place, node);
        self.take_up(place, &handle);
        Ok(())
    }

    /// A node loses its power; of what it had not synced so many bytes remain.
    pub(crate) fn power_off(&mut self, place: usize, kept: usize) {
        self.simulation.crash(SimulatedNode(place), kept);
        self.accounting.remove(&place);
    }

    /// Takes up the grants of a node's files that it does not hold. One whose store was put back knows too
    /// little of the chain at first.
    fn take_up(&mut self, place: usize, handle: &NodeHandle) {
        let Some(node) = self.accounting.get_mut(&place) else {
            return;
        };
        let chain = NodeChain::now(handle);
        for (gid, grant) in self.files.entry(place).or_default() {
            if !node.holds(gid) {
                // Refused is tried again with the next step, as a node does with the next block.
                let _refused = node.restore_grant(grant, &chain);
            }
        }
    }

    /// A hospital's part that accounts, as it is at its start; of one that only verifies there is none.
    fn accounting_node(&self, place: usize) -> Option<AccountingNode> {
        let member = &self.members[place];
        if member.tier.role() != ledger::Role::Accounting {
            return None;
        }
        let (id, key) = (member.institution, member.node_key.clone());
        let node = AccountingNode::new(self.consortium, id, key);
        Some(self.with_kept_keys(place, node))
    }

    /// Lets a moment pass: what goes wrong now, what others send, and what is acknowledged of it.
    ///
    /// # Errors
    /// [`ReferralError`] if a node does not start again, or does what none may.
    pub(crate) async fn step(&mut self) -> Result<(), ReferralError> {
        for power in self.faulting.happen(&mut self.simulation).await {
            match power {
                Power::Off(place, kept) => self.power_off(place, kept),
                Power::On(place) => self.power_on(place).await?,
            }
        }
        for (place, node) in self.simulation.running() {
            if let Some(failure) = node.status().failure
                && !self.faulting.is_armed(place.0)
            {
                return Err(ReferralError::Broken(format!(
                    "{place:?} stops by itself: {failure}"
                )));
            }
        }
        if self.sends_traffic && self.chance.next_u64() % 100 < TRAFFIC_PERCENT {
            self.send_traffic();
        }
        self.simulation.sleep(STEP).await;
        self.tell_blocks();
        self.make_keys()?;
        for (place, handle) in self.places() {
            self.take_up(place, &handle);
        }
        self.change().await?;
        self.sees_traffic()?;
        self.pools_are_bounded()
    }

    /// Says what is new in the chain of whoever has most of it.
    fn tell_blocks(&mut self) {
        let handles = self.handles();
        let Some(ahead) = handles
            .iter()
            .max_by_key(|handle| handle.status().tip.height)
        else {
            return;
        };
        while self.told < ahead.status().tip.height {
            self.told = self.told.next();
            let Ok(Some(block)) = ahead.block(self.told) else {
                return;
            };
            let header = block.block.header();
            let nodes = ledger::node_set(ahead.view().as_ref(), header.epoch);
            let nodes = nodes.ok().flatten();
            let leader = nodes.and_then(|nodes| nodes.by_key(&header.producer).copied());
            let leader = leader.map_or(0, |node| node.institution.number());
            let now = self.now();
            self.faulting.say(
                now,
                format_args!(
                    "block {} of view {}, led by institution {leader}, {} transactions",
                    self.told.number(),
                    header.view.number(),
                    block.block.transactions().len(),
                ),
            );
        }
    }

    /// A step of the referral begins.
    pub(crate) fn say(&self, what: &str) {
        self.faulting.say(self.now(), what);
    }

    /// Lets so much time pass.
    pub(crate) async fn pause(&mut self, milliseconds: u64) -> Result<(), ReferralError> {
        let end = self.now().number() + milliseconds;
        while self.now().number() < end {
            self.step().await?;
        }
        Ok(())
    }

    /// Tries until it works, while the world goes on.
    pub(crate) async fn until<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, ReferralError>,
    ) -> Result<T, ReferralError> {
        let end = self.now().number() + LOST_MS;
        loop {
            match attempt(self) {
                Ok(done) => return Ok(done),
                Err(error) if self.now().number() >= end => return Err(error),
                Err(_) => self.step().await?,
            }
        }
    }

    /// Any hospital registers somebody at any node.
    fn send_traffic(&mut self) {
        self.sent += 1;
        let keys = vec![UserKey {
            hash: KeyHash::from(sha256(&self.sent.to_be_bytes())),
            usage: KeyUse::Signature,
        }];
        let signed = Registration::sign(
            &self.consortium,
            Registrant::Patient,
            keys,
            &self.hospitals.centre,
        );
        let handles = self.handles();
        if handles.is_empty() {
            return;
        }
        let chance = self.chance.next_u64() % handles.len() as u64;
        let handle = &handles[usize::try_from(chance).unwrap_or(0)];
        let bytes = Transaction::Registration(signed).encode();
        // A node that is busy or stopping takes nothing, which is its right.
        if let Ok(taken) = handle.submit(Submitter::new(2), &bytes) {
            self.traffic.insert(taken.id());
        }
    }

    /// Notes what became of others' transactions, a few at a time.
    fn sees_traffic(&mut self) -> Result<(), ReferralError> {
        let some: Vec<TransactionId> = self.traffic.iter().take(4).copied().collect();
        for id in some {
            if self.acknowledgement(&id)?.is_some() {
                self.traffic.remove(&id);
            }
        }
        Ok(())
    }

    /// No pool holds more than it may.
    fn pools_are_bounded(&self) -> Result<(), ReferralError> {
        let limits = NodeConfig::default().pool;
        for (_, node) in self.simulation.running() {
            let pool = node.status().pool;
            if pool.requests > limits.requests || pool.bytes > limits.bytes {
                return Err(ReferralError::Broken(format!("a pool holds {pool:?}")));
            }
        }
        Ok(())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.simulation.now()
    }

    pub(crate) fn handle(&self, place: usize) -> Option<NodeHandle> {
        self.simulation.node(SimulatedNode(place)).cloned()
    }

    pub(crate) fn places(&self) -> Vec<(usize, NodeHandle)> {
        self.simulation
            .running()
            .map(|(place, handle)| (place.0, handle.clone()))
            .collect()
    }

    pub(crate) fn handles(&self) -> Vec<NodeHandle> {
        self.simulation
            .running()
            .map(|(_, handle)| handle.clone())
            .collect()
    }

    /// A node that runs and does not lie.
    pub(crate) fn any(&self) -> Result<(usize, NodeHandle), ReferralError> {
        let mut running = self.simulation.running();
        let honest = running.find(|(place, _)| self.liar.is_none_or(|(liar, _)| liar != place.0));
        honest
            .map(|(place, handle)| (place.0, handle.clone()))
            .ok_or_else(|| ReferralError::Lost("no node runs".to_owned()))
    }

    /// What f + 1 nodes say of a transaction, if they do.
    pub(crate) fn acknowledgement(
        &mut self,
        id: &TransactionId,
    ) -> Result<Option<Outcome>, ReferralError> {
        let set = self.set()?;
        let voting = self.voting(&set);
        // Most often nobody has it yet, and to look is cheaper than to have receipts signed and checked.
        let is_somewhere = voting.iter().any(|(_, handle)| {
            let position = ledger::transaction(handle.view().as_ref(), *id);
            position.is_ok_and(|position| position.is_some())
        });
        if !is_somewhere {
            return Ok(None);
        }
        let mut collector = ReceiptCollector::new(self.consortium, *id, set);
        let mut found = None;
        let mut lies = 0;
        for (place, handle) in voting {
            // One whose store fails says nothing.
            let Ok(Some(mut receipt)) = handle.receipt(id) else {
                continue;
            };
            if self.liar == Some((place, Lie::ForgedReceipts)) {
                lies += 1;
                receipt = self.forged(place, &receipt);
            }
            let received = collector
                .receive(receipt)
                .map_err(|error| ReferralError::Party("receipt", error.to_string()))?;
            found = found.or(received);
        }
        self.faulting.took_effect("forged receipt", lies);
        let Some(outcome) = found else {
            return Ok(None);
        };
        let before = *self.acknowledged.entry(*id).or_insert(outcome);
        if before != outcome {
            return Err(ReferralError::Broken(format!(
                "{id} was acknowledged as {before:?}, and then as {outcome:?}"
            )));
        }
        Ok(Some(outcome))
    }

    fn forged(&self, place: usize, honest: &Receipt) -> Receipt {
        let outcome = Outcome {
            block: BlockId::new([0xbd; 32]),
            ..honest.outcome
        };
        let key = &self.members[place].node_key;
        Receipt::sign(&self.consortium, honest.transaction, outcome, key)
    }

    /// Hands a transaction to one node after another until f + 1 receipts are equal.
    ///
    /// # Errors
    /// [`ReferralError::Refused`] if every node refuses it once everything is mended and all nodes are at
    /// one height.
    pub(crate) async fn submit(
        &mut self,
        transaction: &Transaction,
    ) -> Result<TransactionId, ReferralError> {
        let id = transaction.id(&self.consortium);
        let bytes = transaction.encode();
        let end = self.now().number() + LOST_MS;
        let mut handed: Option<u64> = None;
        let mut first = 0;
        while self.now().number() < end {
            if handed.is_none_or(|at| self.now().number() >= at + PATIENCE_MS) {
                let handles = self.handles();
                let mut refused = Vec::new();
                for offset in 0..handles.len() {
                    match handles[(first + offset) % handles.len()]
                        .submit(Submitter::new(1), &bytes)
                    {
                        Ok(_) => {
                            handed = Some(self.now().number());
                            break;
                        }
                        Err(refusal @ (NotSubmitted::Refused(_) | NotSubmitted::Invalid(_))) => {
                            refused.push(refusal.to_string());
                        }
                        Err(_) => {}
                    }
                }
                first += 1;
                let all = !refused.is_empty() && refused.len() == handles.len();
                if all && self.faulting.is_over(self.now()) && self.tip().is_some() {
                    return Err(ReferralError::Refused(refused.swap_remove(0)));
                }
            }
            if self.acknowledgement(&id)?.is_some() {
                return Ok(id);
            }
            self.step().await?;
        }
        Err(ReferralError::Lost(format!("{id} is not final")))
    }

    /// The height that f + 1 running nodes have reached.
    pub(crate) fn height(&self) -> Height {
        let Ok(set) = self.set() else {
            return Height::new(0);
        };
        let mut heights: Vec<Height> = self
            .voting(&set)
            .iter()
            .map(|(_, handle)| handle.status().tip.height)
            .collect();
        heights.sort_unstable_by(|one, other| other.cmp(one));
        let place = set.quorum().one_correct() - 1;
        heights.get(place).copied().unwrap_or(Height::new(0))
    }

    /// A question to all running nodes that have reached the height, until f + 1 say the same.
    pub(crate) async fn ask(&mut self, question: &Question) -> Result<Reply, ReferralError> {
        self.until(|world| world.ask_once(question)).await
    }

    fn ask_once(&mut self, question: &Question) -> Result<Reply, ReferralError> {
        let height = self.height();
        let set = self.set()?;
        let bytes = question.encode();
        let mut collector = ReplyCollector::new(self.consortium, &set, bytes.clone());
        let mut lies = 0;
        for (place, handle) in &self.voting(&set) {
            if handle.status().tip.height < height {
                continue;
            }
            let chain = NodeChain::now(handle);
            let told =
                |error: &dyn std::fmt::Display| ReferralError::Party("question", error.to_string());
            let mut answer = answer_at(chain.view(), question, height)
                .map_err(|error| told(&error))?
                .encode();
            if self.liar == Some((*place, Lie::ForgedAnswers)) {
                lies += 1;
                answer = Answer::WriterEpochs(Vec::new()).encode();
            }
            let header = chain
                .block(height)
                .map_err(|error| told(&error))?
                .ok_or_else(|| told(&"no block"))?
                .header()
                .map_err(|error| told(&error))?;
            let member = &self.members[*place];
            let reply = Reply::sign(
                &self.consortium,
                member.institution,
                &member.node_key,
                &bytes,
                height,
                header.state_root,
                answer,
            );
            collector.add(reply).map_err(|error| told(&error))?;
        }
        let agreed = collector
            .agreed()
            .map_err(|error| ReferralError::Party("question", error.to_string()))
            .cloned();
        self.faulting.took_effect("forged answer", lies);
        agreed
    }

    /// Hands the grant to the nodes that run and lack it, as the doctor's program does when it asks: they were
    /// away when it was given.
    fn hand_on(&mut self, grant: &VerifiedGrant) {
        let gid = grant.gid();
        let bytes = grant.encode(&self.consortium);
        let places: Vec<usize> = self.accounting.keys().copied().collect();
        for place in places {
            let (Some(handle), Some(node)) = (self.handle(place), self.accounting.get_mut(&place))
            else {
                continue;
            };
            if node.holds(&gid) {
                continue;
            }
            // A node that lags has not seen that it was recorded; it takes the grant when asked again.
            let taken = node.receive_recorded_grant(&bytes, &NodeChain::now(&handle));
            if taken.is_ok() {
                self.keep_grant(place, gid, &bytes);
                self.handed_on += 1;
            }
        }
    }

    /// What the accounting nodes say to a search; a refusal says nothing.
    pub(crate) fn search(
        &mut self,
        request: &SearchRequest,
        grant: &VerifiedGrant,
        rng: &mut ChaCha20Rng,
    ) -> Vec<SealedReply> {
        self.hand_on(grant);
        let mut replies = Vec::new();
        let mut hidden = 0;
        for (place, node) in &self.accounting {
            let Some(handle) = self.simulation.node(SimulatedNode(*place)) else {
                continue;
            };
            let chain = NodeChain::now(handle);
            // A node below the height refuses; the others are enough.
            let reply = if self.liar == Some((*place, Lie::HiddenHits)) {
                let lie = node.search(request, &Hiding(&chain), rng).ok();
                hidden += u64::from(lie.is_some());
                lie
            } else {
                node.search(request, &chain, rng).ok()
            };
            replies.extend(reply);
        }
        self.faulting.took_effect("left-out hits", hidden);
        replies
    }

    /// The shares that nodes give, each with who gives it; a refusal gives none.
    pub(crate) fn shares(
        &mut self,
        request: &ShareRequest,
        grant: &VerifiedGrant,
        record: &TransactionId,
        container: &[u8],
        rng: &mut ChaCha20Rng,
    ) -> Vec<(usize, ShareAnswer)> {
        self.hand_on(grant);
        let mut answers = Vec::new();
        let mut free = 0;
        for (place, node) in &self.accounting {
            let Some(handle) = self.simulation.node(SimulatedNode(*place)) else {
                continue;
            };
            let chain = NodeChain::now(handle);
            let given = node.begin_shares(request, &chain).and_then(|pending| {
                let start = &container[..container.len().min(pending.header_bytes_max)];
                node.shares(&pending, &request.access_key, start, &chain, rng)
            });
            let given = match given {
                Err(_) if self.liar == Some((*place, Lie::FreeShares)) => {
                    let given = self.given_freely(*place, request, record, container);
                    free += given.len() as u64;
                    given
                }
                given => given.unwrap_or_default(),
            };
            answers.extend(given.into_iter().map(|answer| (*place, answer)));
        }
        self.faulting.took_effect("free share", free);
        answers
    }

    /// What the node gives that gives its shares to everyone.
    fn given_freely(
        &self,
        place: usize,
        request: &ShareRequest,
        record: &TransactionId,
        container: &[u8],
    ) -> Vec<ShareAnswer> {
        let header = Header::decode(&self.consortium, container).ok();
        let header = header.and_then(|(header, _)| header.verify().ok());
        let number = u8::try_from(place + 1).ok();
        let (Some(header), Some(node), Some(grant)) = (
            header,
            number.and_then(NodeNumber::new),
            self.kept_for_ever.get(&(place, request.gid)),
        ) else {
            return Vec::new();
        };
        let member = &self.members[place];
        let epochs = self.keys.get(&member.institution).into_iter().flatten();
        let keys = epochs.map(|epoch| hpke_key(member.institution, *epoch));
        free_shares(
            &self.consortium,
            grant,
            node,
            (keys.collect(), &member.node_key),
            request,
            &record.digest(),
            &header,
        )
    }

    /// Whether somebody gave a share who does not give to everyone.
    pub(crate) fn gave_against_the_rules(&self, given: &[(usize, ShareAnswer)]) -> bool {
        given
            .iter()
            .any(|(place, _)| self.liar != Some((*place, Lie::FreeShares)))
    }

    /// Whether the master node gives out this container, at every accounting node that runs.
    pub(crate) fn containers(
        &self,
        request: &ContainerRequest,
        container: &[u8],
    ) -> Vec<Result<(), ShareRefusal>> {
        let found = sha256(container);
        let running = self.accounting.iter().filter_map(|(place, node)| {
            let handle = self.simulation.node(SimulatedNode(*place))?;
            let chain = NodeChain::now(handle);
            let released = node.begin_container(request, &chain).and_then(|pending| {
                let doctor = node.author_signature(&pending, &chain)?;
                let key = &request.access_key;
                node.release_container(&pending, key, found, &doctor, &chain)
            });
            Some(released)
        });
        running.collect()
    }

    /// What comes of the shares of one class that were given: the liar signs another node's as its own.
    pub(crate) fn with_lies(
        &mut self,
        given: Vec<(usize, ShareAnswer)>,
        gid: &GrantId,
        record: &TransactionId,
        header: &VerifiedHeader,
    ) -> Vec<ShareAnswer> {
        let liar = match self.liar {
            Some((liar, Lie::WrongShares)) => Some(liar),
            _ => None,
        };
        let mut others = given.iter().filter(|(place, _)| Some(*place) != liar);
        let other = others.next().map(|(_, answer)| answer.share.clone());
        let mut lies = 0;
        let digest = header.header().digest();
        let answers = given
            .into_iter()
            .map(|(place, mine)| match &other {
                Some(share) if Some(place) == liar => {
                    lies += 1;
                    let statement = ShareStatement {
                        consortium: &self.consortium,
                        gid,
                        transaction: &record.digest(),
                        header_digest: &digest,
                        class: mine.class,
                        node: mine.node,
                        share,
                    };
                    let key = &self.members[place].node_key;
                    ShareAnswer::sign(&statement, header, mine.proof, key)
                }
                _ => mine,
            })
            .collect();
        self.faulting.took_effect("wrong share", lies);
        answers
    }

    /// What the node gives back that countersigns wrongly, in place of this.
    pub(crate) fn wrongly_countersigned(
        &mut self,
        place: usize,
        transaction: &Transaction,
    ) -> Option<Transaction> {
        let Transaction::Grant(grant) = transaction else {
            return None;
        };
        if self.liar != Some((place, Lie::WrongCountersignatures)) {
            return None;
        }
        self.faulting.took_effect("wrong countersignature", 1);
        // Of its institution, and by a key that is nobody's.
        Some(Transaction::Grant(GrantTransaction::countersign(
            &self.consortium,
            grant.entry.clone(),
            grant.signature,
            self.members[place].institution,
            &SigningKey::from_seed([0xbd; 32]),
        )))
    }

    /// Whose node lies to those who ask, if one does.
    pub(crate) fn liar_is(&self) -> Option<InstitutionId> {
        self.liar.map(|(place, _)| self.institution(place))
    }

    /// Keeps a grant in a node's files.
    pub(crate) fn keep_grant(&mut self, place: usize, gid: GrantId, grant: &[u8]) {
        if self.liar == Some((place, Lie::FreeShares)) {
            self.kept_for_ever.insert((place, gid), grant.to_vec());
        }
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

    /// The height and the state root that all running nodes have now, if they have one.
    pub(crate) fn tip(&self) -> Option<(Height, ledger::StateRoot)> {
        let handles = self.handles();
        let target = handles
            .iter()
            .map(|handle| handle.status().tip.height)
            .max()?;
        let tips: Vec<_> = handles
            .iter()
            .filter_map(|handle| handle.view_at(target).map(|view| view.tip().state_root))
            .collect();
        let same = tips.len() == handles.len() && tips.windows(2).all(|pair| pair[0] == pair[1]);
        same.then(|| (target, tips[0]))
    }

    /// Waits until everything is mended and every running node is at one height with one state root; gives
    /// that and how long it took after the last fault, in ms.
    pub(crate) async fn settle(
        &mut self,
    ) -> Result<(Height, ledger::StateRoot, u64), ReferralError> {
        while !self.faulting.is_over(self.now()) {
            self.step().await?;
        }
        let began = self.now().number();
        let highest = self.handles();
        let highest = highest.iter().map(|handle| handle.status().tip.height);
        let beyond = highest.max().unwrap_or(Height::new(0)).next();
        while self.now().number() <= began + SETTLED_MS {
            if let Some((height, root)) = self.tip()
                && height >= beyond
            {
                return Ok((height, root, self.now().number() - began));
            }
            self.step().await?;
        }
        Err(ReferralError::Broken(
            "the nodes do not come to one state in time after the last fault".to_owned(),
        ))
    }

    /// Counts what a node without rules did.
    pub(crate) fn count_misdeeds(&mut self, plan: &Plan) {
        let Some((_, Byzantine::Engine(misdeed))) = plan.byzantine else {
            return;
        };
        let what = match misdeed {
            chain::Misdeed::Equivocation => "equivocation",
            chain::Misdeed::InvalidBlock => "invalid block",
            chain::Misdeed::Censorship => "censorship",
            chain::Misdeed::Replay(_) => "replay",
            chain::Misdeed::Garbage(_) => "garbage",
        };
        let acts = self.faulty.as_ref().map_or(0, FaultyNode::acts);
        self.faulting.took_effect(what, acts);
    }

    pub(crate) fn institution(&self, place: usize) -> InstitutionId {
        self.members[place].institution
    }
}

/// The node's HPKE key of a validator epoch, which its disk would hold.
pub(crate) fn hpke_key(institution: InstitutionId, epoch: ValidatorEpoch) -> HpkePrivateKey {
    let number = u64::from(institution.number()) << 32 | epoch.number();
    HpkePrivateKey::random(&mut rng("node's hpke key", number))
}

/// A generator that depends on its use and a number only.
pub(crate) fn rng(purpose: &str, number: u64) -> ChaCha20Rng {
    ledger::testing::rng(purpose, number)
}
