//! Every rule of a block, B1 to B14, broken alone; the anchor; the border of a validator epoch.

use scheme::{Digest, Timestamp, ValidatorEpoch};

use super::*;
use crate::identity::{BlockId, Height, LeaderView, StateRoot};
use crate::policy::{LeaderRotation, Tier};
use crate::transaction::{Anchor, CheckError, Signer};
use crate::view::{Changes, Overlay};
use crate::{EncodedBlock, genesis, state};

/// An honest block with one record and what breaks it.
fn break_header(alter: impl FnOnce(&mut Header)) -> InvalidBlock {
    let four = FourHospitals::found(plain());
    let chain = opened(&four);
    let block = chain.propose(10, &[four.checked(four.record(1, 1))]).block;
    assert!(execute(&chain.view, chain.tip(), &block).is_ok());
    let key = chain.leader_key(block.header().view);
    let body = block.transactions().to_vec();
    broken(&chain, &forge(&chain, &block, body, key, alter))
}

#[test]
fn b1_a_block_of_another_consortium() {
    let other = scheme::ConsortiumId::new([1; 32]);
    assert_eq!(
        break_header(|header| header.consortium = other),
        InvalidBlock::Consortium
    );
}

#[test]
fn b2_a_block_that_does_not_continue_its_parent() {
    assert_eq!(
        break_header(|header| header.height = Height::new(3)),
        InvalidBlock::Parent
    );
    assert_eq!(
        break_header(|header| header.height = Height::new(1)),
        InvalidBlock::Parent
    );
    let other = BlockId::new([1; 32]);
    assert_eq!(
        break_header(|header| header.previous = other),
        InvalidBlock::Parent
    );
}

#[test]
fn b3_a_block_not_later_than_its_parent() {
    let back = |header: &mut Header| header.time = Timestamp::new(header.time.number() - 10);
    assert_eq!(break_header(back), InvalidBlock::Time);
}

#[test]
fn b4_a_header_that_is_not_that_of_the_body() {
    assert_eq!(
        break_header(|header| header.size += 1),
        InvalidBlock::Body("size")
    );
    let count = InvalidBlock::Body("number of transactions");
    assert_eq!(break_header(|header| header.count += 1), count);
    let root = Digest::new([1; 32]);
    assert_eq!(
        break_header(|header| header.merkle_root = root),
        InvalidBlock::Body("Merkle root")
    );
}

#[test]
fn b5_a_block_above_the_limits() {
    let mut settings = plain();
    settings.cut.count = 8;
    settings.body_bytes_max = 128 << 10;
    let four = FourHospitals::found(settings);
    let chain = opened(&four);
    let key = chain.leader_key(LeaderView::new(2));

    // Nine small ones, where eight are allowed; the leader itself stops at eight.
    let many: Vec<_> = (0..9).map(|number| four.withdrawal(number)).collect();
    let checked: Vec<_> = many.iter().cloned().map(|tx| four.checked(tx)).collect();
    let honest = chain.propose(10, &checked);
    assert_eq!(
        (honest.block.transactions().len(), honest.refused.len()),
        (8, 0)
    );
    let forged = forge(&chain, &honest.block, many, key, |_| {});
    assert_eq!(
        broken(&chain, &forged),
        InvalidBlock::TooLarge("number of transactions")
    );

    // Four records of 33 KB, where 128 KiB are allowed; the leader takes three.
    let large: Vec<_> = (0..4)
        .map(|number| four.sign_record(1, four.statement(1, number, 1_024)))
        .collect();
    let checked: Vec<_> = large.iter().cloned().map(|tx| four.checked(tx)).collect();
    let honest = chain.propose(10, &checked);
    assert_eq!(
        (honest.block.transactions().len(), honest.refused.len()),
        (3, 0)
    );
    let forged = forge(&chain, &honest.block, large, key, |_| {});
    assert_eq!(broken(&chain, &forged), InvalidBlock::TooLarge("size"));
    let limits = settings.limits();
    assert!(Block::decode(&forged.encode(), &limits).is_err());
    assert!(Block::decode(&honest.block.encode(), &limits).is_ok());
}

