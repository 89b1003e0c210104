//! Ten thousand changed inputs of each format, and inputs made to do harm. None of them panics, loses a
//! byte, or grows beyond the limits; what is no longer understood says why.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod mutating;

use std::time::{Duration, Instant};

use mutating::{Numbers, mutate};
use record::{
    ENTRIES_MAX, FileName, KEYWORDS_MAX, KEYWORDS_PER_FILE_MAX, MemoryFile, MemoryFiles,
    ODDITIES_MAX, Oddity, PieceKind, Reassembly, Record, SectionClass, SectionReader,
    Understanding, parse_section, understand,
};

/// Inputs of each format.
const MUTATIONS: u64 = 10_000;

/// What holds for every file, whatever is in it.
fn check(name: &str, bytes: &[u8]) -> Understanding {
    let found = understand(&FileName::new(name).unwrap(), bytes);
    let mut at = 0;
    for piece in &found.pieces {
        assert_eq!(piece.span().offset(), at);
        assert!(!piece.span().is_empty() || bytes.is_empty());
        at = piece.span().end();
    }
    assert_eq!(at, bytes.len() as u64);
    // Entries, each with a frame before it, and a frame behind the last.
    assert!((1..=2 * ENTRIES_MAX + 1).contains(&found.pieces.len()));
    assert!(found.keywords.len() <= KEYWORDS_PER_FILE_MAX + KEYWORDS_MAX);
    assert!(found.oddities.first().len() <= ODDITIES_MAX);
    for oddity in found.oddities.first() {
        assert!(!oddity.to_string().is_empty());
    }
    // What is kept whole is found by its media type, or is of a format that is read no further.
    let is_whole = found.pieces[0].kind() == PieceKind::Opaque;
    if is_whole && found.media_type.as_str() != "application/dicom" {
        assert_eq!(found.pieces.len(), 1);
        assert_eq!(found.pieces[0].class(), SectionClass::Other);
        assert_eq!(
            found.keywords[0].as_str(),
            format!("media|{}", found.media_type)
        );
        let begin = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut looked_at = begin.iter().take(LOOKED_AT);
        let first = looked_at.find(|byte| !byte.is_ascii_whitespace());
        if first == Some(&b'{') && !begin.starts_with(b"{\\rtf") {
            assert!(!found.oddities.is_empty(), "no reason is given");
        }
    }
    found
}

/// A file shows within its first 132 bytes, with a byte order mark, that it may be JSON.
const LOOKED_AT: usize = 129;

/// Through every section of a record and back.
fn comes_back(name: &str, bytes: &[u8]) {
    let mut record = Record::new();
    let number = record
        .add(name, MemoryFile::new(bytes))
        .unwrap()
        .head()
        .number;
    let mut files = MemoryFiles::with_limit(bytes.len() as u64);
    let mut reassembly = Reassembly::new();
    for section in record.sections() {
        let mut plaintext = Vec::new();
        std::io::copy(&mut section.reader(), &mut plaintext).unwrap();
        assert!(
            parse_section(&plaintext).unwrap().entries().count()
                <= section.manifest().pieces().len()
        );
        let mut reader = SectionReader::new(plaintext.as_slice()).unwrap();
        reassembly.add(&mut reader, &mut files).unwrap();
    }
    assert!(reassembly.files().all(record::Outline::is_whole));
    assert!(files.bytes(number).unwrap_or_default() == bytes);
}

/// How many of the changed files were still of the format, and how many were odd or kept whole.
fn ten_thousand(name: &str, originals: &[Vec<u8>], seed: u64, media_type: &str) {
    let mut numbers = Numbers(seed);
    let (mut of_format, mut reasons) = (0, 0);
    for round in 0..MUTATIONS {
        let original = &originals[round as usize % originals.len()];
        assert!(
            original.len() < 16 * 1024,
            "small inputs, so that ten thousand take seconds"
        );
        let bytes = mutate(&mut numbers, original);
        let found = check(name, &bytes);
        comes_back(name, &bytes);
        if found.media_type.as_str() == media_type {
            of_format += 1;
        } else {
            // A clear reason: an oddity, or the media type that it now has.
            let stated = found
                .keywords
                .iter()
                .any(|keyword| keyword.as_str().starts_with("media|"));
            assert!(
                stated || !found.oddities.is_empty() || found.pieces[0].kind() != PieceKind::Opaque
            );
            reasons += 1;
        }
    }
    assert!(
        of_format > MUTATIONS / 20,
        "{name}: {of_format} of the format, {reasons} not"
    );
    for original in originals {
        let found = check(name, original);
        assert_eq!(found.media_type.as_str(), media_type, "{name}");
    }
    assert_memory();
}

