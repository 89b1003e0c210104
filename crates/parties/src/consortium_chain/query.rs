//! Equation (13), Query: which records a grant's trapdoors and named entries reach
//! (`spec/scheme.md` section 7, E21 and E22).
//!
//! Per trapdoor one pairing; per hit two look-ups, of the entry and of its record, and the locator
//! is opened on bytes alone. No block is read and no point decoded but R, once for each writer
//! epoch that a node meets ([`WriterKeys`]).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use ledger::{Height, ReadError, RecordState, TransactionId, View};
use scheme::{
    Address, ConsortiumId, DecodeError, Decoder, Delta, Encoder, ExplicitEntry, IndexKey, Locator,
    LocatorBinding, LocatorKey, Presence, Reach, RecordStatement, Tag, Writer,
    WriterEpochPublicKey,
};

/// Records that one search gives at most; a longer history is asked for by keyword.
pub const HITS_MAX: usize = 4_096;

/// Entries that stand under a tag and do not open, which one search passes over at most: 1,024 full
/// transactions of 1,024 entries. One costs two look-ups, of 2 to 3 us each, and the opening that
/// fails, so all of them 5 to 7 s of one search. Whoever knows the PID and has an account at the
/// hospital can put them there; above the bound they hide what comes after them.
pub const UNOPENED_MAX: usize = 1 << 20;

/// A record that a search found, as an accounting node tells the reader.
#[derive(Clone)]
pub struct Hit {
    /// Which trapdoor or named entry of the grant found it, from 0.
    pub place: u32,
    /// i of a trapdoor's hit; 0 of a named entry.
    pub position: u64,
    /// The record's transaction.
    pub transaction: TransactionId,
    /// The opened locator.
    pub locator: Locator,
}

/// What a search found, in order of (trapdoor, position) (`spec/formats.md`, M14).
#[derive(Clone, Default)]
pub struct Hits(pub Vec<Hit>);

impl Hits {
    /// The bytes that nodes sign and that must be equal.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u32(self.0.len() as u32);
        for hit in &self.0 {
            out.u32(hit.place)
                .u64(hit.position)
                .bytes(hit.transaction.as_bytes())
                .bytes(hit.locator.address.as_bytes())
                .bytes(hit.locator.delta.expose_bytes().as_slice());
        }
        out.finish()
    }

    /// Decodes what f + 1 nodes agreed on.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the search's result";
        let mut from = Decoder::new(bytes);
        let count = from.count(WHAT, HITS_MAX)?;
        let hits = (0..count)
            .map(|_| {
                Ok(Hit {
                    place: from.u32(WHAT)?,
                    position: from.u64(WHAT)?,
                    transaction: TransactionId::new(from.array(WHAT)?),
                    locator: Locator {
                        address: Address::new(from.array(WHAT)?),
                        delta: Delta::from_bytes(&from.array(WHAT)?)?,
                    },
                })
            })
            .collect::<Result<_, DecodeError>>()?;
        from.finish(WHAT)?;
        Ok(Self(hits))
    }
}

