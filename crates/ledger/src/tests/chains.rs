//! Random chains: what a leader proposes every voter executes to the same root, and the finished
//! chain keeps the invariants of `spec/chain.md`, restated here over the blocks alone.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use scheme::{Context, HpkePrivateKey, ValidatorEpoch, WriterEpoch, WriterEpochKey};

use super::*;
use crate::identity::Height;
use crate::state;
use crate::testing::rng;
use crate::transaction::{CheckedTransaction, Registration};

/// What a client might send next, sensible or not.
#[derive(Debug, Clone)]
enum Sent {
    Record {
        hospital: u32,
        number: u64,
        epoch: u32,
    },
    /// A record with the tags of another one.
    Collision {
        hospital: u32,
        number: u64,
        of: u64,
    },
    WriterEpoch {
        hospital: u32,
        epoch: u32,
    },
    Patient {
        number: u64,
        centre: u8,
    },
    Request {
        hospital: u32,
        number: u64,
    },
    Grant {
        number: u64,
        milliseconds: u64,
    },
    Access {
        grant: u64,
        entries: Vec<(u64, u64)>,
    },
    Revocation {
        grant: u64,
    },
    Withdrawal {
        number: u64,
    },
    CertificateRevocation {
        hospital: u32,
    },
    NodeKey {
        hospital: u32,
        epoch: u64,
        key: u64,
    },
    CentreKey {
        number: u8,
        /// Whose signature stands for the current key's.
        current: Option<u8>,
        approvers: u32,
        compromised: u8,
    },
    Again {
        earlier: usize,
    },
}

fn sent() -> impl Strategy<Value = Sent> {
    let hospital = 1u32..5;
    let entries = proptest::collection::vec((0u64..2, 0u64..4), 1..4);
    prop_oneof![
        4 => (hospital.clone(), 0u64..30, 0u32..2)
            .prop_map(|(hospital, number, epoch)| Sent::Record { hospital, number, epoch }),
        2 => (hospital.clone(), 0u64..30, 0u64..30)
            .prop_map(|(hospital, number, of)| Sent::Collision { hospital, number, of }),
        1 => (hospital.clone(), 0u32..3)
            .prop_map(|(hospital, epoch)| Sent::WriterEpoch { hospital, epoch }),
        2 => (0u64..5, 0u8..3).prop_map(|(number, centre)| Sent::Patient { number, centre }),
        2 => (hospital.clone(), 0u64..10)
            .prop_map(|(hospital, number)| Sent::Request { hospital, number }),
        3 => (0u64..4, 1u64..400)
            .prop_map(|(number, milliseconds)| Sent::Grant { number, milliseconds }),
        6 => (0u64..4, entries).prop_map(|(grant, entries)| Sent::Access { grant, entries }),
        1 => (0u64..4).prop_map(|grant| Sent::Revocation { grant }),
        1 => (0u64..5).prop_map(|number| Sent::Withdrawal { number }),
        1 => hospital.clone().prop_map(|hospital| Sent::CertificateRevocation { hospital }),
        2 => (hospital, 0u64..4, 0u64..2)
            .prop_map(|(hospital, epoch, key)| Sent::NodeKey { hospital, epoch, key }),
        2 => (1u8..4, proptest::option::of(0u8..3), 1u32..5, 0u8..4)
            .prop_map(|(number, current, approvers, compromised)| {
                Sent::CentreKey { number, current, approvers, compromised }
            }),
        2 => (0usize..50).prop_map(|earlier| Sent::Again { earlier }),
    ]
}

/// y of any writer epoch: that of the toy hospital for 0.
fn writer_key(four: &FourHospitals, hospital: u32, epoch: u32) -> WriterEpochKey {
    match epoch {
        0 => four.hospital(hospital).writer_key.clone(),
        _ => WriterEpochKey::random(&mut rng(
            "later writer epoch",
            u64::from(hospital * 100 + epoch),
        )),
    }
}

