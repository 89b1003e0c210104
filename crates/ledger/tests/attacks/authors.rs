//! Attacks by those who say whose key it is: a doctor whose certificate is revoked, the centre, the
//! thief of the centre's key.

use ledger::{
    CentreKeyNumber, CentreKeyStanding, CertificateRevocation, CheckError, KeyHash, KeyStatus,
    KeyUse, Refusal, Registrant, Registration, Signer, Transaction, UserKey,
};
use scheme::{ConsortiumId, Context, DoctorId, SigningKey, Timestamp};

use crate::attacker::{countersigned_by, four, opened, refusal};
use crate::literal::{CentresMap, PaperRecord, SignedSuccessors};

/// Attacker: a doctor whose certificate is revoked, or the thief of their key. Holds: the key, and the
/// hospital's server signs what the key signed. Literal, Figure 8: the transaction bears the doctor's
/// public key, and a node compares the signature with it; or revocation is looked up at the time that
/// the transaction states, which its signer chose. Ours: a key counts only while its certificate is in
/// force at the record's own place on the chain, whatever time was signed.
#[test]
fn attack_record_after_the_certificate_was_revoked() {
    let four = four();
    let mut chain = opened(&four);
    let doctor = &four.hospital(1).doctor_key;
    let hash = KeyHash::of(&doctor.verifying_key());
    let registration = four.registration(1).id(&four.consortium);
    chain.grow(10, vec![four.record(1, 1)]);
    chain.grow(10, vec![four.certificate_revocation(registration)]);
    let KeyStatus::RevokedSince(since) =
        ledger::user_key(&chain.view, hash).unwrap().unwrap().status
    else {
        panic!("revoked");
    };

    let mut backdated = four.statement(1, 2, 8);
    backdated.time = Timestamp::new(since.time.number() - 5);
    let literal = PaperRecord::sign(&four.consortium, backdated.clone(), doctor);
    assert!(literal.stands(&four.consortium));
    assert!(literal.statement.time < since.time, "not revoked by then");

    let revoked = Refusal::KeyRevoked { key: hash, since };
    assert_eq!(refusal(&chain, 10, four.record(1, 3)), revoked);
    assert_eq!(refusal(&chain, 10, four.sign_record(1, backdated)), revoked);
    assert_eq!(refusal(&chain, 10, four.request(1, 1)), revoked);
    // A key that was never certified, and what the doctor recorded in time, which stays.
    let mut uncertified = four.statement(1, 4, 8);
    let stranger = SigningKey::from_seed([9; 32]);
    uncertified.author = stranger.verifying_key();
    let signature = uncertified.sign(&four.consortium, &stranger);
    let record = ledger::RecordTransaction::countersign(
        &four.consortium,
        uncertified,
        signature,
        ledger::RecordNonce::new([0; 16]),
        &four.hospital(1).key,
    );
    assert_eq!(
        refusal(&chain, 10, Transaction::Record(Box::new(record))),
        Refusal::KeyUnknown(KeyHash::of(&stranger.verifying_key()))
    );
    let earlier = four.record(1, 1).id(&four.consortium);
    assert!(ledger::transaction(&chain.view, earlier).unwrap().is_some());
}

/// A registration that the centre signs.
fn certified(
    consortium: &ConsortiumId,
    centre: &SigningKey,
    registrant: Registrant,
    hash: KeyHash,
) -> Transaction {
    let usage = KeyUse::Signature;
    let keys = vec![UserKey { hash, usage }];
    Transaction::Registration(Registration::sign(consortium, registrant, keys, centre))
}

