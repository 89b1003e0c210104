//! Attacks on equations (9) and (10): what a cloud, another author or another doctor makes of
//! containers and of what their authors signed.

use blstrs::{G1Projective, G2Projective, Scalar};
use ff::Field;
use group::Group;
use scheme::*;

use crate::literal::{self, Afgh};
use crate::model::{
    RawHeader, RawSection, aes_open, aes_seal, be, bytes, bytes1, bytes2, chunk_nonce, e, g1, g2,
    h1, ht, point1, point2, prf, scalar, secrets, sha,
};
use crate::support::*;
use crate::two_keys::collide;

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
    let stored = store(
        &patient,
        &doctor,
        &hospital,
        &pid,
        &[("", 0)],
        &plaintexts(),
        &mut rng(1),
    );
    World {
        patient,
        doctor,
        hospital,
        pid,
        stored,
    }
}

impl World {
    fn owner_secret(&self, class: ClassCode, header: &Header) -> SectionSecret {
        SectionSecret::of_owner(
            &consortium(),
            &self.patient.keys.encryption,
            &self.pid,
            class,
            header.encapsulation(),
        )
    }

    fn find(&self, class: ClassCode, header: &Header) -> SectionIndex {
        header
            .find(&ClassLabelKey::derive(&consortium(), &self.pid, class))
            .unwrap()
    }

    fn content_key(&self, class: ClassCode) -> ContentKey {
        let header = &self.stored.header;
        self.owner_secret(class, header)
            .content_key(header, self.find(class, header))
            .unwrap()
    }
}

/// Attacker: doctor B after reading one record. Holds: its K. Literal: one key per patient, or r
/// derived from doctor and episode so that an author can find it again: the later record has the same
/// K. Ours: r comes from s_D and a fresh nonce, so K opens the one section that it was for.
#[test]
fn attack_open_a_later_amendment_with_an_earlier_records_key() {
    let secret = [5; 32];
    let pid = [6; 32];
    let literal_r = |_record: u32| crate::model::hs("R", &[&secret, &pid]);
    let (q, public) = (h1("COND", &[&pid]), g2() * secrets(1).a);
    let earlier = ht(&(q * literal_r(1)), &public);
    let later = ht(&(q * literal_r(2)), &public);
    let sealed = aes_seal(&later, [0; 12], b"", b"the amendment");
    assert_eq!(
        aes_open(&earlier, [0; 12], b"", &sealed).unwrap(),
        b"the amendment"
    );

    let world = world();
    let (header, container) = seal(
        &world.doctor,
        &world.patient.keys.encryption.public_key(),
        &world.pid,
        &plaintexts(),
        &mut rng(2),
    );
    assert_ne!(header.encapsulation(), world.stored.header.encapsulation());
    let earlier = world.owner_secret(IMAGING, &world.stored.header);
    for index in header.sections() {
        assert_eq!(earlier.content_key(&header, index).err(), Some(WrongKey));
    }
    // Nor does the derived key, put to use without asking the commitment.
    let held = world.content_key(IMAGING);
    for index in header.sections() {
        assert!(matches!(
            open_section(&container, &header, index, &held),
            Err(OpenError::Altered { chunk: 0 })
        ));
    }
    let own = world.owner_secret(IMAGING, &header);
    let index = world.find(IMAGING, &header);
    let key = own.content_key(&header, index).unwrap();
    assert_eq!(
        open_section(&container, &header, index, &key).unwrap(),
        plaintexts()[2].1
    );
}

