//! Attacks on equations (11) to (13): what the chain, a node, the hospital's server or a colleague
//! makes of the index.

use std::collections::BTreeMap;

use blstrs::{G1Affine, G1Projective, G2Projective, Scalar};
use ff::Field;
use group::Group;
use scheme::*;
use subtle::ConstantTimeEq;

use crate::literal::{self, PaperIndex, Peks};
use crate::model::{be, bytes, bytes1, e, g1, g2, h1, ht, point1, point2, prf, scalar, secrets};
use crate::support::*;

/// What an attacker tries: the codes of a stroke unit. The last stands for all of ICD-10.
const DICTIONARY: [&str; 6] = [
    "code|http://hl7.org/fhir/sid/icd-10|I60.9",
    "code|http://hl7.org/fhir/sid/icd-10|I61.9",
    "code|http://hl7.org/fhir/sid/icd-10|I63.9",
    "code|http://hl7.org/fhir/sid/icd-10|I64",
    "modality|CT",
    "",
];
const SECRET: &str = DICTIONARY[2];

/// A hospital, a patient and a record with the secret keyword in its index.
struct World {
    patient: Patient,
    doctor: Doctor,
    hospital: Hospital,
    pid: Pid,
    stored: Stored,
}

fn world() -> World {
    let (patient, doctor, hospital) = (Patient::new(1), Doctor::new(2, 7), Hospital::new(3, 7, 0));
    let pid = patient.pid(&doctor, 0);
    let stored = store_in(&patient, &doctor, &hospital, &pid, SECRET, 0, 1);
    World {
        patient,
        doctor,
        hospital,
        pid,
        stored,
    }
}

fn store_in(
    patient: &Patient,
    doctor: &Doctor,
    hospital: &Hospital,
    pid: &Pid,
    word: &str,
    position: u64,
    seed: u8,
) -> Stored {
    let sections = [(HOMEPAGE, b"name and address".to_vec())];
    let words = [(word, position)];
    store(
        patient,
        doctor,
        hospital,
        pid,
        &words,
        &sections,
        &mut rng(seed),
    )
}

/// Whether the index key made of e(p, q) finds an entry of the record.
fn finds(stored: &Stored, p: &G1Projective, q: &G2Projective) -> bool {
    finds_with(stored, &ht(p, q))
}

fn finds_with(stored: &Stored, key: &[u8; 32]) -> bool {
    (0..ALLOCATION_WINDOW).any(|position| {
        let tag = &prf(key, "TAG", &[&be(position)])[..16];
        stored
            .statement
            .entries
            .iter()
            .any(|entry| entry.tag.as_bytes() == tag)
    })
}

/// Hw for a PID that the attacker knows or guesses.
fn hashed(pid: &[u8; 32], writer: Writer, word: &str) -> G1Projective {
    let (institution, epoch) = (
        u64::from(writer.institution.number()),
        u64::from(writer.epoch.number()),
    );
    h1("KW", &[pid, &be(institution), &be(epoch), word.as_bytes()])
}

/// What stands where the PID should, for someone who has none: nothing, and what the chain and the
/// hospital's reception know of the patient.
fn pids_without_the_pid(world: &World) -> Vec<[u8; 32]> {
    vec![
        [0; 32],
        *sha256(world.patient.uid.as_bytes()).as_bytes(),
        *world.patient.keys.search.public_key().hash().as_bytes(),
        *world.stored.statement.owner_key.hash().as_bytes(),
        *world.stored.statement.digest.as_bytes(),
    ]
}

/// Attacker: anyone who reads the chain. Holds: the index, every public key, a dictionary. Literal,
/// (11): `e(H(W)^r, pk) = e(H(W'), pk^r)` holds for the right guess, so the index opens without any
/// trapdoor. Ours: a guess has to be hashed with the PID, 32 bytes that nobody guesses, and raised to
/// y or x, which nobody outside holds.
#[test]
fn attack_guess_a_keyword_from_the_index() {
    let mut rng = rng(1);
    let pk = g2() * scalar(&mut rng);
    let index = PaperIndex::generate(&pk, SECRET.as_bytes(), b"pseudonym", &mut rng);
    let guessed = DICTIONARY
        .iter()
        .find(|word| e(&index.keyword, &pk) == e(&literal::h(word.as_bytes()), &index.key));
    assert_eq!(guessed, Some(&SECRET));

    let world = world();
    let public = [
        g2(),
        point2(world.patient.keys.search.public_key().as_bytes()),
        point2(world.patient.keys.encryption.public_key().as_bytes()),
        point2(world.hospital.y.public_key().as_bytes()),
        point2(world.stored.statement.owner_key.as_bytes()),
        point2(world.stored.header.encapsulation().as_bytes()),
    ];
    for word in DICTIONARY {
        for pid in pids_without_the_pid(&world) {
            let point = hashed(&pid, world.hospital.writer, word);
            assert!(public.iter().all(|key| !finds(&world.stored, &point, key)));
        }
        let literal = literal::h(word.as_bytes());
        assert!(
            public
                .iter()
                .all(|key| !finds(&world.stored, &literal, key))
        );
    }
    // The control: PID and x find it, so the attack's arithmetic is the index's.
    let point = hashed(world.pid.expose_bytes(), world.hospital.writer, SECRET) * secrets(1).x;
    assert!(finds(
        &world.stored,
        &point,
        &point2(world.hospital.y.public_key().as_bytes())
    ));
}

