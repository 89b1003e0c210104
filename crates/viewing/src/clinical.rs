//! What a clinical file shows, whatever its format: rows in groups, newest first, and the findings
//! that a stroke team looks for before anything else.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use crate::limits::ROWS_MAX;
use crate::moment;
use crate::stroke::{Finding, Findings};

/// The content of a clinical file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clinical {
    /// Title and date of the file as a whole, if it has them.
    pub document: Option<Document>,
    /// The newest of each kind of finding; every known allergy. In the order of [`crate::StrokeItem`].
    pub stroke: Vec<Finding>,
    /// Groups that have rows, in the order of [`Kind`].
    pub groups: Vec<Group>,
    /// Resources beyond a bound of this crate, or unreadable. What was not granted is not counted.
    pub left_out: usize,
}

/// What a file says of itself as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The document's title or the message's type.
    pub title: Option<String>,
    /// ISO 8601.
    pub date: Option<String>,
}

/// Rows of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they are.
    pub kind: Kind,
    /// Newest first; those without a time last.
    pub rows: Vec<Row>,
}

/// What a row is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Who the patient is: `what` is the name, `value` the gender as coded, `when` the day of birth.
    Patient,
    /// Diagnoses and problems.
    Problems,
    /// Allergies and intolerances; `value` is the reaction.
    Allergies,
    /// Ordered, given, dispensed or stated medicines; `value` is the dosage.
    Medicines,
    /// Procedures.
    Procedures,
    /// Imaging studies and their reports.
    Imaging,
    /// Laboratory results.
    Laboratory,
    /// Vital signs.
    VitalSigns,
    /// Findings of an examination.
    Examination,
    /// Scores and questionnaires.
    Assessments,
    /// Notes, letters and sections of documents.
    Notes,
    /// Stays and visits.
    Encounters,
    /// Illnesses of relatives.
    FamilyHistory,
    /// Smoking, drinking, work.
    SocialHistory,
    /// Vaccinations.
    Immunisations,
    /// What was ordered.
    Orders,
    /// Plans and goals.
    CarePlans,
    /// Devices.
    Devices,
    /// A resource of this FHIR type.
    Other(String),
}

/// One line of a clinical file. Every text is the record's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// When it was or began, in ISO 8601, as precise as the record has it.
    pub when: Option<String>,
    /// When it ended.
    pub until: Option<String>,
    /// Its name. Empty if the record has none.
    pub what: String,
    /// Its value with unit.
    pub value: Option<String>,
    /// How the record judges the value, such as `H`.
    pub flag: Option<String>,
    /// Reference range.
    pub range: Option<String>,
    /// Status as coded.
    pub status: Option<String>,
    /// Who did or wrote it.
    pub by: Option<String>,
    /// What it was done or ordered for.
    pub reason: Option<String>,
    /// Text of a note or report, at most 256 KiB.
    pub text: Option<String>,
    /// The first of its codes.
    pub code: Option<Code>,
}

/// A code and the system that it is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    /// Name of the system, such as `LOINC`, or its address if it is not a known one. May be empty.
    pub system: String,
    /// The code.
    pub code: String,
}

impl fmt::Display for Code {
    /// As in `LOINC 70182-1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.system.is_empty() {
            return f.write_str(&self.code);
        }
        write!(f, "{} {}", self.system, self.code)
    }
}

impl Code {
    /// A code of the system that an address or object identifier names.
    pub(crate) fn new(system: &str, code: &str) -> Self {
        let system = system.strip_prefix("urn:oid:").unwrap_or(system);
        let known = SYSTEMS.iter().find(|(names, _)| names.contains(&system));
        let system = known.map_or(system, |(_, name)| name);
        Self {
            system: system.to_owned(),
            code: code.to_owned(),
        }
    }

    /// Whether it is this code of this system.
    pub(crate) fn is(&self, system: &str, codes: &[&str]) -> bool {
        self.system == system && codes.contains(&self.code.as_str())
    }
}

/// Gathers rows and findings.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    pub(crate) document: Option<Document>,
    pub(crate) findings: Findings,
    pub(crate) left_out: usize,
    rows: BTreeMap<Kind, Vec<Row>>,
    count: usize,
}

impl Gathering {
    pub(crate) fn add(&mut self, kind: Kind, row: Row) {
        if self.count >= ROWS_MAX {
            self.left_out += 1;
            return;
        }
        self.count += 1;
        self.rows.entry(kind).or_default().push(row);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn finish(self) -> Clinical {
        let groups = self.rows.into_iter().map(|(kind, mut rows)| {
            rows.sort_by_cached_key(|row| Reverse(row.when.as_deref().and_then(moment::seconds)));
            Group { kind, rows }
        });
        Clinical {
            document: self.document,
            stroke: self.findings.finish(),
            groups: groups.collect(),
            left_out: self.left_out,
        }
    }
}

pub(crate) const LOINC: &str = "LOINC";
pub(crate) const SNOMED: &str = "SNOMED CT";
pub(crate) const RXNORM: &str = "RxNorm";
pub(crate) const ATC: &str = "ATC";
pub(crate) const CPT: &str = "CPT";
pub(crate) const DICOM: &str = "DICOM";

/// Addresses, object identifiers and HL7 table 0396 names of code systems, and what they are called.
const SYSTEMS: [(&[&str], &str); 11] = [
    (&["http://loinc.org", "2.16.840.1.113883.6.1", "LN"], LOINC),
    (
        &[
            "http://snomed.info/sct",
            "2.16.840.1.113883.6.96",
            "SCT",
            "SNOMED-CT",
        ],
        SNOMED,
    ),
    (
        &[
            "http://www.nlm.nih.gov/research/umls/rxnorm",
            "2.16.840.1.113883.6.88",
            "RXNORM",
        ],
        RXNORM,
    ),
    (
        &["http://www.whocc.no/atc", "2.16.840.1.113883.6.73", "WC"],
        ATC,
    ),
    (
        &[
            "http://www.ama-assn.org/go/cpt",
            "2.16.840.1.113883.6.12",
            "C4",
        ],
        CPT,
    ),
    (
        &[
            "http://dicom.nema.org/resources/ontology/DCM",
            "1.2.840.10008.2.16.4",
        ],
        DICOM,
    ),
    (
        &[
            "http://hl7.org/fhir/sid/icd-10",
            "2.16.840.1.113883.6.3",
            "I10",
        ],
        "ICD-10",
    ),
    (
        &[
            "http://hl7.org/fhir/sid/icd-10-cm",
            "2.16.840.1.113883.6.90",
            "I10C",
        ],
        "ICD-10-CM",
    ),
    (
        &[
            "http://www.cms.gov/Medicare/Coding/ICD10",
            "2.16.840.1.113883.6.4",
            "I10P",
        ],
        "ICD-10-PCS",
    ),
    (
        &[
            "http://hl7.org/fhir/sid/cvx",
            "2.16.840.1.113883.12.292",
            "CVX",
        ],
        "CVX",
    ),
    (
        &["http://unitsofmeasure.org", "2.16.840.1.113883.6.8", "UCUM"],
        "UCUM",
    ),
];
