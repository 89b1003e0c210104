//! Attacks on the access log, E33: its masking and linking. That an entry cannot be skipped or
//! doubled is the chain's counter to refuse, and is tested with the ledger.

use scheme::*;

use crate::model::{be, bytes, prf};
use crate::support::*;

struct Entry {
    number: u64,
    salt: [u8; 16],
    masked: Digest,
}

/// What an entry's access key signs, with the parts as E33 names them.
fn parts(access_key: &VerifyingKey, entry: &Entry) -> [Vec<u8>; 4] {
    [
        access_key.as_bytes().to_vec(),
        be(entry.number).to_vec(),
        entry.salt.to_vec(),
        entry.masked.as_bytes().to_vec(),
    ]
}

fn sign(key: &SigningKey, entry: &Entry) -> Signature {
    let parts = parts(&key.verifying_key(), entry);
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    key.sign(Context::Access, &consortium(), &parts)
}

fn stands(key: &VerifyingKey, entry: &Entry, signature: &Signature) -> bool {
    let parts = parts(key, entry);
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    key.verify(Context::Access, &consortium(), &parts, signature)
        .is_ok()
}

fn xor(one: &Digest, two: &Digest) -> [u8; 32] {
    std::array::from_fn(|place| one.as_bytes()[place] ^ two.as_bytes()[place])
}

/// Attacker: anyone who reads the chain. Holds: all entries and all transaction ids. Literal: the entry
/// names the record; or it is masked by a pad that stays the same for a grant, so that equal accesses
/// look equal and the difference of two entries is the difference of two ids, to be looked up. Ours:
/// the pad takes in the count and 16 fresh bytes.
#[test]
fn attack_link_access_log_entries() {
    let mut rng = rng(41);
    let here = consortium();
    let ids: Vec<Digest> = (0..5u8).map(|n| sha256(&[n])).collect();
    let key = LogKey::random(&mut rng);
    let access = SigningKey::from_seed([0x60; 32]).verifying_key();
    let pad = prf(key.expose_bytes(), "LOG-PAD", &[access.as_bytes()]);
    let literal = |id: &Digest| Digest::new(xor(&Digest::new(pad), id));
    let seen = [literal(&ids[3]), literal(&ids[1]), literal(&ids[3])];
    assert_eq!(seen[0], seen[2]);
    let pairs = |difference: [u8; 32]| -> Vec<(usize, usize)> {
        (0..5)
            .flat_map(|one| (0..5).map(move |two| (one, two)))
            .filter(|(one, two)| xor(&ids[*one], &ids[*two]) == difference)
            .collect()
    };
    assert_eq!(pairs(xor(&seen[0], &seen[1])), [(1, 3), (3, 1)]);

    let mut entry = |number, id: &Digest| {
        let salt = bytes(&mut rng);
        Entry {
            number,
            salt,
            masked: key.mask(&here, &access, number, &salt, id),
        }
    };
    let entries: Vec<Entry> = [3, 1, 3, 3]
        .iter()
        .enumerate()
        .map(|(number, record)| entry(number as u64, &ids[*record]))
        .collect();
    for (place, one) in entries.iter().enumerate() {
        assert!(!ids.contains(&one.masked));
        for two in &entries[place + 1..] {
            assert_ne!(one.masked, two.masked);
            assert_eq!(pairs(xor(&one.masked, &two.masked)), []);
        }
    }
    // The same count again, as two keys of a team have it, and the same record: the salt tells them
    // apart, and so does the access key.
    let again = entry(0, &ids[3]);
    assert_ne!(again.masked, entries[0].masked);
    let colleague = SigningKey::from_seed([0x62; 32]).verifying_key();
    let of_colleague = key.mask(&here, &colleague, 0, &entries[0].salt, &ids[3]);
    assert_ne!(of_colleague, entries[0].masked);
    // Who holds G reads each; another grant's G, or none, reads nothing.
    let read =
        |key: &LogKey, one: &Entry| key.mask(&here, &access, one.number, &one.salt, &one.masked);
    assert_eq!(read(&key, &entries[1]), ids[1]);
    for other in [LogKey::from_bytes([0; 32]), LogKey::from_bytes([1; 32])] {
        assert!(entries.iter().all(|one| !ids.contains(&read(&other, one))));
    }
}

/// Attacker: an accounting node, which holds G, or another reader of the team. They write an entry in
/// the doctor's name, move one to another count or key, or have it say another record. Literal: entries
/// that the nodes write, as the paper's log of the master node would be: whoever holds G makes them.
/// Ours: an entry is signed by the access key that it counts under, and count, salt, key and mask are
/// all signed.
#[test]
fn attack_forge_or_move_access_log_entries() {
    let mut rng = rng(42);
    let here = consortium();
    let (doctor, colleague) = (
        SigningKey::from_seed([0x60; 32]),
        SigningKey::from_seed([0x62; 32]),
    );
    let key = LogKey::random(&mut rng);
    let (read, other) = (sha256(b"the record read"), sha256(b"another record"));
    let mask = |access: &SigningKey, number, salt: &[u8; 16], id: &Digest| {
        key.mask(&here, &access.verifying_key(), number, salt, id)
    };
    // Without the doctor's signature the node's entry is as good as the doctor's.
    let salt = bytes(&mut rng);
    let written_by_a_node = mask(&doctor, 0, &salt, &other);
    assert_eq!(mask(&doctor, 0, &salt, &written_by_a_node), other);

    let entry = |number, id: &Digest| Entry {
        number,
        salt,
        masked: mask(&doctor, number, &salt, id),
    };
    let honest = entry(3, &read);
    let signature = sign(&doctor, &honest);
    assert!(stands(&doctor.verifying_key(), &honest, &signature));
    // The node or the colleague signs with what they have.
    for forger in [&colleague, &SigningKey::from_seed([0xa0; 32])] {
        let forged = sign(forger, &honest);
        assert!(!stands(&doctor.verifying_key(), &honest, &forged));
    }
    // The doctor's signature under another count, salt, mask, key or purpose.
    let moved = [
        entry(4, &read),
        entry(2, &read),
        entry(3, &other),
        Entry {
            number: 4,
            ..entry(3, &read)
        },
        Entry {
            salt: [0; 16],
            ..entry(3, &read)
        },
    ];
    for one in &moved {
        assert!(!stands(&doctor.verifying_key(), one, &signature));
    }
    assert!(!stands(&colleague.verifying_key(), &honest, &signature));
    let parts = parts(&doctor.verifying_key(), &honest);
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    for context in [Context::Reading, Context::Revocation, Context::Request] {
        assert!(
            doctor
                .verifying_key()
                .verify(context, &here, &parts, &signature)
                .is_err()
        );
    }
    // A mask moved to another count does not say the record any more, so the nodes, which read it
    // before their share, refuse.
    let unmasked = mask(&doctor, 4, &salt, &honest.masked);
    assert!(unmasked != read && unmasked != other);
}
