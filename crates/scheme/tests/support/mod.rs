//! One patient, one doctor at the sending hospital, one stored record with three sections, four
//! accounting nodes and a receiving doctor, all from a seed: what the protocol's and the attacks'
//! tests start from.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::too_many_arguments,
    unreachable_pub,
    reason = "each test file uses its own part of the fixture"
)]

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use scheme::*;

pub const HOMEPAGE: ClassCode = ClassCode::new(0);
pub const LABORATORY: ClassCode = ClassCode::new(3);
pub const IMAGING: ClassCode = ClassCode::new(4);

pub fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

pub fn consortium() -> ConsortiumId {
    ConsortiumId::new([0xc0; 32])
}

pub struct Patient {
    pub keys: PatientKeys,
    pub uid: Uid,
}

impl Patient {
    pub fn new(seed: u8) -> Self {
        let keys = PatientKeys::derive(
            &RootSeed::from_bytes([seed; 32]),
            KeyVersion::new(0),
            &consortium(),
        );
        Self {
            keys,
            uid: Uid::new(format!("R-{seed}").as_bytes()).unwrap(),
        }
    }

    pub fn pid(&self, doctor: &Doctor, episode: u64) -> Pid {
        self.keys
            .symmetric
            .doctor_subkey(&consortium(), doctor.institution, doctor.id)
            .pseudonym(&consortium(), &self.uid, EpisodeNumber::new(episode))
    }

    pub fn episode_key(&self, pid: &Pid) -> EpisodeKey {
        EpisodeKey::derive(&consortium(), &self.keys.ownership.public_key(), pid).unwrap()
    }
}

pub struct Doctor {
    pub key: SigningKey,
    pub sealing: SealingSecret,
    pub id: DoctorId,
    pub institution: InstitutionId,
}

impl Doctor {
    pub fn new(seed: u8, institution: u32) -> Self {
        Self {
            key: SigningKey::from_seed([seed; 32]),
            sealing: SealingSecret::from_bytes([seed ^ 0x55; 32]),
            id: DoctorId::new(u64::from(seed)),
            institution: InstitutionId::new(institution),
        }
    }

    pub fn author(&self) -> Author<'_> {
        Author {
            secret: &self.sealing,
            key: self.key.verifying_key(),
            institution: self.institution,
        }
    }
}

pub struct Hospital {
    pub y: WriterEpochKey,
    pub writer: Writer,
}

impl Hospital {
    pub fn new(seed: u8, institution: u32, epoch: u32) -> Self {
        Self {
            y: WriterEpochKey::random(&mut rng(seed)),
            writer: Writer {
                institution: InstitutionId::new(institution),
                epoch: WriterEpoch::new(epoch),
            },
        }
    }
}

/// A container and the transaction that records it.
pub struct Stored {
    pub container: Vec<u8>,
    pub header: Header,
    pub statement: RecordStatement,
    pub signature: Signature,
    pub locator_key: LocatorKey,
    pub delta: Delta,
}

pub fn plaintexts() -> Vec<(ClassCode, Vec<u8>)> {
    vec![
        (HOMEPAGE, b"name and address".to_vec()),
        (LABORATORY, vec![0x1a; 70_000]),
        (IMAGING, (0..200_000u32).map(|i| (i % 251) as u8).collect()),
    ]
}

pub fn seal(
    doctor: &Doctor,
    owner: &EncryptionPublicKey,
    pid: &Pid,
    sections: &[(ClassCode, Vec<u8>)],
    rng: &mut ChaCha20Rng,
) -> (Header, Vec<u8>) {
    let plans: Vec<SectionPlan> = sections
        .iter()
        .map(|(class, bytes)| SectionPlan {
            class: *class,
            length: bytes.len() as u64,
        })
        .collect();
    let sealing = Sealing::new(&consortium(), &doctor.author(), owner, pid, &plans, rng).unwrap();
    let mut out = sealing.header().encode();
    for (place, plan) in sealing.order().iter().enumerate() {
        let bytes = &sections
            .iter()
            .find(|(class, _)| *class == plan.class)
            .unwrap()
            .1;
        let mut sealer = sealing.section(place).unwrap();
        for piece in bytes.chunks(10_007) {
            sealer.update(piece, &mut out).unwrap();
        }
        sealer.finish(&mut out).unwrap();
    }
    (sealing.header().clone(), out)
}

pub fn store(
    patient: &Patient,
    doctor: &Doctor,
    hospital: &Hospital,
    pid: &Pid,
    keywords: &[(&str, u64)],
    sections: &[(ClassCode, Vec<u8>)],
    rng: &mut ChaCha20Rng,
) -> Stored {
    let here = consortium();
    let (header, container) = seal(
        doctor,
        &patient.keys.encryption.public_key(),
        pid,
        sections,
        rng,
    );
    let locator_key = LocatorKey::random(rng);
    let delta = Delta::random(rng);
    let owner_key = patient.episode_key(pid).blind(&delta).unwrap();
    let (digest, header_digest) = (sha256(&container), header.digest());
    let writer_key = hospital.y.public_key();

    let blindings: Vec<_> = keywords
        .iter()
        .map(|(word, _)| KeywordBlinding::new(&here, pid, hospital.writer, &keyword(word), rng))
        .collect();
    let raised: Vec<_> = blindings
        .iter()
        .map(|blinding| hospital.y.raise(&blinding.blinded()))
        .collect();
    let evaluated = unblind(&blindings, &raised, &writer_key, rng).unwrap();
    let mut entries: Vec<Entry> = evaluated
        .iter()
        .zip(keywords)
        .map(|(point, (_, position))| {
            let key = point.index_key(&patient.keys.search.public_key());
            key.entry(
                &here,
                Position::new(*position),
                &owner_key.compressed(),
                &locator_key,
            )
        })
        .collect();
    pad_entries(&mut entries, rng);
    let locator = Locator {
        address: Address::new([0xad; 32]),
        delta: delta.clone(),
    }
    .seal(
        &here,
        &locator_key,
        &LocatorBinding {
            writer_key: writer_key.compressed(),
            digest: &digest,
            header_digest: &header_digest,
            owner_key: owner_key.compressed(),
            author: &doctor.key.verifying_key(),
            institution: doctor.institution,
        },
    );
    let statement = RecordStatement {
        digest,
        header_digest,
        owner_key,
        locator,
        entries,
        writer_key,
        author: doctor.key.verifying_key(),
        institution: doctor.institution,
        time: Timestamp::new(1_790_000_000_000),
    };
    let signature = statement.sign(&here, &doctor.key);
    Stored {
        container,
        header,
        statement,
        signature,
        locator_key,
        delta,
    }
}

