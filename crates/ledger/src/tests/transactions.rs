//! Every rule of a transaction against state, broken alone; what the state says afterwards.

use scheme::{
    AppointmentId, GrantId, HpkePrivateKey, Timestamp, ValidatorEpoch, WriterEpoch, WriterEpochKey,
};

use super::*;
use crate::identity::{CentreKeyNumber, Height, KeyHash, TransactionId};
use crate::policy::Tier;
use crate::state::{self, KeyStatus};
use crate::testing::{FOUNDED, rng};
use crate::transaction::{
    AccessNumber, CheckError, KeyUse, Registrant, Registration, RequestStatement,
    RequestTransaction, Signer, UserKey, decode_record_statement, encode_record_statement,
};

fn four() -> FourHospitals {
    FourHospitals::found(plain())
}

#[test]
fn s1_a_final_transaction_is_not_taken_twice() {
    let four = four();
    let mut chain = opened(&four);
    let all = four.one_of_each();
    // The opening holds the registration and the writer epoch already.
    chain.grow(10, all[2..].to_vec());
    for (index, transaction) in (0u32..).zip(all[2..].iter().cloned()) {
        let Refusal::Final(place) = refused(&chain, 10, transaction) else {
            panic!("a repetition");
        };
        assert_eq!((place.height, place.index), (Height::new(2), index));
    }
}

/// A signature by a key of the state, made with the key of another institution.
#[test]
fn s2_signatures_of_institutions_centre_and_nodes_must_stand() {
    let four = four();
    let chain = opened(&four);
    let wrong = |signer| Refusal::Signature(CheckError::Signature(signer));

    let Transaction::Record(record) = four.record(1, 1) else {
        unreachable!()
    };
    let other = crate::RecordTransaction::countersign(
        &four.consortium,
        record.statement.clone(),
        record.doctor,
        record.nonce,
        &four.hospital(2).key,
    );
    assert_eq!(
        refused(&chain, 10, Transaction::Record(Box::new(other))),
        wrong(Signer::Institution)
    );

    let Transaction::Request(request) = four.request(1, 1) else {
        unreachable!()
    };
    let other = RequestTransaction::countersign(
        &four.consortium,
        request.statement,
        request.doctor,
        &four.hospital(2).key,
    );
    assert_eq!(
        refused(&chain, 10, Transaction::Request(other)),
        wrong(Signer::Institution)
    );

    let keys = vec![UserKey {
        hash: KeyHash::new([1; 32]),
        usage: KeyUse::Hpke,
    }];
    let key = &four.hospital(1).key;
    let other = Registration::sign(&four.consortium, Registrant::Agent, keys, key);
    assert_eq!(
        refused(&chain, 10, Transaction::Registration(other)),
        wrong(Signer::Centre)
    );

    let id = four.registration(1).id(&four.consortium);
    let other = crate::CertificateRevocation::sign(&four.consortium, id, key);
    let other = Transaction::CertificateRevocation(other);
    assert_eq!(refused(&chain, 10, other), wrong(Signer::Centre));

    let y = WriterEpochKey::random(&mut rng("other", 1));
    let Transaction::WriterEpoch(mut epoch) = four.writer_epoch_with(1, WriterEpoch::new(1), &y)
    else {
        unreachable!()
    };
    epoch.signature = scheme::Signature::new([3; 64]);
    assert_eq!(
        refused(&chain, 10, Transaction::WriterEpoch(epoch)),
        wrong(Signer::Institution)
    );

    // The countersignature names hospital 2 and is made by the node of hospital 1.
    let Transaction::Grant(mut grant) = four.grant(1, 60_000) else {
        unreachable!()
    };
    grant.node = four.hospital(2).institution.id;
    assert_eq!(
        refused(&chain, 10, Transaction::Grant(grant)),
        wrong(Signer::Node)
    );

    // The node of hospital 2 certifies a key for that of hospital 1.
    let Transaction::NodeKey(mut forged) = four.node_key(2) else {
        unreachable!()
    };
    forged.institution = four.hospital(1).institution.id;
    assert_eq!(
        refused(&chain, 10, Transaction::NodeKey(forged)),
        wrong(Signer::Node)
    );
    // And the institution's own key instead of its node's.
    let own = crate::NodeKeyTransaction::sign(
        &four.consortium,
        four.hospital(1).institution.id,
        ValidatorEpoch::new(0),
        four.hospital(1).node_hpke.public_key(),
        key,
    );
    assert_eq!(
        refused(&chain, 10, Transaction::NodeKey(own)),
        wrong(Signer::Node)
    );

    // The centre's next key: with an institution's signature for the current key's, and with an
    // approval in the name of hospital 3 that hospital 2 made.
    let next = four.next_centre_key(1, &[]);
    let other = four.centre_key(next.clone(), Some(&four.hospital(3).key), &[1, 2]);
    assert_eq!(refused(&chain, 10, other), wrong(Signer::Centre));
    let Transaction::CentreKey(mut rotation) = four.centre_key(next, None, &[1, 2]) else {
        unreachable!()
    };
    let mut forged = rotation.approvals[1];
    forged.by = four.hospital(3).institution.id;
    rotation.approvals.push(forged);
    assert_eq!(
        refused(&chain, 10, Transaction::CentreKey(rotation)),
        wrong(Signer::Approver)
    );
}

