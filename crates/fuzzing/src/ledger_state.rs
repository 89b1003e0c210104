//! The ledger's state machine: bytes choose what clients send and what leaders make of it, honest or not.
//!
//! What a leader proposes every voter executes to the same root; what is refused changes nothing; the root
//! is the same however the state was come to; and the chain keeps the invariants of `spec/chain.md`.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use ledger::testing::{FourHospitals, Invariants, ToyChain, naive_state_root, rng};
use ledger::{
    AdmitError, Approval, Block, Changes, CheckedTransaction, ExecuteError, Header,
    MembershipChange, MemoryView, Motion, Overlay, Registration, Settings, Tier, Transaction,
    admit, execute, institution_state, state_root,
};
use scheme::{
    Context, HpkePrivateKey, InstitutionId, SigningKey, Timestamp, ValidatorEpoch, WriterEpoch,
    WriterEpochKey,
};

use crate::input::Input;

/// Steps of one input: a state machine learns nothing new from longer ones.
const STEPS_MAX: usize = 48;
/// Candidates of a block.
const CANDIDATES_MAX: usize = 8;
/// Blocks of one input.
const BLOCKS_MAX: usize = 12;
/// Bytes of a header that its producer signs.
const UNSIGNED_BYTES: usize = Header::BYTES - 64;

fn settings() -> Settings {
    let mut settings = Settings::standard();
    settings.anchor_interval = Duration::from_millis(40);
    settings.epoch_blocks = 5;
    settings.cut.count = 6;
    settings
}

static HOSPITALS: LazyLock<FourHospitals> = LazyLock::new(|| FourHospitals::found(settings()));

/// The state after the opening, and its blocks.
static OPENED: LazyLock<(MemoryView, Vec<Block>)> = LazyLock::new(|| {
    let mut chain = ToyChain::new(&HOSPITALS);
    let opening = HOSPITALS.opening();
    chain.grow(10, opening[..4].to_vec());
    chain.grow(10, opening[4..].to_vec());
    (chain.view, chain.blocks)
});

/// What is slow to make and depends on these numbers only.
static MADE: Mutex<BTreeMap<[u32; 4], Transaction>> = Mutex::new(BTreeMap::new());

fn made(key: [u32; 4], make: impl FnOnce() -> Transaction) -> Transaction {
    let found = MADE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&key)
        .cloned();
    found.unwrap_or_else(|| {
        let transaction = make();
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(key, transaction.clone());
        transaction
    })
}

/// A chain under way.
struct Run {
    chain: ToyChain<'static>,
    /// What each block changed.
    changes: Vec<Changes>,
    /// All that was ever sent.
    earlier: Vec<Transaction>,
    candidates: Vec<CheckedTransaction>,
}

/// Plays an input.
pub fn run(bytes: &[u8]) {
    let _ = taken(bytes);
}

/// Plays an input; gives how many transactions stand in its blocks.
pub fn taken(bytes: &[u8]) -> usize {
    let (view, blocks) = OPENED.clone();
    let mut run = Run {
        chain: ToyChain {
            hospitals: &HOSPITALS,
            view,
            blocks,
        },
        changes: Vec::new(),
        earlier: Vec::new(),
        candidates: Vec::new(),
    };
    let mut input = Input::new(bytes);
    for _ in 0..STEPS_MAX {
        if input.is_empty() || run.changes.len() >= BLOCKS_MAX {
            break;
        }
        run.step(&mut input);
    }
    run.block(&mut input);
    run.ends();
    let blocks = run.chain.blocks[OPENED.1.len()..].iter();
    blocks.map(|block| block.transactions().len()).sum()
}

