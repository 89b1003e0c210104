//! The byte layouts of `spec/formats.md`, M1 to M19, M21, M25, M28 and M29: one encoding of each message is pinned, and
//! each decoder refuses what is not exactly as written there. Keys, times and randomness are fixed.
//!
//! A sealed message is tried by its plaintext: it is sealed anew to a key that the test holds and
//! opened by the party that opens it.
#![allow(clippy::unwrap_used)]

use core::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

use ledger::{GrantEntry, Height, KeyHash, StateRoot, TransactionId};
use parties::*;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;
use rand_core::{TryCryptoRng, TryRng};
use scheme::*;

/// Length and SHA-256 of each example. A change here changes what travels between parties, or what
/// they sign: then the version of the layout is to change with it.
const PINNED: [(&str, usize, &str); 39] = [
    (
        "M1 patient's certificate",
        401,
        "63c1598ea9b148d914add573677daa07f8063cb7415e8d4581b99a3887ec1709",
    ),
    (
        "M1 doctor's certificate",
        157,
        "e71b336f2ffa56ae4f5fb5a5a520a59f49c8ba18ef7debe582ebedfd31a4d714",
    ),
    (
        "M3 patient's enrolment",
        472,
        "187c9d25ae565b9cc858e411c86f92b620d98b7c4c52f9644ec22257563fcf15",
    ),
    (
        "M4 hand-over",
        513,
        "cb36c2860d3eb5bb4d8704a35a044b112e72f1668a98e1526c84c32b570ce303",
    ),
    (
        "M5 request",
        765,
        "7eda96a81646e3f366a61e3bb45d0c9e8ccd474613ae9f59f52a9baa1fbefe29",
    ),
    (
        "M6 forwarded request",
        785,
        "be88b7f8072a0706464f2dc0ae19b023300a2fbd4e6560797173901edbea9880",
    ),
    (
        "M7 receipt of a record",
        80,
        "1feef0e28a23b6f323ce102ea85d78473d94edc408c6819871583a9461ca3ac2",
    ),
    (
        "M8 storage receipt",
        144,
        "766948f807d944e2582c1260970a586bddd00be971c9fa6718d032dfc6a4eb9d",
    ),
    (
        "M9 grant package",
        289,
        "35782bf7486ab5db622261e5e6b99873d89512ea0d3200a477297921f57587cf",
    ),
    (
        "M10 user key",
        33,
        "eb00b59ba9c39139cb178cbde29266170911693b92d5508eb3a675185836c326",
    ),
    (
        "M10 writer epochs",
        5,
        "dc3098e400618330f38b19e9200adf7ffb96843fa83c491cf67f34a790bbcfe1",
    ),
    (
        "M10 grant",
        33,
        "1208cd6ae7d1b7bc65dace54c9c2d518a7a2a6c6114e5edc39564bebd688dd07",
    ),
    (
        "M10 records",
        61,
        "7c26d5dde4f4525c4d48b2e99e795cb3f8426e7bacf8a3110b0500dfb4db0712",
    ),
    (
        "M10 node keys",
        9,
        "850c1edafb48582d5e86b3e51bf539228fdafa4d8803f9f9691d757be776a196",
    ),
    (
        "M10 centre keys",
        1,
        "67586e98fad27da0b9968bc039a1ef34c939b9b8e523a8bef89d478608c5ecf6",
    ),
    (
        "M10 grant of",
        33,
        "80ec994fc38e51fe9dfdfcc206ab7553de94d48412e3ce3e5471e68991308306",
    ),
    (
        "M11 user key",
        16,
        "08189d7647c361aeffcacbfe5a7fc84bda965a47d769b7d0ab248bf630e5ca98",
    ),
    (
        "M11 writer epochs",
        204,
        "0727a8799c0d884b437c5a3e9655f7cf9cdc6109c1c3e4742244e479a9631c52",
    ),
    (
        "M11 grant",
        70,
        "6e770301d23442cbeff2c49552821fb4899ef70d253cd554346b97bc2f63afc5",
    ),
    (
        "M11 records",
        39,
        "2af20ecff4691cb2f949ab4a7fa3f5074eccdafd8821a5039d1587846c2aad3d",
    ),
    (
        "M11 node keys",
        73,
        "ce846308c7bac00efa12cbb84ff8bd7272243a84538af4f62e9cd7b185eb1510",
    ),
    (
        "M11 centre keys",
        124,
        "cda4dcc907484aed59c175d1450f74236ea6292d8553b121f1eaa0bcbc376e8d",
    ),
    (
        "M11 grant of",
        102,
        "d390c2582d2fa01dcc691ba8475e37020ff5410802201bd1766947094a5ef31f",
    ),
    (
        "M12 signed reply",
        128,
        "666197b43eb342070f5f87193033bf78a4840502cb4b9e1478e52d2f495b59a4",
    ),
    (
        "M13 search request",
        136,
        "a3c5d71a5e30294c32eb1fea2d912192f5358812a4f4d6257ddbb80678bccbc5",
    ),
    (
        "M14 sealed reply",
        128,
        "666197b43eb342070f5f87193033bf78a4840502cb4b9e1478e52d2f495b59a4",
    ),
    (
        "M14 hits",
        220,
        "0ada577a7a98c0d36ba1090a76ec2890f51316d7ed28609e2c26a5b9f0ea1a1b",
    ),
    (
        "M15 share request",
        196,
        "d534f573c3bccd592e071dc6eeb0826bc42924ffa3184f61c3b165356a3e78a0",
    ),
    (
        "M16 share answers",
        2487,
        "fef162f692e534fdc9dc105620729b16e7f418883b23caf8bc7b4cba6152302c",
    ),
    (
        "M17 container request",
        192,
        "1b1581f5a2201ceddadc56ea5aaf2432adf317711ca5e3093259e24112d8e37a",
    ),
    (
        "M18 grant request",
        128,
        "2b4ad9fbc9b84ec6f92814c9432686b8ac5fa28a0326531a9e89aaf2ad6b37f7",
    ),
    (
        "M19 appointment",
        599,
        "6e3965354620a20af8ef8daf42fc3b32cb11b2115b2ea7f979f37386075cba0a",
    ),
    (
        "M21 answer note",
        258,
        "3a3090ce18d5ab25441a05219b69d90c5413bef394f6fe8946914ee245abf914",
    ),
    (
        "M25 evidence of a wrong share",
        1909,
        "be379407dd487f50381f9bdf7c2d26cf5c7fb07e789377e136a357b7bfb4c955",
    ),
    (
        "M28 invitation",
        122,
        "0bb2763e0c40b4d78615e756a5ccd8e629ca92b8c75bf781cdbdd013438b003b",
    ),
    (
        "M28 part",
        292,
        "9aa8fd4028068221ff0b86b2b96bfd48f2b5b6bb6158303a50f42bbf6a754a12",
    ),
    (
        "M28 draft",
        639,
        "c6008c3fb83cdc284caf1e654c76305b87e58c19a44d3955c698fe26288fea03",
    ),
    (
        "M28 signature",
        98,
        "93e7430ad73c8950da94770ce1d1a41500147eaf7a222c1756abc67c73658b0f",
    ),
    (
        "M29 agent's act",
        239,
        "9de0ce1b951ddfae1f47161f88922d46138d20d15236e06297c244e4e1903d61",
    ),
];

