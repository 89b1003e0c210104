//! Attacks on equations (5) to (8) and on signatures: pseudonyms, proofs of possession, what the
//! registration centre holds, and inputs outside the groups.

use blstrs::{G1Affine, G1Projective, G2Affine, G2Projective, Scalar};
use ed25519_zebra as ed25519;
use ff::Field;
use group::Group;
use scheme::*;
use subtle::ConstantTimeEq;

use crate::literal::{NameGen, h};
use crate::model::{
    aes_open, aes_seal, be, bls, bytes1, bytes2, e, enc_pairing, g1, g2, h1, hs, ht, point1,
    point2, prf, scalar, secrets, sha,
};
use crate::support::*;

/// Attacker: a doctor. Holds: what (8) hands a doctor of the patient's. Literal: SK_aes itself, from
/// which PID = H(SK_aes, UID) follows for every hospital whose UID is known, and which is the same for
/// all doctors. Ours: SK_D, which gives this doctor's episodes and no others.
#[test]
fn attack_compute_another_doctors_pseudonym() {
    let literal = NameGen { sk_aes: [0x5a; 32] };
    let (to_attacker, to_other) = (literal.hand_over(7, 2), literal.hand_over(7, 5));
    let the_others = NameGen::pseudonym(&to_other, b"R-2041");
    assert_eq!(NameGen::pseudonym(&to_attacker, b"R-2041"), the_others);

    let here = consortium();
    let patient = Patient::new(1);
    let (attacker, other) = (Doctor::new(2, 7), Doctor::new(5, 7));
    let subkey = |doctor: &Doctor| {
        patient
            .keys
            .symmetric
            .doctor_subkey(&here, doctor.institution, doctor.id)
    };
    let target = patient.pid(&other, 0);
    let held = subkey(&attacker);
    let uids = [b"R-1".as_slice(), b"R-5", b"5", b"\0\0\0\0\0\0\0\x05"];
    for uid in uids {
        for episode in 0..16 {
            let computed =
                held.pseudonym(&here, &Uid::new(uid).unwrap(), EpisodeNumber::new(episode));
            assert!(!bool::from(computed.ct_eq(&target)));
        }
    }
    // SK_D as if it were SK_aes: the other doctor's subkey is no function of it.
    let chained = prf(held.expose_bytes(), "SKD", &[&be(7), &be(5)]);
    assert_ne!(&chained, subkey(&other).expose_bytes());
    let own = prf(
        held.expose_bytes(),
        "PIDN",
        &[patient.uid.as_bytes(), &be(0)],
    );
    assert_eq!(&own, patient.pid(&attacker, 0).expose_bytes());
    // Institution and doctor are two parts, not one text: 1 and 23 are not 12 and 3.
    let of = |institution, doctor| {
        let key = &patient.keys.symmetric;
        let subkey = key.doctor_subkey(
            &here,
            InstitutionId::new(institution),
            DoctorId::new(doctor),
        );
        *subkey.expose_bytes()
    };
    assert_eq!(format!("{}{}", 1, 23), format!("{}{}", 12, 3));
    assert_ne!(of(1, 23), of(12, 3));
}

