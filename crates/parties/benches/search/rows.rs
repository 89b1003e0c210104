//! Rows of a search beside a bare pairing, with the project's goal for it.

use blst::blst_fp12;
use blstrs::{G1Affine, G1Projective, G2Affine, G2Projective};
use group::{Curve, Group};
use ledger::View;
use parties::{WriterKeys, query};

use crate::figures::{Against, Figure, Figures, Goal};
use crate::indexed::{Indexed, Word};
use crate::measure::{Comparison, Timed};
use crate::scan;

pub(crate) const PAIRING: &str = "bare pairing";
/// A trapdoor may cost this many pairings,
const GOAL_PAIRINGS: f64 = 1.2;
/// and each hit this many microseconds on top, warm.
const GOAL_HIT_MICROS: f64 = 20.0;

/// Searches for each word until warm; one row a word, and one for what a hit of the last adds. Gives
/// the median microseconds of each word.
pub(crate) fn warm(
    figures: &mut Figures,
    entries: &str,
    indexed: &Indexed,
    view: &dyn View,
) -> Vec<f64> {
    let mut medians = Vec::new();
    // As a node keeps them between searches.
    let keys = WriterKeys::new();
    for word in &indexed.words {
        let rounds = Comparison::of(
            &mut Timed::new(|| (), |()| search(indexed, word, view, &keys)),
            &mut pairing(),
        );
        medians.push(rounds.micros());
        let allowance = GOAL_HIT_MICROS * word.hits as f64;
        let of_limit = |ours, pairing| ours / (GOAL_PAIRINGS * pairing + allowance);
        let goal = Goal {
            text: match word.hits {
                0 => format!("at most {GOAL_PAIRINGS} pairings"),
                hits => format!("at most {GOAL_PAIRINGS} pairings + {hits} x {GOAL_HIT_MICROS} us"),
            },
            met: rounds.percentile(50, of_limit) <= 1.0,
        };
        let name = format!("{entries} entries, {}", hits(word.hits));
        figures.add(row(name, PAIRING, &rounds, Some(goal)));
    }
    let (first, last) = (&indexed.words[0], indexed.words.last().expect("some"));
    let more = (last.hits - first.hits) as f64;
    let each = (medians[medians.len() - 1] - medians[0]) / more;
    figures.add(Figure {
        name: format!("{entries} entries, what one of {} adds", hits(last.hits)),
        value: each,
        unit: "us",
        rival: None,
        goal: Some(Goal {
            text: format!("at most {GOAL_HIT_MICROS} us"),
            met: each <= GOAL_HIT_MICROS,
        }),
    });
    medians
}

/// Equation (13), checked to give what was put.
pub(crate) fn search(indexed: &Indexed, word: &Word, view: &dyn View, keys: &WriterKeys) -> usize {
    let found = query(&indexed.consortium, view, &word.reach, indexed.height, keys);
    let found = found.expect("readable").len();
    assert_eq!(found, word.hits);
    found
}

/// The bare pairing: on decoded points, nothing else.
pub(crate) fn pairing() -> Timed<impl FnMut(), impl FnMut(()) -> blst_fp12> {
    let p: G1Affine = G1Projective::hash_to_curve(b"p", b"BENCH", &[]).to_affine();
    let q: G2Affine = (G2Projective::generator() * blstrs::Scalar::from(0x5eed_u64)).to_affine();
    Timed::new(|| (), move |()| scan::e(&p, &q))
}

/// A row of a comparison.
pub(crate) fn row(name: String, rival: &str, rounds: &Comparison, goal: Option<Goal>) -> Figure {
    let quotient = |ours, theirs| ours / theirs;
    Figure {
        name,
        value: rounds.micros(),
        unit: "us",
        rival: Some(Against {
            name: rival.to_owned(),
            ratio: rounds.percentile(50, quotient),
            spread: Some((
                rounds.percentile(10, quotient),
                rounds.percentile(90, quotient),
            )),
        }),
        goal,
    }
}

pub(crate) fn hits(number: usize) -> String {
    match number {
        1 => "1 hit".to_owned(),
        number => format!("{number} hits"),
    }
}
