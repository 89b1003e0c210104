//! Attacks on the access log's counting and dating (L1 to L5). Its masking is the scheme's.

use std::collections::BTreeSet;

use ledger::testing::{FourHospitals, ToyChain};
use ledger::{
    Access, AccessEntry, AccessNumber, CheckError, GrantState, Header, InvalidBlock, Refusal,
    Signer, StateProof, Transaction,
};
use scheme::GrantId;

use crate::attacker::{at, forge, four, opened, refusal, verdict, wrong};
use crate::literal::{
    LogByName, NodesLog, ReadersClockGate, ToldNode, UncountedEntry, uncounted_log_stands,
};

fn entries(transaction: &Transaction) -> Vec<AccessEntry> {
    let Transaction::Access(access) = transaction else {
        panic!("an access");
    };
    access.entries.clone()
}

fn access(entries: &[AccessEntry]) -> Transaction {
    let entries = entries.to_vec();
    Transaction::Access(Access { entries })
}

fn gid(four: &FourHospitals, grant: u64) -> GrantId {
    GrantId::of(
        &four.consortium,
        &four.revocation_key(grant).verifying_key(),
    )
}

/// How often each of a grant's two keys was used, by the state.
fn counts(chain: &ToyChain<'_>, grant: u64) -> [u64; 2] {
    let four = chain.hospitals;
    let held = ledger::grant(&chain.view, gid(four, grant))
        .unwrap()
        .unwrap();
    [0, 1].map(|doctor| {
        let key = four.access_key(grant, doctor).verifying_key();
        let (_, next) = held.access.iter().find(|(own, _)| *own == key).unwrap();
        next.number()
    })
}

/// What a patient's client does with a log that a node shows: the state proves how many entries each
/// key made; so many there must be, numbered from 0.
fn log_is_complete(
    header: &Header,
    proof: &StateProof,
    grant: &GrantId,
    shown: &[AccessEntry],
) -> bool {
    let Ok(Some(state)) = proof.verify::<GrantState>(header, grant) else {
        return false;
    };
    let numbers = |key| -> BTreeSet<u64> {
        let of_key = shown.iter().filter(|entry| entry.access_key == key);
        of_key.map(|entry| entry.number.number()).collect()
    };
    state
        .access
        .iter()
        .all(|(key, next)| numbers(*key) == (0..next.number()).collect())
        && shown
            .iter()
            .all(|entry| state.access.iter().any(|(key, _)| *key == entry.access_key))
}

/// Attacker: doctor B, or the one node that shows a patient the log. Holds: the access keys, or all
/// entries. B wants to read without an entry; the node wants to leave one out. Literal, a list of
/// signed entries: each entry stands alone, and what is missing leaves no gap. Ours: nodes serve an
/// access once it is final, consensus takes only the next number of a key, and the counts stand in the
/// state, so that one proof shows how long the log is.
#[test]
fn attack_skip_an_access_log_entry() {
    let four = four();
    let mut chain = opened(&four);
    chain.grow(10, vec![four.grant(1, 60_000)]);
    let all = entries(&four.access(1, &[(0, 0), (0, 1), (0, 2), (1, 0)]));

    let literal: Vec<_> = (0..3)
        .map(|place| UncountedEntry::of(&four.access_key(1, 0), &all[place]))
        .collect();
    assert!(uncounted_log_stands(&literal));
    let without_the_second = [literal[0], literal[2]];
    assert!(uncounted_log_stands(&without_the_second));

    // B logs the first access and the third.
    chain.grow(10, vec![access(&all[..1])]);
    let not_next = |expected, found| Refusal::AccessNotNext {
        key: four.access_key(1, 0).verifying_key(),
        expected: AccessNumber::new(expected),
        found: AccessNumber::new(found),
    };
    assert_eq!(refusal(&chain, 10, access(&all[2..3])), not_next(1, 2));
    assert_eq!(
        refusal(&chain, 10, access(&[all[3], all[2]])),
        not_next(1, 2)
    );
    assert_eq!(counts(&chain, 1), [1, 0], "all or none of a transaction");
    chain.grow(10, vec![access(&all[1..])]);
    assert_eq!(counts(&chain, 1), [3, 1]);

    // The node leaves entries out, or shows the log with an older proof.
    let id = gid(&four, 1);
    let proof = StateProof::new::<GrantState>(&chain.view, &id).unwrap();
    for chosen in 0u32..16 {
        let shown: Vec<_> = (0..4)
            .filter(|place| chosen >> place & 1 == 1)
            .map(|place| all[place])
            .collect();
        let complete = log_is_complete(chain.tip(), &proof, &id, &shown);
        assert_eq!(complete, chosen == 15, "entries {chosen:04b}");
    }
    chain.grow(10, vec![four.access(1, &[(1, 1)])]);
    assert!(!log_is_complete(chain.tip(), &proof, &id, &all));
}

