//! A scanner of JSON (RFC 8259) that tells where values begin and end. It reads a stream once, in
//! constant memory, and never recurses.
//!
//! It accepts everything that RFC 8259 allows down to 128 levels, and besides what slightly invalid
//! senders write: raw control characters and bytes that are not UTF-8 inside strings, lone
//! surrogates, and numbers in any arrangement of the characters of a number. None of these moves
//! the border of a value.

use std::io::{self, Read};

use crate::limits::{BUFFER_BYTES, JSON_DEPTH_MAX, JSON_TEXT_BYTES_MAX};
use crate::oddity::JsonFault;

/// One step of the scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// `{`
    ObjectBegin,
    /// `}`
    ObjectEnd,
    /// `[`
    ArrayBegin,
    /// `]`
    ArrayEnd,
    /// A member's name and the colon behind it; the name is [`Scanner::text`].
    Name,
    /// A string; its content is [`Scanner::text`].
    Text,
    /// A number, `true`, `false` or `null`.
    Scalar,
}

/// What a scanner reads into: 16 KiB, or nothing before the first scanner and while one has it.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Box<[u8]>);

/// Why the scan stopped.
#[derive(Debug)]
pub(crate) enum ScanError {
    Io(io::Error),
    Fault { at: u64, fault: JsonFault },
}

pub(crate) struct Scanner<R> {
    source: R,
    /// 16 KiB, of which `head..filled` were not scanned yet.
    buffer: Box<[u8]>,
    head: usize,
    filled: usize,
    /// The offset of `buffer[head]` in the stream.
    at: u64,
    /// The offset at which the current event begins.
    begin: u64,
    open: Vec<Container>,
    expect: Expect,
    text: Vec<u8>,
    text_whole: bool,
    utf8: Utf8Watch,
}

impl<R: Read> Scanner<R> {
    /// Scans from here on, counting offsets from `at`.
    pub(crate) fn new(source: R, at: u64) -> Self {
        Self::with_buffer(source, at, Buffer::default())
    }

    /// The same with the buffer of a scanner before, so that many short texts need only one.
    pub(crate) fn with_buffer(source: R, at: u64, buffer: Buffer) -> Self {
        let buffer = if buffer.0.is_empty() {
            vec![0; BUFFER_BYTES].into_boxed_slice()
        } else {
            buffer.0
        };
        Self {
            source,
            buffer,
            head: 0,
            filled: 0,
            at,
            begin: at,
            open: Vec::new(),
            expect: Expect::Value,
            text: Vec::new(),
            text_whole: true,
            utf8: Utf8Watch {
                fed: at,
                ..Utf8Watch::default()
            },
        }
    }

    /// The buffer, for another scanner.
    pub(crate) fn into_buffer(self) -> Buffer {
        Buffer(self.buffer)
    }

