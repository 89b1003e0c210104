//! HL7 v2 messages: segments as rows. The separators are those that the message names; a line may end
//! in CR, LF or both.

use crate::clinical::{Clinical, Code, Document, Gathering, Kind, Row};
use crate::limits::{ITEMS_MAX, ROW_TEXT_BYTES_MAX};
use crate::moment;
use crate::stroke::Clues;
use crate::words::{cut, joined, words};

/// What messages show; `None` if the bytes are none. A file whose begin was not granted is read with the
/// usual separators, if a segment follows a hole. Segments that a hole cuts are left out.
pub(crate) fn clinical(bytes: &[u8]) -> Option<Clinical> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches(['\u{feff}', '\u{b}', '\r', '\n', ' ']);
    let is_cut = text.starts_with('\0');
    let mut signs = Signs::USUAL;
    if HEADERS.iter().any(|header| text.starts_with(header)) {
        signs = Signs::of(text)?;
    } else if !is_cut {
        return None;
    }
    let mut gathering = Gathering::default();
    let mut order = Order::default();
    let mut segments = 0_usize;
    for line in text.split_inclusive(['\r', '\n', '\u{1c}', '\0']) {
        // A section ends with the end of a line, so what ends at a hole otherwise was cut.
        if line.ends_with('\0') {
            continue;
        }
        let line = line.trim_matches(|sign: char| sign.is_control() || sign == ' ');
        if HEADERS.iter().any(|header| line.starts_with(header)) {
            signs = Signs::of(line).unwrap_or(signs);
            order = Order::default();
        }
        let segment = Segment {
            name: line.split(signs.field).next().unwrap_or_default(),
            fields: line.split(signs.field).take(FIELDS_MAX).collect(),
            signs,
        };
        segments += usize::from(segment.is_named());
        match segment.name {
            "MSH" if gathering.document.is_none() => gathering.document = Some(segment.message()),
            "MSH" => {}
            "OBR" => order = segment.order(),
            _ => {
                if let Some((kind, row)) = segment.row(&order) {
                    segment.look(&kind, &row, &mut order, &mut gathering);
                    gathering.add(kind, row);
                }
            }
        }
    }
    (!is_cut || segments > 0).then(|| gathering.finish())
}

/// What an order says of the observations behind it.
#[derive(Debug, Default)]
struct Order {
    /// The time of an observation that has none of its own.
    when: Option<String>,
    /// What was ordered. The first observation of a report is what it finds; what stands behind it, such
    /// as a diagnosis, is not called by the order.
    name: Option<String>,
    is_imaging: bool,
}

/// What separates the parts of a message.
#[derive(Debug, Clone, Copy)]
struct Signs {
    field: char,
    component: char,
    repetition: char,
    escape: char,
    part: char,
}

impl Signs {
    const USUAL: Self = Self {
        field: '|',
        component: '^',
        repetition: '~',
        escape: '\\',
        part: '&',
    };

    /// The signs behind the name of a header; the usual one for each that is missing or stands twice.
    fn of(text: &str) -> Option<Self> {
        let mut signs = text.chars().skip(3);
        let field = signs.next().filter(|sign| !sign.is_alphanumeric())?;
        let mut named = signs.take_while(|sign| *sign != field && !sign.is_control());
        let mut taken = vec![field];
        let mut next = |usual: char| {
            let sign = named
                .next()
                .filter(|sign| !taken.contains(sign))
                .unwrap_or(usual);
            taken.push(sign);
            sign
        };
        Some(Self {
            field,
            component: next('^'),
            repetition: next('~'),
            escape: next('\\'),
            part: next('&'),
        })
    }

