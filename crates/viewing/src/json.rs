//! JSON (RFC 8259) of which parts may be missing. [`entries`] finds the resources that stand whole
//! between holes; [`parse`] reads one of them into a bounded tree that keeps numbers as they were
//! written, because 1.10 says more than 1.1 in a laboratory.

use crate::limits::{DEPTH_MAX, RESOURCES_MAX, TEXT_BYTES_MAX, VALUES_MAX};

/// The places of a file where resources stand.
#[derive(Debug, Default)]
pub(crate) struct Entries<'a> {
    /// Complete objects, in order.
    pub(crate) spans: Vec<&'a [u8]>,
    /// Objects beyond the bound, and one that the file's end cuts.
    pub(crate) left_out: usize,
}

/// Finds the entries of Bundles, the items of arrays, and objects that stand by themselves, one
/// behind another or between holes of NUL bytes. What a hole cuts is passed over.
pub(crate) fn entries(bytes: &[u8]) -> Entries<'_> {
    let mut found = Entries::default();
    let mut segments = bytes.split(|byte| *byte == 0).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        scan(segment, last, &mut found);
    }
    found
}

/// An object or array that is open, of the outermost three.
#[derive(Debug, Clone, Copy)]
struct Open {
    begin: usize,
    is_object: bool,
    /// Whether the objects in it are entries.
    has_entries: bool,
    is_entry: bool,
}

fn scan<'a>(segment: &'a [u8], last: bool, found: &mut Entries<'a>) {
    let mut outer: Vec<Open> = Vec::with_capacity(OUTER);
    let mut depth = 0_usize;
    let mut member: &[u8] = &[];
    let mut at = 0;
    while let Some(&byte) = segment.get(at) {
        match byte {
            b'"' => {
                let end = text_end(segment, at + 1);
                if depth == 1 {
                    member = segment.get(at + 1..end).unwrap_or_default();
                }
                at = end;
            }
            b',' if depth == 1 => member = &[],
            b'{' | b'[' => {
                if depth < OUTER {
                    let is_object = byte == b'{';
                    let in_entry = depth == 1 && member == b"entry";
                    let parent = depth.checked_sub(1).and_then(|up| outer.get_mut(up));
                    let mut is_entry = depth == 0 && is_object;
                    if let Some(parent) = parent {
                        is_entry = is_object && parent.has_entries;
                        if parent.is_object && in_entry {
                            // What holds entries is itself none.
                            parent.is_entry = false;
                            is_entry = is_object;
                        }
                    }
                    outer.push(Open {
                        begin: at,
                        is_object,
                        has_entries: !is_object && (depth == 0 || in_entry),
                        is_entry,
                    });
                }
                depth += 1;
            }
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                if depth < OUTER
                    && let Some(open) = outer.pop()
                    && open.is_entry
                {
                    let span = segment.get(open.begin..=at).unwrap_or_default();
                    if found.spans.len() < RESOURCES_MAX {
                        found.spans.push(span);
                    } else {
                        found.left_out += 1;
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    if last && outer.iter().any(|open| open.is_entry) {
        found.left_out += 1;
    }
}

/// The offset of the quotation mark that ends a text, or of the end of the bytes.
fn text_end(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Outermost levels that may hold entries: an object, its member's array, an entry in it.
const OUTER: usize = 3;

/// A value of JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
}

static NULL: Value = Value::Null;

impl Value {
    /// A member of an object, or of the first item of a list; null if there is none.
    pub(crate) fn get(&self, name: &str) -> &Self {
        match self {
            Self::Object(members) => {
                let found = members.iter().find(|(known, _)| known == name);
                found.map_or(&NULL, |(_, value)| value)
            }
            Self::List(items) => items.first().map_or(&NULL, |item| item.get(name)),
            _ => &NULL,
        }
    }

    /// The member of a member, and so on.
    pub(crate) fn at(&self, path: &[&str]) -> &Self {
        path.iter().fold(self, |value, name| value.get(name))
    }

    /// The items of a list; a value that stands where a list should is one item.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::Null => &[],
            single => std::slice::from_ref(single),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        *self == Self::Null
    }

    /// A text, or a number or truth value as it was written; of a list the first. Not an empty one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Number(text) if !text.trim().is_empty() => Some(text),
            Self::Bool(true) => Some("true"),
            Self::Bool(false) => Some("false"),
            Self::List(items) => items.first().and_then(|item| match item {
                Self::List(_) => None,
                item => item.text(),
            }),
            _ => None,
        }
    }
}

