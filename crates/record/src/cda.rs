//! Clinical documents (HL7 CDA R2, C-CDA): which sections they have, of which class each is, and their
//! codes (`spec/formats.md` R4.3). One pass; one text or tag of at most 64 MiB is in memory at a time.
//!
//! Document types and their entities are not read: a reference that XML does not define itself names
//! nothing, so no text grows by being read.

use std::borrow::Cow;
use std::io::BufRead;

use crate::cda_classes::SECTIONS;
use crate::class::SectionClass;
use crate::description::Period;
use crate::fhir_classes::DOCUMENT_TYPES;
use crate::gathering::{Gathering, NotUnderstood, Understood};
use crate::keyword::Keyword;
use crate::limits::{ENTRIES_MAX, JSON_TEXT_BYTES_MAX, XML_DEPTH_MAX};
use crate::oddity::{Oddities, Oddity};
use crate::systems;
use crate::tables::find;
use crate::xml::{self, BytesStart, Event, Reader, attribute, decode, is_latin, tile};

/// Reads XML from offset `begin` of a file of `length` bytes; `None` if its root is no clinical
/// document.
pub(crate) fn scan<R: BufRead>(
    source: R,
    begin: u64,
    length: u64,
    oddities: &mut Oddities,
) -> Result<Option<Understood>, NotUnderstood> {
    let mut reader = Reader::from_reader(source);
    // A lone ampersand is text: senders forget to write it as a reference.
    reader.config_mut().allow_dangling_amp = true;
    let mut reading = Reading::new();
    if !xml::read(reader, begin, length, &mut reading)? {
        return Ok(None);
    }
    oddities.append(&reading.oddities);
    if let Some(at) = reading.not_utf8 {
        oddities.note(Oddity::NotUtf8 { at });
    }
    let frame = match reading.unknown {
        Some(at) => {
            oddities.note(Oddity::UnknownElement { at });
            SectionClass::Other
        }
        None => SectionClass::Homepage,
    };
    Ok(Some(Understood {
        media_type: "application/cda+xml",
        pieces: tile(&reading.placed, frame, length),
        gathered: reading.gathered,
    }))
}

/// A document being read.
struct Reading {
    path: Vec<Name>,
    /// Whether the root was met, and is a clinical document.
    is_document: bool,
    is_latin: bool,
    not_utf8: Option<u64>,
    /// The class that the type of the document has.
    document: Option<SectionClass>,
    part: Option<Part>,
    placed: Vec<(u64, u64, SectionClass)>,
    /// Whether the last event ended a part.
    after_part: bool,
    /// Where the entry of a section begins that is being read.
    entry_depth: Option<usize>,
    /// The text of a title or name that is being read.
    text: String,
    /// Where something stands that no document has outside its sections.
    unknown: Option<u64>,
    gathered: Gathering,
    oddities: Oddities,
}

/// A component with its section, or a body that is no XML.
struct Part {
    begin: u64,
    /// How many elements are open inside it at least, itself included.
    depth: usize,
    sections: u32,
    codes: u32,
    class: Option<SectionClass>,
    has_problems: bool,
}

impl xml::Reading for Reading {
    fn is_known(&self) -> bool {
        self.is_document
    }

    fn is_open(&self) -> bool {
        !self.path.is_empty()
    }

    fn event(&mut self, event: &Event<'_>, from: u64, to: u64) -> Result<bool, NotUnderstood> {
        let after_part = std::mem::take(&mut self.after_part);
        match event {
            Event::Start(start) => return self.begins(start, from),
            Event::Empty(start) => {
                if !self.begins(start, from)? {
                    return Ok(false);
                }
                self.ends(to);
            }
            Event::End(_) => self.ends(to),
            Event::Text(text) => {
                let blank = text
                    .iter()
                    .take_while(|byte| byte.is_ascii_whitespace())
                    .count();
                if after_part && let Some((_, end, _)) = self.placed.last_mut() {
                    *end += blank as u64;
                }
                self.text(text, from)?;
            }
            Event::CData(text) => self.text(text, from + CDATA_BYTES)?,
            Event::GeneralRef(name) => {
                self.text(&xml::resolve(name), from)?;
            }
            Event::Decl(declaration) => self.is_latin = is_latin(declaration),
            Event::DocType(_) => self.oddities.note(Oddity::DocumentType),
            Event::Comment(_) | Event::PI(_) | Event::Eof => {}
        }
        Ok(true)
    }
}

