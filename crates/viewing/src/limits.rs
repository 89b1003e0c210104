//! Every bound of this crate, with its arithmetic.

/// Resources of one file that are shown. A stay of weeks with hourly vital signs makes about 2,000;
/// this is the bound that a record has for the entries of one Bundle.
pub(crate) const RESOURCES_MAX: usize = 65_536;

/// Open objects and arrays of one resource. FHIR resources reach about 20.
pub(crate) const DEPTH_MAX: usize = 128;

/// Values of one resource: objects, arrays, texts and scalars together. An explanation of benefit
/// with a hundred items has about 10,000. At 64 bytes each this is 8 MiB, freed with the resource.
pub(crate) const VALUES_MAX: usize = 131_072;

/// Members of one element of a resource in XML. Resources have up to about 60.
pub(crate) const MEMBERS_MAX: usize = 1_024;

/// Bytes of one text that is read; a longer one is cut. A discharge letter has about 20 KiB.
pub(crate) const TEXT_BYTES_MAX: usize = 1 << 20;

/// Bytes of the text of one row.
pub(crate) const ROW_TEXT_BYTES_MAX: usize = 256 << 10;

/// Bytes of every other member of a row. A name, a value or a dosage has less than 200.
pub(crate) const WORDS_BYTES_MAX: usize = 1_024;

/// Items of one resource that are joined in a row: reactions, components, results, authors. A panel
/// has up to about 30 components.
pub(crate) const ITEMS_MAX: usize = 64;

/// Codes of one resource that are looked at.
pub(crate) const CODES_MAX: usize = 64;

/// Bytes of a clinical document or message that is read in parts; a larger one is shown as text. A
/// document with pictures in it has up to about 20 MiB.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// Open elements of an XML document. Clinical documents reach about 30.
pub(crate) const XML_DEPTH_MAX: usize = 256;

/// Sections of an XML document, and segments of a message, that become rows.
pub(crate) const ROWS_MAX: usize = 65_536;

/// Elements of one entry of a clinical document. A laboratory panel with 30 values has about 500; at
/// about 200 bytes each, 16,384 are 3 MiB, freed with the entry.
pub(crate) const ENTRY_ELEMENTS_MAX: usize = 16_384;

/// Frames of one DICOM file. Enhanced multi-frame files have up to about 2,000.
pub(crate) const FRAMES_MAX: usize = 4_096;

/// Pixels of one frame: 64 Mi, four times a mammogram of 4,096 x 4,096. In colour a picture needs
/// 192 MiB in memory.
pub(crate) const PIXELS_MAX: usize = 64 << 20;

/// Elements of a DICOM header that are walked through: 100 per frame and 500 frames are 50,000.
pub(crate) const ELEMENTS_MAX: usize = 1 << 20;

/// Nested sequences and items in a DICOM header. Real ones stay below 16.
pub(crate) const SEQUENCES_MAX: usize = 64;