/// Attacker: doctor B, who may read one record, and can store records of their own. Holds: the U of a
/// record that was not granted. Literal, AFGH: the proxy re-encrypts whatever g2^k stands in a record
/// it was told to serve, so B stores a decoy with U^z or U * g2^s and gets the key of the other record
/// out of it. Ours: a node takes U only from a header whose V stands, V = H1_U(HC)^r needs r, and HC
/// holds the decoy's own U, author and labels.
#[test]
fn attack_decoy_record_with_a_transformed_encapsulation() {
    let mut rng = rng(3);
    let (a, b) = (scalar(&mut rng), scalar(&mut rng));
    let owner = e(&g1(), &g2()) * a;
    let message = literal::message(&mut rng);
    let secret = Afgh::encrypt(&owner, &message, &mut rng);
    let rk = Afgh::rekey(&a, &(g1() * b));
    let (z, s) = (scalar(&mut rng), scalar(&mut rng));
    let b_inverse = b.invert().unwrap();
    // U^z: Z^(a b k z), less b and z.
    let power = Afgh::reencrypt(&rk, &(secret.u * z));
    assert!(secret.masked - power * (b_inverse * z.invert().unwrap()) == message);
    // U * g2^s: Z^(a b (k + s)), less b and Z^(a s).
    let shifted = Afgh::reencrypt(&rk, &(secret.u + g2() * s));
    assert!(secret.masked - (shifted * b_inverse - owner * s) == message);

    let world = world();
    let victim = RawHeader::parse(&world.stored.header.encode());
    let (u, v) = (point2(&victim.u), point1(&victim.v));
    let attacker = Doctor::new(9, 8);
    let decoy = |u: &G2Projective| {
        let mut decoy = victim.clone();
        decoy.author = *attacker.key.verifying_key().as_bytes();
        decoy.institution = 8;
        decoy.u = bytes2(u);
        decoy
    };
    let encapsulations = [u, u * z, u + g2() * s, u * z + g2() * s, -u];
    for chosen in &encapsulations {
        let header = decoy(chosen);
        let hashed = header.hashed();
        // What of V the attacker can make: the victim's own under every transformation of U, and
        // powers of the new hash by what they know.
        let made = [
            v,
            v * z,
            v + victim.hashed() * s,
            v + hashed * s,
            v * z + hashed * s,
            hashed * z,
            hashed * s,
            v + hashed - victim.hashed(),
            -v,
        ];
        for v in made {
            let mut header = header.clone();
            header.v = bytes1(&v);
            let (decoded, _) = Header::decode(&consortium(), &header.encode()).unwrap();
            assert_eq!(decoded.verify().err(), Some(ForeignEncapsulation));
        }
    }
    // The control: with an r of one's own, and only so, such a header stands.
    let r = scalar(&mut rng);
    let mut own = decoy(&(g2() * r));
    own.v = bytes1(&(own.hashed() * r));
    let (own, _) = Header::decode(&consortium(), &own.encode()).unwrap();
    assert!(own.verify().is_ok());
}

/// Attacker: a doctor, who has points raised by the hospital's server. Holds: R, and by the server
/// H1_U(HC)^y, so a header with U = R^z whose V stands although they know no r. Literal: content sealed
/// with the randomness that the index reuses, U = R, K = e(Qc^y, A): a node that takes U from such a
/// header gives the key of all of them. Ours: every record has an r of its own, so such a U belongs to
/// none; what the nodes give for it is what the PID and the server give without any grant, and it opens
/// no section of any record.
#[test]
fn attack_decoy_record_with_the_hospitals_key_as_encapsulation() {
    let mut rng = rng(4);
    let (a, y) = (scalar(&mut rng), scalar(&mut rng));
    let (q, public) = (h1("COND", &[b"a condition"]), g2() * y);
    let sealed = aes_seal(&ht(&(q * y), &(g2() * a)), [0; 12], b"", b"a finding");
    let hashed = h1("U", &[b"the decoy's HC"]);
    let raised = hashed * y;
    assert!(e(&raised, &g2()) == e(&hashed, &public));
    let given = ht(&(q * a), &public);
    assert_eq!(
        aes_open(&given, [0; 12], b"", &sealed).unwrap(),
        b"a finding"
    );

    let world = world();
    let r_key = point2(world.hospital.y.public_key().as_bytes());
    let mut decoy = RawHeader::parse(&world.stored.header.encode());
    decoy.u = bytes2(&r_key);
    let raised = world
        .hospital
        .y
        .raise(&BlindedKeyword::from_bytes(&bytes1(&decoy.hashed())).unwrap());
    decoy.v = *raised.as_bytes();
    let (decoded, _) = Header::decode(&consortium(), &decoy.encode()).unwrap();
    let verified = decoded.verify().unwrap();

    let condition = ConditionKey::derive(
        &consortium(),
        &world.patient.keys.encryption,
        &world.pid,
        IMAGING,
    );
    let gained = condition.section_secret(verified.header().encapsulation());
    for index in world.stored.header.sections() {
        assert!(gained.content_key(&world.stored.header, index).is_err());
    }
    // It is what the PID and the server give anyone, under the decoy's own header.
    let class = be(u64::from(IMAGING.code()));
    let q = h1("COND", &[world.pid.expose_bytes(), &class]);
    let by_server = world
        .hospital
        .y
        .raise(&BlindedKeyword::from_bytes(&bytes1(&q)).unwrap());
    let public = point2(world.patient.keys.encryption.public_key().as_bytes());
    let commitment = decoy.keys(0, &ht(&point1(by_server.as_bytes()), &public)).1;
    decoy.sections[0].kc = commitment;
    let (own, _) = Header::decode(&consortium(), &decoy.encode()).unwrap();
    let index = own.sections().next().unwrap();
    assert!(gained.content_key(&own, index).is_ok());
}

