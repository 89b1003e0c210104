//! Entries of clinical documents: the coded statements that stand beside a section's text. They become
//! rows and findings where their section says what they are; the text is not looked through for them.

use crate::clinical::{Code, Gathering, Kind, Row};
use crate::limits::{ITEMS_MAX, XML_DEPTH_MAX};
use crate::moment;
use crate::stroke::Clues;
use crate::words::{joined, words};

/// An element of an entry with the attributes and texts that matter.
#[derive(Debug, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(&'static str, String)>,
    /// The text directly in it.
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

/// The attributes that are kept.
pub(crate) const ATTRIBUTES: [&str; 10] = [
    "code",
    "codeSystem",
    "displayName",
    "extension",
    "moodCode",
    "negationInd",
    "nullFlavor",
    "typeCode",
    "unit",
    "value",
];

/// Takes from an entry of a section what it states.
pub(crate) fn gather(entry: &Element, section: &Code, to: &mut Gathering) {
    let Some(place) = Place::of(section) else {
        return;
    };
    statement(entry, &place, &Row::default(), XML_DEPTH_MAX, to);
}

/// What the entries of a section are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Allergies,
    Problems,
    Medicines,
    Immunisations,
    Procedures,
    /// Observations with values.
    Values(Kind),
}

impl Place {
    /// What is said of relatives, of plans and of what is unknown is no statement about the patient's
    /// present, so other sections have none.
    fn of(section: &Code) -> Option<Self> {
        let places: [(&[&str], Self); 9] = [
            (&["48765-2"], Self::Allergies),
            (&PROBLEMS, Self::Problems),
            (
                &["10160-0", "10183-2", "75311-1", "42346-7", "29549-3"],
                Self::Medicines,
            ),
            (&["11369-6"], Self::Immunisations),
            (&["47519-4"], Self::Procedures),
            (&["30954-2", "11493-4"], Self::Values(Kind::Laboratory)),
            (&["8716-3"], Self::Values(Kind::VitalSigns)),
            (&["47420-5", "10190-7"], Self::Values(Kind::Assessments)),
            (
                &["29545-1", "10210-3", "10184-0"],
                Self::Values(Kind::Examination),
            ),
        ];
        let found = places
            .into_iter()
            .find(|(codes, _)| codes.contains(&section.code.as_str()));
        found.map(|(_, place)| place)
    }
}

/// Goes down to the statements of an entry; `around` has what the elements around them say. Recursion
/// goes no deeper than the document's elements.
fn statement(element: &Element, place: &Place, around: &Row, depth: usize, to: &mut Gathering) {
    if depth == 0 || element.is("negationInd", "true") {
        return;
    }
    let here = Row {
        when: element
            .time("effectiveTime")
            .or_else(|| around.when.clone()),
        status: element
            .child("statusCode")
            .and_then(|status| status.words("code"))
            .or_else(|| around.status.clone()),
        ..Row::default()
    };
    let mood = element.attribute("moodCode").unwrap_or("EVN");
    let happened = mood == "EVN";
    match (place, element.name.as_str()) {
        (Place::Allergies, "observation") if happened => allergy(element, around, to),
        (Place::Problems, "observation") if happened => problem(element, around, to),
        (Place::Medicines, "substanceAdministration") => {
            // What was prescribed counts as it does in FHIR: most programs write all medicines so.
            let counts = happened || mood == "INT";
            medicine(element, Kind::Medicines, here, counts, to);
        }
        (Place::Immunisations, "substanceAdministration") if happened => {
            medicine(element, Kind::Immunisations, here, false, to);
        }
        (Place::Procedures, "procedure" | "act" | "observation") if happened => {
            procedure(element, here, to);
        }
        (Place::Values(kind), "observation") if happened => value(element, kind, here, to),
        _ => {
            for child in element
                .children
                .iter()
                .filter(|child| CARRIERS.contains(&child.name.as_str()))
            {
                statement(child, place, &here, depth - 1, to);
            }
        }
    }
}

fn allergy(element: &Element, around: &Row, to: &mut Gathering) {
    let substance = element
        .all("participant")
        .filter_map(|participant| participant.down(&["participantRole", "playingEntity"]))
        .next();
    let named = substance.and_then(|substance| {
        let name = substance.child("name").and_then(|name| words(&name.text));
        substance.child("code").and_then(Element::concept).or(name)
    });
    // Without a substance the value says to what kind of thing the allergy is.
    let value = element.child("value");
    let Some(what) = named.or_else(|| value.and_then(Element::concept)) else {
        return;
    };
    let reactions = element
        .all("entryRelationship")
        .filter(|relation| relation.is("typeCode", "MFST"))
        .filter_map(|relation| relation.child("observation")?.child("value")?.concept());
    let row = Row {
        when: element.time("effectiveTime"),
        what,
        value: joined(reactions.map(Some), "; "),
        status: around.status.clone(),
        ..Row::default()
    };
    let codes = substance
        .and_then(|substance| substance.child("code"))
        .map(Element::codes);
    add(
        element,
        Kind::Allergies,
        row,
        &codes.unwrap_or_default(),
        None,
        to,
    );
}

