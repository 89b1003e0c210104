//! The findings that a stroke team looks for first. They are taken where the record states them by a
//! code or by an explicit name, never guessed; each keeps its time and its source.

use std::collections::BTreeMap;
use std::fmt;

use crate::clinical::{ATC, CPT, Code, Kind, LOINC, RXNORM, Row, SNOMED};
use crate::moment;
use crate::pictures::Pictures;
use crate::words::{joined, words};

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StrokeItem {
    /// Onset of a stroke: `when` is the onset that the record has, `value` the diagnosis.
    Onset,
    /// When the patient was last known well; that time is the `value`.
    LastKnownWell,
    /// National Institutes of Health Stroke Scale, total.
    Nihss,
    /// Modified Rankin Scale.
    Mrs,
    /// Glasgow Coma Scale, total.
    Gcs,
    /// Systolic and diastolic pressure.
    BloodPressure,
    /// Systolic pressure, where the record has it apart.
    SystolicPressure,
    /// Diastolic pressure, where the record has it apart.
    DiastolicPressure,
    /// Glucose in blood, serum or plasma.
    Glucose,
    /// International normalised ratio.
    Inr,
    /// A medicine against clotting; one finding for each ingredient.
    Anticoagulant,
    /// Computed tomography of the head: newest study and newest report.
    CtHead,
    /// Computed tomography angiography of head or neck.
    CtAngiography,
    /// Magnetic resonance imaging of the head.
    MrHead,
    /// Thrombolysis, as a procedure or as the medicine for it.
    Thrombolysis,
    /// Thrombectomy of an artery of head or neck.
    Thrombectomy,
    /// An allergy that is not refuted or resolved.
    Allergy,
}

/// Something that a stroke team needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub item: StrokeItem,
    /// The value with unit, or what was found, in the record's words.
    pub value: String,
    /// When, in ISO 8601.
    pub when: Option<String>,
    /// Status as coded. A medicine may have been stopped.
    pub status: Option<String>,
    /// Where in the record it stands.
    pub source: Origin,
    /// What tells findings of one item apart: an ingredient, an allergen.
    apart: String,
}

/// The newest finding for each item, out of several files: each file gives the newest of its own.
pub fn newest(findings: impl IntoIterator<Item = Finding>) -> Vec<Finding> {
    let mut newest = Findings::default();
    for finding in findings {
        newest.add(finding);
    }
    newest.finish()
}

/// Which resource or segment of a record says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The FHIR resource type, the HL7 v2 segment or the element of a clinical document, such as
    /// `Observation`, `OBX` or `procedure`; `DICOM` for a file with pictures.
    pub resource: String,
    /// The code that told what it is, if a code did.
    pub code: Option<Code>,
}

impl fmt::Display for Origin {
    /// As in `Observation, LOINC 70182-1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource)?;
        match &self.code {
            Some(code) => write!(f, ", {code}"),
            None => Ok(()),
        }
    }
}

/// What a row was read from: what decides whether it is a finding.
#[derive(Debug, Default)]
pub(crate) struct Clues<'a> {
    pub(crate) resource: &'a str,
    pub(crate) codes: &'a [Code],
    /// All names that its codes have.
    pub(crate) names: &'a [String],
    /// Codes of modalities and of body sites.
    pub(crate) modalities: &'a [String],
    pub(crate) sites: &'a [Code],
    /// The onset that the record states, which is not the day of a diagnosis.
    pub(crate) onset: Option<&'a str>,
}

/// The newest finding for each item and what tells several of one item apart.
#[derive(Debug, Default)]
pub(crate) struct Findings(BTreeMap<(StrokeItem, String), (Option<i64>, Finding)>);

impl Findings {
    pub(crate) fn finish(self) -> Vec<Finding> {
        self.0.into_values().map(|(_, finding)| finding).collect()
    }

    /// Takes from a row what it says.
    pub(crate) fn look(&mut self, kind: &Kind, row: &Row, clues: &Clues<'_>) {
        let status = row
            .status
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        if VOID.iter().any(|void| status.contains(void)) {
            return;
        }
        match kind {
            Kind::Problems => self.onset(row, clues),
            Kind::Allergies if !PAST.iter().any(|past| status.contains(past)) => {
                self.keep(
                    StrokeItem::Allergy,
                    &row.what,
                    with_value(row),
                    row,
                    clues,
                    None,
                );
            }
            Kind::Medicines => self.medicine(row, clues),
            Kind::Procedures => self.procedure(row, clues),
            Kind::Imaging => self.imaging(row, clues),
            _ => self.measured(row, clues),
        }
    }

