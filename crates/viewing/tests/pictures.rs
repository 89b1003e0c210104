//! How pixels are written, case by case, each computed by hand.

use viewing::{NotShown, Pictures, View, Window, view};

const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const BIG: &str = "1.2.840.10008.1.2.2";
const RUN_LENGTH: &str = "1.2.840.10008.1.2.5";

const SAMPLES: u32 = 0x0028_0002;
const PHOTOMETRIC: u32 = 0x0028_0004;
const PLANAR: u32 = 0x0028_0006;
const FRAMES: u32 = 0x0028_0008;
const STORED: u32 = 0x0028_0101;
const HIGH: u32 = 0x0028_0102;
const SIGNED: u32 = 0x0028_0103;
const CENTER: u32 = 0x0028_1050;
const WIDTH: u32 = 0x0028_1051;
const INTERCEPT: u32 = 0x0028_1052;
const SLOPE: u32 = 0x0028_1053;
const FUNCTION: u32 = 0x0028_1056;

/// Items and delimiters have no value representation.
const NONE: &[u8; 2] = b"  ";

/// Writes elements in one of the three uncompressed forms.
struct Writer {
    explicit: bool,
    big: bool,
    bytes: Vec<u8>,
}

impl Writer {
    fn u16(&mut self, value: u16) {
        let bytes = if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.bytes.extend(bytes);
    }

    fn u32(&mut self, value: u32) {
        let bytes = if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.bytes.extend(bytes);
    }

    fn element(&mut self, tag: u32, kind: &[u8; 2], length: u32, value: &[u8]) {
        self.u16((tag >> 16) as u16);
        self.u16(tag as u16);
        if !self.explicit || tag >> 16 == 0xfffe {
            self.u32(length);
        } else {
            self.bytes.extend(kind);
            if matches!(kind, b"OB" | b"OW" | b"SQ") {
                self.u16(0);
                self.u32(length);
            } else {
                self.u16(length as u16);
            }
        }
        self.bytes.extend(value);
    }

    fn short(&mut self, tag: u32, value: u16) {
        let bytes = if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.element(tag, b"US", 2, &bytes);
    }

    fn text(&mut self, tag: u32, kind: &[u8; 2], value: &str) {
        self.element(tag, kind, value.len() as u32, value.as_bytes());
    }
}

/// A file of 2 rows and 2 columns.
fn file(
    syntax: &str,
    bits: u16,
    shorts: &[(u32, u16)],
    texts: &[(u32, &str)],
    pixels: &[u8],
) -> Vec<u8> {
    let mut meta = Writer {
        explicit: true,
        big: false,
        bytes: vec![0; 128],
    };
    meta.bytes.extend(b"DICM");
    meta.text(0x0002_0010, b"UI", syntax);
    let mut data = Writer {
        explicit: syntax != IMPLICIT,
        big: syntax == BIG,
        bytes: meta.bytes,
    };
    data.short(0x0028_0010, 2);
    data.short(0x0028_0011, 2);
    data.short(0x0028_0100, bits);
    for (tag, value) in shorts {
        data.short(*tag, *value);
    }
    for (tag, value) in texts {
        data.text(
            *tag,
            if *tag == PHOTOMETRIC || *tag == FUNCTION {
                b"CS"
            } else {
                b"DS"
            },
            value,
        );
    }
    if syntax == RUN_LENGTH {
        data.element(0x7fe0_0010, b"OB", u32::MAX, &[]);
        data.element(0xfffe_e000, NONE, 0, &[]);
        data.element(0xfffe_e000, NONE, pixels.len() as u32, pixels);
        data.element(0xfffe_e0dd, NONE, 0, &[]);
    } else {
        data.element(0x7fe0_0010, b"OW", pixels.len() as u32, pixels);
    }
    data.bytes
}

fn pictures(bytes: &[u8]) -> Pictures<'_> {
    match view("application/dicom", bytes) {
        View::Pictures(pictures) => *pictures,
        other => panic!("{other:?}"),
    }
}

fn shown(bytes: &[u8], frame: usize, window: Option<Window>) -> Result<Vec<u8>, NotShown> {
    let png = pictures(bytes).png(frame, window)?;
    let decoder = png::Decoder::new(std::io::Cursor::new(png));
    let mut reader = decoder.read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a small one")];
    let info = reader.next_frame(&mut pixels).expect("with pixels");
    pixels.truncate(info.buffer_size());
    Ok(pixels)
}

