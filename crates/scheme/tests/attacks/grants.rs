//! Attacks on equations (14) to (16), on grants and on appointments: what nodes, readers, agents and
//! granters make of what they hold, alone and together.

use blstrs::{G1Projective, Scalar};
use ff::Field;
use scheme::*;

use crate::literal::{self, Afgh, lagrange, shamir};
use crate::model::{
    RawHeader, aes_open, aes_seal, be, bls, bytes, bytes1, bytes2, e, enc_pairing, episode_secret,
    expand, extract, g1, g2, h1, hs, ht, point1, point2, scalar, secrets,
};
use crate::support::*;
use crate::two_keys::collide;

const GRANTED: [ClassCode; 2] = [IMAGING, LABORATORY];

struct World {
    patient: Patient,
    doctor: Doctor,
    hospital: Hospital,
    pid: Pid,
    stored: Stored,
    nodes: Nodes,
    reader: Reader,
    grant: Grant,
    threshold: u8,
}

fn world(threshold: u8, nodes: u8) -> World {
    let (patient, doctor, hospital) = (Patient::new(1), Doctor::new(2, 7), Hospital::new(3, 7, 0));
    let pid = patient.pid(&doctor, 0);
    let stored = store_in(&patient, &doctor, &hospital, &pid, 1);
    let nodes = Nodes::new(nodes);
    let reader = Reader::new(0x60);
    let (grant, _) = grant(
        &patient,
        &pid,
        &nodes,
        &[&reader],
        threshold,
        &GRANTED,
        hospital.writer,
        &mut rng(2),
    );
    World {
        patient,
        doctor,
        hospital,
        pid,
        stored,
        nodes,
        reader,
        grant,
        threshold,
    }
}

fn store_in(
    patient: &Patient,
    doctor: &Doctor,
    hospital: &Hospital,
    pid: &Pid,
    seed: u8,
) -> Stored {
    let sections = [
        (HOMEPAGE, b"name and address".to_vec()),
        (LABORATORY, b"INR 1.1".to_vec()),
        (IMAGING, b"occlusion of the left M1".to_vec()),
    ];
    store(
        patient,
        doctor,
        hospital,
        pid,
        &[("", u64::from(seed))],
        &sections,
        &mut rng(seed),
    )
}

impl World {
    fn verified(&self) -> VerifiedGrant {
        self.grant.clone().verify(&consortium()).unwrap()
    }

    fn header(&self) -> VerifiedHeader {
        self.stored.header.clone().verify().unwrap()
    }

    /// The parts of these nodes.
    fn parts(&self, nodes: &[u8]) -> Vec<NodePart> {
        nodes
            .iter()
            .map(|m| {
                let key = &self.nodes.hpke[usize::from(*m) - 1];
                self.verified()
                    .open_node_part(&consortium(), number(*m), key)
                    .unwrap()
            })
            .collect()
    }

    fn doctor_part(&self) -> DoctorPart {
        self.verified()
            .open_doctor_part(
                &consortium(),
                &self.reader.access.verifying_key(),
                &self.reader.hpke,
            )
            .unwrap()
    }

    /// W of a class as these nodes together make it, for any record they can be brought to serve.
    fn combined(&self, nodes: &[u8], place: u8, header: &VerifiedHeader) -> ReEncrypted {
        let shares: Vec<(NodeNumber, ReEncryptedShare)> = self
            .parts(nodes)
            .iter()
            .map(|part| {
                (
                    part.node,
                    part.shares[usize::from(place)].re_encrypt(header),
                )
            })
            .collect();
        combine(nodes.len() as u8, &shares).unwrap()
    }

    fn condition(&self, class: ClassCode) -> G1Projective {
        let class = be(u64::from(class.code()));
        h1("COND", &[self.pid.expose_bytes(), &class])
    }

    fn label_key(&self, class: ClassCode) -> ClassLabelKey {
        ClassLabelKey::derive(&consortium(), &self.pid, class)
    }
}

fn number(m: u8) -> NodeNumber {
    NodeNumber::new(m).unwrap()
}

fn combine(
    threshold: u8,
    shares: &[(NodeNumber, ReEncryptedShare)],
) -> Result<ReEncrypted, CombineError> {
    let borrowed: Vec<_> = shares.iter().map(|(node, share)| (*node, share)).collect();
    ReEncrypted::combine(Threshold::new(threshold).unwrap(), &borrowed)
}

/// Which sections of a record this secret opens.
fn opened(secret: &SectionSecret, header: &Header) -> Vec<SectionIndex> {
    header
        .sections()
        .filter(|index| secret.content_key(header, *index).is_ok())
        .collect()
}

/// Which sections of a record a point P of the attacker's opens, by K = e(P, U).
fn opened_with(point: &G1Projective, header: &Header) -> Vec<usize> {
    let raw = RawHeader::parse(&header.encode());
    let prk = ht(point, &point2(&raw.u));
    (0..raw.sections.len())
        .filter(|place| raw.keys(*place, &prk).1 == raw.sections[*place].kc)
        .collect()
}

/// A grant whose every field the attacker sets, E29.
#[derive(Clone)]
struct RawGrant {
    e: [u8; 96],
    revocation: [u8; 32],
    request: Vec<u8>,
    doctors: Vec<[u8; 64]>,
    times: [u64; 3],
    nodes: Vec<[u8; 64]>,
    threshold: u8,
    classes: Vec<Vec<[u8; 576]>>,
    body: Vec<u8>,
    node_parts: Vec<Vec<u8>>,
    doctor_parts: Vec<Vec<u8>>,
    signer: Vec<u8>,
}

impl RawGrant {
    fn parse(bytes: &[u8]) -> Self {
        let mut d = Decoder::new(bytes);
        assert_eq!(d.u8("version").unwrap(), GRANT_VERSION);
        let _: [u8; 32] = d.array("consortium").unwrap();
        let (e, revocation) = (d.array("E").unwrap(), d.array("revocation key").unwrap());
        let request = d.var("request", 1 << 20).unwrap().to_vec();
        let doctors: Vec<[u8; 64]> = (0..d.u8("count").unwrap())
            .map(|_| d.array("doctor").unwrap())
            .collect();
        let times = [(); 3].map(|()| d.u64("time").unwrap());
        let nodes: Vec<[u8; 64]> = (0..d.u8("count").unwrap())
            .map(|_| d.array("node").unwrap())
            .collect();
        let threshold = d.u8("t").unwrap();
        let classes = (0..d.u8("count").unwrap())
            .map(|_| (0..threshold).map(|_| d.array("D").unwrap()).collect())
            .collect();
        let body = d.var("body", 1 << 20).unwrap().to_vec();
        let mut parts = |count: usize| -> Vec<Vec<u8>> {
            (0..count)
                .map(|_| d.var("part", 1 << 20).unwrap().to_vec())
                .collect()
        };
        let (node_parts, doctor_parts) = (parts(nodes.len()), parts(doctors.len()));
        let signer = d.bytes("signer", d.remaining()).unwrap().to_vec();
        Self {
            e,
            revocation,
            request,
            doctors,
            times,
            nodes,
            threshold,
            classes,
            body,
            node_parts,
            doctor_parts,
            signer,
        }
    }

    fn of(grant: &Grant) -> Self {
        Self::parse(&grant.encode(&consortium()))
    }

