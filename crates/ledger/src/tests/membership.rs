//! How the consortium's membership changes: every rule of a motion, an approval, an institution's next
//! keys and contact broken alone, and what follows from a decision.

use scheme::{InstitutionId, SigningKey, Timestamp, ValidatorEpoch, VerifyingKey};

use super::*;
use crate::execute::AdmitError;
use crate::identity::{Height, LeaderView};
use crate::policy::{NodeSetError, Role, Tier};
use crate::state::{self, ReadError};
use crate::testing::{FOUNDED, Hospital, rng};
use crate::transaction::{CheckError, MembershipChange, Motion, Signer};

fn four() -> FourHospitals {
    FourHospitals::found(plain())
}

fn put(motion: Motion) -> Transaction {
    Transaction::Motion(Box::new(motion))
}

fn remove(number: u32) -> MembershipChange {
    MembershipChange::Remove(InstitutionId::new(number))
}

fn retier(number: u32, tier: Tier) -> MembershipChange {
    MembershipChange::Retier(InstitutionId::new(number), tier)
}

fn present(chain: &ToyChain<'_>) -> Vec<u32> {
    let ids = state::institutions(&chain.view).expect("memory");
    ids.iter().map(|id| id.number()).collect()
}

/// The state of a motion says who put it, who approved it and when, and the documents stand in it.
#[test]
fn a_motion_takes_effect_with_the_last_approval_and_who_approved_stays_readable() {
    let four = four();
    let mut chain = opened(&four);
    let newcomer = four.newcomer(Tier::Secondary);
    let [motion, second, third] = four
        .admission(&newcomer, &[1, 4, 2])
        .try_into()
        .expect("a motion and two approvals");
    let id = motion.id(&four.consortium);
    let held = |chain: &ToyChain<'_>| {
        let held = state::motion(&chain.view, id).expect("memory");
        held.expect("it was put")
    };
    let open = |chain: &ToyChain<'_>| {
        let open = state::open_motions(&chain.view).expect("memory");
        open.open.iter().map(|open| open.motion).collect::<Vec<_>>()
    };
    chain.grow(10, vec![motion]);
    assert_eq!(
        (present(&chain), open(&chain)),
        (vec![1, 2, 3, 4], vec![id])
    );
    chain.grow(10, vec![second]);
    assert_eq!(held(&chain).effective, None);
    // Three of four: n - f.
    chain.grow(10, vec![third]);
    assert_eq!(
        (present(&chain), open(&chain)),
        (vec![1, 2, 3, 4, 5], vec![])
    );
    let state = held(&chain);
    assert_eq!(
        state.effective.map(|since| since.height),
        Some(Height::new(4))
    );
    let approvals: Vec<_> = state
        .approvals
        .iter()
        .map(|(by, at)| (by.number(), at.height.number()))
        .collect();
    assert_eq!(approvals, [(1, 2), (4, 3), (2, 4)]);
    assert_eq!(
        state.motion.documents[0].title.as_str(),
        "Report of the audit"
    );
    assert_eq!(
        state::motion_by_number(&chain.view, 0).expect("memory"),
        Some(id)
    );
    assert_eq!(
        state::motion_by_number(&chain.view, 1).expect("memory"),
        None
    );

    let joined = state::institution_state(&chain.view, newcomer.institution.id).expect("memory");
    let joined = joined.expect("admitted");
    assert_eq!(joined.institution, newcomer.institution);
    assert_eq!((joined.generation, joined.left), (0, None));
    let contact = state::contact(&chain.view, newcomer.institution.id).expect("memory");
    let contact = contact.expect("with the application");
    assert_eq!(contact.contact, four.contact_of(&newcomer.institution));

    // P5: the fourth comes too late to decide anything.
    let motion = state.motion;
    assert!(matches!(
        refused(&chain, 10, four.approval(&put(motion), 3)),
        Refusal::MotionEffective(since) if since.height == Height::new(4)
    ));
}

#[test]
fn s2_motions_approvals_and_contacts_must_be_their_members() {
    let four = four();
    let mut chain = opened(&four);
    let wrong = Refusal::Signature(CheckError::Signature(Signer::Institution));
    let mut motion = four.motion(2, remove(4));
    motion.by = InstitutionId::new(1);
    assert_eq!(refused(&chain, 10, put(motion)), wrong);

    let motion = put(four.motion(1, remove(4)));
    chain.grow(10, vec![motion.clone()]);
    let Transaction::Approval(mut forged) = four.approval(&motion, 2) else {
        unreachable!()
    };
    forged.by = InstitutionId::new(3);
    assert_eq!(refused(&chain, 10, Transaction::Approval(forged)), wrong);

    let Transaction::Contact(mut contact) = four.contact(2, 0) else {
        unreachable!()
    };
    contact.institution = InstitutionId::new(3);
    assert_eq!(refused(&chain, 10, Transaction::Contact(contact)), wrong);
    let succession = four.succession_with(2, 1, &four.hospital(3).key);
    assert_eq!(refused(&chain, 10, succession), wrong);
}

