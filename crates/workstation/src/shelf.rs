//! Records on a doctor's machine: understood, sealed to a file, and opened from one, in constant
//! memory.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use record::{
    Amends, DiskFile, FileHead, KeywordSet, MemoryFile, Reassembly, ReassemblyError, Record,
    RecordError, SectionClass, SectionError, SectionReader, Writers,
};
use scheme::{
    ClassCode, ContentKey, Digest, DigestStream, Header, Keyword, OpenError, SealError, Sealing,
    SectionIndex, SectionOpener, SectionPlan,
};
use thiserror::Error;

/// Bytes that are read, sealed or opened at a time.
const PIECE: usize = 64 * 1024;
/// The longest name on disk: 4 bytes a character stay below what file systems take.
const NAME_CHARACTERS_MAX: usize = 50;

/// Why a record cannot be read, sealed or opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShelfError {
    /// A file is not there, not readable, or larger than a record can hold.
    #[error("{0} cannot be read: {1}; check the path")]
    Unreadable(PathBuf, #[source] RecordError),
    /// The record's parts do not fit into one.
    #[error("a record's file cannot be read: {0}")]
    Record(#[from] RecordError),
    /// A file of this machine.
    #[error("a file of this machine cannot be read or written: {0}")]
    File(#[from] io::Error),
    /// An opened section is no section.
    #[error("an opened section is not what was sealed: {0}")]
    Section(#[from] SectionError),
    /// Sections contradict each other.
    #[error("the opened sections do not fit together: {0}")]
    Reassembly(#[from] ReassemblyError),
    /// Nothing can be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A section does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A keyword is too long.
    #[error("a keyword is longer than an index can hold: {0}")]
    Keyword(#[from] scheme::DecodeError),
}

/// A record, and the digest of each of its files as it was before anything was done with it.
pub struct Shelved {
    /// The record.
    pub record: Record,
    originals: Vec<Digest>,
}

/// A record of files in memory, by name.
///
/// # Errors
/// [`ShelfError::Record`].
pub fn from_bytes(samples: &[(&str, &[u8])]) -> Result<Shelved, ShelfError> {
    let mut record = Record::new();
    for (name, bytes) in samples {
        record.add(name, MemoryFile::new(*bytes))?;
    }
    Ok(Shelved {
        record,
        originals: samples
            .iter()
            .map(|(_, bytes)| scheme::sha256(bytes))
            .collect(),
    })
}

/// A record of the files given.
///
/// # Errors
/// [`ShelfError`].
pub fn from_files(paths: &[impl AsRef<Path>]) -> Result<Shelved, ShelfError> {
    shelve(Record::new(), paths)
}

/// A record of the files given that amends an earlier one and carries its keywords.
///
/// # Errors
/// [`ShelfError`].
pub fn amending(
    earlier: Amends,
    keywords: &KeywordSet,
    paths: &[impl AsRef<Path>],
) -> Result<Shelved, ShelfError> {
    shelve(Record::amending(earlier, keywords), paths)
}

fn shelve(mut record: Record, paths: &[impl AsRef<Path>]) -> Result<Shelved, ShelfError> {
    let mut originals = Vec::new();
    for path in paths {
        let path = path.as_ref();
        let name = path
            .file_name()
            .map_or_else(|| "file".into(), |name| name.to_string_lossy().into_owned());
        record
            .add(&name, DiskFile::new(path))
            .map_err(|error| ShelfError::Unreadable(path.to_owned(), error))?;
        originals.push(digest_of_file(path)?);
    }
    Ok(Shelved { record, originals })
}

impl Shelved {
    /// Puts the record's files together again from its opened sections, which lie in `sections`, and
    /// says whether each file is, byte for byte, what it was.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub fn comes_back_whole(
        &self,
        sections: &[PathBuf],
        folder: &Path,
    ) -> Result<bool, ShelfError> {
        let target = |number: usize| folder.join(format!("file-{number}"));
        let mut writers = Writers::new(|head: &FileHead| {
            // Sections come in turn and open the same file again: what is there of it stays.
            let mut open = OpenOptions::new();
            open.write(true).create(true).truncate(false);
            open.open(target(head.number.number() as usize))
        });
        let mut reassembly = Reassembly::new();
        for section in sections {
            reassembly.add(
                &mut SectionReader::new(BufReader::new(File::open(section)?))?,
                &mut writers,
            )?;
        }
        writers.finish()?;
        let whole = reassembly.files().len() == self.originals.len()
            && reassembly.files().all(record::Outline::is_whole);
        for (number, original) in self.originals.iter().enumerate() {
            if !whole || digest_of_file(&target(number))? != *original {
                return Ok(false);
            }
        }
        Ok(whole)
    }
}

/// SHA-256 of a file.
///
/// # Errors
/// [`io::Error`] if it cannot be read.
pub fn digest_of_file(path: &Path) -> io::Result<Digest> {
    digest_of(&mut File::open(path)?)
}

fn digest_of(source: &mut dyn Read) -> io::Result<Digest> {
    let mut digest = DigestStream::new();
    let mut piece = vec![0; PIECE];
    loop {
        match source.read(&mut piece)? {
            0 => return Ok(digest.finish()),
            read => digest.update(&piece[..read]),
        }
    }
}

/// The classes of a record, in their order.
pub fn classes(record: &Record) -> Vec<SectionClass> {
    record.sections().map(|section| section.class()).collect()
}

/// What the scheme seals: class and exact length of each section.
pub fn plans(record: &Record) -> Vec<SectionPlan> {
    record
        .sections()
        .map(|section| SectionPlan {
            class: section.class().into(),
            length: section.length(),
        })
        .collect()
}

/// The record's keywords as the scheme takes them.
///
/// # Errors
/// [`ShelfError::Keyword`].
pub fn keywords(record: &Record) -> Result<Vec<Keyword>, ShelfError> {
    let (set, _) = record.keywords();
    Ok(set
        .iter()
        .map(|keyword| Keyword::new(keyword.as_str().as_bytes()))
        .collect::<Result<_, _>>()?)
}

/// Writes the container to a file and gives its digest and length.
///
/// # Errors
/// [`ShelfError`].
pub fn seal_to_file(
    record: &Record,
    sealing: &Sealing,
    path: &Path,
) -> Result<(Digest, u64), ShelfError> {
    let mut file = File::create(path)?;
    let mut digest = DigestStream::new();
    let mut length = 0;
    let mut write = |bytes: &[u8]| {
        digest.update(bytes);
        length += bytes.len() as u64;
        file.write_all(bytes)
    };
    write(&sealing.header().encode())?;
    let mut plain = vec![0; PIECE];
    let mut sealed = Vec::with_capacity(2 * PIECE);
    for (place, plan) in sealing.order().iter().enumerate() {
        let Some(mut sealer) = sealing.section(place) else {
            continue;
        };
        let Some(section) = section(record, plan.class) else {
            continue;
        };
        let mut reader = section.reader();
        loop {
            let read = reader.read(&mut plain)?;
            if read == 0 {
                break;
            }
            sealer.update(&plain[..read], &mut sealed)?;
            write(&sealed)?;
            sealed.clear();
        }
        sealer.finish_by_chunk::<ShelfError>(|chunk| Ok(write(chunk)?))?;
    }
    file.sync_all()?;
    Ok((digest.finish(), length))
}

/// Opens a section of a container in a file and compares it, as it opens, with the section of the
/// record that was sealed. Gives its length and whether every byte is equal.
///
/// # Errors
/// [`ShelfError`].
pub fn open_and_compare(
    path: &Path,
    header: &Header,
    index: SectionIndex,
    key: &ContentKey,
    record: &Record,
    class: SectionClass,
) -> Result<(u64, bool), ShelfError> {
    let Some(section) = section(record, class.into()) else {
        return Ok((0, false));
    };
    let mut expected = BufReader::new(section.reader());
    let mut equal = true;
    let length = open_section(path, header, index, key, &mut |opened| {
        let mut original = vec![0; opened.len()];
        equal &= expected.read_exact(&mut original).is_ok() && original == opened;
        Ok(())
    })?;
    let more = expected.read(&mut [0])?;
    Ok((length, equal && more == 0 && length == section.length()))
}

/// Opens a section of a container in a file, piece by piece.
///
/// # Errors
/// [`ShelfError`].
pub fn open_section(
    path: &Path,
    header: &Header,
    index: SectionIndex,
    key: &ContentKey,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<u64, ShelfError> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(header.payload_offset(index)))?;
    let mut sealed = file.take(header.payload_length(index));
    let mut opener = SectionOpener::new(header, index, key);
    let (mut piece, mut plain) = (vec![0; PIECE], Vec::with_capacity(2 * PIECE));
    loop {
        let read = sealed.read(&mut piece)?;
        if read == 0 {
            break;
        }
        opener.update(&piece[..read], &mut plain)?;
        take(&plain)?;
        plain.clear();
    }
    Ok(opener.finish()?)
}

/// The class of each of these opened sections, and which record they amend; whether all sections say the
/// same of it is seen when they are put together.
pub(crate) fn heads_of(
    sections: &[PathBuf],
) -> Result<(Vec<SectionClass>, Option<Amends>), ShelfError> {
    let (mut classes, mut amends) = (Vec::new(), None);
    for section in sections {
        let opened = BufReader::new(File::open(section)?);
        let reader = SectionReader::new(opened)?;
        classes.push(reader.manifest().class());
        amends = amends.or(reader.manifest().amends().copied());
    }
    Ok((classes, amends))
}

/// A file that came out of opened sections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack {
    /// Where it lies.
    pub path: PathBuf,
    /// What it was taken for when it was stored.
    pub media_type: String,
    /// Whether every byte of it is there; otherwise its name ends in `.part` and what was not granted
    /// is left out as holes of zeros.
    pub whole: bool,
}

/// Puts files together again from opened sections, in a folder that has none of their names. A file
/// that is there is never overwritten.
///
/// # Errors
/// [`ShelfError`].
pub fn put_back(sections: &[PathBuf], folder: &Path) -> Result<Vec<PutBack>, ShelfError> {
    std::fs::create_dir_all(folder)?;
    let target = |head: &FileHead| folder.join(format!("{}.part", name_on_disk(head)));
    let mut begun = BTreeSet::new();
    let mut writers = Writers::new(|head: &FileHead| {
        let mut open = OpenOptions::new();
        // For nobody else on this machine.
        open.write(true).mode(0o600);
        // Sections come in turn and open the same file again; somebody else's is never opened.
        if begun.insert(head.number) {
            open.create_new(true);
        }
        open.open(target(head))
    });
    let mut reassembly = Reassembly::new();
    for section in sections {
        let opened = BufReader::new(File::open(section)?);
        reassembly.add(&mut SectionReader::new(opened)?, &mut writers)?;
    }
    writers.finish()?;
    let mut files = Vec::new();
    for outline in reassembly.files() {
        let head = outline.head();
        let mut path = target(head);
        if outline.is_whole() {
            let whole = folder.join(name_on_disk(head));
            // Unlike a rename, a link does not replace a file that is there.
            std::fs::hard_link(&path, &whole)?;
            std::fs::remove_file(&path)?;
            path = whole;
        }
        files.push(PutBack {
            path,
            media_type: head.media_type.as_str().to_owned(),
            whole: outline.is_whole(),
        });
    }
    Ok(files)
}

/// A name chosen by a record's author, made one that cannot lead out of a folder. The number keeps
/// files of equal names apart.
fn name_on_disk(head: &FileHead) -> String {
    let kept: String = head
        .name
        .as_str()
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || "._- ".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let kept = kept.trim_start_matches('.').trim();
    let kept: String = kept.chars().take(NAME_CHARACTERS_MAX).collect();
    format!("{:03}-{kept}", head.number.number())
}

fn section(record: &Record, class: ClassCode) -> Option<record::Section<'_>> {
    record
        .sections()
        .find(|section| ClassCode::from(section.class()) == class)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sections of a record, opened into files.
    fn opened(shelved: &Shelved, folder: &Path) -> Vec<PathBuf> {
        let write = |section: record::Section<'_>| {
            let path = folder.join(format!("opened-{}", section.class().name()));
            let mut file = File::create(&path).unwrap();
            io::copy(&mut section.reader(), &mut file).unwrap();
            path
        };
        shelved.record.sections().map(write).collect()
    }

    #[test]
    fn no_name_that_an_author_chose_leads_out_of_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let long = "\u{1f9e0}".repeat(200);
        let names = [
            "../../passwd",
            "/etc/passwd",
            "..",
            ".ssh",
            "a\\..\\b",
            "scan\u{202e}gpj.exe",
            "same",
            "same",
            &long,
        ];
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &b"content"[..])).collect();
        let shelved = from_bytes(&files).unwrap();
        let folder = root.path().join("read");
        let found = put_back(&opened(&shelved, root.path()), &folder).unwrap();
        assert_eq!(found.len(), names.len());
        for file in &found {
            assert!(file.whole);
            assert_eq!(file.path.parent(), Some(folder.as_path()));
            assert_eq!(std::fs::read(&file.path).unwrap(), b"content");
            let name = file.path.file_name().unwrap().to_str().unwrap();
            assert!(
                !name.contains('\u{202e}') && !name.starts_with('.'),
                "{name}"
            );
        }
        let there = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!(there, names.len(), "nothing else is left there");
    }

    /// Two files that both have several classes: each section opens both again, and a file that was
    /// emptied when it was opened the second time came back as holes.
    #[test]
    fn files_of_several_classes_each_come_back_whole() {
        let root = tempfile::tempdir().unwrap();
        let bundle = br#"{"resourceType": "Bundle", "type": "collection", "entry": [
            {"resource": {"resourceType": "Patient"}}, {"resource": {"resourceType": "Condition"}}]}"#;
        let shelved = from_bytes(&[("a.json", bundle), ("b.json", bundle)]).unwrap();
        let sections = opened(&shelved, root.path());
        assert_eq!(sections.len(), 2);
        let folder = root.path().join("whole");
        std::fs::create_dir(&folder).unwrap();
        assert!(shelved.comes_back_whole(&sections, &folder).unwrap());
    }

    #[test]
    fn a_file_that_is_there_is_never_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let shelved = from_bytes(&[("letter.txt", b"new")]).unwrap();
        let sections = opened(&shelved, root.path());
        let folder = root.path().join("read");
        let first = put_back(&sections, &folder).unwrap();
        std::fs::write(&first[0].path, "notes of one's own").unwrap();
        assert!(put_back(&sections, &folder).is_err());
        let kept = std::fs::read_to_string(&first[0].path).unwrap();
        assert_eq!(kept, "notes of one's own");
    }
}
