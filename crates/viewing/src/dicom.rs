//! The header of a DICOM file (PS3.10) in memory. The walk never recurses and never allocates by a
//! length that the file names: `dicom-object` 0.10 does both, so no general library reads these
//! untrusted bytes.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::limits::{ELEMENTS_MAX, FRAMES_MAX, SEQUENCES_MAX};

/// What was found before the walk ended, at the pixel data or where the file cannot be read on.
#[derive(Debug, Default)]
pub(crate) struct Header<'a> {
    /// Values of the outermost data set.
    values: BTreeMap<u32, &'a [u8]>,
    /// Values that all frames share, and those of each frame (PS3.3 C.7.6.16).
    shared: BTreeMap<u32, &'a [u8]>,
    frames: Vec<BTreeMap<u32, &'a [u8]>>,
    pub(crate) pixels: Option<PixelBytes<'a>>,
    pub(crate) big: bool,
    pub(crate) syntax: String,
}

/// The value of the pixel data element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PixelBytes<'a> {
    /// Frame behind frame.
    Native(&'a [u8]),
    /// The fragments of a compressed transfer syntax, without the offset table.
    Fragments(Vec<&'a [u8]>),
}

/// Whether a file begins as a DICOM file does, with or without its preamble.
pub(crate) fn is_dicom(bytes: &[u8]) -> bool {
    begin(bytes).is_some()
}

fn begin(bytes: &[u8]) -> Option<usize> {
    if bytes.get(PREAMBLE_BYTES..)?.starts_with(MAGIC) {
        return Some(PREAMBLE_BYTES + MAGIC.len());
    }
    bytes.starts_with(&META_BEGIN).then_some(0)
}

/// Reads a header; `None` if the bytes are no DICOM file.
pub(crate) fn header(bytes: &[u8]) -> Option<Header<'_>> {
    let mut walk = Walk {
        bytes,
        at: begin(bytes)?,
        form: Form::EXPLICIT_LITTLE,
        open: Vec::new(),
        header: Header::default(),
    };
    // What was read before an unreadable place is shown.
    let _ = walk.whole();
    Some(walk.header)
}