impl Reading {
    fn new() -> Self {
        Self {
            path: Vec::new(),
            is_document: false,
            is_latin: false,
            not_utf8: None,
            document: None,
            part: None,
            placed: Vec::new(),
            after_part: false,
            entry_depth: None,
            text: String::new(),
            unknown: None,
            gathered: Gathering::new(),
            oddities: Oddities::default(),
        }
    }

    fn begins(&mut self, start: &BytesStart<'_>, at: u64) -> Result<bool, NotUnderstood> {
        self.check(start, at + 1);
        let local = start.local_name();
        let name = Name::of(local.as_ref());
        if self.path.is_empty() {
            if self.is_document {
                return Err(NotUnderstood::Odd(Oddity::NotXml { at }));
            }
            if name != Name::Document {
                return Ok(false);
            }
            self.is_document = true;
        }
        if self.path.len() >= XML_DEPTH_MAX {
            return Err(NotUnderstood::Odd(Oddity::XmlTooDeep { at }));
        }
        self.path.push(name);
        let is_extension = start
            .name()
            .prefix()
            .is_some_and(|prefix| prefix.as_ref() == EXTENSION);
        if self.part.is_none() {
            self.outside(start, local.as_ref(), is_extension, at)?;
        } else {
            self.inside(start, at);
        }
        if matches!(name, Name::Title | Name::Called) {
            self.text.clear();
        }
        self.date(start);
        Ok(true)
    }

    /// An element of the header or around the sections.
    fn outside(
        &mut self,
        start: &BytesStart<'_>,
        local: &[u8],
        is_extension: bool,
        at: u64,
    ) -> Result<(), NotUnderstood> {
        use Name::{Code, Component, Document, NonXmlBody, Section, StructuredBody};
        let is_part = match self.path.as_slice() {
            [Document, Component, StructuredBody, Component]
            | [Document, Component, NonXmlBody] => true,
            [Document, Code] => {
                self.document_type(start, at);
                false
            }
            [Document, Component, StructuredBody]
            | [Document, Component]
            | [Document, Component, Name::Header]
            | [Document, Component, StructuredBody, Name::Header] => false,
            [Document, _] if HEADER.contains(&local) || is_extension => false,
            [Document, _] | [Document, Component, ..] | [.., Section] => {
                self.unknown.get_or_insert(at);
                false
            }
            _ => false,
        };
        if is_part {
            if self.placed.len() >= ENTRIES_MAX {
                return Err(NotUnderstood::Odd(Oddity::TooManyEntries));
            }
            self.part = Some(Part {
                begin: at,
                depth: self.path.len(),
                sections: 0,
                codes: 0,
                class: None,
                has_problems: false,
            });
        }
        Ok(())
    }

    fn document_type(&mut self, start: &BytesStart<'_>, at: u64) {
        let Some(code) = self.attribute(start, b"code") else {
            return;
        };
        if self.document.is_none() {
            self.document = find(DOCUMENT_TYPES, &code);
        }
        let system = self
            .attribute(start, b"codeSystem")
            .and_then(|oid| systems::of_oid(&oid));
        if let Some(system) = system {
            self.gathered.document_type(&system, &code);
            self.gathered
                .keyword(Keyword::code(&system, &code), at, &mut self.oddities);
        }
    }

    /// An element of a section.
    fn inside(&mut self, start: &BytesStart<'_>, at: u64) {
        use Name::{Code, Section};
        let depth = self.path.len();
        let Some(part) = &self.part else { return };
        match self.path.get(part.depth..) {
            Some([Section]) => {
                if let Some(part) = &mut self.part {
                    part.sections += 1;
                }
            }
            Some([Section, Code]) => {
                let code = self.attribute(start, b"code").unwrap_or_default();
                if let Some(part) = &mut self.part {
                    part.codes += 1;
                    part.class = find(SECTIONS, &code).or_else(|| find(DOCUMENT_TYPES, &code));
                    part.has_problems = PROBLEM_SECTIONS.contains(&code.as_str());
                }
            }
            Some([.., Name::Entry]) if self.entry_depth.is_none() => self.entry_depth = Some(depth),
            Some([.., name @ (Code | Name::Value | Name::Translation)])
                if self.entry_depth.is_some() =>
            {
                self.coded(*name, start, at);
            }
            _ => {}
        }
    }

