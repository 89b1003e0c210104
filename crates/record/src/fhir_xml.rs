//! FHIR R4 in XML: which entries a Bundle has, which class each is of, and its codes (`spec/formats.md`
//! R4.6). What decides a class or becomes a keyword is that of FHIR in JSON; values stand in attributes,
//! and an array is an element that comes again.

use std::io::BufRead;

use crate::class::SectionClass;
use crate::fhir::{BUNDLE_MEMBERS, Entry, Facts, Leads, Name, Steps, is_coding};
use crate::file::Span;
use crate::gathering::{Gathering, NotUnderstood, Understood};
use crate::limits::{ENTRIES_MAX, XML_DEPTH_MAX};
use crate::oddity::{Oddities, Oddity};
use crate::understand::{Piece, PieceKind};
use crate::xml::{self, BytesStart, Event, Reader, attribute, is_latin, tile};

/// Reads XML from offset `begin` of a file of `length` bytes; `None` if its root is not of FHIR.
pub(crate) fn scan<R: BufRead>(
    source: R,
    begin: u64,
    length: u64,
    oddities: &mut Oddities,
) -> Result<Option<Understood>, NotUnderstood> {
    let mut reading = Reading::default();
    if !xml::read(Reader::from_reader(source), begin, length, &mut reading)? {
        return Ok(None);
    }
    oddities.append(&reading.oddities);
    let mut gathered = reading.gathered;
    if let Some(at) = reading.not_utf8 {
        oddities.note(Oddity::NotUtf8 { at });
    }
    let pieces = if let Some(mut single) = reading.single {
        let class = single.settle(begin, Leads::File, &mut gathered, oddities);
        let whole = Span::between(0, length);
        vec![Piece::new(class, PieceKind::Resource, whole)]
    } else {
        let frame = match reading.unknown {
            Some(at) => {
                oddities.note(Oddity::UnknownBundleMember { at });
                SectionClass::Other
            }
            None => SectionClass::Homepage,
        };
        tile(&reading.placed, frame, length)
    };
    Ok(Some(Understood {
        media_type: "application/fhir+xml",
        pieces,
        gathered,
    }))
}

/// A file being read.
struct Reading {
    path: Vec<Name>,
    /// The type of the root.
    root: Option<String>,
    is_latin: bool,
    not_utf8: Option<u64>,
    /// The root, if it is no Bundle.
    single: Option<Facts>,
    entry: Option<Entry>,
    placed: Vec<(u64, u64, SectionClass)>,
    /// Whether the last event ended an entry.
    after_entry: bool,
    /// Where something stands in the Bundle that no Bundle has.
    unknown: Option<u64>,
    gathered: Gathering,
    oddities: Oddities,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            path: Vec::new(),
            root: None,
            is_latin: false,
            not_utf8: None,
            single: None,
            entry: None,
            placed: Vec::new(),
            after_entry: false,
            unknown: None,
            gathered: Gathering::new(),
            oddities: Oddities::default(),
        }
    }
}

impl xml::Reading for Reading {
    fn is_known(&self) -> bool {
        self.root.is_some()
    }

    fn is_open(&self) -> bool {
        !self.path.is_empty()
    }

    fn event(&mut self, event: &Event<'_>, from: u64, to: u64) -> Result<bool, NotUnderstood> {
        let after_entry = std::mem::take(&mut self.after_entry);
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
                if after_entry && let Some((_, end, _)) = self.placed.last_mut() {
                    *end += blank as u64;
                }
                if blank < text.len() {
                    self.loose(from)?;
                }
            }
            Event::CData(_) | Event::GeneralRef(_) => self.loose(from)?,
            Event::Decl(declaration) => self.is_latin = is_latin(declaration),
            Event::DocType(_) => self.oddities.note(Oddity::DocumentType),
            Event::Comment(_) | Event::PI(_) | Event::Eof => {}
        }
        Ok(true)
    }
}

