//! The layout of a section's plaintext (`spec/formats.md` R6): its bytes are pinned, every fault is
//! refused by name, and a gibibyte streams through in small steps.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::error::Error;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use proptest::prelude::*;
use record::{
    Amends, Bytes, Destination, FileHead, FileNumber, MemoryFile, MemoryFiles, Oddity, Reassembly,
    ReassemblyError, Record, SectionClass, SectionError, SectionReader, Source, parse_section,
};
use scheme::{Digest, Encoder, VerifyingKey};

fn amends() -> Amends {
    Amends {
        digest: Digest::new([0xd1; 32]),
        author: VerifyingKey::new([0xa0; 32]),
    }
}

fn plaintexts(record: &Record) -> Vec<Vec<u8>> {
    let read = |section: record::Section<'_>| {
        let mut plaintext = Vec::new();
        section.reader().read_to_end(&mut plaintext).unwrap();
        assert_eq!(plaintext.len() as u64, section.length());
        plaintext
    };
    record.sections().map(read).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A section whose parts can be given one by one, right or wrong.
#[derive(Clone)]
struct Parts {
    version: u8,
    class: u8,
    amends: Vec<u8>,
    /// Number, length, name, media type.
    files: Vec<(u32, u64, Vec<u8>, Vec<u8>)>,
    /// File, kind, offset, length.
    pieces: Vec<(u32, u8, u64, u64)>,
    behind_manifest: Vec<u8>,
    content: Vec<u8>,
}

/// Two files; of the first, bytes 1..3 and 4..6; of the second all 3.
fn good() -> Parts {
    Parts {
        version: 1,
        class: 4,
        amends: vec![0],
        files: vec![
            (0, 6, b"a.json".to_vec(), b"application/fhir+json".to_vec()),
            (2, 3, b"b".to_vec(), b"text/plain".to_vec()),
        ],
        pieces: vec![(0, 1, 1, 2), (0, 1, 4, 2), (2, 0, 0, 3)],
        behind_manifest: vec![],
        content: b"bcefxyz".to_vec(),
    }
}

impl Parts {
    fn encode(&self) -> Vec<u8> {
        let mut body = Encoder::new();
        body.bytes(&self.amends).u32(self.files.len() as u32);
        for (number, length, name, media_type) in &self.files {
            body.u32(*number).u64(*length).var(name).var(media_type);
        }
        body.u32(self.pieces.len() as u32);
        for (file, kind, offset, length) in &self.pieces {
            body.u32(*file).u8(*kind).u64(*offset).u64(*length);
        }
        body.bytes(&self.behind_manifest);
        let mut out = Encoder::new();
        out.u8(self.version)
            .u8(self.class)
            .var(&body.finish())
            .bytes(&self.content);
        out.finish()
    }
}

