//! DICOM files (PS3.10), and the directories of media (DICOMDIR): the header attributes that become
//! keywords or describe the file. Values that are not needed, and everything from the pixel data on,
//! are passed over without being read.
//!
//! `spec/formats.md` R5. The walk keeps one byte per open sequence, never recurses, and never
//! allocates by a length that the file names. (Those are the reasons why no general DICOM library
//! reads these untrusted headers: the one at hand, `dicom-object` 0.10, recurses into nested
//! sequences and fills a buffer of any length that a text element declares.)

use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};

use crate::description::Period;
use crate::gathering::Gathering;
use crate::keyword::Keyword;
use crate::limits::{
    DICOM_DEPTH_MAX, DICOM_ELEMENTS_MAX, DICOM_TEXT_BYTES_MAX, DICOM_VALUE_BYTES_MAX,
};
use crate::oddity::{Oddities, Oddity};
use crate::systems;

/// Whether the file's first 132 bytes are those of a DICOM file, with or without its preamble.
pub(crate) fn is_dicom(first: &[u8]) -> bool {
    has_preamble(first) || first.starts_with(&META_BEGIN)
}

/// Walks through the header of a file that [`is_dicom`] and is `length` bytes long.
pub(crate) fn header<S: Read + Seek>(
    source: &mut S,
    length: u64,
    found: &mut Gathering,
    oddities: &mut Oddities,
) -> io::Result<()> {
    let mut first = [0; PREAMBLE_BYTES + MAGIC.len()];
    source.seek(SeekFrom::Start(0))?;
    let preamble = read_full(source, &mut first)? == first.len() && has_preamble(&first);
    let begin = if preamble { first.len() as u64 } else { 0 };
    if !preamble {
        oddities.note(Oddity::NoPreamble);
    }
    source.seek(SeekFrom::Start(begin))?;
    let mut walk = Walk {
        source: BufReader::new(source),
        at: begin,
        length,
        form: Form::EXPLICIT_LITTLE,
        open: Vec::new(),
        text_form: TextForm::Ascii,
        code: Code::default(),
        found,
        oddities,
    };
    match walk.whole() {
        Ok(()) => Ok(()),
        Err(Stop::Io(error)) => Err(error),
        Err(Stop::Odd(oddity)) => {
            oddities.note(oddity);
            Ok(())
        }
    }
}

struct Walk<'a, S> {
    source: BufReader<&'a mut S>,
    at: u64,
    length: u64,
    form: Form,
    /// The sequences and items that were entered and are open.
    open: Vec<Open>,
    /// How the file writes texts, as far as it is read here.
    text_form: TextForm,
    /// The code being read.
    code: Code,
    found: &'a mut Gathering,
    oddities: &'a mut Oddities,
}

