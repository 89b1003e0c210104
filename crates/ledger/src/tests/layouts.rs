//! Layouts: pinned bytes, bounds, truncation, flipped bytes, broken signatures.

use proptest::prelude::*;
use scheme::{Digest, InstitutionId, Signature, sha256};

use super::*;
use crate::genesis::{Genesis, GenesisError};
use crate::identity::{Height, LeaderView};
use crate::policy::{LeaderTerm, NodeSetError, Tier};
use crate::testing::FOUNDED;
use crate::transaction::{
    Anchor, CheckError, CheckedTransaction, Kind, Signer, TRANSACTION_BYTES_MAX,
};

/// One of each kind, with the anchor of a block that holds a record.
fn every_kind(four: &FourHospitals) -> Vec<Transaction> {
    let mut all = four.one_of_each();
    let root = Digest::new([7; 32]);
    all.push(Transaction::Anchor(Anchor {
        first: Height::new(1),
        last: Height::new(9),
        root,
    }));
    all
}

/// Encodings of everything that is stored or signed. Changing one is a deliberate act: it founds
/// another chain.
#[test]
fn encodings_are_pinned() {
    let four = FourHospitals::default();
    let mut found = vec![
        format!(
            "genesis {} {}",
            four.genesis.encode().len(),
            sha256(&four.genesis.encode())
        ),
        format!("consortium 32 {}", Digest::new(*four.consortium.as_bytes())),
    ];
    for transaction in every_kind(&four) {
        let bytes = transaction.encode();
        let (kind, id) = (transaction.kind(), transaction.id(&four.consortium));
        found.push(format!("{kind:?} {} {} {id}", bytes.len(), sha256(&bytes)));
    }
    let agent = crate::UserKey {
        hash: crate::KeyHash::new([1; 32]),
        usage: crate::KeyUse::Signature,
    };
    let registrant = crate::Registrant::Agent;
    let agent = crate::Registration::sign(&four.consortium, registrant, vec![agent], &four.centre);
    let others = [four.patient(1), Transaction::Registration(agent)];
    for transaction in &others {
        let bytes = transaction.encode();
        found.push(format!("user {} {}", bytes.len(), sha256(&bytes)));
    }
    let mut chain = opened(&four);
    let all = others
        .into_iter()
        .chain(four.one_of_each().into_iter().skip(2));
    let block = chain.grow(10, all.collect()).clone();
    found.push(format!(
        "block {} {}",
        block.encode().len(),
        sha256(&block.encode())
    ));
    found.push(format!("block id 32 {}", block.id()));
    found.push(format!("state root 32 {}", block.header().state_root));
    assert_eq!(found.join("\n"), PINNED.trim());
}

#[test]
fn kinds_have_distinct_codes_and_ids() {
    let four = FourHospitals::default();
    let all = every_kind(&four);
    let codes: std::collections::BTreeSet<_> = all.iter().map(|tx| tx.encode()[0]).collect();
    let kinds: std::collections::BTreeSet<Kind> = all.iter().map(Transaction::kind).collect();
    let ids: std::collections::BTreeSet<_> = all.iter().map(|tx| tx.id(&four.consortium)).collect();
    assert_eq!((codes.len(), kinds.len(), ids.len()), (16, 16, 16));
    let elsewhere = scheme::ConsortiumId::new([1; 32]);
    for transaction in &all {
        assert_ne!(transaction.id(&four.consortium), transaction.id(&elsewhere));
    }
}

#[test]
fn decode_undoes_encode_and_truncated_or_longer_bytes_are_errors() {
    let four = FourHospitals::default();
    for transaction in every_kind(&four) {
        let bytes = transaction.encode();
        assert_eq!(Transaction::decode(&bytes).as_ref(), Ok(&transaction));
        for length in 0..bytes.len() {
            assert!(
                Transaction::decode(&bytes[..length]).is_err(),
                "{:?}",
                transaction.kind()
            );
        }
        assert!(Transaction::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    }
    let oversized = vec![4; TRANSACTION_BYTES_MAX + 1];
    assert!(Transaction::decode(&oversized).is_err());

    let mut chain = opened(&four);
    let block = chain.grow(10, four.one_of_each()[2..5].to_vec()).clone();
    let (bytes, limits) = (block.encode(), four.genesis.settings.limits());
    assert_eq!(Block::decode(&bytes, &limits).as_ref(), Ok(&block));
    for length in 0..bytes.len() {
        assert!(Block::decode(&bytes[..length], &limits).is_err());
    }
    assert!(Block::decode(&[bytes.as_slice(), &[0]].concat(), &limits).is_err());
    let header = block.header().encode();
    assert_eq!(header.len(), Header::BYTES);
    assert_eq!(Header::decode(&header), Ok(*block.header()));
}

/// One byte of a transaction flipped: some level refuses it, whatever the byte.
#[test]
fn a_transaction_with_any_byte_flipped_is_refused() {
    let four = FourHospitals::found(plain());
    let mut chain = ToyChain::new(&four);
    for transaction in four.one_of_each() {
        let bytes = transaction.encode();
        let time = Timestamp::new(chain.tip().time.number() + 10);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            if let Ok(checked) = CheckedTransaction::decode(&flipped, &four.consortium) {
                let admitted = admit(&chain.view, &checked, time);
                let kind = transaction.kind();
                assert!(
                    matches!(admitted, Err(AdmitError::Refused(_))),
                    "{kind:?} with byte {at} flipped: {admitted:?}"
                );
            }
        }
        chain.grow(10, vec![transaction]);
    }
}

