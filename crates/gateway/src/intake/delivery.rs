//! What a source gives: files, and whose they are by the hospital's own numbers.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use record::{FileName, MediaType};
use scheme::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The longest patient number and the longest name of who gave it, in bytes: what HL7 v2 allows an
/// identifier with its authority (CX, 250).
pub const PATIENT_NUMBER_BYTES_MAX: usize = 250;
/// Numbers of one patient in one delivery. Systems that were merged send about five; each may come
/// under two names of its authority.
pub const PATIENT_NUMBERS_MAX: usize = 32;

/// Which of the hospital's systems gave a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A folder that is watched.
    Folder,
    /// A picture archive.
    Orthanc,
    /// HL7 v2 messages.
    Mllp,
    /// The FHIR interface.
    Fhir,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Folder => "folder",
            Self::Orthanc => "orthanc",
            Self::Mllp => "mllp",
            Self::Fhir => "fhir",
        })
    }
}

/// Names a delivery in its queue: the moment of its acceptance, then chance. Ids of one queue ascend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeliveryId(u128);

impl DeliveryId {
    pub(crate) fn new(moment: u64, chance: u64) -> Self {
        Self(u128::from(moment) << 64 | u128::from(chance))
    }

    /// The moment that it was made of: of one queue, no two are alike.
    pub(crate) fn moment(self) -> u64 {
        (self.0 >> 64) as u64
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for DeliveryId {
    type Err = BadDeliveryId;

    fn from_str(text: &str) -> Result<Self, BadDeliveryId> {
        let plain = text.len() == 32
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match u128::from_str_radix(text, 16) {
            Ok(number) if plain => Ok(Self(number)),
            _ => Err(BadDeliveryId),
        }
    }
}

impl TryFrom<String> for DeliveryId {
    type Error = BadDeliveryId;

    fn try_from(text: String) -> Result<Self, BadDeliveryId> {
        text.parse()
    }
}

impl From<DeliveryId> for String {
    fn from(id: DeliveryId) -> Self {
        id.to_string()
    }
}

/// A text is no id of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is no delivery's id: take the 32 digits as the list of deliveries shows them")]
pub struct BadDeliveryId;

/// What makes a delivery happen once, however often its source gives it: SHA-256 of what the source
/// calls it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeliveryKey([u8; 32]);

impl DeliveryKey {
    /// Of what a source calls the delivery, in parts that are kept apart.
    pub fn of(source: Source, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update(source.to_string().as_bytes());
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

impl fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever knows a patient's number and what was sent could find it by trying.
        f.write_str("DeliveryKey(..)")
    }
}

impl TryFrom<String> for DeliveryKey {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl From<DeliveryKey> for String {
    fn from(key: DeliveryKey) -> Self {
        key.to_string()
    }
}

/// Why a text is no patient number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadPatientNumber {
    /// It is empty.
    #[error(
        "the patient number is empty; give the number under which the hospital knows the patient"
    )]
    Empty,
    /// It, or the name of who gave it, is longer than 250 bytes or has a control character.
    #[error("the patient number cannot be used; give at most 250 bytes without control characters")]
    Unusable,
}

/// A number under which a system of the hospital knows a patient. It is never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawPatientNumber", into = "RawPatientNumber")]
pub struct PatientNumber {
    system: Option<String>,
    value: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPatientNumber {
    system: Option<String>,
    value: String,
}

impl PatientNumber {
    /// From the system that gave the number, if the source says which, and the number. White space
    /// around either is no part of it.
    ///
    /// # Errors
    /// [`BadPatientNumber`].
    pub fn new(system: Option<&str>, value: &str) -> Result<Self, BadPatientNumber> {
        let system = system.map(str::trim).filter(|system| !system.is_empty());
        let value = value.trim();
        if value.is_empty() {
            return Err(BadPatientNumber::Empty);
        }
        let usable = |text: &str| {
            text.len() <= PATIENT_NUMBER_BYTES_MAX && !text.chars().any(char::is_control)
        };
        if !usable(value) || !system.is_none_or(usable) {
            return Err(BadPatientNumber::Unusable);
        }
        Ok(Self {
            system: system.map(str::to_owned),
            value: value.to_owned(),
        })
    }

    /// Who gave it, as FHIR names an identifier's system, or as the source does.
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// The number.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for PatientNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PatientNumber(..)")
    }
}

