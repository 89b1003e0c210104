//! Proofs that verify without the chain, and what they do not prove.

use std::collections::BTreeMap;

use scheme::{
    AppointmentId, ConsortiumId, Context, Encoder, GrantId, Signature, ValidatorEpoch, WriterEpoch,
};

use super::*;
use crate::execute::MOTIONS_OPEN_MAX;
use crate::identity::{BlockId, Height, KeyHash, LeaderView, RecordNumber, TransactionId};
use crate::keys;
use crate::policy::{NODES_MAX, NodeSet};
use crate::proof::{
    Accountable, AnchorProof, BadCertificate, CertificateVerifier, FinalityProof, InclusionProof,
    NodeSetProof, ProofError, RecordProof, StateProof,
};
use crate::state::{
    self, AnchorState, CentreKeyList, Charter, GrantState, Moment, NodeKeyState, OpenMotion,
    OpenMotions, RequestState, UserKeyState, WriterEpochState,
};
use crate::view::{Changes, View};

/// A certificate of plain Ed25519 signatures over view and block id, one slot of 64 bytes a node.
struct Plain;

fn certificate(four: &FourHospitals, header: &Header, signers: &[u32]) -> Vec<u8> {
    let mut out = Encoder::new();
    for (number, hospital) in (1..).zip(&four.hospitals) {
        let signature = if signers.contains(&number) {
            let view = header.view.number().to_be_bytes();
            let id = header.id();
            let parts: [&[u8]; 2] = [&view, id.as_bytes()];
            hospital
                .node_key
                .sign(Context::Consensus, &four.consortium, &parts)
        } else {
            Signature::new([0; 64])
        };
        out.bytes(signature.as_bytes());
    }
    out.finish()
}

impl CertificateVerifier for Plain {
    fn verify(
        &self,
        consortium: &ConsortiumId,
        nodes: &NodeSet,
        view: LeaderView,
        block: BlockId,
        certificate: &[u8],
    ) -> Result<(), BadCertificate> {
        let view = view.number().to_be_bytes();
        let signed = nodes
            .nodes()
            .iter()
            .zip(certificate.chunks_exact(64))
            .filter(|(node, slot)| {
                let signature = Signature::new((*slot).try_into().expect("64 bytes"));
                let parts: [&[u8]; 2] = [&view, block.as_bytes()];
                node.key
                    .verify(Context::Consensus, consortium, &parts, &signature)
                    .is_ok()
            });
        if signed.count() >= nodes.quorum().certificate() {
            Ok(())
        } else {
            Err(BadCertificate)
        }
    }
}