/// Attacker: an accounting node. Holds: a trapdoor, every public key, a dictionary. Literal, plain
/// PEKS: T = H(w)^x, and `e(T, g2) = e(H(w'), X)` holds for the right guess. Ours: T is salted by the
/// PID, which never reaches a node.
#[test]
fn attack_guess_a_keyword_from_a_trapdoor() {
    let mut rng = rng(2);
    let x = scalar(&mut rng);
    let public = g2() * x;
    let trapdoor = literal::h(SECRET.as_bytes()) * x;
    assert!(Peks::seal(&public, SECRET.as_bytes(), &mut rng).matches(&trapdoor));
    let guessed = DICTIONARY
        .iter()
        .find(|word| e(&trapdoor, &g2()) == e(&literal::h(word.as_bytes()), &public));
    assert_eq!(guessed, Some(&SECRET));

    let world = world();
    let writer = world.hospital.writer;
    let trapdoor = Trapdoor::generate(
        &consortium(),
        &world.patient.keys.search,
        &world.pid,
        writer,
        &keyword(SECRET),
    );
    let held = e(&point1(&trapdoor.expose_bytes()), &g2());
    let public = point2(world.patient.keys.search.public_key().as_bytes());
    for word in DICTIONARY {
        assert!(held != e(&literal::h(word.as_bytes()), &public));
        for pid in pids_without_the_pid(&world) {
            assert!(held != e(&hashed(&pid, writer, word), &public));
        }
    }
    // The control, and what is not claimed: whoever holds PID, T and X tests keywords.
    let guessed = DICTIONARY
        .iter()
        .find(|word| held == e(&hashed(world.pid.expose_bytes(), writer, word), &public));
    assert_eq!(guessed, Some(&SECRET));
}

/// Attacker: a node. Holds: a trapdoor of one writer epoch. Literal, plain PEKS: T = H(w)^x matches
/// whatever is ever stored. Ours: institution and writer epoch are hashed into T, so it fits neither
/// the next epoch's entries nor another hospital's, another episode's or another keyword's.
#[test]
fn attack_use_a_trapdoor_in_another_writer_epoch() {
    let mut rng = rng(3);
    let x = scalar(&mut rng);
    let trapdoor = literal::h(SECRET.as_bytes()) * x;
    for _epoch in 0..3 {
        assert!(Peks::seal(&(g2() * x), SECRET.as_bytes(), &mut rng).matches(&trapdoor));
    }

    let world = world();
    let trapdoor = Trapdoor::generate(
        &consortium(),
        &world.patient.keys.search,
        &world.pid,
        world.hospital.writer,
        &keyword(SECRET),
    );
    let count = |stored: &Stored| {
        let key = trapdoor.index_key(&stored.statement.writer_key);
        key.search(&consortium(), 8, |tag| Ok::<_, ()>(entry_of(stored, tag)))
            .unwrap()
            .len()
    };
    assert_eq!(count(&world.stored), 1);
    let next = Hospital::new(13, 7, 1);
    let elsewhere = Hospital::new(14, 8, 0);
    let (patient, doctor) = (&world.patient, &world.doctor);
    for other in [
        store_in(patient, doctor, &next, &world.pid, SECRET, 0, 11),
        store_in(patient, doctor, &elsewhere, &world.pid, SECRET, 0, 12),
        store_in(
            patient,
            doctor,
            &world.hospital,
            &patient.pid(doctor, 1),
            SECRET,
            0,
            13,
        ),
        store_in(
            patient,
            doctor,
            &world.hospital,
            &world.pid,
            DICTIONARY[0],
            0,
            14,
        ),
    ] {
        assert_eq!(count(&other), 0);
    }
    // Nor if the hospital made its next y a known multiple of this one. Without the writer epoch in
    // H1_KW the old T would pair with the new R to the new K_w.
    let z = scalar(&mut rng);
    let y = Scalar::from_bytes_be(&world.hospital.y.expose_bytes()).unwrap();
    let related = Hospital {
        y: WriterEpochKey::from_bytes(&(y * z).to_bytes_be()).unwrap(),
        writer: next.writer,
    };
    let later = store_in(patient, doctor, &related, &world.pid, SECRET, 0, 15);
    let r = point2(related.y.public_key().as_bytes());
    assert!(r == point2(world.hospital.y.public_key().as_bytes()) * z);
    let (t, r_before) = (point1(&trapdoor.expose_bytes()), r * z.invert().unwrap());
    for t in [t, t * z, t * z.invert().unwrap()] {
        assert!(!finds(&later, &t, &r) && !finds(&later, &t, &r_before));
    }
}