/// Attacker: another doctor. Holds: a header and its container. Literal: an author field that nothing
/// binds. Ours: V is over HC, which holds author, institution and consortium.
#[test]
fn attack_copy_a_header_under_another_author() {
    // U, and a proof of r that is over U only, as a plain proof of possession would be.
    let r = Scalar::from(77);
    let u = g2() * r;
    let proof = h1("U", &[&bytes2(&u)]) * r;
    struct Literal {
        author: &'static str,
        u: G2Projective,
        proof: G1Projective,
    }
    let stands =
        |header: &Literal| e(&header.proof, &g2()) == e(&h1("U", &[&bytes2(&header.u)]), &header.u);
    let author = "doctor A";
    let header = Literal { author, u, proof };
    let copied = Literal {
        author: "doctor C",
        ..header
    };
    assert!(header.author != copied.author && stands(&header) && stands(&copied));

    let world = world();
    let victim = RawHeader::parse(&world.stored.header.encode());
    let (header, _) = Header::decode(&consortium(), &victim.encode()).unwrap();
    assert!(header.verify().is_ok());
    type Change = fn(&mut RawHeader);
    let changes: [Change; 7] = [
        |header| header.author = [9; 32],
        |header| header.institution = 8,
        |header| header.consortium = ConsortiumId::new([1; 32]),
        |header| header.nonce[0] ^= 1,
        |header| header.sections[0].label[31] ^= 1,
        |header| header.sections.truncate(2),
        |header| header.sections[0].padded = 16,
    ];
    for change in changes {
        let mut copy = victim.clone();
        change(&mut copy);
        copy.sections[0].chunks = copy.sections[0].padded.div_ceil(CHUNK_BYTES as u64) as u32;
        let bytes = copy.encode();
        let own = Header::decode(&consortium(), &bytes);
        assert_eq!(own.is_ok(), copy.consortium == consortium());
        let Ok((copy, _)) = Header::decode(&copy.consortium, &bytes) else {
            panic!("the copy decodes where it says: the proof is what refuses it");
        };
        assert_eq!(copy.verify().err(), Some(ForeignEncapsulation));
    }
}

/// Attacker: another doctor of the same hospital, even of the care team. Holds: a final record's
/// container, locator and entries. They anchor the same container in a transaction of their own, to
/// appear as its author or to have a grant of another episode serve it. Literal, (10): the signature is
/// over the ciphertext's digest, so theirs is as good as the author's. Ours: HC names the author, and
/// the locator opens only beside the author's key; what is left to the copier is a transaction whose
/// author is not the header's, which every node refuses.
#[test]
fn attack_anchor_another_doctors_container_verbatim() {
    let world = world();
    let here = consortium();
    let copier = Doctor::new(5, 7);
    let digest = world.stored.statement.digest;
    let literal = copier
        .key
        .sign(Context::Record, &here, &[digest.as_bytes()]);
    assert!(
        copier
            .key
            .verifying_key()
            .verify(Context::Record, &here, &[digest.as_bytes()], &literal)
            .is_ok()
    );

    let original = &world.stored.statement;
    // The author's signature and name over anything else.
    let mut stolen = original.clone();
    stolen.owner_key = Patient::new(9)
        .episode_key(&Patient::new(9).pid(&copier, 0))
        .blind(&world.stored.delta)
        .unwrap();
    assert!(stolen.verify(&here, &world.stored.signature).is_err());
    // The copier's own signature: it stands, and says who signed.
    let mut copy = original.clone();
    copy.author = copier.key.verifying_key();
    let signature = copy.sign(&here, &copier.key);
    assert!(copy.verify(&here, &signature).is_ok());
    assert_ne!(copy.id(&here), original.id(&here));
    assert!(
        copy.locator
            .open(
                &here,
                &world.stored.locator_key,
                &LocatorBinding {
                    author: &copy.author,
                    ..world.stored.binding()
                }
            )
            .is_err()
    );
    // With a locator and entries of their own a node still compares the header's author, who alone
    // could make its V, with the transaction's (crates/parties/tests/node_checks.rs drives one).
    let (header, _) = Header::decode(&consortium(), &world.stored.container).unwrap();
    let header = header.verify().unwrap();
    assert_ne!(header.header().author(), copy.author);
    assert_eq!(header.header().author(), original.author);
    let mut renamed = RawHeader::parse(&world.stored.container);
    renamed.author = *copy.author.as_bytes();
    let (renamed, _) = Header::decode(&consortium(), &renamed.encode()).unwrap();
    assert!(renamed.verify().is_err());
}

