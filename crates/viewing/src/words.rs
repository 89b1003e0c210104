//! Texts of a record, bounded and without markup. They are data: nothing here interprets them.

use crate::limits::WORDS_BYTES_MAX;

/// A text cut at a number of bytes, never within a character.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// A short text without white space around it; `None` if nothing is left.
pub(crate) fn words(text: &str) -> Option<String> {
    let text = cut(text.trim(), WORDS_BYTES_MAX).trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Texts that differ, joined; `None` if there is none.
pub(crate) fn joined(
    texts: impl IntoIterator<Item = Option<String>>,
    between: &str,
) -> Option<String> {
    let mut out = String::new();
    let mut before: Vec<String> = Vec::new();
    for text in texts.into_iter().flatten() {
        if before.contains(&text) {
            continue;
        }
        if out.len() + text.len() > WORDS_BYTES_MAX {
            break;
        }
        if !out.is_empty() {
            out.push_str(between);
        }
        out.push_str(&text);
        before.push(text);
    }
    words(&out)
}

/// XHTML or HTML as plain text: tags become spaces or new lines, the five entities of XML and
/// character references become characters, everything else stays as it is.
pub(crate) fn without_tags(markup: &str, bytes_max: usize) -> String {
    let mut out = String::with_capacity(markup.len().min(bytes_max));
    let mut rest = markup;
    while let Some(at) = rest.find(['<', '&']) {
        if out.len() > bytes_max {
            break;
        }
        let (text, behind) = rest.split_at(at);
        out.push_str(text);
        rest = if behind.starts_with('<') {
            tag(behind, &mut out)
        } else {
            reference(behind, &mut out)
        };
    }
    out.push_str(rest);
    cut(&tidy(&out), bytes_max).to_owned()
}

/// Passes over the tag or comment that begins here.
fn tag<'a>(markup: &'a str, out: &mut String) -> &'a str {
    if let Some(comment) = markup.strip_prefix("<!--") {
        return comment.split_once("-->").map_or("", |(_, rest)| rest);
    }
    // A less-than sign that begins no tag is text.
    let name = markup.get(1..).unwrap_or_default();
    let name = name.strip_prefix('/').unwrap_or(name);
    if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '!' || first == '?')
    {
        out.push('<');
        return markup.get(1..).unwrap_or_default();
    }
    let mut quote = None;
    let end = markup.bytes().position(|byte| match (quote, byte) {
        (None, b'>') => true,
        (None, b'"' | b'\'') => {
            quote = Some(byte);
            false
        }
        (Some(open), byte) if open == byte => {
            quote = None;
            false
        }
        _ => false,
    });
    let name: String = name
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .take(NAME_MAX)
        .collect();
    if LINES.contains(&name.to_ascii_lowercase().as_str()) {
        out.push('\n');
    } else if matches!(name.to_ascii_lowercase().as_str(), "td" | "th") {
        out.push(' ');
    }
    end.and_then(|end| markup.get(end + 1..))
        .unwrap_or_default()
}

/// Writes the character of the reference that begins here, or the ampersand if it is none.
fn reference<'a>(markup: &'a str, out: &mut String) -> &'a str {
    let end = markup
        .bytes()
        .take(REFERENCE_MAX)
        .position(|byte| byte == b';');
    let name = end.and_then(|end| markup.get(1..end));
    if let (Some(end), Some(character)) = (end, name.and_then(referenced)) {
        out.push(character);
        return markup.get(end + 1..).unwrap_or_default();
    }
    out.push('&');
    markup.get(1..).unwrap_or_default()
}

/// A text of XML with its references replaced. One that XML does not define itself stays as it is.
pub(crate) fn without_references(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (before, behind) = rest.split_at(at);
        out.push_str(before);
        rest = reference(behind, &mut out);
    }
    out.push_str(rest);
    out
}

/// The character that a reference names, without its ampersand and semicolon.
pub(crate) fn referenced(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        _ => {
            let number = name.strip_prefix('#')?;
            let point = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(point).filter(|character| *character != '\0')
        }
    }
}

/// White space within a line as one space, no empty lines at the ends and none twice.
pub(crate) fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut empty = true;
    for line in text.lines() {
        let mut parts = line.split_whitespace().peekable();
        if parts.peek().is_none() {
            if !empty {
                out.push('\n');
            }
            empty = true;
            continue;
        }
        for (position, part) in parts.enumerate() {
            if position > 0 {
                out.push(' ');
            }
            out.push_str(part);
        }
        out.push('\n');
        empty = false;
    }
    out.trim().to_owned()
}

/// Elements that stand on lines of their own.
const LINES: [&str; 18] = [
    "p", "div", "br", "li", "ul", "ol", "tr", "table", "h1", "h2", "h3", "h4", "h5", "h6", "hr",
    "dt", "dd", "pre",
];
const NAME_MAX: usize = 16;
const REFERENCE_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_go_and_text_stays() {
        let markup = "<div xmlns=\"http://x\"><h5>Findings</h5><p>5 &lt; 7 &amp; 2 < 3</p>\
            <table><tr><td>a</td><td>b</td></tr></table><!-- no --><a title='>'>c</a></div>";
        assert_eq!(
            without_tags(markup, 1000),
            "Findings\n\n5 < 7 & 2 < 3\n\na b\n\nc"
        );
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("\u{4f60}\u{597d}", 4), "\u{4f60}");
        assert_eq!(
            words(&" a".repeat(10_000)).unwrap().len(),
            WORDS_BYTES_MAX - 1
        );
    }

    proptest! {
        #[test]
        fn any_markup_is_read(text in r#"[<>&;#x0-9a-z!\-/"' \n\u{4f60}]{0,200}"#) {
            let _ = without_tags(&text, 50);
        }
    }
}