fn entry_of(stored: &Stored, tag: &Tag) -> Option<Entry> {
    stored
        .statement
        .entries
        .iter()
        .find(|entry| entry.tag == *tag)
        .copied()
}

/// Attacker: anyone who reads the chain. Holds: two transactions and their headers. Literal, (11):
/// `e(H(PID)^r1, pk^r2) = e(H(PID)^r2, pk^r1)` holds exactly for two records of one patient; and an
/// owner key without delta is the same twice. Ours: no value stands in two records, and no pairing
/// relation among their public points tells one patient from two.
#[test]
fn attack_link_two_records_of_a_patient_on_the_chain() {
    let mut rng = rng(4);
    let (one, two) = (g2() * scalar(&mut rng), g2() * scalar(&mut rng));
    let first = PaperIndex::generate(&one, b"I63.9", b"a pseudonym", &mut rng);
    let second = PaperIndex::generate(&one, b"CT", b"a pseudonym", &mut rng);
    let stranger = PaperIndex::generate(&two, b"CT", b"another", &mut rng);
    let linked = |a: &PaperIndex, b: &PaperIndex| e(&a.pid, &b.key) == e(&b.pid, &a.key);
    assert!(linked(&first, &second));
    assert!(!linked(&first, &stranger));

    let world = world();
    let (patient, doctor, hospital) = (&world.patient, &world.doctor, &world.hospital);
    let same_episode = store_in(patient, doctor, hospital, &world.pid, SECRET, 1, 21);
    let other_episode = store_in(
        patient,
        doctor,
        hospital,
        &patient.pid(doctor, 1),
        SECRET,
        0,
        22,
    );
    let other_patient = Patient::new(9);
    let stranger = store_in(
        &other_patient,
        doctor,
        hospital,
        &other_patient.pid(doctor, 0),
        SECRET,
        0,
        23,
    );
    // Without delta the owner key would be E, the same for both records of the episode.
    let unblinded = |stored: &Stored| stored.statement.owner_key.unblind(&stored.delta).unwrap();
    assert_eq!(unblinded(&world.stored), unblinded(&same_episode));
    for other in [&same_episode, &other_episode, &stranger] {
        assert_eq!(relations(&world.stored, other), Vec::<&str>::new());
    }
}

/// Every relation between two records that their public values let an attacker test.
fn relations(one: &Stored, two: &Stored) -> Vec<&'static str> {
    let fields = |stored: &Stored| -> Vec<Vec<u8>> {
        let header = stored.header.encode();
        let (u, v) = (stored.header.encapsulation(), &header[header.len() - 48..]);
        let mut all = vec![
            u.as_bytes().to_vec(),
            v.to_vec(),
            header[74..106].to_vec(),
            // The one section's label and key commitment.
            header[203..235].to_vec(),
            header[247..279].to_vec(),
            stored.statement.owner_key.as_bytes().to_vec(),
            stored.statement.locator.as_bytes().to_vec(),
            stored.statement.digest.as_bytes().to_vec(),
            stored.statement.header_digest.as_bytes().to_vec(),
        ];
        for entry in &stored.statement.entries {
            all.push(entry.tag.as_bytes().to_vec());
            all.push(entry.pad.to_vec());
        }
        all
    };
    let (a, b) = (fields(one), fields(two));
    let mut found = Vec::new();
    if a.iter().any(|field| b.contains(field)) {
        found.push("a value stands in both");
    }
    let points = |stored: &Stored, all: &[Vec<u8>]| -> (G1Projective, [G2Projective; 2]) {
        (
            point1(all[1].as_slice().try_into().unwrap()),
            [
                point2(stored.header.encapsulation().as_bytes()),
                point2(stored.statement.owner_key.as_bytes()),
            ],
        )
    };
    let ((v1, [u1, o1]), (v2, [u2, o2])) = (points(one, &a), points(two, &b));
    let r = point2(one.statement.writer_key.as_bytes());
    if e(&v1, &u2) == e(&v2, &u1) {
        found.push("V and U cross");
    }
    if e(&v1, &o2) == e(&v2, &o1) {
        found.push("V and O_rec cross");
    }
    if e(&v1, &o1) == e(&v2, &o2) || e(&v1, &r) == e(&v2, &r) {
        found.push("V pairs alike");
    }
    if o1 - u1 == o2 - u2 || o1 + u2 == o2 + u1 {
        found.push("O_rec and U differ alike");
    }
    found
}

