//! Clinical documents (HL7 CDA R2, C-CDA): each section as a note with its title, tables line by
//! line, and its coded entries as rows. Sections that stand alone between holes are read, too. Document
//! types and their entities are not read; a reference that XML does not define stays
//! as it is.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::cda_entries::{self as entries, ATTRIBUTES, Element};
use crate::clinical::{Clinical, Code, Document, Gathering, Kind, Row};
use crate::limits::{
    ENTRY_ELEMENTS_MAX, ROW_TEXT_BYTES_MAX, ROWS_MAX, WORDS_BYTES_MAX, XML_DEPTH_MAX,
};
use crate::moment;
use crate::words::{cut, joined, referenced, tidy, words};

/// What a document shows; `None` if the bytes are no clinical document, nor sections of one around holes.
pub(crate) fn clinical(bytes: &[u8]) -> Option<Clinical> {
    let has_holes = bytes.contains(&0);
    let parts = bytes
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty());
    let parts: Vec<_> = parts.map(String::from_utf8_lossy).collect();
    let text = parts.join(HOLE);
    let mut reader = Reader::from_str(&text);
    // A document that is cut or closes the wrong element shows what is before.
    reader.config_mut().check_end_names = false;
    reader.config_mut().allow_unmatched_ends = has_holes;
    // A lone ampersand is text: senders forget to write it as a reference.
    reader.config_mut().allow_dangling_amp = true;
    let mut reading = Reading {
        has_holes,
        ..Reading::default()
    };
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => reading.begin(&start)?,
            Ok(Event::Empty(start)) => {
                reading.begin(&start)?;
                reading.end();
            }
            Ok(Event::End(_)) => reading.end(),
            Ok(Event::Text(text)) => reading.text(&String::from_utf8_lossy(&text)),
            Ok(Event::CData(text)) => reading.text(&String::from_utf8_lossy(&text)),
            Ok(Event::GeneralRef(reference)) => {
                let name = String::from_utf8_lossy(&reference).into_owned();
                match referenced(&name) {
                    Some(character) => reading.text(character.encode_utf8(&mut [0; 4])),
                    None => reading.text(&format!("&{name};")),
                }
            }
            Ok(Event::Eof) => break,
            Ok(_) => {}
            Err(_) => {
                reading.gathering.left_out += 1;
                break;
            }
        }
    }
    reading.finish()
}

#[derive(Default)]
struct Reading {
    /// Local names of the open elements.
    path: Vec<String>,
    /// Open sections, the innermost last.
    sections: Vec<Section>,
    title: String,
    date: Option<String>,
    patient: Row,
    name: Vec<String>,
    author: Vec<String>,
    gathering: Gathering,
    count: usize,
    has_holes: bool,
    /// The elements of an entry that are open, the entry itself first.
    entry: Vec<Element>,
    /// Elements of the entry so far.
    entry_elements: usize,
}

#[derive(Default)]
struct Section {
    depth: usize,
    title: String,
    text: String,
    code: Option<Code>,
}