#[test]
fn one_encoding_of_each_message_is_pinned() {
    let found: Vec<_> = FORMATS
        .iter()
        .map(|format| {
            let digest = sha256(&format.example).to_string();
            (format.name, format.example.len(), digest)
        })
        .collect();
    let pinned = PINNED.map(|(name, length, digest)| (name, length, digest.to_owned()));
    assert_eq!(found, pinned);
}

#[test]
fn what_is_encoded_decodes_to_itself() {
    for format in FORMATS.iter() {
        let again = (format.again)(&format.example);
        assert_eq!(again.as_ref(), Ok(&format.example), "{}", format.name);
    }
}

#[test]
fn a_message_that_is_cut_short_anywhere_is_refused() {
    for format in FORMATS.iter() {
        for length in 0..format.example.len() {
            let cut = &format.example[..length];
            assert!((format.again)(cut).is_err(), "{} at {length}", format.name);
        }
    }
}

#[test]
fn a_byte_behind_the_end_is_refused() {
    for format in FORMATS.iter() {
        for byte in [0, 1, 0xff] {
            let longer = [format.example.as_slice(), &[byte]].concat();
            assert!((format.again)(&longer).is_err(), "{}", format.name);
        }
    }
}

#[test]
fn counts_and_lengths_above_their_limit_are_refused_before_anything_is_read() {
    for format in FORMATS.iter() {
        for count in &format.counts {
            let Count { at, bytes, most } = *count;
            let place = at..at + bytes;
            let mut found = [0; 8];
            found[8 - bytes..].copy_from_slice(&format.example[place.clone()]);
            let found = u64::from_be_bytes(found);
            assert!(found <= most, "{}: no count stands at {at}", format.name);
            let largest = u64::MAX >> (64 - 8 * bytes);
            for above in [most + 1, largest] {
                let mut changed = format.example.clone();
                changed[place.clone()].copy_from_slice(&above.to_be_bytes()[8 - bytes..]);
                match (format.again)(&changed) {
                    Err(Refused::Decode(DecodeError::TooLarge { found, limit, .. })) => {
                        assert_eq!((found, limit), (above, most), "{} at {at}", format.name);
                    }
                    other => panic!("{} at {at}: {other:?}", format.name),
                }
            }
        }
    }
}

#[test]
fn a_flag_is_0_or_1() {
    for format in FORMATS.iter() {
        for at in &format.flags {
            assert!(format.example[*at] <= 1, "{}: no flag at {at}", format.name);
            for value in [2, 3, 0x80, 0xff] {
                let mut changed = format.example.clone();
                changed[*at] = value;
                let again = (format.again)(&changed);
                assert!(again.is_err(), "{} at {at}: {value}", format.name);
            }
        }
    }
}

/// An answer of as many records as were not asked for, and one whose writer epochs do not ascend,
/// answer nothing.
#[test]
fn an_answer_fits_its_question() {
    let asked = records_question(3);
    let short = Answer::Records(vec![None, None]).encode();
    assert!(Answer::decode(&asked, &short).is_err());
    let right = Answer::Records(vec![None, None, None]);
    assert_eq!(Answer::decode(&asked, &right.encode()).as_ref(), Ok(&right));

    let question = Question::WriterEpochs(HOSPITAL);
    let key = writer_key(1);
    for (one, other, stands) in [(0, 1, true), (1, 1, false), (2, 1, false)] {
        let epochs = [one, other].map(|epoch| (WriterEpoch::new(epoch), key.clone()));
        let answer = Answer::WriterEpochs(epochs.to_vec());
        let decoded = Answer::decode(&question, &answer.encode());
        assert_eq!(decoded.is_ok(), stands, "{one} {other}");
    }
}

/// M2: rebuilt from the specification, since only its signature travels.
#[test]
fn a_doctor_proves_possession_over_the_text_of_the_specification() {
    let doctor = doctor(11);
    let keys = *doctor.public_keys();
    let text = [
        [0, 0, 0, 6].as_slice(),
        b"doctor",
        &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 11],
        &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 4],
        &[0, 0, 0, 32],
        keys.signing.as_bytes(),
        &[0, 0, 0, 32],
        keys.hpke.as_bytes(),
    ]
    .concat();
    assert_eq!(text.len(), 118);
    let subject = Subject::new(1);
    let proof = doctor.prove_possession(subject);
    let signed = doctor_signing(11).sign(Context::Certificate, &HERE, &[&text]);
    assert_eq!(proof, signed);
    let mut centre = RegistrationCentre::new(HERE, centre(), Duration::from_secs(60));
    assert_eq!(centre.begin_enrolment(), subject);
    assert!(centre.certify_doctor(subject, keys, &proof, NOW).is_ok());
}