/// Attacker: a doctor who knows O and the PID, or another user. Holds: the patient's proof of
/// possession. Literal, H1(subject)^o: it converts to E = O * g2^s, so the doctor registers E as an
/// ownership key, and it passes for another role. Ours: role, subject and key are hashed.
#[test]
fn attack_move_a_proof_of_possession_to_another_key_subject_or_role() {
    let mut rng = rng(51);
    let (o, s) = (secrets(1).o, scalar(&mut rng));
    let literal = h(b"subject 1") * o;
    let converted = literal + h(b"subject 1") * s;
    assert!(e(&converted, &g2()) == e(&h(b"subject 1"), &(g2() * (o + s))));

    let here = consortium();
    let keys = Patient::new(1).keys;
    let (subject, other) = (Subject::new(1), Subject::new(2));
    let public = keys.ownership.public_key();
    let proof = keys.ownership.prove_possession(&here, subject);
    assert!(verify_ownership_key(&here, subject, &public, &proof).is_ok());
    let moved_key = bytes2(&(point2(public.as_bytes()) + g2() * s));
    let moved_key = OwnershipPublicKey::from_bytes(&moved_key).unwrap();
    let point = point1(proof.as_bytes());
    for hashed in [
        h1("POP-O", &[&be(1), public.as_bytes()]),
        h1("POP-O", &[&be(1), moved_key.as_bytes()]),
        h1("POP-O", &[&be(1)]),
    ] {
        let converted = BlsSignature::from_bytes(&bytes1(&(point + hashed * s))).unwrap();
        assert!(verify_ownership_key(&here, subject, &moved_key, &converted).is_err());
    }
    assert!(verify_ownership_key(&here, other, &public, &proof).is_err());
    let elsewhere = ConsortiumId::new([1; 32]);
    assert!(verify_ownership_key(&elsewhere, subject, &public, &proof).is_err());
    // One secret in two roles, which no honest client has: the proofs still do not pass for each other.
    let as_a = EncryptionPublicKey::from_bytes(public.as_bytes()).unwrap();
    let as_x = SearchPublicKey::from_bytes(public.as_bytes()).unwrap();
    assert!(verify_encryption_key(&here, subject, &as_a, &proof).is_err());
    assert!(verify_search_key(&here, subject, &as_x, &proof).is_err());
    for (tag, stands) in [("POP-A", [true, false]), ("POP-X", [false, true])] {
        let made = bls(tag, &o, &[&be(1), public.as_bytes()]);
        let made = BlsSignature::from_bytes(&made).unwrap();
        let found = [
            verify_encryption_key(&here, subject, &as_a, &made).is_ok(),
            verify_search_key(&here, subject, &as_x, &made).is_ok(),
        ];
        assert_eq!(found, stands);
        assert!(verify_ownership_key(&here, subject, &public, &made).is_err());
    }
}

/// Attacker: whoever passes a hand-over on, or a doctor of one episode. Holds: a signed hand-over of
/// SK_D and the patient's keys. Literal: a signature over the text alone converts to a related key and
/// stands as whatever else is signed with o. Ours: O and the domain are hashed.
#[test]
fn attack_convert_a_handover_to_a_related_key() {
    let mut rng = rng(52);
    let (o, s) = (secrets(1).o, scalar(&mut rng));
    let converted = h(b"SK_D, A, X, O") * o + h(b"SK_D, A, X, O") * s;
    assert!(e(&converted, &g2()) == e(&h(b"SK_D, A, X, O"), &(g2() * (o + s))));

    let here = consortium();
    let keys = Patient::new(1).keys;
    let public = keys.ownership.public_key();
    let text = b"SK_D, A, X, O";
    let signature = keys.ownership.sign_handover(&here, text);
    assert!(verify_handover(&here, &public, text, &signature).is_ok());
    assert!(verify_handover(&here, &public, b"SK_D, A', X, O", &signature).is_err());
    let related = bytes2(&(g2() * (o + s)));
    let related = OwnershipPublicKey::from_bytes(&related).unwrap();
    for hashed in [
        h1("HANDOVER", &[public.as_bytes(), text]),
        h1("HANDOVER", &[related.as_bytes(), text]),
        h1("HANDOVER", &[text]),
    ] {
        let moved = bytes1(&(point1(signature.as_bytes()) + hashed * s));
        let moved = BlsSignature::from_bytes(&moved).unwrap();
        assert!(verify_handover(&here, &related, text, &moved).is_err());
    }
    for tag in ["GRANT", "DELEGATION", "POP-O"] {
        let other = bls(tag, &o, &[public.as_bytes(), text]);
        let other = BlsSignature::from_bytes(&other).unwrap();
        assert!(verify_handover(&here, &public, text, &other).is_err());
    }
}

