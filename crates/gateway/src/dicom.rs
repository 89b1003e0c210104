//! The header of a DICOM file in the JSON model (PS3.18, annex F), for those who ask by DICOMweb.
//!
//! The bytes are another hospital's: the walk does not recurse, allocates nothing by a length that the file
//! names, and stops before the pixels or where the file cannot be read on (`docs/decisions/0007`).

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;
use encoding_rs::Encoding;
use serde_json::{Map, Number, Value, json};

/// Elements that are walked through: enhanced multi-frame headers have about 100 for each frame, and up
/// to 500 frames.
const ELEMENTS_MAX: usize = 65_536;
/// Open sequences and items. Real headers stay below 16.
const DEPTH_MAX: usize = 64;
/// Bytes of a value that is shown; real ones of a header are far below.
const VALUE_BYTES_MAX: u32 = 16 << 10;
/// Bytes of all values that are shown: 65,536 elements of 64 bytes.
const SHOWN_BYTES_MAX: usize = 4 << 20;
/// Bytes of a binary value that stands inside the JSON; longer ones are left out.
const INLINE_BYTES_MAX: usize = 1 << 10;

const PREAMBLE_BYTES: u64 = 128;
const UNDEFINED: u32 = u32::MAX;
const ITEM: u32 = 0xfffe_e000;
const ITEM_END: u32 = 0xfffe_e00d;
const SEQUENCE_END: u32 = 0xfffe_e0dd;
const CHARACTER_SET: u32 = 0x0008_0005;
const TRANSFER_SYNTAX: u32 = 0x0002_0010;
/// Float, double float and integer pixels (PS3.3 C.7.6.24, C.7.6.25, C.7.6.3).
const PIXELS: [u32; 3] = [0x7fe0_0008, 0x7fe0_0009, 0x7fe0_0010];
/// Value representations whose length takes four bytes (PS3.5, table 7.1-1).
const LONG: [&[u8; 2]; 13] = [
    b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV",
];

/// What a file's header says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Header {
    /// By tag, eight upper-case hexadecimal digits, without group 0002.
    pub(crate) attributes: Map<String, Value>,
    pub(crate) transfer_syntax: String,
}

impl Header {
    /// The first value of an attribute as text.
    pub(crate) fn text(&self, tag: &str) -> Option<&str> {
        self.attributes.get(tag)?["Value"][0].as_str()
    }

    /// Only these attributes, for an index.
    pub(crate) fn only(&self, tags: &[&str]) -> Map<String, Value> {
        let wanted = tags.iter().filter_map(|tag| {
            let value = self.attributes.get(*tag)?;
            Some(((*tag).to_owned(), value.clone()))
        });
        wanted.collect()
    }
}

/// Reads a file's header; none if it is no DICOM file or cannot be read from the begin.
///
/// # Errors
/// Those of reading.
pub(crate) fn header(path: &Path) -> io::Result<Option<Header>> {
    read(BufReader::new(std::fs::File::open(path)?))
}

