//! HL7 v2 in its encoding with bars (ER7), as far as a store needs it: who sends what about whom, and
//! what to answer. The message itself is kept byte for byte and never rewritten.
//!
//! Nothing is expected of a message but that it begins with `MSH`: separators are the message's own,
//! segments end in CR, or in LF where there is no CR at all, and what is not understood is passed over.

use std::fmt;

use super::delivery::{PATIENT_NUMBERS_MAX, PatientNumber};

/// Bytes of a header's field that are mirrored in an acknowledgement; HL7 2.9 allows 227 in MSH-3.
const MIRRORED_BYTES_MAX: usize = 250;
/// Characters of a message's type in logs and file names: three parts of at most seven, and two carets.
const TYPE_CHARS_MAX: usize = 23;

/// The characters that divide a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Separators {
    field: u8,
    component: u8,
    repetition: u8,
    escape: u8,
    subcomponent: u8,
}

/// Why a message is not taken, with HL7's code for it (table 0357).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    code: u16,
    name: &'static str,
    /// Segment and field that are at fault; none if the message is not.
    place: Option<(&'static str, u8)>,
    /// What happened and what to do.
    pub(super) sentence: &'static str,
}

impl Fault {
    pub(super) const NO_HEADER: Self = Self {
        code: 100,
        name: "Segment sequence error",
        place: None,
        sentence: "The message does not begin with an MSH segment: send one message in each frame, \
                   and no batch",
    };
    pub(super) const NO_CONTROL_ID: Self = Self {
        code: 101,
        name: "Required field missing",
        place: Some(("MSH", 10)),
        sentence: "The message has no control id: fill MSH-10",
    };
    pub(super) const PROCESSING: Self = Self {
        code: 202,
        name: "Unsupported processing id",
        place: Some(("MSH", 11)),
        sentence: "The message is not marked as one that this gateway stores: send production \
                   messages, or allow this processing id in the gateway's configuration",
    };
    const NO_PATIENT: Self = Self {
        code: 200,
        name: "Unsupported message type",
        place: Some(("MSH", 9)),
        sentence: "The message has no PID segment: only messages about a patient are stored, do not \
                   send others here",
    };
    const NO_NUMBER: Self = Self {
        code: 101,
        name: "Required field missing",
        place: Some(("PID", 3)),
        sentence: "The message has no patient number that can be read: fill PID-3",
    };
    const SEVERAL_PATIENTS: Self = Self {
        code: 207,
        name: "Application internal error",
        place: Some(("PID", 3)),
        sentence: "The message is about more than one patient: send one message for each",
    };
    pub(super) const TOO_LONG: Self = Self {
        code: 207,
        name: "Application internal error",
        place: None,
        sentence: "The message is longer than this gateway takes: divide it, or raise \
                   message_bytes_max in the gateway's configuration",
    };
    pub(super) const TOO_LARGE: Self = Self {
        code: 207,
        name: "Application internal error",
        place: None,
        sentence: "The message is larger than the gateway's queue: raise the bounds in the gateway's \
                   configuration",
    };
    pub(super) const FULL: Self = Self {
        code: 207,
        name: "Application internal error",
        place: None,
        sentence: "The gateway's queue is full and nothing of the message was kept: send it again \
                   later, and have the gateway's dead letters looked at",
    };
    pub(super) const DISK: Self = Self {
        code: 207,
        name: "Application internal error",
        place: None,
        sentence: "The gateway's disk could not keep the message: send it again later, and have the \
                   gateway's log looked at",
    };
}