#[test]
fn p1_an_observer_has_no_vote() {
    let four = four();
    let mut chain = opened(&four);
    chain.grow(10, four.decision(retier(4, Tier::Observer), &[1, 2, 3]));
    let observer = Refusal::Observer(InstitutionId::new(4));
    assert_eq!(
        refused(&chain, 10, put(four.motion(4, remove(3)))),
        observer
    );
    let motion = put(four.motion(1, retier(2, Tier::Tertiary)));
    assert_eq!(
        refused(&chain, 10, four.approval(&motion, 4)),
        observer,
        "whatever it approves"
    );
    // Of the three that are left, all are needed: f is 0.
    chain.grow(10, vec![motion.clone(), four.approval(&motion, 2)]);
    let tier = |chain: &ToyChain<'_>| {
        let held = state::institution(&chain.view, InstitutionId::new(2)).expect("memory");
        held.expect("present").tier
    };
    assert_eq!(tier(&chain), Tier::Secondary);
    chain.grow(10, vec![four.approval(&motion, 3)]);
    assert_eq!(tier(&chain), Tier::Tertiary);
}

#[test]
fn p2_and_p6_a_motion_ends_within_a_month_and_then_counts_for_nothing() {
    let four = four();
    let mut chain = opened(&four);
    let until = |until: u64, change: MembershipChange| {
        let member = four.hospital(1);
        put(Motion::sign(
            &four.consortium,
            member.institution.id,
            Timestamp::new(until),
            Vec::new(),
            change,
            &member.key,
        ))
    };
    let now = chain.tip().time.number();
    let month = 30 * 86_400_000;
    for wrong in [0, now + 10, now + 11 + month, u64::MAX] {
        assert!(matches!(
            refused(&chain, 10, until(wrong, remove(4))),
            Refusal::MotionEnd { .. }
        ));
    }
    let motion = until(now + 10 + month, remove(4));
    chain.grow(10, vec![motion.clone(), four.approval(&motion, 2)]);
    assert!(matches!(
        refused(&chain, month, four.approval(&motion, 3)),
        Refusal::MotionEnded(_)
    ));
    chain.grow(month - 1, vec![four.approval(&motion, 3)]);
    assert_eq!(present(&chain), [1, 2, 3]);
}

#[test]
fn p3_a_member_has_eight_motions_open() {
    let four = four();
    let mut chain = opened(&four);
    let motion = |by: u32, number: u64, until: u64| {
        let member = four.hospital(by);
        put(Motion::sign(
            &four.consortium,
            member.institution.id,
            Timestamp::new(FOUNDED.number() + until + number),
            Vec::new(),
            remove(4),
            &member.key,
        ))
    };
    chain.grow(10, (0..8).map(|number| motion(1, number, 1_000)).collect());
    let many = Refusal::TooManyMotions {
        by: InstitutionId::new(1),
    };
    assert_eq!(refused(&chain, 10, motion(1, 8, 1_000)), many);
    chain.grow(10, vec![motion(2, 0, 1_000)]);
    // The first of each has ended by then.
    chain.grow(970, vec![motion(1, 8, 1_000)]);
    let open = state::open_motions(&chain.view).expect("memory");
    assert_eq!((open.count, open.open.len()), (10, 8));
    // One that takes effect is open no longer.
    chain.grow(
        1,
        vec![
            four.approval(&motion(1, 7, 1_000), 2),
            four.approval(&motion(1, 7, 1_000), 3),
        ],
    );
    let open = state::open_motions(&chain.view).expect("memory");
    assert_eq!(open.open.len(), 7);
}

#[test]
fn p4_there_is_nothing_to_approve_before_a_motion_is_put() {
    let four = four();
    let chain = opened(&four);
    let motion = put(four.motion(1, remove(4)));
    let id = motion.id(&four.consortium);
    assert_eq!(
        refused(&chain, 10, four.approval(&motion, 2)),
        Refusal::UnknownMotion(id)
    );
}

/// Putting a motion is approving it; doing both is one approval, and doing it again none.
#[test]
fn a_member_counts_once() {
    let four = four();
    let mut chain = opened(&four);
    let motion = put(four.motion(1, remove(4)));
    let own = four.approval(&motion, 1);
    chain.grow(
        10,
        vec![motion.clone(), own.clone(), four.approval(&motion, 2)],
    );
    assert_eq!(present(&chain), [1, 2, 3, 4]);
    assert!(matches!(refused(&chain, 10, own), Refusal::Final(_)));
    chain.grow(10, vec![four.approval(&motion, 3)]);
    assert_eq!(present(&chain), [1, 2, 3]);
}