    fn text(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u8(GRANT_VERSION)
            .bytes(consortium().as_bytes())
            .bytes(&self.e)
            .bytes(&self.revocation)
            .var(&self.request)
            .u8(self.doctors.len() as u8);
        self.doctors.iter().for_each(|keys| {
            out.bytes(keys);
        });
        self.times.iter().for_each(|time| {
            out.u64(*time);
        });
        out.u8(self.nodes.len() as u8);
        self.nodes.iter().for_each(|keys| {
            out.bytes(keys);
        });
        out.u8(self.threshold).u8(self.classes.len() as u8);
        self.classes.iter().flatten().for_each(|element| {
            out.bytes(element);
        });
        out.var(&self.body);
        self.node_parts
            .iter()
            .chain(&self.doctor_parts)
            .for_each(|part| {
                out.var(part);
            });
        out.finish()
    }

    fn encode(&self) -> Vec<u8> {
        [self.text(), self.signer.clone()].concat()
    }

    /// With the patient's signature in place.
    fn with_signature(mut self, signature: [u8; 48]) -> Self {
        self.signer = [[0].as_slice(), &signature].concat();
        self
    }

    /// As a dishonest granter signs: with e.
    fn signed(self, e: &Scalar) -> Self {
        let signature = bls("GRANT", e, &[&self.e, &self.text()]);
        self.with_signature(signature)
    }

    fn signature(&self) -> G1Projective {
        point1(self.signer[1..49].try_into().unwrap())
    }

    fn gid(&self) -> GrantId {
        GrantId::of(&consortium(), &VerifyingKey::new(self.revocation))
    }

    fn decode(&self) -> Grant {
        Grant::decode(&consortium(), &self.encode()).unwrap()
    }

    fn stands(&self) -> bool {
        self.decode().verify(&consortium()).is_ok()
    }
}

/// Attacker: doctor B. Holds: a grant of one episode's imaging, and nodes that can be brought to serve
/// any record. Literal, AFGH: the re-encryption key has no condition, so it opens every record of the
/// patient, past and future. Ours: RK_j = H1_COND(PID, class)^a * S_j, and K of another class or
/// episode comes from another point.
#[test]
fn attack_open_an_ungranted_record_or_section_with_a_grant() {
    let mut rng = rng(11);
    let (a, b) = (scalar(&mut rng), scalar(&mut rng));
    let owner = e(&g1(), &g2()) * a;
    let rk = Afgh::rekey(&a, &(g1() * b));
    for _ungranted in 0..3 {
        let message = literal::message(&mut rng);
        let record = Afgh::encrypt(&owner, &message, &mut rng);
        assert!(record.open(&Afgh::reencrypt(&rk, &record.u), &b) == message);
    }

    let world = world(2, 3);
    let part = world.doctor_part();
    let gid = world.verified().gid();
    let open = |stored: &Stored, served: u8, masked: u8| {
        let header = stored.header.clone().verify().unwrap();
        let secret = world
            .combined(&[1, 3], served, &header)
            .open(
                &consortium(),
                &gid,
                &part.seed,
                ClassPlace::new(masked),
                stored.header.encapsulation(),
            )
            .unwrap();
        opened(&secret, &stored.header)
    };
    for (place, class) in [(0, IMAGING), (1, LABORATORY)] {
        let granted = world.stored.header.find(&world.label_key(class)).unwrap();
        assert_eq!(open(&world.stored, place, place), [granted]);
        assert_eq!(open(&world.stored, place, 1 - place), []);
    }
    let (patient, doctor, hospital) = (&world.patient, &world.doctor, &world.hospital);
    let other_patient = Patient::new(9);
    let colleague = Doctor::new(5, 7);
    for ungranted in [
        store_in(patient, doctor, hospital, &patient.pid(doctor, 1), 12),
        store_in(
            patient,
            &colleague,
            hospital,
            &patient.pid(&colleague, 0),
            13,
        ),
        store_in(
            &other_patient,
            doctor,
            hospital,
            &other_patient.pid(doctor, 0),
            14,
        ),
    ] {
        assert_eq!(open(&ungranted, 0, 0), []);
        assert_eq!(open(&ungranted, 1, 1), []);
        assert_eq!(ungranted.header.find(&part.label_keys[0]), None);
    }
}

/// Attacker: the master node. Holds: what (14) hands it. Literal: the whole RK, by which it alone
/// re-encrypts any record to B, also after the patient has revoked. Ours: one share, which alone is
/// refused, and counted as the whole key opens nothing.
#[test]
fn attack_one_master_node_alone() {
    let mut rng = rng(12);
    let (a, b) = (scalar(&mut rng), scalar(&mut rng));
    let owner = e(&g1(), &g2()) * a;
    let kept = Afgh::rekey(&a, &(g1() * b));
    let message = literal::message(&mut rng);
    let after_revocation = Afgh::encrypt(&owner, &message, &mut rng);
    let served = Afgh::reencrypt(&kept, &after_revocation.u);
    assert!(after_revocation.open(&served, &b) == message);

    let world = world(2, 3);
    let (header, part, gid) = (world.header(), world.doctor_part(), world.verified().gid());
    for m in 1..=3 {
        let alone = world.parts(&[m]);
        for place in 0..2 {
            let share = &alone[0].shares[usize::from(place)];
            let given = vec![(number(m), share.re_encrypt(&header))];
            assert_eq!(
                combine(world.threshold, &given),
                Err(CombineError::TooFew { came: 1, needed: 2 })
            );
            let twice = vec![given[0].clone(), given[0].clone()];
            assert_eq!(
                combine(world.threshold, &twice),
                Err(CombineError::Repeated)
            );
            let as_if_whole = combine(1, &given).unwrap();
            let u = header.header().encapsulation();
            let place = ClassPlace::new(place);
            let secret = as_if_whole
                .open(&consortium(), &gid, &part.seed, place, u)
                .unwrap();
            assert_eq!(opened(&secret, header.header()), []);
            // Without B, and times what Lagrange would give it beside any other node.
            let point = point1(&share.expose_bytes());
            for other in 1..=3 {
                let weight = lagrange(&[u64::from(m), other]);
                assert!(opened_with(&(point * weight[0]), header.header()).is_empty());
            }
        }
    }
}

/// Attacker: t - 1 nodes and doctor B together. Hold: their shares, the seed, the commitments. Literal,
/// AFGH: one node and B: RK^(1/b) = g1^a, which opens whatever was and will be sealed to the patient.
/// Ours: t - 1 shares say nothing of RK_j, and the commitments give e(H1_COND(c), A), a value in GT
/// that no U can be paired with.
#[test]
fn attack_fewer_than_t_nodes_with_the_doctor() {
    let mut rng = rng(13);
    let (a, b) = (scalar(&mut rng), scalar(&mut rng));
    let owner = e(&g1(), &g2()) * a;
    let weak = Afgh::rekey(&a, &(g1() * b)) * b.invert().unwrap();
    assert!(weak == g1() * a);
    let message = literal::message(&mut rng);
    let never_granted = Afgh::encrypt(&owner, &message, &mut rng);
    assert!(never_granted.open_with(&weak) == message);

    let world = world(3, 4);
    let (header, part, gid) = (world.header(), world.doctor_part(), world.verified().gid());
    let u = header.header().encapsulation();
    for pair in [[1, 2], [1, 4], [2, 3], [3, 4]] {
        let parts = world.parts(&pair);
        for place in 0..2u8 {
            let mask = h1(
                "MASK",
                &[
                    gid.as_bytes(),
                    part.seed.expose_bytes(),
                    &be(u64::from(place)),
                ],
            );
            let shares: Vec<G1Projective> = parts
                .iter()
                .map(|part| point1(&part.shares[usize::from(place)].expose_bytes()))
                .collect();
            // As if the polynomial were of degree one, and with every third node at the identity.
            let mut guesses = vec![shares[0], shares[1], shares[0] + shares[1]];
            for nodes in (1..=4).map(|third| [u64::from(pair[0]), u64::from(pair[1]), third]) {
                let weights = if nodes[2] == nodes[0] || nodes[2] == nodes[1] {
                    lagrange(&nodes[..2])
                } else {
                    lagrange(&nodes)
                };
                guesses.push(shares[0] * weights[0] + shares[1] * weights[1]);
            }
            for guess in guesses {
                assert!(opened_with(&(guess - mask), header.header()).is_empty());
            }
            let as_if_two = world
                .combined(&pair, place, &header)
                .open(&consortium(), &gid, &part.seed, ClassPlace::new(place), u)
                .unwrap();
            assert_eq!(opened(&as_if_two, header.header()), []);
            // What they do learn of H1_COND(c)^a, since D_0 = e(RK_j, g2):
            let granted = world.condition(GRANTED[usize::from(place)]) * secrets(1).a;
            let known = enc_pairing(&(granted + mask), &g2());
            assert_eq!(
                RawGrant::of(&world.grant).classes[usize::from(place)][0],
                known
            );
        }
    }
    // The control: a third node makes it whole.
    let whole = world
        .combined(&[1, 2, 4], 0, &header)
        .open(&consortium(), &gid, &part.seed, ClassPlace::new(0), u)
        .unwrap();
    assert_eq!(opened(&whole, header.header()).len(), 1);
}

