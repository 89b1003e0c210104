//! A record: files, what they were found to be, and the sections that are sealed.

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;

use thiserror::Error;

use crate::class::SectionClass;
use crate::description::{Description, DocumentType, Line, Period};
use crate::file::{FileHead, FileName, FileNumber, Span};
use crate::keyword::{Candidates, KeywordSet};
use crate::limits::{FILES_MAX, PIECES_MAX, RECORD_BYTES_MAX};
use crate::oddity::{Oddities, Oddity};
use crate::section::{Amends, Manifest, SectionPiece};
use crate::understand::{Piece, understand_stream};

/// Why a file was not added. The record is as it was before.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The record has as many files as it may have.
    #[error("a record has at most 4,096 files; store the others as a second record")]
    TooManyFiles,
    /// The record's files would be too long together.
    #[error("a record has at most 512 GiB; store this file as a second record")]
    TooLong,
    /// The file could not be read.
    #[error("the file could not be read; check that it exists and is no folder")]
    Io(#[from] io::Error),
}

/// Where a file's bytes come from. It is opened anew for every section, so a file need never be in
/// memory. The bytes must stay the same until the record is sealed: a file that changes its length
/// meanwhile fails the stream, one that changes its content is not noticed.
pub trait Source: fmt::Debug + Send + Sync {
    /// The bytes from the begin.
    ///
    /// # Errors
    /// Whatever opening it meets.
    fn open(&self) -> io::Result<Box<dyn Bytes + '_>>;
}

/// Bytes that can be read anywhere.
pub trait Bytes: Read + Seek + Send {}

impl<T: Read + Seek + Send> Bytes for T {}

/// A file on disk, opened when it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFile(PathBuf);

impl DiskFile {
    /// The file at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

impl Source for DiskFile {
    fn open(&self) -> io::Result<Box<dyn Bytes + '_>> {
        Ok(Box::new(File::open(&self.0)?))
    }
}

/// A file in memory. Shown in debug output by its length only.
#[derive(Clone, PartialEq, Eq)]
pub struct MemoryFile(Vec<u8>);

impl MemoryFile {
    /// These bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryFile({} bytes)", self.0.len())
    }
}

impl Source for MemoryFile {
    fn open(&self) -> io::Result<Box<dyn Bytes + '_>> {
        Ok(Box::new(Cursor::new(self.0.as_slice())))
    }
}

/// A medical record of one episode: up to 4,096 files, each kept byte for byte.
#[derive(Debug)]
pub struct Record {
    files: Vec<RecordFile>,
    pieces_count: usize,
    bytes: u64,
    amends: Option<Amends>,
    /// In an amendment, the earlier record's keywords come first.
    keywords: Candidates,
}

/// A file of a record and what it was found to be.
#[derive(Debug)]
pub struct RecordFile {
    head: FileHead,
    pieces: Vec<Piece>,
    oddities: Oddities,
    description: Description,
    source: Box<dyn Source>,
}

impl Record {
    /// A record without files.
    pub fn new() -> Self {
        let (files, keywords) = (Vec::new(), Candidates::new());
        Self {
            files,
            pieces_count: 0,
            bytes: 0,
            amends: None,
            keywords,
        }
    }

    /// A record that amends an earlier one and carries on its keywords, so that whoever finds the
    /// one finds the other.
    pub fn amending(earlier: Amends, keywords: &KeywordSet) -> Self {
        let mut record = Self {
            amends: Some(earlier),
            ..Self::new()
        };
        for keyword in keywords.iter() {
            record.keywords.add(keyword.clone());
        }
        record
    }

    /// Reads a file once, to understand it, and adds it. A name that is not usable is changed, and
    /// a file that is odd is added all the same; [`RecordFile::oddities`] says why.
    ///
    /// # Errors
    /// [`RecordError`] if there is no room, or the file cannot be read.
    pub fn add(
        &mut self,
        name: &str,
        source: impl Source + 'static,
    ) -> Result<&RecordFile, RecordError> {
        if self.files.len() >= FILES_MAX {
            return Err(RecordError::TooManyFiles);
        }
        let plain = FileName::nearest(name);
        let mut understood = understand_stream(&plain, &mut source.open()?)?;
        if understood.whole.length() > RECORD_BYTES_MAX - self.bytes {
            return Err(RecordError::TooLong);
        }
        // Each file that may still come needs a piece at least, so none is ever without one.
        let reserved = FILES_MAX - self.files.len() - 1;
        if understood.pieces.len() > PIECES_MAX - reserved - self.pieces_count {
            understood.as_one_piece();
        }
        if plain.as_str() != name {
            understood.oddities.note(Oddity::NameChanged);
        }
        self.bytes += understood.whole.length();
        self.pieces_count += understood.pieces.len();
        let number = u32::try_from(self.files.len()).expect("a record has at most 4,096 files");
        let head = FileHead {
            number: FileNumber::new(number),
            name: plain,
            media_type: understood.media_type,
            whole: understood.whole,
        };
        for keyword in understood.keywords {
            self.keywords.add(keyword);
        }
        self.files.push(RecordFile {
            head,
            pieces: understood.pieces,
            oddities: understood.oddities,
            description: understood.description,
            source: Box::new(source),
        });
        Ok(self.files.last().expect("a file was just added"))
    }