impl Run {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(22) {
            0..=2 => self.block(input),
            3 => self.changed(input),
            what => {
                let sent = self.sent(what, input);
                for transaction in sent {
                    self.send(transaction);
                }
            }
        }
        if self.candidates.len() >= CANDIDATES_MAX {
            self.block(&mut Input::new(&[]));
        }
    }

    fn send(&mut self, transaction: Transaction) {
        self.earlier.push(transaction.clone());
        let checked = CheckedTransaction::new(transaction, &HOSPITALS.consortium);
        self.candidates
            .push(checked.expect("signed by whom it names"));
    }

    /// An earlier transaction with some bytes changed; most such fail their layout or their signatures.
    fn changed(&mut self, input: &mut Input<'_>) {
        let place = input.below(self.earlier.len());
        let Some(earlier) = self.earlier.get(place) else {
            return;
        };
        let mut bytes = earlier.encode();
        for _ in 0..1 + input.below(3) {
            let at = usize::from(input.u16()) % bytes.len();
            bytes[at] ^= input.u8();
        }
        if let Ok(checked) = CheckedTransaction::decode(&bytes, &HOSPITALS.consortium) {
            assert!(checked.transaction().encode() == bytes);
            self.earlier.push(checked.transaction().clone());
            self.candidates.push(checked);
        }
    }

    /// The leader's next block of what was sent, and blocks that must not be taken in its place.
    fn block(&mut self, input: &mut Input<'_>) {
        let candidates = std::mem::take(&mut self.candidates);
        let after_ms = 1 + u64::from(input.u8()) % 40;
        let before = root(&self.chain.view);
        assert_eq!(self.chain.tip().state_root, before);

        let first = candidates.first().map(|first| {
            let time = Timestamp::new(self.chain.tip().time.number() + after_ms);
            match admit(&self.chain.view, first, time) {
                Ok(()) => None,
                Err(AdmitError::Refused(refusal)) => Some((first.id(), refusal)),
                Err(error) => panic!("memory is read: {error}"),
            }
        });
        let proposal = self.chain.propose(after_ms, &candidates);
        // A pool and a leader refuse the same for the same reason.
        match first {
            Some(Some(refused)) => assert_eq!(proposal.refused.first(), Some(&refused)),
            Some(None) => {
                let refused = proposal.refused.first().map(|(id, _)| *id);
                let id = candidates[0].id();
                assert!(refused != Some(id) || candidates[1..].iter().any(|one| one.id() == id));
            }
            None => {}
        }

        let bytes = proposal.block.encode();
        let read = Block::decode(&bytes, &settings().limits()).expect("an honest block");
        assert!(read == proposal.block && read.holds_its_body());
        self.refused(&bytes, &read, input);
        assert_eq!(
            root(&self.chain.view),
            before,
            "a refused block changed the state"
        );

        let changes = execute(&self.chain.view, self.chain.tip(), &read);
        let changes = changes.expect("an honest block");
        assert_eq!(
            changes, proposal.changes,
            "leader and voter compute the same"
        );
        let mut over = Overlay::new(&self.chain.view);
        over.push(&changes);
        let above = state_root(&over).expect("memory");
        self.chain.view.apply(&changes);
        assert_eq!(root(&self.chain.view), read.header().state_root);
        assert_eq!(above, read.header().state_root);
        self.changes.push(changes);
        self.chain.blocks.push(read);
    }

    /// Blocks that no voter takes: earlier ones, ones on another state, and this one changed by its own leader.
    fn refused(&self, bytes: &[u8], block: &Block, input: &mut Input<'_>) {
        let (view, tip) = (&self.chain.view, self.chain.tip());
        let place = input.below(self.chain.blocks.len());
        let earlier = execute(view, tip, &self.chain.blocks[place]);
        assert!(
            matches!(earlier, Err(ExecuteError::Invalid(_))),
            "{earlier:?}"
        );
        if self.chain.blocks.len() > OPENED.1.len() {
            let elsewhere = execute(&OPENED.0, tip, block);
            assert!(matches!(elsewhere, Err(ExecuteError::WrongState { .. })));
        }

        let mut changed = bytes.to_vec();
        for _ in 0..1 + input.below(2) {
            let at = usize::from(input.u16()) % changed.len();
            changed[at] ^= input.u8();
        }
        if input.below(2) == 1 {
            // Signed anew, and by whom the header names if it leads.
            let key = self.chain.leader_key(block.header().view);
            let unsigned = &changed[..UNSIGNED_BYTES];
            let signature = key.sign(Context::Consensus, &HOSPITALS.consortium, &[unsigned]);
            changed[UNSIGNED_BYTES..Header::BYTES].copy_from_slice(signature.as_bytes());
        }
        let Ok(other) = Block::decode(&changed, &settings().limits()) else {
            return;
        };
        if other == *block {
            return;
        }
        match execute(view, tip, &other) {
            Err(ExecuteError::Invalid(broken)) => {
                // What is wrong without any state is wrong in every state.
                let again = execute(view, tip, &other);
                assert!(matches!(again, Err(ExecuteError::Invalid(again)) if again == broken));
            }
            Err(other) => panic!("memory is read, and the state is the parent's: {other}"),
            // A leader chooses the time, within what voters' clocks allow, and may lead in a later view;
            // nothing else may differ.
            Ok(changes) => {
                let (one, other) = (block.header(), other.header());
                let chosen = Header {
                    view: one.view,
                    time: one.time,
                    signature: one.signature,
                    ..*other
                };
                assert!(chosen == *one, "{other:?}");
                assert!(other.view > tip.view && other.time > tip.time, "{other:?}");
                let mut over = Overlay::new(&self.chain.view);
                over.push(&changes);
                assert_eq!(state_root(&over).expect("memory"), other.state_root);
            }
        }
    }

    /// The whole chain once more, by other ways.
    fn ends(&self) {
        let four = &*HOSPITALS;
        let tip = self.chain.tip().state_root;
        let mut over = Overlay::new(&OPENED.0);
        for changes in &self.changes {
            over.push(changes);
        }
        assert_eq!(state_root(&over).expect("memory"), tip, "layer upon layer");
        let mut merged = Changes::new();
        for changes in &self.changes {
            merged.merge(changes.clone());
        }
        let mut at_once = OPENED.0.clone();
        at_once.apply(&merged);
        assert!(at_once == self.chain.view, "all changes at once");
        let view = &self.chain.view;
        let naive = naive_state_root(&four.consortium, &self.chain.blocks, view.iter());
        assert_eq!(tip.digest(), naive, "by its definition");
        Invariants {
            hospitals: four,
            blocks: &self.chain.blocks,
            view,
        }
        .hold();
    }

    /// What a client sends, sensible or not.
    fn sent(&self, what: usize, input: &mut Input<'_>) -> Vec<Transaction> {
        let four = &*HOSPITALS;
        let hospital = 1 + input.below(4) as u32;
        let of = |number: u32| four.hospital(number).institution.id;
        vec![match what {
            4 | 5 => {
                let (number, epoch) = (input.below(30) as u32, input.below(2) as u32);
                made([4, hospital, number, epoch], || {
                    let mut statement = four.statement(hospital, number.into(), 8);
                    statement.writer_key = writer_key(hospital, epoch).public_key();
                    four.sign_record(hospital, statement)
                })
            }
            // A record with a tag of another one.
            6 => {
                let (number, other) = (input.below(30) as u32, input.below(30) as u32);
                made([6, hospital, number, other], || {
                    let mut statement = four.statement(hospital, number.into(), 8);
                    if number != other {
                        let tag = four.statement(hospital, other.into(), 8).entries[5].tag;
                        statement.entries[3].tag = tag;
                        statement.entries.sort_unstable_by_key(|entry| entry.tag);
                    }
                    four.sign_record(hospital, statement)
                })
            }
            7 => {
                let epoch = input.below(3) as u32;
                made([7, hospital, epoch, 0], || {
                    let key = writer_key(hospital, epoch);
                    four.writer_epoch_with(hospital, WriterEpoch::new(epoch), &key)
                })
            }
            8 => {
                let (number, centre) = (input.below(5) as u32, input.below(3) as u32);
                made([8, number, centre, 0], || {
                    let Transaction::Registration(signed) = four.patient(number.into()) else {
                        unreachable!("a patient's registration")
                    };
                    Transaction::Registration(Registration::sign(
                        &four.consortium,
                        signed.registrant,
                        signed.keys,
                        &four.centre_signer(centre as u8),
                    ))
                })
            }
            9 => {
                let number = input.below(10) as u32;
                made([9, hospital, number, 0], || {
                    four.request(hospital, number.into())
                })
            }
            10 => {
                let number = input.below(4) as u64;
                let mut entry = four.grant_entry(number, 1 + u64::from(input.u16()) % 400);
                entry.epoch = ValidatorEpoch::new(input.below(3) as u64);
                four.sign_grant(number, entry, hospital)
            }
            11 | 12 => {
                let grant = input.below(4) as u64;
                let entries: Vec<_> = (0..1 + input.below(3))
                    .map(|_| (input.below(2) as u64, input.below(4) as u64))
                    .collect();
                four.access(grant, &entries)
            }
            13 => four.revocation(input.below(4) as u64),
            14 => match input.below(2) {
                0 => four.withdrawal(input.below(5) as u64),
                _ => four.certificate_revocation(four.registration(hospital).id(&four.consortium)),
            },
            15 => {
                let (epoch, key) = (input.below(4) as u64, input.below(2) as u64);
                let key = HpkePrivateKey::random(&mut rng("random node key", key)).public_key();
                four.node_key_with(hospital, ValidatorEpoch::new(epoch), key)
            }
            16 => {
                let (number, compromised) = (1 + input.below(3) as u8, input.u8());
                let before: Vec<u8> = (0..number)
                    .filter(|at| compromised >> at & 1 == 1)
                    .collect();
                let next = four.next_centre_key(number, &before);
                let current = input.below(4) as u8;
                let current = (current < 3).then(|| four.centre_signer(current));
                let approvers: Vec<u32> = (1..=hospital).collect();
                four.centre_key(next, current.as_ref(), &approvers)
            }
            17 => {
                let motion = four.motion(hospital, change(input.below(6)));
                Transaction::Motion(Box::new(Motion::sign(
                    &four.consortium,
                    motion.by,
                    motion.until,
                    motion.documents,
                    motion.change,
                    &self.current_key(hospital),
                )))
            }
            // Approvals of an earlier motion.
            18 => {
                let motions: Vec<_> = self
                    .earlier
                    .iter()
                    .filter(|earlier| matches!(earlier, Transaction::Motion(_)))
                    .collect();
                let place = input.below(motions.len());
                let Some(motion) = motions.get(place) else {
                    return Vec::new();
                };
                let motion = motion.id(&four.consortium);
                let who = input.u8();
                let by = (1..=4).filter(|number| who >> number & 1 == 1);
                let approve = |by| {
                    let key = self.current_key(by);
                    Transaction::Approval(Approval::sign(&four.consortium, motion, of(by), &key))
                };
                return by.map(approve).collect();
            }
            19 => {
                let generation = 1 + input.below(2) as u32;
                four.succession_with(hospital, generation, &self.current_key(hospital))
            }
            20 => {
                let (whose, epoch) = (input.below(5), ValidatorEpoch::new(input.below(4) as u64));
                match whose {
                    0 => {
                        let newcomer = four.newcomer(Tier::Secondary);
                        four.seat(newcomer.institution.id, &newcomer.node_key, epoch)
                    }
                    _ => four.seat(of(hospital), &four.next_keys(hospital, 1).1, epoch),
                }
            }
            _ => match input.below(2) {
                0 => four.contact(hospital, input.below(3) as u32),
                // Once more what was sent before.
                _ => match self.earlier.get(input.below(self.earlier.len())) {
                    Some(transaction) => transaction.clone(),
                    None => four.withdrawal(99),
                },
            },
        }]
    }

    /// The key with which a hospital signs at the end of this chain.
    fn current_key(&self, hospital: u32) -> SigningKey {
        let id = HOSPITALS.hospital(hospital).institution.id;
        let held = institution_state(&self.chain.view, id).expect("memory");
        match held.map_or(0, |held| held.generation) {
            0 => HOSPITALS.hospital(hospital).key.clone(),
            later => HOSPITALS.next_keys(hospital, later).0,
        }
    }
}

