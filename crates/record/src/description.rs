//! What a file says about itself as a whole: title, type of document, dates, and who wrote it. These
//! are for whoever lists files; they decide nothing and enter no manifest.

use std::fmt;

use crate::limits::LINE_BYTES_MAX;

/// What a file says about itself as a whole, as far as it does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// Title of a document, description of a study.
    pub title: Option<Line>,
    /// The code of its type of document.
    pub document_type: Option<DocumentType>,
    /// The earliest and the latest clinical date in it.
    pub period: Option<Period>,
    /// Who wrote it: a person, an organisation, a system or a machine, in the record's words.
    pub origin: Option<Line>,
}

/// A short text of a record on one line: 1 to 256 bytes, without control characters and without
/// those that turn the writing direction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line(String);

impl Line {
    /// The begin of a text; `None` if nothing of it shows.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let mut line = String::new();
        for c in text.trim().chars() {
            let c = if hides(c) { ' ' } else { c };
            if line.len() + c.len_utf8() > LINE_BYTES_MAX {
                break;
            }
            line.push(c);
        }
        let line = line.trim();
        (!line.is_empty()).then(|| Self(line.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The code of a type of document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentType {
    /// URI of the code system.
    pub system: Line,
    /// The code.
    pub code: Line,
}

impl fmt::Display for DocumentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.system, self.code)
    }
}

/// From when to when, in ISO 8601, each as precise as the record has it: `2024`, `2024-06-15`,
/// `2024-06-15T20:59:00+08:00`. Dates are compared as they are written, without their time zones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    first: String,
    last: String,
}

impl Period {
    /// One date; `None` if the text is none between the years 1800 and 2199. What follows a date and
    /// is no time of day is left out.
    pub(crate) fn at(text: &str) -> Option<Self> {
        let date = date(text.trim())?;
        Some(Self {
            first: date.to_owned(),
            last: date.to_owned(),
        })
    }

    /// One date as HL7 v2, CDA and DICOM write it: `20240615`, `20240615205900.12+0800`.
    pub(crate) fn at_compact(text: &str) -> Option<Self> {
        Self::at(&iso(text.trim())?)
    }

    /// The earliest date.
    pub fn first(&self) -> &str {
        &self.first
    }

    /// The latest date.
    pub fn last(&self) -> &str {
        &self.last
    }

    /// The period that holds both.
    pub(crate) fn widen(&mut self, other: &Self) {
        if comparable(&other.first) < comparable(&self.first) {
            self.first.clone_from(&other.first);
        }
        if comparable(&other.last) > comparable(&self.last) {
            self.last.clone_from(&other.last);
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return f.write_str(&self.first);
        }
        write!(f, "{} to {}", self.first, self.last)
    }
}

/// Date and time of day to the second. Dates are ASCII, so every position is a border.
fn comparable(date: &str) -> &str {
    date.get(..SECOND_CHARS).unwrap_or(date)
}

/// The ISO 8601 date that a text begins with.
fn date(text: &str) -> Option<&str> {
    let within = |begin: usize, end: usize, from: u16, to: u16| {
        let digits = text
            .get(begin..end)
            .filter(|part| part.bytes().all(|b| b.is_ascii_digit()));
        digits
            .and_then(|digits| digits.parse::<u16>().ok())
            .is_some_and(|number| (from..=to).contains(&number))
    };
    let sign = |at: usize, sign: u8| text.as_bytes().get(at) == Some(&sign);
    if !within(0, 4, 1800, 2199) {
        return None;
    }
    if !(sign(4, b'-') && within(5, 7, 1, 12)) {
        return text.get(..4);
    }
    if !(sign(7, b'-') && within(8, 10, 1, 31)) {
        return text.get(..7);
    }
    let timed = sign(10, b'T') && within(11, 13, 0, 24) && sign(13, b':') && within(14, 16, 0, 59);
    if !timed {
        return text.get(..10);
    }
    let rest = text.bytes().skip(16).take(TIME_REST_CHARS);
    let rest =
        rest.take_while(|byte| matches!(byte, b'0'..=b'9' | b':' | b'.' | b'+' | b'-' | b'Z'));
    text.get(..16 + rest.count())
}

