//! Files of every sort, valid and hostile: the pieces tile them, nothing panics, and nothing but
//! punctuation stands outside the class that it belongs to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;
use record::{
    FileName, JsonFault, MemoryFile, MemoryFiles, Oddity, PieceKind, Reassembly, Record,
    SectionClass, SectionReader, Understanding, understand,
};

fn read(bytes: &[u8]) -> Understanding {
    understand(&FileName::new("file.json").unwrap(), bytes)
}

/// Class, kind and text of each piece.
fn pieces(text: &str) -> Vec<(&'static str, PieceKind, &str)> {
    pieces_of(&read(text.as_bytes()), text)
}

fn pieces_of<'a>(found: &Understanding, text: &'a str) -> Vec<(&'static str, PieceKind, &'a str)> {
    let cut = |piece: &record::Piece| {
        let span = piece.span().offset() as usize..piece.span().end() as usize;
        (piece.class().name(), piece.kind(), &text[span])
    };
    found.pieces.iter().map(cut).collect()
}

/// The pieces follow each other from the first byte to the last; only an empty file has an empty
/// one.
fn assert_tiled(found: &Understanding, length: usize) {
    assert_eq!(
        (found.whole.offset(), found.whole.length()),
        (0, length as u64)
    );
    let mut at = 0;
    for piece in &found.pieces {
        assert_eq!(piece.span().offset(), at);
        assert!(!piece.span().is_empty() || length == 0);
        at = piece.span().end();
    }
    assert_eq!(at, length as u64);
    assert!(!found.pieces.is_empty());
}

/// Through every section and back.
fn assert_comes_back(bytes: &[u8]) {
    let mut record = Record::new();
    let number = record
        .add("file", MemoryFile::new(bytes))
        .unwrap()
        .head()
        .number;
    let mut files = MemoryFiles::with_limit(bytes.len() as u64);
    let mut reassembly = Reassembly::new();
    for section in record.sections() {
        let mut plaintext = Vec::new();
        std::io::copy(&mut section.reader(), &mut plaintext).unwrap();
        assert_eq!(plaintext.len() as u64, section.length());
        let mut reader = SectionReader::new(plaintext.as_slice()).unwrap();
        reassembly.add(&mut reader, &mut files).unwrap();
    }
    assert!(reassembly.files().all(record::Outline::is_whole));
    assert_eq!(reassembly.files().len(), 1);
    assert_eq!(files.bytes(number).unwrap_or_default(), bytes);
}

fn resource(resource_type: &str) -> String {
    format!(r#"{{"resource":{{"resourceType":"{resource_type}"}}}}"#)
}

use PieceKind::{Entry, Frame, Line, Opaque, Resource};

#[test]
fn a_bundle_is_cut_between_its_entries() {
    let (patient, drug) = (resource("Patient"), resource("Medication"));
    let text = format!(
        "{{\"resourceType\":\"Bundle\",\"entry\":[ {patient} ,\n {drug},{patient} ], \"total\": 3}}\n"
    );
    assert_eq!(
        pieces(&text),
        [
            (
                "homepage",
                Frame,
                "{\"resourceType\":\"Bundle\",\"entry\":[ "
            ),
            ("homepage", Entry, &*format!("{patient} ,\n ")),
            ("medication", Entry, &*format!("{drug},")),
            ("homepage", Entry, patient.as_str()),
            ("homepage", Frame, " ], \"total\": 3}\n"),
        ]
    );
    assert!(read(text.as_bytes()).oddities.is_empty());
}

#[test]
fn the_resource_type_may_come_last_and_be_escaped() {
    let text = r#"{"entry":[{"resource":{"category":[{"coding":[{"code":"laboratory"}]}],
        "resource\u0054ype":"Observation"},"fullUrl":"x"}],"resourceType":"Bundle"}"#;
    let classes: Vec<&str> = pieces(text).iter().map(|piece| piece.0).collect();
    assert_eq!(classes, ["homepage", "laboratory", "homepage"]);
}

