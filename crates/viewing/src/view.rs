//! Which reader a file is for.

use crate::clinical::Clinical;
use crate::fhir;
use crate::limits::TEXT_BYTES_MAX;
use crate::words::cut;

/// What a file shows.
#[derive(Debug, Clone, PartialEq)]
pub enum View {
    /// Rows in groups.
    Clinical(Clinical),
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
    /// No byte of it was granted.
    NotGranted,
    /// Its media type has no view here. Another program may show it.
    MediaType(String),
    /// It is not what its media type says, or damaged.
    Unreadable,
}

/// What a file of this media type shows. Holes of NUL bytes are allowed; what is there is shown.
pub fn view(media_type: &str, bytes: &[u8]) -> View {
    let media_type = essence(media_type);
    if bytes.is_empty() {
        return View::Opaque(Reason::Empty);
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return View::Opaque(Reason::NotGranted);
    }
    if media_type.ends_with("json") || media_type.ends_with("ndjson") {
        return fhir::clinical(bytes).map_or_else(|| text(bytes), View::Clinical);
    }
    if media_type.starts_with("text/") {
        return text(bytes);
    }
    View::Opaque(Reason::MediaType(media_type))
}

fn text(bytes: &[u8]) -> View {
    let bytes = bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes).replace('\0', " ");
    View::Text(cut(&text, TEXT_BYTES_MAX).to_owned())
}

/// A media type without its parameters.
fn essence(media_type: &str) -> String {
    let essence = media_type.split(';').next().unwrap_or_default();
    cut(essence.trim(), MEDIA_TYPE_BYTES_MAX).to_ascii_lowercase()
}

/// The bound that a record has for media types.
const MEDIA_TYPE_BYTES_MAX: usize = 127;
