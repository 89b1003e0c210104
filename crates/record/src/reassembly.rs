//! Putting the files of a record together from the sections that could be opened.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};

use thiserror::Error;

use crate::file::{FileHead, FileNumber, Span};
use crate::limits::{BUFFER_BYTES, FILES_MAX};
use crate::section::{Amends, SectionError, SectionReader};

/// Why files could not be put together.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReassemblyError {
    /// A section is not valid.
    #[error(transparent)]
    Section(#[from] SectionError),
    /// Two sections say different things about one file, or claim the same bytes of it. They are
    /// not of one record, or their author is at fault.
    #[error("file {0} differs between two sections; open the sections of one record only")]
    Conflict(FileNumber),
    /// Two sections disagree on which record is amended.
    #[error("the sections amend different records; open the sections of one record only")]
    Amends,
    /// The files would be longer than the caller allows.
    #[error("the files need more than the {limit} bytes allowed here; write them to disk")]
    TooLong {
        /// Bytes allowed.
        limit: u64,
    },
    /// A file could not be written.
    #[error("a file could not be written; check that there is room and permission")]
    Write(#[source] io::Error),
}

/// Where the bytes of reassembled files go. Bytes come in no order; those never written are holes.
pub trait Destination {
    /// Writes bytes of a file at an offset. They lie within `file.whole`, and no byte comes twice.
    ///
    /// # Errors
    /// Whatever ends the reassembly.
    fn write_at(
        &mut self,
        file: &FileHead,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ReassemblyError>;
}

/// Collects sections of one record, in any order.
#[derive(Debug, Default)]
pub struct Reassembly {
    files: BTreeMap<FileNumber, Outline>,
    amends: Option<Option<Amends>>,
}

/// A file and what of it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    head: FileHead,
    /// Covered bytes: offset and end, apart from each other.
    covered: BTreeMap<u64, u64>,
}

impl Reassembly {
    /// Without any section.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the pieces of one section to a destination. Memory is constant beside the outline,
    /// which has at most one span for each piece.
    ///
    /// # Errors
    /// [`ReassemblyError`]. What was written before stays written; nothing is whole then, and the
    /// caller drops the destination.
    pub fn add<R: Read>(
        &mut self,
        section: &mut SectionReader<R>,
        to: &mut impl Destination,
    ) -> Result<(), ReassemblyError> {
        let amends = section.manifest().amends().copied();
        if *self.amends.get_or_insert(amends) != amends {
            return Err(ReassemblyError::Amends);
        }
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Some(mut piece) = section.next_piece()? {
            let head = piece.file().clone();
            self.cover(&head, piece.piece().span)?;
            let mut at = piece.piece().span.offset();
            loop {
                let count = match piece.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(SectionError::Io(error).into()),
                };
                to.write_at(&head, at, &buffer[..count])?;
                at += count as u64;
            }
        }
        Ok(())
    }

    /// The record that these sections amend, if they do.
    pub fn amends(&self) -> Option<&Amends> {
        self.amends.as_ref()?.as_ref()
    }

    /// The files of which there is something, by number.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Outline> {
        self.files.values()
    }

    /// Marks a span as covered; refuses one that is already.
    fn cover(&mut self, head: &FileHead, span: Span) -> Result<(), ReassemblyError> {
        assert!(
            self.files.len() <= FILES_MAX,
            "manifests hold only file numbers below 4,096"
        );
        let conflict = ReassemblyError::Conflict(head.number);
        let outline = self.files.entry(head.number).or_insert_with(|| Outline {
            head: head.clone(),
            covered: BTreeMap::new(),
        });
        if outline.head != *head {
            return Err(conflict);
        }
        let before = outline
            .covered
            .range(..=span.offset())
            .next_back()
            .map(|(a, b)| (*a, *b));
        let behind = outline
            .covered
            .range(span.offset()..)
            .next()
            .map(|(a, b)| (*a, *b));
        if before.is_some_and(|(_, end)| end > span.offset())
            || behind.is_some_and(|(begin, _)| begin < span.end())
        {
            return Err(conflict);
        }
        if span.is_empty() {
            return Ok(());
        }
        // Neighbours are joined, so a whole file is one span.
        let mut joined = (span.offset(), span.end());
        if let Some((begin, end)) = before
            && end == span.offset()
        {
            joined.0 = begin;
        }
        if let Some((begin, end)) = behind
            && begin == span.end()
        {
            outline.covered.remove(&begin);
            joined.1 = end;
        }
        outline.covered.insert(joined.0, joined.1);
        Ok(())
    }
}