/// Reads one value; `None` if it is not JSON or beyond the bounds. Texts longer than the bound are
/// cut.
pub(crate) fn parse(bytes: &[u8]) -> Option<Value> {
    let mut parser = Parser {
        bytes,
        at: 0,
        values: 0,
    };
    let value = parser.value(0)?;
    parser.space();
    (parser.at == bytes.len()).then_some(value)
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    values: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes over a byte if it is the next one behind white space.
    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    /// Recursion goes no deeper than [`DEPTH_MAX`].
    fn value(&mut self, depth: usize) -> Option<Value> {
        self.values += 1;
        if depth > DEPTH_MAX || self.values > VALUES_MAX {
            return None;
        }
        self.space();
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.string().map(Value::Text),
            _ => self.scalar(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        self.at += 1;
        let mut members = Vec::new();
        if self.take(b'}') {
            return Some(Value::Object(members));
        }
        loop {
            self.space();
            if self.peek()? != b'"' {
                return None;
            }
            let name = self.string()?;
            if !self.take(b':') {
                return None;
            }
            members.push((name, self.value(depth + 1)?));
            if self.take(b'}') {
                return Some(Value::Object(members));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value> {
        self.at += 1;
        let mut items = Vec::new();
        if self.take(b']') {
            return Some(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.take(b']') {
                return Some(Value::List(items));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn scalar(&mut self) -> Option<Value> {
        let begin = self.at;
        while matches!(
            self.peek(),
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.')
        ) {
            self.at += 1;
        }
        match self.bytes.get(begin..self.at)? {
            b"null" => Some(Value::Null),
            b"true" => Some(Value::Bool(true)),
            b"false" => Some(Value::Bool(false)),
            number if number.len() <= NUMBER_BYTES_MAX => {
                let number = std::str::from_utf8(number).ok()?;
                number.parse::<f64>().ok()?.is_finite().then_some(())?;
                Some(Value::Number(number.to_owned()))
            }
            _ => None,
        }
    }

    /// The string that begins here, without its escapes.
    fn string(&mut self) -> Option<String> {
        self.at += 1;
        let end = text_end(self.bytes, self.at);
        let raw = self.bytes.get(self.at..end)?;
        if end >= self.bytes.len() {
            return None;
        }
        self.at = end + 1;
        let raw = raw.get(..TEXT_BYTES_MAX).unwrap_or(raw);
        if !raw.contains(&b'\\') {
            return Some(String::from_utf8_lossy(raw).into_owned());
        }
        Some(unescape(raw))
    }
}

fn unescape(raw: &[u8]) -> String {
    let mut out = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some(&escape) = raw.get(at) else { break };
        at += 1;
        let plain = match escape {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'u' => {
                let (character, length) = unicode(raw.get(at..).unwrap_or_default());
                at += length;
                out.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            other => other,
        };
        out.push(plain);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The character of the digits behind `\u`, and how many bytes it took.
fn unicode(rest: &[u8]) -> (char, usize) {
    let unit = |at: usize| {
        let digits = std::str::from_utf8(rest.get(at..at + 4)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        u32::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(0) else {
        return (char::REPLACEMENT_CHARACTER, 0);
    };
    if (0xd800..0xdc00).contains(&first)
        && rest.get(4..6) == Some(b"\\u")
        && let Some(second) = unit(6)
        && (0xdc00..0xe000).contains(&second)
    {
        let point = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        let character = char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
        return (character, 10);
    }
    let character = char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER);
    (character, 4)
}

/// Bytes of a number. FHIR decimals have at most 18 digits.
const NUMBER_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<String> {
        let spans = entries(text.as_bytes()).spans;
        spans
            .iter()
            .map(|span| String::from_utf8_lossy(span).into_owned())
            .collect()
    }

    #[test]
    fn entries_are_found_in_bundles_arrays_lines_and_between_holes() {
        assert_eq!(
            found(r#"{"a":[{"x":1}],"entry":[{"b":2},{"c":[{}]}]}"#),
            [r#"{"b":2}"#, r#"{"c":[{}]}"#]
        );
        assert_eq!(
            found("{\"a\":1}\n{\"b\":\"}\"}\n"),
            [r#"{"a":1}"#, r#"{"b":"}"}"#]
        );
        assert_eq!(found(r#"[{"a":1},{"b":2}]"#), [r#"{"a":1}"#, r#"{"b":2}"#]);
        assert_eq!(found(r#"{"entry":{"b":2}}"#), [r#"{"b":2}"#]);
        assert_eq!(
            found(r#"{"contained":[{"b":2}]}"#),
            [r#"{"contained":[{"b":2}]}"#]
        );
        assert_eq!(
            found("{\"entry\":[{\"a\":1},\0\0\0{\"b\":2},\0\0]}"),
            [r#"{"a":1}"#, r#"{"b":2}"#]
        );
        assert_eq!(found("\0\0\0{\"b\":2},{\"c\":\0\0"), [r#"{"b":2}"#]);
    }

    #[test]
    fn what_the_end_cuts_is_counted_and_what_a_hole_cuts_is_not() {
        assert_eq!(entries(br#"{"entry":[{"a":1},{"b":"#).left_out, 1);
        assert_eq!(entries(b"{\"entry\":[{\"a\":1},{\"b\":\0\0\0").left_out, 0);
    }

    #[test]
    fn numbers_stay_as_written_and_texts_lose_their_escapes() {
        let value =
            parse(br#" {"a": [1.10, -2e3, true, null], "b": "\u4f60\ud83d\ude00\"\n\ud800"} "#)
                .unwrap();
        assert_eq!(value.get("a").text(), Some("1.10"));
        assert_eq!(value.get("a").items().len(), 4);
        assert_eq!(value.get("b").text(), Some("\u{4f60}\u{1f600}\"\n\u{fffd}"));
        assert!(value.at(&["b", "c", "d"]).is_null());
    }

    #[test]
    fn deep_and_wide_values_are_refused() {
        let deep = [vec![b'['; 1_000_000], vec![b']'; 1_000_000]].concat();
        assert_eq!(parse(&deep), None);
        assert!(entries(&deep).spans.is_empty());
        let wide = format!("[{}0]", "0,".repeat(VALUES_MAX));
        assert_eq!(parse(wide.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
            for span in entries(&bytes).spans {
                let _ = parse(span);
            }
        }

        #[test]
        fn any_arrangement_of_signs_is_read_without_a_panic(text in r#"[\[\]{}",:0-9a-f\\u \x00]{0,200}"#) {
            let _ = parse(text.as_bytes());
            for span in entries(text.as_bytes()).spans {
                let _ = parse(span);
            }
        }
    }
}