    /// A code of an entry.
    fn coded(&mut self, name: Name, start: &BytesStart<'_>, at: u64) {
        let system = self
            .attribute(start, b"codeSystem")
            .and_then(|oid| systems::of_oid(&oid));
        let code = self.attribute(start, b"code");
        if let (Some(system), Some(code)) = (system, code) {
            self.gathered
                .keyword(Keyword::code(&system, &code), at, &mut self.oddities);
        }
        if name == Name::Value
            && self.part.as_ref().is_some_and(|part| part.has_problems)
            && let Some(text) = self.attribute(start, b"displayName")
        {
            self.gathered.words(&text);
        }
    }

    /// The dates of the stay, of what is documented, of entries, and of the document itself.
    fn date(&mut self, start: &BytesStart<'_>) {
        use Name::{Bound, Document, EffectiveTime, Stay};
        let counts = match self.path.as_slice() {
            [Document, EffectiveTime] => true,
            [.., Stay, EffectiveTime] | [.., Stay, EffectiveTime, Bound] => true,
            [.., EffectiveTime] | [.., EffectiveTime, Bound] => self.entry_depth.is_some(),
            _ => false,
        };
        if counts && let Some(value) = self.attribute(start, b"value") {
            self.gathered.period(Period::at_compact(&value).as_ref());
        }
    }

    fn ends(&mut self, to: u64) {
        let depth = self.path.len();
        match self.path.as_slice() {
            [Name::Document, Name::Title] => {
                self.gathered.title(0, &self.text);
                self.gathered.words(&self.text);
            }
            [.., Name::Section, Name::Title] => self.gathered.words(&self.text),
            [
                Name::Document,
                Name::Custodian,
                ..,
                Name::Organisation,
                Name::Called,
            ] => {
                self.gathered.origin(0, &self.text);
            }
            [
                Name::Document,
                Name::Author,
                ..,
                Name::Organisation,
                Name::Called,
            ] => {
                self.gathered.origin(1, &self.text);
            }
            _ => {}
        }
        self.path.pop();
        if self.entry_depth == Some(depth) {
            self.entry_depth = None;
        }
        if self.part.as_ref().is_some_and(|part| part.depth == depth)
            && let Some(part) = self.part.take()
        {
            let class = self.class_of(&part, self.path.len() == PART_DEPTH);
            self.placed.push((part.begin, to, class));
            self.after_part = true;
        }
    }

    /// The class of a part; `structured` tells a component from a body that is no XML.
    fn class_of(&mut self, part: &Part, structured: bool) -> SectionClass {
        let at = part.begin;
        if part.sections > 1 || part.codes > 1 {
            self.oddities.note(Oddity::SectionTwice { at });
            return SectionClass::Other;
        }
        if let Some(class) = part.class {
            return class;
        }
        if structured || self.document.is_none() {
            let resource = if structured {
                "section"
            } else {
                "ClinicalDocument"
            };
            self.oddities.note(Oddity::NoCategory { at, resource });
        }
        self.document.unwrap_or(SectionClass::Notes)
    }

    fn text(&mut self, bytes: &[u8], at: u64) -> Result<(), NotUnderstood> {
        self.check(bytes, at);
        let blank = bytes.iter().all(u8::is_ascii_whitespace);
        match self.path.as_slice() {
            [] if !blank && self.is_document => {
                return Err(NotUnderstood::Odd(Oddity::NotXml { at }));
            }
            [.., Name::Title | Name::Called] => {
                let text = self.decode(bytes).into_owned();
                for c in text.chars() {
                    if self.text.len() + c.len_utf8() > JSON_TEXT_BYTES_MAX {
                        break;
                    }
                    self.text.push(c);
                }
            }
            // Text between the elements that hold only elements.
            [Name::Document]
            | [Name::Document, Name::Component]
            | [Name::Document, Name::Component, Name::StructuredBody]
                if !blank =>
            {
                self.unknown.get_or_insert(at);
            }
            _ => {}
        }
        Ok(())
    }