/// Attacker: doctor B, or anyone who sees an entry travel. Holds: a signed entry. Sent again it makes
/// accesses that never were, behind which B can say that the real ones were doubles too. Literal: an
/// entry stands as often as it is sent. Ours: the same transaction is final already, and the same
/// number in any other company is not the next.
#[test]
fn attack_double_an_access_log_entry() {
    let four = four();
    let mut chain = opened(&four);
    chain.grow(10, vec![four.grant(1, 60_000)]);
    let all = entries(&four.access(1, &[(0, 0), (0, 1), (1, 0)]));

    let once = UncountedEntry::of(&four.access_key(1, 0), &all[0]);
    assert!(uncounted_log_stands(&[once, once, once]));

    let first = access(&all[..1]);
    chain.grow(10, vec![first.clone()]);
    assert!(matches!(refusal(&chain, 10, first), Refusal::Final(_)));
    // In the company of the next one, of a colleague's, and of itself: other transactions.
    for doubled in [
        access(&[all[0], all[1]]),
        access(&[all[2], all[0]]),
        access(&[all[1], all[1]]),
    ] {
        assert!(matches!(
            refusal(&chain, 10, doubled),
            Refusal::AccessNotNext { .. }
        ));
    }
    // The same number for another record: B signs whatever B likes, but only one of them counts.
    let another = AccessEntry::sign(
        &four.consortium,
        &four.access_key(1, 0),
        AccessNumber::new(0),
        all[1].pad,
        all[1].masked,
    );
    assert!(matches!(
        refusal(&chain, 10, access(&[another])),
        Refusal::AccessNotNext { .. }
    ));
    assert_eq!(counts(&chain, 1), [1, 0]);
}

/// Attacker: the leader, who makes the blocks. Holds: its node's key and all that travels. It writes an
/// access in a doctor's name, or makes a real one say another record or another doctor. Literal, the
/// paper's log that the master node keeps: an entry is what the node says. Ours: the access key signs
/// key, number, v and masked id, and a block with any other entry is invalid.
#[test]
fn attack_forge_an_access_log_entry() {
    let four = four();
    let mut chain = opened(&four);
    chain.grow(10, vec![four.grant(1, 60_000)]);
    let real = entries(&four.access(1, &[(0, 0)]))[0];
    let other = entries(&four.access(1, &[(1, 1)]))[0];
    let doctor = four.access_key(1, 0).verifying_key();

    // No signature is asked for: the doctor's key, any record.
    let mut literal = NodesLog::default();
    literal.write(doctor, other.masked);
    assert_eq!(literal.accesses_of(&doctor), 1);

    let honest = chain.propose(10, &[]).block;
    let leader = chain.leader_key(honest.header().view);
    let mut signed_by_the_node =
        AccessEntry::sign(&four.consortium, leader, real.number, real.pad, real.masked);
    signed_by_the_node.access_key = doctor;
    let moved = |alter: fn(&mut AccessEntry, &AccessEntry)| {
        let mut entry = real;
        alter(&mut entry, &other);
        entry
    };
    for forged in [
        signed_by_the_node,
        moved(|entry, other| entry.signature = other.signature),
        moved(|entry, other| entry.masked = other.masked),
        moved(|entry, other| entry.pad = other.pad),
        moved(|entry, other| entry.number = other.number),
        moved(|entry, other| entry.access_key = other.access_key),
    ] {
        let source = CheckError::Signature(Signer::Access);
        assert_eq!(wrong(&four.consortium, &access(&[forged])), source);
        let block = forge(&chain, &honest, &[access(&[forged])], leader, |_| {});
        let index = 0;
        assert_eq!(
            verdict(&chain, &block),
            Ok(InvalidBlock::Transaction { index, source })
        );
    }
    chain.grow(10, vec![access(&[real])]);
}