/// What each signature covers, rebuilt from the example's own bytes as the specification says.
#[test]
fn signatures_cover_what_the_specification_names() {
    let key = access_key();
    let signed_parts = |name: &str, at: usize, context, key: &SigningKey, parts: &[&[u8]]| {
        let signature = key.sign(context, &HERE, parts);
        let found = &named(name).example[at..at + 64];
        assert_eq!(found, signature.as_bytes(), "{name}");
    };
    for (name, length) in [
        ("M1 patient's certificate", 401),
        ("M1 doctor's certificate", 157),
    ] {
        let before = &named(name).example[..length - 64];
        signed_parts(
            name,
            length - 64,
            Context::Certificate,
            &centre(),
            &[before],
        );
    }

    let handover = &named("M4 hand-over").example;
    let (text, signature) = (&handover[4..465], &handover[465..]);
    let signature = BlsSignature::from_bytes(signature.try_into().unwrap()).unwrap();
    let owner = patient_public_keys().ownership;
    assert!(verify_handover(&HERE, &owner, text, &signature).is_ok());

    let before = &named("M5 request").example[..765 - 2 * 64];
    for (place, id) in [(2, 11), (1, 12)] {
        let at = 765 - place * 64;
        signed_parts(
            "M5 request",
            at,
            Context::Request,
            &doctor_signing(id),
            &[before],
        );
    }

    let receipt = &named("M8 storage receipt").example;
    let cloud = SigningKey::from_seed([0xc1; 32]);
    let (address, digest) = (&receipt[..32], &receipt[32..64]);
    let (length, time) = (&receipt[64..72], &receipt[72..80]);
    let parts = [b"storage", address, digest, length, time];
    signed_parts("M8 storage receipt", 80, Context::Receipt, &cloud, &parts);

    let reply = &named("M12 signed reply").example;
    let (question, node) = (
        &named("M10 user key").example,
        SigningKey::from_seed([0x70; 32]),
    );
    let (height, root, answer) = (&reply[4..12], &reply[12..44], &reply[48..64]);
    let parts = [question.as_slice(), height, root, answer];
    signed_parts("M12 signed reply", 64, Context::Reply, &node, &parts);

    let search = &named("M13 search request").example;
    let parts = [b"search".as_slice(), &search[..32], &search[32..40]];
    signed_parts("M13 search request", 72, Context::Reading, &key, &parts);

    let share = &named("M15 share request").example;
    let parts = [b"share".as_slice(), &share[..132]];
    signed_parts("M15 share request", 132, Context::Reading, &key, &parts);

    let container = &named("M17 container request").example;
    let (gid, access, record) = (&container[..32], &container[32..64], &container[64..96]);
    let parts = [b"container".as_slice(), gid, access, record];
    signed_parts("M17 container request", 128, Context::Reading, &key, &parts);

    let grant = &named("M18 grant request").example;
    let parts = [b"grant".as_slice(), &grant[..32]];
    signed_parts("M18 grant request", 64, Context::Reading, &key, &parts);
}

/// Nothing that the hand-over holds can be changed: a change breaks its signature, if not its layout.
#[test]
fn a_hand_over_that_was_changed_anywhere_is_refused() {
    let format = named("M4 hand-over");
    for at in 0..format.example.len() {
        let mut changed = format.example.clone();
        changed[at] ^= 1;
        assert!((format.again)(&changed).is_err(), "at {at}");
    }
}

/// A team of 32 doctors fits with up to seven access keys each; one more key is refused when the
/// request is made, not only when it arrives.
#[test]
fn a_request_that_is_too_long_is_refused_when_it_is_made() {
    let team = |access_keys: u8| {
        let members = (0..32).map(|number| Member {
            certificate: doctor_certificate(u64::from(number) + 100),
            access_keys: (0..access_keys)
                .map(|place| VerifyingKey::new([place; 32]))
                .collect(),
            hpke_key: HpkePublicKey::new([number; 32]),
        });
        UnsignedRequest::new(terms(), members.collect())
    };
    let request = team(7).unwrap();
    let signature = Signature::new([0; 64]);
    let request = request.complete(vec![signature; 32]).unwrap();
    let bytes = request.encode();
    assert!(bytes.len() <= REQUEST_BYTES_MAX);
    assert_eq!(AccessRequest::decode(&bytes).as_ref(), Ok(&request));
    assert!(matches!(
        team(8),
        Err(DecodeError::TooLarge { limit, .. }) if limit == REQUEST_BYTES_MAX as u64
    ));
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(0x77_69_6c_6c_69_73),
        ..ProptestConfig::with_cases(256)
    })]

    #[test]
    fn random_bytes_never_panic_and_have_one_encoding(
        bytes in proptest::collection::vec(any::<u8>(), 0..700),
    ) {
        for format in FORMATS.iter() {
            if let Ok(again) = (format.again)(&bytes) {
                prop_assert_eq!(&again, &bytes, "{}", format.name);
            }
        }
    }

    /// Near what is valid: a few bytes of an example changed, taken out or put in.
    #[test]
    fn changed_messages_never_panic_and_have_one_encoding(
        format in any::<Index>(),
        edits in proptest::collection::vec((any::<Index>(), any::<u8>(), 0..6_u8), 1..4),
    ) {
        let format = format.get(&FORMATS);
        let mut bytes = format.example.clone();
        for (at, value, how) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, value),
                2 => drop(bytes.remove(at)),
                3 => bytes[at] ^= 1 << (value % 8),
                _ => bytes[at] = value,
            }
        }
        if let Ok(again) = (format.again)(&bytes) {
            prop_assert_eq!(&again, &bytes, "{}", format.name);
        }
    }
}

/// Why bytes are no message.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    Decode(DecodeError),
    Otherwise(String),
}

impl From<DecodeError> for Refused {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

type Again = Box<dyn Fn(&[u8]) -> Result<Vec<u8>, Refused> + Send + Sync>;

/// A count or length in an example, `bytes` wide.
#[derive(Clone, Copy)]
struct Count {
    at: usize,
    bytes: usize,
    most: u64,
}

/// One message.
struct Format {
    name: &'static str,
    example: Vec<u8>,
    /// Decodes and encodes again. A hand-over and an appointment, of which the party that opens them
    /// keeps no encoding, come back as they were if they are accepted.
    again: Again,
    counts: Vec<Count>,
    flags: Vec<usize>,
}

impl Format {
    fn new(
        name: &'static str,
        example: Vec<u8>,
        again: impl Fn(&[u8]) -> Result<Vec<u8>, Refused> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            example,
            again: Box::new(again),
            counts: Vec::new(),
            flags: Vec::new(),
        }
    }

    fn count(mut self, at: usize, bytes: usize, most: u64) -> Self {
        self.counts.push(Count { at, bytes, most });
        self
    }

    fn flag(mut self, at: usize) -> Self {
        self.flags.push(at);
        self
    }
}

static FORMATS: LazyLock<Vec<Format>> = LazyLock::new(|| {
    let mut all = Vec::from(certificates());
    all.extend([enrolment(), handover()]);
    all.extend(requests());
    all.extend([stored_receipt(), storage_receipt(), grant_package()]);
    all.extend(questions());
    all.extend(answers());
    all.extend([reply(), search_request(), sealed_reply(), hits()]);
    all.extend([share_request(), share_answers()]);
    all.extend([
        container_request(),
        grant_request(),
        appointment(),
        answer_note(),
        share_evidence(),
    ]);
    all.extend(colleague_messages());
    all.push(agent_act());
    all
});