#[test]
fn s3_the_institution_must_belong_to_the_consortium() {
    let four = four();
    let chain = opened(&four);
    let newcomer = four.newcomer(Tier::Secondary);
    let unknown = Refusal::UnknownInstitution(newcomer.institution.id);
    let mut statement = four.statement(1, 1, 8);
    statement.institution = newcomer.institution.id;
    assert_eq!(refused(&chain, 10, four.sign_record(1, statement)), unknown);

    let registrant = Registrant::Doctor {
        institution: newcomer.institution.id,
        doctor: newcomer.doctor,
    };
    let keys = vec![UserKey {
        hash: KeyHash::new([1; 32]),
        usage: KeyUse::Signature,
    }];
    let signed = Registration::sign(&four.consortium, registrant, keys, &four.centre);
    assert_eq!(
        refused(&chain, 10, Transaction::Registration(signed)),
        unknown
    );

    let node_key = crate::NodeKeyTransaction::sign(
        &four.consortium,
        newcomer.institution.id,
        ValidatorEpoch::new(0),
        newcomer.node_hpke.public_key(),
        &newcomer.node_key,
    );
    assert_eq!(refused(&chain, 10, Transaction::NodeKey(node_key)), unknown);

    // An approver that does not belong to it.
    let unknown = Refusal::UnknownInstitution(scheme::InstitutionId::new(9));
    let Transaction::CentreKey(mut rotation) =
        four.centre_key(four.next_centre_key(1, &[]), None, &[1, 2, 3])
    else {
        unreachable!()
    };
    rotation.approvals[2].by = scheme::InstitutionId::new(9);
    assert_eq!(
        refused(&chain, 10, Transaction::CentreKey(rotation)),
        unknown
    );
}

#[test]
fn s4_a_time_too_far_ahead_is_refused_until_the_chain_has_come_near() {
    let four = four();
    let mut chain = opened(&four);
    let mut statement = four.statement(1, 1, 8);
    // Blocks 1 and 2 are 10 and 20 ms after founding; 60 s ahead are allowed.
    statement.time = Timestamp::new(FOUNDED.number() + 20 + 60_001);
    let early = four.sign_record(1, statement);
    assert!(matches!(
        refused(&chain, 10, early.clone()),
        Refusal::FromTheFuture { .. }
    ));
    chain.grow(11, vec![early]);
}

#[test]
fn t1_the_centres_keys_follow_each_other_and_one_that_was_skipped_never_comes() {
    let four = four();
    let mut chain = opened(&four);
    let next = |number: u8| {
        let current = four.centre_signer(number - 1);
        four.centre_key(four.next_centre_key(number, &[]), Some(&current), &[1, 2])
    };
    let not_next = |expected, found| Refusal::CentreKeyNotNext {
        expected: CentreKeyNumber::new(expected),
        found: CentreKeyNumber::new(found),
    };
    assert_eq!(refused(&chain, 10, next(2)), not_next(1, 2));
    // Approved for the state in which 1 is next, and handed in once that is over.
    let mut late = four.next_centre_key(1, &[]);
    late.key = four.centre_signer(9).verifying_key();
    let approvals = [1, 2, 3].map(|number| {
        let by = four.hospital(number);
        crate::CentreKeyApproval::sign(&four.consortium, &late, by.institution.id, &by.key)
    });
    let late = Transaction::CentreKey(Box::new(crate::CentreKeyTransaction::sign(
        &four.consortium,
        late,
        &four.centre_signer(9),
        None,
        approvals.to_vec(),
    )));
    chain.grow(10, vec![next(1)]);
    assert_eq!(refused(&chain, 10, late), not_next(2, 1));
    // S1: the first again.
    assert!(matches!(refused(&chain, 10, next(1)), Refusal::Final(_)));
    for number in 2..=63 {
        chain.grow(10, vec![next(number)]);
    }
    let held = state::centre_keys(&chain.view).expect("memory");
    assert_eq!(held.keys().len(), crate::CENTRE_KEYS_MAX);
    assert_eq!(held.current().key, four.centre_signer(63).verifying_key());
    // There is no key 64: no transaction has that number, and no other is next.
    assert_eq!(
        refused(&chain, 10, {
            let mut again = four.next_centre_key(63, &[]);
            again.key = four.centre_signer(64).verifying_key();
            let approval = |number: u32| {
                let by = four.hospital(number);
                crate::CentreKeyApproval::sign(&four.consortium, &again, by.institution.id, &by.key)
            };
            let approvals = vec![approval(1), approval(2), approval(3)];
            Transaction::CentreKey(Box::new(crate::CentreKeyTransaction::sign(
                &four.consortium,
                again.clone(),
                &four.centre_signer(64),
                None,
                approvals,
            )))
        }),
        not_next(64, 63)
    );
}

#[test]
fn t2_the_centres_next_key_is_nobodys() {
    let four = four();
    let mut chain = opened(&four);
    let with = |number: u8, key: &SigningKey| {
        let mut next = four.next_centre_key(number, &[]);
        next.key = key.verifying_key();
        let current = next.sign(&four.consortium, &four.centre_signer(number - 1));
        let approvals = [1, 2].map(|number| {
            let by = four.hospital(number);
            crate::CentreKeyApproval::sign(&four.consortium, &next, by.institution.id, &by.key)
        });
        Transaction::CentreKey(Box::new(crate::CentreKeyTransaction::sign(
            &four.consortium,
            next,
            key,
            Some(current),
            approvals.to_vec(),
        )))
    };
    let here = four.hospital(3);
    // An institution's, a node's, the centre's own.
    for key in [&here.key, &here.node_key, &four.centre] {
        let used = Refusal::CentreKeyInUse(key.verifying_key());
        assert_eq!(refused(&chain, 10, with(1, key)), used);
    }
    chain.grow(10, vec![with(1, &four.centre_signer(1))]);
    // One that the centre gave up.
    assert_eq!(
        refused(&chain, 10, with(2, &four.centre)),
        Refusal::CentreKeyInUse(four.genesis.centre)
    );
    // A2: and nobody joins with one of the centre's, given up or not.
    for key in [four.centre.clone(), four.centre_signer(1)] {
        let mut taken = four.newcomer(Tier::Secondary);
        taken.institution.key = key.verifying_key();
        let used = Refusal::InstitutionKeyInUse(key.verifying_key());
        taken.key = key;
        assert_eq!(
            refused(&chain, 10, four.admission(&taken, &[1]).remove(0)),
            used
        );
    }
}