/// Attacker: the hospital's server, which builds the transaction. Holds: the doctor's signature and the
/// container. It hangs the record on another patient or another index. Literal, (10): the signature is
/// over the ciphertext only and stands in any transaction. Ours: everything that decides whose record
/// it is and how it is found is signed, and the transaction's name is the hash of just that.
#[test]
fn attack_hang_a_container_on_another_patient_or_index() {
    let world = world();
    let here = consortium();
    let digest = world.stored.statement.digest;
    struct Literal {
        owner: &'static str,
        digest: Digest,
        signature: Signature,
    }
    let parts: [&[u8]; 1] = [digest.as_bytes()];
    let signed = Literal {
        owner: "patient one",
        digest,
        signature: world.doctor.key.sign(Context::Record, &here, &parts),
    };
    let hung = Literal {
        owner: "patient two",
        ..signed
    };
    let stands = |transaction: &Literal| {
        let key = world.doctor.key.verifying_key();
        let parts: [&[u8]; 1] = [transaction.digest.as_bytes()];
        key.verify(Context::Record, &here, &parts, &transaction.signature)
            .is_ok()
    };
    assert!(signed.owner != hung.owner && stands(&signed) && stands(&hung));

    let other = store(
        &Patient::new(9),
        &world.doctor,
        &Hospital::new(13, 7, 1),
        &Patient::new(9).pid(&world.doctor, 0),
        &[("", 0)],
        &plaintexts(),
        &mut rng(5),
    );
    type Change = fn(&mut RecordStatement, &RecordStatement);
    let changes: [Change; 10] = [
        |to, from| to.digest = from.digest,
        |to, from| to.header_digest = from.header_digest,
        |to, from| to.owner_key = from.owner_key.clone(),
        |to, from| to.locator = from.locator,
        |to, from| to.entries.clone_from(&from.entries),
        |to, from| to.entries.truncate(from.entries.len() - 1),
        |to, from| to.writer_key = from.writer_key.clone(),
        |to, _| to.author = VerifyingKey::new([3; 32]),
        |to, _| to.institution = InstitutionId::new(8),
        |to, _| to.time = Timestamp::new(1),
    ];
    let original = &world.stored.statement;
    assert!(original.verify(&here, &world.stored.signature).is_ok());
    for change in changes {
        let mut hung = original.clone();
        change(&mut hung, &other.statement);
        assert!(hung.verify(&here, &world.stored.signature).is_err());
        assert_ne!(hung.id(&here), original.id(&here));
    }
}

