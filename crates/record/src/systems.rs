//! Code systems: how each format names them, and the URI that stands in keywords
//! (`spec/formats.md` R2). A code means nothing without its system, so what names none that is known
//! here, and is no object identifier or address itself, gives no keyword.

/// The URI of a system that people name in short; any other text stays as it is.
pub(crate) fn of_short_name(name: &str) -> &str {
    let lower = name.to_ascii_lowercase();
    let known = SYSTEMS.iter().find(|system| system.short == Some(&lower));
    known.map_or(name, |system| system.uri)
}

/// The URI of an object identifier (CDA, and HL7 v2 of some senders): the known one, else
/// `urn:oid:` and the identifier. `None` if it is none, or names a vocabulary of HL7's own model,
/// whose codes say nothing about a patient.
pub(crate) fn of_oid(oid: &str) -> Option<String> {
    let is_oid = oid.contains('.')
        && oid.starts_with(['0', '1', '2'])
        && oid
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !is_oid || oid.starts_with(HL7_MODEL) {
        return None;
    }
    let known = SYSTEMS.iter().find(|system| system.oid == Some(oid));
    Some(known.map_or_else(|| format!("urn:oid:{oid}"), |system| system.uri.to_owned()))
}

/// The URI of a name of HL7 table 0396, of one of HL7's own tables (`HL70074`), or of what stands in
/// its place: an object identifier or an address.
pub(crate) fn of_hl7_name(name: &str) -> Option<String> {
    if let Some(known) = SYSTEMS.iter().find(|system| system.hl7.contains(&name)) {
        return Some(known.uri.to_owned());
    }
    if let Some(table) = name.strip_prefix("HL7")
        && table.len() == 4
        && table.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Some(format!("http://terminology.hl7.org/CodeSystem/v2-{table}"));
    }
    if name.starts_with("http://") || name.starts_with("https://") || name.starts_with("urn:") {
        return Some(name.to_owned());
    }
    of_oid(name)
}

/// The URI of a coding scheme designator of DICOM (0008,0102) (PS3.16 table 8-1).
pub(crate) fn of_dicom_designator(designator: &str) -> Option<&'static str> {
    let known = SYSTEMS
        .iter()
        .find(|system| system.dicom.contains(&designator));
    known.map(|system| system.uri)
}

/// A code system and its names.
struct System {
    uri: &'static str,
    /// What people type, in lower case.
    short: Option<&'static str>,
    oid: Option<&'static str>,
    hl7: &'static [&'static str],
    dicom: &'static [&'static str],
}

/// SRT are the codes with letters (T-D1100) that DICOM had before it took those of SNOMED CT.
const SYSTEMS: [System; 14] = [
    System {
        uri: "http://snomed.info/sct",
        short: Some("snomed"),
        oid: Some("2.16.840.1.113883.6.96"),
        hl7: &["SCT", "SCT2", "SNOMED-CT", "SNOMEDCT"],
        dicom: &["SCT"],
    },
    System {
        uri: "http://loinc.org",
        short: Some("loinc"),
        oid: Some("2.16.840.1.113883.6.1"),
        hl7: &["LN", "LOINC"],
        dicom: &["LN"],
    },
    System {
        uri: "http://hl7.org/fhir/sid/icd-10",
        short: Some("icd-10"),
        oid: Some("2.16.840.1.113883.6.3"),
        hl7: &["I10", "ICD10", "ICD-10"],
        dicom: &["I10"],
    },
    System {
        uri: "http://hl7.org/fhir/sid/icd-10-cm",
        short: Some("icd-10-cm"),
        oid: Some("2.16.840.1.113883.6.90"),
        hl7: &["I10C", "ICD10CM", "ICD-10-CM"],
        dicom: &["ICD10CM"],
    },
    System {
        uri: "http://www.cms.gov/Medicare/Coding/ICD10",
        short: None,
        oid: Some("2.16.840.1.113883.6.4"),
        hl7: &["I10P", "ICD10PCS"],
        dicom: &["I10P"],
    },
    System {
        uri: "http://hl7.org/fhir/sid/icd-9-cm",
        short: None,
        oid: Some("2.16.840.1.113883.6.103"),
        hl7: &["I9C", "I9CDX", "ICD9CM"],
        dicom: &["I9C"],
    },
    System {
        uri: "http://www.nlm.nih.gov/research/umls/rxnorm",
        short: Some("rxnorm"),
        oid: Some("2.16.840.1.113883.6.88"),
        hl7: &["RXNORM", "RxNorm"],
        dicom: &["RXNORM"],
    },
    System {
        uri: "http://www.whocc.no/atc",
        short: Some("atc"),
        oid: Some("2.16.840.1.113883.6.73"),
        hl7: &["ATC", "WC"],
        dicom: &[],
    },
    System {
        uri: "http://hl7.org/fhir/sid/cvx",
        short: Some("cvx"),
        oid: Some("2.16.840.1.113883.12.292"),
        hl7: &["CVX"],
        dicom: &[],
    },
    System {
        uri: "http://www.ama-assn.org/go/cpt",
        short: None,
        oid: Some("2.16.840.1.113883.6.12"),
        hl7: &["C4", "CPT", "CPT4"],
        dicom: &["C4"],
    },
    System {
        uri: "http://hl7.org/fhir/sid/ndc",
        short: None,
        oid: Some("2.16.840.1.113883.6.69"),
        hl7: &["NDC"],
        dicom: &[],
    },
    System {
        uri: "http://dicom.nema.org/resources/ontology/DCM",
        short: None,
        oid: Some("1.2.840.10008.2.16.4"),
        hl7: &["DCM"],
        dicom: &["DCM"],
    },
    System {
        uri: "http://snomed.info/srt",
        short: None,
        oid: None,
        hl7: &["SRT"],
        dicom: &["SRT"],
    },
    System {
        uri: "http://unitsofmeasure.org",
        short: None,
        oid: Some("2.16.840.1.113883.6.8"),
        // Units are no facts about a patient, so HL7 v2 and DICOM codes of them give no keyword.
        hl7: &[],
        dicom: &[],
    },
];

