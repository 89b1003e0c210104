//! Keywords (`spec/formats.md` R2): what a record can be found by.

use std::collections::BTreeSet;
use std::fmt;

use thiserror::Error;

use crate::limits::{KEYWORD_BYTES_MAX, KEYWORDS_MAX, KEYWORDS_PER_FILE_MAX};
use crate::{systems, words};

/// Why a text is no keyword. The person who typed it changes it as the message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeywordError {
    /// The first word names no kind of keyword.
    #[error(
        "the kind of keyword is not known; begin with word, code, resource, message, modality, \
         body-part, sop-class, media or pathway"
    )]
    Kind,
    /// Parts are missing, empty or too many.
    #[error(
        "parts of the keyword are missing; write it like: code http://snomed.info/sct 230690007"
    )]
    Parts,
    /// The pathway is not one that records are found by.
    #[error("the pathway is not known; the one that there is is: pathway cerebrovascular")]
    Pathway,
    /// What follows `word` is not one word that is searched for.
    #[error(
        "this is not one word that can be searched for; give one word of at least three letters that \
         is not as common as the, or two to four Chinese or Japanese characters"
    )]
    Word,
    /// A part has a control character or a misplaced backslash.
    #[error("the keyword has a character that cannot be searched for; remove it")]
    Character,
    /// The canonical form would be longer than 256 bytes.
    #[error("the keyword is longer than 256 bytes; search for a shorter one")]
    TooLong,
}

/// A keyword in its one canonical form: a kind and its parts, joined by `|`, in UTF-8, 1 to 256
/// bytes. Two keywords find each other exactly if their bytes are equal.
///
/// ```
/// # use record::Keyword;
/// let typed = Keyword::parse("code snomed 230690007")?;
/// assert_eq!(typed.as_str(), "code|http://snomed.info/sct|230690007");
/// assert_eq!(Keyword::parse(typed.as_str())?, typed);
/// # Ok::<(), record::KeywordError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Keyword(String);

impl Keyword {
    /// `resource|TYPE`: a FHIR resource type.
    ///
    /// # Errors
    /// [`KeywordError`] if the type is empty, too long or has control characters.
    pub fn resource(resource_type: &str) -> Result<Self, KeywordError> {
        Self::join(RESOURCE, &[resource_type])
    }

    /// `code|SYSTEM|CODE`: a code and the URI of its system. A system that is given by one of the
    /// short names that [`Keyword::parse`] knows becomes its URI.
    ///
    /// # Errors
    /// As [`Keyword::resource`].
    pub fn code(system: &str, code: &str) -> Result<Self, KeywordError> {
        Self::join(CODE, &[systems::of_short_name(system.trim()), code])
    }

    /// `dicom.modality|MODALITY`, in upper case (DICOM attribute (0008,0060)).
    ///
    /// # Errors
    /// As [`Keyword::resource`].
    pub fn dicom_modality(modality: &str) -> Result<Self, KeywordError> {
        Self::join(DICOM_MODALITY, &[&modality.to_ascii_uppercase()])
    }

    /// `dicom.body-part|PART`, in upper case (DICOM attribute (0018,0015)).
    ///
    /// # Errors
    /// As [`Keyword::resource`].
    pub fn dicom_body_part(part: &str) -> Result<Self, KeywordError> {
        Self::join(DICOM_BODY_PART, &[&part.to_ascii_uppercase()])
    }

    /// `dicom.sop-class|UID` (DICOM attribute (0008,0016)).
    ///
    /// # Errors
    /// As [`Keyword::resource`].
    pub fn dicom_sop_class(uid: &str) -> Result<Self, KeywordError> {
        Self::join(DICOM_SOP_CLASS, &[uid])
    }

    /// `media|TYPE`, in lower case: the media type of a file that is not understood.
    ///
    /// # Errors
    /// As [`Keyword::resource`].
    pub fn media(media_type: &str) -> Result<Self, KeywordError> {
        Self::join(MEDIA, &[&media_type.to_ascii_lowercase()])
    }

    /// `message|TYPE`: the type of an HL7 v2 message and its event, such as `ORU^R01`.
    ///
    /// # Errors
    /// As [`Keyword::resource`].
    pub fn message(message_type: &str) -> Result<Self, KeywordError> {
        Self::join(MESSAGE, &[&message_type.to_ascii_uppercase()])
    }