impl TryFrom<RawPatientNumber> for PatientNumber {
    type Error = BadPatientNumber;

    fn try_from(raw: RawPatientNumber) -> Result<Self, BadPatientNumber> {
        Self::new(raw.system.as_deref(), &raw.value)
    }
}

impl From<PatientNumber> for RawPatientNumber {
    fn from(number: PatientNumber) -> Self {
        let PatientNumber { system, value } = number;
        Self { system, value }
    }
}

/// What a source says of a delivery that it gives.
#[derive(Clone)]
pub struct NewDelivery {
    /// Which source.
    pub source: Source,
    /// By which it is known when it is given again.
    pub key: DeliveryKey,
    /// What the source calls it, for people: a study's UID, a message's control id, a file's name. Cut
    /// to 250 bytes.
    pub reference: String,
    /// Under which numbers the hospital knows the patient, at most 32; none if the source does not say,
    /// which only a destination can judge.
    pub patient: Vec<PatientNumber>,
}

/// What was accepted and is not yet sealed.
#[derive(Clone)]
#[non_exhaustive]
pub struct Delivery {
    /// Its name: what is done with it is done once under this.
    pub id: DeliveryId,
    /// Who gave it.
    pub source: Source,
    /// What the source calls it.
    pub reference: String,
    /// Under which numbers the hospital knows the patient.
    pub patient: Vec<PatientNumber>,
    /// Its files in their order.
    pub files: Vec<DeliveredFile>,
    /// When it was accepted, by this machine's clock.
    pub accepted_at: Timestamp,
    /// How often it was tried, this time included.
    pub tries: u32,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("id", &self.id)
            .field("source", &self.source)
            .field("files", &self.files.len())
            .field("tries", &self.tries)
            .finish_non_exhaustive()
    }
}

/// A file of a delivery.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveredFile {
    /// As the source named it.
    pub name: FileName,
    /// What the source said that it is, if it did.
    pub media_type: Option<MediaType>,
    /// Its length.
    pub bytes: u64,
    /// Where its bytes are, unchanged while the delivery is being tried.
    pub path: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_and_are_read_as_they_are_shown() {
        let (first, second) = (DeliveryId::new(1, u64::MAX), DeliveryId::new(2, 0));
        assert!(first < second);
        assert_eq!(first.moment(), 1);
        assert_eq!(second.to_string().parse(), Ok(second));
        let upper = first.to_string().to_uppercase();
        for wrong in [
            "",
            "1",
            &upper,
            "+0000000000000010000000000000001",
            "../../../../../../../../../etc/x",
        ] {
            assert_eq!(wrong.parse::<DeliveryId>(), Err(BadDeliveryId), "{wrong}");
        }
    }

    #[test]
    fn keys_keep_their_parts_apart() {
        let key = |parts: &[&[u8]]| DeliveryKey::of(Source::Mllp, parts);
        assert!(key(&[b"ab", b"c"]) != key(&[b"a", b"bc"]));
        assert!(key(&[b"a"]) != DeliveryKey::of(Source::Folder, &[b"a"]));
        let written = serde_json::to_string(&key(&[b"a"])).unwrap();
        assert!(serde_json::from_str::<DeliveryKey>(&written).unwrap() == key(&[b"a"]));
    }

    #[test]
    fn a_patient_number_is_checked_however_it_comes_and_not_shown() {
        let number = PatientNumber::new(Some(" urn:oid:1.2 "), " 4711 ").unwrap();
        assert_eq!(
            (number.system(), number.value()),
            (Some("urn:oid:1.2"), "4711")
        );
        assert!(!format!("{number:?}").contains("4711"));
        assert_eq!(PatientNumber::new(Some(" "), "1").unwrap().system(), None);
        assert_eq!(PatientNumber::new(None, " "), Err(BadPatientNumber::Empty));
        let long = "1".repeat(PATIENT_NUMBER_BYTES_MAX + 1);
        for value in [long.as_str(), "1\n2"] {
            assert_eq!(
                PatientNumber::new(None, value),
                Err(BadPatientNumber::Unusable)
            );
            assert_eq!(
                PatientNumber::new(Some(value), "1"),
                Err(BadPatientNumber::Unusable)
            );
        }
        let read: Result<PatientNumber, _> = serde_json::from_str(r#"{"system":null,"value":""}"#);
        assert!(read.is_err());
    }
}
