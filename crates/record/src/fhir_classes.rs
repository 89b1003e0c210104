//! The tables that place a FHIR R4 resource in a section class (`spec/formats.md` R3). A test holds
//! tables and specification together, row by row.

use crate::class::SectionClass::{
    self, Discharge, Examination, History, Homepage, Imaging, Laboratory, Medication, Notes, Other,
    Procedures,
};
use crate::tables::{Table, find};

/// What the tables say about a resource.
pub(crate) enum Verdict {
    Sure(SectionClass),
    /// The category or document type is missing or unknown; the class is the table's for that case.
    NoCategory(SectionClass, &'static str),
    UnknownType,
}

/// The class of a resource: by its type, and where the type alone does not tell, by the first of its
/// category or document type codes that the table for it has.
pub(crate) fn class_of(resource_type: &str, categories: &[String], types: &[String]) -> Verdict {
    if let Some(class) = find(BY_TYPE, resource_type) {
        return Verdict::Sure(class);
    }
    let Some(rule) = BY_CODE.iter().find(|rule| rule.resource == resource_type) else {
        return Verdict::UnknownType;
    };
    let codes = match rule.decides {
        Decides::Category => categories,
        Decides::DocumentType => types,
    };
    let found = |code: &String| rule.tables.iter().find_map(|table| find(table, code));
    match codes.iter().find_map(found) {
        Some(class) => Verdict::Sure(class),
        None => Verdict::NoCategory(rule.otherwise, rule.resource),
    }
}

/// How resources of one type are told apart by a code.
struct ByCode {
    resource: &'static str,
    decides: Decides,
    tables: &'static [Table],
    /// The class if no code is in the tables.
    otherwise: SectionClass,
}

enum Decides {
    Category,
    DocumentType,
}

const BY_CODE: [ByCode; 5] = [
    ByCode {
        resource: "Observation",
        decides: Decides::Category,
        tables: &[OBSERVATION_CATEGORIES, SERVICE_CATEGORIES],
        otherwise: Other,
    },
    ByCode {
        resource: "DiagnosticReport",
        decides: Decides::Category,
        tables: &[SERVICE_CATEGORIES],
        otherwise: Other,
    },
    ByCode {
        resource: "ServiceRequest",
        decides: Decides::Category,
        tables: &[SERVICE_CATEGORIES],
        otherwise: Procedures,
    },
    ByCode {
        resource: "Composition",
        decides: Decides::DocumentType,
        tables: &[DOCUMENT_TYPES],
        otherwise: Notes,
    },
    ByCode {
        resource: "DocumentReference",
        decides: Decides::DocumentType,
        tables: &[DOCUMENT_TYPES],
        otherwise: Notes,
    },
];

/// R3.1: resource types that tell the class by themselves. Of class other are money, terminology,
/// workflow, and what holds contents of several classes.
const BY_TYPE: Table = &[
    (
        Homepage,
        &[
            "Patient",
            "RelatedPerson",
            "Person",
            "Encounter",
            "EpisodeOfCare",
            "Organization",
            "OrganizationAffiliation",
            "Practitioner",
            "PractitionerRole",
            "CareTeam",
            "Location",
            "HealthcareService",
            "Endpoint",
            "Coverage",
            "Appointment",
            "AppointmentResponse",
        ],
    ),
    (
        History,
        &[
            "Condition",
            "AllergyIntolerance",
            "FamilyMemberHistory",
            "Immunization",
            "ImmunizationEvaluation",
            "ImmunizationRecommendation",
            "AdverseEvent",
            "DetectedIssue",
            "Flag",
            "RiskAssessment",
            "QuestionnaireResponse",
        ],
    ),
    (Examination, &["BodyStructure", "VisionPrescription"]),
    (Laboratory, &["Specimen", "MolecularSequence"]),
    (Imaging, &["ImagingStudy", "Media"]),
    (
        Medication,
        &[
            "Medication",
            "MedicationRequest",
            "MedicationAdministration",
            "MedicationDispense",
            "MedicationStatement",
            "MedicationKnowledge",
        ],
    ),
    (
        Procedures,
        &[
            "Procedure",
            "Device",
            "DeviceDefinition",
            "DeviceMetric",
            "DeviceRequest",
            "DeviceUseStatement",
        ],
    ),
    (
        Notes,
        &[
            "ClinicalImpression",
            "CarePlan",
            "Goal",
            "Communication",
            "CommunicationRequest",
            "NutritionOrder",
        ],
    ),
    (
        Other,
        &[
            "Account",
            "ActivityDefinition",
            "AuditEvent",
            "Basic",
            "Binary",
            "BiologicallyDerivedProduct",
            "Bundle",
            "CapabilityStatement",
            "CatalogEntry",
            "ChargeItem",
            "ChargeItemDefinition",
            "Claim",
            "ClaimResponse",
            "CodeSystem",
            "CompartmentDefinition",
            "ConceptMap",
            "Consent",
            "Contract",
            "CoverageEligibilityRequest",
            "CoverageEligibilityResponse",
            "DocumentManifest",
            "EffectEvidenceSynthesis",
            "EnrollmentRequest",
            "EnrollmentResponse",
            "EventDefinition",
            "Evidence",
            "EvidenceVariable",
            "ExampleScenario",
            "ExplanationOfBenefit",
            "GraphDefinition",
            "Group",
            "GuidanceResponse",
            "ImplementationGuide",
            "InsurancePlan",
            "Invoice",
            "Library",
            "Linkage",
            "List",
            "Measure",
            "MeasureReport",
            "MedicinalProduct",
            "MedicinalProductAuthorization",
            "MedicinalProductContraindication",
            "MedicinalProductIndication",
            "MedicinalProductIngredient",
            "MedicinalProductInteraction",
            "MedicinalProductManufactured",
            "MedicinalProductPackaged",
            "MedicinalProductPharmaceutical",
            "MedicinalProductUndesirableEffect",
            "MessageDefinition",
            "MessageHeader",
            "NamingSystem",
            "ObservationDefinition",
            "OperationDefinition",
            "OperationOutcome",
            "Parameters",
            "PaymentNotice",
            "PaymentReconciliation",
            "PlanDefinition",
            "Provenance",
            "Questionnaire",
            "RequestGroup",
            "ResearchDefinition",
            "ResearchElementDefinition",
            "ResearchStudy",
            "ResearchSubject",
            "RiskEvidenceSynthesis",
            "Schedule",
            "SearchParameter",
            "Slot",
            "SpecimenDefinition",
            "StructureDefinition",
            "StructureMap",
            "Subscription",
            "Substance",
            "SubstanceNucleicAcid",
            "SubstancePolymer",
            "SubstanceProtein",
            "SubstanceReferenceInformation",
            "SubstanceSourceMaterial",
            "SubstanceSpecification",
            "SupplyDelivery",
            "SupplyRequest",
            "Task",
            "TerminologyCapabilities",
            "TestReport",
            "TestScript",
            "ValueSet",
            "VerificationResult",
        ],
    ),
];

/// R3.2: codes of observation-category.
const OBSERVATION_CATEGORIES: Table = &[
    (History, &["social-history"]),
    (Examination, &["activity", "exam", "survey", "vital-signs"]),
    (Procedures, &["procedure", "therapy"]),
];

/// R3.3: codes of v2-0074 and observation-category, LOINC parts and SNOMED CT codes for services.
pub(crate) const SERVICE_CATEGORIES: Table = &[
    (
        Laboratory,
        &[
            // Laboratory and its branches, pathology.
            "laboratory",
            "LAB",
            "BG",
            "BLB",
            "CG",
            "CH",
            "CP",
            "GE",
            "HM",
            "IMM",
            "MB",
            "MCB",
            "MYC",
            "OSL",
            "PAR",
            "PAT",
            "SP",
            "SR",
            "TX",
            "VR",
            // LOINC part "Laboratory"; SNOMED CT laboratory procedure, pathology service.
            "LP29693-6",
            "108252007",
            "310074003",
        ],
    ),
    (
        Imaging,
        &[
            // Radiology and its branches.
            "imaging",
            "RAD",
            "CT",
            "CUS",
            "IMG",
            "NMR",
            "NMS",
            "OUS",
            "RUS",
            "RX",
            "VUS",
            "XRC",
            // LOINC part "Radiology"; SNOMED CT radiology, imaging.
            "LP29684-5",
            "394914008",
            "363679005",
        ],
    ),
    // Audiology, electrocardiac, electroneuro, bedside monitoring, nursing measures, pulmonary
    // function.
    (Examination, &["AU", "EC", "EN", "ICU", "NRS", "PF"]),
    (
        Procedures,
        &[
            // Catheterisation, occupational, physical, respiratory and radiation therapy.
            "CTH",
            "OT",
            "PT",
            "RC",
            "RT",
            // SNOMED CT surgical procedure, counselling, education.
            "387713003",
            "409063005",
            "409073007",
        ],
    ),
    // Pharmacy.
    (Medication, &["PHR"]),
    // Physician: history, diagnosis, admission note.
    (Notes, &["PHY"]),
];

/// R3.4: LOINC codes of documents.
pub(crate) const DOCUMENT_TYPES: Table = &[
    (
        Discharge,
        &[
            // Discharge summary; the physician's, attending's, nurse's, hospital's, hospital
            // physician's, dentist's; discharge note; hospital course; discharge disposition.
            "18842-5", "11490-0", "28655-9", "34745-0", "34105-7", "34106-5", "29761-4", "28574-2",
            "8648-8", "8650-4",
        ],
    ),
    // Diagnostic imaging study, radiology study note, CT head, MR brain.
    (Imaging, &["18748-4", "68604-8", "24725-4", "24590-2"]),
    // Laboratory report, pathology study, laboratory studies.
    (Laboratory, &["11502-2", "11526-1", "26436-6"]),
    // Surgical operation note, procedure note.
    (Procedures, &["11504-8", "28570-0"]),
    // History of medication use, medication summary.
    (Medication, &["10160-0", "56445-0"]),
    (
        Notes,
        &[
            // Progress, nurse, triage, emergency, nurse admission, history and physical, consult,
            // referral, plan of care, patient summary, nutrition plan, transfer, episode summary.
            "11506-3", "34746-8", "54094-8", "34878-9", "78390-2", "34117-2", "11488-4", "57133-1",
            "18776-5", "60591-5", "80791-7", "28651-8", "34133-9",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::testing::{built, specified};

    #[test]
    fn the_tables_are_the_specifications() {
        for (heading, table) in [
            ("R3.1", BY_TYPE),
            ("R3.2", OBSERVATION_CATEGORIES),
            ("R3.3", SERVICE_CATEGORIES),
            ("R3.4", DOCUMENT_TYPES),
        ] {
            assert_eq!(built(table), specified(heading), "{heading}");
        }
    }

    /// R4 has 146 resource types that are not abstract.
    #[test]
    fn every_resource_type_has_a_rule() {
        assert_eq!(built(BY_TYPE).len() + BY_CODE.len(), 146);
        for rule in &BY_CODE {
            assert_eq!(find(BY_TYPE, rule.resource), None);
        }
    }
}