/// Attacker: another institution, or a doctor of the hospital. Holds: R and its proof; or an account at
/// the server that raises points. Literal: a Schnorr proof over R alone stands for whoever shows it,
/// and a proof that is a raised point is made by asking the server. Ours: the proof is of Schnorr's
/// kind over institution, writer epoch and R.
#[test]
fn attack_claim_a_hospitals_writer_epoch_key() {
    let mut rng = rng(53);
    let here = consortium();
    let hospital = Hospital::new(3, 7, 0);
    let public = hospital.y.public_key();
    // Schnorr over R and the commitment only.
    let (y, k) = (scalar(&mut rng), scalar(&mut rng));
    let (r, first) = (g2() * y, g2() * k);
    let c = hs("POP-R", &[&bytes2(&r), &bytes2(&first)]);
    let z = k + c * y;
    let stands = |(_institution, r, c, z): (u32, G2Projective, Scalar, Scalar)| {
        hs("POP-R", &[&bytes2(&r), &bytes2(&(g2() * z - r * c))]) == c
    };
    assert!(stands((7, r, c, z)) && stands((8, r, c, z)));
    // A raised point as proof.
    let asked = h1("POP-R", &[&be(8), public.as_bytes()]);
    let raised = hospital
        .y
        .raise(&BlindedKeyword::from_bytes(&bytes1(&asked)).unwrap());
    let r = point2(public.as_bytes());
    assert!(e(&point1(raised.as_bytes()), &g2()) == e(&asked, &r));

    let (own, epoch) = (InstitutionId::new(7), WriterEpoch::new(0));
    let proof = hospital.y.prove_possession(&here, own, epoch, &mut rng);
    assert!(proof.verify(&here, own, epoch, &public).is_ok());
    let attacker = InstitutionId::new(8);
    assert!(proof.verify(&here, attacker, epoch, &public).is_err());
    assert!(
        proof
            .verify(&here, own, WriterEpoch::new(1), &public)
            .is_err()
    );
    let elsewhere = ConsortiumId::new([1; 32]);
    assert!(proof.verify(&elsewhere, own, epoch, &public).is_err());
    // A related key R * g2^s with the proof shifted along, c as it was.
    let s = scalar(&mut rng);
    let bytes = proof.to_bytes();
    let read = |at: usize| {
        let half: [u8; 32] = bytes[at..at + 32].try_into().unwrap();
        Option::<Scalar>::from(Scalar::from_bytes_be(&half)).unwrap()
    };
    let (c, z) = (read(0), read(32));
    let mut shifted = bytes;
    shifted[32..].copy_from_slice(&(z + c * s).to_bytes_be());
    let related = WriterEpochPublicKey::from_bytes(&bytes2(&(r + g2() * s))).unwrap();
    assert!(
        WriterEpochProof::from_bytes(&shifted)
            .verify(&here, own, epoch, &related)
            .is_err()
    );
    // The control: with y + s the same arithmetic proves it.
    let first = bytes2(&(g2() * k));
    let c = hs("POP-R", &[&be(8), &be(0), related.as_bytes(), &first]);
    let y = Option::<Scalar>::from(Scalar::from_bytes_be(&hospital.y.expose_bytes())).unwrap();
    let mut made = [0; 64];
    made[..32].copy_from_slice(&c.to_bytes_be());
    made[32..].copy_from_slice(&(k + c * (y + s)).to_bytes_be());
    assert!(
        WriterEpochProof::from_bytes(&made)
            .verify(&here, attacker, epoch, &related)
            .is_ok()
    );
}

