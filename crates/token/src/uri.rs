//! Which key in which token, as a URI of RFC 7512.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// How a URI begins.
pub const SCHEME: &str = "pkcs11:";
/// The longest URI, in bytes: two paths of 1,024 and labels, each byte of which may be three when
/// percent-encoded, are under 8 KiB.
pub const URI_BYTES_MAX: usize = 8 << 10;
/// PKCS#11: CK_TOKEN_INFO has 32 bytes for a label and 16 for a serial number.
const LABEL_BYTES_MAX: usize = 32;
const SERIAL_BYTES_MAX: usize = 16;
/// PKCS#11 does not bound CKA_LABEL and CKA_ID; tokens have at most this.
const OBJECT_BYTES_MAX: usize = 255;
const PATH_BYTES_MAX: usize = 1024;
/// What of an unknown attribute's name is said again.
const NAME_SHOWN: usize = 40;

/// Why a text says of no key where it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UriError {
    /// It does not begin as such a URI does.
    #[error("it does not begin with {SCHEME}")]
    Scheme,
    /// It is longer than one can be.
    #[error("it is longer than {URI_BYTES_MAX} bytes")]
    TooLong,
    /// An attribute has no value.
    #[error("the attribute {0} has no value: give it one, or leave it out")]
    Empty(String),
    /// An attribute that is not known here.
    #[error(
        "the attribute {0} is not known: those before the ? are token, serial, slot-id, object and id, those after it module-path and pin-source"
    )]
    Unknown(String),
    /// An attribute stands twice.
    #[error("the attribute {0} stands twice: leave one out")]
    Twice(&'static str),
    /// The PIN itself stands in the URI.
    #[error(
        "pin-value is not taken, since secrets do not belong into configuration: write the PIN to a file that only this user can read, and name it by pin-source"
    )]
    PinValue,
    /// A character that must be percent-encoded, or a percent sign without two hexadecimal digits.
    #[error(
        "the attribute {0} holds a character that must stand as a percent sign and two hexadecimal digits"
    )]
    Character(&'static str),
    /// A value that the attribute cannot have.
    #[error("the value of {0} cannot be used: {1}")]
    Value(&'static str, &'static str),
    /// An attribute is missing.
    #[error("{0} is missing: {1}")]
    Missing(&'static str, &'static str),
}

/// Which key in which token: what an attribute leaves open may be anything, so long as exactly one
/// token and one key are left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUri {
    pub(crate) token: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) slot: Option<u64>,
    pub(crate) object: Option<String>,
    pub(crate) id: Option<Vec<u8>>,
    pub(crate) module: PathBuf,
    pin_source: PathBuf,
}

impl KeyUri {
    /// The file that holds the PIN; a relative one is relative to the folder of the file that holds
    /// the URI.
    pub fn pin_source(&self) -> &Path {
        &self.pin_source
    }

    /// The token's library.
    pub fn module(&self) -> &Path {
        &self.module
    }
}

/// The key in words, for messages.
impl fmt::Display for KeyUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("key")?;
        if let Some(object) = &self.object {
            write!(f, " {object:?}")?;
        }
        if let Some(id) = &self.id {
            f.write_str(" of id ")?;
            id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        f.write_str(" in the token")?;
        if let Some(token) = &self.token {
            write!(f, " {token:?}")?;
        }
        if let Some(serial) = &self.serial {
            write!(f, " of serial number {serial:?}")?;
        }
        if let Some(slot) = self.slot {
            write!(f, " in slot {slot}")?;
        }
        Ok(())
    }
}

impl FromStr for KeyUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.len() > URI_BYTES_MAX {
            return Err(UriError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(UriError::Scheme)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut token, mut serial, mut slot, mut object, mut id) = Default::default();
        for (name, value) in attributes(path, ';') {
            match name {
                "token" => once(
                    "token",
                    &mut token,
                    text_of("token", value, LABEL_BYTES_MAX)?,
                ),
                "serial" => {
                    let value = text_of("serial", value, SERIAL_BYTES_MAX)?;
                    once("serial", &mut serial, value)
                }
                "slot-id" => once("slot-id", &mut slot, number_of("slot-id", value)?),
                "object" => {
                    let value = text_of("object", value, OBJECT_BYTES_MAX)?;
                    once("object", &mut object, value)
                }
                "id" => once(
                    "id",
                    &mut id,
                    bytes_of("id", value, OBJECT_BYTES_MAX, PATH)?,
                ),
                other => Err(unknown(other)),
            }?;
        }
        let (mut module, mut pin_source) = Default::default();
        for (name, value) in attributes(query, '&') {
            match name {
                "module-path" => once("module-path", &mut module, path_of("module-path", value)?),
                "pin-source" => once("pin-source", &mut pin_source, path_of("pin-source", value)?),
                "pin-value" => Err(UriError::PinValue),
                other => Err(unknown(other)),
            }?;
        }
        let module: PathBuf = module.ok_or(UriError::Missing(
            "module-path",
            "name the token's library after the ?",
        ))?;
        // Found by a search path, it would be whatever lies first in it.
        if !module.is_absolute() {
            return Err(UriError::Value("module-path", "name it from the root on"));
        }
        let pin_source = pin_source.ok_or(UriError::Missing(
            "pin-source",
            "name the file with the PIN after the ?",
        ))?;
        if object.is_none() && id.is_none() {
            return Err(UriError::Missing("object or id", "say which key is meant"));
        }
        Ok(Self {
            token,
            serial,
            slot,
            object,
            id,
            module,
            pin_source,
        })
    }
}

