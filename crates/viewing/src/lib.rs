//! What an opened file of a medical record shows.
//!
//! Pure functions from a file's bytes to values that a page shows: no markup, no clock, nothing read
//! but the bytes. The bytes are untrusted, so everything has a bound (`limits`) and no bytes make
//! these functions panic; texts of a record are data and come back verbatim. What was not granted is
//! a hole of NUL bytes in a file, and what stands whole around holes is shown. Words of this crate's
//! own are enums, so that a page can say them in any language.
//!
//! ```
//! use viewing::{Kind, StrokeItem, View, view};
//!
//! let observation = br#"{"resourceType": "Observation", "status": "final",
//!     "category": [{"coding": [{"code": "survey"}]}],
//!     "code": {"text": "NIHSS", "coding": [{"system": "http://loinc.org", "code": "70182-1"}]},
//!     "effectiveDateTime": "2024-06-15T20:59:00Z", "valueInteger": 14}"#;
//! let View::Clinical(clinical) = view("application/fhir+json", observation) else {
//!     panic!("it is a resource");
//! };
//! assert_eq!(clinical.stroke[0].item, StrokeItem::Nihss);
//! assert_eq!(clinical.stroke[0].value, "14");
//! assert_eq!(clinical.stroke[0].source.to_string(), "Observation, LOINC 70182-1");
//! assert_eq!(clinical.groups[0].kind, Kind::Assessments);
//! ```

mod cda;
mod cda_entries;
mod clinical;
mod dicom;
mod fhir;
mod fhir_rows;
mod fhir_values;
mod fhir_xml;
mod hl7;
mod jpeg;
mod json;
mod limits;
mod moment;
mod pictures;
mod stroke;
mod title;
mod view;
mod words;

pub use clinical::{Clinical, Code, Document, Group, Kind, Row};
pub use moment::seconds;
pub use pictures::{NotShown, Pictures, Window};
pub use stroke::{Finding, Origin, StrokeItem, newest};
pub use title::{Title, TitleKind, title};
pub use view::{Reason, View, view};
