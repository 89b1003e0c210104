//! Which reader a file is for.

use crate::cda;
use crate::clinical::Clinical;
use crate::dicom;
use crate::fhir;
use crate::hl7;
use crate::limits::{DOCUMENT_BYTES_MAX, TEXT_BYTES_MAX};
use crate::pictures::{Pictures, pictures};
use crate::stroke::{Finding, of_pictures};
use crate::words::{cut, without_tags};

/// What a file shows.
#[derive(Debug, Clone, PartialEq)]
pub enum View<'a> {
    /// Rows in groups.
    Clinical(Clinical),
    /// Pictures.
    Pictures(Box<Pictures<'a>>),
    /// Text as it stands, at most 1 MiB.
    Text(String),
    /// Nothing that a page can show.
    Opaque(Reason),
}

/// Why a file cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It has no bytes.
    Empty,
    /// No byte of it was granted, or none that says anything.
    NotGranted,
    /// Its media type has no view here. Another program may show it.
    MediaType(String),
    /// It is not what its media type says, or damaged.
    Unreadable,
}

/// What a file of this media type shows. Holes of NUL bytes are allowed; what is there is shown.
pub fn view<'a>(media_type: &str, bytes: &'a [u8]) -> View<'a> {
    let media_type = essence(media_type);
    if bytes.is_empty() {
        return View::Opaque(Reason::Empty);
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return View::Opaque(Reason::NotGranted);
    }
    if media_type.ends_with("json") {
        return match fhir::clinical(bytes) {
            Some(clinical) => View::Clinical(clinical),
            None if bytes.contains(&0) => View::Opaque(Reason::NotGranted),
            None => text(bytes),
        };
    }
    if media_type == "application/dicom" || dicom::is_dicom(bytes) {
        return pictures(bytes).map_or(View::Opaque(Reason::Unreadable), |pictures| {
            View::Pictures(Box::new(pictures))
        });
    }
    let shown = match media_type.as_str() {
        _ if bytes.len() > DOCUMENT_BYTES_MAX => None,
        "application/xml" | "text/xml" | "application/cda+xml" => {
            cda::clinical(bytes).or_else(|| fhir::clinical_xml(bytes))
        }
        "application/fhir+xml" => fhir::clinical_xml(bytes),
        "application/hl7-v2" | "x-application/hl7-v2+er7" | "text/hl7v2" => hl7::clinical(bytes),
        _ => None,
    };
    if let Some(clinical) = shown {
        return View::Clinical(clinical);
    }
    if media_type == "text/html" {
        let text = lossy(bytes);
        return View::Text(without_tags(&text, TEXT_BYTES_MAX));
    }
    let is_text = media_type.ends_with("xml") || media_type.contains("hl7-v2");
    if is_text || media_type.starts_with("text/") {
        return text(bytes);
    }
    View::Opaque(Reason::MediaType(media_type))
}

impl View<'_> {
    /// What a stroke team looks for first, as far as the file states it: the findings of a clinical
    /// file, or the study of the head that pictures are of.
    pub fn findings(&self) -> Vec<Finding> {
        match self {
            Self::Clinical(clinical) => clinical.stroke.clone(),
            Self::Pictures(pictures) => of_pictures(pictures),
            Self::Text(_) | Self::Opaque(_) => Vec::new(),
        }
    }
}

fn text<'a>(bytes: &[u8]) -> View<'a> {
    View::Text(lossy(bytes))
}

/// The begin of a text; holes, and what is not UTF-8, become U+FFFD.
fn lossy(bytes: &[u8]) -> String {
    let bytes = bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes);
    let parts = bytes
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty());
    let parts: Vec<_> = parts.map(String::from_utf8_lossy).collect();
    cut(&parts.join(HOLE), TEXT_BYTES_MAX).to_owned()
}

/// A media type without its parameters.
fn essence(media_type: &str) -> String {
    let essence = media_type.split(';').next().unwrap_or_default();
    cut(essence.trim(), MEDIA_TYPE_BYTES_MAX).to_ascii_lowercase()
}

/// Stands where a hole is in a text.
const HOLE: &str = "\u{fffd}";
/// The bound that a record has for media types.
const MEDIA_TYPE_BYTES_MAX: usize = 127;
