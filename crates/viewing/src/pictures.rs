//! Pictures of a DICOM file: what the header says of them, and each frame as a PNG in the greys of a
//! window (PS3.3 C.11.2). Pixels are decoded only when a frame is asked for.
//!
//! Shown are uncompressed, run-length encoded, JPEG baseline and JPEG lossless pixels of 8 or 16 bits in
//! grey, and of 8 bits in colours. Anything else is [`NotShown`] with its reason; tables of values of interest
//! (0028,3010) are not applied.

use std::borrow::Cow;

use thiserror::Error;

use crate::dicom::{self, Header, PixelBytes};
use crate::jpeg;
use crate::limits::{FRAMES_MAX, PIXELS_MAX};
use crate::moment;

/// The pictures of a DICOM file, which keeps their pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Pictures<'a> {
    /// How many there are, at most 4,096.
    pub frames: usize,
    /// Height of a frame in pixels.
    pub rows: usize,
    /// Width of a frame in pixels.
    pub columns: usize,
    /// The window that the file proposes for its first frame, in the units of its values:
    /// Hounsfield units in computed tomography.
    pub window: Option<Window>,
    /// Modality, such as `CT`.
    pub modality: Option<String>,
    /// Body part, such as `HEAD`.
    pub body_part: Option<String>,
    /// Description of the study.
    pub study: Option<String>,
    /// Description of the series.
    pub series: Option<String>,
    /// Unique identifier of the series.
    pub series_uid: Option<String>,
    /// Number of the series in its study.
    pub series_number: Option<i64>,
    /// Number of the file in its series, by which slices are ordered.
    pub instance_number: Option<i64>,
    /// When the pictures were acquired, else when their series or study began. ISO 8601.
    pub acquired: Option<String>,
    /// Directions of the rows and columns, such as `L\P`.
    pub orientation: Option<String>,
    /// How the patient lay, such as `HFS`.
    pub position: Option<String>,
    /// Transfer syntax unique identifier.
    pub transfer_syntax: String,
    layout: Result<Layout, NotShown>,
    pixels: Option<PixelBytes<'a>>,
    /// Slope, intercept and window of each frame.
    greys: Vec<Greys>,
}

/// A window of values: those below it are black, those above it white.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// The value in its middle.
    pub center: f64,
    /// How many values it spans.
    pub width: f64,
}

/// Why a frame is not shown.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotShown {
    /// There is no such frame.
    #[error("there is no such frame")]
    NoFrame,
    /// The file has no pixels, or they were not granted.
    #[error("the file has no pixels")]
    NoPixels,
    /// The pixels of this frame are cut off or damaged.
    #[error("the pixels of this frame are incomplete")]
    Incomplete,
    /// The pixels are compressed in a way that is not read here.
    #[error("pixels of transfer syntax {0} are not read here")]
    TransferSyntax(String),
    /// The pixels are of colours or a palette that is not read here.
    #[error("pixels of the interpretation {0} are not read here")]
    Photometric(String),
    /// The header says nothing, or nonsense, about how a pixel is written.
    #[error("the header does not tell how a pixel is written")]
    Layout,
    /// Values go through a table that is not read here.
    #[error("values go through a table that is not read here")]
    Table,
    /// A frame has more than 64 Mi pixels, or 16 Mi as JPEG.
    #[error("a frame has more pixels than are shown here")]
    TooLarge,
}

/// How pixels are written (PS3.3 C.7.6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    pixels: usize,
    samples: usize,
    /// Bytes of one sample: 1 or 2.
    bytes: usize,
    stored: u32,
    high: u32,
    signed: bool,
    inverted: bool,
    by_plane: bool,
    big: bool,
    coding: Coding,
    /// Colours are luminance and two differences.
    luminance: bool,
    padding: Option<i32>,
}

/// How a frame's bytes are made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Native,
    RunLength,
    Jpeg,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Greys {
    slope: f64,
    intercept: f64,
    window: Option<Window>,
    function: Function,
}

/// PS3.3 C.11.2.1.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Linear,
    LinearExact,
    Sigmoid,
}

