//! What the scheme reads: its texts, and its elements of fixed length.

use scheme::{
    Appointment, BlindedKeyword, BlsPoint, BlsSignature, Commitments, ConditionKey, Context, Delta,
    Encapsulation, EncryptionPublicKey, EpisodeKey, Grant, Header, HpkePrivateKey, HpkePublicKey,
    Keyword, OwnerKey, OwnershipPublicKey, Purpose, RaisedKeyword, ReEncryptedShare,
    SearchPublicKey, ShareProof, Signature, Trapdoor, Uid, UncheckedShare, VerifyingKey,
    WriterEpochKey, WriterEpochPublicKey,
};

use crate::input::{Again, Input, by_first_byte, one_encoding, seed};
use crate::world::{HERE, WORLD};

const TEXTS: &[(&str, Again)] = &[
    ("a header", |bytes| {
        let (header, length) = Header::decode(&HERE, bytes).ok()?;
        // What stands behind it is not looked at.
        let (again, _) = Header::decode(&HERE, &bytes[..length]).expect("the same header");
        assert!(again == header);
        assert!(header.container_length() > length as u64);
        let sections = header.sections();
        let mut at = length as u64;
        for section in sections {
            assert_eq!(header.payload_offset(section), at);
            at += header.payload_length(section);
        }
        assert_eq!(header.container_length(), at);
        Some([&header.encode(), &bytes[length..]].concat())
    }),
    ("a grant", |bytes| {
        Some(Grant::decode(&HERE, bytes).ok()?.encode(&HERE))
    }),
    ("an appointment", |bytes| {
        Some(Appointment::decode(&HERE, bytes).ok()?.encode(&HERE))
    }),
    ("a share's proof", |bytes| {
        Some(ShareProof::from_bytes(bytes).ok()?.to_bytes())
    }),
    ("a keyword", |bytes| {
        Some(Keyword::new(bytes).ok()?.as_bytes().to_vec())
    }),
    ("a UID", |bytes| {
        Some(Uid::new(bytes).ok()?.as_bytes().to_vec())
    }),
    // Nobody but the world sealed anything under this subject.
    ("a sealed message", |bytes| {
        let opened = WORLD.reader.open(Purpose::Reply, &HERE, b"gid", bytes);
        let opened = opened.ok()?;
        assert!(bytes == WORLD.sealed && *opened == *b"a message");
        Some(WORLD.sealed.clone())
    }),
    // Signatures that stand: pairings are slow, so they have places of their own.
    ("a signed grant", |bytes| {
        let grant = Grant::decode(&HERE, bytes).ok()?.verify(&HERE).ok()?;
        assert_eq!(grant.digest(), scheme::sha256(bytes));
        assert!(bytes == WORLD.grant, "nobody else signed one");
        Some(bytes.to_vec())
    }),
    ("a signed appointment", |bytes| {
        let appointment = Appointment::decode(&HERE, bytes).ok()?;
        if !appointment.is_signed_by_owner(&HERE) {
            return None;
        }
        assert!(bytes == WORLD.appointment, "nobody else signed one");
        Some(bytes.to_vec())
    }),
    ("a header with its proof", |bytes| {
        let (header, length) = Header::decode(&HERE, bytes).ok()?;
        let verified = header.verify().ok()?;
        // V covers what stands before the key commitments.
        let before = |header: &Header| {
            let mut bytes = header.encode();
            bytes.truncate(bytes.len() - 48 - 32 * header.sections().count());
            bytes
        };
        assert!(
            before(verified.header()) == before(&WORLD.header),
            "nobody else made one"
        );
        Some([&verified.header().encode(), &bytes[length..]].concat())
    }),
];

/// A decoder by the first byte, and what it decodes.
pub fn texts(bytes: &[u8]) {
    by_first_byte(TEXTS, bytes);
}

/// One of each.
pub fn text_seeds() -> Vec<Vec<u8>> {
    let world = &*WORLD;
    let header = world.header.encode();
    [
        ("a header", header.as_slice()),
        ("a grant", &world.grant),
        ("an appointment", &world.appointment),
        ("a share's proof", &world.proof),
        ("a keyword", b"code|http://snomed.info/sct|230690007"),
        ("a UID", b"R-2041"),
        ("a sealed message", &world.sealed),
        ("a signed grant", &world.grant),
        ("a signed appointment", &world.appointment),
        ("a header with its proof", &header),
    ]
    .map(|(name, example)| seed(TEXTS, name, example))
    .to_vec()
}

/// An element of this length.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let length = bytes.len().min(N);
    out[..length].copy_from_slice(&bytes[..length]);
    out
}