/// What a member approved before it was removed does not decide after.
#[test]
fn approvals_of_one_that_left_do_not_count() {
    let four = four();
    let mut chain = opened(&four);
    let newcomer = four.newcomer(Tier::Secondary);
    let motion = four.admission(&newcomer, &[4]).remove(0);
    chain.grow(10, vec![motion.clone(), four.approval(&motion, 3)]);
    chain.grow(10, four.decision(remove(4), &[1, 2, 3]));
    // Three are left and all three needed; 4 is none of them.
    chain.grow(10, vec![four.approval(&motion, 2)]);
    assert_eq!(present(&chain), [1, 2, 3]);
    chain.grow(10, vec![four.approval(&motion, 1)]);
    assert_eq!(present(&chain), [1, 2, 3, 5]);
}

#[test]
fn a1_and_a2_a_newcomer_has_a_number_and_keys_that_were_never_used() {
    let four = four();
    let mut chain = opened(&four);
    let newcomer = four.newcomer(Tier::Secondary);
    let first = |hospital: &Hospital| four.admission(hospital, &[1]).remove(0);

    let mut known = four.newcomer(Tier::Secondary);
    known.institution.id = four.hospital(2).institution.id;
    let refusal = Refusal::InstitutionKnown(known.institution.id);
    assert_eq!(refused(&chain, 10, first(&known)), refusal);
    chain.grow(10, vec![four.succession(3)]);
    // Another node's key, another institution's in either role, the centre's, one that was given up.
    let of = |hospital| four.hospital(hospital);
    for (key, node_key) in [
        (&newcomer.key, &of(1).node_key),
        (&newcomer.key, &of(1).key),
        (&of(2).key, &newcomer.node_key),
        (&four.centre, &newcomer.node_key),
        (&newcomer.key, &of(3).node_key),
        (&of(3).key, &newcomer.node_key),
    ] {
        let mut taken = four.newcomer(Tier::Secondary);
        taken.institution.key = key.verifying_key();
        taken.institution.node = node_key.verifying_key();
        taken.key = key.clone();
        taken.node_key = node_key.clone();
        let own = newcomer.institution.key;
        let used = [taken.institution.key, taken.institution.node];
        let used = if used[0] == own { used[1] } else { used[0] };
        assert_eq!(
            refused(&chain, 10, first(&taken)),
            Refusal::InstitutionKeyInUse(used)
        );
        // As the next key of one that is there, too.
        let mut next = four.possessed(4, 1).succession;
        (next.key, next.node) = (taken.institution.key, taken.institution.node);
        let next = next.possess(&four.consortium, key, node_key);
        let change = MembershipChange::Succeed(next);
        assert_eq!(
            refused(&chain, 10, put(four.motion(2, change))),
            Refusal::InstitutionKeyInUse(used)
        );
    }
    // A number is not given again when its institution has left.
    chain.grow(10, four.decision(remove(3), &[1, 2, 4]));
    let mut again = four.newcomer(Tier::Community);
    again.institution.id = InstitutionId::new(3);
    assert_eq!(
        refused(&chain, 10, first(&again)),
        Refusal::InstitutionKnown(again.institution.id)
    );
}

#[test]
fn a3_a_tier_that_is_there_is_no_change() {
    let four = four();
    let chain = opened(&four);
    assert_eq!(
        refused(&chain, 10, put(four.motion(1, retier(2, Tier::Secondary)))),
        Refusal::SameTier(InstitutionId::new(2))
    );
}

#[test]
fn a4_a_change_that_would_leave_too_few_accounting_nodes_is_refused() {
    let mut four = four();
    // Six nodes with two accounting ones: f = 1. A seventh, verifying, would need three.
    for (hospital, tier) in four.genesis.institutions.iter_mut().zip([
        Tier::Tertiary,
        Tier::Secondary,
        Tier::Community,
        Tier::Community,
    ]) {
        hospital.tier = tier;
    }
    for number in [5, 6] {
        let mut extra = four.newcomer(Tier::Community).institution;
        let key = |purpose| SigningKey::random(&mut rng(purpose, number)).verifying_key();
        extra.id = InstitutionId::new(number as u32 + 1);
        extra.key = key("extra institution");
        extra.node = key("extra node");
        four.genesis.institutions.push(extra);
    }
    four.consortium = four.genesis.consortium();
    let mut chain = ToyChain::new(&four);
    let too_few = |found, needed| Refusal::Nodes(NodeSetError::TooFewAccounting { found, needed });
    let newcomer = four.newcomer(Tier::Community);
    let first = |hospital: &Hospital| four.admission(hospital, &[1]).remove(0);
    assert_eq!(refused(&chain, 10, first(&newcomer)), too_few(2, 3));
    for change in [
        remove(1),
        retier(2, Tier::Community),
        retier(2, Tier::Observer),
    ] {
        assert_eq!(
            refused(&chain, 10, put(four.motion(1, change))),
            too_few(1, 2)
        );
    }
    let accounting = four.newcomer(Tier::Secondary);
    let motion = first(&accounting);
    let approvals = [2, 3, 4].map(|by| four.approval(&motion, by));
    chain.grow(10, std::iter::once(motion).chain(approvals).collect());
    assert_eq!(present(&chain), [1, 2, 3, 4, 6, 7], "five of six: n - f");
    // What could be done when it was put cannot be done any more when it is decided on.
    let demotion = put(four.motion(1, retier(2, Tier::Community)));
    let removal = put(four.motion(1, remove(3)));
    assert!(matches!(refused(&chain, 10, demotion), Refusal::Nodes(_)));
    chain.grow(10, vec![removal]);
}

