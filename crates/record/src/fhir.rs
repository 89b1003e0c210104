//! FHIR R4 in JSON: which entries a Bundle has, which class each is of, and its codes
//! (`spec/formats.md` R3 and R4). One pass, memory bounded by the number of entries.

use std::io::{self, Read};

use crate::class::SectionClass;
use crate::fhir_classes::{Verdict, class_of};
use crate::file::Span;
use crate::json::{Event, ScanError, Scanner};
use crate::keyword::{Found, Keyword};
use crate::limits::{CODINGS_PER_RESOURCE_MAX, ENTRIES_MAX, KEYWORDS_PER_FILE_MAX};
use crate::oddity::{Oddities, Oddity};
use crate::understand::{Piece, PieceKind};

/// What a FHIR file was found to be.
pub(crate) struct Fhir {
    /// They tile the file.
    pub(crate) pieces: Vec<Piece>,
    /// Its keywords, at most [`KEYWORDS_PER_FILE_MAX`].
    pub(crate) keywords: Found,
}

/// Why a file is no FHIR file.
pub(crate) enum NoFhir {
    Io(io::Error),
    Odd(Oddity),
}

/// Scans JSON that begins at offset `begin` of a file of `length` bytes.
pub(crate) fn scan<R: Read>(
    source: R,
    begin: u64,
    length: u64,
    oddities: &mut Oddities,
) -> Result<Fhir, NoFhir> {
    let mut reading = Reading::new(Scanner::new(source, begin));
    let read = reading.whole();
    if let Some(at) = reading.scanner.not_utf8() {
        oddities.note(Oddity::NotUtf8 { at });
    }
    read?;
    // A stream that is shorter or longer than announced was changed while it was read.
    if reading.scanner.end() != length {
        return Err(NoFhir::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    let mut root = reading.root;
    let Some(root_type) = &root.resource_type else {
        return Err(NoFhir::Odd(Oddity::NotFhir));
    };
    let whole = Span::between(0, length);
    if root_type != "Bundle" || root.met.resource_type > 1 {
        let mut keywords = Found::new(KEYWORDS_PER_FILE_MAX);
        let class = root.settle(begin, &mut keywords, oddities);
        return Ok(Fhir {
            pieces: vec![Piece::new(class, PieceKind::Resource, whole)],
            keywords,
        });
    }
    oddities.append(&reading.oddities);
    let frame = match reading.unknown_member {
        Some(at) => {
            oddities.note(Oddity::UnknownBundleMember { at });
            SectionClass::Other
        }
        None => SectionClass::Homepage,
    };
    Ok(Fhir {
        pieces: tile(&reading.entries, frame, whole),
        keywords: reading.keywords,
    })
}

/// The exact bytes of the resource in an entry's piece, or in a file that is a single resource.
/// Of two resources in one entry, the first.
pub(crate) fn resource_in(piece: &[u8], kind: PieceKind) -> Option<&[u8]> {
    let piece = piece.strip_prefix(BYTE_ORDER_MARK).unwrap_or(piece);
    let around = match kind {
        PieceKind::Entry => 1,
        PieceKind::Resource => 0,
        PieceKind::Opaque | PieceKind::Frame => return None,
    };
    let mut scanner = Scanner::new(piece, 0);
    let mut awaited = around == 0;
    let mut begin = None;
    // The scan of an entry stops at the comma that follows it; its resource was met by then.
    while let Ok(Some(event)) = scanner.next() {
        match event {
            Event::Name if around == 1 && scanner.depth() == 1 && begin.is_none() => {
                awaited = scanner.text() == Some("resource");
            }
            Event::ObjectBegin if awaited => {
                awaited = false;
                begin = Some(scanner.begin());
            }
            Event::ObjectEnd if scanner.depth() == around && begin.is_some() => {
                let begin = usize::try_from(begin?).ok()?;
                return piece.get(begin..usize::try_from(scanner.end()).ok()?);
            }
            _ => awaited = false,
        }
    }
    None
}

/// What some senders put in front of a JSON text.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file being read.
struct Reading<R> {
    scanner: Scanner<R>,
    /// One name for each open object and array: the member being read, or [`Name::Item`].
    path: Vec<Name>,
    /// What the file's own members say, should it be a single resource.
    root: Facts,
    entry: Option<Entry>,
    entries: Vec<Placed>,
    /// Whether the last event but white space and a comma ended an entry.
    after_entry: bool,
    unknown_member: Option<u64>,
    keywords: Found,
    oddities: Oddities,
}

/// An entry being read.
struct Entry {
    begin: u64,
    /// How many objects and arrays are open around it.
    depth: usize,
    follows: bool,
    /// How often it has the member `resource`.
    resources: u32,
    facts: Facts,
}

/// An entry that was read.
struct Placed {
    span: Span,
    /// Whether only a comma and white space lie between the entry before and this one.
    follows: bool,
    class: SectionClass,
}

impl<R: Read> Reading<R> {
    fn new(scanner: Scanner<R>) -> Self {
        Self {
            scanner,
            path: Vec::new(),
            root: Facts::default(),
            entry: None,
            entries: Vec::new(),
            after_entry: false,
            unknown_member: None,
            keywords: Found::new(KEYWORDS_PER_FILE_MAX),
            oddities: Oddities::default(),
        }
    }

    fn whole(&mut self) -> Result<(), NoFhir> {
        loop {
            let event = match self.scanner.next() {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(()),
                Err(ScanError::Io(error)) => return Err(NoFhir::Io(error)),
                Err(ScanError::Fault { at, fault }) => {
                    return Err(NoFhir::Odd(Oddity::NotJson { at, fault }));
                }
            };
            match event {
                Event::Name => self.name(),
                Event::ObjectBegin | Event::ArrayBegin => {
                    self.value_begins(event)?;
                    self.path.push(match event {
                        Event::ArrayBegin => Name::Item,
                        _ => Name::Unknown,
                    });
                }
                Event::ObjectEnd | Event::ArrayEnd => {
                    self.path.pop();
                    self.value_ends(event);
                }
                Event::Text | Event::Scalar => {
                    self.value_begins(event)?;
                    self.value_ends(event);
                }
            }
        }
    }

    /// A member's name: it becomes the path's last step.
    fn name(&mut self) {
        self.after_entry = false;
        let text = self.scanner.text();
        let name = text.map_or(Name::Unknown, Name::of);
        if let Some(last) = self.path.last_mut() {
            *last = name;
        }
        if self.path.len() == 1 && !text.is_some_and(|text| BUNDLE_MEMBERS.contains(&text)) {
            self.unknown_member.get_or_insert(self.scanner.begin());
        }
        if let Some(entry) = &mut self.entry
            && self.path.len() == entry.depth + 1
            && name == Name::Resource
        {
            entry.resources += 1;
        }
        if let Some((facts, steps)) = self.scope()
            && let [name] = steps.as_slice()
        {
            facts.met.count(*name);
        }
    }

    /// A value begins; the path leads to it.
    fn value_begins(&mut self, event: Event) -> Result<(), NoFhir> {
        let is_entry = match self.path.as_slice() {
            // What stands where the array of entries should is taken for an entry itself.
            [Name::Entry] => event != Event::ArrayBegin,
            [Name::Entry, Name::Item] => true,
            _ => false,
        };
        if is_entry {
            if self.entries.len() >= ENTRIES_MAX {
                return Err(NoFhir::Odd(Oddity::TooManyEntries));
            }
            self.entry = Some(Entry {
                begin: self.scanner.begin(),
                depth: self.path.len(),
                follows: self.after_entry,
                resources: 0,
                facts: Facts::default(),
            });
        }
        self.after_entry = false;
        if event == Event::ObjectBegin
            && let Some((facts, steps)) = self.scope()
            && is_coding(steps.as_slice())
        {
            facts.pending = Coding::default();
        }
        Ok(())
    }

    /// A value ended; the path leads to it.
    fn value_ends(&mut self, event: Event) {
        let text = match event {
            Event::Text => Some(self.scanner.text().unwrap_or_default().to_owned()),
            _ => None,
        };
        if let Some((facts, steps)) = self.scope() {
            match text {
                Some(text) => facts.text(steps.as_slice(), text),
                None if event == Event::ObjectEnd => facts.object_ends(steps.as_slice()),
                None => {}
            }
        }
        if self
            .entry
            .as_ref()
            .is_some_and(|entry| entry.depth == self.path.len())
            && let Some(entry) = self.entry.take()
        {
            let span = Span::between(entry.begin, self.scanner.end());
            let follows = entry.follows;
            let class = entry.settle(&mut self.keywords, &mut self.oddities);
            self.entries.push(Placed {
                span,
                follows,
                class,
            });
            // Behind an entry that stands where the array should, no comma leads to another.
            self.after_entry = self.path.len() == 2;
        }
    }

    /// The resource that the path lies in, and the steps from it on, without array items.
    fn scope(&mut self) -> Option<(&mut Facts, Steps)> {
        let (in_entry, rest) = match self.path.as_slice() {
            [Name::Entry, Name::Item, Name::Resource, rest @ ..]
            | [Name::Entry, Name::Resource, rest @ ..] => (true, rest),
            [Name::Entry, ..] => return None,
            rest => (false, rest),
        };
        // An array of resources is no resource.
        if rest.first() == Some(&Name::Item) {
            return None;
        }
        let steps = Steps::from(rest)?;
        let facts = match (&mut self.entry, in_entry) {
            (Some(entry), true) => &mut entry.facts,
            (_, false) => &mut self.root,
            (None, true) => return None,
        };
        Some((facts, steps))
    }
}

impl Entry {
    fn settle(mut self, keywords: &mut Found, oddities: &mut Oddities) -> SectionClass {
        if self.resources > 1 {
            oddities.note(Oddity::MemberTwice {
                at: self.begin,
                member: "resource",
            });
            return SectionClass::Other;
        }
        if self.facts.resource_type.is_none() {
            oddities.note(Oddity::NoResource { at: self.begin });
            return SectionClass::Other;
        }
        self.facts.settle(self.begin, keywords, oddities)
    }
}

/// What decides a resource's class and keywords.
#[derive(Debug, Default)]
struct Facts {
    /// The last one met; empty if it is not usable.
    resource_type: Option<String>,
    met: Met,
    categories: Vec<String>,
    types: Vec<String>,
    codings: Vec<Coding>,
    codings_left_out: usize,
    /// The coding being read.
    pending: Coding,
}

/// How often a resource has each member that decides its class.
#[derive(Debug, Default)]
struct Met {
    resource_type: u32,
    category: u32,
    document_type: u32,
}

#[derive(Debug, Default)]
struct Coding {
    place: Place,
    system: String,
    code: String,
}

/// What a coding is used for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Code,
    /// Of the member `type`, which says something worth searching for in some resources only.
    Type,
    Modality,
}

impl Facts {
    /// A string at these steps.
    fn text(&mut self, steps: &[Name], text: String) {
        use Name::{Category, Code, Coding as CodingList, ResourceType, System, Type};
        match steps {
            [ResourceType] => self.resource_type = Some(text.clone()),
            [Category, CodingList, Code] if self.categories.len() < DECIDING_CODES_MAX => {
                self.categories.push(text.clone());
            }
            [Type, CodingList, Code] if self.types.len() < DECIDING_CODES_MAX => {
                self.types.push(text.clone());
            }
            _ => {}
        }
        if let Some((last, coding)) = steps.split_last()
            && is_coding(coding)
        {
            match last {
                System => self.pending.system = text,
                Code => self.pending.code = text,
                _ => {}
            }
        }
    }

    fn object_ends(&mut self, steps: &[Name]) {
        if !is_coding(steps) {
            return;
        }
        let mut coding = std::mem::take(&mut self.pending);
        // A code without its system, or no code at all, is nothing to search for.
        if coding.system.is_empty() || coding.code.is_empty() {
            return;
        }
        coding.place = match steps {
            [Name::Type, ..] => Place::Type,
            [Name::Modality] | [_, Name::Modality] => Place::Modality,
            _ => Place::Code,
        };
        if self.codings.len() < CODINGS_PER_RESOURCE_MAX {
            self.codings.push(coding);
        } else {
            self.codings_left_out += 1;
        }
    }

    /// The class, once the resource was read, with its keywords.
    fn settle(&mut self, at: u64, keywords: &mut Found, oddities: &mut Oddities) -> SectionClass {
        let resource_type = self.resource_type.take().unwrap_or_default();
        let mut add = |keyword: Result<Keyword, _>| match keyword {
            Ok(keyword) => keywords.add(keyword),
            Err(_) => oddities.note(Oddity::NoKeyword { at }),
        };
        if !resource_type.is_empty() && self.met.resource_type < 2 {
            add(Keyword::resource(&resource_type));
        }
        for coding in self.codings.drain(..) {
            if coding.place == Place::Type && !TYPED.contains(&resource_type.as_str()) {
                continue;
            }
            if coding.place == Place::Modality && coding.system == DICOM_SYSTEM {
                add(Keyword::dicom_modality(&coding.code));
            }
            add(Keyword::code(&coding.system, &coding.code));
        }
        if self.codings_left_out > 0 {
            oddities.note(Oddity::KeywordsLeftOut {
                count: self.codings_left_out,
            });
        }
        if let Some(member) = self.met.twice() {
            oddities.note(Oddity::MemberTwice { at, member });
            return SectionClass::Other;
        }
        match class_of(&resource_type, &self.categories, &self.types) {
            Verdict::Sure(class) => class,
            Verdict::NoCategory(class, resource) => {
                oddities.note(Oddity::NoCategory { at, resource });
                class
            }
            Verdict::UnknownType => {
                oddities.note(Oddity::UnknownType { at });
                SectionClass::Other
            }
        }
    }
}

impl Met {
    fn count(&mut self, name: Name) {
        match name {
            Name::ResourceType => self.resource_type += 1,
            Name::Category => self.category += 1,
            Name::Type => self.document_type += 1,
            _ => {}
        }
    }

    fn twice(&self) -> Option<&'static str> {
        let counts = [
            (self.resource_type, "resourceType"),
            (self.category, "category"),
            (self.document_type, "type"),
        ];
        counts
            .into_iter()
            .find(|(count, _)| *count > 1)
            .map(|(_, member)| member)
    }
}

