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

/// Item, value, time and source of each finding.
fn told(media_type: &str, bytes: &[u8]) -> Vec<(StrokeItem, String, Option<String>, String)> {
    let findings = view(media_type, bytes).findings().into_iter();
    let told = findings.map(|finding| {
        let source = finding.source.to_string();
        (finding.item, finding.value, finding.when, source)
    });
    told.collect()
}

fn assert_told(media_type: &str, bytes: &[u8], expected: &[(StrokeItem, &str, &str, &str)]) {
    let found = told(media_type, bytes);
    let found: Vec<_> = found
        .iter()
        .map(|(item, value, when, source)| {
            (
                *item,
                &**value,
                when.as_deref().unwrap_or_default(),
                &**source,
            )
        })
        .collect();
    assert_eq!(found, expected);
}

/// What the coded entries of a referral say. Its texts say the same and are not looked through.
const REFERRAL: [(StrokeItem, &str, &str, &str); 9] = [
    (
        StrokeItem::Onset,
        "Ischemic stroke",
        "2024-06-15T20:10+08:00",
        "observation, SNOMED CT 422504002",
    ),
    (
        StrokeItem::Nihss,
        "14",
        "2024-06-15T20:59:00+08:00",
        "observation, LOINC 70182-1",
    ),
    (
        StrokeItem::SystolicPressure,
        "182 mm[Hg]",
        "2024-06-15T20:59:00+08:00",
        "observation, LOINC 8480-6",
    ),
    (
        StrokeItem::DiastolicPressure,
        "98 mm[Hg]",
        "2024-06-15T20:59:00+08:00",
        "observation, LOINC 8462-4",
    ),
    (
        StrokeItem::Glucose,
        "142 mg/dL",
        "2024-06-15T21:10:00+08:00",
        "observation, LOINC 2345-7",
    ),
    (
        StrokeItem::Inr,
        "2.4 {INR}",
        "2024-06-15T21:10:00+08:00",
        "observation, LOINC 6301-6",
    ),
    (
        StrokeItem::Anticoagulant,
        "Warfarin Sodium 5 MG Oral Tablet: 5 mg",
        "2019-05-01",
        "substanceAdministration, RxNorm 855332",
    ),
    (
        StrokeItem::Thrombolysis,
        "Thrombolysis of cerebral artery",
        "2024-06-15T21:50:00+08:00",
        "procedure, SNOMED CT 472191000119101",
    ),
    (
        StrokeItem::Allergy,
        "Penicillin G: Hives",
        "2010",
        "observation, RxNorm 7980",
    ),
];

#[test]
fn a_referral_tells_a_stroke_team_what_its_entries_say() {
    let bytes = sample("formats/stroke-referral.xml");
    assert_told("application/cda+xml", &bytes, &REFERRAL);
    let clinical = clinical("application/cda+xml", &bytes);
    assert_eq!(clinical.left_out, 0);
    let laboratory = rows(&clinical, &Kind::Laboratory);
    assert_eq!(laboratory.len(), 2);
    assert_eq!(laboratory[0].range.as_deref(), Some("70-99"));
    assert_eq!(laboratory[0].flag.as_deref(), Some("H"));
    assert_eq!(rows(&clinical, &Kind::Notes).len(), 7);
}

/// A file as it comes out of a grant of some sections: NUL bytes where a part is that was not granted.
/// `keep` says of a component of the body, or of what stands around them, whether it was.
fn granted(bytes: &[u8], keep: &dyn Fn(&str) -> bool) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).expect("the sample is UTF-8");
    let mut out = String::new();
    let mut rest = text;
    let mut add = |part: &str| {
        if keep(part) {
            out.push_str(part);
        } else {
            out.push_str(&"\0".repeat(part.len()));
        }
    };
    while let Some(begin) = rest.find("<component><section>") {
        let (frame, part) = rest.split_at(begin);
        add(frame);
        let end = part.find("</component>\n").unwrap_or(part.len());
        // The component of the section, not of an organizer in it.
        let end = part
            .find("</section></component>")
            .map_or(end, |at| at + "</section></component>".len());
        let blank = part[end..].find('<').unwrap_or(0);
        let (part, behind) = part.split_at(end + blank);
        add(part);
        rest = behind;
    }
    add(rest);
    out.into_bytes()
}

