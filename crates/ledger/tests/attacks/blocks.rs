//! Attacks by those who make blocks: out of turn, without the anchor, with two bodies under one root.

use std::time::Duration;

use ledger::testing::ToyChain;
use ledger::{
    Anchor, Block, Header, Height, InclusionProof, InvalidBlock, LeaderView, ProofError,
    ProposeError, Refusal, Tier, Transaction,
};
use scheme::{Context, Digest, Encoder, Signature, SigningKey, Timestamp};

use crate::attacker::{anchoring, forge, four, merkle, opened, refusal, verdict, with_body};
use crate::literal::{bitcoin_path, bitcoin_root, pair_of, pbft_primary, twice};

/// A block without a transaction, signed by `key`, as if it were made in `view`.
fn led(chain: &ToyChain<'_>, view: LeaderView, key: &SigningKey) -> Block {
    let honest = chain.propose(10, &[]).block;
    forge(chain, &honest, &[], key, |header| header.view = view)
}

/// Attacker: a community hospital. Holds: its node's consensus key, with which it votes. It proposes
/// blocks. Literal, PBFT's rotation: every replica's turn comes. Ours: the rotation is over tertiary
/// and secondary hospitals, and every voter works it out from the state; neither the view nor the
/// producer's name nor another admission makes it an accounting node.
#[test]
fn attack_lead_as_a_community_hospital() {
    let four = four();
    let mut chain = opened(&four);
    let community = four.hospital(4);
    let replicas: Vec<_> = four
        .genesis
        .institutions
        .iter()
        .map(|institution| (institution.id, institution.tier))
        .collect();
    let led_by_it: Vec<_> = (2..14)
        .filter(|view| {
            pbft_primary(&replicas, *view) == (community.institution.id, Tier::Community)
        })
        .collect();
    assert_eq!(led_by_it, [3, 7, 11]);

    for view in (2..14).map(LeaderView::new) {
        let time = Timestamp::new(chain.tip().time.number() + 10);
        let key = &community.node_key;
        let made = ledger::propose(&chain.view, chain.tip(), view, time, [], key);
        assert!(matches!(made, Err(ProposeError::NotLeader(_))));
        assert_eq!(
            verdict(&chain, &led(&chain, view, key)),
            Ok(InvalidBlock::NotLeader)
        );
        // In the name of the one whose turn it is.
        let name = chain.leader_key(view).verifying_key();
        let honest = chain.propose(10, &[]).block;
        let forged = forge(&chain, &honest, &[], key, |header| {
            header.view = view;
            header.producer = name;
        });
        assert_eq!(verdict(&chain, &forged), Ok(InvalidBlock::Signature));
        assert!(verdict(&chain, &led(&chain, view, chain.leader_key(view))).is_err());
    }
    // As a tertiary hospital, with everyone's approval.
    let mut promoted = four.newcomer(Tier::Tertiary);
    promoted.institution.id = community.institution.id;
    assert_eq!(
        refusal(&chain, 10, four.admission(&promoted, &[1]).remove(0)),
        Refusal::InstitutionKnown(community.institution.id)
    );
    for _ in 0..12 {
        let block = chain.grow(10, vec![]);
        assert_ne!(block.producer(), community.institution.node);
    }
}

/// Attacker: an accounting node. Holds: its consensus key. It goes on leading after its turn, to order
/// transactions as it likes or to keep some out. Literal, PBFT's stable primary: it leads until others
/// complain, so that censorship of a few is never seen. Ours: each view has one leader, views only go
/// forward, and blocks say in which they were made.
#[test]
fn attack_lead_out_of_turn() {
    let four = four();
    let mut chain = opened(&four);
    chain.grow(10, vec![]);
    // Views 1 and 2 were led by hospitals 2 and 3; view 3 is hospital 1's.
    let last = chain.tip().view;
    assert_eq!(last, LeaderView::new(2));
    let attacker = &four.hospital(3).node_key;
    assert_eq!(chain.tip().producer, attacker.verifying_key());
    // PBFT's view is another thing: it ends when 2f + 1 replicas complain, and until then every
    // height is of one view and one primary.
    let replicas: Vec<_> = four
        .genesis
        .institutions
        .iter()
        .map(|institution| (institution.id, institution.tier))
        .collect();
    let primaries = (3..9).map(|_height| pbft_primary(&replicas, 2).0);
    assert_eq!(
        primaries.collect::<Vec<_>>(),
        [four.hospital(3).institution.id; 6]
    );

    for view in [3, 4, 6, 7] {
        let block = led(&chain, LeaderView::new(view), attacker);
        assert_eq!(verdict(&chain, &block), Ok(InvalidBlock::NotLeader));
    }
    // In its own view again, and in an earlier one.
    for view in [2, 1, 0] {
        let block = led(&chain, LeaderView::new(view), attacker);
        assert_eq!(verdict(&chain, &block), Ok(InvalidBlock::View));
    }
    // View 5 is its own: a vote for it needs the engine's certificates that 3 and 4 ended.
    assert!(verdict(&chain, &led(&chain, LeaderView::new(5), attacker)).is_err());
}