/// Attacker: the registration centre. Holds: whatever it was ever sent. Literal, (6): it makes the
/// patient's keys, so it opens every record and computes every pseudonym; or it is shown possession of x
/// by having a point of its choice raised, and chooses the hash of a keyword. Ours: it is sent public
/// keys, proofs over hashes of their own domain, and a directory under a key from the seed, and none of
/// them is a trapdoor, a condition key or a signature under E.
#[test]
fn attack_a_centre_that_holds_everything_it_was_sent() {
    let here = consortium();
    let (doctor, hospital) = (Doctor::new(2, 7), Hospital::new(3, 7, 0));
    let patient = Patient::new(1);
    let pid = patient.pid(&doctor, 0);
    let stored = store(
        &patient,
        &doctor,
        &hospital,
        &pid,
        &[("modality|CT", 0)],
        &[(IMAGING, b"occlusion of the left M1".to_vec())],
        &mut rng(54),
    );
    let raw = crate::model::RawHeader::parse(&stored.container);
    let u = point2(&raw.u);
    let word = [
        pid.expose_bytes().as_slice(),
        &be(7),
        &be(0),
        b"modality|CT",
    ];
    // Literal: the centre generated the seed; and the challenge that it had raised to x.
    let made = PatientKeys::derive(&RootSeed::from_bytes([1; 32]), KeyVersion::new(0), &here);
    let u_bytes = stored.header.encapsulation();
    let secret = SectionSecret::of_owner(&here, &made.encryption, &pid, IMAGING, u_bytes);
    let index = stored.header.sections().next().unwrap();
    assert!(secret.content_key(&stored.header, index).is_ok());
    let challenge = h1("KW", &word) * secrets(1).x;
    let r = point2(hospital.y.public_key().as_bytes());
    let tag = prf(&ht(&challenge, &r), "TAG", &[&be(0)]);
    let finds = |tag: &[u8]| {
        let mut entries = stored.statement.entries.iter();
        entries.any(|entry| entry.tag.as_bytes() == tag)
    };
    assert!(finds(&tag[..16]));

    // Ours. Even a centre that somehow learnt the PID, which it is never sent, gets no further.
    let subject = Subject::new(1);
    let keys = &patient.keys;
    let directory = aes_seal(
        keys.directory.expose_bytes(),
        [0; 12],
        b"",
        pid.expose_bytes(),
    );
    let proofs = [
        keys.encryption.prove_possession(&here, subject),
        keys.search.prove_possession(&here, subject),
        keys.ownership.prove_possession(&here, subject),
    ];
    let publics = [
        *keys.encryption.public_key().as_bytes(),
        *keys.search.public_key().as_bytes(),
        *keys.ownership.public_key().as_bytes(),
    ];
    let mut points: Vec<G1Projective> = proofs
        .iter()
        .map(|proof| point1(proof.as_bytes()))
        .collect();
    points.extend([
        h1("KW", &word),
        h1(
            "COND",
            &[pid.expose_bytes(), &be(u64::from(IMAGING.code()))],
        ),
        g1(),
    ]);
    let mut keys_tried = Vec::new();
    for point in &points {
        for other in publics.iter().map(point2).chain([u, r, g2()]) {
            let k = ht(point, &other);
            assert_ne!(raw.keys(0, &k).1, raw.sections[0].kc);
            assert!(!finds(&prf(&k, "TAG", &[&be(0)])[..16]));
            keys_tried.push(k);
        }
    }
    keys_tried.extend(publics.iter().map(|public| sha(public)));
    for key in &keys_tried {
        assert_eq!(aes_open(key, [0; 12], b"", &directory), None);
    }
    assert!(aes_open(keys.directory.expose_bytes(), [0; 12], b"", &directory).is_some());
    // Nor is a proof a trapdoor, a condition key or a hand-over, whatever it is called.
    let trapdoor = Trapdoor::from_bytes(proofs[1].as_bytes()).unwrap();
    let found = trapdoor
        .index_key(&hospital.y.public_key())
        .search(&here, 8, |tag| {
            Ok::<_, ()>(finds(tag.as_bytes()).then_some(()))
        })
        .unwrap();
    assert!(found.is_empty());
    let condition = ConditionKey::from_bytes(proofs[0].as_bytes()).unwrap();
    let secret = condition.section_secret(stored.header.encapsulation());
    assert!(secret.content_key(&stored.header, index).is_err());
    let public = keys.ownership.public_key();
    assert!(verify_handover(&here, &public, &be(1), &proofs[2]).is_err());
}

