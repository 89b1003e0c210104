//! The real samples of the repository, read as a page reads them.

use viewing::{
    Clinical, Kind, NotShown, Pictures, Row, StrokeItem, TitleKind, View, Window, newest, title,
    view,
};

const FHIR: &str = "application/fhir+json";

fn sample(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/");
    std::fs::read(format!("{folder}{name}")).expect("samples are part of the repository")
}

fn clinical(media_type: &str, bytes: &[u8]) -> Clinical {
    match view(media_type, bytes) {
        View::Clinical(clinical) => clinical,
        other => panic!("{other:?}"),
    }
}

fn rows<'a>(clinical: &'a Clinical, kind: &Kind) -> &'a [Row] {
    let group = clinical.groups.iter().find(|group| group.kind == *kind);
    group.map(|group| group.rows.as_slice()).unwrap_or_default()
}

fn pictures(bytes: &[u8]) -> Pictures<'_> {
    match view("application/dicom", bytes) {
        View::Pictures(pictures) => *pictures,
        other => panic!("{other:?}"),
    }
}

/// The greys of a PNG and its size, by the library that other programs use.
fn decoded(png: &[u8]) -> (u32, u32, Vec<u8>) {
    let decoder = png::Decoder::new(std::io::Cursor::new(png));
    let mut reader = decoder.read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a small one")];
    let info = reader.next_frame(&mut pixels).expect("with pixels");
    assert_eq!(info.bit_depth, png::BitDepth::Eight);
    pixels.truncate(info.buffer_size());
    (info.width, info.height, pixels)
}

#[test]
fn the_stroke_stay_shows_what_a_stroke_team_needs() {
    let clinical = clinical(FHIR, &sample("secondary-hospital/stroke-stay.json"));
    assert_eq!(clinical.left_out, 0);
    let found: Vec<(StrokeItem, &str, String)> = clinical
        .stroke
        .iter()
        .map(|finding| (finding.item, &*finding.value, finding.source.to_string()))
        .collect();
    let expected = [
        (
            StrokeItem::Onset,
            "Cerebral infarction (stroke)",
            "Condition, ICD-10-CM I63.9",
        ),
        (
            StrokeItem::BloodPressure,
            "114/65 mm[Hg]",
            "Observation, LOINC 85354-9",
        ),
        (
            StrokeItem::Glucose,
            "116.0 mg/dL",
            "Observation, LOINC 2345-7",
        ),
        (StrokeItem::Inr, "1.4 INR", "Observation, LOINC 6301-6"),
        (
            StrokeItem::Anticoagulant,
            "Warfarin: Titrate to INR 2.0-3.0",
            "MedicationRequest, RxNorm 11289",
        ),
        (
            StrokeItem::Anticoagulant,
            "Enoxaparin: 40mg SC daily",
            "MedicationRequest, RxNorm 67108",
        ),
        (
            StrokeItem::CtHead,
            "CT Head without contrast: No acute intracranial abnormality.",
            "DiagnosticReport, LOINC 30799-1",
        ),
        (
            StrokeItem::CtHead,
            "CT Head without contrast",
            "ImagingStudy, LOINC 30799-1",
        ),
        (
            StrokeItem::MrHead,
            "MR Brain without contrast: No acute intracranial finding.",
            "DiagnosticReport, LOINC 30657-1",
        ),
        (
            StrokeItem::MrHead,
            "MR Brain without contrast",
            "ImagingStudy, LOINC 30657-1",
        ),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(item, value, source)| (*item, *value, (*source).to_owned()))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(
        clinical.stroke[1].when.as_deref(),
        Some("2024-06-20T21:48:58.221591Z")
    );

    let notes = rows(&clinical, &Kind::Notes);
    let nurse = notes.iter().find(|row| row.what == "Nurse Note").unwrap();
    assert!(
        nurse.text.as_ref().unwrap().contains("Patient status: BP"),
        "base64 is decoded"
    );
    assert!(
        notes
            .iter()
            .all(|row| row.text.as_ref().is_none_or(|text| !text.contains("<div")))
    );
    let laboratory = rows(&clinical, &Kind::Laboratory);
    let panel = laboratory
        .iter()
        .find(|row| row.what.starts_with("Complete blood count"));
    assert!(
        panel
            .unwrap()
            .value
            .as_ref()
            .unwrap()
            .contains("Hematocrit: "),
        "results are followed"
    );
    for group in &clinical.groups {
        let times: Vec<_> = group
            .rows
            .iter()
            .filter_map(|row| row.when.as_deref())
            .collect();
        assert!(
            times
                .windows(2)
                .all(|pair| pair[0].get(..10) >= pair[1].get(..10)),
            "{:?}",
            group.kind
        );
    }
}

#[test]
fn a_thrombectomy_of_another_organ_is_no_finding() {
    // Synthea writes a stroke's thrombectomy as one of the portal vein. It is shown among the
    // procedures as the record has it, and not taken for what it does not say.
    let clinical = clinical(FHIR, &sample("community-hospital/stroke-patient.json"));
    let named = |row: &Row| row.what.contains("thrombectomy of portal vein");
    assert!(rows(&clinical, &Kind::Procedures).iter().any(named));
    let items: Vec<_> = clinical.stroke.iter().map(|finding| finding.item).collect();
    use StrokeItem::{Anticoagulant, BloodPressure, Onset, Thrombolysis};
    assert_eq!(items, [Onset, BloodPressure, Anticoagulant, Thrombolysis]);
    assert_eq!(
        rows(&clinical, &Kind::Patient)[0].what,
        "Mr. Ad\u{e1}n Portillo"
    );
    assert_eq!(
        rows(&clinical, &Kind::Encounters)[0].by.as_deref(),
        Some("LAHEY HOSPITAL & MEDICAL CENTER, BURLINGTON, Dr. June Kassulke")
    );
    let shown: usize = clinical.groups.iter().map(|group| group.rows.len()).sum();
    assert_eq!(shown, 253, "no entry is silently left out");
}