/// Attacker: the hospital's server. Holds: y, and answers one keyword of many with another exponent,
/// so that the record is never found by it. Literal: answers are taken as they come, or, with one
/// blinding for all keywords, their plain product is checked, in which two errors cancel. Ours: each
/// keyword has its own blinding and a random weight, and one equation catches any wrong answer.
#[test]
fn attack_server_answers_one_keyword_with_another_exponent() {
    let mut rng = rng(5);
    let (y, error) = (scalar(&mut rng), g1() * scalar(&mut rng));
    let public = g2() * y;
    let b = scalar(&mut rng);
    let points: Vec<G1Projective> = DICTIONARY
        .iter()
        .map(|word| literal::h(word.as_bytes()))
        .collect();
    let mut raised: Vec<G1Projective> = points.iter().map(|point| point * b * y).collect();
    raised[1] += error;
    raised[2] -= error;
    let sum = |points: &[G1Projective]| points.iter().sum::<G1Projective>();
    assert!(e(&sum(&raised), &g2()) == e(&(sum(&points) * b), &public));
    let lost = raised[2] * b.invert().unwrap();
    assert!(e(&lost, &g2()) != e(&points[2], &public));

    let world = world();
    let here = consortium();
    let blindings: Vec<KeywordBlinding> = DICTIONARY
        .iter()
        .map(|word| {
            KeywordBlinding::new(
                &here,
                &world.pid,
                world.hospital.writer,
                &keyword(word),
                &mut rng,
            )
        })
        .collect();
    let honest: Vec<RaisedKeyword> = blindings
        .iter()
        .map(|blinding| world.hospital.y.raise(&blinding.blinded()))
        .collect();
    let public = world.hospital.y.public_key();
    assert!(unblind(&blindings, &honest, &public, &mut rng).is_ok());
    let moved = |point: &RaisedKeyword, by: G1Projective| {
        RaisedKeyword::from_bytes(&bytes1(&(point1(point.as_bytes()) + by))).unwrap()
    };
    let other = WriterEpochKey::random(&mut rng);
    let mut one_wrong = honest.clone();
    one_wrong[3] = other.raise(&blindings[3].blinded());
    let mut cancelling = honest.clone();
    cancelling[1] = moved(&cancelling[1], error);
    cancelling[2] = moved(&cancelling[2], -error);
    let mut exchanged = honest.clone();
    exchanged.swap(0, 1);
    let all_wrong: Vec<_> = blindings
        .iter()
        .map(|blinding| other.raise(&blinding.blinded()))
        .collect();
    // A server that has learnt the blindings as well, from a doctor's machine with bad randomness, adds
    // errors that cancel once they are removed; only the weights are left to tell.
    let mut known = crate::support::rng(50);
    let blinds: Vec<Scalar> = DICTIONARY
        .iter()
        .map(|_| random_scalar(&mut known))
        .collect();
    let mut known = crate::support::rng(50);
    let weak: Vec<KeywordBlinding> = DICTIONARY
        .iter()
        .map(|word| {
            let writer = world.hospital.writer;
            KeywordBlinding::new(&here, &world.pid, writer, &keyword(word), &mut known)
        })
        .collect();
    let mut answer: Vec<RaisedKeyword> = weak
        .iter()
        .map(|blinding| world.hospital.y.raise(&blinding.blinded()))
        .collect();
    answer[1] = moved(&answer[1], error * blinds[1]);
    answer[2] = moved(&answer[2], -error * blinds[2]);
    let sum: G1Projective = (0..blinds.len())
        .map(|place| point1(answer[place].as_bytes()) * blinds[place].invert().unwrap())
        .sum();
    let hashes: G1Projective = DICTIONARY
        .iter()
        .map(|word| hashed(world.pid.expose_bytes(), world.hospital.writer, word))
        .sum();
    assert!(e(&sum, &g2()) == e(&hashes, &point2(public.as_bytes())));
    assert!(unblind(&weak, &answer, &public, &mut rng).is_err());
    for answer in [one_wrong, cancelling, exchanged, all_wrong] {
        assert!(unblind(&blindings, &answer, &public, &mut rng).is_err());
    }
    assert!(unblind(&blindings, &honest[1..], &public, &mut rng).is_err());
}

