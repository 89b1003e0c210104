//! JPEG within DICOM (PS3.5 8.2.1 and annex A.4): a frame is one JPEG file, in one or several fragments.

use std::borrow::Cow;

use jpeg_decoder::{CodingProcess, ColorTransform, Decoder, PixelFormat};

/// Pixels of a frame, 4,096 by 4,096: a file of some hundred bytes can say any size, and several bytes are
/// taken for each pixel while it is decoded.
pub(crate) const PIXELS_OF_JPEG_MAX: usize = 1 << 24;

/// How a JPEG file begins.
const START: [u8; 2] = [0xff, 0xd8];

/// The JPEG file of a frame: it begins with a fragment that begins as such a file does, and goes on up to the
/// next one. `None` if there are not so many.
pub(crate) fn of_frame<'a>(fragments: &[&'a [u8]], frame: usize) -> Option<Cow<'a, [u8]>> {
    let mut begins = (0..fragments.len()).filter(|at| fragments[*at].starts_with(&START));
    let first = begins.nth(frame)?;
    let end = begins.next().unwrap_or(fragments.len());
    match &fragments[first..end] {
        [only] => Some(Cow::Borrowed(only)),
        several => Some(Cow::Owned(several.concat())),
    }
}

/// The pixels of a JPEG file of this width and height, as DICOM writes them uncompressed: samples of so many
/// bytes, the lower first, by pixel. `None` if it is damaged or something else than the header of the
/// data set says.
pub(crate) fn decode(
    file: &[u8],
    (width, height): (usize, usize),
    bytes: usize,
    samples: usize,
    luminance: bool,
) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new(file);
    decoder.read_info().ok()?;
    let info = decoder.info()?;
    let said = (usize::from(info.width), usize::from(info.height));
    let pixels = width.checked_mul(height)?;
    let fits = matches!(
        (info.pixel_format, samples, bytes),
        (PixelFormat::L8, 1, 1 | 2) | (PixelFormat::L16, 1, 2) | (PixelFormat::RGB24, 3, 1)
    );
    // The library leaves colours of the lossless process as they are.
    let untouched = luminance && info.coding_process == CodingProcess::Lossless;
    // Before anything is made of that size.
    if said != (width, height) || !fits || untouched {
        return None;
    }
    decoder.set_max_decoding_buffer_size(pixels.checked_mul(8)?);
    if samples == 3 {
        // The data set says what the colours are; a file of DICOM need not say it once more.
        decoder.set_color_transform(match luminance {
            true => ColorTransform::YCbCr,
            false => ColorTransform::RGB,
        });
    }
    let decoded = decoder.decode().ok()?;
    let written = match (info.pixel_format, samples, bytes) {
        (PixelFormat::L8, 1, 1) | (PixelFormat::RGB24, 3, 1) => decoded,
        (PixelFormat::L8, 1, 2) => decoded.iter().flat_map(|low| [*low, 0]).collect(),
        (PixelFormat::L16, 1, 2) => {
            let (values, _) = decoded.as_chunks::<2>();
            let little = values
                .iter()
                .flat_map(|value| u16::from_ne_bytes(*value).to_le_bytes());
            little.collect()
        }
        _ => return None,
    };
    (written.len() == pixels * samples * bytes).then_some(written)
}