/// Attacker: all accounting nodes, without B. Hold: every share. Literal: the shared key is
/// H1_COND(c)^a itself, which t nodes put together and read with. Ours: S_j masks it, and the seed is
/// sealed to B.
#[test]
fn attack_t_nodes_without_the_doctor() {
    let mut rng = rng(14);
    let world = world(2, 3);
    let header = world.header();
    let condition = world.condition(IMAGING) * secrets(1).a;
    let shares = shamir(&condition, 2, 3, &mut rng);
    let weights = lagrange(&[1, 3]);
    let together = shares[0] * weights[0] + shares[2] * weights[1];
    assert_eq!(opened_with(&together, header.header()).len(), 1);

    let parts = world.parts(&[1, 2, 3]);
    let gid = world.verified().gid();
    for place in 0..2 {
        let share = |m: usize| point1(&parts[m].shares[place].expose_bytes());
        let key = share(0) * weights[0] + share(2) * weights[1];
        let again = lagrange(&[1, 2, 3]);
        assert!(key == share(0) * again[0] + share(1) * again[1] + share(2) * again[2]);
        assert!(opened_with(&key, header.header()).is_empty());
        // With seeds that they know: of nothing, the body's log key, the grant's name.
        for seed in [
            [0; 32],
            *parts[0].log_key.expose_bytes(),
            *gid.as_bytes(),
            bytes(&mut rng),
        ] {
            let mask = h1("MASK", &[gid.as_bytes(), &seed, &be(place as u64)]);
            assert!(opened_with(&(key - mask), header.header()).is_empty());
        }
        // The control: the seed is all that was missing.
        let seed = *world.doctor_part().seed.expose_bytes();
        let mask = h1("MASK", &[gid.as_bytes(), &seed, &be(place as u64)]);
        assert_eq!(opened_with(&(key - mask), header.header()).len(), 1);
    }
    // The two classes' masks do not cancel either: what is left is no key.
    let share = |place: usize| point1(&parts[0].shares[place].expose_bytes());
    assert!(opened_with(&(share(0) - share(1)), header.header()).is_empty());
}

/// Attacker: t nodes that serve two grants whose seed is the same (a client that was restored from a
/// backup, or a careless agent), and that have learnt one class from a reader. Literal: S_j =
/// H1_MASK(seed, j), so the masks of the two grants cancel and the other class opens. Ours: gid stands
/// in the mask.
#[test]
fn attack_reuse_of_a_mask_seed_under_two_grants() {
    let world = world(2, 3);
    let header = world.stored.header.clone();
    let seed = [0x5e; 32];
    let imaging = world.condition(IMAGING) * secrets(1).a;
    let laboratory = world.condition(LABORATORY) * secrets(1).a;
    let mask = h1("MASK", &[&seed, &be(0)]);
    let (first, second) = (imaging + mask, laboratory + mask);
    assert_eq!(
        opened_with(&(first - second + laboratory), &header).len(),
        1
    );

    let here = consortium();
    let rk = |gid: u8, class| {
        let condition =
            ConditionKey::derive(&here, &world.patient.keys.encryption, &world.pid, class);
        let (shares, _) = ReEncryptionKey::generate(
            &here,
            &GrantId::new([gid; 32]),
            &condition,
            &MaskSeed::from_bytes(seed),
            ClassPlace::new(0),
        )
        .unwrap()
        .share(Threshold::new(1).unwrap(), 1, &mut rng(15))
        .unwrap();
        point1(&shares[0].expose_bytes())
    };
    assert!(opened_with(&(rk(1, IMAGING) - rk(2, LABORATORY) + laboratory), &header).is_empty());
    // Nor do two grants of the same class show that they are of one.
    assert!(rk(1, IMAGING) != rk(2, IMAGING));
    // The control: under one gid the masks do cancel, which is why a seed is fresh for each grant.
    assert_eq!(
        opened_with(&(rk(1, IMAGING) - rk(1, LABORATORY) + laboratory), &header).len(),
        1
    );
}

/// Hs_PID of another episode less that of this one: what a doctor who treats the patient in both knows.
fn shift(from: &Pid, to: &Pid) -> Scalar {
    hs("PID", &[to.expose_bytes()]) - hs("PID", &[from.expose_bytes()])
}

/// Attacker: a doctor who treats the patient in two episodes. Holds: both PIDs, so the difference d of
/// the two episode secrets, and a grant of one. Literal: a BLS signature over the text alone, which
/// H1(text)^d turns into one of the other episode. Ours: the text that is hashed begins with E.
#[test]
fn attack_convert_a_grants_signature_to_another_episode() {
    let world = world(2, 3);
    let other = world.patient.pid(&world.doctor, 1);
    let d = shift(&world.pid, &other);
    let (e1, e2) = (
        episode_secret(1, world.pid.expose_bytes()),
        episode_secret(1, other.expose_bytes()),
    );
    let text = b"let doctor B read";
    let signature = h1("GRANT", &[text]) * e1;
    let converted = signature + h1("GRANT", &[text]) * d;
    assert!(e(&converted, &g2()) == e(&h1("GRANT", &[text]), &(g2() * e2)));

    let original = RawGrant::of(&world.grant);
    assert!(original.stands());
    // The attack's arithmetic is the crate's: e makes the same signature.
    assert_eq!(original.clone().signed(&e1).encode(), original.encode());
    let mut moved = original.clone();
    moved.e = *world.patient.episode_key(&other).as_bytes();
    assert_eq!(moved.e, bytes2(&(g2() * e2)));
    let (old, new) = (original.text(), moved.text());
    for signature in [
        original.signature(),
        original.signature() + h1("GRANT", &[&original.e, &old]) * d,
        original.signature() + h1("GRANT", &[&moved.e, &old]) * d,
        original.signature() + h1("GRANT", &[&moved.e, &new]) * d,
        original.signature() + h1("GRANT", &[&old]) * d,
    ] {
        assert!(!moved.clone().with_signature(bytes1(&signature)).stands());
        // Nor does it stand under the old E for the old text.
        let unmoved = original.clone().with_signature(bytes1(&signature));
        assert_eq!(unmoved.stands(), signature == original.signature());
    }
    // The control: the other episode's own secret signs it.
    assert!(moved.signed(&e2).stands());
}