#[test]
fn finality_is_proved_by_a_quorum_over_this_header_in_this_epoch() {
    let four = FourHospitals::default();
    let mut chain = opened(&four);
    let header = *chain.grow(10, vec![four.record(1, 1)]).header();
    let nodes = four.genesis.node_set().expect("four hospitals");
    let proof = FinalityProof::new(header, certificate(&four, &header, &[1, 3, 4]));
    assert_eq!(proof.verify(&four.consortium, &nodes, &Plain), Ok(&header));
    let read = FinalityProof::decode(&proof.encode()).expect("own bytes");
    assert_eq!(read, proof);
    assert_eq!(read.unverified_header(), &header);

    let too_few = FinalityProof::new(header, certificate(&four, &header, &[1, 3]));
    assert_eq!(
        too_few.verify(&four.consortium, &nodes, &Plain),
        Err(ProofError::Certificate)
    );
    let other = *chain.grow(10, vec![]).header();
    let moved = FinalityProof::new(other, certificate(&four, &header, &[1, 2, 3, 4]));
    assert_eq!(
        moved.verify(&four.consortium, &nodes, &Plain),
        Err(ProofError::Certificate)
    );
    // The same certificate proves the header before too, by the header that names it.
    let run = vec![header, other];
    let of_both = FinalityProof::of_run(run, certificate(&four, &other, &[1, 2, 4]));
    let of_both = of_both.expect("two headers");
    assert_eq!(
        of_both.verify(&four.consortium, &nodes, &Plain),
        Ok(&header)
    );
    assert_eq!(
        of_both.verify_run(&four.consortium, &nodes, &Plain),
        Ok(vec![&header, &other])
    );
    let read = FinalityProof::decode(&of_both.encode()).expect("own bytes");
    assert_eq!(read, of_both);
    let last = *chain.grow(10, vec![]).header();
    for wrong in [vec![other, header], vec![header, last], vec![last, other]] {
        let signed = *wrong.last().expect("two");
        let proof = FinalityProof::of_run(wrong, certificate(&four, &signed, &[1, 2, 4]));
        assert_eq!(
            proof
                .expect("two headers")
                .verify(&four.consortium, &nodes, &Plain),
            Err(ProofError::Root("block with the certificate"))
        );
    }
    assert!(FinalityProof::of_run(vec![], vec![]).is_none());
    assert!(FinalityProof::of_run(vec![header; 257], vec![]).is_none());
    let mut none = proof.encode();
    none.splice(..2 + 264, [0, 0]);
    assert!(FinalityProof::decode(&none).is_err());
    let mut short = proof.encode();
    short[1] = 2;
    assert!(FinalityProof::decode(&short).is_err());

    let later = NodeSet::new(ValidatorEpoch::new(1), nodes.nodes().to_vec()).expect("same nodes");
    assert_eq!(
        proof.verify(&four.consortium, &later, &Plain),
        Err(ProofError::Epoch)
    );
    let elsewhere = ConsortiumId::new([1; 32]);
    assert_eq!(
        proof.verify(&elsewhere, &nodes, &Plain),
        Err(ProofError::Consortium)
    );
}

#[test]
fn inclusion_is_proved_by_the_header_and_for_this_transaction_only() {
    let four = FourHospitals::default();
    let mut chain = opened(&four);
    let block = chain.grow(10, four.one_of_each()[2..].to_vec()).clone();
    for (index, (id, transaction)) in (0u32..).zip(block.identified()) {
        let proof = InclusionProof::new(&block, index).expect("within the body");
        assert_eq!(proof.verify(block.header()), Ok((id, transaction.clone())));
        let bytes = proof.encode();
        assert_eq!(InclusionProof::decode(&bytes).as_ref(), Ok(&proof));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            let read = InclusionProof::decode(&flipped);
            assert!(read.is_err() || read.expect("decodes").verify(block.header()).is_err());
        }
        assert!(proof.verify(chain.blocks[1].header()).is_err());
    }
    assert_eq!(InclusionProof::new(&block, block.header().count), None);
}

/// Asks a view for one value by proof: presence or absence, verified against the header, and the
/// same proof against anything else refused.
fn proved<T: Accountable + PartialEq + std::fmt::Debug>(
    chain: &ToyChain<'_>,
    key: &T::Key,
) -> Option<T> {
    let proof = StateProof::new::<T>(&chain.view, key).expect("memory");
    let bytes = proof.encode();
    assert_eq!(StateProof::decode(&bytes).as_ref(), Ok(&proof));
    let tip = chain.tip();
    let value = proof.verify::<T>(tip, key).expect("an honest proof");
    let held = chain.view.get(&T::state_key(key)).expect("memory");
    assert_eq!(value.is_some(), held.is_some());
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        if let Ok(read) = StateProof::decode(&flipped) {
            assert!(
                read.verify::<T>(tip, key).is_err(),
                "byte {at} of a state proof"
            );
        }
    }
    let before = chain.blocks[chain.blocks.len() - 2].header();
    assert!(proof.verify::<T>(before, key).is_err());
    value
}

