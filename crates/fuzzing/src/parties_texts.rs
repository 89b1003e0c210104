//! What the parties send each other: messages in the open, and those that only their recipient opens.

use core::convert::Infallible;
use std::sync::LazyLock;

use ledger::{GrantEntry, Height, KeyHash, StateRoot, TransactionId};
use parties::{
    AccessRequest, AgreedKey, AgreedWriterEpochs, Answer, AnswerNote, CentreKeys, Certificate,
    CloudServer, ContainerRequest, Doctor, FamilyAgent, GrantPackage, GrantRequest, Hit, Hits,
    Holder, InTransaction, Invitation, Member, Patient, PatientEnrolment, PatientPublicKeys,
    Question, Reply, RequestTerms, SearchRequest, ShareAnswer, ShareEvidence, ShareRequest,
    StorageReceipt, StoredReceipt, TeamMessage, UnsignedRequest, WantProof, open_forwarded,
};
use rand_core::{TryCryptoRng, TryRng};
use scheme::{
    Address, ClassCode, ClassPlace, ConsortiumId, Delta, DoctorId, Encoder, GrantId,
    HpkePrivateKey, HpkePublicKey, InboxHandle, InstitutionId, KeyVersion, Locator, NodeNumber,
    PatientKeys, Purpose, ReEncryptedShare, RootSeed, ShareProof, Signature, SigningKey, Subject,
    Tag, Timestamp, Uid, ValidatorEpoch, VerifyingKey, WriterEpoch, WriterEpochKey, enc, sha256,
};

use crate::input::{Again, Input, by_first_byte, one_encoding, seed};
use crate::world::WORLD as SCHEME;

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
/// What an answer answers.
const KEY: KeyHash = KeyHash::new([0x81; 32]);

fn records_question() -> Question {
    Question::Records {
        institution: HOSPITAL,
        epoch: WriterEpoch::new(2),
        tags: (0..3).map(|number| Tag::new([number; 16])).collect(),
    }
}

fn answer(question: &Question, bytes: &[u8]) -> Option<Vec<u8>> {
    Some(Answer::decode(question, bytes).ok()?.encode())
}

const TEXTS: &[(&str, Again)] = &[
    ("a certificate", |bytes| {
        let certificate = Certificate::decode(bytes).ok()?;
        let keys = CentreKeys::founding(centre().verifying_key());
        if certificate.verify(&HERE, &keys, NOW).is_ok() {
            let issued = [&patient_certificate(), &doctor_certificate(11)];
            assert!(issued.contains(&&certificate), "nobody issued this one");
        }
        Some(certificate.encode())
    }),
    ("an enrolment", |bytes| {
        Some(PatientEnrolment::decode(bytes).ok()?.encode())
    }),
    ("a request", |bytes| {
        let request = AccessRequest::decode(bytes).ok()?;
        assert!(bytes.len() <= scheme::REQUEST_BYTES_MAX);
        Some(request.encode())
    }),
    ("a storage receipt", |bytes| {
        Some(StorageReceipt::decode(bytes).ok()?.encode())
    }),
    ("a receipt of a record", |bytes| {
        Some(StoredReceipt::decode(bytes).ok()?.encode().to_vec())
    }),
    ("a grant package", |bytes| {
        Some(GrantPackage::decode(bytes).ok()?.encode())
    }),
    ("a question", |bytes| {
        Some(Question::decode(bytes).ok()?.encode())
    }),
    ("an answer on a key", |bytes| {
        answer(&Question::UserKey(KEY), bytes)
    }),
    ("an answer on writer epochs", |bytes| {
        answer(&Question::WriterEpochs(HOSPITAL), bytes)
    }),
    ("an answer on a grant", |bytes| {
        answer(&Question::Grant(GID), bytes)
    }),
    ("an answer on records", |bytes| {
        answer(&records_question(), bytes)
    }),
    ("an answer on node keys", |bytes| {
        answer(&Question::NodeKeys(ValidatorEpoch::new(6)), bytes)
    }),
    ("an answer on the centre's keys", |bytes| {
        answer(&Question::CentreKeys, bytes)
    }),
    ("an answer on whose grant", |bytes| {
        answer(&Question::GrantOf(access_key().verifying_key()), bytes)
    }),
    ("a reply", |bytes| Some(Reply::decode(bytes).ok()?.encode())),
    ("a search", |bytes| {
        Some(SearchRequest::decode(bytes).ok()?.encode())
    }),
    ("hits", |bytes| Some(Hits::decode(bytes).ok()?.encode())),
    ("a request for shares", |bytes| {
        Some(ShareRequest::decode(bytes).ok()?.encode())
    }),
    ("shares", |bytes| {
        Some(ShareAnswer::encode_all(
            &ShareAnswer::decode_all(bytes).ok()?,
        ))
    }),
    ("a request for a container", |bytes| {
        Some(ContainerRequest::decode(bytes).ok()?.encode())
    }),
    ("a request for a grant", |bytes| {
        Some(GrantRequest::decode(bytes).ok()?.encode())
    }),
    ("a note", |bytes| {
        let note = AnswerNote::decode(bytes).ok()?;
        Some(note.encode().expect("it was decoded"))
    }),
    ("evidence of a share", |bytes| {
        Some(ShareEvidence::decode(bytes).ok()?.encode())
    }),
    ("a colleague's message", |bytes| {
        Some(TeamMessage::decode(bytes).ok()?.encode())
    }),
];

