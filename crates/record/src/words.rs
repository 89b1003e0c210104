//! Words of titles and problem lists in the one form in which they are searched for
//! (`spec/formats.md` R2).

use crate::limits::{HAN_RUN_CHARS_MAX, WORD_BYTES_MAX};

/// Calls with each word of a text in its normal form: lower case, at least three letters or digits,
/// not digits alone, not one of the stop words. Of a run of Chinese or Japanese characters, which no
/// space divides, with each part of two to four characters within its first twelve.
pub(crate) fn each(text: &str, mut call: impl FnMut(&str)) {
    let lower = text.to_lowercase();
    for run in runs(&lower) {
        if run.chars().all(is_han) {
            parts(run, &mut call);
        } else if is_word(run) {
            call(run);
        }
    }
}

/// The normal form of a text that is one word, or two to four Chinese or Japanese characters.
pub(crate) fn one(text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    let mut runs = runs(&lower);
    let (Some(run), None) = (runs.next(), runs.next()) else {
        return None;
    };
    let count = run.chars().count();
    let valid = if run.chars().all(is_han) {
        HAN_PART_CHARS.contains(&count)
    } else {
        is_word(run)
    };
    valid.then(|| run.to_owned())
}

/// Runs of letters and digits, and of Chinese or Japanese characters apart from others.
fn runs(lower: &str) -> impl Iterator<Item = &str> {
    let words = lower
        .split(|c: char| !belongs(c))
        .filter(|word| !word.is_empty());
    words.flat_map(|word| {
        let mut rest = word;
        std::iter::from_fn(move || {
            let han = is_han(rest.chars().next()?);
            let end = rest.find(|c| is_han(c) != han).unwrap_or(rest.len());
            let (run, behind) = rest.split_at(end);
            rest = behind;
            Some(run)
        })
    })
}

fn is_word(run: &str) -> bool {
    run.len() <= WORD_BYTES_MAX
        && run.chars().count() >= 3
        && !run.chars().all(char::is_numeric)
        && !STOP_WORDS.contains(&run)
}

fn parts(run: &str, call: &mut impl FnMut(&str)) {
    let borders: Vec<usize> = run
        .char_indices()
        .map(|(at, _)| at)
        .chain([run.len()])
        .take(HAN_RUN_CHARS_MAX + 1)
        .collect();
    for count in HAN_PART_CHARS {
        for window in borders.windows(count + 1) {
            if let (Some(&begin), Some(&end)) = (window.first(), window.last())
                && let Some(part) = run.get(begin..end)
            {
                call(part);
            }
        }
    }
}

/// Letters and digits, and the marks that follow a letter where an accent is written apart.
fn belongs(c: char) -> bool {
    c.is_alphanumeric() || ('\u{300}'..='\u{36f}').contains(&c)
}

/// Han, Hiragana and Katakana, with the iteration and length marks.
fn is_han(c: char) -> bool {
    matches!(
        c,
        '\u{3005}'..='\u{3007}' | '\u{3041}'..='\u{3096}' | '\u{309d}'..='\u{309f}'
            | '\u{30a1}'..='\u{30fa}' | '\u{30fc}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}'
            | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
            | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{3ffff}'
    )
}

const HAN_PART_CHARS: std::ops::RangeInclusive<usize> = 2..=4;

/// English words that stand in every title and tell nothing.
const STOP_WORDS: [&str; 34] = [
    "and",
    "any",
    "are",
    "been",
    "but",
    "for",
    "from",
    "had",
    "has",
    "have",
    "her",
    "his",
    "into",
    "its",
    "nos",
    "not",
    "off",
    "other",
    "our",
    "per",
    "she",
    "than",
    "that",
    "the",
    "their",
    "then",
    "this",
    "unspecified",
    "was",
    "were",
    "who",
    "with",
    "without",
    "you",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        each(text, |word| found.push(word.to_owned()));
        found
    }

    #[test]
    fn words_are_normal() {
        assert_eq!(
            all("Acute STROKE, with (left) CT-Head of 2024; \u{c4}rztlicher Brief B12"),
            [
                "acute",
                "stroke",
                "left",
                "head",
                "\u{e4}rztlicher",
                "brief",
                "b12"
            ]
        );
        assert_eq!(all(&"x".repeat(65)), [""; 0]);
        assert_eq!(all("cafe\u{301}"), ["cafe\u{301}"]);
    }

    #[test]
    fn characters_without_spaces_give_their_parts() {
        assert_eq!(
            all("\u{8133}\u{51fa}\u{8840}CT\u{691c}\u{67fb}"),
            [
                "\u{8133}\u{51fa}",
                "\u{51fa}\u{8840}",
                "\u{8133}\u{51fa}\u{8840}",
                "\u{691c}\u{67fb}"
            ]
        );
        // Of twelve characters: eleven, ten and nine parts.
        assert_eq!(all(&"\u{8133}".repeat(1_000)).len(), 30);
        assert_eq!(all("\u{8133}"), [""; 0]);
    }

    #[test]
    fn what_is_typed_is_one_word() {
        assert_eq!(one(" Stroke "), Some("stroke".to_owned()));
        assert_eq!(
            one("\u{8133}\u{5352}\u{4e2d}").as_deref(),
            Some("\u{8133}\u{5352}\u{4e2d}")
        );
        for none in [
            "",
            "ct",
            "stroke unit",
            "2024",
            "the",
            "\u{8133}",
            "\u{8133}\u{8133}ct",
            &"x".repeat(99),
        ] {
            assert_eq!(one(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn a_normal_word_stays_as_it_is(text in "\\PC{0,60}") {
            for word in all(&text) {
                prop_assert_eq!(one(&word), Some(word.clone()));
                prop_assert!(word.len() <= WORD_BYTES_MAX);
            }
        }
    }
}