#[test]
fn the_state_proves_what_it_holds_and_what_it_does_not() {
    let mut settings = plain();
    settings.anchor_interval = Duration::from_millis(30);
    let four = FourHospitals::found(settings);
    let mut chain = opened(&four);
    chain.grow(
        10,
        vec![four.record(1, 1), four.grant(1, 60_000), four.request(1, 1)],
    );
    chain.grow(
        10,
        vec![
            four.access(1, &[(0, 0), (0, 1)]),
            four.withdrawal(1),
            four.node_key(3),
        ],
    );
    assert!(chain.tip().count == 4, "with an anchor");

    let grant = GrantId::of(&four.consortium, &four.revocation_key(1).verifying_key());
    let held: GrantState = proved(&chain, &grant).expect("granted");
    let key = four.access_key(1, 0).verifying_key();
    let count = held
        .access
        .iter()
        .find(|(own, _)| *own == key)
        .expect("named")
        .1;
    assert_eq!(
        count.number(),
        2,
        "the access log has two entries of this key"
    );
    assert_eq!(proved::<GrantState>(&chain, &GrantId::new([1; 32])), None);

    let doctor = KeyHash::of(&four.hospital(1).doctor_key.verifying_key());
    assert!(proved::<UserKeyState>(&chain, &doctor).is_some());
    assert_eq!(proved::<UserKeyState>(&chain, &KeyHash::new([1; 32])), None);
    let institution = four.hospital(2).institution.clone();
    assert_eq!(
        proved::<crate::InstitutionState>(&chain, &institution.id).map(|state| state.institution),
        Some(institution.clone())
    );
    let epoch = (institution.id, WriterEpoch::new(0));
    let held: WriterEpochState = proved(&chain, &epoch).expect("begun");
    assert_eq!(held.key, four.hospital(2).writer_key.public_key());
    assert_eq!(
        proved::<WriterEpochState>(&chain, &(institution.id, WriterEpoch::new(1))),
        None
    );
    let of = |hospital| {
        (
            ValidatorEpoch::new(0),
            four.hospital(hospital).institution.id,
        )
    };
    let held: NodeKeyState = proved(&chain, &of(3)).expect("certified");
    assert_eq!(held.key, four.hospital(3).node_hpke.public_key());
    assert_eq!(held.recorded.height, chain.tip().height);
    assert_eq!(proved::<NodeKeyState>(&chain, &of(1)), None);
    let nodes = four.genesis.node_set().expect("four hospitals");
    assert_eq!(
        proved::<NodeSet>(&chain, &ValidatorEpoch::new(0)),
        Some(nodes)
    );
    assert_eq!(
        proved::<Charter>(&chain, &()).map(|charter| charter.settings),
        Some(four.genesis.settings)
    );
    assert_eq!(
        proved::<CentreKeyList>(&chain, &()).map(|centre| centre.current().key),
        Some(four.genesis.centre)
    );
    let anchor: AnchorState = proved(&chain, &()).expect("anchored");
    assert_eq!(anchor.recorded.height, chain.tip().height);
    let Transaction::Withdrawal(withdrawal) = four.withdrawal(1) else {
        unreachable!()
    };
    let appointment = withdrawal.appointment(&four.consortium);
    assert!(proved::<Moment>(&chain, &appointment).is_some());
    assert_eq!(proved::<Moment>(&chain, &AppointmentId::new([1; 32])), None);
    let Transaction::Request(request) = four.request(1, 1) else {
        unreachable!()
    };
    assert!(proved::<RequestState>(&chain, &request.statement.commitment).is_some());

    // A proof about one thing is none about another.
    let proof = StateProof::new::<GrantState>(&chain.view, &grant).expect("memory");
    assert!(
        proof
            .verify::<GrantState>(chain.tip(), &GrantId::new([1; 32]))
            .is_err()
    );
    assert!(proof.verify::<UserKeyState>(chain.tip(), &doctor).is_err());
}