/// A message's header, segment MSH.
#[derive(Clone, Copy)]
pub(super) struct Header<'a> {
    separators: Separators,
    /// What follows MSH-1: MSH-2 and the later fields.
    fields: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads the header of a message; of one that was cut off, as far as it goes.
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, Fault> {
        // Some senders put an empty line before it.
        let rest = message.trim_ascii_start();
        let rest = rest.strip_prefix(b"MSH").ok_or(Fault::NO_HEADER)?;
        let (&field, rest) = rest.split_first().ok_or(Fault::NO_HEADER)?;
        if !field.is_ascii_punctuation() {
            return Err(Fault::NO_HEADER);
        }
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let fields = &rest[..end.unwrap_or(rest.len())];
        let encoding = fields.split(|byte| *byte == field).next();
        let encoding = encoding.unwrap_or_default();
        let of = |place: usize, usual: u8| match encoding.get(place) {
            Some(byte) if byte.is_ascii_punctuation() => *byte,
            _ => usual,
        };
        let separators = Separators {
            field,
            component: of(0, b'^'),
            repetition: of(1, b'~'),
            escape: of(2, b'\\'),
            subcomponent: of(3, b'&'),
        };
        let Separators {
            component,
            repetition,
            escape,
            subcomponent,
            ..
        } = separators;
        // What divides fields divides nothing else, or an answer could not be read.
        if [component, repetition, escape, subcomponent].contains(&field) {
            return Err(Fault::NO_HEADER);
        }
        Ok(Self { separators, fields })
    }

    /// A field by its number, from 2 on; empty if there is none.
    pub(super) fn field(&self, number: usize) -> &'a [u8] {
        let separator = self.separators.field;
        let mut fields = self.fields.split(|byte| *byte == separator);
        number
            .checked_sub(2)
            .and_then(|place| fields.nth(place))
            .unwrap_or_default()
    }

    /// MSH-10, which names the message for its sender; empty if there is none.
    pub(super) fn control_id(&self) -> &'a [u8] {
        self.field(10)
    }

    /// The first component of a field.
    pub(super) fn first(&self, number: usize) -> &'a [u8] {
        self.components(number).next().unwrap_or_default()
    }

    fn components(&self, number: usize) -> impl Iterator<Item = &'a [u8]> {
        let separator = self.separators.component;
        self.field(number).split(move |byte| *byte == separator)
    }

    /// Code and event of the message, such as `ORU^R01`, safe to be shown.
    pub(super) fn message_type(&self) -> String {
        let parts: Vec<String> = self
            .components(9)
            .take(2)
            .map(|part| {
                let plain = part.iter().filter(|byte| byte.is_ascii_alphanumeric());
                plain.take(7).map(|byte| char::from(*byte)).collect()
            })
            .collect();
        let mut text = parts.join("^");
        text.truncate(TYPE_CHARS_MAX);
        text
    }

    /// Whether it is itself an acknowledgement, which is never answered.
    pub(super) fn is_acknowledgement(&self) -> bool {
        self.first(9).eq_ignore_ascii_case(b"ACK") || self.first(9).eq_ignore_ascii_case(b"MCF")
    }
}

/// Under which numbers the hospital knows the patient of a message: those of PID-3, or else of PID-2, or
/// else of PID-4. A number comes once for each name that its authority has: the universal one as FHIR
/// writes it (`urn:oid:` and so on), and the local one.
///
/// # Errors
/// [`Fault`] if there is no PID, none with a readable number, or several with different numbers, which
/// would put one patient's data into another's record.
pub(super) fn patient_numbers(message: &[u8]) -> Result<Vec<PatientNumber>, Fault> {
    let header = Header::parse(message)?;
    let field = header.separators.field;
    let mut found: Option<Vec<PatientNumber>> = None;
    for segment in segments(message) {
        let Some(rest) = segment.strip_prefix(b"PID") else {
            continue;
        };
        if rest.first().is_some_and(|byte| *byte != field) {
            continue;
        }
        let fields: Vec<&[u8]> = segment.split(|byte| *byte == field).take(5).collect();
        let numbers = [3, 2, 4].into_iter().find_map(|place| {
            let numbers = numbers_of(&header, fields.get(place)?);
            (!numbers.is_empty()).then_some(numbers)
        });
        let numbers = numbers.ok_or(Fault::NO_NUMBER)?;
        match &found {
            Some(before) if *before != numbers => return Err(Fault::SEVERAL_PATIENTS),
            _ => found = Some(numbers),
        }
    }
    found.ok_or(Fault::NO_PATIENT)
}

/// The segments of a message.
fn segments(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = match message.contains(&b'\r') {
        true => b'\r',
        false => b'\n',
    };
    let lines = message.split(move |byte| *byte == end);
    lines.map(|line| line.strip_prefix(b"\n").unwrap_or(line))
}