#[test]
fn sections_that_were_granted_are_shown_without_the_others() {
    let bytes = sample("formats/stroke-referral.xml");
    let sections = [
        "48765-2", "10160-0", "11450-4", "30954-2", "8716-3", "47420-5", "47519-4",
    ];
    let expected: [&[usize]; 7] = [&[8], &[6], &[0], &[4, 5], &[2, 3], &[1], &[7]];
    for (code, expected) in sections.iter().zip(expected) {
        let expected: Vec<_> = expected.iter().map(|at| REFERRAL[*at]).collect();
        let begin = format!("<component><section>\n      <code code=\"{code}\"");
        for with_frame in [true, false] {
            let part = granted(&bytes, &|part| {
                part.starts_with(&begin) || with_frame && !part.starts_with("<component><section>")
            });
            assert_eq!(part.len(), bytes.len());
            assert_told("application/cda+xml", &part, &expected);
            let clinical = clinical("application/cda+xml", &part);
            assert_eq!(
                (clinical.left_out, rows(&clinical, &Kind::Notes).len()),
                (0, 1),
                "{code}"
            );
            let named = rows(&clinical, &Kind::Patient).len();
            assert_eq!(named, usize::from(with_frame), "{code}");
        }
    }
    let frame = granted(&bytes, &|part| !part.starts_with("<component><section>"));
    assert!(told("application/cda+xml", &frame).is_empty());
    assert_eq!(
        title("application/cda+xml", &frame)
            .unwrap()
            .text
            .as_deref(),
        Some("Stroke referral of a synthetic patient")
    );
}

#[test]
fn a_discharge_summary_tells_the_patient_s_own_allergies_and_no_relative_s_stroke() {
    let bytes = sample("secondary-hospital/discharge-summary.xml");
    let clinical = clinical("application/cda+xml", &bytes);
    assert!(
        clinical
            .stroke
            .iter()
            .all(|finding| finding.item != StrokeItem::Onset)
    );
    let allergies: Vec<&str> = clinical
        .stroke
        .iter()
        .filter(|finding| finding.item == StrokeItem::Allergy)
        .map(|finding| &*finding.value)
        .collect();
    assert_eq!(
        allergies,
        ["Egg: Wheal", "codeine: Wheezing", "penicillin G: Nausea"]
    );
    assert!(rows(&clinical, &Kind::FamilyHistory).is_empty());
}

#[test]
fn messages_tell_laboratory_and_imaging() {
    let expected = [
        (
            StrokeItem::Glucose,
            "142 mg/dL",
            "2024-06-15T21:10:00+08:00",
            "OBX, LOINC 2345-7",
        ),
        (
            StrokeItem::Inr,
            "2.4 {INR}",
            "2024-06-15T21:10:00+08:00",
            "OBX, LOINC 6301-6",
        ),
        (
            StrokeItem::CtHead,
            "CT Head: No haemorrhage.\nEarly ischaemic signs in the left middle cerebral artery territory.",
            "2024-06-15T21:25:00+08:00",
            "OBX, LOINC 24725-4",
        ),
    ];
    let bytes = sample("formats/laboratory.hl7");
    assert_told("x-application/hl7-v2+er7", &bytes, &expected);
    // Without the message's header, and without the first order.
    let mut part = bytes.clone();
    let second = bytes
        .windows(7)
        .rposition(|window| window == b"ORC|RE|")
        .unwrap();
    part[..second].fill(0);
    assert_told("x-application/hl7-v2+er7", &part, &expected[2..]);
    let mut part = bytes;
    part[second..].fill(0);
    assert_told("x-application/hl7-v2+er7", &part, &expected[..2]);
    let discharge = sample("formats/discharge.hl7");
    let clinical = clinical("x-application/hl7-v2+er7", &discharge);
    assert_eq!(rows(&clinical, &Kind::Notes)[0].what, "Discharge summary");
}

