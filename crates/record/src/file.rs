//! Files of a record and spans of their bytes.

use std::fmt;

use thiserror::Error;

use crate::limits::{FILE_BYTES_MAX, FILE_NAME_BYTES_MAX, MEDIA_TYPE_BYTES_MAX};

/// Why a file's description is not acceptable. Received descriptions with such a fault come from a
/// faulty or hostile writer: the section is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FileError {
    /// A name is empty, too long, has a path separator or control character, or is `.` or `..`.
    #[error("the file name is not usable; give a plain name without folders, at most 255 bytes")]
    Name,
    /// A media type is not `type/subtype` in the characters of RFC 6838, or too long.
    #[error("the media type is not valid; give one like text/plain")]
    MediaType,
    /// A span or a file is longer than 256 GiB.
    #[error("a file of more than 256 GiB cannot be part of a record; split it")]
    TooLong,
}

/// The plain name of a file, without folders: 1 to 255 bytes of UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

impl FileName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`FileError::Name`] if it could leave a folder, hides characters, or is too long.
    pub fn new(name: &str) -> Result<Self, FileError> {
        let usable = !name.is_empty()
            && name.len() <= FILE_NAME_BYTES_MAX
            && name != "."
            && name != ".."
            && name.chars().all(is_plain);
        if usable {
            Ok(Self(name.to_owned()))
        } else {
            Err(FileError::Name)
        }
    }

    /// The nearest usable name: the part after the last separator, unusable characters replaced by
    /// `_`, cut to 255 bytes. A record is never refused for a file's name.
    pub fn nearest(name: &str) -> Self {
        let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
        let mut plain = String::new();
        for c in last.chars().map(|c| if is_plain(c) { c } else { '_' }) {
            if plain.len() + c.len_utf8() > FILE_NAME_BYTES_MAX {
                break;
            }
            plain.push(c);
        }
        if plain.is_empty() || plain == "." || plain == ".." {
            plain = "_".to_owned();
        }
        Self(plain)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the last dot, in lower case; empty if there is none.
    pub(crate) fn extension(&self) -> String {
        match self.0.rsplit_once('.') {
            Some((_, extension)) => extension.to_ascii_lowercase(),
            None => String::new(),
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A media type such as `application/fhir+json`: lower case, at most 127 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(String);

impl MediaType {
    /// Checks a media type and turns it to lower case. Parameters (`; charset=...`) are refused.
    ///
    /// # Errors
    /// [`FileError::MediaType`] if it is not `type/subtype`.
    pub fn new(text: &str) -> Result<Self, FileError> {
        let restricted =
            |part: &str| !part.is_empty() && part.bytes().all(|b| RESTRICTED.contains(&b));
        let lower = text.to_ascii_lowercase();
        let valid = lower.len() <= MEDIA_TYPE_BYTES_MAX
            && lower
                .split_once('/')
                .is_some_and(|(a, b)| restricted(a) && restricted(b));
        if valid {
            Ok(Self(lower))
        } else {
            Err(FileError::MediaType)
        }
    }

    /// The media type.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The position of a file in its record, from 0. It ties the pieces of a file in different sections
/// together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileNumber(u32);

impl FileNumber {
    /// From its number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for FileNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a section says about a file of which it has pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHead {
    /// Its position in the record.
    pub number: FileNumber,
    /// Its name.
    pub name: FileName,
    /// What it was taken for.
    pub media_type: MediaType,
    /// Its whole length, a span from 0.
    pub whole: Span,
}

/// Consecutive bytes of a file: an offset and a length in bytes, their sum at most 2^38.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    offset: u64,
    length: u64,
}

impl Span {
    /// `length` bytes from `offset` on.
    ///
    /// # Errors
    /// [`FileError::TooLong`] if it ends beyond 2^38.
    pub fn new(offset: u64, length: u64) -> Result<Self, FileError> {
        match offset.checked_add(length) {
            Some(end) if end <= FILE_BYTES_MAX => Ok(Self { offset, length }),
            _ => Err(FileError::TooLong),
        }
    }

    /// From offset to end, both already known to lie in one file.
    pub(crate) fn between(offset: u64, end: u64) -> Self {
        assert!(
            offset <= end && end <= FILE_BYTES_MAX,
            "spans lie within a checked file length"
        );
        Self {
            offset,
            length: end - offset,
        }
    }

    /// Where it begins, in bytes from the file's begin.
    pub const fn offset(self) -> u64 {
        self.offset
    }

    /// How many bytes it has.
    pub const fn length(self) -> u64 {
        self.length
    }

    /// Where it ends: the offset of the first byte behind it. At most 2^38.
    pub const fn end(self) -> u64 {
        self.offset + self.length
    }

    /// Whether it has no byte.
    pub const fn is_empty(self) -> bool {
        self.length == 0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.offset, self.end())
    }
}

/// A character that shows itself and separates nothing: no control characters, separators, or the
/// invisible ones that turn the writing direction around.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '/' | '\\')
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// RFC 6838 section 4.2, lower case.
const RESTRICTED: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789!#$&-^_.+";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_a_folder() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a\\b",
            "a\0b",
            "a\nb",
            "a\u{202e}b",
            &"x".repeat(256),
        ] {
            assert_eq!(FileName::new(bad), Err(FileError::Name), "{bad:?}");
            assert!(
                FileName::new(FileName::nearest(bad).as_str()).is_ok(),
                "{bad:?}"
            );
        }
        assert_eq!(
            FileName::nearest("../x/Ad\u{e1}n\n.json").as_str(),
            "Ad\u{e1}n_.json"
        );
        assert_eq!(FileName::nearest(&"\u{e1}".repeat(200)).as_str().len(), 254);
    }

    #[test]
    fn media_types_are_restricted_names() {
        assert_eq!(MediaType::new("Text/Plain").unwrap().as_str(), "text/plain");
        for bad in [
            "",
            "text",
            "text/",
            "/plain",
            "a/b/c",
            "text/plain; charset=utf-8",
            "t xt/p",
        ] {
            assert_eq!(MediaType::new(bad), Err(FileError::MediaType), "{bad:?}");
        }
    }

    #[test]
    fn spans_do_not_overflow() {
        assert_eq!(Span::new(u64::MAX, 1), Err(FileError::TooLong));
        assert_eq!(Span::new(FILE_BYTES_MAX, 1), Err(FileError::TooLong));
        assert_eq!(Span::new(FILE_BYTES_MAX, 0).unwrap().end(), FILE_BYTES_MAX);
    }
}
