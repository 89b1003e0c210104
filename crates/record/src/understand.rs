//! Understanding a file: which spans of it are of which class, and what it can be found by.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use crate::class::SectionClass;
use crate::dicom;
use crate::fhir::{self, BYTE_ORDER_MARK, Fhir, NoFhir};
use crate::file::{FileName, MediaType, Span};
use crate::keyword::{Found, Keyword};
use crate::limits::{FILE_BYTES_MAX, JSON_BYTES_MAX, KEYWORDS_PER_FILE_MAX};
use crate::oddity::{Oddities, Oddity};

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
    /// Distinct keywords in the order in which they were met, at most 4,092.
    pub keywords: Vec<Keyword>,
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
    /// What a FHIR Bundle has around its entries.
    Frame = 3,
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

/// Understands a file from its begin, whatever the position of the stream. JSON is read once, up to
/// 1 GiB; of DICOM only the header; of any other file its first 132 bytes. Memory is bounded by the
/// limits of this crate, not by the file's length.
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
    if dicom::is_dicom(first) {
        let mut found = Found::new(KEYWORDS_PER_FILE_MAX);
        dicom::header(source, length, &mut found, &mut oddities)?;
        let pieces = vec![Piece::new(SectionClass::Imaging, PieceKind::Opaque, whole)];
        let (keywords, _) = found.into_parts();
        return Ok(Understanding {
            media_type: media("application/dicom"),
            whole,
            pieces,
            keywords,
            oddities,
        });
    }
    if let Some(begin) = json_begin(first)
        && let Some(fhir) = understand_json(source, begin, length, &mut oddities)?
    {
        let (keywords, left_out) = fhir.keywords.into_parts();
        if left_out > 0 {
            oddities.note(Oddity::KeywordsLeftOut { count: left_out });
        }
        let media_type = media("application/fhir+json");
        return Ok(Understanding {
            media_type,
            whole,
            pieces: fhir.pieces,
            keywords,
            oddities,
        });
    }
    if matches!(name.extension().as_str(), "dcm" | "dicom") {
        oddities.note(Oddity::NotDicom);
    }
    let media_type = media(media_type_of(name, first));
    let keyword = Keyword::media(media_type.as_str()).expect("every media type of the table fits");
    let pieces = vec![Piece::new(SectionClass::Other, PieceKind::Opaque, whole)];
    Ok(Understanding {
        media_type,
        whole,
        pieces,
        keywords: vec![keyword],
        oddities,
    })
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

fn understand_json<S: Read + Seek>(
    source: &mut S,
    begin: u64,
    length: u64,
    oddities: &mut Oddities,
) -> io::Result<Option<Fhir>> {
    if begin > 0 {
        oddities.note(Oddity::ByteOrderMark);
    }
    if length > JSON_BYTES_MAX {
        oddities.note(Oddity::JsonTooLong);
        return Ok(None);
    }
    source.seek(SeekFrom::Start(begin))?;
    match fhir::scan(source, begin, length, oddities) {
        Ok(fhir) => Ok(Some(fhir)),
        Err(NoFhir::Io(error)) => Err(error),
        Err(NoFhir::Odd(oddity)) => {
            oddities.note(oddity);
            Ok(None)
        }
    }
}

/// The offset behind a byte order mark, if an object begins after it and white space.
fn json_begin(first: &[u8]) -> Option<u64> {
    let (rest, begin) = match first.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => (rest, BYTE_ORDER_MARK.len() as u64),
        None => (first, 0),
    };
    let byte = rest
        .iter()
        .find(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r'))?;
    // An RTF text begins with a brace too.
    (*byte == b'{' && !rest.starts_with(b"{\\rtf")).then_some(begin)
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