    /// Notes the first byte that is not UTF-8.
    fn check(&mut self, bytes: &[u8], at: u64) {
        if !self.is_latin
            && self.not_utf8.is_none()
            && let Err(error) = std::str::from_utf8(bytes)
        {
            self.not_utf8 = Some(at + error.valid_up_to() as u64);
        }
    }

    fn decode<'a>(&self, bytes: &'a [u8]) -> Cow<'a, str> {
        decode(bytes, self.is_latin)
    }

    fn attribute(&self, start: &BytesStart<'_>, name: &[u8]) -> Option<String> {
        attribute(start, name, self.is_latin)
    }
}

/// The elements that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Unknown,
    Author,
    /// `low`, `high` and `center` of a period.
    Bound,
    /// The element `name`.
    Called,
    Code,
    Component,
    Custodian,
    Document,
    EffectiveTime,
    Entry,
    /// What every element may have before its content.
    Header,
    NonXmlBody,
    Organisation,
    Section,
    /// The stay, and the event that is documented.
    Stay,
    StructuredBody,
    Title,
    Translation,
    Value,
}

impl Name {
    fn of(local: &[u8]) -> Self {
        match local {
            b"ClinicalDocument" => Self::Document,
            b"author" => Self::Author,
            b"center" | b"high" | b"low" => Self::Bound,
            b"code" => Self::Code,
            b"component" => Self::Component,
            b"confidentialityCode" | b"languageCode" | b"realmCode" | b"templateId" | b"typeId" => {
                Self::Header
            }
            b"custodian" => Self::Custodian,
            b"effectiveTime" => Self::EffectiveTime,
            b"encompassingEncounter" | b"serviceEvent" => Self::Stay,
            b"entry" => Self::Entry,
            b"name" => Self::Called,
            b"nonXMLBody" => Self::NonXmlBody,
            b"representedCustodianOrganization" | b"representedOrganization" => Self::Organisation,
            b"section" => Self::Section,
            b"structuredBody" => Self::StructuredBody,
            b"title" => Self::Title,
            b"translation" => Self::Translation,
            b"value" => Self::Value,
            _ => Self::Unknown,
        }
    }
}

/// The elements of a document's header (CDA R2, POCD_MT000040).
const HEADER: [&[u8]; 27] = [
    b"authenticator",
    b"author",
    b"authorization",
    b"code",
    b"component",
    b"componentOf",
    b"confidentialityCode",
    b"copyTime",
    b"custodian",
    b"dataEnterer",
    b"documentationOf",
    b"effectiveTime",
    b"id",
    b"inFulfillmentOf",
    b"informant",
    b"informationRecipient",
    b"languageCode",
    b"legalAuthenticator",
    b"participant",
    b"realmCode",
    b"recordTarget",
    b"relatedDocument",
    b"setId",
    b"templateId",
    b"title",
    b"typeId",
    b"versionNumber",
];

/// The prefix under which C-CDA extends the header.
const EXTENSION: &[u8] = b"sdtc";

/// Sections whose entries are problems: problems, admission and discharge diagnoses, past illness.
const PROBLEM_SECTIONS: [&str; 6] = [
    "11450-4",
    "42347-5",
    "46241-6",
    "11535-2",
    "C-CDAV2-DDN",
    "11348-0",
];

/// Elements that are open around a component with a section.
const PART_DEPTH: usize = 3;

