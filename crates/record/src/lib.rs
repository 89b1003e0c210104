//! A medical record as values and bytes: files kept byte for byte, section classes, keywords, and
//! the layout of a section's plaintext. `spec/formats.md` is the specification; R1 to R6 there are
//! cited here.
//!
//! A record is made of files. Each file is understood: its bytes are cut into pieces of one
//! [`SectionClass`] each, and it gets [`Keyword`]s and a [`Description`]. FHIR R4 in JSON and XML, lines
//! of FHIR resources, HL7 v2 messages and clinical documents are cut, DICOM files are imaging. The pieces of one class, of all files, are one
//! [`Section`], the unit that is sealed and granted. Whoever opens every section gets the files back
//! as they were; whoever opens some gets those pieces, and holes. Odd files are never refused:
//! [`Oddity`] says what is odd, and what is not understood is of class other.
//!
//! ```
//! use record::{MemoryFile, MemoryFiles, Keyword, Reassembly, Record, SectionClass, SectionReader};
//!
//! let bundle = br#"{"resourceType": "Bundle", "type": "collection", "entry": [
//!     {"resource": {"resourceType": "Patient", "id": "p"}},
//!     {"resource": {"resourceType": "Condition", "code": {"coding": [
//!         {"system": "http://snomed.info/sct", "code": "230690007"}]}}}
//! ]}"#;
//! let mut record = Record::new();
//! let file = record.add("stay.json", MemoryFile::new(*bundle))?.head().number;
//!
//! let (keywords, _) = record.keywords();
//! assert!(keywords.contains(&Keyword::parse("code snomed 230690007")?));
//! let sections: Vec<_> = record.sections().collect();
//! let classes: Vec<_> = sections.iter().map(|section| section.class()).collect();
//! assert_eq!(classes, [SectionClass::Homepage, SectionClass::History]);
//!
//! // What would be sealed and opened between these two lines is a stream of known length.
//! let mut files = MemoryFiles::with_limit(1 << 20);
//! let mut reassembly = Reassembly::new();
//! for section in &sections {
//!     reassembly.add(&mut SectionReader::new(section.reader())?, &mut files)?;
//! }
//! assert!(reassembly.files().all(|file| file.is_whole()));
//! assert_eq!(files.bytes(file), Some(&bundle[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cda;
mod cda_classes;
mod class;
mod description;
mod dicom;
mod fhir;
mod fhir_classes;
mod fhir_xml;
mod file;
mod gathering;
mod hl7v2;
mod hl7v2_classes;
mod json;
mod keyword;
mod limits;
mod ndjson;
mod oddity;
mod reassembly;
mod record;
mod section;
mod systems;
mod tables;
mod understand;
mod words;
mod xml;

pub use class::SectionClass;
pub use description::{Description, DocumentType, Line, Period};
pub use file::{FileError, FileHead, FileName, FileNumber, MediaType, Span};
pub use keyword::{Keyword, KeywordError, KeywordSet};
pub use limits::{
    CODINGS_PER_RESOURCE_MAX, DICOM_DEPTH_MAX, DICOM_ELEMENTS_MAX, DICOM_TEXT_BYTES_MAX,
    DICOM_VALUE_BYTES_MAX, ENTRIES_MAX, FILE_BYTES_MAX, FILE_NAME_BYTES_MAX, FILES_MAX,
    HAN_RUN_CHARS_MAX, HL7_BYTES_MAX, JSON_BYTES_MAX, JSON_DEPTH_MAX, JSON_TEXT_BYTES_MAX,
    KEYWORD_BYTES_MAX, KEYWORDS_MAX, KEYWORDS_PER_FILE_MAX, LINE_BYTES_MAX, MANIFEST_BYTES_MAX,
    MEDIA_TYPE_BYTES_MAX, ODDITIES_MAX, PIECES_MAX, RECORD_BYTES_MAX, SECTION_HEAD_BYTES,
    SEGMENT_BYTES_MAX, WORD_BYTES_MAX, XML_BYTES_MAX, XML_DEPTH_MAX,
};
pub use oddity::{JsonFault, Oddities, Oddity};
pub use reassembly::{Destination, MemoryFiles, Outline, Reassembly, ReassemblyError, Writers};
pub use record::{
    Bytes, DiskFile, MemoryFile, Record, RecordError, RecordFile, Section, SectionStream, Source,
};
pub use section::{
    Amends, Manifest, ParsedSection, PieceReader, SectionError, SectionPiece, SectionReader,
    parse_section,
};
pub use understand::{Piece, PieceKind, Understanding, understand, understand_stream};
