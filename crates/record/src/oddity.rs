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
    /// The file has more entries, lines, sections or runs of segments than are told apart: it is one
    /// piece of class other.
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
    /// A line of a file of resources is not JSON: it is of class other.
    BadLine {
        /// Where the scanner stopped.
        at: u64,
        /// What it found there.
        fault: JsonFault,
    },
    /// An entry of a Bundle, or a line, is not an object with a resource: it is of class other.
    NoResource {
        /// Where the entry or line begins.
        at: u64,
    },
    /// A resource has no known type: it is of class other.
    UnknownType {
        /// Where the entry begins.
        at: u64,
    },
    /// The category, document type or code that decides the class of this resource, segment or section
    /// is missing or unknown: the table's answer for that case was taken.
    NoCategory {
        /// Where the entry, segment or element begins.
        at: u64,
        /// The resource type, the segment's name or the element's.
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
    /// The HL7 v2 file is longer than is read: it is one piece of class other.
    Hl7TooLong,
    /// A message names separators that it does not use so, or too few: the usual ones were taken for
    /// those.
    Separators {
        /// Where the message begins.
        at: u64,
    },
    /// A line of a message is no segment: it goes with the segment before it.
    NoSegment {
        /// Where the line begins.
        at: u64,
    },
    /// A segment that HL7 v2 may have and this crate does not know: it is of class other.
    UnknownSegment {
        /// Where the segment begins.
        at: u64,
    },
    /// The file is named as HL7 v2 and is none.
    NotHl7,
    /// The XML is longer than is read: it is one piece of class other.
    XmlTooLong,
    /// The clinical document or FHIR file is not well-formed XML: it is one piece of class other.
    NotXml {
        /// Where the reader stopped.
        at: u64,
    },
    /// The clinical document or FHIR file is nested too deeply: it is one piece of class other.
    XmlTooDeep {
        /// Where the element begins.
        at: u64,
    },
    /// The XML declares a document type, which is not read: what it defines stays undefined.
    DocumentType,
    /// The clinical document has something outside its sections that no document has there: what
    /// stands outside sections is of class other.
    UnknownElement {
        /// Where it begins.
        at: u64,
    },
    /// A component of a clinical document has two sections, or a section two codes: it is of class
    /// other.
    SectionTwice {
        /// Where the component begins.
        at: u64,
    },
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
            Self::TooManyEntries => f.write_str("has more than 65,536 entries, lines or sections"),
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
            Self::BadLine { at, fault } => {
                write!(f, "has a line that is not JSON: {fault} at byte {at}")
            }
            Self::NoResource { at } => {
                write!(f, "has an entry or line without a resource at byte {at}")
            }
            Self::UnknownType { at } => {
                write!(f, "has a resource of unknown type at byte {at}")
            }
            Self::NoCategory { at, resource } => {
                write!(
                    f,
                    "has a {resource} without a known category, type or code at byte {at}"
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
            Self::Hl7TooLong => {
                f.write_str("is HL7 v2 of more than 256 MiB and was not looked into")
            }
            Self::Separators { at } => {
                write!(f, "has a message with unusual separators at byte {at}")
            }
            Self::NoSegment { at } => write!(f, "has a line that is no segment at byte {at}"),
            Self::UnknownSegment { at } => write!(f, "has an unknown segment at byte {at}"),
            Self::NotHl7 => f.write_str("is named as HL7 v2 and is none"),
            Self::XmlTooLong => f.write_str("is XML of more than 64 MiB and was not looked into"),
            Self::NotXml { at } => {
                write!(f, "is not well-formed XML at byte {at}")
            }
            Self::XmlTooDeep { at } => {
                write!(f, "is XML and nested too deeply at byte {at}")
            }
            Self::DocumentType => f.write_str("declares a document type, which is not read"),
            Self::UnknownElement { at } => {
                write!(
                    f,
                    "has something at byte {at} that no clinical document has there"
                )
            }
            Self::SectionTwice { at } => {
                write!(f, "has two sections or two codes of a section at byte {at}")
            }
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