fn problem(element: &Element, around: &Row, to: &mut Gathering) {
    let Some(value) = element.child("value") else {
        return;
    };
    let Some(what) = value.concept() else { return };
    let onset = element.time("effectiveTime");
    let row = Row {
        when: onset.clone(),
        until: element
            .child("effectiveTime")
            .and_then(|time| time.child("high")?.moment()),
        what,
        status: around.status.clone(),
        ..Row::default()
    };
    add(
        element,
        Kind::Problems,
        row,
        &value.codes(),
        onset.as_deref(),
        to,
    );
}

fn medicine(element: &Element, kind: Kind, here: Row, looked_at: bool, to: &mut Gathering) {
    let material = element.down(&["consumable", "manufacturedProduct", "manufacturedMaterial"]);
    let Some(code) = material.and_then(|material| material.child("code")) else {
        return;
    };
    let name = || material.and_then(|material| words(&material.child("name")?.text));
    let Some(what) = code.concept().or_else(name) else {
        return;
    };
    let row = Row {
        what,
        value: element.child("doseQuantity").and_then(Element::quantity),
        ..here
    };
    if looked_at {
        add(element, kind, row, &code.codes(), None, to);
    } else {
        // What is proposed, or a vaccine, is shown, and no finding.
        to.add(kind, coded(row, &code.codes()));
    }
}

fn procedure(element: &Element, here: Row, to: &mut Gathering) {
    let Some(code) = element.child("code") else {
        return;
    };
    let Some(what) = code.concept() else { return };
    add(
        element,
        Kind::Procedures,
        Row { what, ..here },
        &code.codes(),
        None,
        to,
    );
}

fn value(element: &Element, kind: &Kind, here: Row, to: &mut Gathering) {
    let Some(code) = element.child("code") else {
        return;
    };
    let what = code.concept().unwrap_or_default();
    let value = element.child("value").and_then(|value| {
        value
            .quantity()
            .or_else(|| value.concept())
            .or_else(|| words(&value.text))
    });
    let range = element.down(&["referenceRange", "observationRange", "value"]);
    let bounds = range.map(|range| ["low", "high"].map(|bound| range.child(bound)?.words("value")));
    let row = Row {
        what,
        value,
        flag: element
            .child("interpretationCode")
            .and_then(|code| code.words("code")),
        range: bounds.and_then(|bounds| joined(bounds, "-")),
        ..here
    };
    add(element, kind.clone(), row, &code.codes(), None, to);
}

/// Adds a row, and takes from it what it says.
fn add(
    element: &Element,
    kind: Kind,
    row: Row,
    codes: &[Code],
    onset: Option<&str>,
    to: &mut Gathering,
) {
    let names: Vec<String> = words(&row.what).into_iter().collect();
    let clues = Clues {
        resource: &element.name,
        codes,
        names: &names,
        onset,
        ..Clues::default()
    };
    to.findings.look(&kind, &row, &clues);
    to.add(kind, coded(row, codes));
}

fn coded(row: Row, codes: &[Code]) -> Row {
    Row {
        code: codes.first().cloned(),
        ..row
    }
}

impl Element {
    fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.attribute(name) == Some(value)
    }

    fn words(&self, name: &str) -> Option<String> {
        words(self.attribute(name)?)
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children
            .iter()
            .filter(move |child| child.name == name)
            .take(ITEMS_MAX)
    }

    fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    fn down(&self, names: &[&str]) -> Option<&Self> {
        names
            .iter()
            .try_fold(self, |element, name| element.child(name))
    }

    /// What a coded element calls its concept: its words, the sender's, or those of a translation.
    fn concept(&self) -> Option<String> {
        let original = || words(&self.child("originalText")?.text);
        let translated = || {
            self.all("translation")
                .find_map(|other| other.words("displayName"))
        };
        self.words("displayName")
            .or_else(original)
            .or_else(translated)
            .or_else(|| self.words("code"))
    }

    fn codes(&self) -> Vec<Code> {
        let code = |element: &Self| {
            let system = element.attribute("codeSystem").unwrap_or_default();
            Some(Code::new(system, &element.words("code")?))
        };
        std::iter::once(self)
            .chain(self.all("translation"))
            .filter_map(code)
            .collect()
    }

    fn quantity(&self) -> Option<String> {
        let value = self.words("value")?;
        match self.words("unit").filter(|unit| unit != "1") {
            Some(unit) => words(&format!("{value} {unit}")),
            None => Some(value),
        }
    }

    fn moment(&self) -> Option<String> {
        moment::iso(self.attribute("value")?)
    }

    /// A time, or the begin of a period.
    fn time(&self, name: &str) -> Option<String> {
        self.all(name)
            .find_map(|time| time.moment().or_else(|| time.child("low")?.moment()))
    }
}