/// Attacker: a family agent or a doctor. Holds: something else that the patient signed under E or O: an
/// appointment, a hand-over, a proof of possession. Literal: one hash for all of them, so whatever was
/// signed as one passes as another whose text it can be read as. Ours: each kind has its own domain.
#[test]
fn attack_turn_an_appointment_into_a_grant() {
    let world = world(2, 3);
    let e1 = episode_secret(1, world.pid.expose_bytes());
    let text = RawGrant::of(&world.grant).text();
    let signed_as_an_appointment = h1("SIGNED", &[&text]) * e1;
    let read_as_a_grant = e(&h1("SIGNED", &[&text]), &(g2() * e1));
    assert!(e(&signed_as_an_appointment, &g2()) == read_as_a_grant);

    let original = RawGrant::of(&world.grant);
    let o = secrets(1).o;
    for tag in [
        "DELEGATION",
        "HANDOVER",
        "POP-O",
        "POP-A",
        "POP-X",
        "U",
        "KW",
        "COND",
        "MASK",
    ] {
        let signature = bls(tag, &e1, &[&original.e, &text]);
        assert!(!original.clone().with_signature(signature).stands());
        // And what O signed, carried over to E by Hs_PID(PID).
        let o_key = bytes2(&(g2() * o));
        let shift = hs("PID", &[world.pid.expose_bytes()]);
        let carried = h1(tag, &[&o_key, &text]) * o + h1(tag, &[&o_key, &text]) * shift;
        assert!(!original.clone().with_signature(bytes1(&carried)).stands());
    }
    assert!(original.signed(&e1).stands());
    // The other way round.
    let appointment = appointment_bytes(&world.pid, [7; 32], &[IMAGING], "GRANT", &e1);
    let decoded = Appointment::decode(&consortium(), &appointment).unwrap();
    assert!(!decoded.is_signed_by_owner(&consortium()));
    let appointment = appointment_bytes(&world.pid, [7; 32], &[IMAGING], "DELEGATION", &e1);
    let decoded = Appointment::decode(&consortium(), &appointment).unwrap();
    assert!(decoded.is_signed_by_owner(&consortium()));
}

/// E34, by hand.
fn appointment_bytes(
    pid: &Pid,
    agent: [u8; 32],
    scope: &[ClassCode],
    tag: &str,
    signer: &Scalar,
) -> Vec<u8> {
    let e = bytes2(&(g2() * episode_secret(1, pid.expose_bytes())));
    let mut out = e.to_vec();
    out.extend_from_slice(consortium().as_bytes());
    out.extend_from_slice(&agent);
    out.extend_from_slice(&[0xa9; 32]);
    out.extend_from_slice(&be(1_800_000_000_000));
    out.push(scope.len() as u8);
    out.extend(scope.iter().map(|class| class.code()));
    let signature = bls(tag, signer, &[&e, &out]);
    out.extend_from_slice(&signature);
    out
}

/// Attacker: a family agent of one episode, with a doctor who knows both PIDs. Hold: the appointment
/// and d. Literal: the patient signs (agent's key, scope, end), and the signature is converted as that
/// of a grant is. Ours: the appointment begins with E, in the text and in the hash, a grant under it
/// must name the same E, and the agent's own signature holds E as well.
#[test]
fn attack_move_an_agents_appointment_to_another_episode() {
    let world = world(2, 3);
    let here = consortium();
    let mut rng = rng(16);
    let other = world.patient.pid(&world.doctor, 1);
    let d = shift(&world.pid, &other);
    let (e1, e2) = (
        episode_secret(1, world.pid.expose_bytes()),
        episode_secret(1, other.expose_bytes()),
    );
    let hashed = h1("DELEGATION", &[b"agent, scope, end"]);
    let converted = hashed * e1 + hashed * d;
    assert!(e(&converted, &g2()) == e(&hashed, &(g2() * e2)));

    let signing = SigningKey::from_seed([0x41; 32]);
    let agent = AgentKey::from_signing_key(signing.clone());
    let key = *agent.verifying_key().as_bytes();
    let bytes = appointment_bytes(&world.pid, key, &[IMAGING], "DELEGATION", &e1);
    let appointment = Appointment::decode(&here, &bytes).unwrap();
    assert!(appointment.is_signed_by_owner(&here));
    let (text, signature) = bytes.split_at(bytes.len() - 48);
    let signature = point1(signature.try_into().unwrap());
    let mut moved_text = text.to_vec();
    moved_text[..96].copy_from_slice(world.patient.episode_key(&other).as_bytes());
    for signature in [
        signature,
        signature + h1("DELEGATION", &[&text[..96], text]) * d,
        signature + h1("DELEGATION", &[&moved_text[..96], &moved_text]) * d,
    ] {
        let moved = [moved_text.as_slice(), &bytes1(&signature)].concat();
        let moved = Appointment::decode(&here, &moved).unwrap();
        assert!(!moved.is_signed_by_owner(&here));
    }
    // Altered terms: the agent's key, the name, the end, the scope.
    for place in [128, 160, 192, 199, 201] {
        let mut altered = bytes.clone();
        altered[place] ^= 1;
        let altered = Appointment::decode(&here, &altered).unwrap();
        assert!(!altered.is_signed_by_owner(&here));
    }

    // A grant of the other episode under this appointment.
    let granter = Granter::Agent(&agent, &appointment);
    let classes = granted(&world.patient, &other, &[IMAGING]);
    let reach = reach(&world.patient, &other, world.hospital.writer, "");
    let terms = |pid: &Pid| terms(&world.patient, pid, &world.nodes, &[&world.reader], 2);
    assert_eq!(
        Grant::make(&here, terms(&other), &classes, &reach, &granter, &mut rng).err(),
        Some(GrantError::Signer)
    );
    let (own, _) = Grant::make(
        &here,
        terms(&world.pid),
        &classes,
        &reach,
        &granter,
        &mut rng,
    )
    .unwrap();
    assert!(own.clone().verify(&here).is_ok());
    let mut moved = RawGrant::of(&own);
    moved.e = *world.patient.episode_key(&other).as_bytes();
    assert!(!moved.stands());
    // Signed anew by the agent, it lacks only an appointment for that episode.
    let by_agent = |grant: &RawGrant, appointment: &[u8]| {
        let parts: [&[u8]; 2] = [&grant.e, &grant.text()];
        let signature = signing.sign(Context::Agent, &consortium(), &parts);
        let mut signer = vec![1];
        signer.extend_from_slice(&(appointment.len() as u32).to_be_bytes());
        signer.extend_from_slice(appointment);
        signer.extend_from_slice(signature.as_bytes());
        RawGrant {
            signer,
            ..grant.clone()
        }
    };
    let second = appointment_bytes(&other, key, &[IMAGING], "DELEGATION", &e2);
    assert!(!by_agent(&moved, &bytes).stands());
    assert!(by_agent(&moved, &second).stands());
    // Even if the agent is appointed for both episodes with one key, their signature stays where it is.
    let agents_signature = moved.signer[moved.signer.len() - 64..].to_vec();
    let mut signer = vec![1];
    signer.extend_from_slice(&(second.len() as u32).to_be_bytes());
    signer.extend_from_slice(&second);
    signer.extend_from_slice(&agents_signature);
    moved.signer = signer;
    assert!(!moved.stands());
    // And another agent's key is none of this appointment's.
    let stranger = AgentKey::random(&mut rng);
    assert_eq!(
        Grant::make(
            &here,
            terms(&world.pid),
            &classes,
            &reach,
            &Granter::Agent(&stranger, &appointment),
            &mut rng
        )
        .err(),
        Some(GrantError::Signer)
    );
}

