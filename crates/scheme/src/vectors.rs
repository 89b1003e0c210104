//! Runs every vector of `spec/vectors/`, which an implementation in another language printed from
//! `spec/scheme.md`, against this one. The forms of the files, their calls and error classes are
//! described in `spec/vectors/README.md`.
//!
//! One module per file. Its table maps each call to what this crate does for it; a call that is not
//! in the table, an entry of the table that no vector uses and a field of an input that is not read
//! fail the test. What a vector fixes and a user must not (nonces, blinding factors, polynomials)
//! goes in through crate-private functions or through [`Script`], which exists in tests only.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::error::Error;

use rand_core::{TryCryptoRng, TryRng};
use serde_json::{Map, Value};

use crate::document::{ForeignEncapsulation, OpenError, SealError, WrongKey};
use crate::encoding::{DecodeError, Decoder};
use crate::grant::{ForeignGrant, GrantError, PartError};
use crate::group::{G1, G2, Gt, Scalar};
use crate::hash::{self, Domain};
use crate::index::{Degenerate, NotThisLocator, UnblindError};
use crate::keys::BadProof;
use crate::params::ConsortiumId;
use crate::pseudonym::Pid;
use crate::re_encryption::{BadShare, CombineError, LyingNode};
use crate::sealing::{CannotOpen, UnusableKey};
use crate::signature::{BadSignature, StatementError};

mod access_log;
mod agents;
mod containers;
mod encoding;
mod grants;
mod groups;
mod hashes;
mod index;
mod keys;
mod pseudonyms;
mod query;
mod re_encryption;
mod sealing;
mod signatures;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/");

const ALL: [&Consumer; 14] = [
    &access_log::CONSUMER,
    &agents::CONSUMER,
    &containers::CONSUMER,
    &encoding::CONSUMER,
    &grants::CONSUMER,
    &groups::CONSUMER,
    &hashes::CONSUMER,
    &index::CONSUMER,
    &keys::CONSUMER,
    &pseudonyms::CONSUMER,
    &query::CONSUMER,
    &re_encryption::CONSUMER,
    &sealing::CONSUMER,
    &signatures::CONSUMER,
];

#[test]
fn every_file_is_consumed_and_most_vectors_are_negative() {
    let consumed: BTreeSet<String> = ALL
        .iter()
        .map(|consumer| format!("{}.json", consumer.file))
        .collect();
    assert_eq!(consumed.len(), ALL.len(), "a file has two consumers");
    let listed: BTreeSet<String> = std::fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json"))
        .collect();
    assert_eq!(consumed, listed);
    let files: Vec<_> = ALL
        .iter()
        .map(|consumer| File::read(consumer.file))
        .collect();
    let positive: usize = files.iter().map(|file| file.positive.len()).sum();
    let negative: usize = files.iter().map(|file| file.negative.len()).sum();
    assert!(negative >= 100, "{negative} negative vectors");
    assert!(
        negative > positive,
        "{negative} negative, {positive} positive"
    );
}

/// A consumer that let a wrong vector pass would be worth nothing.
#[test]
fn wrong_vectors_fail() {
    let fails = |change: fn(&mut File)| {
        let mut file = File::read("encoding");
        change(&mut file);
        std::panic::catch_unwind(|| encoding::CONSUMER.check(&file)).is_err()
    };
    assert!(!fails(|_| ()));
    // Another output, a field more in it.
    assert!(fails(|file| file.positive[1].end["encoded"] = "00".into()));
    assert!(fails(|file| file.positive[1].end["more"] = "00".into()));
    // One kind of vector among the other.
    assert!(fails(
        |file| file.negative[0].input = file.positive[4].input.clone()
    ));
    assert!(fails(
        |file| file.positive[4].input = file.negative[0].input.clone()
    ));
    // Another class.
    assert!(fails(|file| file.negative[0].end = "trailing".into()));
    // An unknown call, one that nothing calls, a name twice, a field that nothing reads.
    assert!(fails(|file| file.positive[0].call = "encode".to_owned()));
    assert!(fails(|file| file
        .positive
        .retain(|vector| vector.call != "in")));
    assert!(fails(
        |file| file.negative[1].name = file.negative[0].name.clone()
    ));
    assert!(fails(|file| {
        file.positive[0]
            .input
            .insert("more".to_owned(), Value::Null);
    }));
    // A difference that no vector needs.
    let consumer = Consumer {
        differences: groups::CONSUMER.differences,
        ..encoding::CONSUMER
    };
    let file = File::read("encoding");
    assert!(std::panic::catch_unwind(|| consumer.check(&file)).is_err());
}