/// Bytes of `<![CDATA[`.
const CDATA_BYTES: u64 = 9;

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;
    use crate::understand::PieceKind;

    type Cut = Vec<(&'static str, PieceKind, String)>;
    /// Pieces, keywords and oddities.
    type Found = (Cut, Vec<String>, Vec<Oddity>);

    fn read(text: &[u8]) -> Result<Option<Found>, Oddity> {
        let mut oddities = Oddities::default();
        // A buffer of seven bytes puts everything across two reads.
        let source = BufReader::with_capacity(7, text);
        let understood = match scan(source, 0, text.len() as u64, &mut oddities) {
            Ok(Some(understood)) => understood,
            Ok(None) => return Ok(None),
            Err(NotUnderstood::Odd(oddity)) => return Err(oddity),
            Err(NotUnderstood::Io(error)) => panic!("{error}"),
        };
        let cut = understood.pieces.iter().map(|piece| {
            let span = piece.span().offset() as usize..piece.span().end() as usize;
            let text = String::from_utf8_lossy(&text[span]).into_owned();
            (piece.class().name(), piece.kind(), text)
        });
        let cut = cut.collect();
        let (keywords, _, _) = understood.gathered.into_parts();
        let keywords = keywords.iter().map(ToString::to_string).collect();
        Ok(Some((cut, keywords, oddities.first().to_vec())))
    }

    fn classes(text: &str) -> Vec<(&'static str, PieceKind)> {
        let (cut, _, _) = read(text.as_bytes()).unwrap().unwrap();
        assert_eq!(
            cut.iter().map(|(_, _, text)| &**text).collect::<String>(),
            text
        );
        cut.into_iter()
            .map(|(class, kind, _)| (class, kind))
            .collect()
    }

    fn document(body: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><ClinicalDocument xmlns=\"urn:hl7-org:v3\">\
             <code code=\"18842-5\" codeSystem=\"2.16.840.1.113883.6.1\"/><title>Stroke &amp; more</title>\
             <component><structuredBody>{body}</structuredBody></component></ClinicalDocument>\n"
        )
    }

    fn section(code: &str) -> String {
        format!(
            "<component><section><code code=\"{code}\"/><text>x</text></section></component>\n  "
        )
    }

    use PieceKind::{Frame, Part as Whole};

    #[test]
    fn a_document_is_cut_between_its_sections() {
        let (allergies, unknown) = (section("48765-2"), section("x"));
        let text = document(&format!("{allergies}<!-- c -->{unknown}"));
        let (cut, keywords, oddities) = read(text.as_bytes()).unwrap().unwrap();
        let (head, rest) = text.split_once(&allergies).unwrap();
        let (between, rest) = rest.split_once(&unknown).unwrap();
        let expected = [
            ("homepage", Frame, head),
            ("history", Whole, &*allergies),
            ("homepage", Frame, between),
            ("discharge", Whole, &*unknown),
            ("homepage", Frame, rest),
        ];
        let found: Vec<_> = cut
            .iter()
            .map(|(class, kind, text)| (*class, *kind, &**text))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(
            keywords,
            ["code|http://loinc.org|18842-5", "word|stroke", "word|more"]
        );
        let at = (head.len() + allergies.len() + between.len()) as u64;
        assert_eq!(
            oddities,
            [Oddity::NoCategory {
                at,
                resource: "section"
            }]
        );
    }

    #[test]
    fn codes_stand_in_entries_and_words_in_problems() {
        let entry = "<entry><act><code code=\"CONC\" codeSystem=\"2.16.840.1.113883.5.6\"/>\
            <effectiveTime><low value=\"20240101\"/></effectiveTime>\
            <value xsi:type=\"CD\" code=\"230690007\" codeSystem=\"2.16.840.1.113883.6.96\" displayName=\"Apoplexy &amp; co\">\
            <translation code=\"I63.9\" codeSystem=\"2.16.840.1.113883.6.90\"/></value></act></entry>";
        let body = format!(
            "<component><section><code code=\"11450-4\"/><title>Problem list</title>{entry}</section></component>"
        );
        let (_, keywords, oddities) = read(document(&body).as_bytes()).unwrap().unwrap();
        assert_eq!(
            keywords,
            [
                "code|http://loinc.org|18842-5",
                "code|http://snomed.info/sct|230690007",
                "pathway|cerebrovascular",
                "code|http://hl7.org/fhir/sid/icd-10-cm|I63.9",
                "word|stroke",
                "word|more",
                "word|problem",
                "word|list",
                "word|apoplexy",
            ]
        );
        assert_eq!(oddities, []);
    }

    #[test]
    fn what_could_stand_outside_its_class_is_of_class_other() {
        let twice = "<component><section><code code=\"8716-3\"/><code code=\"10160-0\"/></section></component>";
        assert_eq!(classes(&document(twice))[1], ("other", Whole));
        let two = "<component><section><code code=\"8716-3\"/></section><section/></component>";
        assert_eq!(classes(&document(two))[1], ("other", Whole));
        let loose = document("<section><code code=\"8716-3\"/></section>");
        assert_eq!(classes(&loose), [("other", Frame)]);
        let text = document("findings without a section");
        assert_eq!(classes(&text), [("other", Frame)]);
        let header = document("").replace("<title>", "<finding/><title>");
        assert_eq!(classes(&header), [("other", Frame)]);
        let extension = document("").replace("<title>", "<sdtc:category/><title>");
        assert_eq!(classes(&extension), [("homepage", Frame)]);
    }

    #[test]
    fn a_body_that_is_no_xml_is_of_the_document_s_class() {
        let text = "<ClinicalDocument><code code=\"11488-4\"/><component><nonXMLBody><text>JVBERi0=</text>\
            </nonXMLBody>\n</component></ClinicalDocument>";
        assert_eq!(
            classes(text),
            [("homepage", Frame), ("notes", Whole), ("homepage", Frame)]
        );
    }

    #[test]
    fn broken_and_hostile_documents_say_why() {
        let deep = format!("<ClinicalDocument>{}", "<a>".repeat(1_000_000));
        let at = (18 + 3 * 255) as u64;
        assert_eq!(
            read(deep.as_bytes()).unwrap_err(),
            Oddity::XmlTooDeep { at }
        );
        for (broken, at) in [
            ("<ClinicalDocument><a></b></ClinicalDocument>", 21),
            ("<ClinicalDocument><a>", 21),
            ("<ClinicalDocument/><ClinicalDocument/>", 19),
            ("<ClinicalDocument/>text", 19),
        ] {
            assert_eq!(
                read(broken.as_bytes()).unwrap_err(),
                Oddity::NotXml { at },
                "{broken}"
            );
        }
        for other in ["<html/>", "text", "", "<!-- only a comment -->", "<a <b"] {
            assert!(read(other.as_bytes()).unwrap().is_none(), "{other}");
        }
        let bomb = format!(
            "<!DOCTYPE x [<!ENTITY a \"{}\"><!ENTITY b \"&a;&a;&a;&a;\">]>{}",
            "stroke ".repeat(1_000),
            document(&section("8716-3").replace('x', "&b;&b;")).replace("more", "&b;"),
        );
        let bomb = bomb.replacen("<?xml version=\"1.0\"?>", "", 1);
        let (_, keywords, oddities) = read(bomb.as_bytes()).unwrap().unwrap();
        assert_eq!(keywords, ["code|http://loinc.org|18842-5", "word|stroke"]);
        assert_eq!(oddities, [Oddity::DocumentType]);
        let many = document(&section("8716-3").repeat(ENTRIES_MAX + 1));
        assert_eq!(read(many.as_bytes()).unwrap_err(), Oddity::TooManyEntries);
    }

    #[test]
    fn texts_of_one_byte_per_character_are_read() {
        let declared =
            document("").replace("version=\"1.0\"", "version=\"1.0\" encoding=\"ISO-8859-1\"");
        let latin = |text: &str| {
            text.replace("more", "h\u{e4}morrhagie")
                .chars()
                .map(|c| c as u8)
                .collect::<Vec<u8>>()
        };
        let (_, keywords, oddities) = read(&latin(&declared)).unwrap().unwrap();
        assert_eq!(
            (keywords[2].as_str(), oddities.len()),
            ("word|h\u{e4}morrhagie", 0)
        );
        let (_, _, oddities) = read(&latin(&document(""))).unwrap().unwrap();
        let at = document("").find("more").unwrap() as u64 + 1;
        assert_eq!(oddities, [Oddity::NotUtf8 { at }]);
    }
}