/// Attacker: the cloud. Holds: containers. It exchanges two sections, two chunks, or whole payloads of
/// two records. Literal: chunks sealed under one record key with nonces that count within a section
/// and no associated data: any two at the same place can be exchanged. Ours: each section has its own
/// key, and HC is associated data.
#[test]
fn attack_exchange_sections_chunks_or_payloads() {
    let key = [7; 32];
    let seal = |section: &[u8], chunk| aes_seal(&key, chunk_nonce(chunk, false), b"", section);
    let (first, second) = (seal(b"section one", 0), seal(b"section two", 0));
    let exchanged =
        [&second, &first].map(|chunk| aes_open(&key, chunk_nonce(0, false), b"", chunk));
    assert_eq!(exchanged[0].as_deref(), Some(b"section two".as_slice()));
    assert_eq!(exchanged[1].as_deref(), Some(b"section one".as_slice()));

    let world = world();
    // Two sections of one length, so that exchanging them leaves every offset as it is.
    let sections = [(LABORATORY, vec![1; 150_000]), (IMAGING, vec![2; 150_000])];
    let owner = world.patient.keys.encryption.public_key();
    let (header, container) =
        crate::support::seal(&world.doctor, &owner, &world.pid, &sections, &mut rng(6));
    let (_, other) =
        crate::support::seal(&world.doctor, &owner, &world.pid, &sections, &mut rng(7));
    let place = |index: SectionIndex| {
        let start = header.payload_offset(index) as usize;
        start..start + header.payload_length(index) as usize
    };
    let all: Vec<SectionIndex> = header.sections().collect();
    let (a, b) = (place(all[0]), place(all[1]));
    let step = CHUNK_BYTES + CHUNK_TAG_BYTES;
    let mut altered = Vec::new();
    // The two sections' payloads.
    let mut bytes = container.clone();
    bytes[a.clone()].copy_from_slice(&container[b.clone()]);
    bytes[b.clone()].copy_from_slice(&container[a.clone()]);
    altered.push(bytes);
    // One chunk of the same number.
    let mut bytes = container.clone();
    bytes[a.start..a.start + step].copy_from_slice(&container[b.start..b.start + step]);
    altered.push(bytes);
    // Two chunks of one section.
    let mut bytes = container.clone();
    bytes[a.start..a.start + step].copy_from_slice(&container[a.start + step..a.start + 2 * step]);
    altered.push(bytes);
    // The payloads of another record of the same episode with the same lengths.
    let mut bytes = container.clone();
    bytes[a.start..].copy_from_slice(&other[a.start..]);
    altered.push(bytes);
    let open = |bytes: &[u8], class| {
        let index = world.find(class, &header);
        let key = world
            .owner_secret(class, &header)
            .content_key(&header, index)
            .unwrap();
        open_section(bytes, &header, index, &key)
    };
    assert_eq!(open(&container, IMAGING).unwrap(), sections[1].1);
    let first_class = if world.find(LABORATORY, &header) == all[0] {
        LABORATORY
    } else {
        IMAGING
    };
    for bytes in altered {
        assert!(matches!(
            open(&bytes, first_class),
            Err(OpenError::Altered { chunk: 0 })
        ));
        assert_ne!(sha256(&bytes), sha256(&container));
    }
}

/// Attacker: the cloud, or a doctor who files one patient's record under another. Holds: containers of
/// two patients. Literal: encryption to a patient's key only, with the patient's name on the outside.
/// Ours: the label says whose episode and class a section is of, the key says it again, and neither
/// patient's keys open the other's container.
#[test]
fn attack_pass_one_patients_container_as_anothers() {
    // Whoever fetches it by the name outside decrypts it, whosever it is: the name can be exchanged.
    let key = [7; 32];
    let filed = ("patient one", aes_seal(&key, [0; 12], b"", b"a finding"));
    let refiled = ("patient two", filed.1.clone());
    let opens = |(_name, sealed): &(&str, Vec<u8>)| aes_open(&key, [0; 12], b"", sealed);
    assert!(filed.0 != refiled.0 && opens(&refiled).is_some());
    assert_eq!(opens(&filed), opens(&refiled));

    let world = world();
    let other = Patient::new(9);
    let other_pid = other.pid(&world.doctor, 0);
    let (header, _) = seal(
        &world.doctor,
        &other.keys.encryption.public_key(),
        &other_pid,
        &plaintexts(),
        &mut rng(8),
    );
    for class in [HOMEPAGE, LABORATORY, IMAGING] {
        let label = ClassLabelKey::derive(&consortium(), &world.pid, class);
        assert_eq!(header.find(&label), None);
        let theirs = header
            .find(&ClassLabelKey::derive(&consortium(), &other_pid, class))
            .unwrap();
        assert!(
            world
                .owner_secret(class, &header)
                .content_key(&header, theirs)
                .is_err()
        );
        // Nor the other patient's private key with this patient's PID.
        let crossed = SectionSecret::of_owner(
            &consortium(),
            &other.keys.encryption,
            &world.pid,
            class,
            header.encapsulation(),
        );
        assert!(crossed.content_key(&header, theirs).is_err());
    }
}

