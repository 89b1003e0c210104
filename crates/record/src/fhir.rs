//! FHIR R4 in JSON: which entries a Bundle has, which class each is of, and its codes
//! (`spec/formats.md` R3 and R4). One pass, memory bounded by the number of entries.

use std::io::{self, Read};

use crate::class::SectionClass;
use crate::description::Period;
use crate::fhir_classes::{Verdict, class_of};
use crate::file::Span;
use crate::gathering::{Gathering, NotUnderstood, Rank, Understood};
use crate::json::{Buffer, Event, ScanError, Scanner};
use crate::keyword::Keyword;
use crate::limits::{CODINGS_PER_RESOURCE_MAX, ENTRIES_MAX, TEXTS_PER_RESOURCE_MAX};
use crate::oddity::{Oddities, Oddity};
use crate::understand::{Piece, PieceKind};

/// Scans JSON that begins at offset `begin` of a file of `length` bytes.
pub(crate) fn scan<R: Read>(
    source: R,
    begin: u64,
    length: u64,
    oddities: &mut Oddities,
) -> Result<Understood, NotUnderstood> {
    let mut reading = Reading::new(Scanner::new(source, begin));
    let read = reading.whole();
    if let Some(at) = reading.scanner.not_utf8() {
        oddities.note(Oddity::NotUtf8 { at });
    }
    read?;
    // A stream that is shorter or longer than announced was changed while it was read.
    if reading.scanner.end() != length {
        return Err(NotUnderstood::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    let mut root = reading.root;
    let Some(root_type) = &root.resource_type else {
        return Err(NotUnderstood::Odd(Oddity::NotFhir));
    };
    let whole = Span::between(0, length);
    if root_type != "Bundle" || root.met.resource_type > 1 {
        let mut gathered = Gathering::new();
        let class = root.settle(begin, Leads::File, &mut gathered, oddities);
        return Ok(Understood {
            media_type: MEDIA_TYPE,
            pieces: vec![Piece::new(class, PieceKind::Resource, whole)],
            gathered,
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
    Ok(Understood {
        media_type: MEDIA_TYPE,
        pieces: tile(&reading.entries, frame, whole),
        gathered: reading.gathered,
    })
}

/// What a line of resources was found to be.
pub(crate) struct FoundLine {
    pub(crate) class: SectionClass,
    /// Whether it is a JSON object with a resource type.
    pub(crate) is_resource: bool,
    pub(crate) not_utf8: Option<u64>,
}

/// Scans one line, which is a resource or of class other. What it holds goes to `gathered` and
/// `oddities`; the buffer serves one line after another.
pub(crate) fn scan_line<R: Read>(
    source: R,
    begin: u64,
    buffer: &mut Buffer,
    gathered: &mut Gathering,
    oddities: &mut Oddities,
) -> io::Result<FoundLine> {
    let mut reading = Reading::new(Scanner::with_buffer(source, begin, std::mem::take(buffer)));
    let read = reading.whole();
    let not_utf8 = reading.scanner.not_utf8();
    let odd = match read {
        Ok(()) if reading.root.resource_type.is_some() => None,
        Ok(()) => Some(Oddity::NoResource { at: begin }),
        Err(NotUnderstood::Io(error)) => return Err(error),
        Err(NotUnderstood::Odd(Oddity::NotJson { at, fault })) => {
            Some(Oddity::BadLine { at, fault })
        }
        Err(NotUnderstood::Odd(odd)) => Some(odd),
    };
    let is_resource = odd.is_none();
    let class = match odd {
        None => reading
            .root
            .settle(begin, Leads::Nothing, gathered, oddities),
        Some(odd) => {
            oddities.note(odd);
            SectionClass::Other
        }
    };
    *buffer = reading.scanner.into_buffer();
    Ok(FoundLine {
        class,
        is_resource,
        not_utf8,
    })
}

/// The exact bytes of the resource in an entry's piece, or in a file that is a single resource.
/// Of two resources in one entry, the first.
pub(crate) fn resource_in(piece: &[u8], kind: PieceKind) -> Option<&[u8]> {
    let piece = piece.strip_prefix(BYTE_ORDER_MARK).unwrap_or(piece);
    let around = match kind {
        PieceKind::Entry => 1,
        PieceKind::Resource | PieceKind::Line => 0,
        PieceKind::Opaque | PieceKind::Frame | PieceKind::Segments | PieceKind::Part => {
            return None;
        }
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
    gathered: Gathering,
    oddities: Oddities,
}

/// An entry being read.
pub(crate) struct Entry {
    pub(crate) begin: u64,
    /// How many objects and arrays are open around it.
    depth: usize,
    follows: bool,
    /// How often it has the member `resource`.
    pub(crate) resources: u32,
    pub(crate) facts: Facts,
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
            gathered: Gathering::new(),
            oddities: Oddities::default(),
        }
    }

    fn whole(&mut self) -> Result<(), NotUnderstood> {
        loop {
            let event = match self.scanner.next() {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(()),
                Err(ScanError::Io(error)) => return Err(NotUnderstood::Io(error)),
                Err(ScanError::Fault { at, fault }) => {
                    return Err(NotUnderstood::Odd(Oddity::NotJson { at, fault }));
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
    fn value_begins(&mut self, event: Event) -> Result<(), NotUnderstood> {
        let is_entry = match self.path.as_slice() {
            // What stands where the array of entries should is taken for an entry itself.
            [Name::Entry] => event != Event::ArrayBegin,
            [Name::Entry, Name::Item] => true,
            _ => false,
        };
        if is_entry {
            if self.entries.len() >= ENTRIES_MAX {
                return Err(NotUnderstood::Odd(Oddity::TooManyEntries));
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
            // A document begins with its Composition; of any other Bundle no resource speaks for all.
            let leads = if self.entries.is_empty() {
                Leads::Document
            } else {
                Leads::Nothing
            };
            let class = entry.settle(leads, &mut self.gathered, &mut self.oddities);
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
    /// An entry that begins here, in XML.
    pub(crate) fn at(begin: u64) -> Self {
        Self {
            begin,
            depth: 0,
            follows: false,
            resources: 0,
            facts: Facts::default(),
        }
    }

    pub(crate) fn settle(
        mut self,
        leads: Leads,
        gathered: &mut Gathering,
        oddities: &mut Oddities,
    ) -> SectionClass {
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
        self.facts.settle(self.begin, leads, gathered, oddities)
    }
}

/// What a resource speaks for: the title and the type of document that it has are the file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leads {
    File,
    /// Only if it is a Composition.
    Document,
    Nothing,
}

/// What decides a resource's class and keywords.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The last one met; empty if it is not usable.
    pub(crate) resource_type: Option<String>,
    pub(crate) met: Met,
    categories: Vec<String>,
    types: Vec<String>,
    codings: Vec<Coding>,
    codings_left_out: usize,
    /// The coding being read.
    pub(crate) pending: Coding,
    /// Texts whose use depends on the type, at most [`TEXTS_PER_RESOURCE_MAX`].
    texts: Vec<(Said, String)>,
    /// Dates that are clinical in every type.
    dates: Option<Period>,
    /// The member `period`, which is clinical in some types only.
    stay: Option<Period>,
}

/// What a text of a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Title,
    Description,
    /// Text of the member `code`, or of one of its codings.
    Code,
    /// The same of `type`.
    Type,
    Author,
    Custodian,
    Name,
    Source,
}

/// How often a resource has each member that decides its class.
#[derive(Debug, Default)]
pub(crate) struct Met {
    resource_type: u32,
    category: u32,
    document_type: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Coding {
    place: Place,
    system: String,
    code: String,
}

/// What a coding is used for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    #[default]
    Code,
    /// Of the member `type`, which says something worth searching for in some resources only.
    Type,
    Modality,
}

impl Facts {
    /// A string at these steps.
    pub(crate) fn text(&mut self, steps: &[Name], text: String) {
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
        self.date(steps, &text);
        if let Some(said) = said(steps)
            && self.texts.len() < TEXTS_PER_RESOURCE_MAX
        {
            self.texts.push((said, text.clone()));
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

    fn date(&mut self, steps: &[Name], text: &str) {
        use Name::{Bound, Collection, Period as Stay, Range, When};
        let dates = match steps {
            [When] | [Range, Bound] | [Collection, When] => &mut self.dates,
            [Stay, Bound] => &mut self.stay,
            _ => return,
        };
        if let Some(date) = Period::at(text) {
            match dates {
                Some(dates) => dates.widen(&date),
                None => *dates = Some(date),
            }
        }
    }

    pub(crate) fn object_ends(&mut self, steps: &[Name]) {
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

    /// The class, once the resource was read, with its keywords and what describes the file.
    pub(crate) fn settle(
        &mut self,
        at: u64,
        leads: Leads,
        gathered: &mut Gathering,
        oddities: &mut Oddities,
    ) -> SectionClass {
        let resource_type = self.resource_type.take().unwrap_or_default();
        if !resource_type.is_empty() && self.met.resource_type < 2 {
            gathered.keyword(Keyword::resource(&resource_type), at, oddities);
        }
        let leads =
            leads == Leads::File || leads == Leads::Document && resource_type == "Composition";
        for coding in self.codings.drain(..) {
            let typed = coding.place == Place::Type;
            if typed && !TYPED.contains(&resource_type.as_str()) {
                continue;
            }
            if coding.place == Place::Modality && coding.system == DICOM_SYSTEM {
                gathered.keyword(Keyword::dicom_modality(&coding.code), at, oddities);
            }
            let document = typed && resource_type != "Encounter"
                || coding.place == Place::Code && resource_type == "DiagnosticReport";
            if leads && document {
                gathered.document_type(&coding.system, &coding.code);
            }
            gathered.keyword(Keyword::code(&coding.system, &coding.code), at, oddities);
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
        let class = match class_of(&resource_type, &self.categories, &self.types) {
            Verdict::Sure(class) => class,
            Verdict::NoCategory(class, resource) => {
                oddities.note(Oddity::NoCategory { at, resource });
                class
            }
            Verdict::UnknownType => {
                oddities.note(Oddity::UnknownType { at });
                SectionClass::Other
            }
        };
        self.describe(&resource_type, leads, gathered);
        // Of class other are money and workflow, whose dates are not the patient's.
        if class != SectionClass::Other {
            gathered.period(self.dates.as_ref());
        }
        if STAYS.contains(&resource_type.as_str()) {
            gathered.period(self.stay.as_ref());
        }
        class
    }

    /// Words, title and origin, of those texts that this type of resource has them in.
    fn describe(&mut self, resource_type: &str, leads: bool, gathered: &mut Gathering) {
        for (said, text) in self.texts.drain(..) {
            let (has_words, title_rank): (bool, Option<Rank>) = match (said, resource_type) {
                (Said::Title, "Composition") => (true, Some(0)),
                (Said::Description, "DocumentReference" | "ImagingStudy") => (true, Some(1)),
                (Said::Code, "DiagnosticReport")
                | (Said::Type, "Composition" | "DocumentReference") => (true, Some(2)),
                (Said::Code, "Condition") => (true, None),
                _ => (false, None),
            };
            if has_words {
                gathered.words(&text);
            }
            if let Some(rank) = title_rank.filter(|_| leads) {
                gathered.title(rank, &text);
            }
            let origin_rank = match (said, resource_type) {
                (Said::Author, "Composition" | "DocumentReference") if leads => 0,
                (Said::Custodian, "Composition" | "DocumentReference") if leads => 1,
                (Said::Name, "Organization") => 2,
                (Said::Source, _) => 3,
                (Said::Author, "Composition" | "DocumentReference") => 4,
                _ => continue,
            };
            gathered.origin(origin_rank, &text);
        }
    }
}

impl Met {
    pub(crate) fn count(&mut self, name: Name) {
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
pub(crate) struct Steps {
    names: [Name; 5],
    len: usize,
}

impl Steps {
    pub(crate) fn from(path: &[Name]) -> Option<Self> {
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

    pub(crate) fn as_slice(&self) -> &[Name] {
        &self.names[..self.len]
    }
}

/// The members that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    /// Not a member: a position in an array.
    Item,
    /// Any other member.
    Unknown,
    Author,
    BodySite,
    /// `start` or `end` of a period.
    Bound,
    Category,
    Code,
    Coding,
    Collection,
    Component,
    Custodian,
    Description,
    Display,
    Entry,
    MedicationCodeableConcept,
    Meta,
    Modality,
    /// The member `name`.
    Called,
    Period,
    ProcedureCode,
    /// A period of something clinical.
    Range,
    ReasonCode,
    Resource,
    ResourceType,
    Series,
    Source,
    System,
    Text,
    Title,
    Type,
    VaccineCode,
    /// A date of something clinical.
    When,
}

impl Name {
    pub(crate) fn of(text: &str) -> Self {
        match text {
            "author" => Self::Author,
            "bodySite" => Self::BodySite,
            "category" => Self::Category,
            "code" => Self::Code,
            "coding" => Self::Coding,
            "collection" => Self::Collection,
            "component" => Self::Component,
            "custodian" => Self::Custodian,
            "description" => Self::Description,
            "display" => Self::Display,
            "end" | "start" => Self::Bound,
            "entry" => Self::Entry,
            "medicationCodeableConcept" => Self::MedicationCodeableConcept,
            "meta" => Self::Meta,
            "modality" => Self::Modality,
            "name" => Self::Called,
            "period" => Self::Period,
            "procedureCode" => Self::ProcedureCode,
            "reasonCode" => Self::ReasonCode,
            "resource" => Self::Resource,
            "resourceType" => Self::ResourceType,
            "series" => Self::Series,
            "source" => Self::Source,
            "system" => Self::System,
            "text" => Self::Text,
            "title" => Self::Title,
            "type" => Self::Type,
            "vaccineCode" => Self::VaccineCode,
            "authoredOn" | "collectedDateTime" | "date" | "dateAsserted" | "effectiveDateTime"
            | "effectiveInstant" | "issued" | "occurrenceDateTime" | "onsetDateTime"
            | "performedDateTime" | "recordedDate" | "started" => Self::When,
            "collectedPeriod" | "effectivePeriod" | "occurrencePeriod" | "onsetPeriod"
            | "performedPeriod" => Self::Range,
            _ => Self::Unknown,
        }
    }
}

/// `spec/formats.md` R4: where the codings stand that become keywords.
pub(crate) fn is_coding(steps: &[Name]) -> bool {
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

/// `spec/formats.md` R2 and R4: what the texts at these steps are.
fn said(steps: &[Name]) -> Option<Said> {
    use Name::{
        Author, Called, Code, Coding, Custodian, Description, Display, Meta, Source, Text, Title,
        Type,
    };
    Some(match steps {
        [Title] => Said::Title,
        [Description] => Said::Description,
        [Code, Text] | [Code, Coding, Display] => Said::Code,
        [Type, Text] | [Type, Coding, Display] => Said::Type,
        [Author, Display] => Said::Author,
        [Custodian, Display] => Said::Custodian,
        [Called] => Said::Name,
        [Meta, Source] => Said::Source,
        _ => return None,
    })
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

/// The resource types whose member `period` says when the patient was treated.
const STAYS: [&str; 2] = ["Encounter", "EpisodeOfCare"];

/// The media type of what this module reads.
const MEDIA_TYPE: &str = "application/fhir+json";

/// The resource types whose member `type` is searched for.
const TYPED: [&str; 3] = ["Composition", "DocumentReference", "Encounter"];

/// The members that FHIR R4 gives a Bundle.
pub(crate) const BUNDLE_MEMBERS: [&str; 12] = [
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