impl Reading {
    /// `None` if the document is none, or nested too deeply.
    fn begin(&mut self, start: &BytesStart<'_>) -> Option<()> {
        let local = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
        let is_root =
            local == "ClinicalDocument" || self.has_holes && ROOTS.contains(&local.as_str());
        if self.path.is_empty() && !is_root || self.path.len() >= XML_DEPTH_MAX {
            return None;
        }
        self.entry_begins(start, &local);
        self.path.push(local);
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["ClinicalDocument", "effectiveTime"] => {
                self.date = attribute(start, "value").and_then(|value| moment::iso(&value));
            }
            [.., "patient", "administrativeGenderCode"] if self.sections.is_empty() => {
                self.patient.value = attribute(start, "code");
            }
            [.., "patient", "birthTime"] if self.sections.is_empty() => {
                self.patient.when = attribute(start, "value").and_then(|value| moment::iso(&value));
            }
            [.., "section"] if self.count < ROWS_MAX => {
                self.count += 1;
                let depth = path.len();
                self.sections.push(Section {
                    depth,
                    ..Section::default()
                });
            }
            [.., "section"] => self.gathering.left_out += 1,
            [.., "section", "code"] => {
                let code = attribute(start, "code");
                let system = attribute(start, "codeSystem").unwrap_or_default();
                if let (Some(code), Some(section)) = (code, self.sections.last_mut()) {
                    section.code = Some(Code::new(&system, &code));
                }
            }
            _ => {}
        }
        self.shape();
        Some(())
    }

    /// Keeps an element of an entry, within a bound on them.
    fn entry_begins(&mut self, start: &BytesStart<'_>, local: &str) {
        let in_section = self
            .sections
            .last()
            .is_some_and(|section| section.depth == self.path.len());
        if self.entry.is_empty() && !(local == "entry" && in_section) {
            return;
        }
        self.entry_elements += 1;
        let attributes = if self.entry_elements > ENTRY_ELEMENTS_MAX {
            Vec::new()
        } else {
            let values = ATTRIBUTES
                .iter()
                .filter_map(|name| Some((*name, attribute(start, name)?)));
            values.collect()
        };
        self.entry.push(Element {
            name: local.to_owned(),
            attributes,
            ..Element::default()
        });
    }

    fn entry_ends(&mut self) {
        let Some(element) = self.entry.pop() else {
            return;
        };
        if let Some(outside) = self.entry.last_mut() {
            if self.entry_elements <= ENTRY_ELEMENTS_MAX {
                outside.children.push(element);
            }
            return;
        }
        if std::mem::take(&mut self.entry_elements) > ENTRY_ELEMENTS_MAX {
            self.gathering.left_out += 1;
            return;
        }
        let code = self
            .sections
            .last()
            .and_then(|section| section.code.as_ref());
        if let Some(code) = code {
            entries::gather(&element, code, &mut self.gathering);
        }
    }

    /// New lines and separators within a section's text, where an element begins.
    fn shape(&mut self) {
        let Some(name) = self.path.last() else { return };
        let sign = match name.as_str() {
            "tr" | "paragraph" | "item" | "br" | "list" | "table" | "caption" => "\n",
            "td" | "th" => CELL,
            _ => return,
        };
        if let Some(text) = self.narrative() {
            push(text, sign);
        }
    }

    fn end(&mut self) {
        let depth = self.path.len();
        self.entry_ends();
        let ended = self.path.pop().unwrap_or_default();
        if matches!(
            ended.as_str(),
            "tr" | "paragraph" | "item" | "list" | "table" | "caption"
        ) && let Some(text) = self.narrative()
        {
            push(text, "\n");
        }
        if self
            .sections
            .last()
            .is_some_and(|section| section.depth == depth)
            && let Some(section) = self.sections.pop()
        {
            self.note(section);
        }
    }

    fn note(&mut self, section: Section) {
        let text = lines(&section.text);
        let what = words(&tidy(&section.title));
        if what.is_none() && text.is_none() {
            return;
        }
        let row = Row {
            when: self.date.clone(),
            what: what.unwrap_or_default(),
            text,
            code: section.code,
            ..Row::default()
        };
        self.gathering.add(Kind::Notes, row);
    }

    fn text(&mut self, text: &str) {
        if let Some(element) = self.entry.last_mut() {
            let room = WORDS_BYTES_MAX.saturating_sub(element.text.len());
            element.text.push_str(cut(text, room));
            return;
        }
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["ClinicalDocument", "title"] => push(&mut self.title, text),
            [
                "ClinicalDocument",
                "recordTarget",
                ..,
                "patient",
                "name",
                "given" | "family" | "prefix",
            ] => {
                if self.name.len() < NAMES_MAX {
                    self.name.extend(words(text));
                }
            }
            ["ClinicalDocument", "author", inner @ ..] => {
                let is_name = inner
                    .windows(2)
                    .any(|pair| pair == ["assignedPerson", "name"]);
                if is_name && self.author.len() < NAMES_MAX {
                    self.author.extend(words(text));
                }
            }
            [.., "section", "title"] => {
                if let Some(section) = self.sections.last_mut() {
                    push(&mut section.title, text);
                }
            }
            _ => {
                if let Some(narrative) = self.narrative() {
                    push(narrative, &text.replace(['\n', '\r', '\t'], " "));
                }
            }
        }
    }

    /// The text of the innermost section, if that is where the reader is.
    fn narrative(&mut self) -> Option<&mut String> {
        let section = self.sections.last_mut()?;
        let inside = self
            .path
            .get(section.depth)
            .is_some_and(|name| name == "text");
        inside.then_some(&mut section.text)
    }

    fn finish(mut self) -> Option<Clinical> {
        // Sections that the end of the file cuts are shown as far as they go.
        while let Some(section) = self.sections.pop() {
            self.note(section);
        }
        if self.path.is_empty()
            && self.gathering.is_empty()
            && self.title.is_empty()
            && self.date.is_none()
        {
            return None;
        }
        self.patient.what = joined(self.name.drain(..).map(Some), " ").unwrap_or_default();
        let by = joined(self.author.drain(..).map(Some), " ");
        if !self.patient.what.is_empty() {
            self.gathering.add(Kind::Patient, self.patient);
        }
        self.gathering.document = Some(Document {
            title: words(&tidy(&self.title)),
            date: self.date,
        });
        let mut clinical = self.gathering.finish();
        for group in clinical
            .groups
            .iter_mut()
            .filter(|group| group.kind == Kind::Notes)
        {
            for row in &mut group.rows {
                row.by.clone_from(&by);
            }
        }
        Some(clinical)
    }
}