#[test]
fn t3_the_current_key_and_f_plus_1_or_n_minus_f_without_it_change_the_centres_key() {
    let four = four();
    let next = four.next_centre_key(1, &[]);
    let too_few = |found, needed| Refusal::CentreKeyUnapproved { found, needed };
    let chain = opened(&four);
    let with = |approvers: &[u32]| four.centre_key(next.clone(), Some(&four.centre), approvers);
    let without = |approvers: &[u32]| four.centre_key(next.clone(), None, approvers);
    assert_eq!(refused(&chain, 10, with(&[])), too_few(0, 2));
    assert_eq!(refused(&chain, 10, with(&[4])), too_few(1, 2));
    assert_eq!(refused(&chain, 10, without(&[])), too_few(0, 3));
    assert_eq!(refused(&chain, 10, without(&[1, 2])), too_few(2, 3));
    for rotation in [with(&[3, 4]), without(&[2, 3, 4])] {
        let mut chain = opened(&four);
        chain.grow(10, vec![rotation]);
        let held = state::centre_keys(&chain.view).expect("memory");
        assert_eq!(held.current().key, next.key);
    }
    // Of five f is 1 still, and four are n - f.
    let mut chain = opened(&four);
    let newcomer = four.newcomer(Tier::Secondary);
    chain.grow(10, four.admission(&newcomer, &[1, 2, 3]));
    assert_eq!(refused(&chain, 10, without(&[1, 2, 3])), too_few(3, 4));
    assert_eq!(refused(&chain, 10, with(&[1])), too_few(1, 2));
    chain.grow(10, vec![without(&[1, 2, 3, 4])]);
}

/// What the centre's keys do once another follows: nothing on the chain under an earlier one, and the
/// list says since when each stands how.
#[test]
fn the_centre_signs_with_its_current_key_only_and_the_list_says_how_each_key_stands() {
    use crate::CentreKeyStanding::{Compromised, Current, Retired};
    let four = four();
    let mut chain = opened(&four);
    let wrong = Refusal::Signature(CheckError::Signature(Signer::Centre));
    let doctor = four.registration(1).id(&four.consortium);
    let patient = |number: u64, centre: u8| {
        let Transaction::Registration(signed) = four.patient(number) else {
            unreachable!()
        };
        Transaction::Registration(Registration::sign(
            &four.consortium,
            signed.registrant,
            signed.keys,
            &four.centre_signer(centre),
        ))
    };
    let revocation = |centre: u8| {
        let key = four.centre_signer(centre);
        let signed = crate::CertificateRevocation::sign(&four.consortium, doctor, &key);
        Transaction::CertificateRevocation(signed)
    };
    assert_eq!(refused(&chain, 10, patient(1, 1)), wrong);
    // In one block: before it the founding key signs, after it the next one.
    let rotation = four.centre_key(four.next_centre_key(1, &[]), Some(&four.centre), &[1, 2]);
    let candidates = [patient(1, 0), rotation, patient(2, 0), patient(3, 1)]
        .map(|transaction| four.checked(transaction));
    let proposal = chain.propose(10, &candidates);
    assert_eq!(proposal.refused, [(candidates[2].id(), wrong.clone())]);
    let rotated = chain.grow(
        10,
        candidates
            .iter()
            .filter(|candidate| candidate.id() != candidates[2].id())
            .map(|candidate| candidate.transaction().clone())
            .collect(),
    );
    let rotated = rotated.height();
    assert_eq!(refused(&chain, 10, patient(2, 0)), wrong);
    assert_eq!(refused(&chain, 10, revocation(0)), wrong);
    chain.grow(10, vec![revocation(1)]);

    // Retired with honour, and only later found to be lost.
    let current = four.centre_signer(1);
    let lost = chain
        .grow(
            10,
            vec![four.centre_key(four.next_centre_key(2, &[0]), Some(&current), &[1, 4])],
        )
        .height();
    let last = chain
        .grow(
            10,
            vec![four.centre_key(four.next_centre_key(3, &[0, 2]), None, &[1, 2, 3])],
        )
        .height();
    let held = state::centre_keys(&chain.view).expect("memory");
    let standing = |at: Height| -> Vec<_> {
        held.as_of(at)
            .map(|(key, standing)| {
                let signer = four.centre_signer(key.number.number());
                assert_eq!(key.key, signer.verifying_key());
                standing
            })
            .collect()
    };
    assert_eq!(standing(Height::new(0)), [Current]);
    assert_eq!(standing(Height::new(rotated.number() - 1)), [Current]);
    assert_eq!(standing(rotated), [Retired, Current]);
    assert_eq!(standing(lost), [Compromised, Retired, Current]);
    assert_eq!(standing(last), [Compromised, Retired, Compromised, Current]);
    // Since when stays what it was.
    let since: Vec<_> = held
        .keys()
        .iter()
        .map(|key| key.compromised.map(|since| since.height))
        .collect();
    assert_eq!(since, [Some(lost), None, Some(last), None]);
}