#[test]
fn greys_go_from_least_to_greatest_without_a_window() {
    let bytes = file(EXPLICIT, 8, &[], &[], &[10, 20, 30, 40]);
    assert_eq!(shown(&bytes, 0, None).unwrap(), [0, 85, 170, 255]);
    let inverted = file(
        EXPLICIT,
        8,
        &[],
        &[(PHOTOMETRIC, "MONOCHROME1 ")],
        &[10, 20, 30, 40],
    );
    assert_eq!(shown(&inverted, 0, None).unwrap(), [255, 170, 85, 0]);
    let flat = file(EXPLICIT, 8, &[], &[], &[7; 4]);
    assert_eq!(shown(&flat, 0, None).unwrap(), [0; 4]);
}

#[test]
fn every_order_of_bytes_gives_the_same_values() {
    let little = [0x2c, 0x01, 0x58, 0x02, 0x84, 0x03, 0xb0, 0x04];
    let big = [0x01, 0x2c, 0x02, 0x58, 0x03, 0x84, 0x04, 0xb0];
    for (syntax, pixels) in [(IMPLICIT, little), (EXPLICIT, little), (BIG, big)] {
        let bytes = file(
            syntax,
            16,
            &[],
            &[(SLOPE, "2 "), (INTERCEPT, "-100")],
            &pixels,
        );
        let pictures = pictures(&bytes);
        let values =
            [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(row, column)| pictures.value(0, row, column));
        assert_eq!(
            values,
            [Some(500.0), Some(1100.0), Some(1700.0), Some(2300.0)],
            "{syntax}"
        );
        assert_eq!(pictures.value(0, 2, 0), None);
        assert_eq!(shown(&bytes, 0, None).unwrap(), [0, 85, 170, 255]);
    }
}

#[test]
fn bits_that_are_not_stored_are_not_looked_at() {
    // 12 bits of 16: fff is -1 if signed, whatever stands above.
    let pixels = [0xff, 0x0f, 0xff, 0xff, 0x00, 0x08, 0xff, 0x07];
    let signed = file(
        EXPLICIT,
        16,
        &[(STORED, 12), (HIGH, 11), (SIGNED, 1)],
        &[],
        &pixels,
    );
    let values = |bytes: &[u8]| {
        let pictures = pictures(bytes);
        [(0, 0), (0, 1), (1, 0), (1, 1)]
            .map(|(row, column)| pictures.value(0, row, column).unwrap())
    };
    assert_eq!(values(&signed), [-1.0, -1.0, -2048.0, 2047.0]);
    let unsigned = file(
        EXPLICIT,
        16,
        &[(STORED, 12), (HIGH, 11), (SIGNED, 0)],
        &[],
        &pixels,
    );
    assert_eq!(values(&unsigned), [4095.0, 4095.0, 2048.0, 2047.0]);
    // Stored in the upper 12 bits.
    let upper = file(
        EXPLICIT,
        16,
        &[(STORED, 12), (HIGH, 15)],
        &[],
        &[0x1f, 0x00, 0xf0, 0xff, 0, 0, 0, 0],
    );
    assert_eq!(values(&upper), [1.0, 4095.0, 0.0, 0.0]);
    let nonsense = file(EXPLICIT, 16, &[(STORED, 17)], &[], &pixels);
    assert_eq!(shown(&nonsense, 0, None), Err(NotShown::Layout));
}

#[test]
fn windows_follow_the_standard() {
    let window = [(CENTER, "2048\\1"), (WIDTH, "4096\\2")];
    // PS3.3 C.11.2.1.2.1 has this window as its example: 0 to 4095 onto the whole range.
    let pixels = [0, 0, 0xff, 0x0f, 0x00, 0x08, 0x01, 0x00];
    let bytes = file(EXPLICIT, 16, &[], &window, &pixels);
    // ((2048 - 2047.5) / 4095 + 0.5) * 255 = 127.53.
    assert_eq!(shown(&bytes, 0, None).unwrap(), [0, 255, 128, 0]);
    let narrow = Window {
        center: 1.0,
        width: 1.0,
    };
    // A window of one value: at most c - 0.5 is black, above it white.
    assert_eq!(shown(&bytes, 0, Some(narrow)).unwrap(), [0, 255, 255, 255]);
    let exact = [window[0], window[1], (FUNCTION, "LINEAR_EXACT")];
    // ((4095 - 2048) / 4096 + 0.5) * 255 = 254.94; (1 / 4096) * 255 = 0.06.
    let bytes = file(EXPLICIT, 16, &[], &exact, &pixels);
    assert_eq!(shown(&bytes, 0, None).unwrap(), [0, 255, 128, 0]);
    let sigmoid = [window[0], window[1], (FUNCTION, "SIGMOID ")];
    // 255 / (1 + e^2) = 30.40; at the centre 127.5.
    let bytes = file(EXPLICIT, 16, &[], &sigmoid, &pixels);
    assert_eq!(shown(&bytes, 0, None).unwrap(), [30, 225, 128, 30]);
    let nonsense = Window {
        center: f64::NAN,
        width: f64::INFINITY,
    };
    assert!(shown(&bytes, 0, Some(nonsense)).is_ok());
}