/// Reads a file; `None` if it is no DICOM file.
pub(crate) fn pictures(bytes: &[u8]) -> Option<Pictures<'_>> {
    let header = dicom::header(bytes)?;
    let rows = usize::from(header.short(dicom::ROWS).unwrap_or(0));
    let columns = usize::from(header.short(dicom::COLUMNS).unwrap_or(0));
    let frames = match header.number(0, dicom::FRAME_COUNT) {
        Some(count) if count >= 1.0 => (count as usize).min(FRAMES_MAX),
        _ => usize::from(rows > 0 && columns > 0),
    };
    let greys: Vec<Greys> = (0..frames).map(|frame| Greys::of(&header, frame)).collect();
    let integer = |tag| header.number(0, tag).map(|number| number as i64);
    Some(Pictures {
        frames,
        rows,
        columns,
        window: greys.first().and_then(|greys| greys.window),
        modality: header.text(dicom::MODALITY),
        body_part: header.text(dicom::BODY_PART),
        study: header.text(dicom::STUDY_DESCRIPTION),
        series: header.text(dicom::SERIES_DESCRIPTION),
        series_uid: header.text(dicom::SERIES_UID),
        series_number: integer(dicom::SERIES_NUMBER),
        instance_number: integer(dicom::INSTANCE_NUMBER),
        acquired: acquired(&header),
        orientation: header.text(dicom::PATIENT_ORIENTATION),
        position: header.text(dicom::PATIENT_POSITION),
        layout: Layout::of(&header, rows * columns),
        greys,
        transfer_syntax: header.syntax,
        pixels: header.pixels,
    })
}

impl Pictures<'_> {
    /// A frame, counted from 0, as a PNG of its own size: 8 bits of grey, or of red, green and blue.
    /// Without a window, greys go by the file's own window, else from the frame's least to its
    /// greatest value. Colours have no window.
    ///
    /// # Errors
    /// [`NotShown`].
    pub fn png(&self, frame: usize, window: Option<Window>) -> Result<Vec<u8>, NotShown> {
        let greys = self.greys.get(frame).ok_or(NotShown::NoFrame)?;
        let layout = self.layout.clone()?;
        let bytes = self.frame_bytes(frame, &layout)?;
        let (picture, color) = if layout.samples == 3 {
            (colours(&bytes, &layout), png::ColorType::Rgb)
        } else {
            (
                greys.shades(&bytes, &layout, window),
                png::ColorType::Grayscale,
            )
        };
        self.encode(&picture, color).ok_or(NotShown::Incomplete)
    }

    /// The value of a pixel of a grey frame in the units of the file, to be shown under a pointer.
    /// `None` if there is no such pixel or it is not read here. Run-length encoded frames are decoded
    /// anew for each call.
    pub fn value(&self, frame: usize, row: usize, column: usize) -> Option<f64> {
        let greys = self.greys.get(frame)?;
        let layout = self.layout.as_ref().ok()?;
        if layout.samples != 1 || row >= self.rows || column >= self.columns {
            return None;
        }
        let bytes = self.frame_bytes(frame, layout).ok()?;
        let at = (row * self.columns + column) * layout.bytes;
        let sample = bytes.get(at..at + layout.bytes)?;
        Some(greys.value(layout.stored_value(sample)))
    }

    /// The bytes of a frame, uncompressed, of exactly the length that the layout asks for.
    fn frame_bytes(&self, frame: usize, layout: &Layout) -> Result<Cow<'_, [u8]>, NotShown> {
        let length = layout.pixels * layout.samples * layout.bytes;
        match self.pixels.as_ref().ok_or(NotShown::NoPixels)? {
            PixelBytes::Native(bytes) => {
                if layout.coding != Coding::Native {
                    return Err(NotShown::Layout);
                }
                let begin = frame.checked_mul(length).ok_or(NotShown::Incomplete)?;
                let found = bytes.get(begin..).and_then(|rest| rest.get(..length));
                found.map(Cow::Borrowed).ok_or(NotShown::Incomplete)
            }
            PixelBytes::Fragments(fragments) => {
                let decoded = match layout.coding {
                    Coding::Native => {
                        return Err(NotShown::TransferSyntax(self.transfer_syntax.clone()));
                    }
                    Coding::RunLength => {
                        let fragment = fragments.get(frame).ok_or(NotShown::Incomplete)?;
                        run_lengths(fragment, layout)
                    }
                    Coding::Jpeg => {
                        let file = jpeg::of_frame(fragments, frame).ok_or(NotShown::Incomplete)?;
                        let size = (self.columns, self.rows);
                        jpeg::decode(&file, size, layout.bytes, layout.samples, layout.luminance)
                    }
                };
                decoded.map(Cow::Owned).ok_or(NotShown::Incomplete)
            }
        }
    }

    fn encode(&self, picture: &[u8], color: png::ColorType) -> Option<Vec<u8>> {
        let (width, height) = (
            u32::try_from(self.columns).ok()?,
            u32::try_from(self.rows).ok()?,
        );
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, width, height);
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header().ok()?;
        writer.write_image_data(picture).ok()?;
        writer.finish().ok()?;
        Some(out)
    }
}