/// One byte of a block flipped: it does not decode, or every voter refuses it.
#[test]
fn a_block_with_any_byte_flipped_is_refused() {
    let mut settings = plain();
    settings.anchor_interval = Duration::from_millis(30);
    let four = FourHospitals::found(settings);
    let mut chain = opened(&four);
    chain.grow(10, vec![four.record(1, 1)]);
    let candidates = [four.record(2, 2), four.withdrawal(1)].map(|tx| four.checked(tx));
    let block = chain.propose(10, &candidates).block;
    assert_eq!(block.transactions().len(), 3, "with an anchor");
    let (bytes, limits) = (block.encode(), settings.limits());
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(read) = Block::decode(&flipped, &limits) {
            broken(&chain, &read);
            if at < Header::BYTES {
                assert_ne!(read.id(), block.id(), "byte {at} stands under the id");
            }
        }
    }
}

/// Level 2: every signature whose key stands in the transaction, broken alone.
#[test]
fn signatures_that_need_no_state_must_stand() {
    let four = FourHospitals::default();
    let zero = Signature::new([0; 64]);
    let check = |transaction: Transaction| crate::check_transaction(&transaction, &four.consortium);
    for mut transaction in every_kind(&four) {
        let signer = match &mut transaction {
            Transaction::Motion(tx) => {
                let crate::MembershipChange::Admit(application) = &mut tx.change else {
                    unreachable!()
                };
                let right = application.by_node;
                application.by_node = zero;
                let node = check(Transaction::Motion(tx.clone()));
                assert_eq!(node, Err(CheckError::Signature(Signer::Node)));
                let crate::MembershipChange::Admit(application) = &mut tx.change else {
                    unreachable!()
                };
                application.by_node = right;
                application.by_key = zero;
                Signer::Institution
            }
            Transaction::Succession(tx) => {
                let mut node = *tx;
                node.next.by_node = zero;
                let node = check(Transaction::Succession(node));
                assert_eq!(node, Err(CheckError::Signature(Signer::Node)));
                tx.next.by_key = zero;
                Signer::Institution
            }
            Transaction::Record(tx) => {
                tx.doctor = zero;
                Signer::Doctor
            }
            Transaction::Request(tx) => {
                tx.doctor = zero;
                Signer::Doctor
            }
            Transaction::Grant(tx) => {
                tx.signature = zero;
                Signer::Granter
            }
            Transaction::Access(tx) => {
                tx.entries[1].signature = zero;
                Signer::Access
            }
            Transaction::Revocation(tx) => {
                tx.signature = zero;
                Signer::Granter
            }
            Transaction::Withdrawal(tx) => {
                tx.signature = zero;
                Signer::Withdrawer
            }
            Transaction::WriterEpoch(tx) => {
                // The proof of another writer epoch.
                tx.epoch = scheme::WriterEpoch::new(1);
                assert_eq!(check(transaction), Err(CheckError::WriterEpochProof));
                continue;
            }
            Transaction::CentreKey(tx) => {
                tx.possession = zero;
                Signer::NextCentreKey
            }
            // Their keys stand in the state.
            Transaction::Registration(_)
            | Transaction::CertificateRevocation(_)
            | Transaction::NodeKey(_)
            | Transaction::Approval(_)
            | Transaction::Contact(_)
            | Transaction::Anchor(_) => {
                assert_eq!(check(transaction), Ok(()));
                continue;
            }
        };
        assert_eq!(check(transaction), Err(CheckError::Signature(signer)));
    }
}

