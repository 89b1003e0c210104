//! FHIR R4: a Bundle of any type, lines of resources, or a single one, whole or with holes, in JSON or
//! XML.
//! References are followed within the file only.

use std::collections::HashMap;

use crate::clinical::{Clinical, Document, Gathering};
use crate::fhir_rows::row_of;
use crate::fhir_values::{concept, full_name, observed};
use crate::fhir_xml;
use crate::json::{Value, entries, parse};
use crate::limits::{CODES_MAX, ITEMS_MAX, RESOURCES_MAX};
use crate::stroke::Clues;
use crate::words::words;

/// What the resources of a file in JSON show; `None` if there is none.
pub(crate) fn clinical(bytes: &[u8]) -> Option<Clinical> {
    let found = entries(bytes);
    of_entries(&|call| {
        let mut left_out = found.left_out;
        for span in &found.spans {
            match parse(span) {
                Some(entry) => call(&entry),
                // What is no JSON between two holes is a part of something that was cut.
                None => left_out += usize::from(mentions_resource(span)),
            }
        }
        left_out
    })
}

/// What the resources of a file in XML show; `None` if there is none.
pub(crate) fn clinical_xml(bytes: &[u8]) -> Option<Clinical> {
    of_entries(&|call| fhir_xml::entries(bytes, call))
}

/// What takes one entry after another.
type Call<'a> = dyn FnMut(&Value) + 'a;

