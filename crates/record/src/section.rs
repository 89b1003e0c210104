//! The plaintext of a section (`spec/formats.md` R6): a manifest, then the bytes of its pieces.

use std::fmt;
use std::io::{self, ErrorKind, Read};

use scheme::{DecodeError, Decoder, Digest, Encoder, VerifyingKey};
use thiserror::Error;

use crate::class::SectionClass;
use crate::dicom::read_full;
use crate::fhir;
use crate::file::{FileHead, FileName, FileNumber, MediaType, Span};
use crate::limits::{
    FILE_NAME_BYTES_MAX, FILES_MAX, MANIFEST_BYTES_MAX, MEDIA_TYPE_BYTES_MAX, PIECES_MAX,
    RECORD_BYTES_MAX, SECTION_HEAD_BYTES,
};
use crate::understand::PieceKind;

/// Why a section's plaintext is none. It was sealed by its author like this, so no retry helps: the
/// reader shows the message and tells the author.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SectionError {
    /// The stream of plaintext failed; the caller knows whether to try again.
    #[error("the section could not be read")]
    Io(#[from] io::Error),
    /// The manifest is cut short, too large, or not valid.
    #[error("the section's manifest is not valid; ask its author to store the record again")]
    Manifest(#[source] DecodeError),
    /// The section is of a later version of this layout.
    #[error("the section has layout version {0}, which this program does not know; update it")]
    Version(u8),
    /// The section ends before its last piece does, or goes on behind it.
    #[error("the section's length does not fit its manifest; ask its author to store it again")]
    Length,
}

/// What a section says about itself before its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    class: SectionClass,
    amends: Option<Amends>,
    files: Vec<FileHead>,
    pieces: Vec<SectionPiece>,
}

/// The record that an amendment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amends {
    /// SHA-256 of the earlier record's container.
    pub digest: Digest,
    /// The earlier record's author key.
    pub author: VerifyingKey,
}

/// A piece as a section names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionPiece {
    /// The file that it is of.
    pub file: FileNumber,
    /// What its bytes are.
    pub kind: PieceKind,
    /// Where its bytes stand in the file.
    pub span: Span,
}

impl Manifest {
    /// A manifest of files and pieces that are already in order, not empty, and consistent.
    pub(crate) fn new(
        class: SectionClass,
        amends: Option<Amends>,
        files: Vec<FileHead>,
        pieces: Vec<SectionPiece>,
    ) -> Self {
        Self {
            class,
            amends,
            files,
            pieces,
        }
    }

    /// The class of the section.
    pub fn class(&self) -> SectionClass {
        self.class
    }

    /// The earlier record, if this one amends it.
    pub fn amends(&self) -> Option<&Amends> {
        self.amends.as_ref()
    }

    /// The files of which the section has pieces, by rising number.
    pub fn files(&self) -> &[FileHead] {
        &self.files
    }

    /// The pieces, by rising file number and offset, without overlaps.
    pub fn pieces(&self) -> &[SectionPiece] {
        &self.pieces
    }

