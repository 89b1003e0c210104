//! Layouts: pinned bytes, bounds, truncation, flipped bytes, broken signatures.

use proptest::prelude::*;
use scheme::{Digest, Signature, sha256};

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
    assert_eq!((codes.len(), kinds.len(), ids.len()), (12, 12, 12));
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
            Transaction::Admission(tx) => {
                let mut node = tx.clone();
                node.node = zero;
                let node = check(Transaction::Admission(node));
                assert_eq!(node, Err(CheckError::Signature(Signer::Node)));
                tx.institution = zero;
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
            // Their keys stand in the state.
            Transaction::Registration(_)
            | Transaction::CertificateRevocation(_)
            | Transaction::NodeKey(_)
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

    let Transaction::Admission(admission) =
        four.admission(&four.newcomer(Tier::Secondary), &[1, 2, 3])
    else {
        unreachable!()
    };
    let mut unsorted = admission.clone();
    unsorted.approvals.reverse();
    wrong.push(Transaction::Admission(unsorted));
    let mut twice = admission.clone();
    twice.approvals[1] = twice.approvals[0];
    wrong.push(Transaction::Admission(twice));
    let mut many = admission.clone();
    many.approvals = (0..256)
        .map(|by| crate::Approval {
            by: scheme::InstitutionId::new(by),
            signature: Signature::new([0; 64]),
        })
        .collect();
    wrong.push(Transaction::Admission(many));
    let mut one_key = admission;
    one_key.subject.node = one_key.subject.key;
    wrong.push(Transaction::Admission(one_key));

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
    let bytes = four
        .admission(&four.newcomer(Tier::Secondary), &[1])
        .encode();
    // kind, institution, tier, length
    let name = 1 + 4 + 1 + 4;
    let mut not_utf_8 = bytes.clone();
    not_utf_8[name] = 0xff;
    assert!(Transaction::decode(&not_utf_8).is_err());
    let mut too_long = bytes;
    too_long[name - 1] = 65;
    assert!(matches!(
        Transaction::decode(&too_long),
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
    let Transaction::Admission(mut admission) =
        four.admission(&four.newcomer(Tier::Secondary), &[1])
    else {
        unreachable!()
    };
    admission.approvals = (0..255)
        .map(|by| crate::Approval {
            by: scheme::InstitutionId::new(by),
            signature: Signature::new([0; 64]),
        })
        .collect();
    for largest in [
        four.sign_record(1, four.statement(1, 1, 1_024)),
        four.access(1, &accesses),
        Transaction::Admission(admission),
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

    let checks = include_str!("chains.rs");
    let invariants: Vec<_> = checks
        .lines()
        .filter_map(|line| line.strip_prefix("fn invariant_")?.split('(').next())
        .collect();
    assert_eq!(invariants.len(), 8);
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
        kind in 1u8..13,
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
genesis 494 f4a0b12eab710345a72f9e474362c30a6eb25bb58de67ff88d69cdba2b127193
consortium 32 b020737e0f96bd60bbbbeba417f2ce98726049f300854e9c38bd446eae7da325
Registration 145 605ef21b59322af3954d7e6b5ea2180d72948882c4d52e5b65a305038066127c 22b4a78a4a879ba60b9e1decdbfaed34846e63032022e4693ccd237ca498977e
WriterEpoch 233 8ed941ceb21752e3a5384b88c08de79a651209da01f292d2260e03461201e78f 2509a610ad108d5221713aa35f7f2b97ababb3129a419d73d92c88f2b60dc3ad
Record 785 80f74e9fb3718c5e916d0e70c6078cdc9ff9b590d1528a31bbd5b2160334f0f7 d2b8e4e0e50875b1623ddd1e89ce3ccc00e5d49b6c0a74988e56691789483bc6
Request 205 b23a825ce5970984b9625a8ea63cdadb19923ce3a3037b685a5f6675f97d0779 112cedad1e0d018c221d2d9f4efa2bf771b67f91025046887897a32e1941258e
Grant 278 448b508bc3712e447e7119864b5e972529bd465514ece16c537dfa9d0d90065f bf353844e384cda7d546185a1dd833a2efb66a1e28955f480383815db173c987
Access 459 cc7183c9c5cdb211d461bfbeb026d44b1855bb5b0e05bbda363e01c78a15b902 ee5f26998aa257745697715811a4f9db1fd88a605d4ae8edcf76cd42d846881c
Revocation 97 20cd895cbd67c50a2362c97e7f0ef5b2c63c9cfcd24244dd5d2484f515c3d4a9 6ef8f4c230ef117571869324bf77606b9a062ab43cff7d3c7fa2ac6030b8b797
Withdrawal 97 fba52dbafd21833dbbe31e12b7906a2520b1bce7880af6aa82d736763332a7f5 2d85bbf566cd086c0be2fb7a3a9af09644edaddc95f2026f050a01d3506a638a
CertificateRevocation 97 162e6e4e5d2af6f03b049cb36a936350e22993108cacbbf7f6ff3fc134fd8caf 9112e88d42d0206b6e7f086ac737e31fdfa05b13f59a815392d99cb05f2f7a39
Admission 422 e09feeaf5b5255bb6c50baae8f4dcf18544fba5cc4aa3517cbc33dd557eb77d6 aab720fcd861c70d9d38addf7299beaa43cca00fb404c8114bc2265de97171e8
NodeKey 109 cd8fedb7cd53ad3848f8877e5bb51cc0a016e9e1e2ccb6df12b0f7c242903737 96b470bc907e82de59b545c71ac88833da3a2abd035607ff0a46f5d8c5bffbd0
Anchor 49 560fa87f055b7b4bfbbda409828a4e56544338e36264dd87fb3f809bbd261cd2 451fed3220acdccd96449280552f65c1687f864095cf83d8c69dbef58e51442c
user 199 d162081dc301e5e1b2266db4a1c4865040edc5239030d22a392b73e4db973873
user 100 b1e5cf42f9a2c0f119bb0a443a4767e803abd02e17aba3aa9ae7a906a2e7d2f7
block 3156 e780e0a9d0afbc2b509d7c5a53eef6dab8ebdb824df3e4b5d2051f3d3ba01ce4
block id 32 7b6d51e7f55164abbabacac9614e46cdf908c58d66c62e40614071112140e11b
state root 32 0ac5b89ac7698f877e480d243f2c49c60917b1e6ae81748ccc23c21374ae4354
";