/// Attacker: an author who wants one reader to see one finding and another reader another. Holds: two
/// keys, and makes one ciphertext that opens under both. Literal, AES-GCM as it is: both open. Ours:
/// the header commits to the key of each section, and a key that the commitment does not name is
/// refused before any ciphertext is touched.
#[test]
fn attack_one_section_that_opens_under_two_keys() {
    let world = world();
    let mut rng = rng(9);
    // An author's header, made by hand with an r of their own.
    let r = scalar(&mut rng);
    let u = g2() * r;
    let pid = world.pid.expose_bytes();
    let class = be(u64::from(IMAGING.code()));
    let lc = prf(pid, "LC", &[&class]);
    let mut header = RawHeader {
        consortium: consortium(),
        author: *world.doctor.key.verifying_key().as_bytes(),
        institution: 7,
        nonce: bytes(&mut rng),
        u: bytes2(&u),
        sections: vec![RawSection {
            label: prf(&lc, "LABEL", &[&bytes2(&u)]),
            padded: 64,
            chunks: 1,
            kc: [0; 32],
        }],
        v: bytes1(&g1()),
    };
    let public = point2(world.patient.keys.encryption.public_key().as_bytes());
    let rightful = ht(&(h1("COND", &[pid, &class]) * r), &public);
    let (key, commitment) = header.keys(0, &rightful);
    // The other reader is made to hold another K, as a dishonest granter or node would.
    let other_class = be(u64::from(LABORATORY.code()));
    let wrong = ht(&(h1("COND", &[pid, &other_class]) * r), &public);
    let (other_key, other_commitment) = header.keys(0, &wrong);
    let hc = sha(&header.hc());
    let mut plain = 50u64.to_be_bytes().to_vec();
    plain.extend_from_slice(b"no haemorrhage, thrombolysis possible   ");
    let sealed = collide([&key, &other_key], chunk_nonce(0, true), &hc, &plain);
    assert_eq!(sealed.len(), 64 + CHUNK_TAG_BYTES);
    let first = aes_open(&key, chunk_nonce(0, true), &hc, &sealed).unwrap();
    let second = aes_open(&other_key, chunk_nonce(0, true), &hc, &sealed).unwrap();
    assert_eq!(&first[..48], &plain);
    assert_ne!(first, second);

    header.sections[0].kc = commitment;
    header.v = bytes1(&(header.hashed() * r));
    let (decoded, length) = Header::decode(&consortium(), &header.encode()).unwrap();
    assert_eq!(length, header.encode().len());
    let verified = decoded.verify().unwrap();
    let index = verified.header().sections().next().unwrap();
    let owner = world.owner_secret(IMAGING, verified.header());
    let misled = world.owner_secret(LABORATORY, verified.header());
    assert!(owner.content_key(verified.header(), index).is_ok());
    assert_eq!(
        misled.content_key(verified.header(), index).err(),
        Some(WrongKey)
    );
    // A commitment names one key: with the other's, the rightful one is refused, for everybody.
    assert_ne!(commitment, other_commitment);
    header.sections[0].kc = other_commitment;
    let (decoded, _) = Header::decode(&consortium(), &header.encode()).unwrap();
    assert!(owner.content_key(&decoded, index).is_err());
}

/// Attacker: the cloud. Holds: a container, which it cuts at a chunk's end, so that a reader takes a
/// part of a finding for the whole. Literal: chunks without a mark of the last one: each that came
/// opens, and nothing says that more were there. Ours: the number of chunks stands in the header, the
/// last chunk's nonce is marked, and finishing tells what is missing; a header that promises less has
/// another HC.
#[test]
fn attack_cut_a_container_short() {
    let key = [7; 32];
    let chunks: Vec<Vec<u8>> = [b"normal ".as_slice(), b"except for a thrombus"]
        .iter()
        .enumerate()
        .map(|(number, text)| aes_seal(&key, chunk_nonce(number as u32, false), b"", text))
        .collect();
    let read: Vec<u8> = chunks[..1]
        .iter()
        .enumerate()
        .flat_map(|(number, chunk)| {
            aes_open(&key, chunk_nonce(number as u32, false), b"", chunk).unwrap()
        })
        .collect();
    assert_eq!(read, b"normal ");

    let world = world();
    let header = &world.stored.header;
    let index = world.find(IMAGING, header);
    let key = world.content_key(IMAGING);
    let start = header.payload_offset(index) as usize;
    let length = header.payload_length(index) as usize;
    let step = CHUNK_BYTES + CHUNK_TAG_BYTES;
    assert!(length > 2 * step);
    for kept in [0, 1, step - 1, step, step + 1, 2 * step, length - 1] {
        let mut opener = SectionOpener::new(header, index, &key);
        let mut out = Vec::new();
        opener
            .update(&world.stored.container[start..start + kept], &mut out)
            .unwrap();
        assert!(out.len() <= kept);
        assert_eq!(
            opener.finish(),
            Err(OpenError::CutShort {
                missing: (length - kept) as u64
            })
        );
    }
    // A header that promises one chunk only: its V falls, and the key it gives is another.
    let mut shorter = RawHeader::parse(&world.stored.container);
    shorter.sections[index.place()].padded = CHUNK_BYTES as u64;
    shorter.sections[index.place()].chunks = 1;
    let (shorter, _) = Header::decode(&consortium(), &shorter.encode()).unwrap();
    assert!(shorter.clone().verify().is_err());
    let secret = world.owner_secret(IMAGING, &shorter);
    assert!(secret.content_key(&shorter, index).is_err());
    let mut opener = SectionOpener::new(&shorter, index, &key);
    assert!(
        opener
            .update(
                &world.stored.container[start..start + step],
                &mut Vec::new()
            )
            .is_err()
    );
    // And bytes behind the end are no part of it.
    let mut opener = SectionOpener::new(header, index, &key);
    let mut longer = world.stored.container[start..start + length].to_vec();
    longer.push(0);
    assert_eq!(
        opener.update(&longer, &mut Vec::new()),
        Err(OpenError::TooLong)
    );
}

