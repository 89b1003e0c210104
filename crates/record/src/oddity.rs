//! What is odd about a file. Odd files are kept all the same.

use std::fmt;

use crate::limits::ODDITIES_MAX;

/// Something about a file that its format does not allow, or that this crate does not understand.
/// Nothing is refused because of it; who stores the file is told. Offsets are bytes from the file's
/// begin.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Oddity {
    /// The file's name was not usable and was changed.
    NameChanged,
    /// The file begins with a byte order mark, which JSON does not allow.
    ByteOrderMark,
    /// Bytes from this offset on are not UTF-8.
    NotUtf8 {
        /// Where the first such byte stands.
        at: u64,
    },
    /// The file begins like JSON and is none: it is one piece of class other.
    NotJson {
        /// Where the scanner stopped.
        at: u64,
        /// What it found there.
        fault: JsonFault,
    },
    /// JSON without a resource type: it is one piece of class other.
    NotFhir,
    /// The JSON is longer than is scanned: it is one piece of class other.
    JsonTooLong,
    /// The Bundle has more entries than are told apart: it is one piece of class other.
    TooManyEntries,
    /// The record has more pieces than it may have: the file is one piece of class other.
    TooManyPieces,
    /// The Bundle has a member that no Bundle has; what stands outside entries is of class other.
    UnknownBundleMember {
        /// Where the member's name begins.
        at: u64,
    },
    /// An entry of a Bundle, or the file, has a member twice that decides its class: it is of class
    /// other.
    MemberTwice {
        /// Where the entry begins.
        at: u64,
        /// The member's name.
        member: &'static str,
    },
    /// An entry of a Bundle is not an object with a resource: it is of class other.
    NoResource {
        /// Where the entry begins.
        at: u64,
    },
    /// A resource has no known type: it is of class other.
    UnknownType {
        /// Where the entry begins.
        at: u64,
    },
    /// The category or document type that decides the class of this resource type is missing or
    /// unknown: the table's answer for that case was taken.
    NoCategory {
        /// Where the entry begins.
        at: u64,
        /// The resource type.
        resource: &'static str,
    },
    /// A code, type or value cannot become a keyword: too long or with control characters.
    NoKeyword {
        /// Where the entry or file begins.
        at: u64,
    },
    /// Keywords found no room.
    KeywordsLeftOut {
        /// How many.
        count: usize,
    },
    /// A DICOM file without the 128 bytes of preamble.
    NoPreamble,
    /// The DICOM header ends before it should, or names a length beyond the file's end.
    DicomTruncated {
        /// Where the element begins.
        at: u64,
    },
    /// The DICOM header is nested too deeply, has too many elements, or one that cannot be.
    DicomUnreadable {
        /// Where the element begins.
        at: u64,
    },
    /// The DICOM data set is in implicit form, and its transfer syntax says otherwise.
    DicomOtherSyntax,
    /// The DICOM header is compressed (deflated transfer syntax) and was not read.
    DicomDeflated,
    /// The file is named as DICOM and is none.
    NotDicom,
}

/// Why a file that begins like JSON is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonFault {
    /// A byte that cannot stand there.
    Unexpected,
    /// The file ends inside a value.
    EndsEarly,
    /// More than 128 objects and arrays are open.
    TooDeep,
    /// Something follows the value.
    Trailing,
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameChanged => f.write_str("the file's name was not usable and was changed"),
            Self::ByteOrderMark => f.write_str("begins with a byte order mark"),
            Self::NotUtf8 { at } => write!(f, "is not UTF-8 at byte {at}"),
            Self::NotJson { at, fault } => write!(f, "is not JSON: {fault} at byte {at}"),
            Self::NotFhir => f.write_str("is JSON without a resource type"),
            Self::JsonTooLong => f.write_str("is JSON of more than 1 GiB and was not looked into"),
            Self::TooManyEntries => f.write_str("is a Bundle of more than 65,536 entries"),
            Self::TooManyPieces => f.write_str("does not fit into the record's 131,072 pieces"),
            Self::UnknownBundleMember { at } => {
                write!(f, "has a member at byte {at} that no Bundle has")
            }
            Self::MemberTwice { at, member } => {
                write!(
                    f,
                    "has the member {member} twice in the resource at byte {at}"
                )
            }
            Self::NoResource { at } => write!(f, "has an entry without a resource at byte {at}"),
            Self::UnknownType { at } => {
                write!(f, "has a resource of unknown type at byte {at}")
            }
            Self::NoCategory { at, resource } => {
                write!(
                    f,
                    "has a {resource} without a known category or type at byte {at}"
                )
            }
            Self::NoKeyword { at } => {
                write!(f, "has a code at byte {at} that cannot be searched for")
            }
            Self::KeywordsLeftOut { count } => {
                write!(
                    f,
                    "has {count} keywords that cannot be searched for: too many"
                )
            }
            Self::NoPreamble => f.write_str("is DICOM without its preamble"),
            Self::DicomTruncated { at } => write!(f, "is DICOM and ends early at byte {at}"),
            Self::DicomUnreadable { at } => write!(f, "is DICOM and unreadable at byte {at}"),
            Self::DicomOtherSyntax => f.write_str("is DICOM and not in its stated transfer syntax"),
            Self::DicomDeflated => f.write_str("is DICOM with a compressed header, not read"),
            Self::NotDicom => f.write_str("is named as DICOM and is none"),
        }
    }
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unexpected => "a byte that cannot stand there",
            Self::EndsEarly => "it ends too early",
            Self::TooDeep => "it is nested too deeply",
            Self::Trailing => "something follows its end",
        })
    }
}

/// The oddities of one file: the first 64, and how many more there were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Oddities {
    first: Vec<Oddity>,
    more: usize,
}

impl Oddities {
    /// The first 64, in the order in which they were met.
    pub fn first(&self) -> &[Oddity] {
        &self.first
    }

    /// How many there were beyond the first 64.
    pub fn more(&self) -> usize {
        self.more
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub(crate) fn append(&mut self, other: &Self) {
        for oddity in &other.first {
            self.note(oddity.clone());
        }
        self.more += other.more;
    }

    pub(crate) fn note(&mut self, oddity: Oddity) {
        if self.first.len() < ODDITIES_MAX {
            self.first.push(oddity);
        } else {
            self.more += 1;
        }
    }
}
