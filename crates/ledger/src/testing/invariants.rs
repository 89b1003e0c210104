//! The invariants of `spec/chain.md` 11, restated over the blocks alone, beside the code that is to keep
//! them: for random chains, and for those that a simulated consortium made under faults.

use std::collections::{BTreeMap, BTreeSet};

use scheme::{Context, InstitutionId, ValidatorEpoch, VerifyingKey};

use super::{FourHospitals, naive};
use crate::block::{Block, Header};
use crate::identity::{Height, TransactionId};
use crate::policy::Tier;
use crate::state;
use crate::transaction::{MembershipChange, Transaction};
use crate::view::View;

/// A chain from its founding block on, and the state after its last block.
pub struct Invariants<'a> {
    /// Who founded it.
    pub hospitals: &'a FourHospitals,
    /// All blocks, by height.
    pub blocks: &'a [Block],
    /// The state after the last.
    pub view: &'a dyn View,
}

impl Invariants<'_> {
    /// Every invariant holds.
    ///
    /// # Panics
    /// If one does not; the message or the place says which.
    pub fn hold(&self) {
        invariant_chain_is_linked(self);
        invariant_members_change_as_enough_of_them_decided(self);
        invariant_only_accounting_nodes_lead_in_order(self);
        invariant_transactions_are_final_once(self);
        invariant_tags_are_unique(self);
        invariant_accesses_are_gapless_and_in_time(self);
        invariant_records_are_found_when_final(self);
        invariant_anchors_cover_every_block_once(self);
        invariant_node_keys_stand_once_and_in_time(self);
        invariant_the_centre_signs_with_its_current_key(self);
    }

    fn tip(&self) -> &Header {
        self.blocks.last().expect("the founding block").header()
    }
}

fn invariant_chain_is_linked(chain: &Invariants<'_>) {
    for pair in chain.blocks.windows(2) {
        assert_eq!(pair[1].parent(), pair[0].id());
        assert_eq!(pair[1].height().number(), pair[0].height().number() + 1);
        assert!(pair[1].time() > pair[0].time());
    }
    for block in chain.blocks {
        let root = naive::body_root(&chain.hospitals.consortium, block);
        assert_eq!(block.header().merkle_root, root);
    }
}

/// An institution as the blocks say that it is.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Restated {
    tier: Tier,
    node: VerifyingKey,
    key: VerifyingKey,
}

/// Who belongs to the consortium after each block, and how many vote where each transaction stands.
struct Membership {
    after: Vec<BTreeMap<InstitutionId, Restated>>,
    /// The nodes of each validator epoch that is decided.
    sets: Vec<Vec<(InstitutionId, Restated)>>,
    voters_at: BTreeMap<TransactionId, usize>,
}