/// Attacker: the leader in whose turn the anchor is due. Holds: its key. It leaves the anchor out, or
/// leaves a block out of it, so that a chain with another such block can be shown later. Literal, "the
/// node anchors the Merkle roots of all newly generated blocks": what it signs is the anchor, and when
/// is by its clock. Ours: due by the blocks' times, with heights and root that every node recomputes;
/// any other block is invalid.
#[test]
fn attack_skip_or_forge_a_due_anchor() {
    let four = anchoring(Duration::from_millis(100));
    let mut chain = opened(&four);
    chain.grow(10, vec![four.record(1, 1)]);
    chain.grow(10, vec![four.record(1, 2)]);
    let honest = chain.propose(100, &[]).block;
    let [Transaction::Anchor(due)] = honest.transactions() else {
        panic!("an anchor is due");
    };
    let roots: Vec<Vec<u8>> = chain.blocks[1..]
        .iter()
        .map(|block| block.header().merkle_root.as_bytes().to_vec())
        .collect();
    assert_eq!(due.root, merkle("ANCHOR", &four.consortium, &roots));
    let leader = chain.leader_key(honest.header().view);

    // Without block 2, and with another block in its place.
    let partial = [roots[0].clone(), roots[2].clone()];
    let mut exchanged = roots;
    exchanged[1] = vec![7; 32];
    let signed =
        |root: &Digest| leader.sign(Context::Consensus, &four.consortium, &[root.as_bytes()]);
    let literal_stands = |root: &Digest, signature: &Signature| {
        let parts: [&[u8]; 1] = [root.as_bytes()];
        let key = leader.verifying_key();
        key.verify(Context::Consensus, &four.consortium, &parts, signature)
            .is_ok()
    };
    let forged =
        [partial.as_slice(), &exchanged].map(|roots| merkle("ANCHOR", &four.consortium, roots));
    for root in &forged {
        assert!(literal_stands(root, &signed(root)));
    }

    let judged =
        |body: &[Transaction]| verdict(&chain, &forge(&chain, &honest, body, leader, |_| {}));
    assert_eq!(judged(&[]), Ok(InvalidBlock::AnchorMissing));
    assert_eq!(
        judged(&[four.withdrawal(1)]),
        Ok(InvalidBlock::AnchorMissing)
    );
    let [partial, exchanged] = forged;
    for anchor in [
        Anchor {
            root: partial,
            ..*due
        },
        Anchor {
            root: exchanged,
            ..*due
        },
        Anchor {
            first: Height::new(2),
            ..*due
        },
        Anchor {
            last: Height::new(2),
            ..*due
        },
        Anchor {
            last: Height::new(4),
            ..*due
        },
    ] {
        let anchor = Transaction::Anchor(anchor);
        assert_eq!(
            judged(std::slice::from_ref(&anchor)),
            Ok(InvalidBlock::AnchorNotDue)
        );
        // Sent to others as if it were a transaction.
        let candidate = four.checked(anchor);
        assert!(
            chain
                .propose(10, &[candidate])
                .block
                .transactions()
                .is_empty()
        );
    }
    // The right one before its time.
    let early = chain.propose(50, &[]).block;
    let block = forge(&chain, &early, honest.transactions(), leader, |_| {});
    assert_eq!(verdict(&chain, &block), Ok(InvalidBlock::AnchorNotDue));
    assert!(verdict(&chain, &honest).is_err());
}

