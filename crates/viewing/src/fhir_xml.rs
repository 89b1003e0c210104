//! FHIR R4 in XML, as the trees that the same resources have in JSON: a member is an element, its value
//! the attribute `value`, a list an element that comes again. Document types and their entities are not
//! read.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::json::Value;
use crate::limits::{DEPTH_MAX, MEMBERS_MAX, TEXT_BYTES_MAX, VALUES_MAX};
use crate::words::{cut, without_references};

/// Calls with each entry of a Bundle, or with the one resource of the file; how many were left out,
/// because they are beyond a bound or the file ends within them.
pub(crate) fn entries(bytes: &[u8], call: &mut dyn FnMut(&Value)) -> usize {
    let has_holes = bytes.contains(&0);
    let parts = bytes
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty());
    let parts: Vec<_> = parts.map(String::from_utf8_lossy).collect();
    let text = parts.join(HOLE);
    let mut reader = Reader::from_str(&text);
    // Entries that stand between holes have lost what is around them.
    reader.config_mut().check_end_names = false;
    reader.config_mut().allow_unmatched_ends = has_holes;
    let mut reading = Reading {
        text: &text,
        open: Vec::new(),
        depth: 0,
        values: 0,
        unkept: 0,
        has_holes,
        in_bundle: false,
        narrative: None,
        left_out: 0,
    };
    let mut from = 0;
    loop {
        let event = reader.read_event();
        let to = usize::try_from(reader.buffer_position()).unwrap_or(text.len());
        match event {
            Ok(Event::Start(start)) => {
                if !reading.begins(&start, from) {
                    return 0;
                }
            }
            Ok(Event::Empty(start)) => {
                if !reading.begins(&start, from) {
                    return 0;
                }
                reading.ends(to, call);
            }
            Ok(Event::End(_)) => reading.ends(to, call),
            Ok(Event::Eof) => break,
            Ok(_) => {}
            Err(_) => break,
        }
        from = to;
    }
    // What a hole cuts is not counted.
    reading.left_out + usize::from(!reading.open.is_empty() && !has_holes)
}

struct Reading<'a> {
    text: &'a str,
    /// The elements of an entry or resource that are open, the outermost first.
    open: Vec<Node>,
    /// All open elements.
    depth: usize,
    values: usize,
    /// Elements that are open and not kept, inside those that are.
    unkept: usize,
    has_holes: bool,
    in_bundle: bool,
    /// Where a narrative begins, and how many elements are open around it.
    narrative: Option<(usize, usize)>,
    left_out: usize,
}

/// An element that is open.
#[derive(Default)]
struct Node {
    name: String,
    value: Option<String>,
    members: Vec<(String, Value)>,
}

impl Reading<'_> {
    /// `false` if the file is not of FHIR.
    fn begins(&mut self, start: &BytesStart<'_>, at: usize) -> bool {
        let local = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
        self.depth += 1;
        if self.narrative.is_some() {
            return true;
        }
        if self.depth == 1 && !(self.has_holes && local == ENTRY) {
            let is_fhir = start
                .attributes()
                .with_checks(false)
                .take(ATTRIBUTES_MAX)
                .flatten()
                .any(|found| {
                    found.key.as_ref().starts_with(b"xmlns") && *found.value == *NAMESPACE
                });
            if !is_fhir {
                return false;
            }
            self.in_bundle = local == "Bundle";
        }
        let outermost = match (self.in_bundle, self.open.is_empty()) {
            (_, false) => true,
            (true, true) => local == ENTRY && self.depth == 2,
            (false, true) => self.depth == 1,
        };
        if !outermost {
            return true;
        }
        if local == "div" {
            self.narrative = Some((at, self.depth));
            return true;
        }
        self.values += 1;
        // Beyond the bounds the whole entry is left out, so no more of it is kept.
        if self.open.len() >= DEPTH_MAX {
            self.values = VALUES_MAX + 1;
        }
        if self.values > VALUES_MAX {
            self.unkept += 1;
            return true;
        }
        let value = value_of(start);
        self.open.push(Node {
            name: local,
            value,
            members: Vec::new(),
        });
        true
    }

    fn ends(&mut self, to: usize, call: &mut dyn FnMut(&Value)) {
        let depth = self.depth;
        self.depth = self.depth.saturating_sub(1);
        if let Some((begin, outside)) = self.narrative {
            if depth > outside {
                return;
            }
            self.narrative = None;
            let markup = self.text.get(begin..to).unwrap_or_default();
            let markup = Value::Text(cut(markup, TEXT_BYTES_MAX).to_owned());
            if let Some(parent) = self.open.last_mut() {
                parent.add("div".to_owned(), markup);
            }
            return;
        }
        if self.unkept > 0 {
            self.unkept -= 1;
            return;
        }
        let Some(node) = self.open.pop() else { return };
        if let Some(parent) = self.open.last_mut() {
            let (name, value) = node.into_member();
            parent.add(name, value);
            return;
        }
        let beyond = std::mem::take(&mut self.values) > VALUES_MAX;
        if beyond {
            self.left_out += 1;
            return;
        }
        let is_entry = node.name == ENTRY;
        let (name, value) = node.into_member();
        if is_entry {
            call(&value);
        } else {
            call(&resource(name, value));
        }
    }
}

