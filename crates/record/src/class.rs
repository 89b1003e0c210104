//! Section classes (`spec/formats.md` R1): the unit in which access to a record is granted.

use std::fmt;

use scheme::ClassCode;

/// A section class. Name, order and code are fixed for ever, because the class enters keys: a
/// section's condition is `enc(PID, class)` (`spec/scheme.md`, equation 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SectionClass {
    /// Who the patient is, where and by whom they were treated.
    Homepage = 1,
    /// Problems, diagnoses, allergies, family and social history, vaccinations.
    History = 2,
    /// Vital signs, findings of an examination, scores.
    Examination = 3,
    /// Laboratory orders, specimens, values and reports.
    Laboratory = 4,
    /// Imaging orders, studies, images and reports.
    Imaging = 5,
    /// Prescriptions and administrations.
    Medication = 6,
    /// Operations, interventions, other orders and the devices they use.
    Procedures = 7,
    /// Clinical notes and plans.
    Notes = 8,
    /// Discharge summaries.
    Discharge = 9,
    /// Everything that no rule places elsewhere, and every file that is not understood.
    Other = 10,
}

impl SectionClass {
    /// Every class, in the order in which sections stand in a container.
    pub const ALL: [Self; 10] = [
        Self::Homepage,
        Self::History,
        Self::Examination,
        Self::Laboratory,
        Self::Imaging,
        Self::Medication,
        Self::Procedures,
        Self::Notes,
        Self::Discharge,
        Self::Other,
    ];

    /// The class's code in every byte layout, from 1 to 10.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The class of a code; `None` for a code that this version does not know.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.code() == code)
    }

    /// The class's name, lower case, as it enters keys and as people type it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Homepage => "homepage",
            Self::History => "history",
            Self::Examination => "examination",
            Self::Laboratory => "laboratory",
            Self::Imaging => "imaging",
            Self::Medication => "medication",
            Self::Procedures => "procedures",
            Self::Notes => "notes",
            Self::Discharge => "discharge",
            Self::Other => "other",
        }
    }

    /// The class of a name; `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

impl From<SectionClass> for ClassCode {
    fn from(class: SectionClass) -> Self {
        Self::new(class.code())
    }
}

impl fmt::Display for SectionClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_order_and_codes_are_pinned() {
        let listed: Vec<String> = SectionClass::ALL
            .iter()
            .map(|class| format!("{} {}", class.code(), class.name()))
            .collect();
        assert_eq!(
            listed,
            [
                "1 homepage",
                "2 history",
                "3 examination",
                "4 laboratory",
                "5 imaging",
                "6 medication",
                "7 procedures",
                "8 notes",
                "9 discharge",
                "10 other"
            ]
        );
        for class in SectionClass::ALL {
            assert_eq!(SectionClass::from_code(class.code()), Some(class));
            assert_eq!(SectionClass::from_name(class.name()), Some(class));
        }
        assert_eq!(SectionClass::from_code(0), None);
        assert_eq!(SectionClass::from_code(11), None);
        assert_eq!(SectionClass::from_name("Homepage"), None);
    }
}
