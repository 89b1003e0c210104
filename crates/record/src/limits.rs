//! Every bound of this crate, with its arithmetic.

/// Files of one record. A CT angiography series has up to about 2,000 slices, one file each, and a
/// referral brings two or three series; 4,096 is the next power of two above that.
pub const FILES_MAX: usize = 4_096;

/// Bytes of a file name: the longest name that common file systems store.
pub const FILE_NAME_BYTES_MAX: usize = 255;

/// Bytes of a media type: RFC 6838 section 4.2 allows 127 on each side of the slash; registered
/// ones stay below 80 in all.
pub const MEDIA_TYPE_BYTES_MAX: usize = 127;

/// Bytes of one file: 256 GiB, about a thousand times the largest imaging study.
pub const FILE_BYTES_MAX: u64 = 1 << 38;

/// Bytes of one record, all files together: 512 GiB. A section has at most these and its manifest,
/// which is below the 2^40 bytes that the container allows a section.
pub const RECORD_BYTES_MAX: u64 = 1 << 39;

/// Bytes of a JSON file that is scanned for its entries: 1 GiB, which takes seconds. A larger one
/// is kept as a piece of class other.
pub const JSON_BYTES_MAX: u64 = 1 << 30;

/// Entries of one FHIR Bundle. A stay of weeks with hourly vital signs makes about 2,000; 65,536 is
/// 30 times that. An entry in progress costs 24 bytes, so a Bundle costs at most 1.5 MiB.
pub const ENTRIES_MAX: usize = 65_536;

/// Pieces of one record: two Bundles at [`ENTRIES_MAX`], or 4,096 files of 32 pieces. At 24 bytes
/// in memory that is at most 3 MiB.
pub const PIECES_MAX: usize = 131_072;

/// Open objects and arrays in JSON. FHIR resources reach about 20; 128 is also where `serde_json`
/// stops. The scanner keeps one byte per level and never recurses.
pub const JSON_DEPTH_MAX: usize = 128;

/// Bytes of a JSON string that the scanner keeps; longer ones are passed over. The longest texts
/// that decide anything are code system URIs, below 200 bytes.
pub const JSON_TEXT_BYTES_MAX: usize = 512;

/// Codings of one resource that become keywords. A panel with 30 components in three code systems
/// has 93; 256 leaves room and bounds a resource in progress to 256 keywords.
pub const CODINGS_PER_RESOURCE_MAX: usize = 256;

/// Bytes of a keyword's canonical form: a code system URI (below 200) and a code (below 50).
pub const KEYWORD_BYTES_MAX: usize = 256;

/// Keywords of one record. With the empty keyword, which the scheme adds, they are 1,024, a
/// multiple of the 8 to which index entries are padded; 1,024 entries are 32 KiB on the chain.
pub const KEYWORDS_MAX: usize = 1_023;

/// Distinct keywords gathered from one file beside words, and of codes and of other kinds from one
/// record, before the record's choice is made: four times [`KEYWORDS_MAX`], at most 4,092 x 256 bytes
/// = 1 MiB. Words come last, so of a file and of a record no more than [`KEYWORDS_MAX`] are gathered.
pub const KEYWORDS_PER_FILE_MAX: usize = 4 * KEYWORDS_MAX;

/// Bytes of a word that is searched for. The longest medical terms have about 30 letters, of up to two
/// bytes in most scripts; four Chinese or Japanese characters have at most 16.
pub const WORD_BYTES_MAX: usize = 64;

/// Characters of a run of Chinese or Japanese ones whose parts are searched for: 11 parts of two
/// characters, 10 of three and 9 of four. Names of diseases have two to ten.
pub const HAN_RUN_CHARS_MAX: usize = 12;

/// Bytes of a title, an origin, or a part of a document type.
pub const LINE_BYTES_MAX: usize = 256;

/// Texts of one resource that are kept until its type is known: titles, names, displays of codes.
/// Real ones have up to about 10; 16 of 512 bytes are 8 KiB.
pub(crate) const TEXTS_PER_RESOURCE_MAX: usize = 16;

/// Oddities listed for one file; further ones are counted only. 64 fill a screen.
pub const ODDITIES_MAX: usize = 64;

/// Elements of a DICOM file that are walked through. Real headers have 100 to 3,000 elements,
/// enhanced multi-frame ones up to about 100 per frame and 500 frames: 50,000.
pub const DICOM_ELEMENTS_MAX: usize = 65_536;

/// Nested sequences and items of undefined length in a DICOM header. Real ones stay below 16.
pub const DICOM_DEPTH_MAX: usize = 64;

/// Bytes of a DICOM value that decides a keyword: UI values have at most 64 (PS3.5 section 6.2), CS and
/// SH values of interest are one word of at most 16.
pub const DICOM_VALUE_BYTES_MAX: usize = 64;

/// Bytes of a DICOM text that is read: LO values have at most 64 characters (PS3.5 section 6.2), which
/// are up to 256 bytes.
pub const DICOM_TEXT_BYTES_MAX: usize = 256;

/// Bytes of an HL7 v2 file that is read: 256 MiB, which takes seconds, or half a minute if it is made of
/// the shortest segments. A message with a document in it has up to about 50 MiB.
pub const HL7_BYTES_MAX: u64 = 1 << 28;

/// Bytes of one HL7 v2 segment that are looked at. What decides a class or a keyword stands in the
/// first few hundred; what follows, such as a document in OBX-5, is passed over.
pub const SEGMENT_BYTES_MAX: usize = 16 * 1024;

/// Bytes of an XML file that is read. A clinical document with pictures in it has up to about 20 MiB;
/// one text of it is in memory at a time.
pub const XML_BYTES_MAX: u64 = 64 << 20;

/// Open elements of an XML file. Clinical documents reach about 30.
pub const XML_DEPTH_MAX: usize = 256;

/// Attributes of one XML element that are looked at. Those of a clinical document have up to about 10.
pub(crate) const XML_ATTRIBUTES_MAX: usize = 64;

/// Bytes before the manifest of a section: version, class, manifest length.
pub const SECTION_HEAD_BYTES: usize = 1 + 1 + 4;

/// Bytes of a section's manifest. Amendment 1 + 32 + 32; two counts of 4; per file 4 + 8 and two
/// texts with lengths, 4 + 255 and 4 + 127, which is 402; per piece 4 + 1 + 8 + 8 = 21:
/// 73 + 4,096 x 402 + 131,072 x 21 = 4,399,177 bytes.
pub const MANIFEST_BYTES_MAX: usize = 73
    + FILES_MAX * (4 + 8 + 4 + FILE_NAME_BYTES_MAX + 4 + MEDIA_TYPE_BYTES_MAX)
    + PIECES_MAX * (4 + 1 + 8 + 8);

/// Bytes that are moved at once: enough that calls cost little, small enough to be constant.
pub(crate) const BUFFER_BYTES: usize = 16 * 1024;

const _: () = assert!(MANIFEST_BYTES_MAX == 4_399_177);
const _: () =
    assert!((SECTION_HEAD_BYTES + MANIFEST_BYTES_MAX) as u64 + RECORD_BYTES_MAX <= 1 << 40);