impl<S: Read + Seek> Walk<'_, S> {
    fn whole(&mut self) -> Result<(), Stop> {
        let mut in_meta = true;
        let mut data_form = Form::IMPLICIT_LITTLE;
        let mut deflated = false;
        for _ in 0..DICOM_ELEMENTS_MAX {
            self.close_ended();
            if self.at == self.length && self.open.is_empty() {
                return Ok(());
            }
            if in_meta && !self.next_is_meta()? {
                if deflated {
                    return Err(Stop::Odd(Oddity::DicomDeflated));
                }
                in_meta = false;
                self.form = self.data_form(data_form)?;
            }
            let element = self.element()?;
            if self.open.is_empty() && (PIXEL_DATA..ITEM).contains(&element.tag) {
                return Ok(());
            }
            match self.wanted(&element) {
                None => self.pass(&element)?,
                Some(Use::Keyword) => {
                    let Some(value) = self.short_value(&element)? else {
                        self.oddities.note(Oddity::NoKeyword { at: element.at });
                        continue;
                    };
                    if element.tag == TRANSFER_SYNTAX {
                        data_form = match value.as_str() {
                            "1.2.840.10008.1.2" => Form::IMPLICIT_LITTLE,
                            "1.2.840.10008.1.2.2" => Form::EXPLICIT_BIG,
                            _ => Form::EXPLICIT_LITTLE,
                        };
                        deflated = value == "1.2.840.10008.1.2.1.99";
                    } else {
                        self.keyword(&element, &value);
                    }
                }
                Some(Use::Text) => {
                    if let Some(text) = self.text(&element)? {
                        self.describe(element.tag, &text);
                    }
                }
                Some(Use::Code) => {
                    let value = self.short_value(&element)?.unwrap_or_default();
                    match element.tag {
                        CODE_VALUE => self.code.value = value,
                        _ => self.code.scheme = value,
                    }
                }
            }
        }
        Err(Stop::Odd(Oddity::DicomUnreadable { at: self.at }))
    }

    /// What an element is for, where it stands.
    fn wanted(&self, element: &Element) -> Option<Use> {
        let listed = |list: &[u32]| list.contains(&element.tag);
        match self.open.as_slice() {
            [] if listed(&KEYWORDS) => Some(Use::Keyword),
            [] if listed(&TEXTS) => Some(Use::Text),
            [
                ..,
                Open {
                    what: What::Item(Sought::Codes),
                    ..
                },
            ] if listed(&CODE) => Some(Use::Code),
            // A directory has the attributes of its studies, series and images in its records.
            [
                _,
                Open {
                    what: What::Item(Sought::Records),
                    ..
                },
            ] if listed(&RECORD_KEYWORDS) => Some(Use::Keyword),
            [
                _,
                Open {
                    what: What::Item(Sought::Records),
                    ..
                },
            ] if listed(&TEXTS) => Some(Use::Text),
            _ => None,
        }
    }

    /// What is sought in a sequence that begins here.
    fn sought(&self, element: &Element) -> Sought {
        match (self.open.as_slice(), element.tag) {
            ([], DIRECTORY_RECORDS) => Sought::Records,
            (
                []
                | [
                    _,
                    Open {
                        what: What::Item(Sought::Records),
                        ..
                    },
                ],
                tag,
            ) if CODES.contains(&tag) => Sought::Codes,
            _ => Sought::Nothing,
        }
    }

    fn keyword(&mut self, element: &Element, value: &str) {
        // An attribute without a value is allowed and gives no keyword.
        if value.is_empty() {
            return;
        }
        let keyword = match element.tag {
            MODALITY => Keyword::dicom_modality(value),
            BODY_PART => Keyword::dicom_body_part(value),
            _ => Keyword::dicom_sop_class(value),
        };
        self.found.keyword(keyword, element.at, self.oddities);
    }

    fn describe(&mut self, tag: u32, text: &str) {
        match tag {
            CHARACTER_SET => {
                self.text_form = match text.split('\\').next().unwrap_or_default().trim() {
                    "ISO_IR 100" | "ISO 2022 IR 100" => TextForm::Latin,
                    "ISO_IR 192" => TextForm::Utf8,
                    _ => TextForm::Ascii,
                };
            }
            STUDY_DESCRIPTION | SERIES_DESCRIPTION => {
                self.found.words(text);
                self.found.title(u8::from(tag == SERIES_DESCRIPTION), text);
            }
            INSTITUTION => self.found.origin(0, text),
            MANUFACTURER => self.found.origin(1, text),
            _ => self.found.period(Period::at_compact(text).as_ref()),
        }
    }

    /// Closes what has a length and ended.
    fn close_ended(&mut self) {
        while let Some(open) = self.open.last()
            && open.end.is_some_and(|end| self.at >= end)
        {
            self.close();
        }
    }

    fn close(&mut self) {
        let Some(open) = self.open.pop() else { return };
        match open.what {
            What::Sequence(_) => self.form = open.outside,
            What::Item(Sought::Codes) => {
                let code = std::mem::take(&mut self.code);
                let system = systems::of_dicom_designator(&code.scheme);
                if let Some(system) = system.filter(|_| !code.value.is_empty()) {
                    self.found
                        .keyword(Keyword::code(system, &code.value), self.at, self.oddities);
                }
            }
            What::Item(_) => {}
        }
    }

    /// Whether the next element is of group 0002, which is always explicit little endian.
    fn next_is_meta(&mut self) -> Result<bool, Stop> {
        Ok(self.ahead::<2>()? == Some([2, 0]))
    }

    /// The form of the data set that begins here. Some senders name an explicit transfer syntax and
    /// write the implicit one: their first element has no value representation.
    fn data_form(&mut self, named: Form) -> Result<Form, Stop> {
        let Some([.., first, second]) = self.ahead::<6>()? else {
            return Ok(named);
        };
        if !named.explicit || first.is_ascii_uppercase() && second.is_ascii_uppercase() {
            return Ok(named);
        }
        self.oddities.note(Oddity::DicomOtherSyntax);
        Ok(Form::IMPLICIT_LITTLE)
    }

    /// The next `N` bytes, which stay to be read; `None` if there are fewer.
    fn ahead<const N: usize>(&mut self) -> Result<Option<[u8; N]>, Stop> {
        let mut bytes = [0; N];
        if self.length - self.at < N as u64 {
            return Ok(None);
        }
        self.fill(&mut bytes, self.at)?;
        self.at -= N as u64;
        self.source.seek_relative(-(N as i64))?;
        Ok(Some(bytes))
    }

    /// The next element's tag and length (PS3.5 section 7.1).
    fn element(&mut self) -> Result<Element, Stop> {
        let at = self.at;
        let group = self.u16(at)?;
        let number = self.u16(at)?;
        let tag = u32::from(group) << 16 | u32::from(number);
        // Items and delimiters have no value representation (PS3.5 section 7.5).
        if !self.form.explicit || group == 0xfffe {
            let length = self.u32(at)?;
            return Ok(Element {
                at,
                tag,
                kind: None,
                length,
            });
        }
        let mut kind = [0; 2];
        self.fill(&mut kind, at)?;
        if !kind.iter().all(u8::is_ascii_uppercase) {
            return Err(Stop::Odd(Oddity::DicomUnreadable { at }));
        }
        let length = if LONG_FORM.contains(&&kind) {
            self.u16(at)?;
            self.u32(at)?
        } else {
            u32::from(self.u16(at)?)
        };
        Ok(Element {
            at,
            tag,
            kind: Some(kind),
            length,
        })
    }

    /// Passes over an element that is not wanted, or enters it if its length is undefined or something
    /// is sought in it.
    fn pass(&mut self, element: &Element) -> Result<(), Stop> {
        let unreadable = Err(Stop::Odd(Oddity::DicomUnreadable { at: element.at }));
        let inside = self.open.last().map(|open| open.what);
        match (element.tag, inside) {
            (ITEM, Some(What::Sequence(_))) => {}
            (ITEM_END, Some(What::Item(_))) | (SEQUENCE_END, Some(What::Sequence(_))) => {
                self.close();
                return Ok(());
            }
            (ITEM | ITEM_END | SEQUENCE_END, _) | (_, Some(What::Sequence(_))) => {
                return unreadable;
            }
            _ => {}
        }
        let what = match inside {
            Some(What::Sequence(sought)) => What::Item(sought),
            _ => What::Sequence(self.sought(element)),
        };
        let is_sought = !matches!(
            what,
            What::Item(Sought::Nothing) | What::Sequence(Sought::Nothing)
        );
        let is_sequence = element.kind.is_none_or(|kind| kind == *b"SQ");
        let end = match element.length {
            UNDEFINED => None,
            length if is_sought && is_sequence => {
                let left = self.length - self.at;
                if u64::from(length) > left {
                    return Err(Stop::Odd(Oddity::DicomTruncated { at: element.at }));
                }
                Some(self.at + u64::from(length))
            }
            _ => return self.skip(element),
        };
        if self.open.len() >= DICOM_DEPTH_MAX {
            return unreadable;
        }
        let outside = self.form;
        if let What::Sequence(_) = what {
            // PS3.5 section 6.2.2: the content of an unknown element of undefined length is implicit
            // little endian.
            match element.kind {
                Some(kind) if kind == *b"UN" => self.form = Form::IMPLICIT_LITTLE,
                Some(kind) if kind != *b"SQ" => return unreadable,
                _ => {}
            }
        }
        if what == What::Item(Sought::Codes) {
            self.code = Code::default();
        }
        self.open.push(Open { what, end, outside });
        Ok(())
    }

    fn skip(&mut self, element: &Element) -> Result<(), Stop> {
        let length = u64::from(element.length);
        if length > self.length - self.at {
            return Err(Stop::Odd(Oddity::DicomTruncated { at: element.at }));
        }
        self.source.seek_relative(i64::from(element.length))?;
        self.at += length;
        Ok(())
    }

    /// The element's value without padding; `None`, and passed over, if it is longer than 64 bytes
    /// or not ASCII.
    fn short_value(&mut self, element: &Element) -> Result<Option<String>, Stop> {
        if element.length as usize > DICOM_VALUE_BYTES_MAX {
            if element.length == UNDEFINED {
                return Err(Stop::Odd(Oddity::DicomUnreadable { at: element.at }));
            }
            self.skip(element)?;
            return Ok(None);
        }
        let mut value = [0; DICOM_VALUE_BYTES_MAX];
        let value = &mut value[..element.length as usize];
        self.fill(value, element.at)?;
        let text = std::str::from_utf8(value)
            .ok()
            .filter(|text| text.is_ascii());
        Ok(text.map(|text| text.trim_matches([' ', '\0']).to_owned()))
    }

    /// A text without padding, as far as its character set is read; `None`, and passed over, if it is
    /// longer than 256 bytes.
    fn text(&mut self, element: &Element) -> Result<Option<String>, Stop> {
        if element.length as usize > DICOM_TEXT_BYTES_MAX {
            self.pass(element)?;
            return Ok(None);
        }
        let mut value = [0; DICOM_TEXT_BYTES_MAX];
        let value = &mut value[..element.length as usize];
        self.fill(value, element.at)?;
        let text = match self.text_form {
            TextForm::Latin => value.iter().copied().map(char::from).collect(),
            TextForm::Utf8 => String::from_utf8_lossy(value).into_owned(),
            // Other character sets begin as ASCII and change within a text: what follows is not read.
            TextForm::Ascii => {
                let ascii = value
                    .iter()
                    .take_while(|byte| byte.is_ascii() && **byte != ESCAPE);
                ascii.copied().map(char::from).collect()
            }
        };
        Ok(Some(text.trim_matches([' ', '\0']).to_owned()))
    }

    fn u16(&mut self, at: u64) -> Result<u16, Stop> {
        let mut bytes = [0; 2];
        self.fill(&mut bytes, at)?;
        Ok(if self.form.big {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        })
    }

    fn u32(&mut self, at: u64) -> Result<u32, Stop> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes, at)?;
        Ok(if self.form.big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    fn fill(&mut self, bytes: &mut [u8], element_at: u64) -> Result<(), Stop> {
        match self.source.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(Stop::Odd(Oddity::DicomTruncated { at: element_at }))
            }
            Err(error) => Err(Stop::Io(error)),
        }
    }
}