/// Attacker: whoever passes the grant on. Holds: its bytes. They lower t so that one node suffices, or
/// put another doctor, node, end or commitment in. Literal: the patient signs whom and what, and the
/// rest is agreed beside it. Ours: every byte before the signature is signed, and the chain holds the
/// hash of all.
#[test]
fn attack_lower_the_threshold_in_a_grants_bytes() {
    let e1 = episode_secret(1, &[1; 32]);
    let whom = h1("GRANT", &[b"doctor B may read imaging"]);
    // What is signed, and the t that is agreed beside it.
    let literal = (whom * e1, 2);
    let lowered = (literal.0, 1);
    let stands = |(signature, _threshold): &(G1Projective, u8)| {
        e(signature, &g2()) == e(&whom, &(g2() * e1))
    };
    assert!(lowered.1 < literal.1 && stands(&literal) && stands(&lowered));

    let world = world(2, 3);
    let original = RawGrant::of(&world.grant);
    assert!(original.stands());
    type Change = fn(&mut RawGrant);
    let changes: [Change; 12] = [
        |grant| {
            grant.threshold = 1;
            grant.classes.iter_mut().for_each(|class| class.truncate(1));
        },
        |grant| {
            grant.threshold = 3;
            grant
                .classes
                .iter_mut()
                .for_each(|class| class.push(class[0]));
        },
        |grant| grant.doctors[0][..32].copy_from_slice(&[9; 32]),
        |grant| grant.doctors[0][32..].copy_from_slice(&[9; 32]),
        |grant| grant.nodes[0][40] ^= 1,
        |grant| grant.nodes.swap(0, 1),
        |grant| grant.times[1] += 1,
        |grant| grant.times[2] += 1,
        |grant| grant.revocation[0] ^= 1,
        |grant| grant.request.push(b'!'),
        |grant| grant.classes.swap(0, 1),
        |grant| grant.node_parts.swap(0, 1),
    ];
    for change in changes {
        let mut altered = original.clone();
        change(&mut altered);
        assert!(!altered.stands());
        assert_ne!(sha256(&altered.encode()), sha256(&original.encode()));
    }
    // t without its commitments is no grant at all.
    let mut bytes = original.encode();
    let at = bytes
        .windows(2)
        .position(|pair| pair == [2, 2])
        .expect("t = 2 and two classes stand side by side");
    for threshold in [0, 1, 3, 4, 255] {
        bytes[at] = threshold;
        let grant = Grant::decode(&consortium(), &bytes);
        assert!(grant.is_err() || grant.unwrap().verify(&consortium()).is_err());
    }
}

/// The body key out of a node's part.
fn body_key(world: &World) -> [u8; 32] {
    let raw = RawGrant::of(&world.grant);
    let plain = world.nodes.hpke[0]
        .open(
            Purpose::GrantToNode,
            &consortium(),
            raw.gid().as_bytes(),
            &raw.node_parts[0],
        )
        .unwrap();
    plain[..32].try_into().unwrap()
}

/// A part of node m as a dishonest granter makes it.
fn node_part(
    world: &World,
    gid: &GrantId,
    m: usize,
    key: &[u8; 32],
    shares: &[G1Projective],
) -> Vec<u8> {
    let mut plain = key.to_vec();
    shares.iter().for_each(|share| plain.extend(bytes1(share)));
    world.nodes.hpke[m - 1]
        .public_key()
        .seal(
            Purpose::GrantToNode,
            &consortium(),
            gid.as_bytes(),
            &plain,
            &mut rng(17),
        )
        .unwrap()
}

/// Attacker: a granter, who commits to one key and shares another, or gives one node another's share,
/// so that honest nodes look like liars later. Literal, Shamir without commitments: a node takes what
/// it is given. Ours: each node checks its share at receipt and answers BAD-SHARE.
#[test]
fn attack_commit_to_another_key_than_was_shared() {
    let mut rng = rng(18);
    let (right, wrong) = (g1() * scalar(&mut rng), g1() * scalar(&mut rng));
    let (given, other) = (
        shamir(&right, 2, 3, &mut rng),
        shamir(&wrong, 2, 3, &mut rng),
    );
    // Node 1 of the first sharing and node 2 of the second give a key that is neither, and no error.
    let weights = lagrange(&[1, 2]);
    let mixed = given[0] * weights[0] + other[1] * weights[1];
    assert!(mixed != right && mixed != wrong);

    let world = world(2, 3);
    let e1 = episode_secret(1, world.pid.expose_bytes());
    let key = body_key(&world);
    let mut raw = RawGrant::of(&world.grant);
    let gid = raw.gid();
    let own = |m: u8| -> Vec<G1Projective> {
        world.parts(&[m])[0]
            .shares
            .iter()
            .map(|share| point1(&share.expose_bytes()))
            .collect()
    };
    // Node 1 gets shares of another key, node 2 those of node 3, node 3 its own in the wrong order.
    raw.node_parts[0] = node_part(&world, &gid, 1, &key, &[own(1)[0], other[0]]);
    raw.node_parts[1] = node_part(&world, &gid, 2, &key, &own(3));
    raw.node_parts[2] = node_part(&world, &gid, 3, &key, &[own(3)[1], own(3)[0]]);
    let grant = raw.signed(&e1).decode().verify(&consortium()).unwrap();
    let open = |m: u8| {
        grant
            .open_node_part(
                &consortium(),
                number(m),
                &world.nodes.hpke[usize::from(m) - 1],
            )
            .err()
    };
    assert_eq!(open(1), Some(PartError::BadShare { class: 1 }));
    assert_eq!(open(2), Some(PartError::BadShare { class: 0 }));
    assert_eq!(open(3), Some(PartError::BadShare { class: 0 }));
}

/// Attacker: a node that takes part twice, under its own number and another's. Holds: its share.
/// Literal, Shamir without commitments: a share is a point, and nothing says whose. Ours: C_m is
/// another for each m, so neither the share nor a proof of it passes as another node's.
#[test]
fn attack_present_a_share_as_another_nodes() {
    let mut rng = rng(19);
    let shares = shamir(&(g1() * scalar(&mut rng)), 2, 3, &mut rng);
    let weights = lagrange(&[1, 2]);
    let accepted = shares[0] * weights[0] + shares[0] * weights[1];
    assert!(accepted == shares[0]);

    let world = world(2, 3);
    let (grant, header) = (world.verified(), world.header());
    let commitments = grant.commitments(ClassPlace::new(0)).unwrap();
    let transaction = world.stored.statement.id(&consortium());
    let hdr = world.stored.statement.header_digest;
    for m in 1..=3u8 {
        let parts = world.parts(&[m]);
        let share = &parts[0].shares[0];
        for claimed in 1..=5u8 {
            let unchecked = UncheckedShare::from_bytes(&share.expose_bytes()).unwrap();
            assert_eq!(
                unchecked.verify(number(claimed), commitments).is_ok(),
                claimed == m
            );
            let re_encrypted = share.re_encrypt(&header);
            let statement = ShareStatement {
                consortium: &consortium(),
                gid: &grant.gid(),
                transaction: &transaction,
                header_digest: &hdr,
                class: ClassPlace::new(0),
                node: number(claimed),
                share: &re_encrypted,
            };
            let proof = share.prove(&statement, &header, &mut rng);
            assert_eq!(
                proof.verify(&statement, &header, commitments).is_ok(),
                claimed == m
            );
        }
    }
}