#[test]
fn users_are_registered_once_and_revoked_once() {
    let four = four();
    let mut chain = opened(&four);
    let doctor = four.registration(1);
    let id = doctor.id(&four.consortium);
    let hash = KeyHash::of(&four.hospital(1).doctor_key.verifying_key());

    // U1: the same key for someone else.
    let keys = vec![UserKey {
        hash,
        usage: KeyUse::Signature,
    }];
    let other = Registration::sign(&four.consortium, Registrant::Agent, keys, &four.centre);
    assert_eq!(
        refused(&chain, 10, Transaction::Registration(other)),
        Refusal::KeyRegistered(hash)
    );
    // U2: no such registration.
    let nobody = TransactionId::new([1; 32]);
    assert_eq!(
        refused(&chain, 10, four.certificate_revocation(nobody)),
        Refusal::UnknownRegistration(nobody)
    );

    let held = state::user_key(&chain.view, hash)
        .expect("memory")
        .expect("registered");
    assert_eq!((held.registration, held.usage), (id, KeyUse::Signature));
    assert_eq!(held.status, KeyStatus::InForce);
    chain.grow(10, vec![four.certificate_revocation(id)]);
    let held = state::user_key(&chain.view, hash)
        .expect("memory")
        .expect("registered");
    let KeyStatus::RevokedSince(since) = held.status else {
        panic!("revoked")
    };
    assert_eq!(since.height, Height::new(2));
    // All keys of the registration, not only this one.
    let hpke = four.hospital(1).doctor_hpke.public_key().hash().into();
    let held = state::user_key(&chain.view, hpke)
        .expect("memory")
        .expect("registered");
    assert_eq!(held.status, KeyStatus::RevokedSince(since));

    // S1: the id of a second revocation is that of the first.
    let again = refused(&chain, 10, four.certificate_revocation(id));
    assert!(matches!(again, Refusal::Final(_)));
    // K2: the doctor's records and requests are refused from here on.
    let revoked = Refusal::KeyRevoked { key: hash, since };
    assert_eq!(refused(&chain, 10, four.record(1, 1)), revoked);
    assert_eq!(refused(&chain, 10, four.request(1, 1)), revoked);
    // A key that was revoked is never registered again.
    let keys = vec![UserKey {
        hash,
        usage: KeyUse::Signature,
    }];
    let registrant = Registrant::Doctor {
        institution: four.hospital(1).institution.id,
        doctor: four.hospital(1).doctor,
    };
    let again = Registration::sign(&four.consortium, registrant, keys, &four.centre);
    assert_eq!(
        refused(&chain, 10, Transaction::Registration(again)),
        Refusal::KeyRegistered(hash)
    );
}

#[test]
fn authors_must_be_registered_doctors_of_the_institution() {
    let four = four();
    // K1: not registered.
    let chain = ToyChain::new(&four);
    let hash = KeyHash::of(&four.hospital(1).doctor_key.verifying_key());
    assert_eq!(
        refused(&chain, 10, four.record(1, 1)),
        Refusal::KeyUnknown(hash)
    );
    assert_eq!(
        refused(&chain, 10, four.request(1, 1)),
        Refusal::KeyUnknown(hash)
    );

    // K3: a doctor of another institution.
    let chain = opened(&four);
    let mut statement = four.statement(1, 1, 8);
    statement.author = four.hospital(2).doctor_key.verifying_key();
    let doctor = statement.sign(&four.consortium, &four.hospital(2).doctor_key);
    let tx = crate::RecordTransaction::countersign(
        &four.consortium,
        statement,
        doctor,
        crate::RecordNonce::new([0; 16]),
        &four.hospital(1).key,
    );
    let key = KeyHash::of(&four.hospital(2).doctor_key.verifying_key());
    let institution = four.hospital(1).institution.id;
    assert_eq!(
        refused(&chain, 10, Transaction::Record(Box::new(tx))),
        Refusal::NotADoctorThere { key, institution }
    );
}

/// K3 again: a key that is registered for another use, and one of a user who is no doctor.
#[test]
fn k3_only_a_doctors_signature_key_signs_records() {
    let four = four();
    for (registrant, usage) in [
        (Registrant::Agent, KeyUse::Signature),
        (
            Registrant::Doctor {
                institution: four.hospital(1).institution.id,
                doctor: four.hospital(1).doctor,
            },
            KeyUse::Hpke,
        ),
    ] {
        let mut chain = ToyChain::new(&four);
        let hash = KeyHash::of(&four.hospital(1).doctor_key.verifying_key());
        let keys = vec![UserKey { hash, usage }];
        let signed = Registration::sign(&four.consortium, registrant, keys, &four.centre);
        chain.grow(
            10,
            vec![Transaction::Registration(signed), four.writer_epoch(1)],
        );
        let institution = four.hospital(1).institution.id;
        let wrong = Refusal::NotADoctorThere {
            key: hash,
            institution,
        };
        assert_eq!(refused(&chain, 10, four.record(1, 1)), wrong);
    }
}