    /// Values that a code tells.
    fn measured(&mut self, row: &Row, clues: &Clues<'_>) {
        let Some(value) = &row.value else { return };
        for (item, codes) in MEASURED {
            if let Some(code) = clues.codes.iter().find(|code| code.is(LOINC, codes)) {
                self.keep(*item, "", value.clone(), row, clues, Some(code));
            }
        }
        let named = |name: &String| LAST_KNOWN_WELL.iter().any(|words| name.contains(words));
        if clues
            .names
            .iter()
            .map(|name| name.to_lowercase())
            .any(|name| named(&name))
        {
            self.keep(
                StrokeItem::LastKnownWell,
                "",
                value.clone(),
                row,
                clues,
                None,
            );
        }
    }

    fn onset(&mut self, row: &Row, clues: &Clues<'_>) {
        let stroke = clues.codes.iter().find(|code| {
            code.is(SNOMED, &STROKE_SNOMED)
                || is_icd(&code.system)
                    && STROKE_ICD.iter().any(|begin| code.code.starts_with(begin))
        });
        if let (Some(code), Some(onset)) = (stroke, clues.onset) {
            let row = Row {
                when: words(onset),
                ..row.clone()
            };
            self.keep(
                StrokeItem::Onset,
                "",
                row.what.clone(),
                &row,
                clues,
                Some(code),
            );
        }
    }

    fn medicine(&mut self, row: &Row, clues: &Clues<'_>) {
        let (item, drugs) = (StrokeItem::Anticoagulant, ANTICOAGULANTS);
        let lysis = (StrokeItem::Thrombolysis, THROMBOLYTICS);
        for (item, drugs) in [(item, drugs), lysis] {
            for drug in drugs {
                let by_code = clues.codes.iter().find(|code| {
                    code.is(RXNORM, drug.rxnorm)
                        || code.system == ATC && code.code.starts_with(drug.atc)
                });
                if by_code.is_some() || names_have(clues, drug.names) {
                    self.keep(item, drug.atc, with_value(row), row, clues, by_code);
                    return;
                }
            }
        }
    }

    fn procedure(&mut self, row: &Row, clues: &Clues<'_>) {
        let find = |system, codes: &[&str]| clues.codes.iter().find(|code| code.is(system, codes));
        let lysis = find(SNOMED, &["472191000119101"]).or(find(CPT, &["37195"]));
        if lysis.is_some()
            || names_have(clues, &["thrombolysis", "thrombolytic", "\u{6eb6}\u{6813}"])
        {
            self.keep(
                StrokeItem::Thrombolysis,
                "",
                with_value(row),
                row,
                clues,
                lysis,
            );
        }
        let code = find(CPT, &["61645"]);
        let named = names_have(clues, &["thrombectomy", "\u{53d6}\u{6813}"])
            && names_have(clues, &ARTERIES);
        if code.is_some() || named {
            self.keep(
                StrokeItem::Thrombectomy,
                "",
                with_value(row),
                row,
                clues,
                code,
            );
        }
    }

    fn imaging(&mut self, row: &Row, clues: &Clues<'_>) {
        let is = |modality: &str, names: &[&str]| {
            clues.modalities.iter().any(|known| known == modality) || names_have_word(clues, names)
        };
        let site = |code: &Code| code.is(SNOMED, &HEAD_SNOMED);
        let head = clues.sites.iter().any(site) || names_have(clues, &HEAD);
        let angiography =
            names_have(clues, &["angio", "\u{8840}\u{7ba1}"]) || names_have_word(clues, &["CTA"]);
        let item = match (is("CT", &["CT", "CTA"]), is("MR", &["MR", "MRI"])) {
            (true, _) if angiography && (head || names_have(clues, &ARTERIES)) => {
                StrokeItem::CtAngiography
            }
            (true, _) if head && !angiography => StrokeItem::CtHead,
            (false, true) if head => StrokeItem::MrHead,
            _ => return,
        };
        // A study has no result; what a report concludes is its value, else its text.
        let result = match clues.resource {
            "ImagingStudy" | DICOM_FILE => None,
            _ => row.value.clone().or_else(|| words(row.text.as_deref()?)),
        };
        let value = match result {
            Some(result) => format!("{}: {result}", row.what),
            None => row.what.clone(),
        };
        self.keep(item, clues.resource, value, row, clues, clues.codes.first());
    }

    /// Keeps what a row says if nothing newer is there.
    fn keep(
        &mut self,
        item: StrokeItem,
        apart: &str,
        value: String,
        row: &Row,
        clues: &Clues<'_>,
        code: Option<&Code>,
    ) {
        self.add(Finding {
            item,
            value,
            when: row.when.clone(),
            status: row.status.clone(),
            source: Origin {
                resource: clues.resource.to_owned(),
                code: code.or(clues.codes.first()).cloned(),
            },
            apart: apart.to_owned(),
        });
    }

