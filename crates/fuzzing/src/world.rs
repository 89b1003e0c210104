//! One sealed record with a grant, an appointment and a share's proof, made once from fixed keys.

use std::sync::LazyLock;

use ledger::testing::rng;
use scheme::{
    Appointment, AppointmentId, AppointmentTerms, Author, ClassCode, ClassLabelKey, ClassPlace,
    ConditionKey, ConsortiumId, ContentKey, DoctorId, EpisodeKey, EpisodeNumber, EpisodeSigningKey,
    Grant, GrantNode, GrantTerms, GrantedClass, Grantee, Granter, Header, HpkePrivateKey,
    InstitutionId, KeyVersion, NodeNumber, PatientKeys, Pid, Purpose, Reach, RootSeed, Sealing,
    SealingSecret, SectionIndex, SectionPlan, SectionSecret, ShareStatement, SigningKey, Threshold,
    Timestamp, Trapdoor, Uid, ValidatorEpoch, VerifiedGrant, Writer, WriterEpoch, WriterEpochKey,
    WriterTrapdoor, sha256,
};

pub(crate) const HERE: ConsortiumId = ConsortiumId::new([0xc0; 32]);
const HOMEPAGE: ClassCode = ClassCode::new(0);
const LABORATORY: ClassCode = ClassCode::new(3);
const IMAGING: ClassCode = ClassCode::new(4);

pub(crate) struct World {
    /// Its sections in the header's order: index, key, plaintext.
    pub(crate) sections: Vec<(SectionIndex, ContentKey, Vec<u8>)>,
    pub(crate) header: Header,
    pub(crate) container: Vec<u8>,
    pub(crate) grant: Vec<u8>,
    pub(crate) appointment: Vec<u8>,
    pub(crate) proof: Vec<u8>,
    pub(crate) sealed: Vec<u8>,
    /// Opens what is sealed.
    pub(crate) reader: HpkePrivateKey,
    pub(crate) keys: PatientKeys,
    pub(crate) writer_key: WriterEpochKey,
}

pub(crate) static WORLD: LazyLock<World> = LazyLock::new(make);

fn make() -> World {
    let mut rng = rng("fuzzing", 0);
    let seed = RootSeed::from_bytes([1; 32]);
    let keys = PatientKeys::derive(&seed, KeyVersion::new(0), &HERE);
    let (institution, doctor) = (InstitutionId::new(7), DoctorId::new(2));
    let uid = Uid::new(b"R-1").expect("a short one");
    let pid = keys
        .symmetric
        .doctor_subkey(&HERE, institution, doctor)
        .pseudonym(&HERE, &uid, EpisodeNumber::new(0));

    let secret = SealingSecret::from_bytes([2; 32]);
    let author = Author {
        secret: &secret,
        key: SigningKey::from_seed([2; 32]).verifying_key(),
        institution,
    };
    // One chunk, nothing, and three chunks.
    let plain = [
        (HOMEPAGE, b"name and address".to_vec()),
        (LABORATORY, Vec::new()),
        (IMAGING, (0..150_000_u32).map(|at| at as u8).collect()),
    ];
    let plans: Vec<_> = plain
        .iter()
        .map(|(class, bytes)| SectionPlan {
            class: *class,
            length: bytes.len() as u64,
        })
        .collect();
    let owner = keys.encryption.public_key();
    let sealing =
        Sealing::new(&HERE, &author, &owner, &pid, &plans, &mut rng).expect("three sections");
    let header = sealing.header().clone();
    let mut container = header.encode();
    let mut sections = Vec::new();
    for (place, plan) in sealing.order().iter().enumerate() {
        let (class, bytes) = plain
            .iter()
            .find(|(class, _)| *class == plan.class)
            .expect("one of those that were planned");
        let mut sealer = sealing.section(place).expect("a planned section");
        sealer.update(bytes, &mut container).expect("as planned");
        sealer.finish(&mut container).expect("as planned");
        let index = header
            .find(&ClassLabelKey::derive(&HERE, &pid, *class))
            .expect("the section");
        let u = header.encapsulation();
        let key = SectionSecret::of_owner(&HERE, &keys.encryption, &pid, *class, u)
            .content_key(&header, index)
            .expect("the owner's key");
        sections.push((index, key, bytes.clone()));
    }

    let node_hpke: Vec<_> = (0..3)
        .map(|node| HpkePrivateKey::derive(&[0xb0 + node; 32]))
        .collect();
    let (access, reader) = (
        SigningKey::from_seed([0x60; 32]),
        HpkePrivateKey::derive(&[0x61; 32]),
    );
    let writer_key = WriterEpochKey::random(&mut rng);
    let grant = grant(&keys, &pid, &node_hpke, &access, &reader);
    let verified = verified(&grant);
    let statement_header = header.clone().verify().expect("an own header");
    let node = NodeNumber::new(1).expect("not 0");
    let part = verified
        .open_node_part(&HERE, node, &node_hpke[0])
        .expect("its part");
    let share = part.shares[0].re_encrypt(&statement_header);
    let proof = part.shares[0].prove(
        &ShareStatement {
            consortium: &HERE,
            gid: &verified.gid(),
            transaction: &sha256(b"a record"),
            header_digest: &header.digest(),
            class: ClassPlace::new(0),
            node,
            share: &share,
        },
        &statement_header,
        &mut rng,
    );
    let episode =
        EpisodeSigningKey::derive(&HERE, &keys.ownership, &pid).expect("an episode's key");
    let terms = AppointmentTerms {
        agent: SigningKey::from_seed([0x41; 32]).verifying_key(),
        id: AppointmentId::new([0x42; 32]),
        end: Timestamp::new(7),
        scope: [0, 4].map(ClassCode::new).to_vec(),
    };
    let appointment = Appointment::make(&HERE, &episode, terms).expect("two classes");
    let sealed = reader
        .public_key()
        .seal(Purpose::Reply, &HERE, b"gid", b"a message", &mut rng);
    World {
        sections,
        header,
        container,
        grant,
        appointment: appointment.encode(&HERE),
        proof: proof.to_bytes(),
        sealed: sealed.expect("a usable key"),
        reader,
        keys,
        writer_key,
    }
}