#[test]
fn colours_are_shown_by_pixel_and_by_plane() {
    let rgb = [(PHOTOMETRIC, "RGB ")];
    let by_pixel = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let bytes = file(EXPLICIT, 8, &[(SAMPLES, 3)], &rgb, &by_pixel);
    assert_eq!(shown(&bytes, 0, None).unwrap(), by_pixel);
    let by_plane = [1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12];
    let bytes = file(EXPLICIT, 8, &[(SAMPLES, 3), (PLANAR, 1)], &rgb, &by_plane);
    assert_eq!(shown(&bytes, 0, None).unwrap(), by_pixel);
    let other = file(
        EXPLICIT,
        8,
        &[(SAMPLES, 3)],
        &[(PHOTOMETRIC, "YBR_FULL")],
        &by_pixel,
    );
    assert_eq!(
        shown(&other, 0, None),
        Err(NotShown::Photometric("YBR_FULL".to_owned()))
    );
}

#[test]
fn run_lengths_are_decoded() {
    // Two segments: the upper bytes 1 1 1 2 as a run and a literal, the lower ones as a literal.
    let mut pixels = [2_u32, 64, 68].map(u32::to_le_bytes).concat();
    pixels.resize(64, 0);
    pixels.extend([0xfe, 1, 0, 2]);
    pixels.extend([3, 0, 1, 2, 3, 0x80]);
    let bytes = file(RUN_LENGTH, 16, &[], &[], &pixels);
    let pictures = pictures(&bytes);
    let values =
        [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(row, column)| pictures.value(0, row, column));
    assert_eq!(values, [Some(256.0), Some(257.0), Some(258.0), Some(515.0)]);
    let cut = file(RUN_LENGTH, 16, &[], &[], &pixels[..70]);
    assert_eq!(shown(&cut, 0, None), Err(NotShown::Incomplete));
}

#[test]
fn frames_have_their_own_windows() {
    let mut shared = Writer {
        explicit: true,
        big: false,
        bytes: Vec::new(),
    };
    let group = |writer: &mut Writer, tag: u32, undefined: bool, values: &[(u32, &str)]| {
        let mut inner = Writer {
            explicit: true,
            big: false,
            bytes: Vec::new(),
        };
        for (tag, value) in values {
            inner.text(*tag, b"DS", value);
        }
        if undefined {
            writer.element(tag, b"SQ", u32::MAX, &[]);
            writer.element(0xfffe_e000, NONE, u32::MAX, &inner.bytes);
            writer.element(0xfffe_e00d, NONE, 0, &[]);
            writer.element(0xfffe_e0dd, NONE, 0, &[]);
        } else {
            let length = inner.bytes.len() as u32;
            writer.element(tag, b"SQ", length + 8, &[]);
            writer.element(0xfffe_e000, NONE, length, &inner.bytes);
        }
    };
    group(
        &mut shared,
        0x0028_9145,
        true,
        &[(SLOPE, "3 "), (INTERCEPT, "0 ")],
    );
    let mut whole = Writer {
        explicit: true,
        big: false,
        bytes: Vec::new(),
    };
    whole.element(0x5200_9229, b"SQ", u32::MAX, &[]);
    whole.element(0xfffe_e000, NONE, shared.bytes.len() as u32, &shared.bytes);
    whole.element(0xfffe_e0dd, NONE, 0, &[]);
    let mut frames = Writer {
        explicit: true,
        big: false,
        bytes: Vec::new(),
    };
    for center in ["10", "20"] {
        let mut frame = Writer {
            explicit: true,
            big: false,
            bytes: Vec::new(),
        };
        group(
            &mut frame,
            0x0028_9132,
            false,
            &[(CENTER, center), (WIDTH, "8 ")],
        );
        frames.element(0xfffe_e000, NONE, frame.bytes.len() as u32, &frame.bytes);
    }
    whole.element(0x5200_9230, b"SQ", frames.bytes.len() as u32, &frames.bytes);

    let pixels = [0, 3, 5, 9, 0, 3, 5, 9];
    let mut bytes = file(EXPLICIT, 8, &[], &[(FRAMES, "2 ")], &pixels);
    let at = bytes.len() - pixels.len() - 12;
    bytes.splice(at..at, whole.bytes);
    let pictures = pictures(&bytes);
    assert_eq!(pictures.frames, 2);
    assert_eq!(
        pictures.window,
        Some(Window {
            center: 10.0,
            width: 8.0
        })
    );
    assert_eq!(pictures.value(1, 0, 1), Some(9.0));
    // ((9 - 9.5) / 7 + 0.5) * 255 = 109.29; the second frame's window begins at 16.
    assert_eq!(shown(&bytes, 0, None).unwrap(), [0, 109, 255, 255]);
    assert_eq!(shown(&bytes, 1, None).unwrap(), [0, 0, 0, 255]);
}