#[test]
fn a_clinical_document_shows_its_sections() {
    let bytes = sample("secondary-hospital/discharge-summary.xml");
    let clinical = clinical("application/xml", &bytes);
    let notes = rows(&clinical, &Kind::Notes);
    let allergies = notes
        .iter()
        .find(|row| row.what.starts_with("ALLERGIES"))
        .unwrap();
    let text = allergies.text.as_ref().unwrap();
    assert_eq!(
        text.lines().take(2).collect::<Vec<_>>(),
        [
            "Substance | Reaction | Severity | Status",
            "Penicillin | Nausea | Moderate to severe | Active"
        ]
    );
    assert_eq!(
        allergies.code.as_ref().unwrap().to_string(),
        "LOINC 48765-2"
    );
    let title = title("application/xml", &bytes).unwrap();
    assert_eq!(title.kind, TitleKind::Document);
    assert_eq!(
        title.text.as_deref(),
        Some("Community Health and Hospitals: Discharge Summary")
    );
    assert_eq!(title.date.as_deref(), Some("2014-09-17T19:04-05:00"));
}

#[test]
fn a_message_shows_its_segments() {
    let bytes = sample("community-hospital/admission.hl7");
    let clinical = clinical("x-application/hl7-v2+er7", &bytes);
    let allergies: Vec<_> = clinical
        .stroke
        .iter()
        .map(|finding| &*finding.value)
        .collect();
    // The sender wrote the sign for the end of a line as two characters.
    assert_eq!(
        allergies,
        ["OXYCODONE: HYPOTENSION", "TRAMADOL: SEIZURES; VOMITING\\r"]
    );
    assert_eq!(rows(&clinical, &Kind::Patient)[0].what, "JOHN A DOE");
    assert_eq!(rows(&clinical, &Kind::Problems)[0].what, "aortic stenosis");
}

#[test]
fn a_slice_is_shown_in_its_window() {
    let bytes = sample("secondary-hospital/ct-head/17106");
    let pictures = pictures(&bytes);
    assert_eq!(
        (pictures.frames, pictures.rows, pictures.columns),
        (1, 16, 16)
    );
    let brain = Window {
        center: 30.0,
        width: 100.0,
    };
    assert_eq!(pictures.window, Some(brain));
    assert_eq!(pictures.modality.as_deref(), Some("CT"));
    assert_eq!(pictures.body_part.as_deref(), Some("HEAD"));
    assert_eq!(pictures.instance_number, Some(18));
    assert_eq!(pictures.acquired.as_deref(), Some("1995-09-03T17:33:21"));

    // By hand: the first pixel's bytes are 4c 04, 0x044c = 1100; intercept -1024 makes it 76
    // Hounsfield units; ((76 - 29.5) / 99 + 0.5) * 255 = 247.27.
    assert_eq!(pictures.value(0, 0, 0), Some(76.0));
    let (width, height, greys) = decoded(&pictures.png(0, None).unwrap());
    assert_eq!((width, height, greys.len()), (16, 16, 256));
    assert_eq!(greys[0], 247);
    // Another window: ((76 - 49.5) / 199 + 0.5) * 255 = 161.46.
    let wide = Window {
        center: 50.0,
        width: 200.0,
    };
    assert_eq!(decoded(&pictures.png(0, Some(wide)).unwrap()).2[0], 161);
    // Every pixel against the standard's formula, written out again.
    for (place, grey) in greys.iter().enumerate() {
        let at = bytes.len() - 512 + 2 * place;
        let x = f64::from(i16::from_le_bytes([bytes[at], bytes[at + 1]])) - 1024.0;
        let y = ((x - 29.5) / 99.0 + 0.5) * 255.0;
        assert_eq!(
            f64::from(*grey),
            y.clamp(0.0, 255.0).round(),
            "pixel {place}"
        );
    }
    assert_eq!(pictures.png(1, None), Err(NotShown::NoFrame));
    let title = title("application/dicom", &bytes).unwrap();
    assert_eq!(title.text.as_deref(), Some("CT, HEAD/BRAIN WO CONTRAST"));
}

#[test]
fn a_slice_whose_pixels_were_cut_still_has_its_header() {
    let bytes = sample("secondary-hospital/ct-head/17106");
    let cut = pictures(&bytes[..bytes.len() - 300]);
    assert_eq!(cut.modality.as_deref(), Some("CT"));
    assert_eq!(cut.png(0, None), Err(NotShown::Incomplete));
    let without = pictures(&bytes[..bytes.len() - 512 - 12]);
    assert_eq!(without.modality.as_deref(), Some("CT"));
    assert_eq!(without.png(0, None), Err(NotShown::NoPixels));
}

#[test]
fn the_newest_of_two_hospitals_counts() {
    let both = [
        "secondary-hospital/stroke-stay.json",
        "community-hospital/stroke-patient.json",
    ];
    let all = both
        .iter()
        .flat_map(|name| clinical(FHIR, &sample(name)).stroke);
    let found = newest(all);
    let pressure = |finding: &&viewing::Finding| finding.item == StrokeItem::BloodPressure;
    assert_eq!(found.iter().find(pressure).unwrap().value, "114/65 mm[Hg]");
    let medicines = found
        .iter()
        .filter(|finding| finding.item == StrokeItem::Anticoagulant);
    assert_eq!(medicines.count(), 2, "warfarin of both is one");
}