struct Element {
    at: u64,
    tag: u32,
    /// The value representation; `None` where the encoding has none.
    kind: Option<[u8; 2]>,
    length: u32,
}

/// A sequence or an item that is open.
struct Open {
    what: What,
    /// Where it ends; `None` if its length is undefined.
    end: Option<u64>,
    /// The form to return to at a sequence's end.
    outside: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Sequence(Sought),
    Item(Sought),
}

/// What is sought in a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sought {
    Nothing,
    Codes,
    /// The records of a directory.
    Records,
}

/// What a value is read for.
enum Use {
    Keyword,
    Text,
    Code,
}

/// A code and its coding scheme (PS3.3 section 8.8).
#[derive(Debug, Default)]
struct Code {
    value: String,
    scheme: String,
}

/// How texts are written (PS3.3 section C.12.1.1.2), as far as it is read here.
#[derive(Debug, Clone, Copy)]
enum TextForm {
    Ascii,
    Latin,
    Utf8,
}

/// How elements are written: a part of the transfer syntax.
#[derive(Debug, Clone, Copy)]
struct Form {
    explicit: bool,
    big: bool,
}

impl Form {
    const IMPLICIT_LITTLE: Self = Self {
        explicit: false,
        big: false,
    };
    const EXPLICIT_LITTLE: Self = Self {
        explicit: true,
        big: false,
    };
    const EXPLICIT_BIG: Self = Self {
        explicit: true,
        big: true,
    };
}