fn kept(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/");
    std::fs::read(format!("{folder}{name}")).expect("kept with the tests")
}

fn sample() -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/");
    std::fs::read(format!("{folder}secondary-hospital/ct-head/17106")).expect("a sample")
}

/// Another program's JPEG of a slice, in three fragments, has the values of the slice itself.
#[test]
fn a_lossless_jpeg_has_every_value_of_what_it_was_made_of() {
    let (compressed, plain) = (kept("ct-lossless.dcm"), sample());
    let (compressed, plain) = (pictures(&compressed), pictures(&plain));
    assert_eq!(compressed.transfer_syntax, "1.2.840.10008.1.2.4.70");
    let mut below_zero = 0;
    for row in 0..plain.rows {
        for column in 0..plain.columns {
            let value = plain.value(0, row, column);
            assert_eq!(compressed.value(0, row, column), value);
            below_zero += usize::from(value < Some(0.0));
        }
    }
    assert!(below_zero > 0, "values with a sign");
    assert_eq!(compressed.png(0, None), plain.png(0, None));
    assert_eq!(compressed.png(1, None), Err(NotShown::NoFrame));
}

#[test]
fn colours_of_a_baseline_jpeg_are_red_left_and_blue_right_and_turned_in_the_second_frame() {
    let bytes = kept("colour-baseline.dcm");
    let shown = pictures(&bytes);
    assert_eq!((shown.frames, shown.rows, shown.columns), (2, 48, 64));
    let corner = |frame, right: bool| {
        let file = shown.png(frame, None).expect("a frame");
        let mut reader = png::Decoder::new(std::io::Cursor::new(file))
            .read_info()
            .expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("small")];
        reader.next_frame(&mut pixels).expect("pixels");
        let at = if right { 63 * 3 } else { 0 };
        [pixels[at], pixels[at + 1], pixels[at + 2]]
    };
    for (frame, right, expected) in [
        (0, false, [200, 30, 30]),
        (0, true, [20, 60, 190]),
        (1, false, [20, 60, 190]),
        (1, true, [200, 30, 30]),
    ] {
        let found: [u8; 3] = corner(frame, right);
        let near = found
            .iter()
            .zip(expected)
            .all(|(one, other)| one.abs_diff(other) < 6);
        assert!(near, "{frame} {right}: {found:?}");
    }
}

/// The story: a picture's size stands twice, in the data set and in the JPEG file, and memory was taken for
/// the larger one; or a damaged file ended the program.
#[test]
fn attack_damage_a_jpeg_or_let_it_be_larger_than_its_header() {
    for name in ["ct-lossless.dcm", "colour-baseline.dcm"] {
        let whole = kept(name);
        for at in 0..whole.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= change;
                if let View::Pictures(pictures) = view("application/dicom", &damaged) {
                    for frame in 0..pictures.frames.min(3) {
                        let _ = pictures.png(frame, None);
                    }
                }
            }
            if let View::Pictures(pictures) = view("application/dicom", &whole[..at]) {
                let _ = pictures.png(0, None);
            }
        }
    }
    // The frame header says 65,535 by 65,535.
    let mut huge = kept("ct-lossless.dcm");
    let header = huge
        .windows(2)
        .rposition(|two| two == [0xff, 0xc3])
        .expect("a frame header");
    huge[header + 5..header + 9].copy_from_slice(&[0xff; 4]);
    assert_eq!(pictures(&huge).png(0, None), Err(NotShown::Incomplete));
    // Both say 8,192 by 8,192, and hardly a byte follows.
    let mut both = kept("ct-lossless.dcm");
    let header = both
        .windows(2)
        .rposition(|two| two == [0xff, 0xc3])
        .expect("a frame header");
    both[header + 5..header + 9].copy_from_slice(&[0x20, 0x00, 0x20, 0x00]);
    for tag in [[0x28, 0, 0x10, 0], [0x28, 0, 0x11, 0]] {
        let at = both.windows(4).position(|four| four == tag);
        let at = at.expect("rows and columns");
        both[at + 8..at + 10].copy_from_slice(&8_192u16.to_le_bytes());
    }
    let shown = pictures(&both);
    assert_eq!((shown.rows, shown.columns), (8_192, 8_192));
    assert_eq!(shown.png(0, None), Err(NotShown::TooLarge));
}