/// Attacker: a doctor who wants to deny later what they signed. Holds: an Ed25519 key of small order,
/// which they enrol. Literal, ZIP-215 as it is: one signature, R the identity and S = 0, stands under
/// it for every text, so anybody could have signed any of them. Ours: a key of small order verifies
/// nothing.
#[test]
fn attack_enrol_a_key_under_which_every_text_is_signed() {
    let here = consortium();
    let mut universal = [0; 64];
    universal[0] = 1;
    let small = [
        [0; 32],
        std::array::from_fn(|place| u8::from(place == 0)),
        std::array::from_fn(|place| {
            [0xec, 0xff, 0x7f][usize::from(place > 0) + usize::from(place == 31)]
        }),
    ];
    let (patient, doctor, hospital) = (Patient::new(1), Doctor::new(2, 7), Hospital::new(3, 7, 0));
    let stored = store(
        &patient,
        &doctor,
        &hospital,
        &patient.pid(&doctor, 0),
        &[("", 0)],
        &[(HOMEPAGE, b"name".to_vec())],
        &mut rng(55),
    );
    for key in small {
        let literal = ed25519::VerificationKey::try_from(key).unwrap();
        for text in [b"I saw the scan at 10:02".as_slice(), b"I never saw it"] {
            assert!(literal.verify(&universal.into(), text).is_ok());
        }
        let mut denied = stored.statement.clone();
        denied.author = VerifyingKey::new(key);
        for time in 0..4 {
            denied.time = Timestamp::new(time);
            assert!(denied.verify(&here, &Signature::new(universal)).is_err());
        }
    }
}

/// Attacker: anyone who sends bytes. They send the identity, a point off the curve, one outside the
/// subgroup of order p, another encoding of a good one, zero, p or more. Literal, a library's decoder
/// that checks the curve only: the identity makes every pairing 1, so K is the same for everybody and a
/// signature of it stands under a key of it for every text. Ours: every decoder refuses, and says why.
#[test]
fn attack_points_and_scalars_outside_the_groups() {
    let (none1, none2) = (G1Projective::identity(), G2Projective::identity());
    let taken1 = Option::<G1Affine>::from(G1Affine::from_compressed(&bytes1(&none1)));
    let taken2 = Option::<G2Affine>::from(G2Affine::from_compressed(&bytes2(&none2)));
    let (signature, key): (G1Projective, G2Projective) =
        (taken1.unwrap().into(), taken2.unwrap().into());
    for text in [b"a grant".as_slice(), b"any grant"] {
        assert!(e(&signature, &g2()) == e(&h(text), &key));
    }

    let bad1: Vec<[u8; 48]> = bad_points(bytes1(&none1), bytes1(&(g1() * Scalar::from(5))));
    let bad2: Vec<[u8; 96]> = bad_points(bytes2(&none2), bytes2(&(g2() * Scalar::from(5))));
    let outside = |bytes: &[u8; 48]| {
        let point = Option::<G1Affine>::from(G1Affine::from_compressed_unchecked(bytes));
        point.is_some_and(|point| !bool::from(point.is_torsion_free()))
    };
    assert!(bad1.iter().any(outside));
    for bytes in &bad1 {
        assert!(BlsSignature::from_bytes(bytes).is_err());
        assert!(BlsPoint::from_bytes(bytes).is_err());
        assert!(BlindedKeyword::from_bytes(bytes).is_err());
        assert!(RaisedKeyword::from_bytes(bytes).is_err());
        assert!(Trapdoor::from_bytes(bytes).is_err());
        assert!(ConditionKey::from_bytes(bytes).is_err());
        assert!(UncheckedShare::from_bytes(bytes).is_err());
    }
    for bytes in &bad2 {
        assert!(EncryptionPublicKey::from_bytes(bytes).is_err());
        assert!(SearchPublicKey::from_bytes(bytes).is_err());
        assert!(OwnershipPublicKey::from_bytes(bytes).is_err());
        assert!(WriterEpochPublicKey::from_bytes(bytes).is_err());
        assert!(Encapsulation::from_bytes(bytes).is_err());
        assert!(OwnerKey::from_bytes(bytes).is_err());
        assert!(EpisodeKey::from_bytes(bytes).is_err());
    }

    // GT: one, an element outside the subgroup, a coefficient of q or more.
    let good = enc_pairing(&g1(), &g2());
    assert!(ReEncryptedShare::from_bytes(&good).is_ok());
    let mut one = [0; 576];
    one[47] = 1;
    let mut outside = good;
    outside[575] ^= 1;
    let mut negated = good;
    negated[0] |= 0xe0;
    let reversed: [u8; 576] = std::array::from_fn(|place| good[(place + 288) % 576]);
    for bytes in [one, outside, negated, reversed, [0; 576], [0xff; 576]] {
        assert!(ReEncryptedShare::from_bytes(&bytes).is_err());
        assert!(Commitments::from_bytes(&[bytes]).is_err());
        assert!(Commitments::from_bytes(&[good, bytes]).is_err());
        let proof = [bytes.as_slice(), &good, &bytes1(&g1())].concat();
        assert!(ShareProof::from_bytes(&proof).is_err());
        let proof = [good.as_slice(), &bytes, &bytes1(&g1())].concat();
        assert!(ShareProof::from_bytes(&proof).is_err());
    }
    assert!(Commitments::from_bytes(&[]).is_err());

    // Scalars: zero, p, above p.
    let mut p = (-Scalar::ONE).to_bytes_be();
    assert!(Delta::from_bytes(&p).is_ok());
    p[31] += 1;
    for bytes in [[0; 32], p, [0xff; 32]] {
        assert!(Delta::from_bytes(&bytes).is_err());
        assert!(WriterEpochKey::from_bytes(&bytes).is_err());
    }
    // X25519: the keys of small order, with which every shared secret is zero.
    for key in [[0; 32], std::array::from_fn(|place| u8::from(place == 0))] {
        let sealed =
            HpkePublicKey::new(key).seal(Purpose::Request, &consortium(), b"", b"x", &mut rng(56));
        assert!(sealed.is_err());
    }
}