/// Equation (13): the records that are final at `at` and reached, at most [`HITS_MAX`], in order of
/// (trapdoor, position), named entries last. `at` must not be above the view's height. An entry whose
/// locator does not open is no hit and takes no hit's place; the walks pass over [`UNOPENED_MAX`] of
/// them in all.
///
/// # Errors
/// [`ReadError`] if the store fails.
pub fn query(
    consortium: &ConsortiumId,
    view: &dyn View,
    reach: &Reach,
    at: Height,
    writer_keys: &WriterKeys,
) -> Result<Vec<Hit>, ReadError> {
    let mut found = Vec::new();
    let mut unopened = 0;
    for (place, trapdoor) in (0u32..).zip(&reach.trapdoors) {
        if found.len() >= HITS_MAX || unopened >= UNOPENED_MAX {
            break;
        }
        let writer = trapdoor.writer;
        let Some(writer_key) = writer_keys.of(view, writer)? else {
            continue;
        };
        let index_key = trapdoor.trapdoor.index_key(&writer_key);
        let compressed = writer_key.compressed();
        let stopped = index_key.walk(consortium, |position, tag| {
            let (pad, record) = match final_entry(view, writer, tag, at) {
                Err(error) => return ControlFlow::Break(Err(error)),
                Ok(None) => return ControlFlow::Continue(Presence::Missing),
                Ok(Some(entry)) => entry,
            };
            let key = index_key.locator_key(consortium, position, &record.owner_key, &pad);
            let binding = record.binding(compressed);
            match record.locator.open(consortium, &key, &binding) {
                Ok(locator) => found.push(Hit {
                    place,
                    position: position.number(),
                    transaction: record.transaction,
                    locator,
                }),
                Err(_) => unopened += 1,
            }
            if found.len() >= HITS_MAX || unopened >= UNOPENED_MAX {
                return ControlFlow::Break(Ok(()));
            }
            ControlFlow::Continue(Presence::Present)
        });
        stopped.unwrap_or(Ok(()))?;
    }
    for (place, named) in (reach.trapdoors.len() as u32..).zip(&reach.entries) {
        if found.len() >= HITS_MAX {
            break;
        }
        let Some(writer_key) = writer_keys.of(view, named.writer)? else {
            continue;
        };
        let Some((_, record)) = final_entry(view, named.writer, &named.tag, at)? else {
            continue;
        };
        let binding = record.binding(writer_key.compressed());
        let opened = record
            .locator
            .open(consortium, &named.locator_key, &binding);
        found.extend(opened.ok().map(|locator| Hit {
            place,
            position: 0,
            transaction: record.transaction,
            locator,
        }));
    }
    Ok(found)
}

/// The locator of one final record, if the grant reaches it: some trapdoor of its writer epoch finds
/// it as [`query`] does, or an entry of it is named, and its locator opens. Trapdoors of other writer
/// epochs are not even paired, and a walk ends at the record.
///
/// # Errors
/// [`ReadError`] if the store fails.
pub(crate) fn locate(
    consortium: &ConsortiumId,
    view: &dyn View,
    reach: &Reach,
    record: &RecordStatement,
) -> Result<Option<Locator>, ReadError> {
    let Some((institution, epoch)) = ledger::writer_of(view, &record.writer_key)? else {
        return Ok(None);
    };
    let writer = Writer { institution, epoch };
    for trapdoor in &reach.trapdoors {
        if trapdoor.writer != writer {
            continue;
        }
        let index_key = trapdoor.trapdoor.index_key(&record.writer_key);
        let found = walk_to(consortium, view, writer, &index_key, record)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    let named =
        |entry: &&ExplicitEntry| entry.writer == writer && pad_of(record, &entry.tag).is_some();
    Ok(reach
        .entries
        .iter()
        .filter(named)
        .find_map(|entry| open(consortium, record, &entry.locator_key)))
}

/// Walks the entries of one index key until one is the record's and opens.
fn walk_to(
    consortium: &ConsortiumId,
    view: &dyn View,
    writer: Writer,
    index_key: &IndexKey,
    record: &RecordStatement,
) -> Result<Option<Locator>, ReadError> {
    let owner_key = record.owner_key.compressed();
    // Which of the others open is not asked here, so the walk has room for both.
    let mut walked = 0;
    let stopped = index_key.walk(consortium, |position, tag| {
        if walked == HITS_MAX + UNOPENED_MAX {
            return ControlFlow::Break(Ok(None));
        }
        if let Some(pad) = pad_of(record, tag) {
            let key = index_key.locator_key(consortium, position, &owner_key, pad);
            if let Some(locator) = open(consortium, record, &key) {
                return ControlFlow::Break(Ok(Some(locator)));
            }
        } else {
            match ledger::index_entry(view, writer.institution, writer.epoch, tag) {
                Err(error) => return ControlFlow::Break(Err(error)),
                Ok(None) => return ControlFlow::Continue(Presence::Missing),
                Ok(Some(_)) => {}
            }
        }
        walked += 1;
        ControlFlow::Continue(Presence::Present)
    });
    stopped.unwrap_or(Ok(None))
}

/// The pad that a record has under a tag. Its entries stand in the order of their tags.
fn pad_of<'a>(record: &'a RecordStatement, tag: &Tag) -> Option<&'a [u8; 16]> {
    let place = record
        .entries
        .binary_search_by(|entry| entry.tag.cmp(tag))
        .ok()?;
    record.entries.get(place).map(|entry| &entry.pad)
}