/// Attacker: anyone who sees the chain of one consortium. Holds: an entry under an access key that is
/// granted in another consortium as well, as when a client gives one request to both. Replayed there,
/// it is an access that never was. Literal: a signature that names no consortium stands in both. Ours:
/// every signed text begins with the consortium, whose id covers its founding document.
#[test]
fn attack_replay_an_access_in_another_consortium() {
    let here = four();
    let mut settings = here.genesis.settings;
    settings.cut.count += 1;
    let there = FourHospitals::found(settings);
    assert_ne!(here.consortium, there.consortium);
    // The toy hospitals have the same keys everywhere, and so have their grants.
    let key = here.access_key(1, 0);
    assert_eq!(key.verifying_key(), there.access_key(1, 0).verifying_key());
    let real = here.access(1, &[(0, 0)]);

    let literal = UncountedEntry::of(&key, &entries(&real)[0]);
    let (log_here, log_there) = ([literal], [literal]);
    assert!(uncounted_log_stands(&log_here) && uncounted_log_stands(&log_there));

    let mut chain = opened(&here);
    chain.grow(10, vec![here.grant(1, 60_000)]);
    chain.grow(10, vec![real.clone()]);
    let mut chain = opened(&there);
    chain.grow(10, vec![there.grant(1, 60_000)]);
    assert_eq!(
        wrong(&there.consortium, &real),
        CheckError::Signature(Signer::Access)
    );
    chain.grow(10, vec![there.access(1, &[(0, 0)])]);
}

/// Attacker: doctor C, who has a grant of another patient, or none. Holds: the access keys of that
/// grant. They log accesses under the first patient's grant. Literal, an entry that names its grant and
/// is signed by a known key: C's key is known. Ours: an entry does not name a grant; its key stands in
/// one grant only, and is counted there.
#[test]
fn attack_read_with_another_grants_key() {
    let four = four();
    let mut chain = opened(&four);
    chain.grow(10, vec![four.grant(1, 60_000), four.grant(2, 60_000)]);
    let key = four.access_key(2, 0).verifying_key();

    let literal = LogByName {
        grants: [gid(&four, 1), gid(&four, 2)].into(),
        keys: [(1, 0), (1, 1), (2, 0), (2, 1)]
            .map(|(grant, doctor)| four.access_key(grant, doctor).verifying_key())
            .into(),
    };
    let entry = entries(&four.access(2, &[(0, 0)]))[0];
    let entry = UncountedEntry::of(&four.access_key(2, 0), &entry);
    assert!(literal.takes(&gid(&four, 1), &entry));

    // C's access counts under C's grant, where C's patient sees it, and not under the other.
    chain.grow(10, vec![four.access(2, &[(0, 0)])]);
    assert_eq!((counts(&chain, 1), counts(&chain, 2)), ([0, 0], [1, 0]));
    assert_eq!(
        ledger::grant_of(&chain.view, &key).unwrap(),
        Some(gid(&four, 2))
    );
    // It ends with C's grant, although the other one goes on.
    chain.grow(10, vec![four.revocation(2)]);
    assert!(matches!(
        refusal(&chain, 10, four.access(2, &[(0, 1)])),
        Refusal::GrantRevoked(_)
    ));
    // A key of no grant.
    let nobodys = four.access_key(3, 0).verifying_key();
    assert_eq!(
        refusal(&chain, 10, four.access(3, &[(0, 0)])),
        Refusal::AccessKeyUnknown(nobodys)
    );
    chain.grow(10, vec![four.access(1, &[(0, 0)])]);
}