/// Adds to a text within the bound of a row.
fn push(to: &mut String, text: &str) {
    to.push_str(cut(text, ROW_TEXT_BYTES_MAX.saturating_sub(to.len())));
}

/// The lines of a narrative: cells apart, nothing empty at the begin of a line.
fn lines(text: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| {
        let cells = line
            .split(CELL)
            .map(str::trim)
            .filter(|cell| !cell.is_empty());
        let line = cells.collect::<Vec<_>>().join(" | ");
        (!line.is_empty()).then_some(line)
    });
    let text = tidy(&lines.collect::<Vec<_>>().join("\n"));
    (!text.is_empty()).then(|| cut(&text, ROW_TEXT_BYTES_MAX).to_owned())
}

fn attribute(start: &BytesStart<'_>, name: &str) -> Option<String> {
    let mut attributes = start.attributes();
    let mut known = attributes.with_checks(false).take(ATTRIBUTES_MAX).flatten();
    let found = known.find(|attribute| attribute.key.as_ref() == name.as_bytes())?;
    words(&String::from_utf8_lossy(&found.value))
}

/// What sections stand in, where a hole has the elements around them.
const ROOTS: [&str; 3] = ["component", "nonXMLBody", "section"];
/// Stands where a hole is.
const HOLE: &str = "\u{fffd}";
/// Between cells while a section is read; no XML document can have it.
const CELL: &str = "\u{1}";
const NAMES_MAX: usize = 16;
const ATTRIBUTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_not_expanded() {
        let bomb = "<!DOCTYPE ClinicalDocument [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;'>\
            <!ENTITY c SYSTEM 'file:///etc/passwd'>]><ClinicalDocument><component><section>\
            <title>T &amp; &#x41;</title><text>x &b; &c; <br/>y</text></section></component></ClinicalDocument>";
        let clinical = clinical(bomb.as_bytes()).unwrap();
        let row = &clinical.groups[0].rows[0];
        assert_eq!(row.what, "T & A");
        assert_eq!(row.text.as_deref(), Some("x &b; &c;\ny"));
    }

    #[test]
    fn nested_sections_and_cut_ones_are_shown() {
        let text = "<ClinicalDocument><section><title>A</title><text>one</text><component><section>\
            <title>B</title><text><table><tr><td>x</td><td>y</td></tr><tr><td>z";
        let clinical = clinical(text.as_bytes()).unwrap();
        let rows = &clinical.groups[0].rows;
        let found: Vec<_> = rows
            .iter()
            .map(|row| (&*row.what, row.text.as_deref()))
            .collect();
        assert_eq!(found, [("B", Some("x | y\nz")), ("A", Some("one"))]);
    }

    #[test]
    fn deep_elements_and_other_documents_are_refused() {
        let deep = format!("<ClinicalDocument>{}", "<a>".repeat(1_000_000));
        assert!(clinical(deep.as_bytes()).is_none());
        assert!(clinical(b"<html><body/></html>").is_none());
    }
}