/// What this crate does for one call: the output's fields, or the refusal.
type Call = fn(&Input<'_>) -> Result<Value, Refused>;

/// How one file is run.
struct Consumer {
    file: &'static str,
    calls: &'static [(&'static str, Call)],
    differences: &'static [Difference],
}

/// A negative vector that this crate refuses at another step than the class says, and why that is
/// as good.
struct Difference {
    name: &'static str,
    class: &'static str,
    why: &'static str,
}

impl Consumer {
    fn run(&self) {
        self.check(&File::read(self.file));
    }

    fn check(&self, file: &File) {
        let mut unused: BTreeSet<&str> = self.calls.iter().map(|(call, _)| *call).collect();
        assert_eq!(unused.len(), self.calls.len(), "a call stands twice");
        let mut differing: BTreeMap<&str, &Difference> =
            self.differences.iter().map(|one| (one.name, one)).collect();
        assert_eq!(differing.len(), self.differences.len());
        let mut names = BTreeSet::new();
        for vector in &file.positive {
            assert!(
                names.insert(vector.name.as_str()),
                "{} stands twice",
                vector.name
            );
            unused.remove(vector.call.as_str());
            let output = self.answer(vector).unwrap_or_else(|refused| {
                panic!(
                    "{}: \"{}\" is refused: {}",
                    self.file, vector.name, refused.what
                )
            });
            let expected = expanded(&vector.end);
            if output != expected {
                let differs = expected.as_object().unwrap().iter();
                let differs: Vec<_> = differs
                    .filter(|(key, one)| output.get(key) != Some(one))
                    .collect();
                panic!(
                    "{}: \"{}\" differs, expected {differs:?}, found {output}",
                    self.file, vector.name
                );
            }
        }
        for vector in &file.negative {
            assert!(
                names.insert(vector.name.as_str()),
                "{} stands twice",
                vector.name
            );
            unused.remove(vector.call.as_str());
            let declared = vector.end.as_str().unwrap();
            let Err(refused) = self.answer(vector) else {
                panic!(
                    "{}: \"{}\" is accepted, declared {declared}",
                    self.file, vector.name
                );
            };
            let expected = differing
                .remove(vector.name.as_str())
                .map_or(declared, |one| {
                    assert_ne!(one.class, declared, "\"{}\" is no difference", one.name);
                    assert!(!one.why.is_empty(), "\"{}\" has no reason", one.name);
                    one.class
                });
            assert!(
                refused.classes.contains(&expected),
                "{}: \"{}\" is {:?}, not {expected}: {}",
                self.file,
                vector.name,
                refused.classes,
                refused.what
            );
        }
        assert!(
            unused.is_empty(),
            "{}: no vector calls {unused:?}",
            self.file
        );
        assert!(
            differing.is_empty(),
            "{}: no negative vector is named {:?}",
            self.file,
            differing.keys()
        );
    }

    fn answer(&self, vector: &Vector) -> Result<Value, Refused> {
        let (_, call) = self
            .calls
            .iter()
            .find(|(call, _)| *call == vector.call)
            .unwrap_or_else(|| panic!("{}: unknown call {}", self.file, vector.call));
        let input = Input::new(&vector.input);
        let answer = call(&input)?;
        let read = input.read.into_inner();
        for field in vector.input.keys() {
            assert!(
                read.contains(field),
                "\"{}\": {field} is not read",
                vector.name
            );
        }
        Ok(answer)
    }
}

/// A file of vectors, every field put together.
struct File {
    positive: Vec<Vector>,
    negative: Vec<Vector>,
}

/// `end` is the output of a positive vector, the class of a negative one.
struct Vector {
    name: String,
    call: String,
    input: Map<String, Value>,
    end: Value,
}