/// Who belongs to the consortium, by the blocks alone: in their order motions are put,
/// approved and, with n - f of the members, decided on.
fn membership(chain: &Invariants<'_>) -> Membership {
    let four = chain.hospitals;
    let restated = |institution: &crate::Institution| Restated {
        tier: institution.tier,
        node: institution.node,
        key: institution.key,
    };
    let mut now: BTreeMap<_, _> = four
        .genesis
        .institutions
        .iter()
        .map(|founder| (founder.id, restated(founder)))
        .collect();
    let mut put = BTreeMap::new();
    let (mut after, mut voters_at) = (Vec::new(), BTreeMap::new());
    let mut sets = vec![now.iter().map(|(id, one)| (*id, *one)).collect::<Vec<_>>()];
    let (mut certified, mut shown) = (BTreeSet::new(), BTreeMap::new());
    for block in chain.blocks {
        for (id, transaction) in block.identified() {
            let voters = now.values().filter(|one| one.tier != Tier::Observer);
            voters_at.insert(id, voters.count());
            let decided_on = match transaction {
                Transaction::Motion(motion) => {
                    put.insert(id, (motion.clone(), BTreeSet::from([motion.by]), false));
                    id
                }
                Transaction::Approval(approval) => {
                    let (motion, approvals, _) =
                        put.get_mut(&approval.motion).expect("it was put before");
                    assert!(block.time() < motion.until);
                    approvals.insert(approval.by);
                    approval.motion
                }
                Transaction::NodeKey(node_key) => {
                    let (id, epoch) = (node_key.institution, node_key.epoch.number());
                    let node = if epoch == block.header().epoch.number() {
                        let seats: &Vec<_> = sets.last().expect("the founders'");
                        let seat = seats.iter().find(|(seated, _)| *seated == id);
                        seat.expect("it accounts in this epoch").1.node
                    } else {
                        now[&id].node
                    };
                    certified.insert(node);
                    shown.insert((epoch, id), node);
                    continue;
                }
                Transaction::Succession(succession) => {
                    let next = succession.next.succession;
                    let held = now.get_mut(&next.institution).expect("a member");
                    (held.key, held.node) = (next.key, next.node);
                    continue;
                }
                _ => continue,
            };
            let (motion, approvals, done) = put.get_mut(&decided_on).expect("just put");
            assert!(!*done, "an approval after the decision");
            let voters: BTreeSet<_> = now
                .iter()
                .filter(|(_, one)| one.tier != Tier::Observer)
                .map(|(id, _)| *id)
                .collect();
            let (n, approving) = (voters.len(), approvals.intersection(&voters).count());
            if approving < n - (n - 1) / 3 {
                continue;
            }
            *done = true;
            match &motion.change {
                MembershipChange::Admit(application) => {
                    let institution = &application.institution;
                    let before = now.insert(institution.id, restated(institution));
                    assert_eq!(before, None);
                }
                MembershipChange::Remove(id) => {
                    now.remove(id).expect("a member leaves");
                }
                MembershipChange::Retier(id, tier) => {
                    now.get_mut(id).expect("a member").tier = *tier;
                }
                MembershipChange::Succeed(next) => {
                    let next = next.succession;
                    let held = now.get_mut(&next.institution).expect("a member");
                    (held.key, held.node) = (next.key, next.node);
                }
                MembershipChange::Rules(_) => {}
            }
        }
        after.push(now.clone());
        if (block.height().number() + 1)
            .is_multiple_of(u64::from(four.genesis.settings.epoch_blocks))
        {
            let next = block.header().epoch.number() + 1;
            let shown = shown.iter().filter(|((epoch, _), _)| *epoch == next);
            let shown = shown.map(|((_, id), node)| (*id, *node)).collect();
            let seats = sets.last().expect("the founders'");
            sets.push(next_set(&now, seats, &shown, &certified));
        }
    }
    Membership {
        after,
        sets,
        voters_at,
    }
}

/// The nodes of a validator epoch by the blocks alone.
fn nodes_of(chain: &Invariants<'_>, epoch: u64) -> Vec<(InstitutionId, Restated)> {
    membership(chain).sets[epoch as usize].clone()
}

/// The next nodes by the members after the last block of an epoch, who had a seat in it, which node key
/// certified an HPKE key of the next one, and which ever certified one. Who has a seat keeps it, under its
/// old key until the next one certified; as many newcomers that certified as may be faulty take theirs,
/// one at least. Who would account and never certified verifies, unless too few were left.
fn next_set(
    members: &BTreeMap<InstitutionId, Restated>,
    seats: &[(InstitutionId, Restated)],
    shown: &BTreeMap<InstitutionId, VerifyingKey>,
    certified: &BTreeSet<VerifyingKey>,
) -> Vec<(InstitutionId, Restated)> {
    let seats: BTreeMap<_, _> = seats.iter().copied().collect();
    let voters = members.iter().filter(|(_, one)| one.tier != Tier::Observer);
    let (mut nodes, mut newcomers) = (Vec::new(), Vec::new());
    for (id, one) in voters {
        let runs = shown.get(id) == Some(&one.node);
        let mut one = *one;
        match seats.get(id) {
            None if runs => newcomers.push((*id, one)),
            None => {}
            Some(seat) => {
                if !runs {
                    one.node = seat.node;
                }
                nodes.push((*id, one));
            }
        }
    }
    // t_min is 2.
    let enough = |nodes: &[(InstitutionId, Restated)]| {
        let accounting = nodes.iter().filter(|(_, one)| one.tier != Tier::Community);
        let (accounting, faulty) = (accounting.count(), (nodes.len() - 1) / 3);
        accounting > faulty && (faulty + 1).max(accounting.saturating_sub(faulty)) >= 2
    };
    let mut ready = nodes.clone();
    for (_, one) in &mut ready {
        if !certified.contains(&one.node) {
            one.tier = Tier::Community;
        }
    }
    if enough(&ready) {
        nodes = ready;
    }
    let mut room = ((seats.len() - 1) / 3).max(1);
    for newcomer in newcomers {
        let with: Vec<_> = nodes.iter().copied().chain([newcomer]).collect();
        if room > 0 && enough(&with) {
            (nodes, room) = (with, room - 1);
        }
    }
    nodes.sort_unstable_by_key(|(id, _)| *id);
    nodes
}