/// Encodings that no decoder of points may take, made of the identity's and a good one.
fn bad_points<const N: usize>(identity: [u8; N], good: [u8; N]) -> Vec<[u8; N]> {
    let with = |bytes: [u8; N], change: fn(&mut [u8; N])| {
        let mut changed = bytes;
        change(&mut changed);
        changed
    };
    let mut bad = vec![
        identity,
        // The identity with a sign, with a value, without the mark of compression.
        with(identity, |bytes| bytes[0] |= 0x20),
        with(identity, |bytes| bytes[N - 1] = 1),
        with(identity, |bytes| bytes[0] = 0x40),
        // A good point said to be the identity, or not to be compressed.
        with(good, |bytes| bytes[0] |= 0x40),
        with(good, |bytes| bytes[0] &= 0x7f),
        // x of q or more.
        with(good, |bytes| {
            bytes[0] |= 0x1f;
            bytes[1] = 0xff;
        }),
        [0; N],
        [0xff; N],
    ];
    // Small x: on the curve and outside the subgroup, or off the curve.
    for x in 1..=40 {
        let mut small = [0; N];
        small[0] = 0x80;
        small[N - 1] = x;
        bad.push(small);
    }
    bad
}

/// Attacker: anyone who sees two proofs of one hospital. Holds: proofs of y for two writer epochs
/// from a machine that was restored and repeats its randomness. Literal: Schnorr with a nonce from the
/// generator alone gives (z - z') / (c - c') = y. Ours: the nonce depends on the statement as well.
#[test]
fn attack_recover_a_key_from_repeated_randomness() {
    let here = consortium();
    let recover = |one: (Scalar, Scalar), two: (Scalar, Scalar)| {
        let difference: Scalar = Option::from((one.0 - two.0).invert()).unwrap();
        (one.1 - two.1) * difference
    };
    let y = Scalar::from(0x5eed_u64);
    let repeated = Scalar::from(77_u64);
    let literal = |challenge: u64| {
        let challenge = Scalar::from(challenge);
        (challenge, repeated + challenge * y)
    };
    assert_eq!(recover(literal(3), literal(9)), y);

    let key = WriterEpochKey::random(&mut rng(1));
    let place = InstitutionId::new(7);
    let ours = |epoch: u32| {
        let epoch = WriterEpoch::new(epoch);
        let bytes = key
            .prove_possession(&here, place, epoch, &mut rng(2))
            .to_bytes();
        let part = |range: std::ops::Range<usize>| {
            Option::<Scalar>::from(Scalar::from_bytes_be(&bytes[range].try_into().unwrap()))
                .unwrap()
        };
        (part(0..32), part(32..64))
    };
    let guess = recover(ours(0), ours(1));
    let public: G2Affine = (G2Projective::generator() * guess).into();
    assert_ne!(&public.to_compressed(), key.public_key().as_bytes());
    // Repeated wholly, it is the same proof, which tells nothing new.
    assert_eq!(ours(0), ours(0));
}