fn named(name: &str) -> &'static Format {
    FORMATS.iter().find(|format| format.name == name).unwrap()
}

const HERE: ConsortiumId = ConsortiumId::new([1; 32]);
const HOSPITAL: InstitutionId = InstitutionId::new(4);
const NOW: Timestamp = Timestamp::new(1_700_000_000_000);
const LATER: Timestamp = Timestamp::new(1_700_003_600_000);
const GID: GrantId = GrantId::new([0x91; 32]);
const OF: InTransaction = InTransaction {
    access: TransactionId::new([0x92; 32]),
    record: TransactionId::new([0x93; 32]),
};
const HANDLE: InboxHandle = InboxHandle::new([0x4a; 16]);
const SALT: [u8; 16] = [0x4b; 16];

/// Randomness that is one byte over and over: what is made of it does not depend on the order in
/// which it is drawn.
struct Constant(u8);

impl TryRng for Constant {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes([self.0; 4]))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes([self.0; 8]))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(self.0);
        Ok(())
    }
}

impl TryCryptoRng for Constant {}

fn centre() -> SigningKey {
    SigningKey::from_seed([2; 32])
}

fn access_key() -> SigningKey {
    SigningKey::from_seed([0x61; 32])
}

fn patient_keys() -> PatientKeys {
    let seed = RootSeed::from_bytes([5; 32]);
    PatientKeys::derive(&seed, KeyVersion::new(0), &HERE)
}

fn patient() -> Patient {
    let (centre, seed) = (
        CentreKeys::founding(centre().verifying_key()),
        RootSeed::from_bytes([5; 32]),
    );
    let mut patient = Patient::new(HERE, centre, &seed, KeyVersion::new(0), &mut Constant(0x4a));
    patient
        .accept_certificate(patient_certificate(), NOW)
        .unwrap();
    assert_eq!(patient.inbox().0, HANDLE);
    patient
}

fn patient_public_keys() -> PatientPublicKeys {
    let keys = patient_keys();
    PatientPublicKeys {
        encryption: keys.encryption.public_key(),
        search: keys.search.public_key(),
        ownership: keys.ownership.public_key(),
        inbox: keys.inbox.public_key(),
    }
}

fn patient_certificate() -> Certificate {
    let holder = Holder::Patient(Box::new(patient_public_keys()));
    Certificate::issue(&HERE, &centre(), Subject::new(7), holder, LATER)
}

/// A doctor whose keys are all made of one byte, so that the test holds them too.
fn doctor(id: u64) -> Doctor {
    let centre = CentreKeys::founding(centre().verifying_key());
    let mut rng = Constant(id as u8);
    let doctor = Doctor::new(HERE, centre, DoctorId::new(id), HOSPITAL, &mut rng);
    assert_eq!(
        doctor.public_keys().signing,
        doctor_signing(id).verifying_key()
    );
    assert_eq!(doctor.public_keys().hpke, doctor_hpke(id).public_key());
    doctor
}

fn doctor_signing(id: u64) -> SigningKey {
    SigningKey::from_seed([id as u8; 32])
}

fn doctor_hpke(id: u64) -> HpkePrivateKey {
    HpkePrivateKey::derive(&[id as u8; 32])
}

fn doctor_certificate(id: u64) -> Certificate {
    let holder = Holder::Doctor(*doctor(id).public_keys());
    Certificate::issue(&HERE, &centre(), Subject::new(id), holder, LATER)
}

/// A doctor's key as a client believes it: in force, for this use.
fn agreed(hash: KeyHash, usage: u8, doctor: u64) -> AgreedKey {
    let answer = user_key_answer(usage, doctor);
    let question = Question::UserKey(hash).encode();
    AgreedKey::from_reply(hash, &signed_reply(&question, answer))
        .unwrap()
        .unwrap()
}

fn user_key_answer(usage: u8, doctor: u64) -> Vec<u8> {
    Encoder::new()
        .u8(1)
        .u8(usage)
        .u8(1)
        .u32(HOSPITAL.number())
        .u64(doctor)
        .u8(1)
        .finish()
}

fn signed_reply(question: &[u8], answer: Vec<u8>) -> Reply {
    let (node, root) = (
        SigningKey::from_seed([0x70; 32]),
        StateRoot::new([0x71; 32]),
    );
    Reply::sign(
        &HERE,
        HOSPITAL,
        &node,
        question,
        Height::new(77),
        root,
        answer,
    )
}

fn writer_key(number: u8) -> WriterEpochPublicKey {
    let mut scalar = [0; 32];
    scalar[31] = number;
    WriterEpochKey::from_bytes(&scalar).unwrap().public_key()
}

fn delta() -> Delta {
    Delta::from_bytes(&[0x21; 32]).unwrap()
}

/// An element of GT and a point of G1 that depend on keys alone: e(RK, g2) and RK, shared among one.
fn elements() -> ([u8; ReEncryptedShare::BYTES], [u8; Share::BYTES]) {
    let pid = Pid::from_bytes([0x50; 32]);
    let class = ClassCode::new(4);
    let condition = ConditionKey::derive(&HERE, &patient_keys().encryption, &pid, class);
    let seed = MaskSeed::from_bytes([0x51; 32]);
    let key =
        ReEncryptionKey::generate(&HERE, &GID, &condition, &seed, ClassPlace::new(0)).unwrap();
    let (shares, commitments) = key
        .share(Threshold::new(1).unwrap(), 1, &mut Constant(0))
        .unwrap();
    (commitments.to_bytes()[0], shares[0].expose_bytes())
}

fn certificates() -> [Format; 2] {
    let again = |bytes: &[u8]| Ok(Certificate::decode(bytes)?.encode());
    [
        Format::new(
            "M1 patient's certificate",
            patient_certificate().encode(),
            again,
        ),
        Format::new(
            "M1 doctor's certificate",
            doctor_certificate(11).encode(),
            again,
        ),
    ]
}

fn enrolment() -> Format {
    let example = patient().enrol(Subject::new(7)).encode();
    assert_eq!(example.len(), PatientEnrolment::BYTES);
    Format::new("M3 patient's enrolment", example, |bytes| {
        Ok(PatientEnrolment::decode(bytes)?.encode())
    })
}