/// Level 1: every bound and order of a layout, broken alone, in a value and in its bytes.
#[test]
fn layouts_are_checked_in_values_and_in_bytes() {
    let four = FourHospitals::default();
    let mut wrong = Vec::new();
    let mut statements = Vec::new();
    for entries in [0, 7, 12] {
        statements.push(four.statement(1, 1, entries));
    }
    statements.push(four.statement(1, 1, 1_032));
    let mut unsorted = four.statement(1, 1, 8);
    unsorted.entries.swap(0, 1);
    statements.push(unsorted);
    let mut twice = four.statement(1, 1, 8);
    twice.entries[1].tag = twice.entries[0].tag;
    statements.push(twice);
    wrong.extend(
        statements
            .into_iter()
            .map(|statement| four.sign_record(1, statement)),
    );

    let alter = |alter: fn(&mut crate::GrantEntry)| {
        let mut entry = four.grant_entry(1, 1_000);
        alter(&mut entry);
        four.sign_grant(1, entry, 1)
    };
    wrong.push(alter(|entry| entry.access_keys.clear()));
    wrong.push(alter(|entry| entry.access_keys.reverse()));
    wrong.push(alter(|entry| entry.access_keys[1] = entry.access_keys[0]));
    wrong.push(alter(|entry| entry.expiry = entry.not_before));
    wrong.push(alter(|entry| {
        entry.access_keys = (0..33)
            .map(|n| scheme::VerifyingKey::new([n; 32]))
            .collect();
    }));

    let accesses = |count: u64| {
        let entries: Vec<_> = (0..count).map(|number| (0, number)).collect();
        four.access(1, &entries)
    };
    wrong.push(accesses(0));
    wrong.push(accesses(257));

    let keys = |count: u8| {
        let keys = (0..count)
            .map(|n| crate::UserKey {
                hash: crate::KeyHash::new([n; 32]),
                usage: crate::KeyUse::Hpke,
            })
            .collect();
        let signed = crate::Registration::sign(
            &four.consortium,
            crate::Registrant::Agent,
            keys,
            &four.centre,
        );
        Transaction::Registration(signed)
    };
    wrong.push(keys(0));
    wrong.push(keys(9));
    let Transaction::Registration(mut unsorted) = keys(2) else {
        unreachable!()
    };
    unsorted.keys.reverse();
    wrong.push(Transaction::Registration(unsorted));

    let admit = |alter: fn(&mut crate::Motion, &mut crate::Application)| {
        let mut application = four.application(&four.newcomer(Tier::Secondary));
        let mut motion = four.motion(1, crate::MembershipChange::Remove(InstitutionId::new(4)));
        alter(&mut motion, &mut application);
        motion.change = crate::MembershipChange::Admit(Box::new(application));
        Transaction::Motion(Box::new(motion))
    };
    assert!(crate::check_transaction(&admit(|_, _| {}), &four.consortium).is_ok());
    wrong.push(admit(|motion, _| {
        let document = motion.documents[0].clone();
        motion.documents = vec![document; 17];
    }));
    wrong.push(admit(|_, application| {
        application.institution.node = application.institution.key;
    }));
    let mut one_key = four.possessed(1, 1);
    one_key.succession.node = one_key.succession.key;
    let change = crate::MembershipChange::Succeed(one_key);
    wrong.push(Transaction::Motion(Box::new(four.motion(1, change))));
    let key = &four.hospital(1).key;
    let succession = crate::SuccessionTransaction::sign(&four.consortium, one_key, key);
    wrong.push(Transaction::Succession(succession));

    let next = |alter: fn(&mut crate::NextCentreKey)| {
        let mut next = four.next_centre_key(5, &[1, 3]);
        alter(&mut next);
        four.centre_key(next, None, &[1, 2, 3])
    };
    let number = crate::CentreKeyNumber::new;
    assert!(crate::check_transaction(&next(|_| {}), &four.consortium).is_ok());
    wrong.push(next(|next| next.number = crate::CentreKeyNumber::new(0)));
    wrong.push(next(|next| next.number = crate::CentreKeyNumber::new(64)));
    wrong.push(next(|next| next.compromised.reverse()));
    wrong.push(next(|next| next.compromised[0] = next.compromised[1]));
    wrong.push(next(|next| next.compromised.push(next.number)));
    let Transaction::CentreKey(rotation) = next(|_| {}) else {
        unreachable!()
    };
    let mut all_before = rotation.clone();
    all_before.next.number = number(63);
    all_before.next.compromised = (0..65).map(number).collect();
    wrong.push(Transaction::CentreKey(all_before));
    let mut unsorted = rotation.clone();
    unsorted.approvals.reverse();
    wrong.push(Transaction::CentreKey(unsorted));
    let mut many = rotation;
    many.approvals = (0..256)
        .map(|by| crate::CentreKeyApproval {
            by: InstitutionId::new(by),
            signature: Signature::new([0; 64]),
        })
        .collect();
    wrong.push(Transaction::CentreKey(many));

    let root = Digest::new([7; 32]);
    let backward = Anchor {
        first: Height::new(9),
        last: Height::new(1),
        root,
    };
    wrong.push(Transaction::Anchor(backward));

    // Of small order: the identity, and the same with the bit that X25519 does not read.
    for top in [0, 0x80] {
        let mut key = [0; 32];
        key[31] = top;
        let key = scheme::HpkePublicKey::new(key);
        wrong.push(four.node_key_with(1, scheme::ValidatorEpoch::new(0), key));
    }

    for transaction in wrong {
        let bytes = transaction.encode();
        let read = Transaction::decode(&bytes);
        assert!(read.is_err(), "{read:?}");
        let checked = CheckedTransaction::new(transaction, &four.consortium);
        assert!(matches!(checked, Err(CheckError::Layout(_))), "{checked:?}");
    }
}