/// `20240615205900+0800` with the signs of ISO 8601.
fn iso(compact: &str) -> Option<String> {
    let digits = compact.bytes().take_while(u8::is_ascii_digit).count();
    let part =
        |begin: usize, end: usize| (end <= digits).then(|| compact.get(begin..end)).flatten();
    let mut out = part(0, 4)?.to_owned();
    for (begin, end, before) in [
        (4, 6, '-'),
        (6, 8, '-'),
        (8, 10, 'T'),
        (10, 12, ':'),
        (12, 14, ':'),
    ] {
        let Some(value) = part(begin, end) else { break };
        out.push(before);
        out.push_str(value);
        if before == 'T' && part(10, 12).is_none() {
            out.push_str(":00");
        }
    }
    let zone = compact
        .find(['+', '-'])
        .and_then(|at| compact.get(at..at + 5));
    if digits >= 10
        && let Some(zone) = zone
        && zone.bytes().skip(1).all(|byte| byte.is_ascii_digit())
        && let (Some(hours), Some(minutes)) = (zone.get(..3), zone.get(3..))
    {
        out.push_str(hours);
        out.push(':');
        out.push_str(minutes);
    }
    Some(out)
}

fn hides(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters of `2024-06-15T20:59:00`.
const SECOND_CHARS: usize = 19;
/// Characters behind the minutes that are kept: seconds, nine digits of their parts, a zone.
const TIME_REST_CHARS: usize = 19;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_kept_as_precise_as_they_are() {
        for (text, expected) in [
            ("2024", Some("2024")),
            ("2024-13", Some("2024")),
            ("2024-06-15", Some("2024-06-15")),
            (
                "2024-06-15T20:59:00.123+08:00",
                Some("2024-06-15T20:59:00.123+08:00"),
            ),
            ("2024-06-15T99", Some("2024-06-15")),
            ("2024-06-15T20:59 <b>", Some("2024-06-15T20:59")),
            ("0024-06-15", None),
            ("24", None),
            ("\u{4f60}\u{597d}", None),
        ] {
            let found = Period::at(text);
            assert_eq!(found.as_ref().map(Period::first), expected, "{text}");
        }
        for (text, expected) in [
            ("20120912011230.5-0500", Some("2012-09-12T01:12:30-05:00")),
            ("2012091201", Some("2012-09-12T01:00")),
            ("201209", Some("2012-09")),
            ("20129999", Some("2012")),
            ("HL7", None),
        ] {
            let found = Period::at_compact(text);
            assert_eq!(found.as_ref().map(Period::last), expected, "{text}");
        }
    }

    #[test]
    fn a_period_holds_every_date() {
        let mut period = Period::at("2024-06-15").unwrap();
        for date in ["2024-06-15T20:59:00Z", "2023", "2024-06-14"] {
            period.widen(&Period::at(date).unwrap());
        }
        assert_eq!(period.to_string(), "2023 to 2024-06-15T20:59:00Z");
    }

    #[test]
    fn lines_show_what_they_hold() {
        assert_eq!(Line::of(" a\nb\u{202e}c ").unwrap().as_str(), "a b c");
        assert_eq!(Line::of("\u{1}\n"), None);
        assert_eq!(
            Line::of(&"\u{4f60}".repeat(100)).unwrap().as_str().len(),
            255
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_date_or_none(text in "\\PC{0,40}", digits in "[0-9+.-]{0,30}") {
            for found in [Period::at(&text), Period::at_compact(&text), Period::at_compact(&digits)] {
                prop_assert!(found.is_none_or(|found| found.first().len() <= 35 && found.first().is_ascii()));
            }
        }
    }
}