#[test]
fn the_layout_is_pinned() {
    let mut record = Record::amending(amends(), &Record::new().keywords().0);
    record
        .add("p.json", MemoryFile::new(*br#"{"resourceType":"Patient"}"#))
        .unwrap();
    record.add("n", MemoryFile::new(*b"")).unwrap();
    let plaintexts = plaintexts(&record);
    let (digest, author) = ("d1".repeat(32), "a0".repeat(32));
    let homepage = [
        // version, class homepage, 141 bytes of manifest
        "01",
        "01",
        "0000008d",
        // it amends
        "01",
        &digest,
        &author,
        // 1 file: number 0, 26 bytes, "p.json", "application/fhir+json"
        "00000001",
        "00000000",
        "000000000000001a",
        "00000006",
        "702e6a736f6e",
        "00000015",
        "6170706c69636174696f6e2f666869722b6a736f6e",
        // 1 piece: of file 0, a resource, from 0, 26 bytes
        "00000001",
        "00000000",
        "02",
        "0000000000000000",
        "000000000000001a",
        // {"resourceType":"Patient"}
        "7b227265736f7572636554797065223a2250617469656e74227d",
    ];
    let other = [
        "01",
        "0a",
        "0000008b",
        "01",
        &digest,
        &author,
        // 1 file: number 1, empty, "n", "application/octet-stream"
        "00000001",
        "00000001",
        "0000000000000000",
        "00000001",
        "6e",
        "00000018",
        "6170706c69636174696f6e2f6f637465742d73747265616d",
        // 1 piece: of file 1, opaque, from 0, no byte
        "00000001",
        "00000001",
        "00",
        "0000000000000000",
        "0000000000000000",
    ];
    assert_eq!(hex(&plaintexts[0]), homepage.concat());
    assert_eq!(hex(&plaintexts[1]), other.concat());
    assert_eq!(plaintexts.len(), 2);
}

#[test]
fn a_good_section_parses() {
    let bytes = good().encode();
    let parsed = parse_section(&bytes).unwrap();
    assert_eq!(parsed.manifest().class(), SectionClass::Laboratory);
    let contents: Vec<&[u8]> = parsed.pieces().map(|(_, content)| content).collect();
    assert_eq!(contents, [&b"bc"[..], b"ef", b"xyz"]);
    assert_eq!(parsed.entries().count(), 0);
}

#[test]
fn every_fault_is_refused_by_name() {
    let changed = |change: &dyn Fn(&mut Parts)| {
        let mut parts = good();
        change(&mut parts);
        parts.encode()
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "amendment mark is not valid",
            changed(&|p| p.amends = vec![2]),
        ),
        (
            "earlier author is cut short",
            changed(&|p| {
                p.amends = [1; 43].to_vec();
                p.files.clear();
                p.pieces.clear();
            }),
        ),
        (
            "the list of files is not valid: it is empty",
            changed(&|p| {
                p.files.clear();
                p.pieces.clear();
                p.content.clear();
            }),
        ),
        ("section class is not valid", changed(&|p| p.class = 0)),
        ("section class is not valid", changed(&|p| p.class = 11)),
        ("not by rising number", changed(&|p| p.files.swap(0, 1))),
        ("not by rising number", changed(&|p| p.files[1].0 = 0)),
        (
            "file's number is 4096, the limit is 4095",
            changed(&|p| p.files[1].0 = 4096),
        ),
        (
            "file's length is not valid",
            changed(&|p| p.files[0].1 = (1 << 38) + 1),
        ),
        (
            "file's name is not valid",
            changed(&|p| p.files[0].2 = b"../a".to_vec()),
        ),
        (
            "file's name is not valid",
            changed(&|p| p.files[0].2 = b"\xff".to_vec()),
        ),
        (
            "file's name is not valid",
            changed(&|p| p.files[0].2 = b"".to_vec()),
        ),
        (
            "file's name is 256, the limit is 255",
            changed(&|p| p.files[0].2 = vec![b'a'; 256]),
        ),
        (
            "media type is not valid",
            changed(&|p| p.files[0].3 = b"Text/plain".to_vec()),
        ),
        (
            "media type is 128, the limit is 127",
            changed(&|p| p.files[0].3 = vec![b'a'; 128]),
        ),
        (
            "one has no piece",
            changed(&|p| {
                p.pieces.pop();
            }),
        ),
        (
            "its file is not the next of the list",
            changed(&|p| p.pieces[0].0 = 1),
        ),
        (
            "its file is not the next of the list",
            changed(&|p| p.pieces.push((0, 1, 5, 1))),
        ),
        ("piece's kind is not valid", changed(&|p| p.pieces[0].1 = 7)),
        (
            "it overlaps the one before",
            changed(&|p| p.pieces[1].2 = 2),
        ),
        (
            "it overlaps the one before",
            changed(&|p| p.pieces.swap(0, 1)),
        ),
        ("it ends behind its file", changed(&|p| p.pieces[1].3 = 3)),
        (
            "it ends above 256 GiB",
            changed(&|p| p.pieces[1].2 = u64::MAX),
        ),
        ("it is empty", changed(&|p| p.pieces[0].3 = 0)),
        (
            "it stands twice",
            changed(&|p| {
                p.files[1].1 = 0;
                p.pieces[2].3 = 0;
                p.pieces.push((2, 0, 0, 0));
            }),
        ),
        (
            "follow the end of the manifest",
            changed(&|p| p.behind_manifest = vec![0]),
        ),
        ("section's version is cut short", vec![]),
        ("manifest's length is cut short", vec![1, 4, 0, 0, 0]),
        (
            "manifest's length is 4294967295, the limit is 4399177",
            vec![1, 4, 0xff, 0xff, 0xff, 0xff],
        ),
    ];
    for (expected, bytes) in cases {
        let error = parse_section(&bytes).unwrap_err();
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        assert!(
            matches!(error, SectionError::Manifest(_)),
            "{expected}: {error:?}"
        );
        assert!(cause.contains(expected), "{expected}: {cause}");
    }
    assert!(matches!(
        parse_section(&changed(&|p| p.version = 2)),
        Err(SectionError::Version(2))
    ));
    for bytes in [
        changed(&|p| {
            p.content.pop();
        }),
        changed(&|p| p.content.push(0)),
    ] {
        assert!(matches!(parse_section(&bytes), Err(SectionError::Length)));
    }
}

#[test]
fn counts_are_believed_only_as_far_as_there_are_bytes() {
    for count in [4_096u32, 4_097, u32::MAX] {
        let mut body = Encoder::new();
        body.u8(0).u32(count);
        let mut out = Encoder::new();
        out.u8(1).u8(4).var(&body.finish());
        assert!(
            matches!(parse_section(&out.finish()), Err(SectionError::Manifest(_))),
            "{count}"
        );
    }
}

#[test]
fn a_section_cut_anywhere_is_refused_also_as_a_stream() {
    let bytes = good().encode();
    for cut in 0..bytes.len() {
        assert!(parse_section(&bytes[..cut]).is_err(), "{cut}");
        let read = SectionReader::new(&bytes[..cut]).map_err(ReassemblyError::from);
        let mut files = MemoryFiles::with_limit(100);
        let added = read.and_then(|mut reader| Reassembly::new().add(&mut reader, &mut files));
        assert!(added.is_err(), "{cut}");
    }
    let longer = [bytes.as_slice(), b"x"].concat();
    let mut files = MemoryFiles::with_limit(100);
    let mut reader = SectionReader::new(longer.as_slice()).unwrap();
    let added = Reassembly::new().add(&mut reader, &mut files);
    assert!(matches!(
        added,
        Err(ReassemblyError::Section(SectionError::Length))
    ));
}

#[test]
fn pieces_left_unread_are_passed_over() {
    let bytes = good().encode();
    let mut reader = SectionReader::new(bytes.as_slice()).unwrap();
    let mut first = reader.next_piece().unwrap().unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"b");
    let mut second = Vec::new();
    reader
        .next_piece()
        .unwrap()
        .unwrap()
        .read_to_end(&mut second)
        .unwrap();
    assert_eq!(second, b"ef");
    assert!(reader.next_piece().unwrap().is_some());
    assert!(reader.next_piece().unwrap().is_none());
}