fn transaction(four: &FourHospitals, sent: &Sent, earlier: &[Transaction]) -> Transaction {
    match sent {
        Sent::Record {
            hospital,
            number,
            epoch,
        } => {
            let mut statement = four.statement(*hospital, *number, 8);
            statement.writer_key = writer_key(four, *hospital, *epoch).public_key();
            four.sign_record(*hospital, statement)
        }
        Sent::Collision {
            hospital,
            number,
            of,
        } => {
            let mut statement = four.statement(*hospital, *number, 8);
            statement.entries[3].tag = four.statement(*hospital, *of, 8).entries[5].tag;
            statement.entries.sort_unstable_by_key(|entry| entry.tag);
            statement.entries.dedup_by_key(|entry| entry.tag);
            if statement.entries.len() < 8 {
                statement = four.statement(*hospital, *number, 8);
            }
            four.sign_record(*hospital, statement)
        }
        Sent::WriterEpoch { hospital, epoch } => {
            let key = writer_key(four, *hospital, *epoch);
            four.writer_epoch_with(*hospital, WriterEpoch::new(*epoch), &key)
        }
        Sent::Patient { number, centre } => {
            let Transaction::Registration(signed) = four.patient(*number) else {
                unreachable!()
            };
            Transaction::Registration(Registration::sign(
                &four.consortium,
                signed.registrant,
                signed.keys,
                &four.centre_signer(*centre),
            ))
        }
        Sent::Request { hospital, number } => four.request(*hospital, *number),
        Sent::Grant {
            number,
            milliseconds,
        } => four.grant(*number, *milliseconds),
        Sent::Access { grant, entries } => four.access(*grant, entries),
        Sent::Revocation { grant } => four.revocation(*grant),
        Sent::Withdrawal { number } => four.withdrawal(*number),
        Sent::CertificateRevocation { hospital } => {
            let id = four.registration(*hospital).id(&four.consortium);
            four.certificate_revocation(id)
        }
        Sent::NodeKey {
            hospital,
            epoch,
            key,
        } => {
            let key = HpkePrivateKey::random(&mut rng("random node key", *key)).public_key();
            four.node_key_with(*hospital, ValidatorEpoch::new(*epoch), key)
        }
        Sent::CentreKey {
            number,
            current,
            approvers,
            compromised,
        } => {
            let before: Vec<u8> = (0..*number).filter(|n| compromised >> n & 1 == 1).collect();
            let next = four.next_centre_key(*number, &before);
            let current = current.map(|number| four.centre_signer(number));
            let approvers: Vec<u32> = (1..=*approvers).collect();
            four.centre_key(next, current.as_ref(), &approvers)
        }
        Sent::Again { earlier: at } => match earlier.get(*at % earlier.len().max(1)) {
            Some(transaction) => transaction.clone(),
            None => four.withdrawal(99),
        },
    }
}