impl File {
    fn read(name: &str) -> Self {
        let text = std::fs::read_to_string(format!("{FOLDER}{name}.json")).unwrap();
        let mut file: Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(file.remove("algorithm").unwrap(), name);
        assert!(file.remove("equations").unwrap().is_array());
        let positive: Vec<_> = vectors(&mut file, "positive", "output");
        let negative = vectors(&mut file, "negative", "expect");
        assert!(file.is_empty(), "{name}: unknown fields");
        let whole: BTreeMap<String, Map<String, Value>> = positive
            .iter()
            .map(|vector| {
                let mut fields = vector.end.as_object().unwrap().clone();
                fields.extend(vector.input.clone());
                (vector.name.clone(), fields)
            })
            .collect();
        let resolve = |vectors: Vec<Vector>| {
            let mut vectors = vectors;
            for vector in &mut vectors {
                for (field, value) in &mut vector.input {
                    if let Some(joined) = joined(field, value, &whole) {
                        *value = Value::String(joined);
                    }
                }
            }
            vectors
        };
        Self {
            positive: resolve(positive),
            negative: resolve(negative),
        }
    }
}

fn vectors(file: &mut Map<String, Value>, kind: &str, end: &str) -> Vec<Vector> {
    let Some(Value::Array(list)) = file.remove(kind) else {
        panic!("no {kind} vectors");
    };
    list.into_iter()
        .map(|vector| {
            let Value::Object(mut vector) = vector else {
                panic!("a vector is an object");
            };
            let mut take = |field: &str| vector.remove(field).unwrap();
            let (name, call, input, end) = (take("name"), take("call"), take("input"), take(end));
            assert!(vector.is_empty(), "{name}: unknown fields");
            Vector {
                name: name.as_str().unwrap().to_owned(),
                call: call.as_str().unwrap().to_owned(),
                input: input.as_object().unwrap().clone(),
                end,
            }
        })
        .collect()
}

/// `{"of": name, "pieces": [[from, to] or hex]}` as hex; `None` for any other value.
fn joined(
    field: &str,
    value: &Value,
    whole: &BTreeMap<String, Map<String, Value>>,
) -> Option<String> {
    let of = value.get("of")?.as_str().unwrap();
    let source = match &whole[of][field] {
        // One that is itself put together is the whole of another.
        nested @ Value::Object(_) => joined(field, nested, whole).unwrap(),
        Value::String(hex) => hex.clone(),
        other => panic!("{field} of {of} is {other}"),
    };
    let piece = |piece: &Value| match piece {
        Value::String(hex) => hex.clone(),
        Value::Array(ends) => {
            let end = |k: usize| 2 * usize::try_from(ends[k].as_u64().unwrap()).unwrap();
            source[end(0)..end(1)].to_owned()
        }
        other => panic!("a piece is {other}"),
    };
    Some(
        value["pieces"]
            .as_array()
            .unwrap()
            .iter()
            .map(piece)
            .collect(),
    )
}

/// `{"repeat": hex, "count": n}` written out, at any depth.
fn expanded(value: &Value) -> Value {
    match value {
        Value::Object(fields) if fields.contains_key("repeat") => {
            Value::String(hex::encode(bytes_of(value)))
        }
        Value::Object(fields) => fields
            .iter()
            .map(|(field, value)| (field.clone(), expanded(value)))
            .collect(),
        Value::Array(list) => list.iter().map(expanded).collect(),
        other => other.clone(),
    }
}

fn bytes_of(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => {
            assert!(!text.bytes().any(|byte| byte.is_ascii_uppercase()));
            hex::decode(text).unwrap()
        }
        Value::Object(fields) => {
            let count = usize::try_from(fields["count"].as_u64().unwrap()).unwrap();
            hex::decode(fields["repeat"].as_str().unwrap())
                .unwrap()
                .repeat(count)
        }
        other => panic!("{other} stands where bytes are expected"),
    }
}

