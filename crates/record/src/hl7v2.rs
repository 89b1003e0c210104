//! HL7 v2 messages: runs of segments of one class, and their codes (`spec/formats.md` R4.2). One pass
//! in constant memory, but for the pieces: of a segment only its first 16 KiB are looked at.
//!
//! Lines may end in CR, LF or both, messages may stand in the frames of the minimal lower layer
//! protocol and in batches, and separators are those that each message names.

use std::borrow::Cow;
use std::io::{self, BufRead};

use crate::class::SectionClass;
use crate::description::Period;
use crate::fhir_classes::{DOCUMENT_TYPES, SERVICE_CATEGORIES};
use crate::file::Span;
use crate::gathering::{Gathering, NotUnderstood, Understood};
use crate::hl7v2_classes::{DOCUMENTS, MESSAGES, SEGMENTS};
use crate::keyword::Keyword;
use crate::limits::{ENTRIES_MAX, SEGMENT_BYTES_MAX};
use crate::oddity::{Oddities, Oddity};
use crate::systems;
use crate::tables::find;
use crate::understand::{Piece, PieceKind};

/// Whether a file's first bytes are those of a message or a batch of messages: its header's name, the
/// separator of fields, and at least two more separators.
pub(crate) fn begins(first: &[u8]) -> bool {
    let first = first
        .strip_prefix(crate::fhir::BYTE_ORDER_MARK)
        .unwrap_or(first);
    let blank = first.iter().take_while(|byte| is_between(**byte)).count();
    let Some((name, signs)) = first.get(blank..).and_then(|rest| rest.split_at_checked(3)) else {
        return false;
    };
    let is_sign = |byte: &u8| byte.is_ascii_punctuation();
    HEADERS.iter().any(|header| name == header.as_bytes())
        && signs.len() >= 3
        && signs.iter().take(3).all(is_sign)
        && signs.first() != signs.get(1)
}