/// Elements through which a statement is reached.
const CARRIERS: [&str; 9] = [
    "act",
    "component",
    "encounter",
    "entryRelationship",
    "observation",
    "organizer",
    "procedure",
    "substanceAdministration",
    "supply",
];

/// Sections whose entries are problems: problems, admission and discharge diagnoses, past illness.
const PROBLEMS: [&str; 6] = [
    "11450-4",
    "42347-5",
    "46241-6",
    "11535-2",
    "C-CDAV2-DDN",
    "11348-0",
];

#[cfg(test)]
mod tests {
    use crate::{Clinical, Kind, StrokeItem};

    fn section(code: &str, entry: &str) -> Clinical {
        let text = format!(
            "<ClinicalDocument><component><structuredBody><component><section><code code=\"{code}\"/>\
             <title>t</title><entry>{entry}</entry></section></component></structuredBody></component>\
             </ClinicalDocument>"
        );
        crate::cda::clinical(text.as_bytes()).unwrap()
    }

    fn items(code: &str, entry: &str) -> Vec<StrokeItem> {
        let found = section(code, entry).stroke;
        found.iter().map(|finding| finding.item).collect()
    }

    const STROKE: &str = "<act><entryRelationship><observation ATTRIBUTES><effectiveTime><low value=\"20240615\"/>\
        </effectiveTime><value code=\"230690007\" codeSystem=\"2.16.840.1.113883.6.96\"/></observation>\
        </entryRelationship></act>";

    #[test]
    fn what_is_denied_planned_or_a_relative_s_is_no_finding() {
        let stroke = |attributes: &str| STROKE.replace("ATTRIBUTES", attributes);
        assert_eq!(
            items("11450-4", &stroke("moodCode=\"EVN\"")),
            [StrokeItem::Onset]
        );
        assert_eq!(items("11450-4", &stroke("negationInd=\"true\"")), []);
        assert_eq!(items("11450-4", &stroke("moodCode=\"RQO\"")), []);
        for elsewhere in ["10157-6", "18776-5", "unknown"] {
            assert_eq!(items(elsewhere, &stroke("")), [], "{elsewhere}");
        }
        let cancelled = stroke("").replacen("<act>", "<act><statusCode code=\"nullified\"/>", 1);
        assert_eq!(items("11450-4", &cancelled), []);
    }

    #[test]
    fn medicines_count_when_they_are_taken_or_prescribed_and_are_shown_when_proposed() {
        let drug = |mood: &str| {
            format!(
                "<substanceAdministration moodCode=\"{mood}\"><consumable><manufacturedProduct><manufacturedMaterial>\
                 <code code=\"x\" codeSystem=\"local\"><originalText>Apixaban 5 mg</originalText></code>\
                 </manufacturedMaterial></manufacturedProduct></consumable></substanceAdministration>"
            )
        };
        assert_eq!(items("10160-0", &drug("EVN")), [StrokeItem::Anticoagulant]);
        assert_eq!(items("10160-0", &drug("INT")), [StrokeItem::Anticoagulant]);
        assert_eq!(items("10160-0", &drug("PRP")), []);
        let shown = section("10160-0", &drug("PRP"));
        let medicines = shown
            .groups
            .iter()
            .find(|group| group.kind == Kind::Medicines)
            .unwrap();
        assert_eq!(medicines.rows[0].what, "Apixaban 5 mg");
    }

    #[test]
    fn an_allergy_without_a_substance_is_named_by_its_value() {
        let entry = "<act><entryRelationship><observation><value code=\"1\" displayName=\"Allergy to latex\"/>\
            </observation></entryRelationship></act>";
        let found = section("48765-2", entry).stroke;
        assert_eq!(found[0].value, "Allergy to latex");
        let none = entry.replace("<observation>", "<observation negationInd=\"true\">");
        assert!(section("48765-2", &none).stroke.is_empty());
    }
}