#[test]
fn b6_a_block_of_another_validator_epoch() {
    let (expected, found) = (ValidatorEpoch::new(0), ValidatorEpoch::new(1));
    assert_eq!(
        break_header(|header| header.epoch = found),
        InvalidBlock::Epoch { expected, found }
    );
}

#[test]
fn b7_a_view_that_is_not_after_the_parents() {
    assert_eq!(
        break_header(|header| header.view = LeaderView::new(1)),
        InvalidBlock::View
    );
}

#[test]
fn b8_only_the_accounting_node_whose_turn_it_is_leads() {
    let four = FourHospitals::found(plain());
    let chain = opened(&four);
    let proposal = chain.propose(10, &[]);
    let mine = *chain.leader_key(proposal.block.header().view).expose_seed();
    for hospital in &four.hospitals {
        let forged = forge(
            &chain,
            &proposal.block,
            Vec::new(),
            &hospital.node_key,
            |_| {},
        );
        let taken = execute(&chain.view, chain.tip(), &forged);
        if *hospital.node_key.expose_seed() == mine {
            assert!(taken.is_ok());
        } else {
            assert_eq!(broken(&chain, &forged), InvalidBlock::NotLeader);
            let tip = chain.tip();
            let (view, time) = (forged.header().view, forged.time());
            let own = crate::propose(&chain.view, tip, view, time, [], &hospital.node_key);
            assert!(matches!(own, Err(crate::ProposeError::NotLeader(_))));
        }
    }
    // A view later, the leader of this one is out of turn.
    let late = |header: &mut Header| header.view = header.view.next();
    assert_eq!(break_header(late), InvalidBlock::NotLeader);
    // In no view at all does the community hospital lead.
    let nodes = four.genesis.node_set().expect("four hospitals");
    let rotation = LeaderRotation::new(&nodes, four.genesis.settings.leader_term);
    let community = four.hospital(4).institution.id;
    for view in 0..100 {
        assert_ne!(
            rotation.leader(LeaderView::new(view)).institution,
            community
        );
    }
}

#[test]
fn b9_a_producers_signature_that_does_not_stand() {
    let four = FourHospitals::found(plain());
    let chain = opened(&four);
    let block = chain.propose(10, &[]).block;
    let mut header = *block.header();
    header.signature = scheme::Signature::new([1; 64]);
    assert_eq!(
        broken(&chain, &Block::new(header, Vec::new())),
        InvalidBlock::Signature
    );
}

#[test]
fn b10_a_transaction_that_is_wrong_whatever_the_state() {
    let four = FourHospitals::found(plain());
    let chain = opened(&four);
    let block = chain.propose(10, &[]).block;
    let key = chain.leader_key(block.header().view);
    let Transaction::Withdrawal(mut wrong) = four.withdrawal(1) else {
        unreachable!()
    };
    wrong.signature = scheme::Signature::new([0; 64]);
    let body = vec![four.record(1, 1), Transaction::Withdrawal(wrong)];
    let source = CheckError::Signature(Signer::Withdrawer);
    assert_eq!(
        broken(&chain, &forge(&chain, &block, body, key, |_| {})),
        InvalidBlock::Transaction { index: 1, source }
    );
}

#[test]
fn b11_a_transaction_that_the_state_refuses_because_of_an_earlier_one_of_the_block() {
    let four = FourHospitals::found(plain());
    let chain = opened(&four);
    let block = chain.propose(10, &[]).block;
    let key = chain.leader_key(block.header().view);
    let body = vec![four.withdrawal(1), four.withdrawal(1)];
    let InvalidBlock::Refused {
        index: 1,
        source: Refusal::Final(place),
    } = broken(&chain, &forge(&chain, &block, body, key, |_| {}))
    else {
        panic!("the second is a repetition of the first");
    };
    assert_eq!((place.height, place.index), (Height::new(2), 0));
}