/// The fields of an input, or of an object inside it, decoded as strictly as the crate decodes.
struct Input<'a> {
    fields: &'a Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Input<'a> {
    fn new(fields: &'a Map<String, Value>) -> Self {
        let read = RefCell::default();
        Self { fields, read }
    }

    fn value(&self, field: &str) -> &'a Value {
        self.read.borrow_mut().insert(field.to_owned());
        self.fields
            .get(field)
            .unwrap_or_else(|| panic!("no field {field}"))
    }

    fn bytes(&self, field: &str) -> Vec<u8> {
        bytes_of(self.value(field))
    }

    fn array<const N: usize>(&self, field: &str) -> Result<[u8; N], Refused> {
        Ok(array(&self.bytes(field))?)
    }

    fn text(&self, field: &str) -> &'a str {
        self.value(field).as_str().unwrap()
    }

    fn integer<T: TryFrom<u64>>(&self, field: &str) -> T {
        let number = self.value(field).as_u64().unwrap();
        T::try_from(number).unwrap_or_else(|_| panic!("{field} is {number}"))
    }

    fn list(&self, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        self.value(field).as_array().unwrap().iter()
    }

    fn object(&self, field: &str) -> Input<'a> {
        Input::new(self.value(field).as_object().unwrap())
    }

    fn objects(&self, field: &str) -> impl Iterator<Item = Input<'a>> + use<'a> {
        self.list(field)
            .map(|value| Input::new(value.as_object().unwrap()))
    }

    fn g1s(&self, field: &str) -> Result<Vec<G1>, Refused> {
        self.list(field)
            .map(|value| Ok(G1::from_bytes("a point", &array(&bytes_of(value))?)?))
            .collect()
    }

    fn consortium(&self) -> Result<ConsortiumId, Refused> {
        self.array("consortium").map(ConsortiumId::new)
    }

    fn pid(&self) -> Result<Pid, Refused> {
        self.array("PID").map(Pid::from_bytes)
    }

    fn g1(&self, field: &str) -> Result<G1, Refused> {
        Ok(G1::from_bytes("a point", &self.array(field)?)?)
    }

    fn g2(&self, field: &str) -> Result<G2, Refused> {
        Ok(G2::from_bytes("a point", &self.array(field)?)?)
    }

    fn gt(&self, field: &str) -> Result<Gt, Refused> {
        Ok(Gt::from_bytes("an element of GT", &self.array(field)?)?)
    }

    fn scalar(&self, field: &str) -> Result<Scalar, Refused> {
        Ok(Scalar::from_bytes("a scalar", &self.array(field)?)?)
    }

    /// The domain of a tag, which must be one of the crate's.
    fn domain(&self) -> Domain {
        let tag = self.text("tag").as_bytes();
        let mut all = hash::ALL.iter();
        *all.find(|domain| domain.as_bytes() == tag)
            .expect("a tag of the crate")
    }

    /// Parts of `enc`: bytes, text, integers.
    fn parts(&self) -> Vec<Vec<u8>> {
        let part = |part: Input<'_>| match part.fields.iter().next().unwrap() {
            (kind, value) if kind == "bytes" => bytes_of(value),
            (kind, value) if kind == "text" => value.as_str().unwrap().as_bytes().to_vec(),
            (kind, value) if kind == "integer" => {
                let number: u64 = value.as_str().unwrap().parse().unwrap();
                number.to_be_bytes().to_vec()
            }
            (kind, _) => panic!("unknown part {kind}"),
        };
        self.objects("parts").map(part).collect()
    }
}

fn slices(parts: &[Vec<u8>]) -> Vec<&[u8]> {
    parts.iter().map(Vec::as_slice).collect()
}

/// A field of fixed size and nothing else.
fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let array = decoder.array("a field")?;
    decoder.finish("a field")?;
    Ok(array)
}

/// A refusal with the classes that the error may stand for; more than one only where a decoder of
/// the crate has one error for several of the decoding classes.
struct Refused {
    classes: &'static [&'static str],
    what: String,
}

impl Refused {
    /// Where the crate says it without an error: with `None`, an empty list, or a comparison that
    /// is its caller's.
    fn plainly(class: &'static [&'static str]) -> Self {
        let what = "no value".to_owned();
        Self {
            classes: class,
            what,
        }
    }
}

impl<E: Error + 'static> From<E> for Refused {
    fn from(error: E) -> Self {
        Self {
            classes: classes(&error),
            what: error.to_string(),
        }
    }
}