/// Attacker: the registration centre, with the server of hospital 2. Hold: the centre's key and that
/// hospital's. They certify the key of hospital 1's doctor for hospital 2, so that the doctor's records
/// at hospital 1 are refused, and those that the doctor signs for hospital 2's papers count as made
/// there. Literal, a map of keys that the centre writes: the last entry holds. Ours: a key is
/// registered once for ever, whatever the centre signs; the centre can end a certificate, which all
/// see. What it can do besides is to certify a key of its own as a doctor's (visible, not prevented):
/// its records then bear that key, and the institution's signature, which the centre has not.
#[test]
fn attack_register_a_doctors_key_for_another_institution() {
    let four = four();
    let mut chain = opened(&four);
    let (one, two) = (four.hospital(1), four.hospital(2));
    let hash = KeyHash::of(&one.doctor_key.verifying_key());
    let doctor_of = |institution, doctor| Registrant::Doctor {
        institution,
        doctor,
    };
    let (before, after) = (
        doctor_of(one.institution.id, one.doctor),
        doctor_of(two.institution.id, one.doctor),
    );
    let mut literal = CentresMap::default();
    literal.register(hash, before);
    assert!(literal.signs_for(hash, one.institution.id));
    literal.register(hash, after);
    assert!(!literal.signs_for(hash, one.institution.id));
    assert!(literal.signs_for(hash, two.institution.id));

    let certify = |registrant| certified(&four.consortium, &four.centre, registrant, hash);
    for registrant in [after, Registrant::Agent, Registrant::Patient] {
        assert_eq!(
            refusal(&chain, 10, certify(registrant)),
            Refusal::KeyRegistered(hash)
        );
    }
    chain.grow(10, vec![four.record(1, 1)]);
    let mut at_two = four.statement(2, 2, 8);
    at_two.author = one.doctor_key.verifying_key();
    let (key, institution) = (hash, two.institution.id);
    assert_eq!(
        refusal(&chain, 10, countersigned_by(&four, 1, 2, at_two.clone())),
        Refusal::NotADoctorThere { key, institution }
    );
    // Ended first and certified again: still once for ever.
    let registration = four.registration(1).id(&four.consortium);
    chain.grow(10, vec![four.certificate_revocation(registration)]);
    assert_eq!(
        refusal(&chain, 10, certify(after)),
        Refusal::KeyRegistered(hash)
    );
    assert_eq!(
        refusal(&chain, 10, countersigned_by(&four, 1, 2, at_two)),
        Refusal::NotADoctorThere { key, institution }
    );

    // A false doctor of hospital 1 with a key of the centre's own: all see the key, and without the
    // hospital's signature it records nothing.
    let false_doctor = SigningKey::from_seed([8; 32]);
    let hash = KeyHash::of(&false_doctor.verifying_key());
    let as_doctor = doctor_of(one.institution.id, DoctorId::new(999));
    let registered = certified(&four.consortium, &four.centre, as_doctor, hash);
    chain.grow(10, vec![registered]);
    let seen = ledger::user_key(&chain.view, hash).unwrap().unwrap();
    assert_eq!(seen.registrant, as_doctor);
    let mut statement = four.statement(1, 3, 8);
    statement.author = false_doctor.verifying_key();
    let signature = statement.sign(&four.consortium, &false_doctor);
    for server in [&four.centre, &two.key] {
        let record = ledger::RecordTransaction::countersign(
            &four.consortium,
            statement.clone(),
            signature,
            ledger::RecordNonce::new([0; 16]),
            server,
        );
        assert_eq!(
            refusal(&chain, 10, Transaction::Record(Box::new(record))),
            Refusal::Signature(CheckError::Signature(Signer::Institution))
        );
    }
}