/// Attacker: anyone. They put the identity in U's place. Literal, a decoder that takes any point: the
/// header's proof stands with V the identity too, and K = 1 for every patient, so everybody reads what
/// is sealed to it. Ours: no decoder takes the identity.
#[test]
fn attack_header_with_the_identity_as_encapsulation() {
    let none = Scalar::ZERO;
    let (u, v) = (g2() * none, g1() * none);
    assert!(e(&v, &g2()) == e(&h1("U", &[b"HC"]), &u));
    let strangers = [Scalar::from(5), Scalar::from(6)].map(|a| e(&(g1() * a), &u));
    assert!(strangers[0] == strangers[1]);

    let world = world();
    let mut header = RawHeader::parse(&world.stored.container);
    header.u = bytes2(&G2Projective::identity());
    header.v = bytes1(&G1Projective::identity());
    assert!(Header::decode(&consortium(), &header.encode()).is_err());
    let mut only_v = RawHeader::parse(&world.stored.container);
    only_v.v = header.v;
    assert!(Header::decode(&consortium(), &only_v.encode()).is_err());
}

/// Attacker: someone who steals a doctor's certificate key but not s_D, or the cloud, and answers the
/// author's own reading with a header that carries the author's name and nonce and a U of theirs, to
/// have the author use their K. Literal: the author takes U from the header. Ours: r comes from s_D and
/// nonce, and U must be g2^r.
#[test]
fn attack_make_the_author_open_anothers_encapsulation() {
    let mut rng = rng(10);
    let (r, public) = (scalar(&mut rng), g2() * secrets(1).a);
    let q = h1("COND", &[b"a condition"]);
    let sealed = aes_seal(&ht(&(q * r), &public), [0; 12], b"", b"forged");
    // The owner's side, taken over by the author: K = e(Qc^a, U) for whatever U the header holds.
    let read = aes_open(&ht(&(q * secrets(1).a), &(g2() * r)), [0; 12], b"", &sealed);
    assert_eq!(read.unwrap(), b"forged");

    let world = world();
    let mut forged = RawHeader::parse(&world.stored.container);
    forged.u = bytes2(&(g2() * r));
    forged.v = bytes1(&(forged.hashed() * r));
    let (forged, _) = Header::decode(&consortium(), &forged.encode()).unwrap();
    assert!(forged.clone().verify().is_ok());
    let of_author = |header: &Header, secret: &SealingSecret| {
        SectionSecret::of_author(
            header,
            secret,
            &world.patient.keys.encryption.public_key(),
            &world.pid,
            IMAGING,
        )
        .err()
    };
    assert_eq!(of_author(&forged, &world.doctor.sealing), Some(WrongKey));
    assert_eq!(of_author(&world.stored.header, &world.doctor.sealing), None);
    // Another doctor's s_D makes nothing of the header.
    let other = Doctor::new(5, 7).sealing;
    assert_eq!(of_author(&world.stored.header, &other), Some(WrongKey));
}
