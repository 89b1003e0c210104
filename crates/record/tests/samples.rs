//! Every sample of `samples/` goes in and comes out byte for byte; its sections, keywords and
//! oddities are held by `tests/snapshots`, which were read by eye.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use record::{
    DiskFile, MemoryFile, MemoryFiles, PieceKind, Reassembly, Record, SectionClass, SectionReader,
    Writers, parse_section,
};

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples")
}

/// The files of one hospital's record, folders first opened, by path.
fn files_of(hospital: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![samples().join(hospital)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn name_of(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn record_of(hospital: &str) -> (Record, Vec<Vec<u8>>) {
    let mut record = Record::new();
    let mut contents = Vec::new();
    for path in files_of(hospital) {
        contents.push(fs::read(&path).unwrap());
        record.add(name_of(&path), DiskFile::new(&path)).unwrap();
    }
    (record, contents)
}

const HOSPITALS: [(&str, usize); 3] = [
    ("community-hospital", 2),
    ("formats", 11),
    ("secondary-hospital", 6),
];

#[test]
fn samples_come_back_byte_for_byte() {
    for (hospital, count) in HOSPITALS {
        let (record, contents) = record_of(hospital);
        assert_eq!(contents.len(), count, "{hospital}");
        let mut files = MemoryFiles::with_limit(8 << 20);
        let mut reassembly = Reassembly::new();
        for section in record.sections() {
            let mut plaintext = Vec::new();
            std::io::copy(&mut section.reader(), &mut plaintext).unwrap();
            assert_eq!(
                plaintext.len() as u64,
                section.length(),
                "{hospital} {}",
                section.class()
            );
            let mut reader = SectionReader::new(plaintext.as_slice()).unwrap();
            assert_eq!(reader.manifest(), section.manifest());
            reassembly.add(&mut reader, &mut files).unwrap();
        }
        assert_eq!(reassembly.files().len(), count);
        for (outline, content) in reassembly.files().zip(&contents) {
            assert!(outline.is_whole(), "{}", outline.head().name);
            assert!(files.bytes(outline.head().number).unwrap() == content.as_slice());
        }
    }
}

#[test]
fn each_section_holds_exactly_its_own_spans() {
    for (hospital, _) in HOSPITALS {
        let (record, contents) = record_of(hospital);
        for section in record.sections() {
            let mut files = MemoryFiles::with_limit(8 << 20);
            let mut reassembly = Reassembly::new();
            reassembly
                .add(
                    &mut SectionReader::new(section.reader()).unwrap(),
                    &mut files,
                )
                .unwrap();
            for file in record.files() {
                let number = file.head().number;
                let Some(found) = files.bytes(number) else {
                    assert!(
                        file.pieces()
                            .iter()
                            .all(|piece| piece.class() != section.class())
                    );
                    continue;
                };
                let mut expected = vec![0; found.len()];
                for piece in file
                    .pieces()
                    .iter()
                    .filter(|piece| piece.class() == section.class())
                {
                    let span = piece.span().offset() as usize..piece.span().end() as usize;
                    expected[span.clone()]
                        .copy_from_slice(&contents[number.number() as usize][span]);
                }
                assert!(
                    found == expected,
                    "{hospital} {} {}",
                    section.class(),
                    file.head().name
                );
            }
        }
    }
}

#[test]
fn samples_are_written_through_seekable_writers() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("record-samples-writers");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let (record, contents) = record_of("secondary-hospital");
    let mut writers = Writers::new(|head: &record::FileHead| {
        let mut options = fs::OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join(head.name.as_str()))
    });
    let mut reassembly = Reassembly::new();
    for section in record.sections() {
        reassembly
            .add(
                &mut SectionReader::new(section.reader()).unwrap(),
                &mut writers,
            )
            .unwrap();
    }
    writers.finish().unwrap();
    for (file, content) in record.files().iter().zip(&contents) {
        assert!(fs::read(folder.join(file.head().name.as_str())).unwrap() == *content);
    }
    fs::remove_dir_all(&folder).unwrap();
}

/// The classes as an independent parser finds the entries: `serde_json` splits the Bundle, and every
/// resource of the record's sections must be one of its entries' resources, in the same order.
#[test]
fn entries_are_the_resources_that_serde_json_finds() {
    for (hospital, bundle, count) in [
        ("community-hospital", "stroke-patient.json", 253),
        ("secondary-hospital", "stroke-stay.json", 412),
    ] {
        #[derive(serde::Deserialize)]
        struct Bundle<'a> {
            #[serde(borrow)]
            entry: Vec<Entry<'a>>,
        }
        #[derive(serde::Deserialize)]
        struct Entry<'a> {
            #[serde(borrow)]
            resource: &'a serde_json::value::RawValue,
        }
        let text = fs::read_to_string(samples().join(hospital).join(bundle)).unwrap();
        let expected: Bundle<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!(expected.entry.len(), count);

        let mut record = Record::new();
        record
            .add(bundle, MemoryFile::new(text.as_bytes()))
            .unwrap();
        let mut found = BTreeMap::new();
        for section in record.sections() {
            let mut plaintext = Vec::new();
            std::io::copy(&mut section.reader(), &mut plaintext).unwrap();
            for (piece, resource) in parse_section(&plaintext).unwrap().entries() {
                assert_eq!(piece.kind, PieceKind::Entry);
                found.insert(piece.span.offset(), resource.to_vec());
            }
        }
        let found: Vec<&[u8]> = found.values().map(Vec::as_slice).collect();
        let expected: Vec<&[u8]> = expected
            .entry
            .iter()
            .map(|entry| entry.resource.get().as_bytes())
            .collect();
        assert!(found == expected, "{bundle}");
    }
}