#[test]
fn an_institutions_name_is_short_and_printable_utf_8() {
    use crate::InstitutionName;
    for right in ["Clínica São João", "x", "x".repeat(64).as_str()] {
        let name = InstitutionName::new(right).expect("a name");
        assert_eq!((name.as_str(), name.to_string().as_str()), (right, right));
    }
    for wrong in ["", "a\nb", "\u{7f}", "x".repeat(65).as_str()] {
        assert!(InstitutionName::new(wrong).is_err(), "{wrong:?}");
    }
    // In bytes: of the wrong length, and no UTF-8.
    let four = FourHospitals::default();
    let bytes = four.application(&four.newcomer(Tier::Secondary)).to_bytes();
    // institution, tier, length
    let name = 4 + 1 + 4;
    let mut not_utf_8 = bytes.clone();
    not_utf_8[name] = 0xff;
    assert!(crate::Application::from_bytes(&not_utf_8).is_err());
    let mut too_long = bytes;
    too_long[name - 1] = 65;
    assert!(matches!(
        crate::Application::from_bytes(&too_long),
        Err(scheme::DecodeError::TooLarge {
            found: 65,
            limit: 64,
            ..
        })
    ));
}

/// O_rec and R must decode in the subgroup: off the curve, outside the subgroup, the identity.
#[test]
fn points_outside_the_subgroup_are_refused_by_construction() {
    let four = FourHospitals::default();
    let bytes = four.record(1, 1).encode();
    // kind, digest, header digest
    let owner_key = 1 + 32 + 32;
    let writer_key = owner_key + 96 + 80 + 4 + 8 * 32;
    let mut identity = [0; 96];
    identity[0] = 0xc0;
    // x = 0 (compressed) lies on the curve's twist or off it; x = small values: of the first 64
    // some are on the curve, and none of a subgroup whose index is above 2^250.
    let small = (0..64u8).map(|x| {
        let mut point = [0; 96];
        point[0] = 0x80;
        point[95] = x;
        point
    });
    for point in small.chain([identity, [0xff; 96]]) {
        for at in [owner_key, writer_key] {
            let mut altered = bytes.clone();
            altered[at..at + 96].copy_from_slice(&point);
            assert!(Transaction::decode(&altered).is_err());
        }
    }
}

/// "At most 32 bytes per entry + 700 bytes per record", measured on the block, lengths included; and
/// in the state one put a tag and one a record, with a constant number of others.
#[test]
fn a_record_costs_32_bytes_an_entry_and_533_more_and_a_put_a_tag() {
    let four = FourHospitals::found(plain());
    let chain = opened(&four);
    let empty = chain.propose(10, &[]);
    for entries in [8, 64, 512, 1_024] {
        let record = four.checked(four.sign_record(1, four.statement(1, 1, entries)));
        let with = chain.propose(10, &[record]);
        let bytes = with.block.encode().len() - empty.block.encode().len();
        assert_eq!(bytes, 32 * entries + 533);
        assert!(bytes <= 32 * entries + 700);
        let tags = with.changes.iter().filter(|(key, _)| key.starts_with(b"t"));
        let sizes: Vec<_> = tags
            .map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len))
            .collect();
        assert_eq!(sizes, vec![25 + 24; entries]);
        let rows = with.changes.iter().filter(|(key, _)| key.starts_with(b"r"));
        let sizes: Vec<_> = rows
            .map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len))
            .collect();
        assert_eq!(sizes, [9 + 324]);
        // Tip and anchor window are written by an empty block as well.
        let others = with.changes.len() - entries - empty.changes.len();
        assert!(others <= 6, "{others} more puts");
    }
}