/// The one mapping of the crate's errors to the classes of `spec/vectors/README.md`.
fn classes(error: &(dyn Error + 'static)) -> &'static [&'static str] {
    if let Some(error) = error.downcast_ref() {
        return match error {
            DecodeError::Truncated { .. } => &["truncated"],
            DecodeError::Trailing { .. } => &["trailing"],
            DecodeError::TooLarge { .. } => &["too-large"],
            DecodeError::Invalid { why, .. } => match *why {
                "it is the identity" => &["identity"],
                "it is outside the subgroup" => &["not-in-subgroup"],
                // The library decodes flags and coordinates in one step.
                "it is no compressed point of the curve" => &["non-canonical", "off-curve"],
                "it is not below the group's order"
                | "a coefficient is not below the field's prime" => &["non-canonical"],
                "it names another consortium" => &["foreign-encapsulation"],
                "it is for another consortium" | "it is not the grant's" => &["foreign-grant"],
                "a key stands twice" | "a class stands twice" => &["repeated"],
                _ => &["invalid"],
            },
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            PartError::NotARecipient => &["not-a-recipient"],
            PartError::CannotOpen | PartError::Body => &["cannot-open"],
            PartError::BadShare { .. } => &["bad-share"],
            PartError::Malformed(inner) => classes(inner),
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            OpenError::Altered { .. } => &["altered"],
            OpenError::CutShort { .. } => &["cut-short"],
            OpenError::TooLong => &["trailing"],
            OpenError::BadPadding => &["bad-padding"],
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            SealError::Empty | SealError::LengthChanged { .. } => &["invalid"],
            SealError::TooManySections | SealError::TooLong => &["too-large"],
            SealError::RepeatedClass => &["repeated"],
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            CombineError::TooFew { .. } => &["too-few"],
            CombineError::Repeated => &["repeated"],
            CombineError::Degenerate => &["identity"],
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            GrantError::Count { found: 0, .. } | GrantError::Threshold | GrantError::Recipient => {
                &["invalid"]
            }
            GrantError::Count { .. } | GrantError::TooLong { .. } => &["too-large"],
            GrantError::Signer => &["foreign-grant"],
            GrantError::Repeated { .. } => &["repeated"],
            GrantError::Degenerate => &["identity"],
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            UnblindError::Count { .. } => &["invalid"],
            UnblindError::LyingServer => &["lying-server"],
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            StatementError::Unordered => &["invalid"],
            StatementError::Repeated => &["repeated"],
            StatementError::BadSignature => &["bad-signature"],
        };
    }
    let alone: [(bool, &'static [&'static str]); 11] = [
        (error.is::<Degenerate>(), &["identity"]),
        (error.is::<BadSignature>(), &["bad-signature"]),
        (error.is::<BadProof>(), &["bad-proof"]),
        (
            error.is::<ForeignEncapsulation>(),
            &["foreign-encapsulation"],
        ),
        (error.is::<WrongKey>(), &["wrong-key"]),
        (error.is::<NotThisLocator>(), &["not-this-locator"]),
        (error.is::<CannotOpen>(), &["cannot-open"]),
        (error.is::<UnusableKey>(), &["invalid"]),
        (error.is::<BadShare>(), &["bad-share"]),
        (error.is::<LyingNode>(), &["lying-node"]),
        (error.is::<ForeignGrant>(), &["bad-signature"]),
    ];
    let mut alone = alone.iter();
    alone
        .find(|(is, _)| *is)
        .unwrap_or_else(|| panic!("no class for {error:?}"))
        .1
}

/// Gives out what a vector fixes in place of randomness, in the order in which it is drawn, and
/// panics at a draw of another length.
struct Script(VecDeque<Vec<u8>>);

impl Script {
    fn new(draws: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self(draws.into_iter().collect())
    }

    fn assert_used(&self) {
        assert!(self.0.is_empty(), "{} draws are left", self.0.len());
    }
}

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("the crate draws bytes only")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        panic!("the crate draws bytes only")
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        dst.copy_from_slice(&self.0.pop_front().expect("a draw that the vector fixes"));
        Ok(())
    }
}

impl TryCryptoRng for Script {}