/// What entries show that a function gives one after another; it says how many it leaves out.
fn of_entries(each: &dyn Fn(&mut Call<'_>) -> usize) -> Option<Clinical> {
    let mut gathering = Gathering::default();
    let mut names = Names::default();
    gathering.left_out = each(&mut |entry| {
        for_each_resource(entry, &mut |address, resource| names.add(address, resource));
    });
    // Read twice rather than kept: only one resource at a time is in memory.
    let mut resources = 0_usize;
    each(&mut |entry| {
        for_each_resource(entry, &mut |_, resource| {
            resources += 1;
            if resources <= RESOURCES_MAX {
                gather(resource, &names, &mut gathering);
            } else {
                gathering.left_out += 1;
            }
        });
    });
    (!gathering.is_empty() || gathering.left_out > 0).then(|| gathering.finish())
}

fn mentions_resource(span: &[u8]) -> bool {
    let name = b"\"resourceType\"";
    span.windows(name.len()).any(|window| window == name)
}

/// Calls with each resource of an entry, and the address that the entry has for it. A resource that
/// is a Bundle itself is entered; values are at most [`crate::limits::DEPTH_MAX`] deep.
fn for_each_resource(entry: &Value, call: &mut dyn FnMut(Option<&str>, &Value)) {
    let inner = entry.get("resource");
    let (address, resource) = match inner {
        Value::Object(_) => (entry.get("fullUrl").text(), inner),
        _ => (None, entry),
    };
    match resource.get("resourceType").text() {
        Some("Bundle") => {
            for entry in resource.get("entry").items() {
                for_each_resource(entry, call);
            }
        }
        Some(_) => call(address, resource),
        None => {}
    }
}

/// Rows and findings of one resource.
fn gather(resource: &Value, names: &Names, to: &mut Gathering) {
    let kind_of = resource.get("resourceType").text().unwrap_or_default();
    let Some((kind, row)) = row_of(kind_of, resource, names) else {
        return;
    };
    let main = concept_of(kind_of, resource);
    let coded: Vec<&Value> = main
        .iter()
        .copied()
        .chain(resource.get("procedureCode").items())
        .collect();
    let mut codes = Vec::new();
    let mut called: Vec<String> = Vec::new();
    for value in coded.iter().take(CODES_MAX) {
        codes.extend(
            value
                .get("coding")
                .items()
                .iter()
                .take(CODES_MAX)
                .filter_map(crate::fhir_values::code),
        );
        called.extend(value.get("text").text().and_then(words));
        let displays = value.get("coding").items().iter().take(CODES_MAX);
        called.extend(displays.filter_map(|coding| words(coding.get("display").text()?)));
    }
    called.extend(words(&row.what));
    let series = resource.get("series").items().iter().take(CODES_MAX);
    let modalities: Vec<String> = resource
        .get("modality")
        .items()
        .iter()
        .chain(series.clone().map(|series| series.get("modality")))
        .take(CODES_MAX)
        .filter_map(|modality| words(modality.get("code").text()?))
        .collect();
    let sites: Vec<_> = series
        .filter_map(|series| crate::fhir_values::code(series.get("bodySite")))
        .collect();
    let clues = Clues {
        resource: kind_of,
        codes: &codes,
        names: &called,
        modalities: &modalities,
        sites: &sites,
        onset: resource
            .get("onsetDateTime")
            .text()
            .or(resource.at(&["onsetPeriod", "start"]).text()),
    };
    // Why there is no value is no value; an older one still counts.
    if resource.get("dataAbsentReason").is_null() {
        to.findings.look(&kind, &row, &clues);
    }
    if kind_of == "Observation" {
        components(resource, &kind, &row, &codes, to);
    }
    // A document Bundle begins with its Composition; any other file may have many.
    if kind_of == "Composition" && to.is_empty() {
        to.document = Some(Document {
            title: words(&row.what),
            date: row.when.clone(),
        });
    }
    to.add(kind, row);
}

/// Findings that are components of an observation. The two pressures of a panel are one finding.
fn components(
    resource: &Value,
    kind: &crate::Kind,
    whole: &crate::Row,
    outer: &[crate::Code],
    to: &mut Gathering,
) {
    if outer
        .iter()
        .any(|code| code.is(crate::clinical::LOINC, &["85354-9", "55284-4"]))
    {
        return;
    }
    let all = resource.get("component").items().iter().take(ITEMS_MAX);
    for component in all.filter(|component| component.get("dataAbsentReason").is_null()) {
        let row = crate::Row {
            what: concept(component.get("code")).unwrap_or_default(),
            value: observed(component),
            ..whole.clone()
        };
        let coding = component
            .at(&["code", "coding"])
            .items()
            .iter()
            .take(CODES_MAX);
        let codes: Vec<_> = coding.filter_map(crate::fhir_values::code).collect();
        let called: Vec<String> = words(&row.what).into_iter().collect();
        let clues = Clues {
            resource: "Observation",
            codes: &codes,
            names: &called,
            ..Clues::default()
        };
        to.findings.look(kind, &row, &clues);
    }
}

/// The concepts that say what a resource is about. A medicine may stand in a resource of its own.
fn concept_of<'a>(kind_of: &str, resource: &'a Value) -> Vec<&'a Value> {
    let place = match kind_of {
        "MedicationRequest"
        | "MedicationStatement"
        | "MedicationAdministration"
        | "MedicationDispense" => {
            let stated = resource.get("medicationCodeableConcept");
            let reference = resource.at(&["medicationReference", "reference"]).text();
            if let Some(id) = reference.and_then(|reference| reference.strip_prefix('#')) {
                return contained(resource, id)
                    .map(|medication| medication.get("code"))
                    .into_iter()
                    .collect();
            }
            stated
        }
        "Immunization" => resource.get("vaccineCode"),
        "Encounter" | "DocumentReference" | "Composition" => resource.get("type"),
        _ => resource.get("code"),
    };
    vec![place]
}

/// A resource that is contained in another.
pub(crate) fn contained<'a>(resource: &'a Value, id: &str) -> Option<&'a Value> {
    let mut inner = resource.get("contained").items().iter().take(ITEMS_MAX);
    inner.find(|inner| inner.get("id").text() == Some(id))
}

/// What the resources of a file are called, for references to them.
#[derive(Debug, Default)]
pub(crate) struct Names {
    names: HashMap<String, String>,
    texts: HashMap<String, String>,
    texts_bytes: usize,
}

