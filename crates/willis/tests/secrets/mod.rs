//! Looks for secrets in what a program said, however it may have written them down.
//!
//! A secret is cut into all its pieces of 16 bytes, and what was said is read in every way in which
//! bytes are commonly written: as they are, in hexadecimal, in base64 (both alphabets, from any place
//! on) and as a list of numbers. Two of the same pieces are the same secret: 16 bytes do not meet by
//! chance. Pieces of few different bytes (zeros, padding) are left out, as they are no secret.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

use std::collections::{BTreeSet, HashMap};

const PIECE: usize = 16;
/// A piece with fewer different bytes is no secret.
const DIFFERENT_MIN: usize = 8;

/// Of a piece's first bytes, as many bits as tell most pieces apart.
const BEGIN_BITS: usize = 24;

type Piece = [u8; PIECE];

/// Secrets, each with a name for who looks at a failure.
#[derive(Default)]
pub struct Secrets {
    pieces: HashMap<Piece, usize>,
    /// Secrets shorter than a piece, which are looked for as they are.
    texts: Vec<(String, usize)>,
    exact: Vec<(Vec<u8>, usize)>,
    names: Vec<String>,
    /// A bit for the first bytes of each piece: most of a large file is passed over by it.
    begins: Vec<u64>,
}

impl Secrets {
    /// Bytes that must not be said.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        assert!(bytes.len() >= PIECE, "{name} is too short to be told apart");
        let number = self.name(name);
        for piece in pieces(bytes) {
            self.pieces.entry(piece).or_insert(number);
            self.begins.resize(1 << (BEGIN_BITS - 6), 0);
            let begin = begin_of(&piece);
            self.begins[begin / 64] |= 1 << (begin % 64);
        }
    }

    /// Bytes that must not be said, short as they may be, as they are.
    pub fn add_exact(&mut self, name: &str, bytes: &[u8]) {
        assert!(bytes.len() >= 8, "{name} is found anywhere");
        let number = self.name(name);
        self.exact.push((bytes.to_vec(), number));
    }

    /// A text that must not be said, short as it may be.
    pub fn add_text(&mut self, name: &str, text: &str) {
        assert!(text.len() >= 6, "{name} is found anywhere");
        let number = self.name(name);
        self.texts.push((text.to_lowercase(), number));
    }

    fn name(&mut self, name: &str) -> usize {
        self.names.push(name.to_owned());
        self.names.len() - 1
    }

    /// What anyone may know is no secret, also where a secret's keeper holds it too.
    pub fn except(&mut self, public: &[u8]) {
        for piece in pieces(public) {
            self.pieces.remove(&piece);
        }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn count(&self) -> usize {
        self.pieces.len()
    }

    /// The names of the secrets that a text holds, each with where.
    pub fn found_in(&self, text: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            self.look(line, line, &mut found);
            for bytes in readings(line) {
                self.look(&bytes, line, &mut found);
            }
            let lower = String::from_utf8_lossy(line).to_lowercase();
            for (secret, number) in &self.texts {
                if lower.contains(secret.as_str()) {
                    found.push(self.say(*number, line));
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// The names of the secrets that any bytes hold, a file as it lies there for example.
    pub fn names_in(&self, bytes: &[u8]) -> BTreeSet<String> {
        let mut found: BTreeSet<usize> = self.held(bytes).collect();
        for reading in readings(bytes) {
            found.extend(self.held(&reading));
        }
        for (secret, number) in &self.exact {
            if bytes.windows(secret.len()).any(|window| window == secret) {
                found.insert(*number);
            }
        }
        let names = found.into_iter().map(|number| self.names[number].clone());
        names.collect()
    }

    fn look(&self, bytes: &[u8], line: &[u8], found: &mut Vec<String>) {
        found.extend(self.held(bytes).map(|number| self.say(number, line)));
    }

    /// The secrets of which bytes hold a piece.
    fn held(&self, bytes: &[u8]) -> impl Iterator<Item = usize> {
        bytes.windows(PIECE).filter_map(|window| {
            let begin = begin_of(window);
            let word = self.begins.get(begin / 64)?;
            if word >> (begin % 64) & 1 == 0 {
                return None;
            }
            self.pieces.get(window).copied()
        })
    }

    fn say(&self, number: usize, line: &[u8]) -> String {
        format!("{}: {}", self.names[number], String::from_utf8_lossy(line))
    }
}

fn begin_of(piece: &[u8]) -> usize {
    let first = usize::from(piece[0]) << 16;
    first | usize::from(piece[1]) << 8 | usize::from(piece[2])
}

fn pieces(bytes: &[u8]) -> impl Iterator<Item = Piece> + '_ {
    bytes.windows(PIECE).filter_map(|window| {
        let mut sorted: Piece = window.try_into().unwrap();
        let piece = sorted;
        sorted.sort_unstable();
        let different = 1 + sorted.windows(2).filter(|two| two[0] != two[1]).count();
        (different >= DIFFERENT_MIN).then_some(piece)
    })
}

/// Every other way in which a line may be read.
fn readings(line: &[u8]) -> Vec<Vec<u8>> {
    let mut readings = Vec::new();
    for run in runs(line, |byte| byte.is_ascii_hexdigit(), 2 * PIECE) {
        for start in 0..2 {
            readings.push(from_hex(&run[start..]));
        }
    }
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
    for run in runs(line, base64, PIECE * 4 / 3) {
        for start in 0..4 {
            readings.push(from_base64(&run[start..]));
        }
    }
    // Lists of numbers, as `{:?}` writes bytes, in decimal and with 0x.
    let list = |byte: u8| byte.is_ascii_hexdigit() || b"x, ".contains(&byte);
    for run in runs(line, list, 3 * PIECE) {
        let text = String::from_utf8_lossy(run).into_owned();
        let numbers = text.split([',', ' ']).filter(|one| !one.is_empty());
        let numbers = numbers.map(|one| match one.strip_prefix("0x") {
            Some(hex) => u8::from_str_radix(hex, 16).ok(),
            None => one.parse().ok(),
        });
        // A list ends where something else stands.
        for part in numbers.collect::<Vec<Option<u8>>>().split(Option::is_none) {
            readings.push(part.iter().copied().flatten().collect());
        }
    }
    readings
}

/// The longest stretches of such bytes, of at least so many.
fn runs(line: &[u8], fits: impl Fn(u8) -> bool, least: usize) -> Vec<&[u8]> {
    let runs = line.split(|byte| !fits(*byte));
    runs.filter(|run| run.len() >= least).collect()
}

fn from_hex(digits: &[u8]) -> Vec<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16).unwrap();
    let pairs = digits.chunks_exact(2);
    pairs
        .map(|pair| u8::try_from(16 * value(pair[0]) + value(pair[1])).unwrap())
        .collect()
}