fn invariant_members_change_as_enough_of_them_decided(chain: &Invariants<'_>) {
    let restated = membership(chain).after.pop().expect("the founding block");
    let listed = state::institutions(chain.view).expect("memory");
    assert_eq!(listed, restated.keys().copied().collect::<Vec<_>>());
    for (id, one) in restated {
        let held = state::institution(chain.view, id).expect("memory");
        let held = held.expect("listed");
        assert_eq!(
            (held.tier, held.node, held.key),
            (one.tier, one.node, one.key)
        );
    }
    for epoch in 0..=chain.tip().epoch.number() {
        let held = state::node_set(chain.view, ValidatorEpoch::new(epoch)).expect("memory");
        let held = held.expect("decided");
        let held = held
            .nodes()
            .iter()
            .map(|node| (node.institution, node.tier, node.key));
        let restated = nodes_of(chain, epoch);
        let restated = restated.iter().map(|(id, one)| (*id, one.tier, one.node));
        assert!(held.eq(restated), "the nodes of epoch {epoch}");
    }
}

fn invariant_only_accounting_nodes_lead_in_order(chain: &Invariants<'_>) {
    let sets = membership(chain).sets;
    for block in &chain.blocks[1..] {
        let mut accounting = sets[block.header().epoch.number() as usize].clone();
        accounting.retain(|(_, one)| one.tier != Tier::Community);
        let turn = block.header().view.number() as usize % accounting.len();
        assert_eq!(block.producer(), accounting[turn].1.node);
    }
}

fn invariant_transactions_are_final_once(chain: &Invariants<'_>) {
    let mut seen = BTreeSet::new();
    for block in chain.blocks {
        for (place, (id, _)) in block.identified().enumerate() {
            assert!(seen.insert(id), "{id} stands twice");
            let held = state::transaction(chain.view, id)
                .expect("memory")
                .expect("final");
            assert_eq!((held.height, held.index as usize), (block.height(), place));
        }
    }
}

fn invariant_tags_are_unique(chain: &Invariants<'_>) {
    let mut seen = BTreeSet::new();
    for transaction in chain.blocks.iter().flat_map(Block::transactions) {
        if let Transaction::Record(record) = transaction {
            for entry in &record.statement.entries {
                let writer = *record.statement.writer_key.as_bytes();
                assert!(seen.insert((writer, entry.tag)), "a tag stands twice");
            }
        }
    }
}

fn invariant_accesses_are_gapless_and_in_time(chain: &Invariants<'_>) {
    let four = chain.hospitals;
    // Access key to (begin, end, grant); grant to whether it is revoked; access key to count.
    let mut granted = BTreeMap::new();
    let mut revoked = BTreeSet::new();
    let mut counts = BTreeMap::new();
    for block in chain.blocks {
        for transaction in block.transactions() {
            match transaction {
                Transaction::Grant(grant) => {
                    for key in &grant.entry.access_keys {
                        let id = grant.entry.id(&four.consortium);
                        let terms = (grant.entry.not_before, grant.entry.expiry, id);
                        assert!(granted.insert(*key, terms).is_none(), "a key in two grants");
                    }
                }
                Transaction::Revocation(revocation) => {
                    assert!(revoked.insert(revocation.grant(&four.consortium)));
                }
                Transaction::Access(access) => {
                    for entry in &access.entries {
                        let (begin, end, id) = granted[&entry.access_key];
                        assert!(begin <= block.time() && block.time() < end);
                        assert!(!revoked.contains(&id), "an access after the revocation");
                        let count = counts.entry(entry.access_key).or_insert(0);
                        assert_eq!(entry.number.number(), *count, "a gap or a repetition");
                        *count += 1;
                    }
                }
                _ => {}
            }
        }
    }
    for (key, (_, _, id)) in granted {
        let held = state::grant(chain.view, id)
            .expect("memory")
            .expect("recorded");
        let next = held
            .access
            .iter()
            .find(|(own, _)| *own == key)
            .expect("named")
            .1;
        assert_eq!(next.number(), counts.get(&key).copied().unwrap_or(0));
        assert_eq!(held.revoked.is_some(), revoked.contains(&id));
    }
}

