//! Files of medical records of every format, and sections as they come out of a container.

use std::io::Read as _;

use record::{
    ENTRIES_MAX, FileName, KEYWORDS_MAX, KEYWORDS_PER_FILE_MAX, Keyword, MemoryFile, MemoryFiles,
    ODDITIES_MAX, Outline, Reassembly, Record, SectionReader, parse_section, understand,
    understand_stream,
};

use crate::input::Input;

/// Names by which files come; what is in one need not be what its name says.
const NAMES: [&str; 8] = [
    "a.json", "a.xml", "a.hl7", "a.ndjson", "a.dcm", "DICOMDIR", "a.pdf", "a",
];

/// A name by the first byte, and the file: its pieces tile it, it comes back byte for byte through its
/// sections, and everything has its bound.
pub fn files(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let name = NAMES[input.below(NAMES.len())];
    let bytes = input.rest();
    let file_name = FileName::new(name).expect("a plain name");
    let found = understand(&file_name, bytes);
    let mut at = 0;
    for piece in &found.pieces {
        assert_eq!(piece.span().offset(), at);
        assert!(!piece.span().is_empty() || bytes.is_empty());
        at = piece.span().end();
    }
    assert_eq!(at, bytes.len() as u64);
    assert!((1..=2 * ENTRIES_MAX + 1).contains(&found.pieces.len()));
    assert!(found.keywords.len() <= KEYWORDS_PER_FILE_MAX + KEYWORDS_MAX);
    for keyword in &found.keywords {
        let again = Keyword::parse(keyword.as_str());
        assert!(
            again.as_ref() == Ok(keyword),
            "{keyword:?} is not canonical"
        );
    }
    assert!(found.oddities.first().len() <= ODDITIES_MAX);
    for oddity in found.oddities.first() {
        assert!(!oddity.to_string().is_empty());
    }
    // A file on a disk is understood as one in memory.
    let streamed = understand_stream(&file_name, &mut std::io::Cursor::new(bytes));
    let streamed = streamed.expect("memory is read");
    assert!(streamed.pieces == found.pieces && streamed.keywords == found.keywords);

    let mut record = Record::new();
    let added = record
        .add(name, MemoryFile::new(bytes))
        .expect("a plain name");
    let number = added.head().number;
    let mut files = MemoryFiles::with_limit(bytes.len() as u64);
    let mut reassembly = Reassembly::new();
    for section in record.sections() {
        let mut plaintext = Vec::new();
        section
            .reader()
            .read_to_end(&mut plaintext)
            .expect("memory is read");
        assert_eq!(plaintext.len() as u64, section.length());
        let parsed = parse_section(&plaintext).expect("an own section");
        assert!(parsed.entries().count() <= section.manifest().pieces().len());
        let mut reader = SectionReader::new(plaintext.as_slice()).expect("an own section");
        reassembly
            .add(&mut reader, &mut files)
            .expect("an own section");
    }
    assert!(reassembly.files().all(Outline::is_whole));
    assert!(
        files.bytes(number).unwrap_or_default() == bytes,
        "it does not come back"
    );
}

/// A section's plaintext, which a doctor elsewhere made: read in memory and as a stream it is the same, and
/// no part of it lands where it does not belong. With a first byte that is odd, it comes a second time.
pub fn sections(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let twice = input.u8() % 2 == 1;
    let bytes = input.rest();
    let parsed = parse_section(bytes);
    let mut streamed = SectionReader::new(bytes);
    match (&parsed, &mut streamed) {
        (Ok(parsed), Ok(reader)) => {
            assert!(parsed.manifest() == reader.manifest());
            for (piece, content) in parsed.pieces() {
                let mut next = reader
                    .next_piece()
                    .expect("it is whole")
                    .expect("as many pieces");
                assert!(next.piece() == *piece);
                let mut read = Vec::new();
                next.read_to_end(&mut read).expect("it is whole");
                assert!(read == content);
            }
            assert!(reader.next_piece().expect("it is whole").is_none());
        }
        (Ok(_), Err(error)) => panic!("a stream is refused: {error}"),
        _ => {}
    }
    let mut files = MemoryFiles::with_limit(1 << 20);
    let mut reassembly = Reassembly::new();
    for _ in 0..1 + usize::from(twice) {
        let Ok(mut reader) = SectionReader::new(bytes) else {
            break;
        };
        let added = reassembly.add(&mut reader, &mut files);
        assert!(
            parsed.is_ok() || added.is_err(),
            "what is no section is taken"
        );
    }
    for file in reassembly.files() {
        let whole = file.head();
        let held = files.bytes(whole.number).unwrap_or_default();
        assert!(held.len() as u64 <= whole.whole.length());
        for hole in file.holes() {
            assert!(!hole.is_empty() && hole.end() <= whole.whole.length());
        }
    }
}

/// Samples of every format.
const SAMPLES: [(usize, &[u8]); 13] = [
    (
        0,
        include_bytes!("../../../samples/formats/document-bundle.json"),
    ),
    (
        3,
        include_bytes!("../../../samples/formats/bulk-export.ndjson"),
    ),
    (1, include_bytes!("../../../samples/formats/bundle.xml")),
    (
        1,
        include_bytes!("../../../samples/formats/stroke-referral.xml"),
    ),
    (
        1,
        include_bytes!("../../../samples/formats/family-history-section.xml"),
    ),
    (2, include_bytes!("../../../samples/formats/laboratory.hl7")),
    (2, include_bytes!("../../../samples/formats/discharge.hl7")),
    (
        2,
        include_bytes!("../../../samples/community-hospital/admission.hl7"),
    ),
    (
        4,
        include_bytes!("../../../samples/secondary-hospital/ct-head/17106"),
    ),
    (
        4,
        include_bytes!("../../../samples/formats/enhanced-mr.dcm"),
    ),
    (
        5,
        include_bytes!("../../../samples/formats/dicomdir/DICOMDIR"),
    ),
    (
        6,
        include_bytes!("../../../samples/formats/referral-letter.pdf"),
    ),
    (
        1,
        include_bytes!("../../../samples/secondary-hospital/discharge-summary.xml"),
    ),
];

/// A sample is longer than what teaches a fuzzer anything.
const SAMPLE_BYTES_MAX: usize = 24 * 1024;

/// Samples that are short enough, by the place of a name in [`NAMES`].
pub(crate) fn samples() -> impl Iterator<Item = (usize, &'static [u8])> {
    SAMPLES
        .into_iter()
        .filter(|(_, sample)| sample.len() <= SAMPLE_BYTES_MAX)
}

/// Each sample, and each line of the one of lines.
pub fn file_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = samples()
        .map(|(name, sample)| [&[name as u8], sample].concat())
        .collect();
    let (_, lines) = SAMPLES[1];
    for line in lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        seeds.push([&[0], line].concat());
    }
    seeds.push(vec![7]);
    seeds
}

/// The sections of each sample.
pub fn section_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (name, sample) in samples().filter(|(_, sample)| sample.len() <= 8 * 1024) {
        let mut record = Record::new();
        let added = record.add(NAMES[name], MemoryFile::new(sample));
        added.expect("a plain name");
        for section in record.sections() {
            let mut plaintext = vec![(seeds.len() % 2) as u8];
            section
                .reader()
                .read_to_end(&mut plaintext)
                .expect("memory is read");
            seeds.push(plaintext);
        }
    }
    seeds
}