/// Reads the messages of a file of `length` bytes that [`begins`] so.
pub(crate) fn scan<R: BufRead>(
    source: R,
    length: u64,
    oddities: &mut Oddities,
) -> Result<Understood, NotUnderstood> {
    let mut lines = Lines {
        source,
        at: 0,
        kept: Vec::new(),
    };
    let mut found = Oddities::default();
    let mut reading = Reading {
        runs: Vec::new(),
        undecided: None,
        before: SectionClass::Homepage,
        group: None,
        message: Message::default(),
        not_utf8: None,
        gathered: Gathering::new(),
        oddities: &mut found,
    };
    while let Some(begin) = lines.next()? {
        reading.line(begin, &lines.kept);
        if reading.runs.len() > ENTRIES_MAX {
            return Err(NotUnderstood::Odd(Oddity::TooManyEntries));
        }
    }
    // A stream that is shorter or longer than announced was changed while it was read.
    if lines.at != length {
        return Err(NotUnderstood::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    reading.decide(reading.message.class);
    let ends = reading
        .runs
        .iter()
        .skip(1)
        .map(|(at, _)| *at)
        .chain([length]);
    let piece = |((from, class), end): (&(u64, SectionClass), u64)| {
        Piece::new(*class, PieceKind::Segments, Span::between(*from, end))
    };
    let understood = Understood {
        media_type: "x-application/hl7-v2+er7",
        pieces: reading.runs.iter().zip(ends).map(piece).collect(),
        gathered: reading.gathered,
    };
    if let Some(at) = reading.not_utf8 {
        oddities.note(Oddity::NotUtf8 { at });
    }
    oddities.append(&found);
    Ok(understood)
}

/// The lines of a file, one at a time.
struct Lines<R> {
    source: R,
    at: u64,
    /// The first 16 KiB of the current line, without what ends it.
    kept: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Reads a line and what stands between it and the next; where it begins, or `None` at the end.
    fn next(&mut self) -> io::Result<Option<u64>> {
        let begin = self.at;
        self.kept.clear();
        if begin == 0 {
            self.pass(
                |byte| is_between(byte) || BYTE_ORDER_MARK.contains(&byte),
                false,
            )?;
        }
        self.pass(|byte| !ENDS.contains(&byte), true)?;
        self.pass(is_between, false)?;
        Ok((self.at > begin).then_some(begin))
    }

    fn pass(&mut self, passes: impl Fn(u8) -> bool, keeps: bool) -> io::Result<()> {
        loop {
            let fresh = match self.source.fill_buf() {
                Ok(fresh) => fresh,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let count = fresh.iter().take_while(|byte| passes(**byte)).count();
            if keeps {
                let room = SEGMENT_BYTES_MAX.saturating_sub(self.kept.len());
                self.kept.extend(fresh.iter().take(count.min(room)));
            }
            let goes_on = count > 0 && count == fresh.len();
            self.source.consume(count);
            self.at += count as u64;
            if !goes_on {
                return Ok(());
            }
        }
    }
}

/// Messages being read.
struct Reading<'a> {
    /// Where each run of one class begins.
    runs: Vec<(u64, SectionClass)>,
    /// Where segments begin whose class a later segment tells.
    undecided: Option<u64>,
    /// The class of the segment before.
    before: SectionClass,
    /// The class of the order or document that segments now belong to.
    group: Option<SectionClass>,
    message: Message,
    not_utf8: Option<u64>,
    gathered: Gathering,
    oddities: &'a mut Oddities,
}

/// What the header of a message says.
#[derive(Debug)]
struct Message {
    signs: Signs,
    /// Of orders and observations of which nothing says more.
    class: SectionClass,
    is_document: bool,
    is_vaccination: bool,
    is_latin: bool,
}

impl Default for Message {
    fn default() -> Self {
        Self {
            signs: Signs::USUAL,
            class: SectionClass::Other,
            is_document: false,
            is_vaccination: false,
            is_latin: false,
        }
    }
}

/// What a segment is for the class of those around it.
enum Place {
    Fixed(SectionClass),
    /// It begins an order or document of this class.
    Begins(SectionClass),
    /// Its class is that of an order or document that follows.
    Awaits,
    /// It belongs to the order or document before.
    Follows,
    /// It goes with the segment before.
    Same,
}

impl Reading<'_> {
    fn line(&mut self, begin: u64, bytes: &[u8]) {
        let name = bytes
            .get(..3)
            .and_then(|name| std::str::from_utf8(name).ok())
            .unwrap_or_default();
        let is_header = HEADERS.contains(&name);
        if is_header {
            // What a message left open is not for the next one to decide.
            self.decide(self.message.class);
            self.message = Message::default();
            self.group = None;
            self.message.signs = Signs::of(bytes).unwrap_or_else(|| {
                self.oddities.note(Oddity::Separators { at: begin });
                Signs::nearest(bytes)
            });
        }
        let is_name = name.len() == 3
            && name.starts_with(|c: char| c.is_ascii_uppercase())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
            && bytes
                .get(3)
                .is_none_or(|byte| *byte == self.message.signs.field);
        if !is_name {
            // Real senders break a text within a field. Its rest goes where its begin goes.
            if !bytes.is_empty() {
                self.oddities.note(Oddity::NoSegment { at: begin });
            }
            self.place(begin, &Place::Same);
            return;
        }
        // A header says in MSH-18 how the text after it is written.
        if name == "MSH" {
            self.message.is_latin = bytes
                .split(|byte| *byte == self.message.signs.field)
                .nth(17)
                == Some(b"8859/1");
        }
        let text = self.text(begin, bytes);
        let segment = Segment::of(&text, self.message.signs);
        if name == "MSH" {
            self.header(begin, &segment);
        }
        let place = self.place_of(begin, &segment);
        self.place(begin, &place);
        self.gather(begin, &segment);
    }

    fn text<'b>(&mut self, begin: u64, bytes: &'b [u8]) -> Cow<'b, str> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) if self.message.is_latin => bytes.iter().copied().map(char::from).collect(),
            Err(error) => {
                // Where what is looked at ends within a character, nothing is odd.
                if error.error_len().is_some() || bytes.len() < SEGMENT_BYTES_MAX {
                    self.not_utf8
                        .get_or_insert(begin + error.valid_up_to() as u64);
                }
                String::from_utf8_lossy(bytes)
            }
        }
    }

    fn header(&mut self, begin: u64, segment: &Segment<'_>) {
        let kind = segment.part(9, 1).unwrap_or_default();
        let event = segment.part(9, 2).unwrap_or_default();
        self.message.class = find(MESSAGES, &kind).unwrap_or_else(|| {
            self.oddities.note(Oddity::NoCategory {
                at: begin,
                resource: "MSH",
            });
            SectionClass::Other
        });
        self.message.is_document = kind == "MDM";
        self.message.is_vaccination = kind.starts_with("VX");
        let message_type = if event.is_empty() {
            kind
        } else {
            format!("{kind}^{event}")
        };
        if !message_type.is_empty() {
            self.gathered
                .keyword(Keyword::message(&message_type), begin, self.oddities);
        }
        let from = [4, 3].map(|field| segment.part(field, 1).unwrap_or_default());
        self.gathered
            .origin(0, from.join(", ").trim_matches([',', ' ']));
    }

    fn place_of(&mut self, begin: u64, segment: &Segment<'_>) -> Place {
        use SectionClass::{History, Laboratory, Medication, Other};
        match segment.name {
            "NTE" | "CTD" | "ADD" => Place::Same,
            // An order's header stands before what is ordered.
            "ORC" => Place::Awaits,
            "TQ1" | "TQ2" if self.undecided.is_some() => Place::Awaits,
            "TQ1" | "TQ2" | "CTI" | "DSP" | "FAC" => Place::Follows,
            "SPM" => Place::Fixed(self.group.unwrap_or(Laboratory)),
            "OBX" => {
                if self.undecided.is_some() && self.message.is_document {
                    let code = segment.part(3, 1).unwrap_or_default();
                    return match find(DOCUMENT_TYPES, &code) {
                        Some(class) => Place::Begins(class),
                        None => Place::Awaits,
                    };
                }
                Place::Follows
            }
            "OBR" => match order_class(segment) {
                Some(class) => Place::Begins(class),
                // The document that follows in the message says what was ordered for it.
                None if self.message.is_document => Place::Awaits,
                None => Place::Begins(self.message.class),
            },
            "TXA" => {
                let code = segment.part(2, 1).unwrap_or_default();
                match find(DOCUMENTS, &code).or_else(|| find(DOCUMENT_TYPES, &code)) {
                    Some(class) => Place::Begins(class),
                    None => {
                        self.oddities.note(Oddity::NoCategory {
                            at: begin,
                            resource: "TXA",
                        });
                        Place::Awaits
                    }
                }
            }
            name => match find(SEGMENTS, name) {
                // What was given against an illness to come is history, not treatment.
                Some(Medication) if self.message.is_vaccination => Place::Begins(History),
                Some(Medication) => Place::Begins(Medication),
                Some(class) => Place::Fixed(class),
                None => {
                    if !name.starts_with('Z') {
                        self.oddities.note(Oddity::UnknownSegment { at: begin });
                    }
                    Place::Fixed(Other)
                }
            },
        }
    }

    fn place(&mut self, begin: u64, place: &Place) {
        match place {
            Place::Same if self.undecided.is_some() => {}
            Place::Same => self.run(begin, self.before),
            Place::Awaits => {
                self.undecided.get_or_insert(begin);
            }
            Place::Begins(class) => {
                self.decide(*class);
                self.group = Some(*class);
                self.run(begin, *class);
            }
            Place::Follows => {
                let class = self.group.unwrap_or(self.message.class);
                self.decide(class);
                self.run(begin, class);
            }
            Place::Fixed(class) => {
                // A document that is not told stays undecided over people and places.
                self.decide(self.message.class);
                self.run(begin, *class);
            }
        }
    }

    /// Gives what was undecided its class.
    fn decide(&mut self, class: SectionClass) {
        if let Some(begin) = self.undecided.take() {
            self.group = Some(class);
            self.run(begin, class);
        }
    }

    fn run(&mut self, begin: u64, class: SectionClass) {
        self.before = class;
        if self.runs.last().is_none_or(|(_, last)| *last != class) {
            self.runs.push((begin, class));
        }
    }

    /// Codes, words and dates.
    fn gather(&mut self, begin: u64, segment: &Segment<'_>) {
        for (name, field) in CODED {
            if *name == segment.name {
                self.codes(begin, segment, *field);
            }
        }
        if segment.name == "OBX" && CODED_VALUES.contains(&segment.field(2)) {
            self.codes(begin, segment, 5);
        }
        for (name, field) in DATED {
            if *name == segment.name {
                let date = segment.part(*field, 1);
                self.gathered
                    .period(date.and_then(|date| Period::at_compact(&date)).as_ref());
            }
        }
        for (name, field) in WORDED {
            if *name == segment.name
                && let Some(text) = segment.concept(*field)
            {
                self.gathered.words(&text);
                match *name {
                    "TXA" => self.gathered.title(0, &text),
                    "OBR" => self.gathered.title(1, &text),
                    _ => {}
                }
            }
        }
        if segment.name == "TXA"
            && let Some(code) = segment.part(2, 1)
        {
            let system = segment
                .part(2, 3)
                .and_then(|name| systems::of_hl7_name(&name));
            let system = system.unwrap_or_else(|| DOCUMENT_SYSTEM.to_owned());
            self.gathered.document_type(&system, &code);
        }
    }

    /// A coded field: its code and the other one that senders may give with it.
    fn codes(&mut self, begin: u64, segment: &Segment<'_>, field: usize) {
        let repeated = segment
            .field(field)
            .split(char::from(segment.signs.repetition));
        for one in repeated.take(REPETITIONS_MAX) {
            for first in [1, 4] {
                let Some(code) = segment.component(one, first) else {
                    continue;
                };
                // Before version 2.4 the system of a diagnosis stood in a field of its own.
                let name = segment
                    .component(one, first + 2)
                    .or_else(|| match segment.name {
                        "DG1" if first == 1 => segment.part(2, 1),
                        _ => None,
                    });
                if let Some(system) = name.and_then(|name| systems::of_hl7_name(&name)) {
                    self.gathered
                        .keyword(Keyword::code(&system, &code), begin, self.oddities);
                }
            }
        }
    }
}