/// The object identifiers below which HL7 keeps the vocabularies of its own model: act codes, role
/// codes, null flavours.
const HL7_MODEL: &str = "2.16.840.1.113883.5.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_one_system() {
        for name in SYSTEMS.iter().flat_map(|system| system.hl7) {
            let count = SYSTEMS
                .iter()
                .filter(|system| system.hl7.contains(name))
                .count();
            assert_eq!(count, 1, "{name}");
        }
        for name in SYSTEMS.iter().flat_map(|system| system.dicom) {
            let count = SYSTEMS
                .iter()
                .filter(|system| system.dicom.contains(name))
                .count();
            assert_eq!(count, 1, "{name}");
        }
        assert_eq!(of_short_name("LOINC"), "http://loinc.org");
        assert_eq!(of_short_name("urn:x"), "urn:x");
    }

    /// The rows of R4.4 are the systems, in their order.
    #[test]
    fn the_systems_are_the_specifications() {
        let spec = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../spec/formats.md"
        ));
        let (_, behind) = spec.split_once("### R4.4 ").unwrap();
        let rows = behind
            .split("\n#")
            .next()
            .unwrap()
            .lines()
            .filter(|line| line.starts_with("| `"));
        let specified: Vec<Vec<&str>> = rows
            .map(|row| row.split('`').skip(1).step_by(2).collect())
            .collect();
        let built = SYSTEMS.iter().map(|system| {
            let names = system
                .short
                .iter()
                .chain(&system.oid)
                .chain(system.hl7)
                .chain(system.dicom);
            std::iter::once(system.uri)
                .chain(names.copied())
                .collect::<Vec<&str>>()
        });
        assert_eq!(built.collect::<Vec<_>>(), specified);
    }

    #[test]
    fn names_of_each_format_are_known() {
        let snomed = Some("http://snomed.info/sct".to_owned());
        assert_eq!(of_oid("2.16.840.1.113883.6.96"), snomed);
        assert_eq!(of_hl7_name("SCT"), snomed);
        assert_eq!(of_hl7_name("2.16.840.1.113883.6.96"), snomed);
        assert_eq!(of_dicom_designator("SCT"), Some("http://snomed.info/sct"));
        assert_eq!(
            of_oid("1.2.392.200119.4.401").as_deref(),
            Some("urn:oid:1.2.392.200119.4.401")
        );
        let table = of_hl7_name("HL70270");
        assert_eq!(
            table.as_deref(),
            Some("http://terminology.hl7.org/CodeSystem/v2-0270")
        );
        for nothing in ["", "L", "99LAB", "HL7", "HL7ABCD", "2.16.840.1.113883.5.4"] {
            assert_eq!(of_hl7_name(nothing), None, "{nothing}");
        }
    }
}