fn root(view: &MemoryView) -> ledger::StateRoot {
    state_root(view).expect("memory")
}

/// y of any writer epoch: that of the toy hospital for 0.
fn writer_key(hospital: u32, epoch: u32) -> WriterEpochKey {
    match epoch {
        0 => HOSPITALS.hospital(hospital).writer_key.clone(),
        _ => {
            let number = u64::from(hospital * 100 + epoch);
            WriterEpochKey::random(&mut rng("later writer epoch", number))
        }
    }
}

fn change(number: usize) -> MembershipChange {
    let (four, id) = (&*HOSPITALS, InstitutionId::new);
    match number {
        0 => MembershipChange::Admit(Box::new(four.application(&four.newcomer(Tier::Secondary)))),
        1 => MembershipChange::Remove(id(4)),
        2 => MembershipChange::Retier(id(4), Tier::Secondary),
        3 => MembershipChange::Retier(id(3), Tier::Community),
        4 => MembershipChange::Retier(id(2), Tier::Observer),
        _ => MembershipChange::Succeed(four.possessed(1, 1)),
    }
}

/// Short stories: a record, a grant with its accesses, an admission, successions, a rotation of the centre's
/// key; and each kind by itself.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (3..22)
        .map(|what| vec![what, 0, 1, 1, 1, 1, 0, 5, 1, 0, 70, 1, 1, 0, 9])
        .collect();
    seeds.push(vec![
        10, 0, 1, 1, 0x40, 0, 0, 5, 0, 11, 0, 1, 2, 0, 0, 1, 0, 0, 1, 0, 9, 0, 13, 0, 1, 0, 3,
    ]);
    seeds.push(vec![
        17, 0, 0, 18, 0, 0, 0x1e, 0, 9, 0, 0, 9, 0, 0, 9, 20, 0, 0, 1, 0, 9, 0, 0, 9, 0, 0, 9, 0,
    ]);
    seeds.push(vec![
        19, 0, 0, 0, 5, 0, 20, 0, 1, 1, 0, 6, 0, 0, 6, 0, 0, 6, 0, 19, 0, 1, 0, 5, 0,
    ]);
    seeds.push(vec![
        16, 2, 0, 1, 0, 0, 5, 0, 16, 3, 1, 3, 3, 0, 5, 0, 8, 0, 1, 2, 0, 5, 0,
    ]);
    seeds.push(vec![
        4, 0, 1, 0, 4, 0, 2, 0, 6, 0, 3, 1, 7, 0, 1, 0, 5, 2, 0x01, 0x30, 1, 1, 4, 0, 5, 1, 0, 60,
    ]);
    // A leader that gives its block another time.
    seeds.push(vec![
        6, 0, 1, 1, 1, 1, 0, 0xff, 0xff, 0x62, 0xff, 0xff, 0xff, 0xff, 0xff,
    ]);
    seeds
}
