//! Random chains: what a leader proposes every voter executes to the same root, and the finished
//! chain keeps the invariants of `spec/chain.md`, restated over the blocks alone (`testing::Invariants`).

use proptest::prelude::*;
use scheme::{HpkePrivateKey, InstitutionId, ValidatorEpoch, WriterEpoch, WriterEpochKey};

use super::*;
use crate::policy::Tier;
use crate::state;
use crate::testing::{Invariants, rng};
use crate::transaction::{Approval, CheckedTransaction, MembershipChange, Motion, Registration};

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
        epoch: u64,
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
    Motion {
        by: u32,
        change: u32,
    },
    /// Approvals of an earlier motion.
    Approvals {
        earlier: usize,
        by: Vec<u32>,
    },
    Succession {
        hospital: u32,
        generation: u32,
    },
    Seat {
        whose: u32,
        epoch: u64,
    },
    Contact {
        hospital: u32,
        serial: u32,
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
        3 => (0u64..4, 0u64..3, 1u64..400).prop_map(|(number, epoch, milliseconds)| {
            Sent::Grant { number, epoch, milliseconds }
        }),
        6 => (0u64..4, entries).prop_map(|(grant, entries)| Sent::Access { grant, entries }),
        1 => (0u64..4).prop_map(|grant| Sent::Revocation { grant }),
        1 => (0u64..5).prop_map(|number| Sent::Withdrawal { number }),
        1 => hospital.clone().prop_map(|hospital| Sent::CertificateRevocation { hospital }),
        2 => (hospital.clone(), 0u64..4, 0u64..2)
            .prop_map(|(hospital, epoch, key)| Sent::NodeKey { hospital, epoch, key }),
        2 => (1u8..4, proptest::option::of(0u8..3), 1u32..5, 0u8..4)
            .prop_map(|(number, current, approvers, compromised)| {
                Sent::CentreKey { number, current, approvers, compromised }
            }),
        2 => (hospital.clone(), 0u32..6).prop_map(|(by, change)| Sent::Motion { by, change }),
        6 => (0usize..50, proptest::collection::vec(hospital.clone(), 1..4))
            .prop_map(|(earlier, by)| Sent::Approvals { earlier, by }),
        1 => (hospital.clone(), 1u32..3)
            .prop_map(|(hospital, generation)| Sent::Succession { hospital, generation }),
        2 => (1u32..6, 0u64..4).prop_map(|(whose, epoch)| Sent::Seat { whose, epoch }),
        1 => (hospital, 0u32..3).prop_map(|(hospital, serial)| Sent::Contact { hospital, serial }),
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

/// The key with which a hospital signs at the end of this chain.
fn current_key(chain: &ToyChain<'_>, hospital: u32) -> SigningKey {
    let id = chain.hospitals.hospital(hospital).institution.id;
    let held = state::institution_state(&chain.view, id).expect("memory");
    match held.map_or(0, |held| held.generation) {
        0 => chain.hospitals.hospital(hospital).key.clone(),
        later => chain.hospitals.next_keys(hospital, later).0,
    }
}

fn change(four: &FourHospitals, number: u32) -> MembershipChange {
    let id = InstitutionId::new;
    match number {
        0 => MembershipChange::Admit(Box::new(four.application(&four.newcomer(Tier::Secondary)))),
        1 => MembershipChange::Remove(id(4)),
        2 => MembershipChange::Retier(id(4), Tier::Secondary),
        3 => MembershipChange::Retier(id(3), Tier::Community),
        4 => MembershipChange::Retier(id(2), Tier::Observer),
        _ => MembershipChange::Succeed(four.possessed(1, 1)),
    }
}

fn transactions(chain: &ToyChain<'_>, sent: &Sent, earlier: &[Transaction]) -> Vec<Transaction> {
    let four = chain.hospitals;
    let of = |number: u32| four.hospital(number).institution.id;
    vec![match sent {
        Sent::Motion { by, change: number } => {
            let mut motion = four.motion(*by, change(four, *number));
            motion = Motion::sign(
                &four.consortium,
                motion.by,
                motion.until,
                motion.documents,
                motion.change,
                &current_key(chain, *by),
            );
            Transaction::Motion(Box::new(motion))
        }
        Sent::Approvals { earlier: at, by } => {
            let motions: Vec<_> = earlier
                .iter()
                .filter(|earlier| matches!(earlier, Transaction::Motion(_)))
                .collect();
            let Some(motion) = motions.get(at % motions.len().max(1)) else {
                return Vec::new();
            };
            let motion = motion.id(&four.consortium);
            let approve = |by: &u32| {
                let key = current_key(chain, *by);
                Transaction::Approval(Approval::sign(&four.consortium, motion, of(*by), &key))
            };
            return by.iter().map(approve).collect();
        }
        Sent::Succession {
            hospital,
            generation,
        } => {
            let current = current_key(chain, *hospital);
            four.succession_with(*hospital, *generation, &current)
        }
        Sent::Seat { whose, epoch } => {
            let epoch = ValidatorEpoch::new(*epoch);
            match whose {
                5 => {
                    let newcomer = four.newcomer(Tier::Secondary);
                    four.seat(newcomer.institution.id, &newcomer.node_key, epoch)
                }
                _ => four.seat(of(*whose), &four.next_keys(*whose, 1).1, epoch),
            }
        }
        Sent::Contact { hospital, serial } => four.contact(*hospital, *serial),
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
            epoch,
            milliseconds,
        } => {
            let mut entry = four.grant_entry(*number, *milliseconds);
            entry.epoch = ValidatorEpoch::new(*epoch);
            four.sign_grant(*number, entry, 1)
        }
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
    }]
}

fn settings() -> Settings {
    let mut settings = Settings::standard();
    settings.anchor_interval = Duration::from_millis(40);
    settings.epoch_blocks = 5;
    settings.cut.count = 6;
    settings
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

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
                .flat_map(|sent| {
                    let made = transactions(&chain, sent, &earlier);
                    earlier.extend(made.iter().cloned());
                    made.into_iter().map(|transaction| four.checked(transaction))
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

        let root = naive::state_root(&four.consortium, &chain.blocks, chain.view.iter());
        prop_assert_eq!(chain.tip().state_root.digest(), root);
        Invariants {
            hospitals: &four,
            blocks: &chain.blocks,
            view: &chain.view,
        }
        .hold();
    }
}
