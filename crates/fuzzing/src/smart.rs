//! What a gateway reads of the systems that call it, and of the numbers under which they know patients.

use gateway::System;
use gateway::intake::{DeliveryId, MllpConfig, OrthancConfig, PatientNumber, QueueBounds};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::input::Input;

/// A configuration in JSON that is read is written and read again.
fn comes_back<T: Serialize + DeserializeOwned + PartialEq>(text: &str) {
    if let Ok(read) = serde_json::from_str::<T>(text) {
        let written = serde_json::to_string(&read).expect("it was read");
        let again = serde_json::from_str::<T>(&written);
        assert!(again.is_ok_and(|again| again == read), "{written}");
    }
}

/// The first byte says what the text is.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let which = input.below(6);
    let text = String::from_utf8_lossy(input.rest());
    match which {
        // id, name, keys and scopes, each ended by a NUL.
        0 => {
            let mut fields = text.splitn(4, '\0');
            let mut next = || fields.next().unwrap_or_default();
            let (id, name, keys, scopes) = (next(), next(), next(), next());
            let read = System::read(id, name, keys, scopes);
            let again = System::read(id, name, keys, scopes);
            assert!(read.is_ok() == again.is_ok());
            if let Err(why) = read {
                assert!(why.contains(';'), "{why}: it does not say what to do");
            }
        }
        1 => {
            let (system, value) = match text.split_once('\0') {
                Some((system, value)) => (Some(system), value),
                None => (None, &*text),
            };
            if let Ok(number) = PatientNumber::new(system, value) {
                let again = PatientNumber::new(number.system(), number.value());
                assert!(again.as_ref() == Ok(&number));
                // A log that shows one says nothing of whom.
                assert_eq!(format!("{number:?}"), "PatientNumber(..)");
                let written = serde_json::to_string(&number).expect("a text");
                comes_back::<PatientNumber>(&written);
            }
        }
        2 => {
            if let Ok(id) = text.parse::<DeliveryId>() {
                assert!(id.to_string() == text);
            }
        }
        3 => comes_back::<MllpConfig>(&text),
        4 => comes_back::<OrthancConfig>(&text),
        _ => {
            comes_back::<QueueBounds>(&text);
            comes_back::<PatientNumber>(&text);
            comes_back::<DeliveryId>(&text);
        }
    }
}

/// One of each.
pub fn seeds() -> Vec<Vec<u8>> {
    let rsa = format!(
        "{{\"keys\":[{{\"kty\":\"RSA\",\"kid\":\"one\",\"e\":\"AQAB\",\"n\":\"{}\",\"alg\":\"RS384\",\"use\":\"sig\",\"key_ops\":[\"verify\"]}}]}}",
        "w".repeat(342)
    );
    let ec = format!(
        "{{\"keys\":[{{\"kty\":\"EC\",\"kid\":\"two\",\"crv\":\"P-384\",\"x\":\"{0}\",\"y\":\"{0}\"}}]}}",
        "A".repeat(64)
    );
    let oct = "{\"keys\":[{\"kty\":\"oct\",\"kid\":\"one\",\"k\":\"AQAB\",\"alg\":\"HS384\"}]}";
    let scopes = "system/DocumentReference.crs system/*.read system/Patient.rs?_id=1";
    let system = |keys: &str| {
        format!("\0pacs\0The archive\0{keys}\0{scopes}")
            .into_bytes()
            .split_off(1)
    };
    let mut seeds: Vec<Vec<u8>> = [rsa.as_str(), &ec, oct]
        .iter()
        .map(|keys| [&[0], system(keys).as_slice()].concat())
        .collect();
    for (which, text) in [
        (1, "urn:oid:1.2.3\0 4711 "),
        (1, "4711"),
        (2, "0000019a00000000000000000000002a"),
        (
            3,
            "{\"listen\":\"127.0.0.1:2575\",\"senders\":[\"10.0.0.1\"],\"processing_ids\":[\"P\",\"T\"]}",
        ),
        (4, "{\"address\":\"http://127.0.0.1:8042\"}"),
        (5, "{\"deliveries_max\":5,\"bytes_max\":6}"),
        (5, "{\"system\":\"a\",\"value\":\"b\"}"),
        (5, "\"0000019a00000000000000000000002a\""),
    ] {
        seeds.push([&[which], text.as_bytes()].concat());
    }
    seeds
}