    /// `word|WORD`: a word of a title or a problem list in its normal form (`spec/formats.md` R2).
    ///
    /// # Errors
    /// [`KeywordError::Word`] if the text is not one word that is searched for.
    pub fn word(text: &str) -> Result<Self, KeywordError> {
        let normal = words::one(text).ok_or(KeywordError::Word)?;
        Ok(Self::of_normal_word(&normal))
    }

    /// A word that is in its normal form: no sign of it needs protection, and it is short.
    pub(crate) fn of_normal_word(word: &str) -> Self {
        Self(format!("{WORD}|{word}"))
    }

    /// `pathway|cerebrovascular`: that a record has a code of the stroke pathway (`spec/formats.md` R2),
    /// whichever it is. One keyword finds what otherwise each code of a list would.
    pub fn cerebrovascular() -> Self {
        Self(format!("{PATHWAY}|{CEREBROVASCULAR}"))
    }

    /// What a person types, or a canonical form: a kind and its parts, separated by spaces or by
    /// `|`. Kinds may be shortened (`modality CT`), words are brought into their form (`word Stroke`),
    /// and well-known code systems named (`snomed`, `loinc`, `icd-10`, `icd-10-cm`, `rxnorm`, `atc`,
    /// `cvx`).
    ///
    /// # Errors
    /// [`KeywordError`], whose message tells the person what to change.
    pub fn parse(text: &str) -> Result<Self, KeywordError> {
        let text = text.trim();
        // A longer text cannot become a keyword: names of systems grow by less than this.
        if text.len() > 2 * KEYWORD_BYTES_MAX {
            return Err(KeywordError::TooLong);
        }
        let kind_len = text.find(|c: char| c == '|' || c.is_whitespace());
        let (kind, rest) = text.split_at(kind_len.ok_or(KeywordError::Parts)?);
        let parts = if let Some(canonical) = rest.strip_prefix('|') {
            split_escaped(canonical)?
        } else {
            split_typed(kind, rest)
        };
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (kind, parts.as_slice()) {
            (RESOURCE, [resource_type]) => Self::resource(resource_type),
            (CODE, [system, code]) => Self::code(system, code),
            (DICOM_MODALITY | "modality", [modality]) => Self::dicom_modality(modality),
            (DICOM_BODY_PART | "body-part", [part]) => Self::dicom_body_part(part),
            (DICOM_SOP_CLASS | "sop-class", [uid]) => Self::dicom_sop_class(uid),
            (MEDIA, [media_type]) => Self::media(media_type),
            (MESSAGE, [message_type]) => Self::message(message_type),
            (WORD, [word]) => Self::word(word),
            (PATHWAY, [CEREBROVASCULAR]) => Ok(Self::cerebrovascular()),
            (PATHWAY, [_]) => Err(KeywordError::Pathway),
            _ if KINDS.contains(&kind) => Err(KeywordError::Parts),
            _ => Err(KeywordError::Kind),
        }
    }

    /// Whether it is a code of the stroke pathway: a cerebrovascular disease of the tenth International
    /// Classification of Diseases or of an edition of it (I60 to I69), one of SNOMED CT, or the stroke
    /// scale of the National Institutes of Health in LOINC.
    pub(crate) fn is_cerebrovascular(&self) -> bool {
        let Some((system, code)) = self
            .0
            .strip_prefix("code|")
            .and_then(|rest| rest.rsplit_once('|'))
        else {
            return false;
        };
        let letters = system.chars().filter(char::is_ascii_alphanumeric);
        let letters = letters.collect::<String>().to_ascii_lowercase();
        match system {
            "http://snomed.info/sct" => STROKE_SNOMED.contains(&code),
            "http://loinc.org" => STROKE_LOINC.contains(&code),
            _ if letters.contains("icd10") => {
                let mut signs = code.chars();
                signs.next() == Some('I')
                    && signs.next() == Some('6')
                    && signs.next().is_some_and(|sign| sign.is_ascii_digit())
            }
            _ => false,
        }
    }