#[test]
fn as_many_open_motions_as_there_can_be_are_proved() {
    let four = FourHospitals::default();
    let mut chain = opened(&four);
    let motion = four.record(1, 1).id(&four.consortium);
    let open = (0..NODES_MAX * MOTIONS_OPEN_MAX).map(|_| OpenMotion {
        motion,
        by: four.hospital(1).institution.id,
        until: chain.tip().time,
    });
    let open = OpenMotions {
        count: 0,
        open: open.collect(),
    };
    let accountable = BTreeMap::from([(keys::open_motions(), open.encode())]);
    let mut changes = Changes::new();
    state::seal(
        &chain.view,
        &four.consortium,
        &accountable,
        None,
        &mut changes,
    )
    .expect("memory");
    chain.view.apply(&changes);
    let proof = StateProof::new::<OpenMotions>(&chain.view, &()).expect("memory");
    assert_eq!(StateProof::decode(&proof.encode()), Ok(proof));
}

#[test]
fn a_record_is_proved_against_every_later_header() {
    let four = FourHospitals::found(plain());
    let mut chain = opened(&four);
    let mut ids: Vec<(TransactionId, Height)> = Vec::new();
    for number in 0..5u64 {
        let batch: Vec<_> = (0..3).map(|n| four.record(1, number * 3 + n)).collect();
        let height = chain.tip().height.next();
        ids.extend(batch.iter().map(|tx| (tx.id(&four.consortium), height)));
        chain.grow(10, batch);
        for (place, (id, height)) in (0u64..).zip(&ids) {
            let number = RecordNumber::new(place);
            let proof = RecordProof::new(&chain.view, number)
                .expect("memory")
                .expect("a record");
            assert_eq!(proof.verify(chain.tip(), *id), Ok((number, *height)));
            assert!(
                proof
                    .verify(chain.tip(), TransactionId::new([1; 32]))
                    .is_err()
            );
            let before = chain.blocks[chain.blocks.len() - 2].header();
            assert!(proof.verify(before, *id).is_err());
            let bytes = proof.encode();
            assert_eq!(RecordProof::decode(&bytes).as_ref(), Ok(&proof));
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1;
                if let Ok(read) = RecordProof::decode(&flipped) {
                    assert!(read.verify(chain.tip(), *id).is_err(), "byte {at}");
                }
            }
        }
    }
    let past = RecordNumber::new(ids.len() as u64);
    assert_eq!(RecordProof::new(&chain.view, past).expect("memory"), None);
}

#[test]
fn an_anchor_proves_the_blocks_it_covers() {
    let mut settings = plain();
    settings.anchor_interval = Duration::from_millis(60);
    let four = FourHospitals::found(settings);
    let mut chain = opened(&four);
    for number in 0..5 {
        chain.grow(10, vec![four.record(1, number)]);
    }
    let anchor = state::last_anchor(&chain.view)
        .expect("memory")
        .expect("after 60 ms")
        .anchor;
    assert_eq!(
        (anchor.first, anchor.last),
        (Height::new(1), Height::new(5))
    );
    let headers: Vec<_> = chain.blocks[1..=5]
        .iter()
        .map(|block| *block.header())
        .collect();
    for header in &headers {
        let proof = AnchorProof::new(&anchor, &headers, header.height).expect("covered");
        let root = header.merkle_root;
        assert_eq!(
            proof.verify(&four.consortium, &anchor, header.height, root),
            Ok(())
        );
        let other = scheme::Digest::new([1; 32]);
        assert!(
            proof
                .verify(&four.consortium, &anchor, header.height, other)
                .is_err()
        );
        let next = header.height.next();
        assert!(proof.verify(&four.consortium, &anchor, next, root).is_err());
        assert_eq!(AnchorProof::decode(&proof.encode()).as_ref(), Ok(&proof));
    }
    assert_eq!(
        AnchorProof::new(&anchor, &headers[1..], Height::new(2)),
        None
    );
    let mut swapped = headers.clone();
    swapped.swap(0, 1);
    assert_eq!(AnchorProof::new(&anchor, &swapped, Height::new(1)), None);
    assert_eq!(AnchorProof::new(&anchor, &headers, Height::new(6)), None);
}

