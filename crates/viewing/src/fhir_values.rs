//! Values of FHIR data types as the words that a page shows.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use crate::clinical::Code;
use crate::json::Value;
use crate::limits::{ITEMS_MAX, ROW_TEXT_BYTES_MAX, TEXT_BYTES_MAX};
use crate::words::{cut, joined, without_tags, words};

/// A Coding with a code.
pub(crate) fn code(coding: &Value) -> Option<Code> {
    let code = words(coding.get("code").text()?)?;
    let system = coding
        .get("system")
        .text()
        .and_then(words)
        .unwrap_or_default();
    Some(Code::new(&system, &code))
}

/// What a CodeableConcept, or a Coding, calls its concept: text, else display, else code.
pub(crate) fn concept(value: &Value) -> Option<String> {
    let code = || {
        value
            .at(&["coding", "code"])
            .text()
            .or(value.get("code").text())
            .and_then(words)
    };
    label(value).or_else(code)
}

/// What people call a concept; `None` if it has only a code.
pub(crate) fn label(value: &Value) -> Option<String> {
    let texts = [
        value.get("text"),
        value.at(&["coding", "display"]),
        value.get("display"),
    ];
    texts.into_iter().find_map(|text| words(text.text()?))
}

/// The names of several concepts.
pub(crate) fn concepts(value: &Value) -> Option<String> {
    joined(value.items().iter().take(ITEMS_MAX).map(concept), ", ")
}

/// The code of a status, else its name.
pub(crate) fn status(value: &Value) -> Option<String> {
    match value {
        Value::Object(_) => {
            let coded = value.at(&["coding", "code"]).text().and_then(words);
            coded.or_else(|| concept(value))
        }
        value => words(value.text()?),
    }
}

/// A Quantity: comparator, number as written, unit.
pub(crate) fn quantity(value: &Value) -> Option<String> {
    let number = value.get("value").text()?;
    let comparator = value.get("comparator").text().unwrap_or_default();
    let unit = value.get("unit").text().or(value.get("code").text());
    // What UCUM only notes beside a number, such as {INR}, is a word for a reader.
    let unit = unit.map(|unit| {
        let noted = unit
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        noted.unwrap_or(unit)
    });
    words(&match unit {
        Some(unit) => format!("{comparator}{number} {unit}"),
        None => format!("{comparator}{number}"),
    })
}

/// A HumanName, or the first of several. Names in Chinese characters begin with the family.
pub(crate) fn full_name(value: &Value) -> Option<String> {
    if let Some(text) = value.get("text").text() {
        return words(text);
    }
    let part = |name: &str| {
        let texts = value.get(name).items().iter().take(ITEMS_MAX);
        joined(texts.map(|text| text.text().and_then(words)), " ")
    };
    let (given, family) = (part("given"), part("family"));
    let is_han = |sign| ('\u{4e00}'..='\u{9fff}').contains(&sign);
    if let (Some(given), Some(family)) = (&given, &family)
        && family.chars().any(is_han)
    {
        return words(&format!("{family}{given}"));
    }
    joined([part("prefix"), given, family, part("suffix")], " ")
}

/// The value of an Observation or a component of one: its `value[x]`, else why there is none, else
/// its components. Two pressures are written as people write them.
pub(crate) fn observed(observation: &Value) -> Option<String> {
    if let Some(value) = plain(observation) {
        return Some(value);
    }
    if let Some(pressures) = pressures(observation) {
        return Some(pressures);
    }
    let components = observation.get("component").items().iter().take(ITEMS_MAX);
    let parts = components.map(|part| {
        let what = concept(part.get("code"))?;
        Some(format!("{what}: {}", plain(part)?))
    });
    joined(parts, "; ").or_else(|| concept(observation.get("dataAbsentReason")))
}

fn plain(observation: &Value) -> Option<String> {
    let simple = [
        "valueString",
        "valueInteger",
        "valueDecimal",
        "valueBoolean",
        "valueDateTime",
        "valueTime",
    ];
    if let Some(value) = simple.iter().find_map(|name| observation.get(name).text()) {
        return words(value);
    }
    let ratio = observation.get("valueRatio");
    let range = observation.get("valueRange");
    quantity(observation.get("valueQuantity"))
        .or_else(|| concept(observation.get("valueCodeableConcept")))
        .or_else(|| {
            Some(format!(
                "{} / {}",
                quantity(ratio.get("numerator"))?,
                quantity(ratio.get("denominator"))?
            ))
        })
        .or_else(|| between(range))
        .or_else(|| words(observation.at(&["valuePeriod", "start"]).text()?))
}