/// A decoder by the first byte, and what it decodes.
pub fn texts(bytes: &[u8]) {
    by_first_byte(TEXTS, bytes);
}

/// Randomness that is one byte over and over, so that keys are known to whoever knows the byte.
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
    PatientKeys::derive(&RootSeed::from_bytes([5; 32]), KeyVersion::new(0), &HERE)
}

fn patient() -> Patient {
    let (keys, seed) = (
        CentreKeys::founding(centre().verifying_key()),
        RootSeed::from_bytes([5; 32]),
    );
    let mut rng = Constant(0x4a);
    let mut patient = Patient::new(HERE, keys, &seed, KeyVersion::new(0), &mut rng);
    let accepted = patient.accept_certificate(patient_certificate(), NOW);
    accepted.expect("its own certificate");
    patient
}

fn patient_certificate() -> Certificate {
    static MADE: LazyLock<Certificate> = LazyLock::new(|| {
        let keys = patient_keys();
        let holder = Holder::Patient(Box::new(PatientPublicKeys {
            encryption: keys.encryption.public_key(),
            search: keys.search.public_key(),
            ownership: keys.ownership.public_key(),
            inbox: keys.inbox.public_key(),
        }));
        Certificate::issue(&HERE, &centre(), Subject::new(7), holder, LATER)
    });
    MADE.clone()
}

fn doctor(id: u8) -> Doctor {
    let keys = CentreKeys::founding(centre().verifying_key());
    Doctor::new(
        HERE,
        keys,
        DoctorId::new(id.into()),
        HOSPITAL,
        &mut Constant(id),
    )
}

fn doctor_certificate(id: u8) -> Certificate {
    let holder = Holder::Doctor(*doctor(id).public_keys());
    Certificate::issue(&HERE, &centre(), Subject::new(id.into()), holder, LATER)
}

fn key_answer(usage: u8) -> Vec<u8> {
    Encoder::new()
        .u8(1)
        .u8(usage)
        .u8(1)
        .u32(HOSPITAL.number())
        .u64(11)
        .u8(1)
        .finish()
}

fn reply(question: &Question, answer: Vec<u8>) -> Reply {
    let node = SigningKey::from_seed([0x70; 32]);
    let (height, root) = (Height::new(77), StateRoot::new([0x71; 32]));
    Reply::sign(
        &HERE,
        HOSPITAL,
        &node,
        &question.encode(),
        height,
        root,
        answer,
    )
}

fn terms() -> RequestTerms {
    RequestTerms {
        institution: HOSPITAL,
        inbox: HANDLE.commit(&HERE, &[0x4b; 16]),
        classes: [1, 4, 5].map(ClassCode::new).to_vec(),
        purpose: "acute stroke, thrombectomy?".into(),
        nonce: [0x33; 32],
        time: NOW,
        not_after: LATER,
    }
}

fn unsigned() -> UnsignedRequest {
    let members = [11, 12].map(|id| Member {
        certificate: doctor_certificate(id),
        access_keys: [0x61, 0x62]
            .map(|seed| SigningKey::from_seed([seed ^ id; 32]).verifying_key())
            .to_vec(),
        hpke_key: HpkePrivateKey::derive(&[0x80 ^ id; 32]).public_key(),
    });
    UnsignedRequest::new(terms(), members.to_vec()).expect("two members")
}