#[test]
fn b14_a_state_root_that_does_not_come_out() {
    let other = StateRoot::new([1; 32]);
    assert_eq!(
        break_header(|header| header.state_root = other),
        InvalidBlock::StateRoot
    );
}

#[test]
fn a_state_of_another_height_is_no_verdict_on_the_block() {
    let four = FourHospitals::found(plain());
    let mut chain = opened(&four);
    let parent = *chain.tip();
    let block = chain.grow(10, vec![]).clone();
    let again = execute(&chain.view, &parent, &block);
    assert!(matches!(again, Err(ExecuteError::WrongState { .. })));
}

#[test]
fn a_leader_proposes_on_its_parents_state_and_after_its_parents_time_only() {
    let four = FourHospitals::found(plain());
    let mut chain = opened(&four);
    let (view, time) = (LeaderView::new(2), chain.tip().time);
    let key = chain.leader_key(view);
    let late = |ms| Timestamp::new(time.number() + ms);
    let parent = *chain.tip();
    let at = |chain: &ToyChain<'_>, time| crate::propose(&chain.view, &parent, view, time, [], key);
    assert!(matches!(
        at(&chain, time),
        Err(crate::ProposeError::TimeNotAfterParent)
    ));
    assert!(at(&chain, late(1)).is_ok());
    chain.grow(10, vec![]);
    assert!(matches!(
        at(&chain, late(1)),
        Err(crate::ProposeError::WrongState { .. })
    ));
}

/// A chain with an anchor interval of 100 ms, one record in block 2 at 20 ms after founding.
fn before_an_anchor(four: &FourHospitals) -> ToyChain<'_> {
    let mut chain = opened(four);
    chain.grow(10, vec![four.record(1, 1)]);
    chain
}

fn anchoring() -> FourHospitals {
    let mut settings = plain();
    settings.anchor_interval = Duration::from_millis(100);
    FourHospitals::found(settings)
}

#[test]
fn the_leader_anchors_once_time_has_passed_and_records_came() {
    let four = anchoring();
    let mut chain = before_an_anchor(&four);
    assert!(
        chain
            .grow(79, vec![four.withdrawal(1)])
            .transactions()
            .len()
            == 1,
        "99 ms"
    );
    assert_eq!(state::last_anchor(&chain.view).expect("memory"), None);

    // At 100 ms it is due, over blocks 1 to 3, as the last transaction.
    let block = chain.grow(1, vec![four.withdrawal(2)]).clone();
    let Some(Transaction::Anchor(anchor)) = block.transactions().last().cloned() else {
        panic!("the anchor is the last transaction");
    };
    assert_eq!(
        (anchor.first, anchor.last),
        (Height::new(1), Height::new(3))
    );
    let roots: Vec<_> = chain.blocks[1..=3]
        .iter()
        .map(|block| block.header().merkle_root)
        .collect();
    assert_eq!(anchor.root, naive::anchor_root(&four.consortium, &roots));
    let last = state::last_anchor(&chain.view)
        .expect("memory")
        .expect("just anchored");
    assert_eq!(
        (last.anchor, last.recorded.height),
        (anchor, Height::new(4))
    );

    // Without a new record none is due, however late.
    assert!(
        chain
            .grow(1_000, vec![four.withdrawal(3)])
            .transactions()
            .len()
            == 1
    );
    // A record in the very block that anchors counts for the next anchor.
    chain.grow(10, vec![four.record(1, 2)]);
    let block = chain.grow(10, vec![four.record(1, 3)]).clone();
    let Some(Transaction::Anchor(second)) = block.transactions().last().cloned() else {
        panic!("due at once: the interval has long passed");
    };
    assert_eq!(
        (second.first, second.last),
        (Height::new(4), Height::new(6))
    );
    let block = chain.grow(100, vec![]).clone();
    let Some(Transaction::Anchor(third)) = block.transactions().last().cloned() else {
        panic!("block 7 holds record 3");
    };
    assert_eq!((third.first, third.last), (Height::new(7), Height::new(7)));
}