/// The most memory that this process ever had, in KiB, where the system says it. All tests of this file
/// share it: their largest inputs have 32 MiB and are held up to four times.
fn assert_memory() {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return;
    };
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or_default();
    let peak: u64 = peak
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or_default();
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
}

const MEMORY_KIB_MAX: u64 = 512 * 1024;

fn sample(path: &str) -> Vec<u8> {
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/");
    std::fs::read(format!("{samples}{path}")).unwrap()
}

fn lines() -> Vec<u8> {
    sample("formats/bulk-export.ndjson")
}

/// The lines of the sample as the entries of a Bundle.
fn bundle() -> Vec<u8> {
    let text = String::from_utf8(lines()).unwrap();
    let entries: Vec<String> = text
        .lines()
        .map(|line| format!("{{\"resource\":{line}}}"))
        .collect();
    format!(
        "{{\"resourceType\":\"Bundle\",\"type\":\"collection\",\"entry\":[{}]}}",
        entries.join(",\n")
    )
    .into_bytes()
}

#[test]
fn bundles() {
    ten_thousand(
        "a.json",
        &[bundle(), sample("formats/document-bundle.json")],
        1,
        "application/fhir+json",
    );
}

#[test]
fn lines_of_resources() {
    ten_thousand("a.ndjson", &[lines()], 2, "application/fhir+ndjson");
}

#[test]
fn single_resources() {
    let text = String::from_utf8(lines()).unwrap();
    let each: Vec<Vec<u8>> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
    ten_thousand("a.json", &each, 3, "application/fhir+json");
}

#[test]
fn images() {
    let slice = sample("secondary-hospital/ct-head/17106");
    ten_thousand("a.dcm", &[slice], 4, "application/dicom");
}

#[test]
fn directories_of_media() {
    ten_thousand(
        "DICOMDIR",
        &[sample("formats/dicomdir/DICOMDIR")],
        5,
        "application/dicom",
    );
}

#[test]
fn clinical_documents() {
    ten_thousand(
        "a.xml",
        &[sample("formats/stroke-referral.xml")],
        6,
        "application/cda+xml",
    );
}

#[test]
fn bundles_in_xml() {
    ten_thousand(
        "a.xml",
        &[sample("formats/bundle.xml")],
        10,
        "application/fhir+xml",
    );
}

#[test]
fn messages() {
    let originals = [
        sample("formats/laboratory.hl7"),
        sample("formats/discharge.hl7"),
        sample("community-hospital/admission.hl7"),
    ];
    ten_thousand("a.hl7", &originals, 7, "x-application/hl7-v2+er7");
}

#[test]
fn files_that_are_not_looked_into() {
    ten_thousand(
        "a.pdf",
        &[sample("formats/referral-letter.pdf")],
        8,
        "application/pdf",
    );
    ten_thousand("a.zip", &[zip_bomb()], 9, "application/zip");
}

/// The header of an archive whose one file is said to have 4 GiB, and some compressed bytes.
fn zip_bomb() -> Vec<u8> {
    let mut bytes = b"PK\x03\x04\x14\0\0\0\x08\0".to_vec();
    bytes.extend([0; 8]);
    bytes.extend([0x00, 0x10, 0, 0, 0xff, 0xff, 0xff, 0xff, 5, 0, 0, 0]);
    bytes.extend(b"0.dcm");
    bytes.extend([0xec, 0xc1, 0x01].repeat(1_000));
    bytes
}

/// The reasons that a hostile file is given, in at most some seconds.
fn reasons(name: &str, bytes: &[u8]) -> Vec<Oddity> {
    let begun = Instant::now();
    let found = check(name, bytes);
    assert!(begun.elapsed() < Duration::from_secs(30), "{name}");
    comes_back(name, bytes);
    assert_memory();
    found.oddities.first().to_vec()
}

#[test]
fn an_archive_stays_closed() {
    let found = check("a.zip", &zip_bomb());
    assert_eq!(found.media_type.as_str(), "application/zip");
    assert_eq!((found.pieces.len(), found.keywords.len()), (1, 1));
}

#[test]
fn deep_files_are_not_followed() {
    let json = format!(
        "{{\"resourceType\":\"Patient\",\"a\":{}",
        "[".repeat(1_000_000)
    );
    assert!(matches!(
        reasons("a.json", json.as_bytes())[..],
        [Oddity::NotJson { at: 157, .. }]
    ));
    let line = format!(
        "{{\"resourceType\":\"Patient\"}}\n{}\n{{\"resourceType\":\"Patient\"}}",
        "[".repeat(1_000_000)
    );
    assert!(matches!(
        reasons("a.json", line.as_bytes())[..],
        [Oddity::BadLine { .. }]
    ));
    let xml = format!("<ClinicalDocument>{}", "<component>".repeat(1_000_000));
    assert!(matches!(
        reasons("a.xml", xml.as_bytes())[..],
        [Oddity::XmlTooDeep { .. }]
    ));
    let mut dicom = [vec![0; 128], b"DICM".to_vec()].concat();
    let sequence = b"\x08\x00\x32\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff";
    dicom.extend(sequence.repeat(1_000_000));
    assert!(matches!(
        reasons("a", &dicom)[..],
        [Oddity::DicomOtherSyntax, Oddity::DicomUnreadable { .. }]
            | [Oddity::DicomUnreadable { .. }]
    ));
}