/// Date and time of the acquisition, else of what it belongs to.
fn acquired(header: &Header<'_>) -> Option<String> {
    let whole = header
        .text(dicom::ACQUISITION_DATE_TIME)
        .and_then(|text| moment::iso(&text));
    whole.or_else(|| {
        let pairs = [
            (dicom::ACQUISITION_DATE, dicom::ACQUISITION_TIME),
            (dicom::CONTENT_DATE, dicom::CONTENT_TIME),
            (dicom::SERIES_DATE, dicom::SERIES_TIME),
            (dicom::STUDY_DATE, dicom::STUDY_TIME),
        ];
        pairs.iter().find_map(|(date, time)| {
            let date = header.text(*date)?;
            let time = header.text(*time).unwrap_or_default();
            moment::iso(&format!("{date}{time}"))
        })
    })
}

impl Layout {
    fn of(header: &Header<'_>, pixels: usize) -> Result<Self, NotShown> {
        let syntax = header.syntax.as_str();
        let coding = match syntax {
            dicom::IMPLICIT_LITTLE | dicom::EXPLICIT_LITTLE | dicom::EXPLICIT_BIG | "" => {
                Coding::Native
            }
            dicom::RLE => Coding::RunLength,
            dicom::JPEG_BASELINE => Coding::Jpeg,
            _ if dicom::JPEG_LOSSLESS.contains(&syntax) => Coding::Jpeg,
            _ => return Err(NotShown::TransferSyntax(syntax.to_owned())),
        };
        if pixels == 0 {
            return Err(NotShown::NoPixels);
        }
        let most = match coding {
            Coding::Jpeg => jpeg::PIXELS_OF_JPEG_MAX,
            _ => PIXELS_MAX,
        };
        if pixels > most {
            return Err(NotShown::TooLarge);
        }
        if header.has(dicom::MODALITY_TABLE) {
            return Err(NotShown::Table);
        }
        let samples = usize::from(header.short(dicom::SAMPLES).unwrap_or(1));
        let photometric = header.text(dicom::PHOTOMETRIC).unwrap_or_default();
        let inverted = match (photometric.as_str(), samples) {
            ("MONOCHROME1", 1) => true,
            ("MONOCHROME2" | "", 1) | ("RGB", 3) => false,
            // As JPEG keeps colours.
            ("YBR_FULL" | "YBR_FULL_422", 3) if syntax == dicom::JPEG_BASELINE => false,
            _ => return Err(NotShown::Photometric(photometric)),
        };
        let bits = header
            .short(dicom::BITS_ALLOCATED)
            .ok_or(NotShown::Layout)?;
        let stored = u32::from(header.short(dicom::BITS_STORED).unwrap_or(bits));
        let high = header
            .short(dicom::HIGH_BIT)
            .map_or(stored.wrapping_sub(1), u32::from);
        let fits =
            (1..=u32::from(bits)).contains(&stored) && high < u32::from(bits) && high + 1 >= stored;
        // In big endian order, bytes of a pixel each may come in swapped pairs; which, is not told.
        let swapped = header.big && bits == 8;
        if !fits || swapped || !matches!((bits, samples), (8, _) | (16, 1)) {
            return Err(NotShown::Layout);
        }
        let signed = header.short(dicom::REPRESENTATION) == Some(1);
        let padding = header.short(dicom::PADDING).map(|padding| {
            if signed {
                i32::from(padding.cast_signed())
            } else {
                i32::from(padding)
            }
        });
        Ok(Self {
            pixels,
            samples,
            bytes: usize::from(bits / 8),
            stored,
            high,
            signed,
            inverted,
            // JPEG has its own order.
            by_plane: header.short(dicom::PLANAR) == Some(1) && coding != Coding::Jpeg,
            big: header.big && coding == Coding::Native,
            coding,
            luminance: photometric.starts_with("YBR"),
            padding,
        })
    }