/// Attacker: doctor B, before the grant begins and after it has ended, with a leader on B's side.
/// Holds: the access key. Literal, a gate that compares the time that the reader signed: B signs the
/// right one. Ours: an access has no time of its own; the block's counts, the same for all nodes, and
/// it never goes back. (A leader who dates a block too early keeps a grant open only until the next
/// correct leader's block.)
#[test]
fn attack_read_before_the_begin_or_after_the_end() {
    let four = four();
    let mut chain = opened(&four);
    let mut entry = four.grant_entry(1, 60);
    entry.not_before = at(40);
    let key = four.access_key(1, 0);
    let gate = ReadersClockGate {
        keys: entry.access_keys.clone(),
        not_before: entry.not_before,
        expiry: entry.expiry,
    };
    // At 30 ms and at 70 ms B says 50.
    let opens = |said| {
        let signature = ReadersClockGate::ask(&four.consortium, &key, said);
        gate.opens(&four.consortium, &key.verifying_key(), said, &signature)
    };
    assert!(!opens(at(30)) && !opens(at(70)));
    assert!(opens(at(50)));

    chain.grow(10, vec![four.sign_grant(1, entry, 1)]);
    let first = four.access(1, &[(0, 0)]);
    let (not_before, expiry) = (at(40), at(60));
    let block = at(39);
    assert_eq!(
        refusal(&chain, 19, first.clone()),
        Refusal::GrantNotBegun { not_before, block }
    );
    chain.grow(20, vec![first]);
    let second = four.access(1, &[(0, 1)]);
    let block = at(60);
    assert_eq!(
        refusal(&chain, 20, second.clone()),
        Refusal::GrantExpired { expiry, block }
    );
    // Once the chain is past the end, a leader who dates its block back is alone with it.
    chain.grow(30, vec![]);
    let honest = chain.propose(10, &[]).block;
    let leader = chain.leader_key(honest.header().view);
    for time in [at(59), at(70)] {
        let back = |header: &mut Header| header.time = time;
        let block = forge(&chain, &honest, std::slice::from_ref(&second), leader, back);
        assert_eq!(verdict(&chain, &block), Ok(InvalidBlock::Time));
    }
    assert_eq!(counts(&chain, 1), [1, 0]);
}

/// Attacker: doctor B after the patient revoked. Holds: the access key. Literal, the patient tells the
/// nodes: one that was down has not heard, and serves. Ours: the revocation is a transaction, and from
/// its place in its block on consensus takes no access; a node serves only what is final.
#[test]
fn attack_read_after_the_revocation() {
    let four = four();
    let mut chain = opened(&four);
    chain.grow(10, vec![four.grant(1, 60_000)]);
    let id = gid(&four, 1);

    let mut nodes = vec![ToldNode::default(); 3];
    for awake in &mut nodes[..2] {
        awake.tell(id);
    }
    assert!(nodes.iter().any(|node| node.serves(&id)));

    // In the very block of the revocation, before it and after it.
    let leader_takes = [
        four.access(1, &[(0, 0)]),
        four.revocation(1),
        four.access(1, &[(0, 1)]),
    ];
    let honest = chain.propose(10, &[]).block;
    let leader = chain.leader_key(honest.header().view);
    let block = forge(&chain, &honest, &leader_takes, leader, |_| {});
    let Ok(InvalidBlock::Refused { index, source }) = verdict(&chain, &block) else {
        panic!("a voter takes an access after the revocation");
    };
    assert_eq!(index, 2);
    assert!(matches!(source, Refusal::GrantRevoked(_)));

    chain.grow(10, leader_takes[..2].to_vec());
    for number in [1, 2] {
        assert!(matches!(
            refusal(&chain, 10, four.access(1, &[(0, number)])),
            Refusal::GrantRevoked(_)
        ));
    }
    // The colleague's key as well, and whatever the leader says of the state.
    assert!(matches!(
        refusal(&chain, 10, four.access(1, &[(1, 0)])),
        Refusal::GrantRevoked(_)
    ));
    assert_eq!(counts(&chain, 1), [1, 0]);
}
