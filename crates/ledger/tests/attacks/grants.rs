//! Attacks on grants: a key in two of them, and the nodes' keys to which they are sealed.

use std::collections::BTreeMap;

use ledger::testing::rng;
use ledger::{
    CheckError, GrantState, NodeKeyState, NodeKeyTransaction, Refusal, Signer, StateProof,
    Transaction,
};
use scheme::{GrantId, HpkePrivateKey, Purpose, ValidatorEpoch};

use crate::attacker::{four, opened, refusal};

/// Attacker: doctor B, who asks the same patient twice, or two patients. Holds: one access key, given
/// in both requests. Then an access under one grant is none under the other, the longer one serves
/// what the shorter one granted, and the patient who revokes one has not stopped the key. Literal, a
/// map of keys to grants: the later grant takes over the key, and the earlier log ends for ever at what
/// it held. Ours: no key stands in two grants; the second one is refused, and its client asks for
/// fresh keys.
#[test]
fn attack_use_an_access_key_in_a_second_grant() {
    let four = four();
    let mut chain = opened(&four);
    let key = four.access_key(1, 0).verifying_key();
    let id = |grant: u64| {
        GrantId::of(
            &four.consortium,
            &four.revocation_key(grant).verifying_key(),
        )
    };
    let mut second = four.grant_entry(2, 3_600_000);
    second.access_keys[0] = key;
    second.access_keys.sort_unstable();

    let mut literal = BTreeMap::new();
    for (grant, entry) in [(1, four.grant_entry(1, 60_000)), (2, second.clone())] {
        for key in entry.access_keys {
            literal.insert(key, id(grant));
        }
    }
    assert_eq!(literal[&key], id(2), "an access with it is none of grant 1");

    chain.grow(10, vec![four.grant(1, 60_000)]);
    chain.grow(10, vec![four.access(1, &[(0, 0)])]);
    let again = four.sign_grant(2, second, 2);
    assert_eq!(
        refusal(&chain, 10, again.clone()),
        Refusal::AccessKeyUsed(key)
    );
    // Nor after the first grant's end, when its key is as used as ever.
    chain.grow(10, vec![four.revocation(1)]);
    assert_eq!(refusal(&chain, 60_000, again), Refusal::AccessKeyUsed(key));
    assert_eq!(ledger::grant_of(&chain.view, &key).unwrap(), Some(id(1)));
    let held = ledger::grant(&chain.view, id(1)).unwrap().unwrap();
    let (_, next) = held.access.iter().find(|(own, _)| *own == key).unwrap();
    assert_eq!(next.number(), 1);
    // Both in one block: the first has it.
    let mut third = four.grant_entry(3, 60_000);
    let mut fourth = four.grant_entry(4, 60_000);
    let shared = four.access_key(3, 1).verifying_key();
    fourth.access_keys[1] = shared;
    third.access_keys.sort_unstable();
    fourth.access_keys.sort_unstable();
    let both = [four.sign_grant(3, third, 1), four.sign_grant(4, fourth, 1)];
    let both = both.map(|grant| four.checked(grant));
    let proposal = chain.propose(10, &both);
    assert_eq!(
        proposal.refused,
        [(both[1].id(), Refusal::AccessKeyUsed(shared))]
    );
}