/// Who trusts the founders learns of today's nodes by one proof for each time that they changed.
#[test]
fn node_sets_are_proved_from_the_founders_to_the_present() {
    let four = FourHospitals::found(small());
    let settings = four.genesis.settings;
    let mut chain = opened(&four);
    let signed = |chain: &ToyChain<'_>, height: u64, signers: &[u32]| {
        let header = *chain.blocks[height as usize].header();
        FinalityProof::new(header, certificate(&four, &header, signers))
    };
    let proof = |chain: &ToyChain<'_>, epoch: u64, signers: &[u32]| {
        let finality = signed(chain, epoch * 4 - 1, signers);
        NodeSetProof::new(&chain.view, ValidatorEpoch::new(epoch), finality).expect("memory")
    };
    let community = four.hospital(4).institution.id;
    let promotion = crate::MembershipChange::Retier(community, crate::Tier::Secondary);
    chain.grow(10, four.decision(promotion, &[1, 2, 3]));
    while chain.tip().height.number() < 9 {
        chain.grow(10, vec![]);
    }
    let second = four.hospital(2).institution.id;
    let (epoch, node) = (ValidatorEpoch::new(3), four.next_keys(2, 1).1);
    chain.grow(10, vec![four.succession(2)]);
    chain.grow(10, vec![four.seat(second, &node, epoch)]);
    chain.grow(10, vec![]);
    assert_eq!(chain.tip().epoch, epoch);
    let changed = state::changed_node_sets(&chain.view).expect("memory");
    let changed: Vec<_> = changed.iter().map(|epoch| epoch.number()).collect();
    assert_eq!(changed, [1, 3]);
    assert_eq!(
        proof(&chain, 2, &[1, 2, 3]),
        None,
        "the nodes of epoch 2 are those of 1"
    );

    let held = |epoch| {
        let set = state::node_set(&chain.view, ValidatorEpoch::new(epoch)).expect("memory");
        set.expect("decided")
    };
    let verify = |proof: &NodeSetProof, trusted: &NodeSet| {
        proof.verify(&four.consortium, &settings, trusted, &Plain)
    };
    let first = proof(&chain, 1, &[1, 2, 4]).expect("changed");
    let second = proof(&chain, 3, &[1, 3, 4]).expect("changed");
    let founders = four.genesis.node_set().expect("four hospitals");
    let nodes = verify(&first, &founders).expect("it stands");
    assert_eq!(nodes, held(1));
    let nodes = verify(&second, &nodes).expect("it stands");
    assert_eq!(nodes, held(3));
    for proof in [&first, &second] {
        assert_eq!(NodeSetProof::decode(&proof.encode()).as_ref(), Ok(proof));
    }

    // Not by too few of them, not of an earlier epoch, not of a block within one.
    let few = proof(&chain, 3, &[1, 3]).expect("changed");
    assert_eq!(verify(&few, &held(1)), Err(ProofError::Certificate));
    assert_eq!(verify(&first, &held(3)), Err(ProofError::Epoch));
    let within = signed(&chain, 10, &[1, 3, 4]);
    let within = NodeSetProof::new(&chain.view, ValidatorEpoch::new(3), within);
    let within = within.expect("memory").expect("changed");
    assert_eq!(verify(&within, &held(1)), Err(ProofError::Epoch));
    // The state of another border proves nothing.
    let other = signed(&chain, 3, &[1, 3, 4]);
    let other = NodeSetProof::new(&chain.view, ValidatorEpoch::new(3), other);
    let other = other.expect("memory").expect("changed");
    assert!(matches!(
        verify(&other, &founders),
        Err(ProofError::Root(_))
    ));
    let bytes = second.encode();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(read) = NodeSetProof::decode(&flipped) {
            let found = verify(&read, &held(1));
            assert!(found.is_err() || found == Ok(held(3)), "byte {at}");
        }
        assert!(NodeSetProof::decode(&bytes[..at]).is_err());
    }
}