fn settings() -> Settings {
    let mut settings = Settings::standard();
    settings.anchor_interval = Duration::from_millis(40);
    settings.epoch_blocks = 5;
    settings.cut.count = 6;
    settings
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn proposed_and_executed_agree_and_the_invariants_hold(
        blocks in proptest::collection::vec(
            (proptest::collection::vec(sent(), 0..8), 1u64..30),
            1..12,
        ),
    ) {
        let four = FourHospitals::found(settings());
        let mut chain = ToyChain::new(&four);
        let opening = four.opening();
        chain.grow(10, opening[..4].to_vec());
        chain.grow(10, opening[4..].to_vec());
        let mut earlier: Vec<Transaction> = Vec::new();
        let mut expected_refusals = 0;
        for (batch, after_ms) in blocks {
            let candidates: Vec<CheckedTransaction> = batch
                .iter()
                .map(|sent| {
                    let transaction = transaction(&four, sent, &earlier);
                    earlier.push(transaction.clone());
                    four.checked(transaction)
                })
                .collect();
            let proposal = chain.propose(after_ms, &candidates);
            expected_refusals += proposal.refused.len();
            let bytes = proposal.block.encode();
            let read = Block::decode(&bytes, &settings().limits()).expect("an honest block");
            prop_assert_eq!(&read, &proposal.block);
            let changes = execute(&chain.view, chain.tip(), &read).expect("an honest block");
            prop_assert_eq!(&changes, &proposal.changes);
            chain.view.apply(&changes);
            chain.blocks.push(read);
            prop_assert_eq!(
                state::state_root(&chain.view).expect("memory"),
                chain.tip().state_root
            );
        }
        let taken: usize = chain.blocks.iter().map(|block| block.transactions().len()).sum();
        prop_assert!(taken + expected_refusals >= 8);

        let root = naive::state_root(&four.consortium, &chain.blocks, &chain.view);
        prop_assert_eq!(chain.tip().state_root.digest(), root);
        for block in &chain.blocks {
            prop_assert_eq!(block.header().merkle_root, naive::body_root(&four.consortium, block));
        }
        invariant_chain_is_linked(&chain);
        invariant_only_accounting_nodes_lead_in_order(&chain);
        invariant_transactions_are_final_once(&chain);
        invariant_tags_are_unique(&chain);
        invariant_accesses_are_gapless_and_in_time(&chain);
        invariant_records_are_found_when_final(&chain);
        invariant_anchors_cover_every_block_once(&chain);
        invariant_node_keys_stand_once_and_in_time(&chain);
        invariant_the_centre_signs_with_its_current_key(&chain);
    }
}

fn invariant_chain_is_linked(chain: &ToyChain<'_>) {
    for pair in chain.blocks.windows(2) {
        assert_eq!(pair[1].parent(), pair[0].id());
        assert_eq!(pair[1].height().number(), pair[0].height().number() + 1);
        assert!(pair[1].time() > pair[0].time());
    }
}

fn invariant_only_accounting_nodes_lead_in_order(chain: &ToyChain<'_>) {
    let four = chain.hospitals;
    for block in &chain.blocks[1..] {
        // Three accounting nodes, hospitals 1 to 3, by view.
        let turn = block.header().view.number() % 3;
        let leader = &four.hospital(turn as u32 + 1).institution;
        assert_eq!(block.producer(), leader.node);
    }
}

fn invariant_transactions_are_final_once(chain: &ToyChain<'_>) {
    let mut seen = BTreeSet::new();
    for block in &chain.blocks {
        for (place, (id, _)) in block.identified().enumerate() {
            assert!(seen.insert(id), "{id} stands twice");
            let held = state::transaction(&chain.view, id)
                .expect("memory")
                .expect("final");
            assert_eq!((held.height, held.index as usize), (block.height(), place));
        }
    }
}

fn invariant_tags_are_unique(chain: &ToyChain<'_>) {
    let mut seen = BTreeSet::new();
    for transaction in chain.blocks.iter().flat_map(Block::transactions) {
        if let Transaction::Record(record) = transaction {
            for entry in &record.statement.entries {
                let writer = *record.statement.writer_key.as_bytes();
                assert!(seen.insert((writer, entry.tag)), "a tag stands twice");
            }
        }
    }
}