/// The class that an order names: of its service section, else of what was ordered.
fn order_class(segment: &Segment<'_>) -> Option<SectionClass> {
    let section = segment.part(24, 1).unwrap_or_default();
    if let Some(class) = find(SERVICE_CATEGORIES, &section) {
        return Some(class);
    }
    [1, 4].into_iter().find_map(|component| {
        let code = segment.part(4, component).unwrap_or_default();
        find(SERVICE_CATEGORIES, &code).or_else(|| find(DOCUMENT_TYPES, &code))
    })
}

/// What separates the parts of a message. They are ASCII, so that they never stand within a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signs {
    field: u8,
    component: u8,
    repetition: u8,
    escape: u8,
    part: u8,
}

impl Signs {
    const USUAL: Self = Self {
        field: b'|',
        component: b'^',
        repetition: b'~',
        escape: b'\\',
        part: b'&',
    };

    /// The signs behind the name of a header, if they are four that differ, and a fifth of version 2.7
    /// at most.
    fn of(header: &[u8]) -> Option<Self> {
        let (&field, rest) = header.get(3..)?.split_first()?;
        let end = rest
            .iter()
            .position(|byte| *byte == field)
            .unwrap_or(rest.len());
        let &[component, repetition, escape, part] = rest.get(..end.min(4))? else {
            return None;
        };
        let all = [field, component, repetition, escape, part];
        let differ = all
            .iter()
            .enumerate()
            .all(|(at, sign)| !all[..at].contains(sign));
        let signs = all.iter().all(u8::is_ascii_punctuation);
        (differ && signs && end <= 5).then_some(Self {
            field,
            component,
            repetition,
            escape,
            part,
        })
    }