    fn add(&mut self, finding: Finding) {
        let seconds = finding.when.as_deref().and_then(moment::seconds);
        let key = (finding.item, finding.apart.clone());
        if self.0.get(&key).is_none_or(|(kept, _)| *kept <= seconds) {
            self.0.insert(key, (seconds, finding));
        }
    }
}

/// What the header of a file with pictures says: a study of the head with its time.
pub(crate) fn of_pictures(pictures: &Pictures<'_>) -> Vec<Finding> {
    let described = [pictures.study.as_deref(), pictures.series.as_deref()];
    let what = joined(described.map(|text| text.and_then(words)), ", ");
    let modalities: Vec<String> = pictures.modality.iter().cloned().collect();
    let names: Vec<String> = described
        .into_iter()
        .flatten()
        .chain(pictures.body_part.as_deref())
        .map(str::to_owned)
        .collect();
    let row = Row {
        when: pictures.acquired.clone(),
        what: what
            .or_else(|| pictures.modality.clone())
            .unwrap_or_default(),
        ..Row::default()
    };
    let clues = Clues {
        resource: DICOM_FILE,
        modalities: &modalities,
        names: &names,
        ..Clues::default()
    };
    let mut findings = Findings::default();
    findings.look(&Kind::Imaging, &row, &clues);
    findings.finish()
}

/// Whether a system is the tenth International Classification of Diseases, or a country's edition.
fn is_icd(system: &str) -> bool {
    let signs = system.chars().filter(char::is_ascii_alphanumeric);
    signs
        .collect::<String>()
        .to_ascii_lowercase()
        .contains("icd10")
}

/// What a row is about, and its value.
fn with_value(row: &Row) -> String {
    match &row.value {
        Some(value) => format!("{}: {value}", row.what),
        None => row.what.clone(),
    }
}

fn names_have(clues: &Clues<'_>, parts: &[&str]) -> bool {
    let has = |name: &String| {
        let name = name.to_lowercase();
        parts.iter().any(|part| name.contains(part))
    };
    clues.names.iter().any(has)
}

fn names_have_word(clues: &Clues<'_>, words: &[&str]) -> bool {
    let has = |name: &String| {
        let mut split = name.split(|sign: char| !sign.is_ascii_alphanumeric());
        split.any(|word| words.contains(&word))
    };
    clues.names.iter().any(has)
}

/// A medicine: how RxNorm, the Anatomical Therapeutic Chemical classification and people call it.
struct Drug {
    rxnorm: &'static [&'static str],
    atc: &'static str,
    names: &'static [&'static str],
}

const fn drug(
    rxnorm: &'static [&'static str],
    atc: &'static str,
    names: &'static [&'static str],
) -> Drug {
    Drug { rxnorm, atc, names }
}

/// Enoxaparin stands before heparin, because its Chinese name contains the other's.
const ANTICOAGULANTS: &[Drug] = &[
    drug(
        &["11289"],
        "B01AA",
        &[
            "warfarin",
            "coumadin",
            "\u{534e}\u{6cd5}\u{6797}",
            "\u{83ef}\u{6cd5}\u{6797}",
        ],
    ),
    drug(
        &["1364430"],
        "B01AF02",
        &["apixaban", "\u{963f}\u{54cc}\u{6c99}\u{73ed}"],
    ),
    drug(
        &["1114195"],
        "B01AF01",
        &["rivaroxaban", "\u{5229}\u{4f10}\u{6c99}\u{73ed}"],
    ),
    drug(
        &["1037042"],
        "B01AE07",
        &[
            "dabigatran",
            "\u{8fbe}\u{6bd4}\u{52a0}\u{7fa4}",
            "\u{9054}\u{6bd4}\u{52a0}\u{7fa4}",
        ],
    ),
    drug(
        &["1599538"],
        "B01AF03",
        &["edoxaban", "\u{827e}\u{591a}\u{6c99}\u{73ed}"],
    ),
    drug(
        &["67108"],
        "B01AB05",
        &["enoxaparin", "\u{4f9d}\u{8bfa}\u{809d}\u{7d20}"],
    ),
    drug(
        &["5224"],
        "B01AB",
        &[
            "heparin",
            "dalteparin",
            "nadroparin",
            "tinzaparin",
            "\u{809d}\u{7d20}",
        ],
    ),
];

const THROMBOLYTICS: &[Drug] = &[
    drug(
        &["8410"],
        "B01AD02",
        &["alteplase", "\u{963f}\u{66ff}\u{666e}\u{9176}"],
    ),
    drug(
        &["259280"],
        "B01AD11",
        &["tenecteplase", "\u{66ff}\u{5948}\u{666e}\u{9176}"],
    ),
];