#[test]
fn the_largest_transactions_fit_their_bound() {
    let four = FourHospitals::default();
    let accesses: Vec<_> = (0..256).map(|number| (0, number)).collect();
    let mut application = four.application(&four.newcomer(Tier::Secondary));
    let longest = crate::ContactAddress::new(&"x".repeat(255)).expect("visible ASCII");
    application.contact = crate::Contact {
        consensus: longest.clone(),
        node: longest.clone(),
        server: Some(longest),
        authority: crate::TlsAuthority::new(&"x".repeat(8_192)).expect("ASCII"),
    };
    application.institution.name = crate::InstitutionName::new(&"x".repeat(64)).expect("a name");
    let change = crate::MembershipChange::Admit(Box::new(application));
    let mut motion = four.motion(1, change);
    let title = crate::DocumentTitle::new(&"x".repeat(64)).expect("a title");
    motion.documents[0].title = title;
    motion.documents = vec![motion.documents[0].clone(); 16];
    let motion = Transaction::Motion(Box::new(motion));
    assert_eq!(motion.encode().len(), 10_917);
    let before: Vec<_> = (0..63).collect();
    let next = four.next_centre_key(63, &before);
    let Transaction::CentreKey(mut rotation) = four.centre_key(next, Some(&four.centre), &[])
    else {
        unreachable!()
    };
    rotation.approvals = (0..255)
        .map(|by| crate::CentreKeyApproval {
            by: InstitutionId::new(by),
            signature: Signature::new([0; 64]),
        })
        .collect();
    for largest in [
        four.sign_record(1, four.statement(1, 1, 1_024)),
        four.access(1, &accesses),
        Transaction::CentreKey(rotation),
        motion,
    ] {
        let bytes = largest.encode();
        assert!(bytes.len() <= TRANSACTION_BYTES_MAX);
        assert_eq!(Transaction::decode(&bytes), Ok(largest));
    }
}

#[test]
fn a_founding_document_survives_its_encoding_and_any_change_founds_another_consortium() {
    let four = FourHospitals::default();
    let bytes = four.genesis.encode();
    assert_eq!(Genesis::decode(&bytes).expect("own bytes"), four.genesis);
    for at in 0..bytes.len() {
        assert!(Genesis::decode(&bytes[..at]).is_err());
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(other) = Genesis::decode(&flipped) {
            assert_ne!(other.consortium(), four.consortium, "byte {at}");
        }
    }
    let mut renamed = four.genesis.clone();
    renamed.time = Timestamp::new(FOUNDED.number() + 1);
    assert_ne!(renamed.consortium(), four.consortium);
}

