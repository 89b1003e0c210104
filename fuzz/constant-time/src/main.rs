//! Uses secrets whose bytes valgrind takes for uninitialised: it then names every branch and every address that
//! depends on them. `check` runs this for each deed and reads what valgrind says.
//!
//!     willis-constant-time list
//!     willis-constant-time DEED

#[path = "../../../crates/scheme/tests/support/mod.rs"]
mod support;

use std::ffi::c_void;
use std::hint::black_box;
use std::process::ExitCode;

use scheme::*;
use subtle::ConstantTimeEq;
use support::{Doctor, Hospital, IMAGING, Nodes, Patient, Reader, Stored, consortium as here, rng};

unsafe extern "C" {
    fn willis_taint(bytes: *const c_void, count: usize);
    fn willis_clear(bytes: *const c_void, count: usize);
    fn willis_is_watched() -> i32;
}

/// From here on every bit of it is secret. Only for values without lengths and pointers.
fn secret<T>(value: T) -> Box<T> {
    let value = Box::new(value);
    // SAFETY: the bytes are those of the value; valgrind notes something about them and changes none.
    unsafe { willis_taint((&raw const *value).cast(), size_of::<T>()) };
    value
}

/// What came of a secret and may be known: a public key, a signature, what is sent.
fn public<T>(value: T) -> T {
    // SAFETY: as above.
    unsafe { willis_clear((&raw const value).cast(), size_of::<T>()) };
    value
}

fn seed(byte: u8) -> [u8; 32] {
    *secret([byte; 32])
}

/// A patient's keys, which were derived before they became secret.
fn keys() -> Box<PatientKeys> {
    secret(Patient::new(1).keys)
}

fn doctor() -> Doctor {
    Doctor::new(2, INSTITUTION.number())
}

fn pid() -> Pid {
    Patient::new(1).pid(&doctor(), 0)
}

fn keyword() -> Keyword {
    support::keyword("code|x|y")
}

/// A record of one patient that a doctor stored.
fn stored() -> Stored {
    let hospital = Hospital::new(3, INSTITUTION.number(), 0);
    let sections = [(IMAGING, vec![0x1a; 70_000])];
    let words = [("", 0)];
    let patient = Patient::new(1);
    support::store(
        &patient,
        &doctor(),
        &hospital,
        &pid(),
        &words,
        &sections,
        &mut rng(4),
    )
}

fn granted(nodes: &Nodes) -> VerifiedGrant {
    let (patient, reader) = (Patient::new(1), Reader::new(0x60));
    let (grant, _) = support::grant(
        &patient,
        &pid(),
        nodes,
        &[&reader],
        2,
        &[IMAGING],
        WRITER,
        &mut rng(5),
    );
    grant.verify(&here()).expect("a grant of its owner")
}

const NODE: NodeNumber = match NodeNumber::new(1) {
    Some(node) => node,
    None => panic!("the first"),
};

/// What the first node of a grant was given.
fn part() -> NodePart {
    let nodes = Nodes::new(3);
    let part = granted(&nodes).open_node_part(&here(), NODE, &nodes.hpke[0]);
    part.expect("a part of this node")
}

const INSTITUTION: InstitutionId = InstitutionId::new(7);
const WRITER: Writer = Writer {
    institution: INSTITUTION,
    epoch: WriterEpoch::new(0),
};
type Deed = fn();