/// LOINC codes of values. For glucose: blood, serum or plasma, and test strip, by mass and amount.
const MEASURED: &[(StrokeItem, &[&str])] = &[
    (StrokeItem::Nihss, &["70182-1", "72089-6"]),
    (StrokeItem::Mrs, &["75859-9"]),
    (StrokeItem::Gcs, &["9269-2"]),
    (StrokeItem::BloodPressure, &["85354-9", "55284-4"]),
    (StrokeItem::SystolicPressure, &["8480-6"]),
    (StrokeItem::DiastolicPressure, &["8462-4"]),
    (
        StrokeItem::Glucose,
        &[
            "2339-0", "2345-7", "15074-8", "14749-6", "2340-8", "41653-7",
        ],
    ),
    (StrokeItem::Inr, &["6301-6", "34714-6"]),
];

/// Stroke, ischaemic stroke, cerebral infarction, cerebral haemorrhage.
const STROKE_SNOMED: [&str; 4] = ["230690007", "422504002", "432504007", "274100004"];
const STROKE_ICD: [&str; 4] = ["I60", "I61", "I63", "I64"];
/// Head structure, brain structure.
const HEAD_SNOMED: [&str; 2] = ["69536005", "12738006"];
const HEAD: [&str; 10] = [
    "head", "brain", "cranial", "cranium", "cerebral", "\u{5934}", "\u{982d}", "\u{8111}",
    "\u{8166}", "\u{8133}",
];
const ARTERIES: [&str; 13] = [
    "intracranial",
    "cerebral",
    "carotid",
    "basilar",
    "vertebral",
    "brain",
    "head",
    "neck",
    "\u{8111}",
    "\u{8166}",
    "\u{8133}",
    "\u{9888}",
    "\u{9838}",
];
const LAST_KNOWN_WELL: [&str; 5] = [
    "last known well",
    "last known normal",
    "last seen well",
    "\u{6700}\u{540e}\u{6b63}\u{5e38}",
    "\u{6700}\u{5f8c}\u{6b63}\u{5e38}",
];
/// The source of what the header of a file with pictures says.
const DICOM_FILE: &str = "DICOM";
/// Statuses of what is not so, or never happened.
const VOID: [&str; 8] = [
    "entered-in-error",
    "not-done",
    "not-taken",
    "cancelled",
    "refuted",
    "draft",
    "donotperform",
    "nullified",
];
const PAST: [&str; 2] = ["inactive", "resolved"];

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: &Kind, row: &Row, clues: &Clues<'_>) -> Vec<StrokeItem> {
        let mut findings = Findings::default();
        findings.look(kind, row, clues);
        findings
            .finish()
            .iter()
            .map(|finding| finding.item)
            .collect()
    }

    fn imaging(name: &str) -> Vec<StrokeItem> {
        let names = [name.to_owned()];
        let clues = Clues {
            names: &names,
            ..Clues::default()
        };
        found(&Kind::Imaging, &Row::default(), &clues)
    }

    #[test]
    fn imaging_is_told_by_modality_and_place() {
        assert_eq!(imaging("CT Head without contrast"), [StrokeItem::CtHead]);
        assert_eq!(
            imaging("\u{5934}\u{9885}CT\u{5e73}\u{626b}"),
            [StrokeItem::CtHead]
        );
        assert_eq!(imaging("CTA head and neck"), [StrokeItem::CtAngiography]);
        assert_eq!(
            imaging("CT angiogram, carotid"),
            [StrokeItem::CtAngiography]
        );
        assert_eq!(imaging("MRI brain"), [StrokeItem::MrHead]);
        assert_eq!(imaging("CTA coronary"), []);
        assert_eq!(imaging("CT chest"), []);
        assert_eq!(imaging("FRACTURE of head"), []);
    }

    #[test]
    fn medicines_are_told_by_code_and_by_name() {
        let told = |name: &str, code: Option<Code>| {
            let names = [name.to_owned()];
            let codes: Vec<Code> = code.into_iter().collect();
            let clues = Clues {
                names: &names,
                codes: &codes,
                ..Clues::default()
            };
            found(&Kind::Medicines, &Row::default(), &clues)
        };
        let atc = |code| Some(Code::new("urn:oid:2.16.840.1.113883.6.73", code));
        let anticoagulant = [StrokeItem::Anticoagulant];
        for name in [
            "Apixaban 5 MG Oral Tablet",
            "\u{4f9d}\u{8bfa}\u{809d}\u{7d20}\u{94a0}",
            "WARFARIN",
        ] {
            assert_eq!(told(name, None), anticoagulant, "{name}");
        }
        assert_eq!(told("x", atc("B01AE07")), anticoagulant);
        assert_eq!(told("x", atc("B01AD02")), [StrokeItem::Thrombolysis]);
        assert_eq!(told("Aspirin", atc("B01AC06")), []);
    }

    #[test]
    fn editions_of_the_classification_are_known() {
        for system in [
            "ICD-10-CM",
            "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full",
        ] {
            assert!(is_icd(system));
        }
        assert!(!is_icd("http://snomed.info/sct"));
    }
}