    /// The files, in the order in which they were added.
    pub fn files(&self) -> &[RecordFile] {
        &self.files
    }

    /// The earlier record, if this one amends it.
    pub fn amends(&self) -> Option<&Amends> {
        self.amends.as_ref()
    }

    /// What the record can be found by, and how many further keywords found no room: those of an
    /// amended record first, then by file.
    pub fn keywords(&self) -> (KeywordSet, usize) {
        self.keywords.choose()
    }

    /// The sections that are not empty, in the order of the classes.
    pub fn sections(&self) -> impl Iterator<Item = Section<'_>> {
        SectionClass::ALL
            .into_iter()
            .filter_map(|class| self.section(class))
    }

    fn section(&self, class: SectionClass) -> Option<Section<'_>> {
        let mut heads = Vec::new();
        let mut pieces = Vec::new();
        for file in &self.files {
            let before = pieces.len();
            let of_class = file.pieces.iter().filter(|piece| piece.class() == class);
            pieces.extend(of_class.map(|piece| SectionPiece {
                file: file.head.number,
                kind: piece.kind(),
                span: piece.span(),
            }));
            if pieces.len() > before {
                heads.push(file.head.clone());
            }
        }
        if pieces.is_empty() {
            return None;
        }
        let manifest = Manifest::new(class, self.amends, heads, pieces);
        let encoded = manifest.encode();
        Some(Section {
            record: self,
            manifest,
            encoded,
        })
    }
}

impl Default for Record {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordFile {
    /// Number, name, media type and length.
    pub fn head(&self) -> &FileHead {
        &self.head
    }

    /// Which spans are of which class. They tile the file.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// What is odd about the file.
    pub fn oddities(&self) -> &Oddities {
        &self.oddities
    }

    /// What the file says about itself as a whole. It is for lists of files and enters no manifest.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Its title: of a document, or the description of a study.
    pub fn title(&self) -> Option<&Line> {
        self.description.title.as_ref()
    }

    /// The code of its type of document.
    pub fn document_type(&self) -> Option<&DocumentType> {
        self.description.document_type.as_ref()
    }

    /// The earliest and the latest clinical date in it.
    pub fn period(&self) -> Option<&Period> {
        self.description.period.as_ref()
    }

    /// Who wrote it, as it says itself.
    pub fn origin(&self) -> Option<&Line> {
        self.description.origin.as_ref()
    }
}

/// A section before it is sealed: its length is known, its bytes are read as a stream.
#[derive(Debug)]
pub struct Section<'a> {
    record: &'a Record,
    manifest: Manifest,
    /// The head and the manifest.
    encoded: Vec<u8>,
}

impl<'a> Section<'a> {
    /// Its class.
    pub fn class(&self) -> SectionClass {
        self.manifest.class()
    }

    /// What it says about itself before its bytes.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Bytes of plaintext, head and manifest included: what [`Section::reader`] gives, exactly.
    pub fn length(&self) -> u64 {
        self.encoded.len() as u64 + self.manifest.content_length()
    }

    /// The plaintext, from the begin. One source is open at a time, and no byte of it is kept.
    pub fn reader(&self) -> SectionStream<'_> {
        SectionStream {
            record: self.record,
            head: self.encoded.as_slice(),
            pieces: self.manifest.pieces().iter(),
            open: None,
            unread: 0,
        }
    }
}

/// The plaintext of a section as a stream. It fails with [`ErrorKind::UnexpectedEof`] if a file has
/// become shorter since it was added.
pub struct SectionStream<'a> {
    record: &'a Record,
    /// What is left of the head and the manifest.
    head: &'a [u8],
    pieces: std::slice::Iter<'a, SectionPiece>,
    open: Option<OpenFile<'a>>,
    /// What is left of the current piece.
    unread: u64,
}

struct OpenFile<'a> {
    number: FileNumber,
    bytes: Box<dyn Bytes + 'a>,
    at: u64,
}

impl SectionStream<'_> {
    /// Opens the file of a piece, unless it is open, and goes to the piece's begin.
    fn go_to(&mut self, file: FileNumber, span: Span) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|open| open.number != file) {
            // The file before is closed first, so that one is open at a time.
            self.open = None;
            let bytes = self.record.files[file.number() as usize].source.open()?;
            self.open = Some(OpenFile {
                number: file,
                bytes,
                at: 0,
            });
        }
        if let Some(open) = &mut self.open
            && open.at != span.offset()
        {
            open.bytes.seek(SeekFrom::Start(span.offset()))?;
            open.at = span.offset();
        }
        self.unread = span.length();
        Ok(())
    }
}

impl Read for SectionStream<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if !self.head.is_empty() {
            return self.head.read(out);
        }
        while self.unread == 0 {
            let Some(piece) = self.pieces.next() else {
                return Ok(0);
            };
            self.go_to(piece.file, piece.span)?;
        }
        let Some(open) = &mut self.open else {
            return Ok(0);
        };
        let count = open.bytes.by_ref().take(self.unread).read(out)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.unread -= count as u64;
        open.at += count as u64;
        Ok(count)
    }
}

impl fmt::Debug for SectionStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SectionStream")
            .field("unread", &self.unread)
            .finish_non_exhaustive()
    }
}