/// The scalar that the crate draws from this generator: section 1.3.
fn random_scalar(rng: &mut rand_chacha::ChaCha20Rng) -> Scalar {
    let dst = b"WILLIS-V1-RANDOM_XMD:SHA-256";
    let reduced = blst::blst_scalar::hash_to(&bytes::<48>(rng), dst).unwrap();
    Scalar::from_bytes_le(&reduced.b).unwrap()
}

/// Attacker: the hospital's server. Holds: the points it is asked to raise. Literal: it is sent H(w),
/// sees equal keywords as equal points and guesses them from a dictionary. Ours: it is sent Hw^b with
/// a fresh b, a uniformly random point, whatever the keyword.
#[test]
fn attack_hospital_recognises_keywords_by_the_points_it_raises() {
    let literal = |word: &str| literal::h(word.as_bytes());
    assert_eq!(literal(SECRET), literal(SECRET));
    let seen = literal(SECRET);
    let guessed = DICTIONARY.iter().find(|word| literal(word) == seen);
    assert_eq!(guessed, Some(&SECRET));

    let mut rng = rng(6);
    let world = world();
    let mut ask = || {
        KeywordBlinding::new(
            &consortium(),
            &world.pid,
            world.hospital.writer,
            &keyword(SECRET),
            &mut rng,
        )
        .blinded()
    };
    let (first, second) = (ask(), ask());
    assert_ne!(first, second);
    // Even with the PID, R and y there is no relation to test: every point is a power of every other.
    let y = point2(world.hospital.y.public_key().as_bytes());
    for word in DICTIONARY {
        let point = hashed(world.pid.expose_bytes(), world.hospital.writer, word);
        for asked in [&first, &second] {
            assert!(bytes1(&point) != *asked.as_bytes());
            assert!(e(&point1(asked.as_bytes()), &g2()) != e(&point, &y));
        }
    }
}

/// #E(Fq) / 121, which turns a point of the curve into one of order 1, 11 or 121.
const ORDER_OVER_121: [u8; 48] = [
    0x00, 0x37, 0x04, 0x61, 0x24, 0x71, 0x30, 0x73, 0x85, 0xe8, 0xf4, 0xb1, 0x1c, 0x0f, 0x6f, 0x71,
    0xe9, 0x8e, 0xbc, 0xeb, 0xf1, 0x16, 0x41, 0xbd, 0xe1, 0x1e, 0x05, 0xf8, 0xde, 0x12, 0x63, 0x5b,
    0x46, 0x12, 0x58, 0xdc, 0x05, 0xb2, 0x69, 0xc8, 0xff, 0x0a, 0x94, 0x19, 0x63, 0x70, 0x23, 0x43,
];

/// Attacker: a doctor with an account at the hospital's server. Holds: points that the server will
/// raise. Literal: a server that raises any point of the curve is sent one of order 11 and leaks
/// y mod 11, and so on for each small factor of the cofactor. Ours: points outside the subgroup of
/// order p do not decode, alone or added to an honest one.
#[test]
fn attack_learn_the_servers_key_by_points_of_small_order() {
    let point = point_of_order_eleven();
    assert!(!bool::from(point.is_identity()));
    let multiple = |times: u64| power(&point, &times.to_be_bytes());
    assert!(bool::from(multiple(11).is_identity()));
    let y = WriterEpochKey::random(&mut rng(7));
    let raised = power(&point, y.expose_bytes().as_slice());
    let leaked = (0..11).find(|residue| multiple(*residue) == raised);
    let residue = y
        .expose_bytes()
        .iter()
        .fold(0, |acc, byte| (acc * 256 + u64::from(*byte)) % 11);
    assert_eq!(leaked, Some(residue));

    let honest = literal::h(b"an honest keyword");
    for asked in [point, honest + point, honest - point] {
        assert!(matches!(
            BlindedKeyword::from_bytes(&bytes1(&asked)),
            Err(DecodeError::Invalid {
                why: "it is outside the subgroup",
                ..
            })
        ));
    }
    assert!(BlindedKeyword::from_bytes(&bytes1(&honest)).is_ok());
}

/// Double-and-add, which unlike the library's product is right outside the subgroup too.
fn power(point: &G1Projective, exponent: &[u8]) -> G1Projective {
    let mut acc = G1Projective::identity();
    for byte in exponent {
        for bit in (0..8).rev() {
            acc = acc.double();
            if byte >> bit & 1 == 1 {
                acc += point;
            }
        }
    }
    acc
}