impl Outline {
    /// Number, name, media type and length.
    pub fn head(&self) -> &FileHead {
        &self.head
    }

    /// The spans that no opened section has, in order. None if the file is whole.
    pub fn holes(&self) -> Vec<Span> {
        let mut holes = Vec::new();
        let mut at = 0;
        for (&begin, &end) in &self.covered {
            if at < begin {
                holes.push(Span::between(at, begin));
            }
            at = end;
        }
        if at < self.head.whole.end() {
            holes.push(Span::between(at, self.head.whole.end()));
        }
        holes
    }

    /// Whether every byte is there: the file is then the one that was stored.
    pub fn is_whole(&self) -> bool {
        self.holes().is_empty()
    }
}

/// Files in memory, with zeros in the holes, up to a bound on their lengths together. Debug output
/// has their lengths, not their content.
#[derive(Clone, Default)]
pub struct MemoryFiles {
    files: BTreeMap<FileNumber, Vec<u8>>,
    bytes: u64,
    limit: u64,
}

impl MemoryFiles {
    /// At most so many bytes for all files together, holes included.
    pub fn with_limit(bytes: u64) -> Self {
        Self {
            limit: bytes,
            ..Self::default()
        }
    }

    /// The bytes of a file, holes filled with zeros; `None` if no byte of it was written.
    pub fn bytes(&self, file: FileNumber) -> Option<&[u8]> {
        self.files.get(&file).map(Vec::as_slice)
    }
}

impl fmt::Debug for MemoryFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "MemoryFiles({} files, {} bytes)",
            self.files.len(),
            self.bytes
        )
    }
}

impl Destination for MemoryFiles {
    fn write_at(
        &mut self,
        file: &FileHead,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ReassemblyError> {
        let too_long = || ReassemblyError::TooLong { limit: self.limit };
        if !self.files.contains_key(&file.number) {
            // The file's stated length is reserved only within the caller's bound.
            let total = self
                .bytes
                .checked_add(file.whole.length())
                .ok_or_else(too_long)?;
            if total > self.limit {
                return Err(too_long());
            }
            let length = usize::try_from(file.whole.length()).map_err(|_| too_long())?;
            self.files.insert(file.number, vec![0; length]);
            self.bytes = total;
        }
        let begin = usize::try_from(offset).map_err(|_| too_long())?;
        let place = self
            .files
            .get_mut(&file.number)
            .and_then(|whole| whole.get_mut(begin..));
        let place = place.and_then(|rest| rest.get_mut(..bytes.len()));
        place
            .ok_or(ReassemblyError::Conflict(file.number))?
            .copy_from_slice(bytes);
        Ok(())
    }
}

/// Files that can be written anywhere, opened one at a time by a function. The function must not
/// empty a file that it opened before; sections that come in turn open the same file again.
pub struct Writers<F, W> {
    open: F,
    current: Option<(FileNumber, W, u64)>,
}

impl<F, W> Writers<F, W>
where
    F: FnMut(&FileHead) -> io::Result<W>,
    W: Write + Seek,
{
    /// Opens files with this function.
    pub fn new(open: F) -> Self {
        Self {
            open,
            current: None,
        }
    }

    /// Flushes the last file written to. Without it a writer that buffers may lose bytes silently.
    ///
    /// # Errors
    /// [`ReassemblyError::Write`].
    pub fn finish(&mut self) -> Result<(), ReassemblyError> {
        match self.current.take() {
            Some((_, mut writer, _)) => writer.flush().map_err(ReassemblyError::Write),
            None => Ok(()),
        }
    }
}

impl<F, W> fmt::Debug for Writers<F, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writers").finish_non_exhaustive()
    }
}

impl<F, W> Destination for Writers<F, W>
where
    F: FnMut(&FileHead) -> io::Result<W>,
    W: Write + Seek,
{
    fn write_at(
        &mut self,
        file: &FileHead,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ReassemblyError> {
        if self
            .current
            .as_ref()
            .is_some_and(|(number, ..)| *number != file.number)
        {
            self.finish()?;
        }
        let (mut writer, mut at) = match self.current.take() {
            Some((_, writer, at)) => (writer, at),
            None => ((self.open)(file).map_err(ReassemblyError::Write)?, u64::MAX),
        };
        if at != offset {
            writer
                .seek(SeekFrom::Start(offset))
                .map_err(ReassemblyError::Write)?;
            at = offset;
        }
        writer.write_all(bytes).map_err(ReassemblyError::Write)?;
        self.current = Some((file.number, writer, at + bytes.len() as u64));
        Ok(())
    }
}
