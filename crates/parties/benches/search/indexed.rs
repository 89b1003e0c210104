//! A state with so many index entries, among them the hits of a few trapdoors, put together from the
//! rows that executing the records' blocks would have written. The rest of the state is a toy
//! consortium's after its opening.

use std::ops::Range;

use ledger::testing::{FourHospitals, ToyChain, put_record, rng};
use ledger::{Changes, Height, RecordNumber, RecordState, TransactionId, TransactionPosition};
use rand_core::Rng;
use scheme::{
    CompressedOwnerKey, ConsortiumId, Digest, Entry, IndexKey, Keyword, Pid, Position, Reach,
    RecordStatement, SealedLocator, Tag, Trapdoor, VerifyingKey, Writer, WriterEpoch,
    WriterTrapdoor,
};

/// The hospital whose writer epoch holds all records.
const HOSPITAL: u32 = 1;
/// Entries of a record that is no hit: a dozen keywords of each of five sections, padded.
const ENTRIES: usize = 64;
/// Entries of a record that is one: its few keywords are padded to eight.
const ENTRIES_OF_A_HIT: usize = 8;
/// Records that are put at once.
const RECORDS_OF_A_PUT: usize = 500;

/// A trapdoor as a grant's whole reach, and the records it finds.
pub(crate) struct Word {
    pub(crate) reach: Reach,
    pub(crate) hits: usize,
}

/// What was put.
pub(crate) struct Indexed {
    pub(crate) consortium: ConsortiumId,
    pub(crate) words: Vec<Word>,
    /// At which all of it is final.
    pub(crate) height: Height,
}

impl Indexed {
    /// Puts `entries` entries: `records` hits, each under the words whose range it is in, spread evenly
    /// among records of other patients.
    pub(crate) fn put(
        entries: usize,
        records: usize,
        words: &[Range<usize>],
        mut put: impl FnMut(&Changes),
    ) -> Self {
        let four = FourHospitals::default();
        let consortium = four.consortium;
        let mut chain = ToyChain::new(&four);
        chain.grow(10, four.opening());
        let mut changes = Changes::new();
        for (key, value) in chain.view.iter() {
            changes.put(key.to_vec(), value.to_vec());
        }
        let hospital = four.hospital(HOSPITAL);
        let writer = Writer {
            institution: hospital.institution.id,
            epoch: WriterEpoch::new(0),
        };
        let writer_key = hospital.writer_key.public_key();
        let (search, pid) = (four.patient_keys(1).search, Pid::from_bytes([5; 32]));
        let keyed: Vec<(Trapdoor, IndexKey)> = (0..words.len())
            .map(|number| {
                let word = Keyword::new(format!("word {number}").as_bytes()).expect("short");
                let trapdoor = Trapdoor::generate(&consortium, &search, &pid, writer, &word);
                let index_key = trapdoor.index_key(&writer_key);
                (trapdoor, index_key)
            })
            .collect();

        let others = entries
            .checked_sub(records * ENTRIES_OF_A_HIT)
            .expect("hits have entries for their padding");
        let total = records + others.div_ceil(ENTRIES);
        let mut random = rng("other patients' records", entries as u64);
        let (mut hit, mut left) = (0, others);
        for number in 0..total {
            if hit < records && number == hit * total / records {
                let under: Vec<_> = words
                    .iter()
                    .zip(&keyed)
                    .filter(|(range, _)| range.contains(&hit))
                    .map(|(range, (_, key))| (key, Position::new((hit - range.start) as u64)))
                    .collect();
                let statement = four.indexed(HOSPITAL, hit as u64, &under);
                assert_eq!(statement.entries.len(), ENTRIES_OF_A_HIT);
                let id = statement.id(&consortium).into();
                let state = state_of(number, id, writer, &statement);
                put_record(&mut changes, &state, &statement.entries);
                hit += 1;
            } else {
                let count = left.min(ENTRIES);
                left -= count;
                put_record(
                    &mut changes,
                    &other(number, writer, &mut random),
                    &random_entries(count, &mut random),
                );
            }
            if number % RECORDS_OF_A_PUT == 0 || number + 1 == total {
                put(&changes);
                changes = Changes::new();
            }
        }
        assert_eq!((hit, left), (records, 0));
        let words = words
            .iter()
            .zip(keyed)
            .map(|(range, (trapdoor, _))| Word {
                reach: Reach {
                    trapdoors: vec![WriterTrapdoor { writer, trapdoor }],
                    entries: Vec::new(),
                },
                hits: range.len(),
            })
            .collect();
        let height = place(total).height;
        Self {
            consortium,
            words,
            height,
        }
    }
}

/// Where record `number` would stand, 100 of them in a block.
fn place(number: usize) -> TransactionPosition {
    TransactionPosition {
        height: Height::new(2 + number as u64 / 100),
        index: (number % 100) as u32,
    }
}

fn state_of(
    number: usize,
    transaction: TransactionId,
    writer: Writer,
    statement: &RecordStatement,
) -> RecordState {
    RecordState {
        number: RecordNumber::new(number as u64),
        transaction,
        position: place(number),
        digest: statement.digest,
        header_digest: statement.header_digest,
        owner_key: statement.owner_key.compressed(),
        locator: statement.locator,
        author: statement.author,
        institution: writer.institution,
        writer_epoch: writer.epoch,
    }
}

/// Another patient's record, of which a search sees nothing: random bytes.
fn other(number: usize, writer: Writer, random: &mut impl Rng) -> RecordState {
    RecordState {
        number: RecordNumber::new(number as u64),
        transaction: TransactionId::new(bytes(random)),
        position: place(number),
        digest: Digest::new(bytes(random)),
        header_digest: Digest::new(bytes(random)),
        owner_key: CompressedOwnerKey::new(bytes(random)),
        locator: SealedLocator::new(bytes(random)),
        author: VerifyingKey::new(bytes(random)),
        institution: writer.institution,
        writer_epoch: writer.epoch,
    }
}

fn random_entries(count: usize, random: &mut impl Rng) -> Vec<Entry> {
    (0..count)
        .map(|_| Entry {
            tag: Tag::new(bytes(random)),
            pad: bytes(random),
        })
        .collect()
}

fn bytes<const N: usize>(random: &mut impl Rng) -> [u8; N] {
    let mut out = [0; N];
    random.fill_bytes(&mut out);
    out
}
