//! Understanding a file: which spans of it are of which class, and what it can be found by.

use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};

use crate::class::SectionClass;
use crate::description::Description;
use crate::fhir::{self, BYTE_ORDER_MARK};
use crate::file::{FileName, MediaType, Span};
use crate::gathering::{Gathering, NotUnderstood, Understood};
use crate::keyword::Keyword;
use crate::limits::{FILE_BYTES_MAX, HL7_BYTES_MAX, JSON_BYTES_MAX, XML_BYTES_MAX};
use crate::ndjson::FoundLines;
use crate::oddity::{JsonFault, Oddities, Oddity};
use crate::{cda, dicom, fhir_xml, hl7v2, ndjson};

/// What a file was found to be. The pieces tile it: each begins where the one before ends, the first
/// at 0 and the last at the file's end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Understanding {
    /// What it was taken for.
    pub media_type: MediaType,
    /// The whole file.
    pub whole: Span,
    /// At least one; an empty file has one empty piece.
    pub pieces: Vec<Piece>,
    /// Distinct keywords in the order in which they were met, at most 4,092, and behind them at most
    /// 1,023 words.
    pub keywords: Vec<Keyword>,
    /// What it says about itself as a whole.
    pub description: Description,
    /// What is odd about it.
    pub oddities: Oddities,
}

/// Consecutive bytes of a file that are of one section class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    class: SectionClass,
    kind: PieceKind,
    span: Span,
}

impl Piece {
    pub(crate) fn new(class: SectionClass, kind: PieceKind, span: Span) -> Self {
        Self { class, kind, span }
    }

    /// The section class of these bytes.
    pub fn class(&self) -> SectionClass {
        self.class
    }

    /// What these bytes are.
    pub fn kind(&self) -> PieceKind {
        self.kind
    }

    /// Where these bytes stand in the file.
    pub fn span(&self) -> Span {
        self.span
    }
}

/// What the bytes of a piece are; its code stands in the manifest (`spec/formats.md` R6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PieceKind {
    /// A whole file that is not looked into further.
    Opaque = 0,
    /// An entry of a FHIR Bundle, and the comma and white space behind it.
    Entry = 1,
    /// A whole file that is a single FHIR resource.
    Resource = 2,
    /// What a FHIR Bundle has around its entries, or a clinical document around its sections.
    Frame = 3,
    /// A line of FHIR resources, and the white space behind it.
    Line = 4,
    /// Segments of HL7 v2 messages that follow each other, with what ends them.
    Segments = 5,
    /// A section of a clinical document with its component, a body that is no XML, or an entry of a FHIR
    /// Bundle in XML, and the white space behind it.
    Part = 6,
}

impl PieceKind {
    /// The code in the manifest.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind of a code; `None` for a code that this version does not know.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Opaque),
            1 => Some(Self::Entry),
            2 => Some(Self::Resource),
            3 => Some(Self::Frame),
            4 => Some(Self::Line),
            5 => Some(Self::Segments),
            6 => Some(Self::Part),
            _ => None,
        }
    }
}

/// Understands a file in memory. Never fails: what cannot be understood is one piece of class other,
/// with the reason among the oddities.
///
/// # Panics
/// If the file is longer than 256 GiB, which no memory holds.
pub fn understand(name: &FileName, bytes: &[u8]) -> Understanding {
    understand_stream(name, &mut Cursor::new(bytes))
        .expect("reading from memory does not fail, and no memory holds 256 GiB")
}