enum Stop {
    Io(io::Error),
    Odd(Oddity),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn has_preamble(first: &[u8]) -> bool {
    first
        .get(PREAMBLE_BYTES..)
        .is_some_and(|rest| rest.starts_with(MAGIC))
}

/// Reads until the buffer is full or the source ends; how many bytes were read.
pub(crate) fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

const PREAMBLE_BYTES: usize = 128;
const MAGIC: &[u8] = b"DICM";
/// (0002,0000) UL with length 4, with which group 0002 begins.
const META_BEGIN: [u8; 8] = [2, 0, 0, 0, b'U', b'L', 4, 0];

const TRANSFER_SYNTAX: u32 = 0x0002_0010;
const SOP_CLASS: u32 = 0x0008_0016;
const MODALITY: u32 = 0x0008_0060;
const BODY_PART: u32 = 0x0018_0015;
const PIXEL_DATA: u32 = 0x7fe0_0010;
const CHARACTER_SET: u32 = 0x0008_0005;
const INSTITUTION: u32 = 0x0008_0080;
const MANUFACTURER: u32 = 0x0008_0070;
const STUDY_DESCRIPTION: u32 = 0x0008_1030;
const SERIES_DESCRIPTION: u32 = 0x0008_103e;
const CODE_VALUE: u32 = 0x0008_0100;
const CODE_SCHEME: u32 = 0x0008_0102;
const DIRECTORY_RECORDS: u32 = 0x0004_1220;
const REFERENCED_SOP_CLASS: u32 = 0x0004_1510;

/// Attributes that become keywords, of an image and of a directory's record.
const KEYWORDS: [u32; 4] = [TRANSFER_SYNTAX, SOP_CLASS, MODALITY, BODY_PART];
const RECORD_KEYWORDS: [u32; 3] = [REFERENCED_SOP_CLASS, MODALITY, BODY_PART];
/// Attributes that describe a file: with dates of study, series, acquisition and content, and the time
/// of acquisition.
const TEXTS: [u32; 10] = [
    CHARACTER_SET,
    0x0008_0020,
    0x0008_0021,
    0x0008_0022,
    0x0008_0023,
    0x0008_002a,
    MANUFACTURER,
    INSTITUTION,
    STUDY_DESCRIPTION,
    SERIES_DESCRIPTION,
];
/// The sequences of procedure codes and of anatomic regions, and what each of their items has.
const CODES: [u32; 2] = [0x0008_1032, 0x0008_2218];
const CODE: [u32; 2] = [CODE_VALUE, CODE_SCHEME];
/// Begins a change of the character set within a text.
const ESCAPE: u8 = 0x1b;

const ITEM: u32 = 0xfffe_e000;
const ITEM_END: u32 = 0xfffe_e00d;
const SEQUENCE_END: u32 = 0xfffe_e0dd;
const UNDEFINED: u32 = u32::MAX;

/// Value representations with a length of four bytes (PS3.5 table 7.1-1).
const LONG_FORM: [&[u8; 2]; 13] = [
    b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV",
];

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> (Vec<String>, Vec<Oddity>) {
        assert!(is_dicom(bytes));
        let mut found = Gathering::new();
        let mut oddities = Oddities::default();
        header(
            &mut Cursor::new(bytes),
            bytes.len() as u64,
            &mut found,
            &mut oddities,
        )
        .unwrap();
        let words = found
            .into_parts()
            .0
            .iter()
            .map(ToString::to_string)
            .collect();
        (words, oddities.first().to_vec())
    }