/// Attacker: the thief of the registration centre's key. Holds: that key, and the server of one faulty
/// hospital. Literal, each key signs its successor: the thief names a key that only the thief holds,
/// and the centre is out for ever. Ours: f + 1 institutions must approve, so a correct one has asked
/// the centre. What the thief can do besides, until the institutions have given the centre another
/// key, is to certify false users, which all see.
#[test]
fn attack_take_over_the_centre_with_its_key_alone() {
    let four = four();
    let mut chain = opened(&four);
    let stolen = &four.centre;
    let thief = four.centre_signer(1).verifying_key();
    let mut literal = SignedSuccessors(four.genesis.centre);
    let text: [&[u8]; 2] = [b"next", thief.as_bytes()];
    let signature = stolen.sign(Context::Transaction, &four.consortium, &text);
    literal.follow(&four.consortium, thief, &signature);
    assert_eq!(literal.0, thief, "the centre is the thief");

    let next = four.next_centre_key(1, &[0]);
    let unapproved = |found, needed| Refusal::CentreKeyUnapproved { found, needed };
    let alone = four.centre_key(next.clone(), Some(stolen), &[]);
    assert_eq!(refusal(&chain, 10, alone), unapproved(0, 2));
    let with_one = four.centre_key(next.clone(), Some(stolen), &[4]);
    assert_eq!(refusal(&chain, 10, with_one), unapproved(1, 2));
    // The faulty hospital's approval in another's name, or under its own twice.
    let Transaction::CentreKey(mut forged) = four.centre_key(next, Some(stolen), &[4]) else {
        unreachable!()
    };
    let mut other = forged.approvals[0];
    other.by = four.hospital(1).institution.id;
    forged.approvals.insert(0, other);
    assert_eq!(
        refusal(&chain, 10, Transaction::CentreKey(forged.clone())),
        Refusal::Signature(CheckError::Signature(Signer::Approver))
    );
    forged.approvals[0] = forged.approvals[1];
    let twice = Transaction::CentreKey(forged);
    assert!(Transaction::decode(&twice.encode()).is_err());

    // The institutions give the centre another key, without the stolen one, which from here on
    // registers nobody and revokes nothing. That the thief saw it coming and registered it as a user's
    // changes nothing.
    let next = four.next_centre_key(1, &[0]);
    let seen = KeyHash::of(&next.key);
    let ahead = certified(&four.consortium, stolen, Registrant::Agent, seen);
    chain.grow(10, vec![ahead, four.centre_key(next, None, &[1, 2, 3])]);
    let forged = Refusal::Signature(CheckError::Signature(Signer::Centre));
    let hash = KeyHash::of(&SigningKey::from_seed([8; 32]).verifying_key());
    let registrant = Registrant::Doctor {
        institution: four.hospital(1).institution.id,
        doctor: DoctorId::new(999),
    };
    let false_doctor = certified(&four.consortium, stolen, registrant, hash);
    assert_eq!(refusal(&chain, 10, false_doctor), forged);
    let id = four.registration(1).id(&four.consortium);
    let revoked = CertificateRevocation::sign(&four.consortium, id, stolen);
    let revoked = Transaction::CertificateRevocation(revoked);
    assert_eq!(refusal(&chain, 10, revoked), forged);
    let again = four.centre_key(four.next_centre_key(2, &[]), Some(stolen), &[1, 2, 3, 4]);
    assert_eq!(refusal(&chain, 10, again), forged);
}

/// Attacker: whoever kept a rotation that was approved and did not come to be, and the key that it
/// names, since given up as unsafe. Literal, a rotation says which key follows and no more: it can be
/// handed in years later. Ours: it bears the number of the key that it makes, which is its place in one
/// list, and that list has gone on.
#[test]
fn attack_replay_an_approved_rotation() {
    let four = four();
    let mut chain = opened(&four);
    let mut unsafe_key = four.next_centre_key(1, &[]);
    unsafe_key.key = SigningKey::from_seed([7; 32]).verifying_key();
    let mut literal = SignedSuccessors(four.genesis.centre);
    let signed = |next: &scheme::VerifyingKey| {
        let text: [&[u8]; 2] = [b"next", next.as_bytes()];
        four.centre
            .sign(Context::Transaction, &four.consortium, &text)
    };
    let (kept, other) = (signed(&unsafe_key.key), signed(&four.genesis.centre));
    literal.follow(&four.consortium, four.genesis.centre, &other);
    literal.follow(&four.consortium, unsafe_key.key, &kept);
    assert_eq!(literal.0, unsafe_key.key, "replayed later");

    let approvals = [1, 2, 3].map(|number| {
        let by = four.hospital(number);
        let (id, key) = (by.institution.id, &by.key);
        ledger::CentreKeyApproval::sign(&four.consortium, &unsafe_key, id, key)
    });
    let current = unsafe_key.sign(&four.consortium, &four.centre);
    let kept = Transaction::CentreKey(Box::new(ledger::CentreKeyTransaction::sign(
        &four.consortium,
        unsafe_key,
        &SigningKey::from_seed([7; 32]),
        Some(current),
        approvals.to_vec(),
    )));
    let instead = four.centre_key(four.next_centre_key(1, &[]), Some(&four.centre), &[1, 2]);
    chain.grow(10, vec![instead.clone()]);
    assert_eq!(
        refusal(&chain, 10, kept),
        Refusal::CentreKeyNotNext {
            expected: CentreKeyNumber::new(2),
            found: CentreKeyNumber::new(1),
        }
    );
    // And one that came to be, once more.
    assert!(matches!(refusal(&chain, 10, instead), Refusal::Final(_)));
    let keys = ledger::centre_keys(&chain.view).unwrap();
    let standings: Vec<_> = keys.as_of(chain.tip().height).map(|(_, how)| how).collect();
    assert_eq!(
        standings,
        [CentreKeyStanding::Retired, CentreKeyStanding::Current]
    );
}
