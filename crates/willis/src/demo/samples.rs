//! The sample records, carried in the binary so that the demo runs from anywhere; their origin and
//! licences stand in `samples/SOURCES.md`.

/// A sample file: its name and bytes.
pub(super) type Sample = (&'static str, &'static [u8]);

macro_rules! sample {
    ($name:literal, $path:literal) => {
        (
            $name,
            include_bytes!(concat!("../../../../samples/", $path)),
        )
    };
}

/// The community hospital's record: earlier care of the patient.
pub(super) const COMMUNITY: &[Sample] = &[
    sample!(
        "stroke-patient.json",
        "community-hospital/stroke-patient.json"
    ),
    sample!("admission.hl7", "community-hospital/admission.hl7"),
];

/// The secondary hospital's record of the stroke itself, with the CT of the head.
pub(super) const SECONDARY: &[Sample] = &[
    sample!("stroke-stay.json", "secondary-hospital/stroke-stay.json"),
    sample!("ct-head-17106.dcm", "secondary-hospital/ct-head/17106"),
    sample!("ct-head-17136.dcm", "secondary-hospital/ct-head/17136"),
    sample!("ct-head-17166.dcm", "secondary-hospital/ct-head/17166"),
    sample!("ct-head-17196.dcm", "secondary-hospital/ct-head/17196"),
];

/// A second record of the secondary hospital, which a search by keyword must not find.
pub(super) const SECONDARY_OTHER: &[Sample] = &[sample!(
    "discharge-summary.xml",
    "secondary-hospital/discharge-summary.xml"
)];