fn invariant_accesses_are_gapless_and_in_time(chain: &ToyChain<'_>) {
    let four = chain.hospitals;
    // Access key to (begin, end, grant); grant to whether it is revoked; access key to count.
    let mut granted = BTreeMap::new();
    let mut revoked = BTreeSet::new();
    let mut counts = BTreeMap::new();
    for block in &chain.blocks {
        for transaction in block.transactions() {
            match transaction {
                Transaction::Grant(grant) => {
                    for key in &grant.entry.access_keys {
                        let id = grant.entry.id(&four.consortium);
                        let terms = (grant.entry.not_before, grant.entry.expiry, id);
                        assert!(granted.insert(*key, terms).is_none(), "a key in two grants");
                    }
                }
                Transaction::Revocation(revocation) => {
                    assert!(revoked.insert(revocation.grant(&four.consortium)));
                }
                Transaction::Access(access) => {
                    for entry in &access.entries {
                        let (begin, end, id) = granted[&entry.access_key];
                        assert!(begin <= block.time() && block.time() < end);
                        assert!(!revoked.contains(&id), "an access after the revocation");
                        let count = counts.entry(entry.access_key).or_insert(0);
                        assert_eq!(entry.number.number(), *count, "a gap or a repetition");
                        *count += 1;
                    }
                }
                _ => {}
            }
        }
    }
    for (key, (_, _, id)) in granted {
        let held = state::grant(&chain.view, id)
            .expect("memory")
            .expect("recorded");
        let next = held
            .access
            .iter()
            .find(|(own, _)| *own == key)
            .expect("named")
            .1;
        assert_eq!(next.number(), counts.get(&key).copied().unwrap_or(0));
        assert_eq!(held.revoked.is_some(), revoked.contains(&id));
    }
}

fn invariant_records_are_found_when_final(chain: &ToyChain<'_>) {
    let mut number = 0;
    for block in &chain.blocks {
        for (id, transaction) in block.identified() {
            let Transaction::Record(record) = transaction else {
                continue;
            };
            let held = state::record(&chain.view, crate::RecordNumber::new(number))
                .expect("memory")
                .expect("final");
            assert_eq!(
                (held.transaction, held.position.height),
                (id, block.height())
            );
            let statement = &record.statement;
            assert_eq!(held.digest, statement.digest);
            assert_eq!(held.header_digest, statement.header_digest);
            assert_eq!(
                held.owner_key.decode().as_ref(),
                Ok(&statement.owner_key),
                "the row's owner key is the signed one"
            );
            assert_eq!(held.locator, statement.locator);
            assert_eq!(held.author, statement.author);
            let (institution, epoch) = state::writer_of(&chain.view, &record.statement.writer_key)
                .expect("memory")
                .expect("on the chain");
            for entry in &record.statement.entries {
                let found = state::record_by_tag(&chain.view, institution, epoch, &entry.tag);
                assert_eq!(found.expect("memory"), Some(held));
                let row = state::index_entry(&chain.view, institution, epoch, &entry.tag);
                let row = row.expect("memory").expect("an entry of a final record");
                assert_eq!((row.record, row.pad), (held.number, entry.pad));
            }
            assert_eq!((held.institution, held.writer_epoch), (institution, epoch));
            number += 1;
        }
    }
    assert_eq!(
        state::record_count(&chain.view).expect("memory").number(),
        number
    );
}

fn invariant_anchors_cover_every_block_once(chain: &ToyChain<'_>) {
    let four = chain.hospitals;
    let interval = settings().anchor_interval.as_millis() as u64;
    let mut next = 1;
    let mut last_time = chain.blocks[0].time().number();
    for (at, block) in chain.blocks.iter().enumerate().skip(1) {
        let holds_record = |block: &Block| {
            block
                .transactions()
                .iter()
                .any(|tx| matches!(tx, Transaction::Record(_)))
        };
        let due = block.time().number() - last_time >= interval
            && chain.blocks[next..at].iter().any(holds_record);
        let anchor = match block.transactions().last() {
            Some(Transaction::Anchor(anchor)) => Some(anchor),
            _ => None,
        };
        assert_eq!(anchor.is_some(), due, "block {at}");
        if let Some(anchor) = anchor {
            assert_eq!(anchor.first, Height::new(next as u64));
            assert_eq!(anchor.last, Height::new(at as u64 - 1));
            let roots: Vec<_> = chain.blocks[next..at]
                .iter()
                .map(|block| block.header().merkle_root)
                .collect();
            assert_eq!(anchor.root, naive::anchor_root(&four.consortium, &roots));
            next = at;
            last_time = block.time().number();
        }
    }
}