fn read<R: Read + Seek>(mut source: R) -> io::Result<Option<Header>> {
    let length = source.seek(SeekFrom::End(0))?;
    let mut at = PREAMBLE_BYTES + 4;
    let mut first = [0; PREAMBLE_BYTES as usize + 4];
    source.seek(SeekFrom::Start(0))?;
    let whole = source.read_exact(&mut first);
    if whole.is_err() || !first.ends_with(b"DICM") {
        // Some writers leave the preamble out.
        if !first.starts_with(&[2, 0]) {
            return Ok(None);
        }
        at = 0;
        source.seek(SeekFrom::Start(0))?;
    }
    let mut walk = Walk {
        source,
        at,
        length,
        form: EXPLICIT_LITTLE,
        in_meta: true,
        transfer_syntax: String::new(),
        encoding: encoding_rs::WINDOWS_1252,
        shown: 0,
        open: vec![Open::outermost()],
    };
    match walk.whole() {
        // What was read before an unreadable place is shown.
        Ok(()) | Err(Stop::Unreadable) => {}
        Err(Stop::Io(error)) => return Err(error),
    }
    let attributes = walk.close_all();
    if attributes.is_empty() {
        return Ok(None);
    }
    Ok(Some(Header {
        attributes,
        transfer_syntax: walk.transfer_syntax,
    }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Form {
    explicit: bool,
    big: bool,
}

const EXPLICIT_LITTLE: Form = Form {
    explicit: true,
    big: false,
};
const IMPLICIT_LITTLE: Form = Form {
    explicit: false,
    big: false,
};
const EXPLICIT_BIG: Form = Form {
    explicit: true,
    big: true,
};

enum Stop {
    Io(io::Error),
    Unreadable,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Unreadable,
            _ => Self::Io(error),
        }
    }
}

/// A data set, or a sequence with its items, that is open.
struct Open {
    /// The attribute of a sequence; none of a data set.
    sequence: Option<String>,
    attributes: Map<String, Value>,
    items: Vec<Value>,
    /// Where it ends; none if a delimiter says so.
    end: Option<u64>,
    /// How elements are written behind it.
    outside: Form,
    /// Fragments of pixels: nothing in them is an element.
    is_fragments: bool,
}

impl Open {
    fn outermost() -> Self {
        Self {
            sequence: None,
            attributes: Map::new(),
            items: Vec::new(),
            end: None,
            outside: EXPLICIT_LITTLE,
            is_fragments: false,
        }
    }
}

struct Element {
    tag: u32,
    kind: Option<[u8; 2]>,
    length: u32,
}

struct Walk<R> {
    source: R,
    at: u64,
    length: u64,
    form: Form,
    in_meta: bool,
    transfer_syntax: String,
    encoding: &'static Encoding,
    shown: usize,
    open: Vec<Open>,
}

impl<R: Read + Seek> Walk<R> {
    fn whole(&mut self) -> Result<(), Stop> {
        for _ in 0..ELEMENTS_MAX {
            self.close_ended();
            if self.at >= self.length {
                return Ok(());
            }
            if self.in_meta {
                self.leave_meta()?;
            }
            let element = self.element()?;
            if self.open.len() == 1 && PIXELS.contains(&element.tag) {
                return Ok(());
            }
            self.step(&element)?;
        }
        Err(Stop::Unreadable)
    }

    /// Group 0002 is explicit little endian; what follows is as it says.
    fn leave_meta(&mut self) -> Result<(), Stop> {
        let mut begin = [0; 6];
        self.source.read_exact(&mut begin)?;
        self.source.seek(SeekFrom::Start(self.at))?;
        if begin.starts_with(&[2, 0]) {
            return Ok(());
        }
        self.in_meta = false;
        self.form = match self.transfer_syntax.as_str() {
            "1.2.840.10008.1.2" | "" => IMPLICIT_LITTLE,
            "1.2.840.10008.1.2.2" => EXPLICIT_BIG,
            // The deflated one is not read.
            "1.2.840.10008.1.2.1.99" => return Err(Stop::Unreadable),
            _ => EXPLICIT_LITTLE,
        };
        // Some senders name an explicit syntax and write the implicit one.
        if self.form.explicit && !begin[4..].iter().all(u8::is_ascii_uppercase) {
            self.form = IMPLICIT_LITTLE;
        }
        Ok(())
    }

    fn element(&mut self) -> Result<Element, Stop> {
        let group = self.u16()?;
        let number = self.u16()?;
        let tag = u32::from(group) << 16 | u32::from(number);
        if !self.form.explicit || group == 0xfffe {
            let length = self.u32()?;
            return Ok(Element {
                tag,
                kind: None,
                length,
            });
        }
        let mut kind = [0; 2];
        self.fill(&mut kind)?;
        if !kind.iter().all(u8::is_ascii_uppercase) {
            return Err(Stop::Unreadable);
        }
        let length = if LONG.contains(&&kind) {
            self.u16()?;
            self.u32()?
        } else {
            u32::from(self.u16()?)
        };
        Ok(Element {
            tag,
            kind: Some(kind),
            length,
        })
    }

    fn step(&mut self, element: &Element) -> Result<(), Stop> {
        let within = self.open.last().ok_or(Stop::Unreadable)?;
        let in_sequence = within.sequence.is_some();
        match element.tag {
            ITEM if in_sequence && within.is_fragments => {
                return self.pass(element.length);
            }
            ITEM if in_sequence => {
                let end = self.end_of(element.length)?;
                return self.enter(Open {
                    end,
                    outside: self.form,
                    ..Open::outermost()
                });
            }
            ITEM_END if !in_sequence && self.open.len() > 1 => {
                self.close();
                return Ok(());
            }
            SEQUENCE_END if in_sequence => {
                self.close();
                return Ok(());
            }
            ITEM | ITEM_END | SEQUENCE_END => return Err(Stop::Unreadable),
            _ if in_sequence => return Err(Stop::Unreadable),
            _ => {}
        }
        let kind = kind_of(element);
        let name = format!("{:08X}", element.tag);
        let undefined = element.length == UNDEFINED;
        if kind == VR::SQ || undefined {
            let end = self.end_of(element.length)?;
            let outside = self.form;
            // PS3.5, section 6.2.2: an unknown element of undefined length is implicit inside.
            if undefined && element.kind == Some(*b"UN") {
                self.form = IMPLICIT_LITTLE;
            }
            return self.enter(Open {
                sequence: Some(name),
                end,
                outside,
                is_fragments: !matches!(kind, VR::SQ | VR::UN),
                ..Open::outermost()
            });
        }
        if element.length > VALUE_BYTES_MAX || self.shown > SHOWN_BYTES_MAX {
            self.pass(element.length)?;
            return self.keep(element.tag, name, json!({ "vr": kind.to_string() }));
        }
        self.fits(element.length)?;
        let mut value = vec![0; element.length as usize];
        self.fill(&mut value)?;
        self.shown += value.len();
        if element.tag == TRANSFER_SYNTAX {
            self.transfer_syntax = ascii(&value);
        }
        if element.tag == CHARACTER_SET && self.open.len() == 1 {
            self.encoding = encoding_of(&ascii(&value));
        }
        let shown = shown(kind, &value, self.form.big, self.encoding);
        self.keep(element.tag, name, shown)
    }

    fn keep(&mut self, tag: u32, name: String, value: Value) -> Result<(), Stop> {
        // What describes the file is not of the data set.
        if tag >> 16 != 2 {
            let within = self.open.last_mut().ok_or(Stop::Unreadable)?;
            within.attributes.insert(name, value);
        }
        Ok(())
    }

    fn enter(&mut self, open: Open) -> Result<(), Stop> {
        if self.open.len() > DEPTH_MAX {
            return Err(Stop::Unreadable);
        }
        self.open.push(open);
        Ok(())
    }

    fn close_ended(&mut self) {
        while self.open.len() > 1
            && self
                .open
                .last()
                .is_some_and(|open| open.end.is_some_and(|end| self.at >= end))
        {
            self.close();
        }
    }

    /// Hands what is open to what it stands in.
    fn close(&mut self) {
        let Some(open) = self.open.pop() else { return };
        self.form = open.outside;
        let Some(within) = self.open.last_mut() else {
            self.open.push(open);
            return;
        };
        match open.sequence {
            None => within.items.push(Value::Object(open.attributes)),
            Some(name) if open.is_fragments => {
                within.attributes.insert(name, json!({ "vr": "OB" }));
            }
            Some(name) => {
                let value = match open.items.is_empty() {
                    true => json!({ "vr": "SQ" }),
                    false => json!({ "vr": "SQ", "Value": open.items }),
                };
                within.attributes.insert(name, value);
            }
        }
    }

    fn close_all(&mut self) -> Map<String, Value> {
        while self.open.len() > 1 {
            self.close();
        }
        self.open
            .pop()
            .map(|open| open.attributes)
            .unwrap_or_default()
    }

    /// Where a length leads; none if it is undefined.
    fn end_of(&self, length: u32) -> Result<Option<u64>, Stop> {
        if length == UNDEFINED {
            return Ok(None);
        }
        self.fits(length)?;
        Ok(Some(self.at + u64::from(length)))
    }

    fn fits(&self, length: u32) -> Result<(), Stop> {
        match u64::from(length) <= self.length - self.at {
            true => Ok(()),
            false => Err(Stop::Unreadable),
        }
    }

    fn pass(&mut self, length: u32) -> Result<(), Stop> {
        self.fits(length)?;
        self.source.seek_relative(i64::from(length))?;
        self.at += u64::from(length);
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Stop> {
        self.source.read_exact(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn u16(&mut self) -> Result<u16, Stop> {
        let mut bytes = [0; 2];
        self.fill(&mut bytes)?;
        Ok(match self.form.big {
            true => u16::from_be_bytes(bytes),
            false => u16::from_le_bytes(bytes),
        })
    }

    fn u32(&mut self) -> Result<u32, Stop> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes)?;
        Ok(match self.form.big {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        })
    }
}

/// The value representation that an element names, or that the dictionary gives it.
fn kind_of(element: &Element) -> VR {
    if let Some(kind) = element.kind {
        return VR::from_binary(kind).unwrap_or(VR::UN);
    }
    let tag = Tag((element.tag >> 16) as u16, (element.tag & 0xffff) as u16);
    let entry = StandardDataDictionary.by_tag(tag);
    entry.map_or(VR::UN, |entry| entry.vr().relaxed())
}

/// A value in the JSON model.
fn shown(kind: VR, bytes: &[u8], big: bool, encoding: &'static Encoding) -> Value {
    let vr = kind.to_string();
    if bytes.is_empty() {
        return json!({ "vr": vr });
    }
    let numbers = |size: usize, number: &dyn Fn(&[u8]) -> Value| -> Vec<Value> {
        bytes.chunks_exact(size).map(number).collect()
    };
    macro_rules! number {
        ($type:ty) => {
            numbers(size_of::<$type>(), &|piece: &[u8]| {
                let Ok(piece) = piece.try_into() else {
                    return Value::Null;
                };
                match big {
                    true => <$type>::from_be_bytes(piece).into(),
                    false => <$type>::from_le_bytes(piece).into(),
                }
            })
        };
    }
    let values: Vec<Value> = match kind {
        VR::US => number!(u16),
        VR::SS => number!(i16),
        VR::UL => number!(u32),
        VR::SL => number!(i32),
        VR::UV => number!(u64),
        VR::SV => number!(i64),
        VR::FL => number!(f32),
        VR::FD => number!(f64),
        VR::AT => numbers(4, &|piece: &[u8]| {
            let half = |at: usize| {
                let pair = [piece[at], piece[at + 1]];
                match big {
                    true => u16::from_be_bytes(pair),
                    false => u16::from_le_bytes(pair),
                }
            };
            format!("{:04X}{:04X}", half(0), half(2)).into()
        }),
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN | VR::SQ => {
            if bytes.len() > INLINE_BYTES_MAX {
                return json!({ "vr": vr });
            }
            return json!({ "vr": vr, "InlineBinary": BASE64.encode(bytes) });
        }
        // One value, in which a backslash is a character.
        VR::LT | VR::ST | VR::UT | VR::UR => vec![text(bytes, encoding).into()],
        VR::PN => text(bytes, encoding)
            .split('\\')
            .map(|name| person(name.trim()))
            .collect(),
        VR::DS | VR::IS => ascii(bytes).split('\\').map(numeral).collect(),
        _ => text(bytes, encoding)
            .split('\\')
            .map(|one| match one.trim_matches([' ', '\0']) {
                "" => Value::Null,
                one => one.into(),
            })
            .collect(),
    };
    match values.iter().all(Value::is_null) {
        true => json!({ "vr": vr }),
        false => json!({ "vr": vr, "Value": values }),
    }
}

fn numeral(text: &str) -> Value {
    let text = text.trim_matches([' ', '\0']);
    if let Ok(whole) = text.parse::<i64>() {
        return whole.into();
    }
    let number = text.parse::<f64>().ok().and_then(Number::from_f64);
    match number {
        Some(number) => Value::Number(number),
        None if text.is_empty() => Value::Null,
        None => text.into(),
    }
}

/// The groups of a person's name.
fn person(name: &str) -> Value {
    let mut out = Map::new();
    for (group, text) in ["Alphabetic", "Ideographic", "Phonetic"]
        .into_iter()
        .zip(name.split('='))
    {
        if !text.is_empty() {
            out.insert(group.to_owned(), text.into());
        }
    }
    match out.is_empty() {
        true => Value::Null,
        false => Value::Object(out),
    }
}

fn ascii(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_matches([' ', '\0'])
        .to_owned()
}

fn text(bytes: &[u8], encoding: &'static Encoding) -> String {
    let (text, _, _) = encoding.decode(bytes);
    text.trim_end_matches([' ', '\0']).to_owned()
}

/// The encoding of a character set (PS3.3 C.12.1.1.2); of several with code extensions, the first that is
/// not the default, which the decoder changes from and to by itself.
fn encoding_of(name: &str) -> &'static Encoding {
    let named = name
        .split('\\')
        .map(str::trim)
        .find(|one| !one.is_empty() && *one != "ISO 2022 IR 6");
    match named.unwrap_or_default() {
        "ISO_IR 192" => encoding_rs::UTF_8,
        "GB18030" | "GBK" | "ISO 2022 IR 58" => encoding_rs::GB18030,
        "ISO_IR 101" | "ISO 2022 IR 101" => encoding_rs::ISO_8859_2,
        "ISO_IR 109" | "ISO 2022 IR 109" => encoding_rs::ISO_8859_3,
        "ISO_IR 110" | "ISO 2022 IR 110" => encoding_rs::ISO_8859_4,
        "ISO_IR 144" | "ISO 2022 IR 144" => encoding_rs::ISO_8859_5,
        "ISO_IR 127" | "ISO 2022 IR 127" => encoding_rs::ISO_8859_6,
        "ISO_IR 126" | "ISO 2022 IR 126" => encoding_rs::ISO_8859_7,
        "ISO_IR 138" | "ISO 2022 IR 138" => encoding_rs::ISO_8859_8,
        "ISO_IR 148" | "ISO 2022 IR 148" => encoding_rs::WINDOWS_1254,
        "ISO_IR 166" | "ISO 2022 IR 166" => encoding_rs::WINDOWS_874,
        "ISO_IR 13" => encoding_rs::SHIFT_JIS,
        "ISO 2022 IR 13" | "ISO 2022 IR 87" | "ISO 2022 IR 159" => encoding_rs::ISO_2022_JP,
        "ISO 2022 IR 149" => encoding_rs::EUC_KR,
        _ => encoding_rs::WINDOWS_1252,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn sample(path: &str) -> Vec<u8> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
        std::fs::read(root.join(path)).unwrap()
    }

    fn of(bytes: &[u8]) -> Option<Header> {
        read(Cursor::new(bytes)).unwrap()
    }

    fn element(tag: u32, kind: &[u8; 2], value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(((tag >> 16) as u16).to_le_bytes());
        out.extend((tag as u16).to_le_bytes());
        out.extend(kind);
        if LONG.contains(&kind) {
            out.extend([0, 0]);
            out.extend((value.len() as u32).to_le_bytes());
        } else {
            out.extend((value.len() as u16).to_le_bytes());
        }
        out.extend(value);
        out
    }

    fn file(syntax: &[u8], data: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 128];
        out.extend(b"DICM");
        out.extend(element(TRANSFER_SYNTAX, b"UI", syntax));
        out.extend(data);
        out
    }

    const EXPLICIT: &[u8] = b"1.2.840.10008.1.2.1\0";

    #[test]
    fn a_real_header_is_shown() {
        let header = of(&sample("secondary-hospital/ct-head/17106")).unwrap();
        assert_eq!(
            header.attributes["00080060"],
            json!({ "vr": "CS", "Value": ["CT"] })
        );
        assert_eq!(
            header.attributes["00280010"],
            json!({ "vr": "US", "Value": [16] })
        );
        assert!(header.text("0020000D").unwrap().starts_with("1."));
        assert!(header.attributes["00100010"]["Value"][0]["Alphabetic"].is_string());
        assert!(
            !header.attributes.contains_key("7FE00010"),
            "pixels are left out"
        );
        assert!(header.attributes.keys().all(|tag| !tag.starts_with("0002")));
    }

    #[test]
    fn values_of_each_kind_are_as_the_standard_has_them() {
        let data = [
            element(CHARACTER_SET, b"CS", b"ISO_IR 192"),
            element(0x0008_1030, b"LO", "\u{8111}\\b ".as_bytes()),
            element(0x0010_0010, b"PN", "Chen^Mei=\u{9648}^\u{6885}".as_bytes()),
            element(0x0018_0050, b"DS", b"5.0\\12\\x "),
            element(0x0020_0013, b"IS", b"7 "),
            element(0x0028_0009, b"AT", &[0x18, 0, 0x63, 0x10]),
            element(0x0028_0106, b"SS", &[0xff, 0xff]),
            element(0x0040_a160, b"UT", b"a\\b"),
            element(0x0029_1010, b"OB", &[1, 2, 3, 4]),
            element(0x0029_1011, b"OB", &[0; 2000]),
            element(0x0008_0050, b"SH", b""),
        ]
        .concat();
        let header = of(&file(EXPLICIT, &data)).unwrap();
        let value = |tag: &str| header.attributes[tag].clone();
        assert_eq!(
            value("00081030"),
            json!({ "vr": "LO", "Value": ["\u{8111}", "b"] })
        );
        assert_eq!(
            value("00100010"),
            json!({ "vr": "PN", "Value": [{ "Alphabetic": "Chen^Mei", "Ideographic": "\u{9648}^\u{6885}" }] })
        );
        assert_eq!(
            value("00180050"),
            json!({ "vr": "DS", "Value": [5.0, 12, "x"] })
        );
        assert_eq!(value("00200013"), json!({ "vr": "IS", "Value": [7] }));
        assert_eq!(
            value("00280009"),
            json!({ "vr": "AT", "Value": ["00181063"] })
        );
        assert_eq!(value("00280106"), json!({ "vr": "SS", "Value": [-1] }));
        assert_eq!(value("0040A160"), json!({ "vr": "UT", "Value": ["a\\b"] }));
        assert_eq!(
            value("00291010"),
            json!({ "vr": "OB", "InlineBinary": "AQIDBA==" })
        );
        assert_eq!(value("00291011"), json!({ "vr": "OB" }));
        assert_eq!(value("00080050"), json!({ "vr": "SH" }));
    }

    #[test]
    fn sequences_of_both_lengths_are_nested() {
        let item = |value: &[u8]| {
            let mut out = vec![0xfe, 0xff, 0, 0xe0];
            out.extend((value.len() as u32).to_le_bytes());
            out.extend(value);
            out
        };
        let inner = element(0x0008_0100, b"SH", b"T-A0100 ");
        let defined = element(0x0008_2218, b"SQ", &item(&inner));
        let mut undefined = element(0x0008_1032, b"SQ", &[]);
        let at = undefined.len() - 4;
        undefined[at..].fill(0xff);
        undefined.extend([0xfe, 0xff, 0, 0xe0, 0xff, 0xff, 0xff, 0xff]);
        undefined.extend(&defined);
        undefined.extend([0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0]);
        undefined.extend([0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
        let data = [undefined, element(0x0008_0060, b"CS", b"MR")].concat();
        let header = of(&file(EXPLICIT, &data)).unwrap();
        let code = &header.attributes["00081032"]["Value"][0]["00082218"]["Value"][0];
        assert_eq!(code["00080100"]["Value"][0], "T-A0100");
        assert_eq!(header.text("00080060"), Some("MR"));
    }

    #[test]
    fn implicit_headers_are_read_by_the_dictionary() {
        let implicit = |tag: u32, value: &[u8]| {
            let mut out = Vec::new();
            out.extend(((tag >> 16) as u16).to_le_bytes());
            out.extend((tag as u16).to_le_bytes());
            out.extend((value.len() as u32).to_le_bytes());
            out.extend(value);
            out
        };
        let data = [
            implicit(0x0008_0060, b"CT"),
            implicit(0x0028_0010, &[16, 0]),
            implicit(0x0029_1010, b"private!"),
        ]
        .concat();
        let header = of(&file(b"1.2.840.10008.1.2\0", &data)).unwrap();
        assert_eq!(
            header.attributes["00280010"],
            json!({ "vr": "US", "Value": [16] })
        );
        assert_eq!(header.attributes["00291010"]["vr"], "UN");
    }

    #[test]
    fn character_sets_are_decoded() {
        for (name, bytes, expected) in [
            (&b"GB18030 "[..], &b"\xc4\xd4"[..], "\u{8111}"),
            (b"ISO_IR 100", b"M\xfcller", "M\u{fc}ller"),
            (b"\\ISO 2022 IR 87 ", b"\x1b$BF,\x1b(B", "\u{982d}"),
            (b"ISO_IR 144", b"\xbc\xd6", "\u{41c}\u{436}"),
        ] {
            let data = [
                element(CHARACTER_SET, b"CS", name),
                element(0x0008_1030, b"LO", bytes),
            ];
            let header = of(&file(EXPLICIT, &data.concat())).unwrap();
            assert_eq!(header.text("00081030"), Some(expected), "{name:?}");
        }
    }

    #[test]
    fn hostile_headers_end_and_take_no_memory() {
        let mut long = element(0x0008_1030, b"UT", b"");
        let at = long.len() - 4;
        long[at..].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
        let data = [element(0x0008_0060, b"CS", b"CT"), long].concat();
        assert_eq!(
            of(&file(EXPLICIT, &data)).unwrap().text("00080060"),
            Some("CT")
        );

        let mut nested = Vec::new();
        for _ in 0..100_000 {
            let mut open = element(0x0008_1032, b"SQ", &[]);
            let at = open.len() - 4;
            open[at..].fill(0xff);
            nested.extend(open);
            nested.extend([0xfe, 0xff, 0, 0xe0, 0xff, 0xff, 0xff, 0xff]);
        }
        assert!(of(&file(EXPLICIT, &nested)).is_some());
        assert_eq!(of(b"no file"), None);

        // Ten thousand mutations of a real header: none panics, none grows.
        let whole = sample("secondary-hospital/ct-head/17106");
        let mut state = 1_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(state >> 33).unwrap_or_default()
        };
        for _ in 0..10_000 {
            let mut bytes = whole.clone();
            for _ in 0..1 + next() % 8 {
                let at = 128 + next() % (bytes.len() - 128);
                match next() % 3 {
                    0 => bytes[at] = u8::try_from(next() % 256).unwrap_or_default(),
                    1 => bytes.truncate(at.max(200)),
                    _ => bytes
                        .splice(at..at, [0xff, 0xff, 0xff, 0xff])
                        .for_each(drop),
                }
            }
            if let Some(header) = of(&bytes) {
                assert!(Value::Object(header.attributes).to_string().len() < 8 * SHOWN_BYTES_MAX);
            }
        }
    }
}