/// The numbers of a field of type CX, which may be repeated.
fn numbers_of(header: &Header<'_>, field: &[u8]) -> Vec<PatientNumber> {
    let separators = header.separators;
    let latin = header.field(18).is_empty() || header.first(18).starts_with(b"8859/1");
    let mut numbers = Vec::new();
    for repetition in field.split(|byte| *byte == separators.repetition) {
        let components: Vec<&[u8]> = repetition
            .split(|byte| *byte == separators.component)
            .take(4)
            .collect();
        let text = |bytes: Option<&&[u8]>| {
            let bytes = unescape(bytes.copied().unwrap_or_default(), separators);
            match String::from_utf8(bytes) {
                Ok(text) => Some(text),
                Err(error) if latin => {
                    Some(error.as_bytes().iter().copied().map(char::from).collect())
                }
                Err(_) => None,
            }
        };
        // Two quotes say that the number was deleted.
        let Some(value) = text(components.first()).filter(|value| value != "\"\"") else {
            continue;
        };
        let authority = components.get(3).copied().unwrap_or_default();
        let authority: Vec<&[u8]> = authority
            .split(|byte| *byte == separators.subcomponent)
            .collect();
        let [local, universal, kind] = [0, 1, 2].map(|place| {
            let text = text(authority.get(place)).unwrap_or_default();
            text.trim().to_owned()
        });
        let universal = match (universal.is_empty(), kind.to_ascii_uppercase().as_str()) {
            (true, _) => None,
            (false, "ISO") => Some(format!("urn:oid:{universal}")),
            (false, "UUID") => Some(format!("urn:uuid:{}", universal.to_ascii_lowercase())),
            (false, _) => Some(universal),
        };
        let mut systems = vec![universal, Some(local)];
        systems.retain(|system| system.as_ref().is_some_and(|system| !system.is_empty()));
        if systems.is_empty() {
            systems.push(None);
        }
        for system in systems {
            if let Ok(number) = PatientNumber::new(system.as_deref(), &value)
                && !numbers.contains(&number)
                && numbers.len() < PATIENT_NUMBERS_MAX
            {
                numbers.push(number);
            }
        }
    }
    numbers
}

/// A text without the escapes for separators; others stand as they are.
fn unescape(text: &[u8], separators: Separators) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = match after {
            [letter, end, ..] if byte == separators.escape && *end == separators.escape => {
                match letter {
                    b'F' => Some(separators.field),
                    b'S' => Some(separators.component),
                    b'T' => Some(separators.subcomponent),
                    b'R' => Some(separators.repetition),
                    b'E' => Some(separators.escape),
                    _ => None,
                }
            }
            _ => None,
        };
        plain.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() {
            &after[2..]
        } else {
            after
        };
    }
    plain
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is on the disk.
    Taken,
    /// It was not taken, and may be later.
    NotNow(Fault),
    /// It was not taken, and never will be as it is.
    Never(Fault),
}

/// What an acknowledgement says (table 0008).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Aa,
    Ae,
    Ar,
    Ca,
    Ce,
    Cr,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aa => "AA",
            Self::Ae => "AE",
            Self::Ar => "AR",
            Self::Ca => "CA",
            Self::Ce => "CE",
            Self::Cr => "CR",
        })
    }
}

/// The acknowledgements of a message, in the order in which they are sent.
///
/// In the original mode (MSH-15 and MSH-16 empty) there is one: AA, AE if the same message may be taken
/// later, AR if not. In the enhanced mode the sender says of each kind whether it wants it: always (AL),
/// never (NE), of failures (ER), of successes (SU). MSH-15 asks for CA, CE or CR; MSH-16 for AA, AE or
/// AR, which follows at once, since a message that is on the disk is all that a store promises.
pub(super) fn acknowledgements(
    header: Option<&Header<'_>>,
    outcome: Outcome,
    moment: &str,
    mut unique: impl FnMut() -> String,
) -> Vec<Vec<u8>> {
    let asked = |number| header.map_or(&b""[..], |header| header.first(number));
    let (commit, application) = (asked(15), asked(16));
    let wants = |condition: &[u8]| match condition.to_ascii_uppercase().as_slice() {
        b"" | b"NE" => false,
        b"ER" => outcome != Outcome::Taken,
        b"SU" => outcome == Outcome::Taken,
        // An unknown condition is answered: whoever waits for an answer must not wait for ever.
        _ => true,
    };
    let [commits, applies] = match outcome {
        Outcome::Taken => [Code::Ca, Code::Aa],
        Outcome::NotNow(_) => [Code::Ce, Code::Ae],
        Outcome::Never(_) => [Code::Cr, Code::Ar],
    };
    let mut codes = Vec::new();
    if commit.is_empty() && application.is_empty() {
        codes.push(applies);
    }
    if wants(commit) {
        codes.push(commits);
    }
    if wants(application) {
        codes.push(applies);
    }
    let fault = match outcome {
        Outcome::Taken => None,
        Outcome::NotNow(fault) | Outcome::Never(fault) => Some(fault),
    };
    codes
        .into_iter()
        .map(|code| acknowledgement(header, code, fault, moment, &unique()))
        .collect()
}