#[test]
fn b12_a_due_anchor_that_is_missing() {
    let four = anchoring();
    let chain = before_an_anchor(&four);
    let block = chain.propose(100, &[]).block;
    assert_eq!(block.transactions().len(), 1);
    let key = chain.leader_key(block.header().view);
    let forged = forge(&chain, &block, Vec::new(), key, |_| {});
    assert_eq!(broken(&chain, &forged), InvalidBlock::AnchorMissing);
}

#[test]
fn b13_an_anchor_that_is_not_the_due_one_or_not_in_its_place() {
    let four = anchoring();
    let chain = before_an_anchor(&four);
    let due = chain.propose(100, &[]).block;
    let Some(Transaction::Anchor(anchor)) = due.transactions().last().cloned() else {
        panic!("due at 100 ms");
    };
    let key = chain.leader_key(due.header().view);
    let wrong = [
        vec![Transaction::Anchor(Anchor {
            root: Digest::new([1; 32]),
            ..anchor
        })],
        vec![Transaction::Anchor(Anchor {
            first: Height::new(2),
            ..anchor
        })],
        vec![Transaction::Anchor(Anchor {
            last: Height::new(1),
            ..anchor
        })],
        // Not the last transaction.
        vec![Transaction::Anchor(anchor), four.withdrawal(1)],
        // Twice.
        vec![Transaction::Anchor(anchor), Transaction::Anchor(anchor)],
    ];
    for body in wrong {
        let forged = forge(&chain, &due, body, key, |_| {});
        assert_eq!(broken(&chain, &forged), InvalidBlock::AnchorNotDue);
    }
    // Not due yet.
    let early = chain.propose(50, &[]).block;
    let forged = forge(
        &chain,
        &early,
        vec![Transaction::Anchor(anchor)],
        key,
        |_| {},
    );
    assert_eq!(broken(&chain, &forged), InvalidBlock::AnchorNotDue);
}

#[test]
fn a_node_that_is_admitted_votes_and_leads_from_the_next_border_on() {
    let four = FourHospitals::found(small());
    let newcomer = four.newcomer(Tier::Secondary);
    let mut chain = opened(&four);
    chain.grow(10, four.admission(&newcomer, &[1, 2, 3]));
    let set = |chain: &ToyChain<'_>, epoch| {
        state::node_set(&chain.view, ValidatorEpoch::new(epoch)).expect("memory")
    };
    assert_eq!(set(&chain, 0).expect("the first").nodes().len(), 4);
    assert_eq!(set(&chain, 1), None, "decided by the last block of epoch 0");
    let first = ValidatorEpoch::new(1);
    let seat = four.seat(newcomer.institution.id, &newcomer.node_key, first);
    chain.grow(10, vec![seat]);
    assert_eq!(chain.tip().height, Height::new(3));
    let next = set(&chain, 1).expect("decided");
    assert_eq!((next.nodes().len(), next.accounting().count()), (5, 4));
    assert_eq!(set(&chain, 0).expect("kept").nodes().len(), 4);

    // In epoch 1 view 7 is the newcomer's: order 1, 2, 3, 5.
    let view = LeaderView::new(7);
    let time = Timestamp::new(chain.tip().time.number() + 1);
    let proposal = crate::propose(&chain.view, chain.tip(), view, time, [], &newcomer.node_key)
        .expect("leads");
    assert!(execute(&chain.view, chain.tip(), &proposal.block).is_ok());
    assert_eq!(proposal.block.header().epoch, first);
}

#[test]
fn views_begin_anew_with_a_validator_epoch() {
    let four = FourHospitals::found(small());
    let mut chain = opened(&four);
    chain.grow(10, vec![]);
    chain.grow(10, vec![]);
    let (view, time) = (
        LeaderView::new(1),
        Timestamp::new(chain.tip().time.number() + 1),
    );
    let key = chain.leader_key(view);
    let proposal = crate::propose(&chain.view, chain.tip(), view, time, [], key).expect("leads");
    assert!(execute(&chain.view, chain.tip(), &proposal.block).is_ok());
}