fn request() -> AccessRequest {
    let unsigned = unsigned();
    let signatures = [11, 12].map(|id| unsigned.sign(&HERE, &SigningKey::from_seed([id; 32])));
    unsigned.complete(signatures.to_vec()).expect("both signed")
}

fn writer_key(number: u8) -> scheme::WriterEpochPublicKey {
    let mut scalar = [0; 32];
    scalar[31] = number;
    WriterEpochKey::from_bytes(&scalar)
        .expect("a small number")
        .public_key()
}

fn delta() -> Delta {
    Delta::from_bytes(&[0x21; 32]).expect("below the order")
}

fn share(class: u8, proof: bool) -> ShareAnswer {
    let element = SCHEME.proof[..ReEncryptedShare::BYTES].try_into();
    let element = element.expect("the proof's first element");
    ShareAnswer {
        class: ClassPlace::new(class),
        node: NodeNumber::new(3).expect("not 0"),
        share: ReEncryptedShare::from_bytes(element).expect("in GT"),
        signature: Signature::new([0x67; 64]),
        proof: proof.then(|| ShareProof::from_bytes(&SCHEME.proof).expect("a real one")),
    }
}

fn package() -> Vec<u8> {
    let revocation = SigningKey::from_seed([0x64; 32]);
    let mut access_keys =
        [0x61, 0x62].map(|seed| SigningKey::from_seed([seed; 32]).verifying_key());
    access_keys.sort_unstable();
    let grant = vec![0x65; 100];
    let entry = GrantEntry {
        revocation_key: revocation.verifying_key(),
        grant: sha256(&grant),
        epoch: ValidatorEpoch::new(7),
        not_before: NOW,
        expiry: LATER,
        access_keys: access_keys.to_vec(),
    };
    let signature = entry.sign(&HERE, &revocation);
    let package = GrantPackage {
        grant,
        entry,
        signature,
    };
    package.encode()
}

fn grant_answer() -> Vec<u8> {
    Encoder::new()
        .u8(1)
        .bytes(&[0x82; 32])
        .u64(NOW.number())
        .u64(LATER.number())
        .u64(77)
        .u64(6)
        .u32(HOSPITAL.number())
        .u8(0)
        .finish()
}

fn centre_keys_answer() -> Vec<u8> {
    let mut out = Encoder::new();
    out.u8(3);
    for (number, standing, height) in [(0, 1, 0), (1, 2, 9), (2, 0, 9)] {
        out.bytes(&[0x90 + number; 32]).u64(height).u8(standing);
    }
    out.finish()
}

