//! Files that somebody made to do harm, or that came to harm.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use viewing::{Kind, NotShown, Reason, View, title, view};

const FHIR: &str = "application/fhir+json";
const TYPES: [&str; 10] = [
    FHIR,
    "application/x-ndjson",
    "application/dicom",
    "application/xml",
    "x-application/hl7-v2+er7",
    "text/plain",
    "text/html",
    "application/pdf",
    "application/octet-stream",
    "",
];

fn sample(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/");
    std::fs::read(format!("{folder}{name}")).expect("samples are part of the repository")
}

/// Everything that a page asks for.
fn look(media_type: &str, bytes: &[u8]) {
    let _ = title(media_type, bytes);
    if let View::Pictures(pictures) = view(media_type, bytes) {
        for frame in [0, 1, pictures.frames.saturating_sub(1)] {
            let _ = pictures.png(frame, pictures.window);
            let _ = pictures.value(frame, 3, 3);
        }
    }
}

/// A DICOM file in explicit little endian.
fn dicom(syntax: &str, elements: &[(u32, &[u8; 2], &[u8])]) -> Vec<u8> {
    let mut out = vec![0; 128];
    out.extend(b"DICM");
    let mut add = |tag: u32, kind: &[u8; 2], value: &[u8]| {
        out.extend(((tag >> 16) as u16).to_le_bytes());
        out.extend((tag as u16).to_le_bytes());
        out.extend(kind);
        if matches!(kind, b"OB" | b"OW" | b"SQ" | b"UN") {
            out.extend([0, 0]);
            out.extend((value.len() as u32).to_le_bytes());
        } else {
            out.extend((value.len() as u16).to_le_bytes());
        }
        out.extend(value);
    };
    add(0x0002_0010, b"UI", syntax.as_bytes());
    for (tag, kind, value) in elements {
        add(*tag, kind, value);
    }
    out
}

#[test]
fn markup_in_a_name_comes_back_as_text() {
    let name = "<script>alert(1)</script><img src=x onerror=alert(2)>'\\\"--";
    let written = name.replace('\\', "\\\\").replace('"', "\\\"");
    let patient = format!(r#"{{"resourceType":"Patient","name":[{{"text":"{written}"}}]}}"#);
    let View::Clinical(clinical) = view(FHIR, patient.as_bytes()) else {
        panic!("it is a resource");
    };
    assert_eq!(clinical.groups[0].rows[0].what, name);
    let message = format!("MSH|^~\\&|\rAL1|1||{}\r", "<b onclick=x>");
    let View::Clinical(clinical) = view("x-application/hl7-v2+er7", message.as_bytes()) else {
        panic!("it is a message");
    };
    assert_eq!(clinical.groups[0].rows[0].what, "<b onclick=x>");
    assert_eq!(
        view("text/plain", b"<script>"),
        View::Text("<script>".to_owned())
    );
}

#[test]
fn a_million_entries_end_within_the_bounds() {
    let entry = r#"{"resource":{"resourceType":"Flag"}},"#;
    let bundle = format!(
        "{{\"resourceType\":\"Bundle\",\"entry\":[{}{{}}]}}",
        entry.repeat(1_000_000)
    );
    let begun = Instant::now();
    let View::Clinical(clinical) = view(FHIR, bundle.as_bytes()) else {
        panic!("it is a Bundle");
    };
    assert_eq!(clinical.groups[0].rows.len(), 65_536);
    assert_eq!(clinical.left_out, 1_000_001 - 65_536);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn deep_nesting_is_left_out_and_the_rest_is_shown() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let bundle = format!(
        r#"{{"entry":[{{"resource":{{"resourceType":"Condition","x":{deep}}}}},
            {{"resource":{{"resourceType":"Condition","code":{{"text":"seen"}}}}}}]}}"#
    );
    let View::Clinical(clinical) = view(FHIR, bundle.as_bytes()) else {
        panic!("it is a Bundle");
    };
    assert_eq!(clinical.left_out, 1);
    assert_eq!(clinical.groups[0].kind, Kind::Problems);
    assert_eq!(clinical.groups[0].rows[0].what, "seen");
}

#[test]
fn references_in_a_circle_end() {
    let bundle = r##"[{"resourceType":"DiagnosticReport","id":"a","result":[{"reference":"DiagnosticReport/a"}],
        "performer":[{"reference":"#c"}],"contained":[{"resourceType":"PractitionerRole","id":"c",
        "practitioner":{"reference":"#c"}}]}]"##;
    look(FHIR, bundle.as_bytes());
}