    /// Bytes of all pieces together.
    pub fn content_length(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.span.length()).sum()
    }

    /// The head and the manifest as they stand before the pieces' bytes (`spec/formats.md` R6).
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Encoder::new();
        match &self.amends {
            None => {
                body.u8(0);
            }
            Some(amends) => {
                body.u8(1)
                    .bytes(amends.digest.as_bytes())
                    .bytes(amends.author.as_bytes());
            }
        }
        body.u32(count(self.files.len()));
        for file in &self.files {
            body.u32(file.number.number())
                .u64(file.whole.length())
                .var(file.name.as_str().as_bytes())
                .var(file.media_type.as_str().as_bytes());
        }
        body.u32(count(self.pieces.len()));
        for piece in &self.pieces {
            body.u32(piece.file.number())
                .u8(piece.kind.code())
                .u64(piece.span.offset())
                .u64(piece.span.length());
        }
        let body = body.finish();
        let mut out = Encoder::new();
        out.u8(VERSION).u8(self.class.code()).var(&body);
        out.finish()
    }

    /// The manifest's body, without the section's head.
    fn decode(class: SectionClass, body: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(body);
        let amends = match decoder.u8("the amendment mark")? {
            0 => None,
            1 => Some(Amends {
                digest: Digest::new(decoder.array("the earlier digest")?),
                author: VerifyingKey::new(decoder.array("the earlier author")?),
            }),
            _ => return invalid("the amendment mark", "neither 0 nor 1"),
        };
        let file_count = decoder.count("the number of files", FILES_MAX)?;
        if file_count == 0 {
            return invalid("the list of files", "it is empty");
        }
        let mut files: Vec<FileHead> = Vec::new();
        for _ in 0..file_count {
            let file = decode_file(&mut decoder)?;
            if files.last().is_some_and(|last| last.number >= file.number) {
                return invalid("the list of files", "not by rising number");
            }
            files.push(file);
        }
        let piece_count = decoder.count("the number of pieces", PIECES_MAX)?;
        let mut pieces: Vec<SectionPiece> = Vec::new();
        let mut rest = files.iter();
        let mut file: Option<&FileHead> = None;
        let mut total = 0u64;
        for _ in 0..piece_count {
            let piece = decode_piece(&mut decoder)?;
            let last = pieces.last().filter(|last| last.file == piece.file);
            if let Some(last) = last {
                if piece.span.offset() < last.span.end() {
                    return invalid("a piece", "it overlaps the one before");
                }
            } else {
                // Every file has a piece, and the pieces follow the order of the files.
                file = rest.next();
            }
            let Some(file) = file.filter(|file| file.number == piece.file) else {
                return invalid("a piece", "its file is not the next of the list");
            };
            if piece.span.end() > file.whole.end() {
                return invalid("a piece", "it ends behind its file");
            }
            if piece.span.is_empty() && !file.whole.is_empty() {
                return invalid("a piece", "it is empty");
            }
            // Two pieces of an empty file would have the same place.
            if piece.span.is_empty() && last.is_some() {
                return invalid("a piece", "it stands twice");
            }
            // Each length is at most 2^38 and there are at most 2^17 pieces: no overflow.
            total += piece.span.length();
            pieces.push(piece);
        }
        if rest.next().is_some() {
            return invalid("the list of files", "one has no piece");
        }
        if total > RECORD_BYTES_MAX {
            let (found, limit) = (total, RECORD_BYTES_MAX);
            return Err(DecodeError::TooLarge {
                what: "the length of all pieces",
                found,
                limit,
            });
        }
        decoder.finish("the manifest")?;
        Ok(Self {
            class,
            amends,
            files,
            pieces,
        })
    }
}

/// Reads a section's plaintext from a stream: the manifest at once, the pieces one after another.
#[derive(Debug)]
pub struct SectionReader<R> {
    source: R,
    manifest: Manifest,
    next: usize,
    /// Bytes of the current piece that were not read.
    unread: u64,
}

impl<R: Read> SectionReader<R> {
    /// Reads the head and the manifest: at most 4,399,183 bytes, and no more memory than a small
    /// multiple of what was really there.
    ///
    /// # Errors
    /// [`SectionError`] if they are no manifest.
    pub fn new(mut source: R) -> Result<Self, SectionError> {
        let mut head = [0; SECTION_HEAD_BYTES];
        let head_count = read_full(&mut source, &mut head)?;
        let mut decoder = Decoder::new(&head[..head_count]);
        let version = decoder
            .u8("the section's version")
            .map_err(SectionError::Manifest)?;
        if version != VERSION {
            return Err(SectionError::Version(version));
        }
        let (class, length) = decode_head(&mut decoder).map_err(SectionError::Manifest)?;
        let mut body = Vec::new();
        source.by_ref().take(length as u64).read_to_end(&mut body)?;
        if body.len() < length {
            return Err(SectionError::Length);
        }
        let manifest = Manifest::decode(class, &body).map_err(SectionError::Manifest)?;
        Ok(Self {
            source,
            manifest,
            next: 0,
            unread: 0,
        })
    }

    /// What the section says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The next piece and its bytes; what was left unread of the piece before is passed over.
    /// `None` behind the last one, once the stream was found to end there.
    ///
    /// # Errors
    /// [`SectionError::Length`] if the stream ends too early or too late.
    pub fn next_piece(&mut self) -> Result<Option<PieceReader<'_, R>>, SectionError> {
        let skipped = io::copy(&mut self.source.by_ref().take(self.unread), &mut io::sink())?;
        if skipped < self.unread {
            return Err(SectionError::Length);
        }
        self.unread = 0;
        let Some(&piece) = self.manifest.pieces.get(self.next) else {
            let trailing = read_full(&mut self.source, &mut [0])?;
            return if trailing == 0 {
                Ok(None)
            } else {
                Err(SectionError::Length)
            };
        };
        self.next += 1;
        self.unread = piece.span.length();
        let file = self
            .manifest
            .files
            .binary_search_by_key(&piece.file, |file| file.number);
        let file = &self.manifest.files[file.expect("the manifest lists the file of each piece")];
        Ok(Some(PieceReader {
            source: &mut self.source,
            unread: &mut self.unread,
            piece,
            file,
        }))
    }
}

/// The bytes of one piece: exactly as many as its span says, or [`ErrorKind::UnexpectedEof`].
#[derive(Debug)]
pub struct PieceReader<'a, R> {
    source: &'a mut R,
    unread: &'a mut u64,
    piece: SectionPiece,
    file: &'a FileHead,
}