/// Of both alphabets, whatever is left over at the end left out.
fn from_base64(digits: &[u8]) -> Vec<u8> {
    let value = |digit: u8| match digit {
        b'A'..=b'Z' => u32::from(digit - b'A'),
        b'a'..=b'z' => u32::from(digit - b'a') + 26,
        b'0'..=b'9' => u32::from(digit - b'0') + 52,
        b'+' | b'-' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for four in digits.chunks(4) {
        let number = four.iter().fold(0, |sum, digit| (sum << 6) | value(*digit));
        let number = number << (6 * (4 - four.len()));
        let three = number.to_be_bytes();
        bytes.extend_from_slice(&three[1..four.len().max(1)]);
    }
    bytes
}

/// The search itself: each way in which a secret may be written is found, and nothing where there is
/// none.
pub fn assert_search_finds_every_form() {
    let secret: Vec<u8> = (0..32_u8)
        .map(|n| n.wrapping_mul(151).wrapping_add(7))
        .collect();
    let mut secrets = Secrets::default();
    secrets.add("the key", &secret);
    secrets.add_text("the name", "Chen Mei");
    let alphabet = |last: &[u8; 2]| {
        let mut all: Vec<u8> = (b'A'..=b'Z')
            .chain(b'a'..=b'z')
            .chain(b'0'..=b'9')
            .collect();
        all.extend_from_slice(last);
        all
    };
    let base64 = |before: &[u8], last: &[u8; 2]| {
        let all = alphabet(last);
        let bytes = [before, &secret].concat();
        let mut text = String::new();
        for three in bytes.chunks(3) {
            let number = (0..3).fold(0_usize, |sum, place| {
                (sum << 8) | usize::from(three.get(place).copied().unwrap_or_default())
            });
            for place in 0..=three.len() {
                text.push(char::from(all[(number >> (18 - 6 * place)) & 63]));
            }
        }
        text
    };
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = &hex[10..52];
    let mut forms = vec![
        format!("key={hex}"),
        format!("KEY={}", hex.to_uppercase()),
        format!("f{part}: odd"),
        format!("key={secret:?} of"),
        format!("key={secret:#04x?}").replace('\n', " "),
        "patient=CHEN MEI".to_owned(),
    ];
    for before in [&b""[..], b"a", b"ab"] {
        forms.push(format!("\"token\":\"{}\"", base64(before, b"+/")));
        forms.push(format!("token={}", base64(before, b"-_")));
    }
    for form in &forms {
        let text = format!("an honest line\n{form}\nanother one");
        assert_eq!(secrets.found_in(text.as_bytes()).len(), 1, "{form}");
    }
    let raw = [b"raw: ", secret.as_slice()].concat();
    assert!(!secrets.found_in(&raw).is_empty());
    let other = hex.replace('a', "b");
    assert!(
        secrets
            .found_in(format!("key={other}").as_bytes())
            .is_empty()
    );
    secrets.except(&secret);
    assert!(secrets.found_in(format!("key={hex}").as_bytes()).is_empty());
}