fn invariant_records_are_found_when_final(chain: &Invariants<'_>) {
    let mut number = 0;
    for block in chain.blocks {
        for (id, transaction) in block.identified() {
            let Transaction::Record(record) = transaction else {
                continue;
            };
            let held = state::record(chain.view, crate::RecordNumber::new(number))
                .expect("memory")
                .expect("final");
            assert_eq!(
                (held.transaction, held.position.height),
                (id, block.height())
            );
            let statement = &record.statement;
            assert_eq!(held.digest, statement.digest);
            assert_eq!(held.header_digest, statement.header_digest);
            assert_eq!(
                held.owner_key.decode().as_ref(),
                Ok(&statement.owner_key),
                "the row's owner key is the signed one"
            );
            assert_eq!(held.locator, statement.locator);
            assert_eq!(held.author, statement.author);
            let (institution, epoch) = state::writer_of(chain.view, &record.statement.writer_key)
                .expect("memory")
                .expect("on the chain");
            for entry in &record.statement.entries {
                let found = state::record_by_tag(chain.view, institution, epoch, &entry.tag);
                assert_eq!(found.expect("memory"), Some(held));
                let row = state::index_entry(chain.view, institution, epoch, &entry.tag);
                let row = row.expect("memory").expect("an entry of a final record");
                assert_eq!((row.record, row.pad), (held.number, entry.pad));
            }
            assert_eq!((held.institution, held.writer_epoch), (institution, epoch));
            number += 1;
        }
    }
    assert_eq!(
        state::record_count(chain.view).expect("memory").number(),
        number
    );
}

fn invariant_anchors_cover_every_block_once(chain: &Invariants<'_>) {
    let four = chain.hospitals;
    let interval = four.genesis.settings.anchor_interval.as_millis() as u64;
    let mut next = 1;
    let mut last_time = chain.blocks[0].time().number();
    for (at, block) in chain.blocks.iter().enumerate().skip(1) {
        let holds_record = |block: &Block| {
            block
                .transactions()
                .iter()
                .any(|tx| matches!(tx, Transaction::Record(_)))
        };
        let due = block.time().number() - last_time >= interval
            && chain.blocks[next..at].iter().any(holds_record);
        let anchor = match block.transactions().last() {
            Some(Transaction::Anchor(anchor)) => Some(anchor),
            _ => None,
        };
        assert_eq!(anchor.is_some(), due, "block {at}");
        if let Some(anchor) = anchor {
            assert_eq!(anchor.first, Height::new(next as u64));
            assert_eq!(anchor.last, Height::new(at as u64 - 1));
            let roots: Vec<_> = chain.blocks[next..at]
                .iter()
                .map(|block| block.header().merkle_root)
                .collect();
            assert_eq!(anchor.root, naive::anchor_root(&four.consortium, &roots));
            next = at;
            last_time = block.time().number();
        }
    }
}