impl Reading {
    /// Text that stands between the elements of a Bundle, or outside the root.
    fn loose(&mut self, at: u64) -> Result<(), NotUnderstood> {
        match self.path.len() {
            0 if self.root.is_some() => Err(NotUnderstood::Odd(Oddity::NotXml { at })),
            1 if self.single.is_none() => {
                self.unknown.get_or_insert(at);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begins(&mut self, start: &BytesStart<'_>, at: u64) -> Result<bool, NotUnderstood> {
        // Whatever is read here stands in tags.
        if let Err(error) = std::str::from_utf8(start)
            && !self.is_latin
        {
            self.not_utf8
                .get_or_insert(at + 1 + error.valid_up_to() as u64);
        }
        let local = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
        if self.path.is_empty() {
            if self.root.is_some() {
                return Err(NotUnderstood::Odd(Oddity::NotXml { at }));
            }
            if !self.is_fhir(start) {
                return Ok(false);
            }
            if local != "Bundle" {
                self.single = Some(Facts::default());
                self.resource(&local);
            }
            self.root = Some(local);
            self.path.push(Name::Unknown);
            return Ok(true);
        }
        if self.path.len() >= XML_DEPTH_MAX {
            return Err(NotUnderstood::Odd(Oddity::XmlTooDeep { at }));
        }
        self.path.push(Name::of(&local));
        if self.single.is_none() {
            self.in_bundle(&local, at)?;
        }
        let value = attribute(start, b"value", self.is_latin);
        if let Some((facts, steps)) = self.scope() {
            if is_coding(steps.as_slice()) {
                facts.pending = Default::default();
            }
            if let Some(value) = value {
                facts.text(steps.as_slice(), value);
            }
        }
        Ok(true)
    }

    /// Whether the root is of FHIR's namespace, under whichever prefix.
    fn is_fhir(&self, start: &BytesStart<'_>) -> bool {
        let name = match start.name().prefix() {
            Some(prefix) => [b"xmlns:", prefix.as_ref()].concat(),
            None => b"xmlns".to_vec(),
        };
        attribute(start, &name, self.is_latin).is_some_and(|uri| uri == NAMESPACE)
    }

    /// An element of a Bundle.
    fn in_bundle(&mut self, local: &str, at: u64) -> Result<(), NotUnderstood> {
        match (self.path.as_slice(), &mut self.entry) {
            ([_, Name::Entry], _) => {
                if self.placed.len() >= ENTRIES_MAX {
                    return Err(NotUnderstood::Odd(Oddity::TooManyEntries));
                }
                self.entry = Some(Entry::at(at));
            }
            ([_, _], _) if !BUNDLE_MEMBERS.contains(&local) => {
                self.unknown.get_or_insert(at);
            }
            ([_, Name::Entry, Name::Resource], Some(entry)) => entry.resources += 1,
            ([_, Name::Entry, Name::Resource, _], Some(_)) => self.resource(local),
            _ => {}
        }
        Ok(())
    }

    /// A resource of this type begins.
    fn resource(&mut self, local: &str) {
        let facts = match (&mut self.single, &mut self.entry) {
            (Some(facts), _) => facts,
            (None, Some(entry)) => &mut entry.facts,
            (None, None) => return,
        };
        facts.resource_type = Some(local.to_owned());
        facts.met.count(Name::ResourceType);
    }

    fn ends(&mut self, to: u64) {
        if let Some((facts, steps)) = self.scope() {
            facts.object_ends(steps.as_slice());
        }
        if matches!(self.path.as_slice(), [_, Name::Entry])
            && let Some(entry) = self.entry.take()
        {
            // As in JSON, a document begins with its Composition.
            let leads = if self.placed.is_empty() {
                Leads::Document
            } else {
                Leads::Nothing
            };
            let begin = entry.begin;
            let class = entry.settle(leads, &mut self.gathered, &mut self.oddities);
            self.placed.push((begin, to, class));
            self.after_entry = true;
        }
        self.path.pop();
    }

    /// The resource that the path lies in, and the steps from it on.
    fn scope(&mut self) -> Option<(&mut Facts, Steps)> {
        if let Some(facts) = &mut self.single {
            return Some((facts, Steps::from(self.path.get(1..)?)?));
        }
        let [_, Name::Entry, Name::Resource, _, rest @ ..] = self.path.as_slice() else {
            return None;
        };
        let steps = Steps::from(rest)?;
        Some((&mut self.entry.as_mut()?.facts, steps))
    }
}

const NAMESPACE: &str = "http://hl7.org/fhir";

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    struct Found {
        cut: Vec<(&'static str, PieceKind, String)>,
        keywords: Vec<String>,
        oddities: Vec<Oddity>,
    }

    fn read(text: &str) -> Result<Option<Found>, Oddity> {
        let mut oddities = Oddities::default();
        let source = BufReader::with_capacity(7, text.as_bytes());
        let understood = match scan(source, 0, text.len() as u64, &mut oddities) {
            Ok(Some(understood)) => understood,
            Ok(None) => return Ok(None),
            Err(NotUnderstood::Odd(oddity)) => return Err(oddity),
            Err(NotUnderstood::Io(error)) => panic!("{error}"),
        };
        let cut = understood.pieces.iter().map(|piece| {
            let span = piece.span().offset() as usize..piece.span().end() as usize;
            (piece.class().name(), piece.kind(), text[span].to_owned())
        });
        let cut = cut.collect();
        let (keywords, _, _) = understood.gathered.into_parts();
        Ok(Some(Found {
            cut,
            keywords: keywords.iter().map(ToString::to_string).collect(),
            oddities: oddities.first().to_vec(),
        }))
    }

    const CONDITION: &str = "<entry><resource><Condition><code><coding><system value=\"http://snomed.info/sct\"/>\
        <code value=\"230690007\"/><display value=\"Stroke &amp; more\"/></coding></code></Condition></resource></entry>";
    const VALUE: &str = "<entry><resource><Observation><category><coding><code value=\"laboratory\"/></coding></category>\
        <category><coding><code value=\"x\"/></coding></category></Observation></resource></entry>";

    fn bundle(body: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<Bundle xmlns=\"http://hl7.org/fhir\"><type value=\"collection\"/>{body}</Bundle>\n"
        )
    }

    #[test]
    fn a_bundle_is_cut_between_its_entries() {
        let text = bundle(&format!("{CONDITION}\n  {VALUE}"));
        let found = read(&text).unwrap().unwrap();
        let (head, _) = text.split_once(CONDITION).unwrap();
        let expected = [
            ("homepage", PieceKind::Frame, head.to_owned()),
            ("history", PieceKind::Part, format!("{CONDITION}\n  ")),
            ("laboratory", PieceKind::Part, VALUE.to_owned()),
            ("homepage", PieceKind::Frame, "</Bundle>\n".to_owned()),
        ];
        assert_eq!(found.cut, expected);
        assert_eq!(
            found.keywords,
            [
                "resource|Condition",
                "code|http://snomed.info/sct|230690007",
                "pathway|cerebrovascular",
                "resource|Observation",
                "word|stroke",
                "word|more",
            ]
        );
        assert_eq!(found.oddities, []);
    }

    #[test]
    fn a_resource_is_one_piece_under_any_prefix() {
        let text = "<f:Patient xmlns:f=\"http://hl7.org/fhir\"><f:id value=\"p\"/></f:Patient>";
        let found = read(text).unwrap().unwrap();
        assert_eq!(
            found.cut,
            [("homepage", PieceKind::Resource, text.to_owned())]
        );
        assert!(read("<Patient/>").unwrap().is_none());
        assert!(
            read("<Patient xmlns=\"http://hl7.org/fhirs\"/>")
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn what_decides_a_class_twice_or_stands_elsewhere_is_of_class_other() {
        let two = CONDITION.replace("</Condition>", "</Condition><Patient/>");
        let found = read(&bundle(&two)).unwrap().unwrap();
        assert_eq!(found.cut[1].0, "other");
        assert!(matches!(
            found.oddities[..],
            [Oddity::MemberTwice {
                member: "resourceType",
                ..
            }]
        ));
        let two = CONDITION.replace("</resource>", "</resource><resource><Patient/></resource>");
        let found = read(&bundle(&two)).unwrap().unwrap();
        assert_eq!(found.cut[1].0, "other");
        let none = read(&bundle("<entry/>")).unwrap().unwrap();
        assert!(matches!(none.oddities[..], [Oddity::NoResource { .. }]));
        for loose in ["<finding/>", "text", "<![CDATA[text]]>"] {
            let found = read(&bundle(loose)).unwrap().unwrap();
            assert_eq!(found.cut.len(), 1, "{loose}");
            assert_eq!(found.cut[0].0, "other", "{loose}");
        }
    }

    #[test]
    fn broken_and_hostile_files_say_why() {
        let open = bundle("<entry>");
        assert!(matches!(read(&open), Err(Oddity::NotXml { .. })));
        let deep = bundle(&"<entry>".repeat(1_000));
        assert!(matches!(read(&deep), Err(Oddity::XmlTooDeep { .. })));
        let many = bundle(&"<entry/>".repeat(ENTRIES_MAX + 1));
        assert!(matches!(read(&many), Err(Oddity::TooManyEntries)));
        let twice = format!("{}<Bundle/>", bundle(""));
        assert!(matches!(read(&twice), Err(Oddity::NotXml { .. })));
    }
}
