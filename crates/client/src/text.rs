//! Bytes within JSON and TOML.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// N bytes as 2 N lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> std::fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl<const N: usize> std::str::FromStr for Hex<N> {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; N];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| {
            D::Error::custom(format_args!("{} hexadecimal digits were expected", 2 * N))
        })
    }
}

impl<const N: usize> PartialSchema for Hex<N> {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(format!("^[0-9a-fA-F]{{{}}}$", 2 * N)))
            .build()
            .into()
    }
}

impl<const N: usize> ToSchema for Hex<N> {
    fn name() -> std::borrow::Cow<'static, str> {
        format!("Hex{N}").into()
    }
}

/// Bytes of any length as base64 with padding (RFC 4648 section 4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text);
        bytes
            .map(Self)
            .map_err(|_| D::Error::custom("base64 with padding was expected"))
    }
}

impl PartialSchema for Base64 {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .content_encoding("base64")
            .build()
            .into()
    }
}

impl ToSchema for Base64 {
    fn name() -> std::borrow::Cow<'static, str> {
        "Base64".into()
    }
}

/// A body of canonical bytes, as an OpenAPI document names it.
#[derive(Debug, Clone, Copy)]
pub struct Octets;

impl PartialSchema for Octets {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
            .build()
            .into()
    }
}

impl ToSchema for Octets {
    fn name() -> std::borrow::Cow<'static, str> {
        "Octets".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_travel_in_one_form_each() {
        let text = serde_json::to_string(&(Hex([0xab, 1]), Base64(vec![1, 2, 3, 4])));
        assert_eq!(text.unwrap(), r#"["ab01","AQIDBA=="]"#);
        let read: (Hex<2>, Base64) = serde_json::from_str(r#"["AB01","AQIDBA=="]"#).unwrap();
        assert_eq!(read, (Hex([0xab, 1]), Base64(vec![1, 2, 3, 4])));
        for wrong in [
            r#"["ab0","AQ=="]"#,
            r#"["ab01","AQ"]"#,
            r#"["zz01","AQ=="]"#,
        ] {
            assert!(serde_json::from_str::<(Hex<2>, Base64)>(wrong).is_err());
        }
    }
}