#[test]
fn writer_epochs_follow_each_other_and_never_share_a_key() {
    let four = four();
    let mut chain = opened(&four);
    let id = four.hospital(1).institution.id;
    let y1 = WriterEpochKey::random(&mut rng("next writer epoch", 1));
    let at = WriterEpoch::new;

    // W1: not the next.
    let expected = at(1);
    assert_eq!(
        refused(&chain, 10, four.writer_epoch_with(1, at(2), &y1)),
        Refusal::WriterEpochNotNext { expected }
    );
    assert_eq!(
        refused(&chain, 10, four.writer_epoch_with(1, at(0), &y1)),
        Refusal::WriterEpochNotNext { expected }
    );
    // W2: R of its own earlier writer epoch, and R of another institution.
    let own = &four.hospital(1).writer_key;
    assert_eq!(
        refused(&chain, 10, four.writer_epoch_with(1, at(1), own)),
        Refusal::WriterKeyRepeated
    );
    let others = &four.hospital(2).writer_key;
    assert_eq!(
        refused(&chain, 10, four.writer_epoch_with(1, at(1), others)),
        Refusal::WriterKeyRepeated
    );

    // R1: under an ended writer epoch, and under another institution's.
    chain.grow(
        10,
        vec![four.record(1, 1), four.writer_epoch_with(1, at(1), &y1)],
    );
    assert_eq!(
        refused(&chain, 10, four.record(1, 2)),
        Refusal::WriterEpochEnded
    );
    let mut statement = four.statement(1, 3, 8);
    statement.writer_key = others.public_key();
    assert_eq!(
        refused(&chain, 10, four.sign_record(1, statement)),
        Refusal::WriterEpochEnded
    );
    let mut statement = four.statement(1, 4, 8);
    statement.writer_key = y1.public_key();
    chain.grow(10, vec![four.sign_record(1, statement)]);
    // R1: under an R that is on no chain.
    let mut statement = four.statement(1, 5, 8);
    statement.writer_key = WriterEpochKey::random(&mut rng("nowhere", 1)).public_key();
    assert_eq!(
        refused(&chain, 10, four.sign_record(1, statement)),
        Refusal::WriterEpochEnded
    );

    let epochs = state::writer_epochs(&chain.view, id).expect("memory");
    assert_eq!(epochs.len(), 2);
    assert_eq!(epochs[0].key, own.public_key());
    assert_eq!(epochs[1].key, y1.public_key());
    assert_eq!(epochs[1].begun.height, Height::new(2));
    let current = state::current_writer_epoch(&chain.view, id).expect("memory");
    assert_eq!(current.as_ref(), Some(&epochs[1]));
    assert_eq!(
        state::writer_of(&chain.view, &own.public_key()).expect("memory"),
        Some((id, at(0)))
    );
    let nobody = scheme::InstitutionId::new(9);
    assert_eq!(
        state::current_writer_epoch(&chain.view, nobody).expect("memory"),
        None
    );
}

#[test]
fn h1_a_nodes_key_is_of_the_current_validator_epoch_or_the_next() {
    let four = FourHospitals::found(small());
    let mut chain = opened(&four);
    let key = |number| HpkePrivateKey::random(&mut rng("key of an epoch", number)).public_key();
    let of = |epoch: u64| four.node_key_with(1, ValidatorEpoch::new(epoch), key(epoch));
    let refused_at = |chain: &ToyChain<'_>, current: u64, found: u64| {
        let wrong = Refusal::NodeKeyEpoch {
            current: ValidatorEpoch::new(current),
            found: ValidatorEpoch::new(found),
        };
        let of_another = four.node_key_with(2, ValidatorEpoch::new(found), key(found));
        assert_eq!(refused(chain, 10, of_another), wrong);
    };
    // Blocks 1 to 3 are of epoch 0.
    refused_at(&chain, 0, 2);
    refused_at(&chain, 0, u64::MAX);
    chain.grow(10, vec![of(1)]);
    chain.grow(10, vec![of(0)]);
    // Block 4 begins epoch 1; its key stands already.
    chain.grow(10, vec![of(2)]);
    refused_at(&chain, 1, 3);
    for _ in 0..4 {
        chain.grow(10, vec![]);
    }
    refused_at(&chain, 2, 1);
    refused_at(&chain, 2, 0);
    for (epoch, height) in [(0, 3), (1, 2), (2, 4)] {
        let at = ValidatorEpoch::new(epoch);
        let held = state::node_key(&chain.view, at, four.hospital(1).institution.id);
        let held = held.expect("memory").expect("recorded");
        assert_eq!(
            (held.key, held.recorded.height),
            (key(epoch), Height::new(height))
        );
    }
}

#[test]
fn h2_only_nodes_that_account_or_wait_for_a_seat_have_a_key() {
    let four = FourHospitals::found(small());
    let mut chain = opened(&four);
    let newcomer = four.newcomer(Tier::Secondary);
    let (this, next) = (ValidatorEpoch::new(0), ValidatorEpoch::new(1));
    let does_not = |institution, epoch| Refusal::NodeNeedsNoKey { institution, epoch };
    let community = four.hospital(4);
    for epoch in [this, next] {
        let key = community.node_hpke.public_key();
        assert_eq!(
            refused(&chain, 10, four.node_key_with(4, epoch, key)),
            does_not(community.institution.id, epoch)
        );
    }
    // One that is admitted in this epoch accounts in the next, and can have its key stand by then.
    chain.grow(10, four.admission(&newcomer, &[1, 2, 3]));
    let of = |epoch| {
        Transaction::NodeKey(crate::NodeKeyTransaction::sign(
            &four.consortium,
            newcomer.institution.id,
            epoch,
            newcomer.node_hpke.public_key(),
            &newcomer.node_key,
        ))
    };
    assert_eq!(
        refused(&chain, 10, of(this)),
        does_not(newcomer.institution.id, this)
    );
    chain.grow(10, vec![of(next)]);
    let held = state::node_key(&chain.view, next, newcomer.institution.id).expect("memory");
    assert_eq!(held.expect("recorded").key, newcomer.node_hpke.public_key());
    let nodes = state::node_set(&chain.view, next).expect("memory");
    let node = *nodes
        .expect("decided by block 3")
        .by_institution(newcomer.institution.id)
        .expect("it showed that it runs");
    assert_eq!(node.key, newcomer.institution.node);
    // A verification node that has its seat needs none, and an observer's never has one.
    let third = ValidatorEpoch::new(2);
    for tier in [Tier::Community, Tier::Observer] {
        let change = crate::MembershipChange::Retier(newcomer.institution.id, tier);
        chain.grow(10, four.decision(change, &[1, 2, 3, 4]));
        assert_eq!(chain.tip().epoch, next);
        let key = four.seat(newcomer.institution.id, &newcomer.node_key, third);
        assert_eq!(
            refused(&chain, 10, key),
            does_not(newcomer.institution.id, third)
        );
    }
}