/// The steps from a resource to a value, without array items: at most five, because nothing that
/// decides anything lies deeper.
#[derive(Debug, Clone, Copy)]
struct Steps {
    names: [Name; 5],
    len: usize,
}

impl Steps {
    fn from(path: &[Name]) -> Option<Self> {
        let mut steps = Self {
            names: [Name::Unknown; 5],
            len: 0,
        };
        for &name in path.iter().filter(|name| **name != Name::Item) {
            *steps.names.get_mut(steps.len)? = name;
            steps.len += 1;
        }
        Some(steps)
    }

    fn as_slice(&self) -> &[Name] {
        &self.names[..self.len]
    }
}

/// The members that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// Not a member: a position in an array.
    Item,
    /// Any other member.
    Unknown,
    BodySite,
    Category,
    Code,
    Coding,
    Component,
    Entry,
    MedicationCodeableConcept,
    Modality,
    ProcedureCode,
    ReasonCode,
    Resource,
    ResourceType,
    Series,
    System,
    Type,
    VaccineCode,
}

impl Name {
    fn of(text: &str) -> Self {
        match text {
            "bodySite" => Self::BodySite,
            "category" => Self::Category,
            "code" => Self::Code,
            "coding" => Self::Coding,
            "component" => Self::Component,
            "entry" => Self::Entry,
            "medicationCodeableConcept" => Self::MedicationCodeableConcept,
            "modality" => Self::Modality,
            "procedureCode" => Self::ProcedureCode,
            "reasonCode" => Self::ReasonCode,
            "resource" => Self::Resource,
            "resourceType" => Self::ResourceType,
            "series" => Self::Series,
            "system" => Self::System,
            "type" => Self::Type,
            "vaccineCode" => Self::VaccineCode,
            _ => Self::Unknown,
        }
    }
}