impl Names {
    fn add(&mut self, address: Option<&str>, resource: &Value) {
        let Some(kind) = resource.get("resourceType").text() else {
            return;
        };
        let identity = resource.get("id").text().map(|id| format!("{kind}/{id}"));
        let keys = [address.and_then(words), identity.as_deref().and_then(words)];
        if kind == "Binary" {
            let text =
                crate::fhir_values::decoded(resource.get("contentType"), resource.get("data"));
            for (key, text) in keys.into_iter().flatten().zip(text.iter().cycle()) {
                self.texts_bytes += text.len();
                if self.texts_bytes <= BINARY_BYTES_MAX {
                    self.texts.insert(key, text.clone());
                }
            }
            return;
        }
        let Some(name) = name_of(kind, resource) else {
            return;
        };
        for key in keys.into_iter().flatten() {
            self.names.insert(key, name.clone());
        }
    }

    /// What a reference of a resource names: by its own words, else by what it leads to.
    pub(crate) fn named(&self, reference: &Value, within: &Value) -> Option<String> {
        if let Some(display) = reference.get("display").text() {
            return words(display);
        }
        let to = reference.get("reference").text()?;
        if let Some(id) = to.strip_prefix('#') {
            let inner = contained(within, id)?;
            return name_of(inner.get("resourceType").text()?, inner);
        }
        find(&self.names, to).cloned()
    }

    /// The text of a Binary of this file.
    pub(crate) fn text(&self, address: &str) -> Option<&str> {
        find(&self.texts, address).map(String::as_str)
    }
}

/// What an address leads to: as it is, else by the type and identity at its end.
fn find<'a>(map: &'a HashMap<String, String>, address: &str) -> Option<&'a String> {
    let address = address
        .split_once("/_history")
        .map_or(address, |(address, _)| address);
    map.get(address).or_else(|| {
        let (before, id) = address.rsplit_once('/')?;
        let kind = before.rsplit('/').next()?;
        map.get(&format!("{kind}/{id}"))
    })
}

fn name_of(kind: &str, resource: &Value) -> Option<String> {
    match kind {
        "Patient" | "Practitioner" | "RelatedPerson" | "Person" => full_name(resource.get("name")),
        "Organization" | "Location" | "CareTeam" | "HealthcareService" => {
            words(resource.get("name").text()?)
        }
        "PractitionerRole" => words(resource.at(&["practitioner", "display"]).text()?),
        "Medication" | "Condition" => concept(resource.get("code")),
        "Device" => words(resource.at(&["deviceName", "name"]).text()?)
            .or_else(|| concept(resource.get("type"))),
        "Observation" => {
            let what = concept(resource.get("code"))?;
            match observed(resource) {
                Some(value) => words(&format!("{what}: {value}")),
                None => Some(what),
            }
        }
        _ => None,
    }
}