fn open(consortium: &ConsortiumId, record: &RecordStatement, key: &LocatorKey) -> Option<Locator> {
    let binding = LocatorBinding {
        writer_key: record.writer_key.compressed(),
        digest: &record.digest,
        header_digest: &record.header_digest,
        owner_key: record.owner_key.compressed(),
        author: &record.author,
        institution: record.institution,
    };
    record.locator.open(consortium, key, &binding).ok()
}

/// What stands under a tag, if its record is final at `at`: its pad and its record.
fn final_entry(
    view: &dyn View,
    writer: Writer,
    tag: &Tag,
    at: Height,
) -> Result<Option<([u8; 16], RecordState)>, ReadError> {
    let Some(entry) = ledger::index_entry(view, writer.institution, writer.epoch, tag)? else {
        return Ok(None);
    };
    let record = ledger::record_of(view, &entry)?;
    Ok((record.position.height <= at).then_some((entry.pad, record)))
}

/// R of the writer epochs that a node's searches met, decoded: a writer epoch has one R for ever, and
/// decoding it costs an eighth of a pairing. For one chain.
#[derive(Default)]
pub struct WriterKeys(Mutex<BTreeMap<Writer, Arc<WriterEpochPublicKey>>>);

impl WriterKeys {
    /// None met yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `None` if there is no such writer epoch in this state.
    fn of(
        &self,
        view: &dyn View,
        writer: Writer,
    ) -> Result<Option<Arc<WriterEpochPublicKey>>, ReadError> {
        // A panic elsewhere leaves a map that is whole: entries are put and never changed.
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known().get(&writer) {
            return Ok(Some(Arc::clone(key)));
        }
        let Some(state) = ledger::writer_epoch(view, writer.institution, writer.epoch)? else {
            return Ok(None);
        };
        let key = Arc::new(state.key);
        let mut known = known();
        if known.len() >= WRITER_KEYS_MAX {
            known.clear();
        }
        known.insert(writer, Arc::clone(&key));
        Ok(Some(key))
    }
}