/// Attacker: either a node that lies about its W_m, or a granter whose key is another than the
/// record's. Literal, no commitments: the two leave the same transcript, a W that opens nothing, and a
/// node can be blamed for its granter and the other way round. Ours: a lying node's proof does not
/// stand and t honest nodes open without it; if all proofs stand, the fault is the granter's (or the
/// author's) and no node is named.
#[test]
fn attack_inconsistent_granter_and_lying_node_told_apart() {
    let mut rng = rng(20);
    let u = g2() * scalar(&mut rng);
    let (honest, garbage) = (g1() * scalar(&mut rng), g1() * scalar(&mut rng));
    // What B sees of a node that was given a share and answers in some way.
    let seen = |given: &G1Projective, answer: &dyn Fn(&G1Projective) -> G1Projective| {
        e(&answer(given), &u)
    };
    let lie = seen(&honest, &|_| garbage);
    let obedience = seen(&garbage, &|given| *given);
    assert!(lie == obedience && lie != seen(&honest, &|given| *given));

    let world = world(2, 3);
    let here = consortium();
    let (header, part) = (world.header(), world.doctor_part());
    let u = header.header().encapsulation();
    let transaction = world.stored.statement.id(&here);
    let hdr = world.stored.statement.header_digest;
    let class = ClassPlace::new(0);
    // Which proofs stand when nodes of a grant answer with these shares.
    let named = |grant: &VerifiedGrant, answers: &[(NodePart, ReEncryptedShare)]| -> Vec<u8> {
        answers
            .iter()
            .filter(|(part, answer)| {
                let statement = ShareStatement {
                    consortium: &here,
                    gid: &grant.gid(),
                    transaction: &transaction,
                    header_digest: &hdr,
                    class,
                    node: part.node,
                    share: answer,
                };
                let proof = part.shares[0].prove(&statement, &header, &mut crate::support::rng(21));
                let commitments = grant.commitments(class).unwrap();
                proof.verify(&statement, &header, commitments).is_err()
            })
            .map(|(part, _)| part.node.number())
            .collect()
    };
    let opens =
        |grant: &VerifiedGrant, seed: &MaskSeed, answers: &[(NodePart, ReEncryptedShare)]| {
            let shares: Vec<_> = answers
                .iter()
                .map(|(part, answer)| (part.node, answer.clone()))
                .collect();
            let secret = combine(2, &shares)
                .unwrap()
                .open(&here, &grant.gid(), seed, class, u)
                .unwrap();
            !opened(&secret, header.header()).is_empty()
        };
    let answers = |grant: &VerifiedGrant, nodes: [u8; 2]| -> Vec<(NodePart, ReEncryptedShare)> {
        nodes
            .iter()
            .map(|m| {
                let key = &world.nodes.hpke[usize::from(*m) - 1];
                let part = grant.open_node_part(&here, number(*m), key).unwrap();
                let answer = part.shares[0].re_encrypt(&header);
                (part, answer)
            })
            .collect()
    };

    let grant = world.verified();
    let mut lying = answers(&grant, [1, 2]);
    let raised = enc_pairing(&garbage, &point2(u.as_bytes()));
    lying[1].1 = ReEncryptedShare::from_bytes(&raised).unwrap();
    assert!(!opens(&grant, &part.seed, &lying));
    assert_eq!(named(&grant, &lying), [2]);
    assert!(opens(&grant, &part.seed, &answers(&grant, [1, 3])));

    // The granter: another patient's condition, properly shared and committed to.
    let stranger = Patient::new(9);
    let classes = granted(&stranger, &world.pid, &[IMAGING]);
    let key = EpisodeSigningKey::derive(&here, &world.patient.keys.ownership, &world.pid).unwrap();
    let (inconsistent, _) = Grant::make(
        &here,
        terms(
            &world.patient,
            &world.pid,
            &world.nodes,
            &[&world.reader],
            2,
        ),
        &classes,
        &reach(&world.patient, &world.pid, world.hospital.writer, ""),
        &Granter::Patient(&key),
        &mut rng,
    )
    .unwrap();
    let inconsistent = inconsistent.verify(&here).unwrap();
    let seed = inconsistent
        .open_doctor_part(
            &here,
            &world.reader.access.verifying_key(),
            &world.reader.hpke,
        )
        .unwrap()
        .seed;
    for pair in [[1, 2], [1, 3], [2, 3]] {
        let given = answers(&inconsistent, pair);
        assert!(!opens(&inconsistent, &seed, &given));
        assert_eq!(named(&inconsistent, &given), Vec::<u8>::new());
    }
}

/// Attacker: anyone who has seen a node's answer. Holds: W_m and its signature and proof. Literal: the
/// node signs W_m alone, and it stands for any record, class and grant. Ours: signature and proof are
/// over gid, transaction, hdr, j, m, U and W_m.
#[test]
fn attack_replay_a_share_for_another_record_class_or_grant() {
    let mut rng = rng(22);
    let world = world(2, 3);
    let here = consortium();
    let (grant, header) = (world.verified(), world.header());
    let node = &world.nodes.keys[0];
    let share = &world.parts(&[1])[0].shares[0];
    let re_encrypted = share.re_encrypt(&header);
    let literal = (
        "one record",
        node.sign(Context::Share, &here, &[&re_encrypted.to_bytes()]),
    );
    let replayed = ("another record", literal.1);
    let stands = |(_record, signature): &(&str, Signature)| {
        let parts: [&[u8]; 1] = [&re_encrypted.to_bytes()];
        let key = node.verifying_key();
        key.verify(Context::Share, &here, &parts, signature).is_ok()
    };
    assert!(literal.0 != replayed.0 && stands(&literal) && stands(&replayed));

    let other = store_in(
        &world.patient,
        &world.doctor,
        &world.hospital,
        &world.pid,
        23,
    );
    let other_header = other.header.clone().verify().unwrap();
    let other_share = share.re_encrypt(&other_header);
    let (gid, id, hdr) = (
        grant.gid(),
        world.stored.statement.id(&here),
        world.stored.statement.header_digest,
    );
    let right = ShareStatement {
        consortium: &here,
        gid: &gid,
        transaction: &id,
        header_digest: &hdr,
        class: ClassPlace::new(0),
        node: number(1),
        share: &re_encrypted,
    };
    let signature = right.sign(&header, node);
    let proof = share.prove(&right, &header, &mut rng);
    let commitments = |place| grant.commitments(ClassPlace::new(place)).unwrap();
    assert!(
        right
            .verify(&header, &node.verifying_key(), &signature)
            .is_ok()
    );
    assert!(proof.verify(&right, &header, commitments(0)).is_ok());

    let (elsewhere, other_gid) = (ConsortiumId::new([1; 32]), GrantId::new([1; 32]));
    let (other_id, other_hdr) = (other.statement.id(&here), other.statement.header_digest);
    let wrong = [
        (
            ShareStatement {
                consortium: &elsewhere,
                ..right
            },
            &header,
        ),
        (
            ShareStatement {
                gid: &other_gid,
                ..right
            },
            &header,
        ),
        (
            ShareStatement {
                transaction: &other_id,
                ..right
            },
            &header,
        ),
        (
            ShareStatement {
                header_digest: &other_hdr,
                ..right
            },
            &header,
        ),
        (
            ShareStatement {
                class: ClassPlace::new(1),
                ..right
            },
            &header,
        ),
        (
            ShareStatement {
                node: number(2),
                ..right
            },
            &header,
        ),
        (
            ShareStatement {
                share: &other_share,
                ..right
            },
            &header,
        ),
        (right, &other_header),
    ];
    for (statement, header) in wrong {
        assert!(
            statement
                .verify(header, &node.verifying_key(), &signature)
                .is_err()
        );
        assert!(proof.verify(&statement, header, commitments(0)).is_err());
    }
    assert!(proof.verify(&right, &header, commitments(1)).is_err());
    let key = world.nodes.keys[1].verifying_key();
    assert!(right.verify(&header, &key, &signature).is_err());
}