/// Between entries lie commas and white space only, and the Bundle's own members are what is left.
#[test]
fn frames_hold_no_entry() {
    for (hospital, _) in HOSPITALS {
        let (record, contents) = record_of(hospital);
        for file in record.files() {
            let content = &contents[file.head().number.number() as usize];
            for piece in file.pieces() {
                let bytes = &content[piece.span().offset() as usize..piece.span().end() as usize];
                match piece.kind() {
                    PieceKind::Entry | PieceKind::Line => assert!(bytes.starts_with(b"{")),
                    PieceKind::Part => {
                        assert!(bytes.starts_with(b"<component>") || bytes.starts_with(b"<entry>"));
                    }
                    PieceKind::Segments => {
                        assert!(bytes[..3].iter().all(u8::is_ascii_alphanumeric));
                    }
                    PieceKind::Frame => {
                        assert_eq!(piece.class(), SectionClass::Homepage);
                        let text = std::str::from_utf8(bytes).unwrap();
                        assert!(
                            !text.contains("resource\"") && !text.contains("<section"),
                            "{text}"
                        );
                    }
                    PieceKind::Resource | PieceKind::Opaque => {
                        assert_eq!(file.pieces().len(), 1);
                    }
                }
            }
        }
    }
}

/// What a record was understood to be, one line per fact.
fn describe(hospital: &str) -> String {
    let (record, contents) = record_of(hospital);
    let mut out = String::new();
    for file in record.files() {
        let head = file.head();
        let length = head.whole.length();
        writeln!(
            out,
            "file {}: {}, {}, {length} bytes",
            head.number, head.name, head.media_type
        )
        .unwrap();
        // Runs of pieces with one class and resource type, in the file's order.
        let mut runs: Vec<(String, usize, u64)> = Vec::new();
        for piece in file.pieces() {
            let span = piece.span().offset() as usize..piece.span().end() as usize;
            let bytes = &contents[head.number.number() as usize][span];
            let what = format!("{} {:?} {}", piece.class(), piece.kind(), type_of(bytes));
            match runs.last_mut() {
                Some((last, count, length)) if *last == what => {
                    *count += 1;
                    *length += piece.span().length();
                }
                _ => runs.push((what, 1, piece.span().length())),
            }
        }
        for (what, count, length) in runs {
            writeln!(out, "  {} x {count}, {length} bytes", what.trim_end()).unwrap();
        }
        for (what, said) in [
            ("title", file.title().map(ToString::to_string)),
            ("type", file.document_type().map(ToString::to_string)),
            ("period", file.period().map(ToString::to_string)),
            ("origin", file.origin().map(ToString::to_string)),
        ] {
            if let Some(said) = said {
                writeln!(out, "  {what}: {said}").unwrap();
            }
        }
        for oddity in file.oddities().first() {
            writeln!(out, "  odd: {oddity}").unwrap();
        }
        if file.oddities().more() > 0 {
            writeln!(out, "  and {} more", file.oddities().more()).unwrap();
        }
    }
    for section in record.sections() {
        let manifest = section.manifest();
        let (files, pieces) = (manifest.files().len(), manifest.pieces().len());
        writeln!(
            out,
            "section {}: {files} files, {pieces} pieces, {} bytes",
            section.class(),
            section.length()
        )
        .unwrap();
    }
    let (keywords, left_out) = record.keywords();
    writeln!(out, "keywords: {}, left out {left_out}", keywords.len()).unwrap();
    for keyword in keywords.iter() {
        writeln!(out, "  {keyword}").unwrap();
    }
    out
}

/// The resource type, the segments or the section's code, found by plain text search, which is enough
/// for the samples.
fn type_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let segments = text
        .split(['\r', '\n'])
        .map(|line| line.get(..3).unwrap_or_default());
    let segments: Vec<&str> = segments.filter(|name| !name.is_empty()).collect();
    if segments.iter().all(|name| {
        name.bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    }) {
        return segments.join(" ");
    }
    if let Some((_, section)) = text.split_once("<section") {
        let tag = section.split_once("<code").map_or("", |(_, tag)| tag);
        let code = tag.split_once(" code=\"").map_or("", |(_, code)| code);
        return code.split('"').next().unwrap_or_default().to_owned();
    }
    let behind = text
        .split_once("\"resourceType\"")
        .map_or("", |(_, behind)| behind);
    behind.split('"').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn sections_and_keywords_are_as_read_by_eye() {
    let mut different = String::new();
    for (hospital, _) in HOSPITALS {
        let file = format!("{hospital}.txt");
        let pinned = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/snapshots")
            .join(&file);
        let found = describe(hospital);
        if found != fs::read_to_string(&pinned).unwrap_or_default() {
            let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&file);
            fs::write(&place, &found).unwrap();
            writeln!(different, "{} is not {}", place.display(), pinned.display()).unwrap();
        }
    }
    assert!(
        different.is_empty(),
        "samples are understood differently; read what was found, and copy it if it is right:\n\
         {different}"
    );
}