    /// The value that a sample's bits hold (PS3.5 section 8.1.1).
    fn stored_value(&self, sample: &[u8]) -> i32 {
        let raw = match *sample {
            [first, second] if self.big => u16::from_be_bytes([first, second]),
            [first, second] => u16::from_le_bytes([first, second]),
            [only] => u16::from(only),
            _ => 0,
        };
        let raw = i32::from(raw) >> (self.high + 1 - self.stored);
        let value = raw & ((1 << self.stored) - 1);
        if self.signed && value >> (self.stored - 1) == 1 {
            value - (1 << self.stored)
        } else {
            value
        }
    }
}

impl Greys {
    fn of(header: &Header<'_>, frame: usize) -> Self {
        let number = |tag| header.number(frame, tag);
        let window = match (number(dicom::WINDOW_CENTER), number(dicom::WINDOW_WIDTH)) {
            (Some(center), Some(width)) if width > 0.0 => Some(Window { center, width }),
            _ => None,
        };
        let function = header
            .for_frame(frame, dicom::WINDOW_FUNCTION)
            .unwrap_or_default();
        Self {
            slope: number(dicom::SLOPE)
                .filter(|slope| *slope != 0.0)
                .unwrap_or(1.0),
            intercept: number(dicom::INTERCEPT).unwrap_or(0.0),
            window,
            function: match function.trim_ascii() {
                b"LINEAR_EXACT" => Function::LinearExact,
                b"SIGMOID" => Function::Sigmoid,
                _ => Function::Linear,
            },
        }
    }

    /// The modality's value of a stored one (PS3.3 C.11.1).
    fn value(&self, stored: i32) -> f64 {
        f64::from(stored) * self.slope + self.intercept
    }

    /// One byte of grey for each pixel.
    fn shades(&self, bytes: &[u8], layout: &Layout, window: Option<Window>) -> Vec<u8> {
        let asked = window.filter(|window| window.center.is_finite() && window.width.is_finite());
        let window = asked
            .or(self.window)
            .unwrap_or_else(|| self.range(bytes, layout));
        let shade = |stored| {
            let shade = self.function.shade(self.value(stored), window);
            if layout.inverted { 255 - shade } else { shade }
        };
        // A table of all values there can be: at most 65,536, and often fewer than there are pixels.
        let least = if layout.signed {
            -(1 << (layout.stored - 1))
        } else {
            0
        };
        let table: Vec<u8> = (least..least + (1 << layout.stored)).map(shade).collect();
        let samples = bytes.chunks_exact(layout.bytes);
        let place = |sample| usize::try_from(layout.stored_value(sample) - least).unwrap_or(0);
        samples
            .map(|sample| table.get(place(sample)).copied().unwrap_or(0))
            .collect()
    }

    /// From the least to the greatest value of a frame, padding left out.
    fn range(&self, bytes: &[u8], layout: &Layout) -> Window {
        let values = bytes
            .chunks_exact(layout.bytes)
            .map(|sample| layout.stored_value(sample));
        let mut least = None;
        let mut greatest = None;
        for value in values.filter(|value| layout.padding != Some(*value)) {
            least = Some(least.map_or(value, |least: i32| least.min(value)));
            greatest = Some(greatest.map_or(value, |greatest: i32| greatest.max(value)));
        }
        let (one, other) = (
            self.value(least.unwrap_or(0)),
            self.value(greatest.unwrap_or(0)),
        );
        Window {
            center: f64::midpoint(one, other) + 0.5,
            width: (one - other).abs() + 1.0,
        }
    }
}