/// The statement with another W_m.
fn about<'a>(statement: ShareStatement<'a>, share: &'a ReEncryptedShare) -> ShareStatement<'a> {
    ShareStatement { share, ..statement }
}

/// E27's h.
fn challenge(
    statement: &ShareStatement<'_>,
    u: &[u8; 96],
    c: &[u8; 576],
    a: [&[u8; 576]; 2],
) -> Scalar {
    let place = be(statement.class.place() as u64);
    let node = be(u64::from(statement.node.number()));
    hs(
        "SHARE",
        &[
            statement.gid.as_bytes(),
            statement.transaction.as_bytes(),
            statement.header_digest.as_bytes(),
            &place,
            &node,
            u,
            c,
            &statement.share.to_bytes(),
            a[0],
            a[1],
        ],
    )
}

/// Attacker: a node that wants to answer with a wrong W_m and a proof that stands. Holds: its share.
/// Literal: h is over a1 and a2 only, so W_m can be computed last, to fit. Ours: W_m is in h.
#[test]
fn attack_forge_a_share_proof_by_choosing_w_last() {
    let mut rng = rng(24);
    let world = world(2, 3);
    let header = world.header();
    let encapsulation = header.header().encapsulation().as_bytes();
    let u = point2(encapsulation);
    let share = &world.parts(&[1])[0].shares[0];
    let point = point1(&share.expose_bytes());
    let (p0, q) = (g1() * scalar(&mut rng), g1() * scalar(&mut rng));
    let (a1, a2) = (enc_pairing(&p0, &g2()), enc_pairing(&q, &u));
    // e(z, U) = a2 W^h for W = e((z / q)^(1/h), U).
    let forge = |h: Scalar| {
        let z = p0 + point * h;
        (z, (z - q) * h.invert().unwrap())
    };
    let h = hs("SHARE", &[&a1, &a2]);
    let (z, w) = forge(h);
    assert!(e(&z, &g2()) == e(&p0, &g2()) + e(&point, &g2()) * h);
    assert!(e(&z, &u) == e(&q, &u) + e(&w, &u) * h);
    assert!(e(&w, &u) != e(&point, &u));

    let (gid, id) = (
        world.verified().gid(),
        world.stored.statement.id(&consortium()),
    );
    let (here, honest) = (consortium(), share.re_encrypt(&header));
    let right = ShareStatement {
        consortium: &here,
        gid: &gid,
        transaction: &id,
        header_digest: &world.stored.statement.header_digest,
        class: ClassPlace::new(0),
        node: number(1),
        share: &honest,
    };
    let grant = world.verified();
    let commitments = grant.commitments(ClassPlace::new(0)).unwrap();
    let c = enc_pairing(&point, &g2());
    // The h of the honest W, and of a W that was tried before.
    let mut tried = honest.clone();
    for _ in 0..4 {
        let h = challenge(&about(right, &tried), encapsulation, &c, [&a1, &a2]);
        let (z, w) = forge(h);
        let lie = ReEncryptedShare::from_bytes(&enc_pairing(&w, &u)).unwrap();
        assert_ne!(lie, honest);
        let proof = [a1.as_slice(), &a2, &bytes1(&z)].concat();
        let proof = ShareProof::from_bytes(&proof).unwrap();
        assert!(
            proof
                .verify(&about(right, &lie), &header, commitments)
                .is_err()
        );
        assert!(
            proof
                .verify(&about(right, &tried), &header, commitments)
                .is_err()
        );
        tried = lie;
    }
    // The control: the same arithmetic with q = p0 proves the honest W.
    let a2 = enc_pairing(&p0, &u);
    let h = challenge(&right, encapsulation, &c, [&a1, &a2]);
    let proof = [a1.as_slice(), &a2, &bytes1(&(p0 + point * h))].concat();
    let proof = ShareProof::from_bytes(&proof).unwrap();
    assert!(proof.verify(&right, &header, commitments).is_ok());
}

/// Attacker: a reader who asks a node for proofs again and again. Holds: two proofs of one share.
/// Literal: one P0 per share, and z1 / z2 = share^(h1 - h2) gives the share away. Ours: every proof has
/// its own random P0.
#[test]
fn attack_extract_a_share_from_two_proofs() {
    let mut rng = rng(25);
    let (point, p0) = (g1() * scalar(&mut rng), g1() * scalar(&mut rng));
    let (h1, h2) = (scalar(&mut rng), scalar(&mut rng));
    let difference = (p0 + point * h1) - (p0 + point * h2);
    assert!(difference * (h1 - h2).invert().unwrap() == point);

    let world = world(2, 3);
    let header = world.header();
    let encapsulation = header.header().encapsulation().as_bytes();
    let parts = world.parts(&[1]);
    let share = &parts[0].shares[0];
    let point = point1(&share.expose_bytes());
    let re_encrypted = share.re_encrypt(&header);
    let (gid, hdr) = (world.verified().gid(), world.stored.statement.header_digest);
    let asked: Vec<(Vec<u8>, Scalar)> = [1, 1, 2]
        .iter()
        .map(|id| {
            let transaction = Digest::new([*id; 32]);
            let statement = ShareStatement {
                consortium: &consortium(),
                gid: &gid,
                transaction: &transaction,
                header_digest: &hdr,
                class: ClassPlace::new(0),
                node: number(1),
                share: &re_encrypted,
            };
            let proof = share.prove(&statement, &header, &mut rng).to_bytes();
            let a = [&proof[..576], &proof[576..1152]].map(|a| a.try_into().unwrap());
            let c = enc_pairing(&point, &g2());
            let h = challenge(&statement, encapsulation, &c, a);
            (proof, h)
        })
        .collect();
    for (one, two) in [(0, 1), (0, 2), (1, 2)] {
        let ((first, h1), (second, h2)) = (&asked[one], &asked[two]);
        assert_ne!(first[..576], second[..576]);
        let z = |proof: &[u8]| point1(proof[1152..].try_into().unwrap());
        let extracted = (z(first) - z(second)) * (h1 - h2).invert().unwrap();
        assert!(extracted != point);
    }
}