#[test]
fn a6_a_grant_can_reach_the_least_threshold_whatever_is_decided() {
    let mut settings = plain();
    settings.threshold_min = scheme::Threshold::new(2).expect("not 0");
    let four = FourHospitals::found(settings);
    let mut chain = opened(&four);
    // Of three nodes, all accounting, f is 0: t may be 3. Of three with two accounting: 2.
    chain.grow(10, four.decision(remove(4), &[1, 2, 3]));
    chain.grow(10, four.decision(retier(3, Tier::Community), &[1, 2, 3]));
    assert_eq!(
        refused(&chain, 10, put(four.motion(1, retier(2, Tier::Community)))),
        Refusal::Threshold { found: 2, most: 1 }
    );
}

#[test]
fn a5_there_are_at_most_25_observers() {
    let mut settings = plain();
    settings.epoch_blocks = 28;
    let four = FourHospitals::found(settings);
    let mut chain = opened(&four);
    let observer = |number: u32| {
        let mut observer = four.newcomer(Tier::Observer);
        let of = |purpose| SigningKey::random(&mut rng(purpose, number.into()));
        (observer.key, observer.node_key) = (of("observer"), of("observer's node"));
        observer.institution.id = InstitutionId::new(number);
        observer.institution.key = observer.key.verifying_key();
        observer.institution.node = observer.node_key.verifying_key();
        observer
    };
    for number in 10..35 {
        let observer = observer(number);
        let by = 1 + number % 4;
        let members = [by, 1 + by % 4, 1 + (by + 1) % 4];
        chain.grow(10, four.admission(&observer, &members));
    }
    assert_eq!(present(&chain).len(), 29);
    let another = four.admission(&observer(35), &[1]).remove(0);
    assert_eq!(refused(&chain, 10, another), Refusal::TooManyObservers);
    // No node of theirs is in the next set.
    chain.grow(10, vec![]);
    let nodes = state::node_set(&chain.view, ValidatorEpoch::new(1)).expect("memory");
    assert_eq!(nodes.expect("decided by block 27").nodes().len(), 4);
}

#[test]
fn i1_and_i2_keys_follow_each_other() {
    let four = four();
    let mut chain = opened(&four);
    let founding = &four.hospital(2).key;
    let next = |generation| Refusal::KeysNotNext {
        expected: generation,
        found: 2,
    };
    assert_eq!(
        refused(&chain, 10, four.succession_with(2, 2, founding)),
        next(1)
    );
    let mut unchanged = four.possessed(2, 1).succession;
    let own = &four.hospital(2).institution;
    (unchanged.key, unchanged.node) = (own.key, own.node);
    let unchanged = unchanged.possess(&four.consortium, founding, &four.hospital(2).node_key);
    let unchanged = crate::SuccessionTransaction::sign(&four.consortium, unchanged, founding);
    assert_eq!(
        refused(&chain, 10, Transaction::Succession(unchanged)),
        Refusal::KeysUnchanged(own.id)
    );
    // What the old key signs is refused from the succession on, in the same block too.
    let late = four.contact(2, 0);
    let time = chain.tip().time.number() + 10;
    let candidates = [four.succession(2), late].map(|tx| four.checked(tx));
    let proposal = chain.propose(10, &candidates);
    assert_eq!(time, proposal.block.time().number());
    assert_eq!(proposal.refused.len(), 1);
    assert!(matches!(proposal.refused[0].1, Refusal::Signature(_)));
    chain.grow(10, vec![four.succession(2)]);
    let held = state::institution_state(&chain.view, own.id).expect("memory");
    let held = held.expect("present");
    let (key, node) = four.next_keys(2, 1);
    assert_eq!(held.generation, 1);
    assert_eq!(held.institution.key, key.verifying_key());
    assert_eq!(held.institution.node, node.verifying_key());
    // Back to the founding keys, by whoever has the new one.
    let mut back = four.possessed(2, 2).succession;
    (back.key, back.node) = (own.key, own.node);
    let back = back.possess(&four.consortium, founding, &four.hospital(2).node_key);
    let back = crate::SuccessionTransaction::sign(&four.consortium, back, &key);
    assert_eq!(
        refused(&chain, 10, Transaction::Succession(back)),
        Refusal::InstitutionKeyInUse(own.key)
    );
    chain.grow(10, vec![four.succession_with(2, 2, &key)]);
}

