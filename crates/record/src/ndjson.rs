//! Lines of FHIR resources (NDJSON): each line is a piece of the class of its resource
//! (`spec/formats.md` R4.1). One pass in constant memory, but for the pieces.

use std::io::{self, BufRead, Read};

use crate::fhir;
use crate::file::Span;
use crate::gathering::{Gathering, NotUnderstood, Understood};
use crate::json::Buffer;
use crate::limits::ENTRIES_MAX;
use crate::oddity::{Oddities, Oddity};
use crate::understand::{Piece, PieceKind};

/// What a file was found to be, and how many of its lines are resources: a file that is not named so
/// is one of lines only if two are.
pub(crate) struct FoundLines {
    pub(crate) understood: Understood,
    pub(crate) resources: usize,
    pub(crate) oddities: Oddities,
}

/// Scans lines from offset `begin` of a file of `length` bytes.
pub(crate) fn scan<R: BufRead>(
    source: R,
    begin: u64,
    length: u64,
) -> Result<FoundLines, NotUnderstood> {
    let mut lines = Lines {
        source,
        at: begin,
        ended: true,
    };
    let mut gathered = Gathering::new();
    let mut oddities = Oddities::default();
    let mut buffer = Buffer::default();
    let mut begun = Vec::new();
    let mut resources = 0;
    let mut not_utf8 = None;
    while lines.next()? {
        if begun.len() >= ENTRIES_MAX {
            return Err(NotUnderstood::Odd(Oddity::TooManyEntries));
        }
        let at = lines.at;
        let found = fhir::scan_line(&mut lines, at, &mut buffer, &mut gathered, &mut oddities)?;
        resources += usize::from(found.is_resource);
        not_utf8 = not_utf8.or(found.not_utf8);
        begun.push((at, found.class));
    }
    if let Some(at) = not_utf8 {
        oddities.note(Oddity::NotUtf8 { at });
    }
    // A stream that is shorter or longer than announced was changed while it was read.
    if lines.at != length {
        return Err(NotUnderstood::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    // What stands before the first line goes with it, what stands behind a line with that line.
    let ends = begun.iter().skip(1).map(|(at, _)| *at).chain([length]);
    let mut from = 0;
    let mut pieces = Vec::with_capacity(begun.len());
    for ((_, class), end) in begun.iter().zip(ends) {
        pieces.push(Piece::new(
            *class,
            PieceKind::Line,
            Span::between(from, end),
        ));
        from = end;
    }
    Ok(FoundLines {
        understood: Understood {
            media_type: "application/fhir+ndjson",
            pieces,
            gathered,
        },
        resources,
        oddities,
    })
}

/// A stream that ends at the end of each line until it is told to go on.
struct Lines<R> {
    source: R,
    at: u64,
    /// Whether the current line was read to its end.
    ended: bool,
}

impl<R: BufRead> Lines<R> {
    /// Goes to the next line that is not blank; `false` at the file's end.
    fn next(&mut self) -> io::Result<bool> {
        while !self.ended {
            self.pass(|byte| byte != b'\n')?;
            self.end_line()?;
        }
        self.pass(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))?;
        self.ended = false;
        Ok(!self.fill()?.is_empty())
    }

    /// Passes over the line's end, or finds the file's.
    fn end_line(&mut self) -> io::Result<()> {
        let count = self.fill()?.len().min(1);
        self.source.consume(count);
        self.at += count as u64;
        self.ended = true;
        Ok(())
    }

    fn pass(&mut self, passes: impl Fn(u8) -> bool) -> io::Result<()> {
        loop {
            let fresh = self.fill()?;
            let count = fresh.iter().take_while(|byte| passes(**byte)).count();
            let whole = count == fresh.len();
            let at_end = fresh.is_empty();
            self.source.consume(count);
            self.at += count as u64;
            if at_end || !whole {
                return Ok(());
            }
        }
    }

    fn fill(&mut self) -> io::Result<&[u8]> {
        // The first call waits for bytes; the second has them, so that an interruption is passed over.
        while let Err(error) = self.source.fill_buf() {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        self.source.fill_buf()
    }
}

impl<R: BufRead> Read for Lines<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ended || out.is_empty() {
            return Ok(0);
        }
        let fresh = self.fill()?;
        let fresh = fresh.get(..out.len()).unwrap_or(fresh);
        let line_end = fresh.iter().position(|byte| *byte == b'\n');
        let count = line_end.map_or(fresh.len(), |end| end + 1);
        for (to, from) in out.iter_mut().zip(fresh.iter().take(count)) {
            *to = *from;
        }
        self.source.consume(count);
        self.at += count as u64;
        self.ended = line_end.is_some() || count == 0;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn lines_are_pieces_with_the_blank_space_behind_them() {
        let text =
            b"\n {\"resourceType\":\"Patient\"}\r\n\n{\"resourceType\":\"Condition\"} \n[1]\nx";
        let found = scan(BufReader::with_capacity(3, &text[..]), 0, text.len() as u64);
        let Ok(found) = found else {
            panic!("the stream does not fail")
        };
        let cut: Vec<(&str, &str)> = found
            .understood
            .pieces
            .iter()
            .map(|piece| {
                let span = piece.span().offset() as usize..piece.span().end() as usize;
                (
                    piece.class().name(),
                    std::str::from_utf8(&text[span]).unwrap(),
                )
            })
            .collect();
        assert_eq!(
            cut,
            [
                ("homepage", "\n {\"resourceType\":\"Patient\"}\r\n\n"),
                ("history", "{\"resourceType\":\"Condition\"} \n"),
                ("other", "[1]\n"),
                ("other", "x"),
            ]
        );
        assert_eq!((found.resources, found.oddities.first().len()), (2, 2));
    }
}