    fn explicit(tag: u32, kind: &[u8; 2], value: &[u8], big: bool) -> Vec<u8> {
        let order16 = |n: u16| {
            if big {
                n.to_be_bytes()
            } else {
                n.to_le_bytes()
            }
        };
        let order32 = |n: u32| {
            if big {
                n.to_be_bytes()
            } else {
                n.to_le_bytes()
            }
        };
        let mut out = Vec::new();
        out.extend(order16((tag >> 16) as u16));
        out.extend(order16(tag as u16));
        out.extend(kind);
        if LONG_FORM.contains(&kind) {
            out.extend([0, 0]);
            out.extend(order32(value.len() as u32));
        } else {
            out.extend(order16(value.len() as u16));
        }
        out.extend(value);
        out
    }

    fn implicit(tag: u32, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(((tag >> 16) as u16).to_le_bytes());
        out.extend((tag as u16).to_le_bytes());
        out.extend((value.len() as u32).to_le_bytes());
        out.extend(value);
        out
    }

    /// An opening with undefined length.
    fn undefined(tag: u32, kind: Option<&[u8; 2]>) -> Vec<u8> {
        let mut out = match kind {
            Some(kind) => explicit(tag, kind, &[], false),
            None => implicit(tag, &[]),
        };
        let len = out.len();
        out[len - 4..].fill(0xff);
        out
    }