/// Writer epochs remembered: 255 hospitals with a daily one for two months; at some 400 bytes each,
/// 7 MB. Above it all are forgotten and decoded again as they are met.
const WRITER_KEYS_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ledger::testing::{FourHospitals, ToyChain, rng};
    use ledger::{Changes, MemoryView};
    use scheme::{Keyword, Pid, Position, Trapdoor, WriterEpoch, WriterTrapdoor};

    use super::*;

    const WORDS: [(u32, &str); 3] = [(1, "CT"), (1, "MR"), (2, "CT")];

    /// Which records stand under which words and positions, one block each. MR's entry 2 is forged
    /// and does not open; 22 stands behind a gap of 8.
    const RECORDS: [&[(usize, u64)]; 7] = [
        &[(0, 0)],
        &[(1, 0), (0, 1)],
        &[(2, 0)],
        &[(1, 2)],
        &[(1, 5)],
        &[(1, 13)],
        &[(1, 22)],
    ];
    const FORGED: usize = 3;

    struct Indexed {
        consortium: ConsortiumId,
        view: MemoryView,
        trapdoors: Vec<WriterTrapdoor>,
        /// Every statement with its transaction and height, in order.
        records: Vec<(RecordStatement, TransactionId, Height)>,
        /// An entry of each record by name, as a patient gives them.
        named: Vec<ExplicitEntry>,
    }

    fn indexed() -> Indexed {
        let four = FourHospitals::default();
        let here = four.consortium;
        let mut chain = ToyChain::new(&four);
        chain.grow(10, four.opening());
        let keys = four.patient_keys(1);
        let pid = Pid::from_bytes([5; 32]);
        let writer = |hospital: u32| Writer {
            institution: four.hospital(hospital).institution.id,
            epoch: WriterEpoch::new(0),
        };
        let trapdoors: Vec<WriterTrapdoor> = WORDS
            .iter()
            .map(|(hospital, word)| {
                let word = Keyword::new(word.as_bytes()).expect("short");
                let writer = writer(*hospital);
                let trapdoor = Trapdoor::generate(&here, &keys.search, &pid, writer, &word);
                WriterTrapdoor { writer, trapdoor }
            })
            .collect();
        let index_keys: Vec<IndexKey> = WORDS
            .iter()
            .zip(&trapdoors)
            .map(|((hospital, _), given)| {
                let r = four.hospital(*hospital).writer_key.public_key();
                given.trapdoor.index_key(&r)
            })
            .collect();
        let mut records = Vec::new();
        let mut named = Vec::new();
        for (number, places) in RECORDS.iter().enumerate() {
            let (first, position) = places[0];
            let hospital = WORDS[first].0;
            let under: Vec<_> = places
                .iter()
                .map(|(word, at)| (&index_keys[*word], Position::new(*at)))
                .collect();
            let mut statement = four.indexed(hospital, number as u64, &under);
            let tag = index_keys[first].tag(&here, Position::new(position));
            let entry = statement.entries.iter_mut().find(|entry| entry.tag == tag);
            let entry = entry.expect("just made");
            if number == FORGED {
                entry.pad[0] ^= 1;
            }
            named.push(ExplicitEntry {
                writer: writer(hospital),
                tag,
                locator_key: index_keys[first].locator_key(
                    &here,
                    Position::new(position),
                    &statement.owner_key.compressed(),
                    &entry.pad,
                ),
            });
            let transaction = four.sign_record(hospital, statement.clone());
            let id = transaction.id(&here);
            let height = chain.grow(10, vec![transaction]).height();
            records.push((statement, id, height));
        }
        Indexed {
            consortium: here,
            view: chain.view,
            trapdoors,
            records,
            named,
        }
    }

    impl Indexed {
        /// Trapdoors and named entries by the bits of two numbers.
        fn reach(&self, trapdoors: usize, named: usize) -> Reach {
            let chosen = |bits: usize| move |place: &usize| bits >> place & 1 == 1;
            Reach {
                trapdoors: (0..self.trapdoors.len())
                    .filter(chosen(trapdoors))
                    .map(|place| self.trapdoors[place].clone())
                    .collect(),
                entries: (0..self.named.len())
                    .filter(chosen(named))
                    .map(|place| self.named[place].clone())
                    .collect(),
            }
        }

        fn query(&self, reach: &Reach, at: Height) -> Vec<Hit> {
            query(&self.consortium, &self.view, reach, at, &WriterKeys::new()).expect("memory")
        }

        fn last(&self) -> Height {
            self.records.last().expect("there are some").2
        }

        /// (place, position, record) of each hit.
        fn found(&self, reach: &Reach, at: Height) -> Vec<(u32, u64, usize)> {
            let number = |id| self.records.iter().position(|(_, known, _)| *known == id);
            self.query(reach, at)
                .iter()
                .map(|hit| {
                    let record = number(hit.transaction).expect("a record of this chain");
                    (hit.place, hit.position, record)
                })
                .collect()
        }
    }

    #[test]
    fn a_query_gives_what_opens_before_a_gap_of_eight_in_order() {
        let all = indexed();
        assert_eq!(
            all.found(&all.reach(0b111, 0), all.last()),
            [
                (0, 0, 0),
                (0, 1, 1),
                (1, 0, 1),
                (1, 5, 4),
                (1, 13, 5),
                (2, 0, 2)
            ]
        );
        // What no trapdoor reaches can be named; what does not open is no hit named either.
        assert_eq!(
            all.found(&all.reach(0b100, 0b100_1001), all.last()),
            [(0, 0, 2), (1, 0, 0), (3, 0, 6)]
        );
        assert!(all.found(&Reach::default(), all.last()).is_empty());
    }

    #[test]
    fn a_query_at_a_height_sees_no_later_record() {
        let all = indexed();
        for (_, _, height) in &all.records {
            let reach = all.reach(0b111, 0b111_1111);
            let whole = all.found(&reach, all.last());
            let expected: Vec<_> = whole
                .into_iter()
                .filter(|(_, _, record)| all.records[*record].2 <= *height)
                .collect();
            assert_eq!(all.found(&reach, *height), expected);
        }
    }

    /// What a node remembers of writer epochs changes no answer: not of one that began later, and not
    /// after more were met than are remembered.
    #[test]
    fn remembered_writer_keys_change_no_answer() {
        let all = indexed();
        let reach = all.reach(0b111, 2);
        let keys = WriterKeys::new();
        let empty = MemoryView::new();
        let before = query(&all.consortium, &empty, &reach, all.last(), &keys).expect("memory");
        assert!(before.is_empty());
        let bytes = |hits| Hits(hits).encode();
        let expected = bytes(all.query(&reach, all.last()));
        for _ in 0..2 {
            let found = query(&all.consortium, &all.view, &reach, all.last(), &keys);
            assert_eq!(bytes(found.expect("memory")), expected);
        }
        let one = Arc::clone(keys.0.lock().unwrap().values().next().unwrap());
        for epoch in 1_000..1_000 + WRITER_KEYS_MAX as u32 {
            let writer = Writer {
                institution: scheme::InstitutionId::new(9),
                epoch: WriterEpoch::new(epoch),
            };
            keys.0.lock().unwrap().insert(writer, Arc::clone(&one));
        }
        keys.0
            .lock()
            .unwrap()
            .retain(|writer, _| writer.institution.number() == 9);
        let found = query(&all.consortium, &all.view, &reach, all.last(), &keys);
        assert_eq!(bytes(found.expect("memory")), expected);
        assert!(keys.0.lock().unwrap().len() <= 3);
    }

    #[test]
    fn an_unknown_writer_epoch_reaches_nothing() {
        let all = indexed();
        let mut reach = all.reach(0b001, 0b1);
        reach.trapdoors[0].writer.epoch = WriterEpoch::new(1);
        reach.entries[0].writer.epoch = WriterEpoch::new(1);
        assert!(all.query(&reach, all.last()).is_empty());
        reach.trapdoors[0].writer = all.trapdoors[2].writer;
        assert!(all.query(&reach, all.last()).is_empty());
    }

    /// `locate` is the query asked for one record: with any trapdoors and named entries it finds the
    /// records that the query gives, and no other, and the same locators.
    #[test]
    fn one_record_is_located_exactly_if_the_query_gives_it() {
        let all = indexed();
        let mut reached = 0;
        for trapdoors in 0..1 << all.trapdoors.len() {
            for named in [0, 0b000_0001, 0b000_1000, 0b100_0010, 0b111_1111] {
                let reach = all.reach(trapdoors, named);
                let hits: BTreeMap<_, _> = all
                    .query(&reach, all.last())
                    .into_iter()
                    .map(|hit| (hit.transaction, hit.locator.address))
                    .collect();
                for (statement, id, _) in &all.records {
                    let located = locate(&all.consortium, &all.view, &reach, statement);
                    let located = located.expect("memory").map(|locator| locator.address);
                    assert_eq!(located, hits.get(id).copied());
                    reached += usize::from(located.is_some());
                }
            }
        }
        assert!(reached > 100, "{reached}");
    }

    #[test]
    fn a_record_of_another_writer_s_key_is_located_nowhere() {
        let all = indexed();
        let reach = all.reach(0b111, 0b111_1111);
        let locate =
            |statement: &RecordStatement| locate(&all.consortium, &all.view, &reach, statement);
        let (mut statement, ..) = all.records[0].clone();
        assert!(locate(&statement).expect("memory").is_some());
        // R of the other hospital, and one that is on no chain.
        statement.writer_key = all.records[2].0.writer_key.clone();
        assert!(locate(&statement).expect("memory").is_none());
        statement.writer_key =
            scheme::WriterEpochKey::random(&mut rng("no chain's", 1)).public_key();
        assert!(locate(&statement).expect("memory").is_none());
    }

    /// Entries that do not open took the places of hits: a colleague with the PID and an account could
    /// store four transactions of 1,024 of them under the next 4,096 tags of a patient's index key, and
    /// no later record of that writer epoch was ever found.
    #[test]
    fn attack_hide_later_records_behind_entries_that_do_not_open() {
        const PER_TRANSACTION: u64 = 1_024;
        let four = FourHospitals::default();
        let here = four.consortium;
        let mut chain = ToyChain::new(&four);
        chain.grow(10, four.opening());
        let keys = four.patient_keys(1);
        let writer = Writer {
            institution: four.hospital(1).institution.id,
            epoch: WriterEpoch::new(0),
        };
        let pid = Pid::from_bytes([5; 32]);
        let any = Keyword::any_record();
        let trapdoor = Trapdoor::generate(&here, &keys.search, &pid, writer, &any);
        let index_key = trapdoor.index_key(&four.hospital(1).writer_key.public_key());
        let mut junk = 0;
        while junk <= HITS_MAX as u64 {
            let under: Vec<_> = (junk..junk + PER_TRANSACTION)
                .map(|position| (&index_key, Position::new(position)))
                .collect();
            let mut statement = four.indexed(1, junk, &under);
            for entry in &mut statement.entries {
                entry.pad[0] ^= 1;
            }
            chain.grow(10, vec![four.sign_record(1, statement)]);
            junk += PER_TRANSACTION;
        }
        let honest = four.indexed(1, junk, &[(&index_key, Position::new(junk))]);
        let transaction = four.sign_record(1, honest.clone());
        let id = transaction.id(&here);
        let height = chain.grow(10, vec![transaction]).height();
        let reach = Reach {
            trapdoors: vec![WriterTrapdoor { writer, trapdoor }],
            entries: Vec::new(),
        };
        let hits = query(&here, &chain.view, &reach, height, &WriterKeys::new()).expect("memory");
        let found: Vec<_> = hits.iter().map(|hit| hit.transaction).collect();
        assert_eq!(found, [id]);
        let located = locate(&here, &chain.view, &reach, &honest).expect("memory");
        let located = located.map(|locator| locator.address);
        assert_eq!(located, Some(hits[0].locator.address));
    }

    #[test]
    fn an_entry_without_its_record_is_a_damaged_store() {
        let all = indexed();
        let mut view = all.view.clone();
        let mut lost = Changes::new();
        let rows: Vec<_> = view
            .iter()
            .filter(|(key, _)| key.first() == Some(&b'r'))
            .map(|(key, _)| key.to_vec())
            .collect();
        for row in rows {
            lost.delete(row);
        }
        view.apply(&lost);
        let found = query(
            &all.consortium,
            &view,
            &all.reach(0b1, 0),
            all.last(),
            &WriterKeys::new(),
        );
        assert!(matches!(found, Err(ReadError::Missing { .. })));
    }
}
