//! What clinical documents and FHIR in XML have in common: events to the file's end, attributes, and pieces.

use std::borrow::Cow;
use std::io::{self, BufRead};

use quick_xml::errors::Error;
use quick_xml::events::{BytesDecl, BytesRef};
pub(crate) use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};

use crate::class::SectionClass;
use crate::file::Span;
use crate::gathering::NotUnderstood;
use crate::limits::{JSON_TEXT_BYTES_MAX, XML_ATTRIBUTES_MAX};
use crate::oddity::Oddity;
use crate::understand::{Piece, PieceKind};

/// Names of the character sets of one byte per character that are read.
const LATIN: [&[u8]; 3] = [b"iso-8859-1", b"latin1", b"windows-1252"];

/// A file being read.
pub(crate) trait Reading {
    /// Whether the root was met, and is one of the format.
    fn is_known(&self) -> bool;

    /// Whether an element is open.
    fn is_open(&self) -> bool;

    /// Takes what stands from one offset to another; `false` if the file is not of the format.
    fn event(&mut self, event: &Event<'_>, from: u64, to: u64) -> Result<bool, NotUnderstood>;
}

/// Reads from offset `begin` of a file of `length` bytes to its end; `false` if it is not of the format.
pub(crate) fn read<R: BufRead>(
    mut reader: Reader<R>,
    begin: u64,
    length: u64,
    reading: &mut impl Reading,
) -> Result<bool, NotUnderstood> {
    let mut buffer = Vec::new();
    let mut from = begin;
    loop {
        buffer.clear();
        let event = match reader.read_event_into(&mut buffer) {
            Ok(event) => event,
            Err(Error::Io(error)) => {
                return Err(NotUnderstood::Io(io::Error::new(error.kind(), error)));
            }
            Err(_) if !reading.is_known() => return Ok(false),
            Err(_) => {
                let at = begin + reader.error_position();
                return Err(NotUnderstood::Odd(Oddity::NotXml { at }));
            }
        };
        let to = begin + reader.buffer_position();
        if matches!(event, Event::Eof) {
            break;
        }
        if !reading.event(&event, from, to)? {
            return Ok(false);
        }
        from = to;
    }
    if !reading.is_known() {
        return Ok(false);
    }
    if reading.is_open() {
        return Err(NotUnderstood::Odd(Oddity::NotXml { at: from }));
    }
    // A stream that is shorter or longer than announced was changed while it was read.
    if from != length {
        return Err(NotUnderstood::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(true)
}

/// The text that a reference stands for; one that XML does not define itself names nothing, and is kept.
pub(crate) fn resolve(name: &BytesRef<'_>) -> Vec<u8> {
    if let Ok(Some(character)) = name.resolve_char_ref() {
        return character.to_string().into_bytes();
    }
    let name_text = std::str::from_utf8(name);
    match name_text.map(quick_xml::escape::resolve_predefined_entity) {
        Ok(Some(text)) => text.as_bytes().to_vec(),
        _ => [b"&", &**name, b";"].concat(),
    }
}

/// Text in the character set that is declared.
pub(crate) fn decode(bytes: &[u8], is_latin: bool) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) if is_latin => bytes.iter().copied().map(char::from).collect(),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

/// The value of an attribute, if it is there and not empty; its first 512 bytes.
pub(crate) fn attribute(start: &BytesStart<'_>, name: &[u8], is_latin: bool) -> Option<String> {
    let mut attributes = start.attributes();
    let mut known = attributes
        .with_checks(false)
        .take(XML_ATTRIBUTES_MAX)
        .flatten();
    let found = known.find(|attribute| attribute.key.as_ref() == name)?;
    let raw = found
        .value
        .get(..JSON_TEXT_BYTES_MAX)
        .unwrap_or(&found.value);
    let raw = decode(raw, is_latin);
    let value = quick_xml::escape::unescape(&raw).unwrap_or(Cow::Borrowed(&raw));
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// The pieces of a document: its parts, each with the white space behind it; what is left is of the
/// class `frame`.
pub(crate) fn tile(
    placed: &[(u64, u64, SectionClass)],
    frame: SectionClass,
    length: u64,
) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(2 * placed.len() + 1);
    let mut at = 0;
    for &(begin, end, class) in placed {
        if at < begin {
            pieces.push(Piece::new(
                frame,
                PieceKind::Frame,
                Span::between(at, begin),
            ));
        }
        pieces.push(Piece::new(
            class,
            PieceKind::Part,
            Span::between(begin, end),
        ));
        at = end;
    }
    if at < length {
        pieces.push(Piece::new(
            frame,
            PieceKind::Frame,
            Span::between(at, length),
        ));
    }
    pieces
}

/// Whether a declaration names one of the character sets of one byte per character that are read.
pub(crate) fn is_latin(declaration: &BytesDecl<'_>) -> bool {
    let Some(Ok(encoding)) = declaration.encoding() else {
        return false;
    };
    LATIN
        .iter()
        .any(|known| encoding.eq_ignore_ascii_case(known))
}