/// Attacker: whoever relays a block. Holds: a valid one with an odd number of transactions. It passes
/// it on with the last one repeated; who gets that body refuses it and, knowing blocks by their id,
/// refuses the valid one for ever (CVE-2012-2459). Literal, Bitcoin's tree doubles the last leaf of an
/// odd level: both bodies have one root, so one id. Ours: no leaf is doubled, and the header bears the
/// number of leaves.
#[test]
fn attack_two_bodies_under_one_merkle_root() {
    let four = four();
    let chain = opened(&four);
    let three = [1, 2, 3].map(|number| four.checked(four.withdrawal(number)));
    let honest = chain.propose(10, &three).block;
    let body: Vec<Vec<u8>> = honest
        .transactions()
        .iter()
        .map(Transaction::encode)
        .collect();
    let mut doubled = body.clone();
    doubled.push(body[2].clone());
    assert_eq!(bitcoin_root(&body), bitcoin_root(&doubled));

    assert_eq!(
        honest.header().merkle_root,
        merkle("BODY", &four.consortium, &body)
    );
    for last in 1..=3 {
        let odd_or_even = [&body[..last], &body[last - 1..last]].concat();
        assert_ne!(
            merkle("BODY", &four.consortium, &body[..last]),
            merkle("BODY", &four.consortium, &odd_or_even)
        );
    }
    // The same header with the longer body is no block; with size and count made to fit it has
    // another id, and the body is not that of its root.
    let limits = four.genesis.settings.limits();
    assert!(Block::decode(&with_body(honest.header(), &doubled), &limits).is_err());
    let mut header = *honest.header();
    header.count = 4;
    header.size = doubled.iter().map(|bytes| bytes.len() as u32 + 4).sum();
    let relayed = Block::decode(&with_body(&header, &doubled), &limits).unwrap();
    assert_ne!(relayed.id(), honest.id());
    assert!(!relayed.holds_its_body() && honest.holds_its_body());
    assert_eq!(verdict(&chain, &relayed), Ok(InvalidBlock::Signature));
    // Signed by a leader who joins in, it is invalid for its root, and with that made to fit for the
    // repetition.
    let leader = chain.leader_key(honest.header().view);
    let body: Vec<_> = relayed.transactions().to_vec();
    let root = honest.header().merkle_root;
    let old_root = forge(&chain, &honest, &body, leader, |header| {
        header.merkle_root = root;
    });
    assert_eq!(
        verdict(&chain, &old_root),
        Ok(InvalidBlock::Body("Merkle root"))
    );
    let own_root = forge(&chain, &honest, &body, leader, |_| {});
    assert!(matches!(
        verdict(&chain, &own_root),
        Ok(InvalidBlock::Refused {
            index: 3,
            source: Refusal::Final(_)
        })
    ));
    assert!(verdict(&chain, &honest).is_err());
}

/// An inclusion proof by its bytes.
fn inclusion(content: &[u8], position: u64, count: u64, siblings: &[Digest]) -> InclusionProof {
    let mut out = Encoder::new();
    out.var(content)
        .u64(position)
        .u64(count)
        .u8(siblings.len() as u8);
    for sibling in siblings {
        out.bytes(sibling.as_bytes());
    }
    InclusionProof::decode(&out.finish()).unwrap()
}

/// Attacker: whoever proves to a client that a transaction stands in a block. Holds: the block. The
/// two digests of an inner node are shown as a transaction of 64 bytes. Literal, Bitcoin's tree hashes
/// leaves and nodes alike: the proof leads to the root. Ours: they are hashed under different tags, and
/// a path has the length that the header's count gives it.
#[test]
fn attack_prove_an_inner_node_as_a_transaction() {
    let four = four();
    let mut chain = opened(&four);
    let header: Header = {
        let body = (1..=4).map(|number| four.withdrawal(number)).collect();
        *chain.grow(10, body).header()
    };
    let block = chain.blocks.last().unwrap();
    let body: Vec<Vec<u8>> = block
        .transactions()
        .iter()
        .map(Transaction::encode)
        .collect();

    let [a, b, c, d] = [0, 1, 2, 3].map(|place: usize| twice(&body[place]));
    let shown = [a.as_bytes().as_slice(), b.as_bytes()].concat();
    assert_eq!(
        bitcoin_path(&shown, 0, &[pair_of(&c, &d)]),
        bitcoin_root(&body)
    );
    assert_eq!(
        bitcoin_path(&body[2], 2, &[d, pair_of(&a, &b)]),
        bitcoin_root(&body)
    );

    let leaf = |place: usize| merkle("BODY", &four.consortium, &body[place..=place]);
    let right = merkle("BODY", &four.consortium, &body[2..]);
    let left = merkle("BODY", &four.consortium, &body[..2]);
    let shown = [leaf(0), leaf(1)].map(|leaf| *leaf.as_bytes()).concat();
    let wrong = Err(ProofError::Root("header's Merkle root"));
    for (position, count, siblings) in [
        (0, 2, vec![right]),
        (0, 4, vec![right]),
        (0, 4, vec![leaf(1), right]),
        (1, 4, vec![leaf(0), right]),
    ] {
        let proof = inclusion(&shown, position, count, &siblings);
        assert_eq!(proof.verify(&header), wrong);
    }
    // A real leaf in a tree of another size, too; and as it is.
    let short = inclusion(&body[2], 1, 2, &[left]);
    assert_eq!(short.verify(&header), wrong);
    let of_three = inclusion(&body[0], 0, 3, &[leaf(1), right]);
    assert_eq!(of_three.verify(&header), wrong);
    assert!(
        inclusion(&body[0], 0, 4, &[leaf(1), right])
            .verify(&header)
            .is_ok()
    );
    let real = inclusion(&body[2], 2, 4, &[leaf(3), left]);
    let (id, transaction) = real.verify(&header).unwrap();
    assert_eq!(transaction, four.withdrawal(3));
    assert_eq!(id, four.withdrawal(3).id(&four.consortium));
}
