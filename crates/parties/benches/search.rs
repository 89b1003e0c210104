//! Equation (13) over a state of 1,000 and of 1,000,000 index entries in memory, as an accounting node
//! runs it, beside a bare pairing measured in the same run and beside the paper's scan of all entries.
//! `docs/measured/search.md` says what came out. Repeat with
//! `cargo bench -p willis-parties --bench search [-- --json docs/measured/search.json]`.
#![allow(clippy::print_stdout, reason = "a benchmark tells its figures")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark needs a clock and keeps its figures in a file"
)]

#[path = "../../scheme/benches/figures/mod.rs"]
mod figures;
#[path = "search/indexed.rs"]
mod indexed;
#[path = "../../scheme/benches/algorithms/measure.rs"]
mod measure;
#[path = "search/rows.rs"]
mod rows;
#[path = "../../scheme/benches/algorithms/scan.rs"]
mod scan;

use ledger::MemoryView;

use figures::{Against, Figure, Figures};
use indexed::Indexed;
use measure::{Comparison, Timed};
use rows::{hits, pairing, row, warm};

/// Entries that the paper's scan is measured over.
const SCANNED: usize = 100;

fn main() {
    let mut figures = Figures::new("search in memory");
    figures.heading("Search (13) over a node's state in memory");
    let mut medians = Vec::new();
    // 1,000 hits do not fit into 1,000 entries: a record has at least eight.
    for (entries, name, words) in [
        (1_000, "1,000", &[0..0, 0..1, 0..10, 0..100][..]),
        (
            1_000_000,
            "1,000,000",
            &[0..0, 0..1, 0..10, 0..100, 0..1_000][..],
        ),
    ] {
        let mut view = MemoryView::new();
        let records = words.iter().map(|word| word.end).max().unwrap_or(0);
        let indexed = Indexed::put(entries, records, words, |changes| view.apply(changes));
        let all = warm(&mut figures, name, &indexed, &view);
        medians.push((entries, name, all[1]));
    }

    figures.heading("The paper's scan of all entries (13)");
    let literal = scan::LiteralIndex::new(SCANNED);
    assert_eq!(literal.paper_scan(SCANNED), [SCANNED - 1]);
    assert_eq!(literal.peks_scan(SCANNED), [SCANNED - 1]);
    let mut paper = Timed::new(|| (), |()| literal.paper_scan(SCANNED));
    let mut peks = Timed::new(|| (), |()| literal.peks_scan(SCANNED));
    let mut each = Vec::new();
    for (name, rounds) in [
        (
            "the paper's pairing test",
            Comparison::of(&mut paper, &mut pairing()),
        ),
        ("plain PEKS", Comparison::of(&mut peks, &mut pairing())),
    ] {
        each.push((name, rounds.micros() / SCANNED as f64));
        let name = format!("{name}, {SCANNED} entries");
        figures.add(row(name, rows::PAIRING, &rounds, None));
    }
    for (entries, entries_name, ours) in &medians {
        for (name, micros) in &each {
            let value = micros * *entries as f64;
            figures.add(Figure {
                name: format!("{name}, {entries_name} entries, extrapolated from {SCANNED}"),
                value: value / 1e6,
                unit: "s",
                rival: Some(Against {
                    name: format!("our search, {entries_name} entries, {}", hits(1)),
                    ratio: value / ours,
                    spread: None,
                }),
                goal: None,
            });
        }
    }
    figures.finish();
}
