//! FHIR R4 in XML, from and to the JSON form (the formats of FHIR R4, sections 2.6.1 and 2.6.2). Types are
//! those of `elements.txt`; document type declarations and entities are refused.
//!
//! XHTML is never passed through: what the reader understood of it is written anew, so that nothing that
//! the reader is lenient with reaches another system. Decimals are numbers of 64 bits, as `serde_json` has
//! them: zeros at their end, and digits beyond the seventeenth, are lost.

use std::io::BufRead;

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, QName, ResolveResult};
use quick_xml::{NsReader, XmlVersion};
use serde_json::{Map, Value};
use thiserror::Error;

use super::elements::{Element, Kind, elements_of};

const NAMESPACE: &str = "http://hl7.org/fhir";
const XHTML: &str = "http://www.w3.org/1999/xhtml";
/// Of attributes such as `xml:lang`.
const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// Of `xsi:schemaLocation`, the one foreign attribute that FHIR has.
const SCHEMA: &str = "http://www.w3.org/2001/XMLSchema-instance";
/// Bytes that may stand before the root: a declaration and comments.
const BEFORE_ROOT_BYTES_MAX: u64 = 64 << 10;
/// Open elements. Resources of the facade reach about 20 with contained ones.
const DEPTH_MAX: usize = 64;
/// Elements of one document: a transaction of 1,000 documents with 60 elements each.
const ELEMENTS_MAX: usize = 65_536;

/// Why XML cannot be read as FHIR.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum XmlError {
    #[error("the body is not well-formed XML at byte {0}; send what its writer wrote")]
    Malformed(u64),
    #[error(
        "the XML has a document type declaration or an entity, which no FHIR resource needs; remove it"
    )]
    Declaration,
    #[error(
        "the XML is nested deeper than 64 elements or has more than 65,536; send it in JSON or in parts"
    )]
    TooMuch,
    #[error(
        "{0} is not of the namespace http://hl7.org/fhir; declare that one with xmlns, and remove what is of others"
    )]
    Foreign(String),
    #[error("{0} has text, which FHIR has in attributes and narratives alone; remove it")]
    Text(String),
    #[error("{0} is no resource type that is read in XML here; send it in JSON")]
    Type(String),
    #[error("{within} has no element {name} in FHIR R4; remove it, or write it as an extension")]
    Unknown { within: String, name: String },
    #[error("{within}.{name} stands more than once; FHIR R4 allows it once")]
    Twice { within: String, name: String },
    #[error("{0} is no number or truth value; mend it")]
    Value(String),
}

/// Writes a resource; what `elements.txt` does not know is left out.
pub(crate) fn to_xml(resource: &Value) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
    write_resource(&mut out, resource, true);
    out
}

fn write_resource(out: &mut String, resource: &Value, outermost: bool) {
    let Some(name) = resource["resourceType"].as_str() else {
        return;
    };
    let Some(elements) = resource_elements(name) else {
        return;
    };
    out.push('<');
    out.push_str(name);
    if outermost {
        out.push_str(" xmlns=\"");
        out.push_str(NAMESPACE);
        out.push('"');
    }
    out.push('>');
    write_elements(out, elements, resource, true);
    close(out, name);
}

/// The elements of a resource type; none of other types.
fn resource_elements(name: &str) -> Option<&'static [Element]> {
    let elements = elements_of(name)?;
    let mut own = elements.iter();
    own.any(|element| element.name == "implicitRules")
        .then_some(elements)
}

fn write_elements(out: &mut String, elements: &[Element], of: &Value, resource: bool) {
    for element in elements {
        if is_attribute(element, resource) {
            continue;
        }
        let (value, beside) = (&of[element.name], &of[format!("_{}", element.name)]);
        match (value, beside) {
            (Value::Null, Value::Null) => {}
            (Value::Array(values), _) => {
                for (place, value) in values.iter().enumerate() {
                    write_value(out, element, value, &beside[place]);
                }
            }
            (Value::Null, Value::Array(besides)) => {
                for beside in besides {
                    write_value(out, element, &Value::Null, beside);
                }
            }
            (value, beside) => write_value(out, element, value, beside),
        }
    }
}

