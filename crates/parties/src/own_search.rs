//! A search of one's own entries, as whoever stores a record or receives its receipt runs it: before
//! the doctor's client says "stored", and before the patient's client accepts the receipt. It walks
//! the final entries as every search does (equation (13), E22), so a record that was given a position
//! behind a gap, which no search reaches, is not found here either.
//!
//! A value that is fed and drained: it gives questions for the chain and takes f + 1 nodes' answers.

use std::collections::VecDeque;

use ledger::TransactionId;
use scheme::{ALLOCATION_WINDOW, ConsortiumId, IndexKey, Position, Tag, Writer};
use thiserror::Error;

use crate::consortium_chain::{Question, TAGS_MAX};

/// Keywords that one question walks on for: each asks for as many tags as a gap is long.
const WALKS_AT_ONCE: usize = TAGS_MAX / ALLOCATION_WINDOW as usize;
/// Entries of one keyword of one episode that are walked over: a record an hour for seven years.
const POSITIONS_MAX: u64 = 65_536;

/// An answer that does not fit the question. Ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{asked} tags were asked for and {came} answers came: ask again")]
pub struct MisfitAnswer {
    /// Tags asked for.
    pub asked: usize,
    /// Answers that came.
    pub came: usize,
}

/// Walks the entries of several keywords until each walk meets one record.
pub struct OwnSearch {
    consortium: ConsortiumId,
    writer: Writer,
    /// Which record; none if any will do.
    record: Option<TransactionId>,
    walks: VecDeque<Walk>,
    lost: bool,
}

/// The walk of one keyword: the next position, and how many in a row were missing before it.
struct Walk {
    key: IndexKey,
    next: u64,
    missing: u64,
}

impl OwnSearch {
    /// A search for `record` by each of these index keys of one writer epoch.
    pub fn new(
        consortium: ConsortiumId,
        writer: Writer,
        keys: impl IntoIterator<Item = IndexKey>,
        record: TransactionId,
    ) -> Self {
        Self::walking(consortium, writer, keys, Some(record))
    }

    /// A search for any record by this index key.
    pub fn for_any(consortium: ConsortiumId, writer: Writer, key: IndexKey) -> Self {
        Self::walking(consortium, writer, [key], None)
    }

    fn walking(
        consortium: ConsortiumId,
        writer: Writer,
        keys: impl IntoIterator<Item = IndexKey>,
        record: Option<TransactionId>,
    ) -> Self {
        let start = |key| Walk {
            key,
            next: 0,
            missing: 0,
        };
        Self {
            consortium,
            writer,
            record,
            walks: keys.into_iter().map(start).collect(),
            lost: false,
        }
    }

    /// What to ask the chain next; `None` when the search is over.
    pub fn question(&self) -> Option<Question> {
        let tags: Vec<Tag> = self
            .walks
            .iter()
            .take(WALKS_AT_ONCE)
            .flat_map(|walk| {
                (walk.next..walk.next + ALLOCATION_WINDOW)
                    .map(|position| walk.key.tag(&self.consortium, Position::new(position)))
            })
            .collect();
        (!tags.is_empty()).then_some(Question::Records {
            institution: self.writer.institution,
            epoch: self.writer.epoch,
            tags,
        })
    }

    /// Takes what f + 1 nodes answered to [`Self::question`].
    ///
    /// # Errors
    /// [`MisfitAnswer`] if it is not as long as the question; nothing changes.
    pub fn answer(&mut self, records: &[Option<TransactionId>]) -> Result<(), MisfitAnswer> {
        let walking = self.walks.len().min(WALKS_AT_ONCE);
        let (asked, came) = (walking * ALLOCATION_WINDOW as usize, records.len());
        if asked != came {
            return Err(MisfitAnswer { asked, came });
        }
        for found in records.chunks(ALLOCATION_WINDOW as usize) {
            let mut walk = self.walks.pop_front().expect("as many as were asked for");
            match walk.go_on(found, self.record) {
                Step::Met => {}
                Step::Lost => self.lost = true,
                Step::On => self.walks.push_back(walk),
            }
        }
        if self.lost {
            self.walks.clear();
        }
        Ok(())
    }

    /// Whether every keyword's walk met the record, or any record where none is named; `false` while the search is not over.
    pub fn is_found(&self) -> bool {
        !self.lost && self.walks.is_empty()
    }
}

