//! The table that places a section of a clinical document in a section class (`spec/formats.md` R3.8).
//! A test holds table and specification together, row by row.

use crate::class::SectionClass::{
    Discharge, Examination, History, Homepage, Imaging, Laboratory, Medication, Notes, Procedures,
};
use crate::tables::Table;

/// R3.8: LOINC codes of sections, and DICOM's of the findings and objects of an imaging report. What
/// it does not have is looked up among the types of documents (R3.4).
pub(crate) const SECTIONS: Table = &[
    // Encounters, payers, care teams.
    (Homepage, &["46240-8", "48768-6", "85847-2"]),
    (
        History,
        &[
            // Allergies; problems; past, present and family history; social history; immunisations.
            "48765-2",
            "11450-4",
            "11348-0",
            "10164-2",
            "10157-6",
            "29762-2",
            "11369-6",
            // Admission and discharge diagnoses, diagnoses before and after an operation.
            "42347-5",
            "46241-6",
            "11535-2",
            "C-CDAV2-DDN",
            "10219-4",
            "10218-6",
            "59769-0",
            // Chief complaint, reason for visit, both; advance directives; health concerns.
            "10154-3",
            "29299-5",
            "46239-0",
            "42348-3",
            "75310-3",
        ],
    ),
    (
        Examination,
        &[
            // Vital signs; physical findings; at discharge; general status; review of systems;
            // functional and mental status.
            "8716-3", "29545-1", "10184-0", "10210-3", "10187-3", "47420-5", "10190-7",
        ],
    ),
    // Results, studies summary at discharge.
    (Laboratory, &["30954-2", "11493-4"]),
    (
        Imaging,
        &[
            // Findings and object catalogue of DICOM; study observation; impression; comparison;
            // current and prior procedures; requested studies; key images; conclusions.
            "121070", "121181", "18782-3", "19005-8", "18834-2", "55111-9", "55114-3", "55115-0",
            "55113-5", "55110-1",
        ],
    ),
    // At discharge, at admission, administered, fills.
    (Medication, &["10183-2", "75311-1", "42346-7", "29549-3"]),
    (
        Procedures,
        &[
            // Procedures; their description, findings, indications, estimated blood loss, implants,
            // planned procedure, specimens, disposition; anaesthesia; complications; operative note;
            // surgical drains; equipment.
            "47519-4", "29554-3", "59776-5", "59768-2", "59770-8", "59771-6", "59772-4", "59773-2",
            "59775-7", "59774-0", "55109-3", "8724-7", "10216-0", "11537-8", "46264-8",
        ],
    ),
    (
        Notes,
        &[
            // Assessment, with plan; goals; interventions; outcomes; instructions; nutrition; subjective
            // and objective; reason for referral; consultations; note.
            "51848-0", "51847-2", "61146-7", "62387-6", "11383-7", "69730-0", "61144-2", "61150-9",
            "61149-1", "42349-1", "18841-7", "34109-9",
        ],
    ),
    // Instructions, diet.
    (Discharge, &["8653-8", "42344-2"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::testing::{built, specified};

    #[test]
    fn the_table_is_the_specification() {
        assert_eq!(built(SECTIONS), specified("R3.8"));
    }
}