/// One of each.
pub fn text_seeds() -> Vec<Vec<u8>> {
    let (grant, access) = (grant_answer(), access_key());
    let epochs = Answer::WriterEpochs(vec![
        (WriterEpoch::new(0), writer_key(1)),
        (WriterEpoch::new(2), writer_key(2)),
    ]);
    let keys = Answer::NodeKeys(vec![
        (HOSPITAL, HpkePublicKey::new([0x83; 32])),
        (InstitutionId::new(1), HpkePublicKey::new([0x84; 32])),
    ]);
    let hit = |place, position| Hit {
        place,
        position,
        transaction: OF.record,
        locator: Locator {
            address: Address::new([0x28; 32]),
            delta: delta(),
        },
    };
    let cloud = CloudServer::new(HERE, SigningKey::from_seed([0xc1; 32]));
    let (address, digest) = (Address::new([0x28; 32]), sha256(b"a container"));
    let classes = [0, 2].map(ClassPlace::new).to_vec();
    let draft = sha256(&unsigned().encode());
    let member = Box::new(unsigned().members()[1].clone());
    let nonce = terms().nonce;
    let message = |message: TeamMessage| ("a colleague's message", message.encode());
    let question = |question: Question| ("a question", question.encode());
    [
        ("a certificate", patient_certificate().encode()),
        ("a certificate", doctor_certificate(11).encode()),
        ("an enrolment", patient().enrol(Subject::new(7)).encode()),
        ("a request", request().encode()),
        (
            "a storage receipt",
            cloud.receipt(address, digest, 150_000, NOW).encode(),
        ),
        ("a receipt of a record", receipt()),
        ("a grant package", package()),
        question(Question::UserKey(KEY)),
        question(Question::WriterEpochs(HOSPITAL)),
        question(Question::Grant(GID)),
        question(records_question()),
        question(Question::NodeKeys(ValidatorEpoch::new(6))),
        question(Question::CentreKeys),
        question(Question::GrantOf(access.verifying_key())),
        ("an answer on a key", key_answer(4)),
        ("an answer on writer epochs", epochs.encode()),
        ("an answer on a grant", grant.clone()),
        (
            "an answer on records",
            Answer::Records(vec![None, Some(OF.record), None]).encode(),
        ),
        ("an answer on node keys", keys.encode()),
        ("an answer on the centre's keys", centre_keys_answer()),
        (
            "an answer on whose grant",
            [&[1], GID.as_bytes().as_slice(), &grant[1..]].concat(),
        ),
        (
            "a reply",
            reply(&Question::UserKey(KEY), key_answer(4)).encode(),
        ),
        (
            "a search",
            SearchRequest::sign(&HERE, GID, Height::new(77), &access).encode(),
        ),
        ("hits", Hits(vec![hit(0, 3), hit(2, 0)]).encode()),
        (
            "a request for shares",
            ShareRequest::sign(&HERE, GID, OF, classes, WantProof::Yes, &access).encode(),
        ),
        (
            "shares",
            ShareAnswer::encode_all(&[share(0, false), share(2, true)]),
        ),
        (
            "a request for a container",
            ContainerRequest::sign(&HERE, GID, OF, &access).encode(),
        ),
        (
            "a request for a grant",
            GrantRequest::sign(&HERE, GID, &access).encode(),
        ),
        (
            "a note",
            AnswerNote::Revoked(vec![GID, GrantId::new([0x77; 32])])
                .encode()
                .expect("two"),
        ),
        (
            "evidence of a share",
            ShareEvidence::new(OF.record, vec![0x68; 20], vec![0x69; 5], share(2, true)).encode(),
        ),
        message(TeamMessage::Invitation(Invitation {
            terms: terms(),
            grants: 2,
        })),
        message(TeamMessage::Part { nonce, member }),
        message(TeamMessage::Draft(Box::new(unsigned()))),
        message(TeamMessage::Signature {
            draft,
            signature: Signature::new([0x29; 64]),
        }),
    ]
    .map(|(name, example)| seed(TEXTS, name, &example))
    .to_vec()
}

fn receipt() -> Vec<u8> {
    Encoder::new()
        .bytes(&[0x25; 32])
        .bytes(&[0x27; 16])
        .bytes(delta().expose_bytes().as_slice())
        .finish()
}

fn uid() -> Uid {
    Uid::new(b"a uid").expect("a short one")
}

fn agreed() -> AgreedKey {
    let hash = KeyHash::from(doctor(11).public_keys().hpke.hash());
    let reply = reply(&Question::UserKey(hash), key_answer(5));
    let agreed = AgreedKey::from_reply(hash, &reply).expect("an answer");
    agreed.expect("a key in force")
}

/// The parties that open what is sealed to them, and what each opens.
struct Sealed {
    doctor: Doctor,
    patient: Patient,
    keys: PatientKeys,
    handover: Vec<u8>,
    appointment: Vec<u8>,
    appointed: scheme::AppointmentId,
}

static SEALED: LazyLock<Sealed> = LazyLock::new(|| {
    let mut patient = patient();
    let (certificate, key) = (doctor_certificate(11), agreed());
    let mut rng = Constant(0x0a);
    let begun = patient.begin_episode(&certificate, &key, uid(), NOW, &mut rng);
    let (place, sealed) = begun.expect("a certified doctor");
    let hpke = HpkePrivateKey::derive(&[11; 32]);
    let handover = hpke.open(Purpose::Handover, &HERE, &handover_subject(), &sealed);
    let epochs = AgreedWriterEpochs {
        institution: HOSPITAL,
        epochs: vec![(WriterEpoch::new(0), writer_key(1))],
    };
    let offer = agent().offer();
    let scope = [1, 4].map(ClassCode::new);
    let made = patient.appoint(place, &offer, &scope, LATER, &epochs, &mut Constant(0x0b));
    let (appointed, sealed) = made.expect("an episode of its own");
    let hpke = HpkePrivateKey::derive(&[0x0f; 32]);
    let subject = offer.agent;
    let appointment = hpke.open(Purpose::Appointment, &HERE, subject.as_bytes(), &sealed);
    Sealed {
        doctor: doctor(11),
        patient,
        keys: patient_keys(),
        handover: handover.expect("sealed to it").to_vec(),
        appointment: appointment.expect("sealed to it").to_vec(),
        appointed,
    }
});