fn handover() -> Format {
    let hash = KeyHash::from(doctor(11).public_keys().hpke.hash());
    let uid = Uid::new(b"a uid").unwrap();
    let (_, sealed) = patient()
        .begin_episode(
            &doctor_certificate(11),
            &agreed(hash, 5, 11),
            uid.clone(),
            NOW,
            &mut Constant(0x0a),
        )
        .unwrap();
    let subject = enc(&[&4_u64.to_be_bytes(), uid.as_bytes()]);
    let example = doctor_hpke(11)
        .open(Purpose::Handover, &HERE, &subject, &sealed)
        .unwrap()
        .to_vec();
    let doctor = doctor(11);
    let again = move |bytes: &[u8]| {
        let sealed = doctor
            .public_keys()
            .hpke
            .seal(Purpose::Handover, &HERE, &subject, bytes, &mut Constant(1))
            .unwrap();
        match doctor.accept_handover(&sealed, &uid, NOW) {
            Ok(episode) => {
                assert_eq!(episode.keys, patient_public_keys());
                assert_eq!((episode.inbox, episode.episode.number()), (HANDLE, 0));
                Ok(bytes.to_vec())
            }
            Err(HandoverError::Malformed(error)) => Err(Refused::Decode(error)),
            Err(error) => Err(Refused::Otherwise(error.to_string())),
        }
    };
    Format::new("M4 hand-over", example, again)
        .count(0, 4, 1_024)
        .count(4 + 32 + 8 + 16, 4, 512)
}

fn terms() -> RequestTerms {
    RequestTerms {
        institution: HOSPITAL,
        inbox: HANDLE.commit(&HERE, &SALT),
        classes: [1, 4, 5].map(ClassCode::new).to_vec(),
        purpose: "acute stroke, thrombectomy?".into(),
        nonce: [0x33; 32],
        time: NOW,
        not_after: LATER,
    }
}

/// Of two doctors, with two access keys each.
fn request() -> AccessRequest {
    let members = [11, 12].map(|id| Member {
        certificate: doctor_certificate(id),
        access_keys: [0x61, 0x62]
            .map(|seed| SigningKey::from_seed([seed ^ id as u8; 32]).verifying_key())
            .to_vec(),
        hpke_key: HpkePrivateKey::derive(&[0x80 ^ id as u8; 32]).public_key(),
    });
    let unsigned = UnsignedRequest::new(terms(), members.to_vec()).unwrap();
    let signatures = [11, 12].map(|id| unsigned.sign(&HERE, &doctor_signing(id)));
    unsigned.complete(signatures.to_vec()).unwrap()
}

fn requests() -> [Format; 2] {
    let example = request().encode();
    let again = |bytes: &[u8]| Ok(AccessRequest::decode(bytes)?.encode());
    let (classes, purpose) = (1 + 4 + 32, 1 + 4 + 32 + 1 + 3);
    let members = purpose + 4 + 27 + 32 + 8 + 8;
    let plain = Format::new("M5 request", example, again)
        .count(classes, 1, 32)
        .count(purpose, 4, 256)
        .count(members, 1, 32)
        .count(members + 1, 4, 512)
        .count(members + 1 + 4 + 157 + 32, 1, 8);

    let keys = patient_keys();
    let mut manager = QueryManager::new(HERE, CentreKeys::founding(centre().verifying_key()), 0);
    manager.open_inbox(HANDLE, keys.inbox.public_key()).unwrap();
    let examined = manager
        .examine(&request().encode(), HANDLE, SALT, NOW)
        .unwrap();
    let in_force = [11, 12].map(|id| {
        let hash = KeyHash::of(&doctor_signing(id).verifying_key());
        agreed(hash, 4, id)
    });
    let forwarded = manager
        .forward(examined, &in_force, &mut Constant(3))
        .unwrap();
    let example = keys
        .inbox
        .open(
            Purpose::Request,
            &HERE,
            HANDLE.as_bytes(),
            &forwarded.sealed,
        )
        .unwrap()
        .to_vec();
    let again = move |bytes: &[u8]| {
        let sealed = keys
            .inbox
            .public_key()
            .seal(
                Purpose::Request,
                &HERE,
                HANDLE.as_bytes(),
                bytes,
                &mut Constant(1),
            )
            .unwrap();
        match open_forwarded(&HERE, &HANDLE, &keys.inbox, &sealed) {
            Ok((request, salt)) => Ok(Encoder::new().bytes(&salt).var(&request.encode()).finish()),
            Err(ForwardError::Malformed(error)) => Err(Refused::Decode(error)),
            Err(error) => Err(Refused::Otherwise(error.to_string())),
        }
    };
    let forwarded = Format::new("M6 forwarded request", example, again).count(16, 4, 16_384);
    [plain, forwarded]
}

fn stored_receipt() -> Format {
    let keys = patient_keys();
    let pid = Pid::from_bytes([0x50; 32]);
    let statement = RecordStatement {
        digest: Digest::new([0x22; 32]),
        header_digest: Digest::new([0x23; 32]),
        owner_key: OwnerKey::from_bytes(keys.ownership.public_key().as_bytes()).unwrap(),
        locator: SealedLocator::new([0x24; 80]),
        entries: Vec::new(),
        writer_key: writer_key(1),
        author: doctor_signing(11).verifying_key(),
        institution: HOSPITAL,
        time: NOW,
    };
    let record = OwnRecord {
        transaction: TransactionId::new([0x25; 32]),
        statement,
        signature: Signature::new([0x26; 64]),
        locator_key: LocatorKey::from_bytes([0x27; 16]),
        delta: delta(),
        address: Address::new([0x28; 32]),
    };
    let episode = PatientEpisode {
        pid,
        keys: patient_public_keys(),
        uid: Uid::new(b"a uid").unwrap(),
        episode: EpisodeNumber::new(0),
        inbox: HANDLE,
    };
    let sealed = doctor(11)
        .receipt(&episode, &record, &mut Constant(3))
        .unwrap();
    let example = keys
        .inbox
        .open(Purpose::Receipt, &HERE, HANDLE.as_bytes(), &sealed)
        .unwrap()
        .to_vec();
    let patient = patient();
    Format::new("M7 receipt of a record", example, move |bytes| {
        let sealed = patient
            .inbox_key()
            .seal(
                Purpose::Receipt,
                &HERE,
                HANDLE.as_bytes(),
                bytes,
                &mut Constant(1),
            )
            .unwrap();
        match patient.open_receipt(&sealed) {
            Ok(receipt) => Ok(Encoder::new()
                .bytes(receipt.transaction.as_bytes())
                .bytes(receipt.locator_key.expose_bytes())
                .bytes(receipt.delta.expose_bytes().as_slice())
                .finish()),
            Err(PatientError::Malformed(error)) => Err(Refused::Decode(error)),
            Err(error) => Err(Refused::Otherwise(error.to_string())),
        }
    })
}