#[test]
fn sections_of_different_records_do_not_mix() {
    let add = |sections: &[Parts]| {
        let mut files = MemoryFiles::with_limit(100);
        let mut reassembly = Reassembly::new();
        let mut result = Ok(());
        for parts in sections {
            let bytes = parts.encode();
            let mut reader = SectionReader::new(bytes.as_slice()).unwrap();
            result = result.and_then(|()| reassembly.add(&mut reader, &mut files));
        }
        result.map(|()| {
            reassembly
                .files()
                .map(|file| file.holes().len())
                .collect::<Vec<_>>()
        })
    };
    let mut rest = good();
    rest.files.pop();
    rest.pieces = vec![(0, 3, 0, 1), (0, 1, 3, 1)];
    rest.content = b"ad".to_vec();
    assert_eq!(add(&[good()]).unwrap(), [2, 0]);
    assert_eq!(add(&[good(), rest.clone()]).unwrap(), [0, 0]);

    assert!(matches!(
        add(&[good(), good()]),
        Err(ReassemblyError::Conflict(_))
    ));
    let conflicts: [fn(&mut Parts); 5] = [
        |p| p.files[0].1 = 7,
        |p| p.files[0].2 = b"c".to_vec(),
        |p| p.files[0].3 = b"a/b".to_vec(),
        |p| p.pieces[0].3 = 2,
        |p| p.pieces[1] = (0, 1, 3, 2),
    ];
    for conflict in conflicts {
        let mut other = rest.clone();
        conflict(&mut other);
        other.content = vec![b'z'; other.pieces.iter().map(|piece| piece.3 as usize).sum()];
        let added = add(&[good(), other]);
        assert!(matches!(&added, Err(ReassemblyError::Conflict(file)) if file.number() == 0));
    }
    let mut amendment = rest;
    amendment.amends = [[1].as_slice(), &[7; 64]].concat();
    assert!(matches!(
        add(&[good(), amendment]),
        Err(ReassemblyError::Amends)
    ));
}