impl Function {
    /// The grey of a value: PS3.3 C.11.2.1.2.1, C.11.2.1.3.2 and C.11.2.1.3.1.
    fn shade(self, x: f64, window: Window) -> u8 {
        let Window {
            center: c,
            width: w,
        } = window;
        let part = match self {
            Self::Linear => {
                let w = w.max(1.0);
                if x <= c - 0.5 - (w - 1.0) / 2.0 {
                    0.0
                } else if x > c - 0.5 + (w - 1.0) / 2.0 {
                    1.0
                } else {
                    (x - (c - 0.5)) / (w - 1.0) + 0.5
                }
            }
            Self::LinearExact => {
                let w = w.max(f64::MIN_POSITIVE);
                ((x - c) / w + 0.5).clamp(0.0, 1.0)
            }
            Self::Sigmoid => 1.0 / (1.0 + (-4.0 * (x - c) / w.max(f64::MIN_POSITIVE)).exp()),
        };
        // A float that is no number becomes 0.
        (part * 255.0).round() as u8
    }
}

/// Red, green and blue of each pixel in turn.
fn colours(bytes: &[u8], layout: &Layout) -> Vec<u8> {
    if !layout.by_plane || layout.coding == Coding::RunLength {
        return bytes.to_vec();
    }
    let (red, rest) = bytes.split_at(layout.pixels.min(bytes.len()));
    let (green, blue) = rest.split_at(layout.pixels.min(rest.len()));
    let pixels = red.iter().zip(green).zip(blue);
    pixels
        .flat_map(|((red, green), blue)| [*red, *green, *blue])
        .collect()
}

/// Decodes a frame of the run-length transfer syntax (PS3.5 annex G): one segment for each byte of a
/// pixel, the most significant first. The samples come out pixel by pixel, little endian.
fn run_lengths(fragment: &[u8], layout: &Layout) -> Option<Vec<u8>> {
    let word = |place: usize| {
        let bytes = fragment.get(place * 4..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    let stride = layout.samples * layout.bytes;
    if word(0)? != stride || stride > RUN_SEGMENTS_MAX {
        return None;
    }
    // Two bytes give at most 128, so nothing is allocated for pixels that cannot be there.
    if fragment.len().saturating_mul(64) < layout.pixels * stride {
        return None;
    }
    let mut out = vec![0; layout.pixels * stride];
    for segment in 0..stride {
        let begin = word(1 + segment)?;
        let end = if segment + 1 < stride {
            word(2 + segment)?
        } else {
            fragment.len()
        };
        let (sample, byte) = (segment / layout.bytes, segment % layout.bytes);
        let offset = sample * layout.bytes + (layout.bytes - 1 - byte);
        let mut places = out.get_mut(offset..)?.iter_mut().step_by(stride);
        let mut runs = fragment.get(begin..end)?;
        let mut missing = layout.pixels;
        while missing > 0 {
            let (&head, rest) = runs.split_first()?;
            let count;
            match head {
                0..=127 => {
                    count = usize::from(head) + 1;
                    for byte in rest.get(..count)?.iter().take(missing) {
                        *places.next()? = *byte;
                    }
                    runs = rest.get(count..)?;
                }
                128 => {
                    count = 0;
                    runs = rest;
                }
                129..=255 => {
                    count = 257 - usize::from(head);
                    let (byte, behind) = rest.split_first()?;
                    for _ in 0..count.min(missing) {
                        *places.next()? = *byte;
                    }
                    runs = behind;
                }
            }
            missing -= count.min(missing);
        }
    }
    Some(out)
}

/// The header of a run-length encoded frame has room for this many segments.
const RUN_SEGMENTS_MAX: usize = 15;