#[test]
fn entities_do_not_grow() {
    let mut xml = "<!DOCTYPE ClinicalDocument [<!ENTITY e0 \"stroke\">".to_owned();
    for level in 1..40 {
        let before = format!("&e{};", level - 1).repeat(10);
        xml.push_str(&format!("<!ENTITY e{level} \"{before}\">"));
    }
    xml.push_str("]><ClinicalDocument><title>&e39; word</title></ClinicalDocument>");
    assert_eq!(reasons("a.xml", xml.as_bytes()), [Oddity::DocumentType]);
    let found = check("a.xml", xml.as_bytes());
    let words: Vec<&str> = found.keywords.iter().map(record::Keyword::as_str).collect();
    assert_eq!(words, ["word|e39", "word|word"]);
}

#[test]
fn wide_files_end_at_the_limits() {
    let lines = "{\"resourceType\":\"Patient\"}\n".repeat(1_000_000);
    assert_eq!(
        reasons("a.ndjson", lines.as_bytes()),
        [Oddity::TooManyEntries]
    );
    let sections = "<component><section/></component>".repeat(100_000);
    let xml = format!(
        "<ClinicalDocument><component><structuredBody>{sections}</structuredBody></component></ClinicalDocument>"
    );
    assert_eq!(reasons("a.xml", xml.as_bytes()), [Oddity::TooManyEntries]);
    let message = format!(
        "MSH|^~\\&|A|B|||1||ADT^A01\r{}",
        "AL1|1\rPV1|1\r".repeat(1_000_000)
    );
    assert_eq!(
        reasons("a.hl7", message.as_bytes()),
        [Oddity::TooManyEntries]
    );
    let long = format!(
        "MSH|^~\\&|A|B|||1||ORU^R01\rOBX|1|CE|1^a^LN||{}|{}\r",
        "2^b^LN~".repeat(1_000_000),
        "|".repeat(1_000_000)
    );
    assert_eq!(reasons("a.hl7", long.as_bytes()), []);
    assert_eq!(check("a.hl7", long.as_bytes()).keywords.len(), 3);
    let attributes = "x=\"1\" ".repeat(1_000_000);
    let xml = format!("<ClinicalDocument><code {attributes} code=\"18842-5\"/></ClinicalDocument>");
    assert_eq!(reasons("a.xml", xml.as_bytes()), []);
    // A title of one word per three bytes, and one of a million characters that no space divides.
    let titles: Vec<String> = (0..5_000).map(|n| format!("{{\"resource\":{{\"resourceType\":\"Condition\",\"code\":{{\"text\":\"w{n}a w{n}b w{n}c\"}}}}}}")).collect();
    let text = format!(
        "{{\"resourceType\":\"Bundle\",\"entry\":[{}]}}",
        titles.join(",")
    );
    assert_eq!(
        reasons("a.json", text.as_bytes()),
        [Oddity::KeywordsLeftOut {
            count: 15_000 - KEYWORDS_MAX
        }]
    );
    let han = "\u{8133}\u{5352}".repeat(1_000_000);
    let text = format!("{{\"resourceType\":\"Condition\",\"code\":{{\"text\":\"{han}\"}}}}");
    assert_eq!(reasons("a.json", text.as_bytes()), []);
}

#[test]
fn absurd_lengths_and_counts_of_a_directory_end() {
    let mut directory = sample("formats/dicomdir/DICOMDIR");
    let item = b"\xfe\xff\x00\xe0\x08\x00\x00\x00\x04\x00\x30\x14CS\x00\x00";
    let records = item.repeat(100_000);
    let tag = b"\x04\x00\x20\x12SQ\0\0";
    let at = directory
        .windows(tag.len())
        .position(|window| window == tag)
        .unwrap()
        + tag.len();
    directory.truncate(at);
    let mut absurd = directory.clone();
    absurd.extend(0xffff_fff0_u32.to_le_bytes());
    assert!(matches!(
        reasons("DICOMDIR", &absurd)[..],
        [Oddity::DicomTruncated { .. }]
    ));
    directory.extend((records.len() as u32).to_le_bytes());
    directory.extend(records);
    assert!(matches!(
        reasons("DICOMDIR", &directory)[..],
        [Oddity::DicomUnreadable { .. }]
    ));
}