pub fn keyword(word: &str) -> Keyword {
    Keyword::new(word.as_bytes()).unwrap()
}

impl Stored {
    pub fn binding(&self) -> LocatorBinding<'_> {
        LocatorBinding {
            writer_key: self.statement.writer_key.compressed(),
            digest: &self.statement.digest,
            header_digest: &self.statement.header_digest,
            owner_key: self.statement.owner_key.compressed(),
            author: &self.statement.author,
            institution: self.statement.institution,
        }
    }

    pub fn open(&self, index: SectionIndex, key: &ContentKey) -> Result<Vec<u8>, OpenError> {
        open_section(&self.container, &self.header, index, key)
    }
}

pub fn open_section(
    container: &[u8],
    header: &Header,
    index: SectionIndex,
    key: &ContentKey,
) -> Result<Vec<u8>, OpenError> {
    let start = header.payload_offset(index) as usize;
    let end = start + header.payload_length(index) as usize;
    let mut opener = SectionOpener::new(header, index, key);
    let mut out = Vec::new();
    for piece in container[start..end.min(container.len())].chunks(7_001) {
        opener.update(piece, &mut out)?;
    }
    opener.finish()?;
    Ok(out)
}

pub struct Nodes {
    pub keys: Vec<SigningKey>,
    pub hpke: Vec<HpkePrivateKey>,
}

impl Nodes {
    pub fn new(count: u8) -> Self {
        Self {
            keys: (0..count)
                .map(|n| SigningKey::from_seed([0xa0 + n; 32]))
                .collect(),
            hpke: (0..count)
                .map(|n| HpkePrivateKey::derive(&[0xb0 + n; 32]))
                .collect(),
        }
    }

    pub fn list(&self) -> Vec<GrantNode> {
        self.keys
            .iter()
            .zip(&self.hpke)
            .map(|(key, hpke)| GrantNode {
                key: key.verifying_key(),
                hpke_key: hpke.public_key(),
            })
            .collect()
    }
}

pub struct Reader {
    pub access: SigningKey,
    pub hpke: HpkePrivateKey,
}

impl Reader {
    pub fn new(seed: u8) -> Self {
        Self {
            access: SigningKey::from_seed([seed; 32]),
            hpke: HpkePrivateKey::derive(&[seed ^ 1; 32]),
        }
    }

    pub fn grantee(&self) -> Grantee {
        Grantee {
            access_key: self.access.verifying_key(),
            hpke_key: self.hpke.public_key(),
        }
    }
}

pub fn terms(
    patient: &Patient,
    pid: &Pid,
    nodes: &Nodes,
    readers: &[&Reader],
    threshold: u8,
) -> GrantTerms {
    GrantTerms {
        episode_key: patient.episode_key(pid),
        revocation_key: SigningKey::from_seed([0xee; 32]).verifying_key(),
        request: b"the request of doctor B".to_vec(),
        grantees: readers.iter().map(|reader| reader.grantee()).collect(),
        not_before: Timestamp::new(1_790_000_000_000),
        expiry: Timestamp::new(1_790_007_200_000),
        validator_epoch: ValidatorEpoch::new(0),
        nodes: nodes.list(),
        threshold: Threshold::new(threshold).unwrap(),
    }
}

pub fn granted(patient: &Patient, pid: &Pid, classes: &[ClassCode]) -> Vec<GrantedClass> {
    classes
        .iter()
        .map(|class| GrantedClass {
            condition: ConditionKey::derive(&consortium(), &patient.keys.encryption, pid, *class),
            label_key: ClassLabelKey::derive(&consortium(), pid, *class),
        })
        .collect()
}

pub fn reach(patient: &Patient, pid: &Pid, writer: Writer, word: &str) -> Reach {
    Reach {
        trapdoors: vec![WriterTrapdoor {
            writer,
            trapdoor: Trapdoor::generate(
                &consortium(),
                &patient.keys.search,
                pid,
                writer,
                &keyword(word),
            ),
        }],
        entries: Vec::new(),
    }
}

pub fn grant(
    patient: &Patient,
    pid: &Pid,
    nodes: &Nodes,
    readers: &[&Reader],
    threshold: u8,
    classes: &[ClassCode],
    writer: Writer,
    rng: &mut ChaCha20Rng,
) -> (Grant, LogKey) {
    let key = EpisodeSigningKey::derive(&consortium(), &patient.keys.ownership, pid).unwrap();
    Grant::make(
        &consortium(),
        terms(patient, pid, nodes, readers, threshold),
        &granted(patient, pid, classes),
        &reach(patient, pid, writer, ""),
        &Granter::Patient(&key),
        rng,
    )
    .unwrap()
}