fn verified(grant: &[u8]) -> VerifiedGrant {
    Grant::decode(&HERE, grant)
        .expect("an own grant")
        .verify(&HERE)
        .expect("signed by its owner")
}

fn grant(
    keys: &PatientKeys,
    pid: &Pid,
    nodes: &[HpkePrivateKey],
    access: &SigningKey,
    reader: &HpkePrivateKey,
) -> Vec<u8> {
    let episode = EpisodeKey::derive(&HERE, &keys.ownership.public_key(), pid);
    let terms = GrantTerms {
        episode_key: episode.expect("an episode's key"),
        revocation_key: SigningKey::from_seed([0xee; 32]).verifying_key(),
        request: b"the request of doctor B".to_vec(),
        grantees: vec![Grantee {
            access_key: access.verifying_key(),
            hpke_key: reader.public_key(),
        }],
        not_before: Timestamp::new(1),
        expiry: Timestamp::new(2),
        validator_epoch: ValidatorEpoch::new(0),
        nodes: (0..)
            .zip(nodes)
            .map(|(number, hpke)| GrantNode {
                key: SigningKey::from_seed([0xa0 + number; 32]).verifying_key(),
                hpke_key: hpke.public_key(),
            })
            .collect(),
        threshold: Threshold::new(2).expect("not 0"),
    };
    let classes = [GrantedClass {
        condition: ConditionKey::derive(&HERE, &keys.encryption, pid, IMAGING),
        label_key: ClassLabelKey::derive(&HERE, pid, IMAGING),
    }];
    let writer = Writer {
        institution: InstitutionId::new(7),
        epoch: WriterEpoch::new(0),
    };
    let word = scheme::Keyword::new(b"").expect("a short one");
    let reach = Reach {
        trapdoors: vec![WriterTrapdoor {
            writer,
            trapdoor: Trapdoor::generate(&HERE, &keys.search, pid, writer, &word),
        }],
        entries: Vec::new(),
    };
    let signing = EpisodeSigningKey::derive(&HERE, &keys.ownership, pid).expect("an episode's key");
    let granter = Granter::Patient(&signing);
    let mut rng = rng("fuzzing", 1);
    let (grant, _) = Grant::make(&HERE, terms, &classes, &reach, &granter, &mut rng)
        .expect("within every bound");
    grant.encode(&HERE)
}