#[test]
fn founding_rules_and_settings_out_of_range_are_refused() {
    let founded = |alter: fn(&mut Genesis)| {
        let mut genesis = FourHospitals::default().genesis;
        alter(&mut genesis);
        crate::genesis(&genesis).map(drop)
    };
    assert!(founded(|_| {}).is_ok());
    let setting = |result| matches!(result, Err(GenesisError::Setting(_)));
    assert!(setting(founded(
        |genesis| genesis.settings.heartbeat = Duration::from_secs(3)
    )));
    // The story: a cut that waits as long as the leader's time-out founded a chain that stood still
    // with the first transaction, because every leader was passed over while it waited for company.
    let waiting = |result| match result {
        Err(GenesisError::Setting(why)) => why.contains("wait") && why.contains("time-out"),
        _ => false,
    };
    assert!(waiting(founded(
        |genesis| genesis.settings.cut.wait = genesis.settings.leader_timeout
    )));
    assert!(waiting(founded(
        |genesis| genesis.settings.cut.wait = Duration::from_secs(1)
    )));
    assert!(founded(|genesis| genesis.settings.cut.wait = Duration::from_millis(999)).is_ok());
    assert!(setting(founded(|genesis| genesis.settings.cut.count = 1)));
    assert!(setting(founded(|genesis| genesis
        .settings
        .body_bytes_max = 1_000)));
    assert!(setting(founded(|genesis| genesis
        .settings
        .body_bytes_max = u32::MAX)));
    assert!(setting(
        founded(|genesis| genesis.settings.epoch_blocks = 1)
    ));
    assert!(setting(founded(
        |genesis| genesis.settings.cut.wait = Duration::from_nanos(1)
    )));
    assert!(setting(founded(
        |genesis| genesis.settings.clock_drift = Duration::MAX
    )));

    // The story: a heartbeat of 0 made empty blocks as fast as the network carries them.
    assert!(setting(founded(
        |genesis| genesis.settings.heartbeat = Duration::ZERO
    )));
    assert!(setting(founded(
        |genesis| genesis.settings.heartbeat = Duration::from_millis(99)
    )));
    assert!(founded(|genesis| genesis.settings.heartbeat = Duration::from_millis(100)).is_ok());
    // The story: after a founding time of 2^64 - 1 no later time exists, and the first leader's sum
    // overflowed.
    let late = founded(|genesis| genesis.time = Timestamp::new(u64::MAX));
    assert!(matches!(late, Err(GenesisError::Time(time)) if time.number() == u64::MAX));
    assert!(founded(|genesis| genesis.time = Timestamp::new(253_402_300_799_999)).is_ok());
    assert!(founded(|genesis| genesis.time = Timestamp::new(253_402_300_800_000)).is_err());
    // Three accounting nodes of four: a grant of 3 shares could not be read with one node down.
    let three = founded(|genesis| {
        genesis.settings.threshold_min = scheme::Threshold::new(3).expect("not 0");
    });
    assert!(matches!(
        three,
        Err(GenesisError::Threshold { found: 3, most: 2 })
    ));

    let institutions = |result| matches!(result, Err(GenesisError::Institutions(_)));
    assert!(institutions(founded(|genesis| genesis
        .institutions
        .swap(0, 1))));
    assert!(institutions(founded(|genesis| {
        genesis.institutions[0].key = genesis.institutions[1].key;
    })));
    assert!(institutions(founded(
        |genesis| genesis.institutions[0].key = genesis.centre
    )));
    let nodes = |result| match result {
        Err(GenesisError::Nodes(error)) => Some(error),
        _ => None,
    };
    let few = nodes(founded(|genesis| {
        for institution in &mut genesis.institutions[1..] {
            institution.tier = Tier::Community;
        }
    }));
    assert_eq!(
        few,
        Some(NodeSetError::TooFewAccounting {
            found: 1,
            needed: 2
        })
    );
    assert_eq!(
        nodes(founded(|genesis| genesis.institutions.clear())),
        Some(NodeSetError::Empty)
    );

    let mut warned = FourHospitals::default().genesis;
    assert_eq!(warned.warnings().expect("founded"), []);
    warned.institutions[2].tier = Tier::Community;
    assert_eq!(warned.warnings().expect("founded").len(), 1);
}

/// Bytes that are no point of the curve (y = 2), and two points of small order: the identity, and the
/// point of order 2 (y = -1).
fn keys_without_signatures() -> [scheme::VerifyingKey; 3] {
    let (mut two, mut identity, mut minus_one) = ([0; 32], [0; 32], [0xff; 32]);
    two[0] = 2;
    identity[0] = 1;
    minus_one[0] = 0xec;
    minus_one[31] = 0x7f;
    [two, identity, minus_one].map(scheme::VerifyingKey::new)
}

/// The story: the engine verifies votes by a rule that knows no small order. A founder or a newcomer
/// with such a node key had a seat for which anyone could vote.
#[test]
fn keys_under_which_nothing_can_be_signed_neither_found_nor_join() {
    let four = FourHospitals::default();
    for key in keys_without_signatures() {
        assert!(!key.can_verify());
        let refused = |alter: &dyn Fn(&mut Genesis)| {
            let mut genesis = four.genesis.clone();
            alter(&mut genesis);
            match crate::genesis(&genesis) {
                Err(GenesisError::Key(whose)) => {
                    assert!(Genesis::decode(&genesis.encode()).is_err());
                    whose
                }
                other => panic!("founded with a key that signs nothing: {other:?}"),
            }
        };
        let centre = refused(&|genesis| genesis.centre = key);
        assert!(centre.contains("centre"), "{centre}");
        let institution = refused(&|genesis| genesis.institutions[2].key = key);
        assert!(institution.contains("institution 3"), "{institution}");
        let node = refused(&|genesis| genesis.institutions[1].node = key);
        assert!(node.contains("2's node"), "{node}");

        let newcomer = four.newcomer(Tier::Secondary);
        for role in [0, 1] {
            let mut application = four.application(&newcomer);
            let mut next = four.possessed(1, 1);
            match role {
                0 => (application.institution.key, next.succession.key) = (key, key),
                _ => (application.institution.node, next.succession.node) = (key, key),
            }
            for change in [
                crate::MembershipChange::Admit(Box::new(application)),
                crate::MembershipChange::Succeed(next),
            ] {
                let motion = Transaction::Motion(Box::new(four.motion(1, change)));
                assert!(Transaction::decode(&motion.encode()).is_err());
                assert!(matches!(
                    crate::transaction::check_transaction(&motion, &four.consortium),
                    Err(CheckError::Layout(_))
                ));
            }
        }
        let mut next = four.next_centre_key(1, &[]);
        next.key = key;
        let rotation = four.centre_key(next, Some(&four.centre), &[1, 2, 3]);
        assert!(Transaction::decode(&rotation.encode()).is_err());
        assert!(matches!(
            crate::transaction::check_transaction(&rotation, &four.consortium),
            Err(CheckError::Layout(_))
        ));
    }
}