#[test]
fn blocks_that_are_not_final_yet_execute_over_an_overlay() {
    let four = FourHospitals::found(plain());
    let mut chain = opened(&four);
    let base = chain.view.clone();
    let parent = *chain.tip();
    let one = chain
        .grow(10, vec![four.record(1, 1), four.grant(1, 60_000)])
        .clone();
    let two = chain
        .grow(10, vec![four.record(2, 2), four.access(1, &[(0, 0)])])
        .clone();

    let first = execute(&base, &parent, &one).expect("valid");
    let mut overlay = Overlay::new(&base);
    overlay.push(&first);
    let second = execute(&overlay, one.header(), &two).expect("valid");
    let mut merged: Changes = first.clone();
    merged.merge(second);
    let mut applied = base.clone();
    applied.apply(&merged);
    assert_eq!(applied, chain.view);
}

#[test]
fn the_genesis_block_is_the_founders_alone() {
    let four = FourHospitals::default();
    let (block, changes) = genesis(&four.genesis).expect("founded");
    assert_eq!(
        (block.height(), block.transactions().len()),
        (Height::new(0), 0)
    );
    assert_eq!(
        Block::decode(&block.encode(), &four.genesis.settings.limits()),
        Ok(block.clone())
    );
    let mut view = crate::MemoryView::new();
    view.apply(&changes);
    assert_eq!(
        state::state_root(&view).expect("memory"),
        block.header().state_root
    );
    let charter = state::charter(&view).expect("memory");
    assert_eq!(
        (charter.consortium, charter.settings),
        (four.consortium, four.genesis.settings)
    );
    let centre = state::centre_keys(&view).expect("memory");
    assert_eq!(centre.keys().len(), 1);
    let current = centre.current();
    assert_eq!(current.key, four.genesis.centre);
    assert_eq!(current.number, crate::CentreKeyNumber::new(0));
    assert_eq!(current.begun.height, block.height());
    assert_eq!(current.compromised, None);
    for hospital in &four.hospitals {
        let held = state::institution(&view, hospital.institution.id).expect("memory");
        assert_eq!(held.as_ref(), Some(&hospital.institution));
    }
}

#[test]
fn a_stored_block_gives_its_header_and_one_transaction_without_the_others() {
    let four = FourHospitals::found(plain());
    let mut chain = opened(&four);
    let block = chain.grow(10, (1..=5).map(|number| four.record(1, number)).collect());
    let stored = EncodedBlock::new(block.encode());
    assert_eq!(stored.header().as_ref(), Ok(block.header()));
    for (index, transaction) in (0..).zip(block.transactions()) {
        assert_eq!(stored.transaction(index), Ok(Some(transaction.clone())));
    }
    let count = block.header().count;
    assert_eq!(stored.transaction(count), Ok(None));
    assert_eq!(stored.transaction(u32::MAX), Ok(None));

    // A transaction that is not read may be anything; the one that is read may not.
    let mut damaged = block.encode();
    let first = Header::BYTES + 4;
    damaged[first] = 0xff;
    let damaged = EncodedBlock::new(damaged);
    assert!(damaged.transaction(0).is_err());
    assert_eq!(
        damaged.transaction(1),
        Ok(block.transactions().get(1).cloned())
    );
}

#[test]
fn a_stored_block_cut_short_gives_errors() {
    let four = FourHospitals::found(plain());
    let mut chain = opened(&four);
    let bytes = chain.grow(10, vec![four.record(1, 1)]).encode();
    for length in 0..bytes.len() {
        let cut = EncodedBlock::new(bytes[..length].to_vec());
        assert!(cut.transaction(0).is_err(), "cut to {length} bytes");
        assert_eq!(cut.header().is_ok(), length >= Header::BYTES);
    }
}
