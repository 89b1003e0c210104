//! Codes that go from one person's screen to another's: as a picture, and the one by which a stay begins.

use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use scheme::{DoctorId, InstitutionId, Uid};
use workstation::{WorkError, uid_from_text};

/// A QR code as an SVG without a name, whose modules are dark on white in every mode.
pub(crate) fn qr(text: &str) -> String {
    // Hexadecimal digits are shorter in capitals: the code's alphanumeric mode has no small letters.
    let text = text.to_ascii_uppercase();
    match QrCode::with_error_correction_level(text.as_bytes(), EcLevel::M) {
        Ok(code) => code
            .render::<svg::Color<'_>>()
            .min_dimensions(240, 240)
            .dark_color(svg::Color("#000"))
            .light_color(svg::Color("#fff"))
            .build()
            .replace("<?xml version=\"1.0\" standalone=\"yes\"?>", ""),
        Err(_) => String::new(),
    }
}

/// What a doctor shows a patient who begins an episode: hospital, UID and doctor.
pub(crate) fn begin_code(text: &str) -> Result<(InstitutionId, Uid, DoctorId), WorkError> {
    let parse = || {
        let mut parts = text.trim().split('-');
        let institution = parts.next()?.parse().ok()?;
        let uid = uid_from_text(parts.next()?).ok()?;
        let doctor = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(())?;
        Some((InstitutionId::new(institution), uid, DoctorId::new(doctor)))
    };
    parse().ok_or_else(|| {
        WorkError::Not(
            "this is no hospital's code: it has three parts, such as 4-0011223344556677-12; copy it whole"
                .to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hospitals_code_is_read_whole_or_not_at_all() {
        let (institution, uid, doctor) = begin_code(" 4-0011223344556677-12\n").unwrap();
        assert_eq!((institution.number(), doctor.number()), (4, 12));
        assert_eq!(uid.as_bytes(), b"0011223344556677");
        for wrong in [
            "",
            "4",
            "4-0011-12",
            "4-0011223344556677-12-1",
            "x-0011223344556677-1",
            "<b>",
        ] {
            assert!(begin_code(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_code_becomes_a_picture() {
        let picture = qr(&"0a".repeat(32));
        assert!(
            picture.starts_with("<svg") && picture.ends_with("</svg>"),
            "{picture}"
        );
        assert!(!picture.contains("script"));
    }
}