/// One acknowledgement: MSH, MSA and, of a failure, ERR. It is ASCII but for what it mirrors.
fn acknowledgement(
    header: Option<&Header<'_>>,
    code: Code,
    fault: Option<Fault>,
    moment: &str,
    unique: &str,
) -> Vec<u8> {
    let separators = header.map_or(
        Separators {
            field: b'|',
            component: b'^',
            repetition: b'~',
            escape: b'\\',
            subcomponent: b'&',
        },
        |header| header.separators,
    );
    let mirrored = |number| header.map_or(&b""[..], |header| mirror(header.field(number)));
    let version = header.map_or(&b"2.5"[..], |header| header.first(12));
    let event = header.and_then(|header| header.components(9).nth(1));
    let own = |text: &str| escape(text, separators);
    let parts = |parts: &[&[u8]], by: u8| parts.join(&by);

    let encoding = [
        separators.component,
        separators.repetition,
        separators.escape,
        separators.subcomponent,
    ];
    let by = separators.component;
    let answers = match event.map(mirror) {
        None | Some(b"") => b"ACK".to_vec(),
        // The third part came with version 2.3.1.
        Some(event) if matches!(version, b"2.1" | b"2.2" | b"2.3") => parts(&[b"ACK", event], by),
        Some(event) => parts(&[b"ACK", event, b"ACK"], by),
    };
    let mut msh: Vec<Vec<u8>> = vec![
        b"MSH".to_vec(),
        encoding.to_vec(),
        // Receiver and sender change places.
        mirrored(5).to_vec(),
        mirrored(6).to_vec(),
        mirrored(3).to_vec(),
        mirrored(4).to_vec(),
        own(moment),
        Vec::new(),
        answers,
        own(unique),
        mirrored(11).to_vec(),
        match header {
            Some(_) => mirrored(12).to_vec(),
            None => version.to_vec(),
        },
    ];
    if !mirrored(18).is_empty() {
        // Sequence number, continuation, both conditions and the country are left empty.
        msh.extend(std::iter::repeat_n(Vec::new(), 5));
        msh.push(mirrored(18).to_vec());
    }
    let mut msa = vec![
        b"MSA".to_vec(),
        own(&code.to_string()),
        mirrored(10).to_vec(),
    ];
    let mut lines = Vec::new();
    if let Some(fault) = fault {
        msa.push(own(fault.sentence));
        let number = fault.code.to_string();
        let place = fault
            .place
            .map(|(segment, field)| (segment, field.to_string()));
        let err = if is_before_2_5(version) {
            // ERR-1: segment, sequence, field, and the code with its name and table.
            let code = parts(
                &[number.as_bytes(), &own(fault.name), b"HL70357"],
                separators.subcomponent,
            );
            let (segment, field) = place.unwrap_or_default();
            let sequence: &[u8] = if segment.is_empty() { b"" } else { b"1" };
            let location = [segment.as_bytes(), sequence, field.as_bytes(), &code];
            vec![b"ERR".to_vec(), parts(&location, by)]
        } else {
            let location = match &place {
                Some((segment, field)) => parts(&[segment.as_bytes(), b"1", field.as_bytes()], by),
                None => Vec::new(),
            };
            vec![
                b"ERR".to_vec(),
                Vec::new(),
                location,
                parts(&[number.as_bytes(), &own(fault.name), b"HL70357"], by),
                b"E".to_vec(),
                Vec::new(),
                Vec::new(),
                Vec::new(),
                own(fault.sentence),
            ]
        };
        lines.push(err);
    }
    lines.insert(0, msa);
    lines.insert(0, msh);
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(&line.join(&separators.field));
        text.push(b'\r');
    }
    text
}