/// Bytes of texts that stand in Binary resources and are kept to follow references.
const BINARY_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn sample() -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/");
        std::fs::read(format!("{folder}secondary-hospital/stroke-stay.json")).unwrap()
    }

    /// A file without some of its entries, as it comes out of a grant: NUL bytes where an entry and
    /// the comma behind it stood, and at the begin and end if the frame was not granted.
    fn blotted(bytes: &[u8], resource: &str, with_frame: bool) -> Vec<u8> {
        let mut out = bytes.to_vec();
        let spans = entries(bytes).spans;
        let offset = |span: &[u8]| span.as_ptr() as usize - bytes.as_ptr() as usize;
        let kind = format!("\"resource\":{{\"resourceType\":\"{resource}\"");
        for span in &spans {
            if String::from_utf8_lossy(span).contains(&kind) {
                let begin = offset(span);
                let mut end = begin + span.len();
                while bytes
                    .get(end)
                    .is_some_and(|byte| b", \n\r\t".contains(byte))
                {
                    end += 1;
                }
                out[begin..end].fill(0);
            }
        }
        if !with_frame {
            let last = spans[spans.len() - 1];
            out[..offset(spans[0])].fill(0);
            let end = offset(last) + last.len();
            out[end..].fill(0);
        }
        out
    }

    #[test]
    fn what_was_not_granted_is_neither_shown_nor_counted() {
        let bytes = sample();
        let whole = clinical(&bytes).unwrap();
        let kinds = [Kind::VitalSigns, Kind::Assessments, Kind::SocialHistory];
        for with_frame in [true, false] {
            let found = clinical(&blotted(&bytes, "Observation", with_frame)).unwrap();
            assert_eq!(found.left_out, 0);
            assert!(
                found
                    .groups
                    .iter()
                    .all(|group| !kinds.contains(&group.kind))
            );
            for kind in [
                Kind::Problems,
                Kind::Notes,
                Kind::Medicines,
                Kind::Encounters,
            ] {
                let rows =
                    |of: &Clinical| of.groups.iter().find(|group| group.kind == kind).cloned();
                assert_eq!(rows(&found), rows(&whole));
            }
        }
        let found = clinical(&blotted(&bytes, "Practitioner", false)).unwrap();
        let count = |of: &Clinical| {
            of.groups
                .iter()
                .map(|group| group.rows.len())
                .sum::<usize>()
        };
        assert_eq!(count(&found), count(&whole) - 22);
    }

    #[test]
    fn references_are_followed_within_the_file() {
        let file = br##"{"resourceType":"Bundle","entry":[
            {"resource":{"resourceType":"MedicationStatement","medicationReference":{"reference":"Medication/m"},
                "informationSource":{"reference":"https://h/Practitioner/p/_history/2"}}},
            {"resource":{"resourceType":"MedicationStatement","medicationReference":{"reference":"#c"},
                "contained":[{"resourceType":"Medication","id":"c","code":{"coding":[
                    {"system":"http://www.whocc.no/atc","code":"B01AF02"}]}}]}},
            {"resource":{"resourceType":"Medication","id":"m","code":{"text":"Rivaroxaban 20 mg"}}},
            {"fullUrl":"https://h/Practitioner/p","resource":{"resourceType":"Practitioner","id":"p",
                "name":[{"family":"Lin","given":["A","B"]}]}},
            {"resource":{"resourceType":"DocumentReference","content":[{"attachment":{"url":"Binary/b"}}]}},
            {"resource":{"resourceType":"Binary","id":"b","contentType":"text/html","data":"PGI+aGk8L2I+"}}]}"##;
        let found = clinical(file).unwrap();
        let rows = |kind: Kind| {
            let group = found.groups.iter().find(|group| group.kind == kind);
            group.map(|group| group.rows.clone()).unwrap()
        };
        let medicines = rows(Kind::Medicines);
        assert_eq!(medicines[0].what, "Rivaroxaban 20 mg");
        assert_eq!(medicines[0].by.as_deref(), Some("A B Lin"));
        assert_eq!(medicines[1].what, "B01AF02");
        assert_eq!(rows(Kind::Notes)[0].text.as_deref(), Some("hi"));
        let values: Vec<_> = found.stroke.iter().map(|finding| &*finding.value).collect();
        assert_eq!(values, ["Rivaroxaban 20 mg", "B01AF02"]);
    }

    #[test]
    fn void_findings_are_none_and_the_newest_counts() {
        let score = |value: u32, when: &str, status: &str| {
            format!(
                r#"{{"resourceType":"Observation","status":"{status}","effectiveDateTime":"{when}",
                "code":{{"coding":[{{"system":"http://loinc.org","code":"70182-1"}}]}},"valueInteger":{value}}}"#
            )
        };
        let lines = [
            score(5, "2024-06-15T08:00:00+08:00", "final"),
            score(7, "2024-06-15T01:00:00Z", "amended"),
            score(9, "2024-06-16", "entered-in-error"),
            score(0, "2024-06-17", "final").replace(
                "\"valueInteger\":0",
                "\"dataAbsentReason\":{\"text\":\"asleep\"}",
            ),
            r#"{"resourceType":"MedicationRequest","status":"active","doNotPerform":true,
                "medicationCodeableConcept":{"text":"Warfarin"}}"#
                .to_owned(),
            r#"{"resourceType":"Condition","recordedDate":"2024-06-15","code":{"coding":[
                {"system":"http://snomed.info/sct","code":"230690007"}]}}"#
                .to_owned(),
        ];
        let found = clinical(lines.join("\n").as_bytes()).unwrap();
        assert_eq!(found.stroke.len(), 1);
        assert_eq!(found.stroke[0].value, "7");
    }
}