    /// The next event; `None` after the one value when nothing but white space follows.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, ScanError> {
        loop {
            let Some(byte) = self.skip_white_space()? else {
                if matches!(self.expect, Expect::End) {
                    return Ok(None);
                }
                return Err(self.fault(JsonFault::EndsEarly));
            };
            self.begin = self.at;
            match (self.expect, byte) {
                (Expect::End, _) => return Err(self.fault(JsonFault::Trailing)),
                (Expect::FirstItem, b']') | (Expect::Separator, b']') => {
                    return self.close(Container::Array, Event::ArrayEnd).map(Some);
                }
                (Expect::FirstName, b'}') | (Expect::Separator, b'}') => {
                    return self.close(Container::Object, Event::ObjectEnd).map(Some);
                }
                (Expect::Separator, b',') => {
                    self.take();
                    self.expect = match self.open.last() {
                        Some(Container::Object) => Expect::Name,
                        _ => Expect::Value,
                    };
                }
                (Expect::Value | Expect::FirstItem, _) => return self.value(byte).map(Some),
                (Expect::Name | Expect::FirstName, b'"') => {
                    self.string()?;
                    if self.skip_white_space()? != Some(b':') {
                        return Err(self.unexpected());
                    }
                    self.take();
                    self.expect = Expect::Value;
                    return Ok(Some(Event::Name));
                }
                _ => return Err(self.fault(JsonFault::Unexpected)),
            }
        }
    }

    /// The offset at which the last event began.
    pub(crate) fn begin(&self) -> u64 {
        self.begin
    }

    /// The offset behind what was scanned: the last event's end.
    pub(crate) fn end(&self) -> u64 {
        self.at
    }

    /// How many objects and arrays are open after the last event.
    pub(crate) fn depth(&self) -> usize {
        self.open.len()
    }

    /// The content of the last name or string without its escapes; `None` if it is longer than 512
    /// bytes, not UTF-8, or has a lone surrogate.
    pub(crate) fn text(&self) -> Option<&str> {
        if !self.text_whole {
            return None;
        }
        std::str::from_utf8(&self.text).ok()
    }

    /// Where the first byte that is not UTF-8 stands, among those read so far.
    pub(crate) fn not_utf8(&self) -> Option<u64> {
        self.utf8.bad
    }

    fn value(&mut self, first: u8) -> Result<Event, ScanError> {
        self.expect = self.after_value();
        match first {
            b'{' => self.open(Container::Object, Expect::FirstName, Event::ObjectBegin),
            b'[' => self.open(Container::Array, Expect::FirstItem, Event::ArrayBegin),
            b'"' => self.string().map(|()| Event::Text),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'-' | b'0'..=b'9' => {
                while let Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') = self.peek()? {
                    self.take();
                }
                Ok(Event::Scalar)
            }
            _ => Err(self.fault(JsonFault::Unexpected)),
        }
    }

    fn open(&mut self, what: Container, next: Expect, event: Event) -> Result<Event, ScanError> {
        if self.open.len() >= JSON_DEPTH_MAX {
            return Err(self.fault(JsonFault::TooDeep));
        }
        self.take();
        self.open.push(what);
        self.expect = next;
        Ok(event)
    }

    fn close(&mut self, what: Container, event: Event) -> Result<Event, ScanError> {
        if self.open.last() != Some(&what) {
            return Err(self.fault(JsonFault::Unexpected));
        }
        self.take();
        self.open.pop();
        self.expect = self.after_value();
        Ok(event)
    }

    fn after_value(&self) -> Expect {
        if self.open.is_empty() {
            Expect::End
        } else {
            Expect::Separator
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<Event, ScanError> {
        for &byte in word {
            if self.peek()? != Some(byte) {
                return Err(self.unexpected());
            }
            self.take();
        }
        Ok(Event::Scalar)
    }

    /// A string from its opening to its closing quote.
    fn string(&mut self) -> Result<(), ScanError> {
        self.take();
        self.text.clear();
        self.text_whole = true;
        loop {
            if self.peek()?.is_none() {
                return Err(self.fault(JsonFault::EndsEarly));
            }
            let fresh = &self.buffer[self.head..self.filled];
            let plain = fresh
                .iter()
                .position(|b| matches!(b, b'"' | b'\\'))
                .unwrap_or(fresh.len());
            let room = JSON_TEXT_BYTES_MAX - self.text.len();
            self.text.extend_from_slice(&fresh[..plain.min(room)]);
            self.text_whole &= plain <= room;
            self.head += plain;
            self.at += plain as u64;
            match self.peek()? {
                Some(b'"') => {
                    self.take();
                    return Ok(());
                }
                Some(b'\\') => {
                    self.take();
                    self.escape()?;
                }
                _ => {}
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<(), ScanError> {
        let Some(byte) = self.peek()? else {
            return Err(self.fault(JsonFault::EndsEarly));
        };
        let c = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.take();
                return self.escaped_units();
            }
            _ => return Err(self.fault(JsonFault::Unexpected)),
        };
        self.take();
        self.keep(c);
        Ok(())
    }

    /// One or more `\uXXXX`, of which the first `\u` was taken: surrogates may need two.
    fn escaped_units(&mut self) -> Result<(), ScanError> {
        let first = self.four_digits()?;
        if let Some(c) = char::from_u32(u32::from(first)) {
            self.keep(c);
            return Ok(());
        }
        // A high surrogate wants `\u` and a low one. Anything else leaves the text without meaning,
        // but the string's end is where it is.
        if first >= 0xdc00 || self.peek()? != Some(b'\\') {
            self.text_whole = false;
            return Ok(());
        }
        self.take();
        if self.peek()? != Some(b'u') {
            self.text_whole = false;
            return self.escape();
        }
        self.take();
        let second = self.four_digits()?;
        match char::decode_utf16([first, second]).next() {
            Some(Ok(c)) => self.keep(c),
            _ => self.text_whole = false,
        }
        Ok(())
    }

    fn four_digits(&mut self) -> Result<u16, ScanError> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek()?.and_then(|b| char::from(b).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.unexpected());
            };
            self.take();
            unit = unit << 4 | u16::try_from(digit).expect("a hexadecimal digit is below 16");
        }
        Ok(unit)
    }

    fn keep(&mut self, c: char) {
        let mut utf8 = [0; 4];
        let bytes = c.encode_utf8(&mut utf8).as_bytes();
        if self.text.len() + bytes.len() > JSON_TEXT_BYTES_MAX {
            self.text_whole = false;
        } else {
            self.text.extend_from_slice(bytes);
        }
    }

    fn skip_white_space(&mut self) -> Result<Option<u8>, ScanError> {
        loop {
            match self.peek()? {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.take(),
                other => return Ok(other),
            }
        }
    }

    /// The next byte; `None` at the stream's end.
    fn peek(&mut self) -> Result<Option<u8>, ScanError> {
        if self.head == self.filled {
            self.head = 0;
            self.filled = loop {
                match self.source.read(&mut self.buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(ScanError::Io(error)),
                    Ok(count) => break count,
                }
            };
            self.utf8.feed(&self.buffer[..self.filled]);
            if self.filled == 0 {
                return Ok(None);
            }
        }
        Ok(Some(self.buffer[self.head]))
    }

    /// Moves past the byte that [`Self::peek`] gave.
    fn take(&mut self) {
        self.head += 1;
        self.at += 1;
    }

    /// The byte here is wrong, or there is none.
    fn unexpected(&mut self) -> ScanError {
        match self.peek() {
            Ok(Some(_)) => self.fault(JsonFault::Unexpected),
            Ok(None) => self.fault(JsonFault::EndsEarly),
            Err(error) => error,
        }
    }

    fn fault(&self, fault: JsonFault) -> ScanError {
        ScanError::Fault { at: self.at, fault }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// A value: at the begin, behind a colon, or behind a comma in an array.
    Value,
    /// A value or the end of an array just opened.
    FirstItem,
    /// A member's name behind a comma.
    Name,
    /// A member's name or the end of an object just opened.
    FirstName,
    /// A comma or the end of what is open.
    Separator,
    /// Nothing.
    End,
}