/// `spec/formats.md` R4: where the codings stand that become keywords.
fn is_coding(steps: &[Name]) -> bool {
    use Name::{
        BodySite, Code, Coding, Component, MedicationCodeableConcept, Modality, ProcedureCode,
        ReasonCode, Series, Type, VaccineCode,
    };
    matches!(
        steps,
        [
            Code | Type
                | BodySite
                | MedicationCodeableConcept
                | ProcedureCode
                | ReasonCode
                | VaccineCode,
            Coding
        ] | [Component, Code, Coding]
            | [Modality]
            | [Series, Modality | BodySite]
    )
}

/// The pieces of a Bundle: each entry with the comma and white space behind it; what is left, the
/// Bundle's own members, of the class `frame`.
fn tile(entries: &[Placed], frame: SectionClass, whole: Span) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(entries.len() + 2);
    let mut at = 0;
    for (position, entry) in entries.iter().enumerate() {
        let begin = entry.span.offset();
        if at < begin {
            pieces.push(Piece::new(
                frame,
                PieceKind::Frame,
                Span::between(at, begin),
            ));
        }
        at = match entries.get(position + 1) {
            Some(next) if next.follows => next.span.offset(),
            _ => entry.span.end(),
        };
        pieces.push(Piece::new(
            entry.class,
            PieceKind::Entry,
            Span::between(begin, at),
        ));
    }
    if at < whole.end() {
        pieces.push(Piece::new(
            frame,
            PieceKind::Frame,
            Span::between(at, whole.end()),
        ));
    }
    pieces
}

/// Category and type codes of one resource that are looked at. Real ones have one to four.
const DECIDING_CODES_MAX: usize = 16;

/// The system of modality codes that say the same as DICOM's (0008,0060).
const DICOM_SYSTEM: &str = "http://dicom.nema.org/resources/ontology/DCM";

/// The resource types whose member `type` is searched for.
const TYPED: [&str; 3] = ["Composition", "DocumentReference", "Encounter"];

/// The members that FHIR R4 gives a Bundle.
const BUNDLE_MEMBERS: [&str; 12] = [
    "resourceType",
    "id",
    "meta",
    "implicitRules",
    "language",
    "identifier",
    "type",
    "timestamp",
    "total",
    "link",
    "entry",
    "signature",
];