#[test]
fn a_leaders_term_of_several_views_is_kept_by_the_rules() {
    let mut settings = plain();
    settings.leader_term = LeaderTerm::new(3).expect("not 0");
    let four = FourHospitals::found(settings);
    let mut chain = opened(&four);
    for _ in 0..8 {
        chain.grow(10, vec![]);
    }
    let led: Vec<_> = chain.blocks[1..]
        .iter()
        .map(|block| {
            let by = |hospital: &&crate::testing::Hospital| {
                hospital.institution.node == block.producer()
            };
            four.hospitals
                .iter()
                .find(by)
                .expect("one of four")
                .institution
                .id
                .number()
        })
        .collect();
    assert_eq!(led, [1, 1, 2, 2, 2, 3, 3, 3, 1]);
    assert_eq!(chain.tip().view, LeaderView::new(9));
}

/// The document names every rule that the code labels, and every invariant that the tests check.
#[test]
fn the_specification_names_every_rule_and_invariant() {
    let spec = include_str!("../../../../spec/chain.md");
    let sources = [
        include_str!("../execute.rs"),
        include_str!("../execute/effects.rs"),
    ];
    let mut labels = 0;
    for line in sources.iter().flat_map(|source| source.lines()) {
        let Some((label, _)) = line
            .trim_start()
            .strip_prefix("/// ")
            .and_then(|text| text.split_once([':', ',']))
            .filter(|(label, _)| label.len() <= 3 && label.ends_with(|c: char| c.is_ascii_digit()))
        else {
            continue;
        };
        assert!(
            spec.contains(&format!("\n| {label} |")),
            "rule {label} is not in spec/chain.md"
        );
        labels += 1;
    }
    let rules = spec.lines().filter(|line| {
        let cell = line
            .strip_prefix("| ")
            .and_then(|line| line.split(' ').next())
            .unwrap_or("");
        cell.len() <= 3
            && cell.starts_with(|c: char| c.is_ascii_uppercase())
            && cell.ends_with(|c: char| c.is_ascii_digit())
    });
    assert_eq!(
        rules.count(),
        labels,
        "every rule of spec/chain.md has a variant"
    );
    assert!(labels >= 40);

    let checks = include_str!("../testing/invariants.rs");
    let invariants: Vec<_> = checks
        .lines()
        .filter_map(|line| line.strip_prefix("fn invariant_")?.split('(').next())
        .collect();
    assert_eq!(invariants.len(), 10);
    for name in invariants {
        assert!(
            spec.contains(&format!("\n| {name} |")),
            "{name} is not in spec/chain.md"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_or_give_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let limits = plain().limits();
        if let Ok(transaction) = Transaction::decode(&bytes) {
            prop_assert_eq!(transaction.encode(), bytes.clone());
        }
        if let Ok(block) = Block::decode(&bytes, &limits) {
            prop_assert_eq!(block.encode(), bytes.clone());
        }
        if let Ok(header) = Header::decode(&bytes) {
            prop_assert_eq!(header.encode(), bytes.clone());
        }
        if let Ok(genesis) = Genesis::decode(&bytes) {
            prop_assert_eq!(genesis.encode(), bytes);
        }
    }

    #[test]
    fn any_body_behind_a_known_kind_decodes_or_gives_an_error(
        kind in 1u8..19,
        body in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let bytes = [&[kind], body.as_slice()].concat();
        if let Ok(transaction) = Transaction::decode(&bytes) {
            prop_assert_eq!(transaction.encode(), bytes);
        }
    }
}

/// What it is, its length in bytes, SHA-256 of it, and for a transaction its id.
const PINNED: &str = "
genesis 494 814d7ba99dfa02e3c19d3ed82b87aff9466e0a33c42e04f655105f76e071334c
consortium 32 85073a751f496ad8c2652d8f2a32e6fb64fe3fc0b06b088eb00890f5884f1b60
Registration 145 acbd4810318822457c59b9cd55443d61c94e491f2308d2914184cec52b6c42a7 538fc6cf0491d784efcfe120b54c12f38239fd49262398390b53c3fd0c07c65c
WriterEpoch 233 df0f1e423a9c53b6a76aa22107fb032fb3a656a1d946780b6f9272ccf99baaba 08accd9423ce6d8ef57e3cb0fb4bd50a5d0cca0b49b8da443a4a5fa178b45553
Record 785 e724758e6e1bba84aff7f4eb9491f84d59c3792a9717db1ff32cdb2bdadd215a d46f2acf86144a3562b078ab037288a6192f550496cb7e2bef8cabbb696a958e
Request 205 994a0c789557768d0a5a587c030f5f9de20c893885cecf92c8c6801fc19e9b93 d5b516c3df96f40077988efe0a5b31ceb44642221453e897878edc4945ba176e
Grant 286 d6b1ab1b5f1d9f4093d1822df5e98a594537e50eedbf38b7151912a851171d8b 4f0ccbd8748cb6549281d05f3a6f700b180a43bb30eb5fcb2405b5ceae8d9456
Access 459 d2ecba65a16e333151c268f65fa4dd629d5324a3d826cb3a3dc3e0e220a79781 e5fe3e40b948b8bc3e2ba6bb77e4deb994ec4cb60f9714a86d47317c9419ad8b
Revocation 97 ce26914ee0c4f854f499c308ae227cf0bf7318b9c6745264553284f806ec7afc 155e3950fc59ece352b0cf4c1e0b96aecfd21780a1715122a6591995b80f35c4
Withdrawal 97 f9cd75675a823d47c993106ce12229db259d4f6da8c72db6030f9a3cb1cebf5e 7eaf6f0bd209b3cce6cb4f73de0199d75e1ad7032f66fe8de656ec61c7646ecc
CertificateRevocation 97 f3cd76d6dfd660ad9b0cb83ac92a931b630d94c1ce1c724e91ece1bce9cde166 848bf82ac6f2ac52e6baef441c6d8757619f3783cb2f0da461f49daa13c00ebb
Motion 475 1ae41065dd9f2b46dbc3d965c6f59a9fc4a5e36c6faf9c1171f654b0d20f0da0 3c1c8d73b3c0e821ae0722ab55bb15153c3b1814e2bbdac684dc2711d3311f02
Approval 101 55b2d9c64ab2ef734618f48e575b39bf10ca8802e6043c8d92f51921d518b9e2 8a2a502391a608f6eb557e9047028c823d5ded25fb43c57c1a0c945e457cd959
NodeKey 109 0f8935a223fa3a90ef66aa779a8556057c5bb1d1881dd9f90ca5b953bb8d9b77 4a52f866ecb485e7ac44681697fc8a78b2fdcee581e3e9f29253c233b8d154bb
CentreKey 304 e74a1c42ac214dd54c0571ae6599a15ca5fc629f5e3ba8f6e7793d9a23a45feb 904c18624656d27e42c28a2b0dfcc4e8ae06640c48ba9f4be4fc3d5432738bc3
Contact 201 17f89611d9d6d49f73740dfd405d330d55fe68d631ccdeb445d83137a40ee8b1 80fa4c6c2f37becc14f44824b509dcc533a20d732bb25173726934a588566e52
Succession 265 c4f7df44213277eae88fa9ff5a8e2bb97e39b65da451ad6be6e9c412ebbf8cf0 dbb0024b313f934b08fc3e40da8da049ac78c2979ea597943afc10beac15def3
Anchor 49 560fa87f055b7b4bfbbda409828a4e56544338e36264dd87fb3f809bbd261cd2 0debe53ca9c77db35ec196ad606a41b3379ea1f113f0df000443c5a5dbc67b08
user 199 2f5d69fc7c537a52928625ca3c40da5d5e06909d3aef44238d9442092173b961
user 100 f382de734158050b53adee71d39c88d8a736d08d4c3e8daa41b07451dff4be15
block 4104 7653b573472cce2e06b1384f64e7f564c39017aeb4b1f7c167cc56d4284fed07
block id 32 2eabd774fa943300ac04b69b4090356da520968336503ab4d9ddacef9203429a
state root 32 c16f58d0c955dd9a777f7559cef9ea5037e44f395c05dd2ad41b55b0a6b78167
";