/// Watches a stream for the first byte that is not UTF-8. A character may lie across two reads, so
/// up to three bytes are carried over.
#[derive(Debug, Default)]
struct Utf8Watch {
    carried: Vec<u8>,
    /// The offset behind what was fed.
    fed: u64,
    bad: Option<u64>,
}

impl Utf8Watch {
    /// Feeds the next bytes; none at the stream's end.
    fn feed(&mut self, bytes: &[u8]) {
        if self.bad.is_some() {
            return;
        }
        let begin = self.fed - self.carried.len() as u64;
        self.fed += bytes.len() as u64;
        let at_end = bytes.is_empty();
        // Only the few carried bytes and as many as complete them are joined.
        let joined_len = if self.carried.is_empty() {
            0
        } else {
            bytes.len().min(4)
        };
        let mut joined = std::mem::take(&mut self.carried);
        joined.extend_from_slice(&bytes[..joined_len]);
        let mut checked = begin;
        let mut rest = bytes;
        if !joined.is_empty() {
            match std::str::from_utf8(&joined) {
                Ok(_) => {
                    checked += joined.len() as u64;
                    rest = &bytes[joined_len..];
                }
                Err(error) if error.error_len().is_none() && !at_end => {
                    // The joined bytes end inside a character. What is whole was checked; what
                    // follows starts at that character.
                    let valid = error.valid_up_to();
                    let carried_len = joined.len() - joined_len;
                    checked += valid as u64;
                    if valid >= carried_len {
                        rest = &bytes[valid - carried_len..];
                    } else {
                        self.carried = joined;
                        return;
                    }
                }
                Err(error) => {
                    self.bad = Some(begin + error.valid_up_to() as u64);
                    return;
                }
            }
        }
        if let Err(error) = std::str::from_utf8(rest) {
            if error.error_len().is_none() {
                self.carried = rest[error.valid_up_to()..].to_vec();
            } else {
                self.bad = Some(checked + error.valid_up_to() as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads at most `step` bytes at a time, so that everything lies across reads.
    struct Slow<'a> {
        rest: &'a [u8],
        step: usize,
    }

    impl Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.rest.len().min(self.step).min(out.len());
            out[..count].copy_from_slice(&self.rest[..count]);
            self.rest = &self.rest[count..];
            Ok(count)
        }
    }

    /// An event with its begin and end.
    type Step = (Event, u64, u64);

    fn scan(bytes: &[u8], step: usize) -> Result<Vec<Step>, (u64, JsonFault)> {
        let mut scanner = Scanner::new(Slow { rest: bytes, step }, 0);
        let mut events = Vec::new();
        loop {
            match scanner.next() {
                Ok(Some(event)) => events.push((event, scanner.begin(), scanner.end())),
                Ok(None) => return Ok(events),
                Err(ScanError::Fault { at, fault }) => return Err((at, fault)),
                Err(ScanError::Io(error)) => panic!("memory cannot fail: {error}"),
            }
        }
    }

    fn text_of(bytes: &[u8]) -> Option<String> {
        let mut scanner = Scanner::new(bytes, 0);
        assert_eq!(scanner.next().unwrap(), Some(Event::Text));
        scanner.text().map(str::to_owned)
    }

    #[test]
    fn events_have_their_borders() {
        let events = scan(br#" {"a" : [1, "x"]} "#, 1).unwrap();
        assert_eq!(
            events,
            [
                (Event::ObjectBegin, 1, 2),
                (Event::Name, 2, 7),
                (Event::ArrayBegin, 8, 9),
                (Event::Scalar, 9, 10),
                (Event::Text, 12, 15),
                (Event::ArrayEnd, 15, 16),
                (Event::ObjectEnd, 16, 17),
            ]
        );
    }

    #[test]
    fn faults_say_where() {
        for (text, at, fault) in [
            ("", 0, JsonFault::EndsEarly),
            ("{", 1, JsonFault::EndsEarly),
            ("{]", 1, JsonFault::Unexpected),
            ("[1}", 2, JsonFault::Unexpected),
            ("[1 2]", 3, JsonFault::Unexpected),
            ("[1,]", 3, JsonFault::Unexpected),
            ("{\"a\":1,}", 7, JsonFault::Unexpected),
            ("{\"a\" 1}", 5, JsonFault::Unexpected),
            ("{1:1}", 1, JsonFault::Unexpected),
            ("tru", 3, JsonFault::EndsEarly),
            ("trux", 3, JsonFault::Unexpected),
            ("\"a", 2, JsonFault::EndsEarly),
            ("\"\\x\"", 2, JsonFault::Unexpected),
            ("\"\\u12g4\"", 5, JsonFault::Unexpected),
            ("1 2", 2, JsonFault::Trailing),
            ("{}{}", 2, JsonFault::Trailing),
        ] {
            assert_eq!(scan(text.as_bytes(), 1), Err((at, fault)), "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded_and_needs_no_stack() {
        let deep = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
        assert_eq!(scan(&deep(128), 16).unwrap().len(), 256);
        assert_eq!(scan(&deep(129), 16), Err((128, JsonFault::TooDeep)));
        assert_eq!(
            scan(&vec![b'['; 4 << 20], 1 << 20),
            Err((128, JsonFault::TooDeep))
        );
    }

    #[test]
    fn texts_lose_their_escapes() {
        assert_eq!(
            text_of(br#""a\n\u0041\ud83d\ude00\/""#).unwrap(),
            "a\nA\u{1f600}/"
        );
        for lone in [
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83dx""#,
            r#""\ud83d\n""#,
            r#""\ud83d\u0041""#,
        ] {
            assert_eq!(text_of(lone.as_bytes()), None, "{lone}");
        }
        assert_eq!(text_of(b"\"\xff\""), None);
        assert_eq!(
            text_of(format!("\"{}\"", "x".repeat(512)).as_bytes())
                .unwrap()
                .len(),
            512
        );
        assert_eq!(text_of(format!("\"{}\"", "x".repeat(513)).as_bytes()), None);
        assert_eq!(
            text_of(format!("\"{}\\n\"", "x".repeat(512)).as_bytes()),
            None
        );
    }

    #[test]
    fn what_is_not_utf8_is_found_across_reads() {
        let cases: [(&[u8], Option<u64>); 7] = [
            ("\"\u{e1}\u{1f600}\u{4e2d}\"".as_bytes(), None),
            (b"\"ab\xffcd\"", Some(3)),
            (b"\"\xc3\"", Some(1)),
            (b"\"\xf0\x9f\x98\"", Some(1)),
            (b"\"\xe4\xb8\xad\xc3(\"", Some(4)),
            (b"\"a\xed\xa0\x80\"", Some(2)),
            (b"\"\xc3\xa1\xc3\xa1\xc3\xa1x\xc3x\"", Some(8)),
        ];
        for (bytes, bad) in cases {
            for step in 1..=bytes.len() {
                let mut scanner = Scanner::new(Slow { rest: bytes, step }, 0);
                while scanner.next().unwrap().is_some() {}
                assert_eq!(scanner.not_utf8(), bad, "{bytes:?} by {step}");
            }
        }
    }

    /// JSON texts that are valid, with every kind of value.
    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|b| b.to_string()),
            any::<f32>().prop_map(|n| if n.is_finite() {
                n.to_string()
            } else {
                "0".to_owned()
            }),
            "[0-9]{1}|[1-9][0-9]{0,80}",
            "\\PC{0,12}".prop_map(|s| serde_json::to_string(&s).unwrap()),
            Just(r#""\ud83d\ude00\\\"""#.to_owned()),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            let white = "[ \n\t\r]{0,2}";
            prop_oneof![
                (proptest::collection::vec(inner.clone(), 0..6), white)
                    .prop_map(|(items, w)| format!("[{w}{}{w}]", items.join(&format!("{w},{w}")))),
                (
                    proptest::collection::vec(("[a-z\"\\\\]{0,4}", inner), 0..6),
                    white
                )
                    .prop_map(|(members, w)| {
                        let members: Vec<String> = members
                            .iter()
                            .map(|(k, v)| {
                                format!("{}{w}:{w}{v}", serde_json::to_string(k).unwrap())
                            })
                            .collect();
                        format!("{{{w}{}}}", members.join(","))
                    }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_json_accepts_is_accepted(text in json(), step in 1usize..64) {
            prop_assume!(serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok());
            prop_assert!(scan(text.as_bytes(), step).is_ok());
        }

        #[test]
        fn array_items_have_the_borders_that_serde_json_finds(
            items in proptest::collection::vec(json(), 0..5), white in "[ \n]{0,3}",
        ) {
            let text = format!("{white}[{white}{}{white}]", items.join(&format!("{white},{white}")));
            let mut scanner = Scanner::new(text.as_bytes(), 0);
            let mut found = Vec::new();
            let mut begin = 0;
            while let Some(event) = scanner.next().unwrap() {
                let opens = matches!(event, Event::ObjectBegin | Event::ArrayBegin);
                let depth_of_value = scanner.depth() - usize::from(opens);
                if event == Event::Name || depth_of_value != 1 { continue; }
                if !matches!(event, Event::ObjectEnd | Event::ArrayEnd) { begin = scanner.begin(); }
                if !opens {
                    found.push(&text[begin as usize..scanner.end() as usize]);
                }
            }
            let raw: Vec<&serde_json::value::RawValue> = serde_json::from_str(&text).unwrap();
            let expected: Vec<&str> = raw.iter().map(|r| r.get()).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_scan_to_the_same_in_any_steps(
            bytes in proptest::collection::vec(prop_oneof![
                any::<u8>(), Just(b'"'), Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b','),
                Just(b':'), Just(b'\\'), Just(b'u'), Just(b'1'),
            ], 0..60),
            step in 1usize..8,
        ) {
            prop_assert_eq!(scan(&bytes, step), scan(&bytes, usize::MAX));
        }
    }
}