    /// A text without its escape sequences.
    fn plain(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once(self.escape) {
            out.push_str(before);
            let Some((sequence, after)) = behind.split_once(self.escape) else {
                out.push(self.escape);
                rest = behind;
                break;
            };
            match sequence {
                "F" => out.push(self.field),
                "S" => out.push(self.component),
                "T" => out.push(self.part),
                "R" => out.push(self.repetition),
                "E" => out.push(self.escape),
                ".br" | ".sp" => out.push('\n'),
                "H" | "N" => {}
                // Not an escape sequence, so both signs are text.
                _ => {
                    out.push(self.escape);
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

/// A line of a message.
struct Segment<'a> {
    name: &'a str,
    fields: Vec<&'a str>,
    signs: Signs,
}

impl Segment<'_> {
    /// A field by its number in the standard; `MSH` has its separator as the first.
    fn field(&self, number: usize) -> &str {
        let at = if self.name == "MSH" {
            number - 1
        } else {
            number
        };
        self.fields.get(at).copied().unwrap_or_default()
    }

    /// A component of the first repetition, both counted from 1.
    fn part(&self, number: usize, component: usize) -> Option<String> {
        let first = self.field(number).split(self.signs.repetition).next()?;
        let part = first.split(self.signs.component).nth(component - 1)?;
        words(&self.signs.plain(part))
    }

    /// What a coded field calls its concept: text, else code.
    fn concept(&self, number: usize) -> Option<String> {
        self.part(number, 2).or_else(|| self.part(number, 1))
    }

    fn code(&self, number: usize) -> Option<Code> {
        // A field without a text is a name, not a code.
        self.part(number, 2)?;
        let system = self.part(number, 3).unwrap_or_default();
        Some(Code::new(&system, &self.part(number, 1)?))
    }

    fn time(&self, number: usize) -> Option<String> {
        moment::iso(&self.part(number, 1)?)
    }

    /// The repetitions of a field as text.
    fn all(&self, number: usize) -> Option<String> {
        let repetitions = self
            .field(number)
            .split(self.signs.repetition)
            .take(ITEMS_MAX);
        joined(repetitions.map(|one| self.spaced(one)), "; ")
    }

    fn spaced(&self, text: &str) -> Option<String> {
        let parts = text.split(self.signs.component).take(ITEMS_MAX);
        joined(parts.map(|part| words(&self.signs.plain(part))), " ")
    }

    /// A person: prefix, given and family name.
    fn person(&self, number: usize, family: usize) -> Option<String> {
        let parts = [family + 4, family + 1, family + 2, family, family + 3];
        joined(parts.map(|part| self.part(number, part)), " ")
    }

    /// Whether it begins as segments do.
    fn is_named(&self) -> bool {
        self.name.len() == 3
            && self
                .name
                .starts_with(|sign: char| sign.is_ascii_uppercase())
            && self
                .name
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    }

    fn order(&self) -> Order {
        let section = self.part(24, 1).unwrap_or_default();
        Order {
            when: self.time(7),
            name: self.concept(4),
            is_imaging: IMAGING_SECTIONS.contains(&section.as_str()),
        }
    }

    fn message(&self) -> Document {
        let kinds = [self.part(9, 1), self.part(9, 2)];
        Document {
            title: joined(kinds, " "),
            date: self.time(7),
        }
    }

    fn row(&self, order: &Order) -> Option<(Kind, Row)> {
        Some(match self.name {
            "PID" => (Kind::Patient, self.patient()),
            "PV1" => (Kind::Encounters, self.visit()),
            "OBX" if order.is_imaging => (Kind::Imaging, self.observation(order)),
            "OBX" => (Kind::Laboratory, self.observation(order)),
            "TXA" => (Kind::Notes, self.coded(2, None, 4, None)),
            "IAM" => (Kind::Allergies, self.coded(3, None, 11, None)),
            "DG1" => (Kind::Problems, self.coded(3, Some(4), 5, None)),
            "PRB" => (Kind::Problems, self.coded(3, None, 2, None)),
            "PR1" => (Kind::Procedures, self.coded(3, Some(4), 5, None)),
            "AL1" => {
                let row = Row {
                    value: self.all(5),
                    flag: self.concept(4),
                    ..self.coded(3, None, 6, None)
                };
                (Kind::Allergies, row)
            }
            "RXA" => (Kind::Medicines, self.coded(5, None, 3, Some((6, 7)))),
            "RXE" => (Kind::Medicines, self.coded(2, None, 1, Some((3, 5)))),
            "RXO" => (Kind::Medicines, self.coded(1, None, 0, Some((2, 4)))),
            "NTE" => {
                let text = self.signs.plain(self.field(3));
                let text = cut(text.trim(), ROW_TEXT_BYTES_MAX).to_owned();
                (
                    Kind::Notes,
                    Row {
                        text: (!text.is_empty()).then_some(text),
                        ..Row::default()
                    },
                )
            }
            _ => return None,
        })
    }

    /// A row about a coded field, or the text in another, with a time and an amount with its unit.
    fn coded(
        &self,
        concept: usize,
        text: Option<usize>,
        time: usize,
        amount: Option<(usize, usize)>,
    ) -> Row {
        let other = || text.and_then(|text| self.part(text, 1));
        let value = amount
            .and_then(|(number, unit)| joined([self.part(number, 1), self.concept(unit)], " "));
        Row {
            when: if time == 0 { None } else { self.time(time) },
            what: self.concept(concept).or_else(other).unwrap_or_default(),
            value,
            code: self.code(concept),
            ..Row::default()
        }
    }

    fn patient(&self) -> Row {
        Row {
            when: self.time(7),
            what: self.person(5, 1).unwrap_or_default(),
            value: self.part(8, 1),
            code: self.part(3, 1).map(|number| Code::new("", &number)),
            ..Row::default()
        }
    }

    fn visit(&self) -> Row {
        Row {
            when: self.time(44),
            until: self.time(45),
            what: self.concept(2).unwrap_or_default(),
            value: self.spaced(self.field(3)),
            by: self.person(7, 2),
            ..Row::default()
        }
    }

    fn observation(&self, order: &Order) -> Row {
        let text = self.field(5);
        let long = text.len() > LINE_BYTES_MAX;
        let value = match self.field(2) {
            "CE" | "CWE" | "CNE" | "CF" => self.concept(5),
            _ => self.all(5),
        };
        let unit = self.part(6, 1);
        Row {
            when: self.time(14).or_else(|| order.when.clone()),
            what: self.concept(3).unwrap_or_default(),
            value: value.filter(|_| !long).map(|value| match unit {
                Some(unit) => format!("{value} {unit}"),
                None => value,
            }),
            flag: self.part(8, 1),
            range: self.part(7, 1),
            status: self.part(11, 1),
            by: self.person(16, 2),
            text: long.then(|| {
                let text = text.replace(self.signs.repetition, "\n");
                cut(&self.signs.plain(&text), ROW_TEXT_BYTES_MAX).to_owned()
            }),
            code: self.code(3),
            ..Row::default()
        }
    }

    fn look(&self, kind: &Kind, row: &Row, order: &mut Order, gathering: &mut Gathering) {
        let codes: Vec<Code> = row.code.iter().cloned().collect();
        let mut names: Vec<String> = words(&row.what).into_iter().collect();
        if *kind == Kind::Imaging {
            names.extend(order.name.take());
        }
        let clues = Clues {
            resource: self.name,
            codes: &codes,
            names: &names,
            ..Clues::default()
        };
        gathering.findings.look(kind, row, &clues);
    }
}

/// Segments that name separators.
const HEADERS: [&str; 3] = ["MSH", "FHS", "BHS"];
/// Diagnostic service sections of HL7 table 0074 that make pictures.
const IMAGING_SECTIONS: [&str; 10] = [
    "RAD", "CT", "CUS", "IMG", "NMR", "NMS", "OUS", "RUS", "RX", "VUS",
];
/// Fields of a segment; PV1 has 52.
const FIELDS_MAX: usize = 128;
/// Bytes of a value that stands in a column; a longer one is a text.
const LINE_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_become_rows_and_findings() {
        let message = "MSH|^~\\&|A|B|C|D|20240615||ORU^R01|1|P|2.5\r\
            OBR|1|||24323-8^Panel^LN|||20240615070000+0800\r\
            OBX|1|NM|2345-7^Glucose^LN||7.80|mmol/L|3.9-6.1|H|||F\r\
            OBX|2|NM|6301-6^INR^LN||1.1||||||F|||20240616\0\0\r\
            DG1|1||I63.9^Stroke \\T\\ more \\S\\^I10||20240615\r\
            AL1|1|DA|x^Penicillin||RASH~HIVES\r";
        let clinical = clinical(message.as_bytes()).unwrap();
        let document = clinical.document.unwrap();
        assert_eq!(document.title.as_deref(), Some("ORU R01"));
        assert_eq!(document.date.as_deref(), Some("2024-06-15"));
        let found: Vec<_> = clinical
            .stroke
            .iter()
            .map(|finding| (finding.item, &*finding.value))
            .collect();
        use crate::StrokeItem::{Allergy, Glucose};
        let expected = [
            (Glucose, "7.80 mmol/L"),
            (Allergy, "Penicillin: RASH; HIVES"),
        ];
        assert_eq!(found, expected);
        let problems = clinical
            .groups
            .iter()
            .find(|group| group.kind == Kind::Problems)
            .unwrap();
        assert_eq!(problems.rows[0].what, "Stroke & more ^");
        let laboratory = clinical
            .groups
            .iter()
            .find(|group| group.kind == Kind::Laboratory)
            .unwrap();
        assert_eq!(laboratory.rows.len(), 1, "the second one is cut by a hole");
        assert_eq!(
            laboratory.rows[0].when.as_deref(),
            Some("2024-06-15T07:00:00+08:00")
        );
        assert_eq!(laboratory.rows[0].flag.as_deref(), Some("H"));
        assert_eq!(clinical.stroke[0].source.to_string(), "OBX, LOINC 2345-7");
    }

    #[test]
    fn what_begins_otherwise_is_no_message() {
        assert!(clinical(b"PID|1").is_none());
        assert!(clinical(b"MSH").is_none());
        assert!(clinical(b"MSH|").is_some());
        assert!(clinical(b"\0\0nothing").is_none());
    }

    #[test]
    fn sections_are_shown_without_their_header_and_around_holes() {
        let message = b"\0\0\0\0OBX|1|NM|6301-6^INR^LN||2.4||||||F\r\0\0\0DG1|1||I63.9^Stroke^I10\r\0OBX|2|NM|2345-7^Gl";
        let clinical = clinical(message).unwrap();
        assert_eq!(clinical.document, None);
        let rows: Vec<&str> = clinical
            .groups
            .iter()
            .flat_map(|group| group.rows.iter().map(|row| &*row.what))
            .collect();
        // The last line has no end, as that of many files; it is shown as far as it goes.
        assert_eq!(rows, ["Stroke", "INR", "Gl"]);
        assert_eq!(clinical.stroke.len(), 1);
        assert_eq!(clinical.stroke[0].value, "2.4");
    }

    #[test]
    fn a_report_of_radiology_is_a_finding_with_its_time() {
        let message = "MSH|^~\\&|A|B|C|D|20240615||ORU^R01|1|P|2.5\r\
            OBR|1|||24725-4^CT Head^LN|||202406152125|||||||||||||||||RAD|F\r\
            OBX|1|FT|24725-4^CT Head^LN||No haemorrhage||||||F\r\
            MSH*$~\\&*A*B*C*D*20240615**ORU$R01*1*P*2.5\rOBR*1***1$Other$L*\r\
            OBX*1*TX*2$CT head?$L**x******F\r";
        let clinical = clinical(message.as_bytes()).unwrap();
        let found: Vec<_> = clinical
            .stroke
            .iter()
            .map(|finding| (finding.item, &*finding.value))
            .collect();
        assert_eq!(
            found,
            [(crate::StrokeItem::CtHead, "CT Head: No haemorrhage")]
        );
        assert_eq!(clinical.stroke[0].when.as_deref(), Some("2024-06-15T21:25"));
    }
}