/// Attacker: another hospital's node, or whoever hands a patient's client the list of the nodes' keys.
/// Holds: a key of its own, which it passes as another node's, and then opens that node's share
/// besides its own. Literal, a list that some node hands out: the client seals to what it says. Ours:
/// the node's consensus key signs its key, institution and epoch, the state holds it, and the state's
/// root proves it.
#[test]
fn attack_pass_ones_own_key_as_another_nodes() {
    let four = four();
    let mut chain = opened(&four);
    let (mine, epoch) = (four.hospital(2), ValidatorEpoch::new(0));
    let victim = four.hospital(3).institution.id;

    let handed_out: BTreeMap<_, _> = [1, 2, 3]
        .map(|number| {
            let institution = four.hospital(number).institution.id;
            (institution, mine.node_hpke.public_key())
        })
        .into();
    let share = b"the share of hospital 3";
    let purpose = Purpose::GrantToNode;
    let rng = &mut rng("a share", 3);
    let sealed = handed_out[&victim]
        .seal(purpose, &four.consortium, b"", share, rng)
        .unwrap();
    let opened_by_2 = mine
        .node_hpke
        .open(purpose, &four.consortium, b"", &sealed)
        .unwrap();
    assert_eq!(*opened_by_2, share);

    // By its own consensus key, by its institution's, and by a signature of the victim's over
    // another epoch or another key.
    let passed = |key| {
        let hpke = mine.node_hpke.public_key();
        NodeKeyTransaction::sign(&four.consortium, victim, epoch, hpke, key)
    };
    let Transaction::NodeKey(real) = four.node_key(3) else {
        panic!("a node's key");
    };
    let mut another_key = real;
    another_key.key = mine.node_hpke.public_key();
    let mut another_epoch = real;
    another_epoch.epoch = ValidatorEpoch::new(1);
    for forged in [
        passed(&mine.node_key),
        passed(&mine.key),
        another_key,
        another_epoch,
    ] {
        assert_eq!(
            refusal(&chain, 10, Transaction::NodeKey(forged)),
            Refusal::Signature(CheckError::Signature(Signer::Node))
        );
    }
    chain.grow(10, vec![four.node_key(3), four.node_key(2)]);
    // What a client takes is proved for this institution and epoch.
    let of = |institution| (epoch, institution);
    let proof = StateProof::new::<NodeKeyState>(&chain.view, &of(victim)).unwrap();
    let proved = proof
        .verify::<NodeKeyState>(chain.tip(), &of(victim))
        .unwrap();
    assert_eq!(proved.unwrap().key, real.key);
    let own = StateProof::new::<NodeKeyState>(&chain.view, &of(mine.institution.id)).unwrap();
    assert!(
        own.verify::<NodeKeyState>(chain.tip(), &of(victim))
            .is_err()
    );
    let id = GrantId::new(*real.key.as_bytes());
    assert!(own.verify::<GrantState>(chain.tip(), &id).is_err());
}

/// Attacker: a node that wants to be rid of grants without being seen to refuse them. Holds: its
/// consensus key. Literal, the newest certificate of a node holds: a grant that was sealed to the
/// earlier key names a key that nobody finds any more, and its share stays shut. Ours: one key for a
/// node and an epoch, whatever it signs later, so that what was sealed to it is the node's to open.
#[test]
fn attack_replace_a_nodes_key_within_its_epoch() {
    let four = four();
    let mut chain = opened(&four);
    let (id, epoch) = (four.hospital(1).institution.id, ValidatorEpoch::new(0));
    let first = four.hospital(1).node_hpke.public_key();
    let rng = &mut rng("a later key", 1);
    let later_private = HpkePrivateKey::random(rng);
    let later = later_private.public_key();

    let mut literal = BTreeMap::new();
    literal.insert((epoch, id), first);
    let purpose = Purpose::GrantToNode;
    let sealed = literal[&(epoch, id)].seal(purpose, &four.consortium, b"", b"a share", rng);
    literal.insert((epoch, id), later);
    assert_ne!(literal[&(epoch, id)], first);
    let share = later_private.open(purpose, &four.consortium, b"", &sealed.unwrap());
    assert!(share.is_err(), "what the patient sealed is lost");

    chain.grow(10, vec![four.node_key(1)]);
    let replaced = four.node_key_with(1, epoch, later);
    assert!(matches!(
        refusal(&chain, 10, replaced),
        Refusal::NodeKeyPresent { .. }
    ));
    let held = ledger::node_key(&chain.view, epoch, id).unwrap();
    assert_eq!(held.unwrap().key, first);
    // The next epoch's is another matter.
    let next = four.node_key_with(1, ValidatorEpoch::new(1), later);
    chain.grow(10, vec![next]);
    let held = ledger::node_key(&chain.view, epoch, id).unwrap();
    assert_eq!(held.unwrap().key, first);
}