/// `low - high`, or the one of them that is there.
pub(crate) fn between(range: &Value) -> Option<String> {
    match (quantity(range.get("low")), quantity(range.get("high"))) {
        (Some(low), Some(high)) => words(&format!("{low} - {high}")),
        (Some(low), None) => words(&format!("\u{2265} {low}")),
        (None, high) => words(&format!("\u{2264} {}", high?)),
    }
}

/// Systolic and diastolic pressure, if their units are the same.
fn pressures(observation: &Value) -> Option<String> {
    let part = |loinc: &str| {
        let mut components = observation.get("component").items().iter().take(ITEMS_MAX);
        let part = components.find(|part| {
            let codings = part.at(&["code", "coding"]).items();
            codings.iter().any(|coding| {
                coding.get("code").text() == Some(loinc)
                    && coding.get("system").text() == Some("http://loinc.org")
            })
        })?;
        let value = part.get("valueQuantity");
        Some((value.get("value").text()?, value.get("unit").text()?))
    };
    let (systolic, unit) = part("8480-6")?;
    let (diastolic, same) = part("8462-4")?;
    (unit == same)
        .then(|| words(&format!("{systolic}/{diastolic} {unit}")))
        .flatten()
}

/// The dosage of a medicine: its text, else dose, route and timing as far as they are there.
pub(crate) fn dosage(value: &Value) -> Option<String> {
    if let Some(text) = value.get("text").text() {
        return words(text);
    }
    let dose = quantity(value.at(&["doseAndRate", "doseQuantity"]))
        .or_else(|| quantity(value.get("dose")));
    let rate = quantity(value.at(&["doseAndRate", "rateQuantity"]))
        .or_else(|| quantity(value.get("rateQuantity")));
    let timing = concept(value.at(&["timing", "code"]));
    joined([dose, rate, concept(value.get("route")), timing], ", ")
}

/// The text of an Attachment or a Binary: text as it is, HTML without tags, other types not at all.
pub(crate) fn decoded(content_type: &Value, data: &Value) -> Option<String> {
    let content_type = content_type.text()?.to_ascii_lowercase();
    let is_html = content_type.starts_with("text/html") || content_type.contains("xhtml");
    if !is_html && !content_type.starts_with("text/") {
        return None;
    }
    let data: Vec<u8> = data
        .text()?
        .bytes()
        .take(TEXT_BYTES_MAX)
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    // A text that was cut is decoded to the last whole group of four.
    let whole = data.get(..data.len() - data.len() % 4).unwrap_or_default();
    let bytes = BASE64
        .decode(&data)
        .or_else(|_| BASE64.decode(whole))
        .ok()?;
    let text = String::from_utf8_lossy(&bytes);
    if is_html {
        return Some(without_tags(&text, ROW_TEXT_BYTES_MAX));
    }
    Some(cut(text.trim(), ROW_TEXT_BYTES_MAX).to_owned())
}

/// The narrative of a resource or section, as plain text.
pub(crate) fn narrative(value: &Value) -> Option<String> {
    let text = without_tags(value.at(&["text", "div"]).text()?, ROW_TEXT_BYTES_MAX);
    (!text.is_empty()).then_some(text)
}

/// Longer texts joined line by line, within the bound of a row.
pub(crate) fn paragraphs(texts: impl IntoIterator<Item = Option<String>>) -> Option<String> {
    let mut out = String::new();
    for text in texts.into_iter().flatten() {
        if out.len() + text.len() > ROW_TEXT_BYTES_MAX {
            out.push_str(cut(&text, ROW_TEXT_BYTES_MAX.saturating_sub(out.len())));
            break;
        }
        out.push_str(&text);
        out.push('\n');
    }
    let out = out.trim();
    (!out.is_empty()).then(|| out.to_owned())
}

/// A text of several lines as it stands, within the bound of a row.
pub(crate) fn long(value: &Value) -> Option<String> {
    let text = cut(value.text()?.trim(), ROW_TEXT_BYTES_MAX);
    (!text.is_empty()).then(|| text.to_owned())
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