/// Attacker: a doctor of the team, or a node. Holds: their own HPKE key and the whole grant. Literal:
/// what is sealed to the team is sealed under one key that all of them share. Ours: each part is sealed
/// to one recipient, under a purpose and the grant's name, and opens in no other place; an entry of the
/// access log therefore says which of them could read.
#[test]
fn attack_open_another_recipients_part() {
    let team_key = [7; 32];
    let sealed = aes_seal(&team_key, [0; 12], b"", b"seed of doctor one");
    let by_doctor_two = aes_open(&team_key, [0; 12], b"", &sealed);
    assert_eq!(by_doctor_two.unwrap(), b"seed of doctor one");

    let world = world(2, 3);
    let here = consortium();
    let readers = [Reader::new(0x60), Reader::new(0x62)];
    let (team, _) = grant(
        &world.patient,
        &world.pid,
        &world.nodes,
        &[&readers[0], &readers[1]],
        2,
        &GRANTED,
        world.hospital.writer,
        &mut rng(26),
    );
    let verified = team.clone().verify(&here).unwrap();
    for (mine, other) in [(0, 1), (1, 0)] {
        let access = readers[mine].access.verifying_key();
        let open = |key| verified.open_doctor_part(&here, &access, key).err();
        assert_eq!(open(&readers[mine].hpke), None);
        assert_eq!(open(&readers[other].hpke), Some(PartError::CannotOpen));
        assert_eq!(open(&world.nodes.hpke[0]), Some(PartError::CannotOpen));
    }
    let stranger = Reader::new(0x70);
    assert_eq!(
        verified
            .open_doctor_part(&here, &stranger.access.verifying_key(), &stranger.hpke)
            .err(),
        Some(PartError::NotARecipient)
    );
    assert_eq!(
        verified
            .open_node_part(&here, number(4), &world.nodes.hpke[0])
            .err(),
        Some(PartError::NotARecipient)
    );
    // A granter who exchanges them, or puts a doctor's part in a node's place, makes them useless.
    let e1 = episode_secret(1, world.pid.expose_bytes());
    let mut exchanged = RawGrant::of(&team);
    exchanged.doctor_parts.swap(0, 1);
    exchanged.node_parts.swap(0, 1);
    exchanged.node_parts[2] = readers[0]
        .hpke
        .public_key()
        .seal(
            Purpose::GrantToDoctor,
            &here,
            exchanged.gid().as_bytes(),
            &[0; 128],
            &mut rng(27),
        )
        .unwrap();
    let exchanged = exchanged.signed(&e1).decode().verify(&here).unwrap();
    for reader in &readers {
        let part = exchanged.open_doctor_part(&here, &reader.access.verifying_key(), &reader.hpke);
        assert_eq!(part.err(), Some(PartError::CannotOpen));
    }
    for m in 1..=3u8 {
        let key = &world.nodes.hpke[usize::from(m) - 1];
        let part = exchanged.open_node_part(&here, number(m), key);
        assert_eq!(part.err(), Some(PartError::CannotOpen));
    }
    let as_a_node = exchanged.open_node_part(&here, number(3), &readers[0].hpke);
    assert_eq!(as_a_node.err(), Some(PartError::CannotOpen));
}

/// Attacker: another patient, with a doctor. Holds: the bytes of someone's grant. They put its sealed
/// parts and commitments into a grant of their own, which names their doctor, so that the nodes open
/// and serve shares of a key they have no right to. Literal: parts sealed to the node and bound to
/// nothing. Ours: gid, the hash of the revocation key, is bound into each part and the body; and with
/// the same gid the nodes still serve only records whose owner key is the signer's.
#[test]
fn attack_put_anothers_sealed_parts_into_ones_own_grant() {
    let node_key = [7; 32];
    let part = aes_seal(&node_key, [0; 12], b"", b"a share of the victim's key");
    let victims = ("the victim's doctor", part.clone());
    let attackers = ("the attacker's doctor", part);
    let opens = |(_doctor, part): &(&str, Vec<u8>)| aes_open(&node_key, [0; 12], b"", part);
    assert!(victims.0 != attackers.0 && opens(&attackers).is_some());
    assert_eq!(opens(&victims), opens(&attackers));

    let world = world(2, 3);
    let here = consortium();
    let attacker = Patient::new(9);
    let attacker_pid = attacker.pid(&Doctor::new(5, 8), 0);
    let e9 = episode_secret(9, attacker_pid.expose_bytes());
    let mut rewrapped = RawGrant::of(&world.grant);
    rewrapped.e = bytes2(&(g2() * e9));
    rewrapped.doctors[0][..32].copy_from_slice(&[9; 32]);
    let same_gid = rewrapped
        .clone()
        .signed(&e9)
        .decode()
        .verify(&here)
        .unwrap();
    rewrapped.revocation = *SigningKey::from_seed([0x99; 32]).verifying_key().as_bytes();
    let own_gid = rewrapped.signed(&e9).decode().verify(&here).unwrap();
    for m in 1..=3u8 {
        let key = &world.nodes.hpke[usize::from(m) - 1];
        let part = own_gid.open_node_part(&here, number(m), key);
        assert_eq!(part.err(), Some(PartError::CannotOpen));
    }
    // With the victim's revocation key named, the chain's entry for that gid holds another digest, and
    // the owner key of the victim's record is not the signer's, which a node compares before each share
    // (crates/parties/tests/node_checks.rs drives one).
    assert_ne!(same_gid.digest(), world.verified().digest());
    let owner = world
        .stored
        .statement
        .owner_key
        .unblind(&world.stored.delta);
    assert_ne!(owner.unwrap(), same_gid.terms().episode_key);
    // Nor does doctor B's part serve a grant that is signed by another.
    let part = same_gid.open_doctor_part(&here, &VerifyingKey::new([9; 32]), &world.reader.hpke);
    assert!(matches!(part.err(), Some(PartError::Malformed(_))));
}

/// Attacker: a granter who wants honest nodes to contradict each other. Holds: two body keys, and makes
/// one body that opens under both, to different trapdoors and entries. Literal, AES-GCM as it is: node 1
/// and node 2 open the same grant, search for different things and sign different answers, as if one
/// of them lied. Ours: the body begins with a commitment to its key, so a node with another key refuses
/// the grant, and the fault is the granter's.
#[test]
fn attack_one_body_that_opens_under_two_keys() {
    let mut rng = rng(28);
    let world = world(2, 3);
    let here = consortium();
    let e1 = episode_secret(1, world.pid.expose_bytes());
    let mut raw = RawGrant::of(&world.grant);
    let gid = raw.gid();
    let keys: [[u8; 32]; 2] = [bytes(&mut rng), bytes(&mut rng)];
    let derived = keys.map(|key| {
        let prk = extract("willis/v1/seed", &key);
        let gid: [&[u8]; 1] = [gid.as_bytes()];
        (
            expand(&prk, "GRANT-BODY", &gid),
            expand(&prk, "GRANT-COMMIT", &gid),
        )
    });
    // G, no trapdoor, one entry whose LK is what the equation leaves free: 80 bytes.
    let mut plain = vec![0x11; 32];
    plain.extend_from_slice(&0u32.to_be_bytes());
    plain.extend_from_slice(&1u32.to_be_bytes());
    plain.extend_from_slice(&7u32.to_be_bytes());
    plain.extend_from_slice(&0u32.to_be_bytes());
    plain.extend_from_slice(&[0x22; 16]);
    let two_faced = collide(
        [&derived[0].0, &derived[1].0],
        [0; 12],
        gid.as_bytes(),
        &plain,
    );
    let seen: Vec<Vec<u8>> = derived
        .iter()
        .map(|(key, _)| aes_open(key, [0; 12], gid.as_bytes(), &two_faced).unwrap())
        .collect();
    assert_eq!(seen[0][..64], plain);
    assert_ne!(seen[0], seen[1]);

    let shares = |m: u8| -> Vec<G1Projective> {
        world.parts(&[m])[0]
            .shares
            .iter()
            .map(|share| point1(&share.expose_bytes()))
            .collect()
    };
    for m in 1..=3u8 {
        let key = &keys[usize::from(m > 1)];
        raw.node_parts[usize::from(m) - 1] =
            node_part(&world, &gid, usize::from(m), key, &shares(m));
    }
    for (committed, (_, commitment)) in derived.iter().enumerate() {
        raw.body = [commitment.as_slice(), &two_faced].concat();
        let grant = raw.clone().signed(&e1).decode().verify(&here).unwrap();
        for m in 1..=3u8 {
            let key = &world.nodes.hpke[usize::from(m) - 1];
            let opened = grant.open_node_part(&here, number(m), key);
            if usize::from(m > 1) == committed && committed == 0 {
                assert_eq!(opened.unwrap().reach.entries.len(), 1);
            } else if usize::from(m > 1) == committed {
                // The second key's plaintext is not under the attacker's control here.
                assert!(matches!(opened.err(), Some(PartError::Malformed(_))));
            } else {
                assert_eq!(opened.err(), Some(PartError::Body));
            }
        }
    }
}