/// An institution that lost its key gets the next ones from the others; the loser cannot stop it.
#[test]
fn a_lost_key_is_succeeded_by_a_motion() {
    let four = four();
    let mut chain = opened(&four);
    let change = MembershipChange::Succeed(four.possessed(2, 1));
    chain.grow(10, four.decision(change, &[1, 3, 4]));
    let held = state::institution(&chain.view, InstitutionId::new(2)).expect("memory");
    let (key, _) = four.next_keys(2, 1);
    assert_eq!(held.expect("present").key, key.verifying_key());
    assert!(matches!(
        refused(&chain, 10, four.record(2, 1)),
        Refusal::Signature(_)
    ));
}

#[test]
fn i3_contacts_follow_each_other() {
    let four = four();
    let mut chain = opened(&four);
    let not_next = |expected, found| Refusal::ContactNotNext { expected, found };
    assert_eq!(refused(&chain, 10, four.contact(1, 1)), not_next(0, 1));
    chain.grow(10, vec![four.contact(1, 0)]);
    chain.grow(10, vec![four.contact(1, 1)]);
    assert_eq!(refused(&chain, 10, four.contact(1, 3)), not_next(2, 3));
    let held = state::contact(&chain.view, InstitutionId::new(1)).expect("memory");
    let held = held.expect("said");
    assert_eq!((held.serial, held.recorded.height), (1, Height::new(3)));
}

/// What an institution did stays, what it does is refused, and its node votes to the end of the epoch.
#[test]
fn nothing_is_taken_of_one_that_left() {
    let four = FourHospitals::found(small());
    let mut chain = opened(&four);
    // Block 1 was the opening; epoch 1 begins with block 4.
    chain.grow(10, vec![four.record(4, 1)]);
    chain.grow(10, four.decision(remove(4), &[1, 2, 3]));
    let unknown = Refusal::UnknownInstitution(InstitutionId::new(4));
    for transaction in [
        four.record(4, 2),
        four.request(4, 1),
        four.contact(4, 0),
        four.succession(4),
        put(four.motion(4, remove(3))),
        put(four.motion(3, remove(4))),
        put(four.motion(3, retier(4, Tier::Secondary))),
        put(four.motion(3, MembershipChange::Succeed(four.possessed(4, 1)))),
    ] {
        assert_eq!(refused(&chain, 10, transaction), unknown);
    }
    assert_eq!(
        state::record_count(&chain.view).expect("memory").number(),
        1
    );
    let left = state::institution_state(&chain.view, InstitutionId::new(4)).expect("memory");
    let left = left.expect("it belonged to it").left.expect("it left");
    assert_eq!(left.height, Height::new(3));
    let nodes = |epoch| state::node_set(&chain.view, ValidatorEpoch::new(epoch)).expect("memory");
    assert_eq!(nodes(0).expect("the first").nodes().len(), 4);
    assert_eq!(nodes(1).expect("decided by block 3").nodes().len(), 3);
}

/// A node's new key votes, and leads, from the next epoch on; the old one to the end of this.
#[test]
fn a_nodes_key_changes_with_the_validator_epoch() {
    let four = FourHospitals::found(small());
    let mut chain = opened(&four);
    let (_, node) = four.next_keys(2, 1);
    let second = InstitutionId::new(2);
    let key = four.seat(second, &node, ValidatorEpoch::new(1));
    chain.grow(10, vec![four.succession(2), key]);
    let of = |chain: &ToyChain<'_>, epoch| {
        let set = state::node_set(&chain.view, ValidatorEpoch::new(epoch)).expect("memory");
        let set = set.expect("decided");
        set.by_institution(second).expect("a member").key
    };
    assert_eq!(of(&chain, 0), four.hospital(2).institution.node);
    let mut producers = Vec::new();
    for _ in 0..8 {
        producers.push((
            chain.grow(10, vec![]).producer(),
            chain.tip().epoch.number(),
        ));
    }
    assert_eq!(of(&chain, 1), node.verifying_key());
    assert!(producers.contains(&(node.verifying_key(), 1)));
    let old = four.hospital(2).institution.node;
    assert!(
        producers
            .iter()
            .all(|(key, epoch)| *key != old || *epoch == 0)
    );
}