#[test]
fn a_stated_length_reserves_no_memory_beyond_the_bound() {
    let mut parts = good();
    parts.files[0].1 = 1 << 38;
    let bytes = parts.encode();
    let mut reader = SectionReader::new(bytes.as_slice()).unwrap();
    let mut files = MemoryFiles::with_limit(1 << 20);
    let added = Reassembly::new().add(&mut reader, &mut files);
    assert!(matches!(added, Err(ReassemblyError::TooLong { limit }) if limit == 1 << 20));
}

#[test]
fn an_amendment_names_the_earlier_record_and_carries_its_keywords() {
    let mut earlier = Record::new();
    earlier.add("a.txt", MemoryFile::new(*b"a")).unwrap();
    let mut record = Record::amending(amends(), &earlier.keywords().0);
    record
        .add("p.json", MemoryFile::new(*br#"{"resourceType":"Patient"}"#))
        .unwrap();
    let words: Vec<String> = record
        .keywords()
        .0
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(words, ["media|text/plain", "resource|Patient"]);
    let mut reassembly = Reassembly::new();
    let mut files = MemoryFiles::with_limit(100);
    let section = record.sections().next().unwrap();
    reassembly
        .add(
            &mut SectionReader::new(section.reader()).unwrap(),
            &mut files,
        )
        .unwrap();
    assert_eq!(reassembly.amends(), Some(&amends()));
}

#[test]
fn a_record_has_bounds_and_stays_as_it_was_beyond_them() {
    let mut record = Record::new();
    // A Bundle with the largest number of entries has 65,538 pieces; the second one still leaves
    // room for one piece of each later file only if it is kept as one piece.
    let entries = vec!["1"; record::ENTRIES_MAX].join(",");
    let bundle = format!(r#"{{"resourceType":"Bundle","entry":[{entries}]}}"#);
    record
        .add("a.json", MemoryFile::new(bundle.as_bytes()))
        .unwrap();
    assert_eq!(record.files()[0].pieces().len(), record::ENTRIES_MAX + 2);
    record
        .add("b.json", MemoryFile::new(bundle.as_bytes()))
        .unwrap();
    let second = &record.files()[1];
    assert_eq!(second.pieces().len(), 1);
    assert_eq!(
        second.oddities().first().last().unwrap(),
        &Oddity::NoResource { at: 160 }
    );
    assert!(second.oddities().more() > 0);

    for number in 2..record::FILES_MAX {
        record
            .add(&format!("{number}"), MemoryFile::new(*b"x"))
            .unwrap();
    }
    let refused = record.add("one more", MemoryFile::new(*b"x"));
    assert!(matches!(refused, Err(record::RecordError::TooManyFiles)));
    assert_eq!(record.files().len(), record::FILES_MAX);
    let pieces: usize = record.files().iter().map(|file| file.pieces().len()).sum();
    assert!(pieces <= record::PIECES_MAX);

    let long = Generated::new((1 << 38) + 1);
    let mut record = Record::new();
    let refused = record.add("long", long);
    assert!(matches!(refused, Err(record::RecordError::Io(error))
        if error.kind() == io::ErrorKind::FileTooLarge));
    let mut record = Record::new();
    record.add("first", Generated::new(1 << 38)).unwrap();
    record.add("second", Generated::new(1 << 38)).unwrap();
    let refused = record.add("third", Generated::new(1));
    assert!(matches!(refused, Err(record::RecordError::TooLong)));
}

#[test]
fn a_file_that_became_shorter_fails_the_stream() {
    #[derive(Debug)]
    struct Shrinking(AtomicUsize);
    impl Source for Shrinking {
        fn open(&self) -> io::Result<Box<dyn Bytes + '_>> {
            let length = 10 - 5 * self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(io::Cursor::new(vec![b'x'; length])))
        }
    }
    let mut record = Record::new();
    record.add("a", Shrinking(AtomicUsize::new(0))).unwrap();
    let mut out = Vec::new();
    let read = record
        .sections()
        .next()
        .unwrap()
        .reader()
        .read_to_end(&mut out);
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

/// A file that is made while it is read, and remembers how it was read.
#[derive(Debug, Clone)]
struct Generated {
    length: u64,
    table: Arc<Vec<u8>>,
    /// The most bytes asked for at once, and the bytes given in all.
    asked_max: Arc<AtomicUsize>,
    given: Arc<AtomicU64>,
}

/// A prime, so that the content's period is no power of two.
const PERIOD: usize = 65_521;

impl Generated {
    fn new(length: u64) -> Self {
        let table = (0..2 * PERIOD)
            .map(|place| ((place % PERIOD) * 31 % 251) as u8)
            .collect();
        let (asked_max, given) = (Arc::default(), Arc::default());
        Self {
            length,
            table: Arc::new(table),
            asked_max,
            given,
        }
    }

    /// The content at an offset, at most one period long.
    fn at(&self, offset: u64, length: usize) -> &[u8] {
        let begin = (offset % PERIOD as u64) as usize;
        &self.table[begin..begin + length.min(PERIOD)]
    }
}

impl Source for Generated {
    fn open(&self) -> io::Result<Box<dyn Bytes + '_>> {
        Ok(Box::new(GeneratedBytes { file: self, at: 0 }))
    }
}

struct GeneratedBytes<'a> {
    file: &'a Generated,
    at: u64,
}