    fn file(syntax: &str, data: &[Vec<u8>]) -> Vec<u8> {
        let mut out = vec![0; PREAMBLE_BYTES];
        out.extend(MAGIC);
        out.extend(explicit(0x0002_0000, b"UL", &[0; 4], false));
        out.extend(explicit(TRANSFER_SYNTAX, b"UI", syntax.as_bytes(), false));
        out.extend(data.concat());
        out
    }

    #[test]
    fn each_transfer_syntax_is_read() {
        let expected = ["dicom.modality|MR", "dicom.body-part|HEAD"];
        let (little, big) = (false, true);
        let data = |big| {
            [
                explicit(MODALITY, b"CS", b"MR", big),
                explicit(BODY_PART, b"CS", b"HEAD", big),
                explicit(PIXEL_DATA, b"OW", &[1; 30], big),
            ]
        };
        for (syntax, data) in [
            ("1.2.840.10008.1.2.1\0", data(little).to_vec()),
            ("1.2.840.10008.1.2.4.70", data(little).to_vec()),
            ("1.2.840.10008.1.2.2\0", data(big).to_vec()),
            (
                "1.2.840.10008.1.2\0",
                vec![implicit(MODALITY, b"MR"), implicit(BODY_PART, b"head")],
            ),
        ] {
            let (words, oddities) = read(&file(syntax, &data));
            assert_eq!(
                (words, oddities),
                (expected.map(str::to_owned).to_vec(), vec![]),
                "{syntax}"
            );
        }
        let deflated = file("1.2.840.10008.1.2.1.99", &[vec![0x78, 0x9c, 1, 2, 3]]);
        assert_eq!(read(&deflated), (vec![], vec![Oddity::DicomDeflated]));
    }

    #[test]
    fn sequences_of_undefined_length_are_passed_over_and_not_searched() {
        let data = [
            undefined(0x0008_1111, Some(b"SQ")),
            undefined(ITEM, None),
            explicit(MODALITY, b"CS", b"US", false),
            undefined(0x0008_1033, Some(b"UN")),
            implicit(ITEM, &[7; 12]),
            implicit(SEQUENCE_END, &[]),
            explicit(0x0008_1040, b"LO", b"x ", false),
            implicit(ITEM_END, &[]),
            implicit(ITEM, &[9; 8]),
            implicit(SEQUENCE_END, &[]),
            explicit(BODY_PART, b"CS", b"HEAD", false),
        ];
        let (words, oddities) = read(&file("1.2.840.10008.1.2.1\0", &data));
        assert_eq!(
            (words, oddities),
            (vec!["dicom.body-part|HEAD".to_owned()], vec![])
        );
    }