fn point_of_order_eleven() -> G1Projective {
    (1u8..)
        .find_map(|x| {
            let mut bytes = [0; 48];
            bytes[0] = 0x80;
            bytes[47] = x;
            let point = Option::<G1Affine>::from(G1Affine::from_compressed_unchecked(&bytes))?;
            let torsion = power(&point.into(), &ORDER_OVER_121);
            let smaller = power(&torsion, &[11]);
            match (
                bool::from(torsion.is_identity()),
                bool::from(smaller.is_identity()),
            ) {
                (true, _) => None,
                (false, true) => Some(torsion),
                (false, false) => Some(smaller),
            }
        })
        .unwrap()
}

/// Attacker: a colleague at the same hospital, who sees a doctor's transaction before it is final and
/// sends their own with its entries and locator. Literal: the pad is PRF(K, i) XOR LK and the locator
/// is sealed under LK alone, so the copy is found by the patient's trapdoor and leads to the copier's
/// container. Ours: pad and locator are bound to O_rec, and the locator to digest, hdr, R, author and
/// institution, so the copy is no hit.
#[test]
fn attack_move_entries_and_locator_to_another_record() {
    let mut rng = rng(8);
    let (key, lk): ([u8; 32], [u8; 16]) = (bytes(&mut rng), bytes(&mut rng));
    let xor = |mask: [u8; 32], value: [u8; 16]| -> [u8; 16] {
        std::array::from_fn(|place| mask[place] ^ value[place])
    };
    let pad = xor(prf(&key, "PAD", &[&be(0)]), lk);
    let cipher_key = |lk: [u8; 16]| crate::model::extract("a locator", &lk);
    let locator = crate::model::aes_seal(&cipher_key(lk), [0; 12], b"", b"the address, delta");
    // In the copier's transaction, whatever its digest and author:
    let read = xor(prf(&key, "PAD", &[&be(0)]), pad);
    assert_eq!(
        crate::model::aes_open(&cipher_key(read), [0; 12], b"", &locator).unwrap(),
        b"the address, delta"
    );

    let world = world();
    let here = consortium();
    let copier = Doctor::new(5, 7);
    let victim = &world.stored.statement;
    let other = store_in(
        &world.patient,
        &copier,
        &world.hospital,
        &world.pid,
        DICTIONARY[0],
        0,
        31,
    );
    let index_key = Trapdoor::generate(
        &here,
        &world.patient.keys.search,
        &world.pid,
        world.hospital.writer,
        &keyword(SECRET),
    )
    .index_key(&victim.writer_key);
    let position = Position::new(0);
    let entry = entry_of(&world.stored, &index_key.tag(&here, position)).unwrap();
    let opens = |statement: &RecordStatement| {
        let key = index_key.locator_key(
            &here,
            position,
            &statement.owner_key.compressed(),
            &entry.pad,
        );
        statement
            .locator
            .open(&here, &key, &binding(statement))
            .is_ok()
    };
    assert!(opens(victim));
    // The pad alone gives LK beside the victim's owner key, and something else beside any other.
    let lk = |owner: &OwnerKey| {
        let key = index_key.locator_key(&here, position, &owner.compressed(), &entry.pad);
        bool::from(key.ct_eq(&world.stored.locator_key))
    };
    assert!(lk(&victim.owner_key));
    assert!(!lk(&other.statement.owner_key));
    // The copier's own record with the copied entry, with the copied locator, and with the copied
    // owner key as well.
    let mut copies = vec![other.statement.clone()];
    copies[0].entries.clone_from(&victim.entries);
    for owner in [&other.statement.owner_key, &victim.owner_key] {
        let mut copy = other.statement.clone();
        copy.entries.clone_from(&victim.entries);
        copy.locator = victim.locator;
        copy.owner_key = owner.clone();
        copies.push(copy);
    }
    // The victim's own transaction with nothing exchanged but the author's name.
    let mut renamed = victim.clone();
    renamed.author = copier.key.verifying_key();
    copies.push(renamed);
    for copy in &copies {
        assert!(!opens(copy));
    }
}

fn binding(statement: &RecordStatement) -> LocatorBinding<'_> {
    LocatorBinding {
        writer_key: statement.writer_key.compressed(),
        digest: &statement.digest,
        header_digest: &statement.header_digest,
        owner_key: statement.owner_key.compressed(),
        author: &statement.author,
        institution: statement.institution,
    }
}