/// The attributes between the separators, each split at its first equals sign.
fn attributes(text: &str, between: char) -> impl Iterator<Item = (&str, &str)> {
    let parts = text.split(between).filter(move |_| !text.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}

fn once<T>(name: &'static str, place: &mut Option<T>, value: T) -> Result<(), UriError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(UriError::Twice(name)),
    }
}

/// A name is said again only as far as names go, so that a pasted secret or control characters are not.
fn unknown(name: &str) -> UriError {
    let shown = name.chars().take(NAME_SHOWN);
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '?'
        }
    };
    UriError::Unknown(shown.map(plain).collect())
}

/// RFC 7512, 2.3: what may stand for itself, beside letters and digits, before and after the question
/// mark.
const PATH: &[u8] = b"-._~:[]@!$'()*+,=&";
const QUERY: &[u8] = b"-._~:[]@!$'()*+,=/?|";

fn bytes_of(
    name: &'static str,
    value: &str,
    bytes_max: usize,
    plain: &[u8],
) -> Result<Vec<u8>, UriError> {
    if value.is_empty() {
        return Err(UriError::Empty(name.to_owned()));
    }
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::new();
    let mut bytes = value.as_bytes().iter();
    while let Some(byte) = bytes.next() {
        let decoded = match byte {
            b'%' => match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
                _ => None,
            },
            byte if byte.is_ascii_alphanumeric() || plain.contains(byte) => Some(*byte),
            _ => None,
        };
        out.push(decoded.ok_or(UriError::Character(name))?);
    }
    if out.len() > bytes_max {
        return Err(UriError::Value(name, "it is longer than it can be"));
    }
    Ok(out)
}

fn utf8(name: &'static str, bytes: Vec<u8>) -> Result<String, UriError> {
    let text = String::from_utf8(bytes).map_err(|_| UriError::Value(name, "it is not UTF-8"))?;
    if text.contains('\0') {
        return Err(UriError::Value(name, "it holds a zero byte"));
    }
    Ok(text)
}

fn text_of(name: &'static str, value: &str, bytes_max: usize) -> Result<String, UriError> {
    utf8(name, bytes_of(name, value, bytes_max, PATH)?)
}

fn number_of(name: &'static str, value: &str) -> Result<u64, UriError> {
    let digits = bytes_of(name, value, 20, PATH)?;
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    });
    number.ok_or(UriError::Value(name, "it is no number of a slot"))
}

