//! What an opened file shows.

use viewing::{Reason, View, view};

use crate::input::Input;
use crate::records::samples;

const TYPES: [&str; 8] = [
    "application/fhir+json",
    "application/cda+xml",
    "x-application/hl7-v2+er7",
    "application/fhir+ndjson",
    "application/dicom",
    "application/fhir+xml",
    "application/pdf",
    "text/plain",
];

/// A media type by the first byte, and the file: what is shown of it has its bounds, and is the same again.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let media_type = TYPES[input.below(TYPES.len())];
    let bytes = input.rest();
    let shown = view(media_type, bytes);
    let (_, findings) = (shown.title(), shown.findings());
    match &shown {
        View::Clinical(clinical) => {
            let rows = || clinical.groups.iter().flat_map(|group| &group.rows);
            assert!(rows().count() <= 65_536);
            for row in rows() {
                assert!(row.what.len() <= 4_096);
                assert!(row.text.as_ref().is_none_or(|text| text.len() <= 256 << 10));
            }
            assert!(findings.len() <= rows().count() + 64);
        }
        View::Pictures(pictures) => {
            assert!(pictures.frames <= 4_096 && findings.len() <= 1);
            let _ = pictures.png(0, pictures.window);
            let _ = pictures.png(pictures.frames, pictures.window);
            let _ = pictures.value(0, 3, 3);
            let _ = pictures.value(pictures.frames, usize::MAX, usize::MAX);
        }
        View::Text(text) => assert!(text.len() <= 1 << 20),
        View::Opaque(reason) => {
            let _: &Reason = reason;
        }
    }
}

/// The samples, by the media type that each has.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = samples()
        .map(|(name, sample)| {
            let kind = match name {
                0..=4 => name,
                5 => 4,
                _ => 6,
            };
            [&[kind as u8], sample].concat()
        })
        .collect();
    let bundle = include_bytes!("../../../samples/formats/bundle.xml");
    seeds.push([&[5], bundle.as_slice()].concat());
    seeds
}