const DEEDS: &[(&str, Deed)] = &[
    ("derive a patient's keys from the seed", || {
        let seed = RootSeed::from_bytes(seed(1));
        black_box(PatientKeys::derive(&seed, KeyVersion::new(0), &here()));
    }),
    ("make a pseudonym", || {
        let keys = keys();
        let subkey = keys
            .symmetric
            .doctor_subkey(&here(), INSTITUTION, DoctorId::new(2));
        black_box(subkey.pseudonym(&here(), &Patient::new(1).uid, EpisodeNumber::new(0)));
    }),
    ("compare pseudonyms", || {
        let (one, other) = (secret(pid()), pid());
        assert!(public(bool::from(one.ct_eq(&other))));
    }),
    ("compute a patient's public keys", || {
        let keys = keys();
        black_box(keys.encryption.public_key());
        black_box(keys.search.public_key());
        black_box(keys.ownership.public_key());
    }),
    ("prove possession of a key", || {
        black_box(keys().ownership.prove_possession(&here(), Subject::new(3)));
    }),
    ("make a trapdoor", || {
        black_box(Trapdoor::generate(
            &here(),
            &keys().search,
            &pid(),
            WRITER,
            &keyword(),
        ));
    }),
    ("make the key that signs an episode's grants", || {
        let key = EpisodeSigningKey::derive(&here(), &keys().ownership, &pid());
        black_box(key.is_ok());
    }),
    ("make a condition key", || {
        black_box(ConditionKey::derive(
            &here(),
            &keys().encryption,
            &pid(),
            IMAGING,
        ));
    }),
    ("sign", || {
        let key = SigningKey::from_seed(seed(5));
        black_box(key.sign(Context::Reading, &here(), &[b"something"]));
    }),
    ("raise a blinded keyword", || {
        let blinding = KeywordBlinding::new(&here(), &pid(), WRITER, &keyword(), &mut rng(6));
        let key = secret(WriterEpochKey::random(&mut rng(6)));
        black_box(key.raise(&blinding.blinded()));
    }),
    ("blind a keyword", || {
        let blinding = KeywordBlinding::new(&here(), &pid(), WRITER, &keyword(), &mut rng(6));
        black_box(secret(blinding).blinded());
    }),
    ("seal a section", || {
        let doctor = Doctor {
            sealing: SealingSecret::from_bytes(seed(9)),
            ..doctor()
        };
        let owner = Patient::new(1).keys.encryption.public_key();
        let sections = [(IMAGING, vec![0x1a; 70_000])];
        black_box(support::seal(
            &doctor,
            &owner,
            &pid(),
            &sections,
            &mut rng(7),
        ));
    }),
    ("open one's own section", || {
        let stored = stored();
        let index = stored.header.sections().next().expect("a section");
        let u = stored.header.encapsulation();
        let secret = SectionSecret::of_owner(&here(), &keys().encryption, &pid(), IMAGING, u);
        let key = secret.content_key(&stored.header, index).expect("its key");
        assert!(stored.open(index, &key).is_ok());
    }),
    ("open a node's part of a grant", || {
        let nodes = Nodes::new(3);
        let grant = granted(&nodes);
        let key = HpkePrivateKey::derive(&seed(0xb0));
        assert!(grant.open_node_part(&here(), NODE, &key).is_ok());
    }),
    ("re-encrypt by a share", || {
        let header = stored().header.verify().expect("a whole header");
        let share = secret(part().shares.remove(0));
        black_box(share.re_encrypt(&header).to_bytes());
    }),
];

/// Which valgrind must name: a comparison that ends at the first byte that differs.
fn control() {
    let secret = secret([9_u8; 32]);
    let equal = secret
        .iter()
        .zip(&[9_u8; 32])
        .all(|(one, other)| black_box(one) == other);
    black_box(equal);
}

fn main() -> ExitCode {
    let deed = std::env::args().nth(1).unwrap_or_default();
    if deed == "list" {
        DEEDS.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    // SAFETY: it only answers.
    if unsafe { willis_is_watched() } == 0 {
        eprintln!("run it by fuzz/constant-time/check");
        return ExitCode::FAILURE;
    }
    if deed == "control" {
        control();
        return ExitCode::SUCCESS;
    }
    match DEEDS.iter().find(|(name, _)| *name == deed) {
        Some((_, run)) => {
            run();
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("there is no such deed; see `list`");
            ExitCode::FAILURE
        }
    }
}