fn invariant_node_keys_stand_once_and_in_time(chain: &ToyChain<'_>) {
    let mut held = BTreeMap::new();
    for block in &chain.blocks {
        let current = block.header().epoch.number();
        for transaction in block.transactions() {
            let Transaction::NodeKey(node_key) = transaction else {
                continue;
            };
            let epoch = node_key.epoch.number();
            assert!(epoch == current || epoch == current + 1);
            // Hospitals 1 to 3 account.
            assert!(node_key.institution.number() <= 3);
            let key = (node_key.epoch, node_key.institution);
            let place = (node_key.key, block.height());
            assert!(held.insert(key, place).is_none(), "a key was replaced");
        }
    }
    for ((epoch, institution), place) in held {
        let state = state::node_key(&chain.view, epoch, institution)
            .expect("memory")
            .expect("recorded");
        assert_eq!((state.key, state.recorded.height), place);
    }
}

fn invariant_the_centre_signs_with_its_current_key(chain: &ToyChain<'_>) {
    let four = chain.hospitals;
    // Each key, the height from which it signs, and the one from which it counts as lost.
    let mut keys = vec![(four.genesis.centre, Height::new(0), None)];
    let signed = |key: &scheme::VerifyingKey, transaction: &Transaction, signatures: usize| {
        let bytes = transaction.encode();
        let (text, signature) = bytes.split_at(bytes.len() - signatures);
        let signature = scheme::Signature::new(signature[..64].try_into().expect("64 bytes"));
        let parts = [&text[..1], &text[1..]];
        key.verify(Context::Transaction, &four.consortium, &parts, &signature)
            .is_ok()
    };
    for block in &chain.blocks {
        for transaction in block.transactions() {
            let (current, ..) = *keys.last().expect("the founding one");
            match transaction {
                Transaction::Registration(_) | Transaction::CertificateRevocation(_) => {
                    assert!(signed(&current, transaction, 64), "by another key");
                }
                Transaction::CentreKey(rotation) => {
                    let next = &rotation.next;
                    assert_eq!(usize::from(next.number.number()), keys.len());
                    assert!(keys.iter().all(|(key, ..)| *key != next.key));
                    let by_current = rotation.current.is_some();
                    // Of four hospitals one may be faulty.
                    let approvers: BTreeSet<_> = rotation
                        .approvals
                        .iter()
                        .map(|approval| approval.by)
                        .collect();
                    assert!(approvers.len() >= if by_current { 2 } else { 3 });
                    // Kind and body, one signature, and whatever others there are.
                    let others = usize::from(by_current) * 64 + 1 + 4 + approvers.len() * 68;
                    assert!(signed(&next.key, transaction, 64 + others));
                    if by_current {
                        let bytes = transaction.encode();
                        let body = 1 + 1 + 32 + 1 + next.compromised.len();
                        let parts = [&bytes[..1], &bytes[1..body]];
                        let signature = bytes[body + 65..body + 129].try_into();
                        let signature = scheme::Signature::new(signature.expect("64 bytes"));
                        let context = Context::Transaction;
                        let stands = current.verify(context, &four.consortium, &parts, &signature);
                        assert!(stands.is_ok());
                    }
                    for number in &next.compromised {
                        let lost = &mut keys[usize::from(number.number())].2;
                        *lost = lost.or(Some(block.height()));
                    }
                    keys.push((next.key, block.height(), None));
                }
                _ => {}
            }
        }
    }
    let held = state::centre_keys(&chain.view).expect("memory");
    let held: Vec<_> = held
        .keys()
        .iter()
        .map(|key| {
            let lost = key.compromised.map(|since| since.height);
            (key.key, key.begun.height, lost)
        })
        .collect();
    assert_eq!(held, keys);
}