    /// Those of the signs that can be used, and the usual ones for the others.
    fn nearest(header: &[u8]) -> Self {
        let mut signs = Self::USUAL;
        let mut named = header.iter().skip(3).copied();
        if let Some(field) = named.next().filter(u8::is_ascii_punctuation) {
            signs.field = field;
        }
        let mut named =
            named.take_while(|byte| *byte != signs.field && byte.is_ascii_punctuation());
        if let Some(component) = named.next() {
            signs.component = component;
        }
        if let Some(repetition) = named.next().filter(|sign| *sign != signs.component) {
            signs.repetition = repetition;
        }
        signs
    }

    /// A text without its escape sequences; formatting becomes a space.
    fn plain(self, text: &str) -> String {
        let escape = char::from(self.escape);
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once(escape) {
            out.push_str(before);
            let Some((sequence, after)) = behind.split_once(escape) else {
                out.push(escape);
                rest = behind;
                break;
            };
            match sequence.as_bytes() {
                b"F" => out.push(char::from(self.field)),
                b"S" => out.push(char::from(self.component)),
                b"T" => out.push(char::from(self.part)),
                b"R" => out.push(char::from(self.repetition)),
                b"E" => out.push(escape),
                b"H" | b"N" => {}
                [b'.', ..] => out.push(' '),
                [b'X', digits @ ..] => out.push_str(&from_hexadecimal(digits)),
                // Not an escape sequence, so both signs are text.
                _ => {
                    out.push(escape);
                    rest = behind;
                    continue;
                }
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

fn from_hexadecimal(digits: &[u8]) -> String {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map_while(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line of a message.
struct Segment<'a> {
    name: &'a str,
    fields: Vec<&'a str>,
    signs: Signs,
}

impl<'a> Segment<'a> {
    fn of(text: &'a str, signs: Signs) -> Self {
        Self {
            name: text.get(..3).unwrap_or_default(),
            fields: text
                .split(char::from(signs.field))
                .take(FIELDS_MAX)
                .collect(),
            signs,
        }
    }

    /// A field by its number in the standard; a header has its separator as the first.
    fn field(&self, number: usize) -> &'a str {
        let at = if self.name == "MSH" {
            number - 1
        } else {
            number
        };
        self.fields.get(at).copied().unwrap_or_default()
    }

    /// The first part of a component of a field's first repetition; components are counted from 1.
    /// `None` if nothing stands there.
    fn part(&self, number: usize, component: usize) -> Option<String> {
        let first = self
            .field(number)
            .split(char::from(self.signs.repetition))
            .next()?;
        self.component(first, component)
    }

    /// The same of one repetition.
    fn component(&self, repetition: &str, component: usize) -> Option<String> {
        let component = repetition
            .split(char::from(self.signs.component))
            .nth(component - 1)?;
        let part = component.split(char::from(self.signs.part)).next()?.trim();
        // Two quotation marks say that there is nothing.
        if part.is_empty() || part == "\"\"" {
            return None;
        }
        let plain = self.signs.plain(part);
        let plain = plain.trim();
        (!plain.is_empty()).then(|| plain.to_owned())
    }

    /// The texts of a coded field; if it has none, what stands where the code does.
    fn concept(&self, number: usize) -> Option<String> {
        let texts = [2, 5].map(|component| self.part(number, component));
        match texts {
            [Some(text), Some(other)] if text != other => Some(format!("{text} {other}")),
            [Some(text), _] | [None, Some(text)] => Some(text),
            [None, None] => self.part(number, 1),
        }
    }
}

/// What ends a line: CR, LF, and the end of a frame.
const ENDS: [u8; 3] = [b'\r', b'\n', 0x1c];
const BYTE_ORDER_MARK: &[u8] = crate::fhir::BYTE_ORDER_MARK;

/// What stands between two lines: their ends, the begin of a frame, and blank space.
fn is_between(byte: u8) -> bool {
    ENDS.contains(&byte) || matches!(byte, 0x0b | b' ' | b'\t')
}

/// Segments that name separators.
const HEADERS: [&str; 3] = ["MSH", "FHS", "BHS"];

/// Fields of a segment; PV1 has 52.
const FIELDS_MAX: usize = 128;

/// Repetitions of a coded field that are looked at. Real ones have one or two.
const REPETITIONS_MAX: usize = 16;

/// The types of OBX-5 that are codes.
const CODED_VALUES: [&str; 4] = ["CE", "CWE", "CNE", "CF"];

/// The system of TXA-2 where it names none: HL7 table 0270.
const DOCUMENT_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v2-0270";

/// `spec/formats.md` R4.2: fields with codes.
const CODED: &[(&str, usize)] = &[
    ("AL1", 3),
    ("DG1", 3),
    ("IAM", 3),
    ("OBR", 4),
    ("OBX", 3),
    ("PR1", 3),
    ("PRB", 3),
    ("RXA", 5),
    ("RXD", 2),
    ("RXE", 2),
    ("RXG", 4),
    ("RXO", 1),
];

/// Fields with dates of something clinical.
const DATED: &[(&str, usize)] = &[
    ("DG1", 5),
    ("OBR", 7),
    ("OBR", 8),
    ("OBX", 14),
    ("PR1", 5),
    ("PRB", 7),
    ("PRB", 16),
    ("PV1", 44),
    ("PV1", 45),
    ("RXA", 3),
    ("RXA", 4),
    ("SPM", 17),
    ("TXA", 4),
];

/// Fields whose words are searched for.
const WORDED: &[(&str, usize)] = &[("DG1", 3), ("DG1", 4), ("OBR", 4), ("PRB", 3), ("TXA", 2)];

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    struct Found {
        cut: Vec<(&'static str, String)>,
        keywords: Vec<String>,
        oddities: Vec<Oddity>,
        description: crate::description::Description,
    }

    fn read(text: &[u8]) -> Found {
        assert!(
            begins(&text[..text.len().min(132)]),
            "{}",
            String::from_utf8_lossy(text)
        );
        let mut oddities = Oddities::default();
        let length = text.len() as u64;
        // A buffer of five bytes puts everything across two reads.
        let source = BufReader::with_capacity(5, text);
        let Ok(understood) = scan(source, length, &mut oddities) else {
            panic!("memory does not fail, and there are few segments");
        };
        let cut = understood.pieces.iter().map(|piece| {
            let span = piece.span().offset() as usize..piece.span().end() as usize;
            (
                piece.class().name(),
                String::from_utf8_lossy(&text[span]).into_owned(),
            )
        });
        let cut = cut.collect();
        let (keywords, _, description) = understood.gathered.into_parts();
        Found {
            cut,
            keywords: keywords.iter().map(ToString::to_string).collect(),
            oddities: oddities.first().to_vec(),
            description,
        }
    }

    /// The class of each segment.
    fn classes(text: &str) -> Vec<(String, &'static str)> {
        let found = read(text.as_bytes());
        let each = found.cut.iter().flat_map(|(class, run)| {
            let names = run
                .split(['\r', '\n'])
                .filter(|line| !line.trim().is_empty());
            names.map(|line| {
                (
                    line.trim_start_matches('\u{b}').chars().take(3).collect(),
                    *class,
                )
            })
        });
        each.collect()
    }

    fn assert_classes(text: &str, expected: &[(&str, &str)]) {
        let found = classes(text);
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(name, class)| (&**name, *class))
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_laboratory_result_is_cut_by_its_orders() {
        let text = "MSH|^~\\&|LAB|HOSP|||20240615||ORU^R01^ORU_R01|1|P|2.5\rPID|1\rNTE|1||x\r\
            ORC|RE\rOBR|1|||24323-8^Panel^LN|||202406150700||||||||||||||||\rOBX|1|NM|2345-7^Glucose^LN||7\r\
            NTE|1||y\rORC|RE\rNTE|1||z\rOBR|2|||X^CT^L||||||||||||||||||||RAD\rOBX|1|CWE|1^a^LN||230690007^b^SCT^I63.9^c^I10C\r\
            SPM|1\rZZZ|1\r";
        assert_classes(
            text,
            &[
                ("MSH", "homepage"),
                ("PID", "homepage"),
                ("NTE", "homepage"),
                ("ORC", "laboratory"),
                ("OBR", "laboratory"),
                ("OBX", "laboratory"),
                ("NTE", "laboratory"),
                ("ORC", "imaging"),
                ("NTE", "imaging"),
                ("OBR", "imaging"),
                ("OBX", "imaging"),
                ("SPM", "imaging"),
                ("ZZZ", "other"),
            ],
        );
        let found = read(text.as_bytes());
        assert_eq!(
            found.keywords,
            [
                "message|ORU^R01",
                "code|http://loinc.org|24323-8",
                "code|http://loinc.org|2345-7",
                "code|http://loinc.org|1",
                "code|http://snomed.info/sct|230690007",
                "pathway|cerebrovascular",
                "code|http://hl7.org/fhir/sid/icd-10-cm|I63.9",
                "word|panel",
            ]
        );
        assert_eq!(found.oddities, []);
        let description = found.description;
        assert_eq!(description.period.unwrap().first(), "2024-06-15T07:00");
        assert_eq!(description.origin.unwrap().as_str(), "HOSP, LAB");
        assert_eq!(description.title.unwrap().as_str(), "Panel");
    }

    #[test]
    fn documents_go_where_their_type_says() {
        let begin =
            "MSH|^~\\&|A|B|||1||MDM^T02|1|P|2.5\rEVN|\rPID|1\rPV1|1\rORC|NW\rOBR|1|||c^t^L\r";
        for (rest, class, odd) in [
            ("TXA|1|DS|TX\rOBX|1|TX|a||text\r", "discharge", 0),
            ("TXA|1|OP|TX\rOBX|1|TX|a||text\r", "procedures", 0),
            (
                "TXA|1|18842-5^Discharge summary^LN\rOBX|1|TX|a||text\r",
                "discharge",
                0,
            ),
            ("TXA|1|??\rOBX|1|TX|11504-8^^LN||text\r", "procedures", 1),
            ("TXA|1|??\rOBX|1|TX|a||text\r", "notes", 1),
        ] {
            let text = format!("{begin}{rest}");
            let found = read(text.as_bytes());
            let last = found.cut.last().unwrap();
            assert_eq!(last.0, class, "{rest}");
            assert!(last.1.starts_with("ORC"), "{rest}: {}", last.1);
            assert_eq!(found.oddities.len(), odd, "{rest}");
        }
    }

    #[test]
    fn batches_frames_and_line_ends_of_every_sort_are_read() {
        let text = "\u{b}FHS|^~\\&|A\r\nBHS|^~\\&|A\r\nMSH|^~\\&|A|B|||1||VXU^V04|1|P|2.5\r\nPID|1\r\nORC|RE\r\n\
            RXA|0|1|20240101||140^Influenza^CVX\r\nRXR|IM\r\nOBX|1|CE|x^y^L||a^b^c\r\n\u{1c}\r\
            \u{b}MSH$*~\\&$A$B$$$1$$ADT*A01$1$P$2.5\nPID$1\nOBX$1$TX$1\nAL1$1$$1191*Aspirin*RXNORM\n\
            PR1$1$$1*x*C4\nGOL$1\nIN1$1\nBTS|1\u{1c}\r";
        assert_classes(
            text,
            &[
                ("FHS", "homepage"),
                ("BHS", "homepage"),
                ("MSH", "homepage"),
                ("PID", "homepage"),
                ("ORC", "history"),
                ("RXA", "history"),
                ("RXR", "history"),
                ("OBX", "history"),
                ("\u{1c}", "history"),
                ("MSH", "homepage"),
                ("PID", "homepage"),
                ("OBX", "examination"),
                ("AL1", "history"),
                ("PR1", "procedures"),
                ("GOL", "notes"),
                ("IN1", "homepage"),
                ("BTS", "homepage"),
            ],
        );
        let found = read(text.as_bytes());
        assert_eq!(
            found.keywords,
            [
                "message|VXU^V04",
                "code|http://hl7.org/fhir/sid/cvx|140",
                "message|ADT^A01",
                "code|http://www.nlm.nih.gov/research/umls/rxnorm|1191",
                "code|http://www.ama-assn.org/go/cpt|1",
            ]
        );
        // The batch's end still has the separators of the batch, not those of its last message.
        let end = text.find("BTS").unwrap() as u64;
        assert_eq!(found.oddities, [Oddity::NoSegment { at: end }]);
    }

    #[test]
    fn what_is_odd_is_said_and_kept() {
        let text = "MSH|^~\\\\&|A|B|||1||ADT^A01|1|P|2.5\nDG1|1|I10|I63.9^Stroke \\T\\ more\n\
            broken text\nOBX|1|TX|1||caf\u{e9}\nQQQ|1\nDG1|1||^Hir\\X6E\\infarkt\n";
        let mut bytes = text.as_bytes().to_vec();
        let at = bytes.iter().position(|byte| *byte == 0xc3).unwrap();
        bytes.remove(at + 1);
        let found = read(&bytes);
        let position = |text: &str| {
            bytes
                .windows(text.len())
                .position(|window| window == text.as_bytes())
                .unwrap() as u64
        };
        assert_eq!(
            found.oddities,
            [
                Oddity::NotUtf8 { at: at as u64 },
                Oddity::Separators { at: 0 },
                Oddity::NoSegment {
                    at: position("broken")
                },
                Oddity::UnknownSegment {
                    at: position("QQQ")
                },
            ]
        );
        assert_eq!(
            found.keywords,
            [
                "message|ADT^A01",
                "code|http://hl7.org/fhir/sid/icd-10|I63.9",
                "pathway|cerebrovascular",
                "word|stroke",
                "word|more",
                "word|hirninfarkt",
            ]
        );
        let classes: Vec<&str> = found.cut.iter().map(|(class, _)| *class).collect();
        assert_eq!(
            classes,
            ["homepage", "history", "examination", "other", "history"]
        );
    }

    #[test]
    fn only_headers_with_separators_begin_a_message() {
        for yes in [
            "MSH|^~\\&|",
            "\u{b}\r\n MSH|^~\\&",
            "BHS|^~\\&|",
            "FHS#^~",
            "\u{feff}MSH|^~\\&|",
        ] {
            assert!(begins(yes.as_bytes()), "{yes}");
        }
        for no in [
            "MSH",
            "MSH|",
            "MSH: an article",
            "MSH||||",
            "PID|^~\\&|",
            "",
        ] {
            assert!(!begins(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn segments_of_any_length_are_read_in_constant_memory() {
        let mut text = b"MSH|^~\\&|A|B|||1||ORU^R01|1|P|2.5\rOBX|1|CE|1^a^LN||".to_vec();
        text.extend("2^b^LN~".repeat(1_000_000).as_bytes());
        text.extend(b"\rOBX|2|NM|3^c^LN");
        text.extend("|".repeat(1_000_000).as_bytes());
        let mut lines = Lines {
            source: text.as_slice(),
            at: 0,
            kept: Vec::new(),
        };
        let mut count = 0;
        while lines.next().unwrap().is_some() {
            count += 1;
            assert!(
                lines.kept.len() <= SEGMENT_BYTES_MAX
                    && lines.kept.capacity() <= 2 * SEGMENT_BYTES_MAX
            );
        }
        assert_eq!((count, lines.at), (3, text.len() as u64));
        let found = read(&text);
        assert_eq!(found.keywords.len(), 4, "{:?}", found.keywords);
    }

    #[test]
    fn a_message_of_too_many_runs_is_not_cut() {
        let text = format!(
            "MSH|^~\\&|A|B|||1||ADT^A01\r{}",
            "AL1|1\rPV1|1\r".repeat(40_000)
        );
        let found = scan(text.as_bytes(), text.len() as u64, &mut Oddities::default());
        assert!(matches!(
            found,
            Err(NotUnderstood::Odd(Oddity::TooManyEntries))
        ));
    }
}