#[test]
fn one_resource_is_one_piece() {
    let text = r#"{"resourceType":"Condition","code":{"coding":[{"system":"s","code":"c"}]}}"#;
    assert_eq!(pieces(text), [("history", Resource, text)]);
    let keywords: Vec<String> = read(text.as_bytes())
        .keywords
        .iter()
        .map(|k| k.to_string())
        .collect();
    assert_eq!(keywords, ["resource|Condition", "code|s|c"]);
}

/// A List has a member `entry` too, and is no Bundle.
#[test]
fn only_a_bundle_is_cut() {
    let text = format!(
        r#"{{"resourceType":"List","entry":[{}]}}"#,
        resource("Patient")
    );
    assert_eq!(pieces(&text), [("other", Resource, text.as_str())]);
    let nested = format!(
        r#"{{"resourceType":"Bundle","entry":[{{"resource":{{"resourceType":"Bundle","entry":[{}]}}}}]}}"#,
        resource("Patient")
    );
    let classes: Vec<&str> = pieces(&nested).iter().map(|piece| piece.0).collect();
    assert_eq!(classes, ["homepage", "other", "homepage"]);
}

#[test]
fn what_decides_a_class_and_stands_twice_decides_nothing() {
    for (entry, member) in [
        (
            r#"{"resource":{"resourceType":"Patient","resourceType":"Claim"}}"#,
            "resourceType",
        ),
        (
            r#"{"resource":{"resourceType":"Patient"},"resource":{"resourceType":"Claim"}}"#,
            "resource",
        ),
        (
            r#"{"resource":{"resourceType":"Observation","category":[{"coding":[{"code":"exam"}]}],
            "category":[]}}"#,
            "category",
        ),
        (
            r#"{"resource":{"resourceType":"DocumentReference","type":1,"type":2}}"#,
            "type",
        ),
    ] {
        let text = format!(r#"{{"resourceType":"Bundle","entry":[{entry}]}}"#);
        let found = read(text.as_bytes());
        assert_eq!(pieces_of(&found, &text)[1], ("other", Entry, entry));
        assert_eq!(
            found.oddities.first(),
            [Oddity::MemberTwice { at: 34, member }],
            "{member}"
        );
    }
    // A second list of entries is cut like the first.
    let (a, b) = (resource("Patient"), resource("Claim"));
    let text = format!(r#"{{"resourceType":"Bundle","entry":[{a}],"id":"x","entry":[{b}]}}"#);
    let cut = pieces(&text);
    assert_eq!(cut[1], ("homepage", Entry, a.as_str()));
    assert_eq!(cut[2], ("homepage", Frame, r#"],"id":"x","entry":["#));
    assert_eq!(cut[3], ("other", Entry, b.as_str()));
    // Two types of the whole file: nothing says whether it is a Bundle.
    let text = format!(r#"{{"resourceType":"Bundle","entry":[{a}],"resourceType":"Claim"}}"#);
    assert_eq!(pieces(&text), [("other", Resource, text.as_str())]);
}

#[test]
fn entries_without_a_resource_are_other() {
    let hidden = r#"{"resourceType":"Patient","name":"hidden"}"#;
    for entry in [
        "1".to_owned(),
        "null".to_owned(),
        "\"text\"".to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
        hidden.to_owned(),
        format!("[{{\"resource\":{hidden}}}]"),
        format!("{{\"resource\":[{hidden}]}}"),
        "{\"resource\":\"Patient\"}".to_owned(),
        format!("{{\"x\":{{\"resource\":{hidden}}}}}"),
    ] {
        let text = format!(r#"{{"resourceType":"Bundle","entry":[{entry}]}}"#);
        let found = read(text.as_bytes());
        assert_eq!(
            pieces_of(&found, &text)[1],
            ("other", Entry, entry.as_str())
        );
        assert_eq!(
            found.oddities.first(),
            [Oddity::NoResource { at: 34 }],
            "{entry}"
        );
        assert!(found.keywords.is_empty(), "{entry}");
    }
    // An object where the array should be is an entry by itself.
    let drug = resource("Medication");
    let text = format!(r#"{{"resourceType":"Bundle","entry":{drug}}}"#);
    assert_eq!(pieces(&text)[1], ("medication", Entry, drug.as_str()));
}

#[test]
fn members_that_no_bundle_has_are_not_shown_with_the_homepage() {
    let text = format!(
        r#"{{"resourceType":"Bundle","note":"secret","entry":[{}]}}"#,
        resource("Patient")
    );
    let found = read(text.as_bytes());
    let cut = pieces_of(&found, &text);
    assert_eq!(
        (cut[0].0, cut[1].0, cut[2].0),
        ("other", "homepage", "other")
    );
    assert_eq!(
        found.oddities.first(),
        [Oddity::UnknownBundleMember { at: 25 }]
    );
}

#[test]
fn observations_without_a_category_are_other() {
    let text = r#"{"resourceType":"Observation","category":[{"coding":[{"code":"x"}]}]}"#;
    let found = read(text.as_bytes());
    assert_eq!(found.pieces[0].class(), SectionClass::Other);
    let odd = Oddity::NoCategory {
        at: 0,
        resource: "Observation",
    };
    assert_eq!(found.oddities.first(), [odd]);
    let found = read(br#"{"resourceType":"Invented"}"#);
    assert_eq!(found.pieces[0].class(), SectionClass::Other);
    assert_eq!(found.oddities.first(), [Oddity::UnknownType { at: 0 }]);
}

#[test]
fn slightly_invalid_json_is_understood_and_said_to_be_odd() {
    let marked = "\u{feff}{\"resourceType\":\"Patient\"}";
    let found = read(marked.as_bytes());
    assert_eq!(pieces_of(&found, marked), [("homepage", Resource, marked)]);
    assert_eq!(found.oddities.first(), [Oddity::ByteOrderMark]);

    let found = read(b"{\"resourceType\":\"Patient\",\"name\":\"Ad\xe1n\"}");
    assert_eq!(found.pieces[0].class(), SectionClass::Homepage);
    assert_eq!(found.oddities.first(), [Oddity::NotUtf8 { at: 36 }]);

    let found = read(b"{\"resourceType\":\"Patient\",\"name\":\"a\nb\"}");
    assert_eq!(found.pieces[0].class(), SectionClass::Homepage);

    let huge = format!(
        r#"{{"resourceType":"Patient","n":-1{}e+9999999999}}"#,
        "0".repeat(100_000)
    );
    let found = read(huge.as_bytes());
    assert_eq!(found.pieces[0].class(), SectionClass::Homepage);
    assert!(found.oddities.is_empty());
}

#[test]
fn what_is_not_json_is_one_piece_of_class_other() {
    let bomb = |open: &str, n: usize| format!("{{\"a\":{}", open.repeat(n));
    for (text, oddity) in [
        (
            r#"{"resourceType":"Patient""#.to_owned(),
            Oddity::NotJson {
                at: 25,
                fault: JsonFault::EndsEarly,
            },
        ),
        (
            r#"{"resourceType":"Patient"}{}"#.to_owned(),
            Oddity::NotJson {
                at: 26,
                fault: JsonFault::Trailing,
            },
        ),
        (
            r#"{resourceType:1}"#.to_owned(),
            Oddity::NotJson {
                at: 1,
                fault: JsonFault::Unexpected,
            },
        ),
        (
            bomb("[", 1_000_000),
            Oddity::NotJson {
                at: 132,
                fault: JsonFault::TooDeep,
            },
        ),
        (
            bomb("{\"a\":", 1_000_000),
            Oddity::NotJson {
                at: 640,
                fault: JsonFault::TooDeep,
            },
        ),
        (r#"{"a":1}"#.to_owned(), Oddity::NotFhir),
        (r#"{"resourceType":7}"#.to_owned(), Oddity::NotFhir),
    ] {
        let found = read(text.as_bytes());
        assert_eq!(pieces_of(&found, &text), [("other", Opaque, text.as_str())]);
        assert_eq!(found.media_type.as_str(), "application/json");
        assert_eq!(found.keywords.len(), 1);
        assert_eq!(found.keywords[0].as_str(), "media|application/json");
        assert_eq!(found.oddities.first(), [oddity]);
    }
}

#[test]
fn a_bundle_has_as_many_entries_as_are_told_apart() {
    let of = |count: usize| {
        format!(
            r#"{{"resourceType":"Bundle","entry":[{}]}}"#,
            vec![resource("Claim"); count].join(",")
        )
    };
    let found = read(of(record::ENTRIES_MAX).as_bytes());
    assert_eq!(found.pieces.len(), record::ENTRIES_MAX + 2);
    let text = of(record::ENTRIES_MAX + 1);
    let found = read(text.as_bytes());
    assert_tiled(&found, text.len());
    assert_eq!(
        (found.pieces.len(), found.pieces[0].class()),
        (1, SectionClass::Other)
    );
    assert_eq!(found.oddities.first(), [Oddity::TooManyEntries]);
}

#[test]
fn oddities_and_keywords_are_bounded() {
    let codings: Vec<String> = (0..10_000)
        .map(|n| format!(r#"{{"resource":{{"resourceType":"Basic","code":{{"coding":[{{"system":"s","code":"{n}"}}]}}}}}}"#))
        .collect();
    let text = format!(
        r#"{{"resourceType":"Bundle","entry":[{},1]}}"#,
        codings.join(",1,")
    );
    let found = read(text.as_bytes());
    assert_eq!(found.keywords.len(), record::KEYWORDS_PER_FILE_MAX);
    assert_eq!(found.oddities.first().len(), record::ODDITIES_MAX);
    assert_eq!(found.oddities.more(), 10_000 - record::ODDITIES_MAX + 1);

    let mut record = Record::new();
    record
        .add("a.json", MemoryFile::new(text.as_bytes()))
        .unwrap();
    let (keywords, left_out) = record.keywords();
    assert_eq!(keywords.len(), record::KEYWORDS_MAX);
    assert_eq!(
        left_out,
        record::KEYWORDS_PER_FILE_MAX - record::KEYWORDS_MAX
    );

    let long = "x".repeat(300);
    let text = format!(
        r#"{{"resourceType":"Basic","code":{{"coding":[{{"system":"s","code":"{long}"}}]}}}}"#
    );
    assert_eq!(
        read(text.as_bytes()).oddities.first(),
        [Oddity::NoKeyword { at: 0 }]
    );
}

#[test]
fn media_types_come_from_the_first_bytes_or_the_name() {
    for (name, bytes, media_type) in [
        ("a", &b"%PDF-1.7"[..], "application/pdf"),
        ("a.TXT", b"hello", "text/plain"),
        ("a", b"hello", "application/octet-stream"),
        ("a", b"\xef\xbb\xbf<?xml version='1.0'?>", "application/xml"),
        ("a.rtf", b"{\\rtf1 x}", "application/rtf"),
        ("a", b"", "application/octet-stream"),
    ] {
        let found = understand(&FileName::new(name).unwrap(), bytes);
        assert_eq!(found.media_type.as_str(), media_type);
        assert!(found.oddities.is_empty(), "{name}");
        assert_eq!(found.keywords[0].as_str(), format!("media|{media_type}"));
        assert_tiled(&found, bytes.len());
    }
    let found = understand(&FileName::new("a.dcm").unwrap(), b"no");
    assert_eq!(found.oddities.first(), [Oddity::NotDicom]);
    let found = understand(&FileName::new("a.hl7").unwrap(), b"no");
    assert_eq!(found.oddities.first(), [Oddity::NotHl7]);
    assert_eq!(found.media_type.as_str(), "x-application/hl7-v2+er7");
    let found = understand(&FileName::new("a.txt").unwrap(), b"MSH|^~\\&|");
    assert_eq!(found.media_type.as_str(), "x-application/hl7-v2+er7");
}

#[test]
fn lines_of_resources_are_found_by_their_content_or_their_name() {
    let (patient, drug) = (
        r#"{"resourceType":"Patient"}"#,
        r#"{"resourceType":"Medication"}"#,
    );
    let as_named = |name: &str, text: &str| {
        let found = understand(&FileName::new(name).unwrap(), text.as_bytes());
        assert_tiled(&found, text.len());
        assert_comes_back(text.as_bytes());
        let kinds: Vec<PieceKind> = found.pieces.iter().map(record::Piece::kind).collect();
        (
            found.media_type.to_string(),
            kinds,
            found.oddities.first().to_vec(),
        )
    };
    let lines = |kinds: usize| {
        (
            "application/fhir+ndjson".to_owned(),
            vec![Line; kinds],
            vec![],
        )
    };
    let text = format!("{patient}\n{drug}\r\n");
    assert_eq!(as_named("a.json", &text), lines(2));
    assert_eq!(as_named("a.ndjson", &format!("{patient}\n")), lines(1));
    assert_eq!(
        pieces(&text)[1],
        ("medication", Line, &*format!("{drug}\r\n"))
    );
    // One resource, and something behind it that is none, is no file of lines unless it is named so.
    let text = format!("{patient}\n[1]\n");
    let fault = JsonFault::Trailing;
    let at = patient.len() as u64 + 1;
    assert_eq!(as_named("a.json", &text).2, [Oddity::NotJson { at, fault }]);
    assert_eq!(as_named("a.ndjson", &text).2, [Oddity::NoResource { at }]);
    let text = format!("{patient}\n{{\n{drug}\n");
    let (_, kinds, oddities) = as_named("a.json", &text);
    let fault = JsonFault::EndsEarly;
    assert_eq!(kinds, [Line; 3]);
    assert_eq!(oddities, [Oddity::BadLine { at: at + 2, fault }]);
    // A name can be wrong, and lines without a resource are none.
    let text = format!(
        "{{\n\"resourceType\":\"Bundle\",\n\"entry\":[\n{}]}}",
        resource("Patient")
    );
    let found = understand(&FileName::new("a.ndjson").unwrap(), text.as_bytes());
    assert_eq!(found.media_type.as_str(), "application/fhir+json");
    assert!(found.oddities.is_empty());
    let (media_type, kinds, oddities) = as_named("a.ndjson", "{}\n{}\n");
    assert_eq!(
        (&*media_type, kinds, oddities.len()),
        ("application/x-ndjson", vec![Opaque], 1)
    );
    // A Bundle in a line is not looked into.
    let bundle = format!(
        r#"{{"resourceType":"Bundle","entry":[{}]}}"#,
        resource("Patient")
    );
    let found = read(format!("{bundle}\n{bundle}\n").as_bytes());
    assert_eq!(found.pieces[0].class(), SectionClass::Other);
    assert_eq!(found.keywords.len(), 1);
}

#[test]
fn the_exact_resource_of_a_line_is_given() {
    let (patient, drug) = (
        r#"{"resourceType":"Patient"}"#,
        r#"{"resourceType":"Patient","id":"2"}"#,
    );
    let text = format!("\u{feff} {patient} \n\n{drug}");
    let mut record = Record::new();
    record
        .add("a.ndjson", MemoryFile::new(text.as_bytes()))
        .unwrap();
    let section = record.sections().next().unwrap();
    let mut plaintext = Vec::new();
    std::io::copy(&mut section.reader(), &mut plaintext).unwrap();
    let parsed = record::parse_section(&plaintext).unwrap();
    let found: Vec<&[u8]> = parsed.entries().map(|(_, resource)| resource).collect();
    assert_eq!(found, [patient.as_bytes(), drug.as_bytes()]);
}

#[test]
fn words_and_descriptions_come_from_titles_and_problems() {
    let text = r#"{"resourceType":"Bundle","type":"document","entry":[
        {"resource":{"resourceType":"Composition","title":"Stroke letter","date":"2024-06-16","author":[
            {"display":"Dr Lin"}],"type":{"coding":[{"system":"http://loinc.org","code":"18842-5","display":"Discharge"}]}}},
        {"resource":{"resourceType":"Condition","code":{"text":"Apoplexy","coding":[{"display":"Infarction"}]},
            "onsetDateTime":"2024-06-15T20:10:00+08:00"}},
        {"resource":{"resourceType":"Observation","code":{"text":"not a title"},"category":[{"coding":[{"code":"exam"}]}]}},
        {"resource":{"resourceType":"Patient","birthDate":"1952-03-04","name":[{"text":"Secret Name"}]}},
        {"resource":{"resourceType":"Encounter","period":{"start":"2024-06-14"}}},
        {"resource":{"resourceType":"Coverage","period":{"start":"1999-01-01"}}},
        {"resource":{"resourceType":"Claim","created":"1998-01-01","date":"1998-01-01"}},
        {"resource":{"resourceType":"Organization","name":"County Hospital"}}]}"#;
    let mut record = Record::new();
    let file = record
        .add("a.json", MemoryFile::new(text.as_bytes()))
        .unwrap();
    assert_eq!(file.title().unwrap().as_str(), "Stroke letter");
    assert_eq!(
        file.document_type().unwrap().to_string(),
        "http://loinc.org 18842-5"
    );
    assert_eq!(
        file.period().unwrap().to_string(),
        "2024-06-14 to 2024-06-16"
    );
    assert_eq!(file.origin().unwrap().as_str(), "Dr Lin");
    let found = read(text.as_bytes());
    let words: Vec<&str> = found
        .keywords
        .iter()
        .filter_map(|keyword| keyword.as_str().strip_prefix("word|"))
        .collect();
    assert_eq!(
        words,
        ["stroke", "letter", "discharge", "apoplexy", "infarction"]
    );
}

#[test]
fn a_dicom_file_cut_anywhere_stays_whole_and_is_imaging_once_it_shows_itself() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../samples/secondary-hospital/ct-head/17106"
    );
    let whole = std::fs::read(path).unwrap();
    for cut in 0..whole.len() {
        let found = read(&whole[..cut]);
        assert_tiled(&found, cut);
        let class = if cut < 132 {
            SectionClass::Other
        } else {
            SectionClass::Imaging
        };
        assert_eq!(found.pieces[0].class(), class, "cut at {cut}");
    }
    // Modality, body part, class, and the words of the two descriptions.
    assert_eq!(read(&whole).keywords.len(), 7);
    assert!(matches!(
        read(&whole[..700]).oddities.first(),
        [Oddity::DicomTruncated { .. }]
    ));
}

/// Text in which entries, their parts and faults mix.
fn bundle_text() -> impl Strategy<Value = String> {
    let white = "[ \n\t]{0,2}";
    let entry = prop_oneof![
        4 => prop_oneof![Just("Patient"), Just("Condition"), Just("Medication"), Just("Claim"), Just("Nope")]
            .prop_map(resource),
        1 => "\\PC{0,8}".prop_map(|s| serde_json::to_string(&s).unwrap()),
        1 => Just("{\"resource\":{\"a\":[[{\"b\":\"}],\\\"\"}]]}}".to_owned()),
        1 => Just("-0.5e9".to_owned()),
    ];
    (
        proptest::collection::vec((entry, white), 0..12),
        white,
        any::<bool>(),
    )
        .prop_map(|(entries, white, type_first)| {
            let list: Vec<String> = entries.iter().map(|(e, w)| format!("{w}{e}{w}")).collect();
            let list = format!("\"entry\":{white}[{}]", list.join(","));
            let kind = "\"resourceType\" : \"Bundle\"";
            if type_first {
                format!("{white}{{{kind},{list}}}")
            } else {
                format!("{{{list},{kind}}}{white}")
            }
        })
}

proptest! {
    #[test]
    fn bundles_are_cut_where_serde_json_finds_their_entries(text in bundle_text()) {
        #[derive(serde::Deserialize)]
        struct Bundle<'a> { #[serde(borrow)] entry: Vec<&'a serde_json::value::RawValue> }
        let expected: Bundle<'_> = serde_json::from_str(&text).unwrap();
        let found = read(text.as_bytes());
        assert_tiled(&found, text.len());
        let entries: Vec<&str> = pieces_of(&found, &text).into_iter()
            .filter(|piece| piece.1 == Entry)
            .map(|piece| piece.2.trim_end_matches([',', ' ', '\n', '\t']))
            .collect();
        let expected: Vec<&str> = expected.entry.iter().map(|raw| raw.get()).collect();
        prop_assert_eq!(entries, expected);
        assert_comes_back(text.as_bytes());
    }

    #[test]
    fn any_bytes_are_tiled_and_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        assert_tiled(&read(&bytes), bytes.len());
        assert_comes_back(&bytes);
    }

    #[test]
    fn altered_bundles_are_tiled_and_come_back(
        text in bundle_text(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..6),
    ) {
        let mut bytes = text.into_bytes();
        for (place, byte, how) in changes {
            if bytes.is_empty() { break; }
            let place = place.index(bytes.len());
            match how {
                0 => bytes[place] = byte,
                1 => { bytes.remove(place); }
                _ => bytes.insert(place, byte),
            }
        }
        assert_tiled(&read(&bytes), bytes.len());
        assert_comes_back(&bytes);
    }
}

/// Ten thousand mutations of real files: bytes changed, ranges removed or doubled, ends cut off.
#[test]
fn mutated_samples_never_panic_and_always_come_back() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/");
    let bundle =
        std::fs::read_to_string(format!("{folder}secondary-hospital/stroke-stay.json")).unwrap();
    // A few entries of each sort are enough, and keep ten thousand runs short.
    let seeds = [
        format!(
            "{}]}}",
            bundle[..6_000]
                .rsplit_once(", {\"fullUrl\"")
                .or_else(|| bundle[..6_000].rsplit_once(",{\"fullUrl\""))
                .unwrap()
                .0
        )
        .into_bytes(),
        std::fs::read(format!("{folder}secondary-hospital/ct-head/17136")).unwrap(),
        std::fs::read(format!("{folder}community-hospital/admission.hl7")).unwrap(),
    ];
    assert!(read(&seeds[0]).pieces.len() > 3);
    // A small generator with a fixed seed (xorshift64), so that a failure repeats.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound.max(1) as u64) as usize
    };
    for round in 0..10_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=next(4) {
            let (a, b) = (next(bytes.len()), next(bytes.len()));
            let (from, to) = (a.min(b), a.max(b).min(a.min(b) + 200));
            match next(5) {
                0 if !bytes.is_empty() => bytes[a] = next(256) as u8,
                1 => {
                    bytes.drain(from..to);
                }
                2 => {
                    let copy = bytes[from..to].to_vec();
                    bytes.splice(b..b, copy);
                }
                3 => bytes.truncate(a),
                _ if !bytes.is_empty() => bytes[a] ^= 1 << next(8),
                _ => {}
            }
        }
        assert_tiled(&read(&bytes), bytes.len());
        assert_comes_back(&bytes);
    }
}
