//! The tables that place an HL7 v2 segment in a section class (`spec/formats.md` R3.5 to R3.7). A test
//! holds tables and specification together, row by row.

use crate::class::SectionClass::{
    Discharge, Examination, History, Homepage, Imaging, Laboratory, Medication, Notes, Other,
    Procedures,
};
use crate::tables::Table;

/// R3.5: segments whose name tells the class.
pub(crate) const SEGMENTS: Table = &[
    (
        Homepage,
        &[
            // The message and its batch.
            "FHS", "FTS", "BHS", "BTS", "MSH", "MSA", "ERR", "SFT", "UAC", "EVN", "DSC",
            // Questions, answers and schedules.
            "QRD", "QRF", "QPD", "QAK", "QID", "RCP", "SCH", "RGS", "AIG", "AIL", "AIP", "AIS",
            "APR", "ARQ", // Patient, relatives, stay, insurance, people and places.
            "PID", "PD1", "PDA", "NK1", "PV1", "PV2", "MRG", "ROL", "PRT", "DB1", "ACC", "CON",
            "ARV", "LAN", "IN1", "IN2", "IN3", "GT1", "STF", "PRA", "ORG", "AFF", "RF1", "PRD",
        ],
    ),
    // Allergies, diagnoses, problems, occupation.
    (
        History,
        &[
            "AL1", "IAM", "IAR", "DG1", "PRB", "OH1", "OH2", "OH3", "OH4", "REL",
        ],
    ),
    // Containers of specimens and devices for them.
    (Laboratory, &["SAC", "INV"]),
    (Imaging, &["IPC"]),
    (
        Medication,
        &[
            "RXO", "RXR", "RXC", "RXE", "RXD", "RXG", "RXA", "RXV", "CDO",
        ],
    ),
    (Procedures, &["PR1"]),
    // Goals, variances, pathways, diets.
    (Notes, &["GOL", "VAR", "PTH", "ODS", "ODT"]),
    // Money.
    (
        Other,
        &[
            "FT1", "UB1", "UB2", "DRG", "ABS", "BLC", "BLG", "GP1", "GP2", "RMI", "PSG", "PSS",
            "IVC",
        ],
    ),
];

/// R3.6: the class of orders and observations of which nothing says more, by the message's type.
pub(crate) const MESSAGES: Table = &[
    (History, &["PIN", "PPR", "VXU", "VXQ", "VXR", "VXX"]),
    (Examination, &["ADT"]),
    (
        Laboratory,
        &["OML", "OPL", "OPR", "OPU", "ORL", "ORU", "OUL"],
    ),
    (Imaging, &["OMI", "ORI"]),
    (
        Medication,
        &[
            "OMP", "ORP", "RAR", "RAS", "RDE", "RDR", "RDS", "RER", "RGR", "RGV", "ROR", "RRA",
            "RRD", "RRE", "RRG",
        ],
    ),
    (
        Procedures,
        &["OMG", "OMN", "OMS", "ORG", "ORM", "ORN", "ORR", "ORS"],
    ),
    (
        Notes,
        &["MDM", "OMD", "ORD", "PGL", "PPP", "PTR", "REF", "RRI"],
    ),
    (
        Other,
        &[
            "ACK", "BAR", "DFT", "DSR", "ESR", "ESU", "MCF", "MFK", "MFN", "PMU", "QBP", "QCN",
            "QRY", "QSB", "RDY", "RSP", "RTB", "SIU", "SQM", "SQR", "SRM", "SRR", "UDM",
        ],
    ),
];

/// R3.7: document types of TXA-2, HL7 table 0270.
pub(crate) const DOCUMENTS: Table = &[
    (Discharge, &["DS"]),
    // Cardiodiagnostics.
    (Examination, &["CD"]),
    // Autopsy and surgical pathology.
    (Laboratory, &["AR", "SP"]),
    (Imaging, &["DI"]),
    // Operative report, procedure note.
    (Procedures, &["OP", "PN"]),
    // Consultation, emergency department, history and physical, psychiatry, progress, transfer.
    (Notes, &["CN", "ED", "HP", "PC", "PH", "PR", "TS"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::testing::{built, specified};

    #[test]
    fn the_tables_are_the_specifications() {
        for (heading, table) in [("R3.5", SEGMENTS), ("R3.6", MESSAGES), ("R3.7", DOCUMENTS)] {
            assert_eq!(built(table), specified(heading), "{heading}");
        }
    }
}