impl<'a> Header<'a> {
    /// A value for a frame: its own, else the one that all share, else the outermost.
    pub(crate) fn for_frame(&self, frame: usize, tag: u32) -> Option<&'a [u8]> {
        let own = self.frames.get(frame).and_then(|values| values.get(&tag));
        let found = own
            .or_else(|| self.shared.get(&tag))
            .or_else(|| self.values.get(&tag));
        found.copied()
    }

    pub(crate) fn has(&self, tag: u32) -> bool {
        self.values.contains_key(&tag)
    }

    /// An unsigned short (US).
    pub(crate) fn short(&self, tag: u32) -> Option<u16> {
        let bytes = self.values.get(&tag)?.first_chunk::<2>()?;
        Some(if self.big {
            u16::from_be_bytes(*bytes)
        } else {
            u16::from_le_bytes(*bytes)
        })
    }

    /// The first value of a number text (DS, IS).
    pub(crate) fn number(&self, frame: usize, tag: u32) -> Option<f64> {
        let text = std::str::from_utf8(self.for_frame(frame, tag)?).ok()?;
        let first = text.split('\\').next()?.trim_matches([' ', '\0']);
        first.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// A text, by the character set that the file names as far as it is UTF-8 or Latin-1.
    pub(crate) fn text(&self, tag: u32) -> Option<String> {
        let bytes = self.values.get(&tag)?;
        let set = self.values.get(&CHARACTER_SET).copied().unwrap_or_default();
        let latin = set.starts_with(b"ISO_IR 100") || set.starts_with(b"ISO 2022 IR 100");
        let text = match std::str::from_utf8(bytes) {
            Err(_) if latin => bytes.iter().map(|byte| char::from(*byte)).collect(),
            _ => String::from_utf8_lossy(bytes).into_owned(),
        };
        crate::words::words(text.trim_matches(['\0', ' ']))
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    form: Form,
    open: Vec<Open>,
    header: Header<'a>,
}

/// A sequence or an item that is open.
struct Open {
    tag: u32,
    is_item: bool,
    /// `None` if its length is undefined.
    end: Option<usize>,
    /// The form to return to at its end.
    outside: Form,
}

impl<'a> Walk<'a> {
    /// `None` where the file cannot be read on.
    fn whole(&mut self) -> Option<()> {
        let mut in_meta = true;
        for _ in 0..ELEMENTS_MAX {
            self.close_ended();
            if self.at >= self.bytes.len() {
                return Some(());
            }
            // Group 0002 is always explicit little endian.
            if in_meta && self.bytes.get(self.at..self.at + 2)? != [2, 0] {
                in_meta = false;
                self.begin_data()?;
            }
            let element = self.element()?;
            if self.open.is_empty() && element.tag == PIXEL_DATA {
                return self.pixel_data(&element);
            }
            self.step(&element)?;
        }
        None
    }

    fn close_ended(&mut self) {
        while let Some(open) = self.open.last()
            && open.end.is_some_and(|end| self.at >= end)
        {
            self.form = open.outside;
            self.open.pop();
        }
    }

    fn begin_data(&mut self) -> Option<()> {
        let syntax = self.header.text(TRANSFER_SYNTAX).unwrap_or_default();
        self.form = match syntax.as_str() {
            IMPLICIT_LITTLE | "" => Form::IMPLICIT_LITTLE,
            EXPLICIT_BIG => Form::EXPLICIT_BIG,
            _ => Form::EXPLICIT_LITTLE,
        };
        // Some senders name an explicit syntax and write the implicit one.
        let kind = self.bytes.get(self.at + 4..self.at + 6)?;
        if self.form.explicit && !kind.iter().all(u8::is_ascii_uppercase) {
            self.form = Form::IMPLICIT_LITTLE;
        }
        self.header.big = self.form.big;
        let deflated = syntax == DEFLATED;
        self.header.syntax = syntax;
        (!deflated).then_some(())
    }

    /// The next element's tag and length (PS3.5 section 7.1).
    fn element(&mut self) -> Option<Element> {
        let group = self.u16()?;
        let number = self.u16()?;
        let tag = u32::from(group) << 16 | u32::from(number);
        if !self.form.explicit || group == 0xfffe {
            let length = self.u32()?;
            return Some(Element {
                tag,
                kind: None,
                length,
            });
        }
        let kind = *self.bytes.get(self.at..)?.first_chunk::<2>()?;
        self.at += 2;
        if !kind.iter().all(u8::is_ascii_uppercase) {
            return None;
        }
        let length = if LONG_FORM.contains(&&kind) {
            self.u16()?;
            self.u32()?
        } else {
            u32::from(self.u16()?)
        };
        Some(Element {
            tag,
            kind: Some(kind),
            length,
        })
    }

    /// Keeps, enters, leaves or passes over an element.
    fn step(&mut self, element: &Element) -> Option<()> {
        let within = self.open.last();
        match element.tag {
            ITEM => {
                let sequence = within.filter(|open| !open.is_item)?.tag;
                return self.item(element, sequence);
            }
            ITEM_END | SEQUENCE_END => {
                let open = within.filter(|open| open.is_item == (element.tag == ITEM_END))?;
                self.form = open.outside;
                self.open.pop();
                return Some(());
            }
            _ if within.is_some_and(|open| !open.is_item) => return None,
            _ => {}
        }
        let undefined = element.length == UNDEFINED;
        if undefined || ENTERED.contains(&element.tag) {
            let end = if undefined {
                None
            } else {
                Some(self.end_of(element.length)?)
            };
            let outside = self.form;
            // PS3.5 section 6.2.2: an unknown element of undefined length is implicit inside.
            if element.kind == Some(*b"UN") {
                self.form = Form::IMPLICIT_LITTLE;
            }
            return self.enter(Open {
                tag: element.tag,
                is_item: false,
                end,
                outside,
            });
        }
        let value = self.value(element.length)?;
        match self.open.first().map(|outermost| outermost.tag) {
            None if WANTED.contains(&element.tag) => {
                self.header.values.insert(element.tag, value);
            }
            Some(SHARED) if PER_FRAME.contains(&element.tag) => {
                self.header.shared.insert(element.tag, value);
            }
            Some(FRAMES) if PER_FRAME.contains(&element.tag) => {
                if let Some(frame) = self.header.frames.last_mut() {
                    frame.insert(element.tag, value);
                }
            }
            _ => {}
        }
        Some(())
    }

    fn item(&mut self, element: &Element, sequence: u32) -> Option<()> {
        if sequence == FRAMES && self.open.len() == 1 {
            if self.header.frames.len() >= FRAMES_MAX {
                return None;
            }
            self.header.frames.push(BTreeMap::new());
        }
        if element.length != UNDEFINED && !ENTERED.contains(&sequence) {
            return self.value(element.length).map(|_| ());
        }
        let end = if element.length == UNDEFINED {
            None
        } else {
            Some(self.end_of(element.length)?)
        };
        let outside = self.form;
        self.enter(Open {
            tag: ITEM,
            is_item: true,
            end,
            outside,
        })
    }

    fn enter(&mut self, open: Open) -> Option<()> {
        if self.open.len() >= SEQUENCES_MAX {
            return None;
        }
        self.open.push(open);
        Some(())
    }

    fn pixel_data(&mut self, element: &Element) -> Option<()> {
        if element.length != UNDEFINED {
            // Of pixel data that is cut, the frames that are there are shown.
            let end = self
                .at
                .saturating_add(element.length as usize)
                .min(self.bytes.len());
            self.header.pixels = self.bytes.get(self.at..end).map(PixelBytes::Native);
            return Some(());
        }
        let mut fragments = Vec::new();
        let mut is_table = true;
        while let Some(item) = self.element()
            && item.tag == ITEM
            && let Some(fragment) = self.value(item.length)
            && fragments.len() < FRAGMENTS_MAX
        {
            if !is_table {
                fragments.push(fragment);
            }
            is_table = false;
        }
        self.header.pixels = Some(PixelBytes::Fragments(fragments));
        Some(())
    }

    fn end_of(&self, length: u32) -> Option<usize> {
        let end = self.at.checked_add(length as usize)?;
        (end <= self.bytes.len()).then_some(end)
    }

    fn value(&mut self, length: u32) -> Option<&'a [u8]> {
        let value: Range<usize> = self.at..self.end_of(length)?;
        self.at = value.end;
        self.bytes.get(value)
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at += 2;
        Some(if self.form.big {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        })
    }

    fn u32(&mut self) -> Option<u32> {
        let bytes = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at += 4;
        Some(if self.form.big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }
}

struct Element {
    tag: u32,
    /// The value representation; `None` where the encoding has none.
    kind: Option<[u8; 2]>,
    length: u32,
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

pub(crate) const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
pub(crate) const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
pub(crate) const EXPLICIT_BIG: &str = "1.2.840.10008.1.2.2";
pub(crate) const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
pub(crate) const RLE: &str = "1.2.840.10008.1.2.5";
pub(crate) const JPEG_BASELINE: &str = "1.2.840.10008.1.2.4.50";
/// With any predictor, and with the first one (PS3.5 A.4.1).
pub(crate) const JPEG_LOSSLESS: [&str; 2] = ["1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"];

pub(crate) const TRANSFER_SYNTAX: u32 = 0x0002_0010;
const CHARACTER_SET: u32 = 0x0008_0005;
pub(crate) const STUDY_DATE: u32 = 0x0008_0020;
pub(crate) const SERIES_DATE: u32 = 0x0008_0021;
pub(crate) const ACQUISITION_DATE: u32 = 0x0008_0022;
pub(crate) const CONTENT_DATE: u32 = 0x0008_0023;
pub(crate) const ACQUISITION_DATE_TIME: u32 = 0x0008_002a;
pub(crate) const STUDY_TIME: u32 = 0x0008_0030;
pub(crate) const SERIES_TIME: u32 = 0x0008_0031;
pub(crate) const ACQUISITION_TIME: u32 = 0x0008_0032;
pub(crate) const CONTENT_TIME: u32 = 0x0008_0033;
pub(crate) const MODALITY: u32 = 0x0008_0060;
pub(crate) const STUDY_DESCRIPTION: u32 = 0x0008_1030;
pub(crate) const SERIES_DESCRIPTION: u32 = 0x0008_103e;
pub(crate) const BODY_PART: u32 = 0x0018_0015;
pub(crate) const PATIENT_POSITION: u32 = 0x0018_5100;
pub(crate) const SERIES_UID: u32 = 0x0020_000e;
pub(crate) const SERIES_NUMBER: u32 = 0x0020_0011;
pub(crate) const INSTANCE_NUMBER: u32 = 0x0020_0013;
pub(crate) const PATIENT_ORIENTATION: u32 = 0x0020_0020;
pub(crate) const SAMPLES: u32 = 0x0028_0002;
pub(crate) const PHOTOMETRIC: u32 = 0x0028_0004;
pub(crate) const PLANAR: u32 = 0x0028_0006;
pub(crate) const FRAME_COUNT: u32 = 0x0028_0008;
pub(crate) const ROWS: u32 = 0x0028_0010;
pub(crate) const COLUMNS: u32 = 0x0028_0011;
pub(crate) const BITS_ALLOCATED: u32 = 0x0028_0100;
pub(crate) const BITS_STORED: u32 = 0x0028_0101;
pub(crate) const HIGH_BIT: u32 = 0x0028_0102;
pub(crate) const REPRESENTATION: u32 = 0x0028_0103;
pub(crate) const PADDING: u32 = 0x0028_0120;
pub(crate) const WINDOW_CENTER: u32 = 0x0028_1050;
pub(crate) const WINDOW_WIDTH: u32 = 0x0028_1051;
pub(crate) const INTERCEPT: u32 = 0x0028_1052;
pub(crate) const SLOPE: u32 = 0x0028_1053;
pub(crate) const WINDOW_FUNCTION: u32 = 0x0028_1056;
pub(crate) const MODALITY_TABLE: u32 = 0x0028_3000;
const FRAME_WINDOW: u32 = 0x0028_9132;
const FRAME_TRANSFORMATION: u32 = 0x0028_9145;
const SHARED: u32 = 0x5200_9229;
const FRAMES: u32 = 0x5200_9230;
const PIXEL_DATA: u32 = 0x7fe0_0010;

const ITEM: u32 = 0xfffe_e000;
const ITEM_END: u32 = 0xfffe_e00d;
const SEQUENCE_END: u32 = 0xfffe_e0dd;
const UNDEFINED: u32 = u32::MAX;

const WANTED: [u32; 38] = [
    TRANSFER_SYNTAX,
    CHARACTER_SET,
    STUDY_DATE,
    SERIES_DATE,
    ACQUISITION_DATE,
    CONTENT_DATE,
    ACQUISITION_DATE_TIME,
    STUDY_TIME,
    SERIES_TIME,
    ACQUISITION_TIME,
    CONTENT_TIME,
    MODALITY,
    STUDY_DESCRIPTION,
    SERIES_DESCRIPTION,
    BODY_PART,
    PATIENT_POSITION,
    SERIES_UID,
    SERIES_NUMBER,
    INSTANCE_NUMBER,
    PATIENT_ORIENTATION,
    SAMPLES,
    PHOTOMETRIC,
    PLANAR,
    FRAME_COUNT,
    ROWS,
    COLUMNS,
    BITS_ALLOCATED,
    BITS_STORED,
    HIGH_BIT,
    REPRESENTATION,
    PADDING,
    WINDOW_CENTER,
    WINDOW_WIDTH,
    INTERCEPT,
    SLOPE,
    WINDOW_FUNCTION,
    MODALITY_TABLE,
    PIXEL_DATA,
];
/// What may differ from frame to frame.
const PER_FRAME: [u32; 5] = [
    WINDOW_CENTER,
    WINDOW_WIDTH,
    INTERCEPT,
    SLOPE,
    WINDOW_FUNCTION,
];
/// Sequences that are looked into even if their length would allow to pass over them.
const ENTERED: [u32; 4] = [SHARED, FRAMES, FRAME_WINDOW, FRAME_TRANSFORMATION];

const PREAMBLE_BYTES: usize = 128;
const MAGIC: &[u8] = b"DICM";
/// (0002,0000) UL with length 4, with which group 0002 begins.
const META_BEGIN: [u8; 8] = [2, 0, 0, 0, b'U', b'L', 4, 0];
/// Fragments of compressed pixel data: 16 for each frame.
const FRAGMENTS_MAX: usize = 16 * FRAMES_MAX;

/// Value representations with a length of four bytes (PS3.5 table 7.1-1).
const LONG_FORM: [&[u8; 2]; 13] = [
    b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV",
];