    fn item(content: &[Vec<u8>]) -> Vec<u8> {
        implicit(ITEM, &content.concat())
    }

    fn coded(value: &[u8], scheme: &[u8]) -> [Vec<u8>; 3] {
        [
            explicit(CODE_VALUE, b"SH", value, false),
            explicit(CODE_SCHEME, b"SH", scheme, false),
            explicit(0x0008_0104, b"LO", b"meaning ", false),
        ]
    }

    #[test]
    fn codes_and_descriptions_are_read() {
        let codes = [
            item(&coded(b"24725-4 ", b"LN")),
            item(&coded(b"X1", b"99L ")),
        ]
        .concat();
        let undefined_codes = [
            undefined(0x0008_2218, Some(b"SQ")),
            undefined(ITEM, None),
            coded(b"69536005", b"SCT ").concat(),
            implicit(ITEM_END, &[]),
            implicit(SEQUENCE_END, &[]),
        ];
        let data = [
            explicit(CHARACTER_SET, b"CS", b"ISO_IR 100", false),
            explicit(0x0008_0020, b"DA", b"20240615", false),
            explicit(MANUFACTURER, b"LO", b"Maker ", false),
            explicit(INSTITUTION, b"LO", b"Klinik S\xfcd", false),
            explicit(STUDY_DESCRIPTION, b"LO", b"Sch\xe4del nativ", false),
            explicit(0x0008_1032, b"SQ", &codes, false),
            undefined_codes.concat(),
            explicit(BODY_PART, b"CS", b"HEAD", false),
        ];
        let bytes = file("1.2.840.10008.1.2.1\0", &data);
        let (words, oddities) = read(&bytes);
        assert_eq!(
            words,
            [
                "code|http://loinc.org|24725-4",
                "code|http://snomed.info/sct|69536005",
                "dicom.body-part|HEAD",
                "word|sch\u{e4}del",
                "word|nativ",
            ]
        );
        assert_eq!(oddities, []);
        let mut found = Gathering::new();
        header(
            &mut Cursor::new(&bytes),
            bytes.len() as u64,
            &mut found,
            &mut Oddities::default(),
        )
        .unwrap();
        let (_, _, description) = found.into_parts();
        assert_eq!(description.title.unwrap().as_str(), "Sch\u{e4}del nativ");
        assert_eq!(description.origin.unwrap().as_str(), "Klinik S\u{fc}d");
        assert_eq!(description.period.unwrap().first(), "2024-06-15");
    }

    #[test]
    fn the_records_of_a_directory_are_read() {
        let study = item(&[
            explicit(0x0004_1430, b"CS", b"STUDY ", false),
            explicit(STUDY_DESCRIPTION, b"LO", b"Head trauma ", false),
            explicit(0x0008_1032, b"SQ", &item(&coded(b"1", b"DCM ")), false),
        ]);
        let image = item(&[
            explicit(REFERENCED_SOP_CLASS, b"UI", b"1.2.3\0", false),
            explicit(MODALITY, b"CS", b"CT", false),
            explicit(0x0008_0016, b"UI", b"9.9\0", false),
        ]);
        let records = [study, image].concat();
        let directory = file(
            "1.2.840.10008.1.2.1\0",
            &[explicit(DIRECTORY_RECORDS, b"SQ", &records, false)],
        );
        let (words, oddities) = read(&directory);
        assert_eq!(
            words,
            [
                "code|http://dicom.nema.org/resources/ontology/DCM|1",
                "dicom.sop-class|1.2.3",
                "dicom.modality|CT",
                "word|head",
                "word|trauma",
            ]
        );
        assert_eq!(oddities, []);
        // A length beyond the file ends the walk, and what was read stays.
        let mut long = directory;
        let at = long.len() - records.len() - 4;
        long[at..at + 4].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
        assert!(matches!(read(&long).1[..], [Oddity::DicomTruncated { .. }]));
    }