impl Read for GeneratedBytes<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.file.asked_max.fetch_max(out.len(), Ordering::Relaxed);
        let left = usize::try_from(self.file.length - self.at).unwrap();
        let content = self.file.at(self.at, left.min(out.len()));
        out[..content.len()].copy_from_slice(content);
        self.at += content.len() as u64;
        self.file
            .given
            .fetch_add(content.len() as u64, Ordering::Relaxed);
        Ok(content.len())
    }
}

impl Seek for GeneratedBytes<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(by) => self.file.length.checked_add_signed(by).unwrap(),
            SeekFrom::Current(by) => self.at.checked_add_signed(by).unwrap(),
        };
        Ok(self.at)
    }
}

/// Compares what comes with what was generated, and keeps nothing.
struct Comparing {
    file: Generated,
    next: u64,
    largest: usize,
}

impl Destination for Comparing {
    fn write_at(
        &mut self,
        file: &FileHead,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ReassemblyError> {
        assert_eq!((file.number, offset), (FileNumber::new(0), self.next));
        assert!(
            bytes == self.file.at(offset, bytes.len()),
            "differs at {offset}"
        );
        self.next += bytes.len() as u64;
        self.largest = self.largest.max(bytes.len());
        Ok(())
    }
}

/// One gibibyte goes through understanding, section, parsing and reassembly. No step asks for, or
/// hands on, more than 16 KiB at once, and each byte of the file is read once but for its begin: so
/// no step can hold the file.
#[test]
fn a_gibibyte_streams_in_small_steps() {
    const GIBIBYTE: u64 = 1 << 30;
    let file = Generated::new(GIBIBYTE);
    let mut record = Record::new();
    record.add("study.bin", file.clone()).unwrap();
    assert_eq!(file.given.load(Ordering::Relaxed), 132);

    let section = record.sections().next().unwrap();
    assert_eq!(section.class(), SectionClass::Other);
    assert!(section.length() - GIBIBYTE < 200);
    let mut to = Comparing {
        file: file.clone(),
        next: 0,
        largest: 0,
    };
    let mut reassembly = Reassembly::new();
    let mut reader = SectionReader::new(section.reader()).unwrap();
    reassembly.add(&mut reader, &mut to).unwrap();
    assert_eq!(to.next, GIBIBYTE);
    assert!(reassembly.files().all(record::Outline::is_whole));
    assert_eq!(file.given.load(Ordering::Relaxed), GIBIBYTE + 132);
    assert!(file.asked_max.load(Ordering::Relaxed) <= 16 << 10);
    assert!(to.largest <= 16 << 10);
}

/// A Bundle of 64 MiB, nearly all of it one string, is scanned once and in the same small steps.
#[test]
fn a_large_bundle_is_scanned_in_small_steps() {
    #[derive(Debug)]
    struct Large {
        asked_max: Arc<AtomicUsize>,
    }
    struct LargeBytes<'a> {
        at: u64,
        asked_max: &'a AtomicUsize,
    }
    const BEGIN: &[u8] =
        br#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Binary","data":""#;
    const END: &[u8] = br#""}}, {"resource":{"resourceType":"Patient"}}]}"#;
    const LENGTH: u64 = 64 << 20;
    impl Source for Large {
        fn open(&self) -> io::Result<Box<dyn Bytes + '_>> {
            Ok(Box::new(LargeBytes {
                at: 0,
                asked_max: &self.asked_max,
            }))
        }
    }
    impl Read for LargeBytes<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.asked_max.fetch_max(out.len(), Ordering::Relaxed);
            let end_begin = LENGTH - END.len() as u64;
            let count = if self.at < BEGIN.len() as u64 {
                (&BEGIN[self.at as usize..]).read(out)?
            } else if self.at < end_begin {
                let count = out.len().min((end_begin - self.at) as usize);
                out[..count].fill(b'A');
                count
            } else {
                (&END[(self.at - end_begin) as usize..]).read(out)?
            };
            self.at += count as u64;
            Ok(count)
        }
    }
    impl Seek for LargeBytes<'_> {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.at = match to {
                SeekFrom::Start(at) => at,
                SeekFrom::End(by) => LENGTH.checked_add_signed(by).unwrap(),
                SeekFrom::Current(by) => self.at.checked_add_signed(by).unwrap(),
            };
            Ok(self.at)
        }
    }
    let asked_max = Arc::new(AtomicUsize::new(0));
    let mut record = Record::new();
    let file = record
        .add(
            "b.json",
            Large {
                asked_max: asked_max.clone(),
            },
        )
        .unwrap();
    let classes: Vec<&str> = file
        .pieces()
        .iter()
        .map(|piece| piece.class().name())
        .collect();
    assert_eq!(classes, ["homepage", "other", "homepage", "homepage"]);
    assert!(file.oddities().is_empty());
    assert!(asked_max.load(Ordering::Relaxed) <= 16 << 10);
}

proptest! {
    #[test]
    fn any_plaintext_is_a_section_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_section(&bytes);
        let _ = parse_section(&[&[1, 4, 0, 0, 0, 40], bytes.as_slice()].concat());
    }

    #[test]
    fn an_altered_section_is_a_consistent_one_or_an_error(
        place in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = good().encode();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(parsed) = parse_section(&bytes) {
            let mut files = MemoryFiles::with_limit(1 << 20);
            let mut reader = SectionReader::new(bytes.as_slice()).unwrap();
            prop_assert_eq!(reader.manifest(), parsed.manifest());
            let mut reassembly = Reassembly::new();
            match reassembly.add(&mut reader, &mut files) {
                Ok(()) => prop_assert_eq!(reassembly.files().len(), 2),
                Err(error) => prop_assert!(
                    matches!(error, ReassemblyError::TooLong { .. }),
                    "{:?}",
                    error
                ),
            }
        }
    }
}