/// What of a field is mirrored: no more than a field may have, and nothing that could end a segment or
/// the frame.
fn mirror(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| byte.is_ascii_control());
    let end = end.unwrap_or(field.len()).min(MIRRORED_BYTES_MAX);
    &field[..end]
}

/// An ASCII text of ours with the message's separators escaped.
fn escape(text: &str, separators: Separators) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        let letter = match byte {
            _ if byte == separators.escape => b'E',
            _ if byte == separators.field => b'F',
            _ if byte == separators.component => b'S',
            _ if byte == separators.subcomponent => b'T',
            _ if byte == separators.repetition => b'R',
            _ => {
                escaped.push(byte);
                continue;
            }
        };
        escaped.extend([separators.escape, letter, separators.escape]);
    }
    escaped
}

/// Whether errors are said in ERR-1, which version 2.5 replaced. What says no version is taken for a
/// later one.
fn is_before_2_5(version: &[u8]) -> bool {
    matches!(version, [b'2', b'.', minor, ..] if *minor < b'5')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORU: &[u8] =
        b"MSH|^~\\&|LAB|HOSP|WILLIS|HOSP|20261127120000||ORU^R01^ORU_R01|4711|P|2.5.1\r\
        PID|1||12345^^^HOSP&1.2.276.0.1&ISO^MR~900^^^NHS||Doe^Jane\r\
        OBX|1|NM|2345-7^Glucose^LN||5.4|mmol/L\r";

    fn numbers(message: &[u8]) -> Result<Vec<(Option<String>, String)>, Fault> {
        let numbers = patient_numbers(message)?;
        Ok(numbers
            .iter()
            .map(|number| {
                (
                    number.system().map(str::to_owned),
                    number.value().to_owned(),
                )
            })
            .collect())
    }

    fn pair(system: &str, value: &str) -> (Option<String>, String) {
        let system = (!system.is_empty()).then(|| system.to_owned());
        (system, value.to_owned())
    }

    fn with(message: &[u8], from: &str, to: &str) -> Vec<u8> {
        let text = String::from_utf8(message.to_vec()).unwrap();
        assert!(text.contains(from));
        text.replace(from, to).into_bytes()
    }

    #[test]
    fn the_numbers_of_pid_3_come_under_each_name_of_their_authority() {
        let expected = [
            pair("urn:oid:1.2.276.0.1", "12345"),
            pair("HOSP", "12345"),
            pair("NHS", "900"),
        ];
        assert_eq!(numbers(ORU).unwrap(), expected);
        // The same message with line feeds, with both, and with an empty line before.
        let text = String::from_utf8(ORU.to_vec()).unwrap();
        for ends in [
            text.replace('\r', "\n"),
            text.replace('\r', "\r\n"),
            format!("\r\n{text}"),
        ] {
            assert_eq!(numbers(ends.as_bytes()).unwrap(), expected);
        }
        // With other separators.
        let other: String = text
            .chars()
            .map(|c| match c {
                '|' => '#',
                '^' => '!',
                '&' => '%',
                c => c,
            })
            .collect();
        assert_eq!(numbers(other.as_bytes()).unwrap(), expected);
        // With a separator within a number, and a deleted one.
        let escaped = with(ORU, "900^^^NHS", "9\\T\\0^^^\\S\\~\"\"^^^X");
        assert_eq!(numbers(&escaped).unwrap()[2..], [pair("^", "9&0")]);
        let uuid = with(ORU, "&1.2.276.0.1&ISO", "&AB-CD&UUID");
        assert_eq!(numbers(&uuid).unwrap()[0], pair("urn:uuid:ab-cd", "12345"));
    }

    #[test]
    fn without_pid_3_the_older_fields_count() {
        let three = "|12345^^^HOSP&1.2.276.0.1&ISO^MR~900^^^NHS|";
        let two = with(ORU, three, "77^^^OLD||");
        assert_eq!(
            numbers(&with(&two, "||Doe", "|88|Doe")).unwrap(),
            [pair("OLD", "77")]
        );
        let four = with(ORU, three, "||88^^^ALT");
        assert_eq!(numbers(&four).unwrap(), [pair("ALT", "88")]);
        let none = with(ORU, three, "||");
        assert_eq!(numbers(&none), Err(Fault::NO_NUMBER));
        let header = ORU.split(|byte| *byte == b'\r').next().unwrap();
        assert_eq!(numbers(header), Err(Fault::NO_PATIENT));
    }

    #[test]
    fn a_message_of_two_patients_is_nobody_s() {
        let mut two = ORU.to_vec();
        two.extend_from_slice(b"PID|2||12346^^^HOSP\r");
        assert_eq!(numbers(&two), Err(Fault::SEVERAL_PATIENTS));
        let mut same = ORU.to_vec();
        same.extend_from_slice(b"PID|2||12345^^^HOSP&1.2.276.0.1&ISO^MR~900^^^NHS\r");
        assert!(numbers(&same).is_ok());
    }

    #[test]
    fn a_number_is_read_in_the_message_s_characters() {
        let mut latin = with(ORU, "900^^^NHS", "M?^^^NHS");
        let place = latin.iter().position(|byte| *byte == b'?').unwrap();
        latin[place] = 0xfc;
        assert_eq!(numbers(&latin).unwrap()[2], pair("NHS", "M\u{fc}"));
        let end = latin.iter().position(|byte| *byte == b'\r').unwrap();
        let cyrillic = [&latin[..end], b"||||||8859/5", &latin[end..]].concat();
        assert!(Header::parse(&cyrillic).unwrap().first(18) == b"8859/5");
        assert_eq!(
            numbers(&cyrillic).unwrap().len(),
            2,
            "what cannot be read is left out"
        );
    }

    fn answers(message: &[u8], outcome: Outcome) -> Vec<String> {
        let header = Header::parse(message).ok();
        let answers = acknowledgements(header.as_ref(), outcome, "20261127120001+0000", || {
            "u1".into()
        });
        let text = answers
            .into_iter()
            .map(|answer| String::from_utf8(answer).unwrap());
        text.collect()
    }

    #[test]
    fn an_acknowledgement_mirrors_what_it_answers() {
        assert_eq!(
            answers(ORU, Outcome::Taken),
            [
                "MSH|^~\\&|WILLIS|HOSP|LAB|HOSP|20261127120001+0000||ACK^R01^ACK|u1|P|2.5.1\r\
              MSA|AA|4711\r"
            ]
        );
        assert_eq!(
            answers(ORU, Outcome::NotNow(Fault::FULL)),
            [
                "MSH|^~\\&|WILLIS|HOSP|LAB|HOSP|20261127120001+0000||ACK^R01^ACK|u1|P|2.5.1\r\
              MSA|AE|4711|The gateway's queue is full and nothing of the message was kept: send it \
              again later, and have the gateway's dead letters looked at\r\
              ERR|||207^Application internal error^HL70357|E||||The gateway's queue is full and \
              nothing of the message was kept: send it again later, and have the gateway's dead \
              letters looked at\r"
            ]
        );
        let old = with(
            &with(ORU, "2.5.1", "2.3||||||8859/1"),
            "^~\\&|LAB",
            "^~\\&|L\\F\\B",
        );
        let [answer] = &answers(&old, Outcome::Never(Fault::NO_NUMBER))[..] else {
            panic!("one answer");
        };
        assert!(answer.starts_with(
            "MSH|^~\\&|WILLIS|HOSP|L\\F\\B|HOSP|20261127120001+0000||ACK^R01|u1|P|2.3||||||8859/1\r\
             MSA|AR|4711|The message has no patient number"
        ), "{answer}");
        assert!(
            answer.ends_with("ERR|PID^1^3^101&Required field missing&HL70357\r"),
            "{answer}"
        );
        // Of what has no header only this can be said.
        let [answer] = &answers(b"FHS|^~\\&|", Outcome::Never(Fault::NO_HEADER))[..] else {
            panic!("one answer");
        };
        assert!(answer.starts_with("MSH|^~\\&|||||20261127120001+0000||ACK|u1||2.5\rMSA|AR||"));
    }

    #[test]
    fn the_sender_says_which_acknowledgements_it_wants() {
        let outcomes = [
            Outcome::Taken,
            Outcome::NotNow(Fault::FULL),
            Outcome::Never(Fault::NO_PATIENT),
        ];
        // MSH-15, MSH-16, and what is answered to each outcome.
        let table: [(&str, &str, [&str; 3]); 9] = [
            ("", "", ["AA", "AE", "AR"]),
            ("AL", "NE", ["CA", "CE", "CR"]),
            ("AL", "", ["CA", "CE", "CR"]),
            ("NE", "AL", ["AA", "AE", "AR"]),
            ("NE", "NE", ["", "", ""]),
            ("ER", "NE", ["", "CE", "CR"]),
            ("SU", "ER", ["CA", "AE", "AR"]),
            ("AL", "AL", ["CA AA", "CE AE", "CR AR"]),
            ("XX", "", ["CA", "CE", "CR"]),
        ];
        for (commit, application, expected) in table {
            let message = with(ORU, "2.5.1", &format!("2.5.1|||{commit}|{application}"));
            for (outcome, expected) in outcomes.into_iter().zip(expected) {
                let codes: Vec<String> = answers(&message, outcome)
                    .iter()
                    .map(|answer| {
                        let (_, rest) = answer.split_once("\rMSA|").unwrap();
                        rest[..2].to_owned()
                    })
                    .collect();
                assert_eq!(
                    codes.join(" "),
                    expected,
                    "{commit} {application} {outcome:?}"
                );
            }
        }
    }

    #[test]
    fn a_type_is_safe_to_be_shown() {
        let kind = |message: &[u8]| Header::parse(message).unwrap().message_type();
        assert_eq!(kind(ORU), "ORU^R01");
        assert_eq!(
            kind(&with(ORU, "ORU^R01^", "O/../R\u{7}U12345678^R01^")),
            "ORU1234^R01"
        );
        assert_eq!(kind(b"MSH|"), "");
        for wrong in [
            &b"MSH"[..],
            b"MSH&",
            b"MSHX^~\\&X",
            b"MSH ^~\\& ",
            b"PID|",
            b"",
        ] {
            assert!(Header::parse(wrong).is_err(), "{}", wrong.escape_ascii());
        }
        assert!(
            Header::parse(b"MSH|^~\\&|||||||ACK^R01|1")
                .unwrap()
                .is_acknowledgement()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn whatever_comes_is_answered_in_one_frame(
            places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
            length in 0..=ORU.len(),
            outcome in 0..3,
        ) {
            let mut message = ORU.to_vec();
            for (place, byte) in places {
                message[place.index(ORU.len())] = byte;
            }
            message.truncate(length);
            let numbers = patient_numbers(&message);
            prop_assert!(numbers.is_err() || !numbers.unwrap().is_empty());
            let header = Header::parse(&message).ok();
            let outcome = match outcome {
                0 => Outcome::Taken,
                1 => Outcome::NotNow(Fault::FULL),
                _ => Outcome::Never(Fault::NO_NUMBER),
            };
            let answers = acknowledgements(header.as_ref(), outcome, "20261127", || "u".into());
            for answer in answers {
                prop_assert!(answer.iter().all(|byte| !matches!(byte, 0x0b | 0x1c | b'\n')));
                let segments = answer.iter().filter(|byte| **byte == b'\r').count();
                prop_assert_eq!(segments, if outcome == Outcome::Taken { 2 } else { 3 });
                // It is read back as what it is.
                let read = Header::parse(&answer).unwrap();
                prop_assert!(read.is_acknowledgement());
            }
        }

        #[test]
        fn whatever_bytes_come_nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let message = [b"MSH", &bytes[..]].concat();
            let _ = patient_numbers(&bytes);
            let _ = patient_numbers(&message);
            if let Ok(header) = Header::parse(&message) {
                let _ = header.message_type();
                let answers = acknowledgements(Some(&header), Outcome::Taken, "1", || "u".into());
                prop_assert!(answers.len() <= 2);
            }
        }
    }
}