#[test]
fn h3_a_node_never_replaces_its_key_within_an_epoch() {
    let four = four();
    let mut chain = opened(&four);
    let (id, epoch) = (four.hospital(1).institution.id, ValidatorEpoch::new(0));
    let held = |chain: &ToyChain<'_>| state::node_key(&chain.view, epoch, id).expect("memory");
    assert_eq!(held(&chain), None);
    chain.grow(10, vec![four.node_key(1)]);
    let first = held(&chain).expect("recorded");
    assert_eq!(first.key, four.hospital(1).node_hpke.public_key());
    assert_eq!(first.recorded.height, Height::new(2));

    // S1: the same key again.
    assert!(matches!(
        refused(&chain, 10, four.node_key(1)),
        Refusal::Final(_)
    ));
    let other = HpkePrivateKey::random(&mut rng("another key", 1)).public_key();
    assert_eq!(
        refused(&chain, 10, four.node_key_with(1, epoch, other)),
        Refusal::NodeKeyPresent {
            institution: id,
            epoch,
            since: first.recorded
        }
    );
    // Two in one block: the first stands.
    let candidates = [other, four.hospital(2).node_hpke.public_key()]
        .map(|key| four.checked(four.node_key_with(2, epoch, key)));
    let proposal = chain.propose(10, &candidates);
    assert_eq!(proposal.block.transactions().len(), 1);
    let [(refused, Refusal::NodeKeyPresent { .. })] = proposal.refused.as_slice() else {
        panic!("the second is refused");
    };
    assert_eq!(*refused, candidates[1].id());
    assert_eq!(held(&chain), Some(first));
}

#[test]
fn r2_a_tag_is_taken_once_per_writer_epoch_and_the_loser_learns_which() {
    let four = four();
    let mut chain = opened(&four);
    let first = four.statement(1, 1, 8);
    chain.grow(10, vec![four.sign_record(1, first.clone())]);

    // Two of the second record's tags are the first one's.
    let mut second = four.statement(1, 2, 8);
    second.entries[0].tag = first.entries[2].tag;
    second.entries[5].tag = first.entries[7].tag;
    second.entries.sort_unstable_by_key(|entry| entry.tag);
    let mut taken = vec![first.entries[2].tag, first.entries[7].tag];
    taken.sort_unstable();
    assert_eq!(
        refused(&chain, 10, four.sign_record(1, second)),
        Refusal::TagsTaken(taken)
    );

    // The same tags under another institution's R are other tags.
    let mut elsewhere = four.statement(2, 3, 8);
    elsewhere.entries = first.entries.clone();
    chain.grow(10, vec![four.sign_record(2, elsewhere.clone())]);

    let epoch = WriterEpoch::new(0);
    for (hospital, statement, height) in [(1, &first, 2), (2, &elsewhere, 3)] {
        let id = four.hospital(hospital).institution.id;
        for entry in &statement.entries {
            let found = state::record_by_tag(&chain.view, id, epoch, &entry.tag)
                .expect("memory")
                .expect("every entry is found");
            assert_eq!(found.transaction, statement.id(&four.consortium).into());
            assert_eq!(found.position.height, Height::new(height));
            let place = state::transaction(&chain.view, found.transaction).expect("memory");
            assert_eq!(place, Some(found.position));
        }
    }
    let unused = scheme::Tag::new([0; 16]);
    let id = four.hospital(1).institution.id;
    assert_eq!(
        state::record_by_tag(&chain.view, id, epoch, &unused).expect("memory"),
        None
    );
    assert_eq!(
        state::record_count(&chain.view).expect("memory").number(),
        2
    );
}

#[test]
fn two_records_for_one_tag_in_one_block_the_second_loses() {
    let four = four();
    let chain = opened(&four);
    let first = four.statement(1, 1, 8);
    let mut second = four.statement(1, 2, 8);
    second.entries = first.entries.clone();
    let candidates = [first, second].map(|statement| four.checked(four.sign_record(1, statement)));
    let proposal = chain.propose(10, &candidates);
    assert_eq!(proposal.block.transactions().len(), 1);
    let [(id, Refusal::TagsTaken(taken))] = proposal.refused.as_slice() else {
        panic!("the second is refused");
    };
    assert_eq!((*id, taken.len()), (candidates[1].id(), 8));
}

#[test]
fn q1_a_request_stands_once_whoever_repeats_it() {
    let four = four();
    let mut chain = opened(&four);
    let request = four.request(1, 1);
    let Transaction::Request(first) = request.clone() else {
        unreachable!()
    };
    chain.grow(10, vec![request]);
    let held = state::request(&chain.view, first.statement.commitment).expect("memory");
    assert_eq!(held.expect("recorded").recorded.height, Height::new(2));
    // The same commitment, signed by another doctor: another id.
    let mut statement = first.statement;
    statement.author = four.hospital(2).doctor_key.verifying_key();
    statement.institution = four.hospital(2).institution.id;
    let doctor = statement.sign(&four.consortium, &four.hospital(2).doctor_key);
    let key = &four.hospital(2).key;
    let other = RequestTransaction::countersign(&four.consortium, statement, doctor, key);
    assert_eq!(
        refused(&chain, 10, Transaction::Request(other)),
        Refusal::RequestRepeated(first.statement.commitment)
    );
}