/// Understands a file from its begin, whatever the position of the stream. JSON is read up to
/// 1 GiB, HL7 v2 up to 256 MiB, XML up to 64 MiB, once, and lines of resources a second time; of DICOM only the header; of
/// any other file its first 132 bytes. Memory is bounded by the limits of this crate, not by the file's
/// length.
///
/// # Errors
/// The stream's own, and [`io::ErrorKind::FileTooLarge`] for a file of more than 256 GiB.
pub fn understand_stream<S: Read + Seek>(
    name: &FileName,
    source: &mut S,
) -> io::Result<Understanding> {
    let length = source.seek(SeekFrom::End(0))?;
    if length > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let whole = Span::between(0, length);
    let mut first = [0; FIRST_BYTES];
    source.seek(SeekFrom::Start(0))?;
    let count = dicom::read_full(source, &mut first)?;
    let first = &first[..count];

    let mut oddities = Oddities::default();
    let understood = match understood(name, first, source, length, &mut oddities) {
        Ok(Some(understood)) => understood,
        Ok(None) => opaque(name, first, whole, &mut oddities),
        Err(NotUnderstood::Io(error)) => return Err(error),
        Err(NotUnderstood::Odd(oddity)) => {
            oddities.note(oddity);
            opaque(name, first, whole, &mut oddities)
        }
    };
    let (keywords, left_out, description) = understood.gathered.into_parts();
    if left_out > 0 {
        oddities.note(Oddity::KeywordsLeftOut { count: left_out });
    }
    Ok(Understanding {
        media_type: media(understood.media_type),
        whole,
        pieces: understood.pieces,
        keywords,
        description,
        oddities,
    })
}

/// What the reader of a format makes of a file that begins as that format does; `None` if it begins as
/// none.
fn understood<S: Read + Seek>(
    name: &FileName,
    first: &[u8],
    source: &mut S,
    length: u64,
    oddities: &mut Oddities,
) -> Result<Option<Understood>, NotUnderstood> {
    if dicom::is_dicom(first) {
        let mut gathered = Gathering::new();
        dicom::header(source, length, &mut gathered, oddities)?;
        let whole = Span::between(0, length);
        return Ok(Some(Understood {
            media_type: "application/dicom",
            pieces: vec![Piece::new(SectionClass::Imaging, PieceKind::Opaque, whole)],
            gathered,
        }));
    }
    if hl7v2::begins(first) {
        if length > HL7_BYTES_MAX {
            return Err(NotUnderstood::Odd(Oddity::Hl7TooLong));
        }
        source.seek(SeekFrom::Start(0))?;
        return hl7v2::scan(BufReader::new(source), length, oddities).map(Some);
    }
    if let Some(begin) = begin_behind_mark(first, b'{') {
        return json(name, source, begin, length, oddities).map(Some);
    }
    if let Some(begin) = begin_behind_mark(first, b'<') {
        if length > XML_BYTES_MAX {
            return Err(NotUnderstood::Odd(Oddity::XmlTooLong));
        }
        source.seek(SeekFrom::Start(begin))?;
        if let Some(document) = cda::scan(BufReader::new(&mut *source), begin, length, oddities)? {
            return Ok(Some(document));
        }
        source.seek(SeekFrom::Start(begin))?;
        return fhir_xml::scan(BufReader::new(source), begin, length, oddities);
    }
    Ok(None)
}

/// FHIR in JSON: one resource, or lines of them.
fn json<S: Read + Seek>(
    name: &FileName,
    source: &mut S,
    begin: u64,
    length: u64,
    oddities: &mut Oddities,
) -> Result<Understood, NotUnderstood> {
    if begin > 0 {
        oddities.note(Oddity::ByteOrderMark);
    }
    if length > JSON_BYTES_MAX {
        return Err(NotUnderstood::Odd(Oddity::JsonTooLong));
    }
    if name.extension() == LINES_EXTENSION {
        let lines = lines(source, begin, length)?;
        // A name can be wrong: one resource over many lines has none that is a resource.
        if lines.resources > 0 {
            oddities.append(&lines.oddities);
            return Ok(lines.understood);
        }
    }
    source.seek(SeekFrom::Start(begin))?;
    let mut odd = Oddities::default();
    let found = fhir::scan(&mut *source, begin, length, &mut odd);
    // Where a second value follows the first, both may be lines.
    if let Err(NotUnderstood::Odd(Oddity::NotJson {
        fault: JsonFault::Trailing,
        ..
    })) = &found
    {
        let lines = lines(source, begin, length)?;
        if lines.resources >= LINES_LEAST {
            oddities.append(&lines.oddities);
            return Ok(lines.understood);
        }
    }
    oddities.append(&odd);
    found
}