/// The HPKE key that the old node key certified for the next epoch holds up nothing: the new one
/// certifies another.
#[test]
fn h3_a_key_that_another_node_key_certified_is_replaced() {
    let four = FourHospitals::found(small());
    let mut chain = opened(&four);
    let (id, next) = (four.hospital(2).institution.id, ValidatorEpoch::new(1));
    let old = four.hospital(2).node_hpke.public_key();
    chain.grow(10, vec![four.node_key_with(2, next, old)]);
    let (_, node) = four.next_keys(2, 1);
    let key = four.hospital(1).node_hpke.public_key();
    let certified = crate::NodeKeyTransaction::sign(&four.consortium, id, next, key, &node);
    chain.grow(
        10,
        vec![four.succession(2), Transaction::NodeKey(certified)],
    );
    let held = state::node_key(&chain.view, next, id).expect("memory");
    let held = held.expect("recorded");
    assert_eq!((held.key, held.node), (key, node.verifying_key()));
    let third = four.hospital(3).node_hpke.public_key();
    let again = crate::NodeKeyTransaction::sign(&four.consortium, id, next, third, &node);
    assert!(matches!(
        refused(&chain, 10, Transaction::NodeKey(again)),
        Refusal::NodeKeyPresent { .. }
    ));
}

/// A grant that was cut for the nodes of an epoch that ended while it was on its way is taken in the
/// next, and counted to the nodes for which it was cut.
#[test]
fn g5_a_grant_is_for_this_epochs_nodes_or_the_last_ones() {
    let four = FourHospitals::found(small());
    let mut chain = opened(&four);
    let grant = |number: u64, epoch: u64, node: u32| {
        let mut entry = four.grant_entry(number, 86_400_000);
        entry.epoch = ValidatorEpoch::new(epoch);
        four.sign_grant(number, entry, node)
    };
    let wrong = |current: u64, found: u64| Refusal::GrantEpoch {
        current: ValidatorEpoch::new(current),
        found: ValidatorEpoch::new(found),
    };
    for epoch in [1, u64::MAX] {
        assert_eq!(refused(&chain, 10, grant(1, epoch, 1)), wrong(0, epoch));
    }
    chain.grow(10, four.decision(retier(3, Tier::Community), &[1, 2, 3]));
    chain.grow(10, vec![]);
    // Epoch 1: hospital 3 accounts no longer, but did in the epoch of the grant.
    chain.grow(10, vec![grant(1, 0, 3), grant(2, 1, 2)]);
    assert_eq!(
        refused(&chain, 10, grant(3, 1, 3)),
        Refusal::NotAnAccountingNode(InstitutionId::new(3))
    );
    let held = |number: u64| {
        let entry = four.grant_entry(number, 86_400_000);
        let held = state::grant(&chain.view, entry.id(&four.consortium)).expect("memory");
        held.expect("recorded").epoch.number()
    };
    assert_eq!((held(1), held(2)), (0, 1));
    for _ in 0..3 {
        chain.grow(10, vec![]);
    }
    // Block 8 begins epoch 2.
    assert_eq!(refused(&chain, 10, grant(4, 0, 1)), wrong(2, 0));
}

/// The nodes of a validator epoch, by institution: whether each accounts, and its key.
fn seats(chain: &ToyChain<'_>, epoch: u64) -> Vec<(u32, bool, VerifyingKey)> {
    let set = state::node_set(&chain.view, ValidatorEpoch::new(epoch)).expect("memory");
    let set = set.expect("decided");
    let seats = set.nodes().iter();
    seats
        .map(|node| {
            let accounts = node.tier.role() == Role::Accounting;
            (node.institution.number(), accounts, node.key)
        })
        .collect()
}

fn voting(chain: &ToyChain<'_>, epoch: u64) -> Vec<u32> {
    seats(chain, epoch).iter().map(|(id, ..)| *id).collect()
}

fn accounting(chain: &ToyChain<'_>, epoch: u64) -> Vec<u32> {
    let seats = seats(chain, epoch);
    let accounting = seats.iter().filter(|(_, accounts, _)| *accounts);
    accounting.map(|(id, ..)| *id).collect()
}

/// Grows the chain by empty blocks to the last one of an epoch.
fn to_the_end_of(chain: &mut ToyChain<'_>, epoch: u64) {
    let last = chain
        .hospitals
        .genesis
        .settings
        .last_of(ValidatorEpoch::new(epoch));
    while chain.tip().height < last {
        chain.grow(10, vec![]);
    }
}