#[test]
fn lines_are_shown_together_and_around_holes() {
    let bytes = sample("formats/bulk-export.ndjson");
    let whole = told("application/fhir+ndjson", &bytes);
    use StrokeItem::{Allergy, Anticoagulant, Glucose, Nihss, Onset};
    let items: Vec<_> = whole.iter().map(|finding| finding.0).collect();
    assert_eq!(items, [Onset, Nihss, Glucose, Anticoagulant, Allergy]);
    let text = String::from_utf8(bytes).unwrap();
    for (line, item) in [
        (1, Onset),
        (2, Nihss),
        (3, Glucose),
        (4, Anticoagulant),
        (5, Allergy),
    ] {
        let parts = text.split_inclusive('\n').enumerate();
        let part: String = parts
            .map(|(at, part)| {
                if at == line {
                    part.to_owned()
                } else {
                    "\0".repeat(part.len())
                }
            })
            .collect();
        let found = told("application/fhir+ndjson", part.as_bytes());
        assert_eq!(
            found,
            [whole
                .iter()
                .find(|finding| finding.0 == item)
                .unwrap()
                .clone()]
        );
    }
}

#[test]
fn resources_in_xml_are_shown_as_in_json() {
    let bytes = sample("formats/bundle.xml");
    let expected = [
        (
            StrokeItem::Onset,
            "Ischaemic stroke",
            "2024-06-15T20:10:00+08:00",
            "Condition, SNOMED CT 422504002",
        ),
        (
            StrokeItem::Glucose,
            "142 mg/dL",
            "2024-06-15T21:10:00+08:00",
            "Observation, LOINC 2345-7",
        ),
    ];
    assert_told("application/fhir+xml", &bytes, &expected);
    let clinical = clinical("application/fhir+xml", &bytes);
    assert_eq!(rows(&clinical, &Kind::Patient)[0].what, "Mei Testpatient");
    assert_eq!(clinical.left_out, 0);
}

#[test]
fn pictures_tell_when_the_head_was_seen() {
    let expected = [(
        StrokeItem::CtHead,
        "CT, HEAD/BRAIN WO CONTRAST, Routine Brain",
        "1995-09-03T17:33:21",
        "DICOM",
    )];
    let bytes = sample("secondary-hospital/ct-head/17106");
    assert_told("application/dicom", &bytes, &expected);
    // Of a series every file says the same, and one finding is left.
    let all = ["17106", "17136", "17166", "17196"].map(|name| {
        view(
            "application/dicom",
            &sample(&format!("secondary-hospital/ct-head/{name}")),
        )
        .findings()
    });
    assert_eq!(newest(all.into_iter().flatten()).len(), 1);
    let directory = sample("formats/dicomdir/DICOMDIR");
    assert!(view("application/dicom", &directory).findings().is_empty());
}

#[test]
fn scores_that_are_components_are_found() {
    let observation = br#"{"resourceType":"Observation","status":"final","effectiveDateTime":"2024-06-15T21:00:00Z",
        "category":[{"coding":[{"code":"survey"}]}],"code":{"text":"Stroke scores"},"component":[
        {"code":{"coding":[{"system":"http://loinc.org","code":"70182-1"}]},"valueInteger":9},
        {"code":{"coding":[{"system":"http://loinc.org","code":"9269-2"}]},"valueInteger":14},
        {"code":{"coding":[{"system":"http://loinc.org","code":"75859-9"}]},"dataAbsentReason":{"text":"unknown"}},
        {"code":{"text":"Last known well"},"valueDateTime":"2024-06-15T19:00:00Z"}]}"#;
    let found = told(FHIR, observation);
    let found: Vec<_> = found
        .iter()
        .map(|(item, value, ..)| (*item, &**value))
        .collect();
    use StrokeItem::{Gcs, LastKnownWell, Nihss};
    assert_eq!(
        found,
        [
            (LastKnownWell, "2024-06-15T19:00:00Z"),
            (Nihss, "9"),
            (Gcs, "14")
        ]
    );
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
