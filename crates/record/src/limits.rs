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

/// Distinct keywords gathered from one file, and of codes and of other kinds from one record, before
/// the record's choice is made: four times [`KEYWORDS_MAX`], at most 4,092 x 256 bytes = 1 MiB.
pub const KEYWORDS_PER_FILE_MAX: usize = 4 * KEYWORDS_MAX;

/// Oddities listed for one file; further ones are counted only. 64 fill a screen.
pub const ODDITIES_MAX: usize = 64;

/// Elements of a DICOM file that are walked through. Real headers have 100 to 3,000 elements,
/// enhanced multi-frame ones up to about 100 per frame and 500 frames: 50,000.
pub const DICOM_ELEMENTS_MAX: usize = 65_536;

/// Nested sequences and items of undefined length in a DICOM header. Real ones stay below 16.
pub const DICOM_DEPTH_MAX: usize = 64;

/// Bytes of a DICOM value that is read: UI values have at most 64 (PS3.5 section 6.2), and the CS
/// values of interest are one word of at most 16.
pub const DICOM_VALUE_BYTES_MAX: usize = 64;

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