    /// The canonical form; its bytes enter the index.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Words are left out first when a record has too many keywords, because what a code says is surer;
    /// then codes, because a record has few of the others.
    fn priority(&self) -> Priority {
        match self.0.split('|').next() {
            Some(WORD) => Priority::Word,
            Some(CODE) => Priority::Code,
            _ => Priority::Other,
        }
    }

    fn join(kind: &str, parts: &[&str]) -> Result<Self, KeywordError> {
        let mut joined = kind.to_owned();
        for part in parts {
            let part = part.trim();
            if part.is_empty() {
                return Err(KeywordError::Parts);
            }
            joined.push('|');
            for c in part.chars() {
                if c.is_control() {
                    return Err(KeywordError::Character);
                }
                if matches!(c, '|' | '\\') {
                    joined.push('\\');
                }
                joined.push(c);
            }
            if joined.len() > KEYWORD_BYTES_MAX {
                return Err(KeywordError::TooLong);
            }
        }
        Ok(Self(joined))
    }
}

impl From<&Keyword> for scheme::Keyword {
    fn from(keyword: &Keyword) -> Self {
        Self::new(keyword.0.as_bytes()).expect("both crates bound a keyword by 256 bytes")
    }
}

impl fmt::Display for Keyword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The distinct keywords of a record, at most 1,023, in the order of their bytes. The empty keyword
/// ("any record of this episode") is no member: the scheme adds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeywordSet {
    sorted: BTreeSet<Keyword>,
}

impl KeywordSet {
    /// The keywords, sorted by their bytes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Keyword> {
        self.sorted.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Whether this keyword is one of them.
    pub fn contains(&self, keyword: &Keyword) -> bool {
        self.sorted.contains(keyword)
    }
}

enum Priority {
    Other,
    Code,
    Word,
}

/// What a record's keywords are chosen from: at most 4,092 codes, as many of the other kinds, and 1,023
/// words, (2 x 4,092 + 1,023) x 256 bytes = 2.25 MiB, however many files the record has.
#[derive(Debug, Clone)]
pub(crate) struct Candidates {
    others: Found,
    codes: Found,
    words: Found,
}

impl Candidates {
    pub(crate) fn new() -> Self {
        Self {
            others: Found::new(KEYWORDS_PER_FILE_MAX),
            codes: Found::new(KEYWORDS_PER_FILE_MAX),
            words: Found::new(KEYWORDS_MAX),
        }
    }

    pub(crate) fn add(&mut self, keyword: Keyword) {
        let found = match keyword.priority() {
            Priority::Other => &mut self.others,
            Priority::Code => &mut self.codes,
            Priority::Word => &mut self.words,
        };
        found.add(keyword);
    }

    /// At most 1,023 of them, earlier ones before later, codes behind the other kinds and words last,
    /// and how many are left out (one that came again after its kind had no room is counted again).
    pub(crate) fn choose(&self) -> (KeywordSet, usize) {
        let kinds = [&self.others, &self.codes, &self.words];
        let in_order = || kinds.into_iter().flat_map(|found| &found.in_order);
        let refused: usize = kinds.into_iter().map(|found| found.left_out).sum();
        let left_out = in_order().count().saturating_sub(KEYWORDS_MAX) + refused;
        (
            KeywordSet {
                sorted: in_order().take(KEYWORDS_MAX).cloned().collect(),
            },
            left_out,
        )
    }
}

/// Distinct keywords in the order in which they were found, up to a bound.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    known: BTreeSet<Keyword>,
    in_order: Vec<Keyword>,
    bound: usize,
    left_out: usize,
}

impl Found {
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            known: BTreeSet::new(),
            in_order: Vec::new(),
            bound,
            left_out: 0,
        }
    }

    pub(crate) fn add(&mut self, keyword: Keyword) {
        if self.known.contains(&keyword) {
            return;
        }
        if self.in_order.len() >= self.bound {
            self.left_out += 1;
            return;
        }
        self.known.insert(keyword.clone());
        self.in_order.push(keyword);
    }

    /// The keywords, and how many additions found no room.
    pub(crate) fn into_parts(self) -> (Vec<Keyword>, usize) {
        (self.in_order, self.left_out)
    }
}