/// An element's `id` and an extension's `url` are attributes; a resource's `id` is an element.
fn is_attribute(element: &Element, resource: bool) -> bool {
    !resource && element.name == "id" && element.kind == Kind::Text
}

fn write_value(out: &mut String, element: &Element, value: &Value, beside: &Value) {
    match element.kind {
        Kind::Xhtml => out.push_str(&narrative(value).unwrap_or_default()),
        Kind::Resource => {
            // An empty element would be no resource either.
            let name = value["resourceType"].as_str();
            if name.and_then(resource_elements).is_none() {
                return;
            }
            open(out, element.name, &[]);
            out.push('>');
            write_resource(out, value, false);
            close(out, element.name);
        }
        Kind::Complex(kind) => {
            // A text without its narrative is none.
            if kind == "Narrative" && narrative(&value["div"]).is_none() {
                return;
            }
            let is_extension = kind == "Extension";
            let url = value["url"].as_str().filter(|_| is_extension);
            let attributes = [("id", value["id"].as_str()), ("url", url)];
            open(out, element.name, &attributes);
            out.push('>');
            if let Some(elements) = elements_of(kind) {
                let elements: Vec<Element> = elements
                    .iter()
                    .filter(|inner| !(is_extension && inner.name == "url"))
                    .copied()
                    .collect();
                write_elements(out, &elements, value, false);
            }
            close(out, element.name);
        }
        Kind::Text | Kind::Boolean | Kind::Number => {
            let text = match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            let attributes = [("id", beside["id"].as_str()), ("value", text.as_deref())];
            open(out, element.name, &attributes);
            match &beside["extension"] {
                Value::Array(extensions) => {
                    out.push('>');
                    for extension in extensions {
                        write_value(out, &EXTENSION, extension, &Value::Null);
                    }
                    close(out, element.name);
                }
                _ => out.push_str("/>"),
            }
        }
    }
}

const EXTENSION: Element = Element {
    name: "extension",
    many: true,
    kind: Kind::Complex("Extension"),
};

fn open(out: &mut String, name: &str, attributes: &[(&str, Option<&str>)]) {
    out.push('<');
    out.push_str(name);
    for (name, value) in attributes {
        if let Some(value) = value {
            out.push(' ');
            out.push_str(name);
            out.push_str("=\"");
            escape(out, value);
            out.push('"');
        }
    }
}

fn close(out: &mut String, name: &str) {
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\r' | '\t' => {
                out.push_str("&#");
                out.push_str(&u32::from(c).to_string());
                out.push(';');
            }
            c if !is_char(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

/// Text between elements; white space stays as it is.
fn escape_text(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\r' => out.push_str("&#13;"),
            c if !is_char(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

/// Whether XML 1.0 has a way to write a character (its production 2).
fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// A narrative as JSON has it, written anew; none if it is anything but one `div` of XHTML without
/// prefixes, entities of its own and processing instructions.
fn narrative(div: &Value) -> Option<String> {
    let mut reader = reader_of(div.as_str()?.trim());
    let (start, empty) = match next(&mut reader).ok()? {
        Event::Start(start) => (start, false),
        Event::Empty(start) => (start, true),
        _ => return None,
    };
    if start.name() != QName(b"div") {
        return None;
    }
    let text = xhtml(&mut reader, start, empty, &mut 0, false).ok()?;
    matches!(next(&mut reader), Ok(Event::Eof)).then_some(text)
}

/// An element as XML has it, before its type is known.
#[derive(Debug, PartialEq, Eq)]
struct Node {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Node>,
    /// All of it, if it is XHTML and no element of FHIR's.
    xhtml: Option<String>,
}

impl Node {
    fn attribute(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Refuses attributes that an element does not have: they would be lost.
    fn has_only(&self, within: &str, known: &[&str]) -> Result<(), XmlError> {
        let mut attributes = self.attributes.iter();
        let other = attributes
            .find(|(name, _)| !known.contains(&name.as_str()) && !name.starts_with("xml:"));
        match other {
            None => Ok(()),
            Some((name, _)) => Err(XmlError::Unknown {
                within: within.to_owned(),
                name: format!("@{name}"),
            }),
        }
    }
}

/// Reads a resource into its JSON form.
///
/// # Errors
/// [`XmlError`].
pub(crate) fn from_xml(text: &str) -> Result<Value, XmlError> {
    resource(&tree(text)?)
}

/// The name of a document's root, if it is of FHIR's namespace. Nothing behind its begin is read.
pub(crate) fn root_of(source: impl BufRead) -> Option<String> {
    let mut reader = NsReader::from_reader(source.take(BEFORE_ROOT_BYTES_MAX));
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let (namespace, event) = reader.read_resolved_event_into(&mut buffer).ok()?;
        let start = match event {
            Event::Start(start) | Event::Empty(start) => start,
            Event::Eof => return None,
            _ => continue,
        };
        let is_own = namespace == ResolveResult::Bound(Namespace(NAMESPACE.as_bytes()));
        return is_own.then(|| local(start.name()));
    }
}

type Source<'a> = NsReader<&'a [u8]>;

fn reader_of(text: &str) -> Source<'_> {
    let mut reader = NsReader::from_str(text);
    reader.config_mut().enable_all_checks(true);
    reader
}

fn next<'a>(reader: &mut Source<'a>) -> Result<Event<'a>, XmlError> {
    reader
        .read_event()
        .map_err(|_| XmlError::Malformed(reader.error_position()))
}

