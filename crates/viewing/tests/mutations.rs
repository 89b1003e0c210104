//! Ten thousand changed inputs of each format, and inputs made to do harm, looked at as a page looks at
//! them: nothing panics, and what is shown stays within the bounds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

#[path = "../../record/tests/mutating/mod.rs"]
mod mutating;

use mutating::{Numbers, mutate};
use viewing::{View, view};

/// Inputs of each format.
const MUTATIONS: u64 = 10_000;

/// Everything that a page asks for, and its bounds. Whether something was shown as rows or pictures.
fn look(media_type: &str, bytes: &[u8]) -> bool {
    let shown = view(media_type, bytes);
    let (_, findings) = (shown.title(), shown.findings());
    match shown {
        View::Clinical(clinical) => {
            let rows = || clinical.groups.iter().flat_map(|group| &group.rows);
            assert!(rows().count() <= 65_536);
            for row in rows() {
                assert!(
                    row.what.len() <= 4_096
                        && row.text.as_ref().is_none_or(|text| text.len() <= 256 << 10)
                );
            }
            assert!(findings.len() <= rows().count() + 64);
            true
        }
        View::Pictures(pictures) => {
            assert!(pictures.frames <= 4_096 && findings.len() <= 1);
            let _ = pictures.png(0, pictures.window);
            let _ = pictures.value(0, 3, 3);
            true
        }
        View::Text(text) => {
            assert!(text.len() <= 1 << 20);
            false
        }
        View::Opaque(_) => false,
    }
}

fn ten_thousand(media_type: &str, originals: &[Vec<u8>], seed: u64, is_shown: bool) {
    let mut numbers = Numbers(seed);
    let mut shown = 0;
    for round in 0..MUTATIONS {
        let original = &originals[round as usize % originals.len()];
        assert!(
            original.len() < 16 * 1024,
            "small inputs, so that ten thousand take seconds"
        );
        let bytes = mutate(&mut numbers, original);
        shown += u64::from(look(media_type, &bytes));
    }
    assert_eq!(
        shown > MUTATIONS / 20,
        is_shown,
        "{media_type}: {shown} were shown"
    );
    for original in originals {
        assert_eq!(look(media_type, original), is_shown);
    }
}

fn sample(path: &str) -> Vec<u8> {
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/");
    std::fs::read(format!("{samples}{path}")).unwrap()
}

#[test]
fn bundles() {
    ten_thousand(
        "application/fhir+json",
        &[sample("formats/document-bundle.json")],
        1,
        true,
    );
}

#[test]
fn lines_of_resources() {
    ten_thousand(
        "application/fhir+ndjson",
        &[sample("formats/bulk-export.ndjson")],
        2,
        true,
    );
}

#[test]
fn single_resources() {
    let text = String::from_utf8(sample("formats/bulk-export.ndjson")).unwrap();
    let each: Vec<Vec<u8>> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
    ten_thousand("application/fhir+json", &each, 3, true);
}

#[test]
fn images_and_directories_of_media() {
    ten_thousand(
        "application/dicom",
        &[sample("secondary-hospital/ct-head/17106")],
        4,
        true,
    );
    ten_thousand(
        "application/dicom",
        &[sample("formats/dicomdir/DICOMDIR")],
        5,
        true,
    );
}

#[test]
fn clinical_documents() {
    ten_thousand(
        "application/cda+xml",
        &[sample("formats/stroke-referral.xml")],
        6,
        true,
    );
}

#[test]
fn bundles_in_xml() {
    ten_thousand(
        "application/fhir+xml",
        &[sample("formats/bundle.xml")],
        10,
        true,
    );
}

#[test]
fn messages() {
    let originals = [
        sample("formats/laboratory.hl7"),
        sample("formats/discharge.hl7"),
        sample("community-hospital/admission.hl7"),
    ];
    ten_thousand("x-application/hl7-v2+er7", &originals, 7, true);
}

#[test]
fn files_without_a_view() {
    ten_thousand(
        "application/pdf",
        &[sample("formats/referral-letter.pdf")],
        8,
        false,
    );
    let archive = [b"PK\x03\x04".to_vec(), [0xec, 0xc1, 0x01].repeat(1_000)].concat();
    ten_thousand("application/zip", &[archive], 9, false);
}

#[test]
fn hostile_files_end_soon() {
    let deep = format!(
        "{}{}",
        "<ClinicalDocument><component>".repeat(200_000),
        "\0<component>".repeat(200_000)
    );
    let entry = format!(
        "<ClinicalDocument><section><code code=\"30954-2\"/><title>a</title><entry>{}</entry></section></ClinicalDocument>",
        "<observation><code code=\"1\"/></observation>".repeat(200_000)
    );
    let sections = format!(
        "\0{}",
        "<component><section><title>a</title></section></component>".repeat(200_000)
    );
    let mut entities = "<!DOCTYPE ClinicalDocument [<!ENTITY e0 \"stroke\">".to_owned();
    for level in 1..40 {
        let before = format!("&e{};", level - 1).repeat(10);
        entities.push_str(&format!("<!ENTITY e{level} \"{before}\">"));
    }
    entities.push_str("]><ClinicalDocument><title>&e39;</title></ClinicalDocument>");
    let fields = format!(
        "MSH|^~\\&|\rOBX|1|CE|a^b||{}|{}\r",
        "x~".repeat(1_000_000),
        "|".repeat(1_000_000)
    );
    let segments = format!("MSH|^~\\&|\r{}", "OBX|1|TX|a||b\r".repeat(500_000));
    let lines = "{\"resourceType\":\"Flag\"}\n".repeat(500_000);
    let nested = format!(
        "{{\"resourceType\":\"Flag\",\"a\":{}",
        "[".repeat(1_000_000)
    );
    for (media_type, text) in [
        ("application/cda+xml", &deep),
        ("application/cda+xml", &entry),
        ("application/cda+xml", &sections),
        ("application/cda+xml", &entities),
        ("x-application/hl7-v2+er7", &fields),
        ("x-application/hl7-v2+er7", &segments),
        ("application/fhir+ndjson", &lines),
        ("application/fhir+json", &nested),
    ] {
        let begun = Instant::now();
        look(media_type, text.as_bytes());
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{media_type}, {} bytes",
            text.len()
        );
    }
    let View::Clinical(clinical) = view("application/cda+xml", entry.as_bytes()) else {
        panic!("it is a document");
    };
    assert_eq!(
        clinical.left_out, 1,
        "an entry beyond the bound is left out and counted"
    );
}