fn agent() -> FamilyAgent {
    let keys = CentreKeys::founding(centre().verifying_key());
    FamilyAgent::new(HERE, keys, &mut Constant(0x0f))
}

fn handover_subject() -> Vec<u8> {
    enc(&[
        &u64::from(HOSPITAL.number()).to_be_bytes(),
        uid().as_bytes(),
    ])
}

fn seal(key: &HpkePublicKey, purpose: Purpose, subject: &[u8], bytes: &[u8]) -> Vec<u8> {
    let sealed = key.seal(purpose, &HERE, subject, bytes, &mut Constant(1));
    sealed.expect("a usable key")
}

/// Whoever has a recipient's key may seal to it what they like.
const OPENED: &[(&str, Again)] = &[
    ("a hand-over", |bytes| {
        let key = &SEALED.doctor.public_keys().hpke;
        let sealed = seal(key, Purpose::Handover, &handover_subject(), bytes);
        SEALED.doctor.accept_handover(&sealed, &uid(), NOW).ok()?;
        assert!(
            bytes == SEALED.handover,
            "a hand-over that no patient signed"
        );
        Some(bytes.to_vec())
    }),
    ("a forwarded request", |bytes| {
        let inbox = &SEALED.keys.inbox;
        let sealed = seal(
            &inbox.public_key(),
            Purpose::Request,
            HANDLE.as_bytes(),
            bytes,
        );
        let (request, salt) = open_forwarded(&HERE, &HANDLE, inbox, &sealed).ok()?;
        Some(Encoder::new().bytes(&salt).var(&request.encode()).finish())
    }),
    ("a receipt", |bytes| {
        let key = SEALED.patient.inbox_key();
        let sealed = seal(&key, Purpose::Receipt, HANDLE.as_bytes(), bytes);
        let receipt = SEALED.patient.open_receipt(&sealed).ok()?;
        Some(receipt.encode().to_vec())
    }),
    ("an appointment", |bytes| {
        let offer = agent().offer();
        let sealed = seal(
            &offer.hpke,
            Purpose::Appointment,
            offer.agent.as_bytes(),
            bytes,
        );
        agent().accept(&sealed).ok()?;
        Some(bytes.to_vec())
    }),
    ("an agent's act", |bytes| {
        let key = SEALED.patient.inbox_key();
        let sealed = seal(&key, Purpose::AgentAct, SEALED.appointed.as_bytes(), bytes);
        SEALED.patient.open_act(&sealed).ok()?;
        Some(bytes.to_vec())
    }),
    ("a sealed reply", |bytes| {
        let key = HpkePrivateKey::derive(&[0x66; 32]);
        let sealed = seal(&key.public_key(), Purpose::Reply, GID.as_bytes(), bytes);
        let reply = parties::SealedReply(sealed).open(&HERE, &GID, &key).ok()?;
        Some(reply.encode())
    }),
];

/// A message by the first byte, sealed to its recipient and opened there.
pub fn sealed(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (name, again) = OPENED[input.below(OPENED.len())];
    one_encoding(name, again, input.rest());
}

/// One of each.
pub fn sealed_seeds() -> Vec<Vec<u8>> {
    let salted = Encoder::new()
        .bytes(&[0x4b; 16])
        .var(&request().encode())
        .finish();
    let doctor: VerifyingKey = SigningKey::from_seed([11; 32]).verifying_key();
    let mut act = Encoder::new();
    act.u8(1)
        .bytes(&[0x51; 32])
        .bytes(&[0x52; 32])
        .u64(LATER.number())
        .bytes(&[0x53; 32])
        .u32(1)
        .bytes(doctor.as_bytes())
        .bytes(&[0x54; 32])
        .u64(NOW.number())
        .var(b"stroke")
        .u8(2)
        .bytes(&[1, 4])
        .u8(1)
        .u64(11)
        .u32(HOSPITAL.number())
        .bytes(&[0x55; 32]);
    [
        ("a hand-over", SEALED.handover.clone()),
        ("a forwarded request", salted),
        ("a receipt", receipt()),
        ("an appointment", SEALED.appointment.clone()),
        ("an agent's act", act.finish()),
        (
            "a sealed reply",
            reply(&Question::UserKey(KEY), key_answer(4)).encode(),
        ),
    ]
    .map(|(name, example)| seed(OPENED, name, &example))
    .to_vec()
}