fn malformed(reader: &Source<'_>) -> XmlError {
    XmlError::Malformed(reader.buffer_position())
}

fn local(name: QName<'_>) -> String {
    String::from_utf8_lossy(name.local_name().as_ref()).into_owned()
}

fn tree(text: &str) -> Result<Node, XmlError> {
    let mut reader = reader_of(text);
    let mut open: Vec<Node> = Vec::new();
    let mut root = None;
    let mut count = 0;
    loop {
        let is_first = reader.buffer_position() == 0;
        let node = match next(&mut reader)? {
            Event::Start(_) | Event::Empty(_) if root.is_some() => return Err(malformed(&reader)),
            Event::Start(start) => {
                let of = namespace(&reader, start.name());
                if of.as_deref() == Some(XHTML) {
                    xhtml_node(&mut reader, start, false, &mut count)?
                } else {
                    let node = fhir_node(&reader, &start, of.as_deref())?;
                    count += 1;
                    if open.len() >= DEPTH_MAX || count > ELEMENTS_MAX {
                        return Err(XmlError::TooMuch);
                    }
                    open.push(node);
                    continue;
                }
            }
            Event::Empty(start) => {
                let of = namespace(&reader, start.name());
                count += 1;
                if open.len() >= DEPTH_MAX || count > ELEMENTS_MAX {
                    return Err(XmlError::TooMuch);
                }
                match of.as_deref() {
                    Some(XHTML) => xhtml_node(&mut reader, start, true, &mut count)?,
                    of => fhir_node(&reader, &start, of)?,
                }
            }
            Event::End(_) => open.pop().ok_or_else(|| malformed(&reader))?,
            Event::DocType(_) => return Err(XmlError::Declaration),
            Event::GeneralRef(reference) => {
                // All that a reference can be is text, or an entity that nothing declares here.
                return Err(match (character(&reference), open.last()) {
                    (Some(_), Some(within)) => XmlError::Text(within.name.clone()),
                    (Some(_), None) => malformed(&reader),
                    (None, _) => XmlError::Declaration,
                });
            }
            Event::Text(text) if text.iter().all(u8::is_ascii_whitespace) => continue,
            Event::Text(_) | Event::CData(_) => {
                return Err(match open.last() {
                    Some(within) => XmlError::Text(within.name.clone()),
                    None => malformed(&reader),
                });
            }
            Event::Comment(_) => continue,
            Event::PI(_) if root.is_none() => continue,
            Event::Decl(_) if is_first => continue,
            Event::PI(_) | Event::Decl(_) => return Err(malformed(&reader)),
            Event::Eof => {
                let whole = root.filter(|_| open.is_empty());
                return whole.ok_or_else(|| malformed(&reader));
            }
        };
        match open.last_mut() {
            Some(parent) => parent.children.push(node),
            None => root = Some(node),
        }
    }
}