fn storage_receipt() -> Format {
    let cloud = CloudServer::new(HERE, SigningKey::from_seed([0xc1; 32]));
    let (address, digest) = (Address::new([0x28; 32]), Digest::new([0x22; 32]));
    let example = cloud.receipt(address, digest, 150_000, NOW).encode();
    assert_eq!(example.len(), StorageReceipt::BYTES);
    Format::new("M8 storage receipt", example, |bytes| {
        Ok(StorageReceipt::decode(bytes)?.encode())
    })
}

fn grant_package() -> Format {
    let revocation = SigningKey::from_seed([0x64; 32]);
    let grant = vec![0x65; 100];
    let mut access_keys = vec![
        access_key().verifying_key(),
        SigningKey::from_seed([0x62; 32]).verifying_key(),
    ];
    access_keys.sort_unstable();
    let entry = GrantEntry {
        revocation_key: revocation.verifying_key(),
        grant: sha256(&grant),
        epoch: ValidatorEpoch::new(7),
        not_before: NOW,
        expiry: LATER,
        access_keys,
    };
    let signature = entry.sign(&HERE, &revocation);
    let example = GrantPackage {
        grant,
        entry,
        signature,
    }
    .encode();
    Format::new("M9 grant package", example, |bytes| {
        Ok(GrantPackage::decode(bytes)?.encode())
    })
    .count(0, 4, 4 * 1024 * 1024)
    .count(4 + 100 + 8 + 8 + 8 + 32, 1, 32)
}

fn records_question(count: u8) -> Question {
    Question::Records {
        institution: HOSPITAL,
        epoch: WriterEpoch::new(2),
        tags: (0..count).map(|number| Tag::new([number; 16])).collect(),
    }
}

fn questions() -> [Format; 7] {
    let format = |name, question: Question| {
        Format::new(name, question.encode(), |bytes| {
            Ok(Question::decode(bytes)?.encode())
        })
    };
    [
        format("M10 user key", Question::UserKey(KeyHash::new([0x81; 32]))),
        format("M10 writer epochs", Question::WriterEpochs(HOSPITAL)),
        format("M10 grant", Question::Grant(GID)),
        format("M10 records", records_question(3)).count(9, 4, 1_024),
        format("M10 node keys", Question::NodeKeys(ValidatorEpoch::new(6))),
        format("M10 centre keys", Question::CentreKeys),
        format(
            "M10 grant of",
            Question::GrantOf(access_key().verifying_key()),
        ),
    ]
}

/// Three keys of the centre that stand like this and became current at these heights.
fn centre_keys_answer(standings: [u8; 3], heights: [u64; 3]) -> Vec<u8> {
    let mut out = Encoder::new();
    out.u8(3);
    for (number, (standing, height)) in (0u8..).zip(standings.into_iter().zip(heights)) {
        out.bytes(&[0x90 + number; 32]).u64(height).u8(standing);
    }
    out.finish()
}

/// An answer about the centre's keys ends with the current one, and no other is that.
#[test]
fn the_centres_current_key_is_the_last_one() {
    let decode = |bytes: &[u8]| Answer::decode(&Question::CentreKeys, bytes);
    assert!(decode(&centre_keys_answer([1, 1, 0], [0, 9, 9])).is_ok());
    for (standings, heights) in [
        ([1, 0, 1], [0, 8, 9]),
        ([0, 1, 0], [0, 8, 9]),
        ([1, 1, 2], [0, 8, 9]),
        ([1, 3, 0], [0, 8, 9]),
        ([1, 1, 0], [0, 9, 8]),
    ] {
        assert!(decode(&centre_keys_answer(standings, heights)).is_err());
    }
    assert!(decode(&[0]).is_err());
}

fn answers() -> [Format; 7] {
    let format = |name, question: Question, example| {
        Format::new(name, example, move |bytes| {
            Ok(Answer::decode(&question, bytes)?.encode())
        })
    };
    let grant = Encoder::new()
        .u8(1)
        .bytes(&[0x82; 32])
        .u64(NOW.number())
        .u64(LATER.number())
        .u64(77)
        .u64(6)
        .u32(HOSPITAL.number())
        .u8(0)
        .finish();
    let grant_of = [&[1], GID.as_bytes().as_slice(), &grant[1..]].concat();
    let epochs = Answer::WriterEpochs(vec![
        (WriterEpoch::new(0), writer_key(1)),
        (WriterEpoch::new(2), writer_key(2)),
    ]);
    let records = Answer::Records(vec![None, Some(OF.record), None]);
    let keys = Answer::NodeKeys(vec![
        (HOSPITAL, HpkePublicKey::new([0x83; 32])),
        (InstitutionId::new(1), HpkePublicKey::new([0x84; 32])),
    ]);
    [
        format(
            "M11 user key",
            Question::UserKey(KeyHash::new([0x81; 32])),
            user_key_answer(4, 11),
        )
        .flag(0)
        .flag(15),
        format(
            "M11 writer epochs",
            Question::WriterEpochs(HOSPITAL),
            epochs.encode(),
        )
        .count(0, 4, 4_096),
        format("M11 grant", Question::Grant(GID), grant)
            .flag(0)
            .flag(69),
        format("M11 records", records_question(3), records.encode())
            .count(0, 4, 1_024)
            .flag(4)
            .flag(5)
            .flag(38),
        format(
            "M11 node keys",
            Question::NodeKeys(ValidatorEpoch::new(6)),
            keys.encode(),
        ),
        format(
            "M11 centre keys",
            Question::CentreKeys,
            centre_keys_answer([1, 2, 0], [0, 9, 9]),
        )
        .count(0, 1, 64),
        format(
            "M11 grant of",
            Question::GrantOf(access_key().verifying_key()),
            grant_of,
        )
        .flag(0)
        .flag(101),
    ]
}

fn example_reply() -> Vec<u8> {
    let question = Question::UserKey(KeyHash::new([0x81; 32])).encode();
    signed_reply(&question, user_key_answer(4, 11)).encode()
}