/// Elements of fixed length, of which the first byte says which.
pub fn points(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let which = input.below(12);
    let bytes = input.rest();
    let g1 = first::<48>(bytes);
    let g2 = first::<96>(bytes);
    let half = first::<32>(bytes);
    match which {
        0 => one_encoding(
            "a BLS signature",
            |bytes| {
                let point = BlsSignature::from_bytes(bytes.try_into().ok()?).ok()?;
                Some(point.as_bytes().to_vec())
            },
            &g1,
        ),
        // Each is a point of G1 that is not the identity.
        1 => {
            let all = [
                BlindedKeyword::from_bytes(&g1).is_ok(),
                Trapdoor::from_bytes(&g1).is_ok(),
                RaisedKeyword::from_bytes(&g1).is_ok(),
                ConditionKey::from_bytes(&g1).is_ok(),
                BlsPoint::from_bytes(&g1).is_ok(),
                BlsSignature::from_bytes(&g1).is_ok(),
            ];
            let share = UncheckedShare::from_bytes(&g1).is_ok();
            assert!(
                all.iter().all(|one| *one == all[0]) && share == all[0],
                "{all:?} {share}"
            );
        }
        2 => one_encoding(
            "a key in G2",
            |bytes| {
                let point = EncryptionPublicKey::from_bytes(bytes.try_into().ok()?).ok()?;
                Some(point.as_bytes().to_vec())
            },
            &g2,
        ),
        3 => {
            let all = [
                EncryptionPublicKey::from_bytes(&g2).is_ok(),
                SearchPublicKey::from_bytes(&g2).is_ok(),
                OwnerKey::from_bytes(&g2).is_ok(),
                OwnershipPublicKey::from_bytes(&g2).is_ok(),
                EpisodeKey::from_bytes(&g2).is_ok(),
                WriterEpochPublicKey::from_bytes(&g2).is_ok(),
                Encapsulation::from_bytes(&g2).is_ok(),
            ];
            assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
        }
        4 => one_encoding(
            "an element of GT",
            |bytes| {
                let share = ReEncryptedShare::from_bytes(bytes.try_into().ok()?).ok()?;
                Some(share.to_bytes().to_vec())
            },
            &first::<576>(bytes),
        ),
        5 => {
            let elements: Vec<[u8; 576]> = bytes.chunks(576).take(4).map(first::<576>).collect();
            if let Ok(commitments) = Commitments::from_bytes(&elements) {
                assert!(commitments.to_bytes() == elements);
            }
        }
        6 => one_encoding(
            "a scalar",
            |bytes| {
                let delta = Delta::from_bytes(bytes.try_into().ok()?).ok()?;
                Some(delta.expose_bytes().to_vec())
            },
            &half,
        ),
        7 => one_encoding(
            "a private key",
            |bytes| {
                let key = WriterEpochKey::from_bytes(bytes.try_into().ok()?).ok()?;
                Some(key.expose_bytes().to_vec())
            },
            &half,
        ),
        8 => one_encoding(
            "a private HPKE key",
            |bytes| {
                let key = HpkePrivateKey::from_bytes(bytes.try_into().ok()?).ok()?;
                Some(key.expose_bytes().to_vec())
            },
            &half,
        ),
        9 => {
            // A key to which nothing can be sealed is refused before anything is sealed.
            let mut rng = ledger::testing::rng("fuzzing", 2);
            let key = HpkePublicKey::new(half);
            let sealed = key.seal(Purpose::Reply, &HERE, b"", b"x", &mut rng);
            let again = HpkePublicKey::new(half).seal(Purpose::Reply, &HERE, b"", b"x", &mut rng);
            assert_eq!(sealed.is_ok(), again.is_ok());
        }
        10 => {
            let signature = Signature::new(first(bytes.get(32..).unwrap_or_default()));
            let key = VerifyingKey::new(half);
            let stands = key.verify(Context::Record, &HERE, &[], &signature).is_ok();
            assert!(!stands, "nobody signed nothing");
        }
        _ => {
            let key = &WORLD.writer_key;
            let proof = scheme::WriterEpochProof::from_bytes(&first(bytes));
            let (institution, epoch) = (scheme::InstitutionId::new(7), scheme::WriterEpoch::new(0));
            let public = key.public_key();
            assert!(proof.verify(&HERE, institution, epoch, &public).is_err());
        }
    }
}

/// Elements that are what they are taken for, and the identities.
pub fn point_seeds() -> Vec<Vec<u8>> {
    let world = &*WORLD;
    let header = world.header.encode();
    let v = &header[header.len() - 48..];
    let g2 = world.keys.encryption.public_key();
    let gt = &world.proof[..576];
    let scalar = world.writer_key.expose_bytes();
    let mut infinity = [0; 96];
    infinity[0] = 0xc0;
    let mut one = [0; 576];
    one[575] = 1;
    let signed = [[3; 32].as_slice(), &[4; 64]].concat();
    let examples: [&[u8]; 12] = [
        v,
        v,
        g2.as_bytes(),
        g2.as_bytes(),
        gt,
        &[gt, gt].concat(),
        scalar.as_slice(),
        scalar.as_slice(),
        world.reader.expose_bytes(),
        g2.as_bytes(),
        &signed,
        &signed,
    ];
    let mut seeds: Vec<Vec<u8>> = (0..)
        .zip(examples)
        .map(|(which, example)| [&[which], example].concat())
        .collect();
    for which in 0..=3 {
        seeds.push([&[which], infinity.as_slice()].concat());
    }
    seeds.push([&[4], one.as_slice()].concat());
    // The key of order 1, under which everything would be signed by R of order 1 and s = 0.
    let mut everything = vec![0; 1 + 32 + 64];
    (everything[0], everything[1], everything[33]) = (10, 1, 1);
    seeds.push(everything);
    seeds
}