fn invariant_node_keys_stand_once_and_in_time(chain: &Invariants<'_>) {
    let (mut held, mut certifiers) = (BTreeMap::new(), BTreeMap::new());
    let membership = membership(chain).after;
    for block in chain.blocks {
        let current = block.header().epoch.number();
        for transaction in block.transactions() {
            let Transaction::NodeKey(node_key) = transaction else {
                continue;
            };
            let epoch = node_key.epoch.number();
            assert!(epoch == current || epoch == current + 1);
            // Of one that accounts in this epoch, or would in the next.
            let node = if epoch == current {
                let mut nodes = nodes_of(chain, epoch).into_iter();
                nodes.find(|(id, _)| *id == node_key.institution)
            } else {
                let so_far = &membership[block.height().number() as usize];
                let before = &membership[block.height().number() as usize - 1];
                let now = so_far.get(&node_key.institution);
                now.or(before.get(&node_key.institution))
                    .map(|one| (node_key.institution, *one))
            };
            let node = node.expect("it belongs to the consortium").1.node;
            let key = (node_key.epoch, node_key.institution);
            let place = (node_key.key, block.height());
            // A later node key may certify another; the same one never does.
            if epoch == current {
                let earlier = held.insert(key, place);
                assert!(
                    earlier.is_none() || certifiers.get(&key) != Some(&node),
                    "a key was replaced"
                );
            } else {
                held.insert(key, place);
            }
            certifiers.insert(key, node);
        }
    }
    for ((epoch, institution), place) in held {
        let state = state::node_key(chain.view, epoch, institution)
            .expect("memory")
            .expect("recorded");
        assert_eq!((state.key, state.recorded.height), place);
    }
}

fn invariant_the_centre_signs_with_its_current_key(chain: &Invariants<'_>) {
    let four = chain.hospitals;
    // Each key, the height from which it signs, and the one from which it counts as lost.
    let mut keys = vec![(four.genesis.centre, Height::new(0), None)];
    let signed = |key: &VerifyingKey, transaction: &Transaction, signatures: usize| {
        let bytes = transaction.encode();
        let (text, signature) = bytes.split_at(bytes.len() - signatures);
        let signature = scheme::Signature::new(signature[..64].try_into().expect("64 bytes"));
        let parts = [&text[..1], &text[1..]];
        key.verify(Context::Transaction, &four.consortium, &parts, &signature)
            .is_ok()
    };
    let voters_at = membership(chain).voters_at;
    for block in chain.blocks {
        for (id, transaction) in block.identified() {
            let (current, ..) = *keys.last().expect("the founding one");
            match transaction {
                Transaction::Registration(_) | Transaction::CertificateRevocation(_) => {
                    assert!(signed(&current, transaction, 64), "by another key");
                }
                Transaction::CentreKey(rotation) => {
                    let next = &rotation.next;
                    assert_eq!(usize::from(next.number.number()), keys.len());
                    assert!(keys.iter().all(|(key, ..)| *key != next.key));
                    let by_current = rotation.current.is_some();
                    let faulty = (voters_at[&id] - 1) / 3;
                    let without = voters_at[&id] - faulty;
                    let approvers: BTreeSet<_> = rotation
                        .approvals
                        .iter()
                        .map(|approval| approval.by)
                        .collect();
                    assert!(approvers.len() >= if by_current { faulty + 1 } else { without });
                    // Kind and body, one signature, and whatever others there are.
                    let others = usize::from(by_current) * 64 + 1 + 4 + approvers.len() * 68;
                    assert!(signed(&next.key, transaction, 64 + others));
                    if by_current {
                        let bytes = transaction.encode();
                        let body = 1 + 1 + 32 + 1 + next.compromised.len();
                        let parts = [&bytes[..1], &bytes[1..body]];
                        let signature = bytes[body + 65..body + 129].try_into();
                        let signature = scheme::Signature::new(signature.expect("64 bytes"));
                        let context = Context::Transaction;
                        let stands = current.verify(context, &four.consortium, &parts, &signature);
                        assert!(stands.is_ok());
                    }
                    for number in &next.compromised {
                        let lost = &mut keys[usize::from(number.number())].2;
                        *lost = lost.or(Some(block.height()));
                    }
                    keys.push((next.key, block.height(), None));
                }
                _ => {}
            }
        }
    }
    let held = state::centre_keys(chain.view).expect("memory");
    let held: Vec<_> = held
        .keys()
        .iter()
        .map(|key| {
            let lost = key.compromised.map(|since| since.height);
            (key.key, key.begun.height, lost)
        })
        .collect();
    assert_eq!(held, keys);
}