    #[test]
    fn hostile_headers_end_in_an_oddity() {
        let meta_bytes = file("1.2.840.10008.1.2.1\0", &[]).len() as u64;
        let nested: Vec<Vec<u8>> = (0..100_000)
            .flat_map(|_| [undefined(0x0008_1032, Some(b"SQ")), undefined(ITEM, None)])
            .collect();
        let (_, oddities) = read(&file("1.2.840.10008.1.2.1\0", &nested));
        // 32 sequences of 12 bytes and 32 items of 8 bytes are open when the limit of 64 is met.
        assert_eq!(
            oddities,
            [Oddity::DicomUnreadable {
                at: meta_bytes + 32 * 20
            }]
        );

        let many = vec![explicit(0x0008_0001, b"LO", b"", false); DICOM_ELEMENTS_MAX + 1];
        let (_, oddities) = read(&file("1.2.840.10008.1.2.1\0", &many));
        assert!(matches!(oddities[..], [Oddity::DicomUnreadable { .. }]));

        let mut long = explicit(MODALITY, b"UT", b"", false);
        let len = long.len();
        long[len - 4..].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
        let (_, oddities) = read(&file("1.2.840.10008.1.2.1\0", &[long]));
        assert_eq!(oddities, [Oddity::DicomTruncated { at: meta_bytes }]);

        let wild = [
            vec![explicit(MODALITY, b"CS", &[b'A'; 80], false)],
            vec![explicit(MODALITY, b"CS", &[0xe1; 4], false)],
            vec![explicit(MODALITY, b"CS", b"C\nT", false)],
        ];
        for data in wild {
            let (words, oddities) = read(&file("1.2.840.10008.1.2.1\0", &data));
            assert_eq!(
                (words, oddities),
                (vec![], vec![Oddity::NoKeyword { at: meta_bytes }])
            );
        }
        let stray = [
            explicit(0x0008_0001, b"LO", b"", false),
            implicit(ITEM_END, &[]),
        ];
        let (words, oddities) = read(&file("1.2.840.10008.1.2.1\0", &stray));
        let odd = Oddity::DicomUnreadable { at: meta_bytes + 8 };
        assert_eq!((words, oddities), (vec![], vec![odd]));
    }

    #[test]
    fn an_implicit_data_set_under_an_explicit_name_is_read() {
        let data = [
            implicit(0x0008_0005, b"ISO_IR 100"),
            implicit(MODALITY, b"OT"),
        ];
        let (words, oddities) = read(&file("1.2.840.10008.1.2.4.50", &data));
        assert_eq!(
            (words, oddities),
            (
                vec!["dicom.modality|OT".to_owned()],
                vec![Oddity::DicomOtherSyntax]
            )
        );
    }

    #[test]
    fn the_preamble_may_be_missing() {
        let whole = file(
            "1.2.840.10008.1.2.1\0",
            &[explicit(MODALITY, b"CS", b"CT", false)],
        );
        let (words, oddities) = read(&whole[PREAMBLE_BYTES + MAGIC.len()..]);
        assert_eq!(
            (words, oddities),
            (vec!["dicom.modality|CT".into()], vec![Oddity::NoPreamble])
        );
    }

    proptest! {
        #[test]
        fn any_header_ends(
            data in proptest::collection::vec(any::<u8>(), 0..400),
            syntax in prop_oneof![
                Just("1.2.840.10008.1.2\0"), Just("1.2.840.10008.1.2.1\0"), Just("1.2.840.10008.1.2.2\0"),
            ],
            cut in 0usize..200,
        ) {
            let mut bytes = file(syntax, &[data]);
            bytes.truncate((bytes.len() - cut.min(bytes.len())).max(PREAMBLE_BYTES + MAGIC.len()));
            let (words, oddities) = read(&bytes);
            prop_assert!(words.len() <= 400 && oddities.len() <= 64);
        }
    }
}