/// A newcomer with keys and a number of its own.
fn another(four: &FourHospitals, number: u32, tier: Tier) -> Hospital {
    let mut newcomer = four.newcomer(tier);
    let of = |purpose| SigningKey::random(&mut rng(purpose, number.into()));
    (newcomer.key, newcomer.node_key) = (of("newcomer"), of("newcomer's node"));
    newcomer.institution.id = InstitutionId::new(number);
    newcomer.institution.key = newcomer.key.verifying_key();
    newcomer.institution.node = newcomer.node_key.verifying_key();
    newcomer
}

/// The story: two hospitals were admitted and their nodes never started. Of six nodes five must vote, so
/// from the border on four that all ran decided nothing more. Nor could anyone grant: a grant is sealed
/// to every accounting node.
#[test]
fn attack_who_never_started_has_no_seat() {
    let four = FourHospitals::found(small());
    let mut chain = opened(&four);
    chain.grow(10, [1, 2, 3].map(|number| four.node_key(number)).to_vec());
    let five = four.newcomer(Tier::Secondary);
    let six = another(&four, 6, Tier::Community);
    let mut decisions = four.admission(&five, &[1, 2, 3]);
    chain.grow(10, decisions);
    assert_eq!(voting(&chain, 1), [1, 2, 3, 4]);
    decisions = four.admission(&six, &[1, 2, 3, 4]);
    chain.grow(10, decisions);
    to_the_end_of(&mut chain, 1);
    assert_eq!(voting(&chain, 2), [1, 2, 3, 4]);

    // A key of an epoch that has begun is too late for it, and shows nothing for the next.
    let of = |hospital: &Hospital, epoch| {
        let epoch = ValidatorEpoch::new(epoch);
        four.seat(hospital.institution.id, &hospital.node_key, epoch)
    };
    chain.grow(10, vec![]);
    for newcomer in [&five, &six] {
        assert!(matches!(
            refused(&chain, 10, of(newcomer, 2)),
            Refusal::NodeNeedsNoKey { .. }
        ));
    }
    // Both run now. Of four nodes one may be faulty, so one takes its seat, and then the other.
    chain.grow(10, vec![of(&five, 3), of(&six, 3)]);
    to_the_end_of(&mut chain, 2);
    assert_eq!(accounting(&chain, 3), [1, 2, 3, 5]);
    assert_eq!(voting(&chain, 3), [1, 2, 3, 4, 5]);
    to_the_end_of(&mut chain, 3);
    assert_eq!(
        voting(&chain, 4),
        [1, 2, 3, 4, 5],
        "that it ran an epoch ago is not that it runs"
    );
    chain.grow(10, vec![of(&six, 5)]);
    to_the_end_of(&mut chain, 4);
    assert_eq!(voting(&chain, 5), [1, 2, 3, 4, 5, 6]);
    // Who has a seat keeps it without another word.
    to_the_end_of(&mut chain, 5);
    assert_eq!(voting(&chain, 6), [1, 2, 3, 4, 5, 6]);
}

/// The story: a hospital took its next node key and could not start under it. Its old node, which ran, had
/// no seat any more, and no grant could be sealed to the new one.
#[test]
fn attack_a_node_keeps_its_seat_until_the_next_key_runs() {
    let four = FourHospitals::found(small());
    let mut chain = opened(&four);
    chain.grow(10, [1, 2, 3].map(|number| four.node_key(number)).to_vec());
    let second = InstitutionId::new(2);
    let (old, (_, next)) = (four.hospital(2).institution.node, four.next_keys(2, 1));
    chain.grow(10, vec![four.succession(2)]);
    to_the_end_of(&mut chain, 1);
    for epoch in [1, 2] {
        assert!(seats(&chain, epoch).contains(&(2, true, old)));
    }
    // Grants go on being sealed to the key that the old one certified, also when the next has certified
    // one of the epoch to come.
    chain.grow(10, vec![four.seat(second, &next, ValidatorEpoch::new(3))]);
    let set = state::node_set(&chain.view, ValidatorEpoch::new(2)).expect("memory");
    let node = *set
        .expect("decided")
        .by_institution(second)
        .expect("seated");
    let sealed_to = state::serving_node_key(&chain.view, ValidatorEpoch::new(2), &node);
    let sealed_to = sealed_to.expect("memory").expect("its last one");
    assert_eq!(sealed_to.key, four.hospital(2).node_hpke.public_key());
    to_the_end_of(&mut chain, 2);
    assert!(seats(&chain, 3).contains(&(2, true, next.verifying_key())));
}