/// Attacker: whoever learnt a locator key, and everyone who can write a transaction. Holds: LK and the
/// sealed locator. Literal: sealed under LK alone it opens wherever it is pasted. Ours: every single
/// part of the transaction that it was sealed in is needed to open it.
#[test]
fn attack_move_a_locator_to_another_transaction() {
    let mut rng = rng(9);
    let key: [u8; 32] = bytes(&mut rng);
    let pasted = crate::model::aes_seal(&key, [0; 12], b"", b"address, delta");
    assert!(crate::model::aes_open(&key, [0; 12], b"", &pasted).is_some());

    let world = world();
    let here = consortium();
    let other = store_in(
        &world.patient,
        &Doctor::new(5, 8),
        &Hospital::new(13, 8, 1),
        &world.pid,
        SECRET,
        1,
        32,
    );
    let (own, foreign) = (&world.stored.statement, &other.statement);
    let key = &world.stored.locator_key;
    assert!(own.locator.open(&here, key, &binding(own)).is_ok());
    assert!(
        own.locator
            .open(&here, &other.locator_key, &binding(own))
            .is_err()
    );
    type Change = fn(&mut RecordStatement, &RecordStatement);
    let changes: [Change; 6] = [
        |to, from| to.writer_key = from.writer_key.clone(),
        |to, from| to.digest = from.digest,
        |to, from| to.header_digest = from.header_digest,
        |to, from| to.owner_key = from.owner_key.clone(),
        |to, from| to.author = from.author,
        |to, from| to.institution = from.institution,
    ];
    for change in changes {
        let mut moved = own.clone();
        change(&mut moved, foreign);
        assert!(own.locator.open(&here, key, &binding(&moved)).is_err());
    }
    let elsewhere = ConsortiumId::new([1; 32]);
    assert!(own.locator.open(&elsewhere, key, &binding(own)).is_err());
}

/// The chain's index: consensus takes one entry per (R, tag), the first.
#[derive(Default)]
struct ChainIndex(BTreeMap<([u8; 96], Tag), Entry>);

impl ChainIndex {
    fn write(&mut self, writer: &WriterEpochPublicKey, entry: Entry) -> bool {
        let place = (*writer.as_bytes(), entry.tag);
        if self.0.contains_key(&place) {
            return false;
        }
        self.0.insert(place, entry);
        true
    }

    fn search(&self, key: &IndexKey, writer: &WriterEpochPublicKey) -> Vec<(Position, Entry)> {
        key.search(&consortium(), 64, |tag| {
            Ok::<_, ()>(self.0.get(&(*writer.as_bytes(), *tag)).copied())
        })
        .unwrap()
    }
}

/// Attacker: an accounting node of another hospital. Holds: a trapdoor, hence K_w and all tags to
/// come. Literal: tags are unique on the whole chain, so the node writes the next ones first and every
/// later record of the episode is refused. Ours: tags are unique per R, and only R's institution
/// writes under R, so the attacker's entries stand where nobody looks. Someone without K_w, such as
/// the allocator, which sees PRF(K_w, ALLOC), cannot compute a tag at all.
#[test]
fn attack_occupy_a_strangers_tags() {
    let world = world();
    let here = consortium();
    let index_key = Trapdoor::generate(
        &here,
        &world.patient.keys.search,
        &world.pid,
        world.hospital.writer,
        &keyword(SECRET),
    )
    .index_key(&world.hospital.y.public_key());
    let next = index_key.tag(&here, Position::new(1));
    let garbage = Entry {
        tag: next,
        pad: [0; 16],
    };
    let mut chain = ChainIndex::default();
    let attacker = Hospital::new(13, 8, 0).y.public_key();
    assert!(chain.write(&attacker, garbage));
    let victim = world.hospital.y.public_key();
    let later = store_in(
        &world.patient,
        &world.doctor,
        &world.hospital,
        &world.pid,
        SECRET,
        1,
        41,
    );
    // One name space for all: the attacker's entry has taken the later record's place.
    let literal: BTreeMap<Tag, Entry> = BTreeMap::from([(next, garbage)]);
    assert!(
        later
            .statement
            .entries
            .iter()
            .any(|entry| literal.contains_key(&entry.tag))
    );
    for stored in [&world.stored, &later] {
        for entry in &stored.statement.entries {
            assert!(chain.write(&victim, *entry));
        }
    }
    assert_eq!(chain.search(&index_key, &victim).len(), 2);
    let allocation = *index_key.allocation_id(&here).as_bytes();
    for key in [allocation, ht(&g1(), &point2(victim.as_bytes()))] {
        assert!(!finds_with(&world.stored, &key));
        assert!(!finds_with(&later, &key));
    }
}