impl Node {
    fn add(&mut self, name: String, value: Value) {
        let is_full = self.members.len() >= MEMBERS_MAX;
        match self.members.iter_mut().find(|(known, _)| *known == name) {
            Some((_, Value::List(items))) => items.push(value),
            Some((_, first)) => {
                let before = std::mem::replace(first, Value::Null);
                *first = Value::List(vec![before, value]);
            }
            None if is_full => {}
            None => self.members.push((name, value)),
        }
    }

    /// What the element is for the one around it.
    fn into_member(self) -> (String, Value) {
        let mut members = self.members;
        if HOLDERS.contains(&self.name.as_str())
            && let Some((kind, inner)) = members.pop()
        {
            return (self.name, resource(kind, inner));
        }
        let value = match self.value {
            Some(value) => Value::Text(value),
            None => Value::Object(members),
        };
        (self.name, value)
    }
}

/// A resource of this type, as JSON has it.
fn resource(kind: String, value: Value) -> Value {
    let mut members = vec![("resourceType".to_owned(), Value::Text(kind))];
    if let Value::Object(inner) = value {
        members.extend(inner);
    }
    Value::Object(members)
}

fn value_of(start: &BytesStart<'_>) -> Option<String> {
    let mut attributes = start.attributes();
    let mut known = attributes.with_checks(false).take(ATTRIBUTES_MAX).flatten();
    let found = known.find(|attribute| attribute.key.as_ref() == b"value")?;
    let raw = String::from_utf8_lossy(&found.value);
    Some(without_references(cut(&raw, TEXT_BYTES_MAX)))
}

const ENTRY: &str = "entry";
/// Elements that hold a resource.
const HOLDERS: [&str; 2] = ["contained", "resource"];
const NAMESPACE: &[u8] = b"http://hl7.org/fhir";
const ATTRIBUTES_MAX: usize = 64;
/// Stands where a hole is.
const HOLE: &str = "\u{fffd}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    fn all(text: &str) -> (Vec<Value>, usize) {
        let mut found = Vec::new();
        let left_out = entries(text.as_bytes(), &mut |value| found.push(value.clone()));
        (found, left_out)
    }

    #[test]
    fn a_resource_is_the_tree_that_it_has_in_json() {
        let text = "<Patient xmlns=\"http://hl7.org/fhir\"><text><status value=\"generated\"/>\
            <div xmlns=\"http://www.w3.org/1999/xhtml\"><p>A &amp; B</p></div></text>\
            <name><given value=\"A\"/><given value=\"B &lt; C\"/></name>\
            <contained><Organization><name value=\"H\"/></Organization></contained></Patient>";
        let json = r#"{"resourceType":"Patient","text":{"status":"generated",
            "div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>A &amp; B</p></div>"},
            "name":{"given":["A","B < C"]},"contained":{"resourceType":"Organization","name":"H"}}"#;
        assert_eq!(all(text), (vec![parse(json.as_bytes()).unwrap()], 0));
    }

    #[test]
    fn entries_are_found_around_holes() {
        let entry = "<entry><resource><Flag><id value=\"1\"/></Flag></resource></entry>";
        let json = parse(br#"{"resource":{"resourceType":"Flag","id":"1"}}"#).unwrap();
        let whole = format!(
            "<Bundle xmlns=\"http://hl7.org/fhir\"><type value=\"x\"/>{entry}{entry}</Bundle>"
        );
        assert_eq!(all(&whole), (vec![json.clone(), json.clone()], 0));
        let part = format!("\0\0\0{entry}\0\0{entry}\0</Bundle>");
        assert_eq!(all(&part), (vec![json.clone(), json.clone()], 0));
        let part = whole.replacen(entry, &"\0".repeat(entry.len()), 1);
        assert_eq!(all(&part), (vec![json], 0));
        let cut = whole.get(..whole.len() - 30).unwrap();
        assert_eq!(all(cut).1, 1);
        assert_eq!(all("<Bundle><entry/></Bundle>"), (vec![], 0));
    }

    #[test]
    fn deep_and_wide_entries_are_left_out() {
        let wide = format!(
            "<Bundle xmlns=\"http://hl7.org/fhir\"><entry><resource><Flag>{}</Flag></resource></entry></Bundle>",
            "<a/>".repeat(VALUES_MAX)
        );
        assert_eq!(all(&wide), (vec![], 1));
        let deep = format!(
            "<Flag xmlns=\"http://hl7.org/fhir\">{}",
            "<a>".repeat(1_000_000)
        );
        assert_eq!(all(&deep), (vec![], 1));
    }
}