fn reply() -> Format {
    Format::new("M12 signed reply", example_reply(), |bytes| {
        Ok(Reply::decode(bytes)?.encode())
    })
    .count(44, 4, 512 * 1024)
}

fn sealed_reply() -> Format {
    let key = HpkePrivateKey::derive(&[0x66; 32]);
    Format::new("M14 sealed reply", example_reply(), move |bytes| {
        let sealed = key
            .public_key()
            .seal(
                Purpose::Reply,
                &HERE,
                GID.as_bytes(),
                bytes,
                &mut Constant(1),
            )
            .unwrap();
        Ok(SealedReply(sealed).open(&HERE, &GID, &key)?.encode())
    })
    .count(44, 4, 512 * 1024)
}

fn search_request() -> Format {
    let example = SearchRequest::sign(&HERE, GID, Height::new(77), &access_key()).encode();
    assert_eq!(example.len(), SearchRequest::BYTES);
    Format::new("M13 search request", example, |bytes| {
        Ok(SearchRequest::decode(bytes)?.encode())
    })
}

fn hits() -> Format {
    let hit = |place, position| Hit {
        place,
        position,
        transaction: OF.record,
        locator: Locator {
            address: Address::new([0x28; 32]),
            delta: delta(),
        },
    };
    let example = Hits(vec![hit(0, 3), hit(2, 0)]).encode();
    Format::new("M14 hits", example, |bytes| {
        Ok(Hits::decode(bytes)?.encode())
    })
    .count(0, 4, 4_096)
}

fn share_request() -> Format {
    let classes = [0, 2].map(ClassPlace::new).to_vec();
    let example =
        ShareRequest::sign(&HERE, GID, OF, classes, WantProof::Yes, &access_key()).encode();
    Format::new("M15 share request", example, |bytes| {
        Ok(ShareRequest::decode(bytes)?.encode())
    })
    .count(96, 1, 32)
    .flag(96 + 1 + 2)
}

fn share_answer(class: u8, proof: Option<ShareProof>) -> ShareAnswer {
    let (share, _) = elements();
    ShareAnswer {
        class: ClassPlace::new(class),
        node: NodeNumber::new(3).unwrap(),
        share: ReEncryptedShare::from_bytes(&share).unwrap(),
        signature: Signature::new([0x67; 64]),
        proof,
    }
}

fn share_proof() -> ShareProof {
    let (share, z) = elements();
    ShareProof::from_bytes(&[share.as_slice(), &share, &z].concat()).unwrap()
}

/// Its grant and header are looked at only when it is verified.
fn share_evidence() -> Format {
    let answer = share_answer(2, Some(share_proof()));
    let evidence = ShareEvidence::new(OF.record, vec![0x68; 20], vec![0x69; 5], answer);
    Format::new(
        "M25 evidence of a wrong share",
        evidence.encode(),
        |bytes| Ok(ShareEvidence::decode(bytes)?.encode()),
    )
    .count(32, 4, GRANT_BYTES_MAX as u64)
    .count(32 + 4 + 20, 4, HEADER_BYTES_MAX as u64)
    .flag(32 + 4 + 20 + 4 + 5 + 1 + 1 + 1 + 576 + 64)
}

fn share_answers() -> Format {
    let examples = [share_answer(0, None), share_answer(2, Some(share_proof()))];
    let example = ShareAnswer::encode_all(&examples);
    let one = 1 + 1 + 576 + 64;
    Format::new("M16 share answers", example, |bytes| {
        Ok(ShareAnswer::encode_all(&ShareAnswer::decode_all(bytes)?))
    })
    .count(0, 1, 32)
    .flag(1 + one)
    .flag(1 + one + 1 + one)
}

fn container_request() -> Format {
    let example = ContainerRequest::sign(&HERE, GID, OF, &access_key()).encode();
    Format::new("M17 container request", example, |bytes| {
        Ok(ContainerRequest::decode(bytes)?.encode())
    })
}

fn grant_request() -> Format {
    let example = GrantRequest::sign(&HERE, GID, &access_key()).encode();
    Format::new("M18 grant request", example, |bytes| {
        Ok(GrantRequest::decode(bytes)?.encode())
    })
}

fn colleague_messages() -> [Format; 4] {
    let again = |bytes: &[u8]| Ok(TeamMessage::decode(bytes)?.encode());
    let unsigned = || request().unsigned_unverified().clone();
    let example = |message: TeamMessage| message.encode();
    let member = Box::new(unsigned().members()[1].clone());
    let terms = 2 + 1;
    let (classes, purpose) = (terms + 4 + 32, terms + 4 + 32 + 1 + 3);
    let invitation = TeamMessage::Invitation(Invitation {
        terms: self::terms(),
        grants: 2,
    });
    let nonce = self::terms().nonce;
    let draft = sha256(&unsigned().encode());
    let signature = Signature::new([0x29; 64]);
    let (in_draft, names) = (2 + 1 + 4 + 32, 2 + 1 + 4 + 32 + 1 + 3);
    let doctors = names + 4 + 27 + 32 + 8 + 8;
    [
        Format::new("M28 invitation", example(invitation), again)
            .count(2, 1, 8)
            .count(classes, 1, 32)
            .count(purpose, 4, 256),
        Format::new(
            "M28 part",
            example(TeamMessage::Part { nonce, member }),
            again,
        )
        .count(2 + 32, 4, 512)
        .count(2 + 32 + 4 + 157 + 32, 1, 8),
        Format::new(
            "M28 draft",
            example(TeamMessage::Draft(Box::new(unsigned()))),
            again,
        )
        .count(in_draft, 1, 32)
        .count(names, 4, 256)
        .count(doctors, 1, 32)
        .count(doctors + 1, 4, 512)
        .count(doctors + 1 + 4 + 157 + 32, 1, 8),
        Format::new(
            "M28 signature",
            example(TeamMessage::Signature { draft, signature }),
            again,
        ),
    ]
}

fn answer_note() -> Format {
    let note = AnswerNote::Revoked(vec![GID, GrantId::new([0x77; 32])]);
    Format::new("M21 answer note", note.encode().unwrap(), |bytes| {
        Ok(AnswerNote::decode(bytes)?.encode()?)
    })
    .flag(0)
    .count(1, 1, 8)
}