/// Undoes the canonical form's joining: parts end at a bare `|`, `\` protects `|` and `\`.
fn split_escaped(text: &str) -> Result<Vec<String>, KeywordError> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '|' => parts.push(String::new()),
            '\\' => match chars.next() {
                Some(c @ ('|' | '\\')) => push_last(&mut parts, c),
                _ => return Err(KeywordError::Character),
            },
            c => push_last(&mut parts, c),
        }
    }
    Ok(parts)
}

fn push_last(parts: &mut [String], c: char) {
    if let Some(last) = parts.last_mut() {
        last.push(c);
    }
}

/// A code is a system, which has no space, and the rest of the line; every other kind has one part.
fn split_typed(kind: &str, rest: &str) -> Vec<String> {
    let rest = rest.trim();
    match rest.split_once(char::is_whitespace) {
        Some((system, code)) if kind == CODE => vec![system.to_owned(), code.trim().to_owned()],
        _ => vec![rest.to_owned()],
    }
}

/// Cerebrovascular disease, stroke, ischaemic stroke, cerebral infarction, cerebral and subarachnoid
/// haemorrhage.
const STROKE_SNOMED: [&str; 6] = [
    "62914000",
    "230690007",
    "422504002",
    "432504007",
    "274100004",
    "21454007",
];
/// The scale's total, as it is observed and as a panel.
const STROKE_LOINC: [&str; 2] = ["70182-1", "72089-6"];

const RESOURCE: &str = "resource";
const CODE: &str = "code";
const DICOM_MODALITY: &str = "dicom.modality";
const DICOM_BODY_PART: &str = "dicom.body-part";
const DICOM_SOP_CLASS: &str = "dicom.sop-class";
const MEDIA: &str = "media";
const MESSAGE: &str = "message";
const WORD: &str = "word";
const PATHWAY: &str = "pathway";
const CEREBROVASCULAR: &str = "cerebrovascular";
const KINDS: [&str; 12] = [
    PATHWAY,
    RESOURCE,
    CODE,
    MESSAGE,
    WORD,
    DICOM_MODALITY,
    DICOM_BODY_PART,
    DICOM_SOP_CLASS,
    MEDIA,
    "modality",
    "body-part",
    "sop-class",
];