#[test]
fn grants_are_single_use_in_time_and_countersigned_by_an_accounting_node() {
    let four = four();
    let mut chain = opened(&four);
    chain.grow(10, vec![four.grant(1, 60_000)]);
    let id = GrantId::of(&four.consortium, &four.revocation_key(1).verifying_key());
    let held = state::grant(&chain.view, id)
        .expect("memory")
        .expect("recorded");
    assert_eq!(held.recorded.height, Height::new(2));
    // The leader of view 2 is the third accounting node: the first master node.
    assert_eq!(held.master, four.hospital(3).institution.id);
    assert_eq!(held.revoked, None);
    assert_eq!(held.access.len(), 2);

    // G1: the same revocation key for another grant.
    let mut again = four.grant_entry(2, 60_000);
    again.revocation_key = four.revocation_key(1).verifying_key();
    assert_eq!(
        refused(&chain, 10, four.sign_grant(1, again, 1)),
        Refusal::GrantPresent(id)
    );
    // G2: it has ended.
    let expiry = Timestamp::new(FOUNDED.number() + 30);
    let block = expiry;
    assert_eq!(
        refused(&chain, 10, four.grant(3, 30)),
        Refusal::GrantEnded { expiry, block }
    );
    // G3: the community hospital's node, and a node of nobody.
    let community = four.hospital(4).institution.id;
    let entry = four.grant_entry(4, 60_000);
    assert_eq!(
        refused(&chain, 10, four.sign_grant(4, entry, 4)),
        Refusal::NotAnAccountingNode(community)
    );
    let Transaction::Grant(mut nobody) = four.grant(4, 60_000) else {
        unreachable!()
    };
    nobody.node = scheme::InstitutionId::new(9);
    assert_eq!(
        refused(&chain, 10, Transaction::Grant(nobody)),
        Refusal::UnknownInstitution(scheme::InstitutionId::new(9))
    );
    // G4: an access key of grant 1.
    let mut reused = four.grant_entry(5, 60_000);
    let key = four.access_key(1, 0).verifying_key();
    reused.access_keys[0] = key;
    reused.access_keys.sort_unstable();
    assert_eq!(
        refused(&chain, 10, four.sign_grant(5, reused, 1)),
        Refusal::AccessKeyUsed(key)
    );
}

#[test]
fn accesses_are_counted_per_key_without_a_gap() {
    let four = four();
    let mut chain = opened(&four);
    let key = four.access_key(1, 0).verifying_key();
    // L1: before the grant is on the chain.
    assert_eq!(
        refused(&chain, 10, four.access(1, &[(0, 0)])),
        Refusal::AccessKeyUnknown(key)
    );
    chain.grow(10, vec![four.grant(1, 60_000)]);

    let not_next = |expected, found| Refusal::AccessNotNext {
        key,
        expected: AccessNumber::new(expected),
        found: AccessNumber::new(found),
    };
    // L2: skipped, doubled, out of order within one transaction.
    assert_eq!(
        refused(&chain, 10, four.access(1, &[(0, 1)])),
        not_next(0, 1)
    );
    chain.grow(10, vec![four.access(1, &[(0, 0), (1, 0), (0, 1)])]);
    assert_eq!(
        refused(&chain, 10, four.access(1, &[(0, 1), (1, 1)])),
        not_next(2, 1)
    );
    assert_eq!(
        refused(&chain, 10, four.access(1, &[(0, 3)])),
        not_next(2, 3)
    );
    assert_eq!(
        refused(&chain, 10, four.access(1, &[(0, 3), (0, 2)])),
        not_next(2, 3)
    );
    assert_eq!(
        refused(&chain, 10, four.access(1, &[(0, 2), (0, 2)])),
        not_next(3, 2)
    );
    chain.grow(10, vec![four.access(1, &[(0, 2)])]);

    let id = GrantId::of(&four.consortium, &four.revocation_key(1).verifying_key());
    let held = state::grant(&chain.view, id)
        .expect("memory")
        .expect("recorded");
    let count = |key| {
        held.access
            .iter()
            .find(|(own, _)| *own == key)
            .map(|(_, n)| n.number())
    };
    assert_eq!(count(key), Some(3));
    assert_eq!(count(four.access_key(1, 1).verifying_key()), Some(1));
    assert_eq!(
        state::grant_of(&chain.view, &key).expect("memory"),
        Some(id)
    );
}