fn path_of(name: &'static str, value: &str) -> Result<PathBuf, UriError> {
    let text = utf8(name, bytes_of(name, value, PATH_BYTES_MAX, QUERY)?)?;
    // RFC 7512, 2.4: a source may be a program. None is run.
    if text.starts_with('|') {
        return Err(UriError::Value(name, "it is a program: name a file"));
    }
    let path = text.strip_prefix("file:").unwrap_or(&text);
    if path.is_empty() || path.starts_with("//") {
        return Err(UriError::Value(name, "it is no path of a file"));
    }
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const END: &str = "?module-path=/lib/m.so&pin-source=a.pin";

    fn parse(text: &str) -> Result<KeyUri, UriError> {
        text.parse()
    }

    fn with_path(path: &str) -> Result<KeyUri, UriError> {
        parse(&format!("pkcs11:{path}{END}"))
    }

    #[test]
    fn every_attribute_is_read_and_decoded() {
        let uri = parse(
            "pkcs11:token=Hospital%20of%20Linz;serial=00%3B1;slot-id=18446744073709551615;\
             object=key=&%25;id=%00%ffa?pin-source=file:/etc/a%20b.pin&module-path=/lib/x.so",
        );
        let expected = KeyUri {
            token: Some("Hospital of Linz".into()),
            serial: Some("00;1".into()),
            slot: Some(u64::MAX),
            object: Some("key=&%".into()),
            id: Some(vec![0, 0xff, b'a']),
            module: "/lib/x.so".into(),
            pin_source: "/etc/a b.pin".into(),
        };
        assert_eq!(uri, Ok(expected));
        let least = with_path("id=%01").unwrap();
        assert_eq!((least.token, least.object), (None, None));
        assert_eq!(least.pin_source, Path::new("a.pin"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        use UriError as E;
        let cases = [
            (
                "object=a",
                "",
                E::Missing("module-path", "name the token's library after the ?"),
            ),
            (
                "object=a",
                "?module-path=/m.so",
                E::Missing("pin-source", "name the file with the PIN after the ?"),
            ),
            (
                "token=a",
                END,
                E::Missing("object or id", "say which key is meant"),
            ),
            (
                "",
                END,
                E::Missing("object or id", "say which key is meant"),
            ),
            ("object=a;object=b", END, E::Twice("object")),
            (
                "object=a;manufacturer=x",
                END,
                E::Unknown("manufacturer".into()),
            ),
            ("object=a;type=private", END, E::Unknown("type".into())),
            ("object=a;", END, E::Unknown(String::new())),
            (
                "object=a;module-path=/m.so",
                END,
                E::Unknown("module-path".into()),
            ),
            ("object", END, E::Empty("object".into())),
            ("object=", END, E::Empty("object".into())),
            ("object=a b", END, E::Character("object")),
            ("object=a%2", END, E::Character("object")),
            ("object=a%+1", END, E::Character("object")),
            ("object=a%g0", END, E::Character("object")),
            ("object=a/b", END, E::Character("object")),
            ("object=ä", END, E::Character("object")),
            ("object=%ff", END, E::Value("object", "it is not UTF-8")),
            (
                "object=a%00",
                END,
                E::Value("object", "it holds a zero byte"),
            ),
            (
                "object=a;slot-id=-1",
                END,
                E::Value("slot-id", "it is no number of a slot"),
            ),
            (
                "object=a;slot-id=18446744073709551616",
                END,
                E::Value("slot-id", "it is no number of a slot"),
            ),
            (
                "object=a;token=123456789012345678901234567890123",
                END,
                E::Value("token", "it is longer than it can be"),
            ),
            ("object=a", "?pin-value=1234&module-path=/m.so", E::PinValue),
            (
                "object=a",
                "?module-name=m&pin-source=p",
                E::Unknown("module-name".into()),
            ),
            (
                "object=a",
                "?module-path=m.so&pin-source=p",
                E::Value("module-path", "name it from the root on"),
            ),
            (
                "object=a",
                "?module-path=/m.so&pin-source=|cat",
                E::Value("pin-source", "it is a program: name a file"),
            ),
            (
                "object=a",
                "?module-path=/m.so&pin-source=file://host/p",
                E::Value("pin-source", "it is no path of a file"),
            ),
            (
                "object=a",
                "?module-path=/m.so&pin-source=p#x",
                E::Character("pin-source"),
            ),
        ];
        for (path, query, expected) in cases {
            let text = format!("pkcs11:{path}{query}");
            assert_eq!(parse(&text), Err(expected), "{text}");
        }
        assert_eq!(parse("PKCS11:object=a"), Err(E::Scheme));
        assert_eq!(parse(""), Err(E::Scheme));
        let long = format!("pkcs11:object={}", "a".repeat(URI_BYTES_MAX));
        assert_eq!(parse(&long), Err(E::TooLong));
    }

    #[test]
    fn no_message_says_a_secret_again() {
        for text in [
            "pkcs11:object=a?pin-value=9876",
            "pkcs11:object=a?pin-source=98 76",
            "pkcs11:object=a?pin-source=p&pin-source=9876",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(!error.contains("98"), "{error}");
        }
        let long = format!("pkcs11:object=a;\u{1b}[31m{}=x", "n".repeat(500));
        let error = parse(&long).unwrap_err();
        let shown = format!("??31m{}", "n".repeat(NAME_SHOWN - 5));
        assert_eq!(error, UriError::Unknown(shown));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = parse(&text);
            let _ = parse(&format!("pkcs11:{text}"));
            let _ = with_path(&format!("object=a;{text}"));
        }

        #[test]
        fn what_is_encoded_is_found_again(object in "[^\0]{1,60}", id in proptest::collection::vec(any::<u8>(), 1..40)) {
            let encode = |bytes: &[u8]| {
                bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<String>()
            };
            prop_assume!(object.len() <= OBJECT_BYTES_MAX);
            let path = format!("object={};id={}", encode(object.as_bytes()), encode(&id));
            let uri = with_path(&path).unwrap();
            prop_assert_eq!(uri.object, Some(object));
            prop_assert_eq!(uri.id, Some(id));
        }
    }
}