const _: () = assert!(KEYWORD_BYTES_MAX == scheme::KEYWORD_BYTES_MAX);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_of_the_stroke_pathway_are_known() {
        let is =
            |system: &str, code: &str| Keyword::code(system, code).unwrap().is_cerebrovascular();
        for (system, code) in [
            ("icd-10", "I63.9"),
            ("icd-10-cm", "I69.351"),
            (
                "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full",
                "I619",
            ),
            ("snomed", "230690007"),
            ("loinc", "70182-1"),
        ] {
            assert!(is(system, code), "{system} {code}");
        }
        for (system, code) in [
            ("icd-10", "I10"),
            ("icd-10", "I6"),
            ("icd-10", "Z86.73"),
            ("snomed", "38341003"),
            ("loinc", "8480-6"),
            ("urn:x", "I63.9"),
        ] {
            assert!(!is(system, code), "{system} {code}");
        }
        let pathway = Keyword::parse("pathway cerebrovascular").unwrap();
        assert_eq!(pathway, Keyword::cerebrovascular());
        assert_eq!(Keyword::parse(pathway.as_str()), Ok(pathway));
        assert_eq!(Keyword::parse("pathway x"), Err(KeywordError::Pathway));
    }

    #[test]
    fn what_people_type_becomes_canonical() {
        for (typed, canonical) in [
            (
                "code http://snomed.info/sct 230690007",
                "code|http://snomed.info/sct|230690007",
            ),
            (
                "  code   snomed\t230690007 ",
                "code|http://snomed.info/sct|230690007",
            ),
            (
                "code|http://loinc.org|70182-1",
                "code|http://loinc.org|70182-1",
            ),
            (
                "code icd-10-cm I63.9",
                "code|http://hl7.org/fhir/sid/icd-10-cm|I63.9",
            ),
            ("resource Condition", "resource|Condition"),
            ("modality ct", "dicom.modality|CT"),
            ("dicom.modality|CT", "dicom.modality|CT"),
            ("body-part head", "dicom.body-part|HEAD"),
            (
                "sop-class 1.2.840.10008.5.1.4.1.1.2",
                "dicom.sop-class|1.2.840.10008.5.1.4.1.1.2",
            ),
            ("media Text/Plain", "media|text/plain"),
            ("message oru^r01", "message|ORU^R01"),
            ("word Stroke,", "word|stroke"),
            (
                "word \u{8133}\u{5352}\u{4e2d}",
                "word|\u{8133}\u{5352}\u{4e2d}",
            ),
            (r"code|urn:x\|y|a\\b", r"code|urn:x\|y|a\\b"),
            ("code urn:x|y 1", r"code|urn:x\|y|1"),
        ] {
            assert_eq!(
                Keyword::parse(typed).unwrap().as_str(),
                canonical,
                "{typed}"
            );
        }
    }

    #[test]
    fn what_is_no_keyword_is_said_to_be_none() {
        for (typed, error) in [
            ("", KeywordError::Parts),
            ("code", KeywordError::Parts),
            ("code snomed", KeywordError::Parts),
            ("code||1", KeywordError::Parts),
            ("code|a|b|c", KeywordError::Parts),
            ("resource| ", KeywordError::Parts),
            ("stroke please", KeywordError::Kind),
            ("word stroke unit", KeywordError::Word),
            ("word of", KeywordError::Word),
            ("word|the", KeywordError::Word),
            ("message", KeywordError::Parts),
            (r"code|a|b\c", KeywordError::Character),
            ("resource a\u{7}b", KeywordError::Character),
        ] {
            assert_eq!(Keyword::parse(typed), Err(error), "{typed:?}");
        }
        assert_eq!(
            Keyword::resource(&"x".repeat(248)),
            Err(KeywordError::TooLong)
        );
        assert_eq!(
            Keyword::resource(&"x".repeat(247)).unwrap().as_str().len(),
            256
        );
        assert_eq!(
            Keyword::parse(&"x".repeat(10_000)),
            Err(KeywordError::TooLong)
        );
    }

    #[test]
    fn words_give_way_to_codes_and_codes_to_the_other_kinds() {
        let words = ["stroke", "brain"].map(|word| Keyword::word(word).unwrap());
        let codes = (0..2_000).map(|n| Keyword::code("urn:x", &n.to_string()).unwrap());
        let last = Keyword::resource("Patient").unwrap();
        let mut candidates = Candidates::new();
        for keyword in words
            .iter()
            .cloned()
            .chain(codes)
            .chain([last.clone(), last.clone()])
        {
            candidates.add(keyword);
        }
        let (set, left_out) = candidates.choose();
        assert_eq!((set.len(), left_out), (KEYWORDS_MAX, 2_003 - KEYWORDS_MAX));
        assert!(words.iter().all(|word| !set.contains(word)));
        assert!(set.contains(&last));
        assert!(set.contains(&Keyword::code("urn:x", "0").unwrap()));
        assert!(!set.contains(&Keyword::code("urn:x", "1999").unwrap()));
    }

    proptest! {
        #[test]
        fn canonical_forms_parse_to_themselves(system in "\\PC{1,40}", code in "\\PC{1,40}") {
            if let Ok(keyword) = Keyword::code(&system, &code) {
                prop_assert_eq!(Keyword::parse(keyword.as_str()).unwrap(), keyword);
            }
        }

        #[test]
        fn distinct_parts_make_distinct_keywords(
            a in "[a|\\\\]{1,4}", b in "[a|\\\\]{1,4}", c in "[a|\\\\]{1,4}", d in "[a|\\\\]{1,4}",
        ) {
            let first = Keyword::code(&a, &b).unwrap();
            let second = Keyword::code(&c, &d).unwrap();
            prop_assert_eq!(first == second, (a, b) == (c, d));
        }

        #[test]
        fn any_text_parses_or_says_why(text in "\\PC{0,300}") {
            if let Ok(keyword) = Keyword::parse(&text) {
                prop_assert!(keyword.as_str().len() <= KEYWORD_BYTES_MAX);
                prop_assert_eq!(Keyword::parse(keyword.as_str()).unwrap(), keyword);
            }
        }
    }
}