enum Step {
    Met,
    Lost,
    On,
}

impl Walk {
    fn go_on(&mut self, found: &[Option<TransactionId>], record: Option<TransactionId>) -> Step {
        for at in found {
            match at {
                Some(at) if record.is_none_or(|record| *at == record) => return Step::Met,
                Some(_) => self.missing = 0,
                None => self.missing += 1,
            }
            if self.missing == ALLOCATION_WINDOW {
                return Step::Lost;
            }
        }
        self.next += found.len() as u64;
        if self.next >= POSITIONS_MAX {
            Step::Lost
        } else {
            Step::On
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use scheme::{InstitutionId, WriterEpoch, WriterEpochKey};

    use super::*;

    const RECORD: TransactionId = TransactionId::new([1; 32]);

    /// A search by `keys` keywords over entries at these positions of each, the record's own at
    /// `own`; and whether each entry of the record is there if its tag is looked up by itself.
    fn both(keys: usize, others: &[u64], own: Option<u64>) -> (OwnSearch, bool) {
        let consortium = ConsortiumId::new([9; 32]);
        let writer = Writer {
            institution: InstitutionId::new(4),
            epoch: WriterEpoch::new(0),
        };
        let index_keys = || {
            use rand_chacha::rand_core::SeedableRng;
            let mut rng = rand_chacha::ChaCha20Rng::from_seed([3; 32]);
            let seed = scheme::RootSeed::from_bytes([5; 32]);
            let version = scheme::KeyVersion::new(0);
            let keys_of = scheme::PatientKeys::derive(&seed, version, &consortium);
            let pid = scheme::Pid::from_bytes([7; 32]);
            let r = WriterEpochKey::random(&mut rng).public_key();
            (0..keys).map(move |number| {
                let word = scheme::Keyword::new(&number.to_be_bytes()).unwrap();
                scheme::Trapdoor::generate(&consortium, &keys_of.search, &pid, writer, &word)
                    .index_key(&r)
            })
        };
        let mut chain = BTreeMap::new();
        for key in index_keys() {
            for position in others {
                let tag = key.tag(&consortium, Position::new(*position));
                chain.insert(tag, TransactionId::new([2; 32]));
            }
            if let Some(position) = own {
                chain.insert(key.tag(&consortium, Position::new(position)), RECORD);
            }
        }
        let mut search = OwnSearch::new(consortium, writer, index_keys(), RECORD);
        while let Some(Question::Records { tags, .. }) = search.question() {
            let found: Vec<_> = tags.iter().map(|tag| chain.get(tag).copied()).collect();
            search.answer(&found).unwrap();
        }
        let alone = own.is_some_and(|own| {
            index_keys().all(|key| {
                let tag = key.tag(&consortium, Position::new(own));
                chain.get(&tag) == Some(&RECORD)
            })
        });
        (search, alone)
    }

    fn search(keys: usize, others: &[u64], own: Option<u64>) -> OwnSearch {
        both(keys, others, own).0
    }

    #[test]
    fn a_record_is_found_at_any_position_that_a_search_reaches() {
        assert!(search(1, &[], Some(0)).is_found());
        assert!(search(1, &[], Some(7)).is_found());
        assert!(search(3, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 16], Some(20)).is_found());
        // More keywords than one question holds.
        assert!(search(WALKS_AT_ONCE + 2, &[0], Some(1)).is_found());
    }

    /// Attacker: the hospital's server, which hands out positions. It leaves a gap of eight, behind
    /// which no search looks. A client that asks for its entries' tags one by one finds them there;
    /// one that walks does not, and its author is told before "stored" is said.
    #[test]
    fn attack_hide_a_record_behind_jumped_positions() {
        for (keys, others, own) in [(1, &[][..], 8), (1, &[0], 12), (2, &[0, 1, 10], 11)] {
            let (walked, alone) = both(keys, others, Some(own));
            assert!(alone && !walked.is_found());
        }
        assert!(!search(1, &[0], None).is_found());
    }

    #[test]
    fn an_answer_of_another_length_changes_nothing() {
        let mut over = search(1, &[], Some(0));
        assert_eq!(over.question(), None);
        assert!(over.answer(&[None]).is_err() && over.is_found());
    }
}