impl<R> PieceReader<'_, R> {
    /// What the section says about the piece.
    pub fn piece(&self) -> SectionPiece {
        self.piece
    }

    /// The file that the piece is of.
    pub fn file(&self) -> &FileHead {
        self.file
    }
}

impl<R: Read> Read for PieceReader<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.source.by_ref().take(*self.unread).read(out)?;
        if count == 0 && *self.unread > 0 && !out.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        *self.unread -= count as u64;
        Ok(count)
    }
}

/// A section whose plaintext is in memory. Debug output has its manifest, not its content.
#[derive(Clone)]
pub struct ParsedSection<'a> {
    manifest: Manifest,
    /// The bytes behind the manifest, exactly as many as the pieces have.
    content: &'a [u8],
}

/// Reads a section's plaintext that is in memory.
///
/// # Errors
/// [`SectionError`] if it is none, or if bytes are missing or left over.
pub fn parse_section(plaintext: &[u8]) -> Result<ParsedSection<'_>, SectionError> {
    let mut content = plaintext;
    let manifest = SectionReader::new(&mut content)?.manifest;
    if manifest.content_length() != content.len() as u64 {
        return Err(SectionError::Length);
    }
    Ok(ParsedSection { manifest, content })
}

impl<'a> ParsedSection<'a> {
    /// What the section says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Each piece with its bytes, in the manifest's order.
    pub fn pieces(&self) -> impl Iterator<Item = (&SectionPiece, &'a [u8])> {
        let mut rest = self.content;
        self.manifest.pieces.iter().map(move |piece| {
            let length = usize::try_from(piece.span.length());
            let length = length.expect("all pieces together are as long as a slice in memory");
            let (bytes, behind) = rest.split_at(length);
            rest = behind;
            (piece, bytes)
        })
    }

    /// The exact bytes of each FHIR resource of the section, with the piece that it stands in.
    /// Pieces without a resource are passed over.
    pub fn entries(&self) -> impl Iterator<Item = (&SectionPiece, &'a [u8])> {
        self.pieces().filter_map(|(piece, bytes)| {
            fhir::resource_in(bytes, piece.kind).map(|resource| (piece, resource))
        })
    }
}

impl fmt::Debug for ParsedSection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParsedSection")
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

fn decode_head(decoder: &mut Decoder<'_>) -> Result<(SectionClass, usize), DecodeError> {
    let Some(class) = SectionClass::from_code(decoder.u8("the section class")?) else {
        return invalid("the section class", "no class has this code");
    };
    Ok((
        class,
        decoder.count("the manifest's length", MANIFEST_BYTES_MAX)?,
    ))
}

fn decode_file(decoder: &mut Decoder<'_>) -> Result<FileHead, DecodeError> {
    let number = decoder.u32("a file's number")?;
    if number as usize >= FILES_MAX {
        let (found, limit) = (u64::from(number), FILES_MAX as u64 - 1);
        return Err(DecodeError::TooLarge {
            what: "a file's number",
            found,
            limit,
        });
    }
    let Ok(whole) = Span::new(0, decoder.u64("a file's length")?) else {
        return invalid("a file's length", "it is above 256 GiB");
    };
    let name = text(decoder.var("a file's name", FILE_NAME_BYTES_MAX)?);
    let Some(name) = name.and_then(|name| FileName::new(name).ok()) else {
        return invalid("a file's name", "it is not a plain name");
    };
    let media_type = text(decoder.var("a media type", MEDIA_TYPE_BYTES_MAX)?);
    let Some(media_type) = media_type.and_then(canonical_media_type) else {
        return invalid(
            "a media type",
            "it is not of the form type/subtype in lower case",
        );
    };
    Ok(FileHead {
        number: FileNumber::new(number),
        name,
        media_type,
        whole,
    })
}

fn decode_piece(decoder: &mut Decoder<'_>) -> Result<SectionPiece, DecodeError> {
    let file = FileNumber::new(decoder.u32("a piece's file")?);
    let Some(kind) = PieceKind::from_code(decoder.u8("a piece's kind")?) else {
        return invalid("a piece's kind", "no kind has this code");
    };
    let (offset, length) = (
        decoder.u64("a piece's offset")?,
        decoder.u64("a piece's length")?,
    );
    let Ok(span) = Span::new(offset, length) else {
        return invalid("a piece", "it ends above 256 GiB");
    };
    Ok(SectionPiece { file, kind, span })
}

fn canonical_media_type(text: &str) -> Option<MediaType> {
    MediaType::new(text)
        .ok()
        .filter(|media_type| media_type.as_str() == text)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("files and pieces are bounded far below 2^32")
}

fn invalid<T>(what: &'static str, why: &'static str) -> Result<T, DecodeError> {
    Err(DecodeError::Invalid { what, why })
}

/// The version of this layout.
const VERSION: u8 = 1;
