//! Which elements the types of FHIR R4 have, in which order, and which of them repeat: what XML needs to
//! be written and read, and JSON does not say.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

/// An element of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) name: &'static str,
    /// Whether it repeats: an array in JSON.
    pub(crate) many: bool,
    /// The type of its values.
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A value that JSON writes as a string.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// XHTML as it stands.
    Xhtml,
    /// A whole resource.
    Resource,
    /// A type with elements of its own.
    Complex(&'static str),
}

/// The elements of a type, in the order of XML; none of a type that the facade does not know.
pub(crate) fn elements_of(name: &str) -> Option<&'static [Element]> {
    TYPES.get(name).map(Vec::as_slice)
}

/// The first member of a value of this type that FHIR R4 does not give it, as a path; none if all are known.
/// What is inside a resource of a type that the facade does not know is not looked at.
pub(crate) fn unknown_member(kind: &str, value: &Value) -> Option<String> {
    let (elements, members) = (elements_of(kind)?, value.as_object()?);
    for (name, inner) in members {
        if name == "resourceType" {
            continue;
        }
        let bare = name.strip_prefix('_').unwrap_or(name);
        let Some(element) = elements.iter().find(|one| one.name == bare) else {
            return Some(format!("{kind}.{name}"));
        };
        let inner_kind = match element.kind {
            Kind::Complex(inner_kind) => inner_kind,
            Kind::Resource => inner["resourceType"].as_str().unwrap_or_default(),
            _ => continue,
        };
        let each = inner
            .as_array()
            .map_or(std::slice::from_ref(inner), Vec::as_slice);
        for one in each {
            let inner_kind = match element.kind {
                Kind::Resource => one["resourceType"].as_str().unwrap_or(inner_kind),
                _ => inner_kind,
            };
            if let Some(found) = unknown_member(inner_kind, one) {
                return Some(found);
            }
        }
    }
    None
}

static TYPES: LazyLock<HashMap<&'static str, Vec<Element>>> = LazyLock::new(|| {
    let lines = include_str!("elements.txt").lines();
    lines.filter_map(read).collect()
});

fn read(line: &'static str) -> Option<(&'static str, Vec<Element>)> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let element = |word: &'static str| {
        let (name, kind) = word.split_once(':')?;
        let kind = match kind {
            "boolean" => Kind::Boolean,
            "integer" | "unsignedInt" | "positiveInt" | "decimal" => Kind::Number,
            "xhtml" => Kind::Xhtml,
            "Resource" => Kind::Resource,
            // Names of complex types begin with a capital, those of primitive ones do not.
            complex if complex.starts_with(|c: char| c.is_ascii_uppercase()) => {
                Kind::Complex(complex)
            }
            _ => Kind::Text,
        };
        Some(Element {
            name: name.trim_end_matches('*'),
            many: name.ends_with('*'),
            kind,
        })
    };
    Some((name, words.filter_map(element).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_no_type_has_are_found() {
        use serde_json::json;
        let known = json!({
            "resourceType": "Patient", "active": true, "_active": { "id": "a" },
            "identifier": [{ "system": "urn:s", "value": "1" }],
            "contained": [{ "resourceType": "Observation", "anything": 1 }],
        });
        assert_eq!(unknown_member("Patient", &known), None);
        for (body, path) in [
            (json!({ "notAnElement": true }), "Patient.notAnElement"),
            (
                json!({ "identifier": [{ "colour": 1 }] }),
                "Identifier.colour",
            ),
            (
                json!({ "contained": [{ "resourceType": "Organization", "x": 1 }] }),
                "Organization.x",
            ),
        ] {
            assert_eq!(unknown_member("Patient", &body).as_deref(), Some(path));
        }
    }

    #[test]
    fn every_type_that_is_named_is_there() {
        for (name, elements) in TYPES.iter() {
            assert!(!elements.is_empty(), "{name}");
            for element in elements {
                if let Kind::Complex(inner) = element.kind {
                    assert!(
                        TYPES.contains_key(inner),
                        "{name}.{}: {inner}",
                        element.name
                    );
                }
            }
        }
        let reference = elements_of("DocumentReference").unwrap();
        let names: Vec<_> = reference.iter().map(|element| element.name).collect();
        let at = |name| names.iter().position(|one| *one == name).unwrap();
        assert!(at("masterIdentifier") < at("identifier") && at("status") < at("content"));
        assert!(reference[at("content")].many && !reference[at("status")].many);
        assert_eq!(elements_of("Observation"), None);
    }
}