/// The namespace of an element's name; none of one that has none.
fn namespace(reader: &Source<'_>, name: QName<'_>) -> Option<String> {
    match reader.resolver().resolve_element(name).0 {
        ResolveResult::Bound(Namespace(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

fn fhir_node(
    reader: &Source<'_>,
    start: &BytesStart<'_>,
    of: Option<&str>,
) -> Result<Node, XmlError> {
    if of != Some(NAMESPACE) {
        return Err(XmlError::Foreign(local(start.name())));
    }
    Ok(Node {
        name: local(start.name()),
        attributes: attributes(reader, start)?,
        children: Vec::new(),
        xhtml: None,
    })
}

fn xhtml_node(
    reader: &mut Source<'_>,
    start: BytesStart<'_>,
    empty: bool,
    count: &mut usize,
) -> Result<Node, XmlError> {
    Ok(Node {
        name: local(start.name()),
        attributes: Vec::new(),
        children: Vec::new(),
        xhtml: Some(xhtml(reader, start, empty, count, true)?),
    })
}

/// An element of XHTML whose begin was read, and all that is in it, written anew: without prefixes and
/// comments, and with the namespace declared on it. `prefixed` says whether prefixes are read.
fn xhtml(
    reader: &mut Source<'_>,
    start: BytesStart<'_>,
    empty: bool,
    count: &mut usize,
    prefixed: bool,
) -> Result<String, XmlError> {
    let mut out = String::new();
    let mut open: Vec<String> = Vec::new();
    let mut event = match empty {
        true => Event::Empty(start),
        false => Event::Start(start),
    };
    loop {
        match &event {
            Event::Start(start) | Event::Empty(start) => {
                *count += 1;
                if open.len() >= DEPTH_MAX || *count > ELEMENTS_MAX {
                    return Err(XmlError::TooMuch);
                }
                let name = local(start.name());
                let foreign = namespace(reader, start.name()).as_deref() != Some(XHTML)
                    || !prefixed && start.name().prefix().is_some();
                if foreign {
                    return Err(XmlError::Foreign(name));
                }
                if !is_name(&name) {
                    return Err(malformed(reader));
                }
                let mut own = attributes(reader, start)?;
                if !own
                    .iter()
                    .all(|(name, _)| is_name(name.trim_start_matches("xml:")))
                {
                    return Err(malformed(reader));
                }
                if open.is_empty() {
                    own.insert(0, ("xmlns".to_owned(), XHTML.to_owned()));
                }
                let own: Vec<(&str, Option<&str>)> = own
                    .iter()
                    .map(|(name, value)| (name.as_str(), Some(value.as_str())))
                    .collect();
                self::open(&mut out, &name, &own);
                if matches!(event, Event::Empty(_)) {
                    out.push_str("/>");
                } else {
                    out.push('>');
                    open.push(name);
                }
            }
            Event::End(_) => {
                let name = open.pop().ok_or_else(|| malformed(reader))?;
                close(&mut out, &name);
            }
            Event::Text(text) => {
                let text = text.xml10_content().map_err(|_| malformed(reader))?;
                escape_text(&mut out, &text);
            }
            Event::CData(text) => {
                let text = text.xml10_content().map_err(|_| malformed(reader))?;
                escape_text(&mut out, &text);
            }
            Event::GeneralRef(reference) => {
                let c = character(reference).ok_or(XmlError::Declaration)?;
                escape_text(&mut out, c.encode_utf8(&mut [0; 4]));
            }
            Event::Comment(_) => {}
            Event::DocType(_) => return Err(XmlError::Declaration),
            Event::PI(_) | Event::Decl(_) | Event::Eof => return Err(malformed(reader)),
        }
        if open.is_empty() {
            return Ok(out);
        }
        event = next(reader)?;
    }
}

/// What a reference stands for: one of the five entities of XML, or a character by its number.
fn character(reference: &quick_xml::events::BytesRef<'_>) -> Option<char> {
    match &**reference {
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"amp" => Some('&'),
        b"quot" => Some('"'),
        b"apos" => Some('\''),
        _ => reference.resolve_char_ref().ok()?.filter(|c| is_char(*c)),
    }
}

/// Names of XHTML, which are of ASCII.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// The attributes of an element, but for declarations of namespaces: those without a prefix, and of those
/// with one `xml:lang` and its like.
fn attributes(
    reader: &Source<'_>,
    start: &BytesStart<'_>,
) -> Result<Vec<(String, String)>, XmlError> {
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|_| malformed(reader))?;
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let mut name = local(attribute.key);
        if attribute.key.prefix().is_some() {
            match reader.resolver().resolve_attribute(attribute.key).0 {
                ResolveResult::Bound(of) if of == Namespace(XML.as_bytes()) => {
                    name.insert_str(0, "xml:");
                }
                ResolveResult::Bound(of) if of == Namespace(SCHEMA.as_bytes()) => continue,
                _ => return Err(XmlError::Foreign(name)),
            }
        }
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|_| XmlError::Declaration)?;
        if attribute.value.contains(&b'<') || !value.chars().all(is_char) {
            return Err(malformed(reader));
        }
        attributes.push((name, value.into_owned()));
    }
    Ok(attributes)
}

fn resource(node: &Node) -> Result<Value, XmlError> {
    if node.xhtml.is_some() {
        return Err(XmlError::Foreign(node.name.clone()));
    }
    let Some(elements) = resource_elements(&node.name) else {
        return Err(XmlError::Type(node.name.clone()));
    };
    node.has_only(&node.name, &[])?;
    let mut out = object(node, &node.name, elements)?;
    out.insert("resourceType".to_owned(), node.name.clone().into());
    Ok(Value::Object(out))
}

/// The elements inside a node of a known type.
fn object(node: &Node, within: &str, elements: &[Element]) -> Result<Map<String, Value>, XmlError> {
    let mut out = Map::new();
    for child in &node.children {
        let Some(element) = elements.iter().find(|element| element.name == child.name) else {
            return Err(XmlError::Unknown {
                within: within.to_owned(),
                name: child.name.clone(),
            });
        };
        if child.xhtml.is_some() != (element.kind == Kind::Xhtml) {
            return Err(XmlError::Foreign(child.name.clone()));
        }
        let (value, beside) = value(child, within, element)?;
        let key = element.name.to_owned();
        if element.many {
            push(&mut out, &key, value, beside)?;
            continue;
        }
        let twice = out.contains_key(&key) || out.contains_key(&format!("_{key}"));
        if twice {
            return Err(XmlError::Twice {
                within: within.to_owned(),
                name: key,
            });
        }
        if let Some(beside) = beside {
            out.insert(format!("_{key}"), beside);
        }
        if !value.is_null() {
            out.insert(key, value);
        }
    }
    Ok(out)
}

/// Adds to a repeating element; the array of what stands beside its values is as long as theirs.
fn push(
    out: &mut Map<String, Value>,
    key: &str,
    value: Value,
    beside: Option<Value>,
) -> Result<(), XmlError> {
    let list = out.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    let Value::Array(values) = list else {
        return Ok(());
    };
    values.push(value);
    let length = values.len();
    let name = format!("_{key}");
    if beside.is_some() || out.contains_key(&name) {
        let list = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(besides) = list {
            besides.resize(length - 1, Value::Null);
            besides.push(beside.unwrap_or(Value::Null));
        }
    }
    Ok(())
}

/// A value and, of a primitive one, what stands beside it.
fn value(node: &Node, within: &str, element: &Element) -> Result<(Value, Option<Value>), XmlError> {
    let place = || format!("{within}.{}", element.name);
    match element.kind {
        Kind::Xhtml => Ok((node.xhtml.clone().unwrap_or_default().into(), None)),
        Kind::Resource => {
            node.has_only(&place(), &[])?;
            match node.children.as_slice() {
                [inner] => Ok((resource(inner)?, None)),
                _ => Err(XmlError::Twice {
                    within: within.to_owned(),
                    name: node.name.clone(),
                }),
            }
        }
        Kind::Complex(kind) => {
            let Some(elements) = elements_of(kind) else {
                return Err(XmlError::Type(kind.to_owned()));
            };
            // Of types with attributes `Extension` alone has a second one.
            let known: &[&str] = match kind {
                "Extension" => &["id", "url"],
                _ => &["id"],
            };
            node.has_only(&place(), known)?;
            let mut out = object(node, kind, elements)?;
            for name in known {
                if let Some(value) = node.attribute(name) {
                    out.insert((*name).to_owned(), value.into());
                }
            }
            Ok((Value::Object(out), None))
        }
        Kind::Text | Kind::Boolean | Kind::Number => {
            node.has_only(&place(), &["id", "value"])?;
            let value = match node.attribute("value") {
                None => Value::Null,
                Some(text) => primitive(element, text)?,
            };
            let mut beside = Map::new();
            if let Some(id) = node.attribute("id") {
                beside.insert("id".to_owned(), id.into());
            }
            let mut extensions = Vec::new();
            for child in &node.children {
                if child.xhtml.is_some() {
                    return Err(XmlError::Foreign(child.name.clone()));
                }
                if child.name != "extension" {
                    return Err(XmlError::Unknown {
                        within: place(),
                        name: child.name.clone(),
                    });
                }
                extensions.push(self::value(child, within, &EXTENSION)?.0);
            }
            if !extensions.is_empty() {
                beside.insert("extension".to_owned(), extensions.into());
            }
            Ok((value, (!beside.is_empty()).then_some(Value::Object(beside))))
        }
    }
}

fn primitive(element: &Element, text: &str) -> Result<Value, XmlError> {
    let wrong = || XmlError::Value(element.name.to_owned());
    match element.kind {
        Kind::Boolean => match text {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err(wrong()),
        },
        Kind::Number => match serde_json::from_str(text.trim()) {
            Ok(number @ Value::Number(_)) => Ok(number),
            _ => Err(wrong()),
        },
        _ => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resource_is_written_in_order_and_read_back() {
        let resource = json!({
            "resourceType": "Bundle", "id": "b", "type": "searchset", "total": 1,
            "entry": [{"fullUrl": "http://h/fhir/DocumentReference/1", "resource": {
                "resourceType": "DocumentReference", "id": "1", "status": "current",
                "_status": {"id": "s", "extension": [{"url": "urn:x", "valueBoolean": true}]},
                "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">a &amp; b</div>"},
                "contained": [{"resourceType": "Patient", "id": "p", "active": true}],
                "category": [{"coding": [{"system": "urn:s", "code": "c<&\">"}]}],
                "content": [{"attachment": {"contentType": "text/plain", "size": 3, "url": "http://h/x?a=1&b=2"}}],
            }}],
        });
        let xml = to_xml(&resource);
        assert!(xml.starts_with(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Bundle xmlns=\"http://hl7.org/fhir\"><id value=\"b\"/>\
             <type value=\"searchset\"/><total value=\"1\"/><entry><fullUrl"
        ));
        assert_eq!(from_xml(&xml).unwrap(), resource);
    }

    #[test]
    fn what_stands_beside_repeated_values_keeps_its_place() {
        let resource = json!({
            "resourceType": "Patient", "name": [{"given": ["a", null, "c"],
            "_given": [null, {"id": "two"}, null]}],
        });
        let xml = to_xml(&resource);
        let back = from_xml(&xml).unwrap();
        assert_eq!(back["name"][0]["given"], json!(["a", null, "c"]));
        assert_eq!(
            back["name"][0]["_given"],
            json!([null, {"id": "two"}, null])
        );
    }

    /// With the namespace declared on the root.
    fn read(text: &str) -> Result<Value, XmlError> {
        let end = text.find(['>', ' ', '/']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        from_xml(&format!("{name} xmlns=\"{NAMESPACE}\"{rest}"))
    }

    #[test]
    fn what_is_no_resource_is_refused_with_its_reason() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"c\">]><Patient xmlns=\"http://hl7.org/fhir\"/>";
        assert_eq!(from_xml(bomb), Err(XmlError::Declaration));
        let entity = "<Patient><id value=\"&b;\"/></Patient>";
        assert_eq!(read(entity), Err(XmlError::Declaration));
        assert_eq!(read("<Patient>&b;</Patient>"), Err(XmlError::Declaration));
        let deep = "<Bundle>".repeat(1_000_000);
        assert_eq!(read(&deep), Err(XmlError::TooMuch));
        let many = format!("<Patient>{}</Patient>", "<identifier/>".repeat(70_000));
        assert_eq!(read(&many), Err(XmlError::TooMuch));
        assert_eq!(
            read("<Observation/>"),
            Err(XmlError::Type("Observation".into()))
        );
        assert_eq!(
            read("<HumanName/>"),
            Err(XmlError::Type("HumanName".into()))
        );
        let unknown = read("<Patient><colour value=\"red\"/></Patient>").unwrap_err();
        assert!(
            unknown
                .to_string()
                .starts_with("Patient has no element colour")
        );
        let twice = read("<Patient><gender value=\"male\"/><gender value=\"male\"/></Patient>");
        assert!(matches!(twice, Err(XmlError::Twice { .. })));
        assert!(matches!(
            read("<Patient><active value=\"yes\"/></Patient>"),
            Err(XmlError::Value(_))
        ));
        for broken in [
            "",
            "<Patient>",
            "<Patient></Bundle>",
            "Patient",
            "<Patient a=1/>",
            "<Patient/><Patient/>",
            "<Patient/>text",
            "<Patient/>&lt;",
            "<Patient/><?pi?>",
            "<Patient><?xml version=\"1.0\"?></Patient>",
            "<Patient><id value=\"<\"/></Patient>",
            "<Patient><id value=\"&#1;\"/></Patient>",
            "<Patient><!-- -- --></Patient>",
            "\u{0}",
        ] {
            let refused = read(broken);
            assert!(
                matches!(refused, Err(XmlError::Malformed(_))),
                "{broken}: {refused:?}"
            );
        }
        for text in [
            "<Patient>text</Patient>",
            "<Patient><![CDATA[text]]></Patient>",
            "<Patient>&lt;</Patient>",
            "<Patient><id>7</id></Patient>",
        ] {
            assert!(matches!(read(text), Err(XmlError::Text(_))), "{text}");
        }
        for lost in [
            "<Patient><id valeu=\"7\"/></Patient>",
            "<Patient id=\"7\"/>",
            "<Patient><identifier url=\"7\"/></Patient>",
        ] {
            assert!(
                matches!(read(lost), Err(XmlError::Unknown { .. })),
                "{lost}"
            );
        }
        let whole = "<?xml version=\"1.0\"?><!-- a --><?pi?>\n<Patient xmlns=\"http://hl7.org/fhir\" \
            xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
            xsi:schemaLocation=\"http://hl7.org/fhir ../fhir.xsd\">\n<!-- b --></Patient>\n<!-- c -->\n";
        assert_eq!(from_xml(whole), Ok(json!({ "resourceType": "Patient" })));
    }

    #[test]
    fn elements_are_read_by_their_namespace() {
        let prefixed = "<f:Patient xmlns:f=\"http://hl7.org/fhir\" xmlns:h=\"http://www.w3.org/1999/xhtml\">\
            <f:text><f:status value=\"generated\"/><h:div xml:lang=\"de\"><h:br/>a<!-- b --></h:div></f:text>\
            <f:active value=\"true\"/></f:Patient>";
        let read = from_xml(prefixed).unwrap();
        let div = "<div xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"de\"><br/>a</div>";
        let patient = json!({
            "resourceType": "Patient", "active": true,
            "text": { "status": "generated", "div": div },
        });
        assert_eq!(read, patient);
        assert_eq!(from_xml(&to_xml(&patient)).unwrap(), patient);
        for foreign in [
            "<Patient/>",
            "<Patient xmlns=\"urn:other\"/>",
            "<f:Patient/>",
            "<div xmlns=\"http://www.w3.org/1999/xhtml\"/>",
            "<Patient xmlns=\"http://hl7.org/fhir\"><active xmlns=\"urn:x\" value=\"true\"/></Patient>",
            "<Patient xmlns=\"http://hl7.org/fhir\"><active xmlns=\"\" value=\"true\"/></Patient>",
            "<Patient xmlns=\"http://hl7.org/fhir\"><active xmlns=\"http://www.w3.org/1999/xhtml\"/></Patient>",
            "<Patient xmlns=\"http://hl7.org/fhir\"><text><div/></text></Patient>",
            "<Patient xmlns=\"http://hl7.org/fhir\" xmlns:f=\"http://hl7.org/fhir\"><active f:value=\"true\"/></Patient>",
            "<Patient xmlns=\"http://hl7.org/fhir\"><text><div xmlns=\"http://www.w3.org/1999/xhtml\">\
             <p xmlns=\"http://hl7.org/fhir\"/></div></text></Patient>",
        ] {
            let refused = from_xml(foreign);
            assert!(
                matches!(refused, Err(XmlError::Foreign(_))),
                "{foreign}: {refused:?}"
            );
        }
        let root = |text: &str| root_of(text.as_bytes());
        assert_eq!(
            root("<?xml version=\"1.0\"?><!-- --><Binary xmlns=\"http://hl7.org/fhir\">\0")
                .as_deref(),
            Some("Binary")
        );
        assert_eq!(
            root("<f:Binary xmlns:f=\"http://hl7.org/fhir\"/>").as_deref(),
            Some("Binary")
        );
        assert_eq!(root("<Binary/>"), None);
        assert_eq!(root("Binary"), None);
        let far = format!(
            "<!--{}--><Binary xmlns=\"http://hl7.org/fhir\"/>",
            " ".repeat(70_000)
        );
        assert_eq!(root(&far), None);
    }

    #[test]
    fn a_narrative_brings_nothing_but_itself_into_xml() {
        const X: &str = "xmlns=\"http://www.w3.org/1999/xhtml\"";
        let with = |div: &str| {
            to_xml(&json!({
                "resourceType": "Patient", "active": true,
                "text": { "status": "generated", "div": div },
            }))
        };
        let none = to_xml(&json!({ "resourceType": "Patient", "active": true }));
        for div in [
            String::new(),
            "text".to_owned(),
            "<div>no namespace</div>".to_owned(),
            format!("<p {X}>another element</p>"),
            format!("<div {X}/></text><id value=\"injected\"/><text>"),
            format!("<div {X}></div></text><id value=\"injected\"/><text><div {X}></div>"),
            format!("<div {X}/><div {X}/>"),
            format!("<div {X}/>text"),
            format!("<div {X}/><!-- -->"),
            format!("<div {X}>&nbsp;</div>"),
            format!("<div {X}>&#0;</div>"),
            format!("<div {X}>&#xfffe;</div>"),
            format!("<div {X}>a & b</div>"),
            format!("<div {X}><?php ?></div>"),
            format!("<!DOCTYPE div><div {X}/>"),
            format!("<?xml version=\"1.0\"?><div {X}/>"),
            format!("<div {X}><b></div>"),
            format!("<div {X}><b></i></div>"),
            format!("<div {X}"),
            format!("<div {X}><p xmlns=\"http://hl7.org/fhir\"/></div>"),
            format!("<div {X} xmlns:h=\"http://www.w3.org/1999/xhtml\"><h:p/></div>"),
            "<h:div xmlns:h=\"http://www.w3.org/1999/xhtml\"/>".to_owned(),
            format!("<div {X} a:b=\"c\"/>"),
            format!("<div {X} a=b/>"),
            format!("<div {X} a=\"1\" a=\"2\"/>"),
            format!("<div {X} a=\"<\"/>"),
            format!("<div {X}><\u{e4}/></div>"),
            format!("<div {X}>{}</div>", "<b>".repeat(100)),
        ] {
            assert_eq!(with(&div), none, "{div}");
        }
        let div =
            format!(" <div {X} class='a\"b'>1 ]]> 2<br/>&#65;&gt;<![CDATA[<i>]]>\u{1}</div> ");
        let clean =
            format!("<div {X} class=\"a&quot;b\">1 ]]&gt; 2<br/>A&gt;&lt;i&gt;\u{fffd}</div>");
        assert!(with(&div).contains(&clean), "{}", with(&div));
    }

    #[test]
    fn what_cannot_be_written_is_left_out_or_replaced() {
        let resource = json!({
            "resourceType": "DocumentReference", "status": "current",
            "contained": [
                { "resourceType": "Observation", "id": "o" },
                { "resourceType": "HumanName", "id": "h" },
                { "resourceType": "Patient", "id": "p" },
                { "id": "nothing" },
            ],
            "description": "a\u{0}\u{fffe}\u{ffff}\u{1f}\u{85}\u{10ffff}",
        });
        let xml = to_xml(&resource);
        assert_eq!(xml.matches("<contained>").count(), 1, "{xml}");
        assert!(xml.contains("<contained><Patient><id value=\"p\"/></Patient></contained>"));
        let back = from_xml(&xml).unwrap();
        assert_eq!(
            back["description"],
            "a\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{85}\u{10ffff}"
        );
    }
}