fn lines<S: Read + Seek>(
    source: &mut S,
    begin: u64,
    length: u64,
) -> Result<FoundLines, NotUnderstood> {
    source.seek(SeekFrom::Start(begin))?;
    ndjson::scan(BufReader::new(source), begin, length)
}

/// A file that is kept as it is: one piece of class other, found by its media type.
fn opaque(name: &FileName, first: &[u8], whole: Span, oddities: &mut Oddities) -> Understood {
    match name.extension().as_str() {
        "dcm" | "dicom" => oddities.note(Oddity::NotDicom),
        "hl7" if !hl7v2::begins(first) => oddities.note(Oddity::NotHl7),
        _ => {}
    }
    let media_type = media_type_of(name, first);
    let mut gathered = Gathering::new();
    gathered.keyword(Keyword::media(media_type), 0, oddities);
    Understood {
        media_type,
        pieces: vec![Piece::new(SectionClass::Other, PieceKind::Opaque, whole)],
        gathered,
    }
}

impl Understanding {
    /// The same file as one piece of class other, for a record that has no room for its pieces.
    pub(crate) fn as_one_piece(&mut self) {
        self.pieces = vec![Piece::new(
            SectionClass::Other,
            PieceKind::Opaque,
            self.whole,
        )];
        self.oddities.note(Oddity::TooManyPieces);
    }
}

/// The offset behind a byte order mark, if this sign follows it and white space.
fn begin_behind_mark(first: &[u8], sign: u8) -> Option<u64> {
    let (rest, begin) = match first.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => (rest, BYTE_ORDER_MARK.len() as u64),
        None => (first, 0),
    };
    let byte = rest
        .iter()
        .find(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r'))?;
    // An RTF text begins with a brace too.
    (*byte == sign && !rest.starts_with(b"{\\rtf")).then_some(begin)
}

/// The media type of a file that is not understood: by its first bytes, else by its name.
fn media_type_of(name: &FileName, first: &[u8]) -> &'static str {
    let first = first.strip_prefix(BYTE_ORDER_MARK).unwrap_or(first);
    for (begin, media_type) in BEGINS {
        if first.starts_with(begin) {
            return media_type;
        }
    }
    let extension = name.extension();
    let named = EXTENSIONS.iter().find(|(known, _)| *known == extension);
    named.map_or("application/octet-stream", |(_, media_type)| media_type)
}

fn media(text: &str) -> MediaType {
    MediaType::new(text).expect("every media type of the table is valid")
}

/// The extension that says that a file has lines of resources.
const LINES_EXTENSION: &str = "ndjson";
/// Lines that are resources, from which on a file that is not named so is one of lines.
const LINES_LEAST: usize = 2;

/// A DICOM file shows itself in its first 132 bytes, everything else in fewer.
const FIRST_BYTES: usize = 132;

const BEGINS: [(&[u8], &str); 9] = [
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"PK\x03\x04", "application/zip"),
    (b"{\\rtf", "application/rtf"),
    // The HL7 v2 specification for transport over HTTP names this type.
    (b"MSH|", "x-application/hl7-v2+er7"),
    (b"<?xml", "application/xml"),
];

const EXTENSIONS: [(&str, &str); 13] = [
    ("csv", "text/csv"),
    ("gif", "image/gif"),
    ("hl7", "x-application/hl7-v2+er7"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("jpg", "image/jpeg"),
    ("json", "application/json"),
    ("ndjson", "application/x-ndjson"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("rtf", "application/rtf"),
    ("txt", "text/plain"),
    ("xml", "application/xml"),
];
