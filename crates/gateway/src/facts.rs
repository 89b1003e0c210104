//! What a document's file is: its size, its hashes, its classes.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use record::{FileName, SectionClass, understand_stream};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use crate::dicom;
use crate::dicomweb::INDEXED;

/// Bytes that are hashed at a time.
const PIECE: usize = 64 * 1024;
/// Bytes of a file whose content is looked into for a title; a CT series has no file above.
const TITLE_BYTES_MAX: u64 = 16 << 20;

/// A whole file of a record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Facts {
    /// Its number in the record.
    pub(crate) file: u32,
    pub(crate) name: String,
    pub(crate) media_type: String,
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    /// In base64, as FHIR writes both.
    pub(crate) sha1: String,
    pub(crate) sha256: String,
    pub(crate) classes: Vec<SectionClass>,
    /// In the record's words, if a title is found.
    pub(crate) title: Option<String>,
    /// As the record writes it.
    pub(crate) date: Option<String>,
    /// What an image is found by, in DICOM's JSON model.
    pub(crate) dicom: Option<Value>,
}

impl Facts {
    /// Reads a file once for its hashes and once to understand it; memory does not grow with it.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn of(
        file: u32,
        name: &str,
        media_type: Option<&str>,
        path: &Path,
    ) -> io::Result<Self> {
        let (size, sha1, sha256) = hashes(path)?;
        let understood = understand_stream(&FileName::nearest(name), &mut File::open(path)?)?;
        let mut classes: Vec<SectionClass> =
            understood.pieces.iter().map(record::Piece::class).collect();
        classes.sort_unstable();
        classes.dedup();
        let found = understood.media_type.as_str();
        let media_type = media_type.unwrap_or(found).to_owned();
        let mut title = None;
        if size <= TITLE_BYTES_MAX {
            let bytes = std::fs::read(path)?;
            title = viewing::title(found, &bytes);
        }
        let (title, date) = match title {
            Some(title) => (title.text, title.date),
            None => (None, None),
        };
        let dicom = match found {
            "application/dicom" => image(path)?,
            _ => None,
        };
        Ok(Self {
            file,
            name: name.to_owned(),
            media_type,
            path: path.to_owned(),
            size,
            sha1,
            sha256,
            classes,
            title,
            date,
            dicom,
        })
    }
}

/// What an image is found by; none of a file that is no image of a study.
fn image(path: &Path) -> io::Result<Option<Value>> {
    let Some(header) = dicom::header(path)? else {
        return Ok(None);
    };
    let is_image = ["0020000D", "0020000E", "00080018"]
        .iter()
        .all(|tag| header.text(tag).is_some());
    let mut attributes = header.only(&INDEXED);
    // Available Transfer Syntax UID (PS3.18, section 10.6.3.3.3).
    let syntax = json!({ "vr": "UI", "Value": [header.transfer_syntax] });
    attributes.insert("00083002".to_owned(), syntax);
    Ok(is_image.then_some(Value::Object(attributes)))
}

/// Length, SHA-1 and SHA-256 of a file, the hashes in base64.
pub(crate) fn hashes(path: &Path) -> io::Result<(u64, String, String)> {
    let mut file = File::open(path)?;
    let (mut sha1, mut sha256) = (Sha1::new(), Sha256::new());
    let mut piece = vec![0; PIECE];
    let mut size = 0;
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        size += read as u64;
        sha1.update(&piece[..read]);
        sha256.update(&piece[..read]);
    }
    let sha1 = BASE64.encode(sha1.finalize());
    Ok((size, sha1, BASE64.encode(sha256.finalize())))
}
