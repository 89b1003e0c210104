//! Equation (13) over a state of 1,000 and of 1,000,000 index entries in a node's own store on disk,
//! beside a bare pairing measured in the same run: warm, and the first time after the store was
//! opened. `docs/measured/search.md` says what came out. Repeat with
//! `cargo bench -p willis-services --bench search [-- --json docs/measured/search.json]`.
#![allow(clippy::print_stdout, reason = "a benchmark tells its figures")]
#![allow(clippy::disallowed_types, reason = "a benchmark needs a clock")]

#[path = "../../scheme/benches/figures/mod.rs"]
mod figures;
#[path = "../../parties/benches/search/indexed.rs"]
mod indexed;
#[path = "../../scheme/benches/algorithms/measure.rs"]
mod measure;
#[path = "../../parties/benches/search/rows.rs"]
mod rows;
#[path = "../../scheme/benches/algorithms/scan.rs"]
#[allow(
    dead_code,
    reason = "the paper's scan is measured beside the state in memory"
)]
mod scan;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use chain::{Commit, FjallStore, Store, Tip};
use ledger::{BlockId, Height, StateRoot, View};
use parties::WriterKeys;
use scheme::{Timestamp, sha256};

use figures::{Against, Figure, Figures};
use indexed::{Indexed, Word};
use measure::Comparison;
use rows::{PAIRING, hits, pairing, search, warm};

/// Words that are searched once each after the store was opened, at most, and hits of each.
const COLD_WORDS: usize = 31;
const COLD_HITS: usize = 10;

fn main() {
    let mut figures = Figures::new("search in a store");
    figures.heading("Search (13) over a node's store");
    for (entries, name, words) in [
        (1_000, "1,000", &[0..0, 0..1, 0..10, 0..100][..]),
        (
            1_000_000,
            "1,000,000",
            &[0..0, 0..1, 0..10, 0..100, 0..1_000][..],
        ),
    ] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let records = words.iter().map(|word| word.end).max().unwrap_or(0);
        let first: Vec<Range<usize>> = (0..COLD_WORDS.min(records / COLD_HITS))
            .map(|word| word * COLD_HITS..(word + 1) * COLD_HITS)
            .collect();
        let all = [words, &first].concat();
        let mut indexed = fill(folder.path(), entries, records, &all);
        let first = indexed.words.split_off(words.len());
        let store = FjallStore::open(folder.path()).expect("just written");
        let view = store.view().expect("readable").expect("not empty");
        cold(&mut figures, name, &indexed, &first, view.as_ref());
        warm(&mut figures, name, &indexed, view.as_ref());
    }
    figures.finish();
}

/// Fills a store as a node does, block after block, and closes it.
fn fill(folder: &Path, entries: usize, records: usize, words: &[Range<usize>]) -> Indexed {
    let store = FjallStore::open(folder).expect("a folder of its own");
    let mut height = 0u64;
    Indexed::put(entries, records, words, |changes| {
        let tip = Tip {
            height: Height::new(height),
            block: BlockId::new(*sha256(&height.to_be_bytes()).as_bytes()),
            state_root: StateRoot::new([0; 32]),
            time: Timestamp::new(height),
            led: BTreeMap::new(),
        };
        let commit = Commit {
            tip: &tip,
            block: &[],
            certificate: None,
            transactions: &[],
            changes,
        };
        store.commit(commit).expect("durable");
        height += 1;
    })
}

/// Searches for each word once, in a store that was just opened and has read none of them.
fn cold(figures: &mut Figures, entries: &str, indexed: &Indexed, words: &[Word], view: &dyn View) {
    let mut micros: Vec<f64> = words
        .iter()
        .map(|word| {
            let begun = Instant::now();
            // Cold in this too.
            search(indexed, word, view, &WriterKeys::new());
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    micros.sort_by(f64::total_cmp);
    let median = micros[micros.len() / 2];
    let bare = Comparison::of(&mut pairing(), &mut pairing()).micros();
    let percentile = |percent| micros[(micros.len() - 1) * percent / 100] / bare;
    figures.add(Figure {
        name: format!(
            "{entries} entries, {}, the first time after opening, {} words",
            hits(COLD_HITS),
            words.len()
        ),
        value: median,
        unit: "us",
        rival: Some(Against {
            name: PAIRING.to_owned(),
            ratio: median / bare,
            spread: Some((percentile(10), percentile(90))),
        }),
        goal: None,
    });
}