#[test]
fn accesses_are_taken_between_begin_and_end_by_the_blocks_time_and_before_revocation() {
    let four = four();
    let mut chain = opened(&four);
    // Begins 40 ms after founding, ends at 60 ms.
    let mut entry = four.grant_entry(1, 60);
    entry.not_before = Timestamp::new(FOUNDED.number() + 40);
    let (not_before, expiry) = (entry.not_before, entry.expiry);
    chain.grow(10, vec![four.sign_grant(1, entry, 2), four.grant(2, 1_000)]);
    assert_eq!(chain.tip().time.number() - FOUNDED.number(), 20);
    let at = |ms| Timestamp::new(FOUNDED.number() + ms);
    let access = |number| four.access(1, &[(0, number)]);
    // L3
    assert_eq!(
        refused(&chain, 19, access(0)),
        Refusal::GrantNotBegun {
            not_before,
            block: at(39)
        }
    );
    chain.grow(20, vec![access(0)]);
    chain.grow(19, vec![access(1)]);
    // L4
    assert_eq!(
        refused(&chain, 1, access(2)),
        Refusal::GrantExpired {
            expiry,
            block: at(60)
        }
    );
    // L5, in the block of the revocation and after it.
    let revocation = four.revocation(2);
    let candidates = [
        four.access(2, &[(0, 0)]),
        revocation,
        four.access(2, &[(0, 1)]),
    ]
    .map(|tx| four.checked(tx));
    let proposal = chain.propose(10, &candidates);
    assert_eq!(proposal.block.transactions().len(), 2);
    let [(id, Refusal::GrantRevoked(_))] = proposal.refused.as_slice() else {
        panic!("the access after the revocation is refused");
    };
    assert_eq!(*id, candidates[2].id());
    chain.grow(10, vec![four.access(2, &[(0, 0)]), four.revocation(2)]);
    let Refusal::GrantRevoked(since) = refused(&chain, 10, four.access(2, &[(0, 1)])) else {
        panic!("revoked");
    };
    assert_eq!(since.height, chain.tip().height);
}

#[test]
fn revocations_and_withdrawals_stand_once() {
    let four = four();
    let mut chain = opened(&four);
    // V1: no such grant.
    let id = GrantId::of(&four.consortium, &four.revocation_key(1).verifying_key());
    assert_eq!(
        refused(&chain, 10, four.revocation(1)),
        Refusal::GrantUnknown(id)
    );
    let Transaction::Withdrawal(withdrawal) = four.withdrawal(1) else {
        unreachable!()
    };
    let appointment: AppointmentId = withdrawal.appointment(&four.consortium);
    assert_eq!(
        state::withdrawal(&chain.view, appointment).expect("memory"),
        None
    );
    chain.grow(10, vec![four.grant(1, 60_000), four.withdrawal(1)]);
    chain.grow(10, vec![four.revocation(1)]);
    let withdrawn = state::withdrawal(&chain.view, appointment).expect("memory");
    assert_eq!(withdrawn.expect("withdrawn").height, Height::new(2));
    // S1: a second one has the id of the first, so it is final already.
    assert!(matches!(
        refused(&chain, 10, four.revocation(1)),
        Refusal::Final(_)
    ));
    assert!(matches!(
        refused(&chain, 10, four.withdrawal(1)),
        Refusal::Final(_)
    ));
    let held = state::grant(&chain.view, id)
        .expect("memory")
        .expect("recorded");
    assert_eq!(held.revoked.expect("revoked").height, Height::new(3));
}

#[test]
fn n1_an_anchor_cannot_be_sent() {
    let four = four();
    let chain = opened(&four);
    let anchor = crate::Anchor {
        first: Height::new(1),
        last: Height::new(1),
        root: scheme::Digest::new([0; 32]),
    };
    let checked = four.checked(Transaction::Anchor(anchor));
    let time = Timestamp::new(chain.tip().time.number() + 10);
    let sent = admit(&chain.view, &checked, time);
    assert!(matches!(
        sent,
        Err(AdmitError::Refused(Refusal::AnchorSent))
    ));
    let proposal = chain.propose(10, &[checked]);
    assert!(proposal.block.transactions().is_empty());
}

/// Nothing that a record puts on the chain is the same for two records of one patient and episode,
/// but what is the same for all records of that doctor.
#[test]
fn no_field_links_two_records_of_a_patient() {
    let four = four();
    let owner = four.patient_keys(1).ownership.public_key();
    let pid = scheme::Pid::from_bytes([7; 32]);
    let episode = scheme::EpisodeKey::derive(&four.consortium, &owner, &pid).expect("no identity");
    let statement = |number: u64| {
        let delta = scheme::Delta::random(&mut rng("delta", number));
        let mut statement = four.statement(1, number, 8);
        statement.owner_key = episode.blind(&delta).expect("no identity");
        statement
    };
    // The pattern names every field, so that a new one has to be thought about here.
    let scheme::RecordStatement {
        digest,
        header_digest,
        owner_key,
        locator,
        entries,
        writer_key: _,
        author: _,
        institution: _,
        time: _,
    } = statement(1);
    let other = statement(2);
    assert_ne!(digest, other.digest);
    assert_ne!(header_digest, other.header_digest);
    assert_ne!(owner_key, other.owner_key);
    assert_ne!(locator.as_bytes(), other.locator.as_bytes());
    for entry in &entries {
        assert!(
            other
                .entries
                .iter()
                .all(|one| one.tag != entry.tag && one.pad != entry.pad)
        );
    }
}

/// What a doctor's machine hands to the hospital's server is the same statement there, and what is not
/// one in every byte is none.
#[test]
fn statements_travel_by_themselves() {
    let four = four();
    let record = four.statement(1, 1, 16);
    let bytes = encode_record_statement(&record);
    assert_eq!(decode_record_statement(&bytes), Ok(record.clone()));
    assert!(decode_record_statement(&bytes[..bytes.len() - 1]).is_err());
    assert!(decode_record_statement(&[bytes.as_slice(), &[0]].concat()).is_err());
    let mut unordered = record.clone();
    unordered.entries.swap(0, 1);
    assert!(decode_record_statement(&encode_record_statement(&unordered)).is_err());
    let mut odd = record;
    odd.entries.pop();
    assert!(decode_record_statement(&encode_record_statement(&odd)).is_err());

    let Transaction::Request(request) = four.request(1, 1) else {
        panic!("a request");
    };
    let bytes = request.statement.encode();
    assert_eq!(RequestStatement::decode(&bytes), Ok(request.statement));
    assert!(RequestStatement::decode(&bytes[1..]).is_err());
}