/// A note that names no grant or one twice, and one whose room holds something, is none.
#[test]
fn an_answer_note_names_distinct_grants_and_nothing_else() {
    let gid = |byte| GrantId::new([byte; 32]);
    let note = |grants: &[GrantId]| AnswerNote::Granted(grants.to_vec()).encode();
    let all: Vec<_> = (1..=9).map(gid).collect();
    assert!(note(&all[..8]).is_ok());
    for wrong in [&all[..], &[], &[gid(1), gid(2), gid(1)]] {
        assert!(note(wrong).is_err());
    }
    let right = note(&all[..2]).unwrap();
    let mut none = right.clone();
    none[1] = 0;
    assert!(AnswerNote::decode(&none).is_err());
    let mut twice = right.clone();
    twice.copy_within(2..34, 34);
    assert!(AnswerNote::decode(&twice).is_err());
    for place in [66, 257] {
        let mut room = right.clone();
        room[place] = 1;
        assert!(AnswerNote::decode(&room).is_err());
    }
}

/// A patient with an episode and an appointment for classes 1 and 4 of it, until [`LATER`].
fn appointing() -> (Patient, AppointmentId) {
    let mut patient = patient();
    let hash = KeyHash::from(doctor(11).public_keys().hpke.hash());
    let uid = Uid::new(b"a uid").unwrap();
    let (certificate, key) = (doctor_certificate(11), agreed(hash, 5, 11));
    let begun = patient.begin_episode(&certificate, &key, uid, NOW, &mut Constant(0x0a));
    let place = begun.unwrap().0;
    let epochs = AgreedWriterEpochs {
        institution: HOSPITAL,
        epochs: vec![(WriterEpoch::new(0), writer_key(1))],
    };
    let centre = CentreKeys::founding(centre().verifying_key());
    let offer = FamilyAgent::new(HERE, centre, &mut Constant(0x0f)).offer();
    let scope = [1, 4].map(ClassCode::new);
    let made = patient.appoint(place, &offer, &scope, LATER, &epochs, &mut Constant(0x0b));
    (patient, made.unwrap().0)
}

/// As `spec/formats.md` writes it.
fn act_of(classes: &[u8], expiry: Timestamp) -> Vec<u8> {
    let mut out = Encoder::new();
    out.u8(1)
        .bytes(&[0x51; 32])
        .bytes(&[0x52; 32])
        .u64(expiry.number())
        .bytes(&[0x53; 32])
        .u32(1)
        .bytes(doctor_signing(11).verifying_key().as_bytes())
        .bytes(&[0x54; 32])
        .u64(NOW.number())
        .var(b"stroke")
        .u8(classes.len() as u8)
        .bytes(classes)
        .u8(1)
        .u64(11)
        .u32(HOSPITAL.number())
        .bytes(&[0x55; 32]);
    out.finish()
}

fn open_act(bytes: &[u8]) -> Result<OpenedAct, PatientError> {
    let (patient, id) = appointing();
    let subject = id.as_bytes();
    let key = patient.inbox_key();
    let sealed = key.seal(Purpose::AgentAct, &HERE, subject, bytes, &mut Constant(1));
    patient.open_act(&sealed.unwrap())
}

fn agent_act() -> Format {
    let again = |bytes: &[u8]| match open_act(bytes) {
        Ok(_) => Ok(bytes.to_vec()),
        Err(PatientError::Malformed(error)) => Err(Refused::Decode(error)),
        Err(error) => Err(Refused::Otherwise(error.to_string())),
    };
    let recipients = 1 + 32 + 32 + 8 + 32;
    let purpose = recipients + 4 + 64 + 8;
    Format::new("M29 agent's act", act_of(&[1, 4], LATER), again)
        .count(recipients, 4, 32)
        .count(purpose, 4, 256)
        .count(purpose + 4 + 6 + 1 + 2, 1, 32)
}

/// An agent that tells of more than it could give is not believed.
#[test]
fn an_agents_act_is_within_its_appointment() {
    assert!(open_act(&act_of(&[1], NOW)).is_ok());
    let late = Timestamp::new(LATER.number() + 1);
    for outside in [act_of(&[1, 5], LATER), act_of(&[1], late)] {
        assert!(matches!(open_act(&outside), Err(PatientError::Unknown)));
    }
}

fn appointment() -> Format {
    let agent = || {
        FamilyAgent::new(
            HERE,
            CentreKeys::founding(centre().verifying_key()),
            &mut Constant(0x0f),
        )
    };
    let (offer, hpke) = (agent().offer(), HpkePrivateKey::derive(&[0x0f; 32]));
    assert_eq!(offer.hpke, hpke.public_key());
    let mut patient = patient();
    let hash = KeyHash::from(doctor(11).public_keys().hpke.hash());
    let uid = Uid::new(b"a uid").unwrap();
    let (place, _) = patient
        .begin_episode(
            &doctor_certificate(11),
            &agreed(hash, 5, 11),
            uid,
            NOW,
            &mut Constant(0x0a),
        )
        .unwrap();
    let epochs = AgreedWriterEpochs {
        institution: HOSPITAL,
        epochs: vec![
            (WriterEpoch::new(0), writer_key(1)),
            (WriterEpoch::new(2), writer_key(2)),
        ],
    };
    let scope = [1, 4].map(ClassCode::new);
    let (_, sealed) = patient
        .appoint(place, &offer, &scope, LATER, &epochs, &mut Constant(0x0b))
        .unwrap();
    let subject = *offer.agent.as_bytes();
    let example = hpke
        .open(Purpose::Appointment, &HERE, &subject, &sealed)
        .unwrap()
        .to_vec();
    let again = move |bytes: &[u8]| {
        let sealed = offer
            .hpke
            .seal(
                Purpose::Appointment,
                &HERE,
                &subject,
                bytes,
                &mut Constant(1),
            )
            .unwrap();
        match agent().accept(&sealed) {
            Ok(_) => Ok(bytes.to_vec()),
            Err(AgentError::Malformed(error)) => Err(Refused::Decode(error)),
            Err(error) => Err(Refused::Otherwise(error.to_string())),
        }
    };
    // The version; the appointment of two classes: 201 bytes, the codes, 48; handle, salt and inbox key.
    let classes = 1 + 4 + 96 + 32 + 32 + 32 + 8 + 1 + 2 + 48 + 64;
    Format::new("M19 appointment", example, again)
        .count(1, 4, 1_024)
        .count(1 + 4 + 96 + 32 + 32 + 32 + 8, 1, 32)
        .count(classes, 1, 32)
        .count(classes + 1 + 2 * (1 + 48 + 32), 4, 256)
}
