//! Index entries in memory, among them those of a few keywords, and the search over them.

use std::collections::BTreeMap;

use rand_chacha::ChaCha20Rng;
use scheme::*;

use crate::Bench;
use crate::support::keyword;

/// As many hits as an accounting node gives.
const HITS_MAX: usize = 4_096;

/// Entries of one writer epoch in memory, among them the hits of a few keywords.
pub(crate) struct Entries {
    pub(crate) by_tag: BTreeMap<Tag, ([u8; 16], usize)>,
    /// The records that entries lead to.
    pub(crate) records: Vec<RecordStatement>,
    pub(crate) writer_key: WriterEpochPublicKey,
    /// Trapdoors and how many hits each has.
    pub(crate) words: Vec<(Trapdoor, usize)>,
}

impl Entries {
    /// One keyword for each number of hits.
    pub(crate) fn new(bench: &mut Bench, words: &[usize]) -> Self {
        let here = bench.consortium;
        let writer_key = bench.hospital.y.public_key();
        let mut all = Self {
            by_tag: BTreeMap::new(),
            records: Vec::new(),
            writer_key: writer_key.clone(),
            words: Vec::new(),
        };
        let base = bench.statement(8);
        let episode = bench.patient.episode_key(&bench.pid);
        for &hits in words {
            let trapdoor = Trapdoor::generate(
                &here,
                &bench.patient.keys.search,
                &bench.pid,
                bench.hospital.writer,
                &keyword(&format!("a keyword of {hits} records")),
            );
            let key = trapdoor.index_key(&writer_key);
            for position in 0..hits as u64 {
                let (delta, locator_key) = (
                    Delta::random(&mut bench.rng),
                    LocatorKey::random(&mut bench.rng),
                );
                let mut statement = base.clone();
                statement.owner_key = episode.blind(&delta).unwrap();
                statement.locator = Locator {
                    address: Address::new([0xad; 32]),
                    delta,
                }
                .seal(&here, &locator_key, &binding(&statement));
                let owner = &statement.owner_key.compressed();
                let entry = key.entry(&here, Position::new(position), owner, &locator_key);
                all.by_tag.insert(entry.tag, (entry.pad, all.records.len()));
                all.records.push(statement);
            }
            all.words.push((trapdoor, hits));
        }
        all
    }

    /// Adds entries of other keywords until there are so many, or as many as the hits alone are.
    pub(crate) fn grow(&mut self, count: usize, rng: &mut ChaCha20Rng) {
        while self.by_tag.len() < count {
            let mut others = Vec::new();
            pad_entries(&mut others, rng);
            let room = count - self.by_tag.len();
            let others = others.into_iter().take(room);
            self.by_tag
                .extend(others.map(|entry| (entry.tag, (entry.pad, 0))));
        }
    }

    /// From the trapdoor to the opened locators.
    pub(crate) fn search(&self, consortium: &ConsortiumId, trapdoor: &Trapdoor) -> Vec<Locator> {
        let key = trapdoor.index_key(&self.writer_key);
        let hits = key.search(consortium, HITS_MAX, |tag| {
            Ok::<_, ()>(self.by_tag.get(tag).copied())
        });
        hits.unwrap()
            .into_iter()
            .map(|(position, (pad, record))| {
                open_locator(consortium, &key, position, pad, &self.records[record])
            })
            .collect()
    }
}

/// What a hit costs beside its look-up.
pub(crate) fn open_locator(
    consortium: &ConsortiumId,
    key: &IndexKey,
    position: Position,
    pad: [u8; 16],
    statement: &RecordStatement,
) -> Locator {
    let locator_key = key.locator_key(
        consortium,
        position,
        &statement.owner_key.compressed(),
        &pad,
    );
    statement
        .locator
        .open(consortium, &locator_key, &binding(statement))
        .unwrap()
}

pub(crate) fn binding(statement: &RecordStatement) -> LocatorBinding<'_> {
    LocatorBinding {
        writer_key: statement.writer_key.compressed(),
        digest: &statement.digest,
        header_digest: &statement.header_digest,
        owner_key: statement.owner_key.compressed(),
        author: &statement.author,
        institution: statement.institution,
    }
}