/// A founder whose node was never there verifies, once the others' HPKE keys stand; nobody waits for it
/// with a grant.
#[test]
fn who_would_account_verifies_until_its_hpke_key_stands() {
    let four = FourHospitals::found(small());
    let mut chain = opened(&four);
    to_the_end_of(&mut chain, 0);
    assert_eq!(accounting(&chain, 1), [1, 2, 3], "none has one yet");
    let key = |number: u32, epoch| {
        let key = four.hospital(number).node_hpke.public_key();
        four.node_key_with(number, ValidatorEpoch::new(epoch), key)
    };
    chain.grow(10, vec![key(1, 1), key(2, 1)]);
    to_the_end_of(&mut chain, 1);
    assert_eq!(accounting(&chain, 2), [1, 2]);
    assert_eq!(voting(&chain, 2), [1, 2, 3, 4]);
    chain.grow(10, vec![key(3, 3)]);
    to_the_end_of(&mut chain, 2);
    assert_eq!(accounting(&chain, 3), [1, 2, 3]);
    // The others made no key since; grants go on being sealed to their last ones.
    let set = state::node_set(&chain.view, ValidatorEpoch::new(3)).expect("memory");
    for node in set.expect("decided").accounting() {
        let held = state::serving_node_key(&chain.view, ValidatorEpoch::new(3), node);
        let number = node.institution.number();
        let own = four.hospital(number).node_hpke.public_key();
        assert_eq!(held.expect("memory").expect("its last one").key, own);
    }
}

/// A4 holds of those that have seats too: what never took its seat is no reason to let others go.
#[test]
fn a4_who_has_no_seat_yet_replaces_nobody() {
    let four = FourHospitals::found(small());
    let mut chain = opened(&four);
    // Of four with two that account f is 1.
    chain.grow(10, four.decision(retier(3, Tier::Community), &[1, 2, 3]));
    chain.grow(
        10,
        four.admission(&four.newcomer(Tier::Secondary), &[1, 2, 3]),
    );
    let removal = put(four.motion(1, remove(2)));
    assert!(matches!(
        refused(&chain, 10, removal.clone()),
        Refusal::Threshold { .. } | Refusal::Nodes(_)
    ));
    let newcomer = four.newcomer(Tier::Secondary);
    let seat = four.seat(
        newcomer.institution.id,
        &newcomer.node_key,
        ValidatorEpoch::new(2),
    );
    to_the_end_of(&mut chain, 0);
    chain.grow(10, vec![seat]);
    to_the_end_of(&mut chain, 1);
    assert_eq!(accounting(&chain, 2).len(), 3);
    chain.grow(10, vec![]);
    chain.grow(10, vec![removal]);
}

/// What a release does not know it does not decide on: from the border on it neither votes nor proposes.
#[test]
fn a7_the_next_rules_are_decided_on_and_in_force_from_the_border_on() {
    let four = FourHospitals::found(small());
    let mut chain = opened(&four);
    let rules = MembershipChange::Rules;
    let not_next = |found| Refusal::RulesNotNext { expected: 2, found };
    for wrong in [0, 1, 3, u16::MAX] {
        assert_eq!(
            refused(&chain, 10, put(four.motion(1, rules(wrong)))),
            not_next(wrong)
        );
    }
    chain.grow(10, four.decision(rules(2), &[1, 2, 3]));
    let held = state::rules(&chain.view).expect("memory");
    assert_eq!((held.rules, held.since), (2, ValidatorEpoch::new(1)));
    assert_eq!(held.in_epoch(ValidatorEpoch::new(0)), 1);
    assert_eq!(
        refused(&chain, 10, put(four.motion(2, rules(3)))),
        Refusal::RulesDecided(held)
    );
    chain.grow(10, vec![four.node_key(1)]);
    assert_eq!(chain.tip().height.number(), 3);

    // The first block of epoch 1.
    let view = LeaderView::new(3);
    let time = Timestamp::new(chain.tip().time.number() + 10);
    let key = chain.leader_key(view);
    let proposed = crate::propose(&chain.view, chain.tip(), view, time, [], key);
    assert!(matches!(
        proposed,
        Err(crate::ProposeError::Read(ReadError::UnknownRules {
            found: 2
        }))
    ));
    let admitted = admit(&chain.view, &four.checked(four.patient(1)), time);
    assert!(matches!(
        admitted,
        Err(AdmitError::Read(ReadError::UnknownRules { found: 2 }))
    ));
}

/// A hospital that was removed countersigns no grant, though its node has its seat to the epoch's end.
#[test]
fn g3_who_left_countersigns_no_grant() {
    let four = FourHospitals::found(small());
    let mut chain = opened(&four);
    let grant = |number: u64| {
        let entry = four.grant_entry(number, 86_400_000);
        four.sign_grant(number, entry, 3)
    };
    chain.grow(10, vec![grant(1)]);
    chain.grow(10, four.decision(remove(3), &[1, 2, 4]));
    assert_eq!(
        refused(&chain, 10, grant(2)),
        Refusal::UnknownInstitution(InstitutionId::new(3))
    );
}
