//! Understanding a record, reading its sections and putting its files together takes memory of its
//! pieces, not of its bytes. The only test of its file, so that the process's peak is its own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use record::{
    Bytes, Destination, FileHead, Reassembly, ReassemblyError, Record, SectionClass, SectionReader,
    Source,
};

/// Of the files together, a sixth and less: nothing that keeps a file's bytes stays below.
const MEMORY_BYTES_MAX: u64 = 64 << 20;
const RECORD_BYTES_MIN: u64 = 384 << 20;

#[test]
fn a_long_record_is_understood_and_put_together_in_bounded_memory() {
    let files = [
        ("unknown.bin", unknown()),
        ("slice", dicom()),
        ("stay.json", bundle()),
    ];
    let before = status("VmRSS:");
    let mut record = Record::new();
    for (name, file) in &files {
        record.add(name, file.clone()).unwrap();
    }
    let classes: Vec<_> = record.sections().map(|section| section.class()).collect();
    assert_eq!(
        classes,
        [
            // Of the Bundle, what stands around its entries.
            SectionClass::Homepage,
            SectionClass::Laboratory,
            SectionClass::Imaging,
            SectionClass::Other
        ]
    );
    let pieces: Vec<_> = record.files().iter().map(|f| f.pieces().len()).collect();
    assert_eq!(pieces[..2], [1, 1]);
    assert!(pieces[2] as u64 > ENTRIES, "the Bundle is cut by entry");

    let mut to = Compared {
        files: files.iter().map(|(_, file)| file.open_here()).collect(),
        buffer: Vec::new(),
        bytes: 0,
    };
    let mut reassembly = Reassembly::new();
    for section in record.sections() {
        let mut reader = SectionReader::new(section.reader()).unwrap();
        reassembly.add(&mut reader, &mut to).unwrap();
    }
    assert_eq!(reassembly.files().len(), files.len());
    assert!(reassembly.files().all(|file| file.is_whole()));
    let whole: u64 = files.iter().map(|(_, file)| file.length()).sum();
    assert!(whole > RECORD_BYTES_MIN);
    assert_eq!(to.bytes, whole);

    let grown = status("VmHWM:") - before;
    assert!(grown < MEMORY_BYTES_MAX, "{grown} bytes more than before");
}

/// A file that is nowhere: a head, a unit many times, a tail.
#[derive(Debug, Clone)]
struct Made {
    head: Arc<[u8]>,
    unit: Arc<[u8]>,
    units: u64,
    tail: Arc<[u8]>,
}

const ENTRIES: u64 = 40_000;

fn unknown() -> Made {
    let unit: Vec<u8> = (0..1u32 << 20).map(|n| (n % 251) as u8).collect();
    Made::new(b"\x01\x02", &unit, 160, b"end")
}

/// An image with one long value of pixels.
fn dicom() -> Made {
    let units = 160u32;
    let mut head = vec![0; 128];
    head.extend_from_slice(b"DICM");
    // Explicit VR Little Endian, then CT.
    head.extend_from_slice(b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0");
    head.extend_from_slice(b"\x08\x00\x60\x00CS\x02\x00CT");
    head.extend_from_slice(b"\xe0\x7f\x10\x00OW\0\0");
    head.extend_from_slice(&(units << 20).to_le_bytes());
    Made::new(&head, &vec![7; 1 << 20], u64::from(units), b"")
}

/// A Bundle of laboratory results, each with a long note.
fn bundle() -> Made {
    let entry = format!(
        r#"{{"resource":{{"resourceType":"Observation","category":[{{"coding":[{{"code":"laboratory"}}]}}],"note":[{{"text":"{}"}}]}}}}"#,
        "n".repeat(1_600),
    );
    Made::new(
        br#"{"resourceType":"Bundle","type":"collection","entry":["#,
        format!("{entry},\n").as_bytes(),
        ENTRIES - 1,
        format!("{entry}]}}").as_bytes(),
    )
}

impl Made {
    fn new(head: &[u8], unit: &[u8], units: u64, tail: &[u8]) -> Self {
        let (head, unit, tail) = (head.into(), unit.into(), tail.into());
        Self {
            head,
            unit,
            units,
            tail,
        }
    }

    fn length(&self) -> u64 {
        (self.head.len() + self.tail.len()) as u64 + self.units * self.unit.len() as u64
    }

    fn open_here(&self) -> Reading {
        let file = self.clone();
        Reading { file, at: 0 }
    }

    /// The bytes from a place on, as many as lie together.
    fn from(&self, at: u64) -> &[u8] {
        let head = self.head.len() as u64;
        let body = head + self.units * self.unit.len() as u64;
        if at < head {
            &self.head[at as usize..]
        } else if at < body {
            &self.unit[((at - head) % self.unit.len() as u64) as usize..]
        } else {
            &self.tail[((at - body) as usize).min(self.tail.len())..]
        }
    }
}

impl Source for Made {
    fn open(&self) -> io::Result<Box<dyn Bytes + '_>> {
        Ok(Box::new(self.open_here()))
    }
}

struct Reading {
    file: Made,
    at: u64,
}

impl Read for Reading {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.file.from(self.at).read(out)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Reading {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.file.length().checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Keeps nothing: compares what comes with what the files have there.
struct Compared {
    files: Vec<Reading>,
    buffer: Vec<u8>,
    bytes: u64,
}

impl Destination for Compared {
    fn write_at(
        &mut self,
        file: &FileHead,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ReassemblyError> {
        let reading = &mut self.files[file.number.number() as usize];
        self.buffer.resize(bytes.len(), 0);
        reading.seek(SeekFrom::Start(offset)).unwrap();
        reading.read_exact(&mut self.buffer).unwrap();
        assert!(self.buffer == bytes, "at {offset} of {}", file.name);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// What Linux tells of this process, in bytes.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024
}