#[test]
fn pixels_that_are_declared_and_not_there_are_not_allocated() {
    let size = |rows: &'static [u8; 2], syntax: &str| {
        dicom(
            syntax,
            &[
                (0x0028_0008, b"IS", b"2147483647"),
                (0x0028_0010, b"US", rows),
                (0x0028_0011, b"US", rows),
                (0x0028_0100, b"US", &[16, 0]),
                (0x7fe0_0010, b"OW", &[0; 10]),
            ],
        )
    };

    let bytes = size(&[0xff, 0xff], "1.2.840.10008.1.2.1");
    let View::Pictures(pictures) = view("application/dicom", &bytes) else {
        panic!("it is a DICOM file");
    };
    assert_eq!(pictures.frames, 4_096);
    assert_eq!(pictures.png(0, None), Err(NotShown::TooLarge));
    let bytes = size(&[0x00, 0x20], "1.2.840.10008.1.2.1");
    let View::Pictures(pictures) = view("application/dicom", &bytes) else {
        panic!("it is a DICOM file");
    };
    assert_eq!(pictures.png(0, None), Err(NotShown::Incomplete));
    // JPEG stands in fragments, and JPEG 2000 is not read.
    let jpeg = "1.2.840.10008.1.2.4.50";
    let jpeg_2000 = "1.2.840.10008.1.2.4.90";
    let unread = NotShown::TransferSyntax(jpeg_2000.to_owned());
    for (syntax, expected) in [(jpeg, NotShown::Layout), (jpeg_2000, unread)] {
        let bytes = size(&[2, 0], syntax);
        let View::Pictures(pictures) = view("application/dicom", &bytes) else {
            panic!("it is a DICOM file");
        };
        assert_eq!(pictures.png(0, None), Err(expected));
    }
}

#[test]
fn what_was_not_granted_and_what_has_no_view_say_so() {
    assert_eq!(view(FHIR, b""), View::Opaque(Reason::Empty));
    assert_eq!(
        view("application/dicom", &[0; 1000]),
        View::Opaque(Reason::NotGranted)
    );
    assert_eq!(
        view("application/dicom", b"GIF89a"),
        View::Opaque(Reason::Unreadable)
    );
    let pdf = Reason::MediaType("application/pdf".to_owned());
    assert_eq!(view("Application/PDF; x=y", b"%PDF-1.7"), View::Opaque(pdf));
    let frame = b"{\"resourceType\":\"Bundle\",\"entry\":[\0\0\0\0]}";
    assert_eq!(view(FHIR, frame), View::Opaque(Reason::NotGranted));
    assert_eq!(view(FHIR, b"{\"a\":1}"), View::Text("{\"a\":1}".to_owned()));
    assert_eq!(
        view("text/plain", b"a\0\0\0b"),
        View::Text("a\u{fffd}b".to_owned())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_looked_at(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for media_type in TYPES {
            look(media_type, &bytes);
        }
    }

    #[test]
    fn any_dicom_elements_are_looked_at(
        rest in proptest::collection::vec(any::<u8>(), 0..400),
        syntax in prop_oneof![Just("1.2.840.10008.1.2"), Just("1.2.840.10008.1.2.1"), Just("1.2.840.10008.1.2.2"), Just("1.2.840.10008.1.2.5")],
        shorts in proptest::collection::vec(any::<[u8; 2]>(), 7),
    ) {
        let small = |place: usize| [shorts[place][0] % 20, 0];
        let (rows, columns, bits) = (small(0), small(1), [if shorts[2][0] > 100 { 16 } else { 8 }, 0]);
        let mut bytes = dicom(syntax, &[
            (0x0028_0002, b"US", &small(3)),
            (0x0028_0010, b"US", &rows),
            (0x0028_0011, b"US", &columns),
            (0x0028_0100, b"US", &bits),
            (0x0028_0101, b"US", &small(4)),
            (0x0028_0102, b"US", &small(5)),
            (0x0028_0103, b"US", &[shorts[6][0] % 2, 0]),
            (0x7fe0_0010, b"OW", &rest),
        ]);
        look("application/dicom", &bytes);
        bytes.extend(&rest);
        look("application/dicom", &bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn changed_samples_are_looked_at(
        changes in proptest::collection::vec((any::<u32>(), any::<u8>(), 1_usize..40), 1..12),
        end in any::<u32>(),
    ) {
        let samples = [
            ("application/dicom", "secondary-hospital/ct-head/17106"),
            ("application/xml", "secondary-hospital/discharge-summary.xml"),
            ("x-application/hl7-v2+er7", "community-hospital/admission.hl7"),
            (FHIR, "secondary-hospital/stroke-stay.json"),
        ];
        for (media_type, name) in samples {
            let mut bytes = sample(name);
            for (at, byte, count) in &changes {
                let at = *at as usize % bytes.len();
                let end = (at + count).min(bytes.len());
                bytes[at..end].fill(*byte);
            }
            look(media_type, &bytes);
            bytes.truncate(end as usize % bytes.len());
            look(media_type, &bytes);
        }
    }
}