/// Attacker: a colleague on the care team. Holds: the PID and the right to write under R, hence the
/// tag of the next position, which they occupy with an entry that leads nowhere, as a padding entry
/// could by chance. Literal: the tag alone makes a hit, so a false record is reported, and the one
/// behind it is lost to a search that stops at the first that does not open. Ours: an entry whose
/// locator does not open is no hit, the author whose entry was refused takes the next position, and
/// the search goes on behind it.
#[test]
fn attack_occupy_the_next_position_with_an_entry_that_leads_nowhere() {
    let world = world();
    let here = consortium();
    let writer = world.hospital.y.public_key();
    let index_key = Trapdoor::generate(
        &here,
        &world.patient.keys.search,
        &world.pid,
        world.hospital.writer,
        &keyword(SECRET),
    )
    .index_key(&writer);
    let mut chain = ChainIndex::default();
    let mut transactions = BTreeMap::new();
    let mut record = |chain: &mut ChainIndex, stored: &Stored| {
        for entry in &stored.statement.entries {
            let taken = !chain.write(&writer, *entry);
            if taken {
                return false;
            }
            transactions.insert(entry.tag, stored.statement.clone());
        }
        true
    };
    let colleague = store_in(
        &world.patient,
        &Doctor::new(5, 7),
        &world.hospital,
        &world.pid,
        DICTIONARY[0],
        0,
        42,
    );
    assert!(record(&mut chain, &world.stored));
    let mut false_record = colleague;
    false_record.statement.entries = vec![Entry {
        tag: index_key.tag(&here, Position::new(1)),
        pad: [0x77; 16],
    }];
    assert!(record(&mut chain, &false_record));
    let (patient, doctor, hospital) = (&world.patient, &world.doctor, &world.hospital);
    let refused = store_in(patient, doctor, hospital, &world.pid, SECRET, 1, 43);
    assert!(!record(&mut chain, &refused));
    let again = store_in(patient, doctor, hospital, &world.pid, SECRET, 2, 44);
    assert!(record(&mut chain, &again));

    // By tags alone three records are reported, one of them false.
    let tags = chain.search(&index_key, &writer);
    assert_eq!(tags.len(), 3);
    let hits: Vec<u64> = tags
        .iter()
        .filter(|(position, entry)| {
            let statement = &transactions[&entry.tag];
            let key = index_key.locator_key(
                &here,
                *position,
                &statement.owner_key.compressed(),
                &entry.pad,
            );
            statement
                .locator
                .open(&here, &key, &binding(statement))
                .is_ok()
        })
        .map(|(position, _)| position.number())
        .collect();
    assert_eq!(hits, [0, 2]);
    assert!(!bool::from(again.locator_key.ct_eq(&refused.locator_key)));
}

/// Attacker: a doctor's account that asks the allocator for positions and never uses them, or loses
/// them by accident. Literal: a counter per keyword, and a search that ends at the first miss, or an
/// allocator that always hands out the next number, and a search that ends after 8: the final record
/// behind the gap is never found. Ours: the allocator hands out only below L + 8, L the lowest whose
/// entry is not final, so no gap is 8 long. (The allocator itself is the hospital's server, and its
/// tests stand with the parties.)
#[test]
fn attack_hide_a_final_record_behind_lost_counters() {
    let key = {
        let world = world();
        Trapdoor::generate(
            &consortium(),
            &world.patient.keys.search,
            &world.pid,
            world.hospital.writer,
            &keyword(SECRET),
        )
        .index_key(&world.hospital.y.public_key())
    };
    let here = consortium();
    let found = |finals: &[u64]| -> Vec<u64> {
        let tags: Vec<Tag> = finals
            .iter()
            .map(|position| key.tag(&here, Position::new(*position)))
            .collect();
        key.search(&here, 64, |tag| {
            Ok::<_, ()>(tags.contains(tag).then_some(()))
        })
        .unwrap()
        .into_iter()
        .map(|(position, ())| position.number())
        .collect()
    };
    // A search that ends at the first miss, behind one lost counter.
    let finals = [0, 2];
    let until_first_miss = (0..)
        .take_while(|position| finals.contains(position))
        .count();
    assert_eq!(until_first_miss, 1);
    assert_eq!(found(&finals), [0, 2]);
    // An allocator that always hands out the next number, behind eight lost ones.
    let literal_next = 1 + ALLOCATION_WINDOW;
    assert_eq!(found(&[0, literal_next]), [0]);

    // Ours: whatever positions the attacker holds, an honest author gets one below L + 8.
    for held in 0..ALLOCATION_WINDOW {
        let mut finals = vec![0];
        for record in 0..40 {
            let lowest = (0..).find(|position| !finals.contains(position)).unwrap();
            let window = lowest..lowest + ALLOCATION_WINDOW;
            let free = window
                .filter(|position| !finals.contains(position))
                .nth(((held + record) % ALLOCATION_WINDOW) as usize)
                .unwrap_or(lowest);
            finals.push(free);
            let mut sorted = finals.clone();
            sorted.sort_unstable();
            assert_eq!(found(&finals), sorted);
        }
    }
}
